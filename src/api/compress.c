/* The public function that makes a model smaller. */
#include "stretto/compress.h"
#include "api/handles.h"
#include "base/file.h"
#include "base/memory.h"
#include "compress/reach.h"
#include "compress/squeeze.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { FILES = 16, WINDOWS = 8 };

struct job {
    stretto_squeeze_options o;
    struct text_file learn[FILES], test[FILES];
    struct file_map maps[2 * FILES];
    size_t n_test, n_maps;
    struct squeeze *s;
    struct judge *j;
    struct verdict v;
};

static void on_progress(void *ud, const char *what, uint64_t done, uint64_t total)
{
    const struct job *x = ud;
    x->o.progress(x->o.user, what, done, total);
}

static void on_log(void *ud, enum log_level level, const char *text)
{
    const struct job *x = ud;
    (void)level;
    x->o.log(x->o.user, text);
}

static struct progress progress_of(struct job *x)
{
    return (struct progress){ .tell = x->o.progress ? on_progress : NULL, .ud = x };
}

static stretto_status read_files(struct job *x, const char *const *paths, struct text_file *out, size_t *n,
                                 struct error *err)
{
    for (*n = 0; paths && paths[*n]; ++*n) {
        if (*n == FILES) return fail(err, STRETTO_E_ARG, "more than %d texts", FILES);
        struct file_map *m = &x->maps[x->n_maps];
        TRY(file_map_open(m, paths[*n], err));
        x->n_maps++;
        const char *slash = strrchr(paths[*n], '/'), *text = (const char *)m->data;
        size_t blank = 0;
        while (blank < m->size && strchr(" \t\r\n", text[blank])) blank++;
        out[*n] = (struct text_file){ slash ? slash + 1 : paths[*n], text ? text : "", m->size,
                                      blank < m->size && text[blank] == '{' };
    }
    return STRETTO_OK;
}

static stretto_status method_of(const char *word, enum encode_method *out, struct error *err)
{
    static const char *const words[] = { "plain", "search", "feedback" };
    static const enum encode_method methods[] = { ENCODE_PLAIN, ENCODE_SEARCH, ENCODE_FEEDBACK };
    *out = ENCODE_FEEDBACK;
    for (size_t i = 0; i < 3; i++)
        if (!word || strcmp(word, words[i]) == 0) {
            if (word) *out = methods[i];
            return STRETTO_OK;
        }
    return fail(err, STRETTO_E_ARG, "there is no method '%s'; take plain, search or feedback", word);
}

static bool has_goal(const stretto_squeeze_options *o)
{
    return o->bytes || o->bits > 0 || o->kl > 0 || o->tokens_per_second > 0;
}

static stretto_status open_squeeze(struct job *x, const char *model, struct error *err)
{
    const stretto_squeeze_options *o = &x->o;
    struct squeeze_options q = {
        .type = has_goal(o) ? "q2_k" : o->type ? o->type : "q4_k_m",
        .output_type = o->output_type, .embedding_type = o->embedding_type,
        .keep = o->keep, .texts = x->learn, .tokens = (size_t)o->tokens, .sequential = o->sequential != 0,
        .requantize = o->requantize != 0, .force = o->replace != 0, .threads = o->threads,
        .progress = progress_of(x), .cancel = o->cancel,
        .log = { .say = o->log ? on_log : NULL, .ud = x, .least = LOG_INFO } };
    TRY(method_of(o->method, &q.method, err));
    TRY(read_files(x, o->texts, x->learn, &q.n_texts, err));
    TRY(read_files(x, o->tests, x->test, &x->n_test, err));
    while (o->keep && o->keep[q.n_keep]) q.n_keep++;
    return squeeze_open(&x->s, model, &q, err);
}

