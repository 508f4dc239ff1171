/* The phases that a graph with a loss has more than others: attention among the rows of the step and its gradient,
 * gradients of parameters, and the loss. What is added up has one owner who adds it in the order of rows, so bits
 * depend neither on threads nor on who takes which share: a gradient's panel, or columns of a vector or of a table,
 * goes through all rows; keys' gradients are a job by themselves (kernels/see.h). */
#include "backend/cpu/linear/linear.h"
#include "backend/input.h"
#include "kernels/see.h"
#include <math.h>
#include <string.h>

enum { SEE_LEAST = 64, SEE_MOST = 256, SINK_COLS = 64, NARROW = 64 };

static size_t ceil_div(size_t n, size_t by) { return (n + by - 1) / by; }

/* ---- what a step takes ----------------------------------------------------------------------------------------- */

static size_t group_of(const struct graph_node *n) { return n->see.heads / n->see.kv_heads; }

void train_buffers(struct program *p, struct arena *a)
{
    const struct graph *g = p->g;
    size_t scratch = 0, heads = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        if (n->op != OP_SEE) continue;
        size_t needs = see_scratch(group_of(n), n->see.head_dim, p->limits.max_rows);
        if (needs > scratch) scratch = needs;
        if (n->see.heads > heads) heads = n->see.heads;
    }
    size_t wide = 0;
    for (size_t v = 0; v < g->n_values; v++)
        if (g->values[v].width > wide) wide = g->values[v].width;
    p->ones = arena_take(a, wide * sizeof *p->ones);
    for (size_t i = 0; a->base && i < wide; i++) p->ones[i] = 1;
    p->losses = arena_take(a, p->limits.max_asks * sizeof *p->losses);
    p->ask_at = arena_take(a, p->limits.max_rows * sizeof *p->ask_at);
    p->part = arena_take(a, (p->limits.max_rows + (size_t)1) * sizeof *p->part);
    p->group = arena_take(a, p->limits.max_rows * sizeof *p->group);
    p->sums = arena_take(a, p->limits.max_rows * heads * sizeof *p->sums);
    p->see_scratch = arena_take(a, p->threads * sizeof *p->see_scratch);
    for (unsigned t = 0; t < p->threads; t++) {
        float *mine = arena_take(a, scratch * sizeof *mine);
        if (a->base) p->see_scratch[t] = mine;
    }
}

void train_begin(struct program *p)
{
    for (size_t r = 0; r < p->step->n_rows; r++) p->ask_at[r] = -1;
    for (size_t i = 0; i < p->step->n_asks; i++) p->ask_at[p->step->ask_row[i]] = (int32_t)i;
    p->n_parts = see_parts(p->step->range_at, p->step->ranges, p->step->n_rows, p->part);
    p->parts_most = p->parts_all = 0;
    p->n_groups = 0;
    for (size_t i = 0; i < p->n_parts; i++) {
        for (int32_t r = p->part[i], end = p->part[i + 1]; r < end; r += LEARN_ROWS) {
            uint32_t n = end - r < LEARN_ROWS ? (uint32_t)(end - r) : LEARN_ROWS;
            p->group[p->n_groups++] = (struct row_group){ (uint32_t)r, n };
        }
        double rows = (double)(p->part[i + 1] - p->part[i]);
        p->parts_all += rows * rows;
        if (rows * rows > p->parts_most) p->parts_most = rows * rows;
    }
}

/* ---- attention: a unit is some rows and a key/value head ------------------------------------------------------- */

/* Rows of a unit: many share the copying of what they see, but each thread is to have some units. */
static size_t see_unit_rows(const struct program *p, const struct graph_node *n)
{
    size_t rows = SEE_MOST;
    while (rows > SEE_LEAST && ceil_div(p->step->n_rows, rows) * n->see.kv_heads < 4 * p->threads) rows /= 2;
    return rows;
}

static size_t see_units(const struct program *p, const struct graph_node *n)
{
    return ceil_div(p->step->n_rows, see_unit_rows(p, n)) * n->see.kv_heads;
}

