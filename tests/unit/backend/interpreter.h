/* An interpreter of graphs that fuses nothing: node after node, row after row, every value in an
 * array of its own. Sums and products are plain loops in the order that kernels.h lays down; what a
 * level may compute in its own way (norms, activations, rotations, quantised layers) is its leaf
 * kernels called for one row. So a program must answer with these very bits.
 *
 * Attention is here twice: by the level's kernels over pages filled for one query alone, which gives
 * the bits, and as softmax in float64 over plain arrays of keys and values, which the bits must be
 * near: within the rounding of the sums, in units of what is summed. */
#ifndef UNIT_BACKEND_INTERPRETER_H
#define UNIT_BACKEND_INTERPRETER_H
#include "backend/backend.h"
#include "graph/binding.h"
#include "graph/step.h"
#include "kernels/kernels.h"
#include "kernels/panel.h"
#include "kernels/kv.h"
#include "unit/unit.h"
#include <float.h>
#include <math.h>

enum { SEQS = 2, SEQ_PAGES = 3, SEQ_SLOTS = SEQ_PAGES * ATTN_BLOCK };
enum { MAX_ROWS = 90, MAX_WIDTH = 256 };

/* A parameter as the file has it, as float32, and packed. */
struct parameter { enum dtype type; size_t row_bytes; void *data; float *f; void *panels; };

/* Keys and values of one attention's committed tokens. */
struct memory { float *k[SEQS], *v[SEQS]; };          /* [SEQ_SLOTS][kv_heads * head_dim] */

struct interpreter {
    const struct graph *g;
    const struct kernels *k;
    const struct parameter *param;
    bool strict, reference;
    struct memory *memory;       /* [n_nodes], used by attentions */
    float **value;               /* [n_values][rows][width] of the last step */
    const struct step *step;
    double worst;                /* attention: the largest distance, in units of its bound */
    /* Answers a row of a node instead of `k`, where it can; NULL: never. */
    bool (*leaf)(struct interpreter *x, const struct graph_node *n, size_t row, const float *a, float *out);
};

/* Row `row` of a set among those of which it has some; counted where there is none: SIZE_MAX, *n. */
static inline size_t whole_in(const struct interpreter *x, enum rows_kind kind, size_t row, size_t *n)
{
    const struct step *s = x->step;
    uint32_t set = rows_set(kind);
    size_t found = 0;
    bool asking = rows_whole(kind) == ROWS_ASKING;
    for (size_t i = 0, all = asking ? s->n_asks : s->n_rows; i < all && s->set_at; i++)
        for (int32_t k = s->set_at[set]; k < s->set_at[set + 1]; k++)
            if (s->set_row[k] == (asking ? s->ask_row[i] : (int32_t)i) && found++ == row) return i;
    *n = found;
    return SIZE_MAX;
}

static inline size_t rows_in(const struct interpreter *x, enum rows_kind kind)
{
    size_t n = 0;
    if (rows_are_set(kind)) {
        whole_in(x, kind, SIZE_MAX, &n);
        return n;
    }
    return kind == ROWS_ASKING ? x->step->n_asks : x->step->n_rows;
}

/* The step's row of a value's row. */
static inline size_t row_in(const struct interpreter *x, enum rows_kind kind, size_t row)
{
    size_t n;
    if (rows_are_set(kind)) row = whole_in(x, kind, row, &n);
    return rows_whole(kind) == ROWS_ASKING ? (size_t)x->step->ask_row[row] : row;
}

static inline const float *vector(const struct interpreter *x, const struct graph_node *n, uint32_t i)
{
    int32_t at = node_param(x->g, n, i);
    return at == GRAPH_NONE ? NULL : x->param[at].f;
}

static inline void plain_add(const float *a, const float *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = a[i] + b[i];
}

/* ---- linear layers
 * -------------------------------------------------------------------------------- */

static inline void linear_kernel(const struct interpreter *x, linear_fn *fn, const struct parameter *w,
                          size_t n_in, size_t n_out, const float *in, float *out)
{
    int8_t q[MAX_WIDTH];
    float d[MAX_WIDTH / 32], s[MAX_WIDTH / 32], y[MAX_WIDTH + PANEL_COLS];
    int16_t sum[MAX_WIDTH / 16];
    uint16_t h[MAX_WIDTH];
    struct act a = { .f = in, .q = q, .d = d, .s = s, .sum = sum, .h = h, .ldf = n_in, .ldq = n_in,
                     .ldd = n_in / 32, .ldh = n_in };
    if (n_in % 32 == 0) x->k->quantize(in, n_in, q, d, s, sum);
    x->k->to_bf16(in, n_in, h);
    fn(w->panels, (n_out + PANEL_COLS - 1) / PANEL_COLS, n_in, &a, 1, y, sizeof y / sizeof *y);
    memcpy(out, y, n_out * sizeof *out);
}

