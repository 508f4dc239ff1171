/* Weights as the file has them, in the panels of kernels/panel.h: bit patterns move, nothing is rounded.
 * Rows are read as codes where weights are quantised; where the level has a better arithmetic for many rows,
 * prompt rows as bf16. */
#include "backend/cpu/linear/linear.h"

static bool claims(const struct cpu_device *d, const struct param_bytes *s, bool reference,
                   struct weight *w)
{
    bool quantised = dtype_table[s->type].block > 1, given = d->kernels.linear_given[s->type];
    (void)reference;
    w->type = s->type;
    w->panel_bytes = panel_bytes(s->type, s->n_in);
    w->forms = (uint8_t)((quantised ? FORM_CODES : 0) | (quantised && !given ? FORM_CODES_GIVEN : 0) |
                         (given ? FORM_BF16 : 0));
    return true;
}

static stretto_status upload(const struct weight *w, const struct linear_columns *from, float *scratch,
                             void *panel)
{
    columns_pack(from, w->type, w->n_in, scratch, panel);
    return STRETTO_OK;
}

static void run(const struct cpu_device *d, const struct weight *w, const struct linear_job *job)
{
    const struct kernels *k = &d->kernels;
    linear_fn *fn = job->given && k->linear_given[w->type] ? k->linear_given[w->type]
                                                           : k->linear[w->type];
    fn(linear_panel(w, job->panel), job->n_panels, w->n_in, job->x, job->rows, job->y, job->ldy);
}

const struct linear_provider provider_panels = {
    .name = "panels", .claims = claims, .upload = upload, .run = run };
