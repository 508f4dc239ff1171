/* Adapters of sequences and of rows (engine/engine.h: engine_adapt): a sequence has the bits that it has alone.
 *
 *     adapters [--thorough] MODEL FOLDER    (FOLDER: 0.gguf .. 3.gguf act on all rows; 0.given.gguf, 0.answers.gguf and
 *                                            0.guesses.gguf hold the numbers of 0.gguf for other rows; test_adapters.py
 *                                            makes them)
 *
 * What is compared with is the model opened with one adapter on everything, one row a step, one thread: a graph without
 * sets. Sixteen sequences with four adapters, with two at once and with none stand in the same steps, in chunks of many
 * sizes. One adapter on prompts and its twin on answers are together the adapter on all rows. On guesses alone text and
 * pages are the base's, also where it guesses for writers, alone and several in a step. Pages are taken over by whoever
 * has the same adapter, and by the base as far as none acts, from other sequences and from files. That a wrong adapter
 * would be noticed is tried each time. */
#include "../rows.h"
#include "decode/strategy.h"
#include "engine/engine_int.h"
#include "engine/scheduler.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N = 100, SPLIT = 70, SEQS = 16, CONTEXT = 256, KINDS = 6, ADAPTERS = 4 };

struct test {
    const char *path, *folder;
    enum cache_type cache;
    size_t vocab;
    int32_t token[N];
    float *want[KINDS];                    /* [N][vocab] alone: with each adapter, with two, with none */
    int failures, checks;
};

static void die(const char *what, const struct error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->text);
    exit(1);
}

static void check(struct test *t, bool good, const char *what, long detail)
{
    t->checks++;
    if (good) return;
    t->failures++;
    printf("FAIL %s: %s %ld, cache %s\n", t->path, what, detail, cache_type_name(t->cache));
}

/* ---- models and engines ----------------------------------------------------------------------- */

struct opened { struct model *model; struct engine *engine; char path[8][512]; };

/* names: of adapters, NULL at the end. */
static void open_with(const struct test *t, struct opened *o, const char *const *names, bool chosen, unsigned threads,
                      uint32_t sequences)
{
    struct error err = { 0 };
    struct model_adapter list[8] = { 0 };
    size_t n = 0;
    for (; names[n]; n++) {
        snprintf(o->path[n], sizeof o->path[n], "%s/%s.gguf", t->folder, names[n]);
        list[n] = (struct model_adapter){ .path = o->path[n], .scale = n ? 0.5f : 1, .chosen = chosen };
    }
    const struct model_open_options how = { .threads = 1, .adapters = list, .n_adapters = n };
    const struct engine_options eo = { .threads = threads, .context = CONTEXT, .sequences = sequences,
                                       .cache = t->cache, .strict = true };
    if (model_open(&o->model, t->path, &how, &err) != STRETTO_OK) die(t->path, &err);
    if (engine_open(&o->engine, o->model, &eo, &err) != STRETTO_OK) die(t->path, &err);
    engine_seq_open_all(o->engine, &err);
    if (engine_compare(o->engine, &err) != STRETTO_OK) die(t->path, &err);
}

static void close_both(struct opened *o)
{
    engine_close(o->engine);
    model_close(o->model);
}

/* The row that makes an answer's first token is the answer's. */
static bool is_given(int at) { return at < SPLIT - 1; }

static size_t put_rows(const struct test *t, struct row *r, int32_t seq, int from, int n)
{
    for (int i = 0; i < n; i++)
        r[i] = (struct row){ seq, t->token[from + i], i ? r[0].parent + i : ROW_COMMITTED, is_given(from + i),
                             WANT_LOGITS };
    return (size_t)n;
}

static void step(struct engine *e, const struct row *r, size_t n, float *const *out, size_t vocab)
{
    static struct answer a[SEQS * N];
    struct error err = { 0 };
    (void)vocab;
    for (size_t i = 0; i < n; i++) a[i] = (struct answer){ .logits = out[i] };
    if (engine_step(e, r, n, a, &err) != STRETTO_OK) die("step", &err);
}

/* Rows [from, to) of the text, `chunk` a step. */
static void feed(const struct test *t, struct engine *e, int32_t seq, int from, int to, int chunk, float *out)
{
    struct row r[N];
    float *place[N];
    for (int at = from, n; at < to; at += n) {
        n = to - at < chunk ? to - at : chunk;
        put_rows(t, r, seq, at, n);
        for (int i = 0; i < n; i++) {
            r[i].parent = i ? i - 1 : ROW_COMMITTED;
            place[i] = out + (size_t)(at + i) * t->vocab;
        }
        step(e, r, (size_t)n, place, t->vocab);
        engine_commit(e, seq, (uint32_t)n);
    }
}