static stretto_status prove(struct job *x, const char *model, const char *out, stretto_squeeze_report *r,
                            struct error *err)
{
    struct judge_options j = { .texts = x->test, .n_texts = x->n_test, .threads = x->o.threads,
                               .windows = x->o.windows ? x->o.windows : WINDOWS,
                               .part = has_goal(&x->o) ? JUDGE_PROOF : JUDGE_ALL, .progress = progress_of(x),
                               .cancel = x->o.cancel };
    struct reach_from from = { model, &j };
    struct reach_goal g = { .bytes = (double)x->o.bytes, .bits = x->o.bits, .kl = x->o.kl,
                            .speed = x->o.tokens_per_second };
    struct exchange table[EXCHANGES];
    if (!has_goal(&x->o) && (x->o.no_proof || squeeze_model(x->s)->graph.logits == GRAPH_NONE)) return STRETTO_OK;
    struct margin kl;
    if (has_goal(&x->o)) TRY(squeeze_reach(x->s, &from, &g, out, table, &kl, err));
    TRY(judge_open(&x->j, model, &j, err));
    TRY(judge_speed(x->j, &r->speed_before, err));
    TRY(judge_measure(x->j, out, true, &x->v, err));
    if (has_goal(&x->o)) squeeze_reached(out);
    const struct eval_kl *k = &x->v.all;
    r->tokens = k->tokens;
    r->kl = k->kl.value;
    r->kl_error = k->kl.error;
    r->kl_back = k->back.value;
    r->kl_median = k->median;
    r->kl_p99 = k->p99;
    r->same_top = k->same_top.value;
    r->perplexity_before = k->base_perplexity;
    r->perplexity = k->perplexity;
    r->speed = x->v.speed;
    return STRETTO_OK;
}

static uint64_t file_bytes(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static bool is_same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static stretto_status run(struct job *x, const char *model, const char *out, stretto_squeeze_report *r,
                          struct error *err)
{
    if (is_same_file(model, out))
        return fail(err, STRETTO_E_ARG, "%s is the model itself, which the result is compared with", out);
    TRY(open_squeeze(x, model, err));
    r->bytes_before = file_bytes(model);
    if (!has_goal(&x->o)) TRY(squeeze_write(x->s, out, err));
    else if (!x->o.replace && file_bytes(out)) return fail(err, STRETTO_E_ARG, "%s is there already", out);
    TRY(prove(x, model, out, r, err));
    r->bytes = file_bytes(out);
    r->bits_before = squeeze_bits(x->s, false);
    r->bits = squeeze_bits(x->s, true);
    return STRETTO_OK;
}

/* What fits into the caller's struct, which may be an older, shorter one. */
static void give(stretto_squeeze_report *theirs, const stretto_squeeze_report *ours)
{
    size_t size = theirs->size < sizeof *ours ? theirs->size : sizeof *ours;
    if (size <= sizeof size) return;
    memcpy((char *)theirs + sizeof size, (const char *)ours + sizeof size, size - sizeof size);
}

stretto_status stretto_squeeze(const char *model, const char *out, const stretto_squeeze_options *opt,
                               stretto_squeeze_report *result, char *err, size_t err_size)
{
    struct error e = { 0 };
    stretto_squeeze_report r = { 0 };
    if (!model || !out)
        return report(fail(&e, STRETTO_E_ARG, "a model and a file to write are needed"), &e, err, err_size);
    struct job *x = mem_zalloc(1, sizeof *x);
    if (!x) return report(STRETTO_E_NOMEM, &e, err, err_size);
    x->o = (stretto_squeeze_options)STRETTO_SQUEEZE_OPTIONS_INIT;
    stretto_status s = options_take(&x->o, sizeof x->o, opt, &e);
    if (s == STRETTO_OK) s = run(x, model, out, &r, &e);
    if (s == STRETTO_OK && result) give(result, &r);
    verdict_done(&x->v);
    judge_close(x->j);
    squeeze_close(x->s);
    for (size_t i = 0; i < x->n_maps; i++) file_map_close(&x->maps[i]);
    mem_free(x);
    return report(s, &e, err, err_size);
}
