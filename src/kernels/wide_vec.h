/* Norms, rotary positions and elementwise kernels for any vector width: static functions that a level's
 * file instantiates (see wide_math.h for the operations). Further operations:
 *
 *   v_load v_store, v_load_n v_store_n: the first n < VL lanes, the others read as zero
 *   v_keep(x, n): lanes >= n become zero        v_sum: over all lanes, in one fixed order
 *   v_even, v_odd(a, b): lanes of the pair of vectors a b;  v_zip_lo, v_zip_hi: the way back
 *
 *   v_store_codes(int8_t *, x, n), v_store_brain(uint16_t *, x, n): x converted, the first min(n, VL) lanes
 *   vmask with v_less v_equal v_nan v_either v_any v_all; v_range(lo, hi): lanes lo <= i < hi
 *
 * A tail is the masked form of the same operations. */
#ifndef KERNELS_WIDE_VEC_H
#define KERNELS_WIDE_VEC_H
#include "kernels/kernels.h"
#include "kernels/scalar.h"
#include "kernels/wide.h"
#include "kernels/wide_math.h"
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* out[i] = f(x[i], y[i], by) */
WIDE_INLINE void wide_map(const float *x, const float *y, float by, size_t n, float *out,
                          vf (*f)(vf x, vf y, vf by))
{
    size_t i = 0;
    vf b = v_set1(by);
    for (; i + VL <= n; i += VL) v_store(out + i, f(v_load(x + i), v_load(y + i), b));
    if (i < n)
        v_store_n(out + i, f(v_load_n(x + i, n - i), v_load_n(y + i, n - i), b), n - i);
}

WIDE_INLINE vf op_add(vf x, vf y, vf by) { (void)by; return v_add(x, y); }
WIDE_INLINE vf op_mul(vf x, vf y, vf by) { (void)by; return v_mul(x, y); }
WIDE_INLINE vf op_scale(vf x, vf y, vf by) { (void)y; return v_mul(x, by); }
WIDE_INLINE vf op_softcap(vf x, vf y, vf by) { (void)y; return v_mul(by, wide_tanh(v_div(x, by))); }
WIDE_INLINE vf op_silu(vf x, vf y, vf by) { (void)y; (void)by; return wide_sigmoid_of(x, x); }
WIDE_INLINE vf op_gelu_tanh(vf x, vf y, vf by) { (void)y; (void)by; return wide_gelu_tanh(x); }
WIDE_INLINE vf op_gelu_erf(vf x, vf y, vf by) { (void)y; (void)by; return wide_gelu_erf(x); }
WIDE_INLINE vf op_silu_mul(vf x, vf y, vf by) { return v_mul(op_silu(x, y, by), y); }
WIDE_INLINE vf op_gelu_tanh_mul(vf x, vf y, vf by) { return v_mul(op_gelu_tanh(x, y, by), y); }
WIDE_INLINE vf op_divide(vf x, vf y, vf by) { (void)y; return v_div(x, by); }

static void wide_add(const float *a, const float *b, size_t n, float *out)
{
    wide_map(a, b, 0, n, out, op_add);
}
static void wide_mul(const float *a, const float *b, size_t n, float *out)
{
    wide_map(a, b, 0, n, out, op_mul);
}
static void wide_scale(const float *x, float by, size_t n, float *out)
{
    wide_map(x, x, by, n, out, op_scale);
}
static void wide_softcap(const float *x, float cap, size_t n, float *out)
{
    wide_map(x, x, cap, n, out, op_softcap);
}
static void wide_silu(const float *x, size_t n, float *out) { wide_map(x, x, 0, n, out, op_silu); }
static void wide_gelu_t(const float *x, size_t n, float *out) { wide_map(x, x, 0, n, out, op_gelu_tanh); }
static void wide_gelu_e(const float *x, size_t n, float *out) { wide_map(x, x, 0, n, out, op_gelu_erf); }
static void wide_silu_mul(const float *gate, const float *up, size_t n, float *out)
{
    wide_map(gate, up, 0, n, out, op_silu_mul);
}
static void wide_gelu_t_mul(const float *gate, const float *up, size_t n, float *out)
{
    wide_map(gate, up, 0, n, out, op_gelu_tanh_mul);
}

