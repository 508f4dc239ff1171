/* Training as the backend's functions offer it (backend.h): what is refused and how, sizes before anything is read, and
 * the optimizer beside a plain one in float64. What gradients are is held to a float64 forward by tests/train. */
#include "backend/cpu/cpu.h"
#include "base/memory.h"
#include "graph/binding.h"
#include "graph/differentiate.h"
#include "graph/step.h"
#include "unit/unit.h"
#include <math.h>

enum { WIDTH = 32, VOCAB = 50, ROWS = 6 };

struct subject {
    struct graph forward, graph;
    uint8_t *trained;
    float *data[16];
    struct device *device;
    struct weights *weights;
    struct program *program;
    struct error err;
};

static void build(struct graph *g)
{
    struct error err = { 0 };
    *g = (struct graph){ .layers = 1, .n_rope = 1 };
    g->rope[0] = (struct rope_table){ .n_rot = 8, .base = 10, .magnitude = 1 };
    for (int i = 0; i < ROPE_MAX_HALF; i++) g->rope[0].factor[i] = 1;
    struct graph_builder b = { .g = g, .err = &err, .layer = -1 };
    int32_t h = graph_embed(&b, "table", VOCAB, WIDTH, EMBED_TOKEN);
    b.layer = 0;
    int32_t x = graph_norm(&b, h, NORM_RMS, 1e-5f, 0, "norm", NULL);
    int32_t q = graph_rope(&b, graph_linear(&b, x, "q", "q.bias", WIDTH), ROPE_PAIRS, 4, 8, 0);
    int32_t k = graph_rope(&b, graph_linear(&b, x, "k", NULL, WIDTH / 2), ROPE_PAIRS, 2, 8, 0);
    int32_t o = graph_attention(&b, q, k, graph_linear(&b, x, "v", NULL, WIDTH / 2), 4, 2, 8, 0, 0.3f, 0, true);
    h = graph_add(&b, h, graph_linear(&b, o, "o", NULL, WIDTH));
    b.layer = -1;
    h = graph_ask(&b, h);
    graph_answer(&b, h, graph_linear(&b, h, "table", NULL, VOCAB));
    assert_int_equal(b.status, STRETTO_OK);
}

static stretto_status find(void *ud, const char *name, uint32_t n_in, uint32_t n_out, struct param_bytes *out,
                           struct error *err)
{
    struct subject *x = ud;
    (void)err;
    int32_t at = graph_param_find(&x->forward, name);
    size_t n = (size_t)n_in * (n_out ? n_out : 1);
    if (!x->data[at]) {
        x->data[at] = malloc(n * sizeof(float));
        for (size_t i = 0; i < n; i++) x->data[at][i] = (float)sin((double)(i * 7 + (size_t)at * 3 + 1)) / 3;
    }
    *out = (struct param_bytes){ .type = DT_F32, .n_in = n_in, .n_out = n_out ? n_out : 1, .data = x->data[at],
                                 .row_bytes = n_in * sizeof(float), .memory = true };
    return STRETTO_OK;
}

static const struct program_limits limits = { .max_rows = ROWS, .max_asks = ROWS, .threads = 2 };

static struct upload_options upload_of(const struct subject *x)
{
    return (struct upload_options){ .threads = 2, .trained = x->trained };
}

static void open_on(struct subject *x, const char *device)
{
    *x = (struct subject){ 0 };
    struct device_options o = { .level = NULL };
    build(&x->forward);
    x->trained = malloc(x->forward.n_params);
    memset(x->trained, 1, x->forward.n_params);
    struct differentiate what = { x->trained, KEEP_VALUES };
    assert_int_equal(differentiate(&x->graph, &x->forward, &what, &x->err), STRETTO_OK);
    assert_int_equal(backend_open(device, &o, &x->device, &x->err), STRETTO_OK);
}

static void begin(struct subject *x)
{
    open_on(x, "cpu");
    struct binding binding = { x, find };
    struct upload_options up = upload_of(x);
    assert_int_equal(device_upload(x->device, &x->weights, &x->graph, &binding, &up, &x->err), STRETTO_OK);
    assert_int_equal(device_compile(x->device, &x->program, &x->graph, x->weights, &limits, &x->err), STRETTO_OK);
}

static void end(struct subject *x)
{
    if (x->program) backends[0]->program_close(x->program);
    if (x->weights) backends[0]->weights_close(x->weights);
    device_close(x->device);
    for (size_t i = 0; i < 16; i++) free(x->data[i]);
    free(x->trained);
    graph_done(&x->graph);
    graph_done(&x->forward);
}

