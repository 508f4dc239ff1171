/* A work-group on this machine, one lane after the other: kernels compiled as C, in words that stand in for
 * those of dialect.h. A lane runs until a barrier, then the next one does, upwards or downwards. So a lane that
 * reads too early what another one writes reads what stood there before, every time. That is what OpenCL
 * devices of CPUs do not show: their compilers set barriers of their own around loops.
 *
 * Define LANES before. */
#ifndef UNIT_BACKEND_GPU_LANES_H
#define UNIT_BACKEND_GPU_LANES_H
#include "unit/unit.h"
#include "kernels/scalar.h"
#include <math.h>
#include <stdbool.h>
#include <sys/types.h>
#include <ucontext.h>

typedef unsigned char uchar;
typedef struct { float x, y, z, w; } float4;
typedef struct { ushort x, y, z, w; } ushort4;

#define KERNEL static
#define KERNEL_LANES(n)
#define KERNEL_SHARES(n, groups)
#define GLOBAL
#define LOCAL static _Alignas(16)
#define TO_LOCAL
#define CONSTANT static const
#define DEVICE static inline
#define UNROLL
#define NO_UNROLL
#define group_id(i) (lanes_group[i])
#define lane_id() (lanes_now)
#define barrier_local() lanes_wait()
#define barrier_all() lanes_wait()
#define barrier_all_if(needed) do { if (needed) lanes_wait(); } while (0)
#define prefetch_line(p) (void)(p)
#define multiply_add(a, b, c) fmaf(a, b, c)
#define round_even(x) rintf(x)
#define float_bits(x) ((int)bits_of(x))
#define bits_float(x) float_of((uint32_t)(x))
#define load_f16(p, i) half_to_float(((const ushort *)(p))[i])
#define store_f16(x, p, i) (((ushort *)(p))[i] = float_to_half(x))
#define exp(x) expf(x)
#define erfc(x) erfcf(x)
#define tanh(x) tanhf(x)
#define sqrt(x) sqrtf(x)
#define fabs(x) fabsf(x)
#define fmax(a, b) fmaxf(a, b)

enum { LANES_STACK = 64 << 10 };
static int lanes_group[3], lanes_now, lanes_waiting, lanes_done;
static size_t lanes_barriers;
static ucontext_t lanes_all, lanes_one[LANES];
static void (*lanes_kernel)(void);

static inline void lanes_wait(void)
{
    int lane = lanes_now;
    lanes_waiting++;
    swapcontext(&lanes_one[lane], &lanes_all);
}

static inline void lanes_enter(void)
{
    lanes_kernel();
    lanes_done++;
}

static inline int dot4(int a, int b, int c)
{
    for (int i = 0; i < 32; i += 8) c += (int8_t)(a >> i) * (int8_t)(b >> i);
    return c;
}

/* Runs one work-group. All lanes come to the same barriers. */
static inline void lanes_run(void (*kernel)(void), int group, bool downwards)
{
    char *stacks = malloc((size_t)LANES * LANES_STACK);
    assert_non_null(stacks);
    lanes_group[0] = group;
    lanes_kernel = kernel;
    lanes_done = 0;
    for (int i = 0; i < LANES; i++) {
        getcontext(&lanes_one[i]);
        lanes_one[i].uc_stack.ss_sp = stacks + (size_t)i * LANES_STACK;
        lanes_one[i].uc_stack.ss_size = LANES_STACK;
        lanes_one[i].uc_link = &lanes_all;
        makecontext(&lanes_one[i], lanes_enter, 0);
    }
    while (lanes_done < LANES) {
        lanes_waiting = 0;
        for (int i = 0; i < LANES; i++) {
            lanes_now = downwards ? LANES - 1 - i : i;
            swapcontext(&lanes_all, &lanes_one[lanes_now]);
        }
        assert_true(lanes_waiting == LANES || lanes_done == LANES);
        lanes_barriers += lanes_waiting != 0;
    }
    free(stacks);
}
#endif
