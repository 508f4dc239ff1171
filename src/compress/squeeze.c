#include "compress/squeeze_int.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "compress/journal.h"
#include "compress/rewrite.h"
#include "text/chat.h"
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_WINDOW = 512, SAMPLE_ROWS = 48 };
/* Rows are encoded in turns of so many numbers, so that the largest table is never whole in memory as float32. */
#define TURN_NUMBERS ((size_t)1 << 23)

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

uint64_t row_bytes_as(const struct squeeze_row *r, enum dtype t)
{
    return r->rows * dtype_bytes(t, (size_t)r->n_in);
}

static double bits_of(enum dtype t) { return 8.0 * dtype_table[t].bytes / dtype_table[t].block; }

/* ---- the plan ------------------------------------------------------------------------------- */

stretto_status squeeze_type(const char *name, enum dtype *out, struct error *err)
{
    char names[400];
    *out = dtype_by_name(name);
    if (*out != DT_COUNT) return STRETTO_OK;
    return fail(err, STRETTO_E_ARG, "there is no type '%s'; these are: %s", name, dtype_names(names, sizeof names));
}

static stretto_status plan_mixture(struct squeeze *s)
{
    const struct config *c = &s->m->config;
    bool tied = c->tied && s->m->graph.logits != GRAPH_NONE;
    struct mixture_about about = { .layers = c->layers, .heads = c->layer[0].heads, .kv_heads = c->layer[0].kv_heads };
    for (size_t i = 0; i < s->n; i++) {
        const struct source_tensor *t = &s->stored[i];
        struct squeeze_row *r = &s->rows[i];
        *r = (struct squeeze_row){ .name = t->name, .from = t->type, .to = t->type, .n_in = t->dims[0] };
        r->role = weight_role(t->name, t->n_dims, tied, &r->layer);
        r->rows = t->n_dims > 1 ? t->dims[1] * t->dims[2] * t->dims[3] : 1;
        r->weights = r->n_in * r->rows;
        bool position = r->role == WEIGHT_POSITION;
        unsigned only = s->o.only;
        bool wanted = !only ? !position
                    : (only & ONLY_POSITIONS && position)
                      || (only & ONLY_EMBEDDINGS && (r->role == WEIGHT_EMBEDDING || r->role == WEIGHT_HEAD));
        r->fixed = !wanted;
        if (r->role == WEIGHT_NONE || !wanted) continue;
        r->to = position ? mixture_fit(s->mixture->type, r->n_in)
                         : mixture_type(s->mixture, &about, r->role, r->layer, r->n_in);
    }
    return STRETTO_OK;
}

/* A type that was asked for by name, and whose blocks do not fit; told once, not with every plan. */
static void tell_instead(const struct squeeze *s, const char *what, enum dtype t, const struct squeeze_row *first,
                         size_t n)
{
    if (n && !s->goal)
        log_say(&s->o.log, LOG_WARN, "%s: %s's blocks of %u do not fit rows of %llu; %zu %s %s instead", what,
                dtype_table[t].name, dtype_table[t].block, (unsigned long long)first->n_in, n,
                n == 1 ? "matrix becomes" : "matrices become", dtype_table[first->to].name);
}

static stretto_status plan_role(struct squeeze *s, const char *type, enum weight_role role, struct error *err)
{
    enum dtype t;
    if (!type) return STRETTO_OK;
    TRY(squeeze_type(type, &t, err));
    for (size_t i = 0; i < s->n; i++)
        if (s->rows[i].role == role) {
            s->rows[i].to = mixture_fit(t, s->rows[i].n_in);
            s->rows[i].fixed = true;
            tell_instead(s, s->rows[i].name, t, &s->rows[i], s->rows[i].to != t);
        }
    return STRETTO_OK;
}

