#include "train/phrases.h"
#include "base/hash.h"
#include "base/memory.h"
#include "text/tokenizer.h"
#include <stdlib.h>
#include <string.h>

enum { SPLIT_LINE = 20, SPLIT_HERE = 21, BORDER = -1, ROUNDS = 8 };     /* the first two: what random_at is asked for */

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory for phrases"); }

/* ---- runs of tokens that are learned --------------------------------------------------------- */

/* The tokens of a sample that count alike, from *at on; false: no more. */
static bool next_run(const struct lines *l, const struct sample *s, uint32_t *at, uint32_t *n)
{
    const float *w = sample_weights(l, s);
    uint32_t i = *at + *n;
    while (i < s->n && !(w[i] > 0)) i++;
    *at = i;
    for (*n = 0; i < s->n && w[i] == w[*at]; i++) ++*n;
    return *n > 0;
}

struct corpus {
    int32_t *id;             /* runs, each with a BORDER behind it       */
    uint32_t *group;         /* of each token; groups are neighbours     */
    size_t n;
};

struct ordered { uint64_t group; size_t sample; };

static int by_group(const void *a, const void *b)
{
    const struct ordered *x = a, *y = b;
    if (x->group != y->group) return x->group < y->group ? -1 : 1;
    return (x->sample > y->sample) - (x->sample < y->sample);
}

static void put_sample(struct corpus *c, const struct lines *l, const struct sample *s, uint32_t group)
{
    for (uint32_t at = 0, n = 0; next_run(l, s, &at, &n); c->n++) {
        memcpy(c->id + c->n, sample_ids(l, s) + at, n * sizeof *c->id);
        for (uint32_t i = 0; i <= n; i++) c->group[c->n + i] = group;
        c->n += n;
        c->id[c->n] = BORDER;
    }
}

static stretto_status make_corpus(struct corpus *c, const struct lines *l, struct error *err)
{
    struct ordered *order = mem_alloc((l->n + 1) * sizeof *order);
    uint32_t group = 0;
    *c = (struct corpus){ .id = mem_alloc((2 * l->learned + 1) * sizeof *c->id),
                          .group = mem_alloc((2 * l->learned + 1) * sizeof *c->group) };
    if (!order || !c->id || !c->group) {
        mem_free(order);
        return no_memory(err);
    }
    for (size_t i = 0; i < l->n; i++) order[i] = (struct ordered){ l->sample[i].group, i };
    qsort(order, l->n, sizeof *order, by_group);
    for (size_t i = 0; i < l->n; i++) {
        bool same = i && order[i].group && order[i].group == order[i - 1].group;
        put_sample(c, l, &l->sample[order[i].sample], same ? group : ++group);
    }
    mem_free(order);
    return STRETTO_OK;
}

static void corpus_done(struct corpus *c)
{
    mem_free(c->id);
    mem_free(c->group);
}

/* ---- pairs ----------------------------------------------------------------------------------- */

struct pair { int32_t left, right; uint64_t count; uint32_t groups, last; bool refused; };
struct pairs { struct pair *item; uint32_t *slot; size_t n, cap, mask; };

static void pairs_done(struct pairs *p)
{
    mem_free(p->item);
    mem_free(p->slot);
}

static uint32_t *slot_of(const struct pairs *p, int32_t left, int32_t right)
{
    size_t i = (size_t)random_mix((uint64_t)(uint32_t)left << 32 | (uint32_t)right) & p->mask;
    while (p->slot[i] && (p->item[p->slot[i] - 1].left != left || p->item[p->slot[i] - 1].right != right))
        i = (i + 1) & p->mask;
    return &p->slot[i];
}

