#include "backend/params.h"
#include "base/file.h"
#include "kernels/panel.h"
#include <string.h>

enum { RELEASE_BYTES = 1 << 20 };

void params_used(const struct graph *g, bool *linear, bool *table)
{
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        if (n->op == OP_LINEAR || n->op == OP_LOSS) linear[node_param(g, n, 0)] = true;
        if (n->op == OP_EMBED && n->embed != EMBED_VECTOR) table[node_param(g, n, 0)] = true;
        /* Rows that are a parameter of their own (graph_part_rows). */
        bool head = n->op == OP_LINEAR || n->op == OP_LOSS;
        int32_t more = n->op == OP_EMBED ? node_param(g, n, 1) : head ? node_param(g, n, 2) : GRAPH_NONE;
        if (more != GRAPH_NONE) (head ? linear : table)[more] = true;
    }
}

stretto_status param_check(const struct param_bytes *s, const char *name, struct error *err)
{
    const struct dtype_info *t = &dtype_table[s->type];
    if (s->n_in % t->block)
        return fail(err, STRETTO_E_FORMAT, "%s has rows of %u elements, which %s cannot hold", name,
                    s->n_in, t->name);
    if (s->transposed && t->block != 1)
        return fail(err, STRETTO_E_UNSUP, "%s is stored transposed as %s; only float types can be",
                    name, t->name);
    return STRETTO_OK;
}

stretto_status params_fit(uint64_t bytes, uint64_t have, bool reference, const char *advice, struct error *err)
{
    if (!have || bytes <= have) return STRETTO_OK;
    bool large = bytes >= 1000000000;
    return fail(err, STRETTO_E_NOMEM, "the weights take %.1f %s of memory%s and %.1f can be had%s",
                (double)bytes / (large ? 1e9 : 1e6), large ? "GB" : "MB",
                reference ? " as float32" : "", (double)have / (large ? 1e9 : 1e6), advice);
}

stretto_status param_vector(const struct param_bytes *s, float *to)
{
    if (s->n_in % dtype_table[s->type].block) return STRETTO_E_FORMAT;
    dtype_table[s->type].decode(s->data, to, s->n_in);
    for (uint32_t i = 0; i < s->n_in; i++) to[i] += s->add;
    return STRETTO_OK;
}

struct linear_columns param_columns(const struct param_bytes *s, uint32_t col, uint32_t n, void *scratch)
{
    struct linear_columns x = { s->type, (const char *)s->data + col * s->row_bytes, s->row_bytes, n };
    if (!s->transposed) return x;
    size_t e = dtype_table[s->type].bytes;
    for (uint32_t c = 0; c < n; c++)
        for (uint32_t i = 0; i < s->n_in; i++)
            memcpy((char *)scratch + ((size_t)c * s->n_in + i) * e,
                   (const char *)s->data + i * s->row_bytes + (col + c) * e, e);
    x.at = scratch;
    x.stride = dtype_bytes(s->type, s->n_in);
    return x;
}

void columns_pack(const struct linear_columns *from, enum dtype type, uint32_t n_in, float *scratch,
                  void *panel)
{
    const void *at = from->at;
    size_t stride = from->stride;
    if (type != from->type) {
        for (size_t c = 0; c < from->n; c++)
            dtype_table[from->type].decode((const char *)from->at + c * from->stride, scratch + c * n_in,
                                           n_in);
        at = scratch;
        stride = n_in * sizeof(float);
    }
    panel_pack(type, at, stride, from->n, n_in, panel);
}

void param_release_whole(const struct param_bytes *s)
{
    if (s->once && !s->memory) file_map_release(s->data, s->n_out * s->row_bytes);
}

/* In runs that are long beside a page; a neighbour that still needs a border page gets it again from the
 * page cache. */
void param_release(const struct param_bytes *s, uint32_t panel, uint32_t n_panels)
{
    uint32_t run = (uint32_t)(RELEASE_BYTES / ((size_t)PANEL_COLS * s->row_bytes)) + 1;
    bool end = (panel + 1) % run == 0 || panel + 1 == n_panels;
    if (s->transposed || s->memory || s->once || !end) return;
    uint32_t first = panel / run * run * PANEL_COLS, past = (panel + 1) * PANEL_COLS;
    if (past > s->n_out) past = s->n_out;
    file_map_release((const char *)s->data + first * s->row_bytes, (size_t)(past - first) * s->row_bytes);
}
