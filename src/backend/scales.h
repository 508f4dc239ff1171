/* What linear layers read at most, of a model that computes in integers: seen while it runs, kept in a file, and
 * read by who wants scales that do not depend on the row (upload_options.scales). */
#ifndef BACKEND_SCALES_H
#define BACKEND_SCALES_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

struct weights; struct graph;

/* Writes what has been seen since the upload; *n: weights that are named. E_ARG where the weights are on another
 * device, or nothing was seen. `force` replaces a file. */
stretto_status integer_scales_write(const struct weights *w, const struct graph *g, const char *path, bool force,
                                    size_t *n, struct error *err);
#endif
