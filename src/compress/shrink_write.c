/* Writing a model of a smaller shape: see shrink.h. Two walks side by side: the original's rows, and those of what is
 * left so far. ffn_down and attn_output are solved so that behind them the residual stream is the original's, as
 * nearly as the inputs that are left can make it. */
#include "compress/shrink_int.h"
#include "base/hash.h"
#include "base/memory.h"
#include "compress/damage.h"
#include "compress/rewrite.h"
#include "engine/engine.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct writing {
    struct shrink s;
    const struct shrink_plan *plan;
    struct rewrite *r;
    const char *path;
    uint32_t n, *from;              /* layers that stay, as the original numbers them                */
    float *x, *y;                   /* [tokens][width] the original's rows, and what is left's       */
    float *aim;                     /* [tokens][width] what is to be answered                        */
    float *tap;                     /* [tokens][widest]                                              */
    bool stream;                    /* a linear layer's answer is added to the residual stream as it is: what was lost
                                       before is part of what is aimed at                            */
};

/* ---- what goes -------------------------------------------------------------------------------- */

struct magnitude { double sum; uint32_t at; };

static int rising(const void *a, const void *b)
{
    const struct magnitude *x = a, *y = b;
    if (x->sum != y->sum) return x->sum < y->sum ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Adds what a weight has for each of n units: of its rows, or of its columns. */
static stretto_status add_magnitudes(const struct writing *w, uint32_t l, const char *what, bool columns, uint32_t n,
                                     struct magnitude *m, struct error *err)
{
    char name[GRAPH_NAME];
    float *weight;
    uint32_t n_in, n_out;
    if (graph_param_find(&w->s.m->graph, layer_param(name, l, what)) == GRAPH_NONE) return STRETTO_OK;
    TRY(shrink_read(&w->s, name, &weight, &n_in, &n_out, err));
    uint32_t each = (columns ? n_in : n_out) / n;
    for (size_t r = 0; r < n_out; r++)
        for (size_t c = 0; c < n_in; c++)
            m[(columns ? c : r) / each].sum += (double)weight[r * n_in + c] * (double)weight[r * n_in + c];
    mem_free(weight);
    return STRETTO_OK;
}

static stretto_status order_by_size(const struct writing *w, uint32_t l, bool feed, uint32_t n, uint32_t *order,
                                    struct error *err)
{
    static const struct { const char *what; bool feed, columns; } of[] = {
        { "ffn_gate.weight", true, false }, { "ffn_up.weight", true, false }, { "ffn_down.weight", true, true },
        { "attn_q.weight", false, false }, { "attn_k.weight", false, false }, { "attn_v.weight", false, false },
        { "attn_output.weight", false, true } };
    struct magnitude *m = mem_zalloc(n, sizeof *m);
    stretto_status st = m ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
    for (size_t i = 0; i < sizeof of / sizeof *of && st == STRETTO_OK; i++)
        if (of[i].feed == feed) st = add_magnitudes(w, l, of[i].what, of[i].columns, n, m, err);
    for (uint32_t i = 0; i < n && st == STRETTO_OK; i++) m[i].at = i;
    if (st == STRETTO_OK) qsort(m, n, sizeof *m, rising);
    for (uint32_t i = 0; i < n && st == STRETTO_OK; i++) order[i] = m[i].at;
    mem_free(m);
    return st;
}

/* What stays of a layer's channels or groups, ascending, in units of the rows that belong to one. */
static stretto_status keep_of(const struct writing *w, uint32_t l, bool feed, uint32_t unit, uint32_t **keep,
                              uint32_t *kept, struct error *err)
{
    const struct layer_config *c = &w->s.m->config.layer[l];
    const struct shrink_layer *x = &w->plan->layer[l];
    uint32_t n = feed ? c->feed : c->kv_heads, stay = feed ? x->feed : x->kv_heads;
    const uint32_t *known = feed ? w->plan->order : w->plan->group_order;
    uint32_t *order = mem_alloc(n * sizeof *order);
    *kept = stay * unit;
    *keep = mem_alloc((size_t)n * unit * sizeof **keep);
    stretto_status st = order && *keep ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
    if (st == STRETTO_OK && known && !w->s.o->plain)
        memcpy(order, known + (size_t)l * (feed ? w->s.m->config.feed : w->s.m->config.kv_heads), n * sizeof *order);
    else if (st == STRETTO_OK && stay < n) st = order_by_size(w, l, feed, n, order, err);
    if (st == STRETTO_OK) kept_of(order, n, n - stay, unit, *keep);
    mem_free(order);
    return st;
}

/* ---- writing tensors ------------------------------------------------------------------------------ */

/* The written layer that holds what layer l was. */
static uint32_t number_of(const struct writing *w, uint32_t l)
{
    uint32_t i = 0;
    while (i < w->n && w->from[i] != l) i++;
    return i;
}

/* What stood whole in a file that a crash left is not written again. */
static stretto_status put(struct writing *w, const char *name, const void *bytes, size_t n, struct error *err)
{
    const struct rewrite_tensor *t = rewrite_find(w->r, name);
    return t && t->done ? STRETTO_OK : rewrite_write(w->r, name, bytes, n, err);
}

static stretto_status write_rows(struct writing *w, uint32_t l, const char *what, const uint32_t *keep, uint32_t kept,
                                 struct error *err)
{
    char name[GRAPH_NAME];
    const struct source_tensor *t = source_tensor_find(w->s.m->source, layer_param(name, l, what));
    if (!t) return STRETTO_OK;
    bool vector = t->n_dims < 2;
    size_t row = dtype_bytes(t->type, vector ? 1 : (size_t)t->dims[0]);
    unsigned char *bytes = mem_alloc(row * kept);
    if (!bytes) return fail(err, STRETTO_E_NOMEM, "no memory for %s", name);
    for (uint32_t i = 0; i < kept; i++)
        memcpy(bytes + i * row, (const unsigned char *)t->data + keep[i] * row, row);
    stretto_status st = put(w, layer_param(name, number_of(w, l), what), bytes, row * kept, err);
    mem_free(bytes);
    return st;
}

/* What numbers that were solved are written as, where the tensor was of type t. */
static enum dtype solved_type(enum dtype t, uint32_t n_in)
{
    if (dtype_table[t].block == 1) return t;
    return n_in % dtype_table[DT_Q8_0].block ? DT_F16 : DT_Q8_0;
}

static stretto_status write_solved(struct writing *w, uint32_t l, const char *what, const float *weight, uint32_t rows,
                                   uint32_t n_in, struct error *err)
{
    char name[GRAPH_NAME];
    const struct rewrite_tensor *t = rewrite_find(w->r, layer_param(name, number_of(w, l), what));
    size_t n = (size_t)rows * n_in;
    if (t->type == DT_F32) return put(w, name, weight, n * sizeof *weight, err);
    void *bytes = mem_alloc(dtype_bytes(t->type, n));
    if (!bytes) return fail(err, STRETTO_E_NOMEM, "no memory for %s", name);
    dtype_table[t->type].encode(weight, bytes, n);
    stretto_status st = put(w, name, bytes, dtype_bytes(t->type, n), err);
    mem_free(bytes);
    return st;
}

/* ---- solving -------------------------------------------------------------------------------------- */

static void add_rows(float *to, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] += x[i];
}

