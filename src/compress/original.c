/* See original.h. */
#include "compress/original.h"
#include "base/memory.h"
#include "compress/piece.h"

/* `at`: the set that is asked about. rows[set]: [tokens][width]. */
struct original {
    const struct model *m;
    struct device *device;
    const struct eval_set *set;
    size_t n, at;
    struct original_options o;
    uint32_t window;
    float **rows;
    struct piece *last;
    float *logits;                      /* [most][vocab] */
    uint32_t most;
};

/* Logits that are asked for at once take so much. */
enum { LOGITS_BYTES = 64 << 20, LEAST_ROWS = 16 };

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

static stretto_status open_layer(const struct original *x, uint32_t layer, struct piece **p, struct error *err)
{
    struct binding of_source = { (struct model *)(uintptr_t)x->m, model_param };
    uint32_t asks = layer + 1 == x->m->graph.layers ? x->most : x->window;
    return piece_open_step(p, x->device, &x->m->graph, layer, &of_source, x->window, asks, x->o.threads, err);
}

static stretto_status pass_set(const struct original *x, struct piece *p, uint32_t layer, size_t i, struct error *err)
{
    const struct eval_set *s = &x->set[i];
    for (size_t w = 0; w < s->n; w++) {
        float *rows = x->rows[i] + s->at[w] * x->m->config.width;
        TRY(piece_run(p, s->id + s->at[w], layer ? rows : NULL, (uint32_t)(s->at[w + 1] - s->at[w]), 0, rows, err));
    }
    return STRETTO_OK;
}

static stretto_status cancelled(const struct original *x, struct error *err)
{
    if (!x->o.cancel || !*x->o.cancel) return STRETTO_OK;
    error_clear(err);
    return fail(err, STRETTO_E_CANCEL, "interrupted while the original was read");
}

static stretto_status walk(struct original *x, struct error *err)
{
    uint32_t layers = x->m->graph.layers;
    for (uint32_t l = 0; l + 1 < layers; l++) {
        struct piece *p = NULL;
        TRY(cancelled(x, err));
        progress_tell(&x->o.progress, "reading with the original", l, layers);
        stretto_status s = open_layer(x, l, &p, err);
        for (size_t i = 0; i < x->n && s == STRETTO_OK; i++) s = pass_set(x, p, l, i, err);
        piece_close(p);
        TRY(s);
    }
    model_release(x->m);
    progress_tell(&x->o.progress, "reading with the original", layers, layers);
    return STRETTO_OK;
}

static stretto_status take(struct original *x, struct error *err)
{
    x->rows = mem_zalloc(x->n + 1, sizeof *x->rows);
    if (!x->rows) return no_memory(err);
    for (size_t i = 0; i < x->n; i++) {
        const struct eval_set *s = &x->set[i];
        x->rows[i] = mem_alloc(s->at[s->n] * x->m->config.width * sizeof(float));
        if (!x->rows[i]) return fail(err, STRETTO_E_NOMEM, "no memory for what the original makes of %zu tokens",
                                     s->at[s->n]);
        if (s->longest > x->window) x->window = s->longest;
    }
    uint32_t most = LOGITS_BYTES / (x->m->config.vocab * (uint32_t)sizeof(float));
    x->most = most < LEAST_ROWS ? LEAST_ROWS : most;
    if (x->most > x->window) x->most = x->window;
    return STRETTO_OK;
}

stretto_status original_open(struct original **out, const struct model *m, struct device *d,
                             const struct eval_set *set, size_t n, const struct original_options *o,
                             struct error *err)
{
    *out = NULL;
    struct original *x = mem_zalloc(1, sizeof *x);
    if (!x) return no_memory(err);
    *x = (struct original){ .m = m, .device = d, .set = set, .n = n, .o = *o };
    stretto_status s = take(x, err);
    if (s == STRETTO_OK) s = walk(x, err);
    if (s != STRETTO_OK) original_close(x);
    else *out = x;
    return s;
}

stretto_status original_wake(struct original *x, struct error *err)
{
    if (x->last) return STRETTO_OK;
    x->logits = mem_alloc((size_t)x->most * x->m->config.vocab * sizeof *x->logits);
    if (!x->logits) return no_memory(err);
    return open_layer(x, x->m->graph.layers - 1, &x->last, err);
}

void original_sleep(struct original *x)
{
    if (!x || (!x->last && !x->logits)) return;
    piece_close(x->last);
    mem_free(x->logits);
    model_release(x->m);
    x->last = NULL;
    x->logits = NULL;
}

void original_close(struct original *x)
{
    if (!x) return;
    original_sleep(x);
    for (size_t i = 0; x->rows && i < x->n; i++) mem_free(x->rows[i]);
    mem_free(x->rows);
    mem_free(x);
}

static stretto_status answer(void *ud, size_t w, uint32_t first, uint32_t end, const float **logits, struct error *err)
{
    const struct original *x = ud;
    const struct eval_set *s = &x->set[x->at];
    const float *rows = x->m->graph.layers > 1 ? x->rows[x->at] + s->at[w] * x->m->config.width : NULL;
    *logits = x->logits;
    return piece_run(x->last, s->id + s->at[w], rows, end, first, x->logits, err);
}

struct eval_base original_base(struct original *x, size_t set)
{
    x->at = set;
    return (struct eval_base){ answer, x, x->m->config.vocab, x->most };
}
