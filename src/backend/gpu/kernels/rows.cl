/* Row passes: what happens to a row between two linear layers. One work-group of ROW_LANES lanes has one row
 * and does a list of instructions (words.h) to it; the arithmetic is that of kernels/ref/vec.c, in float32.
 *
 * A decoded token is one row, so one work-group: it waits for memory and for its own lanes, and both are kept
 * rare. Instructions are fetched many at once, and what they will read is asked for then. Elements belong to
 * lanes by fours, the four from i to lane (i / 4) % ROW_LANES; where one instruction writes so and the next one
 * reads so, no lane reads what another one wrote, no barrier stands between them, and of rows that are not too
 * wide the value is still in registers (`held`).
 *
 * Where lanes need each other within an instruction, it has stages. All stages of all instructions are turns of
 * one loop with one barrier at its end: compilers that make loops of lanes (PoCL) can do that, and cannot do
 * barriers that stand all over.
 *
 *   ROW_LANES      lanes of a work-group, a multiple of 32, at most 1024; with it, all orders are given
 *   EXACT_DIVIDE   whether / rounds correctly
 *
 * Needs cache.cl. */
enum { ROW_KEPT = 32, HEAD_LANES = 8, PIECES = 4, FOLDED = 32 };
/* Local memory, in floats: what lanes give each other; behind it two sums over the work-group, folded. */
enum { GIVEN = PIECES * ROW_LANES, ROW_LOCAL = GIVEN + 2 * FOLDED };
enum { ROW_SCRATCH = CACHE_SCRATCH > ROW_LOCAL ? CACHE_SCRATCH : ROW_LOCAL };

/* Whether lanes are lanes. On a CPU they are turns of a loop: registers would be memory, and it reads ahead by
 * itself. */
#define ROW_CARD (ROW_LANES >= 256)

/* What an instruction is done to: row `row` of its values, which belongs to row `of` of the step. */
struct row_of {
    GLOBAL float *act;
    GLOBAL const float *vectors;
    GLOBAL const int *step;
    TO_LOCAL const int *header;        /* the step's */
    int row, of;
};

DEVICE size_t place(int at, int row, int ld) { return (size_t)(uint)at + (size_t)row * (uint)ld; }

DEVICE GLOBAL const float *row_in(struct row_of r, TO_LOCAL const int *c)
{
    return r.act + place(c[INSTR_IN], r.row, c[INSTR_IN_LD]);
}
DEVICE GLOBAL const float *row_in2(struct row_of r, TO_LOCAL const int *c)
{
    return r.act + place(c[INSTR_IN2], r.row, c[INSTR_IN2_LD]);
}
DEVICE GLOBAL float *row_out(struct row_of r, TO_LOCAL const int *c)
{
    return r.act + place(c[INSTR_OUT], r.row, c[INSTR_OUT_LD]);
}

/* The row's part of a table that came with the step: vectors, angles. */
DEVICE GLOBAL const float *row_table(struct row_of r, int which, int width)
{
    return (GLOBAL const float *)(r.step + place(r.header[which], r.of, width));
}

/* ---- numbers by fours ------------------------------------------------------------------------ */

DEVICE float4 four(float x, float y, float z, float w)
{
    float4 v;
    v.x = x, v.y = y, v.z = z, v.w = w;
    return v;
}

/* The first n of the four at p, zeros behind them; for n <= 0 nothing is read. */
DEVICE float4 load4(GLOBAL const float *p, int n)
{
    if (n >= 4 && ((size_t)p & 15) == 0) return *(GLOBAL const float4 *)p;
    return four(n > 0 ? p[0] : 0.0f, n > 1 ? p[1] : 0.0f, n > 2 ? p[2] : 0.0f, n > 3 ? p[3] : 0.0f);
}

DEVICE void store4(float4 v, GLOBAL float *p, int n)
{
    if (n >= 4 && ((size_t)p & 15) == 0) {
        *(GLOBAL float4 *)p = v;
        return;
    }
    if (n > 0) p[0] = v.x;
    if (n > 1) p[1] = v.y;
    if (n > 2) p[2] = v.z;
    if (n > 3) p[3] = v.w;
}

