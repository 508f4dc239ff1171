/* What is trained, and the graphs, weights and programs for it. */
#include "base/hash.h"
#include "base/memory.h"
#include "graph/adapt.h"
#include "tensor/arithmetic.h"
#include "train/trainer_int.h"
#include <math.h>
#include <regex.h>
#include <string.h>

enum { DRAW_A = 10 };             /* what random_at is asked for */

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

/* ---- the adapter ----------------------------------------------------------------------------- */

static bool has_pair(const struct adapter *a, const char *weight)
{
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->pair[i].weight, weight) == 0) return true;
    return false;
}

/* Uniform in +-1/sqrt(n_in), as PEFT draws it (Kaiming's bound with a = sqrt 5); B is zero. */
static void draw(struct adapter_pair *p, uint64_t seed)
{
    double bound = 1 / sqrt((double)p->n_in);
    uint64_t of = hash_text(0, p->weight);
    for (size_t i = 0; i < (size_t)p->rank * p->n_in; i++)
        p->a[i] = (float)(bound * (2 * random_unit(random_at(seed, DRAW_A, of, i)) - 1));
}

static stretto_status add_pair(struct trainer *t, const struct graph_param *w, struct error *err)
{
    uint32_t rank = t->o.rank;
    double alpha = t->o.alpha > 0 ? t->o.alpha : 2.0 * rank;
    if (rank > w->n_in || rank > w->n_out)
        return fail(err, STRETTO_E_ARG, "rank %u is more than %s has (%u x %u)", rank, w->name, w->n_in, w->n_out);
    return adapter_add(&t->adapter, w->name, rank, w->n_in, w->n_out, (float)(alpha / rank), err) ? STRETTO_OK
                                                                                                   : STRETTO_E_NOMEM;
}

void trainer_pairs_done(struct trainer *t)
{
    for (size_t i = 0; i < t->adapter.n; i++) {
        mem_free(t->adapter.pair[i].a);
        mem_free(t->adapter.pair[i].b);
        t->adapter.pair[i].a = t->adapter.pair[i].b = NULL;
    }
    mem_trim();
}

static stretto_status choose_pairs(struct trainer *t, struct error *err)
{
    const struct graph *g = &t->model->graph;
    regex_t re;
    const char *targets = t->o.targets ? t->o.targets : "";
    int32_t first = t->o.last_layers && t->o.last_layers < g->layers ? (int32_t)(g->layers - t->o.last_layers) : 0;
    if (regcomp(&re, targets, REG_EXTENDED | REG_NOSUB) != 0)
        return fail(err, STRETTO_E_ARG, "'%s' is no expression for names of weights; attn_(q|v) is one", targets);
    stretto_status s = STRETTO_OK;
    for (size_t i = 0; i < g->n_nodes && s == STRETTO_OK; i++) {
        const struct graph_node *n = &g->nodes[i];
        if (n->op != OP_LINEAR || n->layer < first) continue;
        const struct graph_param *w = &g->params[node_param(g, n, 0)];
        if (!has_pair(&t->adapter, w->name) && regexec(&re, w->name, 0, NULL, 0) == 0) s = add_pair(t, w, err);
    }
    regfree(&re);
    if (s == STRETTO_OK && !t->adapter.n)
        return fail(err, STRETTO_E_ARG, "no weight of a layer is called '%s'; blk.0.attn_q.weight is one", targets);
    return s;
}

static stretto_status put_pairs(struct trainer *t, struct error *err)
{
    struct adapt_pair *pairs = mem_zalloc(t->adapter.n + 1, sizeof *pairs);
    if (!pairs) return no_memory(err);
    for (size_t i = 0; i < t->adapter.n; i++) {
        pairs[i].rank = t->adapter.pair[i].rank;
        pairs[i].scale = t->adapter.pair[i].scale;
        pairs[i].chosen = t->adapter.rows != ADAPTER_ALL;
        memcpy(pairs[i].weight, t->adapter.pair[i].weight, sizeof pairs[i].weight);
    }
    stretto_status s = adapt(&t->model->graph, pairs, t->adapter.n, &t->forward, err);
    mem_free(pairs);
    t->running = (struct model_adapter){ .scale = 1, .pairs = t->adapter };
    return s;
}

/* ---- the graphs ------------------------------------------------------------------------------ */

static uint64_t elements(const struct graph_param *p) { return (uint64_t)p->n_in * (p->n_out ? p->n_out : 1); }

/* New tokens learn their rows while the table's others stay as they are served. */
static stretto_status part_rows(struct trainer *t, struct error *err)
{
    static const char *const tables[] = { "token_embd.weight", "output.weight" };
    for (size_t i = 0; i < sizeof tables / sizeof *tables && t->phrases.table.n; i++)
        if (graph_param_find(&t->forward, tables[i]) != GRAPH_NONE)
            TRY(graph_part_rows(&t->forward, tables[i], t->phrases.table.n, err));
    return STRETTO_OK;
}

