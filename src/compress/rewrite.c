/* The journal lists a tensor only when its bytes are on the disk: bytes, fdatasync, then the line. Syncing is put
 * off until so many bytes are waiting or SYNC_SECONDS have passed, so a pass over thousands of small tensors does not
 * wait for the disk thousands of times; a kill loses what was waiting. An interrupted file is gone on with when the
 * journal is of this pass over this source, the header is the very one this pass would write, and the bytes of
 * each tensor listed have the hash that is listed with it. */
#include "compress/rewrite.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "compress/journal.h"
#include "format/gguf_write.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { COPY_BYTES = 1 << 24, SYNC_BYTES = 1 << 26, SAMPLES = 8, SAMPLE_BYTES = 4096 };
#define SYNC_SECONDS 2.0

enum change_kind { PUT_U32, PUT_BOOL, PUT_F32, PUT_STRING, PUT_U32S, PUT_ROOM, PUT_NOTHING };
struct change {
    char *key;
    enum change_kind kind;
    uint32_t u;
    float f;
    char *text;
    uint32_t *list;
    size_t n;                           /* of list, or the room */
};

/* Names in ascending order, those of slices among them. */
struct entry { const char *name; size_t at; };

struct rewrite {
    const struct model *m;
    const char *arch;
    char *path, *state, *recipe;
    struct log log;
    struct gguf_writer *w;
    struct journal journal;
    struct source_tensor *stored;
    struct rewrite_tensor *list;
    struct entry *names;
    size_t n, n_names;
    size_t *number;                     /* [n] in the file, after rewrite_begin */
    struct change *changes;
    size_t n_changes, cap_changes;
    bool begun, finished, sorted;
    bool found;                         /* what an interrupted pass left is there, and untouched until begun */
    struct file_map part;
    size_t *waiting;                    /* [n] written and not listed yet, */
    uint64_t *hash;                     /* [n] with these hashes */
    size_t n_waiting;
    uint64_t waiting_bytes, may_wait;
    double synced;                      /* when */
    stretto_status status;              /* the first failure of a put */
};

static stretto_status no_memory(const char *path, struct error *err)
{
    return fail(err, STRETTO_E_NOMEM, "not enough memory to write %s", path);
}

/* ---- the list ------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)(*(struct rewrite_tensor *const *)a)->from->data;
    uintptr_t y = (uintptr_t)(*(struct rewrite_tensor *const *)b)->from->data;
    return x < y ? -1 : x > y;
}

/* The stored tensor that a slice lies in, of those in order of place. */
static struct rewrite_tensor *whole_of(struct rewrite_tensor **placed, size_t n, const struct source_tensor *t)
{
    size_t low = 0, high = n;
    while (high - low > 1) {
        size_t mid = (low + high) / 2;
        if ((uintptr_t)placed[mid]->from->data <= (uintptr_t)t->data) low = mid;
        else high = mid;
    }
    return n && source_within(t, placed[low]->from) ? placed[low] : NULL;
}

static stretto_status name_all(struct rewrite *r, struct error *err)
{
    const struct source *s = r->m->source;
    size_t slices = source_tensor_count(s);
    mem_free(r->names);
    r->n_names = 0;
    r->names = mem_alloc((r->n + slices + 1) * sizeof *r->names);
    struct rewrite_tensor **placed = mem_alloc((r->n + 1) * sizeof(struct rewrite_tensor *));
    if (!r->names || !placed) {
        mem_free(placed);
        return no_memory(r->path, err);
    }
    size_t n_placed = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (r->list[i].from) placed[n_placed++] = &r->list[i];
        r->names[r->n_names++] = (struct entry){ r->list[i].name, i };
    }
    qsort(placed, n_placed, sizeof(struct rewrite_tensor *), by_place);
    for (size_t i = 0; i < slices; i++) {
        const struct source_tensor *t = source_tensor_at(s, i);
        struct rewrite_tensor *whole = whole_of(placed, n_placed, t);
        if (!whole || strcmp(whole->name, t->name) == 0) continue;
        if (whole->from->data == t->data) whole->param = t->name;
        r->names[r->n_names++] = (struct entry){ t->name, (size_t)(whole - r->list) };
    }
    mem_free(placed);
    qsort(r->names, r->n_names, sizeof *r->names, by_name);
    r->sorted = true;
    return STRETTO_OK;
}