static bool equal(const struct test *t, const float *a, const float *b, int from, int to)
{
    return memcmp(a + (size_t)from * t->vocab, b + (size_t)from * t->vocab,
                  (size_t)(to - from) * t->vocab * sizeof *a) == 0;
}

static float *room(const struct test *t)
{
    float *p = malloc((size_t)N * t->vocab * sizeof *p);
    if (!p) exit(1);
    return p;
}

/* ---- what each is alone ------------------------------------------------------------------------ */

static const char *const all_names[] = { "0", "1", "2", "3", NULL };
static const char *const alone[KINDS][3] = { { "0" }, { "1" }, { "2" }, { "3" }, { "1", "2" }, { NULL } };
/* of the four: what gives the same; scales as open_with has them */
static const float weights_of[KINDS][ADAPTERS] = { { 1, 0, 0, 0 }, { 0, 1, 0, 0 }, { 0, 0, 1, 0 }, { 0, 0, 0, 1 },
                                                   { 0, 1, 0.5f, 0 }, { 0, 0, 0, 0 } };

static void baselines(struct test *t)
{
    for (int k = 0; k < KINDS; k++) {
        struct opened o;
        open_with(t, &o, alone[k], false, 1, 1);
        if (!t->want[k]) {
            t->vocab = o.model->config.vocab;
            for (int i = 0; i < N; i++) t->token[i] = (int32_t)((7 * i + i * i / 3 + 11) % (int)t->vocab);
            t->want[k] = room(t);
        }
        feed(t, o.engine, 0, 0, N, 1, t->want[k]);
        for (int i = 0; i < k; i++)
            check(t, !equal(t, t->want[i], t->want[k], 0, N), "adapters that make no difference", k);
        close_both(&o);
    }
}

/* ---- many in one step -------------------------------------------------------------------------- */

static void adapt_to(struct engine *e, int32_t seq, const float *weights)
{
    struct error err = { 0 };
    if (engine_adapt(e, seq, weights, &err) != STRETTO_OK) die("adapt", &err);
}

/* All sequences at once, each as many rows as its number says; everybody at a place of his own. */
static void mixed(struct test *t, struct engine *e, int sizes, const char *what, int wrong)
{
    static struct row r[SEQS * N];
    static float *place[SEQS * N];
    float *got[SEQS];
    int at[SEQS] = { 0 }, rows[SEQS];
    for (int32_t s = 0; s < SEQS; s++) {
        got[s] = room(t);
        engine_rewind(e, s, 0);
        adapt_to(e, s, weights_of[(s + (s == wrong)) % KINDS]);
    }
    for (bool more = true; more;) {
        size_t n = 0;
        more = false;
        for (int32_t s = 0; s < SEQS; s++) {
            rows[s] = sizes == 1 ? 1 : 1 + (at[s] + 5 * s + sizes) % sizes;
            if (rows[s] > N - at[s]) rows[s] = N - at[s];
            for (int i = 0; i < rows[s]; i++) {
                r[n] = (struct row){ s, t->token[at[s] + i], i ? (int32_t)n - 1 : ROW_COMMITTED, is_given(at[s] + i),
                                     WANT_LOGITS };
                place[n++] = got[s] + (size_t)(at[s] + i) * t->vocab;
            }
        }
        if (n) step(e, r, n, place, t->vocab);
        for (int32_t s = 0; s < SEQS; s++) {
            if (rows[s]) engine_commit(e, s, (uint32_t)rows[s]);
            at[s] += rows[s];
            more |= at[s] < N;
        }
    }
    for (int32_t s = 0; s < SEQS; s++) {
        check(t, equal(t, got[s], t->want[s % KINDS], 0, N) == (s != wrong), what, s);
        free(got[s]);
    }
}

static void many(struct test *t, unsigned threads)
{
    static const int sizes[] = { 1, 7, 30 };
    struct opened o;
    open_with(t, &o, all_names, true, threads, SEQS);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) mixed(t, o.engine, sizes[i], "mixed, sequence", -1);
    mixed(t, o.engine, 7, "a wrong adapter, sequence", 4);
    struct engine_pages pages;
    engine_look(o.engine, &pages);
    check(t, pages.counts.unlike == 0, "pages that differ", (long)pages.counts.unlike);
    check(t, pages.counts.compared > 0, "pages were compared", (long)pages.counts.compared);
    close_both(&o);
}

