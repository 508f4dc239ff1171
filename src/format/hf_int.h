/* The pieces of reading a Hugging Face folder: what config.json says (hf_config.c), what the
 * tensors are called (hf_names.c), where their bytes lie (safetensors.c). hf.c puts them
 * together. */
#ifndef FORMAT_HF_INT_H
#define FORMAT_HF_INT_H
#include "format/safetensors.h"
#include "format/source_int.h"

/* One family of models as config.json describes it: what transformers assumes where a file is
 * silent. Zero stands for "must be in the file", heads_kv zero for "as many as heads". */
struct hf_family {
    const char *model_type;             /* in config.json */
    const char *arch;                   /* in GGUF */
    const struct hf_name *names;
    const char *activation[2];          /* spellings of the one activation the family computes */
    uint64_t context, heads, heads_kv, head_dim;
    double eps, rope_base, rope_base_window;
    bool layer_norm, rope_halves, norm_plus_one, tied, encoder;
    uint64_t window_pattern;            /* every n-th layer sees everything */
};

/* "layers.#.mlp.up_proj" -> "blk.#.ffn_up"; the ending .weight or .bias is kept. */
struct hf_name { const char *from, *to; };
extern const struct hf_name hf_names_llama[], hf_names_gemma[], hf_names_gpt2[], hf_names_bert[];

/* What config.json says that tensors need to know. */
struct hf_config { const struct hf_family *family; bool tied; };

/* Turns config.json (and generation_config.json) into GGUF metadata of `s`. */
stretto_status hf_config_read(struct source *s, struct hf_config *out, struct error *err);

enum hf_fate { HF_USED, HF_IGNORED, HF_UNKNOWN };
/* `to` gets the GGUF name (at most MAX_NAME_LENGTH bytes). */
enum hf_fate hf_translate(const struct hf_config *c, const char *name, size_t n,
                          char to[MAX_NAME_LENGTH + 1]);

#endif
