/* Attention among the rows of a step and its gradients: against float64, of every level; and bit for bit the same
 * wherever the rows stand, whatever stands beside them and however the step is cut into calls. */
#include "kcheck.h"
#include "kernels/see.h"

enum { MOST = 150 };
struct text { size_t n; size_t shared; };      /* rows; of these read by the next text too, as its beginning */

/* A step of some texts, each of which also sees `shared` rows of the one before. */
struct see_job {
    struct see a;
    struct see_back b;
    int32_t at[MOST + 1], ranges[2 * SEE_RANGES * MOST];
    float *q, *k, *v, *out, *dout, *lse, *dots, *dq, *dk, *dv, *scratch;
    size_t n;
};

static float *numbers(struct kcheck *c, size_t n)
{
    float *x = kc_alloc(n * sizeof *x, 4);
    for (size_t i = 0; i < n; i++) x[i] = kc_normal(c);
    return x;
}

static void job_open(struct kcheck *c, struct see_job *j, size_t n, size_t heads, size_t dim, size_t window, bool cap)
{
    *j = (struct see_job){ .n = n };
    size_t width = heads * dim, ld = width + 3;
    j->q = numbers(c, n * ld), j->dout = numbers(c, n * ld), j->k = numbers(c, n * ld), j->v = numbers(c, n * ld);
    j->out = numbers(c, n * ld), j->dq = numbers(c, n * ld), j->dk = numbers(c, n * ld), j->dv = numbers(c, n * ld);
    j->lse = numbers(c, n * heads), j->dots = numbers(c, n * heads);
    j->scratch = kc_alloc(see_scratch(heads, dim, n) * sizeof(float), 64);
    j->a = (struct see){ .q = j->q, .ldq = ld, .k = j->k, .v = j->v, .ldk = ld, .ldv = ld, .heads = heads,
                         .head_dim = dim, .n_rows = n, .range_at = j->at, .ranges = j->ranges, .window = window,
                         .scale = 1 / sqrtf((float)dim), .softcap = cap ? 2.0f : 0 };
    j->b = (struct see_back){ j->dout, ld, j->lse, j->dots, heads };
}

static void job_close(struct kcheck *c, struct see_job *j)
{
    float *all[] = { j->q, j->dout, j->k, j->v, j->out, j->dq, j->dk, j->dv, j->lse, j->dots, j->scratch };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) kc_free(c, all[i]);
}

static void add_range(struct see_job *j, size_t row, size_t first, size_t end)
{
    if (end <= first) return;
    j->ranges[2 * j->at[row + 1]] = (int32_t)first;
    j->ranges[2 * j->at[row + 1] + 1] = (int32_t)end;
    j->at[row + 1]++;
}

/* Texts one behind the other; text i starts with `shared` rows of text i - 1, itself is a chain. `both`: its rows see
 * all of it. */
static void set_texts(struct see_job *j, const struct text *texts, size_t n, size_t first, bool both)
{
    size_t row = 0;
    while (row < first) j->at[row + 1] = j->at[row], row++;
    for (size_t t = 0; t < n; t++)
        for (size_t i = 0, start = row; i < texts[t].n; i++, row++) {
            j->at[row + 1] = j->at[row];
            if (t) add_range(j, row, start - texts[t - 1].n, start - texts[t - 1].n + texts[t].shared);
            add_range(j, row, start, both ? start + texts[t].n : row + 1);
        }
    while (row < j->n) j->at[row + 1] = j->at[row], row++;
}

static void run(const struct kernels *k, struct see_job *j, size_t cut)
{
    size_t ld = j->a.ldq, heads = j->a.heads;
    for (size_t r = 0; r < j->n; r += cut) {
        size_t to = j->n - r < cut ? j->n : r + cut;
        see_rows(k, &j->a, r, to, j->scratch, j->out, ld, j->lse, heads);
    }
    for (size_t r = 0; r < j->n; r++)
        k->dots(j->out + r * ld, j->dout + r * ld, heads, j->a.head_dim, j->dots + r * heads);
    for (size_t r = 0; r < j->n; r += cut) {
        size_t to = j->n - r < cut ? j->n : r + cut;
        see_rows_dq(k, &j->a, &j->b, r, to, j->scratch, j->dq, ld);
        see_rows_dkv(k, &j->a, &j->b, r, to, j->scratch, j->dk, ld, j->dv, ld);
    }
}

/* All gradients anew, part by part. */
static void run_parts(const struct kernels *k, struct see_job *j)
{
    size_t ld = j->a.ldq, dim = j->a.head_dim;
    int32_t part[MOST + 1];
    size_t n = see_parts(j->at, j->ranges, j->n, part);
    for (size_t r = 0; r < j->n; r++) {
        memset(j->dq + r * ld, 0xff, j->a.heads * dim * sizeof(float));
        memset(j->dk + r * ld, 0xff, dim * sizeof(float));
        memset(j->dv + r * ld, 0xff, dim * sizeof(float));
    }
    for (size_t i = 0; i < n; i++)
        see_rows_back(k, &j->a, &j->b, (size_t)part[i], (size_t)part[i + 1], j->scratch, j->dq, ld, j->dk, ld, j->dv,
                      ld);
}

