/* Same bits whatever the batch (DESIGN, the third idea): a row's answer must be the same bits in every
 * schedule that could have computed it.
 *
 *     invariance [--few | --thorough | --split] [--cache TYPE] MODEL.gguf...
 *                                                           (STRETTO_CPU: the level of the kernels)
 *
 * For every cache type: chunks of many sizes, steps shared with other sequences, forks, rewinds, reused
 * prefixes and guess trees, with several threads. What is compared with is the plainest schedule of the
 * same roles: one row at a time, one thread. Rows are given up to a point and written behind it; with
 * `strict` that makes no difference either. Models with windows do it again with a text whose front they
 * give back, and go back behind that. --few takes a slice of each that also runs under the
 * sanitizers, --thorough every combination with threads and roles. --split takes the slice over several
 * devices: the model is cut before every layer, and in three.
 *
 * Texts that are read a second time share the first one's pages (cache/prefix.h), so every page is compared byte
 * by byte with what it gives way to. And pages come back from files into another engine.
 *
 * Then faults are planted that the same comparison must notice: in the linear kernels of every type of
 * weight that the model has, for given and for written rows, and in the attention of every cache type. On
 * another device (STRETTO_DEVICE), whose kernels are out of reach, rows that are not alone are changed. */
#include "../rows.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/linear/linear.h"
#include "backend/split.h"
#include "engine/scheduler.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <unistd.h>

enum { N = 140, SPLIT = 75, SEQS = 4, CONTEXT = 200, TREE = 8, TAIL = 20 };
enum { LONG = 680, LONG_SPLIT = 420, LONG_CONTEXT = 2000, LONG_ROWS = 256 }; /* see windows */
enum { MIXED = -1 }; /* in place of a number of given rows: every third row is written */
enum amount { FEW, USUAL, THOROUGH };

struct test {
    const char *path;
    struct model *model;
    struct model *plain;   /* what the baseline is made of: the same, or the model on one device */
    struct engine *engine; /* of this cache, these threads, strict or not          */
    size_t width;          /* numbers of one answer                                */
    uint8_t wants;
    bool encoder, strict, expect_difference;
    enum amount amount;
    uint32_t context, max_rows;
    int32_t token[LONG];
    float *want, *got;     /* [LONG][width]                                        */
    enum cache_type cache;
    unsigned threads;
    int given;             /* rows before this one are given, later ones written   */
    const char *only_cache; /* NULL: every type                                    */
    bool cpu;              /* its kernels can be reached                           */
    int failures, checks, plants, page_plants;
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

static bool is_given(const struct test *t, int i)
{
    return t->given == MIXED ? i % 3 != 0 : i < t->given;
}

/* ---- the engine: everything that is asked of it ---------------------------------------------- */

static void open_on(struct test *t, const struct model *m)
{
    struct error err = { 0 };
    struct engine_options o = { .threads = t->threads, .context = t->context, .sequences = SEQS,
                                .max_rows = t->max_rows, .cache = t->cache, .strict = t->strict };
    engine_close(t->engine);
    t->engine = NULL;
    if (engine_open(&t->engine, m, &o, &err) != STRETTO_OK) die(t->path, &err);
    engine_seq_open_all(t->engine, &err);
    if (engine_compare(t->engine, &err) != STRETTO_OK) die(t->path, &err);
}

static uint64_t unlike_pages(const struct test *t)
{
    struct engine_pages pages;
    engine_look(t->engine, &pages);
    return pages.counts.unlike;
}

static void open_engine(struct test *t) { open_on(t, t->model); }

/* All sequences are empty and no answer is there; pages stay in the order in which they were left. */
static void begin(struct test *t)
{
    for (int32_t seq = 0; seq < SEQS; seq++) engine_rewind(t->engine, seq, 0);
    memset(t->got, 0xff, (size_t)LONG * t->width * sizeof *t->got);
}

/* Answers of the rows that want one go to consecutive places. */
static void step(const struct test *t, const struct row *r, size_t n, float *out)
{
    struct error err = { 0 };
    static struct answer a[CONTEXT * SEQS];
    answers_place(a, r, n, out, t->width);
    if (engine_step(t->engine, r, n, a, &err) != STRETTO_OK) die(t->path, &err);
}

static void fork_at(const struct test *t, int32_t from, int32_t to, int n)
{
    struct error err = { 0 };
    if (engine_fork(t->engine, from, to, (uint32_t)n, &err) != STRETTO_OK) die(t->path, &err);
}

/* Rows [from, to) of our tokens into `seq`, at most `chunk` a step; answers to their places. */
static void feed(const struct test *t, int32_t seq, int from, int to, int chunk, float *out)
{
    struct row r[LONG];
    for (int at = from; at < to;) {
        int n = to - at < chunk ? to - at : chunk;
        for (int i = 0; i < n; i++)
            r[i] = (struct row){ seq, t->token[at + i], i ? i - 1 : ROW_COMMITTED,
                                 is_given(t, at + i), t->wants };
        step(t, r, (size_t)n, out + (size_t)at * t->width);
        engine_commit(t->engine, seq, (uint32_t)n);
        at += n;
    }
}

static void feed_other(const struct test *t, int32_t seq, int n)
{
    struct row r[CONTEXT];
    for (int i = 0; i < n; i++)
        r[i] = (struct row){ seq, other_token(t, seq, i), i ? i - 1 : ROW_COMMITTED, 1, 0 };
    step(t, r, (size_t)n, NULL);
    engine_commit(t->engine, seq, (uint32_t)n);
}

/* ---- what is compared -------------------------------------------------------------------------- */

static void compare(struct test *t, int from, int to, const char *what, int detail)
{
    size_t at = (size_t)from * t->width, n = (size_t)(to - from) * t->width;
    bool same = memcmp(t->got + at, t->want + at, n * sizeof *t->got) == 0;
    t->checks++;
    t->plants += t->expect_difference;
    if (!t->expect_difference && unlike_pages(t)) {
        t->failures++;
        printf("FAIL %s: pages differ, %s %d, cache %s\n", t->path, what, detail, cache_type_name(t->cache));
    }
    if (same != t->expect_difference) return;
    t->failures++;
    size_t k = at;
    while (k < at + n && memcmp(t->got + k, t->want + k, sizeof *t->got) == 0) k++;
    printf("FAIL %s: %s %d, cache %s, %u threads, %d rows given%s: ", t->path, what, detail,
           cache_type_name(t->cache), t->threads, t->given, t->strict ? ", strict" : "");
    if (same) printf("a planted fault made no difference\n");
    else
        printf("row %zu differs first (%.9g, not %.9g)\n", k / t->width, (double)t->got[k],
               (double)t->want[k]);
}

/* What the plainest schedule answers to the first n tokens. The engine is another
 * one then. */
static void baseline(struct test *t, int n)
{
    unsigned threads = t->threads;
    t->threads = 1;
    open_on(t, t->plain);
    feed(t, 0, 0, n, 1, t->want);
    t->threads = threads;
}

/* ---- schedules ----------------------------------------------------------------------------------- */

static void chunks(struct test *t, const int *sizes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        begin(t);
        feed(t, (int)i % SEQS, 0, N, sizes[i], t->got);
        compare(t, 0, N, "chunks of", sizes[i]);
    }
}

