/* Powercap (Linux, Documentation/power/powercap): a zone is a folder intel-rapl:0 (a package; AMD's are called so
 * too) or intel-rapl:0:1 (a part of it), whose `name` says what it is and whose `energy_uj` counts microjoules up
 * to `max_energy_range_uj`. Since Linux 5.10 root alone may read it. Cores and graphics are in their package;
 * psys, the whole platform, would count all of it twice, and so would intel-rapl-mmio. */
#include "eval/energy.h"
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char folder_of_linux[] = "/sys/class/powercap", zones[] = "intel-rapl:";

/* The first line of a file of a zone; errno is 0 where it has none. */
static bool line_read(const char *zone, const char *name, char *line, int size)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", zone, name);
    errno = 0;
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool got = fgets(line, size, f) != NULL;
    fclose(f);
    if (got) line[strcspn(line, "\n")] = '\0';
    return got;
}

/* A number of at most 19 digits, which fits. */
static bool number_read(const char *zone, const char *name, uint64_t *out)
{
    char line[64];
    uint64_t n = 0;
    size_t i = 0;
    if (!line_read(zone, name, line, sizeof line)) return false;
    for (; i < 19 && line[i] >= '0' && line[i] <= '9'; i++) n = 10 * n + (uint64_t)(line[i] - '0');
    *out = n;
    return i && !line[i];
}

static bool counts(const char *zone)
{
    char name[64];
    return line_read(zone, "name", name, sizeof name)
        && (strncmp(name, "package", 7) == 0 || strcmp(name, "dram") == 0);
}

/* False: it cannot be read, and without it the sum would be of something else. */
static bool zone_add(struct energy *e, const char *folder, const char *name)
{
    struct energy_zone *z = &e->zone[e->n];
    int n = snprintf(z->path, sizeof z->path, "%s/%s", folder, name);
    if (n < 0 || (size_t)n >= sizeof z->path || !counts(z->path)) return true;
    if (!number_read(z->path, "max_energy_range_uj", &z->range)) z->range = 0;
    if (number_read(z->path, "energy_uj", &z->last)) {
        e->n++;
        return true;
    }
    snprintf(e->why, sizeof e->why, "%s/energy_uj cannot be read: %s", z->path,
             errno ? strerror(errno) : "it holds no number");
    return false;
}

void energy_open(struct energy *e, const char *folder)
{
    *e = (struct energy){ 0 };
    if (!folder) folder = folder_of_linux;
    DIR *d = opendir(folder);
    if (!d) return;
    bool all = true;
    for (struct dirent *f; all && e->n < ENERGY_ZONES && (f = readdir(d));)
        if (strncmp(f->d_name, zones, sizeof zones - 1) == 0) all = zone_add(e, folder, f->d_name);
    closedir(d);
    if (!all) e->n = 0;
}

double energy_joules(struct energy *e)
{
    for (size_t i = 0; i < e->n; i++) {
        struct energy_zone *z = &e->zone[i];
        uint64_t now;
        if (!number_read(z->path, "energy_uj", &now)) return -1;
        if (now >= z->last) e->microjoules += now - z->last;
        else if (z->range >= z->last) e->microjoules += z->range - z->last + now;
        z->last = now;
    }
    return e->n ? (double)e->microjoules * 1e-6 : -1;
}