static stretto_status plan_matches(struct squeeze *s, const char *rule, bool *taken, struct error *err)
{
    const char *equals = strrchr(rule, '=');
    enum dtype t;
    regex_t re;
    char pattern[256];
    if (!equals || equals == rule || (size_t)(equals - rule) >= sizeof pattern)
        return fail(err, STRETTO_E_ARG, "'%s' is no REGEX=TYPE, as attn_v=q8_0", rule);
    TRY(squeeze_type(equals + 1, &t, err));
    memcpy(pattern, rule, (size_t)(equals - rule));
    pattern[equals - rule] = 0;
    if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB) != 0)
        return fail(err, STRETTO_E_ARG, "'%s' is no regular expression", pattern);
    size_t found = 0, other = 0;
    const struct squeeze_row *first = NULL;
    for (size_t i = 0; i < s->n; i++) {
        struct squeeze_row *r = &s->rows[i];
        if (r->role == WEIGHT_NONE || taken[i] || regexec(&re, r->name, 0, NULL, 0) != 0) continue;
        r->to = mixture_fit(t, r->n_in);
        r->fixed = taken[i] = true;
        found++;
        if (r->to != t && !other++) first = r;
    }
    regfree(&re);
    tell_instead(s, pattern, t, first, other);
    return found ? STRETTO_OK : fail(err, STRETTO_E_ARG, "no matrix of the model has a name like '%s'", pattern);
}

static stretto_status plan_keep(struct squeeze *s, struct error *err)
{
    bool *taken = mem_zalloc(s->n + 1, sizeof *taken);
    stretto_status st = taken ? STRETTO_OK : no_memory(err);
    for (size_t i = 0; i < s->o.n_keep && st == STRETTO_OK; i++) st = plan_matches(s, s->o.keep[i], taken, err);
    mem_free(taken);
    return st;
}

/* Codes are not rounded to codes of as many bits or more: that only adds errors. */
static void leave_fewer_bits(struct squeeze *s)
{
    for (size_t i = 0; i < s->n && !s->o.requantize; i++) {
        struct squeeze_row *r = &s->rows[i];
        if (dtype_table[r->from].block > 1 && bits_of(r->to) >= bits_of(r->from)) r->to = r->from;
    }
}

static stretto_status check_gain(const struct squeeze *s, struct error *err)
{
    const char *path = source_path(s->m->source);
    size_t changed = 0;
    bool codes = false;
    for (size_t i = 0; i < s->n; i++) {
        changed += s->rows[i].to != s->rows[i].from;
        codes = codes || dtype_table[s->rows[i].from].block > 1;
    }
    if (changed && codes && !s->o.requantize)
        log_say(&s->o.log, LOG_WARN, "%s is rounded already (%.2f bits a weight): what is measured are the errors that "
                "are added to its own; squeeze the original where you have it", path, squeeze_bits(s, false));
    if (changed || s->o.copy) return STRETTO_OK;
    if (s->o.only & ONLY_POSITIONS)
        return fail(err, STRETTO_E_ARG, "%s has no learned positions that could be squeezed; its positions are "
                    "rotations, which take no bytes", path);
    if (s->o.requantize)
        return fail(err, STRETTO_E_ARG, "every matrix of %s has the type that %s gives it: there is nothing to squeeze",
                    path, s->mixture->name);
    return fail(err, STRETTO_E_ARG, "%s has %.2f bits a weight, no more than %s: there is nothing to squeeze; "
                "--requantize rounds it again all the same", path, squeeze_bits(s, false), s->mixture->name);
}

stretto_status squeeze_plan(struct squeeze *s, const char *type, struct error *err)
{
    s->mixture = mixture_find(type);
    if (!s->mixture)
        return fail(err, STRETTO_E_ARG, "there is no type '%s'; take one of %s", type, mixture_words());
    TRY(plan_mixture(s));
    TRY(plan_role(s, s->o.output_type, WEIGHT_HEAD, err));
    TRY(plan_role(s, s->o.embedding_type, WEIGHT_EMBEDDING, err));
    TRY(plan_keep(s, err));
    leave_fewer_bits(s);
    return check_gain(s, err);
}

/* ---- opening -------------------------------------------------------------------------------- */

static stretto_status open_chat(struct squeeze *s, struct error *err)
{
    return s->m->tokenizer ? chat_open(&s->chat, s->m->tokenizer, err) : STRETTO_OK;
}

