/* A safetensors file: u64 length of the header, the header, the data. The header is a JSON object
 *
 *   { "__metadata__": {...},
 *     "name": { "dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24] }, ... }
 *
 * with offsets from the end of the header. Format: the safetensors repository's README; its limit
 * of 100 MB for the header is kept. Bytes are hostile until checked. */
#include "base/json.h"
#include "base/memory.h"
#include "base/reader.h"
#include "format/hf_int.h"
#include <string.h>

enum { MAX_HEADER = 100000000 };

static const struct { const char *name; size_t bits; } dtypes[] = {
    { "BOOL", 8 }, { "U8", 8 }, { "I8", 8 }, { "F8_E4M3", 8 }, { "F8_E5M2", 8 }, { "F8_E8M0", 8 },
    { "I16", 16 }, { "U16", 16 }, { "F16", 16 }, { "BF16", 16 }, { "I32", 32 }, { "U32", 32 },
    { "F32", 32 }, { "I64", 64 }, { "U64", 64 }, { "F64", 64 }, { "C64", 64 }, { "F4", 4 },
    { "F6_E2M3", 6 }, { "F6_E3M2", 6 },
};

static stretto_status read_dtype(struct json *j, struct st_tensor *t)
{
    if (json_next(j) != JT_STRING || j->n >= sizeof t->dtype || memchr(j->p, '\0', j->n))
        return json_fail(j, "dtype is not the name of an element type");
    memcpy(t->dtype, j->p, j->n);
    t->dtype[j->n] = '\0';
    return STRETTO_OK;
}

static stretto_status read_size(struct json *j, enum json_kind kind, const char *what,
                                uint64_t *out)
{
    int64_t v;
    if (kind != JT_NUMBER || !json_i64(j, &v) || v < 0)
        return json_fail(j, "%s must be a whole number that is not negative", what);
    *out = (uint64_t)v;
    return STRETTO_OK;
}

static stretto_status read_shape(struct json *j, struct st_tensor *t)
{
    if (json_next(j) != JT_ARRAY) return json_fail(j, "shape is not an array");
    enum json_kind kind;
    for (t->n_dims = 0; (kind = json_next(j)) != JT_ARRAY_END; t->n_dims++) {
        uint64_t v = 0;
        TRY(read_size(j, kind, "a dimension", &v));
        if (t->n_dims < SOURCE_MAX_DIMS) t->shape[t->n_dims] = v;
    }
    return STRETTO_OK;
}

static stretto_status read_offsets(struct json *j, uint64_t offsets[2])
{
    if (json_next(j) != JT_ARRAY) return json_fail(j, "data_offsets is not an array");
    for (int i = 0; i < 2; i++) TRY(read_size(j, json_next(j), "an offset", &offsets[i]));
    if (json_next(j) != JT_ARRAY_END) return json_fail(j, "data_offsets must be two numbers");
    return STRETTO_OK;
}

/* The bytes must be those that type and shape ask for; of types nobody has told us of, any will do,
 * because whoever wants such a tensor refuses it by name. */
static stretto_status check_extent(struct json *j, struct st_tensor *t, const uint64_t offsets[2],
                                   const unsigned char *data, size_t size)
{
    if (offsets[0] > offsets[1] || offsets[1] > size)
        return json_fail(j,
                         "the data of tensor %.*s lies outside the file: it is incomplete or "
                         "damaged; fetch it again",
                         (int)(t->name_n < 100 ? t->name_n : 100), t->name);
    t->data = data + offsets[0];
    t->bytes = (size_t)(offsets[1] - offsets[0]);
    for (size_t k = 0; k < sizeof dtypes / sizeof *dtypes; k++) {
        if (strcmp(dtypes[k].name, t->dtype) != 0 || t->n_dims > SOURCE_MAX_DIMS) continue;
        uint64_t bits = dtypes[k].bits;
        for (size_t d = 0; d < t->n_dims; d++)
            if (__builtin_mul_overflow(bits, t->shape[d], &bits))
                return json_fail(j, "the shape of a tensor overflows");
        if (bits % 8 || bits / 8 != t->bytes)
            return json_fail(j, "tensor %.*s has %zu bytes, which its shape and type %s contradict",
                             (int)(t->name_n < 100 ? t->name_n : 100), t->name, t->bytes, t->dtype);
    }
    return STRETTO_OK;
}

/* After the name. `name` is a copy, because the reader's view does not outlive the next token. */
static stretto_status read_tensor(struct json *j, struct st_tensor *t, const unsigned char *data,
                                  size_t size)
{
    bool dtype = false, shape = false, placed = false;
    uint64_t offsets[2];
    if (json_next(j) != JT_OBJECT) return json_fail(j, "a tensor is not described by an object");
    while (json_next(j) == JT_KEY) {
        bool *seen = json_is(j, "dtype") ? &dtype : json_is(j, "shape") ? &shape
                     : json_is(j, "data_offsets") ? &placed : NULL;
        if (!seen || *seen) return json_fail(j, "unexpected member of a tensor's description");
        *seen = true;
        TRY(seen == &dtype ? read_dtype(j, t) : seen == &shape ? read_shape(j, t)
            : read_offsets(j, offsets));
    }
    TRY(json_status(j));
    if (!dtype || !shape || !placed) return json_fail(j, "dtype, shape or data_offsets is missing");
    return check_extent(j, t, offsets, data, size);
}

