#include "format/adapter_int.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include "format/families.h"
#include <limits.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_PAIRS = 1 << 15, MODULE = 2 * MAX_NAME_LENGTH };

/* One of a pair's matrices as the file has it: rows of `cols` numbers. */
struct half {
    char weight[MAX_NAME_LENGTH + 1];
    char module[MODULE];         /* PEFT's name of the layer, which its patterns are about */
    bool b;
    uint64_t rows, cols;
    enum dtype type;
    const void *data;
};

struct reading {
    struct adapter *out;
    const char *path;
    const struct source *base;
    struct error *err;
    struct half *half;
    size_t n, cap;
    bool halves;                 /* rows of q and k are Hugging Face's */
    json_t *config;              /* PEFT's */
    double alpha;
    bool root;                   /* alpha / sqrt(rank) */
};

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), w = strlen(with);
    return n >= w && strcmp(s + n - w, with) == 0;
}

static stretto_status no_memory(struct error *err)
{
    return fail(err, STRETTO_E_NOMEM, "out of memory for an adapter");
}

static const char *const rows_words[ADAPTER_ROWS] = { "all", "given", "answers", "guesses" };

const char *adapter_rows_word(enum adapter_rows rows) { return rows_words[rows]; }

bool adapter_rows_find(const char *word, enum adapter_rows *out)
{
    for (int i = 0; i < ADAPTER_ROWS; i++)
        if (strcmp(word, rows_words[i]) == 0) {
            *out = (enum adapter_rows)i;
            return true;
        }
    return false;
}

/* ---- the base -------------------------------------------------------------------------------- */

const struct hf_family *adapter_family(const struct source *base)
{
    const char *arch;
    for (size_t i = 0; format_model_type(i, &arch); i++)
        if (strcmp(arch, source_arch(base)) == 0) return hf_family_find(format_model_type(i, &arch));
    return NULL;
}

static uint64_t heads_of(const struct source *base, const char *key, uint64_t layer)
{
    uint64_t n = 0;
    int64_t one;
    if (source_u64(base, key, &n)) return n;
    return source_array_i64(base, key, (size_t)layer, &one) && one > 0 ? (uint64_t)one : 0;
}

uint64_t adapter_turned(const struct source *base, const char *weight, uint64_t n_out, bool halves)
{
    const struct hf_family *f = adapter_family(base);
    unsigned layer = 0;
    bool q = ends(weight, ".attn_q.weight"), k = ends(weight, ".attn_k.weight");
    if (!f || !f->rope_halves || base->rope_halves == halves || (!q && !k)) return 0;
    sscanf(weight, "blk.%u.", &layer);
    uint64_t heads = k ? heads_of(base, ".attention.head_count_kv", layer) : 0;
    if (!heads) heads = heads_of(base, ".attention.head_count", layer);
    return heads && n_out % heads == 0 && n_out / heads % 2 == 0 ? n_out / heads : 0;
}

const struct source_tensor *adapter_fused(const struct source *base, const char *name)
{
    for (size_t i = 0; i < base->n_stored; i++)
        if (strcmp(base->stored[i].name, name) == 0) return &base->stored[i];
    return NULL;
}

const struct source_tensor *adapter_whole(const struct source *base, const char *slice)
{
    const struct source_tensor *t = source_tensor_find(base, slice);
    for (size_t i = 0; t && i < base->n_stored; i++)
        if (source_within(t, &base->stored[i])) return &base->stored[i];
    return NULL;
}

/* ---- pairs ----------------------------------------------------------------------------------- */

void adapter_done(struct adapter *a)
{
    for (size_t i = 0; i < a->n; i++) {
        mem_free(a->pair[i].a);
        mem_free(a->pair[i].b);
    }
    mem_free(a->pair);
    *a = (struct adapter){ 0 };
}

