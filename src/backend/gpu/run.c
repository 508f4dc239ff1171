/* A step on a card: the step's words go over in one copy, the phases are enqueued (or a tape of them is
 * repeated), answers come back. */
#include "backend/gpu/program.h"
#include "backend/gpu/kernels/words.h"
#include "backend/gpu/profile.h"
#include "backend/input.h"
#include <string.h>

/* ---- phases --------------------------------------------------------------------------------- */

static uint32_t rows_of(const struct shape *x, enum rows_kind kind)
{
    return kind == ROWS_ASKING ? x->asks : x->rows;
}

static struct gpu_linear_job job_of(const struct program *p, int32_t value, enum rows_kind rows,
                                    const struct shape *x)
{
    const struct value_place *in = &p->low.place[value];
    return (struct gpu_linear_job){
        .n_in = p->g->values[value].width,
        .in = gpu_words(in->f), .in_ld = (uint32_t)in->ld,
        .q = gpu_words(in->q), .q_ld = gpu_words(in->ldq),
        .d = gpu_words(in->d), .s = gpu_words(in->s), .d_ld = (uint32_t)in->ldd,
        .h = gpu_words(in->h), .h_ld = gpu_words(in->ldq * sizeof(uint16_t)),
        .count_word = rows == ROWS_ASKING ? STEP_ASKS : STEP_ROWS,
        .most_rows = rows_of(x, rows),
    };
}

/* Prompt rows that have an arithmetic of their own are a launch of their own. */
static stretto_status run_job(struct program *p, enum dtype type, struct gpu_linear_job *j, const struct shape *x,
                              struct error *err)
{
    struct gpu_linear *l = p->device->linear[type];
    if (!j->n_parts) return STRETTO_OK;
    bool own = (x->roles & HAS_GIVEN) && !p->limits.strict && gpu_linear_given(l);
    j->roles = own ? GPU_WRITTEN : GPU_ALL;
    if (!own || (x->roles & HAS_WRITTEN)) TRY(gpu_linear_run(p->device, l, &p->places, j, err));
    j->roles = GPU_GIVEN;
    if (own) TRY(gpu_linear_run(p->device, l, &p->places, j, err));
    j->n_parts = 0;
    return STRETTO_OK;
}

/* Neighbouring parts of one type go together. */
static stretto_status linear(struct program *p, const struct phase *ph, const struct shape *x,
                             struct error *err)
{
    struct gpu_linear_job j = job_of(p, ph->part[0].in, ph->rows, x);
    enum dtype type = DT_F32;
    for (uint32_t i = 0; i < ph->n_parts; i++) {
        const struct weight *w = &p->w->weight[ph->part[i].param];
        const struct value_place *to = &p->low.place[ph->part[i].out];
        if (w->type != type || j.n_parts == GPU_PARTS) TRY(run_job(p, type, &j, x, err));
        type = w->type;
        j.part[j.n_parts++] = (struct gpu_part){ w->panels, w->n_panels, gpu_words(to->f), (uint32_t)to->ld };
    }
    return run_job(p, type, &j, x, err);
}

static stretto_status attention(struct program *p, const struct phase *ph, const struct shape *x,
                                struct error *err)
{
    const struct graph_node *n = ph->node;
    const struct value_place *q = &p->low.place[node_in(p->g, n, 0)], *out = &p->low.place[n->out];
    struct gpu_attention_job j = {
        .node = n, .group = &p->g->group[n->attention.group], .pool = p->pool[n->attention.group],
        .partial = p->partial, .q = gpu_words(q->f), .q_ld = (uint32_t)q->ld, .out = gpu_words(out->f),
        .out_ld = (uint32_t)out->ld, .most_tiles = x->tiles, .tile_rows = x->tile_rows, .most_rows = x->rows,
        .most_sees = x->sees, .partial_bytes = p->partial_bytes,
    };
    return gpu_attention_run(p->device, p->device->attention[p->limits.cache], &p->places, &j, err);
}

/* ---- the head ------------------------------------------------------------------------------- */

/* Rows first .. first + n of logits to a value that the graph reads, or from it. */
static stretto_status logits_copy(struct program *p, int32_t v, uint32_t first, uint32_t n, bool back,
                                  struct error *err)
{
    const struct gpu_driver *d = p->device->driver;
    struct gpu_memory *m = p->places.activations;
    size_t bytes = p->g->values[v].width * sizeof(float);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t here = ((uint64_t)p->logits + (uint64_t)i * p->logits_ld) * 4;
        uint64_t there = p->low.place[v].f + (uint64_t)(first + i) * p->low.place[v].ld * 4;
        TRY(d->copy(p->device->card, m, back ? there : here, m, back ? here : there, bytes, err));
    }
    return STRETTO_OK;
}