static stretto_status choose_trained(struct trainer *t, struct error *err)
{
    const struct graph *g = &t->forward;
    bool lora = t->o.method == TRAIN_LORA, heads = trainer_has_heads(t);
    t->trained = mem_zalloc(g->n_params + 1, 1);
    if (!t->trained) return no_memory(err);
    for (size_t i = 0; i < g->n_params; i++) {
        bool own = adapt_owns(g->params[i].name) || trainer_table_of(g->params[i].name, NULL)
                || (heads && heads_own(g->params[i].name));
        t->trained[i] = lora || heads ? own : true;
        if (t->trained[i]) t->plan.trained += elements(&g->params[i]);
        if (!own) t->plan.parameters += elements(&g->params[i]);
    }
    return STRETTO_OK;
}

static double cost_of(const struct graph *g, double rows, double asks, double context)
{
    double flops = 0;
    for (size_t i = 0; i < g->n_nodes; i++) flops += graph_node_cost(g, i, rows, asks, context).flops;
    return flops;
}

static stretto_status differentiate_as(struct trainer *t, enum keep keep, struct error *err)
{
    const struct differentiate what = { .trained = t->trained, .keep = keep };
    double rows = t->plan.step_rows, asks;
    graph_done(&t->back);
    TRY(differentiate(&t->back, &t->forward, &what, err));
    asks = rows * (double)(t->plan.learned + t->plan.noisy_rows) / (double)(t->plan.rows ? t->plan.rows : 1);
    if (trainer_has_heads(t)) asks = rows * t->o.depth / (t->o.depth + (t->o.head == HEAD_RECURSIVE));
    t->plan.keep = keep;
    t->plan.row_flops = cost_of(&t->back, rows, asks, (double)t->plan.tokens / (double)t->plan.samples / 2) / rows;
    return STRETTO_OK;
}

stretto_status trainer_make_graph(struct trainer *t, struct error *err)
{
    const struct differentiate nothing = { .trained = NULL, .keep = KEEP_VALUES };
    const struct model *m = t->model;
    if (m->graph.logits == GRAPH_NONE)
        return fail(err, STRETTO_E_UNSUP, "%s is an encoder, whose rows say no next token that could be learned; "
                    "name a model that writes", t->o.model);
    if (t->o.rows_of && !adapter_rows_find(t->o.rows_of, &t->adapter.rows))
        return fail(err, STRETTO_E_ARG, "an adapter acts on the rows all, given, answers or guesses, not on '%s'",
                    t->o.rows_of);
    if (t->adapter.rows == ADAPTER_GUESSES && !t->noise.block)
        return fail(err, STRETTO_E_ARG, "these data have no rows of guesses to learn from: ask for noisy copies of "
                    "answers (--block 8)");
    if (t->adapter.rows == ADAPTER_GUESSES) t->noise.clean = 0;   /* the base computes them */
    if (trainer_has_heads(t)) TRY(trainer_heads_graph(t, err));
    else if (t->o.method == TRAIN_LORA) {
        TRY(choose_pairs(t, err));
        TRY(put_pairs(t, err));
        TRY(part_rows(t, err));
    } else TRY(adapt(&m->graph, NULL, 0, &t->forward, err));
    t->plan.pairs = (uint32_t)t->adapter.n;
    TRY(choose_trained(t, err));
    TRY(differentiate(&t->loss, &t->forward, &nothing, err));
    return differentiate_as(t, t->o.keep == TRAIN_KEEP_LAYERS ? KEEP_LAYERS : KEEP_VALUES, err);
}

/* ---- weights --------------------------------------------------------------------------------- */

bool trainer_table_of(const char *name, char out[GRAPH_NAME])
{
    size_t n = strlen(name), end = strlen(".rows");
    if (n <= end || strcmp(name + n - end, ".rows") != 0) return false;
    if (out) snprintf(out, GRAPH_NAME, "%.*s", (int)(n - end), name);
    return true;
}

/* Of a table whose last rows are a parameter of their own: either part, as views. */
static stretto_status parted(struct trainer *t, const char *name, uint32_t n_in, uint32_t n_out,
                             struct param_bytes *out, struct error *err)
{
    char table[GRAPH_NAME];
    bool rows = trainer_table_of(name, table);
    TRY(model_param(t->model, rows ? table : name, n_in, rows || (n_out > 1 && t->phrases.table.n) ? 0 : n_out, out,
                    err));
    if (rows) out->data = (const char *)out->data + (size_t)(out->n_out - n_out) * out->row_bytes;
    if (rows || (n_out < out->n_out && out->n_out - n_out == t->phrases.table.n)) out->n_out = n_out;
    if (!n_out || out->n_out == n_out) return STRETTO_OK;
    return fail(err, STRETTO_E_FORMAT, "tensor %s has %u rows; expected %u", name, out->n_out, n_out);
}

