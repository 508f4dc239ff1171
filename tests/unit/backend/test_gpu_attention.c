/* The cache and attention on a card. Stored keys and values are the reference's, number by number; answers are
 * the reference kernels' within the roundings of their sums; and a row has the same bits alone, in a tile,
 * beside other sequences, in other pages, in a tree, and however its chunks are shared out. The pool is full of
 * NaNs before anything is stored, so who reads what no row sees is found out. */
#include "unit/backend/gpu_test.h"
#include "backend/gpu/kernels/words.h"
#include "kernels/kernels.h"
#include "kernels/kv.h"
#include "kernels/scalar.h"
#include <float.h>
#include <math.h>

static struct gpu_device d;
static struct kernels ref;

enum { MAX_ROWS = 24, MAX_SEQS = 3, MAX_HEAD = 512, LANES_STORE = 64 };

/* A sequence: tokens 0 .. committed in the cache, then rows. Row i's parent is one of them, or -1. */
struct seq { int32_t committed, n_rows, tree, parent[MAX_ROWS], token[MAX_ROWS]; };

struct shape { enum cache_type t; uint32_t head_dim, heads, kv_heads, window; float softcap; bool causal; };

static enum kv_type kv_of(enum cache_type t) { return (enum kv_type)t; }

/* ---- numbers: by token, head and dim, so that a token has them wherever it stands --------------- */

static float number(uint32_t what, uint32_t token, uint32_t head, uint32_t dim)
{
    uint32_t h = what * 0x9e3779b9u ^ token * 0x85ebca6bu ^ head * 0xc2b2ae35u ^ dim * 0x27d4eb2fu;
    h ^= h >> 15, h *= 0x2c1b3c6du, h ^= h >> 12, h *= 0x297a2d39u, h ^= h >> 15;
    float f = (float)(int32_t)h * 0x1p-31f;
    return h % 61 == 7 ? 8 * f : f;
}

static void vector(uint32_t what, int32_t token, uint32_t head, uint32_t n, float *out)
{
    for (uint32_t i = 0; i < n; i++) out[i] = number(what, (uint32_t)token, head, i);
}

/* ---- a chain and what it sees ------------------------------------------------------------------ */

static int32_t position_of(const struct seq *s, int32_t row)
{
    int32_t p = s->committed;
    while ((row = s->parent[row]) >= 0) p++;
    return p;
}

/* The token at a position that the row sees. */
static int32_t token_at(const struct seq *s, int32_t row, int32_t position, bool causal)
{
    if (position < s->committed) return position;
    if (!causal) return s->token[position - s->committed];
    while (position_of(s, row) > position) row = s->parent[row];
    return s->token[row];
}

static int32_t sees(const struct shape *x, const struct seq *s, int32_t row)
{
    return x->causal ? position_of(s, row) + 1 : s->committed + s->n_rows;
}

static int32_t first_of(const struct shape *x, const struct seq *s, int32_t row)
{
    int32_t low = position_of(s, row) + 1 - (int32_t)x->window;
    return x->causal && x->window && low > 0 ? low : 0;
}

static struct seq chain(int32_t committed, int32_t n)
{
    struct seq s = { .committed = committed, .n_rows = n };
    for (int32_t i = 0; i < n; i++) s.parent[i] = i - 1, s.token[i] = committed + i;
    return s;
}

/* ---- the reference ------------------------------------------------------------------------------ */

struct page { void *k, *v; };

static struct page *pages_make(const struct shape *x, const struct seq *s, int32_t row, uint32_t kv_head,
                               int32_t end, size_t *n)
{
    float f[MAX_HEAD];
    enum kv_type t = kv_of(x->t);
    *n = ((size_t)end + 63) / 64;
    struct page *p = calloc(*n, sizeof *p);
    for (size_t b = 0; b < *n; b++) {
        p[b].k = aligned_alloc(64, kv_k_bytes(t, x->head_dim));
        p[b].v = aligned_alloc(64, kv_v_bytes(t, x->head_dim));
        memset(p[b].k, 0, kv_k_bytes(t, x->head_dim));
        memset(p[b].v, 0, kv_v_bytes(t, x->head_dim));
    }
    for (int32_t i = 0; i < end; i++) {
        int32_t token = token_at(s, row, i, x->causal);
        vector(1, token, kv_head, x->head_dim, f);
        ref.kv_store_k[t](f, x->head_dim, (size_t)i % 64, p[i / 64].k);
        vector(2, token, kv_head, x->head_dim, f);
        ref.kv_store_v[t](f, x->head_dim, (size_t)i % 64, p[i / 64].v);
    }
    return p;
}

