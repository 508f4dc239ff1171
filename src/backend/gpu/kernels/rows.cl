/* Row passes: what happens to a row between two linear layers. One work-group of ROW_LANES lanes has one row
 * and does a list of instructions (words.h) to it; the arithmetic is that of kernels/ref/vec.c, in float32.
 *
 * A decoded token is one row, so one work-group: it waits for memory and for its own lanes, and both are kept
 * rare. Instructions are fetched many at once. Elements belong to lanes by fours, the four from i to lane
 * (i / 4) % ROW_LANES; where one instruction writes so and the next one reads so, no lane reads what another
 * one wrote, and no barrier stands between them.
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

DEVICE int two_bf16(float a, float b) { return (int)((uint)cache_bf16(a) | (uint)cache_bf16(b) << 16); }

DEVICE void to_bf16(struct row_of r, GLOBAL int *h)
{
    for (int i = 4 * lane_id(); i < r.width; i += 4 * ROW_LANES) {
        float4 x = load4(r.in + i, r.width - i);
        h[i / 2] = two_bf16(x.x, x.y);
        if (i + 2 < r.width) h[i / 2 + 1] = two_bf16(x.z, x.w);
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
DEVICE int quantize(int stage, int base, struct row_of r, GLOBAL int *q, GLOBAL float *d, GLOBAL float *s,
                    TO_LOCAL int *given)
{
    int n = (r.width - base) / 4 < GIVEN ? (r.width - base) / 4 : GIVEN;
    r.in += base, q += base / 4, d += base / 32, s += base / 32;
    if (stage == 2) {
        for (int g = lane_id(); g < n / 8; g += ROW_LANES) {
            int sum = 0;
            for (int i = 0; i < 8; i++) sum = dot4(q[8 * g + i], 0x01010101, sum);
            float scale = scale_of(largest_of_8(given + 8 * g));
            d[g] = scale;
            s[g] = scale * (float)sum;
        }
        return 0;
    }
    for (int k = lane_id(); k < n; k += ROW_LANES) {
        float4 x = load4(r.in + 4 * k, 4);
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

/* What of a row a lane norms: n elements from r.in on, of which it has every lanes-th four. */
struct span { int begin, n, at, lanes, heads; };

DEVICE struct span span_of(struct row_of r, int dim, int base)
{
    struct span s;
    s.heads = dim != 0;
    s.lanes = s.heads ? HEAD_LANES : ROW_LANES;
    s.at = 4 * (lane_id() % s.lanes);
    s.begin = base + dim * (lane_id() / HEAD_LANES);
    s.n = !s.heads ? r.width : s.begin < r.width ? dim : 0;
    return s;
}

enum { NORM_SUM, NORM_FOLD_SUM, NORM_SQUARES, NORM_FOLD_SQUARES, NORM_OUT };

/* A norm of the whole row by all lanes, or of heads from element `base` on, HEAD_LANES lanes each. The mean
 * of a root mean square norm is 0. */
DEVICE int norm(int stage, int base, struct row_of r, int layer, int dim, float eps,
                GLOBAL const float *weight, GLOBAL const float *bias, TO_LOCAL float *given)
{
    struct span s = span_of(r, dim, base);
    TO_LOCAL float *squares = given + ROW_LANES, *folded = given + GIVEN, *folded2 = folded + FOLDED;
    TO_LOCAL const float *mine = s.heads ? given + (lane_id() & ~(HEAD_LANES - 1)) : folded;
    TO_LOCAL const float *mine2 = s.heads ? squares + (lane_id() & ~(HEAD_LANES - 1)) : folded2;
    int many = s.heads ? HEAD_LANES : FOLDED;
    float4 sum = four(0, 0, 0, 0);
    r.in += s.begin, r.out += s.begin;
    if (stage == NORM_SUM && !layer) stage = NORM_SQUARES;
    if (stage == NORM_FOLD_SUM || stage == NORM_FOLD_SQUARES) {
        if (stage == NORM_FOLD_SUM) fold(given, folded);
        else fold(squares, folded2);
        return stage + 1;
    }
    if (stage == NORM_SUM) {
        for (int i = s.at; i < s.n; i += 4 * s.lanes) sum = sums4(sum, load4(r.in + i, s.n - i));
        given[lane_id()] = add4(sum);
        return s.heads ? NORM_SQUARES : NORM_FOLD_SUM;
    }
    float mean = layer ? total(mine, many) / (float)(s.heads ? dim : r.width) : 0.0f;
    if (stage == NORM_SQUARES) {
        for (int i = s.at; i < s.n; i += 4 * s.lanes) sum = squares4(sum, load4(r.in + i, s.n - i), mean, s.n - i);
        squares[lane_id()] = add4(sum);
        return s.heads ? NORM_OUT : NORM_FOLD_SQUARES;
    }
    float by = 1.0f / sqrt(total(mine2, many) / (float)(s.heads ? dim : r.width) + eps);
    for (int i = s.at; i < s.n; i += 4 * s.lanes) {
        int k = s.n - i;
        float4 v = load4(r.in + i, k), w = four(1, 1, 1, 1);
        if (weight) w = load4(weight + i, k);
        v = four((v.x - mean) * by * w.x, (v.y - mean) * by * w.y, (v.z - mean) * by * w.z,
                 (v.w - mean) * by * w.w);
        if (bias) v = sums4(v, load4(bias + i, k));
        store4(v, r.out + i, k);
    }
    return 0;
}

