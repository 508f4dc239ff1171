/* The walk on a small model made here: what it does when weights change on the way, when it is interrupted, and that
 * neither threads nor steps move a bit. That the numbers are right is compared with float64 in
 * tests/compress/test_calibrate.py. And statistics as files. */
#include "unit/unit.h"
#include "base/memory.h"
#include "compress/imatrix.h"
#include "format/gguf_write.h"
#include <math.h>
#include <unistd.h>

enum { LAYERS = 3, WIDTH = 32, HEADS = 2, HEAD = 16, FEED = 48, VOCAB = 40, TOKENS = 2600, WINDOWS = 9 };

struct weights_of { float *data[64]; struct graph *g; };

static uint64_t state = 7;
static float unit(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(state >> 32) * 0x1p-31f;
}

static stretto_status find(void *ud, const char *name, uint32_t n_in, uint32_t n_out, struct param_bytes *out,
                           struct error *err)
{
    struct weights_of *w = ud;
    int32_t i = graph_param_find(w->g, name);
    if (i == GRAPH_NONE) return fail(err, STRETTO_E_FORMAT, "no %s", name);
    (void)n_out;
    *out = (struct param_bytes){ .type = DT_F32, .n_in = n_in, .n_out = w->g->params[i].n_out, .data = w->data[i],
                                 .row_bytes = n_in * 4, .memory = true };
    return STRETTO_OK;
}

static void build(struct graph *g)
{
    struct error e = { 0 };
    *g = (struct graph){ .layers = LAYERS };
    struct graph_builder b = { .g = g, .err = &e, .layer = -1 };
    int32_t h = graph_embed(&b, "embd", VOCAB, WIDTH, EMBED_TOKEN);
    for (int i = 0; i < LAYERS; i++) {
        char name[8][GRAPH_NAME];
        static const char *const what[] = { "norm", "q", "k", "v", "o", "norm2", "up", "down" };
        for (int k = 0; k < 8; k++) snprintf(name[k], GRAPH_NAME, "blk.%d.%s", i, what[k]);
        b.layer = i;
        int32_t x = graph_norm(&b, h, NORM_RMS, 1e-5f, 0, name[0], NULL);
        int32_t q = graph_linear(&b, x, name[1], NULL, WIDTH), k = graph_linear(&b, x, name[2], NULL, WIDTH);
        int32_t v = graph_linear(&b, x, name[3], NULL, WIDTH);
        int32_t a = graph_attention(&b, q, k, v, HEADS, HEADS, HEAD, i == 1 ? 20 : 0, 0.25f, 0, true);
        h = graph_add(&b, h, graph_linear(&b, a, name[4], NULL, WIDTH));
        x = graph_norm(&b, h, NORM_RMS, 1e-5f, 0, name[5], NULL);
        x = graph_act(&b, graph_linear(&b, x, name[6], NULL, FEED), ACT_SILU);
        h = graph_add(&b, h, graph_linear(&b, x, name[7], NULL, WIDTH));
    }
    b.layer = -1;
    h = graph_norm(&b, graph_ask(&b, h), NORM_RMS, 1e-5f, 0, "out_norm", NULL);
    graph_answer(&b, h, graph_linear(&b, h, "head", NULL, VOCAB));
    assert_int_equal(b.status, STRETTO_OK);
}

struct fixture {
    struct model m;
    struct weights_of w;
    struct workers *workers;
    int32_t id[TOKENS];
    uint32_t at[WINDOWS + 1];
};

static int open_fixture(void **unused)
{
    static struct fixture f;
    static const uint32_t lengths[WINDOWS] = { 1, 7, 300, 64, 65, 1500, 400, 199, 64 };
    struct error e = { 0 };
    build(&f.m.graph);
    f.m.config.vocab = VOCAB;
    f.m.config.context = 128;
    f.w.g = &f.m.graph;
    for (size_t i = 0; i < f.m.graph.n_params; i++) {
        const struct graph_param *p = &f.m.graph.params[i];
        uint32_t rows = p->n_out ? p->n_out : VOCAB;
        f.w.data[i] = malloc((size_t)p->n_in * rows * 4);
        for (size_t k = 0; k < (size_t)p->n_in * rows; k++)
            f.w.data[i][k] = rows == 1 ? 1 + unit() / 4 : unit() / sqrtf((float)p->n_in) * 2;
    }
    for (size_t i = 0; i < TOKENS; i++) f.id[i] = (int32_t)((unit() + 1) / 2 * (VOCAB - 1));
    for (size_t i = 0; i < WINDOWS; i++) f.at[i + 1] = f.at[i] + lengths[i];
    assert_int_equal(f.at[WINDOWS], TOKENS);
    assert_int_equal(workers_open(&f.workers, 2, &e), STRETTO_OK);
    *unused = &f;
    return 0;
}

