/* Same bits whatever the batch (DESIGN, the third idea): a row's logits must be the same bits in
 * every schedule that could have computed it.
 *
 *     invariance [--thorough] MODEL.gguf...         (made by tools/make_golden.py)
 *
 * For every cache type and thread count: chunks of many sizes, steps shared with other sequences,
 * forks, rewinds, reused prefixes and guess trees, with rows given, written, and given up to a
 * point. What is compared with is the plainest schedule of the same roles: one row at a time, one
 * thread. A model goes through each schedule once; --thorough takes every combination with threads
 * and roles, and then plants mistakes, in a decoder with F32 matrices, that the same comparison
 * must notice. */
#include "backend/cpu/cpu.h"
#include "engine/engine.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 140, SPLIT = 75, SEQS = 4, CONTEXT = 200, OTHERS = 120, TREE = 8 };

struct test {
    const char *path;
    struct model *model;
    size_t width; /* numbers of one answer                                 */
    uint8_t ask;
    bool encoder, strict;
    int32_t token[N];
    float *want, *got; /* [N][width]                                            */
    enum cache_type cache;
    unsigned threads;
    int given; /* rows before this one are given, later ones written    */
    int failures, checks;
    bool expect_difference, thorough;
};

static void die(const char *path, const struct error *err)
{
    fprintf(stderr, "%s: %s\n", path, err->text);
    exit(1);
}

static int32_t other_token(const struct test *t, int seq, int i)
{
    return (int32_t)((unsigned)(seq * 7919 + i * 104729) % (t->model->config.vocab - 3) + 3);
}

static struct engine *engine_for(const struct test *t)
{
    struct error err = {0};
    struct engine *e;
    struct engine_options o = {.threads = t->threads,
                               .context = CONTEXT,
                               .sequences = SEQS,
                               .max_rows = CONTEXT * SEQS,
                               .cache = t->cache,
                               .strict = t->strict};
    if (engine_open(&e, t->model, &o, &err) != STRETTO_OK) die(t->path, &err);
    engine_seq_open_all(e, &err);
    return e;
}

static void step(const struct test *t, struct engine *e, const struct row *r, size_t n, float *out)
{
    struct error err = {0};
    static struct answer a[CONTEXT * SEQS];
    answers_place(a, r, n, out, t->encoder ? t->model->config.width : t->model->config.vocab);
    if (engine_step(e, r, n, a, &err) != STRETTO_OK) die(t->path, &err);
}

/* Rows [from, to) of our tokens into `seq`, at most `chunk` a step; answers to their places. */
static void feed(const struct test *t, struct engine *e, int32_t seq, int from, int to, int chunk,
                 float *out)
{
    struct row r[N];
    for (int at = from; at < to;) {
        int n = to - at < chunk ? to - at : chunk;
        for (int i = 0; i < n; i++)
            r[i] = (struct row){seq, t->token[at + i], i ? i - 1 : ROW_COMMITTED, at + i < t->given,
                                out ? t->ask : 0};
        step(t, e, r, (size_t)n, out ? out + (size_t)at * t->width : NULL);
        engine_commit(e, seq, (uint32_t)n);
        at += n;
    }
}

static void feed_other(const struct test *t, struct engine *e, int32_t seq, int n)
{
    struct row r[CONTEXT];
    for (int i = 0; i < n; i++)
        r[i] = (struct row){seq, other_token(t, seq, i), i ? i - 1 : ROW_COMMITTED, 1, 0};
    step(t, e, r, (size_t)n, NULL);
    engine_commit(e, seq, (uint32_t)n);
}

static void compare(struct test *t, int from, int to, const char *what, int detail)
{
    size_t at = (size_t)from * t->width, n = (size_t)(to - from) * t->width;
    bool same = memcmp(t->got + at, t->want + at, n * sizeof *t->got) == 0;
    t->checks++;
    if (same != t->expect_difference) return;
    t->failures++;
    size_t k = at;
    while (k < at + n && memcmp(t->got + k, t->want + k, sizeof *t->got) == 0) k++;
    printf("FAIL %s: %s %d, cache %s, %u threads, %d rows given%s: ", t->path, what, detail,
           cache_type_name(t->cache), t->threads, t->given, t->strict ? ", strict" : "");
    if (same) printf("a planted mistake made no difference\n");
    else
        printf("row %zu differs first (%.9g, not %.9g)\n", k / t->width, (double)t->got[k],
               (double)t->want[k]);
}

static void forget(struct test *t) { memset(t->got, 0xff, (size_t)N * t->width * sizeof *t->got); }

static void chunks(struct test *t)
{
    static const int sizes[] = {1, 2, 3, 7, 15, 16, 17, 31, 33, 64, N};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct engine *e = engine_for(t);
        forget(t);
        feed(t, e, (int)i % SEQS, 0, N, sizes[i], t->got);
        compare(t, 0, N, "chunks of", sizes[i]);
        engine_close(e);
    }
}

