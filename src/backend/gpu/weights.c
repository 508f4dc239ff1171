/* Upload: weights of linear layers become panels, packed by this machine's threads into pinned memory a
 * piece at a time, while the piece before goes over; vectors become float32 in one piece of memory; tables
 * for lookups stay in the file. */
#include "backend/gpu/program.h"
#include "backend/params.h"
#include "base/memory.h"
#include "cluster/team.h"
#include <string.h>

enum { PIECE = 32 << 20 };             /* bytes that are packed and sent together                   */

struct upload {
    struct weights *w;
    struct param_bytes *src;           /* [n]                                                       */
    bool *linear, *table;              /* [n]                                                       */
    const struct upload_options *o;
    unsigned threads;
    float *scratch[TEAM_MAX];
    unsigned char *piece[2];           /* pinned                                                    */
    size_t piece_bytes;
    uint64_t done, total;
    struct error *err;
    /* the piece being packed */
    const struct param_bytes *from;
    const struct weight *to;
    unsigned char *into;
    uint32_t first, n;
    atomic_uint ticket;
};

static void pack_thread(void *arg, unsigned rank)
{
    struct upload *u = arg;
    const struct weight *w = u->to;
    float *scratch = u->scratch[rank];
    for (uint32_t i; (i = atomic_fetch_add(&u->ticket, 1)) < u->n;) {
        uint32_t panel = u->first + i, col = panel * PANEL_COLS;
        uint32_t cols = w->n_out - col < PANEL_COLS ? w->n_out - col : PANEL_COLS;
        struct linear_columns c = param_columns(u->from, col, cols, scratch + (size_t)PANEL_COLS * w->n_in);
        columns_pack(&c, w->type, w->n_in, scratch, u->into + i * w->panel_bytes);
        param_release(u->from, panel, w->n_panels);
    }
}

/* A piece goes over. The one before has gone: its memory is free for the next. */
static stretto_status send_piece(struct upload *u, struct weight *w)
{
    struct gpu_device *d = u->w->device;
    pthread_mutex_lock(&d->lock);
    stretto_status s = d->driver->finish(d->card, u->err);
    if (s == STRETTO_OK)
        s = d->driver->write(d->card, w->panels, (uint64_t)u->first * w->panel_bytes, u->into,
                             u->n * w->panel_bytes, u->err);
    pthread_mutex_unlock(&d->lock);
    return s;
}

static stretto_status send(struct upload *u, struct weight *w, const struct param_bytes *from)
{
    uint32_t at_once = (uint32_t)(u->piece_bytes / w->panel_bytes);
    u->to = w;
    u->from = from;
    for (u->first = 0; u->first < w->n_panels; u->first += u->n) {
        if (u->o->cancel && *u->o->cancel) return fail(u->err, STRETTO_E_CANCEL, "loading was cancelled");
        u->n = w->n_panels - u->first < at_once ? w->n_panels - u->first : at_once;
        u->into = u->piece[0];
        atomic_store(&u->ticket, 0);
        team_run(u->w->device->team, u->threads, pack_thread, u);
        TRY(send_piece(u, w));
        u->piece[0] = u->piece[1];
        u->piece[1] = u->into;
        u->done += u->n * w->panel_bytes;
        if (u->o->progress) u->o->progress(u->o->ud, u->done, u->total);
    }
    return STRETTO_OK;
}

/* The kernels of a type, and whether prompt rows have an arithmetic of their own. */
static stretto_status kernels_of(struct gpu_device *d, enum dtype t, bool *given, struct error *err)
{
    if (!d->linear[t]) TRY(gpu_linear_open(d, t, &d->linear[t], err));
    *given = gpu_linear_given(d->linear[t]);
    return STRETTO_OK;
}