static stretto_status list_tensors(struct rewrite *r, struct error *err)
{
    TRY(source_stored(r->m->source, 0, &r->stored, &r->n, err));
    if (r->n == 0)
        return fail(err, STRETTO_E_ARG, "%s is a vocabulary without a model: there is nothing to rewrite",
                    source_path(r->m->source));
    r->list = mem_zalloc(r->n + 1, sizeof *r->list);
    if (!r->list) return no_memory(r->path, err);
    for (size_t i = 0; i < r->n; i++) {
        const struct source_tensor *t = &r->stored[i];
        r->list[i] = (struct rewrite_tensor){ .from = t, .name = t->name, .param = t->name, .type = t->type,
                                              .n_dims = t->n_dims };
        memcpy(r->list[i].dims, t->dims, sizeof t->dims);
    }
    return name_all(r, err);
}

size_t rewrite_count(const struct rewrite *r) { return r->n; }
struct rewrite_tensor *rewrite_at(struct rewrite *r, size_t i) { return &r->list[i]; }

struct rewrite_tensor *rewrite_find(struct rewrite *r, const char *name)
{
    struct entry ask = { name, 0 };
    if (!r->sorted && name_all(r, NULL) != STRETTO_OK) return NULL;
    const struct entry *e = bsearch(&ask, r->names, r->n_names, sizeof *r->names, by_name);
    return e ? &r->list[e->at] : NULL;
}

/* ---- metadata ------------------------------------------------------------------------------- */

/* The key as the file has it, the architecture in front where it belongs there. */
static char *full_key(const struct rewrite *r, const char *key)
{
    size_t arch = key[0] == '.' ? strlen(r->arch) : 0, n = strlen(key);
    char *s = mem_alloc(arch + n + 1);
    if (!s) return NULL;
    memcpy(s, r->arch, arch);
    memcpy(s + arch, key, n + 1);
    return s;
}

static void change_done(struct change *c)
{
    mem_free(c->key);
    mem_free(c->text);
    mem_free(c->list);
}

/* The change of this key, emptied; a later word for a key counts. */
static struct change *change_of(struct rewrite *r, const char *key, enum change_kind kind)
{
    char *full = full_key(r, key);
    struct change *c = NULL;
    for (size_t i = 0; full && i < r->n_changes; i++)
        if (strcmp(r->changes[i].key, full) == 0) change_done(c = &r->changes[i]);
    if (full && !c && r->n_changes == r->cap_changes) {
        size_t cap = r->cap_changes ? 2 * r->cap_changes : 16;
        struct change *more = mem_resize(r->changes, cap * sizeof *more);
        if (more) {
            r->changes = more;
            r->cap_changes = cap;
        }
    }
    if (full && !c && r->n_changes < r->cap_changes) c = &r->changes[r->n_changes++];
    if (!c) {
        mem_free(full);
        r->status = STRETTO_E_NOMEM;
        return NULL;
    }
    *c = (struct change){ .key = full, .kind = kind };
    return c;
}

void rewrite_put_u32(struct rewrite *r, const char *key, uint32_t v)
{
    struct change *c = change_of(r, key, PUT_U32);
    if (c) c->u = v;
}

void rewrite_put_bool(struct rewrite *r, const char *key, bool v)
{
    struct change *c = change_of(r, key, PUT_BOOL);
    if (c) c->u = v;
}

void rewrite_put_f32(struct rewrite *r, const char *key, float v)
{
    struct change *c = change_of(r, key, PUT_F32);
    if (c) c->f = v;
}

void rewrite_put_string(struct rewrite *r, const char *key, const char *v)
{
    struct change *c = change_of(r, key, v ? PUT_STRING : PUT_NOTHING);
    if (c && v && !(c->text = mem_strdup(v))) r->status = STRETTO_E_NOMEM;
}

