/* linear: every level equals ref bit for bit, for every row count, panel count and length, and with
 * neighbours that hold NaN; ref itself against float64 within the bound of its roundings. */
#include "kcheck.h"
#include <stdio.h>

enum { MOST_ROWS = 67, MAX_ROWS = 131, PAD = 3 };
static const size_t row_counts[] = { 1,  2,  3,  4,  5,  6,  7,  8,         9,
                                     15, 16, 17, 31, 33, 64, MOST_ROWS, MAX_ROWS };
enum { N_ROW_COUNTS = sizeof row_counts / sizeof *row_counts };

/* A weight, activations for MAX_ROWS rows, and the answers of ref. */
struct job {
    enum dtype t;
    size_t panels, k;
    uint8_t *w;
    struct act x;
    float *want, *got;
    float *f, *d, *s;
    int8_t *q;
    int16_t *sum;
    size_t ldy;
};

static void make_rows(struct kcheck *c, struct job *j)
{
    size_t groups = j->k / 32;
    j->x = (struct act){ .ldf = j->k + PAD, .ldq = j->k + PAD, .ldd = groups + PAD };
    j->f = kc_alloc((MAX_ROWS * j->x.ldf - PAD) * sizeof(float), 4);
    j->q = kc_alloc(MAX_ROWS * j->x.ldq - PAD, 1);
    j->d = kc_alloc((MAX_ROWS * j->x.ldd - PAD) * sizeof(float), 4);
    j->s = kc_alloc((MAX_ROWS * j->x.ldd - PAD) * sizeof(float), 4);
    j->sum = kc_alloc((MAX_ROWS * j->x.ldd - PAD) * 2 * sizeof(int16_t), 2);
    for (size_t r = 0; r < MAX_ROWS; r++) {
        float *f = j->f + r * j->x.ldf;
        int8_t *q = j->q + r * j->x.ldq;
        float *d = j->d + r * j->x.ldd, *s = j->s + r * j->x.ldd;
        for (size_t i = 0; i < j->k; i++) f[i] = kc_normal(c);
        c->ref->quantize(f, groups * 32, q, d, s, NULL);
        if (r % 7 == 3)                            /* the edge codes, with one sign or both */
            for (size_t i = 0; i < groups * 32; i++) q[i] = r % 2 || i % 2 ? 127 : -127;
        if (r % 7 == 5)
            for (size_t i = 0; i < groups * 32; i++) q[i] = -127;
        for (size_t i = 0; i < groups * 2; i++)
            j->sum[2 * r * j->x.ldd + i] = sum_codes(q + 16 * i);
        if (r % 16 == 6 && groups) d[groups / 2] = s[groups / 2] = NAN;
        if (r % 16 == 9 && j->k) f[j->k / 2] = r % 32 == 9 ? INFINITY : NAN;
        if (r % 16 == 11 && groups) d[groups - 1] = 1e-41f, s[0] = -1e-42f;
        if (r % 16 == 13 && j->k) f[0] = 1e-40f;
    }
    j->x.f = j->f, j->x.q = j->q, j->x.d = j->d, j->x.s = j->s, j->x.sum = j->sum;
}

static struct job job_open(struct kcheck *c, enum dtype t, size_t panels, size_t k,
                           enum kc_codes codes)
{
    struct job j = { .t = t, .panels = panels, .k = k, .ldy = panels * 16 + PAD };
    size_t pb = panel_bytes(t, k), column = kc_file_bytes(t, k), y = (MAX_ROWS * j.ldy - PAD) * 4;
    uint8_t *file = kc_alloc(16 * column, 2);
    j.w = kc_alloc(panels * pb, 64);
    for (size_t p = 0; p < panels; p++) {
        size_t n = p + 1 == panels ? 13 : 16;
        kc_weights(c, t, codes, n, k, file);
        panel_pack(t, file, column, n, k, j.w + p * pb);
    }
    kc_free(c, file);
    make_rows(c, &j);
    j.want = kc_alloc(y, 4);
    j.got = kc_alloc(y, 4);
    return j;
}

