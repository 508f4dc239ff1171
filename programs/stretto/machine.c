#include "stretto/machine.h"
#include "model/model.h"
#include "stretto/experimental.h"
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

/* ---- CPUs ------------------------------------------------------------------------------------ */

/* "0xf" or "f": the lowest bit is CPU 0. */
static bool read_mask(const char *text, cpu_set_t *set)
{
    if (strncmp(text, "0x", 2) == 0 || strncmp(text, "0X", 2) == 0) text += 2;
    size_t n = strlen(text);
    if (!n || strspn(text, "0123456789abcdefABCDEF") != n) return false;
    for (size_t i = 0; i < n; i++) {
        char digit[2] = { text[n - 1 - i], 0 };
        unsigned long bits = strtoul(digit, NULL, 16);
        for (size_t b = 0; b < 4; b++) {
            size_t cpu = 4 * i + b;
            if (!(bits >> b & 1)) continue;
            if (cpu >= CPU_SETSIZE) return false;
            CPU_SET(cpu, set);
        }
    }
    return true;
}

/* "2-5", "2-" or "-5": both ends belong to it, and a missing one is the first or last CPU there is. */
static bool read_range(const char *text, const cpu_set_t *allowed, cpu_set_t *set)
{
    const char *dash = strchr(text, '-');
    if (!dash || strchr(dash + 1, '-') || !text[1] || strspn(text, "0123456789-") != strlen(text)) return false;
    unsigned long low = dash == text ? 0 : strtoul(text, NULL, 10);
    unsigned long high = dash[1] ? strtoul(dash + 1, NULL, 10) : CPU_SETSIZE - 1;
    if (low > high || high >= CPU_SETSIZE) return false;
    for (unsigned long cpu = low; cpu <= high; cpu++)
        if ((dash != text && dash[1]) || CPU_ISSET(cpu, allowed)) CPU_SET(cpu, set);
    return true;
}

/* "0-3,8", as people write sets of CPUs. */
static void spell_cpus(const cpu_set_t *set, char *out, size_t cap)
{
    size_t used = 0;
    *out = '\0';
    for (size_t cpu = 0; cpu < CPU_SETSIZE && used + 16 < cap; cpu++) {
        if (!CPU_ISSET(cpu, set)) continue;
        size_t last = cpu;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, set)) last++;
        used += (size_t)snprintf(out + used, cap - used, "%s%zu", used ? "," : "", cpu);
        if (last > cpu) used += (size_t)snprintf(out + used, cap - used, "-%zu", last);
        cpu = last;
    }
}

int use_cpus(const char *command, const struct model_options *o)
{
    cpu_set_t allowed, set, outside;
    if (!o->cpu_mask && !o->cpu_range) return EXIT_DONE;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return command_fail(command, STRETTO_E_IO, "cannot find out which CPUs this process may use");
    if (o->cpu_mask && !read_mask(o->cpu_mask, &set))
        return command_usage(command, "-C takes hexadecimal digits, one bit for each CPU, as in f for CPUs 0 to 3; "
                             "not '%s'", o->cpu_mask);
    if (o->cpu_range && !read_range(o->cpu_range, &allowed, &set))
        return command_usage(command, "--cpu-range takes FIRST-LAST, as in 0-3; not '%s'", o->cpu_range);
    CPU_XOR(&outside, &set, &allowed);
    CPU_AND(&outside, &outside, &set);
    if (!CPU_COUNT(&set) || CPU_COUNT(&outside)) {
        char wrong[200], there[200];
        spell_cpus(&outside, wrong, sizeof wrong);
        spell_cpus(&allowed, there, sizeof there);
        return command_usage(command, "-C and --cpu-range name %s%s, but this process may use CPUs %s",
                             *wrong ? "CPUs " : "no CPU", wrong, there);
    }
    if (sched_setaffinity(0, sizeof set, &set) == 0) return EXIT_DONE;
    return command_fail(command, STRETTO_E_IO, strerror(errno));
}

/* ---- memory ---------------------------------------------------------------------------------- */

int lock_weights(const char *command, const stretto_model *m)
{
    const struct model *inside = stretto_model_inside(m);
    const struct backend *b = inside->weights ? inside->device->backend : NULL;
    const void *at = b && b->weights_view ? b->weights_view(inside->weights) : NULL;
    if (!at) return EXIT_DONE;
    double bytes = (double)b->weights_bytes(inside->weights);
    if (mlock(at, (size_t)b->weights_bytes(inside->weights)) == 0) return EXIT_DONE;
    char text[400];
    struct rlimit limit = { 0 };
    int cause = errno;
    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (limit.rlim_cur != RLIM_INFINITY && (double)limit.rlim_cur < bytes)
        snprintf(text, sizeof text, "--mlock cannot lock %.1f MB of weights: this process may lock %.1f MB "
                 "(RLIMIT_MEMLOCK). 'ulimit -l unlimited' or memlock in /etc/security/limits.conf raises that; "
                 "or leave --mlock out", bytes / 1e6, (double)limit.rlim_cur / 1e6);
    else
        snprintf(text, sizeof text, "--mlock cannot lock %.1f MB of weights: %s", bytes / 1e6, strerror(cause));
    return command_fail(command, STRETTO_E_IO, text);
}
