/* Tokenizers against vectors that llama.cpp publishes (made with the models' own tokenizers), a real
 * model, malformed text, and a heap that fails at every allocation in turn. */
#include "unit/unit.h"
#include "base/file.h"
#include "base/memory.h"
#include "format/source.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

#define DIE(...) do { print_error(__VA_ARGS__); print_error("\n"); _fail(__FILE__, __LINE__); } while (0)
#define DATA STRETTO_TEST_DATA "/"
#define SMOLLM STRETTO_TEST_MODELS "/SmolLM2-135M-Instruct.Q4_1.gguf"

struct opened { struct source *src; struct tokenizer *t; };

static struct opened open_file(const char *path)
{
    struct opened o = { 0 };
    struct error err = { 0 };
    if (source_open(&o.src, path, &err) != STRETTO_OK) DIE("%s", err.text);
    if (tokenizer_open(&o.t, o.src, &err) != STRETTO_OK) DIE("%s", err.text);
    return o;
}

static void close_file(struct opened *o)
{
    tokenizer_close(o->t);
    source_close(o->src);
}

static struct file_map map_file(const char *path)
{
    struct file_map m;
    struct error err = { 0 };
    if (file_map_open(&m, path, &err) != STRETTO_OK) DIE("%s", err.text);
    return m;
}

static size_t encode(const struct tokenizer *t, const char *p, size_t n, unsigned flags,
                     struct tokens *out)
{
    struct error err = { 0 };
    out->n = 0;
    if (tokenizer_encode(t, p, n, flags, out, &err) != STRETTO_OK) DIE("%s", err.text);
    return out->n;
}

/* ---- published vectors ------------------------------------------------------------------------------ */

static void check_vectors(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, DATA "tokenizer/%s.gguf", name);
    struct opened o = open_file(path);
    snprintf(path, sizeof path, DATA "tokenizer/%s.gguf.inp", name);
    struct file_map in = map_file(path);
    snprintf(path, sizeof path, DATA "tokenizer/%s.gguf.out", name);
    struct file_map want = map_file(path);
    static const char border[] = "\n__ggml_vocab_test__\n";
    const char *p = (const char *)in.data, *end = p + in.size;
    const char *w = (const char *)want.data, *w_end = w + want.size;
    struct tokens got = { 0 };
    size_t cases = 0;
    while (p < end) {
        const char *stop = memmem(p, (size_t)(end - p), border, sizeof border - 1);
        if (!stop) break;
        encode(o.t, p, (size_t)(stop - p), 0, &got);
        const char *line_end = memchr(w, '\n', (size_t)(w_end - w));
        assert_non_null(line_end);
        size_t k = 0;
        for (;; k++) {
            while (w < line_end && *w == ' ') w++;
            if (w == line_end) break;
            char *after;
            long id = strtol(w, &after, 10);
            w = after;
            if (k >= got.n || got.id[k] != id)
                DIE("%s, text %zu \"%.*s\": token %zu is %d, not %ld", name, cases,
                         (int)(stop - p), p, k, k < got.n ? got.id[k] : -1, id);
        }
        if (k != got.n) DIE("%s, text %zu: %zu tokens, not %zu", name, cases, got.n, k);
        w = line_end + 1;
        p = stop + sizeof border - 1;
        cases++;
    }
    assert_true(cases > 40);
    assert_true(w == w_end);
    tokens_done(&got);
    file_map_close(&in);
    file_map_close(&want);
    close_file(&o);
}

static void vectors_bert(void **state) { (void)state; check_vectors("ggml-vocab-bert-bge"); }
static void vectors_falcon(void **state) { (void)state; check_vectors("ggml-vocab-falcon"); }
static void vectors_gpt2(void **state) { (void)state; check_vectors("ggml-vocab-gpt-2"); }
static void vectors_phi3(void **state) { (void)state; check_vectors("ggml-vocab-phi-3"); }
static void vectors_qwen2(void **state) { (void)state; check_vectors("ggml-vocab-qwen2"); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_bert), cmocka_unit_test(vectors_falcon),
        cmocka_unit_test(vectors_gpt2), cmocka_unit_test(vectors_phi3),
        cmocka_unit_test(vectors_qwen2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
