#include "compress/mixture.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct mixture mixtures[] = {
    { "f32", DT_F32, 0 },         { "f16", DT_F16, 1 },         { "bf16", DT_BF16, 32 },
    { "q8_0", DT_Q8_0, 7 },       { "q6_k", DT_Q6_K, 18 },      { "q5_k_m", DT_Q5_K, 17 },
    { "q5_k_s", DT_Q5_K, 16 },    { "q5_1", DT_Q5_1, 9 },       { "q5_0", DT_Q5_0, 8 },
    { "q4_k_m", DT_Q4_K, 15 },    { "q4_k_s", DT_Q4_K, 14 },    { "q4_1", DT_Q4_1, 3 },
    { "q4_0", DT_Q4_0, 2 },       { "iq4_nl", DT_IQ4_NL, 25 },  { "iq4_xs", DT_IQ4_XS, 30 },
    { "mxfp4", DT_MXFP4, 38 },    { "q3_k_l", DT_Q3_K, 13 },    { "q3_k_m", DT_Q3_K, 12 },
    { "q3_k_s", DT_Q3_K, 11 },    { "q2_k", DT_Q2_K, 10 },      { "q2_k_s", DT_Q2_K, 21 },
    /* As llama-quantize takes them, for the mixture of middle size. */
    { "q5_k", DT_Q5_K, 17 },      { "q4_k", DT_Q4_K, 15 },      { "q3_k", DT_Q3_K, 12 },
};
enum { N_MIXTURES = sizeof mixtures / sizeof *mixtures };

static bool supported(const struct mixture *m) { return dtype_table[m->type].block != 0; }

const struct mixture *mixture_find(const char *name)
{
    for (size_t i = 0; i < N_MIXTURES; i++)
        if (strcasecmp(mixtures[i].name, name) == 0) return supported(&mixtures[i]) ? &mixtures[i] : NULL;
    return NULL;
}

const char *mixture_words(void)
{
    return "q8_0|q6_k|q5_k_m|q5_k_s|q5_1|q5_0|q4_k_m|q4_k_s|q4_1|q4_0|iq4_nl|iq4_xs|mxfp4|q3_k_l|q3_k_m|q3_k_s|"
           "q2_k|q2_k_s|bf16|f16|f32";
}

const char *const weight_role_names[WEIGHT_ROLES] = { "-", "embedding", "head", "position", "q", "k", "v", "qkv", "o",
                                                      "gate", "up", "down", "other" };

/* "blk.7.attn_q.weight": 7 and "attn_q.weight". */
static const char *in_layer(const char *name, uint32_t *layer)
{
    char *end;
    *layer = 0;
    if (strncmp(name, "blk.", 4) != 0) return NULL;
    unsigned long n = strtoul(name + 4, &end, 10);
    if (end == name + 4 || *end != '.') return NULL;
    *layer = n < UINT32_MAX ? (uint32_t)n : 0;
    return end + 1;
}

enum weight_role weight_role(const char *name, uint32_t n_dims, bool tied, uint32_t *layer)
{
    static const struct { const char *name; enum weight_role role; } rows[] = {
        { "attn_q.weight", WEIGHT_Q }, { "attn_k.weight", WEIGHT_K }, { "attn_v.weight", WEIGHT_V },
        { "attn_qkv.weight", WEIGHT_QKV }, { "attn_output.weight", WEIGHT_O }, { "ffn_gate.weight", WEIGHT_GATE },
        { "ffn_up.weight", WEIGHT_UP }, { "ffn_down.weight", WEIGHT_DOWN },
    };
    const char *inside = in_layer(name, layer);
    size_t n = strlen(name);
    if (n_dims < 2 || n < 6 || strcmp(name + n - 6, "weight") != 0 || strstr(name, "norm.weight")) return WEIGHT_NONE;
    if (strcmp(name, "output.weight") == 0) return WEIGHT_HEAD;
    if (strcmp(name, "token_embd.weight") == 0) return tied ? WEIGHT_HEAD : WEIGHT_EMBEDDING;
    if (strcmp(name, "position_embd.weight") == 0 || strcmp(name, "token_types.weight") == 0) return WEIGHT_POSITION;
    for (size_t i = 0; inside && i < sizeof rows / sizeof *rows; i++)
        if (strcmp(inside, rows[i].name) == 0) return rows[i].role;
    return WEIGHT_OTHER;
}

/* Layers at both ends and every third between. */
static bool more_bits(uint32_t layer, uint32_t layers)
{
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

static enum dtype value_type(const struct mixture *m, const struct mixture_about *a, uint32_t layer)
{
    bool shared = a->kv_heads && a->heads / a->kv_heads >= 4;
    switch (m->file_type) {
    case 10: return shared ? DT_Q4_K : DT_Q3_K;
    case 21: return shared ? DT_Q4_K : m->type;
    case 12: return layer < 2 ? DT_Q5_K : DT_Q4_K;
    case 13: return DT_Q5_K;
    case 14: return layer < 4 ? DT_Q5_K : m->type;
    case 15: case 17: return more_bits(layer, a->layers) ? DT_Q6_K : m->type;
    case 25: case 30: return shared ? DT_Q5_K : m->type;
    default: return m->type;
    }
}

static enum dtype down_type(const struct mixture *m, const struct mixture_about *a, uint32_t layer)
{
    bool first = layer < a->layers / 8;
    switch (m->file_type) {
    case 10: return DT_Q3_K;
    case 21: return first ? DT_Q4_K : m->type;
    case 12: return layer < a->layers / 16 ? DT_Q5_K : DT_Q4_K;
    case 13: return DT_Q5_K;
    case 14: return first ? DT_Q5_K : m->type;
    case 15: case 17: return more_bits(layer, a->layers) ? DT_Q6_K : m->type;
    case 2: return first ? DT_Q4_1 : m->type;
    case 8: return first ? DT_Q5_1 : m->type;
    default: return m->type;
    }
}

static enum dtype output_type(const struct mixture *m)
{
    switch (m->file_type) {
    case 10: return DT_Q3_K;
    case 12: return DT_Q4_K;
    case 13: return DT_Q5_K;
    default: return m->type;
    }
}

enum dtype mixture_fit(enum dtype t, uint64_t n_in)
{
    if (n_in % dtype_table[t].block == 0) return t;
    switch (t) {
    case DT_IQ4_XS: t = DT_IQ4_NL; break;
    case DT_Q2_K: case DT_Q3_K: t = DT_Q4_0; break;
    case DT_Q4_K: t = DT_Q5_0; break;
    case DT_Q5_K: t = DT_Q5_1; break;
    case DT_Q6_K: t = DT_Q8_0; break;
    default: return DT_F16;
    }
    return n_in % dtype_table[t].block == 0 ? t : DT_F16;
}

enum dtype mixture_type(const struct mixture *m, const struct mixture_about *a, enum weight_role role,
                        uint32_t layer, uint64_t n_in)
{
    if (role == WEIGHT_NONE || role == WEIGHT_POSITION) return DT_F32;
    if (dtype_table[m->type].block == 1) return m->type;
    enum dtype t = m->type;
    if (role == WEIGHT_HEAD)
        t = t == DT_MXFP4 || t == DT_Q8_0 || n_in % dtype_table[t].block ? DT_Q8_0 : DT_Q6_K;
    else if (role == WEIGHT_V || role == WEIGHT_QKV) t = value_type(m, a, layer);
    else if (role == WEIGHT_DOWN) t = down_type(m, a, layer);
    else if (role == WEIGHT_O) t = output_type(m);
    return mixture_fit(t, n_in);
}
