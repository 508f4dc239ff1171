#include "stretto/report.h"
#include "base/file.h"
#include "base/json_tree.h"
#include "compress/squeeze.h"
#include "eval/choices.h"
#include "format/source.h"
#include "stretto/command.h"
#include "ui/progress.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- small things ---------------------------------------------------------------------------- */

void report_text(FILE *f, const char *text, size_t most)
{
    for (size_t i = 0; text[i] && (!most || i < most); i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '<') fputs("&lt;", f);
        else if (c == '>') fputs("&gt;", f);
        else if (c == '&') fputs("&amp;", f);
        else if (c == '"') fputs("&quot;", f);
        else if (c >= 0x20 && c != 0x7f) fputc(c, f);
    }
}

double report_number(const json_t *j, const char *key)
{
    double v = json_number_value(json_object_get(j, key));
    return isfinite(v) ? v : 0;
}

const char *report_word(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

const char *report_bytes(char text[32], double bytes)
{
    const char *unit[] = { "B", "kB", "MB", "GB", "TB" };
    size_t u = 0;
    for (; bytes >= 1000 && u < 4; u++) bytes /= 1000;
    snprintf(text, 32, u == 0 || bytes >= 999.5 ? "%.0f %s" : bytes >= 99.95 ? "%.0f %s" : "%.1f %s", bytes, unit[u]);
    return text;
}

const json_t *report_formats_of(const json_t *report)
{
    const json_t *formats = json_object_get(report, "formats");
    return formats ? formats : json_object_get(report, "sweep");
}

const char *report_name(const json_t *format)
{
    const char *name = report_word(format, "name");
    return *name ? name : report_word(format, "type");
}

static bool has(const json_t *j, const char *key) { return report_number(j, key) > 0; }

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* ---- the page -------------------------------------------------------------------------------- */

static void tile(FILE *f, const char *name, const char *value, const char *note)
{
    fprintf(f, "<div class=\"tile\"><b>%s</b><span>%s</span><i>", value, name);
    report_text(f, note, 0);
    fputs("</i></div>\n", f);
}

static void tiles(FILE *f, const json_t *r)
{
    char a[32], b[32], value[80], note[120];
    const json_t *all = json_object_get(r, "all"), *task = json_object_get(r, "task");
    double from = report_number(r, "from_bytes"), bytes = report_number(r, "bytes");
    fputs("<div class=\"tiles\">\n", f);
    if (bytes > 0) {
        if (from > 0) snprintf(note, sizeof note, "%.1f %% of %s", 100 * bytes / from, report_bytes(b, from));
        tile(f, "file", report_bytes(a, bytes), from > 0 ? note : "");
    }
    if (has(r, "bits")) {
        snprintf(value, sizeof value, "%.2f", report_number(r, "bits"));
        note[0] = '\0';
        if (has(r, "from_bits")) snprintf(note, sizeof note, "of %.2f", report_number(r, "from_bits"));
        tile(f, "bits a weight", value, note);
    }
    if (has(all, "tokens")) {
        snprintf(value, sizeof value, "%.4f", report_number(all, "kl"));
        snprintf(note, sizeof note, "\xc2\xb1 %.4f, of %.0f tokens that were not learned from",
                 report_number(all, "kl_error"), report_number(all, "tokens"));
        tile(f, "KL divergence, nats a token", value, note);
        snprintf(value, sizeof value, "%.1f %%", 100 * report_number(all, "same_top"));
        snprintf(note, sizeof note, "perplexity %.2f, was %.2f", report_number(all, "perplexity"),
                 report_number(all, "base_perplexity"));
        tile(f, "same best token", value, note);
    }
    if (has(r, "tokens_per_second")) {
        double was = report_number(r, "from_tokens_per_second"), now = report_number(r, "tokens_per_second");
        snprintf(value, sizeof value, "%.1f", now);
        note[0] = '\0';
        if (was > 0) snprintf(note, sizeof note, "\xc3\x97 %.2f of %.1f", now / was, was);
        tile(f, "tokens a second", value, note);
    }
    if (has(task, "tasks")) {
        snprintf(value, sizeof value, "%.1f %%", 100 * report_number(task, "accuracy"));
        snprintf(note, sizeof note, "95 %%: %.1f to %.1f%s%.1f", 100 * report_number(task, "low"),
                 100 * report_number(task, "high"), "; was ", 100 * report_number(task, "base_accuracy"));
        tile(f, *report_word(task, "name") ? report_word(task, "name") : "task", value, note);
    }
    fputs("</div>\n", f);
}

static void picture(FILE *f, const json_t *r, const char *title, const char *note,
                    double (*draw)(FILE *, const json_t *, double))
{
    char *text = NULL;
    size_t n = 0;
    FILE *m = open_memstream(&text, &n);
    double high = m ? draw(m, r, 0) : 0;
    if (m) fclose(m);
    if (high > 0 && text)
        fprintf(f, "<section><h2>%s</h2>\n<p>%s</p>\n<svg viewBox=\"0 0 %d %.0f\" role=\"img\" "
                "aria-label=\"%s\">\n%s</svg></section>\n", title, note, REPORT_WIDTH, high, title, text);
    free(text);
}

static void cell(FILE *f, const char *format, double v)
{
    fputs("<td>", f);
    fprintf(f, format, v);
    fputs("</td>", f);
}

static void text_row(FILE *f, const json_t *t)
{
    fputs("<tr><th>", f);
    report_text(f, report_word(t, "text"), 60);
    fprintf(f, "</th><td>%.0f</td><td>%.4f \xc2\xb1 %.4f</td>", report_number(t, "tokens"), report_number(t, "kl"),
            report_number(t, "kl_error"));
    cell(f, "%.4f", report_number(t, "median"));
    cell(f, "%.3f", report_number(t, "p90"));
    cell(f, "%.3f", report_number(t, "p99"));
    cell(f, "%.4f", report_number(t, "back"));
    cell(f, "%.1f %%", 100 * report_number(t, "same_top"));
    cell(f, "%.3f", report_number(t, "base_perplexity"));
    cell(f, "%.3f", report_number(t, "perplexity"));
    fprintf(f, "<td>%+.4f \xc2\xb1 %.4f</td></tr>\n", report_number(t, "log_ppl_ratio"),
            report_number(t, "log_ppl_ratio_error"));
}

static void text_table(FILE *f, const json_t *r)
{
    const json_t *texts = json_object_get(r, "texts"), *all = json_object_get(r, "all");
    size_t i;
    json_t *t;
    if (!has(all, "tokens") && !json_array_size(texts)) return;
    fputs("<section><h2>Beside the original, on texts that were not learned from</h2>\n<p>KL(original || new): how far "
          "the new model's probabilities of the next token are from the original's (Kullback-Leibler divergence), in "
          "nats, mean over tokens with its standard error; <em>back</em>: the other way round. Perplexities of a "
          "text can fall although the models "
          "drift apart; KL cannot.</p>\n<div class=\"wide\"><table><thead><tr><th>text</th><th>tokens</th><th>KL</th>"
          "<th>median</th><th>90 %</th><th>99 %</th><th>back</th><th>same best</th><th>perplexity was</th><th>is</th>"
          "<th>ln of the ratio</th></tr></thead><tbody>\n", f);
    json_array_foreach(texts, i, t) text_row(f, t);
    if (has(all, "tokens") && json_array_size(texts) != 1) text_row(f, all);
    fputs("</tbody></table></div></section>\n", f);
}

static void cache_section(FILE *f, const json_t *r)
{
    const json_t *caches = json_object_get(r, "caches");
    size_t i;
    json_t *c;
    if (!json_array_size(caches)) return;
    fputs("<section><h2>Caches of keys and values</h2>\n<p>What each adds to this file with a cache of float32.</p>\n"
          "<div class=\"wide\"><table><thead><tr><th>cache</th><th>bytes a token</th><th>KL</th><th>99 %</th>"
          "<th>same best</th></tr></thead><tbody>\n", f);
    json_array_foreach(caches, i, c) {
        bool best = strcmp(report_word(c, "type"), report_word(r, "cache")) == 0;
        fputs(best ? "<tr class=\"own\"><th>" : "<tr><th>", f);
        report_text(f, report_word(c, "type"), 20);
        fprintf(f, "%s</th><td>%.0f</td><td>%.4f \xc2\xb1 %.4f</td>", best ? ", recommended" : "",
                report_number(c, "bytes"), report_number(c, "kl"), report_number(c, "kl_error"));
        cell(f, "%.3f", report_number(c, "p99"));
        cell(f, "%.1f %%", 100 * report_number(c, "same_top"));
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div></section>\n", f);
}

static void task_words(const json_t *r, char *out, size_t cap)
{
    const json_t *t = json_object_get(r, "task");
    snprintf(out, cap, "Bars are 95 %% intervals. %.0f answers are others: %.0f were right and are wrong, %.0f were "
             "wrong and are right; models as good as each other differ so with p = %.2g (McNemar's test).",
             report_number(t, "flips"), report_number(t, "right_to_wrong"), report_number(t, "wrong_to_right"),
             report_number(t, "mcnemar_p"));
}

static void format_table(FILE *f, const json_t *r)
{
    const json_t *formats = report_formats_of(r);
    size_t i;
    json_t *x;
    char b[32];
    if (!json_array_size(formats)) return;
    fputs("<details><summary>The figures</summary><div class=\"wide\"><table><thead><tr><th>format</th>"
          "<th>written by</th><th>bytes</th><th>KL</th><th>tokens a second</th></tr></thead><tbody>\n", f);
    json_array_foreach(formats, i, x) {
        fputs(json_is_true(json_object_get(x, "this")) ? "<tr class=\"own\"><th>" : "<tr><th>", f);
        report_text(f, report_name(x), 60);
        fputs("</th><td>", f);
        report_text(f, *report_word(x, "by") ? report_word(x, "by") : "stretto", 60);
        fprintf(f, "</td><td>%s</td><td>%.4f \xc2\xb1 %.4f</td><td>", report_bytes(b, report_number(x, "bytes")),
                report_number(x, "kl"), report_number(x, "kl_error"));
        if (has(x, "tokens_per_second")) fprintf(f, "%.1f", report_number(x, "tokens_per_second"));
        fputs("</td></tr>\n", f);
    }
    fputs("</tbody></table></div></details>\n", f);
}

static void tensor_table(FILE *f, const json_t *r)
{
    const json_t *tensors = json_object_get(r, "tensors");
    size_t i;
    json_t *t;
    char a[32], b[32];
    if (!json_array_size(tensors)) return;
    fprintf(f, "<section><details><summary>All %zu tensors</summary><div class=\"wide\"><table><thead><tr>"
            "<th>tensor</th><th>was</th><th>is</th><th>bytes were</th><th>are</th><th>error of its answers</th></tr>"
            "</thead><tbody>\n",
            json_array_size(tensors));
    json_array_foreach(tensors, i, t) {
        const json_t *e = json_object_get(t, "error");
        fputs("<tr><th>", f);
        report_text(f, report_word(t, "name"), 120);
        fputs("</th><td>", f);
        report_text(f, report_word(t, "from"), 20);
        fputs("</td><td>", f);
        report_text(f, report_word(t, "to"), 20);
        fprintf(f, "</td><td>%s</td><td>%s</td><td>", report_bytes(a, report_number(t, "from_bytes")),
                report_bytes(b, report_number(t, "bytes")));
        if (has(e, "whole")) fprintf(f, "%.3g %%", 100 * report_number(e, "kept") / report_number(e, "whole"));
        fputs("</td></tr>\n", f);
    }
    fputs("</tbody></table></div></details></section>\n", f);
}

static void page(FILE *f, const json_t *r)
{
    const char *name = last_part(*report_word(r, "out") ? report_word(r, "out") : report_word(r, "in"));
    fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
          "content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>", f);
    report_text(f, name, 120);
    fputs("</title>\n<style>\n", f);
    report_style(f, true);
    fputs("</style>\n</head>\n<body>\n<h1>", f);
    report_text(f, *name ? name : "A squeezed model", 120);
    fputs("</h1>\n<p class=\"sub\">", f);
    if (*report_word(r, "in")) {
        fputs("from ", f);
        report_text(f, last_part(report_word(r, "in")), 120);
    }
    if (*report_word(r, "goal")) {
        fputs(*report_word(r, "in") ? ", as " : "as ", f);
        report_text(f, report_word(r, "goal"), 200);
    }
    char b[32];
    if (has(r, "seconds")) fprintf(f, "; in %.0f s", report_number(r, "seconds"));
    if (has(r, "peak_bytes"))
        fprintf(f, ", with %s of memory at most", report_bytes(b, report_number(r, "peak_bytes")));
    fputs("</p>\n", f);
    tiles(f, r);
    picture(f, r, "Formats beside each other",
            "Lower is nearer to the original. The line joins those that nothing beats in both.", report_formats);
    format_table(f, r);
    picture(f, r, "Divergence by text", "The bar is twice the standard error to both sides.", report_texts);
    text_table(f, r);
    cache_section(f, r);
    char about[300];
    task_words(r, about, sizeof about);
    picture(f, r, "Tasks that both solved", about, report_task);
    picture(f, r, "Where the bytes are", "By kind of weight and type.", report_types);
    tensor_table(f, r);
    fputs("<footer>written by stretto squeeze</footer>\n</body>\n</html>\n", f);
}

/* ---- a picture alone ------------------------------------------------------------------------- */

static void svg(FILE *f, const json_t *r)
{
    double high = 0;
    char *text = NULL;
    size_t n = 0;
    FILE *m = open_memstream(&text, &n);
    if (!m) return;
    const char *name = last_part(*report_word(r, "out") ? report_word(r, "out") : report_word(r, "in"));
    fputs("<text x=\"24\" y=\"36\" class=\"title\">", m);
    report_text(m, *name ? name : "Formats", 90);
    fputs("</text>\n", m);
    high = 52;
    high += report_formats(m, r, high);
    high += report_texts(m, r, high);
    high += report_task(m, r, high);
    high += report_types(m, r, high);
    fclose(m);
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%.0f\" "
            "viewBox=\"0 0 %d %.0f\">\n<style>\n", REPORT_WIDTH, high + 8, REPORT_WIDTH, high + 8);
    report_style(f, false);
    fprintf(f, "</style>\n<rect class=\"paper\" width=\"100%%\" height=\"100%%\"/>\n%s</svg>\n", text);
    free(text);
}

