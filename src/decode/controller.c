#include "decode/controller.h"
#include <math.h>
#include <string.h>

/* ---- what rows cost ------------------------------------------------------------------------- */

/* Between these numbers of rows costs are linear. */
static const uint32_t points[COSTS_POINTS + 1] = { 1, 2, 4, 8, 16, 32, COSTS_MOST };

static void draw(struct step_costs *c, const float at[COSTS_POINTS + 1])
{
    for (size_t i = 0; i < COSTS_POINTS; i++)
        for (uint32_t n = points[i]; n <= points[i + 1]; n++)
            c->prior[n] = at[i] + (at[i + 1] - at[i]) * (float)(n - points[i]) /
                                      (float)(points[i + 1] - points[i]);
}

void costs_init(struct step_costs *c, const struct device *d)
{
    float at[COSTS_POINTS + 1];
    d->backend->costs(d, points, at, COSTS_POINTS + 1);
    *c = (struct step_costs){ 0 };
    draw(c, at);
}

void costs_fix(struct step_costs *c, const float at[COSTS_POINTS])
{
    float all[COSTS_POINTS + 1];
    memcpy(all, at, COSTS_POINTS * sizeof *all);
    all[COSTS_POINTS] = at[5] + (at[5] - at[4]) * (float)(points[6] - points[5]) /
                                    (float)(points[5] - points[4]);
    *c = (struct step_costs){ .fixed = true };
    draw(c, all);
}

/* The measured correction of the prior at n, between the nearest numbers of rows that were seen. */
static double factor_of(const struct step_costs *c, uint32_t n)
{
    if (n == 1) return 1;
    if (c->seen[n]) return (double)c->factor[n];
    uint32_t below = n - 1, above = n + 1;
    while (below > 1 && !c->seen[below]) below--;
    while (above <= COSTS_MOST && !c->seen[above]) above++;
    double low = below > 1 ? (double)c->factor[below] : 1;
    if (above > COSTS_MOST) return low;
    double high = (double)c->factor[above];
    return low + (high - low) * (double)(n - below) / (double)(above - below);
}

double costs_ratio(const struct step_costs *c, uint32_t rows)
{
    if (rows < 2) return 1;
    uint32_t n = rows < COSTS_MOST ? rows : COSTS_MOST;
    return (double)c->prior[n] * factor_of(c, n) * (double)rows / (double)n;
}

double costs_of(const struct step_costs *c, uint32_t rows)
{
    return c->base * costs_ratio(c, rows);
}

static double clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

/* Every sample moves the belief by a bounded part, so it follows the median and not the mean. A
 * number of rows that was not seen for long is forgotten, lest a bad sample forbid it for ever. */
void costs_learn(struct step_costs *c, uint32_t rows, double seconds)
{
    if (rows == 0 || rows > COSTS_MOST || !(seconds > 0) || (c->fixed && rows > 1)) return;
    double believed = costs_of(c, rows), off = believed > 0 ? seconds / believed - 1 : 0;
    uint32_t *seen = &c->seen[rows];
    double rate = fmax(0.03, 0.3 / (1 + 0.25 * *seen));
    if (!(believed > 0)) {
        c->base = seconds / costs_ratio(c, rows);
        c->factor[rows] = (float)factor_of(c, rows);
    } else if (rows == 1) {
        c->base *= *seen ? 1 + clamp(off, -rate, rate) * 0.5 : clamp(1 + off, 0.5, 2);
    } else {
        double f = factor_of(c, rows);
        c->factor[rows] = (float)(f * (1 + (*seen ? clamp(off, -rate, rate) * 0.5
                                                  : clamp(off, -0.4, 0.4))));
        if (*seen >= 8) c->base *= 1 + clamp(off, -0.02, 0.02) * 0.5;
    }
    ++*seen;
    if (++c->steps % 256 == 0) for (uint32_t n = 2; n <= COSTS_MOST; n++) c->seen[n] /= 2;
}

/* ---- what reading costs: rows of a prompt beside others ---- */

static unsigned read_class(uint32_t given)
{
    unsigned k = 0;
    while (given > 1 && k + 1 < COSTS_READS) {
        given /= 2;
        k++;
    }
    return k;
}

enum { LOOK_RANGE = 16 };              /* how far from the first belief it may get */
static const double LOOK_RATE = 0.1;

void costs_look(struct step_costs *c, double share) { c->look = c->look_prior = (float)share; }

/* Given rows that look back on none which take as long. */
static double as_rows(const struct step_costs *c, struct given_rows r) { return r.rows + (double)c->look * r.back; }