/* Our rows stand between rows of other sequences, 400 and more in the largest step. */
static void neighbours(struct test *t)
{
    static const int ours[] = { 5, N, 1, 64 };
    static struct row r[SEQS * CONTEXT];
    for (size_t s = 0; s < (t->amount == FEW ? 2 : 4); s++) {
        int others = ours[s] == N ? 120 : 40;
        begin(t);
        for (int at = 0, turn = 0; at < N; turn++) {
            int n = N - at < ours[s] ? N - at : ours[s], k = 0, rows[SEQS];
            for (int32_t seq = 0; seq < SEQS; seq++) {
                rows[seq] = seq == 2 ? n : turn ? (turn * 3 + seq) % 4 : others - 9 * seq;
                if (engine_length(t->engine, seq) + (uint32_t)rows[seq] > CONTEXT) rows[seq] = 0;
                for (int i = 0; i < rows[seq]; i++, k++)
                    r[k] = (struct row){ seq, seq == 2 ? t->token[at + i] : other_token(t, seq, at + i),
                                         i ? k - 1 : ROW_COMMITTED,
                                         (uint8_t)(seq == 2 ? is_given(t, at + i) : turn % 2 == 0),
                                         seq == 2 ? t->wants : 0 };
            }
            step(t, r, (size_t)k, t->got + (size_t)at * t->width);
            for (int32_t seq = 0; seq < SEQS; seq++)
                if (rows[seq]) engine_commit(t->engine, seq, (uint32_t)rows[seq]);
            at += n;
        }
        compare(t, 0, N, "neighbours, rows of ours", ours[s]);
    }
}

