/* The devices of this process: one for each ceiling of the kernels, which all models opened with it
 * share, so that however many models, engines and draft models there are, there is one team of threads.
 * Opened with the first model, closed with the last. A child of fork has none of its parent's threads:
 * it opens devices of its own, and leaves those of the parent alone. */
#include "api/handles.h"
#include "base/memory.h"
#include <pthread.h>
#include <string.h>
#include <unistd.h>

struct shared {
    struct shared *next;
    struct device *device;
    char *level;                       /* "": no ceiling */
    unsigned users;
    pid_t process;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct shared *first;           /* under lock */

static stretto_status open_shared(struct shared **out, const char *level, struct error *err)
{
    struct shared *x = mem_zalloc(1, sizeof *x);
    struct device_options o = { .level = *level ? level : NULL };
    stretto_status s = x && (x->level = mem_strdup(level)) ? backend_open(NULL, &o, &x->device, err)
                                                           : fail(err, STRETTO_E_NOMEM, "out of memory");
    if (s != STRETTO_OK) {
        if (x) mem_free(x->level);
        mem_free(x);
        return s;
    }
    x->process = getpid();
    x->next = first;
    *out = first = x;
    return STRETTO_OK;
}

stretto_status shared_device_take(const char *level, struct device **out, struct error *err)
{
    stretto_status s = STRETTO_OK;
    *out = NULL;
    if (!level) level = "";
    pthread_mutex_lock(&lock);
    struct shared *x = first;
    while (x && (x->process != getpid() || strcmp(x->level, level) != 0)) x = x->next;
    if (!x) s = open_shared(&x, level, err);
    if (s == STRETTO_OK) {
        x->users++;
        *out = x->device;
    }
    pthread_mutex_unlock(&lock);
    return s;
}

void shared_device_give(struct device *d)
{
    struct shared *last = NULL;
    pthread_mutex_lock(&lock);
    for (struct shared **at = &first; d && *at; at = &(*at)->next) {
        struct shared *x = *at;
        if (x->device != d) continue;
        if (x->process == getpid() && --x->users == 0) {
            *at = x->next;
            last = x;
        }
        break;
    }
    pthread_mutex_unlock(&lock);
    if (!last) return;
    device_close(last->device);
    mem_free(last->level);
    mem_free(last);
}
