/* Graphs of random shape on cards: programs must answer, bit for bit, what an interpreter that fuses nothing answers
 * (interpreter.h), whose norms, functions, rotations and attention are the card's own kernels for one row alone;
 * linear layers, sums and products are plain loops and the reference kernels. So it is lowering, places, steps as
 * words, tapes and row passes that are held to something here; kernels are in tests of their own. Steps are
 * chains and guess trees of two sequences, large and small; on the mock of CUDA (tests/gpu) small ones are tapes, used
 * again by smaller steps.
 *
 * `plants` gives the card another step than the interpreter, to see that every part of it shows. */
#include "unit/backend/random_graph.h"
#include "backend/gpu/program.h"
#include "backend/gpu/kernels/words.h"

enum { GRAPHS = 24, PLANTED = 12, STEPS = 5, LD = MAX_WIDTH, LEAF_ROWS = SEQ_SLOTS };

/* ---- one row of one node, on the card --------------------------------------------------------------------- */

/* Places of a leaf: words of the activations. */
enum {
    IN, OUT = IN + LD, KEYS = OUT + LEAF_ROWS * LD, VALUES = KEYS + LEAF_ROWS * LD, WORDS = VALUES + LEAF_ROWS * LD
};
enum { STEP_LEAF = STEP_HEADER + 8 * LEAF_ROWS + 2 * ROPE_MAX_HALF };

static struct {
    struct device *device;
    struct gpu_device *gpu;
    struct gpu_places places;
    struct gpu_memory *pool, *partial;
    int32_t step[STEP_LEAF];
} leaf;

static struct gpu_memory *memory_of(uint64_t bytes)
{
    struct gpu_memory *m = NULL;
    struct error err = { 0 };
    assert_int_equal(leaf.gpu->driver->alloc(leaf.gpu->card, bytes, &m, &err), STRETTO_OK);
    return m;
}

static void put(struct gpu_memory *m, size_t word, const void *from, size_t words)
{
    struct error err = { 0 };
    assert_int_equal(leaf.gpu->driver->write(leaf.gpu->card, m, word * 4, from, words * 4, &err), STRETTO_OK);
    assert_int_equal(leaf.gpu->driver->finish(leaf.gpu->card, &err), STRETTO_OK);
}

static void get(size_t word, float *to, size_t words)
{
    struct error err = { 0 };
    assert_int_equal(leaf.gpu->driver->read(leaf.gpu->card, leaf.places.activations, word * 4, to, words * 4, &err),
                     STRETTO_OK);
    assert_int_equal(leaf.gpu->driver->finish(leaf.gpu->card, &err), STRETTO_OK);
}

static void leaf_open(const char *word)
{
    struct device_options o = { 0 };
    struct error err = { 0 };
    if (backend_open(word, &o, &leaf.device, &err) != STRETTO_OK) SKIP("%s (./dev test installs PoCL)", err.text);
    leaf.gpu = (struct gpu_device *)(void *)leaf.device;
    leaf.places = (struct gpu_places){ memory_of(WORDS * 4), memory_of(2 * LD * 4), memory_of(sizeof leaf.step),
                                       memory_of(INSTR_WORDS * 4) };
    leaf.pool = memory_of(SEQ_PAGES * 4 * gpu_head_bytes(CACHE_F32, MAX_WIDTH));
    leaf.partial = memory_of(16);
}

static void leaf_close(void)
{
    struct gpu_memory *all[] = { leaf.places.activations, leaf.places.vectors, leaf.places.step,
                                 leaf.places.instructions, leaf.pool, leaf.partial };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) leaf.gpu->driver->free(all[i]);
    device_close(leaf.device);
}

static void run_rows(const int32_t *words, bool store, uint32_t rows)
{
    struct error err = { 0 };
    put(leaf.places.instructions, 0, words, INSTR_WORDS);
    assert_int_equal(gpu_rows_run(leaf.gpu, leaf.gpu->rows[CACHE_F32], &leaf.places, store ? leaf.pool : NULL, 0, 1,
                                  false, rows, &err), STRETTO_OK);
}

