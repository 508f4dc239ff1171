#include "backend/phases.h"
#include <stdio.h>
#include <string.h>

/* ---- what a phase needs ---------------------------------------------------------------------- */

static double rows_of(const struct phase_reader *x, enum rows_kind kind)
{
    const struct step *s = x->step;
    if (rows_are_set(kind)) return s->set_at ? s->set_at[rows_set(kind) + 1] - s->set_at[rows_set(kind)] : 0;
    return (double)(kind == ROWS_ASKING ? s->n_asks : s->n_rows);
}

static void needs_linear(const struct phase_reader *x, const struct phase *ph, double *bytes, double *macs)
{
    for (uint32_t i = 0; i < ph->n_parts; i++) {
        const struct graph_param *w = &x->g->params[ph->part[i].param];
        *bytes += x->param_bytes(x->ud, ph->part[i].param);
        *macs += (double)w->n_in * w->n_out * rows_of(x, ph->rows);
    }
}

/* Keys and values of every sequence once, and each row times what it sees. */
static void needs_attention(const struct phase_reader *x, const struct phase *ph, double *bytes, double *macs)
{
    const struct graph_node *n = ph->node;
    const struct step *s = x->step;
    double sees = 0, positions = 0;
    for (size_t i = 0; i < s->n_seqs; i++) {
        double first = 0, last = 0;
        for (int32_t r = 0; r < s->seqs[i].n_rows; r++) {
            double end = s->position[s->seqs[i].first_row + r] + 1, from = 0;
            if (!n->attention.causal) end = s->seqs[i].committed + s->seqs[i].n_rows;
            if (n->attention.window && end > n->attention.window) from = end - n->attention.window;
            sees += end - from;
            if (r == 0 || from < first) first = from;
            if (end > last) last = end;
        }
        positions += last - first;
    }
    double width = (double)n->attention.heads * n->attention.head_dim;
    *macs += 2 * sees * width;
    *bytes += positions * x->kv_bytes(x->ud, n->attention.group) * n->attention.kv_heads;
}

/* Activations go through a row pass once, whichever of its operations read them. */
static void needs_rows(const struct phase_reader *x, const struct phase *ph, double *bytes)
{
    int32_t seen[32];
    size_t n = 0;
    double rows = rows_of(x, ph->rows);
    for (uint32_t i = 0; i < ph->count; i++) {
        const struct row_instr *r = &x->low->rows[ph->first + i];
        const int32_t value[] = { r->in, r->in2, r->in3, r->out, r->out2, r->out3 };
        for (size_t k = 0; k < sizeof value / sizeof *value; k++) {
            bool old = value[k] == GRAPH_NONE;
            for (size_t j = 0; j < n && !old; j++) old = seen[j] == value[k];
            if (old || n == sizeof seen / sizeof *seen) continue;
            seen[n++] = value[k];
            *bytes += rows * 4 * x->g->values[value[k]].width;
        }
        if (r->op == ROW_EMBED && r->node->embed != EMBED_VECTOR)
            *bytes += rows * x->row_bytes(x->ud, node_param(x->g, r->node, 0));
    }
}

/* Sinks of linear layers: a gradient is read and written. */
static void needs_grad(const struct phase_reader *x, const struct phase *ph, double *bytes, double *macs)
{
    for (uint32_t i = 0; i < ph->n_parts; i++) {
        if (ph->part[i].node->op != OP_GRAD_LINEAR || ph->part[i].param == GRAPH_NONE) continue;
        const struct graph_param *w = &x->g->params[ph->part[i].param];
        *bytes += 8.0 * w->n_in * w->n_out;
        *macs += (double)w->n_in * w->n_out * rows_of(x, ph->rows);
    }
}

/* Of a phase of the loss: its rows, or those of them that are to be like another. */
static double loss_rows(const struct phase_reader *x, const struct phase *ph)
{
    double left = rows_of(x, ph->rows) - ph->first, rows = left < 0 ? 0 : left < ph->count ? left : ph->count, n = 0;
    if (ph->kind != PHASE_LIKE) return rows;
    for (size_t i = 0; i < (size_t)rows; i++) n += x->step->targets[ph->first + i].like > 0;
    return n;
}

/* Of the loss's rows: the head once. */
static void needs_loss(const struct phase_reader *x, const struct phase *ph, double *bytes, double *macs)
{
    const struct graph_param *w = &x->g->params[ph->part[0].param];
    double rows = loss_rows(x, ph);
    if (ph->kind == PHASE_LOSS || rows <= 0) return;
    *bytes += ph->kind == PHASE_LOSS_GRAD ? 8.0 * w->n_in * w->n_out : x->param_bytes(x->ud, ph->part[0].param);
    *macs += (double)w->n_in * w->n_out * rows;
}

/* What rows see; a gradient has five products of matrices for the forward's two. */
static void needs_see(const struct phase_reader *x, const struct phase *ph, double *macs)
{
    double sees = 0, window = ph->node->see.window;
    for (size_t r = 0; r < x->step->n_rows; r++) {
        double n = 0;
        for (int32_t i = x->step->range_at[r]; i < x->step->range_at[r + 1]; i++)
            n += x->step->ranges[2 * i + 1] - x->step->ranges[2 * i];
        sees += window > 0 && n > window ? window : n;
    }
    *macs += (ph->kind == PHASE_SEE ? 2 : 5) * sees * ph->node->see.heads * ph->node->see.head_dim;
}

