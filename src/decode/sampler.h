/* From logits to a token. The noise is Gumbel noise that depends on (seed, choice, position, token)
 * alone: the same seed gives the same text whatever is computed beside it, and a guess can be
 * checked by equality (Gumbel-max: Gumbel 1954; Maddison et al. arXiv 1411.0030).
 *
 * Order: penalties, bias, top-k, top-p (arXiv 1904.09751), min-p (arXiv 2407.01082), temperature.
 */
#ifndef DECODE_SAMPLER_H
#define DECODE_SAMPLER_H
#include "base/arena.h"
#include "base/status.h"
#include "decode/logits.h"
#include <stdbool.h>

struct logit_bias { int32_t token; float add; };

struct sampling {
    float temperature;  /* 0: the best token                                            */
    uint32_t top_k;     /* 0: all                                                       */
    float top_p, min_p; /* 1 and 0: all                                                 */
    float repeat_penalty, presence_penalty, frequency_penalty; /* 1, 0, 0: none                   */
    int32_t repeat_last_n; /* tokens the penalties see; -1: all                            */
    uint64_t seed, choice;
    const struct logit_bias *bias;
    size_t n_bias;
};

struct sampler {
    struct sampling how;
    uint32_t vocab;
    uint16_t *counts;
    struct candidate *list; /* [kept] what the last token was drawn from */
    size_t kept;
};

/* Places for a vocabulary; base == NULL measures. */
void sampler_plan(struct sampler *s, struct arena *a, uint32_t vocab);
/* E_ARG with a sentence when a parameter makes no sense. `how` is copied, its bias list borrowed.
 */
stretto_status sampler_set(struct sampler *s, const struct sampling *how, struct error *err);
/* True when the arg-max of the unedited logits is the answer, so logits need not be written. */
bool sampler_is_greedy(const struct sampler *s);
/* The token after `history` [n], to stand at position n. Edits the logits. E_NAN for NaN. */
stretto_status sampler_pick(struct sampler *s, float *logits, const int32_t *history, size_t n,
                            int32_t *token, struct error *err);
/* How likely the token was that sampler_pick gave last, and the likeliest in its place: behind penalties, cuts and
 * temperature. Without a temperature it was certain. */
void sampler_score(const struct sampler *s, int32_t token, uint32_t n_top, struct token_logprobs *out);
#endif