static inline void linear_row(const struct interpreter *x, const struct graph_node *n, bool given,
                       const float *in, float *out)
{
    int32_t at = node_param(x->g, n, 0);
    const struct parameter *w = &x->param[at];
    size_t n_in = x->g->params[at].n_in, n_out = x->g->params[at].n_out;
    enum dtype type = x->reference ? DT_F32 : w->type;
    linear_fn *prompt = x->strict || !given ? NULL : x->k->linear_given[type];
    const float *bias = vector(x, n, 1);
    if (prompt || dtype_table[type].block > 1)
        linear_kernel(x, prompt ? prompt : x->k->linear[type], w, n_in, n_out, in, out);
    else
        for (size_t o = 0; o < n_out; o++) {
            out[o] = 0;
            for (size_t i = 0; i < n_in; i++) out[o] = fmaf(w->f[o * n_in + i], in[i], out[o]);
        }
    if (bias) plain_add(out, bias, n_out, out);
}

/* ---- attention
 * ------------------------------------------------------------------------------------ */

/* Keys (or values) that a row sees, by position: committed ones, then its chain of parents. */
static inline void seen(const struct interpreter *x, const struct graph_node *n, bool values, size_t row,
                 const float **at)
{
    const struct step *s = x->step;
    const struct step_seq *q = &s->seqs[s->seq[row]];
    size_t width = (size_t)n->attention.kv_heads * n->attention.head_dim;
    const struct memory *m = &x->memory[n - x->g->nodes];
    const float *kept = values ? m->v[s->seq[row]] : m->k[s->seq[row]];
    const float *now = x->value[node_in(x->g, n, values ? 2 : 1)];
    for (int32_t p = 0; p < q->committed; p++) at[p] = kept + (size_t)p * width;
    if (n->attention.causal)
        for (int32_t r = (int32_t)row; r >= 0; r = s->parent[r])
            at[s->position[r]] = now + (size_t)r * width;
    else
        for (int32_t r = q->first_row; r < q->first_row + q->n_rows; r++)
            at[s->position[r]] = now + (size_t)r * width;
}

/* One query over positions lo .. hi, 64 at a time. */
static inline void attend_by_pages(const struct interpreter *x, const struct graph_node *n,
                            const float *query, const float **k, const float **v, int32_t lo,
                            int32_t hi, float *out)
{
    size_t hd = n->attention.head_dim;
    float m = -INFINITY, sum = 0, acc[MAX_WIDTH] = { 0 }, m2, sum2, acc2[MAX_WIDTH];
    static _Alignas(64) unsigned char k_page[ATTN_BLOCK * MAX_WIDTH * 4],
        v_page[ATTN_BLOCK * MAX_WIDTH * 4];
    for (int32_t b = lo / ATTN_BLOCK; b * ATTN_BLOCK < hi; b++) {
        int32_t at = b * ATTN_BLOCK, from = lo > at ? lo - at : 0;
        int32_t to = hi - at < ATTN_BLOCK ? hi - at : ATTN_BLOCK;
        memset(k_page, 0, kv_k_bytes(KV_F32, hd));
        memset(v_page, 0, kv_v_bytes(KV_F32, hd));
        for (int32_t j = from; j < to; j++) {
            x->k->kv_store_k[KV_F32](k[at + j], hd, (size_t)j, k_page);
            x->k->kv_store_v[KV_F32](v[at + j], hd, (size_t)j, v_page);
        }
        struct attn_query a = { .q = query, .ldq = hd, .lo = &from, .hi = &to, .n_q = 1,
                                .head_dim = hd, .scale = n->attention.scale,
                                .softcap = n->attention.softcap };
        x->k->attn_block[KV_F32](&a, k_page, v_page, &m2, &sum2, acc2);
        x->k->attn_merge(1, hd, &m, &sum, acc, &m2, &sum2, acc2);
    }
    x->k->attn_finish(hd, acc, sum, out);
}

