/* The head's answers on a card against a plain scan: best and likeliest tokens and their logits by equality, for
 * vocabularies of any size, with ties, zeros of both signs, infinities and what is no number, in all the
 * numbers of rows. */
#include "unit/backend/gpu_test.h"
#include "backend/gpu/kernels/words.h"
#include "tensor/half.h"
#include <float.h>
#include <math.h>

enum { MOST_VOCAB = 300007, MOST_ASKS = 40, UNTOUCHED = 0x5a5a5a5a };

static struct gpu_device d;
static struct gpu_head *head;
static uint64_t seed = 1;

static uint32_t random_u32(void)
{
    uint64_t z = seed += 0x9e3779b97f4a7c15;             /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (uint32_t)(z >> 32);
}

static float random_float(void) { return (float)(int32_t)random_u32() * 0x1p-28f; }

#define wrong(...) do { print_error(__VA_ARGS__); print_error("\n"); _fail(__FILE__, __LINE__); } while (0)

/* ---- the oracle ------------------------------------------------------------------------------ */

static bool before(const float *x, int32_t a, int32_t b)
{
    return x[a] > x[b] || (x[a] == x[b] && a < b);
}

/* The likeliest: each time the best of all that was not taken. */
static void scan(const float *x, uint32_t vocab, struct step_top *t)
{
    for (int k = 0; k < STEP_TOP; k++) {
        int32_t best = -1;
        for (int32_t i = 0; i < (int32_t)vocab; i++) {
            bool taken = false;
            for (int j = 0; j < k; j++) taken |= t->id[j] == i;
            if (!taken && (best < 0 || before(x, i, best))) best = i;
        }
        t->id[k] = best;
        t->logit[k] = best < 0 ? 0.0f : x[best];
    }
}

static bool has_nan(const float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (isnan(x[i])) return true;
    return false;
}

/* ---- running --------------------------------------------------------------------------------- */

struct run {
    uint32_t vocab, ld, first_row, rows, asks;
    bool bias, top;
    float softcap;
    float *logits, *vectors;              /* [rows][ld] before; [3 + vocab] */
    float *after;                         /* [7 + rows * ld]: seven words before the logits       */
    int32_t answers[MOST_ASKS][GPU_ANSWER_WORDS];
};

static struct run *run_make(uint32_t vocab, uint32_t rows)
{
    struct run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    *r = (struct run){ .vocab = vocab, .ld = (vocab + 15) / 16 * 16 + 16, .rows = rows, .asks = rows };
    r->logits = calloc((size_t)rows * r->ld, sizeof(float));
    r->after = calloc((size_t)rows * r->ld + 7, sizeof(float));
    r->vectors = calloc(vocab + 3, sizeof(float));
    assert_true(r->logits && r->after && r->vectors);
    for (size_t i = 0; i < (size_t)rows * r->ld; i++) r->logits[i] = random_float();
    for (size_t i = 0; i < vocab + 3; i++) r->vectors[i] = random_float();
    return r;
}

static void run_free(struct run *r)
{
    free(r->logits);
    free(r->after);
    free(r->vectors);
    free(r);
}

static void run(struct run *r)
{
    size_t n = (size_t)r->rows * r->ld;
    int32_t step[STEP_HEADER] = { [STEP_ROWS] = MOST_ASKS };
    step[STEP_ASKS] = (int32_t)r->asks;
    memset(r->answers, UNTOUCHED & 255, sizeof r->answers);
    struct gpu_places m = { .activations = gpu_test_memory(&d, (n + 7) * 4) };
    gpu_test_write(&d, m.activations, 28, r->logits, n * 4);
    m.vectors = gpu_test_put(&d, r->vectors, (r->vocab + 3) * sizeof(float));
    m.step = gpu_test_put(&d, step, sizeof step);
    struct gpu_head_job j = {
        .logits = 7, .ld = r->ld, .vocab = r->vocab, .first_row = r->first_row, .rows = r->rows,
        .bias = r->bias ? 3 : -1, .softcap = r->softcap, .top = r->top,
        .scratch = gpu_test_memory(&d, gpu_head_scratch(r->vocab)),
        .answers = gpu_test_put(&d, r->answers, sizeof r->answers),
    };
    gpu_test_ok(gpu_head_run(&d, head, &m, &j, err));
    gpu_test_read(&d, m.activations, 0, r->after, (n + 7) * 4);
    gpu_test_read(&d, j.answers, 0, r->answers, sizeof r->answers);
    d.driver->free(m.activations);
    d.driver->free(m.vectors);
    d.driver->free(m.step);
    d.driver->free(j.scratch);
    d.driver->free(j.answers);
}

