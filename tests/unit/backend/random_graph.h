/* Graphs of random shape, in which every value may have any number of readers, their parameters, and steps of
 * rows for them: chains and guess trees of two sequences that ask for different things. Everything follows
 * from one seed. */
#ifndef UNIT_BACKEND_RANDOM_GRAPH_H
#define UNIT_BACKEND_RANDOM_GRAPH_H
#include "tensor/half.h"
#include "unit/backend/interpreter.h"

/* Whether graphs have rows of sets; not every backend runs them. */
static bool random_sets;

enum { POOL = 128, VALUES_MAX = 1024, NAME = 16, VOCAB_MAX = 200, RANDOM_FEW = 18 };

static uint64_t state_of_noise;

static inline uint32_t noise(void)                    /* splitmix64 */
{
    uint64_t z = state_of_noise += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ z >> 31) >> 32);
}
static inline uint32_t below(uint32_t n) { return noise() % n; }
static inline bool chance(uint32_t percent) { return below(100) < percent; }
static inline float real(float lo, float hi) { return lo + (hi - lo) * (float)noise() / 4294967296.0f; }

/* ---- graphs
 * --------------------------------------------------------------------------------------- */

/* A value under construction, and how large its numbers may be (log 2): products stay finite. */
struct made { int32_t v; int size; };

struct maker {
    struct graph_builder b;
    struct made pool[POOL];
    size_t n;
    uint32_t widths[4], vocab, layers, names, kv_heads, head_dim;
    int32_t head;               /* GRAPH_NONE until there is one */
    bool bidirectional;
    bool all_rows;              /* nothing is left of the rows that do not ask */
};

static inline const struct graph_value *about(const struct maker *m, int32_t v)
{
    return &m->b.g->values[v];
}

static inline struct made keep(struct maker *m, int32_t v, int size)
{
    struct made x = { v, size };
    assert_int_equal(m->b.status, STRETTO_OK);
    assert_true(v >= 0);
    if (m->n < POOL) m->pool[m->n++] = x;
    return x;
}

/* A value of that kind, of that width unless it is 0; v is GRAPH_NONE when there is none. Late ones
 * and early ones alike, so that some values live long. */
static inline struct made pick(const struct maker *m, enum rows_kind rows, uint32_t width, int size)
{
    struct made found = { GRAPH_NONE, 0 };
    uint32_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        const struct graph_value *v = about(m, m->pool[i].v);
        if (v->rows != rows || (width && v->width != width) || m->pool[i].size > size) continue;
        if (below(++n) == 0 || (n > 2 && chance(20))) found = m->pool[i];
    }
    return found;
}

static inline const char *named(struct maker *m, char *text, const char *kind, uint32_t of, uint32_t to)
{
    /* number 0 comes up often, so that layers of one shape share weights */
    snprintf(text, NAME + 24, "%s.%u.%u.%u", kind, of, to, chance(15) ? 0 : m->names++);
    return text;
}

static inline struct made linear_of(struct maker *m, struct made x, uint32_t width)
{
    char weight[GRAPH_NAME], bias[GRAPH_NAME];
    uint32_t of = about(m, x.v)->width;
    if (width == m->vocab && of == m->widths[0] && chance(60)) strcpy(weight, "tokens");
    else named(m, weight, "w", of, width);
    int32_t v = graph_linear(&m->b, x.v, weight,
                             chance(40) ? named(m, bias, "b", width, 1) : NULL, width);
    return keep(m, v, x.size + 2);
}

static inline struct made want(struct maker *m, enum rows_kind rows, uint32_t width)
{
    struct made x = chance(70) ? pick(m, rows, width, 20) : (struct made){ GRAPH_NONE, 0 };
    return x.v != GRAPH_NONE ? x : linear_of(m, pick(m, rows, 0, 20), width);
}

static inline struct made norm_of(struct maker *m, struct made x)
{
    char weight[GRAPH_NAME], bias[GRAPH_NAME];
    uint32_t width = about(m, x.v)->width, head = m->head_dim, length = width;
    if (width % head == 0 && chance(40)) length = head;
    named(m, weight, "n", length, 1);
    int32_t v = graph_norm(&m->b, x.v, chance(50) ? NORM_RMS : NORM_LAYER, 1e-5f,
                           length == width ? 0 : length, weight,
                           chance(40) ? named(m, bias, "b", length, 1) : NULL);
    return keep(m, v, 3);
}

