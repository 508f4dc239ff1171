#include "compress/imatrix.h"
#include "base/file.h"
#include "base/memory.h"
#include "format/gguf_write.h"
#include "format/source.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME = 256, RESTS = 3 };

static const char of_sum2[] = ".in_sum2", of_counts[] = ".counts", of_rest[] = ".in_rest", of_most[] = ".in_most",
                  of_gram[] = ".in_gram", same_key[] = "stretto.stats.same";

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

/* ---- writing -------------------------------------------------------------------------------- */

/* A weight, and the number of its first tensor. A tensor that a file has fused of several weights (qkv of Phi-3)
 * is one too, with the statistics of the first of them. */
struct weight_place { char *param; int32_t value; uint32_t n; size_t tensor; bool gram, done; };

struct imatrix_writer {
    struct gguf_writer *file;
    struct weight_place *v;
    size_t n, weights, tensors;
    float *row;                /* RESTS * widest */
};

static stretto_status put_tensor(struct imatrix_writer *w, const char *param, const char *suffix, uint32_t n_dims,
                                 uint64_t n, uint64_t m, struct error *err)
{
    char name[NAME];
    uint64_t dims[2] = { n, m };
    snprintf(name, sizeof name, "%s%s", param, suffix);
    w->tensors++;
    return gguf_put_tensor(w->file, name, DT_F32, n_dims, dims, err);
}

static stretto_status put_tensors(struct imatrix_writer *w, struct weight_place *x, struct error *err)
{
    x->tensor = w->tensors;
    TRY(put_tensor(w, x->param, of_sum2, 2, x->n, 1, err));
    TRY(put_tensor(w, x->param, of_counts, 2, 1, 1, err));
    TRY(put_tensor(w, x->param, of_rest, 2, x->n, RESTS, err));
    TRY(put_tensor(w, x->param, of_most, 1, x->n, 1, err));
    return x->gram ? put_tensor(w, x->param, of_gram, 2, x->n, x->n, err) : STRETTO_OK;
}

static struct weight_place *place_find(const struct imatrix_writer *w, const char *param)
{
    for (size_t i = 0; i < w->n; i++)
        if (strcmp(w->v[i].param, param) == 0) return &w->v[i];
    return NULL;
}

static stretto_status add_weight(struct imatrix_writer *w, const char *param, int32_t value, uint32_t n,
                                 struct error *err)
{
    if (place_find(w, param)) return STRETTO_OK;
    struct weight_place *x = &w->v[w->n];
    *x = (struct weight_place){ .param = mem_strdup(param), .value = value, .n = n };
    if (!x->param) return no_memory(err);
    w->n++;
    return STRETTO_OK;
}

/* The weight that begins where a stored tensor does. */
static const struct weight_place *first_slice(const struct imatrix_writer *w, const struct source *s,
                                              const struct source_tensor *whole)
{
    for (size_t i = 0; i < w->weights; i++) {
        const struct source_tensor *t = source_tensor_find(s, w->v[i].param);
        if (t && t->data == whole->data) return &w->v[i];
    }
    return NULL;
}

/* The weights of linear layers, each once: a shared one by its first layer; then fused tensors. */
static stretto_status list_weights(struct imatrix_writer *w, const struct model *m, struct error *err)
{
    const struct graph *g = &m->graph;
    struct source_tensor *stored = NULL;
    size_t n_stored = 0;
    if (m->source) TRY(source_stored(m->source, 0, &stored, &n_stored, err));
    stretto_status s = STRETTO_OK;
    w->v = mem_zalloc(g->n_nodes + n_stored + 1, sizeof *w->v);
    if (!w->v) s = no_memory(err);
    for (size_t i = 0; i < g->n_nodes && s == STRETTO_OK; i++) {
        const struct graph_node *n = &g->nodes[i];
        if (n->op != OP_LINEAR) continue;
        int32_t value = node_in(g, n, 0);
        s = add_weight(w, g->params[node_param(g, n, 0)].name, value, g->values[value].width, err);
    }
    w->weights = w->n;
    for (size_t i = 0; i < n_stored && s == STRETTO_OK; i++) {
        if (source_tensor_find(m->source, stored[i].name)) continue;
        const struct weight_place *of = first_slice(w, m->source, &stored[i]);
        if (of && stored[i].n_dims == 2) s = add_weight(w, stored[i].name, of->value, of->n, err);
    }
    mem_free(stored);
    return s;
}

