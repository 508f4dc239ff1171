/* exp, tanh and the normal distribution for any vector width, written once over the operations of an
 * ISA header (x86/ops512.h, arm/ops128.h):
 *
 *   vf, VL lanes; v_set1 v_add v_sub v_mul v_div v_fma(a,b,c) = a*b + c, v_fnma(a,b,c) = c - a*b,
 *   v_min v_max (a NaN in the second argument survives), v_abs, v_sign(mag, sign), v_round (to even),
 *   v_scale2(x, n) = x * 2^n, correctly rounded; v_less(a, b) and v_pick(mask, yes, no)
 *
 * Polynomials are Chebyshev interpolations made for this file; the relative errors stated are theirs,
 * before float32 rounding. */
#ifndef KERNELS_WIDE_MATH_H
#define KERNELS_WIDE_MATH_H
#include <float.h>

/* Splits x = n ln 2 + r, |r| <= ln 2 / 2; returns e^r - 1 (relative error 1e-8). */
static inline vf wide_expm1_part(vf x, vf *n)
{
    *n = v_round(v_mul(x, v_set1(1.44269502f)));
    vf r = v_fnma(*n, v_set1(0.693147182f), x);
    r = v_fnma(*n, v_set1(-1.90465421e-9f), r);
    vf q = v_set1(0.00139261759f);
    q = v_fma(q, r, v_set1(0.00836317334f));
    q = v_fma(q, r, v_set1(0.0416665561f));
    q = v_fma(q, r, v_set1(0.166665778f));
    q = v_fma(q, r, v_set1(0.5f));
    return v_fma(v_mul(r, r), q, r);
}

/* Below -104.7 the float32 result is zero, above 88.8 infinity; NaN stays. */
static inline vf wide_exp(vf x)
{
    vf n;
    vf p = wide_expm1_part(v_min(v_set1(90), v_max(v_set1(-105), x)), &n);
    return v_scale2(v_add(p, v_set1(1)), n);
}

/* e^x - 1 for 0 <= x <= 60, without cancellation near 0. */
static inline vf wide_expm1(vf x)
{
    vf n, one = v_set1(1);
    vf p = wide_expm1_part(x, &n);
    vf two_n = v_scale2(one, n);
    return v_fma(p, two_n, v_sub(two_n, one));
}

static inline vf wide_tanh(vf x)
{
    vf t = wide_expm1(v_min(v_set1(40), v_mul(v_abs(x), v_set1(2))));
    return v_sign(v_div(t, v_add(t, v_set1(2))), x);
}

/* -infinity becomes the lowest finite number, so that it times a vanishing factor is -0. */
static inline vf wide_finite_below(vf x) { return v_max(v_set1(-FLT_MAX), x); }

/* y / (1 + e^-x) */
static inline vf wide_sigmoid_of(vf x, vf y)
{
    return v_div(wide_finite_below(y), v_add(v_set1(1), wide_exp(v_sub(v_set1(0), x))));
}

/* erfc(z) = e^(-z^2) P(1 / (1 + z / 2.5)) for z >= 0; P within 1.2e-8 up to z = 10.5, where float32
 * ends. z^2 is carried in two parts: e^ would turn its rounding into z^2 ulps. */
static inline vf wide_erfc(vf z)
{
    static const float p[11] = { -1.18438575e-5f, 0.225984648f, 0.222129688f, 0.231287152f,
        0.0696452111f, 0.417740196f, -0.521549165f, 0.803740442f, -0.6750651f, 0.26779446f,
        -0.0416956916f };
    z = v_min(v_set1(10.5f), z);
    vf t = v_div(v_set1(2.5f), v_add(z, v_set1(2.5f)));
    vf y = v_set1(p[10]);
    for (int i = 9; i >= 0; i--) y = v_fma(y, t, v_set1(p[i]));
    vf s = v_mul(z, z), rest = v_sub(v_set1(0), v_fnma(z, z, s));        /* z^2 = s + rest */
    vf e = wide_exp(v_sub(v_set1(0), s));
    return v_mul(v_fnma(e, rest, e), y);
}

/* x times the normal distribution of x */
static inline vf wide_gelu_erf(vf x)
{
    vf half = v_mul(wide_erfc(v_mul(v_abs(x), v_set1(0.707106781f))), v_set1(0.5f));
    vf phi = v_pick(v_less(x, v_set1(0)), half, v_sub(v_set1(1), half));
    return v_mul(wide_finite_below(x), phi);
}

/* x / 2 (1 + tanh u) = x sigmoid(2u), u = sqrt(2 / pi) (x + 0.044715 x^3) */
static inline vf wide_gelu_tanh(vf x)
{
    vf x2 = v_mul(x, x);
    vf u2 = v_mul(v_mul(x, v_set1(1.59576912f)), v_fma(x2, v_set1(0.044715f), v_set1(1)));
    return wide_sigmoid_of(u2, x);
}
#endif
