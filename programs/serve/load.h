/* Models from names: what -m means, and opening them with their services. */
#ifndef SERVE_LOAD_H
#define SERVE_LOAD_H
#include "serve/served.h"
#include "stretto/serve_options.h"

/* Names and paths, fetched where they are not here; prints the sentence itself. An exit code. */
int load_names(struct served_list *l, const struct serve_options *o);
/* Opens one, its service with the wake of a server (NULL: none). Prints the sentence itself. */
int load_model(struct served *m, const struct serve_options *o, void (*wake)(void *ud), void *ud);
/* What it would take, in lines for people. */
int load_check(struct served *m, const struct serve_options *o);
void load_close(struct served_list *l);
#endif