static stretto_status open_into(struct squeeze *s, const char *path, struct error *err)
{
    struct model_open_options mo = { .graph_only = true };
    TRY(model_open(&s->m, path, &mo, err));
    if (strncmp(source_format(s->m->source), "GGUF", 4) != 0)
        return fail(err, STRETTO_E_ARG, "%s is no GGUF file; stretto convert makes one of it", path);
    TRY(open_chat(s, err));
    TRY(source_stored(s->m->source, 0, &s->stored, &s->n, err));
    s->rows = mem_zalloc(s->n + 1, sizeof *s->rows);
    if (!s->rows) return no_memory(err);
    TRY(squeeze_plan(s, s->o.type, err));
    if (s->o.n_texts > TEXTS_MAX) return fail(err, STRETTO_E_ARG, "more than %d texts", TEXTS_MAX);
    s->n_texts = s->o.n_texts;
    for (size_t i = 0; i < s->n_texts; i++) s->texts[i] = s->o.texts[i];
    if (!s->n_texts) s->n_texts = texts_builtin(false, s->texts, TEXTS_MAX);
    uint32_t context = s->m->config.context;
    if (!s->o.window) s->o.window = context && context < DEFAULT_WINDOW ? context : DEFAULT_WINDOW;
    feedback_defaults(&s->how);
    s->how.method = s->o.method;
    s->how.bits = s->o.bits;
    s->how.share = s->o.share;
    if (s->o.method == ENCODE_RTN && rtn_type(s->o.bits) == DT_COUNT)
        return fail(err, STRETTO_E_ARG, "codes have 2 to 8 bits, not %u", s->o.bits);
    if (s->o.statistics) TRY(squeeze_take_statistics(s, s->o.statistics, err));
    return squeeze_name(s, NULL, err);
}

stretto_status squeeze_open(struct squeeze **out, const char *path, const struct squeeze_options *o,
                            struct error *err)
{
    *out = NULL;
    struct squeeze *s = mem_zalloc(1, sizeof *s);
    if (!s) return no_memory(err);
    s->o = *o;
    stretto_status st = open_into(s, path, err);
    if (st != STRETTO_OK) squeeze_close(s);
    else *out = s;
    return st;
}

static void forget_done(struct squeeze *s)
{
    for (size_t i = 0; i < s->n_done; i++) {
        model_close(s->done[i].m);
        mem_free(s->done[i].rows);
    }
    s->n_done = 0;
}

void squeeze_rest(struct squeeze *s)
{
    forget_done(s);
    for (size_t i = 0; i < s->n; i++) source_release(s->m->source, &s->stored[i]);
    mem_trim();
}

void squeeze_close(struct squeeze *s)
{
    if (!s) return;
    forget_done(s);
    workers_close(s->workers);
    imatrix_close(s->statistics);
    windows_done(&s->windows);
    chat_close(s->chat);
    model_close(s->m);
    mem_free(s->stored);
    mem_free(s->rows);
    mem_free(s->goal);
    mem_free(s);
}

const struct model *squeeze_model(const struct squeeze *s) { return s->m; }

const struct text_file *squeeze_texts(const struct squeeze *s, size_t *n)
{
    *n = s->n_texts;
    return s->texts;
}

struct squeeze_row *squeeze_rows(struct squeeze *s, size_t *n)
{
    *n = s->n;
    return s->rows;
}

uint64_t squeeze_bytes(const struct squeeze *s, bool after)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < s->n; i++) bytes += row_bytes_as(&s->rows[i], after ? s->rows[i].to : s->rows[i].from);
    return bytes;
}

double squeeze_bits(const struct squeeze *s, bool after)
{
    double bytes = 0, weights = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct squeeze_row *r = &s->rows[i];
        if (r->role == WEIGHT_NONE) continue;
        bytes += (double)row_bytes_as(r, after ? r->to : r->from);
        weights += (double)r->weights;
    }
    return weights > 0 ? 8 * bytes / weights : 0;
}

/* Without second moments there is nothing to feed errors back by. */
static void tell_method(const struct squeeze *s, const char *path)
{
    size_t n = imatrix_count(s->statistics), grams = 0;
    for (size_t i = 0; i < n; i++) grams += imatrix_stats(s->statistics, i)->gram != NULL;
    if (s->o.method == ENCODE_FEEDBACK && grams < n)
        log_say(&s->o.log, LOG_WARN, "%s has no second moments for %zu of %zu weights: their errors are weighed by "
                "importance, as with --method search; 'stretto calibrate --gram' measures what feedback needs", path,
                n - grams, n);
}

