/* Cache stores bit for bit; attention within the roundings of its sums, and, bit for bit, a query
 * alone as beside others. */
#include "kcheck.h"
#include "kernels/kv.h"
#include <stdio.h>

enum { B = ATTN_BLOCK, MAX_Q = 33 };
static const size_t dims[] = { 1, 4, 7, 8, 16, 20, 31, 32, 33, 40, 48, 64, 72, 80, 96, 128, 256 };
static const char *const types[] = { "f32", "f16", "bf16", "q8", "q8_q4" };

static void store(const struct kernels *k, enum kv_type t, size_t dim, const float *x, void *kp,
                  void *vp)
{
    for (size_t j = 0; j < B; j++) {
        k->kv_store_k[t](x + 2 * j * dim, dim, j, kp);
        k->kv_store_v[t](x + (2 * j + 1) * dim, dim, j, vp);
    }
}

static void check_store(struct kcheck *c, enum kv_type t, size_t dim)
{
    size_t nk = kv_k_bytes(t, dim), nv = kv_v_bytes(t, dim);
    uint8_t *k1 = kc_alloc(nk, 64), *k2 = kc_alloc(nk, 64), *v1 = kc_alloc(nv, 64),
            *v2 = kc_alloc(nv, 64);
    float *x = kc_alloc(2 * B * dim * 4, 4);
    for (size_t i = 0; i < 2 * B * dim; i++)
        x[i] = kc_u32(c) % 40 ? kc_normal(c) : kv_coded(t) ? 0.0f : float_of(kc_u32(c));
    for (size_t i = 0; i < dim; i++) x[i] = 0, x[dim + i] = 1e-40f;
    x[2 * dim] = INFINITY, x[3 * dim] = NAN;
    store(c->ref, t, dim, x, k1, v1);
    store(c->k, t, dim, x, k2, v2);
    kc_bytes(c, "page of K", k1, k2, nk);
    kc_bytes(c, "page of V", v1, v2, nv);
    if (nk % 64 || nv % 64) kc_fail(c, "page size is no multiple of 64");
    kc_free(c, k1), kc_free(c, k2), kc_free(c, v1), kc_free(c, v2), kc_free(c, x);
}

struct attn_job {
    struct attn_query a;
    int32_t lo[MAX_Q], hi[MAX_Q];
    void *k, *v;
    int8_t *codes;
    uint16_t *high, *low;
    float *d, *q, *acc, *acc2, m[MAX_Q], sum[MAX_Q], m2[MAX_Q], sum2[MAX_Q];
    double score_mag[MAX_Q], v_max; /* largest scale * sum |q k| of a position; largest |v|   */
};

/* Magnitudes from the floats that were stored; a cache type moves them by a hundredth of the
 * largest, or turns them, which is at most the root of head_dim as large, and rounds to four bits. */
static void magnitudes(struct attn_job *j, enum kv_type t, const float *x)
{
    size_t dim = j->a.head_dim;
    double top = 0;
    for (size_t i = 0; i < 2 * B * dim; i++) top = fmax(top, fabs((double)x[i]));
    j->v_max = kv_rotated(t) ? top * sqrt((double)dim) : top * 1.01;
    for (size_t r = 0; r < MAX_Q; r++)
        for (size_t at = 0; at < B; at++) {
            double mag = 0;
            for (size_t i = 0; i < dim; i++)
                mag += fabs((double)j->q[r * j->a.ldq + i]) *
                       (fabs((double)x[2 * at * dim + i]) + 0.01 * top);
            j->score_mag[r] = fmax(j->score_mag[r], mag * (double)j->a.scale);
        }
}

