#include "compress/fold.h"
#include "base/memory.h"
#include "tensor/blocks.h"
#include "tensor/half.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CODE_GROUP = 32, MOST_SHIFT = 12, MOST_HEAD = 2 * ROPE_MAX_HALF };

/* ---- rows times a power of two --------------------------------------------------------------- */

static bool scaled(float v, int e, float *out)
{
    *out = ldexpf(v, e);
    return ldexpf(*out, -e) == v;
}

static bool scale_float(enum dtype t, unsigned char *at, int e)
{
    unsigned char held[sizeof(float)];
    float v, to;
    dtype_table[t].decode(at, &v, 1);
    if (!scaled(v, e, &to)) return false;
    dtype_table[t].encode(&to, held, 1);
    dtype_table[t].decode(held, &v, 1);
    if (v != to) return false;
    memcpy(at, held, dtype_table[t].bytes);
    return true;
}

static bool scale_block(const struct dtype_info *t, unsigned char *at, int e)
{
    struct block_scales k;
    float d, dmin;
    block_get_scales(t, at, &k);
    if (!scaled(k.d, e, &d) || !scaled(k.dmin, e, &dmin)) return false;
    if (block_kept(t, d, 0) != d || (block_has_min(t) && block_kept(t, dmin, 0) != dmin)) return false;
    k.d = d;
    k.dmin = dmin;
    block_put_scales(t, at, &k);
    return true;
}

bool fold_row(enum dtype type, void *row, size_t n, int e)
{
    const struct dtype_info *t = &dtype_table[type];
    for (size_t i = 0; i < n; i += t->block) {
        unsigned char *at = (unsigned char *)row + i / t->block * t->bytes;
        if (t->block == 1 ? scale_float(type, at, e) : scale_block(t, at, e)) continue;
        while (i) {                     /* what was scaled exactly goes back exactly */
            i -= t->block;
            at = (unsigned char *)row + i / t->block * t->bytes;
            if (t->block == 1) scale_float(type, at, -e);
            else scale_block(t, at, -e);
        }
        return false;
    }
    return true;
}

/* ---- one layer ------------------------------------------------------------------------------- */

/* A projection to queries or keys: its tensors in the new file, and the rows of it that are meant. */
struct projection {
    const char *weight, *bias;          /* names; bias NULL: none        */
    const struct rewrite_tensor *w, *b; /* as they are listed            */
    size_t first, rows;                 /* of the tensors, which may hold more than these */
    unsigned char *bytes, *bias_bytes;  /* changed: the whole tensors    */
};

struct keys {
    struct rewrite *r;
    const struct model *m;
    struct workers *w;
    const struct graph_node *attention;
    const struct rope_table *rope;      /* NULL: dimensions are not turned */
    enum rope_style style;
    struct projection q, k;
    struct fold_report *out;
};

static const struct graph_node *maker(const struct graph *g, int32_t value)
{
    return &g->nodes[g->values[value].made_by];
}

/* False where something stands between the linear layer and the attention that no scale passes through. */
static bool find_projection(struct keys *f, int32_t value, struct projection *p)
{
    const struct graph *g = &f->m->graph;
    const struct graph_node *n = maker(g, value);
    if (n->op == OP_ROPE) {
        f->rope = &g->rope[n->rope.table];
        f->style = n->rope.style;
        n = maker(g, node_in(g, n, 0));
    }
    if (n->op != OP_LINEAR) return false;
    p->weight = g->params[node_param(g, n, 0)].name;
    p->bias = node_param(g, n, 1) == GRAPH_NONE ? NULL : g->params[node_param(g, n, 1)].name;
    p->rows = g->params[node_param(g, n, 0)].n_out;
    return true;
}

/* The bytes of a tensor, to be changed; a tensor that holds queries and keys is taken once. */
static unsigned char *take_bytes(const struct keys *f, const struct rewrite_tensor *t)
{
    const struct projection *p = &f->q;
    if (p->w == t && p->bytes) return p->bytes;
    if (p->b == t && p->bias_bytes) return p->bias_bytes;
    unsigned char *own = mem_alloc(t->from->bytes);
    if (own) memcpy(own, t->from->data, t->from->bytes);
    return own;
}

