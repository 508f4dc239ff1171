/* Fails the n-th allocation of opening, using and closing a session, for n = 1, 2, 3 ... until
 * everything succeeds: each time a status comes back, nothing leaks (ASan builds see it), and the
 * next try works. Then: writing tokens allocates nothing. Before: weights larger than memory.
 *
 * usage: fault MODEL */
#include "base/memory.h"
#include "engine/engine.h"
#include "stretto/stretto.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int32_t prompt[] = { 1, 5, 9, 3, 7, 2, 8 };
enum { N_PROMPT = sizeof prompt / sizeof *prompt };

struct run { stretto_model *m; stretto_engine *e; stretto_session *s; };

static void run_close(struct run *r)
{
    stretto_session_close(r->s);
    stretto_engine_close(r->e);
    stretto_model_close(r->m);
    *r = (struct run){ 0 };
}

static stretto_status run_open(struct run *r, const char *path, char *err, size_t size)
{
    stretto_model_options mo = STRETTO_MODEL_OPTIONS_INIT;
    stretto_engine_options eo = STRETTO_ENGINE_OPTIONS_INIT;
    mo.threads = eo.threads = 1;
    eo.context = 128;
    stretto_status s = stretto_model_open(&r->m, path, &mo, err, size);
    if (s == STRETTO_OK) s = stretto_engine_open(&r->e, r->m, &eo, err, size);
    if (s == STRETTO_OK) s = stretto_session_open(&r->s, r->e, err, size);
    stretto_decoding d = STRETTO_DECODING_INIT;
    d.words = "auto+lookahead";
    d.draft = r->m;                      /* its own: a second engine opens and guesses */
    if (s == STRETTO_OK && (s = stretto_session_decoding(r->s, &d)) != STRETTO_OK)
        snprintf(err, size, "%s", stretto_session_error(r->s));
    return s;
}

static stretto_status use(struct run *r, float temperature, size_t n)
{
    stretto_sampling how = STRETTO_SAMPLING_INIT;
    stretto_generate_options g = STRETTO_GENERATE_OPTIONS_INIT;
    how.temperature = temperature;
    how.top_k = 40;
    g.max_tokens = (int64_t)n;
    g.ignore_end = 1;
    stretto_status s = stretto_session_sampling(r->s, &how);
    if (s == STRETTO_OK) s = stretto_session_sync(r->s, prompt, N_PROMPT, NULL);
    return s == STRETTO_OK ? stretto_session_generate(r->s, &g, NULL) : s;
}

/* The allocation number n fails; true when none was reached, so the whole thing went through. */
static int try_failing(const char *path, uint64_t n, int *wrong)
{
    struct run r = { 0 };
    char err[600] = "";
    uint64_t before = mem_count();
    mem_fail_at(n);
    stretto_status s = run_open(&r, path, err, sizeof err);
    if (s == STRETTO_OK) s = use(&r, 0, 3);
    run_close(&r);
    int reached = mem_count() - before >= n;
    mem_fail_at(0);
    if (reached && s == STRETTO_OK) return 0; /* a library's cache or a retry took the blow: fine */
    if (reached && s != STRETTO_E_NOMEM && s != STRETTO_E_FULL) {
        printf("FAIL allocation %llu: status %d (%s)\n", (unsigned long long)n, s, err);
        ++*wrong;
    }
    if (reached && s == STRETTO_E_NOMEM && r.s == NULL && !err[0] && !*stretto_session_error(r.s)) {
        printf("FAIL allocation %llu: no words\n", (unsigned long long)n);
        ++*wrong;
    }
    return !reached;
}

/* Weights that the machine cannot hold are refused before they are touched; a byte more is enough. */
static int too_little_memory(const char *path)
{
    struct model_open_options o = { .threads = 1 };
    struct model *m;
    struct error e = { 0 };
    int wrong = 0;
    if (model_open(&m, path, &o, &e) != STRETTO_OK) return 1;
    uint64_t need = m->device->backend->weights_bytes(m->weights);
    model_close(m);
    for (uint64_t have = need - 1; have <= need; have++) {
        o.memory = have;
        error_clear(&e);
        stretto_status s = model_open(&m, path, &o, &e);
        model_close(m);
        wrong += s != (have < need ? STRETTO_E_NOMEM : STRETTO_OK);
        wrong += have < need && !strstr(e.text, "the weights take");
    }
    if (wrong) printf("FAIL %llu bytes of weights: %s\n", (unsigned long long)need, e.text);
    return wrong;
}

