/* The language of the kernels: a subset of C that is OpenCL C 1.2 and CUDA C at once, by the words
 * defined here. Rules beyond them:
 *
 *   - A kernel's parameters are pointers to GLOBAL memory and words of 32 bits (int, uint, float). A
 *     pointer is the beginning of a piece of memory; places in it are words.
 *   - LOCAL arrays are declared at the top of a kernel's body, sizes are constants; a pointer into
 *     them is TO_LOCAL float *p.
 *   - barrier_local() and barrier_all() are reached by all lanes of a work-group, the same ones.
 *     They stand in no `if`, and no return or continue leads past one: PoCL then takes branches for the first
 *     lane's in all lanes. What must happen once is better such that it may happen in every lane.
 *   - No floating-point contraction, no atomics: what is added in which order is written down.
 *     multiply_add(a, b, c) is one rounding. No double: cards emulate it.
 *   - Work-groups and lanes are one-, two- and one-dimensional: group_id(0..2), lane_id().
 *   - Numbers of lanes, sizes of blocks and types come as -D options, so loops unroll. KERNEL_SHARES(lanes,
 *     groups): registers are for so many work-groups in a unit at once. */
#ifdef __OPENCL_VERSION__

#pragma OPENCL FP_CONTRACT OFF
#define KERNEL kernel
#define KERNEL_LANES(n) __attribute__((reqd_work_group_size(n, 1, 1)))
#define KERNEL_SHARES(n, groups) KERNEL_LANES(n)
#define GLOBAL global
#define LOCAL local
#define TO_LOCAL local
#define CONSTANT constant
#define DEVICE static inline
#define UNROLL
#define NO_UNROLL
#define group_id(i) ((int)get_group_id(i))
#define lane_id() ((int)get_local_id(0))
#define barrier_local() barrier(CLK_LOCAL_MEM_FENCE)
#define barrier_all() barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)
#define barrier_all_if(needed) do { if (needed) barrier_all(); } while (0)
#define prefetch_line(p) prefetch(p, 1)
#define multiply_add(a, b, c) fma(a, b, c)
#define round_even(x) rint(x)
#define float_bits(x) as_int(x)
#define bits_float(x) as_float(x)
#define load_f16(p, i) vload_half(i, (GLOBAL const half *)(p))
#define store_f16(x, p, i) vstore_half_rte(x, i, (GLOBAL half *)(p))

DEVICE float f16_to_float(ushort h) { return vload_half(0, (const half *)&h); }

/* Four of the eight bytes of a (0..3) and b (4..7), by the four low nibbles of `which`, each 0..7. */
DEVICE uint permute_bytes(uint a, uint b, uint which)
{
    ulong all = (ulong)b << 32 | a;
    uint out = 0;
    for (int i = 0; i < 4; i++)
        out |= ((uint)(all >> (which >> 4 * i & 7) * 8) & 255) << 8 * i;
    return out;
}

/* The dot of four signed bytes with four signed bytes, and c. */
DEVICE int dot4(int a, int b, int c)
{
    char4 x = as_char4(a), y = as_char4(b);
    return c + x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
}

#else /* CUDA: NVRTC or nvcc */

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
#define ulong unsigned long long
#define KERNEL extern "C" __global__
#define KERNEL_LANES(n) __launch_bounds__(n)
#define KERNEL_SHARES(n, groups) __launch_bounds__(n, groups)
#define GLOBAL
#define LOCAL __shared__
#define TO_LOCAL
#define CONSTANT __device__ __constant__ const
#define DEVICE static __device__ __forceinline__ __attribute__((unused)) /* nvcc warns, clang does not */
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")
#define group_id(i) ((int)((i) == 0 ? blockIdx.x : (i) == 1 ? blockIdx.y : blockIdx.z))
#define lane_id() ((int)threadIdx.x)
#define barrier_local() __syncthreads()
#define barrier_all() __syncthreads()
#define barrier_all_if(needed) do { if (needed) __syncthreads(); } while (0)
#define prefetch_line(p) asm volatile("prefetch.L1 [%0];" :: "l"(p))
#define multiply_add(a, b, c) __fmaf_rn(a, b, c)
#define round_even(x) rintf(x)
#define float_bits(x) __float_as_int(x)
#define bits_float(x) __int_as_float(x)
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fffffff)
#endif
#define exp(x) expf(x)
#define tanh(x) tanhf(x)
#define sqrt(x) sqrtf(x)
#define erfc(x) erfcf(x)
#define fabs(x) fabsf(x)
#define fmax(a, b) fmaxf(a, b)

DEVICE float f16_to_float(ushort h)
{
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}

DEVICE ushort float_to_f16(float f)
{
    ushort h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}

#define load_f16(p, i) f16_to_float(((const ushort *)(p))[i])
#define store_f16(x, p, i) (((ushort *)(p))[i] = float_to_f16(x))

DEVICE uint permute_bytes(uint a, uint b, uint which) { return __byte_perm(a, b, which); }
DEVICE int dot4(int a, int b, int c) { return __dp4a(a, b, c); }

#endif

#define load_bf16(p, i) bits_float((int)((uint)((GLOBAL const ushort *)(p))[i] << 16))
