/* Converting: what is written is opened again and compared with what was read, element by element.
 * The writer's files are also read by the published reader in tests/program/test_convert.py. */
#include "unit/unit.h"
#include "base/memory.h"
#include "format/convert.h"
#include "format/gguf_write.h"
#include "format/source.h"
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define DATA STRETTO_SOURCE_DIR "/tests/data/format/"

static char folder[] = "/tmp/stretto-convert-XXXXXX";
static char out[64], part[72];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(out, sizeof out, "%s/out.gguf", folder);
    snprintf(part, sizeof part, "%s.part", out);
    return 0;
}

static int drop_folder(void **state)
{
    (void)state;
    unlink(out);
    unlink(part);
    return rmdir(folder);
}

static bool is_there(const char *path) { return access(path, F_OK) == 0; }

static struct source *convert_and_open(const char *in, enum dtype type)
{
    struct error err = { 0 };
    struct source *s = NULL;
    struct convert_options o = { .type = type };
    unlink(out);
    if (convert(in, out, &o, &err) != STRETTO_OK) fprintf(stderr, "%s\n", err.text);
    assert_true(is_there(out) && !is_there(part));
    assert_int_equal(source_open(&s, out, &err), STRETTO_OK);
    return s;
}

/* Element (row, column) of a matrix { in, out } however it is stored. */
static float at(const struct source_tensor *t, uint64_t row, uint64_t column)
{
    float v[256];
    size_t stride = t->stride ? t->stride : (size_t)t->dims[t->transposed ? 1 : 0];
    size_t i = (size_t)(t->transposed ? column * stride + row : row * stride + column);
    const struct dtype_info *type = &dtype_table[t->type];
    type->decode((const char *)t->data + i / type->block * type->bytes, v, type->block);
    return v[i % type->block];
}

/* Every tensor of `a` has the same values in `b`, rows of q and k reordered when only a has halves.
 */
static void same_values(const struct source *a, const struct source *b, double error)
{
    uint64_t heads = 1, heads_kv = 1;
    source_u64(a, ".attention.head_count", &heads);
    source_u64(a, ".attention.head_count_kv", &heads_kv);
    bool turn = source_rope_halves(a) && !source_rope_halves(b);
    for (size_t i = 0; i < source_tensor_count(a); i++) {
        const struct source_tensor *x = source_tensor_at(a, i), *y = source_tensor_find(b, x->name);
        if (!y) fprintf(stderr, "no %s\n", x->name);
        assert_non_null(y);
        assert_int_equal(x->n_dims, y->n_dims);
        assert_memory_equal(x->dims, y->dims, sizeof x->dims);
        uint64_t h = !turn                        ? 0
                     : strstr(x->name, "attn_q.") ? heads
                     : strstr(x->name, "attn_k.") ? heads_kv
                                                  : 0;
        for (uint64_t r = 0; r < x->dims[1]; r++)
            for (uint64_t c = 0; c < x->dims[0]; c++) {
                uint64_t from = r;
                if (h) {                       /* (head, half j, i) stands at (head, i, j) */
                    uint64_t size = x->dims[1] / h, k = r % size;
                    from = r - k + k % 2 * (size / 2) + k / 2;
                }
                float want = at(x, from, c), got = at(y, r, c);
                if (source_norm_plus_one(a) && strstr(x->name, "norm")) want += 1;
                if (!(fabs((double)want - (double)got) <= error * fabs((double)want)))
                    assert_string_equal(x->name, "differs");
            }
    }
}

static void folders_keep_their_values(void **state)
{
    (void)state;
    const char *const paths[] = { DATA "hf-llama", DATA "hf-phi3", DATA "hf-gpt2" };
    /* Half an ulp of 24, 11 and 8 bits of mantissa. */
    const struct { enum dtype type; double error; } types[] = {
        { DT_F32, 0 }, { DT_F16, 1.0 / 2048 }, { DT_BF16, 1.0 / 256 } };
    for (size_t p = 0; p < 3; p++)
        for (size_t k = 0; k < 3; k++) {
            struct source *a, *b = convert_and_open(paths[p], types[k].type);
            assert_int_equal(source_open(&a, paths[p], NULL), STRETTO_OK);
            same_values(a, b, types[k].error);
            assert_string_equal(source_arch(a), source_arch(b));
            assert_false(source_rope_halves(b));
            const struct source_tensor *t = source_tensor_find(b, "blk.0.attn_output.weight");
            assert_true(t && t->type == types[k].type && !t->transposed);
            assert_int_equal(source_tensor_find(b, "output_norm.weight")->type, DT_F32);
            uint64_t x, y;
            assert_true(source_u64(a, ".embedding_length", &x));
            assert_true(source_u64(b, ".embedding_length", &y));
            assert_int_equal(x, y);
            source_close(a);
            source_close(b);
        }
}