static stretto_status linear_rows(const struct writing *w, const float *weight, uint32_t n_in, uint32_t rows,
                                  const float *bias, float *out)
{
    workers_linear(w->s.o->workers, w->tap, w->s.tokens, weight, n_in, rows, out);
    for (size_t i = 0; bias && i < w->s.tokens * rows; i++) out[i] += bias[i % rows];
    return STRETTO_OK;
}

/* solved [rows][kept]: the weight on what is left of its inputs, whose rows are in tap, for the answers in aim. */
static stretto_status solve(struct writing *w, const float *weight, uint32_t n_in, uint32_t rows, const float *bias,
                            const uint32_t *keep, uint32_t kept, float *whole, float *solved, struct error *err)
{
    size_t tokens = w->s.tokens;
    struct two e = { 0 };
    double damp = 0;
    float *ask = mem_alloc(tokens * rows * sizeof *ask);
    if (!ask) return fail(err, STRETTO_E_NOMEM, "no memory for the answers to %zu tokens", tokens);
    linear_rows(w, whole, n_in, rows, bias, ask);
    for (size_t i = 0; i < tokens * rows; i++) ask[i] = w->aim[i] - ask[i];
    stretto_status st = evidence_open(&e, &w->s, w->tap, n_in, ask, NULL, rows, err);
    if (st == STRETTO_OK)
        st = solve_checked(w->s.o->workers, &e.fit, &e.held, weight, rows, keep, kept, &damp, solved, err);
    log_say(&w->s.o->log, LOG_DEBUG, "%u of %u inputs solved with damping %g", kept, n_in, damp);
    evidence_done(&e);
    mem_free(ask);
    return st;
}

