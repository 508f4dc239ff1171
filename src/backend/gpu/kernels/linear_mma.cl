/* Twins of linear.cl's kernels for cards whose warps multiply matrices (mma.cl): the same bits, with the dots of
 * a group by one instruction: its 16 columns are the matrix's rows, 8 rows of activations its columns. A quad
 * of a panel is a word of the matrix where it stands, so lanes take weights from memory to where they belong.
 *
 *   linear_mma_8, linear_mma_16  one panel: every warp multiplies groups of its own, as in linear.cl
 *   linear_mma_64, linear_mma_128  a tile of so many rows; a warp has one panel and some of the rows, and goes
 *                              through K with its answers in registers */
#ifndef W_FLOAT

/* Of one group and two columns, col and col + 8, for quads t and t + 4: words of the planes. */
struct pair { uint nib[2], two[2], one[2]; };

DEVICE void pair_take(GLOBAL const uint *w, int t, struct pair *to)
{
    UNROLL
    for (int i = 0; i < 2; i++) {
        GLOBAL const uint *at = w + 8 * i;
#if W_WHOLE
        to->nib[i] = load_once(at + COLS * t);
        to->two[i] = load_once(at + COLS * (t + 4));
#else
#if W_NIB
        to->nib[i] = load_once(at + COLS * t);
#endif
#if W_TWO
        to->two[i] = load_once(at + COLS * (4 * W_NIB + t % 2));
#endif
#if W_ONE
        to->one[i] = load_once(at + COLS * (4 * W_NIB + 2 * W_TWO));
#endif
#endif
    }
}

/* The matrix's words of a lane. */
DEVICE void pair_words(const struct pair *v, int t, uint a[4])
{
    UNROLL
    for (int i = 0; i < 4; i++) {
#if W_WHOLE
        a[i] = i < 2 ? v->nib[i] : v->two[i - 2];
#else
        a[i] = (uint)quad(W_NIB ? v->nib[i % 2] ^ TURN_NIB : 0, W_TWO ? v->two[i % 2] ^ TURN_TWO : 0,
                          W_ONE ? v->one[i % 2] ^ TURN_ONE : 0, t, i / 2);
#endif
    }
}

/* Dots of the group's halves, or of the whole in `low`. */
DEVICE void pair_dots(int n, const uint a[4], const uint (*x)[2], int (*low)[4], int (*high)[4], TO_LOCAL uint *exchange)
{
    UNROLL
    for (int i = 0; i < 4 * n; i++) low[i / 4][i % 4] = high[i / 4][i % 4] = 0;
#if W_SUB == 16
    mma_s8(n, 1, low, a, x, exchange);
    mma_s8(n, 2, high, a, x, exchange);
#else
    mma_s8(n, 3, low, a, x, exchange);
#endif
}

/* ---- few rows -------------------------------------------------------------------------------- */

#define WARPS (LANES / 32)                 /* groups of a segment: a warp's each                  */
#define DEPTH 4                            /* segments ahead of which weights are fetched         */

struct mma_ahead { struct pair w; uint x[2][2], d, dsub, sub[2]; float dx, sx; };

