/* GGUF files written by the published writer (tools/make_gguf_golden.py), and the same bytes
 * damaged. */
#include "unit/unit.h"
#include "base/file.h"
#include "base/memory.h"
#include "format/source.h"
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DATA STRETTO_SOURCE_DIR "/tests/data/format/"

static struct source *open_ok(const char *path)
{
    struct source *s;
    struct error err = { 0 };
    if (source_open(&s, path, &err) != STRETTO_OK) fprintf(stderr, "%s\n", err.text);
    assert_non_null(s);
    return s;
}

static void values_of_every_kind(void **state)
{
    (void)state;
    struct source *s = open_ok(DATA "all.gguf");
    assert_string_equal(source_format(s), "GGUF v3");
    assert_string_equal(source_arch(s), "llama");
    uint64_t u;
    double f;
    bool b;
    struct source_str str;
    assert_true(source_u64(s, "k.u8", &u) && u == 200);
    assert_true(source_u64(s, "k.u16", &u) && u == 60000);
    assert_true(source_u64(s, "k.u32", &u) && u == 4000000000u);
    assert_true(source_u64(s, "k.u64", &u) && u == 18000000000000000000u);
    assert_true(source_f64(s, "k.i8", &f) && f == -100);
    assert_true(source_f64(s, "k.i16", &f) && f == -30000);
    assert_true(source_f64(s, "k.i32", &f) && f == -2000000000);
    assert_true(source_f64(s, "k.f32", &f) && f == (double)0.1f);
    assert_true(source_f64(s, "k.f64", &f) && f == 0.1);
    assert_true(source_u64(s, "k.whole", &u) && u == 4096);
    assert_true(source_u64(s, ".block_count", &u) && u == 2);
    assert_true(source_bool(s, "k.yes", &b) && b);
    assert_true(source_string(s, "k.string", &str) && str.n == 7 &&
                !memcmp(str.p,
                        "gr\xc3\xbc\xc3\x9f"
                        "e",
                        7));
    assert_true(source_string(s, "k.empty", &str) && str.n == 0);
    /* Not exact, another kind, or absent: no answer. */
    assert_false(source_u64(s, "k.i8", &u));
    assert_false(source_u64(s, "k.f32", &u));
    assert_false(source_f64(s, "k.u64", &f));
    assert_false(source_f64(s, "k.i64", &f));
    assert_false(source_u64(s, "k.yes", &u));
    assert_false(source_u64(s, "k.string", &u));
    assert_false(source_bool(s, "k.u8", &b));
    assert_false(source_string(s, "k.strings", &str));
    assert_false(source_u64(s, "absent", &u));
    assert_false(source_u64(s, ".absent", &u));
    source_close(s);
}

static void arrays(void **state)
{
    (void)state;
    struct source *s = open_ok(DATA "all.gguf");
    enum source_kind kind;
    size_t n;
    int64_t i;
    double f;
    struct source_str str;
    assert_true(source_array(s, "k.ints", &kind, &n) && kind == SOURCE_I64 && n == 3);
    assert_true(source_array_i64(s, "k.ints", 0, &i) && i == -1);
    assert_true(source_array_f64(s, "k.ints", 2, &f) && f == 70000);
    assert_false(source_array_i64(s, "k.ints", 3, &i));
    assert_true(source_array(s, "k.floats", &kind, &n) && kind == SOURCE_F64 && n == 2);
    assert_true(source_array_f64(s, "k.floats", 0, &f) && f == 0.5);
    assert_true(source_array_i64(s, "k.floats", 1, &i) && i == -2);
    assert_false(source_array_i64(s, "k.floats", 0, &i));
    assert_true(source_array(s, "k.bools", &kind, &n) && kind == SOURCE_BOOL && n == 3);
    assert_true(source_array_i64(s, "k.bools", 2, &i) && i == 1);
    assert_true(source_array(s, "k.strings", &kind, &n) && kind == SOURCE_STRING && n == 4);
    assert_true(source_array_string(s, "k.strings", 1, &str) && str.n == 0);
    assert_true(source_array_string(s, "k.strings", 2, &str) && str.n == 6);
    assert_true(source_array_string(s, "k.strings", 3, &str) && str.n == 300 && str.p[299] == 'x');
    assert_false(source_array_string(s, "k.strings", 4, &str));
    assert_false(source_array_string(s, "k.ints", 0, &str));
    source_close(s);
}

