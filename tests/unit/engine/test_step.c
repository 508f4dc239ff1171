/* The contract of a step: each row gets what it wants, and a row that fails disturbs nobody. */
#include "engine/engine_int.h"
#include "unit/engine/fake.h"

enum { CONTEXT = 256 };

static struct engine *open_engine(struct fake *f, uint32_t sequences, uint32_t pool)
{
    struct engine *e;
    struct error err = { 0 };
    struct engine_options o = { .sequences = sequences, .pool_tokens = pool, .max_rows = 64 };
    assert_int_equal(engine_open(&e, fake_model(f, CONTEXT), &o, &err), STRETTO_OK);
    assert_int_equal(engine_seq_open_all(e, &err), STRETTO_OK);
    return e;
}

static struct row row(int32_t seq, int32_t token, int32_t parent, uint8_t wants)
{
    return (struct row){ seq, token, parent, 0, wants };
}

/* Only what is wanted is asked for and written, into places of the row's own. */
static void wants_are_met(void **state)
{
    (void)state;
    struct fake f;
    struct error err = { 0 };
    struct engine *e = open_engine(&f, 2, 0);
    float logits[FAKE_VOCAB], hidden[FAKE_WIDTH] = { -1 };
    struct row rows[] = { row(0, 1, -1, WANT_HIDDEN), row(0, 2, 0, WANT_NOTHING),
                          row(0, 3, 1, WANT_LOGITS | WANT_TOP), row(1, 4, -1, WANT_BEST) };
    struct answer a[4] = { 0 };
    for (int i = 0; i < 4; i++) a[i] = (struct answer){ .best = -7, .top.id = { -7 } };
    a[0].hidden = hidden;
    a[2].logits = logits;
    assert_int_equal(engine_step(e, rows, 4, a, &err), STRETTO_OK);
    assert_int_equal(fake_program->asks, 3);
    const int32_t text[] = { 1, 2, 3 }, other[] = { 4 };
    assert_int_equal((int32_t)hidden[0], fake_next(text, 1));
    assert_int_equal(a[2].top.id[0], fake_next(text, 3));
    assert_int_equal((int32_t)logits[fake_next(text, 3)], 0);
    assert_int_equal(a[3].best, fake_next(other, 1));
    assert_int_equal(a[0].best, -7);               /* nobody asked */
    assert_int_equal(a[2].best, -7);
    assert_int_equal(a[3].top.id[0], -7);
    for (int i = 0; i < 4; i++) assert_int_equal(a[i].status, STRETTO_OK);
    engine_close(e);
}

/* Five sequences, of which four have a bad row each; the answers of all good rows are as if the bad ones
 * had not been there. */
static void bad_rows_fail_alone(void **state)
{
    (void)state;
    struct fake f;
    struct error err = { 0 };
    struct engine *e = open_engine(&f, 5, 0);
    int32_t full[CONTEXT];
    for (int i = 0; i < CONTEXT; i++) full[i] = i % 5;
    assert_int_equal(engine_feed(e, 4, full, CONTEXT, 0, NULL, &err), STRETTO_OK);
    engine_seq_close(e, 3);
    struct row rows[] = {
        row(0, 1, -1, WANT_BEST), row(0, FAKE_VOCAB, 0, WANT_BEST), row(0, 3, 1, WANT_BEST),
        row(0, 4, 0, WANT_BEST),
        row(1, 5, -1, WANT_BEST), row(1, FAKE_NAN, 4, WANT_BEST), row(1, 6, 4, WANT_BEST),
        row(3, 2, -1, WANT_BEST), row(4, 2, -1, WANT_BEST), row(2, 9, -1, WANT_BEST) };
    enum { N = sizeof rows / sizeof *rows };
    struct answer a[N] = { 0 };
    assert_int_equal(engine_step(e, rows, N, a, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "row 1: token 23"));
    static const stretto_status want[N] = {
        STRETTO_OK, STRETTO_E_ARG, STRETTO_E_ARG, STRETTO_OK, STRETTO_OK, STRETTO_E_NAN, STRETTO_OK,
        STRETTO_E_ARG, STRETTO_E_FULL, STRETTO_OK };
    for (int i = 0; i < N; i++) assert_int_equal(a[i].status, want[i]);
    const int32_t zero[] = { 1, 4 }, one[] = { 5, 6 }, two[] = { 9 };
    assert_int_equal(a[0].best, fake_next(zero, 1));
    assert_int_equal(a[3].best, fake_next(zero, 2));
    assert_int_equal(a[4].best, fake_next(one, 1));
    assert_int_equal(a[6].best, fake_next(one, 2));
    assert_int_equal(a[9].best, fake_next(two, 1));
    /* Accepting a path of good rows that stand in slots of their own. */
    engine_accept(e, 0, (int32_t[]){ 0, 3 }, 2);
    assert_int_equal(engine_length(e, 0), 2);
    assert_int_equal(engine_tokens(e, 0)[1], 4);
    engine_close(e);
}

