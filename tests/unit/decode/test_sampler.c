#include "unit/unit.h"
#include "base/memory.h"
#include "base/random.h"
#include "decode/sampler.h"
#include "decode/stop.h"
#include <math.h>

enum { VOCAB = 12, DRAWS = 40000, BIG = 3001 };
static const float logits[VOCAB] = {0.5f,  2.0f, -1.0f, 1.0f,  0.0f, 2.5f,
                                    -3.0f, 1.5f, 0.2f,  -0.7f, 2.0f, -9.0f};
static unsigned char memory[1 << 16];

static struct sampler make(struct sampling how)
{
    struct sampler s;
    struct error e = { 0 };
    struct arena a = { .base = memory, .cap = sizeof memory };
    sampler_plan(&s, &a, VOCAB);
    assert_int_equal(sampler_set(&s, &how, &e), STRETTO_OK);
    return s;
}

static struct sampling plain(float t)
{
    return (struct sampling){
        .temperature = t, .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64, .seed = 11};
}

static int32_t draw(struct sampler *s, size_t position)
{
    float x[VOCAB];
    static int32_t history[DRAWS];
    int32_t token;
    struct error e = { 0 };
    memcpy(x, logits, sizeof x);
    assert_int_equal(sampler_pick(s, x, history, position, &token, &e), STRETTO_OK);
    return token;
}

/* Frequencies against the softmax of the formula; the bound is five standard deviations of a count.
 */
static void frequencies(struct sampler *s, const double *want)
{
    int count[VOCAB] = { 0 };
    for (size_t i = 0; i < DRAWS; i++) count[draw(s, i)]++;
    for (int t = 0; t < VOCAB; t++) {
        double expect = want[t] * DRAWS, sigma = sqrt(DRAWS * want[t] * (1 - want[t]));
        assert_true(fabs(count[t] - expect) <= 5 * sigma + 1e-9);
    }
}

static void softmax_of(double t, const bool *kept, double *out)
{
    double sum = 0;
    for (int i = 0; i < VOCAB; i++) sum += kept[i] ? exp((double)logits[i] / t) : 0;
    for (int i = 0; i < VOCAB; i++) out[i] = kept[i] ? exp((double)logits[i] / t) / sum : 0;
}

/* What a token was drawn from is what the formula says of those that are left. */
static void scores_are_the_formula(void **state)
{
    bool kept[VOCAB] = { [5] = true, [1] = true, [10] = true };
    double want[VOCAB];
    struct sampling how = plain(0.7f);
    struct token_logprobs got;
    (void)state;
    how.top_k = 3;
    struct sampler s = make(how);
    softmax_of(0.7, kept, want);
    for (size_t i = 0; i < 50; i++) {
        int32_t token = draw(&s, i);
        sampler_score(&s, token, 2, &got);
        assert_true(fabs(exp((double)got.logprob) - want[token]) < 1e-6);
        assert_int_equal(got.n_top, 2);
        assert_int_equal(got.top[0].id, 5);
        assert_int_equal(got.top[1].id, 1);            /* as likely as 10: the lower id */
        assert_true(fabs(exp((double)got.top[1].logprob) - want[1]) < 1e-6);
    }
    struct sampler greedy = make(plain(0));
    sampler_score(&greedy, draw(&greedy, 0), 3, &got);
    assert_true(got.id == 5 && got.n_top == 1 && got.top[0].id == 5 && got.logprob == 0);
}

static void temperature_gives_the_softmax(void **state)
{
    (void)state;
    static const double temperatures[] = { 0.5, 1, 2 };
    bool kept[VOCAB];
    double want[VOCAB];
    memset(kept, 1, sizeof kept);
    for (size_t i = 0; i < 3; i++) {
        struct sampler s = make(plain((float)temperatures[i]));
        softmax_of(temperatures[i], kept, want);
        frequencies(&s, want);
    }
}