/* The nearest class that was measured, smaller ones first; COSTS_READS: none was. */
static unsigned measured_class(const struct step_costs *c, unsigned k)
{
    unsigned below = k, above = k;
    while (below > 0 && !c->read_seen[below]) below--;
    if (c->read_seen[below]) return below;
    while (above < COSTS_READS && !c->read_seen[above]) above++;
    return above;
}

/* What was foretold wrongly is laid to the rows and to what they looked back on, as far as each took part in it; what
 * others wrote beside them follows slowly, as their texts grow. Alone, given rows pay for one pass over the weights,
 * which is a plain step. */
void costs_learn_reading(struct step_costs *c, uint32_t written, struct given_rows r, double seconds)
{
    if (!r.rows || !(seconds > 0) || !(c->base > 0)) return;
    unsigned k = read_class(r.rows), known = measured_class(c, k);
    double others = costs_of(c, written ? written : 1), rows = as_rows(c, r), back = 1 - r.rows / rows;
    double each = fmax(seconds - others, 0.1 * seconds) / rows;
    if (known < COSTS_READS) {
        double believed = (double)c->read[known], told = others + believed * rows;
        double off = clamp((seconds - told) / (believed * rows), -0.5, 1);
        each = believed * (1 + off * fmax(0.1, 1.0 / (1 + c->read_seen[k])) * (1 - back));
        c->look *= (float)(1 + off * LOOK_RATE * back);
        c->look = fminf(fmaxf(c->look, c->look_prior / LOOK_RANGE), c->look_prior * LOOK_RANGE);
        if (written && c->read_seen[k] >= 8) c->base *= 1 + clamp(seconds / told - 1, -0.02, 0.02) * 0.25;
    }
    c->read[k] = (float)each;
    c->read_seen[k]++;
}

double costs_reading(const struct step_costs *c, struct given_rows r)
{
    if (!(c->base > 0) || !r.rows) return 0;
    unsigned k = measured_class(c, read_class(r.rows));
    if (k == COSTS_READS) return (costs_ratio(c, r.rows + 1) - 1) * as_rows(c, r) / r.rows;
    return (double)c->read[k] * as_rows(c, r) / c->base;
}

/* ---- what guesses are worth ----------------------------------------------------------------- */

/* A prior counts as so many tests; older tests fade so that about so many count. */
enum { PRIOR_TESTS = 4, REQUEST_TESTS = 8, ENGINE_MEMORY = 400, REQUEST_MEMORY = 50 };
/* The same of rows ahead, of a text twice; tries of one text, and the first pause before one. */
enum { AHEAD_PRIOR = 8, AHEAD_FEW = 3, AHEAD_MANY = 12, PROBES = 4, PROBE_FIRST = 4 };

static const float MARGIN = 1.03F;     /* guessing must promise this much more than plain */
static const float FLOOR = 0.02F;
static const double KEPT = 0.95, LATELY = 4, LATELY_KEEP = 0.95;
static const float ENGINE_RATE = 0.02F, REQUEST_RATE = 0.05F; /* of learning evidence */

/* Strategies agree too often to count in full: half of each one's log odds, fitted on code, SQL and
 * chat. Then 0.385, 0.347 and 0.274 nats a test, where the best single strategy has 0.405, 0.393 and
 * 0.336. A model that guesses knows more than they do: what its class is worth when all four that
 * cost nothing are silent. */
void calibration_init(struct calibration *c)
{
    *c = (struct calibration){ .bias = -1 };
    for (unsigned s = 0; strategies[s]; s++) {
        for (unsigned b = 0; b < CONFIDENCE_BUCKETS; b++) {
            float p = strategies[s]->prior[b];
            c->evidence[s][b] = strategies[s]->price ? 2.2F + logf(p / (1 - p))
                                                     : 0.6F + 0.5F * logf(p / (1 - p));
        }
        c->evidence[s][CONFIDENCE_BUCKETS] = -0.3F;
    }
}

static float *evidence(struct calibration *c, const struct guess_node *n, unsigned s)
{
    return &c->evidence[s][n->strategies >> s & 1 ? n->bucket_of[s] : CONFIDENCE_BUCKETS];
}

/* The chance of a node given who was asked. */
static float judge(struct calibration *c, const struct guess_node *n, uint32_t asked)
{
    float z = c->bias;
    for (unsigned s = 0; strategies[s]; s++) if (asked >> s & 1) z += *evidence(c, n, s);
    return 1 / (1 + expf(-z));
}

static void teach(struct calibration *c, const struct guess_node *n, uint32_t asked, bool hit,
                  float rate)
{
    float move = rate * ((float)hit - judge(c, n, asked));
    c->bias += move;
    for (unsigned s = 0; strategies[s]; s++) if (asked >> s & 1) *evidence(c, n, s) += move;
}

