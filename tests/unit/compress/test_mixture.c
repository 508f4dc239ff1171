/* Mixtures beside kept answers of llama-quantize, layer by layer. */
#include "unit/unit.h"
#include "compress/mixture.h"

#define KEPT STRETTO_SOURCE_DIR "/tests/compress/llama_quantize.kept"

static void check_line(char *line)
{
    struct mixture_about a;
    char type[16], name[32], full[64];
    unsigned n_in, layer = 0, found;
    int at;
    assert_int_equal(sscanf(line, "%u %u %u %15s %31s %u %n", &a.layers, &a.heads, &a.kv_heads, type, name, &n_in,
                            &at), 6);
    const struct mixture *m = mixture_find(type);
    assert_non_null(m);
    for (char *word = strtok(line + at, " \n"); word; word = strtok(NULL, " \n")) {
        char *star = strchr(word, '*');
        assert_non_null(star);
        *star = 0;
        for (int n = atoi(star + 1); n > 0; n--, layer++) {
            bool table = strcmp(name, "token_embd") == 0;
            if (table) snprintf(full, sizeof full, "%s.weight", name);
            else snprintf(full, sizeof full, "blk.%u.%s.weight", layer, name);
            bool tied = a.heads != 14;           /* Qwen2.5-Coder has a head of its own */
            enum weight_role role = weight_role(full, 2, tied, &found);
            assert_int_equal(found, layer);
            enum dtype t = mixture_type(m, &a, role, layer, n_in);
            if (t != dtype_by_name(word)) printf("%s %s: %s, not %s\n", type, full, dtype_table[t].name, word);
            assert_int_equal(t, dtype_by_name(word));
        }
    }
}

static void types_are_those_of_llama_quantize(void **state)
{
    (void)state;
    char line[1000];
    size_t lines = 0;
    FILE *f = fopen(KEPT, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (line[0] == '#') continue;
        check_line(line);
        lines++;
    }
    fclose(f);
    assert_true(lines > 100);
}

static void names_and_roles(void **state)
{
    (void)state;
    uint32_t layer;
    assert_ptr_equal(mixture_find("no_such"), NULL);
    assert_int_equal(mixture_find("Q4_K")->file_type, 15);
    assert_int_equal(weight_role("output.weight", 2, false, &layer), WEIGHT_HEAD);
    assert_int_equal(weight_role("token_embd.weight", 2, false, &layer), WEIGHT_EMBEDDING);
    assert_int_equal(weight_role("position_embd.weight", 2, false, &layer), WEIGHT_POSITION);
    assert_int_equal(weight_role("blk.3.attn_norm.weight", 1, false, &layer), WEIGHT_NONE);
    assert_int_equal(weight_role("blk.3.attn_q.bias", 1, false, &layer), WEIGHT_NONE);
    assert_int_equal(weight_role("blk.99999999999999999999.attn_q.weight", 2, false, &layer), WEIGHT_Q);
    /* Every word that is offered is found, but for types that this version cannot write. */
    char words[400], *save;
    snprintf(words, sizeof words, "%s", mixture_words());
    for (char *w = strtok_r(words, "|", &save); w; w = strtok_r(NULL, "|", &save))
        if (!mixture_find(w)) printf("not there yet: %s\n", w);
    assert_int_equal(mixture_fit(DT_Q4_K, 576), DT_Q5_0);
    assert_int_equal(mixture_fit(DT_Q4_K, 33), DT_F16);
    assert_int_equal(mixture_fit(DT_F16, 33), DT_F16);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(types_are_those_of_llama_quantize),
                                        cmocka_unit_test(names_and_roles) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