/* The first weight that reads what weight i does. */
static size_t first_with(const struct imatrix_writer *w, size_t i)
{
    size_t k = 0;
    while (w->v[k].value != w->v[i].value) k++;
    return k;
}

static void put_same(struct imatrix_writer *w)
{
    size_t pairs = 0;
    for (size_t i = 0; i < w->n; i++) pairs += first_with(w, i) != i;
    gguf_put_strings(w->file, same_key, 2 * pairs);
    for (size_t i = 0; i < w->n; i++) {
        const char *first = w->v[first_with(w, i)].param;
        if (first_with(w, i) == i) continue;
        gguf_put_item(w->file, w->v[i].param, strlen(w->v[i].param));
        gguf_put_item(w->file, first, strlen(first));
    }
}

static stretto_status write_head(struct imatrix_writer *w, const struct imatrix_write_options *o, struct error *err)
{
    static const char type[] = "imatrix", nothing[] = "text";
    const struct imatrix_about *a = &o->about;
    gguf_put_string(w->file, "general.type", type, strlen(type));
    gguf_put_strings(w->file, "imatrix.datasets", a->n_datasets ? a->n_datasets : 1);
    for (size_t i = 0; i < a->n_datasets; i++) gguf_put_item(w->file, a->datasets[i], strlen(a->datasets[i]));
    if (!a->n_datasets) gguf_put_item(w->file, nothing, strlen(nothing));
    gguf_put_u32(w->file, "imatrix.chunk_count", a->windows);
    gguf_put_u32(w->file, "imatrix.chunk_size", a->window);
    put_same(w);
    for (size_t i = 0; i < w->n; i++) {
        w->v[i].gram = o->gram && first_with(w, i) == i;
        TRY(put_tensors(w, &w->v[i], err));
    }
    return gguf_begin_data(w->file, err);
}

stretto_status imatrix_writer_open(struct imatrix_writer **out, const char *path, const struct model *m,
                                   const struct imatrix_write_options *o, struct error *err)
{
    uint32_t widest = 1;
    *out = NULL;
    struct imatrix_writer *w = mem_zalloc(1, sizeof *w);
    if (!w) return no_memory(err);
    stretto_status s = list_weights(w, m, err);
    for (size_t i = 0; i < w->n; i++) widest = w->v[i].n > widest ? w->v[i].n : widest;
    w->row = mem_zalloc(RESTS * (size_t)widest, sizeof *w->row);
    if (s == STRETTO_OK && !w->row) s = no_memory(err);
    if (s == STRETTO_OK && !w->n) s = fail(err, STRETTO_E_UNSUP, "the model has no linear layers");
    if (s == STRETTO_OK) s = gguf_writer_open(&w->file, path, o->force, err);
    if (s == STRETTO_OK) s = write_head(w, o, err);
    if (s == STRETTO_OK)
        *out = w;
    else
        imatrix_writer_close(w);
    return s;
}

uint64_t imatrix_writer_bytes(const struct imatrix_writer *w) { return gguf_file_bytes(w->file); }

static stretto_status put_floats(struct imatrix_writer *w, size_t tensor, const float *x, size_t n, struct error *err)
{
    return gguf_write_tensor(w->file, tensor, x, n * sizeof *x, err);
}

/* What float32 keeps of sums, or what it loses. */
static void halves(const double *sum, uint32_t n, bool rest, float *to)
{
    for (uint32_t i = 0; i < n; i++) to[i] = sum ? (float)(sum[i] - (rest ? (double)(float)sum[i] : 0)) : 0;
}

