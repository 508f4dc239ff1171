/* An engine whose device is closed or lost: a status with a sentence, and nothing of its timelines is
 * disturbed. The model is an embedding and a head, without a file. */
#include "unit/unit.h"
#include "engine/engine.h"

enum { WIDTH = 32, VOCAB = 48 };

static float table[VOCAB * WIDTH];

static stretto_status find(void *ud, const char *name, uint32_t n_in, uint32_t n_out,
                           struct param_bytes *out, struct error *err)
{
    (void)ud;
    (void)name;
    (void)err;
    *out = (struct param_bytes){ .type = DT_F32, .n_in = n_in, .n_out = n_out, .data = table,
                                 .row_bytes = n_in * sizeof(float), .memory = true };
    return STRETTO_OK;
}

static void model_make(struct model *m, struct device *d)
{
    *m = (struct model){ .device = d, .family = family_find("llama"),
                         .config = { .vocab = VOCAB, .context = 256, .width = WIDTH } };
    struct graph_builder b = { .g = &m->graph, .layer = -1 };
    int32_t x = graph_embed(&b, "table", VOCAB, WIDTH, EMBED_TOKEN);
    m->graph.hidden = x;
    m->graph.logits = graph_linear(&b, graph_ask(&b, x), "head", NULL, VOCAB);
    assert_int_equal(b.status, STRETTO_OK);
    struct binding binding = { NULL, find };
    struct upload_options o = { .threads = 1 };
    struct error e = { 0 };
    assert_int_equal(device_upload(d, &m->weights, &m->graph, &binding, &o, &e), STRETTO_OK);
}

static void model_done(struct model *m)
{
    m->device->backend->weights_close(m->weights);
    graph_done(&m->graph);
}

static struct device *opened(void)
{
    struct device_options o = { 0 };
    struct device *d;
    assert_int_equal(backend_open(NULL, &o, &d, NULL), STRETTO_OK);
    return d;
}

static void opened_on_a_closed_device(void **state)
{
    (void)state;
    struct device *d = opened();
    struct model m;
    struct engine *engine;
    struct engine_info info;
    struct engine_options o = { .threads = 1, .context = 64 };
    struct error e = { 0 }, planned = { 0 };
    model_make(&m, d);
    device_close(d);
    assert_int_equal(engine_open(&engine, &m, &o, &e), STRETTO_E_DEVICE);
    assert_null(engine);
    assert_non_null(strstr(e.text, "closed"));
    assert_int_equal(engine_plan(&m, &o, &info, &planned), STRETTO_E_DEVICE);
    model_done(&m);
}

static void lost_under_an_engine(void **state)
{
    (void)state;
    static const int32_t text[] = { 5, 9, 3, 7 };
    struct device *d = opened();
    struct model m;
    struct engine *engine;
    struct engine_options o = { .threads = 2, .context = 64 };
    struct error e = { 0 };
    model_make(&m, d);
    assert_int_equal(engine_open(&engine, &m, &o, &e), STRETTO_OK);
    assert_int_equal(engine_seq_open_all(engine, &e), STRETTO_OK);
    assert_int_equal(engine_feed(engine, 0, text, 4, WANT_NOTHING, NULL, &e), STRETTO_OK);
    device_lose(d, "it was taken out of the machine");
    for (int i = 0; i < 2; i++) {
        struct answer a = { .status = STRETTO_OK };
        struct row row = { .seq = 0, .token = 11, .parent = ROW_COMMITTED, .wants = WANT_BEST };
        error_clear(&e);
        assert_int_equal(engine_step(engine, &row, 1, &a, &e), STRETTO_E_DEVICE);
        assert_int_equal(a.status, STRETTO_E_DEVICE);
        assert_non_null(strstr(e.text, "taken out of the machine"));
        assert_int_equal(engine_length(engine, 0), 4);
        assert_memory_equal(engine_tokens(engine, 0), text, sizeof text);
    }
    assert_int_equal(engine_rewind(engine, 0, 2), 2);
    engine_close(engine);
    model_done(&m);
    device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(opened_on_a_closed_device),
                                        cmocka_unit_test(lost_under_an_engine) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
