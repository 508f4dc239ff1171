/* A teacher's answers (train/taught.h): rows beside plain sums in double, and a file that may be cut or spoilt
 * anywhere. */
#include "train/taught.h"
#include "base/random.h"
#include "kernels/kernels.h"
#include "unit/unit.h"
#include <math.h>
#include <unistd.h>

enum { VOCAB = 300, ROW_MOST = 4096 };

static float reference_loss(float *logits, const struct loss_target *t)
{
    static struct kernels k;
    if (!k.loss_row) kernels_init_ref(&k);
    return k.loss_row(logits, VOCAB, 0, t);
}

static double uniform(uint64_t a, uint64_t b) { return random_unit(random_at(7, a, b, 0)); }

/* Spread as a model's are: a few large, many small. */
static void logits_of(uint64_t which, double spread, float *x)
{
    for (uint64_t i = 0; i < VOCAB; i++) x[i] = (float)(-spread * log(uniform(which, i)) - 5);
}

static void softmax(const float *x, double *p)
{
    double most = -INFINITY, sum = 0;
    for (int i = 0; i < VOCAB; i++) most = fmax(most, (double)x[i]);
    for (int i = 0; i < VOCAB; i++) sum += p[i] = exp((double)x[i] - most);
    for (int i = 0; i < VOCAB; i++) p[i] /= sum;
}

static double divergence(const double *p, const double *q)
{
    double kl = 0;
    for (int i = 0; i < VOCAB; i++) kl += p[i] > 0 ? p[i] * log(p[i] / q[i]) : 0;
    return kl;
}

/* One file of one line with a row, from the logits. */
static struct taught_target target(const struct taught_shape *s, const float *x, uint64_t number, int32_t *id,
                                   float *prob)
{
    static unsigned char row[ROW_MOST];
    float scratch[VOCAB];
    uint64_t at[2] = { 0, taught_row_bytes(s) };
    assert_true(taught_row_bytes(s) <= ROW_MOST);
    assert_true(taught_row(s, x, number, scratch, row));
    const struct taught t = { .shape = *s, .at = at, .n = 1, .map = { row, sizeof row } };
    return taught_read(&t, 0, 0, id, prob);
}

static void the_mean_of_all_draws_is_the_divergence(void **state)
{
    (void)state;
    static const struct { uint32_t top, drawn; double spread; } rows[] = {
        { 16, 16, 1 }, { 16, 16, 0.2 }, { 1, 8, 1 }, { 4, 1, 0.5 }, { 128, 100, 0.3 },
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        const struct taught_shape s = { VOCAB, rows[r].top, rows[r].drawn, 0 };
        enum { DRAWS = 500 };
        float x[VOCAB], y[VOCAB], z[VOCAB], prob[TAUGHT_MOST];
        double p[VOCAB], q[VOCAB], mean = 0, square = 0, gradient[VOCAB] = { 0 };
        int32_t id[TAUGHT_MOST];
        logits_of(2 * r, rows[r].spread, x);
        logits_of(2 * r + 1, rows[r].spread, y);
        softmax(x, p);
        softmax(y, q);
        for (uint64_t n = 0; n < DRAWS; n++) {
            struct taught_target t = target(&s, x, n, id, prob);
            const struct loss_target want = { .weight = 1, .n_top = t.n, .top = id, .prob = prob, .tail = t.tail };
            memcpy(z, y, sizeof z);
            double loss = (double)reference_loss(z, &want) + (double)t.add;
            mean += loss / DRAWS;
            square += loss * loss / DRAWS;
            for (int i = 0; i < VOCAB; i++) gradient[i] += (double)z[i] / DRAWS;
        }
        double error = sqrt(fmax(square - mean * mean, 0) / DRAWS), kl = divergence(p, q);
        assert_true(fabs(mean - kl) < 5 * error + 1e-5);
        for (int i = 0; i < VOCAB; i++) {
            double each = fmin(p[i], 1) / sqrt(DRAWS * (double)rows[r].drawn) + 1e-6;
            assert_true(fabs(gradient[i] - (q[i] - p[i])) < 6 * (each + sqrt(p[i] / DRAWS / rows[r].drawn) + 1e-6));
        }
    }
}

static void with_room_for_all_it_is_exact(void **state)
{
    (void)state;
    float x[VOCAB], y[VOCAB], prob[TAUGHT_MOST];
    int32_t id[TAUGHT_MOST];
    logits_of(40, 1, x);
    logits_of(41, 1, y);
    for (int i = 200; i < VOCAB; i++) x[i] = -1e30f;             /* never said */
    double p[VOCAB], q[VOCAB];
    softmax(x, p);
    softmax(y, q);
    const struct taught_shape s = { VOCAB, 220, 20, 0 };
    struct taught_target t = target(&s, x, 3, id, prob);
    const struct loss_target want = { .weight = 1, .n_top = t.n, .top = id, .prob = prob, .tail = t.tail };
    assert_int_equal(t.n, 220);                                  /* nothing is left to draw */
    double loss = (double)reference_loss(y, &want) + (double)t.add;
    assert_true(fabs(loss - divergence(p, q)) < 1e-5);
    for (uint32_t i = 1; i < t.n; i++) assert_true(x[id[i]] < x[id[i - 1]] || id[i] > id[i - 1]);
}

