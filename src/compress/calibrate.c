/* The walk. The graph is cut before every layer (graph/partition.h); a piece is uploaded as float32, run over all
 * windows with a tap on what its linear layers read, and dropped. What follows the hidden state, the head, is cut
 * off: what it reads is the answer of the last piece. Steps hold whole windows, as many as fit STEP_ROWS rows; a
 * longer window of a causal model is read in several steps. */
#include "compress/calibrate.h"
#include "backend/backend.h"
#include "base/memory.h"
#include "compress/damage.h"
#include "graph/partition.h"
#include "graph/step.h"
#include <math.h>
#include <string.h>

enum { STEP_ROWS = 1024, COLUMNS = 64, ROWS = 64 };

/* What is read of one value. */
struct seen {
    int32_t value;               /* of the piece's graph */
    bool counted;                /* in the step that runs */
    struct input_stats s;
};

struct calibration {
    const struct model *m;
    struct binding b;
    struct calibrate_options o;
    struct device *device;
    struct graph whole;          /* the model's, without what follows the hidden state; shares its memory */
    const char *head;            /* the weight that reads the hidden state, or NULL */
    size_t tokens;
    uint32_t width, next, at;    /* the piece to go through next; the one that was seen last */
    bool broken;
    float *rows;                 /* [tokens][width] */

    struct graph_part part;      /* the piece seen last */
    struct seen *seen;
    const char **names;
    size_t n_seen, n_names;
    bool counting;

    /* A step, and what the largest of them needs. */
    size_t max_rows, max_seqs, max_pages, max_seq_pages;
    void *memory;
    int32_t *token, *position, *seq, *slot, *parent, *ask_row, *page, *page_at;
    uint8_t *given, *wants;
    struct step_seq *seqs;
    struct answer *answer, **answers;
    float *out;                  /* [max_rows][width] */
};

/* ---- statistics ----------------------------------------------------------------------------- */

static void stats_drop(struct calibration *c)
{
    for (size_t i = 0; i < c->n_seen; i++) {
        struct input_stats *s = &c->seen[i].s;
        mem_free(s->sum);
        mem_free(s->most);
        mem_unmap(s->gram, (size_t)s->n * s->n * sizeof *s->gram);
    }
    mem_free(c->seen);
    mem_free(c->names);
    c->seen = NULL;
    c->names = NULL;
    c->n_seen = c->n_names = 0;
    graph_part_done(&c->part);
    c->part = (struct graph_part){ 0 };
}

static struct seen *seen_find(const struct calibration *c, int32_t value)
{
    for (size_t i = 0; i < c->n_seen; i++)
        if (c->seen[i].value == value) return &c->seen[i];
    return NULL;
}

static bool stats_take(struct input_stats *s, uint32_t n, bool gram)
{
    *s = (struct input_stats){ .n = n };
    s->sum = mem_zalloc(2 * (size_t)n, sizeof *s->sum);
    s->most = mem_zalloc(n, sizeof *s->most);
    s->sum2 = s->sum ? s->sum + n : NULL;
    if (gram) s->gram = mem_map((size_t)n * n * sizeof *s->gram);
    return s->sum && s->most && (!gram || s->gram);
}

static stretto_status stats_add(struct calibration *c, int32_t value, const char *param, struct error *err)
{
    if (!seen_find(c, value)) {
        struct seen *x = &c->seen[c->n_seen++];
        x->value = value;
        uint32_t n = c->part.graph.values[value].width;
        if (!stats_take(&x->s, n, c->o.gram))
            return fail(err, STRETTO_E_NOMEM, "no memory for the statistics of %u channels%s", n,
                        c->o.gram ? ", which take 4 bytes for each pair of them" : "");
    }
    c->names[c->n_names++] = param;
    return STRETTO_OK;
}