stretto_status squeeze_take_statistics(struct squeeze *s, const char *path, struct error *err)
{
    imatrix_close(s->statistics);
    s->statistics = NULL;
    TRY(imatrix_open(&s->statistics, path, err));
    TRY(imatrix_check(s->statistics, s->m, err));
    tell_method(s, path);
    return STRETTO_OK;
}

stretto_status squeeze_name(struct squeeze *s, const char *goal, struct error *err)
{
    char *own = mem_strdup(goal ? goal : s->mixture->name);
    if (!own) return no_memory(err);
    mem_free(s->goal);
    s->goal = own;
    return STRETTO_OK;
}

stretto_status squeeze_keep_done(struct squeeze *s, const char *path, const struct model **out, struct error *err)
{
    struct model_open_options mo = { .graph_only = true };
    *out = NULL;
    if (s->n_done == DONE_FILES) return STRETTO_OK;
    struct done_file *d = &s->done[s->n_done];
    TRY(model_open(&d->m, path, &mo, err));
    d->rows = mem_alloc((s->n + 1) * sizeof *d->rows);
    if (!d->rows) {
        model_close(d->m);
        return no_memory(err);
    }
    memcpy(d->rows, s->rows, s->n * sizeof *d->rows);
    s->n_done++;
    *out = d->m;
    return STRETTO_OK;
}

/* ---- writing -------------------------------------------------------------------------------- */

struct writing {
    struct squeeze *s;
    struct rewrite *r;
    struct calibration *c;
    struct metric *metric;              /* of the statistics that were used last */
    const struct input_stats *of;
    bool has_metric;
    uint32_t pieces, piece;
    uint64_t done, total;               /* weights */
};

stretto_status squeeze_cancelled(const struct squeeze *s, struct error *err)
{
    if (!s->o.cancel || !*s->o.cancel) return STRETTO_OK;
    error_clear(err);
    return fail(err, STRETTO_E_CANCEL, "interrupted; the same command goes on where it stopped");
}

static void tell(const struct writing *w)
{
    progress_tell(&w->s->o.progress, "squeezing", w->done, w->total);
}

static stretto_status metric_for(struct writing *w, const struct input_stats *stats, uint32_t n_in,
                                 struct error *err)
{
    if (w->has_metric && stats && stats_same(w->of, stats)) return STRETTO_OK;
    if (w->has_metric) metric_close(w->metric);
    w->has_metric = false;
    TRY(metric_open(&w->metric, w->s->workers, stats, n_in, &w->s->how, err));
    w->has_metric = true;
    w->of = stats;
    return STRETTO_OK;
}

static void forget_metric(struct writing *w)
{
    if (w->has_metric) metric_close(w->metric);
    w->has_metric = false;
    w->of = NULL;
}

static stretto_status encode_plainly(const struct squeeze_row *r, const float *v, size_t rows, void *out,
                                     struct error *err)
{
    size_t n = rows * (size_t)r->n_in;
    for (size_t i = 0; i < n; i++)
        if (fabsf(v[i]) > dtype_table[r->to].most)
            return fail(err, STRETTO_E_ARG, "tensor %s holds %g, which is too large for %s", r->name, (double)v[i],
                        dtype_table[r->to].name);
    dtype_table[r->to].encode(v, out, n);
    return STRETTO_OK;
}

static stretto_status encode_rows(struct writing *w, const struct squeeze_row *r, float *v, unsigned char *blocks,
                                  size_t turn, struct error *err)
{
    size_t row_bytes = dtype_bytes(r->to, (size_t)r->n_in);
    bool codes = dtype_table[r->to].block > 1;
    for (uint64_t at = 0; at < r->rows; at += turn) {
        size_t rows = r->rows - at < turn ? (size_t)(r->rows - at) : turn;
        TRY(squeeze_cancelled(w->s, err));
        TRY(rewrite_read_rows(w->r, r->name, at, rows, v, err));
        if (codes) TRY(feedback_encode(w->s->workers, w->metric, r->to, v, rows, blocks + at * row_bytes, NULL, err));
        else TRY(encode_plainly(r, v, rows, blocks + at * row_bytes, err));
        w->done += rows * r->n_in;
        tell(w);
    }
    return STRETTO_OK;
}