/* A prefix computed in one sequence serves another; then both go on their own ways. */
static void forks(struct test *t)
{
    static const int cut[] = { 65, 1, 63, 64, 70, 128 };
    begin(t);
    feed_other(t, 3, 90); /* so that pages are not the first ones */
    feed(t, 1, 0, 128, 40, t->got);
    for (size_t i = 0; i < (t->amount == FEW ? 1 : 6); i++) {
        engine_rewind(t->engine, 0, 0);
        fork_at(t, 1, 0, cut[i]);
        engine_rewind(t->engine, 1, 128);
        feed_other(t, 1, 20);
        feed(t, 0, cut[i], N, 9, t->got);
        compare(t, 0, N, "forked at", cut[i]);
    }
    engine_rewind(t->engine, 1, 128); /* and what it was forked from is as it was */
    feed(t, 1, 128, N, 5, t->got);
    compare(t, 0, N, "after forks at", 128);
}

static void rewinds(struct test *t)
{
    static const int cut[] = { 127, 64, 77, 1, 0 };
    begin(t);
    feed(t, 0, 0, 127, 33, t->got);
    for (size_t i = 0; i < (t->amount == FEW ? 2 : 5); i++) {
        engine_rewind(t->engine, 0, (uint32_t)cut[i]);
        feed_other(t, 0, 50);
        engine_rewind(t->engine, 0, (uint32_t)cut[i]);
        feed(t, 0, cut[i], N, 21, t->got);
        compare(t, 0, N, "rewound to", cut[i]);
    }
}

static void reuse(struct test *t)
{
    begin(t);
    feed(t, 1, 0, 131, 50, t->got);
    int have = (int)engine_set(t->engine, 2, t->token, N, N);
    feed(t, 2, have, N, 50, t->got);
    compare(t, 0, N, "prefix reused, tokens", have);
    if (have >= 128) return;
    t->failures++;
    printf("FAIL %s: only %d tokens of 131 were reused\n", t->path, have);
}

static void empty_folder(const char *folder)
{
    DIR *d = opendir(folder);
    char name[400];
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(name, sizeof name, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.') unlink(name);
    }
    if (d) closedir(d);
    rmdir(folder);
}

/* A text's pages are written to files; another engine goes on from them. */
static void restored(struct test *t)
{
    struct error err = { 0 };
    const char *in = getenv("TMPDIR");
    char folder[128];
    snprintf(folder, sizeof folder, "%s/stretto-pages-XXXXXX", in ? in : "/tmp");
    if (!mkdtemp(folder)) die(folder, &(struct error){ .text = "no folder" });
    const struct engine_disk o = { .folder = folder, .bytes = 1U << 30 };
    open_engine(t);
    begin(t);
    feed(t, 1, 0, N, 50, t->got);
    if (engine_disk_open(t->engine, &o, &err) != STRETTO_OK) die(t->path, &err);
    engine_disk_save(t->engine, 0, UINT32_MAX);
    open_engine(t);
    if (engine_disk_open(t->engine, &o, &err) != STRETTO_OK) die(t->path, &err);
    int have = (int)engine_set(t->engine, 2, t->token, N, N);
    feed(t, 2, have, N, 50, t->got);
    compare(t, 0, N, "restored from files, tokens", have);
    if (have < 128) {
        t->failures++;
        printf("FAIL %s: only %d tokens of %d came from files\n", t->path, have, N);
    }
    open_engine(t);
    empty_folder(folder);
}

/* Written rows in a guess tree: behind each true row two wrong ones and a wrong child. The wrong ones of
 * some are asked for their answers too. */
static void trees(struct test *t, int end)
{
    struct row r[TREE * 4];
    int32_t path[TREE];
    begin(t);
    feed(t, 0, 0, t->given, 64, t->got);
    for (int at = t->given; at < end;) {
        int n = end - at < TREE ? end - at : TREE, k = 0, last = ROW_COMMITTED;
        for (int i = 0; i < n; i++) {
            int parent = last, wrong = k;
            r[k++] = (struct row){ 0, other_token(t, 1, at + i), parent, 0, 0 };
            path[i] = last = k;
            r[k++] = (struct row){ 0, t->token[at + i], parent, 0, t->wants };
            r[k++] = (struct row){ 0, other_token(t, 2, at + i), parent, 0, 0 };
            r[k++] = (struct row){ 0, other_token(t, 3, at + i), wrong, 0, 0 };
        }
        step(t, r, (size_t)k, t->got + (size_t)at * t->width);
        engine_accept(t->engine, 0, path, (uint32_t)n);
        at += n;
    }
    compare(t, 0, end, "trees of", TREE);
}

/* One tree from the committed end: parent[] counts rows of the tree, so that siblings, chains that
 * fork late and rows in any order of depth occur; `truth` is the path of our tokens. */
struct shape { int n, parent[16], n_true, truth[8]; };

