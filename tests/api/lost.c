/* A card that is lost in the middle. The card is made here: the cpu backend under another name, which
 * fails at a step that the test chooses. Opened with "auto", the cpu goes on and every text is what the cpu alone
 * writes, whichever step is lost: while a prompt is read, while tokens are written, guessed and drawn, with several
 * sessions and a companion, in the middle of a text that is handed out. Opened by its name, calls end with
 * E_DEVICE, a sentence and the texts as they were.
 *
 * usage: lost MODEL... */
#include "backend/backend.h"
#include "backend/cpu/cpu.h"
#include "engine/writer.h"
#include "graph/step.h"
#include "stretto/experimental.h"
#include "stretto/stretto.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 24, TEXT_MAX = 4096 };
static const int32_t prompt[] = { 1, 5, 9, 3, 7, 2, 8, 5, 9, 3, 7, 2, 8, 5, 9, 3, 7 };
enum { PROMPT = sizeof prompt / sizeof *prompt };

static void need(bool ok, const char *what, const char *words)
{
    if (ok) return;
    printf("FAIL %s: %s\n", what, words);
    exit(1);
}

/* ---- the card ---- */

static long steps_left;              /* until it is lost; -1: never */
static long steps;
static bool was_lost;
static struct device *card;
static stretto_status no_engine, no_model;  /* what opening them answers */
static struct backend fake;

static stretto_status fake_list(struct device_about *out, size_t cap, size_t *n, struct error *err)
{
    (void)err;
    *n = 2;
    for (size_t i = 0; i < 2 && i < cap; i++)
        out[i] = (struct device_about){ .name = "a card of cardboard", .card = true };
    return STRETTO_OK;
}

static stretto_status fake_open(struct device **out, const struct device_options *o, struct error *err)
{
    TRY(backend_cpu.open(out, &(struct device_options){ 0 }, err));
    (*out)->backend = &fake;
    if (o->number == 0) card = *out;
    return STRETTO_OK;
}

static uint64_t room;                /* of a card; 0: of this machine's memory */
static uint64_t fake_memory(const struct device *d) { return room ? room : backend_cpu.memory(d); }

static stretto_status fake_run(struct program *p, const struct step *s, struct answer *const *answers,
                               struct error *err)
{
    steps++;
    if (steps_left == 0) {
        was_lost = true;
        device_lose(card, "it fell off the bus");
        return device_check(card, err);
    }
    if (steps_left > 0) steps_left--;
    return backend_cpu.run(p, s, answers, err);
}

static stretto_status fake_upload(struct weights **out, struct device *d, const struct graph *g,
                                  const struct binding *b, const struct upload_options *o, struct error *err)
{
    if (no_model != STRETTO_OK) return fail(err, no_model, "the card is too small");
    return backend_cpu.upload(out, d, g, b, o, err);
}

static stretto_status fake_compile(struct program **out, struct device *d, const struct graph *g,
                                   const struct weights *w, const struct program_limits *l, struct error *err)
{
    if (no_engine != STRETTO_OK) return fail(err, no_engine, "no memory for pages");
    return backend_cpu.compile(out, d, g, w, l, err);
}

const struct backend *const backends[] = { &backend_cpu, &fake, NULL };

/* ---- texts ---- */

static int moves;
static char said[800];
static const char *how_words;
static int32_t layers;               /* of the card; 0: all */
static bool guesser;                 /* a draft model too: the same model */

static void moved(void *user, const char *line)
{
    need(user == &moves, "moved", "the user is another");
    moves++;
    snprintf(said, sizeof said, "%s", line);
}

static stretto_model *opened(const char *path, const char *device)
{
    stretto_model_options o = STRETTO_MODEL_OPTIONS_INIT;
    char err[600] = "";
    stretto_model *m;
    o.device = device;
    o.threads = 1;
    o.device_layers = layers;
    o.moved = moved;
    o.moved_user = &moves;
    stretto_model_open(&m, path, &o, err, sizeof err);
    need(m != NULL, path, err);
    return m;
}

struct text { char text[TEXT_MAX]; size_t n; int32_t id[3 * TOKENS]; size_t n_ids; };

static int collect(void *user, const char *piece, size_t n)
{
    struct text *t = user;
    need(t->n + n < TEXT_MAX, "text", "too long");
    memcpy(t->text + t->n, piece, n);
    t->n += n;
    return 0;
}

