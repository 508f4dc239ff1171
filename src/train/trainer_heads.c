/* A training of heads beside a model that stays as it is (heads.h). */
#include "base/clock.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/part.h"
#include "base/random.h"
#include "engine/head_file.h"
#include "format/safetensors_write.h"
#include "train/trainer_int.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DRAW_HEADS = 11, MEASURED = 2048, HEADER_MOST = 1 << 20, SCALE_ROWS = 4096, ROUND = 16 };

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

bool trainer_has_heads(const struct trainer *t) { return t->o.method == TRAIN_HEADS; }

/* ---- what is asked for ----------------------------------------------------------------------- */

static const char *wrong_option(const struct train_options *o)
{
    return o->teacher || o->written > 0 ? "--teacher: what they learn is what the model itself writes"
         : o->phrases ? "--phrases: teach the model with them first, and the heads beside what comes of it"
         : o->watch ? "--watch: the model stays as it is, and so do its answers"
         : o->rows_of || o->targets || o->last_layers ? "what belongs to an adapter"
         : o->block || o->states ? "noisy copies of answers (--block, --states)"
         : o->precision == PRECISION_F16 ? "--precision f16"
         : NULL;
}

static stretto_status check(const struct trainer *t, struct error *err)
{
    const struct train_options *o = &t->o;
    const char *wrong = wrong_option(o);
    if (wrong) return fail(err, STRETTO_E_ARG, "heads are not trained with %s", wrong);
    if (!o->depth || o->depth > MAX_HEADS)
        return fail(err, STRETTO_E_ARG, "heads guess 1 to %d tokens, not %u", MAX_HEADS, o->depth);
    if (t->model->n_adapters && t->model->adapters[0].pairs.rows == ADAPTER_GUESSES)
        return fail(err, STRETTO_E_ARG, "%s acts on guesses alone, so the states that heads read are the model's "
                    "without it: leave it out", o->lora);
    if (o->feed > FEED_MOST) return fail(err, STRETTO_E_ARG, "a head has at most %d channels", FEED_MOST);
    if (t->model->graph.logits == GRAPH_NONE)
        return fail(err, STRETTO_E_UNSUP, "%s is an encoder, behind whose rows no next token stands", o->model);
    return STRETTO_OK;
}

/* ---- the tokens that can be guessed ----------------------------------------------------------- */

struct often { uint64_t count; int32_t id; };