static stretto_status write_gram(struct imatrix_writer *w, size_t tensor, uint32_t n, const float *gram,
                                 struct error *err)
{
    if (gram) return put_floats(w, tensor, gram, (size_t)n * n, err);
    float *zeros = mem_zalloc((size_t)n * n, sizeof *zeros);
    stretto_status s = zeros ? put_floats(w, tensor, zeros, (size_t)n * n, err) : no_memory(err);
    mem_free(zeros);
    return s;
}

static stretto_status write_place(struct imatrix_writer *w, struct weight_place *x, const struct input_stats *s,
                                  struct error *err)
{
    static const struct input_stats none;
    if (!s) s = &none;
    else if (s->n != x->n)
        return fail(err, STRETTO_E_ARG, "statistics of %u inputs for %s, which has %u", s->n, x->param, x->n);
    if (x->done) return fail(err, STRETTO_E_ARG, "statistics of %s are written twice", x->param);
    float rows = (float)s->rows;
    x->done = true;
    halves(s->sum2, x->n, false, w->row);
    TRY(put_floats(w, x->tensor, w->row, x->n, err));
    TRY(put_floats(w, x->tensor + 1, &rows, 1, err));
    halves(s->sum2, x->n, true, w->row);
    halves(s->sum, x->n, false, w->row + x->n);
    halves(s->sum, x->n, true, w->row + 2 * (size_t)x->n);
    TRY(put_floats(w, x->tensor + 2, w->row, RESTS * (size_t)x->n, err));
    if (!s->most) memset(w->row, 0, x->n * sizeof *w->row);
    TRY(put_floats(w, x->tensor + 3, s->most ? s->most : w->row, x->n, err));
    return x->gram ? write_gram(w, x->tensor + 4, x->n, s->gram, err) : STRETTO_OK;
}

stretto_status imatrix_write(struct imatrix_writer *w, const char *param, const struct input_stats *s,
                             struct error *err)
{
    struct weight_place *x = place_find(w, param);
    if (!x) return fail(err, STRETTO_E_ARG, "the model has no linear layer called %s", param);
    for (size_t i = w->weights; i < w->n; i++)
        if (w->v[i].value == x->value && !w->v[i].done) TRY(write_place(w, &w->v[i], s, err));
    return write_place(w, x, s, err);
}

stretto_status imatrix_write_piece(struct imatrix_writer *w, const struct calibration *c, struct error *err)
{
    const char *const *names;
    for (size_t i = 0, n = calibration_params(c, &names); i < n; i++)
        TRY(imatrix_write(w, names[i], calibration_stats(c, names[i]), err));
    return STRETTO_OK;
}

stretto_status imatrix_finish(struct imatrix_writer *w, struct error *err)
{
    for (size_t i = 0; i < w->n; i++)
        if (!w->v[i].done) TRY(write_place(w, &w->v[i], NULL, err));
    return gguf_finish(w->file, err);
}

void imatrix_writer_close(struct imatrix_writer *w)
{
    if (!w) return;
    gguf_writer_close(w->file);
    for (size_t i = 0; i < w->n; i++) mem_free(w->v[i].param);
    mem_free(w->v);
    mem_free(w->row);
    mem_free(w);
}

/* ---- reading -------------------------------------------------------------------------------- */

struct entry { char *name; struct input_stats s; };

struct imatrix {
    struct source *source;
    struct entry *v;
    size_t n;
    char **datasets;
    size_t n_datasets;
    uint32_t windows, window;
};

static stretto_status odd(const struct imatrix *x, struct error *err, const char *name, const char *what)
{
    return fail(err, STRETTO_E_FORMAT, "%s: %s %s; the file is damaged, or no file of statistics",
                source_path(x->source), name, what);
}

static const struct source_tensor *tensor_of(const struct imatrix *x, const char *param, const char *suffix)
{
    char name[NAME];
    int n = snprintf(name, sizeof name, "%s%s", param, suffix);
    return n > 0 && n < NAME ? source_tensor_find(x->source, name) : NULL;
}

