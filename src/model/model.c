#include "model/model.h"
#include "base/clock.h"
#include "base/memory.h"
#include "format/extend.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* Norm weights that the file stores minus one (gemma in Hugging Face folders). */
static bool is_norm_weight(const char *name)
{
    return strstr(name, "norm.weight") != NULL;
}

/* Whether rows of it are looked up: they stay where the source has them. */
static bool looked_up(const struct graph *g, const char *name)
{
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        if (n->op == OP_EMBED && n->embed != EMBED_VECTOR && strcmp(g->params[node_param(g, n, 0)].name, name) == 0)
            return true;
    }
    return false;
}

stretto_status model_param(void *ud, const char *name, uint32_t n_in, uint32_t n_out,
                           struct param_bytes *out, struct error *err)
{
    const struct model *m = ud;
    if (model_adapters_param(m, name, out)) return STRETTO_OK;
    const struct source_tensor *t = source_tensor_find(m->source, name);
    if (!t)
        return fail(err, STRETTO_E_FORMAT, "the file has no tensor %s, which a %s model needs",
                    name, m->family->name);
    TRY(source_tensor_whole(m->source, err));
    uint64_t rows = t->n_dims > 1 ? t->dims[1] : 1;
    if (t->dims[0] != n_in || t->n_dims > 2 || (n_out && rows != n_out) || rows > UINT32_MAX ||
        rows == 0)
        return fail(err, STRETTO_E_FORMAT, "tensor %s is %llu x %llu; expected %u x %u", name,
                    (unsigned long long)t->dims[0], (unsigned long long)rows, n_in, n_out);
    const struct dtype_info *d = &dtype_table[t->type];
    size_t along = t->transposed ? (size_t)rows : n_in;
    if (along % d->block)
        return fail(err, STRETTO_E_FORMAT,
                    "tensor %s has rows of %zu elements, which %s "
                    "cannot hold",
                    name, along, d->name);
    *out = (struct param_bytes){.type = t->type,
                                .n_in = n_in,
                                .n_out = (uint32_t)rows,
                                .data = t->data,
                                .row_bytes = dtype_bytes(t->type, t->stride ? t->stride : along),
                                .transposed = t->transposed};
    bool decoded = source_decoded(m->source);
    out->once = decoded && m->loads;
    out->memory = t->memory || (decoded && (!m->loads || looked_up(&m->graph, name)));
    if (source_norm_plus_one(m->source) && rows == 1 && is_norm_weight(name)) out->add = 1;
    return STRETTO_OK;
}

/* Test models without a vocabulary are fine; a vocabulary we cannot read is not. */
static stretto_status read_vocabulary(struct model *m, bool required, struct error *err)
{
    struct error why = { 0 };
    stretto_status s = tokenizer_open(&m->tokenizer, m->source, &why);
    size_t n;
    enum source_kind kind;
    struct source_str text;
    if (s == STRETTO_OK) return s;
    if (required || source_array(m->source, "tokenizer.ggml.tokens", &kind, &n) ||
        source_file(m->source, "tokenizer.json", &text))
        return fail(err, s, "%s", why.text);
    return STRETTO_OK;
}

/* Files of the same formats that hold something other than a model. */
static stretto_status check_kind(const struct source *s, const char *path, struct error *err)
{
    static const struct { const char *type, *what; } rows[] = {
        { "adapter", "an adapter (LoRA or control vector); merge it into its base model" },
        { "mmproj", "the image or sound side of a model; name the file with the model itself" },
        { "imatrix", "measurements for making quantised files; name a model's file" },
    };
    struct source_str type = { "", 0 };
    source_string(s, "general.type", &type);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (type.n == strlen(rows[i].type) && memcmp(type.p, rows[i].type, type.n) == 0)
            return fail(err, STRETTO_E_UNSUP, "%s is no model: it holds %s", path, rows[i].what);
    if (source_tensor_count(s) == 0)
        return fail(err, STRETTO_E_FORMAT,
                    "%s is a vocabulary without a model; give a file or folder with weights", path);
    return STRETTO_OK;
}

/* Over the devices that were asked for: one of them where it has room for all, else a device made of them. */
static stretto_status spread(struct model *m, const struct binding *b, const struct split_ask *of,
                             struct error *err)
{
    struct split_ask ask = *of;
    uint32_t most = m->config.context;
    if (!ask.context) ask.context = most < SPLIT_CONTEXT ? most : SPLIT_CONTEXT;
    TRY(split_plan(&m->shares, &m->graph, b, &ask, err));
    if (m->shares.n == 1) {
        m->device = m->shares.share[0].device;
        return STRETTO_OK;
    }
    TRY(split_open_shares(&m->device, &m->shares, err));
    m->owns_device = true;
    return STRETTO_OK;
}