static struct see see_of(const struct program *p, const struct graph_node *n, size_t head)
{
    const struct place *q = &p->place[node_in(p->g, n, 0)], *k = &p->place[node_in(p->g, n, 1)],
                       *v = &p->place[node_in(p->g, n, 2)];
    size_t dim = n->see.head_dim;
    return (struct see){ .q = q->f + head * group_of(n) * dim, .ldq = q->ld, .k = k->f + head * dim, .ldk = k->ld,
                         .v = v->f + head * dim, .ldv = v->ld, .heads = group_of(n), .head_dim = dim,
                         .n_rows = p->step->n_rows, .range_at = p->step->range_at, .ranges = p->step->ranges,
                         .window = n->see.window, .scale = n->see.scale, .softcap = n->see.softcap };
}

struct rows { size_t from, to; };

static struct rows rows_of_unit(const struct program *p, const struct graph_node *n, size_t block)
{
    size_t rows = see_unit_rows(p, n), from = block * rows, left = p->step->n_rows - from;
    return (struct rows){ from, from + (left < rows ? left : rows) };
}

/* Whether gradients of all three sides are made together, which takes five products where two passes take seven, but
 * leaves a part and head to one thread. Bits are the same. */
static bool see_together(const struct program *p, const struct phase *ph)
{
    double heads = ph->node->see.kv_heads, threads = p->threads;
    if (ph->part[SEE_Q].out == GRAPH_NONE || ph->part[SEE_K].out == GRAPH_NONE) return false;
    return 5 * (heads * p->parts_all + (threads - 1) * p->parts_most) <= 7 * heads * p->parts_all;
}

static void see_unit(const struct program *p, const struct phase *ph, size_t unit, unsigned rank)
{
    const struct graph_node *n = ph->node;
    size_t head = unit % n->see.kv_heads, dims = group_of(n) * n->see.head_dim;
    struct rows r = rows_of_unit(p, n, unit / n->see.kv_heads);
    struct see a = see_of(p, n, head);
    const struct place *out = &p->place[ph->part[0].out];
    bool read = ph->part[0].param != GRAPH_NONE;
    const struct place *sums = read ? &p->place[ph->part[0].param] : NULL;
    see_rows(p->w->kernels, &a, r.from, r.to, p->see_scratch[rank], out->f + head * dims, out->ld,
             (read ? sums->f : p->sums) + head * group_of(n), read ? sums->ld : n->see.heads);
}

/* Together, or first all units of dq, then those of dk and dv. */
static void see_back_unit(const struct program *p, const struct phase *ph, size_t unit, unsigned rank)
{
    const struct graph_node *n = ph->node;
    size_t units = see_units(p, n), dim = n->see.head_dim, group = group_of(n);
    bool together = see_together(p, ph), keys = together || ph->part[SEE_Q].out == GRAPH_NONE || unit >= units;
    if (!together) unit %= units;
    size_t head = unit % n->see.kv_heads, at = unit / n->see.kv_heads;
    struct rows r = together ? (struct rows){ (size_t)p->part[at], (size_t)p->part[at + 1] } : rows_of_unit(p, n, at);
    struct see a = see_of(p, n, head);
    const struct place *dout = &p->place[node_in(p->g, n, 3)], *sums = &p->place[node_in(p->g, n, 4)],
                       *dots = &p->place[node_in(p->g, n, 5)];
    struct see_back b = { .dout = dout->f + head * group * dim, .ldo = dout->ld, .lse = sums->f + head * group,
                          .dots = dots->f + head * group, .ldl = sums->ld };
    const struct place none = { 0 }, *dk = keys ? &p->place[ph->part[SEE_K].out] : &none,
                       *dv = keys ? &p->place[ph->part[SEE_V].out] : &none,
                       *dq = together || !keys ? &p->place[ph->part[SEE_Q].out] : &none;
    if (together)
        see_rows_back(p->w->kernels, &a, &b, r.from, r.to, p->see_scratch[rank], dq->f + head * group * dim, dq->ld,
                      dk->f + head * dim, dk->ld, dv->f + head * dim, dv->ld);
    else if (keys)
        see_rows_dkv(p->w->kernels, &a, &b, r.from, r.to, p->see_scratch[rank], dk->f + head * dim, dk->ld,
                     dv->f + head * dim, dv->ld);
    else see_rows_dq(p->w->kernels, &a, &b, r.from, r.to, p->see_scratch[rank], dq->f + head * group * dim, dq->ld);
}

/* ---- gradients of parameters ----------------------------------------------------------------------------------- */

