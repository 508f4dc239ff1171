/* Sequences and their timelines: who is open, what is known, what is in the cache, and what a new text takes
 * over from those that begin alike (cache/prefix.h). */
#include "engine/engine_int.h"
#include <string.h>

static void touch(struct engine *e, struct sequence *s) { s->used = ++e->clock; }

bool sequence_is_open(const struct engine *e, int32_t seq)
{
    return seq >= 0 && (uint32_t)seq < e->n_seqs && e->seqs[seq].open;
}

static struct sequence *oldest_closed(struct engine *e)
{
    struct sequence *oldest = NULL;
    for (struct sequence *s = e->seqs; s < e->seqs + e->n_seqs; s++)
        if (!s->open && (!oldest || s->used < oldest->used)) oldest = s;
    return oldest;
}

stretto_status engine_seq_open(struct engine *e, int32_t *seq, struct error *err)
{
    *seq = -1;
    if (e->n_open == e->info.sequences)
        return fail(err, STRETTO_E_FULL, "the engine holds %u session%s already; open it for more",
                    e->n_open, e->n_open > 1 ? "s" : "");
    struct sequence *s = oldest_closed(e);
    *seq = (int32_t)(s - e->seqs);
    s->open = true;
    e->n_open++;
    s->managed = false;
    s->shared = 0;
    s->at.salt = 0;
    s->at.owner = 0;
    adapted_reset(e, s);
    s->missed = (struct prefix_miss){ .wanted = -1, .had = -1 };
    engine_rewind(e, *seq, 0);
    touch(e, s);
    return STRETTO_OK;
}

stretto_status engine_seq_open_all(struct engine *e, struct error *err)
{
    int32_t seq;
    while (e->n_open < e->info.sequences) TRY(engine_seq_open(e, &seq, err));
    return STRETTO_OK;
}

void engine_seq_close(struct engine *e, int32_t seq)
{
    struct sequence *s = &e->seqs[seq];
    if (!s->open) return;
    s->open = false;
    e->n_open--;
    requests_lose(e, seq);
    prefix_leave(&e->prefix, &s->at);
    engine_rewind(e, seq, 0);
    touch(e, s);
}

/* Of every group that has no page left the tree gives one up; false where nobody has one. */
static bool make_room(struct engine *e)
{
    bool made = false;
    for (uint32_t g = 0; g < e->cache.n_groups; g++)
        if (!e->cache.group[g].n_free) made |= prefix_evict(&e->prefix, g);
    return made;
}

uint32_t sequence_reserve(struct engine *e, struct sequence *s, uint32_t n)
{
    touch(e, s);
    for (;;) {
        uint32_t reach = cache_reserve(&e->cache, &s->cache, n);
        if (reach >= n || !make_room(e)) return reach;
    }
}

uint32_t engine_pages_left(const struct engine *e)
{
    uint32_t least = UINT32_MAX;
    for (uint32_t g = 0; g < e->cache.n_groups; g++) {
        uint32_t n = e->cache.group[g].n_free + prefix_spare(&e->prefix, g);
        if (n < least) least = n;
    }
    return least;
}

uint32_t engine_length(const struct engine *e, int32_t seq) { return e->seqs[seq].cache.n_tokens; }
uint32_t engine_known(const struct engine *e, int32_t seq) { return e->seqs[seq].known; }
int32_t *engine_tokens(const struct engine *e, int32_t seq) { return e->seqs[seq].tokens; }

bool engine_given(const struct engine *e, int32_t seq, uint32_t at)
{
    return e->seqs[seq].given[at] != 0;
}

uint32_t engine_reach(const struct engine *e, int32_t seq, uint32_t n)
{
    return cache_reach(&e->cache, &e->seqs[seq].cache, n);
}

uint32_t engine_rewind(struct engine *e, int32_t seq, uint32_t n)
{
    struct sequence *s = &e->seqs[seq];
    if (n < s->known && n < s->unchanged) s->unchanged = n;
    if (n < s->known) s->known = n;
    engine_forget(e, seq, n);
    return s->cache.n_tokens;
}

void engine_forget(struct engine *e, int32_t seq, uint32_t n)
{
    cache_rewind(&e->cache, &e->seqs[seq].cache, n);
    prefix_back(&e->prefix, &e->seqs[seq].at);
}

