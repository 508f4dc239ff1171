#include "compress/budget.h"
#include "base/hash.h"
#include "base/memory.h"
#include "compress/allocate.h"
#include "compress/journal.h"
#include "compress/prices.h"
#include "compress/squeeze_int.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* SAMPLE_ROWS of a weight are encoded in every type. Prices are asked on the first PROBE_TOKENS of PROBE_WINDOWS
 * texts, fewer where their answers take more than PROBE_BYTES; rows of weights that are tried beside each other take
 * BESIDE_BYTES. */
enum { SAMPLE_ROWS = 48, CHOICES = 10, PROBE_WINDOWS = 4, PROBE_TOKENS = 192, PROBE_LEAST = 64 };
#define PROBE_BYTES ((size_t)256 << 20)
#define BESIDE_BYTES ((size_t)128 << 20)
#define KEEP_BYTES ((uint64_t)6 << 30)  /* larger statistics are not kept: texts are read again */
#define NOTHING 1e-30                   /* no error; 0: not measured yet */
#define GUESS 0.3                       /* divergence for an error as large as the answers, where nothing is known */

/* error: e H e^T of the whole weight in each type; whole: w H w^T. price: divergence for one of error. */
struct weight { size_t row, n; enum dtype type[CHOICES]; double error[CHOICES], whole, price; };

struct budget {
    struct squeeze *s;
    struct weight *w;
    size_t n;
    double scale;                           /* of all expectations, by what was measured */
    struct choice *choices;                 /* [n][CHOICES] */
    struct part *parts;
    size_t *pick;
    char *stats, *notes;                    /* files that are kept, or NULL */
    uint64_t key;                           /* of what they belong to */
    struct journal journal;                 /* of errors, [n][CHOICES], then what was asked and `whole`, [n] each, then
                                               what others noted */
    double *asked;                          /* [n]; 0: not asked yet */
    double noted[BUDGET_NOTES];
    const double *rate;                     /* [DT_COUNT] seconds of an element, or NULL */
};

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

/* ---- which types ---------------------------------------------------------------------------- */

static double bits_of(enum dtype t) { return 8.0 * dtype_table[t].bytes / dtype_table[t].block; }

