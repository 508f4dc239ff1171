/* The provider of bf16 in 12 bits beside that of whole panels: the same bits, also where a panel does not fit, and
 * weights that are not its own are left alone. */
#include "backend/cpu/linear/linear.h"
#include "base/memory.h"
#include "base/random.h"
#include "unit/unit.h"
#include <math.h>
#include <string.h>

enum { N_IN = 200, N_OUT = 16 * 9 + 5, ROWS = 5, WILD = 4 };

static uint16_t file[N_OUT * N_IN];
static float rows[ROWS * N_IN];
static uint16_t halves[ROWS * N_IN];

static struct cpu_device *opened(bool whole)
{
    struct device *d;
    struct error e = { 0 };
    struct device_options o = { .wide_bf16 = whole };
    assert_int_equal(backend_cpu.open(&d, &o, &e), STRETTO_OK);
    return (struct cpu_device *)(void *)d;
}

/* Weights of a few binades; with `wild` those of one panel have any exponent. */
static void make(bool wild)
{
    uint64_t seed = 1;
    for (size_t i = 0; i < N_OUT * N_IN; i++) {
        uint64_t r = random_mix(seed++);
        unsigned exponent = 100 + (unsigned)(r >> 32) % 12;
        if (wild && i / N_IN / PANEL_COLS == WILD) exponent = 1 + (unsigned)(r >> 32) % 180;
        file[i] = (uint16_t)((r & 0x807f) | exponent << 7);
    }
    for (size_t i = 0; i < ROWS * N_IN; i++) rows[i] = (float)(int32_t)random_mix(seed++) * 0x1p-31f;
}

static struct param_bytes param(void)
{
    return (struct param_bytes){ .type = DT_BF16, .n_in = N_IN, .n_out = N_OUT, .data = file, .row_bytes = 2 * N_IN,
                                 .memory = true };
}

static void answers(struct cpu_device *d, const struct linear_provider *by, bool wild, bool given, float *y)
{
    struct param_bytes s = param();
    struct weight w = { .by = by, .n_in = N_IN, .n_out = N_OUT, .n_panels = (N_OUT + 15) / 16 };
    float *scratch = mem_alloc(2 * PANEL_COLS * N_IN * sizeof(float));
    assert_true(by->claims(d, &s, false, &w));
    w.panels = mem_map(w.n_panels * w.panel_bytes);
    for (uint32_t p = 0; p < w.n_panels; p++) {
        uint32_t n = N_OUT - p * PANEL_COLS < PANEL_COLS ? N_OUT - p * PANEL_COLS : PANEL_COLS;
        struct linear_columns c = param_columns(&s, p * PANEL_COLS, n, scratch + PANEL_COLS * N_IN);
        assert_int_equal(by->upload(&w, &c, scratch, linear_panel(&w, p)), STRETTO_OK);
    }
    size_t outside = 0;
    for (uint32_t p = 0; by->outside && p < w.n_panels; p++) outside += by->outside(&w, linear_panel(&w, p));
    assert_int_equal(outside, by == &provider_brain12 && wild ? panel_bytes(DT_BF16, N_IN) : 0);
    d->kernels.to_bf16(rows, ROWS * N_IN, halves);
    struct act x = { .f = rows, .ldf = N_IN, .h = halves, .ldh = N_IN };
    struct linear_job job = { &x, ROWS, given, 0, w.n_panels, y, w.n_panels * PANEL_COLS };
    by->run(d, &w, &job);
    for (uint32_t p = 0; by->close && p < w.n_panels; p++) by->close(&w, linear_panel(&w, p));
    mem_unmap((void *)(uintptr_t)w.panels, w.n_panels * w.panel_bytes);
    mem_free(scratch);
}

static void the_same_bits(void **state)
{
    (void)state;
    enum { N = ROWS * 160 };
    static float want[N], got[N];
    struct cpu_device *d = opened(false);
    for (int wild = 0; wild < 2; wild++)
        for (int given = 0; given < 2; given++) {
            make(wild);
            answers(d, &provider_panels, wild, given, want);
            answers(d, &provider_brain12, wild, given, got);
            assert_memory_equal(want, got, sizeof got);
        }
    device_close(&d->device);
}

static void what_is_claimed(void **state)
{
    (void)state;
    struct cpu_device *d = opened(false), *whole = opened(true);
    struct weight w = { 0 };
    make(false);
    struct param_bytes s = param();
    assert_true(provider_brain12.claims(d, &s, false, &w));
    assert_true(w.panel_bytes * 100 < panel_bytes(DT_BF16, N_IN) * 80 && w.panel_bytes % 64 == 0);
    assert_false(provider_brain12.claims(d, &s, true, &w));
    assert_false(provider_brain12.claims(whole, &s, false, &w));
    for (size_t i = 0; i < N_IN; i++) file[i] = (uint16_t)((file[i] & 0x807f) | (i % 250 + 1) << 7);
    for (size_t i = N_IN; i < 16 * N_IN; i++) file[i] = file[i % N_IN];
    assert_false(provider_brain12.claims(d, &s, false, &w));
    make(false);
    s.transposed = true;
    assert_false(provider_brain12.claims(d, &s, false, &w));
    s = param();
    s.type = DT_F16;
    assert_false(provider_brain12.claims(d, &s, false, &w));
    device_close(&d->device);
    device_close(&whole->device);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_same_bits), cmocka_unit_test(what_is_claimed) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