/* ---- rows of a kind ---------------------------------------------------------------------------- */

static void by_rows(struct test *t)
{
    static const char *const names[] = { "0", "0.given", "0.answers", "0.guesses", NULL };
    static const float whole[] = { 1, 0, 0, 0 }, halves[] = { 0, 1, 1, 0 }, given[] = { 0, 1, 0, 0 },
                       answers[] = { 0, 0, 1, 0 }, guesses[] = { 0, 0, 0, 1 };
    float *got = room(t), *other = room(t);
    struct opened o;
    open_with(t, &o, names, true, 2, SEQS);
    struct engine *e = o.engine;
    adapt_to(e, 0, whole);
    feed(t, e, 0, 0, N, 9, got);
    check(t, equal(t, got, t->want[0], 0, N), "an adapter on all rows", 0);
    adapt_to(e, 1, halves);
    feed(t, e, 1, 0, N, 9, got);
    check(t, equal(t, got, t->want[0], 0, N), "on prompts and on answers together", 0);
    adapt_to(e, 2, given);
    feed(t, e, 2, 0, N, 9, got);
    check(t, equal(t, got, t->want[0], 0, SPLIT - 1), "on prompts: the prompt", 0);
    check(t, !equal(t, got, t->want[0], SPLIT - 1, N), "on prompts: not the answer", 0);
    adapt_to(e, 3, answers);
    feed(t, e, 3, 0, N, 9, other);
    check(t, equal(t, other, t->want[KINDS - 1], 0, SPLIT - 1), "on answers: the prompt is the base's", 0);
    check(t, !equal(t, other, t->want[KINDS - 1], SPLIT - 1, SPLIT), "on answers: the first row of the answer", 0);
    check(t, !equal(t, other, got, SPLIT - 1, N), "on answers: not what it is on prompts", 0);
    adapt_to(e, 4, guesses);
    feed(t, e, 4, 0, N, 9, got);
    check(t, equal(t, got, t->want[KINDS - 1], 0, N), "on guesses: the text is the base's", 0);
    free(got);
    free(other);
    close_both(&o);
}

/* Guesses apart: their answers are the adapter's, nothing of them stays, and nothing hangs on them. */
static void apart(struct test *t)
{
    static const char *const names[] = { "0.guesses", NULL };
    static const float on[] = { 1 }, off[] = { 0 };
    float *got = room(t), *place[3];
    struct row r[3];
    struct answer a[3];
    struct error err = { 0 };
    struct opened o;
    open_with(t, &o, names, true, 1, 2);
    float *guess[2] = { room(t), room(t) };
    for (int32_t s = 0; s < 2; s++) {
        adapt_to(o.engine, s, s ? off : on);
        for (int at = 0; at < N - 2; at++) {
            put_rows(t, r, s, at, 3);
            for (int i = 0; i < 3; i++) {
                r[i].parent = i ? i - 1 : ROW_COMMITTED;
                r[i].given = ROW_APART;
                place[i] = i ? guess[s] + (size_t)(i - 1) * t->vocab : got + (size_t)at * t->vocab;
            }
            r[0].given = is_given(at);
            step(o.engine, r, 3, place, t->vocab);
            check(t, engine_commit(o.engine, s, 3) == 1, "a guess apart is not committed", at);
        }
        check(t, equal(t, got, t->want[KINDS - 1], 0, N - 2), "beside guesses apart the text is the base's", s);
    }
    check(t, !equal(t, guess[0], guess[1], 0, 2), "guesses apart are the adapter's", 0);
    r[1].parent = 0;
    r[2].given = 0;
    for (int i = 0; i < 3; i++) a[i] = (struct answer){ .logits = place[i] };
    check(t, engine_step(o.engine, r, 3, a, &err) == STRETTO_E_ARG && a[2].status == STRETTO_E_ARG
             && a[1].status == STRETTO_OK, "what hangs on a guess apart is refused", 0);
    check(t, engine_commit(o.engine, 1, 1) == 1, "the others are not", 0);
    free(got);
    free(guess[0]);
    free(guess[1]);
    close_both(&o);
}

/* ---- text that is guessed ---------------------------------------------------------------------- */

