/* GGUF versions 2 and 3, little-endian, also in parts (name-00001-of-00003.gguf).
 *
 *   "GGUF" u32 version, u64 tensors, u64 keys
 *   keys     string name, u32 type, value          string = u64 length, bytes
 *   tensors  string name, u32 n_dims, u64 dims[], u32 type, u64 offset
 *   padding to general.alignment (32), then the data the offsets count from
 *
 * Format: the GGUF specification in ggml's docs/gguf.md. Everything read here is hostile until
 * checked: counts against the bytes that are left, products against overflow, offsets against the
 * file's end. */
#include "base/memory.h"
#include "base/reader.h"
#include "format/source_int.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* One file while it is being read. */
struct part {
    struct source *s;
    const char *path;
    const struct file_map *map;
    struct reader r;
    uint64_t alignment, split_no, split_count;
    size_t strings;                     /* elements of string arrays so far */
    struct error *err;
};

static const unsigned char value_bytes[V_COUNT] = {
    [V_U8] = 1, [V_I8] = 1, [V_U16] = 2, [V_I16] = 2, [V_U32] = 4, [V_I32] = 4, [V_F32] = 4,
    [V_BOOL] = 1, [V_U64] = 8, [V_I64] = 8, [V_F64] = 8
};

static stretto_status truncated(struct part *p, const char *in)
{
    return fail(p->err, STRETTO_E_FORMAT,
                "%s ends in the middle of %s or is damaged; fetch it again", p->path, in);
}

/* Names go into messages and C strings: printable, not empty, not longer than `max`. */
static stretto_status read_name(struct part *p, size_t max, const char *what, const char **out)
{
    size_t n = read_count(&p->r, 1);
    const char *at = read_bytes(&p->r, n);
    if (p->r.bad) return truncated(p, what);
    if (n == 0 || n > max)
        return fail(p->err, STRETTO_E_FORMAT,
                    "%s: %s has a name of %zu bytes (1 to %zu are allowed)", p->path, what, n, max);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)at[i] < 0x20 || at[i] == 0x7f)
            return fail(p->err, STRETTO_E_FORMAT, "%s: %s has a control character in its name",
                        p->path, what);
    *out = pool_strndup(&p->s->pool, at, n);
    return *out ? STRETTO_OK : source_no_memory(p->s, p->err);
}

/* Reads past `n` elements of one kind. Nesting is bounded, so is the recursion. */
static stretto_status skip_elements(struct part *p, enum value_type type, size_t n, int depth)
{
    if (value_bytes[type]) {
        read_bytes(&p->r, n > SIZE_MAX / 8 ? SIZE_MAX : n * value_bytes[type]);
        return STRETTO_OK;
    }
    for (size_t i = 0; i < n && !p->r.bad; i++) {
        if (type == V_STRING) {
            read_bytes(&p->r, read_count(&p->r, 1));
            continue;
        }
        uint32_t inner = read_u32(&p->r);
        if (p->r.bad) break;
        if (inner >= V_COUNT)
            return fail(p->err, STRETTO_E_FORMAT, "%s: unknown value type %u in an array of arrays",
                        p->path, inner);
        if (depth == MAX_ARRAY_DEPTH)
            return fail(p->err, STRETTO_E_FORMAT, "%s: arrays are nested more than %d deep",
                        p->path, MAX_ARRAY_DEPTH);
        size_t count = read_count(&p->r, 1);
        TRY(skip_elements(p, (enum value_type)inner, count, depth + 1));
    }
    return STRETTO_OK;
}

/* Remembers where each string of an array stands, so that getting one is O(1). */
static stretto_status index_strings(struct part *p, struct meta *m)
{
    if (m->n > MAX_VOCABULARY - p->strings)
        return fail(p->err, STRETTO_E_FORMAT, "%s: %s has %zu strings; at most %d are read",
                    p->path, m->name, m->n, MAX_VOCABULARY);
    p->strings += m->n;
    uint32_t *at = pool_take(&p->s->pool, m->n * sizeof *at);
    if (!at) return source_no_memory(p->s, p->err);
    for (size_t i = 0; i < m->n; i++) {
        size_t offset = (size_t)(p->r.p - m->raw);
        if (offset > UINT32_MAX)
            return fail(p->err, STRETTO_E_FORMAT, "%s: the strings of %s take more than 4 GiB",
                        p->path, m->name);
        at[i] = (uint32_t)offset;
        read_bytes(&p->r, read_count(&p->r, 1));
        if (p->r.bad) return truncated(p, m->name);
    }
    m->at = at;
    return STRETTO_OK;
}

