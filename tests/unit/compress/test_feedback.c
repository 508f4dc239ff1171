/* Blocks with error feedback for every type: what no input may do, what every option promises, and the same bits
 * whoever helps. tests/compress holds the codes and the errors to numpy. */
#include "unit/unit.h"
#include "base/memory.h"
#include "base/random.h"
#include "compress/feedback.h"
#include <math.h>

enum { N = 512, ROWS = 19, SEEN = 300, BYTES = ROWS * 2 * N };

static uint64_t drawn;
static double unit(void) { return random_unit(random_at(11, 0, 0, drawn++)); }
static double normal(void) { return sqrt(-2 * log(unit())) * cos(6.283185307179586 * unit()); }

static struct workers *workers_of(unsigned threads)
{
    struct workers *w;
    assert_int_equal(workers_open(&w, threads, NULL), STRETTO_OK);
    return w;
}

static struct input_stats stats;

/* Channels of different loudness that share a few causes; `dead` in each eighth of them silent; `seen` tokens. */
static double loud[N];

static void see_more(size_t seen)
{
    static double sum2[N];
    static float gram[N * N], x[N];
    memset(gram, 0, sizeof gram);
    memset(sum2, 0, sizeof sum2);
    for (size_t t = 0; t < seen; t++) {
        double cause[8];
        for (int i = 0; i < 8; i++) cause[i] = normal();
        for (size_t i = 0; i < N; i++) x[i] = (float)(loud[i] * (normal() + cause[i % 8]));
        for (size_t i = 0; i < N; i++) {
            sum2[i] += (double)(x[i] * x[i]);
            for (size_t j = 0; j < N; j++) gram[i * N + j] += x[i] * x[j];
        }
    }
    stats = (struct input_stats){ .n = N, .rows = seen, .sum2 = sum2, .gram = gram };
}

static void see(size_t seen, size_t dead)
{
    for (size_t i = 0; i < N; i++) loud[i] = i % (N / 8) < dead ? 0 : exp(normal());
    see_more(seen);
}

static void draw(float *w, double by)
{
    for (size_t i = 0; i < ROWS * N; i++) w[i] = (float)(by * normal());
}

static stretto_status encode(unsigned threads, const struct input_stats *s, const struct feedback_options *o,
                             enum dtype t, const float *w, void *blocks, struct encode_report *report,
                             struct error *err)
{
    struct workers *k = workers_of(threads);
    struct metric *m;
    stretto_status status = metric_open(&m, k, s, N, o, err);
    if (status == STRETTO_OK) status = feedback_encode(k, m, t, w, ROWS, blocks, report, err);
    metric_close(m);
    workers_close(k);
    return status;
}

static double error_of(const float *w, enum dtype t, const void *blocks)
{
    static float x[ROWS * N];
    double sum = 0;
    dtype_table[t].decode(blocks, x, ROWS * N);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t i = 0; i < N; i++)
            for (size_t j = 0; j < N && stats.gram; j++)
                sum += ((double)w[r * N + i] - (double)x[r * N + i]) * (double)stats.gram[i * N + j]
                       * ((double)w[r * N + j] - (double)x[r * N + j]);
    return sum / (double)stats.rows;
}

/* Each step helps: importance, feedback, sweeps. And threads change nothing. */
static void every_step_helps(void **state)
{
    (void)state;
    static float w[ROWS * N];
    static unsigned char one[BYTES], two[BYTES], bare[BYTES];
    see(SEEN, 0);
    draw(w, 0.04);
    for (int t = 0; t < DT_COUNT; t++) {
        if (dtype_table[t].block <= 1) continue;
        struct encode_report r;
        struct feedback_options all, none;
        size_t bytes = ROWS * dtype_bytes((enum dtype)t, N);
        feedback_defaults(&all);
        all.shrink = -1;
        none = all;
        none.sweeps = 0;
        assert_int_equal(encode(1, &stats, &all, (enum dtype)t, w, one, &r, NULL), STRETTO_OK);
        assert_int_equal(encode(3, &stats, &all, (enum dtype)t, w, two, NULL, NULL), STRETTO_OK);
        assert_memory_equal(one, two, bytes);
        assert_int_equal(encode(2, &stats, &none, (enum dtype)t, w, bare, NULL, NULL), STRETTO_OK);
        double kept = error_of(w, (enum dtype)t, one), followed = error_of(w, (enum dtype)t, bare);
        if (!(kept < followed && followed < r.searched && r.searched <= r.plain * 1.02))
            print_error("%s: %g, without sweeps %g, searched %g, plain %g\n", dtype_table[t].name, kept, followed,
                        r.searched, r.plain);
        assert_true(kept < followed && followed < r.searched && r.searched <= r.plain * 1.02);
        assert_true(fabs(r.kept - kept) < 1e-3 * kept && r.kept < r.whole);
    }
}