/* Our rows stand between rows of other sequences, 500 and more in the largest step. */
static void neighbours(struct test *t)
{
    static const int ours[] = {1, 5, 64, N};
    static struct row r[N + SEQS * OTHERS];
    float *out = malloc((size_t)(N + SEQS * OTHERS) * t->width * sizeof *out);
    for (size_t s = 0; s < sizeof ours / sizeof *ours && out; s++) {
        struct engine *e = engine_for(t);
        forget(t);
        for (int at = 0, turn = 0; at < N; turn++) {
            int n = N - at < ours[s] ? N - at : ours[s], first = 0, k = 0;
            for (int32_t seq = 0; seq < SEQS; seq++) {
                int rows = seq == 2 ? n : turn ? (turn * 3 + seq) % 4 : OTHERS - 9 * seq;
                if (seq != 2 && engine_length(e, seq) + (uint32_t)rows > CONTEXT) rows = 0;
                if (seq == 2) first = k;
                for (int i = 0; i < rows; i++, k++)
                    r[k] =
                        (struct row){seq, seq == 2 ? t->token[at + i] : other_token(t, seq, at + i),
                                     i ? k - 1 : ROW_COMMITTED,
                                     seq == 2 ? at + i < t->given : turn % 2 == 0, t->ask};
            }
            step(t, e, r, (size_t)k, out);
            for (int32_t seq = 0, i = 0; seq < SEQS; seq++) {
                uint32_t rows = 0;
                while (i < k && r[i].seq == seq) {
                    rows++;
                    i++;
                }
                if (rows) engine_commit(e, seq, rows);
            }
            memcpy(t->got + (size_t)at * t->width, out + (size_t)first * t->width,
                   (size_t)n * t->width * sizeof *out);
            at += n;
        }
        compare(t, 0, N, "neighbours, rows of ours", ours[s]);
        engine_close(e);
    }
    free(out);
}

/* A prefix computed in one sequence serves another; then both go on their own ways. */
static void forks(struct test *t)
{
    static const int cut[] = {1, 63, 64, 65, 70, 128};
    struct error err = {0};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        struct engine *e = engine_for(t);
        forget(t);
        feed_other(t, e, 3, 90); /* so that pages are not the first ones */
        feed(t, e, 1, 0, cut[i], 40, t->got);
        if (engine_fork(e, 1, 0, (uint32_t)cut[i], &err) != STRETTO_OK) die(t->path, &err);
        feed_other(t, e, 1, 20);
        feed(t, e, 0, cut[i], N, 9, t->got);
        compare(t, 0, N, "forked at", cut[i]);
        engine_close(e);
    }
}

static void rewinds(struct test *t)
{
    static const int cut[] = {0, 1, 64, 77, 127};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        struct engine *e = engine_for(t);
        forget(t);
        feed(t, e, 0, 0, cut[i], 33, t->got);
        feed_other(t, e, 0, 50);
        engine_rewind(e, 0, (uint32_t)cut[i]);
        feed(t, e, 0, cut[i], N, 21, t->got);
        compare(t, 0, N, "rewound to", cut[i]);
        engine_close(e);
    }
}

static void reuse(struct test *t)
{
    struct engine *e = engine_for(t);
    forget(t);
    feed(t, e, 1, 0, 131, 50, t->got);
    int have = (int)engine_set(e, 2, t->token, N, N);
    feed(t, e, 2, have, N, 50, t->got);
    compare(t, 0, N, "prefix reused, tokens", have);
    if (have < 128) {
        t->failures++;
        printf("FAIL %s: only %d tokens of 131 were reused\n", t->path, have);
    }
    engine_close(e);
}

/* Written rows in a guess tree: behind each true row two wrong ones and a wrong child. */
static void trees(struct test *t)
{
    struct engine *e = engine_for(t);
    struct row r[TREE * 4];
    int32_t path[TREE];
    float *out = malloc((size_t)TREE * 4 * t->width * sizeof *out);
    forget(t);
    feed(t, e, 0, 0, t->given, 64, t->got);
    for (int at = t->given; at < N && out;) {
        int n = N - at < TREE ? N - at : TREE, k = 0, last = ROW_COMMITTED;
        for (int i = 0; i < n; i++) {
            int parent = last, wrong = k;
            r[k++] = (struct row){0, other_token(t, 1, at + i), parent, 0, t->ask};
            path[i] = last = k;
            r[k++] = (struct row){0, t->token[at + i], parent, 0, t->ask};
            r[k++] = (struct row){0, other_token(t, 2, at + i), parent, 0, t->ask};
            r[k++] = (struct row){0, other_token(t, 3, at + i), wrong, 0, t->ask};
        }
        step(t, e, r, (size_t)k, out);
        for (int i = 0; i < n; i++)
            memcpy(t->got + (size_t)(at + i) * t->width, out + (size_t)path[i] * t->width,
                   t->width * sizeof *out);
        engine_accept(e, 0, path, (uint32_t)n);
        at += n;
    }
    compare(t, 0, N, "trees of", TREE);
    free(out);
    engine_close(e);
}

