/* Sizes of a model from the metadata of its file. Whatever a hostile file says, the products of the
 * sizes stay small enough that no later arithmetic overflows. */
#include "model/family.h"
#include "model/keys_int.h"
#include <math.h>
#include <string.h>

enum {
    MAX_WIDTH = 1 << 17,
    MAX_FEED = 1 << 19,
    MAX_HEADS = 1024,
    MAX_HEAD_DIM = 512,
    MAX_CONTEXT = 1 << 24,
    MAX_VOCAB = 1 << 22
};

static stretto_status vocab_of(const struct source *s, uint32_t width, uint32_t *out,
                               struct error *err)
{
    const struct source_tensor *t = source_tensor_find(s, "token_embd.weight");
    if (!t)
        return fail(err, STRETTO_E_FORMAT,
                    "the file has no token_embd.weight: it is a vocabulary "
                    "without a model; give a file with weights");
    if (t->n_dims != 2 || t->dims[0] != width || t->dims[1] < 1 || t->dims[1] > MAX_VOCAB)
        return fail(err, STRETTO_E_FORMAT,
                    "token_embd.weight is %llu x %llu; expected width %u and at "
                    "most %d tokens",
                    (unsigned long long)t->dims[0], (unsigned long long)t->dims[1], width,
                    MAX_VOCAB);
    *out = (uint32_t)t->dims[1];
    return STRETTO_OK;
}

static void read_layers(struct config *c, struct keys *k)
{
    uint32_t feed[MAX_LAYERS] = { 0 }, heads[MAX_LAYERS] = { 0 }, kv[MAX_LAYERS];
    keys_sizes(k, ".feed_forward_length", MAX_FEED, feed, c->layers);
    keys_sizes(k, ".attention.head_count", MAX_HEADS, heads, c->layers);
    memcpy(kv, heads, sizeof kv);
    keys_sizes(k, ".attention.head_count_kv", MAX_HEADS, kv, c->layers);
    for (uint32_t i = 0; i < c->layers; i++) {
        c->layer[i] = (struct layer_config){ .heads = heads[i], .kv_heads = kv[i], .feed = feed[i] };
        if (heads[i] % kv[i])
            keys_refuse(k, STRETTO_E_FORMAT, "%u heads cannot share %u key/value heads", heads[i], kv[i]);
        if (feed[i] > c->feed) c->feed = feed[i];
        if (heads[i] > c->heads) c->heads = heads[i];
        if (kv[i] > c->kv_heads) c->kv_heads = kv[i];
    }
}

static void read_sizes(struct config *c, struct keys *k)
{
    c->layers = keys_size(k, ".block_count", 0, MAX_LAYERS);
    c->width = keys_size(k, ".embedding_length", 0, MAX_WIDTH);
    read_layers(c, k);
    c->head_dim = keys_size(k, ".attention.key_length", c->width / c->layer->heads, MAX_HEAD_DIM);
    c->context = keys_size(k, ".context_length", 0, MAX_CONTEXT);
}

/* Heads of another size, by a key that has no meaning unless it differs. */
static void same_size(struct keys *k, const char *key, uint32_t own)
{
    uint64_t v = keys_count(k, key, 0);
    if (v && v != own)
        keys_refuse(k, STRETTO_E_UNSUP,
                    "%s%s is %llu where the keys of other heads have %u numbers; only equal sizes "
                    "are supported", source_arch(k->s), key, (unsigned long long)v, own);
}

static void refuse_other_arithmetic(const struct config *c, const struct family *f, struct keys *k)
{
    uint64_t experts = keys_count(k, ".expert_count", 0);
    if (experts)
        keys_refuse(k, STRETTO_E_UNSUP,
                    "%s.expert_count is %llu: mixtures of experts are not supported, only dense "
                    "models of the family", f->name, (unsigned long long)experts);
    same_size(k, ".attention.value_length", c->head_dim);
    same_size(k, ".attention.key_length_swa", c->head_dim);
    same_size(k, ".attention.value_length_swa", c->head_dim);
    if (keys_flag(k, ".attention.causal", !f->bidirectional) == f->bidirectional)
        keys_refuse(k, STRETTO_E_UNSUP,
                    "%s.attention.causal is %s; the %s models that are supported are not like that",
                    f->name, f->bidirectional ? "true" : "false", f->name);
}

/* gemma's 27B members scale queries by the width per head instead of the head's size; their GGUF
 * files do not say so, the number of layers tells them. */
