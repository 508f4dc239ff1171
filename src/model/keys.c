#include "model/keys_int.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void keys_refuse(struct keys *k, stretto_status status, const char *fmt, ...)
{
    if (k->status != STRETTO_OK) return;
    char words[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    k->status = fail(k->err, status, "%s", words);
}

static bool asked(const struct keys *k, const char *key)
{
    for (size_t i = 0; i < k->n_asked; i++)
        if (strcmp(k->asked[i], key) == 0) return true;
    return false;
}

bool keys_has(struct keys *k, const char *key)
{
    if (asked(k, key)) return source_has(k->s, key);
    if (k->n_asked == KEYS_MAX) {
        keys_refuse(k, STRETTO_E_UNSUP, "more than %d kinds of keys were asked for", KEYS_MAX);
        return false;
    }
    k->asked[k->n_asked++] = key;
    return source_has(k->s, key);
}

uint64_t keys_count(struct keys *k, const char *key, uint64_t fallback)
{
    uint64_t v = fallback;
    if (!keys_has(k, key) || source_each_u64(k->s, key, &v)) return v;
    if (source_array(k->s, key, NULL, NULL))
        keys_refuse(k, STRETTO_E_UNSUP, "%s%s differs between layers, which is not supported",
                    source_arch(k->s), key);
    else
        keys_refuse(k, STRETTO_E_FORMAT, "%s%s is not a whole number", source_arch(k->s), key);
    return fallback;
}

uint32_t keys_size(struct keys *k, const char *key, uint64_t fallback, uint64_t max)
{
    uint64_t v = keys_count(k, key, fallback);
    bool there = source_has(k->s, key);
    if (!there && !fallback)
        keys_refuse(k, STRETTO_E_FORMAT, "the file does not say %s%s; it is no complete %s model",
                    source_arch(k->s), key, source_arch(k->s));
    else if (v < 1 || v > max)
        keys_refuse(k, STRETTO_E_FORMAT, "%s%s is %llu; expected 1 to %llu", source_arch(k->s), key,
                    (unsigned long long)v, (unsigned long long)max);
    return k->status == STRETTO_OK ? (uint32_t)v : 1;
}

/* Each array is read once for all layers: hostile files have long ones, and many layers. An array of equal
 * numbers counts as one number, whatever its length. */
void keys_sizes(struct keys *k, const char *key, uint64_t max, uint32_t *sizes, uint32_t layers)
{
    uint64_t same;
    size_t n;
    if (!source_array(k->s, key, NULL, &n) || source_each_u64(k->s, key, &same)) {
        bool there = source_has(k->s, key);
        uint32_t size = keys_size(k, key, sizes[0], max);
        for (uint32_t i = 0; i < layers && (there || !sizes[i]); i++) sizes[i] = size;
        return;
    }
    if (keys_has(k, key) && n != layers)
        keys_refuse(k, STRETTO_E_FORMAT, "%s%s has %zu elements; expected one for each of %u layers",
                    source_arch(k->s), key, n, layers);
    for (uint32_t i = 0; i < layers; i++) {
        int64_t v = 0;
        if (k->status == STRETTO_OK
            && (!source_array_i64(k->s, key, i, &v) || v < 1 || (uint64_t)v > max))
            keys_refuse(k, STRETTO_E_FORMAT, "%s%s is %lld in layer %u; expected 1 to %llu",
                        source_arch(k->s), key, (long long)v, i, (unsigned long long)max);
        sizes[i] = k->status == STRETTO_OK ? (uint32_t)v : 1;
    }
}

double keys_real(struct keys *k, const char *key, double fallback)
{
    double v = fallback;
    if (keys_has(k, key) && (!source_f64(k->s, key, &v) || !isfinite(v))) {
        keys_refuse(k, STRETTO_E_FORMAT, "%s%s is not a finite number", source_arch(k->s), key);
        return fallback;
    }
    return v;
}

bool keys_flag(struct keys *k, const char *key, bool fallback)
{
    bool v = fallback;
    if (keys_has(k, key) && !source_bool(k->s, key, &v))
        keys_refuse(k, STRETTO_E_FORMAT, "%s%s is not true or false", source_arch(k->s), key);
    return v;
}

/* ---- keys that nobody asked for -------------------------------------------------------------- */

/* What such a key may say without changing anything: whatever it likes, "none" (zero, false or
 * nothing, in each element of an array), "times one" (none, or one) or "in every layer" (ones). */
enum may { ANYTHING, NONE, TIMES_ONE, ONES };

/* llama.cpp's llama_model_save_to_file writes the keys of all its families into every file, with
 * such values where a family has no use for them. A '*' stands for any ending. */
static const struct { const char *key; enum may may; } harmless[] = {
    { ".vocab_size", ANYTHING },                       /* the embedding's shape says it           */
    { ".tensor_data_layout", ANYTHING },               /* where the converter found the weights   */
    { ".pooling_type", ANYTHING },                     /* whoever pools asks, not the model       */
    { ".attention.layer_norm_epsilon", ANYTHING },     /* of the kind of norm that the family     */
    { ".attention.layer_norm_rms_epsilon", ANYTHING }, /*   does not have                         */
    { ".attn_logit_softcapping", ANYTHING },           /* of families that have none              */
    { ".final_logit_softcapping", ANYTHING },
    { ".rope.freq_base", ANYTHING },                   /* of families whose positions are learned */
    { ".rope.freq_base_swa", ANYTHING },
    { ".rope.dimension_count", ANYTHING },
    { ".rope.dimension_count_swa", ANYTHING },
    { ".rope.scale_linear", ANYTHING },
    { ".rope.scaling.type", ANYTHING },
    { ".rope.scaling.factor", ANYTHING },
    { ".rope.scaling.attn_factor", ANYTHING },
    { ".rope.scaling.original_context_length", ANYTHING },
    { ".rope.scaling.finetuned", ANYTHING },           /* how the scaling came about              */
    { ".rope.scaling.yarn_beta_*", ANYTHING },         /* of another scaling than the file's      */
    { ".rope.scaling.yarn_ext_factor", ANYTHING },
    { ".rope.scaling.yarn_attn_factor", TIMES_ONE },
    { ".rope.scaling.yarn_log_multiplier", NONE },
    { ".rope.scaling.low_freq_factor", ANYTHING },
    { ".rope.scaling.high_freq_factor", ANYTHING },
    { ".rope.scaling.*", NONE },
    { ".rope.dimension_sections", NONE },
    { ".router_logit_softcapping", ANYTHING },         /* of experts, which config.c refuses      */
    { ".expert*", ANYTHING },
    { ".moe_*", ANYTHING },
    { ".leading_dense_block_count", ANYTHING },
    { ".interleave_moe_layer_step", ANYTHING },
    { ".swiglu_clamp_*", NONE },
    { ".logit_scale", TIMES_ONE },
    { ".residual_scale", TIMES_ONE },
    { ".embedding_scale", TIMES_ONE },
    { ".attention.output_scale", TIMES_ONE },
    { ".attention.value_scale", TIMES_ONE },
    { ".attention.sliding_window", NONE },
    { ".attention.sliding_window_pattern", ANYTHING }, /* of no window                            */
    { ".attention.rope_pattern", ONES },
    { ".attention.clamp_kqv", NONE },
    { ".attention.max_alibi_bias", NONE },
    { ".attention.group_norm_*", NONE },
    { ".attention.relative_buckets_count", NONE },
    { ".attention.temperature_*", NONE },
    { ".attention.recurrent_layers", NONE },
    { ".attention.key_length_mla*", NONE },
    { ".attention.value_length_mla*", NONE },
    { ".attention.q_lora_rank", NONE },
    { ".attention.kv_lora_rank*", NONE },
    { ".attention.decay_lora_rank", NONE },
    { ".attention.iclr_lora_rank", NONE },
    { ".attention.gate_lora_rank", NONE },
    { ".attention.value_residual_mix_lora_rank", NONE },
    { ".attention.output_lora_rank", NONE },
    { ".attention.output_group_count", NONE },
    { ".attention.compress_*", NONE },
    { ".attention.indexer.kpool_select_tail", ANYTHING }, /* of an indexer without keys */
    { ".attention.indexer.*", NONE },
    { ".use_parallel_residual", NONE },
    { ".nextn_predict_layers", NONE },
    { ".embedding_length_out", NONE },
    { ".embedding_length_per_layer_input", NONE },
    { ".n_deepstack_layers", NONE },
    { ".deepstack_mapping", ANYTHING },                /* of no such layers                       */
    { ".decoder_block_count", NONE },
    { ".decoder_start_token_id", ANYTHING },           /* of a decoder without blocks             */
    { ".token_shift_count", ANYTHING },                /* of families with time mixing            */
    { ".time_*", NONE },
    { ".rescale_every_n_layers", NONE },
    { ".swin_norm", NONE },
    { ".activation.situ_beta", TIMES_ONE },
    { ".activation.situ_linear_beta", NONE },
    { ".attn_res.block_size", NONE },
    { ".classifier.*", ANYTHING },                     /* of a head, whose tensors are refused    */
    { ".kda.gate_lower_bound", ANYTHING },             /* of heads without a size                 */
    { ".kda.*", NONE },
    { ".ssm.*", NONE },
    { ".wkv.*", NONE },
    { ".hrm.*", NONE },
    { ".ple.*", NONE },
    { ".posnet.*", NONE },
    { ".convnext.*", NONE },
    { ".shortconv.*", NONE },
    { ".hyper_connection.*", NONE },
    { ".hash_layer_count", NONE },
    { ".dense_*", NONE },
};

static bool matches(const char *key, const char *pattern)
{
    size_t n = strcspn(pattern, "*");
    return strncmp(key, pattern, n) == 0 && (pattern[n] == '*' || strcmp(key, pattern) == 0);
}

static bool element_says(enum may may, double v)
{
    return may == ONES ? v == 1 : v == 0 || (may == TIMES_ONE && v == 1);
}

static bool says(const struct source *s, const char *key, enum may may)
{
    double v;
    bool flag;
    size_t n;
    if (may == ANYTHING) return true;
    if (source_f64(s, key, &v)) return element_says(may, v);
    if (source_bool(s, key, &flag)) return element_says(may, flag);
    if (!source_array(s, key, NULL, &n)) return false;
    for (size_t i = 0; i < n; i++)
        if (!source_array_f64(s, key, i, &v) || !element_says(may, v)) return false;
    return true;
}

static void close_key(struct keys *k, const char *key)
{
    if (asked(k, key)) return;
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        if (!matches(key, harmless[i].key)) continue;
        if (says(k->s, key, harmless[i].may)) return;
        break;
    }
    keys_refuse(k, STRETTO_E_UNSUP,
                "the file says %s%.80s, which this program does not compute; without it the model "
                "would answer wrongly, so it is not run: use a file of another member of the "
                "family", source_arch(k->s), key);
}

stretto_status keys_close(struct keys *k)
{
    const char *arch = source_arch(k->s);
    size_t n = strlen(arch);
    for (size_t i = 0; i < source_key_count(k->s) && k->status == STRETTO_OK; i++) {
        const char *name = source_key_at(k->s, i, NULL);
        if (strncmp(name, arch, n) == 0 && name[n] == '.') close_key(k, name + n);
    }
    return k->status;
}
