/* What the model last held likely after a token, and after a pair of tokens: kept for all sessions
 * of an engine, so that a new text begins with what earlier ones taught. */
#ifndef DECODE_RECYCLE_H
#define DECODE_RECYCLE_H
#include "base/arena.h"
#include "graph/step.h"

/* Tokens + 1, likeliest first, 0 behind the last; chance: class of their probability, 0..7. */
struct said { uint32_t check; int32_t token[STEP_TOP]; uint8_t chance[STEP_TOP]; };

struct recycle_memory { struct said *after_token, *after_pair; uint32_t vocab; };

/* Zeroed memory is empty memory. */
void recycle_memory_plan(struct recycle_memory *m, struct arena *a, uint32_t vocab);
#endif
