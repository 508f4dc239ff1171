/* What every driver of cards must do: memory, kernels in the words of dialect.h against C, arguments, faults of
 * kernels, the queue's clock, shortness of memory. A test program of a driver opens `d` and runs GPU_DRIVER_TESTS
 * beside what is its own. */
#ifndef UNIT_BACKEND_GPU_DRIVER_H
#define UNIT_BACKEND_GPU_DRIVER_H
#include "unit/backend/gpu_test.h"
#include <fcntl.h>
#include <math.h>
#include <unistd.h>

static struct gpu_device d;

static void devices_are_listed(void **state)
{
    (void)state;
    struct gpu_about a[GPU_CARDS];
    size_t n = 0;
    gpu_test_ok(d.driver->list(a, GPU_CARDS, &n, err));
    assert_in_range(n, 1, GPU_CARDS);
    for (size_t i = 0; i < n; i++) {
        print_message("%s:%zu: %s (%s): %llu bytes, %llu at once, %u units, groups of %u, %u local, gpu %d, "
                      "exact division %d%s%s\n", d.driver->name, i, a[i].name, a[i].driver,
                      (unsigned long long)a[i].memory, (unsigned long long)a[i].largest, a[i].units,
                      a[i].group, a[i].local, a[i].gpu, a[i].exact_divide, a[i].unusable ? ": " : "", a[i].why);
        assert_true(*a[i].name && !strchr(a[i].name, '\033') && *a[i].driver);
        assert_true(a[i].unusable == (*a[i].why != '\0'));
        assert_true(i == 0 || !a[i].gpu || a[i - 1].gpu);
    }
    assert_true(d.about.memory >= d.about.largest && d.about.units && d.about.group >= 64);
    size_t none = 9;
    gpu_test_ok(d.driver->list(a, 0, &none, err));
    assert_int_equal(none, 0);

    struct error e = { 0 };
    struct card *c = NULL;
    assert_int_equal(d.driver->open(&c, n, &e), STRETTO_E_ARG);
    assert_null(c);
    assert_non_null(strstr(e.text, "there is no device "));
    d.driver->close(NULL);
}

static void memory_keeps_bytes(void **state)
{
    (void)state;
    enum { N = 1000 };
    unsigned char from[N], to[N], expect[N];
    for (int i = 0; i < N; i++) from[i] = (unsigned char)(i * 7 + 1);
    struct gpu_memory *a = gpu_test_memory(&d, N), *b = gpu_test_memory(&d, N);
    /* New memory is zeros. */
    gpu_test_read(&d, a, 0, to, N);
    memset(expect, 0, N);
    assert_memory_equal(to, expect, N);
    /* In order: write, copy a part to another place, zero a part of that, read both, one finish. */
    gpu_test_ok(d.driver->write(d.card, a, 3, from, N - 3, err));
    gpu_test_ok(d.driver->copy(d.card, a, 103, b, 201, 500, err));
    gpu_test_ok(d.driver->zero(d.card, b, 301, 77, err));
    gpu_test_ok(d.driver->zero(d.card, b, 400, 32, err));
    gpu_test_ok(d.driver->zero(d.card, b, 440, 8, err));
    gpu_test_ok(d.driver->read(d.card, b, 0, to, N, err));
    gpu_test_ok(d.driver->finish(d.card, err));
    memcpy(expect + 201, from + 100, 500);
    memset(expect + 301, 0, 77);
    memset(expect + 400, 0, 32);
    memset(expect + 440, 0, 8);
    assert_memory_equal(to, expect, N);
    /* Nothing to do is fine. */
    gpu_test_ok(d.driver->write(d.card, a, 0, from, 0, err));
    gpu_test_ok(d.driver->read(d.card, a, 0, to, 0, err));
    gpu_test_ok(d.driver->copy(d.card, a, 0, b, 0, 0, err));
    gpu_test_ok(d.driver->zero(d.card, a, 0, 0, err));
    d.driver->free(a);
    d.driver->free(b);
    d.driver->free(NULL);
    d.driver->free(gpu_test_memory(&d, 0));
}

