/* Row passes: what happens to a row between two linear layers. One work-group of ROW_LANES lanes has one row
 * and does a list of instructions (words.h) to it; the arithmetic is that of kernels/ref/vec.c, in float32.
 *
 * A decoded token is one row, so one work-group: it waits for memory and for its own lanes, and both are kept
 * rare. Instructions are fetched all at once. Elements belong to lanes by fours, the four from i to lane
 * (i / 4) % ROW_LANES; where one instruction writes so and the next one reads so (`is_own`), no lane reads
 * what another one wrote, and no barrier stands between them.
 *
 *   ROW_LANES      lanes of a work-group, a multiple of 32, at most 1024; with it, all orders are given
 *   EXACT_DIVIDE   whether / rounds correctly
 */
enum { ROW_KEPT = 32, HEAD_LANES = 32 };

/* Where an instruction finds its row. */
struct row_of {
    GLOBAL const float *in, *in2;
    GLOBAL float *out;
    int width;
};

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

/* a / b, correctly rounded, of positive numbers. */
DEVICE float divide(float a, float b)
{
#if EXACT_DIVIDE
    return a / b;
#else
    /* In integers, so that neither the card's division nor what it does to denormals matters. */
    int ea = float_bits(a) >> 23, eb = float_bits(b) >> 23;
    uint ma = (uint)float_bits(a) & 0x7fffff, mb = (uint)float_bits(b) & 0x7fffff;
    if (ea) ma |= 0x800000; else ea = 1;
    if (eb) mb |= 0x800000; else eb = 1;
    if (!mb) return INFINITY;
    while (ma && ma < 0x800000) ma <<= 1, ea--;
    while (mb < 0x800000) mb <<= 1, eb--;
    if (!ma) return 0.0f;
    /* 25 or 26 bits of the quotient and whether something is left; e is the exponent of bit 25 */
    ulong n = (ulong)ma << 25;
    uint q = (uint)(n / mb), left = (ulong)q * mb != n;
    int e = ea - eb + 127;
    if (q >> 25 == 0) q <<= 1, e--;     /* what is shifted in is below the rounding bit: `left` stands for it */
    int drop = e > 0 ? 2 : 3 - e;
    if (drop > 27) return 0.0f;
    left |= (q & ((1u << (drop - 1)) - 1)) != 0;
    uint half = q >> (drop - 1) & 1, bits = q >> drop;
    bits += half & (left | bits);
    bits += e > 0 ? (uint)(e - 1) << 23 : 0;
    return bits_float((int)(bits < 0x7f800000 ? bits : 0x7f800000));
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

/* To nearest even; a NaN stays one. */
DEVICE uint brain(float x)
{
    uint u = (uint)float_bits(x);
    return (u & 0x7fffffff) > 0x7f800000 ? u >> 16 | 0x40 : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

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

/* Two fours at once, so that a lane waits for them together. */
DEVICE void elementwise(struct row_of r, int op, float number)
{
    int two = r.in2 != 0;
    for (int i = 4 * lane_id(); i < r.width; i += 8 * ROW_LANES) {
        int n = r.width - i, k = i + 4 * ROW_LANES, m = r.width - k;
        float4 x = load4(r.in + i, n), z = load4(r.in + k, m);
        float4 y = four(number, number, number, number), w = y;
        if (two) y = load4(r.in2 + i, n), w = load4(r.in2 + k, m);
        store4(apply(op, x, y), r.out + i, n);
        if (m > 0) store4(apply(op, z, w), r.out + k, m);
    }
}

DEVICE void to_brain(struct row_of r, GLOBAL int *h)
{
    for (int i = 4 * lane_id(); i < r.width; i += 4 * ROW_LANES) {
        float4 x = load4(r.in + i, r.width - i);
        h[i / 2] = (int)(brain(x.x) | brain(x.y) << 16);
        if (i + 2 < r.width) h[i / 2 + 1] = (int)(brain(x.z) | brain(x.w) << 16);
    }
}

/* ---- codes ----------------------------------------------------------------------------------- */

DEVICE int magnitude(float x) { return float_bits(x) & 0x7fffffff; }
DEVICE int larger(int a, int b) { return a > b ? a : b; }

/* quantize of kernels/kernels.h: a group of 32 belongs to eight lanes that stand together. Magnitudes are
 * compared as integers, where infinities and NaNs are the largest. */
DEVICE void quantize(struct row_of r, GLOBAL int *q, GLOBAL float *d, GLOBAL float *s, TO_LOCAL int *exchange)
{
    for (int first = 0; first < r.width; first += 4 * ROW_LANES) {
        int i = first + 4 * lane_id();
        float4 x = load4(r.in + i, r.width - i);
        int most = larger(larger(magnitude(x.x), magnitude(x.y)), larger(magnitude(x.z), magnitude(x.w)));
        most = max_of_8(most, exchange);
        int finite = most < 0x7f800000;
        float by = finite ? divide(127.0f, bits_float(most)) : INFINITY, scale = finite ? 0.0f : NAN;
        int c0 = 0, c1 = 0, c2 = 0, c3 = 0;
        if (by < INFINITY) {
            scale = divide(bits_float(most), 127.0f);
            c0 = (int)round_even(x.x * by), c1 = (int)round_even(x.y * by);
            c2 = (int)round_even(x.z * by), c3 = (int)round_even(x.w * by);
        }
        int sum = sum_of_8(c0 + c1 + c2 + c3, exchange);
        if (i < r.width)
            q[i / 4] = (c0 & 255) | (c1 & 255) << 8 | (c2 & 255) << 16 | (int)((uint)c3 << 24);
        if (i < r.width && i % 32 == 0) {
            d[i / 32] = scale;
            s[i / 32] = scale * (float)sum;
        }
    }
}

/* ---- norms ----------------------------------------------------------------------------------- */

/* The sum of x over a work-group or, with many heads, over 32 lanes. */
DEVICE float sum_lanes(float x, int heads, TO_LOCAL float *part, TO_LOCAL float *exchange)
{
    x = sum_of_32(x, exchange);
    if (heads) return x;
    if (lane_id() % 32 == 0) part[lane_id() / 32] = x;
    barrier_local();
    x = lane_id() % 32 < ROW_LANES / 32 ? part[lane_id() % 32] : 0.0f;
    barrier_local();
    return sum_of_32(x, exchange);
}

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

/* A norm of the whole row by all lanes, or of its heads, as many at once as there are 32 lanes for. Without a
 * mean (0) the second pass is the root mean square's. */
DEVICE void norm(struct row_of r, int layer, int dim, float eps, GLOBAL const float *weight,
                 GLOBAL const float *bias, TO_LOCAL float *part, TO_LOCAL float *exchange)
{
    int heads = dim != 0, n = heads ? dim : r.width;
    int lanes = heads ? HEAD_LANES : ROW_LANES, at = 4 * (lane_id() % lanes);
    for (int first = 0; first < r.width; first += n * (ROW_LANES / lanes)) {
        int begin = first + n * (lane_id() / lanes), end = begin < r.width ? n : 0;
        GLOBAL const float *x = r.in + begin;
        float4 sum = four(0, 0, 0, 0);
        float mean = 0.0f;
        if (layer) {
            for (int i = at; i < end; i += 4 * lanes) sum = sums4(sum, load4(x + i, end - i));
            mean = sum_lanes(add4(sum), heads, part, exchange) / (float)n;
            sum = four(0, 0, 0, 0);
        }
        for (int i = at; i < end; i += 4 * lanes) sum = squares4(sum, load4(x + i, end - i), mean, end - i);
        float by = 1.0f / sqrt(sum_lanes(add4(sum), heads, part, exchange) / (float)n + eps);
        for (int i = at; i < end; i += 4 * lanes) {
            int k = end - i;
            float4 v = load4(x + i, k), w = four(1, 1, 1, 1);
            if (weight) w = load4(weight + i, k);
            v = four((v.x - mean) * by * w.x, (v.y - mean) * by * w.y, (v.z - mean) * by * w.z,
                     (v.w - mean) * by * w.w);
            if (bias) v = sums4(v, load4(bias + i, k));
            store4(v, r.out + begin + i, k);
        }
    }
}

/* ---- rotation -------------------------------------------------------------------------------- */

DEVICE void rope(struct row_of r, int halves, int heads, int dim, int rot, GLOBAL const float *angles)
{
    int half = rot / 2, rest = dim - rot;
    for (int i = lane_id(); i < heads * half; i += ROW_LANES) {
        int h = i / half, j = i - h * half;
        int a = h * dim + (halves ? j : 2 * j), b = a + (halves ? half : 1);
        float x = r.in[a], y = r.in[b], cosine = angles[j], sine = angles[half + j];
        r.out[a] = x * cosine - y * sine;
        r.out[b] = x * sine + y * cosine;
    }
    for (int i = lane_id(); i < heads * rest; i += ROW_LANES) {
        int h = i / rest, at = h * dim + rot + (i - h * rest);
        r.out[at] = r.in[at];
    }
}

/* ---- the pass -------------------------------------------------------------------------------- */

/* Whether lanes read and write nothing but their own fours. */
DEVICE int is_own(TO_LOCAL const int *c)
{
    switch (c[INSTR_OP]) {
    case CODE_ROPE_PAIRS:
    case CODE_ROPE_HALVES:
    case CODE_STORE: return 0;
    case CODE_NORM_RMS:
    case CODE_NORM_LAYER: return c[INSTR_HEAD_DIM] == 0;
    default: return 1;
    }
}

DEVICE size_t place(int at, int row, int ld) { return (size_t)(uint)at + (size_t)row * (uint)ld; }

/* Row `row` of the values, which belongs to row `of` of the step. */
DEVICE struct row_of find_row(TO_LOCAL const int *c, GLOBAL float *act, GLOBAL const float *vectors,
                              GLOBAL const int *step, int row, int of)
{
    struct row_of r;
    int op = c[INSTR_OP];
    r.width = c[INSTR_WIDTH];
    r.in = act + place(c[INSTR_IN], op == CODE_ASK ? of : row, c[INSTR_IN_LD]);
    if (op == CODE_COPY_VECTOR)
        r.in = (GLOBAL const float *)(step + place(step[STEP_VECTORS + c[INSTR_TABLE]], of, r.width));
    r.in2 = 0;
    if (op == CODE_BIAS) r.in2 = vectors + c[INSTR_B];
    if (op == CODE_MUL || op == CODE_ADD || op == CODE_SILU_MUL || op == CODE_GELU_TANH_MUL ||
        op == CODE_STORE)
        r.in2 = act + place(c[INSTR_IN2], row, c[INSTR_IN2_LD]);
    r.out = act + place(c[INSTR_OUT], row, c[INSTR_OUT_LD]);
    return r;
}

DEVICE GLOBAL const float *vector_at(GLOBAL const float *vectors, int at)
{
    return at < 0 ? 0 : vectors + at;
}

KERNEL KERNEL_LANES(ROW_LANES) void rows(GLOBAL float *act, GLOBAL const float *vectors,
                                         GLOBAL const int *step, GLOBAL const int *instr,
                                         GLOBAL uchar *pool, int first, int count, int asking)
{
    LOCAL int code[ROW_KEPT * INSTR_WORDS];
    LOCAL float part[32], exchange[ROW_LANES];
    int row = group_id(0), of = row;
    if (row >= step[asking ? STEP_ASKS : STEP_ROWS]) count = 0;
    else if (asking) of = step[step[STEP_ASK_ROW] + row];
    for (int at = 0; at < count; at++) {
        TO_LOCAL const int *c = code + at % ROW_KEPT * INSTR_WORDS;
        if (at % ROW_KEPT == 0) {
            int n = (count - at < ROW_KEPT ? count - at : ROW_KEPT) * INSTR_WORDS;
            barrier_all();
            for (int i = lane_id(); i < n; i += ROW_LANES) code[i] = instr[(first + at) * INSTR_WORDS + i];
            barrier_local();
        } else if (!is_own(c) || !is_own(c - INSTR_WORDS)) barrier_all();
        struct row_of r = find_row(c, act, vectors, step, row, of);
        float number = bits_float(c[INSTR_NUMBER]);
        int op = c[INSTR_OP];
        switch (op) {
        case CODE_NORM_RMS:
        case CODE_NORM_LAYER:
            norm(r, op == CODE_NORM_LAYER, c[INSTR_HEAD_DIM], number, vector_at(vectors, c[INSTR_W]),
                 vector_at(vectors, c[INSTR_B]), part, exchange);
            break;
        case CODE_ROPE_PAIRS:
        case CODE_ROPE_HALVES:
            rope(r, op == CODE_ROPE_HALVES, c[INSTR_HEADS], c[INSTR_HEAD_DIM], c[INSTR_ROT],
                 (GLOBAL const float *)(step + place(step[STEP_ANGLES + c[INSTR_TABLE]], of, c[INSTR_ROT])));
            break;
        case CODE_QUANT:
            quantize(r, (GLOBAL int *)act + place(c[INSTR_Q], row, c[INSTR_Q_LD]),
                     act + place(c[INSTR_D], row, c[INSTR_D_LD]), act + place(c[INSTR_S], row, c[INSTR_D_LD]),
                     (TO_LOCAL int *)exchange);
            break;
        case CODE_TO_BF16: to_brain(r, (GLOBAL int *)act + place(c[INSTR_H], row, c[INSTR_H_LD])); break;
        case CODE_STORE: break;
        default: elementwise(r, op, number); break;
        }
    }
}
