/* What changes of single layers do to a model's answers, all measured in one walk: the texts' rows as they are, and
 * beside them, from the layer on where a change is made, the rows as they are with it. Every layer's weights are in
 * memory once, and alone. */
#ifndef COMPRESS_TRIAL_H
#define COMPRESS_TRIAL_H
#include "compress/calibrate.h"

struct trials;

/* m: opened with graph_only or whole; b: its weights as they are; device and texts are borrowed. The second half of
 * each text counts. */
stretto_status trials_open(struct trials **out, const struct model *m, struct device *d, const struct binding *b,
                           const struct calibration_text *text, struct error *err);
void trials_close(struct trials *t);
/* The layer that the walk stands before; the number of layers once it is through. */
uint32_t trials_at(const struct trials *t);
/* This layer as `changed` has it; NULL: without the layer. */
stretto_status trials_try(struct trials *t, const struct binding *changed, size_t *id, struct error *err);
/* On, through the layer as it is. */
stretto_status trials_go(struct trials *t, struct error *err);
/* Once the walk is through: the mean divergence KL(as it was || with the change), in nats a token. */
double trials_divergence(const struct trials *t, size_t id);
#endif
