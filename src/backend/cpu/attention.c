/* Attention over the paged cache. Keys are visited in logical position order, in blocks of 64
 * positions whose borders are multiples of 64: one block, one page. Every block gives (max, sum,
 * accumulator) and blocks merge in ascending order, starting from nothing, so it does not matter
 * how many rows share a tile, which thread takes which block, or whether one thread takes them all
 * (online softmax, arXiv 1805.02867; tiles over queries, arXiv 2205.14135; blocks shared out,
 * "flash decoding").
 *
 * A row of a guess tree reads its tail through a copy of the page in which its ancestors stand at
 * their logical positions; from there on it is a row like any other. */
#include "backend/cpu/cpu.h"
#include <math.h>
#include <string.h>

struct scratch {
    float *q, *acc, *m, *sum, *acc2, *m2, *sum2, *logits;
    int32_t *lo, *hi, *chain;
    void *k_page, *v_page;
    size_t queries;
};

static size_t tile_queries(const struct program *p)
{
    size_t most = TILE_QUERIES;
    for (size_t i = 0; i < p->g->n_nodes; i++)
        if (p->g->nodes[i].op == OP_ATTENTION) {
            size_t group = p->g->nodes[i].attention.heads / p->g->nodes[i].attention.kv_heads;
            if (group > most) most = group;
        }
    return most;
}

struct scratch *attention_scratch(struct arena *a, const struct program *p)
{
    size_t n = tile_queries(p), hd = p->g->kv_head_dim;
    struct scratch s = { .queries = n }, *out = arena_take(a, sizeof s);
    s.q = arena_take(a, n * hd * sizeof(float));
    s.acc = arena_take(a, n * hd * sizeof(float));
    s.acc2 = arena_take(a, n * hd * sizeof(float));
    s.m = arena_take(a, n * sizeof(float));
    s.sum = arena_take(a, n * sizeof(float));
    s.m2 = arena_take(a, n * sizeof(float));
    s.sum2 = arena_take(a, n * sizeof(float));
    s.lo = arena_take(a, n * sizeof(int32_t));
    s.hi = arena_take(a, n * sizeof(int32_t));
    s.chain = arena_take(a, p->limits.max_rows * sizeof(int32_t));
    s.k_page = arena_take(a, kv_k_bytes(p->kv, hd));
    s.v_page = arena_take(a, kv_v_bytes(p->kv, hd));
    s.logits = arena_take(a, (size_t)HEAD_ROWS * HEAD_PANELS * PANEL_COLS * sizeof(float));
    if (a->base && out) *out = s;
    return out;
}

float *scratch_logits(struct scratch *s) { return s->logits; }

void *page_k(const struct program *p, int32_t page, int32_t layer, uint32_t head)
{
    return p->pages + (size_t)page * p->page_bytes
        + ((size_t)layer * p->g->kv_heads + head) * p->head_bytes;
}

void *page_v(const struct program *p, int32_t page, int32_t layer, uint32_t head)
{
    return (unsigned char *)page_k(p, page, layer, head) + p->k_bytes;
}

/* ---- tiles
 * ------------------------------------------------------------------------------------------ */

void attention_plan(struct program *p)
{
    const struct step *s = p->step;
    const struct graph *g = p->g;
    uint32_t group = 1;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == OP_ATTENTION) {
            group = g->nodes[i].attention.heads / g->nodes[i].attention.kv_heads;
            break;
        }
    int32_t most = (int32_t)(TILE_QUERIES / group);
    if (most < 1) most = 1;
    p->n_tiles = p->n_spans = 0;
    int32_t rows_before = 0;
    size_t blocks = 0;
    for (size_t q = 0; q < s->n_seqs; q++) {
        const struct step_seq *seq = &s->seqs[q];
        int32_t step = seq->tree ? 1 : most, end = seq->committed + seq->n_rows;
        for (int32_t r = 0; r < seq->n_rows; r += step) {
            struct tile t = {seq->first_row + r, seq->n_rows - r < step ? seq->n_rows - r : step,
                             (int32_t)q, 0};
            int32_t last = g->bidirectional ? end - 1 : s->position[t.row + t.n_rows - 1];
            t.last_block = last / ATTN_BLOCK;
            blocks += (size_t)t.last_block + 1;
            p->tiles[p->n_tiles++] = t;
        }
    }
    unsigned threads = team_size(p->team);
    p->split_context = threads > 1 && s->n_rows <= SPLIT_ROWS && blocks >= 4
        && p->n_tiles * g->kv_heads < 4 * (size_t)threads;
    if (!p->split_context) return;
    for (size_t t = 0; t < p->n_tiles; t++)
        for (int32_t b = 0; b <= p->tiles[t].last_block; b++) {
            p->spans[p->n_spans++] = (struct span){ (int32_t)t, b, rows_before };
            rows_before += p->tiles[t].n_rows;
        }
}

