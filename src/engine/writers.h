/* Sequences that write as `run` does it, without guesses or with those that are asked for, and greedy until their
 * samplers are set otherwise: what is measured, and what a training asks for. */
#ifndef ENGINE_WRITERS_H
#define ENGINE_WRITERS_H
#include "engine/scheduler.h"

struct plain_writer { int32_t seq; struct sampler sampler; struct writer *writer; };

struct writers {
    struct plain_writer *w;            /* [n] */
    struct event *events;              /* [n] for engine_turn */
    uint32_t n;
    struct calibration calibration;
    struct arena arena;                /* of the samplers */
};

/* n open sequences, each with a writer. */
stretto_status writers_open(struct engine *e, struct writers *x, uint32_t n, struct error *err);
stretto_status writers_open_as(struct engine *e, struct writers *x, uint32_t n, const struct writer_options *how,
                               struct error *err);
void writers_close(struct engine *e, struct writers *x);
/* The one that writes in sequence seq, which is one of theirs. */
uint32_t writers_find(const struct writers *x, int32_t seq);
#endif