/* A model over two devices: opened, planned and run in a step of three rows. */
static stretto_status split_run(const char *path, struct device *const *d, struct error *err)
{
    struct split_ask ask = { .members = d, .layers = (int32_t[]){ 1, 0 }, .n = 2 };
    struct model_open_options mo = { .threads = 1, .split = &ask };
    struct engine_options eo = { .threads = 1, .context = 128 };
    struct model *m = NULL;
    struct engine *e = NULL;
    struct answer a = { .status = STRETTO_OK };
    stretto_status s = model_open(&m, path, &mo, err);
    if (s == STRETTO_OK) s = engine_open(&e, m, &eo, err);
    int32_t seq = 0;
    if (s == STRETTO_OK) s = engine_seq_open(e, &seq, err);
    if (s == STRETTO_OK) s = engine_feed(e, seq, prompt, 3, WANT_BEST, &a, err);
    engine_close(e);
    model_close(m);
    return s;
}

static int split_failing(const char *path)
{
    struct device *d[2];
    struct device_options o = { .level = NULL };
    struct error err = { 0 };
    int wrong = 0, reached = 1;
    uint64_t n = 1;
    for (int i = 0; i < 2; i++)
        if (backend_open("cpu", &o, &d[i], &err) != STRETTO_OK) return 1;
    for (; reached && n < 20000; n++) {
        uint64_t before = mem_count();
        error_clear(&err);
        mem_fail_at(n);
        stretto_status s = split_run(path, d, &err);
        reached = mem_count() - before >= n;
        mem_fail_at(0);
        if (s == STRETTO_OK || (reached && (s == STRETTO_E_NOMEM || s == STRETTO_E_FULL) && err.text[0])) continue;
        printf("FAIL over two devices, allocation %llu: status %d (%s)\n", (unsigned long long)n, s, err.text);
        wrong++;
    }
    for (int i = 0; i < 2; i++) {
        wrong += atomic_load(&d[i]->holders) != 1;
        device_close(d[i]);
    }
    printf("%llu allocations failed in turn over two devices, %d wrong\n", (unsigned long long)n - 2, wrong);
    return wrong;
}

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    FILE *f = fopen(argv[1], "rb");
    if (!f) { printf("skip: there is no %s\n", argv[1]); return 77; }
    fclose(f);
    int wrong = too_little_memory(argv[1]) + split_failing(argv[1]);
    uint64_t n = 1;
    while (!try_failing(argv[1], n, &wrong) && n < 20000) n++;
    printf("%llu allocations failed in turn, %d wrong\n", (unsigned long long)n - 1, wrong);

    struct run r = { 0 };
    char err[600] = "";
    if (run_open(&r, argv[1], err, sizeof err) != STRETTO_OK || use(&r, 0, 1) != STRETTO_OK) {
        printf("FAIL after all failures the model does not open: %s\n", err);
        return 1;
    }
    static const float temperatures[] = { 0, 0.8f };
    for (size_t i = 0; i < 2; i++) {
        if (use(&r, temperatures[i], 1) != STRETTO_OK) return 1;
        uint64_t before = mem_count();
        stretto_generate_options g = STRETTO_GENERATE_OPTIONS_INIT;
        g.max_tokens = 60;
        g.ignore_end = 1;
        if (stretto_session_generate(r.s, &g, NULL) != STRETTO_OK) return 1;
        uint64_t made = mem_count() - before;
        stretto_decoded d = { .size = sizeof d };
        stretto_session_decoded(r.s, &d);
        if (d.tokens != 60 || !d.n_strategies || !d.strategies[1].proposed) {
            printf("FAIL %llu tokens decoded, nothing was guessed\n", (unsigned long long)d.tokens);
            wrong++;
        }
        printf("60 tokens at temperature %g: %llu allocations\n", (double)temperatures[i],
               (unsigned long long)made);
        wrong += made != 0;
    }
    run_close(&r);
    return wrong != 0;
}