static stretto_status pairs_grow(struct pairs *p)
{
    size_t cap = p->cap ? 2 * p->cap : 1 << 14;
    struct pair *item = mem_resize(p->item, cap * sizeof *item);
    if (!item) return STRETTO_E_NOMEM;
    p->item = item;
    uint32_t *slot = mem_zalloc(2 * cap, sizeof *slot);
    if (!slot) return STRETTO_E_NOMEM;
    mem_free(p->slot);
    p->slot = slot;
    p->cap = cap;
    p->mask = 2 * cap - 1;
    for (size_t i = 0; i < p->n; i++) *slot_of(p, item[i].left, item[i].right) = (uint32_t)i + 1;
    return STRETTO_OK;
}

static stretto_status pair_of(struct pairs *p, int32_t left, int32_t right, struct pair **out)
{
    if (p->n == p->cap) TRY(pairs_grow(p));
    uint32_t *slot = slot_of(p, left, right);
    if (!*slot) {
        p->item[p->n] = (struct pair){ .left = left, .right = right };
        *slot = (uint32_t)++p->n;
    }
    *out = &p->item[*slot - 1];
    return STRETTO_OK;
}

/* Groups come one after the other, so each is counted once. */
static stretto_status pair_more(struct pairs *p, int32_t left, int32_t right, uint32_t group)
{
    struct pair *x;
    if (left == BORDER || right == BORDER) return STRETTO_OK;
    TRY(pair_of(p, left, right, &x));
    x->count++;
    if (x->last != group) x->groups++;
    x->last = group;
    return STRETTO_OK;
}

static void pair_less(struct pairs *p, int32_t left, int32_t right)
{
    uint32_t at = left == BORDER || right == BORDER ? 0 : *slot_of(p, left, right);
    if (at && p->item[at - 1].count) p->item[at - 1].count--;
}

static stretto_status count_pairs(struct pairs *p, const struct corpus *c)
{
    for (size_t i = 0; i + 1 < c->n; i++) TRY(pair_more(p, c->id[i], c->id[i + 1], c->group[i]));
    return STRETTO_OK;
}

static bool better(const struct pair *a, const struct pair *b)
{
    if (!b || a->count != b->count) return !b || a->count > b->count;
    return a->left != b->left ? a->left < b->left : a->right < b->right;
}

static struct pair *best_pair(const struct pairs *p, uint32_t least)
{
    struct pair *best = NULL;
    for (size_t i = 0; i < p->n; i++)
        if (p->item[i].count >= least && p->item[i].groups >= least && !p->item[i].refused && better(&p->item[i], best))
            best = &p->item[i];
    return best;
}

/* Groups were counted when the pair came up; since then other merges have taken some of it. */
static uint32_t groups_now(const struct corpus *c, const struct pair *x)
{
    uint32_t groups = 0, last = 0;
    for (size_t i = 0; i + 1 < c->n; i++)
        if (c->id[i] == x->left && c->id[i + 1] == x->right && c->group[i] != last) groups++, last = c->group[i];
    return groups;
}

/* ---- merging --------------------------------------------------------------------------------- */

struct merged { uint32_t at, n; bool dropped; };    /* pieces of the learner's list                     */

struct finder {
    const struct tokenizer *t;
    int32_t vocab;
    struct corpus corpus;
    struct pairs pairs;
    struct merged *merged; size_t n, cap;           /* merge i is the token vocab + i                   */
    struct tokens piece;                            /* of all merges                                    */
    struct buffer word;
};

static stretto_status append_pieces(struct finder *f, int32_t id)
{
    if (id < f->vocab) return tokens_push(&f->piece, id);
    struct merged m = f->merged[id - f->vocab];
    for (uint32_t i = 0; i < m.n; i++) TRY(tokens_push(&f->piece, f->piece.id[m.at + i]));
    return STRETTO_OK;
}