static void keep_ids(const stretto_session *s, struct text *t)
{
    const int32_t *ids = stretto_session_tokens(s);
    size_t n = stretto_session_length(s);
    need(t->n_ids + n <= 3 * TOKENS + 0, "ids", "too many");
    for (size_t i = PROMPT; i < n; i++) t->id[t->n_ids++] = ids[i];
}

static int watched;                  /* steps of the first session after the card was lost */
static void watch(void *user, const struct outcome *o, double seconds)
{
    (void)user; (void)o; (void)seconds;
    watched += was_lost;
}

/* A generation, tokens one by one, and another session in the same engine between them. */
static stretto_status write_texts(const stretto_model *m, const stretto_model *draft, struct text *t,
                                  char *words, size_t size)
{
    stretto_engine_options eo = STRETTO_ENGINE_OPTIONS_INIT;
    stretto_engine *e;
    stretto_session *a = NULL, *b = NULL;
    int32_t id;
    eo.sessions = 2;
    eo.context = 128;
    eo.threads = 1;
    eo.max_rows = 7;
    *t = (struct text){ .n = 0 };
    stretto_status st = stretto_engine_open(&e, m, &eo, words, size);
    if (st == STRETTO_OK) st = stretto_session_open(&a, e, words, size);
    if (st == STRETTO_OK) st = stretto_session_open(&b, e, words, size);
    need(st == STRETTO_OK, "open", words);
    stretto_decoding how = STRETTO_DECODING_INIT;
    how.words = how_words;
    how.draft = draft;
    st = stretto_session_decoding(a, &how);
    watched = 0;
    writer_watch(stretto_session_inside(a), watch, NULL);
    need(st == STRETTO_OK, "decoding", stretto_session_error(a));
    stretto_sampling warm = STRETTO_SAMPLING_INIT;
    warm.temperature = 1;
    warm.seed = 5;
    need(stretto_session_sampling(b, &warm) == STRETTO_OK, "sampling", "");
    stretto_generate_options g = STRETTO_GENERATE_OPTIONS_INIT;
    g.max_tokens = TOKENS / 2;
    g.text = collect;
    g.user = t;
    g.ignore_end = 1;
    const stretto_session *who = a;
    st = stretto_session_sync(a, prompt, PROMPT, NULL);
    if (st == STRETTO_OK) st = stretto_session_sync(b, prompt, PROMPT, NULL), who = b;
    if (st == STRETTO_OK) st = stretto_session_generate(a, &g, NULL), who = a;
    for (int i = 0; i < TOKENS / 2 && st == STRETTO_OK; i++) {
        st = stretto_session_next(b, &id);
        who = b;
        if (st == STRETTO_OK) st = stretto_session_next(a, &id), who = a;
    }
    if (st != STRETTO_OK) snprintf(words, size, "%s", stretto_session_error(who));
    keep_ids(a, t);
    keep_ids(b, t);
    need(st != STRETTO_OK || !was_lost || watched, "watching", "nobody is told of the steps on the cpu");
    stretto_session_close(a);
    stretto_session_close(b);
    stretto_engine_close(e);
    return st;
}

static void same(const struct text *a, const struct text *b, const char *what, long at)
{
    char words[80];
    snprintf(words, sizeof words, "another text when step %ld is lost", at);
    need(a->n == b->n && memcmp(a->text, b->text, a->n) == 0 && a->n_ids == b->n_ids &&
             memcmp(a->id, b->id, a->n_ids * sizeof *a->id) == 0, what, words);
}

