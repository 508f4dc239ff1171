/* The element types against the published dequantisation (tests/data/dtype_golden.txt, written by
 * tools/make_dtype_golden.py) and half floats against their definition. */
#include "unit/unit.h"
#include "tensor/dtype_rows.h"
#include "tensor/half.h"
#include <ctype.h>
#include <math.h>
#include <stdbool.h>

/* What the standard says a half is: sign * 2^(e-15) * 1.m, computed in double by ldexp. */
static double half_by_definition(uint16_t h)
{
    int exp = h >> 10 & 31, man = h & 0x3ff;
    double v = exp == 0 ? ldexp(man, -24) : ldexp(1024 + man, exp - 25);
    return h & 0x8000 ? -v : v;
}

static void every_half_is_what_the_standard_says(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = half_to_float((uint16_t)h);
        if ((h & 0x7c00) == 0x7c00) {
            assert_true((h & 0x3ff) ? isnan(f) : isinf(f) && !signbit(f) == !(h >> 15));
            continue;
        }
        if ((double)f != half_by_definition((uint16_t)h) || !signbit(f) != !(h & 0x8000))
            assert_int_equal(h, -1);
        assert_int_equal(float_to_half(f), h);
    }
    assert_true(isnan(half_to_float(float_to_half(NAN))));
    assert_int_equal(float_to_half(INFINITY), 0x7c00);
}

/* Between two neighbouring halves: just below, at and just above the midpoint. */
static void rounding_to_half_is_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        double low = half_by_definition((uint16_t)h), high = half_by_definition((uint16_t)(h + 1));
        float middle = (float)((low + high) / 2);
        assert_true((double)middle == (low + high) / 2);
        assert_int_equal(float_to_half(nextafterf(middle, 0)), h);
        assert_int_equal(float_to_half(middle), h + (h & 1));
        assert_int_equal(float_to_half(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(float_to_half(-middle), 0x8000 | (h + (h & 1)));
    }
    assert_int_equal(float_to_half(65519.99f), 0x7bff);
    assert_int_equal(float_to_half(65520.0f), 0x7c00);
}

static void rounding_to_bfloat_is_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7f80; h++) {
        uint32_t u = h << 16;
        float below, at, above;
        memcpy(&at, &(uint32_t){ u + 0x8000 }, 4);
        memcpy(&below, &(uint32_t){ u + 0x7fff }, 4);
        memcpy(&above, &(uint32_t){ u + 0x8001 }, 4);
        assert_int_equal(float_to_brain(below), h);
        assert_int_equal(float_to_brain(at), h + (h & 1));
        assert_int_equal(float_to_brain(above), h + 1);
        assert_int_equal(bits_of(brain_to_float((uint16_t)h)), u);
    }
    assert_true(isnan(brain_to_float(float_to_brain(NAN))));
    float low_payload;                       /* a NaN whose payload would be cut away */
    memcpy(&low_payload, &(uint32_t){ 0x7f800001 }, 4);
    assert_true(isnan(brain_to_float(float_to_brain(low_payload))));
    assert_true(isnan(half_to_float(float_to_half(low_payload))));
}

static size_t unhex(const char *s, unsigned char *out, size_t max)
{
    size_t n = strlen(s) / 2;
    assert_true(n <= max);
    for (size_t i = 0; i < n; i++) {
        unsigned v;
        assert_int_equal(sscanf(s + 2 * i, "%2x", &v), 1);
        out[i] = (unsigned char)v;
    }
    return n;
}

static void blocks_equal_the_published_arithmetic(void **state)
{
    (void)state;
    FILE *f = fopen(STRETTO_SOURCE_DIR "/tests/data/dtype_golden.txt", "r");
    assert_non_null(f);
    static char what[16], name[16], a[8192], b[8192];
    int decoded[DT_COUNT] = { 0 }, encoded[DT_COUNT] = { 0 };
    while (fscanf(f, "%15s %15s %8191s %8191s", what, name, a, b) == 4) {
        unsigned char in[2048], want[2048];
        union { unsigned char bytes[2048]; float f[512]; } got, from;
        memset(&got, 0xaa, sizeof got);
        size_t n_in = unhex(a, in, sizeof in), n_want = unhex(b, want, sizeof want);
        enum dtype t = dtype_by_name(name);
        assert_true(t != DT_COUNT);
        if (strcmp(what, "decode") == 0) {
            assert_int_equal(n_in, dtype_table[t].bytes);
            dtype_table[t].decode(in, got.f, dtype_table[t].block);
            decoded[t]++;
        } else {
            memcpy(from.bytes, in, n_in);
            dtype_table[t].encode(from.f, got.bytes, n_in / 4);
            assert_int_equal(n_want, dtype_bytes(t, n_in / 4));
            encoded[t]++;
        }
        if (memcmp(got.bytes, want, n_want) != 0) fprintf(stderr, "%s %s differs\n", what, name);
        assert_memory_equal(got.bytes, want, n_want);
        assert_int_equal(got.bytes[n_want], 0xaa);
    }
    fclose(f);
    for (int t = 0; t < DT_COUNT; t++) {
        if (dtype_table[t].block > 1 && !decoded[t]) print_error("no golden blocks of %s\n", dtype_table[t].name);
        assert_true(dtype_table[t].block <= 1 || decoded[t]);
        if (t != DT_F32) assert_true(!dtype_table[t].encode == !encoded[t]);
    }
}