/* Places for what the piece's linear layers read, and the head behind it. */
static stretto_status stats_open(struct calibration *c, struct error *err)
{
    const struct graph *g = &c->part.graph;
    bool last = c->next + 1 == calibration_pieces(c);
    c->seen = mem_zalloc(g->n_nodes + 1, sizeof *c->seen);
    c->names = mem_zalloc(g->n_nodes + 1, sizeof *c->names);
    if (!c->seen || !c->names) return fail(err, STRETTO_E_NOMEM, "no memory");
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        if (n->op == OP_LINEAR) TRY(stats_add(c, node_in(g, n, 0), g->params[node_param(g, n, 0)].name, err));
    }
    if (last && c->head) TRY(stats_add(c, g->hidden, c->head, err));
    return STRETTO_OK;
}

struct rows { struct input_stats *s; const float *x; size_t ld, n; };

/* A strip of channels over all rows, which ascend: sums do not depend on how rows come in steps. */
static void count_strip(void *ud, size_t index)
{
    const struct rows *r = ud;
    size_t from = index * COLUMNS, width = r->s->n - from < COLUMNS ? r->s->n - from : COLUMNS;
    double *sum = r->s->sum + from, *sum2 = r->s->sum2 + from;
    float *most = r->s->most + from;
    for (size_t i = 0; i < r->n; i++) {
        const float *x = r->x + i * r->ld + from;
        for (size_t j = 0; j < width; j++) {
            double v = (double)x[j];
            sum[j] += v;
            sum2[j] += v * v;
            most[j] = fabsf(x[j]) > most[j] ? fabsf(x[j]) : most[j];
        }
    }
}

static void count_rows(struct calibration *c, struct input_stats *s, const float *x, size_t ld, size_t n)
{
    struct rows r = { s, x, ld, n };
    s->rows += n;
    workers_each(c->o.workers, (s->n + COLUMNS - 1) / COLUMNS, count_strip, &r);
    if (s->gram) workers_outer(c->o.workers, x, ld, x, ld, s->n, s->n, n, 1, s->gram, s->n, 1);
}

static void tapped(void *ud, int32_t value, const float *x, size_t ld, size_t rows)
{
    struct calibration *c = ud;
    struct seen *s = seen_find(c, value);
    if (!s || s->counted) return;
    s->counted = true;
    count_rows(c, &s->s, x, ld, rows);
}

static void mirror_strip(void *ud, size_t index)
{
    struct input_stats *s = ud;
    size_t n = s->n, from = index * ROWS, end = from + ROWS < n ? from + ROWS : n;
    for (size_t j0 = 0; j0 < end; j0 += ROWS)
        for (size_t i = from; i < end; i++)
            for (size_t j = j0; j < j0 + ROWS && j < i; j++) s->gram[i * n + j] = s->gram[j * n + i];
}

/* Sums are kept as exactly as two float32 can say them, so that files hold all of them. */
static double two_floats(double x)
{
    double high = (double)(float)x;
    return high + (double)(float)(x - high);
}

static stretto_status stats_finish(struct calibration *c, struct error *err)
{
    for (size_t i = 0; i < c->n_seen; i++) {
        struct input_stats *s = &c->seen[i].s;
        double all = 0;
        for (uint32_t j = 0; j < s->n; j++) {
            s->sum[j] = two_floats(s->sum[j]);
            all += s->sum2[j] = two_floats(s->sum2[j]);
        }
        if (!isfinite(all))
            return damage_blame(c->m->source, fail(err, STRETTO_E_NAN, "calibration: what the linear layers of layer "
                                "%u read is no finite number; the text drives it out of range", c->next), err);
        if (s->gram) workers_each(c->o.workers, (s->n + ROWS - 1) / ROWS, mirror_strip, s);
    }
    return STRETTO_OK;
}

/* ---- steps ---------------------------------------------------------------------------------- */

static uint32_t window_tokens(const struct calibration *c, size_t w)
{
    return c->o.text.at[w + 1] - c->o.text.at[w];
}

