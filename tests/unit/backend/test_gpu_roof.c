/* What is measured of a card is what it says: a reading kernel reads every word once, whatever the size; rates
 * are there for what the card has, and nothing of it stays taken. */
#include "unit/backend/gpu_test.h"
#include "backend/gpu/program.h"

enum { LANES = 64, GROUPS = 3 };

static struct gpu_device d;

static void reads_every_word_once(void **state)
{
    (void)state;
    static const uint32_t counts[] = { 0, 1, 5, 63, 64, 191, 192, 193, 767, 768, 769, 5000 };
    struct gpu_code *code = NULL;
    struct gpu_kernel *k = NULL;
    static const char *const files[] = { "roof.cl", NULL };
    gpu_test_ok(gpu_build(&d, files, "-DROOF_LANES=64 -DROOF_MATRICES=0", &code, err));
    gpu_test_ok(d.driver->kernel(code, "roof_read", &k, err));
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        static uint32_t data[4 * 5001], out[GROUPS * LANES];
        uint32_t want = 0, got = 0, seed = (uint32_t)c;
        for (uint32_t i = 0; i < 4 * 5001; i++) {
            data[i] = seed = seed * 1664525u + 1013904223u;
            if (i < 4 * counts[c]) want += data[i];
        }
        struct gpu_memory *m = gpu_test_put(&d, data, sizeof data), *o = gpu_test_memory(&d, sizeof out);
        const struct gpu_arg args[] = { { m, 0 }, { o, 0 }, { NULL, (int32_t)counts[c] }, { NULL, GROUPS } };
        gpu_test_ok(d.driver->launch(d.card, k, (const uint32_t[]){ GROUPS, 1, 1 }, LANES, args, 4, err));
        gpu_test_read(&d, o, 0, out, sizeof out);
        for (uint32_t i = 0; i < GROUPS * LANES; i++) got += out[i];
        assert_int_equal(want, got);
        d.driver->free(m);
        d.driver->free(o);
    }
    d.driver->code_close(code);
}

static void rates(void **state)
{
    (void)state;
    struct weights w = { .device = &d, .bytes = 1 << 20 };
    double bytes = 0, higher = 1e30, macs[ARITHMETIC_KINDS] = { 0 };
    gpu_test_ok(gpu_roof_bytes(&w, 0, 0, &bytes, err));
    assert_true(bytes > 1e6);
    gpu_test_ok(gpu_roof_bytes(&w, 0, (size_t)3 << 20, &higher, err));
    assert_true(higher == 1e30);       /* raised, never lowered */
    gpu_test_ok(gpu_roof_macs(&w, 0, macs, err));
    assert_true(macs[ARITHMETIC_INT8] > 1e6 && macs[ARITHMETIC_F32] > 1e6);
    assert_true((macs[ARITHMETIC_BF16] > 0) == (d.about.arch >= 80));
    print_message("%.1f GB/s, %.1f GMAC/s int8, %.1f float32\n", bytes / 1e9, macs[ARITHMETIC_INT8] / 1e9,
                  macs[ARITHMETIC_F32] / 1e9);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(reads_every_word_once), cmocka_unit_test(rates) };
    gpu_test_open(&d);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gpu_roof_close(d.roof);
    gpu_test_close(&d);
    return failed;
}
