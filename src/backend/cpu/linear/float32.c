/* The float32 path (--reference): weights are dequantised once, at load; prompt and written rows are read
 * as float32 and have one arithmetic. What other arithmetics are held against. */
#include "backend/cpu/linear/linear.h"

static bool claims(const struct cpu_device *d, const struct param_bytes *s, bool reference,
                   struct weight *w)
{
    (void)d;
    if (!reference) return false;
    w->type = DT_F32;
    w->panel_bytes = panel_bytes(DT_F32, s->n_in);
    w->forms = 0;
    return true;
}

static stretto_status upload(const struct weight *w, const struct linear_columns *from, float *scratch,
                             void *panel)
{
    columns_pack(from, DT_F32, w->n_in, scratch, panel);
    return STRETTO_OK;
}

static void run(const struct cpu_device *d, const struct weight *w, const struct linear_job *job)
{
    d->kernels.linear[DT_F32](linear_panel(w, job->panel), job->n_panels, w->n_in, job->x, job->rows,
                              job->y, job->ldy);
}

const struct linear_provider provider_float32 = {
    .name = "float32", .claims = claims, .upload = upload, .run = run };