static inline struct made rope_of(struct maker *m, struct made x)
{
    uint32_t width = about(m, x.v)->width, hd = m->head_dim;
    if (width % hd) return x;
    int32_t v = graph_rope(&m->b, x.v, chance(50) ? ROPE_PAIRS : ROPE_HALVES, width / hd, hd,
                           below((uint32_t)m->b.g->n_rope));
    return keep(m, v, x.size + 1);
}

static inline void attention(struct maker *m)
{
    /* Layer groups: other heads, other sizes, other windows. */
    uint32_t hd = chance(70) ? m->head_dim : 8, kv = chance(70) ? m->kv_heads : 1 + below(3);
    uint32_t heads = kv * (1 + below(3));
    if (heads * hd > MAX_WIDTH) heads = kv;
    if (m->b.layer + 1 == (int32_t)m->layers) return;
    m->b.layer++;
    struct made q = want(m, ROWS_ALL, heads * hd), k = want(m, ROWS_ALL, kv * hd),
                v = want(m, ROWS_ALL, kv * hd);
    if (chance(50)) q = norm_of(m, q);
    if (hd == m->head_dim && chance(60)) q = rope_of(m, q);
    if (hd == m->head_dim && chance(60)) k = rope_of(m, k);
    uint32_t window = !m->bidirectional && chance(50) ? 1 + below(70) : 0;
    float scale = ldexpf(1 / sqrtf((float)hd), -(q.size + k.size > 8 ? q.size + k.size - 8 : 0));
    keep(m,
         graph_attention(&m->b, q.v, k.v, v.v, heads, kv, hd, window, scale,
                         chance(30) ? 5.0f : 0, !m->bidirectional),
         v.size);
}

/* An activation and a product; half of the time others may read the activation. */
static inline void gated(struct maker *m, enum rows_kind rows)
{
    struct made x = pick(m, rows, 0, 8);
    if (x.v == GRAPH_NONE) return;
    struct made y = pick(m, rows, about(m, x.v)->width, 8);
    struct made a = { graph_act(&m->b, x.v, (enum act_kind)below(3)), x.size };
    if (chance(50)) keep(m, a.v, a.size);
    if (chance(20)) linear_of(m, x, m->widths[below(4)]);
    if (chance(10)) y = a;
    if (chance(10)) y = keep(m, graph_act(&m->b, x.v, (enum act_kind)below(3)), x.size);
    keep(m, chance(60) ? graph_mul(&m->b, a.v, y.v) : graph_mul(&m->b, y.v, a.v), a.size + y.size);
}

/* Where the head's value, or what it is before the softcap, goes into the pool, others read it. */
static inline void head(struct maker *m)
{
    struct made x = pick(m, ROWS_ASKING, 0, 20);
    if (x.v == GRAPH_NONE || m->head != GRAPH_NONE) return;
    size_t n = m->n;
    struct made y = linear_of(m, x, m->vocab);
    if (chance(40)) m->n = n;
    m->head = y.v;
    if (chance(50)) return;
    m->head = graph_softcap(&m->b, y.v, 6);
    if (chance(60)) keep(m, m->head, 3);
}

