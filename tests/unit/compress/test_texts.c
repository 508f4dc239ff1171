/* Texts as windows: what is compiled in, files without a template, and what two texts share. */
#include "unit/unit.h"
#include "base/memory.h"
#include "compress/texts.h"
#include "format/source.h"
#include "text/tokenizer.h"

#define VOCABULARY STRETTO_TEST_DATA "/tokenizer/ggml-vocab-gpt-2.gguf"

static struct source *source;
static struct tokenizer *tokenizer;

static int open_vocabulary(void **state)
{
    (void)state;
    struct error err = { 0 };
    if (source_open(&source, VOCABULARY, &err) != STRETTO_OK) return -1;
    return tokenizer_open(&tokenizer, source, &err) == STRETTO_OK ? 0 : -1;
}

static int close_vocabulary(void **state)
{
    (void)state;
    tokenizer_close(tokenizer);
    source_close(source);
    return 0;
}

static void what_is_compiled_in_fills_windows(void **state)
{
    (void)state;
    struct error err = { 0 };
    for (int held = 0; held < 2; held++) {
        struct text_file f[16];
        struct windows w, few;
        size_t n = texts_builtin(held, f, 16);
        assert_true(n >= 3);
        uint32_t vocab = (uint32_t)tokenizer_size(tokenizer);
        if (windows_make(&w, f, n, tokenizer, NULL, 512, 0, vocab, &err) != STRETTO_OK) printf("%s\n", err.text);
        assert_true(w.tokens > 20000 && w.tokens == w.n * 512 && w.at[w.n] == w.tokens);
        /* Fewer are spread over all of them, and another choice has another hash. */
        assert_int_equal(windows_make(&few, f, n, tokenizer, NULL, 512, 4096, vocab, &err), STRETTO_OK);
        assert_true(few.tokens >= 2048 && few.tokens <= 4096 + 512 * n && few.hash != w.hash);
        assert_true(few.id[few.at[few.n - 1]] != few.id[0]);
        windows_done(&few);
        windows_done(&w);
    }
}

static void few_windows_come_from_all_of_a_text(void **state)
{
    (void)state;
    struct text_file f[16];
    struct eval_set all, few;
    struct error err = { 0 };
    uint32_t vocab = (uint32_t)tokenizer_size(tokenizer);
    assert_true(texts_builtin(false, f, 16) > 0);
    assert_int_equal(texts_set(&all, f, tokenizer, NULL, 64, 0, vocab, &err), STRETTO_OK);
    assert_int_equal(texts_set(&few, f, tokenizer, NULL, 64, 4, vocab, &err), STRETTO_OK);
    assert_true(all.n > 16 && few.n == 4);
    for (size_t i = 0; i < 4; i++) {
        size_t from = ((i + 1) * all.n + 3) / 4 - 1;          /* the last of each quarter */
        assert_memory_equal(few.id + few.at[i], all.id + all.at[from], 64 * sizeof *all.id);
    }
    eval_set_done(&all);
    eval_set_done(&few);
}

static void halves_of_a_text_share_no_window(void **state)
{
    (void)state;
    struct error err = { 0 };
    struct text_file f[16];
    struct eval_set all, half[2];
    size_t n = texts_builtin(true, f, 16);
    assert_true(n > 0);
    assert_int_equal(texts_set(&all, &f[n - 1], tokenizer, NULL, 64, 0, 50257, &err), STRETTO_OK);
    size_t tokens = 0;
    for (int odd = 0; odd < 2; odd++) {
        struct eval_set *h = &half[odd];
        assert_int_equal(texts_set(h, &f[n - 1], tokenizer, NULL, 64, 0, 50257, &err), STRETTO_OK);
        struct texts_part p = { odd ? TEXTS_SECOND : TEXTS_FIRST, 0 };
        size_t counted = texts_counted(h, p);
        texts_keep(h, p);
        assert_int_equal(counted, h->tokens);
        assert_int_equal(h->n, (all.n + !odd) / 2);
        for (size_t w = 0; w < h->n; w++)
            assert_memory_equal(h->id + h->at[w], all.id + all.at[2 * w + (size_t)odd], 64 * sizeof *all.id);
        tokens += h->tokens;
    }
    assert_int_equal(tokens, all.tokens);
    assert_int_equal(texts_counted(&half[0], (struct texts_part){ TEXTS_FIRST, 3 }), 3 * half[0].tokens / half[0].n);
    texts_keep(&half[0], (struct texts_part){ TEXTS_BOTH, 1 });
    assert_int_equal(half[0].n, 1);
    texts_keep(&half[0], (struct texts_part){ TEXTS_SECOND, 0 });      /* of one window alone that */
    assert_int_equal(half[0].n, 1);
    eval_set_done(&all);
    eval_set_done(&half[0]);
    eval_set_done(&half[1]);
}

