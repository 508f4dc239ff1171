#include "format/extend.h"
#include "base/memory.h"
#include "format/source_int.h"
#include "tensor/encode.h"
#include <stdio.h>
#include <string.h>

enum { TENSORS = 3 };
static const char *const with_tokens[TENSORS] = { "token_embd.weight", "output.weight", "output.bias" };

static struct meta *key_of(struct source *s, const char *name)
{
    return (struct meta *)(uintptr_t)source_meta(s, name);
}

/* ---- the vocabulary -------------------------------------------------------------------------- */

static stretto_status more_strings(struct source *s, struct meta *k, const struct more_tokens *m, struct error *err)
{
    size_t bytes = k->raw_bytes + m->n * sizeof(uint64_t) + m->spelled_at[m->n];
    unsigned char *raw = bytes <= UINT32_MAX ? pool_take(&s->pool, bytes) : NULL;
    uint32_t *at = pool_take(&s->pool, (k->n + m->n) * sizeof *at);
    if (!raw || !at) return source_no_memory(s, err);
    memcpy(raw, k->raw, k->raw_bytes);
    memcpy(at, k->at, k->n * sizeof *at);
    size_t end = k->raw_bytes;
    for (size_t i = 0; i < m->n; i++) {
        uint64_t length = m->spelled_at[i + 1] - m->spelled_at[i];
        at[k->n + i] = (uint32_t)end;
        memcpy(raw + end, &length, sizeof length);
        memcpy(raw + end + sizeof length, m->spelled + m->spelled_at[i], (size_t)length);
        end += sizeof length + (size_t)length;
    }
    k->raw = raw;
    k->raw_bytes = bytes;
    k->at = at;
    k->n += m->n;
    return STRETTO_OK;
}

/* Elements of 4 bytes, all the same. */
static stretto_status more_of(struct source *s, const char *name, const void *element, size_t n, struct error *err)
{
    struct meta *k = key_of(s, name);
    if (!k || k->type != V_ARRAY || k->raw_bytes != k->n * 4) return STRETTO_OK;
    unsigned char *raw = pool_take(&s->pool, (k->n + n) * 4);
    if (!raw) return source_no_memory(s, err);
    memcpy(raw, k->raw, k->raw_bytes);
    for (size_t i = 0; i < n; i++) memcpy(raw + k->raw_bytes + i * 4, element, 4);
    k->raw = raw;
    k->n += n;
    k->raw_bytes = k->n * 4;
    return STRETTO_OK;
}

static stretto_status new_key(struct source *s, const char *name, enum value_type type, const void *v, size_t n,
                              struct error *err)
{
    struct meta *k = source_add_key(s, err);
    if (!k) return STRETTO_E_NOMEM;
    bool array = type == V_ARRAY;
    *k = (struct meta){ .name = pool_strndup(&s->pool, name, strlen(name)), .type = type,
                        .element = array ? V_I32 : type, .raw_bytes = n * 4, .n = n };
    unsigned char *raw = pool_take(&s->pool, n * 4);
    if (!k->name || !raw) return source_no_memory(s, err);
    memcpy(raw, v, n * 4);
    k->raw = raw;
    return STRETTO_OK;
}

/* The list of tokens must have been told to be as long as the tensors are. */
static stretto_status more_vocabulary(struct source *s, const struct more_tokens *m, struct error *err)
{
    /* Merges of SentencePiece go by scores: these are looked for last, by those who look at all. */
    const float last = -1e6f;
    const uint32_t normal = 1, version = 1;
    struct meta *tokens = key_of(s, "tokenizer.ggml.tokens"), *size;
    uint32_t first = (uint32_t)tokens->n, total = first + (uint32_t)m->n;
    char name[96];
    uint32_t *length = mem_alloc(m->n * sizeof *length);
    if (!length) return source_no_memory(s, err);
    for (size_t i = 0; i < m->n; i++) length[i] = m->at[i + 1] - m->at[i];
    stretto_status st = more_strings(s, tokens, m, err);
    if (st == STRETTO_OK) st = more_of(s, "tokenizer.ggml.scores", &last, m->n, err);
    if (st == STRETTO_OK) st = more_of(s, "tokenizer.ggml.token_type", &normal, m->n, err);
    snprintf(name, sizeof name, "%.60s.vocab_size", s->arch);
    size = key_of(s, name);
    unsigned char *raw = size && size->raw_bytes == 4 ? pool_take(&s->pool, 4) : NULL;
    if (raw) {
        memcpy(raw, &total, 4);
        size->raw = raw;
    }
    if (st == STRETTO_OK) st = new_key(s, "stretto.phrases.version", V_U32, &version, 1, err);
    if (st == STRETTO_OK) st = new_key(s, "stretto.phrases.first", V_U32, &first, 1, err);
    if (st == STRETTO_OK) st = new_key(s, "stretto.phrases.lengths", V_ARRAY, length, m->n, err);
    if (st == STRETTO_OK) st = new_key(s, "stretto.phrases.pieces", V_ARRAY, m->piece, m->at[m->n], err);
    mem_free(length);
    return st == STRETTO_OK ? source_index_keys(s, err) : st;
}