DEVICE void mma_fetch(int n, GLOBAL const uint *panel, const struct rows *in, uint segment, uint groups,
                      struct mma_ahead *to)
{
    int lane = lane_id() % 32, c = lane / 4, t = lane % 4;
    uint g = segment * WARPS + (uint)lane_id() / 32;
    if (g < groups) {
        GLOBAL const uint *unit = panel + g / W_GROUPS * W_UNIT;
        uint i = g % W_GROUPS;
        pair_take(unit + W_CODES + i * W_STEP + (uint)c, t, &to->w);
        UNROLL
        for (int j = 0; j < n; j++) {
            int r = 8 * j + c < in->last ? 8 * j + c : in->last;
            GLOBAL const uint *q = in->q + (uint)r * in->ld + 8 * g + (uint)t;
            to->x[j][0] = q[0];
            to->x[j][1] = q[4];
        }
        /* lanes 0 .. 15 take the columns' scales, the others their minimums */
        to->d = lane < COLS || W_MIN == 0 ? SCALES(unit, i)[lane % COLS] : LEASTS(unit)[lane % COLS];
#if W_SUB == 32
        to->dsub = SUBS(uchar, unit, i)[W_MIN ? lane : lane % COLS];
#elif W_SUB == 16
        to->sub[0] = SUBS(ushort, unit, i)[c];
        to->sub[1] = SUBS(ushort, unit, i)[c + 8];
#endif
    }
    g = segment * WARPS + (uint)lane_id() % WARPS;
    if (lane_id() < 8 * n * WARPS && g < groups) {
        int r = lane_id() / WARPS < in->last ? lane_id() / WARPS : in->last;
        to->dx = in->d[(uint)r * in->d_ld + g];
#if W_MIN == 1
        to->sx = in->s[(uint)r * in->d_ld + g];
#endif
    }
}

DEVICE void mma_multiply(int n, const struct mma_ahead *v, TO_LOCAL float *to, TO_LOCAL uint *exchange)
{
    int lane = lane_id() % 32, slot = lane_id() / 32, c = lane / 4, t = lane % 4;
    uint a[4];
    int low[2][4], high[2][4];
    pair_words(&v->w, t, a);
    pair_dots(n, a, v->x, low, high, exchange);
    UNROLL
    for (int i = 0; i < 4 * n; i++) {
        int r = i / 4 * 8 + 2 * t + i % 2, col = c + i % 4 / 2 * 8;
        to[slot * DOT_LD(8 * n) + r * ROW_LD(8 * n) + col] =
            (float)whole_dot(low[i / 4][i % 4], high[i / 4][i % 4], v->sub[i % 4 / 2]);
    }
#if W_MIN == 2
    /* sums of codes: products with ones */
    a[0] = a[1] = a[2] = a[3] = 0x01010101;
    pair_dots(n, a, v->x, low, high, exchange);
    UNROLL
    for (int i = 0; i < 4 * n; i++) {
        int r = i / 4 * 8 + 2 * t + i % 2, col = c + i % 4 / 2 * 8;
        to[AT_MINS(8 * n, WARPS) + slot * DOT_LD(8 * n) + r * ROW_LD(8 * n) + col] =
            whole_min(low[i / 4][i % 4], high[i / 4][i % 4], v->sub[i % 4 / 2]);
    }
#endif
    if (lane < COLS) to[AT_D(8 * n, WARPS) + lane * (WARPS + 4) + slot] = scale_of(v->d, v->dsub);
#if W_MIN
    else to[AT_M(8 * n, WARPS) + (lane - COLS) * (WARPS + 4) + slot] = least_of(v->d, v->dsub);
#endif
    if (lane_id() < 8 * n * WARPS) {
        to[AT_DX(8 * n, WARPS) + lane_id()] = v->dx;
#if W_MIN == 1
        to[AT_SX(8 * n, WARPS) + lane_id()] = v->sx;
#endif
    }
}