static void spread(float *whole, const float *weight, uint32_t rows, uint32_t n_in, const uint32_t *keep, uint32_t kept,
                   bool full)
{
    memset(whole, 0, (size_t)rows * n_in * sizeof *whole);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < kept; c++)
            whole[r * n_in + keep[c]] = weight[r * (full ? n_in : kept) + (full ? keep[c] : c)];
}

/* One of the two: its inputs' rows are in tap, what it should answer in aim. Its answer to what is left goes to
 * aim; whole: the weight as it is written, zeros where inputs are gone. */
static stretto_status mend(struct writing *w, uint32_t l, const char *what, const uint32_t *keep, uint32_t kept,
                           float **whole, struct error *err)
{
    char name[GRAPH_NAME], bias_name[GRAPH_NAME];
    float *weight, *bias = NULL, *solved = NULL;
    uint32_t n_in, rows, one, n;
    snprintf(name, sizeof name, "blk.%u.%s.weight", l, what);
    snprintf(bias_name, sizeof bias_name, "blk.%u.%s.bias", l, what);
    TRY(shrink_read(&w->s, name, &weight, &n_in, &rows, err));
    stretto_status st = STRETTO_OK;
    if (graph_param_find(&w->s.m->graph, bias_name) != GRAPH_NONE)
        st = shrink_read(&w->s, bias_name, &bias, &n, &one, err);
    *whole = mem_alloc((size_t)rows * n_in * sizeof **whole);
    solved = mem_alloc((size_t)rows * kept * sizeof *solved);
    if (st == STRETTO_OK && (!*whole || !solved)) st = fail(err, STRETTO_E_NOMEM, "no memory for %s", name);
    if (st == STRETTO_OK) {
        spread(*whole, weight, rows, n_in, keep, kept, true);
        if (w->s.o->plain)
            for (size_t r = 0; r < rows; r++)
                for (size_t c = 0; c < kept; c++) solved[r * kept + c] = weight[r * n_in + keep[c]];
        else st = solve(w, weight, n_in, rows, bias, keep, kept, *whole, solved, err);
    }
    if (st == STRETTO_OK) {
        spread(*whole, solved, rows, n_in, keep, kept, false);
        if (!w->s.o->plain) linear_rows(w, *whole, n_in, rows, bias, w->aim);
        snprintf(name, sizeof name, "%s.weight", what);
        st = write_solved(w, l, name, solved, rows, kept, err);
    }
    mem_free(weight);
    mem_free(bias);
    mem_free(solved);
    return st;
}

/* ---- a layer ---------------------------------------------------------------------------------------- */

static size_t row_count(const struct writing *w) { return w->s.tokens * w->s.m->config.width; }

/* Both walks from one place of the residual stream to the next, past the linear layer whose inputs stand at `reads`:
 * on the way it is solved and written. */