/* The same in float64; `out` must be near it. */
static inline void check_attention(struct interpreter *x, const struct graph_node *n, const float *query,
                            const float **k, const float **v, int32_t lo, int32_t hi,
                            const float *out)
{
    size_t hd = n->attention.head_dim;
    double score[SEQ_SLOTS], most = -INFINITY, off = 0, sum = 0, cap = n->attention.softcap;
    for (int32_t p = lo; p < hi; p++) {
        double dot = 0, mag = 0;
        for (size_t i = 0; i < hd; i++) {
            dot += (double)query[i] * k[p][i];
            mag += fabs((double)query[i] * k[p][i]);
        }
        score[p] = dot * n->attention.scale;
        if (cap > 0) score[p] = cap * tanh(score[p] / cap);
        /* of the sum, then of what is made of it, the exponential's argument included */
        double e = ((double)hd + 16) * FLT_EPSILON * mag * n->attention.scale +
                   16 * FLT_EPSILON * (cap + fabs(score[p]));
        if (e > off) off = e;
        if (score[p] > most) most = score[p];
    }
    for (int32_t p = lo; p < hi; p++) sum += score[p] = exp(score[p] - most);
    for (size_t i = 0; i < hd; i++) {
        double want = 0, mag = 0;
        for (int32_t p = lo; p < hi; p++) {
            want += score[p] / sum * v[p][i];
            mag += score[p] / sum * fabs((double)v[p][i]);
        }
        double bound = mag * (4 * off + (2.0 * (hi - lo) + 64) * FLT_EPSILON) + FLT_MIN;
        x->worst = fmax(x->worst, fabs(out[i] - want) / bound);
    }
}

static inline void attention_row(struct interpreter *x, const struct graph_node *n, size_t row, float *out)
{
    const struct step_seq *q = &x->step->seqs[x->step->seq[row]];
    size_t hd = n->attention.head_dim, heads = n->attention.heads;
    size_t group = heads / n->attention.kv_heads;
    const float *k[SEQ_SLOTS], *v[SEQ_SLOTS], *kh[SEQ_SLOTS], *vh[SEQ_SLOTS];
    int32_t hi = n->attention.causal ? x->step->position[row] + 1 : q->committed + q->n_rows;
    int32_t window = (int32_t)n->attention.window, lo = window && hi > window ? hi - window : 0;
    seen(x, n, false, row, k);
    seen(x, n, true, row, v);
    for (size_t h = 0; h < heads; h++) {
        const float *query = x->value[node_in(x->g, n, 0)] + (row * heads + h) * hd;
        for (int32_t p = lo; p < hi; p++) {
            kh[p] = k[p] + h / group * hd;
            vh[p] = v[p] + h / group * hd;
        }
        attend_by_pages(x, n, query, kh, vh, lo, hi, out + h * hd);
        check_attention(x, n, query, kh, vh, lo, hi, out + h * hd);
    }
}

/* ---- the other operations
 * ------------------------------------------------------------------------- */

static inline void embed_row(const struct interpreter *x, const struct graph_node *n, size_t row,
                      float *out)
{
    const struct step *s = x->step;
    int32_t at = node_param(x->g, n, 0), token = s->token[row];
    size_t width = x->g->values[n->out].width;
    const float *from = NULL;
    switch (n->embed) {
    case EMBED_TOKEN: from = token < 0 ? NULL : x->param[at].f + (size_t)token * width; break;
    case EMBED_POSITION: from = x->param[at].f + (size_t)s->position[row] * width; break;
    case EMBED_FIRST_ROW: from = x->param[at].f; break;
    case EMBED_VECTOR: break;
    }
    if (!from) from = s->vectors + (size_t)(-1 - token) * width;
    memcpy(out, from, width * sizeof *out);
}

static inline void norm_row(const struct interpreter *x, const struct graph_node *n, const float *in,
                     size_t width, float *out)
{
    const float *w = vector(x, n, 0), *b = vector(x, n, 1);
    size_t step = n->norm.head_dim ? n->norm.head_dim : width;
    for (size_t i = 0; i < width; i += step) {
        if (n->norm.kind == NORM_LAYER) {
            x->k->layernorm(in + i, w, b, step, n->norm.eps, out + i);
            continue;
        }
        x->k->rmsnorm(in + i, w, step, n->norm.eps, out + i);
        if (b) plain_add(out + i, b, step, out + i);
    }
}

