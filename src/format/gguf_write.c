#include "format/gguf_write.h"
#include "base/buffer.h"
#include "base/memory.h"
#include "base/part.h"
#include "format/source_int.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ALIGNMENT = 32, CHUNK = 1 << 20 };
#define MAX_HEAD ((size_t)2 << 30)

/* at: from where the tensors begin. */
struct place { uint64_t at, bytes, done; };

struct gguf_writer {
    struct part file;
    struct buffer keys, infos;          /* the two halves of the header */
    uint64_t n_keys, n_tensors;
    uint64_t data_bytes; /* of all tensors announced, padding between them included */
    struct place *places;               /* [n_tensors] */
    size_t cap_places, next;            /* next: the tensor that gguf_write is writing */
    unsigned char *chunk;               /* CHUNK bytes on their way to the file, */
    uint64_t chunk_at;                  /* where they go */
    size_t used;
    stretto_status status;              /* the first failure of a put */
};

static uint64_t padded(uint64_t n) { return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static stretto_status no_memory(const char *path, struct error *err)
{
    return fail(err, STRETTO_E_NOMEM, "not enough memory to write %s", path);
}

static stretto_status writer_open(struct gguf_writer **out, const char *path, bool force, bool anew,
                                  struct error *err)
{
    *out = NULL;
    struct gguf_writer *w = mem_zalloc(1, sizeof *w);
    if (!w) return no_memory(path, err);
    *w = (struct gguf_writer){ .file = { .fd = -1 }, .keys = buffer_make(MAX_HEAD), .infos = buffer_make(MAX_HEAD) };
    w->chunk = mem_alloc(CHUNK);
    stretto_status s = w->chunk ? part_open(&w->file, path, force, anew, err) : no_memory(path, err);
    if (s != STRETTO_OK) {
        gguf_writer_close(w);
        return s;
    }
    *out = w;
    return STRETTO_OK;
}

stretto_status gguf_writer_open(struct gguf_writer **out, const char *path, bool force,
                                struct error *err)
{
    return writer_open(out, path, force, true, err);
}

stretto_status gguf_writer_reopen(struct gguf_writer **out, const char *path, bool force,
                                  struct error *err)
{
    return writer_open(out, path, force, false, err);
}

const char *gguf_part_path(const struct gguf_writer *w) { return w->file.part; }

void gguf_writer_leave(struct gguf_writer *w)
{
    if (!w) return;
    part_leave(&w->file);
    gguf_writer_close(w);
}

void gguf_writer_close(struct gguf_writer *w)
{
    if (!w) return;
    part_close(&w->file);
    buffer_done(&w->keys);
    buffer_done(&w->infos);
    mem_free(w->places);
    mem_free(w->chunk);
    mem_free(w);
}

/* ---- the header ---------------------------------------------------------------------------- */

static void add(struct gguf_writer *w, struct buffer *b, const void *p, size_t n)
{
    if (w->status == STRETTO_OK) w->status = buffer_append(b, p, n);
}

static void add_number(struct gguf_writer *w, struct buffer *b, uint64_t v, size_t bytes)
{
    unsigned char le[8];
    for (size_t i = 0; i < bytes; i++) le[i] = (unsigned char)(v >> 8 * i);
    add(w, b, le, bytes);
}

static void add_text(struct gguf_writer *w, struct buffer *b, const char *p, size_t n)
{
    add_number(w, b, n, 8);
    add(w, b, p, n);
}

static void begin_value(struct gguf_writer *w, const char *key, enum value_type type)
{
    add_text(w, &w->keys, key, strlen(key));
    add_number(w, &w->keys, type, 4);
    w->n_keys++;
}

static void begin_array(struct gguf_writer *w, const char *key, enum value_type element, size_t n)
{
    begin_value(w, key, V_ARRAY);
    add_number(w, &w->keys, element, 4);
    add_number(w, &w->keys, n, 8);
}

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    begin_value(w, key, V_U32);
    add_number(w, &w->keys, v, 4);
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

void gguf_put_f32(struct gguf_writer *w, const char *key, float v)
{
    begin_value(w, key, V_F32);
    add_number(w, &w->keys, bits_of(v), 4);
}

void gguf_put_bool(struct gguf_writer *w, const char *key, bool v)
{
    begin_value(w, key, V_BOOL);
    add_number(w, &w->keys, v, 1);
}

void gguf_put_string(struct gguf_writer *w, const char *key, const char *p, size_t n)
{
    begin_value(w, key, V_STRING);
    add_text(w, &w->keys, p, n);
}

void gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *v, size_t n)
{
    begin_array(w, key, V_I32, n);
    for (size_t i = 0; i < n; i++) add_number(w, &w->keys, (uint32_t)v[i], 4);
}

void gguf_put_u32s(struct gguf_writer *w, const char *key, const uint32_t *v, size_t n)
{
    begin_array(w, key, V_U32, n);
    for (size_t i = 0; i < n; i++) add_number(w, &w->keys, v[i], 4);
}

