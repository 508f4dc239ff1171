/* What this process has used. */
#ifndef BASE_USAGE_H
#define BASE_USAGE_H
#include <sys/resource.h>

/* Seconds of all processors together; 0 where the system does not say. */
static inline double usage_cpu_seconds(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0) return 0;
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* The most bytes that were in memory at once, pages of mapped files among them; 0 as above. */
static inline double usage_peak_bytes(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (double)u.ru_maxrss * 1024 : 0;
}
#endif