static inline void angles_at(const struct rope_table *t, int32_t position, float cs[2 * ROPE_MAX_HALF])
{
    size_t half = t->n_rot / 2;
    for (size_t i = 0; i < half; i++) {
        double a = position * pow(t->base, -2.0 * (double)i / t->n_rot) * (double)t->factor[i];
        cs[i] = (float)cos(a) * t->magnitude;
        cs[half + i] = (float)sin(a) * t->magnitude;
    }
}

static inline void rope_row(const struct interpreter *x, const struct graph_node *n, int32_t position,
                     float *out)
{
    const struct rope_table *t = &x->g->rope[n->rope.table];
    float cs[2 * ROPE_MAX_HALF];
    angles_at(t, position, cs);
    (n->rope.style == ROPE_PAIRS ? x->k->rope_pairs : x->k->rope_halves)(
        out, n->rope.heads, n->rope.head_dim, t->n_rot, cs);
}

static inline void act_row(const struct interpreter *x, enum act_kind kind, const float *in, size_t n,
                    float *out)
{
    (kind == ACT_SILU        ? x->k->silu
     : kind == ACT_GELU_TANH ? x->k->gelu_tanh
                             : x->k->gelu_erf)(in, n, out);
}

static inline void node_row(struct interpreter *x, const struct graph_node *n, size_t row)
{
    const struct graph *g = x->g;
    int32_t v0 = node_in(g, n, 0), v1 = node_in(g, n, 1);
    size_t width = g->values[n->out].width, at = row_in(x, g->values[n->out].rows, row);
    float *out = x->value[n->out] + row * width;
    const float *a = v0 == GRAPH_NONE ? NULL : x->value[v0] + row * g->values[v0].width;
    const float *b = v1 == GRAPH_NONE ? NULL : x->value[v1] + row * g->values[v1].width;
    if (x->leaf && x->leaf(x, n, row, a, out)) return;
    switch (n->op) {
    case OP_EMBED: embed_row(x, n, row, out); break;
    case OP_LINEAR: linear_row(x, n, x->step->given[at], a, out); break;
    case OP_NORM: norm_row(x, n, a, width, out); break;
    case OP_ROPE:
        memcpy(out, a, width * sizeof *out);
        rope_row(x, n, x->step->position[at], out);
        break;
    case OP_ATTENTION: attention_row(x, n, row, out); break;
    case OP_ACT: act_row(x, n->act, a, width, out); break;
    case OP_MUL:
        for (size_t i = 0; i < width; i++) out[i] = a[i] * b[i];
        break;
    case OP_ADD: plain_add(a, b, width, out); break;
    case OP_SCALE:
        for (size_t i = 0; i < width; i++) out[i] = a[i] * n->scale;
        break;
    case OP_SOFTCAP: x->k->softcap(a, n->cap, width, out); break;
    case OP_ASK: {
        enum rows_kind kind = g->values[n->out].rows;
        size_t none, from = rows_are_set(kind) ? whole_in(x, kind, row, &none) : at;
        memcpy(out, x->value[v0] + from * width, width * sizeof *out);
        break;
    }
    case OP_WEIGH: {
        const struct step *s = x->step;
        uint32_t set = rows_set(g->values[n->out].rows);
        float by = 0;
        for (int32_t k = s->set_at[set]; k < s->set_at[set + 1]; k++)
            if ((size_t)s->set_row[k] == at) by = n->scale * s->set_weight[k];
        for (size_t i = 0; i < width; i++) out[i] = a[i] * by;
        break;
    }
    default: break; /* training's */
    }
}

/* The sum changes the rows of a set. */
static inline void add_some(struct interpreter *x, const struct graph_node *n)
{
    const struct graph *g = x->g;
    size_t width = g->values[n->out].width, rows = rows_in(x, g->values[n->out].rows), none;
    enum rows_kind some = g->values[node_in(g, n, 1)].rows;
    float *out = x->value[n->out];
    memcpy(out, x->value[node_in(g, n, 0)], rows * width * sizeof *out);
    for (size_t r = 0, have = rows_in(x, some); r < have; r++) {
        float *to = out + whole_in(x, some, r, &none) * width;
        plain_add(to, x->value[node_in(g, n, 1)] + r * width, width, to);
    }
}

static inline void interpret(struct interpreter *x, const struct step *s)
{
    x->step = s;
    for (size_t i = 0; i < x->g->n_nodes; i++) {
        const struct graph_node *n = &x->g->nodes[i];
        size_t rows = rows_in(x, x->g->values[n->out].rows);
        if (n->op == OP_ADD && x->g->values[n->out].rows != x->g->values[node_in(x->g, n, 1)].rows) add_some(x, n);
        else for (size_t r = 0; r < rows; r++) node_row(x, n, r);
    }
}

