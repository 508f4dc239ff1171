/* What a model says about texts, as numbers: perplexity, and how far models are from one that they are compared
 * with (Kullback-Leibler divergence), token by token, so that candidates can be compared with each other on the
 * same tokens. Windows and what counts of them: eval/texts.h. */
#ifndef EVAL_EVAL_H
#define EVAL_EVAL_H
#include "base/progress.h"
#include "engine/engine.h"
#include "eval/texts.h"

struct eval_ppl {
    double perplexity, nll, deviation;     /* deviation: of the perplexity */
    size_t windows, tokens;
};

/* Engines need a context of the longest window. cancel, as below: ends it with E_CANCEL once it is not 0; may be
 * NULL. */
stretto_status eval_ppl(struct engine *e, const struct eval_set *set, const volatile int *cancel,
                        const struct progress *progress, struct eval_ppl *out, struct error *err);

/* ---- divergence ------------------------------------------------------------------------------ */

enum { EVAL_MODELS = 8 };

/* One token that counts. Natural logarithms; kl over the whole vocabulary. */
struct eval_row {
    float kl, back;                        /* KL(base || model) and KL(model || base)               */
    float base_nll, nll;                   /* of the token that stands there                        */
    uint32_t window;
    bool same_top;                         /* the best token is the same; of equal ones the first   */
};
struct eval_rows { struct eval_row *row; size_t n, windows; };
void eval_rows_done(struct eval_rows *r);
/* `part` behind what is there, its windows behind the others. */
stretto_status eval_rows_add(struct eval_rows *r, const struct eval_rows *part, struct error *err);

/* The base and models[0..n), n at most EVAL_MODELS, read the same windows, side by side: in memory are the logits
 * of a few rows of each, and 24 bytes for each token that counts. out[n], empty after a failure. Their
 * vocabularies must have one size. */
stretto_status eval_divergence(struct engine *base, struct engine *const *models, size_t n,
                               const struct eval_set *set, const volatile int *cancel,
                               const struct progress *progress, struct eval_rows *out, struct error *err);

/* The same where no engine has the base: answer() gives its logits [end - first][vocab] in rows first to end of a
 * window, at most `most` at once, each about the token behind it; they stay until it is called again. */
struct eval_base {
    stretto_status (*answer)(void *ud, size_t window, uint32_t first, uint32_t end, const float **logits,
                             struct error *err);
    void *ud;
    uint32_t vocab, most;
};
stretto_status eval_divergence_from(const struct eval_base *base, struct engine *const *models, size_t n,
                                    const struct eval_set *set, const volatile int *cancel,
                                    const struct progress *progress, struct eval_rows *out, struct error *err);

/* Means over tokens with their standard errors. Tokens of a window hang together, so errors are those of a ratio
 * of sums over windows (Cochran, Sampling Techniques, 2.11); with one window, over its tokens. */
struct eval_mean { double value, error; };

struct eval_kl {
    size_t windows, tokens;
    struct eval_mean kl, back;             /* nats                                                  */
    double median, p90, p99, p999, most;   /* of kl                                                 */
    struct eval_mean same_top;             /* share                                                 */
    struct eval_mean log_ratio;            /* ln(perplexity / base_perplexity), paired by token     */
    double perplexity, base_perplexity;
    double rms_p;                          /* root mean square by which the token's probability changes */
};
stretto_status eval_kl(const struct eval_rows *r, struct eval_kl *out, struct error *err);

/* Of two models on the same tokens of one base, what `b` has more than `a`, paired by token; ratio: of mean kl,
 * b's to a's. */
struct eval_pair { struct eval_mean kl, log_ratio, same_top, ratio; };
stretto_status eval_pair(const struct eval_rows *a, const struct eval_rows *b, struct eval_pair *out,
                         struct error *err);
#endif
