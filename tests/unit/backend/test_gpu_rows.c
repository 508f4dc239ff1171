/* Row passes on a card against the reference kernels: what kernels.h fixes to the bit by equality, the rest
 * within bounds that follow from the data and from what OpenCL C promises of its functions. Lists of
 * instructions must be what they are one by one, and a row what it is alone. */
#include "unit/backend/gpu_test.h"
#include "backend/gpu/kernels/words.h"
#include "kernels/kernels.h"
#include "kernels/scalar.h"
#include <float.h>

#define wrong(...) do { print_error(__VA_ARGS__); print_error("\n"); _fail(__FILE__, __LINE__); } while (0)

/* Values of one place are [ROWS][LD] floats; the last places are for codes and bf16. */
enum { ROWS = 5, WIDTH = 1500, LD = 1520, VALUE = ROWS * LD, PLACES = 6, ACT = PLACES * VALUE + 8 };
enum { A = 8, B = A + VALUE, C = B + VALUE, X = C + VALUE, CODES = X + VALUE, SCALES = CODES + VALUE };
enum { LISTED = 80, VECTORS = 4 * WIDTH, STEP = 40000 };
static const double eps = (double)FLT_EPSILON / 2; /* one rounding; a unit in the last place is two */

static struct gpu_device d;
static struct gpu_rows *rows, *coded;  /* of a cache of float32; of codes, and of a card whose division is not exact */
static struct kernels ref;
static struct gpu_places m;
static uint64_t seed = 1;

static float act[ACT], after[ACT], vectors[VECTORS];
static int32_t step[STEP], instr[LISTED * INSTR_WORDS], n_instr, n_step;

static uint32_t random_u32(void)
{
    uint64_t z = seed += 0x9e3779b97f4a7c15;             /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (uint32_t)(z >> 32);
}

static float unit(void) { return (float)(int32_t)random_u32() * 0x1p-31f; }
static float normal(void) { return (unit() + unit() + unit() + unit()) * (random_u32() % 64 ? 1.0f : 20.0f); }

static bool same(float a, float b) { return bits_of(a) == bits_of(b) || (isnan(a) && isnan(b)); }

/* ---- a pass ---------------------------------------------------------------------------------- */

static const int32_t ask_row[3] = { 1, 4, 2 };

static int32_t step_put(int which, const void *from, size_t words)
{
    int32_t at = n_step;
    assert_true(at + (int32_t)words <= STEP);
    if (which >= 0) step[which] = at;
    memcpy(step + at, from, words * 4);
    n_step += (int32_t)words;
    return at;
}

static void begin(void)
{
    memset(step, 0, sizeof step);
    memset(instr, 0, sizeof instr);
    n_instr = 0;
    n_step = STEP_HEADER;
    step[STEP_ROWS] = ROWS;
    step[STEP_ASKS] = 3;
    step_put(STEP_ASK_ROW, ask_row, 3);
    for (size_t i = 0; i < ACT; i++) act[i] = normal();
    for (size_t i = 0; i < VECTORS; i++) vectors[i] = normal();
}

/* out = code(A, B) in C. */
static int32_t *add(enum row_code code, int32_t width)
{
    static const int32_t plain[INSTR_WORDS] = {
        [INSTR_IN] = A, [INSTR_IN_LD] = LD, [INSTR_IN2] = B, [INSTR_IN2_LD] = LD, [INSTR_OUT] = C,
        [INSTR_OUT_LD] = LD, [INSTR_W] = -1, [INSTR_B] = -1, [INSTR_Q] = CODES, [INSTR_Q_LD] = LD,
        [INSTR_D] = SCALES, [INSTR_S] = SCALES + WIDTH / 32 + 1, [INSTR_D_LD] = LD,
        [INSTR_H] = CODES, [INSTR_H_LD] = LD,
    };
    int32_t *c = instr + n_instr++ * INSTR_WORDS;
    assert_true(n_instr <= LISTED);
    memcpy(c, plain, sizeof plain);
    c[INSTR_OP] = (int32_t)code;
    c[INSTR_WIDTH] = width;
    return c;
}

static void set_number(int32_t *c, float x) { c[INSTR_NUMBER] = (int32_t)bits_of(x); }

