/* Bits to a budget: of several ways to write each part of a model, with what each costs and what it spoils, those
 * that together spoil least within a budget; or cost least within a bound of what is spoilt. */
#ifndef COMPRESS_ALLOCATE_H
#define COMPRESS_ALLOCATE_H
#include "base/status.h"
#include <stddef.h>

/* A way to write a part: cost in bytes or in seconds a token, damage in nats of divergence. */
struct choice { double cost, damage; };
struct part { const struct choice *choice; size_t n; };

/* Both write the chosen way of each part into pick[0..n). Lagrange multipliers over the lower convex hulls, then
 * what is left over is spent greedily (compress.md 2.7). E_FULL where even the cheapest ways cost more than
 * the budget, or the best ones spoil more than the bound: pick is then the nearest there is. */
stretto_status allocate_budget(const struct part *parts, size_t n, double budget, size_t *pick, struct error *err);
stretto_status allocate_bound(const struct part *parts, size_t n, double damage, size_t *pick, struct error *err);
#endif
