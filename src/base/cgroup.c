#include "base/cgroup.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { NAME = 2048 };

/* One group's folder; `two`: of version 2. */
struct folder { const char *root, *dir; bool two; };

static FILE *open_in(const struct folder *f, const char *controller, const char *file)
{
    char path[2 * NAME];
    snprintf(path, sizeof path, "%s/sys/fs/cgroup%s%s/%s", f->root, f->two ? "" : controller, f->dir, file);
    return fopen(path, "re");
}

/* The first number of a file, or -1 ("max" is no number); *second the one after it, or -1. */
static long long number(const struct folder *f, const char *controller, const char *file,
                        long long *second)
{
    FILE *in = open_in(f, controller, file);
    long long a = -1, b = -1;
    int n = in ? fscanf(in, "%lld %lld", &a, &b) : 0;
    if (in) fclose(in);
    if (second) *second = n == 2 ? b : -1;
    return n >= 1 ? a : -1;
}

/* Goes through the groups of `controller` from the process's own up to the top. */
static void visit(const char *root, const char *controller,
                  void (*see)(const struct folder *f, void *ud), void *ud)
{
    char line[NAME], path[NAME];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *in = fopen(path, "re");
    while (in && fgets(line, sizeof line, in)) {           /* id:controller,controller:folder */
        line[strcspn(line, "\n")] = '\0';
        char *names = strchr(line, ':'), *dir = names ? strchr(names + 1, ':') : NULL;
        if (!dir) continue;
        *dir++ = '\0';
        names++;
        struct folder f = { root, dir, *names == '\0' };
        bool mine = f.two;
        for (char *rest, *name = strtok_r(names, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
            mine |= strcmp(name, controller) == 0;
        for (char *slash = dir; mine && slash;) {
            see(&f, ud);
            slash = strrchr(dir, '/');
            if (slash) *slash = '\0';
        }
    }
    if (in) fclose(in);
}

static void see_cpus(const struct folder *f, void *ud)
{
    unsigned *best = ud, cpus;
    long long period = -1, quota = f->two ? number(f, "", "cpu.max", &period)
                                          : number(f, "/cpu", "cpu.cfs_quota_us", NULL);
    if (!f->two) period = number(f, "/cpu", "cpu.cfs_period_us", NULL);
    if (quota <= 0 || period <= 0) return;
    cpus = quota < period ? 1 : (unsigned)(quota / period);
    if (!*best || cpus < *best) *best = cpus;
}

unsigned cgroup_cpus(const char *root)
{
    unsigned best = 0;
    visit(root, "cpu", see_cpus, &best);
    return best;
}

static uint64_t file_cache(const struct folder *f)
{
    FILE *in = open_in(f, "/memory", "memory.stat");
    char line[256];
    const char *active = f->two ? "active_file %llu" : "total_active_file %llu",
               *inactive = f->two ? "inactive_file %llu" : "total_inactive_file %llu";
    uint64_t sum = 0;
    unsigned long long v;
    while (in && fgets(line, sizeof line, in))
        if (sscanf(line, active, &v) == 1 || sscanf(line, inactive, &v) == 1) sum += v;
    if (in) fclose(in);
    return sum;
}

static void see_memory(const struct folder *f, void *ud)
{
    uint64_t *least = ud;
    long long limit = number(f, "/memory", f->two ? "memory.max" : "memory.limit_in_bytes", NULL);
    long long used = number(f, "/memory", f->two ? "memory.current" : "memory.usage_in_bytes", NULL);
    if (limit < 0 || used < 0) return;
    uint64_t cache = file_cache(f), held = (uint64_t)used > cache ? (uint64_t)used - cache : 0;
    uint64_t left = (uint64_t)limit > held ? (uint64_t)limit - held : 1;
    if (left < *least) *least = left;
}

uint64_t cgroup_memory(const char *root)
{
    uint64_t least = UINT64_MAX;
    visit(root, "memory", see_memory, &least);
    return least;
}

uint64_t memory_available(const char *root)
{
    unsigned long long kb = 0, v;
    char line[256], path[NAME];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    FILE *in = fopen(path, "re");
    while (in && fgets(line, sizeof line, in))
        if (sscanf(line, "MemAvailable: %llu kB", &v) == 1) kb = v;
    if (in) fclose(in);
    uint64_t bytes = kb * 1024, group = cgroup_memory(root);
    return kb && bytes < group ? bytes : group == UINT64_MAX ? 0 : group;
}