static stretto_status pass_half(struct writing *w, uint32_t l, bool feed, const uint32_t *keep, uint32_t kept,
                                struct error *err)
{
    enum piece_place from = feed ? PIECE_MIDDLE : PIECE_IN, reads = feed ? PIECE_FED : PIECE_ATTENDED,
                     makes = feed ? PIECE_MADE : PIECE_MIXED, to = feed ? PIECE_OUT : PIECE_MIDDLE;
    const char *what = feed ? "ffn_down" : "attn_output";
    bool first = l == 0 && !feed, end = feed && l + 1 == w->s.m->config.layers;
    size_t n = row_count(w);
    char name[GRAPH_NAME];
    float *whole = NULL;
    const struct shrink *s = &w->s;
    if (w->s.o->plain) {
        stretto_status plain = mend(w, l, what, keep, kept, &whole, err);
        mem_free(whole);
        return plain;
    }
    TRY(shrink_pass(s, &s->b, l, from, makes, first ? NULL : w->x, w->aim, err));
    TRY(shrink_pass(s, &s->b, l, from, reads, first ? NULL : w->y, w->tap, err));
    if (w->stream && !first) {
        add_rows(w->x, w->aim, n);              /* the original's stream behind it, */
        for (size_t i = 0; i < n; i++) w->aim[i] = w->x[i] - w->y[i];
    }
    stretto_status st = mend(w, l, what, keep, kept, &whole, err);
    uint32_t n_in = feed ? s->m->config.layer[l].feed : s->m->config.layer[l].heads * s->m->config.head_dim;
    struct overlay o = { .base = &s->b, .n = 1,
                         .own = { { layer_param(name, l, feed ? "ffn_down.weight" : "attn_output.weight"), whole, n_in,
                                    s->m->config.width } } };
    struct binding b = overlay_binding(&o);
    if (st == STRETTO_OK && w->stream && !first) add_rows(w->y, w->aim, n);
    else if (st == STRETTO_OK && !end) {
        st = shrink_pass(s, &b, l, from, to, first ? NULL : w->y, w->y, err);
        if (st == STRETTO_OK) st = shrink_pass(s, &s->b, l, from, to, first ? NULL : w->x, w->x, err);
    }
    mem_free(whole);
    return st;
}

static stretto_status write_layer(struct writing *w, uint32_t l, struct error *err)
{
    const struct config *c = &w->s.m->config;
    uint32_t hd = c->head_dim, each = heads_each(&c->layer[l]), kept, *keep = NULL;
    TRY(keep_of(w, l, false, hd, &keep, &kept, err));
    stretto_status st = STRETTO_OK;
    static const char *const by_group[] = { "attn_k.weight", "attn_v.weight", "attn_k.bias", "attn_v.bias" };
    static const char *const by_channel[] = { "ffn_gate.weight", "ffn_up.weight", "ffn_gate.bias", "ffn_up.bias" };
    for (size_t i = 0; i < 4 && st == STRETTO_OK; i++) st = write_rows(w, l, by_group[i], keep, kept, err);
    mem_free(keep);
    keep = NULL;
    if (st == STRETTO_OK) st = keep_of(w, l, false, hd * each, &keep, &kept, err);
    if (st == STRETTO_OK) st = write_rows(w, l, "attn_q.weight", keep, kept, err);
    if (st == STRETTO_OK) st = write_rows(w, l, "attn_q.bias", keep, kept, err);
    if (st == STRETTO_OK) st = pass_half(w, l, false, keep, kept, err);
    mem_free(keep);
    keep = NULL;
    if (st == STRETTO_OK) st = keep_of(w, l, true, 1, &keep, &kept, err);
    for (size_t i = 0; i < 4 && st == STRETTO_OK; i++) st = write_rows(w, l, by_channel[i], keep, kept, err);
    if (st == STRETTO_OK) st = pass_half(w, l, true, keep, kept, err);
    mem_free(keep);
    return st;
}