DEVICE void mma_few(int n, TO_LOCAL float *room, TO_LOCAL uint *exchange, PARTS, JOB)
{
    const int most = 8 * n;
    struct part at = part_of((uint)group_id(0) / tiles, words, THE_PARTS);
    uint row = first + (uint)group_id(0) % tiles * (uint)most, rows = rows_until(step, count_word, end);
    if (row >= rows) return;
    int there = rows - row < (uint)most ? (int)(rows - row) : most;
    if (!answers_any(step, count_word, roles, row, there)) return;
    uint groups = k / 32, segments = (groups + WARPS - 1) / WARPS;
    struct rows in = rows_at(row, there, THE_JOB);
    struct mma_ahead ahead[DEPTH];
    float y = 0;
    UNROLL
    for (int j = 0; j < DEPTH; j++) mma_fetch(n, at.panel, &in, (uint)j, groups, &ahead[j]);
    /* one barrier a segment: what was multiplied before it is added behind it */
    for (uint i = 0; i <= segments; i += DEPTH) {
        UNROLL
        for (int j = 0; j < DEPTH; j++) {
            uint now = i + (uint)j;
            mma_multiply(n, &ahead[j], room + j % 2 * SEGMENT(most, WARPS), exchange);
            mma_fetch(n, at.panel, &in, now + DEPTH, groups, &ahead[j]);
            if (now && now <= segments)
                y = add_segment(most, WARPS, room + (j + 1) % 2 * SEGMENT(most, WARPS), now - 1, groups, y);
            barrier_local();
        }
    }
    uint mine = (uint)row_of_lane(most);
    if ((int)mine <= in.last && answers(step, count_word, roles, row + mine))
        activations[at.out + (row + mine) * at.ld + (uint)lane_id() % COLS] = y;
}

#define MMA_FEW(R)                                                                        \
    KERNEL KERNEL_SHARES(LANES, 2) void linear_mma_##R(PARTS, JOB)                      \
    {                                                                                     \
        LOCAL float4 room[2 * SEGMENT(R, WARPS) / 4];                                     \
        LOCAL uint exchange[WARPS * MMA_EXCHANGE((R) / 8)];                               \
        mma_few((R) / 8, (TO_LOCAL float *)room, exchange, THE_PARTS, THE_JOB);           \
    }

MMA_FEW(8)
MMA_FEW(16)

/* ---- many rows ------------------------------------------------------------------------------- */

/* A group of a tile of P panels and T rows, as it is in memory, in words: of every panel its lines of codes, LINE
 * apart, then float16 scales, minimums and sub-scales; of every row its codes, ROW apart, then d_x and s_x
 * of all. LINE and ROW are such that a warp's words are in banks of their own. */
#define LINE 24
#define ROW 12
#define AT_SCALES (WORDS * LINE)
#define AT_LEASTS (AT_SCALES + (W_EXPONENT ? 4 : 8))
#define AT_SUBS (AT_LEASTS + (W_MIN ? 8 : 0))
#define PANEL_ROOM (AT_SUBS + (W_SUB ? W_SUB_STEP : 0))
#define AT_ROWS(P) ((P) * PANEL_ROOM)
#define AT_ROW_D(P, T) (AT_ROWS(P) + (T) * ROW)
#define AT_ROW_S(P, T) (AT_ROW_D(P, T) + (T))
#define STAGE_ROOM(P, T) (AT_ROW_S(P, T) + (W_MIN == 1 ? (T) : 0))

/* What a lane copies of every group: one piece of a panel, one or two of rows. */
struct copier { GLOBAL const uint *panel, *q; GLOBAL const float *number; uint at, row_at, number_at; int piece; };

/* Pieces of 16 bytes of a panel's group: lines, then scales, minimums, sub-scales. */
#define PIECES (4 * WORDS + (PANEL_ROOM - AT_SCALES) / 4)

DEVICE void copy_group(int P, int T, const struct copier *v, uint g, TO_LOCAL uint *stage)
{
    int lane = lane_id();
    GLOBAL const uint *unit = v->panel + g / W_GROUPS * W_UNIT;
    uint in = g % W_GROUPS;
    if (v->piece < 4 * WORDS) {
        async_copy(stage + v->at, unit + W_CODES + in * W_STEP + 4 * (uint)v->piece);
    } else if (v->piece < PIECES) {
        int at = AT_SCALES + 4 * (v->piece - 4 * WORDS);
        uint from = at < AT_LEASTS ? SCALES_AT(in) + (uint)(at - AT_SCALES)
                  : at < AT_SUBS   ? W_M + (uint)(at - AT_LEASTS)
                                   : SUPER_SUB + W_SUB_STEP * in + (uint)(at - AT_SUBS);
        async_copy(stage + v->at, unit + from);
    }
    if (lane < 2 * T) {
        async_copy(stage + v->row_at, v->q + 8 * g);
        if (lane < T || (W_MIN == 1)) async_copy_word(stage + v->number_at, v->number + g);
    }
}

