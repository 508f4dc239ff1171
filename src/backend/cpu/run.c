/* Running a step: the team walks the phases together. Items of a phase are handed out by a counter,
 * so a thread that lost its core holds nobody up for long. Short row phases are run by whoever
 * arrives last at the barrier before them: no second barrier, no wake-up. */
#include "backend/cpu/linear/linear.h"
#include "backend/cpu/halves.h"
#include "backend/cpu/profile.h"
#include "backend/input.h"
#include <string.h>

/* What is not worth a barrier: so many rows, or numbers that are made of them. Of many rows a thread takes
 * 1 / SHARES of its part at once. */
enum { SERIAL_ROWS = 3, SERIAL_NUMBERS = 8192, SHARES = 16 };

size_t cpu_rows(const struct program *p, enum rows_kind kind)
{
    if (rows_are_set(kind)) return cpu_list(p, kind)->n;
    return kind == ROWS_ASKING ? p->step->n_asks : p->step->n_rows;
}

/* Of the loss: those of its few that there are. */
static size_t rows_of(const struct program *p, const struct phase *ph)
{
    size_t n = cpu_rows(p, ph->rows);
    if (ph->kind < PHASE_LOGITS) return n;
    if (n <= ph->first) return 0;
    return n - ph->first < ph->count ? n - ph->first : ph->count;
}

/* ---- row operations
 * --------------------------------------------------------------------------------- */

static void norm(const struct program *p, const struct graph_node *n, const float *x, size_t width,
                 float *out)
{
    const struct kernels *k = p->w->kernels;
    int32_t with = node_param(p->g, n, 1);
    const float *w = node_param(p->g, n, 0) == GRAPH_NONE ? p->ones : p->w->weight[node_param(p->g, n, 0)].vector;
    const float *b = with == GRAPH_NONE ? NULL : p->w->weight[with].vector;
    size_t step = n->norm.head_dim ? n->norm.head_dim : width;
    for (size_t i = 0; i < width; i += step) {
        if (n->norm.kind == NORM_LAYER) k->layernorm(x + i, w, b, step, n->norm.eps, out + i);
        else k->rmsnorm(x + i, w, step, n->norm.eps, out + i);
        if (n->norm.kind == NORM_RMS && b) k->add(out + i, b, step, out + i);
    }
}

static void store(const struct program *p, const struct row_instr *r, size_t row, const float *key,
                  const float *v)
{
    const struct kernels *k = p->w->kernels;
    const struct graph_node *n = r->node;
    int32_t slot = p->step->slot[row];
    size_t hd = n->attention.head_dim, j = (size_t)(slot % ATTN_BLOCK);
    size_t k_bytes = p->pool[n->attention.group].k_bytes;
    for (uint32_t h = 0; h < n->attention.kv_heads; h++) {
        char *at = page_k(p, n, (size_t)p->step->seq[row], slot / ATTN_BLOCK, h);
        k->kv_store_k[p->kv](key + h * hd, hd, j, at);
        k->kv_store_v[p->kv](v + h * hd, hd, j, at + k_bytes);
    }
}

/* The row of the step that a value's row belongs to. */
static size_t step_row(const struct program *p, enum rows_kind kind, size_t row)
{
    row = cpu_whole_row(p, kind, row);
    return rows_whole(kind) == ROWS_ASKING ? (size_t)p->step->ask_row[row] : row;
}

bool cpu_is_given(const struct program *p, enum rows_kind kind, size_t row)
{
    return p->step->given[step_row(p, kind, row)];
}

/* Forms come in whole groups. */
void cpu_make_forms(const struct program *p, const struct place *at, bool given, size_t row, size_t width)
{
    const struct kernels *k = p->w->kernels;
    float *x = at->f + row * at->ld;
    size_t whole = (width + PANEL_GROUP - 1) / PANEL_GROUP * PANEL_GROUP;
    for (size_t i = width; i < whole; i++) x[i] = 0;
    if (at->forms & (given ? FORM_CODES_GIVEN : FORM_CODES))
        k->quantize(x, whole, at->q + row * at->ldq, at->d + row * at->ldd, at->s + row * at->ldd,
                    at->sum + 2 * row * at->ldd);
    if (at->forms & (given ? FORM_BF16 : FORM_BF16_WRITTEN)) k->to_bf16(x, whole, at->h + row * at->ldq);
}

