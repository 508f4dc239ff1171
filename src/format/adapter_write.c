#include "format/adapter_int.h"
#include "format/adapter_tokens.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/part.h"
#include "format/gguf_write.h"
#include "format/safetensors_write.h"
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { HEADER_MOST = 64 << 20 };

static stretto_status no_memory(struct error *err)
{
    return fail(err, STRETTO_E_NOMEM, "out of memory for an adapter");
}

/* ---- slices become the fused tensor again ----------------------------------------------------- */

/* Puts p into the whole's pair: its ranks from `rank` on, its outputs from `row` on. */
static void put_block(struct adapter_pair *to, const struct adapter_pair *p, uint32_t rank, uint64_t row)
{
    memcpy(to->a + (size_t)rank * to->n_in, p->a, (size_t)p->rank * p->n_in * sizeof *p->a);
    for (uint32_t r = 0; r < p->n_out; r++)
        for (uint32_t k = 0; k < p->rank; k++)
            to->b[(row + r) * to->rank + rank + k] = p->b[(size_t)r * p->rank + k] * (p->scale / to->scale);
}

/* Where a slice's rows begin in the whole. */
static uint64_t first_row(const struct source *base, const struct source_tensor *whole, const char *slice)
{
    uint64_t row = 0;
    const struct source_tensor *t = source_tensor_find(base, slice);
    for (size_t i = 0; i < base->n_tensors; i++) {
        const struct source_tensor *x = &base->tensors[i];
        if (x->n_dims == 2 && x->data < t->data && source_within(x, whole)) row += x->dims[1];
    }
    return row;
}

static stretto_status join(const struct adapter *a, const struct source *base, const struct source_tensor *whole,
                           struct adapter *out, struct error *err)
{
    uint32_t rank = 0;
    const struct adapter_pair *first = NULL;
    for (size_t i = 0; i < a->n; i++)
        if (adapter_whole(base, a->pair[i].weight) == whole) {
            rank += a->pair[i].rank;
            if (!first) first = &a->pair[i];
        }
    struct adapter_pair *to = adapter_add(out, whole->name, rank, first->n_in, (uint32_t)whole->dims[1], first->scale,
                                          err);
    if (!to) return STRETTO_E_NOMEM;
    rank = 0;
    for (size_t i = 0; i < a->n; i++)
        if (adapter_whole(base, a->pair[i].weight) == whole) {
            put_block(to, &a->pair[i], rank, first_row(base, whole, a->pair[i].weight));
            rank += a->pair[i].rank;
        }
    return STRETTO_OK;
}

/* B's rows in the order of the files, and its numbers times `by`. */
static void turn_into(const struct adapter_pair *p, const struct source *base, bool halves, float by, float *b)
{
    uint64_t head = adapter_turned(base, p->weight, p->n_out, halves);
    for (uint64_t i = 0; i < p->n_out; i++) {
        uint64_t at = head ? paired_place(i, head) : i;
        uint64_t from = base->rope_halves ? i : at, to = base->rope_halves ? at : i;
        for (uint32_t k = 0; k < p->rank; k++) b[to * p->rank + k] = p->b[from * p->rank + k] * by;
    }
}

static stretto_status copy(const struct adapter_pair *p, const struct source *base, bool halves, struct adapter *out,
                           struct error *err)
{
    struct adapter_pair *to = adapter_add(out, p->weight, p->rank, p->n_in, p->n_out, p->scale, err);
    if (!to) return STRETTO_E_NOMEM;
    memcpy(to->a, p->a, (size_t)p->rank * p->n_in * sizeof *p->a);
    turn_into(p, base, halves, 1, to->b);
    return STRETTO_OK;
}

static bool has(const struct adapter *a, const char *weight)
{
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->pair[i].weight, weight) == 0) return true;
    return false;
}

/* The adapter as a file has it: fused where the base is, rows in the order of files of that kind. */
static stretto_status as_stored(const struct adapter *a, const struct source *base, bool halves, struct adapter *out,
                                struct error *err)
{
    *out = (struct adapter){ .tokens = a->tokens, .rows = a->rows, .n_invocation = a->n_invocation };
    memcpy(out->invocation, a->invocation, sizeof out->invocation);
    for (size_t i = 0; i < a->n; i++) {
        const struct source_tensor *whole = adapter_whole(base, a->pair[i].weight);
        if (!whole) TRY(copy(&a->pair[i], base, halves, out, err));
        else if (!has(out, whole->name)) TRY(join(a, base, whole, out, err));
    }
    return STRETTO_OK;
}

