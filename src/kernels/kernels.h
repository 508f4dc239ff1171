/* The kernel table: leaf loops on raw pointers, by operation and dtype. They know no threads and no
 * model. A struct kernels is a value: the backend owns one, tests make as many as they like.
 *
 * Filled by walking an ordered list of levels, reference first; better ones overwrite. Arithmetic
 * belongs to (operation, dtype, level), never to the number of rows: every kernel gives a row the
 * same bits whichever rows are computed beside it (DESIGN, the third idea). Stricter, and what
 * makes kcheck demand equality between levels:
 *
 *   linear, float weights   y = fmaf(w[k], x[k], y), k ascending, from +0
 *   linear, quantised       activations are quantised per row and group of 32 (see `quantize`); the
 *                           integer dot I of a group is exact; then, groups ascending,
 *                             y = fmaf((float)I, d_w * d_x, y)
 *                             y = fmaf(-m_w, s_x, y)    only for types that have a minimum (sign
 *                                                       and definition of m_w: panel.h)
 *                           K-quants: d_w is the exact float32 product of super-scale and
 *                           sub-scale where a sub-block has 32 elements; with sub-blocks of 16 the
 *                           two sub-scales are folded into I as integers and d_w is the
 *                           super-scale; the sub-minimums of Q2_K likewise: J = sum of minimum *
 *                           (sum of codes) over the two halves, and in place of the second line
 *                             y = fmaf(-(float)J, dmin * d_x, y)
 *   quantize                amax = max|x|; d = amax / 127; q = rint(x * (127 / amax)), to nearest
 *                           even; s = d * (float)(sum of q). Where 127 / amax is infinite (amax 0
 *                           or below 2^-121) q, d and s are zero; a group with an infinity or a
 *                           NaN gives q = 0 and d = s = NaN, so that the row's answer is NaN.
 *
 * Elementwise and reducing float kernels (norm, rope, attention, activations) may differ between
 * levels within a bound that kcheck derives; within a level a row's bits never depend on its
 * neighbours. Panels are 64-byte aligned; activations and answers need no alignment. */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H
#include "kernels/brain12.h"
#include "kernels/panel.h"
#include "kernels/peak.h"
#include "kernels/train.h"
#include <stdbool.h>

enum cpu_bits {                        /* what a CPU has; a level needs a set of them */
    CPU_AVX2 = 1u << 0,                /* AVX2 + FMA + F16C + BMI2                    */
    CPU_AVXVNNI = 1u << 1,
    CPU_AVX512 = 1u << 2,              /* F + BW + DQ + VL                            */
    CPU_AVX512VNNI = 1u << 3,
    CPU_AVX512VBMI = 1u << 9,
    CPU_AVX512BF16 = 1u << 4,
    CPU_AMX = 1u << 5,                 /* TILE + INT8 + BF16, permitted               */
    CPU_NEON = 1u << 6,
    CPU_DOTPROD = 1u << 7,
    CPU_I8MM = 1u << 8,                /* I8MM + BF16                                 */
};

/* Rows of activations as linear kernels read them. Only what the weight's type needs is set. */
struct act {
    const float *f;      size_t ldf;   /* [rows][k], float weights                               */
    const int8_t *q;     size_t ldq;   /* [rows][k] codes in -127..127, quantised weights        */
    const float *d, *s;  size_t ldd;   /* [rows][k/32] scale, and scale * sum of codes           */
    const int16_t *sum;                /* [rows][k/16] sums of 16 codes; rows are 2 * ldd apart  */
    const uint16_t *h;   size_t ldh;   /* [rows][k] bf16, the given-row path of AMX; may be NULL */
};

/* n_panels consecutive panels times `rows` rows: y[r * ldy + 16 * p + c]. k is a multiple of 32 for
 * quantised types, any for float types. Any rows >= 1. y is written whole, also padded columns. */
typedef void linear_fn(const void *panels, size_t n_panels, size_t k, const struct act *x,
                       size_t rows, float *y, size_t ldy);

enum { ATTN_BLOCK = 64 };              /* B: positions of a cache page and an attention block */

/* KV_Q8_Q4: keys as KV_Q8, values in four bits. */
enum kv_type { KV_F32, KV_F16, KV_BF16, KV_Q8, KV_Q8_Q4, KV_COUNT };

