/* Where a step's time goes, by the card's clock, when somebody asked. */
#ifndef BACKEND_GPU_PROFILE_H
#define BACKEND_GPU_PROFILE_H
#include "backend/gpu/program.h"

stretto_status gpu_profile(struct program *p, bool on, struct error *err);
size_t gpu_profile_read(const struct program *p, struct op_time *out, size_t cap);

void gpu_profile_begin_now(struct program *p);
stretto_status gpu_profile_mark_now(struct program *p, size_t phase, struct error *err);
void gpu_profile_end_now(struct program *p);

/* Nothing but a test of a pointer unless a profile is taken: the step begins, phase i is about to be enqueued
 * (the last mark: all are), the card has finished. */
static inline void gpu_profile_begin(struct program *p)
{
    if (p->profile) gpu_profile_begin_now(p);
}
static inline stretto_status gpu_profile_mark(struct program *p, size_t phase, struct error *err)
{
    return p->profile ? gpu_profile_mark_now(p, phase, err) : STRETTO_OK;
}
static inline void gpu_profile_end(struct program *p)
{
    if (p->profile) gpu_profile_end_now(p);
}
#endif
