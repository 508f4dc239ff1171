/* Blocks by search: never worse than the published plain rounding, within what the format's own steps
 * promise, the same bits whatever stands beside them, and defined for every input. */
#include "unit/unit.h"
#include "base/random.h"
#include "tensor/blocks.h"
#include "tensor/encode.h"
#include "tensor/fit.h"
#include "tensor/half.h"
#include <math.h>
#include <stdbool.h>

enum { N = 256, BYTES = 1024 };

static uint64_t drawn;
static double unit(void) { return random_unit(random_at(7, 0, 0, drawn++)); }
static double normal(void) { return sqrt(-2 * log(unit())) * cos(6.283185307179586 * unit()); }

/* Normal, heavy-tailed, constant, of one sign far from zero, on a coarse grid, with one outlier. */
enum { KINDS = 6 };
static void draw(int kind, float *x)
{
    double by = exp(8 * unit() - 6), same = normal();
    for (int i = 0; i < N; i++) {
        double v = normal();
        if (kind == 1) v /= sqrt(0.05 - log(unit()));
        if (kind == 2) v = same;
        if (kind == 3) v = 20 + v;
        if (kind == 4) v = floor(2 * v);
        if (kind == 5 && i % 100 == 57) v *= 30;
        x[i] = (float)(by * v);
    }
}

static double error_of(enum dtype t, const float *x, const float *w, const void *block)
{
    float back[N];
    double sum = 0;
    dtype_table[t].decode(block, back, N);
    for (int i = 0; i < N; i++) sum += (w ? (double)w[i] : 1) * pow((double)back[i] - (double)x[i], 2);
    return sum;
}

static void never_worse_than_plain_rounding(void **state)
{
    (void)state;
    unsigned char plain[BYTES], found[BYTES];
    float x[N], w[N];
    for (int t = 0; t < DT_COUNT; t++)
        for (int turn = 0; turn < 60 * KINDS && dtype_table[t].block > 1 && dtype_table[t].encode; turn++) {
            draw(turn % KINDS, x);
            for (int i = 0; i < N; i++) w[i] = (float)exp(2 * normal());
            const float *with = turn / KINDS % 2 ? w : NULL;
            dtype_table[t].encode(x, plain, N);
            encode_search((enum dtype)t, x, with, found, N);
            double a = error_of((enum dtype)t, x, with, found), b = error_of((enum dtype)t, x, with, plain);
            if (a > b * (1 + 1e-6)) print_error("%s kind %d: %g > %g\n", dtype_table[t].name, turn % KINDS, a, b);
            assert_true(a <= b * (1 + 1e-6));           /* weights are float32 quotients */
        }
}

/* What anyone can reach who lays the steps over the numbers from end to end: half a step for each. A scale of a
 * super-block that is rounded up to its own step widens the step by as much, a minimum rounded away from zero
 * the range. float16 rounds by 2^-11 of a number, and its smallest step is 2^-24. */
static double promised(const struct dtype_info *t, const float *x)
{
    struct grid g = grid_of(t);
    int size = (int)block_group(t), highest = t->sub == SUB_BYTES ? 127 : 31;
    bool min = t->min != MIN_NONE || t->sub == SUB_NIBBLES;
    double range[16] = { 0 }, widest = 0, deepest = 0, sum = 0;
    if (min) highest = t->sub == SUB_NIBBLES ? 15 : 63;
    for (int i = 0; i < N; i += size) {
        double low = x[i], high = x[i];
        for (int k = i; k < i + size; k++) low = fmin(low, (double)x[k]), high = fmax(high, (double)x[k]);
        if (t->sub != SUB_NONE) low = fmin(low, 0);
        /* The widest gap of a table, and a power of two may be half of what would do. */
        int gap = t->scale == SCALE_E8M0 ? 8 : t->values ? 24 : 1;
        range[i / size] = min ? high - low : fmax(-low, high) * gap * (double)fmaxf(1, g.high / -g.low);
        widest = fmax(widest, range[i / size] / (double)g.high);
        deepest = fmax(deepest, t->sub == SUB_NONE ? 0 : -low);
    }
    double unit_d = 0x1p-24 + (t->sub == SUB_NONE ? 0 : widest / highest);
    double unit_m = 0x1p-24 + (min ? deepest / highest : 0);
    for (int i = 0; i < N; i += size) {
        double step = (range[i / size] + unit_m) / (double)g.high + unit_d, most = 0;
        if (min && t->sub != SUB_NONE) step = fmax(step, unit_m);   /* a group of one number is its minimum */
        for (int k = i; k < i + size; k++) most = fmax(most, fabs((double)x[k]));
        sum += size * pow(step / 2 + (most + range[i / size]) * 0x1p-11, 2);
    }
    return sum;
}

