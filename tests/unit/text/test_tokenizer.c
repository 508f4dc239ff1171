/* Tokenizers against vectors that llama.cpp publishes (made with the models' own tokenizers), a real
 * model, malformed text, and a heap that fails at every allocation in turn. */
#include "unit/unit.h"
#include "base/file.h"
#include "base/memory.h"
#include "format/gguf_write.h"
#include "format/source.h"
#include "text/pretok.h"
#include "text/tokenizer.h"
#include "text/unicode.h"
#include <unistd.h>

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
    size_t covers = tokenizer_covers(t);
    out->n = 0;
    if (tokenizer_encode(t, p, n, flags, out, &err) != STRETTO_OK) DIE("%s", err.text);
    if (covers) assert_true(out->n * covers >= n);    /* whatever was made of it: no fewer than this */
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


/* ---- round trips ------------------------------------------------------------------------------------ */

/* Where every byte has a token, any bytes come back as they were, malformed UTF-8 included. */
static void check_round_trip(const struct tokenizer *t, const char *p, size_t n, unsigned flags)
{
    struct tokens ids = { 0 };
    struct buffer back = buffer_make((size_t)1 << 30);
    encode(t, p, n, flags, &ids);
    assert_int_equal(tokenizer_decode(t, ids.id, ids.n, true, &back), STRETTO_OK);
    if (back.len != n || (n && memcmp(back.data, p, n) != 0)) {
        size_t i = 0;
        while (i < n && i < back.len && back.data[i] == p[i]) i++;
        DIE("%s: byte %zu of %zu does not come back (%zu came)", tokenizer_kind(t), i, n, back.len);
    }
    buffer_done(&back);
    tokens_done(&ids);
}

static void bytes_come_back(void **state)
{
    (void)state;
    /* (Falcon's vocabulary lacks some bytes.) */
    static const char *const models[] = { "gpt-2", "qwen2", "phi-3" };
    static const char *const texts[] = { "UTF-8-test.txt", "UTF-8-demo.txt", "blns.txt" };
    static const char odd[] = "\0\0 \xFF\xFE\xC3\x28 \xED\xA0\x80 \xF4\x90\x80\x80 a\xE2\x82 b\0";
    for (size_t i = 0; i < 3; i++) {
        char path[512];
        snprintf(path, sizeof path, DATA "tokenizer/ggml-vocab-%s.gguf", models[i]);
        struct opened o = open_file(path);
        for (size_t k = 0; k < 3; k++) {
            if (i == 2 && k == 1) continue;      /* it holds U+2581, which means a space to phi-3 */
            snprintf(path, sizeof path, DATA "utf8/%s", texts[k]);
            struct file_map m = map_file(path);
            check_round_trip(o.t, (const char *)m.data, m.size, 0);
            check_round_trip(o.t, (const char *)m.data, m.size / 2 + 1, 0);
            file_map_close(&m);
        }
        check_round_trip(o.t, odd, sizeof odd, 0);
        check_round_trip(o.t, "", 0, TOKENIZE_SPECIAL);
        for (int c = 0; c < 256; c++) check_round_trip(o.t, (char[]){ (char)c }, 1, 0);
        close_file(&o);
    }
}

/* A text without word borders: long enough that anything quadratic would be noticed. */
static void long_words(void **state)
{
    (void)state;
    enum { N = 400000 };
    char *p = malloc(N);
    assert_non_null(p);
    static const char *const models[] = { "gpt-2", "phi-3", "bert-bge" };
    for (size_t i = 0; i < 3; i++) {
        char path[512];
        snprintf(path, sizeof path, DATA "tokenizer/ggml-vocab-%s.gguf", models[i]);
        struct opened o = open_file(path);
        for (size_t k = 0; k < N; k++) p[k] = (char)('a' + k * k % 23);
        if (i < 2) check_round_trip(o.t, p, N, 0);
        memset(p, 'a', N);
        if (i < 2) check_round_trip(o.t, p, N, 0);
        struct tokens ids = { 0 };
        if (i == 2) assert_int_equal(encode(o.t, p, N, 0, &ids), 1);    /* unknown */
        tokens_done(&ids);
        close_file(&o);
    }
    free(p);
}

/* ---- a real model ----------------------------------------------------------------------------------- */