stretto_status trainer_param(void *ud, const char *name, uint32_t n_in, uint32_t n_out, struct param_bytes *out,
                             struct error *err)
{
    struct trainer *t = ud;
    if (trainer_has_heads(t)) return trainer_heads_param(t, name, n_in, n_out, out, err);
    if (!adapter_param(&t->adapter, 0, name, out)) return parted(t, name, n_in, n_out, out, err);
    if (out->n_in == n_in && out->n_out == n_out) return STRETTO_OK;
    return fail(err, STRETTO_E_ARG, "%s has another shape", name);
}

static struct program_limits limits_of(const struct trainer *t)
{
    return (struct program_limits){ .max_rows = t->plan.step_rows, .max_asks = t->plan.step_rows, .max_seq_pages = 1,
                                    .context = t->plan.step_rows, .cache = CACHE_F32, .threads = t->o.threads,
                                    .likes = t->noise.block && t->o.loss == TRAIN_LOSS_CLLM };
}

/* What learns, and what measures with the values of a step in the same place where that has room for them. */
static stretto_status plan_programs(struct trainer *t, struct error *err)
{
    struct program_bytes learn = { 0 }, measure = { 0 };
    struct program_limits l = limits_of(t);
    TRY(device_plan(t->device, &t->back, t->weights, &l, &learn, err));
    if (t->held.n) TRY(device_plan(t->device, &t->loss, t->weights, &l, &measure, err));
    t->plan.program_bytes = learn.buffers + measure.buffers;
    if (measure.values <= learn.values) t->plan.program_bytes -= measure.values;
    return STRETTO_OK;
}

/* What answers stands there for a while only, beside everything else. */
static stretto_status plan_watch(struct trainer *t, struct error *err)
{
    uint64_t bytes;
    TRY(watch_bytes(t, &bytes, err));
    t->plan.program_bytes += bytes;
    return STRETTO_OK;
}

static stretto_status upload(struct trainer *t, bool measure, struct error *err)
{
    const struct binding b = { t, trainer_param };
    const struct upload_options up = {
        .threads = t->o.threads, .progress = NULL, .cancel = t->o.cancel, .trained = t->trained, .measure = measure,
        .precision = t->o.precision, .reference = t->o.precision == PRECISION_F16,
        .optimizer = { .by = t->o.optimizer, .average = t->o.average > 0,
                       .bits = t->o.optimizer_bytes == 12 ? 16 : t->o.optimizer_bytes == 10 ? 8 : 32 } };
    for (size_t i = 0; !measure && i < t->adapter.n; i++) draw(&t->adapter.pair[i], t->o.seed);
    if (t->weights) t->device->backend->weights_close(t->weights);
    t->weights = NULL;
    TRY(device_upload(t->device, &t->weights, &t->back, &b, &up, err));
    t->plan.weights_bytes = t->device->backend->weights_bytes(t->weights);
    TRY(plan_programs(t, err));
    return plan_watch(t, err);
}

/* Bytes of this machine that a training may take. */
static uint64_t room(const struct trainer *t)
{
    uint64_t have = t->device->backend->memory ? t->device->backend->memory(t->device) : 0;
    return t->o.memory && (!have || t->o.memory < have) ? t->o.memory : have;
}

static stretto_status open_device(struct trainer *t, struct error *err)
{
    const struct device_options on = { .level = t->o.level, .memory = t->o.memory };
    if (t->device) return STRETTO_OK;
    TRY(backend_open(NULL, &on, &t->device, err));
    if (t->device->backend->param_update) return STRETTO_OK;
    return fail(err, STRETTO_E_UNSUP, "the backend %s cannot train", t->device->backend->name);
}

/* Beside the programs an array of a checkpoint; where they stood, an adapter, or a tensor of the model as numbers and
 * in its type. */
static uint64_t room_for_writing(const struct trainer *t, const struct checkpoint *c)
{
    uint64_t beside = checkpoint_room(c), last = 0;
    const struct source *s = t->model->source;
    for (size_t i = 0; t->o.method == TRAIN_FULL && i < source_tensor_count(s); i++) {
        const struct source_tensor *x = source_tensor_at(s, i);
        uint64_t n = source_elements(x);
        if (n * sizeof(float) + x->bytes > last) last = n * sizeof(float) + x->bytes;
    }
    for (size_t i = 0; i < t->adapter.n; i++) {
        const struct adapter_pair *p = &t->adapter.pair[i];
        last += ((uint64_t)p->n_in + p->n_out) * p->rank * sizeof *p->a;
    }
    last = last > t->plan.program_bytes ? last - t->plan.program_bytes : 0;
    return beside > last ? beside : last;
}

