/* A model on a card that fails: on the mock of tests/gpu everything is refused in turn that an engine takes of a card
 * and everything that it sends there, and the card is lost at any call. Each time it is a status with words, texts
 * are as they were, nothing stays on the card, and the same text goes on on the cpu. */
#include "unit/backend/gpu_mock.h"
#include "backend/backend.h"
#include "base/memory.h"
#include "engine/engine.h"
#include "tensor/dtype.h"
#include <float.h>
#include <math.h>

enum { WIDTH = 64, HEADS = 2, HEAD_DIM = 32, FEED = 96, VOCAB = 48, LAYERS = 2, PROMPT = 70, CHUNK = 32 };

/* ---- the model --------------------------------------------------------------------------------------- */

static struct graph graph;
static struct { void *data; enum dtype type; size_t row_bytes; } param[64];

static const char *named(char *text, const char *kind, int layer)
{
    snprintf(text, 32, "%s%d", kind, layer);
    return text;
}

static int32_t layer_make(struct graph_builder *b, int32_t x, int i)
{
    char t[32];
    int32_t in = graph_norm(b, x, NORM_RMS, 1e-5f, 0, named(t, "norm", i), NULL);
    int32_t q = graph_linear(b, in, named(t, "q", i), NULL, WIDTH);
    int32_t k = graph_linear(b, in, named(t, "k", i), NULL, WIDTH);
    int32_t v = graph_linear(b, in, named(t, "v", i), NULL, WIDTH);
    q = graph_rope(b, q, ROPE_HALVES, HEADS, HEAD_DIM, 0);
    k = graph_rope(b, k, ROPE_HALVES, HEADS, HEAD_DIM, 0);
    int32_t a = graph_attention(b, q, k, v, HEADS, HEADS, HEAD_DIM, 0, 1 / sqrtf(HEAD_DIM), 0, true);
    x = graph_add(b, x, graph_linear(b, a, named(t, "o", i), NULL, WIDTH));
    in = graph_norm(b, x, NORM_RMS, 1e-5f, 0, named(t, "after", i), NULL);
    int32_t gate = graph_act(b, graph_linear(b, in, named(t, "gate", i), NULL, FEED), ACT_SILU);
    int32_t up = graph_linear(b, in, named(t, "up", i), NULL, FEED);
    return graph_add(b, x, graph_linear(b, graph_mul(b, gate, up), named(t, "down", i), NULL, WIDTH));
}

static void graph_make(void)
{
    struct graph_builder b = { .g = &graph, .layer = -1 };
    graph = (struct graph){ .layers = LAYERS, .n_rope = 1 };
    graph.rope[0] = (struct rope_table){ .n_rot = HEAD_DIM, .base = 10000, .magnitude = 1 };
    for (int i = 0; i < HEAD_DIM / 2; i++) graph.rope[0].factor[i] = 1;
    int32_t x = graph_embed(&b, "table", VOCAB, WIDTH, EMBED_TOKEN);
    for (int i = 0; i < LAYERS; i++) {
        b.layer = i;
        x = layer_make(&b, x, i);
    }
    x = graph_ask(&b, x);
    graph_answer(&b, x, graph_linear(&b, x, "head", NULL, VOCAB));
    assert_int_equal(b.status, STRETTO_OK);
}

/* Tables and norms in float32, linear layers in this type. */
static void params_make(enum dtype linear)
{
    uint32_t seed = 3;
    assert_true(graph.n_params <= 64);
    for (size_t i = 0; i < graph.n_params; i++) {
        const struct graph_param *p = &graph.params[i];
        size_t n = (size_t)p->n_in * p->n_out;
        float *f = malloc(n * sizeof *f);
        param[i].type = p->n_out > 1 && strcmp(p->name, "table") ? linear : DT_F32;
        param[i].row_bytes = dtype_bytes(param[i].type, p->n_in);
        free(param[i].data);
        param[i].data = malloc(param[i].row_bytes * p->n_out);
        for (size_t k = 0; k < n; k++) {
            seed = seed * 1664525 + 1013904223;
            f[k] = ((float)(seed >> 8) / 16777216.0f - 0.5f) * (p->n_out > 1 ? 0.6f : 1) + (p->n_out > 1 ? 0 : 1);
        }
        dtype_table[param[i].type].encode(f, param[i].data, n);
        free(f);
    }
}

