#include "format/adapter_tokens.h"
#include "base/memory.h"
#include "format/gguf_write.h"
#include "tensor/dtype.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define OWN(name) "stretto.phrases." name

enum { TOKENS_MOST = 1 << 16, PIECES_MOST = 1 << 22, SPELLED_MOST = 1 << 28 };

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

static const float *rows_of(void *ud, const char *tensor, uint32_t width)
{
    const struct adapter_tokens *a = ud;
    for (size_t i = 0; i < a->n_tables; i++)
        if (strcmp(a->table[i].tensor, tensor) == 0 && a->table[i].width == width) return a->table[i].values;
    return NULL;
}

void adapter_tokens_done(struct adapter_tokens *a)
{
    for (size_t i = 0; i < a->n_tables; i++) mem_free(a->table[i].values);
    mem_free((void *)(uintptr_t)a->more.spelled);
    mem_free((void *)(uintptr_t)a->more.spelled_at);
    mem_free((void *)(uintptr_t)a->more.at);
    mem_free((void *)(uintptr_t)a->more.piece);
    mem_free(a->length);
    *a = (struct adapter_tokens){ 0 };
}

static bool make_room(struct adapter_tokens *a, size_t n, size_t pieces, size_t spelled)
{
    a->more = (struct more_tokens){ .n = n, .spelled = mem_zalloc(spelled + 1, 1),
                                    .spelled_at = mem_zalloc(n + 1, sizeof(uint32_t)),
                                    .at = mem_zalloc(n + 1, sizeof(uint32_t)),
                                    .piece = mem_zalloc(pieces + 1, sizeof(int32_t)), .rows = rows_of, .ud = a };
    a->length = mem_zalloc(n + 1, sizeof *a->length);
    return a->more.spelled && a->more.spelled_at && a->more.at && a->more.piece && a->length;
}

stretto_status adapter_tokens_make(struct adapter_tokens *out, const struct more_tokens *of, struct error *err)
{
    *out = (struct adapter_tokens){ 0 };
    if (!make_room(out, of->n, of->at[of->n], of->spelled_at[of->n])) {
        adapter_tokens_done(out);
        return no_memory(err);
    }
    memcpy((void *)(uintptr_t)out->more.spelled, of->spelled, of->spelled_at[of->n]);
    memcpy((void *)(uintptr_t)out->more.spelled_at, of->spelled_at, (of->n + 1) * sizeof *of->spelled_at);
    memcpy((void *)(uintptr_t)out->more.at, of->at, (of->n + 1) * sizeof *of->at);
    for (size_t i = 0; i < of->n; i++) out->length[i] = (int32_t)(of->at[i + 1] - of->at[i]);
    memcpy((void *)(uintptr_t)out->more.piece, of->piece, of->at[of->n] * sizeof *of->piece);
    return STRETTO_OK;
}

float *adapter_tokens_table(struct adapter_tokens *a, const char *tensor, uint32_t width, struct error *err)
{
    if (a->n_tables == ADAPTER_TABLES || strlen(tensor) >= ADAPTER_NAME) {
        fail(err, STRETTO_E_FORMAT, "rows for a third table, %.80s", tensor);
        return NULL;
    }
    float *values = mem_zalloc(a->more.n * width, sizeof *values);
    if (!values) no_memory(err);
    else {
        snprintf(a->table[a->n_tables].tensor, ADAPTER_NAME, "%s", tensor);
        a->table[a->n_tables].width = width;
        a->table[a->n_tables++].values = values;
    }
    return values;
}

/* ---- reading --------------------------------------------------------------------------------- */

static stretto_status spoilt(const struct source *s, const char *what, struct error *err)
{
    return fail(err, STRETTO_E_FORMAT, "%s: %s is not as a training writes it; train the adapter again", source_path(s),
                what);
}

static stretto_status read_lists(struct adapter_tokens *a, const struct source *s, size_t n, size_t pieces,
                                 struct error *err)
{
    struct source_str text;
    size_t spelled = 0;
    int64_t v;
    for (size_t i = 0; i < n; i++) {
        if (!source_array_string(s, OWN("texts"), i, &text)) return spoilt(s, OWN("texts"), err);
        spelled += text.n;
    }
    if (spelled > SPELLED_MOST) return spoilt(s, OWN("texts"), err);
    if (!make_room(a, n, pieces, spelled)) return no_memory(err);
    uint32_t *at = (uint32_t *)(uintptr_t)a->more.at, *spelled_at = (uint32_t *)(uintptr_t)a->more.spelled_at;
    for (size_t i = 0; i < n; i++) {
        source_array_string(s, OWN("texts"), i, &text);
        if (!source_array_i64(s, OWN("lengths"), i, &v) || v < 1 || (uint64_t)v > pieces - at[i])
            return spoilt(s, OWN("lengths"), err);
        at[i + 1] = at[i] + (uint32_t)v;
        a->length[i] = (int32_t)v;
        spelled_at[i + 1] = spelled_at[i] + (uint32_t)text.n;
        memcpy((char *)(uintptr_t)a->more.spelled + spelled_at[i], text.p, text.n);
    }
    for (size_t i = 0; i < pieces; i++) {
        if (!source_array_i64(s, OWN("pieces"), i, &v) || v < 0 || v > INT32_MAX) return spoilt(s, OWN("pieces"), err);
        ((int32_t *)(uintptr_t)a->more.piece)[i] = (int32_t)v;
    }
    return at[n] == pieces ? STRETTO_OK : spoilt(s, OWN("lengths"), err);
}