static void odd_texts_are_refused(void **state)
{
    (void)state;
    struct error err = { 0 };
    struct windows w;
    struct text_file f = { "short.txt", "a few words", 11, false };
    assert_int_equal(windows_make(&w, &f, 1, tokenizer, NULL, 512, 0, 50257, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "less than one window of 512"));
    error_clear(&err);
    f = (struct text_file){ "odd.jsonl", "{\"text\": 1}\n", 12, true };
    assert_int_equal(windows_make(&w, &f, 1, tokenizer, NULL, 4, 0, 50257, &err), STRETTO_E_FORMAT);
    assert_non_null(strstr(err.text, "messages"));
    error_clear(&err);
    /* A vocabulary that is larger than the model's. */
    f = (struct text_file){ "text.txt", "one two three four five six seven", 33, false };
    assert_int_equal(windows_make(&w, &f, 1, tokenizer, NULL, 4, 0, 300, &err), STRETTO_E_FORMAT);
    assert_non_null(strstr(err.text, "do not belong together"));
    assert_int_equal(windows_make(&w, &f, 0, tokenizer, NULL, 4, 0, 300, NULL), STRETTO_E_ARG);
    assert_int_equal(windows_make(&w, &f, 1, NULL, NULL, 4, 0, 300, NULL), STRETTO_E_UNSUP);
}

static bool leaks(const struct text_file *learn, size_t n, const struct text_file *held, const char **which,
                  char *words, size_t cap)
{
    assert_int_equal(texts_leak(learn, n, held, which, words, cap, NULL), STRETTO_OK);
    return *which != NULL;
}

/* What is no text is told before it is read, and a text whose leak cannot be looked for is not called clean. */
static void no_text_and_no_memory_are_told(void **state)
{
    (void)state;
    struct error err = { 0 };
    const char *which;
    char words[40];
    struct text_file held = { "held", "some words", 10, false }, nul = { "nul.bin", "ab\0cd", 5, false },
                     odd = { "odd.bin", "\x80\xfe\xff text", 8, false }, some = { "most", NULL, 0, false };
    assert_int_equal(texts_check(&held, &err), STRETTO_OK);
    assert_int_equal(texts_check(&nul, &err), STRETTO_E_FORMAT);
    assert_non_null(strstr(err.text, "nul.bin is no text: byte 3"));
    error_clear(&err);
    assert_int_equal(texts_check(&odd, &err), STRETTO_E_FORMAT);
    assert_non_null(strstr(err.text, "3 of its 8 bytes"));
    char mostly[500];
    memset(mostly, 'a', sizeof mostly);
    mostly[7] = '\xff';
    some.data = mostly;
    some.n = sizeof mostly;
    assert_int_equal(texts_check(&some, NULL), STRETTO_OK);
    mem_fail_at(1);
    assert_int_equal(texts_leak(&held, 1, &held, &which, words, sizeof words, NULL), STRETTO_E_NOMEM);
    mem_fail_at(0);
}

static void thirteen_words_in_a_row_are_a_leak(void **state)
{
    (void)state;
    const char *which = NULL;
    char words[200];
    struct text_file learn[] = { { "a", "nothing here", 12, false },
                                 { "b", "x one two three four five six seven eight nine ten eleven twelve thirteen y",
                                   75, false } };
    struct text_file held = { "c", "z  ONE two\nthree four five six seven eight nine ten eleven twelve thirteen w", 75,
                              false };
    assert_true(leaks(learn, 2, &held, &which, words, sizeof words));
    assert_string_equal(which, "b");
    assert_non_null(strstr(words, "ONE two\nthree"));
    held.data = "ONE two three four five six seven eight nine ten eleven twelve fourteen and on and on it goes";
    held.n = strlen(held.data);
    assert_false(leaks(learn, 2, &held, &which, words, sizeof words));
    struct text_file a[16], b[16];
    size_t n = texts_builtin(false, a, 16), m = texts_builtin(true, b, 16);
    for (size_t i = 0; i < m; i++) assert_false(leaks(a, n, &b[i], &which, words, sizeof words));
    assert_true(leaks(a, n, &a[n - 1], &which, words, 8));
    assert_int_equal(strlen(words), 7);
}

int main(void)
{
    FILE *f = fopen(VOCABULARY, "rb");
    if (!f) SKIP("no %s", VOCABULARY);
    fclose(f);
    const struct CMUnitTest tests[] = { cmocka_unit_test(what_is_compiled_in_fills_windows),
        cmocka_unit_test(few_windows_come_from_all_of_a_text),
        cmocka_unit_test(halves_of_a_text_share_no_window),
                                        cmocka_unit_test(odd_texts_are_refused),
                                        cmocka_unit_test(no_text_and_no_memory_are_told),
                                        cmocka_unit_test(thirteen_words_in_a_row_are_a_leak) };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