static void run_with(struct gpu_rows *r, struct gpu_memory *pool, int first, int count, bool asking,
                     uint32_t most)
{
    gpu_test_write(&d, m.activations, 0, act, sizeof act);
    gpu_test_write(&d, m.vectors, 0, vectors, sizeof vectors);
    gpu_test_write(&d, m.step, 0, step, sizeof step);
    gpu_test_write(&d, m.instructions, 0, instr, sizeof instr);
    gpu_test_ok(gpu_rows_run(&d, r, &m, pool, (uint32_t)first, (uint32_t)count, asking, most, err));
    gpu_test_read(&d, m.activations, 0, after, sizeof after);
}

static void run(void) { run_with(rows, NULL, 0, n_instr, false, ROWS); }

/* Nothing was written but `width` elements of n rows at `at`. */
static void check_untouched(int32_t at, int32_t width, int32_t n)
{
    for (int32_t i = 0; i < ACT; i++) {
        int32_t e = i - at;
        if (e >= 0 && e < n * LD && e % LD < width) continue;
        if (bits_of(act[i]) != bits_of(after[i])) wrong("word %d (%d from the value) was written", i, e);
    }
}

/* ---- element by element ---------------------------------------------------------------------- */

/* What OpenCL C promises: exp 3 units in the last place, division 2.5, tanh 5, erfc 16; numbers below
 * FLT_MIN may be taken for zeros. */
static double exactly(double a, double b, double want) { return (void)a, (void)b, (void)want, 0; }

static double sigmoid_bound(double x, double y_error, double want)
{
    return fabs(want) * ((6 + 1 + 5 + 1) * eps + y_error) + fabs(x) * 2e-38 + (double)FLT_MIN;
}
static double silu_bound(double a, double b, double want) { return (void)b, sigmoid_bound(a, 0, want); }

/* Two constants, four products and a sum make the exponent, whose error is a relative one of the power. */
static double gelu_tanh_bound(double a, double b, double want)
{
    double y = 1.5957691216 * fabs(a + 0.044715 * a * a * a);
    return (void)b, sigmoid_bound(a, y > 100 ? 0 : 7 * eps * y, want);
}

/* erfc's argument is rounded twice; where it is large, erfc(z) changes by 2 z^2 + 1 of itself for one of z. */
static double gelu_erf_bound(double a, double b, double want)
{
    double x2 = a * a < 400 ? a * a : 400;
    return (void)b, fabs(want) * eps * (32 + 2 + 2 * (x2 + 1)) + fabs(a) * 2e-37 + (double)FLT_MIN;
}
static double mul_silu_bound(double a, double b, double want)
{
    return silu_bound(a, 0, a / (1 + exp(-a))) * fabs(b) + fabs(want) * 2 * eps + (double)FLT_MIN;
}
static double mul_gelu_bound(double a, double b, double want)
{
    double y = 1.5957691216 * (a + 0.044715 * a * a * a), g = a / (1 + exp(-y));
    return gelu_tanh_bound(a, 0, g) * fabs(b) + fabs(want) * 2 * eps + (double)FLT_MIN;
}
static double softcap_bound(double a, double cap, double want)
{
    return (void)a, fabs(want) * (10 + 5 + 1 + 1) * eps + (cap + 1) * (double)FLT_MIN;
}

static void ref_bias(const float *a, const float *b, size_t n, float *out) { ref.add(a, b, n, out); }
static void copy(const float *a, const float *b, size_t n, float *out)
{
    (void)b;
    memcpy(out, a, n * sizeof *out);
}
#define ONE(f) static void ref_##f(const float *a, const float *b, size_t n, float *out) \
    { (void)b; ref.f(a, n, out); }
#define TWO(f) static void ref_##f(const float *a, const float *b, size_t n, float *out) { ref.f(a, b, n, out); }
#define NUMBER(f) static void ref_##f(const float *a, const float *b, size_t n, float *out) \
    { ref.f(a, *b, n, out); }
ONE(silu) ONE(gelu_tanh) ONE(gelu_erf) TWO(silu_mul) TWO(gelu_tanh_mul) TWO(mul) TWO(add) NUMBER(scale) NUMBER(softcap)