static uint32_t asked_now(const struct controller *c)
{
    uint32_t asked = 0;
    for (unsigned s = 0; strategies[s]; s++) asked |= (uint32_t)c->asked[s].now << s;
    return asked;
}

void controller_weigh(struct controller *c, struct guess_tree *d)
{
    uint32_t asked = asked_now(c);
    for (uint32_t i = 0; i < d->n; i++) d->node[i].p = judge(&c->own, &d->node[i], asked);
    tree_weigh(d);
}

void controller_init(struct controller *c, struct decode_choice choice, struct step_costs *costs,
                     struct calibration *engine, uint32_t most)
{
    *c = (struct controller){ .choice = choice, .costs = costs, .engine = engine, .most = most };
    controller_begin(c);
}

void controller_begin(struct controller *c)
{
    c->own = *c->engine;
    memset(c->own.asking, 0, sizeof c->own.asking);
    memset(c->own.hits, 0, sizeof c->own.hits);
    memset(c->own.tests, 0, sizeof c->own.tests);
    memset(c->own.ahead_hits, 0, sizeof c->own.ahead_hits);
    memset(c->own.ahead_tests, 0, sizeof c->own.ahead_tests);
    c->credit = c->won = 0;
    c->lately[0] = c->lately[1] = LATELY;
    c->counts = (struct decode_counts){ 0 };
    memset(c->asked, 0, sizeof c->asked);
    c->spent = 0;
}

static float chance(const struct controller *c, unsigned s, unsigned b)
{
    float prior = strategies[s]->prior[b];
    float p = (c->engine->hits[s][b] + PRIOR_TESTS * prior) / (c->engine->tests[s][b] + PRIOR_TESTS);
    return (c->own.hits[s][b] + REQUEST_TESTS * p) / (c->own.tests[s][b] + REQUEST_TESTS);
}

float controller_chances(const struct controller *c, unsigned strategy, float p[CONFIDENCE_BUCKETS])
{
    for (unsigned b = 0; b < CONFIDENCE_BUCKETS; b++) p[b] = chance(c, strategy, b);
    return c->choice.automatic ? FLOOR : 0;
}

/* The most tokens per plain step that a weighed tree promises, by its `rows` likeliest nodes, `least` the last of them.
 * What priced strategies took is spent either way. */
struct best { double rate; uint32_t rows; float least; };

static struct best best_of(const struct controller *c, const struct guess_tree *d)
{
    float path[TREE_ROWS];
    uint32_t n = tree_gains(d, path, c->most < TREE_ROWS ? c->most : TREE_ROWS);
    struct best best = { 1 / (1 + c->spent), 0, INFINITY };
    double gain = 1;
    for (uint32_t k = 1; k <= n; k++) {
        gain += (double)path[k - 1];
        double rate = gain / (costs_ratio(c->costs, 1 + k) + c->spent);
        if (rate > best.rate) best = (struct best){ rate, k, path[k - 1] };
    }
    return best;
}

static double best_rate(const struct controller *c, const struct guess_tree *d) { return best_of(c, d).rate; }

/* ---- asking what is costly ------------------------------------------------------------------
 *
 * Asking must pay on the average: tokens won, times what a token takes without, less rows and time.
 * Whether it does is learned over times asked, beginning with the faith that such a guess is right
 * three times in four. And it must not hurt on the way there: what a request has lost by asking stays
 * below 1.3 steps and a two-hundredth of its tokens, whatever is believed, and one time asked
 * stakes at most half of what is left of that. Chosen on recorded guesses of Qwen 0.5B for 1.5B. */

enum { ASKING_PRIOR = 4, ASKING_REQUEST = 8, ASKING_MEMORY = 64, PAUSE_FIRST = 16, PAUSE_LAST = 512 };
static const double FAITH = 0.75, LOSS = 1.3, LOSS_RATE = 0.005, FIRST_READ = 0.4, READ_RATE = 0.02,
                    STAKE = 0.5;

/* Plain steps won by k guesses of which each is right with chance q where the one before was. */
static double chain_gain(const struct controller *c, double q, uint32_t k)
{
    double sum = 0, path = 1;
    for (uint32_t i = 0; i < k; i++) sum += path *= q;
    return sum - (costs_ratio(c->costs, k + 1) - 1);
}

static double chain_time(const struct controller *c, const struct guess_price *p, double k)
{
    return (p->first + fmax(k - 1, 0) * p->next) / c->costs->base;
}

/* The most that asking can win, and by how many guesses, if each is right with chance q. */
static double chain_best(const struct controller *c, const struct guess_price *p, double q,
                         uint32_t *k)
{
    double best = -INFINITY;
    uint32_t most = c->most < TREE_ROWS ? c->most : TREE_ROWS;
    *k = 1;
    for (uint32_t i = p->rows ? p->rows : 1; i <= most; i++) {
        double won = chain_gain(c, q, i) - chain_time(c, p, i);
        if (won <= best) continue;
        best = won;
        *k = i;
    }
    return best;
}

