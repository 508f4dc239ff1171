/* Tables of `stretto squeeze`. */
#include "stretto/squeeze_command.h"
#include "ui/progress.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *bytes_text(char text[32], uint64_t n) { return ui_bytes(text, 32, n); }

/* The error of a weight's answers, as a share of them. */
static double share(const struct encode_report *e) { return e->whole > 0 ? e->kept / e->whole : 0; }

static void print_row(const char *name, size_t tensors, enum dtype from, enum dtype to, uint64_t before,
                      uint64_t after, bool measured, const struct encode_report *e)
{
    char a[32], b[32], error[32] = "";
    if (measured) snprintf(error, sizeof error, "%.3g %%", 100 * share(e));
    printf("  %-28s %4zu  %-6s -> %-6s %10s -> %10s  %9s\n", name, tensors, dtype_table[from].name,
           dtype_table[to].name, bytes_text(a, before), bytes_text(b, after), error);
}

static void print_groups(const struct squeeze_row *rows, size_t n)
{
    for (int role = 0; role < WEIGHT_ROLES; role++)
        for (int from = 0; from < DT_COUNT; from++)
            for (int to = 0; to < DT_COUNT; to++) {
                size_t tensors = 0;
                uint64_t before = 0, after = 0;
                struct encode_report sum = { 0 };
                bool measured = false;
                for (size_t i = 0; i < n; i++) {
                    const struct squeeze_row *r = &rows[i];
                    if ((int)r->role != role || (int)r->from != from || (int)r->to != to) continue;
                    tensors++;
                    before += row_bytes_as(r, r->from);
                    after += row_bytes_as(r, r->to);
                    measured = measured || r->measured;
                    sum.kept += r->error.kept;
                    sum.whole += r->error.whole;
                }
                if (tensors && role)
                    print_row(weight_role_names[role], tensors, (enum dtype)from, (enum dtype)to, before, after,
                              measured, &sum);
            }
}

void squeeze_print_plan(struct squeeze *s, bool every_tensor)
{
    size_t n;
    char a[32], b[32];
    const struct squeeze_row *rows = squeeze_rows(s, &n);
    printf("  %-28s %4s  %-6s    %-6s %10s    %10s  %9s\n", "weights", "", "from", "to", "bytes", "", "error");
    if (!every_tensor) print_groups(rows, n);
    for (size_t i = 0; i < n && every_tensor; i++)
        if (rows[i].role != WEIGHT_NONE)
            print_row(rows[i].name, 1, rows[i].from, rows[i].to, row_bytes_as(&rows[i], rows[i].from),
                      row_bytes_as(&rows[i], rows[i].to), rows[i].measured, &rows[i].error);
    printf("  all tensors: %s -> %s, %.2f -> %.2f bits a weight\n", bytes_text(a, squeeze_bytes(s, false)),
           bytes_text(b, squeeze_bytes(s, true)), squeeze_bits(s, false), squeeze_bits(s, true));
}

static void print_kl(const char *name, const struct eval_kl *k)
{
    printf("  %-16s %6zu  %7.4f +- %.4f  %7.4f  %6.3f  %7.4f   %5.1f %%  %8.3f -> %8.3f\n", name, k->tokens,
           k->kl.value, k->kl.error, k->median, k->p99, k->back.value, 100 * k->same_top.value, k->base_perplexity,
           k->perplexity);
}

static void print_proof(const struct squeeze_result *r)
{
    printf("\n  %-16s %6s  %-17s  %7s  %6s  %7s   %7s  %8s    %8s\n", "text (held out)", "tokens", "  KL, nats",
           "median", "99 %", "KL back", "same top", "perplexity", "");
    size_t n = judge_texts(r->judge);
    for (size_t i = 0; i < n; i++) print_kl(judge_text_name(r->judge, i), &r->verdict.text[i]);
    if (n > 1) print_kl("all", &r->verdict.all);
}

/* What each further megabyte buys. */
static void print_exchange(const struct exchange *e)
{
    printf("  %12s  %8s  %12s  (expected)\n", "file", "KL", "a MB buys");
    for (int i = 0; i < EXCHANGES; i++) {
        printf("  %9.2f MB  %8.4f", e[i].bytes / 1e6, e[i].kl);
        if (i && e[i].bytes > e[i - 1].bytes)
            printf("  %12.5f", (e[i - 1].kl - e[i].kl) / (e[i].bytes - e[i - 1].bytes) * 1e6);
        printf("\n");
    }
    printf("\n");
}