/* Bytes of a page of one kv head of one layer; multiples of 64. The layout is in kernels/kv.h. */
size_t kv_k_bytes(enum kv_type t, size_t head_dim);
size_t kv_v_bytes(enum kv_type t, size_t head_dim);

struct attn_query {                /* n_q query vectors that share one K/V head                  */
    const float *q; size_t ldq;    /* [n_q][head_dim] float32, after rope                        */
    /* KV_Q8 and KV_Q8_Q4 read codes instead: q by `quantize`, head_dim filled up with zeros to groups of 32;
     * per group the integer dot, then sum = fmaf((float)dot, d_q * d_k, sum), ascending */
    const int8_t *codes; size_t ldc;   /* [n_q][32 * groups]                                     */
    const float *d; size_t ldd;        /* [n_q][groups]                                          */
    /* attn_given reads these instead: q rounded to bf16, and what that left, by `split_bf16` */
    const uint16_t *high, *low; size_t ldh;  /* [n_q][head_dim]                                  */
    const int32_t *lo, *hi;        /* [n_q] visible positions of this block: lo <= j < hi, 0..64 */
    size_t n_q, head_dim;
    const void *next_k;            /* a page whose K is worth fetching meanwhile, or NULL         */
    float scale, softcap;          /* score = scale * q.k; softcap > 0: cap * tanh(score / cap)  */
};

/* One block's share: per query the maximum m, the sum of exp(score - m) and the unnormalised
 * accumulator [n_q][head_dim] (ld = head_dim). hi <= lo gives m = -INFINITY, sum 0, acc 0.
 * KV_Q8_Q4: acc is in the basis in which values are stored (kv_rotate in kv.h). A level may round
 * the products of probability and scale of V's codes to 1/32767 of a query's largest in the block
 * and group. Lanes outside lo..hi may hold any finite numbers. */
typedef void attn_block_fn(const struct attn_query *a, const void *k_page, const void *v_page,
                           float *m, float *sum, float *acc);

enum { ATTN_GIVEN_DIMS = 256 };
static inline bool attn_given_takes(size_t head_dim)
{
    return head_dim % PANEL_GROUP == 0 && head_dim <= ATTN_GIVEN_DIMS;
}

/* Sums of outer products: c[i][j] = fma(by, s, c[i][j]) for i < m, j < n, for every run of OUTER_RUN terms or
 * what is left of t; s = fma(a[k][i], b[k][j], s) from +0, k ascending. Every level has these bits, however a
 * matrix is cut into calls, as long as terms are cut at multiples of OUTER_RUN. */
enum { OUTER_RUN = 128 };
typedef void outer_fn(const float *a, size_t lda, const float *b, size_t ldb, size_t m, size_t n, size_t t,
                      float by, float *c, size_t ldc);
typedef void outer_d_fn(const double *a, size_t lda, const double *b, size_t ldb, size_t m, size_t n, size_t t,
                        double by, double *c, size_t ldc);

struct kernels {
    const char *level;                 /* the best level that was applied */
    linear_fn *linear[DT_COUNT];
    /* prompt rows where the level has a better arithmetic for many rows (AMX: bf16, whole K); NULL:
     * the same as linear */
    linear_fn *linear_given[DT_COUNT];
    /* panels of brain12.h: the answers of linear[DT_BF16] and linear_given[DT_BF16], bit for bit */
    linear_fn *brain12, *brain12_given;
    const char *brain12_level;
    /* rows to give them at once: weights are unpacked once a call, activations should stay in the
     * second-level cache */
    size_t row_block;
    const char *linear_level[DT_COUNT], *linear_given_level[DT_COUNT], *attn_level[KV_COUNT];

    /* one row; k % 32 == 0; sum may be NULL */
    void (*quantize)(const float *x, size_t k, int8_t *q, float *d, float *s, int16_t *sum);
    void (*to_bf16)(const float *x, size_t n, uint16_t *out);