static stretto_status head_answers(struct program *p, struct gpu_head_job *j, int32_t bias, float cap,
                                   struct error *err)
{
    j->bias = bias;
    j->softcap = cap;
    return gpu_head_run(p->device, p->device->head, &p->places, j, err);
}

/* Up to GPU_HEAD_ROWS asks from `first` on. Values of the head that the graph reads, which is rare, are
 * copied out between the bias and the softcap. */
static stretto_status head_batch(struct program *p, const struct phase *ph, const struct shape *x,
                                 uint32_t first, uint32_t n, struct error *err)
{
    struct gpu_head_job j = { .logits = p->logits, .ld = p->logits_ld, .scratch = p->head_scratch,
                              .answers = p->answers, .vocab = p->g->values[p->g->logits].width,
                              .first_row = first, .rows = n, .top = x->top };
    float cap = ph->node ? ph->node->cap : 0;
    if (!ph->n_parts) {
        TRY(logits_copy(p, p->g->logits, first, n, true, err));
        return head_answers(p, &j, -1, 0, err);
    }
    int32_t bias = ph->part[0].bias == GRAPH_NONE ? -1 : p->w->weight[ph->part[0].bias].vector;
    const struct weight *w = &p->w->weight[ph->part[0].param];
    struct gpu_linear_job lin = job_of(p, ph->part[0].in, ROWS_ASKING, x);
    /* Answers stand by row: row `first` is the first of the batch's memory. */
    lin.part[0] = (struct gpu_part){ w->panels, w->n_panels, p->logits - first * p->logits_ld, p->logits_ld };
    lin.n_parts = 1;
    lin.first_row = first;
    lin.most_rows = n;
    TRY(run_job(p, w->type, &lin, x, err));
    if (ph->part[0].out != GRAPH_NONE) {
        TRY(head_answers(p, &j, bias, 0, err));
        TRY(logits_copy(p, ph->part[0].out, first, n, false, err));
        bias = -1;
        if (!ph->node) return STRETTO_OK;
    }
    TRY(head_answers(p, &j, bias, cap, err));
    return ph->capped == GRAPH_NONE ? STRETTO_OK : logits_copy(p, ph->capped, first, n, false, err);
}

/* Logits that were asked for leave before the next batch takes their place. */
static stretto_status logits_read(struct program *p, uint32_t first, uint32_t n, struct error *err)
{
    const struct step *s = p->step;
    if (!s->n_heads) return STRETTO_OK;    /* a graph without logits has none */
    size_t bytes = p->g->values[p->g->logits].width * sizeof(float);
    for (uint32_t i = first; i < first + n && i < s->n_heads; i++)
        if (s->ask_wants[i] & WANT_LOGITS)
            TRY(p->device->driver->read(p->device->card, p->places.activations,
                                        ((uint64_t)p->logits + (uint64_t)(i - first) * p->logits_ld) * 4,
                                        p->to[i]->logits, bytes, err));
    return STRETTO_OK;
}

/* Where other nodes read the head's values, all rows that ask have some. */
static stretto_status head(struct program *p, const struct phase *ph, const struct shape *x, bool read,
                           struct error *err)
{
    uint32_t rows = p->low.ends_in_head ? x->heads : x->asks;
    for (uint32_t first = 0, n; first < rows; first += n) {
        n = rows - first < GPU_HEAD_ROWS ? rows - first : GPU_HEAD_ROWS;
        TRY(head_batch(p, ph, x, first, n, err));
        if (read) TRY(logits_read(p, first, n, err));
    }
    return STRETTO_OK;
}

/* ---- the walk ------------------------------------------------------------------------------- */