static stretto_status take_projection(struct keys *f, struct projection *p, struct error *err)
{
    const struct source_tensor *part = source_tensor_find(f->m->source, p->weight);
    p->w = rewrite_find(f->r, p->weight);
    p->b = p->bias ? rewrite_find(f->r, p->bias) : NULL;
    if (!part || !p->w || (p->bias && !p->b))
        return fail(err, STRETTO_E_FORMAT, "%s is not there", p->weight);
    size_t row = dtype_bytes(p->w->type, (size_t)p->w->dims[0]);
    p->first = (size_t)((const char *)part->data - (const char *)p->w->from->data) / row;
    p->bytes = take_bytes(f, p->w);
    p->bias_bytes = p->b ? take_bytes(f, p->b) : NULL;
    return p->bytes && (!p->b || p->bias_bytes) ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
}

/* out[row] = the mean square of what the layer answered: w G w / n + 2 b (w mean) + b^2. */
static stretto_status mean_squares(const struct keys *f, const struct projection *p, const struct input_stats *s,
                                   double *out, struct error *err)
{
    size_t n = s->n, row = dtype_bytes(p->w->type, n);
    float *w = mem_alloc(2 * p->rows * n * sizeof *w);
    if (!w) return fail(err, STRETTO_E_NOMEM, "out of memory");
    float *wg = w + p->rows * n;
    dtype_table[p->w->type].decode((const char *)p->w->from->data + p->first * row, w, p->rows * n);
    workers_linear(f->w, w, p->rows, s->gram, n, n, wg);
    for (size_t i = 0; i < p->rows; i++) {
        double square = 0, mean = 0;
        float b = 0;
        for (size_t j = 0; j < n; j++) {
            square += (double)w[i * n + j] * (double)wg[i * n + j];
            mean += (double)w[i * n + j] * s->sum[j];
        }
        if (p->b) dtype_table[p->b->type].decode((const char *)p->b->from->data
                                                 + (p->first + i) * dtype_bytes(p->b->type, 1), &b, 1);
        out[i] = (square + 2 * (double)b * mean) / (double)s->rows + (double)b * (double)b;
    }
    mem_free(w);
    return STRETTO_OK;
}