/* The first n of four, zeros behind them. */
DEVICE float4 cut4(float4 v, int n)
{
    return four(n > 0 ? v.x : 0.0f, n > 1 ? v.y : 0.0f, n > 2 ? v.z : 0.0f, n > 3 ? v.w : 0.0f);
}

/* What a lane has at hand: its fours of the value at place `at`, which has no more than two for each, zeros
 * behind the value's end in its last one. at is -1: of none. A place has one value in a pass, so one width. */
struct held { float4 a, b; int at; };

DEVICE int fits(int width) { return ROW_CARD && width <= 8 * ROW_LANES; }

DEVICE void hold(struct held *h, int at, GLOBAL const float *p, int width)
{
    int i = 4 * lane_id(), k = i + 4 * ROW_LANES;
    if (h->at == at) return;
    h->at = fits(width) ? at : -1;
    if (h->at < 0) return;
    h->a = load4(p + i, width - i);
    h->b = load4(p + k, width - k);
}

/* The lane's four from element i on, at hand or not. */
DEVICE float4 held4(const struct held *h, int at_hand, GLOBAL const float *p, int i, int width)
{
    if (!at_hand) return load4(p + i, width - i);
    if (i < 4 * ROW_LANES) return h->a;
    return h->b;
}

/* The lane's results, for the next instruction. */
DEVICE void keep4(struct held *h, float4 v, int i, int width)
{
    if (i < 4 * ROW_LANES) h->a = cut4(v, width - i);
    else h->b = cut4(v, width - i);
}

/* a / b, correctly rounded, of positive numbers one of which is 127, which makes ties impossible. a is at least
 * FLT_MIN, and a smaller b gives infinity: here its exponent alone says so. */
DEVICE float divide(float a, float b)
{
#if EXACT_DIVIDE
    return a / b;
#else
    /* In integers, so that neither the card's division nor what it does to denormals matters. */
    uint ma = ((uint)float_bits(a) & 0x7fffffu) | 0x800000u, mb = ((uint)float_bits(b) & 0x7fffffu) | 0x800000u;
    int e = (float_bits(a) >> 23) - (float_bits(b) >> 23) + 127;
    uint q = (uint)(((ulong)ma << 25) / mb);
    if (q >> 25 == 0) q <<= 1, e--;
    int drop = e > 0 ? 2 : 3 - e;
    if (drop > 27) return 0.0f;
    uint bits = (q >> drop) + (q >> (drop - 1) & 1) + (e > 0 ? (uint)(e - 1) << 23 : 0);
    return bits_float((int)(bits < 0x7f800000u ? bits : 0x7f800000u));
#endif
}

/* ---- functions ------------------------------------------------------------------------------- */

DEVICE float silu(float x) { return x == -INFINITY ? -0.0f : x / (1.0f + exp(-x)); }

/* x * sigmoid(2 u), as the reference writes it; the exponential of -inf and of inf are right. */
DEVICE float gelu_tanh(float x)
{
    float u = 0.797884560802865f * (x + 0.044715f * x * x * x);
    return x == -INFINITY ? -0.0f : x / (1.0f + exp(-2.0f * u));
}

DEVICE float gelu_erf(float x)
{
    return x == -INFINITY ? -0.0f : x * 0.5f * erfc(x * -0.707106781186547524f);
}

DEVICE float softcapped(float x, float cap) { return cap * tanh(x / cap); }

/* ---- element by element ---------------------------------------------------------------------- */

#define ONE(f) four(f(x.x), f(x.y), f(x.z), f(x.w))
#define TWO(f) four(f(x.x, y.x), f(x.y, y.y), f(x.z, y.z), f(x.w, y.w))

