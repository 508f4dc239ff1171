/* What people are told of the CPU itself, in the list of devices. */
#include "backend/cpu/cpu.h"
#include "base/status.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The first "model name" of the kernel's list, which ARM's has not. */
static void name_of_cpu(char *out, size_t size)
{
    char line[256];
    snprintf(out, size, "the CPU");
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        const char *name = strncmp(line, "model name", 10) ? NULL : strchr(line, ':');
        if (!name) continue;
        name += 1 + strspn(name + 1, " ");
        if (*name == '\n' || !*name) break;
        snprintf(out, size, "%.*s", (int)strcspn(name, "\n"), name);
        text_tame(out);
        break;
    }
    if (f) fclose(f);
}

void cpu_about(struct device_about *out)
{
    struct kernels k;
    kernels_init(&k, cpu_detect());
    name_of_cpu(out->name, sizeof out->name);
    snprintf(out->driver, sizeof out->driver, "kernels up to %s", k.level);
    out->units = team_cpus(NULL);
    long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);
    if (pages > 0 && bytes > 0) out->memory = (uint64_t)pages * (uint64_t)bytes;
}
