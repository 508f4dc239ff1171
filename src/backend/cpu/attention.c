/* Attention over the paged cache. Keys are visited in logical position order, in blocks of 64
 * positions whose borders are multiples of 64: one block, one page. Every block gives (max, sum,
 * accumulator) and blocks merge in ascending order, starting from nothing, so it does not matter
 * how many rows share a tile, or which thread takes which block
 * (online softmax, arXiv 1805.02867; tiles over queries, arXiv 2205.14135; blocks shared out,
 * "flash decoding").
 *
 * The rows of a guess tree share the blocks of committed positions like any others. In the blocks
 * behind, a row whose chain stands in slots of its own reads a copy of the page in which its
 * ancestors stand at their logical positions. */
#include "backend/cpu/cpu.h"
#include "kernels/kv.h"
#include <math.h>
#include <string.h>

struct scratch {
    float *q, *acc, *m, *sum, *acc2, *m2, *sum2, *logits;
    int8_t *codes; /* kv_coded: the queries by `quantize`, head_dim filled up with zeros */
    uint16_t *high, *low; /* attn_given: the queries by `split_bf16` */
    float *whole, *d, *s;
    int32_t *lo, *hi;
    void *k_page, *v_page;    /* a tree's page, and the slot that stands at each of its positions */
    int32_t held[ATTN_BLOCK];
    size_t queries;
};

attn_block_fn *attention_given(const struct program *p, size_t head_dim)
{
    bool takes = !p->limits.strict && attn_given_takes(head_dim);
    return takes ? p->w->kernels->attn_given[p->kv] : NULL;
}

/* Queries of a tile. A kernel for prompts takes a page apart once a tile. */
static size_t queries_at_once(const struct program *p)
{
    return attention_given(p, p->head_dim) ? TILE_GIVEN : TILE_QUERIES;
}

/* Sized for the largest tile of any layer; one code path measures and takes. */
struct scratch *attention_scratch(struct arena *a, const struct program *p)
{
    size_t n = queries_at_once(p), hd = p->head_dim;
    if (n < graph_sharing(p->g)) n = graph_sharing(p->g);
    struct scratch s = { .queries = n }, *out = arena_take(a, sizeof s);
    s.q = arena_take(a, n * hd * sizeof(float));
    s.acc = arena_take(a, n * hd * sizeof(float));
    s.acc2 = arena_take(a, n * hd * sizeof(float));
    s.m = arena_take(a, n * sizeof(float));
    s.sum = arena_take(a, n * sizeof(float));
    s.m2 = arena_take(a, n * sizeof(float));
    s.sum2 = arena_take(a, n * sizeof(float));
    size_t groups = kv_groups(hd);
    s.codes = arena_take(a, n * 32 * groups);
    s.high = arena_take(a, n * hd * sizeof(uint16_t));
    s.low = arena_take(a, n * hd * sizeof(uint16_t));
    s.whole = arena_take(a, 32 * groups * sizeof(float));
    s.d = arena_take(a, n * groups * sizeof(float));
    s.s = arena_take(a, groups * sizeof(float));
    s.lo = arena_take(a, n * sizeof(int32_t));
    s.hi = arena_take(a, n * sizeof(int32_t));
    s.k_page = arena_take(a, kv_k_bytes(p->kv, hd));
    s.v_page = arena_take(a, kv_v_bytes(p->kv, hd));
    s.logits = arena_take(a, (size_t)HEAD_ROWS * HEAD_COLS * sizeof(float));
    if (a->base && out) *out = s;
    return out;
}

float *scratch_logits(struct scratch *s) { return s->logits; }

void *page_head(const struct program *p, uint32_t group, int32_t page, uint32_t member, uint32_t head)
{
    const struct page_pool *x = &p->pool[group];
    return x->pages + (size_t)page * x->page_bytes
        + ((size_t)member * p->g->group[group].kv_heads + head) * x->head_bytes;
}

void *page_k(const struct program *p, const struct graph_node *n, size_t seq, int32_t b, uint32_t head)
{
    uint32_t group = n->attention.group;
    return page_head(p, group, step_page(p->step, group, seq, b), n->attention.member, head);
}

static const void *value_of(const struct program *p, const struct graph_node *n, const void *k)
{
    return (const unsigned char *)k + p->pool[n->attention.group].k_bytes;
}

/* ---- tiles
 * ------------------------------------------------------------------------------------------ */

/* Rows of one role from `row` on, at most n. */
static int32_t same_role(const struct step *s, int32_t row, int32_t n)
{
    int32_t i = 1;
    while (i < n && s->given[row + i] == s->given[row]) i++;
    return i;
}