static void within_what_the_steps_promise(void **state)
{
    (void)state;
    unsigned char found[BYTES];
    float x[N];
    for (int t = 0; t < DT_COUNT; t++)
        for (int turn = 0; turn < 60 * KINDS && dtype_table[t].block > 1; turn++) {
            draw(turn % KINDS, x);
            encode_search((enum dtype)t, x, NULL, found, N);
            double a = error_of((enum dtype)t, x, NULL, found), b = promised(&dtype_table[t], x);
            if (a > b) print_error("%s kind %d: %g > %g\n", dtype_table[t].name, turn % KINDS, a, b);
            assert_true(a <= b);
        }
}

/* Every scale there could be, in steps of a thousandth. */
static double best_by_trying(const struct grid *g, const struct group *a)
{
    double best = INFINITY, most = 0;
    for (size_t i = 0; i < a->n; i++) most = fmax(most, fabs((double)a->x[i]));
    for (int k = 300; k < 3000; k++)
        for (int sign = -1; sign <= 1; sign += 2) {
            double e = (double)fit_error(g, a, (float)(sign * most / (double)g->high * k / 1000), 0);
            if (e < best) best = e;
        }
    return best;
}

static void scales_are_near_the_best_there_are(void **state)
{
    (void)state;
    const enum dtype of[] = { DT_Q4_0, DT_Q5_0, DT_IQ4_NL, DT_Q3_K, DT_Q6_K };
    for (size_t t = 0; t < sizeof of / sizeof *of; t++) {
        struct grid g = grid_of(&dtype_table[of[t]]);
        double found = 0, best = 0;
        float x[N], w[N];
        for (int turn = 0; turn < 20; turn++) {
            draw(0, x);
            float most = 0;
            for (int i = 0; i < N; i++) most = fmaxf(most, fabsf(x[i]));
            for (int i = 0; i < N; i++) x[i] /= most, w[i] = (float)unit();
            for (int i = 0; i < N; i += 32) {
                struct group a = group_make(x + i, w + i, 32);
                found += (double)fit_error(&g, &a, fit_scale(&g, &a), 0);
                best += best_by_trying(&g, &a);
            }
        }
        double near = g.high < 31 || g.values ? 1.03 : 1.06;    /* many codes, many dips */
        if (found > near * best) print_error("%s: %g, best %g\n", dtype_table[of[t]].name, found, best);
        assert_true(found <= near * best);
    }
}