enum { WRITERS = 4, WRITTEN = 140 };

struct writing { struct sampler sampler; void *memory; struct writer *writer; };

static void open_writer(struct engine *e, struct writing *w, int32_t seq, const char *words, struct calibration *knows)
{
    struct error err = { 0 };
    struct arena a = { 0 };
    struct writer_options o = { .setup = { .seed = 3 } };
    const struct sampling how = { .temperature = seq % 2 ? 0.7f : 0, .top_p = 1, .repeat_penalty = 1, .seed = 9 };
    uint32_t vocab = engine_model(e)->config.vocab;
    sampler_plan(&w->sampler, &a, vocab);
    w->memory = aligned_alloc(64, (a.top + 63) / 64 * 64);
    if (!w->memory) exit(1);
    a = (struct arena){ .base = w->memory, .cap = a.top };
    sampler_plan(&w->sampler, &a, vocab);
    if (sampler_set(&w->sampler, &how, &err) != STRETTO_OK || decode_parse(words, &o.choice, &err) != STRETTO_OK
        || writer_open(&w->writer, e, seq, &w->sampler, knows, &o, &err) != STRETTO_OK) die(words, &err);
}

/* All sequences write to the end of the context's half, greedily and sampled, `together` or one after the other. */
static void write_all(struct engine *e, const struct test *t, const char *words, const float *weights, bool together,
                      uint64_t *rows)
{
    struct writing w[WRITERS] = { 0 };
    struct calibration knows;
    struct error err = { 0 };
    uint32_t left = 0;
    calibration_init(&knows);
    for (int32_t s = 0; s < WRITERS; s++) {
        struct request r = { .seq = s };
        uint32_t id;
        engine_rewind(e, s, 0);
        adapt_to(e, s, weights);
        engine_set(e, s, t->token, (uint32_t)(20 + s), 0);
        open_writer(e, &w[s], s, words, &knows);
        writer_begin(w[s].writer);
        writer_limit(w[s].writer, (uint32_t)(20 + s) + WRITTEN, NULL, NULL);
        r.writer = w[s].writer;
        if (request_add(e, &r, &id, &err) != STRETTO_OK) die(words, &err);
        left++;
        while (left && (!together || s == WRITERS - 1)) {
            struct event event[WRITERS];
            size_t n;
            if (engine_turn(e, event, WRITERS, &n, &err) != STRETTO_OK) die(words, &err);
            for (size_t i = 0; i < n; i++) {
                if (event[i].error.status != STRETTO_OK) die(words, &event[i].error);
                left -= event[i].done;
            }
        }
    }
    for (int32_t s = 0; s < WRITERS; s++) {
        *rows += writer_counts(w[s].writer)->apart;
        writer_close(w[s].writer);
        free(w[s].memory);
    }
}

/* The base writes first; what the adapter's guesses bring afterwards meets its pages in the tree. */
static void guessed(struct test *t)
{
    static const char *const names[] = { "0.guesses", NULL };
    static const char *const words[] = { "gated", "auto", "auto+gated+jacobi" };
    static const float on[] = { 1 }, off[] = { 0 };
    int32_t want[WRITERS][CONTEXT];
    struct opened o;
    open_with(t, &o, names, true, 2, WRITERS);
    uint64_t none = 0, apart = 0;
    write_all(o.engine, t, "plain", off, false, &none);
    for (int32_t s = 0; s < WRITERS; s++)
        memcpy(want[s], engine_tokens(o.engine, s), engine_known(o.engine, s) * sizeof **want);
    for (int k = 0; k < 6; k++) {
        struct engine_pages before, after;
        engine_look(o.engine, &before);
        write_all(o.engine, t, words[k / 2], on, k % 2, &apart);
        engine_look(o.engine, &after);
        for (int32_t s = 0; s < WRITERS; s++)
            check(t, engine_known(o.engine, s) == (uint32_t)(20 + s) + WRITTEN
                     && memcmp(want[s], engine_tokens(o.engine, s), engine_known(o.engine, s) * sizeof **want) == 0,
                  "a text that an adapter guesses for is the base's", s);
        check(t, after.counts.equal - before.counts.equal >= 2 * WRITERS, "its pages meet the base's", k);
        check(t, after.counts.unlike == 0, "and are the same", (long)after.counts.unlike);
        if (k == 1) check(t, apart > 0, "rows apart were sent", 0);
    }
    check(t, !none, "plain decoding sends no rows apart", (long)none);
    close_both(&o);
}

