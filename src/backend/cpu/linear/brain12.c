/* bf16 weights whose high bytes are few, in 12 bits (kernels/brain12.h): the panels' answers bit for bit, from three
 * quarters of the bytes. A weight is claimed where panels of it, taken at a few places, fit; a panel that turns
 * out not to fit stays one of BF16, outside of its bytes. */
#include "backend/cpu/linear/linear.h"
#include "base/memory.h"
#include <string.h>

enum { SAMPLES = 4 };

/* Rows are outputs that follow each other in the file, so sixteen of them are a panel's numbers in another order. */
static bool fits(const struct param_bytes *s, uint32_t panel)
{
    uint32_t left = s->n_out - panel * PANEL_COLS, rows = left < PANEL_COLS ? left : PANEL_COLS;
    size_t n = (size_t)rows * s->n_in;
    const char *at = (const char *)s->data + (size_t)panel * PANEL_COLS * s->row_bytes;
    return brain12_escaped(at, n) <= (size_t)rows * (s->n_in / BRAIN12_ESCAPES) / PANEL_COLS;
}

static bool claims(const struct cpu_device *d, const struct param_bytes *s, bool reference,
                   struct weight *w)
{
    uint32_t panels = (s->n_out + PANEL_COLS - 1) / PANEL_COLS, step = panels / SAMPLES + 1;
    if (reference || d->wide_bf16 || s->type != DT_BF16 || s->transposed || s->n_in > BRAIN12_MOST_K) return false;
    if (s->row_bytes != dtype_bytes(DT_BF16, s->n_in)) return false;
    for (uint32_t p = 0; p < panels; p += step)
        if (!fits(s, p)) return false;
    w->type = DT_BF16;
    w->panel_bytes = brain12_bytes(s->n_in);
    w->forms = d->kernels.brain12_given ? FORM_BF16 : 0;
    return true;
}

static stretto_status upload(const struct weight *w, const struct linear_columns *from, float *scratch,
                             void *panel)
{
    struct brain12_head *head = panel;
    panel_pack(DT_BF16, from->at, from->stride, from->n, w->n_in, scratch);
    if (brain12_pack(scratch, w->n_in, panel)) return STRETTO_OK;
    size_t bytes = panel_bytes(DT_BF16, w->n_in);
    head->elsewhere = mem_alloc(bytes);
    if (!head->elsewhere) return STRETTO_E_NOMEM;
    memcpy(head->elsewhere, scratch, bytes);
    return STRETTO_OK;
}

static const struct brain12_head *head_of(const struct weight *w, uint32_t panel) { return linear_panel(w, panel); }

static void run(const struct cpu_device *d, const struct weight *w, const struct linear_job *job)
{
    const struct kernels *k = &d->kernels;
    bool given = job->given && k->brain12_given;
    linear_fn *twelve = given ? k->brain12_given : k->brain12;
    linear_fn *whole = given ? k->linear_given[DT_BF16] : k->linear[DT_BF16];
    for (uint32_t i = 0, n; i < job->n_panels; i += n) {
        const void *elsewhere = head_of(w, job->panel + i)->elsewhere;
        float *y = job->y + (size_t)i * PANEL_COLS;
        for (n = 1; !elsewhere && i + n < job->n_panels && !head_of(w, job->panel + i + n)->elsewhere;) n++;
        if (elsewhere) whole(elsewhere, 1, w->n_in, job->x, job->rows, y, job->ldy);
        else twelve(linear_panel(w, job->panel + i), n, w->n_in, job->x, job->rows, y, job->ldy);
    }
}

static void close_panel(const struct weight *w, void *panel)
{
    struct brain12_head *head = panel;
    (void)w;
    mem_free(head->elsewhere);
}

static size_t outside(const struct weight *w, const void *panel)
{
    const struct brain12_head *head = panel;
    return head->elsewhere ? panel_bytes(DT_BF16, w->n_in) : 0;
}

const struct linear_provider provider_brain12 = {
    .name = "bf16 in 12 bits", .claims = claims, .upload = upload, .run = run, .close = close_panel,
    .outside = outside };
