#include "decode/ngram.h"
#include "base/random.h"

static const uint32_t lengths[NGRAM_KEYS] = { 8, 5, 3, 2, 1 };
enum { CHAIN_MOST = 256 };             /* places of a chain that are looked at */

void ngram_plan(struct ngram_index *x, struct arena *a, uint32_t tokens)
{
    uint32_t capacity = 64;
    while (capacity < tokens) capacity *= 2;
    *x = (struct ngram_index){ .mask = capacity - 1, .head_mask = 2 * capacity - 1 };
    x->token = arena_take(a, capacity * sizeof *x->token);
    for (int k = 0; k < NGRAM_KEYS; k++) {
        x->before[k] = arena_take(a, capacity * sizeof *x->before[k]);
        x->head[k] = arena_take(a, 2 * (size_t)capacity * sizeof *x->head[k]);
    }
}

/* Of the n tokens that end at text[-1]. */
static uint32_t hash(const struct ngram_index *x, const int32_t *end, uint32_t n)
{
    uint64_t h = n;
    for (uint32_t i = 1; i <= n; i++) h = random_mix(h ^ (uint32_t)end[-(int)i]);
    return (uint32_t)h & x->head_mask;
}

/* The last tokens of the ring, in order; returns how many, NGRAM_KEYS' longest at most. */
static uint32_t tail(const struct ngram_index *x, int32_t out[8])
{
    uint32_t n = x->end < 8 ? x->end : 8;
    if (n > x->mask + 1) n = x->mask + 1;
    for (uint32_t i = 0; i < n; i++) out[8 - n + i] = x->token[(x->end - n + i) & x->mask];
    return n;
}

void ngram_add(struct ngram_index *x, int32_t token)
{
    int32_t text[8];
    uint32_t at = x->end & x->mask;
    x->token[at] = token;
    x->end++;
    if (x->top < x->end) x->top = x->end;
    uint32_t n = tail(x, text);
    for (int k = 0; k < NGRAM_KEYS; k++) {
        uint32_t *head = lengths[k] <= n ? &x->head[k][hash(x, text + 8, lengths[k])] : NULL;
        x->before[k][at] = head ? *head : 0;
        if (head) *head = x->end;
    }
}

/* Undoes the last additions in reverse order, so every head is again what it was. */
void ngram_cut(struct ngram_index *x, uint32_t end)
{
    int32_t text[8];
    while (x->end > end) {
        uint32_t at = (x->end - 1) & x->mask, n = tail(x, text);
        for (int k = 0; k < NGRAM_KEYS; k++) {
            if (lengths[k] > n) continue;
            uint32_t *head = &x->head[k][hash(x, text + 8, lengths[k])];
            if (*head == x->end) *head = x->before[k][at];
        }
        x->end--;
    }
}

static bool held(const struct ngram_index *x, uint32_t place)
{
    return place < x->end && x->top - place <= x->mask + 1;
}

int32_t ngram_at(const struct ngram_index *x, uint32_t place)
{
    return held(x, place) ? x->token[place & x->mask] : NGRAM_BREAK;
}

/* Tokens before `place` that agree with the end of the text. */
static uint32_t agreement(const struct ngram_index *x, uint32_t place, const int32_t *text,
                          uint32_t n)
{
    uint32_t k = 0;
    while (k < n && k < NGRAM_LONGEST && k < place) {
        int32_t t = ngram_at(x, place - k - 1);
        if (t == NGRAM_BREAK || t != text[n - k - 1]) break;
        k++;
    }
    return k;
}

uint32_t ngram_find(const struct ngram_index *x, const int32_t *text, uint32_t n,
                    struct ngram_match *out, uint32_t most)
{
    uint32_t found = 0;
    for (int k = 0; k < NGRAM_KEYS && found < most; k++) {
        if (lengths[k] > n) continue;
        uint32_t next = x->head[k][hash(x, text + n, lengths[k])];
        for (int i = 0; next && i < CHAIN_MOST && found < most; i++) {
            uint32_t place = next;               /* behind the n-gram that ends at next - 1 */
            if (!held(x, place - 1)) break;
            next = x->before[k][(place - 1) & x->mask];
            if (next >= place) break;            /* overwritten by a newer token */
            int32_t follows = ngram_at(x, place);
            if (follows == NGRAM_BREAK) continue;
            uint32_t length = agreement(x, place, text, n);
            /* Shorter: another n-gram's hash. As long as a longer key: its chain had it. */
            if (length < lengths[k] || (k > 0 && length >= lengths[k - 1])) continue;
            out[found++] = (struct ngram_match){ place, length };
        }
    }
    return found;
}