static void without_draws_the_others_are_one(void **state)
{
    (void)state;
    float x[VOCAB], y[VOCAB], prob[TAUGHT_MOST];
    int32_t id[TAUGHT_MOST];
    double p[VOCAB], q[VOCAB], sum = 0, rest = 0, kl = 0;
    logits_of(50, 1, x);
    logits_of(51, 1, y);
    softmax(x, p);
    softmax(y, q);
    const struct taught_shape s = { VOCAB, 16, 0, 0 };
    struct taught_target t = target(&s, x, 3, id, prob);
    for (uint32_t i = 0; i < t.n; i++) {
        kl += p[id[i]] * log(p[id[i]] / q[id[i]]);
        sum += p[id[i]];
        rest += q[id[i]];
    }
    kl += (1 - sum) * log((1 - sum) / (1 - rest));
    assert_true(t.add == 0 && fabs((double)t.tail - (1 - sum)) < 1e-6);
    const struct loss_target want = { .weight = 1, .n_top = t.n, .top = id, .prob = prob, .tail = t.tail };
    assert_true(fabs((double)reference_loss(y, &want) - kl) < 1e-5);
    assert_true(kl < divergence(p, q));
}

static void logits_that_are_no_numbers_are_noticed(void **state)
{
    (void)state;
    const struct taught_shape s = { VOCAB, 16, 16, 0 };
    unsigned char row[ROW_MOST];
    float x[VOCAB], scratch[VOCAB];
    logits_of(60, 1, x);
    x[17] = NAN;
    assert_false(taught_row(&s, x, 0, scratch, row));
    x[17] = INFINITY;
    assert_false(taught_row(&s, x, 0, scratch, row));
}

/* ---- the file -------------------------------------------------------------------------------- */

enum { SAMPLES = 5, TOKENS = 6 };
static const struct taught_shape shape = { VOCAB, 4, 3, 0 };
static int32_t ids[SAMPLES * TOKENS];
static float weights[SAMPLES * TOKENS];
static struct sample samples[SAMPLES];
static struct taught_key key = { "teacher", "text", "held", 77 };
static char path[] = "/tmp/test_taught_XXXXXX";

static struct lines make_lines(void)
{
    for (int s = 0; s < SAMPLES; s++) {
        samples[s] = (struct sample){ .at = (size_t)s * TOKENS, .n = TOKENS, .first = 1 + (uint32_t)s % 3,
                                      .last = TOKENS - 1 };
        for (int i = 0; i < TOKENS; i++) weights[s * TOKENS + i] = (uint32_t)i >= samples[s].first ? 1 : 0;
    }
    weights[TOKENS + 4] = 0;                                     /* a gap */
    return (struct lines){ .sample = samples, .n = SAMPLES, .id = ids, .weight = weights };
}

static stretto_status fill(uint64_t most, struct error *err)
{
    struct lines l = make_lines();
    struct taught t;
    float x[VOCAB], scratch[VOCAB];
    stretto_status s = taught_open(&t, path, &shape, &key, &l, NULL, err);
    if (s != STRETTO_OK) return s;
    while (s == STRETTO_OK && t.done < t.n && t.done < most) {
        unsigned char *rows;
        uint32_t n;
        uint64_t before = taught_rows_before(&t, t.done);
        s = taught_begin(&t, &rows, &n, err);
        for (uint32_t i = 0; i < n && s == STRETTO_OK; i++) {
            logits_of(100 + before + i, 1, x);
            assert_true(taught_row(&shape, x, before + i, scratch, rows + i * taught_row_bytes(&shape)));
        }
        if (s == STRETTO_OK) s = taught_add(&t, err);
    }
    if (s == STRETTO_OK && t.done == t.n) s = taught_finish(&t, err);
    taught_close(&t);
    return s;
}

static size_t read_file(unsigned char *out, size_t most)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(out, 1, most, f);
    fclose(f);
    return n;
}

