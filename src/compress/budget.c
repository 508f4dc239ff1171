#include "compress/budget.h"
#include "base/memory.h"
#include "compress/allocate.h"
#include "compress/squeeze_int.h"
#include "engine/engine.h"
#include "eval/eval.h"
#include "tensor/encode.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* SAMPLE_ROWS of a weight are encoded in every type; a probe reads PROBE_WINDOWS, BESIDE of them at once. */
enum { SAMPLE_ROWS = 48, BESIDE = 3, CHOICES = 10, THIRDS = 3, PROBE_WINDOWS = 3 };
#define PROBE_TYPE DT_Q4_0
#define KEEP_BYTES ((uint64_t)6 << 30)  /* larger statistics are not kept: texts are read again */
#define NOTHING 1e-30                   /* no error; 0: not measured yet */

/* error: e H e^T of the whole weight in each type; plain: of the probe's rounding. */
struct weight { size_t row; size_t n; enum dtype type[CHOICES]; double error[CHOICES], plain; uint32_t group; };

struct budget {
    struct squeeze *s;
    struct weight *w;
    size_t n;
    double price[WEIGHT_ROLES * THIRDS];    /* divergence for one of error */
    double scale;                           /* of all expectations, by what was measured */
    struct choice *choices;                 /* [n][CHOICES] */
    struct part *parts;
    size_t *pick;
};

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

/* ---- which types ---------------------------------------------------------------------------- */

static double bits_of(enum dtype t) { return 8.0 * dtype_table[t].bytes / dtype_table[t].block; }

/* Of a weight that is rounded already: types of fewer bits, and as it is, which spoils nothing. */
static void list_types(struct weight *w, const struct squeeze_row *r, bool requantize)
{
    static const enum dtype wide[] = { DT_Q2_K, DT_Q3_K, DT_IQ4_XS, DT_Q4_0, DT_Q4_K, DT_Q5_K, DT_Q6_K, DT_Q8_0 };
    static const enum dtype narrow[] = { DT_MXFP4, DT_Q4_0, DT_IQ4_NL, DT_Q4_1, DT_Q5_0, DT_Q5_1, DT_Q8_0 };
    bool fits = r->n_in % 256 == 0;
    const enum dtype *list = fits ? wide : narrow;
    size_t n = fits ? sizeof wide / sizeof *wide : sizeof narrow / sizeof *narrow;
    for (size_t i = 0; i < n; i++)
        if (dtype_table[list[i]].block && r->n_in % dtype_table[list[i]].block == 0
            && (requantize || dtype_table[r->from].block == 1 || bits_of(list[i]) < bits_of(r->from)))
            w->type[w->n++] = list[i];
    if (dtype_table[r->from].block == 1 || requantize) return;
    w->error[w->n] = NOTHING;
    w->type[w->n++] = r->from;
}

static stretto_status list_weights(struct budget *b, struct error *err)
{
    struct squeeze *s = b->s;
    b->w = mem_zalloc(s->n + 1, sizeof *b->w);
    b->choices = mem_zalloc((s->n + 1) * CHOICES, sizeof *b->choices);
    b->parts = mem_zalloc(s->n + 1, sizeof *b->parts);
    b->pick = mem_zalloc(s->n + 1, sizeof *b->pick);
    if (!b->w || !b->choices || !b->parts || !b->pick) return no_memory(err);
    uint32_t layers = s->m->config.layers;
    for (size_t i = 0; i < s->n; i++) {
        const struct squeeze_row *r = &s->rows[i];
        if (r->role == WEIGHT_NONE || r->fixed) continue;
        struct weight *w = &b->w[b->n];
        list_types(w, r, s->o.requantize);
        if (!w->n) continue;
        w->row = i;
        /* Files may hold layers behind those of the model. */
        uint32_t third = !layers ? 0 : r->layer < layers ? r->layer * THIRDS / layers : THIRDS - 1;
        w->group = (uint32_t)r->role * THIRDS + third;
        b->n++;
    }
    return b->n ? STRETTO_OK : fail(err, STRETTO_E_ARG, "no weight of the model fits blocks of codes");
}

/* ---- errors --------------------------------------------------------------------------------- */

