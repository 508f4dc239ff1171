/* Row passes have all the barriers they need, and none that they do not: their kernel as C, lane after lane
 * (gpu_lanes.h), on random lists of instructions. A list must be what its instructions are one by one. */
#define LANES 256
#define ROW_LANES LANES
#define EXACT_DIVIDE 0
#define CACHE 3
#include "unit/backend/gpu_lanes.h"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include "backend/gpu/kernels/words.h"
#include "backend/gpu/kernels/cache.cl"
#include "backend/gpu/kernels/rows.cl"
#include "kernels/kernels.h"

enum { WIDTH = 4224, PLACE = WIDTH + 16, PLACES = 7, LISTED = 70, SPACE = PLACES * PLACE, HEAD = 32, STORED = 40 };
enum { SLOT_AT = STEP_HEADER, PAGE_OF, PAGE, ANGLES, VECTOR = ANGLES + HEAD, STEP = VECTOR + WIDTH };

static struct machine {
    _Alignas(16) float act[SPACE];
    uint32_t pool[2 * WIDTH * 70];
} now, start, one_by_one;

static _Alignas(16) float vectors[2 * WIDTH];
static int step[STEP], instr[LISTED * INSTR_WORDS], first, count;
static uint64_t seed = 1;

static uint32_t random_u32(void)
{
    uint64_t z = seed += 0x9e3779b97f4a7c15;             /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (uint32_t)(z >> 32);
}

static void the_pass(void) { rows(now.act, vectors, step, instr, now.pool, first, count, 0); }

static void pass(int from, int n, bool downwards)
{
    first = from;
    count = n;
    lanes_run(the_pass, 0, downwards);
}

static void begin(void)
{
    step[STEP_ROWS] = 1;
    step[STEP_SLOT] = SLOT_AT, step[SLOT_AT] = 9;
    step[STEP_PAGE_AT] = PAGE_OF, step[PAGE_OF] = PAGE, step[PAGE] = 0;
    step[STEP_ANGLES] = ANGLES, step[STEP_VECTORS] = VECTOR;
    for (int i = 0; i < SPACE; i++) start.act[i] = (float)(int32_t)random_u32() * 0x1p-31f;
    for (int i = 0; i < 2 * WIDTH; i++) vectors[i] = (float)(int32_t)random_u32() * 0x1p-31f;
    for (int i = ANGLES; i < STEP; i++) step[i] = float_bits((float)(i % 7) / 7);
    memset(instr, 0, sizeof instr);
}

/* Four places hold values, the last three codes, scales, bf16; what rotates does so into another place. */
static void put(int at, int op, int width)
{
    int *c = instr + at * INSTR_WORDS, in = (int)(random_u32() % 4), turn = (int)(1 + random_u32() % 3);
    bool norm = op == CODE_NORM_RMS || op == CODE_NORM_LAYER;
    bool rope = op == CODE_ROPE_PAIRS || op == CODE_ROPE_HALVES;
    c[INSTR_OP] = op;
    c[INSTR_WIDTH] = width;
    c[INSTR_IN] = in * PLACE;
    c[INSTR_IN2] = (int)(random_u32() % 4) * PLACE;
    c[INSTR_OUT] = (rope ? (in + turn) % 4 : (int)(random_u32() % 4)) * PLACE;
    c[INSTR_W] = norm ? 0 : -1;
    c[INSTR_B] = norm ? -1 : 5;
    c[INSTR_HEAD_DIM] = op == CODE_STORE ? STORED : rope || (norm && random_u32() % 2) ? HEAD : 0;
    c[INSTR_HEADS] = width / (op == CODE_STORE ? STORED : HEAD);
    c[INSTR_ROT] = HEAD / 2;
    c[INSTR_LAYERS] = 1;
    c[INSTR_NUMBER] = float_bits(0.01f);
    c[INSTR_Q] = 4 * PLACE, c[INSTR_H] = 6 * PLACE;
    c[INSTR_D] = 5 * PLACE, c[INSTR_S] = 5 * PLACE + WIDTH / 32;
}

static void lists_are_their_instructions(void **state)
{
    (void)state;
    enum { OPS = CODE_TO_BF16 + 1 };
    for (int i = 0; i < 24; i++) {
        int width = i % 3 ? HEAD * (int)(1 + random_u32() % (WIDTH / HEAD)) : WIDTH, n = LISTED - 24 + i;
        begin();
        for (int k = 0; k < n; k++) {
            int op = (int)(random_u32() % (OPS + 10)); /* often those with stages */
            put(k, op < OPS ? op : op % 2 ? CODE_NORM_RMS : CODE_QUANT, width);
        }
        now = start;
        for (int k = 0; k < n; k++) pass(k, 1, false);
        one_by_one = now;
        for (int downwards = 0; downwards < 2; downwards++) {
            now = start;
            pass(0, n, downwards);
            assert_memory_equal(&now, &one_by_one, sizeof now);
        }
    }
}

/* Barriers of a list, the one behind the instructions' fetch and the one at the end among them. */
static size_t barriers(const int *ops, int n)
{
    begin();
    for (int k = 0; k < n; k++) {
        put(k, ops[k], 1024);
        instr[k * INSTR_WORDS + INSTR_HEAD_DIM] = ops[k] == CODE_ROPE_HALVES ? HEAD : 0;
    }
    lanes_barriers = 0;
    now = start;
    pass(0, n, false);
    return lanes_barriers;
}

static void what_lanes_wrote_themselves_costs_no_barrier(void **state)
{
    (void)state;
    static const int own[] = { CODE_COPY_VECTOR, CODE_ADD, CODE_MUL, CODE_SILU, CODE_SCALE, CODE_BIAS, CODE_TO_BF16 };
    static const int norms[] = { CODE_BIAS, CODE_ADD, CODE_NORM_RMS, CODE_SCALE, CODE_QUANT };
    static const int layer[] = { CODE_ADD, CODE_NORM_LAYER, CODE_ADD };
    static const int turned[] = { CODE_BIAS, CODE_ROPE_HALVES, CODE_ADD };
    assert_int_equal(barriers(own, 7), 2);
    assert_int_equal(barriers(norms, 5), 2 + 2 + 2);
    assert_int_equal(barriers(layer, 3), 2 + 4);
    assert_int_equal(barriers(turned, 3), 2 + 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_their_instructions),
        cmocka_unit_test(what_lanes_wrote_themselves_costs_no_barrier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