static stretto_status read_header(struct json *j, const unsigned char *data, size_t size,
                                  st_visit *each, void *ctx, struct error *err)
{
    size_t count = 0;
    if (json_next(j) != JT_OBJECT) return json_fail(j, "the header is not an object");
    while (json_next(j) == JT_KEY) {
        if (json_is(j, "__metadata__")) {
            if (!json_skip(j)) return json_status(j);
            continue;
        }
        char name[MAX_NAME_LENGTH + 1];
        struct st_tensor t = { .name = name, .name_n = j->n };
        if (++count > MAX_TENSORS) return json_fail(j, "more than %d tensors", MAX_TENSORS);
        if (j->n == 0 || j->n > MAX_NAME_LENGTH)
            return json_fail(j, "a tensor's name has %zu bytes (1 to %d are read)", j->n,
                             MAX_NAME_LENGTH);
        for (size_t i = 0; i < j->n; i++)
            if ((unsigned char)j->p[i] < 0x20 || j->p[i] == 0x7f)
                return json_fail(j, "a control character in a tensor's name");
        memcpy(name, j->p, j->n);
        name[j->n] = '\0';
        TRY(read_tensor(j, &t, data, size));
        TRY(each(ctx, &t, err));
    }
    /* The header is padded with spaces, which is white space to JSON as well. */
    if (json_status(j) == STRETTO_OK && json_next(j) != JT_END && json_status(j) == STRETTO_OK)
        return json_fail(j, "something stands after the header");
    return json_status(j);
}

/* The header's text, and where the tensors begin. */
static stretto_status find_header(const struct file_map *m, const char *path, struct reader *r, size_t *length,
                                  struct error *err)
{
    *r = (struct reader){ .p = m->data, .end = m->size ? m->data + m->size : m->data };
    uint64_t n = read_u64(r);
    size_t left = (size_t)(r->end - r->p);
    if (m->size > 8 && memcmp(m->data, "version ", 8) == 0)
        return fail(err, STRETTO_E_FORMAT,
                    "%s is a Git LFS pointer, not the model itself: fetch the "
                    "file with 'git lfs pull'",
                    path);
    if (r->bad || n > left || n < 2)
        return fail(err, STRETTO_E_FORMAT, "%s is not a whole safetensors file: fetch it again",
                    path);
    if (n > MAX_HEADER)
        return fail(err, STRETTO_E_FORMAT, "%s has a header of %llu bytes; at most %d are read",
                    path, (unsigned long long)n, MAX_HEADER);
    *length = (size_t)n;
    return STRETTO_OK;
}

stretto_status safetensors_read(const struct file_map *m, const char *path, st_visit *each,
                                void *ctx, struct error *err)
{
    struct reader r;
    struct json j;
    size_t n;
    TRY(find_header(m, path, &r, &n, err));
    json_open(&j, (const char *)r.p, n, path, err);
    stretto_status st = read_header(&j, r.p + n, (size_t)(r.end - r.p) - n, each, ctx, err);
    json_done(&j);
    return st;
}

/* The member of the object that has just begun; true where it is a text. */
static bool find_text(struct json *j, const char *key, char **out)
{
    bool found = false;
    if (json_next(j) != JT_OBJECT) return false;
    while (json_next(j) == JT_KEY) {
        bool wanted = json_is(j, key);
        if (!wanted && !json_skip(j)) return false;
        if (!wanted) continue;
        if (json_next(j) != JT_STRING || found) return false;
        *out = mem_strndup(j->p, j->n);
        found = true;
    }
    return found;
}

stretto_status safetensors_about(const struct file_map *m, const char *path, const char *key, char **out,
                                 struct error *err)
{
    struct reader r;
    struct json j;
    size_t n;
    bool found = false;
    *out = NULL;
    TRY(find_header(m, path, &r, &n, err));
    json_open(&j, (const char *)r.p, n, path, err);
    if (json_next(&j) == JT_OBJECT)
        while (!found && json_next(&j) == JT_KEY) {
            if (json_is(&j, "__metadata__")) found = find_text(&j, key, out);
            else if (!json_skip(&j)) break;
        }
    stretto_status s = json_status(&j);
    json_done(&j);
    if (s == STRETTO_OK && found && *out) return STRETTO_OK;
    if (s == STRETTO_OK && found) return fail(err, STRETTO_E_NOMEM, "out of memory");
    mem_free(*out);
    *out = NULL;
    return s != STRETTO_OK ? s : fail(err, STRETTO_E_FORMAT, "%s says nothing of \"%s\"", path, key);
}
