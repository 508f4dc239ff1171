/* stretto eval kl: models beside one that they are compared with, text by text and all together. */
#include "engine/engine.h"
#include "eval/eval.h"
#include "stretto/eval_command.h"
#include "stretto/experimental.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SETS = 17 };                     /* texts, and all of them together */

struct kl_run {
    const struct eval_options *o;
    struct texts texts;
    struct measured base, own[EVAL_MODELS];
    size_t n, sets;                     /* models; texts, and one more when there are several */
    struct eval_rows rows[SETS][EVAL_MODELS];
    struct eval_kl kl[SETS][EVAL_MODELS];
    struct eval_pair pair[SETS][EVAL_MODELS];      /* what the first model has more than this one */
    struct eval_pair previous[SETS][EVAL_MODELS];  /* what the one before it has more */
};

/* ---- measuring ------------------------------------------------------------------------------ */

static stretto_status measure_text(struct kl_run *r, size_t t, struct error *err)
{
    struct engine *e[EVAL_MODELS];
    for (size_t k = 0; k < r->n; k++) e[k] = r->own[k].engine;
    return eval_divergence(r->base.engine, e, r->n, &r->texts.set[t], &interrupted, &r->texts.hook, r->rows[t], err);
}

static stretto_status summarise(struct kl_run *r, size_t t, struct error *err)
{
    for (size_t k = 0; k < r->n; k++) TRY(eval_kl(&r->rows[t][k], &r->kl[t][k], err));
    for (size_t k = 1; k < r->n; k++) {
        TRY(eval_pair(&r->rows[t][k], &r->rows[t][0], &r->pair[t][k], err));
        TRY(eval_pair(&r->rows[t][k], &r->rows[t][k - 1], &r->previous[t][k], err));
    }
    return STRETTO_OK;
}

static stretto_status measure(struct kl_run *r, struct error *err)
{
    size_t n = r->texts.n;
    r->sets = n > 1 ? n + 1 : 1;
    for (size_t t = 0; t < n; t++) {
        TRY(measure_text(r, t, err));
        TRY(summarise(r, t, err));
        for (size_t k = 0; k < r->n && n > 1; k++) TRY(eval_rows_add(&r->rows[n][k], &r->rows[t][k], err));
    }
    return n > 1 ? summarise(r, n, err) : STRETTO_OK;
}

static const char *set_name(const struct kl_run *r, size_t t) { return t < r->texts.n ? r->texts.set[t].name : "all"; }

/* ---- JSON ----------------------------------------------------------------------------------- */

static json_t *figures(const struct eval_kl *k)
{
    return json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:I,s:I}",
                     "mean_kl", k->kl.value, "mean_kl_error", k->kl.error, "median_kl", k->median,
                     "p90_kl", k->p90, "p99_kl", k->p99, "p999_kl", k->p999, "max_kl", k->most,
                     "reverse_kl", k->back.value, "reverse_kl_error", k->back.error,
                     "same_top", k->same_top.value, "same_top_error", k->same_top.error,
                     "perplexity", k->perplexity, "base_perplexity", k->base_perplexity,
                     "log_ppl_ratio", k->log_ratio.value, "log_ppl_ratio_error", k->log_ratio.error,
                     "rms_p", k->rms_p, "tokens", (json_int_t)k->tokens, "windows", (json_int_t)k->windows);
}

static json_t *pair_figures(const struct eval_pair *p)
{
    return json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "mean_kl", p->kl.value, "mean_kl_error", p->kl.error,
                     "ratio", p->ratio.value, "ratio_error", p->ratio.error, "log_ppl_ratio", p->log_ratio.value,
                     "log_ppl_ratio_error", p->log_ratio.error, "same_top", p->same_top.value, "same_top_error",
                     p->same_top.error);
}

