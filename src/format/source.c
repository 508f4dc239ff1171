#include "format/source_int.h"
#include "base/memory.h"
#include "base/reader.h"
#include "format/names.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

stretto_status source_no_memory(const struct source *s, struct error *err)
{
    return fail(err, STRETTO_E_NOMEM, "not enough memory to open %s", s->path);
}

stretto_status source_open(struct source **out, const char *path, struct error *err)
{
    *out = NULL;
    struct stat st;
    if (stat(path, &st) != 0)
        return fail(err, STRETTO_E_IO, "cannot open %s: %s", path, strerror(errno));
    struct source *s = mem_zalloc(1, sizeof *s);
    if (!s || !(s->path = mem_strdup(path))) {
        mem_free(s);
        return fail(err, STRETTO_E_NOMEM, "not enough memory to open %s", path);
    }
    stretto_status status = S_ISDIR(st.st_mode) ? hf_read(s, err) : gguf_read(s, err);
    if (status == STRETTO_OK) status = source_unfuse(s, err);
    if (status == STRETTO_OK) status = source_index_tensors(s, err);
    if (status != STRETTO_OK) {
        source_close(s);
        return status;
    }
    *out = s;
    return STRETTO_OK;
}

void source_close(struct source *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n_maps; i++) file_map_close(&s->maps[i]);
    for (size_t i = 0; i < s->n_files; i++) file_map_close(&s->files[i].map);
    mem_unmap(s->image.data, s->image.bytes);
    mem_free(s->maps);
    mem_free(s->files);
    mem_free(s->tensors);
    mem_free(s->stored);
    mem_free(s->keys);
    mem_free(s->tensor_order);
    mem_free(s->key_order);
    pool_done(&s->pool);
    mem_free(s->path);
    mem_free(s);
}

bool source_within(const struct source_tensor *t, const struct source_tensor *whole)
{
    uintptr_t at = (uintptr_t)t->data, from = (uintptr_t)whole->data;
    return at >= from && at < from + whole->bytes;
}

stretto_status source_stored(const struct source *s, size_t spare, struct source_tensor **list, size_t *n,
                             struct error *err)
{
    *n = 0;
    *list = mem_zalloc(s->n_tensors + spare + 1, sizeof **list);
    if (!*list) return source_no_memory(s, err);
    for (size_t i = 0; i < s->n_tensors; i++) {
        const struct source_tensor *t = &s->tensors[i], *whole = NULL;
        for (size_t k = 0; k < s->n_stored && !whole; k++)
            if (source_within(t, &s->stored[k])) whole = &s->stored[k];
        if (!whole) (*list)[(*n)++] = *t;
        else if (t->data == whole->data) (*list)[(*n)++] = *whole;
    }
    return STRETTO_OK;
}

bool source_decoded(const struct source *s) { return s->image.data; }
uint64_t source_bytes(const struct source *s)
{
    uint64_t n = s->image.bytes;
    for (size_t i = 0; i < s->n_maps && !s->image.data; i++) n += s->maps[i].size;
    return n;
}
void source_release(const struct source *s, const struct source_tensor *t)
{
    if (!t->memory && !source_decoded(s)) file_map_release(t->data, t->bytes);
}
void source_spend(struct source *s) { s->spent = s->image.data; }

stretto_status source_tensor_whole(const struct source *s, struct error *err)
{
    if (!s->spent) return STRETTO_OK;
    return fail(err, STRETTO_E_ARG, "the weights of %s were unpacked for a model that is loaded and are not kept; open "
                "the file once more", s->path);
}

/* ---- filling -------------------------------------------------------------------------------- */

/* Makes room for one row more, zeroed; the array stays as it was when memory is out. */
static void *grow(void **rows, size_t *n, size_t *cap, size_t size)
{
    if (*n == *cap) {
        size_t more = *cap ? *cap * 2 : 64;
        void *p = mem_resize(*rows, more * size);
        if (!p) return NULL;
        *rows = p;
        *cap = more;
    }
    void *at = (unsigned char *)*rows + *n * size;
    memset(at, 0, size);
    ++*n;
    return at;
}

