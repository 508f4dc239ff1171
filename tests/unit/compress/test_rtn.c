/* Straight rounding of 2 to 8 bits: what a decoder finds is the nearest code under the scale of who shares it. */
#include "unit/unit.h"
#include "base/random.h"
#include "compress/rtn.h"
#include "tensor/half.h"
#include <math.h>

enum { ROWS = 5, N = 96 };

static void draw(float *w)
{
    for (uint64_t i = 0; i < ROWS * N; i++)
        w[i] = (float)(random_unit(random_at(3, 0, 0, i)) - 0.4) * (float)(1 + i / N);
}

static float most(const float *w, size_t n)
{
    float m = 0;
    for (size_t i = 0; i < n; i++) m = fmaxf(m, fabsf(w[i]));
    return m;
}

static float scale_of(const float *w, size_t i, enum rtn_share share, float highest)
{
    size_t n = share == RTN_TENSOR ? ROWS * N : share == RTN_ROW ? N : 32;
    float m = most(w + i / n * n, n);
    return half_to_float(float_to_half(m / highest));
}

static void nearest_codes(void **state)
{
    (void)state;
    float w[ROWS * N], x[ROWS * N];
    unsigned char blocks[ROWS * N * 2];
    draw(w);
    for (unsigned bits = 2; bits <= 8; bits++)
        for (int share = RTN_TENSOR; share <= RTN_GROUP; share++) {
            const struct dtype_info *t = &dtype_table[rtn_type(bits)];
            float highest = exp2f((float)bits - 1) - 1, worst = 0;
            assert_int_equal(rtn_encode(bits, (enum rtn_share)share, w, ROWS, N, blocks, NULL), STRETTO_OK);
            t->decode(blocks, x, ROWS * N);
            for (size_t i = 0; i < ROWS * N; i++) {
                float d = scale_of(w, i, (enum rtn_share)share, highest), code = x[i] / d;
                assert_true(fabsf(code - rintf(code)) < 1e-4f && fabsf(code) < highest + 0.5f);
                worst = fmaxf(worst, fabsf(x[i] - w[i]) / d);
            }
            /* The largest may be cut by what its scale was rounded. */
            assert_true(worst <= 0.5f + highest * 0x1p-11f && worst > 0.4f);
        }
}

static void refusals(void **state)
{
    (void)state;
    float w[ROWS * N];
    unsigned char blocks[ROWS * N * 2];
    struct error err = { 0 };
    draw(w);
    assert_int_equal(rtn_encode(1, RTN_ROW, w, ROWS, N, blocks, NULL), STRETTO_E_ARG);
    assert_int_equal(rtn_encode(9, RTN_ROW, w, ROWS, N, blocks, NULL), STRETTO_E_ARG);
    assert_int_equal(rtn_encode(4, RTN_ROW, w, 1, 40, blocks, NULL), STRETTO_E_ARG);
    memset(w, 0, sizeof w);
    assert_int_equal(rtn_encode(4, RTN_TENSOR, w, ROWS, N, blocks, NULL), STRETTO_OK);
    w[2 * N] = NAN;
    assert_int_equal(rtn_encode(4, RTN_GROUP, w, ROWS, N, blocks, &err), STRETTO_E_FORMAT);
    assert_non_null(strstr(err.text, "row 2 "));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(nearest_codes), cmocka_unit_test(refusals) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
