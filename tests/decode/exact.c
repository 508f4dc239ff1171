/* Every decoding strategy writes exactly the tokens of plain decoding: each row of the strategy table and
 * some mixtures, greedy and sampled with a seed, alone and while other sequences share the steps.
 *
 *     decode_exact [--few | --slice] [--threads N] [--layers N] MODEL...
 *     decode_exact --prompts FILE [--tokens N] [--take N] [--words WORDS] MODEL
 *
 * What plain decoding says is found here, by one row at a time without a writer. Texts end in the
 * middle of accepted guesses: by a limit, an end token, a context that is full, a stop string, a
 * caller who wants no more. Then a fault is planted in the guesses of each strategy (one too many is
 * accepted) that the same comparison must notice. A strategy that was never seen to guess, or never
 * to guess right, was not tested: that is a failure too. --few: texts of a real model, --slice: a part
 * of everything, which the sanitizers see with several threads. --layers: so many of the model's on the device that
 * STRETTO_DEVICE names, the others on the cpu. FILE: JSON lines {"prompt", "chat"}, as
 * bench/make_prompts.py writes.
 *
 * What an adapter of guesses guesses for (`gated`) is written by the model opened with a random one, and held to the
 * model without. Backends that pick no rows for adapters have none. */
#include "base/random.h"
#include "engine/companion.h"
#include "engine/scheduler.h"
#include "kernels/kernels.h"
#include "decode/suffix.h"
#include "stretto/experimental.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXTS = 3, PROMPTS = 8, LONGEST = 1024, WORDS = 24 };

enum { FEW_MIXTURES = 4 };             /* of the following; a slice takes these */
static const char *const mixtures[] = { "auto", "auto+draft+heads", "auto+gated", "jacobi+lookup+suffix+recycle",
                                        "lookup+suffix", "jacobi+recycle", "auto+jacobi",
                                        "lookahead+lookup" };

struct prompt { int32_t *ids; uint32_t n; };

/* Of each row of the strategy table where it wrote alone, over all models. */
struct seen { uint64_t sent, right, noticed; };

struct test {
    const char *path, *words[WORDS];
    size_t n_words;
    stretto_model *model;
    stretto_engine *engine, *small;
    stretto_model *gated;              /* the model with an adapter of guesses, or NULL  */
    stretto_engine *guessing, *narrow; /* its engines, as engine and small               */
    char adapter[512];                 /* the adapter's file                             */
    struct model *other;               /* drafts for models of the same number of tokens */
    char heads[2][512];                /* files of random heads, Medusa's and a recursive one */
    struct prompt *prompts;
    size_t n_prompts;
    uint32_t tokens, threads;
    int32_t layers;                    /* on the device that is named; 0: as many as fit */
    bool few, slice, plant;
    struct seen *seen;                 /* [strategy]                                     */
    struct suffix_store store;
    struct calibration calibration;
    uint64_t checks, failures, rows, accepted, plants, differences;
};

