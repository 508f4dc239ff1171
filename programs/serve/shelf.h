/* The folder of texts that clients put aside (--slot-save-path), and how much more it takes: its files are counted
 * once, then what is written is; again when it seems full, as whoever runs the server may have removed some. */
#ifndef SERVE_SHELF_H
#define SERVE_SHELF_H
#include "base/status.h"
#include <pthread.h>

struct shelf {
    pthread_mutex_t lock;
    const char *folder;                /* NULL: there is none                          */
    uint64_t most, taken;              /* bytes                                        */
    double looked;                     /* clock_seconds() when they were counted last  */
};

/* What writers that were killed left half written is removed. */
void shelf_open(struct shelf *s, const char *folder, uint64_t most);
void shelf_close(struct shelf *s);
/* Room for a file of so many bytes, which takes the place of the one there is: taken, or E_IO with words. Any thread;
 * for struct engine_text_room. */
stretto_status shelf_take(void *shelf, const char *path, uint64_t bytes, struct error *err);
#endif