/* Plain steps that asking is expected to win where `rate` tokens a plain step come without. */
static double asking_worth(const struct controller *c, unsigned s, const struct guess_price *p,
                           double rate)
{
    const struct asking *all = &c->engine->asking[s], *own = &c->own.asking[s];
    uint32_t k;
    chain_best(c, p, FAITH, &k);
    /* A window is no chain of likely guesses: at first one token is expected of it. */
    double gained = p->rows ? 1 - (costs_ratio(c->costs, p->rows + 1) - 1) : chain_gain(c, FAITH, k);
    gained = ((double)all->gained + ASKING_PRIOR * gained) / ((double)all->times + ASKING_PRIOR);
    double made = ((double)all->made + ASKING_PRIOR * k) / ((double)all->times + ASKING_PRIOR);
    gained = ((double)own->gained + ASKING_REQUEST * gained) / ((double)own->times + ASKING_REQUEST);
    made = ((double)own->made + ASKING_REQUEST * made) / ((double)own->times + ASKING_REQUEST);
    return gained / rate - chain_time(c, p, made);
}

/* After k guesses one more pays from this chance of them all; never when being wrong would lose more
 * than `may`. */
static void fill_stops(const struct controller *c, unsigned s, const struct guess_price *p,
                       double rate, double may, float *stop)
{
    double hits = 4 * FAITH, tests = 4;
    for (unsigned b = 0; b < CONFIDENCE_BUCKETS; b++) {
        hits += (double)(c->engine->hits[s][b] + c->own.hits[s][b]);
        tests += (double)(c->engine->tests[s][b] + c->own.tests[s][b]);
    }
    stop[0] = 0;
    for (uint32_t k = 1; k <= TREE_ROWS; k++) {
        double row = costs_ratio(c->costs, k + 2) - costs_ratio(c->costs, k + 1);
        bool hurts = chain_time(c, p, k + 1) + costs_ratio(c->costs, k + 2) - 1 > may;
        stop[k] = hurts ? INFINITY
                        : (float)(rate * (p->next / c->costs->base + row) * tests / hits);
    }
}

/* Steps since the last loss, counted by all requests of the engine. */
static bool pause_is_over(struct asking *a, uint32_t first)
{
    if (a->wait == 0) {
        a->pause = !a->pause ? first : a->pause < PAUSE_LAST / 2 ? 2 * a->pause : PAUSE_LAST;
        a->wait = a->pause + 1;
    }
    return --a->wait == 0;
}

bool controller_asks(struct controller *c, unsigned strategy, void *state, const struct timeline *t,
                     struct guess_tree *d)
{
    struct asked *a = &c->asked[strategy];
    struct decode_counts *counts = &c->counts;
    a->now = false;
    a->rate = 1;
    a->read = 0;
    a->spend = INFINITY;
    if (!strategies[strategy]->price || !c->choice.automatic) return a->now = true;
    double base = c->costs->base, tokens = (double)counts->tokens;
    if (!(base > 0)) return false;     /* the first step of all is the measure */
    a->spend = base * (FIRST_READ + READ_RATE * fmin(d->deepest, tokens));
    struct guess_price p = strategies[strategy]->price(state, t, a->spend);
    uint32_t k;
    if (p.silent) return false;
    if (chain_best(c, &p, 1, &k) <= 0) {
        counts->unpaying[strategy]++;
        return false;
    }
    controller_weigh(c, d);
    double rate = best_rate(c, d);
    double plain = asking_worth(c, strategy, &p, 1);
    double worth = rate > 1 ? asking_worth(c, strategy, &p, rate) : plain;
    bool again = plain <= 0 && pause_is_over(&c->engine->asking[strategy], PAUSE_FIRST);
    if (worth <= 0 && !again) {
        counts->unpaying[strategy]++;
        return false;
    }
    double risk = (p.read + p.first) / base + costs_ratio(c->costs, p.rows + 2) - 1;
    double may = LOSS + LOSS_RATE * tokens + counts->won[strategy];
    if (risk > may) {
        if (again) c->engine->asking[strategy].wait = 1;
        counts->withheld[strategy]++;
        return false;
    }
    a->read = p.read;
    a->rate = rate;
    fill_stops(c, strategy, &p, fmax(rate, 1 + clamp(worth, 0, 1) / 2),
               STAKE * (may - p.read / base), a->stop);
    return a->now = true;
}