/* ---- steps ---------------------------------------------------------------------------------------------------- */

struct rows {
    int32_t token[ROWS], position[ROWS], range_at[ROWS + 1], ranges[2 * ROWS * (STEP_RANGES + 1)], ask[ROWS];
    uint8_t given[ROWS], wants[ROWS];
    struct step_target target[ROWS];
    struct answer answer[ROWS], *answers[ROWS];
    struct step step;
};

static void chain(struct rows *r)
{
    *r = (struct rows){ 0 };
    for (int i = 0; i < ROWS; i++) {
        r->token[i] = i * 5 + 1;
        r->position[i] = r->range_at[i] = r->ask[i] = i;
        r->ranges[2 * i + 1] = i + 1;
        r->wants[i] = WANT_LOSS;
        r->target[i] = (struct step_target){ .token = i * 3, .weight = 1.0f / ROWS };
        r->answers[i] = &r->answer[i];
    }
    r->range_at[ROWS] = ROWS;
    r->step = (struct step){ .n_rows = ROWS, .n_asks = ROWS, .token = r->token, .position = r->position,
                             .given = r->given, .ask_row = r->ask, .ask_wants = r->wants, .targets = r->target,
                             .range_at = r->range_at, .ranges = r->ranges };
}

static stretto_status run(struct subject *x, struct rows *r)
{
    x->err = (struct error){ 0 };
    return device_run(x->device, x->program, &r->step, r->answers, &x->err);
}

static void refused(struct subject *x, struct rows *r, const char *why)
{
    assert_int_equal(run(x, r), STRETTO_E_ARG);
    assert_non_null(strstr(x->err.text, why));
    chain(r);
}

static void steps_that_mean_nothing_are_refused(void **state)
{
    (void)state;
    struct subject x;
    struct rows r;
    begin(&x);
    chain(&r);
    assert_int_equal(run(&x, &r), STRETTO_OK);
    r.ranges[5] = ROWS + 1;
    refused(&x, &r, "sees rows 0 to 7 of a step of 6");
    r.ranges[4] = 3;
    refused(&x, &r, "row 2 sees rows 3 to 3");
    r.range_at[ROWS] = ROWS + STEP_RANGES;
    refused(&x, &r, "at most 4");
    r.step.ranges = NULL;
    refused(&x, &r, "by ranges");
    r.step.targets = NULL;
    refused(&x, &r, "no targets");
    r.target[2].token = VOCAB;
    refused(&x, &r, "the target of ask 2");
    r.wants[1] = WANT_BEST;
    refused(&x, &r, "ask 1 of a graph with a loss wants something else");
    r.ask[3] = 2;
    refused(&x, &r, "rows that want a loss ascend");
    r.token[4] = VOCAB;
    refused(&x, &r, "row 4 looks up what is not there: token 50");
    r.token[1] = -1;
    refused(&x, &r, "row 1 looks up what is not there");
    r.step.n_rows = ROWS + 1;
    refused(&x, &r, "a step of 7 rows");
    r.target[0].weight = NAN;
    assert_int_equal(run(&x, &r), STRETTO_OK);
    float values[WIDTH];
    struct upload_options none = { .threads = 1 };
    struct binding binding = { &x, find };
    struct weights *untrained;
    struct program *p;
    x.err = (struct error){ 0 };
    assert_int_equal(device_upload(x.device, &untrained, &x.graph, &binding, &none, &x.err), STRETTO_OK);
    assert_int_equal(device_compile(x.device, &p, &x.graph, untrained, &limits, &x.err), STRETTO_E_ARG);
    assert_non_null(strstr(x.err.text, "is not trained"));
    backends[0]->weights_close(untrained);
    assert_int_equal(backends[0]->param_read(x.weights, 99, PARAM_MASTER, values, &x.err), STRETTO_E_ARG);
    end(&x);
}

static void other_backends_say_that_they_cannot(void **state)
{
    (void)state;
    struct subject x;
    open_on(&x, "integer");
    struct binding binding = { &x, find };
    struct upload_options up = upload_of(&x);
    assert_int_equal(device_upload(x.device, &x.weights, &x.graph, &binding, &up, &x.err), STRETTO_E_UNSUP);
    assert_non_null(strstr(x.err.text, "integer cannot train"));
    end(&x);
}

static void what_has_no_loss_is_not_differentiated(void **state)
{
    (void)state;
    struct graph g, out;
    struct error err = { 0 };
    build(&g);
    g.logits = GRAPH_NONE;
    assert_int_equal(differentiate(&out, &g, &(struct differentiate){ NULL, KEEP_VALUES }, &err), STRETTO_E_UNSUP);
    assert_non_null(strstr(err.text, "without a head"));
    graph_done(&g);
}

