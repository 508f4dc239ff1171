/* See piece.h. A text is one sequence of a step: it needs no pages but its own. */
#include "compress/piece.h"
#include "base/memory.h"
#include "graph/partition.h"
#include "graph/step.h"
#include <stdio.h>
#include <string.h>

struct piece {
    struct device *device;
    struct graph graph;
    struct weights *weights;
    struct program *program;
    uint32_t window, asks, pages, width;
    bool head;
    int32_t *numbers;       /* [window] each: tokens, positions, sequence 0, slots, parents, rows that ask      */
    int32_t *page, page_at[GRAPH_GROUPS];
    uint8_t *given, *wants;
    struct answer *answers, **places;
};

static stretto_status take(struct piece *p, struct error *err)
{
    size_t n = p->window;
    p->numbers = mem_zalloc(6 * n, sizeof *p->numbers);
    p->page = mem_alloc(p->pages * sizeof *p->page);
    p->given = mem_alloc(n);
    p->wants = mem_alloc(n);
    p->answers = mem_zalloc(n, sizeof *p->answers);
    p->places = mem_alloc(n * sizeof *p->places);
    if (!p->numbers || !p->page || !p->given || !p->wants || !p->answers || !p->places)
        return fail(err, STRETTO_E_NOMEM, "out of memory");
    memset(p->given, 1, n);
    memset(p->wants, p->head ? WANT_LOGITS : WANT_HIDDEN, n);
    for (uint32_t i = 0; i < p->pages; i++) p->page[i] = (int32_t)i;
    for (size_t i = 0; i < n; i++) {
        p->numbers[n + i] = p->numbers[3 * n + i] = (int32_t)i;
        p->numbers[4 * n + i] = (int32_t)i - 1;         /* the first: STEP_COMMITTED, which is -1 */
        p->places[i] = &p->answers[i];
    }
    return STRETTO_OK;
}

/* ---- the part of a layer ------------------------------------------------------------------------ */

/* The linear layer of that name in a graph of one layer of the whole; NULL: it has none. */
static const struct graph_node *linear_of(const struct graph *g, uint32_t layer, const char *what)
{
    char name[GRAPH_NAME];
    snprintf(name, sizeof name, "blk.%u.%s.weight", layer, what);
    int32_t param = graph_param_find(g, name);
    for (size_t i = 0; param != GRAPH_NONE && i < g->n_nodes; i++)
        if (g->nodes[i].op == OP_LINEAR && node_param(g, &g->nodes[i], 0) == param) return &g->nodes[i];
    return NULL;
}

/* The one value that is made up to node `at` and read behind it; GRAPH_NONE where there are more. */
static int32_t crossing(const struct graph *g, size_t at)
{
    int32_t one = GRAPH_NONE;
    for (size_t i = at; i < g->n_nodes; i++)
        for (uint32_t k = 0; k < g->nodes[i].in.count; k++) {
            int32_t v = node_in(g, &g->nodes[i], k);
            if (v == GRAPH_NONE || g->values[v].made_by >= (int32_t)at || v == one) continue;
            if (one != GRAPH_NONE) return GRAPH_NONE;
            one = v;
        }
    return one;
}

static int32_t value_at(const struct graph *g, uint32_t layer, enum piece_place place)
{
    const struct graph_node *o = linear_of(g, layer, "attn_output"), *down = linear_of(g, layer, "ffn_down");
    if (!o || !down || down < o) return GRAPH_NONE;
    switch (place) {
    case PIECE_IN: return GRAPH_NONE;
    case PIECE_ATTENDED: return node_in(g, o, 0);
    case PIECE_MIXED: return o->out;
    case PIECE_FED: return node_in(g, down, 0);
    case PIECE_MADE: return down->out;
    case PIECE_OUT: return g->logits != GRAPH_NONE ? g->logits : g->hidden;
    case PIECE_MIDDLE: break;
    }
    for (const struct graph_node *n = o + 1; n <= down; n++) {
        int32_t v = crossing(g, (size_t)(n - g->nodes));
        if (v != GRAPH_NONE) return v;
    }
    return GRAPH_NONE;
}