static stretto_status read_value(struct part *p, struct meta *m)
{
    uint32_t type = read_u32(&p->r);
    if (type >= V_COUNT && !p->r.bad)
        return fail(p->err, STRETTO_E_FORMAT, "%s: key %s has the unknown value type %u", p->path,
                    m->name, type);
    m->type = (enum value_type)(p->r.bad ? 0 : type);
    m->n = 1;
    if (m->type == V_STRING) {
        m->n = read_count(&p->r, 1);
        m->raw = read_bytes(&p->r, m->n);
    } else if (m->type == V_ARRAY) {
        uint32_t element = read_u32(&p->r);
        if (element >= V_COUNT && !p->r.bad)
            return fail(p->err, STRETTO_E_FORMAT, "%s: key %s is an array of the unknown type %u",
                        p->path, m->name, element);
        m->element = (enum value_type)(p->r.bad ? 0 : element);
        size_t least = value_bytes[m->element];
        m->n = read_count(&p->r, least ? least : 8);
        m->raw = p->r.p;
        if (p->r.bad) return truncated(p, m->name);
        if (m->element == V_STRING) TRY(index_strings(p, m));
        else TRY(skip_elements(p, m->element, m->n, 1));
    } else {
        m->raw = read_bytes(&p->r, value_bytes[m->type]);
    }
    if (p->r.bad) return truncated(p, m->name);
    m->raw_bytes = (size_t)(p->r.p - m->raw);
    return STRETTO_OK;
}

/* The few keys that the container itself needs, from whichever part they stand in. */
static stretto_status note_container_key(struct part *p, const struct meta *m)
{
    uint64_t *to = NULL;
    if (strcmp(m->name, "general.alignment") == 0) to = &p->alignment;
    if (strcmp(m->name, "split.no") == 0) to = &p->split_no;
    if (strcmp(m->name, "split.count") == 0) to = &p->split_count;
    if (!to) return STRETTO_OK;
    if (m->type != V_U8 && m->type != V_U16 && m->type != V_U32 && m->type != V_U64)
        return fail(p->err, STRETTO_E_FORMAT, "%s: %s is not an unsigned number", p->path, m->name);
    struct reader r = { .p = m->raw, .end = m->raw + m->raw_bytes };
    *to = read_le(&r, m->raw_bytes);
    return STRETTO_OK;
}

/* Keys of the first part are the model's; those of later parts are only checked and looked
 * through. */
static stretto_status read_keys(struct part *p, size_t n, bool keep)
{
    for (size_t i = 0; i < n; i++) {
        struct meta m = { 0 };
        TRY(read_name(p, MAX_KEY_LENGTH, "a metadata key", &m.name));
        TRY(read_value(p, &m));
        TRY(note_container_key(p, &m));
        if (!keep) continue;
        struct meta *kept = source_add_key(p->s, p->err);
        if (!kept) return STRETTO_E_NOMEM;
        *kept = m;
    }
    return STRETTO_OK;
}

static stretto_status check_type(struct part *p, const struct source_tensor *t, uint32_t type)
{
    if (t->type != DT_COUNT) return STRETTO_OK;
    const char *name = dtype_gguf_foreign_name(type);
    if (!name)
        return fail(p->err, STRETTO_E_FORMAT, "%s: tensor %s has the unknown type number %u",
                    p->path, t->name, type);
    char supported[160];
    return fail(p->err, STRETTO_E_UNSUP,
                "%s: tensor %s is stored as %s, which is not supported; use a file of this model with "
                "tensors of the types %s, or re-quantise the original to one of these",
                p->path, t->name, name, dtype_names(supported, sizeof supported));
}

static stretto_status read_tensors(struct part *p, size_t n)
{
    struct source *s = p->s;
    size_t first = s->n_tensors;
    for (size_t i = 0; i < n; i++) {
        struct source_tensor *t = source_add_tensor(s, p->err);
        if (!t) return STRETTO_E_NOMEM;
        TRY(read_name(p, MAX_NAME_LENGTH, "a tensor", &t->name));
        t->n_dims = read_u32(&p->r);
        if (p->r.bad) return truncated(p, "its tensor list");
        if (t->n_dims < 1 || t->n_dims > SOURCE_MAX_DIMS)
            return fail(p->err, STRETTO_E_FORMAT,
                        "%s: tensor %s has %u dimensions (1 to %d are read)", p->path, t->name,
                        t->n_dims, SOURCE_MAX_DIMS);
        for (uint32_t d = 0; d < SOURCE_MAX_DIMS; d++)
            t->dims[d] = d < t->n_dims ? read_u64(&p->r) : 1;
        uint32_t type = read_u32(&p->r);
        uint64_t offset = read_u64(&p->r);
        if (p->r.bad) return truncated(p, "its tensor list");
        t->type = dtype_by_gguf(type);
        TRY(check_type(p, t, type));
        TRY(tensor_measure(t, p->path, p->err));
        if (offset % p->alignment)
            return fail(p->err, STRETTO_E_FORMAT, "%s: tensor %s is not aligned to %llu bytes",
                        p->path, t->name, (unsigned long long)p->alignment);
        t->stride = (size_t)offset;         /* until the start of the data is known, below */
    }
    size_t head = (size_t)(p->r.p - p->map->data), size = p->map->size;
    size_t pad = (size_t)(-(uint64_t)head & (p->alignment - 1));
    size_t start = pad > size - head ? size : head + pad;
    for (size_t i = first; i < s->n_tensors; i++) {
        struct source_tensor *t = &s->tensors[i];
        if (t->stride > size - start || t->bytes > size - start - t->stride)
            return fail(p->err, STRETTO_E_FORMAT,
                        "%s: tensor %s lies outside the file (%zu bytes): the "
                        "file is incomplete or damaged; fetch it again",
                        p->path, t->name, size);
        t->data = p->map->data + start + t->stride;
        t->stride = 0;
    }
    return STRETTO_OK;
}