static stretto_status check(const struct adapter *a, struct error *err)
{
    if (!a->n) return fail(err, STRETTO_E_ARG, "the adapter has no pair");
    for (size_t i = 0; i < a->n; i++) {
        const struct adapter_pair *p = &a->pair[i];
        bool sound = isfinite(p->scale) && p->scale != 0;
        for (size_t k = 0; k < (size_t)p->rank * p->n_in && sound; k++) sound = isfinite(p->a[k]);
        for (size_t k = 0; k < (size_t)p->rank * p->n_out && sound; k++) sound = isfinite(p->b[k]);
        if (!sound) return fail(err, STRETTO_E_NAN, "the adapter of %s holds a value that is no number", p->weight);
    }
    return STRETTO_OK;
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

static enum dtype type_of(enum dtype type, size_t row) { return row % dtype_table[type].block ? DT_F16 : type; }

static stretto_status announce(struct gguf_writer *w, const struct adapter *a, enum dtype type, struct error *err)
{
    for (size_t i = 0; i < a->n; i++) {
        const struct adapter_pair *p = &a->pair[i];
        char name[ADAPTER_NAME + 16];
        const uint64_t in[] = { p->n_in, p->rank }, out[] = { p->rank, p->n_out };
        snprintf(name, sizeof name, "%s.lora_a", p->weight);
        TRY(gguf_put_tensor(w, name, type_of(type, p->n_in), 2, in, err));
        snprintf(name, sizeof name, "%s.lora_b", p->weight);
        TRY(gguf_put_tensor(w, name, type_of(type, p->rank), 2, out, err));
    }
    return STRETTO_OK;
}

static stretto_status put_rows(struct gguf_writer *w, const float *x, size_t rows, size_t n, float by, enum dtype type,
                               struct error *err)
{
    enum dtype t = type_of(type, n);
    float *row = mem_alloc(n * sizeof *row);
    void *bytes = mem_alloc(dtype_bytes(t, n));
    stretto_status st = row && bytes ? STRETTO_OK : no_memory(err);
    for (size_t r = 0; r < rows && st == STRETTO_OK; r++) {
        for (size_t i = 0; i < n; i++) row[i] = by * x[r * n + i];
        dtype_table[t].encode(row, bytes, n);
        st = gguf_write(w, bytes, dtype_bytes(t, n), err);
    }
    mem_free(row);
    mem_free(bytes);
    return st;
}

/* Readers multiply by alpha / rank, with one alpha for all: B makes up for the rest. */
static stretto_status put_gguf(struct gguf_writer *w, const struct adapter *a, const struct source *base,
                               enum dtype type, const struct adapter_note *notes, size_t n_notes, struct error *err)
{
    const char *arch = source_arch(base);
    uint32_t behind[ADAPTER_INVOCATION];
    float alpha = 0;
    for (size_t i = 0; i < a->n; i++) alpha = fmaxf(alpha, a->pair[i].scale * (float)a->pair[i].rank);
    if (alpha <= 0) alpha = 1;
    gguf_put_string(w, "general.architecture", arch, strlen(arch));
    gguf_put_string(w, "general.type", "adapter", 7);
    gguf_put_string(w, "adapter.type", "lora", 4);
    gguf_put_f32(w, "adapter.lora.alpha", alpha);
    if (a->rows != ADAPTER_ALL) {
        const char *word = adapter_rows_word(a->rows);
        gguf_put_string(w, "stretto.adapter.rows", word, strlen(word));
    }
    for (size_t i = 0; i < a->n_invocation; i++) behind[i] = (uint32_t)a->invocation[i];
    if (a->n_invocation) gguf_put_u32s(w, "adapter.alora.invocation_tokens", behind, a->n_invocation);
    for (size_t i = 0; i < n_notes; i++) gguf_put_string(w, notes[i].key, notes[i].value, strlen(notes[i].value));
    if (a->tokens) adapter_tokens_keys(a->tokens, w);
    TRY(announce(w, a, type, err));
    if (a->tokens) TRY(adapter_tokens_announce(a->tokens, w, err));
    TRY(gguf_begin_data(w, err));
    for (size_t i = 0; i < a->n; i++) {
        const struct adapter_pair *p = &a->pair[i];
        float by = p->scale * (float)p->rank / alpha;
        TRY(put_rows(w, p->a, p->rank, p->n_in, 1, type, err));
        TRY(put_rows(w, p->b, p->n_out, p->rank, by, type, err));
    }
    if (a->tokens) TRY(adapter_tokens_write(a->tokens, w, err));
    return gguf_finish(w, err);
}

stretto_status adapter_write_gguf(const struct adapter *a, const char *path, const struct source *base,
                                  enum dtype type, const struct adapter_note *notes, size_t n_notes, bool replace,
                                  struct error *err)
{
    struct gguf_writer *w = NULL;
    struct adapter stored = { 0 };
    TRY(check(a, err));
    stretto_status s = as_stored(a, base, false, &stored, err);
    if (s == STRETTO_OK) s = gguf_writer_open(&w, path, replace, err);
    if (s == STRETTO_OK) s = put_gguf(w, &stored, base, type, notes, n_notes, err);
    gguf_writer_close(w);
    adapter_done(&stored);
    return s;
}

/* ---- PEFT ------------------------------------------------------------------------------------ */

/* "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj" */
static bool hf_module(const struct hf_family *f, const char *weight, bool fused, char out[2 * MAX_NAME_LENGTH])
{
    unsigned layer = 0;
    int n = 0;
    char stem[MAX_NAME_LENGTH + 1];
    sscanf(weight, "blk.%u.%n", &layer, &n);
    snprintf(stem, sizeof stem, "%s%.*s", n ? "blk.#." : "", (int)(strlen(weight) - strlen(".weight")) - n,
             weight + n);
    for (const struct hf_name *row = f->names; row->from; row++) {
        const char *hash = strchr(row->from, '#');
        bool both = strstr(row->from, "gate_up") || strstr(row->from, "qkv") || strstr(row->from, "c_attn");
        if (strcmp(row->to, stem) != 0 || both != fused) continue;
        const char *wrap = strcmp(row->from, "lm_head") == 0 ? "" : f->names == hf_names_gpt2 ? "transformer."
                                                                                              : "model.";
        if (!hash) snprintf(out, 2 * MAX_NAME_LENGTH, "%s%s", wrap, row->from);
        else
            snprintf(out, 2 * MAX_NAME_LENGTH, "%s%.*s%u%s", wrap, (int)(hash - row->from), row->from, layer,
                     hash + 1);
        return true;
    }
    return false;
}

struct folder {
    const struct adapter *a;
    const struct source *base;
    const char *path, *base_name;
    struct error *err;
    char (*module)[2 * MAX_NAME_LENGTH];
};

static stretto_status name_modules(struct folder *x)
{
    const struct hf_family *f = adapter_family(x->base);
    x->module = mem_zalloc(x->a->n, sizeof *x->module);
    if (!x->module) return no_memory(x->err);
    for (size_t i = 0; i < x->a->n; i++) {
        const char *weight = x->a->pair[i].weight;
        if (!f || !hf_module(f, weight, adapter_fused(x->base, weight) != NULL, x->module[i]))
            return fail(x->err, STRETTO_E_UNSUP, "transformers has no name for %s of a %s model", weight,
                        source_arch(x->base));
    }
    return STRETTO_OK;
}

/* Whether PEFT would find by the last word of module i exactly the layers that the adapter has. Layers are taken to be
 * alike, so they are as many as the model's. */
static bool by_last_word(const struct folder *x, const char *word)
{
    uint64_t layers = 0;
    size_t n = 0;
    source_u64(x->base, ".block_count", &layers);
    for (size_t i = 0; i < x->a->n; i++) {
        const char *dot = strrchr(x->module[i], '.');
        n += dot && strcmp(dot + 1, word) == 0;
    }
    return n == layers;
}

static json_t *targets(const struct folder *x)
{
    json_t *all = json_array(), *seen = json_object();
    for (size_t i = 0; i < x->a->n; i++) {
        const char *dot = strrchr(x->module[i], '.');
        const char *word = dot && by_last_word(x, dot + 1) ? dot + 1 : x->module[i];
        if (json_object_get(seen, word)) continue;
        json_object_set_new(seen, word, json_true());
        json_array_append_new(all, json_string(word));
    }
    json_decref(seen);
    return all;
}

/* alpha as people write it: a whole number where it is one. */
static json_t *number(double v) { return v == floor(v) ? json_integer((json_int_t)v) : json_real(v); }

static stretto_status write_config(struct folder *x, const char *path)
{
    const struct adapter_pair *first = &x->a->pair[0];
    double alpha = (double)first->scale * first->rank;
    json_t *ranks = json_object(), *alphas = json_object();
    for (size_t i = 0; i < x->a->n; i++) {
        const struct adapter_pair *p = &x->a->pair[i];
        double own = (double)p->scale * p->rank;
        if (p->rank != first->rank) json_object_set_new(ranks, x->module[i], json_integer(p->rank));
        if (own != alpha) json_object_set_new(alphas, x->module[i], number(own));
    }
    json_t *all = json_pack("{s:s,s:s,s:b,s:i,s:o,s:f,s:s,s:b,s:b,s:b,s:o,s:o,s:o,s:s}", "peft_type", "LORA",
                            "task_type", "CAUSAL_LM", "inference_mode", 1, "r", (int)first->rank, "lora_alpha",
                            number(alpha), "lora_dropout", 0.0, "bias", "none", "fan_in_fan_out",
                            adapter_family(x->base)->names == hf_names_gpt2, "use_rslora", 0, "use_dora", 0,
                            "rank_pattern", ranks, "alpha_pattern", alphas, "target_modules", targets(x),
                            "base_model_name_or_path", x->base_name ? x->base_name : "");
    json_t *behind = x->a->n_invocation ? json_array() : NULL;
    for (size_t i = 0; i < x->a->n_invocation; i++) json_array_append_new(behind, json_integer(x->a->invocation[i]));
    if (behind) json_object_set_new(all, "alora_invocation_tokens", behind);
    char *text = all ? json_dumps(all, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(all);
    stretto_status s = text ? file_write(path, text, strlen(text), true, x->err) : no_memory(x->err);
    free(text);
    return s;
}

static stretto_status list_tensors(struct folder *x, struct st_tensor *list, char (*names)[3 * MAX_NAME_LENGTH])
{
    for (size_t i = 0; i < 2 * x->a->n; i++) {
        const struct adapter_pair *p = &x->a->pair[i / 2];
        bool b = i % 2;
        snprintf(names[i], sizeof names[i], "base_model.model.%s.lora_%c.weight", x->module[i / 2],
                 b ? 'B' : 'A');
        list[i] = (struct st_tensor){ .name = names[i], .dtype = "F32", .n_dims = 2,
                                      .shape = { b ? p->n_out : p->rank, b ? p->rank : p->n_in } };
        list[i].bytes = (size_t)(list[i].shape[0] * list[i].shape[1]) * sizeof(float);
    }
    return STRETTO_OK;
}

static stretto_status put_tensors(struct folder *x, struct part *p, const struct st_tensor *list,
                                  const struct buffer *header)
{
    uint64_t at = header->len, all = header->len;
    for (size_t i = 0; i < 2 * x->a->n; i++) all += list[i].bytes;
    TRY(part_begin(p, all, x->err));
    TRY(part_put(p, 0, header->data, header->len, x->err));
    for (size_t i = 0; i < 2 * x->a->n; at += list[i++].bytes) {
        const struct adapter_pair *pair = &x->a->pair[i / 2];
        TRY(part_put(p, at, i % 2 ? pair->b : pair->a, list[i].bytes, x->err));
    }
    return part_finish(p, x->err);
}

static stretto_status write_tensors(struct folder *x, const char *path)
{
    static const char *const about[] = { "format", "pt", NULL };
    struct buffer header = buffer_make(HEADER_MOST);
    struct part p = { .fd = -1 };
    struct st_tensor *list = mem_zalloc(2 * x->a->n, sizeof *list);
    char (*names)[3 * MAX_NAME_LENGTH] = mem_zalloc(2 * x->a->n, sizeof *names);
    stretto_status s = list && names ? list_tensors(x, list, names) : no_memory(x->err);
    if (s == STRETTO_OK && safetensors_header(&header, list, 2 * x->a->n, about) != STRETTO_OK) s = no_memory(x->err);
    if (s == STRETTO_OK) s = part_open(&p, path, true, true, x->err);
    if (s == STRETTO_OK) {
        s = put_tensors(x, &p, list, &header);
        part_close(&p);
    }
    buffer_done(&header);
    mem_free(list);
    mem_free(names);
    return s;
}

static stretto_status write_folder(struct folder *x)
{
    char path[PATH_MAX];
    TRY(name_modules(x));
    if (mkdir(x->path, 0777) != 0 && errno != EEXIST)
        return fail(x->err, STRETTO_E_IO, "cannot make the folder %s: %s", x->path, strerror(errno));
    if (snprintf(path, sizeof path, "%s/adapter_model.safetensors", x->path) >= PATH_MAX - 16)
        return fail(x->err, STRETTO_E_ARG, "the path of %s is too long", x->path);
    TRY(write_tensors(x, path));
    snprintf(path, sizeof path, "%.*s/adapter_config.json", PATH_MAX - 32, x->path);
    return write_config(x, path);
}

stretto_status adapter_write_peft(const struct adapter *a, const char *folder, const struct source *base,
                                  const char *base_name, struct error *err)
{
    struct adapter stored = { 0 };
    struct folder x = { .a = &stored, .base = base, .path = folder, .base_name = base_name, .err = err };
    TRY(check(a, err));
    if (a->rows != ADAPTER_ALL && !a->n_invocation)
        return fail(err, STRETTO_E_UNSUP, "PEFT has no word for an adapter that acts on the rows '%s' alone",
                    adapter_rows_word(a->rows));
    stretto_status s = as_stored(a, base, true, &stored, err);
    if (s == STRETTO_OK) s = write_folder(&x);
    mem_free(x.module);
    adapter_done(&stored);
    return s;
}
