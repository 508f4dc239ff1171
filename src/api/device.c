/* The devices of this process: each card once, and the cpu once for each ceiling of its kernels. All models
 * that are opened with one share it, so that however many models, engines and draft models there are, there
 * is one team of threads. Opened with the first model, closed with the last. A child of fork has none of its
 * parent's threads: it opens devices of its own, and leaves those of the parent alone. */
#include "api/handles.h"
#include "base/memory.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct shared {
    struct shared *next;
    struct device *device;
    char word[24];
    char *level;                       /* "": no ceiling */
    unsigned users;
    pid_t process;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct shared *first;           /* under lock */

static stretto_status open_shared(struct shared **out, const char *word, const char *level,
                                  struct error *err)
{
    struct shared *x = mem_zalloc(1, sizeof *x);
    const char *bits = getenv("STRETTO_BF16");
    struct device_options o = { .level = *level ? level : NULL, .wide_bf16 = bits && strcmp(bits, "16") == 0 };
    stretto_status s = x && (x->level = mem_strdup(level)) ? backend_open(word, &o, &x->device, err)
                                                           : fail(err, STRETTO_E_NOMEM, "out of memory");
    if (s != STRETTO_OK) {
        if (x) mem_free(x->level);
        mem_free(x);
        return s;
    }
    memcpy(x->word, word, strlen(word) + 1);
    x->process = getpid();
    x->next = first;
    *out = first = x;
    return STRETTO_OK;
}

/* One that is lost is left to those who have it: who comes now opens another, or hears why not. */
static bool is_wanted(const struct shared *x, const char *word, const char *level)
{
    return x->process == getpid() && strcmp(x->word, word) == 0 && strcmp(x->level, level) == 0
        && device_check(x->device, NULL) == STRETTO_OK;
}

stretto_status shared_device_take(const char *word, const char *level, struct device **out,
                                  struct error *err)
{
    stretto_status s = STRETTO_OK;
    *out = NULL;
    if (!word) word = backends[0]->name;
    if (!level || strchr(word, ':')) level = "";         /* of cards, which are numbered */
    if (strlen(word) >= sizeof first->word)
        return fail(err, STRETTO_E_ARG, "there is no device '%.40s'", word);
    pthread_mutex_lock(&lock);
    struct shared *x = first;
    while (x && !is_wanted(x, word, level)) x = x->next;
    if (!x) s = open_shared(&x, word, level, err);
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