/* ---- files ----------------------------------------------------------------------------------- */

static bool ends_in(const char *path, const char *end)
{
    size_t n = strlen(path), k = strlen(end);
    return n > k && strcmp(path + n - k, end) == 0;
}

int report_name_check(const char *command, const char *path)
{
    return ends_in(path, ".html") || ends_in(path, ".json") || ends_in(path, ".svg")
               ? EXIT_DONE
               : command_usage(command, "a report is a page, a picture or figures: NAME.html, NAME.svg or "
                               "NAME.json, not '%s'", path);
}

int report_write(const char *command, const char *path, bool replace, const json_t *report)
{
    int code = report_name_check(command, path);
    if (code != EXIT_DONE) return code;
    struct error err = { 0 };
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (f && ends_in(path, ".json")) {
        json_dumpf(report, f, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
        fputc('\n', f);
    } else if (f && ends_in(path, ".svg")) svg(f, report);
    else if (f) page(f, report);
    bool ok = f && !ferror(f);
    if (f) ok &= fclose(f) == 0;
    stretto_status s = ok && text ? file_write(path, text, n, replace, &err)
                                  : fail(&err, STRETTO_E_NOMEM, "no memory for the report");
    free(text);
    return s == STRETTO_OK ? EXIT_DONE : command_fail(command, s, err.text);
}

/* The words of a report: of a JSON file, or those that a model's file carries. *map and *src hold them. */
static stretto_status report_words(const char *from, struct file_map *map, struct source **src, struct source_str *out,
                                   struct error *err)
{
    if (ends_in(from, ".json")) {
        TRY(file_map_open(map, from, err));
        *out = (struct source_str){ (const char *)map->data, map->size };
        return STRETTO_OK;
    }
    TRY(source_open(src, from, err));
    return source_string(*src, SQUEEZE_REPORT, out) && out->n
               ? STRETTO_OK
               : fail(err, STRETTO_E_FORMAT, "%s carries no report: a file that 'stretto squeeze' wrote and measured "
                      "does", from);
}

/* ---- the short form that files carry ---- */

static json_t *named(const json_t *row, const char *const *names, size_t n)
{
    json_t *j = json_object();
    for (size_t i = 0; i < n; i++) json_object_set(j, names[i], json_array_get(row, i));
    return j;
}

static void unfold_pair(json_t *r, const char *key, const char *was, const char *is)
{
    json_t *pair = json_object_get(r, key);
    if (!json_is_array(pair)) return;
    json_object_set(r, was, json_array_get(pair, 0));
    json_object_set(r, is, json_array_get(pair, 1));
}

static void unfold_task(json_t *r)
{
    static const char *const names[] = { "name", "tasks", "right", "base_right", "flips", "right_to_wrong",
                                         "wrong_to_right", "mcnemar_p" };
    json_t *row = json_object_get(r, "task");
    double low, high, n = json_number_value(json_array_get(row, 1));
    if (!json_is_array(row)) return;
    json_t *task = named(row, names, 8);
    for (int base = 0; base < 2 && n >= 1; base++) {
        double right = report_number(task, base ? "base_right" : "right");
        share_interval(right > 0 ? (size_t)fmin(right, n) : 0, (size_t)n, &low, &high);
        json_object_set_new(task, base ? "base_accuracy" : "accuracy", json_real(right / n));
        json_object_set_new(task, base ? "base_low" : "low", json_real(low));
        json_object_set_new(task, base ? "base_high" : "high", json_real(high));
    }
    json_object_set_new(r, "task", task);
}

void report_unfold(json_t *r)
{
    static const char *const names[] = { "text", "tokens", "windows", "kl", "kl_error", "median", "p90", "p99", "back",
                                         "same_top", "perplexity", "base_perplexity", "log_ppl_ratio",
                                         "log_ppl_ratio_error" };
    json_t *rows = json_object_get(r, "kl"), *cache = json_object_get(r, "cache"), *row;
    size_t i;
    if (!json_is_array(json_object_get(r, "bytes"))) return;
    unfold_pair(r, "bits", "from_bits", "bits");
    unfold_pair(r, "bytes", "from_bytes", "bytes");
    unfold_pair(r, "tps", "from_tokens_per_second", "tokens_per_second");
    json_t *texts = json_array();
    json_array_foreach(rows, i, row) {
        json_t *text = named(row, names, sizeof names / sizeof *names);
        if (i == 0) json_object_set_new(r, "all", text);
        else json_array_append_new(texts, text);
    }
    json_object_set_new(r, "texts", texts);
    json_object_del(r, "kl");
    json_object_del(r, "tps");
    if (json_is_array(cache)) json_object_set(r, "cache", json_array_get(cache, 0));
    unfold_task(r);
}

int report_of_file(const char *command, const char *from, const char *path, bool replace)
{
    struct file_map map = { 0 };
    struct source *src = NULL;
    struct source_str words = { 0 };
    struct error err = { 0 };
    json_t *j = NULL;
    int code = report_name_check(command, path);
    if (code != EXIT_DONE) return code;
    stretto_status s = report_words(from, &map, &src, &words, &err);
    while (words.n && !words.p[words.n - 1]) words.n--;                     /* the room that was kept for it */
    if (s == STRETTO_OK) s = json_tree(&j, words.p, words.n, JSON_TWICE_LAST, "the report", &err);
    if (s == STRETTO_OK) report_unfold(j);
    if (s == STRETTO_OK && !*report_word(j, "out") && !*report_word(j, "in"))
        json_object_set_new(j, "out", json_string(from));
    code = s == STRETTO_OK ? report_write(command, path, replace, j) : command_fail(command, s, err.text);
    json_decref(j);
    source_close(src);
    file_map_close(&map);
    return code;
}
