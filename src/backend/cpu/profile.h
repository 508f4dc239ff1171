/* Where a step's time goes, when somebody asked. Each thread marks the end of what it just did; the
 * time since its last mark goes to that phase, as work or as waiting at the barrier behind it. What
 * one thread does alone while the others wait (short row phases) is kept apart and taken off their
 * waits, so that all columns add up to the wall clock. */
#ifndef BACKEND_CPU_PROFILE_H
#define BACKEND_CPU_PROFILE_H
#include "backend/cpu/cpu.h"

enum profile_kind { PROFILE_WORK, PROFILE_WAIT };

void profile_begin_now(struct program *p);
void profile_mark_now(struct program *p, unsigned rank, uint32_t phase, enum profile_kind kind);
void profile_alone_begin_now(struct program *p);
void profile_alone_now(struct program *p, uint32_t phase);
void profile_end_now(struct program *p);

/* Nothing but a test of a pointer unless a profile is taken. Threads mark what they did and then
 * that they waited; `alone` is for code that exactly one thread runs while all others stand at a
 * barrier. */
static inline void profile_begin(struct program *p)
{
    if (p->profile) profile_begin_now(p);
}
static inline void profile_mark(struct program *p, unsigned rank, uint32_t phase,
                                enum profile_kind kind)
{
    if (p->profile) profile_mark_now(p, rank, phase, kind);
}
static inline void profile_alone_begin(struct program *p)
{
    if (p->profile) profile_alone_begin_now(p);
}
static inline void profile_alone(struct program *p, uint32_t phase)
{
    if (p->profile) profile_alone_now(p, phase);
}
static inline void profile_end(struct program *p)
{
    if (p->profile) profile_end_now(p);
}
#endif
