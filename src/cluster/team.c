#include "cluster/team.h"
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
#include <unistd.h>

/* Long enough for the short phases of a decoding step, short enough to leave the core to others. */
enum { SPIN = 4000 };

struct team {
    unsigned size, spin;
    _Alignas(64) _Atomic uint32_t work;          /* counts team_run calls; sleepers wait on it  */
    _Alignas(64) _Atomic uint32_t sleepers;
    _Alignas(64) _Atomic uint32_t arrived;
    _Alignas(64) _Atomic uint32_t phase;         /* counts passed barriers                      */
    void (*fn)(void *arg, unsigned rank);
    void *arg;
    bool quit;
    pthread_t thread[TEAM_MAX];
    struct member { struct team *team; unsigned rank; } member[TEAM_MAX];
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

/* Waits until *at differs from `seen`. */
static void wait_change(struct team *t, _Atomic uint32_t *at, uint32_t seen)
{
    for (unsigned i = 0; i < t->spin; i++) {
        if (atomic_load_explicit(at, memory_order_acquire) != seen) return;
        relax();
    }
    atomic_fetch_add(&t->sleepers, 1);
    while (atomic_load(at) == seen) futex_wait(at, seen);
    atomic_fetch_sub(&t->sleepers, 1);
}

/* The increment and the sleepers' count are both sequentially consistent: either the sleeper sees the
 * new value or we see the sleeper. */
static void announce(struct team *t, _Atomic uint32_t *at)
{
    atomic_fetch_add(at, 1);
    if (atomic_load(&t->sleepers)) futex_wake(at);
}

void team_barrier(struct team *t, void (*serial)(void *arg), void *arg)
{
    if (t->size == 1) {
        if (serial) serial(arg);
        return;
    }
    uint32_t phase = atomic_load_explicit(&t->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) + 1 == t->size) {
        if (serial) serial(arg);
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        announce(t, &t->phase);
    } else
        wait_change(t, &t->phase, phase);
}

static void *member_main(void *p)
{
    const struct member *m = p;
    struct team *t = m->team;
    for (uint32_t seen = 0;;) {
        wait_change(t, &t->work, seen);
        seen++;
        if (t->quit) return NULL;
        t->fn(t->arg, m->rank);
        team_barrier(t, NULL, NULL);
    }
}

void team_run(struct team *t, void (*fn)(void *arg, unsigned rank), void *arg)
{
    t->fn = fn;
    t->arg = arg;
    if (t->size > 1) announce(t, &t->work);
    fn(arg, 0);
    team_barrier(t, NULL, NULL);
}

unsigned team_size(const struct team *t) { return t->size; }

/* The first number of a small file, or -1 ("max" is no number); *second the one after it, or -1. */
static long long read_number(const char *path, long long *second)
{
    FILE *f = fopen(path, "re");
    if (!f) return -1;
    long long a = -1, b = -1;
    int n = fscanf(f, "%lld %lld", &a, &b);
    fclose(f);
    if (second) *second = n == 2 ? b : -1;
    return n >= 1 ? a : -1;
}

/* CPUs granted by one cgroup folder, 0 when it sets no quota. */
static unsigned folder_cpus(const char *dir, bool v2)
{
    char path[1400];
    long long quota, period;
    if (v2) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", dir);
        quota = read_number(path, &period);
    } else {
        snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us", dir);
        quota = read_number(path, NULL);
        snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_period_us", dir);
        period = read_number(path, NULL);
    }
    if (quota <= 0 || period <= 0) return 0;
    return quota < period ? 1 : (unsigned)(quota / period);
}

/* The tightest quota of the process's cgroup and its ancestors, in CPUs; 0 when there is none. */
static unsigned cgroup_cpus(void)
{
    unsigned best = 0;
    FILE *f = fopen("/proc/self/cgroup", "re");
    char line[1024];
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *dir = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!dir) continue;
        *dir++ = '\0';
        bool v2 = controllers[1] == '\0';
        if (!v2 && strcmp(controllers + 1, "cpu") != 0 && !strstr(controllers, "cpu,cpuacct")) continue;
        for (;;) {
            unsigned cpus = folder_cpus(dir, v2);
            if (cpus && (!best || cpus < best)) best = cpus;
            char *slash = strrchr(dir, '/');
            if (!slash) break;
            *slash = '\0';
        }
    }
    if (f) fclose(f);
    return best;
}

unsigned team_cpus(const char **why)
{
    cpu_set_t set;
    unsigned n = 1;
    const char *reason = "CPUs of the machine";
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = (unsigned)CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (online > 0 && n < (unsigned)online) reason = "CPUs of the affinity mask";
    unsigned quota = cgroup_cpus();
    if (quota && quota < n) {
        n = quota;
        reason = "CPUs of the cgroup quota";
    }
    if (n < 1) n = 1;
    if (n > TEAM_MAX) n = TEAM_MAX;
    if (why) *why = reason;
    return n;
}

stretto_status team_open(struct team **out, unsigned threads, struct error *err)
{
    *out = NULL;
    unsigned cpus = team_cpus(NULL);
    if (threads == 0) threads = cpus;
    if (threads > TEAM_MAX)
        return fail(err, STRETTO_E_ARG, "%u threads asked for; the most is %d", threads, TEAM_MAX);
    struct team *t = mem_zalloc(1, sizeof *t);
    if (!t) return fail(err, STRETTO_E_NOMEM, "no memory for a team of threads");
    t->size = threads;
    t->spin = threads > cpus ? 0 : SPIN;
    for (unsigned r = 1; r < threads; r++) {
        t->member[r] = (struct member){ t, r };
        int e = pthread_create(&t->thread[r], NULL, member_main, &t->member[r]);
        if (e) {
            t->size = r;
            team_close(t);
            return fail(err, STRETTO_E_NOMEM, "cannot start thread %u of %u: %s", r + 1, threads,
                        strerror(e));
        }
    }
    *out = t;
    return STRETTO_OK;
}

void team_close(struct team *t)
{
    if (!t) return;
    t->quit = true;
    if (t->size > 1) announce(t, &t->work);
    for (unsigned r = 1; r < t->size; r++) pthread_join(t->thread[r], NULL);
    mem_free(t);
}