static void pages_free(struct page *p, size_t n)
{
    for (size_t b = 0; b < n; b++) free(p[b].k), free(p[b].v);
    free(p);
}

static float half_value(enum cache_type t, const void *page, size_t at)
{
    if (t == CACHE_F32) return ((const float *)page)[at];
    uint16_t h = ((const uint16_t *)page)[at];
    return t == CACHE_F16 ? half_to_float(h) : brain_to_float(h);
}

/* What the reference's page holds; values of CACHE_Q8_0_Q4_0 turned. */
static float page_k(const struct shape *x, const struct page *p, size_t i, size_t j)
{
    size_t at = kv_k_at(kv_of(x->t), x->head_dim, i, j);
    if (!kv_coded(kv_of(x->t))) return half_value(x->t, p->k, at);
    return kv_k_scales(p->k, x->head_dim)[i / 32 * 64 + j] * (float)((const int8_t *)p->k)[at];
}

static float page_v(const struct shape *x, const struct page *p, size_t i, size_t j)
{
    enum kv_type t = kv_of(x->t);
    size_t at = kv_v_at(t, x->head_dim, i, j);
    if (!kv_coded(t)) return half_value(x->t, p->v, at);
    float s = kv_v_scales(t, p->v, x->head_dim)[i / 32 * 64 + j];
    if (t == KV_Q8) return s * (float)((const int8_t *)p->v)[at];
    return s * (float)kv_levels[((const uint8_t *)p->v)[at] >> i % KV_PANEL / 8 * 4 & 15];
}

struct expected { float out[MAX_HEAD]; double bound; };

/* The largest score's sum of magnitudes, and the largest value. */
static void magnitudes(const struct shape *x, const struct page *p, const float *q, int32_t lo, int32_t hi,
                       double *score, double *value)
{
    *score = *value = 0;
    for (int32_t j = lo; j < hi; j++) {
        double sum = 0;
        for (size_t i = 0; i < x->head_dim; i++) {
            sum += fabs((double)q[i] * (double)page_k(x, &p[j / 64], i, (size_t)j % 64));
            *value = fmax(*value, fabs((double)page_v(x, &p[j / 64], i, (size_t)j % 64)));
        }
        *score = fmax(*score, sum);
    }
}

/* A score is a chain of head_dim roundings, and some for scale and cap; with codes, q is off by half a code of
 * its group. Its error, and that of the maximum, is relative to a probability; sums of probabilities and of
 * values round once a position within a stretch and six times a fold, here and in the reference. Turning
 * back adds the errors of up to `run` dims, as a root. */
static double bound_of(const struct shape *x, int32_t seen, double score, double value)
{
    const double eps = (double)FLT_EPSILON / 2;
    size_t run = x->head_dim & (~x->head_dim + 1);
    double blocks = seen / 64 + 2, e = (x->head_dim + 16) * eps * score + 16 * eps * (double)x->softcap;
    double rel = 2 * e + (256 + 16 + 12 * blocks) * eps;
    double turn = x->t == CACHE_Q8_0_Q4_0 ? sqrt((double)run) * (1 + 20 * eps / rel) : 1;
    return 2 * rel * value * turn;
}

static void expect(const struct shape *x, const struct seq *s, int32_t row, uint32_t head, int32_t end,
                   struct expected *out)
{
    size_t n, hd = x->head_dim, groups = kv_groups(hd);
    struct page *p = pages_make(x, s, row, head / (x->heads / x->kv_heads), end, &n);
    float q[MAX_HEAD] = { 0 }, qd[16], qs[16], m = -INFINITY, sum = 0, acc[MAX_HEAD] = { 0 }, m2, sum2, acc2[MAX_HEAD];
    int8_t codes[MAX_HEAD];
    int32_t lo, hi, low = first_of(x, s, row);
    vector(3, s->token[row], head, x->head_dim, q);
    ref.quantize(q, 32 * groups, codes, qd, qs, NULL);
    struct attn_query a = { .q = q, .ldq = hd, .codes = codes, .ldc = 32 * groups, .d = qd, .ldd = groups,
                            .lo = &lo, .hi = &hi, .n_q = 1, .head_dim = hd, .scale = 1 / sqrtf((float)hd),
                            .softcap = x->softcap };
    for (size_t b = 0; b < n; b++) {
        lo = low - (int32_t)b * 64, hi = end - (int32_t)b * 64;
        lo = lo < 0 ? 0 : lo > 64 ? 64 : lo, hi = hi > 64 ? 64 : hi;
        ref.attn_block[kv_of(x->t)](&a, p[b].k, p[b].v, &m2, &sum2, acc2);
        ref.attn_merge(1, hd, &m, &sum, acc, &m2, &sum2, acc2);
    }
    ref.attn_finish(hd, acc, sum, out->out);
    if (kv_rotated(kv_of(x->t))) kv_rotate(out->out, hd);
    double score, value;
    for (size_t i = 0; i < hd && kv_coded(kv_of(x->t)); i++) q[i] = (float)codes[i] * qd[i / 32];
    magnitudes(x, p, q, low, end, &score, &value);
    out->bound = bound_of(x, end - low, score * (double)a.scale, value);
    pages_free(p, n);
}