/* Sequence 2 holds the first `at` tokens. */
static void shape_at(struct test *t, const struct shape *shape, int at, int end)
{
    struct row r[16];
    float *out = malloc(16 * t->width * sizeof *out);
    bool ours[16] = { false };
    int depth[16];
    int32_t path[8];
    if (!out) exit(1);
    engine_rewind(t->engine, 0, 0);
    fork_at(t, 2, 0, at);
    for (int i = 0; i < shape->n_true; i++) ours[shape->truth[i]] = true;
    for (int i = 0; i < shape->n; i++) {
        int up = shape->parent[i];
        depth[i] = up < 0 ? 0 : depth[up] + 1;
        r[i] = (struct row){ 0, ours[i] ? t->token[at + depth[i]] : other_token(t, 2, i),
                             up < 0 ? ROW_COMMITTED : up, 0, t->wants };
    }
    step(t, r, (size_t)shape->n, out);
    for (int i = 0; i < shape->n_true; i++) {
        path[i] = shape->truth[i];
        memcpy(t->got + (size_t)(at + i) * t->width, out + (size_t)path[i] * t->width,
               t->width * sizeof *out);
    }
    engine_accept(t->engine, 0, path, (uint32_t)shape->n_true);
    feed(t, 0, at + shape->n_true, end, 30, t->got);
    compare(t, 0, end, "tree at", at);
    free(out);
}

static void shapes(struct test *t)
{
    static const struct shape all[] = {
        { 4, { -1, 0, 0, 1 }, 3, { 0, 1, 3 } },                /* few rows: blocks are shared out */
        { 3, { -1, -1, 1 }, 2, { 1, 2 } },             /* no row stands where a chain would       */
        { 8, { -1, 0, 1, 2, 2, 4, 5, 6 }, 7, { 0, 1, 2, 4, 5, 6, 7 } }, /* a chain that forks late */
        { 16, { -1, -1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6 }, 3, { 1, 5, 13 } },
        { 7, { -1, 0, 1, 2, -1, 4, 5 }, 3, { 4, 5, 6 } },      /* deep, then shallow              */
    };
    static const int at[] = { 63, 1, 60, 64, 75, 120, 127 };
    int given = t->given;
    for (size_t i = 0; i < (t->amount == FEW ? 1 : 7); i++) {
        int end = at[i] + 7 + TAIL < N ? at[i] + 7 + TAIL : N;
        if (given > at[i]) t->given = at[i];
        baseline(t, end);
        open_engine(t);
        begin(t);
        feed_other(t, 1, 70); /* so that pages are not in order */
        feed(t, 2, 0, at[i], 50, t->got);
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) shape_at(t, &all[k], at[i], end);
        t->given = given;
    }
}

/* Behind texts of the first `before` sequences, as far as they fit. */
static void whole_text(struct test *t, int before, float *out)
{
    static struct row r[SEQS * CONTEXT];
    uint32_t room = engine_about(t->engine)->max_rows;
    int k = 0;
    begin(t);
    for (int seq = 0; seq < before && (uint32_t)k + 15 + N <= room; seq++)
        for (int i = 0; i < 15; i++, k++)
            r[k] = (struct row){ seq, other_token(t, seq, i), i ? k - 1 : ROW_COMMITTED, 1, 0 };
    for (int i = 0; i < N; i++, k++)
        r[k] = (struct row){ 3, t->token[i], i ? k - 1 : ROW_COMMITTED, 1, t->wants };
    step(t, r, (size_t)k, out);
}

/* A text that is seen whole: one step, alone and among others. With a planted fault the first is what
 * the others are held to as well. */
static void whole_texts(struct test *t)
{
    static const int before[] = { 0, 1, 3 };
    if (t->threads == 1) {
        open_on(t, t->expect_difference ? t->model : t->plain);
        whole_text(t, 0, t->want);
    }
    open_engine(t);
    for (size_t s = 0; s < sizeof before / sizeof *before; s++) {
        whole_text(t, before[s], t->got);
        if (!t->expect_difference || s) compare(t, 0, N, "whole texts, sequences before", before[s]);
    }
}

/* ---- windows: a text whose front is given back --------------------------------------------------- */

/* Tokens that a sequence which has had LONG of them still has, after going back to `cut`. */
static void check_reach(struct test *t, int32_t seq, int cut, const char *what)
{
    int have = (int)engine_length(t->engine, seq);
    t->checks++;
    if (have == cut || (have == 0 && cut + WINDOW_KEPT < LONG)) return;
    t->failures++;
    printf("FAIL %s: %s %d, and %d tokens are left\n", t->path, what, cut, have);
}

