/* A model family is a row of choices, not a program: one builder (build.c) reads the row and the
 * sizes and makes the graph. Sources of each row: docs/papers.md. */
#ifndef MODEL_FAMILY_H
#define MODEL_FAMILY_H
#include "graph/graph.h"

struct source;

/* Where the norms of a block f stand: x + f(norm(x)), x + norm(f(norm(x))), x + norm(f(x)) or
 * norm(x + f(x)). */
enum norm_at { NORM_BEFORE, NORM_AROUND, NORM_OF_OUTPUT, NORM_OF_SUM };
/* Of NORM_BEFORE: the parts of a block follow one another; or they stand side by side, x + f(norm(x)) + g(norm(x)),
 * with one norm for both; or side by side when the file has no norm for the second. */
enum parts { PARTS_IN_TURN, PARTS_BESIDE, PARTS_BESIDE_IF_ONE_NORM };
/* What an rms norm of queries and keys, before they are turned, takes as one: a head, or all of them; or
 * heads, behind that. */
enum qk_norm { QK_NORM_NONE, QK_NORM_HEADS, QK_NORM_WIDTH, QK_NORM_TURNED };
enum position { POSITION_PAIRS, POSITION_HALVES, POSITION_LEARNED };
enum feed { FEED_SILU_GATED, FEED_GELU_GATED, FEED_GELU_TANH, FEED_GELU_ERF };
enum bias { BIAS_NONE, BIAS_QKV, BIAS_ALL };
enum { CAP_ATTENTION = 1, CAP_LOGITS = 2 };
/* Factors that the file names: of embeddings, of what a block adds, of logits, which are divided or multiplied by
 * theirs. */
enum { SCALE_EMBEDDING = 1, SCALE_RESIDUAL = 2, SCALE_LOGITS = 4, SCALE_LOGITS_UP = 8 };
/* Layers whose queries and keys are turned: all; all, or none where rope.scaling.finetuned is false; all but every
 * fourth, unless attention.rope_pattern says which; those with a window, or all of a file without one; those with a
 * window. */
enum turned { TURNED_ALL, TURNED_IF_SAID, TURNED_BUT_FOURTH, TURNED_IN_WINDOW, TURNED_IN_WINDOW_ONLY };
/* How layers with a window turn queries and keys: as the others do, or unscaled and from a base of their
 * own. */
enum window_turn { WINDOW_TURN_SHARED, WINDOW_TURN_OWN };

struct family {
    const char *name;  /* general.architecture of GGUF                                   */
    const char *title; /* what people call its models                                    */
    enum norm_kind norm;
    enum norm_at norm_at;
    enum parts parts;
    bool norm_unbiased;      /* its layer norms have no bias, unless the file has one                */
    enum position position;
    enum feed feed;
    enum bias bias;          /* which every member has; others exist when the file holds their tensors */
    unsigned caps;           /* the soft caps the family computes; 0: files' keys for them mean nothing */
    float attention_softcap, logit_softcap; /* when the file names none */
    uint32_t window;         /* when the file names none                                         */
    enum qk_norm qk_norm;
    const char *feed_norm;   /* the tensor of the norm before the feed-forward part; NULL: "ffn_norm" */
    unsigned scales;         /* which it computes; 0: files' keys for them are refused              */
    enum turned turned;
    bool long_rope;          /* files may have factors for texts beyond the first context            */
    bool warms;              /* queries may grow with their position                                */
    bool sections;           /* positions of images have several axes, which texts have alike       */
    bool embed_scaled;       /* embeddings times sqrt(width)                                     */
    bool token_types;        /* a type embedding and a norm after the embeddings (bert)          */
    bool bidirectional;      /* an encoder: no head, rows see each other                         */
    uint32_t window_pattern; /* when the file names none: every n-th layer is full, the others
                                see the window; 0: the window holds in all layers                */
    double rope_base;        /* when the file names none; 0: it must                             */
    enum window_turn window_turn;
    double rope_base_window; /* WINDOW_TURN_OWN, when the file names none; 0: that of the others */
    uint32_t layers_of_27b;  /* gemma's largest member, which scales queries by the width per head
                                and says so by its number of layers only; 0: no such member      */
};

/* NULL when there is no such row. */
const struct family *family_find(const char *name);
/* The i-th row, or NULL behind the last. */
const struct family *family_at(size_t i);
/* "llama, qwen2, ...", written into `text`, which is returned. */
const char *family_names(char *text, size_t size);

/* How the angles of the full layers are scaled; see rope.c. */
enum rope_scale { ROPE_PLAIN, ROPE_LINEAR, ROPE_YARN, ROPE_LLAMA3, ROPE_LONG };
struct rope_scaling {
    enum rope_scale kind;
    double factor, original;    /* original: positions the model was first trained on */
    double attn_factor;         /* on the rotated vectors' length                     */
    double log_multiplier;      /* YaRN's: takes the usual magnitude back, all of it at 1 */
    double beta_fast, beta_slow; /* YaRN                                              */
    double low, high;           /* llama3                                             */
};

enum { MAX_LAYERS = 1024, TURN_NONE = UINT32_MAX };

/* What may differ from layer to layer; the heads' size may not. */
struct layer_config {
    uint32_t heads, kv_heads, feed;
    uint32_t window; /* positions it sees, itself included; 0: all before it */
    uint32_t turn;   /* which of the bases below it turns by, or TURN_NONE   */
};

/* The tensor beside the graph's: a divisor for the angle of each pair. */
#define ROPE_FREQS "rope_freqs.weight"
/* Those of LongRoPE: for texts up to the first context, and beyond. */
#define ROPE_NEAR "rope_factors_short.weight"
#define ROPE_FAR  "rope_factors_long.weight"

/* Sizes of one model, read from its file and checked against limits. */
struct config {
    uint32_t layers, width, head_dim, vocab, context, n_rot;
    uint32_t heads, kv_heads, feed; /* of the layer that has most */
    struct layer_config layer[MAX_LAYERS];
    float eps, attention_scale, attention_softcap, logit_softcap;
    float embedding_scale, residual_scale, logit_scale; /* factors; 1: none */
    double rope_base[ROPE_TABLES];  /* the first is scaled, the second is not (WINDOW_TURN_OWN) */
    uint32_t n_rope_bases;
    bool long_rope;
    double temperature; /* of queries that look back farther than rope_scaling.original; 0: none */
    struct rope_scaling rope_scaling;
    bool tied; /* the head is the token embedding                                  */
    bool rope_halves;
};

/* Reads every key of the family's own ("llama.…") that the file has, or refuses the file. */
stretto_status config_read(struct config *c, const struct family *f, const struct source *s,
                           struct error *err);
/* Fills t with angles of the given base and the file's scaling (scaled false: none). */
stretto_status rope_read(struct rope_table *t, const struct config *c, double base, bool scaled,
                         const struct source *s, struct error *err);
/* The graph names every tensor of the file that matters, or the file is refused. */
stretto_status graph_build(struct graph *g, const struct family *f, const struct config *c,
                           const struct source *s, struct error *err);
#endif