static void check_ramp(const struct source *s, const char *name, enum dtype type, uint64_t in,
                       uint64_t out, float first, float tolerance)
{
    const struct source_tensor *t = source_tensor_find(s, name);
    assert_non_null(t);
    assert_int_equal(t->type, type);
    assert_int_equal(t->dims[0], in);
    assert_int_equal(t->dims[1], out);
    assert_int_equal(t->dims[2] * t->dims[3], 1);
    assert_int_equal(t->bytes, dtype_bytes(type, in * out));
    assert_int_equal((uintptr_t)t->data % 32, 0);
    float got[256];
    dtype_table[type].decode(t->data, got, in * out);
    for (uint64_t i = 0; i < in * out; i++) {
        float want = (float)i / 8 - 1 + first, d = got[i] - want;
        if (d < -tolerance || d > tolerance) assert_string_equal(name, "off");
    }
}

static void tensors(void **state)
{
    (void)state;
    struct source *s = open_ok(DATA "all.gguf");
    assert_int_equal(source_tensor_count(s), 6);
    check_ramp(s, "f32.weight", DT_F32, 64, 3, 0, 0);
    check_ramp(s, "f16.weight", DT_F16, 32, 2, 0, 0);
    check_ramp(s, "norm.weight", DT_F32, 5, 1, 0, 0);
    /* 8 bits of mantissa: eighths up to 15 are within 1/32. Blocks reach 15: half a step is
     * 15/127/2, and 15/8 at the end where Q4_0's range is cut. */
    check_ramp(s, "bf16.weight", DT_BF16, 64, 2, 0, 1.0f / 32);
    check_ramp(s, "q8_0.weight", DT_Q8_0, 64, 2, 0, 15.0f / 127 / 2 + 0.01f);
    check_ramp(s, "q4_0.weight", DT_Q4_0, 64, 2, 0, 15.0f / 8 + 0.01f);
    assert_null(source_tensor_find(s, "f32"));
    assert_null(source_tensor_find(s, ""));
    source_close(s);
}

static void parts_are_one_model(void **state)
{
    (void)state;
    struct source *s = open_ok(DATA "split-00001-of-00002.gguf");
    assert_int_equal(source_tensor_count(s), 3);
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "t%d.weight", i);
        check_ramp(s, name, DT_F32, 4, 2, (float)i, 0);
    }
    source_close(s);
    struct error err = { 0 };
    assert_int_equal(source_open(&s, DATA "split-00002-of-00002.gguf", &err), STRETTO_E_ARG);
    assert_null(s);
    assert_non_null(strstr(err.text, "-00001-of-00002.gguf"));
}

/* ---- damage --------------------------------------------------------------------------------- */

static unsigned char *copy_of(const char *path, size_t *n)
{
    struct file_map m;
    assert_int_equal(file_map_open(&m, path, NULL), STRETTO_OK);
    unsigned char *p = malloc(m.size);
    assert_non_null(p);
    memcpy(p, m.data, m.size);
    *n = m.size;
    file_map_close(&m);
    return p;
}

static stretto_status open_bytes(const void *p, size_t n, struct error *err)
{
    int fd = memfd_create("gguf", MFD_CLOEXEC);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    assert_int_equal(write(fd, p, n), n);
    struct source *s;
    *err = (struct error){ 0 };
    stretto_status st = source_open(&s, path, err);
    assert_true((st == STRETTO_OK) == (s != NULL));
    assert_true((st == STRETTO_OK) == (err->text[0] == '\0'));
    source_close(s);
    close(fd);
    return st;
}

static unsigned char *find(unsigned char *p, size_t n, const char *text)
{
    unsigned char *at = memmem(p, n, text, strlen(text));
    assert_non_null(at);
    return at;
}

