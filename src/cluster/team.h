/* The thread team: threads that run one function together and meet at barriers; one team is meant
 * for everything in a process. Any thread may ask for a run: runs of two and more take turns, in the
 * order in which they were asked for; a run of one is done by its caller, beside whatever runs.
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

/* Starts no thread yet. */
stretto_status team_open(struct team **out, struct error *err);
/* When nothing runs. */
void team_close(struct team *t);
/* The CPUs that were there when it was opened: how many threads to ask for by default. */
unsigned team_size(const struct team *t);
/* Makes runs of so many threads possible, from now on; E_ARG above TEAM_MAX. */
stretto_status team_grow(struct team *t, unsigned threads, struct error *err);

/* So many threads (at most what it was grown to) call fn(arg, rank), the caller as rank 0; returns
 * when all have. fn must not ask this team for a run; another team it may. */
void team_run(struct team *t, unsigned threads, void (*fn)(void *arg, unsigned rank), void *arg);

/* The same by at most as many of them as have a CPU of their own, thread 0 among them: fn shares its
 * work out by counters. */
void team_run_some(struct team *t, unsigned threads, void (*fn)(void *arg, unsigned rank),
                   void *arg);

/* Inside fn: waits for all that run it. The last to arrive calls serial(arg) before anyone goes on; serial may be
 * NULL. What was written before the barrier is visible after it. */
void team_barrier(struct team *t, void (*serial)(void *arg), void *arg);
#endif
