#include "text/vocab.h"
#include "base/memory.h"
#include <string.h>

void vocab_done(struct vocab *v)
{
    mem_free(v->piece);
    mem_free(v->type);
    mem_free(v->score);
    mem_free(v->outside);
    mem_free(v->text);
    mem_free(v->slot);
    *v = (struct vocab){ 0 };
}

/* Eight bytes a turn, mixed by a multiply and a shift. Not keyed: a hostile file can make lookups slow
 * for itself, bounded by VOCAB_MAX, and nobody else's. */
static uint64_t hash_bytes(const char *p, size_t n)
{
    uint64_t h = UINT64_C(0x9E3779B97F4A7C15) ^ n;
    while (n >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = (h ^ w) * UINT64_C(0xD6E8FEB86659FD93);
        h ^= h >> 32;
        p += 8;
        n -= 8;
    }
    uint64_t w = 0;
    if (n) memcpy(&w, p, n);
    h = (h ^ w) * UINT64_C(0xD6E8FEB86659FD93);
    h ^= h >> 29;
    h *= UINT64_C(0xD6E8FEB86659FD93);
    return h ^ h >> 32;
}

static stretto_status grow_ids(struct vocab *v, size_t n, struct error *err)
{
    if (n > VOCAB_MAX)
        return fail(err, STRETTO_E_FORMAT, "the vocabulary has %zu tokens; at most %d are accepted",
                    n, VOCAB_MAX);
    if (n <= v->cap) return STRETTO_OK;
    size_t cap = n + n / 4 + 16;
    struct piece *piece = mem_resize(v->piece, cap * sizeof *piece);
    if (piece) v->piece = piece;
    unsigned char *type = mem_resize(v->type, cap);
    if (type) v->type = type;
    float *score = mem_resize(v->score, cap * sizeof *score);
    if (score) v->score = score;
    bool *outside = mem_resize(v->outside, cap * sizeof *outside);
    if (outside) v->outside = outside;
    if (!piece || !type || !score || !outside)
        return fail(err, STRETTO_E_NOMEM, "no memory for a vocabulary of %zu tokens", n);
    v->cap = cap;
    return STRETTO_OK;
}

stretto_status vocab_resize(struct vocab *v, size_t n, struct error *err)
{
    TRY(grow_ids(v, n, err));
    for (size_t i = v->n; i < n; i++) {
        v->piece[i] = (struct piece){ 0 };
        v->type[i] = TOKEN_UNUSED;
        v->score[i] = 0;
        v->outside[i] = false;
    }
    if (n > v->n) v->n = n;
    if (v->n > v->n_all) v->n_all = v->n;
    return STRETTO_OK;
}

static bool same(const struct vocab *v, uint32_t id, const char *p, size_t n)
{
    return v->piece[id].len == n && !memcmp(v->text + v->piece[id].at, p, n);
}

/* The slot that holds the string, or the free one where it belongs. The part of the hash kept beside
 * the id spares most looks at strings, which are cache misses in a large vocabulary. */
static struct vocab_slot *slot_of(const struct vocab *v, const char *p, size_t n, uint64_t h)
{
    size_t mask = v->n_slots - 1, i = (size_t)h & mask;
    uint32_t tag = (uint32_t)(h >> 32);
    while (v->slot[i].id_plus_1 &&
           (v->slot[i].hash != tag || !same(v, v->slot[i].id_plus_1 - 1, p, n)))
        i = (i + 1) & mask;
    return &v->slot[i];
}

static stretto_status grow_slots(struct vocab *v, struct error *err)
{
    if (v->n_slots && (v->n_used + 1) * 4 <= v->n_slots * 3) return STRETTO_OK;
    size_t n = v->n_slots ? v->n_slots * 2 : 256;
    while (n < v->n_all * 2) n *= 2;
    struct vocab_slot *slot = mem_zalloc(n, sizeof *slot), *old = v->slot;
    if (!slot) return fail(err, STRETTO_E_NOMEM, "no memory for a vocabulary of %zu tokens", v->n_all);
    size_t n_old = v->n_slots;
    v->slot = slot;
    v->n_slots = n;
    for (size_t i = 0; i < n_old; i++) {
        if (!old[i].id_plus_1) continue;
        struct piece s = v->piece[old[i].id_plus_1 - 1];
        *slot_of(v, v->text + s.at, s.len, hash_bytes(v->text + s.at, s.len)) = old[i];
    }
    mem_free(old);
    return STRETTO_OK;
}

