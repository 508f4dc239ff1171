/* config.json of a Hugging Face folder as GGUF metadata. Facts: transformers' configuration
 * classes (what is assumed when a file is silent) and gguf-py's constants (what the keys are
 * called). What changes the computation and is not understood here is refused, never passed
 * over. */
#include "base/json.h"
#include "base/json_tree.h"
#include "format/hf_int.h"
#include "format/pooling.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_CONFIG = 4 << 20, MAX_LAYERS = 100000 };

/* The file while it is read. The first failure is kept in `status`; later calls do nothing, so
 * that a list of keys reads as a list. */
struct reading {
    struct source *s;
    struct error *err;
    const struct hf_family *family;
    json_t *root, *text, *generation;   /* text: where the text model's numbers stand */
    json_t *usual_rope;                 /* "rope_parameters" where the file has none, or NULL */
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

static void put_flags(struct reading *r, const char *key, const bool *v, uint64_t n)
{
    struct meta *m = put(r, key, V_ARRAY, (size_t)n);
    if (!m) return;
    m->element = V_BOOL;
    m->n = (size_t)n;
    for (uint64_t i = 0; i < n; i++) store(m, (size_t)i, v[i], 1);
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

/* A member that says null, which is not the same as being absent: then a default stands. */
static bool says_null(const struct reading *r, const char *key)
{
    return json_is_null(json_object_get(r->text, key));
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

/* The same of a key that says how something is computed: a word, when it says anything. */
static const char *word(struct reading *r, json_t *object, const char *key)
{
    json_t *v = member(object, key);
    if (v && !json_is_string(v)) refuse(r, STRETTO_E_FORMAT, "\"%s\" is not a word", key);
    return text_of(object, key);
}

static stretto_status load(struct source *s, const char *name, json_t **out, struct error *err)
{
    struct source_str text;
    *out = NULL;
    if (!source_file(s, name, &text)) return STRETTO_OK;
    /* transformers goes on without a generation_config.json that it cannot read; some are empty. */
    if (strcmp(name, "generation_config.json") == 0 && json_blank(text.p, text.n)) return STRETTO_OK;
    if (text.n > MAX_CONFIG)
        return fail(err, STRETTO_E_FORMAT, "%s/%s has %zu bytes; at most %d are read", s->path,
                    name, text.n, MAX_CONFIG);
    char where[PATH_MAX];
    snprintf(where, sizeof where, "%s/%s", s->path, name);
    TRY(json_tree(out, text.p, text.n, JSON_TWICE_LAST, where, err));
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
    r->family = hf_family_find(type);
    if (r->family) return;
    char names[200];
    refuse(r, STRETTO_E_UNSUP, "model_type \"%.60s\" is not supported (%s are)", type,
           hf_family_names(names, sizeof names));
}

/* Keys that ask for other arithmetic than the family's usual one, here or in the classes of other
 * families, and what they may say without asking for anything: null and false always, 0 or an
 * empty list, and `also`. Keys that stand neither here nor anywhere in this file are not read by
 * the family's class in transformers either. */
static const struct { const char *key; double also; } elsewhere[] = {
    { "is_encoder_decoder", 0 },
    { "add_cross_attention", 0 },
    { "use_bidirectional_attention", 0 },
    { "scale_attn_by_inverse_layer_idx", 0 },
    { "num_local_experts", 1 },
    { "num_experts", 1 },
    { "n_routed_experts", 1 },
    { "moe_num_experts", 1 },
    { "n_shared_experts", 0 },
    { "embedding_multiplier", 1 },
    { "residual_multiplier", 1 },
    { "attention_multiplier", 1 },
    { "logits_scaling", 1 },
    { "logit_scale", 1 },
    { "scale_emb", 1 },
    { "scale_depth", 1 },
    { "dim_model_base", 0 },
    { "clip_qkv", 0 },
    { "alibi", 0 },
    { "parallel_attn", 0 },
    { "use_parallel_residual", 0 },
    { "new_decoder_architecture", 0 },
    { "no_rope_layers", 0 },
    { "no_rope_layer_interval", 0 },
    { "nope_layer_interval", 0 },
    { "rotary_pct", 1 },
    { "rope_ratio", 1 },
    { "rope_interleaved", 0 },
    { "rope_interleave", 0 },
    { "use_qk_norm", 0 },
    { "qk_norm", 0 },
    { "qk_layernorm", 0 },
    { "use_post_norm", 0 },
    { "attention_sinks", 0 },
    { "attn_output_gate", 0 },
    { "attention_chunk_size", 0 },
    { "q_lora_rank", 0 },
    { "kv_lora_rank", 0 },
    { "num_kv_shared_layers", 0 },
    { "hidden_size_per_layer_input", 0 },
    { "per_layer_config", 0 },
};

static bool says_nothing(json_t *v, double also)
{
    double f = json_number_value(v);
    if (json_is_array(v) || json_is_object(v)) return json_array_size(v) + json_object_size(v) == 0;
    return json_is_null(v) || json_is_false(v) || (json_is_number(v) && (f == 0 || f == also));
}

static bool reads(const struct hf_family *f, const char *key)
{
    for (size_t i = 0; i < sizeof f->reads / sizeof *f->reads && f->reads[i]; i++)
        if (strcmp(f->reads[i], key) == 0) return true;
    return false;
}

static void refuse_other_arithmetic(struct reading *r)
{
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++) {
        const char *key = elsewhere[i].key;
        json_t *v = reads(r->family, key) ? NULL : json_object_get(r->text, key);
        if (v && !says_nothing(v, elsewhere[i].also))
            refuse(r, STRETTO_E_UNSUP, "\"%s\" asks for something that is not supported in a %s "
                   "model; use another member of the family", key, r->family->model_type);
    }
    /* transformers' masking_utils.py: whatever is not true makes a decoder look both ways. */
    json_t *causal = json_object_get(r->text, "is_causal");
    if (causal && !r->family->encoder && !json_is_true(causal))
        refuse(r, STRETTO_E_UNSUP, "\"is_causal\" is not true: %s models that look at the tokens "
               "to come are not supported", r->family->model_type);
    if (!flag(r, "scale_attn_weights", true))
        refuse(r, STRETTO_E_UNSUP, "\"scale_attn_weights\": false is not supported");
    if (r->family->encoder && flag(r, "is_decoder", false))
        refuse(r, STRETTO_E_UNSUP, "\"is_decoder\": true is not supported in a %s model",
               r->family->model_type);
    const char *position = word(r, r->text, "position_embedding_type");
    if (r->family->encoder && position[0] && strcmp(position, "absolute") != 0)
        refuse(r, STRETTO_E_UNSUP,
               "position_embedding_type \"%.60s\" is not supported (absolute is)", position);
}

static void refuse_what_is_not_understood(struct reading *r)
{
    const char *activation = word(r, r->text, r->family->activation.key);
    if (activation[0] && strcmp(activation, r->family->activation.word) != 0
        && strcmp(activation, r->family->activation.also) != 0)
        refuse(r, STRETTO_E_UNSUP, "activation \"%.60s\" is not supported in a %s model (%s is)",
               activation, r->family->model_type, r->family->activation.word);
    static const char *const packed[] = { "quantization_config", "compression_config" };
    for (size_t i = 0; i < sizeof packed / sizeof *packed; i++)
        if (member(r->root, packed[i]))
            refuse(r, STRETTO_E_UNSUP,
                   "the weights are quantised by \"%.60s\", which is not supported; use "
                   "the original folder or a GGUF file of this model",
                   text_of(member(r->root, packed[i]), "quant_method"));
    refuse_other_arithmetic(r);
}

/* ---- the parts ------------------------------------------------------------------------------ */

/* transformers' YaRN magnitude for a factor; see its rope utilities and arXiv 2309.00071 section
 * 3.4. */
static double yarn_magnitude(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

/* A number that the kind of scaling cannot do without. */
static double needed(struct reading *r, json_t *rope, const char *key)
{
    if (!member(rope, key))
        refuse(r, STRETTO_E_FORMAT, "the rope scaling has no \"%s\"", key);
    return real_in(r, rope, key, 1);
}

static double real_or(struct reading *r, json_t *rope, const char *key, double otherwise)
{
    double v = real_in(r, rope, key, 0);
    return v != 0 ? v : otherwise;
}

static void read_yarn(struct reading *r, json_t *rope, double factor)
{
    put_f32(r, ".rope.scaling.yarn_beta_fast", real_or(r, rope, "beta_fast", 32));
    put_f32(r, ".rope.scaling.yarn_beta_slow", real_or(r, rope, "beta_slow", 1));
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

/* "rope_type", or "type" in older files; "" when the object says nothing of scaling. */
static const char *scaling_type(struct reading *r, json_t *rope)
{
    const char *now = word(r, rope, "rope_type"), *before = word(r, rope, "type");
    const char *type = now[0] ? now : before;
    bool phi3 = r->family->first_context > 0;
    if (!type[0] && member(rope, "factor"))
        refuse(r, STRETTO_E_FORMAT, "the rope scaling has a factor but no \"rope_type\"");
    if (strcmp(type, "default") == 0) return "";
    /* Phi3Config's own reading of its first files. */
    return phi3 && (strcmp(type, "su") == 0 || strcmp(type, "yarn") == 0) ? "longrope" : type;
}

static void read_longrope(struct reading *r, json_t *rope, uint64_t context, uint64_t original)
{
    add_factors(r, rope, "long_factor", "rope_factors_long.weight");
    add_factors(r, rope, "short_factor", "rope_factors_short.weight");
    double scale = real_or(r, rope, "factor", original ? (double)context / (double)original : 1);
    double magnitude = scale > 1 ? sqrt(1 + log(scale) / log((double)original)) : 1;
    put_f32(r, ".rope.scaling.attn_factor", real_in(r, rope, "attention_factor", magnitude));
}

static void read_rope_scaling(struct reading *r, json_t *rope, uint64_t context)
{
    const char *type = scaling_type(r, rope);
    if (!type[0]) return;
    put_string(r, ".rope.scaling.type", type, strlen(type));
    uint64_t original = whole_in(r, rope, "original_max_position_embeddings", context);
    /* Beside the sizes; Phi3Config's first files, of type "su", may have it inside. */
    bool inside = strcmp(text_of(rope, "type"), "su") == 0 && member(rope, "original_max_position_embeddings");
    if (r->family->first_context && !inside)
        original = whole(r, "original_max_position_embeddings", r->family->first_context);
    if (strcmp(type, "longrope") == 0) {
        put_u32(r, ".rope.scaling.original_context_length", original);
        read_longrope(r, rope, context, original);
        return;
    }
    bool yarn = strcmp(type, "yarn") == 0, llama3 = strcmp(type, "llama3") == 0;
    if (!yarn && !llama3 && strcmp(type, "linear") != 0) {
        refuse(r, STRETTO_E_UNSUP,
               "rope scaling \"%.60s\" is not supported (linear, yarn, llama3 and longrope are)",
               type);
        return;
    }
    /* YaRN's may be null, and is then how much the context has grown. */
    double factor = yarn && json_is_null(json_object_get(rope, "factor"))
                        ? (double)context / (double)original : needed(r, rope, "factor");
    if (!(factor > 0)) refuse(r, STRETTO_E_FORMAT, "rope scaling by %g is not possible", factor);
    put_f32(r, ".rope.scaling.factor", factor);
    if (yarn || llama3 || r->family->rope_warms) put_u32(r, ".rope.scaling.original_context_length", original);
    if (yarn) read_yarn(r, rope, factor);
    if (!llama3) return;
    put_f32(r, ".rope.scaling.low_freq_factor", needed(r, rope, "low_freq_factor"));
    put_f32(r, ".rope.scaling.high_freq_factor", needed(r, rope, "high_freq_factor"));
}

/* "rope_scaling" of older files, "rope_parameters" of newer ones, where gemma 3 has one object for
 * each kind of layer; an older one is then the full layers'. */
static json_t *rope_of(struct reading *r, json_t **window)
{
    json_t *before = member(r->text, "rope_scaling"), *now = member(r->text, "rope_parameters");
    json_t *full = member(now, "full_attention");
    if ((before && !json_is_object(before)) || (now && !json_is_object(now)))
        refuse(r, STRETTO_E_FORMAT, "the description of the rope scaling is not an object");
    *window = member(now, "sliding_attention");
    if (!before && !now) now = r->usual_rope;
    bool kinds = full || *window, own = r->family->rope_base_window > 0;
    if (now && kinds != own && json_object_size(now))
        refuse(r, STRETTO_E_UNSUP, own ? "\"rope_parameters\" names no \"full_attention\" and "
               "\"sliding_attention\"" : "\"rope_parameters\" differ between kinds of layers, "
               "which is not supported in a %s model", r->family->model_type);
    if (own && full && before && json_object_size(before))
        refuse(r, STRETTO_E_UNSUP, "\"rope_scaling\" and \"rope_parameters\" are both there: "
               "remove the one that is out of date");
    if (*window && scaling_type(r, *window)[0])
        refuse(r, STRETTO_E_UNSUP, "rope scaling of \"sliding_attention\" is not supported");
    return before && json_object_size(before) ? before : own ? full : now;
}

/* The base of the windowed layers. Where it has no key of its own, transformers 5 takes the class's
 * default beside a "rope_theta", and 4 took that for all layers: a file on which they differ must say it. */
static void read_window_base(struct reading *r, json_t *window, double base)
{
    const struct hf_family *f = r->family;
    double local = f->rope_base_window;
    if (f->base_key) local = real_in(r, r->text, f->base_key, local);
    else if (base != local && !member(window, "rope_theta"))
        refuse(r, STRETTO_E_UNSUP, "\"rope_theta\" is %g, and programs do not agree on whether it is that "
               "of \"sliding_attention\" too: say both in \"rope_parameters\"", base);
    put_f32(r, ".rope.freq_base_swa", real_in(r, window, "rope_theta", local));
}

/* How many pairs turn by each axis of an image's positions. */
static void put_sections(struct reading *r, json_t *list)
{
    static const char word[] = "mrope_section";
    struct meta *m = json_is_array(list) ? put(r, ".rope.dimension_sections", V_ARRAY, 16) : NULL;
    if (list && (!json_is_array(list) || json_array_size(list) > 4))
        refuse(r, STRETTO_E_FORMAT, "\"%s\" is not a list of numbers", word);
    if (!m || r->status != STRETTO_OK) return;
    m->element = V_U32;
    m->n = 4;
    for (size_t i = 0; i < 4; i++) {
        json_t *v = json_array_get(list, i);
        json_int_t n = v ? json_integer_value(v) : 0;
        if ((v && !json_is_integer(v)) || n < 0 || n > INT32_MAX)
            refuse(r, STRETTO_E_FORMAT, "\"%s\" is not a list of numbers", word);
        store(m, 4 * i, (uint64_t)n, 4);
    }
}

static void read_rope(struct reading *r, uint64_t context, uint64_t head_dim)
{
    const struct hf_family *f = r->family;
    json_t *window, *rope = rope_of(r, &window);
    double base = real_in(r, r->text, "rope_theta", f->rope_base);
    double part = real_in(r, r->text, "partial_rotary_factor", f->rope_share > 0 ? f->rope_share : 1);
    double full = real_in(r, rope, "rope_theta", base);
    bool other_base = f->rope_alpha && strcmp(scaling_type(r, rope), "dynamic") == 0
                      && real_in(r, rope, "alpha", 0) != 0;
    if (other_base) full *= pow(real_in(r, rope, "alpha", 1), (double)head_dim / ((double)head_dim - 2));
    put_f32(r, ".rope.freq_base", full);
    put_sections(r, member(rope, "mrope_section"));
    if (f->rope_base_window > 0) read_window_base(r, window, base);
    part = real_in(r, rope, "partial_rotary_factor", part);
    if (!(part > 0 && part <= 1)) {
        refuse(r, STRETTO_E_FORMAT, "\"partial_rotary_factor\" is not in (0, 1]");
        part = 1;
    }
    if (part != 1 && !f->rope_part)
        refuse(r, STRETTO_E_UNSUP, "\"partial_rotary_factor\" is not supported in a %s model",
               f->model_type);
    put_u32(r, ".rope.dimension_count", (uint64_t)((double)head_dim * part));
    if (f->rope_warms) put_f32(r, ".attention.temperature_scale", needed(r, rope, "llama_4_scaling_beta"));
    if (rope && !other_base) read_rope_scaling(r, rope, context);
}

/* Whether layer i sees only a window, when "layer_types" does not say. */
static bool windowed(const struct hf_family *f, uint64_t i, uint64_t above, uint64_t pattern)
{
    switch (f->windows) {
    case HF_WINDOW_NOWHERE: return false;
    case HF_WINDOW_EVERYWHERE: return true;
    case HF_WINDOW_ABOVE: return i >= above;
    case HF_WINDOW_PATTERN: return pattern > 0 && (i + 1) % pattern != 0;
    }
    return false;
}

static bool type_of_layer(struct reading *r, json_t *types, uint64_t i, bool otherwise)
{
    if (!types) return otherwise;
    const char *type = json_string_value(json_array_get(types, i));
    if (type && strcmp(type, "sliding_attention") == 0) return true;
    if (!type || strcmp(type, "full_attention") != 0)
        refuse(r, STRETTO_E_UNSUP, "layer %llu has attention \"%.40s\", which is not supported",
               (unsigned long long)i, type ? type : "?");
    return false;
}

/* One flag for each layer, unless the family's GGUF files mean the same without. */
static void put_layers(struct reading *r, const bool *window, uint64_t layers)
{
    static const char key[] = ".attention.sliding_window_pattern";
    uint64_t every = r->family->window_pattern, usual = 0;
    for (uint64_t i = 0; i < layers; i++)
        usual += window[i] == (every == 0 || (i + 1) % every != 0);
    if (usual == layers) return;
    put_flags(r, key, window, layers);
}

/* How often a layer sees everything: a number, or "LLLG", a letter for each layer between two that do. */
static uint64_t read_pattern(struct reading *r)
{
    static const char key[] = "sliding_window_pattern";
    json_t *v = member(r->text, key);
    uint64_t usual = r->family->window_pattern;
    if (!r->family->own_pattern || !json_is_string(v)) return r->family->own_pattern ? whole(r, key, usual) : usual;
    const char *word = json_string_value(v);
    size_t n = strlen(word), local = strspn(word, "L");
    if (n == 0 || local != n - 1 || word[local] != 'G')
        refuse(r, STRETTO_E_UNSUP, "\"%s\" is \"%.40s\"; only windows up to one layer without (\"LLLG\") are supported",
               key, word);
    return n;
}

static void read_window(struct reading *r, uint64_t layers)
{
    const struct hf_family *f = r->family;
    json_t *types = f->learned ? NULL : member(r->text, "layer_types");
    bool given = f->window > 0, any = false;
    if (f->windows == HF_WINDOW_ABOVE) given = flag(r, "use_sliding_window", false);
    if (says_null(r, "sliding_window")) given = false;
    else if (f->windows == HF_WINDOW_EVERYWHERE && member(r->text, "sliding_window")) given = true;
    uint64_t pattern = f->window_pattern;
    if (given) pattern = read_pattern(r);
    uint64_t above = whole(r, "max_window_layers", f->window_layers ? f->window_layers : 1);
    if (!given && f->windows == HF_WINDOW_PATTERN && !f->window_null)
        refuse(r, STRETTO_E_FORMAT, "\"sliding_window\" is null; a %s model needs its size",
               f->model_type);
    if (types && json_array_size(types) != layers)
        refuse(r, STRETTO_E_FORMAT, "\"layer_types\" does not name every layer");
    bool *window = pool_take(&r->s->pool, (size_t)layers * sizeof *window);
    if (!window) r->status = source_no_memory(r->s, r->err);
    if (r->status != STRETTO_OK) return;
    for (uint64_t i = 0; i < layers; i++) {
        bool usual = given && windowed(f, i, above, pattern);
        window[i] = type_of_layer(r, types, i, usual);
        if (types && window[i] != usual && f->windows < HF_WINDOW_ABOVE)
            refuse(r, STRETTO_E_UNSUP, "the layer_types of a %s model differ between layers, which "
                   "its class passes over: which is meant is not known", f->model_type);
        any |= window[i];
    }
    if (any && !given)
        refuse(r, STRETTO_E_FORMAT, "\"layer_types\" names layers with a window, but "
               "\"sliding_window\" has no size");
    if (!any && (!given || f->windows != HF_WINDOW_PATTERN)) return;
    put_u32(r, ".attention.sliding_window", whole(r, "sliding_window", f->window));
    put_layers(r, window, layers);
}

/* Which layers turn queries and keys: 1 or 0 for each, or all but every n-th. */
static void read_rope_layers(struct reading *r, uint64_t layers)
{
    json_t *list = member(r->text, "no_rope_layers");
    if (!r->family->rope_layers || r->status != STRETTO_OK) return;
    uint64_t every = whole(r, "no_rope_layer_interval", 4), usual = 0;
    if (flag(r, "use_sliding_window", false))
        refuse(r, STRETTO_E_UNSUP, "\"use_sliding_window\" is true, which is not supported in a %s model",
               r->family->model_type);
    if (every == 0) refuse(r, STRETTO_E_FORMAT, "\"no_rope_layer_interval\" is 0");
    if (list && (!json_is_array(list) || json_array_size(list) < layers))
        refuse(r, STRETTO_E_FORMAT, "\"no_rope_layers\" does not name every layer");
    bool *turns = pool_take(&r->s->pool, (size_t)layers * sizeof *turns);
    if (!turns) r->status = source_no_memory(r->s, r->err);
    for (uint64_t i = 0; i < layers && r->status == STRETTO_OK; i++) {
        json_t *v = list ? json_array_get(list, i) : NULL;
        double say = json_is_boolean(v) ? json_is_true(v) : json_number_value(v);
        if (list && say != 0 && say != 1)
            refuse(r, STRETTO_E_FORMAT, "\"no_rope_layers\" holds something else than 1 and 0");
        turns[i] = list ? say != 0 : (i + 1) % every != 0;
        usual += turns[i] == (i % 4 != 3);
    }
    if (usual < layers) put_flags(r, ".attention.rope_pattern", turns, layers);
}

/* Cohere's one, or Granite's four; what scales attention stands in place of the heads' size. */
static void read_scales(struct reading *r)
{
    static const struct { const char *word, *key; } rows[] = {
        { "embedding_multiplier", ".embedding_scale" }, { "residual_multiplier", ".residual_scale" },
        { "attention_multiplier", ".attention.scale" }, { "logits_scaling", ".logit_scale" } };
    const char *own = r->family->logit_scale;
    if (own) {
        double v = real_in(r, r->text, own, r->family->usual_logit_scale);
        if (!(v > 0)) refuse(r, STRETTO_E_FORMAT, "\"%s\" is not positive", own);
        put_f32(r, ".logit_scale", v);
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows && r->family->scales; i++) {
        double v = real_in(r, r->text, rows[i].word, 1);
        if (!(v > 0)) refuse(r, STRETTO_E_FORMAT, "\"%s\" is not positive", rows[i].word);
        put_f32(r, rows[i].key, v);
    }
}

/* GPT2Config has its own words for what the others share, and takes theirs too. */
static uint64_t size(struct reading *r, const char *key, const char *in_gpt2, uint64_t fallback)
{
    if (r->family->conv1d && member(r->text, in_gpt2)) key = in_gpt2;
    return whole(r, key, fallback);
}

static void read_sizes(struct reading *r)
{
    const struct hf_family *f = r->family;
    uint64_t layers = size(r, "num_hidden_layers", "n_layer", f->layers);
    uint64_t width = size(r, "hidden_size", "n_embd", f->width);
    uint64_t heads = size(r, "num_attention_heads", "n_head", f->heads);
    uint64_t context = size(r, "max_position_embeddings", "n_positions", f->context);
    uint64_t feed = size(r, "intermediate_size", "n_inner", f->feed ? f->feed : 4 * width);
    if (layers < 1 || layers > MAX_LAYERS || heads == 0)
        refuse(r, STRETTO_E_FORMAT, "the numbers of layers or heads are not possible");
    if (r->status != STRETTO_OK) return;
    put_u32(r, ".block_count", layers);
    put_u32(r, ".context_length", context);
    put_u32(r, ".embedding_length", width);
    put_u32(r, ".feed_forward_length", feed);
    put_u32(r, ".attention.head_count", heads);
    put_f32(r, f->layer_norm ? ".attention.layer_norm_epsilon" : ".attention.layer_norm_rms_epsilon",
            real_in(r, r->text, f->eps_key ? f->eps_key : "rms_norm_eps", f->eps));
    if (f->learned) {
        put_u32(r, ".attention.head_count_kv", heads);
    } else {
        bool many = says_null(r, "num_key_value_heads") || !f->heads_kv;
        uint64_t head_dim =
            says_null(r, "head_dim") || !f->head_dim ? width / heads : f->head_dim;
        head_dim = whole(r, "head_dim", head_dim);
        put_u32(r, ".attention.head_count_kv",
                whole(r, "num_key_value_heads", many ? heads : f->heads_kv));
        put_u32(r, ".attention.key_length", head_dim);
        put_u32(r, ".attention.value_length", head_dim);
        read_rope(r, context, head_dim);
    }
    read_window(r, layers);
    read_rope_layers(r, layers);
    read_scales(r);
    if (member(r->text, "vocab_size")) put_u32(r, ".vocab_size", whole(r, "vocab_size", 0));
}

/* A soft cap may be null, which is none, or absent, which is the class's. GGUF's readers take the
 * family's when the key is absent, so none is written as 0. */
static void read_cap(struct reading *r, const char *name, const char *key, double fallback)
{
    double cap = says_null(r, name) ? 0 : real_in(r, r->text, name, fallback);
    if (cap < 0) refuse(r, STRETTO_E_FORMAT, "\"%s\" is negative", name);
    if (cap != 0 || fallback != 0) put_f32(r, key, cap);
}

static void read_gemma(struct reading *r)
{
    const struct hf_family *f = r->family;
    if (f->query_scalar == 0) return;
    double scalar = real_in(r, r->text, "query_pre_attn_scalar", f->query_scalar);
    if (!(scalar > 0)) refuse(r, STRETTO_E_FORMAT, "\"query_pre_attn_scalar\" is not positive");
    put_f32(r, ".attention.query_pre_attn_scalar", scalar);
    read_cap(r, "final_logit_softcapping", ".final_logit_softcapping", f->logit_softcap);
    if (f->attention_softcap != 0)
        read_cap(r, "attn_logit_softcapping", ".attn_logit_softcapping", f->attention_softcap);
    else if (real_in(r, r->text, "attn_logit_softcapping", 0) != 0)
        refuse(r, STRETTO_E_UNSUP, "\"attn_logit_softcapping\" is not supported in a %s model",
               f->model_type);
}

static void read_encoder(struct reading *r)
{
    if (!r->family->encoder) return;
    put_bool(r, ".attention.causal", false);
    put_u32(r, "tokenizer.ggml.token_type_count", whole(r, "type_vocab_size", 2));
}

/* How token vectors become one: sentence-transformers says so beside the model, of any family. */
static void read_pooling(struct reading *r)
{
    struct hf_pooling pooling;
    if (r->status != STRETTO_OK) return;
    r->status = hf_pooling_read(r->s, &pooling, r->err);
    if (r->status != STRETTO_OK) return;
    if (pooling.kind >= 0) put_u32(r, ".pooling_type", (uint64_t)pooling.kind);
    if (!pooling.normalize) put_bool(r, KEY_NORMALIZE, false);
    if (!pooling.refusal[0]) return;
    r->s->pooling_refusal = pool_strndup(&r->s->pool, pooling.refusal, strlen(pooling.refusal));
    if (!r->s->pooling_refusal) r->status = source_no_memory(r->s, r->err);
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

static bool bias_flag(struct reading *r, const char *own, const char *usual, bool fallback)
{
    const char *word = hf_bias_word(own, usual);
    return word[0] && flag(r, word, fallback);
}

static void read_biases(struct reading *r, struct hf_config *out)
{
    const struct hf_family *f = r->family;
    out->bias_qkv = !f->always_biased && bias_flag(r, f->bias.qkv, "attention_bias", f->biased);
    out->bias_out = !f->always_biased && bias_flag(r, f->bias.out, "attention_bias", false);
    out->bias_feed = bias_flag(r, f->bias.feed, "mlp_bias", false);
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
        const char *usual = r.family ? r.family->usual_rope : NULL;
        if (usual && r.status == STRETTO_OK)
            r.status = json_tree(&r.usual_rope, usual, strlen(usual), JSON_TWICE_LAST, r.family->model_type, err);
        read_sizes(&r);
        read_gemma(&r);
        read_encoder(&r);
        read_pooling(&r);
        read_tokens(&r);
        out->family = r.family;
        read_biases(&r, out);
        out->beside = r.family && r.family->beside && flag(&r, "use_parallel_residual", false);
        out->tied = flag(&r, "tie_word_embeddings",
                         json_is_boolean(json_object_get(r.root, "tie_word_embeddings"))
                             ? json_is_true(json_object_get(r.root, "tie_word_embeddings"))
                             : r.family->tied);
    }
    if (r.status == STRETTO_OK) {
        snprintf(s->arch, sizeof s->arch, "%s", r.family->arch);
        s->rope_halves = r.family->rope_halves;
        s->norm_plus_one = r.family->norm_plus_one;
        s->window_usual = r.family->windows == HF_WINDOW_PATTERN;
    }
    json_decref(r.root);
    json_decref(r.generation);
    json_decref(r.usual_rope);
    return r.status;
}
