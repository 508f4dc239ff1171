/* Prompt rows by bf16 matrix instructions (mma.cl): an arithmetic of its own, for codes and bf16 weights. A weight
 * is d q - m by one fused multiply-add, rounded to bf16; activations are bf16; products are added over the whole
 * of K, ascending, in float32. A row's bits depend on its own activations alone: there is one kernel, whatever the
 * number of rows, and a product of matrices treats its columns alike.
 *
 *   linear_given  128 columns (8 panels) and 128 rows; of its 8 warps each has 64 columns and 32 rows */
#if !defined(W_FLOAT) || W_FLOAT == 17

#define G_COLS 128
#define G_ROWS 128
#define G_WORDS 16                         /* a group: 32 of K, two a word                         */
/* A word of a row in local memory: pieces of four words change places, so that a warp's are in banks of their own. */
#define G_AT(row, word) ((row) * G_WORDS + ((word) ^ ((row) >> 1 & 3) << 2))
#define G_STAGES 3                         /* of activations; weights have two                    */

/* What a lane takes of a group of its column: quads i, i + 1, i + 4, i + 5 with i = 2 (lane / 128), or of bf16
 * weights so many words, as they are in memory. */
struct given_piece { uint w[8], two[2], one, d, m, sub, submin; };

#ifdef W_FLOAT

DEVICE void given_take(GLOBAL const uint *panel, uint g, uint k, struct given_piece *to)
{
    uint line = g * G_WORDS + (uint)(lane_id() / G_COLS * 8);
    UNROLL
    for (int i = 0; i < 8; i++)
        to->w[i] = 2 * (line + (uint)i) < k ? panel[(line + (uint)i) * COLS + (uint)lane_id() % COLS] : 0;
}

DEVICE void given_put(const struct given_piece *v, TO_LOCAL uint *to)
{
    UNROLL
    for (int i = 0; i < 8; i++) to[G_AT(lane_id() % G_COLS, lane_id() / G_COLS * 8 + i)] = v->w[i];
}

#else

DEVICE void given_take(GLOBAL const uint *panel, uint g, uint k, struct given_piece *to)
{
    GLOBAL const uint *unit = panel + g / W_GROUPS * W_UNIT;
    int col = lane_id() % COLS;
    uint in = g % W_GROUPS;
    GLOBAL const uint *w = unit + W_CODES + in * W_STEP + (uint)col;
    (void)k;
#if W_WHOLE || W_NIB
    int i = lane_id() / G_COLS * 2;
#endif
#if W_WHOLE
    UNROLL
    for (int j = 0; j < 4; j++) to->w[j] = w[COLS * (i + j % 2 + j / 2 * 4)];
#endif
#if W_NIB
    to->w[0] = w[COLS * i] ^ TURN_NIB;
    to->w[1] = w[COLS * (i + 1)] ^ TURN_NIB;
#endif
#if W_TWO
    to->two[0] = w[COLS * 4 * W_NIB] ^ TURN_TWO;
    to->two[1] = w[COLS * (4 * W_NIB + 1)] ^ TURN_TWO;
#endif
#if W_ONE
    to->one = w[COLS * (4 * W_NIB + 2 * W_TWO)] ^ TURN_ONE;
#endif
    to->d = SCALES(unit, in)[col];
#if W_MIN
    to->m = LEASTS(unit)[col];
#endif
#if W_SUB == 32
    to->sub = SUBS(uchar, unit, in)[col];
#if W_MIN
    to->submin = SUBS(uchar, unit, in)[16 + col];
#endif
#elif W_SUB == 16
    to->sub = SUBS(ushort, unit, in)[col];
#endif
}

/* Signed byte n of a word. */
DEVICE float byte_float(uint w, int n)
{
#ifdef __OPENCL_VERSION__
    return (float)((int)(w << (24 - 8 * n)) >> 24);
#else
    /* 2^23 and the byte and 128, as a float's bits: cheaper than a conversion */
    return bits_float((int)permute_bytes(w ^ 0x80808080u, 0x4b000000u, 0x7440u | (uint)n)) - 8388736.0f;
#endif
}

DEVICE void given_put(const struct given_piece *v, TO_LOCAL uint *to)
{
    int i = lane_id() / G_COLS * 2;
    float d = scale_of(v->d, v->sub), add = W_MIN ? least_of(v->m, v->submin) : 0;
    UNROLL
    for (int j = 0; j < 4; j++) {
        int upper = j / 2, one = i + j % 2;
        float scale = d, least = add;
#if W_SUB == 16
        scale *= (float)SUB_OF(v->sub, upper);
#endif
#if W_MIN == 2
        least *= -(float)SUBMIN_OF(v->sub, upper);
#endif
        scale *= 1.0f / (float)(1 << UP);  /* values stand that much up */
#if W_WHOLE
        uint q = v->w[j];
#else
        uint q = (uint)quad(W_NIB ? v->w[j % 2] : 0, W_TWO ? v->two[j % 2] : 0, W_ONE ? v->one : 0, one, upper);
#endif
        float f[4];
        UNROLL
        for (int n = 0; n < 4; n++)
            f[n] = W_MIN ? multiply_add(scale, byte_float(q, n), least) : scale * byte_float(q, n);
        TO_LOCAL uint *at = to + G_AT(lane_id() % G_COLS, 2 * (one + 4 * upper));
        at[0] = bf16_pair(f[0], f[1]);
        at[1] = bf16_pair(f[2], f[3]);
    }
}

