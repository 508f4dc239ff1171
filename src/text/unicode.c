#include "text/unicode.h"
#include "base/memory.h"
#include <string.h>
#include <utf8proc.h>

bool unicode_is_space(int32_t cp)
{
    if (cp < 0x80) return cp == ' ' || (cp >= '\t' && cp <= '\r');
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static utf8proc_category_t category(int32_t cp)
{
    return cp < 0 ? UTF8PROC_CATEGORY_CN : utf8proc_category(cp);
}

bool unicode_is_punct(int32_t cp)
{
    if (cp < 0x80)
        return (cp >= '!' && cp <= '/') || (cp >= ':' && cp <= '@') || (cp >= '[' && cp <= '`') ||
               (cp >= '{' && cp <= '~');
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

bool unicode_is_other(int32_t cp)
{
    if (cp == '\t' || cp == '\n' || cp == '\r') return false;
    return category(cp) >= UTF8PROC_CATEGORY_CC;
}

bool unicode_is_mark(int32_t cp) { return category(cp) == UTF8PROC_CATEGORY_MN; }

bool unicode_is_any_mark(int32_t cp)
{
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_MN && c <= UTF8PROC_CATEGORY_ME;
}

bool unicode_is_number(int32_t cp)
{
    if (cp < 0x80) return cp >= '0' && cp <= '9';
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
}

bool unicode_is_decimal(int32_t cp)
{
    return cp < 0x80 ? cp >= '0' && cp <= '9' : category(cp) == UTF8PROC_CATEGORY_ND;
}

bool unicode_is_word(int32_t cp)
{
    if (cp < 0x80)
        return (cp >= '0' && cp <= '9') || (cp >= 'A' && cp <= 'Z') || (cp >= 'a' && cp <= 'z') ||
               cp == '_';
    utf8proc_category_t c = category(cp);
    return (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_NL) ||
           c == UTF8PROC_CATEGORY_PC || cp == 0x200C || cp == 0x200D ||
           (cp >= 0x24B6 && cp <= 0x24E9) ||                 /* circled letters are Alphabetic ... */
           (cp >= 0x1F130 && cp <= 0x1F149) ||               /* ... and so are these squared ones  */
           (cp >= 0x1F150 && cp <= 0x1F169) || (cp >= 0x1F170 && cp <= 0x1F189);
}

bool unicode_is_cjk(int32_t cp)
{
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) ||
           (cp >= 0x20000 && cp <= 0x2A6DF) || (cp >= 0x2A700 && cp <= 0x2B73F) ||
           (cp >= 0x2B740 && cp <= 0x2B81F) ||
           (cp >= 0x2B920 && cp <= 0x2CEAF) ||   /* the models were made with 2B920, not 2B820 */
           (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0x2F800 && cp <= 0x2FA1F);
}

stretto_status unicode_lower(struct buffer *b, int32_t cp)
{
    char out[4];
    if (cp == 0x130) return buffer_append(b, "i\xCC\x87", 3);
    return buffer_append(b, out, utf8_encode(utf8proc_tolower(cp), out));
}

/* ---- normal forms ----------------------------------------------------------------------------------- */

/* Decomposed characters of one stretch. utf8proc puts marks into canonical order by exchanging
 * neighbours, which takes a second for a few ten thousand of them: we decompose, order and let it
 * compose. */
struct wide { utf8proc_int32_t *c; size_t n, cap; };

enum { DECOMPOSED_MAX = 32 };               /* a character never becomes more than 18 */

static stretto_status decompose(struct wide *w, int32_t cp, utf8proc_option_t options)
{
    if (w->cap - w->n <= DECOMPOSED_MAX) {
        size_t cap = w->cap * 2 + 256;
        utf8proc_int32_t *c = cap <= SIZE_MAX / sizeof *c ? mem_resize(w->c, cap * sizeof *c) : NULL;
        if (!c) return STRETTO_E_NOMEM;
        w->c = c;
        w->cap = cap;
    }
    int boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char(cp, w->c + w->n, DECOMPOSED_MAX, options, &boundary);
    if (n < 0 || n > DECOMPOSED_MAX) return STRETTO_E_NOMEM;
    w->n += (size_t)n;
    return STRETTO_OK;
}

static unsigned class_of(utf8proc_int32_t c)
{
    return (unsigned)utf8proc_get_property(c)->combining_class & 255;
}

/* Stable, by counting: n + 256 steps. */
static void count_sort(utf8proc_int32_t *c, utf8proc_int32_t *spare, size_t n)
{
    size_t at[256] = { 0 }, sum = 0;
    for (size_t i = 0; i < n; i++) at[class_of(c[i])]++;
    for (size_t k = 0; k < 256; k++) {
        size_t count = at[k];
        at[k] = sum;
        sum += count;
    }
    for (size_t i = 0; i < n; i++) spare[at[class_of(c[i])]++] = c[i];
    memcpy(c, spare, n * sizeof *c);
}

static void insertion_sort(utf8proc_int32_t *c, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t k = i; k > 0 && class_of(c[k - 1]) > class_of(c[k]); k--) {
            utf8proc_int32_t t = c[k];
            c[k] = c[k - 1];
            c[k - 1] = t;
        }
}

