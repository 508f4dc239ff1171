/* Who is next. Every client has a counter of the seconds that its rows took of steps; the lowest goes first
 * (virtual token counters: arXiv 2401.00588; their bound holds for any cost that is known once it is paid). A client
 * without jobs does not save up: when it comes back its counter is at least the lowest of those that have some. */
#include "base/clock.h"
#include "base/random.h"
#include "serve/service_int.h"
#include <string.h>

enum {
    RESERVE = 256,                             /* tokens of an answer that pages are kept for */
    WORTH_WAITING = 2 * PAGE_SLOTS             /* tokens that another job is about to have read */
};

/* ---- clients ----------------------------------------------------------------------------------------- */

static bool is_active(const struct client *c) { return c->waiting || c->placed; }

static uint64_t hash_of(const char *name)
{
    uint64_t h = 1;
    for (; *name; name++) h = random_mix(h ^ (unsigned char)*name);
    return h;
}

/* Where there is no place for another, those that do nothing and owe least go first; else the last one is shared. */
static struct client *client_of(struct service *s, const char *name)
{
    uint64_t hash = hash_of(name);
    struct client *free_one = NULL;
    for (struct client *c = s->clients; c < s->clients + CLIENTS_MOST; c++) {
        if (c->hash == hash) return c;
        if (!is_active(c) && (!free_one || c->used < free_one->used)) free_one = c;
    }
    if (!free_one) return &s->clients[CLIENTS_MOST - 1];
    *free_one = (struct client){ .hash = hash };
    strncpy(free_one->name, name, CLIENT_NAME - 1);
    return free_one;
}

static bool shares(const struct service *s, const struct job *j)
{
    return j->o.kind == JOB_WRITE && !j->o.no_cache && !j->o.prompt_logprobs &&
           !engine_model(s->engine)->graph.bidirectional;
}

static void look_up(struct service *s, struct job *j)
{
    const struct sharing how = { j->o.salt, j->o.cache_exact, 0, j->o.adapters };
    j->offers = shares(s, j) ? engine_offers(s->engine, j->o.ids, s->given, j->o.n_ids - 1, &how) : 0;
}

void fair_arrive(struct service *s, struct job *j)
{
    struct client *c = j->client = client_of(s, j->o.client);
    if (!is_active(c) && c->used < s->floor) c->used = s->floor;
    c->waiting++;
    look_up(s, j);
}

static void lift_floor(struct service *s)
{
    const struct client *least = NULL;
    for (const struct client *c = s->clients; c < s->clients + CLIENTS_MOST; c++)
        if (is_active(c) && (!least || c->used < least->used)) least = c;
    if (least && least->used > s->floor) s->floor = least->used;
}

/* ---- what things cost ------------------------------------------------------------------------------- */

static void learn(double *average, double value, double weight)
{
    *average = *average > 0 ? *average + (value - *average) * weight : value;
}

void fair_charge(struct service *s, struct slot *x, double seconds, uint32_t read, uint32_t wrote)
{
    struct service_state *a = &s->state;
    x->job->client->used += seconds;
    if (!(seconds > 0)) return;
    if (read) {
        a->prompt_seconds += seconds;
        learn(&a->read_cost, seconds / read, read < 256 ? read / 1024.0 : 0.25);
    } else if (wrote) {
        a->write_seconds += seconds;
        learn(&a->write_cost, seconds / wrote, 0.01 * wrote);
    }
}

void fair_learn(struct service *s, uint32_t written) { s->answer += ((double)written - s->answer) / 32; }

double fair_reading(const struct service_state *x, uint32_t unread) { return x->read_cost * unread; }

static double writing(const struct service *s, const struct job *j)
{
    double tokens = j->o.kind == JOB_WRITE ? s->answer : 0;
    if (j->o.max_tokens >= 0 && (double)j->o.max_tokens < tokens) tokens = (double)j->o.max_tokens;
    return tokens * s->state.write_cost;
}

double fair_cost(const struct service *s, const struct job *j)
{
    return fair_reading(&s->state, j->o.n_ids - j->offers) + writing(s, j);
}

