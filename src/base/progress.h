/* Progress of long work. The library never draws: it tells a callback, and the program decides what
 * a person sees (programs/ui/progress.h). The callback may be called often, from one thread at a
 * time. */
#ifndef BASE_PROGRESS_H
#define BASE_PROGRESS_H
#include <stddef.h>
#include <stdint.h>

struct progress {
    /* `what` names the piece of work, for people ("loading", "model.gguf"), and stays the same
     * until that piece is over. total 0: not known. done == total: this piece is over. */
    void (*tell)(void *ud, const char *what, uint64_t done, uint64_t total);
    void *ud;
};

/* p may be NULL, or all zero: nobody is listening. */
static inline void progress_tell(const struct progress *p, const char *what, uint64_t done,
                                 uint64_t total)
{
    if (p && p->tell) p->tell(p->ud, what, done, total);
}
#endif