static void pinned_memory_copies(void **state)
{
    (void)state;
    enum { N = 5000 };
    void *p[3];
    for (int i = 0; i < 3; i++) {
        gpu_test_ok(d.driver->host_alloc(d.card, i ? N : 0, &p[i], err));
        assert_non_null(p[i]);
    }
    unsigned char *from = p[1], *to = p[2];
    for (int i = 0; i < N; i++) from[i] = (unsigned char)(i * 5);
    struct gpu_memory *m = gpu_test_put(&d, from, N);
    gpu_test_read(&d, m, 0, to, N);
    assert_memory_equal(from, to, N);
    d.driver->free(m);
    d.driver->host_free(d.card, p[1]);
    d.driver->host_free(d.card, p[0]);
    d.driver->host_free(d.card, p[2]);
    d.driver->host_free(d.card, NULL);
}

static void what_is_too_large_is_said(void **state)
{
    (void)state;
    struct gpu_memory *m;
    struct error e = { 0 };
    assert_int_equal(d.driver->alloc(d.card, d.about.largest + 16, &m, &e), STRETTO_E_NOMEM);
    assert_null(m);
    assert_non_null(strstr(e.text, "in one piece"));
    error_clear(&e);
    assert_int_equal(d.driver->alloc(d.card, UINT64_MAX, &m, &e), STRETTO_E_NOMEM);
}

/* Every word of dialect.h; row i of `out` is the answer to question i of the C function below. */
static const char words_source[] =
    "CONSTANT int table[4] = { 3, 1, 4, 1 };\n"
    "DEVICE int twice(int x) { return x + x; }\n"
    "KERNEL KERNEL_LANES(LANES) void words(GLOBAL const float *x, GLOBAL const int *bits, GLOBAL float *out,\n"
    "                                      GLOBAL int *shared, int n, uint shift, float scale)\n"
    "{\n"
    "    LOCAL int seen[LANES];\n"
    "    int lane = lane_id(), i = group_id(0) * LANES + lane;\n"
    "    int other = (lane + 1) % LANES;\n"
    "    seen[lane] = twice(i);\n"
    "    barrier_local();\n"
    "    int neighbour = seen[other];\n"
    "    shared[i] = i + (int)shift;\n"
    "    barrier_all();\n"
    "    int across = shared[group_id(0) * LANES + other];\n"
    "    int sum = 0;\n"
    "    UNROLL for (int k = 0; k < 4; k++) sum += table[k];\n"
    "    if (i < n) {\n"
    "        float v = x[i];\n"
    "        out[0 * n + i] = multiply_add(v, scale, 1.0f);\n"
    "        out[1 * n + i] = round_even(v);\n"
    "        out[2 * n + i] = bits_float(float_bits(v) ^ (int)0x80000000u);\n"
    "        store_f16(v, out + 3 * n, 2 * i);\n"
    "        store_f16(-v, out + 3 * n, 2 * i + 1);\n"
    "        out[4 * n + i] = load_f16(bits, i);\n"
    "        out[5 * n + i] = load_bf16(bits, i);\n"
    "        out[6 * n + i] = (float)dot4(bits[i], bits[n - 1 - i], i);\n"
    "        out[7 * n + i] = exp(v * 0.01f);\n"
    "        out[8 * n + i] = tanh(v);\n"
    "        out[9 * n + i] = sqrt(fabs(v));\n"
    "        out[10 * n + i] = fmax(v, 0.5f);\n"
    "        out[11 * n + i] = i % 2 ? INFINITY : NAN;\n"
    "        out[12 * n + i] = (float)(neighbour + across + sum);\n"
    "        out[13 * n + i] = v * scale + 1.0f;\n"
    "        out[14 * n + i] = v / scale;\n"
    "    }\n"
    "}\n";

enum { LANES = 64, GROUPS = 3, N = 150, ANSWERS = 15 };

static float half_to_float(uint16_t h)
{
    int e = h >> 10 & 31, m = h & 1023;
    float v = e == 0 ? ldexpf((float)m, -24) : e == 31 ? (m ? NAN : INFINITY)
                     : ldexpf((float)(m + 1024), e - 25);
    return h >> 15 ? -v : v;
}

static int32_t dot4(int32_t a, int32_t b, int32_t c)
{
    for (int i = 0; i < 4; i++) c += (int8_t)(uint8_t)((uint32_t)a >> 8 * i) * (int8_t)(uint8_t)((uint32_t)b >> 8 * i);
    return c;
}

static void expect_float(int answer, int i, float got, float want)
{
    if (isnan(want) ? isnan(got) : got == want) return;
    print_error("answer %d of %d: %a, not %a\n", answer, i, (double)got, (double)want);
    _fail(__FILE__, __LINE__);
}