void rewrite_put_u32s(struct rewrite *r, const char *key, const uint32_t *v, size_t n)
{
    struct change *c = change_of(r, key, PUT_U32S);
    if (!c) return;
    c->list = mem_alloc((n + 1) * sizeof *v);
    if (!c->list) {
        r->status = STRETTO_E_NOMEM;
        return;
    }
    memcpy(c->list, v, n * sizeof *v);
    c->n = n;
}

void rewrite_reserve_string(struct rewrite *r, const char *key, size_t room)
{
    struct change *c = change_of(r, key, PUT_ROOM);
    if (c) c->n = room;
}

static bool is_changed(void *ud, const char *key)
{
    const struct rewrite *r = ud;
    for (size_t i = 0; i < r->n_changes; i++)
        if (strcmp(r->changes[i].key, key) == 0) return true;
    return false;
}

static stretto_status put_change(struct rewrite *r, const struct change *c)
{
    switch (c->kind) {
    case PUT_U32: gguf_put_u32(r->w, c->key, c->u); break;
    case PUT_BOOL: gguf_put_bool(r->w, c->key, c->u != 0); break;
    case PUT_F32: gguf_put_f32(r->w, c->key, c->f); break;
    case PUT_STRING: gguf_put_string(r->w, c->key, c->text, strlen(c->text)); break;
    case PUT_U32S: gguf_put_u32s(r->w, c->key, c->list, c->n); break;
    case PUT_ROOM: {
        char *room = mem_alloc(c->n + 1);
        if (!room) return STRETTO_E_NOMEM;
        memset(room, ' ', c->n);
        gguf_put_string(r->w, c->key, room, c->n);
        mem_free(room);
        break;
    }
    case PUT_NOTHING: break;
    }
    return STRETTO_OK;
}

/* What most of the weights are written as, as llama.cpp numbers it. */
static uint32_t file_type(const struct rewrite *r)
{
    uint64_t bytes[DT_COUNT] = { 0 };
    int most = DT_F32;
    for (size_t i = 0; i < r->n; i++) {
        const struct rewrite_tensor *t = &r->list[i];
        if (!t->drop && t->n_dims > 1) bytes[t->type] += t->dims[0] * t->dims[1];
    }
    for (int t = 0; t < DT_COUNT; t++)
        if (bytes[t] > bytes[most]) most = t;
    return dtype_table[most].file_type;
}

static stretto_status put_metadata(struct rewrite *r, struct error *err)
{
    stretto_status s = r->status;
    gguf_put_kept(r->w, r->m->source, is_changed, r);
    if (!is_changed(r, "general.file_type")) gguf_put_u32(r->w, "general.file_type", file_type(r));
    if (!is_changed(r, "general.quantization_version")) gguf_put_u32(r->w, "general.quantization_version", 2);
    for (size_t i = 0; i < r->n_changes && s == STRETTO_OK; i++) s = put_change(r, &r->changes[i]);
    return s == STRETTO_OK ? s : no_memory(r->path, err);
}

/* ---- opening and closing -------------------------------------------------------------------- */

static char *joined(const char *a, const char *b)
{
    size_t n = strlen(a), k = strlen(b);
    char *s = mem_alloc(n + k + 1);
    if (!s) return NULL;
    memcpy(s, a, n);
    memcpy(s + n, b, k + 1);
    return s;
}

static stretto_status open_into(struct rewrite *r, const char *path, const struct rewrite_options *o,
                                struct error *err)
{
    r->arch = source_arch(r->m->source);
    r->path = mem_strdup(path);
    r->state = joined(path, ".state");
    r->recipe = mem_strdup(o->recipe ? o->recipe : "");
    if (!r->path || !r->state || !r->recipe) return no_memory(path, err);
    if (strncmp(source_format(r->m->source), "GGUF", 4) != 0)
        return fail(err, STRETTO_E_ARG, "%s is no GGUF file; stretto convert makes one of it",
                    source_path(r->m->source));
    TRY(list_tensors(r, err));
    return gguf_writer_reopen(&r->w, path, o->force, err);
}