static const struct element_op {
    const char *name;
    enum row_code code;
    enum { IN2, VECTOR, THE_NUMBER, TABLE_ROW } second;
    void (*want)(const float *a, const float *b, size_t n, float *out);
    double (*bound)(double a, double b, double want);
} ops[] = {
    { "silu", CODE_SILU, IN2, ref_silu, silu_bound },
    { "gelu_tanh", CODE_GELU_TANH, IN2, ref_gelu_tanh, gelu_tanh_bound },
    { "gelu_erf", CODE_GELU_ERF, IN2, ref_gelu_erf, gelu_erf_bound },
    { "silu_mul", CODE_SILU_MUL, IN2, ref_silu_mul, mul_silu_bound },
    { "gelu_tanh_mul", CODE_GELU_TANH_MUL, IN2, ref_gelu_tanh_mul, mul_gelu_bound },
    { "mul", CODE_MUL, IN2, ref_mul, exactly },
    { "add", CODE_ADD, IN2, ref_add, exactly },
    { "bias", CODE_BIAS, VECTOR, ref_bias, exactly },
    { "scale", CODE_SCALE, THE_NUMBER, ref_scale, exactly },
    { "softcap", CODE_SOFTCAP, THE_NUMBER, ref_softcap, softcap_bound },
    { "copy", CODE_COPY_VECTOR, TABLE_ROW, copy, exactly },
};
enum { OPS = sizeof ops / sizeof *ops, BIAS_AT = 5 };

static void near(const char *what, int32_t i, float want, float got, double bound)
{
    if (isnan(want) || isinf(want) ? same(want, got) : fabs((double)want - (double)got) <= bound) return;
    wrong("%s, element %d: %a in place of %a, bound %g", what, i, (double)got, (double)want, bound);
}

static void fill_edges(float *x, int32_t n, float by)
{
    static const float edges[] = { 0.0f, -0.0f, 1e-40f, -1e-38f, 87.5f, -87.5f, 105.0f, -105.0f, 3e4f, -3e4f,
                                   INFINITY, -INFINITY, NAN, FLT_MAX, -FLT_MAX, -13.5f };
    for (int32_t i = 0; i < n; i++) x[i] = random_u32() % 16 ? normal() * by : edges[random_u32() % 16];
}

static void check_op(const struct element_op *op, int32_t width, int32_t shift)
{
    static float want[WIDTH];
    begin();
    float number = 0.5f + 40 * fabsf(unit());
    fill_edges(act + A, ROWS * LD, 4);
    fill_edges(act + B, ROWS * LD, 1);
    /* What is next to nothing may be nothing, and times infinity that is no number. */
    for (int32_t i = 0; op->bound != exactly && i < ROWS * LD; i++)
        if (isinf(act[B + i])) act[B + i] = 1;
    int32_t *c = add(op->code, width);
    set_number(c, number);
    c[INSTR_B] = BIAS_AT + shift;
    c[INSTR_IN] += shift, c[INSTR_IN2] += 2 * shift, c[INSTR_OUT] += 3 * shift;
    c[INSTR_TABLE] = 2;
    n_step += shift;
    int32_t table = step_put(STEP_VECTORS + 2, act + A, (size_t)(ROWS * width));
    run();
    for (int32_t r = 0; r < ROWS; r++) {
        const float *a = act + A + shift + r * LD, *b = act + B + 2 * shift + r * LD;
        if (op->second == VECTOR) b = vectors + BIAS_AT + shift;
        if (op->second == TABLE_ROW) a = (const float *)(const void *)(step + table + r * width);
        op->want(a, op->second == THE_NUMBER ? &number : b, (size_t)width, want);
        for (int32_t i = 0; i < width; i++) {
            double bound = op->bound(a[i], op->second == THE_NUMBER ? number : b[i], want[i]);
            near(op->name, i, want[i], after[C + 3 * shift + r * LD + i], isfinite(bound) ? bound : 0);
        }
    }
    check_untouched(C + 3 * shift, width, ROWS);
}

static const int32_t widths[] = { 1,   2,   3,   4,   5,   7,   31,  32,  33,   63,   64,
                                  65,  127, 255, 256, 257, 511, 512, 516, 1100, WIDTH };
