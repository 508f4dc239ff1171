/* A new file that is called PATH.part until it is whole, then takes its name in one step. The .part is locked while
 * it is written, so two writers never meet in it, and one that a crash left is told from one at work. */
#ifndef BASE_PART_H
#define BASE_PART_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

struct part {
    char *path, *part;                  /* owned; part: PATH.part                                    */
    int fd;                             /* of PATH.part                                              */
    bool force;                         /* at the end PATH may be replaced                           */
    bool begun;                         /* what stands in PATH.part is ours to remove                */
    uint64_t bytes;                     /* that the file will have, for words about a full disk; 0: not known */
};

/* anew: what another writer left under PATH.part is gone; otherwise it stays until part_begin. After a failure
 * nothing is open. */
stretto_status part_open(struct part *p, const char *path, bool force, bool anew, struct error *err);
/* Empties PATH.part and reserves `bytes`, so that a full disk shows here, before the work. */
stretto_status part_begin(struct part *p, uint64_t bytes, struct error *err);
stretto_status part_put(struct part *p, uint64_t at, const void *bytes, size_t n, struct error *err);
/* What was put is on the disk. */
stretto_status part_sync(struct part *p, struct error *err);
/* The same, and the file has its name. */
stretto_status part_finish(struct part *p, struct error *err);
/* Without finish before: PATH.part is removed, but for what nobody has begun to change. */
void part_close(struct part *p);
/* The same, and PATH.part stays. */
void part_leave(struct part *p);
#endif