/* Where all values do not fit, layers are computed twice. */
stretto_status trainer_upload(struct trainer *t, bool measure, struct error *err)
{
    TRY(open_device(t, err));
    uint64_t have = room(t);
    TRY(upload(t, measure, err));
    struct train_plan *p = &t->plan;
    const struct checkpoint c = trainer_checkpoint(t);
    p->checkpoint_bytes = checkpoint_bytes(&c);
    p->writing_bytes = room_for_writing(t, &c);
    p->data_bytes = (t->lines.cap_ids + t->held.cap_ids) * (sizeof(int32_t) + sizeof(float))
                  + (t->lines.cap + t->held.cap) * (sizeof(struct sample) + 3 * sizeof(struct pack_unit));
    if (t->o.keep != TRAIN_KEEP_AUTO || p->keep == KEEP_LAYERS || !have
        || p->program_bytes + (measure ? p->weights_bytes : 0) + p->data_bytes < have / 4 * 3) return STRETTO_OK;
    log_say(&t->o.log, LOG_INFO, "layers are computed twice, because what all of them keep does not fit into memory");
    TRY(differentiate_as(t, KEEP_LAYERS, err));
    return upload(t, measure, err);
}

static void learn_from(const struct trainer *t, struct packed *p)
{
    p->clean_from = t->plan.distils ? LEARN_TAUGHT : LEARN_LINE;
    p->noisy_from = t->o.loss == TRAIN_LOSS_KL ? LEARN_TAUGHT : t->o.loss == TRAIN_LOSS_CLLM ? LEARN_CLEAN : LEARN_LINE;
}

stretto_status trainer_compile(struct trainer *t, struct error *err)
{
    struct program_limits l = limits_of(t);
    TRY(device_compile(t->device, &t->program, &t->back, t->weights, &l, err));
    l.beside = t->program;
    if (t->held.n) TRY(device_compile(t->device, &t->measuring, &t->loss, t->weights, &l, err));
    TRY(packed_make(&t->packed, t->plan.step_rows, trainer_taught(t), err));
    if (t->held.n) TRY(packed_make(&t->held_packed, t->plan.step_rows, trainer_taught(t), err));
    t->packed.rows_of = t->held_packed.rows_of = t->adapter.rows;
    learn_from(t, &t->packed);
    learn_from(t, &t->held_packed);
    if (trainer_has_heads(t)) TRY(packed_vectors(&t->packed, t->heads.rows.width, err));
    if (trainer_has_heads(t) && t->held.n) TRY(packed_vectors(&t->held_packed, t->heads.rows.width, err));
    return STRETTO_OK;
}

void trainer_level(const struct trainer *t, char out[LEVEL_MOST])
{
    char text[512] = "";
    const char *at, *word = "level: ";
    t->device->backend->describe(t->weights, text, sizeof text);
    at = strstr(text, word);
    size_t n = at ? strcspn(at += strlen(word), ",\n") : 0;
    snprintf(out, LEVEL_MOST, "%.*s", (int)(n < LEVEL_MOST ? n : LEVEL_MOST - 1), at ? at : "");
}

struct model trainer_running(const struct trainer *t)
{
    struct model m = *t->model;
    m.graph = t->forward;
    m.weights = t->weights;
    m.device = t->device;
    m.adapters = (struct model_adapter *)(uintptr_t)&t->running;
    m.n_adapters = t->adapter.n > 0;
    return m;
}

/* What a file's weights say of what is held out, by the arithmetic of its types. */
static stretto_status held_of(struct trainer *t, const struct model *m, struct losses *held, struct error *err)
{
    const struct backend *b = t->device->backend;
    const struct binding from = { (void *)(uintptr_t)m, model_param };
    const struct upload_options up = { .threads = t->o.threads, .cancel = t->o.cancel };
    struct program_limits l = limits_of(t);
    struct program *own = t->measuring;
    struct weights *w = NULL;
    t->measuring = NULL;
    stretto_status s = device_upload(t->device, &w, &t->loss, &from, &up, err);
    if (s == STRETTO_OK) s = device_compile(t->device, &t->measuring, &t->loss, w, &l, err);
    if (s == STRETTO_OK) s = trainer_held(t, held, err);
    if (t->measuring) b->program_close(t->measuring);
    if (w) b->weights_close(w);
    t->measuring = own;
    return s;
}

stretto_status trainer_held_of(struct trainer *t, const char *path, struct losses *held, struct error *err)
{
    const struct model_open_options how = { .graph_only = true, .cancel = t->o.cancel };
    struct model *m;
    TRY(model_open(&m, path, &how, err));
    stretto_status s = held_of(t, m, held, err);
    model_close(m);
    return s;
}
