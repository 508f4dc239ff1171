/* Lowering by uses: graphs of random shape, in which every value may have any number of readers,
 * are compiled and must answer, bit for bit, what an interpreter that fuses nothing answers
 * (interpreter.h). All operations occur, with and without bias, before and behind the rows that
 * ask. Logits come from a linear layer, from its softcap or from something else, and may be read by
 * other nodes or be the hidden state. Weights are float32 (the reference path) or of mixed types,
 * some with a kernel of their own for given rows. Steps are chains and guess trees of two sequences;
 * rows ask for different things; one thread or two.
 *
 * That the comparison notices what it is for was tried by planting faults. By hand into lower.c and
 * run.c, each noticed:
 *   - an activation is dropped because the next node multiplies, whoever else reads it (the old rule);
 *   - the head's value, or its softcap's, is never written (the old rule); it is written only for
 *     rows that want logits; the head is skipped although the hidden state reads it;
 *   - linear layers join the phase in which their input is made; row passes join whatever their rows;
 *   - a value dies with its first reader, or in the phase in which another is born into its buffer;
 *     the hidden state dies with its last reader, or does not count as a use;
 *   - codes are made in the forms that the first reader reads; only the first of several linear
 *     layers gets its bias; rows that ask are rotated by their number among the asks.
 * Into compiled programs, by every run of this test (`plants`): a dropped activation, an unwritten
 * head, a value whose buffer is given away while somebody still reads it, codes that are not made. */
#include "unit/backend/random_graph.h"
#include "backend/cpu/cpu.h"

enum { GRAPHS = 400, PLANTED = 30, FEW_ROWS = RANDOM_FEW };

/* ---- one graph
 * ------------------------------------------------------------------------------------ */

struct subject {
    struct graph graph;
    struct parameters params;
    struct weights *weights;
    struct program *program;
    struct interpreter plain;
    int32_t committed[SEQS];
};

static struct device *devices[2];       /* of the best level, and of the reference level */

/* The level's own prompt kernels give way to ours, the same on every machine. */
static int open_devices(void **state)
{
    static const char *const levels[2] = { NULL, "ref" };
    struct error err = { 0 };
    (void)state;
    random_sets = true;
    for (int i = 0; i < 2; i++) {
        struct device_options o = { .level = levels[i] };
        if (backend_open("cpu", &o, &devices[i], &err) != STRETTO_OK) return -1;
        struct kernels *k = &((struct cpu_device *)(void *)devices[i])->kernels;
        memset(k->linear_given, 0, sizeof k->linear_given);
        memset(k->attn_given, 0, sizeof k->attn_given);
        k->linear_given[DT_Q8_0] = given_q8_0;
        k->linear_given[DT_F16] = given_f16;
    }
    return 0;
}

static int close_devices(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) device_close(devices[i]);
    return 0;
}

static void subject_open(struct subject *x, uint64_t seed, uint32_t rows, unsigned threads)
{
    struct error err = { 0 };
    state_of_noise = seed;
    *x = (struct subject){ 0 };
    bool quantised = chance(50), strict = chance(50);
    struct device *d = devices[chance(25)];
    struct graph *g = &x->graph;
    make_graph(g, quantised, &err);
    x->params = (struct parameters){ g, calloc(g->n_params, sizeof *x->params.p), quantised };
    for (size_t i = 0; i < g->n_params; i++) make_parameter(&x->params, i);
    struct binding binding = { &x->params, find };
    struct upload_options up = { .threads = threads, .reference = !quantised };
    assert_int_equal(device_upload(d, &x->weights, g, &binding, &up, &err), STRETTO_OK);
    struct program_limits limits = { .max_rows = rows, .max_asks = rows, .max_seq_pages = SEQ_PAGES,
                                     .cache = CACHE_F32, .strict = strict, .threads = threads };
    for (uint32_t i = 0; i < g->n_groups; i++) limits.max_pages[i] = SEQS * SEQ_PAGES;
    assert_int_equal(device_compile(d, &x->program, g, x->weights, &limits, &err), STRETTO_OK);
    x->plain = (struct interpreter){ .g = g, .k = x->weights->kernels, .param = x->params.p,
                                     .strict = strict, .reference = !quantised };
    interpreter_open(&x->plain);
}

