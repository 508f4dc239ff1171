/* Two mocks of the libraries of cards.
 *
 * A machine with a card of NVIDIA's that is none: one shared object with the symbols of libcuda, NVRTC and
 * NVML that stretto uses. Kernels run on the OpenCL driver that is here (PoCL). What is enqueued runs when
 * somebody waits for it, never before: memory that is given back or changed too early shows. Everything alive is
 * counted, and everything can be made to fail.
 *
 * Tests load the object by the path they give to STRETTO_CUDA, STRETTO_NVRTC and STRETTO_NVML, and ask it for
 * mock_cuda(); programs are told by MOCK_CUDA="name=number,...", the names of the first part below. */
#ifndef TESTS_GPU_MOCK_H
#define TESTS_GPU_MOCK_H
#include <stdint.h>

#define MOCK_CUDA_ORDERS(X)                                                                   \
    X(version)      /* of the driver: 13000 is CUDA 13.0                                   */ \
    X(devices)                                                                                \
    X(init)         /* what cuInit answers, 0: success                                     */ \
    X(arch)         /* 90: compute capability 9.0                                          */ \
    X(prohibited)   /* 1: the card's compute mode allows no context                        */ \
    X(memory)       /* bytes of the card                                                   */ \
    X(nvrtc)        /* version of the compiler: 130 is 13.0                                */ \
    X(oldest)       /* the oldest and the newest architecture that it knows                */ \
    X(newest)                                                                                 \
    X(bad_source)   /* 1: nothing compiles                                                 */ \
    X(bad_image)    /* what cuModuleLoadDataEx answers, 0: success                         */ \
    X(fail_take)    /* the n-th call from now that takes anything: out of memory, once     */ \
    X(fail_launch)  /* the n-th launch or copy is refused, once                            */ \
    X(fail_run)     /* the n-th kernel that runs fails, and everything after it            */ \
    X(lose)         /* the n-th call from now fails, and everything after it               */

#define MOCK_CUDA_ALIVE(X)                                                                    \
    X(contexts) X(pushed) X(streams) X(events) X(modules) X(pieces) X(host_pieces)            \
    X(graphs) X(execs) X(programs)

struct mock_cuda {
#define X(name) int64_t name;
    MOCK_CUDA_ORDERS(X)
    struct { MOCK_CUDA_ALIVE(X) } alive;
#undef X
    int64_t calls, takes, launches, runs;   /* since the beginning                         */
    int64_t bytes;                          /* of the card's memory that are taken         */
    int64_t misuse;                         /* what a real driver might have let pass: memory given back twice,
                                               an object of another card, a launch out of bounds */
    int lost;                               /* what every call answers since then, 0: fine */
};

/* The library's own state: orders may be changed at any time, between calls. */
struct mock_cuda *mock_cuda(void);
/* Orders as they were at the beginning, MOCK_CUDA included; the card is not lost any more. */
void mock_cuda_reset(void);

/* And a libOpenCL that passes every call on to the real one, counts what is alive, and fails when it is told to. Tests
 * give its path to STRETTO_OPENCL and ask it for mock_opencl(). */
#define MOCK_OPENCL_ALIVE(X) X(contexts) X(queues) X(buffers) X(programs) X(kernels) X(events) X(mapped)
struct mock_opencl {
    int64_t fail_take;    /* the n-th call from now that takes anything is short of memory, once   */
    int64_t fail_launch;  /* the n-th thing enqueued is refused, once                             */
    int64_t lose;         /* the n-th call from now fails, and everything after it                */
    int lost;             /* what every call answers since then, 0: fine                          */
#define X(name) int64_t name;
    struct { MOCK_OPENCL_ALIVE(X) } alive;
#undef X
    int64_t calls, takes, launches, misuse;
};
struct mock_opencl *mock_opencl(void);
#endif