static int32_t bits(float x)
{
    int32_t w;
    memcpy(&w, &x, sizeof w);
    return w;
}

/* A row-wise operation. */
static void leaf_row(const struct interpreter *x, const struct graph_node *n, int32_t position, const float *a,
                     float *out)
{
    static const int32_t act[] = { [ACT_SILU] = CODE_SILU, [ACT_GELU_TANH] = CODE_GELU_TANH,
                                   [ACT_GELU_ERF] = CODE_GELU_ERF };
    int32_t w[INSTR_WORDS] = { 0 }, width = (int32_t)x->g->values[n->out].width;
    const float *weight = vector(x, n, 0), *bias = vector(x, n, 1);
    w[INSTR_IN] = IN, w[INSTR_OUT] = OUT, w[INSTR_IN_LD] = w[INSTR_OUT_LD] = LD;
    w[INSTR_WIDTH] = width;
    w[INSTR_W] = w[INSTR_B] = -1;
    memset(leaf.step, 0, STEP_HEADER * sizeof *leaf.step);
    leaf.step[STEP_ROWS] = 1;
    if (n->op == OP_NORM) {
        size_t length = n->norm.head_dim ? n->norm.head_dim : (size_t)width;
        w[INSTR_OP] = n->norm.kind == NORM_LAYER ? CODE_NORM_LAYER : CODE_NORM_RMS;
        w[INSTR_HEAD_DIM] = (int32_t)n->norm.head_dim;
        w[INSTR_NUMBER] = bits(n->norm.eps);
        if (weight) w[INSTR_W] = 0, put(leaf.places.vectors, 0, weight, length);
        if (bias) w[INSTR_B] = LD, put(leaf.places.vectors, LD, bias, length);
    } else if (n->op == OP_ROPE) {
        const struct rope_table *t = &x->g->rope[n->rope.table];
        float cs[2 * ROPE_MAX_HALF];
        w[INSTR_OP] = n->rope.style == ROPE_PAIRS ? CODE_ROPE_PAIRS : CODE_ROPE_HALVES;
        w[INSTR_HEADS] = (int32_t)n->rope.heads;
        w[INSTR_HEAD_DIM] = (int32_t)n->rope.head_dim;
        w[INSTR_TABLE] = (int32_t)n->rope.table;
        w[INSTR_ROT] = (int32_t)t->n_rot;
        angles_at(t, position, cs);
        leaf.step[STEP_ANGLES + (int)n->rope.table] = 64;
        memcpy(leaf.step + 64, cs, t->n_rot * sizeof *cs);
    } else if (n->op == OP_ACT) w[INSTR_OP] = act[n->act];
    else {
        w[INSTR_OP] = CODE_SOFTCAP;
        w[INSTR_NUMBER] = bits(n->cap);
    }
    put(leaf.places.step, 0, leaf.step, 64 + 2 * ROPE_MAX_HALF);
    put(leaf.places.activations, IN, a, (size_t)width);
    run_rows(w, false, 1);
    get(OUT, out, (size_t)width);
}

