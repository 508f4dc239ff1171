/* What the machine's processors and their memory have used: RAPL's counters, as Linux shows them (powercap). They
 * count everybody's work on the machine, with steps of about a millisecond. A card tells its own through its
 * device (backend.h: joules). */
#ifndef EVAL_ENERGY_H
#define EVAL_ENERGY_H
#include <stddef.h>
#include <stdint.h>

enum { ENERGY_ZONES = 64 };

struct energy {
    struct energy_zone { char path[256]; uint64_t last, range; } zone[ENERGY_ZONES];
    size_t n;              /* 0: nothing can be read                                                    */
    uint64_t microjoules;  /* so far                                                                    */
    char why[400];         /* there are counters, and they cannot be read: a sentence; else ""          */
};

/* The counters of packages, and of memory, which is not part of them; `folder` NULL: where Linux has them. */
void energy_open(struct energy *e, const char *folder);
/* Joules since it was opened; a negative number when they cannot be read. Counters wrap, after minutes at
 * the soonest: it must be asked more often than that. */
double energy_joules(struct energy *e);
#endif