/* Whether the pair may be a token; then its pieces are the last of the list. */
static stretto_status spellable(struct finder *f, const struct pair *x, bool *may, struct error *err)
{
    size_t had = f->piece.n;
    *may = false;
    if (append_pieces(f, x->left) != STRETTO_OK || append_pieces(f, x->right) != STRETTO_OK) return no_memory(err);
    buffer_clear(&f->word);
    stretto_status s = f->piece.n - had > PHRASE_PIECES ? STRETTO_E_ARG
                     : tokenizer_phrase(f->t, f->piece.id + had, f->piece.n - had, &f->word, err);
    *may = s == STRETTO_OK;
    if (!*may) f->piece.n = had;
    return s == STRETTO_E_ARG ? STRETTO_OK : s;
}

/* In a single pass, which also tells the pairs what became of them. */
static stretto_status merge(struct finder *f, int32_t left, int32_t right, int32_t made)
{
    struct corpus *c = &f->corpus;
    struct pairs *p = &f->pairs;
    size_t to = 0;
    for (size_t i = 0; i < c->n; i++, to++) {
        bool here = i + 1 < c->n && c->id[i] == left && c->id[i + 1] == right;
        int32_t before = to ? c->id[to - 1] : BORDER, after = i + 2 < c->n ? c->id[i + 2] : BORDER;
        uint32_t group = c->group[i];
        if (here) {
            pair_less(p, before, left);
            pair_less(p, left, right);
            pair_less(p, right, after);
            TRY(pair_more(p, before, made, group));
            TRY(pair_more(p, made, after, group));
            c->id[to] = made;
            i++;
        } else c->id[to] = c->id[i];
        c->group[to] = group;
    }
    c->n = to;
    return STRETTO_OK;
}

static stretto_status add_merge(struct finder *f, size_t at, struct error *err)
{
    if (f->n == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 256;
        struct merged *m = mem_resize(f->merged, cap * sizeof *m);
        if (!m) return no_memory(err);
        f->merged = m;
        f->cap = cap;
    }
    f->merged[f->n++] = (struct merged){ .at = (uint32_t)at, .n = (uint32_t)(f->piece.n - at) };
    return STRETTO_OK;
}

/* The next merge; *done where there is none. */
static stretto_status step(struct finder *f, bool *done, struct error *err)
{
    for (;;) {
        struct pair *x = best_pair(&f->pairs, PHRASE_GROUPS);
        size_t at = f->piece.n;
        bool may;
        *done = !x;
        if (!x) return STRETTO_OK;
        TRY(spellable(f, x, &may, err));
        if (may && groups_now(&f->corpus, x) < PHRASE_GROUPS) {
            may = false;
            f->piece.n = at;
        }
        x->refused = !may;
        if (!may) continue;
        int32_t left = x->left, right = x->right;
        TRY(add_merge(f, at, err));
        return merge(f, left, right, f->vocab + (int32_t)f->n - 1) == STRETTO_OK ? STRETTO_OK : no_memory(err);
    }
}

/* ---- what they are worth --------------------------------------------------------------------- */

static stretto_status table_of(const struct finder *f, struct phrases *p, uint32_t *from, struct error *err)
{
    uint32_t *length = mem_alloc((f->n + 1) * sizeof *length);
    int32_t *piece = mem_alloc((f->piece.n + 1) * sizeof *piece);
    size_t n = 0, pieces = 0;
    for (size_t i = 0; length && piece && i < f->n; i++) {
        if (f->merged[i].dropped) continue;
        memcpy(piece + pieces, f->piece.id + f->merged[i].at, f->merged[i].n * sizeof *piece);
        pieces += f->merged[i].n;
        from[n] = (uint32_t)i;
        length[n++] = f->merged[i].n;
    }
    phrases_done(p);
    stretto_status s = length && piece ? phrases_make(p, f->vocab, length, n, piece, err) : no_memory(err);
    mem_free(length);
    mem_free(piece);
    return s;
}

/* Tokens up to the next border that a phrase might take. */
static size_t run_length(const struct phrases *p, const struct corpus *c, size_t from)
{
    size_t n = 0;
    while (n < p->longest && from + n < c->n && c->id[from + n] != BORDER) n++;
    return n;
}

