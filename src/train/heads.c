#include "train/heads.h"
#include <stdio.h>
#include <string.h>

const char *const head_kind_names[HEAD_KINDS] = { "recursive", "medusa" };

enum { COPY_HEAD = 64 };          /* widths of heads that are tried, for attention that copies a row */

bool heads_own(const char *param)
{
    return strncmp(param, "recursive.", 10) == 0
        || (strncmp(param, "heads.", 6) == 0 && strcmp(param, "heads.slice") != 0);
}

/* A row that sees one row becomes that row, whatever queries and keys say. */
static int32_t copy_rows(struct graph_builder *b, int32_t beside, int32_t of, uint32_t width)
{
    uint32_t dim = COPY_HEAD;
    while (width % dim) dim /= 2;
    uint32_t heads = width / dim;
    return graph_attention(b, beside, beside, of, heads, heads, dim, 0, 1, 0, true);
}

static int32_t recursive(struct graph_builder *b, const struct head_shape *s, uint32_t vocab, uint32_t width)
{
    int32_t x = graph_embed(b, "token_embd.weight", vocab, width, EMBED_TOKEN), states = x;
    for (uint32_t k = 0; k < s->depth; k++) {
        int32_t before = graph_pick(b, copy_rows(b, x, states, width), k), token = graph_pick(b, x, k);
        int32_t from = graph_norm(b, before, NORM_RMS, HEAD_EPS, 0, NULL, NULL);
        int32_t with = graph_norm(b, token, NORM_RMS, HEAD_EPS, 0, NULL, NULL);
        from = graph_linear(b, from, "recursive.state.weight", NULL, width);
        with = graph_linear(b, with, "recursive.token.weight", NULL, width);
        int32_t state = head_block(b, graph_add(b, from, with), s->feed);
        states = graph_add(b, graph_add(b, states, graph_weigh(b, token, -1)), state);
    }
    return states;
}

static int32_t medusa(struct graph_builder *b, const struct head_shape *s, uint32_t width)
{
    int32_t x = graph_input(b, width), states = x;
    for (uint32_t k = 0; k < s->depth; k++) {
        char weight[GRAPH_NAME], bias[GRAPH_NAME];
        snprintf(weight, sizeof weight, "heads.%u.weight", k);
        snprintf(bias, sizeof bias, "heads.%u.bias", k);
        int32_t more = graph_linear(b, graph_pick(b, x, k), weight, bias, width);
        states = graph_add(b, states, graph_act(b, more, ACT_SILU));
    }
    return states;
}

stretto_status heads_graph(struct graph *out, const struct model *m, const struct head_shape *s, struct error *err)
{
    const struct config *c = &m->config;
    *out = (struct graph){ .n_rope = 0 };
    struct graph_builder b = { .g = out, .err = err, .layer = -1 };
    int32_t x = s->kind == HEAD_MEDUSA ? medusa(&b, s, c->width) : recursive(&b, s, c->vocab, c->width);
    x = graph_linear(&b, graph_ask(&b, x), "heads.slice", NULL, s->guessed);
    if (c->logit_softcap > 0) x = graph_softcap(&b, x, c->logit_softcap);
    graph_answer(&b, GRAPH_NONE, x);
    if (b.status != STRETTO_OK) graph_done(out);
    return b.status;
}
