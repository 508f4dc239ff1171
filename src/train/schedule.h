/* How large a step is: the learning rate over a training of `steps` updates. It rises in a line through `warm`
 * updates, and then falls to nothing along a half cosine (arXiv 1608.03983) or a line, or stays. No update has
 * rate 0. */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H
#include "base/status.h"
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum schedule_kind { SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_CONSTANT, SCHEDULES };

struct lr_schedule { enum schedule_kind kind; double lr; uint64_t warm, steps; };

static const char *const schedule_names[SCHEDULES] = { "cosine", "linear", "constant" };

/* SCHEDULES: there is none of that name. */
static inline enum schedule_kind schedule_by_name(const char *name)
{
    int k = 0;
    while (k < SCHEDULES && strcmp(schedule_names[k], name) != 0) k++;
    return (enum schedule_kind)k;
}

/* step: from 1 on. */
static inline double schedule_lr(const struct lr_schedule *s, uint64_t step)
{
    if (step <= s->warm) return s->lr * (double)step / (double)(s->warm + 1);
    if (s->kind == SCHEDULE_CONSTANT || step > s->steps) return s->lr;
    double done = (double)(step - s->warm - 1) / (double)(s->steps - s->warm);
    return s->kind == SCHEDULE_LINEAR ? s->lr * (1 - done) : s->lr * 0.5 * (1 + cos(3.14159265358979323846 * done));
}

/* What gradients are multiplied with, so that their norm is at most `most` (0: any). */
static inline double schedule_clip(double norm, double most) { return most > 0 && norm > most ? most / norm : 1; }

/* Whether a checkpoint is due behind a step: the last of `steps`; every `every` steps; or with every 0 as often as a
 * twentieth of the time goes into it, by what a step and a checkpoint took so far. saved: the step of the last one, 0:
 * none, and then the first is due. */
struct saving { uint64_t saved, steps, every; double step_seconds, save_seconds; };
static inline bool schedule_saves(const struct saving *s, uint64_t step)
{
    double cost = s->step_seconds > 0 ? 20 * s->save_seconds / s->step_seconds : 1;
    uint64_t every = s->every ? s->every : s->saved && cost < 1e9 ? (uint64_t)ceil(cost) : 1;
    return step == s->steps || step - s->saved >= (every ? every : 1);
}
#endif