/* OpenCL's exp and tanh may be wrong by units in the last place (3 and 5 of them). */
static void expect_ulps(int answer, int i, float got, double want, int ulps)
{
    double unit = (double)(nextafterf(fabsf((float)want), INFINITY) - fabsf((float)want));
    if (fabs((double)got - want) <= (ulps + 0.5) * unit) return;
    print_error("answer %d of %d: %a, not %a\n", answer, i, (double)got, want);
    _fail(__FILE__, __LINE__);
}

static void words_mean_the_same_in_c(void **state)
{
    (void)state;
    float x[N], out[ANSWERS * N];
    int32_t bits[N];
    uint32_t seed = 7;
    for (int i = 0; i < N; i++) {
        x[i] = i % 4 == 3 ? (float)(i - 75) / 2 : ((float)i - 75.25F) * 0.37F;
        seed = seed * 1664525 + 1013904223;
        bits[i] = (int32_t)seed;
    }
    struct gpu_code *code = gpu_test_build(&d, words_source, "-DLANES=64");
    struct gpu_kernel *k;
    gpu_test_ok(d.driver->kernel(code, "words", &k, err));
    struct gpu_memory *mx = gpu_test_put(&d, x, sizeof x), *mb = gpu_test_put(&d, bits, sizeof bits),
                      *mo = gpu_test_memory(&d, sizeof out),
                      *ms = gpu_test_memory(&d, GROUPS * LANES * sizeof(int32_t));
    const float scale = 1.7F;
    struct gpu_arg args[] = { { .memory = mx }, { .memory = mb }, { .memory = mo }, { .memory = ms },
                              { .word = N }, { .word = 1000 }, { .word = 0 } };
    memcpy(&args[6].word, &scale, sizeof scale);
    gpu_test_ok(d.driver->launch(d.card, k, (uint32_t[]){ GROUPS, 1, 1 }, LANES, args, 7, err));
    gpu_test_read(&d, mo, 0, out, sizeof out);
    for (int i = 0; i < N; i++) {
        uint16_t stored[2], given;
        int32_t other = i / LANES * LANES + (i % LANES + 1) % LANES;
        memcpy(stored, &out[3 * N + i], sizeof stored);
        memcpy(&given, (const char *)bits + 2 * i, sizeof given);
        uint32_t wide = (uint32_t)given << 16;
        float bf16, rounded = x[i] * scale;
        memcpy(&bf16, &wide, sizeof bf16);
        expect_float(0, i, out[i], fmaf(x[i], scale, 1));
        expect_float(1, i, out[N + i], rintf(x[i]));
        expect_float(2, i, out[2 * N + i], -x[i]);
        assert_true(fabsf(half_to_float(stored[0]) - x[i]) <= fabsf(x[i]) / 2048);
        expect_float(3, i, half_to_float(stored[1]), -half_to_float(stored[0]));
        expect_float(4, i, out[4 * N + i], half_to_float(given));
        expect_float(5, i, out[5 * N + i], bf16);
        expect_float(6, i, out[6 * N + i], (float)dot4(bits[i], bits[N - 1 - i], i));
        expect_ulps(7, i, out[7 * N + i], exp((double)(x[i] * 0.01F)), 3);
        expect_ulps(8, i, out[8 * N + i], tanh((double)x[i]), 5);
        expect_ulps(9, i, out[9 * N + i], sqrt(fabs((double)x[i])), d.about.exact_divide ? 0 : 3);
        expect_float(10, i, out[10 * N + i], fmaxf(x[i], 0.5F));
        expect_float(11, i, out[11 * N + i], i % 2 ? INFINITY : NAN);
        expect_float(12, i, out[12 * N + i], (float)(2 * other + other + 1000 + 9));
        /* Two roundings: nothing is contracted that the source does not fuse. */
        expect_float(13, i, out[13 * N + i], rounded + 1);
        if (d.about.exact_divide) expect_float(14, i, out[14 * N + i], x[i] / scale);
    }
    d.driver->free(mx);
    d.driver->free(mb);
    d.driver->free(mo);
    d.driver->free(ms);
    d.driver->code_close(code);
    d.driver->code_close(NULL);
}