static stretto_status phase(struct program *p, size_t i, const struct shape *x, bool read, struct error *err)
{
    const struct phase *ph = &p->low.phases[i];
    const struct row_pass *pass = &p->pass[i];
    if (ph->kind != PHASE_ATTENTION && rows_of(x, ph->rows) == 0) return STRETTO_OK;
    switch (ph->kind) {
    case PHASE_ROWS:
        if (!pass->count) return STRETTO_OK;
        return gpu_rows_run(p->device, p->device->rows[p->limits.cache], &p->places, pass->pool, pass->first,
                            pass->count, ph->rows == ROWS_ASKING, rows_of(x, ph->rows), err);
    case PHASE_LINEAR: return linear(p, ph, x, err);
    case PHASE_ATTENTION: return attention(p, ph, x, err);
    case PHASE_HEAD: return head(p, ph, x, read, err);
    default: return STRETTO_OK; /* training: refused when lowered */
    }
}

/* A step of many rows is asked whether to stop every so many phases, with the card waited for: work of
 * milliseconds, while a wait costs microseconds. */
enum { PIECE_ROWS = 64, PIECE_PHASES = 16 };

static stretto_status stopped(struct program *p, const struct shape *x, size_t phase, struct error *err)
{
    const struct step *s = p->step;
    if (!s->cancel) return STRETTO_OK;
    if (x->rows > PIECE_ROWS && phase % PIECE_PHASES == 0) TRY(p->device->driver->finish(p->device->card, err));
    return s->cancel(s->cancel_ud) ? fail(err, STRETTO_E_CANCEL, "the step was cancelled") : STRETTO_OK;
}

static stretto_status walk(struct program *p, const struct shape *x, bool recording, struct error *err)
{
    size_t n = p->low.n_phases - (!x->heads && p->low.ends_in_head);
    for (size_t i = 0; i < n; i++) {
        if (!recording) TRY(stopped(p, x, i, err));
        TRY(gpu_profile_mark(p, i, err));
        TRY(phase(p, i, x, !recording, err));
    }
    return gpu_profile_mark(p, n, err);
}

/* ---- tapes ---------------------------------------------------------------------------------- */

static uint32_t round_up(uint32_t n, uint32_t least)
{
    uint32_t r = least;
    while (r < n) r *= 2;
    return n ? r : 0;
}

/* The shape of the tape for steps like this; false: it has none. */
static bool tape_shape(const struct program *p, const struct shape *x, struct shape *out)
{
    if (!p->device->driver->replay || p->profile || x->rows > TAPE_ROWS || x->heads > GPU_HEAD_ROWS) return false;
    *out = (struct shape){ .rows = round_up(x->rows, 1), .asks = round_up(x->asks, 1),
                           .heads = round_up(x->heads, 1), .sees = round_up(x->sees, 4 * PAGE_SLOTS),
                           .top = x->top, .roles = x->roles };
    out->tiles = round_up(x->tiles, 1);
    out->tile_rows = round_up(x->tile_rows, 1);
    return out->rows <= p->limits.max_rows && out->asks <= p->limits.max_asks;
}

static stretto_status record(struct program *p, const struct shape *x, struct tape *t, struct error *err)
{
    const struct gpu_driver *v = p->device->driver;
    struct error none = { 0 };
    TRY(v->record_begin(p->device->card, err));
    stretto_status s = walk(p, x, true, err);
    stretto_status end = v->record_end(p->device->card, &t->tape, s == STRETTO_OK ? err : &none);
    if (s != STRETTO_OK) {
        v->tape_close(t->tape);
        return s;
    }
    TRY(end);
    t->shape = *x;
    p->n_tapes++;
    return STRETTO_OK;
}

/* A place for one more tape, TAPES where there is none: a text grows, and what its beginning needed is idle. */
static size_t tape_place(struct program *p)
{
    size_t oldest = 0;
    if (p->n_tapes < p->most_tapes) return p->n_tapes;
    for (size_t i = 1; i < p->n_tapes; i++)
        if (p->tape[i].used < p->tape[oldest].used) oldest = i;
    if (!p->n_tapes || p->n_steps - p->tape[oldest].used < TAPE_IDLE) return TAPES;
    p->device->driver->tape_close(p->tape[oldest].tape);
    p->tape[oldest] = p->tape[--p->n_tapes];
    return p->n_tapes;
}

/* Records a tape, where there is a place and memory for it: a step can do without. */
static stretto_status tape_add(struct program *p, const struct shape *x, struct error *err)
{
    struct error own = { 0 };
    size_t i = tape_place(p);
    if (i == TAPES) return STRETTO_OK;
    stretto_status s = record(p, x, &p->tape[i], &own);
    if (s == STRETTO_E_NOMEM) p->most_tapes = i;
    return s == STRETTO_OK || s == STRETTO_E_NOMEM ? STRETTO_OK : fail(err, s, "%s", own.text);
}

