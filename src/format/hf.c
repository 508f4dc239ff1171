/* A Hugging Face folder: config.json for the metadata, safetensors (one file, or several with an
 * index) for the tensors, and the small files that the tokenizer asks for. Nothing is copied or
 * converted: the tensors get their GGUF names and point into the mapped files. A folder without
 * weights is a vocabulary. */
#include "base/json.h"
#include "base/memory.h"
#include "format/hf_int.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The small files that other rooms may ask for; mapped when they are there. */
static const char *const folder_files[] = {
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json",
    "additional_chat_templates/tool_use.jinja",
    "vocab.txt", "vocab.json", "merges.txt", "modules.json", "sentence_bert_config.json",
    "config_sentence_transformers.json", "1_Pooling/config.json",
};
enum { N_FOLDER_FILES = sizeof folder_files / sizeof *folder_files };

/* A tensor that the index names. */
struct promise { struct source_str name; bool kept; };

struct folder {
    struct source *s;
    struct hf_config config;
    char path[PATH_MAX];                /* of the weight file being read */
    struct promise *promises;           /* by name, each once, when weight files are read */
    size_t n_promises, room;
};

static stretto_status path_of(const struct source *s, const char *name, size_t n,
                              char out[PATH_MAX], struct error *err)
{
    int len = snprintf(out, PATH_MAX, "%s/%.*s", s->path, (int)n, name);
    if (len < 0 || len >= PATH_MAX)
        return fail(err, STRETTO_E_ARG, "the path of %s is too long", s->path);
    return STRETTO_OK;
}

static bool has(const struct source *s, const char *name)
{
    char path[PATH_MAX];
    return path_of(s, name, strlen(name), path, NULL) == STRETTO_OK && access(path, F_OK) == 0;
}

static stretto_status map_folder_files(struct source *s, struct error *err)
{
    s->files = mem_zalloc(N_FOLDER_FILES, sizeof *s->files);
    if (!s->files) return source_no_memory(s, err);
    for (size_t i = 0; i < N_FOLDER_FILES; i++) {
        char path[PATH_MAX];
        TRY(path_of(s, folder_files[i], strlen(folder_files[i]), path, err));
        if (access(path, F_OK) != 0) continue;
        struct folder_file *f = &s->files[s->n_files];
        f->name = folder_files[i];
        TRY(file_map_open(&f->map, path, err));
        s->n_files++;
    }
    return STRETTO_OK;
}

/* ---- tensors -------------------------------------------------------------------------------- */

/* Conv1D of GPT-2 stores its matrix the other way round than a linear layer. */
static bool is_conv1d(const struct hf_config *c, const struct source_tensor *t)
{
    static const char *const kinds[] = { ".attn_qkv.weight", ".attn_output.weight",
                                         ".ffn_up.weight", ".ffn_down.weight" };
    if (!c->family->conv1d) return false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strstr(t->name, kinds[i])) return true;
    return false;
}