static const char places_source[] =
    "KERNEL KERNEL_LANES(16) void places(GLOBAL int *out, GLOBAL const int *maybe, int a, uint b, float c, int x,\n"
    "                                    int y)\n"
    "{\n"
    "    int at = ((group_id(2) * y + group_id(1)) * x + group_id(0)) * 16 + lane_id();\n"
    "    out[at] = (maybe ? maybe[0] : -1) + a * 3 + (int)(b >> 4) + (int)c + at;\n"
    "}\n"
    "KERNEL KERNEL_LANES(16) void again(GLOBAL int *out) { out[lane_id()] += lane_id(); }\n";

static void arguments_and_places(void **state)
{
    (void)state;
    enum { X = 3, Y = 2, Z = 2, ALL = X * Y * Z * 16 };
    struct gpu_code *code = gpu_test_build(&d, places_source, NULL);
    struct gpu_kernel *places, *again, *none;
    gpu_test_ok(d.driver->kernel(code, "places", &places, err));
    gpu_test_ok(d.driver->kernel(code, "again", &again, err));
    struct error e = { 0 };
    assert_int_equal(d.driver->kernel(code, "nowhere", &none, &e), STRETTO_E_DEVICE);
    assert_null(none);
    assert_non_null(strstr(e.text, "nowhere"));
    struct gpu_memory *out = gpu_test_memory(&d, ALL * 4), *maybe = gpu_test_put(&d, &(int32_t){ 500 }, 4);
    const float c = 9;
    for (int with = 1; with >= 0; with--) {
        int32_t got[ALL];
        struct gpu_arg args[] = { { .memory = out }, { .memory = with ? maybe : NULL }, { .word = -7 },
                                  { .word = INT32_MIN }, { .word = 0 }, { .word = X }, { .word = Y } };
        memcpy(&args[4].word, &c, sizeof c);
        gpu_test_ok(d.driver->launch(d.card, places, (uint32_t[]){ X, Y, Z }, 16, args, 7, err));
        gpu_test_ok(d.driver->launch(d.card, again, (uint32_t[]){ 1, 1, 1 }, 16, args, 1, err));
        gpu_test_ok(d.driver->launch(d.card, again, (uint32_t[]){ 4, 0, 1 }, 16, args, 1, err));
        gpu_test_read(&d, out, 0, got, sizeof got);
        for (int i = 0; i < ALL; i++)
            assert_int_equal(got[i], (with ? 500 : -1) - 21 + (1 << 27) + 9 + i + (i < 16 ? i : 0));
        error_clear(&e);
        if (d.driver == &driver_cuda) continue;       /* its launches do not say how many there are */
        assert_int_equal(d.driver->launch(d.card, places, (uint32_t[]){ 1, 1, 1 }, 16, args, 6, &e),
                         STRETTO_E_DEVICE);
        assert_non_null(strstr(e.text, "takes 7 arguments, not 6"));
    }
    d.driver->free(out);
    d.driver->free(maybe);
    d.driver->code_close(code);
}