static stretto_status add_text(struct vocab *v, const char *p, size_t n, struct error *err)
{
    if (v->text_cap - v->text_len < n) {
        size_t cap = v->text_cap + v->text_cap / 2 + n + 4096;
        char *text = cap <= UINT32_MAX ? mem_resize(v->text, cap) : NULL;
        if (!text) return fail(err, STRETTO_E_NOMEM, "no memory for the strings of the vocabulary");
        v->text = text;
        v->text_cap = cap;
    }
    memcpy(v->text + v->text_len, p, n);
    v->text_len += n;
    return STRETTO_OK;
}

static stretto_status put(struct vocab *v, size_t id, const char *p, size_t n, struct error *err)
{
    if (n > VOCAB_MAX_PIECE)
        return fail(err, STRETTO_E_FORMAT, "token %zu is %zu bytes long; at most %d are accepted", id,
                    n, VOCAB_MAX_PIECE);
    if (!n) { v->piece[id] = (struct piece){ 0 }; return STRETTO_OK; }
    TRY(grow_slots(v, err));
    size_t at = v->text_len;
    TRY(add_text(v, p, n, err));
    uint64_t h = hash_bytes(p, n);
    struct vocab_slot *s = slot_of(v, p, n, h);
    if (!s->id_plus_1) v->n_used++;
    v->piece[id] = (struct piece){ (uint32_t)at, (uint32_t)n };
    *s = (struct vocab_slot){ (uint32_t)id + 1, (uint32_t)(h >> 32) };
    return STRETTO_OK;
}

stretto_status vocab_set(struct vocab *v, size_t id, const char *p, size_t n, struct error *err)
{
    if (id >= v->n) TRY(vocab_resize(v, id + 1, err));
    if (v->piece[id].len)
        return fail(err, STRETTO_E_FORMAT, "token id %zu is given to two strings", id);
    TRY(put(v, id, p, n, err));
    if (n > v->max_len) v->max_len = n;
    return STRETTO_OK;
}

static int32_t find_any(const struct vocab *v, const char *p, size_t n)
{
    if (!v->n_slots || !n) return -1;
    return (int32_t)slot_of(v, p, n, hash_bytes(p, n))->id_plus_1 - 1;
}

void vocab_prefetch(const struct vocab *v, const char *p, size_t n)
{
    if (v->n_slots) __builtin_prefetch(&v->slot[(size_t)hash_bytes(p, n) & (v->n_slots - 1)]);
}

int32_t vocab_find(const struct vocab *v, const char *p, size_t n)
{
    int32_t id = find_any(v, p, n);
    return id >= 0 && (size_t)id < v->n ? id : -1;
}

int32_t vocab_piece(const struct vocab *v, const char *p, size_t n)
{
    int32_t id = vocab_find(v, p, n);
    return id >= 0 && !v->outside[id] ? id : -1;
}

int32_t vocab_piece_any(const struct vocab *v, const char *p, size_t n)
{
    int32_t id = find_any(v, p, n);
    return id >= 0 && (size_t)id < v->n && v->outside[id] ? -1 : id;
}

stretto_status vocab_intern(struct vocab *v, const char *p, size_t n, int32_t *id, struct error *err)
{
    *id = find_any(v, p, n);
    if (*id >= 0 || !n) return STRETTO_OK;
    TRY(grow_ids(v, v->n_all + 1, err));
    TRY(put(v, v->n_all, p, n, err));
    *id = (int32_t)v->n_all++;
    return STRETTO_OK;
}

int32_t vocab_byte(const struct vocab *v, unsigned char byte)
{
    static const char hex[] = "0123456789ABCDEF";
    char name[6] = { '<', '0', 'x', hex[byte >> 4], hex[byte & 15], '>' };
    return vocab_piece(v, name, sizeof name);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10
         : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int byte_spelled(const char *p, size_t n)
{
    if (n != 6 || memcmp(p, "<0x", 3) || p[5] != '>') return -1;
    int hi = hex_digit(p[3]), lo = hex_digit(p[4]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}
