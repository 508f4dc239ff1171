/* Integer arithmetic, the whole of it: every number between the embedding and the logits is made of the functions
 * of this file and of rows.h, so that hardware without floating point can give the same bits. After "Quantization
 * and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (arXiv 1712.05877: int8 codes,
 * int32 sums, a real multiplier as an integer and a shift) with the functions between linear layers in integers as
 * in I-BERT (arXiv 2101.01321) and I-LLM (arXiv 2405.17849); polynomials are finer than theirs, since they are not
 * the place to save.
 *
 *   a scale     m * 2^e, 2^30 <= m < 2^31, or m = 0
 *   a row       x[i] * 2^e with |x[i]| <= 2^30 and one exponent for the row
 *   Qn          an integer that counts units of 2^-n
 *   shift(x, s) is floor(x / 2^s), round_shift(x, s) is floor(x / 2^s + 1/2): ties go up
 *
 * Each function says how far it is from the real one; tests/unit/backend/test_integer.c holds it to that over all
 * of its domain, or a dense grid of it. Comments at products say why they fit. */
#ifndef BACKEND_INTEGER_FIXED_H
#define BACKEND_INTEGER_FIXED_H
#include <stdint.h>

enum { ROW_BITS = 30, CODE_MOST = 127, QUERY_MOST = 32767 };
/* A row's exponent: that of no number, which whatever reads it becomes too; and that of a row of zeros, which
 * leaves any other as it is. Between them exponents stay within +-EXPONENT_MOST. */
enum { EXPONENT_NAN = INT32_MAX, EXPONENT_MOST = 1 << 14, EXPONENT_ZERO = -EXPONENT_MOST };

struct scale { int32_t m, e; };

/* >> of a negative number is the one thing here that C17 leaves to the compiler; all of ours (and all C23 ones)
 * repeat the sign. */
static inline int64_t shift(int64_t x, int s) { return x >> s; }
/* |x| <= 2^62, s >= 0; by more than 62 it is 0. */
static inline int64_t round_shift(int64_t x, int s)
{
    if (s > 62) return 0;
    return s ? shift(x + ((int64_t)1 << (s - 1)), s) : x;
}

/* Bits that x needs: 0 for 0, else the b with 2^(b-1) <= x < 2^b. */
static inline int bits_of(uint64_t x)
{
    int n = 0;
    for (int s = 32; s; s /= 2)
        if (x >> s) x >>= s, n += s;
    return n + (x != 0);
}

/* p * 2^e as a number of Qq, rounded, within +-most where it would be more. |p| <= 2^62 */
static inline int64_t to_q(int64_t p, int e, int q, int64_t most)
{
    int s = -(e + q);
    if (!p) return 0;
    if (s < 0 && bits_of((uint64_t)(p < 0 ? -p : p)) - s > 62) return p < 0 ? -most : most;
    int64_t x = s < 0 ? p * ((int64_t)1 << -s) : round_shift(p, s);
    return x > most ? most : x < -most ? -most : x;
}

/* 2^-t of t in Q24, as Q31: 2^-0 is 2^31. Within 2^-28. Horner in Q31, each product floored: |y| <= 2^31 and the
 * fraction f < 1, so a product is < 2^55. */
static inline uint32_t exp2_neg(uint32_t t)
{
    static const int32_t c[6] = { -1488522040, 515878639, -119168801, 20577648, -2743352, 236086 };
    int64_t f = t & 0xffffff, y = c[5];
    uint32_t n = t >> 24;
    for (int i = 4; i >= 0; i--) y = c[i] + shift(y * f, 24);
    y = ((int64_t)1 << 31) + shift(y * f, 24);
    return n > 31 ? 0 : (uint32_t)(y >> n);
}

/* The argument of exp2_neg for exp(-x): x * log2(e), where |x| = |p| * 2^e; all that is 256 or more is 256 - 2^-24.
 * |p| <= 2^30: the product is < 2^61. */
enum { LOG2E_Q30 = 1549082005 };
static inline uint32_t exponent_of(int64_t p, int e)
{
    return (uint32_t)to_q((p < 0 ? -p : p) * LOG2E_Q30, e - 30, 24, UINT32_MAX);
}

/* 1 / (1 + exp(-x)) in Q31, within 2^-26, from x's sign and t = |x| log2(e) in Q24. (2^31 << 31 is 2^62.) */
static inline uint32_t sigmoid(uint32_t t, int negative)
{
    uint64_t one = (uint64_t)1 << 31, e = exp2_neg(t);
    return (uint32_t)(((negative ? e : one) << 31) / (one + e));
}

/* tanh(x) in Q31 for x >= 0, within 2^-24, from t = 2 x log2(e) in Q24. */
static inline uint32_t tanh_of(uint32_t t)
{
    uint64_t one = (uint64_t)1 << 31, e = exp2_neg(t);
    return (uint32_t)(((one - e) << 31) / (one + e));
}

/* The share of x that gelu (tanh) lets through, within 2^-24: sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3). z is
 * |x| in Q24, at most 16, beyond which it is 0 or 1 in Q31: z^2 <= 2^32 in Q24, the sum < 2^36, times z < 2^63. */
