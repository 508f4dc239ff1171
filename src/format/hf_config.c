/* config.json of a Hugging Face folder as GGUF metadata. Facts: transformers' configuration
 * classes (what is assumed when a file is silent) and gguf-py's constants (what the keys are
 * called). What changes the computation and is not understood here is refused, never passed
 * over. */
#include "format/hf_int.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_CONFIG = 4 << 20, MAX_LAYERS = 100000 };

static const struct hf_family families[] = {
    { .model_type = "llama",
      .arch = "llama",
      .names = hf_names_llama,
      .activation = { "silu", "swish" },
      .context = 2048,
      .eps = 1e-6,
      .rope_base = 10000,
      .rope_halves = true },
    { .model_type = "mistral",
      .arch = "llama",
      .names = hf_names_llama,
      .activation = { "silu", "swish" },
      .context = 131072,
      .heads_kv = 8,
      .eps = 1e-6,
      .rope_base = 10000,
      .rope_halves = true },
    { .model_type = "qwen2",
      .arch = "qwen2",
      .names = hf_names_llama,
      .activation = { "silu", "swish" },
      .context = 32768,
      .heads_kv = 32,
      .eps = 1e-6,
      .rope_base = 10000 },
    { .model_type = "qwen3",
      .arch = "qwen3",
      .names = hf_names_llama,
      .activation = { "silu", "swish" },
      .context = 32768,
      .heads_kv = 32,
      .head_dim = 128,
      .eps = 1e-6,
      .rope_base = 10000 },
    { .model_type = "gemma2",
      .arch = "gemma2",
      .names = hf_names_gemma,
      .activation = { "gelu_pytorch_tanh", "gelu_new" },
      .context = 8192,
      .heads = 8,
      .heads_kv = 4,
      .head_dim = 256,
      .eps = 1e-6,
      .rope_base = 10000,
      .norm_plus_one = true,
      .tied = true,
      .window_pattern = 2 },
    { .model_type = "gemma3_text",
      .arch = "gemma3",
      .names = hf_names_gemma,
      .activation = { "gelu_pytorch_tanh", "gelu_new" },
      .context = 131072,
      .heads = 8,
      .heads_kv = 4,
      .head_dim = 256,
      .eps = 1e-6,
      .rope_base = 1000000,
      .rope_base_window = 10000,
      .norm_plus_one = true,
      .tied = true,
      .window_pattern = 6 },
    { .model_type = "phi3",
      .arch = "phi3",
      .names = hf_names_llama,
      .activation = { "silu", "swish" },
      .context = 4096,
      .eps = 1e-5,
      .rope_base = 10000 },
    { .model_type = "gpt2",
      .arch = "gpt2",
      .names = hf_names_gpt2,
      .activation = { "gelu_new", "gelu_pytorch_tanh" },
      .context = 1024,
      .eps = 1e-5,
      .layer_norm = true,
      .tied = true },
    { .model_type = "bert",
      .arch = "bert",
      .names = hf_names_bert,
      .activation = { "gelu", "gelu" },
      .context = 512,
      .eps = 1e-12,
      .layer_norm = true,
      .encoder = true },
};

/* The file while it is read. The first failure is kept in `status`; later calls do nothing, so
 * that a list of keys reads as a list. */
struct reading {
    struct source *s;
    struct error *err;
    const struct hf_family *family;
    json_t *root, *text, *generation;   /* text: where the text model's numbers stand */
    stretto_status status;
};