/* Llama 3.1's factors for base 500000, 4 rotary dimensions, factor 8 over 1024 positions: the first
 * pair turns fast (1), the second slowly: its wave of 2 pi 707 is above 1024, so 8. */
static void llama3_scaling_becomes_a_tensor(void **state)
{
    (void)state;
    struct source *s = convert_and_open(DATA "hf-llama", DT_F32);
    const struct source_tensor *t = source_tensor_find(s, "rope_freqs.weight");
    assert_true(t && t->n_dims == 1 && t->dims[0] == 2);
    assert_true(at(t, 0, 0) == 1 && at(t, 0, 1) == 8);
    struct source_str str;
    assert_false(source_string(s, ".rope.scaling.type", &str));
    source_close(s);
}

static void files_keep_their_metadata_and_bytes(void **state)
{
    (void)state;
    struct source *a, *b = convert_and_open(DATA "all.gguf", DT_Q8_0);
    assert_int_equal(source_open(&a, DATA "all.gguf", NULL), STRETTO_OK);
    for (size_t i = 0; i < source_key_count(a); i++) {
        enum source_kind ka, kb, ea, eb;
        const char *key = source_key_at(a, i, &ka);
        size_t na = 0, nb = 0, k = 0;
        struct source_str sa = { 0 }, sb = { 0 };
        while (k < source_key_count(b) && strcmp(source_key_at(b, k, &kb), key) != 0) k++;
        assert_true(k < source_key_count(b) && ka == kb);
        if (source_string(a, key, &sa))
            assert_true(source_string(b, key, &sb) && sa.n == sb.n && !memcmp(sa.p, sb.p, sa.n));
        if (!source_array(a, key, &ea, &na)) continue;
        assert_true(source_array(b, key, &eb, &nb) && ea == eb && na == nb);
        for (size_t e = 0; e < na && ea == SOURCE_STRING; e++) {
            assert_true(source_array_string(a, key, e, &sa) && source_array_string(b, key, e, &sb));
            assert_true(sa.n == sb.n && !memcmp(sa.p, sb.p, sa.n));
        }
    }
    /* The same type is copied, not rounded again; 64 and 32 columns fit the blocks. */
    const struct source_tensor *x = source_tensor_find(a, "q8_0.weight"),
                               *y = source_tensor_find(b, "q8_0.weight");
    assert_true(x && y && x->type == y->type && x->bytes == y->bytes);
    assert_memory_equal(x->data, y->data, x->bytes);
    assert_int_equal(source_tensor_find(b, "f32.weight")->type, DT_Q8_0);
    assert_int_equal(source_tensor_find(b, "norm.weight")->type, DT_F32);
    source_close(a);
    source_close(b);
    a = convert_and_open(DATA "split-00001-of-00002.gguf", DT_F32);
    assert_int_equal(source_tensor_count(a), 3);
    uint64_t parts;
    assert_false(source_u64(a, "split.count", &parts));
    source_close(a);
}

static void rows_that_fit_no_block_are_kept_finer(void **state)
{
    (void)state;
    struct source *s = convert_and_open(DATA "hf-llama", DT_Q8_0);
    assert_int_equal(source_tensor_find(s, "token_embd.weight")->type, DT_F16);
    source_close(s);
}