/* Marks between two characters of class 0 ascend by class (The Unicode Standard, section 3.11). */
static stretto_status order_marks(struct wide *w)
{
    enum { FEW = 32 };
    utf8proc_int32_t *spare = NULL;
    for (size_t i = 0; i < w->n;) {
        size_t end = i;
        while (end < w->n && class_of(w->c[end])) end++;
        if (end - i > FEW) {
            if (!spare && !(spare = mem_alloc(w->n * sizeof *spare))) return STRETTO_E_NOMEM;
            count_sort(w->c + i, spare, end - i);
        } else {
            insertion_sort(w->c + i, end - i);
        }
        i = end + 1;
    }
    mem_free(spare);
    return STRETTO_OK;
}

static stretto_status normalize_run(struct buffer *b, struct wide *w, const char *p, size_t n,
                                    utf8proc_option_t options)
{
    w->n = 0;
    for (size_t at = 0; at < n;) {
        int32_t cp;
        at += utf8_decode(p + at, n - at, &cp);
        TRY(decompose(w, cp, options));
    }
    TRY(order_marks(w));
    /* reencode works in place and adds a NUL: decompose() left room. */
    utf8proc_ssize_t len = utf8proc_reencode(w->c, (utf8proc_ssize_t)w->n, options);
    return len < 0 ? STRETTO_E_NOMEM : buffer_append(b, w->c, (size_t)len);
}

stretto_status unicode_normalize(struct buffer *b, const char *p, size_t n, enum unicode_form form)
{
    bool compose = form == UNICODE_NFC || form == UNICODE_NFKC;
    bool compatible = form == UNICODE_NFKC || form == UNICODE_NFKD;
    const utf8proc_option_t options = (utf8proc_option_t)(UTF8PROC_STABLE |
        (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) | (compatible ? UTF8PROC_COMPAT : 0));
    struct wide w = { 0 };
    stretto_status st = STRETTO_OK;
    for (size_t at = 0; at < n && st == STRETTO_OK;) {
        size_t bad = utf8_bad_run(p + at, n - at);
        st = buffer_append(b, p + at, bad);
        at += bad;
        size_t run = utf8_valid_run(p + at, n - at);
        if (st == STRETTO_OK && run) st = normalize_run(b, &w, p + at, run, options);
        at += run;
    }
    mem_free(w.c);
    return st;
}

static bool is_own_letter(int32_t c)
{
    return (c >= '!' && c <= '~') || (c >= 0xA1 && c <= 0xAC) || (c >= 0xAE && c <= 0xFF);
}

int32_t byte_letter(unsigned char byte)
{
    int32_t c = byte;
    if (is_own_letter(c)) return c;
    if (c <= 0x20) return 0x100 + c;                  /* 0x00..0x20 are the first 33 */
    if (c <= 0xA0) return 0x100 + 33 + (c - 0x7F);    /* 0x7F..0xA0 the next 34      */
    return 0x100 + 67;                                /* 0xAD                        */
}

int byte_of_letter(int32_t cp)
{
    if (cp < 0x100) return is_own_letter(cp) ? (int)cp : -1;
    int32_t k = cp - 0x100;
    return k < 33 ? (int)k : k < 67 ? (int)(0x7F + k - 33) : k == 67 ? 0xAD : -1;
}

stretto_status byte_letters(struct buffer *b, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char letter[4];
        TRY(buffer_append(b, letter, utf8_encode(byte_letter((unsigned char)p[i]), letter)));
    }
    return STRETTO_OK;
}
