/* A model that is served: its name, the service that answers, and what its texts need. Immutable once
 * `ready`; the list has a fixed place for each -m. */
#ifndef SERVE_SERVED_H
#define SERVE_SERVED_H
#include "model/model.h"
#include "serve/service.h"
#include <stdatomic.h>
#include <time.h>

struct chat;
enum { SERVED_MOST = 16, SERVED_NAME = 160, SERVED_ALIASES = 16 };

struct served {
    char name[SERVED_NAME], *path;
    char alias[SERVED_ALIASES][SERVED_NAME];
    size_t n_aliases;
    const char *tags;                  /* by commas; or NULL                                            */
    stretto_model *handle;
    const struct model *model;
    struct chat *chat;                 /* NULL: no template for conversations, or none that can be used */
    struct service *service;
    uint32_t context, slots;
    time_t since;
    bool silent;                       /* requests that do not say are answered without thinking        */
    bool embeds;                       /* an encoder: writes no text                                    */
};

struct served_list { struct served v[SERVED_MOST]; size_t n; atomic_int ready; };   /* ready: 0, 1, or -1: failed */

/* The model of that name or alias; with one model any name means it. NULL: there is none. */
const struct served *served_find(const struct served_list *l, const char *name, size_t n);
#endif