static void baseline(struct test *t)
{
    unsigned threads = t->threads;
    t->threads = 1;
    struct engine *e = engine_for(t);
    feed(t, e, 0, 0, N, 1, t->want);
    engine_close(e);
    t->threads = threads;
}

/* One tree from the committed end: parent[] counts rows of the tree, so that siblings, chains that
 * fork late and rows in any order of depth occur; `truth` is the path of our tokens. */
struct shape { int n, parent[16], n_true, truth[8]; };

static void shape_at(struct test *t, const struct shape *shape, int at)
{
    struct engine *e = engine_for(t);
    struct row r[17];
    float *out = malloc(17 * t->width * sizeof *out);
    bool ours[16] = {false};
    forget(t);
    feed_other(t, e, 1, 70); /* so that pages are not in order */
    feed(t, e, 0, 0, at, 50, t->got);
    for (int i = 0; i < shape->n_true; i++) ours[shape->truth[i]] = true;
    int depth[16];
    for (int i = 0; i < shape->n; i++) {
        int up = shape->parent[i];
        depth[i] = up < 0 ? 0 : depth[up] + 1;
        r[i] = (struct row){0, ours[i] ? t->token[at + depth[i]] : other_token(t, 2, i),
                            up < 0 ? ROW_COMMITTED : up, 0, t->ask};
    }
    step(t, e, r, (size_t)shape->n, out);
    int32_t path[8];
    for (int i = 0; i < shape->n_true; i++) {
        path[i] = shape->truth[i];
        memcpy(t->got + (size_t)(at + i) * t->width, out + (size_t)path[i] * t->width,
               t->width * sizeof *out);
    }
    engine_accept(e, 0, path, (uint32_t)shape->n_true);
    feed(t, e, 0, at + shape->n_true, N, 30, t->got);
    compare(t, 0, N, "tree at", at);
    free(out);
    engine_close(e);
}

static void shapes(struct test *t)
{
    static const struct shape all[] = {
        {4, {-1, 0, 0, 1}, 3, {0, 1, 3}},                 /* few rows: blocks are shared out     */
        {3, {-1, -1, 1}, 2, {1, 2}},                      /* no row stands where a chain would   */
        {8, {-1, 0, 1, 2, 2, 4, 5, 6}, 7, {0, 1, 2, 4, 5, 6, 7}}, /* a chain that forks late     */
        {16, {-1, -1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6}, 3, {1, 5, 13}},
        {7, {-1, 0, 1, 2, -1, 4, 5}, 3, {4, 5, 6}},       /* deep, then shallow                  */
    };
    static const int at[] = {1, 60, 63, 64, 75, 120, 127};
    int given = t->given;
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        if (given > at[i]) t->given = at[i];
        baseline(t);
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) shape_at(t, &all[k], at[i]);
        t->given = given;
    }
    baseline(t);
}

/* A text that is seen whole: one step, alone and among others. */
static void whole_texts(struct test *t)
{
    static const int before[] = {0, 1, 3};
    static struct row r[SEQS * CONTEXT];
    for (size_t s = 0; s < sizeof before / sizeof *before; s++) {
        struct engine *e = engine_for(t);
        forget(t);
        int k = 0;
        uint32_t room = engine_about(e)->max_rows;
        float *out = malloc((size_t)(N + SEQS * 15) * t->width * sizeof *out);
        for (int seq = 0; seq < before[s] && (uint32_t)k + 15 + N <= room; seq++)
            for (int i = 0; i < 15; i++, k++)
                r[k] =
                    (struct row){seq, other_token(t, seq, i), i ? k - 1 : ROW_COMMITTED, 1, t->ask};
        int first = k;
        for (int i = 0; i < N; i++, k++)
            r[k] = (struct row){3, t->token[i], i ? k - 1 : ROW_COMMITTED, 1, t->ask};
        step(t, e, r, (size_t)k, out);
        memcpy(t->got, out + (size_t)first * t->width, (size_t)N * t->width * sizeof *out);
        if (!s && t->threads == 1) memcpy(t->want, t->got, (size_t)N * t->width * sizeof *out);
        compare(t, 0, N, "whole texts, sequences before", before[s]);
        free(out);
        engine_close(e);
    }
}