static void faults_of_kernels_are_told(void **state)
{
    (void)state;
    struct error e = { 0 };
    struct gpu_code *code;
    char *log;
    const char *bad = "#line 1 \"bad.cl\"\n\n\nkernel void x(global int *p) { p[0] = nothing_of_that_name; }\n";
    assert_int_equal(d.driver->build(d.card, bad, "", &code, &log, &e), STRETTO_E_DEVICE);
    assert_null(code);
    assert_non_null(log);
    assert_non_null(strstr(log, "bad.cl"));
    assert_non_null(strstr(log, "nothing_of_that_name"));
    mem_free(log);

    /* words.h cannot be compiled with such a word; the sentence names the file with the compiler's text. */
    char folder[] = "/tmp/stretto-test-XXXXXX", path[512], text[8192];
    assert_non_null(mkdtemp(folder));
    setenv("TMPDIR", folder, 1);
    error_clear(&e);
    assert_int_equal(gpu_build(&d, (const char *[]){ NULL }, "-DSTEP_ROWS=nothing-this", &code, &e),
                     STRETTO_E_DEVICE);
    print_message("%s\n", e.text);
    assert_null(code);
    const char *at = strstr(e.text, folder);
    assert_non_null(at);
    snprintf(path, sizeof path, "%s", at);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, "words.h"));
    assert_non_null(strstr(text, "-DSTEP_ROWS=nothing-this"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    setenv("TMPDIR", "/nowhere/at/all", 1);
    error_clear(&e);
    assert_int_equal(gpu_build(&d, (const char *[]){ NULL }, "-DSTEP_ROWS=nothing-this", &code, &e),
                     STRETTO_E_DEVICE);
    assert_non_null(strstr(e.text, "could not be written"));
    unsetenv("TMPDIR");
    error_clear(&e);
    assert_int_equal(gpu_build(&d, (const char *[]){ "nowhere.cl", NULL }, "", &code, &e), STRETTO_E_ARG);
    gpu_test_ok(gpu_build(&d, (const char *[]){ NULL }, "", &code, err));
    d.driver->code_close(code);
}

static void marks_tell_times(void **state)
{
    (void)state;
    struct gpu_memory *m = gpu_test_memory(&d, 64 << 20);
    gpu_test_ok(d.driver->mark(d.card, 0, err));
    gpu_test_ok(d.driver->zero(d.card, m, 0, 64 << 20, err));
    gpu_test_ok(d.driver->mark(d.card, 1, err));
    for (int i = 0; i < 8; i++) gpu_test_ok(d.driver->zero(d.card, m, 0, 64 << 20, err));
    gpu_test_ok(d.driver->mark(d.card, GPU_MARKS - 1, err));
    gpu_test_ok(d.driver->mark(d.card, 1, err));
    gpu_test_ok(d.driver->finish(d.card, err));
    double all = d.driver->between(d.card, 0, GPU_MARKS - 1);
    print_message("9 times 64 MiB of zeros: %.4f s\n", all);
    assert_true(all > 0 && all < 60);
    assert_true(d.driver->between(d.card, 0, 1) >= all);
    assert_true(d.driver->between(d.card, 0, 7) == 0);
    struct error e = { 0 };
    assert_int_equal(d.driver->mark(d.card, GPU_MARKS, &e), STRETTO_E_ARG);
    d.driver->free(m);
}

/* Whatever allocation of ours fails, it is a status, and nothing is lost. */
static void memory_of_this_machine_is_short(void **state)
{
    (void)state;
    stretto_status s = STRETTO_E_NOMEM;
    int failed = 0;
    for (uint64_t i = 1; s != STRETTO_OK && i < 200; i++) {
        struct error e = { 0 };
        struct gpu_about a[GPU_CARDS];
        struct card *c = NULL;
        struct gpu_code *code = NULL;
        struct gpu_kernel *k = NULL;
        struct gpu_memory *m = NULL;
        void *host = NULL;
        char *log = NULL;
        size_t n;
        mem_fail_at(i);
        s = d.driver->list(a, GPU_CARDS, &n, &e);
        if (s == STRETTO_OK) s = d.driver->open(&c, 0, &e);
        if (s == STRETTO_OK) s = d.driver->build(c, "kernel void x(global int *p) { p[0] = 1; }", "", &code,
                                                     &log, &e);
        if (s == STRETTO_OK) s = d.driver->kernel(code, "x", &k, &e);
        if (s == STRETTO_OK) s = d.driver->alloc(c, 64, &m, &e);
        if (s == STRETTO_OK) s = d.driver->host_alloc(c, 64, &host, &e);
        if (s == STRETTO_OK) s = d.driver->mark(c, 0, &e);
        if (s == STRETTO_OK) s = d.driver->finish(c, &e);
        mem_fail_at(0);
        assert_true(s == STRETTO_OK || (s == STRETTO_E_NOMEM && *e.text) || s == STRETTO_E_DEVICE);
        failed += s != STRETTO_OK;
        if (host) d.driver->host_free(c, host);
        d.driver->free(m);
        d.driver->code_close(code);
        d.driver->close(c);
        mem_free(log);
    }
    assert_int_equal(s, STRETTO_OK);
    assert_true(failed >= 6);
}

#define GPU_DRIVER_TESTS                                                                        \
    cmocka_unit_test(devices_are_listed),          cmocka_unit_test(memory_keeps_bytes),        \
    cmocka_unit_test(pinned_memory_copies),        cmocka_unit_test(what_is_too_large_is_said), \
    cmocka_unit_test(words_mean_the_same_in_c),    cmocka_unit_test(arguments_and_places),      \
    cmocka_unit_test(faults_of_kernels_are_told),  cmocka_unit_test(marks_tell_times),          \
    cmocka_unit_test(memory_of_this_machine_is_short)
#endif
