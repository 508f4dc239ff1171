/* Scales that are known beforehand: the largest number that each linear layer was seen to read, kept in a GGUF file
 * with a tensor "WEIGHT.in_most" of float32 for each of their weights (one number, or one for each input, of which
 * the largest counts). */
#include "backend/integer/integer.h"
#include "backend/scales.h"
#include "base/memory.h"
#include "format/gguf_write.h"
#include "format/source.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME = GRAPH_NAME + 16 };

/* ---- what is seen ----------------------------------------------------------------------------------- */

/* Positive doubles are in the order of their bits. */
void scales_see(const struct program *p, int32_t param, struct scale s)
{
    atomic_uint_fast64_t *seen = &p->w->seen[param];
    double most = s.e == EXPONENT_NAN ? 0 : ldexp(s.m, s.e) * CODE_MOST;
    uint64_t bits;
    memcpy(&bits, &most, sizeof bits);
    uint_fast64_t old = atomic_load_explicit(seen, memory_order_relaxed);
    while (bits > old && !atomic_compare_exchange_weak_explicit(seen, &old, bits, memory_order_relaxed,
                                                                memory_order_relaxed)) { }
}

static double seen_by(const struct weights *w, int32_t param)
{
    uint64_t bits = atomic_load(&w->seen[param]);
    double most;
    memcpy(&most, &bits, sizeof most);
    return most;
}

/* Layers that read one value have its codes made for one of them, who saw it for all. 0: nobody did. */
static float seen_of(const struct weights *w, const struct graph *g, size_t param)
{
    double most = 0;
    const struct graph_node *end = g->nodes + g->n_nodes;
    for (const struct graph_node *n = g->nodes; n < end && w->weight[param].code; n++) {
        if (n->op != OP_LINEAR || node_param(g, n, 0) != (int32_t)param) continue;
        for (const struct graph_node *o = g->nodes; o < end; o++)
            if (o->op == OP_LINEAR && node_in(g, o, 0) == node_in(g, n, 0))
                most = fmax(most, seen_by(w, node_param(g, o, 0)));
    }
    return (float)most;
}

stretto_status integer_scales_write(const struct weights *w, const struct graph *g, const char *path, bool force,
                                    size_t *n, struct error *err)
{
    struct gguf_writer *f;
    char name[NAME];
    uint64_t one = 1;
    *n = 0;
    if (w->device->device.backend != &backend_integer)
        return fail(err, STRETTO_E_ARG, "scales are seen by a model that computes in integers");
    TRY(gguf_writer_open(&f, path, force, err));
    gguf_put_string(f, "general.type", "imatrix", 7);
    stretto_status s = STRETTO_OK;
    for (size_t i = 0; i < w->n && s == STRETTO_OK; i++) {
        if (seen_of(w, g, i) <= 0) continue;
        snprintf(name, sizeof name, "%s.in_most", g->params[i].name);
        s = gguf_put_tensor(f, name, DT_F32, 1, &one, err);
        ++*n;
    }
    if (s == STRETTO_OK && !*n) s = fail(err, STRETTO_E_ARG, "no linear layer has read anything yet");
    if (s == STRETTO_OK) s = gguf_begin_data(f, err);
    for (size_t i = 0; i < w->n && s == STRETTO_OK; i++) {
        float most = seen_of(w, g, i);
        if (most > 0) s = gguf_write(f, &most, sizeof most, err);
    }
    if (s == STRETTO_OK) s = gguf_finish(f, err);
    gguf_writer_close(f);
    return s;
}

/* ---- what is known ----------------------------------------------------------------------------------- */

static stretto_status most_of(const struct source *f, const char *path, const char *weight, double *most,
                              struct error *err)
{
    char name[NAME];
    snprintf(name, sizeof name, "%s.in_most", weight);
    const struct source_tensor *t = source_tensor_find(f, name);
    if (!t)
        return fail(err, STRETTO_E_FORMAT, "%s has no %s: it was made of another model, or of a text that is too "
                    "short; make one of this model with 'stretto eval scales'", path, name);
    if (t->type != DT_F32) return fail(err, STRETTO_E_FORMAT, "%s of %s is no float32", name, path);
    *most = 0;
    for (size_t i = 0; i < t->bytes / sizeof(float); i++) {
        float x;
        memcpy(&x, (const char *)t->data + i * sizeof x, sizeof x);
        if (!(x >= 0) || isinf(x))
            return fail(err, STRETTO_E_FORMAT, "%s of %s has %g, which is no largest number", name, path, (double)x);
        *most = fmax(*most, (double)x);
    }
    if (*most <= 0) return fail(err, STRETTO_E_FORMAT, "%s of %s is zero", name, path);
    return STRETTO_OK;
}

stretto_status scales_read(struct weights *w, const struct graph *g, const char *path, struct error *err)
{
    struct source *f;
    TRY(source_open(&f, path, err));
    stretto_status s = STRETTO_OK;
    for (size_t i = 0; i < w->n && s == STRETTO_OK; i++) {
        double most = 0;
        if (!w->weight[i].code) continue;
        s = most_of(f, path, g->params[i].name, &most, err);
        if (s != STRETTO_OK) break;
        w->weight[i].input = scale_of(most / CODE_MOST);
        w->weight[i].inverse = scale_of(CODE_MOST / most);
    }
    source_close(f);
    return s;
}
