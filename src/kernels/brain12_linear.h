/* Linear layers over the panels of brain12.h, for any level. Few rows wait for memory: groups become vectors in
 * registers, by way of lines in the first-level cache only those in which something escaped. For more rows some of K
 * of some panels become lines of BF16 panels there, and the level's kernel for BF16 goes on with them.
 * The products, their order and every bit are BF16's. Static inline only. */
#ifndef KERNELS_BRAIN12_LINEAR_H
#define KERNELS_BRAIN12_LINEAR_H
#include "kernels/brain12.h"
#include "kernels/kernels.h"
#include "kernels/wide.h"
#include <string.h>

/* What a level gives. `more`: sums go on from y. */
struct brain12_ops {
    size_t panels;             /* that `few` takes at once, or half of them, ..., or one        */
    size_t few_rows;           /* rows up to which `few` is faster                             */
    /* A group and the table of high bytes to four lines of BF16. */
    void (*group)(const uint8_t *from, const uint8_t *high, uint8_t *lines);
    /* Lines of n panels, `bytes` apart, by the kernel of BF16. */
    void (*times)(const uint8_t *lines, size_t bytes, size_t n_panels, size_t k, const struct act *x, size_t rows,
                  float *y, size_t ldy, bool more);
    /* So many whole groups of the panels for one row; list: each panel's escapes, moved on behind those groups. */
    void (*few)(const uint8_t *panels, size_t bytes, size_t n_panels, size_t groups, const uint32_t **list,
                const float *x, float *y);
};

/* Short pieces of K let reading go on beside multiplying, long ones go seldom through y: measured best up to 8
 * rows, and
 * above. */
enum { BRAIN12_PANELS = 8, BRAIN12_SHORT = 16, BRAIN12_CHUNK = 64,
       BRAIN12_LINES = BRAIN12_CHUNK / 2 * 64, BRAIN12_AHEAD = 1536 };

/* The lines of K k0 .. k1, k0 a multiple of 8, with what escaped; `list` are the panel's escapes from k0 on. Returns
 * those from k1 on. */
WIDE_INLINE const uint32_t *brain12_lines(void (*group)(const uint8_t *, const uint8_t *, uint8_t *),
                                          const void *panel, size_t k0, size_t k1, const uint32_t *list,
                                          uint8_t *lines)
{
    const struct brain12_head *head = panel;
    const uint8_t *from = brain12_groups(panel) + k0 / BRAIN12_K * BRAIN12_GROUP;
    for (size_t k = k0; k < k1; k += BRAIN12_K, from += BRAIN12_GROUP) {
        group(from, head->high, lines + (k - k0) * 32);
        for (size_t i = 0; i < BRAIN12_GROUP; i += 64) __builtin_prefetch(from + BRAIN12_AHEAD + i);
    }
    for (; *list < (uint32_t)(k1 * PANEL_COLS) << 8; list++) {
        size_t place = (*list >> 8) - k0 * PANEL_COLS, k = place / PANEL_COLS, c = place % PANEL_COLS;
        lines[2 * (k / 2 * 32 + 2 * c + k % 2) + 1] = (uint8_t)*list;
    }
    return list;
}

/* n panels: K k0 .. k1 by way of lines. */
WIDE_INLINE void brain12_step(struct brain12_ops o, const uint8_t *panels, size_t bytes, size_t n, size_t k0,
                              size_t k1, const uint32_t **list, const struct act *x, size_t rows, float *y, size_t ldy)
{
    _Alignas(64) uint8_t lines[BRAIN12_PANELS][BRAIN12_LINES];
    struct act at = { .f = x->f + k0, .ldf = x->ldf };
    for (size_t i = 0; i < n; i++)
        list[i] = brain12_lines(o.group, panels + i * bytes, k0, k1, list[i], lines[i]);
    o.times(lines[0], BRAIN12_LINES, n, k1 - k0, &at, rows, y, ldy, k0 > 0);
}

/* The group of the escape that a panel's list is at; past the last group at its end. */
WIDE_INLINE size_t brain12_escape(const uint32_t *list) { return *list / (BRAIN12_K * PANEL_COLS * 256); }

/* The first group in which something escaped, or `groups`. */
WIDE_INLINE size_t brain12_next(const uint32_t *const *list, size_t n, size_t groups)
{
    size_t first = groups;
    for (size_t i = 0; i < n; i++) {
        size_t g = brain12_escape(list[i]);
        if (g < first) first = g;
    }
    return first;
}

/* `few` is at group g of `groups` of n panels and asks for what comes next: further on in each, or at the end the
 * beginnings of the n panels behind them. Asking beyond all panels does no harm. */
WIDE_INLINE void brain12_ask(const uint8_t *panels, size_t bytes, size_t n, size_t g, size_t groups)
{
    size_t ahead = g + BRAIN12_AHEAD / BRAIN12_GROUP;
    size_t at = sizeof(struct brain12_head) + ahead * BRAIN12_GROUP;
    if (ahead >= groups) at += n * bytes - groups * BRAIN12_GROUP;
    for (size_t v = 0; v < n; v++)
        for (size_t i = 0; i < BRAIN12_GROUP; i += 64) __builtin_prefetch(panels + v * bytes + at + i);
}

WIDE_INLINE void brain12_row(struct brain12_ops o, const uint8_t *panels, size_t bytes, size_t n, size_t k,
                             const struct act *x, float *y)
{
    const uint32_t *list[BRAIN12_PANELS];
    size_t groups = k / BRAIN12_K;
    for (size_t i = 0; i < n; i++) {
        list[i] = brain12_list(panels + i * bytes, k);
        __builtin_prefetch(panels + (n + i) * bytes);
        __builtin_prefetch(brain12_list(panels + (n + i) * bytes, k));
    }
    if (groups) o.few(panels, bytes, n, groups, list, x->f, y);
    if (groups * BRAIN12_K < k) brain12_step(o, panels, bytes, n, groups * BRAIN12_K, k, list, x, 1, y, 0);
}

WIDE_INLINE void brain12_linear(struct brain12_ops o, const void *panels, size_t n_panels, size_t k,
                                const struct act *x, size_t rows, float *y, size_t ldy)
{
    size_t bytes = brain12_bytes(k), most = rows <= o.few_rows ? o.panels : BRAIN12_PANELS;
    size_t chunk = rows <= 8 ? BRAIN12_SHORT : BRAIN12_CHUNK;
    for (size_t r = 0; k == 0 && r < rows; r++) memset(y + r * ldy, 0, n_panels * PANEL_COLS * sizeof *y);
    for (size_t p = 0, n; k && p < n_panels; p += n) {
        const uint8_t *first = (const uint8_t *)panels + p * bytes;
        const uint32_t *list[BRAIN12_PANELS];
        for (n = most; n > n_panels - p; n /= 2) {}
        if (rows <= o.few_rows) {
            for (size_t r = 0; r < rows; r++) {
                struct act at = { .f = x->f + r * x->ldf, .ldf = x->ldf };
                brain12_row(o, first, bytes, n, k, &at, y + r * ldy + p * PANEL_COLS);
            }
            continue;
        }
        for (size_t i = 0; i < n; i++) list[i] = brain12_list(first + i * bytes, k);
        for (size_t k0 = 0, k1; k0 < k; k0 = k1) {
            k1 = k - k0 < chunk ? k : k0 + chunk;
            brain12_step(o, first, bytes, n, k0, k1, list, x, rows, y + p * PANEL_COLS, ldy);
        }
    }
}
#endif
