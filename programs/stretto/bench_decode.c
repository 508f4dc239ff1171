/* stretto bench --decode: what each decoding strategy does to a set of prompts. Every round writes
 * each answer plainly and in every other strategy, in an order that turns, so that each strategy has as many
 * pairs with plain decoding as there are rounds. A round begins with what the engine knew before
 * the prompt: nobody finds his own answer in the store of finished ones. */
#include "base/buffer.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/utf8.h"
#include "decode/learned.h"
#include "engine/probe.h"
#include "engine/writer.h"
#include "stretto/bench.h"
#include "stretto/experimental.h"
#include "stretto/open.h"
#include "stretto/prompts.h"
#include "ui/progress.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STRATEGIES = 16, MAX_PAIRS = 99, PROBE_TOKENS = 256, PROBE_TIMES = 7, REPEAT_GRAM = 4 };
static const double REPEAT_MOST = 0.25; /* repeating answers are no measure of guessing */
static const double LEAST = 0.97;       /* of plain: below it, guessing has done harm    */

#define AT(field) offsetof(struct decode_bench, field)
static const struct option rows_of_options[] = {
    {"--decode", "STRATEGY,STRATEGY", OPT_TEXT, AT(decode.words), 0, 0,
     "measure these decoding strategies on the prompts of --prompts; all measures every strategy"},
    {"--prompts", "FILE", OPT_TEXT, AT(prompts), 0, 0,
     "prompts as JSON lines (bench/make_prompts.py writes some); - is standard input"},
    {"--limit", "N", OPT_INT, AT(limit), 0, PROMPTS_MAX, "use the first N prompts; 0 uses all [0]"},
    {"--pairs", "N", OPT_INT, AT(pairs), 1, MAX_PAIRS,
     "write each answer this often with plain decoding and with each strategy [5]"},
    {"--costs", "X,X,X,X,X,X", OPT_TEXT, AT(costs), 0, 0,
     "decide and price as if a step of 1, 2, 4, 8, 16 or 32 rows cost this many one-row steps; the "
     "measured times are still this machine's"},
};
#undef AT
const struct option_group group_decode_bench = {
    "Decoding strategies", rows_of_options, sizeof rows_of_options / sizeof *rows_of_options };

/* What one strategy did to one prompt; ratio: seconds of the plain run of the round over its own. */
struct done {
    double seconds[MAX_PAIRS], ratio[MAX_PAIRS];
    struct decode_counts counts;        /* of the last round */
    bool same;
};

struct item {
    const struct prompt *prompt;
    size_t n;                           /* tokens of the answer        */
    char *text;                         /* the answer                  */
    double repeats;                     /* share of them that repeat   */
    double known;                       /* share that --learned knew  */
    bool skipped;
    struct done done[MAX_STRATEGIES];   /* [0]: plain */
};

struct run {
    const struct decode_bench *o;
    const stretto_model *m;
    stretto_engine *engine;
    stretto_session *session;
    struct decoder decoder;
    struct prompts prompts;
    struct item *items;
    double *columns;                    /* [4][prompts], for summing up */
    struct followers *recycled, *taught;     /* what the engine remembers before a prompt, and after it */
    char *words, *strategies[MAX_STRATEGIES];
    size_t n_strategies;
    uint32_t context, learned_tokens;   /* of finished answers, by --learned */
    float costs[COSTS_POINTS];          /* of --costs                        */
    double cost[COSTS_MOST + 1];        /* [n] seconds of a step of n rows, from the probe */
    struct ui_progress ui;
    struct progress hook;
};

/* ---- numbers -------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *v, size_t n)
{
    double copy[1024];
    if (n > sizeof copy / sizeof *copy) n = sizeof copy / sizeof *copy;
    if (n == 0) return 0;
    memcpy(copy, v, n * sizeof *v);
    qsort(copy, n, sizeof *copy, ascending);
    return n % 2 ? copy[n / 2] : (copy[n / 2 - 1] + copy[n / 2]) / 2;
}

/* 95 % interval of the mean of logarithms (Student's t), as ratios. */
static void interval(const double *ratio, size_t n, double *low, double *high)
{
    static const double t[] = { 0,     12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                                2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110,
                                2.101, 2.093, 2.086 };
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += log(ratio[i]);
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) squares += pow(log(ratio[i]) - mean, 2);
    size_t free_ones = n - 1, known = sizeof t / sizeof *t - 1;
    double wide = n < 2 ? INFINITY
                        : t[free_ones < known ? free_ones : known] *
                              sqrt(squares / (double)free_ones / (double)n);
    *low = exp(mean - wide);
    *high = exp(mean + wide);
}

