/* The pieces of reading a Hugging Face folder: what config.json says (hf_config.c), what the
 * tensors are called (hf_names.c), where their bytes lie (safetensors.c). hf.c puts them
 * together. */
#ifndef FORMAT_HF_INT_H
#define FORMAT_HF_INT_H
#include "format/safetensors.h"
#include "format/source_int.h"

/* Which layers see only a window: none, all, those from `window_layers` on when
 * "use_sliding_window" is set, or all but every n-th. "layer_types" may say otherwise. */
enum hf_windows { HF_WINDOW_NOWHERE, HF_WINDOW_EVERYWHERE, HF_WINDOW_ABOVE, HF_WINDOW_PATTERN };

/* One family of models as config.json describes it: what transformers assumes where a file is
 * silent. heads_kv, head_dim and feed 0: from the other sizes; window 0: none. */
struct hf_family {
    const char *model_type;             /* in config.json */
    const char *with_others;            /* ... of a model whose text side it is */
    const char *arch;                   /* in GGUF */
    const struct hf_name *names;
    struct { const char *key, *word, *also; } activation; /* spellings of the one that is computed */
    uint64_t layers, width, feed, heads, heads_kv, head_dim, context;
    uint64_t first_context;             /* "original_max_position_embeddings" beside the sizes */
    double eps, rope_base, rope_base_window;
    const char *tokenizer;              /* as format_tokenizer_class gives it */
    const char *base_key;               /* of the windowed layers; NULL: in "rope_parameters" only */
    const char *eps_key;                /* NULL: "rms_norm_eps" */
    const char *logit_scale;            /* a word for what logits are multiplied by; its default, below */
    double usual_logit_scale;
    bool learned;                       /* positions, in a table */
    bool beside;                        /* "use_parallel_residual" says whether parts of a block have one norm */
    bool layer_norm, rope_halves, norm_plus_one, tied, encoder;
    bool conv1d;                        /* matrices are stored turned, sizes have GPT-2's words */
    bool always_biased;                 /* q, k and v have biases; "attention_bias" says nothing */
    struct { const char *qkv, *out, *feed; } bias; /* what says that linear layers have some; NULL: "attention_bias"
                                           (of both) and "mlp_bias"; "": nothing does */
    bool biased;                        /* q, k and v of a file that is silent */
    const char *reads[4];               /* words that files of most families may not say */
    const char *usual_rope;             /* "rope_parameters" of a file that is silent */
    bool rope_alpha;                    /* a scaling "dynamic" with an "alpha" is another base */
    bool rope_warms;                    /* "llama_4_scaling_beta" stands beside the scaling, and must */
    bool rope_layers;                   /* "no_rope_layers": all but every fourth turn where the file is silent */
    bool scales;                        /* granite's four multipliers */
    double rope_share;                  /* "partial_rotary_factor" of a file that is silent; 0: all */
    bool rope_part;                     /* "partial_rotary_factor" has a meaning */
    enum hf_windows windows;
    uint64_t window, window_layers, window_pattern;
    bool own_pattern;                   /* "sliding_window_pattern" may name another */
    bool window_null;                   /* "sliding_window": null is no window */
    double query_scalar, attention_softcap, logit_softcap;
};

/* The row of a "model_type", or NULL. */
const struct hf_family *hf_family_find(const char *model_type);
/* "llama, mistral ... and bert", written into `text`, which is returned. */
const char *hf_family_names(char *text, size_t size);

/* "layers.#.mlp.up_proj" -> "blk.#.ffn_up"; the ending .weight or .bias is kept. */
struct hf_name { const char *from, *to; };
extern const struct hf_name hf_names_llama[], hf_names_gemma[], hf_names_glm4[], hf_names_seed_oss[],
    hf_names_hunyuan[], hf_names_starcoder2[], hf_names_phi[], hf_names_gpt2[], hf_names_bert[];

/* What config.json says that tensors need to know; biases it speaks of must be there. */
struct hf_config { const struct hf_family *family; bool tied, bias_qkv, bias_out, bias_feed, beside; };
/* The word for a bias of a family. */
static inline const char *hf_bias_word(const char *own, const char *usual) { return own ? own : usual; }

/* Turns config.json (and generation_config.json) into GGUF metadata of `s`. */
stretto_status hf_config_read(struct source *s, struct hf_config *out, struct error *err);

/* What sentence-transformers' files in the folder say about embeddings. */
struct hf_pooling { int kind; bool normalize; char refusal[240]; };   /* kind -1: nothing */
stretto_status hf_pooling_read(const struct source *s, struct hf_pooling *out, struct error *err);

/* HF_OTHER_SIDE: of a model that also sees, whose text side is used. */
enum hf_fate { HF_USED, HF_IGNORED, HF_OTHER_SIDE, HF_UNKNOWN };
/* `to` gets the GGUF name (at most MAX_NAME_LENGTH bytes). */
enum hf_fate hf_translate(const struct hf_config *c, const char *name, size_t n,
                          char to[MAX_NAME_LENGTH + 1]);

#endif