/* Cuts the step's rows into tiles of at most `most` rows of one sequence and role; returns the rows of
 * partial results that they need when blocks are shared out: one for the owner, one a block. */
static size_t cut(struct program *p, int32_t most)
{
    const struct step *s = p->step;
    size_t partial = 0;
    p->n_tiles = 0;
    for (size_t q = 0; q < s->n_seqs; q++) {
        const struct step_seq *seq = &s->seqs[q];
        for (int32_t r = 0, n; r < seq->n_rows; r += n) {
            n = same_role(s, seq->first_row + r, seq->n_rows - r < most ? seq->n_rows - r : most);
            struct tile t = {seq->first_row + r, n, (int32_t)q, INT32_MAX, 0, partial,
                             s->given[seq->first_row + r] != 0};
            int32_t last = p->g->bidirectional ? seq->committed + seq->n_rows - 1 : 0;
            for (int32_t i = t.row; i < t.row + t.n_rows; i++) {
                if (s->position[i] < t.low) t.low = s->position[i];
                if (s->position[i] > last) last = s->position[i];
            }
            t.last_block = last / ATTN_BLOCK;
            partial += (size_t)t.n_rows * ((size_t)t.last_block + 2);
            p->tiles[p->n_tiles++] = t;
        }
    }
    return partial;
}

void attention_plan(struct program *p)
{
    p->n_tiles = 0;
    if (!p->g->n_groups) return;       /* a graph without attention has no cache */
    size_t heads = p->kv_heads, few = SHARED_JOBS * p->threads;
    int32_t most = (int32_t)(queries_at_once(p) / graph_sharing(p->g));
    size_t partial = cut(p, most < 1 ? 1 : most);
    p->share_blocks = false;
    if (p->threads == 1 || p->n_tiles * heads >= few) return;
    if (partial <= SPLIT_ROWS * ((size_t)p->limits.max_seq_pages + 1)) {
        p->share_blocks = true;
        return;
    }
    size_t tiles = (few + heads - 1) / heads;
    cut(p, (int32_t)((p->step->n_rows + tiles - 1) / tiles));
}

/* ---- one block
 * -------------------------------------------------------------------------------------- */

void slot_copy(const struct program *p, size_t hd, const void *k, const void *v, int32_t from,
               void *k_to, void *v_to, int32_t to)
{
    size_t size = kv_element(p->kv), f = (size_t)from, t = (size_t)to;
    for (size_t i = 0; i < hd; i++) {
        memcpy((char *)k_to + kv_k_at(p->kv, hd, i, t) * size,
               (const char *)k + kv_k_at(p->kv, hd, i, f) * size, size);
        memcpy((char *)v_to + kv_v_at(p->kv, hd, i, t) * size,
               (const char *)v + kv_v_at(p->kv, hd, i, f) * size, size);
    }
    if (!kv_coded(p->kv)) return;
    const float *dk = kv_k_scales(k, hd), *dv = kv_v_scales(p->kv, v, hd);
    float *dk_to = (float *)(uintptr_t)kv_k_scales(k_to, hd),
          *dv_to = (float *)(uintptr_t)kv_v_scales(p->kv, v_to, hd);
    for (size_t g = 0; g < kv_groups(hd); g++) {
        dk_to[g * ATTN_BLOCK + t] = dk[g * ATTN_BLOCK + f];
        dv_to[g * ATTN_BLOCK + t] = dv[g * ATTN_BLOCK + f];
    }
}

struct window { int32_t lo, hi; };         /* logical positions a row sees */

static struct window sees(const struct graph_node *n, const struct step_seq *seq, int32_t pos)
{
    if (!n->attention.causal) return (struct window){ 0, seq->committed + seq->n_rows };
    int32_t w = (int32_t)n->attention.window;
    return (struct window){ w && pos + 1 > w ? pos + 1 - w : 0, pos + 1 };
}

static int32_t first_block(const struct program *p, const struct graph_node *n,
                           const struct tile *t)
{
    return sees(n, &p->step->seqs[t->seq], t->low).lo / ATTN_BLOCK;
}

/* Makes the copy of block b that of tree row `row`: its chain at logical positions. What stands
 * behind the row's own position is left over from other rows, and not seen. */
static void gather(const struct program *p, const struct graph_node *n, uint32_t head, int32_t b,
                   int32_t row, struct scratch *s)
{
    const struct step *st = p->step;
    for (int32_t r = row, at = b * ATTN_BLOCK; r >= 0 && st->position[r] >= at; r = st->parent[r]) {
        int32_t j = st->position[r] - at, slot = st->slot[r];
        if (j >= ATTN_BLOCK || s->held[j] == slot) continue;
        const void *k = page_k(p, n, (size_t)st->seq[row], slot / ATTN_BLOCK, head);
        slot_copy(p, n->attention.head_dim, k, value_of(p, n, k), slot % ATTN_BLOCK, s->k_page,
                  s->v_page, j);
        s->held[j] = slot;
    }
}