/* Sum of f(x[i]) in four interleaved chains, which hide the latency of an addition. */
WIDE_INLINE float wide_total(const float *x, size_t n, vf by, vf (*f)(vf sum, vf x, vf by))
{
    vf s0 = v_set1(0), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL) {
        s0 = f(s0, v_load(x + i), by);
        s1 = f(s1, v_load(x + i + VL), by);
        s2 = f(s2, v_load(x + i + 2 * VL), by);
        s3 = f(s3, v_load(x + i + 3 * VL), by);
    }
    for (; i + VL <= n; i += VL) s0 = f(s0, v_load(x + i), by);
    if (i < n) s1 = v_add(s1, v_keep(f(v_set1(0), v_load_n(x + i, n - i), by), n - i));
    return v_sum(v_add(v_add(s0, s1), v_add(s2, s3)));
}

WIDE_INLINE vf op_sum(vf s, vf x, vf by) { (void)by; return v_add(s, x); }
WIDE_INLINE vf op_square(vf s, vf x, vf by)
{
    vf d = v_sub(x, by);
    return v_fma(d, d, s);
}

static void wide_rmsnorm(const float *x, const float *w, size_t n, float eps, float *out)
{
    float square = wide_total(x, n, v_set1(0), op_square);
    float by = 1 / sqrtf(square / (float)n + eps);
    wide_scale(x, by, n, out);
    if (w) wide_mul(out, w, n, out);
}

static void wide_layernorm(const float *x, const float *w, const float *b, size_t n, float eps, float *out)
{
    float mean = wide_total(x, n, v_set1(0), op_sum) / (float)n;
    vf m = v_set1(mean);
    float square = wide_total(x, n, m, op_square);
    vf by = v_set1(1 / sqrtf(square / (float)n + eps));
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i;
        bool whole = left >= VL;
        vf v = v_mul(v_sub(whole ? v_load(x + i) : v_load_n(x + i, left), m), by);
        vf g = whole ? v_load(w + i) : v_load_n(w + i, left);
        v = v_mul(v, g);
        if (b) v = v_add(v, whole ? v_load(b + i) : v_load_n(b + i, left));
        if (whole)
            v_store(out + i, v);
        else
            v_store_n(out + i, v, left);
    }
}

/* (x0, x1) turned by one angle: x0 c - x1 s, x0 s + x1 c */
WIDE_INLINE void wide_turn(vf *x0, vf *x1, vf c, vf s)
{
    vf a = v_fnma(*x1, s, v_mul(*x0, c));
    *x1 = v_fma(*x1, c, v_mul(*x0, s));
    *x0 = a;
}

static void wide_rope_halves(float *x, size_t n_heads, size_t head_dim, size_t n_rot, const float *cs)
{
    size_t half = n_rot / 2;
    for (size_t h = 0; h < n_heads; h++, x += head_dim)
        for (size_t i = 0; i < half; i += VL) {
            size_t left = half - i;
            bool whole = left >= VL;
            vf c = whole ? v_load(cs + i) : v_load_n(cs + i, left);
            vf s = whole ? v_load(cs + half + i) : v_load_n(cs + half + i, left);
            vf x0 = whole ? v_load(x + i) : v_load_n(x + i, left);
            vf x1 = whole ? v_load(x + half + i) : v_load_n(x + half + i, left);
            wide_turn(&x0, &x1, c, s);
            if (whole) {
                v_store(x + i, x0);
                v_store(x + half + i, x1);
            } else {
                v_store_n(x + i, x0, left);
                v_store_n(x + half + i, x1, left);
            }
        }
}

/* Any count of lanes, none included. */
WIDE_INLINE vf wide_load_up_to(const float *p, size_t n)
{
    return n >= VL ? v_load(p) : n ? v_load_n(p, n) : v_set1(0);
}
WIDE_INLINE void wide_store_up_to(float *p, vf x, size_t n)
{
    if (n >= VL)
        v_store(p, x);
    else if (n)
        v_store_n(p, x, n);
}