/* Rows are added up in groups that begin with each part of the step, so in bf16 too gradients do not depend on which
 * texts are computed together; a part is never divided. Rows of sets and those that ask are cut elsewhere: float32. */
static bool in_groups(const struct program *p, const struct weight *w, enum rows_kind kind)
{
    return w->by == &provider_learn && kind == ROWS_ALL && p->w->kernels->learn_grad;
}

/* A linear layer's panels [panel, panel + n) and their part of the bias, from rows of x and dy, whose columns from
 * `col` on are theirs. at: which of the node's parameters they are. */
static void grad_panels(const struct program *p, const struct graph_node *n, uint32_t at, const struct place *x,
                        size_t x_row, const struct place *dy, size_t col, size_t rows, enum rows_kind kind,
                        size_t width, size_t panel, size_t n_panels)
{
    const struct kernels *k = p->w->kernels;
    const float *d = dy->f + col + panel * PANEL_COLS;
    size_t left = width - panel * PANEL_COLS, cols = n_panels * PANEL_COLS < left ? n_panels * PANEL_COLS : left;
    int32_t weight = node_param(p->g, n, at), bias = at ? GRAPH_NONE : node_param(p->g, n, 1);
    const struct weight *w = weight == GRAPH_NONE ? NULL : &p->w->weight[weight];
    const struct weight *b = bias == GRAPH_NONE ? NULL : &p->w->weight[bias];
    float *g = w && w->elements ? w->part[PARAM_GRADIENT] + panel * PANEL_COLS * w->n_in : NULL;
    if (g && in_groups(p, w, kind))
        k->learn_grad(x->f, x->ld, w->n_in, d, dy->ld, cols, p->group, p->n_groups, g, w->n_in);
    else if (g) k->linear_grad(place_row(x, x_row), x->ld, w->n_in, d, dy->ld, cols, rows, g, w->n_in);
    if (b && b->elements) k->vector_grad(NULL, 0, d, dy->ld, rows, cols, b->part[PARAM_GRADIENT] + panel * PANEL_COLS);
}

/* Few outputs, as an adapter's first layer has, are shared out by inputs: there would be no more units than panels. */
static bool is_narrow(const struct program *p, const struct graph_node *n)
{
    return p->g->values[node_in(p->g, n, 1)].width <= NARROW && node_param(p->g, n, 1) == GRAPH_NONE;
}

static void grad_linear(const struct program *p, const struct graph_node *n, size_t unit, size_t units)
{
    int32_t x = node_in(p->g, n, 0), dy = node_in(p->g, n, 1);
    size_t rows = cpu_rows(p, p->g->values[dy].rows), width = p->g->values[dy].width;
    if (!is_narrow(p, n)) {
        grad_panels(p, n, 0, &p->place[x], 0, &p->place[dy], 0, rows, p->g->values[dy].rows, width, unit, units);
        return;
    }
    const struct weight *w = &p->w->weight[node_param(p->g, n, 0)];
    size_t from = unit * SINK_COLS, cols = w->n_in - from < units * SINK_COLS ? w->n_in - from : units * SINK_COLS;
    const struct place *in = &p->place[x], *out = &p->place[dy];
    float *g = w->part[PARAM_GRADIENT] + from * PANEL_COLS;
    if (in_groups(p, w, p->g->values[dy].rows))
        p->w->kernels->learn_grad(in->f + from, in->ld, cols, out->f, out->ld, width, p->group, p->n_groups, g,
                                  w->n_in);
    else p->w->kernels->linear_grad(in->f + from, in->ld, cols, out->f, out->ld, width, rows, g, w->n_in);
}

static size_t norm_length(const struct program *p, const struct graph_node *n)
{
    int32_t any = node_param(p->g, n, 0) != GRAPH_NONE ? node_param(p->g, n, 0) : node_param(p->g, n, 1);
    return p->g->params[any].n_in;
}