DEVICE float product(float a, float b) { return a * b; }
DEVICE float sum(float a, float b) { return a + b; }
DEVICE float silu_product(float a, float b) { return silu(a) * b; }
DEVICE float gelu_tanh_product(float a, float b) { return gelu_tanh(a) * b; }

/* y: the second value, or a number four times. */
DEVICE float4 apply(int op, float4 x, float4 y)
{
    switch (op) {
    case CODE_SILU: return ONE(silu);
    case CODE_GELU_TANH: return ONE(gelu_tanh);
    case CODE_GELU_ERF: return ONE(gelu_erf);
    case CODE_SILU_MUL: return TWO(silu_product);
    case CODE_GELU_TANH_MUL: return TWO(gelu_tanh_product);
    case CODE_MUL:
    case CODE_SCALE: return TWO(product);
    case CODE_ADD:
    case CODE_BIAS: return TWO(sum);
    case CODE_SOFTCAP: return TWO(softcapped);
    default: return x; /* copies */
    }
}

DEVICE int reads_two(int op)
{
    return op == CODE_MUL || op == CODE_ADD || op == CODE_SILU_MUL || op == CODE_GELU_TANH_MUL || op == CODE_STORE;
}

DEVICE void elementwise(struct row_of r, TO_LOCAL const int *c, struct held *h)
{
    int op = c[INSTR_OP], width = c[INSTR_WIDTH], two = reads_two(op) || op == CODE_BIAS, some = h->at >= 0;
    int hand = some && h->at == c[INSTR_IN] && op != CODE_COPY_VECTOR && op != CODE_ASK;
    int hand2 = some && h->at == c[INSTR_IN2] && op != CODE_BIAS;
    GLOBAL const float *in = row_in(r, c), *in2 = row_in2(r, c);
    GLOBAL float *out = row_out(r, c);
    float number = bits_float(c[INSTR_NUMBER]);
    if (op == CODE_COPY_VECTOR) in = row_table(r, STEP_VECTORS + c[INSTR_TABLE], width);
    if (op == CODE_ASK) in = r.act + place(c[INSTR_IN], r.of, c[INSTR_IN_LD]);
    if (op == CODE_BIAS) in2 = r.vectors + c[INSTR_B];
    NO_UNROLL
    for (int i = 4 * lane_id(); i < width; i += 4 * ROW_LANES) {
        float4 x = held4(h, hand, in, i, width), y = four(number, number, number, number);
        if (two) y = held4(h, hand2, in2, i, width);
        x = apply(op, x, y);
        store4(x, out + i, width - i);
        keep4(h, x, i, width);
    }
    h->at = fits(width) ? c[INSTR_OUT] : -1;
}

DEVICE int two_bf16(float a, float b) { return (int)((uint)cache_bf16(a) | (uint)cache_bf16(b) << 16); }

DEVICE void to_bf16(struct row_of r, TO_LOCAL const int *c, struct held *h)
{
    GLOBAL const float *in = row_in(r, c);
    GLOBAL int *to = (GLOBAL int *)r.act + place(c[INSTR_H], r.row, c[INSTR_H_LD]);
    int width = c[INSTR_WIDTH];
    hold(h, c[INSTR_IN], in, width);
    NO_UNROLL
    for (int i = 4 * lane_id(); i < width; i += 4 * ROW_LANES) {
        float4 x = held4(h, h->at >= 0, in, i, width);
        to[i / 2] = two_bf16(x.x, x.y);
        if (i + 2 < width) to[i / 2 + 1] = two_bf16(x.z, x.w);
    }
}

/* ---- codes ----------------------------------------------------------------------------------- */

DEVICE int magnitude(float x) { return float_bits(x) & 0x7fffffff; }
DEVICE int larger(int a, int b) { return a > b ? a : b; }

DEVICE int largest_of_8(TO_LOCAL const int *p)
{
    int most = 0;
    for (int i = 0; i < 8; i++) most = larger(most, p[i]);
    return most;
}

DEVICE float scale_of(int most)
{
    if (most >= 0x7f800000) return NAN;
    return divide(127.0f, bits_float(most)) < INFINITY ? divide(bits_float(most), 127.0f) : 0.0f;
}

