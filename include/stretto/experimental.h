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
/* What its texts taught an engine about guessing; NULL: no memory. */
struct learned;
struct learned *stretto_engine_learned(stretto_engine *e);
#endif