/* Rows the same distance apart; returns how many. */
static size_t sample(const struct squeeze *s, size_t row, float *out)
{
    const struct source_tensor *t = &s->stored[row];
    size_t width = (size_t)t->dims[0], bytes = dtype_bytes(t->type, width);
    uint64_t rows = s->rows[row].rows;
    size_t n = rows < SAMPLE_ROWS ? (size_t)rows : SAMPLE_ROWS;
    for (size_t i = 0; i < n; i++)
        dtype_table[t->type].decode((const unsigned char *)t->data + (size_t)(rows * i / n) * bytes, out + i * width,
                                    width);
    return n;
}

static stretto_status measure_weight(struct budget *b, struct weight *w, struct metric *m, size_t k, float *v,
                                     unsigned char *blocks, struct error *err)
{
    struct encode_report e = { 0 };
    size_t n = sample(b->s, w->row, v);
    TRY(feedback_encode(b->s->workers, m, w->type[k], v, n, blocks, &e, err));
    double whole = (double)b->s->rows[w->row].rows / (double)n;
    w->error[k] = e.kept * whole;
    if (w->type[k] == PROBE_TYPE) w->plain = e.plain * whole;
    return STRETTO_OK;
}

/* Where statistics come from: a walk, or a file. */
struct giver { struct calibration *c; const struct imatrix *x; };

static const struct input_stats *stats_of(const struct budget *b, const struct giver *g, const struct weight *w)
{
    const char *param = squeeze_param(b->s, w->row);
    return g->c ? calibration_stats(g->c, param) : g->x ? imatrix_find(g->x, param) : NULL;
}

/* All weights that read this value; types of a kind stand together. */
static stretto_status measure_readers(struct budget *b, const struct giver *g, const struct input_stats *stats,
                                      uint32_t n_in, struct error *err)
{
    struct metric *m = NULL;
    float *v = mem_alloc((size_t)n_in * SAMPLE_ROWS * sizeof *v);
    unsigned char *blocks = mem_alloc((size_t)n_in * SAMPLE_ROWS * 4);
    stretto_status s = v && blocks ? metric_open(&m, b->s->workers, stats, n_in, &b->s->how, err) : no_memory(err);
    for (size_t k = 0; k < CHOICES && s == STRETTO_OK; k++)
        for (size_t i = 0; i < b->n && s == STRETTO_OK; i++) {
            struct weight *w = &b->w[i];
            bool reads = k < w->n && b->s->rows[w->row].n_in == n_in && w->error[k] == 0
                         && (!stats || stats_same(stats_of(b, g, w), stats));
            if (reads) s = measure_weight(b, w, m, k, v, blocks, err);
            if (reads && s == STRETTO_OK && w->error[k] <= 0) w->error[k] = NOTHING;
        }
    metric_close(m);
    mem_free(v);
    mem_free(blocks);
    return s;
}

static stretto_status measure_given(struct budget *b, const struct giver *g, struct error *err)
{
    for (size_t i = 0; i < b->n; i++) {
        TRY(squeeze_cancelled(b->s, err));
        const struct input_stats *stats = stats_of(b, g, &b->w[i]);
        if (stats && stats->rows && b->w[i].error[0] == 0)
            TRY(measure_readers(b, g, stats, (uint32_t)b->s->rows[b->w[i].row].n_in, err));
        if (!g->c) progress_tell(&b->s->o.progress, "measuring errors", i, b->n);
    }
    return STRETTO_OK;
}

static stretto_status walk_pieces(struct budget *b, struct calibration *c, struct imatrix_writer *keep,
                                  struct error *err)
{
    const struct giver g = { .c = c };
    uint32_t pieces = calibration_pieces(c);
    for (uint32_t p = 0; p < pieces; p++) {
        progress_tell(&b->s->o.progress, "measuring errors", p, pieces);
        TRY(calibration_go(c, true, err));
        if (keep) TRY(imatrix_write_piece(keep, c, err));
        TRY(measure_given(b, &g, err));
    }
    progress_tell(&b->s->o.progress, "measuring errors", pieces, pieces);
    return keep ? imatrix_finish(keep, err) : STRETTO_OK;
}

