/* What was learned, as files. */
#include "base/memory.h"
#include "format/adapter_tokens.h"
#include "format/gguf_write.h"
#include "tensor/encode.h"
#include "train/trainer_int.h"
#include <limits.h>
#include <math.h>
#include <string.h>

enum { NOTES = 8 };

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

struct notes { struct adapter_note note[NOTES]; size_t n; char number[4][24]; };

/* What it was made of. Nothing of the clock or the machine. */
static void make_notes(const struct trainer *t, struct notes *x)
{
    *x = (struct notes){ 0 };
    snprintf(x->number[0], sizeof x->number[0], "%llu", (unsigned long long)t->rows);
    snprintf(x->number[1], sizeof x->number[1], "%llu", (unsigned long long)t->o.seed);
    snprintf(x->number[2], sizeof x->number[2], "%llu", (unsigned long long)t->step);
    const struct adapter_note all[] = {
        { "stretto.teach.base_content", t->base }, { "stretto.teach.template", t->template },
        { "stretto.teach.data", t->data }, { "stretto.teach.rows", x->number[0] },
        { "stretto.teach.seed", x->number[1] }, { "stretto.teach.steps", x->number[2] },
        { "stretto.teach.teacher", t->taught_by },
    };
    x->n = sizeof all / sizeof *all - !t->plan.distils;
    memcpy(x->note, all, sizeof all);
    if (!trainer_averages(t)) return;
    snprintf(x->number[3], sizeof x->number[3], "%.17g", t->o.average);
    x->note[x->n++] = (struct adapter_note){ "stretto.teach.average", x->number[3] };
}

stretto_status trainer_learned(const struct trainer *t, const char *name, float *out, struct error *err)
{
    int32_t at = graph_param_find(&t->forward, name);
    enum param_part part = trainer_averages(t) ? PARAM_AVERAGE : PARAM_MASTER;
    return t->device->backend->param_read(t->weights, (uint32_t)at, part, out, err);
}

/* ---- an adapter ------------------------------------------------------------------------------ */

static stretto_status read_pairs(struct trainer *t, struct error *err)
{
    for (size_t i = 0; i < t->adapter.n; i++) {
        struct adapter_pair *p = &t->adapter.pair[i];
        char name[2 * GRAPH_NAME];
        if (!p->a) p->a = mem_alloc((size_t)p->rank * p->n_in * sizeof *p->a);
        if (!p->b) p->b = mem_alloc((size_t)p->rank * p->n_out * sizeof *p->b);
        if (!p->a || !p->b) return fail(err, STRETTO_E_NOMEM, "out of memory for the adapter");
        snprintf(name, sizeof name, "%s.lora_a", p->weight);
        TRY(trainer_learned(t, name, p->a, err));
        snprintf(name, sizeof name, "%s.lora_b", p->weight);
        TRY(trainer_learned(t, name, p->b, err));
    }
    return STRETTO_OK;
}

/* What llama.cpp calls an aLoRA begins where a token stands last in a prompt: where all prompts end with one, that
 * says the same. */
static void find_invocation(struct trainer *t)
{
    const struct lines *l = &t->lines;
    t->adapter.n_invocation = 0;
    if (t->adapter.rows != ADAPTER_ANSWERS) return;
    t->adapter.invocation[0] = sample_ids(l, &l->sample[0])[l->sample[0].first - 1];
    for (size_t i = 0; i < l->n; i++)
        if (sample_ids(l, &l->sample[i])[l->sample[i].first - 1] != t->adapter.invocation[0]) return;
    t->adapter.n_invocation = 1;
}

/* Phrases and the rows that they learned. */
static stretto_status read_tokens(const struct trainer *t, struct adapter_tokens *out, struct error *err)
{
    const struct found_phrases *f = &t->phrases;
    const struct more_tokens found = { .n = f->table.n, .spelled = f->spelled, .spelled_at = f->spelled_at,
                                       .at = f->table.at, .piece = f->table.piece };
    *out = (struct adapter_tokens){ .n_tables = 0 };
    if (!f->table.n) return STRETTO_OK;
    TRY(adapter_tokens_make(out, &found, err));
    for (size_t i = 0; i < t->forward.n_params; i++) {
        const struct graph_param *p = &t->forward.params[i];
        char table[GRAPH_NAME];
        if (!trainer_table_of(p->name, table)) continue;
        float *values = adapter_tokens_table(out, table, p->n_in, err);
        if (!values) return STRETTO_E_NOMEM;
        TRY(trainer_learned(t, p->name, values, err));
        for (size_t k = 0; k < (size_t)p->n_in * p->n_out; k++)
            if (!isfinite(values[k]))
                return fail(err, STRETTO_E_NAN, "the rows of phrases hold a value that is no number");
    }
    return STRETTO_OK;
}

