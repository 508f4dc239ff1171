#include "format/gguf_write.h"
#include "base/buffer.h"
#include "base/memory.h"
#include "format/source_int.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ALIGNMENT = 32, CHUNK = 1 << 20 };
#define MAX_HEAD ((size_t)2 << 30)

struct gguf_writer {
    char *path, *part;                  /* part: PATH.part */
    int fd;
    bool force, created;
    struct buffer keys, infos;          /* the two halves of the header */
    uint64_t n_keys, n_tensors;
    uint64_t data_bytes; /* of all tensors announced, padding between them included */
    uint64_t *sizes;                    /* [n_tensors] bytes of each, without padding */
    size_t cap_sizes, at;               /* at: the tensor being written */
    uint64_t done;                      /* of its bytes */
    unsigned char *chunk;               /* CHUNK bytes on their way to the file */
    size_t used;
    stretto_status status;              /* the first failure of a put */
};

static uint64_t padded(uint64_t n) { return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static stretto_status io_error(const struct gguf_writer *w, const char *what, struct error *err)
{
    int e = errno;
    if (e == ENOSPC || e == EDQUOT || e == EFBIG)
        return fail(err, STRETTO_E_IO,
                    "cannot %s %s: %s; the file needs %.1f MB: make room or name "
                    "another place",
                    what, w->path, strerror(e), (double)gguf_file_bytes(w) / 1e6);
    return fail(err, STRETTO_E_IO, "cannot %s %s: %s", what, w->path, strerror(e));
}

/* The lock tells a file that another process is writing from one that was left by a crash. */
static stretto_status create_part(struct gguf_writer *w, struct error *err)
{
    w->fd = open(w->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (w->fd < 0) return fail(err, STRETTO_E_IO, "cannot create %s: %s", w->part, strerror(errno));
    if (flock(w->fd, LOCK_EX | LOCK_NB) != 0)
        return fail(err, STRETTO_E_ARG, "%s is being written by another process", w->part);
    w->created = true;
    if (ftruncate(w->fd, 0) != 0) return io_error(w, "write", err);
    return STRETTO_OK;
}

stretto_status gguf_writer_open(struct gguf_writer **out, const char *path, bool force,
                                struct error *err)
{
    *out = NULL;
    struct stat st;
    if (stat(path, &st) == 0) {
        if (!S_ISREG(st.st_mode))
            return fail(err, STRETTO_E_ARG, "%s is there already and is not a file", path);
        if (!force)
            return fail(err, STRETTO_E_ARG, "%s is there already; --force replaces it", path);
    }
    struct gguf_writer *w = mem_zalloc(1, sizeof *w);
    if (!w) return fail(err, STRETTO_E_NOMEM, "not enough memory to write %s", path);
    *w = (struct gguf_writer){ .fd = -1, .force = force, .keys = buffer_make(MAX_HEAD),
                               .infos = buffer_make(MAX_HEAD) };
    size_t n = strlen(path);
    w->path = mem_strdup(path);
    w->part = mem_alloc(n + sizeof ".part");
    w->chunk = mem_alloc(CHUNK);
    stretto_status s = STRETTO_OK;
    if (!w->path || !w->part || !w->chunk) {
        s = fail(err, STRETTO_E_NOMEM, "not enough memory to write %s", path);
    } else {
        memcpy(w->part, path, n);
        memcpy(w->part + n, ".part", sizeof ".part");
        s = create_part(w, err);
    }
    if (s != STRETTO_OK) {
        gguf_writer_close(w);
        return s;
    }
    *out = w;
    return STRETTO_OK;
}

void gguf_writer_close(struct gguf_writer *w)
{
    if (!w) return;
    if (w->created) unlink(w->part);
    if (w->fd >= 0) close(w->fd);
    buffer_done(&w->keys);
    buffer_done(&w->infos);
    mem_free(w->sizes);
    mem_free(w->chunk);
    mem_free(w->path);
    mem_free(w->part);
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
    TRY(tensor_measure(&t, w->path, err));
    if (w->n_tensors == w->cap_sizes) {
        size_t cap = w->cap_sizes ? 2 * w->cap_sizes : 64;
        uint64_t *sizes = mem_resize(w->sizes, cap * sizeof *sizes);
        if (!sizes) return fail(err, STRETTO_E_NOMEM, "not enough memory to write %s", w->path);
        w->sizes = sizes;
        w->cap_sizes = cap;
    }
    add_text(w, &w->infos, name, strlen(name));
    add_number(w, &w->infos, n_dims, 4);
    for (uint32_t d = 0; d < n_dims; d++) add_number(w, &w->infos, dims[d], 8);
    add_number(w, &w->infos, type, 4);
    add_number(w, &w->infos, w->data_bytes, 8);
    w->sizes[w->n_tensors++] = t.bytes;
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
    for (size_t from = 0; from < w->used;) {
        ssize_t n = write(w->fd, w->chunk + from, w->used - from);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return io_error(w, "write", err);
        from += (size_t)n;
    }
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

stretto_status gguf_begin_data(struct gguf_writer *w, struct error *err)
{
    if (w->status == STRETTO_E_FULL)
        return fail(err, STRETTO_E_FORMAT, "the metadata for %s are larger than 2 GiB", w->path);
    if (w->status != STRETTO_OK)
        return fail(err, w->status, "not enough memory for the metadata of %s", w->path);
    /* A full disk shows here, before the work. File systems that cannot reserve just go on. */
    uint64_t all = gguf_file_bytes(w);
    if (fallocate(w->fd, 0, 0, (off_t)all) != 0 &&
        (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        return io_error(w, "write", err);
    struct buffer b = buffer_make(64);
    add(w, &b, "GGUF", 4);
    add_number(w, &b, 3, 4);
    add_number(w, &b, w->n_tensors, 8);
    add_number(w, &b, w->n_keys, 8);
    stretto_status s = w->status == STRETTO_OK
        ? emit(w, b.data, b.len, err)
        : fail(err, w->status, "not enough memory to write %s", w->path);
    buffer_done(&b);
    TRY(s);
    if (w->keys.len) TRY(emit(w, w->keys.data, w->keys.len, err));
    if (w->infos.len) TRY(emit(w, w->infos.data, w->infos.len, err));
    return pad(w, head_bytes(w), err);
}

stretto_status gguf_write(struct gguf_writer *w, const void *p, size_t n, struct error *err)
{
    if (w->at == w->n_tensors || n > w->sizes[w->at] - w->done)
        return fail(err, STRETTO_E_ARG, "%s: more bytes than its tensors have", w->path);
    TRY(emit(w, p, n, err));
    w->done += n;
    if (w->done < w->sizes[w->at]) return STRETTO_OK;
    TRY(pad(w, w->done, err));
    w->done = 0;
    w->at++;
    return STRETTO_OK;
}

stretto_status gguf_finish(struct gguf_writer *w, struct error *err)
{
    if (w->at != w->n_tensors)
        return fail(err, STRETTO_E_ARG, "%s: its tensors are not all written", w->path);
    TRY(flush(w, err));
    if (fsync(w->fd) != 0) return io_error(w, "write", err);
    /* Whoever put a file there meanwhile keeps it, unless replacing was asked for. */
    int moved = -1;
    if (!w->force) {
        moved = renameat2(AT_FDCWD, w->part, AT_FDCWD, w->path, RENAME_NOREPLACE);
        if (moved != 0 && errno == EEXIST)
            return fail(err, STRETTO_E_ARG, "%s appeared meanwhile; --force replaces it", w->path);
    }
    if (moved != 0 && (w->force || errno == EINVAL || errno == ENOSYS))
        moved = rename(w->part, w->path);
    if (moved != 0) return io_error(w, "name", err);
    w->created = false;
    return STRETTO_OK;
}
