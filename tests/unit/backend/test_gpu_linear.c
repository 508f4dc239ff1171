/* Linear layers on a card: the reference kernels' bits, for every type, with any number of rows, panels, parts
 * and elements, whichever kernel the launch picks. Weights are the files' blocks with random codes and scales;
 * rows have edge codes, NaNs and numbers below the normal ones among them. */
#include "unit/backend/gpu_test.h"
#include "backend/gpu/kernels/words.h"
#include "kernels/kernels.h"
#include "kernels/scalar.h"
#include <float.h>
#include <math.h>

static struct gpu_device d;
static struct kernels ref;
static uint32_t noise = 1;

enum { PAD = 12, GUARD = 0x4b1d4b1d, FIRST = 3, MOST_ROWS = 150, GIVEN_AT = STEP_HEADER,
       ASK_AT = GIVEN_AT + 2 * MOST_ROWS, WORDS = ASK_AT + MOST_ROWS };

static uint32_t next_u32(void)
{
    noise ^= noise << 13;
    noise ^= noise >> 17;
    noise ^= noise << 5;
    return noise;
}

static float next_float(void) { return (float)(int32_t)next_u32() * 0x1p-31f; }

static uint16_t next_half(float scale) { return float_to_half(next_float() * scale); }

/* One column as a file has it. */
static void column_make(enum dtype t, size_t k, uint8_t *to)
{
    const struct dtype_info *row = &dtype_table[t];
    size_t bytes = k / row->block * row->bytes;
    for (size_t i = 0; i < bytes; i++) to[i] = (uint8_t)(next_u32() >> 11);
    for (size_t i = 0; row->planes && i < bytes; i += row->bytes) {
        uint16_t h = next_half(i / row->bytes % 5 ? 0.1f : 1e-6f), m = next_half(0.2f);
        if (row->scale == SCALE_F16) memcpy(to + i + row->d_at, &h, 2);
        else to[i + row->d_at] = (uint8_t)(i / row->bytes % 5 ? 118 + next_u32() % 8 : next_u32() % 3);
        if (row->min || row->sub == SUB_NIBBLES) memcpy(to + i + row->m_at, &m, 2);
    }
    for (size_t i = 0; !row->planes && i < k; i++) {
        float f = next_float() * (i % 11 == 3 ? 1e-6f : 1);
        uint16_t h = t == DT_F16 ? float_to_half(f) : float_to_brain(f);
        if (t == DT_F32) memcpy(to + 4 * i, &f, 4);
        else memcpy(to + 2 * i, &h, 2);
    }
}

static uint8_t *panels_make(enum dtype t, size_t n, size_t k)
{
    size_t bytes = panel_bytes(t, k), column = k / dtype_table[t].block * dtype_table[t].bytes;
    uint8_t *panels = aligned_alloc(64, n * bytes + 64), *file = malloc(16 * column + 1);
    for (size_t p = 0; p < n; p++) {
        size_t cols = p + 1 == n ? 13 : 16;
        for (size_t c = 0; c < cols; c++) column_make(t, k, file + c * column);
        panel_pack(t, file, column, cols, k, panels + p * bytes);
    }
    free(file);
    return panels;
}

/* All of a case: weights side by side, rows, and where things stand in the activations. */
struct work {
    enum dtype t;
    uint32_t k, rows, n_parts, n_panels[GPU_PARTS], words;
    uint8_t *panels[GPU_PARTS];
    struct gpu_linear_job job;
    float *memory, *answers;      /* answers: what the reference makes of all rows, where it belongs in memory */
    struct act act;
    struct gpu_places places;
};