static int by_name(const void *a, const void *b)
{
    const struct source_str *x = &((const struct promise *)a)->name;
    const struct source_str *y = &((const struct promise *)b)->name;
    int order = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

static void keep_promise(struct folder *f, const char *name, size_t n)
{
    struct promise key = { .name = { name, n } };
    struct promise *is = f->n_promises ? bsearch(&key, f->promises, f->n_promises, sizeof key, by_name)
                                       : NULL;
    if (is) is->kept = true;
}

static stretto_status add_tensor(void *ctx, const struct st_tensor *from, struct error *err)
{
    struct folder *f = ctx;
    char name[MAX_NAME_LENGTH + 1];
    keep_promise(f, from->name, from->name_n);
    switch (hf_translate(&f->config, from->name, from->name_n, name)) {
    case HF_IGNORED: return STRETTO_OK;
    case HF_OTHER_SIDE: f->s->n_other_side++; return STRETTO_OK;
    case HF_UNKNOWN:
        return fail(err, STRETTO_E_UNSUP,
                    "%s: tensor %.100s belongs to no part of a %s model that is "
                    "supported",
                    f->path, from->name, f->config.family->model_type);
    case HF_USED: break;
    }
    enum dtype type = dtype_by_name(from->dtype);
    if (type != DT_F32 && type != DT_F16 && type != DT_BF16)
        return fail(err, STRETTO_E_UNSUP,
                    "%s: tensor %.100s is stored as %s; F32, F16 and BF16 are "
                    "supported: use the original folder or a GGUF file of this model",
                    f->path, from->name, from->dtype);
    if (from->n_dims < 1 || from->n_dims > SOURCE_MAX_DIMS)
        return fail(err, STRETTO_E_FORMAT,
                    "%s: tensor %.100s has %zu dimensions (1 to %d are read)", f->path, from->name,
                    from->n_dims, SOURCE_MAX_DIMS);
    struct source_tensor *t = source_add_tensor(f->s, err);
    if (!t) return STRETTO_E_NOMEM;
    *t = (struct source_tensor){ .name = pool_strndup(&f->s->pool, name, strlen(name)),
                                 .type = type, .n_dims = (uint32_t)from->n_dims,
                                 .dims = { 1, 1, 1, 1 },
                                 .data = from->data };
    if (!t->name) return source_no_memory(f->s, err);
    for (size_t d = 0; d < from->n_dims; d++) t->dims[d] = from->shape[from->n_dims - 1 - d];
    if (t->n_dims == 2 && is_conv1d(&f->config, t)) {
        t->transposed = true;
        t->dims[0] = from->shape[0];
        t->dims[1] = from->shape[1];
    }
    TRY(tensor_measure(t, f->path, err));
    return STRETTO_OK;
}

static stretto_status read_weights(struct folder *f, const char *name, size_t n, struct error *err)
{
    struct source *s = f->s;
    if (s->n_maps == MAX_PARTS)
        return fail(err, STRETTO_E_FORMAT, "%s has more than %d weight files", s->path, MAX_PARTS);
    struct file_map *maps = mem_resize(s->maps, (s->n_maps + 1) * sizeof *maps);
    if (!maps) return source_no_memory(s, err);
    s->maps = maps;
    TRY(path_of(s, name, n, f->path, err));
    TRY(file_map_open(&maps[s->n_maps], f->path, err));
    s->n_maps++;
    return safetensors_read(&maps[s->n_maps - 1], f->path, add_tensor, f, err);
}

/* ---- several files -------------------------------------------------------------------------- */

/* The names of an index come from outside: plain file names in the folder, nothing that leads
 * away. */
static bool plain_file_name(const char *p, size_t n)
{
    static const char end[] = ".safetensors";
    size_t e = sizeof end - 1;
    return n > e && n <= 255 && p[0] != '.' && !memchr(p, '/', n) && !memchr(p, '\0', n)
           && memcmp(p + n - e, end, e) == 0;
}

struct parts { struct { char *name; size_t n; } list[MAX_PARTS]; size_t n; };

/* The key at hand names a tensor. */
static stretto_status note_promise(struct folder *f, const struct json *j, struct error *err)
{
    if (f->n_promises == f->room) {
        size_t room = f->room ? 2 * f->room : 256;
        struct promise *more = mem_resize(f->promises, room * sizeof *more);
        if (!more) return source_no_memory(f->s, err);
        f->promises = more;
        f->room = room;
    }
    const char *name = pool_strndup(&f->s->pool, j->p, j->n);
    if (!name) return source_no_memory(f->s, err);
    f->promises[f->n_promises++] = (struct promise){ .name = { name, j->n } };
    return STRETTO_OK;
}

static void sort_promises(struct folder *f)
{
    size_t n = 0;
    qsort(f->promises, f->n_promises, sizeof *f->promises, by_name);
    for (size_t i = 0; i < f->n_promises; i++)
        if (n == 0 || by_name(&f->promises[n - 1], &f->promises[i]) != 0)
            f->promises[n++] = f->promises[i];
    f->n_promises = n;
}

/* As in transformers, any file of the index may hold the tensor; one that none holds would be left
 * out without a word where it need not be there, as a bias. */
static stretto_status check_promises(const struct folder *f, const char *path, struct error *err)
{
    for (size_t i = 0; i < f->n_promises; i++)
        if (!f->promises[i].kept)
            return fail(err, STRETTO_E_FORMAT,
                        "%s promises the tensor %.100s, but no file that it names holds it: fetch the "
                        "folder again", path, f->promises[i].name.p);
    return STRETTO_OK;
}

static stretto_status note_part(struct folder *f, struct parts *parts, struct json *j,
                                struct error *err)
{
    /* Neighbours in the map mostly lie in the same file, so the search begins at the last one. */
    for (size_t i = parts->n; i-- > 0;)
        if (parts->list[i].n == j->n && memcmp(parts->list[i].name, j->p, j->n) == 0)
            return STRETTO_OK;
    if (!plain_file_name(j->p, j->n))
        return json_fail(j, "a weight file is not named like a .safetensors file of the folder");
    if (parts->n == MAX_PARTS) return json_fail(j, "more than %d weight files", MAX_PARTS);
    char *name = pool_strndup(&f->s->pool, j->p, j->n);
    if (!name) return source_no_memory(f->s, err);
    parts->list[parts->n].name = name;
    parts->list[parts->n++].n = j->n;
    return STRETTO_OK;
}

/* { "metadata": {...}, "weight_map": { "tensor": "file", ... } } */
static stretto_status read_weight_map(struct folder *f, struct parts *parts, struct json *j,
                                      struct error *err)
{
    if (json_next(j) != JT_OBJECT) return json_fail(j, "the index is not an object");
    while (json_next(j) == JT_KEY) {
        if (!json_is(j, "weight_map")) {
            if (!json_skip(j)) return json_status(j);
            continue;
        }
        if (json_next(j) != JT_OBJECT) return json_fail(j, "weight_map is not an object");
        while (json_next(j) == JT_KEY) {
            TRY(note_promise(f, j, err));
            if (json_next(j) != JT_STRING) return json_fail(j, "a weight file has no name");
            TRY(note_part(f, parts, j, err));
        }
    }
    if (json_status(j) == STRETTO_OK && parts->n == 0)
        return json_fail(j, "weight_map names no files");
    return json_status(j);
}

static stretto_status read_indexed_weights(struct folder *f, const char *index, struct error *err)
{
    struct file_map map;
    char path[PATH_MAX];
    TRY(path_of(f->s, index, strlen(index), path, err));
    TRY(file_map_open(&map, path, err));
    struct parts *parts = mem_zalloc(1, sizeof *parts);
    stretto_status st = parts ? STRETTO_OK : source_no_memory(f->s, err);
    struct json j;
    json_open(&j, (const char *)map.data, map.size, path, err);
    if (st == STRETTO_OK) st = read_weight_map(f, parts, &j, err);
    json_done(&j);
    file_map_close(&map);
    if (st == STRETTO_OK) sort_promises(f);
    for (size_t i = 0; st == STRETTO_OK && i < parts->n; i++)
        st = read_weights(f, parts->list[i].name, parts->list[i].n, err);
    if (st == STRETTO_OK) st = check_promises(f, path, err);
    mem_free(parts);
    mem_free(f->promises);
    f->promises = NULL;
    f->n_promises = f->room = 0;
    return st;
}

/* ---- the folder ----------------------------------------------------------------------------- */

/* An adapter is no model, and weights that lie beside one are not what transformers runs. */
static stretto_status refuse_adapter(const struct source *s, struct error *err)
{
    return fail(err, STRETTO_E_UNSUP,
                "%s holds an adapter (adapter_config.json), which is not applied here: merge it into "
                "its base model (peft: merge_and_unload) and name the folder with the result", s->path);
}

static stretto_status no_weights(const struct source *s, struct error *err)
{
    struct source_str text;
    if (has(s, "pytorch_model.bin") || has(s, "pytorch_model.bin.index.json"))
        return fail(err, STRETTO_E_UNSUP,
                    "%s holds its weights as a PyTorch checkpoint, which can run "
                    "code; use safetensors (transformers: save_pretrained) or a GGUF file",
                    s->path);
    if (source_file(s, "tokenizer.json", &text)) return STRETTO_OK;
    if (has(s, "adapter_config.json")) return refuse_adapter(s, err);
    return fail(err, STRETTO_E_ARG,
                "%s is a folder without model.safetensors or tokenizer.json; name a "
                ".gguf file or a Hugging Face model folder",
                s->path);
}

static struct source_tensor *find(const struct source *s, const char *name)
{
    for (size_t i = 0; i < s->n_tensors; i++)
        if (strcmp(s->tensors[i].name, name) == 0) return &s->tensors[i];
    return NULL;
}

static bool same(const struct source_tensor *a, const struct source_tensor *b)
{
    return a->type == b->type && a->bytes == b->bytes && a->dims[0] == b->dims[0]
           && memcmp(a->data, b->data, a->bytes) == 0;
}

/* A head of its own is there, unless it is the embedding's. Of two that are tied a file may hold
 * either or both; two that differ are not tied, whatever config.json says (as in transformers). */
static stretto_status settle_head(const struct folder *f, struct error *err)
{
    struct source *s = f->s;
    struct source_tensor *head = find(s, "output.weight"), *table = find(s, "token_embd.weight");
    if (f->config.family->encoder) return STRETTO_OK;
    if (!head && !f->config.tied)
        return fail(err, STRETTO_E_FORMAT,
                    "%s has no lm_head.weight and does not tie it to the embeddings "
                    "(\"tie_word_embeddings\"): it is not a model that writes text",
                    s->path);
    if (!head || !f->config.tied) return STRETTO_OK;
    if (!table) head->name = "token_embd.weight";
    else if (same(head, table)) *head = s->tensors[--s->n_tensors];
    return STRETTO_OK;
}

static bool has_bias(const struct source *s, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "blk.0.%s.bias", what);
    bool fused = strncmp(what, "attn_", 5) == 0 && strcmp(what, "attn_output") != 0;
    return find(s, name) || (fused && find(s, "blk.0.attn_qkv.bias"));
}