static uint32_t pages_of(uint32_t tokens) { return (tokens + PAGE_SLOTS - 1) / PAGE_SLOTS; }

/* Where reading stands: window and token of it. */
struct place_in_text { size_t window; uint32_t done; };

/* Windows of the step that begins at `at`, and their rows: whole windows, or a piece of one. */
struct extent { size_t windows, rows, pages; };

static struct extent extent_at(const struct calibration *c, struct place_in_text at)
{
    struct extent e = { 0 };
    uint32_t left = window_tokens(c, at.window) - at.done;
    size_t most = c->whole.bidirectional && left > STEP_ROWS ? left : STEP_ROWS;
    e.windows = 1;
    e.rows = left < most ? left : most;
    e.pages = pages_of(window_tokens(c, at.window));
    if (at.done || e.rows < left) return e;
    for (size_t w = at.window + 1; w < c->o.text.n && e.rows + window_tokens(c, w) <= most; w++) {
        e.windows++;
        e.rows += window_tokens(c, w);
        e.pages += pages_of(window_tokens(c, w));
    }
    return e;
}

static void move_on(const struct calibration *c, struct place_in_text *at, struct extent e)
{
    at->done += (uint32_t)e.rows;
    if (e.windows == 1 && at->done < window_tokens(c, at->window)) return;
    *at = (struct place_in_text){ at->window + e.windows, 0 };
}

static size_t most(size_t a, size_t b) { return a > b ? a : b; }

static void measure_steps(struct calibration *c)
{
    for (size_t w = 0; w < c->o.text.n; w++)
        c->max_seq_pages = most(c->max_seq_pages, pages_of(window_tokens(c, w)));
    for (struct place_in_text at = { 0, 0 }; at.window < c->o.text.n;) {
        struct extent e = extent_at(c, at);
        c->max_rows = most(c->max_rows, e.rows);
        c->max_seqs = most(c->max_seqs, e.windows);
        c->max_pages = most(c->max_pages, e.pages);
        move_on(c, &at, e);
    }
}

static void take_step(struct calibration *c, struct arena *a)
{
    size_t n = c->max_rows;
    int32_t **const of_rows[] = { &c->token, &c->position, &c->seq, &c->slot, &c->parent, &c->ask_row };
    for (size_t i = 0; i < sizeof of_rows / sizeof *of_rows; i++) *of_rows[i] = arena_take(a, n * sizeof(int32_t));
    c->page = arena_take(a, c->max_pages * sizeof *c->page);
    c->page_at = arena_take(a, GRAPH_GROUPS * c->max_seqs * sizeof *c->page_at);
    c->given = arena_take(a, n);
    c->wants = arena_take(a, n);
    c->seqs = arena_take(a, c->max_seqs * sizeof *c->seqs);
    c->answer = arena_take(a, n * sizeof *c->answer);
    c->answers = arena_take(a, n * sizeof *c->answers);
    c->out = arena_take(a, n * c->width * sizeof *c->out);
}

static stretto_status open_step(struct calibration *c, struct error *err)
{
    struct arena a = { 0 };
    measure_steps(c);
    take_step(c, &a);
    size_t bytes = a.top;
    c->memory = mem_zalloc(1, bytes);
    if (!c->memory) return fail(err, STRETTO_E_NOMEM, "no memory for steps of %zu rows", c->max_rows);
    a = (struct arena){ .base = c->memory, .cap = bytes };
    take_step(c, &a);
    for (size_t i = 0; i < c->max_rows; i++) {
        c->given[i] = 1;
        c->wants[i] = WANT_HIDDEN;
        c->ask_row[i] = (int32_t)i;
        c->answer[i].hidden = c->out + i * c->width;
        c->answers[i] = &c->answer[i];
    }
    for (size_t i = 0; i < c->max_pages; i++) c->page[i] = (int32_t)i;
    return STRETTO_OK;
}

static bool cancelled(void *ud)
{
    const struct calibration *c = ud;
    return c->o.cancel && *c->o.cancel;
}