static void write_file(const unsigned char *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void cut_or_spoilt_anywhere_it_ends_the_same(void **state)
{
    (void)state;
    static unsigned char whole[4096], now[4096], spoilt[4096];
    struct error err = { 0 };
    struct lines l = make_lines();
    assert_int_equal(close(mkstemp(path)), 0);
    assert_int_equal(fill(UINT64_MAX, &err), STRETTO_OK);
    size_t n = read_file(whole, sizeof whole), head = 0;
    assert_int_equal(n, taught_bytes(&shape, &l, NULL));
    for (size_t cut = 0; cut < n; cut += cut < 600 ? 31 : 1 + n / 40) {
        write_file(whole, cut);
        assert_int_equal(fill(cut % 3 ? UINT64_MAX : 2, &err), STRETTO_OK);
        assert_int_equal(fill(UINT64_MAX, &err), STRETTO_OK);
        assert_true(read_file(now, sizeof now) == n && memcmp(now, whole, n) == 0);
    }
    for (size_t at = 0; at < n; at += at < 256 ? 1 : 17) {       /* in the head it is refused, behind it made anew */
        memcpy(spoilt, whole, n);
        spoilt[at] ^= 0x40;
        write_file(spoilt, n);
        memset(&err, 0, sizeof err);
        if (fill(UINT64_MAX, &err) != STRETTO_OK) {
            assert_true(at < 256 && err.text[0]);
            head++;
        } else assert_true(read_file(now, sizeof now) == n && memcmp(now, whole, n) == 0);
    }
    assert_int_equal(head, 256);
    unlink(path);
}

static void a_file_of_something_else_is_refused(void **state)
{
    (void)state;
    static unsigned char before[4096], after[4096];
    strcpy(path + strlen(path) - 6, "XXXXXX");
    assert_int_equal(close(mkstemp(path)), 0);
    struct error err = { 0 };
    assert_int_equal(fill(UINT64_MAX, &err), STRETTO_OK);
    size_t n = read_file(before, sizeof before);
    const struct taught_key good = key;
    static const struct { size_t at; const char *words; } rows[] = {
        { offsetof(struct taught_key, teacher), "another teacher" },
        { offsetof(struct taught_key, text), "other lines" },
        { offsetof(struct taught_key, held), "held out" }, { offsetof(struct taught_key, vocabulary), "vocabulary" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ((char *)&key)[rows[i].at] ^= 1;
        memset(&err, 0, sizeof err);
        assert_int_equal(fill(UINT64_MAX, &err), STRETTO_E_ARG);
        assert_non_null(strstr(err.text, rows[i].words));
        key = good;
    }
    write_file((const unsigned char *)"a person's own text", 19);
    memset(&err, 0, sizeof err);
    assert_int_equal(fill(UINT64_MAX, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "no teacher's answers"));
    assert_int_equal(read_file(after, sizeof after), 19);
    write_file(before, n);
    struct taught one, two;
    struct lines l = make_lines();
    memset(&err, 0, sizeof err);
    assert_int_equal(taught_open(&one, path, &shape, &key, &l, NULL, &err), STRETTO_OK);   /* two may read it */
    assert_int_equal(taught_open(&two, path, &shape, &key, &l, NULL, &err), STRETTO_OK);
    taught_close(&two);
    taught_close(&one);
    write_file(before, n - 1);
    assert_int_equal(taught_open(&one, path, &shape, &key, &l, NULL, &err), STRETTO_OK);   /* one alone may write */
    assert_int_equal(taught_open(&two, path, &shape, &key, &l, NULL, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "another process"));
    taught_close(&one);
    unlink(path);
}

/* Hidden states keep 11 bits beside the largest of their row; what is no number is noticed. */
static void hidden_states_are_kept_in_two_bytes(void **state)
{
    (void)state;
    enum { WIDTH = 67 };
    static const float scales[] = { 1e-30f, 1, 3e4f, 1e30f };
    const struct taught_shape s = { .vocab = VOCAB, .width = WIDTH };
    static unsigned char row[ROW_MOST];
    uint64_t at[2] = { 0, taught_row_bytes(&s) };
    const struct taught t = { .shape = s, .at = at, .n = 1, .map = { row, sizeof row } };
    float x[WIDTH], y[WIDTH], most = 0;
    assert_int_equal(taught_row_bytes(&s), 4 + 2 * WIDTH);
    for (size_t k = 0; k < sizeof scales / sizeof *scales; k++) {
        for (uint64_t i = 0; i < WIDTH; i++) x[i] = scales[k] * (float)(2 * uniform(60 + k, i) - 1);
        for (int i = 0; i < WIDTH; i++) most = i ? fmaxf(most, fabsf(x[i])) : fabsf(x[i]);
        assert_true(hidden_row(&s, x, row));
        hidden_read(&t, 0, 0, y);
        for (int i = 0; i < WIDTH; i++) assert_true(fabsf(x[i] - y[i]) <= most * 0x1p-11f);
    }
    memset(x, 0, sizeof x);
    assert_true(hidden_row(&s, x, row));
    hidden_read(&t, 0, 0, y);
    assert_memory_equal(x, y, sizeof x);
    x[WIDTH - 1] = NAN;
    assert_false(hidden_row(&s, x, row));
    x[WIDTH - 1] = INFINITY;
    assert_false(hidden_row(&s, x, row));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mean_of_all_draws_is_the_divergence),
        cmocka_unit_test(with_room_for_all_it_is_exact),
        cmocka_unit_test(without_draws_the_others_are_one),
        cmocka_unit_test(logits_that_are_no_numbers_are_noticed),
        cmocka_unit_test(cut_or_spoilt_anywhere_it_ends_the_same),
        cmocka_unit_test(a_file_of_something_else_is_refused),
        cmocka_unit_test(hidden_states_are_kept_in_two_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
