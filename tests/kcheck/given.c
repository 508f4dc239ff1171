/* linear_given, the path of prompt rows, and learn_linear, that of training in bf16: weights d q - m by one
 * fmaf, rounded to bf16, times bf16
 * activations, against float64; and the same bits for every row count.
 *
 * TDPBF16PS sums the even and the odd elements of a group of 32 apart (16 fused steps each), adds
 * the two, then adds that to the total: a term passes at most 16 + 1 + groups roundings of 2^-24. Where one is added
 * after the other (VDPBF16PS), it passes at most K.
 * Denormal numbers are zeros on the way in and out, each step's loss below 2^-126. */
#include "kcheck.h"
#include <stdio.h>

enum { GIVEN_ROWS = 67, GIVEN_PAD = 5 };

static float flushed(float x) { return fabsf(x) < FLT_MIN ? 0.0f : x; }

/* The bf16 weights, [k][16], as float32. */
static void given_weights(enum dtype t, const void *panel, size_t k, float *out)
{
    struct panel_group g;
    if (kc_block(t) == 1) {
        panel_decode(t, panel, k, out);
        return;
    }
    for (size_t i = 0; i < k; i++) {
        if (i % 32 == 0) panel_group(t, panel, i / 32, &g);
        for (size_t c = 0; c < 16; c++) {
            size_t half = i % 32 / 16;
            float d = g.d[c] * (float)g.sub[half][c], m = g.m[c] * (float)g.submin[half][c];
            out[i * 16 + c] =
                brain_to_float(float_to_brain(flushed(fmaf(d, (float)g.code[i % 32][c], -m))));
        }
    }
}

static void check_given(struct kcheck *c, linear_fn *fn, enum dtype t, size_t panels, size_t k)
{
    static const size_t counts[] = { 1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 48, 64 };
    size_t ldh = k + GIVEN_PAD, ldy = panels * 16 + GIVEN_PAD, pb = panel_bytes(t, k);
    size_t column = kc_file_bytes(t, k), groups = (k + 31) / 32,
           y_size = GIVEN_ROWS * ldy - GIVEN_PAD;
    uint8_t *file = kc_alloc(16 * column, 2), *w = kc_alloc(panels * pb, 64);
    uint16_t *h = kc_alloc((GIVEN_ROWS * ldh - GIVEN_PAD) * 2, 2);
    float *all = kc_alloc(y_size * 4, 4), *some = kc_alloc(y_size * 4, 4),
          *dec = kc_alloc(16 * k * 4, 4);
    struct act x = { .h = h, .ldh = ldh };
    for (size_t p = 0; p < panels; p++) {
        kc_weights(c, t, KC_RANDOM, p + 1 == panels ? 13 : 16, k, file);
        panel_pack(t, file, column, p + 1 == panels ? 13 : 16, k, w + p * pb);
    }
    for (size_t r = 0; r < GIVEN_ROWS; r++)
        for (size_t i = 0; i < k; i++)
            h[r * ldh + i] = float_to_brain(r == 9 ? NAN : r == 10 ? 1e-40f : kc_normal(c));
    fn(w, panels, k, &x, GIVEN_ROWS, all, ldy);
    for (size_t p = 0; p < panels; p++) {
        given_weights(t, w + p * pb, k, dec);
        for (size_t r = 0; r < GIVEN_ROWS; r++)
            for (size_t col = 0; col < 16; col++) {
                double sum = 0, mag = 0;
                for (size_t i = 0; i < k; i++) {
                    double term = (double)flushed(brain_to_float(h[r * ldh + i])) *
                                  flushed(dec[i * 16 + col]);
                    sum += term;
                    mag += fabs(term);
                }
                double n = (double)(fn == c->k->linear_given[t] ? groups : k);
                kc_near(c, "given rows", r, sum, all[r * ldy + p * 16 + col],
                        (n + 18) * 0x1p-23 * mag + n * 64 * FLT_MIN);
            }
    }
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (size_t from = 0; from < 12; from += 5) {
            size_t n = counts[i] + from > GIVEN_ROWS ? GIVEN_ROWS - from : counts[i];
            char what[80];
            x.h = h + from * ldh;
            fn(w, panels, k, &x, n, some, ldy);
            snprintf(what, sizeof what, "k %zu, panels %zu, %zu rows from %zu", k, panels, n, from);
            for (size_t r = 0; r < n; r++)
                kc_equal(c, what, all + (from + r) * ldy, some + r * ldy, panels * 16);
        }
    kc_free(c, file), kc_free(c, w), kc_free(c, h), kc_free(c, all), kc_free(c, some),
        kc_free(c, dec);
}