/* Share of the tokens that stand in an n-gram which the text had before. */
static double repeating(const int32_t *ids, size_t n)
{
    size_t covered = 0, upto = 0;
    for (size_t i = 1; i + REPEAT_GRAM <= n; i++) {
        bool before = false;
        for (size_t k = 0; k < i && !before; k++)
            before = memcmp(ids + k, ids + i, REPEAT_GRAM * sizeof *ids) == 0;
        if (!before) continue;
        size_t from = i > upto ? i : upto;
        covered += i + REPEAT_GRAM - from;
        upto = i + REPEAT_GRAM;
    }
    return n ? (double)covered / (double)n : 0;
}

/* Share of the tokens that stand in an n-gram of the finished answers. */
static double known_before(const struct run *r, const int32_t *ids, size_t n)
{
    enum { GRAM = 8 };
    size_t covered = 0, upto = 0;
    const struct ngram_index *x = &stretto_engine_learned(r->engine)->store.index;
    for (size_t i = GRAM; r->learned_tokens && i <= n; i++) {
        struct ngram_match match[1];
        if (!ngram_find(x, ids, (uint32_t)i, match, 1) || match->length < GRAM) continue;
        size_t from = i - GRAM > upto ? i - GRAM : upto;
        covered += i - from;
        upto = i;
    }
    return n ? (double)covered / (double)n : 0;
}

/* Seconds of steps of n rows behind a text, all sizes in turn. */
static int probe(struct run *r, uint32_t n_text)
{
    static const uint32_t sizes[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 17, 20, 24, 32,
                                      40, COSTS_MOST };
    enum { SIZES = sizeof sizes / sizeof *sizes };
    double seconds[SIZES];
    struct error err = { 0 };
    stretto_status s = engine_probe(stretto_engine_inside(r->engine), 0, n_text, sizes, seconds, SIZES,
                                    PROBE_TIMES, &err);
    if (s != STRETTO_OK) return command_fail("bench", s, err.text);
    for (uint32_t k = 0; k < SIZES; k++) {
        double at = seconds[k], from = k ? r->cost[sizes[k - 1]] : at;
        uint32_t before = k ? sizes[k - 1] : 0;
        for (uint32_t n = before + 1; n <= sizes[k]; n++)
            r->cost[n] = from + (at - from) * (n - before) / (sizes[k] - before);
    }
    return EXIT_DONE;
}

/* Time that the steps would take at the probe's prices, over that of plain decoding. */
static double noise_free(const struct run *r, const struct done *d)
{
    double sum = 0;
    for (uint32_t n = 1; n <= COSTS_MOST; n++) sum += (double)d->counts.by_rows[n] * r->cost[n];
    return d->counts.tokens ? sum / ((double)d->counts.tokens * r->cost[1]) : 0;
}

/* ---- running -------------------------------------------------------------------------------- */

/* What recycling remembers lies in one piece. */
static size_t recycled_bytes(const struct recycle_memory *m)
{
    return (size_t)((char *)(m->after_pair + RECYCLE_PAIRS) - (char *)m->after_token);
}

/* One answer with one strategy; its ids behind the prompt in the session. */
static int write_answer(struct run *r, const struct prompt *p, size_t k, double *seconds)
{
    const char *stops[] = { p->stop, NULL };
    stretto_generate_options g = STRETTO_GENERATE_OPTIONS_INIT;
    stretto_generated got = { .size = sizeof got };
    g.max_tokens = r->o->tokens;
    g.stops = stops;
    g.cancel = &interrupted;
    struct decoder how = r->decoder;
    how.how.words = r->strategies[k];
    int code = decode_as("bench", &how, r->session);
    if (code != EXIT_DONE) return code;
    stretto_status s = stretto_session_sync(r->session, p->ids, p->n, NULL);
    if (s == STRETTO_OK) s = stretto_session_generate(r->session, &g, &got);
    if (interrupted) return command_fail("bench", STRETTO_E_CANCEL, "interrupted");
    if (s != STRETTO_OK) return command_fail("bench", s, stretto_session_error(r->session));
    *seconds = got.seconds;
    return EXIT_DONE;
}

