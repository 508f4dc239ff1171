/* Texts with a gap: the tokens by which a model knows what stands before and behind it. */
#ifndef SERVE_INFILL_H
#define SERVE_INFILL_H
#include "serve/exchange.h"

/* Whether the model has such tokens. */
bool infill_can(const struct served *m);
/* prompts[0] becomes: prefix token, before, suffix token, behind, middle token; `extra` (may be NULL) in front,
 * as it stands. Texts are read without special tokens. */
bool infill_prompt(struct exchange *x, const char *before, size_t n_before, const char *behind, size_t n_behind,
                   const char *extra, size_t n_extra);
#endif