static void job_close(struct kcheck *c, struct job *j)
{
    kc_free(c, j->f), kc_free(c, j->q), kc_free(c, j->d), kc_free(c, j->s), kc_free(c, j->sum);
    kc_free(c, j->want), kc_free(c, j->got), kc_free(c, j->w);
}

/* Runs `rows` rows from row `from` on and compares them with ref's answers for the same rows. */
static void check_rows(struct kcheck *c, struct job *j, linear_fn *fn, size_t from, size_t rows)
{
    struct act x = j->x;
    char what[96];
    x.f += from * x.ldf, x.q += from * x.ldq, x.d += from * x.ldd, x.s += from * x.ldd;
    x.sum += 2 * from * x.ldd;
    size_t n = (rows - 1) * j->ldy + 16 * j->panels;
    for (size_t i = 0; i < n; i++) j->got[i] = 12345;
    fn(j->w, j->panels, j->k, &x, rows, j->got, j->ldy);
    for (size_t r = 0; r < rows; r++) {
        snprintf(what, sizeof what, "k %zu, panels %zu, rows %zu from %zu: row %zu", j->k,
                 j->panels, rows, from, r);
        kc_equal(c, what, j->want + (from + r) * j->ldy, j->got + r * j->ldy, 16 * j->panels);
        for (size_t i = 16 * j->panels; i < j->ldy && r + 1 < rows; i++)
            if (j->got[r * j->ldy + i] != 12345) kc_fail(c, "%s wrote past its columns", what);
    }
}

static void check_linear(struct kcheck *c, enum dtype t, size_t panels, size_t k,
                         enum kc_codes codes)
{
    struct job j = job_open(c, t, panels, k, codes);
    size_t rows = k > 1000 ? MAX_ROWS : MOST_ROWS; /* kernels cut rows and K into blocks */
    c->ref->linear[t](j.w, panels, k, &j.x, rows, j.want, j.ldy);
    for (size_t i = 0; i < N_ROW_COUNTS && row_counts[i] <= rows; i++)
        check_rows(c, &j, c->k->linear[t], 0, row_counts[i]);
    for (size_t from = 1; from < MOST_ROWS; from += 5) check_rows(c, &j, c->k->linear[t], from, 1);
    check_rows(c, &j, c->k->linear[t], 5, 6);
    job_close(c, &j);
}

/* Panels of brain12.h of the same weights, spread over `binades` powers of two: the answers of BF16. */
static void check_brain12(struct kcheck *c, size_t panels, size_t k, unsigned binades)
{
    struct job j = job_open(c, DT_BF16, panels, k, KC_RANDOM);
    size_t pb = panel_bytes(DT_BF16, k), bytes = brain12_bytes(k);
    uint8_t *packed = kc_alloc(panels * bytes, 64);
    memset(packed, 0xee, panels * bytes);
    for (size_t i = 0; i < panels * k * 16; i++) {
        uint16_t *h = (uint16_t *)(void *)(j.w + i / (k * 16) * pb) + i % (k * 16) / 32 * 32 + i % 32;
        unsigned down = (unsigned)__builtin_ctz(kc_u32(c) | 1u << 24);
        if (*h & 0x7fff) *h = (uint16_t)((*h & 0x807f) | (120 - (down < binades ? down : 0)) << 7);
    }
    for (size_t p = 0; p < panels; p++) {
        uint8_t *at = packed + p * bytes;
        if (!brain12_pack(j.w + p * pb, k, at)) kc_fail(c, "k %zu: a panel did not fit", k);
    }
    c->ref->linear[DT_BF16](j.w, panels, k, &j.x, MOST_ROWS, j.want, j.ldy);
    uint8_t *plain = j.w;
    j.w = packed;
    for (size_t i = 0; i < N_ROW_COUNTS && row_counts[i] <= MOST_ROWS; i++)
        check_rows(c, &j, c->k->brain12, 0, row_counts[i]);
    for (size_t from = 1; from < MOST_ROWS; from += 9) check_rows(c, &j, c->k->brain12, from, 1);
    j.w = plain;
    job_close(c, &j);
    kc_free(c, packed);
}