static bool has_shape(const struct source_tensor *t, uint64_t n, uint64_t m)
{
    return t->type == DT_F32 && !t->stride && t->dims[0] == n && t->dims[1] == m && t->dims[2] == 1 && t->dims[3] == 1;
}

static float float_at(const struct source_tensor *t, size_t i)
{
    float f;
    memcpy(&f, (const char *)t->data + i * sizeof f, sizeof f);
    return f;
}

/* Sums of all experts. */
static stretto_status read_squares(struct imatrix *x, struct entry *e, const struct source_tensor *sum2,
                                   const struct source_tensor *counts, struct error *err)
{
    struct input_stats *s = &e->s;
    uint64_t experts = sum2->dims[1];
    double rows = 0;
    if (sum2->dims[0] > UINT32_MAX || !has_shape(sum2, sum2->dims[0], experts) || !has_shape(counts, 1, experts))
        return odd(x, err, e->name, "has sums of squares and counts that do not go together");
    s->n = (uint32_t)sum2->dims[0];
    s->sum2 = mem_zalloc(s->n, sizeof *s->sum2);
    if (!s->sum2) return no_memory(err);
    for (uint64_t m = 0; m < experts; m++) {
        double count = (double)float_at(counts, m);
        if (!(count >= 0) || !(count <= 0x1p53)) return odd(x, err, e->name, "has a count that is none");
        rows += count;
        for (uint32_t i = 0; i < s->n; i++) {
            double v = (double)float_at(sum2, m * s->n + i);
            if (!(v >= 0) || isinf(v))
                return odd(x, err, e->name, "has a sum of squares that is negative or no number");
            s->sum2[i] += v;
        }
    }
    if (rows > 0x1p60) return odd(x, err, e->name, "has a count that is none");
    s->rows = (uint64_t)llround(rows);
    return STRETTO_OK;
}

static stretto_status read_rest(struct imatrix *x, struct entry *e, const struct source_tensor *t, struct error *err)
{
    struct input_stats *s = &e->s;
    if (!has_shape(t, s->n, RESTS)) return odd(x, err, e->name, "has sums of another width");
    s->sum = mem_zalloc(s->n, sizeof *s->sum);
    if (!s->sum) return no_memory(err);
    for (uint32_t i = 0; i < s->n; i++) {
        s->sum2[i] += (double)float_at(t, i);
        s->sum[i] = (double)float_at(t, s->n + i) + (double)float_at(t, 2 * (size_t)s->n + i);
        if (!isfinite(s->sum[i]) || !(s->sum2[i] >= 0) || isinf(s->sum2[i]))
            return odd(x, err, e->name, "has a sum that is no number");
    }
    return STRETTO_OK;
}

static stretto_status read_most(struct imatrix *x, struct entry *e, const struct source_tensor *t, struct error *err)
{
    struct input_stats *s = &e->s;
    if (!has_shape(t, s->n, 1)) return odd(x, err, e->name, "has ranges of another width");
    s->most = mem_alloc(s->n * sizeof *s->most);
    if (!s->most) return no_memory(err);
    for (uint32_t i = 0; i < s->n; i++) {
        s->most[i] = float_at(t, i);
        if (!(s->most[i] >= 0) || isinf(s->most[i])) return odd(x, err, e->name, "has a range that is no number");
    }
    return STRETTO_OK;
}

static stretto_status check_gram(const struct imatrix *x, const struct entry *e, struct error *err)
{
    size_t n = e->s.n;
    for (size_t i = 0; i < n; i++) {
        if (e->s.gram[i * n + i] < 0) return odd(x, err, e->name, "has second moments that are negative");
        for (size_t j = 0; j < n; j++)
            if (!isfinite(e->s.gram[i * n + j]))
                return odd(x, err, e->name, "has second moments that are no numbers");
    }
    return STRETTO_OK;
}

