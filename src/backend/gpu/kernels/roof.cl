/* What a card can do at all: how fast it reads its memory, how fast it multiplies and adds out of registers. What
 * is written depends on all that was read or computed, so no compiler leaves any of it out.
 *
 *   ROOF_LANES      lanes of a work-group
 *   ROOF_MATRICES   1: products of small matrices (mma.cl), 0: of four bytes
 */
enum { ROOF_CHAINS = 16 };

/* The words' sum, in parts: out[group][lane]. */
KERNEL KERNEL_LANES(ROOF_LANES) void roof_read(GLOBAL const uint4 *data, GLOBAL uint *out, uint count, uint groups)
{
    uint at = (uint)group_id(0) * ROOF_LANES + (uint)lane_id(), all = groups * ROOF_LANES, i = at, sum = 0;
    for (; i + 3 * all < count; i += 4 * all) {
        uint4 a = data[i], b = data[i + all], c = data[i + 2 * all], d = data[i + 3 * all];
        sum += a.x + a.y + a.z + a.w + b.x + b.y + b.z + b.w + c.x + c.y + c.z + c.w + d.x + d.y + d.z + d.w;
    }
    for (; i < count; i += all) {
        uint4 a = data[i];
        sum += a.x + a.y + a.z + a.w;
    }
    out[at] = sum;
}

/* ROOF_CHAINS multiply-adds a round and lane. */
KERNEL KERNEL_LANES(ROOF_LANES) void roof_f32(GLOBAL float *out, int rounds)
{
    float x[ROOF_CHAINS], s = 0.5f + 1e-3f * (float)lane_id(), all = 0.0f;
    UNROLL
    for (int i = 0; i < ROOF_CHAINS; i++) x[i] = (float)i;
    NO_UNROLL
    for (int r = 0; r < rounds; r++) {
        UNROLL
        for (int i = 0; i < ROOF_CHAINS; i++) x[i] = multiply_add(x[i], s, 0.25f);
    }
    UNROLL
    for (int i = 0; i < ROOF_CHAINS; i++) all += x[i];
    out[group_id(0) * ROOF_LANES + lane_id()] = all;
}

#if ROOF_MATRICES && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800)
/* 8 products of 16 x 32 with 32 x 8 a round and warp: 1024 multiply-adds a lane. */
KERNEL KERNEL_LANES(ROOF_LANES) void roof_int8(GLOBAL int *out, int rounds)
{
    LOCAL uint exchange[ROOF_LANES / 32 * MMA_EXCHANGE(8)];
    int c[8][4], all = 0;
    uint a[4], b[8][2];
    UNROLL
    for (int i = 0; i < 8; i++) {
        a[i % 4] = 0x01020304u * (uint)(lane_id() + i);
        b[i][0] = b[i][1] = 0x04030201u + (uint)lane_id();
        c[i][0] = c[i][1] = c[i][2] = c[i][3] = 0;
    }
    NO_UNROLL
    for (int r = 0; r < rounds; r++) mma_s8(8, 3, c, a, b, exchange);
    UNROLL
    for (int i = 0; i < 8; i++) all += c[i][0] + c[i][1] + c[i][2] + c[i][3];
    out[group_id(0) * ROOF_LANES + lane_id()] = all;
}

/* The same of 16 x 16 with 16 x 8: 512 a lane. */
KERNEL KERNEL_LANES(ROOF_LANES) void roof_bf16(GLOBAL float *out, int rounds)
{
    LOCAL uint exchange[ROOF_LANES / 32 * MMA_EXCHANGE(8)];
    float c[8][4], all = 0.0f;
    uint a[4], b[8][2];
    UNROLL
    for (int i = 0; i < 8; i++) {
        a[i % 4] = 0x3f803f80u;
        b[i][0] = b[i][1] = 0x3c003c00u + (uint)lane_id();
        c[i][0] = c[i][1] = c[i][2] = c[i][3] = 0.0f;
    }
    NO_UNROLL
    for (int r = 0; r < rounds; r++) mma_bf16(8, c, a, b, exchange);
    UNROLL
    for (int i = 0; i < 8; i++) all += c[i][0] + c[i][1] + c[i][2] + c[i][3];
    out[group_id(0) * ROOF_LANES + lane_id()] = all;
}
#else
/* 4 * ROOF_CHAINS a round and lane. Each product reads what the last round made, so none can be hoisted. */
KERNEL KERNEL_LANES(ROOF_LANES) void roof_int8(GLOBAL int *out, int rounds)
{
    int c[ROOF_CHAINS], b = (int)(0x01010101u * (uint)(lane_id() % 100 + 1)), all = 0;
    UNROLL
    for (int i = 0; i < ROOF_CHAINS; i++) c[i] = i;
    NO_UNROLL
    for (int r = 0; r < rounds; r++) {
        UNROLL
        for (int i = 0; i < ROOF_CHAINS; i++) c[i] = dot4(c[(i + 5) % ROOF_CHAINS], b, c[i]);
    }
    UNROLL
    for (int i = 0; i < ROOF_CHAINS; i++) all += c[i];
    out[group_id(0) * ROOF_LANES + lane_id()] = all;
}
#endif