/* Columns of all rows and, in each, of all heads. */
static void grad_norm(const struct program *p, const struct graph_node *n, size_t unit)
{
    const struct kernels *k = p->w->kernels;
    int32_t v = node_in(p->g, n, 1);
    const struct place *x = &p->place[node_in(p->g, n, 0)], *dy = &p->place[v];
    size_t length = norm_length(p, n), heads = p->g->values[v].width / length, col = unit * SINK_COLS;
    size_t cols = length - col < SINK_COLS ? length - col : SINK_COLS, rows = cpu_rows(p, p->g->values[v].rows);
    for (uint32_t i = 0; i < 2; i++) {
        int32_t param = node_param(p->g, n, i);
        if (param == GRAPH_NONE) continue;
        float *to = p->w->weight[param].part[PARAM_GRADIENT] + col;
        for (size_t r = 0; r < rows; r++)
            k->vector_grad(i ? NULL : place_row(x, r) + col, length, place_row(dy, r) + col, length, heads, cols, to);
    }
}

/* Rows of the table that stands before this one. */
static size_t rows_before(const struct program *p, const struct graph_node *n)
{
    int32_t before = node_param(p->g, n, 1);
    return before == GRAPH_NONE ? 0 : p->g->params[before].n_out;
}

static void grad_embed(const struct program *p, const struct graph_node *n, size_t unit)
{
    const struct weight *w = &p->w->weight[node_param(p->g, n, 0)];
    const struct kernels *k = p->w->kernels;
    const struct place *dy = &p->place[node_in(p->g, n, 0)];
    size_t col = unit * PANEL_COLS, end = w->n_in - col < PANEL_COLS ? w->n_in : col + PANEL_COLS;
    float *grad = w->lookups ? w->lookups : w->part[PARAM_GRADIENT];
    for (size_t r = 0; r < p->step->n_rows; r++) {
        if (n->embed == EMBED_TOKEN && p->step->token[r] < 0) continue;
        size_t id = input_table_row(n, p->step, r), from = rows_before(p, n);
        if (id < from || id - from >= w->n_out) continue;
        id -= from;
        if (w->lookups && !unit) w->looked_up[id] = 1;
        k->vector_grad(NULL, 0, place_row(dy, r) + col, 0, 1, end - col, grad + id * w->n_in + col);
    }
}

static size_t sink_units(const struct program *p, const struct graph_node *n)
{
    if (n->op == OP_GRAD_NORM) return ceil_div(norm_length(p, n), SINK_COLS);
    if (n->op == OP_GRAD_LINEAR && is_narrow(p, n))
        return ceil_div(p->g->params[node_param(p->g, n, 0)].n_in, SINK_COLS);
    return ceil_div(p->g->values[node_in(p->g, n, n->op == OP_GRAD_LINEAR)].width, PANEL_COLS);
}

static void grad_share(const struct program *p, const struct phase *ph, size_t first, size_t n)
{
    for (uint32_t i = 0; i < ph->n_parts && n; i++) {
        const struct graph_node *sink = ph->part[i].node;
        size_t units = sink_units(p, sink), here;
        if (first >= units) {
            first -= units;
            continue;
        }
        here = units - first < n ? units - first : n;
        if (sink->op == OP_GRAD_LINEAR) grad_linear(p, sink, first, here);
        for (size_t u = first; sink->op == OP_GRAD_NORM && u < first + here; u++) grad_norm(p, sink, u);
        for (size_t u = first; sink->op == OP_GRAD_EMBED && u < first + here; u++) grad_embed(p, sink, u);
        first = 0;
        n -= here;
    }
}

/* ---- the loss -------------------------------------------------------------------------------------------------- */

static size_t loss_rows(const struct program *p, const struct phase *ph)
{
    size_t left = p->step->n_asks - ph->first;
    return left < ph->count ? left : ph->count;
}

static const struct weight *head_of(const struct program *p, const struct phase *ph)
{
    return &p->w->weight[ph->part[0].param];
}

/* What rows behind the head give to the gradient of what it read: panels [first, first + n) of inputs. */
static void back_add(const struct program *p, const struct weight *head, const float *dy, size_t lddy, size_t rows,
                     size_t first, size_t n, float *dx, size_t lddx)
{
    const struct weight *w = head->behind;
    size_t from = first * PANEL_COLS, cols = n * PANEL_COLS < w->n_in - from ? n * PANEL_COLS : w->n_in - from;
    p->w->kernels->linear_back[w->type](w->panels, w->n_out, w->n_in, from, cols, dy + head->n_out, lddy, rows, dx,
                                        lddx, true);
}