struct source_tensor *source_add_tensor(struct source *s, struct error *err)
{
    void *rows = s->tensors;
    void *at = grow(&rows, &s->n_tensors, &s->cap_tensors, sizeof *s->tensors);
    s->tensors = rows;
    if (!at) source_no_memory(s, err);
    return at;
}

struct meta *source_add_key(struct source *s, struct error *err)
{
    void *rows = s->keys;
    void *at = grow(&rows, &s->n_keys, &s->cap_keys, sizeof *s->keys);
    s->keys = rows;
    if (!at) source_no_memory(s, err);
    return at;
}

static struct names key_names(const struct source *s)
{
    return (struct names){ s->keys, sizeof *s->keys, s->n_keys };
}

static struct names tensor_names(const struct source *s)
{
    return (struct names){ s->tensors, sizeof *s->tensors, s->n_tensors };
}

static stretto_status index_names(struct source *s, struct names names, uint32_t **order,
                                  const char *what, struct error *err)
{
    mem_free(*order);
    *order = mem_alloc(names.n * sizeof **order);
    if (!*order) return source_no_memory(s, err);
    const char *twice = names_sort(&names, *order);
    if (!twice) return STRETTO_OK;
    return fail(err, STRETTO_E_FORMAT, "%s: %s %s stands twice", s->path, what, twice);
}

stretto_status source_index_keys(struct source *s, struct error *err)
{
    return index_names(s, key_names(s), &s->key_order, "key", err);
}

stretto_status source_index_tensors(struct source *s, struct error *err)
{
    return index_names(s, tensor_names(s), &s->tensor_order, "tensor", err);
}

stretto_status tensor_measure(struct source_tensor *t, const char *where, struct error *err)
{
    const struct dtype_info *type = &dtype_table[t->type];
    uint64_t n = 1;
    for (uint32_t d = 0; d < t->n_dims; d++) {
        if (t->dims[d] == 0)
            return fail(err, STRETTO_E_FORMAT, "%s: tensor %s has a dimension of zero", where,
                        t->name);
        /* Far below 2^64, so that no sum of such sizes can overflow later. */
        if (__builtin_mul_overflow(n, t->dims[d], &n) || n > (uint64_t)1 << 56)
            return fail(err, STRETTO_E_FORMAT, "%s: the dimensions of tensor %s overflow", where,
                        t->name);
    }
    if (t->dims[0] % type->block)
        return fail(err, STRETTO_E_FORMAT,
                    "%s: rows of tensor %s have %llu elements, which is not a "
                    "multiple of %s's block of %u",
                    where, t->name, (unsigned long long)t->dims[0], type->name, type->block);
    t->bytes = dtype_bytes(t->type, (size_t)n);
    return STRETTO_OK;
}

/* ---- asking --------------------------------------------------------------------------------- */

const char *source_path(const struct source *s) { return s->path; }
const char *source_format(const struct source *s) { return s->format; }
const char *source_arch(const struct source *s) { return s->arch; }
bool source_rope_halves(const struct source *s) { return s->rope_halves; }
size_t source_other_side(const struct source *s) { return s->n_other_side; }

bool source_norm_plus_one(const struct source *s) { return s->norm_plus_one; }

size_t source_tensor_count(const struct source *s) { return s->n_tensors; }

const struct source_tensor *source_tensor_at(const struct source *s, size_t i)
{
    return i < s->n_tensors ? &s->tensors[i] : NULL;
}

uint64_t source_elements(const struct source_tensor *t)
{
    uint64_t n = 1;
    for (uint32_t d = 0; d < t->n_dims; d++) n *= t->dims[d];
    return n;
}

