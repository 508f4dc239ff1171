/* A file on its way. What has arrived lies in FINAL.part, what is known of its origin in
 * FINAL.info, and FINAL.lock keeps two downloads apart. Only a whole, checked file is renamed to
 * FINAL, so FINAL is never half written; the three helpers are gone then. Everything that passes is
 * hashed on its way. */
#ifndef PULL_PART_H
#define PULL_PART_H
#include "base/progress.h"
#include "base/status.h"
#include <sodium.h>
#include <stdbool.h>

struct part {
    char *final, *path, *info, *lock;
    int fd, lock_fd;
    uint64_t have;                /* bytes in FINAL.part                                    */
    crypto_hash_sha256_state sha; /* of those bytes                                         */
    /* Of the bytes that are there; "" and 0 where not known. */
    char source[65];     /* sha256 of the source's words: addresses hold secrets   */
    char validator[256]; /* strong ETag or Last-Modified                           */
    uint64_t total;
};

/* Makes the folders above `final`, takes the lock (waits for another download of the same file,
 * told through `waiting`), and hashes what is already there. *stop ends that with E_CANCEL. */
stretto_status part_open(struct part *p, const char *final, const volatile int *stop,
                         void (*waiting)(const char *final), const struct progress *progress,
                         struct error *err);
/* Gives the lock back. Bytes that arrived stay for the next time; an empty part is removed. */
void part_close(struct part *p);

stretto_status part_restart(struct part *p, struct error *err); /* drops what is there  */
stretto_status part_write(struct part *p, const void *data, size_t n, struct error *err);
/* Remembers where the bytes come from, before the first of them is written. */
stretto_status part_note(struct part *p, const char *source, const char *validator, uint64_t total,
                         struct error *err);
/* Free bytes of the folder; UINT64_MAX when that cannot be known. */
uint64_t part_room(const struct part *p);
void part_sha256(const struct part *p, char hex[65]);
/* To the disk, and to its final name. */
stretto_status part_finish(struct part *p, struct error *err);

void sha256_text(const char *s, char hex[65]);
stretto_status sha256_file(const char *path, const char *what, const struct progress *progress,
                           const volatile int *stop, char hex[65], struct error *err);
#endif