/* Biases that config.json speaks of must be there; those it does not speak of are used as well. */
static stretto_status check_biases(const struct folder *f, struct error *err)
{
    const struct hf_config *c = &f->config;
    const char *qkv = hf_bias_word(c->family->bias.qkv, "attention_bias");
    const char *out = hf_bias_word(c->family->bias.out, "attention_bias");
    const char *feed = hf_bias_word(c->family->bias.feed, "mlp_bias");
    const struct { bool wanted; const char *key, *what; } rows[] = {
        { c->bias_qkv, qkv, "attn_q" }, { c->bias_qkv, qkv, "attn_k" }, { c->bias_qkv, qkv, "attn_v" },
        { c->bias_out, out, "attn_output" }, { c->bias_feed, feed, "ffn_up" }, { c->bias_feed, feed, "ffn_down" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].wanted && !has_bias(f->s, rows[i].what))
            return fail(err, STRETTO_E_FORMAT,
                        "%s: config.json says \"%s\": true, or means it by silence, but no weight file holds the bias "
                        "(blk.0.%s.bias in GGUF's words): fetch the folder again, or set it to "
                        "false if the model has none", f->s->path, rows[i].key, rows[i].what);
    return STRETTO_OK;
}

/* Parts of a block that stand side by side have one norm: the tensors show it to whoever builds the model, and
 * config.json must not say otherwise. */