static void existing_files_are_spared(void **state)
{
    (void)state;
    struct error err = { 0 };
    struct convert_options o = { .type = DT_F32 };
    int fd = open(out, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_int_equal(write(fd, "mine", 4), 4);
    close(fd);
    assert_int_equal(convert(DATA "hf-phi3", out, &o, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "--force"));
    struct stat st;
    assert_true(stat(out, &st) == 0 && st.st_size == 4 && !is_there(part));
    o.force = true;
    err = (struct error){ 0 };
    assert_int_equal(convert(DATA "hf-phi3", out, &o, &err), STRETTO_OK);
    assert_true(stat(out, &st) == 0 && st.st_size > 4);
    err = (struct error){ 0 };
    assert_int_equal(convert(DATA "hf-phi3", folder, &o, &err), STRETTO_E_ARG);
    err = (struct error){ 0 };
    assert_int_equal(convert(DATA "hf-phi3", "/nonexistent/x.gguf", &o, &err), STRETTO_E_IO);
    err = (struct error){ 0 };
    assert_int_equal(convert(DATA "none.gguf", out, &o, &err), STRETTO_E_IO);
    o.type = DT_Q8_1;
    err = (struct error){ 0 };
    assert_int_equal(convert(DATA "hf-phi3", out, &o, &err), STRETTO_E_ARG);
}

/* A limit on file sizes stands for a disk that fills up. */
static void a_full_disk_leaves_nothing(void **state)
{
    (void)state;
    struct rlimit old, small;
    unlink(out);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){ .rlim_cur = 1000, .rlim_max = old.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct error err = { 0 };
    struct convert_options o = { .type = DT_F32 };
    stretto_status st = convert(DATA "hf-phi3", out, &o, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(st, STRETTO_E_IO);
    assert_non_null(strstr(err.text, "make room"));
    assert_true(!is_there(out) && !is_there(part));
}

static void cancelling_leaves_nothing(void **state)
{
    (void)state;
    unlink(out);
    volatile sig_atomic_t cancel = 1;
    struct error err = { 0 };
    struct convert_options o = { .type = DT_F32, .cancel = &cancel };
    assert_int_equal(convert(DATA "hf-phi3", out, &o, &err), STRETTO_E_CANCEL);
    assert_true(!is_there(out) && !is_there(part));
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct convert_options o = { .type = DT_F16 };
    unlink(out);
    for (uint64_t n = 1;; n++) {
        struct error err = { 0 };
        mem_fail_at(n);
        stretto_status st = convert(DATA "hf-gpt2", out, &o, &err);
        mem_fail_at(0);
        if (st == STRETTO_OK) {
            assert_true(n > 20);
            break;
        }
        assert_int_equal(st, STRETTO_E_NOMEM);
        assert_true(err.text[0] && !is_there(out) && !is_there(part));
    }
}

static void values_a_type_cannot_hold_are_refused(void **state)
{
    (void)state;
    const float values[] = { 1e6f, NAN, -INFINITY };
    for (size_t i = 0; i < 3; i++) {
        char in[64];
        snprintf(in, sizeof in, "%s/in.gguf", folder);
        float row[32] = { 1, 2, values[i] };
        struct gguf_writer *w;
        struct error err = { 0 };
        const uint64_t dims[] = { 32, 1 };
        assert_int_equal(gguf_writer_open(&w, in, true, &err), STRETTO_OK);
        assert_int_equal(gguf_put_tensor(w, "t.weight", DT_F32, 2, dims, &err), STRETTO_OK);
        assert_int_equal(gguf_begin_data(w, &err), STRETTO_OK);
        assert_int_equal(gguf_finish(w, &err), STRETTO_E_ARG);          /* not all written yet */
        err = (struct error){ 0 };
        assert_int_equal(gguf_write(w, row, sizeof row, &err), STRETTO_OK);
        assert_int_equal(gguf_write(w, row, 1, &err), STRETTO_E_ARG);
        err = (struct error){ 0 };
        assert_int_equal(gguf_finish(w, &err), STRETTO_OK);
        gguf_writer_close(w);
        struct convert_options o = { .type = DT_F16, .force = true };
        assert_int_not_equal(convert(in, out, &o, &err), STRETTO_OK);
        assert_non_null(strstr(err.text, i == 0 ? "too large" : "not finite"));
        unlink(in);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_keep_their_values),
        cmocka_unit_test(llama3_scaling_becomes_a_tensor),
        cmocka_unit_test(files_keep_their_metadata_and_bytes),
        cmocka_unit_test(rows_that_fit_no_block_are_kept_finer),
        cmocka_unit_test(existing_files_are_spared),
        cmocka_unit_test(a_full_disk_leaves_nothing),
        cmocka_unit_test(cancelling_leaves_nothing),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(values_a_type_cannot_hold_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