static void rows_make(struct work *w)
{
    float *f = w->memory + w->job.in;
    int8_t *q = (int8_t *)(w->memory + w->job.q);
    for (uint32_t r = 0; r < w->rows; r++) {
        float *x = f + r * w->job.in_ld, *dx = w->memory + w->job.d + r * w->job.d_ld;
        float *sx = w->memory + w->job.s + r * w->job.d_ld;
        int8_t *codes = q + r * w->job.q_ld * 4;
        uint16_t *h = (uint16_t *)(w->memory + w->job.h + r * w->job.h_ld);
        for (uint32_t i = 0; i < w->k; i++) x[i] = next_float() * (next_u32() % 50 ? 1 : 30);
        if (dtype_table[w->t].block > 1) ref.quantize(x, w->k, codes, dx, sx, NULL);
        for (uint32_t i = 0; i < w->k && r % 7 == 3; i++) codes[i] = r % 2 || i % 2 ? 127 : -127;
        for (uint32_t i = 0; i < w->k && r % 7 == 5; i++) codes[i] = -127;
        for (uint32_t i = 0; i < w->k; i++) h[i] = float_to_brain(r == 12 && i == w->k / 2 ? NAN : x[i]);
        if (w->k < 32) continue;
        if (r % 16 == 6) dx[w->k / 64] = sx[w->k / 64] = x[w->k / 2] = NAN;
        if (r % 16 == 9) x[w->k / 2] = INFINITY;
        if (r % 16 == 11) dx[w->k / 32 - 1] = x[0] = 1e-41f, sx[0] = -1e-42f;
    }
}

static uint32_t reserve(struct work *w, uint32_t words)
{
    uint32_t at = w->words;
    w->words += (words + 3) / 4 * 4 + PAD;
    return at;
}

static void work_answer(struct work *w)
{
    for (uint32_t i = 0; i < w->n_parts; i++)
        for (uint32_t r = 0; r < w->rows; r++) {
            struct act x = w->act;
            const struct gpu_part *p = &w->job.part[i];
            x.f += r * x.ldf, x.q += r * x.ldq, x.d += r * x.ldd, x.s += r * x.ldd;
            ref.linear[w->t](w->panels[i], w->n_panels[i], w->k, &x, 1, w->answers + p->out + r * p->out_ld, p->out_ld);
        }
}

static void work_open(struct work *w, enum dtype t, uint32_t k, uint32_t rows, const uint32_t *panels, uint32_t n)
{
    uint32_t groups = (k + 31) / 32;
    *w = (struct work){ .t = t, .k = k, .rows = rows, .n_parts = n };
    w->words = PAD;
    struct gpu_linear_job *j = &w->job;
    *j = (struct gpu_linear_job){ .n_parts = n, .n_in = k, .in_ld = k + 5, .q_ld = groups * 8 + 4, .d_ld = groups + 3,
                                  .count_word = STEP_ROWS };
    j->h_ld = (k + 7) / 8 * 4 + 4;
    j->h = reserve(w, rows * j->h_ld);
    j->in = reserve(w, rows * j->in_ld) + 1;
    j->q = reserve(w, rows * j->q_ld);
    j->d = reserve(w, rows * j->d_ld) + 1;
    j->s = reserve(w, rows * j->d_ld) + 2;
    for (uint32_t i = 0; i < n; i++) {
        struct gpu_part *p = &j->part[i];
        w->n_panels[i] = panels[i];
        w->panels[i] = panels_make(t, panels[i], k);
        *p = (struct gpu_part){ .n_panels = panels[i], .out_ld = panels[i] * 16 + 3 + i };
        p->out = reserve(w, rows * p->out_ld) + i;
        p->panels = gpu_test_put(&d, w->panels[i], panels[i] * panel_bytes(t, k) + 4);
    }
    w->memory = malloc(w->words * sizeof(float));
    for (uint32_t i = 0; i < w->words; i++) w->memory[i] = float_of(GUARD);
    rows_make(w);
    w->act = (struct act){ .f = w->memory + j->in, .ldf = j->in_ld, .q = (const int8_t *)(w->memory + j->q),
                           .ldq = j->q_ld * 4, .d = w->memory + j->d, .s = w->memory + j->s, .ldd = j->d_ld };
    w->answers = malloc(w->words * sizeof(float));
    work_answer(w);
    w->places.activations = gpu_test_memory(&d, w->words * sizeof(float));
    w->places.step = gpu_test_memory(&d, WORDS * 4);
}

static void work_close(struct work *w)
{
    for (uint32_t i = 0; i < w->n_parts; i++) {
        d.driver->free(w->job.part[i].panels);
        free(w->panels[i]);
    }
    d.driver->free(w->places.activations);
    d.driver->free(w->places.step);
    free(w->memory);
    free(w->answers);
}

static bool same(float a, float b)
{
    return (isnan(a) && isnan(b)) || bits_of(a) == bits_of(b);
}

/* Prompt rows stand in runs. */
static bool is_given(uint32_t row) { return row / 9 % 3 == 1 || (row > 80 && row < 140); }