/* ---- sizes ---------------------------------------------------------------------------------------------------- */

static void sizes_are_known_before_anything_is_read(void **state)
{
    (void)state;
    struct subject x;
    begin(&x);
    struct binding binding = { &x, find };
    struct upload_options up = upload_of(&x);
    struct weights *measured;
    struct program_bytes before, after;
    up.measure = true;
    assert_int_equal(device_upload(x.device, &measured, &x.graph, &binding, &up, &x.err), STRETTO_OK);
    assert_int_equal(backends[0]->weights_bytes(measured), backends[0]->weights_bytes(x.weights));
    assert_int_equal(device_plan(x.device, &x.graph, measured, &limits, &before, &x.err), STRETTO_OK);
    assert_int_equal(device_plan(x.device, &x.graph, x.weights, &limits, &after, &x.err), STRETTO_OK);
    assert_int_equal(before.buffers, after.buffers);
    assert_true(before.buffers > 0 && before.pages == 0);
    backends[0]->weights_close(measured);
    struct rows r;
    chain(&r);
    uint64_t taken = mem_count();
    assert_int_equal(run(&x, &r), STRETTO_OK);
    backends[0]->param_update(x.weights, &(struct param_step){ .number = 1, .scale = 1, .lr = 0 });
    assert_int_equal(mem_count(), taken);
    end(&x);
}

/* Whichever allocation fails, it is said and nothing is left. */
static void memory_may_end_anywhere(void **state)
{
    (void)state;
    bool reached = true;
    for (uint64_t n = 1; reached; n++) {
        struct subject x = { 0 };
        struct graph g = { 0 };
        struct error err = { 0 };
        build(&x.forward);
        uint64_t before = mem_count();
        mem_fail_at(n);
        stretto_status s = differentiate(&g, &x.forward, &(struct differentiate){ NULL, KEEP_LAYERS }, &err);
        reached = mem_count() - before >= n;
        mem_fail_at(0);
        assert_int_equal(s, reached ? STRETTO_E_NOMEM : STRETTO_OK);
        graph_done(&g);
        graph_done(&x.forward);
    }
}

/* ---- the optimizer -------------------------------------------------------------------------------------------- */

static size_t size_of(const struct subject *x, uint32_t param)
{
    return (size_t)x->graph.params[param].n_in * x->graph.params[param].n_out;
}

static void get(struct subject *x, uint32_t param, enum param_part part, float *to)
{
    assert_int_equal(backends[0]->param_read(x->weights, param, part, to, &x->err), STRETTO_OK);
}

/* Twenty steps, with gradients of the device and everything else in float64. */
static void it_is_adamw(void **state)
{
    (void)state;
    enum { MOST = VOCAB * WIDTH, PARAMS = 16 };
    static double w[PARAMS][MOST], m[PARAMS][MOST], v[PARAMS][MOST];
    static float f[MOST];
    struct subject x;
    struct rows r;
    begin(&x);
    chain(&r);
    double first = 0, last = 0, worst = 0, squares[PARAMS];
    const double lr = 1e-2, b1 = 0.9, b2 = 0.95, eps = 1e-8, decay = 0.1, scale = 0.5;
    memset(m, 0, sizeof m);
    memset(v, 0, sizeof v);
    for (uint32_t p = 0; p < x.graph.n_params; p++) {
        get(&x, p, PARAM_MASTER, f);
        for (size_t i = 0; i < size_of(&x, p); i++) w[p][i] = (double)f[i];
    }
    for (unsigned t = 1; t <= 20; t++) {
        backends[0]->param_clear(x.weights);
        assert_int_equal(run(&x, &r), STRETTO_OK);
        last = 0;
        for (int i = 0; i < ROWS; i++) last += (double)r.answer[i].loss / ROWS;
        if (t == 1) first = last;
        backends[0]->param_norms(x.weights, squares);
        for (uint32_t p = 0; p < x.graph.n_params; p++) {
            double keep = x.graph.params[p].n_out > 1 ? 1 - lr * decay : 1, sum = 0;
            get(&x, p, PARAM_GRADIENT, f);
            for (size_t i = 0; i < size_of(&x, p); i++) {
                double g = (double)f[i] * scale;
                sum += (double)f[i] * (double)f[i];
                m[p][i] = b1 * m[p][i] + (1 - b1) * g;
                v[p][i] = b2 * v[p][i] + (1 - b2) * g * g;
                w[p][i] = w[p][i] * keep - lr * (m[p][i] / (1 - pow(b1, t))) / (sqrt(v[p][i] / (1 - pow(b2, t))) + eps);
            }
            assert_true(fabs(sum - squares[p]) <= 1e-12 * sum);
        }
        backends[0]->param_update(x.weights, &(struct param_step){ .number = t, .scale = (float)scale, .lr = (float)lr,
                                                                   .beta1 = (float)b1, .beta2 = (float)b2,
                                                                   .eps = (float)eps, .decay = (float)decay });
    }
    for (uint32_t p = 0; p < x.graph.n_params; p++) {
        get(&x, p, PARAM_MASTER, f);
        for (size_t i = 0; i < size_of(&x, p); i++) worst = fmax(worst, fabs((double)f[i] - w[p][i]));
    }
    printf("    loss %.4f to %.4f, weights at most %.1e off after 20 steps\n", first, last, worst);
    assert_true(worst < 20 * lr * 1e-4);
    assert_true(last < first / 2);
    end(&x);
}