/* What the row sees is a chain of rows in pages of their own, and it alone attends. */
static void leaf_attention(struct interpreter *x, const struct graph_node *n, size_t row, const float *q, float *out)
{
    const struct step_seq *seq = &x->step->seqs[x->step->seq[row]];
    const float *k[SEQ_SLOTS], *v[SEQ_SLOTS];
    size_t kv = (size_t)n->attention.kv_heads * n->attention.head_dim, width = x->g->values[n->out].width;
    int32_t hi = n->attention.causal ? x->step->position[row] + 1 : seq->committed + seq->n_rows, at = STEP_HEADER;
    int32_t w[INSTR_WORDS] = { [INSTR_OP] = CODE_STORE, [INSTR_IN] = KEYS, [INSTR_IN_LD] = LD, [INSTR_IN2] = VALUES,
                               [INSTR_IN2_LD] = LD, [INSTR_LAYERS] = 1 };
    w[INSTR_WIDTH] = (int32_t)kv;
    w[INSTR_HEADS] = (int32_t)n->attention.kv_heads;
    w[INSTR_HEAD_DIM] = (int32_t)n->attention.head_dim;
    struct error err = { 0 };
    seen(x, n, false, row, k);
    seen(x, n, true, row, v);
    memset(leaf.step, 0, sizeof leaf.step);
    leaf.step[STEP_ROWS] = hi;
    for (int word = STEP_POSITION; word <= STEP_TAIL; word++, at += hi) {
        leaf.step[word] = at;
        for (int32_t p = 0; p < hi; p++)
            leaf.step[at + p] = word == STEP_POSITION || word == STEP_SLOT ? p
                              : word == STEP_SEES ? (n->attention.causal ? p + 1 : hi) : word == STEP_TAIL ? -1 : 0;
    }
    leaf.step[STEP_PAGE_AT] = at;
    for (int32_t p = 0; p < hi; p++) leaf.step[at + p] = at + hi;
    at += hi;
    for (int32_t page = 0; page < SEQ_PAGES; page++) leaf.step[at++] = page;
    leaf.step[STEP_TILES] = 1;
    leaf.step[STEP_TILE] = at;
    leaf.step[at + TILE_ROW] = leaf.step[at + TILE_LOW] = hi - 1;
    leaf.step[at + TILE_ROWS] = 1;
    leaf.step[at + TILE_END] = hi;
    put(leaf.places.step, 0, leaf.step, (size_t)at + TILE_WORDS);
    static float rows[SEQ_SLOTS * LD];
    for (int both = 0; both < 2; both++) {
        for (int32_t p = 0; p < hi; p++) memcpy(rows + p * LD, both ? v[p] : k[p], kv * sizeof *rows);
        put(leaf.places.activations, both ? VALUES : KEYS, rows, (size_t)hi * LD);
    }
    put(leaf.places.activations, IN, q, width);
    run_rows(w, true, (uint32_t)hi);
    struct graph_node one = *n;
    one.attention.group = one.attention.member = 0;
    struct layer_group group = { .layers = 1, .kv_heads = n->attention.kv_heads, .head_dim = n->attention.head_dim };
    struct gpu_attention_job j = { .node = &one, .group = &group, .pool = leaf.pool, .partial = leaf.partial,
                                   .partial_bytes = 16, .q = IN, .q_ld = 0, .out = OUT, .out_ld = LD, .most_tiles = 1,
                                   .tile_rows = 1, .most_rows = (uint32_t)hi, .most_sees = (uint32_t)hi };
    assert_int_equal(gpu_attention_run(leaf.gpu, leaf.gpu->attention[CACHE_F32], &leaf.places, &j, &err), STRETTO_OK);
    get(OUT + (size_t)(hi - 1) * LD, out, width);
    for (size_t h = 0, hd = n->attention.head_dim; h < n->attention.heads; h++) {
        size_t of = h / (n->attention.heads / n->attention.kv_heads) * hd;
        const float *kh[SEQ_SLOTS], *vh[SEQ_SLOTS];
        int32_t window = (int32_t)n->attention.window, lo = window && hi > window ? hi - window : 0;
        for (int32_t p = lo; p < hi; p++) kh[p] = k[p] + of, vh[p] = v[p] + of;
        check_attention(x, n, q + h * hd, kh, vh, lo, hi, out + h * hd);
    }
}

static bool on_card(struct interpreter *x, const struct graph_node *n, size_t row, const float *a, float *out)
{
    size_t of = row_in(x, x->g->values[n->out].rows, row);
    switch (n->op) {
    case OP_NORM: case OP_ROPE: case OP_ACT: case OP_SOFTCAP:
        leaf_row(x, n, x->step->position[of], a, out);
        return true;
    case OP_ATTENTION:
        leaf_attention(x, n, row, a, out);
        return true;
    default: return false;
    }
}