/* Back to `cut` in one sequence, a fork there, and a text that begins alike; all go on to the end. */
static void back_to(struct test *t, int cut)
{
    begin(t);
    feed(t, 1, 0, LONG, 64, t->got);
    fork_at(t, 1, 0, cut);
    check_reach(t, 0, cut, "forked far back at");
    engine_rewind(t->engine, 1, (uint32_t)cut);
    check_reach(t, 1, cut, "rewound far back to");
    for (int32_t seq = 0; seq < 2; seq++) {
        int have = (int)engine_length(t->engine, seq);
        memset(t->got, 0xff, (size_t)LONG * t->width * sizeof *t->got);
        feed(t, seq, have, LONG, seq ? 50 : 9, t->got);
        compare(t, have, LONG, seq ? "rewound far back to" : "forked far back at", cut);
    }
    int had = (int)engine_set(t->engine, 2, t->token, (uint32_t)cut + 1, LONG);
    feed(t, 2, had, LONG, 33, t->got);
    compare(t, had, LONG, "a prefix taken over far back, tokens", cut);
}

/* What the timeline has and the cache has not is read by a request, each token in its role. */
static void read_again(struct test *t, int cut)
{
    static struct answer places[LONG];
    struct error err = { 0 };
    begin(t);
    feed(t, 0, 0, LONG, 40, t->got);
    int have = (int)engine_rewind(t->engine, 0, (uint32_t)cut);
    memset(t->got, 0xff, (size_t)LONG * t->width * sizeof *t->got);
    for (int i = have; i < LONG; i++) places[i - have].logits = t->got + (size_t)i * t->width;
    struct request r = { .seq = 0, .wants = t->wants, .first = (uint32_t)have, .room = LONG,
                         .places = places };
    if (request_run(t->engine, &r, &err) != STRETTO_OK) die(t->path, &err);
    compare(t, have, cut, "read again up to", cut);
}

/* Across many pages, and borders of pages and windows. */
static void windows(struct test *t)
{
    static const int sizes[] = { 65, 7, LONG_ROWS, 1, 64 }, cuts[] = { 300, LONG - 200, 20, LONG - 1, 380, 64 };
    int few = t->amount == FEW;
    t->context = LONG_CONTEXT;
    t->max_rows = LONG_ROWS;
    t->given = LONG_SPLIT;
    t->threads = 2;
    baseline(t, LONG);
    open_engine(t);
    for (int i = 0; i < (few ? 1 : 5); i++) {
        begin(t);
        feed_other(t, 3, 90);
        feed(t, i % 3, 0, LONG, sizes[i], t->got);
        compare(t, 0, LONG, "a long text in chunks of", sizes[i]);
    }
    trees(t, LONG);
    for (int i = 0; i < (few ? 2 : 6); i++) back_to(t, cuts[i]);
    read_again(t, 350);
    t->context = CONTEXT;
    t->max_rows = CONTEXT * SEQS;
}

static bool has_windows(const struct test *t)
{
    for (uint32_t g = 0; g < t->model->graph.n_groups; g++)
        if (t->model->graph.group[g].kind == GROUP_WINDOW) return true;
    return false;
}

/* ---- planted faults ------------------------------------------------------------------------------ */

static linear_fn *true_linear;
static attn_block_fn *true_attention;
static size_t one_row; /* queries that share a head of keys and values */

/* All rows of a call but the first are one unit in the last place off, as another order of adding their
 * terms would leave them. */
static void reordered_linear(const void *panels, size_t n_panels, size_t k, const struct act *x,
                             size_t rows, float *y, size_t ldy)
{
    true_linear(panels, n_panels, k, x, rows, y, ldy);
    for (size_t r = 1; r < rows; r++)
        for (size_t c = 0; c < n_panels * PANEL_COLS; c++)
            y[r * ldy + c] = nextafterf(y[r * ldy + c], INFINITY);
}

/* The last bit depends on how many rows share a block. */
static void crowded_attention(const struct attn_query *a, const void *k_page, const void *v_page,
                              float *m, float *sum, float *acc)
{
    true_attention(a, k_page, v_page, m, sum, acc);
    for (size_t i = 0; i < a->n_q * a->head_dim && a->n_q > one_row; i++)
        acc[i] = nextafterf(acc[i], INFINITY);
}

