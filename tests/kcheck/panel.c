/* The panels against the dtype table, a reader of the same blocks written by other hands: every
 * element of every dtype must come back with the same bits. Also where test weights are made. */
#include "kcheck.h"

/* Where the float16 numbers of a block are; the other bytes are codes, any value is valid. */
static const struct { uint8_t n; uint8_t at[2]; } halves[DT_COUNT] = {
    [DT_Q4_0] = { 1, { 0 } },     [DT_Q4_1] = { 2, { 0, 2 } },   [DT_Q5_0] = { 1, { 0 } },
    [DT_Q5_1] = { 2, { 0, 2 } },  [DT_Q8_0] = { 1, { 0 } },      [DT_Q2_K] = { 2, { 80, 82 } },
    [DT_Q3_K] = { 1, { 108 } },   [DT_Q4_K] = { 2, { 0, 2 } },   [DT_Q5_K] = { 2, { 0, 2 } },
    [DT_Q6_K] = { 1, { 208 } },
};

size_t kc_block(enum dtype t) { return dtype_table[t].block; }
size_t kc_file_bytes(enum dtype t, size_t k)
{
    return k / dtype_table[t].block * dtype_table[t].bytes;
}

static void float_weights(struct kcheck *c, enum dtype t, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        float v = kc_normal(c) / 8;
        uint16_t h = t == DT_F16 ? float_to_half(v) : float_to_brain(v);
        if (t == DT_F32)
            memcpy(out + 4 * i, &v, 4);
        else
            memcpy(out + 2 * i, &h, 2);
    }
}

void kc_weights(struct kcheck *c, enum dtype t, enum kc_codes codes, size_t n, size_t k,
                uint8_t *out)
{
    if (dtype_table[t].block == 1) {
        float_weights(c, t, n * k, out);
        return;
    }
    size_t step = dtype_table[t].bytes, bytes = n * kc_file_bytes(t, k);
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(codes == KC_RANDOM ? kc_u32(c) : codes == KC_ONES ? 0xff
                           : codes == KC_ZEROS ? 0 : i % 2 ? 0x7f : 0x80);
    for (size_t at = 0; at < bytes; at += step)
        for (size_t i = 0; i < halves[t].n; i++) {
            float v = kc_u32(c) % 50 ? kc_normal(c) / 100 : kc_unit(c) * 1e-6f;
            uint16_t h = float_to_half(v);
            memcpy(out + at + halves[t].at[i], &h, 2);
        }
}

static void check_panel(struct kcheck *c, enum dtype t, size_t n, size_t k, enum kc_codes codes)
{
    size_t column = kc_file_bytes(t, k), stride = column + 2 * (n % 3);
    uint8_t *file = kc_alloc(stride * n, 2);
    float *want = kc_alloc(k * 16 * sizeof(float), 4), *got = kc_alloc(k * 16 * sizeof(float), 4);
    float *one = kc_alloc(k * sizeof(float), 4);
    void *panel = kc_alloc(panel_bytes(t, k), 64);
    for (size_t i = 0; i < n; i++) {
        kc_weights(c, t, codes, 1, k, file + i * stride);
        dtype_table[t].decode(file + i * stride, one, k);
        for (size_t j = 0; j < k; j++) want[j * 16 + i] = one[j];
    }
    for (size_t i = n; i < 16; i++)
        for (size_t j = 0; j < k; j++) want[j * 16 + i] = 0;
    memset(panel, 0xee, panel_bytes(t, k));
    panel_pack(t, file, stride, n, k, panel);
    panel_decode(t, panel, k, got);
    for (size_t i = 0; i < 16 * k; i++)
        if (i % 16 >= n) got[i] += 0.0f;                /* a padded column may decode to -0 */
    kc_equal(c, dtype_table[t].name, want, got, 16 * k);
    if (panel_bytes(t, k) % 64)
        kc_fail(c, "%s: panel size is no multiple of 64", dtype_table[t].name);
    kc_free(c, panel);
    kc_free(c, one);
    kc_free(c, got);
    kc_free(c, want);
    kc_free(c, file);
}

void kcheck_panel(struct kcheck *c)
{
    for (size_t t = 0; t < DT_COUNT; t++)
        for (size_t blocks = 0; blocks < 7; blocks++)
            for (size_t n = 1; n <= 16; n += 3)
                for (size_t codes = 0; codes < KC_CODES_COUNT; codes++)
                    check_panel(c, (enum dtype)t, n, blocks * kc_block((enum dtype)t),
                                (enum kc_codes)codes);
}
