/* stretto bench --mix: what people wait for when requests arrive while others are being answered. Every
 * round serves the same requests twice, with prompts mixed into the others' steps and with prompts read
 * whole, in an order that turns. */
#include "eval/mix.h"
#include "stretto/bench.h"
#include "stretto/experimental.h"
#include "stretto/open.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT = 200, ANSWER = 64 };

struct side {                        /* mixed, or whole */
    double *seconds, *first, *gap;   /* of all rounds */
    size_t n_rounds, n_first, n_gaps;
};

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *v, size_t n, double q)
{
    if (!n) return 0;
    qsort(v, n, sizeof *v, ascending);
    size_t at = (size_t)(q * (double)(n - 1) + 0.5);
    return v[at];
}

static stretto_status one(struct engine *e, const struct mix_test *t, uint64_t seed, struct side *s,
                          struct error *err)
{
    struct mix_times times = { .first = s->first + s->n_first, .gap = s->gap + s->n_gaps };
    stretto_status st = mix_once(e, t, seed, &times, err);
    s->seconds[s->n_rounds++] = times.seconds;
    s->n_first += t->requests;
    s->n_gaps += times.n_gaps;
    return st;
}

static void print(const struct mix_bench *o, const struct mix_test *t, struct side *s)
{
    double tokens = (double)t->requests * ANSWER;
    double rate = tokens / quantile(s->seconds, s->n_rounds, 0.5);
    double first = quantile(s->first, s->n_first, 0.5), first95 = quantile(s->first, s->n_first, 0.95);
    double gap = quantile(s->gap, s->n_gaps, 0.5), gap95 = quantile(s->gap, s->n_gaps, 0.95);
    double longest = quantile(s->gap, s->n_gaps, 1);
    const char *way = t->whole ? "whole" : "mixed";
    if (strcmp(o->format, "json") == 0)
        json_array_append_new(o->rows, json_pack("{s:s,s:I,s:i,s:i,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "prompts", way,
                              "requests", (json_int_t)t->requests, "n_prompt", PROMPT, "n_gen", ANSWER,
                              "spread_s", t->spread, "avg_ts", rate, "first_s", first, "first_95_s", first95,
                              "gap_s", gap, "gap_95_s", gap95, "gap_longest_s", longest));
    else if (strcmp(o->format, "csv") == 0)
        printf("%u,%s,%.2f,%.5f,%.5f,%.5f,%.5f,%.5f\n", t->requests, way, rate, first, first95, gap,
               gap95, longest);
    else
        printf("| %u | %s | %.2f | %.1f | %.1f | %.2f | %.2f | %.2f |\n", t->requests, way, rate, first * 1e3,
               first95 * 1e3, gap * 1e3, gap95 * 1e3, longest * 1e3);
    fflush(stdout);
}

/* n requests arrive, evenly, while as many could be answered one after the other at twice the speed: so
 * they meet, and are not all there at once. */
static stretto_status measure(const struct mix_bench *o, struct engine *e, uint32_t n, double alone,
                              struct side side[2], struct error *err)
{
    struct mix_test t[2] = { { n, PROMPT, ANSWER, alone * n / 2, false },
                             { n, PROMPT, ANSWER, alone * n / 2, true } };
    stretto_status s = STRETTO_OK;
    for (int i = 0; i < 2; i++) side[i].n_rounds = side[i].n_first = side[i].n_gaps = 0;
    for (int64_t r = 0; r < o->repeat && s == STRETTO_OK; r++)
        for (int k = 0; k < 2 && s == STRETTO_OK; k++) {
            int which = (k + (int)(r & 1)) & 1;
            s = one(e, &t[which], (uint64_t)r + 7, &side[which], err);
        }
    for (int i = 0; i < 2 && s == STRETTO_OK; i++) print(o, &t[i], &side[i]);
    return s;
}

static stretto_status all(const struct mix_bench *o, struct engine *e, struct side side[2],
                          struct error *err)
{
    struct mix_test alone = { 1, PROMPT, ANSWER, 0, false };
    for (int i = 0; i < 2; i++) {                  /* the first time wakes things, and learns costs */
        side[0].n_rounds = side[0].n_first = side[0].n_gaps = 0;
        TRY(one(e, &alone, 3, &side[0], err));
    }
    double seconds = side[0].seconds[0];
    for (size_t i = 0; i < o->requests->n; i++)
        TRY(measure(o, e, (uint32_t)o->requests->v[i], seconds, side, err));
    return STRETTO_OK;
}

int bench_mix(const struct mix_bench *o, const stretto_model *m)
{
    uint32_t most = 1;
    for (size_t i = 0; i < o->requests->n; i++)
        if (o->requests->v[i] > most) most = (uint32_t)o->requests->v[i];
    struct model_options mo = *o->model;
    mo.context = PROMPT + ANSWER;
    stretto_engine_options eo;
    stretto_engine *engine;
    char words[600];
    struct error err = { 0 };
    int code = engine_options_from("bench", &mo, most, &eo);
    if (code != EXIT_DONE) return code;
    stretto_status s = stretto_engine_open(&engine, m, &eo, words, sizeof words);
    if (s != STRETTO_OK) return command_fail("bench", s, words);
    engine_cancel(stretto_engine_inside(engine), engine_flag_set, (void *)(uintptr_t)&interrupted);
    struct side side[2] = { { 0 }, { 0 } };
    size_t rounds = (size_t)o->repeat;
    bool ok = true;
    for (int i = 0; i < 2; i++) {
        side[i].seconds = calloc(rounds + 2, sizeof(double));
        side[i].first = calloc((rounds + 2) * most, sizeof(double));
        side[i].gap = calloc((rounds + 2) * most * ANSWER, sizeof(double));
        ok &= side[i].seconds && side[i].first && side[i].gap;
    }
    if (strcmp(o->format, "md") == 0)
        printf("| requests | prompts | t/s | first token ms | 95 %% | gap ms | 95 %% | longest |\n"
               "| --: | --- | --: | --: | --: | --: | --: | --: |\n");
    else if (strcmp(o->format, "csv") == 0)
        printf("requests,prompts,avg_ts,first_s,first_95_s,gap_s,gap_95_s,gap_longest_s\n");
    s = ok ? all(o, stretto_engine_inside(engine), side, &err)
           : fail(&err, STRETTO_E_NOMEM, "out of memory");
    if (s != STRETTO_OK) code = command_fail("bench", s, err.text);
    for (int i = 0; i < 2; i++) {
        free(side[i].seconds);
        free(side[i].first);
        free(side[i].gap);
    }
    stretto_engine_close(engine);
    return code;
}