/* tanh is off by at most 5 units in the last place (OpenCL C), the division by 2.5, the product by half of one. */
static void check_logits(const struct run *r, size_t row)
{
    const float *got = r->after + 7 + row * r->ld, *was = r->logits + row * r->ld;
    for (uint32_t i = 0; i < r->ld; i++) {
        float want = was[i];
        if (i < r->vocab && r->bias) want += r->vectors[3 + i];
        if (i < r->vocab && r->softcap > 0) {
            double exact = r->softcap * tanh((double)want / r->softcap);
            if (isnan(exact) ? !isnan(got[i]) : !(fabs(got[i] - exact) <= fabs(exact) * 8 * FLT_EPSILON))
                wrong("row %zu, logit %u: %g in place of %g", row, i, (double)got[i], exact);
        } else if (bits_of(want) != bits_of(got[i]) && !(isnan(want) && isnan(got[i])))
            wrong("row %zu, logit %u: %g in place of %g", row, i, (double)got[i], (double)want);
    }
}

/* The answer must be that of the logits as the card left them. */
static void check_row(const struct run *r, size_t row)
{
    const int32_t *a = r->answers[r->first_row + row];
    const float *x = r->after + 7 + row * r->ld;
    struct step_top t;
    check_logits(r, row);
    assert_int_equal(a[2], has_nan(x, r->vocab));
    if (a[2]) return;
    scan(x, r->vocab, &t);
    assert_int_equal(a[0], t.id[0]);
    assert_int_equal((uint32_t)a[1], bits_of(t.logit[0]));
    for (int k = 0; k < STEP_TOP; k++) {
        assert_int_equal(a[4 + k], r->top ? t.id[k] : UNTOUCHED);
        assert_int_equal((uint32_t)a[4 + STEP_TOP + k], r->top ? bits_of(t.logit[k]) : UNTOUCHED);
    }
}

static void run_and_check(struct run *r)
{
    run(r);
    for (size_t i = 0; i < r->rows; i++) {
        if (r->first_row + i < r->asks) check_row(r, i);
        else assert_memory_equal(r->after + 7 + i * r->ld, r->logits + i * r->ld, r->ld * sizeof(float));
    }
    for (size_t i = 0; i < MOST_ASKS; i++)
        if (i < r->first_row || i >= r->first_row + r->rows || i >= r->asks)
            for (size_t k = 0; k < GPU_ANSWER_WORDS; k++)
                assert_int_equal(r->answers[i][k], UNTOUCHED);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void every_size(void **state)
{
    (void)state;
    static const uint32_t sizes[] = { 1, 2, 3, 7, 8, 9, 63, 64, 65, 2047, 2048, 2049, 4096, 5000, 151936, MOST_VOCAB };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int way = 0; way < 4; way++) {
            if (sizes[i] > 5000 && way == 1) continue;
            struct run *r = run_make(sizes[i], sizes[i] > 5000 ? 1 : 3);
            r->top = way != 2;
            r->bias = way & 1;
            r->softcap = way > 1 ? 30.0f : 0.0f;
            run_and_check(r);
            run_free(r);
        }
}

static void equal_logits_go_to_the_lower_token(void **state)
{
    (void)state;
    static const float few[] = { -2.5f, -1.0f, -0.0f, 0.0f, 1.0f, 2.5f };
    for (int many = 1; many <= 6; many++) {
        struct run *r = run_make(6001, 4);
        r->top = true;
        for (size_t i = 0; i < (size_t)r->rows * r->ld; i++)
            r->logits[i] = few[random_u32() % (uint32_t)many];
        for (uint32_t i = 0; i < r->ld; i++) r->logits[i] = i % 3 == 2 ? 0.0f : -0.0f;
        run_and_check(r);
        run_free(r);
    }
}

