/* The folder of texts that clients put aside (--slot-save-path), and how much more it takes: its files are counted
 * at first, then what is written is; again after somebody changed it, once a second at most. A file that is being
 * written counts as what it will be. */
#ifndef SERVE_SHELF_H
#define SERVE_SHELF_H
#include "base/status.h"
#include <pthread.h>
#include <stdbool.h>
#include <time.h>

struct shelf {
    pthread_mutex_t lock;
    const char *folder;                /* NULL: there is none                          */
    uint64_t most;                     /* bytes                                        */
    int64_t files, coming;             /* bytes of whole files; that those which are being written will add */
    double looked;                     /* clock_seconds() when they were counted last  */
    struct timespec changed;           /* the folder, as it said then                  */
};

/* What writers that were killed left half written is removed. */
void shelf_open(struct shelf *s, const char *folder, uint64_t most);
void shelf_close(struct shelf *s);
/* For struct engine_text_room, on any thread: room for a file of so many bytes, which takes the place of the one there
 * is; *note is what it adds. E_IO with words. */
stretto_status shelf_take(void *shelf, const char *path, uint64_t bytes, int64_t *note, struct error *err);
void shelf_done(void *shelf, int64_t note, bool whole);
#endif
