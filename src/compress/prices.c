#include "compress/prices.h"
#include "base/memory.h"
#include "compress/squeeze_int.h"
#include "compress/trial.h"
#include <string.h>

/* A weight is tried where it is read first; a table that is embedding and head is tried as both, one by one. */
struct asked { size_t at; uint32_t layer; size_t id; };

struct pricing {
    struct squeeze *s;
    const struct prices_ask *a;
    struct device *device;
    struct asked *asked;                /* [n] by layer */
    size_t n, done;
    double *kl;
};

/* ---- the model with one weight rounded ------------------------------------------------------ */

struct swap { struct pricing *p; size_t row; };

static stretto_status find_swapped(void *ud, const char *name, uint32_t n_in, uint32_t n_out, struct param_bytes *out,
                                   struct error *err)
{
    const struct swap *x = ud;
    const struct source_tensor *t = &x->p->s->stored[x->row];
    TRY(model_param(x->p->s->m, name, n_in, n_out, out, err));
    uintptr_t at = (uintptr_t)out->data, from = (uintptr_t)t->data;
    if (at < from || at >= from + t->bytes) return STRETTO_OK;
    return model_param((struct model *)(uintptr_t)x->p->a->rounded, name, n_in, n_out, out, err);
}

/* ---- which, and where ----------------------------------------------------------------------- */

static void list(struct pricing *p)
{
    const struct model *m = p->s->m;
    uint32_t layers = m->graph.layers;
    for (uint32_t l = 0; l < layers; l++)
        for (size_t i = 0; i < p->a->n; i++) {
            const struct squeeze_row *r = &p->s->rows[p->a->row[i]];
            bool head = r->role == WEIGHT_HEAD, first = !head || m->config.tied;
            uint32_t from = head ? 0 : r->layer;
            if (first && from == l) p->asked[p->n++] = (struct asked){ i, l, 0 };
            if (head && l + 1 == layers) p->asked[p->n++] = (struct asked){ i, l, 0 };
        }
}

/* ---- a walk --------------------------------------------------------------------------------- */

static void tell(struct pricing *p, double share)
{
    progress_tell(&p->s->o.progress, "asking the model", (uint64_t)((double)p->done + share), p->n);
}

static stretto_status walk(struct pricing *p, struct trials *t, struct asked *x, size_t n, struct error *err)
{
    uint32_t layers = p->s->m->graph.layers;
    size_t at = 0;
    while (trials_at(t) < layers) {
        TRY(squeeze_cancelled(p->s, err));
        for (; at < n && x[at].layer == trials_at(t); at++) {
            struct swap swap = { p, p->a->row[x[at].at] };
            struct binding b = { &swap, find_swapped };
            TRY(trials_try(t, &b, &x[at].id, err));
        }
        TRY(trials_go(t, err));
        tell(p, (double)n * trials_at(t) / layers);
    }
    for (size_t i = 0; i < n; i++) p->kl[x[i].at] += trials_divergence(t, x[i].id);
    p->done += n;
    return STRETTO_OK;
}

static stretto_status walks(struct pricing *p, struct error *err)
{
    const struct calibration_text *text = p->a->text;
    struct binding of_source = { p->s->m, model_param };
    size_t each = (size_t)(text->at[text->n] - text->at[0]) * p->s->m->config.width * sizeof(float);
    size_t most = p->a->memory / each + 8;
    for (size_t i = 0; i < p->n; i += most) {
        struct trials *t = NULL;
        TRY(trials_open(&t, p->s->m, p->device, &of_source, text, err));
        stretto_status st = walk(p, t, p->asked + i, p->n - i < most ? p->n - i : most, err);
        trials_close(t);
        TRY(st);
    }
    return STRETTO_OK;
}

stretto_status prices_measure(struct squeeze *s, const struct prices_ask *a, double *kl, struct error *err)
{
    struct pricing p = { .s = s, .a = a, .kl = kl, .asked = mem_alloc((2 * a->n + 1) * sizeof *p.asked) };
    struct device_options on = { .level = NULL };
    if (!p.asked) return fail(err, STRETTO_E_NOMEM, "out of memory");
    memset(kl, 0, a->n * sizeof *kl);
    list(&p);
    stretto_status st = backend_open("cpu", &on, &p.device, err);
    if (st == STRETTO_OK) st = walks(&p, err);
    for (size_t i = 0; i < a->n && st == STRETTO_OK && a->told; i++) a->told(a->ud, i, kl[i]);
    if (p.device) device_close(p.device);
    mem_free(p.asked);
    return st;
}
