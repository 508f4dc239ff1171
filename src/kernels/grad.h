/* Leaf loops of training, a table of its own within the kernel table. What kernels.h says of kernels holds:
 * arithmetic belongs to the operation and the level, never to the number of rows or to how work is cut.
 * Exact (every level has these bits): linear_back, linear_grad, vector_grad, adamw. The others may differ
 * between levels within bounds that kcheck derives.
 *
 * Panels here are float32's: [k][16] for each 16 outputs. Outputs that pad the last panel have zeros in the weights;
 * whoever gives rows dy with so many outputs fills them with zeros up to a multiple of 16. */
#ifndef KERNELS_GRAD_H
#define KERNELS_GRAD_H
#include <stddef.h>
#include <stdint.h>

/* Attention in which rows see rows of the same step. Rows are counted from the step's first; heads are those that
 * share one key/value head. */
struct see {
    const float *q; size_t ldq;          /* [rows][heads * head_dim]                                          */
    const float *k, *v; size_t ldk, ldv; /* [rows][head_dim]                                                  */
    const int32_t *range_at, *ranges;    /* row r sees the rows of pairs range_at[r] .. range_at[r + 1] (struct step) */
    size_t rows;                         /* of the step                                                       */
    size_t first, n;                     /* what is to be done: queries, or keys (see_dkv)                    */
    size_t heads, head_dim;
    size_t window;                       /* a row sees the last so many of what its ranges name; 0: all       */
    float scale, softcap;                /* score = scale * q.k; softcap > 0: cap * tanh(score / cap)         */
    float *scratch;                      /* see_scratch floats of the thread's own                            */
};

enum { SEE_QUERIES = 16 };               /* n of see and see_dq is at most this, of see_dkv 64 */
enum { SEE_KEYS = 64 };

static inline size_t see_scratch(size_t rows, size_t heads, size_t head_dim)
{
    return (rows + 64) * SEE_QUERIES * heads + 4 * SEE_KEYS * (head_dim + 16);
}

/* Teacher's probabilities: of top[i], prob[i]; of all others together `tail`. */
struct loss_target { int32_t token; uint32_t n_top; const int32_t *top; const float *prob; float tail, weight; };

/* AdamW, arXiv 1711.05101: of element w with gradient g, first and second moment m and v, by these roundings:
 *   g = g * scale;  m = fmaf(beta1, m, (1 - beta1) * g);  v = fmaf(beta2, v, ((1 - beta2) * g) * g)
 *   w = fmaf(-lr, (m * by1) / (sqrtf(v * by2) + eps), w * keep)
 * where by1, by2 = 1 / (1 - beta^step) and keep = 1 - lr * decay, one for all elements. */
struct adamw_step { float scale, beta1, rest1, beta2, rest2, by1, by2, lr, eps, keep; };

struct grad_kernels {
    /* dx[r][i] for first <= i < first + n, from panels of k: lane c of 16: fmaf(w[p][i][c], dy[r][16 p + c], lane),
     * panels ascending, from +0; lanes are added in a tree: lane c and c + 8, then + 4, + 2, + 1. */
    void (*linear_back)(const float *panels, size_t n_panels, size_t k, size_t first, size_t n, const float *dy,
                        size_t lddy, size_t rows, float *dx, size_t lddx);
    /* dw[p][i][c] = fmaf(x[r][i], dy[r][16 p + c], dw[p][i][c]), r ascending: a chain that goes on from what is there,
     * so rows may be cut anywhere. */
    void (*linear_grad)(const float *x, size_t ldx, size_t k, const float *dy, size_t lddy, size_t rows,
                        size_t n_panels, float *dw);
    /* dw[j] = fmaf(a[r][j], dy[r][j], dw[j]); a NULL: dw[j] += dy[r][j]; r ascending. */
    void (*vector_grad)(const float *a, size_t lda, const float *dy, size_t lddy, size_t rows, size_t n, float *dw);

    /* One row, or one head of it. dx may equal dy. */
    void (*rmsnorm_back)(const float *x, const float *w, size_t n, float eps, const float *dy, float *dx);
    void (*layernorm_back)(const float *x, const float *w, size_t n, float eps, const float *dy, float *dx);
    void (*silu_back)(const float *x, const float *dy, size_t n, float *dx);
    void (*gelu_tanh_back)(const float *x, const float *dy, size_t n, float *dx);
    void (*gelu_erf_back)(const float *x, const float *dy, size_t n, float *dx);
    /* y: what softcap answered */
    void (*softcap_back)(const float *y, float cap, const float *dy, size_t n, float *dx);

    /* out[r][h * head_dim ..] and lse[r * ldl + h] = log of the sum of exp(score); -INFINITY and zeros where a row sees
     * nothing. The largest score and sums go by the order of what is seen, never by where it stands: a row has the
     * same bits wherever its keys are. */
    void (*see)(const struct see *a, float *out, size_t ldo, float *lse, size_t ldl);
    /* The same heads of d out; dots[r * ldl + h] = out . d out of that head. dq is written. */
    void (*see_dq)(const struct see *a, const float *dout, size_t lddo, const float *lse, const float *dots,
                   size_t ldl, float *dq, size_t lddq);
    /* dk, dv [rows][head_dim] of keys first .. first + n are written: sums over the rows that see a key, ascending,
     * and the heads, ascending; rows that do not see it leave no trace. Either may be NULL. */
    void (*see_dkv)(const struct see *a, const float *dout, size_t lddo, const float *lse, const float *dots,
                    size_t ldl, float *dk, size_t lddk, float *dv, size_t lddv);
    /* out[h] = a . b of each of `heads` heads */
    void (*dots)(const float *a, const float *b, size_t heads, size_t head_dim, float *out);

    /* Logits become the gradient of weight * loss: weight * (p - q). Answers the loss in nats, without the weight:
     * -log p[token], or with n_top > 0 the cross entropy to the teacher's words and to its tail as one word more.
     * A NaN or an infinity among the logits gives NaN. */
    float (*loss_row)(float *logits, size_t n, const struct loss_target *t);

    void (*adamw)(float *w, float *m, float *v, const float *g, size_t n, const struct adamw_step *s);
};
#endif
