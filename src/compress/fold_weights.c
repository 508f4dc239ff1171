#include "compress/fold_weights.h"
#include "base/memory.h"
#include <math.h>

enum { TOUCHED = 64 };

struct touched { const struct rewrite_tensor *t; float *v; };

struct fold {
    struct rewrite *r;
    const struct model *m;
    const struct calibration *c;
    const struct fold_options *o;
    const struct place *places;
    size_t n;
    struct touched list[TOUCHED];       /* tensors of the layer that is worked on, whole, as float32 */
    size_t n_list;
    struct fold_result *out;
};

/* Rows of a parameter within its tensor, which may hold others too. */
struct part { float *v; size_t rows, width; };

static const char *name_of(const struct fold *f, int32_t param) { return f->m->graph.params[param].name; }

static size_t numbers(const struct rewrite_tensor *t)
{
    size_t n = 1;
    for (uint32_t i = 0; i < t->n_dims; i++) n *= (size_t)t->dims[i];
    return n;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static stretto_status take_tensor(struct fold *f, const struct rewrite_tensor *t, float **v, struct error *err)
{
    for (size_t i = 0; i < f->n_list; i++)
        if (f->list[i].t == t) {
            *v = f->list[i].v;
            return STRETTO_OK;
        }
    if (f->n_list == TOUCHED) return fail(err, STRETTO_E_UNSUP, "a layer has more than %d weights", TOUCHED);
    *v = mem_alloc(numbers(t) * sizeof **v);
    if (!*v) return fail(err, STRETTO_E_NOMEM, "no memory for %s", t->name);
    f->list[f->n_list++] = (struct touched){ t, *v };
    return rewrite_read(f->r, t->name, *v, err);
}

static stretto_status part_of(struct fold *f, int32_t param, struct part *out, struct error *err)
{
    const struct graph_param *g = &f->m->graph.params[param];
    const struct source_tensor *slice = source_tensor_find(f->m->source, g->name);
    const struct rewrite_tensor *t = rewrite_find(f->r, g->name);
    float *whole = NULL;
    if (!slice || !t || slice->transposed || slice->stride)
        return fail(err, STRETTO_E_UNSUP, "%s does not lie in rows of its own", g->name);
    TRY(take_tensor(f, t, &whole, err));
    bool vector = t->n_dims == 1;
    out->width = vector ? 1 : g->n_in;
    out->rows = vector ? g->n_in : g->n_out;
    size_t row = dtype_bytes(t->from->type, out->width);
    size_t first = (size_t)((const char *)slice->data - (const char *)t->from->data) / row;
    out->v = whole + first * out->width;
    return STRETTO_OK;
}

static stretto_status put_list(struct fold *f, struct error *err)
{
    for (size_t i = 0; i < f->n_list; i++) {
        const struct rewrite_tensor *t = f->list[i].t;
        if (!t->done) TRY(rewrite_write(f->r, t->name, f->list[i].v, numbers(t) * sizeof(float), err));
    }
    return STRETTO_OK;
}

static void drop_list(struct fold *f)
{
    for (size_t i = 0; i < f->n_list; i++) mem_free(f->list[i].v);
    f->n_list = 0;
}

/* ---- factors and rotations ------------------------------------------------------------------- */

static void divide_rows(const struct part *x, const float *s)
{
    for (size_t r = 0; r < x->rows; r++)
        for (size_t i = 0; i < x->width; i++) x->v[r * x->width + i] /= s[r];
}

static void multiply_columns(const struct part *x, const struct place *at, const float *s)
{
    for (size_t r = 0; r < x->rows; r++)
        for (size_t i = 0; i < x->width; i++) x->v[r * x->width + i] *= s[place_channel(at, (uint32_t)i)];
}

/* n numbers, `stride` apart, times Hadamard's matrix, orthonormal and its own inverse, in runs of the largest power of
 * two that divides n. */
static void hadamard(float *v, size_t n, size_t stride)
{
    size_t run = n & (~n + 1);
    float by = (float)(1 / sqrt((double)run));
    for (size_t half = 1; half < run; half *= 2)
        for (size_t i = 0; i < n; i += 2 * half)
            for (size_t j = i; j < i + half; j++) {
                float a = v[j * stride], b = v[(j + half) * stride];
                v[j * stride] = a + b;
                v[(j + half) * stride] = a - b;
            }
    for (size_t i = 0; i < n; i++) v[i * stride] *= by;
}

static void rotate_rows(const struct part *x, size_t head)
{
    for (size_t h = 0; h < x->rows; h += head)
        for (size_t i = 0; i < x->width; i++) hadamard(x->v + h * x->width + i, head, x->width);
}

static void rotate_columns(const struct part *x, size_t head)
{
    for (size_t i = 0; i < x->rows * x->width; i += head) hadamard(x->v + i, head, 1);
}

/* ---- a place --------------------------------------------------------------------------------- */

struct around { struct part maker, bias, reader[PLACE_READERS]; bool has_bias; size_t n; const char *name; };

static stretto_status take_around(struct fold *f, const struct place *at, struct around *x, struct error *err)
{
    const struct graph *g = &f->m->graph;
    size_t from = 0;
    *x = (struct around){ .has_bias = at->bias != GRAPH_NONE };
    TRY(part_of(f, at->weight, &x->maker, err));
    if (x->has_bias) TRY(part_of(f, at->bias, &x->bias, err));
    for (const struct graph_node *n; (n = place_reader(g, at, &from)) != NULL; x->n++) {
        TRY(part_of(f, node_param(g, n, 0), &x->reader[x->n], err));
        x->name = name_of(f, node_param(g, n, 0));
    }
    return STRETTO_OK;
}

static void rotate_around(const struct place *at, const struct around *x)
{
    rotate_rows(&x->maker, at->head_dim);
    if (x->has_bias) rotate_rows(&x->bias, at->head_dim);
    for (size_t i = 0; i < x->n; i++) rotate_columns(&x->reader[i], at->head_dim);
}

static stretto_status choose(struct fold *f, const struct place *at, const struct around *x, float *s,
                             struct error *err)
{
    struct fold_reader reader[PLACE_READERS];
    struct fold_gain gain;
    struct fold_choice c = { .workers = f->o->workers, .method = f->o->method, .how = f->o->how, .place = at,
                             .stats = calibration_stats(f->c, x->name), .reader = reader };
    size_t from = 0;
    if (!c.stats || (f->o->method == FOLD_AWQ && !c.stats->gram))
        return fail(err, STRETTO_E_ARG, "there are no statistics for %s", x->name);
    for (const struct graph_node *n; (n = place_reader(&f->m->graph, at, &from)) != NULL; c.n_readers++) {
        const struct part *p = &x->reader[c.n_readers];
        const struct rewrite_tensor *t = rewrite_find(f->r, name_of(f, node_param(&f->m->graph, n, 0)));
        enum dtype to = f->o->becomes ? f->o->becomes(f->o->ud, t->name) : DT_F32;
        reader[c.n_readers] = (struct fold_reader){ .weight = p->v, .rows = p->rows, .to = to };
    }
    TRY(fold_scales(&c, s, &gain, err));
    f->out->gain.before += gain.before;
    f->out->gain.after += gain.after;
    return STRETTO_OK;
}

static bool some(const float *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] != 1) return true;
    return false;
}