static void norm_back(const struct program *p, const struct graph_node *n, const float *x, const float *dy,
                      size_t width, float *dx)
{
    const struct kernels *k = p->w->kernels;
    int32_t weight = node_param(p->g, n, 0);
    const float *w = weight == GRAPH_NONE ? NULL : p->w->weight[weight].vector;
    size_t step = n->norm.head_dim ? n->norm.head_dim : width;
    for (size_t i = 0; i < width; i += step) {
        if (n->norm.kind == NORM_LAYER) k->layernorm_back(x + i, w, step, n->norm.eps, dy + i, dx + i);
        else k->rmsnorm_back(x + i, w, step, n->norm.eps, dy + i, dx + i);
    }
}

static void act_mul_back(const struct program *p, const struct row_instr *r, size_t row, size_t width)
{
    const struct kernels *k = p->w->kernels;
    const float *gate = place_row(&p->place[r->in], row), *up = place_row(&p->place[r->in2], row);
    const float *dy = place_row(&p->place[r->in3], row);
    float *y = r->out3 == GRAPH_NONE ? NULL : place_row(&p->place[r->out3], row);
    float *dgate = place_row(&p->place[r->out], row), *dup = place_row(&p->place[r->out2], row);
    if (r->node->act == ACT_SILU) k->silu_mul_back(gate, up, dy, width, y, dgate, dup);
    else k->gelu_tanh_mul_back(gate, up, dy, width, y, dgate, dup);
}

static void rope(const struct program *p, const struct graph_node *n, size_t row, size_t width, const float *x,
                 float *out)
{
    const struct kernels *k = p->w->kernels;
    size_t n_rot = p->g->rope[n->rope.table].n_rot;
    const float *cs = p->angles[n->rope.table] + step_row(p, p->g->values[n->out].rows, row) * n_rot;
    float back[2 * ROPE_MAX_HALF];
    memcpy(out, x, width * sizeof(float));
    for (size_t i = 0; n->rope.inverse && i < n_rot; i++) back[i] = i < n_rot / 2 ? cs[i] : -cs[i];
    if (n->rope.inverse) cs = back;
    if (n->rope.style == ROPE_PAIRS) k->rope_pairs(out, n->rope.heads, n->rope.head_dim, n_rot, cs);
    else k->rope_halves(out, n->rope.heads, n->rope.head_dim, n_rot, cs);
}

static void embed(const struct program *p, const struct graph_node *n, size_t row, size_t width, float *out)
{
    const struct weight *w = n->embed == EMBED_VECTOR ? NULL : &p->w->weight[node_param(p->g, n, 0)];
    bool vector = !w || (n->embed == EMBED_TOKEN && p->step->token[row] < 0);
    size_t id = vector ? 0 : input_table_row(n, p->step, row);
    bool behind = !vector && w->behind && id >= w->n_out;
    if (behind) {
        id -= w->n_out;
        w = w->behind;
    }
    if (vector || (!weight_in_panels(w) && !behind)) {
        input_embed(n, w ? &w->table : NULL, p->step, row, width, out);
        return;
    }
    for (size_t i = 0; i < width; i++) out[i] = w->part[PARAM_MASTER][master_at(w, id, i)];
}

