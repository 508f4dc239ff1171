/* The thread team: a fixed set of threads that run one function together and meet at barriers.
 * Waiting is a short spin, then a sleep on a futex, so a stolen core or too many threads cost a
 * wake-up and not a collapse. Work that does not care how many take part (team_run_some) is done by
 * no more threads than there are CPUs, and for a while without those whose core others use. */
#ifndef CLUSTER_TEAM_H
#define CLUSTER_TEAM_H
#include "base/status.h"

struct team;

enum { TEAM_MAX = 256 };

/* CPUs this process may use: the affinity mask (cpuset), bounded by the cgroup quota (v1 and v2,
 * rounded down, at least 1). *why, when not NULL, gets a fixed phrase for people. */
unsigned team_cpus(const char **why);

/* threads: 0 = team_cpus(). The caller of team_run is thread 0; threads - 1 are started. */
stretto_status team_open(struct team **out, unsigned threads, struct error *err);
void team_close(struct team *t);
unsigned team_size(const struct team *t);

/* Every thread calls fn(arg, rank); returns when all have. Not reentrant. */
void team_run(struct team *t, void (*fn)(void *arg, unsigned rank), void *arg);

/* The same by at most as many threads as have a CPU of their own, thread 0 among them: fn shares its
 * work out by counters. */
void team_run_some(struct team *t, void (*fn)(void *arg, unsigned rank), void *arg);

/* Inside fn: waits for all that run it. The last to arrive calls serial(arg) before anyone goes on; serial may be
 * NULL. What was written before the barrier is visible after it. */
void team_barrier(struct team *t, void (*serial)(void *arg), void *arg);
#endif