static stretto_status walk(struct budget *b, const char *keep, struct error *err)
{
    struct squeeze *s = b->s;
    struct binding of_source = { s->m, model_param };
    struct calibrate_options o = { .text = windows_text(&s->windows), .gram = s->o.method == ENCODE_FEEDBACK,
                                   .workers = s->workers, .threads = s->o.threads, .log = s->o.log,
                                   .cancel = s->o.cancel };
    const char *const name = "squeeze";
    struct imatrix_write_options wo = { .about = { &name, 1, (uint32_t)s->windows.n, s->o.window }, .gram = o.gram,
                                        .force = true };
    struct calibration *c = NULL;
    struct imatrix_writer *w = NULL;
    TRY(calibration_open(&c, s->m, &of_source, &o, err));
    stretto_status st = keep ? imatrix_writer_open(&w, keep, s->m, &wo, err) : STRETTO_OK;
    if (st == STRETTO_OK && w && imatrix_writer_bytes(w) > KEEP_BYTES) {
        imatrix_writer_close(w);
        w = NULL;
    }
    if (st == STRETTO_OK) st = walk_pieces(b, c, w, err);
    calibration_close(c);
    if (st == STRETTO_OK && w) st = squeeze_take_statistics(s, keep, err);
    imatrix_writer_close(w);
    return st;
}

static stretto_status measure(struct budget *b, const char *keep, struct error *err)
{
    const struct giver g = { .x = b->s->statistics }, nobody = { .c = NULL };
    TRY(g.x ? measure_given(b, &g, err) : walk(b, keep, err));
    /* Tables that are looked up only. */
    for (size_t i = 0; i < b->n; i++)
        if (b->w[i].error[0] == 0)
            TRY(measure_readers(b, &nobody, NULL, (uint32_t)b->s->rows[b->w[i].row].n_in, err));
    return STRETTO_OK;
}

/* ---- prices --------------------------------------------------------------------------------- */

/* A model whose weights are rounded in memory: to eight bits, but for one group, which is spoilt. */
struct overlay { struct budget *b; uint32_t group; bool spoil; unsigned char **fine, **coarse; };

static stretto_status find_overlaid(void *ud, const char *name, uint32_t n_in, uint32_t n_out, struct param_bytes *out,
                                    struct error *err)
{
    const struct overlay *o = ud;
    const struct squeeze *s = o->b->s;
    TRY(model_param(s->m, name, n_in, n_out, out, err));
    for (size_t i = 0; i < o->b->n; i++) {
        const struct weight *w = &o->b->w[i];
        const struct source_tensor *t = &s->stored[w->row];
        uintptr_t at = (uintptr_t)out->data, from = (uintptr_t)t->data;
        bool coarse = o->spoil && w->group == o->group && o->coarse[i];
        const unsigned char *bytes = coarse ? o->coarse[i] : o->fine[i];
        if (at < from || at >= from + t->bytes || !bytes) continue;
        size_t first = (at - from) / dtype_bytes(t->type, (size_t)t->dims[0]);
        out->type = coarse ? PROBE_TYPE : DT_Q8_0;
        out->row_bytes = dtype_bytes(out->type, (size_t)t->dims[0]);
        out->data = bytes + first * out->row_bytes;
        out->memory = true;
        break;
    }
    return STRETTO_OK;
}

static unsigned char *rounded(const struct squeeze *s, size_t row, enum dtype type)
{
    const struct source_tensor *t = &s->stored[row];
    size_t width = (size_t)t->dims[0], from = dtype_bytes(t->type, width), to = dtype_bytes(type, width);
    if (width % dtype_table[type].block) return NULL;
    unsigned char *out = mem_alloc((size_t)s->rows[row].rows * to);
    float *v = mem_alloc(width * sizeof *v);
    for (uint64_t r = 0; out && v && r < s->rows[row].rows; r++) {
        dtype_table[t->type].decode((const unsigned char *)t->data + r * from, v, width);
        dtype_table[type].encode(v, out + r * to, width);
    }
    mem_free(v);
    return out;
}

struct probed { struct model m; struct engine *e; };

static stretto_status probed_open(struct probed *p, struct overlay *o, struct device *d, struct error *err)
{
    const struct squeeze *s = o->b->s;
    struct binding b = { o, find_overlaid };
    struct upload_options up = { .threads = s->o.threads, .cancel = s->o.cancel };
    struct engine_options eo = { .threads = s->o.threads, .context = s->o.window, .sequences = 1 };
    *p = (struct probed){ .m = *s->m };
    p->m.device = d;
    p->m.owns_device = false;
    p->m.weights = NULL;
    TRY(device_upload(d, &p->m.weights, &p->m.graph, &b, &up, err));
    TRY(engine_open(&p->e, &p->m, &eo, err));
    engine_cancel(p->e, engine_flag_set, (void *)(uintptr_t)s->o.cancel);
    return STRETTO_OK;
}

