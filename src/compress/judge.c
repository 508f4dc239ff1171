#include "compress/judge.h"
#include "base/memory.h"
#include "compress/original.h"
#include "eval/speed.h"
#include "text/chat.h"
#include <string.h>
#include <sys/stat.h>

/* ROWS: of a step, whose logits take memory twice. */
enum { DEFAULT_WINDOW = 512, ROWS = 128, SPEED_TOKENS = 32, SPEED_TIMES = 3 };

struct judge {
    struct judge_options o;
    char *path;
    struct device *device;
    struct model *m;                    /* the original's graph, tokenizer and file */
    struct original *original;          /* NULL: its answers were not needed yet    */
    struct eval_set set[JUDGE_TEXTS];
    size_t later[JUDGE_TEXTS];          /* tokens of the text that the proof counts */
    size_t n;
    uint32_t context;
    double speed;
};

/* Conversations are shorter than windows. */
static size_t windows_of(const struct judge *j, const struct eval_set *s, uint32_t window)
{
    size_t tokens = j->o.windows * (window - 1 - window / 2), mean = s->tokens / s->n;
    return j->o.windows && mean ? (tokens + mean - 1) / mean : j->o.windows;
}

static void take_part(struct judge *j, size_t i, uint32_t window)
{
    struct eval_set *s = &j->set[i];
    size_t most = windows_of(j, s, window);
    struct texts_part all = { TEXTS_BOTH, most }, choice = { TEXTS_SECOND, 2 * most }, proof = { TEXTS_FIRST, most };
    j->later[i] = texts_counted(s, proof);
    texts_keep(s, j->o.part == JUDGE_ALL ? all : j->o.part == JUDGE_CHOICE ? choice : proof);
    if (s->longest > j->context) j->context = s->longest;
}

static stretto_status read_texts(struct judge *j, const struct chat *chat, struct error *err)
{
    struct text_file files[JUDGE_TEXTS];
    size_t n = j->o.n_texts;
    if (n > JUDGE_TEXTS) return fail(err, STRETTO_E_ARG, "more than %d texts to measure on", JUDGE_TEXTS);
    for (size_t i = 0; i < n; i++) files[i] = j->o.texts[i];
    if (!n) n = texts_builtin(true, files, JUDGE_TEXTS);
    uint32_t most = j->m->config.context, window = j->o.window ? j->o.window : DEFAULT_WINDOW;
    if (!j->o.window && most && most < window) window = most;
    for (size_t i = 0; i < n; i++) {
        TRY(texts_set(&j->set[i], &files[i], j->m->tokenizer, chat, window, 0, j->m->config.vocab, err));
        j->n++;
        take_part(j, i, window);
    }
    if (j->context < 2 * SPEED_TOKENS) j->context = 2 * SPEED_TOKENS;
    return STRETTO_OK;
}

static stretto_status engine_with(const struct judge *j, const struct model *m, enum cache_type cache,
                                  struct engine **out, struct error *err)
{
    struct engine_options o = { .threads = j->o.threads, .context = j->context, .sequences = 1, .max_rows = ROWS,
                                .cache = cache };
    TRY(engine_open(out, m, &o, err));
    engine_cancel(*out, engine_flag_set, (void *)(uintptr_t)j->o.cancel);
    return STRETTO_OK;
}

static stretto_status engine_for(const struct judge *j, const struct model *m, struct engine **out,
                                 struct error *err)
{
    return engine_with(j, m, CACHE_F32, out, err);
}