/* One instruction of a row pass; all read and write float32 rows of the planned buffers. */
static void row_op(const struct program *p, const struct row_instr *r, size_t row)
{
    const struct kernels *k = p->w->kernels;
    const struct graph_node *n = r->node;
    const struct place *in = r->in == GRAPH_NONE ? NULL : &p->place[r->in];
    const struct place *in2 = r->in2 == GRAPH_NONE ? NULL : &p->place[r->in2];
    const struct place *to = r->out == GRAPH_NONE ? NULL : &p->place[r->out];
    const float *x = in ? in->f + row * in->ld : NULL, *y = in2 ? in2->f + row * in2->ld : NULL;
    float *out = to ? to->f + row * to->ld : NULL;
    size_t width = r->out != GRAPH_NONE ? p->g->values[r->out].width
                   : in                 ? p->g->values[r->in].width
                                        : 0;
    switch (r->op) {
    case ROW_ANGLES:
        for (size_t t = 0; t < p->g->n_rope; t++)
            input_angles(&p->g->rope[t], &p->limits, p->step->position[row],
                         p->angles[t] + row * p->g->rope[t].n_rot);
        return;
    case ROW_EMBED:
        embed(p, n, row, width, out);
        return;
    case ROW_NORM: norm(p, n, x, width, out); return;
    case ROW_ROPE: rope(p, n, row, width, x, out); return;
    case ROW_ACT:
        if (n->act == ACT_SILU) k->silu(x, width, out);
        else if (n->act == ACT_GELU_TANH) k->gelu_tanh(x, width, out);
        else k->gelu_erf(x, width, out);
        return;
    case ROW_ACT_MUL:
        if (n->act == ACT_SILU) k->silu_mul(x, y, width, out);
        else k->gelu_tanh_mul(x, y, width, out);
        return;
    case ROW_MUL: k->mul(x, y, width, out); return;
    case ROW_ADD:
        if (p->g->values[r->in2].rows != p->g->values[r->out].rows) {
            size_t at = cpu_whole_row(p, p->g->values[r->in2].rows, row);
            x = in->f + at * in->ld;
            out = to->f + at * to->ld;
        }
        k->add(x, y, width, out);
        return;
    case ROW_COPY: memcpy(out, x, width * sizeof(float)); return;
    case ROW_WEIGH: k->scale(x, n->scale * cpu_list(p, p->g->values[r->out].rows)->weight[row], width, out); return;
    case ROW_BIAS: k->add(x, p->w->weight[node_param(p->g, n, 1)].vector, width, out); return;
    case ROW_SCALE: k->scale(x, n->scale, width, out); return;
    case ROW_SOFTCAP: k->softcap(x, n->cap, width, out); return;
    case ROW_QUANT:
        cpu_make_forms(p, in, cpu_is_given(p, p->g->values[r->in].rows, row), row, width);
        return;
    case ROW_STORE: store(p, r, row, x, y); return;
    case ROW_ASK: {
        enum rows_kind kind = p->g->values[r->out].rows;
        size_t at = rows_are_set(kind) ? cpu_whole_row(p, kind, row) : (size_t)p->step->ask_row[row];
        memcpy(out, in->f + at * in->ld, width * sizeof(float));
        return;
    }
    case ROW_UNASK: {
        int32_t at = sets_unask(p, p->g->values[r->in].rows, row);
        if (at < 0) memset(out, 0, width * sizeof(float));
        else memcpy(out, in->f + (size_t)at * in->ld, width * sizeof(float));
        return;
    }
    case ROW_DOTS: k->dots(x, y, n->see.heads, n->see.head_dim, out); return;
    case ROW_NORM_BACK:
        norm_back(p, n, x, y, width, out);
        return;
    case ROW_ACT_BACK:
        if (n->act == ACT_SILU) k->silu_back(x, y, width, out);
        else if (n->act == ACT_GELU_TANH) k->gelu_tanh_back(x, y, width, out);
        else k->gelu_erf_back(x, y, width, out);
        return;
    case ROW_ACT_MUL_BACK: act_mul_back(p, r, row, width); return;
    case ROW_SOFTCAP_BACK: k->softcap_back(x, n->cap, y, width, out); return;
    }
}

static void rows_item(struct program *p, const struct phase *ph, size_t row)
{
    for (uint32_t i = 0; i < ph->count; i++) row_op(p, &p->low.rows[ph->first + i], row);
}

/* True from the moment on in which the step was cancelled. What a phase has not taken by then is left,
 * and the barrier behind it leads out of the step (phase_done). */
static bool stopped(struct program *p)
{
    if (!p->step->cancel) return false;
    if (atomic_load_explicit(&p->stop, memory_order_relaxed)) return true;
    if (!p->step->cancel(p->step->cancel_ud)) return false;
    atomic_store_explicit(&p->stop, 1, memory_order_relaxed);
    return true;
}

/* ---- linear layers
 * ---------------------------------------------------------------------------------- */