/* Repaired where it is no UTF-8: what a model wrote need be none. NULL: no memory. */
static char *text_of(const stretto_model *m, const int32_t *ids, size_t n)
{
    size_t length = 0;
    stretto_detokenize(m, ids, n, NULL, 0, &length);
    char *text = calloc(length + 1, 1);
    struct buffer whole = buffer_make(4 * length + 16);
    bool ok = text && (!n || stretto_detokenize(m, ids, n, text, length + 1, &length) == STRETTO_OK)
              && utf8_repair(&whole, text, length) == STRETTO_OK;
    free(text);
    text = ok ? strndup(whole.len ? whole.data : "", whole.len) : NULL;
    buffer_done(&whole);
    return text;
}

static int run_prompt(struct run *r, struct item *x, size_t done)
{
    const struct prompt *p = x->prompt;
    struct learned *learned = stretto_engine_learned(r->engine);
    struct calibration *knows = &learned->calibration, before = *knows, after;
    uint32_t end = learned->store.index.end;
    size_t bytes = recycled_bytes(&learned->recycled);
    double ignored;
    if (!r->recycled) r->recycled = malloc(bytes);
    if (!r->taught) r->taught = malloc(bytes);
    if (!r->recycled || !r->taught) return command_fail("bench", STRETTO_E_NOMEM, NULL);
    memcpy(r->recycled, learned->recycled.after_token, bytes);
    memcpy(r->taught, r->recycled, bytes);
    int code = write_answer(r, p, 0, &ignored);          /* pays for untouched pages */
    if (code != EXIT_DONE) return code;
    const int32_t *now = stretto_session_tokens(r->session) + p->n;
    x->n = stretto_session_length(r->session) - p->n;
    int32_t *ids = malloc((x->n + 1) * sizeof *ids);
    if (!ids) return command_fail("bench", STRETTO_E_NOMEM, NULL);
    memcpy(ids, now, x->n * sizeof *ids);
    x->repeats = repeating(ids, x->n);
    x->text = text_of(r->m, ids, x->n);
    x->known = known_before(r, ids, x->n);
    after = before;
    for (size_t k = 0; k < r->n_strategies; k++) x->done[k].same = true;
    for (size_t round = 0; round < (size_t)r->o->pairs && code == EXIT_DONE; round++) {
        for (size_t i = 0; i < r->n_strategies && code == EXIT_DONE; i++) {
            size_t k = (i + round) % r->n_strategies;
            struct done *d = &x->done[k];
            ngram_cut(&learned->store.index, end);
            *knows = before;
            memcpy(learned->recycled.after_token, r->recycled, bytes);
            code = write_answer(r, p, k, &d->seconds[round]);
            if (code != EXIT_DONE) break;
            size_t n = stretto_session_length(r->session) - p->n;
            now = stretto_session_tokens(r->session) + p->n;
            d->same &= n == x->n && memcmp(now, ids, n * sizeof *ids) == 0;
            d->counts = *writer_counts(stretto_session_inside(r->session));
            if (k + 1 < r->n_strategies) continue;
            after = *knows;
            memcpy(r->taught, learned->recycled.after_token, bytes);
        }
        for (size_t k = 0; k < r->n_strategies && code == EXIT_DONE; k++)
            x->done[k].ratio[round] = x->done[0].seconds[round] / x->done[k].seconds[round];
        progress_tell(&r->hook, "decoding", done * (size_t)r->o->pairs + round + 1,
                      r->prompts.n * (size_t)r->o->pairs);
    }
    /* The last strategy's lessons stay for the next prompt, as they would in a session. */
    *knows = after;
    memcpy(learned->recycled.after_token, r->taught, bytes);
    ngram_cut(&learned->store.index, end);
    free(ids);
    return code;
}