static inline uint32_t gelu_tanh_share(int64_t z, int negative)
{
    const int64_t a = 2471977230, b = 110534462;        /* 2 sqrt(2/pi) log2(e), and 0.044715 times that, in Q30 */
    int64_t t = (z * (a + shift(b * shift(z * z, 24), 24))) >> 30;
    return sigmoid(t > UINT32_MAX ? UINT32_MAX : (uint32_t)t, negative);
}

/* The share of gelu (erf): the normal distribution's integral to x, 1 - Q(|x|) or Q(|x|) with
 * Q(z) = k P(k) exp(-z^2/2) / 2, k = 1 / (1 + 0.3275911 z / sqrt(2)): Abramowitz and Stegun 7.1.26, whose error is
 * 0.75e-7 here; two roundings to Q24 in the exponent make it 1.1e-7. z is |x| in Q24, at most 16. */
static inline uint32_t gelu_erf_share(int64_t z, int negative)
{
    static const int32_t a[5] = { 136810595, -152738022, 763115691, -780155054, 569837701 };   /* Q30, halved */
    int64_t k = ((int64_t)1 << 60) / (((int64_t)1 << 30) + shift(z * 248723584, 24)), y = 0;   /* Q30 */
    for (int i = 4; i >= 0; i--) y = shift((a[i] + y) * k, 30);          /* below 2^30 each: < 2^61 */
    int64_t half_square = round_shift(z * z, 25);                        /* <= 128 in Q24 */
    int64_t t = round_shift(half_square * LOG2E_Q30, 30), q;
    q = shift(y * exp2_neg(t > UINT32_MAX ? UINT32_MAX : (uint32_t)t), 30);
    if (q < 0) q = 0;
    return (uint32_t)(negative ? q : ((int64_t)1 << 31) - q);
}

/* sin(2 pi turn / 2^32) in Q30, within 2^-27: a quarter's odd polynomial, mirrored. */
static inline int32_t sine(uint32_t turn)
{
    static const int32_t c[5] = { 1686629674, -693597876, 85564854, -5016767, 161942 };
    int64_t t = turn & 0x3fffffff, y = c[4];
    if (turn >> 30 & 1) t = ((int64_t)1 << 30) - t;
    int64_t square = shift(t * t, 30);
    for (int i = 3; i >= 0; i--) y = c[i] + shift(y * square, 30);
    y = shift(y * t, 30);
    if (y > (int64_t)1 << 30) y = (int64_t)1 << 30;
    return (int32_t)(turn >> 31 ? -y : y);
}
static inline int32_t cosine(uint32_t turn) { return sine(turn + ((uint32_t)1 << 30)); }

/* floor(sqrt(x)), a bit at a time. */
static inline uint32_t root(uint64_t x)
{
    uint64_t r = 0;
    for (int b = 31; b >= 0; b--) {
        uint64_t with = r | (uint64_t)1 << b;
        if (with * with <= x) r = with;
    }
    return (uint32_t)r;
}

/* A number of any size: m * 2^e with 2^61 <= m < 2^62, or 0. */
struct wide { uint64_t m; int e; };
static inline struct wide wide_of(uint64_t m, int e)
{
    if (!m) return (struct wide){ 0, -4 * EXPONENT_MOST };
    int s = bits_of(m) - 62;
    return (struct wide){ s > 0 ? m >> s : m << -s, e + s };
}
static inline struct wide wide_add(struct wide a, struct wide b)
{
    if (a.e < b.e) { struct wide c = a; a = b; b = c; }
    int s = a.e - b.e;
    return wide_of(a.m + (s > 63 ? 0 : b.m >> s), a.e);         /* < 2^63 */
}

/* 1 / sqrt(x) as a scale, within 2^-28 of the value; of 0 it is 0. sqrt of 2^60..2^62 has 31 bits, its inverse
 * 2^61 / that too. */
static inline struct scale inverse_root(struct wide x)
{
    if (!x.m) return (struct scale){ 0, 0 };
    if (x.e & 1) x.m >>= 1, x.e++;
    uint64_t r = ((uint64_t)1 << 61) / root(x.m);               /* 2^30 < r <= 2^31 */
    if (r >> 31) r = ((uint64_t)1 << 31) - 1;
    return (struct scale){ (int32_t)r, -61 - x.e / 2 };
}

/* a * b within 2^-30 of the value. */
static inline struct scale scale_mul(struct scale a, struct scale b)
{
    if (!a.m || !b.m) return (struct scale){ 0, 0 };
    uint64_t m = (uint64_t)a.m * (uint64_t)b.m;                 /* 2^60 <= m < 2^62 */
    int s = m >> 61 ? 31 : 30;
    return (struct scale){ (int32_t)(m >> s), a.e + b.e + s };
}

/* a / b * 2^e as a scale, a and b not 0: within 2^-30 of the value. */
static inline struct scale scale_ratio(uint32_t a, uint32_t b, int e)
{
    int n = 64 - bits_of(a);
    uint64_t m = ((uint64_t)a << n) / b;                        /* 2^63 / 2^32 < m */
    int s = bits_of(m) - 31;
    return (struct scale){ (int32_t)(s > 0 ? m >> s : m << -s), e - n + s };
}
#endif