struct adapter_pair *adapter_add(struct adapter *a, const char *weight, uint32_t rank, uint32_t n_in, uint32_t n_out,
                                 float scale, struct error *err)
{
    struct adapter_pair *more = mem_resize(a->pair, (a->n + 1) * sizeof *more);
    if (more) a->pair = more;
    struct adapter_pair *p = more ? &a->pair[a->n] : NULL;
    if (p) {
        *p = (struct adapter_pair){ .rank = rank, .n_in = n_in, .n_out = n_out, .scale = scale };
        snprintf(p->weight, sizeof p->weight, "%s", weight);
        p->a = mem_zalloc((size_t)rank * n_in, sizeof *p->a);
        p->b = mem_zalloc((size_t)rank * n_out, sizeof *p->b);
        a->n++;
        if (p->a && p->b) return p;
    }
    no_memory(err);
    return NULL;
}

static stretto_status read_numbers(struct reading *x, const struct half *h, uint64_t row, uint64_t rows, float *out)
{
    const unsigned char *p = h->data;
    size_t bytes = dtype_bytes(h->type, (size_t)h->cols);
    dtype_table[h->type].decode(p + (size_t)row * bytes, out, (size_t)(rows * h->cols));
    for (size_t i = 0; i < (size_t)(rows * h->cols); i++)
        if (!isfinite(out[i]))
            return fail(x->err, STRETTO_E_FORMAT, "%s: the %c of %s holds a value that is no number: it is spoilt; "
                        "train it again", x->path, h->b ? 'B' : 'A', h->weight);
    return STRETTO_OK;
}

/* B's rows in the base's order. */
static stretto_status turn(struct reading *x, struct adapter_pair *p)
{
    uint64_t head = adapter_turned(x->base, p->weight, p->n_out, x->halves);
    size_t r = p->rank;
    if (!head) return STRETTO_OK;
    float *b = mem_alloc((size_t)p->n_out * r * sizeof *b);
    if (!b) return no_memory(x->err);
    for (uint64_t i = 0; i < p->n_out; i++) {
        uint64_t at = paired_place(i, head);
        if (x->halves) memcpy(b + at * r, p->b + i * r, r * sizeof *b);
        else memcpy(b + i * r, p->b + at * r, r * sizeof *b);
    }
    mem_free(p->b);
    p->b = b;
    return STRETTO_OK;
}

/* PEFT's patterns: a module's name, or its end behind a dot, as an expression. *found where there is one for it. */
static stretto_status pattern(struct reading *x, const char *key, const char *module, double *out)
{
    json_t *all = json_object_get(x->config, key), *v;
    const char *name;
    json_object_foreach(all, name, v) {
        char text[MODULE + 16];
        regex_t re;
        if (strlen(name) > MAX_NAME_LENGTH || !json_is_number(v))
            return fail(x->err, STRETTO_E_FORMAT, "%s: \"%s\" is no list of numbers for layers", x->path, key);
        snprintf(text, sizeof text, "^(.*\\.)?(%s)$", name);
        if (regcomp(&re, text, REG_EXTENDED | REG_NOSUB) != 0)
            return fail(x->err, STRETTO_E_UNSUP, "%s: the expression '%.80s' of \"%s\" is not understood; write the "
                        "layers' names in full", x->path, name, key);
        bool fits = regexec(&re, module, 0, NULL, 0) == 0;
        regfree(&re);
        if (!fits) continue;
        *out = json_number_value(v);
        return STRETTO_OK;
    }
    return STRETTO_OK;
}

static stretto_status scale_of(struct reading *x, const struct half *a, float *out)
{
    double alpha = x->alpha, rank = (double)a->rows;
    if (x->config) TRY(pattern(x, "alpha_pattern", a->module, &alpha));
    double s = x->root ? alpha / sqrt(rank) : alpha / rank;
    if (!x->config && alpha == 0) s = 1;                                     /* as llama.cpp takes it */
    if (!isfinite(s)) return fail(x->err, STRETTO_E_FORMAT, "%s: alpha of %s is no number", x->path, a->weight);
    *out = (float)s;
    return STRETTO_OK;
}

static stretto_status other_model(struct reading *x, const char *weight, uint64_t in, uint64_t out,
                                  const struct source_tensor *t)
{
    return fail(x->err, STRETTO_E_ARG, "%s is for another model: it changes %s as %llu x %llu, which %s has as %llu x "
                "%llu", x->path, weight, (unsigned long long)in, (unsigned long long)out, source_path(x->base),
                (unsigned long long)t->dims[0], (unsigned long long)t->dims[1]);
}