/* Rows of a set go a way of their own and come back; now and then into a value that others read as it was. */
static inline void aside(struct maker *m, enum rows_kind rows)
{
    char name[GRAPH_NAME], bias[GRAPH_NAME];
    size_t n = m->n;
    struct made x = pick(m, rows, 0, 20), y = pick(m, rows, 0, 20);
    if (chance(60)) {
        y = linear_of(m, y, m->widths[below(4)]);
        m->n = n;
    }
    for (uint32_t i = 0, sums = 1 + below(2); i < sums; i++) {
        int32_t v = graph_pick(&m->b, x.v, below(3)), low;
        uint32_t rank = 1 + below(9);
        low = graph_linear(&m->b, v, named(m, name, "w", about(m, x.v)->width, rank), NULL, rank);
        if (chance(20)) low = graph_add(&m->b, low, graph_act(&m->b, low, ACT_SILU));
        low = graph_weigh(&m->b, low, real(-1, 1));
        uint32_t width = about(m, y.v)->width;
        int32_t other = chance(50) ? graph_linear(&m->b, v, named(m, name, "w", about(m, x.v)->width, 5), NULL, 5)
                                   : GRAPH_NONE;
        if (other != GRAPH_NONE) other = graph_weigh(&m->b, other, 0.5f);
        low = graph_linear(&m->b, low, named(m, name, "w", rank, width), chance(20) ? named(m, bias, "b", width, 1)
                                                                                   : NULL, width);
        y.v = graph_add(&m->b, y.v, low);
        if (other != GRAPH_NONE)
            y.v = graph_add(&m->b, y.v, graph_linear(&m->b, other, named(m, name, "w", 5, width), NULL, width));
        y.size = (x.size + 7 > y.size ? x.size + 7 : y.size) + 1;
        if (i + 1 < sums && chance(20)) keep(m, y.v, y.size);
    }
    keep(m, y.v, y.size);
}

static inline void grow(struct maker *m)
{
    enum rows_kind rows = chance(35) && !m->all_rows ? ROWS_ASKING : ROWS_ALL;
    struct made x = pick(m, rows, 0, 20), y;
    if (x.v == GRAPH_NONE) return;
    switch (below(random_sets ? 18 : 15)) {
    case 15: case 16: case 17: aside(m, rows); break;
    case 0: case 1:
        do linear_of(m, x, m->widths[below(4)]);
        while (chance(45));
        break;
    case 2: case 14: attention(m); break;
    case 3: norm_of(m, x); break;
    case 4: rope_of(m, x); break;
    case 5: case 6: case 7: gated(m, rows); break;
    case 8: keep(m, graph_act(&m->b, x.v, (enum act_kind)below(3)), x.size); break;
    case 9:
        y = pick(m, rows, about(m, x.v)->width, 20);
        keep(m, graph_add(&m->b, x.v, y.v), (x.size > y.size ? x.size : y.size) + 1);
        break;
    case 10: keep(m, graph_scale(&m->b, x.v, real(-1, 1)), x.size); break;
    case 11: keep(m, graph_softcap(&m->b, x.v, real(1, 8)), 3); break;
    case 12:
        if (rows == ROWS_ALL && !m->all_rows) keep(m, graph_ask(&m->b, x.v), x.size);
        break;
    case 13:
        if (!m->all_rows) head(m);
        break;
    }
}

/* Everything that nobody reads goes into one value of the rows that ask, so that a fault in any of
 * them shows. */
static inline struct made sink(struct maker *m)
{
    struct graph *g = m->b.g;
    bool read[VALUES_MAX] = { false };
    struct made all = { GRAPH_NONE, 0 };
    assert_true(g->n_values <= VALUES_MAX);
    for (size_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; k < g->nodes[i].in.count; k++)
            read[node_in(g, &g->nodes[i], k)] = true;
    for (size_t i = 0, n = m->n; i < n; i++) {
        struct made x = m->pool[i];
        if (read[x.v]) continue;
        if (x.size > 4) x = norm_of(m, x);
        if (about(m, x.v)->rows == ROWS_ALL) x.v = graph_ask(&m->b, x.v);
        if (about(m, x.v)->width != m->widths[0]) x = linear_of(m, x, m->widths[0]);
        if (all.v != GRAPH_NONE) x = (struct made){ graph_add(&m->b, all.v, x.v), all.size + 1 };
        all = x;
    }
    return all.v != GRAPH_NONE ? keep(m, all.v, all.size) : pick(m, ROWS_ASKING, m->widths[0], 99);
}

static inline void tables(struct graph *g, uint32_t hd)
{
    g->n_rope = 1 + below(ROPE_TABLES);
    for (size_t i = 0; i < g->n_rope; i++) {
        struct rope_table *t = &g->rope[i];
        t->n_rot = chance(50) ? hd : hd / 2;
        t->base = i ? 10000 : 500;
        t->magnitude = real(0.9f, 1.1f);
        for (uint32_t k = 0; k < t->n_rot / 2; k++) t->factor[k] = real(0.2f, 1);
    }
}