/* A warp's share of a group: n tiles of 8 rows, of its panel. */
DEVICE void mma_group(int n, TO_LOCAL const uint *panel, TO_LOCAL const uint *x, TO_LOCAL const float *dx,
                      TO_LOCAL const float *sx, float (*y)[4], TO_LOCAL uint *exchange)
{
    int lane = lane_id() % 32, c = lane / 4, t = lane % 4;
    TO_LOCAL const SCALE *scales = (TO_LOCAL const SCALE *)(panel + AT_SCALES);
    struct pair w;
    uint a[4], sub[2];
    float dw[2], least[2];
    UNROLL
    for (int i = 0; i < 2; i++) {
        TO_LOCAL const uint *at = panel + c + 8 * i;
        uint m = 0, submin = 0;
        sub[i] = 0;
#if W_WHOLE
        w.nib[i] = at[LINE * t];
        w.two[i] = at[LINE * (t + 4)];
#endif
#if W_NIB
        w.nib[i] = at[LINE * t];
#endif
#if W_TWO
        w.two[i] = at[LINE * (4 * W_NIB + t % 2)];
#endif
#if W_ONE
        w.one[i] = at[LINE * (4 * W_NIB + 2 * W_TWO)];
#endif
#if W_SUB == 16
        sub[i] = ((TO_LOCAL const ushort *)(panel + AT_SUBS))[c + 8 * i];
#elif W_SUB == 32
        sub[i] = ((TO_LOCAL const uchar *)(panel + AT_SUBS))[c + 8 * i];
#if W_MIN
        submin = ((TO_LOCAL const uchar *)(panel + AT_SUBS))[c + 8 * i + 16];
#endif
#endif
#if W_MIN
        m = ((TO_LOCAL const ushort *)(panel + AT_LEASTS))[c + 8 * i];
#endif
        dw[i] = scale_of(scales[c + 8 * i], sub[i]);
        least[i] = W_MIN ? least_of(m, submin) : 0;
    }
    pair_words(&w, t, a);
    UNROLL
    for (int j = 0; j < n; j += 2) {
        uint b[2][2];
        int low[2][4], high[2][4], sum_low[2][4], sum_high[2][4];
        UNROLL
        for (int i = 0; i < 2; i++) {
            b[i][0] = x[(8 * (j + i) + c) * ROW + t];
            b[i][1] = x[(8 * (j + i) + c) * ROW + t + 4];
        }
        pair_dots(2, a, b, low, high, exchange);
#if W_MIN == 2
        uint ones[4];
        ones[0] = ones[1] = ones[2] = ones[3] = 0x01010101;
        pair_dots(2, ones, b, sum_low, sum_high, exchange);
#endif
        UNROLL
        for (int i = 0; i < 8; i++) {
            int tile = j + i / 4, r = 8 * tile + 2 * t + i % 2, col = i % 4 / 2;
            y[tile][i % 4] = add_group((float)whole_dot(low[i / 4][i % 4], high[i / 4][i % 4], sub[col]),
                                       W_MIN == 2 ? whole_min(sum_low[i / 4][i % 4], sum_high[i / 4][i % 4], sub[col]) : 0,
                                       dw[col], least[col], dx[r], W_MIN == 1 ? sx[r] : 0, y[tile][i % 4]);
        }
    }
}