uint32_t engine_unchanged(struct engine *e, int32_t seq)
{
    struct sequence *s = &e->seqs[seq];
    uint32_t n = s->unchanged < s->known ? s->unchanged : s->known;
    s->unchanged = UINT32_MAX;
    return n;
}

void engine_role(struct engine *e, int32_t seq, uint32_t at, bool given)
{
    struct sequence *s = &e->seqs[seq];
    if (at < s->known) memset(s->given + at, given, s->known - at);
}

void engine_push(struct engine *e, int32_t seq, int32_t token)
{
    struct sequence *s = &e->seqs[seq];
    s->tokens[s->known] = token;
    s->given[s->known++] = 0;
}

stretto_status engine_fork(struct engine *e, int32_t from, int32_t to, uint32_t n,
                           struct error *err)
{
    struct sequence *f = &e->seqs[from], *t = &e->seqs[to];
    engine_rewind(e, to, 0);
    if (n > f->cache.n_tokens)
        return fail(err, STRETTO_E_ARG, "a fork of %u tokens of a sequence that has %u in its cache", n,
                    f->cache.n_tokens);
    TRY(cache_fork(&e->cache, &f->cache, &t->cache, engine_reach(e, from, n), err));
    prefix_fork(&e->prefix, &f->at, &t->at);
    memcpy(t->tokens, f->tokens, n * sizeof *t->tokens);
    memcpy(t->given, f->given, n);
    for (size_t i = 0; f->adapters && i < e->model->n_adapters; i++) t->adapters[i] = f->adapters[i];
    t->uninvoked = f->uninvoked;
    t->exact = f->exact;
    t->at.exact = f->at.exact;
    t->known = n;
    touch(e, f);
    touch(e, t);
    return STRETTO_OK;
}

static uint32_t common(const int32_t *a, const int32_t *b, uint32_t n)
{
    uint32_t k = 0;
    while (k < n && a[k] == b[k]) k++;
    return k;
}

/* How much of tokens[0..n) the sequence has in its cache and can go back to. */
static uint32_t cached(const struct engine *e, const struct sequence *s, const int32_t *tokens, uint32_t n)
{
    uint32_t have = s->cache.n_tokens;
    return cache_reach(&e->cache, &s->cache, common(s->tokens, tokens, n < have ? n : have));
}

static void leave_text(struct engine *e, struct sequence *s, uint32_t keep)
{
    if (keep <= s->cache.n_tokens / PAGE_SLOTS * PAGE_SLOTS) prefix_leave(&e->prefix, &s->at);
    cache_rewind(&e->cache, &s->cache, keep);
    prefix_back(&e->prefix, &s->at);
}

/* What the sequence has itself stays, what the tree has beyond that is taken over. Tokens that stay known keep
 * their roles, so that what leaves the cache comes back with the same bits. */
uint32_t engine_set(struct engine *e, int32_t seq, const int32_t *tokens, uint32_t n, uint32_t most)
{
    struct sequence *s = &e->seqs[seq];
    struct prefix_found f;
    uint32_t same = common(s->tokens, tokens, n < s->known ? n : s->known);
    uint32_t begin = adapted_begin(e, s, tokens, n);
    s->shared = most < n - 1 ? most : UINT32_MAX;
    if (most > n - 1) most = n - 1;
    if (most > begin) most = begin;
    if (e->model->graph.bidirectional) most = 0;       /* what was computed saw another text */
    uint32_t own = cached(e, s, tokens, most);
    leave_text(e, s, own);
    if (same < s->unchanged) s->unchanged = same;
    if (same > most) same = most;
    memmove(s->tokens, tokens, n * sizeof *s->tokens);      /* tokens may be its own */
    memset(s->given + same, 1, n - same);
    memset(s->given + begin, 0, n - begin);            /* nothing of that is in the cache */
    s->known = n;
    s->at.goal.node = PREFIX_NONE;
    touch(e, s);
    prefix_find(&e->prefix, &s->at, s->tokens, s->given, most, &f);
    if (!e->disk_apart && prefix_restore(&e->prefix, &s->at, s->tokens, s->given, most, UINT32_MAX))
        prefix_find(&e->prefix, &s->at, s->tokens, s->given, most, &f);
    s->missed = f.miss;
    if (f.n / PAGE_SLOTS * PAGE_SLOTS > own || f.n >= own + PREFIX_COPY) prefix_take(&e->prefix, &s->at, &f, true);
    else prefix_hit(&e->prefix, s->at.node);
    if (own > s->missed.matched) s->missed.matched = own;
    if (own == most) s->missed.cause = PREFIX_MISS_NOTHING;
    return s->cache.n_tokens;
}