/* One text of a step: what is asked for and what plain decoding says. */
struct text {
    const char *words;
    struct prompt prompt;
    struct sampling how;
    uint32_t want_n, limit, take_back; /* take_back: tokens after which the rest is taken back */
    int32_t end_token;                 /* -1: none                                            */
    int32_t want[LONGEST], got[LONGEST];
    uint32_t got_n;
    struct sampler sampler;
    void *memory;
    size_t bytes;
    struct writer *writer;
    struct drafter *drafter;
    struct heads *heads;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static void ok(const struct test *t, stretto_status s, const struct error *err)
{
    if (s != STRETTO_OK) die(t->path, err->text);
}

static void give_sampler(const struct test *t, struct text *x)
{
    struct arena a = { 0 };
    struct error err = { 0 };
    uint32_t vocab = stretto_model_inside(t->model)->config.vocab;
    sampler_plan(&x->sampler, &a, vocab);
    x->bytes = a.top;
    x->memory = calloc(1, a.top + 64);
    if (!x->memory) die(t->path, "out of memory");
    a = (struct arena){ .base = (unsigned char *)(((uintptr_t)x->memory + 63) & ~(uintptr_t)63),
                        .cap = x->bytes };
    sampler_plan(&x->sampler, &a, vocab);
    ok(t, sampler_set(&x->sampler, &x->how, &err), &err);
}

static bool ends(const void *ud, int32_t token) { return token == ((const struct text *)ud)->end_token; }

/* The prompt and the first token after it; the sequence is then as writer_begin wants it. What it
 * holds of the prompt already is kept. */
static int32_t first_token(const struct test *t, struct engine *e, int32_t seq, struct text *x,
                           float *logits)
{
    struct error err = { 0 };
    int32_t token;
    uint32_t have = engine_length(e, seq);
    if (have >= x->prompt.n) have = x->prompt.n - 1;
    if (memcmp(engine_tokens(e, seq), x->prompt.ids, have * sizeof token) != 0) have = 0;
    have = engine_rewind(e, seq, have);
    ok(t, engine_feed(e, seq, x->prompt.ids + have, x->prompt.n - have, WANT_LOGITS,
                      &(struct answer){ .logits = logits }, &err), &err);
    ok(t, sampler_pick(&x->sampler, logits, x->prompt.ids, x->prompt.n, &token, &err), &err);
    return token;
}

/* Plain decoding, one row at a time. */
static void plain(const struct test *t, struct engine *e, int32_t seq, struct text *x)
{
    struct error err = { 0 };
    uint32_t vocab = engine_model(e)->config.vocab, n = x->prompt.n;
    uint32_t limit = x->limit < engine_about(e)->context ? x->limit : engine_about(e)->context;
    float *logits = malloc(vocab * sizeof *logits);
    int32_t history[2 * LONGEST];
    memcpy(history, x->prompt.ids, n * sizeof *history);
    history[n++] = first_token(t, e, seq, x, logits);
    while (n < limit && history[n - 1] != x->end_token) {
        struct row row = { seq, history[n - 1], ROW_COMMITTED, 0, WANT_LOGITS };
        ok(t, engine_step(e, &row, 1, &(struct answer){ .logits = logits }, &err), &err);
        engine_commit(e, seq, 1);
        ok(t, sampler_pick(&x->sampler, logits, history, n, &history[n], &err), &err);
        n++;
    }
    x->want_n = n - x->prompt.n;
    memcpy(x->want, history + x->prompt.n, x->want_n * sizeof *history);
    engine_rewind(e, seq, x->prompt.n);
    free(logits);
}

static FILE *new_file(char path[512])
{
    const char *dir = getenv("TMPDIR");
    snprintf(path, 512, "%s/heads.XXXXXX", dir ? dir : "/tmp");
    int fd = mkstemp(path);
    FILE *f = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (!f) die(path, "cannot be written");
    return f;
}

/* n matrices of one size, small and random but for the first, which is `first` times the identity. */
static void write_matrices(FILE *f, const char *const *name, int n, uint32_t width, float first)
{
    size_t bytes = (size_t)width * width * sizeof(float), at = 0;
    char head[1024];
    for (int k = 0; k < n; k++)
        at += (size_t)snprintf(head + at, sizeof head - at,
                               "%c\"%s\":{\"dtype\":\"F32\",\"shape\":[%u,%u],\"data_offsets\":[%zu,%zu]}",
                               k ? ',' : '{', name[k], width, width, (size_t)k * bytes, (size_t)(k + 1) * bytes);
    at += (size_t)snprintf(head + at, sizeof head - at, "}");
    for (int i = 0; i < 8; i++) fputc((int)(at >> (8 * i) & 255), f);
    fwrite(head, 1, at, f);
    for (size_t i = 0; i < (size_t)n * width * width; i++) {
        float v = i % width == i / width ? first : 0;
        if (i >= (size_t)width * width) v = (float)(random_unit(random_mix(i)) - 0.5) * 0.1F;
        fwrite(&v, sizeof v, 1, f);
    }
}

/* Small random layers, whose guesses are hardly ever right; the first of Medusa's is zero and guesses the last token
 * again, which is right where a text repeats itself, and so does the recursive one at first, and is sure of it. */
static void write_heads(struct test *t)
{
    static const char *const medusa[] = { "heads.0.weight", "heads.1.weight", "heads.2.weight" };
    static const char *const recursive[] = { "recursive.state.weight", "recursive.token.weight",
                                             "recursive.gate.weight", "recursive.up.weight",
                                             "recursive.down.weight" };
    uint32_t width = stretto_model_inside(t->model)->config.width;
    for (int k = 0; k < 2; k++) {
        FILE *f = new_file(t->heads[k]);
        if (k) write_matrices(f, recursive, 5, width, 8);
        else write_matrices(f, medusa, 3, width, 0);
        if (fclose(f) != 0) die(t->heads[k], "cannot be written");
    }
}

/* Who writes by these words; who says what is right is the engine without the adapter. */
static bool is_gated(const char *words) { return strstr(words, "gated") != NULL; }

static struct engine *writes(const struct test *t, const char *words)
{
    return stretto_engine_inside(is_gated(words) ? t->guessing : t->engine);
}

/* On two linear layers of each block, so small that its guesses are the model's now and then. */
static void write_adapter(struct test *t)
{
    enum { RANK = 2 };
    static const char *const weights[] = { ".attn_q.weight", ".ffn_down.weight" };
    const struct model *m = stretto_model_inside(t->model);
    struct adapter a = { .rows = ADAPTER_GUESSES };
    struct error err = { 0 };
    const char *dir = getenv("TMPDIR");
    uint64_t seed = 0;
    for (size_t i = 0; i < m->graph.n_params; i++) {
        const struct graph_param *p = &m->graph.params[i];
        bool chosen = false;
        for (size_t k = 0; k < 2; k++) chosen |= strstr(p->name, weights[k]) != NULL;
        struct adapter_pair *pair = !chosen ? NULL : adapter_add(&a, p->name, RANK, p->n_in, p->n_out, 1, &err);
        for (uint32_t k = 0; pair && k < RANK * p->n_in; k++)
            pair->a[k] = (float)random_unit(random_mix(seed++)) - 0.5F;
        for (uint32_t k = 0; pair && k < RANK * p->n_out; k++)
            pair->b[k] = 0.1F * ((float)random_unit(random_mix(seed++)) - 0.5F);
    }
    snprintf(t->adapter, sizeof t->adapter, "%s/guesses.XXXXXX", dir ? dir : "/tmp");
    int fd = mkstemp(t->adapter);
    if (fd < 0 || close(fd) != 0) die(t->adapter, "cannot be written");
    ok(t, adapter_write_gguf(&a, t->adapter, m->source, DT_F32, NULL, 0, true, &err), &err);
    adapter_done(&a);
}

static void open_companions(struct test *t, struct engine *e, struct text *x,
                            struct strategy_setup *setup)
{
    struct error err = { 0 };
    const struct model *m = engine_model(e);
    if (strstr(x->words, "draft")) {
        /* A model of another vocabulary is refused; then this one guesses for itself. */
        if (!t->other ||
            drafter_open(&x->drafter, e, t->other, &x->sampler, &err) == STRETTO_E_ARG) {
            err = (struct error){ 0 };
            ok(t, drafter_open(&x->drafter, e, m, &x->sampler, &err), &err);
        }
    }
    if (strstr(x->words, "heads")) ok(t, heads_open(&x->heads, e, t->heads[x->prompt.n % 2], &err), &err);
    setup->drafter = drafter_companion(x->drafter);
    setup->heads = heads_companion(x->heads);
}

static void open_text(struct test *t, struct engine *e, int32_t seq, struct text *x)
{
    struct error err = { 0 };
    struct writer_options o = { .setup = { .store = &t->store, .seed = 7 } };
    uint32_t vocab = engine_model(e)->config.vocab;
    float *logits = malloc(vocab * sizeof *logits);
    ok(t, decode_parse(x->words, &o.choice, &err), &err);
    if (x->prompt.n % 3 == 0) o.setup.window = 40;       /* larger than what is left, often */
    if (x->prompt.n % 5 == 0) o.most = 3;
    open_companions(t, e, x, &o.setup);
    ok(t, writer_open(&x->writer, e, seq, &x->sampler, &t->calibration, &o, &err), &err);
    x->got[0] = first_token(t, e, seq, x, logits);
    x->got_n = 1;
    engine_push(e, seq, x->got[0]);
    writer_begin(x->writer);
    writer_limit(x->writer, x->limit, ends, x);
    free(logits);
}

static bool done(const struct engine *e, const struct text *x)
{
    uint32_t n = x->prompt.n + x->got_n;
    return n >= x->limit || n >= engine_about(e)->context || x->got[x->got_n - 1] == x->end_token;
}

static void end_text(struct engine *e, int32_t seq, struct text *x)
{
    writer_close(x->writer);
    drafter_close(x->drafter);
    heads_close(x->heads);
    x->drafter = NULL;
    x->heads = NULL;
    engine_rewind(e, seq, x->prompt.n);
}

static void drain(struct engine *e, int32_t seq, struct text *x)
{
    int32_t token;
    while (x->got_n < LONGEST && writer_next(x->writer, &token)) {
        x->got[x->got_n++] = token;
        if (x->got_n != x->take_back) continue;
        writer_trim(x->writer);
        uint32_t n = x->prompt.n + x->got_n;
        if (engine_length(e, seq) != n - 1) die(x->words, "the cache was not taken back");
    }
}

/* The answer that would make the first guess right: one token too many is accepted. */
static void plant(struct test *t, const struct row *rows, size_t n, struct answer *a)
{
    for (size_t i = 1; t->plant && i < n; i++)
        if (rows[i].parent == 0 && a[0].best != rows[i].token) {
            a[0].best = rows[i].token;
            t->plants++;
            return;
        }
}

static void note(struct test *t, const struct text *x)
{
    unsigned s;
    if (!strategy_find(x->words, strlen(x->words), &s) || !x->writer) return;
    t->seen[s].sent += writer_counts(x->writer)->sent[s];
    t->seen[s].right += writer_counts(x->writer)->right[s];
}

static void compare(struct test *t, const struct engine *e, int32_t seq, const struct text *x,
                    const char *where)
{
    bool same = x->got_n == x->want_n &&
                memcmp(x->got, x->want, x->got_n * sizeof *x->got) == 0;
    uint32_t n = x->prompt.n + x->got_n, k = 0;
    bool cache = engine_length(e, seq) == n - 1 &&
                 memcmp(engine_tokens(e, seq), x->prompt.ids, x->prompt.n * sizeof *x->got) == 0 &&
                 memcmp(engine_tokens(e, seq) + x->prompt.n, x->got,
                        (x->got_n - 1) * sizeof *x->got) == 0;
    t->checks++;
    if (t->plant) {
        t->differences += !same;
        return;
    }
    note(t, x);
    if (same && cache) return;
    t->failures++;
    while (k < x->got_n && k < x->want_n && x->got[k] == x->want[k]) k++;
    printf("FAIL %s: %s %s, prompt of %u tokens, temperature %g, limit %u: ", t->path, x->words,
           where, x->prompt.n, (double)x->how.temperature, x->limit);
    if (same) printf("the cache holds something else than the text\n");
    else
        printf("token %u of %u and %u is %d, not %d\n", k, x->got_n, x->want_n,
               k < x->got_n ? x->got[k] : -1, k < x->want_n ? x->want[k] : -1);
}

/* The likeliest tokens of a row are what a look at all of its logits finds. */
static bool top_is_right(const struct step_top *top, const float *logits, uint32_t vocab)
{
    for (uint32_t k = 0; k < STEP_TOP; k++) {
        int32_t best = -1;
        for (int32_t i = 0; i < (int32_t)vocab; i++) {
            bool taken = false;
            for (uint32_t j = 0; j < k; j++) taken |= top->id[j] == i;
            if (!taken && (best < 0 || logits[i] > logits[best])) best = i;
        }
        if (top->id[k] != best || (best >= 0 && top->logit[k] != logits[best])) return false;
    }
    return true;
}

/* n texts in sequences 0..n-1, all in the same steps. */
static void write_texts(struct test *t, struct engine *e, struct text *x, size_t n,
                        const char *where)
{
    struct row rows[TEXTS * (TREE_ROWS + 1)];
    struct answer a[TEXTS * (TREE_ROWS + 1)];
    struct error err = { 0 };
    uint32_t vocab = engine_model(e)->config.vocab, most = engine_about(e)->max_rows;
    if (most > TEXTS * (TREE_ROWS + 1)) most = TEXTS * (TREE_ROWS + 1);
    for (size_t i = 0; i < n; i++) open_text(t, e, (int32_t)i, &x[i]);
    for (;;) {
        size_t base[TEXTS] = { 0 }, k[TEXTS] = { 0 }, all = 0;
        struct proposing p[TEXTS];
        size_t who[TEXTS], k_who = 0;
        for (size_t i = 0; i < n; i++) {
            if (done(e, &x[i])) continue;
            who[k_who] = i;
            p[k_who++] = (struct proposing){ .writer = x[i].writer, .room = most / n };
        }
        writers_propose(p, k_who);
        for (size_t w = 0; w < k_who; w++) {
            size_t i = who[w];
            ok(t, p[w].error.status, &p[w].error);
            base[i] = all;
            struct bid bid = writer_bid(x[i].writer);
            controllers_share(&bid, 1, (uint32_t)(most / n) - 1, 0);
            k[i] = writer_rows(x[i].writer, rows, a, all, bid.rows, bid.apart);
            all += k[i];
        }
        if (!all) break;
        t->rows += all;
        ok(t, engine_step(e, rows, all, a, &err), &err);
        bool both = (rows[all - 1].wants & WANT_LOGITS) && (rows[all - 1].wants & WANT_TOP);
        if (both && !top_is_right(&a[all - 1].top, a[all - 1].logits, vocab)) {
            printf("FAIL %s: the likeliest tokens of a row are not those of its logits\n", where);
            t->failures++;
        }
        for (size_t i = 0; i < n; i++) {
            if (!k[i]) continue;
            if (i == 0) plant(t, rows, k[0], a);
            /* Any seconds will do; absurd ones must change nothing but the number of guesses. */
            double seconds = n > 1 ? 0 : 1e-3 * (double)(1 + random_at(1, 2, all, t->rows) % 9);
            costs_learn(engine_costs(e), (uint32_t)all, seconds);
            ok(t, writer_take(x[i].writer, base[i], a + base[i], seconds,
                              costs_ratio(engine_costs(e), (uint32_t)k[i]) - 1, &err), &err);
            drain(e, (int32_t)i, &x[i]);
        }
    }
    for (size_t i = 0; i < n; i++) {
        compare(t, e, (int32_t)i, &x[i], where);
        t->accepted += writer_counts(x[i].writer)->accepted;
        suffix_store_add(&t->store, x[i].got, x[i].got_n);
        end_text(e, (int32_t)i, &x[i]);
    }
}

static void set_text(const struct test *t, struct text *x, const char *words, size_t prompt,
                     bool sampled)
{
    *x = (struct text){ .words = words, .prompt = t->prompts[prompt], .end_token = -1 };
    uint32_t most = LONGEST - 1 - x->prompt.n;
    x->limit = x->prompt.n + (t->tokens < most ? t->tokens : most) - (uint32_t)prompt % 5;
    if (prompt % 4 == 1) x->take_back = 3 + (uint32_t)prompt;
    x->how = (struct sampling){ .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64 };
    if (!sampled) return;
    x->how.temperature = 0.5F + 0.2F * (float)(prompt % 4);
    x->how.top_k = prompt % 2 ? 40 : 0;
    x->how.seed = 11 + prompt;
    if (prompt % 3 == 2) x->how.repeat_penalty = 1.1F;
}

static void drop_text(struct text *x) { free(x->memory); }

/* Each way alone; then the text again, ending with a token out of its middle. */
static void alone(struct test *t)
{
    for (size_t p = 0; p < t->n_prompts; p++)
        for (int sampled = 0; sampled < 2; sampled++) {
            static struct text x;
            struct engine *e = stretto_engine_inside(t->engine);
            set_text(t, &x, "plain", p, sampled);
            give_sampler(t, &x);
            plain(t, e, 0, &x);
            for (int end = 0; end < (p % 4 == 2 ? 2 : 1); end++) {
                if (end) {
                    x.end_token = x.want[x.want_n / 2];
                    plain(t, e, 0, &x);
                }
                for (size_t w = 0; w < t->n_words; w++) {
                    x.words = t->words[w];
                    write_texts(t, writes(t, x.words), &x, 1, end ? "with an end token" : "alone");
                }
            }
            drop_text(&x);
        }
}

/* A context of 32 tokens, filled to the last. */
static void full_context(struct test *t)
{
    for (size_t p = 0; p < t->n_prompts; p++) {
        static struct text x;
        struct engine *e = stretto_engine_inside(t->small);
        if (t->prompts[p].n >= engine_about(e)->context) continue;
        set_text(t, &x, "plain", p, p % 2);
        x.limit = engine_about(e)->context;
        give_sampler(t, &x);
        plain(t, e, 0, &x);
        for (size_t w = 0; w < t->n_words; w++) {
            x.words = t->words[w];
            struct engine *by = is_gated(x.words) ? stretto_engine_inside(t->narrow) : e;
            write_texts(t, by, &x, 1, "up to a full context");
        }
        drop_text(&x);
    }
}

/* A pool of three pages, one of them another sequence's: guesses that would need a fourth are left
 * out, and the text goes on to the last slot. */
static void crowded_pool(struct test *t)
{
    struct error err = { 0 };
    struct engine *both[2] = { NULL };
    struct engine_options o = { .threads = 1, .context = 256, .sequences = 2, .pool_tokens = 64 };
    static struct text x;
    for (int k = 0; k < (t->gated ? 2 : 1); k++) {
        ok(t, engine_open(&both[k], stretto_model_inside(k ? t->gated : t->model), &o, &err), &err);
        ok(t, engine_seq_open_all(both[k], &err), &err);
        ok(t, engine_feed(both[k], 1, t->prompts[1].ids, t->prompts[1].n, 0, NULL, &err), &err);
    }
    for (size_t w = 0; w < t->n_words; w++) {
        set_text(t, &x, "plain", 1, false);
        x.limit = 2 * PAGE_SLOTS;
        x.take_back = 0;
        give_sampler(t, &x);
        plain(t, both[0], 0, &x);
        x.words = t->words[w];
        struct engine *e = both[is_gated(x.words)];
        open_text(t, e, 0, &x);
        while (!done(e, &x)) {
            struct request r = { .seq = 0, .writer = x.writer };
            struct event event;
            uint32_t id;
            size_t events;
            ok(t, request_add(e, &r, &id, &err), &err);
            ok(t, engine_turn(e, &event, 1, &events, &err), &err);
            if (events && event.error.status != STRETTO_OK) die("a crowded pool", event.error.text);
            request_cancel(e, id);
            drain(e, 0, &x);
        }
        compare(t, e, 0, &x, "in a crowded pool");
        end_text(e, 0, &x);
        drop_text(&x);
    }
    engine_close(both[0]);
    engine_close(both[1]);
}

/* Three texts with other prompts, ways and samplings in the same steps. */
static void together(struct test *t)
{
    for (size_t w = 0; w < t->n_words; w++) {
        static struct text x[TEXTS];
        const char *by = "";
        for (size_t i = 0; i < TEXTS; i++) {
            set_text(t, &x[i], t->words[(w + i * 3) % t->n_words], (w + i) % t->n_prompts, i != w % 3);
            give_sampler(t, &x[i]);
            plain(t, stretto_engine_inside(t->engine), 0, &x[i]);
            if (is_gated(x[i].words)) by = x[i].words;
        }
        write_texts(t, writes(t, by), x, TEXTS, "with two others in its steps");
        for (size_t i = 0; i < TEXTS; i++) drop_text(&x[i]);
    }
}

/* ---- sessions: stop strings, callers who have enough, texts that go on ------------------------ */

struct out { char text[1 << 16]; size_t n; uint64_t pieces, enough; };

static int on_text(void *user, const char *piece, size_t n)
{
    struct out *o = user;
    if (o->n + n < sizeof o->text) memcpy(o->text + o->n, piece, n);
    o->n += n;
    return ++o->pieces == o->enough;
}

struct session_case {
    int64_t max_tokens[2]; const char *stop; uint64_t enough; float temperature; bool ignore_end;
};

/* What was written, in two calls with another sync between them. */
static void in_session(struct test *t, const char *words, const struct session_case *c,
                       struct out *out, int32_t *ids, size_t *n, size_t *finish)
{
    stretto_session *s;
    stretto_decoding d = STRETTO_DECODING_INIT;
    stretto_sampling how = STRETTO_SAMPLING_INIT;
    char err[600];
    d.words = words;
    if (strstr(words, "draft")) d.draft = t->model;
    if (strstr(words, "heads")) d.heads = t->heads[words[0] % 2];
    how.temperature = c->temperature;
    how.seed = 3;
    how.top_k = 40;
    stretto_engine *e = is_gated(words) ? t->guessing : t->engine;
    if (stretto_session_open(&s, e, err, sizeof err) != STRETTO_OK) die(t->path, err);
    *out = (struct out){ .enough = c->enough };
    const struct prompt *p = &t->prompts[1];
    stretto_status st = stretto_session_decoding(s, &d);
    if (st == STRETTO_OK) st = stretto_session_sampling(s, &how);
    if (st == STRETTO_OK) st = stretto_session_sync(s, p->ids, p->n, NULL);
    for (size_t i = 0; st == STRETTO_OK && i < 2; i++) {
        const char *stops[] = { c->stop, NULL };
        stretto_generate_options g = STRETTO_GENERATE_OPTIONS_INIT;
        stretto_generated r = { .size = sizeof r };
        g.max_tokens = c->max_tokens[i];
        g.stops = stops;
        g.text = on_text;
        g.user = out;
        g.ignore_end = c->ignore_end;
        st = stretto_session_generate(s, &g, &r);
        finish[i] = (size_t)r.finish;
        finish[2 + i] = r.tokens;
        size_t length = stretto_session_length(s), reused = 0;
        if (st != STRETTO_OK || i || length == p->n) continue;
        /* A conversation goes on: what was written is in the cache but for its last token. */
        int32_t more[LONGEST];
        memcpy(more, stretto_session_tokens(s), length * sizeof *more);
        more[length] = p->ids[0];
        if (strchr(words, 'd')) st = stretto_session_decoding(s, &d);   /* draft, heads: with what they have */
        if (st == STRETTO_OK) st = stretto_session_sync(s, more, length + 1, &reused);
        if (st == STRETTO_OK && reused != length - 1) {
            printf("FAIL %s: %s: %zu of %zu tokens were reused\n", t->path, words, reused, length);
            t->failures++;
        }
    }
    if (st != STRETTO_OK) die(t->path, stretto_session_error(s));
    *n = stretto_session_length(s);
    memcpy(ids, stretto_session_tokens(s), *n * sizeof *ids);
    int32_t id;
    /* Heads do not look at what the writer before showed them. */
    if (strstr(words, "heads") && stretto_session_decoding(s, &d) == STRETTO_OK) stretto_session_next(s, &id);
    stretto_session_close(s);
}

static void sessions(struct test *t)
{
    static struct out want, got;
    static char stop[64];
    struct session_case cases[] = {
        { { 0, 3 }, NULL, 0, 0, true },    { { 1, 1 }, NULL, 0, 0, true },
        { { 7, 20 }, NULL, 0, 0, true },   { { 18, 2 }, NULL, 0, 0.8F, true },
        { { 40, 40 }, NULL, 0, 0.8F, false }, { { 40, 9 }, stop, 0, 0, true },
        { { 40, 9 }, NULL, 9, 0, true },   { { 30, 30 }, NULL, 4, 0.6F, false },
    };
    int32_t want_ids[2 * LONGEST], got_ids[2 * LONGEST];
    size_t n, want_n, finish[4], want_finish[4];
    for (size_t i = t->slice ? 4 : 0; i < sizeof cases / sizeof *cases; i++) {
        if (cases[i].stop) {               /* a piece out of the middle of what plain writes */
            cases[i].stop = NULL;
            in_session(t, "plain", &cases[i], &want, want_ids, &want_n, want_finish);
            size_t cut = want.n / 3, length = want.n - cut < 5 ? want.n - cut : 5;
            while (cut && ((unsigned char)want.text[cut] & 0xc0) == 0x80) cut--;
            memcpy(stop, want.text + cut, length);
            stop[length] = '\0';
            cases[i].stop = *stop ? stop : NULL;
        }
        in_session(t, "plain", &cases[i], &want, want_ids, &want_n, want_finish);
        for (size_t w = 0; w < t->n_words; w++) {
            in_session(t, t->words[w], &cases[i], &got, got_ids, &n, finish);
            t->checks++;
            if (n == want_n && memcmp(got_ids, want_ids, n * sizeof *got_ids) == 0 &&
                got.n == want.n && memcmp(got.text, want.text, got.n) == 0 &&
                memcmp(finish, want_finish, sizeof finish) == 0)
                continue;
            t->failures++;
            printf("FAIL %s: session case %zu with %s: %zu tokens and finish %zu, not %zu and %zu\n",
                   t->path, i, t->words[w], n, finish[0], want_n, want_finish[0]);
        }
    }
}

struct watcher { size_t stop_at, calls, done, total; };

static int watch(void *user, size_t done, size_t total)
{
    struct watcher *w = user;
    w->calls++;
    w->done = done;
    w->total = total;
    return done >= w->stop_at;
}

/* A prompt is read in two parts: the first is stopped, or never (stop 0). Then a few tokens. */
static bool in_parts(const struct test *t, size_t stop, int32_t *ids)
{
    const struct prompt *p = &t->prompts[t->n_prompts - 1];
    enum { PART = 4, TOKENS = 8 };
    stretto_engine_options o = STRETTO_ENGINE_OPTIONS_INIT;
    struct watcher w = { .stop_at = stop ? stop : SIZE_MAX };
    stretto_session *s;
    size_t reused = 0;
    char err[600];
    o.threads = 1;
    o.max_rows = PART;
    o.context = p->n + TOKENS;
    if (stretto_session_open_model(&s, t->model, &o, err, sizeof err) != STRETTO_OK) die(t->path, err);
    stretto_session_watch(s, watch, &w);
    stretto_status st = stretto_session_sync(s, p->ids, p->n, &reused);
    bool right = st == (stop && stop < p->n ? STRETTO_E_CANCEL : STRETTO_OK) && w.total == p->n &&
                 w.done == stretto_session_length(s) && w.calls == (w.done + PART - 1) / PART;
    if (st == STRETTO_E_CANCEL) {
        w.stop_at = SIZE_MAX;
        st = stretto_session_sync(s, p->ids, p->n, &reused);
        right &= reused == stop && w.done == p->n - stop;
    }
    for (size_t i = 0; i < TOKENS && st == STRETTO_OK; i++) st = stretto_session_next(s, &ids[i]);
    stretto_session_close(s);
    return right && st == STRETTO_OK;
}

static void stopped_reading(struct test *t)
{
    int32_t want[8] = { 0 }, got[8] = { 0 };
    bool right = in_parts(t, 0, want);
    for (size_t stop = 4; stop <= 8; stop += 4) {
        right &= in_parts(t, stop, got) && memcmp(got, want, sizeof got) == 0;
        t->checks++;
    }
    if (right) return;
    t->failures++;
    printf("FAIL %s: a prompt whose reading was stopped and went on\n", t->path);
}

/* ---- the run --------------------------------------------------------------------------------- */

static void random_prompts(struct test *t)
{
    uint32_t vocab = stretto_model_inside(t->model)->config.vocab;
    t->n_prompts = t->slice ? 3 : PROMPTS;
    t->prompts = calloc(t->n_prompts, sizeof *t->prompts);
    for (size_t p = 0; t->prompts && p < t->n_prompts; p++) {
        uint32_t n = 1 + (uint32_t)p * 5;
        int32_t *ids = calloc(n, sizeof *ids);
        if (!ids) die(t->path, "out of memory");
        /* Few different tokens, so that things come again. */
        for (uint32_t i = 0; i < n; i++)
            ids[i] = (int32_t)(random_at(p, 0, 0, random_at(p, 1, i, 0) % 9) % (vocab - 3) + 3);
        t->prompts[p] = (struct prompt){ ids, n };
    }
}

static struct prompt tokenized(const struct test *t, const char *text, bool chat)
{
    static char rendered[1 << 18];
    struct prompt p = { 0 };
    size_t length = strlen(text), n = 0;
    if (chat) {
        stretto_message m = { "user", text };
        if (stretto_chat_render(t->model, &m, 1, 1, rendered, sizeof rendered, &length, NULL, 0) !=
            STRETTO_OK)
            die(t->path, "a prompt does not go into the chat template");
        text = rendered;
    }
    unsigned flags = STRETTO_TOKENIZE_SPECIAL | (chat ? 0 : STRETTO_TOKENIZE_ADD);
    stretto_tokenize(t->model, text, length, flags, NULL, 0, &n);
    p.ids = calloc(n + 1, sizeof *p.ids);
    if (!p.ids || stretto_tokenize(t->model, text, length, flags, p.ids, n, &n) != STRETTO_OK)
        die(t->path, "a prompt cannot be tokenized");
    p.n = n < LONGEST / 2 ? (uint32_t)n : LONGEST / 2;
    return p;
}

static void read_prompts(struct test *t, const char *path, size_t take)
{
    FILE *f = fopen(path, "r");
    static char line[1 << 18];
    if (!f) die(path, "cannot be opened");
    while (fgets(line, sizeof line, f) && t->n_prompts < take) {
        json_t *j = json_loads(line, 0, NULL);
        const char *text = json_string_value(json_object_get(j, "prompt"));
        if (!text) die(path, "a line without a prompt");
        struct prompt *more = realloc(t->prompts, (t->n_prompts + 1) * sizeof *more);
        if (!more) die(path, "out of memory");
        t->prompts = more;
        t->prompts[t->n_prompts++] = tokenized(t, text, json_is_true(json_object_get(j, "chat")));
        json_decref(j);
    }
    fclose(f);
}

static void text_prompts(struct test *t)
{
    static const char *const texts[] = {
        "List the numbers from one to twelve, one per line, then list them again.",
        "Rewrite this with x renamed to total:\ndef f(x):\n    x = x + 1\n    return x * x\n",
        "ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha",
    };
    t->n_prompts = sizeof texts / sizeof *texts;
    t->prompts = calloc(t->n_prompts, sizeof *t->prompts);
    for (size_t i = 0; t->prompts && i < t->n_prompts; i++)
        t->prompts[i] = tokenized(t, texts[i], i < 2);
}

static bool names_gated(const struct test *t)
{
    bool any = false;
    for (size_t w = 0; w < t->n_words; w++) any |= is_gated(t->words[w]);
    return any;
}

static void open_engines(const struct test *t, stretto_model *m, size_t context, stretto_engine **wide,
                         stretto_engine **small)
{
    char err[600];
    int32_t seq;
    stretto_engine_options o = STRETTO_ENGINE_OPTIONS_INIT;
    o.threads = t->threads;
    o.sessions = TEXTS + 2;               /* one for a session */
    o.context = context < LONGEST ? (uint32_t)context : LONGEST;
    if (stretto_engine_open(wide, m, &o, err, sizeof err) != STRETTO_OK) die(t->path, err);
    for (int32_t i = 0; i <= TEXTS; i++) engine_seq_open(stretto_engine_inside(*wide), &seq, NULL);
    o.sessions = 2;
    o.context = 32;
    if (stretto_engine_open(small, m, &o, err, sizeof err) != STRETTO_OK) die(t->path, err);
    engine_seq_open(stretto_engine_inside(*small), &seq, NULL);
}

static void open_all(struct test *t, void **store)
{
    char err[600];
    stretto_model_options mo = STRETTO_MODEL_OPTIONS_INIT;
    mo.device_layers = t->layers;
    if (stretto_model_open(&t->model, t->path, &mo, err, sizeof err) != STRETTO_OK) die(t->path, err);
    stretto_model_info info = { .size = sizeof info };
    stretto_model_about(t->model, &info);
    open_engines(t, t->model, info.context, &t->engine, &t->small);
    const char *adapters[] = { t->adapter, NULL };
    if (names_gated(t)) {
        write_adapter(t);
        mo.adapters = adapters;
        if (stretto_model_open(&t->gated, t->path, &mo, err, sizeof err) != STRETTO_OK) die(t->path, err);
        open_engines(t, t->gated, info.context, &t->guessing, &t->narrow);
    }
    struct arena a = { 0 };
    suffix_store_plan(&t->store, &a, 512);               /* small: old texts fall out */
    *store = calloc(1, a.top + 64);
    if (!*store) die(t->path, "out of memory");
    a = (struct arena){ .base = (unsigned char *)(((uintptr_t)*store + 63) & ~(uintptr_t)63),
                        .cap = a.top };
    suffix_store_plan(&t->store, &a, 512);
    calibration_init(&t->calibration);
}

/* A greedy text with the plant; whether there was a wrong guess to plant on. */
static bool planted_in(struct test *t, const char *words, size_t prompt)
{
    static struct text x;
    uint64_t plants = t->plants, before = t->differences;
    /* What guesses proved worth so far depends on times, and what is guessed on that: not here. */
    struct calibration learned = t->calibration;
    calibration_init(&t->calibration);
    set_text(t, &x, "plain", prompt, false);
    give_sampler(t, &x);
    plain(t, stretto_engine_inside(t->engine), 0, &x);
    x.words = words;
    t->plant = true;
    write_texts(t, writes(t, words), &x, 1, "planted");
    t->plant = false;
    drop_text(&x);
    t->calibration = learned;
    if (t->plants == plants) return false;
    if (t->differences > before) return true;
    t->failures++;
    printf("FAIL %s: one guess too many of %s was accepted, and nothing noticed\n", t->path, words);
    return true;
}

/* In each strategy until a prompt shows it. */
static void planted(struct test *t)
{
    unsigned all = 0;
    for (unsigned s = 0; strategies[s]; s++) {
        bool noticed = false;
        if (is_gated(strategies[s]->name) && !t->gated) continue;
        for (size_t p = 0; p < t->n_prompts && !noticed; p++)
            noticed = planted_in(t, strategies[s]->name, (p + 4) % t->n_prompts);
        t->seen[s].noticed += noticed;
        all += noticed;
    }
    printf("%s: one guess too many accepted: noticed of %u strategies\n", t->path, all);
}

/* What no model showed was not tested. A model that drafts for itself alone has no wrong guess to plant on. */
static bool all_seen(const struct seen *seen, bool drafted, bool sets)
{
    bool good = true;
    for (unsigned s = 0; strategies[s]; s++) {
        if (is_gated(strategies[s]->name) && !sets) continue;
        bool always_right = !drafted && strcmp(strategies[s]->name, "draft") == 0;
        bool here = seen[s].sent && seen[s].right && (seen[s].noticed || always_right);
        good &= here;
        printf("%s%s: %llu guesses sent, %llu of them right, planted fault noticed with %llu models\n",
               here ? "" : "FAIL ", strategies[s]->name, (unsigned long long)seen[s].sent,
               (unsigned long long)seen[s].right, (unsigned long long)seen[s].noticed);
    }
    return good;
}

static bool run_model(struct test *t, const char *prompts, size_t take)
{
    void *store;
    open_all(t, &store);
    write_heads(t);
    if (prompts) read_prompts(t, prompts, take);
    else if (t->few) text_prompts(t);
    else random_prompts(t);
    alone(t);
    if (!prompts) {
        full_context(t);
        if (!t->few) crowded_pool(t);
        together(t);
        sessions(t);
        stopped_reading(t);
        planted(t);
    }
    printf("%s: %llu texts, %llu failures; %llu rows, %llu guesses accepted\n", t->path,
           (unsigned long long)t->checks, (unsigned long long)t->failures,
           (unsigned long long)t->rows, (unsigned long long)t->accepted);
    fflush(stdout);
    for (size_t i = 0; i < t->n_prompts; i++) free(t->prompts[i].ids);
    free(t->prompts);
    free(store);
    for (int k = 0; k < 2; k++) unlink(t->heads[k]);
    if (t->gated) unlink(t->adapter);
    stretto_engine_close(t->narrow);
    stretto_engine_close(t->guessing);
    stretto_model_close(t->gated);
    stretto_engine_close(t->small);
    stretto_engine_close(t->engine);
    stretto_model_close(t->model);
    return t->failures != 0 || (!prompts && t->accepted == 0);
}

int main(int argc, char **argv)
{
    const char *prompts = NULL, *only = NULL;
    size_t take = SIZE_MAX;
    static struct seen seen[STRATEGIES_MOST];
    struct test proto = { .tokens = 40, .seen = seen };
    bool bad = false;
    int i = 1;
    for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        if (strcmp(argv[i], "--few") == 0) proto.few = true;
        else if (strcmp(argv[i], "--slice") == 0) proto.slice = true;
        else if (i + 1 == argc) return 2;
        else if (strcmp(argv[i], "--prompts") == 0) prompts = argv[++i];
        else if (strcmp(argv[i], "--words") == 0) only = argv[++i];
        else if (strcmp(argv[i], "--threads") == 0) proto.threads = (uint32_t)atoi(argv[++i]);
        else if (strcmp(argv[i], "--layers") == 0) proto.layers = (int32_t)atoi(argv[++i]);
        else if (strcmp(argv[i], "--tokens") == 0) proto.tokens = (uint32_t)atoi(argv[++i]);
        else if (strcmp(argv[i], "--take") == 0) take = (size_t)atoi(argv[++i]);
        else return 2;
    }
    /* The tiny models would only wait; of sets, two run at once. */
    if (!proto.threads) proto.threads = proto.few ? 2 : 1;
    proto.few |= prompts != NULL;
    if (only) proto.words[proto.n_words++] = only;
    struct model *other = NULL;        /* the first drafts for the others */
    struct model_open_options mo = { 0 };
    struct device_options on = { 0 };
    struct error err = { 0 };
    if (backend_open(getenv("STRETTO_DEVICE"), &on, &mo.device, &err) != STRETTO_OK) {
        printf("skip: %s\n", err.text);
        return 77;
    }
    bool sets = strcmp(mo.device->backend->name, "cpu") == 0 && !proto.layers;
    for (unsigned s = 0; !only && strategies[s]; s++)
        if (sets || !is_gated(strategies[s]->name)) proto.words[proto.n_words++] = strategies[s]->name;
    size_t mixed = proto.slice ? FEW_MIXTURES : sizeof mixtures / sizeof *mixtures;
    for (size_t k = 0; !only && k < mixed; k++)
        if (sets || !is_gated(mixtures[k])) proto.words[proto.n_words++] = mixtures[k];
    if (!proto.few && i + 1 < argc && model_open(&other, argv[i], &mo, &err) != STRETTO_OK)
        die(argv[i], err.text);
    bool drafted = other && i + 1 < argc;        /* for others than itself */
    for (; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        if (!f) { printf("skip: there is no %s\n", argv[i]); return 77; }
        fclose(f);
        struct test *t = calloc(1, sizeof *t);
        if (!t) return 1;
        *t = proto;
        t->path = argv[i];
        t->other = other;
        bad |= run_model(t, prompts, take);
        free(t);
    }
    model_close(other);
    device_close(mo.device);
    if (!prompts && !only) bad |= !all_seen(seen, drafted, sets);
    return bad;
}