/* ---- a card's cache ------------------------------------------------------------------------------ */

enum { LAYERS = 2, MEMBER = 1, GROUP = 0 };

static const char store_text[] =
    "KERNEL void KERNEL_LANES(64) store(GLOBAL uint *pool, GLOBAL const float *kv, GLOBAL const int *at, int layers,\n"
    "                                   int member, int heads, int head_dim)\n"
    "{\n"
    "    LOCAL float scratch[CACHE_SCRATCH];\n"
    "    TO_LOCAL float *turned = scratch;\n"
    "    int i = group_id(0);\n"
    "    GLOBAL const float *k = kv + 2 * i * heads * head_dim;\n"
    "    GLOBAL uint *to = pool + cache_layer(at[2 * i], layers, member, heads, head_dim);\n"
    "    for (int first = 0; first < heads; first += cache_heads_at_once(heads, head_dim)) {\n"
    "        int stage = 0;\n"
    "        do {\n"
    "            stage = cache_store(stage, first, to, at[2 * i + 1], heads, head_dim, k, k + heads * head_dim,\n"
    "                                turned, 64);\n"
    "            barrier_all();\n"
    "        } while (stage);\n"
    "    }\n"
    "}\n";

static struct gpu_code *store_code[CACHE_TYPES];
static struct gpu_attention *attention[CACHE_TYPES];

static struct gpu_kernel *store_kernel(enum cache_type t)
{
    struct gpu_kernel *k = NULL;
    if (!store_code[t]) {
        struct buffer b = buffer_make(1 << 20);
        char options[32];
        snprintf(options, sizeof options, "-DCACHE=%d", (int)t);
        assert_int_equal(buffer_printf(&b, "%s%s%s", gpu_source("words.h"), gpu_source("cache.cl"), store_text),
                         STRETTO_OK);
        store_code[t] = gpu_test_build(&d, b.data, options);
        buffer_done(&b);
    }
    gpu_test_ok(d.driver->kernel(store_code[t], "store", &k, err));
    return k;
}

static struct gpu_attention *attention_of(enum cache_type t)
{
    if (!attention[t]) gpu_test_ok(gpu_attention_open(&d, t, &attention[t], err));
    return attention[t];
}

/* Sequences in a pool. Page numbers of a sequence ascend or descend, which must not matter. */
struct cache {
    const struct shape *x;
    const struct seq *seqs;
    size_t n_seqs;
    bool turned;
    int32_t first_page[MAX_SEQS], n_pages[MAX_SEQS], pages;
    struct gpu_memory *pool;
    uint64_t page_bytes, bytes;
};

static int32_t page_of(const struct cache *c, size_t seq, int32_t block)
{
    int32_t p = c->first_page[seq] + block;
    return c->turned ? c->pages - 1 - p : p;
}

static void pool_open(struct cache *c)
{
    c->pages = 1;
    for (size_t s = 0; s < c->n_seqs; s++) {
        c->first_page[s] = c->pages;
        c->n_pages[s] = (c->seqs[s].committed + c->seqs[s].n_rows + 63) / 64;
        c->pages += c->n_pages[s] + 1;
    }
    c->page_bytes = LAYERS * c->x->kv_heads * gpu_head_bytes(c->x->t, c->x->head_dim);
    c->bytes = c->page_bytes * (uint64_t)c->pages;
    uint8_t *nans = malloc(c->bytes);
    memset(nans, 0xff, c->bytes);
    c->pool = gpu_test_put(&d, nans, c->bytes);
    free(nans);
}

static void put_token(const struct cache *c, size_t seq, int32_t slot, int32_t token, float *kv, int32_t *at)
{
    size_t hd = c->x->head_dim;
    for (uint32_t h = 0; h < c->x->kv_heads; h++) {
        vector(1, token, h, c->x->head_dim, kv + h * hd);
        vector(2, token, h, c->x->head_dim, kv + (c->x->kv_heads + h) * hd);
    }
    at[0] = page_of(c, seq, slot / 64), at[1] = slot % 64;
}

