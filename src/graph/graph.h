/* The model as a graph: unfused operations over the model's own tensors. It is described once per
 * family (model/build.c) and read by many: shape check, cost, lowering per backend,
 * partition, later differentiation. Only lowering fuses.
 *
 * A value is a matrix [rows][width] of float32; its rows are those of the step, or those that ask.
 * A node makes one value from any number of others and of named parameters. Nodes are in an order in
 * which they can be run. Immutable once built. Lifetime: model. */
#ifndef GRAPH_GRAPH_H
#define GRAPH_GRAPH_H
#include "base/arena.h"
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

enum op {
    OP_EMBED,      /* param table: the row's token (or its vector), its position, or one fixed row */
    OP_LINEAR,     /* y = W x (+ b)                                                              */
    OP_NORM,       /* rms or layer norm over the row, or over each head of it; without a weight where
                      a gradient needs it so                                                     */
    OP_ROPE,       /* rotary positions, arXiv 2104.09864                                         */
    OP_ATTENTION,  /* q, k, v: writes k and v to the cache, reads what the row may see           */
    OP_ACT,        /* silu, gelu (tanh), gelu (erf)                                              */
    OP_MUL,        /* elementwise                                                                */
    OP_ADD,        /* elementwise; y of a set's rows alone changes those rows of x              */
    OP_SCALE,
    OP_WEIGH,      /* rows of a set, each times its weight there (step.h) and `scale`             */
    OP_SOFTCAP,    /* cap * tanh(x / cap)                                                        */
    OP_ASK,        /* keeps only the rows that ask, or those of a set                            */

    /* What training adds (differentiate.h). dy is the gradient of the loss by what a node made. */
    OP_SEE,            /* q, k, v: attention whose rows see rows of the step (struct step: ranges)  */
    OP_SEE_BACK,       /* q, k, v, dy, beside y, dots: the gradient of q, k or v                    */
    OP_DOTS,           /* y, dy: their dot product by heads, [rows][heads]                          */
    OP_BESIDE,         /* of an OP_SEE's value, made with it: log of the sum of exp(score), [rows][heads] */
    OP_LOSS,           /* what the head reads, with the head's weight (and bias): the gradient of it, and adds to the
                          head's; the head runs over few rows at a time                             */
    OP_UNASK,          /* rows that ask, or of a set, back among all of which they are some; the others zero */
    OP_LINEAR_BACK,    /* x = W^T dy                                                                */
    OP_NORM_BACK,      /* x, dy                                                                     */
    OP_ACT_BACK,       /* x, dy                                                                     */
    OP_SOFTCAP_BACK,   /* y, dy: y is what the node made                                            */
    /* Sinks: they make no value, but add to a parameter's gradient. */
    OP_GRAD_LINEAR,    /* x, dy: a linear layer's weight and bias                                   */
    OP_GRAD_NORM,      /* x, dy: a norm's weight and bias; x is the norm without them               */
    OP_GRAD_EMBED,     /* dy: a table, or the rows that stand behind a second one's                 */
    OP_COUNT
};

/* From ROWS_SETS on: the rows of a set, which the step names (step.h). Set s has two kinds, its rows among all and its
 * rows among those that ask: rows_of_set. A step without rows of a set runs none of its nodes. */
enum rows_kind { ROWS_ALL, ROWS_ASKING, ROWS_SETS };
enum norm_kind { NORM_RMS, NORM_LAYER };
enum see_side { SEE_Q, SEE_K, SEE_V };
enum act_kind { ACT_SILU, ACT_GELU_TANH, ACT_GELU_ERF };
enum rope_style { ROPE_PAIRS, ROPE_HALVES };
/* EMBED_VECTOR: no table, every row brings its vector (step.h). */
enum embed_index { EMBED_TOKEN, EMBED_POSITION, EMBED_FIRST_ROW, EMBED_VECTOR };

enum { GRAPH_NAME = 64, GRAPH_NONE = -1, ROPE_TABLES = 2, ROPE_MAX_HALF = 256, GRAPH_GROUPS = 8, GRAPH_SETS = 32 };

static inline bool rows_are_set(enum rows_kind k) { return k >= ROWS_SETS; }
static inline uint32_t rows_set(enum rows_kind k) { return ((uint32_t)k - ROWS_SETS) / 2; }
/* The kind whose rows a kind has some of: ROWS_ALL or ROWS_ASKING. */
static inline enum rows_kind rows_whole(enum rows_kind k)
{
    return rows_are_set(k) ? (enum rows_kind)(((uint32_t)k - ROWS_SETS) % 2) : k;
}
static inline enum rows_kind rows_of_set(enum rows_kind whole, uint32_t set)
{
    return (enum rows_kind)(ROWS_SETS + 2 * set + (uint32_t)whole);
}