/* Rows of the windows at `at`; token ids, or the vectors that stand in c->rows. */
static struct step make_step(struct calibration *c, struct place_in_text at, struct extent e, bool ask)
{
    const struct calibration_text *t = &c->o.text;
    size_t row = 0, first = t->at[at.window] - t->at[0] + at.done;
    int32_t pages = 0;
    for (size_t s = 0; s < e.windows; s++) {
        uint32_t all = window_tokens(c, at.window + s), n = e.windows == 1 ? (uint32_t)e.rows : all;
        c->seqs[s] = (struct step_seq){ .committed = (int32_t)at.done, .first_row = (int32_t)row,
                                        .n_rows = (int32_t)n };
        for (uint32_t g = 0; g < c->part.graph.n_groups; g++) c->page_at[g * e.windows + s] = pages;
        pages += (int32_t)pages_of(all);
        for (uint32_t i = 0; i < n; i++, row++) {
            c->token[row] = c->next ? -1 - (int32_t)row : t->id[t->at[at.window + s] + at.done + i];
            c->position[row] = c->slot[row] = (int32_t)(at.done + i);
            c->seq[row] = (int32_t)s;
            c->parent[row] = i ? (int32_t)row - 1 : STEP_COMMITTED;
        }
    }
    return (struct step){
        .n_rows = e.rows, .n_seqs = e.windows, .n_asks = ask ? e.rows : 0, .token = c->token, .position = c->position,
        .seq = c->seq, .slot = c->slot, .parent = c->parent, .given = c->given,
        .vectors = c->next ? c->rows + first * c->width : NULL, .seqs = c->seqs, .ask_row = c->ask_row,
        .ask_wants = c->wants, .page = c->page, .page_at = c->page_at, .cancel = cancelled, .cancel_ud = c,
    };
}

static stretto_status check_answers(const struct calibration *c, size_t n, struct error *err)
{
    for (size_t i = 0; i < n; i++)
        if (c->answer[i].status != STRETTO_OK)
            return damage_blame(c->m->source, fail(err, c->answer[i].status, "calibration: layer %u answers what is "
                                "no number; the text drives it out of range", c->next), err);
    return STRETTO_OK;
}

static stretto_status run_step(struct calibration *c, struct program *p, struct place_in_text at, struct extent e,
                               bool go, struct error *err)
{
    bool last = c->next + 1 == calibration_pieces(c), ask = go || (last && c->head);
    struct step s = make_step(c, at, e, ask);
    for (size_t i = 0; i < c->n_seen; i++) c->seen[i].counted = false;
    TRY(device_run(c->device, p, &s, c->answers, err));
    TRY(check_answers(c, s.n_asks, err));
    struct seen *head = last && c->head && c->counting ? seen_find(c, c->part.graph.hidden) : NULL;
    if (head && !head->counted) count_rows(c, &head->s, c->out, c->width, e.rows);
    size_t first = c->o.text.at[at.window] - c->o.text.at[0] + at.done;
    if (go) memcpy(c->rows + first * c->width, c->out, e.rows * c->width * sizeof *c->out);
    return STRETTO_OK;
}

/* ---- pieces --------------------------------------------------------------------------------- */

static stretto_status compile(struct calibration *c, struct weights **w, struct program **p, struct error *err)
{
    struct upload_options up = { .threads = c->o.threads, .reference = true, .cancel = c->o.cancel };
    struct program_limits l = { .max_rows = (uint32_t)c->max_rows, .max_asks = (uint32_t)c->max_rows,
                                .max_seq_pages = (uint32_t)c->max_seq_pages,
                                .context = (uint32_t)c->max_seq_pages * PAGE_SLOTS, .cache = CACHE_F32, .strict = true,
                                .threads = c->o.threads };
    for (uint32_t g = 0; g < c->part.graph.n_groups; g++) l.max_pages[g] = (uint32_t)c->max_pages;
    TRY(device_upload(c->device, w, &c->part.graph, &c->b, &up, err));
    return device_compile(c->device, p, &c->part.graph, *w, &l, err);
}