enum { N_WIDTHS = sizeof widths / sizeof *widths };

static void elements_are_the_reference_s(void **state)
{
    (void)state;
    for (size_t o = 0; o < OPS; o++)
        for (size_t i = 0; i < N_WIDTHS; i++)
            for (int32_t shift = 0; shift < 2; shift++) check_op(&ops[o], widths[i], shift);
}

/* ---- codes, bf16 ----------------------------------------------------------------------------- */

static void fill_groups(int run, int32_t width)
{
    static const float specials[] = { 0,      1e-45f, 1e-39f, 1.2e-38f, 3e-38f,   5e-38f,    1e-37f, 3e-37f,
                                      4e-37f, 1e-36f, 1,      3e38f,    INFINITY, -INFINITY, NAN };
    for (int32_t r = 0; r < ROWS; r++) {
        float *x = act + A + r * LD;
        for (int32_t i = 0; i < width; i++) x[i] = normal() * (run % 3 ? 1.0f : 1e-36f);
        for (int32_t g = 0; g < width / 32 && run > 3; g++) {
            float v = specials[random_u32() % 15];
            if (random_u32() % 2 && v < 1)
                for (int32_t i = 0; i < 32; i++) x[32 * g + i] = v * unit();
            x[32 * g + (int32_t)(random_u32() % 32)] = v;
        }
        for (int32_t i = 0; i < width && run == 3; i++) x[i] = (float)((int)(i % 255) - 127) / 2; /* ties */
        for (int32_t g = 0; g < width / 32 && run == 2; g++) /* the whole range of exponents */
            x[32 * g] = float_of(random_u32() & 0x7fffffff);
    }
}

static void check_codes(struct gpu_rows *with, int32_t width, int run)
{
    int8_t q[WIDTH];
    float scale[WIDTH / 32], sum[WIDTH / 32];
    begin();
    fill_groups(run, width);
    int32_t *c = add(CODE_QUANT, width);
    run_with(with, NULL, 0, 1, false, ROWS);
    for (int32_t r = 0; r < ROWS; r++) {
        ref.quantize(act + A + r * LD, (size_t)width, q, scale, sum, NULL);
        if (memcmp(q, after + CODES + r * LD, (size_t)width) != 0) wrong("codes of row %d, run %d", r, run);
        for (int32_t g = 0; g < width / 32; g++) {
            float gd = after[c[INSTR_D] + r * LD + g], gs = after[c[INSTR_S] + r * LD + g];
            if (!same(scale[g], gd) || !same(sum[g], gs))
                wrong("group %d: scale %a in place of %a, sum %a in place of %a", g, (double)gd,
                      (double)scale[g], (double)gs, (double)sum[g]);
        }
    }
}

/* Those of another cache also with the division that cards have whose own is not exact. */
static void codes_are_the_reference_s(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++)
        for (int run = 0; run < 14; run++)
            for (int32_t width = 32; width <= 1472; width += run % 4 ? 480 : 32)
                check_codes(way ? coded : rows, width, run);
}

static void bf16_is_the_reference_s(void **state)
{
    (void)state;
    static uint16_t want[WIDTH];
    for (size_t w = 0; w < N_WIDTHS; w++) {
        begin();
        for (int32_t i = 0; i < VALUE; i++)
            if (w % 2) act[A + i] = float_of(random_u32());
        add(CODE_TO_BF16, widths[w]);
        run();
        for (int32_t r = 0; r < ROWS; r++) {
            ref.to_bf16(act + A + r * LD, (size_t)widths[w], want);
            assert_memory_equal(after + CODES + r * LD, want, (size_t)widths[w] * 2);
        }
        check_untouched(CODES, (widths[w] + 1) / 2, ROWS);
    }
}

/* ---- norms ----------------------------------------------------------------------------------- */

/* Roundings on the way of one term to the sum of n: a lane's share of its fours, then the four, then 32 lanes,
 * then as many warps. */
static double sum_steps(int32_t n, bool heads)
{
    double lanes = heads ? 32 : d.row_lanes;
    return ceil(n / (4 * lanes)) + 2 + 5 + (heads ? 0 : 5);
}

