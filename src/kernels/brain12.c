#include "kernels/brain12.h"
#include <string.h>

static size_t groups_of(size_t k) { return (k + BRAIN12_K - 1) / BRAIN12_K; }
static size_t room_for(size_t k) { return k / BRAIN12_ESCAPES + 8; }

size_t brain12_bytes(size_t k)
{
    size_t list = (room_for(k) + 1) * sizeof(uint32_t);
    return sizeof(struct brain12_head) + groups_of(k) * BRAIN12_GROUP + (list + 63) / 64 * 64;
}

/* How often each high byte stands in n numbers. */
static void count_high(const uint8_t *p, size_t n, uint32_t count[256])
{
    uint32_t part[4][256] = { { 0 } };
    for (size_t i = 0; i < n; i++) part[i % 4][p[2 * i + 1]]++;
    for (size_t b = 0; b < 256; b++) count[b] = part[0][b] + part[1][b] + part[2][b] + part[3][b];
}

/* The sixteen most frequent, the most frequent first; code[b] is the place of b among them, or 16. Returns how many
 * numbers have none of them. */
static size_t choose(uint32_t count[256], uint8_t high[16], uint8_t code[256])
{
    size_t escapes = 0;
    memset(code, 16, 256);
    for (uint8_t i = 0; i < 16; i++) {
        size_t best = 0;
        for (size_t b = 1; b < 256; b++)
            if (count[b] > count[best]) best = b;
        high[i] = (uint8_t)best;
        if (count[best]) code[best] = i;
        count[best] = 0;
    }
    for (size_t b = 0; b < 256; b++) escapes += count[b];
    return escapes;
}

size_t brain12_escaped(const void *bf16, size_t n)
{
    uint32_t count[256];
    uint8_t high[16], code[256];
    count_high(bf16, n, count);
    return choose(count, high, code);
}

/* Two lines of bf16, [2 * 16 columns * 2 of K] each, to a line of low bytes and one of codes. */
static void split_lines(const uint8_t *lines, const uint8_t code[256], uint8_t *low, uint8_t *codes)
{
    for (size_t lane = 0; lane < 4; lane++)
        for (size_t half = 0; half < 2; half++) {
            const uint8_t *from = lines + 64 * half + 16 * lane;
            size_t to = 16 * lane + 8 * half;
            for (size_t i = 0; i < 8; i++) {
                low[to + i] = from[2 * i];
                codes[to + i] = code[from[2 * i + 1]];
            }
        }
}

/* Appends the escapes of four lines that begin at K = k0, in ascending order of their places. */
static uint32_t *put_escapes(const uint8_t *lines, size_t k0, const uint8_t code[256], uint32_t *list)
{
    for (size_t k = 0; k < BRAIN12_K; k++)
        for (size_t c = 0; c < PANEL_COLS; c++) {
            uint8_t high = lines[2 * (k / 2 * 32 + 2 * c + k % 2) + 1];
            if (code[high] == 16) *list++ = (uint32_t)((k0 + k) * PANEL_COLS + c) << 8 | high;
        }
    return list;
}

static bool any_escape(uint8_t codes[2][64])
{
    uint8_t all = 0;
    for (size_t i = 0; i < 64; i++) all |= codes[0][i] | codes[1][i];
    return all & 16;
}

bool brain12_pack(const void *bf16, size_t k, void *panel)
{
    struct brain12_head *head = panel;
    uint8_t code[256], codes[2][64], last[256];
    uint32_t count[256], *list = (uint32_t *)(uintptr_t)brain12_list(panel, k);
    const uint8_t *lines = bf16;
    uint8_t *to = (uint8_t *)(uintptr_t)brain12_groups(panel);
    memset(head, 0, sizeof *head);
    count_high(lines, (k + 1) / 2 * 32, count);
    size_t whole = k / BRAIN12_K, escapes, groups = groups_of(k);
    if (groups > whole) count[0] += 128;       /* the zeros behind an end that is not whole have a code */
    escapes = choose(count, head->high, code);
    if (escapes > room_for(k)) return false;
    head->escapes = (uint32_t)escapes;
    for (size_t g = 0; g < groups; g++, to += BRAIN12_GROUP, lines += 256) {
        if (g == whole) {
            memset(last, 0, sizeof last);
            memcpy(last, lines, (k % BRAIN12_K + 1) / 2 * 64);
            lines = last;
        }
        split_lines(lines, code, to + 64, codes[0]);
        split_lines(lines + 128, code, to + 128, codes[1]);
        for (size_t i = 0; i < 64; i++) to[i] = (uint8_t)((codes[0][i] & 15) | (codes[1][i] & 15) << 4);
        if (any_escape(codes)) list = put_escapes(lines, g * BRAIN12_K, code, list);
    }
    *list = UINT32_MAX;
    return true;
}
