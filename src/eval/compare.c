#include "eval/compare.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *word(const json_t *row, const char *key)
{
    const char *s = json_string_value(json_object_get(row, key));
    return s ? s : "";
}

static long long whole(const json_t *row, const char *key, long long otherwise)
{
    const json_t *v = json_object_get(row, key);
    return json_is_integer(v) ? (long long)json_integer_value(v) : otherwise;
}

/* Test, file (without its folder), cache, threads, and the device unless it is the CPU. */
static void name_row(const json_t *j, char *name, size_t size)
{
    const char *file = word(j, "model_filename"), *slash = strrchr(file, '/');
    long long prompt = whole(j, "n_prompt", 0), depth = whole(j, "n_depth", 0),
              sequences = whole(j, "n_parallel", 1);
    char test[96], more[64] = "";
    snprintf(test, sizeof test, "%s%lld", prompt ? "pp" : "tg",
             prompt ? prompt : whole(j, "n_gen", 0));
    if (depth || sequences != 1) snprintf(more, sizeof more, " @ d%lld x %lld", depth, sequences);
    const char *device = word(j, "device");
    bool cpu = !*device || strcmp(device, "cpu") == 0;
    snprintf(name, size, "%.40s%.60s, %.50s, %.8s, %lld threads%s%.40s", test, more,
             slash ? slash + 1 : file, word(j, "type_k"), whole(j, "n_threads", 0), cpu ? "" : ", ",
             cpu ? "" : device);
}

static stretto_status read_row(struct compare_row *r, const json_t *j, size_t at, struct error *err)
{
    const json_t *samples = json_object_get(j, "samples_ts");
    size_t n = json_array_size(samples);
    if (!json_is_array(samples) || n == 0 || n > COMPARE_SAMPLES)
        return fail(err, STRETTO_E_FORMAT,
                    "row %zu has no list of 1 to %d samples (samples_ts); the file must come from "
                    "'stretto bench -o json'",
                    at + 1, COMPARE_SAMPLES);
    name_row(j, r->name, sizeof r->name);
    double sum = 0, sum2 = 0, first = 0;
    for (size_t i = 0; i < n; i++) {
        double ts = json_number_value(json_array_get(samples, i));
        if (!(ts > 0) || !isfinite(ts))
            return fail(err, STRETTO_E_FORMAT,
                        "sample %zu of row %zu is not a speed: it must be a positive number", i + 1,
                        at + 1);
        /* Deviations from the first sample, so that squares lose no digits. */
        if (i == 0) first = log(ts);
        double x = log(ts) - first;
        sum += x;
        sum2 += x * x;
    }
    double mean = sum / (double)n, variance = n > 1 ? (sum2 - sum * mean) / (double)(n - 1) : 0;
    r->n = n;
    r->mean = first + mean;
    r->variance = variance > 0 ? variance : 0;
    r->speed = exp(r->mean);
    return STRETTO_OK;
}

static stretto_status read_rows(struct compare_file *f, const json_t *root, struct error *err)
{
    const json_t *rows = json_is_object(root) ? json_object_get(root, "rows") : root, *row;
    size_t n = json_array_size(rows), i;
    if (!json_is_array(rows) || n == 0 || n > COMPARE_ROWS)
        return fail(err, STRETTO_E_FORMAT,
                    "it has no list of 1 to %d rows; the file must come from 'stretto bench -o "
                    "json' or './dev bench --record'",
                    COMPARE_ROWS);
    f->rows = mem_zalloc(n, sizeof *f->rows);
    if (!f->rows) return fail(err, STRETTO_E_NOMEM, "out of memory");
    json_array_foreach(rows, i, row)
    {
        TRY(read_row(&f->rows[i], row, i, err));
        if (compare_find(f, f->rows[i].name))
            return fail(err, STRETTO_E_FORMAT, "two rows are the same test: %s", f->rows[i].name);
        f->n++;
    }
    return STRETTO_OK;
}

stretto_status compare_read(struct compare_file *out, const char *text, size_t size,
                            struct error *err)
{
    *out = (struct compare_file){0};
    if (size > COMPARE_BYTES)
        return fail(err, STRETTO_E_FORMAT, "%zu bytes; results have at most %d", size,
                    COMPARE_BYTES);
    json_t *root;
    TRY(json_tree(&root, text, size, JSON_TWICE_REFUSED, "the results", err));
    stretto_status s = read_rows(out, root, err);
    json_decref(root);
    if (s != STRETTO_OK) compare_done(out);
    return s;
}

void compare_done(struct compare_file *f)
{
    mem_free(f->rows);
    *f = (struct compare_file){0};
}

const struct compare_row *compare_find(const struct compare_file *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->rows[i].name, name) == 0) return &f->rows[i];
    return NULL;
}

/* The 97.5 % point of Student's t; degrees of freedom between two rows take the upper row, which is
 * the wider interval. */
static double student(double freedom)
{
    static const struct {
        double freedom, t;
    } table[] = {
        {1, 12.706}, {2, 4.303},  {3, 3.182},  {4, 2.776},   {5, 2.571},   {6, 2.447},
        {7, 2.365},  {8, 2.306},  {9, 2.262},  {10, 2.228},  {12, 2.179},  {15, 2.131},
        {20, 2.086}, {30, 2.042}, {60, 2.000}, {120, 1.980}, {1e9, 1.960},
    };
    double t = table[0].t;
    for (size_t i = 0; i < sizeof table / sizeof *table && table[i].freedom <= freedom; i++)
        t = table[i].t;
    return t;
}

struct compare_change compare_rows(const struct compare_row *a, const struct compare_row *b)
{
    double d = b->mean - a->mean;
    struct compare_change c = {.ratio = exp(d), .low = 0, .high = INFINITY};
    if (a->n < 2 || b->n < 2) return c;
    double va = a->variance / (double)a->n, vb = b->variance / (double)b->n, v = va + vb;
    double freedom =
        v > 0 ? v * v / (va * va / (double)(a->n - 1) + vb * vb / (double)(b->n - 1)) : 1e9;
    double half = student(freedom) * sqrt(v);
    c.low = exp(d - half);
    c.high = exp(d + half);
    c.known = true;
    c.slower = c.high < 1;
    c.faster = c.low > 1;
    return c;
}