/* The pair for one weight of the base, which is rows [from, from + its own) of B. */
static stretto_status land(struct reading *x, const struct half *a, const struct half *b,
                           const struct source_tensor *t, uint64_t from)
{
    float scale = 0;
    if (strlen(t->name) >= ADAPTER_NAME) return fail(x->err, STRETTO_E_UNSUP, "the name %s is too long", t->name);
    if (strcmp(t->name, "token_embd.weight") == 0)
        return fail(x->err, STRETTO_E_UNSUP, "%s changes the table of embeddings, which is looked up and not "
                    "multiplied with; train it without \"embed_tokens\"", x->path);
    TRY(scale_of(x, a, &scale));
    struct adapter_pair *p = adapter_add(x->out, t->name, (uint32_t)a->rows, (uint32_t)a->cols, (uint32_t)t->dims[1],
                                         scale, x->err);
    if (!p) return STRETTO_E_NOMEM;
    TRY(read_numbers(x, a, 0, a->rows, p->a));
    TRY(read_numbers(x, b, from, t->dims[1], p->b));
    return turn(x, p);
}

static int by_place(const void *p, const void *q)
{
    const struct source_tensor *a = *(const struct source_tensor *const *)p;
    const struct source_tensor *b = *(const struct source_tensor *const *)q;
    return (a->data > b->data) - (a->data < b->data);
}

static stretto_status land_slices(struct reading *x, const struct half *a, const struct half *b,
                                  const struct source_tensor *whole)
{
    const struct source_tensor *slice[8];
    size_t n = 0;
    uint64_t from = 0;
    for (size_t i = 0; i < x->base->n_tensors && n < 8; i++)
        if (x->base->tensors[i].n_dims == 2 && source_within(&x->base->tensors[i], whole))
            slice[n++] = &x->base->tensors[i];
    qsort(slice, n, sizeof *slice, by_place);
    for (size_t i = 0; i < n; i++) {
        TRY(land(x, a, b, slice[i], from));
        from += slice[i]->dims[1];
    }
    return STRETTO_OK;
}

static stretto_status land_pair(struct reading *x, const struct half *a, const struct half *b)
{
    if (a->rows != b->cols || a->rows == 0 || a->rows > ADAPTER_RANK_MOST)
        return fail(x->err, STRETTO_E_FORMAT, "%s: A and B of %s have ranks %llu and %llu; they must be one of 1 "
                    "to %d", x->path, a->weight, (unsigned long long)a->rows, (unsigned long long)b->cols,
                    ADAPTER_RANK_MOST);
    const struct source_tensor *whole = adapter_fused(x->base, a->weight);
    const struct source_tensor *t = whole ? whole : source_tensor_find(x->base, a->weight);
    if (!t)
        return fail(x->err, STRETTO_E_ARG, "%s is for another model: it changes %s, which %s does not have", x->path,
                    a->weight, source_path(x->base));
    if (t->n_dims != 2 || t->dims[0] != a->cols || t->dims[1] != b->rows)
        return other_model(x, a->weight, a->cols, b->rows, t);
    return whole ? land_slices(x, a, b, whole) : land(x, a, b, t, 0);
}

static int by_weight(const void *p, const void *q)
{
    const struct half *a = p, *b = q;
    int order = strcmp(a->weight, b->weight);
    return order ? order : (int)a->b - (int)b->b;
}

/* Every tensor has its partner. */
static stretto_status land_all(struct reading *x)
{
    if (!x->n)
        return fail(x->err, STRETTO_E_FORMAT, "%s holds no pair of lora matrices: nothing would change", x->path);
    qsort(x->half, x->n, sizeof *x->half, by_weight);
    for (size_t i = 0; i < x->n; i += 2) {
        const struct half *a = &x->half[i], *b = &x->half[i + 1];
        bool pair = i + 1 < x->n && strcmp(a->weight, b->weight) == 0 && !a->b && b->b;
        if (!pair)
            return fail(x->err, STRETTO_E_FORMAT, "%s: %s has no partner, or stands twice: the adapter is incomplete; "
                        "save it again", x->path, a->weight);
        TRY(land_pair(x, a, b));
    }
    return STRETTO_OK;
}