/* The queries of one tile and one key/value head, in a thread's scratch. */
struct queries {
    const struct program *p;
    const struct graph_node *n;
    const struct tile *t;
    uint32_t head;
    struct scratch *s;
    size_t group, hd, n_q;           /* queries of a row, numbers of a query, queries */
};

struct page { const void *k, *v, *next_k; };     /* next_k: to be fetched ahead, or NULL */
struct sums { float *m, *sum, *acc; };           /* [n_q], [n_q], [n_q][hd] */

static struct queries load_queries(const struct program *p, const struct graph_node *n,
                                   const struct tile *t, uint32_t head, struct scratch *s)
{
    size_t hd = n->attention.head_dim, group = n->attention.heads / n->attention.kv_heads;
    size_t groups = kv_groups(hd), n_q = (size_t)t->n_rows * group;
    const struct place *q = &p->place[node_in(p->g, n, 0)];
    for (size_t r = 0; r < (size_t)t->n_rows; r++)
        memcpy(s->q + r * group * hd, q->f + ((size_t)t->row + r) * q->ld + head * group * hd,
               group * hd * sizeof(float));
    if (t->given && attention_given(p, hd))
        p->w->kernels->split_bf16(s->q, n_q * hd, s->high, s->low);
    if (kv_coded(p->kv)) memset(s->whole, 0, 32 * groups * sizeof(float));
    for (size_t i = 0; kv_coded(p->kv) && i < n_q; i++) {
        memcpy(s->whole, s->q + i * hd, hd * sizeof(float));
        p->w->kernels->quantize(s->whole, 32 * groups, s->codes + i * 32 * groups, s->d + i * groups,
                                s->s, NULL);
    }
    return (struct queries){ p, n, t, head, s, group, hd, n_q };
}

/* `n_q` of the queries, from query i on, over one page. */
static void attend(const struct queries *x, const struct page *page, size_t i, size_t n_q,
                   const struct sums *to)
{
    const struct scratch *s = x->s;
    attn_block_fn *fn = x->t->given ? attention_given(x->p, x->hd) : NULL;
    size_t hd = x->hd, groups = kv_groups(hd);
    struct attn_query a = {.q = s->q + i * hd,
                           .ldq = hd,
                           .codes = s->codes + i * 32 * groups,
                           .ldc = 32 * groups,
                           .d = s->d + i * groups,
                           .ldd = groups,
                           .high = s->high + i * hd,
                           .low = s->low + i * hd,
                           .ldh = hd,
                           .lo = s->lo + i,
                           .hi = s->hi + i,
                           .next_k = page->next_k,
                           .n_q = n_q,
                           .head_dim = hd,
                           .scale = x->n->attention.scale,
                           .softcap = x->n->attention.softcap};
    if (!fn) fn = x->p->w->kernels->attn_block[x->p->kv];
    fn(&a, page->k, page->v, to->m + i, to->sum + i, to->acc + i * hd);
}

/* The scratch's copy of a page, whose slot j then stands at position j of block b. */
static struct page copy_page(const struct queries *x, int32_t b, const struct page *page)
{
    struct scratch *s = x->s;
    memcpy(s->k_page, page->k, x->p->pool[x->n->attention.group].k_bytes);
    memcpy(s->v_page, page->v, x->p->pool[x->n->attention.group].v_bytes);
    for (int32_t j = 0; j < ATTN_BLOCK; j++) s->held[j] = b * ATTN_BLOCK + j;
    return (struct page){ s->k_page, s->v_page, NULL };
}

/* One block behind the committed ones, for the rows of a tree. Rows that stand where a chain would
 * (slot = position, and so their ancestors) read the page itself, together. */
static void tree_block(const struct queries *x, int32_t b, const struct page *page,
                       const struct sums *to)
{
    const struct tile *t = x->t;
    const struct step *st = x->p->step;
    struct page copy = { NULL, NULL, NULL };
    for (int32_t r = 0, rows = 1; r < t->n_rows; r += rows) {
        size_t i = (size_t)r * x->group;
        rows = 1;
        if (x->s->lo[i] >= x->s->hi[i]) {
            for (size_t e = i; e < i + x->group; e++) to->m[e] = -INFINITY;
        } else if (st->slot[t->row + r] == st->position[t->row + r]) {
            while (r + rows < t->n_rows
                   && st->slot[t->row + r + rows] == st->position[t->row + r + rows])
                rows++;
            attend(x, page, i, (size_t)rows * x->group, to);
        } else {
            if (!copy.k) copy = copy_page(x, b, page);
            gather(x->p, x->n, x->head, b, t->row + r, x->s);
            attend(x, &copy, i, x->group, to);
        }
    }
}

