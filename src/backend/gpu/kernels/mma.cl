/* Products of small matrices by a warp, for cards that have them (CUDA, compute capability 8.0 and later):
 * c[16][8 N] += a[16][K] b[K][8 N], a and b spread over the warp's 32 lanes as PTX's mma.m16n8k32 (s8) and
 * m16n8k16 (bf16) want them. Both have 8 words of K in a row or column; lane 4 g + t holds
 *
 *   a  words t of rows g and g + 8, then words t + 4 of both     b  words t and t + 4 of column 8 n + g
 *   c  columns 8 n + 2 t, 8 n + 2 t + 1 of row g, then of row g + 8
 *
 * OpenCL has no such instruction: there lanes show each other what they hold through local memory and multiply
 * by themselves, so that what stands in which lane can be checked by running it. All lanes of a work-group call
 * these together; `exchange` has MMA_EXCHANGE(N) words for each warp. Loads are those of ldmatrix. */
#ifdef __OPENCL_VERSION__
#define MMA_EXCHANGE(N) (128 + 64 * (N))

DEVICE void mma_show(int n, const uint *a, const uint (*b)[2], TO_LOCAL uint *to)
{
    int g = lane_id() % 32 / 4, t = lane_id() % 4;
    for (int i = 0; i < 4; i++) to[(g + i % 2 * 8) * 8 + t + i / 2 * 4] = a[i];
    for (int i = 0; i < 2 * n; i++) to[128 + (i / 2 * 8 + g) * 8 + t + i % 2 * 4] = b[i / 2][i % 2];
}

/* halves: 1 the first 16 of K, 2 the last, 3 all of it. */
DEVICE void mma_s8(int n, int halves, int (*c)[4], const uint *a, const uint (*b)[2], TO_LOCAL uint *exchange)
{
    int g = lane_id() % 32 / 4, t = lane_id() % 4;
    TO_LOCAL uint *warp = exchange + lane_id() / 32 * MMA_EXCHANGE(n);
    mma_show(n, a, b, warp);
    barrier_local();
    for (int i = 0; i < 4 * n; i++)
        for (int w = halves == 2 ? 4 : 0; w < (halves == 1 ? 4 : 8); w++)
            c[i / 4][i % 4] = dot4((int)warp[(g + i % 4 / 2 * 8) * 8 + w],
                                   (int)warp[128 + (i / 4 * 8 + 2 * t + i % 2) * 8 + w], c[i / 4][i % 4]);
    barrier_local();
}

DEVICE void mma_bf16(int n, float (*c)[4], const uint *a, const uint (*b)[2], TO_LOCAL uint *exchange)
{
    int g = lane_id() % 32 / 4, t = lane_id() % 4;
    TO_LOCAL uint *warp = exchange + lane_id() / 32 * MMA_EXCHANGE(n);
    mma_show(n, a, b, warp);
    barrier_local();
    for (int i = 0; i < 4 * n; i++)
        for (int w = 0; w < 8; w++) {
            uint x = warp[(g + i % 4 / 2 * 8) * 8 + w], y = warp[128 + (i / 4 * 8 + 2 * t + i % 2) * 8 + w];
            c[i / 4][i % 4] = multiply_add(as_float(x << 16), as_float(y << 16), c[i / 4][i % 4]);
            c[i / 4][i % 4] = multiply_add(as_float(x & 0xffff0000u), as_float(y & 0xffff0000u), c[i / 4][i % 4]);
        }
    barrier_local();
}

/* Four matrices of 8 rows, 4 words each: lane 8 i + r says where in `from` row r of matrix i begins, 16 bytes aligned;
 * to[i] of lane 4 g + t is word t of row g of matrix i. */
DEVICE void load_matrices(uint *to, TO_LOCAL const uint *from, int row, TO_LOCAL uint *exchange)
{
    int g = lane_id() % 32 / 4, t = lane_id() % 4;
    TO_LOCAL uint *rows = exchange + lane_id() / 32 * 32;
    rows[lane_id() % 32] = (uint)row;
    barrier_local();
    for (int i = 0; i < 4; i++) to[i] = from[rows[8 * i + g] + (uint)t];
    barrier_local();
}

/* Two floats to the nearest bf16, even where in the middle; the first one low. */
DEVICE uint brain(float x)
{
    uint u = as_uint(x);
    return (u & 0x7fffffff) > 0x7f800000 ? u >> 16 | 64 : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

DEVICE uint bf16_pair(float low, float high) { return brain(low) | brain(high) << 16; }

/* 16 bytes into local memory, there behind the next async_wait and barrier. */
#define async_copy(to, from) (*(TO_LOCAL uint4 *)(to) = *(GLOBAL const uint4 *)(from))
#define async_copy_word(to, from) (*(TO_LOCAL uint *)(to) = *(GLOBAL const uint *)(from))
#define async_begin()
#define async_wait(pending)

#else
#define MMA_EXCHANGE(N) 1

DEVICE void mma_s8(int n, int halves, int (*c)[4], const uint *a, const uint (*b)[2], uint *exchange)
{
    (void)exchange;
    UNROLL
    for (int i = 0; i < n; i++) {
        if (halves == 3)
            asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                : "+r"(c[i][0]), "+r"(c[i][1]), "+r"(c[i][2]), "+r"(c[i][3])
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[i][0]), "r"(b[i][1]));
        else
            asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                : "+r"(c[i][0]), "+r"(c[i][1]), "+r"(c[i][2]), "+r"(c[i][3])
                : "r"(a[2 * halves - 2]), "r"(a[2 * halves - 1]), "r"(b[i][halves - 1]));
    }
}

DEVICE void mma_bf16(int n, float (*c)[4], const uint *a, const uint (*b)[2], uint *exchange)
{
    (void)exchange;
    UNROLL
    for (int i = 0; i < n; i++)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[i][0]), "r"(b[i][1]));
}

DEVICE void load_matrices(uint *to, const uint *from, int row, uint *exchange)
{
    (void)exchange;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((uint)__cvta_generic_to_shared(from + row)) : "memory");
}

DEVICE uint bf16_pair(float low, float high)
{
    uint pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

DEVICE void async_copy(void *to, const void *from)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"((uint)__cvta_generic_to_shared(to)), "l"(from) : "memory");
}

DEVICE void async_copy_word(void *to, const void *from)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"((uint)__cvta_generic_to_shared(to)), "l"(from) : "memory");
}

DEVICE void async_begin(void)
{
    __syncwarp();
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Until at most so many of the last groups of copies that were begun are under way: 6, 2, 1 or 0. */
DEVICE void async_wait(int pending)
{
    if (pending >= 6) asm volatile("cp.async.wait_group 6;" ::: "memory");
    else if (pending >= 2) asm volatile("cp.async.wait_group 2;" ::: "memory");
    else if (pending == 1) asm volatile("cp.async.wait_group 1;" ::: "memory");
    else asm volatile("cp.async.wait_group 0;" ::: "memory");
}
#endif