/* One answer shows the sink; the other is any value, also one that other nodes read. */
static inline void answer(struct maker *m)
{
    if (chance(30)) head(m);
    int32_t any = pick(m, ROWS_ASKING, 0, 99).v, logits = m->head;
    if (logits != GRAPH_NONE && chance(30)) {
        keep(m, logits, 5);
        logits = GRAPH_NONE;
    }
    struct made all = sink(m);
    if (logits == GRAPH_NONE && chance(15)) {       /* what the head says is the hidden state too */
        int32_t head = linear_of(m, all, m->vocab).v;
        graph_answer(&m->b, head, chance(50) ? head : graph_softcap(&m->b, head, 4));
    } else if (logits != GRAPH_NONE || chance(20)) graph_answer(&m->b, all.v, logits);
    else if (chance(30)) graph_answer(&m->b, all.v, any);
    else if (chance(50)) graph_answer(&m->b, any, all.v);
    else graph_answer(&m->b, chance(80) ? any : GRAPH_NONE, linear_of(m, all, m->vocab).v);
    assert_int_equal(m->b.status, STRETTO_OK);
}

/* Sizes, and what stands before the layers; layers -1: any number. */
static inline struct maker make_input(struct graph *g, int32_t layers, bool quantised, struct error *err)
{
    static const uint32_t dims[] = { 8, 16, 20, 32 };
    uint32_t hd = dims[below(4)];
    struct maker m = { .b = { .g = g, .err = err, .layer = -1 }, .head = GRAPH_NONE };
    m.vocab = 33 + below(VOCAB_MAX - 33);
    m.layers = layers < 0 ? below(4) : (uint32_t)layers;
    m.bidirectional = chance(10);
    m.kv_heads = 1 + below(2);
    m.head_dim = hd;
    *g = (struct graph){ .layers = m.layers, .bidirectional = m.bidirectional };
    tables(g, hd);
    m.widths[0] = quantised ? 32 * (1 + below(2)) : 10 + below(60);
    m.widths[1] = m.kv_heads * hd;
    m.widths[2] = 2 * m.kv_heads * hd;
    m.widths[3] = quantised ? 64 : 17 + below(40);
    keep(&m,
         chance(10) ? graph_input(&m.b, m.widths[0])
                    : graph_embed(&m.b, "tokens", m.vocab, m.widths[0], EMBED_TOKEN),
         2);
    uint32_t width = m.widths[0];
    if (chance(50)) keep(&m, graph_embed(&m.b, "positions", SEQ_SLOTS, width, EMBED_POSITION), 2);
    if (chance(30)) keep(&m, graph_embed(&m.b, "types", 2, width, EMBED_FIRST_ROW), 2);
    return m;
}

static inline void make_graph(struct graph *g, bool quantised, struct error *err)
{
    struct maker m = make_input(g, -1, quantised, err);
    for (uint32_t i = 0, n = 6 + below(40); i < n; i++) grow(&m);
    keep(&m, graph_ask(&m.b, pick(&m, ROWS_ALL, 0, 99).v), 20);
    answer(&m);
}

/* Everything of the layer that nobody reads, in one value of all rows: what the next layers read. */
static inline struct made join(struct maker *m)
{
    struct graph *g = m->b.g;
    bool read[VALUES_MAX] = { false };
    struct made all = { GRAPH_NONE, 0 };
    assert_true(g->n_values <= VALUES_MAX);
    for (size_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; k < g->nodes[i].in.count; k++)
            read[node_in(g, &g->nodes[i], k)] = true;
    for (size_t i = 0, n = m->n; i < n; i++) {
        struct made x = m->pool[i];
        if (read[x.v] && i + 1 < n) continue;
        if (x.size > 4) x = norm_of(m, x);
        if (about(m, x.v)->width != m->widths[0]) x = linear_of(m, x, m->widths[0]);
        if (all.v != GRAPH_NONE) x = (struct made){ graph_add(&m->b, all.v, x.v), all.size + 1 };
        all = x;
    }
    return all;
}

