/* The n-gram index and the store of finished answers against a naive search. */
#include "unit/unit.h"
#include "base/random.h"
#include "decode/strategy.h"
#include "decode/suffix.h"

enum { N = 3000 };

static uint64_t state;
static uint32_t below(uint32_t n) { return (uint32_t)(random_mix(state++) % n); }

static struct ngram_index make(uint32_t tokens)
{
    struct arena a = { 0 };
    struct ngram_index x;
    ngram_plan(&x, &a, tokens);
    size_t bytes = a.top;
    a = (struct arena){ .base = aligned_alloc(64, (bytes + 63) & ~(size_t)63), .cap = bytes };
    assert_non_null(a.base);
    memset(a.base, 0, bytes);
    ngram_plan(&x, &a, tokens);
    return x;
}

static void drop(struct ngram_index *x) { free(x->token); }

static uint32_t naive_agreement(const int32_t *all, uint32_t oldest, uint32_t place,
                                const int32_t *text, uint32_t n)
{
    uint32_t k = 0;
    while (k < n && k < NGRAM_LONGEST && place - k > oldest && all[place - k - 1] != NGRAM_BREAK &&
           all[place - k - 1] == text[n - k - 1])
        k++;
    return k;
}

/* Every match found is true, the longest key's places are all there, newest first within a key. */
static void check(const struct ngram_index *x, const int32_t *all, uint32_t end,
                  const int32_t *text, uint32_t n)
{
    struct ngram_match m[64];
    uint32_t oldest = end > x->mask + 1 ? end - x->mask - 1 : 0, longest = 0;
    uint32_t found = ngram_find(x, text, n, m, 64);
    for (uint32_t p = oldest + 1; p < end; p++) {
        uint32_t k = naive_agreement(all, oldest, p, text, n);
        if (all[p] != NGRAM_BREAK && k > longest) longest = k;
    }
    for (uint32_t i = 0; i < found; i++) {
        assert_in_range(m[i].place, oldest + 1, end - 1);
        assert_int_not_equal(all[m[i].place], NGRAM_BREAK);
        assert_int_equal(m[i].length, naive_agreement(all, oldest, m[i].place, text, n));
        assert_int_equal(ngram_at(x, m[i].place), all[m[i].place]);
        for (uint32_t j = 0; j < i; j++) assert_int_not_equal(m[j].place, m[i].place);
    }
    if (longest == 0) assert_int_equal(found, 0);
    /* Some place with the longest key is found: keys are 8, 5, 3, 2, 1. */
    uint32_t key = longest >= 8 ? 8 : longest >= 5 ? 5 : longest >= 3 ? 3 : longest;
    if (longest) assert_true(found > 0 && m[0].length >= key);
}

static void finds_what_is_there(void **ctx)
{
    (void)ctx;
    static int32_t all[N];
    for (uint32_t vocab = 2; vocab < 60; vocab += 9) {
        struct ngram_index x = make(N);
        for (uint32_t i = 0; i < N; i++) {
            all[i] = i > 40 && below(3) ? all[i - 1 - below(40)] : (int32_t)below(vocab);
            ngram_add(&x, all[i]);
            if (i % 61 == 60) check(&x, all, i + 1, all, i + 1);
        }
        int32_t text[6];
        for (int i = 0; i < 6; i++) text[i] = (int32_t)below(vocab);
        check(&x, all, N, text, 6);
        drop(&x);
    }
}

/* After cutting, the index is what it was: both answer alike from then on. */
static void cutting_undoes(void **ctx)
{
    (void)ctx;
    struct ngram_index x = make(N), y = make(N);
    static int32_t all[N];
    for (uint32_t i = 0; i < N; i++) all[i] = (int32_t)below(7);
    for (uint32_t i = 0; i < 900; i++) ngram_add(&x, all[i]);
    for (uint32_t i = 0; i < 700; i++) ngram_add(&y, all[i]);
    ngram_cut(&x, 700);
    assert_int_equal(x.end, 700);
    for (int k = 0; k < NGRAM_KEYS; k++)
        assert_memory_equal(x.head[k], y.head[k], (x.head_mask + 1) * sizeof *x.head[k]);
    ngram_cut(&x, 0);
    struct ngram_match m;
    assert_int_equal(ngram_find(&x, all, 20, &m, 1), 0);
    drop(&x);
    drop(&y);
}

/* A ring of 64 tokens: memory stays, old places are never named. */
static void memory_is_bounded(void **ctx)
{
    (void)ctx;
    struct ngram_index x = make(64);
    static int32_t all[N];
    for (uint32_t i = 0; i < N; i++) {
        all[i] = below(30) ? (int32_t)below(4) : NGRAM_BREAK;
        ngram_add(&x, all[i]);
        check(&x, all, i + 1, all, i + 1);
    }
    assert_int_equal(ngram_at(&x, N - 65), NGRAM_BREAK);
    assert_int_equal(ngram_at(&x, N - 64), all[N - 64]);
    /* What the ring has overwritten does not come back with a cut. */
    ngram_cut(&x, N - 10);
    assert_int_equal(ngram_at(&x, N - 65), NGRAM_BREAK);
    assert_int_equal(ngram_at(&x, N - 64), all[N - 64]);
    drop(&x);
}

/* What suffix decoding proposes is what follows, most often first: the counts of a naive search over
 * texts of the store decide the order of siblings below the root. */
static void suffix_counts(void **ctx)
{
    (void)ctx;
    unsigned source;
    const struct strategy *suffix = strategy_find("suffix", 6, &source);
    struct suffix_store store = { make(4096) };
    static const int32_t often[] = { 1, 2, 3, 4, 5 }, seldom[] = { 1, 2, 3, 9, 9 };
    for (int i = 0; i < 12; i++)
        suffix_store_add(&store, i % 3 ? often : seldom, 5);
    struct strategy_setup setup = { .vocab = 16, .rows = 15, .store = &store };
    struct arena a = { 0 };
    suffix->plan(&a, &setup);
    size_t bytes = a.top;
    a = (struct arena){ .base = aligned_alloc(64, (bytes + 63) & ~(size_t)63), .cap = bytes };
    memset(a.base, 0, bytes);
    void *s = suffix->plan(&a, &setup);
    static struct guess_node nodes[TREE_NODES];
    struct guess_tree d = { .node = nodes };
    tree_clear(&d, 15);
    struct ngram_index own = make(64);
    const int32_t text[] = { 7, 1, 2, 3 };
    for (int i = 0; i < 4; i++) ngram_add(&own, text[i]);
    struct timeline t = { text, 4, &own };
    struct proposal p = { .tree = &d, .strategy = source, .p_of_bucket = suffix->prior };
    assert_int_equal(suffix->propose(s, &t, &p, NULL), STRETTO_OK);
    tree_weigh(&d);
    int32_t four = tree_find(&d, TREE_ROOT, 4), nine = tree_find(&d, TREE_ROOT, 9);
    assert_true(four >= 0 && nine >= 0 && d.node[four].path > d.node[nine].path);
    assert_true(tree_find(&d, four, 5) >= 0);
    /* Behind the end of a text nothing follows. */
    assert_int_equal(d.node[tree_find(&d, four, 5)].child, -1);
    assert_int_equal(d.n, 4);
    free(a.base);
    drop(&own);
    drop(&store.index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_is_there), cmocka_unit_test(cutting_undoes),
        cmocka_unit_test(memory_is_bounded),   cmocka_unit_test(suffix_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