/* Two layers of one weight that read the same add to one gradient: not at once, which two threads would do in one
 * phase. */
static void layers_that_share_a_weight_take_turns(void **state)
{
    (void)state;
    struct graph g = { .layers = 1 }, back;
    struct error err = { 0 };
    struct graph_builder b = { .g = &g, .err = &err, .layer = -1 };
    int32_t h = graph_embed(&b, "table", VOCAB, WIDTH, EMBED_TOKEN);
    b.layer = 0;
    h = graph_add(&b, graph_linear(&b, h, "q", NULL, WIDTH), graph_linear(&b, h, "q", NULL, WIDTH));
    b.layer = -1;
    h = graph_ask(&b, h);
    graph_answer(&b, h, graph_linear(&b, h, "table", NULL, VOCAB));
    assert_int_equal(b.status, STRETTO_OK);
    const uint8_t trained[] = { 1, 1 };
    struct differentiate what = { trained, KEEP_VALUES };
    assert_int_equal(differentiate(&back, &g, &what, &err), STRETTO_OK);
    struct subject x;
    open_on(&x, "cpu");
    graph_done(&x.forward);
    x.forward = g;
    struct binding binding = { &x, find };
    struct upload_options up = { .threads = 2, .trained = trained };
    assert_int_equal(device_upload(x.device, &x.weights, &back, &binding, &up, &x.err), STRETTO_OK);
    assert_int_equal(device_compile(x.device, &x.program, &back, x.weights, &limits, &x.err), STRETTO_OK);
    int sinks = 0, q = graph_param_find(&back, "q");
    for (size_t i = 0; i < x.program->low.n_phases; i++) {
        const struct phase *ph = &x.program->low.phases[i];
        int here = 0;
        for (uint32_t k = 0; k < ph->n_parts && ph->kind == PHASE_GRAD; k++) here += ph->part[k].param == q;
        assert_true(here <= 1);
        sinks += here;
    }
    assert_int_equal(sinks, 2);
    graph_done(&back);
    end(&x);
}

/* A graph that answers losses alone has those of the other, and adds to nothing. */
static void losses_alone_leave_no_trace(void **state)
{
    (void)state;
    struct subject x;
    struct rows r;
    struct graph g;
    struct program *alone, *both;
    static float table[VOCAB * WIDTH];
    begin(&x);
    chain(&r);
    assert_int_equal(differentiate(&g, &x.forward, &(struct differentiate){ NULL, KEEP_VALUES }, &x.err), STRETTO_OK);
    assert_int_equal(device_compile(x.device, &alone, &g, x.weights, &limits, &x.err), STRETTO_OK);
    both = x.program;
    x.program = alone;
    assert_int_equal(run(&x, &r), STRETTO_OK);
    for (uint32_t p = 0; p < x.graph.n_params; p++) {
        get(&x, p, PARAM_GRADIENT, table);
        for (size_t i = 0; i < size_of(&x, p); i++) assert_true(table[i] == 0);
    }
    float loss[ROWS];
    for (int i = 0; i < ROWS; i++) loss[i] = r.answer[i].loss;
    x.program = both;
    assert_int_equal(run(&x, &r), STRETTO_OK);
    for (int i = 0; i < ROWS; i++) assert_memory_equal(&loss[i], &r.answer[i].loss, sizeof loss[i]);
    backends[0]->program_close(alone);
    graph_done(&g);
    end(&x);
}