/* 1 / sqrt(sum / n + eps): half the sum's error, a root (3 units), two divisions, an addition, two products. */
static double root_error(double steps) { return (steps / 2 + 6 + 5 + 5 + 1 + 2) * eps; }

static void check_norm_row(const float *x, const float *w, const float *b, int32_t n, bool layer, bool heads,
                           const float *got)
{
    static float want[WIDTH], one[WIDTH];
    for (int32_t i = 0; i < n; i++) one[i] = 1;
    double mag = 0, mean = 0, var = 0, steps = sum_steps(n, heads);
    for (int32_t i = 0; i < n; i++) mag += fabs((double)x[i]) / n, mean += (double)x[i] / n;
    for (int32_t i = 0; i < n; i++) var += pow((double)x[i] - mean, 2) / n;
    double by = 1 / sqrt(var + 1e-5), shift = (steps + 3) * eps * mag * by;
    if (layer) ref.layernorm(x, w ? w : one, b, (size_t)n, 1e-5f, want);
    else ref.rmsnorm(x, w, (size_t)n, 1e-5f, want);
    if (!layer && b) ref.add(want, b, (size_t)n, want);
    for (int32_t i = 0; i < n; i++) {
        double wi = w ? fabs((double)w[i]) : 1, bi = b ? fabs((double)b[i]) : 0;
        double z = fabs((double)x[i] - mean) * by;
        double bound = layer ? wi * (shift * (1 + z) + z * root_error(steps) + eps * fabs((double)x[i]) * by)
                             : (fabs((double)want[i]) + bi) * root_error(steps);
        near(layer ? "layer norm" : "rms norm", i, want[i], got[i],
             bound + 2 * eps * (fabs((double)want[i]) + bi) + (double)FLT_MIN);
    }
}

/* way: bits for a weight, a bias, the kind; 8: tiny numbers, 16: zeros. */
static void check_norm(int32_t width, int32_t dim, int way)
{
    begin();
    bool layer = way & 4;
    int32_t n = dim ? dim : width;
    for (int32_t i = 0; i < VALUE; i++)
        act[A + i] = way & 16 ? 0.0f : act[A + i] * (way & 8 ? 1e-6f : 1.0f) + (layer ? 2.0f : 0.0f);
    int32_t *c = add(layer ? CODE_NORM_LAYER : CODE_NORM_RMS, width);
    c[INSTR_HEAD_DIM] = dim;
    set_number(c, 1e-5f);
    if (way & 1) c[INSTR_W] = 3;
    if (way & 2) c[INSTR_B] = 2000;
    run();
    for (int32_t r = 0; r < ROWS; r++)
        for (int32_t i = 0; i < width; i += n)
            check_norm_row(act + A + r * LD + i, way & 1 ? vectors + 3 : NULL, way & 2 ? vectors + 2000 : NULL, n,
                           layer, dim != 0, after + C + r * LD + i);
    check_untouched(C, width, ROWS);
}

static void norms_are_the_reference_s(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_WIDTHS; i++)
        for (int way = 0; way < 32; way += i % 3 ? 7 : 1) check_norm(widths[i], 0, way);
    static const int32_t heads[][2] = { { 1, 64 }, { 2, 64 }, { 3, 64 }, { 7, 128 }, { 5, 12 }, { 40, 4 }, { 9, 20 },
                                        { 1, 256 }, { 5, 130 }, { 31, 33 }, { 3, 1 } };
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        for (int way = 0; way < 8; way++) check_norm(heads[i][0] * heads[i][1], heads[i][1], way);
}

static void norms_keep_what_is_no_number(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        begin();
        int32_t *c = add(way & 1 ? CODE_NORM_LAYER : CODE_NORM_RMS, 192);
        c[INSTR_HEAD_DIM] = way & 2 ? 64 : 0;
        act[A + LD + 70] = NAN;
        run();
        for (int32_t r = 0; r < ROWS; r++)
            for (int32_t i = 0; i < 192; i++) {
                bool touched = r == 1 && (!(way & 2) || i / 64 == 1);
                assert_int_equal(isnan(after[C + r * LD + i]) != 0, touched);
            }
    }
}

/* ---- rotation -------------------------------------------------------------------------------- */