static void cache_open(struct cache *c)
{
    size_t n = 0, one = 2 * c->x->kv_heads * c->x->head_dim, i = 0;
    pool_open(c);
    for (size_t s = 0; s < c->n_seqs; s++) n += (size_t)(c->seqs[s].committed + c->seqs[s].n_rows);
    float *kv = malloc(n * one * sizeof *kv);
    int32_t *at = malloc(2 * n * sizeof *at);
    for (size_t s = 0; s < c->n_seqs; s++) {
        const struct seq *q = &c->seqs[s];
        for (int32_t t = 0; t < q->committed + q->n_rows; t++, i++)
            put_token(c, s, t, t < q->committed ? t : q->token[t - q->committed], kv + i * one, at + 2 * i);
    }
    struct gpu_memory *a = gpu_test_put(&d, kv, n * one * sizeof *kv), *b = gpu_test_put(&d, at, 2 * n * sizeof *at);
    const struct gpu_arg args[] = { { c->pool, 0 }, { a, 0 }, { b, 0 }, { NULL, LAYERS }, { NULL, MEMBER },
                                    { NULL, (int32_t)c->x->kv_heads }, { NULL, (int32_t)c->x->head_dim } };
    const uint32_t grid[3] = { (uint32_t)n, 1, 1 };
    gpu_test_ok(d.driver->launch(d.card, store_kernel(c->x->t), grid, LANES_STORE, args, 7, err));
    gpu_test_ok(d.driver->finish(d.card, err));
    d.driver->free(a), d.driver->free(b);
    free(kv), free(at);
}

static void cache_close(struct cache *c) { d.driver->free(c->pool); }

/* ---- a step ------------------------------------------------------------------------------------- */

struct how {
    int32_t tile_rows;      /* of a tile, at most                                                */
    bool shared;            /* chunks are shared out among work-groups                           */
    int32_t only;           /* only this row of its sequence is there, or -1                     */
};

struct words { int32_t *w; size_t n; };

static int32_t *array(struct words *w, int header, size_t n)
{
    if (header >= 0) w->w[header] = (int32_t)w->n;
    w->n += n;
    return w->w + w->n - n;
}

/* Writes the step's words; *most is the largest STEP_SEES. */
static void step_words(const struct cache *c, const struct how *how, struct words *w, int32_t rows, int32_t *most)
{
    size_t n = (size_t)rows;
    w->n = STEP_HEADER;
    int32_t *position = array(w, STEP_POSITION, n), *before = array(w, STEP_BEFORE, n);
    int32_t *end = array(w, STEP_SEES, n), *tail = array(w, STEP_TAIL, n), *table = array(w, STEP_PAGE_AT, n);
    int32_t *tile = array(w, STEP_TILE, TILE_WORDS * n), row = 0, tiles = 0;
    *most = 0;
    for (size_t q = 0; q < c->n_seqs; q++) {
        const struct seq *s = &c->seqs[q];
        int32_t at = (int32_t)w->n, *pages = array(w, -1, (size_t)c->n_pages[q]), *t = NULL;
        for (int32_t b = 0; b < c->n_pages[q]; b++) pages[b] = page_of(c, q, b);
        for (int32_t i = 0; i < s->n_rows; i++) {
            if (how->only >= 0 && how->only != i) continue;
            position[row] = position_of(s, i), before[row] = s->committed, table[row] = at, tail[row] = -1;
            end[row] = sees(c->x, s, i);
            if (s->tree) {
                int32_t k = position[row] - s->committed, *list = array(w, -1, (size_t)k + 1);
                tail[row] = (int32_t)(list - w->w);
                for (int32_t r = i; r >= 0; r = s->parent[r]) list[k--] = s->committed + r;
            }
            if (!t || t[TILE_ROWS] == how->tile_rows) {
                t = tile + tiles++ * TILE_WORDS;
                t[TILE_ROW] = row, t[TILE_ROWS] = 0, t[TILE_LOW] = position[row], t[TILE_END] = 0;
            }
            t[TILE_ROWS]++;
            if (position[row] < t[TILE_LOW]) t[TILE_LOW] = position[row];
            if (end[row] > t[TILE_END]) t[TILE_END] = end[row];
            if (end[row] > *most) *most = end[row];
            row++;
        }
    }
    w->w[STEP_ROWS] = row, w->w[STEP_TILES] = tiles;
}