static float attention_scale(const struct family *f, const struct config *c, struct keys *k)
{
    double scale = keys_real(k, ".attention.scale", 0);
    double scalar = keys_real(k, ".attention.query_pre_attn_scalar", 0);
    if (scale < 0 || scalar < 0)
        keys_refuse(k, STRETTO_E_FORMAT, "the scale of attention is negative");
    if (scale > 0) return (float)scale;
    if (scalar > 0) return (float)(1.0 / sqrt(scalar));
    bool big = f->layers_of_27b && c->layers == f->layers_of_27b;
    return (float)(1.0 / sqrt(big ? (double)c->width / c->layer->heads : (double)c->head_dim));
}

/* A layer with a window, which may be as wide as the context and then hides nothing. */
static void set_window(struct config *c, const struct family *f, uint32_t i, uint64_t window)
{
    c->layer[i].window = window < c->context ? (uint32_t)window : 0;
    c->layer[i].turn = f->window_turn == WINDOW_TURN_OWN;
}

/* Which layers see only a window: a flag for each, or every n-th is full (llama.cpp's count: 0 of
 * them when n is 0). Whether there is one. */
static bool read_windows(struct config *c, const struct family *f, struct keys *k, uint64_t window, bool *in_window)
{
    static const char key[] = ".attention.sliding_window_pattern";
    size_t n;
    bool any = false;
    if (source_array(k->s, key, NULL, &n)) {
        keys_has(k, key);
        if (n != c->layers)
            keys_refuse(k, STRETTO_E_FORMAT, "%s%s has %zu elements; expected one for each of %u "
                        "layers", f->name, key, n, c->layers);
        for (size_t i = 0; i < n && k->status == STRETTO_OK; i++) {
            int64_t v = 0;
            if (!source_array_i64(k->s, key, i, &v) || v < 0 || v > 1)
                keys_refuse(k, STRETTO_E_FORMAT, "%s%s is not a list of flags", f->name, key);
            else if (v != 0) {
                set_window(c, f, (uint32_t)i, window);
                any = in_window[i] = true;
            }
        }
        return any;
    }
    uint64_t every = keys_count(k, key, f->window_pattern);
    for (uint32_t i = 0; i < c->layers; i++) {
        if (every && (i + 1) % every == 0) continue;
        set_window(c, f, i, window);
        any = in_window[i] = true;
    }
    return any;
}

/* A flag for each layer that says whether it turns, where the file has them. */
static void read_rope_pattern(struct config *c, struct keys *k)
{
    static const char key[] = ".attention.rope_pattern";
    size_t n;
    if (!keys_has(k, key)) return;
    if (!source_array(k->s, key, NULL, &n) || n != c->layers)
        keys_refuse(k, STRETTO_E_FORMAT, "%s%s is not a list of %u flags", source_arch(k->s), key, c->layers);
    for (uint32_t i = 0; i < c->layers && k->status == STRETTO_OK; i++) {
        int64_t v = 0;
        if (!source_array_i64(k->s, key, i, &v) || v < 0 || v > 1)
            keys_refuse(k, STRETTO_E_FORMAT, "%s%s is not a list of flags", source_arch(k->s), key);
        c->layer[i].turn = v ? 0 : TURN_NONE;
    }
}

/* Which layers have a window, and which of them turn. */
static bool read_window(struct config *c, const struct family *f, struct keys *k)
{
    bool in_window[MAX_LAYERS] = { false }, any = false;
    if (f->position == POSITION_LEARNED) return false;
    uint64_t window = keys_count(k, ".attention.sliding_window", f->window);
    if (window) any = read_windows(c, f, k, window, in_window);
    for (uint32_t i = 0; i < c->layers; i++)
        if ((f->turned == TURNED_BUT_FOURTH && i % 4 == 3) || (f->turned == TURNED_IN_WINDOW_ONLY && !in_window[i])
            || (f->turned == TURNED_IN_WINDOW && window && !in_window[i])) c->layer[i].turn = TURN_NONE;
    if (f->turned == TURNED_BUT_FOURTH) read_rope_pattern(c, k);
    if (f->turned == TURNED_IF_SAID && !keys_flag(k, ".rope.scaling.finetuned", true))
        for (uint32_t i = 0; i < c->layers; i++) c->layer[i].turn = TURN_NONE;
    return any;
}

/* What has no default that all readers of such files agree on. */
static double needed(struct keys *k, const char *key)
{
    if (!source_has(k->s, key))
        keys_refuse(k, STRETTO_E_FORMAT, "the file does not say %s%s; it is no complete %s model",
                    source_arch(k->s), key, source_arch(k->s));
    return keys_real(k, key, 1);
}

/* ---- rotary positions ------------------------------------------------------------------------ */