static void job_open(struct kcheck *c, struct attn_job *j, enum kv_type t, size_t dim, bool cap)
{
    float *x = kc_alloc(2 * B * dim * 4, 4);
    j->k = kc_alloc(kv_k_bytes(t, dim), 64), j->v = kc_alloc(kv_v_bytes(t, dim), 64);
    for (size_t i = 0; i < 2 * B * dim; i++) x[i] = kc_normal(c);
    store(c->ref, t, dim, x, j->k, j->v);
    size_t ldq = dim + 5;
    j->q = kc_alloc(((MAX_Q - 1) * ldq + dim) * 4, 4);
    for (size_t i = 0; i < (MAX_Q - 1) * ldq + dim; i++) j->q[i] = kc_normal(c);
    size_t groups = (dim + 31) / 32;
    float *whole = kc_alloc(groups * 32 * 4, 4), *s = kc_alloc(groups * 4, 4);
    j->codes = kc_alloc(MAX_Q * groups * 32, 1), j->d = kc_alloc(MAX_Q * groups * 4, 4);
    memset(whole, 0, groups * 32 * 4);
    for (size_t r = 0; r < MAX_Q; r++) {
        memcpy(whole, j->q + r * ldq, dim * 4);
        c->ref->quantize(whole, groups * 32, j->codes + r * groups * 32, j->d + r * groups, s, NULL);
    }
    kc_free(c, whole), kc_free(c, s);
    j->high = kc_alloc(MAX_Q * dim * 2, 2), j->low = kc_alloc(MAX_Q * dim * 2, 2);
    for (size_t r = 0; c->k->split_bf16 && r < MAX_Q; r++)
        c->k->split_bf16(j->q + r * ldq, dim, j->high + r * dim, j->low + r * dim);
    j->acc = kc_alloc(MAX_Q * dim * 4, 4), j->acc2 = kc_alloc(MAX_Q * dim * 4, 4);
    for (size_t r = 0; r < MAX_Q; r++) {
        j->lo[r] = (int32_t)(kc_u32(c) % 3 ? 0 : kc_u32(c) % B);
        j->hi[r] = (int32_t)(kc_u32(c) % 3 ? B : kc_u32(c) % (B + 1));
    }
    j->lo[1] = 5, j->hi[1] = 5, j->lo[2] = 63, j->hi[2] = 64, j->lo[3] = 0, j->hi[3] = 1;
    j->lo[4] = 9, j->hi[4] = 2;
    j->a = (struct attn_query){.q = j->q,
                               .ldq = ldq,
                               .codes = j->codes,
                               .ldc = groups * 32,
                               .d = j->d,
                               .ldd = groups,
                               .high = j->high,
                               .low = j->low,
                               .ldh = dim,
                               .lo = j->lo,
                               .hi = j->hi,
                               .n_q = MAX_Q,
                               .head_dim = dim,
                               .scale = 1 / sqrtf((float)dim),
                               .softcap = cap ? 5.0f : 0.0f};
    magnitudes(j, t, x);
    kc_free(c, x);
}

static void job_close(struct kcheck *c, struct attn_job *j)
{
    kc_free(c, j->k), kc_free(c, j->v), kc_free(c, j->q), kc_free(c, j->acc), kc_free(c, j->acc2);
    kc_free(c, j->codes), kc_free(c, j->d), kc_free(c, j->high), kc_free(c, j->low);
}

/* A score is a chain of `dim` FMAs, then at most 16 roundings (scale, cap). An error e of a score,
 * and of the maximum, is a relative error of a probability; exp and a sum of 64 add theirs. With
 * codes, a probability (of at most 1) times a scale may be rounded to 1/32767 of the largest. attn_given
 * takes numbers to 16 bits (kernels.h), in three products, each of which adds the sums of even and of odd
 * elements of 32 to the total. */
static void compare(struct kcheck *c, struct attn_job *j, enum kv_type t, bool given)
{
    const double eps = (double)FLT_EPSILON / 2;
    size_t dim = j->a.head_dim;
    for (size_t r = 0; r < MAX_Q; r++) {
        double bits = given ? 0x1p-17 : 0, sum = (double)j->sum[r];
        double e = (((double)dim + 16) * eps + bits) * j->score_mag[r];
        double rel = 2 * e + (64 + 8) * eps + bits;
        double seen = j->lo[r] < j->hi[r] ? j->hi[r] - j->lo[r] : 0;
        double rounded = kv_coded(t) ? seen * 0.5 / 32767 : 0;
        kc_near(c, "maximum", r, (double)j->m[r], (double)j->m2[r], e);
        kc_near(c, "sum", r, sum, (double)j->sum2[r], rel * sum);
        for (size_t i = r * dim; i < (r + 1) * dim; i++)
            kc_near(c, "accumulator", i, (double)j->acc[i], (double)j->acc2[i],
                    (rel * sum + rounded) * j->v_max);
    }
}