static stretto_status read_gram(struct imatrix *x, struct entry *e, const struct source_tensor *t, struct error *err)
{
    if (!has_shape(t, e->s.n, e->s.n)) return odd(x, err, e->name, "has second moments of another width");
    if ((uintptr_t)t->data % sizeof(float)) return odd(x, err, e->name, "has second moments at an odd place");
    e->s.gram = (float *)(uintptr_t)t->data;
    return check_gram(x, e, err);
}

static stretto_status read_entry(struct imatrix *x, const struct source_tensor *sum2, struct error *err)
{
    struct entry *e = &x->v[x->n++];
    e->name = mem_strndup(sum2->name, strlen(sum2->name) - strlen(of_sum2));
    if (!e->name) return no_memory(err);
    const struct source_tensor *counts = tensor_of(x, e->name, of_counts), *rest = tensor_of(x, e->name, of_rest),
                               *range = tensor_of(x, e->name, of_most), *gram = tensor_of(x, e->name, of_gram);
    if (!counts) return odd(x, err, e->name, "has sums of squares but no counts");
    TRY(read_squares(x, e, sum2, counts, err));
    if (rest) TRY(read_rest(x, e, rest, err));
    if (range) TRY(read_most(x, e, range, err));
    return gram ? read_gram(x, e, gram, err) : STRETTO_OK;
}