static int by_count(const void *p, const void *q)
{
    const struct often *a = p, *b = q;
    if (a->count != b->count) return a->count > b->count ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static void count_tokens(const struct lines *l, struct often *list)
{
    for (size_t i = 0; i < l->n; i++)
        for (uint32_t k = l->sample[i].first; k <= l->sample[i].last; k++)
            if (sample_weights(l, &l->sample[i])[k] > 0) list[sample_ids(l, &l->sample[i])[k]].count++;
}

/* Those that answers have most often, as many as were asked for and occur, and up to a multiple of ROUND. Where all are
 * to be guessed each is in its place. */
static stretto_status choose_tokens(struct trainer *t, struct error *err)
{
    struct trainer_heads *h = &t->heads;
    uint32_t vocab = t->model->config.vocab, want = t->o.slice && t->o.slice < vocab ? t->o.slice : vocab, n = 0;
    struct often *list = mem_zalloc(vocab, sizeof *list);
    h->token = mem_alloc(vocab * sizeof *h->token);
    h->place = mem_alloc(vocab * sizeof *h->place);
    if (list && h->token && h->place) {
        for (uint32_t i = 0; i < vocab; i++) list[i].id = (int32_t)i;
        count_tokens(&t->lines, list);
        if (want < vocab) qsort(list, vocab, sizeof *list, by_count);
        while (n < want && (want == vocab || list[n].count || n % ROUND)) n++;
        memset(h->place, 0xff, vocab * sizeof *h->place);
        for (uint32_t i = 0; i < n; i++) {
            h->token[i] = list[i].id;
            h->place[list[i].id] = (int32_t)i;
        }
        h->shape.guessed = n;
    }
    mem_free(list);
    return n ? STRETTO_OK : no_memory(err);
}

/* ---- open ------------------------------------------------------------------------------------ */

stretto_status trainer_heads_open(struct trainer *t, struct error *err)
{
    struct trainer_heads *h = &t->heads;
    uint32_t width = t->model->config.width;
    if (!trainer_has_heads(t)) return STRETTO_OK;
    TRY(check(t, err));
    h->shape = (struct head_shape){ t->o.head, t->o.depth, t->o.feed ? t->o.feed : 2 * width, 0 };
    TRY(choose_tokens(t, err));
    h->rows = (struct head_rows){ t->o.head, t->o.depth, width, h->place, &t->taught };
    for (size_t i = 0; i < t->lines.n; i++) t->lines.sample[i].taught = (uint32_t)i;
    for (size_t i = 0; i < t->held.n; i++) t->held.sample[i].taught = (uint32_t)(t->lines.n + i);
    if (heads_units(&t->lines, &h->rows, NULL)) return STRETTO_OK;
    return fail(err, STRETTO_E_FORMAT, "no answer has two tokens, so there is nothing that heads could guess");
}

static struct taught_shape shape_of(const struct trainer *t)
{
    return (struct taught_shape){ .vocab = t->model->config.vocab, .width = t->model->config.width };
}

void trainer_heads_plan(struct trainer *t)
{
    const struct taught_shape s = shape_of(t);
    struct train_plan *p = &t->plan;
    if (!trainer_has_heads(t)) return;
    p->hidden_rows = t->lines.learned + t->held.learned;
    p->hidden_bytes = taught_bytes(&s, &t->lines, &t->held);
    p->hidden_flops = 0;
    double tokens = (double)p->tokens * (1 + (double)t->held.n / (double)t->lines.n);
    double context = (double)p->tokens / (double)p->samples / 2;
    for (size_t i = 0; i < t->model->graph.n_nodes; i++)
        p->hidden_flops += tokens * graph_node_cost(&t->model->graph, i, 1, 0, context).flops;
}

/* Hidden states of all lines are in the file, and the beginning of what is trained follows from them. */
static stretto_status ask(struct trainer *t, struct error *err)
{
    const struct taught_shape s = shape_of(t);
    const struct model_adapter beside = { .path = (char *)(uintptr_t)t->o.lora, .scale = 1 };
    const struct teacher_how how = { .adapters = &beside, .n_adapters = t->o.lora != NULL,
                                     .model = t->o.model, .threads = t->o.threads, .level = t->o.level,
                                     .memory = t->o.memory, .progress = t->o.progress, .cancel = t->o.cancel };
    struct taught_key key = { .vocabulary = teacher_vocabulary(t->model) };
    double begin = clock_seconds();
    memcpy(key.teacher, t->base, sizeof key.teacher);
    lines_digest(&t->lines, key.text);
    lines_digest(&t->held, key.held);
    if (t->o.teacher_cache) snprintf(t->taught_path, sizeof t->taught_path, "%s", t->o.teacher_cache);
    else TRY(trainer_path(t->o.folder, "hidden.cache", t->taught_path, err));
    TRY(taught_open(&t->taught, t->taught_path, &s, &key, &t->lines, &t->held, err));
    TRY(teacher_answer(&how, &t->taught, &t->lines, &t->held, err));
    t->asking_seconds += clock_seconds() - begin;
    return STRETTO_OK;
}

/* The root of the mean square of hidden states: how large what is projected is. */
static stretto_status find_scale(const struct trainer *t, double *out, struct error *err)
{
    uint32_t width = t->model->config.width, n = 0;
    double sum = 0;
    float *x = mem_alloc(width * sizeof *x);
    if (!x) return no_memory(err);
    for (size_t i = 0; i < t->lines.n && n < SCALE_ROWS; i++, n++) {
        hidden_read(&t->taught, t->lines.sample[i].taught, 0, x);
        for (uint32_t k = 0; k < width; k++) sum += (double)x[k] * (double)x[k];
    }
    mem_free(x);
    *out = sqrt(sum / ((double)n * width));
    return STRETTO_OK;
}

/* What is trained begins so that a state stays what it is: Medusa's W is zero, as published; of the recursive head
 * state.weight is the identity times the hidden states' size and down.weight is zero. The others are uniform. */
static void draw(const struct trainer *t, const struct graph_param *p, double scale, float *out)
{
    bool state = strcmp(p->name, "recursive.state.weight") == 0, token = strcmp(p->name, "recursive.token.weight") == 0;
    bool wide = strcmp(p->name, "recursive.gate.weight") == 0 || strcmp(p->name, "recursive.up.weight") == 0;
    double bound = (token ? 0.5 * scale : 1) / sqrt((double)p->n_in);
    uint64_t of = hash_text(0, p->name);
    for (size_t i = 0; i < (size_t)p->n_in * p->n_out; i++)
        out[i] = state ? (i / p->n_in == i % p->n_in ? (float)scale : 0)
               : wide || token ? (float)(bound * (2 * random_unit(random_at(t->o.seed, DRAW_HEADS, of, i)) - 1)) : 0;
}

stretto_status trainer_heads_ask(struct trainer *t, struct error *err)
{
    struct trainer_heads *h = &t->heads;
    double scale = 1;
    if (!trainer_has_heads(t)) return STRETTO_OK;
    TRY(ask(t, err));
    TRY(find_scale(t, &scale, err));
    for (size_t i = 0; i < t->forward.n_params; i++) {
        const struct graph_param *p = &t->forward.params[i];
        if (!heads_own(p->name)) continue;
        h->first[i] = mem_alloc((size_t)p->n_in * p->n_out * sizeof(float));
        if (!h->first[i]) return no_memory(err);
        draw(t, p, scale, h->first[i]);
    }
    return STRETTO_OK;
}

stretto_status trainer_heads_graph(struct trainer *t, struct error *err)
{
    struct trainer_heads *h = &t->heads;
    TRY(heads_graph(&t->forward, t->model, &h->shape, err));
    if (t->forward.n_params <= HEADS_PARAMS) return head_slice(t->model, h->token, h->shape.guessed, &h->slice, err);
    return fail(err, STRETTO_E_ARG, "too many heads");
}

/* Before the states are known nobody reads the numbers. */
stretto_status trainer_heads_param(struct trainer *t, const char *name, uint32_t n_in, uint32_t n_out,
                                   struct param_bytes *out, struct error *err)
{
    struct trainer_heads *h = &t->heads;
    if (strcmp(name, "heads.slice") == 0) *out = h->slice;
    else if (!heads_own(name)) return model_param(t->model, name, n_in, n_out, out, err);
    else
        *out = (struct param_bytes){ .type = DT_F32, .n_in = n_in, .n_out = n_out,
                                     .data = h->first[graph_param_find(&t->forward, name)],
                                     .row_bytes = n_in * sizeof(float), .memory = true };
    return STRETTO_OK;
}

void trainer_heads_done(struct trainer *t)
{
    struct trainer_heads *h = &t->heads;
    for (size_t i = 0; i < HEADS_PARAMS; i++) mem_free(h->first[i]);
    mem_free((void *)(uintptr_t)h->slice.data);
    mem_free(h->token);
    mem_free(h->place);
    *h = (struct trainer_heads){ .rows = { 0 } };
}

/* ---- the file -------------------------------------------------------------------------------- */

struct tensors { struct st_tensor list[HEADS_PARAMS + 1]; int32_t param[HEADS_PARAMS + 1]; size_t n; uint64_t bytes; };

static void add_tensor(struct tensors *x, const char *name, const char *type, int32_t param, const uint64_t *shape,
                       size_t dims, uint64_t size)
{
    struct st_tensor *s = &x->list[x->n];
    *s = (struct st_tensor){ .name = name, .n_dims = dims, .bytes = size };
    snprintf(s->dtype, sizeof s->dtype, "%s", type);
    for (size_t i = 0; i < dims; i++) {
        s->shape[i] = shape[i];
        s->bytes *= shape[i];
    }
    x->bytes += s->bytes;
    x->param[x->n++] = param;
}

static void list_tensors(const struct trainer *t, struct tensors *x)
{
    const uint64_t guessed = t->heads.shape.guessed;
    *x = (struct tensors){ .n = 0 };
    for (size_t i = 0; i < t->forward.n_params; i++) {
        const struct graph_param *p = &t->forward.params[i];
        const uint64_t shape[2] = { p->n_out, p->n_in };
        bool vector = p->n_out == 1 && strncmp(p->name, "heads.", 6) == 0;
        if (heads_own(p->name)) add_tensor(x, p->name, "F16", (int32_t)i, shape + vector, vector ? 1 : 2, 2);
    }
    if (guessed < t->model->config.vocab) add_tensor(x, "tokens", "I32", GRAPH_NONE, &guessed, 1, 4);
}

static stretto_status header_of(const struct trainer *t, const struct tensors *x, struct buffer *out, struct error *err)
{
    struct head_about own[HEAD_ABOUT];
    char number[3][24];
    const char *about[2 * (HEAD_ABOUT + 8) + 1];
    size_t n = 0;
    head_about(t->model, own);
    snprintf(number[0], sizeof number[0], "%llu", (unsigned long long)t->o.seed);
    snprintf(number[1], sizeof number[1], "%llu", (unsigned long long)t->step);
    snprintf(number[2], sizeof number[2], "%u", t->o.depth);
    const char *const notes[] = { "format", HEAD_FORMAT, "base_content", t->base, "template", t->template, "data",
                                  t->data, "seed", number[0], "steps", number[1], "depth", number[2] };
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) about[n++] = notes[i];
    for (int i = 0; i < HEAD_ABOUT; i++) {
        about[n++] = own[i].key;
        about[n++] = own[i].value;
    }
    about[n] = NULL;
    return safetensors_header(out, x->list, x->n, about) == STRETTO_OK ? STRETTO_OK : no_memory(err);
}