/* All the work that is there, but what others can do beside it. */
double fair_wait(const struct service *s)
{
    double before = 0, here = 0;
    uint32_t runs = 0;
    for (const struct job *j = s->waiting; j; j = j->next) before += fair_cost(s, j);
    for (const struct slot *x = s->slots; x < s->slots + s->n_slots; x++) {
        if (!x->job) continue;
        runs++;
        double left = writing(s, x->job) - x->usage.written * s->state.write_cost;
        here += fair_reading(&s->state, x->job->o.n_ids - x->read) + (left > 0 ? left : 0);
    }
    return runs < s->most && !s->waiting ? 0 : before + here / s->most;
}

/* ---- places ------------------------------------------------------------------------------------------ */

static uint32_t count_running(const struct service *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_slots; i++) n += slot_runs(&s->slots[i]) || s->slots[i].coming;
    return n;
}

static struct slot *free_slot(struct service *s)
{
    for (struct slot *x = s->slots; x < s->slots + s->n_slots; x++) if (!x->job) return x;
    return NULL;
}

/* Pages of a text with all that it is going to have soon: its prompt, and some of its answer. */
static uint32_t pages_of(const struct service *s, const struct job *j, uint32_t written)
{
    uint64_t n = j->o.n_ids, most = s->longest;
    if (j->o.kind == JOB_WRITE) {
        uint64_t answer = j->o.max_tokens >= 0 && j->o.max_tokens < RESERVE ? (uint64_t)j->o.max_tokens : RESERVE;
        n += written + PAGE_SLOTS > answer && answer == RESERVE ? written + PAGE_SLOTS : answer;
    }
    return (uint32_t)(((n < most ? n : most) + PAGE_SLOTS - 1) / PAGE_SLOTS);
}

/* Whether the pool holds a job, which has begun in `parked` or not yet, beside those that run: pages that they share
 * count once, those of texts that are gone not at all. */
static bool has_pages(struct service *s, const struct job *j, const struct slot *parked)
{
    const struct sharing how = { j->o.salt, j->o.cache_exact, 0, j->o.adapters };
    uint32_t runs = 0;
    uint64_t n = pages_of(s, j, parked ? parked->usage.written : 0);
    for (const struct slot *x = s->slots; x < s->slots + s->n_slots; x++) {
        if (!slot_runs(x)) continue;
        uint32_t has = (engine_length(s->engine, x->seq) + PAGE_SLOTS - 1) / PAGE_SLOTS;
        uint32_t needs = pages_of(s, x->job, x->usage.written);
        n += needs > has ? needs - has : 0;
        s->running[runs++] = x->seq;
    }
    n += engine_pages_held(s->engine, s->running, runs);
    if (parked || shares(s, j))
        n -= engine_tokens_shared(s->engine, parked ? parked->seq : -1, j->o.ids, s->given, j->o.n_ids - 1, &how)
             / PAGE_SLOTS;
    return n <= s->info.pool_tokens / PAGE_SLOTS;
}

/* A place in the steps is for a job that waits, at `at`, or for one that was parked. */
struct next { struct job **at; struct slot *parked; struct client *client; double rank; };

static void prefer(struct next *best, struct next x)
{
    if (best->client && best->client->used < x.client->used) return;
    if (best->client && best->client->used <= x.client->used && best->rank <= x.rank) return;
    *best = x;
}

/* ---- beginnings that others read --------------------------------------------------------------------- */

static uint32_t common(const struct job *a, const struct job *b)
{
    uint32_t n = a->o.n_ids < b->o.n_ids ? a->o.n_ids : b->o.n_ids, k = 0;
    while (k < n && a->o.ids[k] == b->o.ids[k]) k++;
    return k;
}

static bool is_reading(const struct slot *x, const struct job *of)
{
    return slot_runs(x) && x->read < x->job->o.n_ids && x->job->o.salt == of->o.salt
        && engine_reads_alike(x->service->engine, x->job->o.adapters, of->o.adapters);
}

/* Whether a job that runs is about to have read what this one begins with: then reading it twice is slower than
 * waiting. Looked at again when somebody has joined, and when that job is gone. */
static bool waits(struct service *s, struct job *j)
{
    const struct slot *x = j->behind;
    if (x && is_reading(x, j) && x->job->number == j->behind_number && x->read < j->common) return true;
    if (!x && j->checked == s->joins) return false;
    j->behind = NULL;
    j->checked = s->joins;
    look_up(s, j);
    if (!shares(s, j)) return false;
    for (x = s->slots; x < s->slots + s->n_slots; x++) {
        if (!is_reading(x, j) || !shares(s, x->job)) continue;
        uint32_t n = common(x->job, j) / PAGE_SLOTS * PAGE_SLOTS;
        if (n < j->offers + WORTH_WAITING || x->read >= n) continue;
        j->behind = x;
        j->behind_number = x->job->number;
        j->common = n;
        return true;
    }
    return false;
}