/* Reads --learned, which must be there. */
static int learn(struct run *r)
{
    char err[600];
    const char *path = r->o->decode.learned;
    struct learned *learned = stretto_engine_learned(r->engine);
    if (!learned) return command_fail("bench", STRETTO_E_NOMEM, NULL);
    if (!path) return EXIT_DONE;
    stretto_status s = stretto_engine_learned_load(r->engine, path, err, sizeof err);
    if (s != STRETTO_OK) return command_fail("bench", s, err);
    r->learned_tokens = learned->store.index.end;
    return EXIT_DONE;
}

/* --costs: six rising numbers that begin with 1. */
static int take_costs(struct run *r)
{
    const char *at = r->o->costs;
    char *end;
    for (int i = 0; at && i < COSTS_POINTS; i++, at = end + (*end == ',')) {
        double x = strtod(at, &end);
        if (end == at || (*end != ',' && *end) || (*end == ',') != (i + 1 < COSTS_POINTS) ||
            (i == 0 ? x != 1 : !(x >= (double)r->costs[i - 1] && x <= 1e3)))
            return command_usage("bench", "--costs takes the costs of steps of 1, 2, 4, 8, 16 and 32 "
                                 "rows, starting at 1 and never falling, such as 1,1.05,1.1,1.25,1.6,2.4");
        r->costs[i] = (float)x;
    }
    if (!r->o->costs) return EXIT_DONE;
    costs_fix(engine_costs(stretto_engine_inside(r->engine)), r->costs);
    for (uint32_t n = 1; n <= COSTS_MOST; n++)
        r->cost[n] = costs_ratio(engine_costs(stretto_engine_inside(r->engine)), n);
    return EXIT_DONE;
}

/* ---- printing ------------------------------------------------------------------------------- */

struct summary {
    size_t prompts;
    double ratio, worst, low_high, rate, plain_rate, per_step, accepted, cost, known;
    size_t harmed;                      /* prompts whose whole interval is below LEAST */
    const char *worst_id;
    bool same;
};

static bool counts(const struct item *x, const char *set, bool repeating_ones)
{
    return !x->skipped && (!set || strcmp(x->prompt->set, set) == 0) &&
           (x->repeats > REPEAT_MOST) == repeating_ones;
}

static struct summary sum_up(const struct run *r, size_t k, const char *set, bool repeating_ones)
{
    struct summary s = { .worst = INFINITY, .same = true };
    size_t most = r->prompts.n;
    double *ratio = r->columns, *rate = ratio + most, *plain = rate + most, *cost = plain + most;
    uint64_t steps = 0, tokens = 0, rows = 0, right = 0;
    for (size_t i = 0; i < r->prompts.n; i++) {
        const struct item *x = &r->items[i];
        const struct done *d = &x->done[k];
        if (!counts(x, set, repeating_ones)) continue;
        size_t pairs = (size_t)r->o->pairs;
        double low, high, one = median(d->ratio, pairs);
        interval(d->ratio, pairs, &low, &high);
        ratio[s.prompts] = one;
        rate[s.prompts] = (double)x->n / median(d->seconds, pairs);
        plain[s.prompts] = (double)x->n / median(x->done[0].seconds, pairs);
        cost[s.prompts] = noise_free(r, d);
        s.prompts++;
        s.known += x->known;
        if (one < s.worst) {
            s.worst = one;
            s.worst_id = x->prompt->id;
            s.low_high = high;
        }
        s.harmed += high < LEAST;
        s.same &= d->same;
        steps += d->counts.steps;
        tokens += d->counts.tokens;
        rows += d->counts.rows;
        right += d->counts.accepted;
    }
    s.ratio = median(ratio, s.prompts);
    s.rate = median(rate, s.prompts);
    s.plain_rate = median(plain, s.prompts);
    s.cost = median(cost, s.prompts);
    s.per_step = steps ? (double)tokens / (double)steps : 0;
    s.accepted = rows ? (double)right / (double)rows : 0;
    s.known = s.prompts ? s.known / (double)s.prompts : 0;
    return s;
}