/* Runs attention over all rows: out[row][heads * head_dim], malloced. */
static float *attend(const struct cache *c, const struct how *how)
{
    const struct shape *x = c->x;
    int32_t rows = 0, most;
    size_t width = x->heads * x->head_dim, q_ld = width + 3, out_ld = width + 6, q_at = 5, i = 0;
    for (size_t s = 0; s < c->n_seqs; s++) rows += how->only >= 0 ? how->only < c->seqs[s].n_rows : c->seqs[s].n_rows;
    size_t floats = q_at + (size_t)rows * (q_ld + out_ld), out_at = q_at + (size_t)rows * q_ld;
    struct words w = { calloc(1 << 16, sizeof(int32_t)), 0 };
    float *f = malloc(floats * sizeof *f), *out = malloc((size_t)rows * width * sizeof *out);
    step_words(c, how, &w, rows, &most);
    for (size_t k = 0; k < floats; k++) f[k] = NAN;
    for (size_t s = 0; s < c->n_seqs; s++)
        for (int32_t r = 0; r < c->seqs[s].n_rows; r++) {
            if (how->only >= 0 && how->only != r) continue;
            for (uint32_t h = 0; h < x->heads; h++)
                vector(3, c->seqs[s].token[r], h, x->head_dim, f + q_at + i * q_ld + h * x->head_dim);
            i++;
        }
    struct graph_node node = { .op = OP_ATTENTION, .attention = {
        .heads = x->heads, .kv_heads = x->kv_heads, .head_dim = x->head_dim, .window = x->window, .group = GROUP,
        .member = MEMBER, .scale = 1 / sqrtf((float)x->head_dim), .softcap = x->softcap, .causal = x->causal } };
    struct layer_group group = { GROUP_FULL, LAYERS, x->kv_heads, x->head_dim, x->window };
    struct graph graph = { .nodes = &node, .n_nodes = 1 };
    struct program_limits limits = { .max_rows = (uint32_t)rows, .max_seq_pages = (uint32_t)c->pages };
    uint64_t bytes = gpu_partial_bytes(&graph, &limits);
    struct gpu_places places = { .activations = gpu_test_put(&d, f, floats * sizeof *f),
                                 .step = gpu_test_put(&d, w.w, w.n * sizeof *w.w) };
    struct gpu_attention_job job = {
        .node = &node, .group = &group, .pool = c->pool, .partial = gpu_test_memory(&d, bytes),
        .partial_bytes = how->shared ? bytes : 0, .q = (uint32_t)q_at, .q_ld = (uint32_t)q_ld,
        .out = (uint32_t)out_at, .out_ld = (uint32_t)out_ld, .most_tiles = (uint32_t)w.w[STEP_TILES] + 2,
        .tile_rows = (uint32_t)how->tile_rows, .most_rows = (uint32_t)rows, .most_sees = (uint32_t)most };
    d.about.units = how->shared ? 1u << 20 : 1;
    gpu_test_ok(gpu_attention_run(&d, attention_of(x->t), &places, &job, err));
    gpu_test_read(&d, places.activations, 0, f, floats * sizeof *f);
    for (size_t r = 0; r < (size_t)rows; r++)
        memcpy(out + r * width, f + out_at + r * out_ld, width * sizeof *out);
    d.driver->free(places.activations), d.driver->free(places.step), d.driver->free(job.partial);
    free(w.w), free(f);
    return out;
}

/* ---- checks -------------------------------------------------------------------------------------- */

static void same(const char *what, const float *want, const float *got, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(want + i, got + i, sizeof *want) != 0) {
            print_error("%s: number %zu is %a, not %a\n", what, i, (double)got[i], (double)want[i]);
            _fail(__FILE__, __LINE__);
        }
}

static void check_near(const struct cache *c, const float *out)
{
    const struct shape *x = c->x;
    double noticed = 0;
    size_t row = 0;
    for (size_t s = 0; s < c->n_seqs; s++)
        for (int32_t r = 0; r < c->seqs[s].n_rows; r++, row++)
            for (uint32_t h = 0; h < x->heads; h += x->heads > 4 ? 3 : 1) {
                struct expected e, less;
                const float *got = out + (row * x->heads + h) * x->head_dim;
                int32_t end = sees(x, &c->seqs[s], r);
                expect(x, &c->seqs[s], r, h, end, &e);
                for (size_t i = 0; i < x->head_dim; i++)
                    if (!(fabs((double)got[i] - (double)e.out[i]) <= e.bound)) {
                        print_error("%s, head_dim %u: sequence %zu row %d head %u dim %zu: %a, not %a, bound %a\n",
                                    cache_type_name(x->t), x->head_dim, s, r, h, i, (double)got[i],
                                    (double)e.out[i], e.bound);
                        _fail(__FILE__, __LINE__);
                    }
                if (r > 0) continue;
                expect(x, &c->seqs[s], r, h, end - 1 - end / 32, &less);
                for (size_t i = 0; i < x->head_dim; i++)
                    noticed = fmax(noticed, fabs((double)got[i] - (double)less.out[i]) / e.bound);
            }
    assert_true(noticed > 1);          /* some positions less are more than roundings */
}

