#include "cluster/team.h"
#include "base/cgroup.h"
#include "base/memory.h"
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Long enough for the short phases of a decoding step, short enough to leave the core to others. */
enum { SPIN = 4000 };

/* A member that lost more than a quarter of a run, and more than half a millisecond, to others on its
 * core held everybody up at every barrier. A few such runs among many good ones are forgiven; else
 * team_run_some does without it for a while, longer each time that coming back was a mistake. */
enum { LOST_NS = 500000, BAD = 8, GOOD = 1, TOO_BAD = 24 };
enum { PARK_NS = 50000000, PARK_DOUBLINGS = 6 };

struct team {
    pthread_mutex_t lock;                        /* of the turns and of growing                   */
    pthread_cond_t turned;
    uint64_t turns, turn;                        /* given out; whose it is                        */
    unsigned size, cpus;                         /* members there are, the caller among them      */
    _Atomic unsigned spin;
    unsigned active, allowed;                    /* members of this run; of team_run_some's runs  */
    unsigned badness, doublings;
    int64_t parked_until;
    _Atomic int64_t announced;                   /* when sleepers were last called               */
    _Alignas(64) _Atomic uint64_t work;          /* runs so far << 16 | members of the newest     */
    _Alignas(64) _Atomic uint32_t rung;          /* changes with `work`: what sleepers wait on    */
    _Alignas(64) _Atomic uint32_t recalled;      /* counts growths: what parked members wait on   */
    _Alignas(64) _Atomic uint32_t sleepers;
    _Alignas(64) _Atomic uint32_t arrived;
    _Alignas(64) _Atomic uint32_t phase;         /* counts passed barriers                      */
    void (*fn)(void *arg, unsigned rank);
    void *arg;
    bool quit;
    pthread_t thread[TEAM_MAX];
    struct member { struct team *team; unsigned rank; int64_t lost_ns; } member[TEAM_MAX];
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void futex_wait(_Atomic uint32_t *at, uint32_t seen)
{
    syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *at) { syscall(SYS_futex, at, FUTEX_WAKE_PRIVATE, INT_MAX); }

static int64_t clock_ns(clockid_t id)
{
    struct timespec at;
    clock_gettime(id, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

/* This thread runs something by itself: its barriers have nobody to wait for, whatever the team does. */
static _Thread_local bool alone;

/* Time slept through in waits is neither ours nor lost; waiting for a core once called is lost. */
static _Thread_local int64_t slept_ns;

/* Waits until *at differs from `seen`. */
static void wait_change(struct team *t, _Atomic uint32_t *at, uint32_t seen)
{
    unsigned spin = atomic_load_explicit(&t->spin, memory_order_relaxed);
    for (unsigned i = 0; i < spin; i++) {
        if (atomic_load_explicit(at, memory_order_acquire) != seen) return;
        relax();
    }
    int64_t begin = clock_ns(CLOCK_MONOTONIC);
    atomic_fetch_add(&t->sleepers, 1);
    while (atomic_load(at) == seen) futex_wait(at, seen);
    atomic_fetch_sub(&t->sleepers, 1);
    int64_t called = atomic_load(&t->announced), now = clock_ns(CLOCK_MONOTONIC);
    if (called < begin || now - called < LOST_NS) called = now;          /* waking takes a while */
    slept_ns += called - begin;
}

/* The increment and the sleepers' count are both sequentially consistent: either the sleeper sees the
 * new value or we see the sleeper. */
static void announce(struct team *t, _Atomic uint32_t *at)
{
    if (atomic_load(&t->sleepers)) atomic_store(&t->announced, clock_ns(CLOCK_MONOTONIC));
    atomic_fetch_add(at, 1);
    if (atomic_load(&t->sleepers)) futex_wake(at);
}

void team_barrier(struct team *t, void (*serial)(void *arg), void *arg)
{
    if (alone) {
        if (serial) serial(arg);
        return;
    }
    unsigned active = t->active;        /* read now: once all are here the next run may set it */
    uint32_t phase = atomic_load_explicit(&t->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) + 1 == active) {
        if (serial) serial(arg);
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        announce(t, &t->phase);
    } else
        wait_change(t, &t->phase, phase);
}

static void run_member(struct team *t, unsigned rank)
{
    int64_t wall = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    slept_ns = 0;
    t->fn(t->arg, rank);
    cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    t->member[rank].lost_ns = clock_ns(CLOCK_MONOTONIC) - wall - cpu - slept_ns;
    team_barrier(t, NULL, NULL);
}

static unsigned members_of(uint64_t work) { return (unsigned)(work & 0xffff); }

/* Returns the newest run's number, when `rank` takes part in it. */
static uint64_t wait_for_work(struct team *t, unsigned rank, uint64_t seen)
{
    for (;;) {
        uint32_t rung = atomic_load(&t->rung), recalled = atomic_load(&t->recalled);
        uint64_t now = atomic_load(&t->work);
        if (now >> 16 != seen >> 16 && rank < members_of(now)) return now;
        if (members_of(now) && rank >= members_of(now)) futex_wait(&t->recalled, recalled);
        else wait_change(t, &t->rung, rung);
    }
}

static void *member_main(void *p)
{
    const struct member *m = p;
    struct team *t = m->team;
    for (uint64_t seen = 0;;) {
        seen = wait_for_work(t, m->rank, seen);
        if (t->quit) return NULL;
        run_member(t, m->rank);
    }
}

/* `work` is written before either bell is rung, so who missed it sees a bell that has changed. */
static void start(struct team *t, unsigned active)
{
    uint64_t work = atomic_load_explicit(&t->work, memory_order_relaxed);
    bool grows = active > members_of(work);
    t->active = active;
    atomic_store_explicit(&t->spin, active > t->cpus ? 0 : SPIN, memory_order_relaxed);
    atomic_store(&t->work, ((work >> 16) + 1) << 16 | active);
    announce(t, &t->rung);
    if (!grows) return;
    atomic_fetch_add(&t->recalled, 1);
    futex_wake(&t->recalled);
}

static void run_alone(void (*fn)(void *arg, unsigned rank), void *arg)
{
    bool was = alone;
    alone = true;
    fn(arg, 0);
    alone = was;
}

static void run(struct team *t, unsigned active, void (*fn)(void *arg, unsigned rank), void *arg)
{
    bool was_alone = alone;             /* within a run of another team */
    int64_t slept = slept_ns;
    alone = false;
    t->fn = fn;
    t->arg = arg;
    start(t, active);
    run_member(t, 0);
    alone = was_alone;
    slept_ns += slept;
}

/* In order: a mutex alone goes to whoever comes first after its release, which is mostly who released it. */
static void turn_take(struct team *t)
{
    pthread_mutex_lock(&t->lock);
    for (uint64_t own = t->turns++; t->turn != own;) pthread_cond_wait(&t->turned, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

static void turn_give(struct team *t)
{
    pthread_mutex_lock(&t->lock);
    bool others = t->turns != ++t->turn;
    pthread_mutex_unlock(&t->lock);
    if (others) pthread_cond_broadcast(&t->turned);
}

void team_run(struct team *t, unsigned threads, void (*fn)(void *arg, unsigned rank), void *arg)
{
    if (threads <= 1) {
        run_alone(fn, arg);
        return;
    }
    turn_take(t);
    run(t, threads < t->size ? threads : t->size, fn, arg);
    turn_give(t);
}

/* How many of the members that just ran had lost their core. */
static unsigned losers(const struct team *t, int64_t wall)
{
    unsigned n = 0;
    for (unsigned r = 0; r < t->active; r++)
        n += t->member[r].lost_ns > LOST_NS && t->member[r].lost_ns > wall / 4;
    return n;
}

static void run_some(struct team *t, unsigned most, void (*fn)(void *arg, unsigned rank), void *arg)
{
    int64_t begin = clock_ns(CLOCK_MONOTONIC);
    if (t->allowed < most && begin > t->parked_until) {
        t->allowed = t->cpus;
        t->badness = TOO_BAD - BAD;                  /* on probation */
    }
    unsigned now = t->allowed < most ? t->allowed : most;
    if (now == 1) {
        run_alone(fn, arg);
        return;
    }
    run(t, now, fn, arg);
    int64_t end = clock_ns(CLOCK_MONOTONIC);
    unsigned lost = losers(t, end - begin);
    if (!lost) {
        t->badness -= t->badness ? GOOD : 0;
        if (!t->badness) t->doublings = 0;
    } else if ((t->badness += BAD) >= TOO_BAD) {
        t->allowed = lost < now ? now - lost : 1;
        t->parked_until = end + ((int64_t)PARK_NS << t->doublings);
        t->doublings += t->doublings < PARK_DOUBLINGS;
    }
}

void team_run_some(struct team *t, unsigned threads, void (*fn)(void *arg, unsigned rank), void *arg)
{
    if (threads > t->cpus) threads = t->cpus;
    if (threads <= 1) {
        run_alone(fn, arg);
        return;
    }
    turn_take(t);
    run_some(t, threads < t->size ? threads : t->size, fn, arg);
    turn_give(t);
}

unsigned team_size(const struct team *t) { return t->cpus; }

unsigned team_cpus(const char **why)
{
    cpu_set_t set;
    unsigned n = 1;
    const char *reason = "CPUs of the machine";
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = (unsigned)CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (online > 0 && n < (unsigned)online) reason = "CPUs of the affinity mask";
    unsigned quota = cgroup_cpus("");
    if (quota && quota < n) {
        n = quota;
        reason = "CPUs of the cgroup quota";
    }
    if (n < 1) n = 1;
    if (n > TEAM_MAX) n = TEAM_MAX;
    if (why) *why = reason;
    return n;
}

stretto_status team_open(struct team **out, struct error *err)
{
    *out = NULL;
    struct team *t = mem_zalloc(1, sizeof *t);
    if (!t) return fail(err, STRETTO_E_NOMEM, "no memory for a team of threads");
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->turned, NULL);
    t->size = t->active = 1;
    t->cpus = t->allowed = team_cpus(NULL);
    *out = t;
    return STRETTO_OK;
}

stretto_status team_grow(struct team *t, unsigned threads, struct error *err)
{
    if (threads > TEAM_MAX)
        return fail(err, STRETTO_E_ARG, "%u threads asked for; the most is %d", threads, TEAM_MAX);
    int e = 0;
    turn_take(t);
    for (unsigned r = t->size; r < threads && !e; r++) {
        t->member[r] = (struct member){ t, r, 0 };
        e = pthread_create(&t->thread[r], NULL, member_main, &t->member[r]);
        if (!e) t->size = r + 1;
    }
    unsigned size = t->size;
    turn_give(t);
    return e ? fail(err, STRETTO_E_NOMEM, "cannot start thread %u of %u: %s", size + 1, threads,
                    strerror(e))
             : STRETTO_OK;
}

void team_close(struct team *t)
{
    if (!t) return;
    t->quit = true;
    if (t->size > 1) start(t, t->size);
    for (unsigned r = 1; r < t->size; r++) pthread_join(t->thread[r], NULL);
    pthread_cond_destroy(&t->turned);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}
