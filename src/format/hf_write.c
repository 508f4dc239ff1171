#include "format/hf_write.h"
#include "base/buffer.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include "base/part.h"
#include "format/hf_int.h"
#include "format/safetensors_write.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROWS = 64, COPY_MOST = 256 << 20, JSON_MOST = 64 << 20 };

/* What the folder calls a tensor; '#' stands for a layer's number in both. */
struct naming { char *gguf, *hf; };

/* A tensor on its way: one of the file, or (from NULL) one of the folder that is copied. */
struct outgoing {
    const struct source_tensor *from;
    char *name;
    struct st_tensor copied;
    uint64_t at, bytes;
};

struct writing {
    const struct hf_write_options *o;
    struct error *err;
    struct source *folder, *file;
    struct hf_config config;
    json_t *root, *text;                /* config.json, and where the sizes stand in it */
    struct naming *names;
    size_t n_names, cap_names;
    struct outgoing *list;
    size_t n, cap;
    struct source_tensor *stored;
    uint64_t heads, heads_kv, done, total;
    char part[PATH_MAX];                /* OUT.part */
};

static stretto_status no_memory(struct writing *w)
{
    return fail(w->err, STRETTO_E_NOMEM, "out of memory");
}

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), w = strlen(with);
    return n >= w && strcmp(s + n - w, with) == 0;
}

/* ---- names ---------------------------------------------------------------------------------- */

/* "blk.3.attn_q.weight" -> "blk.#.attn_q.weight" and 3; other names as they are, and -1. */
static long with_hash(const char *name, char out[2 * MAX_NAME_LENGTH])
{
    long layer = -1;
    int n = 0;
    if (sscanf(name, "blk.%ld.%n", &layer, &n) == 1 && n) {
        snprintf(out, 2 * MAX_NAME_LENGTH, "blk.#.%.200s", name + n);
        return layer;
    }
    snprintf(out, 2 * MAX_NAME_LENGTH, "%.*s", MAX_NAME_LENGTH, name);
    return -1;
}

/* "model.layers.3.mlp.up_proj.weight" and 3 -> "model.layers.#.mlp.up_proj.weight" */
static void hash_for(const char *name, long layer, char out[2 * MAX_NAME_LENGTH])
{
    char number[32];
    snprintf(number, sizeof number, ".%ld.", layer);
    const char *at = layer >= 0 ? strstr(name, number) : NULL;
    if (at) snprintf(out, 2 * MAX_NAME_LENGTH, "%.*s.#.%s", (int)(at - name), name, at + strlen(number));
    else snprintf(out, 2 * MAX_NAME_LENGTH, "%s", name);
}

static const struct naming *naming_find(const struct writing *w, const char *gguf)
{
    for (size_t i = 0; i < w->n_names; i++)
        if (strcmp(w->names[i].gguf, gguf) == 0) return &w->names[i];
    return NULL;
}

static stretto_status note_name(struct writing *w, const char *gguf, const char *hf)
{
    char g[2 * MAX_NAME_LENGTH], h[2 * MAX_NAME_LENGTH];
    hash_for(hf, with_hash(gguf, g), h);
    if (naming_find(w, g)) return STRETTO_OK;
    if (w->n_names == w->cap_names) {
        size_t cap = w->cap_names ? 2 * w->cap_names : 64;
        struct naming *more = mem_resize(w->names, cap * sizeof *more);
        if (!more) return no_memory(w);
        w->names = more;
        w->cap_names = cap;
    }
    struct naming *n = &w->names[w->n_names++];
    *n = (struct naming){ mem_strdup(g), mem_strdup(h) };
    return n->gguf && n->hf ? STRETTO_OK : no_memory(w);
}

static struct outgoing *add(struct writing *w)
{
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 256;
        struct outgoing *more = mem_resize(w->list, cap * sizeof *more);
        if (!more) return NULL;
        w->list = more;
        w->cap = cap;
    }
    w->list[w->n] = (struct outgoing){ .from = NULL };
    return &w->list[w->n++];
}