__attribute__((format(printf, 3, 4)))
static void refuse(struct reading *r, stretto_status status, const char *fmt, ...)
{
    if (r->status != STRETTO_OK) return;
    char words[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    r->status = fail(r->err, status, "%s/config.json: %s", r->s->path, words);
}

/* ---- writing metadata ----------------------------------------------------------------------- */

/* A key with room for `bytes` of value; NULL after a failure. */
static struct meta *put(struct reading *r, const char *key, enum value_type type, size_t bytes)
{
    if (r->status != STRETTO_OK) return NULL;
    char full[128];
    int n = snprintf(full, sizeof full, "%s%s", key[0] == '.' ? r->family->arch : "", key);
    struct meta *m = source_add_key(r->s, r->err);
    if (m) {
        m->name = pool_strndup(&r->s->pool, full, (size_t)n);
        m->raw = pool_take(&r->s->pool, bytes);
    }
    if (!m || !m->name || !m->raw) {
        r->status = source_no_memory(r->s, r->err);
        return NULL;
    }
    m->type = type;
    m->raw_bytes = bytes;
    m->n = 1;
    return m;
}

static void store(const struct meta *m, size_t at, uint64_t v, size_t bytes)
{
    unsigned char *raw = (unsigned char *)(uintptr_t)m->raw + at; /* the pool's, so writable */
    for (size_t i = 0; i < bytes; i++) raw[i] = (unsigned char)(v >> 8 * i);
}

static void put_u32(struct reading *r, const char *key, uint64_t v)
{
    if (v > UINT32_MAX) {
        refuse(r, STRETTO_E_FORMAT, "the number for %s is too large: %llu", key,
               (unsigned long long)v);
        return;
    }
    struct meta *m = put(r, key, V_U32, 4);
    if (m) store(m, 0, v, 4);
}

/* GGUF keeps these as float32; doing the same makes both formats of a model compute alike. */
static void put_f32(struct reading *r, const char *key, double v)
{
    union { float f; uint32_t u; } bits = { .f = (float)v };
    if (!isfinite(bits.f)) {
        refuse(r, STRETTO_E_FORMAT, "the number for %s is not finite", key);
        return;
    }
    struct meta *m = put(r, key, V_F32, 4);
    if (m) store(m, 0, bits.u, 4);
}

static void put_bool(struct reading *r, const char *key, bool v)
{
    struct meta *m = put(r, key, V_BOOL, 1);
    if (m) store(m, 0, v, 1);
}

static void put_string(struct reading *r, const char *key, const char *text, size_t n)
{
    struct meta *m = put(r, key, V_STRING, n + 1);
    if (!m) return;
    memcpy((void *)(uintptr_t)m->raw, text, n);
    m->raw_bytes = m->n = n;
}

/* ---- reading config.json -------------------------------------------------------------------- */

/* A member that is there and not null. */
static json_t *member(json_t *object, const char *key)
{
    json_t *v = json_object_get(object, key);
    return v && !json_is_null(v) ? v : NULL;
}

/* Whole numbers may be written 4096.0. Absent: `fallback`, or a failure when that is 0. */
static uint64_t whole_in(struct reading *r, json_t *object, const char *key, uint64_t fallback)
{
    json_t *v = member(object, key);
    double f = v ? json_number_value(v) : 0;
    if (!v && !fallback) refuse(r, STRETTO_E_FORMAT, "\"%s\" is missing", key);
    if (!v) return fallback;
    if (json_is_number(v) && f >= 0 && f <= 1e15 && f == floor(f)) return (uint64_t)f;
    refuse(r, STRETTO_E_FORMAT, "\"%s\" is not a whole number", key);
    return fallback;
}

static uint64_t whole(struct reading *r, const char *key, uint64_t fallback)
{
    return whole_in(r, r->text, key, fallback);
}

static double real_in(struct reading *r, json_t *object, const char *key, double fallback)
{
    json_t *v = member(object, key);
    if (!v) return fallback;
    if (json_is_number(v)) return json_number_value(v);
    refuse(r, STRETTO_E_FORMAT, "\"%s\" is not a number", key);
    return fallback;
}

static bool flag(struct reading *r, const char *key, bool fallback)
{
    json_t *v = member(r->text, key);
    if (v && !json_is_boolean(v)) refuse(r, STRETTO_E_FORMAT, "\"%s\" is not true or false", key);
    return v ? json_is_true(v) : fallback;
}

static const char *text_of(json_t *object, const char *key)
{
    const char *v = json_string_value(json_object_get(object, key));
    return v ? v : "";
}

static stretto_status load(struct source *s, const char *name, json_t **out, struct error *err)
{
    struct source_str text;
    json_error_t e;
    *out = NULL;
    if (!source_file(s, name, &text)) return STRETTO_OK;
    if (text.n > MAX_CONFIG)
        return fail(err, STRETTO_E_FORMAT, "%s/%s has %zu bytes; at most %d are read", s->path,
                    name, text.n, MAX_CONFIG);
    *out = json_loadb(text.p, text.n, 0, &e);
    if (!*out)
        return fail(err, STRETTO_E_FORMAT, "%s/%s: line %d, column %d: %s", s->path, name, e.line,
                    e.column, e.text);
    if (json_is_object(*out)) return STRETTO_OK;
    json_decref(*out);
    *out = NULL;
    return fail(err, STRETTO_E_FORMAT, "%s/%s is not a JSON object", s->path, name);
}

/* ---- what is not understood ----------------------------------------------------------------- */

static void find_family(struct reading *r)
{
    const char *type = text_of(r->root, "model_type");
    json_t *text = member(r->root, "text_config");
    if (json_is_object(text)) {                 /* a model that also sees; its text side is used */
        r->text = text;
        type = text_of(text, "model_type")[0] ? text_of(text, "model_type") : type;
    }
    if (strcmp(type, "gemma3") == 0) type = "gemma3_text";
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strcmp(families[i].model_type, type) == 0) {
            r->family = &families[i];
            return;
        }
    refuse(r, STRETTO_E_UNSUP,
           "model_type \"%.60s\" is not supported (llama, mistral, qwen2, qwen3, "
           "gemma2, gemma3, phi3, gpt2 and bert are)",
           type);
}

