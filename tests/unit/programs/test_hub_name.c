#include "unit/unit.h"
#include "models/hub_name.h"
#include <string.h>

static void words_are_taken_apart(void **state)
{
    (void)state;
    static const struct { const char *spec, *repo, *file, *quant, *revision, *spelled; } rows[] = {
        { "hf:u/r", "u/r", "", "", "", "hf:u/r" },
        { "hf.co/u/r", "u/r", "", "", "", "hf:u/r" },
        { "huggingface.co/u-1/r_2.x", "u-1/r_2.x", "", "", "", "hf:u-1/r_2.x" },
        { "hf:u/r:Q4_K_M", "u/r", "", "Q4_K_M", "", "hf:u/r:Q4_K_M" },
        { "hf:u/r:UD-Q2_K_XL@v1", "u/r", "", "UD-Q2_K_XL", "v1", "hf:u/r:UD-Q2_K_XL@v1" },
        { "hf:u/r/a/b.gguf@refs/pr/1", "u/r", "a/b.gguf", "", "refs/pr/1", "hf:u/r/a/b.gguf@refs/pr/1" },
        { "hf:u/r/a@b.gguf@main", "u/r", "a@b.gguf", "", "", "hf:u/r/a@b.gguf@main" },
        { "hf:u/r@main", "u/r", "", "", "", "hf:u/r" },
        { "hf:u/r/", "u/r", "", "", "", "hf:u/r" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct hub_name n;
        struct buffer b = buffer_make(1000);
        assert_true(hub_name_is(rows[i].spec));
        assert_int_equal(hub_name_parse(&n, rows[i].spec, NULL), STRETTO_OK);
        assert_string_equal(n.repo, rows[i].repo);
        assert_string_equal(n.file, rows[i].file);
        assert_string_equal(n.quant, rows[i].quant);
        assert_string_equal(n.revision, rows[i].revision);
        assert_int_equal(hub_name_spell(&n, &b), STRETTO_OK);
        assert_string_equal(b.data, rows[i].spelled);
        buffer_done(&b);
    }
}

static void wrong_words_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "hf:", "hf:u", "hf:u/", "hf:/r", "hf:u/r:", "hf:u/r:a/b", "hf:u/r/f.gguf:Q4_0", "hf:u/r@", "hf:u/r@a b",
        "hf:u/r@../x", "hf:u/r@/x", "hf:../r", "hf:u/..", "hf:.u/r", "hf:-u/r", "hf:u/-r", "hf:u/r/../x",
        "hf:u/r/.git/config", "hf:u/r/a:b", "u/r", "hfx:u/r", "hf:u/r:Q4 0", "hf:u/r\n",
    };
    char longest[600] = "hf:u/";
    memset(longest + 5, 'r', sizeof longest - 6);
    for (size_t i = 0; i <= sizeof wrong / sizeof *wrong; i++) {
        struct hub_name n;
        struct error err = { 0 };
        const char *spec = i < sizeof wrong / sizeof *wrong ? wrong[i] : longest;
        assert_int_equal(hub_name_parse(&n, spec, &err), STRETTO_E_FORMAT);
        assert_true(err.text[0] != '\0');
    }
}

static void a_quant_is_a_whole_word(void **state)
{
    (void)state;
    static const char *const yes[][2] = {
        { "m-Q4_K_M.gguf", "q4_k_m" }, { "m.Q8_0.gguf", "Q8_0" }, { "Q6_K/m-00001-of-00002.gguf", "Q6_K" },
        { "m_F16.gguf", "f16" }, { "m-UD-Q2_K_XL.gguf", "Q2_K_XL" }, { "m-Q4_K-Q4_K_M.gguf", "Q4_K" },
    };
    static const char *const no[][2] = {
        { "m-Q4_K_M.gguf", "Q4_K" }, { "m-IQ4_XS.gguf", "Q4_XS" }, { "m-BF16.gguf", "F16" },
        { "m-Q8_0.gguf", "Q8_" }, { "m-Q8_0.gguf", "" }, { "m-Q80.gguf", "Q8" },
    };
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) assert_true(gguf_has_quant(yes[i][0], yes[i][1]));
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) assert_false(gguf_has_quant(no[i][0], no[i][1]));
}

static const char *name_at(const void *list, size_t i) { return ((const char *const *)list)[i]; }

static void one_of_several_is_chosen(void **state)
{
    (void)state;
    static const char *const list[] = { "README.md", "mmproj-m-F16.gguf", "m-Q4_K_M-00001-of-00002.gguf",
                                        "m-Q4_K_M-00002-of-00002.gguf", "m-Q8_0.gguf", "m.imatrix.gguf" };
    struct hub_choice c = hub_choose(name_at, list, 6, "");
    assert_int_equal(c.models, 2);
    assert_int_equal(c.fitting, 1);
    assert_int_equal(c.at, 2);
    assert_true(c.by_default);
    assert_true(gguf_same_model(list[2], list[3]));
    assert_false(gguf_same_model(list[2], list[4]));
    c = hub_choose(name_at, list, 6, "Q8_0");
    assert_int_equal(c.at, 4);
    assert_false(c.by_default);
    assert_int_equal(hub_choose(name_at, list, 6, "Q5_0").fitting, 0);
    c = hub_choose(name_at, list + 4, 1, "");                     /* the only one, whatever its type */
    assert_int_equal(c.fitting, 1);
    assert_false(c.by_default);
    assert_int_equal(hub_choose(name_at, list, 2, "").fitting, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_taken_apart),
        cmocka_unit_test(wrong_words_are_refused),
        cmocka_unit_test(a_quant_is_a_whole_word),
        cmocka_unit_test(one_of_several_is_chosen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
