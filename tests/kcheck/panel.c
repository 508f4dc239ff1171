/* The panels against the dtype table, a reader of the same blocks written by other hands: every
 * element of every dtype must come back with the same bits. Also where test weights are made. */
#include "kcheck.h"

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
    /* Bytes of codes and sub-scales may have any value, float16 numbers must be sensible, exponents mostly. */
    const struct dtype_info *type = &dtype_table[t];
    const uint32_t halves[] = { type->d_at, type->m_at };
    size_t n_halves = type->scale == SCALE_E8M0 ? 0 : type->min || type->sub == SUB_NIBBLES ? 2 : 1;
    size_t step = type->bytes, bytes = n * kc_file_bytes(t, k);
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(codes == KC_RANDOM ? kc_u32(c) : codes == KC_ONES ? 0xff
                           : codes == KC_ZEROS ? 0 : i % 2 ? 0x7f : 0x80);
    for (size_t at = 0; at < bytes && type->scale == SCALE_E8M0 && codes == KC_RANDOM; at += step)
        out[at + type->d_at] = (uint8_t)(kc_u32(c) % 50 ? 118 + kc_u32(c) % 8 : kc_u32(c) % 3);
    for (size_t at = 0; at < bytes; at += step)
        for (size_t i = 0; i < n_halves; i++) {
            float v = kc_u32(c) % 50 ? kc_normal(c) / 100 : kc_unit(c) * 1e-6f;
            uint16_t h = float_to_half(v);
            memcpy(out + at + halves[i], &h, 2);
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
        for (size_t blocks = 0; dtype_table[t].block && blocks < 7; blocks++)
            for (size_t n = 1; n <= 16; n += 3)
                for (size_t codes = 0; codes < KC_CODES_COUNT; codes++)
                    check_panel(c, (enum dtype)t, n, blocks * kc_block((enum dtype)t),
                                (enum kc_codes)codes);
}