static int close_fixture(void **state_of)
{
    struct fixture *f = *state_of;
    for (size_t i = 0; i < f->m.graph.n_params; i++) free(f->w.data[i]);
    graph_done(&f->m.graph);
    workers_close(f->workers);
    return 0;
}

static struct calibrate_options options(struct fixture *f)
{
    return (struct calibrate_options){ .text = { f->id, f->at, WINDOWS }, .gram = true, .workers = f->workers,
                                       .threads = 2 };
}

static struct calibration *opened(struct fixture *f, const struct calibrate_options *o)
{
    struct error e = { 0 };
    struct calibration *c;
    struct binding b = { &f->w, find };
    assert_int_equal(calibration_open(&c, &f->m, &b, o, &e), STRETTO_OK);
    return c;
}

/* All numbers of what was seen, as one hash-free copy to compare. */
struct copy { char name[64]; struct input_stats s; };

static size_t copy_stats(const struct calibration *c, struct copy *out)
{
    const char *const *names;
    size_t n = calibration_params(c, &names);
    for (size_t i = 0; i < n; i++) {
        const struct input_stats *s = calibration_stats(c, names[i]);
        assert_non_null(s);
        snprintf(out[i].name, sizeof out[i].name, "%s", names[i]);
        out[i].s = *s;
        out[i].s.sum = malloc(s->n * 8), out[i].s.sum2 = malloc(s->n * 8), out[i].s.most = malloc(s->n * 4);
        out[i].s.gram = malloc((size_t)s->n * s->n * 4);
        memcpy(out[i].s.sum, s->sum, s->n * 8);
        memcpy(out[i].s.sum2, s->sum2, s->n * 8);
        memcpy(out[i].s.most, s->most, s->n * 4);
        memcpy(out[i].s.gram, s->gram, (size_t)s->n * s->n * 4);
    }
    return n;
}

static void drop_stats(struct copy *x, size_t n)
{
    for (size_t i = 0; i < n; i++) free(x[i].s.sum), free(x[i].s.sum2), free(x[i].s.most), free(x[i].s.gram);
}

static bool same_stats(const struct input_stats *a, const struct input_stats *b)
{
    return a->n == b->n && a->rows == b->rows && memcmp(a->sum, b->sum, a->n * 8) == 0
        && memcmp(a->sum2, b->sum2, a->n * 8) == 0 && memcmp(a->most, b->most, a->n * 4) == 0
        && memcmp(a->gram, b->gram, (size_t)a->n * a->n * 4) == 0;
}

enum { MOST = 16 };

static size_t walk(struct fixture *f, const struct calibrate_options *o, struct copy (*out)[MOST], size_t *n,
                   bool twice)
{
    struct calibration *c = opened(f, o);
    uint32_t pieces = calibration_pieces(c);
    for (uint32_t i = 0; i < pieces; i++) {
        struct error e = { 0 };
        if (twice) assert_int_equal(calibration_see(c, &e), STRETTO_OK);
        if (twice) n[i] = copy_stats(c, out[i]);
        assert_int_equal(calibration_go(c, !twice, &e), STRETTO_OK);
        if (!twice) n[i] = copy_stats(c, out[i]);
    }
    calibration_close(c);
    return pieces;
}

static void equal_walks(struct copy (*a)[MOST], size_t *na, struct copy (*b)[MOST], size_t *nb, size_t from)
{
    for (size_t i = from; i < LAYERS; i++) {
        assert_int_equal(na[i], nb[i]);
        for (size_t k = 0; k < na[i]; k++) {
            assert_string_equal(a[i][k].name, b[i][k].name);
            assert_true(same_stats(&a[i][k].s, &b[i][k].s));
        }
    }
}

static void drop_walk(struct copy (*a)[MOST], size_t *n)
{
    for (size_t i = 0; i < LAYERS; i++) drop_stats(a[i], n[i]);
}