static void subject_close(struct subject *x)
{
    interpreter_close(&x->plain);
    backend_cpu.program_close(x->program);
    backend_cpu.weights_close(x->weights);
    free_parameters(&x->params);
    graph_done(&x->graph);
}

/* What is read without having been written is no number, and shows. */
static void poison(struct subject *x)
{
    for (size_t v = 0; v < x->graph.n_values; v++) {
        const struct place *at = &x->program->place[v];
        size_t rows = x->program->limits.max_rows;
        if (at->f) memset(at->f, 0xff, rows * at->ld * sizeof *at->f);
        if (at->d) memset(at->d, 0xff, 2 * rows * at->ldd * sizeof *at->d);
        if (at->h) memset(at->h, 0xff, rows * at->ldq * sizeof *at->h);
    }
}

/* Both sides take the step; true when they answer the same. */
static bool step_agrees(struct subject *x, struct rows *r)
{
    static float logits[MAX_ROWS][MAX_WIDTH], hidden[MAX_ROWS][MAX_WIDTH];
    struct answer answer[MAX_ROWS], *answers[MAX_ROWS];
    struct error err = { 0 };
    for (size_t i = 0; i < r->n_asks; i++) {
        answer[i] = (struct answer){ .logits = logits[i], .hidden = hidden[i] };
        answers[i] = &answer[i];
    }
    poison(x);
    struct device *d = &x->program->device->device;
    assert_int_equal(device_run(d, x->program, &r->step, answers, &err), STRETTO_OK);
    interpret(&x->plain, &r->step);
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

/* Threads meet between phases alone: what a phase reads has been written in an earlier one, or by
 * the same pass over the same row. One thread would not notice. */
static void check_reads(const struct program *p)
{
    int made[VALUES_MAX];
    for (size_t v = 0; v < p->g->n_values; v++) made[v] = INT32_MAX;
    for (int i = 0; i < (int)p->low.n_phases; i++) {
        const struct phase *ph = &p->low.phases[i];
        for (uint32_t k = 0; ph->kind == PHASE_ROWS && k < ph->count; k++) {
            const struct row_instr *r = &p->low.rows[ph->first + k];
            /* rows of a set are others than those of the pass before; who has just changed one goes on with it */
            bool changed = r->in != GRAPH_NONE && rows_are_set(ph->rows) && made[r->in] == i
                && p->g->nodes[p->g->values[r->in].made_by].op == OP_ADD;
            bool others = r->op == ROW_ASK || (r->op == ROW_ADD && p->g->values[r->in].rows != ph->rows);
            assert_true(r->in == GRAPH_NONE || made[r->in] <= (others && !changed ? i - 1 : i));
            assert_true(r->in2 == GRAPH_NONE || made[r->in2] <= i);
            if (r->out != GRAPH_NONE) made[r->out] = i;
        }
        for (uint32_t k = 0; k < ph->n_parts; k++) assert_true(made[ph->part[k].in] < i);
        for (uint32_t k = 0; k < ph->n_parts; k++)
            if (ph->part[k].out != GRAPH_NONE) made[ph->part[k].out] = i;
        if (ph->kind == PHASE_ATTENTION) {
            assert_true(made[node_in(p->g, ph->node, 0)] < i);
            made[ph->node->out] = i;
        }
        if (ph->kind == PHASE_HEAD && ph->capped != GRAPH_NONE) made[ph->capped] = i;
    }
}

/* What must have occurred for the comparison to mean something. */
struct seen_cases {
    size_t op[OP_COUNT], taken_over, full, read_head, read_cap, other_head, read_hidden, groups;
    size_t in_place, copied, together;
};

static void count_cases(const struct subject *x, struct seen_cases *c)
{
    const struct graph *g = &x->graph;
    const struct program *p = x->program;
    for (size_t i = 0; i < g->n_nodes; i++) {
        c->op[g->nodes[i].op]++;
        for (uint32_t k = 0; k < g->nodes[i].in.count; k++)
            c->read_hidden += node_in(g, &g->nodes[i], k) == g->hidden;
    }
    c->groups += g->n_groups > 1;
    for (size_t i = 0; i < p->low.n_rows; i++) {
        const struct row_instr *r = &p->low.rows[i];
        c->taken_over += r->op == ROW_ACT_MUL;
        c->copied += r->op == ROW_COPY;
        c->in_place += r->op == ROW_ADD && p->g->values[r->in2].rows != p->g->values[r->out].rows
            && p->place[r->in].f == p->place[r->out].f && r->in != r->out;
    }
    for (size_t i = 0; i < p->low.n_phases; i++) {
        const struct phase *ph = &p->low.phases[i];
        c->full += ph->kind == PHASE_LINEAR && ph->n_parts == MAX_PARTS;
        c->together += ph->kind == PHASE_LINEAR && ph->part[0].in != ph->part[ph->n_parts - 1].in;
        c->other_head += ph->kind == PHASE_HEAD && !ph->n_parts;
        c->read_head += ph->kind == PHASE_HEAD && ph->n_parts && ph->part[0].out != GRAPH_NONE;
        c->read_cap += ph->kind == PHASE_HEAD && ph->capped != GRAPH_NONE;
    }
}

static void random_graphs(void **state)
{
    (void)state;
    double worst = 0;
    struct seen_cases c = { .full = 0 };
    for (uint64_t seed = 0; seed < GRAPHS; seed++) {
        struct subject x;
        struct rows r;
        uint32_t rows = seed % 8 ? FEW_ROWS : MAX_ROWS;
        subject_open(&x, seed * 1000003, rows, seed % 4 ? 1 : 2);
        /* an encoder sees whole texts; others go on where the last step ended */
        for (int step = 0; step < (x.graph.bidirectional ? 1 : 3); step++) {
            make_step(&r, x.committed, step == 0 ? rows : FEW_ROWS, step == 2, &x.graph);
            add_asks(&r, false, chance(80), &x.graph);
            if (!step_agrees(&x, &r)) {
                printf("graph of seed %llu, step %d\n", (unsigned long long)seed, step);
                assert_true(false);
            }
            commit(&x, &r);
        }
        check_reads(x.program);
        count_cases(&x, &c);
        worst = fmax(worst, x.plain.worst);
        subject_close(&x);
    }
    assert_true(worst > 0 && worst <= 1);
    for (int op = 0; op < OP_SEE; op++) assert_true(c.op[op] >= GRAPHS / 10);
    printf("%zu sums in place, %zu copied first, %zu layers of several inputs together\n", c.in_place, c.copied,
           c.together);
    assert_true(c.in_place >= GRAPHS / 10 && c.copied >= GRAPHS / 20 && c.together >= GRAPHS / 20);
    assert_true(c.groups >= GRAPHS / 10);
    assert_true(c.taken_over >= GRAPHS / 10 && c.full >= GRAPHS / 40);
    assert_true(c.other_head >= GRAPHS / 20 && c.read_hidden >= GRAPHS / 20);
    assert_true(c.read_head >= GRAPHS / 20 && c.read_cap >= GRAPHS / 20);
}

/* ---- planted faults
 * ------------------------------------------------------------------------------- */

/* Each plants its fault at the first place from *at on and moves *at behind it, or says false. */
typedef bool plant_fn(struct subject *x, size_t *at);

/* Where a value that is not written any more is read, so that it is not found by chance in what
 * stood in its buffer before; filled by `poison`. */
static float nowhere[FEW_ROWS * 2 * MAX_WIDTH];

/* An instruction without effect: the angles are there already. */
static void drop(struct row_instr *r)
{
    *r = (struct row_instr){ ROW_ANGLES, NULL, GRAPH_NONE, GRAPH_NONE, GRAPH_NONE, GRAPH_NONE, GRAPH_NONE, GRAPH_NONE };
}

static bool read_by(const struct graph *g, int32_t v, enum op op)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; g->nodes[i].op == op && k < g->nodes[i].in.count; k++)
            if (node_in(g, &g->nodes[i], k) == v) return true;
    return false;
}