static void all_schedules(struct test *t)
{
    static const int given[] = {N, SPLIT, 0};
    for (size_t g = 0; g < 3; g++) {
        t->given = given[g];
        if (!t->thorough && t->given != SPLIT) continue;
        baseline(t);
        for (t->threads = t->thorough ? 1 : 2; t->threads <= (t->thorough ? 4 : 2);
             t->threads *= 2) {
            chunks(t);
            neighbours(t);
            forks(t);
            rewinds(t);
            reuse(t);
            if (given[g] < N) {
                trees(t);
                shapes(t);
            }
        }
    }
    if (!t->thorough && t->cache != CACHE_F16) return;
    /* Strict: given or written makes no difference either. The baseline is of written rows only. */
    t->strict = true;
    t->threads = 2;
    t->given = 0;
    baseline(t);
    for (size_t g = 0; g < 3; g++) {
        t->given = given[g];
        chunks(t);
    }
    t->strict = false;
}

/* ---- planted mistakes
 * -------------------------------------------------------------------------------- */

static linear_fn *true_linear;
static attn_block_fn *true_attention;

/* One row's terms added from the other end. */
static void reordered_linear(const void *panels, size_t n_panels, size_t k, const struct act *x,
                             size_t rows, float *y, size_t ldy)
{
    true_linear(panels, n_panels, k, x, rows, y, ldy);
    if (rows != 1) return;
    const float *w = panels; /* F32 panels: [k][16] */
    for (size_t p = 0; p < n_panels; p++)
        for (size_t c = 0; c < PANEL_COLS; c++) {
            float sum = 0;
            for (size_t i = k; i-- > 0;) sum = fmaf(w[(p * k + i) * PANEL_COLS + c], x->f[i], sum);
            y[p * PANEL_COLS + c] = sum;
        }
}

/* The last bit depends on how many rows share a block. */
static void crowded_attention(const struct attn_query *a, const void *k_page, const void *v_page,
                              float *m, float *sum, float *acc)
{
    true_attention(a, k_page, v_page, m, sum, acc);
    for (size_t i = 0; i < a->n_q * a->head_dim && a->n_q > 4; i++)
        acc[i] = nextafterf(acc[i], INFINITY);
}

static void planted(struct test *t)
{
    struct kernels *k = t->model->weights->kernels;
    const struct kernels sound = *k;
    t->cache = CACHE_F32;
    t->threads = 1;
    t->given = 0;
    t->expect_difference = true;
    baseline(t);
    true_linear = k->linear[DT_F32];
    k->linear[DT_F32] = reordered_linear;
    struct engine *e = engine_for(t);
    feed(t, e, 0, 0, N, 1, t->got);
    compare(t, 0, N, "planted: terms of single rows in descending order", 1);
    engine_close(e);
    *k = sound;
    true_attention = k->attn_block[KV_F32];
    k->attn_block[KV_F32] = crowded_attention;
    e = engine_for(t);
    feed(t, e, 0, 0, N, N, t->got);
    compare(t, 0, N, "planted: attention that knows its neighbours", N);
    engine_close(e);
    *k = sound;
    t->expect_difference = false;
}

static int run_model(const char *path, bool thorough)
{
    struct error err = {0};
    struct test t = {.path = path, .thorough = thorough};
    struct model_open_options o = {.threads = 1, .level = getenv("STRETTO_CPU")};
    if (model_open(&t.model, path, &o, &err) != STRETTO_OK) die(path, &err);
    t.encoder = t.model->graph.logits == GRAPH_NONE;
    t.width = t.encoder ? t.model->config.width : t.model->config.vocab;
    t.ask = t.encoder ? WANT_HIDDEN : WANT_LOGITS;
    t.want = calloc((size_t)N * t.width, sizeof *t.want);
    t.got = calloc((size_t)N * t.width, sizeof *t.got);
    if (!t.want || !t.got) return 1;
    for (int i = 0; i < N; i++) t.token[i] = other_token(&t, 9, i);
    for (t.cache = 0; t.cache < CACHE_TYPES; t.cache++) {
        if (!t.encoder) all_schedules(&t);
        for (t.threads = 1; t.encoder && t.threads <= 4; t.threads *= 2) whole_texts(&t);
    }
    if (thorough) planted(&t);
    printf("%s: %d schedules, %d failures\n", path, t.checks, t.failures);
    fflush(stdout);
    free(t.want);
    free(t.got);
    model_close(t.model);
    return t.failures != 0;
}

int main(int argc, char **argv)
{
    int bad = 0;
    bool thorough = argc > 1 && strcmp(argv[1], "--thorough") == 0;
    for (int i = 1 + thorough; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        if (!f) {
            printf("skip: %s was not made (tools/make_golden.py)\n", argv[i]);
            return 77;
        }
        fclose(f);
        bad |= run_model(argv[i], thorough);
    }
    return bad;
}
