/* Lowering: the graph's nodes become phases. Linear layers that read the same input and stand side
 * by side share a phase (q|k|v, gate|up); row-wise operations between two of them share one pass
 * over each row, the quantisation of the next layer's input included. Buffers are planned by the
 * phases between a value's birth and its last use, so two values that never live together share
 * memory. */
#include "backend/cpu/cpu.h"
#include "base/memory.h"
#include <string.h>

struct lower {
    struct program *p;
    const struct graph *g;
    struct phase *phases; /* NULL while counting                                     */
    struct row_instr *rows;
    size_t n_phases, n_rows;
    struct phase last; /* the newest phase, also while counting                   */
    struct { const struct graph_node *node; } bias[MAX_PARTS];
    size_t n_bias;
    int32_t *born, *dies; /* [n_values] phase numbers                                */
    uint8_t *forms;       /* [n_values] enum form: what linear layers read it as     */
    int32_t cache_layer;
};

static void store_last(struct lower *l)
{
    if (l->n_phases && l->phases) l->phases[l->n_phases - 1] = l->last;
}

static void new_phase(struct lower *l, struct phase ph)
{
    store_last(l);
    l->n_phases++;
    l->last = ph;
    store_last(l);
}

static void touch(struct lower *l, int32_t v)
{
    if (v == GRAPH_NONE) return;
    int32_t now = (int32_t)l->n_phases - 1;
    if (l->born[v] < 0) l->born[v] = now;
    l->dies[v] = now;
}

static void flush_bias(struct lower *l);

static void row(struct lower *l, struct row_instr r, enum rows_kind rows)
{
    flush_bias(l);
    if (!l->n_phases || l->last.kind != PHASE_ROWS || l->last.rows != rows)
        new_phase(l,
                  (struct phase){.kind = PHASE_ROWS, .rows = rows, .first = (uint32_t)l->n_rows});
    if (l->rows) l->rows[l->n_rows] = r;
    l->n_rows++;
    l->last.count++;
    store_last(l);
    touch(l, r.in);
    touch(l, r.in2);
    touch(l, r.out);
}

static void flush_bias(struct lower *l)
{
    size_t n = l->n_bias;
    l->n_bias = 0;
    for (size_t i = 0; i < n; i++) {
        const struct graph_node *node = l->bias[i].node;
        row(l, (struct row_instr){ ROW_BIAS, node, node->out, GRAPH_NONE, node->out, 0 },
            l->g->values[node->out].rows);
    }
}

/* Linear layers with weights of this type read rows in these forms, besides float32. */
static uint8_t forms_read(const struct lower *l, int32_t param)
{
    enum dtype t = l->p->w->weight[param].type;
    bool quantised = dtype_table[t].block > 1;
    bool given = !l->p->limits.strict && l->p->w->kernels->linear_given[t];
    return (uint8_t)((quantised ? FORM_CODES : 0) | (quantised && !given ? FORM_CODES_GIVEN : 0) |
                     (given ? FORM_BF16 : 0));
}

/* The row pass that makes them, once a value: which ones is looked up when it runs. */
static void make_forms(struct lower *l, const struct graph_node *n, enum rows_kind rows)
{
    int32_t x = node_in(l->g, n, 0);
    uint8_t *have = &l->forms[x], want = forms_read(l, node_param(l->g, n, 0));
    if (want && !*have)
        row(l, (struct row_instr){ ROW_QUANT, n, x, GRAPH_NONE, GRAPH_NONE, 0 }, rows);
    *have |= want;
}

static void linear(struct lower *l, const struct graph_node *n)
{
    int32_t x = node_in(l->g, n, 0);
    enum rows_kind rows = l->g->values[x].rows;
    make_forms(l, n, rows);
    bool join = l->last.kind == PHASE_LINEAR && l->last.rows == rows && l->last.n_parts < MAX_PARTS;
    for (uint32_t i = 0; join && i < l->last.n_parts; i++)
        if (l->last.part[i].out == x) join = false;
    if (!join) {
        flush_bias(l);
        new_phase(l, (struct phase){ .kind = PHASE_LINEAR, .rows = rows });
    }
    uint32_t at = l->last.n_parts++;
    l->last.part[at].in = x;
    l->last.part[at].out = n->out;
    l->last.part[at].param = node_param(l->g, n, 0);
    store_last(l);
    touch(l, x);
    touch(l, n->out);
    if (node_param(l->g, n, 1) != GRAPH_NONE) l->bias[l->n_bias++].node = n;
}

/* The head writes no buffer: its logits go straight to the answers. */
static void head(struct lower *l, const struct graph_node *n, const struct graph_node *cap)
{
    make_forms(l, n, ROWS_ASKING);
    flush_bias(l);
    struct phase ph = { .kind = PHASE_HEAD, .rows = ROWS_ASKING, .n_parts = 1, .node = cap };
    ph.part[0].in = node_in(l->g, n, 0);
    ph.part[0].out = n->out;
    ph.part[0].param = node_param(l->g, n, 0);
    ph.part[0].bias = node_param(l->g, n, 1);
    new_phase(l, ph);
    touch(l, node_in(l->g, n, 0));
}