static stretto_status scale_around(struct fold *f, const struct place *at, const struct around *x, struct error *err)
{
    float *s = mem_alloc(at->channels * sizeof *s);
    if (!s) return fail(err, STRETTO_E_NOMEM, "no memory for %u factors", at->channels);
    stretto_status st = choose(f, at, x, s, err);
    if (st == STRETTO_OK) {
        f->out->folded += some(s, at->channels);
        divide_rows(&x->maker, s);
        if (x->has_bias) divide_rows(&x->bias, s);
        for (size_t i = 0; i < x->n; i++) multiply_columns(&x->reader[i], at, s);
    }
    mem_free(s);
    return st;
}

/* Why nothing is done at a place; NULL: something is. */
static const char *why_not(const struct fold *f, const struct place *at)
{
    if (at->why || f->o->method != FOLD_ROTATE) return at->why;
    return at->kind != PLACE_VALUES ? "only values are rotated" : at->head_dim % 2 ? "its heads are odd" : NULL;
}

static stretto_status fold_place(struct fold *f, const struct place *at, struct error *err)
{
    struct around x;
    if (f->o->cancel && *f->o->cancel) return fail(err, STRETTO_E_CANCEL, "interrupted");
    TRY(take_around(f, at, &x, err));
    if (f->o->method != FOLD_ROTATE) return scale_around(f, at, &x, err);
    rotate_around(at, &x);
    f->out->folded++;
    return STRETTO_OK;
}