/* How angles follow positions: angle(i, pos) = pos * base^(-2i/n_rot) * factor[i], cosines and
 * sines times `magnitude`. Scalings (linear, llama3, YaRN arXiv 2309.00071) are folded into factor
 * and magnitude by model/rope.c. */
struct rope_table {
    uint32_t n_rot;
    double base;
    float factor[ROPE_MAX_HALF];
    float magnitude;
    uint32_t near;              /* a program whose sequences may be longer than this has `far` in place of `factor`
                                   (LongRoPE, arXiv 2402.13753); 0: none has                                     */
    float far[ROPE_MAX_HALF];
    float temperature;          /* magnitude times 1 + temperature * ln(1 + floor(pos / span)): of queries that  */
    uint32_t span;              /*   look back far (Llama 4); 0: 1                                               */
};

/* What layers keep of a sequence, and for how long: the reclaim rule. A state of fixed size, or one
 * latent vector a token, would be further kinds, with sizes of their own beside these. */
enum group_kind {
    GROUP_FULL,    /* keys and values of every token                                           */
    GROUP_WINDOW   /* of the last `window` tokens: what stands behind is given back             */
};

/* A layer group: layers that keep the same for as long. It has pages, a pool of them and page tables of
 * its own (cache/cache.h), so groups may differ in sizes. */
struct layer_group { enum group_kind kind; uint32_t layers, kv_heads, head_dim, window; };

struct graph_param {
    char name[GRAPH_NAME];
    uint32_t n_in, n_out;
}; /* vectors: n_in = length, n_out = 1 */

struct graph_value { enum rows_kind rows; uint32_t width; int32_t made_by; };

/* `count` of a graph's links, from `first` on. */
struct graph_span { uint32_t first, count; };

struct graph_node {
    enum op op;
    struct graph_span in;    /* values: read them with node_in                             */
    struct graph_span param; /* parameters, weight or table first, then bias: node_param   */
    int32_t out;             /* value                                                      */
    int32_t layer;           /* for people; -1 outside the layers                          */
    union {
        enum embed_index embed;
        struct {
            enum norm_kind kind;
            float eps;
            uint32_t head_dim;
        } norm; /* head_dim 0: whole row */
        struct { enum rope_style style; uint32_t heads, head_dim, table; bool inverse; } rope;
        struct {
            uint32_t heads, kv_heads, head_dim, window; /* window 0: all before it */
            uint32_t group, member; /* its layer group, and which of that group's layers it is */
            float scale, softcap;
            bool causal;
        } attention;
        struct {
            uint32_t heads, kv_heads, head_dim, window;
            float scale, softcap;
            enum see_side side; /* OP_SEE_BACK; of OP_DOTS heads and head_dim count alone    */
        } see;
        struct { float cap; bool trained; } loss; /* of the logits, 0: none; it adds to the head's gradient */
        enum act_kind act;
        float scale, cap;
    };
};

struct graph {
    struct graph_node *nodes;
    struct graph_value *values;
    struct graph_param *params;
    int32_t *links; /* what nodes name, span after span: values, parameters or GRAPH_NONE     */
    size_t n_nodes, n_values, n_params, n_links, cap_nodes, cap_values, cap_params, cap_links;
    struct rope_table rope[ROPE_TABLES];
    size_t n_rope;
    int32_t hidden, logits; /* the answers; logits GRAPH_NONE for encoders                    */
    uint32_t layers;        /* of the model                                               */
    struct layer_group group[GRAPH_GROUPS]; /* in the order of their first layers         */
    uint32_t n_groups, n_sets; /* sets of rows that a step may name                       */
    bool bidirectional; /* rows of a sequence see each other                              */
    bool loss;          /* it has an OP_LOSS: steps bring targets and ranges              */
};

static inline int32_t graph_link(const struct graph *g, struct graph_span s, uint32_t i)
{
    return i < s.count ? g->links[s.first + i] : GRAPH_NONE;
}

/* The node's i-th input and i-th parameter; GRAPH_NONE where it has none. */
static inline int32_t node_in(const struct graph *g, const struct graph_node *n, uint32_t i)
{
    return graph_link(g, n->in, i);
}
static inline int32_t node_param(const struct graph *g, const struct graph_node *n, uint32_t i)
{
    return graph_link(g, n->param, i);
}