/* Of a weight that is rounded already: types of fewer bits, and as it is, which spoils nothing. */
static void list_types(struct weight *w, const struct squeeze_row *r, bool requantize)
{
    static const enum dtype wide[] = { DT_Q2_K, DT_Q3_K, DT_IQ4_XS, DT_Q4_K, DT_Q5_K, DT_Q6_K, DT_Q8_0 };
    static const enum dtype narrow[] = { DT_Q2_0, DT_MXFP4, DT_IQ4_NL, DT_Q4_1, DT_Q5_0, DT_Q5_1, DT_Q8_0 };
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

/* The type that prices are asked in: of those that spoil something the one nearest to 4.4 bits. w->n: there is none. */
static size_t middle(const struct weight *w)
{
    size_t best = w->n;
    for (size_t k = 0; k < w->n; k++)
        if (w->error[k] != NOTHING && w->type[k] != DT_MXFP4
            && (best == w->n || fabs(bits_of(w->type[k]) - 4.4) < fabs(bits_of(w->type[best]) - 4.4))) best = k;
    return best;
}

static stretto_status list_weights(struct budget *b, struct error *err)
{
    struct squeeze *s = b->s;
    b->w = mem_zalloc(s->n + 1, sizeof *b->w);
    b->choices = mem_zalloc((s->n + 1) * CHOICES, sizeof *b->choices);
    b->parts = mem_zalloc(s->n + 1, sizeof *b->parts);
    b->pick = mem_zalloc(s->n + 1, sizeof *b->pick);
    b->asked = mem_zalloc(s->n + 1, sizeof *b->asked);
    if (!b->w || !b->choices || !b->parts || !b->pick || !b->asked) return no_memory(err);
    for (size_t i = 0; i < s->n; i++) {
        const struct squeeze_row *r = &s->rows[i];
        if (r->role == WEIGHT_NONE || r->fixed) continue;
        struct weight *w = &b->w[b->n];
        list_types(w, r, s->o.requantize);
        if (!w->n) continue;
        w->row = i;
        b->n++;
    }
    return b->n ? STRETTO_OK : fail(err, STRETTO_E_ARG, "no weight of the model fits blocks of codes");
}

/* ---- what is kept --------------------------------------------------------------------------- */

/* Of the model, the texts and the ways to encode: what was measured with others is not believed. */
static uint64_t key_of(const struct budget *b)
{
    const struct squeeze *s = b->s;
    uint64_t h = squeeze_source_key(s, s->windows.hash ^ (uint64_t)s->o.method);
    for (size_t i = 0; i < b->n; i++) h = hash_bytes(h ^ b->w[i].row, b->w[i].type, sizeof b->w[i].type);
    return s->o.statistics ? hash_text(h, s->o.statistics) : h;
}

static uint64_t bits_as_hash(double v) { uint64_t h; memcpy(&h, &v, sizeof h); return h; }

static stretto_status note(struct budget *b, size_t i, double v, struct error *err)
{
    return b->notes ? journal_add(&b->journal, i, bits_as_hash(v), err) : STRETTO_OK;
}

static void take_note(struct budget *b, size_t i, uint64_t hash)
{
    double v;
    memcpy(&v, &hash, sizeof v);
    if (!(v > 0) || !isfinite(v)) return;
    if (i >= b->n * (CHOICES + 2)) b->noted[i - b->n * (CHOICES + 2)] = v;
    else if (i >= b->n * (CHOICES + 1)) b->w[i - b->n * (CHOICES + 1)].whole = v;
    else if (i >= b->n * CHOICES) b->asked[i - b->n * CHOICES] = v;
    else if (b->w[i / CHOICES].error[i % CHOICES] == 0) b->w[i / CHOICES].error[i % CHOICES] = v;
}

static stretto_status open_notes(struct budget *b, struct error *err)
{
    size_t n = b->n * (CHOICES + 2) + BUDGET_NOTES;
    struct buffer text = buffer_make((size_t)1 << 25);
    unsigned char *listed = mem_alloc(n);
    uint64_t *hash = mem_alloc(n * sizeof *hash);
    stretto_status st = listed && hash ? journal_read(b->notes, &text, err) : no_memory(err);
    size_t keep = st == STRETTO_OK && text.len ? journal_parse(text.data, text.len, b->key, n, listed, hash) : 0;
    for (size_t i = 0; i < n && keep; i++)
        if (listed[i]) take_note(b, i, hash[i]);
    if (st == STRETTO_OK) st = journal_open(&b->journal, b->notes, keep, b->key, err);
    buffer_done(&text);
    mem_free(listed);
    mem_free(hash);
    return st;
}

static stretto_status open_kept(struct budget *b, const char *keep, struct error *err)
{
    b->key = key_of(b);
    if (!keep) return STRETTO_OK;
    size_t n = strlen(keep) + 8;
    b->stats = mem_alloc(n);
    b->notes = mem_alloc(n);
    if (!b->stats || !b->notes) return no_memory(err);
    snprintf(b->stats, n, "%s-stats", keep);
    snprintf(b->notes, n, "%s-notes", keep);
    return open_notes(b, err);
}

uint64_t budget_key(const struct budget *b) { return b->key; }

void budget_forget(struct budget *b, bool notes)
{
    if (!b || !b->notes) return;
    unlink(b->stats);
    if (notes) unlink(b->notes);
}

stretto_status budget_note(struct budget *b, size_t i, double v, struct error *err)
{
    b->noted[i] = v;
    return note(b, b->n * (CHOICES + 2) + i, v, err);
}

double budget_noted(const struct budget *b, size_t i) { return b->noted[i]; }

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

static stretto_status measure_weight(struct budget *b, size_t i, struct metric *m, size_t k, float *v,
                                     unsigned char *blocks, struct error *err)
{
    struct weight *w = &b->w[i];
    struct encode_report e = { 0 };
    size_t n = sample(b->s, w->row, v);
    TRY(feedback_encode(b->s->workers, m, w->type[k], v, n, blocks, &e, err));
    source_release(b->s->m->source, &b->s->stored[w->row]);
    double whole = (double)b->s->rows[w->row].rows / (double)n;
    w->error[k] = e.kept > 0 ? e.kept * whole : NOTHING;
    if (w->whole == 0) TRY(note(b, b->n * (CHOICES + 1) + i, w->whole = e.whole * whole, err));
    return note(b, i * CHOICES + k, w->error[k], err);
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
            if (reads) s = measure_weight(b, i, m, k, v, blocks, err);
        }
    metric_close(m);
    mem_free(v);
    mem_free(blocks);
    return s;
}

