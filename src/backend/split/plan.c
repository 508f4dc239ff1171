/* How many layers go where, from what the graph says of its layers and the file of its parameters, before
 * anything is read. Weights are counted as panels (kernels/panel.h), pages as kernels/kv.h lays them out,
 * buffers as if all values of a layer stood beside each other: what a device really takes differs a little,
 * which the eighth of its memory that is left alone pays for. */
#include "backend/params.h"
#include "backend/split.h"
#include "base/memory.h"
#include "graph/partition.h"
#include "kernels/kv.h"
#include "kernels/panel.h"
#include <string.h>

enum { DEFAULT_ROWS = 512, WINDOW_KEPT = 4 * PAGE_SLOTS, HEAD_ROWS = 16 };

struct planning {
    const struct graph *g;
    const struct binding *b;
    const struct split_ask *ask;
    uint64_t tokens, rows;
    uint64_t *param;            /* [n_params] bytes of each as weights; 0: it stays in the file     */
    bool *seen;                 /* [n_params]                                                       */
    size_t *at;                 /* [layers + 1] nodes before each layer; SIZE_MAX: no cut there     */
    uint64_t have[SPLIT_MEMBERS]; /* what each member can give; 0: not known                         */
    uint64_t left[SPLIT_MEMBERS]; /* what may still be taken of it; UINT64_MAX: not known            */
};

/* ---- what nodes take -------------------------------------------------------------------------- */

static stretto_status param_costs(struct planning *x, bool *linear, bool *table, struct error *err)
{
    params_used(x->g, linear, table);
    for (size_t i = 0; i < x->g->n_params; i++) {
        const struct graph_param *p = &x->g->params[i];
        struct param_bytes of;
        TRY(x->b->find(x->b->ud, p->name, p->n_in, p->n_out, &of, err));
        TRY(param_check(&of, p->name, err));
        uint64_t panels = (of.n_out + PANEL_COLS - 1) / PANEL_COLS;
        if (linear[i]) x->param[i] = panels * panel_bytes(x->ask->reference ? DT_F32 : of.type, of.n_in);
        else if (!table[i]) x->param[i] = of.n_in * sizeof(float);
    }
    return STRETTO_OK;
}

static uint64_t pages_for(uint64_t tokens) { return (tokens + PAGE_SLOTS - 1) / PAGE_SLOTS; }

static uint64_t page_costs(const struct planning *x, const struct graph_node *n)
{
    static const enum kv_type types[CACHE_TYPES] = { KV_F32, KV_F16, KV_BF16, KV_Q8, KV_Q8_Q4 };
    enum kv_type t = types[x->ask->cache];
    size_t hd = n->attention.head_dim;
    uint64_t sequences = x->ask->sequences ? x->ask->sequences : 1, window = n->attention.window;
    uint64_t pages = pages_for(x->tokens * sequences) + sequences;
    /* What sequences hold of a window, open and closed ones alike, and a step's rows. */
    uint64_t held = (2 * (pages_for(window + WINDOW_KEPT) + 1) + 1) * sequences + pages_for(x->rows);
    if (window && held < pages) pages = held;
    return pages * n->attention.kv_heads * (kv_k_bytes(t, hd) + kv_v_bytes(t, hd));
}

/* Of a part's layers the one with the most values, as float32 and as codes; and logits of a few rows. */
static void buffer_costs(const struct planning *x, size_t from, size_t end, struct split_share *s)
{
    uint64_t here = 0, most = 0, logits = 0;
    for (size_t i = from; i < end; i++) {
        const struct graph_node *n = &x->g->nodes[i];
        uint64_t width = x->g->values[n->out].width;
        if (i > from && n->layer != x->g->nodes[i - 1].layer) here = 0;
        if (n->out == x->g->logits) logits = width * HEAD_ROWS * sizeof(float);
        else here += width;
        if (here > most) most = here;
    }
    const struct backend *b = s->device->backend;
    const uint32_t rows = (uint32_t)x->rows;
    const struct program_limits l = { .max_rows = rows, .max_asks = rows, .cache = x->ask->cache,
                                      .max_seq_pages = (uint32_t)pages_for(x->tokens) + 1 };
    s->buffers = most * x->rows * (sizeof(float) + 1) + logits + (b->beside ? b->beside(x->g, &l) : 0);
}

/* Nodes from .. end on one device. */
static void costs_of(const struct planning *x, size_t from, size_t end, struct split_share *s)
{
    const struct graph *g = x->g;
    s->weights = s->pages = 0;
    memset(x->seen, 0, g->n_params * sizeof *x->seen);
    for (size_t i = from; i < end; i++) {
        const struct graph_node *n = &g->nodes[i];
        for (uint32_t k = 0; n->op != OP_EMBED && k < n->param.count; k++) {
            int32_t p = node_param(g, n, k);
            if (p == GRAPH_NONE || x->seen[p]) continue;
            x->seen[p] = true;
            s->weights += x->param[p];
        }
        if (n->op == OP_ATTENTION) s->pages += page_costs(x, n);
    }
    buffer_costs(x, from, end, s);
}

/* ---- who takes what ------------------------------------------------------------------------------ */

/* A device that is several members has its memory once. */
static size_t same_as(const struct split_ask *a, size_t i)
{
    size_t k = 0;
    while (a->members[k] != a->members[i]) k++;
    return k;
}

