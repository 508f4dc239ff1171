/* The transposed of linear weights, for gradients that pass through them: a linear weight as any other. Of a float
 * type it is the forward's own panels, read across (kernels/train.h: linear_back). Of a quantised type it is a copy,
 * rounded to Q8_0 in groups along the outputs, so that gradients go through the int8 kernels too, quantised by row and
 * group as activations are. Of what learns in bf16 it is a copy in bf16, which changes with the panels. */
#include "backend/cpu/linear/linear.h"
#include "base/memory.h"
#include <string.h>

enum { UNIT = 2 * PANEL_GROUP };       /* outputs of a unit of Q8_0's panels (kernels/panel.h) */

static void run_across(const struct cpu_device *d, const struct weight *w, const struct linear_job *job)
{
    size_t from = (size_t)job->panel * PANEL_COLS, cols = (size_t)job->n_panels * PANEL_COLS;
    if (cols > w->n_out - from) cols = w->n_out - from;
    d->kernels.linear_back[w->type](w->panels, w->n_in, w->n_out, from, cols, job->x->f, job->x->ldf, job->rows, job->y,
                                    job->ldy, false);
}

const struct linear_provider provider_across = { .name = "across", .run = run_across };

void back_used(const struct graph *g, bool *used)
{
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        if (n->op == OP_LINEAR_BACK || n->op == OP_LOSS) used[node_param(g, n, 0)] = true;
        if (n->op == OP_LOSS && node_param(g, n, 2) != GRAPH_NONE) used[node_param(g, n, 2)] = true;
    }
}

stretto_status back_place(struct weights *w, size_t param, const char *name, struct arena *a, struct error *err)
{
    const struct weight *x = &w->weight[param];
    struct weight *b = &w->back[param];
    *b = (struct weight){ .n_in = x->n_out, .n_out = x->n_in, .n_panels = (x->n_in + PANEL_COLS - 1) / PANEL_COLS };
    w->weight[param].back = b;
    if (x->by == &provider_learn) {                    /* made with the panels: halves.c */
        const struct param_bytes s = { .type = DT_BF16, .n_in = b->n_in };
        b->by = &provider_learn;
        b->by->claims(w->device, &s, false, b);
        b->panels = arena_take(a, b->n_panels * b->panel_bytes);
        return STRETTO_OK;
    }
    if (w->kernels->linear_back[x->type]) {
        b->by = &provider_across;
        b->type = x->type;
        b->panels = x->panels;
        b->panel_bytes = panel_bytes(x->type, x->n_out);
        return STRETTO_OK;
    }
    if (x->by != &provider_panels)
        return fail(err, STRETTO_E_UNSUP, "%s: gradients do not pass through the linear provider %s", name,
                    x->by->name);
    struct param_bytes s = { .type = DT_Q8_0, .n_in = (x->n_out + PANEL_GROUP - 1) / PANEL_GROUP * PANEL_GROUP,
                             .n_out = x->n_in };
    b->n_in = s.n_in;
    b->by = &provider_panels;
    provider_panels.claims(w->device, &s, false, b);
    b->panels = arena_take(a, b->n_panels * b->panel_bytes);
    return STRETTO_OK;
}

/* ---- the copies ---------------------------------------------------------------------------------------------- */

/* A unit of a copy: UNIT outputs of all inputs. `at`: [UNIT / 16][n_in][16] of the forward's panels. */
static void unit_pack(const struct weight *x, const struct weight *b, size_t unit, float *at)
{
    size_t outputs = b->n_in - unit * UNIT < UNIT ? b->n_in - unit * UNIT : UNIT, k = x->n_in;
    unsigned char coded[PANEL_COLS * UNIT * 2];
    float row[UNIT];
    for (size_t i = 0; i < outputs / PANEL_COLS; i++) {
        size_t panel = unit * (UNIT / PANEL_COLS) + i;
        if (panel < x->n_panels) panel_decode(x->type, linear_panel(x, (uint32_t)panel), k, at + i * k * PANEL_COLS);
        else memset(at + i * k * PANEL_COLS, 0, k * PANEL_COLS * sizeof *at);
    }
    size_t bytes = dtype_bytes(DT_Q8_0, outputs);
    for (size_t in = 0; in < k; in += PANEL_COLS) {
        size_t n = k - in < PANEL_COLS ? k - in : PANEL_COLS;
        for (size_t c = 0; c < n; c++) {
            for (size_t o = 0; o < outputs; o++)
                row[o] = at[(o / PANEL_COLS * k + in + c) * PANEL_COLS + o % PANEL_COLS];
            dtype_table[DT_Q8_0].encode(row, coded + c * bytes, outputs);
        }
        panel_pack(DT_Q8_0, coded, bytes, n, outputs,
                   (char *)linear_panel(b, (uint32_t)(in / PANEL_COLS)) + unit * panel_bytes(DT_Q8_0, UNIT));
    }
}

struct fill {
    struct weights *w;
    float *at[TEAM_MAX];
    atomic_size_t ticket;
};

static size_t units_of(const struct weights *w, size_t param)
{
    const struct weight *b = w->weight[param].back;
    return b && b->by == &provider_panels ? (b->n_in + UNIT - 1) / UNIT : 0;
}

static void fill_thread(void *arg, unsigned rank)
{
    struct fill *f = arg;
    size_t param = 0, before = 0;
    for (;;) {
        size_t i = atomic_fetch_add(&f->ticket, 1);
        while (param < f->w->n && i >= before + units_of(f->w, param)) before += units_of(f->w, param++);
        if (param == f->w->n) return;
        unit_pack(&f->w->weight[param], f->w->weight[param].back, i - before, f->at[rank]);
    }
}

stretto_status back_fill(struct weights *w, unsigned threads, struct error *err)
{
    struct fill f = { .w = w };
    size_t k = 0;
    for (size_t i = 0; i < w->n; i++)
        if (units_of(w, i) && w->weight[i].n_in > k) k = w->weight[i].n_in;
    if (!k) return STRETTO_OK;
    stretto_status s = STRETTO_OK;
    for (unsigned r = 0; r < threads && s == STRETTO_OK; r++)
        if (!(f.at[r] = mem_alloc(UNIT * k * sizeof(float))))
            s = fail(err, STRETTO_E_NOMEM, "out of memory while transposing weights");
    if (s == STRETTO_OK) team_run(w->device->team, threads, fill_thread, &f);
    for (unsigned r = 0; r < threads; r++) mem_free(f.at[r]);
    return s;
}