size_t attention_items(const struct program *p, const struct phase *ph, enum attention_part part)
{
    size_t heads = ph->node->attention.kv_heads;
    return (part == ATTENTION_SPAN ? p->n_spans : p->n_tiles) * heads;
}

/* ---- one block
 * -------------------------------------------------------------------------------------- */

void slot_copy(const struct program *p, const void *k, const void *v, int32_t from, void *k_to,
               void *v_to, int32_t to)
{
    static const size_t sizes[KV_COUNT] = { 4, 2, 2, 1 };
    size_t e = sizes[p->kv], hd = p->g->kv_head_dim, f = (size_t)from, t = (size_t)to;
    for (size_t d = 0; d < hd; d++)
        memcpy((char *)k_to + (d * ATTN_BLOCK + t) * e, (const char *)k + (d * ATTN_BLOCK + f) * e,
               e);
    memcpy((char *)v_to + t * hd * e, (const char *)v + f * hd * e, hd * e);
    if (p->kv != KV_Q8) return;
    size_t groups = (hd + 31) / 32, codes = hd * ATTN_BLOCK;
    float *kt = (float *)((char *)k_to + codes), *vt = (float *)((char *)v_to + codes);
    const float *kf = (const float *)((const char *)k + codes),
                *vf = (const float *)((const char *)v + codes);
    for (size_t i = 0; i < groups; i++) {
        kt[i * ATTN_BLOCK + t] = kf[i * ATTN_BLOCK + f];
        vt[t * groups + i] = vf[f * groups + i];
    }
}

struct window { int32_t lo, hi; };         /* logical positions a row sees */

static struct window sees(const struct program *p, const struct graph_node *n, const struct tile *t,
                          int32_t r)
{
    const struct step_seq *seq = &p->step->seqs[t->seq];
    int32_t pos = p->step->position[t->row + r];
    if (!n->attention.causal) return (struct window){ 0, seq->committed + seq->n_rows };
    int32_t w = (int32_t)n->attention.window;
    return (struct window){ w && pos + 1 > w ? pos + 1 - w : 0, pos + 1 };
}

static int32_t first_block(const struct program *p, const struct graph_node *n,
                           const struct tile *t)
{
    return sees(p, n, t, 0).lo / ATTN_BLOCK;
}

/* The tree row's block b with its ancestors at their logical positions, in scratch. */
static void gather(const struct program *p, const struct phase *ph, const struct tile *t, int32_t b,
                   uint32_t head, struct scratch *s)
{
    const struct step *st = p->step;
    const struct step_seq *seq = &st->seqs[t->seq];
    int32_t depth = st->position[t->row] - seq->committed;
    for (int32_t r = t->row, d = depth; d >= 0; r = st->parent[r], d--) s->chain[d] = st->slot[r];
    int32_t page = seq->pages[b];
    memcpy(s->k_page, page_k(p, page, ph->cache_layer, head), p->k_bytes);
    memcpy(s->v_page, page_v(p, page, ph->cache_layer, head), p->v_bytes);
    int32_t from = seq->committed > b * ATTN_BLOCK ? seq->committed : b * ATTN_BLOCK;
    for (int32_t pos = from; pos <= seq->committed + depth && pos < (b + 1) * ATTN_BLOCK; pos++) {
        int32_t slot = s->chain[pos - seq->committed];
        if (slot == pos) continue;
        int32_t home = seq->pages[slot / ATTN_BLOCK];
        slot_copy(p, page_k(p, home, ph->cache_layer, head), page_v(p, home, ph->cache_layer, head),
                  slot % ATTN_BLOCK, s->k_page, s->v_page, pos % ATTN_BLOCK);
    }
}

static size_t load_queries(const struct program *p, const struct graph_node *n,
                           const struct tile *t, uint32_t head, struct scratch *s)
{
    size_t hd = n->attention.head_dim, group = n->attention.heads / n->attention.kv_heads;
    const struct place *q = &p->place[n->in[0]];
    for (size_t r = 0; r < (size_t)t->n_rows; r++)
        memcpy(s->q + r * group * hd, q->f + ((size_t)t->row + r) * q->ld + head * group * hd,
               group * hd * sizeof(float));
    return (size_t)t->n_rows * group;
}

