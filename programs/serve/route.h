/* The routes: one row for each. A path that ends in '*' takes one more segment; routes below /v1 are there
 * without it too. */
#ifndef SERVE_ROUTE_H
#define SERVE_ROUTE_H
#include "serve/exchange.h"

enum route_flag {
    ROUTE_OPEN = 1,    /* answered without a key           */
    ROUTE_EARLY = 2,   /* answered before models are there */
    ROUTE_LATE = 4     /* answered while draining          */
};

struct route {
    const char *method, *path;
    const struct manner *manner;
    void (*handle)(struct exchange *x);
    unsigned flags;
};
struct routes { const struct route *rows; size_t n; };
#define ROUTES(rows) { rows, sizeof(rows) / sizeof *(rows) }

/* The row; NULL with *allowed (a list of methods) when the path has other methods only, or "" when there is no
 * such path. */
const struct route *route_find(const char *method, const char *path, char *rest, size_t cap, char allowed[64]);
/* The family by whose errors a path that is in no row is answered. */
const struct manner *route_manner(const char *path);

extern const struct manner manner_openai, manner_native, manner_anthropic, manner_ollama;
extern const struct routes routes_openai_chat, routes_openai_text, routes_openai_models, routes_embeddings,
    routes_native, routes_completion, routes_state, routes_messages, routes_responses, routes_ollama, routes_page;
#endif