/* The queries over block b of their sequence. */
static void block(const struct queries *x, int32_t b, const struct sums *to)
{
    const struct program *p = x->p;
    const struct tile *t = x->t;
    const struct step_seq *seq = &p->step->seqs[t->seq];
    int32_t at = b * ATTN_BLOCK;
    for (size_t i = 0; i < x->n_q; i++) {
        struct window w = sees(x->n, seq, p->step->position[(size_t)t->row + i / x->group]);
        int32_t lo = w.lo - at, hi = w.hi - at;
        x->s->lo[i] = lo < 0 ? 0 : lo > ATTN_BLOCK ? ATTN_BLOCK : lo;
        x->s->hi[i] = hi < 0 ? 0 : hi > ATTN_BLOCK ? ATTN_BLOCK : hi;
    }
    const void *k = page_k(p, x->n, (size_t)t->seq, b, x->head);
    struct page page = { k, value_of(p, x->n, k), NULL };
    if (seq->tree && at + ATTN_BLOCK > seq->committed) {
        tree_block(x, b, &page, to);
        return;
    }
    if (b < t->last_block) page.next_k = page_k(p, x->n, (size_t)t->seq, b + 1, x->head);
    attend(x, &page, 0, x->n_q, to);
}

static void begin(const struct queries *x)
{
    for (size_t i = 0; i < x->n_q; i++) {
        x->s->m[i] = -INFINITY;
        x->s->sum[i] = 0;
    }
    memset(x->s->acc, 0, x->n_q * x->hd * sizeof(float));
}

static void finish(const struct program *p, const struct graph_node *n, const struct tile *t,
                   uint32_t head, const struct scratch *s)
{
    size_t hd = n->attention.head_dim, group = n->attention.heads / n->attention.kv_heads;
    const struct place *out = &p->place[n->out];
    for (size_t i = 0; i < (size_t)t->n_rows * group; i++) {
        float *to = out->f + ((size_t)t->row + i / group) * out->ld + (head * group + i % group) * hd;
        p->w->kernels->attn_finish(hd, s->acc + i * hd, s->sum[i], to);
        if (kv_rotated(p->kv)) kv_rotate(to, hd);
    }
}

/* ---- jobs: one tile and one head
 * -------------------------------------------------------------------- */

/* The thread that takes a job visits its blocks in ascending order and merges them as it goes.
 * Where jobs are few, a thread that finds none left takes blocks from the end of another's and
 * leaves their results in p->partial; whoever finishes last merges those, in order. */

static void job_begin(const struct program *p, const struct graph_node *n, size_t item,
                      struct attention_job *j)
{
    size_t heads = n->attention.kv_heads;
    const struct tile *t = &p->tiles[item / heads];
    uint32_t first = (uint32_t)first_block(p, n, t), end = (uint32_t)t->last_block + 1;
    j->tile = t;
    j->head = (uint32_t)(item % heads);
    atomic_store_explicit(&j->left, (uint64_t)end << 32 | first, memory_order_relaxed);
    atomic_store_explicit(&j->todo, end - first + 1, memory_order_relaxed);
}

void attention_begin(struct program *p, const struct phase *ph)
{
    size_t n = attention_items(p, ph);
    for (size_t i = 0; p->share_blocks && i < n; i++) job_begin(p, ph->node, i, &p->jobs[i]);
}

size_t attention_items(const struct program *p, const struct phase *ph)
{
    return p->n_tiles * ph->node->attention.kv_heads;
}

static uint32_t blocks_left(const struct attention_job *j)
{
    uint64_t left = atomic_load_explicit(&j->left, memory_order_relaxed);
    return (uint32_t)(left >> 32) - (uint32_t)left;
}

/* The first block that nobody has taken, or the last; -1 when there is none. */
static int32_t take_block(struct attention_job *j, bool last)
{
    uint64_t left = atomic_load_explicit(&j->left, memory_order_relaxed), rest;
    do {
        if ((uint32_t)left == (uint32_t)(left >> 32)) return -1;
        rest = last ? left - ((uint64_t)1 << 32) : left + 1;
    } while (!atomic_compare_exchange_weak_explicit(&j->left, &left, rest, memory_order_relaxed,
                                                    memory_order_relaxed));
    return (int32_t)(last ? rest >> 32 : (uint32_t)left);
}

