/* stretto squeeze --sweep: several types, each written, measured and removed again. */
#include "stretto/squeeze_command.h"
#include "ui/progress.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print_line(const char *type, double bits, const struct verdict *v)
{
    const struct eval_kl *k = &v->all;
    printf("  %-8s %9.2f MB  %6.2f  %7.4f +- %.4f  %7.4f  %5.1f %%  %8.3f  %8.1f\n", type, (double)v->file_bytes / 1e6,
           bits, k->kl.value, k->kl.error, k->p99, 100 * k->same_top.value, k->perplexity, v->speed);
    fflush(stdout);
}

static json_t *line_json(const char *type, double bits, const struct verdict *v)
{
    const struct eval_kl *k = &v->all;
    return json_pack("{s:s,s:I,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "type", type, "bytes", (json_int_t)v->file_bytes,
                     "bits", bits, "kl", k->kl.value, "kl_error", k->kl.error, "p99", k->p99, "back", k->back.value,
                     "same_top", k->same_top.value, "perplexity", k->perplexity, "base_perplexity", k->base_perplexity,
                     "tokens_per_second", v->speed);
}

static stretto_status sweep_one(struct squeeze_result *r, const char *type, const char *path, struct verdict *v,
                                struct error *err)
{
    TRY(squeeze_plan(r->squeeze, type, err));
    TRY(squeeze_name(r->squeeze, type, err));
    unlink(path);
    TRY(squeeze_write(r->squeeze, path, err));
    stretto_status s = judge_measure(r->judge, path, true, v, err);
    unlink(path);
    return s;
}

int sweep_check(const char *words)
{
    char list[400], *save;
    if (strcmp(words, "all") == 0) return EXIT_DONE;
    if (strlen(words) >= sizeof list) return command_usage("squeeze", "--sweep names too many types");
    strcpy(list, words);
    char *w = strtok_r(list, ",|", &save);
    if (!w) return command_usage("squeeze", "--sweep takes types as q4_0,q5_0, or all");
    for (; w; w = strtok_r(NULL, ",|", &save))
        if (!mixture_find(w))
            return command_usage("squeeze", "--sweep: there is no type '%s'; take some of %s", w, mixture_words());
    return EXIT_DONE;
}

stretto_status squeeze_sweep(struct squeeze_result *r, const char *words, bool json, json_t **out, struct error *err)
{
    char list[400], path[4200], *save;
    json_t *all = json_array();
    stretto_status s = STRETTO_OK;
    snprintf(list, sizeof list, "%s", strcmp(words, "all") == 0 ? mixture_words() : words);
    if (!json)
        printf("  %-8s %12s  %6s  %-17s  %7s  %7s  %8s  %8s\n", "type", "file", "bits", "  KL, nats", "99 %", "top",
               "ppl", "tokens/s");
    for (char *w = strtok_r(list, ",|", &save); w && s == STRETTO_OK; w = strtok_r(NULL, ",|", &save)) {
        struct verdict v = { .file_bytes = 0 };
        if (strcmp(words, "all") == 0 && (!mixture_find(w) || dtype_table[mixture_find(w)->type].block == 1)) continue;
        snprintf(path, sizeof path, "%s.sweep-%s", r->out, w);
        s = sweep_one(r, w, path, &v, err);
        if (s == STRETTO_OK && !json) print_line(w, squeeze_bits(r->squeeze, true), &v);
        if (s == STRETTO_OK) json_array_append_new(all, line_json(w, squeeze_bits(r->squeeze, true), &v));
        verdict_done(&v);
    }
    *out = s == STRETTO_OK ? json_pack("{s:s,s:O}", "in", r->in, "sweep", all) : NULL;
    if (json && *out) {
        json_dumpf(*out, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
        putchar('\n');
    }
    json_decref(all);
    return s;
}