static bool is_measured(const struct weight *w)
{
    for (size_t k = 0; k < w->n; k++)
        if (w->error[k] == 0) return false;
    return true;
}

static stretto_status measure_given(struct budget *b, const struct giver *g, struct error *err)
{
    for (size_t i = 0; i < b->n; i++) {
        TRY(squeeze_cancelled(b->s, err));
        const struct input_stats *stats = stats_of(b, g, &b->w[i]);
        if (stats && stats->rows && !is_measured(&b->w[i]))
            TRY(measure_readers(b, g, stats, (uint32_t)b->s->rows[b->w[i].row].n_in, err));
        if (g->c) continue;
        if (stats) imatrix_release(stats);
        progress_tell(&b->s->o.progress, "measuring errors", i, b->n);
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
    char name[32];
    const char *const names = name;
    snprintf(name, sizeof name, "squeeze %016llx", (unsigned long long)b->key);
    struct imatrix_write_options wo = { .about = { &names, 1, (uint32_t)s->windows.n, s->o.window }, .gram = o.gram,
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

/* Statistics of an interrupted run. */
static bool has_kept(struct budget *b)
{
    char name[32];
    struct imatrix *x = NULL;
    if (!b->stats || access(b->stats, R_OK) != 0 || imatrix_open(&x, b->stats, NULL) != STRETTO_OK) return false;
    struct imatrix_about about = imatrix_about(x);
    snprintf(name, sizeof name, "squeeze %016llx", (unsigned long long)b->key);
    bool same = about.n_datasets == 1 && strcmp(about.datasets[0], name) == 0;
    imatrix_close(x);
    return same && squeeze_take_statistics(b->s, b->stats, NULL) == STRETTO_OK;
}

static stretto_status measure(struct budget *b, struct error *err)
{
    const struct giver nobody = { .c = NULL };
    bool given = b->s->statistics || has_kept(b);
    const struct giver g = { .x = b->s->statistics };
    TRY(given ? measure_given(b, &g, err) : walk(b, b->stats, err));
    /* Tables that are looked up only. */
    for (size_t i = 0; i < b->n; i++)
        if (!is_measured(&b->w[i]))
            TRY(measure_readers(b, &nobody, NULL, (uint32_t)b->s->rows[b->w[i].row].n_in, err));
    return STRETTO_OK;
}

static void plan(struct budget *b)
{
    for (size_t i = 0; i < b->n; i++) b->s->rows[b->w[i].row].to = b->w[i].type[b->pick[i]];
}

/* ---- prices --------------------------------------------------------------------------------- */

static bool is_probe(const struct squeeze *s, size_t w)
{
    return s->windows.at[w + 1] - s->windows.at[w] >= PROBE_LEAST;
}

/* The beginnings of windows that are learned from, the same distance apart; nothing of what is measured on. */
static stretto_status probe_texts(const struct squeeze *s, int32_t **id, uint32_t at[PROBE_WINDOWS + 1], size_t *n,
                                  struct error *err)
{
    size_t usable = 0, seen = 0, most = PROBE_BYTES / (s->m->config.vocab * sizeof(float)) / (PROBE_TOKENS / 2);
    most = most < 1 ? 1 : most > PROBE_WINDOWS ? PROBE_WINDOWS : most;
    *id = mem_alloc(PROBE_WINDOWS * PROBE_TOKENS * sizeof **id);
    if (!*id) return no_memory(err);
    for (size_t w = 0; w < s->windows.n; w++) usable += is_probe(s, w);
    *n = 0;
    at[0] = 0;
    for (size_t w = 0; w < s->windows.n && *n < most; w++) {
        bool taken = usable ? is_probe(s, w) && seen++ >= *n * usable / most : true;
        uint32_t have = s->windows.at[w + 1] - s->windows.at[w], take = have < PROBE_TOKENS ? have : PROBE_TOKENS;
        if (!taken || take < 2) continue;
        memcpy(*id + at[*n], s->windows.id + s->windows.at[w], take * sizeof **id);
        at[*n + 1] = at[*n] + take;
        ++*n;
    }
    return *n ? STRETTO_OK : fail(err, STRETTO_E_ARG, "the texts are too short to ask the model about");
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* What one of error relative to the answers costs, in the middle of all weights. */
static double usual(const struct budget *b)
{
    size_t n = 0;
    double *v = mem_alloc((b->n + 1) * sizeof *v), median = GUESS;
    for (size_t i = 0; v && i < b->n; i++) {
        size_t k = middle(&b->w[i]);
        if (k < b->w[i].n && b->asked[i] > 0) v[n++] = b->asked[i] * b->w[i].whole / b->w[i].error[k];
    }
    if (n) {
        qsort(v, n, sizeof *v, by_size);
        median = v[n / 2];
    }
    mem_free(v);
    return median;
}

static void set_choices(struct budget *b)
{
    double guess = usual(b);
    for (size_t i = 0; i < b->n; i++) {
        struct weight *w = &b->w[i];
        struct choice *c = b->choices + i * CHOICES;
        size_t m = middle(w);
        w->price = m == w->n ? 0 : b->asked[i] > 0 ? b->asked[i] / w->error[m] : w->whole > 0 ? guess / w->whole : 0;
        for (size_t k = 0; k < w->n; k++)
            c[k] = (struct choice){ (double)row_bytes_as(&b->s->rows[w->row], w->type[k]),
                                    w->error[k] <= NOTHING ? 0 : w->price * w->error[k] };
        b->parts[i] = (struct part){ c, w->n };
    }
}

static stretto_status ask(struct budget *b, const struct model *rounded, const struct calibration_text *text,
                          struct error *err)
{
    size_t *row = mem_alloc((b->n + 1) * sizeof *row), *at = mem_alloc((b->n + 1) * sizeof *at), n = 0;
    double *kl = mem_alloc((b->n + 1) * sizeof *kl);
    for (size_t i = 0; row && at && i < b->n; i++)
        if (b->asked[i] == 0 && middle(&b->w[i]) < b->w[i].n) {
            at[n] = i;
            row[n++] = b->w[i].row;
        }
    struct prices_ask a = { .row = row, .n = n, .rounded = rounded, .text = text, .memory = BESIDE_BYTES };
    stretto_status st = row && at && kl ? prices_measure(b->s, &a, kl, err) : no_memory(err);
    for (size_t i = 0; i < n && st == STRETTO_OK; i++)
        if ((b->asked[at[i]] = kl[i]) > 0) st = note(b, b->n * CHOICES + at[i], kl[i], err);
    mem_free(row);
    mem_free(at);
    mem_free(kl);
    return st;
}

void budget_middle(struct budget *b)
{
    for (size_t i = 0; i < b->n; i++) {
        size_t k = middle(&b->w[i]);
        b->pick[i] = k < b->w[i].n ? k : b->w[i].n - 1;
    }
    plan(b);
}

stretto_status budget_ask(struct budget *b, const struct model *rounded, struct error *err)
{
    uint32_t at[PROBE_WINDOWS + 1];
    int32_t *id = NULL;
    struct calibration_text text = { .at = at };
    stretto_status st = probe_texts(b->s, &id, at, &text.n, err);
    text.id = id;
    if (st == STRETTO_OK) st = ask(b, rounded, &text, err);
    if (st == STRETTO_E_UNSUP) {
        log_say(&b->s->o.log, LOG_WARN, "what a weight costs cannot be asked of this model (%s); errors relative to "
                "the answers are compared instead", err->text);
        error_clear(err);
        st = STRETTO_OK;
    }
    set_choices(b);
    mem_free(id);
    return st;
}

/* ---- solving -------------------------------------------------------------------------------- */

static stretto_status open_into(struct budget *b, const char *keep, struct error *err)
{
    if (b->s->m->graph.logits == GRAPH_NONE)
        return fail(err, STRETTO_E_UNSUP, "the model writes no text: name a type instead of a budget");
    TRY(squeeze_prepare(b->s, true, err));
    TRY(list_weights(b, err));
    TRY(open_kept(b, keep, err));
    set_choices(b);
    return STRETTO_OK;
}

stretto_status budget_measure(struct budget *b, struct error *err)
{
    TRY(measure(b, err));
    set_choices(b);
    return STRETTO_OK;
}

stretto_status budget_open(struct budget **out, struct squeeze *s, const char *keep, struct error *err)
{
    *out = NULL;
    struct budget *b = mem_zalloc(1, sizeof *b);
    if (!b) return no_memory(err);
    b->s = s;
    b->scale = 1;
    b->journal.fd = -1;
    stretto_status st = open_into(b, keep, err);
    if (st != STRETTO_OK && st != STRETTO_E_CANCEL) budget_forget(b, true);
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
    mem_free(b->asked);
    mem_free(b->stats);
    mem_free(b->notes);
    journal_close(&b->journal, false);
    mem_free(b);
}

void budget_expect(const struct budget *b, double *kl, double *bytes)
{
    *kl = 0;
    for (size_t i = 0; i < b->n; i++)
        for (size_t k = 0; k < b->w[i].n; k++)
            if (b->s->rows[b->w[i].row].to == b->w[i].type[k]) *kl += b->scale * b->choices[i * CHOICES + k].damage;
    *bytes = (double)squeeze_bytes(b->s, true);
}

void budget_tell(const struct budget *b)
{
    for (size_t i = 0; i < b->n; i++) {
        const struct weight *w = &b->w[i];
        struct squeeze_row *r = &b->s->rows[w->row];
        r->alone = b->asked[i];
        for (size_t k = 0; k < w->n && !r->measured; k++)
            if (w->type[k] == r->to && w->error[k] > NOTHING) {
                r->error = (struct encode_report){ .kept = w->error[k], .whole = w->whole };
                r->measured = true;
            }
    }
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

/* Where a table is looked up only, nothing is read but a row. Of equal times the smaller is better. */
static double seconds_of(const struct budget *b, const struct weight *w, size_t k)
{
    const struct squeeze_row *r = &b->s->rows[w->row];
    double all = (double)r->weights * b->rate[w->type[k]];
    return r->role == WEIGHT_EMBEDDING ? 1e-4 * all : all;
}

static void set_costs(struct budget *b, bool time)
{
    for (size_t i = 0; i < b->n; i++) {
        const struct weight *w = &b->w[i];
        for (size_t k = 0; k < w->n; k++)
            b->choices[i * CHOICES + k].cost = time ? seconds_of(b, w, k)
                                                    : (double)row_bytes_as(&b->s->rows[w->row], w->type[k]);
    }
}

void budget_rates(struct budget *b, const double rate[DT_COUNT]) { b->rate = rate; }

double budget_seconds(const struct budget *b)
{
    double sum = 0;
    for (size_t i = 0; i < b->n && b->rate; i++)
        for (size_t k = 0; k < b->w[i].n; k++)
            if (b->s->rows[b->w[i].row].to == b->w[i].type[k]) sum += seconds_of(b, &b->w[i], k);
    return sum;
}

void budget_types(const struct budget *b, bool wanted[DT_COUNT])
{
    memset(wanted, 0, DT_COUNT * sizeof *wanted);
    for (size_t i = 0; i < b->n; i++)
        for (size_t k = 0; k < b->w[i].n; k++) wanted[b->w[i].type[k]] = true;
}

stretto_status budget_time(struct budget *b, double most, struct error *err)
{
    set_costs(b, true);
    stretto_status s = allocate_budget(b->parts, b->n, most, b->pick, err);
    plan(b);
    return s;
}

stretto_status budget_kl_in_time(struct budget *b, double most, struct error *err)
{
    set_costs(b, true);
    stretto_status s = allocate_bound(b->parts, b->n, most / b->scale, b->pick, err);
    plan(b);
    return s;
}

stretto_status budget_bytes(struct budget *b, double most, double *kl, double *bytes, struct error *err)
{
    set_costs(b, false);
    stretto_status s = allocate_budget(b->parts, b->n, most - fixed_bytes(b), b->pick, NULL);
    plan(b);
    budget_expect(b, kl, bytes);
    return s == STRETTO_E_FULL ? fail(err, s, "the smallest there is takes %.2f MB", *bytes / 1e6) : s;
}

stretto_status budget_kl(struct budget *b, double most, double *kl, double *bytes, struct error *err)
{
    set_costs(b, false);
    stretto_status s = allocate_bound(b->parts, b->n, most / b->scale, b->pick, NULL);
    plan(b);
    budget_expect(b, kl, bytes);
    return s == STRETTO_E_FULL ? fail(err, s, "the nearest there is diverges by %.4f", *kl) : s;
}