static stretto_status read_table(struct adapter_tokens *a, const struct source *s, const struct source_tensor *t,
                                 size_t name, struct error *err)
{
    char tensor[ADAPTER_NAME];
    if (t->n_dims != 2 || t->dims[1] != a->more.n || t->dims[0] > UINT32_MAX || name >= sizeof tensor)
        return spoilt(s, t->name, err);
    snprintf(tensor, sizeof tensor, "%.*s", (int)name, t->name);
    size_t n = (size_t)(t->dims[0] * t->dims[1]);
    float *values = adapter_tokens_table(a, tensor, (uint32_t)t->dims[0], err);
    if (!values) return a->n_tables == ADAPTER_TABLES ? STRETTO_E_FORMAT : STRETTO_E_NOMEM;
    dtype_table[t->type].decode(t->data, values, n);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i])) return spoilt(s, t->name, err);
    return STRETTO_OK;
}

static stretto_status read_all(struct adapter_tokens *a, const struct source *s, struct error *err)
{
    enum source_kind kind;
    size_t n = 0, lengths = 0, pieces = 0;
    uint64_t version;
    if (!source_has(s, OWN("version"))) return STRETTO_OK;
    if (!source_u64(s, OWN("version"), &version) || version != 1)
        return fail(err, STRETTO_E_UNSUP, "%s has phrases of another version than 1: use a newer version of this "
                    "program", source_path(s));
    bool lists = source_array(s, OWN("texts"), &kind, &n) && source_array(s, OWN("lengths"), &kind, &lengths)
              && source_array(s, OWN("pieces"), &kind, &pieces);
    if (!lists || !n || n != lengths || n > TOKENS_MOST || pieces > PIECES_MOST)
        return spoilt(s, "its list of phrases", err);
    TRY(read_lists(a, s, n, pieces, err));
    for (size_t i = 0; i < source_tensor_count(s); i++) {
        const struct source_tensor *t = source_tensor_at(s, i);
        const char *dot = strrchr(t->name, '.');
        if (dot && strcmp(dot, ".rows") == 0) TRY(read_table(a, s, t, (size_t)(dot - t->name), err));
    }
    return a->n_tables ? STRETTO_OK : spoilt(s, "its rows for phrases", err);
}

stretto_status adapter_tokens_read(struct adapter_tokens *out, const char *path, struct error *err)
{
    struct source *s;
    struct stat st;
    *out = (struct adapter_tokens){ 0 };
    if (stat(path, &st) != 0 || S_ISDIR(st.st_mode)) return STRETTO_OK;
    TRY(source_open(&s, path, err));
    stretto_status status = read_all(out, s, err);
    source_close(s);
    if (status != STRETTO_OK) adapter_tokens_done(out);
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

void adapter_tokens_keys(const struct adapter_tokens *a, struct gguf_writer *w)
{
    const struct more_tokens *m = &a->more;
    gguf_put_u32(w, OWN("version"), 1);
    gguf_put_i32s(w, OWN("lengths"), a->length, m->n);
    gguf_put_i32s(w, OWN("pieces"), m->piece, m->at[m->n]);
    gguf_put_strings(w, OWN("texts"), m->n);
    for (size_t i = 0; i < m->n; i++)
        gguf_put_item(w, m->spelled + m->spelled_at[i], m->spelled_at[i + 1] - m->spelled_at[i]);
}

stretto_status adapter_tokens_announce(const struct adapter_tokens *a, struct gguf_writer *w, struct error *err)
{
    for (size_t i = 0; i < a->n_tables; i++) {
        char name[ADAPTER_NAME + 8];
        const uint64_t dims[] = { a->table[i].width, a->more.n };
        snprintf(name, sizeof name, "%s.rows", a->table[i].tensor);
        TRY(gguf_put_tensor(w, name, DT_F32, 2, dims, err));
    }
    return STRETTO_OK;
}

stretto_status adapter_tokens_write(const struct adapter_tokens *a, struct gguf_writer *w, struct error *err)
{
    for (size_t i = 0; i < a->n_tables; i++)
        TRY(gguf_write(w, a->table[i].values, a->more.n * a->table[i].width * sizeof(float), err));
    return STRETTO_OK;
}