/* Seeing and going, in one pass or two, by one thread or several. */
static void same_bits(void **state_of)
{
    struct fixture *f = *state_of;
    struct copy a[LAYERS][MOST], b[LAYERS][MOST];
    size_t na[LAYERS], nb[LAYERS];
    struct calibrate_options o = options(f);
    assert_int_equal(walk(f, &o, a, na, false), LAYERS);
    assert_int_equal(na[0], 6);
    assert_int_equal(na[LAYERS - 1], 7);
    assert_string_equal(a[LAYERS - 1][6].name, "head");
    assert_int_equal(a[LAYERS - 1][6].s.rows, TOKENS);
    walk(f, &o, b, nb, true);
    equal_walks(a, na, b, nb, 0);
    drop_walk(b, nb);
    for (unsigned threads = 1; threads <= 3; threads++) {
        struct error e = { 0 };
        struct workers *w;
        assert_int_equal(workers_open(&w, threads, &e), STRETTO_OK);
        o.threads = 4 - threads;
        o.workers = w;
        walk(f, &o, b, nb, false);
        equal_walks(a, na, b, nb, 0);
        drop_walk(b, nb);
        workers_close(w);
    }
    drop_walk(a, na);
}

/* Layers behind a changed one see what it makes of the texts now. */
static void weights_change_on_the_way(void **state_of)
{
    struct fixture *f = *state_of;
    struct copy before[LAYERS][MOST], after[LAYERS][MOST];
    size_t nb[LAYERS], na[LAYERS], n;
    struct calibrate_options o = options(f);
    struct error e = { 0 };
    float *w = f->w.data[graph_param_find(&f->m.graph, "blk.1.up")];
    walk(f, &o, before, nb, false);
    struct calibration *c = opened(f, &o);
    assert_int_equal(calibration_go(c, true, &e), STRETTO_OK);
    assert_int_equal(calibration_at(c), 0);
    assert_int_equal(calibration_see(c, &e), STRETTO_OK);
    assert_int_equal(calibration_at(c), 1);
    assert_true(same_stats(calibration_stats(c, "blk.1.down"), &before[1][5].s));
    for (size_t i = 0; i < (size_t)WIDTH * FEED; i++) w[i] *= 0.75f;
    assert_int_equal(calibration_go(c, false, &e), STRETTO_OK);
    assert_int_equal(calibration_go(c, true, &e), STRETTO_OK);
    walk(f, &o, after, na, false);
    struct copy last[MOST];
    n = copy_stats(c, last);
    assert_int_equal(n, na[2]);
    for (size_t i = 0; i < n; i++) {
        assert_true(same_stats(&last[i].s, &after[2][i].s));
        assert_false(same_stats(&last[i].s, &before[2][i].s));
    }
    assert_true(same_stats(&before[1][0].s, &after[1][0].s));
    assert_false(same_stats(&before[1][5].s, &after[1][5].s));
    size_t tokens;
    uint32_t width;
    assert_non_null(calibration_rows(c, &tokens, &width));
    assert_int_equal(tokens, TOKENS);
    assert_int_equal(width, WIDTH);
    assert_int_equal(calibration_go(c, true, &e), STRETTO_E_ARG);         /* the end */
    calibration_close(c);
    for (size_t i = 0; i < (size_t)WIDTH * FEED; i++) w[i] /= 0.75f;
    drop_stats(last, n);
    drop_walk(before, nb);
    drop_walk(after, na);
}

struct told { uint64_t done, total; volatile int cancel; uint64_t cancel_at; };

static void tell(void *ud, const char *what, uint64_t done, uint64_t total)
{
    struct told *t = ud;
    assert_string_equal(what, "calibrating");
    assert_true(done >= t->done && done <= total);
    assert_true(!t->total || t->total == total);
    t->done = done;
    t->total = total;
    if (t->cancel_at && done >= t->cancel_at) t->cancel = 1;
}

static void progress_and_cancel(void **state_of)
{
    struct fixture *f = *state_of;
    struct told t = { 0 };
    struct calibrate_options o = options(f);
    struct error e = { 0 };
    o.progress = (struct progress){ tell, &t };
    o.cancel = &t.cancel;
    struct copy a[LAYERS][MOST];
    size_t n[LAYERS];
    walk(f, &o, a, n, false);
    assert_int_equal(t.done, (uint64_t)LAYERS * TOKENS);
    assert_int_equal(t.total, t.done);
    drop_walk(a, n);
    t = (struct told){ .cancel_at = TOKENS + 1 };
    struct calibration *c = opened(f, &o);
    assert_int_equal(calibration_go(c, true, &e), STRETTO_OK);
    assert_int_equal(calibration_go(c, true, &e), STRETTO_E_CANCEL);
    t.cancel = 0;
    e = (struct error){ 0 };
    assert_int_equal(calibration_go(c, true, &e), STRETTO_E_ARG);
    assert_non_null(strstr(e.text, "anew"));
    calibration_close(c);
}

