/* What rows of tokens say together. */
#include "base/memory.h"
#include "eval/eval.h"
#include <math.h>
#include <stdlib.h>

/* Sums of a value over each window, and how many tokens it has. */
struct clusters { double *sum, *tokens; size_t n; };

static stretto_status clusters_open(struct clusters *c, const struct eval_rows *r, struct error *err)
{
    c->n = r->windows > 1 ? r->windows : r->n;
    c->sum = mem_zalloc(2 * c->n, sizeof *c->sum);
    c->tokens = c->sum ? c->sum + c->n : NULL;
    if (!c->sum) return fail(err, STRETTO_E_NOMEM, "out of memory");
    for (size_t i = 0; i < r->n; i++) c->tokens[c->n == r->windows ? r->row[i].window : i]++;
    return STRETTO_OK;
}

typedef double (*row_value)(const struct eval_rows *a, const struct eval_rows *b, size_t i);

static void clusters_fill(struct clusters *c, const struct eval_rows *a, const struct eval_rows *b, row_value of)
{
    for (size_t k = 0; k < c->n; k++) c->sum[k] = 0;
    for (size_t i = 0; i < a->n; i++) c->sum[c->n == a->windows ? a->row[i].window : i] += of(a, b, i);
}

/* Of sums over one thing to sums over another; with below NULL, over tokens. */
static struct eval_mean ratio(const struct clusters *c, const double *below)
{
    double up = 0, down = 0, var = 0;
    if (!below) below = c->tokens;
    for (size_t k = 0; k < c->n; k++) {
        up += c->sum[k];
        down += below[k];
    }
    struct eval_mean m = { down != 0 ? up / down : 0, 0 };
    for (size_t k = 0; k < c->n; k++) var += pow(c->sum[k] - m.value * below[k], 2);
    if (c->n > 1 && down != 0) m.error = sqrt(var * (double)c->n / (double)(c->n - 1)) / fabs(down);
    return m;
}

static struct eval_mean mean(struct clusters *c, const struct eval_rows *a, const struct eval_rows *b, row_value of)
{
    clusters_fill(c, a, b, of);
    return ratio(c, NULL);
}

static double kl_of(const struct eval_rows *a, const struct eval_rows *b, size_t i)
{
    (void)b;
    return (double)a->row[i].kl;
}

static double back_of(const struct eval_rows *a, const struct eval_rows *b, size_t i)
{
    (void)b;
    return (double)a->row[i].back;
}

static double same_of(const struct eval_rows *a, const struct eval_rows *b, size_t i)
{
    (void)b;
    return a->row[i].same_top;
}

static double log_ratio_of(const struct eval_rows *a, const struct eval_rows *b, size_t i)
{
    (void)b;
    return (double)a->row[i].nll - (double)a->row[i].base_nll;
}

static double kl_more(const struct eval_rows *a, const struct eval_rows *b, size_t i)
{
    return (double)b->row[i].kl - (double)a->row[i].kl;
}

static double nll_more(const struct eval_rows *a, const struct eval_rows *b, size_t i)
{
    return (double)b->row[i].nll - (double)a->row[i].nll;
}

static double same_more(const struct eval_rows *a, const struct eval_rows *b, size_t i)
{
    return (double)b->row[i].same_top - (double)a->row[i].same_top;
}

static double kl_of_other(const struct eval_rows *a, const struct eval_rows *b, size_t i)
{
    (void)a;
    return (double)b->row[i].kl;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static stretto_status quantiles(const struct eval_rows *r, struct eval_kl *out, struct error *err)
{
    float *kl = mem_alloc(r->n * sizeof *kl);
    if (!kl) return fail(err, STRETTO_E_NOMEM, "out of memory");
    for (size_t i = 0; i < r->n; i++) kl[i] = r->row[i].kl;
    qsort(kl, r->n, sizeof *kl, ascending);
    out->median = (double)kl[r->n / 2];
    out->p90 = (double)kl[(r->n - 1) * 90 / 100];
    out->p99 = (double)kl[(r->n - 1) * 99 / 100];
    out->p999 = (double)kl[(size_t)((double)(r->n - 1) * 0.999)];
    out->most = (double)kl[r->n - 1];
    mem_free(kl);
    return STRETTO_OK;
}

stretto_status eval_kl(const struct eval_rows *r, struct eval_kl *out, struct error *err)
{
    struct clusters c;
    double nll = 0, base_nll = 0, change = 0;
    *out = (struct eval_kl){ .windows = r->windows, .tokens = r->n };
    if (!r->n) return fail(err, STRETTO_E_ARG, "no token counts");
    TRY(quantiles(r, out, err));
    TRY(clusters_open(&c, r, err));
    out->kl = mean(&c, r, NULL, kl_of);
    out->back = mean(&c, r, NULL, back_of);
    out->same_top = mean(&c, r, NULL, same_of);
    out->log_ratio = mean(&c, r, NULL, log_ratio_of);
    for (size_t i = 0; i < r->n; i++) {
        nll += (double)r->row[i].nll;
        base_nll += (double)r->row[i].base_nll;
        change += pow(exp(-(double)r->row[i].nll) - exp(-(double)r->row[i].base_nll), 2);
    }
    out->perplexity = exp(nll / (double)r->n);
    out->base_perplexity = exp(base_nll / (double)r->n);
    out->rms_p = sqrt(change / (double)r->n);
    mem_free(c.sum);
    return STRETTO_OK;
}

stretto_status eval_pair(const struct eval_rows *a, const struct eval_rows *b, struct eval_pair *out,
                         struct error *err)
{
    struct clusters c, below;
    *out = (struct eval_pair){ 0 };
    if (!a->n || a->n != b->n || a->windows != b->windows)
        return fail(err, STRETTO_E_ARG, "%zu and %zu tokens are not the same ones", a->n, b->n);
    TRY(clusters_open(&c, a, err));
    out->kl = mean(&c, a, b, kl_more);
    out->log_ratio = mean(&c, a, b, nll_more);
    out->same_top = mean(&c, a, b, same_more);
    stretto_status s = clusters_open(&below, a, err);
    if (s == STRETTO_OK) {
        clusters_fill(&below, a, b, kl_of);
        clusters_fill(&c, a, b, kl_of_other);
        out->ratio = ratio(&c, below.sum);
        mem_free(below.sum);
    }
    mem_free(c.sum);
    return s;
}
