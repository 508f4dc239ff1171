/* Tensor names of transformers and of GGUF. Facts about the former are the modules' attribute
 * names in transformers' modeling files; about the latter, gguf-py's constants. */
#include "format/hf_int.h"
#include <stdio.h>
#include <string.h>

#define ATTENTION_AND_FEED                                                                         \
    { "layers.#.self_attn.q_proj", "blk.#.attn_q" },                                               \
        { "layers.#.self_attn.k_proj", "blk.#.attn_k" },                                           \
        { "layers.#.self_attn.v_proj", "blk.#.attn_v" },                                           \
        { "layers.#.self_attn.o_proj", "blk.#.attn_output" },                                      \
        { "layers.#.self_attn.qkv_proj", "blk.#.attn_qkv" },                                       \
        { "layers.#.self_attn.q_norm", "blk.#.attn_q_norm" },                                      \
        { "layers.#.self_attn.k_norm", "blk.#.attn_k_norm" },                                      \
        { "layers.#.mlp.gate_proj", "blk.#.ffn_gate" },                                            \
        { "layers.#.mlp.up_proj", "blk.#.ffn_up" },                                                \
        { "layers.#.mlp.gate_up_proj", "blk.#.ffn_up" },                                           \
        { "layers.#.mlp.down_proj", "blk.#.ffn_down" }, { "embed_tokens", "token_embd" },          \
        { "norm", "output_norm" }, { "lm_head", "output" },                                        \
    {                                                                                              \
        "layers.#.input_layernorm", "blk.#.attn_norm"                                              \
    }

const struct hf_name hf_names_llama[] = {
    ATTENTION_AND_FEED, { "layers.#.post_attention_layernorm", "blk.#.ffn_norm" }, { 0 }
};

/* The same words, but the norm after attention stands on attention's own output. */
const struct hf_name hf_names_gemma[] = {
    ATTENTION_AND_FEED, { "layers.#.post_attention_layernorm", "blk.#.post_attention_norm" },
    { "layers.#.pre_feedforward_layernorm", "blk.#.ffn_norm" },
    { "layers.#.post_feedforward_layernorm", "blk.#.post_ffw_norm" }, { 0 }
};

const struct hf_name hf_names_glm4[] = {
    ATTENTION_AND_FEED, { "layers.#.post_self_attn_layernorm", "blk.#.post_attention_norm" },
    { "layers.#.post_attention_layernorm", "blk.#.ffn_norm" },
    { "layers.#.post_mlp_layernorm", "blk.#.post_ffw_norm" }, { 0 }
};

/* The norm before the feed-forward part keeps the name that its place gave it. */
const struct hf_name hf_names_seed_oss[] = {
    ATTENTION_AND_FEED, { "layers.#.post_attention_layernorm", "blk.#.post_attention_norm" }, { 0 }
};

const struct hf_name hf_names_hunyuan[] = {
    ATTENTION_AND_FEED, { "layers.#.post_attention_layernorm", "blk.#.ffn_norm" },
    { "layers.#.self_attn.query_layernorm", "blk.#.attn_q_norm" },
    { "layers.#.self_attn.key_layernorm", "blk.#.attn_k_norm" }, { 0 }
};

const struct hf_name hf_names_starcoder2[] = {
    ATTENTION_AND_FEED, { "layers.#.post_attention_layernorm", "blk.#.ffn_norm" },
    { "layers.#.mlp.c_fc", "blk.#.ffn_up" }, { "layers.#.mlp.c_proj", "blk.#.ffn_down" }, { 0 }
};

const struct hf_name hf_names_phi[] = {
    ATTENTION_AND_FEED, { "layers.#.self_attn.dense", "blk.#.attn_output" }, { "layers.#.mlp.fc1", "blk.#.ffn_up" },
    { "layers.#.mlp.fc2", "blk.#.ffn_down" }, { "final_layernorm", "output_norm" }, { 0 }
};

const struct hf_name hf_names_gpt2[] = {
    { "wte", "token_embd" }, { "wpe", "position_embd" }, { "ln_f", "output_norm" },
    { "h.#.ln_1", "blk.#.attn_norm" }, { "h.#.attn.c_attn", "blk.#.attn_qkv" },
    { "h.#.attn.c_proj", "blk.#.attn_output" }, { "h.#.ln_2", "blk.#.ffn_norm" },
    { "h.#.mlp.c_fc", "blk.#.ffn_up" }, { "h.#.mlp.c_proj", "blk.#.ffn_down" },
    { "lm_head", "output" }, { 0 }
};