/* Names are learned; what the model beside the text has, and heads that only training uses, is copied. */
static stretto_status look(void *ctx, const struct st_tensor *t, struct error *err)
{
    struct writing *w = ctx;
    char gguf[MAX_NAME_LENGTH + 1], hf[MAX_NAME_LENGTH + 1];
    (void)err;
    enum hf_fate fate = hf_translate(&w->config, t->name, t->name_n, gguf);
    if (t->name_n > MAX_NAME_LENGTH) return STRETTO_OK;
    memcpy(hf, t->name, t->name_n);
    hf[t->name_n] = '\0';
    if (fate == HF_USED) return note_name(w, gguf, hf);
    if (fate != HF_OTHER_SIDE && !w->config.family->encoder) return STRETTO_OK;
    struct outgoing *x = add(w);
    if (!x || !(x->name = mem_strdup(hf))) return no_memory(w);
    x->copied = *t;
    x->bytes = t->bytes;
    return STRETTO_OK;
}

static stretto_status name_of(struct writing *w, const struct source_tensor *t, char **out)
{
    char g[2 * MAX_NAME_LENGTH], name[3 * MAX_NAME_LENGTH];
    long layer = with_hash(t->name, g);
    const struct naming *n = naming_find(w, g);
    if (!n && strcmp(t->name, "token_embd.weight") == 0) n = naming_find(w, "output.weight");
    if (!n)
        return fail(w->err, STRETTO_E_UNSUP, "tensor %s is none that a folder of this model has a name for", t->name);
    const char *hash = strchr(n->hf, '#');
    if (hash) snprintf(name, sizeof name, "%.*s%ld%s", (int)(hash - n->hf), n->hf, layer, hash + 1);
    else snprintf(name, sizeof name, "%s", n->hf);
    *out = mem_strdup(name);
    return *out ? STRETTO_OK : no_memory(w);
}

static stretto_status list_tensors(struct writing *w)
{
    size_t n;
    for (size_t i = 0; i < w->folder->n_maps; i++)
        TRY(safetensors_read(&w->folder->maps[i], w->folder->path, look, w, w->err));
    TRY(source_stored(w->file, 0, &w->stored, &n, w->err));
    for (size_t i = 0; i < n; i++) {
        const struct source_tensor *t = &w->stored[i];
        if (strcmp(t->name, "rope_freqs.weight") == 0) continue;        /* config.json says it */
        if (dtype_table[t->type].block > 1)
            return fail(w->err, STRETTO_E_UNSUP, "tensor %s is %s; a folder holds F32, F16 and BF16", t->name,
                        dtype_table[t->type].name);
        struct outgoing *x = add(w);
        if (!x) return no_memory(w);
        x->from = t;
        x->bytes = dtype_bytes(w->o->type, (size_t)(t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3]));
        TRY(name_of(w, t, &x->name));
    }
    for (size_t i = 0; i < w->n; i++) {
        w->list[i].at = w->total;
        w->total += w->list[i].bytes;
    }
    return STRETTO_OK;
}

/* ---- config.json ---------------------------------------------------------------------------- */

static stretto_status read_config(struct writing *w)
{
    struct source_str s;
    if (!source_file(w->folder, "config.json", &s))
        return fail(w->err, STRETTO_E_ARG, "%s is no Hugging Face folder with a config.json", w->folder->path);
    TRY(json_tree(&w->root, s.p, s.n, JSON_TWICE_LAST, "config.json", w->err));
    json_t *text = json_object_get(w->root, "text_config");
    w->text = json_is_object(text) ? text : w->root;
    const char *type = json_string_value(json_object_get(w->text, "model_type"));
    if (!type) type = json_string_value(json_object_get(w->root, "model_type"));
    w->config.family = type ? hf_family_find(type) : NULL;
    return w->config.family ? STRETTO_OK : fail(w->err, STRETTO_E_UNSUP, "config.json names no known \"model_type\"");
}