/* A layer that goes: the original's rows pass it. */
static stretto_status pass_gone(struct writing *w, uint32_t l, struct error *err)
{
    if (w->s.o->plain || l + 1 == w->s.m->config.layers) return STRETTO_OK;
    return shrink_pass(&w->s, &w->s.b, l, PIECE_IN, PIECE_OUT, w->x, w->x, err);
}

/* ---- the list of tensors and the metadata ------------------------------------------------------------ */

/* "blk.7.attn_q.weight": 7, and "attn_q.weight"; false: of no layer. */
static bool of_layer(const char *name, uint32_t *l, const char **what)
{
    char *end;
    if (strncmp(name, "blk.", 4) != 0) return false;
    *l = (uint32_t)strtoul(name + 4, &end, 10);
    *what = end + 1;
    return end > name + 4 && *end == '.';
}

static bool is_one_of(const char *what, const char *const *of, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(what, of[i])) return true;
    return false;
}

/* The shape of what layer `l` was, on its new place t. Tensors that are copied keep theirs. */
static bool set_shape(const struct writing *w, uint32_t l, const char *what, struct rewrite_tensor *t)
{
    static const char *const channels[] = { "ffn_gate.weight", "ffn_up.weight", "ffn_gate.bias", "ffn_up.bias" };
    static const char *const queries[] = { "attn_q.weight", "attn_q.bias" };
    static const char *const groups[] = { "attn_k.weight", "attn_v.weight", "attn_k.bias", "attn_v.bias" };
    const struct shrink_layer *x = &w->plan->layer[l];
    uint32_t hd = w->s.m->config.head_dim, heads = heads_each(&w->s.m->config.layer[l]) * x->kv_heads * hd;
    uint32_t out = is_one_of(what, channels, 4) ? x->feed : is_one_of(what, queries, 2) ? heads
                   : is_one_of(what, groups, 4) ? x->kv_heads * hd : 0;
    uint32_t in = !strcmp(what, "ffn_down.weight") ? x->feed : !strcmp(what, "attn_output.weight") ? heads : 0;
    if (out) t->dims[t->n_dims - 1] = out;
    if (in) {
        t->dims[0] = in;
        t->type = solved_type(t->type, in);
    }
    return in || out;
}

static stretto_status list_tensors(struct writing *w, struct error *err)
{
    for (size_t i = 0; i < rewrite_count(w->r); i++) {
        struct rewrite_tensor *t = rewrite_at(w->r, i);
        char name[GRAPH_NAME];
        const char *what;
        uint32_t l;
        if (!of_layer(t->name, &l, &what)) continue;
        t->drop = l >= w->n;
        if (t->drop) continue;
        const struct source_tensor *from = source_tensor_find(w->s.m->source, layer_param(name, w->from[l], what));
        if (!from)
            return fail(err, STRETTO_E_UNSUP, "layers %u and %u have different tensors: none of them can be left out",
                        l, w->from[l]);
        t->type = from->type;
        memcpy(t->dims, from->dims, sizeof t->dims);
        set_shape(w, w->from[l], what, t);
    }
    return STRETTO_OK;
}

static void put_sizes(struct writing *w, const char *prefix, const char *key, const uint32_t *v)
{
    char name[128];
    bool same = true;
    for (uint32_t i = 1; i < w->n; i++) same &= v[i] == v[0];
    snprintf(name, sizeof name, "%s%s", prefix, key);
    if (same) rewrite_put_u32(w->r, name, v[0]);
    else rewrite_put_u32s(w->r, name, v, w->n);
}

/* A key of the family's own under another family's name. */
static void put_renamed(struct rewrite *r, const struct source *s, const char *key, enum source_kind kind,
                        const char *name)
{
    uint64_t u;
    double f;
    struct source_str text;
    bool flag;
    if (kind == SOURCE_BOOL && source_bool(s, key, &flag)) rewrite_put_bool(r, name, flag);
    else if (kind == SOURCE_F64 && source_f64(s, key, &f)) rewrite_put_f32(r, name, (float)f);
    else if (source_u64(s, key, &u)) rewrite_put_u32(r, name, (uint32_t)u);
    else if (source_string(s, key, &text)) {
        char *own = mem_strndup(text.p, text.n);
        rewrite_put_string(r, name, own ? own : "");
        mem_free(own);
    }
}