/* ---- float64 ------------------------------------------------------------------------------------------------ */

struct exact { double out[MOST][SEE_DIMS], dq[MOST][SEE_DIMS], dk[MOST][SEE_DIMS], dv[MOST][SEE_DIMS], lse[MOST]; };

static size_t seen_by(const struct see_job *j, size_t row, int32_t *keys)
{
    size_t n = 0;
    for (int32_t i = j->at[row]; i < j->at[row + 1]; i++)
        for (int32_t r = j->ranges[2 * i]; r < j->ranges[2 * i + 1]; r++) keys[n++] = r;
    size_t lost = j->a.window && n > j->a.window ? n - j->a.window : 0;
    memmove(keys, keys + lost, (n - lost) * sizeof *keys);
    return n - lost;
}

static double dots(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

static void exact_row(const struct see_job *j, size_t h, size_t row, struct exact *e)
{
    const struct see *a = &j->a;
    int32_t keys[MOST];
    size_t n = seen_by(j, row, keys), dim = a->head_dim;
    const float *q = a->q + row * a->ldq + h * dim, *g = j->dout + row * a->ldq + h * dim;
    double score[MOST], slope[MOST], max = -INFINITY, sum = 0, d = 0;
    for (size_t i = 0; i < n; i++) {
        score[i] = (double)a->scale * dots(q, a->k + (size_t)keys[i] * a->ldk, dim);
        double t = a->softcap > 0 ? tanh(score[i] / (double)a->softcap) : 0;
        if (a->softcap > 0) score[i] = (double)a->softcap * t;
        slope[i] = (double)a->scale * (1 - t * t);
        max = fmax(max, score[i]);
    }
    for (size_t i = 0; i < n; i++) sum += exp(score[i] - max);
    e->lse[row] = n ? max + log(sum) : -INFINITY;
    for (size_t x = 0; x < dim; x++) e->out[row][x] = e->dq[row][x] = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t x = 0; x < dim; x++)
            e->out[row][x] += exp(score[i] - e->lse[row]) * (double)a->v[(size_t)keys[i] * a->ldv + x];
    for (size_t x = 0; x < dim; x++) d += e->out[row][x] * (double)g[x];
    for (size_t i = 0; i < n; i++) {
        double p = exp(score[i] - e->lse[row]);
        double ds = p * (dots(g, a->v + (size_t)keys[i] * a->ldv, dim) - d) * slope[i];
        for (size_t x = 0; x < dim; x++) {
            e->dq[row][x] += ds * (double)a->k[(size_t)keys[i] * a->ldk + x];
            e->dk[keys[i]][x] += ds * (double)q[x];
            e->dv[keys[i]][x] += p * (double)g[x];
        }
    }
}

static double most_of(const float *x, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)x[i]));
    return most;
}

/* A score is off by (dim + 12) roundings of the largest sum of its terms' magnitudes, and so is the sum of exponents'
 * logarithm, relatively a probability by twice that and the sum's roundings; a sum of n terms by n roundings more. */
static void compare(struct kcheck *c, const struct see_job *j)
{
    static struct exact e;
    const double eps = (double)FLT_EPSILON / 2;
    size_t dim = j->a.head_dim, ld = j->a.ldq, all = j->n * ld;
    double q = most_of(j->q, all), k = most_of(j->k, all), v = most_of(j->v, all), g = most_of(j->dout, all);
    double score = (double)j->a.scale * (double)dim * q * k, off = ((double)dim + 12) * eps * score;
    double p = 2 * off + ((double)j->n / 4 + 24) * eps, terms = (double)j->n * (double)j->a.heads + 8;
    double value = (double)dim * g * v;                        /* of do . v, and of do . out */
    double cap = j->a.softcap > 0 ? off * 4 + 8 * eps : 0;
    double ds = (double)j->a.scale * (p * 2 + cap + (double)dim * 2 * eps) * value;
    memset(&e, 0, sizeof e);
    for (size_t h = 0; h < j->a.heads; h++)
        for (size_t r = 0; r < j->n; r++) {
            exact_row(j, h, r, &e);
            kc_near(c, "log of the sum", r, e.lse[r], (double)j->lse[r * j->a.heads + h],
                    off * 2 + 32 * eps + fabs(e.lse[r]) * 2 * eps);
            for (size_t x = 0; x < dim; x++) {
                size_t at = r * ld + h * dim + x;
                kc_near(c, "out", at, e.out[r][x], (double)j->out[at], (p + terms * eps) * v);
                kc_near(c, "dq", at, e.dq[r][x], (double)j->dq[at],
                        ds * k + terms * eps * (double)j->a.scale * 2 * value * k);
            }
        }
    /* a key's sums over all rows: their number instead of one row's probabilities, which sum to one */
    for (size_t r = 0; r < j->n; r++)
        for (size_t x = 0; x < dim; x++) {
            kc_near(c, "dk", r * dim + x, e.dk[r][x], (double)j->dk[r * ld + x],
                    terms * (ds + terms * eps * (double)j->a.scale * value) * q);
            kc_near(c, "dv", r * dim + x, e.dv[r][x], (double)j->dv[r * ld + x], terms * (p + terms * eps) * g);
        }
}