DEVICE int codes_of(float4 x, int most)
{
    float by = most < 0x7f800000 ? divide(127.0f, bits_float(most)) : INFINITY;
    if (!(by < INFINITY)) return 0;
    return ((int)round_even(x.x * by) & 255) | ((int)round_even(x.y * by) & 255) << 8 |
           ((int)round_even(x.z * by) & 255) << 16 | (int)((uint)(int)round_even(x.w * by) << 24);
}

/* quantize of kernels/kernels.h, PIECES fours a lane at once, from element `base` on. Magnitudes are compared
 * as integers, where infinities and NaNs are the largest. Stages: a four's largest; codes; of each group of 32,
 * which is eight fours, scale and sum. */
DEVICE int quantize(int stage, int base, struct row_of r, TO_LOCAL const int *c, struct held *h,
                    TO_LOCAL int *given)
{
    GLOBAL const float *in = row_in(r, c);
    GLOBAL int *q = (GLOBAL int *)r.act + place(c[INSTR_Q], r.row, c[INSTR_Q_LD]) + base / 4;
    int width = c[INSTR_WIDTH], n = (width - base) / 4 < GIVEN ? (width - base) / 4 : GIVEN;
    if (stage == 2) {
        GLOBAL float *d = r.act + place(c[INSTR_D], r.row, c[INSTR_D_LD]) + base / 32;
        GLOBAL float *s = r.act + place(c[INSTR_S], r.row, c[INSTR_D_LD]) + base / 32;
        NO_UNROLL
        for (int g = lane_id(); g < n / 8; g += ROW_LANES) {
            int sum = 0;
            for (int i = 0; i < 8; i++) sum = dot4(q[8 * g + i], 0x01010101, sum);
            float scale = scale_of(largest_of_8(given + 8 * g));
            d[g] = scale;
            s[g] = scale * (float)sum;
        }
        return 0;
    }
    if (stage == 0) hold(h, c[INSTR_IN], in, width);
    NO_UNROLL
    for (int k = lane_id(); k < n; k += ROW_LANES) {
        float4 x = held4(h, h->at >= 0, in, base + 4 * k, width);
        if (stage == 0)
            given[k] = larger(larger(magnitude(x.x), magnitude(x.y)), larger(magnitude(x.z), magnitude(x.w)));
        else q[k] = codes_of(x, largest_of_8(given + (k & ~7)));
    }
    return stage + 1;
}

/* ---- norms ----------------------------------------------------------------------------------- */

DEVICE float add4(float4 x) { return (x.x + x.y) + (x.z + x.w); }

DEVICE float4 sums4(float4 x, float4 y) { return TWO(sum); }

/* The first n add the squares of how far they are from the mean. */
DEVICE float4 squares4(float4 sum, float4 x, float mean, int n)
{
    float a = x.x - mean, b = x.y - mean, c = x.z - mean, e = x.w - mean;
    if (n > 0) sum.x = multiply_add(a, a, sum.x);
    if (n > 1) sum.y = multiply_add(b, b, sum.y);
    if (n > 2) sum.z = multiply_add(c, c, sum.z);
    if (n > 3) sum.w = multiply_add(e, e, sum.w);
    return sum;
}

/* Lanes' sums become FOLDED. */
DEVICE void fold(TO_LOCAL const float *given, TO_LOCAL float *folded)
{
    float4 sum = four(0, 0, 0, 0);
    if (lane_id() >= FOLDED) return;
    for (int i = lane_id(); i < ROW_LANES; i += 4 * FOLDED) {
        sum.x += given[i];
        if (i + FOLDED < ROW_LANES) sum.y += given[i + FOLDED];
        if (i + 2 * FOLDED < ROW_LANES) sum.z += given[i + 2 * FOLDED];
        if (i + 3 * FOLDED < ROW_LANES) sum.w += given[i + 3 * FOLDED];
    }
    folded[lane_id()] = add4(sum);
}