/* The dimension that is turned together with i: itself, where it is not turned. */
static size_t partner(const struct keys *f, size_t i)
{
    size_t turned = f->rope ? f->rope->n_rot : 0;
    if (i >= turned) return i;
    if (f->style == ROPE_PAIRS) return i ^ 1;
    return i < turned / 2 ? i + turned / 2 : i - turned / 2;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Largest over median. */
static double spread_of(const double *magnitude, size_t n)
{
    double sorted[MOST_HEAD];
    memcpy(sorted, magnitude, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_size);
    double median = sorted[(n - 1) / 2];
    return median > 0 ? sorted[n - 1] / median : 1;
}

static bool scale_rows(const struct projection *p, size_t i, int e)
{
    size_t n = (size_t)p->w->dims[0], row = dtype_bytes(p->w->type, n);
    unsigned char *w = p->bytes + (p->first + i) * row;
    if (!fold_row(p->w->type, w, n, e)) return false;
    if (!p->b || fold_row(p->b->type, p->bias_bytes + (p->first + i) * dtype_bytes(p->b->type, 1), 1, e)) return true;
    fold_row(p->w->type, w, n, -e);
    return false;
}

/* Dimension i of key head h by 2^-e, of its query heads by 2^e; all or none. */
static bool scale_dimension(const struct keys *f, size_t h, size_t i, int e)
{
    size_t size = f->attention->attention.head_dim;
    size_t sharing = f->attention->attention.heads / f->attention->attention.kv_heads;
    if (!scale_rows(&f->k, h * size + i, -e)) return false;
    for (size_t q = 0; q < sharing; q++) {
        if (scale_rows(&f->q, (h * sharing + q) * size + i, e)) continue;
        while (q--) scale_rows(&f->q, (h * sharing + q) * size + i, -e);
        scale_rows(&f->k, h * size + i, e);
        return false;
    }
    return true;
}

/* A pair by the largest power of two up to 2^e that all rows can hold; what was done. */
static int scale_pair(const struct keys *f, size_t h, size_t i, int e)
{
    size_t other = partner(f, i);
    for (; e; e -= e > 0 ? 1 : -1) {
        if (!scale_dimension(f, h, i, e)) continue;
        if (other == i || scale_dimension(f, h, other, e)) break;
        scale_dimension(f, h, i, -e);
    }
    return e;
}

/* Root mean squares of a head's dimensions, pair by pair; of queries over all heads that share the keys. */
static void magnitudes(const struct keys *f, const double *square, size_t heads, double *out)
{
    size_t size = f->attention->attention.head_dim;
    for (size_t i = 0; i < size; i++) {
        double sum = 0;
        for (size_t h = 0; h < heads; h++) sum += square[h * size + i] + square[h * size + partner(f, i)];
        out[i] = sqrt(sum / (2 * (double)heads));
    }
}

/* Shifts that are `share` of the way from even queries (0) to even keys (1): s = k^share q^(share - 1), as powers of
 * two about their mean. */
static void shifts_of(const struct keys *f, const double *k, const double *q, double share, int *e)
{
    size_t size = f->attention->attention.head_dim;
    double want[MOST_HEAD], mean = 0;
    for (size_t i = 0; i < size; i++) {
        want[i] = k[i] > 0 && q[i] > 0 ? share * log2(k[i]) - (1 - share) * log2(q[i]) : 0;
        mean += want[i] / (double)size;
    }
    for (size_t i = 0; i < size; i++) {
        double shift = k[i] > 0 && q[i] > 0 ? rint(want[i] - mean) : 0;
        e[i] = (int)(shift > MOST_SHIFT ? MOST_SHIFT : shift < -MOST_SHIFT ? -MOST_SHIFT : shift);
    }
}

/* The error of a score, up to a factor: keys and queries are codes by groups of CODE_GROUP dimensions, and what one
 * side loses, a step of its group's largest, counts as much as the other side is large. */
static double score_error(const struct keys *f, const double *k, const double *q, const int *e)
{
    size_t size = f->attention->attention.head_dim;
    double sum = 0;
    for (size_t g = 0; g < size; g += CODE_GROUP) {
        double k_sum = 0, q_sum = 0, k_most = 0, q_most = 0;
        for (size_t i = g; i < g + CODE_GROUP && i < size; i++) {
            double x = ldexp(k[i], -e[i]), y = ldexp(q[i], e[i]);
            k_sum += x * x;
            q_sum += y * y;
            k_most = fmax(k_most, x);
            q_most = fmax(q_most, y);
        }
        sum += q_sum * k_most * k_most + k_sum * q_most * q_most;
    }
    return sum;
}

static bool fold_head(const struct keys *f, size_t h, const double *k_square, const double *q_square)
{
    enum { SHARES = 8 };
    size_t size = f->attention->attention.head_dim;
    size_t sharing = f->attention->attention.heads / f->attention->attention.kv_heads;
    double k[MOST_HEAD], q[MOST_HEAD];
    int e[MOST_HEAD] = { 0 }, tried[MOST_HEAD];
    bool changed = false;
    magnitudes(f, k_square + h * size, 1, k);
    magnitudes(f, q_square + h * sharing * size, sharing, q);
    double spread = spread_of(k, size), least = score_error(f, k, q, e);
    for (int i = 0; i <= SHARES; i++) {
        shifts_of(f, k, q, (double)i / SHARES, tried);
        double error = score_error(f, k, q, tried);
        if (!(error < least)) continue;
        least = error;
        memcpy(e, tried, sizeof e);
    }
    for (size_t i = 0; i < size; i++) {
        size_t other = partner(f, i);
        if (other < i || !e[i]) continue;
        int done = scale_pair(f, h, i, e[i]);
        changed = changed || done;
        k[i] = k[other] = ldexp(k[i], -done);
    }
    if (spread > f->out->spread) f->out->spread = spread;
    spread = spread_of(k, size);
    if (spread > f->out->spread_after) f->out->spread_after = spread;
    return changed;
}

static stretto_status put_projection(struct keys *f, const struct projection *p, struct error *err)
{
    if (!p->w->done) TRY(rewrite_write(f->r, p->w->name, p->bytes, p->w->from->bytes, err));
    if (p->b && !p->b->done) TRY(rewrite_write(f->r, p->b->name, p->bias_bytes, p->b->from->bytes, err));
    return STRETTO_OK;
}

static stretto_status fold_attention(struct keys *f, const struct calibration *c, struct error *err)
{
    const struct graph_node *a = f->attention;
    const struct input_stats *s = calibration_stats(c, f->k.weight);
    if (!s || !s->gram) return fail(err, STRETTO_E_ARG, "there are no second moments for %s", f->k.weight);
    if (a->attention.head_dim > MOST_HEAD)
        return fail(err, STRETTO_E_UNSUP, "heads of %u dimensions are not supported", a->attention.head_dim);
    TRY(take_projection(f, &f->q, err));
    TRY(take_projection(f, &f->k, err));
    double *square = mem_alloc((f->k.rows + f->q.rows) * sizeof *square);
    stretto_status st = square ? mean_squares(f, &f->k, s, square, err) : fail(err, STRETTO_E_NOMEM, "out of memory");
    if (st == STRETTO_OK) st = mean_squares(f, &f->q, s, square + f->k.rows, err);
    bool changed = false;
    for (uint32_t h = 0; h < a->attention.kv_heads && st == STRETTO_OK; h++)
        changed |= fold_head(f, h, square, square + f->k.rows);
    mem_free(square);
    f->out->folded += changed;
    if (st == STRETTO_OK && changed) st = put_projection(f, &f->q, err);
    if (st == STRETTO_OK && changed) st = put_projection(f, &f->k, err);
    return st;
}

static void keys_done(struct keys *f)
{
    if (f->k.bytes != f->q.bytes) mem_free(f->k.bytes);
    if (f->k.bias_bytes != f->q.bias_bytes) mem_free(f->k.bias_bytes);
    mem_free(f->q.bytes);
    mem_free(f->q.bias_bytes);
}

static stretto_status fold_layer(struct keys of, const struct calibration *c, uint32_t layer, struct error *err)
{
    const struct graph *g = &of.m->graph;
    stretto_status st = STRETTO_OK;
    for (size_t i = 0; i < g->n_nodes && st == STRETTO_OK; i++) {
        struct keys f = of;
        f.attention = &g->nodes[i];
        if (f.attention->op != OP_ATTENTION || f.attention->layer != (int32_t)layer) continue;
        f.out->layers++;
        if (!find_projection(&f, node_in(g, f.attention, 0), &f.q)
            || !find_projection(&f, node_in(g, f.attention, 1), &f.k)) {
            f.out->normed++;
            continue;
        }
        st = fold_attention(&f, c, err);
        keys_done(&f);
    }
    return st;
}

stretto_status fold_keys(struct rewrite *r, const struct model *m, struct calibration *c, struct workers *w,
                         const struct progress *progress, struct fold_report *out, struct error *err)
{
    *out = (struct fold_report){ 0 };
    if (m->graph.bidirectional)
        return fail(err, STRETTO_E_UNSUP, "%s is an encoder: it has no cache whose keys could be balanced",
                    source_path(m->source));
    TRY(rewrite_begin(r, err));
    uint32_t pieces = calibration_pieces(c);
    for (uint32_t p = 0; p < pieces; p++) {
        TRY(calibration_go(c, true, err));
        TRY(fold_layer((struct keys){ .r = r, .m = m, .w = w, .out = out }, c, p, err));
        progress_tell(progress, "balancing keys", p + 1, pieces);
    }
    for (size_t i = 0; i < rewrite_count(r); i++) {
        const struct rewrite_tensor *t = rewrite_at(r, i);
        if (!t->done && !t->drop) TRY(rewrite_copy(r, t->name, err));
    }
    return STRETTO_OK;
}