static struct tape *tape_find(struct program *p, const struct shape *x)
{
    for (size_t i = 0; i < p->n_tapes; i++)
        if (memcmp(&p->tape[i].shape, x, sizeof *x) == 0) return &p->tape[i];
    return NULL;
}

static stretto_status replay(struct program *p, const struct shape *x, struct error *err)
{
    struct tape *t = tape_find(p, x);
    if (!t) {
        TRY(tape_add(p, x, err));
        t = tape_find(p, x);
    }
    if (!t) return walk(p, x, false, err);
    t->used = p->n_steps;
    TRY(stopped(p, x, 0, err));
    TRY(p->device->driver->replay(p->device->card, t->tape, err));
    return logits_read(p, 0, (uint32_t)p->step->n_heads, err);
}

/* ---- answers -------------------------------------------------------------------------------- */

static float word_float(int32_t w)
{
    float f;
    memcpy(&f, &w, sizeof f);
    return f;
}

static stretto_status answers_read(struct program *p, struct error *err)
{
    const struct gpu_driver *v = p->device->driver;
    const struct step *s = p->step;
    if (s->n_heads)
        TRY(v->read(p->device->card, p->answers, 0, p->host_answers,
                    s->n_heads * GPU_ANSWER_WORDS * sizeof(int32_t), err));
    if (p->g->hidden == GRAPH_NONE) return STRETTO_OK;
    const struct value_place *h = &p->low.place[p->g->hidden];
    for (size_t i = 0; i < s->n_asks; i++)
        if (s->ask_wants[i] & WANT_HIDDEN)
            TRY(v->read(p->device->card, p->places.activations, h->f + i * h->ld * sizeof(float),
                        p->to[i]->hidden, p->g->values[p->g->hidden].width * sizeof(float), err));
    return STRETTO_OK;
}

static bool is_number(const float *x, size_t n)
{
    bool yes = true;
    for (size_t i = 0; i < n; i++) yes &= x[i] == x[i];
    return yes;
}

/* Each ask gets what it wants and a status of its own. */
static void answer(const struct program *p)
{
    const struct step *s = p->step;
    for (size_t i = 0; i < s->n_asks; i++) {
        struct answer *a = p->to[i];
        const int32_t *w = p->host_answers + i * GPU_ANSWER_WORDS;
        bool nan = (s->ask_wants[i] & WANT_OF_HEAD) && w[2];
        if (s->ask_wants[i] & WANT_BEST) a->best = w[0];
        for (int k = 0; (s->ask_wants[i] & WANT_TOP) && k < STEP_TOP; k++) {
            a->top.id[k] = w[4 + k];
            a->top.logit[k] = word_float(w[4 + STEP_TOP + k]);
        }
        if (s->ask_wants[i] & WANT_HIDDEN) nan |= !is_number(a->hidden, p->g->values[p->g->hidden].width);
        a->status = nan ? STRETTO_E_NAN : STRETTO_OK;
    }
}

static stretto_status run(struct program *p, struct error *err)
{
    const struct gpu_driver *v = p->device->driver;
    struct shape x, round;
    TRY(v->finish(p->device->card, err));          /* what moved slots may still read host_moves */
    p->n_moves = 0;
    p->n_steps++;
    size_t words = step_pack(p, p->step, &x);
    gpu_profile_begin(p);
    TRY(v->write(p->device->card, p->places.step, 0, p->host_step, words * sizeof(int32_t), err));
    if (tape_shape(p, &x, &round)) TRY(replay(p, &round, err));
    else TRY(walk(p, &x, false, err));
    TRY(answers_read(p, err));
    TRY(v->finish(p->device->card, err));
    answer(p);
    gpu_profile_end(p);
    return STRETTO_OK;
}

stretto_status gpu_run(struct program *p, const struct step *s, struct answer *const *answers,
                       struct error *err)
{
    struct error own = { 0 }, *e = err ? err : &own;
    TRY(input_check(p->g, &p->limits, s, e));
    pthread_mutex_lock(&p->device->lock);
    p->step = s;
    p->to = answers;
    stretto_status r = gpu_failed(p->device, run(p, e), e);
    if (r != STRETTO_OK) {             /* nothing may read or write the caller's memory any more */
        struct error none = { 0 };
        p->device->driver->finish(p->device->card, &none);
    }
    pthread_mutex_unlock(&p->device->lock);
    return r;
}