/* The sum of n numbers, a multiple of four. */
DEVICE float total(TO_LOCAL const float *p, int n)
{
    float4 sum = four(0, 0, 0, 0);
    for (int i = 0; i < n; i += 4) sum = sums4(sum, *(TO_LOCAL const float4 *)(p + i));
    return add4(sum);
}

/* What of a row a lane norms: n elements from `begin` on, of which it has every lanes-th four. */
struct span { int begin, n, at, lanes, heads; };

DEVICE struct span span_of(int width, int dim, int base)
{
    struct span s;
    s.heads = dim != 0;
    s.lanes = s.heads ? HEAD_LANES : ROW_LANES;
    s.at = 4 * (s.heads ? lane_id() % HEAD_LANES : lane_id());
    s.begin = s.heads ? base + dim * (lane_id() / HEAD_LANES) : 0;
    s.n = !s.heads ? width : s.begin < width ? dim : 0;
    return s;
}

enum { NORM_SUM, NORM_FOLD_SUM, NORM_SQUARES, NORM_FOLD_SQUARES, NORM_OUT };

/* A norm of the whole row by all lanes, or of heads from element `base` on, HEAD_LANES lanes each. The mean
 * of a root mean square norm is 0. */
DEVICE int norm(int stage, int base, struct row_of r, TO_LOCAL const int *c, struct held *h, TO_LOCAL float *given)
{
    int layer = c[INSTR_OP] == CODE_NORM_LAYER, dim = c[INSTR_HEAD_DIM], width = c[INSTR_WIDTH];
    struct span s = span_of(width, dim, base);
    GLOBAL const float *in = row_in(r, c) + s.begin;
    TO_LOCAL float *squares = given + ROW_LANES, *folded = given + GIVEN, *folded2 = folded + FOLDED;
    int many = s.heads ? HEAD_LANES : FOLDED, mine = lane_id() & ~(HEAD_LANES - 1);
    float4 sum = four(0, 0, 0, 0);
    float count = (float)(s.heads ? dim : width), mean = 0.0f;
    if (stage == NORM_FOLD_SUM || stage == NORM_FOLD_SQUARES) {
        if (stage == NORM_FOLD_SUM) fold(given, folded);
        else fold(squares, folded2);
        return stage + 1;
    }
    if (stage == NORM_SUM && !s.heads) hold(h, c[INSTR_IN], in, width);
    int hand = !s.heads && h->at >= 0;
    if (stage == NORM_SUM && layer) {
        NO_UNROLL
        for (int i = s.at; i < s.n; i += 4 * s.lanes) sum = sums4(sum, held4(h, hand, in, i, s.n));
        given[lane_id()] = add4(sum);
        return s.heads ? NORM_SQUARES : NORM_FOLD_SUM;
    }
    if (layer) mean = total(s.heads ? given + mine : folded, many) / count;
    if (stage != NORM_OUT) {
        NO_UNROLL
        for (int i = s.at; i < s.n; i += 4 * s.lanes)
            sum = squares4(sum, held4(h, hand, in, i, s.n), mean, s.n - i);
        squares[lane_id()] = add4(sum);
        return s.heads ? NORM_OUT : NORM_FOLD_SQUARES;
    }
    float by = 1.0f / sqrt(total(s.heads ? squares + mine : folded2, many) / count + bits_float(c[INSTR_NUMBER]));
    GLOBAL float *out = row_out(r, c) + s.begin;
    int weight = c[INSTR_W], bias = c[INSTR_B];
    NO_UNROLL
    for (int i = s.at; i < s.n; i += 4 * s.lanes) {
        int k = s.n - i;
        float4 v = held4(h, hand, in, i, s.n), w = four(1, 1, 1, 1);
        if (weight >= 0) w = load4(r.vectors + weight + i, k);
        v = four((v.x - mean) * by * w.x, (v.y - mean) * by * w.y, (v.z - mean) * by * w.z,
                 (v.w - mean) * by * w.w);
        if (bias >= 0) v = sums4(v, load4(r.vectors + bias + i, k));
        store4(v, out + i, k);
        keep4(h, v, i, s.n);
    }
    h->at = !s.heads && fits(width) ? c[INSTR_OUT] : -1;
    return 0;
}