/* Counts what l's answers are with phrases: uses and groups of each (either may be NULL). The number of tokens. */
static uint64_t count_uses(const struct phrases *p, const struct corpus *c, uint64_t *uses, uint32_t *groups,
                           uint32_t *last)
{
    uint64_t tokens = 0;
    for (size_t i = 0, taken; i < c->n; i += taken) {
        int32_t id;
        taken = phrases_match(p, c->id + i, run_length(p, c, i), &id);
        tokens += c->id[i] != BORDER;
        if (!taken) {
            taken = 1;
            continue;
        }
        id -= p->first;
        uses[id]++;
        if (!groups || last[id] == c->group[i]) continue;
        groups[id]++;
        last[id] = c->group[i];
    }
    return tokens;
}

/* The answers as they are with phrases, whose tokens are those of the merges that made them. */
static stretto_status respell_corpus(struct finder *f, const struct corpus *whole, const struct phrases *p,
                                     const uint32_t *from)
{
    struct corpus *c = &f->corpus;
    c->n = 0;
    for (size_t i = 0, taken; i < whole->n; i += taken, c->n++) {
        int32_t id = whole->id[i];
        taken = phrases_match(p, whole->id + i, run_length(p, whole, i), &id);
        c->id[c->n] = taken ? f->vocab + (int32_t)from[id - p->first] : id;
        c->group[c->n] = whole->group[i];
        taken += !taken;
    }
    f->pairs.n = 0;
    if (f->pairs.cap) memset(f->pairs.slot, 0, 2 * f->pairs.cap * sizeof *f->pairs.slot);
    return count_pairs(&f->pairs, c);
}

struct counts { uint64_t *uses; uint32_t *groups, *last, *from; uint64_t tokens; };

static void counts_done(struct counts *k)
{
    mem_free(k->uses);
    mem_free(k->groups);
    mem_free(k->last);
    mem_free(k->from);
}

static bool counts_make(struct counts *k, size_t n)
{
    *k = (struct counts){ .uses = mem_zalloc(n + 1, sizeof *k->uses), .groups = mem_zalloc(n + 1, sizeof *k->groups),
                          .last = mem_zalloc(n + 1, sizeof *k->last), .from = mem_zalloc(n + 1, sizeof *k->from) };
    return k->uses && k->groups && k->last && k->from;
}

/* A phrase that others have swallowed, or that saves less than the next merge would, gives up its token: it was a step
 * to them. Merging goes on from what the others make of the answers. How many they are. */
static stretto_status drop_poor(struct finder *f, const struct corpus *whole, struct phrases *p, size_t *kept,
                                struct error *err)
{
    struct counts k;
    const struct pair *next = best_pair(&f->pairs, PHRASE_GROUPS);
    uint64_t worth = next ? next->count : 0;
    stretto_status s = counts_make(&k, f->n) ? table_of(f, p, k.from, err) : no_memory(err);
    *kept = 0;
    if (s == STRETTO_OK) count_uses(p, whole, k.uses, k.groups, k.last);
    for (size_t i = 0; s == STRETTO_OK && i < p->n; i++) {
        bool poor = k.groups[i] < PHRASE_GROUPS || k.uses[i] * (phrase_length(p, i) - 1) < worth;
        f->merged[k.from[i]].dropped = poor;
        *kept += !poor;
    }
    if (s == STRETTO_OK) s = table_of(f, p, k.from, err);
    if (s == STRETTO_OK && respell_corpus(f, whole, p, k.from) != STRETTO_OK) s = no_memory(err);
    counts_done(&k);
    return s;
}

static stretto_status find(struct finder *f, const struct corpus *whole, size_t n, struct phrases *p, struct error *err)
{
    size_t kept = 0;
    bool done = false;
    for (int round = 0; round < ROUNDS && kept < n; round++) {
        size_t had = kept;
        while (kept < n && !done) {
            TRY(step(f, &done, err));
            kept += !done;
        }
        if (kept == had || round + 1 == ROUNDS) break;
        done = false;
        TRY(drop_poor(f, whole, p, &kept, err));
    }
    return STRETTO_OK;
}