static struct half *more(struct reading *x)
{
    if (x->n == x->cap) {
        size_t cap = x->cap ? 2 * x->cap : 64;
        struct half *p = cap <= 2 * MOST_PAIRS ? mem_resize(x->half, cap * sizeof *p) : NULL;
        if (!p) return NULL;
        x->half = p;
        x->cap = cap;
    }
    x->half[x->n] = (struct half){ .b = false };
    return &x->half[x->n++];
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

static bool is_word(const struct source *s, const char *key, const char *word)
{
    struct source_str v = { "", 0 };
    return source_string(s, key, &v) && v.n == strlen(word) && memcmp(v.p, word, v.n) == 0;
}

static stretto_status check_gguf(struct reading *x, const struct source *s)
{
    if (!is_word(s, "general.type", "adapter"))
        return fail(x->err, STRETTO_E_ARG, "%s is no adapter, its general.type is another: name the model with -m",
                    x->path);
    if (!is_word(s, "adapter.type", "lora"))
        return fail(x->err, STRETTO_E_UNSUP, "%s is an adapter of another kind than lora", x->path);
    if (strcmp(source_arch(s), source_arch(x->base)) != 0)
        return fail(x->err, STRETTO_E_ARG, "%s is for a model of the family '%s'; %s is one of '%s'", x->path,
                    source_arch(s), source_path(x->base), source_arch(x->base));
    if (!source_f64(s, "adapter.lora.alpha", &x->alpha))
        return fail(x->err, STRETTO_E_FORMAT, "%s says no adapter.lora.alpha", x->path);
    return STRETTO_OK;
}

static void note_in(const struct source *s, const char *key, char *out, size_t size)
{
    struct source_str v = { "", 0 };
    source_string(s, key, &v);
    snprintf(out, size, "%.*s", (int)(v.n < size ? v.n : size - 1), v.p);
}

static const char own_rows[] = "stretto.adapter.rows";

stretto_status adapter_rows_read(const char *path, enum adapter_rows *out, struct error *err)
{
    struct source *s;
    struct stat st;
    char word[16];
    *out = ADAPTER_ALL;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return STRETTO_OK;
    TRY(source_open(&s, path, err));
    note_in(s, own_rows, word, sizeof word);
    adapter_rows_find(word, out);
    source_close(s);
    return STRETTO_OK;
}

/* On which rows it acts: our own key, or aLoRA's. */
static stretto_status read_rows(struct reading *x, const struct source *s)
{
    static const char invoked[] = "adapter.alora.invocation_tokens";
    enum source_kind kind;
    char word[16];
    size_t n = 0;
    int64_t id;
    note_in(s, own_rows, word, sizeof word);
    if (source_has(s, own_rows)) {
        if (adapter_rows_find(word, &x->out->rows)) return STRETTO_OK;
        return fail(x->err, STRETTO_E_UNSUP, "%s acts on rows '%s', which is not known here", x->path, word);
    }
    if (!source_has(s, invoked)) return STRETTO_OK;
    if (!source_array(s, invoked, &kind, &n) || !n || n > ADAPTER_INVOCATION)
        return fail(x->err, STRETTO_E_FORMAT, "%s: %s is no list of 1 to %d tokens", x->path, invoked,
                    ADAPTER_INVOCATION);
    for (size_t i = 0; i < n; i++) {
        if (!source_array_i64(s, invoked, i, &id) || id < 0 || id > INT32_MAX)
            return fail(x->err, STRETTO_E_FORMAT, "%s: %s holds what is no token", x->path, invoked);
        x->out->invocation[i] = (int32_t)id;
    }
    x->out->n_invocation = n;
    x->out->rows = ADAPTER_ANSWERS;
    return STRETTO_OK;
}

/* Rows of phrases are in the base by now (adapter_tokens.h). */
static stretto_status take_gguf(struct reading *x, const struct source *s)
{
    bool phrases = source_has(s, "stretto.phrases.version");
    if (phrases && !source_has(x->base, "stretto.phrases.version"))
        return fail(x->err, STRETTO_E_UNSUP, "%s brings phrases, tokens of its own, along: they can be run with "
                    "--lora, and not be taken in here", x->path);
    for (size_t i = 0; i < source_tensor_count(s); i++) {
        const struct source_tensor *t = source_tensor_at(s, i);
        bool b = ends(t->name, ".lora_b");
        if (phrases && ends(t->name, ".rows")) continue;
        struct half *h = t->n_dims == 2 && (b || ends(t->name, ".lora_a")) ? more(x) : NULL;
        if (!h)
            return fail(x->err, STRETTO_E_UNSUP, "%s: tensor %.100s is no lora matrix, and leaving it out would "
                        "change the answers", x->path, t->name);
        *h = (struct half){ .b = b, .rows = t->dims[1], .cols = t->dims[0], .type = t->type, .data = t->data };
        snprintf(h->weight, sizeof h->weight, "%.*s", (int)(strlen(t->name) - strlen(".lora_a")), t->name);
    }
    return land_all(x);
}

static stretto_status read_gguf(struct reading *x)
{
    struct source *s;
    TRY(source_open(&s, x->path, x->err));
    stretto_status st = check_gguf(x, s);
    note_in(s, "stretto.teach.base_content", x->out->base_content, sizeof x->out->base_content);
    note_in(s, "stretto.teach.template", x->out->template_content, sizeof x->out->template_content);
    if (st == STRETTO_OK) st = read_rows(x, s);
    if (st == STRETTO_OK) st = take_gguf(x, s);
    source_close(s);
    return st;
}

/* ---- PEFT ------------------------------------------------------------------------------------ */

static stretto_status read_invocation(struct reading *x)
{
    const json_t *v = json_object_get(x->config, "alora_invocation_tokens");
    if (!v || json_is_null(v)) return STRETTO_OK;
    size_t n = json_array_size(v);
    if (!json_is_array(v) || !n || n > ADAPTER_INVOCATION)
        return fail(x->err, STRETTO_E_FORMAT, "%s: alora_invocation_tokens is no list of 1 to %d tokens", x->path,
                    ADAPTER_INVOCATION);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(v, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            return fail(x->err, STRETTO_E_FORMAT, "%s: alora_invocation_tokens holds what is no token", x->path);
        x->out->invocation[i] = (int32_t)json_integer_value(id);
    }
    x->out->n_invocation = n;
    x->out->rows = ADAPTER_ANSWERS;
    return STRETTO_OK;
}

/* Members that change what is computed; what they must be for us. */
static stretto_status check_config(struct reading *x)
{
    static const char *const off[] = { "use_dora", "modules_to_save", "megatron_config", "layer_replication",
                                       "trainable_token_indices", "use_qalora", "lora_bias", "target_parameters" };
    const char *type = json_string_value(json_object_get(x->config, "peft_type"));
    const char *bias = json_string_value(json_object_get(x->config, "bias"));
    const json_t *alpha = json_object_get(x->config, "lora_alpha");
    if (!type || strcmp(type, "LORA") != 0)
        return fail(x->err, STRETTO_E_UNSUP, "%s: peft_type is '%.40s'; only LORA is read", x->path, type ? type : "");
    if (bias && strcmp(bias, "none") != 0)
        return fail(x->err, STRETTO_E_UNSUP, "%s: it also trains biases (\"bias\": \"%.40s\"); only \"none\" is read",
                    x->path, bias);
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        const json_t *v = json_object_get(x->config, off[i]);
        bool set = v && !json_is_null(v) && !json_is_false(v) && !(json_is_array(v) && !json_array_size(v));
        if (set)
            return fail(x->err, STRETTO_E_UNSUP, "%s: \"%s\" is set, which is not computed here", x->path, off[i]);
    }
    if (!json_is_number(alpha)) return fail(x->err, STRETTO_E_FORMAT, "%s: lora_alpha is no number", x->path);
    x->alpha = json_number_value(alpha);
    x->root = json_is_true(json_object_get(x->config, "use_rslora"));
    return read_invocation(x);
}