void controller_asked(struct controller *c, unsigned strategy, double seconds)
{
    c->asked[strategy].seconds = seconds;
    c->counts.guess_seconds += seconds;
    if (!strategies[strategy]->price) return;
    c->counts.asked[strategy]++;
    c->counts.seconds[strategy] += seconds;
    if (c->costs->base > 0) c->spent += seconds / c->costs->base;
}

/* ---- rows ahead -----------------------------------------------------------------------------
 *
 * They cost rows now and bring guesses for the next step: those of the places behind what is accepted now. A guess in
 * hand is worth what a token takes lately, as often as it is right, less its row. As many rows go ahead as bring the
 * most; or, where a step alone does not show it, as many as pay if every step has them. Where none pays and the text
 * has told little, one is tried after a pause out of pauses that double: what it foretells is tested by the next step
 * whether it is sent or not.
 * One step stakes at most half of what a text may still lose. */

struct ahead {
    double tokens[TREE_ROWS + 1];      /* [n] that n guesses in hand bring, if all are sent           */
    double value[TREE_ROWS + 1];       /* plain steps that they are worth                             */
    double brings[TREE_ROWS + 1];      /* tokens of those that are sent                               */
    double reach[TREE_ROWS + 2];       /* [j] chance that j tokens or more are accepted now           */
    uint32_t chain;                    /* reach is 0 behind                                           */
};

/* Of a step in which each of the writers has so many rows, in steps in which each has one. */
static double cost_each(const struct controller *c, uint32_t rows, uint32_t writers)
{
    return costs_ratio(c->costs, rows * writers) / costs_ratio(c->costs, writers);
}

/* A text believes less of its own luck than of its misfortune: what was never taught is now and then right. */
static double place_chance(const struct controller *c, unsigned s, uint32_t place, double before)
{
    const struct calibration *e = c->engine, *own = &c->own;
    uint32_t k = place < AHEAD_DEPTH ? place : AHEAD_DEPTH - 1;
    double p = place ? 0.9 * before : (double)strategies[s]->ahead_prior;
    p = ((double)e->ahead_hits[s][k] + AHEAD_PRIOR * p) / ((double)e->ahead_tests[s][k] + AHEAD_PRIOR);
    double hits = (double)own->ahead_hits[s][k], tests = (double)own->ahead_tests[s][k];
    return fmin((hits + AHEAD_FEW * p) / (tests + AHEAD_FEW), (hits + AHEAD_MANY * p) / (tests + AHEAD_MANY));
}

static void foretell(const struct controller *c, unsigned s, uint32_t most, struct ahead *a)
{
    double p = 0, path = 1;
    a->tokens[0] = a->value[0] = a->brings[0] = 0;
    for (uint32_t n = 1; n <= most; n++) {
        p = place_chance(c, s, n - 1, p);
        path *= p;
        a->tokens[n] = a->tokens[n - 1] + path;
    }
}

/* beside: rows that the next step has besides; usable: guesses that it has room for. */
static void value_guesses(const struct controller *c, uint32_t most, uint32_t beside, uint32_t usable, uint32_t writers,
                          struct ahead *a)
{
    double each = fmin(1, c->lately[1] / c->lately[0]), none = cost_each(c, 1 + beside, writers);
    for (uint32_t n = 1; n <= most; n++) {
        double v = a->tokens[n] * each - (cost_each(c, 1 + beside + n, writers) - none);
        bool more = n <= usable && v > a->value[n - 1];
        a->value[n] = more ? v : a->value[n - 1];
        a->brings[n] = more ? a->tokens[n] : a->brings[n - 1];
    }
}

/* The chain that rows ahead refine, as far as it is sent now. */
static void reach_of(const struct guess_tree *d, unsigned s, float least, struct ahead *a)
{
    int32_t at = d->first;
    a->reach[0] = 1;
    for (a->chain = 0; a->chain < TREE_ROWS; at = d->node[at].child) {
        int32_t best = -1;
        for (int32_t i = at; i >= 0; i = d->node[i].sibling)
            if ((strategies[s]->apart || d->node[i].strategies >> s & 1)
                && (best < 0 || d->node[i].path > d->node[best].path)) best = i;
        at = best;
        if (at < 0 || d->node[at].path < least) break;
        a->reach[++a->chain] = (double)d->node[at].path;
    }
    a->reach[a->chain + 1] = 0;
}

/* Expected of `rows` that were sent: what is in hand afterwards. */
static double in_hand(const struct ahead *a, const double *of, uint32_t rows)
{
    double sum = 0;
    for (uint32_t j = 0; j <= a->chain && j <= rows; j++) sum += (a->reach[j] - a->reach[j + 1]) * of[rows - j];
    return sum;
}