/* What few tokens say is not taken for the whole truth: on others the error is smaller. */
static void few_tokens(void **state)
{
    (void)state;
    static float w[ROWS * N];
    static unsigned char by_default[BYTES], one[BYTES], as_measured[BYTES];
    draw(w, 0.04);
    struct feedback_options o;
    feedback_defaults(&o);
    o.shrink = -1;
    see(2 * N, 0);
    assert_int_equal(encode(2, &stats, NULL, DT_Q4_0, w, by_default, NULL, NULL), STRETTO_OK);
    assert_int_equal(encode(1, &stats, NULL, DT_Q4_0, w, one, NULL, NULL), STRETTO_OK);
    assert_memory_equal(by_default, one, ROWS * dtype_bytes(DT_Q4_0, N));
    assert_int_equal(encode(2, &stats, &o, DT_Q4_0, w, as_measured, NULL, NULL), STRETTO_OK);
    assert_true(error_of(w, DT_Q4_0, by_default) > error_of(w, DT_Q4_0, as_measured));
    see_more(2 * N);
    double with = error_of(w, DT_Q4_0, by_default), without = error_of(w, DT_Q4_0, as_measured);
    if (!(with < 0.95 * without)) print_error("on other tokens %g, not shrunk %g\n", with, without);
    assert_true(with < 0.95 * without);
}

/* Whatever is asked, blocks are numbers near what they stand for. */
static void expect_near(enum dtype t, const float *w, double bound)
{
    static unsigned char blocks[BYTES];
    static float x[ROWS * N];
    struct encode_report r;
    assert_int_equal(encode(2, &stats, NULL, t, w, blocks, &r, NULL), STRETTO_OK);
    dtype_table[t].decode(blocks, x, ROWS * N);
    for (size_t i = 0; i < ROWS * N; i++) assert_true(isfinite(x[i]));
    assert_true(isfinite(r.kept) && r.kept >= -1e-3 * r.whole);
    if (!(r.kept <= bound * r.searched + 1e-9 * r.whole))
        print_error("%s: %g, searched %g\n", dtype_table[t].name, r.kept, r.searched);
    assert_true(r.kept <= bound * r.searched + 1e-9 * r.whole);
}

static void expect_all_near(const float *w, double bound)
{
    for (int t = 0; t < DT_COUNT; t++)
        if (dtype_table[t].block > 1) expect_near((enum dtype)t, w, bound);
}

static void strange_statistics_and_weights(void **state)
{
    (void)state;
    static float w[ROWS * N];
    draw(w, 0.04);
    see(1, 0);                                      /* of rank one */
    expect_all_near(w, 1);
    see(40, 0);                                     /* fewer tokens than channels */
    expect_all_near(w, 1);
    see(SEEN, 5);                                   /* channels that say nothing */
    expect_all_near(w, 1);
    see(SEEN, N);                                   /* none says anything */
    expect_all_near(w, INFINITY);
    see(SEEN, 0);
    memset(w + N, 0, 3 * N * sizeof *w);            /* rows of zeros, tiny and huge ones */
    for (size_t i = 4 * N; i < 5 * N; i++) w[i] *= 1e-9f;
    expect_all_near(w, 1);
    for (size_t i = 5 * N; i < 6 * N; i++) w[i] *= 1e12f;
    expect_all_near(w, INFINITY);
}