static stretto_status half(const float *in, unsigned char *out, size_t n, const char *name, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t bits;
        if (!(fabsf(in[i]) <= dtype_table[DT_F16].most))
            return fail(err, STRETTO_E_NAN, "%s holds a value that float16 does not: take a smaller --lr", name);
        dtype_table[DT_F16].encode(&in[i], &bits, 1);
        out[2 * i] = (unsigned char)bits;
        out[2 * i + 1] = (unsigned char)(bits >> 8);
    }
    return STRETTO_OK;
}

static stretto_status put_tensor(struct trainer *t, struct part *file, uint64_t at, const struct tensors *x, size_t i,
                                 struct error *err)
{
    const struct st_tensor *s = &x->list[i];
    size_t n = s->bytes / 2;
    unsigned char *bytes = mem_alloc(s->bytes);
    float *values = x->param[i] == GRAPH_NONE ? NULL : mem_alloc(n * sizeof *values);
    stretto_status st = bytes && (values || x->param[i] == GRAPH_NONE) ? STRETTO_OK : no_memory(err);
    if (st == STRETTO_OK && values) st = trainer_learned(t, s->name, values, err);
    if (st == STRETTO_OK && values) st = half(values, bytes, n, s->name, err);
    for (size_t k = 0; st == STRETTO_OK && !values && k < s->bytes; k++)
        bytes[k] = (unsigned char)((uint32_t)t->heads.token[k / 4] >> 8 * (k % 4));
    if (st == STRETTO_OK) st = part_put(file, at, bytes, s->bytes, err);
    mem_free(bytes);
    mem_free(values);
    return st;
}