/* Any input is defined behaviour, and Q8_0 never writes -128. */
static void odd_values_encode_to_something_defined(void **state)
{
    (void)state;
    const float odd[] = { NAN, INFINITY, -INFINITY, 3.4e38f, -3.4e38f, 1e-45f, -0.0f, 0.0f };
    for (size_t first = 0; first < 8; first++)
        for (int t = 0; t < DT_COUNT; t++) {
            if (!dtype_table[t].encode) continue;
            float in[256], back[256];
            unsigned char out[1024];
            for (size_t i = 0; i < 256; i++) in[i] = odd[(i * i + first) % 8];
            dtype_table[t].encode(in, out, 256);
            dtype_table[t].decode(out, back, 256);
            if (t == DT_Q8_0)
                for (int i = 0; i < 32; i++) assert_true(out[2 + i] != 0x80);
        }
}

static void names_and_numbers_find_their_rows(void **state)
{
    (void)state;
    char names[512];
    dtype_names(names, sizeof names);
    for (int t = 0; t < DT_COUNT; t++) {
        uint32_t number = (uint32_t)t;
        if (!dtype_table[t].block) {
            assert_int_equal(dtype_by_gguf(number), DT_COUNT);
            assert_non_null(dtype_gguf_foreign_name(number));
            continue;
        }
        assert_int_equal(dtype_by_gguf(number), t);
        assert_int_equal(dtype_by_name(dtype_table[t].name), t);
        assert_null(dtype_gguf_foreign_name(number));
        assert_non_null(strstr(names, dtype_table[t].name));
    }
    char few[8];
    assert_string_equal(dtype_names(few, sizeof few), "F32, F1");
    assert_int_equal(dtype_by_name("q4_k"), DT_Q4_K);
    assert_int_equal(dtype_by_name("q9"), DT_COUNT);
    assert_int_equal(dtype_by_gguf(DT_Q8_1), DT_COUNT);
    assert_string_equal(dtype_gguf_foreign_name(9), "Q8_1");
    assert_null(dtype_gguf_foreign_name(4000000000u));
    assert_int_equal(dtype_bytes(DT_Q6_K, 512), 420);
}

/* What options offer: every row, in the order of the rows. */
static void the_words_are_the_rows(void **state)
{
    (void)state;
    char words[256] = "";
    for (const char *c =
#define X(T, ...) "|" #T
             DTYPES(X)
#undef X
         ; *c; c++)
        strncat(words, &(char){ (char)tolower(*c) }, 1);
    assert_string_equal(words + 1, DTYPE_WORDS);
    for (int t = 0; t < DT_COUNT; t++) {
        const struct dtype_info *d = &dtype_table[t];
        if (!d->block) continue;
        assert_true(d->most > 0);
        if (d->instead) assert_true(dtype_table[d->instead].block < d->block);
    }
}

/* The line of README.md that says which types are supported: every one and no other. */
static void the_readme_lists_the_types(void **state)
{
    (void)state;
    static char line[4096];
    FILE *f = fopen(STRETTO_SOURCE_DIR "/README.md", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) && !strstr(line, "**Models**: GGUF")) continue;
    fclose(f);
    bool listed[DT_COUNT] = { false };
    for (char *word = strtok(line, " ,;()"); word; word = strtok(NULL, " ,;()")) {
        enum dtype t = dtype_by_name(word);
        if (t != DT_COUNT) listed[t] = true;
        for (uint32_t i = 0; i < DT_COUNT; i++) {
            const char *foreign = dtype_gguf_foreign_name(i);
            if (foreign) assert_string_not_equal(foreign, word);
        }
    }
    for (int t = 0; t < DT_COUNT; t++) {
        if (dtype_table[t].block && !listed[t]) print_error("README.md does not list %s\n", dtype_table[t].name);
        assert_true(!dtype_table[t].block || listed[t]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_is_what_the_standard_says),
        cmocka_unit_test(rounding_to_half_is_to_nearest_even),
        cmocka_unit_test(rounding_to_bfloat_is_to_nearest_even),
        cmocka_unit_test(blocks_equal_the_published_arithmetic),
        cmocka_unit_test(odd_values_encode_to_something_defined),
        cmocka_unit_test(names_and_numbers_find_their_rows),
        cmocka_unit_test(the_words_are_the_rows),
        cmocka_unit_test(the_readme_lists_the_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
