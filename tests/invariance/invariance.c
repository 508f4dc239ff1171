/* Same bits whatever the batch: the logits of a row are compared, bit for bit, between ways of
 * sending the same text through the model: chunk sizes, threads, neighbours, pages, forks, rewinds,
 * guess trees, cache types, CPU levels. At the end a reordered sum is planted, which must be
 * noticed.
 *
 * usage: invariance MODEL [TOKENS [all|best]]   (encoders are compared in their neighbours only) */
#include "backend/cpu/cpu.h"
#include "base/random.h"
#include "engine/engine.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures, compared;
static uint32_t vocab;
static size_t n_tokens;
static int32_t *ids;
static const struct model *model;

static void die(const char *what, const struct error *e)
{
    fprintf(stderr, "%s: %s\n", what, e->text);
    exit(1);
}

static struct engine *open_engine(unsigned threads, uint32_t sequences, enum cache_type cache)
{
    struct error e = { 0 };
    struct engine *x;
    uint32_t context = model->config.context < 2048 ? model->config.context : 2048;
    struct engine_options o = {.threads = threads,
                               .sequences = sequences,
                               .context = context,
                               .cache = cache,
                               .max_rows = 512,
                               .strict = true};
    if (engine_open(&x, model, &o, &e) != STRETTO_OK) die("open", &e);
    engine_seq_open_all(x, &e);
    return x;
}

/* One step; what rows want goes to `out`, in their order. */
static void step(struct engine *e, const struct row *rows, size_t n, float *out, const char *what)
{
    static struct answer a[2048];
    struct error err = { 0 };
    answers_place(a, rows, n, out, rows[0].wants == WANT_HIDDEN ? model->config.width : vocab);
    if (engine_step(e, rows, n, a, &err) != STRETTO_OK) die(what, &err);
}

static struct row row(int32_t seq, size_t i, int32_t parent)
{
    return (struct row){ seq, ids[i], parent, (uint8_t)(i % 3 != 0), WANT_LOGITS };
}

/* The text in chunks; logits of every row into out [n][vocab]. */
static void send(struct engine *e, int32_t seq, size_t from, size_t chunk, float *out)
{
    struct row rows[512];
    for (size_t at = from; at < n_tokens;) {
        size_t n = n_tokens - at < chunk ? n_tokens - at : chunk;
        for (size_t i = 0; i < n; i++)
            rows[i] = row(seq, at + i, i ? (int32_t)i - 1 : ROW_COMMITTED);
        step(e, rows, n, out + at * vocab, "step");
        engine_commit(e, seq, (uint32_t)n);
        at += n;
    }
}

static bool same(const float *a, const float *b, size_t rows)
{
    return memcmp(a, b, rows * vocab * sizeof *a) == 0;
}

static void expect(const char *what, size_t arg, const float *want, const float *got, size_t rows)
{
    compared++;
    if (same(want, got, rows)) return;
    for (size_t i = 0; i < rows * vocab; i++)
        if (memcmp(&want[i], &got[i], sizeof *want)) {
            printf("FAIL %s %zu: row %zu token %zu: %a is not %a\n", what, arg, i / vocab,
                   i % vocab, (double)got[i], (double)want[i]);
            break;
        }
    failures++;
}

static void chunks(struct engine *e, const float *want, float *got)
{
    static const size_t sizes[] = { 2, 3, 7, 15, 16, 17, 31, 33, 64, 512 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        engine_rewind(e, 0, 0);
        send(e, 0, 0, sizes[i], got);
        expect("chunk", sizes[i], want, got, n_tokens);
    }
}

/* Other sequences share the step, and hold pages in between. */
static void neighbours(struct engine *e, const float *want, float *got)
{
    struct row rows[512];
    float *all = malloc(3 * 40 * (size_t)vocab * sizeof *all);
    for (int32_t s = 0; s < 3; s++) engine_rewind(e, s, 0);
    for (size_t at = 0; at < n_tokens;) {
        size_t n = 0, mine = n_tokens - at < 13 ? n_tokens - at : 13, first;
        uint32_t other = (uint32_t)(random_mix(at) % 20 + 1);
        for (uint32_t i = 0; i < other; i++, n++)
            rows[n] = (struct row){ 1, (int32_t)(random_mix(at + i) % vocab),
                                    i ? (int32_t)n - 1 : ROW_COMMITTED, 1, 0 };
        first = n;
        for (size_t i = 0; i < mine; i++, n++)
            rows[n] = row(0, at + i, i ? (int32_t)n - 1 : ROW_COMMITTED);
        rows[n++] = (struct row){ 2, 3, ROW_COMMITTED, 0, 0 };
        (void)first;
        step(e, rows, n, all, "neighbours");
        memcpy(got + at * vocab, all, mine * vocab * sizeof *got);
        engine_commit(e, 0, (uint32_t)mine);
        if (engine_length(e, 1) + 40 < engine_about(e)->context) engine_commit(e, 1, other);
        engine_commit(e, 2, 1);
        at += mine;
    }
    expect("neighbours", 3, want, got, n_tokens);
    free(all);
}