/* What memory must hold: the reference's answers for rows first..count that are asked for, and all else as it was. */
static float *work_want(struct work *w, uint32_t first, uint32_t count)
{
    float *want = malloc(w->words * sizeof(float));
    memcpy(want, w->memory, w->words * sizeof(float));
    for (uint32_t i = 0; i < w->n_parts; i++)
        for (uint32_t r = first; r < count; r++) {
            const struct gpu_part *p = &w->job.part[i];
            const size_t at = p->out + r * p->out_ld;
            if (w->job.roles == GPU_WRITTEN && is_given(r)) continue;
            memcpy(want + at, w->answers + at, w->n_panels[i] * 16 * sizeof(float));
        }
    return want;
}

/* Launched for `most` rows from `first` on where there are `count`: the number of places that differ. */
static size_t work_run(struct work *w, struct gpu_linear *l, uint32_t first, uint32_t count, uint32_t most)
{
    int32_t step[WORDS] = { [STEP_ROWS] = (int32_t)count, [STEP_ASKS] = (int32_t)count, [STEP_GIVEN] = GIVEN_AT,
                            [STEP_ASK_ROW] = ASK_AT };
    float *want = work_want(w, first, count < first + most ? count : first + most);
    float *got = malloc(w->words * sizeof(float));
    size_t differ = 0;
    for (int32_t i = 0; i < MOST_ROWS; i++) step[ASK_AT + i] = 2 * i;
    const uint32_t apart = w->job.count_word == STEP_ASKS ? 2 : 1;
    for (uint32_t i = 0; i < MOST_ROWS; i++) step[GIVEN_AT + apart * i] = is_given(i);
    w->job.first_row = first;
    w->job.most_rows = most;
    gpu_test_write(&d, w->places.step, 0, step, sizeof step);
    gpu_test_write(&d, w->places.activations, 0, w->memory, w->words * sizeof(float));
    gpu_test_ok(gpu_linear_run(&d, l, &w->places, &w->job, err));
    gpu_test_read(&d, w->places.activations, 0, got, w->words * sizeof(float));
    for (uint32_t i = 0; i < w->words; i++)
        if (!same(want[i], got[i]) && !differ++)
            print_message("%s, k %u, rows %u..%u of %u: word %u is %.9g, not %.9g\n", dtype_table[w->t].name, w->k,
                          first, count, most, i, got[i], want[i]);
    free(want);
    free(got);
    return differ;
}

/* With the kernels of a card of this compute capability (0: none). */
static struct gpu_linear *linear_open(enum dtype t, uint32_t arch)
{
    struct gpu_linear *l = NULL;
    struct gpu_device as = d;
    as.about.arch = arch;
    gpu_test_ok(gpu_linear_open(&as, t, &l, err));
    return l;
}

static void type_has_the_references_bits(enum dtype t, uint32_t arch)
{
    static const uint32_t one[] = { 1 }, three[] = { 3, 1, 2 }, four[] = { 1, 2, 1, 3 };
    static const uint32_t most[] = { 1, 2, 4, 5, 8, 16, 17, 67, 131 };
    uint32_t block = dtype_table[t].block;
    /* K of one, two and many segments, whole and not */
    const uint32_t many = block == 1 ? 259 : block == 32 ? 544 : block == 64 ? 704 : 768;
    const uint32_t ks[] = { block, block == 1 ? 31 : 3 * block, many, block == 1 ? 1024 : 1280 };
    struct gpu_linear *l = linear_open(t, arch);
    for (size_t n = 0; n < sizeof ks / sizeof *ks; n++) {
        struct work w;
        work_open(&w, t, ks[n], 131 + FIRST, n == 0 ? one : n == 1 ? four : three, n == 0 ? 1 : n == 1 ? 4 : 3);
        for (size_t m = 0; m < sizeof most / sizeof *most; m++) {
            uint32_t first = m % 2 ? FIRST : 0;
            w.job.roles = GPU_ALL;
            assert_int_equal(work_run(&w, l, first, first + most[m], most[m]), 0);
            if (n != 2) continue;
            assert_int_equal(work_run(&w, l, first, first + (most[m] + 1) / 2, most[m]), 0);
            w.job.roles = GPU_WRITTEN;
            w.job.count_word = m % 2 ? STEP_ASKS : STEP_ROWS;
            assert_int_equal(work_run(&w, l, first + (m % 3 == 0 && m < 8 ? 9u : 0), first + most[m], most[m]), 0);
        }
        w.job.roles = GPU_ALL;
        assert_int_equal(work_run(&w, l, 1, 130, 9), 0);  /* for nine of them */
        assert_int_equal(work_run(&w, l, 1, 130, 70), 0);
        assert_int_equal(work_run(&w, l, 2, 2, 16), 0);
        assert_int_equal(work_run(&w, l, 0, 0, 67), 0);
        work_close(&w);
    }
    gpu_linear_close(l);
}