static void filters_keep_what_they_say(void **state)
{
    (void)state;
    double p[VOCAB], want[VOCAB];
    bool all[VOCAB], kept[VOCAB];
    memset(all, 1, sizeof all);
    softmax_of(1, all, p);
    /* best first: 5, 1, 10 (tie: the lower id first), 7, 3 ... */
    static const int order[] = { 5, 1, 10, 7, 3, 0, 8, 4, 9, 2, 6, 11 };
    struct sampling how = plain(1);
    how.top_k = 3;
    struct sampler s = make(how);
    for (int i = 0; i < VOCAB; i++) kept[order[i]] = i < 3;
    softmax_of(1, kept, want);
    frequencies(&s, want);

    how = plain(1);
    how.top_p = 0.7f;
    double sum = 0;
    for (int i = 0; i < VOCAB; i++) { kept[order[i]] = sum < 0.7; sum += p[order[i]]; }
    s = make(how);
    softmax_of(1, kept, want);
    frequencies(&s, want);

    how = plain(1);
    how.min_p = 0.3f;
    for (int i = 0; i < VOCAB; i++) kept[i] = p[i] >= 0.3 * p[5];
    s = make(how);
    softmax_of(1, kept, want);
    frequencies(&s, want);
}

static int by_logit(const void *a, const void *b)
{
    const float *x = *(const float *const *)a, *y = *(const float *const *)b;
    return *x != *y ? (*x < *y ? 1 : -1) : (x < y ? -1 : x > y);
}

/* The definition at full length: everything sorted, every logarithm computed. */
static int32_t by_definition(const struct sampling *h, const float *x, size_t vocab, size_t position)
{
    static const float *order[BIG];
    size_t n = h->top_k ? h->top_k : vocab, kept = 0;
    double total = 0, sum = 0, best = 0;
    int32_t token = -1;
    for (size_t i = 0; i < vocab; i++) order[i] = x + i;
    qsort(order, vocab, sizeof *order, by_logit);
    for (size_t i = 0; i < n; i++) total += exp((double)*order[i] - (double)*order[0]);
    while (kept < n && (h->top_p == 1 || !kept || sum < (double)h->top_p))
        sum += exp((double)*order[kept++] - (double)*order[0]) / total;
    while (kept > 1 && exp((double)*order[kept - 1] - (double)*order[0]) < (double)h->min_p) kept--;
    for (size_t i = 0; i < kept; i++) {
        uint64_t id = (uint64_t)(order[i] - x);
        double u = random_unit(random_at(h->seed, h->choice, position, id));
        double v = (double)*order[i] / (double)h->temperature - log(-log(u));
        if (token < 0 || v > best) best = v, token = (int32_t)id;
    }
    return token;
}

static void short_cuts_change_nothing(void **state)
{
    (void)state;
    static unsigned char room[BIG * 16];
    static float x[BIG], copy[BIG];
    int different = 0;
    int32_t last = -1;
    for (uint32_t k = 0; k < 400; k++) {
        static const uint32_t top_k[] = { 0, 1, 40, BIG / 2 };
        static const float top_p[] = { 1, 0.9F, 0.3F }, min_p[] = { 0, 0.05F };
        struct sampling how = plain(0.3F + 0.3F * (float)(k % 7));
        struct sampler s;
        struct error e = { 0 };
        struct arena a = { .base = room, .cap = sizeof room };
        uint32_t vocab = k % 2 ? BIG : BIG - 3;
        how.top_k = top_k[k % 4];
        how.top_p = top_p[k / 4 % 3];
        how.min_p = min_p[k / 12 % 2];
        how.seed = k;
        /* Peaked and flat, and some that are equal. */
        for (uint32_t i = 0; i < vocab; i++)
            x[i] = roundf((float)random_unit(random_at(k, 1, i, 0)) * 64) / 64 * (float)(k % 23);
        sampler_plan(&s, &a, vocab);
        assert_int_equal(sampler_set(&s, &how, &e), STRETTO_OK);
        memcpy(copy, x, sizeof x);
        int32_t token;
        assert_int_equal(sampler_pick(&s, copy, NULL, 0, &token, &e), STRETTO_OK);
        assert_int_equal(token, by_definition(&how, x, vocab, 0));
        different += token != last;
        last = token;
    }
    assert_true(different > 200);
}