static void without_statistics(void **state)
{
    (void)state;
    static float w[ROWS * N];
    static unsigned char one[BYTES], two[BYTES];
    struct encode_report r;
    struct feedback_options o;
    see(SEEN, 0);
    draw(w, 1);
    struct input_stats thin = stats;
    thin.gram = NULL;
    for (int t = 0; t < DT_COUNT; t++) {
        if (dtype_table[t].block <= 1) continue;
        size_t bytes = ROWS * dtype_bytes((enum dtype)t, N);
        assert_int_equal(encode(2, &thin, NULL, (enum dtype)t, w, one, &r, NULL), STRETTO_OK);
        assert_true(r.kept == r.searched);
        feedback_defaults(&o);
        o.method = ENCODE_SEARCH;
        assert_int_equal(encode(2, &stats, &o, (enum dtype)t, w, two, NULL, NULL), STRETTO_OK);
        assert_memory_equal(one, two, bytes);
        assert_int_equal(encode(2, NULL, NULL, (enum dtype)t, w, one, &r, NULL), STRETTO_OK);
        assert_true(r.kept <= r.plain * (1 + 1e-6) && r.kept < r.whole);
        o.method = ENCODE_PLAIN;
        assert_int_equal(encode(2, &stats, &o, (enum dtype)t, w, two, &r, NULL), STRETTO_OK);
        assert_true(r.kept == r.plain);
    }
}

static void straight_rounding(void **state)
{
    (void)state;
    static float w[ROWS * N];
    static unsigned char one[BYTES], two[BYTES];
    struct encode_report r;
    struct feedback_options o;
    feedback_defaults(&o);
    o.method = ENCODE_RTN;
    o.bits = 3;
    o.share = RTN_ROW;
    see(SEEN, 0);
    draw(w, 1);
    assert_int_equal(encode(2, &stats, &o, DT_Q4_0, w, one, &r, NULL), STRETTO_OK);
    assert_int_equal(rtn_encode(3, RTN_ROW, w, ROWS, N, two, NULL), STRETTO_OK);
    assert_memory_equal(one, two, ROWS * dtype_bytes(DT_Q4_0, N));
    assert_true(r.kept > r.plain);
    assert_int_equal(encode(2, &stats, &o, DT_Q8_0, w, one, &r, NULL), STRETTO_OK);    /* not of so many bits */
    assert_true(r.kept == r.plain);
}

static void refusals(void **state)
{
    (void)state;
    static float w[ROWS * N];
    static unsigned char blocks[BYTES];
    struct error err = { 0 };
    see(SEEN, 0);
    draw(w, 1);
    w[7 * N + 3] = NAN;
    assert_int_equal(encode(1, &stats, NULL, DT_Q4_0, w, blocks, NULL, &err), STRETTO_E_FORMAT);
    assert_non_null(strstr(err.text, "row 7 "));
    w[7 * N + 3] = INFINITY;
    error_clear(&err);
    assert_int_equal(encode(1, &stats, NULL, DT_Q4_K, w, blocks, NULL, &err), STRETTO_E_FORMAT);
    assert_non_null(strstr(err.text, "row 7 "));
    draw(w, 1);
    assert_int_equal(encode(1, &stats, NULL, DT_F16, w, blocks, NULL, NULL), STRETTO_E_ARG);
    float kept = stats.gram[5];
    stats.gram[5] = NAN;
    assert_int_equal(encode(1, &stats, NULL, DT_Q4_0, w, blocks, NULL, NULL), STRETTO_E_FORMAT);
    stats.gram[5] = kept;
    for (size_t i = 0; i < N; i++) stats.gram[i * (N + 1)] = -1;        /* no sums of squares */
    assert_int_equal(encode(1, &stats, NULL, DT_Q4_0, w, blocks, NULL, NULL), STRETTO_E_FORMAT);
    stats.n = N - 32;
    assert_int_equal(encode(1, &stats, NULL, DT_Q4_0, w, blocks, NULL, NULL), STRETTO_E_ARG);
}

static void no_memory(void **state)
{
    (void)state;
    static float w[ROWS * N];
    static unsigned char blocks[BYTES];
    see(SEEN, 0);
    draw(w, 1);
    struct workers *k = workers_of(2);
    int failures = 0;
    for (uint64_t at = 1;; at++, failures++) {
        struct metric *m;
        mem_fail_at(at);
        stretto_status status = metric_open(&m, k, &stats, N, NULL, NULL);
        if (status == STRETTO_OK) status = feedback_encode(k, m, DT_Q4_0, w, ROWS, blocks, NULL, NULL);
        mem_fail_at(0);
        metric_close(m);
        if (status == STRETTO_OK) break;
        assert_int_equal(status, STRETTO_E_NOMEM);
    }
    assert_true(failures > 8);
    workers_close(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_helps), cmocka_unit_test(few_tokens),
        cmocka_unit_test(strange_statistics_and_weights),
        cmocka_unit_test(without_statistics), cmocka_unit_test(straight_rounding), cmocka_unit_test(refusals),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
