/* Models from names: what -m means, and opening them with their services. */
#ifndef SERVE_LOAD_H
#define SERVE_LOAD_H
#include "serve/served.h"
#include "stretto/serve_options.h"

/* Names and paths, fetched where they are not here; prints the sentence itself. An exit code. */
int load_names(struct served_list *l, const struct serve_options *o);
/* Opens what texts need of every model, and the weights and services of as many as may be here at once, with the wake
 * of a server. Prints the sentence itself. */
int load_all(struct served_list *l, const struct serve_options *o, void (*wake)(void *ud), void *ud);
/* Brings those that are asked for and takes those that others need the place of, or that nobody asked for in a long
 * time, until served_drain. Requests that run are never cut: a model leaves when they have ended. */
void load_on_demand(struct served_list *l, const struct serve_options *o, void (*wake)(void *ud), void *ud);
/* What it would take, in lines for people. */
int load_check(struct served *m, const struct serve_options *o);
/* And of what guesses for all. */
int load_check_guessers(struct served_list *l, const struct serve_options *o);
void load_close(struct served_list *l);
#endif