static void refuse_what_is_not_understood(struct reading *r)
{
    const char *activation = text_of(r->text, "hidden_act");
    if (!activation[0] || text_of(r->text, "hidden_activation")[0])
        activation = text_of(r->text, "hidden_activation");
    if (strcmp(r->family->arch, "gpt2") == 0) activation = text_of(r->text, "activation_function");
    const char *const *known = r->family->activation;
    if (activation[0] && strcmp(activation, known[0]) != 0 && strcmp(activation, known[1]) != 0)
        refuse(r, STRETTO_E_UNSUP, "activation \"%.60s\" is not supported in a %s model (%s is)",
               activation, r->family->model_type, known[0]);
    json_t *quantized = member(r->root, "quantization_config");
    if (quantized)
        refuse(r, STRETTO_E_UNSUP,
               "the weights are quantised by \"%.60s\", which is not supported; use "
               "the original folder or a GGUF file of this model",
               text_of(quantized, "quant_method"));
    const char *position = text_of(r->text, "position_embedding_type");
    if (r->family->encoder && position[0] && strcmp(position, "absolute") != 0)
        refuse(r, STRETTO_E_UNSUP,
               "position_embedding_type \"%.60s\" is not supported (absolute is)", position);
    if (flag(r, "scale_attn_by_inverse_layer_idx", false) || !flag(r, "scale_attn_weights", true) ||
        (r->family->encoder &&
         (flag(r, "is_decoder", false) || flag(r, "add_cross_attention", false))) ||
        flag(r, "use_bidirectional_attention", false))
        refuse(r, STRETTO_E_UNSUP, "an attention other than the family's usual one is asked for "
               "(scaling by layer, decoder or bidirectional variant), which is not supported");
}

/* ---- the parts ------------------------------------------------------------------------------ */

/* transformers' YaRN magnitude for a factor; see its rope utilities and arXiv 2309.00071 section
 * 3.4. */