static enum rope_scale scaling_kind(struct keys *k, double factor)
{
    struct source_str type;
    static const char key[] = ".rope.scaling.type";
    if (!keys_has(k, key)) return factor == 1 ? ROPE_PLAIN : ROPE_LINEAR; /* as in llama.cpp */
    if (!source_string(k->s, key, &type)) {
        keys_refuse(k, STRETTO_E_FORMAT, "%s%s is not a word", source_arch(k->s), key);
        return ROPE_PLAIN;
    }
#define IS(word) (type.n == strlen(word) && memcmp(type.p, word, type.n) == 0)
    if (IS("none") || IS("default")) return ROPE_PLAIN;
    if (IS("linear")) return ROPE_LINEAR;
    if (IS("yarn")) return ROPE_YARN;
    if (IS("llama3")) return ROPE_LLAMA3;
    if (IS("longrope")) return ROPE_LONG;
#undef IS
    keys_refuse(k, STRETTO_E_UNSUP,
                "rope scaling '%.*s' is not supported (linear, yarn, llama3 and longrope are)",
                (int)(type.n > 40 ? 40 : type.n), type.p);
    return ROPE_PLAIN;
}

static void read_yarn(struct rope_scaling *r, struct keys *k)
{
    r->beta_fast = keys_real(k, ".rope.scaling.yarn_beta_fast", 32);
    r->beta_slow = keys_real(k, ".rope.scaling.yarn_beta_slow", 1);
    double mix = keys_real(k, ".rope.scaling.yarn_ext_factor", -1);
    if (mix != 1 && mix >= 0)                    /* negative: as the type says, which is 1 */
        keys_refuse(k, STRETTO_E_UNSUP, "%s.rope.scaling.yarn_ext_factor is %g; only 1 is supported",
                    source_arch(k->s), mix);
}

static void read_rope_scaling(struct config *c, const struct family *f, struct keys *k)
{
    struct rope_scaling *r = &c->rope_scaling;
    static const char now[] = ".rope.scaling.factor", before[] = ".rope.scale_linear";
    bool old = !keys_has(k, now);
    r->factor = keys_real(k, before, 0);
    if (!old) r->factor = keys_real(k, now, 0);
    if (r->factor == 0) r->factor = 1;           /* none */
    r->kind = scaling_kind(k, r->factor);
    r->attn_factor = keys_real(k, ".rope.scaling.attn_factor", 1);
    r->original = keys_real(k, ".rope.scaling.original_context_length", c->context);
    if (r->kind == ROPE_YARN) read_yarn(r, k);
    c->long_rope = f->long_rope;
    if (r->kind == ROPE_LLAMA3) {
        r->low = keys_real(k, ".rope.scaling.low_freq_factor", 1);
        r->high = keys_real(k, ".rope.scaling.high_freq_factor", 4);
    }
    if (!(r->factor > 0) || !(r->original > 0) || !(r->attn_factor > 0))
        keys_refuse(k, STRETTO_E_FORMAT,
                    "rope scaling by %g over %g positions with length %g is not usable", r->factor,
                    r->original, r->attn_factor);
}

/* Queries grow with the logarithm of how many first contexts they are behind. */
static void read_temperature(struct config *c, struct keys *k)
{
    static const char key[] = ".attention.temperature_scale";
    double original = c->rope_scaling.original;
    c->temperature = keys_real(k, key, 0);
    c->rope_scaling.log_multiplier = keys_real(k, ".rope.scaling.yarn_log_multiplier", 0);
    if (!(c->rope_scaling.log_multiplier >= 0))
        keys_refuse(k, STRETTO_E_FORMAT, "%s.rope.scaling.yarn_log_multiplier is %g", source_arch(k->s),
                    c->rope_scaling.log_multiplier);
    if (c->temperature < 0 || (c->temperature > 0 && !(original >= 1 && original <= UINT32_MAX)))
        keys_refuse(k, STRETTO_E_FORMAT, "%s%s is %g over %g positions", source_arch(k->s), key, c->temperature,
                    original);
    if (c->temperature > 0 && c->n_rot != c->head_dim)
        keys_refuse(k, STRETTO_E_UNSUP, "%s%s with heads that turn in part is not supported", source_arch(k->s), key);
}