/* What is wrong with a call as a whole is refused by name, and nothing is sent. */
static void misuse_is_refused(void **state)
{
    (void)state;
    struct fake f;
    struct engine *e = open_engine(&f, 3, 0);
    struct answer a[65] = { 0 };
    struct row many[65];
    for (int i = 0; i < 65; i++) many[i] = row(0, 1, i - 1, 0);
    const struct { struct row rows[3]; size_t n; const char *says; } cases[] = {
        { { row(0, 1, -1, 0), row(1, 1, -1, 0), row(0, 1, -1, 0) }, 3, "sequence 0 stand apart" },
        { { row(0, 1, -1, 0), row(0, 1, 1, 0) }, 2, "row 1 has parent 1" },
        { { row(0, 1, -1, 0), row(1, 1, 0, 0) }, 2, "row 1 has parent 0" },
        { { row(0, 1, -2, 0) }, 1, "parent -2" },
        { { row(0, 1, -1, WANT_LOGITS) }, 1, "row 0 has no place" },
        { { row(0, 1, -1, WANT_HIDDEN) }, 1, "row 0 has no place" },
        { { row(0, 1, -1, 0) }, 0, "0 rows" } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = { 0 };
        assert_int_equal(engine_step(e, cases[i].rows, cases[i].n, a, &err), STRETTO_E_ARG);
        assert_non_null(strstr(err.text, cases[i].says));
        for (size_t k = 0; k < cases[i].n; k++) assert_int_equal(a[k].status, STRETTO_E_ARG);
    }
    struct error err = { 0 };
    assert_int_equal(engine_step(e, many, 65, a, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "takes 1 to 64"));
    assert_int_equal(fake_program->steps, 0);
    engine_close(e);
}

/* A pool of three pages: the rows for which there are pages are sent, the others say E_FULL. */
static void a_full_pool_answers_by_row(void **state)
{
    (void)state;
    struct fake f;
    struct error err = { 0 };
    struct engine *e = open_engine(&f, 2, 64);
    int32_t text[130];
    for (int i = 0; i < 130; i++) text[i] = i % 7;
    assert_int_equal(engine_feed(e, 0, text, 120, 0, NULL, &err), STRETTO_OK);
    assert_int_equal(engine_feed(e, 1, text, 60, 0, NULL, &err), STRETTO_OK);
    struct row rows[20];
    struct answer a[20];
    for (int i = 0; i < 12; i++) rows[i] = row(0, text[120 + i % 10], i - 1, WANT_BEST);
    for (int i = 12; i < 20; i++) rows[i] = row(1, text[60 + i - 12], i > 12 ? i - 1 : -1, WANT_BEST);
    assert_int_equal(engine_step(e, rows, 20, a, &err), STRETTO_E_FULL);
    assert_non_null(strstr(err.text, "the cache is full"));
    for (int i = 0; i < 20; i++) assert_int_equal(a[i].status, i % 12 < 8 && !(i >= 16) ? STRETTO_OK
                                                               : STRETTO_E_FULL);
    assert_int_equal(a[15].best, fake_next(text, 64));
    assert_int_equal(engine_commit(e, 1, 8), 4);   /* those that were sent */
    assert_int_equal(engine_length(e, 1), 64);
    engine_close(e);
}

static void a_lost_device_says_so(void **state)
{
    (void)state;
    struct fake f;
    struct error err = { 0 };
    struct engine *e = open_engine(&f, 1, 0);
    struct row r = row(0, 1, -1, WANT_BEST);
    struct answer a;
    assert_int_equal(engine_step(e, &r, 1, &a, &err), STRETTO_OK);
    engine_commit(e, 0, 1);
    device_lose(&f.device, "the card fell off the bus");
    assert_int_equal(engine_step(e, &r, 1, &a, &err), STRETTO_E_DEVICE);
    assert_int_equal(a.status, STRETTO_E_DEVICE);
    assert_non_null(strstr(err.text, "fell off"));
    assert_int_equal(engine_length(e, 0), 1);      /* the text is as it was */
    engine_close(e);
    assert_int_equal(engine_open(&e, &f.model, &(struct engine_options){ 0 }, &err), STRETTO_E_DEVICE);
    assert_null(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wants_are_met), cmocka_unit_test(bad_rows_fail_alone),
        cmocka_unit_test(misuse_is_refused), cmocka_unit_test(a_full_pool_answers_by_row),
        cmocka_unit_test(a_lost_device_says_so) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