static double yarn_magnitude(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static void read_yarn(struct reading *r, json_t *rope, double factor)
{
    put_f32(r, ".rope.scaling.yarn_beta_fast", real_in(r, rope, "beta_fast", 32));
    put_f32(r, ".rope.scaling.yarn_beta_slow", real_in(r, rope, "beta_slow", 1));
    double mscale = real_in(r, rope, "mscale", 0), all = real_in(r, rope, "mscale_all_dim", 0);
    double magnitude = yarn_magnitude(factor, 1);
    if (mscale != 0 && all != 0)
        magnitude = yarn_magnitude(factor, mscale) / yarn_magnitude(factor, all);
    /* GGUF's factor comes on top of the usual magnitude, and is absent when it would be 1. */
    double wanted = real_in(r, rope, "attention_factor", magnitude), usual = yarn_magnitude(factor, 1);
    if (wanted != usual) put_f32(r, ".rope.scaling.attn_factor", wanted / usual);
    json_t *truncate = member(rope, "truncate");
    if (truncate && !json_is_true(truncate))
        refuse(r, STRETTO_E_UNSUP, "YaRN scaling without truncation is not supported");
}

/* phi-3's long factors: GGUF keeps them as tensors, so they become tensors here too. */
static void add_factors(struct reading *r, json_t *rope, const char *key, const char *tensor)
{
    json_t *list = member(rope, key);
    size_t n = json_array_size(list);
    if (n == 0 || n > 4096) {
        refuse(r, STRETTO_E_FORMAT, "\"%s\" is not a list of numbers", key);
        return;
    }
    if (r->status != STRETTO_OK) return;
    float *data = pool_take(&r->s->pool, n * sizeof *data);
    struct source_tensor *t = data ? source_add_tensor(r->s, r->err) : NULL;
    if (!t) {
        r->status = source_no_memory(r->s, r->err);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_array_get(list, i);
        if (!json_is_number(v))
            refuse(r, STRETTO_E_FORMAT, "\"%s\" holds something else than numbers", key);
        data[i] = (float)json_number_value(v);
    }
    *t = (struct source_tensor){ .name = tensor, .type = DT_F32, .n_dims = 1,
                                 .dims = { n, 1, 1, 1 }, .data = data, .bytes = n * sizeof *data };
}

/* rope: the object with "rope_type", or "type" in older files. */
static void read_rope_scaling(struct reading *r, json_t *rope, uint64_t context)
{
    const char *type =
        text_of(rope, "rope_type")[0] ? text_of(rope, "rope_type") : text_of(rope, "type");
    if (!type[0] || strcmp(type, "default") == 0) return;
    double factor = real_in(r, rope, "factor", 1);
    if (!(factor > 0)) refuse(r, STRETTO_E_FORMAT, "rope scaling by %g is not possible", factor);
    uint64_t first = whole(r, "original_max_position_embeddings", context);
    uint64_t original = whole_in(r, rope, "original_max_position_embeddings", first);
    put_f32(r, ".rope.scaling.factor", factor);
    if (strcmp(type, "su") == 0) type = "longrope";
    put_string(r, ".rope.scaling.type", type, strlen(type));
    if (strcmp(type, "linear") == 0) return;
    put_u32(r, ".rope.scaling.original_context_length", original);
    if (strcmp(type, "yarn") == 0) {
        read_yarn(r, rope, factor);
    } else if (strcmp(type, "llama3") == 0) {
        put_f32(r, ".rope.scaling.low_freq_factor", real_in(r, rope, "low_freq_factor", 1));
        put_f32(r, ".rope.scaling.high_freq_factor", real_in(r, rope, "high_freq_factor", 4));
    } else if (strcmp(type, "longrope") == 0) {
        add_factors(r, rope, "long_factor", "rope_factors_long.weight");
        add_factors(r, rope, "short_factor", "rope_factors_short.weight");
        double scale = original ? (double)context / (double)original : 1;
        double magnitude = scale > 1 ? sqrt(1 + log(scale) / log((double)original)) : 1;
        put_f32(r, ".rope.scaling.attn_factor", real_in(r, rope, "attention_factor", magnitude));
    } else {
        refuse(r, STRETTO_E_UNSUP,
               "rope scaling \"%.60s\" is not supported (linear, yarn, llama3 and "
               "longrope are)",
               type);
    }
}

static void read_rope(struct reading *r, uint64_t context, uint64_t head_dim)
{
    double base = real_in(r, r->text, "rope_theta", r->family->rope_base);
    double local = real_in(r, r->text, "rope_local_base_freq", r->family->rope_base_window);
    double part = real_in(r, r->text, "partial_rotary_factor", 1);
    json_t *rope = member(r->text, "rope_parameters");
    if (!rope) rope = member(r->text, "rope_scaling");
    json_t *window = member(rope, "sliding_attention"), *full = member(rope, "full_attention");
    if (full || window) {                       /* one set for each kind of layer */
        local = real_in(r, window, "rope_theta", local);
        rope = full;
    }
    base = real_in(r, rope, "rope_theta", base);
    part = real_in(r, rope, "partial_rotary_factor", part);
    if (!(part > 0 && part <= 1)) {
        refuse(r, STRETTO_E_FORMAT, "\"partial_rotary_factor\" is not in (0, 1]");
        part = 1;
    }
    put_f32(r, ".rope.freq_base", base);
    if (r->family->rope_base_window > 0) put_f32(r, ".rope.freq_base_swa", local);
    put_u32(r, ".rope.dimension_count", (uint64_t)((double)head_dim * part));
    if (rope) read_rope_scaling(r, rope, context);
}

/* Which layers see only a window. GGUF and the builder know one pattern per family; files that
 * deviate from it are refused. */
static void check_layer_types(struct reading *r, uint64_t layers, uint64_t pattern)
{
    json_t *types = member(r->text, "layer_types");
    if (!types) return;
    if (json_array_size(types) != layers) {
        refuse(r, STRETTO_E_FORMAT, "\"layer_types\" does not name every layer");
        return;
    }
    for (size_t i = 0; i < layers && r->status == STRETTO_OK; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        bool full = pattern == 0 || (pattern > 1 && (i + 1) % pattern == 0);
        if (!type || strcmp(type, full ? "full_attention" : "sliding_attention") != 0)
            refuse(r, STRETTO_E_UNSUP,
                   "layer %zu has attention \"%.40s\", which is not this family's "
                   "pattern and is not supported",
                   i, type ? type : "?");
    }
}

static void read_window(struct reading *r, uint64_t layers)
{
    const struct hf_family *f = r->family;
    if (f->encoder || f->layer_norm) return;
    json_t *given = member(r->text, "sliding_window");
    uint64_t pattern = f->window_pattern;
    if (strncmp(f->arch, "qwen", 4) == 0 && !flag(r, "use_sliding_window", false)) given = NULL;
    if (pattern) {
        uint64_t own =
            whole(r, "sliding_window_pattern", whole(r, "_sliding_window_pattern", pattern));
        if (own != pattern)
            refuse(r, STRETTO_E_UNSUP,
                   "a sliding window pattern of %llu is not supported (%s models "
                   "have %llu)",
                   (unsigned long long)own, f->arch, (unsigned long long)pattern);
        put_u32(r, ".attention.sliding_window", whole(r, "sliding_window", 4096));
        check_layer_types(r, layers, pattern);
        return;
    }
    /* Everywhere or nowhere: pattern 1 stands for "no layer is full". */
    if (given && strncmp(f->arch, "qwen", 4) == 0 && whole(r, "max_window_layers", layers) > 0)
        refuse(r, STRETTO_E_UNSUP,
               "a sliding window from layer \"max_window_layers\" on is not "
               "supported; set \"use_sliding_window\" to false when texts stay shorter than the "
               "window");
    if (given) put_u32(r, ".attention.sliding_window", whole(r, "sliding_window", 0));
    check_layer_types(r, layers, given ? 1 : 0);
}

static void read_sizes(struct reading *r)
{
    const struct hf_family *f = r->family;
    bool gpt2 = strcmp(f->arch, "gpt2") == 0;
    uint64_t layers = whole(r, gpt2 ? "n_layer" : "num_hidden_layers", 0);
    uint64_t width = whole(r, gpt2 ? "n_embd" : "hidden_size", 0);
    uint64_t heads = whole(r, gpt2 ? "n_head" : "num_attention_heads", f->heads);
    uint64_t heads_kv = whole(r, "num_key_value_heads", f->heads_kv ? f->heads_kv : heads);
    uint64_t context = whole(r, gpt2 ? "n_positions" : "max_position_embeddings", f->context);
    if (gpt2 || f->encoder) heads_kv = heads;
    if (layers > MAX_LAYERS || heads == 0 || heads_kv == 0)
        refuse(r, STRETTO_E_FORMAT, "the numbers of layers or heads are not possible");
    if (r->status != STRETTO_OK) return;
    uint64_t head_dim = whole(r, "head_dim", f->head_dim ? f->head_dim : width / heads);
    put_u32(r, ".block_count", layers);
    put_u32(r, ".context_length", context);
    put_u32(r, ".embedding_length", width);
    put_u32(r, ".feed_forward_length",
            gpt2 ? whole(r, "n_inner", 4 * width) : whole(r, "intermediate_size", 0));
    put_u32(r, ".attention.head_count", heads);
    put_u32(r, ".attention.head_count_kv", heads_kv);
    if (gpt2 || f->encoder) {
        put_f32(r, ".attention.layer_norm_epsilon",
                real_in(r, r->text, gpt2 ? "layer_norm_epsilon" : "layer_norm_eps", f->eps));
    } else {
        put_u32(r, ".attention.key_length", head_dim);
        put_u32(r, ".attention.value_length", head_dim);
        put_f32(r, ".attention.layer_norm_rms_epsilon",
                real_in(r, r->text, "rms_norm_eps", f->eps));
        read_rope(r, context, head_dim);
    }
    read_window(r, layers);
    if (member(r->text, "vocab_size")) put_u32(r, ".vocab_size", whole(r, "vocab_size", 0));
}

static void read_gemma(struct reading *r)
{
    if (strncmp(r->family->arch, "gemma", 5) != 0) return;
    double attention = real_in(r, r->text, "attn_logit_softcapping", 0);
    double final = real_in(r, r->text, "final_logit_softcapping", 0);
    double scalar = real_in(r, r->text, "query_pre_attn_scalar", 0);
    if (attention > 0) put_f32(r, ".attn_logit_softcapping", attention);
    if (final > 0) put_f32(r, ".final_logit_softcapping", final);
    if (scalar > 0) put_f32(r, ".attention.query_pre_attn_scalar", scalar);
}

/* How token vectors become one: sentence-transformers says so beside the model. GGUF's numbers. */
static void read_pooling(struct reading *r)
{
    if (!r->family->encoder || r->status != STRETTO_OK) return;
    put_bool(r, ".attention.causal", false);
    put_u32(r, "tokenizer.ggml.token_type_count", whole(r, "type_vocab_size", 2));
    json_t *pooling;
    stretto_status st = load(r->s, "1_Pooling/config.json", &pooling, r->err);
    if (st != STRETTO_OK) r->status = st;
    if (!pooling) return;
    if (json_is_true(json_object_get(pooling, "pooling_mode_mean_tokens")))
        put_u32(r, ".pooling_type", 1);
    else if (json_is_true(json_object_get(pooling, "pooling_mode_cls_token")))
        put_u32(r, ".pooling_type", 2);
    else if (json_is_true(json_object_get(pooling, "pooling_mode_lasttoken")))
        put_u32(r, ".pooling_type", 3);
    else
        refuse(r, STRETTO_E_UNSUP,
               "the pooling in 1_Pooling/config.json is not supported (mean, cls "
               "and last token are)");
    json_decref(pooling);
}

/* A special token's id; generation_config.json knows better than config.json. Lists (several ends
 * of generation) are kept whole under `list`. */
static void read_token_id(struct reading *r, const char *name, const char *key, const char *list)
{
    json_t *v = member(r->generation, name);
    if (!v) v = member(r->text, name);
    if (!v) v = member(r->root, name);
    size_t n = json_is_array(v) ? json_array_size(v) : 0;
    json_t *first = json_is_array(v) ? json_array_get(v, 0) : v;
    if (!json_is_integer(first) || json_integer_value(first) < 0) return;
    put_u32(r, key, (uint64_t)json_integer_value(first));
    if (!list || n > 1000) return;
    if (n == 0) n = 1;
    struct meta *m = put(r, list, V_ARRAY, 4 * n);
    if (!m) return;
    m->element = V_U32;
    m->n = n;
    for (size_t i = 0; i < n; i++) {
        json_t *id = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX)
            refuse(r, STRETTO_E_FORMAT, "\"%s\" is not a list of token ids", name);
        else store(m, 4 * i, (uint64_t)json_integer_value(id), 4);
    }
}

