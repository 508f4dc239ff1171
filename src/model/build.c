/* The one builder: a family's row and a model's sizes in, the graph out. It names the model's own,
 * unfused tensors; what backends merge or fuse is theirs to know. */
#include "format/source.h"
#include "model/family.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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
    const struct source *s;
    struct names n;
    int layer;
};

static const char *layer_name(struct build *x, const char *what)
{
    return name(&x->n, "blk.%d.%s", x->layer, what);
}

/* The bias that stands beside a weight: there when the file has its tensor or, in `always`, when
 * every member of the family has it. */
static const char *bias_of(struct build *x, const char *what, bool always)
{
    const char *bias = name(&x->n, "%s.bias", what);
    return always || source_tensor_find(x->s, bias) ? bias : NULL;
}

static int32_t linear(struct build *x, int32_t in, const char *what, uint32_t n_out, bool always)
{
    const char *of = layer_name(x, what), *bias = bias_of(x, of, always);
    return graph_linear(&x->b, in, name(&x->n, "%s.weight", of), bias, n_out);
}

static int32_t norm(struct build *x, int32_t in, const char *what)
{
    const char *bias = bias_of(x, what, x->f->norm == NORM_LAYER && !x->f->norm_unbiased);
    return graph_norm(&x->b, in, x->f->norm, x->c->eps, 0, name(&x->n, "%s.weight", what), bias);
}

static int32_t layer_norm(struct build *x, int32_t in, const char *what)
{
    return norm(x, in, layer_name(x, what));
}

/* Of queries or keys: each head by itself, or all of them as one row. */
static int32_t qk_norm(struct build *x, int32_t in, const char *what)
{
    const char *of = layer_name(x, what), *bias = bias_of(x, of, false);
    uint32_t head = x->f->qk_norm == QK_NORM_WIDTH ? 0 : x->c->head_dim;
    return graph_norm(&x->b, in, NORM_RMS, x->c->eps, head, name(&x->n, "%s.weight", of), bias);
}

static int32_t attention(struct build *x, int32_t in)
{
    const struct config *c = x->c;
    const struct layer_config *l = &c->layer[x->layer];
    bool bias = x->f->bias != BIAS_NONE;
    int32_t q = linear(x, in, "attn_q", l->heads * c->head_dim, bias);
    int32_t k = linear(x, in, "attn_k", l->kv_heads * c->head_dim, bias);
    int32_t v = linear(x, in, "attn_v", l->kv_heads * c->head_dim, bias);
    if (x->f->qk_norm == QK_NORM_HEADS || x->f->qk_norm == QK_NORM_WIDTH) {
        q = qk_norm(x, q, "attn_q_norm");
        k = qk_norm(x, k, "attn_k_norm");
    }
    if (x->f->position != POSITION_LEARNED && l->turn != TURN_NONE) {
        enum rope_style style = c->rope_halves ? ROPE_HALVES : ROPE_PAIRS;
        uint32_t own = c->temperature > 0 ? c->n_rope_bases : 0;     /* queries' tables are behind the keys' */
        q = graph_rope(&x->b, q, style, l->heads, c->head_dim, l->turn + own);
        k = graph_rope(&x->b, k, style, l->kv_heads, c->head_dim, l->turn);
    }
    if (x->f->qk_norm == QK_NORM_TURNED) {
        q = qk_norm(x, q, "attn_q_norm");
        k = qk_norm(x, k, "attn_k_norm");
    }
    int32_t a = graph_attention(&x->b, q, k, v, l->heads, l->kv_heads, c->head_dim, l->window,
                                c->attention_scale, c->attention_softcap, !x->f->bidirectional);
    return linear(x, a, "attn_output", c->width, x->f->bias == BIAS_ALL);
}

static int32_t feed(struct build *x, int32_t in)
{
    bool bias = x->f->bias == BIAS_ALL;
    uint32_t width = x->c->layer[x->layer].feed;
    static const enum act_kind acts[] = { ACT_SILU, ACT_GELU_TANH, ACT_GELU_TANH, ACT_GELU_ERF };
    int32_t h;
    if (x->f->feed == FEED_SILU_GATED || x->f->feed == FEED_GELU_GATED) {
        int32_t gate = linear(x, in, "ffn_gate", width, bias);
        int32_t up = linear(x, in, "ffn_up", width, bias);
        h = graph_mul(&x->b, graph_act(&x->b, gate, acts[x->f->feed]), up);
    } else
        h = graph_act(&x->b, linear(x, in, "ffn_up", width, bias), acts[x->f->feed]);
    return linear(x, h, "ffn_down", x->c->width, bias);
}

static int32_t scaled(struct build *x, int32_t h, float by)
{
    return by == 1 ? h : graph_scale(&x->b, h, by);
}

/* What came in, and what a part of the block adds to it. */
static int32_t plus(struct build *x, int32_t h, int32_t more)
{
    return graph_add(&x->b, h, scaled(x, more, x->c->residual_scale));
}

static bool beside(struct build *x, const char *feed_norm)
{
    if (x->f->parts != PARTS_BESIDE_IF_ONE_NORM) return x->f->parts == PARTS_BESIDE;
    return !source_tensor_find(x->s, name(&x->n, "blk.%d.%s.weight", x->layer, feed_norm));
}