/* Rows [row, row + n) times panels [panel, panel + n_panels) of a weight into y. Neighbours of one
 * role go to the kernel together; the role, never the number of rows, decides the arithmetic. */
void cpu_linear_rows(const struct program *p, const struct weight *w, const struct place *x, size_t x_row,
                     enum rows_kind kind, size_t row, size_t n, uint32_t panel, uint32_t n_panels, float *y, size_t ldy)
{
    bool roles = !p->limits.strict && (w->forms & FORM_BF16) && !(w->forms & FORM_BF16_WRITTEN);
    if (w->behind && panel + n_panels > w->n_panels) {
        uint32_t own = panel < w->n_panels ? w->n_panels - panel : 0;
        cpu_linear_rows(p, w->behind, x, x_row, kind, row, n, panel + own - w->n_panels, n_panels - own,
                        y + own * PANEL_COLS, ldy);
        n_panels = own;
    }
    for (size_t i = 0; i < n && n_panels;) {
        bool role = roles && cpu_is_given(p, kind, row + i);
        size_t end = roles ? i + 1 : n;
        while (end < n && cpu_is_given(p, kind, row + end) == role) end++;
        size_t r = x_row + i;
        struct act a = { .f = x->f + r * x->ld, .ldf = x->ld };
        if (x->forms & FORM_CODES) {
            a.q = x->q + r * x->ldq; a.ldq = x->ldq;
            a.d = x->d + r * x->ldd; a.s = x->s + r * x->ldd; a.ldd = x->ldd;
            a.sum = x->sum + 2 * r * x->ldd;
        }
        if (x->forms & FORM_BF16) { a.h = x->h + r * x->ldq; a.ldh = x->ldq; }
        struct linear_job job = { &a, end - i, role, panel, n_panels, y + i * ldy, ldy };
        w->by->run(p->device, w, &job);
        i = end;
    }
}

/* Units first .. first + n of a phase. */
struct share {
    size_t first, n;
};

/* The i-th share of `units` units: half of what is left is cut into one share for each thread, and
 * so on down to shares of `least`. So memory is read in long runs, and nobody waits long at the
 * end. Past the last share n is 0. */
static struct share share_of(const struct program *p, size_t i, size_t units, size_t least)
{
    size_t threads = p->threads, first = 0, n = threads == 1 ? units : units / threads / 2;
    for (; i >= threads && n > least; n = (units - first) / threads / 2)
        i -= threads, first += threads * n;
    if (n < least) n = least;
    first += i * n;
    if (first >= units) return (struct share){units, 0};
    return (struct share){first, units - first < n ? units - first : n};
}

/* Shares of a linear phase are panels of its parts, one part after the other, with all rows. */
static const struct weight *part_weight(const struct program *p, const struct phase *ph, uint32_t part)
{
    const struct weight *w = &p->w->weight[ph->part[part].param];
    return ph->kind == PHASE_BACK ? w->back : w;
}

static size_t linear_panels(const struct program *p, const struct phase *ph)
{
    size_t n = 0;
    for (uint32_t i = 0; i < ph->n_parts; i++) n += part_weight(p, ph, i)->n_panels;
    return n;
}

enum { BACK_BLOCK = 512 };

/* Few rows wait for memory, which likes long runs; many for arithmetic, and one panel is enough. */
static size_t linear_least(const struct program *p, const struct phase *ph)
{
    return rows_of(p, ph) >= 8 ? 1 : 16384 / part_weight(p, ph, 0)->panel_bytes + 1;
}

/* Panels between two looks at whether to stop: some 10^8 multiply-adds of a block of rows. */
static size_t linear_piece(const struct program *p, const struct weight *w, size_t rows, size_t n)
{
    size_t most = p->w->kernels->row_block;
    size_t panels = ((size_t)1 << 27) / ((rows < most ? rows : most) * w->n_in * PANEL_COLS + 1);
    if (!p->step->cancel || panels >= n) return n;
    return panels < 8 ? 8 : panels / 8 * 8;
}

/* A share may span parts of the phase (q, then k). Rows go in blocks that the kernel was tuned for, panels in
 * pieces after which it is asked whether to stop. */
