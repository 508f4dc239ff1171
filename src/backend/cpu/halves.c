/* Training in 16 bits with float32 masters (Micikevicius et al. 2017, arXiv 1710.03740). The panels by which a trained
 * linear layer computes are its master rounded to the nearest. In bf16, where the level has kernels for it (train.h:
 * learn_linear), what they are multiplied with is rounded too, forwards, backwards and in their own gradients, and a
 * transposed copy stands beside them. In f16 the values between operations are rounded as
 * well, by one thread behind the phase that wrote them: what that arithmetic does to a training is the same on every
 * machine, and nothing is gained by it but that. Sums are float32's everywhere, as the paper has them; gradients of
 * parameters stay in it too. */
#include "backend/cpu/halves.h"
#include "tensor/half.h"

static void run(const struct cpu_device *d, const struct weight *w, const struct linear_job *job)
{
    d->kernels.linear[w->type](linear_panel(w, job->panel), job->n_panels, w->n_in, job->x, job->rows, job->y,
                              job->ldy);
}

static bool claims(const struct cpu_device *d, const struct param_bytes *s, bool reference, struct weight *w)
{
    (void)d; (void)reference;
    w->type = DT_F16;
    w->panel_bytes = panel_bytes(DT_F16, s->n_in);
    w->forms = 0;
    return true;
}

static void run_learn(const struct cpu_device *d, const struct weight *w, const struct linear_job *job)
{
    d->kernels.learn_linear(linear_panel(w, job->panel), job->n_panels, w->n_in, job->x, job->rows, job->y, job->ldy);
}

static bool claims_learn(const struct cpu_device *d, const struct param_bytes *s, bool reference, struct weight *w)
{
    (void)reference;
    w->type = DT_BF16;
    w->panel_bytes = panel_bytes(DT_BF16, s->n_in);
    w->forms = FORM_BF16 | FORM_BF16_WRITTEN;
    return d->kernels.learn_linear;
}

const struct linear_provider provider_learn = { .name = "learning in bf16", .claims = claims_learn, .run = run_learn };

/* Rows of f16 are floats that were rounded. */
static const struct linear_provider provider_f16 = { .name = "f16", .claims = claims, .run = run };

const struct linear_provider *halves_provider(const struct weights *w, const struct param_bytes *s, struct weight *x)
{
    struct param_bytes as = *s;
    const struct linear_provider *by = w->precision == PRECISION_F16 ? &provider_f16
                                     : w->kernels->learn_linear      ? &provider_learn
                                                                     : &provider_panels;
    as.type = DT_BF16;
    by->claims(w->device, &as, false, x);
    x->rounded = true;
    return by;
}

/* A line: 16 outputs of one input. bf16's panels have inputs in pairs (kernels/panel.h). */
static void round_line(const struct weight *w, const float *line, size_t panel, size_t in)
{
    uint16_t *to = (uint16_t *)(uintptr_t)w->panels + panel * w->panel_bytes / sizeof *to;
    if (w->type == DT_F16)
        for (size_t c = 0; c < PANEL_COLS; c++) to[in * PANEL_COLS + c] = float_to_half(line[c]);
    else
        for (size_t c = 0; c < PANEL_COLS; c++) to[(in / 2 * PANEL_COLS + c) * 2 + in % 2] = float_to_brain(line[c]);
}

/* The same line in the transposed: 16 inputs of one output. */
static void round_back(const struct weight *w, const float *line, size_t panel, size_t in)
{
    const struct weight *b = w->back;
    uint16_t *to = (uint16_t *)linear_panel(b, (uint32_t)(in / PANEL_COLS)) + in % PANEL_COLS * 2;
    for (size_t c = 0, o = panel * PANEL_COLS; c < PANEL_COLS && o < w->n_out; c++, o++)
        to[o / 2 * 2 * PANEL_COLS + o % 2] = float_to_brain(line[c]);
}

void halves_round(const struct weight *w, size_t at, size_t n)
{
    size_t panel = at / PANEL_COLS / w->n_in, in = at / PANEL_COLS % w->n_in;
    for (size_t i = at; w->rounded && i < at + n; i += PANEL_COLS, in++) {
        if (in == w->n_in) panel++, in = 0;
        round_line(w, w->part[PARAM_MASTER] + i, panel, in);
        if (w->back && w->back->by == &provider_learn) round_back(w, w->part[PARAM_MASTER] + i, panel, in);
    }
}

bool halves_values(const struct program *p) { return p->w->precision == PRECISION_F16 && p->g->loss; }

static void round_row(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = half_to_float(float_to_half(x[i]));
}

static void round_rows(const struct program *p, int32_t value, size_t from, size_t rows)
{
    const struct place *at = value == GRAPH_NONE ? NULL : &p->place[value];
    for (size_t r = from; at && at->f && r < from + rows; r++) round_row(place_row(at, r), p->g->values[value].width);
}

static void round_value(const struct program *p, int32_t value)
{
    if (value != GRAPH_NONE) round_rows(p, value, 0, cpu_rows(p, p->g->values[value].rows));
}

static size_t loss_rows(const struct program *p, const struct phase *ph)
{
    size_t left = p->step->n_asks - ph->first;
    return p->step->n_asks < ph->first ? 0 : left < ph->count ? left : ph->count;
}

/* The sums of attention are no values of the network. */
void halves_phase(const struct program *p, const struct phase *ph)
{
    switch (ph->kind) {
    case PHASE_ROWS:
        for (uint32_t i = ph->first; i < ph->first + ph->count; i++) {
            const struct row_instr *r = &p->low.rows[i];
            const int32_t made[] = { r->out, r->out2, r->out3 };
            for (size_t k = 0; k < sizeof made / sizeof *made; k++) round_value(p, made[k]);
        }
        return;
    case PHASE_LINEAR:
    case PHASE_BACK:
        for (uint32_t i = 0; i < ph->n_parts; i++) round_value(p, ph->part[i].out);
        return;
    case PHASE_SEE: round_value(p, ph->part[0].out); return;
    case PHASE_SEE_BACK:
        for (int i = 0; i < 3; i++) round_value(p, ph->part[i].out);
        return;
    case PHASE_LOSS_BACK: round_rows(p, ph->part[0].out, ph->first, loss_rows(p, ph)); return;
    case PHASE_LIKE:
        for (size_t r = 0; r < loss_rows(p, ph); r++)
            if (p->step->targets[ph->first + r].like)
                round_row(place_row(&p->like, r), graph_loss_width(p->g, ph->node));
        return;
    case PHASE_LOGITS:
    case PHASE_LOSS:
        for (size_t r = 0; r < loss_rows(p, ph); r++)
            round_row(place_row(&p->logits, r), graph_loss_width(p->g, ph->node));
        return;
    default: return;
    }
}