static stretto_status fold_layer(struct fold *f, int32_t layer, struct error *err)
{
    stretto_status st = STRETTO_OK;
    for (size_t i = 0; i < f->n && st == STRETTO_OK; i++)
        if (f->places[i].layer == layer && !why_not(f, &f->places[i])) st = fold_place(f, &f->places[i], err);
    if (st == STRETTO_OK) st = put_list(f, err);
    drop_list(f);
    return st;
}

/* ---- the pass -------------------------------------------------------------------------------- */

static stretto_status will_change(struct fold *f, int32_t param, struct error *err)
{
    struct rewrite_tensor *t = rewrite_find(f->r, name_of(f, param));
    if (!t) return fail(err, STRETTO_E_FORMAT, "%s is not there", name_of(f, param));
    if (dtype_table[t->from->type].block > 1 && !f->o->requantize)
        return fail(err, STRETTO_E_ARG, "%s is rounded already (%s has %s), and what is folded is rounded anew; "
                    "--requantize does it all the same", source_path(f->m->source), t->name,
                    dtype_table[t->from->type].name);
    t->type = DT_F32;
    return STRETTO_OK;
}

static stretto_status list_changes(struct fold *f, struct error *err)
{
    const struct graph *g = &f->m->graph;
    for (size_t i = 0; i < f->n; i++) {
        const struct place *at = &f->places[i];
        const char *why = why_not(f, at);
        size_t from = 0;
        if (at->layer < 0 || (f->o->method == FOLD_ROTATE && at->kind != PLACE_VALUES)) continue;
        f->out->places++;
        if (why && !f->out->why) f->out->why = why;
        if (why) continue;
        f->out->free++;
        TRY(will_change(f, at->weight, err));
        if (at->bias != GRAPH_NONE) TRY(will_change(f, at->bias, err));
        for (const struct graph_node *n; (n = place_reader(g, at, &from)) != NULL;)
            TRY(will_change(f, node_param(g, n, 0), err));
    }
    return f->out->free ? STRETTO_OK
                        : fail(err, STRETTO_E_UNSUP, "there is no place in %s where something could be folded: %s",
                               source_path(f->m->source), f->out->why ? f->out->why : "it has no layers");
}

static stretto_status fold_all(struct fold *f, struct calibration *c, struct error *err)
{
    uint32_t layers = f->m->graph.layers;
    TRY(list_changes(f, err));
    TRY(rewrite_begin(f->r, err));
    for (uint32_t l = 0; l < layers; l++) {
        if (f->o->method != FOLD_ROTATE) TRY(calibration_go(c, true, err));
        TRY(fold_layer(f, (int32_t)l, err));
        progress_tell(&f->o->progress, "layers folded", l + 1, layers);
    }
    for (size_t i = 0; i < rewrite_count(f->r); i++) {
        const struct rewrite_tensor *t = rewrite_at(f->r, i);
        if (!t->done && !t->drop) TRY(rewrite_copy(f->r, t->name, err));
    }
    return STRETTO_OK;
}

stretto_status fold_weights(struct rewrite *r, const struct model *m, struct calibration *c,
                            const struct fold_options *o, struct fold_result *out, struct error *err)
{
    struct fold f = { .r = r, .m = m, .c = c, .o = o, .out = out };
    struct place *places;
    *out = (struct fold_result){ 0 };
    TRY(places_find(&places, &f.n, &m->graph, err));
    f.places = places;
    stretto_status st = fold_all(&f, c, err);
    mem_free(places);
    return st;
}