/* act then mul of the same pass: one instruction where the kernels have one. */
static bool act_mul(struct lower *l, const struct graph_node *n)
{
    const struct graph_node *made = &l->g->nodes[l->g->values[node_in(l->g, n, 0)].made_by];
    if (made->op != OP_ACT || made + 1 != n || made->act == ACT_GELU_ERF) return false;
    row(l,
        (struct row_instr){ ROW_ACT_MUL, made, node_in(l->g, made, 0), node_in(l->g, n, 1), n->out,
                            0 },
        l->g->values[n->out].rows);
    return true;
}

static void lower_node(struct lower *l, size_t i)
{
    const struct graph *g = l->g;
    const struct graph_node *n = &g->nodes[i];
    enum rows_kind rows = g->values[n->out].rows;
    static const enum row_op plain[OP_COUNT] = {
        [OP_EMBED] = ROW_EMBED, [OP_NORM] = ROW_NORM, [OP_ROPE] = ROW_ROPE, [OP_ACT] = ROW_ACT,
        [OP_MUL] = ROW_MUL, [OP_ADD] = ROW_ADD, [OP_SCALE] = ROW_SCALE, [OP_SOFTCAP] = ROW_SOFTCAP,
        [OP_ASK] = ROW_ASK,
    };
    switch (n->op) {
    case OP_LINEAR:
        if (n->out == g->logits) head(l, n, NULL);
        else if (i + 1 < g->n_nodes && g->nodes[i + 1].op == OP_SOFTCAP &&
                 g->nodes[i + 1].out == g->logits)
            head(l, n, n + 1);
        else linear(l, n);
        return;
    case OP_SOFTCAP:
        if (n->out == g->logits) return;
        break;
    case OP_ACT:
        if (i + 1 < g->n_nodes && g->nodes[i + 1].op == OP_MUL
            && node_in(g, &g->nodes[i + 1], 0) == n->out && n->act != ACT_GELU_ERF)
            return;                       /* the multiplication that follows does both */
        break;
    case OP_MUL:
        if (act_mul(l, n)) return;
        break;
    case OP_ATTENTION:
        row(l,
            (struct row_instr){ ROW_STORE, n, node_in(g, n, 1), node_in(g, n, 2), GRAPH_NONE,
                                l->cache_layer },
            ROWS_ALL);
        new_phase(
            l, (struct phase){.kind = PHASE_ATTENTION, .node = n, .cache_layer = l->cache_layer++});
        touch(l, node_in(g, n, 0));
        touch(l, n->out);
        return;
    default:
        break;
    }
    row(l, (struct row_instr){ plain[n->op], n, node_in(g, n, 0), node_in(g, n, 1), n->out, 0 },
        rows);
}

static void walk(struct lower *l)
{
    l->n_phases = l->n_rows = l->n_bias = 0;
    l->cache_layer = 0;
    l->last = (struct phase){ 0 };
    for (size_t v = 0; v < l->g->n_values; v++) {
        l->born[v] = l->dies[v] = -1;
        l->forms[v] = 0;
    }
    if (l->g->n_rope)
        row(l, (struct row_instr){ROW_ANGLES, NULL, GRAPH_NONE, GRAPH_NONE, GRAPH_NONE, 0},
            ROWS_ALL);
    for (size_t i = 0; i < l->g->n_nodes; i++) lower_node(l, i);
    flush_bias(l);
    if (l->g->hidden != GRAPH_NONE) l->dies[l->g->hidden] = (int32_t)l->n_phases;
}

/* Row strides keep away from multiples of 4 KiB, where the rows of a block would fight for one
 * cache set. */
static size_t pad_row(size_t elements, size_t size)
{
    size_t bytes = (elements * size + 63) & ~(size_t)63;
    if (bytes % 4096 == 0) bytes += 64;
    return bytes / size;
}

struct buffer_plan { size_t at, bytes; int32_t free_after; };
enum { MAX_BUFFERS = 64 };

/* First fit among buffers whose value has died; sizes differ little, so waste stays small. */
static size_t take_buffer(struct buffer_plan *b, size_t *n, struct arena *a, size_t bytes,
                          int32_t born, int32_t dies)
{
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < *n; i++)
        if (b[i].free_after < born && b[i].bytes >= bytes &&
            (best == SIZE_MAX || b[i].bytes < b[best].bytes))
            best = i;
    if (best == SIZE_MAX) {
        if (*n == MAX_BUFFERS) return SIZE_MAX;
        arena_take(a, bytes);
        best = (*n)++;
        b[best] = (struct buffer_plan){ a->top - bytes, bytes, 0 };
    }
    b[best].free_after = dies;
    return b[best].at;
}