/* Of one model: all together, and where there are several texts, each of them. */
static json_t *model_figures(const struct kl_run *r, size_t k)
{
    size_t last = r->sets - 1;
    json_t *j = figures(&r->kl[last][k]), *texts = json_array();
    if (k) json_object_set_new(j, "model", json_string(r->own[k].name));
    if (k) json_object_set_new(j, "difference", pair_figures(&r->pair[last][k]));
    if (k) json_object_set_new(j, "difference_of_previous", pair_figures(&r->previous[last][k]));
    for (size_t t = 0; t < last; t++) {
        json_t *x = figures(&r->kl[t][k]);
        json_object_set_new(x, "text", json_string(set_name(r, t)));
        if (k) json_object_set_new(x, "difference", pair_figures(&r->pair[t][k]));
        if (k) json_object_set_new(x, "difference_of_previous", pair_figures(&r->previous[t][k]));
        json_array_append_new(texts, x);
    }
    if (last) json_object_set_new(j, "texts", texts);
    else json_decref(texts);
    return j;
}

static const char *cache_of(const struct measured *x, const char *type)
{
    const struct model *m = stretto_model_inside(x->model);
    if (strcmp(m->device->backend->name, "integer") == 0) return "int8";
    return m->reference ? "f32" : type ? type : "f16";
}

static void print_json(const struct kl_run *r)
{
    const char *type;
    cache_from("eval", &r->o->model, &type);
    json_t *j = model_figures(r, 0), *against = json_array();
    json_object_set_new(j, "cache", json_string(cache_of(&r->own[0], type)));
    json_object_set_new(j, "base_cache", json_string(cache_of(&r->base, type)));
    for (size_t k = 1; k < r->n; k++) json_array_append_new(against, model_figures(r, k));
    if (r->n > 1) json_object_set_new(j, "against", against);
    else json_decref(against);
    print_figures(j, true);
}

/* ---- a table -------------------------------------------------------------------------------- */

enum { NAME = 26, COLUMN = 20 };

static void cell(const char *text) { printf("%*s", COLUMN, text); }

static void number_cell(double v, double by)
{
    char text[40];
    snprintf(text, sizeof text, "%.5g", v * by);
    cell(text);
}

static void mean_cell(struct eval_mean m, double by)
{
    char text[60];
    snprintf(text, sizeof text, "%.5g \xc2\xb1 %.2g", m.value * by, m.error * by);
    printf("%*s", COLUMN + 1, text);    /* the sign is two bytes and one column */
}

static void line(const struct kl_run *r, size_t k, const char *name, size_t mean_at, size_t at, double by)
{
    printf("%-*s", NAME, name);
    for (size_t t = 0; t < r->sets; t++) {
        const char *x = (const char *)&r->kl[t][k];
        if (mean_at) mean_cell(*(const struct eval_mean *)(const void *)(x + mean_at), by);
        else number_cell(*(const double *)(const void *)(x + at), by);
    }
    putchar('\n');
}

static void pair_line(const struct kl_run *r, size_t k, const char *name, size_t at, double by)
{
    printf("%-*s", NAME, name);
    for (size_t t = 0; t < r->sets; t++)
        mean_cell(*(const struct eval_mean *)(const void *)((const char *)&r->pair[t][k] + at), by);
    putchar('\n');
}

#define MEAN(name, field, by) line(r, k, name, offsetof(struct eval_kl, field), 0, by)
#define PLAIN(name, field) line(r, k, name, 0, offsetof(struct eval_kl, field), 1)
static void print_model(const struct kl_run *r, size_t k)
{
    MEAN("KL(base || model), nats", kl, 1);
    PLAIN("  median", median);
    PLAIN("  90 %", p90);
    PLAIN("  99 %", p99);
    PLAIN("  99.9 %", p999);
    PLAIN("  largest", most);
    MEAN("KL(model || base), nats", back, 1);
    MEAN("same best token, %", same_top, 100);
    PLAIN("perplexity", perplexity);
    PLAIN("  of the base", base_perplexity);
    MEAN("ln of their ratio", log_ratio, 1);
    PLAIN("change of p(token), RMS", rms_p);
}
#undef MEAN
#undef PLAIN

