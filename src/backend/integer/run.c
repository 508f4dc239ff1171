/* Running a step: the team walks the stages together. Items of a stage are handed out by a counter; stages of few
 * rows are run by whoever arrives last at the barrier before them. */
#include "backend/input.h"
#include "backend/integer/integer.h"
#include <math.h>
#include <string.h>

enum { SERIAL_ROWS = 3, ROWS_AT_ONCE = 64 };

static size_t rows_of(const struct program *p, enum rows_kind kind)
{
    return kind == ROWS_ASKING ? p->step->n_asks : p->step->n_rows;
}

/* The row of the step that a value's row belongs to. */
static size_t step_row(const struct program *p, enum rows_kind kind, size_t row)
{
    return kind == ROWS_ASKING ? (size_t)p->step->ask_row[row] : row;
}

/* ---- row operations ----------------------------------------------------------------------------- */

static void angles(const struct program *p, size_t row)
{
    for (size_t t = 0; t < p->g->n_rope; t++) {
        size_t n_rot = p->g->rope[t].n_rot;
        angles_of(p->turn[t], n_rot / 2, p->magnitude[t], p->step->position[row], p->angles[t] + row * n_rot);
    }
}

static void embed(const struct program *p, const struct graph_node *n, size_t row, size_t width, struct scratch *s,
                  struct row to)
{
    const struct param_bytes *table = n->embed == EMBED_VECTOR ? NULL : &p->w->weight[node_param(p->g, n, 0)].table;
    input_embed(n, table, p->step, row, width, s->f);
    row_from_float(s->f, width, to);
}

static void rope(const struct program *p, const struct row_instr *r, size_t row, struct row x, size_t width,
                 struct scratch *s, struct row to)
{
    const struct graph_node *n = r->node;
    size_t n_rot = p->g->rope[n->rope.table].n_rot;
    const int32_t *cs = p->angles[n->rope.table] + step_row(p, p->g->values[r->out].rows, row) * n_rot;
    row_rope(x, n->rope.style, n->rope.heads, n->rope.head_dim, (uint32_t)n_rot, cs, s->p, width, to);
}

/* Layers that read one value share its codes; the first of them says by which scale, if any. */
static void codes(const struct program *p, const struct row_instr *r, size_t row, size_t width)
{
    const struct place *v = &p->place[r->in];
    int32_t param = node_param(p->g, r->node, 0);
    const struct weight *w = &p->w->weight[param];
    const int32_t *x = v->x + row * v->ld;
    int8_t *code = v->code + row * v->ldq;
    if (w->input.m && v->e[row] != EXPONENT_NAN) {
        row_codes_by(x, v->e[row], width, w->inverse, code);
        v->scale[row] = w->input;
        return;
    }
    v->scale[row] = row_codes(x, v->e[row], width, code);
    scales_see(p, param, v->scale[row]);
}

static void row_op(const struct program *p, const struct row_instr *r, size_t row, struct scratch *s)
{
    const struct graph_node *n = r->node;
    struct row x = { NULL, NULL }, y = x, to = x;
    if (r->in != GRAPH_NONE && r->op != ROW_ASK) x = row_at(&p->place[r->in], row);
    if (r->in2 != GRAPH_NONE) y = row_at(&p->place[r->in2], row);
    if (r->out != GRAPH_NONE) to = row_at(&p->place[r->out], row);
    const struct numbers *c = n ? &p->numbers[n - p->g->nodes] : NULL;
    size_t width = r->out != GRAPH_NONE ? p->g->values[r->out].width : x.x ? p->g->values[r->in].width : 0;
    switch (r->op) {
    case ROW_ANGLES: angles(p, row); return;
    case ROW_EMBED: embed(p, n, row, width, s, to); return;
    case ROW_NORM: row_norm(x, &c->norm, width, s->p, to); return;
    case ROW_ROPE: rope(p, r, row, x, width, s, to); return;
    case ROW_ACT: row_act(x, n->act, NULL, width, s->p, to); return;
    case ROW_ACT_MUL: row_act(x, n->act, &y, width, s->p, to); return;
    case ROW_MUL: row_mul(x, y, width, s->p, to); return;
    case ROW_ADD: row_add(x, y, width, s->p, to); return;
    case ROW_BIAS: row_add_vector(x, &c->bias, width, s->p, to); return;
    case ROW_SCALE: row_scale(x, c->by, width, s->p, to); return;
    case ROW_SOFTCAP: row_softcap(x, c->cap, c->of_cap, width, s->p, to); return;
    case ROW_QUANT: codes(p, r, row, width); return;
    case ROW_STORE: heads_store(p, r, row); return;
    case ROW_ASK: {
        struct row from = row_at(&p->place[r->in], (size_t)p->step->ask_row[row]);
        memcpy(to.x, from.x, width * sizeof *to.x);
        *to.e = *from.e;
        return;
    }
    default: return; /* training: refused when lowered */
    }
}