static bool plant_dropped_activation(struct subject *x, size_t *at)
{
    struct program *p = x->program;
    for (; *at < p->low.n_rows; ++*at) {
        struct row_instr *r = &p->low.rows[*at];
        if (r->op != ROW_ACT || r->node->act == ACT_GELU_ERF) continue;
        if (!read_by(&x->graph, r->out, OP_MUL)) continue;
        p->place[r->out].f = nowhere;
        drop(r);
        ++*at;
        return true;
    }
    return false;
}

static bool plant_no_codes(struct subject *x, size_t *at)
{
    struct program *p = x->program;
    for (; *at < p->low.n_rows; ++*at) {
        struct row_instr *r = &p->low.rows[*at];
        if (r->op != ROW_QUANT || !(p->place[r->in].forms & FORM_CODES)) continue;
        p->place[r->in].d = nowhere;
        drop(r);
        ++*at;
        return true;
    }
    return false;
}

static bool plant_unwritten_head(struct subject *x, size_t *at)
{
    struct program *p = x->program;
    for (; *at < 2 * p->low.n_phases; ++*at) {
        struct phase *ph = &p->low.phases[*at / 2];
        int32_t *v = *at % 2 ? &ph->capped : &ph->part[0].out;
        if (ph->kind != PHASE_HEAD || *v == GRAPH_NONE || !ph->n_parts) continue;
        p->place[*v].f = nowhere;
        *v = GRAPH_NONE;
        ++*at;
        return true;
    }
    return false;
}