void squeeze_print(const struct squeeze_result *r)
{
    char a[32], b[32];
    if (r->has_exchange) print_exchange(r->exchange);
    squeeze_print_plan(r->squeeze, false);
    if (r->judge) print_proof(r);
    caches_print(r);
    if (r->judge && r->has_exchange)
        printf("  chosen by windows between these, which said %.4f, and %.4f at most\n", r->chosen.kl,
               r->chosen.kl + r->chosen.margin);
    printf("\n  %-20s %12s -> %12s  %5.1f %%\n", "file", bytes_text(a, r->in_bytes), bytes_text(b, r->out_bytes),
           r->in_bytes ? 100 * (double)r->out_bytes / (double)r->in_bytes : 0);
    if (r->plain_bytes)
        printf("  %-20s %12s -> %12s  %5.1f %%\n", "packed", bytes_text(a, r->plain_bytes), bytes_text(b, r->out_bytes),
               100 * (double)r->out_bytes / (double)r->plain_bytes);
    printf("  %-20s %12.2f -> %12.2f\n", "bits per weight", squeeze_bits(r->squeeze, false),
           squeeze_bits(r->squeeze, true));
    if (r->judge && r->verdict.speed > 0)
        printf("  %-20s %12.1f -> %12.1f  x %.2f\n", "tokens per second", r->base_speed, r->verdict.speed,
               r->verdict.speed / r->base_speed);
    if (r->task) task_print(r->task);
    printf("  %-20s %12s    in %.0f s\n", "memory at most", bytes_text(a, r->peak_bytes), r->seconds);
    printf("%s\n", r->out);
}

static double tidy(double v) { return isfinite(v) ? v : 0; }

static json_t *kl_json(const char *name, const struct eval_kl *k)
{
    return json_pack("{s:s,s:I,s:I,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "text", name, "tokens",
                     (json_int_t)k->tokens, "windows", (json_int_t)k->windows, "kl", tidy(k->kl.value), "kl_error",
                     tidy(k->kl.error), "median", tidy(k->median), "p90", tidy(k->p90), "p99", tidy(k->p99),
                     "back", tidy(k->back.value), "same_top", tidy(k->same_top.value), "perplexity",
                     tidy(k->perplexity), "base_perplexity", tidy(k->base_perplexity), "log_ppl_ratio",
                     tidy(k->log_ratio.value), "log_ppl_ratio_error", tidy(k->log_ratio.error));
}

static json_t *rows_json(struct squeeze *s)
{
    size_t n;
    const struct squeeze_row *rows = squeeze_rows(s, &n);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct squeeze_row *r = &rows[i];
        if (r->role == WEIGHT_NONE) continue;
        json_t *j = json_pack("{s:s,s:s,s:s,s:s,s:I,s:I}", "name", r->name, "role", weight_role_names[r->role], "from",
                              dtype_table[r->from].name, "to", dtype_table[r->to].name, "from_bytes",
                              (json_int_t)row_bytes_as(r, r->from), "bytes", (json_int_t)row_bytes_as(r, r->to));
        if (r->measured)
            json_object_set_new(j, "error", json_pack("{s:f,s:f,s:f,s:f}", "plain", tidy(r->error.plain), "searched",
                                                      tidy(r->error.searched), "kept", tidy(r->error.kept), "whole",
                                                      tidy(r->error.whole)));
        if (r->alone > 0) json_object_set_new(j, "alone_kl", json_real(r->alone));
        json_array_append_new(list, j);
    }
    return list;
}

/* ---- in the file ---------------------------------------------------------------------------- */

/* Rows of numbers without their names (report.h: report_unfold), for every byte makes the file larger. */
static json_t *kl_row(const char *name, const struct eval_kl *k)
{
    return json_pack("[s,I,I,f,f,f,f,f,f,f,f,f,f,f]", name, (json_int_t)k->tokens, (json_int_t)k->windows,
                     tidy(k->kl.value), tidy(k->kl.error), tidy(k->median), tidy(k->p90), tidy(k->p99),
                     tidy(k->back.value), tidy(k->same_top.value), tidy(k->perplexity), tidy(k->base_perplexity),
                     tidy(k->log_ratio.value), tidy(k->log_ratio.error));
}

static json_t *folded(const struct squeeze_result *r, bool texts)
{
    json_t *j = json_pack("{s:[f,f],s:[I,I]}", "bits", squeeze_bits(r->squeeze, false), squeeze_bits(r->squeeze, true),
                          "bytes", (json_int_t)r->in_bytes, (json_int_t)r->out_bytes);
    const struct cache_verdict *best = caches_best(r);
    if (r->judge) {
        json_t *rows = json_array();
        json_array_append_new(rows, kl_row("all", &r->verdict.all));
        for (size_t i = 0; i < judge_texts(r->judge) && texts; i++)
            json_array_append_new(rows, kl_row(judge_text_name(r->judge, i), &r->verdict.text[i]));
        json_object_set_new(j, "kl", rows);
        json_object_set_new(j, "tps", json_pack("[f,f]", tidy(r->base_speed), tidy(r->verdict.speed)));
    }
    if (best) json_object_set_new(j, "cache", json_pack("[s,f]", cache_type_name(best->type), best->kl.kl.value));
    if (r->task) json_object_set_new(j, "task", task_row(r->task));
    return j;
}