static void rows_item(const struct program *p, const struct phase *ph, size_t row, struct scratch *s)
{
    for (uint32_t i = 0; i < ph->count; i++) row_op(p, &p->low.rows[ph->first + i], row, s);
}

/* ---- linear layers --------------------------------------------------------------------------------- */

static size_t blocks_of(const struct program *p, int32_t param)
{
    return (p->w->weight[param].n_out + LINEAR_COLS - 1) / LINEAR_COLS;
}

/* LINEAR_COLS outputs of one of the phase's layers, of all rows. */
static void linear_item(const struct program *p, const struct phase *ph, size_t item)
{
    uint32_t part = 0;
    for (; item >= blocks_of(p, ph->part[part].param); part++) item -= blocks_of(p, ph->part[part].param);
    const struct weight *w = &p->w->weight[ph->part[part].param];
    const struct place *x = &p->place[ph->part[part].in], *to = &p->place[ph->part[part].out];
    size_t first = item * LINEAR_COLS, n = w->n_out - first < LINEAR_COLS ? w->n_out - first : LINEAR_COLS;
    for (size_t row = 0, rows = rows_of(p, ph->rows); row < rows; row += ROWS_AT_ONCE) {
        size_t k = rows - row < ROWS_AT_ONCE ? rows - row : ROWS_AT_ONCE;
        p->device->kernels.code_sums(x->code + row * x->ldq, x->ldq, k, w->code + first * w->ld, w->ld, n, w->n_in,
                                     to->x + row * to->ld + first, to->ld);
    }
}

static void requantise_item(const struct program *p, const struct phase *ph, size_t row, struct scratch *s)
{
    for (uint32_t i = 0; i < ph->n_parts; i++) {
        const struct weight *w = &p->w->weight[ph->part[i].param];
        struct row to = row_at(&p->place[ph->part[i].out], row);
        row_requantise(to.x, w->m, w->e, p->place[ph->part[i].in].scale[row], w->n_out, s->p, to);
    }
}

/* ---- the head -------------------------------------------------------------------------------------- */

/* Logits [col, col + n) of an asking row as float32, each rounded once; the sums are there. */
static void logits_of_sums(const struct program *p, const struct phase *ph, size_t col, size_t n, size_t row,
                           const int32_t *sum, struct scratch *s, float *y)
{
    const struct weight *w = &p->w->weight[ph->part[0].param];
    struct scale x = p->place[ph->part[0].in].scale[row];
    const struct graph_node *cap = ph->node;
    const struct numbers *c = cap ? &p->numbers[cap - p->g->nodes] : NULL;
    int32_t e = w->e + x.e + 31;
    const struct vector *b = ph->part[0].bias == GRAPH_NONE ? NULL : &p->w->weight[ph->part[0].bias].vector;
    if (x.e == EXPONENT_NAN) {
        for (size_t i = 0; i < n; i++) y[i] = NAN;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        s->p[i] = column_product(sum[i], w->m[col + i], x);
        if (b || cap) s->p[i] = round_shift(s->p[i], 32);
    }
    if (b || cap) e += 32;
    if (b) {                           /* in units of the larger's 2^-30, then 30 bits again */
        int32_t at = (e > b->e ? e : b->e) - ROW_BITS;
        for (size_t i = 0; i < n; i++)
            s->p[i] = round_shift(to_q(s->p[i], e, -at, INT64_MAX) + to_q(b->x[col + i], b->e, -at, INT64_MAX), 31);
        e = at + 31;
    }
    for (size_t i = 0; cap && i < n; i++) s->p[i] = softcap_of(s->p[i], e, c->cap, c->of_cap);
    double unit = ldexp(1, cap ? c->cap.e - 31 : e);
    for (size_t i = 0; i < n; i++) y[i] = (float)((double)s->p[i] * unit);
}