static long every_step(const char *path, const char *name, const struct text *want)
{
    struct text got;
    char words[600];
    long total = 0;
    for (long at = -1; at < 0 || at < total; at++) {
        steps_left = at;
        steps = 0;
        moves = 0;
        was_lost = false;                /* guesses depend on times, and so does the number of steps */
        said[0] = '\0';
        stretto_model *m = opened(path, name), *draft = guesser ? opened(path, name) : NULL;
        stretto_status st = write_texts(m, draft, &got, words, sizeof words);
        if (at < 0) total = steps;
        bool automatic = strcmp(name, "auto") == 0;
        if (automatic || !was_lost) {
            need(st == STRETTO_OK, name, words);
            same(want, &got, path, at);
            need(moves <= 1 + guesser && (moves > 0) == was_lost, "moves", said);
            need(!was_lost || strstr(said, " is gone: it fell off the bus; the cpu goes on"), "said",
                 said);
        } else {
            need(st == STRETTO_E_DEVICE && moves == 0, "an explicit device", words);
            need(strstr(words, "fell off the bus") != NULL, "the sentence", words);
            need(got.n_ids <= want->n_ids && got.n <= want->n && memcmp(got.text, want->text, got.n) == 0,
                 "what was written before", words);
        }
        stretto_model_info info = { .size = sizeof info };
        stretto_model_about(m, &info);
        const char *on = automatic && was_lost ? "cpu" : layers ? "fake:0+cpu" : room ? "fake:0+fake:1" : "fake:0";
        need(strcmp(info.device, on) == 0, "the device", info.device);
        stretto_model_close(draft);
        stretto_model_close(m);
    }
    return total;
}

/* The vectors of a text are the cpu's, whichever step is lost. */
static long embeds(const char *path)
{
    enum { WIDTH = 4096 };
    static float want[WIDTH], got[WIDTH];
    char words[600] = "";
    long lost = 0, total = 0;
    for (long at = -2; at < total; at++) {
        stretto_model *m = opened(path, at == -2 ? "cpu" : "auto");
        stretto_session *s;
        steps_left = at < 0 ? -1 : at;
        steps = moves = 0;
        stretto_session_open_model(&s, m, NULL, words, sizeof words);
        need(s != NULL, path, words);
        need(stretto_session_embedding(s, prompt, PROMPT, NULL, at == -2 ? want : got, WIDTH, NULL) == STRETTO_OK,
             "embedding", stretto_session_error(s));
        need(at == -2 || memcmp(want, got, sizeof got) == 0, path, "another embedding");
        need(moves == (at >= 0), "moves of an embedding", said);
        if (at == -1) total = steps;
        lost += at >= 0;
        stretto_session_close(s);
        stretto_model_close(m);
    }
    need(lost > 0, path, "no step was lost");
    return lost;
}

/* Two cards, each too small for the model: one is lost, and so is the whole. */
static long over_two_cards(const char *path, const struct text *want)
{
    bool found = false;
    steps_left = -1;
    for (room = 1 << 20; room < 64 << 20 && !found; room += found ? 0 : 1 << 18) {
        stretto_model_info info = { .size = sizeof info };
        stretto_model *m = opened(path, "gpu:0,gpu:1");
        stretto_model_about(m, &info);
        found = strcmp(info.device, "fake:0+fake:1") == 0;
        stretto_model_close(m);
    }
    need(found, path, "is never on both cards");
    long lost = every_step(path, "gpu:0,gpu:1", want);
    room = 0;
    return lost;
}

/* A model or an engine that has no room on the card. */
static void too_small(const char *path, const struct text *want)
{
    struct text got;
    char words[600] = "";
    stretto_model_options o = STRETTO_MODEL_OPTIONS_INIT;
    stretto_model *m;
    steps_left = -1;
    for (int model = 0; model < 2; model++) {
        no_model = model ? STRETTO_E_NOMEM : STRETTO_OK;
        no_engine = model ? STRETTO_OK : STRETTO_E_NOMEM;
        m = opened(path, "auto");
        moves = 0;
        need(write_texts(m, NULL, &got, words, sizeof words) == STRETTO_OK, "auto without room", words);
        same(want, &got, "auto without room", -1);
        need(moves == !model, "moves without room", said);
        stretto_model_close(m);
        o.device = "fake:0";
        stretto_status st = stretto_model_open(&m, path, &o, words, sizeof words);
        need(st == (model ? STRETTO_E_NOMEM : STRETTO_OK), "fake:0 without room", words);
        stretto_engine *e = NULL;
        if (m) st = stretto_engine_open(&e, m, NULL, words, sizeof words);
        need(!e && st == STRETTO_E_NOMEM, "fake:0 without room for an engine", words);
        stretto_model_close(m);
    }
    no_model = no_engine = STRETTO_OK;
}