static void print_set(const struct run *r, const char *set)
{
    struct summary plain = sum_up(r, 0, set, false), apart = sum_up(r, 0, set, true);
    printf("\n%s: %zu prompts, %.1f tokens/s plainly\n\n", *set ? set : "prompts", plain.prompts,
           plain.plain_rate);
    if (plain.prompts) {
        printf("| decode | tokens/step | accepted | t/s | speedup | worst prompt | below %.2f | "
               "steps' cost | same text |\n| --- | --: | --: | --: | --: | --: | --: | --: | --- |\n",
               LEAST);
        for (size_t k = 0; k < r->n_strategies; k++) {
            struct summary s = sum_up(r, k, set, false);
            printf("| %s | %.2f | %.0f %% | %.1f | %.2f | %.2f (%s) | %zu | %.2f | %s |\n",
                   r->strategies[k], s.per_step, 100 * s.accepted, s.rate, s.ratio, s.worst,
                   s.worst_id, s.harmed, s.cost, s.same ? "yes" : "NO");
        }
    }
    if (r->learned_tokens)
        printf("%.0f %% of the answers' tokens are in runs of 8 that also occur in the finished answers "
               "of --learned (%u tokens)\n", 100 * plain.known, r->learned_tokens);
    if (!apart.prompts) return;
    printf("\nnot counted, because more than %.0f %% of the answer repeats itself: %zu prompts (",
           100 * REPEAT_MOST, apart.prompts);
    for (size_t k = 1; k < r->n_strategies; k++) {
        struct summary s = sum_up(r, k, set, true);
        printf("%s%s speedup %.2f%s", k > 1 ? ", " : "", r->strategies[k], s.ratio,
               s.same ? "" : ", ANOTHER TEXT");
    }
    printf(")\n");
}

static void print_md(const struct run *r)
{
    for (size_t i = 0; i < r->prompts.n; i++) {
        bool first = true;
        for (size_t k = 0; k < i; k++)
            first &= strcmp(r->prompts.v[k].set, r->prompts.v[i].set) != 0;
        if (first) print_set(r, r->prompts.v[i].set);
    }
    printf("\nspeedup: time of plain decoding / time of the strategy, the median over prompts of the median of %lld "
           "pairs; below %.2f: prompts\nwhose whole 95 %% interval is below it; steps' cost: what the steps take at "
           "the prices below / what plain decoding takes, free of noise.\nrows of a step: %s",
           (long long)r->o->pairs, LEAST, r->o->costs ? "steps of one" : "ms");
    for (uint32_t n = 1; n <= COSTS_MOST; n = n < 16 ? 2 * n : n == 16 ? 32 : COSTS_MOST + 1)
        printf("%s %u: %.2f", n > 1 ? "," : "", n, (r->o->costs ? 1 : 1e3) * r->cost[n]);
    puts(r->o->costs ? "\nThe prices are those of --costs and decided what was sent. Steps' cost, tokens and "
                       "texts describe that machine;\nthe times are this machine's." : "");
}

