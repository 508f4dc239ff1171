/* What guessing learned, as a file: everything comes back, and nothing of a file that is damaged, cut
 * off or of another vocabulary. */
#include "unit/unit.h"
#include "base/random.h"
#include "decode/learned.h"
#include "decode/strategy.h"
#include <sys/stat.h>
#include <unistd.h>

enum { VOCAB = 500 };

static struct learned make(void)
{
    struct learned x;
    struct error err = { 0 };
    learned_init(&x);
    assert_int_equal(learned_place(&x, VOCAB, &err), STRETTO_OK);
    assert_int_equal(learned_place(&x, VOCAB, &err), STRETTO_OK);
    return x;
}

static uint32_t below(uint32_t n)
{
    static uint64_t state;
    return (uint32_t)(random_mix(state++) % n);
}

static void teach(struct learned *x)
{
    int32_t text[60];
    for (int t = 0; t < 20; t++) {
        for (int i = 0; i < 60; i++) text[i] = (int32_t)below(VOCAB);
        suffix_store_add(&x->store, text, 60);
        for (int i = 0; i < 60; i++) {
            struct step_top top;
            for (int k = 0; k < STEP_TOP; k++) {
                top.id[k] = (int32_t)below(VOCAB);
                top.logit[k] = (float)(STEP_TOP - k);
            }
            recycle_learn(&x->recycled, i ? text[i - 1] : -1, text[i], &top);
        }
    }
    for (unsigned s = 0; strategies[s]; s++)
        for (int b = 0; b < CONFIDENCE_BUCKETS; b++) {
            x->calibration.tests[s][b] = (float)below(100);
            x->calibration.hits[s][b] = x->calibration.tests[s][b] / 2;
            x->calibration.evidence[s][b] = (float)below(100) / 50 - 1;
        }
    x->calibration.bias = -1.25F;
}

static struct buffer bytes_of(const struct learned *x)
{
    struct buffer b = buffer_make(LEARNED_BYTES);
    assert_int_equal(learned_write(x, 5, &b), STRETTO_OK);
    return b;
}

static bool is_empty(const struct learned *x)
{
    struct learned none = make();
    struct buffer a = bytes_of(x), b = bytes_of(&none);
    bool same = a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
    buffer_done(&a);
    buffer_done(&b);
    learned_close(&none);
    return same;
}

static void all_comes_back(void **state)
{
    (void)state;
    struct learned x = make(), y = make();
    struct error err = { 0 };
    teach(&x);
    struct buffer a = bytes_of(&x);
    assert_int_equal(learned_read(&y, 5, a.data, a.len, &err), STRETTO_OK);
    assert_memory_equal(&x.calibration, &y.calibration, sizeof x.calibration);
    assert_memory_equal(x.recycled.after_token, y.recycled.after_token,
                        VOCAB * sizeof *x.recycled.after_token);
    assert_memory_equal(x.recycled.after_pair, y.recycled.after_pair,
                        RECYCLE_PAIRS * sizeof *x.recycled.after_pair);
    assert_int_equal(x.store.index.end, 20 * 61);
    assert_int_equal(y.store.index.end, 20 * 61);
    for (uint32_t i = 0; i < x.store.index.end; i++)
        assert_int_equal(ngram_at(&x.store.index, i), ngram_at(&y.store.index, i));
    /* The chains too: what follows a stored text's beginning is found. */
    int32_t text[8];
    for (uint32_t i = 0; i < 8; i++) text[i] = ngram_at(&x.store.index, 61 + i);
    struct ngram_match m;
    assert_int_equal(ngram_find(&y.store.index, text, 8, &m, 1), 1);
    assert_int_equal(m.place, 69);
    buffer_done(&a);
    learned_close(&x);
    learned_close(&y);
}

/* A ring that has gone round keeps its newest tokens. */
static void a_full_store(void **state)
{
    (void)state;
    struct learned x = make(), y = make();
    struct error err = { 0 };
    int32_t text[999];
    for (int i = 0; i < 300; i++) {
        for (int k = 0; k < 999; k++) text[k] = (int32_t)below(VOCAB);
        suffix_store_add(&x.store, text, 999);
    }
    struct buffer a = bytes_of(&x);
    assert_int_equal(learned_read(&y, 5, a.data, a.len, &err), STRETTO_OK);
    assert_int_equal(y.store.index.end, SUFFIX_STORE_TOKENS);
    for (uint32_t i = 1; i <= SUFFIX_STORE_TOKENS; i++)
        assert_int_equal(ngram_at(&x.store.index, x.store.index.end - i),
                         ngram_at(&y.store.index, y.store.index.end - i));
    buffer_done(&a);
    learned_close(&x);
    learned_close(&y);
}

static void damage_is_refused(void **state)
{
    (void)state;
    struct learned x = make(), y = make();
    teach(&x);
    struct buffer a = bytes_of(&x);
    for (size_t i = 0; i < a.len; i += i < 4000 ? 7 : 997) {
        struct error err = { 0 };
        a.data[i] ^= 0x10;
        assert_int_not_equal(learned_read(&y, 5, a.data, a.len, &err), STRETTO_OK);
        assert_true(err.text[0]);
        a.data[i] ^= 0x10;
        assert_int_not_equal(learned_read(&y, 5, a.data, i, &err), STRETTO_OK);
    }
    struct error err = { 0 };
    assert_int_equal(learned_read(&y, 6, a.data, a.len, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "vocabulary"));
    /* Wrong numbers under a right check: the first token behind the sources. */
    size_t sources = 0, at;
    while (strategies[sources]) sources++;
    at = 16 + 4 + 4 + 8 + 8 + sources * (16 + 4 * (3 * CONFIDENCE_BUCKETS + 1)) + 4 + 8 + 4;
    a.data[at + 3] = 0x40;
    uint64_t check = learned_check(a.data, a.len - 8);
    for (size_t i = 0; i < 8; i++) a.data[a.len - 8 + i] = (char)(check >> (8 * i));
    err = (struct error){ 0 };
    assert_int_equal(learned_read(&y, 5, a.data, a.len, &err), STRETTO_E_FORMAT);
    assert_true(is_empty(&y));
    buffer_done(&a);
    learned_close(&x);
    learned_close(&y);
}

static void files(void **state)
{
    (void)state;
    char folder[] = "/tmp/learned.XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/l", folder);
    struct learned x = make(), y = make();
    struct error err = { 0 };
    struct stat st;
    teach(&x);
    assert_int_equal(learned_load(&y, 5, path, &err), STRETTO_E_IO);
    err = (struct error){ 0 };
    for (int again = 0; again < 2; again++)
        assert_int_equal(learned_save(&x, 5, path, &err), STRETTO_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(learned_load(&y, 5, path, &err), STRETTO_OK);
    assert_memory_equal(&x.calibration, &y.calibration, sizeof x.calibration);
    assert_int_equal(learned_load(&y, 4, path, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, path));
    unlink(path);
    assert_int_equal(rmdir(folder), 0);            /* nothing else was left there */
    err = (struct error){ 0 };
    assert_int_equal(learned_save(&x, 5, path, &err), STRETTO_E_IO);
    assert_non_null(strstr(err.text, path));
    learned_close(&x);
    learned_close(&y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_comes_back), cmocka_unit_test(a_full_store),
        cmocka_unit_test(damage_is_refused), cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