/* Panels of the head, or of its transposed, times the rows. */
static void loss_linear(const struct program *p, const struct phase *ph, size_t first, size_t n)
{
    bool back = ph->kind == PHASE_LOSS_BACK;
    const struct weight *w = back ? head_of(p, ph)->back : head_of(p, ph);
    const struct place *x = back ? &p->logits : &p->place[ph->part[0].in];
    const struct place *y = back ? &p->place[ph->part[0].out] : &p->logits;
    size_t x_row = back ? 0 : ph->first, y_row = back ? ph->first : 0, most = p->w->kernels->row_block;
    for (size_t r = 0, rows = loss_rows(p, ph), block; r < rows; r += block) {
        block = rows - r < most ? rows - r : most;
        float *to = place_row(y, y_row + r) + first * PANEL_COLS;
        cpu_linear_rows(p, w, x, x_row + r, ROWS_ASKING, ph->first + r, block, (uint32_t)first, (uint32_t)n, to, y->ld);
        if (back && head_of(p, ph)->behind)
            back_add(p, head_of(p, ph), place_row(x, x_row + r), x->ld, block, first, n, to, y->ld);
    }
}

/* How many rows from `row` on are to be like neighbours, at most `most`; 0: it is not to be like any. */
static size_t likes_from(const struct program *p, const struct phase *ph, size_t row, size_t most)
{
    const struct step_target *t = &p->step->targets[ph->first + row];
    size_t n = 0;
    while (n < most && t[n].like && t[n].like == t[0].like + n) n++;
    return n;
}

/* Panels of the head times the rows that those of the phase are to be like. */
static void like_linear(const struct program *p, const struct phase *ph, size_t first, size_t n)
{
    const struct place *x = &p->place[ph->part[0].in];
    size_t most = p->w->kernels->row_block;
    for (size_t r = 0, rows = loss_rows(p, ph), run; r < rows; r += run ? run : 1) {
        size_t left = rows - r < most ? rows - r : most, from = p->step->targets[ph->first + r].like - 1;
        run = likes_from(p, ph, r, left);
        if (run)
            cpu_linear_rows(p, head_of(p, ph), x, from, ROWS_ASKING, from, run, (uint32_t)first, (uint32_t)n,
                            place_row(&p->like, r) + first * PANEL_COLS, p->like.ld);
    }
}

static size_t head_panels(const struct weight *w) { return w->n_panels + (w->behind ? w->behind->n_panels : 0); }

/* The head's panels, and those of rows that stand behind it. */
static void loss_grad(const struct program *p, const struct phase *ph, size_t first, size_t n)
{
    const struct weight *w = head_of(p, ph);
    const struct place *x = &p->place[ph->part[0].in];
    size_t own = first >= w->n_panels ? 0 : n < w->n_panels - first ? n : w->n_panels - first;
    if (own)
        grad_panels(p, ph->node, 0, x, ph->first, &p->logits, 0, loss_rows(p, ph), ROWS_ASKING, w->n_out, first, own);
    if (n > own)
        grad_panels(p, ph->node, 2, x, ph->first, &p->logits, w->n_out, loss_rows(p, ph), ROWS_ASKING,
                    w->behind->n_out, first + own - w->n_panels, n - own);
}

/* What is not likelier than this adds nothing to an entropy that a float has. */
#define LIKELY 1e-12F

/* Logits q of another row become its probabilities; returns their entropy. */
static double probabilities(const struct kernels *k, float *q, size_t n, float cap)
{
    const struct loss_target first = { .weight = 1 };
    double entropy = 0;
    for (size_t i = 0; cap > 0 && i < n; i++) q[i] = cap * tanhf(q[i] / cap);
    if (isnan(k->loss_row(q, n, 0, &first))) return NAN;
    q[0] += 1;                                      /* the gradient was softmax less one at token 0 */
    for (size_t i = 0; i < n; i++)
        if (q[i] > LIKELY) entropy -= (double)q[i] * log((double)q[i]);
    return entropy;
}

/* KL(q || p) of the logits z, which become weight * its gradient, (p - q) through the cap: as if token 0 were the
 * target, and then the difference of that to q. */