static void noise_depends_on_seed_and_position_alone(void **state)
{
    (void)state;
    struct sampler a = make(plain(1));
    int32_t first[64];
    int differs = 0;
    for (size_t i = 0; i < 64; i++) first[i] = draw(&a, i);
    for (size_t i = 64; i-- > 0;) assert_int_equal(draw(&a, i), first[i]);
    struct sampling other = plain(1);
    other.seed = 12;
    struct sampler b = make(other);
    for (size_t i = 0; i < 64; i++) differs += draw(&b, i) != first[i];
    assert_true(differs > 10);
}

static void penalties_and_bias(void **state)
{
    (void)state;
    struct sampling how = plain(0);
    struct sampler s = make(how);
    assert_true(sampler_is_greedy(&s));
    assert_int_equal(draw(&s, 0), 5);
    how.repeat_penalty = 2;
    s = make(how);
    assert_false(sampler_is_greedy(&s));
    float x[VOCAB];
    int32_t history[] = { 5, 5, 2 }, token;
    struct error e = { 0 };
    memcpy(x, logits, sizeof x);
    assert_int_equal(sampler_pick(&s, x, history, 3, &token, &e), STRETTO_OK);
    assert_int_equal(token, 1); /* 2.5 / 2 is below 2.0; the tie takes id 1 */
    assert_true(x[5] == 1.25f && x[2] == -2.0f);
    how = plain(0);
    how.frequency_penalty = 0.25f;
    how.presence_penalty = 0.125f;
    s = make(how);
    memcpy(x, logits, sizeof x);
    assert_int_equal(sampler_pick(&s, x, history, 3, &token, &e), STRETTO_OK);
    assert_true(x[5] == 2.5f - 0.625f && x[2] == -1.375f);
    how = plain(0);
    struct logit_bias bias[] = { { 11, 20 } };
    how.bias = bias;
    how.n_bias = 1;
    s = make(how);
    assert_int_equal(draw(&s, 0), 11);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct sampler s = make(plain(0));
    struct error e = { 0 };
    struct sampling how = plain(-1);
    assert_int_equal(sampler_set(&s, &how, &e), STRETTO_E_ARG);
    float x[VOCAB] = { 0 };
    int32_t token;
    x[3] = NAN;
    error_clear(&e);
    assert_int_equal(sampler_pick(&s, x, NULL, 0, &token, &e), STRETTO_E_NAN);
}

/* The text before the first stop string, however it is cut into pieces. */
static void stops_are_found_across_pieces(void **state)
{
    (void)state;
    static const char text[] = "one two END-OF three ENDE four";
    static const char *const stops[] = { "ENDE", "</s>", NULL };
    for (size_t piece = 1; piece < sizeof text; piece++) {
        struct stop_filter f = { .stops = stops, .held = buffer_make(1000) };
        struct buffer out = buffer_make(1000);
        bool stopped = false;
        for (size_t i = 0; i < sizeof text - 1 && !stopped; i += piece) {
            size_t n = sizeof text - 1 - i < piece ? sizeof text - 1 - i : piece;
            assert_int_equal(stop_push(&f, text + i, n, &out, &stopped), STRETTO_OK);
        }
        assert_true(stopped);
        assert_string_equal(out.data, "one two END-OF three ");
        buffer_done(&out);
        buffer_done(&f.held);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_the_formula),
        cmocka_unit_test(temperature_gives_the_softmax),
        cmocka_unit_test(filters_keep_what_they_say),
        cmocka_unit_test(short_cuts_change_nothing),
        cmocka_unit_test(noise_depends_on_seed_and_position_alone),
        cmocka_unit_test(penalties_and_bias),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(stops_are_found_across_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