/* Of all the exponents there are the least error, at the ends of what they reach too. */
static void exponents_are_the_best_there_are(void **state)
{
    (void)state;
    const struct dtype_info *t = &dtype_table[DT_MXFP4];
    const struct grid g = grid_of(t);
    unsigned char found[BYTES];
    float x[N], w[N], v[N];
    for (int turn = 0; turn < 60 * KINDS; turn++) {
        const int up = turn % 5 == 1 ? -118 : turn % 5 == 2 ? 110 : turn % 5 == 3 ? -126 : 0;
        const float *with = turn / KINDS % 2 ? w : NULL;
        draw(turn % KINDS, x);
        for (int i = 0; i < N; i++) x[i] = fmaxf(-t->most, fminf(t->most, ldexpf(x[i], up))), w[i] = (float)unit();
        encode_search(DT_MXFP4, x, with, found, N);
        for (int block = 0; block < N; block += 32) {
            double least = INFINITY, got = 0;
            float back[32];
            t->decode(found + block / 32 * 17, back, 32);
            for (int e = 0; e < 255; e++) {
                double d = ldexp(1, e - 128), error = 0;
                for (int i = 0; i < 32; i++) v[i] = (float)(fmax(-13, fmin(13, (double)x[block + i] / d)));
                for (int i = 0; i < 32; i += FIT_LANES) grid_nearest(&g, v + i, v + i);
                for (int i = 0; i < 32; i++)
                    error += (with ? (double)w[block + i] : 1) * pow((double)v[i] * d - (double)x[block + i], 2);
                least = fmin(least, error);
            }
            for (int i = 0; i < 32; i++)
                got += (with ? (double)w[block + i] : 1) * pow((double)back[i] - (double)x[block + i], 2);
            if (got > least * (1 + 1e-5)) print_error("kind %d up %d: %g, best %g\n", turn % KINDS, up, got, least);
            assert_true(got <= least * (1 + 1e-5));
        }
    }
}

/* Numbers twice as large have the same codes under scales twice as large. */
static void powers_of_two_change_no_code(void **state)
{
    (void)state;
    unsigned char a[BYTES], b[BYTES];
    float x[N], twice[N], from_a[N], from_b[N];
    for (int t = 0; t < DT_COUNT; t++)
        for (int kind = 0; kind < KINDS && dtype_table[t].block > 1; kind++) {
            draw(kind, x);
            for (int i = 0; i < N; i++) x[i] *= 128, twice[i] = 2 * x[i];
            encode_search((enum dtype)t, x, NULL, a, N);
            encode_search((enum dtype)t, twice, NULL, b, N);
            dtype_table[t].decode(a, from_a, N);
            dtype_table[t].decode(b, from_b, N);
            for (int i = 0; i < N; i++) from_a[i] *= 2;
            /* Small scales of Q6_K may be below float16's least normal number. */
            if (kind != 2 && t != DT_Q6_K) assert_memory_equal(from_a, from_b, sizeof from_a);
        }
}

static void zeros_are_zeros(void **state)
{
    (void)state;
    const float small[] = { 0, -0.0f, 1e-45f, -0x1p-131f, 0x1p-26f, -0x1.8p-27f };
    unsigned char found[BYTES];
    float x[N], back[N];
    for (int t = 0; t < DT_COUNT; t++) {
        if (dtype_table[t].block < 2) continue;
        for (int i = 0; i < N; i++) x[i] = small[i % (dtype_table[t].scale == SCALE_E8M0 ? 4 : 6)];
        encode_search((enum dtype)t, x, NULL, found, N);
        dtype_table[t].decode(found, back, N);
        for (int i = 0; i < N; i++) assert_true(back[i] == 0);
        /* One number among zeros: they stay zeros where codes have one. */
        memset(x, 0, sizeof x);
        x[5] = 0.75f;
        encode_search((enum dtype)t, x, NULL, found, N);
        dtype_table[t].decode(found, back, N);
        for (int i = 0; i < N && !dtype_table[t].values; i++) assert_true(fabsf(back[i] - x[i]) < 0x1p-10f);
    }
}

