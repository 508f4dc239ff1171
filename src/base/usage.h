/* What this process has used. */
#ifndef BASE_USAGE_H
#define BASE_USAGE_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Seconds of all processors together; 0 where the system does not say. */
static inline double usage_cpu_seconds(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0) return 0;
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* The most bytes that were in memory at once, pages of mapped files among them; 0 as above. getrusage has on Linux what
 * the parent had, too, when it made this process. */
static inline double usage_peak_bytes(void)
{
    struct rusage u;
    FILE *f = fopen("/proc/self/status", "re");
    char line[128];
    double kib = 0;
    while (f && kib == 0 && fgets(line, sizeof line, f))
        if (strncmp(line, "VmHWM:", 6) == 0) kib = strtod(line + 6, NULL);
    if (f) fclose(f);
    if (kib == 0 && getrusage(RUSAGE_SELF, &u) == 0) kib = (double)u.ru_maxrss;
    return 1024 * kib;
}
#endif