/* ref against float64: each fmaf rounds once, so |error| <= steps * 2^-23 * sum |term|, where code
 * and minimum are terms of their own. The codes' products themselves are checked by the panel
 * rows. */
static void check_ref(struct kcheck *c, enum dtype t, size_t k)
{
    struct job j = job_open(c, t, 1, k, KC_RANDOM);
    float *w = kc_alloc(16 * k * sizeof(float), 4);
    bool quant = kc_block(t) > 1;
    struct panel_group g;
    panel_decode(t, j.w, k, w);
    c->ref->linear[t](j.w, 1, k, &j.x, MOST_ROWS, j.got, j.ldy);
    for (size_t r = 0; r < MOST_ROWS; r++)
        for (size_t col = 0; col < 16; col++) {
            double sum = 0, mag = 0;
            if (r % 7 == 3 || r % 7 == 5 || r % 16 == 11) continue; /* s is not that of the codes */
            for (size_t i = 0; i < k; i++) {
                if (quant && i % 32 == 0) panel_group(t, j.w, i / 32, &g);
                double x = quant ? (double)j.d[r * j.x.ldd + i / 32] * j.q[r * j.x.ldq + i]
                                 : (double)j.f[r * j.x.ldf + i];
                double min = quant ? (double)g.m[col] * g.submin[i % 32 / 16][col] : 0;
                sum += w[i * 16 + col] * x;
                mag += fabs((w[i * 16 + col] + min) * x) + fabs(min * x);
            }
            kc_near(c, "against float64", r * 16 + col, sum, (double)j.got[r * j.ldy + col],
                    isfinite(mag) ? (double)k * (double)FLT_EPSILON * mag : 0);
        }
    kc_free(c, w);
    job_close(c, &j);
}

static void kcheck_brain12(struct kcheck *c)
{
    bool ref = c->k->brain12 == c->ref->brain12;
    if (!kc_cell(c, "linear BF16 in 12 bits", ref ? strcmp(c->k->level, "ref") == 0
                                                  : c->k->brain12 != c->prev->brain12)) return;
    for (size_t k = 0; k <= 19; k++) check_brain12(c, 1 + k % 3, k, 6);
    for (size_t panels = 1; panels < 12; panels++) check_brain12(c, panels, 200, 8);
    for (unsigned binades = 4; binades <= 20; binades += 2) check_brain12(c, 2, 1100, binades);
}

void kcheck_linear(struct kcheck *c)
{
    kcheck_brain12(c);
    static char name[32];
    static const size_t panels[] = { 1, 2, 3, 4, 5, 7, 9 };
    for (size_t i = 0; i < DT_COUNT; i++) {
        enum dtype t = (enum dtype)i;
        size_t block = kc_block(t);
        if (!block) continue;
        snprintf(name, sizeof name, "linear %s", dtype_table[t].name);
        if (c->k->linear[t] == c->ref->linear[t]) {
            if (kc_cell(c, name, strcmp(c->k->level, "ref") == 0))
                check_ref(c, t, block == 1 ? 37 : 512);
            continue;
        }
        if (!kc_cell(c, name, c->k->linear[t] != c->prev->linear[t])) continue;
        size_t small = block == 1 ? 1 : block, top = block == 256 ? 3 : block == 32 ? 9 : 35;
        for (size_t n = 0; n <= top; n++) check_linear(c, t, 1 + n % 3, n * small, KC_RANDOM);
        for (size_t p = 0; p < sizeof panels / sizeof *panels; p++)
            check_linear(c, t, panels[p], block == 1 ? 50 : block == 32 ? 160 : 256, KC_RANDOM);
        for (size_t codes = KC_ONES; codes < KC_CODES_COUNT; codes++)
            check_linear(c, t, 2, block == 256 ? 512 : 320, (enum kc_codes)codes);
        check_linear(c, t, 2, block == 1 ? 1100 : 2304, KC_RANDOM);
    }
}