/* The most tokens a plain step that come of always sending so many rows ahead; the guesses in hand are then those that
 * are left of them behind what is accepted. */
static double steady_rate(const struct controller *c, bool apart, uint32_t most, uint32_t writers,
                          const struct ahead *a, uint32_t *rows)
{
    double best = 0;
    for (uint32_t n = 1, in_hand = 0; n <= most; n++) {
        while (in_hand < n && in_hand + 1 + a->tokens[in_hand + 1] <= n + 0.5) in_hand++;
        uint32_t last = apart && in_hand + n > most ? most - n : in_hand;
        for (uint32_t k = apart ? 1 : last; k <= last; k++) {
            double rate = (1 + a->tokens[k]) / cost_each(c, 1 + n + (apart ? k : 0), writers);
            if (rate <= best) continue;
            best = rate;
            *rows = n;
        }
    }
    return best;
}

uint32_t controller_ahead(struct controller *c, unsigned strategy, const struct guess_tree *d, uint32_t room,
                          uint32_t writers, double *promise)
{
    const bool apart = strategies[strategy]->apart;
    struct asking *pausing = &c->engine->asking[strategy];
    struct best best = best_of(c, d);
    struct ahead a;
    uint32_t rows = 0;
    double margin = (double)MARGIN - 1 + clamp(-c->credit * 0.1, 0, 0.5), top = margin;
    *promise = 0;
    const uint32_t known = COSTS_MOST / writers;       /* rows of each of which the price is known */
    if (room > c->most) room = c->most;
    if (room > d->deepest) room = d->deepest;
    if (room >= known) room = known ? known - 1 : 0;
    reach_of(d, strategy, best.rows ? best.least : INFINITY, &a);
    uint32_t there = apart ? 0 : a.chain;              /* rows that go anyway */
    foretell(c, strategy, room, &a);
    if (!apart) value_guesses(c, room, 0, room, writers, &a);
    const uint32_t most = room;
    double may = STAKE * (LOSS + LOSS_RATE * (double)c->counts.tokens + c->won);
    for (uint32_t n = there + 1; n <= room; n++) {
        uint32_t more = n - there;
        double price = cost_each(c, 1 + best.rows + more, writers) - cost_each(c, 1 + best.rows, writers);
        if (price > may) room = n - 1;
        if (price > may) break;
        if (apart) value_guesses(c, n, n, room - n, writers, &a);
        double net = in_hand(&a, a.value, n) - in_hand(&a, a.value, there) - price;
        if (net <= top) continue;
        top = net;
        rows = n;
        *promise = in_hand(&a, a.brings, n);
    }
    uint32_t always = 0;
    if (!rows && steady_rate(c, apart, most, writers, &a, &always) > (1 + margin) * c->lately[0] / c->lately[1]
        && room > there) {
        rows = always < room ? always : room;
        if (rows <= there) rows = there + 1;
        *promise = in_hand(&a, a.tokens, rows);
    }
    if (rows) pausing->pause = pausing->wait = 0;
    else if (room > there && c->own.ahead_tests[strategy][0] < PROBES && pause_is_over(pausing, PROBE_FIRST)) {
        rows = there + 1;
        *promise = 1e-9;
    }
    return rows;
}

/* ---- one row budget for all ------------------------------------------------------------------ */

static uint32_t most_rows(const struct bid *b)
{
    uint32_t most = b->controller->most < TREE_ROWS ? b->controller->most : TREE_ROWS;
    if (b->room < most) most = b->room;
    return most > b->apart ? most - b->apart : 0;
}

/* The rows that a bid sends whatever they are worth. */
static uint32_t forced_rows(const struct bid *b)
{
    uint32_t most = most_rows(b), wanted = 0;
    for (uint32_t i = 0; i < b->tree->n; i++) wanted += b->tree->node[i].wanted;
    if (!b->controller->choice.automatic) wanted = b->tree->n;
    return wanted < most ? wanted : most;
}

/* The bid with the best path that is not in yet; NULL: there is none. */
static struct bid *next_best(struct bid *bids, size_t n)
{
    struct bid *best = NULL;
    for (struct bid *b = bids; b < bids + n; b++)
        if (b->taken < b->n_gains && (!best || b->gains[b->taken] > best->gains[best->taken]))
            best = b;
    return best;
}

static double wanted_gain(const struct bid *b)
{
    double gain = 0;
    for (uint32_t i = 0; i < b->tree->n; i++)
        if (b->wanted && b->tree->node[i].wanted) gain += (double)b->tree->node[i].path;
    return gain;
}