/* The error of a weight, from a few of its rows: measuring takes longer than writing. room: rows that
 * v has room for. */
static stretto_status measure_error(struct writing *w, struct squeeze_row *r, float *v, size_t room, struct error *err)
{
    size_t n = r->rows < SAMPLE_ROWS ? (size_t)r->rows : SAMPLE_ROWS;
    if (n > room) n = room;
    void *spare = mem_alloc(n * dtype_bytes(r->to, (size_t)r->n_in));
    stretto_status s = spare ? STRETTO_OK : no_memory(err);
    for (size_t i = 0; i < n && s == STRETTO_OK; i++)
        s = rewrite_read_rows(w->r, r->name, r->rows * i / n, 1, v + i * (size_t)r->n_in, err);
    if (s == STRETTO_OK) s = feedback_encode(w->s->workers, w->metric, r->to, v, n, spare, &r->error, err);
    double whole = (double)r->rows / (double)n;
    r->error.plain *= whole;
    r->error.searched *= whole;
    r->error.kept *= whole;
    r->error.whole *= whole;
    r->measured = s == STRETTO_OK;
    mem_free(spare);
    return s;
}

/* The weight as a file that is done has it, or NULL. */
static const void *find_done(const struct squeeze *s, struct squeeze_row *r)
{
    for (size_t i = 0; i < s->n_done && !s->o.sequential; i++) {
        const struct squeeze_row *other = &s->done[i].rows[r - s->rows];
        const struct source_tensor *t = source_tensor_find(s->done[i].m->source, r->name);
        if (!t || other->to != r->to || t->type != r->to || t->bytes != row_bytes_as(r, r->to)) continue;
        r->error = other->error;
        r->measured = other->measured;
        return t->data;
    }
    return NULL;
}

/* What is written as it is: a NaN in it would be found by nobody else before the model is run. */
static stretto_status copy_row(struct writing *w, const struct squeeze_row *r, struct error *err)
{
    size_t turn = TURN_NUMBERS / (size_t)r->n_in;
    if (turn < 1) turn = 1;
    if (turn > r->rows) turn = (size_t)r->rows;
    float *v = mem_alloc(turn * (size_t)r->n_in * sizeof *v);
    stretto_status s = v ? STRETTO_OK : no_memory(err);
    for (uint64_t at = 0; at < r->rows && s == STRETTO_OK; at += turn)
        s = rewrite_read_rows(w->r, r->name, at, r->rows - at < turn ? (size_t)(r->rows - at) : turn, v, err);
    mem_free(v);
    return s == STRETTO_OK ? rewrite_copy(w->r, r->name, err) : s;
}

static stretto_status write_row(struct writing *w, struct squeeze_row *r, const struct input_stats *stats,
                                struct error *err)
{
    struct rewrite_tensor *t = rewrite_find(w->r, r->name);
    if (t->done || r->to == r->from) {
        if (!t->done) TRY(copy_row(w, r, err));
        w->done += r->weights;
        tell(w);
        return squeeze_cancelled(w->s, err);
    }
    const void *done = find_done(w->s, r);
    if (done) {
        w->done += r->weights;
        tell(w);
        stretto_status st = rewrite_write(w->r, r->name, done, (size_t)row_bytes_as(r, r->to), err);
        file_map_release(done, (size_t)row_bytes_as(r, r->to));
        return st;
    }
    size_t turn = TURN_NUMBERS / (size_t)r->n_in;
    if (turn < 16) turn = 16;
    if (w->s->o.method == ENCODE_RTN) turn = (size_t)r->rows;   /* a weight may have one scale */
    if (turn > r->rows) turn = (size_t)r->rows;
    if (dtype_table[r->to].block > 1) TRY(metric_for(w, stats, (uint32_t)r->n_in, err));
    uint64_t bytes = row_bytes_as(r, r->to);
    float *v = mem_alloc(turn * (size_t)r->n_in * sizeof *v);
    unsigned char *blocks = mem_alloc((size_t)bytes);
    stretto_status st = v && blocks ? encode_rows(w, r, v, blocks, turn, err) : no_memory(err);
    if (st == STRETTO_OK && dtype_table[r->to].block > 1) st = measure_error(w, r, v, turn, err);
    if (st == STRETTO_OK) st = rewrite_write(w->r, r->name, blocks, (size_t)bytes, err);
    source_release(w->s->m->source, &w->s->stored[r - w->s->rows]);
    mem_free(v);
    mem_free(blocks);
    return st;
}