static void check_rope(int32_t heads, int32_t dim, int32_t rot, bool halves, bool asking)
{
    float want[WIDTH], angles[ROWS * 256];
    int32_t width = heads * dim, n = asking ? 3 : ROWS;
    begin();
    for (int32_t r = 0; r < ROWS; r++)
        for (int32_t i = 0; i < rot / 2; i++) {
            angles[r * rot + i] = cosf((float)(r * i) + 0.3f);
            angles[r * rot + rot / 2 + i] = sinf((float)(r * i) + 0.3f);
        }
    step_put(STEP_ANGLES + 1, angles, (size_t)(ROWS * rot));
    int32_t *c = add(halves ? CODE_ROPE_HALVES : CODE_ROPE_PAIRS, width);
    c[INSTR_HEADS] = heads, c[INSTR_HEAD_DIM] = dim, c[INSTR_ROT] = rot, c[INSTR_TABLE] = 1;
    run_with(rows, NULL, 0, 1, asking, ROWS);
    for (int32_t r = 0; r < n; r++) {
        const float *cs = angles + (asking ? ask_row[r] : r) * rot;
        double mag = 0;
        memcpy(want, act + A + r * LD, (size_t)width * 4);
        for (int32_t i = 0; i < width; i++) mag = fmax(mag, fabs((double)want[i]));
        if (halves) ref.rope_halves(want, (size_t)heads, (size_t)dim, (size_t)rot, cs);
        else ref.rope_pairs(want, (size_t)heads, (size_t)dim, (size_t)rot, cs);
        /* two products of at most mag and their sum, a rounding each */
        for (int32_t i = 0; i < width; i++)
            near("rope", i, want[i], after[C + r * LD + i], i % dim < rot ? 4 * eps * mag : 0);
    }
    check_untouched(C, width, n);
}

static void rotations_are_the_reference_s(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++)
        for (int32_t rot = 0; rot <= 68; rot += rot < 10 ? 2 : 14)
            for (int32_t heads = 1; heads <= 9; heads += 4)
                check_rope(heads, rot + 3 * (heads % 3) + (rot == 0), rot, way & 1, way & 2);
    check_rope(11, 128, 128, true, false);
    check_rope(5, 256, 64, false, false);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void rows_that_ask_are_fetched(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_WIDTHS; i++) {
        begin();
        add(CODE_ASK, widths[i]);
        run_with(rows, NULL, 0, 1, true, ROWS);
        for (int32_t r = 0; r < 3; r++)
            assert_memory_equal(after + C + r * LD, act + A + ask_row[r] * LD, (size_t)widths[i] * 4);
        check_untouched(C, widths[i], 3);
    }
}

static void rows_that_are_not_there_are_left(void **state)
{
    (void)state;
    for (int32_t n = 0; n <= ROWS; n++)
        for (int asking = 0; asking < 2; asking++) {
            begin();
            step[asking ? STEP_ASKS : STEP_ROWS] = n;
            add(CODE_NORM_RMS, 100);
            add(CODE_SCALE, 100)[INSTR_OUT] = X;
            run_with(rows, NULL, 0, 1, asking, ROWS);
            check_untouched(C, 100, n);
            run_with(rows, NULL, 1, 1, asking, ROWS);
            check_untouched(X, 100, n);
        }
    begin();
    add(CODE_SCALE, 100);
    run_with(rows, NULL, 0, 0, false, ROWS);
    check_untouched(C, 0, 0);
    run_with(rows, NULL, 0, 1, false, 0);
    check_untouched(C, 0, 0);
    gpu_rows_close(NULL);
}

/* ---- lists ----------------------------------------------------------------------------------- */