static stretto_status open_into(struct judge *j, const char *path, struct error *err)
{
    struct model_open_options mo = { .graph_only = true, .threads = j->o.threads, .cancel = j->o.cancel,
                                    .adapters = j->o.adapters, .n_adapters = j->o.n_adapters };
    struct device_options on = { .level = NULL };
    struct chat *chat = NULL;
    j->path = mem_strdup(path);
    if (!j->path) return fail(err, STRETTO_E_NOMEM, "out of memory");
    TRY(model_open(&j->m, path, &mo, err));
    if (j->m->graph.logits == GRAPH_NONE)
        return fail(err, STRETTO_E_UNSUP, "%s writes no text, so there is no divergence to measure", path);
    TRY(backend_open("cpu", &on, &j->device, err));
    if (j->m->tokenizer) TRY(chat_open(&chat, j->m->tokenizer, err));
    stretto_status s = read_texts(j, chat, err);
    chat_close(chat);
    return s;
}

stretto_status judge_open(struct judge **out, const char *path, const struct judge_options *o, struct error *err)
{
    *out = NULL;
    struct judge *j = mem_zalloc(1, sizeof *j);
    if (!j) return fail(err, STRETTO_E_NOMEM, "out of memory");
    j->o = *o;
    stretto_status s = open_into(j, path, err);
    if (s != STRETTO_OK) judge_close(j);
    else *out = j;
    return s;
}

void judge_rest(struct judge *j)
{
    original_close(j->original);
    model_close(j->m);
    if (j->device) device_close(j->device);
    j->original = NULL;
    j->device = NULL;
    j->m = NULL;
    mem_trim();
}

void judge_close(struct judge *j)
{
    if (!j) return;
    judge_rest(j);
    for (size_t i = 0; i < j->n; i++) eval_set_done(&j->set[i]);
    mem_free(j->path);
    mem_free(j);
}

size_t judge_texts(const struct judge *j) { return j->n; }
const char *judge_text_name(const struct judge *j, size_t i) { return j->set[i].name; }

void verdict_done(struct verdict *v)
{
    eval_rows_done(&v->rows);
    *v = (struct verdict){ 0 };
}

struct margin judge_margin(const struct judge *j, const struct verdict *v)
{
    struct margin_text t[JUDGE_TEXTS];
    for (size_t i = 0; i < j->n; i++) t[i] = (struct margin_text){ v->text[i], j->later[i] };
    return margin_of(t, j->n, &v->all);
}

/* The best of a few: neighbours on the machine make a figure low, never high. */
static stretto_status speed_of(struct engine *e, double *out, struct error *err)
{
    struct speed_test t = { .generate = SPEED_TOKENS, .sequences = 1 };
    *out = 0;
    for (int i = 0; i < SPEED_TIMES; i++) {
        struct speed_cost cost;
        TRY(speed_once(e, &t, (uint64_t)i, NULL, &cost, err));
        if (cost.seconds > 0 && SPEED_TOKENS / cost.seconds > *out) *out = SPEED_TOKENS / cost.seconds;
    }
    return STRETTO_OK;
}

static stretto_status open_model(const struct judge *j, const char *path, struct model **m, struct error *err)
{
    struct model_open_options mo = { .device = j->device, .threads = j->o.threads, .cancel = j->o.cancel };
    return model_open(m, path, &mo, err);
}

/* The original is in memory for as long as this takes, and nothing else is. */
stretto_status judge_speed(struct judge *j, double *out, struct error *err)
{
    struct model *m = NULL;
    struct engine *e = NULL;
    *out = j->speed;
    if (j->speed > 0) return STRETTO_OK;
    original_sleep(j->original);
    mem_trim();
    stretto_status s = open_model(j, j->path, &m, err);
    if (s == STRETTO_OK) s = engine_for(j, m, &e, err);
    if (s == STRETTO_OK) s = speed_of(e, &j->speed, err);
    engine_close(e);
    model_close(m);
    *out = j->speed;
    return s;
}

static stretto_status read_original(struct judge *j, struct error *err)
{
    struct original_options o = { j->o.threads, j->o.progress, j->o.cancel };
    if (!j->original) TRY(original_open(&j->original, j->m, j->device, j->set, j->n, &o, err));
    return original_wake(j->original, err);
}