static void linear_share(struct program *p, const struct phase *ph, struct share s)
{
    size_t rows = rows_of(p, ph);
    for (uint32_t i = 0; i < ph->n_parts && s.n; i++) {
        const struct weight *w = part_weight(p, ph, i);
        bool across = w->by == &provider_across;       /* turned once a block */
        size_t most = across ? BACK_BLOCK : p->w->kernels->row_block;
        if (s.first >= w->n_panels) { s.first -= w->n_panels; continue; }
        size_t n = w->n_panels - s.first < s.n ? w->n_panels - s.first : s.n;
        const struct place *out = &p->place[ph->part[i].out];
        size_t piece = linear_piece(p, w, rows, n);
        for (size_t row = 0, block; row < rows; row += block) {
            block = rows - row < most ? rows - row : most;
            for (size_t at = 0, k; at < n && !stopped(p); at += k) {
                k = n - at < piece ? n - at : piece;
                cpu_linear_rows(p, w, &p->place[ph->part[i].in], row, ph->rows, row, block,
                                (uint32_t)(s.first + at), (uint32_t)k,
                                out->f + row * out->ld + (s.first + at) * PANEL_COLS, out->ld);
            }
        }
        s.first = 0;
        s.n -= n;
    }
}

static size_t head_items(const struct program *p)
{
    return (p->g->values[p->g->logits].width + HEAD_COLS - 1) / HEAD_COLS;
}

/* Columns of one row of a value; nothing is written where nobody reads it. */
static void write_value(const struct program *p, int32_t v, size_t row, size_t col, size_t width,
                        const float *x)
{
    if (v != GRAPH_NONE)
        memcpy(p->place[v].f + row * p->place[v].ld + col, x, width * sizeof(float));
}

/* Logits [col, col + width) of asking rows row .. row + n into y [n][HEAD_COLS]: computed, with what
 * the graph reads of them written to its values, or read where other nodes wrote them. */
static void head_logits(const struct program *p, const struct phase *ph, size_t col, size_t width,
                        size_t row, size_t n, float *y)
{
    const struct kernels *k = p->w->kernels;
    const struct place *from = &p->place[p->g->logits];
    if (!ph->n_parts) {
        for (size_t i = 0; i < n; i++)
            memcpy(y + i * HEAD_COLS, from->f + (row + i) * from->ld + col, width * sizeof *y);
        return;
    }
    int32_t with = ph->part[0].bias;
    const float *bias = with == GRAPH_NONE ? NULL : p->w->weight[with].vector;
    cpu_linear_rows(p, &p->w->weight[ph->part[0].param], &p->place[ph->part[0].in], row, ROWS_ASKING, row, n,
                    (uint32_t)(col / PANEL_COLS), (uint32_t)((width + PANEL_COLS - 1) / PANEL_COLS), y,
                    HEAD_COLS);
    for (size_t i = 0; i < n; i++) {
        float *x = y + i * HEAD_COLS;
        if (bias) k->add(x, bias + col, width, x);
        write_value(p, ph->part[0].out, row + i, col, width, x);
        if (ph->node) k->softcap(x, ph->node->cap, width, x);
        write_value(p, ph->capped, row + i, col, width, x);
    }
}

/* Logits live in the thread's scratch for a moment: the best goes to the thread's list, the whole
 * only to where it was asked for. Where the graph reads them, all rows that ask have some. */
static void head_item(struct program *p, const struct phase *ph, size_t item, unsigned rank)
{
    const struct kernels *k = p->w->kernels;
    const struct step *s = p->step;
    size_t vocab = p->g->values[p->g->logits].width, col = item * HEAD_COLS;
    size_t width = vocab - col < HEAD_COLS ? vocab - col : HEAD_COLS;
    float *y = scratch_logits(p->scratch[rank]);
    size_t rows = p->low.ends_in_head ? s->n_heads : s->n_asks;
    for (size_t row = 0; row < rows; row += HEAD_ROWS) {
        size_t n = rows - row < HEAD_ROWS ? rows - row : HEAD_ROWS;
        head_logits(p, ph, col, width, row, n, y);
        for (size_t i = 0; i < n && row + i < s->n_heads; i++) {
            const float *x = y + i * HEAD_COLS;
            size_t at = k->argmax(x, width);
            struct best *b = &p->best[(size_t)rank * p->limits.max_asks + row + i];
            best_scan(b, x, width, at, (int32_t)col);
            if (s->ask_wants[row + i] & WANT_TOP)
                top_scan(&p->top[(size_t)rank * p->limits.max_asks + row + i], x, width, at,
                         (int32_t)col);
            if (s->ask_wants[row + i] & WANT_LOGITS)
                memcpy(p->answers[row + i]->logits + col, x, width * sizeof(float));
        }
    }
}