/* ---- rotation -------------------------------------------------------------------------------- */

DEVICE void rope(struct row_of r, int halves, int heads, int dim, int rot, GLOBAL const float *angles)
{
    int turns = rot / 2, rest = dim - rot;
    for (int i = lane_id(); i < heads * turns; i += ROW_LANES) {
        int h = i / turns, j = i - h * turns;
        int a = h * dim + (halves ? j : 2 * j), b = a + (halves ? turns : 1);
        float x = r.in[a], y = r.in[b], cosine = angles[j], sine = angles[turns + j];
        r.out[a] = x * cosine - y * sine;
        r.out[b] = x * sine + y * cosine;
    }
    for (int i = lane_id(); i < heads * rest; i += ROW_LANES) {
        int h = i / rest, at = h * dim + rot + (i - h * rest);
        r.out[at] = r.in[at];
    }
}

/* ---- the cache ------------------------------------------------------------------------------- */

DEVICE int store(int stage, int base, struct row_of r, TO_LOCAL const int *c, GLOBAL const int *step, int row,
                 GLOBAL uint *pool, TO_LOCAL float *turned)
{
    int heads = c[INSTR_HEADS], dim = c[INSTR_HEAD_DIM], slot = step[step[STEP_SLOT] + row];
    int page = cache_page(step, c[INSTR_GROUP], row, slot);
    return cache_store(stage, base / dim, pool + cache_layer(page, c[INSTR_LAYERS], c[INSTR_MEMBER], heads, dim),
                       slot % CACHE_SLOTS, heads, dim, r.in, r.in2, turned, ROW_LANES);
}

/* ---- the pass -------------------------------------------------------------------------------- */

/* Whether an instruction begins with what lanes wrote themselves, where those before it wrote so; and whether
 * it leaves all it wrote to the lanes that wrote it. */
DEVICE int begins_own(TO_LOCAL const int *c)
{
    int op = c[INSTR_OP];
    if (op == CODE_NORM_RMS || op == CODE_NORM_LAYER) return c[INSTR_HEAD_DIM] == 0;
    return op != CODE_ROPE_PAIRS && op != CODE_ROPE_HALVES && op != CODE_STORE;
}

DEVICE int leaves_own(TO_LOCAL const int *c) { return c[INSTR_OP] != CODE_QUANT && begins_own(c); }

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

/* One stage of an instruction; the next one, 0 when it is done. */
DEVICE int perform(TO_LOCAL const int *c, int stage, int base, struct row_of r, GLOBAL float *act,
                   GLOBAL const float *vectors, GLOBAL const int *step, GLOBAL uint *pool, int row, int of,
                   TO_LOCAL float *given)
{
    int op = c[INSTR_OP];
    float number = bits_float(c[INSTR_NUMBER]);
    switch (op) {
    case CODE_NORM_RMS:
    case CODE_NORM_LAYER:
        return norm(stage, base, r, op == CODE_NORM_LAYER, c[INSTR_HEAD_DIM], number,
                    vector_at(vectors, c[INSTR_W]), vector_at(vectors, c[INSTR_B]), given);
    case CODE_QUANT:
        return quantize(stage, base, r, (GLOBAL int *)act + place(c[INSTR_Q], row, c[INSTR_Q_LD]),
                        act + place(c[INSTR_D], row, c[INSTR_D_LD]),
                        act + place(c[INSTR_S], row, c[INSTR_D_LD]), (TO_LOCAL int *)given);
    case CODE_ROPE_PAIRS:
    case CODE_ROPE_HALVES:
        rope(r, op == CODE_ROPE_HALVES, c[INSTR_HEADS], c[INSTR_HEAD_DIM], c[INSTR_ROT],
             (GLOBAL const float *)(step + place(step[STEP_ANGLES + c[INSTR_TABLE]], of, c[INSTR_ROT])));
        return 0;
    case CODE_TO_BF16: to_bf16(r, (GLOBAL int *)act + place(c[INSTR_H], row, c[INSTR_H_LD])); return 0;
    case CODE_STORE: return store(stage, base, r, c, step, row, pool, given);
    default: elementwise(r, op, number); return 0;
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

KERNEL KERNEL_LANES(ROW_LANES) void rows(GLOBAL float *act, GLOBAL const float *vectors,
                                         GLOBAL const int *step, GLOBAL const int *instr,
                                         GLOBAL uint *pool, int first, int count, int asking)
{
    LOCAL int code[ROW_KEPT * INSTR_WORDS];
    LOCAL float4 given[ROW_SCRATCH / 4];
    int row = group_id(0), of = row, kept = 0, stage = 0, base = 0, at = 0;
    if (row >= step[asking ? STEP_ASKS : STEP_ROWS]) count = 0;
    else if (asking) of = step[step[STEP_ASK_ROW] + row];
    while (at < count) {
        int wait = 1;
        if (at == kept) {
            int n = (count - at < ROW_KEPT ? count - at : ROW_KEPT) * INSTR_WORDS;
            for (int i = lane_id(); i < n; i += ROW_LANES) code[i] = instr[(first + at) * INSTR_WORDS + i];
            kept += ROW_KEPT;
        } else {
            TO_LOCAL const int *c = code + at % ROW_KEPT * INSTR_WORDS;
            stage = perform(c, stage, base, find_row(c, act, vectors, step, row, of), act, vectors, step, pool,
                            row, of, (TO_LOCAL float *)given);
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