stretto_status rewrite_open(struct rewrite **out, const struct model *m, const char *path,
                            const struct rewrite_options *o, struct error *err)
{
    *out = NULL;
    struct rewrite *r = mem_zalloc(1, sizeof *r);
    if (!r) return no_memory(path, err);
    r->m = m;
    r->log = o->log;
    r->may_wait = o->unlisted ? o->unlisted : SYNC_BYTES;
    r->journal.fd = -1;
    stretto_status s = open_into(r, path, o, err);
    if (s != STRETTO_OK) rewrite_close(r, false);
    else *out = r;
    return s;
}

static stretto_status list_waiting(struct rewrite *r, struct error *err);

void rewrite_close(struct rewrite *r, bool keep)
{
    if (!r) return;
    bool unfinished = r->begun && !r->finished;
    if (unfinished && keep && list_waiting(r, NULL) == STRETTO_OK) {
        journal_close(&r->journal, false);
        gguf_writer_leave(r->w);
    } else if (r->found && !r->begun) {
        gguf_writer_leave(r->w);
    } else {
        journal_close(&r->journal, unfinished);
        gguf_writer_close(r->w);
    }
    file_map_close(&r->part);
    for (size_t i = 0; i < r->n_changes; i++) change_done(&r->changes[i]);
    for (size_t i = 0; i < r->n; i++)
        if (!r->list[i].from) mem_free((char *)(uintptr_t)r->list[i].name);
    mem_free(r->changes);
    mem_free(r->list);
    mem_free(r->stored);
    mem_free(r->names);
    mem_free(r->number);
    mem_free(r->waiting);
    mem_free(r->hash);
    mem_free(r->path);
    mem_free(r->state);
    mem_free(r->recipe);
    mem_free(r);
}

/* ---- beginning ------------------------------------------------------------------------------ */

static uint64_t hash_tensor(uint64_t h, const struct source_tensor *t)
{
    h = hash_text(h, t->name);
    h = hash_bytes(h, t->dims, sizeof t->dims);
    h = random_mix(h ^ (uint64_t)t->type);
    if (t->bytes <= SAMPLES * SAMPLE_BYTES) return hash_bytes(h, t->data, t->bytes);
    for (size_t i = 0; i < SAMPLES; i++) {
        size_t at = (t->bytes - SAMPLE_BYTES) / (SAMPLES - 1) * i;
        h = hash_bytes(h, (const unsigned char *)t->data + at, SAMPLE_BYTES);
    }
    return h;
}

/* What is done to what: the recipe, and the source by its tensors' places, samples of their bytes and the time of
 * its last change. Its metadata are compared with the header that was written. */
static uint64_t pass_number(const struct rewrite *r)
{
    uint64_t h = hash_text(1, r->recipe);
    struct stat st;
    if (stat(source_path(r->m->source), &st) == 0) {
        h = random_mix(h ^ (uint64_t)st.st_mtim.tv_sec);
        h = random_mix(h ^ (uint64_t)st.st_mtim.tv_nsec);
    }
    for (size_t i = 0; i < r->n; i++)
        if (r->list[i].from) h = hash_tensor(h, r->list[i].from);
    return h;
}

static stretto_status map_part(struct rewrite *r, struct error *err)
{
    return r->part.data ? STRETTO_OK : file_map_open(&r->part, gguf_part_path(r->w), err);
}

static uint64_t hash_in_part(const struct rewrite *r, size_t i)
{
    uint64_t bytes, at = gguf_place(r->w, r->number[i], &bytes);
    return hash_bytes(0, r->part.data + at, (size_t)bytes);
}

/* Tensors that the interrupted pass wrote whole. */
static stretto_status take_over(struct rewrite *r, const unsigned char *listed, const uint64_t *hash,
                                struct error *err)
{
    TRY(map_part(r, err));
    size_t found = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (r->list[i].drop || !listed[i] || hash_in_part(r, i) != hash[i]) continue;
        r->list[i].done = true;
        gguf_written(r->w, r->number[i]);
        found++;
    }
    log_say(&r->log, LOG_INFO, "going on with %s.part: %zu of %zu tensors are in it", r->path, found, r->n);
    return STRETTO_OK;
}