static stretto_status check_beside(const struct folder *f, struct error *err)
{
    const struct hf_config *c = &f->config;
    bool second = find(f->s, "blk.0.ffn_norm.weight");
    if (!c->family->beside || f->s->n_tensors == 0 || second != c->beside) return STRETTO_OK;
    return fail(err, STRETTO_E_FORMAT, "%s: config.json says \"use_parallel_residual\": %s (or nothing), and "
                "the weights %s a second norm in each layer: fetch the folder again", f->s->path,
                c->beside ? "true" : "false", second ? "have" : "lack");
}

stretto_status hf_read(struct source *s, struct error *err)
{
    struct folder f = { .s = s };
    struct source_str text;
    bool single = has(s, "model.safetensors"), several = has(s, "model.safetensors.index.json");
    s->format = "safetensors";
    TRY(map_folder_files(s, err));
    if (source_file(s, "config.json", &text)) {
        TRY(hf_config_read(s, &f.config, err));
    } else if (single || several) {
        return fail(err, STRETTO_E_ARG, "%s has weights but no config.json to say what they are",
                    s->path);
    }
    TRY(source_index_keys(s, err));
    if (!single && !several) {
        s->format = "tokenizer.json";
        return no_weights(s, err);
    }
    if (has(s, "adapter_config.json")) return refuse_adapter(s, err);
    if (single) TRY(read_weights(&f, "model.safetensors", strlen("model.safetensors"), err));
    else TRY(read_indexed_weights(&f, "model.safetensors.index.json", err));
    TRY(check_biases(&f, err));
    TRY(check_beside(&f, err));
    return settle_head(&f, err);
}