static stretto_status find(void *ud, const char *name, uint32_t n_in, uint32_t n_out, struct param_bytes *out,
                           struct error *err)
{
    int32_t i = graph_param_find(&graph, name);
    (void)ud, (void)err;
    *out = (struct param_bytes){ .type = param[i].type, .n_in = n_in, .n_out = n_out, .data = param[i].data,
                                 .row_bytes = param[i].row_bytes, .memory = true };
    return STRETTO_OK;
}

/* ---- a text on a device ------------------------------------------------------------------------------- */

struct scene { struct device *device; struct model model; struct engine *engine; };
struct said { float logits[2][VOCAB]; int32_t best[6]; };

static stretto_status scene_open(const char *word, struct scene *x, struct error *err)
{
    struct device_options o = { 0 };
    struct upload_options up = { .threads = 1 };
    struct engine_options eo = { .threads = 1, .context = 128, .sequences = 2, .max_rows = CHUNK, .cache = CACHE_F16,
                                 .strict = true };
    struct binding binding = { NULL, find };
    TRY(backend_open(word, &o, &x->device, err));
    x->model = (struct model){ .device = x->device, .family = family_find("llama"), .graph = graph,
                               .config = { .vocab = VOCAB, .context = 256, .width = WIDTH } };
    TRY(device_upload(x->device, &x->model.weights, &graph, &binding, &up, err));
    TRY(engine_open(&x->engine, &x->model, &eo, err));
    return engine_seq_open_all(x->engine, err);
}

static void scene_close(struct scene *x)
{
    if (x->engine) engine_close(x->engine);
    if (x->model.weights) x->device->backend->weights_close(x->model.weights);
    device_close(x->device);
}

static int32_t token(uint32_t at) { return (int32_t)((at * 7 + at / 5) % VOCAB); }

/* Of a text that is as it was: its tokens, so many. */
static void expect_text(const struct scene *x, uint32_t at_least, uint32_t at_most)
{
    uint32_t n = engine_length(x->engine, 0);
    assert_in_range(n, at_least, at_most);
    for (uint32_t i = 0; i < n && i < PROMPT; i++) assert_int_equal(engine_tokens(x->engine, 0)[i], token(i));
}

/* A tree of guesses, of which a path is kept: its slots move. */
static stretto_status guess(struct scene *x, struct said *out, struct error *err)
{
    struct answer a[3] = { { .status = STRETTO_OK } };
    struct row rows[3];
    static const int32_t path[] = { 0, 2 };
    for (int i = 0; i < 3; i++)
        rows[i] = (struct row){ .token = 11 + i, .parent = i ? 0 : ROW_COMMITTED, .wants = WANT_BEST | WANT_TOP };
    TRY(engine_step(x->engine, rows, 3, a, err));
    for (int i = 0; i < 3; i++) out->best[1 + i] = a[i].best;
    engine_accept(x->engine, 0, path, 2);
    return STRETTO_OK;
}

/* The text goes on twice from the middle of a page. */
static stretto_status part(struct scene *x, struct said *out, struct error *err)
{
    struct answer a[2] = { { .logits = out->logits[0] }, { .logits = out->logits[1] } };
    TRY(engine_fork(x->engine, 0, 1, PROMPT, err));
    struct row rows[] = { { .seq = 0, .token = 5, .parent = ROW_COMMITTED, .wants = WANT_LOGITS | WANT_BEST },
                          { .seq = 1, .token = 6, .parent = ROW_COMMITTED, .wants = WANT_LOGITS | WANT_BEST } };
    TRY(engine_step(x->engine, rows, 2, a, err));
    for (int i = 0; i < 2; i++) out->best[4 + i] = a[i].best;
    engine_commit(x->engine, 0, 1);
    engine_commit(x->engine, 1, 1);
    return STRETTO_OK;
}