/* What is wanted was computed with the true kernels, a row at a time, where these faults do not show. */
static void notice(struct test *t, const char *what)
{
    t->expect_difference = true;
    if (t->encoder) {
        whole_texts(t);
    } else {
        open_engine(t);
        begin(t);
        feed(t, 0, 0, N, N, t->got);
        compare(t, 0, N, what, N);
        for (int alone = 0; alone < 2; alone++) {      /* pages that are right, beside those that are not */
            begin(t);
            feed(t, 0, 0, 128, alone ? 1 : 128, t->got);
        }
        t->page_plants += unlike_pages(t) > 0;
    }
    t->expect_difference = false;
}

/* Other devices: the last row of a step that is not alone has another token, or another place. */
static const struct backend *true_backend;
static bool wrong_token, texts_are_steps;   /* an encoder's texts are steps: what is not alone is a text */

static stretto_status crowded_run(struct program *p, const struct step *s, struct answer *const *answers,
                                  struct error *err)
{
    static int32_t changed[LONG];
    struct step x = *s;
    if (texts_are_steps ? s->n_seqs > 1 : s->n_rows > 1) {
        memcpy(changed, wrong_token ? s->token : s->position, s->n_rows * sizeof *changed);
        changed[s->n_rows - 1] -= 1;
        if (wrong_token) x.token = changed;
        else x.position = changed;
    }
    return true_backend->run(p, &x, answers, err);
}

static void plant_steps(struct test *t)
{
    struct backend planted = *t->model->device->backend;
    true_backend = t->model->device->backend;
    planted.run = crowded_run;
    texts_are_steps = t->encoder;
    t->model->device->backend = &planted;
    for (int token = 0; token < 2; token++) {
        wrong_token = token;
        notice(t, token ? "planted: another token" : "planted: another position");
    }
    t->model->device->backend = true_backend;
}

static void plant_linear(struct test *t, linear_fn **kernel, const char *rows, int type)
{
    char what[80];
    if (!*kernel) return;
    snprintf(what, sizeof what, "planted in %s of weights of %s, rows", rows, dtype_table[type].name);
    true_linear = *kernel;
    *kernel = reordered_linear;
    notice(t, what);
    *kernel = true_linear;
}

/* Every type of weight that this model multiplies by. */
static void plant_all_linear(struct test *t)
{
    if (!t->cpu) {
        plant_steps(t);
        return;
    }
    struct kernels *k = t->model->weights->kernels;
    bool has[DT_COUNT] = { false }, twelve = false;
    int types = 0, before = t->plants;
    for (size_t i = 0; i < t->model->weights->n; i++) {
        const struct weight *w = &t->model->weights->weight[i];
        if (w->by == &provider_brain12) twelve = true;
        else if (w->panels) has[w->type] = true;
    }
    for (int type = 0; type < DT_COUNT; type++) {
        if (!has[type]) continue;
        types++;
        if (!t->encoder || !k->linear_given[type])      /* an encoder has given rows only */
            plant_linear(t, &k->linear[type], "the kernel", type);
        plant_linear(t, &k->linear_given[type], "the kernel for given rows", type);
    }
    if (twelve) {
        types++;
        if (!t->encoder || !k->brain12_given) plant_linear(t, &k->brain12, "the kernel for 12 bits", DT_BF16);
        plant_linear(t, &k->brain12_given, "the kernel for 12 bits and given rows", DT_BF16);
    }
    if (types && t->plants - before >= types) return;
    t->failures++;
    printf("FAIL %s: %d types of weights, but only %d faults were planted\n", t->path, types,
           t->plants - before);
}

static void plant_attention(struct test *t)
{
    if (!t->cpu) return;
    struct kernels *k = t->model->weights->kernels;
    _Static_assert((int)CACHE_TYPES == (int)KV_COUNT, "in the same order: otherwise nothing is noticed");
    attn_block_fn **kernel = &k->attn_block[t->cache];
    one_row = 1;
    for (uint32_t i = 0; i < t->model->config.layers; i++) {
        const struct layer_config *l = &t->model->config.layer[i];
        if (l->heads / l->kv_heads > one_row) one_row = l->heads / l->kv_heads;
    }
    true_attention = *kernel;
    *kernel = crowded_attention;
    notice(t, "planted in attention");
    *kernel = true_attention;
}

/* ---- the run ------------------------------------------------------------------------------------- */

/* Every schedule with these roles and this number of threads; t->want is there and stays. */
static void schedules(struct test *t)
{
    static const int sizes[] = { 1, 7, 64, 2, 3, 15, 16, 17, 31, 33, N };
    bool rest = t->amount != FEW || t->cache == CACHE_F16 || t->cache == CACHE_TYPES - 1;
    open_engine(t);
    chunks(t, sizes, t->amount == FEW ? 3 : 11);
    if (t->given != MIXED && t->given < N) trees(t, N);
    if (!rest) return;
    neighbours(t);
    forks(t);
    rewinds(t);
    reuse(t);
    restored(t);
}