/* Instructions that read what others wrote, all places in use, more than are fetched at once. */
static void random_list(int32_t width)
{
    static const enum row_code codes[] = {
        CODE_ADD, CODE_MUL, CODE_SILU, CODE_SCALE, CODE_BIAS, CODE_NORM_RMS, CODE_NORM_LAYER, CODE_ROPE_PAIRS,
        CODE_ROPE_HALVES, CODE_SILU_MUL, CODE_QUANT, CODE_SOFTCAP, CODE_COPY_VECTOR, CODE_TO_BF16,
    };
    static const int32_t places[] = { A, B, C, X };
    begin();
    step_put(STEP_VECTORS, act + A, (size_t)(ROWS * width));
    step_put(STEP_ANGLES, act + B, ROWS * 16);
    for (int i = 0; i < LISTED; i++) {
        enum row_code code = codes[random_u32() % (sizeof codes / sizeof *codes)];
        int32_t *c = add(code, width), from = (int32_t)(random_u32() % 4);
        bool norm = code == CODE_NORM_RMS || code == CODE_NORM_LAYER;
        bool rope = code == CODE_ROPE_PAIRS || code == CODE_ROPE_HALVES;
        c[INSTR_IN] = places[from];
        c[INSTR_IN2] = places[random_u32() % 4];
        c[INSTR_OUT] = places[rope ? (from + 1) % 4 : (int32_t)(random_u32() % 4)];
        c[INSTR_B] = norm ? -1 : 7;
        c[INSTR_HEAD_DIM] = rope || (norm && random_u32() % 2) ? 32 : 0;
        c[INSTR_HEADS] = width / 32, c[INSTR_ROT] = 16;
        set_number(c, code == CODE_SCALE ? 0.7f : code == CODE_SOFTCAP ? 5.0f : 1e-3f);
    }
}

/* A list at once is its instructions one by one. */
static void lists_are_their_instructions(void **state)
{
    (void)state;
    static float want[ACT], before[ACT];
    for (int32_t i = 0; i < 12; i++) {
        random_list(32 * (1 + 4 * i));
        memcpy(before, act, sizeof act);
        for (int k = 0; k < n_instr; k++) {
            run_with(rows, NULL, k, 1, false, ROWS);
            memcpy(act, after, sizeof act);
        }
        memcpy(want, after, sizeof after);
        memcpy(act, before, sizeof act);
        run();
        for (int32_t k = 0; k < ACT; k++)
            if (!same(want[k], after[k]))
                wrong("width %d, word %d: a list is not its instructions", 32 * (1 + 4 * i), k);
    }
}

/* The first row's bits are those it has alone. */
static void a_row_does_not_know_its_neighbours(void **state)
{
    (void)state;
    static float alone[ACT];
    random_list(1472);
    run();
    memcpy(alone, after, sizeof after);
    step[STEP_ROWS] = 1;
    run_with(rows, NULL, 0, n_instr, false, 1);
    for (int32_t k = 0; k < PLACES; k++)
        assert_memory_equal(after + A + k * VALUE, alone + A + k * VALUE, LD * sizeof(float));
}

/* ---- the cache ------------------------------------------------------------------------------- */

enum { POOL_PAGES = 5, POOL_LAYERS = 3, POOL_HEADS = 3, POOL_DIM = 36, POOL_GROUP = 2, POOL_MEMBER = 1 };

/* Norms stand around the store: they share local memory with it. Slots of three pages, tables of two sequences. */
static void store_list(void)
{
    static const int32_t slot[ROWS] = { 0, 63, 64, 130, 17 }, table[2][3] = { { 4, 0, 3 }, { 2, -1, -1 } };
    begin();
    step_put(STEP_SLOT, slot, ROWS);
    int32_t at[ROWS], first = step_put(-1, table[0], 3), second = step_put(-1, table[1], 3);
    for (int32_t r = 0; r < ROWS; r++) at[r] = r < 4 ? first : second;
    step_put(STEP_PAGE_AT + POOL_GROUP, at, ROWS);
    add(CODE_NORM_RMS, 1100);
    int32_t *c = add(CODE_STORE, POOL_HEADS * POOL_DIM);
    c[INSTR_HEADS] = POOL_HEADS, c[INSTR_HEAD_DIM] = POOL_DIM, c[INSTR_GROUP] = POOL_GROUP;
    c[INSTR_MEMBER] = POOL_MEMBER, c[INSTR_LAYERS] = POOL_LAYERS;
    add(CODE_NORM_LAYER, 1100)[INSTR_OUT] = X;
    add(CODE_QUANT, 1088);
}