static void forks(struct engine *e, const float *want, float *got)
{
    struct error err = { 0 };
    static const uint32_t at[] = { 1, 37, 64, 65, 100 };
    engine_rewind(e, 0, 0);
    send(e, 0, 0, 64, got);
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        if (at[i] >= n_tokens) continue;
        memcpy(got, want, at[i] * vocab * sizeof *got);
        if (engine_fork(e, 0, 1, at[i], &err) != STRETTO_OK) die("fork", &err);
        send(e, 1, at[i], 5, got);
        expect("fork", at[i], want, got, n_tokens);
        /* The other side is not disturbed. */
        engine_rewind(e, 0, at[i] + (at[i] + 1 < n_tokens));
        send(e, 0, engine_length(e, 0), 16, got);
        expect("after fork", at[i], want, got, n_tokens);
    }
}

/* A tree whose true path is surrounded by wrong guesses; the path is accepted and the text goes on.
 */
static void trees(struct engine *e, const float *want, float *got)
{
    float *all = malloc(64 * (size_t)vocab * sizeof *all);
    static const size_t starts[] = { 0, 5, 58, 63, 64, 70, 120 };
    for (size_t s = 0; s < sizeof starts / sizeof *starts; s++) {
        size_t at = starts[s];
        if (at + 9 > n_tokens) continue;
        engine_rewind(e, 0, 0);
        memcpy(got, want, n_tokens * vocab * sizeof *got);
        if (at) {
            size_t keep = n_tokens;
            n_tokens = at;
            send(e, 0, 0, 17, got);
            n_tokens = keep;
        }
        struct row rows[32];
        int32_t path[8], parent = ROW_COMMITTED;
        size_t n = 0;
        for (int depth = 0; depth < 8; depth++) {
            for (int wrong = 0; wrong < depth % 3 + 1; wrong++, n++)
                rows[n] = (struct row){ 0, (int32_t)(random_mix(n + at) % vocab), parent, 0, 0 };
            rows[n] = row(0, at + (size_t)depth, parent);
            path[depth] = parent = (int32_t)n++;
        }
        step(e, rows, n, all, "tree");
        expect("tree", at, want + at * vocab, all, 8);
        engine_accept(e, 0, path, 8);
        if (at + 8 < n_tokens) send(e, 0, at + 8, 9, got);
        expect("after tree", at, want, got, n_tokens);
    }
    free(all);
}

static void cache_types(float *want, float *got)
{
    for (int t = 0; t < CACHE_TYPES; t++)
        for (unsigned threads = 1; threads <= 4; threads *= 2) {
            struct engine *e = open_engine(threads, 3, (enum cache_type)t);
            if (threads == 1) {
                send(e, 0, 0, 1, want);
                chunks(e, want, got);
                trees(e, want, got);
            } else {
                send(e, 0, 0, 1, got);
                expect("threads, row by row", threads, want, got, n_tokens);
                engine_rewind(e, 0, 0);
                send(e, 0, 0, 64, got);
                expect("threads", threads, want, got, n_tokens);
            }
            if (threads == 2) {
                neighbours(e, want, got);
                forks(e, want, got);
            }
            engine_close(e);
        }
}

/* The planted fault: several rows at once add their K in two halves. */
static linear_fn *true_linear;
static void split_linear(const void *panels, size_t n_panels, size_t k, const struct act *x,
                         size_t rows, float *y, size_t ldy)
{
    true_linear(panels, n_panels, k, x, rows, y, ldy);
    if (rows < 2) return;
    for (size_t p = 0; p < n_panels; p++)
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < PANEL_COLS; c++) {
                const float *w = (const float *)panels + p * k * PANEL_COLS + c;
                float a = 0, b = 0;
                for (size_t i = 0; i < k; i++) {
                    float *sum = i < k / 2 ? &a : &b;
                    *sum += w[i * PANEL_COLS] * x->f[r * x->ldf + i];
                }
                y[r * ldy + p * PANEL_COLS + c] = a + b;
            }
}