static void smollm(void **state)
{
    (void)state;
    FILE *f = fopen(SMOLLM, "rb");
    if (!f) {
        print_message("skip: %s is not there\n", SMOLLM);
        skip();
    }
    fclose(f);
    struct opened o = open_file(SMOLLM);
    /* Made with llama-tokenize of llama.cpp. */
    static const char text[] = "Hello, <|im_start|>user\n  na\u00EFve 12345 don't \u65E5\u672C\u8A9E "
                               "\U0001F999<end_of_turn>\t\t x";
    static const int32_t want[] = { 19556, 28, 216, 1, 4093, 3805, 15486, 46494, 216, 33, 34, 35, 36, 37,
        1326, 982, 17097, 241, 115, 40993, 179, 120, 248, 15107, 116, 243, 44, 486, 79, 1714, 79, 20589,
        46, 1656, 1792 };
    struct tokens ids = { 0 };
    assert_int_equal(encode(o.t, text, sizeof text - 1, TOKENIZE_SPECIAL | TOKENIZE_ADD, &ids),
                     sizeof want / sizeof *want);
    assert_memory_equal(ids.id, want, sizeof want);
    check_round_trip(o.t, text, sizeof text - 1, TOKENIZE_SPECIAL);
    /* As plain text the same string holds no special token. */
    encode(o.t, text, sizeof text - 1, 0, &ids);
    for (size_t i = 0; i < ids.n; i++) assert_false(tokenizer_is_special(o.t, ids.id[i]));
    tokens_done(&ids);
    const char *p;
    size_t n;
    assert_true(tokenizer_chat_template(o.t, false, &p, &n));
    assert_non_null(memmem(p, n, "<|im_start|>", 12));
    int32_t end = tokenizer_find(o.t, "<|im_end|>", 10);
    assert_int_equal(end, 2);
    assert_true(tokenizer_is_eog(o.t, end));
    assert_true(tokenizer_is_special(o.t, end));
    assert_false(tokenizer_is_eog(o.t, 19556));
    assert_string_equal(tokenizer_kind(o.t), "BPE smollm");
    assert_int_equal(tokenizer_size(o.t), 49152);
    close_file(&o);
}

/* ---- small tokenizers ------------------------------------------------------------------------------- */

#define CORPUS STRETTO_SOURCE_DIR "/tests/fuzz/corpus/tokenizer/"

