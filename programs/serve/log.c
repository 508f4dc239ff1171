/* One line on standard error for each request: for people, or JSON. */
#include "base/clock.h"
#include "serve/wire.h"
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <time.h>

static void log_plain(const struct exchange *x, const struct job_usage *u, double seconds)
{
    fprintf(stderr, "%s %s %s %u", x->wire->peer, x->method, x->path, x->http);
    if (u->prompt || u->written)
        fprintf(stderr, " read %u (%u known) wrote %u", u->prompt, u->cached, u->written);
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
    if (x->ask.model) json_object_set_new(j, "model", json_string(x->ask.model->name));
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
    }
    if (x->first_byte) json_object_set_new(j, "first_token_seconds", json_real(x->first_byte - x->began));
    if (x->trouble.kind != TROUBLE_NONE) json_object_set_new(j, "error", json_string(x->trouble.text));
    char *line = json_dumps(j, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6));
    if (line) fprintf(stderr, "%s\n", line);
    free(line);
    json_decref(j);
}

void log_request(const struct exchange *x)
{
    struct job_usage u = exchange_usage(x);
    double seconds = x->ended_at - x->began;
    if (server_options(x->server)->log_json) log_json(x, &u, seconds);
    else log_plain(x, &u, seconds);
}