    /* out may equal x. w, b: [n]; b and w may be NULL where stated. */
    void (*rmsnorm)(const float *x, const float *w /* or NULL */, size_t n, float eps, float *out);
    void (*layernorm)(const float *x, const float *w, const float *b /* or NULL */, size_t n,
                      float eps, float *out);
    /* cs: [n_rot/2] cosines then [n_rot/2] sines of this row's position; rotates the first n_rot of
     * each of n_heads vectors of head_dim in place. pairs: (x0,x1),(x2,x3)...; halves:
     * (x0,x[n_rot/2])... */
    void (*rope_pairs)(float *x, size_t n_heads, size_t head_dim, size_t n_rot, const float *cs);
    void (*rope_halves)(float *x, size_t n_heads, size_t head_dim, size_t n_rot, const float *cs);
    void (*add)(const float *a, const float *b, size_t n, float *out);
    void (*mul)(const float *a, const float *b, size_t n, float *out);
    void (*scale)(const float *x, float by, size_t n, float *out);
    void (*softcap)(const float *x, float cap, size_t n, float *out);
    void (*silu)(const float *x, size_t n, float *out);
    void (*gelu_tanh)(const float *x, size_t n, float *out);
    void (*gelu_erf)(const float *x, size_t n, float *out);
    /* out = act(gate) * up, the same bits as act then mul */
    void (*silu_mul)(const float *gate, const float *up, size_t n, float *out);
    void (*gelu_tanh_mul)(const float *gate, const float *up, size_t n, float *out);
    /* sum[r][c] = the sum of codes x[r] times codes w[c], n of them and exact: none is -128, and n <= 133144 */
    void (*code_sums)(const int8_t *x, size_t ldx, size_t rows, const int8_t *w, size_t ldw, size_t cols, size_t n,
                      int32_t *sum, size_t ld_sum);
    /* index of the largest, ties to the lowest; a NaN anywhere gives n, and so does n == 0 */
    size_t (*argmax)(const float *x, size_t n);

    /* writes one token's vector of one kv head into slot j of a page */
    void (*kv_store_k[KV_COUNT])(const float *k, size_t head_dim, size_t j, void *page);
    void (*kv_store_v[KV_COUNT])(const float *v, size_t head_dim, size_t j, void *page);
    attn_block_fn *attn_block[KV_COUNT];
    /* queries of prompt rows where the level has a better arithmetic for many of them (AMX), for head_dims
     * that attn_given_takes; NULL: the same as attn_block. Numbers are taken to 16 bits: a score may be off
     * by 2^-17 of the sum of its terms' magnitudes, a probability by 2^-17 of itself */
    attn_block_fn *attn_given[KV_COUNT];
    void (*split_bf16)(const float *x, size_t n, uint16_t *high, uint16_t *low);
    /* folds block (m2, sum2, acc2) into (m, sum, acc), n_q queries; a left fold, ascending */
    void (*attn_merge)(size_t n_q, size_t head_dim, float *m, float *sum, float *acc,
                       const float *m2, const float *sum2, const float *acc2);
    /* out = acc / sum; sum == 0 gives zeros */
    void (*attn_finish)(size_t head_dim, const float *acc, float sum, float *out);

    outer_fn *outer;
    outer_d_fn *outer_d;

    /* ---- training; the arithmetic is in train.h ---- */
    times_fn *times;
    linear_back_fn *linear_back[DT_COUNT];     /* float types; NULL for the others */
    /* The gradient of a linear layer, in panels of float32 as its weight: x points at the first of `cols` inputs of
     * row 0, g at their place in panel 0; panels are 16 * k floats apart. Outputs past n are not touched. */
    void (*linear_grad)(const float *x, size_t ldx, size_t cols, const float *dy, size_t lddy, size_t n, size_t rows,
                        float *g, size_t k);
    /* Training in bf16, where the level multiplies that faster; else NULL. Rows are read as act.h; panels of DT_BF16:
     * forwards those of a weight, backwards those of its transposed. */
    linear_fn *learn_linear;
    learn_grad_fn *learn_grad;
    /* out[c * ldo + r] = x[r * ldx + c] */
    void (*transpose)(const float *x, size_t ldx, size_t rows, size_t cols, float *out, size_t ldo);
    /* dw[i] = fmaf(x[r][i], dy[r][i], dw[i]), x NULL: dw[i] += dy[r][i] */
    void (*vector_grad)(const float *x /* or NULL */, size_t ldx, const float *dy, size_t lddy, size_t rows, size_t n,
                        float *dw);