static bool learns(const struct squeeze *s) { return s->o.method == ENCODE_SEARCH || s->o.method == ENCODE_FEEDBACK; }

static bool is_statistical(const struct writing *w, const struct squeeze_row *r)
{
    return r->to != r->from && dtype_table[r->to].block > 1 && learns(w->s);
}

/* Whether texts must be read at all: something is encoded that is still to be written. */
static bool needs_texts(const struct writing *w)
{
    for (size_t i = 0; i < w->s->n; i++)
        if (is_statistical(w, &w->s->rows[i]) && !rewrite_find(w->r, w->s->rows[i].name)->done) return true;
    return false;
}

static bool reads(const struct writing *w, const struct squeeze_row *r, const struct input_stats *stats)
{
    const struct rewrite_tensor *t = rewrite_find(w->r, r->name);
    return !t->done && r->role != WEIGHT_NONE && calibration_stats(w->c, t->param) == stats;
}

/* All weights that read one value, type by type: what is prepared for a type serves them all. */
static stretto_status write_readers(struct writing *w, const struct input_stats *stats, struct error *err)
{
    for (int type = 0; type < DT_COUNT; type++)
        for (size_t i = 0; i < w->s->n; i++) {
            struct squeeze_row *r = &w->s->rows[i];
            if ((int)r->to == type && reads(w, r, stats)) TRY(write_row(w, r, stats, err));
        }
    return STRETTO_OK;
}

static stretto_status write_piece(struct writing *w, struct error *err)
{
    for (size_t i = 0; i < w->s->n; i++) {
        const struct rewrite_tensor *t = rewrite_find(w->r, w->s->rows[i].name);
        const struct input_stats *stats = t->done ? NULL : calibration_stats(w->c, t->param);
        if (stats && w->s->rows[i].role != WEIGHT_NONE) TRY(write_readers(w, stats, err));
    }
    forget_metric(w);
    return STRETTO_OK;
}

static stretto_status walk(struct writing *w, struct error *err)
{
    bool in_order = w->s->o.sequential;
    w->pieces = calibration_pieces(w->c);
    for (w->piece = 0; w->piece < w->pieces; w->piece++) {
        TRY(squeeze_cancelled(w->s, err));
        TRY(in_order ? calibration_see(w->c, err) : calibration_go(w->c, true, err));
        TRY(write_piece(w, err));
        if (in_order) TRY(calibration_go(w->c, false, err));
    }
    return STRETTO_OK;
}

static stretto_status calibrate(struct writing *w, struct error *err)
{
    struct squeeze *s = w->s;
    struct binding of_source = { s->m, model_param };
    struct binding b = s->o.sequential ? rewrite_binding(w->r) : of_source;
    struct calibrate_options o = { .text = windows_text(&s->windows), .gram = s->o.method == ENCODE_FEEDBACK,
                                   .workers = s->workers, .threads = s->o.threads, .log = s->o.log,
                                   .cancel = s->o.cancel };
    TRY(calibration_open(&w->c, s->m, &b, &o, err));
    stretto_status st = walk(w, err);
    forget_metric(w);
    calibration_close(w->c);
    return st;
}