const struct hf_name hf_names_bert[] = {
    { "embeddings.word_embeddings", "token_embd" },
    { "embeddings.position_embeddings", "position_embd" },
    { "embeddings.token_type_embeddings", "token_types" },
    { "embeddings.LayerNorm", "token_embd_norm" },
    { "encoder.layer.#.attention.self.query", "blk.#.attn_q" },
    { "encoder.layer.#.attention.self.key", "blk.#.attn_k" },
    { "encoder.layer.#.attention.self.value", "blk.#.attn_v" },
    { "encoder.layer.#.attention.output.dense", "blk.#.attn_output" },
    { "encoder.layer.#.attention.output.LayerNorm", "blk.#.attn_output_norm" },
    { "encoder.layer.#.intermediate.dense", "blk.#.ffn_up" },
    { "encoder.layer.#.output.dense", "blk.#.ffn_down" },
    { "encoder.layer.#.output.LayerNorm", "blk.#.layer_output_norm" },
    { 0 }
};

/* Wrappers around the model proper; which of them a file has depends on the class that saved it. */
static const char *const prefixes[] = { "language_model.", "model.", "transformer.", "bert." };

/* Parts that take no part in computing the answer: caches of constants, training heads, and the
 * image side of models whose text side is used. `encoder`: of bert only. */
static const struct { const char *start, *end; bool encoder; enum hf_fate fate;
} ignored[] = {
    { "", ".rotary_emb.inv_freq", false, HF_IGNORED },
    { "", ".attn.bias", false, HF_IGNORED },
    { "", ".attn.masked_bias", false, HF_IGNORED },
    { "vision_tower.", "", false, HF_OTHER_SIDE },
    { "vision_model.", "", false, HF_OTHER_SIDE },
    { "visual.", "", false, HF_OTHER_SIDE },
    { "multi_modal_projector.", "", false, HF_OTHER_SIDE },
    { "embeddings.position_ids", "", true, HF_IGNORED },
    { "pooler.", "", true, HF_IGNORED },
    { "cls.", "", true, HF_IGNORED },
};

static bool starts(const char *s, const char *with) { return strncmp(s, with, strlen(with)) == 0; }

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), w = strlen(with);
    return n >= w && strcmp(s + n - w, with) == 0;
}

/* Matches `name` up to `stem` bytes against a pattern; the digits at '#' are given back. */
static bool matches(const char *pattern, const char *name, size_t stem, const char **digits,
                    size_t *n)
{
    const char *end = name + stem;
    *n = 0;
    for (; *pattern; pattern++) {
        if (*pattern != '#') {
            if (name == end || *name++ != *pattern) return false;
            continue;
        }
        *digits = name;
        while (name < end && *name >= '0' && *name <= '9') name++;
        *n = (size_t)(name - *digits);
        if (*n == 0 || *n > 5 || (*n > 1 && **digits == '0')) return false;
    }
    return name == end;
}

static bool write_name(const char *to, const char *digits, size_t n, const char *tail,
                       char out[MAX_NAME_LENGTH + 1])
{
    const char *hash = strchr(to, '#');
    int head = hash ? (int)(hash - to) : (int)strlen(to);
    int len = snprintf(out, MAX_NAME_LENGTH + 1, "%.*s%.*s%s%s", head, to, (int)n, digits,
                       hash ? hash + 1 : "", tail);
    return len > 0 && len <= MAX_NAME_LENGTH;
}

enum hf_fate hf_translate(const struct hf_config *c, const char *name, size_t n,
                          char to[MAX_NAME_LENGTH + 1])
{
    char copy[MAX_NAME_LENGTH + 1];
    if (n > MAX_NAME_LENGTH) return HF_UNKNOWN;
    memcpy(copy, name, n);
    copy[n] = '\0';
    const char *rest = copy;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (starts(rest, prefixes[i])) {
            rest += strlen(prefixes[i]);
            i = (size_t)-1;                              /* they nest: begin again */
        }
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        if (starts(rest, ignored[i].start) && ends(rest, ignored[i].end)
            && (!ignored[i].encoder || c->family->encoder)) return ignored[i].fate;

    const char *tail = ends(rest, ".weight") || ends(rest, ".gamma") ? ".weight"
                       : ends(rest, ".bias") || ends(rest, ".beta") ? ".bias" : NULL;
    if (!tail) return HF_UNKNOWN;
    size_t stem = (size_t)(strrchr(rest, '.') - rest);
    for (const struct hf_name *row = c->family->names; row->from; row++) {
        const char *digits = "";
        size_t n_digits;
        if (matches(row->from, rest, stem, &digits, &n_digits))
            return write_name(row->to, digits, n_digits, tail, to) ? HF_USED : HF_UNKNOWN;
    }
    return HF_UNKNOWN;
}
