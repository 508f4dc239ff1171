/* Linear layers of one type of weight: y = W x with the arithmetic of kernels/kernels.h, so that answers
 * have the cpu's bits. Panels are those of kernels/panel.h; what the type's look like comes as options from
 * its row:
 *
 *   W_WHOLE W_NIB W_TWO W_ONE  planes, 0 or 1        W_BITS W_ZERO       of a code
 *   W_GROUPS W_UNIT            of a unit: groups, words
 *   W_CODES W_STEP             words: where group 0's codes stand, and from one group's to the next
 *   W_D W_D_STEP W_M           words: scales [16] of group 0, from one to the next, minimums
 *   W_D_GROUPS                 groups that share scales
 *   W_EXPONENT                 scales are bytes e, 2^(e - 128), and not float16
 *   W_SUB W_SUB_STEP           elements under a sub-scale; words of a group's   W_SUB_NIBBLES  two in a byte
 *   W_MIN W_PLUS               enum panel_min; the panel has -m_w
 *   W_VALUES W_V0 .. W_V3      1: codes are looked up; the table, four values a word
 *   W_FLOAT                    instead of all these: 32, 16 (float16) or 17 (bf16)
 *   W_MOST                     up to how many rows a work-group has one panel, as local memory allows: 4 or 16
 *
 * Two kernels that differ in what they share, never in a row's arithmetic:
 *
 *   linear_1, linear_4, linear_8  one panel and so many rows to a work-group, which reads the panel at the
 *            memory's rate. Every lane multiplies groups of its own, then one lane for each answer adds
 *            them in ascending order while the others are at the next segment of groups.
 *   linear_many  a tile of answers to a work-group, K ascending in registers.
 *
 * A work-group whose rows are not there (the step says how many are) ends at once. */

#ifdef __OPENCL_VERSION__
#define UNROLL_TWICE
#define load_once(p) (*(p))
#define load_once4(p) (*(GLOBAL const uint4 *)(p))
#else
#define UNROLL_TWICE _Pragma("unroll 2")