/* ---- the walk
 * --------------------------------------------------------------------------------------- */

/* Numbers that a row pass makes of a row. */
static size_t made_of_row(const struct program *p, const struct phase *ph)
{
    size_t n = 0;
    for (uint32_t i = 0; i < ph->count; i++) {
        const struct row_instr *r = &p->low.rows[ph->first + i];
        int32_t v = r->out != GRAPH_NONE ? r->out : r->in;
        n += v == GRAPH_NONE ? ROPE_MAX_HALF : p->g->values[v].width;
    }
    return n;
}

static bool is_serial(const struct program *p, const struct phase *ph)
{
    if (ph->kind != PHASE_ROWS) return false;
    size_t rows = rows_of(p, ph);
    return rows <= SERIAL_ROWS || p->threads == 1 || rows * made_of_row(p, ph) <= SERIAL_NUMBERS;
}

/* Before a phase of linear layers: all rows that they read have been written. */
static void tell_tap(const struct program *p, const struct phase *ph)
{
    if (!p->tap.read || !ph->n_parts || (ph->kind != PHASE_LINEAR && ph->kind != PHASE_HEAD)) return;
    const struct place *x = &p->place[ph->part[0].in];
    p->tap.read(p->tap.ud, ph->part[0].in, x->f, x->ld, rows_of(p, ph));
}

/* Runs the short phases that come next; leaves p->next at the first that is worth sharing. */
static void serial_phases(void *arg)
{
    struct program *p = arg;
    profile_alone_begin(p);
    for (; p->next < p->n_run; p->next++) {
        const struct phase *ph = &p->low.phases[p->next];
        if (rows_of(p, ph) == 0) continue;
        if (ph->kind == PHASE_ATTENTION) attention_begin(p, ph);
        if (!is_serial(p, ph)) {
            tell_tap(p, ph);
            return;
        }
        for (size_t r = 0, n = rows_of(p, ph); r < n && !stopped(p); r++) rows_item(p, ph, r);
        if (halves_values(p)) halves_phase(p, ph);
        profile_alone(p, p->next);
    }
}

static void phase_done(void *arg)
{
    struct program *p = arg;
    if (halves_values(p)) halves_phase(p, &p->low.phases[p->next]);
    p->next++;
    serial_phases(p);
    if (atomic_load_explicit(&p->stop, memory_order_relaxed)) p->next = p->n_run;
}

/* The next item of a phase; false when there is none for a step that was cancelled. */
static bool take(struct program *p, size_t ticket, size_t *i)
{
    if (stopped(p)) return false;
    *i = atomic_fetch_add_explicit(&p->tickets[ticket], 1, memory_order_relaxed);
    return true;
}

static bool take_share(struct program *p, size_t ticket, size_t units, size_t least, struct share *s)
{
    size_t i;
    if (!take(p, ticket, &i)) return false;
    *s = share_of(p, i, units, least);
    return s->n > 0;
}

/* What every thread of the team does: the phases in turn, with a barrier behind each whose last arrival runs
 * the short ones that follow (phase_done). */
