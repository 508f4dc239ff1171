/* Packed files: what was packed comes back bit for bit, for every type; the entropy coder beside the entropy; files
 * that are cut or changed are refused. */
#include "base/memory.h"
#include "base/random.h"
#include "format/gguf_write.h"
#include "format/pack.h"
#include "format/pack_fields.h"
#include "format/rans.h"
#include "format/source.h"
#include "unit/unit.h"
#include <math.h>
#include <unistd.h>

static uint64_t seed = 1;

/* Roughly normal, rounded. */
static uint8_t bell(double spread)
{
    double s = 0;
    for (int i = 0; i < 6; i++) s += random_unit(random_mix(seed++)) - 0.5;
    return (uint8_t)(int)lround(128 + spread * s);
}

static double entropy(const uint8_t *p, size_t n)
{
    double bits = 0;
    size_t count[256] = { 0 };
    for (size_t i = 0; i < n; i++) count[p[i]]++;
    for (size_t b = 0; b < 256; b++)
        if (count[b]) bits -= (double)count[b] * log2((double)count[b] / (double)n);
    return bits / 8;
}

static void coding_is_near_the_entropy(void **state)
{
    (void)state;
    enum { N = 100003 };
    static uint8_t in[N], out[N];
    uint8_t *coded = mem_alloc(rans_bound(N));
    for (double spread = 0.01; spread < 60; spread *= 3) {
        for (size_t i = 0; i < N; i++) in[i] = bell(spread);
        size_t bytes = rans_encode(in, N, coded);
        assert_true(bytes > 0 && (double)bytes < 1.01 * entropy(in, N) + 700);
        assert_true(rans_decode(coded, bytes, out, N));
        assert_memory_equal(in, out, N);
        assert_false(rans_decode(coded, bytes - 1, out, N));
        if (spread > 1) assert_false(rans_decode(coded, bytes, out, N - 1));
        for (size_t at = 0; at < bytes; at += bytes / 97 + 1) {       /* refused or not, nothing else happens */
            coded[at] ^= 4;
            rans_decode(coded, bytes, out, N);
            coded[at] ^= 4;
        }
    }
    for (size_t i = 0; i < N; i++) in[i] = (uint8_t)random_mix(seed++);
    assert_int_equal(rans_encode(in, N, coded), 0);
    for (size_t n = 0; n < 300; n++) {
        memset(in, 7, n);
        size_t bytes = rans_encode(in, n, coded);
        assert_true(bytes < n || !bytes);
        if (bytes) assert_true(rans_decode(coded, bytes, out, n));
    }
    mem_free(coded);
}

static void blocks_come_apart_and_together(void **state)
{
    (void)state;
    enum { BLOCKS = 37 };
    static uint8_t in[BLOCKS * 256], back[BLOCKS * 256], streams[4 * BLOCKS * 256];
    for (int t = 0; t <= DT_COUNT; t++) {
        struct fields f;
        if (t < DT_COUNT && !dtype_table[t].block) continue;
        fields_of((enum dtype)t, &f);
        assert_true(f.n <= FIELDS_MOST && fields_bytes(&f, BLOCKS) <= sizeof streams);
        assert_true(fields_bytes(&f, 1) <= 3 * f.block);
        for (size_t i = 0; i < BLOCKS * f.block; i++) in[i] = (uint8_t)random_mix(seed++);
        fields_split(&f, in, BLOCKS, streams);
        memset(back, 0xee, sizeof back);
        fields_join(&f, streams, BLOCKS, back);
        assert_memory_equal(in, back, BLOCKS * f.block);
    }
}

static char folder[] = "/tmp/pack-XXXXXX", plain[64], packed[64], again[64];

/* A tensor of every type, and metadata. */
static void write_plain(void)
{
    struct gguf_writer *w;
    struct error e = { 0 };
    static uint8_t bytes[1 << 20];
    assert_int_equal(gguf_writer_open(&w, plain, true, &e), STRETTO_OK);
    gguf_put_string(w, "general.architecture", "llama", 5);
    gguf_put_string(w, "general.name", "test", 4);
    for (int pass = 0; pass < 2; pass++) {
        for (int t = 0; t < DT_COUNT; t++) {
            uint64_t dims[2] = { 256, (uint64_t)(t == DT_F32 ? 1500 : 40 + t) };
            size_t n = dims[1] * 256;
            if (!dtype_table[t].block) continue;
            size_t all = dtype_bytes((enum dtype)t, n);
            const char *name = dtype_table[t].name;
            if (!pass) assert_int_equal(gguf_put_tensor(w, name, (enum dtype)t, 2, dims, &e), STRETTO_OK);
            for (size_t at = 0, k; pass && at < all; at += k) {
                k = all - at < sizeof bytes ? all - at : sizeof bytes;
                for (size_t i = 0; i < k; i++) bytes[i] = bell(20);
                assert_int_equal(gguf_write(w, bytes, k, &e), STRETTO_OK);
            }
        }
        if (!pass) assert_int_equal(gguf_begin_data(w, &e), STRETTO_OK);
    }
    assert_int_equal(gguf_finish(w, &e), STRETTO_OK);
    gguf_writer_close(w);
}