/* Only the padding after the last tensor may be missing. */
static void every_truncation_is_an_error(void **state)
{
    (void)state;
    size_t n;
    unsigned char *p = copy_of(DATA "all.gguf", &n);
    struct error err;
    assert_int_equal(open_bytes(p, n, &err), STRETTO_OK);
    for (size_t cut = 0; cut < n - 32; cut++)
        if (open_bytes(p, cut, &err) == STRETTO_OK) assert_int_equal(cut, -1);
    free(p);
}

static void every_flipped_bit_is_survived(void **state)
{
    (void)state;
    size_t n;
    unsigned char *p = copy_of(DATA "all.gguf", &n);
    struct error err;
    size_t refused = 0;
    for (size_t i = 0; i < n && i < 2048; i++)
        for (int bit = 0; bit < 8; bit += 3) {
            p[i] ^= (unsigned char)(1 << bit);
            if (open_bytes(p, n, &err) != STRETTO_OK) refused++;
            p[i] ^= (unsigned char)(1 << bit);
        }
    assert_true(refused > 100);
    free(p);
}

/* Where in all.gguf: after the name of the tensor come n_dims, dims, type and offset. */
static void hostile_numbers_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const struct { const char *near; int at, size; uint64_t value; stretto_status want;
                          const char *word; } rows[] = {
        { "GGUF", 4, 4, 1, STRETTO_E_UNSUP, "version 1" },
        { "GGUF", 4, 4, 0x03000000, STRETTO_E_UNSUP, "big-endian" },
        { "GGUF", 8, 8, UINT64_MAX, STRETTO_E_FORMAT, "claims" },
        { "GGUF", 8, 8, 100000, STRETTO_E_FORMAT, "ends" },
        { "GGUF", 16, 8, UINT64_MAX / 2, STRETTO_E_FORMAT, "claims" },
        { "k.u8", -8, 8, UINT64_MAX, STRETTO_E_FORMAT, "ends" },
        { "k.u8", -8, 8, 0, STRETTO_E_FORMAT, "name" },
        { "k.u8", 4, 4, 13, STRETTO_E_FORMAT, "value type 13" },
        { "k.u8", 0, 1, '\n', STRETTO_E_FORMAT, "control" },
        { "k.i16", 2, 1, 'u', STRETTO_E_FORMAT, "twice" },
        { "k.ints", 10, 4, 99, STRETTO_E_FORMAT, "type 99" },
        { "k.ints", 14, 8, (uint64_t)1 << 62, STRETTO_E_FORMAT, "ends" },
        { "k.strings", 17, 8, (uint64_t)1 << 61, STRETTO_E_FORMAT, "ends" },
        { "k.string", 12, 8, UINT64_MAX, STRETTO_E_FORMAT, "ends" },
        { "f32.weight", 10, 4, 5, STRETTO_E_FORMAT, "5 dimensions" },
        { "f32.weight", 10, 4, 0, STRETTO_E_FORMAT, "0 dimensions" },
        { "f32.weight", 14, 8, 0, STRETTO_E_FORMAT, "zero" },
        { "f32.weight", 14, 8, (uint64_t)1 << 63, STRETTO_E_FORMAT, "overflow" },
        { "f32.weight", 22, 8, (uint64_t)1 << 60, STRETTO_E_FORMAT, "overflow" },
        { "f32.weight", 22, 8, 4000, STRETTO_E_FORMAT, "outside" },
        { "f32.weight", 30, 4, DT_Q8_1, STRETTO_E_UNSUP, "Q8_1" },
        { "f32.weight", 30, 4, 12345, STRETTO_E_FORMAT, "unknown type number 12345" },
        { "f32.weight", 34, 8, 8, STRETTO_E_FORMAT, "aligned" },
        { "f32.weight", 34, 8, UINT64_MAX - 31, STRETTO_E_FORMAT, "outside" },
        { "q8_0.weight", 15, 8, 33, STRETTO_E_FORMAT, "block of 32" },
        { "f16.weight", 0, 3, 'f' | '3' << 8 | '2' << 16, STRETTO_E_FORMAT, "twice" },
    };
    size_t n;
    unsigned char *p = copy_of(DATA "all.gguf", &n);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        unsigned char *at = find(p, n, rows[i].near) + rows[i].at, saved[8];
        memcpy(saved, at, 8);
        for (int b = 0; b < rows[i].size; b++) at[b] = (unsigned char)(rows[i].value >> 8 * b);
        struct error err;
        stretto_status st = open_bytes(p, n, &err);
        if (st != rows[i].want || (rows[i].word && !strstr(err.text, rows[i].word)))
            fprintf(stderr, "row %zu: %d \"%s\"\n", i, st, err.text);
        assert_int_equal(st, rows[i].want);
        if (rows[i].word) assert_non_null(strstr(err.text, rows[i].word));
        memcpy(at, saved, 8);
    }
    free(p);
}