static stretto_status measure_text(struct judge *j, struct engine *e, size_t i, struct verdict *v, struct error *err)
{
    struct eval_rows rows = { 0 };
    struct eval_base base = original_base(j->original, i);
    stretto_status s = eval_divergence_from(&base, &e, 1, &j->set[i], j->o.cancel, &j->o.progress, &rows, err);
    if (s == STRETTO_OK) s = eval_kl(&rows, &v->text[i], err);
    if (s == STRETTO_OK) s = eval_rows_add(&v->rows, &rows, err);
    eval_rows_done(&rows);
    return s;
}

static stretto_status measure_with(struct judge *j, const struct model *m, bool speed, struct verdict *v,
                                   struct error *err)
{
    struct engine *e = NULL;
    TRY(engine_for(j, m, &e, err));
    stretto_status s = speed ? speed_of(e, &v->speed, err) : STRETTO_OK;
    if (s == STRETTO_OK) s = read_original(j, err);
    for (size_t i = 0; i < j->n && s == STRETTO_OK; i++) s = measure_text(j, e, i, v, err);
    if (s == STRETTO_OK) s = eval_kl(&v->rows, &v->all, err);
    original_sleep(j->original);
    engine_close(e);
    return s;
}

stretto_status judge_measure(struct judge *j, const char *path, bool speed, struct verdict *out, struct error *err)
{
    struct model *m = NULL;
    struct stat st;
    *out = (struct verdict){ 0 };
    TRY(open_model(j, path, &m, err));
    stretto_status s = measure_with(j, m, speed, out, err);
    if (s == STRETTO_OK && stat(path, &st) == 0) out->file_bytes = (uint64_t)st.st_size;
    model_close(m);
    if (s != STRETTO_OK) verdict_done(out);
    return s;
}

/* ---- caches --------------------------------------------------------------------------------- */

struct caches { struct engine *base, *e[EVAL_MODELS]; struct eval_rows rows[EVAL_MODELS]; size_t n; };

static stretto_status read_with(const struct judge *j, struct caches *c, struct error *err)
{
    for (size_t i = 0; i < j->n; i++) {
        struct eval_rows part[EVAL_MODELS] = { { 0 } };
        stretto_status s = eval_divergence(c->base, c->e, c->n, &j->set[i], j->o.cancel, &j->o.progress, part, err);
        for (size_t k = 0; k < c->n; k++) {
            if (s == STRETTO_OK) s = eval_rows_add(&c->rows[k], &part[k], err);
            eval_rows_done(&part[k]);
        }
        if (s != STRETTO_OK) return s;
    }
    return STRETTO_OK;
}

static stretto_status measure_caches(const struct judge *j, const struct model *m, struct caches *c,
                                     struct cache_verdict *out, struct error *err)
{
    TRY(engine_for(j, m, &c->base, err));
    for (size_t i = 0; i < c->n; i++) TRY(engine_with(j, m, out[i].type, &c->e[i], err));
    TRY(read_with(j, c, err));
    for (size_t i = 0; i < c->n; i++) {
        const struct engine_info *about = engine_about(c->e[i]);
        out[i].bytes = (double)about->pages / about->pool_tokens;
        TRY(eval_kl(&c->rows[i], &out[i].kl, err));
    }
    return STRETTO_OK;
}

stretto_status judge_caches(struct judge *j, const char *path, const enum cache_type *types, size_t n,
                            struct cache_verdict *out, struct error *err)
{
    struct model *m = NULL;
    struct caches c = { .n = n };
    if (n > EVAL_MODELS) return fail(err, STRETTO_E_ARG, "more than %d types of caches", EVAL_MODELS);
    for (size_t i = 0; i < n; i++) out[i] = (struct cache_verdict){ .type = types[i] };
    TRY(open_model(j, path, &m, err));
    stretto_status s = measure_caches(j, m, &c, out, err);
    for (size_t i = 0; i < n; i++) {
        engine_close(c.e[i]);
        eval_rows_done(&c.rows[i]);
    }
    engine_close(c.base);
    model_close(m);
    return s;
}