/* The nodes that `to` needs, from `from` on. */
static stretto_status copy_part(struct graph *out, const struct graph *g, int32_t from, int32_t to,
                                unsigned char *need, int32_t *as, struct error *err)
{
    struct graph_builder b = { .g = out, .err = err, .layer = -1 };
    need[to] = 1;
    for (size_t i = g->n_nodes; i-- > 0;)
        for (uint32_t k = 0; need[g->nodes[i].out] && g->nodes[i].out != from && k < g->nodes[i].in.count; k++)
            if (node_in(g, &g->nodes[i], k) != GRAPH_NONE) need[node_in(g, &g->nodes[i], k)] = 1;
    for (size_t v = 0; v < g->n_values; v++) as[v] = GRAPH_NONE;
    if (from != GRAPH_NONE) as[from] = graph_input(&b, g->values[from].width);
    for (size_t i = 0; i < g->n_nodes && b.status == STRETTO_OK; i++) {
        const struct graph_node *n = &g->nodes[i];
        if (!need[n->out] || (from != GRAPH_NONE && (n->out == from || i < (size_t)g->values[from].made_by))) continue;
        b.layer = n->layer;
        as[n->out] = graph_repeat(&b, g, n, as);
    }
    b.layer = -1;
    if (b.status != STRETTO_OK) return b.status;
    if (to == g->logits) graph_answer(&b, as[g->hidden], as[to]);
    else if (g->values[to].rows == ROWS_ASKING) graph_answer(&b, as[to], GRAPH_NONE);
    else graph_answer(&b, graph_ask(&b, as[to]), GRAPH_NONE);
    return b.status;
}

static stretto_status cut(struct graph *out, const struct graph *whole, uint32_t layer, enum piece_place from,
                          enum piece_place to, struct error *err)
{
    struct graph_part part = { 0 };
    TRY(graph_cut(&part, whole, layer, layer + 1, err));
    const struct graph *g = &part.graph;
    int32_t begin = value_at(g, layer, from), end = value_at(g, layer, to);
    unsigned char *need = mem_zalloc(g->n_values + 1, 1);
    int32_t *as = mem_alloc((g->n_values + 1) * sizeof *as);
    stretto_status s = STRETTO_OK;
    if (!need || !as) s = fail(err, STRETTO_E_NOMEM, "out of memory");
    else if (end == GRAPH_NONE || (from != PIECE_IN && begin == GRAPH_NONE))
        s = fail(err, STRETTO_E_UNSUP, "layer %u is not attention followed by a feed-forward part", layer);
    *out = (struct graph){ .layers = 1, .bidirectional = g->bidirectional, .n_rope = g->n_rope };
    memcpy(out->rope, g->rope, sizeof out->rope);
    if (s == STRETTO_OK) s = copy_part(out, g, begin, end, need, as, err);
    mem_free(need);
    mem_free(as);
    graph_part_done(&part);
    return s;
}

/* ---- programs ----------------------------------------------------------------------------------- */

static stretto_status begin(struct piece *p, const struct binding *b, bool reference, unsigned threads,
                            struct error *err)
{
    const struct graph *g = &p->graph;
    p->head = g->logits != GRAPH_NONE;
    p->width = g->values[p->head ? g->logits : g->hidden].width;
    struct upload_options up = { .reference = reference, .threads = threads };
    TRY(device_upload(p->device, &p->weights, g, b, &up, err));
    struct program_limits l = { .max_rows = p->window, .max_asks = p->asks, .max_seq_pages = p->pages,
                                .context = p->window, .cache = CACHE_F32, .threads = threads };
    for (uint32_t i = 0; i < g->n_groups; i++) l.max_pages[i] = p->pages;
    TRY(device_compile(p->device, &p->program, g, p->weights, &l, err));
    return take(p, err);
}

struct part { uint32_t layer; enum piece_place from, to; uint32_t window, asks; };

static stretto_status open_part(struct piece **out, struct device *d, const struct graph *g, struct part part,
                                const struct binding *b, bool reference, unsigned threads, struct error *err)
{
    *out = NULL;
    struct piece *p = mem_zalloc(1, sizeof *p);
    if (!p) return fail(err, STRETTO_E_NOMEM, "out of memory");
    p->device = d;
    p->window = part.window;
    p->asks = part.asks;
    p->pages = (p->window + PAGE_SLOTS - 1) / PAGE_SLOTS + 1;
    stretto_status s = cut(&p->graph, g, part.layer, part.from, part.to, err);
    if (s == STRETTO_OK) s = begin(p, b, reference, threads, err);
    if (s != STRETTO_OK) piece_close(p);
    else *out = p;
    return s;
}