/* ---- the answer ------------------------------------------------------------------------------ */

struct ranked { uint64_t saved; uint32_t i; };

static int by_saved(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->saved != y->saved) return x->saved > y->saved ? -1 : 1;
    return (x->i > y->i) - (x->i < y->i);
}

/* The same phrases, those that save most first. */
static stretto_status rank(struct phrases *p, const uint64_t *uses, struct error *err)
{
    struct ranked *r = mem_alloc((p->n + 1) * sizeof *r);
    uint32_t *length = mem_alloc((p->n + 1) * sizeof *length);
    int32_t *piece = mem_alloc((p->at[p->n] + 1) * sizeof *piece);
    struct phrases sorted = { 0 };
    size_t pieces = 0;
    bool room = r && length && piece;
    for (uint32_t i = 0; room && i < p->n; i++) r[i] = (struct ranked){ uses[i] * (phrase_length(p, i) - 1), i };
    if (room) qsort(r, p->n, sizeof *r, by_saved);
    for (uint32_t i = 0; room && i < p->n; i++) {
        length[i] = phrase_length(p, r[i].i);
        memcpy(piece + pieces, p->piece + p->at[r[i].i], length[i] * sizeof *piece);
        pieces += length[i];
    }
    stretto_status s = room ? phrases_make(&sorted, p->first, length, p->n, piece, err) : no_memory(err);
    mem_free(r);
    mem_free(length);
    mem_free(piece);
    phrases_done(p);
    *p = sorted;
    return s;
}

static stretto_status spell_all(struct found_phrases *x, const struct tokenizer *t, struct error *err)
{
    struct buffer b = buffer_make((size_t)1 << 28);
    const struct phrases *p = &x->table;
    x->spelled_at = mem_zalloc(p->n + 1, sizeof *x->spelled_at);
    stretto_status s = x->spelled_at ? STRETTO_OK : no_memory(err);
    for (size_t i = 0; i < p->n && s == STRETTO_OK; i++) {
        s = tokenizer_phrase(t, p->piece + p->at[i], phrase_length(p, i), &b, err);
        x->spelled_at[i + 1] = (uint32_t)b.len;
    }
    if (s != STRETTO_OK) buffer_done(&b);
    x->spelled = b.data;
    return s;
}

static stretto_status count_all(struct found_phrases *x, const struct corpus *whole, const struct lines *held,
                                struct error *err)
{
    struct counts k, h = { 0 };
    struct corpus c = { 0 };
    size_t n = x->table.n;
    stretto_status s = counts_make(&k, n) && counts_make(&h, n) ? STRETTO_OK : no_memory(err);
    if (s == STRETTO_OK) count_uses(&x->table, whole, k.uses, k.groups, k.last);
    if (s == STRETTO_OK) s = rank(&x->table, k.uses, err);
    if (s == STRETTO_OK) s = make_corpus(&c, held, err);
    x->phrase = mem_zalloc(n + 1, sizeof *x->phrase);
    if (!x->phrase) s = no_memory(err);
    if (s == STRETTO_OK) {
        memset(k.uses, 0, n * sizeof *k.uses);
        memset(k.groups, 0, n * sizeof *k.groups);
        memset(k.last, 0, n * sizeof *k.last);
        x->joined = count_uses(&x->table, whole, k.uses, k.groups, k.last);
        x->held_joined = count_uses(&x->table, &c, h.uses, NULL, NULL);
        for (size_t i = 0; i < n; i++) x->phrase[i] = (struct found_phrase){ k.uses[i], k.groups[i], h.uses[i] };
    }
    counts_done(&k);
    counts_done(&h);
    corpus_done(&c);
    return s;
}