static void wide_rope_pairs(float *x, size_t n_heads, size_t head_dim, size_t n_rot, const float *cs)
{
    size_t half = n_rot / 2;
    for (size_t h = 0; h < n_heads; h++, x += head_dim)
        for (size_t i = 0; i < half; i += VL) {
            size_t left = half - i, two = 2 * left, rest = two > VL ? two - VL : 0;
            float *at = x + 2 * i;
            vf a = wide_load_up_to(at, two), b = wide_load_up_to(rest ? at + VL : at, rest);
            vf x0 = v_even(a, b), x1 = v_odd(a, b);
            wide_turn(&x0, &x1, wide_load_up_to(cs + i, left), wide_load_up_to(cs + half + i, left));
            wide_store_up_to(at, v_zip_lo(x0, x1), two);
            if (rest) wide_store_up_to(at + VL, v_zip_hi(x0, x1), rest);
        }
}

/* kernels.h: the rule of `quantize` for one group of n <= 32; the sum of codes is exact in float32. */
WIDE_INLINE float wide_quantize_group(const float *x, size_t n, int8_t *q, float *d)
{
    vf top = v_set1(0), infinite = v_set1(INFINITY), sum = v_set1(0);
    bool finite = true;
    for (size_t i = 0; i < n; i += VL) {
        vf a = v_abs(wide_load_up_to(x + i, n - i));
        finite = finite && v_all(v_less(a, infinite));
        top = v_max(top, a);
    }
    float amax = v_largest(top), by = 127.0f / amax;
    bool zero = !finite || !(by < INFINITY);
    *d = !finite ? NAN : zero ? 0.0f : amax / 127.0f;
    for (size_t i = 0; i < n; i += VL) {
        vf c = zero ? v_set1(0) : v_round(v_mul(wide_load_up_to(x + i, n - i), v_set1(by)));
        sum = v_add(sum, c);
        v_store_codes(q + i, c, n - i);
    }
    return (float)(int)v_sum(sum);
}

static void wide_quantize(const float *x, size_t k, int8_t *q, float *d, float *s, int16_t *sum)
{
    for (size_t g = 0; g < k / 32; g++)
        s[g] = wide_quantize_group(x + 32 * g, 32, q + 32 * g, &d[g]) * d[g];
    for (size_t i = 0; sum && i < k / 16; i++) sum[i] = sum_codes(q + 16 * i);
}

static void wide_to_bf16(const float *x, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i += VL) v_store_brain(out + i, wide_load_up_to(x + i, n - i), n - i);
}

static size_t wide_argmax(const float *x, size_t n)
{
    vf low = v_set1(-INFINITY), best = low;
    vmask nan = v_nan(low);
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i;
        vf v = left >= VL ? v_load(x + i) : v_pick(v_range(0, (int)left), v_load_n(x + i, left), low);
        nan = v_either(nan, v_nan(v));
        best = v_max(best, v);
    }
    if (v_any(nan)) return n;
    best = v_set1(v_largest(best));
    size_t i = 0;
    while (i + VL <= n && !v_any(v_equal(v_load(x + i), best))) i += VL;
    float max[VL];
    v_store(max, best);
    while (i < n && !(x[i] >= max[0])) i++;
    return i;
}

static inline void wide_vec_init(struct kernels *k)
{
    k->quantize = wide_quantize;
    k->to_bf16 = wide_to_bf16;
    k->rmsnorm = wide_rmsnorm;
    k->layernorm = wide_layernorm;
    k->rope_pairs = wide_rope_pairs;
    k->rope_halves = wide_rope_halves;
    k->add = wide_add;
    k->mul = wide_mul;
    k->scale = wide_scale;
    k->softcap = wide_softcap;
    k->silu = wide_silu;
    k->gelu_tanh = wide_gelu_t;
    k->gelu_erf = wide_gelu_e;
    k->silu_mul = wide_silu_mul;
    k->gelu_tanh_mul = wide_gelu_t_mul;
    k->argmax = wide_argmax;
}
#endif