static void block(const struct program *p, const struct phase *ph, const struct tile *t, int32_t b,
                  uint32_t head, struct scratch *s, size_t n_q, float *m, float *sum, float *acc)
{
    const struct graph_node *n = ph->node;
    const struct step_seq *seq = &p->step->seqs[t->seq];
    size_t group = n->attention.heads / n->attention.kv_heads;
    int32_t at = b * ATTN_BLOCK;
    for (size_t i = 0; i < n_q; i++) {
        struct window w = sees(p, n, t, (int32_t)(i / group));
        int32_t lo = w.lo - at, hi = w.hi - at;
        s->lo[i] = lo < 0 ? 0 : lo > ATTN_BLOCK ? ATTN_BLOCK : lo;
        s->hi[i] = hi < 0 ? 0 : hi > ATTN_BLOCK ? ATTN_BLOCK : hi;
    }
    struct attn_query a = {.q = s->q,
                           .ldq = n->attention.head_dim,
                           .lo = s->lo,
                           .hi = s->hi,
                           .n_q = n_q,
                           .head_dim = n->attention.head_dim,
                           .scale = n->attention.scale,
                           .softcap = n->attention.softcap};
    const void *k, *v;
    if (seq->tree && at + ATTN_BLOCK > seq->committed) {
        gather(p, ph, t, b, head, s);
        k = s->k_page;
        v = s->v_page;
    } else {
        k = page_k(p, seq->pages[b], ph->cache_layer, head);
        v = page_v(p, seq->pages[b], ph->cache_layer, head);
    }
    p->w->kernels.attn_block[p->kv](&a, k, v, m, sum, acc);
}

static void begin(struct scratch *s, size_t n_q, size_t hd)
{
    for (size_t i = 0; i < n_q; i++) {
        s->m[i] = -INFINITY;
        s->sum[i] = 0;
    }
    memset(s->acc, 0, n_q * hd * sizeof(float));
}

static void finish(const struct program *p, const struct graph_node *n, const struct tile *t,
                   uint32_t head, const struct scratch *s)
{
    size_t hd = n->attention.head_dim, group = n->attention.heads / n->attention.kv_heads;
    const struct place *out = &p->place[n->out];
    for (size_t i = 0; i < (size_t)t->n_rows * group; i++)
        p->w->kernels.attn_finish(hd, s->acc + i * hd, s->sum[i],
                                  out->f + ((size_t)t->row + i / group) * out->ld +
                                      (head * group + i % group) * hd);
}

void attention_item(struct program *p, const struct phase *ph, size_t item,
                    enum attention_part part, unsigned rank)
{
    const struct graph_node *n = ph->node;
    const struct kernels *k = &p->w->kernels;
    struct scratch *s = p->scratch[rank];
    size_t heads = n->attention.kv_heads, hd = n->attention.head_dim;
    size_t group = n->attention.heads / heads, unit = hd + 2;
    uint32_t head = (uint32_t)(item % heads);
    if (part == ATTENTION_SPAN) {
        const struct span *sp = &p->spans[item / heads];
        const struct tile *t = &p->tiles[sp->tile];
        if (sp->block < first_block(p, n, t)) return;
        size_t n_q = load_queries(p, n, t, head, s);
        float *to = p->partial + ((size_t)sp->at * heads + head * (size_t)t->n_rows) * group * unit;
        block(p, ph, t, sp->block, head, s, n_q, to + n_q * hd, to + n_q * (hd + 1), to);
        return;
    }
    const struct tile *t = &p->tiles[item / heads];
    size_t n_q = (size_t)t->n_rows * group;
    int32_t from = first_block(p, n, t);
    begin(s, n_q, hd);
    if (part == ATTENTION_FOLD) {
        for (size_t i = 0; i < p->n_spans; i++) {
            const struct span *sp = &p->spans[i];
            if (sp->tile != (int32_t)(item / heads) || sp->block < from) continue;
            const float *x =
                p->partial + ((size_t)sp->at * heads + head * (size_t)t->n_rows) * group * unit;
            k->attn_merge(n_q, hd, s->m, s->sum, s->acc, x + n_q * hd, x + n_q * (hd + 1), x);
        }
    } else {
        load_queries(p, n, t, head, s);
        for (int32_t b = from; b <= t->last_block; b++) {
            block(p, ph, t, b, head, s, n_q, s->m2, s->sum2, s->acc2);
            k->attn_merge(n_q, hd, s->m, s->sum, s->acc, s->m2, s->sum2, s->acc2);
        }
    }
    finish(p, n, t, head, s);
}