static void tell(const struct calibration *c, size_t tokens)
{
    progress_tell(&c->o.progress, "calibrating", (uint64_t)c->next * c->tokens + tokens,
                  (uint64_t)calibration_pieces(c) * c->tokens);
}

static stretto_status run_windows(struct calibration *c, struct program *p, bool see, bool go, struct error *err)
{
    for (struct place_in_text at = { 0, 0 }; at.window < c->o.text.n;) {
        struct extent e = extent_at(c, at);
        TRY(run_step(c, p, at, e, go, err));
        move_on(c, &at, e);
        size_t done = at.window < c->o.text.n ? c->o.text.at[at.window] - c->o.text.at[0] + at.done : c->tokens;
        if (see || c->at != c->next) tell(c, done);
    }
    return STRETTO_OK;
}

static stretto_status walk(struct calibration *c, bool see, bool go, struct error *err)
{
    if (c->next >= calibration_pieces(c))
        return fail(err, STRETTO_E_ARG, "calibration is at the end of the model");
    if (c->broken) return fail(err, STRETTO_E_ARG, "calibration was interrupted: begin anew");
    struct weights *w = NULL;
    struct program *p = NULL;
    stats_drop(c);
    stretto_status s = graph_cut(&c->part, &c->whole, c->next, c->next + 1, err);
    if (s == STRETTO_OK && see) s = stats_open(c, err);
    if (s == STRETTO_OK) s = compile(c, &w, &p, err);
    if (s == STRETTO_OK) {
        c->counting = see;
        if (see) c->device->backend->tap(p, (struct program_tap){ tapped, c });
        s = run_windows(c, p, see, go, err);
        c->broken = go && s != STRETTO_OK;
    }
    if (s == STRETTO_OK && see) s = stats_finish(c, err);
    if (s == STRETTO_OK && see) c->at = c->next;
    if (s == STRETTO_OK && go) c->next++;
    if (p) c->device->backend->program_close(p);
    if (w) c->device->backend->weights_close(w);
    return s;
}

stretto_status calibration_see(struct calibration *c, struct error *err) { return walk(c, true, false, err); }

stretto_status calibration_go(struct calibration *c, bool see, struct error *err)
{
    return walk(c, see, true, err);
}

/* ---- opening -------------------------------------------------------------------------------- */

static bool is_read(const struct graph *g, int32_t v)
{
    if (v == g->hidden) return true;
    for (size_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; k < g->nodes[i].in.count; k++)
            if (node_in(g, &g->nodes[i], k) == v) return true;
    return false;
}

/* The graph up to the hidden state, and the head's weight where that is what it reads. */
static void cut_off_head(struct calibration *c)
{
    struct graph *g = &c->whole;
    *g = c->m->graph;
    if (g->logits != GRAPH_NONE) {
        const struct graph_node *n = &g->nodes[g->values[g->logits].made_by];
        if (n->op == OP_SOFTCAP) n = &g->nodes[g->values[node_in(g, n, 0)].made_by];
        if (n->op == OP_LINEAR && node_in(g, n, 0) == g->hidden) c->head = g->params[node_param(g, n, 0)].name;
    }
    g->logits = GRAPH_NONE;
    while (g->n_nodes && !is_read(g, g->nodes[g->n_nodes - 1].out)) g->n_nodes--;
}

static bool learns_positions(const struct graph *g)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == OP_EMBED && g->nodes[i].embed == EMBED_POSITION) return true;
    return false;
}