/* ---- the checks --------------------------------------------------------------------------------------------- */

static void check_job(struct kcheck *c, const struct text *texts, size_t n_texts, size_t heads, size_t dim,
                      size_t window, bool cap, bool both)
{
    struct see_job j, whole;
    size_t n = 2;
    for (size_t i = 0; i < n_texts; i++) n += texts[i].n;
    job_open(c, &j, n, heads, dim, window, cap);
    set_texts(&j, texts, n_texts, 1, both);
    run(c->k, &j, n);
    compare(c, &j);
    whole = j;
    size_t all = n * j.a.ldq * sizeof(float);
    whole.out = kc_alloc(all, 4), whole.dq = kc_alloc(all, 4), whole.dk = kc_alloc(all, 4);
    memcpy(whole.out, j.out, all), memcpy(whole.dq, j.dq, all), memcpy(whole.dk, j.dk, all);
    run(c->k, &j, 7);
    kc_bytes(c, "out, cut", whole.out, j.out, all);
    kc_bytes(c, "dq, cut", whole.dq, j.dq, all);
    kc_bytes(c, "dk, cut", whole.dk, j.dk, all);
    whole.dv = kc_alloc(all, 4);
    memcpy(whole.dv, j.dv, all);
    run_parts(c->k, &j);
    kc_bytes(c, "dq, by parts", whole.dq, j.dq, all);
    kc_bytes(c, "dk, by parts", whole.dk, j.dk, all);
    kc_bytes(c, "dv, by parts", whole.dv, j.dv, all);
    kc_free(c, whole.out), kc_free(c, whole.dq), kc_free(c, whole.dk), kc_free(c, whole.dv);
    job_close(c, &j);
}

/* The last of some texts, alone and behind the others: the same bits. */
static void check_alone(struct kcheck *c, size_t heads, size_t dim, size_t window)
{
    static const struct text packed[] = { { 37, 0 }, { 5, 0 }, { 70, 0 } }, last[] = { { 70, 0 } };
    struct see_job many, one;
    size_t before = 44, n = 114;
    job_open(c, &many, n, heads, dim, window, false);
    set_texts(&many, packed, 3, 2, false);
    job_open(c, &one, 70, heads, dim, window, false);
    set_texts(&one, last, 1, 0, false);
    size_t ld = one.a.ldq, all = 70 * ld * sizeof(float), at = before * ld;
    memcpy(one.q, many.q + at, all), memcpy(one.k, many.k + at, all), memcpy(one.v, many.v + at, all);
    memcpy(one.dout, many.dout + at, all);
    run(c->k, &many, 33);
    run(c->k, &one, 70);
    for (size_t r = 0; r < 70; r++) {
        kc_equal(c, "out alone", one.out + r * ld, many.out + at + r * ld, heads * dim);
        kc_equal(c, "dq alone", one.dq + r * ld, many.dq + at + r * ld, heads * dim);
        kc_equal(c, "dk alone", one.dk + r * ld, many.dk + at + r * ld, dim);
        kc_equal(c, "dv alone", one.dv + r * ld, many.dv + at + r * ld, dim);
    }
    kc_equal(c, "log of the sum alone", one.lse, many.lse + before * heads, 70 * heads);
    job_close(c, &many), job_close(c, &one);
}

void kcheck_see(struct kcheck *c)
{
    static const struct text one[] = { { 90, 0 } }, some[] = { { 40, 0 }, { 33, 17 }, { 3, 0 }, { 20, 3 } };
    const struct kernels *k = c->k, *p = c->prev;
    bool changed = !p || strcmp(k->level, "ref") == 0 || k->times != p->times || k->see_softmax != p->see_softmax
                || k->see_back != p->see_back || k->dots != p->dots || k->transpose != p->transpose
                || k->attn_finish != p->attn_finish;
    if (!kc_cell(c, "see", changed)) return;
    for (int cap = 0; cap < 2; cap++)
        for (size_t window = 0; window < 80; window += 19 + window) {
            check_job(c, one, 1, 3, 16, window, cap, false);
            check_job(c, some, 4, 2, 24, window, cap, false);
            check_job(c, some, 4, 1, 5, window, cap, true);
            check_job(c, one, 1, 1, 64, window, cap, false);
        }
    check_job(c, some, 4, 1, 450, 0, false, true);
    check_alone(c, 3, 16, 0);
    check_alone(c, 2, 64, 30);
}
