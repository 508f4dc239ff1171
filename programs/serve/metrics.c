#include "serve/metrics.h"
#include "serve/exchange.h"

static const double seconds[METRICS_BUCKETS] = { 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60,
                                                 120, 300 };
static const double tokens[METRICS_BUCKETS] = { 1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768,
                                                65536, 131072, 262144 };

static void add(struct histogram *h, const double *bounds, double v)
{
    size_t i = 0;
    while (i < METRICS_BUCKETS && v > bounds[i]) i++;
    h->count[i]++;
    h->sum += v;
}

void metrics_add(struct metrics *m, const struct exchange *x)
{
    m->requests++;
    m->bytes_in += x->bytes_in;
    m->bytes_out += x->bytes_out;
    if (x->http / 100 < 6) m->by_class[x->http / 100]++;
    if (x->trouble.kind == TROUBLE_BUSY) m->refused_busy++;
    if (x->gone) m->vanished++;
    if (!x->n_choices) return;
    struct job_usage u = exchange_usage(x);
    for (size_t i = 0; i < x->n_choices; i++)
        if (x->choices[i].done) m->finish[x->choices[i].finish]++;
    add(&m->whole, seconds, x->ended_at - x->began);
    if (x->first_byte) add(&m->first_token, seconds, x->first_byte - x->began);
    add(&m->queued, seconds, u.queued);
    add(&m->reading, seconds, u.reading);
    add(&m->writing, seconds, u.writing);
    if (u.written > 1 && u.writing > 0) add(&m->per_token, seconds, u.writing / u.written * (double)x->n_choices);
    add(&m->prompt_tokens, tokens, u.prompt);
    add(&m->written_tokens, tokens, u.written);
}

static stretto_status put_histogram(struct buffer *b, const char *name, const char *help, const struct histogram *h,
                                    const double *bounds)
{
    uint64_t total = 0;
    TRY(buffer_printf(b, "# HELP stretto:%s %s\n# TYPE stretto:%s histogram\n", name, help, name));
    for (size_t i = 0; i < METRICS_BUCKETS; i++) {
        total += h->count[i];
        TRY(buffer_printf(b, "stretto:%s_bucket{le=\"%g\"} %llu\n", name, bounds[i], (unsigned long long)total));
    }
    total += h->count[METRICS_BUCKETS];
    return buffer_printf(b, "stretto:%s_bucket{le=\"+Inf\"} %llu\nstretto:%s_sum %.9g\nstretto:%s_count %llu\n", name,
                         (unsigned long long)total, name, h->sum, name, (unsigned long long)total);
}

stretto_status metrics_histograms(struct buffer *b, const struct metrics *m)
{
    TRY(put_histogram(b, "time_to_first_token_seconds", "From the request to its first text.", &m->first_token,
                      seconds));
    TRY(put_histogram(b, "inter_token_latency_seconds", "Seconds of writing by token.", &m->per_token, seconds));
    TRY(put_histogram(b, "e2e_request_latency_seconds", "From the request to the end of its answer.", &m->whole,
                      seconds));
    TRY(put_histogram(b, "request_queue_time_seconds", "Waiting for a place.", &m->queued, seconds));
    TRY(put_histogram(b, "request_prefill_time_seconds", "Reading the prompt.", &m->reading, seconds));
    TRY(put_histogram(b, "request_decode_time_seconds", "Writing the answer.", &m->writing, seconds));
    TRY(put_histogram(b, "request_prompt_tokens", "Tokens of prompts.", &m->prompt_tokens, tokens));
    return put_histogram(b, "request_generation_tokens", "Tokens of answers.", &m->written_tokens, tokens);
}