/* *keep: so many bytes of the journal are true of the file that is there; 0: it begins anew. */
static stretto_status resume(struct rewrite *r, uint64_t pass, size_t *keep, struct error *err)
{
    struct buffer text = buffer_make((size_t)1 << 25);
    unsigned char *listed = mem_alloc(r->n);
    uint64_t *hash = mem_alloc(r->n * sizeof *hash);
    bool same = false;
    *keep = 0;
    stretto_status s = listed && hash ? journal_read(r->state, &text, err) : no_memory(r->path, err);
    size_t good = s == STRETTO_OK && text.len ? journal_parse(text.data, text.len, pass, r->n, listed, hash) : 0;
    if (good) s = gguf_resume_data(r->w, &same, err);
    r->found = same;
    if (s == STRETTO_OK && same) s = take_over(r, listed, hash, err);
    if (s == STRETTO_OK && same) *keep = good;
    else if (s == STRETTO_OK && text.len)
        log_say(&r->log, LOG_INFO, "%s.part begins anew", r->path);
    buffer_done(&text);
    mem_free(listed);
    mem_free(hash);
    return s;
}

static stretto_status put_tensors(struct rewrite *r, struct error *err)
{
    size_t at = 0;
    for (size_t i = 0; i < r->n; i++) {
        const struct rewrite_tensor *t = &r->list[i];
        if (t->drop) continue;
        TRY(gguf_put_tensor(r->w, t->name, t->type, t->n_dims, t->dims, err));
        r->number[i] = at++;
    }
    return STRETTO_OK;
}

stretto_status rewrite_begin(struct rewrite *r, struct error *err)
{
    uint64_t pass = pass_number(r);
    size_t keep;
    r->number = mem_zalloc(r->n, sizeof *r->number);
    r->waiting = mem_zalloc(r->n, sizeof *r->waiting);
    r->hash = mem_zalloc(r->n, sizeof *r->hash);
    if (!r->number || !r->waiting || !r->hash) return no_memory(r->path, err);
    TRY(put_metadata(r, err));
    TRY(put_tensors(r, err));
    TRY(resume(r, pass, &keep, err));
    r->begun = true;
    TRY(journal_open(&r->journal, r->state, keep, pass, err));
    if (!keep) {
        TRY(gguf_begin_data(r->w, err));
        TRY(gguf_sync(r->w, err));
    }
    r->synced = clock_seconds();
    return STRETTO_OK;
}

uint64_t rewrite_file_bytes(const struct rewrite *r) { return gguf_file_bytes(r->w); }

/* ---- tensors -------------------------------------------------------------------------------- */

static stretto_status decode_rows(const struct source_tensor *t, const char *path, uint64_t first, size_t n,
                                  float *out, struct error *err)
{
    size_t width = (size_t)t->dims[0], row_bytes = dtype_bytes(t->type, width);
    for (size_t r = 0; r < n; r++) {
        float *row = out + r * width;
        dtype_table[t->type].decode((const unsigned char *)t->data + (first + r) * row_bytes, row, width);
        for (size_t i = 0; i < width; i++)
            if (!isfinite(row[i]))
                return fail(err, STRETTO_E_FORMAT, "%s: tensor %s holds a value that is not finite (row %llu)", path,
                            t->name, (unsigned long long)(first + r));
    }
    return STRETTO_OK;
}

/* The tensor of this name, whole; a slice of it may have the same name (Phi-3's ffn_up). */
static const struct source_tensor *source_of(const struct rewrite *r, const char *name)
{
    const struct rewrite_tensor *t = rewrite_find((struct rewrite *)(uintptr_t)r, name);
    return t && strcmp(t->name, name) == 0 ? t->from : source_tensor_find(r->m->source, name);
}

stretto_status rewrite_read_rows(const struct rewrite *r, const char *name, uint64_t first, size_t n, float *out,
                                 struct error *err)
{
    const struct source_tensor *t = source_of(r, name);
    const char *path = source_path(r->m->source);
    if (!t) return fail(err, STRETTO_E_ARG, "%s has no tensor %s", path, name);
    uint64_t rows = t->dims[1] * t->dims[2] * t->dims[3];
    if (t->transposed || t->stride || first > rows || n > rows - first)
        return fail(err, STRETTO_E_ARG, "%s: tensor %s does not lie in such rows", path, name);
    return decode_rows(t, path, first, n, out, err);
}