/* The corpus of the fuzz target holds tokenizer.json files with a text behind a NUL. */
static void make_folder(const char *name, char folder[64])
{
    char path[512];
    snprintf(path, sizeof path, CORPUS "%s", name);
    struct file_map m = map_file(path);
    strcpy(folder, "/tmp/stretto-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(m.data, 1, strlen((const char *)m.data), f), strlen((const char *)m.data));
    fclose(f);
    file_map_close(&m);
}

static void write_beside(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void drop_folder(const char *folder)
{
    static const char *const names[] = { "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                                         "generation_config.json" };
    char path[512];
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
    rmdir(folder);
}

static void what_stands_beside_tokenizer_json(void **state)
{
    (void)state;
    char folder[64];
    const char *p;
    size_t n;
    make_folder("byte_bpe", folder);
    struct opened o = open_file(folder);
    assert_int_equal(tokenizer_eos(o.t), -1);
    assert_false(tokenizer_chat_template(o.t, false, &p, &n));
    close_file(&o);
    write_beside(folder, "tokenizer_config.json",
                 "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"}, \"chat_template\": "
                 "[{\"name\": \"tool_use\", \"template\": \"no\"}, {\"name\": \"default\", "
                 "\"template\": \"yes\"}]}");
    write_beside(folder, "generation_config.json", "{\"eos_token_id\": [1, 3]}");
    o = open_file(folder);
    assert_int_equal(tokenizer_bos(o.t), 0);
    assert_int_equal(tokenizer_eos(o.t), 1);
    assert_true(tokenizer_is_eog(o.t, 1) && tokenizer_is_eog(o.t, 3) && !tokenizer_is_eog(o.t, 2));
    assert_true(tokenizer_chat_template(o.t, false, &p, &n));
    assert_memory_equal(p, "yes", n);
    struct tokens ids = { 0 };
    encode(o.t, "the", 3, TOKENIZE_ADD, &ids);
    assert_int_equal(ids.id[0], 0);
    assert_int_equal(ids.id[ids.n - 1], 1);
    tokens_done(&ids);
    close_file(&o);
    write_beside(folder, "chat_template.jinja", "newer");
    o = open_file(folder);
    assert_true(tokenizer_chat_template(o.t, false, &p, &n) && n == 5);
    close_file(&o);
    drop_folder(folder);
}

/* transformers (5.24) encodes "<s>" as its letters with true, and fails on what is no boolean. */
static void split_special_tokens_is_refused_by_name(void **state)
{
    (void)state;
    static const struct { const char *text; bool fine; } rows[] = {
        { "{\"split_special_tokens\": true}", false }, { "{\"split_special_tokens\": null}", false },
        { "{\"split_special_tokens\": \"no\"}", false }, { "{\"split_special_tokens\": false}", true },
    };
    char folder[64];
    make_folder("byte_bpe", folder);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct source *src = NULL;
        struct tokenizer *t = NULL;
        struct error err = { 0 };
        write_beside(folder, "tokenizer_config.json", rows[i].text);
        assert_int_equal(source_open(&src, folder, &err), STRETTO_OK);
        assert_int_equal(tokenizer_open(&t, src, &err), rows[i].fine ? STRETTO_OK : STRETTO_E_UNSUP);
        if (!rows[i].fine) assert_non_null(strstr(err.text, "split_special_tokens"));
        tokenizer_close(t);
        source_close(src);
    }
    drop_folder(folder);
}

/* Changes bytes of a corpus file and expects a refusal that names `word`. */
static void refused(const char *name, const char *from, const char *to, const char *word)
{
    char path[512], folder[64] = "";
    snprintf(path, sizeof path, CORPUS "%s", name);
    struct file_map m = map_file(path);
    char *copy = malloc(m.size + 1);
    assert_non_null(copy);
    memcpy(copy, m.data, m.size);
    char *hit = memmem(copy, m.size, from, strlen(from));
    assert_non_null(hit);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(hit, to, strlen(to));
    bool gguf = !memcmp(copy, "GGUF", 4);
    copy[m.size] = '\0';
    strcpy(folder, "/tmp/stretto-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/%s", folder, gguf ? "x.gguf" : "tokenizer.json");
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(copy, 1, gguf ? m.size : strlen(copy), f);
    fclose(f);
    struct source *src = NULL;
    struct tokenizer *t = NULL;
    struct error err = { 0 };
    assert_int_equal(source_open(&src, gguf ? path : folder, &err), STRETTO_OK);
    assert_int_not_equal(tokenizer_open(&t, src, &err), STRETTO_OK);
    assert_null(t);
    if (!strstr(err.text, word)) DIE("\"%s\" does not name %s", err.text, word);
    source_close(src);
    remove(path);
    drop_folder(folder);
    file_map_close(&m);
    free(copy);
}

static void unknown_parts_are_named(void **state)
{
    (void)state;
    refused("gguf_bpe", "qwen2", "qwenX", "\"qwenX\"");
    refused("gguf_bpe", "gpt2", "rwkv", "\"rwkv\"");
    refused("byte_bpe", "\"NFC\"", "\"Nmt\"", "Nmt");
    refused("byte_bpe", "\"type\":\"Split\"", "\"type\":\"Splat\"", "Splat");
    refused("byte_bpe", "\"type\":\"BPE\"", "\"type\":\"XYZ\"", "XYZ");
    refused("byte_bpe", "\\\\p{L}+", "\\\\p{Lx}", "p{Lx}");
    refused("byte_bpe", "TemplateProcessing", "TemplatXProcessing", "TemplatXProcessing");
    refused("wordpiece", "\"decoder\":{\"type\":\"WordPiece\"", "\"decoder\":{\"type\":\"WordPuece\"",
            "WordPuece");
}

/* ---- keys of kinds that other writers use ------------------------------------------------------------ */

enum { W_U8 = 0, W_U32 = 4, W_STRING = 8, W_ARRAY = 9, W_I64 = 11 };   /* GGUF's numbers of types */
struct odd_key { const char *key; uint32_t type; const char *raw; size_t bytes; };

/* A vocabulary of six pieces, with one key written in a way of its own; NULL and the reason, or open. */
static struct opened odd_vocabulary(const char *model, const struct odd_key *odd, struct error *err)
{
    static const char *const tokens[] = { "<unk>", "<s>", "</s>", "\xE2\x96\x81", "a", ("\xE2\x96\x81" "a") };
    char path[] = "/tmp/stretto-odd-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    struct gguf_writer *w;
    assert_int_equal(gguf_writer_open(&w, path, true, err), STRETTO_OK);
    gguf_put_string(w, "general.architecture", "llama", 5);
    gguf_put_string(w, "tokenizer.ggml.model", model, strlen(model));
    gguf_put_string(w, "tokenizer.ggml.pre", "default", 7);
    gguf_put_strings(w, "tokenizer.ggml.tokens", 6);
    for (size_t i = 0; i < 6; i++) gguf_put_item(w, tokens[i], strlen(tokens[i]));
    if (strcmp(model, "llama") == 0) {
        static const int32_t types[] = { 2, 3, 3, 1, 1, 1 };
        if (!strstr(odd->key, "token_type")) gguf_put_i32s(w, "tokenizer.ggml.token_type", types, 6);
    } else {
        gguf_put_strings(w, "tokenizer.ggml.merges", 1);
        gguf_put_item(w, "a a", 3);
    }
    gguf_put_value(w, odd->key, odd->type, W_STRING, odd->type == W_ARRAY ? 6 : odd->bytes, odd->raw, odd->bytes);
    assert_int_equal(gguf_begin_data(w, err), STRETTO_OK);
    assert_int_equal(gguf_finish(w, err), STRETTO_OK);
    gguf_writer_close(w);
    struct opened o = { 0 };
    if (source_open(&o.src, path, err) != STRETTO_OK) DIE("%s", err->text);
    tokenizer_open(&o.t, o.src, err);
    remove(path);
    return o;
}

static void numbers_stand_for_truth_values_and_ids(void **state)
{
    (void)state;
    static const struct { struct odd_key odd; int32_t ids[3]; size_t n; } rows[] = {
        { { "tokenizer.ggml.add_bos_token", W_U32, "\0\0\0\0", 4 }, { 5 }, 1 },
        { { "tokenizer.ggml.add_eos_token", W_U8, "\1", 1 }, { 1, 5, 2 }, 3 },
        { { "tokenizer.ggml.add_space_prefix", W_U8, "\0", 1 }, { 1, 4 }, 2 },
        { { "tokenizer.ggml.bos_token_id", W_I64, "\4\0\0\0\0\0\0\0", 8 }, { 4, 5 }, 2 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct error err = { 0 };
        struct opened o = odd_vocabulary("llama", &rows[i].odd, &err);
        if (!o.t) DIE("%s", err.text);
        struct tokens out = { 0 };
        encode(o.t, "a", 1, TOKENIZE_ADD, &out);
        if (out.n != rows[i].n || memcmp(out.id, rows[i].ids, out.n * sizeof *out.id))
            DIE("%s: %zu ids, the first %d", rows[i].odd.key, out.n, (int)out.id[0]);
        tokens_done(&out);
        close_file(&o);
    }
}

static void keys_that_say_nothing_are_refused(void **state)
{
    (void)state;
    static const char words[6 * 9] = "\1\0\0\0\0\0\0\0" "3\1\0\0\0\0\0\0\0" "3\1\0\0\0\0\0\0\0" "3"
        "\1\0\0\0\0\0\0\0" "3\1\0\0\0\0\0\0\0" "3\1\0\0\0\0\0\0\0" "3";
    static const struct { const char *model; struct odd_key odd; } rows[] = {
        { "llama", { "tokenizer.ggml.add_bos_token", W_U32, "\2\0\0\0", 4 } },
        { "llama", { "tokenizer.ggml.add_space_prefix", W_STRING, "false", 5 } },
        { "llama", { "tokenizer.ggml.eot_token_id", W_STRING, "2", 1 } },
        { "llama", { "tokenizer.ggml.eos_token_id", W_STRING, "2", 1 } },
        { "llama", { "tokenizer.ggml.token_type", W_ARRAY, words, sizeof words } },
        { "llama", { "tokenizer.ggml.scores", W_U32, "\0\0\0\0", 4 } },
        { "gpt2", { "tokenizer.ggml.add_bos_token", W_U8, "\1", 1 } },       /* and no bos_token_id */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct error err = { 0 };
        struct opened o = odd_vocabulary(rows[i].model, &rows[i].odd, &err);
        if (o.t) DIE("%s is read", rows[i].odd.key);
        if (!strstr(err.text, i < 6 ? rows[i].odd.key : "BOS")) DIE("%zu: \"%s\"", i, err.text);
        source_close(o.src);
    }
}

/* Every expression that a GGUF name stands for can be compiled and cuts a text without losing it. */
static void every_name_has_its_expressions(void **state)
{
    (void)state;
    static const char text[] = "Hello, w\u00F6rld's  1234567 DON'T\r\n\n\t \u65E5\u672C\u0915\u093E \xFF!?<x> ";
    const struct pretok_name *name;
    size_t n_names = 0;
    for (; (name = pretok_name_at(n_names)); n_names++) {
        struct pretok p = { 0 };
        struct error err = { 0 };
        assert_ptr_equal(pretok_find(name->name, strlen(name->name)), name);
        if (pretok_add_name(&p, name, &err) != STRETTO_OK) DIE("%s: %s", name->name, err.text);
        struct pretok_work w = { .text = buffer_make(1000), .spare = buffer_make(1000) };
        assert_int_equal(buffer_append(&w.text, text, sizeof text), STRETTO_OK);
        if (pretok_run(&p, &w, true, &err) != STRETTO_OK) DIE("%s: %s", name->name, err.text);
        size_t at = 0;
        for (size_t i = 0; i < w.words.n; i++) {
            assert_int_equal(w.words.item[i].at, at);
            at += w.words.item[i].len;
        }
        assert_int_equal(at, sizeof text);
        assert_true(w.words.n >= 5);
        pretok_work_done(&w);
        pretok_done(&p);
    }
    assert_true(n_names > 80);
    assert_null(pretok_find("qwen", 4));
}

/* Whatever allocation fails, open and encode say so, leave nothing behind, and work the next time. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char *const names[] = { "gguf_bpe", "gguf_spm", "gguf_bert", "byte_bpe", "spm_bpe",
                                         "wordpiece", "steps", "suffix", "late",
                                         "gguf_described_wordpiece", "gguf_described_spm_bpe" };
    static const char text[] = "Hello the lazy <s> dog don't 1234 \xFF h\u00E9 [SEP]";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512], folder[64] = "";
        struct source *src = NULL;
        struct error err = { 0 };
        if (names[i][0] == 'g') snprintf(path, sizeof path, CORPUS "%s", names[i]);
        else { make_folder(names[i], folder); snprintf(path, sizeof path, "%s", folder); }
        if (source_open(&src, path, &err) != STRETTO_OK) DIE("%s", err.text);
        unsigned failures = 0;
        for (uint64_t n = 1;; n++) {
            struct tokenizer *t = NULL;
            struct tokens ids = { 0 };
            struct buffer back = buffer_make(10000);
            err = (struct error){ 0 };
            mem_fail_at(n);
            stretto_status st = tokenizer_open(&t, src, &err);
            if (st == STRETTO_OK)
                st = tokenizer_encode(t, text, sizeof text - 1, TOKENIZE_SPECIAL | TOKENIZE_ADD, &ids,
                                      &err);
            if (st == STRETTO_OK) st = tokenizer_decode(t, ids.id, ids.n, true, &back);
            mem_fail_at(0);
            /* Small vocabularies cannot spell all of it, which is said when memory was enough. */
            bool done = st == STRETTO_OK || st == STRETTO_E_UNSUP;
            if (!done) {
                assert_int_equal(st, STRETTO_E_NOMEM);
                /* The same tokenizer goes on afterwards. */
                if (t) assert_int_not_equal(tokenizer_encode(t, text, 5, 0, &ids, NULL), STRETTO_E_NOMEM);
                failures++;
            }
            tokens_done(&ids);
            buffer_done(&back);
            tokenizer_close(t);
            if (done) break;
        }
        if (failures < 5) DIE("%s: only %u allocations failed", names[i], failures);
        source_close(src);
        if (*folder) drop_folder(folder);
    }
}