static void print_json(const struct run *r)
{
    json_t *all = json_array(), *costs = json_array();
    for (size_t i = 0; i < r->prompts.n; i++) {
        const struct item *x = &r->items[i];
        json_t *results = json_object();
        for (size_t k = 0; k < r->n_strategies && !x->skipped; k++) {
            const struct done *d = &x->done[k];
            double low, high;
            json_t *seconds = json_array(), *ratios = json_array();
            interval(d->ratio, (size_t)r->o->pairs, &low, &high);
            for (size_t pair = 0; pair < (size_t)r->o->pairs; pair++) {
                json_array_append_new(seconds, json_real(d->seconds[pair]));
                json_array_append_new(ratios, json_real(d->ratio[pair]));
            }
            json_object_set_new(
                results, r->strategies[k],
                json_pack("{s:o,s:o,s:f,s:f,s:f,s:I,s:I,s:I,s:I,s:f,s:f,s:b}", "seconds", seconds,
                          "ratios", ratios, "ratio", median(d->ratio, (size_t)r->o->pairs), "low",
                          isfinite(low) ? low : 0.0, "high", isfinite(high) ? high : 0.0, "steps",
                          (json_int_t)d->counts.steps, "tokens", (json_int_t)d->counts.tokens,
                          "guesses", (json_int_t)d->counts.rows, "accepted",
                          (json_int_t)d->counts.accepted, "guess_seconds", d->counts.guess_seconds,
                          "cost", noise_free(r, d), "same", d->same));
        }
        json_array_append_new(
            all, json_pack("{s:s,s:s,s:I,s:I,s:f,s:f,s:b,s:s,s:o}", "id", x->prompt->id, "set",
                           x->prompt->set, "prompt_tokens", (json_int_t)x->prompt->n,
                           "answer_tokens", (json_int_t)x->n, "repeats", x->repeats, "known",
                           x->known, "skipped", x->skipped, "text", x->text ? x->text : "", "strategies", results));
    }
    for (uint32_t n = 1; n <= COSTS_MOST; n++)
        json_array_append_new(costs, json_real(r->cost[n]));
    json_t *j = json_pack("{s:s,s:I,s:I,s:I,s:b,s:o,s:o}", "model",
                          r->o->model->model ? r->o->model->model : "", "pairs",
                          (json_int_t)r->o->pairs, "tokens", (json_int_t)r->o->tokens,
                          "learned_tokens", (json_int_t)r->learned_tokens, "costs_given",
                          r->o->costs != NULL, "step_seconds", costs, "prompts", all);
    json_dumpf(j, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(j);
}

/* ---- setting up ----------------------------------------------------------------------------- */

/* "all", or words with commas; plain is always the first. */
static int take_strategies(struct run *r)
{
    struct error err = { 0 };
    r->strategies[r->n_strategies++] = (char *)(uintptr_t)"plain";
    bool all = strcmp(r->o->decode.words, "all") == 0;
    for (size_t s = 0; all && strategies[s] && r->n_strategies + 1 < MAX_STRATEGIES; s++) {
        bool needs_draft = strcmp(strategies[s]->name, "draft") == 0;
        bool needs_heads = strcmp(strategies[s]->name, "heads") == 0;
        bool needs_adapter = strcmp(strategies[s]->name, "gated") == 0;
        if ((needs_draft && !r->o->decode.draft) || (needs_heads && !r->o->decode.heads)
            || (needs_adapter && !model_gated(stretto_model_inside(r->m)))) continue;
        r->strategies[r->n_strategies++] = (char *)(uintptr_t)strategies[s]->name;
    }
    if (all) {
        r->strategies[r->n_strategies++] = (char *)(uintptr_t)"auto";
        return EXIT_DONE;
    }
    r->words = strdup(r->o->decode.words);
    if (!r->words) return command_fail("bench", STRETTO_E_NOMEM, NULL);
    char *save = NULL;
    for (char *w = strtok_r(r->words, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
        struct decode_choice ignored;
        if (strcmp(w, "all") == 0)
            return command_usage("bench", "--decode all stands alone; name mixtures one by one");
        if (strcmp(w, "plain") == 0) continue;
        if (r->n_strategies == MAX_STRATEGIES)
            return command_usage("bench", "--decode takes at most %d strategies", MAX_STRATEGIES - 1);
        if (decode_parse(w, &ignored, &err) != STRETTO_OK)
            return command_fail("bench", STRETTO_E_ARG, err.text);
        r->strategies[r->n_strategies++] = w;
    }
    return EXIT_DONE;
}

static int open_run(struct run *r)
{
    char words[600];
    size_t longest = 0;
    int code = take_strategies(r);
    if (code == EXIT_DONE)
        code = prompts_read("bench", r->m, r->o->prompts, (size_t)r->o->limit, &r->prompts);
    if (code != EXIT_DONE) return code;
    r->items = calloc(r->prompts.n, sizeof *r->items);
    r->columns = calloc(r->prompts.n, 4 * sizeof *r->columns);
    if (!r->items || !r->columns) return command_fail("bench", STRETTO_E_NOMEM, NULL);
    uint32_t most = r->o->model->context ? (uint32_t)r->o->model->context
                                         : stretto_model_inside(r->m)->config.context;
    for (size_t i = 0; i < r->prompts.n; i++) {
        struct item *x = &r->items[i];
        x->prompt = &r->prompts.v[i];
        x->skipped = x->prompt->n + (size_t)r->o->tokens > most;
        if (!x->skipped && x->prompt->n > longest) longest = x->prompt->n;
        if (x->skipped)
            fprintf(stderr, "stretto bench: prompt %s has %zu tokens and is skipped: with its "
                    "answer it does not fit in the context of %u\n", x->prompt->id, x->prompt->n,
                    most);
    }
    if (!longest)
        return command_fail("bench", STRETTO_E_ARG, "no prompt fits in the context with its answer");
    struct model_options mo = *r->o->model;
    mo.context = (int64_t)(longest + (size_t)r->o->tokens);
    if (mo.context < PROBE_TOKENS + COSTS_MOST) mo.context = PROBE_TOKENS + COSTS_MOST;
    if (mo.context > most) mo.context = most;
    stretto_engine_options eo;
    code = engine_options_from("bench", &mo, 1, &eo);
    if (code != EXIT_DONE) return code;
    stretto_status s = stretto_engine_open(&r->engine, r->m, &eo, words, sizeof words);
    if (s == STRETTO_OK) s = stretto_session_open(&r->session, r->engine, words, sizeof words);
    if (s != STRETTO_OK) return command_fail("bench", s, words);
    stretto_session_cancel(r->session, &interrupted);
    code = decoder_open("bench", &r->o->decode, r->o->model, &r->decoder);
    if (code != EXIT_DONE) return code;
    if (mo.context <= COSTS_MOST)
        return command_fail("bench", STRETTO_E_ARG,
                            "the context is too small to measure in; ask for a larger one with -c");
    return probe(r, (uint32_t)mo.context - COSTS_MOST < PROBE_TOKENS
                        ? (uint32_t)mo.context - COSTS_MOST
                        : PROBE_TOKENS);
}

int bench_decode(const struct decode_bench *o, const stretto_model *m)
{
    static struct run r;
    r = (struct run){ .o = o, .m = m };
    if (!o->prompts)
        return command_usage("bench", "--decode needs prompts to measure on: --prompts FILE "
                             "(bench/make_prompts.py writes some)");
    ui_progress_init(&r.ui, stderr);
    r.ui.items = true;
    r.hook = ui_progress_hook(&r.ui);
    bool same = true;
    int code = open_run(&r);
    if (code == EXIT_DONE) code = take_costs(&r);
    if (code == EXIT_DONE) code = learn(&r);
    size_t done = 0;
    for (; done < r.prompts.n && code == EXIT_DONE; done++) {
        struct item *x = &r.items[done];
        if (!x->skipped) code = run_prompt(&r, x, done);
        x->skipped |= code != EXIT_DONE;
        for (size_t k = 0; k < r.n_strategies; k++) same &= x->skipped || x->done[k].same;
    }
    ui_progress_break(&r.ui);
    /* An interrupted measurement says what it has. */
    bool some = code == EXIT_DONE || (interrupted && done > 1);
    for (size_t i = done; i < r.prompts.n; i++) r.items[i].skipped = true;
    if (some) {
        if (code != EXIT_DONE)
            fprintf(stderr, "stretto bench: the table covers the first %zu of %zu prompts\n", done - 1,
                    r.prompts.n);
        if (strcmp(o->format, "json") == 0) print_json(&r);
        else print_md(&r);
        if (!same)
            code = command_fail("bench", STRETTO_E_FORMAT,
                                "a decoding strategy wrote a different text than plain decoding: this is "
                                "a bug, please report it");
    }
    for (size_t i = 0; r.items && i < r.prompts.n; i++) free(r.items[i].text);
    free(r.items);
    free(r.words);
    prompts_done(&r.prompts);
    free(r.columns);
    free(r.recycled);
    free(r.taught);
    stretto_session_close(r.session);
    decoder_close(&r.decoder);
    stretto_engine_close(r.engine);
    return code;
}
