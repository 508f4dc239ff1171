/* The one builder: a family's row and a model's sizes in, the graph out. It names the model's own,
 * unfused tensors; what backends merge or fuse is theirs to know. */
#include "format/source.h"
#include "model/family.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

struct names { char text[4][GRAPH_NAME]; unsigned next; };

/* "blk.<layer>.<name>" in one of four rotating places, enough for the arguments of one call. */
__attribute__((format(printf, 2, 3)))
static const char *name(struct names *n, const char *fmt, ...)
{
    char *at = n->text[n->next++ % 4];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(at, GRAPH_NAME, fmt, ap);
    va_end(ap);
    return at;
}

struct build {
    struct graph_builder b;
    const struct family *f;
    const struct config *c;
    struct names n;
    int layer;
};

static const char *layer_name(struct build *x, const char *what)
{
    return name(&x->n, "blk.%d.%s", x->layer, what);
}

static int32_t linear(struct build *x, int32_t in, const char *what, uint32_t n_out, bool bias)
{
    const char *weight = name(&x->n, "blk.%d.%s.weight", x->layer, what);
    return graph_linear(&x->b, in, weight,
                        bias ? name(&x->n, "blk.%d.%s.bias", x->layer, what) : NULL, n_out);
}

static int32_t norm(struct build *x, int32_t in, const char *what)
{
    bool bias = x->f->norm == NORM_LAYER;
    char weight[GRAPH_NAME + 8], b[GRAPH_NAME + 8];
    snprintf(weight, sizeof weight, "%s.weight", what);
    snprintf(b, sizeof b, "%s.bias", what);
    return graph_norm(&x->b, in, x->f->norm, x->c->eps, 0, weight, bias ? b : NULL);
}

static int32_t layer_norm(struct build *x, int32_t in, const char *what)
{
    return norm(x, in, layer_name(x, what));
}

/* Full layers are every pattern-th; without a pattern a window holds everywhere. */
static bool windowed(const struct build *x)
{
    if (!x->c->window) return false;
    uint32_t every = x->f->window_pattern;
    return !every || ((uint32_t)x->layer + 1) % every != 0;
}

static int32_t head_norm(struct build *x, int32_t in, const char *what)
{
    return graph_norm(&x->b, in, NORM_RMS, x->c->eps, x->c->head_dim,
                      name(&x->n, "blk.%d.%s.weight", x->layer, what), NULL);
}

static int32_t attention(struct build *x, int32_t in)
{
    const struct config *c = x->c;
    bool bias = x->f->bias != BIAS_NONE, window = windowed(x);
    int32_t q = linear(x, in, "attn_q", c->heads * c->head_dim, bias);
    int32_t k = linear(x, in, "attn_k", c->kv_heads * c->head_dim, bias);
    int32_t v = linear(x, in, "attn_v", c->kv_heads * c->head_dim, bias);
    if (x->f->qk_norm) {
        q = head_norm(x, q, "attn_q_norm");
        k = head_norm(x, k, "attn_k_norm");
    }
    if (x->f->position != POSITION_LEARNED) {
        enum rope_style style = c->rope_halves ? ROPE_HALVES : ROPE_PAIRS;
        uint32_t table = window && x->b.g->n_rope > 1 ? 1 : 0;
        q = graph_rope(&x->b, q, style, c->heads, c->head_dim, table);
        k = graph_rope(&x->b, k, style, c->kv_heads, c->head_dim, table);
    }
    int32_t a =
        graph_attention(&x->b, q, k, v, c->heads, c->kv_heads, c->head_dim, window ? c->window : 0,
                        c->attention_scale, c->attention_softcap, !x->f->bidirectional);
    return linear(x, a, "attn_output", c->width, x->f->bias == BIAS_ALL);
}