/* The first n rows of sequence `seq` in the last step, a chain, become its tokens. */
static inline void interpreter_commit(struct interpreter *x, int32_t seq, size_t n)
{
    const struct step_seq *q = &x->step->seqs[seq];
    for (size_t i = 0; i < x->g->n_nodes; i++) {
        const struct graph_node *a = &x->g->nodes[i];
        if (a->op != OP_ATTENTION) continue;
        size_t width = (size_t)a->attention.kv_heads * a->attention.head_dim;
        size_t from = (size_t)q->first_row * width, to = (size_t)q->committed * width;
        size_t bytes = n * width * sizeof(float);
        memcpy(x->memory[i].k[seq] + to, x->value[node_in(x->g, a, 1)] + from, bytes);
        memcpy(x->memory[i].v[seq] + to, x->value[node_in(x->g, a, 2)] + from, bytes);
    }
}

/* ---- answers
 * ------------------------------------------------------------------------------------------ */

/* The likeliest token by a plain look, those that are likelier left out: -1 when none is left. */
static inline int32_t next_likely(const float *x, size_t n, const int32_t *found, int k)
{
    int32_t best = -1;
    for (int32_t i = 0; i < (int32_t)n; i++) {
        bool taken = false;
        for (int f = 0; f < k; f++) taken |= found[f] == i;
        if (!taken && (best < 0 || x[i] > x[best])) best = i;
    }
    return best;
}

static inline bool same_top(const float *x, size_t n, const struct step_top *top)
{
    int32_t found[STEP_TOP];
    for (int k = 0; k < STEP_TOP; k++) {
        found[k] = next_likely(x, n, found, k);
        if (top->id[k] != found[k]) return false;
        if (found[k] >= 0 && top->logit[k] != x[found[k]]) return false;
    }
    return true;
}

static inline bool same_answer(const struct interpreter *x, size_t i, const struct answer *a)
{
    const struct graph *g = x->g;
    uint8_t wants = x->step->ask_wants[i];
    size_t width = g->hidden == GRAPH_NONE ? 0 : g->values[g->hidden].width;
    size_t vocab = g->logits == GRAPH_NONE ? 0 : g->values[g->logits].width;
    const float *hidden = width ? x->value[g->hidden] + i * width : NULL;
    const float *logits = vocab ? x->value[g->logits] + i * vocab : NULL;
    if (a->status != STRETTO_OK) return false;
    if (wants & WANT_HIDDEN && memcmp(hidden, a->hidden, width * sizeof *hidden) != 0) return false;
    if (wants & WANT_LOGITS && memcmp(logits, a->logits, vocab * sizeof *logits) != 0) return false;
    if (wants & WANT_BEST && a->best != next_likely(logits, vocab, NULL, 0)) return false;
    return !(wants & WANT_TOP) || same_top(logits, vocab, &a->top);
}

static inline void interpreter_open(struct interpreter *x)
{
    const struct graph *g = x->g;
    x->memory = calloc(g->n_nodes, sizeof *x->memory);
    x->value = calloc(g->n_values, sizeof *x->value);
    assert_true(x->memory && x->value);
    for (size_t v = 0; v < g->n_values; v++)
        assert_non_null(x->value[v] = calloc(MAX_ROWS * (size_t)g->values[v].width, sizeof(float)));
    for (size_t i = 0; i < g->n_nodes; i++)
        for (int s = 0; s < SEQS && g->nodes[i].op == OP_ATTENTION; s++) {
            const struct graph_node *a = &g->nodes[i];
            size_t n = (size_t)SEQ_SLOTS * a->attention.kv_heads * a->attention.head_dim;
            assert_non_null(x->memory[i].k[s] = calloc(n, sizeof(float)));
            assert_non_null(x->memory[i].v[s] = calloc(n, sizeof(float)));
        }
}

static inline void interpreter_close(struct interpreter *x)
{
    for (size_t v = 0; v < x->g->n_values; v++) free(x->value[v]);
    for (size_t i = 0; i < x->g->n_nodes; i++)
        for (int s = 0; s < SEQS; s++) {
            free(x->memory[i].k[s]);
            free(x->memory[i].v[s]);
        }
    free(x->memory);
    free(x->value);
}
#endif
