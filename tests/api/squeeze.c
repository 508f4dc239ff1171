/* The public call that squeezes: its report, its refusals, cancelling and going on.
 *
 * usage: squeeze_api MODEL FOLDER */
#include "stretto/compress.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int wrong;
static volatile int cancel;
static int pieces, lines;

#define CHECK(x) do { if (!(x)) { printf("FAIL %d: %s (%s)\n", __LINE__, #x, err); wrong++; } } while (0)

static void on_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    (void)what;
    if (done <= total) pieces++;
    if (user && done > total / 2) cancel = 1;
}

static void on_log(void *user, const char *line) { (void)user; lines += *line != 0; }

int main(int argc, char **argv)
{
    char out[500], part[520], err[600] = "";
    if (argc != 3) return 2;
    snprintf(out, sizeof out, "%s/api.gguf", argv[2]);
    snprintf(part, sizeof part, "%s.part", out);
    unlink(out);
    stretto_squeeze_options o = STRETTO_SQUEEZE_OPTIONS_INIT;
    stretto_squeeze_report r = { .size = sizeof r };
    o.type = "q4_0";
    o.tokens = 4096;
    o.windows = 2;
    o.threads = 1;
    o.progress = on_progress;
    o.log = on_log;
    CHECK(stretto_squeeze(argv[1], out, &o, &r, err, sizeof err) == STRETTO_OK);
    CHECK(r.bytes > 0 && r.bytes < r.bytes_before / 3 && r.bits < 9 && r.bits_before == 32);
    CHECK(r.tokens > 100 && r.kl > 0 && r.kl_error > 0 && r.kl_back > 0 && r.same_top > 0 && r.same_top <= 1);
    CHECK(r.perplexity > 1 && r.perplexity_before > 1 && r.speed > 0 && r.speed_before > 0 && pieces > 0);
    /* What is there stays. */
    CHECK(stretto_squeeze(argv[1], out, &o, NULL, err, sizeof err) == STRETTO_E_ARG && strstr(err, "already"));
    /* Cancelled, it leaves what it has; the same call goes on. */
    o.replace = 1;
    CHECK(stretto_squeeze(argv[1], argv[1], &o, NULL, err, sizeof err) == STRETTO_E_ARG && strstr(err, "itself"));
    o.no_proof = 1;
    o.cancel = &cancel;
    o.user = out;
    CHECK(stretto_squeeze(argv[1], out, &o, NULL, err, sizeof err) == STRETTO_E_CANCEL);
    CHECK(access(part, F_OK) == 0);
    cancel = 0;
    o.user = NULL;
    lines = 0;
    CHECK(stretto_squeeze(argv[1], out, &o, &r, err, sizeof err) == STRETTO_OK && access(part, F_OK) != 0);
    CHECK(r.tokens == 0 && r.kl == 0 && lines > 0);
    o.method = "guess";
    CHECK(stretto_squeeze(argv[1], out, &o, NULL, err, sizeof err) == STRETTO_E_ARG && strstr(err, "guess"));
    CHECK(stretto_squeeze(NULL, out, NULL, NULL, err, sizeof err) == STRETTO_E_ARG);
    o.size = 3;
    CHECK(stretto_squeeze(argv[1], out, &o, NULL, NULL, 0) == STRETTO_E_ARG);
    unlink(out);
    if (!wrong) printf("stretto_squeeze reports, refuses, and goes on\n");
    return wrong != 0;
}