static void what_is_no_gguf_says_so(void **state)
{
    (void)state;
    struct source *s;
    struct error err = { 0 };
    assert_int_equal(source_open(&s, "/nonexistent/model.gguf", &err), STRETTO_E_IO);
    assert_non_null(strstr(err.text, "No such file"));
    assert_int_equal(open_bytes("", 0, &err), STRETTO_E_FORMAT);
    assert_int_equal(open_bytes("PK\3\4abcdefgh", 12, &err), STRETTO_E_UNSUP);
    assert_int_equal(open_bytes("tjgg\1\0\0\0\0\0", 10, &err), STRETTO_E_UNSUP);
    assert_int_equal(open_bytes("\20\0\0\0\0\0\0\0{\"a\":1}", 15, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "folder"));
    assert_int_equal(open_bytes("version https://git-lfs", 23, &err), STRETTO_E_FORMAT);
    assert_non_null(strstr(err.text, "LFS"));
}

/* STYLE: fault. Every allocation of an open fails once; each time a status, no leak (ASan), no
 * harm. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    const char *const paths[] = { DATA "all.gguf", DATA "split-00001-of-00002.gguf" };
    for (size_t i = 0; i < 2; i++) {
        uint64_t n = 1;
        for (;; n++) {
            struct source *s;
            struct error err = { 0 };
            mem_fail_at(n);
            stretto_status st = source_open(&s, paths[i], &err);
            mem_fail_at(0);
            if (st == STRETTO_OK) {
                source_close(s);
                break;
            }
            assert_int_equal(st, STRETTO_E_NOMEM);
            assert_non_null(strstr(err.text, "memory"));
            assert_null(s);
        }
        assert_true(n > 5);
    }
}

static void published_vocabularies_open(void **state)
{
    (void)state;
    static const struct { const char *name, *arch; size_t tokens; } rows[] = {
        { "bert-bge", "bert", 30522 }, { "falcon", "falcon", 65024 }, { "gpt-2", "gpt2", 50257 },
        { "phi-3", "phi3", 32064 }, { "qwen2", "qwen2", 151936 },
    };
    struct stat st;
    if (stat(STRETTO_TEST_DATA "/tokenizer", &st) != 0) {
        printf("skip: no data set %s\n", STRETTO_TEST_DATA "/tokenizer");
        skip();
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/tokenizer/ggml-vocab-%s.gguf", STRETTO_TEST_DATA,
                 rows[i].name);
        struct source *s = open_ok(path);
        enum source_kind kind;
        size_t n;
        struct source_str str;
        assert_string_equal(source_arch(s), rows[i].arch);
        assert_int_equal(source_tensor_count(s), 0);
        assert_true(source_array(s, "tokenizer.ggml.tokens", &kind, &n));
        assert_int_equal(n, rows[i].tokens);
        assert_int_equal(kind, SOURCE_STRING);
        assert_true(source_array_string(s, "tokenizer.ggml.tokens", n - 1, &str));
        source_close(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_every_kind), cmocka_unit_test(arrays), cmocka_unit_test(tensors),
        cmocka_unit_test(parts_are_one_model), cmocka_unit_test(every_truncation_is_an_error),
        cmocka_unit_test(every_flipped_bit_is_survived),
        cmocka_unit_test(hostile_numbers_are_refused_with_a_reason),
        cmocka_unit_test(what_is_no_gguf_says_so), cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(published_vocabularies_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