/* What no linear layer reads, or nobody has statistics of, last. */
static stretto_status write_rest(struct writing *w, struct error *err)
{
    for (size_t i = 0; i < w->s->n; i++) {
        struct squeeze_row *r = &w->s->rows[i];
        if (!rewrite_find(w->r, r->name)->done) TRY(write_row(w, r, NULL, err));
    }
    forget_metric(w);
    return STRETTO_OK;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* What a file of statistics says of every weight: another one under the same name is another pass. */
static uint64_t hash_of(const struct imatrix *x)
{
    uint64_t h = imatrix_count(x);
    for (size_t i = 0; i < imatrix_count(x); i++) {
        const struct input_stats *s = imatrix_stats(x, i);
        h = hash_text(h ^ s->rows, imatrix_name(x, i));
        h = hash_bytes(h, s->sum2, s->n * sizeof *s->sum2);
        if (s->gram) h = hash_bytes(h, s->gram, s->n * sizeof *s->gram);
        imatrix_release(s);
    }
    return h;
}

static stretto_status recipe(const struct squeeze *s, struct buffer *out, struct error *err)
{
    static const char *const methods[] = { "plain", "search", "feedback", "rtn" };
    static const char *const shares[] = { "tensor", "channel", "group" };
    stretto_status st = buffer_printf(out, "%s, method %s", s->goal, methods[s->o.method]);
    if (st == STRETTO_OK && s->o.method == ENCODE_RTN)
        st = buffer_printf(out, ", %u bits per %s", s->o.bits, shares[s->o.share]);
    if (st == STRETTO_OK && s->windows.n)
        st = buffer_printf(out, ", %zu tokens in %zu windows of text %016llx", s->windows.tokens, s->windows.n,
                           (unsigned long long)s->windows.hash);
    if (st == STRETTO_OK && s->o.sequential) st = buffer_str(out, ", sequential");
    if (st == STRETTO_OK && s->o.statistics)
        st = buffer_printf(out, ", statistics %s %016llx", base_name(s->o.statistics),
                           (unsigned long long)hash_of(s->statistics));
    if (st == STRETTO_OK) st = buffer_printf(out, "; stretto %s", stretto_version());
    return st == STRETTO_OK ? st : no_memory(err);
}

bool squeeze_is_written(const struct squeeze *s, const char *path)
{
    struct buffer text = buffer_make(1 << 16);
    struct source *f = NULL;
    struct source_str other;
    bool same = recipe(s, &text, NULL) == STRETTO_OK && source_open(&f, path, NULL) == STRETTO_OK
                && source_string(f, "stretto.squeeze.recipe", &other) && other.n == text.len
                && memcmp(other.p, text.data, text.len) == 0;
    for (size_t i = 0; i < s->n && same; i++) {
        const struct source_tensor *t = source_tensor_find(f, s->rows[i].name);
        same = !t || t->type == s->rows[i].to;
    }
    source_close(f);
    buffer_done(&text);
    return same;
}

uint64_t squeeze_source_key(const struct squeeze *s, uint64_t h)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct source_tensor *t = &s->stored[i];
        h = hash_bytes(hash_text(h, t->name), t->data, t->bytes < 256 ? (size_t)t->bytes : 256);
    }
    return h;
}

/* ---- what has no proof yet ------------------------------------------------------------------- */

static char *unproved_name(const char *out)
{
    char *path = mem_alloc(strlen(out) + sizeof ".unproved");
    if (path) sprintf(path, "%s.unproved", out);
    return path;
}

void squeeze_unproved(const struct squeeze *s, const char *out)
{
    struct journal j = { NULL, -1 };
    char *path = unproved_name(out);
    if (path && journal_open(&j, path, 0, squeeze_source_key(s, 0), NULL) == STRETTO_OK) journal_close(&j, false);
    mem_free(path);
}

bool squeeze_is_unproved(struct squeeze *s, const char *out)
{
    unsigned char listed;
    uint64_t hash;
    char *path = unproved_name(out);
    struct buffer text = buffer_make(1 << 16);
    bool is = path && access(path, R_OK) == 0 && journal_read(path, &text, NULL) == STRETTO_OK && text.len
              && journal_parse(text.data, text.len, squeeze_source_key(s, 0), 1, &listed, &hash) > 0
              && squeeze_prepare(s, false, NULL) == STRETTO_OK && squeeze_is_written(s, out);
    buffer_done(&text);
    mem_free(path);
    return is;
}