/* ---- one graph ------------------------------------------------------------------------------------------------ */

struct subject {
    struct graph graph;
    struct parameters params;
    struct kernels kernels;
    struct weights *weights;
    struct program *program;
    struct interpreter plain;
    int32_t committed[SEQS];
};

/* Sizes of heads for which there are kernels already: a compiler takes a second for each. */
static void graph_of(struct graph *g, uint64_t seed, bool *quantised, struct error *err)
{
    for (uint64_t again = 0;; again++) {
        state_of_noise = seed + again * 77;
        *quantised = chance(50);
        make_graph(g, *quantised, err);
        bool known = true;
        for (uint32_t i = 0; i < g->n_groups; i++) known &= g->group[i].head_dim == 8 || g->group[i].head_dim == 32;
        if (known) return;
        graph_done(g);
    }
}

static void subject_open(struct subject *x, uint64_t seed, uint32_t rows)
{
    struct error err = { 0 };
    bool quantised;
    *x = (struct subject){ 0 };
    struct graph *g = &x->graph;
    graph_of(g, seed, &quantised, &err);
    x->params = (struct parameters){ g, calloc(g->n_params, sizeof *x->params.p), quantised };
    for (size_t i = 0; i < g->n_params; i++) make_parameter(&x->params, i);
    struct binding binding = { &x->params, find };
    struct upload_options up = { .threads = 1, .reference = !quantised };
    assert_int_equal(device_upload(leaf.device, &x->weights, g, &binding, &up, &err), STRETTO_OK);
    struct program_limits limits = { .max_rows = rows, .max_asks = rows, .max_seq_pages = SEQ_PAGES,
                                     .cache = CACHE_F32, .strict = true };
    for (uint32_t i = 0; i < g->n_groups; i++) limits.max_pages[i] = SEQS * SEQ_PAGES;
    assert_int_equal(device_compile(leaf.device, &x->program, g, x->weights, &limits, &err), STRETTO_OK);
    kernels_init(&x->kernels, 0);
    x->plain = (struct interpreter){ .g = g, .k = &x->kernels, .param = x->params.p, .strict = true,
                                     .reference = !quantised, .leaf = on_card };
    interpreter_open(&x->plain);
}

static void subject_close(struct subject *x)
{
    interpreter_close(&x->plain);
    leaf.device->backend->program_close(x->program);
    leaf.device->backend->weights_close(x->weights);
    free_parameters(&x->params);
    graph_done(&x->graph);
}

/* What is read without having been written is no number, and shows; what was cached stays. */
static void poison(struct program *p)
{
    struct error err = { 0 };
    struct gpu_memory *all[] = { p->places.activations, p->places.step };
    uint64_t bytes[] = { p->activation_bytes, p->step_bytes };
    unsigned char *nan = malloc(p->activation_bytes + p->step_bytes);
    memset(nan, 0xff, p->activation_bytes + p->step_bytes);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(leaf.gpu->driver->write(leaf.gpu->card, all[i], 0, nan, bytes[i], &err), STRETTO_OK);
    assert_int_equal(leaf.gpu->driver->finish(leaf.gpu->card, &err), STRETTO_OK);
    free(nan);
}

/* The card takes the step; true when it answers as the interpreter did. */
static bool card_agrees(struct subject *x, struct rows *r)
{
    static float logits[MAX_ROWS][MAX_WIDTH], hidden[MAX_ROWS][MAX_WIDTH];
    struct answer answer[MAX_ROWS], *answers[MAX_ROWS];
    struct error err = { 0 };
    for (size_t i = 0; i < r->n_asks; i++) {
        answer[i] = (struct answer){ .logits = logits[i], .hidden = hidden[i] };
        answers[i] = &answer[i];
    }
    poison(x->program);
    assert_int_equal(device_run(leaf.device, x->program, &r->step, answers, &err), STRETTO_OK);
    for (size_t i = 0; i < r->n_asks; i++)
        if (!same_answer(&x->plain, i, &answer[i])) return false;
    return true;
}