static void check_alone(struct kcheck *c, struct attn_job *j, attn_block_fn *fn)
{
    size_t dim = j->a.head_dim;
    struct attn_query a = j->a;
    for (size_t n = 1; n <= 8; n++)
        for (size_t r = 0; r + n <= MAX_Q; r += n) {
            a.codes = j->codes + r * a.ldc, a.d = j->d + r * a.ldd;
            a.high = j->high + r * a.ldh, a.low = j->low + r * a.ldh;
            a.q = j->q + r * a.ldq, a.lo = j->lo + r, a.hi = j->hi + r, a.n_q = n;
            fn(&a, j->k, j->v, j->m, j->sum, j->acc);
            kc_equal(c, "maximum among others", j->m2 + r, j->m, n);
            kc_equal(c, "sum among others", j->sum2 + r, j->sum, n);
            kc_equal(c, "accumulator among others", j->acc2 + r * dim, j->acc, n * dim);
        }
}

static void check_attn(struct kcheck *c, enum kv_type t, size_t dim, bool cap, bool given)
{
    attn_block_fn *fn = given ? c->k->attn_given[t] : c->k->attn_block[t];
    struct attn_job j = { .v_max = 0 };
    job_open(c, &j, t, dim, cap);
    c->ref->attn_block[t](&j.a, j.k, j.v, j.m, j.sum, j.acc);
    fn(&j.a, j.k, j.v, j.m2, j.sum2, j.acc2);
    compare(c, &j, t, given);
    check_alone(c, &j, fn);
    job_close(c, &j);
}

/* What stands at positions that no query sees, another text's numbers or none, changes nothing. */
static void check_unseen(struct kcheck *c, enum kv_type t, size_t dim, size_t seen)
{
    struct attn_job j = { .v_max = 0 };
    job_open(c, &j, t, dim, false);
    for (size_t r = 0; r < MAX_Q; r++)
        if (j.hi[r] > (int32_t)seen) j.hi[r] = (int32_t)seen;
    c->k->attn_given[t](&j.a, j.k, j.v, j.m, j.sum, j.acc);
    float *bad = kc_alloc(dim * 4, 4);
    for (size_t i = 0; i < dim; i++) bad[i] = i % 2 ? NAN : INFINITY;
    for (size_t at = seen; at < B; at++) {
        c->ref->kv_store_k[t](bad, dim, at, j.k);
        c->ref->kv_store_v[t](bad, dim, at, j.v);
    }
    c->k->attn_given[t](&j.a, j.k, j.v, j.m2, j.sum2, j.acc2);
    kc_equal(c, "maximum beside the unseen", j.m2, j.m, MAX_Q);
    kc_equal(c, "sum beside the unseen", j.sum2, j.sum, MAX_Q);
    kc_equal(c, "accumulator beside the unseen", j.acc2, j.acc, MAX_Q * dim);
    kc_free(c, bad);
    job_close(c, &j);
}

/* high is x to the nearest bf16, low what is left, likewise. */
static void check_split(struct kcheck *c)
{
    enum { N = 77 };
    float *x = kc_alloc(N * 4, 4);
    uint16_t *high = kc_alloc(N * 2, 2), *low = kc_alloc(N * 2, 2);
    for (size_t n = 0; n <= N; n++) {
        for (size_t i = 0; i < n; i++) x[i] = i % 9 ? kc_normal(c) : 0;
        c->k->split_bf16(x, n, high, low);
        for (size_t i = 0; i < n; i++) {
            float h = brain_to_float(float_to_brain(x[i]));
            kc_equal(c, "high", &h, (float[]){ brain_to_float(high[i]) }, 1);
            h = brain_to_float(float_to_brain(x[i] - h));
            kc_equal(c, "low", &h, (float[]){ brain_to_float(low[i]) }, 1);
        }
    }
    kc_free(c, x), kc_free(c, high), kc_free(c, low);
}