/* What every parameter becomes, and how many bytes that is. */
static stretto_status shape(struct upload *u, const struct graph *g, uint64_t *vectors)
{
    struct weights *w = u->w;
    *vectors = 0;
    for (size_t i = 0; i < w->n; i++) {
        const struct param_bytes *s = &u->src[i];
        struct weight *x = &w->weight[i];
        TRY(param_check(s, g->params[i].name, u->err));
        *x = (struct weight){ .n_in = s->n_in, .n_out = s->n_out, .vector = -1 };
        if (u->table[i]) x->table = *s;
        if (u->linear[i]) {
            x->type = w->reference ? DT_F32 : s->type;
            bool codes = dtype_table[x->type].block > 1, given;
            TRY(kernels_of(w->device, x->type, &given, u->err));
            x->forms = (uint8_t)((codes ? FORM_CODES : 0) | (codes && !given ? FORM_CODES_GIVEN : 0) |
                                 (given ? FORM_BF16 : 0));
            x->panel_bytes = panel_bytes(x->type, s->n_in);
            x->n_panels = (s->n_out + PANEL_COLS - 1) / PANEL_COLS;
            u->total += x->panel_bytes * x->n_panels;
            if (x->panel_bytes > u->piece_bytes) u->piece_bytes = x->panel_bytes;
        } else if (!u->table[i]) {
            x->vector = (int32_t)*vectors;
            *vectors += (s->n_in + 15) / 16 * 16;
        }
    }
    w->bytes = u->total + *vectors * sizeof(float);
    return STRETTO_OK;
}

static stretto_status send_vectors(struct upload *u, uint64_t n)
{
    struct weights *w = u->w;
    const struct gpu_driver *v = w->device->driver;
    if (!n) n = 16;                    /* kernels take a piece of memory in any case */
    float *all = mem_zalloc(n, sizeof *all);
    if (!all) return fail(u->err, STRETTO_E_NOMEM, "out of memory while loading");
    stretto_status s = v->alloc(w->device->card, n * sizeof *all, &w->vectors, u->err);
    for (size_t i = 0; s == STRETTO_OK && i < w->n; i++)
        if (w->weight[i].vector >= 0) s = param_vector(&u->src[i], all + w->weight[i].vector);
    if (s == STRETTO_OK) s = v->write(w->device->card, w->vectors, 0, all, n * sizeof *all, u->err);
    if (s == STRETTO_OK) s = v->finish(w->device->card, u->err);
    mem_free(all);
    return s;
}

static stretto_status take_scratch(struct upload *u)
{
    size_t column = 0;
    for (size_t i = 0; i < u->w->n; i++)
        if (u->linear[i] && u->w->weight[i].n_in > column) column = u->w->weight[i].n_in;
    u->threads = u->o->threads ? u->o->threads : team_size(u->w->device->team);
    TRY(team_grow(u->w->device->team, u->threads, u->err));
    for (unsigned r = 0; r < u->threads; r++)
        if (!(u->scratch[r] = mem_alloc((2 * PANEL_COLS * column + 1) * sizeof(float))))
            return fail(u->err, STRETTO_E_NOMEM, "out of memory while packing weights");
    for (int i = 0; i < 2; i++)
        TRY(u->w->device->driver->host_alloc(u->w->device->card, u->piece_bytes, (void **)&u->piece[i],
                                             u->err));
    return STRETTO_OK;
}

#define FOR_FEWER \
    " on the card: have fewer layers there (-ngl), close what else uses it, or take a smaller model or a " \
    "file with fewer bits per weight"

static stretto_status upload_linear(struct upload *u, size_t i)
{
    struct gpu_device *d = u->w->device;
    struct weight *x = &u->w->weight[i];
    if (!u->linear[i]) return STRETTO_OK;
    struct error own = { 0 };
    pthread_mutex_lock(&d->lock);
    stretto_status s = d->driver->alloc(d->card, x->panel_bytes * x->n_panels, &x->panels, &own);
    pthread_mutex_unlock(&d->lock);
    if (s == STRETTO_OK) return send(u, x, &u->src[i]);
    return fail(u->err, s, s == STRETTO_E_NOMEM ? "%s: no room for the weights" FOR_FEWER : "%s", own.text);
}

