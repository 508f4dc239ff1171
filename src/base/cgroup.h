/* What the control groups of the process allow: version 2, or version 1 with a folder per controller.
 * Inside a container the group's own folder may be out of sight; the nearest one above it counts. */
#ifndef BASE_CGROUP_H
#define BASE_CGROUP_H
#include <stdint.h>

/* `root` stands before /proc and /sys: "" but in tests. */

/* The tightest CPU quota of the group and those above it, in whole CPUs, at least 1; 0: none. */
unsigned cgroup_cpus(const char *root);
/* The fewest bytes that any of them leaves, at least 1; UINT64_MAX: no limit. What caches files is not
 * counted as used: the kernel gives it back first. */
uint64_t cgroup_memory(const char *root);
/* Bytes that can be had without swapping: what the kernel calls available, within what the groups leave;
 * 0 when neither says anything. */
uint64_t memory_available(const char *root);
#endif