static stretto_status change_size(struct writing *w, const char *key, const char *name, const char *words)
{
    uint64_t was, is;
    if (!source_each_u64(w->folder, key, &was)) return STRETTO_OK;
    if (!source_each_u64(w->file, key, &is))
        return fail(w->err, STRETTO_E_UNSUP, "the layers have %s of their own, for which config.json has one number: "
                    "write a GGUF file, or leave out whole layers only", words);
    if (was != is) json_object_set_new(w->text, name, json_integer((json_int_t)is));
    return STRETTO_OK;
}

/* One word for each layer: those of the layers that are left, where all are the same. */
static stretto_status cut_kinds(struct writing *w)
{
    json_t *kinds = json_object_get(w->text, "layer_types"), *v;
    uint64_t layers;
    size_t i;
    if (!json_is_array(kinds) || !source_u64(w->file, ".block_count", &layers) || json_array_size(kinds) <= layers)
        return STRETTO_OK;
    json_array_foreach(kinds, i, v)
        if (!json_equal(v, json_array_get(kinds, 0)))
            return fail(w->err, STRETTO_E_UNSUP, "layers of several kinds (\"layer_types\") cannot be left out of a "
                        "folder; write a GGUF file");
    while (json_array_size(kinds) > layers) json_array_remove(kinds, json_array_size(kinds) - 1);
    return STRETTO_OK;
}

static void say_type(struct writing *w, json_t *where)
{
    const char *word = w->o->type == DT_F32 ? "float32" : w->o->type == DT_F16 ? "float16" : "bfloat16";
    const char *key = json_object_get(where, "dtype") ? "dtype" : "torch_dtype";
    if (where == w->root || json_object_get(where, key)) json_object_set_new(where, key, json_string(word));
}

static stretto_status change_config(struct writing *w)
{
    uint64_t was = 0, is = 0, head;
    source_each_u64(w->folder, ".attention.head_count", &was);
    TRY(change_size(w, ".block_count", "num_hidden_layers", "numbers"));
    TRY(change_size(w, ".feed_forward_length", "intermediate_size", "feed-forward widths"));
    TRY(change_size(w, ".attention.head_count", "num_attention_heads", "numbers of heads"));
    TRY(change_size(w, ".attention.head_count_kv", "num_key_value_heads", "numbers of heads"));
    TRY(cut_kinds(w));
    if (source_each_u64(w->file, ".attention.head_count", &is) && is != was
        && source_u64(w->file, ".attention.key_length", &head))
        json_object_set_new(w->text, "head_dim", json_integer((json_int_t)head));
    source_each_u64(w->file, ".attention.head_count", &w->heads);
    source_each_u64(w->file, ".attention.head_count_kv", &w->heads_kv);
    say_type(w, w->root);
    if (w->text != w->root) say_type(w, w->text);
    return STRETTO_OK;
}

/* ---- weights -------------------------------------------------------------------------------- */

/* GPT-2's Conv1D matrices lie turned. */
static bool is_turned(const struct writing *w, const struct source_tensor *t)
{
    static const char *const kinds[] = { ".attn_qkv.weight", ".attn_output.weight", ".ffn_up.weight",
                                         ".ffn_down.weight" };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && w->config.family->conv1d && t; i++)
        if (ends(t->name, kinds[i])) return true;
    return false;
}

static struct st_tensor described(const struct writing *w, const struct outgoing *x)
{
    struct st_tensor t = x->copied;
    t.name = x->name;
    t.bytes = (size_t)x->bytes;
    if (!x->from) return t;
    bool turned = is_turned(w, x->from);
    t.n_dims = x->from->n_dims;
    snprintf(t.dtype, sizeof t.dtype, "%s", dtype_table[w->o->type].name);
    for (size_t d = 0; d < t.n_dims; d++) t.shape[d] = x->from->dims[turned ? d : t.n_dims - 1 - d];
    return t;
}