/* Words, layers, the environment, and callers that were compiled before there were devices. */
static void choices(const char *path)
{
    static const struct { const char *device, *variable; int32_t layers; const char *on; } rows[] = {
        { NULL, NULL, 0, "cpu" }, { "cpu", "fake", 0, "cpu" }, { NULL, "fake", 0, "fake:0" }, { NULL, "", 0, "cpu" },
        { "gpu", NULL, 0, "fake:0" }, { "fake", NULL, 1000, "fake:0" }, { "gpu:0", NULL, -1, "cpu" },
        { "gpu:1", NULL, -1, "cpu" }, { "fax", NULL, -1, NULL }, { "gpu:2", NULL, 0, NULL },
        { "gpu:1", NULL, 0, "fake:1" }, { "gpu:0,gpu:1", NULL, 0, "fake:0" }, { "gpu,fake:0", NULL, 0, NULL },
        { "gpu,fake:1", NULL, 1, NULL }, { "gpu,cpu", NULL, 0, NULL }, { NULL, "fax", 0, NULL } };
    char err[600];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        stretto_model_options o = STRETTO_MODEL_OPTIONS_INIT;
        stretto_model *m;
        if (rows[i].variable) setenv("STRETTO_DEVICE", rows[i].variable, 1);
        o.device = rows[i].device;
        o.device_layers = rows[i].layers;
        stretto_model_open(&m, path, &o, err, sizeof err);
        unsetenv("STRETTO_DEVICE");
        need((m != NULL) == (rows[i].on != NULL), "choice", err);
        stretto_model_info info = { .size = sizeof info };
        if (m) stretto_model_about(m, &info);
        need(!m || strcmp(info.device, rows[i].on) == 0, "the device chosen", info.device);
        stretto_model_close(m);
    }
    union { stretto_model_options now; char bytes[sizeof(stretto_model_options)]; } old;
    memset(&old, 0xff, sizeof old);            /* an older caller's struct ends before `device` */
    old.now = (stretto_model_options)STRETTO_MODEL_OPTIONS_INIT;
    memset(old.bytes + offsetof(stretto_model_options, device), 0xff,
           sizeof old - offsetof(stretto_model_options, device));
    old.now.size = offsetof(stretto_model_options, device);
    stretto_model *m;
    stretto_model_open(&m, path, &old.now, err, sizeof err);
    need(m != NULL, "an older caller", err);
    struct { stretto_model_info info; } small;
    memset(&small, 0x55, sizeof small);
    small.info.size = offsetof(stretto_model_info, device);
    stretto_model_about(m, &small.info);
    need(small.info.device[0] == 0x55 && small.info.layers > 0, "an older caller's info", "was written over");
    stretto_model_close(m);
}

int main(int argc, char **argv)
{
    static const struct { const char *words; bool draft; } ways[] = { { "plain", false }, { "auto", false },
                                                                      { "jacobi+lookup", false }, { "draft", true } };
    fake = backend_cpu;
    fake.name = "fake";
    fake.list = fake_list;
    fake.open = fake_open;
    fake.run = fake_run;
    fake.memory = fake_memory;
    fake.upload = fake_upload;
    fake.compile = fake_compile;
    setenv("STRETTO_CUDA", "a library that nobody opens", 1);   /* so that "auto" looks for cards */
    long lost = 0;
    for (int i = 1; i < argc; i++) {
        struct text want;
        char words[600];
        stretto_model *m = opened(argv[i], "cpu");
        stretto_model_info info = { .size = sizeof info };
        stretto_model_about(m, &info);
        lost += embeds(argv[i]);
        if (info.encoder) {
            stretto_model_close(m);
            continue;
        }
        steps_left = -1;
        how_words = "plain";
        need(write_texts(m, NULL, &want, words, sizeof words) == STRETTO_OK, argv[i], words);
        stretto_model_close(m);
        need(want.n_ids == 2 * TOKENS - TOKENS / 2, "ids", "another number");
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            how_words = ways[w].words;
            guesser = ways[w].draft;
            lost += every_step(argv[i], "auto", &want);
            if (!guesser) lost += every_step(argv[i], "fake:0", &want);
            layers = 1;                    /* the others are the cpu's all the time */
            lost += every_step(argv[i], "auto", &want);
            layers = 0;
        }
        guesser = false;
        how_words = "plain";
        lost += over_two_cards(argv[i], &want);
        too_small(argv[i], &want);
        choices(argv[i]);
    }
    printf("a card was lost at %ld steps; the cpu went on where it may\n", lost);
    return 0;
}