    /* dx of one row (or head); dx may be dy */
    void (*rmsnorm_back)(const float *x, const float *w /* or NULL */, size_t n, float eps, const float *dy, float *dx);
    void (*layernorm_back)(const float *x, const float *w, size_t n, float eps, const float *dy, float *dx);
    /* dx = dy * the derivative at x; dx may be dy */
    void (*silu_back)(const float *x, const float *dy, size_t n, float *dx);
    void (*gelu_tanh_back)(const float *x, const float *dy, size_t n, float *dx);
    void (*gelu_erf_back)(const float *x, const float *dy, size_t n, float *dx);
    /* Of y = act(gate) * up, the bits of the kernels one by one: y again, or NULL; dup = dy * act(gate); dgate is
     * act_back of gate and dy * up. No two of them may overlap. */
    void (*silu_mul_back)(const float *gate, const float *up, const float *dy, size_t n, float *y, float *dgate,
                          float *dup);
    void (*gelu_tanh_mul_back)(const float *gate, const float *up, const float *dy, size_t n, float *y, float *dgate,
                               float *dup);
    /* of y = cap * tanh(x / cap), from y: dx = dy * (1 - (y / cap)^2) */
    void (*softcap_back)(const float *y, float cap, const float *dy, size_t n, float *dx);

    /* s becomes exp(score - *max) with score = scale * s, capped; zeros where nothing is seen. Returns the sum, in
     * lanes by position; hi <= lo: 0, and *max -INFINITY. For whole attention: see.h. Here and below s and dp have
     * room for n rounded up to 16. */
    float (*see_softmax)(float *s, const struct see_row *row, float *max);
    /* s becomes P = exp(score - lse), dp the gradient of q . k: scale * P * (dp - d), through the cap. lse, d: one
     * number, or one for each position with `each`. Zeros where nothing is seen. */
    void (*see_back)(float *s, float *dp, const float *lse, const float *d, bool each, const struct see_row *row);
    /* out[h] = a . b of each of `heads` vectors, one behind the other */
    void (*dots)(const float *a, const float *b, size_t heads, size_t head_dim, float *out);

    /* The loss of one row's logits, in nats and unweighted: -log p of the token, or the divergence from the teacher.
     * logits become weight * the loss's gradient; cap > 0: they are capped first. NaN, and gradients of NaN, where a
     * logit is NaN or infinite, or a token is outside 0..n */
    float (*loss_row)(float *logits, size_t n, float cap, const struct loss_target *t);

    double (*square_sum)(const float *x, size_t n);
    void (*adamw)(float *w, float *m, float *v, const float *g, size_t n, const struct adamw_step *s);

    peak_fn *peak[ARITHMETIC_KINDS]; /* NULL: the level has no such instructions */
};

/* What this CPU and kernel allow, AMX permission asked for. */
uint32_t cpu_detect(void);
/* "avx2" -> the bits of that level and of those below it; 0 and false for an unknown name; "ref"
 * gives 0. */
bool cpu_ceiling(const char *level, uint32_t *bits);
/* Fills the table with everything `cpu` allows. */
void kernels_init(struct kernels *k, uint32_t cpu);
/* Names of the levels, worst first, NULL-terminated: "ref", "avx2", ... of this architecture. */
const char *const *kernels_levels(void);

/* One per ISA file group; called by kernels.c only, and only when the CPU has the bits. */
void kernels_init_ref(struct kernels *k);
#if defined(__x86_64__)
void kernels_init_avx2(struct kernels *k);
void kernels_init_avxvnni(struct kernels *k);
void kernels_init_avx512(struct kernels *k);
void kernels_init_avx512vnni(struct kernels *k);
void kernels_init_avx512vbmi(struct kernels *k);
void kernels_init_avx512bf16(struct kernels *k);
void kernels_init_amx(struct kernels *k);
#elif defined(__aarch64__)
void kernels_init_neon(struct kernels *k);
void kernels_init_dotprod(struct kernels *k);
void kernels_init_i8mm(struct kernels *k);
#endif
#endif