enum dtype source_main_type(const struct source *s)
{
    uint64_t of[DT_COUNT] = { 0 };
    enum dtype most = DT_F32;
    for (size_t i = 0; i < source_tensor_count(s); i++) {
        const struct source_tensor *t = source_tensor_at(s, i);
        of[t->type] += source_elements(t);
        if (of[t->type] > of[most]) most = t->type;
    }
    return most;
}

const struct source_tensor *source_tensor_find(const struct source *s, const char *name)
{
    struct names names = tensor_names(s);
    size_t i = names_find(&names, s->tensor_order, name);
    return i == SIZE_MAX ? NULL : &s->tensors[i];
}

const struct meta *source_meta(const struct source *s, const char *key)
{
    char full[sizeof s->arch + MAX_KEY_LENGTH + 1];
    if (key[0] == '.') {
        int n = snprintf(full, sizeof full, "%s%s", s->arch, key);
        if (n < 0 || (size_t)n >= sizeof full) return NULL;
        key = full;
    }
    struct names names = key_names(s);
    size_t i = s->key_order ? names_find(&names, s->key_order, key) : SIZE_MAX;
    return i == SIZE_MAX ? NULL : &s->keys[i];
}

static size_t value_size(enum value_type t)
{
    switch (t) {
    case V_U8: case V_I8: case V_BOOL: return 1;
    case V_U16: case V_I16: return 2;
    case V_U32: case V_I32: case V_F32: return 4;
    case V_U64: case V_I64: case V_F64: return 8;
    default: return 0;
    }
}

static enum source_kind kind_of(enum value_type t)
{
    switch (t) {
    case V_U8: case V_U16: case V_U32: case V_U64: return SOURCE_U64;
    case V_I8: case V_I16: case V_I32: case V_I64: return SOURCE_I64;
    case V_F32: case V_F64: return SOURCE_F64;
    case V_BOOL: return SOURCE_BOOL;
    case V_STRING: return SOURCE_STRING;
    case V_ARRAY: return SOURCE_ARRAY;
    default: return SOURCE_NONE;
    }
}

/* A number out of unaligned little-endian bytes. Integers keep all 64 bits: `negative` tells which
 * half of `u` is meant. */
struct number { enum source_kind kind; uint64_t u; double f; bool negative; };

static struct number load(enum value_type t, const unsigned char *raw)
{
    size_t n = value_size(t);
    struct reader r = { .p = raw, .end = raw + n };
    struct number v = { .kind = kind_of(t), .u = read_le(&r, n) };
    if (v.kind == SOURCE_I64 && n < 8 && (v.u >> (8 * n - 1) & 1)) v.u |= ~(uint64_t)0 << 8 * n;
    if (v.kind == SOURCE_I64) v.negative = v.u >> 63;
    if (t == V_F32) {
        uint32_t bits = (uint32_t)v.u;
        float f;
        memcpy(&f, &bits, sizeof f);
        v.f = (double)f;
    }
    if (t == V_F64) memcpy(&v.f, &v.u, sizeof v.f);
    return v;
}

/* Exact or not at all. The bounds are powers of two, which are doubles; NaN fails every
 * comparison. */
static bool to_u64(struct number v, uint64_t *out)
{
    if (v.kind == SOURCE_F64) {
        if (!(v.f >= 0 && v.f < 0x1p64) || v.f != floor(v.f)) return false;
        *out = (uint64_t)v.f;
        return true;
    }
    if ((v.kind != SOURCE_U64 && v.kind != SOURCE_I64) || v.negative) return false;
    *out = v.u;
    return true;
}

static bool to_i64(struct number v, int64_t *out)
{
    if (v.kind == SOURCE_F64) {
        if (!(v.f >= -0x1p63 && v.f < 0x1p63) || v.f != floor(v.f)) return false;
        *out = (int64_t)v.f;
        return true;
    }
    if (v.kind != SOURCE_U64 && v.kind != SOURCE_I64) return false;
    if (v.kind == SOURCE_U64 && v.u >> 63) return false;
    memcpy(out, &v.u, sizeof *out);
    return true;
}