/* Within a client: by priority, then those that have begun, then the shortest prompt, less the time it has waited. */
static double rank_of(const struct service *s, const struct job *j, double now)
{
    double seconds = fair_reading(&s->state, j->o.n_ids - j->offers) - (now - j->submitted);
    return seconds - 1e9 * (double)j->o.priority;
}

static struct next find_next(struct service *s)
{
    struct next best = { .client = NULL };
    double now = clock_seconds();
    for (struct slot *x = s->slots; x < s->slots + s->n_slots; x++)
        if (slot_parked(x))
            prefer(&best, (struct next){ NULL, x, x->job->client, -1e6 - 1e9 * (double)x->job->o.priority });
    for (struct job **at = &s->waiting; *at && free_slot(s); at = &(*at)->next)
        if ((*at)->o.kind != JOB_KEEP && !waits(s, *at))
            prefer(&best, (struct next){ at, NULL, (*at)->client, rank_of(s, *at, now) });
    return best;
}

/* Who is to make place for a client: who has most places and more than his share, or who is far ahead of it. */
static const struct client *find_rich(const struct service *s, const struct client *c)
{
    uint32_t clients = 0;
    const struct client *most = NULL, *ahead = NULL;
    for (const struct client *x = s->clients; x < s->clients + CLIENTS_MOST; x++) {
        clients += is_active(x);
        if (!x->running || x == c) continue;
        if (!most || x->running > most->running) most = x;
        if (!ahead || x->used > ahead->used) ahead = x;
    }
    if (most && most->running > s->most / clients && most->running >= c->running + 2) return most;
    return ahead && ahead->used > c->used + s->o.quantum && c->running <= ahead->running ? ahead : NULL;
}

/* The last of his jobs, once it has written a little in its place. */
static struct slot *find_victim(struct service *s, const struct client *c)
{
    enum { UNDISTURBED = 16 };
    const struct client *rich = find_rich(s, c);
    struct slot *last = NULL;
    for (struct slot *x = s->slots; rich && x < s->slots + s->n_slots; x++)
        if (slot_runs(x) && x->job->client == rich && (!last || x->joined > last->joined) &&
            (!x->usage.written || x->usage.written >= x->joined_at + UNDISTURBED)) last = x;
    return last;
}

void fair_admit(struct service *s)
{
    lift_floor(s);
    for (;;) {
        uint32_t running = count_running(s);
        struct next n = find_next(s);
        if (!n.client) return;
        if (running >= s->most) {
            struct slot *victim = find_victim(s, n.client);
            if (!victim) return;
            slot_park(victim);
            s->state.preempted++;
        }
        const struct job *j = n.parked ? n.parked->job : *n.at;
        if (running && !has_pages(s, j, n.parked)) return;
        if (n.parked) slot_join(n.parked);
        else slot_take(free_slot(s), service_unqueue(s, n.at));
    }
}

/* How much of its prompt is left, in seconds, less those since it came. */
static double left_to_read(const struct service *s, const struct slot *x, double now)
{
    return fair_reading(&s->state, x->job->o.n_ids - x->read) - (now - x->job->submitted);
}

static bool reads_before(const struct service *s, const struct slot *a, const struct slot *b, double now)
{
    const struct job *i = a->job, *j = b->job;
    if (i->client != j->client) return i->client->used < j->client->used;
    if (i->o.priority != j->o.priority) return i->o.priority > j->o.priority;
    return left_to_read(s, a, now) < left_to_read(s, b, now);
}

void fair_rank(struct service *s)
{
    double now = clock_seconds();
    for (const struct slot *x = s->slots; x < s->slots + s->n_slots; x++) {
        uint32_t before = 0;
        if (!slot_runs(x)) continue;
        for (const struct slot *y = s->slots; y < s->slots + s->n_slots; y++)
            before += y != x && slot_runs(y) && reads_before(s, y, x, now);
        request_rank(s->engine, x->request, before);
    }
}
