/* What the model last held likely after a token, and after a pair of tokens: kept for all sessions
 * of an engine, so that a new text begins with what earlier ones taught. */
#ifndef DECODE_RECYCLE_H
#define DECODE_RECYCLE_H
#include "base/arena.h"
#include "graph/step.h"

/* Tokens + 1, likeliest first, 0 behind the last; chance: class of their probability. */
enum { RECYCLE_PAIRS = 1 << 15, RECYCLE_CHANCES = 8 };

struct followers { uint32_t check; int32_t token[STEP_TOP]; uint8_t chance[STEP_TOP]; };

struct recycle_memory { struct followers *after_token, *after_pair; uint32_t vocab; };

/* Zeroed memory is empty memory. */
void recycle_memory_plan(struct recycle_memory *m, struct arena *a, uint32_t vocab);
/* A row answered: what the model held likely after token; before: the token before it, or -1. */
void recycle_learn(const struct recycle_memory *m, int32_t before, int32_t token,
                   const struct step_top *top);
#endif