/* ---- tensors --------------------------------------------------------------------------------- */

struct rows { enum dtype type; const unsigned char *from; unsigned char *to; size_t width, bytes; };

static void encode(const struct rows *r, const float *in, void *out)
{
    if (dtype_table[r->type].block > 1) encode_search(r->type, in, NULL, out, r->width);
    else dtype_table[r->type].encode(in, out, r->width);
}

/* Means are added up in the order of the pieces. */
static void mean_of(const struct rows *r, const int32_t *piece, size_t n, float *sum, float *one)
{
    memset(sum, 0, r->width * sizeof *sum);
    for (size_t i = 0; i < n; i++) {
        dtype_table[r->type].decode(r->from + (size_t)piece[i] * r->bytes, one, r->width);
        for (size_t c = 0; c < r->width; c++) sum[c] += one[c];
    }
    for (size_t c = 0; c < r->width; c++) sum[c] /= (float)n;
}

static stretto_status more_rows(struct source *s, struct source_tensor *t, const struct more_tokens *m,
                                struct error *err)
{
    bool vector = t->n_dims == 1;
    size_t width = vector ? 1 : (size_t)t->dims[0], old = (size_t)t->dims[!vector];
    struct rows r = { .type = t->type, .from = t->data, .width = width, .bytes = dtype_bytes(t->type, width) };
    r.to = pool_take(&s->pool, t->bytes + m->n * r.bytes);
    float *work = mem_alloc(2 * width * sizeof *work);
    if (!r.to || !work) {
        mem_free(work);
        return source_no_memory(s, err);
    }
    memcpy(r.to, t->data, t->bytes);
    const float *given = m->rows ? m->rows(m->ud, t->name, (uint32_t)width) : NULL;
    for (size_t i = 0; i < m->n; i++) {
        const int32_t *piece = m->piece + m->at[i];
        if (!given) mean_of(&r, piece, m->at[i + 1] - m->at[i], work, work + width);
        encode(&r, given ? given + i * width : work, r.to + t->bytes + i * r.bytes);
    }
    mem_free(work);
    t->data = r.to;
    t->memory = true;
    t->dims[!vector] = old + m->n;
    t->bytes += m->n * r.bytes;
    return STRETTO_OK;
}

static struct source_tensor *tensor_of(const struct source *s, const char *name)
{
    return (struct source_tensor *)(uintptr_t)source_tensor_find(s, name);
}

static stretto_status check(const struct source *s, const struct more_tokens *m, struct error *err)
{
    const struct meta *tokens = source_meta(s, "tokenizer.ggml.tokens");
    if (source_has(s, "stretto.phrases.version"))
        return fail(err, STRETTO_E_ARG, "%s has phrases already: it learns with those that it has, and gets no others",
                    s->path);
    if (!tokens || tokens->type != V_ARRAY || tokens->element != V_STRING || s->n_files)
        return fail(err, STRETTO_E_UNSUP, "%s has no vocabulary that could be added to: phrases need a GGUF file, "
                    "which stretto convert makes of a folder", s->path);
    for (int i = 0; i < TENSORS; i++) {
        const struct source_tensor *t = source_tensor_find(s, with_tokens[i]);
        if (t && (t->stride || t->transposed || t->dims[t->n_dims > 1] != tokens->n))
            return fail(err, STRETTO_E_FORMAT, "%s has %zu tokens, and %s has %llu rows: phrases need a row for each "
                        "token, and no others", s->path, tokens->n, t->name,
                        (unsigned long long)t->dims[t->n_dims > 1]);
    }
    for (size_t i = 0; i < m->at[m->n]; i++)
        if (m->piece[i] < 0 || (size_t)m->piece[i] >= tokens->n)
            return fail(err, STRETTO_E_FORMAT, "a phrase is made of token %d, which %s has not", m->piece[i], s->path);
    return STRETTO_OK;
}

stretto_status source_extend(struct source *s, const struct more_tokens *m, struct error *err)
{
    TRY(check(s, m, err));
    if (!m->n) return STRETTO_OK;
    s->plain = pool_take(&s->pool, TENSORS * sizeof *s->plain);
    if (!s->plain) return source_no_memory(s, err);
    for (int i = 0; i < TENSORS; i++) {
        struct source_tensor *t = tensor_of(s, with_tokens[i]);
        if (!t) continue;
        s->plain[s->n_plain++] = *t;
        TRY(more_rows(s, t, m, err));
    }
    return more_vocabulary(s, m, err);
}

const struct source_tensor *source_tensor_plain(const struct source *s, const struct source_tensor *t)
{
    for (size_t i = 0; i < s->n_plain; i++)
        if (s->plain[i].name == t->name) return &s->plain[i];
    return t;
}