static stretto_status check_magic(struct part *p)
{
    const unsigned char *d = p->map->data;
    size_t n = p->map->size;
    if (n >= 8 && memcmp(d, "GGUF", 4) == 0) return STRETTO_OK;
    if (n < 8)
        return fail(p->err, STRETTO_E_FORMAT, "%s has only %zu bytes: it is not a model", p->path,
                    n);
    if (memcmp(d, "lmgg", 4) == 0 || memcmp(d, "tjgg", 4) == 0 || memcmp(d, "fmgg", 4) == 0)
        return fail(p->err, STRETTO_E_UNSUP,
                    "%s is a GGML file from before GGUF; use a GGUF file of "
                    "this model",
                    p->path);
    if (n > 9 && d[8] == '{' && memcmp(d + 4, "\0\0\0\0", 4) == 0)
        return fail(p->err, STRETTO_E_ARG,
                    "%s is a safetensors file: name the folder that holds it "
                    "together with its config.json",
                    p->path);
    if (memcmp(d, "PK\3\4", 4) == 0 || d[0] == 0x80)
        return fail(p->err, STRETTO_E_UNSUP,
                    "%s looks like a PyTorch checkpoint, which can run code; "
                    "use a safetensors or GGUF file of this model",
                    p->path);
    if (memcmp(d, "version ", 8) == 0)
        return fail(p->err, STRETTO_E_FORMAT,
                    "%s is a Git LFS pointer, not the model itself: fetch the "
                    "file with 'git lfs pull'",
                    p->path);
    return fail(p->err, STRETTO_E_FORMAT,
                "%s is not a GGUF file, nor a folder with config.json and "
                "safetensors",
                p->path);
}

static stretto_status read_part(struct part *p, bool first)
{
    p->alignment = 32;
    TRY(check_magic(p));
    p->r = (struct reader){ .p = p->map->data, .end = p->map->data + p->map->size };
    read_u32(&p->r);
    uint32_t version = read_u32(&p->r);
    if (version == 0x03000000 || version == 0x02000000)
        return fail(p->err, STRETTO_E_UNSUP,
                    "%s is a big-endian GGUF file; convert it with gguf-py's "
                    "gguf_convert_endian or fetch the ordinary file",
                    p->path);
    if (version < 2 || version > 3)
        return fail(p->err, STRETTO_E_UNSUP,
                    "%s is GGUF version %u; versions 2 and 3 are supported: "
                    "convert the model again",
                    p->path, version);
    if (first) p->s->format = version == 2 ? "GGUF v2" : "GGUF v3";
    /* The least an entry takes: a tensor 8+1 name, 4+8 dims, 4 type, 8 offset; a key 8+1, 4, 1. */
    uint64_t tensors = read_u64(&p->r), keys = read_u64(&p->r);
    size_t left = (size_t)(p->r.end - p->r.p);
    if (p->r.bad) return truncated(p, "its header");
    if (tensors > MAX_TENSORS || keys > MAX_KEYS)
        return fail(p->err, STRETTO_E_FORMAT,
                    "%s claims %llu tensors and %llu keys (at most %d and %d "
                    "are read): it is damaged",
                    p->path, (unsigned long long)tensors, (unsigned long long)keys, MAX_TENSORS,
                    MAX_KEYS);
    if (tensors * 33 + keys * 14 > left) return truncated(p, "its header");
    TRY(read_keys(p, (size_t)keys, first));
    if (p->alignment < 8 || p->alignment > 1 << 20 || (p->alignment & (p->alignment - 1)))
        return fail(p->err, STRETTO_E_FORMAT,
                    "%s: general.alignment %llu is not a power of two from 8 "
                    "to 1048576",
                    p->path, (unsigned long long)p->alignment);
    return read_tensors(p, (size_t)tensors);
}