static stretto_status place_values(struct lower *l, struct arena *a, struct error *err)
{
    struct program *p = l->p;
    struct buffer_plan plan[MAX_BUFFERS];
    size_t n = 0;
    for (size_t v = 0; v < l->g->n_values; v++) {
        if (l->born[v] < 0) continue;
        size_t rows = l->g->values[v].rows == ROWS_ASKING ? p->limits.max_asks : p->limits.max_rows;
        size_t width = l->g->values[v].width,
               padded = (width + PANEL_COLS - 1) / PANEL_COLS * PANEL_COLS;
        struct place x = { .ld = pad_row(padded, sizeof(float)), .forms = l->forms[v] };
        size_t f = take_buffer(plan, &n, a, rows * x.ld * sizeof(float), l->born[v], l->dies[v]);
        size_t q = 0, d = 0, h = 0;
        if (x.forms) x.ldq = pad_row(width, 1);
        if (x.forms & FORM_CODES) {
            x.ldd = pad_row((width + PANEL_GROUP - 1) / PANEL_GROUP, sizeof(float));
            q = take_buffer(plan, &n, a, rows * x.ldq, l->born[v], l->dies[v]);
            d = take_buffer(plan, &n, a, 3 * rows * x.ldd * sizeof(float), l->born[v], l->dies[v]);
        }
        if (x.forms & FORM_BF16)
            h = take_buffer(plan, &n, a, rows * x.ldq * sizeof(uint16_t), l->born[v], l->dies[v]);
        if (f == SIZE_MAX || q == SIZE_MAX || d == SIZE_MAX || h == SIZE_MAX)
            return fail(err, STRETTO_E_UNSUP, "the model needs more than %d step buffers at once",
                        MAX_BUFFERS);
        if (!a->base) continue;
        x.f = (float *)(a->base + f);
        if (x.forms & FORM_CODES) {
            x.q = (int8_t *)(a->base + q);
            x.d = (float *)(a->base + d);
            x.s = x.d + rows * x.ldd;
            x.sum = (int16_t *)(void *)(x.s + rows * x.ldd);
        }
        if (x.forms & FORM_BF16) x.h = (uint16_t *)(a->base + h);
        p->place[v] = x;
    }
    return STRETTO_OK;
}

static stretto_status take_all(struct lower *l, struct arena *a, struct error *err)
{
    struct program *p = l->p;
    const struct program_limits *lim = &p->limits;
    unsigned threads = p->threads;
    l->phases = NULL;
    l->rows = NULL;
    walk(l);
    size_t n_phases = l->n_phases, n_rows = l->n_rows;
    struct phase *phases = arena_take(a, n_phases * sizeof *phases);
    struct row_instr *rows = arena_take(a, n_rows * sizeof *rows);
    p->place = arena_take(a, l->g->n_values * sizeof *p->place);
    p->tiles = arena_take(a, lim->max_rows * sizeof *p->tiles);
    p->jobs = arena_take(a, (size_t)SHARED_JOBS * threads * sizeof *p->jobs);
    p->tickets = arena_take(a, n_phases * sizeof *p->tickets);
    p->best = arena_take(a, (size_t)threads * lim->max_asks * sizeof *p->best);
    p->top = arena_take(a, (size_t)threads * lim->max_asks * sizeof *p->top);
    p->scratch = arena_take(a, threads * sizeof *p->scratch);
    for (size_t r = 0; r < l->g->n_rope; r++)
        p->angles[r] = arena_take(a, (size_t)lim->max_rows * l->g->rope[r].n_rot * sizeof(float));
    uint32_t heads = 0;
    for (size_t i = 0; i < l->g->n_nodes; i++)
        if (l->g->nodes[i].op == OP_ATTENTION && l->g->nodes[i].attention.heads > heads)
            heads = l->g->nodes[i].attention.heads;
    p->partial = arena_take(a, SPLIT_ROWS * ((size_t)lim->max_seq_pages + 1) * heads *
                                   (l->g->kv_head_dim + 2) * sizeof(float));
    for (unsigned t = 0; t < threads; t++) {
        struct scratch *s = attention_scratch(a, p);
        if (a->base) p->scratch[t] = s;
    }
    if (a->base) {
        memset(p->place, 0, l->g->n_values * sizeof *p->place);
        p->phases = l->phases = phases;
        p->rows = l->rows = rows;
        p->n_phases = n_phases;
        p->n_rows_instr = n_rows;
        walk(l);
        store_last(l);
    }
    return place_values(l, a, err);
}

stretto_status cpu_lower(struct program *p, struct arena *a, struct error *err)
{
    struct lower l = { .p = p, .g = p->g };
    size_t n = p->g->n_values;
    l.born = mem_alloc(n * sizeof *l.born);
    l.dies = mem_alloc(n * sizeof *l.dies);
    l.forms = mem_alloc(n * sizeof *l.forms);
    stretto_status s = l.born && l.dies && l.forms ? take_all(&l, a, err)
        : fail(err, STRETTO_E_NOMEM, "out of memory while planning");
    mem_free(l.born);
    mem_free(l.dies);
    mem_free(l.forms);
    return s;
}