/* Floats of cache.cl's layout: keys [quads][64 positions], then values [64 positions][quads], fours of dims. */
static void expect_stored(float *pool, size_t head_words)
{
    static const int32_t slot[ROWS] = { 0, 63, 64, 130, 17 }, page[ROWS] = { 4, 4, 0, 3, 2 };
    for (int32_t r = 0; r < ROWS; r++)
        for (int32_t h = 0; h < POOL_HEADS; h++)
            for (int32_t i = 0; i < POOL_DIM; i++) {
                float *head = pool + (size_t)((page[r] * POOL_LAYERS + POOL_MEMBER) * POOL_HEADS + h) * head_words;
                int32_t s = slot[r] % 64, quads = POOL_DIM / 4;
                head[(i / 4 * 64 + s) * 4 + i % 4] = act[A + r * LD + h * POOL_DIM + i];
                head[64 * POOL_DIM + (s * quads + i / 4) * 4 + i % 4] = act[B + r * LD + h * POOL_DIM + i];
            }
}

static void check_store(struct gpu_rows *r, bool floats, float *passed)
{
    size_t head_words = 2 * 64 * POOL_DIM, bytes = POOL_PAGES * POOL_LAYERS * POOL_HEADS * head_words * 4;
    float *want = malloc(bytes), *got = malloc(bytes);
    assert_true(want && got);
    memset(want, 0x7b, bytes);
    struct gpu_memory *pool = gpu_test_put(&d, want, bytes);
    seed = 11;
    store_list();
    run_with(r, pool, 0, n_instr, false, ROWS);
    gpu_test_read(&d, pool, 0, got, bytes);
    if (floats) {
        expect_stored(want, head_words);
        assert_memory_equal(got, want, bytes);
    }
    memcpy(passed, after, sizeof after);
    d.driver->free(pool);
    free(want);
    free(got);
}

/* What is stored is what the test of attention reads; here, where, and that the rest of the pass stays. */
static void rows_are_stored(void **state)
{
    (void)state;
    static float floats[ACT], codes[ACT];
    check_store(rows, true, floats);
    check_store(coded, false, codes);
    assert_memory_equal(floats, codes, sizeof floats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_are_the_reference_s),
        cmocka_unit_test(codes_are_the_reference_s),
        cmocka_unit_test(bf16_is_the_reference_s),
        cmocka_unit_test(norms_are_the_reference_s),
        cmocka_unit_test(norms_keep_what_is_no_number),
        cmocka_unit_test(rotations_are_the_reference_s),
        cmocka_unit_test(rows_that_ask_are_fetched),
        cmocka_unit_test(rows_that_are_not_there_are_left),
        cmocka_unit_test(lists_are_their_instructions),
        cmocka_unit_test(a_row_does_not_know_its_neighbours),
        cmocka_unit_test(rows_are_stored),
    };
    /* What depends on the number of lanes, once more with as many as cards have. */
    const struct CMUnitTest with_lanes[] = {
        cmocka_unit_test(elements_are_the_reference_s),
        cmocka_unit_test(bf16_is_the_reference_s),
        cmocka_unit_test(codes_are_the_reference_s),
        cmocka_unit_test(norms_are_the_reference_s),
        cmocka_unit_test(norms_keep_what_is_no_number),
        cmocka_unit_test(lists_are_their_instructions),
        cmocka_unit_test(rows_are_stored),
    };
    gpu_test_open(&d);
    kernels_init(&ref, 0);
    gpu_test_ok(gpu_rows_open(&d, CACHE_F32, &rows, err));
    d.about.exact_divide = false;
    gpu_test_ok(gpu_rows_open(&d, CACHE_Q8_0, &coded, err));
    m = (struct gpu_places){ gpu_test_memory(&d, sizeof act), gpu_test_memory(&d, sizeof vectors),
                             gpu_test_memory(&d, sizeof step), gpu_test_memory(&d, sizeof instr) };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gpu_rows_close(rows);
    d.row_lanes = 512;
    gpu_test_ok(gpu_rows_open(&d, CACHE_F32, &rows, err));
    struct gpu_rows *few = coded;
    coded = rows;
    failed += cmocka_run_group_tests(with_lanes, NULL, NULL);
    gpu_rows_close(few);
    d.driver->free(m.activations);
    d.driver->free(m.vectors);
    d.driver->free(m.step);
    d.driver->free(m.instructions);
    gpu_rows_close(rows);
    gpu_test_close(&d);
    return failed;
}