/* Given or written makes no difference: the baseline is of written rows only. */
static void strict_roles(struct test *t)
{
    static const int given[] = { MIXED, N, SPLIT, 0 }, sizes[] = { 17, 1, 3, 33, N };
    t->strict = true;
    t->threads = 2;
    t->given = 0;
    baseline(t, N);
    open_engine(t);
    for (size_t g = 0; g < 4; g++) {
        t->given = given[g];
        chunks(t, sizes, t->amount == FEW ? 1 : 5);
    }
    t->strict = false;
}

static void all_schedules(struct test *t)
{
    static const int given[] = { SPLIT, N, 0, MIXED }, slice[] = { 1, 64 };
    for (size_t g = 0; g < (t->amount == THOROUGH ? 4 : 1); g++) {
        t->given = given[g];
        baseline(t, N);
        bool plant = g == 0 && t->plain == t->model;
        if (plant && t->cache == CACHE_F16) plant_all_linear(t);
        if (plant) plant_attention(t);
        for (t->threads = 1; t->threads <= (t->cpu ? 4 : 1); t->threads *= 2) {
            bool whole = !t->cpu || t->threads == 2 || t->amount == THOROUGH || (t->amount == FEW && t->threads == 4 &&
                                                                      t->cache == CACHE_F16);
            if (whole) schedules(t);
            else if (t->amount == USUAL) {
                open_engine(t);
                chunks(t, slice, 2);
            }
        }
        t->threads = 2;
        if (t->given != MIXED && t->given < N && (t->amount != FEW || t->cache == CACHE_F16)) shapes(t);
    }
    if (t->amount == THOROUGH || t->cache == CACHE_F16) strict_roles(t);
    if (has_windows(t) && (t->amount != FEW || t->cache == CACHE_F16)) windows(t);
}

static void all_caches(struct test *t)
{
    bool plant = t->plain == t->model;
    for (t->cache = 0; t->cache < CACHE_TYPES; t->cache++) {
        if (t->only_cache && strcmp(cache_type_name(t->cache), t->only_cache) != 0) continue;
        if (!t->encoder) all_schedules(t);
        for (t->threads = 1; t->encoder && t->threads <= (t->cpu ? 4 : 1); t->threads *= 2) whole_texts(t);
        t->threads = 1;
        if (t->encoder && t->cache == CACHE_F16 && plant) plant_all_linear(t);
    }
}

/* What is estimated before anything is read: weights and pages to a hundredth, buffers not too few. */
static void check_shares(struct test *t, const struct split_ask *ask)
{
    struct engine_options o = { .threads = 1, .context = ask->context, .sequences = ask->sequences,
                                .max_rows = ask->rows, .cache = ask->cache };
    struct binding binding = { t->model, model_param };
    struct split_shares shares;
    struct engine_info i;
    struct error err = { 0 };
    double weights = 0, pages = 0, buffers = 0;
    if (engine_plan(t->model, &o, &i, &err) != STRETTO_OK ||
        split_plan(&shares, &t->model->graph, &binding, ask, &err) != STRETTO_OK)
        die(t->path, &err);
    for (size_t k = 0; k < shares.n; k++) {
        weights += (double)shares.share[k].weights;
        pages += (double)shares.share[k].pages;
        buffers += (double)shares.share[k].buffers;
    }
    t->checks++;
    if (fabs(weights / (double)i.weights - 1) < 0.01 && fabs(pages / (double)i.pages - 1) < 0.01 &&
        buffers > 0.8 * (double)i.buffers)
        return;
    t->failures++;
    printf("FAIL %s: planned %.0f, %.0f, %.0f bytes of weights, pages, buffers; they are %.0f, %.0f, %.0f\n", t->path,
           weights, pages, buffers, (double)i.weights, (double)i.pages, (double)i.buffers);
}

/* Several sequences that are short, and one that is long: windows give back most of it. */
static void check_estimates(struct test *t, struct split_ask ask)
{
    check_shares(t, &ask);
    ask.context = t->model->family->position == POSITION_LEARNED ? t->model->config.context : 4096;
    ask.sequences = 1;
    ask.rows = t->encoder ? ask.context : 200;
    check_shares(t, &ask);
}

/* The first layers[0] layers on a device, the next on another one, and so on. What is answered is what one
 * device answers; where one of them is no cpu, what the same devices answer. */