/* Tokens that the bid with the fewest may expect of the step. */
static double least_gain(const struct bid *bids, size_t n)
{
    double least = INFINITY;
    for (const struct bid *b = bids; b < bids + n; b++) {
        double gain = 1 + b->promise + wanted_gain(b);
        for (uint32_t i = 0; i < b->taken; i++) gain += (double)b->gains[i];
        if (gain < least) least = gain;
    }
    return least;
}

static uint32_t rows_ahead(const struct bid *bids, size_t n)
{
    uint32_t rows = 0;
    for (const struct bid *b = bids; b < bids + n; b++)
        if (b->controller->choice.automatic) rows += b->wanted + b->apart;
    return rows;
}

/* No text may lose by the guesses of others: each keeps KEPT of its plain rate, and beside a prompt nobody waits
 * longer. */
static bool is_late(const struct bid *bids, size_t n, double plain, double time, double reading)
{
    double keeps = reading > 0 || n == 1 ? 1 : least_gain(bids, n);
    return (n > 1 || reading > 0) && keeps * (plain + reading) < KEPT * (time + reading);
}

static void drop_ahead(struct bid *bids, size_t n)
{
    for (struct bid *b = bids; b < bids + n; b++) {
        if (!b->controller->choice.automatic || !(b->promise > 0)) continue;
        for (uint32_t i = 0; i < b->tree->n; i++) b->tree->node[i].wanted = false;
        b->apart = b->wanted = 0;
        b->promise = 0;
    }
}

/* R(m) = (certain rows + gains of the m best paths) / (time of all rows + time spent on guessing), for
 * every m: costs have steps where kernels change. */
static void share(struct bid *bids, size_t n, uint32_t room, double reading)
{
    const struct step_costs *costs = bids[0].controller->costs;
    uint32_t rows = (uint32_t)n;
    double gain, spent = 0, credit = 0;
    for (struct bid *b = bids; b < bids + n; b++) {
        const struct controller *c = b->controller;
        b->taken = 0;
        if (!c->choice.automatic) rows += b->rows + b->apart;
        spent += c->spent;
        credit += c->credit;
    }
    double margin = (double)MARGIN + clamp(-credit * 0.05, 0, 0.5), plain = costs_ratio(costs, rows);
    gain = (double)n;
    uint32_t ahead = rows_ahead(bids, n);
    if (ahead && is_late(bids, n, plain, costs_ratio(costs, rows + ahead), reading)) drop_ahead(bids, n);
    ahead = rows_ahead(bids, n);
    for (struct bid *b = bids; b < bids + n; b++) {
        bool automatic = b->controller->choice.automatic;
        uint32_t most = most_rows(b);
        b->n_gains = automatic ? tree_gains_beside(b->tree, b->gains, most - b->wanted) : 0;
        if (!automatic) continue;
        b->rows = b->wanted;
        gain += wanted_gain(b);
    }
    room = room > ahead ? room - ahead : 0;
    rows += ahead;
    double top = margin * gain / (costs_ratio(costs, rows) + spent);
    for (uint32_t k = 1; k <= room; k++) {
        struct bid *next = next_best(bids, n);
        if (!next) break;
        gain += (double)next->gains[next->taken++];
        double time = costs_ratio(costs, rows + k) + spent, r = gain / time;
        if (r <= top || is_late(bids, n, plain, time, reading)) continue;
        top = r;
        for (struct bid *b = bids; b < bids + n; b++)
            if (b->taken + b->wanted > b->rows) b->rows = b->taken + b->wanted;
    }
}

void controllers_share(struct bid *bids, size_t n, uint32_t room, double reading)
{
    uint32_t fixed = 0, left = room;
    for (struct bid *b = bids; b < bids + n; b++) {
        bool automatic = b->controller->choice.automatic;
        b->rows = forced_rows(b);
        b->wanted = automatic ? b->rows : 0;
        if (!automatic) fixed += b->rows + b->apart;
    }
    share(bids, n, fixed < room ? room - fixed : 0, reading);
    for (struct bid *b = bids; b < bids + n; b++) {
        if (b->rows > left) b->rows = left;
        left -= b->rows;
        if (b->apart > left) b->apart = left;
        left -= b->apart;
    }
}

uint32_t controller_rows(struct controller *c, struct guess_tree *d, uint32_t room, double reading)
{
    struct bid b = { .controller = c, .tree = d, .room = room };
    controllers_share(&b, 1, room, reading);
    return b.rows;
}

static void count_test(float *hits, float *tests, bool hit, float memory)
{
    if (*tests >= memory) {
        *hits *= (memory - 1) / *tests;
        *tests = memory - 1;
    }
    *tests += 1;
    *hits += hit;
}

static void fade(struct asking *a, float memory)
{
    if (a->times < memory) return;
    float keep = (memory - 1) / a->times;
    a->times *= keep;
    a->gained *= keep;
    a->made *= keep;
}