/* The family's keys under the name `arch`, and the family's name. */
static void rename_family(struct writing *w, const char *arch)
{
    const struct source *s = w->s.m->source;
    size_t n = strlen(source_arch(s));
    for (size_t i = 0; i < source_key_count(s); i++) {
        enum source_kind kind;
        char name[128];
        const char *key = source_key_at(s, i, &kind);
        if (strncmp(key, source_arch(s), n) != 0 || key[n] != '.') continue;
        snprintf(name, sizeof name, "%s%s", arch, key + n);
        put_renamed(w->r, s, key, kind, name);
        rewrite_put_string(w->r, key, NULL);
    }
    rewrite_put_string(w->r, "general.architecture", arch);
}

static char *plan_text(const struct shrink_plan *p)
{
    size_t room = (size_t)p->layers * 40 + 1, at = 0;
    char *text = mem_zalloc(room, 1);
    for (uint32_t l = 0; text && l < p->layers; l++) {
        const struct shrink_layer *x = &p->layer[l];
        if (x->gone) at += (size_t)snprintf(text + at, room - at, "%s-", at ? " " : "");
        else at += (size_t)snprintf(text + at, room - at, "%s%u/%u", at ? " " : "", x->feed, x->kv_heads);
    }
    return text;
}

static stretto_status put_metadata(struct writing *w, struct error *err)
{
    const struct config *c = &w->s.m->config;
    uint32_t *v = mem_alloc(3 * (size_t)w->n * sizeof *v);
    char *text = plan_text(w->plan), key[128];
    if (!v || !text) {
        mem_free(v);
        mem_free(text);
        return fail(err, STRETTO_E_NOMEM, "out of memory");
    }
    bool differ = false;
    for (uint32_t i = 0; i < w->n; i++) {
        const struct shrink_layer *x = &w->plan->layer[w->from[i]];
        v[i] = x->feed;
        v[w->n + i] = x->kv_heads;
        v[2 * w->n + i] = x->kv_heads * heads_each(&c->layer[w->from[i]]);
        differ |= v[i] != v[0] || v[w->n + i] != v[w->n];
    }
    const char *arch = differ && shrink_arch(w->s.m) ? shrink_arch(w->s.m) : source_arch(w->s.m->source);
    if (strcmp(arch, source_arch(w->s.m->source)) != 0) rename_family(w, arch);
    put_sizes(w, arch, ".feed_forward_length", v);
    put_sizes(w, arch, ".attention.head_count_kv", v + w->n);
    put_sizes(w, arch, ".attention.head_count", v + 2 * w->n);
    static const char *const own[] = { ".block_count", ".attention.key_length", ".attention.value_length" };
    const uint32_t is[] = { w->n, c->head_dim, c->head_dim };
    for (size_t i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "%s%s", arch, own[i]);
        bool says = i == 0 || v[2 * w->n] != c->layer[0].heads || source_has(w->s.m->source, key);
        if (says) rewrite_put_u32(w->r, key, is[i]);
    }
    rewrite_put_string(w->r, "stretto.shrink.layers", text);
    mem_free(v);
    mem_free(text);
    return STRETTO_OK;
}

/* Tensors that stand outside of what is solved: of no layer, and the norms of the layers that stay. */
static stretto_status copy_others(struct writing *w, struct error *err)
{
    for (size_t i = 0; i < rewrite_count(w->r); i++) {
        struct rewrite_tensor *t = rewrite_at(w->r, i), shape;
        char name[GRAPH_NAME];
        const char *what;
        uint32_t l;
        if (t->drop || t->done) continue;
        if (!of_layer(t->name, &l, &what)) {
            TRY(rewrite_copy(w->r, t->name, err));
            continue;
        }
        shape = *t;
        if (set_shape(w, w->from[l], what, &shape)) continue;
        const struct source_tensor *from = source_tensor_find(w->s.m->source, layer_param(name, w->from[l], what));
        TRY(rewrite_write(w->r, t->name, from->data, from->bytes, err));
    }
    return STRETTO_OK;
}