static void read_tokens(struct reading *r)
{
    read_token_id(r, "bos_token_id", "tokenizer.ggml.bos_token_id", NULL);
    read_token_id(r, "eos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eos_token_ids");
    read_token_id(r, "pad_token_id", "tokenizer.ggml.padding_token_id", NULL);
}

/* The folder's own name, which is what people call the model. */
static void read_name(struct reading *r)
{
    const char *path = r->s->path;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/') from--;
    put_string(r, "general.name", path + from, n - from);
}

stretto_status hf_config_read(struct source *s, struct hf_config *out, struct error *err)
{
    struct reading r = { .s = s, .err = err };
    *out = (struct hf_config){ 0 };
    r.status = load(s, "config.json", &r.root, err);
    if (r.status == STRETTO_OK) r.status = load(s, "generation_config.json", &r.generation, err);
    r.text = r.root;
    if (r.status == STRETTO_OK) find_family(&r);
    if (r.status == STRETTO_OK) {
        put_string(&r, "general.type", "model", 5);
        put_string(&r, "general.architecture", r.family->arch, strlen(r.family->arch));
        read_name(&r);
        refuse_what_is_not_understood(&r);
        read_sizes(&r);
        read_gemma(&r);
        read_pooling(&r);
        read_tokens(&r);
        out->family = r.family;
        out->tied = flag(&r, "tie_word_embeddings",
                         json_is_boolean(json_object_get(r.root, "tie_word_embeddings"))
                             ? json_is_true(json_object_get(r.root, "tie_word_embeddings"))
                             : r.family->tied);
    }
    if (r.status == STRETTO_OK) {
        snprintf(s->arch, sizeof s->arch, "%s", r.family->arch);
        s->rope_halves = r.family->rope_halves;
        s->norm_plus_one = r.family->norm_plus_one;
    }
    json_decref(r.root);
    json_decref(r.generation);
    return r.status;
}