static stretto_status put_file(struct trainer *t, const char *path, const struct tensors *x,
                               const struct buffer *header, struct error *err)
{
    struct part file;
    uint64_t at = header->len;
    TRY(part_open(&file, path, true, true, err));
    stretto_status s = part_begin(&file, header->len + x->bytes, err);
    if (s == STRETTO_OK) s = part_put(&file, 0, header->data, header->len, err);
    for (size_t i = 0; i < x->n && s == STRETTO_OK; at += x->list[i++].bytes) s = put_tensor(t, &file, at, x, i, err);
    if (s == STRETTO_OK) s = part_finish(&file, err);
    part_close(&file);
    return s;
}

static stretto_status file_path(const struct trainer *t, char out[PATH_MAX], struct error *err)
{
    return trainer_path(t->o.folder, "heads.safetensors", out, err);
}

stretto_status trainer_heads_write(struct trainer *t, struct error *err)
{
    struct tensors x;
    char path[PATH_MAX];
    struct buffer header = buffer_make(HEADER_MOST);
    TRY(file_path(t, path, err));
    list_tensors(t, &x);
    stretto_status s = header_of(t, &x, &header, err);
    if (s == STRETTO_OK) s = put_file(t, path, &x, &header, err);
    buffer_done(&header);
    return s;
}

/* ---- what they are worth --------------------------------------------------------------------- */

/* By the file as it is now, and the arithmetic that guesses. */
stretto_status trainer_heads_measure(struct trainer *t, struct head_accept *out, struct error *err)
{
    char path[PATH_MAX];
    *out = (struct head_accept){ .n = 0, .per_step = NAN };
    if (!trainer_has_heads(t) || !t->held.n) return STRETTO_OK;
    TRY(trainer_heads_write(t, err));
    TRY(file_path(t, path, err));
    const struct head_measure how = { path, t->model, t->device, t->o.threads, &t->held, &t->heads.rows, MEASURED,
                                      t->o.cancel };
    return heads_measure(out, &how, err);
}