#endif

/* Half of a row's words of a group, from where `row` has them of the first; behind the end of K, zeros. */
DEVICE void given_copy(GLOBAL const uint *row, uint g, uint k, TO_LOCAL uint *to)
{
    GLOBAL const uint *from = row + g * G_WORDS;
    int r = lane_id() / 2, word = lane_id() % 2 * 8;
#ifdef W_FLOAT
    if (32 * (g + 1) > k) {
        for (int i = 0; i < 8; i++) {
            uint at = 32 * g + (uint)(2 * (word + i));
            to[G_AT(r, word + i)] = at + 1 < k ? from[i] : at < k ? from[i] & 0xffff : 0;
        }
        return;
    }
#endif
    async_copy(to + G_AT(r, word), from);
    async_copy(to + G_AT(r, word + 4), from + 4);
}

/* A warp's share of a group. */
DEVICE void given_group(TO_LOCAL const uint *w, TO_LOCAL const uint *x, float (*y)[4][4], TO_LOCAL uint *exchange)
{
    int lane = lane_id() % 32;
    NO_UNROLL                              /* registers are short */
    for (int s = 0; s < G_WORDS; s += 8) {
        uint b[4][2];
        UNROLL
        for (int j = 0; j < 4; j += 2) {
            uint two[4];
            load_matrices(two, x, G_AT(8 * j + lane / 16 * 8 + lane % 8, s + lane / 8 % 2 * 4), exchange);
            UNROLL
            for (int i = 0; i < 4; i++) b[j + i / 2][i % 2] = two[i];
        }
        UNROLL
        for (int m = 0; m < 4; m++) {
            uint a[4];
            load_matrices(a, w, G_AT(16 * m + lane % 16, s + lane / 16 * 4), exchange);
            mma_bf16(4, y[m], a, b, exchange);
        }
    }
}

KERNEL KERNEL_SHARES(LANES, 2) void linear_given(PARTS, JOB)
{
    LOCAL uint4 weights[2 * G_COLS * G_WORDS / 4], inputs[G_STAGES * G_ROWS * G_WORDS / 4];
    LOCAL int found;
    LOCAL uint exchange[LANES / 32 * MMA_EXCHANGE(4)];
    uint row0 = first + (uint)group_id(0) % tiles * G_ROWS, rows = rows_until(step, count_word, end);
    if (row0 >= rows) return;
    if (!answers_some(step, count_word, roles, row0, rows - row0 < G_ROWS ? rows - row0 : G_ROWS, &found)) return;
    uint p0 = (uint)group_id(0) / tiles * (G_COLS / COLS), groups = (k + 31) / 32;
    int lane = lane_id(), c0 = lane / 32 % 2 * 64, r0 = lane / 64 * 32;
    GLOBAL const uint *panel = part_of(p0 + (uint)(lane % G_COLS / COLS), words, THE_PARTS).panel;
    uint row = row0 + (uint)lane / 2 < rows ? row0 + (uint)lane / 2 : rows - 1;
    GLOBAL const uint *in = (GLOBAL const uint *)activations + x + row * x_ld + (uint)(lane % 2 * 8);
    TO_LOCAL uint *w = (TO_LOCAL uint *)weights, *xs = (TO_LOCAL uint *)inputs;
    struct given_piece v;
    float y[4][4][4];
    UNROLL
    for (int i = 0; i < 64; i++) y[i / 16][i / 4 % 4][i % 4] = 0;
    for (uint g = 0; g < G_STAGES - 1; g++) {
        if (g < groups) given_copy(in, g, k, xs + g * (G_ROWS * G_WORDS));
        async_begin();
    }
    if (groups) {
        given_take(panel, 0, k, &v);
        given_put(&v, w);
    }
    for (uint g = 0; g < groups; g++) {
        uint later = g + G_STAGES - 1;
        async_wait(G_STAGES - 2);
        barrier_local();
        if (later < groups) given_copy(in, later, k, xs + later % G_STAGES * (G_ROWS * G_WORDS));
        async_begin();
        if (g + 1 < groups) given_take(panel, g + 1, k, &v);
        given_group(w + (g % 2 * G_COLS + (uint)c0) * G_WORDS, xs + (g % G_STAGES * G_ROWS + (uint)r0) * G_WORDS, y,
                    exchange);
        if (g + 1 < groups) given_put(&v, w + (g + 1) % 2 * (G_COLS * G_WORDS));
    }
    uint out[4], ld[4];
    int c = lane % 32 / 4;
    UNROLL
    for (int m = 0; m < 4; m++) {
        struct part at = part_of(p0 + (uint)(c0 / COLS + m), words, THE_PARTS);
        out[m] = at.out + (uint)c;
        ld[m] = at.ld;
    }
    UNROLL
    for (int j = 0; j < 8; j++) {          /* rows */
        uint to = row0 + (uint)(r0 + j / 2 * 8 + lane % 4 * 2 + j % 2);
        if (to >= rows || !answers(step, count_word, roles, to)) continue;
        UNROLL
        for (int m = 0; m < 4; m++) {
            if (p0 + (uint)(c0 / COLS + m) >= e3) continue;
            activations[out[m] + to * ld[m]] = y[m][j / 2][j % 2];
            activations[out[m] + to * ld[m] + 8] = y[m][j / 2][j % 2 + 2];
        }
    }
}

#endif