static void read_rope(struct config *c, const struct family *f, bool windows, struct keys *k)
{
    c->n_rot = c->head_dim;
    if (f->position == POSITION_LEARNED) return;
    c->n_rot = keys_size(k, ".rope.dimension_count", c->head_dim, MAX_HEAD_DIM);
    if (c->n_rot > c->head_dim || c->n_rot % 2)
        keys_refuse(k, STRETTO_E_FORMAT, "rotary size %u does not fit heads of %u", c->n_rot,
                    c->head_dim);
    same_size(k, ".rope.dimension_count_swa", c->n_rot);
    c->rope_halves = f->position == POSITION_HALVES || source_rope_halves(k->s);
    static const char base[] = ".rope.freq_base";
    c->rope_base[0] = f->rope_base > 0 ? keys_real(k, base, f->rope_base) : needed(k, base);
    c->n_rope_bases = 1;
    read_rope_scaling(c, f, k);
    if (f->warms) read_temperature(c, k);
    double usual = f->window_turn != WINDOW_TURN_OWN ? 0
                   : f->rope_base_window > 0 ? f->rope_base_window : c->rope_base[0];
    double local = keys_real(k, ".rope.freq_base_swa", usual);
    if (f->window_turn == WINDOW_TURN_OWN) c->rope_base[c->n_rope_bases++] = local;
    else if (windows && local != 0 && local != c->rope_base[0])
        keys_refuse(k, STRETTO_E_UNSUP,
                    "%s.rope.freq_base_swa is %g: a rotary base of their own for the windowed layers "
                    "is not supported in this family", f->name, local);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void read_norm(struct config *c, const struct family *f, struct keys *k)
{
    const char *key = f->norm == NORM_RMS ? ".attention.layer_norm_rms_epsilon"
                                          : ".attention.layer_norm_epsilon";
    c->eps = (float)needed(k, key);
    if (!(c->eps >= 0))
        keys_refuse(k, STRETTO_E_FORMAT, "%s%s is %g", f->name, key, (double)c->eps);
}

/* Factors at 0 are none. */
static double read_scale(const char *key, bool computed, struct keys *k)
{
    double scale = computed ? keys_real(k, key, 0) : 0;
    return scale != 0 ? scale : 1;
}

static void read_scales(struct config *c, const struct family *f, struct keys *k)
{
    c->embedding_scale = (float)read_scale(".embedding_scale", f->scales & SCALE_EMBEDDING, k);
    c->residual_scale = (float)read_scale(".residual_scale", f->scales & SCALE_RESIDUAL, k);
    double logits = read_scale(".logit_scale", f->scales & (SCALE_LOGITS | SCALE_LOGITS_UP), k);
    c->logit_scale = (float)(f->scales & SCALE_LOGITS_UP ? logits : 1 / logits);
}

/* How many pairs turn by each axis of an image; of a text all axes but the fourth are alike. */
static void read_sections(struct config *c, struct keys *k)
{
    static const char key[] = ".rope.dimension_sections";
    size_t n = 0;
    uint64_t sum = 0;
    (void)keys_has(k, ".n_deepstack_layers");            /* added to rows of images */
    if (!keys_has(k, key)) return;
    if (!source_array(k->s, key, NULL, &n) || n > 4)
        keys_refuse(k, STRETTO_E_FORMAT, "%s%s is not a list of four numbers", source_arch(k->s), key);
    for (size_t i = 0; i < n && k->status == STRETTO_OK; i++) {
        int64_t v = -1;
        if (!source_array_i64(k->s, key, i, &v) || v < 0 || v > c->head_dim || (i == 3 && v))
            keys_refuse(k, STRETTO_E_UNSUP, "%s%s holds what is not understood: three axes are", source_arch(k->s),
                        key);
        sum += (uint64_t)v;
    }
    if (sum != c->n_rot / 2)
        keys_refuse(k, STRETTO_E_FORMAT, "%s%s adds up to %llu of %u rotary pairs", source_arch(k->s), key,
                    (unsigned long long)sum, c->n_rot / 2);
}

/* Caps at 0 are none. */
static float read_cap(const char *key, float fallback, struct keys *k)
{
    double cap = keys_real(k, key, (double)fallback);
    if (cap < 0) keys_refuse(k, STRETTO_E_FORMAT, "%s%s is %g", source_arch(k->s), key, cap);
    return (float)cap;
}

stretto_status config_read(struct config *c, const struct family *f, const struct source *s,
                           struct error *err)
{
    *c = (struct config){ 0 };
    struct keys k = { .s = s, .err = err };
    read_sizes(c, &k);
    read_norm(c, f, &k);
    refuse_other_arithmetic(c, f, &k);
    read_rope(c, f, read_window(c, f, &k), &k);
    c->attention_scale = attention_scale(f, c, &k);
    if (f->caps & CAP_ATTENTION)
        c->attention_softcap = read_cap(".attn_logit_softcapping", f->attention_softcap, &k);
    if (f->caps & CAP_LOGITS)
        c->logit_softcap = read_cap(".final_logit_softcapping", f->logit_softcap, &k);
    read_scales(c, f, &k);
    if (f->parts != PARTS_IN_TURN) (void)keys_has(&k, ".use_parallel_residual");    /* the tensors say it */
    if (f->sections) read_sections(c, &k);
    TRY(keys_close(&k));
    TRY(vocab_of(s, c->width, &c->vocab, err));
    c->tied = source_tensor_find(s, "output.weight") == NULL;
    return STRETTO_OK;
}