/* All ways to the same bits. */
static void check_ways(struct cache *c)
{
    const struct shape *x = c->x;
    size_t width = x->heads * x->head_dim, rows = 0;
    int32_t tile = (int32_t)gpu_tile_rows(x->heads / x->kv_heads);
    for (size_t s = 0; s < c->n_seqs; s++) rows += (size_t)c->seqs[s].n_rows;
    cache_open(c);
    float *all = attend(c, &(struct how){ tile, false, -1 }), *other;
    check_near(c, all);
    other = attend(c, &(struct how){ tile, true, -1 });
    same("chunks shared out", all, other, rows * width);
    free(other);
    other = attend(c, &(struct how){ 1, false, -1 });
    same("rows alone in their tiles", all, other, rows * width);
    free(other);
    other = attend(c, &(struct how){ 1, true, -1 });
    same("rows alone, chunks shared out", all, other, rows * width);
    free(other);
    struct cache one = *c;
    for (size_t s = 0, at = 0; s < c->n_seqs; at += (size_t)c->seqs[s].n_rows, s++) {
        one.seqs = &c->seqs[s], one.n_seqs = 1;
        one.first_page[0] = c->first_page[s], one.n_pages[0] = c->n_pages[s];
        other = attend(&one, &(struct how){ 2, false, c->seqs[s].n_rows - 1 });
        same("a row alone in its step", all + (at + (size_t)c->seqs[s].n_rows - 1) * width, other, width);
        free(other);
    }
    cache_close(c);
    c->turned = true;
    cache_open(c);
    other = attend(c, &(struct how){ tile, false, -1 });
    same("other pages", all, other, rows * width);
    free(other), free(all);
    cache_close(c);
}

static struct seq tree(int32_t committed)
{
    /*  0 - 1 - 2 - 3      depth first, as rows of a step stand; a second root
     *    \   \ 4 - 5
     *      6 - 7 - 8 - 9
     *  10 - 11                                                                   */
    static const int32_t parent[] = { -1, 0, 1, 2, 1, 4, 0, 6, 7, 8, -1, 10 };
    struct seq s = { .committed = committed, .n_rows = 12, .tree = 1 };
    for (int32_t i = 0; i < 12; i++) s.parent[i] = parent[i], s.token[i] = 100000 + i;
    return s;
}

static const struct shape shapes[] = {
    { CACHE_F32, 6, 4, 2, 0, 0, true },         { CACHE_F32, 64, 4, 4, 0, 0, true },
    { CACHE_F16, 80, 6, 2, 40, 3, true },       { CACHE_F16, 128, 8, 1, 0, 0, true },
    { CACHE_BF16, 10, 20, 1, 300, 0, true },    { CACHE_BF16, 24, 2, 2, 0, 0, false },
    { CACHE_Q8_0, 40, 4, 2, 0, 2, true },       { CACHE_Q8_0, 128, 5, 1, 70, 0, true },
    { CACHE_Q8_0_Q4_0, 64, 4, 2, 0, 0, true },  { CACHE_Q8_0_Q4_0, 10, 2, 1, 0, 0, true },
    { CACHE_F16, 512, 4, 1, 0, 0, true },       { CACHE_Q8_0_Q4_0, 96, 3, 1, 0, 0, false },
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        struct seq seqs[3] = { chain(0, 19), chain(300, 7), chain(62, 3) };
        struct cache c = { .x = &shapes[i], .seqs = seqs, .n_seqs = 3 };

        check_ways(&c);
    }
}

static void test_long(void **state)
{
    (void)state;
    static const struct shape x = { CACHE_F32, 6, 4, 2, 0, 0, true }, window = { CACHE_F32, 6, 4, 2, 700, 0, true };
    struct seq seqs[2] = { chain(5200, 4), chain(4094, 5) };
    check_ways(&(struct cache){ .x = &x, .seqs = seqs, .n_seqs = 2 });
    check_ways(&(struct cache){ .x = &window, .seqs = seqs, .n_seqs = 2 });
}

/* A tree's rows have the bits that they would have as a chain. */
static void check_tree(const struct shape *x, int32_t committed)
{
    struct seq seqs[2] = { tree(committed), chain(70, 2) };
    struct cache c = { .x = x, .seqs = seqs, .n_seqs = 2 };
    size_t width = x->heads * x->head_dim;
    int32_t tile = (int32_t)gpu_tile_rows(x->heads / x->kv_heads);
    check_ways(&c);
    cache_open(&c);
    float *all = attend(&c, &(struct how){ tile, false, -1 });
    cache_close(&c);
    for (int32_t row = 0; row < seqs[0].n_rows; row++) {
        int32_t n = position_of(&seqs[0], row) - committed + 1;
        struct seq path = chain(committed, n);
        for (int32_t r = row, k = n - 1; r >= 0; r = seqs[0].parent[r], k--) path.token[k] = seqs[0].token[r];
        struct cache p = { .x = x, .seqs = &path, .n_seqs = 1 };
        cache_open(&p);
        float *out = attend(&p, &(struct how){ tile, false, -1 });
        check_near(&p, out);
        same("a tree's row as a chain", out + (size_t)(n - 1) * width, all + (size_t)row * width, width);
        free(out);
        cache_close(&p);
    }
    free(all);
}