static stretto_status write_adapter_file(struct trainer *t, const char *path, const struct notes *notes,
                                         struct error *err)
{
    struct adapter_tokens tokens;
    stretto_status s = read_tokens(t, &tokens, err);
    t->adapter.tokens = tokens.more.n ? &tokens : NULL;
    if (s == STRETTO_OK)
        s = adapter_write_gguf(&t->adapter, path, t->model->source, DT_F32, notes->note, notes->n, true, err);
    t->adapter.tokens = NULL;
    adapter_tokens_done(&tokens);
    return s;
}

static stretto_status write_adapter(struct trainer *t, struct error *err)
{
    char path[PATH_MAX];
    struct notes notes;
    struct error why = { 0 };
    struct source_str name = { "", 0 };
    char base[256];
    make_notes(t, &notes);
    TRY(read_pairs(t, err));
    find_invocation(t);
    TRY(trainer_path(t->o.folder, "adapter.gguf", path, err));
    TRY(write_adapter_file(t, path, &notes, err));
    if (t->phrases.table.n) {
        log_say(&t->o.log, LOG_INFO, "PEFT has no words for phrases; there is adapter.gguf alone");
        return STRETTO_OK;
    }
    TRY(trainer_path(t->o.folder, "peft", path, err));
    source_string(t->model->source, "general.name", &name);
    snprintf(base, sizeof base, "%.*s", (int)(name.n < 200 ? name.n : 200), name.p);
    stretto_status s = adapter_write_peft(&t->adapter, path, t->model->source, base, &why);
    if (s == STRETTO_E_UNSUP) {
        log_say(&t->o.log, LOG_WARN, "%s; there is adapter.gguf alone", why.text);
        return STRETTO_OK;
    }
    return s == STRETTO_OK ? s : fail(err, s, "%s", why.text);
}

/* ---- a whole model --------------------------------------------------------------------------- */

/* A tensor of the file as it is now: what was trained, what of a fused one was, or the file's own numbers. */
static stretto_status read_tensor(struct trainer *t, const struct source_tensor *x, float *out, bool *changed,
                                  struct error *err)
{
    const struct source *s = t->model->source;
    uint64_t all = 1;
    for (uint32_t d = 0; d < x->n_dims; d++) all *= x->dims[d];
    *changed = false;
    dtype_table[x->type].decode(x->data, out, (size_t)all);
    for (size_t i = 0; i < source_tensor_count(s); i++) {
        const struct source_tensor *part = source_tensor_at(s, i);
        int32_t at = graph_param_find(&t->forward, part->name);
        if (at == GRAPH_NONE || !t->trained[at] || !source_within(part, x)) continue;
        size_t block = dtype_table[x->type].block, row = dtype_bytes(x->type, block);
        size_t from = (size_t)((const char *)part->data - (const char *)x->data) / row * block;
        TRY(trainer_learned(t, part->name, out + from, err));
        *changed = true;
    }
    for (size_t i = 0; i < (size_t)all; i++)
        if (*changed && !isfinite(out[i]))
            return fail(err, STRETTO_E_NAN, "%s holds a value that is no number", x->name);
    return STRETTO_OK;
}

static void encode(enum dtype type, const float *in, void *out, size_t n)
{
    if (dtype_table[type].block > 1) encode_search(type, in, NULL, out, n);
    else dtype_table[type].encode(in, out, n);
}

static stretto_status put_tensor(struct trainer *t, struct gguf_writer *w, const struct source_tensor *x,
                                 enum dtype type, struct error *err)
{
    size_t n = 1, bytes;
    bool changed = false;
    for (uint32_t d = 0; d < x->n_dims; d++) n *= (size_t)x->dims[d];
    bytes = dtype_bytes(type, n);
    float *values = mem_alloc(n * sizeof *values);
    void *coded = mem_alloc(bytes);
    stretto_status s = values && coded ? read_tensor(t, x, values, &changed, err) : no_memory(err);
    if (s == STRETTO_OK && !changed && type == x->type) s = gguf_write(w, x->data, bytes, err);
    else if (s == STRETTO_OK) {
        encode(type, values, coded, n);
        s = gguf_write(w, coded, bytes, err);
    }
    mem_free(values);
    mem_free(coded);
    source_release(t->model->source, x);
    return s;
}

