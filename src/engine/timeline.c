/* Sequences and their timelines: who is open, what is known, what is in the cache, and what a new text takes
 * over from those that begin alike. */
#include "engine/engine_int.h"
#include <string.h>

static void touch(struct engine *e, struct sequence *s) { s->used = ++e->clock; }

bool sequence_is_open(const struct engine *e, int32_t seq)
{
    return seq >= 0 && (uint32_t)seq < e->n_seqs && e->seqs[seq].open;
}

/* The closed sequence that was used longest ago; with_pages: of those that hold pages. */
static struct sequence *oldest_closed(struct engine *e, bool with_pages)
{
    struct sequence *oldest = NULL;
    for (uint32_t i = 0; i < e->n_seqs; i++) {
        struct sequence *s = &e->seqs[i];
        if (!s->open && (!with_pages || s->cache.n_pages) && (!oldest || s->used < oldest->used))
            oldest = s;
    }
    return oldest;
}

stretto_status engine_seq_open(struct engine *e, int32_t *seq, struct error *err)
{
    *seq = -1;
    if (e->n_open == e->info.sequences)
        return fail(err, STRETTO_E_FULL, "the engine holds %u session%s already; open it for more",
                    e->n_open, e->n_open > 1 ? "s" : "");
    struct sequence *s = oldest_closed(e, false);
    *seq = (int32_t)(s - e->seqs);
    s->open = true;
    e->n_open++;
    s->managed = false;
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
    engine_rewind(e, seq, s->cache.n_tokens);
    touch(e, s);
}

uint32_t sequence_reserve(struct engine *e, struct sequence *s, uint32_t n)
{
    touch(e, s);
    for (;;) {
        uint32_t reach = cache_reserve(&e->cache, &s->cache, n);
        struct sequence *from = reach < n ? oldest_closed(e, true) : NULL;
        if (!from) return reach;
        engine_rewind(e, (int32_t)(from - e->seqs), (from->cache.n_pages - 1) * PAGE_SLOTS);
    }
}

uint32_t engine_pages_left(const struct engine *e)
{
    uint32_t least = UINT32_MAX;
    for (uint32_t g = 0; g < e->cache.n_groups; g++) {
        const struct cache_group *x = &e->cache.group[g];
        uint32_t n = x->n_free;
        for (const struct sequence *s = e->seqs; s < e->seqs + e->n_seqs; s++) {
            const int32_t *page = e->cache.tables + cache_table(&e->cache, &s->cache, g);
            for (uint32_t p = s->cache.first[g]; !s->open && p < s->cache.n_pages; p++)
                n += x->refs[page[p]] == 1;
        }
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
    return cache_rewind(&e->cache, &s->cache, n);
}

void engine_forget(struct engine *e, int32_t seq, uint32_t n)
{
    cache_rewind(&e->cache, &e->seqs[seq].cache, n);
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
    memcpy(t->tokens, f->tokens, n * sizeof *t->tokens);
    memcpy(t->given, f->given, n);
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

/* The best match among all sequences, open and closed, gives its pages; its own tail goes. Tokens that stay
 * known keep their roles, so that what leaves the cache comes back with the same bits. */
uint32_t engine_set(struct engine *e, int32_t seq, const int32_t *tokens, uint32_t n, uint32_t most)
{
    struct sequence *s = &e->seqs[seq];
    uint32_t same = common(s->tokens, tokens, n < s->known ? n : s->known);
    if (most > n - 1) most = n - 1;
    if (e->model->graph.bidirectional) most = 0;       /* what was computed saw another text */
    uint32_t best = cached(e, s, tokens, most);
    int32_t from = seq;
    for (uint32_t i = 0; i < e->n_seqs; i++) {
        uint32_t k = cached(e, &e->seqs[i], tokens, most);
        /* Another sequence's pages are worth it from a page on: below that the copy costs as much. */
        if (k > best + PAGE_SLOTS) {
            best = k;
            from = (int32_t)i;
        }
    }
    if (same < s->unchanged) s->unchanged = same;
    if (same > most) same = most;
    uint32_t unchanged = s->unchanged, old = same > best ? same : best;
    memmove(s->tokens, tokens, n * sizeof *s->tokens);      /* first of all: tokens may be its own */
    if (from != seq && engine_fork(e, from, seq, best, NULL) != STRETTO_OK) {
        best = 0;
        old = same;
    }
    s->unchanged = unchanged;
    cache_rewind(&e->cache, &s->cache, best);
    memset(s->given + old, 1, n - old);
    s->known = n;
    touch(e, s);
    return best;
}