/* "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" */
static bool split_name(const struct st_tensor *t, char module[MODULE], bool *b)
{
    static const char *const tails[] = { ".lora_A.weight", ".lora_B.weight", ".lora_A.default.weight",
                                         ".lora_B.default.weight" };
    static const char start[] = "base_model.model.";
    const char *name = t->name;
    if (strncmp(name, start, sizeof start - 1) == 0) name += sizeof start - 1;
    for (size_t i = 0; i < 4; i++)
        if (ends(name, tails[i])) {
            *b = i % 2;
            snprintf(module, MODULE, "%.*s", (int)(strlen(name) - strlen(tails[i])), name);
            return true;
        }
    return false;
}

static stretto_status take_peft(void *ctx, const struct st_tensor *t, struct error *err)
{
    struct reading *x = ctx;
    struct hf_config c = { .family = adapter_family(x->base) };
    char name[MODULE + 16];
    bool b = false;
    char module[MODULE];
    if (!c.family) return fail(err, STRETTO_E_UNSUP, "the family '%s' has no names in transformers that are known "
                               "here", source_arch(x->base));
    if (!split_name(t, module, &b) || t->n_dims != 2)
        return fail(err, STRETTO_E_UNSUP, "%s: tensor %.100s is no lora matrix of a linear layer, and leaving it out "
                    "would change the answers", x->path, t->name);
    struct half *h = more(x);
    if (!h) return no_memory(err);
    *h = (struct half){ .b = b, .rows = t->shape[0], .cols = t->shape[1], .type = dtype_by_name(t->dtype),
                        .data = t->data };
    snprintf(h->module, sizeof h->module, "%s", module);
    snprintf(name, sizeof name, "%s.weight", module);
    if (hf_translate(&c, name, strlen(name), h->weight) != HF_USED)
        return fail(err, STRETTO_E_ARG, "%s is for another model: a %s model has no layer %.100s", x->path,
                    source_arch(x->base), module);
    if (h->type != DT_F32 && h->type != DT_F16 && h->type != DT_BF16)
        return fail(err, STRETTO_E_UNSUP, "%s: tensor %.100s is stored as %s; F32, F16 and BF16 are read", x->path,
                    t->name, t->dtype);
    return STRETTO_OK;
}