/* A model that was taught before says of what; now it is of this. */
static bool is_note(void *notes, const char *key)
{
    const struct notes *x = notes;
    for (size_t i = 0; i < x->n; i++)
        if (strcmp(x->note[i].key, key) == 0) return true;
    return false;
}

static stretto_status put_model(struct trainer *t, struct gguf_writer *w, bool f32, struct error *err)
{
    struct source_tensor *list;
    struct notes notes;
    size_t n;
    make_notes(t, &notes);
    gguf_put_kept(w, t->model->source, is_note, &notes);
    for (size_t i = 0; i < notes.n; i++)
        gguf_put_string(w, notes.note[i].key, notes.note[i].value, strlen(notes.note[i].value));
    TRY(source_stored(t->model->source, 0, &list, &n, err));
    stretto_status s = STRETTO_OK;
    for (size_t i = 0; i < n && s == STRETTO_OK; i++)
        s = gguf_put_tensor(w, list[i].name, f32 ? DT_F32 : list[i].type, list[i].n_dims, list[i].dims, err);
    if (s == STRETTO_OK) s = gguf_begin_data(w, err);
    for (size_t i = 0; i < n && s == STRETTO_OK; i++) {
        progress_tell(&t->o.progress, "writing the model", i, n);
        s = put_tensor(t, w, &list[i], f32 ? DT_F32 : list[i].type, err);
    }
    progress_tell(&t->o.progress, "writing the model", n, n);
    mem_free(list);
    return s == STRETTO_OK ? gguf_finish(w, err) : s;
}

static stretto_status write_model(struct trainer *t, const char *name, bool f32, struct error *err)
{
    char path[PATH_MAX];
    struct gguf_writer *w;
    TRY(trainer_path(t->o.folder, name, path, err));
    TRY(gguf_writer_open(&w, path, true, err));
    stretto_status s = put_model(t, w, f32, err);
    gguf_writer_close(w);
    return s;
}

stretto_status trainer_write(struct trainer *t, struct error *err)
{
    if (t->o.method == TRAIN_LORA) return write_adapter(t, err);
    if (trainer_has_heads(t)) return trainer_heads_write(t, err);
    TRY(write_model(t, "model.gguf", false, err));
    return t->o.save_f32 ? write_model(t, "model.f32.gguf", true, err) : STRETTO_OK;
}

static bool is_coarse(const struct trainer *t)
{
    for (size_t i = 0; i < source_tensor_count(t->model->source); i++)
        if (source_tensor_at(t->model->source, i)->type != DT_F32) return true;
    return false;
}

/* What rounding to the file's types took of what was regained is said. */
static stretto_status measure_file(struct trainer *t, struct error *err)
{
    char path[PATH_MAX];
    if (!t->plan.distils || t->o.method != TRAIN_FULL || !t->held.n || !is_coarse(t)) return STRETTO_OK;
    TRY(trainer_path(t->o.folder, "model.gguf", path, err));
    struct losses held;
    TRY(trainer_held_of(t, path, &held, err));
    t->held_written = held.clean;
    return STRETTO_OK;
}

double trainer_held_written(const struct trainer *t) { return t->held_written; }

/* No step is to come: what is written has the memory of their values. */
static void close_programs(struct trainer *t)
{
    const struct backend *b = t->device->backend;
    if (t->measuring) b->program_close(t->measuring);
    if (t->program) b->program_close(t->program);
    t->measuring = t->program = NULL;
}

stretto_status trainer_finish(struct trainer *t, struct error *err)
{
    if (t->step < t->plan.steps)
        return fail(err, STRETTO_E_ARG, "the training is at step %llu of %llu; go on with it first",
                    (unsigned long long)t->step, (unsigned long long)t->plan.steps);
    TRY(trainer_save(t, err));
    close_programs(t);
    TRY(trainer_write(t, err));
    return measure_file(t, err);
}
