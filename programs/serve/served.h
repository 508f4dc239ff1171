/* A model that is served: its name, the service that answers, and what its texts need. What texts need is there from
 * `ready` on and immutable; the list has a fixed place for each -m.
 *
 * Weights and service of a model may come and go (--models-max, --sleep-idle-seconds): they are here while somebody
 * uses them, and one thread (load.h) brings and takes them.
 *
 *     AWAY -> WANTED (somebody asked) -> LOADING -> HERE -> AWAY, when others are wanted and nobody uses it
 *                                                        \-> LEAVING: no new requests; AWAY when those that run end */
#ifndef SERVE_SERVED_H
#define SERVE_SERVED_H
#include "model/model.h"
#include "serve/service.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

struct chat;
enum { SERVED_MOST = 16, SERVED_NAME = 160, SERVED_ALIASES = 16, SERVED_ADAPTERS = 16,
       SERVED_SHOWN = 2 * SERVED_NAME + 2 };
enum served_at { SERVED_AWAY, SERVED_WANTED, SERVED_LOADING, SERVED_HERE, SERVED_LEAVING };

/* Requests for MODEL:NAME get it alone, times its scale; those for MODEL times `weight`, which begins with the scale
 * where it has no name of its own and is what /lora-adapters says. */
struct served_adapter {
    char name[SERVED_NAME], *path, *word;    /* name: "" of one without; word: as a model is opened with it */
    float scale, weight;               /* weight: the list's lock                                      */
    enum adapter_rows rows;            /* on which it acts                                             */
};

struct served {
    char name[SERVED_NAME], *path;
    char alias[SERVED_ALIASES][SERVED_NAME];
    size_t n_aliases;
    struct served_adapter adapter[SERVED_ADAPTERS];
    size_t n_adapters, n_fixed;        /* n_fixed: instead of them, where nobody can choose             */
    const char *tags;                  /* by commas; or NULL                                            */
    const struct model *model;         /* its vocabulary and sizes; where weights come and go, without them */
    struct model *light;               /* that, or NULL: the handle's                                   */
    stretto_model_info about;
    const char *type;                  /* that most of its parameters have: "Q4_1"                      */
    struct chat *chat;                 /* NULL: no template for conversations, or none that can be used */
    _Atomic uint32_t context, slots;
    time_t since;
    bool silent;                       /* requests that do not say are answered without thinking        */
    bool embeds;                       /* an encoder: writes no text                                    */
    /* The list's lock. */
    stretto_model *handle;
    struct service *service;
    enum served_at at;
    uint32_t uses;                     /* requests that hold the service                                */
    double used, asked;                /* clock_seconds(): when it was last, and since when it is wanted; 0: not */
    uint32_t failures;                 /* loads that did not work                                       */
    struct service_state last;         /* of the service before it went                                 */
};

struct served_list {
    struct served v[SERVED_MOST];
    size_t n;
    atomic_int ready;                  /* 0, 1, or -1: failed                                           */
    uint32_t most;                     /* whose weights are here at once; 0: all                        */
    double sleep;                      /* seconds without a request after which they go; 0: never       */
    pthread_mutex_t lock;
    pthread_cond_t wanted;             /* somebody asks for one, or lets one go                         */
    bool closing;
    char *draft_path;                  /* of a model that guesses; or NULL                              */
    stretto_model *draft;
    uint32_t waiting;                  /* requests that wait for their model                            */
    uint64_t loads, releases;
};

void served_open(struct served_list *l);
/* The model of that name or alias, or NULL. */
const struct served *served_named(const struct served_list *l, const char *name, size_t n);
/* The same, or that of the adapter MODEL:NAME or NAME; with one model any name means it, but for one
 * of an adapter that it does not have. NULL: there is none. *adapter: its number, -1 where none is named. */
const struct served *served_find(const struct served_list *l, const char *name, size_t n, int *adapter);
/* What the model's adapters weigh for requests that do not say: [n_adapters]. */
void served_weights(struct served_list *l, const struct served *m, float *out);
void served_weigh(struct served_list *l, const struct served *m, const float *weights);
/* Its service, for whoever asks until served_let_go; NULL: it is not here and was sent for. *failures: how often that
 * has failed so far. Any thread. */
struct service *served_use(struct served_list *l, const struct served *m, uint32_t *failures);
void served_let_go(struct served_list *l, const struct served *m);
/* One request more that waits for its model, or one less. */
void served_wait(struct served_list *l, int more);
/* As service_look; of one that is away what it did last, with nothing running. Where it is. */
enum served_at served_look(struct served_list *l, const struct served *m, struct service_state *out,
                           struct service_slot *slots, uint32_t cap);
/* No new jobs, and no model is loaded any more. */
void served_drain(struct served_list *l);
#endif