stretto_status piece_open(struct piece **out, struct device *d, const struct graph *g, uint32_t layer,
                          enum piece_place from, enum piece_place to, const struct binding *b, uint32_t window,
                          struct error *err)
{
    return open_part(out, d, g, (struct part){ layer, from, to, window, window }, b, true, 0, err);
}

stretto_status piece_open_step(struct piece **out, struct device *d, const struct graph *g, uint32_t layer,
                               const struct binding *b, uint32_t window, uint32_t asks, unsigned threads,
                               struct error *err)
{
    return open_part(out, d, g, (struct part){ layer, PIECE_IN, PIECE_OUT, window, asks }, b, false, threads, err);
}

stretto_status piece_open_linear(struct piece **out, struct device *d, uint32_t n_in, uint32_t n_out,
                                 const struct binding *b, unsigned threads, struct error *err)
{
    *out = NULL;
    struct piece *p = mem_zalloc(1, sizeof *p);
    if (!p) return fail(err, STRETTO_E_NOMEM, "out of memory");
    struct graph_builder g = { .g = &p->graph, .err = err, .layer = -1 };
    p->device = d;
    p->window = p->asks = p->pages = 1;
    graph_answer(&g, graph_ask(&g, graph_linear(&g, graph_input(&g, n_in), "weight", NULL, n_out)), GRAPH_NONE);
    stretto_status s = g.status;
    if (s == STRETTO_OK) s = begin(p, b, false, threads, err);
    if (s == STRETTO_OK) p->given[0] = 0;
    if (s != STRETTO_OK) piece_close(p);
    else *out = p;
    return s;
}

uint32_t piece_width(const struct piece *p) { return p->width; }

void piece_close(struct piece *p)
{
    if (!p) return;
    if (p->program) p->device->backend->program_close(p->program);
    if (p->weights) p->device->backend->weights_close(p->weights);
    graph_done(&p->graph);
    mem_free(p->numbers);
    mem_free(p->page);
    mem_free(p->given);
    mem_free(p->wants);
    mem_free(p->answers);
    mem_free(p->places);
    mem_free(p);
}

stretto_status piece_run(struct piece *p, const int32_t *ids, const float *rows, uint32_t n, uint32_t first,
                         float *out, struct error *err)
{
    size_t w = p->window, begin_at = p->head ? first : 0, asks = n - begin_at;
    if (n == 0 || n > w || begin_at >= n)
        return fail(err, STRETTO_E_ARG, "a text of %u tokens where 1 to %zu are read at once", n, w);
    if (asks > p->asks)
        return fail(err, STRETTO_E_ARG, "%zu rows of a text are asked where %u are answered at once", asks, p->asks);
    struct step_seq seq = { .n_rows = (int32_t)n };
    for (size_t i = 0; i < n; i++) p->numbers[i] = rows ? -1 - (int32_t)i : ids[i];
    for (size_t i = 0; i < asks; i++) {
        float *at = out + i * p->width;
        p->numbers[5 * w + i] = (int32_t)(begin_at + i);
        p->answers[i] = (struct answer){ .logits = p->head ? at : NULL, .hidden = p->head ? NULL : at };
    }
    struct step s = { .n_rows = n, .n_seqs = 1, .n_asks = asks, .n_heads = p->head ? asks : 0,
                      .token = p->numbers, .position = p->numbers + w, .seq = p->numbers + 2 * w,
                      .slot = p->numbers + 3 * w, .parent = p->numbers + 4 * w, .given = p->given, .vectors = rows,
                      .seqs = &seq, .ask_row = p->numbers + 5 * w, .ask_wants = p->wants,
                      .page = p->page, .page_at = p->page_at };
    TRY(device_run(p->device, p->program, &s, p->places, err));
    for (size_t i = 0; i < asks; i++)
        if (p->answers[i].status != STRETTO_OK)
            return fail(err, p->answers[i].status, "the model's answers to the text are no numbers");
    return STRETTO_OK;
}