static void what_is_left(struct planning *x)
{
    for (size_t i = 0; i < x->ask->n; i++) {
        struct device *d = x->ask->members[i];
        uint64_t have = x->have[i] = d->backend->memory(d);
        x->left[i] = have ? have - have / 8 : UINT64_MAX;
    }
}

static bool fits(const struct planning *x, const struct split_share *s)
{
    return s->weights + s->pages + s->buffers <= x->left[same_as(x->ask, s->member)];
}

/* Layers first .. end for a member; false where the graph has no cut there. */
static bool share_of(const struct planning *x, uint32_t member, uint32_t first, uint32_t end,
                     struct split_share *s)
{
    *s = (struct split_share){ .device = x->ask->members[member], .member = member, .first = first,
                               .layers = end - first, .head = end == x->g->layers,
                               .memory = x->have[member] };
    if (x->at[end] == SIZE_MAX) return false;
    costs_of(x, x->at[first], x->at[end], s);
    return true;
}

/* The most layers that fit; none: s->layers is 0. */
static void fill(const struct planning *x, uint32_t member, uint32_t first, struct split_share *s)
{
    struct split_share more;
    *s = (struct split_share){ .member = member };
    for (uint32_t end = first + 1; end <= x->g->layers; end++)
        if (share_of(x, member, first, end, &more) && fits(x, &more)) *s = more;
}

static stretto_status choose(struct planning *x, struct split_shares *out, struct error *err)
{
    const struct split_ask *a = x->ask;
    uint32_t first = 0, all = x->g->layers;
    for (uint32_t i = 0; i < a->n && (first < all || !out->n); i++) {
        struct split_share s;
        int32_t asked = a->layers ? a->layers[i] : SPLIT_AUTOMATIC;
        uint32_t end = asked >= 0 && (uint32_t)asked < all - first ? first + (uint32_t)asked : all;
        if (i + 1 == a->n) share_of(x, i, first, all, &s);
        else if (asked < 0) fill(x, i, first, &s);
        else if (!share_of(x, i, first, end, &s)) {
            size_t nodes;
            int32_t value;
            return graph_cut_find(x->g, end, &nodes, &value, err);
        }
        if (!s.layers && i + 1 < a->n) continue;
        uint64_t *left = &x->left[same_as(a, i)], took = s.weights + s.pages + s.buffers;
        if (*left != UINT64_MAX) *left = *left > took ? *left - took : 0;
        out->share[out->n++] = s;
        first += s.layers;
    }
    return STRETTO_OK;
}

/* Every place where the graph can be cut. */
static stretto_status find_cuts(struct planning *x, struct error *err)
{
    for (uint32_t i = 0; i <= x->g->layers; i++) {
        struct error why = { 0 };
        int32_t value;
        if (graph_cut_find(x->g, i, &x->at[i], &value, &why) == STRETTO_OK) continue;
        if (why.status != STRETTO_E_UNSUP) return fail(err, why.status, "%s", why.text);
        x->at[i] = SIZE_MAX;
    }
    x->at[x->g->layers] = x->g->n_nodes;
    return STRETTO_OK;
}

static stretto_status check(const struct graph *g, const struct split_ask *a, struct error *err)
{
    if (!a->n || a->n > SPLIT_MEMBERS)
        return fail(err, STRETTO_E_ARG, "a model over %zu devices; it can be over 1 to %d", a->n,
                    SPLIT_MEMBERS);
    for (size_t i = 0; i < a->n; i++) TRY(device_check(a->members[i], err));
    return g->layers ? STRETTO_OK
                     : fail(err, STRETTO_E_UNSUP, "a model without layers is not for several devices");
}

stretto_status split_plan(struct split_shares *out, const struct graph *g, const struct binding *b,
                          const struct split_ask *ask, struct error *err)
{
    *out = (struct split_shares){ 0 };
    TRY(check(g, ask, err));
    struct planning x = { .g = g, .b = b, .ask = ask };
    x.tokens = ask->context ? ask->context : SPLIT_CONTEXT;
    x.rows = ask->rows ? ask->rows : DEFAULT_ROWS;
    x.param = mem_zalloc(g->n_params + 1, sizeof *x.param);
    x.seen = mem_zalloc(3 * g->n_params + 1, sizeof *x.seen);
    x.at = mem_zalloc((size_t)g->layers + 1, sizeof *x.at);
    stretto_status s = STRETTO_OK;
    if (!x.param || !x.seen || !x.at) s = fail(err, STRETTO_E_NOMEM, "out of memory");
    if (s == STRETTO_OK) s = param_costs(&x, x.seen + g->n_params, x.seen + 2 * g->n_params, err);
    if (s == STRETTO_OK) s = find_cuts(&x, err);
    if (s == STRETTO_OK) {
        what_is_left(&x);
        s = choose(&x, out, err);
    }
    mem_free(x.param);
    mem_free(x.seen);
    mem_free(x.at);
    return s;
}

stretto_status split_open_shares(struct device **out, const struct split_shares *shares,
                                 struct error *err)
{
    struct device *members[SPLIT_MEMBERS];
    uint32_t layers[SPLIT_MEMBERS];
    for (size_t i = 0; i < shares->n; i++) {
        members[i] = shares->share[i].device;
        layers[i] = shares->share[i].layers;
    }
    return split_open(out, members, layers, shares->n, err);
}