bool engine_restore(struct engine *e, int32_t seq, uint32_t most)
{
    struct sequence *s = &e->seqs[seq];
    if (most > s->known - 1) most = s->known - 1;
    return prefix_restore(&e->prefix, &s->at, s->tokens, s->given, most, 1) > 0;
}

void sequence_catch_up(struct engine *e, struct sequence *s, uint32_t most, uint32_t pages)
{
    struct prefix_found f;
    uint64_t end = ((uint64_t)s->cache.n_tokens / PAGE_SLOTS + pages) * PAGE_SLOTS;
    bool exact = s->at.exact;
    if (most > s->shared) most = s->shared;
    if (most > end) most = (uint32_t)end;
    if (most <= s->cache.n_tokens) return;
    s->at.exact = true;
    prefix_find(&e->prefix, &s->at, s->tokens, s->given, most, &f);
    s->at.exact = exact;
    if (f.n / PAGE_SLOTS * PAGE_SLOTS > s->cache.n_tokens) prefix_take(&e->prefix, &s->at, &f, false);
}

/* ---- whose pages ----------------------------------------------------------------------------- */

stretto_status engine_share(struct engine *e, int32_t seq, const struct sharing *how, struct error *err)
{
    struct sequence *s = &e->seqs[seq];
    if (how->salt != s->at.salt) {
        prefix_leave(&e->prefix, &s->at);
        engine_forget(e, seq, 0);
    }
    s->at.goal.node = PREFIX_NONE;
    s->at.salt = how->salt;
    s->exact = s->at.exact = how->exact;
    s->at.owner = how->owner;
    return engine_adapt(e, seq, how->adapters, err);
}

const struct prefix_miss *engine_missed(const struct engine *e, int32_t seq) { return &e->seqs[seq].missed; }

/* What a text that begins would find. */
static void find_for(const struct engine *e, const int32_t *tokens, const uint8_t *given, uint32_t n,
                     const struct sharing *how, struct prefix_found *f)
{
    struct prefix_seq nobody = { .salt = how->salt, .exact = how->exact };
    float weights[GRAPH_SETS] = { 0 };
    engine_weights(e, how->adapters, weights);
    adapted_view(e, weights, false, &nobody);
    prefix_find(&e->prefix, &nobody, tokens, given, n, f);
}

uint32_t engine_offers(const struct engine *e, const int32_t *tokens, const uint8_t *given, uint32_t n,
                       const struct sharing *how)
{
    struct prefix_found f;
    find_for(e, tokens, given, n, how, &f);
    return f.n;
}

uint32_t engine_pages_held(struct engine *e, const int32_t *seqs, uint32_t n_seqs)
{
    uint32_t pages = 0;
    prefix_count_anew(&e->prefix);
    for (uint32_t i = 0; i < n_seqs; i++) {
        const struct sequence *s = &e->seqs[seqs[i]];
        uint32_t has = (s->cache.n_tokens + PAGE_SLOTS - 1) / PAGE_SLOTS, depth = e->prefix.node[s->at.node].depth;
        pages += prefix_count(&e->prefix, s->at.node) + has - depth;
    }
    return pages;
}

uint32_t engine_tokens_shared(struct engine *e, int32_t seq, const int32_t *tokens, const uint8_t *given, uint32_t n,
                              const struct sharing *how)
{
    struct prefix_found f = { .node = seq >= 0 ? e->seqs[seq].at.node : PREFIX_ROOT };
    if (seq < 0) find_for(e, tokens, given, n, how, &f);
    return (e->prefix.node[f.node].depth - prefix_uncounted(&e->prefix, f.node)) * PAGE_SLOTS;
}

void engine_look(const struct engine *e, struct engine_pages *out)
{
    const struct cache_group *most = NULL;
    uint32_t group = 0;
    for (uint32_t g = 0; g < e->cache.n_groups; g++)
        if (!most || e->cache.group[g].max_pages > most->max_pages) {
            most = &e->cache.group[g];
            group = g;
        }
    *out = (struct engine_pages){ .all = most->max_pages, .free = most->n_free,
                                  .kept = prefix_spare(&e->prefix, group), .yielded = e->yielded,
                                  .counts = e->prefix.counts };
}