static stretto_status talk(struct scene *x, struct said *out, struct error *err)
{
    int32_t ids[PROMPT];
    struct answer last = { .status = STRETTO_OK };
    for (uint32_t i = 0; i < PROMPT; i++) ids[i] = token(i);
    stretto_status s = engine_feed(x->engine, 0, ids, PROMPT, WANT_BEST, &last, err);
    if (s != STRETTO_OK) {
        expect_text(x, 0, PROMPT - 1);
        assert_int_equal(engine_length(x->engine, 0) % CHUNK, 0);
        return s;
    }
    out->best[0] = last.best;
    s = guess(x, out, err);
    if (s != STRETTO_OK) expect_text(x, PROMPT, PROMPT);
    if (s != STRETTO_OK) return s;
    s = part(x, out, err);
    expect_text(x, PROMPT + 2 + (s == STRETTO_OK), PROMPT + 2 + (s == STRETTO_OK));
    return s;
}

/* Once the card is lost in a step, it is lost, and says so again. */
static void expect_lost(struct scene *x)
{
    struct answer a = { .status = STRETTO_OK };
    struct row row = { .token = 3, .parent = ROW_COMMITTED, .wants = WANT_BEST };
    struct error err = { 0 };
    assert_int_equal(engine_step(x->engine, &row, 1, &a, &err), STRETTO_E_DEVICE);
    assert_int_equal(a.status, STRETTO_E_DEVICE);
    assert_true(*err.text);
}

static stretto_status whole(const char *word, struct said *out, struct error *err)
{
    struct scene x = { 0 };
    memset(out, 0, sizeof *out);
    stretto_status s = scene_open(word, &x, err);
    bool ran = s == STRETTO_OK;
    if (ran) s = talk(&x, out, err);
    if (ran && s == STRETTO_E_DEVICE) expect_lost(&x);
    scene_close(&x);
    return s;
}

/* ---- faults -------------------------------------------------------------------------------------------- */

static struct said on_cpu, on_card;

static void both_answer(enum dtype linear)
{
    struct error err = { 0 };
    params_make(linear);
    stretto_status s = whole("cpu", &on_cpu, &err);
    if (s == STRETTO_OK) s = whole("cuda", &on_card, &err);
    if (s != STRETTO_OK) print_error("%s\n", err.text);
    assert_int_equal(s, STRETTO_OK);
    assert_true(nothing_alive());
    assert_memory_equal(on_card.best, on_cpu.best, sizeof on_cpu.best);
}

/* Float32 differs by roundings: a thousand of them, of the largest. Where activations become codes, one rounding
 * more or less is another code now and then, so there the best tokens are looked at, and the logits are kept. */
static void answers_as_the_cpu(void **state)
{
    (void)state;
    int64_t runs = mock->runs;
    float largest = 0, off = 0;
    both_answer(DT_F32);
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < VOCAB; k++) {
            largest = fmaxf(largest, fabsf(on_cpu.logits[i][k]));
            off = fmaxf(off, fabsf(on_card.logits[i][k] - on_cpu.logits[i][k]));
        }
    assert_true(off <= 1000 * FLT_EPSILON * largest);
    both_answer(DT_Q8_0);
    print_message("%lld kernels ran; logits of up to %g, off by %g\n", (long long)(mock->runs - runs), (double)largest,
                  (double)off);
    assert_true(mock->runs > runs);
}

/* After a fault: words, nothing left, the cpu writes the text. */
static void expect_fault(const char *what, int64_t n, stretto_status s, const struct error *err, bool memory)
{
    struct said cpu;
    if (s != STRETTO_OK && (!*err->text || !(s == STRETTO_E_NOMEM || (s == STRETTO_E_DEVICE && !memory)))) {
        print_error("%s %lld: status %d, %s\n", what, (long long)n, s, err->text);
        _fail(__FILE__, __LINE__);
    }
    mock_reset();
    assert_true(nothing_alive());
    struct error e = { 0 };
    assert_int_equal(whole("cpu", &cpu, &e), STRETTO_OK);
    assert_memory_equal(&cpu, &on_cpu, sizeof cpu);
}