/* Layers that read nothing of those before them but what the last of them joined; now and then, where `odd`,
 * an older value as well. */
static inline void make_layers(struct graph *g, uint32_t layers, bool quantised, bool odd, struct error *err)
{
    struct maker m = make_input(g, (int32_t)layers, quantised, err);
    m.all_rows = true;
    for (uint32_t layer = 0; layer < layers; layer++) {
        m.layers = layer + 2;
        attention(&m);
        m.layers = layer + 1;
        if (chance(20)) keep(&m, graph_embed(&m.b, "positions", SEQ_SLOTS, m.widths[0], EMBED_POSITION), 2);
        for (uint32_t i = 0, n = 1 + below(6); i < n; i++) grow(&m);
        struct made old = pick(&m, ROWS_ALL, m.widths[0], 4), all = join(&m);
        m.n = 0;
        if (odd && old.v != GRAPH_NONE && chance(30)) keep(&m, old.v, old.size);
        keep(&m, all.v, all.size);
    }
    m.b.layer = -1;
    m.all_rows = false;
    m.layers = 0;
    keep(&m, graph_ask(&m.b, m.pool[m.n - 1].v), m.pool[m.n - 1].size);
    for (uint32_t i = 0, n = below(6); i < n; i++) grow(&m);
    answer(&m);
    g->layers = layers;
}


/* ---- parameters
 * ----------------------------------------------------------------------------------- */

struct parameters { const struct graph *g; struct parameter *p; bool quantised; };

/* Any type that can be written and fits. */
static inline enum dtype type_for(const struct parameters *x, const struct graph_param *p)
{
    enum dtype found = DT_F32;
    if (!x->quantised || p->n_out == 1) return found;
    for (uint32_t t = 0, n = 0; t < DT_COUNT; t++)
        if (dtype_table[t].encode && p->n_in % dtype_table[t].block == 0 && below(++n) == 0)
            found = (enum dtype)t;
    return found;
}

static inline void make_parameter(struct parameters *x, size_t i)
{
    const struct graph_param *p = &x->g->params[i];
    struct parameter *to = &x->p[i];
    size_t n = (size_t)p->n_in * p->n_out;
    bool norm = p->name[0] == 'n';
    float by = p->n_out == 1 || strchr("tp", p->name[0]) ? 1 : 1.5f / sqrtf((float)p->n_in);
    to->type = type_for(x, p);
    to->row_bytes = dtype_bytes(to->type, p->n_in);
    assert_non_null(to->f = malloc(n * sizeof(float)));
    assert_non_null(to->data = malloc(to->row_bytes * p->n_out));
    for (size_t k = 0; k < n; k++) to->f[k] = norm ? real(0.5f, 1.5f) : real(-by, by);
    dtype_table[to->type].encode(to->f, to->data, n);
    dtype_table[to->type].decode(to->data, to->f, n);
    size_t panels = (p->n_out + PANEL_COLS - 1) / PANEL_COLS;
    size_t bytes = panel_bytes(to->type, p->n_in);
    assert_non_null(to->panels = aligned_alloc(64, panels * bytes));
    for (size_t k = 0; k < panels; k++) {
        size_t first = k * PANEL_COLS, left = p->n_out - first;
        panel_pack(to->type, (char *)to->data + first * to->row_bytes, to->row_bytes,
                   left < PANEL_COLS ? left : PANEL_COLS, p->n_in, (char *)to->panels + k * bytes);
    }
}

static inline void free_parameters(struct parameters *x)
{
    for (size_t i = 0; i < x->g->n_params; i++) {
        free(x->p[i].f);
        free(x->p[i].data);
        free(x->p[i].panels);
    }
    free(x->p);
}

static inline stretto_status find(void *ud, const char *name, uint32_t n_in, uint32_t n_out,
                           struct param_bytes *out, struct error *err)
{
    const struct parameters *x = ud;
    const struct parameter *p = &x->p[graph_param_find(x->g, name)];
    (void)err;
    *out = (struct param_bytes){ .type = p->type, .n_in = n_in, .n_out = n_out, .data = p->data,
                                 .row_bytes = p->row_bytes, .memory = true };
    return STRETTO_OK;
}