/* Any bits: what is written decodes to finite numbers, the same for one block as among others, at any place. */
static void any_bits_are_defined(void **state)
{
    (void)state;
    unsigned char all[2 * BYTES], one[BYTES + 1];
    float x[2 * N], w[2 * N], back[N];
    for (int turn = 0; turn < 300; turn++)
        for (int t = 0; t < DT_COUNT; t++) {
            const struct dtype_info *d = &dtype_table[t];
            if (d->block < 2) continue;
            for (int i = 0; i < 2 * N; i++) {
                x[i] = float_of((uint32_t)random_at(1, 0, (uint64_t)turn, drawn++));
                w[i] = float_of((uint32_t)random_at(2, 0, (uint64_t)turn, drawn++));
                if (turn % 3 == 1) x[i] = (float)(unit() - 0.5) * 1e-7f;
                if (turn % 3 == 2) x[i] = (float)(unit() - 0.5) * 3e6f;
            }
            const float *with = turn % 2 ? w : NULL;
            size_t bytes = dtype_bytes((enum dtype)t, N);
            encode_search((enum dtype)t, x, with, all, 2 * N);
            for (size_t first = 0; first < 2; first++) {
                one[bytes + 1] = 0xaa;
                encode_search((enum dtype)t, x + first * N, with ? w + first * N : NULL, one + 1, N);
                assert_memory_equal(one + 1, all + first * bytes, bytes);
                d->decode(one + 1, back, N);
                for (int i = 0; i < N; i++) assert_true(isfinite(back[i]));
            }
            for (int i = 0; i < N && t == DT_Q8_0; i++) assert_true(all[2 + i / 32 * 34 + i % 32] != 0x80);
        }
}

/* The documented meaning of what is no number, and of weights so large or small that their squares are not. */
static void odd_inputs_have_their_meaning(void **state)
{
    (void)state;
    unsigned char a[BYTES], b[BYTES];
    float x[N], y[N], w[N], v[N];
    for (int t = 0; t < DT_COUNT; t++)
        for (int kind = 0; kind < KINDS && dtype_table[t].block > 1; kind++) {
            draw(kind, x);
            memcpy(y, x, sizeof x);
            for (int i = 0; i < N; i++) w[i] = v[i] = (float)unit();
            for (int i = 3; i < N; i += 40) {
                x[i] = NAN;
                y[i] = 0;
                w[i + 1] = i % 3 ? -1 : NAN;
                v[i + 1] = 0;
            }
            for (int by = -100; by <= 100; by += 100) {
                float scaled[N];
                for (int i = 0; i < N; i++) scaled[i] = ldexpf(w[i], by);
                encode_search((enum dtype)t, x, scaled, a, N);
                encode_search((enum dtype)t, y, v, b, N);
                assert_memory_equal(a, b, dtype_bytes((enum dtype)t, N));
            }
        }
}

static void weights_count(void **state)
{
    (void)state;
    unsigned char with[BYTES], without[BYTES];
    float x[N], w[N], none[N] = { 0 };
    for (int t = 0; t < DT_COUNT; t++) {
        double a = 0, b = 0;
        for (int turn = 0; turn < 30 && dtype_table[t].block > 1; turn++) {
            draw(turn % 2, x);
            for (int i = 0; i < N; i++) w[i] = i % 3 ? 1e-3f : 50;
            encode_search((enum dtype)t, x, w, with, N);
            encode_search((enum dtype)t, x, NULL, without, N);
            a += error_of((enum dtype)t, x, w, with);
            b += error_of((enum dtype)t, x, w, without);
            encode_search((enum dtype)t, x, none, with, N);
            assert_memory_equal(with, without, dtype_bytes((enum dtype)t, N));
        }
        /* Three codes under one scale, and powers of two, leave little to choose. */
        double most = t == DT_TQ2_0 || dtype_table[t].scale == SCALE_E8M0 ? 0.99 : 0.95;
        if (dtype_table[t].block > 1 && a > most * b) print_error("%s: %g, %g\n", dtype_table[t].name, a, b);
        assert_true(dtype_table[t].block < 2 || a < most * b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_worse_than_plain_rounding),
        cmocka_unit_test(within_what_the_steps_promise),
        cmocka_unit_test(scales_are_near_the_best_there_are),
        cmocka_unit_test(exponents_are_the_best_there_are),
        cmocka_unit_test(powers_of_two_change_no_code),
        cmocka_unit_test(zeros_are_zeros),
        cmocka_unit_test(any_bits_are_defined),
        cmocka_unit_test(odd_inputs_have_their_meaning),
        cmocka_unit_test(weights_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