/* ---- the streaming detokenizer ---------------------------------------------------------------------- */

/* Byte by byte: nothing is lost, nothing is held that can no longer become a character, and no chunk
 * ends inside a well-formed character. */
static void check_stream(const char *p, size_t n, size_t step)
{
    struct utf8_stream u = { 0 };
    struct buffer out = buffer_make((size_t)1 << 24);
    for (size_t i = 0; i < n; i += step) {
        size_t k = n - i < step ? n - i : step;
        assert_int_equal(utf8_stream_push(&u, p + i, k, &out), STRETTO_OK);
        assert_true(u.n <= 3);
        assert_int_equal(out.len + u.n, i + k);
        /* What is held is exactly the beginning of a character that the text may still complete: cut
         * there, a decoder that sees the whole text finds a character border. */
        size_t at = out.len;
        for (size_t back = 1; back < 4 && back <= at; back++) {
            int32_t cp;
            size_t len = utf8_decode(p + at - back, n - (at - back), &cp);
            assert_false(cp != UTF8_BAD && len > back);
        }
    }
    assert_int_equal(utf8_stream_end(&u, &out), STRETTO_OK);
    assert_int_equal(out.len, n);
    assert_memory_equal(out.data, p, n);
    buffer_done(&out);
}

static void stream_of_malformed_text(void **state)
{
    (void)state;
    static const char *const texts[] = { "UTF-8-test.txt", "UTF-8-demo.txt", "blns.txt" };
    for (size_t k = 0; k < 3; k++) {
        char path[512];
        snprintf(path, sizeof path, DATA "utf8/%s", texts[k]);
        struct file_map m = map_file(path);
        for (size_t step = 1; step < 8; step++) check_stream((const char *)m.data, m.size, step);
        file_map_close(&m);
    }
}