static void commit(struct subject *x, const struct rows *r)
{
    for (int32_t s = 0; s < SEQS; s++) {
        interpreter_commit(&x->plain, s, (size_t)r->seqs[s].n_rows);
        x->committed[s] += r->seqs[s].n_rows;
    }
}

static void random_graphs(void **state)
{
    static struct rows r;
    double worst = 0;
    (void)state;
    for (uint64_t seed = 0; seed < GRAPHS; seed++) {
        struct subject x;
        uint32_t rows = seed % 8 ? RANDOM_FEW : MAX_ROWS;
        subject_open(&x, seed * 1000003, rows);
        for (int step = 0; step < (x.graph.bidirectional ? 1 : STEPS); step++) {
            bool tree = step == 2 || step == 4;
            make_step(&r, x.committed, step == 0 ? rows : RANDOM_FEW, tree, &x.graph);
            add_asks(&r, false, chance(80), &x.graph);
            interpret(&x.plain, &r.step);
            if (!card_agrees(&x, &r)) {
                printf("graph of seed %llu, step %d\n", (unsigned long long)seed, step);
                assert_true(false);
            }
            /* a tree is not kept; what comes behind writes over it */
            if (!tree) commit(&x, &r);
        }
        worst = fmax(worst, x.plain.worst);
        subject_close(&x);
    }
    print_message("attention within %.3f of its bound\n", worst);
    assert_true(worst > 0 && worst <= 1);
}

/* ---- planted faults ------------------------------------------------------------------------------------------- */

typedef bool plant_fn(struct rows *r, const struct graph *g);

static bool plant_token(struct rows *r, const struct graph *g)
{
    const struct graph_node *n = &g->nodes[g->values[0].made_by];
    if (n->embed != EMBED_TOKEN || r->token[r->n - 1] < 0) return false;
    r->token[r->n - 1] = (r->token[r->n - 1] + 1) % (int32_t)g->params[node_param(g, n, 0)].n_out;
    return true;
}

static bool plant_ask(struct rows *r, const struct graph *g)
{
    (void)g;
    r->ask_row[0] = (r->ask_row[0] + 1) % (int32_t)r->n;
    return r->n > 1;
}

/* How many of the planted faults show, and how many were planted. */
static void plant(plant_fn *fn, int *shown, int *planted)
{
    static const int32_t start[SEQS];
    static struct rows r;
    for (uint64_t seed = 0; seed < 4 * GRAPHS && *planted < PLANTED; seed++) {
        struct subject x;
        subject_open(&x, seed * 1000003, RANDOM_FEW);
        make_step(&r, start, RANDOM_FEW, !x.graph.bidirectional, &x.graph);
        add_asks(&r, true, true, &x.graph);
        interpret(&x.plain, &r.step);
        assert_true(card_agrees(&x, &r));
        if (fn(&r, &x.graph)) {
            ++*planted;
            *shown += !card_agrees(&x, &r);
        }
        subject_close(&x);
    }
}

static void plants(void **state)
{
    (void)state;
    plant_fn *fns[] = { plant_token, plant_ask };
    for (size_t i = 0; i < sizeof fns / sizeof *fns; i++) {
        int shown = 0, planted = 0;
        plant(fns[i], &shown, &planted);
        assert_int_equal(planted, PLANTED);
        assert_int_equal(shown, PLANTED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(random_graphs), cmocka_unit_test(plants) };
    const char *which = getenv("STRETTO_TEST_GPU");
    leaf_open(which ? which : "opencl");
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    leaf_close();
    return failed;
}