/* Engines on the same card step between pieces: the lock is held only while the card is talked to. */
static stretto_status upload_all(struct upload *u, const struct graph *g)
{
    struct weights *w = u->w;
    struct gpu_device *d = w->device;
    struct error none = { 0 };
    uint64_t vectors;
    u->piece_bytes = PIECE;
    pthread_mutex_lock(&d->lock);
    stretto_status s = gpu_not_opened(d, shape(u, g, &vectors), u->err);
    pthread_mutex_unlock(&d->lock);
    TRY(s);
    if (u->piece_bytes > u->total && u->total) u->piece_bytes = u->total;
    TRY(params_fit(w->bytes, d->device.backend->memory(&d->device), w->reference,
                   FOR_FEWER, u->err));
    w->taken = w->bytes;
    atomic_fetch_add(&d->taken, w->taken);
    pthread_mutex_lock(&d->lock);
    s = take_scratch(u);
    if (s == STRETTO_OK) s = send_vectors(u, vectors);
    pthread_mutex_unlock(&d->lock);
    for (size_t i = 0; s == STRETTO_OK && i < w->n; i++) s = upload_linear(u, i);
    pthread_mutex_lock(&d->lock);
    stretto_status end = d->driver->finish(d->card, s == STRETTO_OK ? u->err : &none); /* pieces are still going over */
    if (s == STRETTO_OK) s = end;
    for (int i = 0; i < 2; i++) d->driver->host_free(d->card, u->piece[i]);
    s = gpu_failed(d, s, u->err);
    pthread_mutex_unlock(&d->lock);
    return s;
}

stretto_status gpu_upload(struct weights **out, struct device *on, const struct graph *g,
                          const struct binding *b, const struct upload_options *o, struct error *err)
{
    struct error own = { 0 };
    size_t n = g->n_params;
    struct weights *w = mem_zalloc(1, sizeof *w);
    struct upload *u = mem_zalloc(1, sizeof *u);
    struct param_bytes *src = mem_zalloc(n + 1, sizeof *src);
    bool *use = mem_zalloc(2 * n + 1, sizeof *use);
    if (w) w->weight = mem_zalloc(n + 1, sizeof *w->weight);
    stretto_status s = STRETTO_OK;
    if (!w || !u || !src || !use || !w->weight) s = fail(err, STRETTO_E_NOMEM, "out of memory while loading");
    else {
        w->device = (struct gpu_device *)(void *)on;
        device_hold(on);
        w->n = n;
        w->reference = o->reference;
        *u = (struct upload){ .w = w, .src = src, .linear = use, .table = use + n, .o = o,
                              .err = err ? err : &own };
        params_used(g, u->linear, u->table);
        for (size_t i = 0; i < n && s == STRETTO_OK; i++)
            s = b->find(b->ud, g->params[i].name, g->params[i].n_in, g->params[i].n_out, &src[i], err);
        if (s == STRETTO_OK) s = upload_all(u, g);
        for (unsigned r = 0; r < TEAM_MAX; r++) mem_free(u->scratch[r]);
    }
    mem_free(u);
    mem_free(src);
    mem_free(use);
    if (s != STRETTO_OK) gpu_weights_close(w);
    else *out = w;
    return s;
}

void gpu_weights_close(struct weights *w)
{
    if (!w) return;
    if (w->device) {
        pthread_mutex_lock(&w->device->lock);
        for (size_t i = 0; w->weight && i < w->n; i++) w->device->driver->free(w->weight[i].panels);
        w->device->driver->free(w->vectors);
        pthread_mutex_unlock(&w->device->lock);
        atomic_fetch_sub(&w->device->taken, w->taken);
        device_drop(&w->device->device);
    }
    mem_free(w->weight);
    mem_free(w);
}

uint64_t gpu_weights_bytes(const struct weights *w) { return w->bytes; }