static void every_type_has_the_references_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < DT_COUNT; i++)
        if (dtype_table[i].block) type_has_the_references_bits((enum dtype)i, 0);
}

/* As on a card whose warps multiply matrices: kernels/mma.cl says what stands in which lane. */
static void so_have_the_kernels_of_matrices(void **state)
{
    (void)state;
    for (size_t i = 0; i < DT_COUNT; i++)
        if (dtype_table[i].block > 1) type_has_the_references_bits((enum dtype)i, 80);
}

/* No elements at all: zeros. */
static void nothing_in_gives_zeros(void **state)
{
    (void)state;
    static const uint32_t one[] = { 1 };
    const enum dtype types[] = { DT_F32, DT_Q4_0 };
    for (size_t i = 0; i < 2; i++) {
        struct gpu_linear *l = linear_open(types[i], i ? 80 : 0);
        struct work w;
        work_open(&w, types[i], 0, 20, one, 1);
        assert_int_equal(work_run(&w, l, 0, 3, 4), 0);
        assert_int_equal(work_run(&w, l, 0, 20, 20), 0);
        work_close(&w);
        gpu_linear_close(l);
    }
}

/* The comparison notices one bit of one code, and one of one scale. */
static void planted_faults_are_found(uint32_t arch)
{
    static const uint32_t one[] = { 1 };
    struct gpu_linear *l = linear_open(DT_Q4_1, arch);
    struct work w;
    work_open(&w, DT_Q4_1, 544, 20, one, 1);
    for (int i = 0; i < 2; i++) {
        size_t at = panel_bytes(DT_Q4_1, 544) / 17 * 9 + (i ? 256 : 17);
        w.panels[0][at] ^= 1;
        work_answer(&w);
        assert_true(work_run(&w, l, 3, 4, 1) > 0);
        assert_true(work_run(&w, l, 0, 9, 9) > 0);
        assert_true(work_run(&w, l, 0, 20, 20) > 0);
        w.panels[0][at] ^= 1;
        work_answer(&w);
    }
    assert_int_equal(work_run(&w, l, 0, 20, 20), 0);
    work_close(&w);
    gpu_linear_close(l);
}

static void a_planted_fault_is_found(void **state)
{
    (void)state;
    planted_faults_are_found(0);
    planted_faults_are_found(80);
}

/* Weights [k][16] as prompt rows meet them. */
static void given_weights(enum dtype t, const void *panel, size_t k, float *out)
{
    struct panel_group g;
    if (!dtype_table[t].planes) panel_decode(t, panel, k, out);
    for (size_t i = 0; i < k && dtype_table[t].planes; i++) {
        if (i % 32 == 0) panel_group(t, panel, i / 32, &g);
        for (size_t c = 0; c < 16; c++) {
            size_t h = i % 32 / 16;
            float w = fmaf(g.d[c] * (float)g.sub[h][c], (float)g.code[i % 32][c], -(g.m[c] * (float)g.submin[h][c]));
            out[i * 16 + c] = brain_to_float(float_to_brain(w));
        }
    }
}

/* Against float64, where a term passes at most k roundings: how many answers are too far off. What is no prompt row is
 * as it was. */