/* Each n-th of `all` in turn; of many the first, the last and some between. */
static void walk(const char *what, int64_t *order, int64_t all, bool memory)
{
    int64_t told = 0, tried = 0, stride = all > 60 ? all / 40 : 1;
    for (int64_t n = 1; n <= all; n += n < 10 || n > all - 10 ? 1 : stride) {
        struct error err = { 0 };
        struct said said;
        *order = n;
        stretto_status s = whole("cuda", &said, &err);
        if (n == 1 || n == all / 2) print_message("%s %lld: %s\n", what, (long long)n, err.text);
        told += s != STRETTO_OK;
        tried++;
        expect_fault(what, n, s, &err, memory);
    }
    print_message("%s: %lld places, %lld tried, %lld told\n", what, (long long)all, (long long)tried, (long long)told);
    assert_true(told > tried / 2);
}

static void whatever_fails(void **state)
{
    (void)state;
    struct mock_cuda before = *mock;
    struct error err = { 0 };
    struct said said;
    assert_int_equal(whole("cuda", &said, &err), STRETTO_OK);
    struct mock_cuda after = *mock;
    walk("out of memory", &mock->fail_take, after.takes - before.takes, true);
    walk("refused", &mock->fail_launch, after.launches - before.launches, false);
    walk("failed while it ran", &mock->fail_run, after.runs - before.runs, false);
    walk("lost", &mock->lose, after.calls - before.calls, false);
    assert_int_equal(whole("cuda", &said, &err), STRETTO_OK);
    assert_memory_equal(&said, &on_card, sizeof said);
}

/* Of this machine's memory: what the library takes from the heap. */
static void heap_is_short(void **state)
{
    (void)state;
    struct error err = { 0 };
    struct said said;
    uint64_t before = mem_count();
    assert_int_equal(whole("cuda", &said, &err), STRETTO_OK);
    uint64_t all = mem_count() - before, told = 0, stride = 1 + all / 50;
    for (uint64_t n = 1; n <= all; n += stride) {
        error_clear(&err);
        mem_fail_at(n);
        stretto_status s = whole("cuda", &said, &err);
        mem_fail_at(0);
        told += s != STRETTO_OK;
        expect_fault("heap", (int64_t)n, s, &err, true);
    }
    print_message("%llu allocations of this machine's memory, told %llu\n", (unsigned long long)all,
                  (unsigned long long)told);
    assert_true(told > 0);
}

/* Short by a little: the sum of everything taken, less and less. */
static void memory_is_short_by_a_little(void **state)
{
    (void)state;
    stretto_status s = STRETTO_E_NOMEM;
    int64_t tried = 0;
    for (int64_t bytes = 1 << 10; s != STRETTO_OK; bytes += bytes / 4, tried++) {
        struct error err = { 0 };
        struct said said;
        mock->memory = bytes;
        s = whole("cuda", &said, &err);
        if (tried % 8 == 0) print_message("%lld bytes: %s\n", (long long)bytes, err.text);
        expect_fault("bytes", bytes, s, &err, true);
        assert_true(bytes < INT64_C(1) << 32);
    }
    assert_true(tried > 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_as_the_cpu), cmocka_unit_test(whatever_fails), cmocka_unit_test(heap_is_short),
        cmocka_unit_test(memory_is_short_by_a_little),
    };
    struct device_options o = { 0 };
    struct device *d;
    struct error err = { 0 };
    setenv("STRETTO_CUDA", MOCK_CUDA_PATH, 1);
    setenv("STRETTO_NVRTC", MOCK_CUDA_PATH, 1);
    mock_find();
    if (backend_open("cuda", &o, &d, &err) != STRETTO_OK) SKIP("%s (./dev test installs PoCL)", err.text);
    device_close(d);
    graph_make();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < graph.n_params; i++) free(param[i].data);
    graph_done(&graph);
    return failed;
}