/* A kernel for given rows that reads only their bf16 form, as AMX's do, for any level. */
static inline void bf16_kernel(enum dtype t, const void *panels, size_t n_panels, size_t k,
                        const struct act *x, size_t rows, float *y, size_t ldy)
{
    float w[MAX_WIDTH * PANEL_COLS];
    for (size_t p = 0; p < n_panels; p++) {
        panel_decode(t, (const char *)panels + p * panel_bytes(t, k), k, w);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < PANEL_COLS; c++) {
                float sum = 0;
                for (size_t i = 0; i < k; i++)
                    sum = fmaf(w[i * PANEL_COLS + c], brain_to_float(x->h[r * x->ldh + i]), sum);
                y[r * ldy + p * PANEL_COLS + c] = sum;
            }
    }
}

static inline void given_q8_0(const void *panels, size_t n_panels, size_t k, const struct act *x,
                       size_t rows, float *y, size_t ldy)
{
    bf16_kernel(DT_Q8_0, panels, n_panels, k, x, rows, y, ldy);
}

static inline void given_f16(const void *panels, size_t n_panels, size_t k, const struct act *x,
                      size_t rows, float *y, size_t ldy)
{
    bf16_kernel(DT_F16, panels, n_panels, k, x, rows, y, ldy);
}

/* ---- steps
 * ---------------------------------------------------------------------------------------- */

struct rows {
    int32_t token[MAX_ROWS], position[MAX_ROWS], seq[MAX_ROWS], slot[MAX_ROWS], parent[MAX_ROWS];
    uint8_t given[MAX_ROWS];
    float vectors[MAX_ROWS * MAX_WIDTH];
    struct step_seq seqs[SEQS];
    int32_t ask_row[MAX_ROWS], page[GRAPH_GROUPS * SEQS * SEQ_PAGES], page_at[GRAPH_GROUPS * SEQS];
    uint8_t ask_wants[MAX_ROWS];
    int32_t set_at[GRAPH_SETS + 1], set_row[GRAPH_SETS * MAX_ROWS];
    float set_weight[GRAPH_SETS * MAX_ROWS];
    struct step step;
    size_t n, n_asks;
};

/* A token of the table, or a vector that the row brings. */
static inline int32_t token_or_vector(struct rows *r, size_t at, const struct graph *g)
{
    const struct graph_value *input = &g->values[0];
    const struct graph_node *n = &g->nodes[input->made_by];
    if (n->embed == EMBED_TOKEN && chance(90))
        return (int32_t)below(g->params[node_param(g, n, 0)].n_out);
    for (uint32_t i = 0; i < input->width; i++) r->vectors[at * input->width + i] = real(-1, 1);
    return -1 - (int32_t)at;
}

/* `n` rows of a sequence that has `committed` tokens: a chain, or a tree of guesses. */
static inline void add_rows(struct rows *r, int32_t seq, int32_t committed, size_t n, bool tree,
                     const struct graph *g)
{
    struct step_seq *q = &r->seqs[seq];
    size_t given = below((uint32_t)n + 1);
    *q = (struct step_seq){ committed, (int32_t)r->n, (int32_t)n, 0 };
    for (size_t i = 0; i < n; i++) {
        size_t at = r->n + i;
        int32_t parent = i ? (int32_t)at - 1 : STEP_COMMITTED;
        if (tree && i && chance(50))
            parent = chance(80) ? q->first_row + (int32_t)below((uint32_t)i) : STEP_COMMITTED;
        if (i && parent != (int32_t)at - 1) q->tree = 1;
        r->token[at] = token_or_vector(r, at, g);
        r->parent[at] = parent;
        r->position[at] = parent < 0 ? committed : r->position[parent] + 1;
        r->slot[at] = committed + (int32_t)i;
        r->seq[at] = seq;
        r->given[at] = !tree && i < given;
    }
    r->n += n;
}

/* Rows that ask, in any order, those that want nothing of the head last. `all`: every row, for
 * everything that the graph answers. */