void squeeze_proved(const char *out)
{
    char *path = unproved_name(out);
    if (path) unlink(path);
    mem_free(path);
}

static stretto_status begin(struct writing *w, const char *text, struct error *err)
{
    struct squeeze *s = w->s;
    for (size_t i = 0; i < s->n; i++) rewrite_find(w->r, s->rows[i].name)->type = s->rows[i].to;
    rewrite_put_string(w->r, "stretto.squeeze.recipe", text);
    if (s->o.report_room != SQUEEZE_NO_REPORT)
        rewrite_reserve_string(w->r, SQUEEZE_REPORT, s->o.report_room ? s->o.report_room : SQUEEZE_REPORT_ROOM);
    /* The mixture's number where the plan is the mixture; otherwise what most weights are says it. */
    if (!s->o.only && strcmp(s->goal, s->mixture->name) == 0)
        rewrite_put_u32(w->r, "general.file_type", s->mixture->file_type);
    return rewrite_begin(w->r, err);
}

/* Weights whose inputs the file of statistics knows; those that share them stand together, type by type. */
static stretto_status write_known(struct writing *w, struct error *err)
{
    struct squeeze *s = w->s;
    for (size_t i = 0; i < s->n; i++) {
        const struct input_stats *stats = imatrix_find(s->statistics, squeeze_param(s, i));
        if (s->rows[i].role == WEIGHT_NONE || !stats || !stats->rows) continue;
        for (int type = 0; type < DT_COUNT; type++)
            for (size_t k = i; k < s->n; k++) {
                struct squeeze_row *r = &s->rows[k];
                if ((int)r->to == type && r->role != WEIGHT_NONE && !rewrite_find(w->r, r->name)->done
                    && stats_same(imatrix_find(s->statistics, squeeze_param(s, k)), stats))
                    TRY(write_row(w, r, stats, err));
            }
        forget_metric(w);
        imatrix_release(stats);
    }
    return STRETTO_OK;
}

static stretto_status write_all(struct writing *w, struct error *err)
{
    if (learns(w->s) && needs_texts(w)) TRY(w->s->statistics ? write_known(w, err) : calibrate(w, err));
    TRY(write_rest(w, err));
    return rewrite_finish(w->r, err);
}

const char *squeeze_param(const struct squeeze *s, size_t row)
{
    const struct source_tensor *t = &s->stored[row];
    for (size_t i = 0; i < source_tensor_count(s->m->source); i++) {
        const struct source_tensor *x = source_tensor_at(s->m->source, i);
        if (x->data == t->data) return x->name;
    }
    return t->name;
}

stretto_status squeeze_prepare(struct squeeze *s, bool texts, struct error *err)
{
    if (!s->workers) TRY(workers_open(&s->workers, s->o.threads, err));
    if (s->windows.n || !(texts || (learns(s) && !s->statistics))) return STRETTO_OK;
    return windows_make(&s->windows, s->texts, s->n_texts, s->m->tokenizer, s->chat, s->o.window, s->o.tokens,
                        s->m->config.vocab, err);
}

stretto_status squeeze_write(struct squeeze *s, const char *out, struct error *err)
{
    struct writing w = { .s = s };
    struct buffer text = buffer_make(1 << 16);
    TRY(squeeze_prepare(s, false, err));
    for (size_t i = 0; i < s->n; i++) {
        w.total += s->rows[i].weights;
        s->rows[i].error = (struct encode_report){ 0 };
        s->rows[i].measured = false;
    }
    stretto_status st = recipe(s, &text, err);
    struct rewrite_options ro = { .recipe = text.data, .force = s->o.force, .log = s->o.log };
    if (st == STRETTO_OK) st = rewrite_open(&w.r, s->m, out, &ro, err);
    if (st == STRETTO_OK) st = begin(&w, text.data, err);
    if (st == STRETTO_OK) st = write_all(&w, err);
    if (st != STRETTO_OK && squeeze_cancelled(s, NULL) != STRETTO_OK) st = squeeze_cancelled(s, err);
    rewrite_close(w.r, st == STRETTO_E_CANCEL);
    buffer_done(&text);
    return st;
}