static stretto_status make_header(const struct writing *w, struct buffer *out)
{
    struct source_str text = { NULL, 0 };
    bool squeezed = source_string(w->file, "stretto.squeeze.recipe", &text);
    char *recipe = mem_strndup(squeezed ? text.p : "", text.n);
    const char *about[] = { "format", "pt", squeezed ? "stretto.squeeze.recipe" : NULL, recipe, NULL };
    struct st_tensor *list = mem_zalloc(w->n + 1, sizeof *list);
    stretto_status s = recipe && list ? STRETTO_OK : STRETTO_E_NOMEM;
    for (size_t i = 0; i < w->n && list; i++) list[i] = described(w, &w->list[i]);
    if (s == STRETTO_OK) s = safetensors_header(out, list, w->n, about);
    mem_free(recipe);
    mem_free(list);
    return s;
}

/* Where row x of a head in halves stands among its pairs. */
static uint64_t halved_row(uint64_t row, uint64_t head_rows)
{
    uint64_t head = row / head_rows * head_rows, at = row % head_rows, half = head_rows / 2;
    return head + (at < half ? 2 * at : 2 * (at - half) + 1);
}

static uint64_t head_rows(const struct writing *w, const struct source_tensor *t)
{
    bool q = ends(t->name, ".attn_q.weight") || ends(t->name, ".attn_q.bias");
    bool k = ends(t->name, ".attn_k.weight") || ends(t->name, ".attn_k.bias");
    uint64_t rows = t->n_dims == 1 ? t->dims[0] : t->dims[1], heads = q ? w->heads : w->heads_kv;
    return w->folder->rope_halves && (q || k) && heads ? rows / heads : 0;
}

/* Numbers [first, first + n) of the tensor as the folder has them; rows of `width`. */
static void read_numbers(const struct writing *w, const struct source_tensor *t, uint64_t row, size_t n, size_t width,
                         float *out)
{
    const struct dtype_info *type = &dtype_table[t->type];
    const unsigned char *data = t->data;
    uint64_t head = head_rows(w, t);
    bool vector = t->n_dims == 1;
    for (size_t r = 0; r < n; r++) {
        uint64_t from = head && !vector ? halved_row(row + r, head) : row + r;
        type->decode(data + dtype_bytes(t->type, (size_t)from * width), out + r * width, width);
    }
    for (size_t i = 0; i < n * width && w->folder->norm_plus_one && ends(t->name, "norm.weight"); i++) out[i] -= 1;
}

static stretto_status encode(const struct writing *w, const struct source_tensor *t, const float *v, size_t n,
                             void *out)
{
    const struct dtype_info *type = &dtype_table[w->o->type];
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(v[i]) <= type->most))
            return fail(w->err, STRETTO_E_ARG, "tensor %s holds %g, which is too large for %s", t->name, (double)v[i],
                        type->name);
    type->encode(v, out, n);
    return STRETTO_OK;
}

/* A vector whose numbers change places, or a matrix that is turned: as a whole. */
static stretto_status put_turned(struct writing *w, struct part *p, uint64_t at, const struct source_tensor *t)
{
    size_t rows = (size_t)t->dims[1], width = (size_t)t->dims[0], n = rows * width;
    uint64_t head = t->n_dims == 1 ? head_rows(w, t) : 0;
    float *v = mem_alloc(n * sizeof *v), *turned = mem_alloc(n * sizeof *v);
    void *out = mem_alloc(dtype_bytes(w->o->type, n));
    stretto_status s = v && turned && out ? STRETTO_OK : no_memory(w);
    if (s == STRETTO_OK) {
        read_numbers(w, t, 0, rows, width, v);
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < width; i++)
                turned[head ? i : i * rows + r] = v[head ? halved_row(i, head) : r * width + i];
        s = encode(w, t, turned, n, out);
    }
    if (s == STRETTO_OK) s = part_put(p, at, out, dtype_bytes(w->o->type, n), w->err);
    mem_free(v);
    mem_free(turned);
    mem_free(out);
    return s;
}