/* ---- pages ------------------------------------------------------------------------------------- */

static uint32_t takes(struct engine *e, const struct test *t, int32_t seq, const float *weights)
{
    engine_rewind(e, seq, 0);
    adapt_to(e, seq, weights);
    return engine_set(e, seq, t->token, N, N);
}

/* Read as a prompt, and its last row is an answer's where an adapter acts on those. */
static void read_all(struct engine *e, const struct test *t, int32_t seq, const float *weights)
{
    uint32_t have = takes(e, t, seq, weights);
    struct row r[N];
    struct error err = { 0 };
    for (uint32_t i = have; i < N; i++)
        r[i - have] = (struct row){ seq, t->token[i], i > have ? (int32_t)(i - have) - 1 : ROW_COMMITTED,
                                    engine_given(e, seq, i), 0 };
    if (engine_step(e, r, N - have, NULL, &err) != STRETTO_OK) die("read", &err);
    engine_commit(e, seq, N - have);
}

static const char *const sharing_names[] = { "0", "1", "0.answers", "0.guesses", NULL };
static const float share[5][4] = { { 1, 0, 0, 0 }, { 0, 1, 0, 0 }, { 0, 0, 1, 0 }, { 0, 0, 0, 1 }, { 0, 0, 0, 0 } };
enum { FIRST, SECOND, ANSWERS, GUESSES, BASE };

static void shared(struct test *t)
{
    static const float half[] = { 0.5f, 0, 0, 0 };
    struct opened o;
    open_with(t, &o, sharing_names, true, 1, SEQS);
    struct engine *e = o.engine;
    read_all(e, t, 0, share[FIRST]);
    check(t, takes(e, t, 1, share[FIRST]) == N - 1, "the same adapter takes the pages over", 0);
    check(t, takes(e, t, 2, share[SECOND]) == 0, "another one does not", 0);
    check(t, takes(e, t, 2, half) == 0, "nor with another weight", 0);
    check(t, takes(e, t, 2, share[BASE]) == 0, "nor does the base", 0);
    check(t, takes(e, t, 2, share[ANSWERS]) == 0, "nor one that acts on answers", 0);
    read_all(e, t, 3, share[BASE]);
    check(t, takes(e, t, 4, share[ANSWERS]) == N - 1, "one that acts on answers takes the base's", 0);
    check(t, !engine_given(e, 4, N - 1) && engine_given(e, 4, N - 2), "its answer begins with the last row", 0);
    check(t, takes(e, t, 5, share[GUESSES]) == N - 1, "so does one that acts on guesses", 0);
    check(t, takes(e, t, 2, share[SECOND]) == 0, "the other one still does not", 0);
    struct engine_pages pages;
    engine_look(e, &pages);
    check(t, pages.counts.unlike == 0, "pages that differ", (long)pages.counts.unlike);
    close_both(&o);
    /* and the other way round */
    open_with(t, &o, sharing_names, true, 1, SEQS);
    e = o.engine;
    read_all(e, t, 0, share[ANSWERS]);
    check(t, takes(e, t, 1, share[BASE]) == N - 1, "the base takes the prompt of one that acts on answers", 0);
    close_both(&o);
}

static void remove_files(const char *folder)
{
    char path[1024];
    struct dirent *d;
    DIR *dir = opendir(folder);
    while (dir && (d = readdir(dir))) {
        snprintf(path, sizeof path, "%s/%s", folder, d->d_name);
        if (d->d_name[0] != '.') remove(path);
    }
    if (dir) closedir(dir);
    rmdir(folder);
}

