#include "format/rans.h"
#include "base/reader.h"
#include <string.h>

enum { BITS = 12, WHOLE = 1 << BITS, LOW = 1 << 16, STATES = 8, HEAD = 32 + 2 * 256 + 4 * STATES };

size_t rans_bound(size_t n) { return HEAD + 2 * n + 16; }

static void put_u16(uint8_t *p, uint32_t v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8); }
static void put_u32(uint8_t *p, uint32_t v) { put_u16(p, v & 0xffff), put_u16(p + 2, v >> 16); }
static uint32_t get_u16(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }

/* Shares of WHOLE, at least 1 for what occurs; what rounding leaves goes to, or comes from, the largest. */
static void shares(const uint8_t *in, size_t n, uint32_t freq[256])
{
    uint64_t count[4][256] = { { 0 } }, sum = 0;
    for (size_t i = 0; i < n; i++) count[i % 4][in[i]]++;
    for (size_t b = 0; b < 256; b++) {
        uint64_t all = count[0][b] + count[1][b] + count[2][b] + count[3][b];
        freq[b] = (uint32_t)((all * WHOLE + n / 2) / n);
        if (all && !freq[b]) freq[b] = 1;
        sum += freq[b];
    }
    for (uint32_t take; sum != WHOLE; sum -= take) {
        size_t most = 0;
        for (size_t b = 1; b < 256; b++)
            if (freq[b] > freq[most]) most = b;
        take = (uint32_t)(sum - WHOLE);                  /* below WHOLE: wraps, and adds */
        if (sum > WHOLE && take > freq[most] / 2) take = freq[most] / 2;
        freq[most] -= take;
        if (sum < WHOLE) return;
    }
}

size_t rans_encode(const uint8_t *in, size_t n, uint8_t *out)
{
    uint32_t freq[256], start[256], x[STATES], at = 0;
    if (n < 64) return 0;
    shares(in, n, freq);
    uint8_t *to = out + 32;
    memset(out, 0, 32);
    for (size_t b = 0; b < 256; b++) {
        start[b] = at;
        at += freq[b];
        if (!freq[b]) continue;
        out[b / 8] |= (uint8_t)(1 << b % 8);
        put_u16(to, freq[b] - 1);
        to += 2;
    }
    uint8_t *states = to, *words = out + rans_bound(n), *end = words;
    to += 4 * STATES;
    for (size_t i = 0; i < STATES; i++) x[i] = LOW;
    for (size_t i = n; i-- > 0;) {
        uint32_t f = freq[in[i]], *s = &x[i % STATES];
        if (*s >= (uint64_t)f << 20) {
            words -= 2;
            put_u16(words, *s & 0xffff);
            *s >>= 16;
        }
        *s = (*s / f << BITS) + *s % f + start[in[i]];
    }
    for (size_t i = 0; i < STATES; i++) put_u32(states + 4 * i, x[i]);
    size_t bytes = (size_t)(to - out) + (size_t)(end - words);
    if (bytes >= n) return 0;
    memmove(to, words, (size_t)(end - words));
    return bytes;
}

/* What a slot of WHOLE means: the byte, its frequency less 1 and the place within it. */
static bool read_table(struct reader *r, uint32_t table[WHOLE])
{
    const uint8_t *present = read_bytes(r, 32);
    uint32_t at = 0;
    for (uint32_t b = 0; present && b < 256; b++) {
        if (!(present[b / 8] & 1 << b % 8)) continue;
        uint32_t f = (uint32_t)read_le(r, 2) + 1;
        if (r->bad || f > WHOLE - at) return false;
        for (uint32_t i = 0; i < f; i++) table[at + i] = b | (f - 1) << 8 | i << 20;
        at += f;
    }
    return !r->bad && at == WHOLE;
}

/* One byte; the state wants filling up where it is below LOW. */
static inline uint8_t step(const uint32_t *table, uint32_t *x)
{
    uint32_t t = table[*x % WHOLE];
    *x = ((t >> 8 & (WHOLE - 1)) + 1) * (*x >> BITS) + (t >> 20);
    return (uint8_t)t;
}

bool rans_decode(const uint8_t *in, size_t bytes, uint8_t *out, size_t n)
{
    struct reader r = { .p = in, .end = in + bytes };
    uint32_t table[WHOLE], x[STATES];
    if (!read_table(&r, table)) return false;
    for (size_t i = 0; i < STATES; i++) x[i] = read_u32(&r);
    if (r.bad) return false;
    const uint8_t *p = r.p, *end = r.end;
    size_t i = 0;
    for (; i + STATES <= n && (size_t)(end - p) >= 2 * STATES; i += STATES)
        for (size_t s = 0; s < STATES; s++) {
            out[i + s] = step(table, &x[s]);
            uint32_t fill = x[s] < LOW, more = x[s] << 16 | get_u16(p);
            x[s] = fill ? more : x[s];
            p += 2 * fill;
        }
    for (; i < n; i++) {
        uint32_t *s = &x[i % STATES];
        out[i] = step(table, s);
        if (*s >= LOW) continue;
        if (end - p < 2) return false;
        *s = *s << 16 | get_u16(p);
        p += 2;
    }
    for (size_t s = 0; s < STATES; s++)
        if (x[s] != LOW) return false;
    return p == end;
}