/* "dir/model-00001-of-00003.gguf" -> the name of part `no` (counted from 0). */
static stretto_status part_path(const struct source *s, uint64_t no, uint64_t count, char *out,
                                size_t size, struct error *err)
{
    char tail[48];
    int n = snprintf(tail, sizeof tail, "-00001-of-%05llu.gguf", (unsigned long long)count);
    size_t len = strlen(s->path), cut = (size_t)n;
    if (len < cut || strcmp(s->path + len - cut, tail) != 0)
        return fail(err, STRETTO_E_ARG,
                    "%s is the first of %llu parts, so its name must end with %s "
                    "for the others to be found",
                    s->path, (unsigned long long)count, tail);
    if (len >= size)
        return fail(err, STRETTO_E_ARG, "the path of %s is too long", s->path);
    memcpy(out, s->path, len - cut);
    snprintf(out + len - cut, size - (len - cut), "-%05llu-of-%05llu.gguf",
             (unsigned long long)no + 1, (unsigned long long)count);
    return STRETTO_OK;
}

static stretto_status read_further_part(struct source *s, uint64_t no, uint64_t count,
                                        struct error *err)
{
    char path[PATH_MAX];
    TRY(part_path(s, no, count, path, sizeof path, err));
    struct file_map *map = &s->maps[no];
    struct error inner = { 0 };
    stretto_status st = file_map_open(map, path, &inner);
    if (st != STRETTO_OK)
        return fail(err, st, "%s; all %llu parts of the model must lie in one folder", inner.text,
                    (unsigned long long)count);
    s->n_maps = (size_t)no + 1;
    struct part p = { .s = s, .path = path, .map = map, .err = err };
    TRY(read_part(&p, false));
    if (p.split_no != no || p.split_count != count)
        return fail(err, STRETTO_E_FORMAT,
                    "%s says it is part %llu of %llu, not part %llu of %llu: it "
                    "belongs to another model",
                    path, (unsigned long long)p.split_no + 1, (unsigned long long)p.split_count,
                    (unsigned long long)no + 1, (unsigned long long)count);
    return STRETTO_OK;
}

stretto_status gguf_read(struct source *s, struct error *err)
{
    struct file_map first;
    TRY(file_map_open(&first, s->path, err));
    s->maps = mem_zalloc(1, sizeof *s->maps);
    if (!s->maps) {
        file_map_close(&first);
        return source_no_memory(s, err);
    }
    s->maps[0] = first;
    s->n_maps = 1;
    if (pack_is(&first)) {
        TRY(pack_decode(&first, s->path, &s->image, err));
        first = (struct file_map){ s->image.data, s->image.bytes };
        if (pack_is(&first)) return fail(err, STRETTO_E_FORMAT, "%s is packed twice; unpack it", s->path);
    }
    struct part p = { .s = s, .path = s->path, .map = &first, .err = err };
    TRY(read_part(&p, true));
    TRY(source_index_keys(s, err));
    if (s->image.data) s->format = "GGUF, packed";
    if (p.split_count > 1) {
        if (p.split_count > MAX_PARTS)
            return fail(err, STRETTO_E_FORMAT,
                        "%s claims to be one of %llu parts (at most %d are read)", s->path,
                        (unsigned long long)p.split_count, MAX_PARTS);
        if (p.split_no != 0)
            return fail(err, STRETTO_E_ARG,
                        "%s is part %llu of %llu: name the first part, whose name "
                        "ends with -00001-of-%05llu.gguf",
                        s->path, (unsigned long long)p.split_no + 1,
                        (unsigned long long)p.split_count, (unsigned long long)p.split_count);
        struct file_map *maps = mem_resize(s->maps, (size_t)p.split_count * sizeof *maps);
        if (!maps) return source_no_memory(s, err);
        s->maps = maps;
        for (uint64_t no = 1; no < p.split_count; no++)
            TRY(read_further_part(s, no, p.split_count, err));
        uint64_t all;
        if (source_u64(s, "split.tensors.count", &all) && all != s->n_tensors)
            return fail(err, STRETTO_E_FORMAT,
                        "%s: the parts hold %zu tensors, but %llu were promised", s->path,
                        s->n_tensors, (unsigned long long)all);
    }
    struct source_str arch;
    if (source_string(s, "general.architecture", &arch)) {
        if (arch.n >= sizeof s->arch || memchr(arch.p, '\0', arch.n))
            return fail(err, STRETTO_E_FORMAT, "%s: general.architecture is not a name", s->path);
        memcpy(s->arch, arch.p, arch.n);
    }
    return STRETTO_OK;
}