static void probed_close(struct probed *p)
{
    engine_close(p->e);
    if (p->m.weights) p->m.device->backend->weights_close(p->m.weights);
}

static bool is_whole(const struct squeeze *s, size_t w)
{
    return s->windows.at[w + 1] - s->windows.at[w] == s->o.window;
}

/* Windows of what is learned from, the same distance apart; nothing of what is measured on. */
static stretto_status probe_texts(const struct squeeze *s, struct eval_set *out, struct error *err)
{
    size_t whole = 0, seen = 0, n = 0;
    uint32_t window = s->o.window;
    int32_t *id = mem_alloc(PROBE_WINDOWS * window * sizeof *id);
    if (!id) return no_memory(err);
    for (size_t w = 0; w < s->windows.n; w++) whole += is_whole(s, w);
    for (size_t w = 0; w < s->windows.n && n < PROBE_WINDOWS; w++) {
        if (!is_whole(s, w) || seen++ < n * whole / PROBE_WINDOWS) continue;
        memcpy(id + n++ * window, s->windows.id + s->windows.at[w], window * sizeof *id);
    }
    stretto_status st = eval_set_text(out, "probe", id, n * window, window, 0, -1, err);
    mem_free(id);
    return st;
}

static double group_error(const struct budget *b, const struct overlay *o, uint32_t group)
{
    double error = 0;
    for (size_t i = 0; i < b->n; i++)
        if (b->w[i].group == group && o->coarse[i]) error += b->w[i].plain;
    return error;
}

/* Groups beside each other, so that what they are compared with is read once for all of them. */
static stretto_status price_some(struct budget *b, struct overlay *o, const uint32_t *group, size_t n,
                                 struct engine *base, struct device *d, const struct eval_set *set, struct error *err)
{
    struct probed p[BESIDE] = { { .e = NULL } };
    struct engine *e[BESIDE];
    struct eval_rows rows[BESIDE] = { { 0 } };
    struct eval_kl kl;
    stretto_status s = STRETTO_OK;
    for (size_t i = 0; i < n && s == STRETTO_OK; i++) {
        o->group = group[i];
        s = probed_open(&p[i], o, d, err);
        e[i] = p[i].e;
    }
    if (s == STRETTO_OK) s = eval_divergence(base, e, n, set, b->s->o.cancel, NULL, rows, err);
    for (size_t i = 0; i < n; i++) {
        if (s == STRETTO_OK) s = eval_kl(&rows[i], &kl, err);
        if (s == STRETTO_OK) b->price[group[i]] = kl.kl.value / group_error(b, o, group[i]);
        eval_rows_done(&rows[i]);
        if (p[i].m.device) probed_close(&p[i]);
    }
    return s;
}

static stretto_status price_groups(struct budget *b, struct overlay *o, struct engine *base, struct device *d,
                                   const struct eval_set *set, struct error *err)
{
    uint32_t group[WEIGHT_ROLES * THIRDS];
    size_t n = 0;
    for (uint32_t g = 0; g < WEIGHT_ROLES * THIRDS; g++)
        if (group_error(b, o, g) > 0) group[n++] = g;
    for (size_t i = 0; i < n; i += BESIDE) {
        progress_tell(&b->s->o.progress, "asking the model", i, n);
        TRY(price_some(b, o, group + i, n - i < BESIDE ? n - i : BESIDE, base, d, set, err));
        TRY(squeeze_cancelled(b->s, err));
    }
    progress_tell(&b->s->o.progress, "asking the model", n, n);
    return STRETTO_OK;
}

static stretto_status price_all(struct budget *b, struct overlay *o, const struct eval_set *set, struct error *err)
{
    struct device *d = NULL;
    struct device_options on = { 0 };
    struct probed base = { .e = NULL };
    TRY(backend_open(NULL, &on, &d, err));
    stretto_status s = probed_open(&base, o, d, err);
    o->spoil = true;
    if (s == STRETTO_OK) s = price_groups(b, o, base.e, d, set, err);
    if (base.m.device) probed_close(&base);
    device_close(d);
    return s;
}

