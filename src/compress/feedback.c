#include "compress/feedback_int.h"
#include "base/memory.h"
#include "tensor/encode.h"
#include <math.h>
#include <string.h>

enum {
    SLAB_NUMBERS = 4 << 20,             /* numbers of a slab, about: 32 MiB of doubles */
    REPORT_ROWS = 256                   /* of a large weight these many are reported on */
};

struct codec codec_of(enum dtype type)
{
    const struct dtype_info *t = &dtype_table[type];
    return (struct codec){ .type = type, .t = t, .grid = grid_of(t), .unit = t->block, .group = block_group(t),
                           .groups = t->block / block_group(t), .min = block_has_min(t), .super = t->sub != SUB_NONE,
                           .limits = block_limits(t) };
}

struct piece { struct slab *s; void (*row)(struct slab *s, size_t r); };

static void piece_rows(void *ud, size_t i)
{
    const struct piece *p = ud;
    for (size_t r = i * SLAB_SOME; r < p->s->rows && r < (i + 1) * SLAB_SOME; r++) p->row(p->s, r);
}

void slab_each(struct slab *s, void (*row)(struct slab *s, size_t r))
{
    struct piece p = { s, row };
    workers_each(s->w, (s->rows + SLAB_SOME - 1) / SLAB_SOME, piece_rows, &p);
}

/* ---- without feedback ----------------------------------------------------------------------- */

static void plain_row(struct slab *s, size_t r)
{
    unsigned char *to = s->blocks + r * dtype_bytes(s->c->type, s->n);
    const float *from = s->weight + r * s->n;
    if (s->c->t->encode) s->c->t->encode(from, to, s->n);
    else encode_search(s->c->type, from, NULL, to, s->n);
}

/* Importance times the root of what the weight and its row's mean square add up to, as llama.cpp weighs. */
static void search_row(struct slab *s, size_t r)
{
    const float *x = s->weight + r * s->n;
    const struct dtype_info *t = s->c->t;
    unsigned char *to = s->blocks + r * dtype_bytes(s->c->type, s->n);
    double mean = 0;
    float weight[BLOCK_MOST];
    for (size_t i = 0; i < s->n; i++) mean += (double)x[i] * (double)x[i] / (double)s->n;
    for (size_t at = 0; at < s->n; at += t->block, to += t->bytes) {
        for (size_t i = 0; i < t->block && s->m->importance; i++)
            weight[i] = (float)((double)s->m->importance[at + i] * sqrt(mean + (double)x[at + i] * (double)x[at + i]));
        encode_search(s->c->type, x + at, s->m->importance ? weight : NULL, to, t->block);
    }
}

/* ---- errors --------------------------------------------------------------------------------- */

/* e, column by column, of the blocks; of the weights themselves where there are no blocks. */
static void errors_of(const struct slab *s, float *e)
{
    const struct dtype_info *t = s->c->t;
    float x[BLOCK_MOST] = { 0 };
    for (size_t r = 0; r < s->rows; r++)
        for (size_t at = 0; at < s->n; at += t->block) {
            if (s->blocks) t->decode(s->blocks + (r * s->n + at) / t->block * t->bytes, x, t->block);
            for (size_t i = 0; i < t->block; i++)
                e[(at + i) * s->rows + r] = s->weight[r * s->n + at + i] - x[i];
        }
}

void slab_slope(struct slab *s, const float *h, float *e)
{
    errors_of(s, e);
    memset(s->slope, 0, s->rows * s->n * sizeof *s->slope);
    workers_outer(s->w, e, s->rows, h, s->n, s->rows, s->n, s->n, 1, s->slope, s->n, 0);
}

/* e H e^T summed over the rows, H a mean over what was seen. */
static double error_of(struct slab *s, float *e)
{
    double sum = 0;
    if (s->m->gram) slab_slope(s, s->m->gram, e);
    else errors_of(s, e);
    for (size_t r = 0; r < s->rows; r++)
        for (size_t i = 0; i < s->n; i++) {
            double v = (double)e[i * s->rows + r];
            if (s->m->gram) sum += v * (double)s->slope[r * s->n + i] / (double)s->m->rows;
            else sum += v * v * (s->m->importance ? (double)s->m->importance[i] : 1);
        }
    return sum;
}

/* ---- slabs ---------------------------------------------------------------------------------- */

struct room { double *work, *errors; float *local, *slope, *delta, *e; };

static void room_drop(struct room *k)
{
    mem_free(k->work);
    mem_free(k->errors);
    mem_free(k->local);
    mem_free(k->slope);
    mem_free(k->delta);
    mem_free(k->e);
}

static stretto_status room_take(struct room *k, const struct codec *c, size_t rows, size_t n, struct error *err)
{
    *k = (struct room){ .work = mem_alloc(rows * n * sizeof *k->work),
                        .errors = mem_alloc(c->unit * rows * sizeof *k->errors),
                        .local = mem_alloc(n * c->group * sizeof *k->local),
                        .slope = mem_alloc(rows * n * sizeof *k->slope),
                        .delta = mem_alloc(c->unit * rows * sizeof *k->delta),
                        .e = mem_alloc(rows * n * sizeof *k->e) };
    if (k->work && k->errors && k->local && k->slope && k->delta && k->e) return STRETTO_OK;
    room_drop(k);
    return fail(err, STRETTO_E_NOMEM, "no memory to write rows of %zu numbers", n);
}