static void test_trees(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHAPES; i += 2)
        if (shapes[i].causal) check_tree(&shapes[i], i % 4 ? 250 : 60);
}

/* A row whose key and value are no numbers disturbs those behind it, and no others. */
static void test_nan(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        const struct shape *x = &shapes[i];
        if (!x->causal || x->window) continue;
        struct seq seqs[1] = { chain(100, 9) };
        struct cache c = { .x = x, .seqs = seqs, .n_seqs = 1 };
        size_t width = x->heads * x->head_dim, head = gpu_head_bytes(x->t, x->head_dim);
        struct how how = { (int32_t)gpu_tile_rows(x->heads / x->kv_heads), false, -1 };
        cache_open(&c);
        float *all = attend(&c, &how);
        /* Slot 105 moves onto itself from a slot that nobody wrote: all of it is NaN. */
        const int32_t moves[2] = { page_of(&c, 0, 1) * 64 + 60, page_of(&c, 0, 1) * 64 + 105 - 64 };
        struct gpu_memory *m = gpu_test_put(&d, moves, sizeof moves);
        struct layer_group group = { GROUP_FULL, LAYERS, x->kv_heads, x->head_dim, 0 };
        gpu_test_ok(gpu_slots_move(&d, attention_of(x->t), c.pool, &group, m, 1, err));
        float *bad = attend(&c, &how);
        same("rows before a bad one", all, bad, 5 * width);
        for (size_t k = 5 * width; k < 9 * width; k++) assert_true(isnan(bad[k]));
        assert_true(head > 0);
        d.driver->free(m);
        free(all), free(bad);
        cache_close(&c);
    }
}

/* ---- pages --------------------------------------------------------------------------------------- */

/* An element as the card's page has it; by the words of kernels/cache.cl. */
static float card_value(const struct shape *x, const uint8_t *head, bool keys, size_t i, size_t j)
{
    size_t quads = kv_quads(x->head_dim), groups = kv_groups(x->head_dim);
    size_t item = keys ? i / 4 * 64 + j : j * quads + i / 4;
    bool coded = kv_coded(kv_of(x->t)), turned = x->t == CACHE_Q8_0_Q4_0;
    size_t size = x->t == CACHE_F32 ? 16 : !coded ? 8 : 4, k_bytes = 64 * (quads * size + (coded ? 4 * groups : 0));
    const uint8_t *at = keys ? head : head + k_bytes;
    if (!coded) return half_value(x->t, at, 4 * item + i % 4);
    size_t codes = 64 * quads * (!keys && turned ? 2 : 4);
    float scale = ((const float *)(const void *)(at + codes))[keys ? i / 32 * 64 + j : j * groups + i / 32];
    if (keys || !turned) return scale * (float)((const int8_t *)at)[4 * item + i % 4];
    return scale * (float)kv_levels[((const uint16_t *)(const void *)at)[item] >> i % 4 * 4 & 15];
}

static void test_store(void **state)
{
    (void)state;
    for (size_t n = 0; n < SHAPES; n++) {
        const struct shape *x = &shapes[n];
        if (kv_coded(kv_of(x->t)) && !d.about.exact_divide) continue;
        struct seq s = chain(0, 20);
        struct cache c = { .x = x, .seqs = &s, .n_seqs = 1 };
        uint64_t head_bytes = gpu_head_bytes(x->t, x->head_dim);
        assert_int_equal(head_bytes % 16, 0);
        cache_open(&c);
        uint8_t *pool = malloc(c.bytes);
        gpu_test_read(&d, c.pool, 0, pool, c.bytes);
        const uint8_t *page = pool + (uint64_t)page_of(&c, 0, 0) * c.page_bytes;
        for (uint32_t h = 0; h < x->kv_heads; h++) {
            size_t pages;
            struct page *p = pages_make(x, &s, 19, h, 20, &pages);
            for (size_t j = 0; j < 20; j++)
                for (size_t i = 0; i < x->head_dim; i++) {
                    const uint8_t *head = page + (MEMBER * x->kv_heads + h) * head_bytes;
                    float want[2] = { page_k(x, p, i, j), page_v(x, p, i, j) };
                    float got[2] = { card_value(x, head, true, i, j), card_value(x, head, false, i, j) };
                    same(cache_type_name(x->t), want, got, 2);
                }
            pages_free(p, pages);
        }
        for (uint64_t i = 0; i < MEMBER * x->kv_heads * head_bytes; i++) assert_int_equal(page[i], 0xff);
        free(pool);
        cache_close(&c);
    }
}