static size_t largest_at(const float *x, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (x[i] != x[i]) return n;
        if (x[i] > x[at]) at = i;
    }
    return at;
}

static void head_rows(const struct program *p, const struct phase *ph, size_t col, size_t width, size_t row, size_t n,
                      struct scratch *s)
{
    if (!ph->n_parts) {
        for (size_t i = 0; i < n; i++) {
            struct row from = row_at(&p->place[p->g->logits], row + i);
            row_to_float((struct row){ from.x + col, from.e }, width, s->f + i * HEAD_COLS);
        }
        return;
    }
    const struct weight *w = &p->w->weight[ph->part[0].param];
    const struct place *x = &p->place[ph->part[0].in];
    p->device->kernels.code_sums(x->code + row * x->ldq, x->ldq, n, w->code + col * w->ld, w->ld, width, w->n_in,
                                 s->sum, HEAD_COLS);
    for (size_t i = 0; i < n; i++)
        logits_of_sums(p, ph, col, width, row + i, s->sum + i * HEAD_COLS, s, s->f + i * HEAD_COLS);
}

static void head_item(const struct program *p, const struct phase *ph, size_t item, unsigned rank)
{
    const struct step *st = p->step;
    size_t vocab = p->g->values[p->g->logits].width, col = item * HEAD_COLS;
    size_t width = vocab - col < HEAD_COLS ? vocab - col : HEAD_COLS;
    struct scratch *s = &p->scratch[rank];
    for (size_t row = 0; row < st->n_heads; row += HEAD_ROWS) {
        size_t n = st->n_heads - row < HEAD_ROWS ? st->n_heads - row : HEAD_ROWS;
        head_rows(p, ph, col, width, row, n, s);
        for (size_t i = 0; i < n; i++) {
            const float *x = s->f + i * HEAD_COLS;
            size_t at = largest_at(x, width), mine = (size_t)rank * p->limits.max_asks + row + i;
            best_scan(&p->best[mine], x, width, at, (int32_t)col);
            if (st->ask_wants[row + i] & WANT_TOP) top_scan(&p->top[mine], x, width, at, (int32_t)col);
            if (st->ask_wants[row + i] & WANT_LOGITS)
                memcpy(p->answers[row + i]->logits + col, x, width * sizeof *x);
        }
    }
}

/* ---- the walk -------------------------------------------------------------------------------------- */

static size_t items_of(const struct program *p, const struct stage *g)
{
    const struct phase *ph = g->phase;
    size_t n = 0;
    switch (g->kind) {
    case STAGE_ROWS:
    case STAGE_REQUANTISE: return rows_of(p, ph->rows);
    case STAGE_LINEAR:
        for (uint32_t i = 0; i < ph->n_parts && rows_of(p, ph->rows); i++) n += blocks_of(p, ph->part[i].param);
        return n;
    case STAGE_ATTENTION: return p->step->n_rows * ph->node->attention.kv_heads;
    case STAGE_HEADS: return p->step->n_rows;
    case STAGE_HEAD:
        return p->step->n_heads ? (p->g->values[p->g->logits].width + HEAD_COLS - 1) / HEAD_COLS : 0;
    }
    return 0;
}

static void run_item(const struct program *p, const struct stage *g, size_t i, unsigned rank)
{
    const struct phase *ph = g->phase;
    struct scratch *s = &p->scratch[rank];
    switch (g->kind) {
    case STAGE_ROWS: rows_item(p, ph, i, s); return;
    case STAGE_LINEAR: linear_item(p, ph, i); return;
    case STAGE_REQUANTISE: requantise_item(p, ph, i, s); return;
    case STAGE_ATTENTION: {
        uint32_t heads = ph->node->attention.kv_heads;
        heads_attend(p, ph, i / heads, (uint32_t)(i % heads), s);
        return;
    }
    case STAGE_HEADS: heads_join(p, ph, i); return;
    case STAGE_HEAD: head_item(p, ph, i, rank); return;
    }
}