static void refused(struct fixture *f, const struct calibrate_options *o, stretto_status want, const char *word)
{
    struct error e = { 0 };
    struct calibration *c;
    struct binding b = { &f->w, find };
    stretto_status s = calibration_open(&c, &f->m, &b, o, &e);
    for (uint32_t i = 0; s == STRETTO_OK && i < LAYERS; i++) s = calibration_go(c, true, &e);
    assert_int_equal(s, want);
    assert_non_null(strstr(e.text, word));
    if (c) calibration_close(c);
}

static void bad_input(void **state_of)
{
    struct fixture *f = *state_of;
    struct calibrate_options o = options(f);
    o.text.n = 0;
    refused(f, &o, STRETTO_E_ARG, "text");
    o = options(f);
    uint32_t at[3] = { 0, 5, 5 };
    o.text = (struct calibration_text){ f->id, at, 2 };
    refused(f, &o, STRETTO_E_ARG, "empty");
    o = options(f);
    int32_t was = f->id[9];
    f->id[9] = VOCAB;
    refused(f, &o, STRETTO_E_ARG, "vocabulary");
    f->id[9] = was;
    float *w = &f->w.data[graph_param_find(&f->m.graph, "blk.1.up")][3], good = *w;
    *w = NAN;
    refused(f, &o, STRETTO_E_NAN, "layer 1");
    *w = good;
}

/* Memory that ends at any point. */
static void no_memory(void **state_of)
{
    struct fixture *f = *state_of;
    struct calibrate_options o = options(f);
    uint32_t at[3] = { 0, 5, 9 };
    o.text = (struct calibration_text){ f->id, at, 2 };
    for (uint64_t n = 1;; n++) {
        struct error e = { 0 };
        struct calibration *c;
        struct binding b = { &f->w, find };
        mem_fail_at(n);
        stretto_status s = calibration_open(&c, &f->m, &b, &o, &e);
        for (uint32_t i = 0; s == STRETTO_OK && i < LAYERS; i++) s = calibration_go(c, true, &e);
        mem_fail_at(0);
        if (c) calibration_close(c);
        if (s == STRETTO_OK) break;
        assert_int_equal(s, STRETTO_E_NOMEM);
        assert_true(n < 1000);
    }
}

/* ---- files ---------------------------------------------------------------------------------- */

static void file_name(char *out, size_t n, const char *what)
{
    snprintf(out, n, "/tmp/stretto-%ld-%s", (long)getpid(), what);
}

static void files_give_back_the_bits(void **state_of)
{
    struct fixture *f = *state_of;
    struct calibrate_options o = options(f);
    char path[100];
    file_name(path, sizeof path, "stats");
    for (int gram = 0; gram < 2; gram++) {
        struct error e = { 0 };
        const char *const names[] = { "one", "two" };
        struct imatrix_write_options wo = { .about = { names, 2, WINDOWS, 1500 }, .gram = gram, .force = true };
        struct imatrix_writer *w;
        struct copy a[LAYERS][MOST];
        size_t n[LAYERS];
        o.gram = true;
        walk(f, &o, a, n, false);
        assert_int_equal(imatrix_writer_open(&w, path, &f->m, &wo, &e), STRETTO_OK);
        for (size_t i = 0; i < LAYERS; i++)
            for (size_t k = 0; k < n[i]; k++)
                if (strcmp(a[i][k].name, "blk.1.o") != 0)
                    assert_int_equal(imatrix_write(w, a[i][k].name, &a[i][k].s, &e), STRETTO_OK);
        assert_int_equal(imatrix_write(w, "blk.0.q", &a[0][0].s, NULL), STRETTO_E_ARG);      /* twice */
        assert_int_equal(imatrix_write(w, "blk.9.q", &a[0][0].s, NULL), STRETTO_E_ARG);
        assert_int_equal(imatrix_finish(w, &e), STRETTO_OK);
        imatrix_writer_close(w);
        struct imatrix *x;
        assert_int_equal(imatrix_open(&x, path, &e), STRETTO_OK);
        assert_int_equal(imatrix_count(x), LAYERS * 6 + 1);
        assert_int_equal(imatrix_about(x).windows, WINDOWS);
        assert_int_equal(imatrix_about(x).window, 1500);
        assert_string_equal(imatrix_about(x).datasets[1], "two");
        assert_int_equal(imatrix_check(x, &f->m, &e), STRETTO_OK);
        for (size_t i = 0; i < LAYERS; i++)
            for (size_t k = 0; k < n[i]; k++) {
                struct input_stats s = *imatrix_find(x, a[i][k].name);
                if (strcmp(a[i][k].name, "blk.1.o") == 0) {
                    assert_int_equal(s.rows, 0);
                    continue;
                }
                if (gram) assert_non_null(s.gram);
                else assert_null(s.gram);
                if (!gram) s.gram = a[i][k].s.gram;
                assert_true(same_stats(&s, &a[i][k].s));
            }
        assert_null(imatrix_find(x, "blk.1"));
        imatrix_close(x);
        drop_walk(a, n);
    }
    unlink(path);
}

