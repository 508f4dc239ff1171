/* Companions: what guesses for a strategy and needs a model to do it. They run with the threads of the
 * engine they guess for: the heads on its device, a draft model on its own, which is to be the same one
 * (one team of threads for both).
 *
 *   drafter  a smaller model in an engine of its own. Its timeline follows the writer's, when it is
 *            asked: accepted tokens are fed, wrong guesses rewound; where it missed more than it
 *            may spend on reading, it begins with the end of the text.
 *   heads    layers of a file on the model's last hidden state (head_model.h): all guesses at once, or one
 *            after the other.
 *
 * Both give their words' tokens, whatever they are worth: a wrong file makes wrong guesses and
 * never another text. Used by one thread at a time, the writer's. */
#ifndef ENGINE_COMPANION_H
#define ENGINE_COMPANION_H
#include "decode/sampler.h"
#include "decode/strategy.h"
#include "engine/engine.h"

struct drafter;
struct heads;

/* The probability, by the softmax of all n, of the token with that logit. What is 16 below the best does
 * not show. */
float logit_probability(const float *logits, uint32_t n, float logit);

/* `sampler` is the writer's: the drafter draws as it does, with the same noise. The vocabularies
 * are equal or joined by the spelling of tokens; E_ARG when they share less than half. */
stretto_status drafter_open(struct drafter **out, struct engine *target, const struct model *draft,
                            const struct sampler *sampler, struct error *err);
void drafter_close(struct drafter *d);
/* Whether it is that model's (that file's): then its writer keeps it when its strategies change. */
bool drafter_is_of(const struct drafter *d, const struct model *draft);
struct companion *drafter_companion(struct drafter *d);

stretto_status heads_open(struct heads **out, struct engine *target, const char *path,
                          struct error *err);
void heads_close(struct heads *h);
bool heads_are_of(const struct heads *h, const char *path);
struct companion *heads_companion(struct heads *h);
/* All guesses behind a hidden state [width] and the token behind it, `last`, with their probabilities; *n: how many
 * there are. token and p NULL: only that. */
stretto_status heads_guess(struct heads *h, const float *hidden, int32_t last, int32_t *token, float *p, uint32_t *n,
                           struct error *err);
#endif