/* Weights pass by once: they need no place in the first cache. */
DEVICE uint load_once(const uint *p)
{
    uint v;
    asm("ld.global.nc.L1::no_allocate.b32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
}

DEVICE uint4 load_once4(const uint *p)
{
    uint4 v;
    asm("ld.global.nc.L1::no_allocate.v4.b32 {%0, %1, %2, %3}, [%4];"
        : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}
#endif
#define load4(p) (*(GLOBAL const uint4 *)(p))

#define COLS 16
#define LANES 256

/* Up to four weights side by side: panels before e0 are the first's, before e1 the second's; o: where answers
 * go, l: from row to row. */
#define PARTS                                                                                            \
    GLOBAL const uint *w0, GLOBAL const uint *w1, GLOBAL const uint *w2, GLOBAL const uint *w3, uint e0, \
        uint e1, uint e2, uint e3, uint o0, uint o1, uint o2, uint o3, uint l0, uint l1, uint l2, uint l3
#define THE_PARTS w0, w1, w2, w3, e0, e1, e2, e3, o0, o1, o2, o3, l0, l1, l2, l3
/* words: of a panel; end: behind the launch's last row; x: activations, floats or codes, d and s their scales; tiles: of rows. */
#define JOB                                                                                            \
    GLOBAL float *activations, GLOBAL const int *step, uint words, uint k, uint x, uint x_ld, uint d, \
        uint s, uint d_ld, uint count_word, uint first, uint end, uint tiles, uint roles
#define THE_JOB activations, step, words, k, x, x_ld, d, s, d_ld, count_word, first, end, tiles, roles

/* Behind the last row that is there and that the launch is for. */
DEVICE uint rows_until(GLOBAL const int *step, uint count_word, uint end)
{
    uint rows = (uint)step[count_word];
    return rows < end ? rows : end;
}

/* Whether a launch answers a row: roles is enum gpu_roles, and the count says whether rows are those that ask. */
DEVICE int answers(GLOBAL const int *step, uint count_word, uint roles, uint row)
{
    if (!roles) return 1;
    if (count_word == STEP_ASKS) row = (uint)step[(uint)step[STEP_ASK_ROW] + row];
    return (step[(uint)step[STEP_GIVEN] + row] != 0) == (roles == 2);
}

/* Whether it answers one of n rows; for few of them. */
DEVICE int answers_any(GLOBAL const int *step, uint count_word, uint roles, uint row, int n)
{
    int any = 0;
    for (int i = 0; i < n && !any; i++) any = answers(step, count_word, roles, row + (uint)i);
    return any;
}

/* Likewise, for at most LANES rows: lanes look at one each. `found` is one word. */
DEVICE int answers_some(GLOBAL const int *step, uint count_word, uint roles, uint row, uint n, TO_LOCAL int *found)
{
    uint lane = (uint)lane_id();
    if (!roles) return 1;
    if (lane == 0) *found = 0;
    barrier_local();
    if (lane < n && answers(step, count_word, roles, row + lane)) *found = 1;
    barrier_local();
    return *found;
}

struct part { GLOBAL const uint *panel; uint out, ld; };

/* Panel p of all; one that is not there is the last. */
DEVICE struct part part_of(uint p, uint words, PARTS)
{
    struct part at;
    p = p < e3 ? p : e3 - 1;
    at.panel = p < e0 ? w0 : p < e1 ? w1 : p < e2 ? w2 : w3;
    at.out = p < e0 ? o0 : p < e1 ? o1 : p < e2 ? o2 : o3;
    at.ld = p < e0 ? l0 : p < e1 ? l1 : p < e2 ? l2 : l3;
    p -= p < e0 ? 0 : p < e1 ? e0 : p < e2 ? e1 : e2;
    at.panel += p * words;
    at.out += p * COLS;
    return at;
}

#ifndef W_FLOAT

/* ---- codes ----------------------------------------------------------------------------------- */

#define WORDS (8 * W_WHOLE + 4 * W_NIB + 2 * W_TWO + W_ONE)
#define SUPER_SUB 16                       /* words: where sub-scales begin (PANEL_SUB)           */

/* A unit's scales of group `in`, its minimums, and the group's sub-scales. */
#define SCALES(unit, in) ((GLOBAL const SCALE *)((unit) + SCALES_AT(in)))
#define SCALES_AT(in) (W_D + (in) / W_D_GROUPS * W_D_STEP)
#define LEASTS(unit) ((GLOBAL const ushort *)((unit) + W_M))
#define SUBS(type, unit, in) ((GLOBAL const type *)((unit) + SUPER_SUB + W_SUB_STEP * (in)))
#if W_EXPONENT
#define SCALE uchar
#else
#define SCALE ushort
#endif

/* Where the codes of a type have a zero that is half their range, the upper bit turned over makes a code the
 * two's complement of its value, which stands in the upper bits of a byte and is shifted down after the dot. Any
 * other zero is taken off the bytes: 128 - zero more, then 128 less, which is the upper bit turned over. */
#define HALF_ZERO (W_ZERO && W_ZERO == 1 << (W_BITS - 1))
#define UP (HALF_ZERO ? 8 - W_BITS : 0)
#define AT_TWO (UP + 4 * W_NIB)
#define AT_ONE (UP + 4 * W_NIB + 2 * W_TWO)
#define TURN_ONE (HALF_ZERO && W_ONE ? 0xffffffffu : 0)
#define TURN_TWO (HALF_ZERO && W_TWO && !W_ONE ? 0xaaaaaaaau : 0)
#define TURN_NIB (HALF_ZERO && W_NIB && !W_TWO && !W_ONE ? 0x88888888u : 0)

/* The bits of `mask`, which stand `from` bits up in w, `to` bits up. */
#define MOVED(w, from, to, mask) (((w) >> (from) & (mask)) << (to))

/* Four nibbles of each half of w looked up: bytes' lower nibbles, and upper. */
#if W_VALUES
DEVICE uint looked_up(uint w)
{
    uint which = w & 0x7777;
    return permute_bytes(permute_bytes(W_V0, W_V1, which), permute_bytes(W_V2, W_V3, which),
                         (w >> 1 & 0x4444) | 0x3210);
}

DEVICE uint value_quad(uint nib, int upper)
{
    return permute_bytes(looked_up(nib & 0xffff), looked_up(nib >> 16), upper ? 0x7531 : 0x6420);
}
#endif

/* Quad i (0..3), or i + 4, out of its words of the planes, the upper bits turned. */
DEVICE int quad(uint nib, uint two, uint one, int i, int upper)
{
#if W_VALUES
    return (int)value_quad(nib, upper);
#else
    uint q = 0;
#if W_NIB
    q |= MOVED(nib, 4 * upper, UP, 0x0f0f0f0fu);
#endif
#if W_TWO
    q |= MOVED(two, i / 2 * 2 + 4 * upper, AT_TWO, 0x03030303u);
#endif
#if W_ONE
    q |= MOVED(one, i + 4 * upper, AT_ONE, 0x01010101u);
#endif
    if (W_ZERO && !HALF_ZERO) q = (q + (128 - W_ZERO) * 0x01010101u) ^ 0x80808080u;
    return (int)q;
#endif
}

/* What one lane takes of a group: its column's words, as they are in memory. */
struct group { uint w[WORDS], d, m, sub, submin; };

DEVICE void take(GLOBAL const uint *panel, uint g, int col, struct group *to)
{
    GLOBAL const uint *unit = panel + g / W_GROUPS * W_UNIT;
    uint in = g % W_GROUPS;
    GLOBAL const uint *w = unit + W_CODES + in * W_STEP + (uint)col;
    UNROLL
    for (int i = 0; i < WORDS; i++) to->w[i] = load_once(w + COLS * i);
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

DEVICE void quads(const struct group *v, int q[8])
{
#if W_WHOLE
    UNROLL
    for (int i = 0; i < 8; i++) q[i] = (int)v->w[i];
#else
    UNROLL
    for (int i = 0; i < 8; i++)
        q[i] = quad(W_NIB ? v->w[i % 4] ^ TURN_NIB : 0, W_TWO ? v->w[(4 * W_NIB + i % 2) % WORDS] ^ TURN_TWO : 0,
                    W_ONE ? v->w[WORDS - 1] ^ TURN_ONE : 0, i % 4, i / 4);
#endif
}

/* d_w of kernels.h. Without a minimum a sub-scale of 32 has a sign. */
DEVICE float scale_of(uint d, uint sub)
{
#if W_EXPONENT
    return bits_float((int)(d < 2 ? (d + 1) << 21 : (d - 1) << 23));
#elif W_SUB == 32
    return f16_to_float((ushort)d) * (float)(W_MIN ? (int)sub : (int)(sub << 24) >> 24);
#else
    return f16_to_float((ushort)d);
#endif
}

/* What the minimum's sum is multiplied by: -m_w, or dmin. */
DEVICE float least_of(uint m, uint submin)
{
    float f = f16_to_float((ushort)m);
#if W_SUB == 32
    f *= (float)submin;
#endif
    return W_MIN != 1 ? f : W_PLUS ? f : -f;
}

/* Sub-scales of the two halves of a group. */
#if W_SUB_NIBBLES
#define SUB_OF(sub, half) ((int)((sub) >> 8 * (half) & 15))
#define SUBMIN_OF(sub, half) ((int)((sub) >> (8 * (half) + 4) & 15))
#else
#define SUB_OF(sub, half) ((int)((sub) << (24 - 8 * (half))) >> 24)
#endif

/* The integer dot of a group from those of its halves. */
DEVICE int whole_dot(int a, int b, uint sub)
{
#if W_SUB == 16
    return (SUB_OF(sub, 0) * a + SUB_OF(sub, 1) * b) >> UP;
#else
    return (a + b) >> UP;
#endif
}

DEVICE float whole_min(int a, int b, uint sub)
{
#if W_MIN == 2
    return -(float)(SUBMIN_OF(sub, 0) * a + SUBMIN_OF(sub, 1) * b);
#else
    return 0;
#endif
}

/* One group's share of an answer. min: whole_min, least: least_of. */
DEVICE float add_group(float dot, float min, float dw, float least, float dx, float sx, float y)
{
    y = multiply_add(dot, dw * dx, y);
#if W_MIN == 1
    y = multiply_add(least, sx, y);
#elif W_MIN == 2
    y = multiply_add(min, least * dx, y);
#endif
    return y;
}

/* ---- codes, few rows ------------------------------------------------------------------------- */

/* A segment of S groups of R rows in local memory: the groups' dots [S][R][ROW_LD], minimums' sums likewise, d_w and
 * -m_w [COLS][S + 4], d_x and s_x [R][S]; sizes are such that lanes meet in few banks. */
#define ROW_LD(R) ((R) < 8 ? COLS : COLS + 4)
#define DOT_LD(R) ((R) * ROW_LD(R) + COLS)
#define AT_MINS(R, S) ((S) * DOT_LD(R))
#define AT_D(R, S) (AT_MINS(R, S) + (W_MIN == 2 ? (S) * DOT_LD(R) : 0))
#define AT_M(R, S) (AT_D(R, S) + ((S) + 4) * COLS)
#define AT_DX(R, S) (AT_M(R, S) + (W_MIN ? ((S) + 4) * COLS : 0))
#define AT_SX(R, S) (AT_DX(R, S) + (S) * (R))
#define SEGMENT(R, S) (AT_SX(R, S) + (W_MIN == 1 ? (S) * (R) : 0))
#define SLOTS (LANES / COLS)               /* S where sixteen lanes multiply a group              */

/* What a lane fetches two segments ahead: its group, and one number of d_x and s_x, and one row's codes
 * where there is only one. */
struct ahead { struct group w; float dx, sx; uint4 low, high; };

/* Rows: where the tile's first row's codes and scales begin, and its last row that is there. */
struct rows { GLOBAL const uint *q; GLOBAL const float *d, *s; uint ld, d_ld; int last; };

DEVICE void fetch(int R, GLOBAL const uint *panel, const struct rows *x, uint segment, uint groups,
                  struct ahead *to)
{
    int lane = lane_id();
    uint g = segment * SLOTS + (uint)lane / COLS;
    if (g < groups) {
        take(panel, g, lane % COLS, &to->w);
        if (R == 1) {
            to->low = load4(x->q + 8 * g);
            to->high = load4(x->q + 8 * g + 4);
        }
    }
    g = segment * SLOTS + (uint)lane % SLOTS;
    if (lane < R * SLOTS && g < groups) {
        int r = lane / SLOTS < x->last ? lane / SLOTS : x->last;
        to->dx = x->d[(uint)r * x->d_ld + g];
#if W_MIN == 1
        to->sx = x->s[(uint)r * x->d_ld + g];
#endif
    }
}

DEVICE void multiply(int R, const struct ahead *v, const struct rows *x, uint segment, uint groups,
                     TO_LOCAL float *to)
{
    int lane = lane_id(), slot = lane / COLS, col = lane % COLS;
    uint g = segment * SLOTS + (uint)slot;
    if (lane < R * SLOTS) {
        to[AT_DX(R, SLOTS) + lane] = v->dx;
#if W_MIN == 1
        to[AT_SX(R, SLOTS) + lane] = v->sx;
#endif
    }
    if (g >= groups) return;
    int q[8];
    quads(&v->w, q);
    to[AT_D(R, SLOTS) + col * (SLOTS + 4) + slot] = scale_of(v->w.d, v->w.sub);
#if W_MIN
    to[AT_M(R, SLOTS) + col * (SLOTS + 4) + slot] = least_of(v->w.m, v->w.submin);
#endif
    UNROLL
    for (int r = 0; r < R; r++) {
        uint4 low = v->low, high = v->high;
        if (R > 1) {
            GLOBAL const uint *at = x->q + (uint)(r < x->last ? r : x->last) * x->ld + 8 * g;
            low = load4(at);
            high = load4(at + 4);
        }
        int a = dot4(q[0], (int)low.x, dot4(q[1], (int)low.y, dot4(q[2], (int)low.z, dot4(q[3], (int)low.w, 0))));
        int b = dot4(q[4], (int)high.x,
                     dot4(q[5], (int)high.y, dot4(q[6], (int)high.z, dot4(q[7], (int)high.w, 0))));
        to[slot * DOT_LD(R) + r * ROW_LD(R) + col] = (float)whole_dot(a, b, v->w.sub);
#if W_MIN == 2
        const int ones = 0x01010101;
        a = dot4(ones, (int)low.x, dot4(ones, (int)low.y, dot4(ones, (int)low.z, dot4(ones, (int)low.w, 0))));
        b = dot4(ones, (int)high.x, dot4(ones, (int)high.y, dot4(ones, (int)high.z, dot4(ones, (int)high.w, 0))));
        to[AT_MINS(R, SLOTS) + slot * DOT_LD(R) + r * ROW_LD(R) + col] = whole_min(a, b, v->w.sub);
#endif
    }
}

/* The row that a lane adds for. With rows of ROW_LD, those of a warp are four apart. */
DEVICE int row_of_lane(int R)
{
    int lane = lane_id();
    return R < 8 ? lane / COLS : lane / 128 * 8 + lane / 32 % 4 + lane / 16 % 2 * 4;
}

/* A lane's answer and one segment more; `from` is 16 bytes aligned. */
DEVICE float add_segment(int R, int S, TO_LOCAL const float *from, uint segment, uint groups, float y)
{
    int r = row_of_lane(R), col = lane_id() % COLS;
    uint left = groups - segment * (uint)S;
    TO_LOCAL const float *dot = from + r * ROW_LD(R) + col, *min = dot + AT_MINS(R, S);
    TO_LOCAL const float *dw = from + AT_D(R, S) + col * (S + 4), *least = from + AT_M(R, S) + col * (S + 4);
    TO_LOCAL const float *dx = from + AT_DX(R, S) + r * S, *sx = from + AT_SX(R, S) + r * S;
    if (r >= R) return y;
    if (left < (uint)S) {
        NO_UNROLL
        for (int i = 0; i < (int)left; i++)
            y = add_group(dot[i * DOT_LD(R)], W_MIN == 2 ? min[i * DOT_LD(R)] : 0, dw[i], W_MIN ? least[i] : 0, dx[i],
                          W_MIN == 1 ? sx[i] : 0, y);
        return y;
    }
    UNROLL_TWICE                           /* all of it would take twice the registers */
    for (int i = 0; i < S; i += 4) {
        float4 dw4 = *(TO_LOCAL const float4 *)(dw + i), dx4 = *(TO_LOCAL const float4 *)(dx + i), m4 = dw4, sx4 = dx4;
        float n[4];
        n[0] = n[1] = n[2] = n[3] = 0;
#if W_MIN
        m4 = *(TO_LOCAL const float4 *)(least + i);
#endif
#if W_MIN == 1
        sx4 = *(TO_LOCAL const float4 *)(sx + i);
#elif W_MIN == 2
        UNROLL
        for (int j = 0; j < 4; j++) n[j] = min[(i + j) * DOT_LD(R)];
#endif
        y = add_group(dot[i * DOT_LD(R)], n[0], dw4.x, m4.x, dx4.x, sx4.x, y);
        y = add_group(dot[(i + 1) * DOT_LD(R)], n[1], dw4.y, m4.y, dx4.y, sx4.y, y);
        y = add_group(dot[(i + 2) * DOT_LD(R)], n[2], dw4.z, m4.z, dx4.z, sx4.z, y);
        y = add_group(dot[(i + 3) * DOT_LD(R)], n[3], dw4.w, m4.w, dx4.w, sx4.w, y);
    }
    return y;
}

/* The tile of n rows from `row` on. */
DEVICE struct rows rows_at(uint row, int n, JOB)
{
    struct rows in;
    in.q = (GLOBAL const uint *)activations + x + row * x_ld;
    in.d = activations + d + row * d_ld;
    in.s = activations + s + row * d_ld;
    in.ld = x_ld;
    in.d_ld = d_ld;
    in.last = n - 1;
    return in;
}

DEVICE void few(int R, TO_LOCAL float *room, PARTS, JOB)
{
    struct part at = part_of((uint)group_id(0) / tiles, words, THE_PARTS);
    uint row = first + (uint)group_id(0) % tiles * (uint)R, rows = rows_until(step, count_word, end);
    if (row >= rows) return;
    int there = rows - row < (uint)R ? (int)(rows - row) : R;
    if (!answers_any(step, count_word, roles, row, there)) return;
    uint groups = k / 32, segments = (groups + SLOTS - 1) / SLOTS;
    struct rows in = rows_at(row, there, THE_JOB);
    TO_LOCAL float *even = room, *odd = room + SEGMENT(R, SLOTS);
    struct ahead a, b;
    float y = 0;
    fetch(R, at.panel, &in, 0, groups, &a);
    fetch(R, at.panel, &in, 1, groups, &b);
    /* one barrier a segment: what was multiplied before it is added behind it */
    for (uint i = 0; i <= segments; i += 2) {
        multiply(R, &a, &in, i, groups, even);
        fetch(R, at.panel, &in, i + 2, groups, &a);
        if (i) y = add_segment(R, SLOTS, odd, i - 1, groups, y);
        barrier_local();
        multiply(R, &b, &in, i + 1, groups, odd);
        fetch(R, at.panel, &in, i + 3, groups, &b);
        if (i < segments) y = add_segment(R, SLOTS, even, i, groups, y);
        barrier_local();
    }
    uint mine = (uint)row_of_lane(R);
    if ((int)mine <= in.last && answers(step, count_word, roles, row + mine))
        activations[at.out + (row + mine) * at.ld + (uint)lane_id() % COLS] = y;
}

#define FEW(R)                                                \
    KERNEL KERNEL_SHARES(LANES, 2) void linear_##R(PARTS, JOB) \
    {                                                         \
        LOCAL float4 room[2 * SEGMENT(R, SLOTS) / 4];         \
        few(R, (TO_LOCAL float *)room, THE_PARTS, THE_JOB);   \
    }

/* ---- codes, many rows ------------------------------------------------------------------------ */

#define TILE 64                            /* columns and rows; a lane has 4 x 4 answers          */
/* A group of the tile in local memory: quads of the weights [8][TILE], of the activations likewise; numbers d_w,
 * -m_w, sub-scales (as bits), d_x, s_x [TILE] each. */
#define TILE_WORDS (16 * TILE)
#define TILE_NUMBERS (5 * TILE)

/* A lane's share: two quads of a column, two words of a row, and what stands at piece 0 .. 3 of a column or row. */
struct piece { uint nib, two, one, x0, x1, a, b; float f; };

DEVICE void piece_take(GLOBAL const uint *panel, GLOBAL const uint *q, GLOBAL const float *d,
                       GLOBAL const float *s, uint g, struct piece *to)
{
    int lane = lane_id(), col = lane % COLS, part = lane / TILE;
    GLOBAL const uint *unit = panel + g / W_GROUPS * W_UNIT;
    uint in = g % W_GROUPS;
    GLOBAL const uint *w = unit + W_CODES + in * W_STEP + (uint)col;
#if W_WHOLE
    to->nib = w[COLS * part];
    to->two = w[COLS * (part + 4)];
#else
#if W_NIB
    to->nib = w[COLS * part] ^ TURN_NIB;
#endif
#if W_TWO
    to->two = w[COLS * (4 * W_NIB + part % 2)] ^ TURN_TWO;
#endif
#if W_ONE
    to->one = w[COLS * (4 * W_NIB + 2 * W_TWO)] ^ TURN_ONE;
#endif
#endif
    to->x0 = q[8 * g];
    to->x1 = q[8 * g + 1];
    if (part == 0) to->a = SCALES(unit, in)[col];
#if W_MIN
    if (part == 1) to->a = LEASTS(unit)[col];
#endif
#if W_SUB == 32
    if (part < 1 + (W_MIN != 0)) to->b = SUBS(uchar, unit, in)[16 * part + col];
#elif W_SUB == 16
    if (part == 0) to->b = SUBS(ushort, unit, in)[col];
#endif
    if (part == 2) to->f = d[g];
#if W_MIN == 1
    if (part == 3) to->f = s[g];
#endif
}

DEVICE void piece_put(const struct piece *v, TO_LOCAL uint *to, TO_LOCAL float *number)
{
    int lane = lane_id(), at = lane % TILE, part = lane / TILE;
#if W_WHOLE
    to[part * TILE + at] = v->nib;
    to[(part + 4) * TILE + at] = v->two;
#else
    to[part * TILE + at] = (uint)quad(v->nib, v->two, v->one, part, 0);
    to[(part + 4) * TILE + at] = (uint)quad(v->nib, v->two, v->one, part, 1);
#endif
    TO_LOCAL uint *x = to + 8 * TILE + lane % 4 * 2 * TILE + lane / 4;
    x[0] = v->x0;
    x[TILE] = v->x1;
    if (part == 0) number[at] = scale_of(v->a, v->b);
#if W_MIN
    if (part == 1) number[TILE + at] = least_of(v->a, v->b);
#endif
#if W_SUB == 16
    if (part == 0) number[2 * TILE + at] = bits_float((int)v->b);
#endif
    if (part == 2) number[3 * TILE + at] = v->f;
#if W_MIN == 1
    if (part == 3) number[4 * TILE + at] = v->f;
#endif
}

/* Dots of quads i0 .. i0 + 3 of a lane's columns and rows; sums: of the rows' codes. */
DEVICE void tile_dots(TO_LOCAL const uint *from, int i0, int col, int row, int dot[4][4], int sums[4])
{
    UNROLL
    for (int r = 0; r < 4; r++) {
        sums[r] = 0;
        UNROLL
        for (int c = 0; c < 4; c++) dot[r][c] = 0;
    }
    UNROLL
    for (int i = i0; i < i0 + 4; i++) {
        uint4 w = *(TO_LOCAL const uint4 *)(from + i * TILE + col);
        uint4 x = *(TO_LOCAL const uint4 *)(from + (8 + i) * TILE + row);
        uint xs[4];
        xs[0] = x.x, xs[1] = x.y, xs[2] = x.z, xs[3] = x.w;
        UNROLL
        for (int r = 0; r < 4; r++) {
            dot[r][0] = dot4((int)w.x, (int)xs[r], dot[r][0]);
            dot[r][1] = dot4((int)w.y, (int)xs[r], dot[r][1]);
            dot[r][2] = dot4((int)w.z, (int)xs[r], dot[r][2]);
            dot[r][3] = dot4((int)w.w, (int)xs[r], dot[r][3]);
#if W_MIN == 2
            sums[r] = dot4(0x01010101, (int)xs[r], sums[r]);
#endif
        }
    }
}

DEVICE void tile_add(TO_LOCAL const uint *from, TO_LOCAL const float *number, int col, int row, float y[4][4])
{
    int low[4][4], high[4][4], sum_low[4], sum_high[4];
    tile_dots(from, 0, col, row, low, sum_low);
    tile_dots(from, 4, col, row, high, sum_high);
    UNROLL
    for (int c = 0; c < 4; c++) {
        float dw = number[col + c], least = W_MIN ? number[TILE + col + c] : 0;
        uint sub = W_SUB == 16 ? (uint)float_bits(number[2 * TILE + col + c]) : 0;
        UNROLL
        for (int r = 0; r < 4; r++)
            y[r][c] = add_group((float)whole_dot(low[r][c], high[r][c], sub),
                                whole_min(sum_low[r], sum_high[r], sub), dw, least, number[3 * TILE + row + r],
                                W_MIN == 1 ? number[4 * TILE + row + r] : 0, y[r][c]);
    }
}

KERNEL KERNEL_SHARES(LANES, 2) void linear_many(PARTS, JOB)
{
    LOCAL uint4 codes[2 * TILE_WORDS / 4];
    LOCAL float numbers[2 * TILE_NUMBERS];
    LOCAL int found;
    uint row0 = first + (uint)group_id(0) % tiles * TILE, rows = rows_until(step, count_word, end);
    if (row0 >= rows) return;
    if (!answers_some(step, count_word, roles, row0, rows - row0 < TILE ? rows - row0 : TILE, &found)) return;
    uint p0 = (uint)group_id(0) / tiles * (TILE / COLS), groups = k / 32;
    int lane = lane_id(), col = lane % 16 * 4, row = lane / 16 * 4;
    struct part at = part_of(p0 + (uint)lane % TILE / COLS, words, THE_PARTS);
    /* the row whose codes this lane takes, and the one whose scale */
    uint rq = row0 + (uint)lane / 4, rd = row0 + (uint)lane % TILE;
    rq = rq < rows ? rq : rows - 1;
    rd = rd < rows ? rd : rows - 1;
    GLOBAL const uint *q = (GLOBAL const uint *)activations + x + rq * x_ld + (uint)lane % 4 * 2;
    GLOBAL const float *dx = activations + d + rd * d_ld, *sx = activations + s + rd * d_ld;
    struct piece v;
    float y[4][4];
    UNROLL
    for (int i = 0; i < 16; i++) y[i / 4][i % 4] = 0;
    v.nib = v.two = v.one = v.x0 = v.x1 = v.a = v.b = 0;
    v.f = 0;
    if (groups) piece_take(at.panel, q, dx, sx, 0, &v);
    for (uint g = 0; g < groups; g++) {
        TO_LOCAL uint *to = (TO_LOCAL uint *)codes + g % 2 * TILE_WORDS;
        TO_LOCAL float *number = numbers + g % 2 * TILE_NUMBERS;
        piece_put(&v, to, number);
        if (g + 1 < groups) piece_take(at.panel, q, dx, sx, g + 1, &v);
        barrier_local();
        tile_add(to, number, col, row, y);
    }
    at = part_of(p0 + (uint)col / COLS, words, THE_PARTS);
    if (p0 + (uint)col / COLS >= e3) return;
    UNROLL
    for (int i = 0; i < 4; i++) {
        uint r = row0 + (uint)(row + i);
        if (r >= rows || !answers(step, count_word, roles, r)) continue;
        UNROLL
        for (int c = 0; c < 4; c++) activations[at.out + r * at.ld + (uint)(col % COLS + c)] = y[i][c];
    }
}

#else /* W_FLOAT */

/* ---- floats, few rows ------------------------------------------------------------------------ */

/* A stage: what all lanes take of a panel with one load each, and so many of K. */
#define STAGE (4 * LANES)
#define STAGE_K (W_FLOAT == 32 ? STAGE / COLS : 2 * STAGE / COLS)
#define X_LD (STAGE_K + 4)
#define STAGE_X(R) (((R) * STAGE_K + LANES - 1) / LANES)

/* Element `at` of K and this column, among the words of a stage. */
DEVICE float element(TO_LOCAL const uint *w, int at, int col)
{
#if W_FLOAT == 32
    return bits_float((int)w[at * COLS + col]);
#elif W_FLOAT == 16
    uint word = w[at * (COLS / 2) + col / 2];
    return f16_to_float((ushort)(word >> col % 2 * 16));
#else
    uint word = w[at / 2 * COLS + col];
    return bits_float((int)(at % 2 ? word & 0xffff0000u : word << 16));
#endif
}

struct ahead { uint4 w; float x[8 * (W_FLOAT == 32 ? 1 : 2)]; };

DEVICE void fetch(int R, GLOBAL const uint *panel, uint words, GLOBAL const float *x, uint x_ld, int last, uint k,
                  uint stage, struct ahead *to)
{
    uint lane = (uint)lane_id(), at = stage * STAGE + 4 * lane;
    if (at < words) to->w = load_once4(panel + at);
    UNROLL
    for (int i = 0; i < STAGE_X(R); i++) {
        int one = (int)lane + i * LANES, r = one / STAGE_K;
        uint in = stage * STAGE_K + (uint)(one % STAGE_K);
        if (r < R && in < k) to->x[i] = x[(uint)(r < last ? r : last) * x_ld + in];
    }
}

DEVICE void put(int R, const struct ahead *v, TO_LOCAL uint *w, TO_LOCAL float *x)
{
    int lane = lane_id();
    ((TO_LOCAL uint4 *)w)[lane] = v->w;
    UNROLL
    for (int i = 0; i < STAGE_X(R); i++) {
        int one = lane + i * LANES, r = one / STAGE_K;
        if (r < R) x[r * X_LD + one % STAGE_K] = v->x[i];
    }
}

DEVICE float add_stage(int R, TO_LOCAL const uint *w, TO_LOCAL const float *x, uint left, float y)
{
    int lane = lane_id(), col = lane % COLS;
    if (lane >= R * COLS) return y;
    x += lane / COLS * X_LD;
    if (left < STAGE_K) {
        for (int i = 0; i < (int)left; i++) y = multiply_add(element(w, i, col), x[i], y);
        return y;
    }
    UNROLL
    for (int i = 0; i < STAGE_K; i++) y = multiply_add(element(w, i, col), x[i], y);
    return y;
}

DEVICE void few(int R, TO_LOCAL uint *w, TO_LOCAL float *xs, PARTS, JOB)
{
    struct part at = part_of((uint)group_id(0) / tiles, words, THE_PARTS);
    uint row = first + (uint)group_id(0) % tiles * (uint)R, rows = rows_until(step, count_word, end);
    if (row >= rows) return;
    if (!answers_any(step, count_word, roles, row, rows - row < (uint)R ? (int)(rows - row) : R)) return;
    GLOBAL const float *in = activations + x + row * x_ld;
    int last = rows - row < (uint)R ? (int)(rows - row) - 1 : R - 1;
    uint stages = (k + STAGE_K - 1) / STAGE_K;
    struct ahead a, b;
    float y = 0;
    fetch(R, at.panel, words, in, x_ld, last, k, 0, &a);
    fetch(R, at.panel, words, in, x_ld, last, k, 1, &b);
    for (uint i = 0; i < stages; i += 2) {
        put(R, &a, w, xs);
        fetch(R, at.panel, words, in, x_ld, last, k, i + 2, &a);
        barrier_local();
        y = add_stage(R, w, xs, k - i * STAGE_K, y);
        if (i + 1 == stages) break;
        put(R, &b, w + STAGE, xs + R * X_LD);
        fetch(R, at.panel, words, in, x_ld, last, k, i + 3, &b);
        barrier_local();
        y = add_stage(R, w + STAGE, xs + R * X_LD, k - (i + 1) * STAGE_K, y);
    }
    int lane = lane_id();
    if (lane / COLS <= last && answers(step, count_word, roles, row + (uint)lane / COLS))
        activations[at.out + (row + (uint)lane / COLS) * at.ld + (uint)lane % COLS] = y;
}

#define FEW(R)                                                \
    KERNEL KERNEL_SHARES(LANES, 2) void linear_##R(PARTS, JOB) \
    {                                                         \
        LOCAL uint4 w[2 * STAGE / 4];                         \
        LOCAL float xs[2 * (R) * X_LD];                       \
        few(R, (TO_LOCAL uint *)w, xs, THE_PARTS, THE_JOB);   \
    }

/* ---- floats, many rows ----------------------------------------------------------------------- */

#define TILE 64
#define TILE_K 16

DEVICE float weight(GLOBAL const uint *panel, uint k, int col)
{
#if W_FLOAT == 32
    return bits_float((int)panel[k * COLS + (uint)col]);
#elif W_FLOAT == 16
    return f16_to_float(((GLOBAL const ushort *)panel)[k * COLS + (uint)col]);
#else
    return bits_float((int)((uint)((GLOBAL const ushort *)panel)[(k / 2 * COLS + (uint)col) * 2 + k % 2] << 16));
#endif
}

/* Four weights of a column and four of a row's numbers. */
struct piece { float w[4], x[4]; };

DEVICE void piece_take(GLOBAL const uint *panel, GLOBAL const float *x, uint k0, uint k, struct piece *to)
{
    int lane = lane_id();
    UNROLL
    for (int i = 0; i < 4; i++) {
        uint kw = k0 + (uint)(lane / TILE + 4 * i), kx = k0 + (uint)(lane % 4 * 4 + i);
        if (kw < k) to->w[i] = weight(panel, kw, lane % COLS);
        if (kx < k) to->x[i] = x[kx];
    }
}

DEVICE void piece_put(const struct piece *v, TO_LOCAL float *to)
{
    int lane = lane_id();
    UNROLL
    for (int i = 0; i < 4; i++) {
        to[(lane / TILE + 4 * i) * TILE + lane % TILE] = v->w[i];
        to[(TILE_K + lane % 4 * 4 + i) * TILE + lane / 4] = v->x[i];
    }
}

DEVICE void tile_add(TO_LOCAL const float *from, int i, int col, int row, float y[4][4])
{
    float4 w = *(TO_LOCAL const float4 *)(from + i * TILE + col);
    float4 x = *(TO_LOCAL const float4 *)(from + (TILE_K + i) * TILE + row);
    float xs[4];
    xs[0] = x.x, xs[1] = x.y, xs[2] = x.z, xs[3] = x.w;
    UNROLL
    for (int r = 0; r < 4; r++) {
        y[r][0] = multiply_add(w.x, xs[r], y[r][0]);
        y[r][1] = multiply_add(w.y, xs[r], y[r][1]);
        y[r][2] = multiply_add(w.z, xs[r], y[r][2]);
        y[r][3] = multiply_add(w.w, xs[r], y[r][3]);
    }
}

KERNEL KERNEL_SHARES(LANES, 2) void linear_many(PARTS, JOB)
{
    LOCAL float4 tiles_of[2 * 2 * TILE_K * TILE / 4];
    LOCAL int found;
    uint row0 = first + (uint)group_id(0) % tiles * TILE, rows = rows_until(step, count_word, end);
    if (row0 >= rows) return;
    if (!answers_some(step, count_word, roles, row0, rows - row0 < TILE ? rows - row0 : TILE, &found)) return;
    uint p0 = (uint)group_id(0) / tiles * (TILE / COLS);
    int lane = lane_id(), col = lane % 16 * 4, row = lane / 16 * 4;
    struct part at = part_of(p0 + (uint)lane % TILE / COLS, words, THE_PARTS);
    uint rx = row0 + (uint)lane / 4;
    GLOBAL const float *in = activations + x + (rx < rows ? rx : rows - 1) * x_ld;
    struct piece v;
    float y[4][4];
    UNROLL
    for (int i = 0; i < 16; i++) y[i / 4][i % 4] = 0;
    UNROLL
    for (int i = 0; i < 4; i++) v.w[i] = v.x[i] = 0;
    piece_take(at.panel, in, 0, k, &v);
    for (uint k0 = 0; k0 < k; k0 += TILE_K) {
        TO_LOCAL float *to = (TO_LOCAL float *)tiles_of + k0 / TILE_K % 2 * (2 * TILE_K * TILE);
        piece_put(&v, to);
        piece_take(at.panel, in, k0 + TILE_K, k, &v);
        barrier_local();
        if (k - k0 >= TILE_K) {
            UNROLL
            for (int i = 0; i < TILE_K; i++) tile_add(to, i, col, row, y);
        } else {
            for (int i = 0; i < (int)(k - k0); i++) tile_add(to, i, col, row, y);
        }
    }
    at = part_of(p0 + (uint)col / COLS, words, THE_PARTS);
    if (p0 + (uint)col / COLS >= e3) return;
    UNROLL
    for (int i = 0; i < 4; i++) {
        uint r = row0 + (uint)(row + i);
        if (r >= rows || !answers(step, count_word, roles, r)) continue;
        UNROLL
        for (int c = 0; c < 4; c++) activations[at.out + r * at.ld + (uint)(col % COLS + c)] = y[i][c];
    }
}
#endif

FEW(1)
FEW(4)
#if W_MOST >= 8
FEW(8)
#endif