/* A page of each type, random bytes, and what moving its slots one after the other gives. */
static void test_moves(void **state)
{
    (void)state;
    static const int32_t from[] = { 3, 4, 7, 66, 130, 131 }, to[] = { 1, 3, 4, 7, 66, 131 };
    enum { N = 6 };
    for (size_t n = 0; n < SHAPES; n++) {
        const struct shape *x = &shapes[n];
        struct seq s = chain(180, 1);
        struct cache c = { .x = x, .seqs = &s, .n_seqs = 1 };
        cache_open(&c);
        int32_t moves[2 * N];
        for (size_t i = 0; i < N; i++) {
            moves[i] = page_of(&c, 0, from[i] / 64) * 64 + from[i] % 64;
            moves[N + i] = page_of(&c, 0, to[i] / 64) * 64 + to[i] % 64;
        }
        struct gpu_memory *m = gpu_test_put(&d, moves, sizeof moves);
        struct layer_group group = { GROUP_FULL, LAYERS, x->kv_heads, x->head_dim, x->window };
        uint8_t *before = malloc(c.bytes), *after = malloc(c.bytes);
        uint64_t head_bytes = gpu_head_bytes(x->t, x->head_dim);
        gpu_test_read(&d, c.pool, 0, before, c.bytes);
        gpu_test_ok(gpu_slots_move(&d, attention_of(x->t), c.pool, &group, m, N, err));
        gpu_test_read(&d, c.pool, 0, after, c.bytes);
        for (int32_t slot = 0; slot < 181; slot++) {
            int32_t source = slot;
            for (size_t i = 0; i < N; i++) if (to[i] == slot) source = from[i];
            for (uint32_t h = 0; h < x->kv_heads; h++)
                for (size_t i = 0; i < x->head_dim; i++)
                    for (int keys = 0; keys < 2; keys++) {
                        uint64_t head = (MEMBER * x->kv_heads + h) * head_bytes;
                        const uint8_t *p = before + (uint64_t)page_of(&c, 0, source / 64) * c.page_bytes + head;
                        const uint8_t *q = after + (uint64_t)page_of(&c, 0, slot / 64) * c.page_bytes + head;
                        float want = card_value(x, p, keys, i, (size_t)source % 64);
                        float got = card_value(x, q, keys, i, (size_t)slot % 64);
                        same("a moved slot", &want, &got, 1);
                    }
        }
        gpu_test_ok(gpu_page_copy(&d, c.pool, c.page_bytes, page_of(&c, 0, 0), page_of(&c, 0, 2), err));
        gpu_test_read(&d, c.pool, 0, before, c.bytes);
        assert_memory_equal(before + (uint64_t)page_of(&c, 0, 2) * c.page_bytes,
                            after + (uint64_t)page_of(&c, 0, 0) * c.page_bytes, c.page_bytes);
        d.driver->free(m);
        free(before), free(after);
        cache_close(&c);
    }
}

static void test_partial(void **state)
{
    (void)state;
    struct graph_node n = { .op = OP_ATTENTION,
                            .attention = { .heads = 64, .kv_heads = 8, .head_dim = 128, .causal = true } };
    struct graph g = { .nodes = &n, .n_nodes = 1 };
    struct program_limits l = { .max_rows = 4096, .max_seq_pages = 1u << 20 };
    assert_in_range(gpu_partial_bytes(&g, &l), 1, 64 << 20);
    l.max_rows = 1, l.max_seq_pages = 512;
    assert_in_range(gpu_partial_bytes(&g, &l), 44 * 64 * 132 * 4, 64 << 20);
    l.max_seq_pages = 4;
    assert_in_range(gpu_partial_bytes(&g, &l), 1, 64);
}

int main(void)
{
    gpu_test_open(&d);
    kernels_init(&ref, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_partial), cmocka_unit_test(test_store), cmocka_unit_test(test_moves),
        cmocka_unit_test(test_rows),    cmocka_unit_test(test_long),  cmocka_unit_test(test_trees),
        cmocka_unit_test(test_nan),
    };

    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int t = 0; t < CACHE_TYPES; t++) {
        if (store_code[t]) d.driver->code_close(store_code[t]);
        gpu_attention_close(attention[t]);
    }
    gpu_test_close(&d);
    return failed;
}
