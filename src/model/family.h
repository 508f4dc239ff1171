/* A model family is a row of choices, not a program: one builder (build.c) reads the row and the
 * sizes and makes the graph. Sources of each row: docs/papers.md. */
#ifndef MODEL_FAMILY_H
#define MODEL_FAMILY_H
#include "graph/graph.h"

struct source;

enum norm_at { NORM_BEFORE, NORM_AROUND, NORM_AFTER }; /* pre-norm, sandwich, post-norm (bert) */
enum position { POSITION_PAIRS, POSITION_HALVES, POSITION_LEARNED };
enum feed { FEED_SILU_GATED, FEED_GELU_GATED, FEED_GELU_TANH, FEED_GELU_ERF };
enum bias { BIAS_NONE, BIAS_QKV, BIAS_ALL };

struct family {
    const char *name; /* general.architecture of GGUF                                    */
    enum norm_kind norm;
    enum norm_at norm_at;
    enum position position;
    enum feed feed;
    enum bias bias;
    bool qk_norm;            /* rms norm of every query and key head                             */
    bool embed_scaled;       /* embeddings times sqrt(width)                                     */
    bool token_types;        /* a type embedding and a norm after the embeddings (bert)          */
    bool bidirectional;      /* an encoder: no head, rows see each other                         */
    uint32_t window_pattern; /* every n-th layer is full, the others see the window; 0: the
                                window, when the file names one, holds in all layers             */
    double rope_base, rope_base_window; /* when the file names none; window layers' own base or 0 */
};

/* NULL when there is no such row. */
const struct family *family_find(const char *name);
/* "llama, qwen2, ..." */
const char *family_names(void);

/* Sizes of one model, read from its file and checked against limits. */
struct config {
    uint32_t layers, width, heads, kv_heads, head_dim, feed, vocab, context, n_rot, window;
    float eps, attention_scale, attention_softcap, logit_softcap;
    double rope_base, rope_base_window;
    bool tied; /* the head is the token embedding                                  */
    bool rope_halves;
};

stretto_status config_read(struct config *c, const struct family *f, const struct source *s,
                           struct error *err);
/* Fills t with angles of the given base and the file's scaling (scaled false: none). */
stretto_status rope_read(struct rope_table *t, const struct config *c, double base, bool scaled,
                         const struct source *s, struct error *err);
stretto_status graph_build(struct graph *g, const struct family *f, const struct config *c,
                           const struct source *s, struct error *err);
#endif
