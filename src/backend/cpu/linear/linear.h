/* Linear providers: who holds the weights of linear layers and multiplies rows by them. The rest of the
 * backend knows a linear layer as panels of 16 outputs, which its threads share out, and does not know
 * what a panel is. A provider is a row of functions and a row in linear_providers; the first that claims a
 * weight gets it, so a provider that takes only some (a table of constants in an FPGA, a crossbar of so many
 * rows) leaves the others to those behind it.
 *
 * Same bits whatever the batch holds for each of them: what a panel answers to a row depends on the row
 * and its role alone, never on its neighbours, or on which panels are asked for together. */
#ifndef BACKEND_CPU_LINEAR_LINEAR_H
#define BACKEND_CPU_LINEAR_LINEAR_H
#include "backend/cpu/cpu.h"
#include "backend/params.h"

/* Rows of one role times neighbouring panels: y[r * ldy + 16 * p + c]. Padded columns are written too. */
struct linear_job {
    const struct act *x;
    size_t rows;
    bool given;                        /* prompt rows, and they may have an arithmetic of their own */
    uint32_t panel, n_panels;
    float *y;
    size_t ldy;
};

struct linear_provider {
    const char *name;
    /* Whether it takes the weight, of which n_in and n_out are known; then it fills in `type`, `panel_bytes`
     * (what a panel needs of this machine's memory, be it a handle: 64 or a multiple) and `forms` (what rows
     * are to be read as, besides float32). Asked more than once: nothing is to be kept yet. */
    bool (*claims)(const struct cpu_device *d, const struct param_bytes *s, bool reference,
                   struct weight *w);
    /* Makes a panel of its columns; `panel` points to its bytes, zeros before. Many threads do this at once,
     * each panel is made once. scratch: 16 * n_in floats of the thread's own. */
    stretto_status (*upload)(const struct weight *w, const struct linear_columns *from, float *scratch,
                             void *panel);
    /* By many threads at once. */
    void (*run)(const struct cpu_device *d, const struct weight *w, const struct linear_job *job);
    /* Gives back what a panel holds outside of its bytes, which are zeros where it was not made; NULL: nothing. */
    void (*close)(const struct weight *w, void *panel);
    /* How many bytes that is; NULL: none. */
    size_t (*outside)(const struct weight *w, const void *panel);
};

extern const struct linear_provider provider_float32, provider_brain12, provider_panels;
/* Those of training alone: a float weight's transposed, read in its own panels (back.c); and what is computed in bf16
 * by kernels for it (halves.c). */
extern const struct linear_provider provider_across, provider_learn;
/* NULL-terminated; the last takes everything. */
extern const struct linear_provider *const linear_providers[];

static inline void *linear_panel(const struct weight *w, uint32_t panel)
{
    return (char *)(uintptr_t)w->panels + panel * w->panel_bytes;
}
#endif
