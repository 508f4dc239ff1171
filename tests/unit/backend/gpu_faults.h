/* One of everything that a driver of cards does, done while its library fails (tests/gpu): whatever fails is a status
 * with words, nothing is left behind, and afterwards all goes well again. */
#ifndef UNIT_BACKEND_GPU_FAULTS_H
#define UNIT_BACKEND_GPU_FAULTS_H
#include "unit/backend/gpu_test.h"

static const char small[] = "KERNEL KERNEL_LANES(16) void add(GLOBAL int *a, int n) { a[lane_id()] += n; }\n";

static inline struct gpu_arg gpu_word(int32_t w) { return (struct gpu_arg){ .word = w }; }

/* Closed and given back, whatever became of it. */
struct everything {
    struct card *card;
    struct gpu_code *code;
    struct gpu_kernel *kernel;
    struct gpu_memory *m[2];
    struct gpu_tape *tape;
    int32_t *host;
    char *log;
};

static inline stretto_status everything_open(const struct gpu_driver *v, struct everything *x, struct error *err)
{
    struct gpu_about a[GPU_CARDS];
    char source[8192];
    size_t n, i = 0;
    void *host;
    snprintf(source, sizeof source, "%s%s", gpu_source("dialect.h"), small);
    TRY(v->list(a, GPU_CARDS, &n, err));
    while (i < n && a[i].unusable) i++;
    TRY(v->open(&x->card, i, err));
    TRY(v->build(x->card, source, "-DN=1", &x->code, &x->log, err));
    TRY(v->kernel(x->code, "add", &x->kernel, err));
    for (i = 0; i < 2; i++) TRY(v->alloc(x->card, 64, &x->m[i], err));
    TRY(v->host_alloc(x->card, 64, &host, err));
    x->host = host;
    return STRETTO_OK;
}

/* Adds, copies the sums to the other piece. */
static inline stretto_status everything_once(const struct gpu_driver *v, struct everything *x, struct error *err)
{
    struct gpu_arg args[] = { { .memory = x->m[0] }, gpu_word(5) };
    TRY(v->launch(x->card, x->kernel, (uint32_t[]){ 1, 1, 1 }, 16, args, 2, err));
    return v->copy(x->card, x->m[0], 0, x->m[1], 0, 64, err);
}

/* The same, twice, recorded where the driver can. */
static inline stretto_status everything_twice(const struct gpu_driver *v, struct everything *x, struct error *err)
{
    if (!v->record_begin) {
        TRY(everything_once(v, x, err));
        return everything_once(v, x, err);
    }
    TRY(v->record_begin(x->card, err));
    stretto_status s = everything_once(v, x, err);
    stretto_status end = v->record_end(x->card, &x->tape, err);   /* whatever happened: else it goes on */
    if (s != STRETTO_OK || end != STRETTO_OK) return s != STRETTO_OK ? s : end;
    TRY(v->replay(x->card, x->tape, err));
    return v->replay(x->card, x->tape, err);
}

static inline stretto_status everything_run(const struct gpu_driver *v, struct everything *x, struct error *err)
{
    for (int i = 0; i < 16; i++) x->host[i] = i;
    TRY(v->mark(x->card, 0, err));
    TRY(v->write(x->card, x->m[0], 0, x->host, 64, err));
    TRY(everything_once(v, x, err));
    TRY(v->zero(x->card, x->m[1], 0, 64, err));
    TRY(everything_twice(v, x, err));
    TRY(v->mark(x->card, 1, err));
    TRY(v->finish(x->card, err));
    TRY(v->read(x->card, x->m[1], 0, x->host, 64, err));
    TRY(v->finish(x->card, err));
    for (int i = 0; i < 16; i++) assert_int_equal(x->host[i], i + 15);
    assert_true(v->between(x->card, 0, 1) >= 0);
    return STRETTO_OK;
}

static inline stretto_status everything(const struct gpu_driver *v, struct error *err)
{
    struct everything x = { 0 };
    stretto_status s = everything_open(v, &x, err);
    if (s == STRETTO_OK) s = everything_run(v, &x, err);
    if (x.card) {
        v->host_free(x.card, x.host);
        (void)v->free_memory(x.card);
        if (v->joules) (void)v->joules(x.card);
    }
    if (x.tape) v->tape_close(x.tape);
    for (int i = 0; i < 2; i++) v->free(x.m[i]);
    v->code_close(x.code);
    v->close(x.card);
    mem_free(x.log);
    return s;
}

/* A library that fails when it is told to. */
struct faults {
    const struct gpu_driver *driver;
    void (*reset)(void);
    bool (*nothing_alive)(void);
};

/* The n-th of a kind fails, for n from 1 on until there is no n-th any more. */
static inline void faults_walk(const struct faults *f, const char *what, int64_t *order, bool memory, int64_t at_least)
{
    int64_t n = 0;
    for (stretto_status s = STRETTO_E_DEVICE; s != STRETTO_OK; n++) {
        struct error e = { 0 };
        *order = n + 1;
        s = everything(f->driver, &e);
        if (s == STRETTO_OK && *order <= 0) s = STRETTO_E_IO;      /* it came, and nobody saw it */
        bool expected = s == STRETTO_E_NOMEM || (s == STRETTO_E_DEVICE && !memory);
        if (s != STRETTO_OK && (!expected || !*e.text)) {
            print_error("%s %lld: status %d, %s\n", what, (long long)n + 1, s, e.text);
            _fail(__FILE__, __LINE__);
        }
        if (n < 3 && s) print_message("%s %lld: %s\n", what, (long long)n + 1, e.text);
        f->reset();
        assert_true(f->nothing_alive());
    }
    print_message("%s: %lld places\n", what, (long long)n - 1);
    assert_true(n - 1 >= at_least);
    gpu_test_ok(everything(f->driver, err));
}

/* At each call in turn the card is lost. Calls after the last thing that can be told are those that close. */
static inline void faults_lose(const struct faults *f, int64_t *lose, const int64_t *calls)
{
    int64_t before = *calls;
    gpu_test_ok(everything(f->driver, err));
    int64_t all = *calls - before, told = 0;
    for (int64_t n = 1; n <= all; n++) {
        struct error e = { 0 };
        *lose = n;
        stretto_status s = everything(f->driver, &e);
        if (s != STRETTO_OK && (s != STRETTO_E_DEVICE || !*e.text)) {
            print_error("lost at call %lld: status %d, %s\n", (long long)n, s, e.text);
            _fail(__FILE__, __LINE__);
        }
        told += s != STRETTO_OK;
        f->reset();
        assert_true(f->nothing_alive());
    }
    print_message("lost at %lld calls, told at %lld\n", (long long)all, (long long)told);
    assert_true(told > all / 2 && told < all);
    gpu_test_ok(everything(f->driver, err));
}
#endif