/* Panels of brain12.h: BF16's answers. */
static void check_given12(struct kcheck *c, size_t panels, size_t k)
{
    enum { ROWS = 35 };
    size_t pb = panel_bytes(DT_BF16, k), bytes = brain12_bytes(k), column = 2 * k, ldy = panels * 16;
    uint8_t *file = kc_alloc(16 * column, 2), *w = kc_alloc(panels * pb, 64), *packed = kc_alloc(panels * bytes, 64);
    uint16_t *h = kc_alloc(ROWS * k * 2, 2);
    float *want = kc_alloc(ROWS * ldy * 4, 4), *got = kc_alloc(ROWS * ldy * 4, 4);
    struct act x = { .h = h, .ldh = k };
    for (size_t p = 0; p < panels; p++) {
        kc_weights(c, DT_BF16, KC_RANDOM, 16, k, file);
        panel_pack(DT_BF16, file, column, 16, k, w + p * pb);
        if (!brain12_pack(w + p * pb, k, packed + p * bytes)) kc_fail(c, "k %zu: a panel did not fit", k);
    }
    for (size_t i = 0; i < ROWS * k; i++) h[i] = float_to_brain(kc_normal(c));
    for (size_t rows = 1; rows <= ROWS; rows += 17) {
        c->k->linear_given[DT_BF16](w, panels, k, &x, rows, want, ldy);
        c->k->brain12_given(packed, panels, k, &x, rows, got, ldy);
        kc_equal(c, "in 12 bits", want, got, rows * ldy);
    }
    kc_free(c, file), kc_free(c, w), kc_free(c, packed), kc_free(c, h), kc_free(c, want), kc_free(c, got);
}

void kcheck_given(struct kcheck *c)
{
    if (c->k->brain12_given
        && kc_cell(c, "given BF16 in 12 bits", !c->prev || c->k->brain12_given != c->prev->brain12_given))
        for (size_t k = 0; k < 1300; k = k * 2 + 1 + k % 7) check_given12(c, 1 + k % 3, k);
    static char name[32];
    for (size_t i = 0; i < DT_COUNT; i++) {
        enum dtype t = (enum dtype)i;
        linear_fn *fn = c->k->linear_given[t];
        snprintf(name, sizeof name, "given %s", dtype_table[t].name);
        if (!fn || !kc_cell(c, name, !c->prev || fn != c->prev->linear_given[t])) continue;
        size_t block = kc_block(t);
        for (size_t n = 0; n <= 3; n++) check_given(c, fn, t, n + 1, n * block);
        check_given(c, fn, t, 2, block == 1 ? 31 : 512);
        check_given(c, fn, t, 3, block == 1 ? 1097 : 2304);
    }
    linear_fn *learn = c->k->learn_linear;
    bool own = learn && learn != c->k->linear_given[DT_BF16];
    if (!own || !kc_cell(c, "learn_linear", !c->prev || learn != c->prev->learn_linear))
        return;
    for (size_t n = 0; n <= 3; n++) check_given(c, learn, DT_BF16, n + 1, n);
    check_given(c, learn, DT_BF16, 2, 31);
    check_given(c, learn, DT_BF16, 5, 576);
}