/* ---- the whole -------------------------------------------------------------------------------------- */

static stretto_status take(struct writing *w, struct error *err)
{
    const struct config *c = &w->s.m->config;
    size_t widest = c->feed, heads = (size_t)c->heads * c->head_dim;
    if (heads > widest) widest = heads;
    w->from = mem_alloc(c->layers * sizeof *w->from);
    if (!w->s.o->plain) {
        w->x = mem_alloc(row_count(w) * sizeof *w->x);
        w->y = mem_alloc(row_count(w) * sizeof *w->y);
        w->aim = mem_alloc(row_count(w) * sizeof *w->aim);
        w->tap = mem_alloc(w->s.tokens * widest * sizeof *w->tap);
    }
    if (!w->from || (!w->s.o->plain && (!w->x || !w->y || !w->aim || !w->tap)))
        return fail(err, STRETTO_E_NOMEM, "no memory for the rows of %zu tokens", w->s.tokens);
    for (uint32_t l = 0; l < c->layers; l++)
        if (!w->plan->layer[l].gone) w->from[w->n++] = l;
    w->stream = w->s.m->family->norm_at == NORM_BEFORE;
    return STRETTO_OK;
}

static stretto_status check(const struct writing *w, struct error *err)
{
    const struct model *m = w->s.m;
    bool heads = false;
    for (uint32_t i = 0; i < w->n; i++) {
        heads |= w->plan->layer[w->from[i]].kv_heads != m->config.layer[w->from[i]].kv_heads;
    }
    if (heads && m->family->qk_norm == QK_NORM_WIDTH)
        return fail(err, STRETTO_E_UNSUP, "%s models norm queries over all heads at once: heads cannot go",
                    m->family->name);
    for (uint32_t l = 0; w->n < m->config.layers && l < m->config.layers; l++)
        if (m->config.layer[l].window || m->config.layer[l].turn != m->config.layer->turn)
            return fail(err, STRETTO_E_UNSUP, "layers of %s models with a window or without positions take turns: none "
                        "can go",
                        m->family->name);
    return STRETTO_OK;
}

/* All that says what is written where: sizes, what goes first, and the text that it is solved on. */
static uint64_t hash_of(const struct writing *w)
{
    const struct shrink_plan *p = w->plan;
    const struct config *c = &w->s.m->config;
    uint64_t h = hash_bytes(w->s.o->plain, w->s.id, w->s.tokens * sizeof *w->s.id);
    h = hash_bytes(h, w->s.at, (w->s.text.n + 1) * sizeof *w->s.at);
    for (uint32_t l = 0; l < p->layers; l++) {
        const struct shrink_layer *x = &p->layer[l];
        const uint32_t sizes[] = { x->gone, x->feed, x->kv_heads };
        h = hash_bytes(h, sizes, sizeof sizes);
    }
    if (p->order) h = hash_bytes(h, p->order, (size_t)p->layers * c->feed * sizeof *p->order);
    if (p->group_order) h = hash_bytes(h, p->group_order, (size_t)p->layers * c->kv_heads * sizeof *p->group_order);
    return h;
}

