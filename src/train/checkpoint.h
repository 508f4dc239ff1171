/* What a training needs to go on with the very bits: one file for a step, PATH/step-000120.safetensors, with what is
 * trained as a tensor ("master/NAME" and, where one is kept, "average/NAME", float32), what the optimizer remembers
 * of it in the bytes that it has there ("m/NAME", "v.scale/NAME" ..., backend.h) and everything else as a text of JSON
 * in its metadata. A file is called .part until all of it is on the disk and then takes its name, so a
 * process may be killed at any byte, and a full disk leaves what was there. Two are kept. */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H
#include "backend/backend.h"

enum { CHECKPOINTS_KEPT = 2 };

struct checkpoint {
    const struct graph *graph;    /* the trained one: of its parameters */
    const uint8_t *trained;       /* [n_params] these                   */
    struct device *device;
    struct weights *weights;
    bool average;                 /* the weights keep averages          */
    uint64_t keep;                /* a step whose file stays besides; 0 */
};

/* Writes the step's file and removes what is older than the last two, or was never finished. */
stretto_status checkpoint_write(const struct checkpoint *c, const char *folder, uint64_t step, const char *state,
                                struct error *err);
/* Files of steps behind this one go. */
void checkpoint_remove_behind(const char *folder, uint64_t step);
/* Bytes of such a file, about. */
uint64_t checkpoint_bytes(const struct checkpoint *c);
/* Bytes of memory that writing and reading one takes. */
uint64_t checkpoint_room(const struct checkpoint *c);
/* The newest step that the folder has; 0: none. */
uint64_t checkpoint_newest(const char *folder);
/* The text of the step's file, in memory of the caller's (mem_free). */
stretto_status checkpoint_state(const char *folder, uint64_t step, char **state, struct error *err);
/* Its tensors into the weights. Each must be there, and fit. */
stretto_status checkpoint_read(const struct checkpoint *c, const char *folder, uint64_t step, struct error *err);
#endif