static float loss_like(const struct kernels *k, float *z, float *q, size_t n, float cap, float weight)
{
    const struct loss_target first = { .weight = weight };
    double entropy = probabilities(k, q, n, cap), cross = 0;
    float t = cap > 0 ? tanhf(z[0] / cap) : 0, z0 = cap > 0 ? cap * t : z[0], by0 = 1 - t * t;
    for (size_t i = 0; i < n; i++) {
        float y = cap > 0 ? tanhf(z[i] / cap) : 0;
        cross += (double)q[i] * (double)(cap > 0 ? cap * y : z[i]);
        q[i] *= 1 - y * y;
    }
    double lse = (double)k->loss_row(z, n, cap, &first) + (double)z0;
    z[0] += weight * by0;
    for (size_t i = 0; i < n; i++) z[i] -= weight * q[i];
    return (float)(lse - cross - entropy);
}

/* A row's logits become the gradient of its weighted loss. */
static void loss_row(const struct program *p, const struct phase *ph, size_t row)
{
    const struct kernels *k = p->w->kernels;
    const struct step_target *t = &p->step->targets[ph->first + row];
    struct loss_target target = { .weight = t->weight, .token = t->token, .top = t->top, .prob = t->prob,
                                  .n_top = t->n_top, .tail = t->tail };
    size_t vocab = graph_loss_width(p->g, ph->node);
    float *z = place_row(&p->logits, row);
    if (ph->part[0].bias != GRAPH_NONE) k->add(z, p->w->weight[ph->part[0].bias].vector, vocab, z);
    if (!t->like) p->losses[ph->first + row] = k->loss_row(z, vocab, ph->node->loss.cap, &target);
    else {
        float *q = place_row(&p->like, row);
        if (ph->part[0].bias != GRAPH_NONE) k->add(q, p->w->weight[ph->part[0].bias].vector, vocab, q);
        p->losses[ph->first + row] = loss_like(k, z, q, vocab, ph->node->loss.cap, t->weight);
    }
    if (p->logits.forms) cpu_make_forms(p, &p->logits, cpu_is_given(p, ROWS_ASKING, ph->first + row), row, vocab);
}

/* ---- what a phase is shared out in ----------------------------------------------------------------------------- */

size_t train_units(const struct program *p, const struct phase *ph)
{
    size_t n = 0;
    switch (ph->kind) {
    case PHASE_SEE: return see_units(p, ph->node);
    case PHASE_SEE_BACK:
        if (see_together(p, ph)) return p->n_parts * ph->node->see.kv_heads;
        n = see_units(p, ph->node);
        return ph->part[SEE_Q].out != GRAPH_NONE && ph->part[SEE_K].out != GRAPH_NONE ? 2 * n : n;
    case PHASE_GRAD:
        for (uint32_t i = 0; i < ph->n_parts; i++) n += sink_units(p, ph->part[i].node);
        return n;
    case PHASE_LOGITS: case PHASE_LIKE: return head_panels(head_of(p, ph));
    case PHASE_LOSS: return loss_rows(p, ph);
    case PHASE_LOSS_BACK: return head_of(p, ph)->back->n_panels;
    case PHASE_LOSS_GRAD: return head_panels(head_of(p, ph));
    default: return 0;
    }
}

/* Neighbouring panels share the copying of x. */
size_t train_least(const struct program *p, const struct phase *ph, size_t units)
{
    size_t least = units / (8 * p->threads);
    if (ph->kind != PHASE_GRAD && ph->kind != PHASE_LOSS_GRAD) return 1;
    return least < 1 ? 1 : least < 4 ? least : 4;
}

void train_share(struct program *p, const struct phase *ph, size_t first, size_t n, unsigned rank)
{
    switch (ph->kind) {
    case PHASE_SEE:
        for (size_t u = first; u < first + n; u++) see_unit(p, ph, u, rank);
        return;
    case PHASE_SEE_BACK:
        for (size_t u = first; u < first + n; u++) see_back_unit(p, ph, u, rank);
        return;
    case PHASE_GRAD: grad_share(p, ph, first, n); return;
    case PHASE_LOGITS: case PHASE_LOSS_BACK: loss_linear(p, ph, first, n); return;
    case PHASE_LIKE: like_linear(p, ph, first, n); return;
    case PHASE_LOSS:
        for (size_t r = first; r < first + n; r++) loss_row(p, ph, r);
        return;
    case PHASE_LOSS_GRAD:
        loss_grad(p, ph, first, n);
        return;
    default: return;
    }
}