/* ---- rotation -------------------------------------------------------------------------------- */

DEVICE void rope(struct row_of r, TO_LOCAL const int *c)
{
    int heads = c[INSTR_HEADS], dim = c[INSTR_HEAD_DIM], rot = c[INSTR_ROT], pairs = rot / 2, rest = dim - rot;
    int halves = c[INSTR_OP] == CODE_ROPE_HALVES, apart = halves ? pairs : 1;
    GLOBAL const float *in = row_in(r, c), *angles = row_table(r, STEP_ANGLES + c[INSTR_TABLE], rot);
    GLOBAL float *out = row_out(r, c);
    NO_UNROLL
    for (int i = lane_id(); i < heads * pairs; i += ROW_LANES) {
        int h = i / pairs, j = i - h * pairs, a = h * dim + (halves ? j : 2 * j);
        float x = in[a], y = in[a + apart], cosine = angles[j], sine = angles[pairs + j];
        out[a] = x * cosine - y * sine;
        out[a + apart] = x * sine + y * cosine;
    }
    NO_UNROLL
    for (int i = lane_id(); i < heads * rest; i += ROW_LANES) {
        int h = i / rest, at = h * dim + rot + (i - h * rest);
        out[at] = in[at];
    }
}

/* ---- the cache ------------------------------------------------------------------------------- */

DEVICE int store(int stage, int base, struct row_of r, TO_LOCAL const int *c, GLOBAL uint *pool,
                 TO_LOCAL float *turned)
{
    int heads = c[INSTR_HEADS], dim = c[INSTR_HEAD_DIM], slot = r.step[r.header[STEP_SLOT] + r.row];
    int page = cache_page(r.step, c[INSTR_GROUP], r.row, slot);
    return cache_store(stage, base / dim, pool + cache_layer(page, c[INSTR_LAYERS], c[INSTR_MEMBER], heads, dim),
                       slot % CACHE_SLOTS, heads, dim, row_in(r, c), row_in2(r, c), turned, ROW_LANES);
}

/* ---- the pass -------------------------------------------------------------------------------- */

DEVICE int turns(int op) { return op == CODE_ROPE_PAIRS || op == CODE_ROPE_HALVES; }

/* Whether an instruction begins with what lanes wrote themselves, where those before it wrote so; and whether
 * it leaves all it wrote to the lanes that wrote it. */
DEVICE int begins_own(TO_LOCAL const int *c)
{
    int op = c[INSTR_OP];
    if (op == CODE_NORM_RMS || op == CODE_NORM_LAYER) return c[INSTR_HEAD_DIM] == 0;
    return !turns(op) && op != CODE_STORE;
}

DEVICE int leaves_own(TO_LOCAL const int *c) { return c[INSTR_OP] != CODE_QUANT && begins_own(c); }

/* Of what instructions will read, a line of 32 floats a lane, 32 lanes an instruction. */
DEVICE void ask_for(GLOBAL const float *p, int width)
{
    for (int i = 32 * (lane_id() % 32); i < width; i += 32 * 32) prefetch_line(p + i);
}

DEVICE void ask_for_all(struct row_of r, TO_LOCAL const int *code, int n)
{
    for (int k = lane_id() / 32; k < n; k += ROW_LANES / 32) {
        TO_LOCAL const int *c = code + k * INSTR_WORDS;
        int op = c[INSTR_OP], width = c[INSTR_WIDTH], n_vector = c[INSTR_HEAD_DIM] ? c[INSTR_HEAD_DIM] : width;
        int norm = op == CODE_NORM_RMS || op == CODE_NORM_LAYER;
        if (norm && c[INSTR_W] >= 0) ask_for(r.vectors + c[INSTR_W], n_vector);
        if ((norm || op == CODE_BIAS) && c[INSTR_B] >= 0) ask_for(r.vectors + c[INSTR_B], n_vector);
        if (op == CODE_COPY_VECTOR || op == CODE_ASK) continue;
        ask_for(row_in(r, c), width);
        if (reads_two(op)) ask_for(row_in2(r, c), width);
    }
}