static void same_files(const char *a, const char *b)
{
    struct file_map x, y;
    struct error e = { 0 };
    assert_int_equal(file_map_open(&x, a, &e), STRETTO_OK);
    assert_int_equal(file_map_open(&y, b, &e), STRETTO_OK);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    file_map_close(&x);
    file_map_close(&y);
}

static void a_file_comes_back(void **state)
{
    (void)state;
    struct pack_options o = { 0 };
    struct pack_report r;
    struct error e = { 0 };
    struct source *a, *b;
    write_plain();
    assert_int_equal(pack_file(plain, packed, &o, &r, &e), STRETTO_OK);
    assert_true(r.packed < r.bytes);
    assert_int_equal(unpack_file(packed, again, &o, &r, &e), STRETTO_OK);
    same_files(plain, again);
    assert_int_equal(source_open(&a, plain, &e), STRETTO_OK);
    assert_int_equal(source_open(&b, packed, &e), STRETTO_OK);
    assert_string_equal(source_arch(b), "llama");
    assert_int_equal(source_tensor_count(a), source_tensor_count(b));
    for (size_t i = 0; i < source_tensor_count(a); i++) {
        const struct source_tensor *x = source_tensor_at(a, i), *y = source_tensor_at(b, i);
        assert_string_equal(x->name, y->name);
        assert_memory_equal(x->data, y->data, x->bytes);
    }
    source_close(a);
    source_close(b);
    assert_int_equal(pack_file(plain, packed, &o, &r, &e), STRETTO_E_ARG);         /* it is there */
    o.force = true;
    e = (struct error){ 0 };
    assert_int_equal(pack_file(packed, again, &o, &r, &e), STRETTO_E_ARG);
    assert_non_null(strstr(e.text, "packed already"));
    e = (struct error){ 0 };
    assert_int_equal(unpack_file(plain, again, &o, &r, &e), STRETTO_E_ARG);
    assert_non_null(strstr(e.text, "not a packed model"));
}

static void put_bytes(const char *path, const uint8_t *p, size_t n)
{
    struct error e = { 0 };
    assert_int_equal(file_write(path, p, n, true, &e), STRETTO_OK);
}

/* Cut anywhere, or with a byte changed, it is refused with a sentence, or opens as what it was. */
static void damage_is_noticed(void **state)
{
    (void)state;
    struct file_map m;
    struct error e = { 0 };
    size_t opened = 0;
    assert_int_equal(file_map_open(&m, packed, &e), STRETTO_OK);
    uint8_t *copy = mem_alloc(m.size);
    memcpy(copy, m.data, m.size);
    for (int i = 0; i < 60; i++) {
        struct source *s;
        size_t at = i < 30 ? m.size - 1 - (size_t)i * 17 : (size_t)random_mix(seed++) % m.size;
        e = (struct error){ 0 };
        copy[at] ^= 0x10;
        put_bytes(again, copy, m.size);
        copy[at] ^= 0x10;
        if (source_open(&s, again, &e) == STRETTO_OK) opened++;
        else assert_true(strlen(e.text) > 20);
        source_close(s);
    }
    assert_true(opened <= 3);                          /* bytes of the header that nothing depends on */
    for (int i = 1; i < 20; i++) {
        struct source *s;
        e = (struct error){ 0 };
        put_bytes(again, copy, m.size - (size_t)i * (m.size / 21));
        assert_int_not_equal(source_open(&s, again, &e), STRETTO_OK);
        assert_non_null(strstr(e.text, "not whole"));
    }
    mem_free(copy);
    file_map_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(coding_is_near_the_entropy), cmocka_unit_test(blocks_come_apart_and_together),
        cmocka_unit_test(a_file_comes_back), cmocka_unit_test(damage_is_noticed),
    };
    if (!mkdtemp(folder)) return 1;
    snprintf(plain, sizeof plain, "%s/plain.gguf", folder);
    snprintf(packed, sizeof packed, "%s/packed.gguf", folder);
    snprintf(again, sizeof again, "%s/again.gguf", folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(plain), unlink(packed), unlink(again), rmdir(folder);
    return failed;
}