size_t squeeze_report_room(const struct squeeze_command *o, bool task, bool cache)
{
    size_t n = 100 + 2 * 95, texts = o->test.n ? o->test.n : 3;
    for (size_t i = 0; i < texts; i++) n += 95 + (o->test.n ? strlen(o->test.v[i]) : 10);
    return n + (task ? 90 : 0) + (cache ? 40 : 0);
}

char *squeeze_report(const struct squeeze_result *r, size_t room)
{
    char *text = NULL;
    for (int texts = 1; texts >= 0; texts--) {
        json_t *j = folded(r, texts);
        free(text);
        text = json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(4));
        json_decref(j);
        if (!text || strlen(text) <= room) break;
    }
    return text;
}

/* What files of other sizes are expected to diverge by, and this one: what the picture of a budget shows. */
static json_t *formats_json(const struct squeeze_result *r)
{
    json_t *list = json_array();
    char name[32];
    for (int i = 0; i < EXCHANGES; i++) {
        const struct exchange *e = &r->exchange[i];
        if (e->kl > 0)
            json_array_append_new(list, json_pack("{s:s,s:s,s:f,s:f}", "name", bytes_text(name, (uint64_t)e->bytes),
                                                  "by", "expected", "bytes", e->bytes, "kl", e->kl));
    }
    if (r->judge)
        json_array_append_new(list, json_pack("{s:s,s:s,s:f,s:f,s:f,s:b}", "name", "this file", "by", "stretto",
                                              "bytes", (double)(r->plain_bytes ? r->plain_bytes : r->out_bytes), "kl",
                                              tidy(r->verdict.all.kl.value), "kl_error",
                                              tidy(r->verdict.all.kl.error), "this", 1));
    return list;
}

/* ---- all of it ------------------------------------------------------------------------------ */

json_t *squeeze_json(const struct squeeze_result *r)
{
    json_t *j = json_pack("{s:f,s:f,s:I,s:I}", "bits", squeeze_bits(r->squeeze, true), "from_bits",
                          squeeze_bits(r->squeeze, false), "bytes", (json_int_t)r->out_bytes, "from_bytes",
                          (json_int_t)r->in_bytes);
    if (r->judge) {
        json_t *texts = json_array();
        for (size_t i = 0; i < judge_texts(r->judge); i++)
            json_array_append_new(texts, kl_json(judge_text_name(r->judge, i), &r->verdict.text[i]));
        json_object_set_new(j, "all", kl_json("all", &r->verdict.all));
        json_object_set_new(j, "texts", texts);
        json_object_set_new(j, "tokens_per_second", json_real(tidy(r->verdict.speed)));
        json_object_set_new(j, "from_tokens_per_second", json_real(tidy(r->base_speed)));
    }
    if (r->n_caches) json_object_set_new(j, "caches", caches_json(r));
    const struct cache_verdict *best = caches_best(r);
    if (best) json_object_set_new(j, "cache", json_string(cache_type_name(best->type)));
    if (r->plain_bytes) json_object_set_new(j, "plain_bytes", json_integer((json_int_t)r->plain_bytes));
    if (r->task) json_object_set(j, "task", r->task);
    if (r->out) json_object_set_new(j, "out", json_string(r->out));
    json_object_set_new(j, "in", json_string(r->in));
    json_object_set_new(j, "seconds", json_real(r->seconds));
    json_object_set_new(j, "peak_bytes", json_integer((json_int_t)r->peak_bytes));
    json_object_set_new(j, "tensors", rows_json(r->squeeze));
    json_t *exchange = json_array();
    for (int i = 0; i < EXCHANGES && r->has_exchange; i++)
        json_array_append_new(exchange, json_pack("{s:f,s:f}", "bytes", r->exchange[i].bytes, "expected_kl",
                                                  tidy(r->exchange[i].kl)));
    if (r->has_exchange) json_object_set_new(j, "chosen_by_kl", json_real(tidy(r->chosen.kl)));
    if (r->has_exchange) json_object_set_new(j, "chosen_by_margin", json_real(tidy(r->chosen.margin)));
    if (r->has_exchange) json_object_set_new(j, "formats", formats_json(r));
    if (r->has_exchange) json_object_set_new(j, "exchange", exchange);
    else json_decref(exchange);
    return j;
}