/* Net gain of asking = unique accepted tokens - extra rows - time, in plain steps. */
static void learn_asked(struct controller *c, unsigned s, uint32_t made, uint32_t sent,
                        uint32_t right, uint32_t all_sent)
{
    double base = c->costs->base > 0 ? c->costs->base : INFINITY;
    double rows = costs_ratio(c->costs, all_sent + 1) - costs_ratio(c->costs, all_sent - sent + 1);
    double won = (double)right / c->asked[s].rate - rows - c->asked[s].seconds / base;
    c->counts.won[s] += won;
    struct asking *who[2] = { &c->engine->asking[s], &c->own.asking[s] };
    for (int i = 0; i < 2; i++) {
        fade(who[i], i ? ASKING_MEMORY / 4 : ASKING_MEMORY);
        who[i]->times++;
        who[i]->gained += (float)(right - rows);
        who[i]->made += (float)made;
    }
    if (won + c->asked[s].read / base >= 0) who[0]->pause = who[0]->wait = 0;
}

static void learn_ahead(struct controller *c, unsigned s, uint32_t place, bool hit)
{
    uint32_t k = place < AHEAD_DEPTH ? place : AHEAD_DEPTH - 1;
    count_test(&c->own.ahead_hits[s][k], &c->own.ahead_tests[s][k], hit, REQUEST_MEMORY);
    count_test(&c->engine->ahead_hits[s][k], &c->engine->ahead_tests[s][k], hit, ENGINE_MEMORY);
}

/* Every guess whose parent proved right is a test, sent or not: watching costs no row. */
void controller_learn(struct controller *c, const struct outcome *o, double price)
{
    const struct guess_tree *d = o->tree;
    const int32_t *truth = o->now.tokens + o->now.n - o->n_path - 1;
    uint32_t known = o->n_path + 1;     /* true tokens of this step */
    uint32_t proposed[STRATEGIES_MOST] = { 0 }, sent[STRATEGIES_MOST] = { 0 };
    uint32_t right[STRATEGIES_MOST] = { 0 }, alone_sent[STRATEGIES_MOST] = { 0 };
    uint32_t alone_right[STRATEGIES_MOST] = { 0 }, costly = 0;
    uint32_t asked = asked_now(c);
    bool true_node[TREE_NODES];
    for (unsigned s = 0; strategies[s]; s++) costly |= (uint32_t)!!strategies[s]->price << s;
    for (uint32_t i = 0; i < d->n; i++) {
        const struct guess_node *n = &d->node[i];
        bool test = n->depth <= known && (n->parent < 0 || true_node[n->parent]);
        true_node[i] = test && n->token == truth[n->depth - 1];
        if (test) {
            teach(&c->own, n, asked, true_node[i], REQUEST_RATE);
            teach(c->engine, n, asked, true_node[i], ENGINE_RATE);
        }
        for (unsigned s = 0; strategies[s]; s++) {
            if (!(n->strategies >> s & 1)) continue;
            bool alone = !(n->strategies & ~costly);
            proposed[s]++;
            sent[s] += n->row > 0;
            right[s] += true_node[i];
            alone_sent[s] += alone && n->row > 0;
            alone_right[s] += alone && true_node[i] && n->row > 0;
            if (!test) continue;
            unsigned b = n->bucket_of[s];
            count_test(&c->own.hits[s][b], &c->own.tests[s][b], true_node[i], REQUEST_MEMORY);
            count_test(&c->engine->hits[s][b], &c->engine->tests[s][b], true_node[i],
                       ENGINE_MEMORY);
            if (strategies[s]->ahead && n->foretold) learn_ahead(c, s, n->depth - 1, true_node[i]);
        }
    }
    struct decode_counts *t = &c->counts;
    for (unsigned s = 0; strategies[s]; s++) {
        t->proposed[s] += proposed[s];
        t->sent[s] += sent[s];
        t->right[s] += right[s];
        if (strategies[s]->price && c->asked[s].now)
            learn_asked(c, s, proposed[s], alone_sent[s], alone_right[s], d->n_sent);
        c->asked[s].now = false;
    }
    t->steps++;
    t->tokens += known;
    t->rows += d->n_sent + o->n_apart;
    t->apart += o->n_apart;
    t->accepted += o->n_path;
    t->by_rows[d->n_sent + o->n_apart + 1]++;
    double won = d->n_sent + o->n_apart ? (double)known - 1 - price : 0;
    c->lately[0] = LATELY_KEEP * c->lately[0] + known;
    c->lately[1] = LATELY_KEEP * c->lately[1] + 1 + price;
    c->credit = 0.97 * c->credit + won;
    c->won += won;
    c->spent = 0;
}