static bool planted_is_noticed(float *want, float *got)
{
    struct kernels *k = model->weights->kernels;
    true_linear = k->linear[DT_F32];
    k->linear[DT_F32] = split_linear;
    struct engine *e = open_engine(1, 1, CACHE_F32);
    send(e, 0, 0, 1, want);
    engine_rewind(e, 0, 0);
    send(e, 0, 0, 7, got);
    engine_close(e);
    k->linear[DT_F32] = true_linear;
    return !same(want, got, n_tokens);
}

static bool has_f32_linear(void)
{
    for (size_t i = 0; i < model->weights->n; i++)
        if (model->weights->weight[i].panels && model->weights->weight[i].type == DT_F32)
            return true;
    return false;
}

/* An encoder's text is one span; other texts of the step must not matter. */
static void encoder(void)
{
    size_t width = model->config.width;
    float *alone = malloc(n_tokens * width * sizeof *alone),
          *both = malloc(2 * n_tokens * width * sizeof *both);
    struct row *rows = calloc(2 * n_tokens, sizeof *rows);
    for (unsigned threads = 1; threads <= 4; threads *= 2) {
        struct engine *e = open_engine(threads, 2, CACHE_F16);
        for (size_t i = 0; i < n_tokens; i++)
            rows[i] = (struct row){ 0, ids[i], i ? (int32_t)i - 1 : ROW_COMMITTED, 1, WANT_HIDDEN };
        step(e, rows, n_tokens, threads == 1 ? alone : both, "encoder");
        compared++;
        if (threads > 1 && memcmp(alone, both, n_tokens * width * sizeof *alone)) {
            printf("FAIL encoder threads %u\n", threads);
            failures++;
        }
        size_t other = n_tokens / 2;
        if (2 * n_tokens > engine_about(e)->max_rows) { engine_close(e); continue; }
        for (size_t i = 0; i < other; i++)
            rows[n_tokens + i] = (struct row){
                1, ids[n_tokens - 1 - i], i ? (int32_t)(n_tokens + i) - 1 : ROW_COMMITTED, 1, 0};
        step(e, rows, n_tokens + other, both, "encoder");
        compared++;
        if (memcmp(alone, both, n_tokens * width * sizeof *alone)) {
            printf("FAIL encoder beside another text\n");
            failures++;
        }
        engine_close(e);
    }
    free(alone);
    free(both);
    free(rows);
}

static void check_level(const char *path, const char *level, size_t want_tokens)
{
    struct error err = { 0 };
    struct model *m;
    struct model_open_options o = { .level = level };
    if (model_open(&m, path, &o, &err) != STRETTO_OK) die(path, &err);
    model = m;
    vocab = m->config.vocab;
    n_tokens = want_tokens < m->config.context ? want_tokens : m->config.context - 8;
    ids = malloc(n_tokens * sizeof *ids);
    for (size_t i = 0; i < n_tokens; i++) ids[i] = (int32_t)(random_at(7, 0, i, 0) % vocab);
    bool noticed = true;
    if (m->graph.logits == GRAPH_NONE) encoder();
    else {
        float *want = malloc(n_tokens * vocab * sizeof *want),
              *got = malloc(n_tokens * vocab * sizeof *got);
        cache_types(want, got);
        noticed = !has_f32_linear() || planted_is_noticed(want, got);
        free(want);
        free(got);
    }
    if (!noticed) { printf("FAIL a planted reordering was not noticed\n"); failures++; }
    printf("%s: level %s, %d comparisons, %d failures%s\n", path, m->weights->kernels->level,
           compared, failures, has_f32_linear() ? ", planted reordering noticed" : "");
    fflush(stdout);
    free(ids);
    model_close(m);
}

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    FILE *f = fopen(argv[1], "rb");
    if (!f) { printf("skip: there is no %s\n", argv[1]); return 77; }
    fclose(f);
    size_t n = argc > 2 ? (size_t)atol(argv[2]) : 150;
    uint32_t cpu = cpu_detect(), bits;
    for (const char *const *l = kernels_levels(); *l; l++) {
        if (!cpu_ceiling(*l, &bits)) return 1;
        if (bits & ~cpu) continue;                 /* not of this CPU */
        bool last = !l[1] || !cpu_ceiling(l[1], &bits) || (bits & ~cpu);
        if (argc > 3 && strcmp(argv[3], "best") == 0 && !last) continue;
        check_level(argv[1], *l, n);
    }
    return failures != 0;
}