static stretto_status put_rows(struct writing *w, struct part *p, uint64_t at, const struct source_tensor *t)
{
    size_t width = (size_t)t->dims[0], bytes = dtype_bytes(w->o->type, width);
    uint64_t rows = t->dims[1] * t->dims[2] * t->dims[3];
    float *v = mem_alloc(ROWS * width * sizeof *v);
    unsigned char *out = mem_alloc(ROWS * bytes);
    stretto_status s = v && out ? STRETTO_OK : no_memory(w);
    for (uint64_t row = 0; row < rows && s == STRETTO_OK; row += ROWS) {
        size_t n = rows - row < ROWS ? (size_t)(rows - row) : ROWS;
        read_numbers(w, t, row, n, width, v);
        s = encode(w, t, v, n * width, out);
        if (s == STRETTO_OK) s = part_put(p, at + row * bytes, out, n * bytes, w->err);
    }
    mem_free(v);
    mem_free(out);
    return s;
}

static stretto_status put_weights(struct writing *w, struct part *p, struct buffer *header)
{
    if (make_header(w, header) != STRETTO_OK) return no_memory(w);
    TRY(part_begin(p, header->len + w->total, w->err));
    TRY(part_put(p, 0, header->data, header->len, w->err));
    for (size_t i = 0; i < w->n; i++) {
        const struct outgoing *x = &w->list[i];
        const struct source_tensor *t = x->from;
        uint64_t at = header->len + x->at;
        if (w->o->cancel && *w->o->cancel) return fail(w->err, STRETTO_E_CANCEL, "writing the folder was cancelled");
        if (!t) TRY(part_put(p, at, x->copied.data, x->copied.bytes, w->err));
        else if (is_turned(w, t) || (t->n_dims == 1 && head_rows(w, t))) TRY(put_turned(w, p, at, t));
        else TRY(put_rows(w, p, at, t));
        w->done += x->bytes;
        progress_tell(&w->o->progress, "writing the folder", w->done, w->total);
    }
    return part_finish(p, w->err);
}

/* ---- files ---------------------------------------------------------------------------------- */

static stretto_status path_in(struct writing *w, const char *folder, const char *name, char out[PATH_MAX])
{
    int n = snprintf(out, PATH_MAX, "%s/%s", folder, name);
    return n > 0 && n < PATH_MAX ? STRETTO_OK : fail(w->err, STRETTO_E_ARG, "the path of %s is too long", name);
}

static stretto_status put_file(struct writing *w, const char *name, const void *bytes, size_t n)
{
    char path[PATH_MAX];
    struct part p;
    TRY(path_in(w, w->part, name, path));
    TRY(part_open(&p, path, true, true, w->err));
    stretto_status s = part_put(&p, 0, bytes, n, w->err);
    if (s == STRETTO_OK) s = part_finish(&p, w->err);
    part_close(&p);
    return s;
}

static stretto_status copy_file(struct writing *w, const char *name)
{
    char path[PATH_MAX];
    struct file_map map;
    TRY(path_in(w, w->folder->path, name, path));
    TRY(file_map_open(&map, path, w->err));
    stretto_status s = put_file(w, name, map.data, map.size);
    file_map_close(&map);
    return s;
}

/* Whether a file of the folder goes with it: neither weights, nor what is written anew, nor hidden. */
static bool goes_along(const struct writing *w, const char *name)
{
    static const char *const weights[] = { ".safetensors", ".index.json", ".bin", ".pt", ".pth", ".ckpt", ".h5",
                                           ".msgpack", ".onnx", ".gguf", ".part" };
    char path[PATH_MAX];
    struct stat st;
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        if (ends(name, weights[i])) return false;
    if (name[0] == '.' || strcmp(name, "config.json") == 0) return false;
    return path_in((struct writing *)(uintptr_t)w, w->folder->path, name, path) == STRETTO_OK && stat(path, &st) == 0
        && S_ISREG(st.st_mode) && st.st_size <= COPY_MOST;
}