/* Who may read pages from files that others wrote: the key is the adapter, whatever else the model was opened with. */
static void on_disk(struct test *t)
{
    char folder[] = "/tmp/stretto-adapters-XXXXXX";
    struct error err = { 0 };
    struct opened o;
    float *got = room(t);
    if (!mkdtemp(folder)) exit(1);
    const struct engine_disk d = { .folder = folder, .bytes = 1U << 30 };
    open_with(t, &o, sharing_names, true, 1, SEQS);
    if (engine_disk_open(o.engine, &d, &err) != STRETTO_OK) die(folder, &err);
    /* two texts of one prompt: the base's, and one whose second half is an answer */
    adapt_to(o.engine, 0, share[BASE]);
    feed(t, o.engine, 0, 0, N, 11, got);
    adapt_to(o.engine, 1, share[FIRST]);
    feed(t, o.engine, 1, 0, N, 11, got);
    engine_disk_save(o.engine, 0, UINT32_MAX);
    close_both(&o);
    static const char *const fewer[] = { "1", "0", "0.guesses", NULL };
    static const float second[] = { 0, 1, 0 }, first[] = { 1, 0, 0 }, none[] = { 0, 0, 0 }, guesses[] = { 0, 0, 1 };
    open_with(t, &o, fewer, true, 1, SEQS);
    if (engine_disk_open(o.engine, &d, &err) != STRETTO_OK) die(folder, &err);
    check(t, takes(o.engine, t, 0, first) == 0, "from disk: nothing for another adapter", 0);
    check(t, takes(o.engine, t, 1, second) == PAGE_SLOTS, "from disk: a page for the same", 0);
    check(t, takes(o.engine, t, 2, none) == PAGE_SLOTS, "from disk: a page for the base", 0);
    check(t, takes(o.engine, t, 3, guesses) == PAGE_SLOTS, "from disk: the base's for one that acts on guesses", 0);
    feed(t, o.engine, 1, PAGE_SLOTS, N, 5, got);
    check(t, equal(t, got, t->want[0], PAGE_SLOTS, N), "behind a page from disk", 0);
    close_both(&o);
    remove_files(folder);
    free(got);
}

/* Pages of the base's prompt, then of an answer on which the adapter acts: never each other's, in files too. */
static void turned(struct test *t)
{
    char folder[] = "/tmp/stretto-adapters-XXXXXX";
    static const char *const names[] = { "0.answers", NULL };
    static const float on[] = { 1 }, off[] = { 0 };
    enum { LONG = 192, PROMPT = 64 };
    static struct row r[LONG];
    struct error err = { 0 };
    int32_t text[LONG];
    if (!mkdtemp(folder)) exit(1);
    for (int i = 0; i < LONG; i++) text[i] = t->token[i % N];
    const struct engine_disk d = { .folder = folder, .bytes = 1U << 30 };
    for (int round = 0; round < 2; round++) {
        struct opened o;
        open_with(t, &o, names, true, 1, 4);
        if (engine_disk_open(o.engine, &d, &err) != STRETTO_OK) die(folder, &err);
        for (int32_t s = 0; s < 2 && !round; s++) {
            adapt_to(o.engine, s, s ? on : off);
            for (int i = 0; i < LONG; i++)
                r[i] = (struct row){ s, text[i], i ? i - 1 : ROW_COMMITTED, i < PROMPT, 0 };
            if (engine_step(o.engine, r, LONG, NULL, &err) != STRETTO_OK) die("step", &err);
            engine_commit(o.engine, s, LONG);
        }
        struct engine_pages pages;
        engine_look(o.engine, &pages);
        check(t, pages.counts.unlike == 0 && pages.counts.equal == (round ? 0 : 1), "one page is both's", round);
        for (int32_t s = 2; s < 4 && round; s++) {         /* the roles of written tokens, read from files */
            struct sharing how = { .exact = true, .adapters = s == 3 ? on : off };
            if (engine_share(o.engine, s, &how, &err) != STRETTO_OK) die("share", &err);
            engine_set(o.engine, s, text, LONG, 0);
            engine_role(o.engine, s, PROMPT, false);
            while (engine_restore(o.engine, s, LONG)) continue;
            struct engine_pages now;
            engine_look(o.engine, &now);
            check(t, now.counts.restored == (s == 2 ? 2u : 3u), "the base's two pages, then one more of the adapter's",
                  (long)now.counts.restored);
        }
        if (!round) engine_disk_save(o.engine, 0, UINT32_MAX);
        close_both(&o);
    }
    remove_files(folder);
}

int main(int argc, char **argv)
{
    bool thorough = argc > 1 && strcmp(argv[1], "--thorough") == 0;
    struct test t = { .path = argv[1 + thorough], .folder = argv[2 + thorough], .cache = CACHE_F16 };
    if (argc < 3 + thorough) return 2;
    baselines(&t);
    many(&t, 1);
    many(&t, 3);
    by_rows(&t);
    apart(&t);
    guessed(&t);
    shared(&t);
    on_disk(&t);
    turned(&t);
    for (int k = 0; k < KINDS; k++) free(t.want[k]);
    printf("%s: %d comparisons, %d failures\n", t.path, t.checks, t.failures);
    return t.failures != 0;
}
