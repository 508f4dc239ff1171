/* What /metrics counts beside the services' own counters: requests and how long they took. */
#ifndef SERVE_METRICS_H
#define SERVE_METRICS_H
#include "base/buffer.h"

struct exchange;
enum { METRICS_BUCKETS = 16 };

struct histogram { uint64_t count[METRICS_BUCKETS + 1]; double sum; };   /* [METRICS_BUCKETS]: above all */

struct metrics {
    uint64_t requests, by_class[6];    /* [2]: answers 200 .. 299 */
    uint64_t refused_busy, vanished, cut_slow, bytes_in, bytes_out, finish[8];
    struct histogram first_token, whole, queued, reading, writing, per_token, prompt_tokens, written_tokens;
};
/* As /metrics prints them. */
stretto_status metrics_histograms(struct buffer *b, const struct metrics *m);
/* A request that is over. */
void metrics_add(struct metrics *m, const struct exchange *x);
#endif
