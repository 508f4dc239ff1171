/* Fused tensors become slices: some models store q|k|v as one matrix (phi-3, GPT-2) and gate|up as
 * another (phi-3), and the tensors themselves show it. The rows of each piece are contiguous (in GPT-2's
 * Hugging Face files they are columns), so a slice is another view of the same bytes. The builder never
 * meets a fused tensor; `convert` finds them whole in s->stored. */
#include "format/source_int.h"
#include "base/memory.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct piece { const char *name; uint64_t rows; };

/* "blk.3.attn_qkv.weight", "attn_qkv" -> "blk.3." and ".weight". */
static bool split_name(const char *name, const char *middle, size_t *head, const char **tail)
{
    const char *at = strncmp(name, "blk.", 4) == 0 ? strchr(name + 4, '.') : NULL;
    size_t n = strlen(middle);
    *head = 0;
    *tail = "";
    if (!at || strncmp(at + 1, middle, n) != 0 || at[1 + n] != '.') return false;
    *head = (size_t)(at + 1 - name);
    *tail = at + 1 + n;
    return true;
}

/* The slice [from, from + rows) of the rows of `t` (a vector's rows are its elements). */
static bool slice(struct source *s, const struct source_tensor *t, const struct piece *piece,
                  uint64_t from, size_t head, const char *tail, struct source_tensor *out)
{
    char name[MAX_NAME_LENGTH + 1];
    int n = snprintf(name, sizeof name, "%.*s%s%s", (int)head, t->name, piece->name, tail);
    if (n < 0 || (size_t)n >= sizeof name) return false;
    bool vector = t->n_dims == 1;
    size_t element = dtype_bytes(t->type, t->transposed || vector ? 1 : (size_t)t->dims[0]);
    *out = *t;
    out->name = pool_strndup(&s->pool, name, (size_t)n);
    out->dims[vector ? 0 : 1] = piece->rows;
    out->data = (const unsigned char *)t->data + (size_t)from * element;
    out->bytes = dtype_bytes(t->type, (size_t)(out->dims[0] * out->dims[1]));
    if (t->transposed) out->stride = (size_t)t->dims[1];
    return out->name != NULL;
}

/* Puts the first piece in the fused tensor's place and the others behind; keeps the whole in
 * `stored`. */
static stretto_status cut(struct source *s, size_t i, const char *middle,
                          const struct piece *pieces, size_t n, struct error *err)
{
    struct source_tensor whole = s->tensors[i];
    size_t head, from = 0;
    const char *tail;
    (void)split_name(whole.name, middle, &head, &tail);      /* it did match, or we were not here */
    if (s->n_stored == s->cap_stored) {
        size_t cap = s->cap_stored ? 2 * s->cap_stored : 64;
        struct source_tensor *rows = mem_resize(s->stored, cap * sizeof *rows);
        if (!rows) return source_no_memory(s, err);
        s->stored = rows;
        s->cap_stored = cap;
    }
    s->stored[s->n_stored++] = whole;
    for (size_t k = 0; k < n; k++) {
        struct source_tensor *t = k ? source_add_tensor(s, err) : &s->tensors[i];
        if (!t || !slice(s, &whole, &pieces[k], from, head, tail, t))
            return source_no_memory(s, err);
        from += pieces[k].rows;
    }
    return STRETTO_OK;
}

static uint64_t rows_of(const struct source_tensor *t) { return t->dims[t->n_dims == 1 ? 0 : 1]; }

/* Vectors of block types cannot be cut between blocks; no file stores biases so. */
static bool can_cut(const struct source_tensor *t)
{
    return t->n_dims <= 2 && (t->n_dims == 2 || dtype_table[t->type].block == 1);
}

/* A size of one layer, whether the file says it once or for each; *v stays where it has no such key, and
 * false means that it says something else, which the builder refuses by name. */
static bool size_in(const struct source *s, const char *key, uint64_t layer, uint64_t *v)
{
    int64_t one;
    if (!source_has(s, key) || source_u64(s, key, v)) return true;
    if (!source_array_i64(s, key, (size_t)layer, &one) || one < 0) return false;
    *v = (uint64_t)one;
    return true;
}

static stretto_status cut_attention(struct source *s, size_t i, uint64_t layer, struct error *err)
{
    const struct source_tensor *t = &s->tensors[i];
    uint64_t width = 0, heads = 0;
    if (!size_in(s, ".embedding_length", 0, &width)
        || !size_in(s, ".attention.head_count", layer, &heads) || heads == 0)
        return STRETTO_OK; /* a vocabulary, or sizes that are none; the builder says which */
    uint64_t heads_kv = heads, first = heads, key;
    if (!size_in(s, ".attention.head_count", 0, &first) || first == 0) return STRETTO_OK;
    key = width / first;                               /* heads are as large as the first layer's */
    if (!size_in(s, ".attention.head_count_kv", layer, &heads_kv)
        || !size_in(s, ".attention.key_length", layer, &key)) return STRETTO_OK;
    enum { MOST = 1 << 24 };                           /* so that no sum below overflows */
    if (heads > MOST || heads_kv > MOST || key > MOST)
        return fail(err, STRETTO_E_FORMAT, "%s: the sizes of its attention are not possible",
                    s->path);
    const struct piece qkv[] = { { "attn_q", heads * key }, { "attn_k", heads_kv * key },
                                 { "attn_v", heads_kv * key } };
    uint64_t all = (heads + 2 * heads_kv) * key;
    if (all == 0 || rows_of(t) != all || !can_cut(t))
        return fail(err, STRETTO_E_FORMAT,
                    "%s: tensor %s has %llu rows where its metadata ask for %llu", s->path, t->name,
                    (unsigned long long)rows_of(t), (unsigned long long)all);
    if (!qkv[0].rows || !qkv[1].rows)
        return fail(err, STRETTO_E_FORMAT, "%s: its attention has no heads", s->path);
    return cut(s, i, "attn_qkv", qkv, 3, err);
}

/* Of a file without gates, "ffn_up" holds both when it has the rows of both. */
static stretto_status cut_gate(struct source *s, size_t i, uint64_t layer, struct error *err)
{
    const struct source_tensor *t = &s->tensors[i];
    uint64_t feed = 0;
    if (!size_in(s, ".feed_forward_length", layer, &feed) || feed == 0 || feed != rows_of(t) / 2
        || rows_of(t) % 2 || !can_cut(t)) return STRETTO_OK;
    const struct piece gate_up[] = { { "ffn_gate", feed }, { "ffn_up", feed } };
    return cut(s, i, "ffn_up", gate_up, 2, err);
}

static bool holds(const struct source *s, const char *middle)
{
    size_t head;
    const char *tail;
    for (size_t i = 0; i < s->n_tensors; i++)
        if (split_name(s->tensors[i].name, middle, &head, &tail)) return true;
    return false;
}

stretto_status source_unfuse(struct source *s, struct error *err)
{
    bool gates = holds(s, "ffn_gate");
    for (size_t i = 0, n = s->n_tensors; i < n; i++) {
        const char *name = s->tensors[i].name, *tail;
        size_t head;
        uint64_t layer = strncmp(name, "blk.", 4) == 0 ? strtoull(name + 4, NULL, 10) : 0;
        if (split_name(name, "attn_qkv", &head, &tail)) TRY(cut_attention(s, i, layer, err));
        else if (!gates && split_name(name, "ffn_up", &head, &tail)) TRY(cut_gate(s, i, layer, err));
    }
    return STRETTO_OK;
}