static void infinities_are_logits(void **state)
{
    (void)state;
    struct run *r = run_make(4500, 5);
    r->top = true;
    for (uint32_t i = 0; i < r->ld; i++) r->logits[i] = -INFINITY;
    for (uint32_t i = 0; i < r->ld; i++) r->logits[r->ld + i] = i == 4400 || i == 3 ? -FLT_MAX : -INFINITY;
    r->logits[2 * r->ld + 4499] = r->logits[2 * r->ld + 17] = INFINITY;
    for (uint32_t i = 0; i < r->ld; i++) r->logits[3 * r->ld + i] = INFINITY;
    r->logits[4 * r->ld + 2048] = FLT_TRUE_MIN, r->logits[4 * r->ld + 9] = -FLT_TRUE_MIN;
    run_and_check(r);
    run_free(r);
}

static void no_number_is_told(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        struct run *r = run_make(4999, 7);
        r->top = way & 1;
        r->softcap = way & 2 ? 20.0f : 0.0f;
        r->logits[0] = NAN;
        r->logits[2 * r->ld + 4998] = -NAN;
        r->logits[3 * r->ld + 2048] = float_of(0x7f800001);
        r->logits[4 * r->ld + 4999] = NAN;                          /* behind the last */
        for (uint32_t i = 0; i < r->ld; i++) r->logits[6 * r->ld + i] = float_of(0xffffffff);
        run_and_check(r);
        for (size_t i = 0; i < 7; i++) assert_int_equal(r->answers[i][2], i == 0 || i == 2 || i == 3 || i == 6);
        run_free(r);
    }
}

static void rows_that_do_not_ask_are_left(void **state)
{
    (void)state;
    for (uint32_t rows = 1; rows <= GPU_HEAD_ROWS; rows += 5)
        for (uint32_t first = 0; first < 20; first += 7)
            for (uint32_t asks = first + rows / 2; asks <= first + rows + 1; asks++) {
                struct run *r = run_make(300, rows);
                r->first_row = first;
                r->asks = asks;
                r->top = r->bias = rows & 1;
                run_and_check(r);
                run_free(r);
            }
}

static void a_row_does_not_know_its_neighbours(void **state)
{
    (void)state;
    struct run *all = run_make(3333, GPU_HEAD_ROWS);
    all->top = all->bias = true;
    all->softcap = 15.0f;
    run(all);
    for (uint32_t i = 0; i < GPU_HEAD_ROWS; i += 5) {
        struct run *one = run_make(3333, 1);
        memcpy(one->logits, all->logits + i * all->ld, all->ld * sizeof(float));
        memcpy(one->vectors, all->vectors, (all->vocab + 3) * sizeof(float));
        one->top = one->bias = true;
        one->softcap = 15.0f;
        run(one);
        assert_memory_equal(one->answers[0], all->answers[i], sizeof one->answers[0]);
        assert_memory_equal(one->after + 7, all->after + 7 + i * all->ld, all->ld * sizeof(float));
        run_free(one);
    }
    run_free(all);
}

static void nothing_to_do_is_fine(void **state)
{
    (void)state;
    struct gpu_places m = { 0 };
    gpu_test_ok(gpu_head_run(&d, head, &m, &(struct gpu_head_job){ .vocab = 5 }, err));
    gpu_head_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size),
        cmocka_unit_test(equal_logits_go_to_the_lower_token),
        cmocka_unit_test(infinities_are_logits),
        cmocka_unit_test(no_number_is_told),
        cmocka_unit_test(rows_that_do_not_ask_are_left),
        cmocka_unit_test(a_row_does_not_know_its_neighbours),
        cmocka_unit_test(nothing_to_do_is_fine),
    };
    static const uint32_t lanes[] = { 64, 256 }; /* of CPUs, of cards */
    int failed = 0;
    gpu_test_open(&d);
    for (size_t i = 0; i < 2; i++) {
        d.row_lanes = lanes[i];
        gpu_test_ok(gpu_head_open(&d, &head, err));
        failed += cmocka_run_group_tests(tests, NULL, NULL);
        gpu_head_close(head);
    }
    gpu_test_close(&d);
    return failed;
}
