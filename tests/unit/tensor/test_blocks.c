/* Blocks taken apart mean what the decoder says, bit for bit, and put together again are the same bytes. */
#include "unit/unit.h"
#include "base/random.h"
#include "tensor/blocks.h"
#include "tensor/half.h"
#include <math.h>
#include <string.h>

enum { TURNS = 200, BYTES = 512 };

static uint64_t drawn;
static unsigned char byte(void) { return (unsigned char)(256 * random_unit(random_at(5, 0, 0, drawn++))); }

/* Any bytes are a block, but for scales that are no numbers. */
static void draw(const struct dtype_info *t, unsigned char *block)
{
    float values[BLOCK_MOST];
    for (size_t i = 0; i < t->bytes; i++) block[i] = byte();
    if (t->scale == SCALE_E8M0) {                       /* which has two codes for 0 */
        block_get_values(t, block, values);
        block_put_values(t, block, values);
        return;
    }
    store_half(block + t->d_at, (float)(byte() - 128) / 37);
    if (block_has_min(t)) store_half(block + t->m_at, (float)(byte() - 128) / 91);
}

static void assert_decodes(const struct dtype_info *t, const unsigned char *block, const struct block_scales *k,
                           const float *values)
{
    float x[BLOCK_MOST];
    t->decode(block, x, t->block);
    for (size_t i = 0; i < t->block; i++) {
        size_t g = i / block_group(t);
        float says = block_scale(t, k, g) * values[i];
        if (block_has_min(t)) says += block_min(t, k, g);
        if (says != x[i]) print_error("%s element %zu: %g, decoded %g\n", t->name, i, (double)says, (double)x[i]);
        assert_true(says == x[i]);
    }
}

static void apart_and_together(void **state)
{
    (void)state;
    unsigned char block[BYTES], other[BYTES];
    float values[BLOCK_MOST], shifted[BLOCK_MOST];
    struct block_scales k, back;
    for (int type = 0; type < DT_COUNT; type++)
        for (int turn = 0; turn < TURNS && dtype_table[type].block > 1; turn++) {
            const struct dtype_info *t = &dtype_table[type];
            draw(t, block);
            block_get_scales(t, block, &k);
            block_get_values(t, block, values);
            assert_decodes(t, block, &k, values);

            draw(t, other);                             /* both halves replace what was there */
            block_put_scales(t, other, &k);
            block_put_values(t, other, values);
            assert_memory_equal(block, other, t->bytes);

            for (size_t i = 0; i < t->block; i++) shifted[i] = values[(i + 5) % t->block];
            block_put_values(t, other, shifted);        /* and touch nothing else */
            assert_decodes(t, other, &k, shifted);
            struct block_scales half = k;
            half.d = block_kept(t, k.d / 3, 0);
            block_put_scales(t, other, &half);
            block_get_scales(t, other, &back);
            assert_memory_equal(&half, &back, sizeof half);
            assert_decodes(t, other, &half, shifted);
        }
}

static void scales_as_kept(void **state)
{
    (void)state;
    for (int type = 0; type < DT_COUNT; type++) {
        const struct dtype_info *t = &dtype_table[type];
        if (t->block <= 1) continue;
        float one = block_kept(t, 1, 0);
        assert_true(one == 1);
        assert_true(block_kept(t, 1, 1) > one && block_kept(t, 1, -1) < one);
        assert_true(block_kept(t, block_kept(t, 0.3f, 0), 0) == block_kept(t, 0.3f, 0));
        assert_true(isfinite(block_kept(t, 1e30f, 0)) && isfinite(block_kept(t, 1e30f, 1)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(apart_and_together), cmocka_unit_test(scales_as_kept) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