static void step_thread(void *arg, unsigned rank)
{
    struct program *p = arg;
    profile_mark(p, rank, p->next, PROFILE_WAIT);
    while (p->next < p->n_run) {
        const uint32_t at = p->next;
        const struct phase *ph = &p->low.phases[at];
        size_t ticket = p->next, n;
        switch (ph->kind) {
        case PHASE_ROWS:
            n = rows_of(p, ph);
            for (struct share s; take_share(p, ticket, n, n / (SHARES * p->threads) + 1, &s);)
                for (size_t i = s.first; i < s.first + s.n; i++) rows_item(p, ph, i);
            break;
        case PHASE_LINEAR:
        case PHASE_BACK:
            n = linear_panels(p, ph);
            for (struct share s; take_share(p, ticket, n, linear_least(p, ph), &s);)
                linear_share(p, ph, s);
            break;
        case PHASE_ATTENTION:
            n = attention_items(p, ph);
            for (size_t i; take(p, ticket, &i) && i < n;) attention_item(p, ph, i, rank);
            if (!stopped(p)) attention_help(p, ph, rank);
            break;
        case PHASE_HEAD:
            n = head_items(p);
            for (struct share s; take_share(p, ticket, n, 1, &s);)
                for (size_t i = 0; i < s.n && !stopped(p); i++) head_item(p, ph, s.first + i, rank);
            break;
        default:
            n = train_units(p, ph);
            for (struct share s; take_share(p, ticket, n, train_least(p, ph, n), &s);)
                train_share(p, ph, s.first, s.n, rank);
            break;
        }
        profile_mark(p, rank, at, PROFILE_WORK);
        team_barrier(p->device->team, phase_done, p);
        profile_mark(p, rank, at, PROFILE_WAIT);
    }
}

/* ---- answers ---------------------------------------------------------------------------------- */

static bool is_number(const float *x, size_t n)
{
    bool yes = true;
    for (size_t i = 0; i < n; i++) yes &= x[i] == x[i];
    return yes;
}

/* Each ask gets what it wants and a status of its own: a row that overflowed says so, the others do
 * not notice. */
static void answer(struct program *p)
{
    const struct step *s = p->step;
    const struct place *h = p->g->hidden == GRAPH_NONE ? NULL : &p->place[p->g->hidden];
    size_t width = h ? p->g->values[p->g->hidden].width : 0;
    for (size_t i = 0; i < s->n_asks; i++) {
        struct answer *a = p->answers[i];
        uint8_t wants = s->ask_wants[i];
        struct best b = { .id = -1 };
        if (wants & WANT_OF_HEAD) b = best_join(p->best + i, p->threads, p->limits.max_asks);
        if (wants & WANT_BEST) a->best = b.id;
        if (wants & WANT_TOP) a->top = top_join(p->top + i, p->threads, p->limits.max_asks);
        if (wants & WANT_HIDDEN) {
            memcpy(a->hidden, h->f + i * h->ld, width * sizeof(float));
            b.nan |= !is_number(a->hidden, width);
        }
        if (wants & WANT_LOSS) {
            a->loss = p->losses[i];
            b.nan |= !is_number(&a->loss, 1);
        }
        a->status = b.nan ? STRETTO_E_NAN : STRETTO_OK;
    }
}

static void begin(struct program *p, const struct step *s, struct answer *const *answers)
{
    p->step = s;
    p->answers = answers;
    for (size_t i = 0; i < p->low.n_phases; i++)
        atomic_store_explicit(&p->tickets[i], 0, memory_order_relaxed);
    for (unsigned t = 0; t < p->threads; t++)
        for (size_t i = 0; i < s->n_heads; i++) {
            size_t at = (size_t)t * p->limits.max_asks + i;
            p->best[at] = (struct best){ .id = -1 };
            for (int k = 0; (s->ask_wants[i] & WANT_TOP) && k < STEP_TOP; k++) p->top[at].id[k] = -1;
        }
    atomic_store(&p->stop, 0);
    attention_plan(p);
    sets_begin(p);
    if (p->g->loss) train_begin(p);
    p->next = 0;
    p->n_run = (uint32_t)p->low.n_phases - (!s->n_heads && p->low.ends_in_head);
}

stretto_status cpu_run(struct program *p, const struct step *s, struct answer *const *answers,
                       struct error *err)
{
    TRY(input_check(p->g, &p->limits, s, err));
    profile_begin(p);
    begin(p, s, answers);
    serial_phases(p);
    if (p->next < p->n_run && !atomic_load(&p->stop)) team_run_some(p->device->team, p->threads, step_thread, p);
    bool cancelled = atomic_load(&p->stop) != 0;
    if (!cancelled) answer(p);
    profile_end(p);
    return cancelled ? fail(err, STRETTO_E_CANCEL, "the step was cancelled") : STRETTO_OK;
}