stretto_status rewrite_read(const struct rewrite *r, const char *name, float *out, struct error *err)
{
    const struct source_tensor *t = source_of(r, name);
    uint64_t rows = t ? t->dims[1] * t->dims[2] * t->dims[3] : 0;
    return rewrite_read_rows(r, name, 0, (size_t)rows, out, err);
}

/* Lines for all that is waiting, once it is on the disk. */
static stretto_status list_waiting(struct rewrite *r, struct error *err)
{
    if (!r->n_waiting) return STRETTO_OK;
    TRY(gguf_sync(r->w, err));
    for (size_t i = 0; i < r->n_waiting; i++)
        TRY(journal_add(&r->journal, r->waiting[i], r->hash[r->waiting[i]], err));
    r->n_waiting = 0;
    r->waiting_bytes = 0;
    r->synced = clock_seconds();
    return STRETTO_OK;
}

static stretto_status written(struct rewrite *r, size_t i, const void *bytes, size_t n, struct error *err)
{
    r->waiting[r->n_waiting++] = i;
    r->list[i].done = true;
    r->hash[i] = hash_bytes(0, bytes, n);
    r->waiting_bytes += n;
    if (r->waiting_bytes < r->may_wait && clock_seconds() - r->synced < SYNC_SECONDS) return STRETTO_OK;
    return list_waiting(r, err);
}

stretto_status rewrite_write(struct rewrite *r, const char *name, const void *bytes, size_t n, struct error *err)
{
    struct rewrite_tensor *t = rewrite_find(r, name);
    if (!r->begun || !t || t->drop || t->done)
        return fail(err, STRETTO_E_ARG, "%s has no tensor %s that is still to be written", r->path, name);
    size_t i = (size_t)(t - r->list);
    TRY(gguf_write_tensor(r->w, r->number[i], bytes, n, err));
    return written(r, i, bytes, n, err);
}

stretto_status rewrite_copy(struct rewrite *r, const char *name, struct error *err)
{
    const struct rewrite_tensor *t = rewrite_find(r, name);
    if (!t || t->type != t->from->type)
        return fail(err, STRETTO_E_ARG, "%s: tensor %s cannot be copied as it is", r->path, name);
    return rewrite_write(r, name, t->from->data, t->from->bytes, err);
}

static stretto_status find_param(void *ud, const char *name, uint32_t n_in, uint32_t n_out,
                                 struct param_bytes *out, struct error *err)
{
    struct rewrite *r = ud;
    TRY(model_param((void *)(uintptr_t)r->m, name, n_in, n_out, out, err));
    const struct rewrite_tensor *t = rewrite_find(r, name);
    if (!t || !t->done || memcmp(t->dims, t->from->dims, sizeof t->dims) != 0) return STRETTO_OK;
    TRY(map_part(r, err));
    bool vector = t->n_dims == 1;
    size_t width = vector ? 1 : (size_t)t->dims[0];
    size_t first = (size_t)((const unsigned char *)out->data - (const unsigned char *)t->from->data)
                   / dtype_bytes(t->from->type, width);
    out->data = r->part.data + gguf_place(r->w, r->number[t - r->list], NULL) + first * dtype_bytes(t->type, width);
    out->type = t->type;
    out->row_bytes = dtype_bytes(t->type, (size_t)t->dims[0]);
    return STRETTO_OK;
}

struct binding rewrite_binding(struct rewrite *r) { return (struct binding){ r, find_param }; }

stretto_status rewrite_finish(struct rewrite *r, struct error *err)
{
    for (size_t i = 0; i < r->n; i++)
        if (!r->list[i].drop && !r->list[i].done)
            return fail(err, STRETTO_E_ARG, "%s: tensor %s was not written", r->path, r->list[i].name);
    TRY(gguf_finish(r->w, err));
    r->finished = true;
    journal_close(&r->journal, true);
    return STRETTO_OK;
}

stretto_status rewrite_set_string(const char *path, const char *key, const char *value, struct error *err)
{
    return gguf_set_string(path, key, value, strlen(value), err);
}