static stretto_status write_all(struct writing *w, struct error *err)
{
    const struct shrink_options *o = w->s.o;
    TRY(take(w, err));
    TRY(check(w, err));
    char recipe[80];
    snprintf(recipe, sizeof recipe, "shrink %016llx", (unsigned long long)hash_of(w));
    struct rewrite_options how = { .recipe = recipe, .force = o->force, .log = o->log };
    stretto_status st = rewrite_open(&w->r, w->s.m, w->path, &how, err);
    if (st == STRETTO_OK) st = list_tensors(w, err);
    if (st == STRETTO_OK) st = put_metadata(w, err);
    if (st == STRETTO_OK) st = rewrite_begin(w->r, err);
    for (uint32_t l = 0; l < w->plan->layers && st == STRETTO_OK; l++) {
        progress_tell(&o->progress, "layers written", l, w->plan->layers);
        st = w->plan->layer[l].gone ? pass_gone(w, l, err) : write_layer(w, l, err);
    }
    if (st == STRETTO_OK) st = copy_others(w, err);
    if (st == STRETTO_OK) st = rewrite_finish(w->r, err);
    if (st == STRETTO_OK) progress_tell(&o->progress, "layers written", w->plan->layers, w->plan->layers);
    return st;
}

/* The file again: opened, and run on the first tokens of the text. */
static stretto_status try_file(const struct writing *w, struct error *err)
{
    struct model *m = NULL;
    struct engine *e = NULL;
    struct model_open_options how = { 0 };
    struct engine_options size = { .context = 64 };
    struct answer last = { 0 };
    int32_t seq;
    uint32_t n = w->s.o->text.at[1] - w->s.o->text.at[0];
    stretto_status st = model_open(&m, w->path, &how, err);
    if (st == STRETTO_OK) st = engine_open(&e, m, &size, err);
    if (st == STRETTO_OK) st = engine_seq_open(e, &seq, err);
    if (st == STRETTO_OK)
        st = engine_feed(e, seq, w->s.o->text.id + w->s.o->text.at[0], n < 32 ? n : 32, WANT_BEST, &last, err);
    engine_close(e);
    model_close(m);
    return st;
}

stretto_status shrink_write(const struct shrink_plan *plan, const struct model *m, const char *path,
                            const struct shrink_options *o, struct error *err)
{
    struct writing w = { .plan = plan, .path = path };
    stretto_status st = shrink_begin(&w.s, m, o, err);
    if (st == STRETTO_OK) st = damage_blame(m->source, write_all(&w, err), err);
    rewrite_close(w.r, false);
    if (st == STRETTO_OK && (st = try_file(&w, err)) != STRETTO_OK) unlink(path);
    shrink_end(&w.s);
    mem_free(w.from);
    mem_free(w.x);
    mem_free(w.y);
    mem_free(w.aim);
    mem_free(w.tap);
    return st;
}

/* ---- the plan of a file ------------------------------------------------------------------------------- */

stretto_status shrink_plan_of(struct shrink_plan *plan, const struct model *m, const char *path, struct error *err)
{
    struct source *s = NULL;
    struct source_str text;
    *plan = (struct shrink_plan){ .layers = m->config.layers,
                                  .layer = mem_zalloc(m->config.layers, sizeof *plan->layer) };
    stretto_status st = plan->layer ? source_open(&s, path, err) : fail(err, STRETTO_E_NOMEM, "out of memory");
    if (st == STRETTO_OK && !source_string(s, "stretto.shrink.layers", &text))
        st = fail(err, STRETTO_E_ARG, "%s does not say of which shape it was made", path);
    const char *p = st == STRETTO_OK ? text.p : NULL, *end = p ? p + text.n : NULL;
    for (uint32_t l = 0; l < plan->layers && st == STRETTO_OK; l++) {
        struct shrink_layer *x = &plan->layer[l];
        const struct layer_config *c = &m->config.layer[l];
        char word[32] = "";
        size_t n = 0;
        while (p < end && *p == ' ') p++;
        while (p < end && *p != ' ' && n + 1 < sizeof word) word[n++] = *p++;
        x->gone = !strcmp(word, "-");
        if (x->gone) continue;
        if (sscanf(word, "%u/%u", &x->feed, &x->kv_heads) != 2 || x->feed < 1 || x->feed > c->feed || x->kv_heads < 1
            || x->kv_heads > c->kv_heads)
            st = fail(err, STRETTO_E_ARG, "%s was made of a model of another shape", path);
    }
    source_close(s);
    if (st != STRETTO_OK) shrink_plan_done(plan);
    return st;
}