static void over_devices(struct test *t, struct device *const *devices, const int32_t *layers, size_t n)
{
    struct error err = { 0 };
    struct split_ask ask = { .members = devices, .layers = layers, .n = n, .context = CONTEXT,
                             .sequences = SEQS, .rows = CONTEXT * SEQS, .cache = CACHE_F16 };
    struct model_open_options o = { .threads = 1, .split = &ask };
    struct model *plain = t->plain;
    int failures = t->failures;
    if (model_open(&t->model, t->path, &o, &err) != STRETTO_OK) die(t->path, &err);
    if (t->model->shares.n != n) die(t->path, &(struct error){ .text = "it is not over all devices" });
    if (!t->cpu) t->plain = t->model;
    else check_estimates(t, ask);
    all_caches(t);
    if (failures < t->failures) printf("%s: %d layers on the first of %zu devices\n", t->path, layers[0], n);
    engine_close(t->engine);
    t->engine = NULL;
    model_close(t->model);
    t->model = t->plain = plain;
}

static void every_cut(struct test *t, struct device *first)
{
    struct device *d[3] = { first };
    struct error err = { 0 };
    struct device_options on = { .level = getenv("STRETTO_CPU"), .wide_bf16 = true };   /* bytes are known before */
    int32_t layers = (int32_t)t->plain->graph.layers;
    for (int i = 1; i < 3; i++)
        if (backend_open("cpu", &on, &d[i], &err) != STRETTO_OK) die(t->path, &err);
    for (int32_t cut = 1; cut < layers; cut++) over_devices(t, d, (int32_t[]){ cut, 0 }, 2);
    if (layers > 2) over_devices(t, d, (int32_t[]){ layers / 3, (layers + 2) / 3, 0 }, 3);
    for (int i = 1; i < 3; i++) device_close(d[i]);
}

static int run_model(const char *path, enum amount amount, const char *cache, bool split)
{
    struct error err = { 0 };
    struct test t = { .path = path, .amount = amount, .threads = 1, .context = CONTEXT,
                      .max_rows = CONTEXT * SEQS, .only_cache = cache };
    struct device_options on = { .level = getenv("STRETTO_CPU"), .wide_bf16 = split };
    struct model_open_options o = { .threads = 1 };
    if (backend_open(getenv("STRETTO_DEVICE"), &on, &o.device, &err) != STRETTO_OK) {
        printf("skip: %s\n", err.text);
        return 77;
    }
    t.cpu = strcmp(o.device->backend->name, "cpu") == 0;
    if (model_open(&t.model, path, &o, &err) != STRETTO_OK) die(path, &err);
    t.plain = t.model;
    t.encoder = t.model->graph.logits == GRAPH_NONE;
    t.width = t.encoder ? t.model->config.width : t.model->config.vocab;
    t.wants = t.encoder ? WANT_HIDDEN : WANT_LOGITS;
    t.want = calloc((size_t)LONG * t.width, sizeof *t.want);
    t.got = calloc((size_t)LONG * t.width, sizeof *t.got);
    if (!t.want || !t.got) return 1;
    for (int i = 0; i < LONG; i++) t.token[i] = other_token(&t, 9, i);
    if (split) every_cut(&t, o.device);
    else all_caches(&t);
    if (t.plants && !t.encoder && !t.page_plants) {
        t.failures++;
        printf("FAIL %s: planted faults made no difference to pages\n", path);
    }
    printf("%s, %s: %d schedules, %d planted faults, %d of them seen in pages, %d failures\n", path,
           t.cpu ? t.plain->weights->kernels->level : o.device->word, t.checks - t.plants, t.plants, t.page_plants,
           t.failures);
    fflush(stdout);
    free(t.want);
    free(t.got);
    engine_close(t.engine);
    model_close(t.plain);
    device_close(o.device);
    return t.failures != 0;
}

int main(int argc, char **argv)
{
    int bad = 0, at = 1;
    bool split = false;
    const char *cache = NULL;
    enum amount amount = USUAL;
    if (argc > 1 && strcmp(argv[1], "--few") == 0) amount = FEW, at++;
    if (argc > 1 && strcmp(argv[1], "--thorough") == 0) amount = THOROUGH, at++;
    if (argc > 1 && strcmp(argv[1], "--split") == 0) amount = FEW, split = true, at++;
    if (at + 1 < argc && strcmp(argv[at], "--cache") == 0) cache = argv[at + 1], at += 2;
    if (at == argc) return 2;
    for (int i = at; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        if (!f) {
            printf("skip: there is no %s\n", argv[i]);
            return 77;
        }
        fclose(f);
        int r = run_model(argv[i], amount, cache, split);
        if (r == 77) return r;
        bad |= r;
    }
    return bad;
}