static size_t given_far(const struct work *w, const float *got, uint32_t first, uint32_t count)
{
    float *weights = malloc(w->k * 16 * sizeof(float));
    size_t far = 0;
    for (uint32_t n = 0; n < w->n_parts; n++)
        for (uint32_t p = 0; p < w->n_panels[n]; p++) {
            given_weights(w->t, w->panels[n] + p * panel_bytes(w->t, w->k), w->k, weights);
            for (uint32_t i = 0; i < w->rows * 16; i++) {
                uint32_t r = i / 16, at = w->job.part[n].out + r * w->job.part[n].out_ld + p * 16 + i % 16;
                const uint16_t *h = (const uint16_t *)(w->memory + w->job.h + r * w->job.h_ld);
                double sum = 0, most = 0;
                if (r < first || r >= count || !is_given(r)) {
                    assert_int_equal(bits_of(got[at]), GUARD);
                    continue;
                }
                for (uint32_t j = 0; j < w->k; j++) {
                    double term = (double)brain_to_float(h[j]) * weights[j * 16 + i % 16];
                    sum += term;
                    most += fabs(term);
                }
                if (isnan(sum)) assert_true(isnan(got[at]));
                else if (!(fabs(got[at] - sum) <= (w->k + 2) * (0x1p-23 * most + 2 * FLT_MIN)) && !far++)
                    print_message("%s, k %u: row %u, column %u of part %u is %.9g, not %.9g\n", dtype_table[w->t].name,
                                  w->k, r, p * 16 + i % 16, n, got[at], sum);
            }
        }
    free(weights);
    return far;
}

static float *given_run(struct work *w, struct gpu_linear *l, uint32_t first, uint32_t count)
{
    float *got = malloc(w->words * sizeof(float));
    int32_t step[WORDS] = { [STEP_ROWS] = (int32_t)count, [STEP_GIVEN] = GIVEN_AT };
    for (uint32_t i = 0; i < MOST_ROWS; i++) step[GIVEN_AT + i] = is_given(i);
    w->job.first_row = first;
    w->job.most_rows = count - first;
    w->job.roles = GPU_GIVEN;
    gpu_test_write(&d, w->places.step, 0, step, sizeof step);
    gpu_test_write(&d, w->places.activations, 0, w->memory, w->words * sizeof(float));
    gpu_test_ok(gpu_linear_run(&d, l, &w->places, &w->job, err));
    gpu_test_read(&d, w->places.activations, 0, got, w->words * sizeof(float));
    return got;
}

static void given_rows_of(enum dtype t, uint32_t k)
{
    static const uint32_t panels[] = { 3, 7 };
    struct gpu_linear *l = linear_open(t, 80);
    struct work w;
    assert_true(gpu_linear_given(l));
    work_open(&w, t, k, 140, panels, 2);
    float *all = given_run(&w, l, 0, 140), *some = given_run(&w, l, 83, 99);
    assert_int_equal(given_far(&w, all, 0, 140), 0);
    for (uint32_t n = 0; n < 2; n++)       /* the same bits among other rows */
        for (uint32_t r = 83; r < 99; r++) {
            uint32_t at = w.job.part[n].out + r * w.job.part[n].out_ld;
            assert_memory_equal(all + at, some + at, panels[n] * 16 * sizeof(float));
        }
    if (t == DT_Q4_1) {                    /* one scale wrong, in its upper bits */
        w.panels[1][9 * 320 + 257] ^= 1;
        assert_true(given_far(&w, all, 0, 140) > 0);
    }
    free(all);
    free(some);
    work_close(&w);
    gpu_linear_close(l);
}

static void prompt_rows_are_near_float64(void **state)
{
    (void)state;
    for (size_t i = 0; i < DT_COUNT; i++)
        if (dtype_table[i].planes) given_rows_of((enum dtype)i, dtype_table[i].block == 32 ? 352 : 512);
    given_rows_of(DT_BF16, 31);
    given_rows_of(DT_BF16, 288);
    struct gpu_linear *l = linear_open(DT_F16, 80), *older = linear_open(DT_Q4_0, 75);
    assert_false(gpu_linear_given(l) || gpu_linear_given(older));
    gpu_linear_close(l);
    gpu_linear_close(older);
}

static void a_type_that_is_none_is_refused(void **state)
{
    (void)state;
    struct gpu_linear *l = NULL;
    struct error e = { 0 };
    assert_int_equal(gpu_linear_open(&d, DT_Q8_K, &l, &e), STRETTO_E_UNSUP);
    assert_null(l);
    gpu_linear_close(NULL);
}

int main(void)
{
    gpu_test_open(&d);
    kernels_init(&ref, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_has_the_references_bits),
        cmocka_unit_test(so_have_the_kernels_of_matrices),
        cmocka_unit_test(prompt_rows_are_near_float64),
        cmocka_unit_test(nothing_in_gives_zeros),
        cmocka_unit_test(a_planted_fault_is_found),
        cmocka_unit_test(a_type_that_is_none_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gpu_test_close(&d);
    return failed;
}