/* True from the moment on in which the step was cancelled: what is not taken by then is left. */
static bool stopped(struct program *p)
{
    if (!p->step->cancel) return false;
    if (atomic_load_explicit(&p->stop, memory_order_relaxed)) return true;
    if (!p->step->cancel(p->step->cancel_ud)) return false;
    atomic_store_explicit(&p->stop, 1, memory_order_relaxed);
    return true;
}

/* Runs the short stages that come next; leaves p->next at the first that is worth sharing. */
static void serial_stages(void *arg)
{
    struct program *p = arg;
    for (; p->next < p->n_run; p->next++) {
        const struct stage *g = &p->stages[p->next];
        size_t n = items_of(p, g);
        bool by_rows = g->kind == STAGE_ROWS || g->kind == STAGE_REQUANTISE || g->kind == STAGE_HEADS;
        if (n && !(by_rows && (n <= SERIAL_ROWS || p->threads == 1))) return;
        for (size_t i = 0; i < n && !stopped(p); i++) run_item(p, g, i, p->threads);
    }
}

static void stage_done(void *arg)
{
    struct program *p = arg;
    p->next++;
    serial_stages(p);
    if (atomic_load_explicit(&p->stop, memory_order_relaxed)) p->next = p->n_run;
}

static void step_thread(void *arg, unsigned rank)
{
    struct program *p = arg;
    while (p->next < p->n_run) {
        const struct stage *g = &p->stages[p->next];
        atomic_uint_fast32_t *ticket = &p->tickets[p->next];
        size_t n = items_of(p, g);
        for (size_t i; !stopped(p) && (i = atomic_fetch_add_explicit(ticket, 1, memory_order_relaxed)) < n;)
            run_item(p, g, i, rank);
        team_barrier(p->device->team, stage_done, p);
    }
}

/* ---- answers -------------------------------------------------------------------------------------- */

static void answer(const struct program *p)
{
    const struct step *s = p->step;
    for (size_t i = 0; i < s->n_asks; i++) {
        struct answer *a = p->answers[i];
        uint8_t wants = s->ask_wants[i];
        struct best b = { .id = -1 };
        if (wants & WANT_OF_HEAD) b = best_join(p->best + i, p->threads, p->limits.max_asks);
        if (wants & WANT_BEST) a->best = b.id;
        if (wants & WANT_TOP) a->top = top_join(p->top + i, p->threads, p->limits.max_asks);
        if (wants & WANT_HIDDEN) {
            struct row h = row_at(&p->place[p->g->hidden], i);
            row_to_float(h, p->g->values[p->g->hidden].width, a->hidden);
            b.nan |= *h.e == EXPONENT_NAN;
        }
        a->status = b.nan ? STRETTO_E_NAN : STRETTO_OK;
    }
}

static void begin(struct program *p, const struct step *s, struct answer *const *answers)
{
    p->step = s;
    p->answers = answers;
    for (size_t i = 0; i < p->n_stages; i++) atomic_store_explicit(&p->tickets[i], 0, memory_order_relaxed);
    for (unsigned t = 0; t < p->threads; t++)
        for (size_t i = 0; i < s->n_heads; i++) {
            size_t at = (size_t)t * p->limits.max_asks + i;
            p->best[at] = (struct best){ .id = -1 };
            for (int k = 0; (s->ask_wants[i] & WANT_TOP) && k < STEP_TOP; k++) p->top[at].id[k] = -1;
        }
    atomic_store(&p->stop, 0);
    p->next = 0;
    p->n_run = p->n_stages - (!s->n_heads && p->low.ends_in_head);
}

stretto_status integer_run(struct program *p, const struct step *s, struct answer *const *answers, struct error *err)
{
    TRY(input_check(p->g, &p->limits, s, err));
    begin(p, s, answers);
    serial_stages(p);
    if (p->next < p->n_run && !atomic_load(&p->stop)) team_run_some(p->device->team, p->threads, step_thread, p);
    if (atomic_load(&p->stop)) return fail(err, STRETTO_E_CANCEL, "the step was cancelled");
    answer(p);
    return STRETTO_OK;
}