void gguf_put_f32s(struct gguf_writer *w, const char *key, const float *v, size_t n)
{
    begin_array(w, key, V_F32, n);
    for (size_t i = 0; i < n; i++) add_number(w, &w->keys, bits_of(v[i]), 4);
}

void gguf_put_strings(struct gguf_writer *w, const char *key, size_t n)
{
    begin_array(w, key, V_STRING, n);
}

void gguf_put_item(struct gguf_writer *w, const char *p, size_t n) { add_text(w, &w->keys, p, n); }

void gguf_put_value(struct gguf_writer *w, const char *key, uint32_t type, uint32_t element,
                    size_t n, const void *raw, size_t bytes)
{
    if (type == V_ARRAY) begin_array(w, key, (enum value_type)element, n);
    else begin_value(w, key, (enum value_type)type);
    if (type == V_STRING) add_number(w, &w->keys, n, 8);
    add(w, &w->keys, raw, bytes);
}

stretto_status gguf_put_tensor(struct gguf_writer *w, const char *name, enum dtype type,
                               uint32_t n_dims, const uint64_t *dims, struct error *err)
{
    struct source_tensor t = { .name = name, .type = type, .n_dims = n_dims };
    for (uint32_t d = 0; d < n_dims; d++) t.dims[d] = dims[d];
    TRY(tensor_measure(&t, w->file.path, err));
    if (w->n_tensors == w->cap_places) {
        size_t cap = w->cap_places ? 2 * w->cap_places : 64;
        struct place *places = mem_resize(w->places, cap * sizeof *places);
        if (!places) return fail(err, STRETTO_E_NOMEM, "not enough memory to write %s", w->file.path);
        w->places = places;
        w->cap_places = cap;
    }
    add_text(w, &w->infos, name, strlen(name));
    add_number(w, &w->infos, n_dims, 4);
    for (uint32_t d = 0; d < n_dims; d++) add_number(w, &w->infos, dims[d], 8);
    add_number(w, &w->infos, type, 4);
    add_number(w, &w->infos, w->data_bytes, 8);
    w->places[w->n_tensors++] = (struct place){ .at = w->data_bytes, .bytes = t.bytes };
    w->data_bytes += padded(t.bytes);
    return STRETTO_OK;
}

static uint64_t head_bytes(const struct gguf_writer *w) { return 24 + w->keys.len + w->infos.len; }

uint64_t gguf_file_bytes(const struct gguf_writer *w)
{
    return padded(head_bytes(w)) + w->data_bytes;
}

/* ---- the bytes ----------------------------------------------------------------------------- */

static stretto_status flush(struct gguf_writer *w, struct error *err)
{
    TRY(part_put(&w->file, w->chunk_at, w->chunk, w->used, err));
    w->chunk_at += w->used;
    w->used = 0;
    return STRETTO_OK;
}

static stretto_status emit(struct gguf_writer *w, const void *p, size_t n, struct error *err)
{
    for (const unsigned char *at = p; n;) {
        size_t fits = CHUNK - w->used < n ? CHUNK - w->used : n;
        memcpy(w->chunk + w->used, at, fits);
        w->used += fits;
        at += fits;
        n -= fits;
        if (w->used == CHUNK) TRY(flush(w, err));
    }
    return STRETTO_OK;
}

static stretto_status pad(struct gguf_writer *w, uint64_t behind, struct error *err)
{
    static const unsigned char zeros[ALIGNMENT];
    return emit(w, zeros, (size_t)(padded(behind) - behind), err);
}

static stretto_status check_puts(const struct gguf_writer *w, struct error *err)
{
    if (w->status == STRETTO_E_FULL)
        return fail(err, STRETTO_E_FORMAT, "the metadata for %s are larger than 2 GiB", w->file.path);
    if (w->status != STRETTO_OK)
        return fail(err, w->status, "not enough memory for the metadata of %s", w->file.path);
    return STRETTO_OK;
}

static void make_start(const struct gguf_writer *w, unsigned char start[24])
{
    memcpy(start, "GGUF\3\0\0\0", 8);
    for (size_t i = 0; i < 8; i++) {
        start[8 + i] = (unsigned char)(w->n_tensors >> 8 * i);
        start[16 + i] = (unsigned char)(w->n_keys >> 8 * i);
    }
}

stretto_status gguf_begin_data(struct gguf_writer *w, struct error *err)
{
    TRY(check_puts(w, err));
    TRY(part_begin(&w->file, gguf_file_bytes(w), err));
    unsigned char start[24];
    make_start(w, start);
    TRY(emit(w, start, sizeof start, err));
    if (w->keys.len) TRY(emit(w, w->keys.data, w->keys.len, err));
    if (w->infos.len) TRY(emit(w, w->infos.data, w->infos.len, err));
    return pad(w, head_bytes(w), err);
}

