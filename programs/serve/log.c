/* One line on standard error for each request: for people, or JSON. */
#include "base/clock.h"
#include "serve/wire.h"
#include "serve/words.h"
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* "; then: no other text goes on like it: token 300 is " tea" and not " coffee"" */
static void print_missed(const struct exchange *x, const struct prefix_miss *m)
{
    json_t *j = words_missed(x, m), *wanted = json_object_get(j, "wanted"), *had = json_object_get(j, "had");
    if (!j) return;
    fprintf(stderr, "; then: %s", prefix_cause_text(m->cause));
    if (wanted && had) {
        char *a = json_dumps(wanted, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        char *b = json_dumps(had, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        fprintf(stderr, ", token %u is %s and not %s", m->at, a ? a : "", b ? b : "");
        free(a);
        free(b);
    }
    json_decref(j);
}

/* Whose weights the request or /lora-adapters said; the name has that of "MODEL:ADAPTER". */
static bool weighs(const struct exchange *x, size_t i)
{
    return x->ask.weights[i] != 0 && (x->ask.adapter < 0 || json_array_size(x->ask.lora));
}

static void print_model(const struct exchange *x)
{
    const char *word = "lora";
    if (!x->ask.model) return;
    fprintf(stderr, " %s", x->ask.shown);
    for (size_t i = 0; i < x->ask.model->n_adapters; i++) {
        if (!weighs(x, i)) continue;
        fprintf(stderr, " %s %zu=%g", word, i, (double)x->ask.weights[i]);
        word = "and";
    }
}

static json_t *weights_json(const struct exchange *x)
{
    json_t *list = json_array();
    for (size_t i = 0; i < x->ask.model->n_adapters; i++)
        if (weighs(x, i))
            json_array_append_new(list, json_pack("{s:i,s:f}", "id", (int)i, "scale", (double)x->ask.weights[i]));
    return list;
}

static void log_plain(const struct exchange *x, const struct job_usage *u, double seconds)
{
    fprintf(stderr, "%s %s %s %u", x->wire->peer, x->method, x->path, x->http);
    print_model(x);
    if (u->prompt || u->written) {
        fprintf(stderr, " read %u (%u known", u->prompt, u->cached);
        print_missed(x, &u->missed);
        fprintf(stderr, ") wrote %u", u->written);
    }
    fprintf(stderr, " in %.3f s%s", seconds, x->gone ? ", the client left" : "");
    if (x->trouble.kind != TROUBLE_NONE) fprintf(stderr, ": %s", x->trouble.text);
    fputc('\n', stderr);
}

static void log_json(const struct exchange *x, const struct job_usage *u, double seconds)
{
    char when[40];
    struct tm tm;
    gmtime_r(&x->created, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_t *j = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:i,s:f,s:I,s:I,s:b}", "time", when, "id", x->id, "client",
                          x->client,
                          "peer", x->wire->peer, "method", x->method, "path", x->path, "status", (int)x->http,
                          "seconds", seconds, "bytes_in", (json_int_t)x->bytes_in, "bytes_out",
                          (json_int_t)x->bytes_out, "client_left", (int)x->gone);
    if (!j) return;
    if (x->ask.model) json_object_set_new(j, "model", json_string(x->ask.shown));
    if (x->ask.model && x->ask.model->n_adapters) json_object_set_new(j, "lora", weights_json(x));
    if (u->prompt || u->written) {
        json_object_set_new(j, "prompt_tokens", json_integer(u->prompt));
        json_object_set_new(j, "cached_tokens", json_integer(u->cached));
        json_object_set_new(j, "written_tokens", json_integer(u->written));
        json_object_set_new(j, "queued_seconds", json_real(u->queued));
        json_object_set_new(j, "reading_seconds", json_real(u->reading));
        json_object_set_new(j, "writing_seconds", json_real(u->writing));
        json_object_set_new(j, "steps", json_integer(u->steps));
        json_object_set_new(j, "guesses", json_integer(u->guesses));
        json_object_set_new(j, "accepted", json_integer(u->accepted));
        json_t *missed = words_missed(x, &u->missed);
        if (missed) json_object_set_new(j, "cache_miss", missed);
    }
    if (x->waited) json_object_set_new(j, "loading_seconds", json_real(x->waits ? x->ended_at - x->loading
                                                                            : x->loading));
    if (x->first_byte) json_object_set_new(j, "first_token_seconds", json_real(x->first_byte - x->began));
    if (x->trouble.kind != TROUBLE_NONE) json_object_set_new(j, "error", json_string(x->trouble.text));
    char *line = json_dumps(j, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6));
    if (line) fprintf(stderr, "%s\n", line);
    free(line);
    json_decref(j);
}

/* A pipe that nobody reads would stop the server: lines that find no room are left out, and counted. */
static bool log_room(void)
{
    static unsigned long lost;
    struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
    if (poll(&p, 1, 0) == 1 && p.revents & POLLOUT) {
        if (lost) fprintf(stderr, "stretto serve: %lu lines were left out, because nobody read them\n", lost);
        lost = 0;
        return true;
    }
    lost++;
    return false;
}

void log_request(const struct exchange *x)
{
    if (!log_room()) return;
    struct job_usage u = exchange_usage(x);
    double seconds = x->ended_at - x->began;
    if (server_options(x->server)->log_json) log_json(x, &u, seconds);
    else log_plain(x, &u, seconds);
}