void phase_needs(const struct phase_reader *x, const struct phase *ph, double *bytes, double *macs)
{
    if (ph->kind != PHASE_ATTENTION && rows_of(x, ph->rows) == 0) return;
    switch (ph->kind) {
    case PHASE_ROWS:
        needs_rows(x, ph, bytes);
        return;
    case PHASE_LINEAR:
    case PHASE_BACK:
    case PHASE_HEAD:
        needs_linear(x, ph, bytes, macs);
        return;
    case PHASE_ATTENTION:
        needs_attention(x, ph, bytes, macs);
        return;
    case PHASE_GRAD: needs_grad(x, ph, bytes, macs); return;
    case PHASE_SEE: case PHASE_SEE_BACK: needs_see(x, ph, macs); return;
    case PHASE_LOGITS: case PHASE_LIKE: case PHASE_LOSS: case PHASE_LOSS_BACK: case PHASE_LOSS_GRAD:
        needs_loss(x, ph, bytes, macs);
        return;
    }
}

/* ---- names ----------------------------------------------------------------------------------- */

static void join(char *name, size_t size, const char *word, size_t n, char between)
{
    size_t at = strlen(name);
    if (at + n + 2 > size) return;
    if (at) name[at++] = between;
    memcpy(name + at, word, n);
    name[at + n] = '\0';
}

/* "blk.3.attn_q.weight" -> attn_q, "blk.3.attn_q.weight.lora_a" -> attn_q.a */
static void join_param(char *name, size_t size, const char *param)
{
    unsigned layer;
    int skip = 0;
    if (sscanf(param, "blk.%u.%n", &layer, &skip) == 1) param += skip;
    const char *end = strstr(param, ".weight"), *low = strstr(param, ".lora_");
    size_t before = strlen(name);
    join(name, size, param, end ? (size_t)(end - param) : strlen(param), '/');
    if (low && strlen(name) > before) join(name, size, low + strlen(".lora_"), 1, '.');
}

static void join_rows(const struct lowered *low, const struct phase *ph, char *name, size_t size)
{
    static const char *const words[] = {
        [ROW_EMBED] = "embed",     [ROW_NORM] = "norm",      [ROW_ROPE] = "rope",
        [ROW_ACT] = "act",         [ROW_ACT_MUL] = "glu",    [ROW_MUL] = "mul",
        [ROW_ADD] = "add",         [ROW_BIAS] = "bias",      [ROW_SCALE] = "scale",
        [ROW_SOFTCAP] = "softcap", [ROW_QUANT] = "quantize", [ROW_STORE] = "store",
        [ROW_ASK] = "ask",         [ROW_ANGLES] = "angles",  [ROW_COPY] = "copy",
        [ROW_WEIGH] = "weigh",     [ROW_UNASK] = "unask", [ROW_DOTS] = "dots",
        [ROW_NORM_BACK] = "dnorm", [ROW_ACT_BACK] = "dact",  [ROW_SOFTCAP_BACK] = "dsoftcap",
        [ROW_ACT_MUL_BACK] = "dglu",
    };
    uint32_t said = 0;
    for (uint32_t i = 0; i < ph->count; i++) {
        enum row_op op = low->rows[ph->first + i].op;
        if (!(said & 1u << op)) join(name, size, words[op], strlen(words[op]), '+');
        said |= 1u << op;
    }
}

void phase_name(const struct graph *g, const struct lowered *low, const struct phase *ph, char *name,
                size_t size)
{
    static const char *const words[] = {
        [PHASE_ATTENTION] = "attention", [PHASE_HEAD] = "head", [PHASE_SEE] = "see", [PHASE_SEE_BACK] = "see: gradient",
        [PHASE_BACK] = "gradient of", [PHASE_GRAD] = "weights of", [PHASE_LOGITS] = "head", [PHASE_LOSS] = "loss",
        [PHASE_LIKE] = "head: likes",
        [PHASE_LOSS_BACK] = "head: gradient", [PHASE_LOSS_GRAD] = "head: weights",
    };
    name[0] = '\0';
    switch (ph->kind) {
    case PHASE_ROWS:
        join_rows(low, ph, name, size);
        return;
    case PHASE_BACK: case PHASE_GRAD: case PHASE_LINEAR:
        if (ph->kind != PHASE_LINEAR) join(name, size, words[ph->kind], strlen(words[ph->kind]), '+');
        for (uint32_t i = 0; i < ph->n_parts; i++) {
            int32_t param = ph->part[i].param == GRAPH_NONE ? ph->part[i].bias : ph->part[i].param;
            if (param != GRAPH_NONE) join_param(name, size, g->params[param].name);
        }
        return;
    default: join(name, size, words[ph->kind], strlen(words[ph->kind]), '+'); return;
    }
}