/* Whether these bytes stand at *at in the file; moves on behind them. */
static bool stands(struct gguf_writer *w, uint64_t *at, const void *bytes, size_t n)
{
    for (const unsigned char *p = bytes; n;) {
        ssize_t k = pread(w->file.fd, w->chunk, n < CHUNK ? n : CHUNK, (off_t)*at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0 || memcmp(w->chunk, p, (size_t)k) != 0) return false;
        *at += (uint64_t)k;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

stretto_status gguf_resume_data(struct gguf_writer *w, bool *same, struct error *err)
{
    *same = false;
    TRY(check_puts(w, err));
    struct stat st;
    uint64_t at = 0;
    unsigned char start[24];
    make_start(w, start);
    *same = fstat(w->file.fd, &st) == 0 && (uint64_t)st.st_size == gguf_file_bytes(w) &&
            stands(w, &at, start, sizeof start) && stands(w, &at, w->keys.data, w->keys.len) &&
            stands(w, &at, w->infos.data, w->infos.len);
    if (*same) {
        w->file.begun = true;
        w->file.bytes = gguf_file_bytes(w);
    }
    return STRETTO_OK;
}

uint64_t gguf_place(const struct gguf_writer *w, size_t i, uint64_t *bytes)
{
    if (bytes) *bytes = w->places[i].bytes;
    return padded(head_bytes(w)) + w->places[i].at;
}

stretto_status gguf_write(struct gguf_writer *w, const void *p, size_t n, struct error *err)
{
    struct place *t = w->places + w->next;
    if (w->next == w->n_tensors || n > t->bytes - t->done)
        return fail(err, STRETTO_E_ARG, "%s: more bytes than its tensors have", w->file.path);
    TRY(emit(w, p, n, err));
    t->done += n;
    if (t->done < t->bytes) return STRETTO_OK;
    TRY(pad(w, t->done, err));
    w->next++;
    return STRETTO_OK;
}

stretto_status gguf_write_tensor(struct gguf_writer *w, size_t i, const void *p, size_t n, struct error *err)
{
    if (i >= w->n_tensors || n != w->places[i].bytes)
        return fail(err, STRETTO_E_ARG, "%s: a tensor and the bytes for it differ in size", w->file.path);
    if (w->used) TRY(flush(w, err));
    TRY(part_put(&w->file, gguf_place(w, i, NULL), p, n, err));
    w->places[i].done = n;
    return STRETTO_OK;
}

void gguf_written(struct gguf_writer *w, size_t i) { w->places[i].done = w->places[i].bytes; }

stretto_status gguf_sync(struct gguf_writer *w, struct error *err)
{
    TRY(flush(w, err));
    return part_sync(&w->file, err);
}

stretto_status gguf_finish(struct gguf_writer *w, struct error *err)
{
    for (size_t i = 0; i < w->n_tensors; i++)
        if (w->places[i].done != w->places[i].bytes)
            return fail(err, STRETTO_E_ARG, "%s: its tensors are not all written", w->file.path);
    TRY(flush(w, err));
    return part_finish(&w->file, err);
}

/* ---- what other files say ------------------------------------------------------------------ */

void gguf_put_kept(struct gguf_writer *w, const struct source *s, bool (*without)(void *ud, const char *key),
                   void *ud)
{
    static const char *const own[] = { "general.file_type", "general.quantization_version", "general.alignment",
                                       "split.no", "split.count", "split.tensors.count" };
    for (size_t i = 0; i < s->n_keys; i++) {
        const struct meta *m = &s->keys[i];
        bool left_out = without && without(ud, m->name);
        for (size_t k = 0; k < sizeof own / sizeof *own; k++)
            if (strcmp(m->name, own[k]) == 0) left_out = true;
        if (!left_out) gguf_put_value(w, m->name, m->type, m->element, m->n, m->raw, m->raw_bytes);
    }
}

static stretto_status overwrite(const char *path, uint64_t at, const char *p, size_t n, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    bool ok = fd >= 0 && pwrite(fd, p, n, (off_t)at) == (ssize_t)n && fsync(fd) == 0;
    int e = errno;
    if (fd >= 0) close(fd);
    return ok ? STRETTO_OK : fail(err, STRETTO_E_IO, "cannot write %s: %s", path, strerror(e));
}

stretto_status gguf_set_string(const char *path, const char *key, const char *p, size_t n, struct error *err)
{
    struct source *s;
    TRY(source_open(&s, path, err));
    const struct meta *m = source_meta(s, key);
    stretto_status st = STRETTO_OK;
    char *text = NULL;
    if (!m || m->type != V_STRING || s->n_maps != 1 || s->n_files || m->raw < s->maps[0].data
        || m->raw >= s->maps[0].data + s->maps[0].size)
        st = fail(err, STRETTO_E_ARG, "%s has no string %s that could be set", path, key);
    else if (!(text = mem_alloc(m->raw_bytes + 1)))
        st = fail(err, STRETTO_E_NOMEM, "not enough memory to write %s", path);
    if (st == STRETTO_OK) {
        size_t room = m->raw_bytes;
        uint64_t at = (uint64_t)(m->raw - s->maps[0].data);
        if (n > room)
            for (n = room; n && ((unsigned char)p[n] & 0xc0) == 0x80; n--) {}
        memset(text, ' ', room);
        memcpy(text, p, n);
        st = overwrite(path, at, text, room, err);
    }
    mem_free(text);
    source_close(s);
    return st;
}