static bool to_f64(struct number v, double *out)
{
    int64_t i;
    if (v.kind == SOURCE_F64) {
        *out = v.f;
        return true;
    }
    if (!to_i64(v, &i) || i > (int64_t)1 << 53 || i < -((int64_t)1 << 53)) return false;
    *out = (double)i;
    return true;
}

bool source_has(const struct source *s, const char *key) { return source_meta(s, key) != NULL; }

bool source_u64(const struct source *s, const char *key, uint64_t *out)
{
    const struct meta *m = source_meta(s, key);
    return m && value_size(m->type) && to_u64(load(m->type, m->raw), out);
}

bool source_f64(const struct source *s, const char *key, double *out)
{
    const struct meta *m = source_meta(s, key);
    return m && value_size(m->type) && to_f64(load(m->type, m->raw), out);
}

bool source_bool(const struct source *s, const char *key, bool *out)
{
    const struct meta *m = source_meta(s, key);
    if (!m || m->type != V_BOOL) return false;
    *out = m->raw[0] != 0;
    return true;
}

bool source_string(const struct source *s, const char *key, struct source_str *out)
{
    const struct meta *m = source_meta(s, key);
    if (!m || m->type != V_STRING) return false;
    *out = (struct source_str){ (const char *)m->raw, m->n };
    return true;
}

bool source_array(const struct source *s, const char *key, enum source_kind *kind, size_t *count)
{
    const struct meta *m = source_meta(s, key);
    if (!m || m->type != V_ARRAY) return false;
    if (kind) *kind = kind_of(m->element);
    if (count) *count = m->n;
    return true;
}

bool source_array_string(const struct source *s, const char *key, size_t i, struct source_str *out)
{
    const struct meta *m = source_meta(s, key);
    if (!m || m->type != V_ARRAY || m->element != V_STRING || i >= m->n) return false;
    struct reader r = { .p = m->raw + m->at[i], .end = m->raw + m->raw_bytes };
    size_t n = read_count(&r, 1);
    *out = (struct source_str){ (const char *)r.p, n };
    return true;
}

static bool element(const struct source *s, const char *key, size_t i, struct number *out)
{
    const struct meta *m = source_meta(s, key);
    if (!m || m->type != V_ARRAY || i >= m->n || !value_size(m->element)) return false;
    *out = load(m->element, m->raw + i * value_size(m->element));
    if (out->kind == SOURCE_BOOL) {         /* a flag for each layer: 0 or 1 */
        out->kind = SOURCE_U64;
        out->u = out->u != 0;
    }
    return true;
}

bool source_array_i64(const struct source *s, const char *key, size_t i, int64_t *out)
{
    struct number v;
    return element(s, key, i, &v) && to_i64(v, out);
}

bool source_array_f64(const struct source *s, const char *key, size_t i, double *out)
{
    struct number v;
    return element(s, key, i, &v) && to_f64(v, out);
}

bool source_each_u64(const struct source *s, const char *key, uint64_t *out)
{
    size_t n;
    int64_t first, other;
    if (source_u64(s, key, out)) return true;
    if (!source_array(s, key, NULL, &n) || !source_array_i64(s, key, 0, &first) || first < 0)
        return false;
    for (size_t i = 1; i < n; i++)
        if (!source_array_i64(s, key, i, &other) || other != first) return false;
    *out = (uint64_t)first;
    return true;
}

size_t source_key_count(const struct source *s) { return s->n_keys; }

const char *source_key_at(const struct source *s, size_t i, enum source_kind *kind)
{
    if (i >= s->n_keys) return NULL;
    if (kind) *kind = kind_of(s->keys[i].type);
    return s->keys[i].name;
}

bool source_file(const struct source *s, const char *name, struct source_str *out)
{
    for (size_t i = 0; i < s->n_files; i++)
        if (strcmp(s->files[i].name, name) == 0) {
            const struct file_map *m = &s->files[i].map;
            *out = (struct source_str){ m->data ? (const char *)m->data : "", m->size };
            return true;
        }
    return false;
}