/* Gradients of "o", in float32 or in f16, where every loss weighs so much. */
static void gradients_of(enum precision precision, float weight, float out[WIDTH * WIDTH])
{
    struct subject x;
    struct rows r;
    open_on(&x, "cpu");
    struct binding binding = { &x, find };
    struct upload_options up = upload_of(&x);
    up.precision = precision;
    up.reference = true;
    assert_int_equal(device_upload(x.device, &x.weights, &x.graph, &binding, &up, &x.err), STRETTO_OK);
    assert_int_equal(device_compile(x.device, &x.program, &x.graph, x.weights, &limits, &x.err), STRETTO_OK);
    chain(&r);
    for (int i = 0; i < ROWS; i++) r.target[i].weight = weight;
    assert_int_equal(run(&x, &r), STRETTO_OK);
    get(&x, (uint32_t)graph_param_find(&x.graph, "o"), PARAM_GRADIENT, out);
    end(&x);
}

/* In f16 a loss that weighs little has no gradient, scaled it has float32's, and scaled too much none that is a number
 * (arXiv 1710.03740, 3.2). */
static void f16_needs_a_scaled_loss(void **state)
{
    (void)state;
    enum { N = WIDTH * WIDTH };
    static float want[N], small[N], scaled[N], large[N], brain[N];
    double dot = 0, a = 0, b = 0, c = 0, cross = 0;
    bool infinite = false, none = true;
    gradients_of(PRECISION_F32, 1e-8f, want);
    gradients_of(PRECISION_F16, 1e-8f, small);
    gradients_of(PRECISION_F16, 1e-8f * 0x1p20f, scaled);
    gradients_of(PRECISION_F16, 1e7f, large);
    gradients_of(PRECISION_BF16, 1e-8f, brain);
    for (int i = 0; i < N; i++) {
        dot += (double)want[i] * (double)scaled[i];
        a += (double)want[i] * (double)want[i];
        b += (double)scaled[i] * (double)scaled[i];
        cross += (double)want[i] * (double)brain[i];
        c += (double)brain[i] * (double)brain[i];
        none &= small[i] == 0;
        infinite |= !isfinite(large[i]);
    }
    assert_true(none && infinite);
    printf("    cosine to float32's gradient: f16 %.6f, bf16 %.6f\n", dot / sqrt(a * b), cross / sqrt(a * c));
    assert_true(dot / sqrt(a * b) > 0.9999 && dot / sqrt(a * b) < 1 - 1e-12);
    assert_true(cross / sqrt(a * c) > 0.999 && cross / sqrt(a * c) < 1 - 1e-12);
    assert_true(fabs(sqrt(b / a) / 0x1p20 - 1) < 0.01);
}

/* What is written is read again, and computed with. */
static void parts_are_written_and_read(void **state)
{
    (void)state;
    struct subject x;
    struct rows r;
    static float a[VOCAB * WIDTH], b[VOCAB * WIDTH];
    begin(&x);
    chain(&r);
    assert_int_equal(run(&x, &r), STRETTO_OK);
    float before = r.answer[2].loss;
    uint32_t table = (uint32_t)graph_param_find(&x.graph, "table");
    assert_int_equal(backends[0]->param_read(x.weights, table, PARAM_AVERAGE, a, &x.err), STRETTO_E_ARG);
    assert_non_null(strstr(x.err.text, "no average"));
    x.err = (struct error){ 0 };
    for (int part = PARAM_MASTER; part < PARAM_AVERAGE; part++) {
        for (size_t i = 0; i < VOCAB * WIDTH; i++) a[i] = (float)(i * 4 + (size_t)part) / 1000;
        assert_int_equal(backends[0]->param_write(x.weights, table, (enum param_part)part, a, &x.err), STRETTO_OK);
        get(&x, table, (enum param_part)part, b);
        assert_memory_equal(a, b, sizeof a);
    }
    assert_int_equal(run(&x, &r), STRETTO_OK);
    assert_true(r.answer[2].loss != before);
    backends[0]->param_clear(x.weights);
    get(&x, table, PARAM_GRADIENT, b);
    for (size_t i = 0; i < VOCAB * WIDTH; i++) assert_true(b[i] == 0);
    end(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_that_mean_nothing_are_refused),
        cmocka_unit_test(other_backends_say_that_they_cannot),
        cmocka_unit_test(what_has_no_loss_is_not_differentiated),
        cmocka_unit_test(sizes_are_known_before_anything_is_read),
        cmocka_unit_test(memory_may_end_anywhere),
        cmocka_unit_test(it_is_adamw),
        cmocka_unit_test(layers_that_share_a_weight_take_turns),
        cmocka_unit_test(losses_alone_leave_no_trace),
        cmocka_unit_test(f16_needs_a_scaled_loss),
        cmocka_unit_test(parts_are_written_and_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
