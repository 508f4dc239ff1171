/* Keys made even change no bit of what a model says, and are even then. */
#include "unit/unit.h"
#include "base/memory.h"
#include "compress/fold.h"
#include "engine/scheduler.h"
#include "format/convert.h"
#include "tensor/blocks.h"
#include "tensor/dtype_rows.h"
#include <math.h>
#include <unistd.h>

static char folder[] = "/tmp/stretto-fold-XXXXXX";
static char plain[64], uneven[64], out[64];

static struct model *open_model(const char *path, bool graph_only)
{
    struct model *m = NULL;
    struct error err = { 0 };
    struct model_open_options o = { .graph_only = graph_only, .reference = true };
    if (model_open(&m, path, &o, &err) != STRETTO_OK) printf("%s\n", err.text);
    assert_non_null(m);
    return m;
}

static struct rewrite *pass(const struct model *m, const char *to)
{
    struct rewrite *r = NULL;
    struct error err = { 0 };
    struct rewrite_options o = { .recipe = "test", .force = true };
    if (rewrite_open(&r, m, to, &o, &err) != STRETTO_OK) printf("%s\n", err.text);
    assert_non_null(r);
    return r;
}

static void copy_rest(struct rewrite *r)
{
    struct error err = { 0 };
    for (size_t i = 0; i < rewrite_count(r); i++)
        if (!rewrite_at(r, i)->done) assert_int_equal(rewrite_copy(r, rewrite_at(r, i)->name, &err), STRETTO_OK);
    assert_int_equal(rewrite_finish(r, &err), STRETTO_OK);
    rewrite_close(r, false);
}

/* A model one of whose pairs of keys sticks out. */
static void make_uneven(void)
{
    struct model *m = open_model(plain, true);
    struct rewrite *r = pass(m, uneven);
    struct error err = { 0 };
    const struct rewrite_tensor *k = rewrite_find(r, "blk.0.attn_k.weight");
    float v[4 * 8];
    assert_int_equal(k->dims[0] * k->dims[1], 4 * 8);
    assert_int_equal(rewrite_begin(r, &err), STRETTO_OK);
    assert_int_equal(rewrite_read(r, k->name, v, &err), STRETTO_OK);
    for (size_t i = 0; i < 16; i++) v[i] *= 53;         /* a pair of rows: GGUF's llama turns neighbours together */
    assert_int_equal(rewrite_write(r, k->name, v, sizeof v, &err), STRETTO_OK);
    copy_rest(r);
    model_close(m);
}

static void logits(const char *path, float *to, size_t n)
{
    struct model *m = open_model(path, false);
    struct engine *e = NULL;
    struct error err = { 0 };
    struct engine_options eo = { .context = 64, .cache = CACHE_F32, .strict = true };
    int32_t id[12];
    struct answer a[12] = { 0 };
    assert_int_equal(engine_open(&e, m, &eo, &err), STRETTO_OK);
    assert_int_equal(m->config.vocab * 12, n);
    struct request q = { .wants = WANT_LOGITS, .room = 12, .places = a };
    for (int i = 0; i < 12; i++) {
        id[i] = i * 3 % 5;
        a[i].logits = to + (size_t)i * m->config.vocab;
    }
    assert_int_equal(engine_seq_open(e, &q.seq, &err), STRETTO_OK);
    engine_set(e, q.seq, id, 12, 0);
    assert_int_equal(request_run(e, &q, &err), STRETTO_OK);
    engine_close(e);
    model_close(m);
}

static struct fold_report fold(const char *from)
{
    struct model *m = open_model(from, true);
    struct rewrite *r = pass(m, out);
    struct binding b = { m, model_param };
    struct workers *w = NULL;
    struct calibration *c = NULL;
    struct error err = { 0 };
    struct fold_report report;
    int32_t id[40];
    const uint32_t at[] = { 0, 20, 40 };
    for (int i = 0; i < 40; i++) id[i] = i * 7 % 5;
    assert_int_equal(workers_open(&w, 2, &err), STRETTO_OK);
    struct calibrate_options o = { .text = { id, at, 2 }, .gram = true, .workers = w };
    assert_int_equal(calibration_open(&c, m, &b, &o, &err), STRETTO_OK);
    stretto_status s = fold_keys(r, m, c, w, NULL, &report, &err);
    if (s != STRETTO_OK) printf("%s\n", err.text);
    assert_int_equal(s, STRETTO_OK);
    assert_int_equal(rewrite_finish(r, &err), STRETTO_OK);
    rewrite_close(r, false);
    calibration_close(c);
    workers_close(w);
    model_close(m);
    return report;
}

static void answers_keep_their_bits(void **state)
{
    (void)state;
    float before[60], after[60];
    struct fold_report report = fold(uneven);
    assert_int_equal(report.layers, 1);
    assert_int_equal(report.folded, 1);
    assert_true(report.spread > 20);
    assert_true(report.spread_after < report.spread / 3);
    logits(uneven, before, 60);
    logits(out, after, 60);
    assert_memory_equal(before, after, sizeof before);
    logits(plain, after, 60);           /* what was changed by 53 is another model */
    assert_true(memcmp(before, after, sizeof before) != 0);
}

/* Every type holds the scaled row exactly, or the row stays as it was. */
static void rows_are_scaled_exactly_or_not(void **state)
{
    (void)state;
    static const enum dtype types[] = {
#define X(T, ...) DT_##T,
        DTYPES(X)
#undef X
    };
    float x[512], y[512], z[512];
    unsigned char bytes[2048], kept[2048];
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int e = -30; e <= 30; e++) {
            for (size_t i = 0; i < 512; i++) {
                float v = sinf((float)(i * 7 + 3));
                x[i] = ldexpf(v < 0 ? v - 1 : v + 1, (int)(i / 64) - 3);
            }
            const struct dtype_info *d = &dtype_table[types[t]];
            memset(bytes, 0, sizeof bytes);
            if (d->encode) d->encode(x, bytes, 512);
            else memset(bytes, 0x21, dtype_bytes(types[t], 512));
            memcpy(kept, bytes, sizeof bytes);
            d->decode(bytes, y, 512);
            if (!fold_row(types[t], bytes, 512, e)) {
                assert_memory_equal(bytes, kept, sizeof bytes);
                assert_true(e < -2 || e > 4);
                continue;
            }
            d->decode(bytes, z, 512);
            for (size_t i = 0; i < 512; i++) assert_true(z[i] == ldexpf(y[i], e));
        }
}

static int make_folder(void **state)
{
    (void)state;
    struct error err = { 0 };
    struct convert_options o = { .type = DT_F32 };
    if (!mkdtemp(folder)) return -1;
    snprintf(plain, sizeof plain, "%s/plain.gguf", folder);
    snprintf(uneven, sizeof uneven, "%s/uneven.gguf", folder);
    snprintf(out, sizeof out, "%s/out.gguf", folder);
    if (convert(STRETTO_SOURCE_DIR "/tests/data/format/hf-llama", plain, &o, &err) != STRETTO_OK) return -1;
    make_uneven();
    return 0;
}

static int drop_folder(void **state)
{
    (void)state;
    unlink(plain);
    unlink(uneven);
    unlink(out);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_keep_their_bits),
        cmocka_unit_test(rows_are_scaled_exactly_or_not),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
