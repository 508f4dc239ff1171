#include "base/utf8.h"
#include <string.h>

/* Length of the character that begins with the byte c >= 0x80, 0 for none, and the range of its second byte,
 * which excludes overlong forms, surrogates and what is beyond U+10FFFF (The Unicode Standard, table 3-7). */
static unsigned shape(unsigned c, unsigned *lo, unsigned *hi)
{
    *lo = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    *hi = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    return c >= 0xC2 && c <= 0xDF ? 2 : c >= 0xE0 && c <= 0xEF ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 0;
}

size_t utf8_decode(const char *p, size_t n, int32_t *cp)
{
    const unsigned char *s = (const unsigned char *)p;
    unsigned c = s[0];
    *cp = UTF8_BAD;
    if (c < 0x80) { *cp = (int32_t)c; return 1; }
    unsigned lo, hi, len = shape(c, &lo, &hi);
    if (!len || n < len) return 1;
    if (s[1] < lo || s[1] > hi) return 1;
    uint32_t v = c & (0x7Fu >> len);
    for (unsigned i = 1; i < len; i++) {
        if ((s[i] & 0xC0) != 0x80) return 1;
        v = v << 6 | (s[i] & 0x3Fu);
    }
    *cp = (int32_t)v;
    return len;
}

size_t utf8_encode(int32_t cp, char out[4])
{
    uint32_t c = (uint32_t)cp;
    if (c < 0x80) { out[0] = (char)c; return 1; }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

size_t utf8_valid_run(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        if (n - i >= 8 && (memcpy(&eight, p + i, 8), !(eight & UINT64_C(0x8080808080808080)))) {
            i += 8;
            continue;
        }
        int32_t cp;
        size_t len = utf8_decode(p + i, n - i, &cp);
        if (cp == UTF8_BAD) break;
        i += len;
    }
    return i;
}

size_t utf8_bad_run(const char *p, size_t n)
{
    size_t i = 0;
    int32_t cp;
    while (i < n && (utf8_decode(p + i, n - i, &cp), cp == UTF8_BAD)) i++;
    return i;
}

/* Of the malformed bytes at p, those that one U+FFFD stands for: the longest beginning of a well-formed
 * character, or one byte (The Unicode Standard, section 3.9; Python's errors="replace"). */
static size_t bad_part(const char *p, size_t n)
{
    const unsigned char *s = (const unsigned char *)p;
    unsigned c = s[0];
    unsigned lo, hi, len = shape(c, &lo, &hi);
    if (!len || n < 2 || s[1] < lo || s[1] > hi) return 1;
    size_t k = 2;
    while (k < len && k < n && (s[k] & 0xC0) == 0x80) k++;
    return k;
}

stretto_status utf8_repair(struct buffer *b, const char *p, size_t n)
{
    for (size_t k; n; p += k, n -= k) {
        size_t good = utf8_valid_run(p, n);
        TRY(buffer_append(b, p, good));
        p += good;
        n -= good;
        k = n ? bad_part(p, n) : 0;
        if (n) TRY(buffer_append(b, "\xef\xbf\xbd", 3));
    }
    return STRETTO_OK;
}

size_t utf8_before(const char *p, size_t end)
{
    int32_t cp;
    for (size_t back = 1; back <= 4 && back <= end; back++)
        if (utf8_decode(p + end - back, back, &cp) == back && cp != UTF8_BAD) return end - back;
    return end - 1;
}