static inline void add_asks(struct rows *r, bool all, bool of_head, const struct graph *g)
{
    int32_t order[MAX_ROWS];
    uint32_t wants[MAX_ROWS], most = g->hidden == GRAPH_NONE ? 0 : WANT_HIDDEN;
    if (g->logits != GRAPH_NONE && of_head) most |= WANT_OF_HEAD;
    r->n_asks = 0;
    for (size_t i = 0; i < r->n; i++) {
        size_t to = below((uint32_t)i + 1);
        order[i] = order[to];
        order[to] = (int32_t)i;
        wants[i] = all ? most : chance(40) ? most & noise() : 0;
    }
    for (int last = 0; last < 2; last++) {
        for (size_t i = 0; i < r->n; i++) {
            uint32_t w = wants[order[i]];
            bool head = (w & WANT_OF_HEAD) != 0;
            if (!w || head == last) continue;
            r->ask_row[r->n_asks] = order[i];
            r->ask_wants[r->n_asks++] = (uint8_t)w;
        }
        if (!last) r->step.n_heads = r->n_asks;
    }
    r->step.n_asks = r->n_asks;
}

/* Pages in another order in every layer group; none where no row sees anything. */
static inline void place_pages(struct rows *r, const int32_t *committed, const struct graph *g)
{
    enum { PAGES = SEQS * SEQ_PAGES };
    for (int32_t k = 0; k < (int32_t)g->n_groups; k++)
        for (int32_t s = 0; s < SEQS; s++) {
            int32_t *page = r->page + k * PAGES + s * SEQ_PAGES, window = (int32_t)g->group[k].window;
            r->page_at[k * SEQS + s] = (int32_t)(page - r->page);
            for (int32_t i = 0; i < SEQ_PAGES; i++) page[i] = (5 * (s * SEQ_PAGES + i) + 3 + k) % PAGES;
            for (int32_t i = 0; window && i < (committed[s] + 1 - window) / ATTN_BLOCK; i++) page[i] = -1;
        }
}

/* Any rows in any set; now and then none at all. */
static inline void choose_sets(struct rows *r, const struct graph *g)
{
    if (!g->n_sets || chance(15)) return;
    for (uint32_t s = 0, n = 0; s < g->n_sets; r->set_at[++s] = (int32_t)n)
        for (size_t i = 0, share = chance(20) ? 0 : 10 + below(100); i < r->n; i++) {
            if (!chance((uint32_t)share)) continue;
            r->set_row[n] = (int32_t)i;
            r->set_weight[n++] = real(-2, 2);
        }
    r->step.set_at = r->set_at;
    r->step.set_row = r->set_row;
    r->step.set_weight = r->set_weight;
}

/* All rows in every set. */
static inline void fill_sets(struct rows *r, const struct graph *g)
{
    for (uint32_t s = 0, n = 0; s < g->n_sets; r->set_at[++s] = (int32_t)n)
        for (size_t i = 0; i < r->n; i++) {
            r->set_row[n] = (int32_t)i;
            r->set_weight[n++] = real(1, 2);
        }
    r->step.set_at = g->n_sets ? r->set_at : NULL;
    r->step.set_row = r->set_row;
    r->step.set_weight = r->set_weight;
}

/* Every sequence goes on behind its `committed` tokens; all together have at most `most` rows. */
static inline void make_step(struct rows *r, const int32_t *committed, uint32_t most, bool tree,
                      const struct graph *g)
{
    r->n = 0;
    for (int32_t s = 0; s < SEQS; s++)
        add_rows(r, s, committed[s], 1 + below(s ? RANDOM_FEW / 2 : most - RANDOM_FEW / 2), tree, g);
    place_pages(r, committed, g);
    r->step = (struct step){ .n_rows = r->n, .n_seqs = SEQS, .token = r->token,
                             .position = r->position, .seq = r->seq, .slot = r->slot,
                             .parent = r->parent, .given = r->given, .vectors = r->vectors,
                             .seqs = r->seqs, .ask_row = r->ask_row, .ask_wants = r->ask_wants,
                             .page = r->page, .page_at = r->page_at };
    r->set_at[0] = 0;
    choose_sets(r, g);
}
#endif