static stretto_status price(struct budget *b, struct error *err)
{
    struct overlay o = { .b = b, .fine = mem_zalloc(b->n + 1, sizeof(unsigned char *)),
                         .coarse = mem_zalloc(b->n + 1, sizeof(unsigned char *)) };
    struct eval_set set = { 0 };
    stretto_status s = o.fine && o.coarse ? probe_texts(b->s, &set, err) : no_memory(err);
    for (size_t i = 0; i < b->n && s == STRETTO_OK; i++) {
        o.fine[i] = rounded(b->s, b->w[i].row, DT_Q8_0);
        o.coarse[i] = rounded(b->s, b->w[i].row, PROBE_TYPE);
    }
    if (s == STRETTO_OK) s = price_all(b, &o, &set, err);
    for (size_t i = 0; i < b->n && o.fine && o.coarse; i++) {
        mem_free(o.fine[i]);
        mem_free(o.coarse[i]);
    }
    mem_free(o.fine);
    mem_free(o.coarse);
    eval_set_done(&set);
    return s;
}

/* ---- solving -------------------------------------------------------------------------------- */

static stretto_status open_into(struct budget *b, const char *keep, struct error *err)
{
    if (b->s->m->graph.logits == GRAPH_NONE)
        return fail(err, STRETTO_E_UNSUP, "the model writes no text: name a type instead of a budget");
    TRY(squeeze_prepare(b->s, true, err));
    TRY(list_weights(b, err));
    TRY(measure(b, keep, err));
    TRY(price(b, err));
    for (size_t i = 0; i < b->n; i++) {
        struct weight *w = &b->w[i];
        struct choice *c = b->choices + i * CHOICES;
        for (size_t k = 0; k < w->n; k++)
            c[k] = (struct choice){ (double)row_bytes_as(&b->s->rows[w->row], w->type[k]),
                                    b->price[w->group] * w->error[k] };
        b->parts[i] = (struct part){ c, w->n };
    }
    return STRETTO_OK;
}

stretto_status budget_open(struct budget **out, struct squeeze *s, const char *keep, struct error *err)
{
    *out = NULL;
    struct budget *b = mem_zalloc(1, sizeof *b);
    if (!b) return no_memory(err);
    b->s = s;
    b->scale = 1;
    stretto_status st = open_into(b, keep, err);
    if (st != STRETTO_OK) budget_close(b);
    else *out = b;
    return st;
}

void budget_close(struct budget *b)
{
    if (!b) return;
    mem_free(b->w);
    mem_free(b->choices);
    mem_free(b->parts);
    mem_free(b->pick);
    mem_free(b);
}

static void plan(struct budget *b)
{
    for (size_t i = 0; i < b->n; i++) b->s->rows[b->w[i].row].to = b->w[i].type[b->pick[i]];
}

void budget_expect(const struct budget *b, double *kl, double *bytes)
{
    *kl = 0;
    for (size_t i = 0; i < b->n; i++)
        for (size_t k = 0; k < b->w[i].n; k++)
            if (b->s->rows[b->w[i].row].to == b->w[i].type[k]) *kl += b->scale * b->choices[i * CHOICES + k].damage;
    *bytes = (double)squeeze_bytes(b->s, true);
}

void budget_learn(struct budget *b, double kl)
{
    double expected, bytes;
    budget_expect(b, &expected, &bytes);
    if (expected > 0 && kl > 0) b->scale *= kl / expected;
}

/* Bytes of what has no choice. */
static double fixed_bytes(const struct budget *b)
{
    double bytes = (double)squeeze_bytes(b->s, true);
    for (size_t i = 0; i < b->n; i++) {
        const struct squeeze_row *r = &b->s->rows[b->w[i].row];
        bytes -= (double)row_bytes_as(r, r->to);
    }
    return bytes;
}

stretto_status budget_bytes(struct budget *b, double most, double *kl, double *bytes, struct error *err)
{
    stretto_status s = allocate_budget(b->parts, b->n, most - fixed_bytes(b), b->pick, NULL);
    plan(b);
    budget_expect(b, kl, bytes);
    return s == STRETTO_E_FULL ? fail(err, s, "the smallest there is takes %.1f MB", *bytes / 1e6) : s;
}

stretto_status budget_kl(struct budget *b, double most, double *kl, double *bytes, struct error *err)
{
    stretto_status s = allocate_bound(b->parts, b->n, most / b->scale, b->pick, NULL);
    plan(b);
    budget_expect(b, kl, bytes);
    return s == STRETTO_E_FULL ? fail(err, s, "the nearest there is diverges by %.4f", *kl) : s;
}