static int32_t feed(struct build *x, int32_t in)
{
    bool bias = x->f->bias == BIAS_ALL;
    static const enum act_kind acts[] = { ACT_SILU, ACT_GELU_TANH, ACT_GELU_TANH, ACT_GELU_ERF };
    int32_t h;
    if (x->f->feed == FEED_SILU_GATED || x->f->feed == FEED_GELU_GATED) {
        int32_t gate = linear(x, in, "ffn_gate", x->c->feed, bias);
        int32_t up = linear(x, in, "ffn_up", x->c->feed, bias);
        h = graph_mul(&x->b, graph_act(&x->b, gate, acts[x->f->feed]), up);
    } else
        h = graph_act(&x->b, linear(x, in, "ffn_up", x->c->feed, bias), acts[x->f->feed]);
    return linear(x, h, "ffn_down", x->c->width, bias);
}

/* Where the norms stand is the whole difference between the three kinds of block. */
static int32_t block(struct build *x, int32_t h)
{
    switch (x->f->norm_at) {
    case NORM_BEFORE:
        h = graph_add(&x->b, h, attention(x, layer_norm(x, h, "attn_norm")));
        return graph_add(&x->b, h, feed(x, layer_norm(x, h, "ffn_norm")));
    case NORM_AROUND:
        h = graph_add(&x->b, h, layer_norm(x, attention(x, layer_norm(x, h, "attn_norm")),
                                           "post_attention_norm"));
        return graph_add(&x->b, h,
                         layer_norm(x, feed(x, layer_norm(x, h, "ffn_norm")), "post_ffw_norm"));
    case NORM_AFTER:
        h = layer_norm(x, graph_add(&x->b, h, attention(x, h)), "attn_output_norm");
        return layer_norm(x, graph_add(&x->b, h, feed(x, h)), "layer_output_norm");
    }
    return GRAPH_NONE;
}

static int32_t embed(struct build *x)
{
    const struct config *c = x->c;
    int32_t h = graph_embed(&x->b, "token_embd.weight", c->vocab, c->width, EMBED_TOKEN);
    if (x->f->token_types)
        h = graph_add(&x->b, h,
                      graph_embed(&x->b, "token_types.weight", 0, c->width, EMBED_FIRST_ROW));
    if (x->f->position == POSITION_LEARNED)
        h = graph_add(
            &x->b, h,
            graph_embed(&x->b, "position_embd.weight", c->context, c->width, EMBED_POSITION));
    if (x->f->token_types) h = norm(x, h, "token_embd_norm");
    if (x->f->embed_scaled) h = graph_scale(&x->b, h, sqrtf((float)c->width));
    return h;
}

stretto_status graph_build(struct graph *g, const struct family *f, const struct config *c,
                           const struct source *s, struct error *err)
{
    *g = (struct graph){ .hidden = GRAPH_NONE, .logits = GRAPH_NONE, .layers = c->layers,
                         .kv_heads = c->kv_heads, .kv_head_dim = c->head_dim,
                         .bidirectional = f->bidirectional };
    struct build x = { .b = { .g = g, .err = err, .layer = -1 }, .f = f, .c = c };
    if (f->position != POSITION_LEARNED) {
        TRY(rope_read(&g->rope[0], c, c->rope_base, true, s, err));
        g->n_rope = 1;
        if (c->rope_base_window > 0) {
            TRY(rope_read(&g->rope[1], c, c->rope_base_window, false, s, err));
            g->n_rope = 2;
        }
    }
    int32_t h = embed(&x);
    for (x.layer = 0; x.layer < (int)c->layers; x.layer++) {
        x.b.layer = x.layer;
        h = block(&x, h);
    }
    x.b.layer = -1;
    h = graph_ask(&x.b, h);
    if (f->norm_at != NORM_AFTER) h = norm(&x, h, "output_norm");
    g->hidden = h;
    if (!f->bidirectional) {
        h = graph_linear(&x.b, h, c->tied ? "token_embd.weight" : "output.weight", NULL, c->vocab);
        if (c->logit_softcap > 0) h = graph_softcap(&x.b, h, c->logit_softcap);
        g->logits = h;
    }
    if (x.b.status != STRETTO_OK) graph_done(g);
    return x.b.status;
}
