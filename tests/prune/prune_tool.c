/* The arithmetic of pruning on numbers from standard input, for the checks in this folder.
 *   mask SCORE SHARE PATTERN TILES ROWS N SEEN   weight [rows][n], gram [n][n] -> the weight pruned
 *   refit DAMP KEPT ROWS N SEEN                  weight, gram, keep [kept] as uint32 -> [rows][kept], lost (float64)
 *   order DAMP GO ROWS N SEEN                     weight, gram -> which go (uint32 [go]), what it costs (float64)
 *   groups DAMP UNIT ROWS N SEEN                  weight, gram -> what each group costs as float64 [n / unit]
 *   split RANK ROWS N SEEN                        error, gram -> a [rank][n], b [rows][rank], gain (float64), whole
 * PATTERN as 2:4 or 0, TILES as 16x32 or 0; numbers are float32. */
#include "base/memory.h"
#include "compress/lowrank.h"
#include "compress/prune.h"
#include "compress/solve.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is taken stays until the end, and is not lost. */
static void *taken[32];

static void *take(size_t bytes)
{
    static size_t n;
    return n < sizeof taken / sizeof *taken ? taken[n++] = mem_alloc(bytes) : NULL;
}

static void *input(size_t bytes)
{
    void *p = take(bytes ? bytes : 1);
    if (!p || fread(p, 1, bytes, stdin) != bytes) exit(3);
    return p;
}

static struct input_stats stats(uint32_t n, uint64_t seen)
{
    struct input_stats s = { .n = n, .rows = seen, .sum2 = take(n * sizeof *s.sum2),
                             .gram = input((size_t)n * n * sizeof *s.gram) };
    for (size_t j = 0; j < n; j++) s.sum2[j] = (double)s.gram[j * n + j];
    return s;
}

static int say(stretto_status st, const struct error *err)
{
    if (st != STRETTO_OK) fprintf(stderr, "%s\n", err->text);
    return st != STRETTO_OK;
}

static int mask(char **a, struct workers *w, struct error *err)
{
    struct prune_options o;
    prune_defaults(&o);
    o.shrink = -1;      /* the papers' own */
    if (!prune_score_find(a[0], &o.score) || !prune_share(a[1], &o.sparsity)) return 2;
    if (strcmp(a[2], "0") && !prune_pattern(a[2], &o.keep, &o.of)) return 2;
    sscanf(a[3], "%ux%u", &o.tile_rows, &o.tile_columns);
    size_t rows = strtoul(a[4], NULL, 10);
    uint32_t n = (uint32_t)strtoul(a[5], NULL, 10);
    float *weight = input(rows * n * sizeof *weight);
    struct input_stats s = stats(n, strtoul(a[6], NULL, 10));
    struct prune *p;
    int rc = say(prune_open(&p, w, &s, n, &o, err), err) || say(prune_rows(p, weight, rows, NULL, err), err);
    if (rc == 0) fwrite(weight, sizeof *weight, rows * n, stdout);
    prune_close(p);
    return rc;
}

static int refit(char **a, struct workers *w, struct error *err)
{
    double damp = strtod(a[0], NULL), lost = 0;
    size_t kept = strtoul(a[1], NULL, 10), rows = strtoul(a[2], NULL, 10);
    uint32_t n = (uint32_t)strtoul(a[3], NULL, 10);
    float *weight = input(rows * n * sizeof *weight), *out = take(rows * kept * sizeof *out);
    struct input_stats s = stats(n, strtoul(a[4], NULL, 10));
    uint32_t *keep = input(kept * sizeof *keep);
    int rc = say(solve_refit(w, &s, weight, rows, keep, kept, damp, NULL, out, err), err)
             || say(solve_lost(w, &s, weight, rows, keep, kept, out, &lost, err), err);
    if (rc == 0) fwrite(out, sizeof *out, rows * kept, stdout);
    if (rc == 0) fwrite(&lost, sizeof lost, 1, stdout);
    return rc;
}

static int order(char **a, struct workers *w, struct error *err)
{
    size_t go = strtoul(a[1], NULL, 10), rows = strtoul(a[2], NULL, 10);
    uint32_t n = (uint32_t)strtoul(a[3], NULL, 10);
    float *weight = input(rows * n * sizeof *weight);
    struct input_stats s = stats(n, strtoul(a[4], NULL, 10));
    uint32_t *which = take(go * sizeof *which);
    double *lost = take(go * sizeof *lost);
    int rc = say(solve_order(w, &s, weight, rows, go, strtod(a[0], NULL), which, lost, err), err);
    if (rc == 0) fwrite(which, sizeof *which, go, stdout);
    if (rc == 0) fwrite(lost, sizeof *lost, go, stdout);
    return rc;
}

static int groups(char **a, struct workers *w, struct error *err)
{
    size_t unit = strtoul(a[1], NULL, 10), rows = strtoul(a[2], NULL, 10);
    uint32_t n = (uint32_t)strtoul(a[3], NULL, 10);
    float *weight = input(rows * n * sizeof *weight);
    struct input_stats s = stats(n, strtoul(a[4], NULL, 10));
    double *cost = take(n * sizeof *cost);
    int rc = say(solve_groups(w, &s, weight, rows, unit, strtod(a[0], NULL), cost, err), err);
    if (rc == 0) fwrite(cost, sizeof *cost, n / unit, stdout);
    return rc;
}

static int split(char **a, struct workers *w, struct error *err)
{
    uint32_t rank = (uint32_t)strtoul(a[0], NULL, 10), n = (uint32_t)strtoul(a[2], NULL, 10);
    size_t rows = strtoul(a[1], NULL, 10);
    float *e = input(rows * n * sizeof *e), *x = take(rank * n * sizeof *x);
    float *y = take(rank * rows * sizeof *y);
    struct input_stats s = stats(n, strtoul(a[3], NULL, 10));
    double *gain = take(rank * sizeof *gain), whole = 0;
    int rc = say(lowrank_split(w, &s, e, rows, rank, x, y, gain, &whole, err), err);
    if (rc == 0) fwrite(x, sizeof *x, rank * n, stdout);
    if (rc == 0) fwrite(y, sizeof *y, rank * rows, stdout);
    if (rc == 0) fwrite(gain, sizeof *gain, rank, stdout);
    if (rc == 0) fwrite(&whole, sizeof whole, 1, stdout);
    return rc;
}

int main(int argc, char **argv)
{
    struct error err = { 0 };
    struct workers *w;
    if (argc < 2 || say(workers_open(&w, 2, &err), &err)) return 2;
    int rc = 2;
    if (!strcmp(argv[1], "mask") && argc == 9) rc = mask(argv + 2, w, &err);
    if (!strcmp(argv[1], "refit") && argc == 7) rc = refit(argv + 2, w, &err);
    if (!strcmp(argv[1], "order") && argc == 7) rc = order(argv + 2, w, &err);
    if (!strcmp(argv[1], "groups") && argc == 7) rc = groups(argv + 2, w, &err);
    if (!strcmp(argv[1], "split") && argc == 6) rc = split(argv + 2, w, &err);
    workers_close(w);
    return rc;
}