/* Where (acc, m, sum) of a job's block stand; block -1: of all that its owner merged. */
static float *partial(const struct program *p, const struct graph_node *n,
                      const struct attention_job *j, int32_t block)
{
    size_t heads = n->attention.kv_heads, group = n->attention.heads / heads;
    size_t rows = (size_t)j->tile->n_rows, at = j->tile->partial + (size_t)(block + 1) * rows;
    return p->partial + (at * heads + j->head * rows) * group * (n->attention.head_dim + 2);
}

/* `done` more blocks of the job are finished, the owner's place being one; the last to say so
 * merges what helpers left. */
static void job_done(struct program *p, const struct phase *ph, struct attention_job *j,
                     uint32_t done, struct scratch *s)
{
    if (atomic_fetch_sub_explicit(&j->todo, done, memory_order_acq_rel) != done) return;
    const struct graph_node *n = ph->node;
    const struct tile *t = j->tile;
    size_t hd = n->attention.head_dim, group = n->attention.heads / n->attention.kv_heads;
    size_t n_q = (size_t)t->n_rows * group;
    int32_t b = (int32_t)(uint32_t)atomic_load_explicit(&j->left, memory_order_relaxed);
    const float *x = partial(p, n, j, -1);
    memcpy(s->acc, x, n_q * hd * sizeof *x);
    memcpy(s->m, x + n_q * hd, n_q * sizeof *x);
    memcpy(s->sum, x + n_q * (hd + 1), n_q * sizeof *x);
    for (; b <= t->last_block; b++) {
        x = partial(p, n, j, b);
        p->w->kernels->attn_merge(n_q, hd, s->m, s->sum, s->acc, x + n_q * hd, x + n_q * (hd + 1),
                                 x);
    }
    finish(p, n, t, j->head, s);
}

/* The owner's way through a job. If nobody helped, its merge is the result; else what it has goes beside the
 * helpers' blocks, and whoever is last merges them in ascending order. */
static void job_own(struct program *p, const struct phase *ph, struct attention_job *j,
                    struct scratch *s)
{
    const struct graph_node *n = ph->node;
    const struct tile *t = j->tile;
    uint32_t done = 0;
    struct queries x = load_queries(p, n, t, j->head, s);
    struct sums to = { s->m2, s->sum2, s->acc2 };
    size_t hd = x.hd, n_q = x.n_q;
    begin(&x);
    for (int32_t b; (b = take_block(j, false)) >= 0; done++) {
        block(&x, b, &to);
        p->w->kernels->attn_merge(n_q, hd, s->m, s->sum, s->acc, s->m2, s->sum2, s->acc2);
    }
    if (done == (uint32_t)t->last_block + 1 - (uint32_t)first_block(p, n, t)) {
        finish(p, n, t, j->head, s);
        return;
    }
    float *mine = partial(p, n, j, -1);
    memcpy(mine, s->acc, n_q * hd * sizeof *mine);
    memcpy(mine + n_q * hd, s->m, n_q * sizeof *mine);
    memcpy(mine + n_q * (hd + 1), s->sum, n_q * sizeof *mine);
    job_done(p, ph, j, done + 1, s);
}

void attention_item(struct program *p, const struct phase *ph, size_t item, unsigned rank)
{
    if (p->share_blocks) {
        job_own(p, ph, &p->jobs[item], p->scratch[rank]);
        return;
    }
    struct attention_job j;
    job_begin(p, ph->node, item, &j);
    job_own(p, ph, &j, p->scratch[rank]);
}

/* The job with the most blocks left is helped from its end, away from its owner. */
void attention_help(struct program *p, const struct phase *ph, unsigned rank)
{
    const struct graph_node *n = ph->node;
    struct scratch *s = p->scratch[rank];
    size_t items = p->share_blocks ? attention_items(p, ph) : 0;
    struct queries x = { .n_q = 0 };
    struct attention_job *loaded = NULL;
    for (;;) {
        struct attention_job *j = NULL;
        for (size_t i = 0; i < items; i++)
            if (blocks_left(&p->jobs[i]) > (j ? blocks_left(j) : 0)) j = &p->jobs[i];
        if (!j) return;
        int32_t b = take_block(j, true);
        if (b < 0) continue;
        if (j != loaded) x = load_queries(p, n, j->tile, j->head, s);
        loaded = j;
        float *acc = partial(p, n, j, b);
        block(&x, b, &(struct sums){ acc + x.n_q * x.hd, acc + x.n_q * (x.hd + 1), acc });
        job_done(p, ph, j, 1, s);
    }
}