/* P panels of a tile; n tiles of 8 rows for each of the WARPS / P warps of a panel; D stages. */
DEVICE void mma_many(int P, int n, int D, TO_LOCAL uint *stages, TO_LOCAL int *found, TO_LOCAL uint *exchange, PARTS, JOB)
{
    const int T = WARPS / P * 8 * n;
    uint row0 = first + (uint)group_id(0) % tiles * (uint)T, rows = rows_until(step, count_word, end);
    if (row0 >= rows) return;
    if (!answers_some(step, count_word, roles, row0, rows - row0 < (uint)T ? rows - row0 : (uint)T, found)) return;
    uint p0 = (uint)group_id(0) / tiles * (uint)P, groups = k / 32;
    int lane = lane_id(), p = lane / 32 % P, r = lane / 32 / P * 8 * n;
    struct copier v;
    v.piece = lane % (LANES / P);
    v.panel = part_of(p0 + (uint)(lane / (LANES / P)), words, THE_PARTS).panel;
    v.at = (uint)(lane / (LANES / P) * PANEL_ROOM +
                  (v.piece < 4 * WORDS ? v.piece / 4 * LINE + v.piece % 4 * 4 : AT_SCALES + (v.piece - 4 * WORDS) * 4));
    uint row = row0 + (uint)(lane / 2 % T) < rows ? row0 + (uint)(lane / 2 % T) : rows - 1;
    v.q = (GLOBAL const uint *)activations + x + row * x_ld + (uint)(lane % 2 * 4);
    v.row_at = (uint)(AT_ROWS(P) + lane / 2 % T * ROW + lane % 2 * 4);
    row = row0 + (uint)(lane % T) < rows ? row0 + (uint)(lane % T) : rows - 1;
    v.number = activations + (lane < T ? d : s) + row * d_ld;
    v.number_at = (uint)((lane < T ? AT_ROW_D(P, T) : AT_ROW_S(P, T)) + lane % T);
    float y[8][4];
    UNROLL
    for (int i = 0; i < 4 * n; i++) y[i / 4][i % 4] = 0;
    UNROLL
    for (int i = 0; i < D - 1; i++) {
        if ((uint)i < groups) copy_group(P, T, &v, (uint)i, stages + i * STAGE_ROOM(P, T));
        async_begin();
    }
    for (uint g = 0; g < groups; g++) {
        TO_LOCAL const uint *from = stages + g % (uint)D * STAGE_ROOM(P, T);
        async_wait(D - 2);
        barrier_local();
        uint next = g + (uint)D - 1;
        if (next < groups) copy_group(P, T, &v, next, stages + next % (uint)D * STAGE_ROOM(P, T));
        async_begin();
        mma_group(n, from + p * PANEL_ROOM, from + AT_ROWS(P) + r * ROW, (TO_LOCAL const float *)from + AT_ROW_D(P, T) + r,
                  (TO_LOCAL const float *)from + AT_ROW_S(P, T) + r, y, exchange);
    }
    struct part at = part_of(p0 + (uint)p, words, THE_PARTS);
    if (p0 + (uint)p >= e3) return;
    at.out += (uint)(lane % 32 / 4);
    UNROLL
    for (int i = 0; i < 2 * n; i++) {      /* rows */
        uint to = row0 + (uint)(r + i / 2 * 8 + lane % 4 * 2 + i % 2);
        if (to >= rows || !answers(step, count_word, roles, to)) continue;
        activations[at.out + to * at.ld] = y[i / 2][i % 2];
        activations[at.out + to * at.ld + 8] = y[i / 2][i % 2 + 2];
    }
}

#define MMA_MANY(R, P, N, D)                                                                       \
    KERNEL KERNEL_SHARES(LANES, W_MIN == 2 ? 1 : 2) void linear_mma_##R(PARTS, JOB)              \
    {                                                                                              \
        LOCAL uint4 stages[(D) * STAGE_ROOM(P, R) / 4];                                            \
        LOCAL int found;                                                                           \
        LOCAL uint exchange[WARPS * MMA_EXCHANGE(2)];                                              \
        mma_many(P, N, D, (TO_LOCAL uint *)stages, &found, exchange, THE_PARTS, THE_JOB);          \
    }

MMA_MANY(64, 2, 2, 8)
MMA_MANY(128, 4, 8, 4)

#endif