static void stream_holds_no_more_than_it_must(void **state)
{
    (void)state;
    static const struct { const char *in; size_t n, held; } cases[] = {
        { "a", 1, 0 }, { "\xE2", 1, 1 }, { "\xE2\x82", 2, 2 }, { "\xE2\x82\xAC", 3, 0 },
        { "\xF0\x9F\xA6", 3, 3 }, { "\xF0\x9F\xA6\x99", 4, 0 }, { "\xC0", 1, 0 }, { "\xFF", 1, 0 },
        { "\xE0\x80", 2, 0 }, { "\xED\xA0", 2, 0 }, { "\xF4\x90", 2, 0 }, { "\xF5", 1, 0 },
        { "\xE2\x28", 2, 0 }, { "\xE2\xE2", 2, 1 }, { "\x80", 1, 0 }, { "\xC3\x28\xC3", 3, 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct utf8_stream u = { 0 };
        struct buffer out = buffer_make(100);
        assert_int_equal(utf8_stream_push(&u, cases[i].in, cases[i].n, &out), STRETTO_OK);
        if (u.n != cases[i].held) DIE("case %zu holds %zu bytes, not %zu", i, u.n, cases[i].held);
        buffer_done(&out);
    }
    /* A refusal changes nothing. */
    struct utf8_stream u = { 0 };
    struct buffer out = buffer_make(2);
    assert_int_equal(utf8_stream_push(&u, "\xE2\x82\xAC", 3, &out), STRETTO_E_FULL);
    assert_int_equal(u.n, 0);
    assert_int_equal(out.len, 0);
    buffer_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_bert), cmocka_unit_test(vectors_falcon),
        cmocka_unit_test(vectors_gpt2), cmocka_unit_test(vectors_phi3),
        cmocka_unit_test(vectors_qwen2), cmocka_unit_test(bytes_come_back),
        cmocka_unit_test(long_words), cmocka_unit_test(smollm),
        cmocka_unit_test(what_stands_beside_tokenizer_json),
        cmocka_unit_test(split_special_tokens_is_refused_by_name),
        cmocka_unit_test(numbers_stand_for_truth_values_and_ids),
        cmocka_unit_test(keys_that_say_nothing_are_refused),
        cmocka_unit_test(unknown_parts_are_named), cmocka_unit_test(every_name_has_its_expressions),
        cmocka_unit_test(every_allocation_may_fail), cmocka_unit_test(stream_of_malformed_text),
        cmocka_unit_test(stream_holds_no_more_than_it_must),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