static stretto_status read_config(struct reading *x, const char *path)
{
    struct file_map m;
    TRY(file_map_open(&m, path, x->err));
    stretto_status s = json_tree(&x->config, (const char *)m.data, m.size, JSON_TWICE_LAST, path, x->err);
    file_map_close(&m);
    return s == STRETTO_OK ? check_config(x) : s;
}

static stretto_status read_peft(struct reading *x)
{
    char path[PATH_MAX];
    struct stat st;
    struct file_map m;
    x->halves = true;
    if (snprintf(path, sizeof path, "%s/adapter_model.safetensors", x->path) >= PATH_MAX - 16)
        return fail(x->err, STRETTO_E_ARG, "the path of %s is too long", x->path);
    if (stat(path, &st) != 0)
        return fail(x->err, STRETTO_E_ARG, "%s has no adapter_model.safetensors: an adapter is a .gguf file or PEFT's "
                    "folder (one with adapter_model.bin is saved again with safe_serialization=True)", x->path);
    TRY(file_map_open(&m, path, x->err));
    snprintf(path, sizeof path, "%.*s/adapter_config.json", PATH_MAX - 32, x->path);
    stretto_status s = read_config(x, path);
    if (s == STRETTO_OK) s = safetensors_read(&m, x->path, take_peft, x, x->err);
    if (s == STRETTO_OK) s = land_all(x);
    file_map_close(&m);
    json_decref(x->config);
    return s;
}

stretto_status adapter_read(struct adapter *out, const char *path, const struct source *base, struct error *err)
{
    struct stat st;
    struct reading x = { .out = out, .path = path, .base = base, .err = err };
    *out = (struct adapter){ 0 };
    stretto_status s = stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? read_peft(&x) : read_gguf(&x);
    mem_free(x.half);
    if (s != STRETTO_OK) adapter_done(out);
    return s;
}