stretto_status phrases_find(struct found_phrases *x, const struct tokenizer *t, const struct lines *l,
                            const struct lines *held, size_t n, struct error *err)
{
    struct finder f = { .t = t, .vocab = (int32_t)tokenizer_size(t), .word = buffer_make(1 << 20) };
    struct corpus whole = { 0 };
    *x = (struct found_phrases){ .learned = l->learned, .held_learned = held->learned };
    stretto_status s = make_corpus(&f.corpus, l, err);
    if (s == STRETTO_OK) s = make_corpus(&whole, l, err);
    if (s == STRETTO_OK && count_pairs(&f.pairs, &f.corpus) != STRETTO_OK) s = no_memory(err);
    if (s == STRETTO_OK) s = find(&f, &whole, n, &x->table, err);
    uint32_t *from = mem_alloc((f.n + 1) * sizeof *from);
    if (s == STRETTO_OK) s = from ? table_of(&f, &x->table, from, err) : no_memory(err);
    if (s == STRETTO_OK) s = count_all(x, &whole, held, err);
    if (s == STRETTO_OK) s = spell_all(x, t, err);
    mem_free(from);
    corpus_done(&f.corpus);
    corpus_done(&whole);
    pairs_done(&f.pairs);
    mem_free(f.merged);
    tokens_done(&f.piece);
    buffer_done(&f.word);
    if (s != STRETTO_OK) found_phrases_done(x);
    return s;
}

void found_phrases_done(struct found_phrases *f)
{
    phrases_done(&f->table);
    mem_free(f->phrase);
    mem_free(f->spelled);
    mem_free(f->spelled_at);
    *f = (struct found_phrases){ 0 };
}

/* ---- lines with phrases ---------------------------------------------------------------------- */

struct respelling { struct lines *l; const struct phrases *p; uint64_t seed, text; bool split; uint32_t to; };

static void put(struct respelling *r, struct sample *s, int32_t id, float weight)
{
    r->l->id[s->at + r->to] = id;
    r->l->weight[s->at + r->to] = weight;
    if (weight > 0) {
        if (!s->first) s->first = r->to;
        s->last = r->to;
        r->l->learned++;
    }
    r->to++;
}

/* What a model has written is spelled as it wrote it. */
static void keep_spelling(struct lines *l, const struct sample *s)
{
    for (uint32_t i = s->first; i <= s->last; i++) l->learned += sample_weights(l, s)[i] > 0;
}

static void respell(struct respelling *r, struct sample *s)
{
    const struct lines *l = r->l;
    uint32_t n = s->n, at = 0, run = 0, i = 0, taken;
    r->to = s->first = s->last = 0;
    while (i < n) {
        int32_t id = l->id[s->at + i];
        float weight = l->weight[s->at + i];
        if (i >= at + run && !next_run(l, s, &at, &run)) at = n;
        taken = i < at ? 0 : (uint32_t)phrases_match(r->p, l->id + s->at + i, at + run - i, &id);
        if (taken && r->split && random_at(r->seed, SPLIT_HERE, r->text, i) & 1) {
            taken = 0;
            id = l->id[s->at + i];
        }
        put(r, s, id, weight);
        i += taken ? taken : 1;
    }
    s->n = r->to;
}

/* Tokens become fewer, so samples stay where they are. */
void phrases_respell(struct lines *l, const struct phrases *p, bool split, uint64_t seed)
{
    l->learned = l->longest = 0;
    for (size_t i = 0; i < l->n; i++) {
        struct sample *s = &l->sample[i];
        struct respelling r = { .l = l, .p = p, .seed = seed,
                                .text = hash_bytes(0, sample_ids(l, s), s->n * sizeof *l->id) };
        r.split = split && random_at(seed, SPLIT_LINE, r.text, 0) % PHRASES_SPLIT == 0;
        if (s->states) keep_spelling(l, s);
        else respell(&r, s);
        if (s->n <= l->longest) continue;
        l->longest = s->n;
        l->longest_line = s->line;
        l->longest_file = s->file;
    }
}