/* The factor within each group, as many scales at once read it. */
static void take_local(const struct metric *m, const struct codec *c, float *local)
{
    for (size_t at = 0; at < m->n; at++)
        for (size_t j = 0; j < c->group; j++) {
            double u = m->u[at * m->n + at / c->group * c->group + j];
            local[at * c->group + j] = (float)(j == at % c->group ? 1 / u : u);
        }
}

static void write_slab(struct slab *s, float *e)
{
    enum encode_method method = s->m->o.method;
    if (method == ENCODE_PLAIN || method == ENCODE_RTN) slab_each(s, plain_row);
    else if (method == ENCODE_SEARCH || !s->m->gram) slab_each(s, search_row);
    else {
        slab_follow(s);
        if (!s->m->o.sweeps) return;
        slab_slope(s, s->m->h, e);
        slab_sweep(s, s->m->o.sweeps);
    }
}

/* ---- the report ----------------------------------------------------------------------------- */

static void report_on(struct slab *s, float *e, unsigned char *other, double by, struct encode_report *report)
{
    report->kept = by * error_of(s, e);
    s->blocks = other;
    slab_each(s, plain_row);
    report->plain = by * error_of(s, e);
    slab_each(s, search_row);
    report->searched = by * error_of(s, e);
    s->blocks = NULL;
    report->whole = by * error_of(s, e);
}

/* Rows evenly spread over the weight stand for all. */
static stretto_status report_rows(struct workers *w, const struct metric *m, const struct codec *c, const float *weight,
                                  size_t rows, const unsigned char *blocks, struct encode_report *report,
                                  struct error *err)
{
    size_t n = m->n, some = rows < REPORT_ROWS ? rows : REPORT_ROWS, bytes = dtype_bytes(c->type, n);
    float *room = mem_alloc(3 * some * n * sizeof *room);
    unsigned char *of = mem_alloc(2 * some * bytes);
    for (size_t r = 0; r < some && room && of; r++) {
        size_t from = r * rows / some;
        memcpy(room + r * n, weight + from * n, n * sizeof *room);
        memcpy(of + r * bytes, blocks + from * bytes, bytes);
    }
    struct slab s = { .w = w, .m = m, .c = c, .weight = room, .blocks = of, .rows = some, .n = n };
    if (room && of) {
        s.slope = room + some * n;
        report_on(&s, room + 2 * some * n, of + some * bytes, (double)rows / (double)some, report);
    }
    mem_free(room);
    mem_free(of);
    return room && of ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "no memory to compare rows of %zu numbers", n);
}

/* ---- whole weights -------------------------------------------------------------------------- */

static stretto_status check(const struct metric *m, enum dtype t, const float *weight, size_t rows, struct error *err)
{
    if ((unsigned)t >= DT_COUNT || dtype_table[t].block <= 1)
        return fail(err, STRETTO_E_ARG, "this type has no blocks of codes");
    if (m->n % dtype_table[t].block)
        return fail(err, STRETTO_E_ARG, "rows of %u numbers are no whole blocks of %s", m->n, dtype_table[t].name);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < m->n; i++)
            if (!isfinite(weight[r * m->n + i]))
                return fail(err, STRETTO_E_FORMAT, "row %zu holds a value that is no finite number", r);
    return STRETTO_OK;
}

stretto_status feedback_encode(struct workers *w, struct metric *m, enum dtype t, const float *weight, size_t rows,
                               void *blocks, struct encode_report *report, struct error *err)
{
    TRY(check(m, t, weight, rows, err));
    struct codec c = codec_of(t);
    if (m->o.method == ENCODE_RTN && rtn_type(m->o.bits) == t) {
        TRY(rtn_encode(m->o.bits, m->o.share, weight, rows, m->n, blocks, err));
        return report ? report_rows(w, m, &c, weight, rows, blocks, report, err) : STRETTO_OK;
    }
    size_t n = m->n, most = SLAB_NUMBERS / n + 1;
    most = most < 64 ? 64 : most > SLAB_ROWS ? SLAB_ROWS : most;
    most = rows < most ? rows : most;
    bool factor = m->gram && m->o.method == ENCODE_FEEDBACK;
    if (factor) TRY(metric_factor(m, w, c.unit, c.group, err));
    struct room k;
    TRY(room_take(&k, &c, most, n, err));
    if (factor) take_local(m, &c, k.local);
    for (size_t at = 0; at < rows; at += most) {
        struct slab s = { .w = w, .m = m, .c = &c, .weight = weight + at * n, .n = n,
                          .blocks = (unsigned char *)blocks + at * dtype_bytes(t, n),
                          .rows = rows - at < most ? rows - at : most, .work = k.work, .errors = k.errors,
                          .local = k.local, .slope = k.slope, .delta = k.delta };
        write_slab(&s, k.e);
    }
    room_drop(&k);
    return report ? report_rows(w, m, &c, weight, rows, blocks, report, err) : STRETTO_OK;
}