static void check_merge(struct kcheck *c, size_t dim)
{
    enum { N = 5 };
    float m[2][N] = { { 1, -INFINITY, 2, 0, 30 }, { 1, -INFINITY, 2, 0, 30 } }, sum[2][N];
    float m2[N] = { 3, 1, -INFINITY, 0, -80 }, sum2[N] = { 1, 2, 0, 4, 5 };
    float *acc[2] = {kc_alloc(N * dim * 4, 4), kc_alloc(N * dim * 4, 4)},
          *acc2 = kc_alloc(N * dim * 4, 4);
    for (size_t r = 0; r < N; r++) sum[0][r] = sum[1][r] = m[0][r] == -INFINITY ? 0.0f : 1.5f;
    for (size_t i = 0; i < N * dim; i++) {
        acc[0][i] = acc[1][i] = m[0][i / dim] == -INFINITY ? 0.0f : kc_normal(c);
        acc2[i] = m2[i / dim] == -INFINITY ? 0.0f : kc_normal(c);
    }
    float *before = kc_alloc(N * dim * 4, 4);
    memcpy(before, acc[0], N * dim * 4);
    c->ref->attn_merge(N, dim, m[0], sum[0], acc[0], m2, sum2, acc2);
    c->k->attn_merge(N, dim, m[1], sum[1], acc[1], m2, sum2, acc2);
    kc_equal(c, "merged maximum", m[0], m[1], N);
    for (size_t r = 0; r < N; r++) {
        kc_near(c, "merged sum", r, (double)sum[0][r], (double)sum[1][r],
                8 * (double)FLT_EPSILON * (double)sum[0][r]);
        for (size_t i = r * dim; i < (r + 1) * dim; i++)
            kc_near(c, "merged accumulator", i, (double)acc[0][i], (double)acc[1][i],
                    6 * (double)FLT_EPSILON * (fabs((double)before[i]) + fabs((double)acc2[i])));
    }
    kc_equal(c, "equal maxima change nothing but the sum", (float[]){ 5.5f }, &sum[1][3], 1);
    c->ref->attn_finish(dim, acc[0], 3.0f, acc2);
    c->k->attn_finish(dim, acc[0], 3.0f, acc[1]);
    kc_equal(c, "finish", acc2, acc[1], dim);
    c->k->attn_finish(dim, acc[0], 0.0f, acc[1]);
    for (size_t i = 0; i < dim; i++)
        if (acc[1][i] != 0) kc_fail(c, "a sum of 0 must give zeros");
    kc_free(c, acc[0]), kc_free(c, acc[1]), kc_free(c, acc2), kc_free(c, before);
}

void kcheck_attn(struct kcheck *c)
{
    static char name[32];
    if (strcmp(c->k->level, "ref") == 0) return;
    for (size_t i = 0; i < KV_COUNT; i++) {
        enum kv_type t = (enum kv_type)i;
        snprintf(name, sizeof name, "kv_store %s", types[i]);
        if (kc_cell(c, name, c->k->kv_store_k[t] != c->prev->kv_store_k[t]
                                 || c->k->kv_store_v[t] != c->prev->kv_store_v[t]))
            for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) check_store(c, t, dims[d]);
        snprintf(name, sizeof name, "attn_block %s", types[i]);
        if (kc_cell(c, name, c->k->attn_block[t] != c->prev->attn_block[t]))
            for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
                for (int cap = 0; cap < 2; cap++) check_attn(c, t, dims[d], cap, false);
        snprintf(name, sizeof name, "attn_given %s", types[i]);
        if (c->k->attn_given[t] && kc_cell(c, name, c->k->attn_given[t] != c->prev->attn_given[t]))
            for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
                for (int cap = 0; attn_given_takes(dims[d]) && cap < 2; cap++) {
                    check_attn(c, t, dims[d], cap, true);
                    check_unseen(c, t, dims[d], cap ? 33 : 6);
                }
    }
    if (c->k->split_bf16 && kc_cell(c, "split_bf16", c->k->split_bf16 != c->prev->split_bf16)) check_split(c);
    if (kc_cell(c, "attn_merge", c->k->attn_merge != c->prev->attn_merge))
        for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) check_merge(c, dims[d]);
}