static void print_pair(const struct kl_run *r, size_t k)
{
    printf("\n%s, what it has more than %s (paired by token)\n", r->own[0].name, r->own[k].name);
    pair_line(r, k, "KL(base || model), nats", offsetof(struct eval_pair, kl), 1);
    pair_line(r, k, "  as a ratio", offsetof(struct eval_pair, ratio), 1);
    pair_line(r, k, "same best token, %", offsetof(struct eval_pair, same_top), 100);
    pair_line(r, k, "ln of perplexities' ratio", offsetof(struct eval_pair, log_ratio), 1);
}

static void print_table(const struct kl_run *r)
{
    printf("%-*s", NAME, "");
    for (size_t t = 0; t < r->sets; t++) printf(" %*.*s", COLUMN - 1, COLUMN - 1, set_name(r, t));
    printf("\n%-*s", NAME, "tokens that count");
    for (size_t t = 0; t < r->sets; t++) {
        char text[64];
        snprintf(text, sizeof text, "%zu of %zu windows", r->kl[t][0].tokens, r->kl[t][0].windows);
        cell(text);
    }
    putchar('\n');
    for (size_t k = 0; k < r->n; k++) {
        if (r->n > 1) printf("\n%s\n", r->own[k].name);
        print_model(r, k);
    }
    for (size_t k = 1; k < r->n; k++) print_pair(r, k);
}

/* ---- the command ---------------------------------------------------------------------------- */

static int kl_open(struct kl_run *r)
{
    const struct eval_options *o = r->o;
    struct model_options base = o->model, own = o->model;
    if (o->base) {
        base.model = o->base;
        base.hf = NULL;
    }
    base.reference = o->base_reference;
    base.arithmetic = base.scales = NULL;
    base.adapters.n = 0;
    if (o->base_reference) base.type_k = base.type_v = NULL;
    int code = open_model("eval", &o->model, false, &r->own[0].model);
    if (code == EXIT_DONE) code = texts_open(&r->texts, o, r->own[0].model);
    if (code == EXIT_DONE) code = measured_open(&r->own[0], "eval", &o->model, r->texts.longest, 1, 0);
    if (code == EXIT_DONE) code = measured_open(&r->base, "eval", &base, r->texts.longest, 1, 0);
    r->n = 1;
    for (size_t i = 0; i < o->against.n && code == EXIT_DONE; i++) {
        own.model = o->against.v[i];
        own.hf = NULL;
        code = measured_open(&r->own[r->n++], "eval", &own, r->texts.longest, 1, 0);
    }
    return code;
}

static void kl_close(struct kl_run *r)
{
    for (size_t t = 0; t < SETS; t++)
        for (size_t k = 0; k < EVAL_MODELS; k++) eval_rows_done(&r->rows[t][k]);
    texts_close(&r->texts);
    measured_close(&r->base);
    for (size_t k = 0; k < EVAL_MODELS; k++) measured_close(&r->own[k]);
    free(r);
}

int eval_kl_run(const struct eval_options *o)
{
    if (!o->base == !o->base_reference)
        return command_usage("eval", "kl compares with --base MODEL or with --base-reference; give one of them");
    if (o->against.n >= EVAL_MODELS)
        return command_usage("eval", "--against takes %d models at most", EVAL_MODELS - 1);
    struct kl_run *r = calloc(1, sizeof *r);
    if (!r) return command_fail("eval", STRETTO_E_NOMEM, NULL);
    struct error err = { 0 };
    r->o = o;
    int code = kl_open(r);
    if (code == EXIT_DONE) {
        stretto_status s = measure(r, &err);
        ui_progress_break(&r->texts.ui);
        if (s != STRETTO_OK) code = command_fail("eval", s, err.text);
        else if (o->json) print_json(r);
        else print_table(r);
    }
    kl_close(r);
    return code;
}