static stretto_status copy_files(struct writing *w)
{
    DIR *d = opendir(w->folder->path);
    if (!d) return fail(w->err, STRETTO_E_IO, "cannot read %s: %s", w->folder->path, strerror(errno));
    stretto_status s = STRETTO_OK;
    for (struct dirent *e; s == STRETTO_OK && (e = readdir(d));)
        if (goes_along(w, e->d_name)) s = copy_file(w, e->d_name);
    closedir(d);
    for (size_t i = 0; i < w->folder->n_files && s == STRETTO_OK; i++) {
        const char *name = w->folder->files[i].name, *slash = strchr(name, '/');
        char sub[PATH_MAX];
        if (!slash) continue;
        snprintf(sub, sizeof sub, "%.2000s/%.*s", w->part, (int)(slash - name), name);
        if (mkdir(sub, 0777) != 0 && errno != EEXIST)
            s = fail(w->err, STRETTO_E_IO, "cannot make %s: %s", sub, strerror(errno));
        if (s == STRETTO_OK) s = copy_file(w, name);
    }
    return s;
}

static stretto_status put_config(struct writing *w)
{
    char *text = json_dumps(w->root, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    if (!text) return no_memory(w);
    stretto_status s = put_file(w, "config.json", text, strlen(text));
    free(text);
    return s;
}

/* What a failure left of OUT.part, where it is ours. */
static void remove_part(const struct writing *w)
{
    DIR *d = opendir(w->part);
    char path[PATH_MAX], sub[2 * PATH_MAX];
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (snprintf(path, sizeof path, "%.3500s/%.500s", w->part, e->d_name) >= (int)sizeof path) continue;
        for (size_t i = 0; i < w->folder->n_files; i++) {
            const char *slash = strchr(w->folder->files[i].name, '/');
            if (slash) snprintf(sub, sizeof sub, "%s%s", path, slash);
            if (slash) unlink(sub);
        }
        if (unlink(path) != 0) rmdir(path);
    }
    if (d) closedir(d);
    rmdir(w->part);
}

static stretto_status write_all(struct writing *w, const char *out)
{
    char path[PATH_MAX];
    struct part p = { .fd = -1 };
    struct buffer header = buffer_make(JSON_MOST);
    TRY(read_config(w));
    TRY(change_config(w));
    TRY(list_tensors(w));
    if (mkdir(w->part, 0777) != 0)
        return fail(w->err, STRETTO_E_IO, "cannot make %s: %s%s", w->part, strerror(errno),
                    errno == EEXIST ? "; it may be what an earlier call left: remove it" : "");
    TRY(path_in(w, w->part, "model.safetensors", path));
    TRY(part_open(&p, path, true, true, w->err));
    stretto_status s = put_weights(w, &p, &header);
    part_close(&p);
    buffer_done(&header);
    if (s == STRETTO_OK) s = copy_files(w);
    if (s == STRETTO_OK) s = put_config(w);
    if (s == STRETTO_OK && rename(w->part, out) != 0)
        s = fail(w->err, STRETTO_E_IO, "cannot name %s: %s", out, strerror(errno));
    if (s != STRETTO_OK) remove_part(w);
    return s;
}

stretto_status hf_write(const char *folder, const char *gguf, const char *out, const struct hf_write_options *o,
                        struct error *err)
{
    struct writing w = { .o = o, .err = err };
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') n--;
    if (n + sizeof ".part" > sizeof w.part) return fail(err, STRETTO_E_ARG, "the name %.80s... is too long", out);
    snprintf(w.part, sizeof w.part, "%.*s.part", (int)n, out);
    stretto_status s = source_open(&w.folder, folder, err);
    if (s == STRETTO_OK) s = source_open(&w.file, gguf, err);
    if (s == STRETTO_OK) s = write_all(&w, out);
    for (size_t i = 0; i < w.n; i++) mem_free(w.list[i].name);
    for (size_t i = 0; i < w.n_names; i++) {
        mem_free(w.names[i].gguf);
        mem_free(w.names[i].hf);
    }
    mem_free(w.list);
    mem_free(w.names);
    mem_free(w.stored);
    json_decref(w.root);
    source_close(w.file);
    source_close(w.folder);
    return s;
}