/* One stage of an instruction; the next one, 0 when it is done. */
DEVICE int perform(TO_LOCAL const int *c, int stage, int base, struct row_of r, struct held *h, GLOBAL uint *pool,
                   TO_LOCAL float *given)
{
    switch (c[INSTR_OP]) {
    case CODE_NORM_RMS:
    case CODE_NORM_LAYER: return norm(stage, base, r, c, h, given);
    case CODE_QUANT: return quantize(stage, base, r, c, h, (TO_LOCAL int *)given);
    case CODE_ROPE_PAIRS:
    case CODE_ROPE_HALVES: rope(r, c), h->at = -1; return 0;
    case CODE_TO_BF16: to_bf16(r, c, h); return 0;
    case CODE_STORE: return store(stage, base, r, c, pool, given);
    default: elementwise(r, c, h); return 0;
    }
}

/* Elements that an instruction does in one round of its stages. */
DEVICE int round_of(TO_LOCAL const int *c)
{
    int op = c[INSTR_OP], dim = c[INSTR_HEAD_DIM];
    if (op == CODE_QUANT) return 4 * GIVEN;
    if (op == CODE_STORE) return dim * cache_heads_at_once(c[INSTR_HEADS], dim);
    if ((op == CODE_NORM_RMS || op == CODE_NORM_LAYER) && dim) return dim * (ROW_LANES / HEAD_LANES);
    return c[INSTR_WIDTH];
}

/* Nothing is waited for before the instructions are asked for: how many rows there are is known after that. */
KERNEL KERNEL_SHARES(ROW_LANES, 1024 / ROW_LANES)
void rows(GLOBAL float *act, GLOBAL const float *vectors, GLOBAL const int *step, GLOBAL const int *instr,
          GLOBAL uint *pool, int first, int count, int asking)
{
    LOCAL int code[ROW_KEPT * INSTR_WORDS], header[STEP_HEADER];
    LOCAL float4 given[ROW_SCRATCH / 4];
    int kept = 0, stage = 0, base = 0, at = 0;
    struct row_of r;
    struct held h;
    r.act = act, r.vectors = vectors, r.step = step, r.header = header, r.row = r.of = group_id(0);
    h.a = h.b = four(0, 0, 0, 0), h.at = -1;
    while (at < count) {
        int wait = 1, n = count - at < ROW_KEPT ? count - at : ROW_KEPT;
        if (at == kept) {
            for (int i = lane_id(); i < STEP_HEADER; i += ROW_LANES) header[i] = step[i];
            for (int i = lane_id(); i < n * INSTR_WORDS; i += ROW_LANES) code[i] = instr[(first + at) * INSTR_WORDS + i];
            kept += ROW_KEPT;
            if (r.row >= step[asking ? STEP_ASKS : STEP_ROWS]) count = 0;
        } else {
            TO_LOCAL const int *c = code + at % ROW_KEPT * INSTR_WORDS;
            if (stage == 0 && base == 0 && at % ROW_KEPT == 0) {
                if (asking) r.of = step[header[STEP_ASK_ROW] + r.row];
                if (ROW_CARD) ask_for_all(r, code, n);
            }
            stage = perform(c, stage, base, r, &h, pool, (TO_LOCAL float *)given);
            if (stage == 0) {
                base += round_of(c);
                if (base >= c[INSTR_WIDTH]) {
                    base = 0;
                    at++;
                    wait = at == kept || at == count || !leaves_own(c) || !begins_own(c + INSTR_WORDS);
                }
            }
        }
        barrier_all_if(wait);
    }
}