/* Logits of an OP_LOSS. */
static inline uint32_t graph_loss_width(const struct graph *g, const struct graph_node *n)
{
    int32_t more = node_param(g, n, 2);
    return g->params[node_param(g, n, 0)].n_out + (more == GRAPH_NONE ? 0 : g->params[more].n_out);
}

enum { ROWS_TOGETHER = 16 }; /* rows that stand beside others as a parameter of their own begin at a multiple of it */

/* Building. Each returns the value made, or GRAPH_NONE after an error; errors are sticky in g's
 * builder, so a builder may run to its end and look once. */
struct graph_builder { struct graph *g; struct error *err; stretto_status status; int32_t layer; };

/* Before the first node, g has the rope tables that its nodes are held to. */

int32_t graph_embed(struct graph_builder *b, const char *param, uint32_t rows, uint32_t width,
                    enum embed_index index);
/* Rows bring vectors of this width (step.h). */
int32_t graph_input(struct graph_builder *b, uint32_t width);
/* bias: NULL for none */
int32_t graph_linear(struct graph_builder *b, int32_t x, const char *weight, const char *bias,
                     uint32_t n_out);
int32_t graph_norm(struct graph_builder *b, int32_t x, enum norm_kind kind, float eps,
                   uint32_t head_dim, const char *weight, const char *bias);
int32_t graph_rope(struct graph_builder *b, int32_t x, enum rope_style style, uint32_t heads,
                   uint32_t head_dim, uint32_t table);
/* Joins the layer group that keeps the same, or founds it. */
int32_t graph_attention(struct graph_builder *b, int32_t q, int32_t k, int32_t v, uint32_t heads,
                        uint32_t kv_heads, uint32_t head_dim, uint32_t window, float scale,
                        float softcap, bool causal);
int32_t graph_act(struct graph_builder *b, int32_t x, enum act_kind act);
int32_t graph_mul(struct graph_builder *b, int32_t x, int32_t y);
int32_t graph_add(struct graph_builder *b, int32_t x, int32_t y);
int32_t graph_scale(struct graph_builder *b, int32_t x, float by);
int32_t graph_weigh(struct graph_builder *b, int32_t x, float by);
int32_t graph_softcap(struct graph_builder *b, int32_t x, float cap);
int32_t graph_ask(struct graph_builder *b, int32_t x);
/* The rows of a set, of all rows or of those that ask. */
int32_t graph_pick(struct graph_builder *b, int32_t x, uint32_t set);
/* A node of another graph as it stands, whose values v are as[v] here; it has the same rope tables. */
int32_t graph_repeat(struct graph_builder *b, const struct graph *of, const struct graph_node *n,
                     const int32_t *as);
/* Parameters of another graph, in its order. */
void graph_params_like(struct graph_builder *b, const struct graph *of);
/* A node whose shape follows from others (differentiate.c) and is not looked at: n with these inputs and parameters;
 * GRAPH_NONE among them is left out at the end. It makes a value, or with width 0 none, and then GRAPH_NONE is
 * answered. */
int32_t graph_derived(struct graph_builder *b, struct graph_node n, const int32_t *in, uint32_t n_in,
                      const int32_t *param, uint32_t n_param, enum rows_kind rows, uint32_t width);
/* What a step answers, GRAPH_NONE for none: values of the rows that ask, which other nodes may read
 * too. */
void graph_answer(struct graph_builder *b, int32_t hidden, int32_t logits);

/* The last rows of a table, and of a head by that name, as a parameter of their own: NAME.rows, which then can be
 * trained while the others are as they are. Its nodes have it as a parameter more: behind an OP_EMBED's table, behind
 * the weight and bias of the OP_LINEAR or OP_LOSS that makes logits. The cpu alone runs such a graph. E_UNSUP where
 * that cannot be. */
stretto_status graph_part_rows(struct graph *g, const char *name, uint32_t rows, struct error *err);

void graph_done(struct graph *g);
/* The most query heads that share a key/value head, of all attentions; 1 where there are none. */
uint32_t graph_sharing(const struct graph *g);
int32_t graph_param_find(const struct graph *g, const char *name);

/* One row per operation: its name, and what it costs. Backward operations will hang here: training
 * reads the same graph. */
struct graph_cost { double flops, param_elements, cache_elements, activation_bytes; };
struct op_info {
    const char *name;
    void (*cost)(const struct graph *g, const struct graph_node *n, double rows, double asks,
                 double context, struct graph_cost *out);
};
extern const struct op_info op_table[OP_COUNT];

/* Cost of node n when `rows` rows of which `asks` ask, each seeing `context` positions, are sent.
 */
struct graph_cost graph_node_cost(const struct graph *g, size_t n, double rows, double asks,
                                  double context);
#endif