static stretto_status take_device(struct model *m, const struct binding *b,
                                  const struct model_open_options *o, struct error *err)
{
    if (o->split) return spread(m, b, o->split, err);
    m->device = o->device;
    if (m->device) return STRETTO_OK;
    struct device_options on = { .level = o->level, .memory = o->memory };
    TRY(backend_open(NULL, &on, &m->device, err));
    m->owns_device = true;
    return STRETTO_OK;
}

static stretto_status read_weights(struct model *m, const char *path,
                                   const struct model_open_options *o, struct error *err)
{
    TRY(check_kind(m->source, path, err));
    const char *arch = source_arch(m->source);
    m->family = family_find(arch);
    char names[200];
    if (!m->family)
        return fail(err, STRETTO_E_UNSUP,
                    "%s is a model of the family '%s', which is not supported; these are: %s", path,
                    *arch ? arch : "(none named)", family_names(names, sizeof names));
    TRY(config_read(&m->config, m->family, m->source, err));
    TRY(graph_build(&m->graph, m->family, &m->config, m->source, err));
    for (size_t i = 0; i < source_tensor_count(m->source); i++)
        m->tensor_bytes += source_tensor_at(m->source, i)->bytes;
    TRY(model_adapters_open(m, o->adapters, o->n_adapters, err));
    if (o->graph_only) return STRETTO_OK;
    m->loads = true;
    struct binding binding = { m, model_param };
    TRY(take_device(m, &binding, o, err));
    struct upload_options up = { .threads = o->threads, .reference = o->reference, .scales = o->scales,
                                 .progress = o->progress, .ud = o->ud, .cancel = o->cancel };
    m->reference = o->reference;
    TRY(device_upload(m->device, &m->weights, &m->graph, &binding, &up, err));
    source_spend(m->source);
    model_release(m);
    return STRETTO_OK;
}

struct reading { struct model *m; stretto_status status; struct error err; };

static void *reading_thread(void *arg)
{
    struct reading *r = arg;
    r->status = read_vocabulary(r->m, false, &r->err);
    return NULL;
}

/* A vocabulary of 150,000 tokens takes as long as packing 200 MB: the two are done side by side. */
static stretto_status open_into(struct model *m, const char *path,
                                const struct model_open_options *o, struct error *err)
{
    TRY(source_open(&m->source, path, err));
    if (o->more) TRY(source_extend(m->source, o->more, err));
    TRY(model_adapters_tokens(m, o->adapters, o->n_adapters, err));
    if (o->vocabulary_only) return read_vocabulary(m, true, err);
    struct reading r = { .m = m };
    pthread_t thread;
    bool beside = pthread_create(&thread, NULL, reading_thread, &r) == 0;
    if (!beside) reading_thread(&r);
    struct error why = { 0 };
    stretto_status s = read_weights(m, path, o, &why);
    if (beside) pthread_join(thread, NULL);
    if (r.status != STRETTO_OK) return fail(err, r.status, "%s", r.err.text);
    return s == STRETTO_OK ? s : fail(err, s, "%s", why.text);
}

/* What is worth knowing of a model that opens: what was guessed, and what was left out. */
static void tell(const struct model *m, const struct model_open_options *o)
{
    const char *warning = m->tokenizer ? tokenizer_warning(m->tokenizer) : NULL;
    size_t left_out = source_other_side(m->source);
    char line[200];
    if (warning) o->log(o->ud, warning);
    model_adapters_tell(m, o->log, o->ud);
    if (!left_out) return;
    snprintf(line, sizeof line, "the model also sees, but it is used with text alone: the %zu tensors of "
             "its image side are left out", left_out);
    o->log(o->ud, line);
}

stretto_status model_open(struct model **out, const char *path, const struct model_open_options *o,
                          struct error *err)
{
    *out = NULL;
    struct model *m = mem_zalloc(1, sizeof *m);
    if (!m) return fail(err, STRETTO_E_NOMEM, "out of memory");
    double begin = clock_seconds();
    stretto_status s = open_into(m, path, o, err);
    m->load_seconds = clock_seconds() - begin;
    if (s == STRETTO_OK && o->log) tell(m, o);
    if (s != STRETTO_OK) model_close(m);
    else *out = m;
    return s;
}

void model_release(const struct model *m)
{
    for (size_t i = 0; i < source_tensor_count(m->source); i++)
        source_release(m->source, source_tensor_at(m->source, i));
}

void model_close(struct model *m)
{
    if (!m) return;
    if (m->weights) m->device->backend->weights_close(m->weights);
    if (m->owns_device) device_close(m->device);
    graph_done(&m->graph);
    model_adapters_done(m);
    tokenizer_close(m->tokenizer);
    source_close(m->source);
    mem_free(m);
}