/* Two values in one buffer: a sum that is made between two reads of the other. Row-wise operations
 * run in the order of their nodes. */
static bool plant_early_death(struct subject *x, size_t *at)
{
    const struct graph *g = &x->graph;
    for (; *at < g->n_nodes; ++*at) {
        const struct graph_node *n = &g->nodes[*at];
        const struct graph_value *sum = &g->values[n->out];
        if (n->op != OP_ADD) continue;
        for (size_t i = *at + 1; i < g->n_nodes; i++) {
            if (g->nodes[i].op != OP_ADD && g->nodes[i].op != OP_NORM) continue;
            int32_t v = node_in(g, &g->nodes[i], 0);
            if (v >= n->out || g->values[v].rows != sum->rows || g->values[v].width != sum->width)
                continue;
            size_t bytes = rows_in(&x->plain, sum->rows) * sum->width * sizeof(float);
            if (memcmp(x->plain.value[v], x->plain.value[n->out], bytes) == 0) continue;
            x->program->place[v].f = x->program->place[n->out].f;
            ++*at;
            return true;
        }
    }
    return false;
}

/* A program of its own for every fault. All rows are written and ask, so that nothing hides behind
 * what nobody asked for. */
static bool fault_agrees(uint64_t seed, plant_fn *plant, size_t *at, bool *planted)
{
    static const int32_t start[SEQS];
    struct subject x;
    struct rows r;
    subject_open(&x, seed, FEW_ROWS, 1);
    make_step(&r, start, FEW_ROWS, false, &x.graph);
    add_asks(&r, true, true, &x.graph);
    fill_sets(&r, &x.graph);
    memset(r.given, 0, sizeof r.given);
    interpret(&x.plain, &r.step);
    *planted = plant(&x, at);
    bool agrees = step_agrees(&x, &r);
    subject_close(&x);
    return agrees;
}

static void plants(void **state)
{
    (void)state;
    static const struct { const char *name; plant_fn *plant; } kinds[] = {
        { "a dropped activation that others read", plant_dropped_activation },
        { "a head whose value is not written", plant_unwritten_head },
        { "a value that dies too early", plant_early_death },
        { "codes that are not made", plant_no_codes },
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        int count = 0;
        for (uint64_t seed = 0; seed < GRAPHS && count < PLANTED; seed++) {
            bool planted = true, agrees;
            for (size_t at = 0; planted && count < PLANTED; count += planted) {
                agrees = fault_agrees(seed * 1000003, kinds[k].plant, &at, &planted);
                if (agrees == planted)
                    printf("%s: graph of seed %llu\n", kinds[k].name, (unsigned long long)seed);
                assert_true(agrees != planted);
            }
        }
        assert_int_equal(count, PLANTED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(random_graphs), cmocka_unit_test(plants) };
    return cmocka_run_group_tests(tests, open_devices, close_devices);
}