static bool ends_in(const char *name, const char *suffix)
{
    size_t n = strlen(name), k = strlen(suffix);
    return n > k && strcmp(name + n - k, suffix) == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static stretto_status read_entries(struct imatrix *x, struct error *err)
{
    size_t n = source_tensor_count(x->source);
    x->v = mem_zalloc(n + 1, sizeof *x->v);
    if (!x->v) return no_memory(err);
    for (size_t i = 0; i < n; i++)
        if (ends_in(source_tensor_at(x->source, i)->name, of_sum2))
            TRY(read_entry(x, source_tensor_at(x->source, i), err));
    qsort(x->v, x->n, sizeof *x->v, by_name);
    return x->n ? STRETTO_OK : fail(err, STRETTO_E_FORMAT, "%s holds no statistics; 'stretto calibrate' and "
                                    "llama-imatrix write such files", source_path(x->source));
}

static int compare(const char *name, const char *key, size_t n)
{
    size_t k = strlen(name);
    int c = memcmp(name, key, k < n ? k : n);
    return c ? c : (k > n) - (k < n);
}

static struct entry *entry_find(const struct imatrix *x, const char *name, size_t n)
{
    for (size_t low = 0, high = x->n; low < high;) {
        size_t at = (low + high) / 2;
        int c = compare(x->v[at].name, name, n);
        if (c == 0) return &x->v[at];
        if (c < 0) low = at + 1;
        else high = at;
    }
    return NULL;
}

/* Weights with one input share its second moments. */
static stretto_status join_same(struct imatrix *x, struct error *err)
{
    enum source_kind kind;
    size_t n;
    struct source_str a, b;
    if (!source_array(x->source, same_key, &kind, &n) || kind != SOURCE_STRING) return STRETTO_OK;
    for (size_t i = 0; i + 1 < n; i += 2) {
        if (!source_array_string(x->source, same_key, i, &a) || !source_array_string(x->source, same_key, i + 1, &b))
            continue;
        struct entry *to = entry_find(x, a.p, a.n), *from = entry_find(x, b.p, b.n);
        if (!to || !from || !from->s.gram || to->s.gram) continue;
        if (to->s.n != from->s.n) return odd(x, err, to->name, "has second moments of another width");
        to->s.gram = from->s.gram;
    }
    return STRETTO_OK;
}

static stretto_status read_about(struct imatrix *x, struct error *err)
{
    static const char names[] = "imatrix.datasets";
    enum source_kind kind;
    struct source_str type;
    uint64_t v;
    size_t n = 0;
    if (source_string(x->source, "general.type", &type) && (type.n != 7 || memcmp(type.p, "imatrix", 7) != 0))
        return fail(err, STRETTO_E_FORMAT, "%s is a %.*s, not a file of statistics; 'stretto calibrate' and "
                    "llama-imatrix write those", source_path(x->source), (int)(type.n < 40 ? type.n : 40), type.p);
    if (source_u64(x->source, "imatrix.chunk_count", &v) && v <= UINT32_MAX) x->windows = (uint32_t)v;
    if (source_u64(x->source, "imatrix.chunk_size", &v) && v <= UINT32_MAX) x->window = (uint32_t)v;
    if (!source_array(x->source, names, &kind, &n) || kind != SOURCE_STRING) return STRETTO_OK;
    x->datasets = mem_zalloc(n + 1, sizeof *x->datasets);
    if (!x->datasets) return no_memory(err);
    for (struct source_str name; x->n_datasets < n; x->n_datasets++) {
        if (!source_array_string(x->source, names, x->n_datasets, &name)) break;
        x->datasets[x->n_datasets] = mem_strndup(name.p, name.n);
        if (!x->datasets[x->n_datasets]) return no_memory(err);
    }
    return STRETTO_OK;
}

stretto_status imatrix_open(struct imatrix **out, const char *path, struct error *err)
{
    *out = NULL;
    struct imatrix *x = mem_zalloc(1, sizeof *x);
    if (!x) return no_memory(err);
    stretto_status s = source_open(&x->source, path, err);
    if (s == STRETTO_OK) s = read_about(x, err);
    if (s == STRETTO_OK) s = read_entries(x, err);
    if (s == STRETTO_OK) s = join_same(x, err);
    if (s != STRETTO_OK) {
        imatrix_close(x);
        return s;
    }
    for (size_t i = 0; i < x->n && !source_decoded(x->source); i++) imatrix_release(&x->v[i].s);   /* all was checked */
    *out = x;
    return s;
}

void imatrix_close(struct imatrix *x)
{
    if (!x) return;
    for (size_t i = 0; i < x->n; i++) {
        mem_free(x->v[i].name);
        mem_free(x->v[i].s.sum);
        mem_free(x->v[i].s.sum2);
        mem_free(x->v[i].s.most);
    }
    for (size_t i = 0; i < x->n_datasets; i++) mem_free(x->datasets[i]);
    mem_free(x->v);
    mem_free(x->datasets);
    if (x->source) source_close(x->source);
    mem_free(x);
}

struct imatrix_about imatrix_about(const struct imatrix *x)
{
    return (struct imatrix_about){ (const char *const *)x->datasets, x->n_datasets, x->windows, x->window };
}

size_t imatrix_count(const struct imatrix *x) { return x->n; }
const char *imatrix_name(const struct imatrix *x, size_t i) { return x->v[i].name; }
const struct input_stats *imatrix_stats(const struct imatrix *x, size_t i) { return &x->v[i].s; }

const struct input_stats *imatrix_find(const struct imatrix *x, const char *param)
{
    const struct entry *e = entry_find(x, param, strlen(param));
    return e ? &e->s : NULL;
}

void imatrix_release(const struct input_stats *s)
{
    if (s->gram) file_map_release(s->gram, (size_t)s->n * s->n * sizeof *s->gram);
}

stretto_status imatrix_check(const struct imatrix *x, const struct model *m, struct error *err)
{
    const struct graph *g = &m->graph;
    size_t known = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        const char *param = n->op == OP_LINEAR ? g->params[node_param(g, n, 0)].name : NULL;
        const struct input_stats *s = param ? imatrix_find(x, param) : NULL;
        known += s != NULL;
        if (s && s->n != g->values[node_in(g, n, 0)].width)
            return fail(err, STRETTO_E_FORMAT, "%s is of another model: %s has %u inputs there and %u in the model",
                        source_path(x->source), param, s->n, g->values[node_in(g, n, 0)].width);
    }
    return known ? STRETTO_OK : fail(err, STRETTO_E_FORMAT, "%s is of another model: none of its weights has that "
                                     "name here", source_path(x->source));
}
