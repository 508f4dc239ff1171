/* Sizes of a model from the metadata of its file. Whatever a hostile file says, the products of the
 * sizes stay small enough that no later arithmetic overflows. */
#include "format/source.h"
#include "model/family.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_LAYERS = 1024,
    MAX_WIDTH = 1 << 17,
    MAX_FEED = 1 << 19,
    MAX_HEADS = 1024,
    MAX_HEAD_DIM = 512,
    MAX_CONTEXT = 1 << 24,
    MAX_VOCAB = 1 << 22
};

/* Key must be a whole number in 1..max; absent: `fallback`, or an error when that is 0. */
static stretto_status size_of(const struct source *s, const char *key, uint64_t fallback,
                              uint64_t max, uint32_t *out, struct error *err)
{
    uint64_t v;
    int64_t first;
    enum source_kind kind;
    size_t n;
    if (!source_u64(s, key, &v)) {
        /* Some files give one number per layer; only equal ones are one family member. */
        if (source_array(s, key, &kind, &n) && n > 0 && source_array_i64(s, key, 0, &first)) {
            for (size_t i = 1; i < n; i++) {
                int64_t other;
                if (!source_array_i64(s, key, i, &other) || other != first)
                    return fail(err, STRETTO_E_UNSUP,
                                "%s%s differs between layers, which is not supported",
                                source_arch(s), key);
            }
            v = first > 0 ? (uint64_t)first : 0;
        } else
            v = fallback;
        if (!v)
            return fail(err, STRETTO_E_FORMAT,
                        "the file does not say %s%s; it is no complete %s model", source_arch(s),
                        key, source_arch(s));
    }
    if (v < 1 || v > max)
        return fail(err, STRETTO_E_FORMAT, "%s%s is %llu; expected 1 to %llu", source_arch(s), key,
                    (unsigned long long)v, (unsigned long long)max);
    *out = (uint32_t)v;
    return STRETTO_OK;
}

static float real_of(const struct source *s, const char *key, double fallback)
{
    double v;
    return (float)(source_f64(s, key, &v) && isfinite(v) ? v : fallback);
}

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

/* gemma's 27B members scale queries by the width per head instead of the head's size; their GGUF
 * files do not say so, the number of layers tells them (46 in gemma 2, 62 in gemma 3). */
static float attention_scale(const struct family *f, const struct config *c, const struct source *s)
{
    double scalar;
    if (source_f64(s, ".attention.query_pre_attn_scalar", &scalar) && scalar > 0)
        return (float)(1.0 / sqrt(scalar));
    bool big = (strcmp(f->name, "gemma2") == 0 && c->layers == 46)
        || (strcmp(f->name, "gemma3") == 0 && c->layers == 62);
    return (float)(1.0 / sqrt(big ? (double)c->width / c->heads : (double)c->head_dim));
}

stretto_status config_read(struct config *c, const struct family *f, const struct source *s,
                           struct error *err)
{
    *c = (struct config){ 0 };
    TRY(size_of(s, ".block_count", 0, MAX_LAYERS, &c->layers, err));
    TRY(size_of(s, ".embedding_length", 0, MAX_WIDTH, &c->width, err));
    TRY(size_of(s, ".feed_forward_length", 0, MAX_FEED, &c->feed, err));
    TRY(size_of(s, ".attention.head_count", 0, MAX_HEADS, &c->heads, err));
    TRY(size_of(s, ".attention.head_count_kv", c->heads, MAX_HEADS, &c->kv_heads, err));
    TRY(size_of(s, ".attention.key_length", c->width / c->heads, MAX_HEAD_DIM, &c->head_dim, err));
    TRY(size_of(s, ".context_length", 0, MAX_CONTEXT, &c->context, err));
    TRY(size_of(s, ".rope.dimension_count", c->head_dim, MAX_HEAD_DIM, &c->n_rot, err));
    TRY(vocab_of(s, c->width, &c->vocab, err));
    uint64_t value_length, window = 0, experts = 0;
    if (source_u64(s, ".expert_count", &experts) && experts > 0)
        return fail(err, STRETTO_E_UNSUP,
                    "the model has %llu experts per layer; mixtures of experts are not supported, "
                    "only dense models of the %s family",
                    (unsigned long long)experts, f->name);
    if (source_u64(s, ".attention.value_length", &value_length) && value_length != c->head_dim)
        return fail(err, STRETTO_E_UNSUP,
                    "keys have %u and values %llu numbers per head; only equal "
                    "sizes are supported",
                    c->head_dim, (unsigned long long)value_length);
    if (c->heads % c->kv_heads)
        return fail(err, STRETTO_E_FORMAT, "%u heads cannot share %u key/value heads", c->heads,
                    c->kv_heads);
    if (c->n_rot > c->head_dim || c->n_rot % 2)
        return fail(err, STRETTO_E_FORMAT, "rotary size %u does not fit heads of %u", c->n_rot,
                    c->head_dim);
    if (source_u64(s, ".attention.sliding_window", &window) && window < c->context)
        c->window = (uint32_t)window;
    c->eps = real_of(s, f->norm == NORM_RMS ? ".attention.layer_norm_rms_epsilon"
                                            : ".attention.layer_norm_epsilon", 1e-5);
    c->attention_softcap = real_of(s, ".attn_logit_softcapping", 0);
    c->logit_softcap = real_of(s, ".final_logit_softcapping", 0);
    c->attention_scale = attention_scale(f, c, s);
    c->rope_base = real_of(s, ".rope.freq_base", f->rope_base);
    c->rope_base_window =
        f->rope_base_window ? real_of(s, ".rope.freq_base_swa", f->rope_base_window) : 0;
    c->tied = source_tensor_find(s, "output.weight") == NULL;
    c->rope_halves = f->position == POSITION_HALVES || source_rope_halves(s);
    return STRETTO_OK;
}