/* A file as llama.cpp writes it, with faults. */
struct fault { const char *word; bool no_counts, negative, odd_shape, no_entries; const char *type; float count; };

static void write_foreign(const char *path, const struct fault *t)
{
    struct error e = { 0 };
    struct gguf_writer *w;
    float sums[6] = { 1, 2, 3, 4, 5, t->negative ? -6 : 6 }, counts[2] = { t->count, 10 };
    uint64_t d[2] = { 3, 2 }, c[2] = { 1, t->odd_shape ? 1 : 2 };
    assert_int_equal(gguf_writer_open(&w, path, true, &e), STRETTO_OK);
    gguf_put_string(w, "general.type", t->type ? t->type : "imatrix", strlen(t->type ? t->type : "imatrix"));
    gguf_put_u32(w, "imatrix.chunk_count", 2);
    assert_int_equal(gguf_put_tensor(w, t->no_entries ? "a.sum" : "a.in_sum2", DT_F32, 2, d, &e), STRETTO_OK);
    if (!t->no_counts) assert_int_equal(gguf_put_tensor(w, "a.counts", DT_F32, 2, c, &e), STRETTO_OK);
    assert_int_equal(gguf_begin_data(w, &e), STRETTO_OK);
    assert_int_equal(gguf_write_tensor(w, 0, sums, sizeof sums, &e), STRETTO_OK);
    if (!t->no_counts) assert_int_equal(gguf_write_tensor(w, 1, counts, t->odd_shape ? 4 : 8, &e), STRETTO_OK);
    assert_int_equal(gguf_finish(w, &e), STRETTO_OK);
    gguf_writer_close(w);
}

static void foreign_files(void **state_of)
{
    struct fixture *f = *state_of;
    char path[100];
    struct error e = { 0 };
    struct imatrix *x;
    file_name(path, sizeof path, "foreign");
    write_foreign(path, &(struct fault){ .count = 5 });
    assert_int_equal(imatrix_open(&x, path, &e), STRETTO_OK);
    const struct input_stats *s = imatrix_find(x, "a");
    assert_true(s->n == 3 && s->rows == 15 && s->sum2[0] == 5 && s->sum2[2] == 9);
    assert_true(!s->sum && !s->most && !s->gram);
    assert_int_equal(imatrix_check(x, &f->m, &e), STRETTO_E_FORMAT);
    imatrix_close(x);
    const struct fault faults[] = {
        { .word = "no counts", .no_counts = true, .count = 5 }, { .word = "negative", .negative = true, .count = 5 },
        { .word = "go together", .odd_shape = true, .count = 5 }, { .word = "no statistics", .no_entries = true },
        { .word = "is a model", .type = "model" },  { .word = "count", .count = -1 },
        { .word = "count", .count = NAN },          { .word = "count", .count = INFINITY },
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        e = (struct error){ 0 };
        write_foreign(path, &faults[i]);
        assert_int_equal(imatrix_open(&x, path, &e), STRETTO_E_FORMAT);
        assert_null(x);
        assert_non_null(strstr(e.text, faults[i].word));
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits), cmocka_unit_test(weights_change_on_the_way),
        cmocka_unit_test(progress_and_cancel), cmocka_unit_test(bad_input), cmocka_unit_test(no_memory),
        cmocka_unit_test(files_give_back_the_bits), cmocka_unit_test(foreign_files),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