static stretto_status check_text(struct calibration *c, struct error *err)
{
    const struct calibration_text *t = &c->o.text;
    uint32_t context = c->m->config.context;
    bool bounded = context && (learns_positions(&c->whole) || c->whole.bidirectional);
    if (!t->n) return fail(err, STRETTO_E_ARG, "calibration needs text: there is not one window");
    for (size_t w = 0; w < t->n; w++) {
        if (t->at[w] >= t->at[w + 1])
            return fail(err, STRETTO_E_ARG, "calibration: window %zu is empty", w);
        if (bounded && t->at[w + 1] - t->at[w] > context)
            return fail(err, STRETTO_E_ARG, "calibration: a window of %u tokens, and the model has %u positions; "
                        "take shorter windows", t->at[w + 1] - t->at[w], context);
        for (uint32_t i = t->at[w]; i < t->at[w + 1]; i++)
            if (t->id[i] < 0 || (uint32_t)t->id[i] >= c->m->config.vocab)
                return fail(err, STRETTO_E_ARG, "calibration: token %d is not of the model's vocabulary of %u",
                            t->id[i], c->m->config.vocab);
    }
    c->tokens = t->at[t->n] - t->at[0];
    return STRETTO_OK;
}

static stretto_status begin(struct calibration *c, struct error *err)
{
    cut_off_head(c);
    if (c->whole.hidden == GRAPH_NONE || !c->whole.layers)
        return fail(err, STRETTO_E_UNSUP, "calibration: the model has no layers");
    c->width = c->whole.values[c->whole.hidden].width;
    for (uint32_t l = 1; l < c->whole.layers; l++) {
        size_t nodes;
        int32_t v;
        TRY(graph_cut_find(&c->whole, l, &nodes, &v, err));
        if (c->whole.values[v].width != c->width)
            return fail(err, STRETTO_E_UNSUP, "calibration: the rows between layers have not one width");
    }
    TRY(check_text(c, err));
    TRY(open_step(c, err));
    c->rows = mem_map(c->tokens * c->width * sizeof *c->rows);
    if (!c->rows)
        return fail(err, STRETTO_E_NOMEM, "no memory for %zu tokens of %u channels; take less text", c->tokens,
                    c->width);
    struct device_options on = { .level = c->o.level };
    TRY(backend_open("cpu", &on, &c->device, err));
    return STRETTO_OK;
}

stretto_status calibration_open(struct calibration **out, const struct model *m, const struct binding *b,
                                const struct calibrate_options *o, struct error *err)
{
    *out = NULL;
    struct calibration *c = mem_zalloc(1, sizeof *c);
    if (!c) return fail(err, STRETTO_E_NOMEM, "no memory");
    *c = (struct calibration){ .m = m, .b = *b, .o = *o, .at = UINT32_MAX };
    stretto_status s = begin(c, err);
    if (s != STRETTO_OK)
        calibration_close(c);
    else
        *out = c;
    return s;
}

void calibration_close(struct calibration *c)
{
    if (!c) return;
    stats_drop(c);
    mem_unmap(c->rows, c->tokens * c->width * sizeof *c->rows);
    mem_free(c->memory);
    if (c->device) device_close(c->device);
    mem_free(c);
}

uint32_t calibration_pieces(const struct calibration *c) { return c->whole.layers; }

uint32_t calibration_at(const struct calibration *c) { return c->at; }

size_t calibration_params(const struct calibration *c, const char *const **names)
{
    *names = c->names;
    return c->n_names;
}

const struct input_stats *calibration_stats(const struct calibration *c, const char *param)
{
    const struct graph *g = &c->part.graph;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        if (n->op != OP_LINEAR || strcmp(g->params[node_param(g, n, 0)].name, param) != 0) continue;
        const struct seen *s = seen_find(c, node_in(g, n, 0));
        return s ? &s->s : NULL;
    }
    if (!c->n_names || !c->head || strcmp(c->head, param) != 0 || c->names[c->n_names - 1] != c->head) return NULL;
    return &seen_find(c, g->hidden)->s;
}

const float *calibration_rows(const struct calibration *c, size_t *tokens, uint32_t *width)
{
    *tokens = c->tokens;
    *width = c->width;
    return c->next ? c->rows : NULL;
}