/* Where the norms stand is the whole difference between the kinds of block. */
static int32_t block(struct build *x, int32_t h)
{
    const char *feed_norm = x->f->feed_norm ? x->f->feed_norm : "ffn_norm";
    switch (x->f->norm_at) {
    case NORM_BEFORE:
        if (beside(x, feed_norm)) {
            int32_t in = layer_norm(x, h, "attn_norm");
            return plus(x, plus(x, h, attention(x, in)), feed(x, in));
        }
        h = plus(x, h, attention(x, layer_norm(x, h, "attn_norm")));
        return plus(x, h, feed(x, layer_norm(x, h, feed_norm)));
    case NORM_AROUND:
        h = plus(x, h, layer_norm(x, attention(x, layer_norm(x, h, "attn_norm")), "post_attention_norm"));
        return plus(x, h, layer_norm(x, feed(x, layer_norm(x, h, feed_norm)), "post_ffw_norm"));
    case NORM_OF_OUTPUT:
        h = plus(x, h, layer_norm(x, attention(x, h), "post_attention_norm"));
        return plus(x, h, layer_norm(x, feed(x, h), "post_ffw_norm"));
    case NORM_OF_SUM:
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
    return scaled(x, h, c->embedding_scale);
}

static int32_t head(struct build *x, int32_t h)
{
    const struct config *c = x->c;
    const char *bias = bias_of(x, "output", false);
    if (bias && c->logit_scale != 1)
        x->b.status = fail(x->b.err, STRETTO_E_UNSUP, "the file has a tensor output.bias and scales its logits by %g, "
                           "which no model of the family does", (double)c->logit_scale);
    h = graph_linear(&x->b, h, c->tied ? "token_embd.weight" : "output.weight",
                     bias, c->vocab);
    return c->logit_softcap > 0 ? graph_softcap(&x->b, h, c->logit_softcap) : h;
}

static stretto_status read_rope_tables(struct graph *g, const struct config *c,
                                       const struct source *s, struct error *err)
{
    for (uint32_t i = 0; i < c->n_rope_bases; i++)
        TRY(rope_read(&g->rope[g->n_rope++], c, c->rope_base[i], i == 0, s, err));
    for (uint32_t i = 0; i < c->n_rope_bases && c->temperature > 0; i++) {
        struct rope_table *t = &g->rope[g->n_rope++];
        *t = g->rope[i];
        t->temperature = (float)c->temperature;
        t->span = (uint32_t)c->rope_scaling.original;
    }
    return STRETTO_OK;
}

/* A bias that one layer has and another lacks is a file that lost something: where a layer has one,
 * so must the next. */
static stretto_status check_biases(const struct graph *g, const struct family *f,
                                   const struct source *s, struct error *err)
{
    for (size_t i = 0; i < g->n_params; i++) {
        const char *of = g->params[i].name, *at = strrchr(of, '.');
        char next[GRAPH_NAME + 16];
        unsigned layer;
        int n = 0;
        if (!at || strcmp(at, ".bias") != 0 || sscanf(of, "blk.%u.%n", &layer, &n) != 1) continue;
        snprintf(next, sizeof next, "blk.%u.%s", (layer + 1) % g->layers, of + n);
        if (!source_tensor_find(s, next))
            return fail(err, STRETTO_E_FORMAT, "the file has no tensor %s, though other layers or "
                        "all %s models have it: it is incomplete; fetch or convert the model again",
                        next, f->name);
    }
    return STRETTO_OK;
}

/* Tensors that take no part in computing the answer: tables of constants that every program makes
 * for itself. */
static bool is_table(const char *name)
{
    static const char *const ends[] = { ".attn_rot_embd.weight", ".attn_rot_embd",
                                        ".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias" };
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (n > strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0) return true;
    return false;
}

static bool is_of_rope(const struct graph *g, const struct family *f, const char *name)
{
    return g->n_rope && (strcmp(name, ROPE_FREQS) == 0
                         || (f->long_rope && (strcmp(name, ROPE_NEAR) == 0 || strcmp(name, ROPE_FAR) == 0)));
}

static stretto_status check_tensors(const struct graph *g, const struct family *f,
                                    const struct source *s, struct error *err)
{
    for (size_t i = 0; i < source_tensor_count(s); i++) {
        const char *of = source_tensor_at(s, i)->name;
        if (graph_param_find(g, of) != GRAPH_NONE || is_table(of)
            || is_of_rope(g, f, of)) continue;
        return fail(err, STRETTO_E_UNSUP,
                    "the file has a tensor %.100s, which a %s model does not compute with here; "
                    "without it the model would answer wrongly, so it is not run: use a file of "
                    "another member of the family", of, f->name);
    }
    return STRETTO_OK;
}

static stretto_status check_closed(const struct graph *g, const struct family *f,
                                   const struct source *s, struct error *err)
{
    TRY(check_biases(g, f, s, err));
    return check_tensors(g, f, s, err);
}

stretto_status graph_build(struct graph *g, const struct family *f, const struct config *c,
                           const struct source *s, struct error *err)
{
    *g = (struct graph){ .layers = c->layers, .bidirectional = f->bidirectional };
    struct build x = { .b = { .g = g, .err = err, .layer = -1 }, .f = f, .c = c, .s = s };
    TRY(read_rope_tables(g, c, s, err));
    int32_t h = embed(&x);
    for (x.layer = 0; x.layer < (int)c->layers; x.layer++) {
        x.b.layer = x.layer;
        h = block(&x, h);
    }
    x.b.layer = -1;
    h = graph_ask(&x.b, h);
    if (f->norm_at != NORM_OF_SUM) h = norm(&x, h, "output_norm");
    h = scaled(&x, h, c->logit_scale);    /* of what the head reads, which stays the last thing to happen */
    graph_answer(&x.b, h, f->bidirectional ? GRAPH_NONE : head(&x, h));
    stretto_status st = x.b.status;
    if (st == STRETTO_OK) st = check_closed(g, f, s, err);
    if (st != STRETTO_OK) graph_done(g);
    return st;
}
