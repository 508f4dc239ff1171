/* Not installed, no promise kept between versions: how this tree's own programs reach what stands behind
 * the public handles. */
#ifndef STRETTO_EXPERIMENTAL_H
#define STRETTO_EXPERIMENTAL_H
#include "stretto/stretto.h"

struct model; struct engine;
const struct model *stretto_model_inside(const stretto_model *m);
struct engine *stretto_engine_inside(stretto_engine *e);
struct writer;
struct writer *stretto_session_inside(stretto_session *s);
/* What its sessions taught an engine about guessing. */
struct suffix_store; struct calibration; struct arena;
struct suffix_store *stretto_engine_store(stretto_engine *e);      /* NULL: no memory */
struct arena *stretto_engine_recycled(stretto_engine *e);          /* the same */
struct calibration *stretto_engine_calibration(stretto_engine *e);
/* Adds a finished text to what suffix decoding knows. */
void stretto_engine_remember(stretto_engine *e, const int32_t *ids, size_t count);
#endif
