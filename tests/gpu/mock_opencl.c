/* The libOpenCL that fails when it is told to: see mock.h. */
#include "gpu/mock.h"
#include "backend/gpu/opencl_abi.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static struct mock_opencl mock;
static struct ocl real;
static pthread_once_t once = PTHREAD_ONCE_INIT;

EXPORT struct mock_opencl *mock_opencl(void) { return &mock; }

static ocl_int nobody(void) { return OCL_PLATFORM_NOT_FOUND_KHR; }

static void real_open(void)
{
    void *library = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL), *p;
    ocl_int (*none)(void) = nobody;
#define X(returns, name, parameters)                        \
    p = library ? dlsym(library, "cl" #name) : NULL;        \
    memcpy(&real.name, p ? (void *)&p : (void *)&none, sizeof p);
    OCL_FUNCTIONS(X)
#undef X
}

static bool due(int64_t *order) { return *order > 0 && --*order == 0; }

/* What every call does first; not 0: it fails so. */
static ocl_int call(void)
{
    pthread_once(&once, real_open);
    mock.calls++;
    if (!mock.lost && due(&mock.lose)) mock.lost = OCL_DEVICE_NOT_AVAILABLE;
    return mock.lost;
}

static ocl_int take(ocl_int shortage)
{
    ocl_int s = call();
    mock.takes++;
    return s ? s : due(&mock.fail_take) ? shortage : OCL_SUCCESS;
}

static ocl_int launch(void)
{
    ocl_int s = call();
    mock.launches++;
    return s ? s : due(&mock.fail_launch) ? OCL_OUT_OF_RESOURCES : OCL_SUCCESS;
}

#define DEFINE(returns, name, ...) EXPORT returns cl##name(__VA_ARGS__); EXPORT returns cl##name(__VA_ARGS__)
/* A new thing, or NULL and why. */
#define MAKE(type, count, shortage, make)                   \
    type x = NULL;                                          \
    *status = take(shortage);                               \
    if (!*status) x = real.make;                            \
    if (x) mock.alive.count++;                              \
    return x
/* Given back, also when the card is lost. */
#define DROP(count, drop)                                   \
    ocl_int s = call();                                     \
    mock.alive.count--;                                     \
    real.drop;                                              \
    return s

DEFINE(ocl_int, GetPlatformIDs, ocl_uint n, ocl_platform_id *out, ocl_uint *count)
{
    ocl_int s = call();
    return s ? s : real.GetPlatformIDs(n, out, count);
}

DEFINE(ocl_int, GetPlatformInfo, ocl_platform_id p, ocl_info i, size_t n, void *out, size_t *size)
{
    ocl_int s = call();
    return s ? s : real.GetPlatformInfo(p, i, n, out, size);
}

DEFINE(ocl_int, GetDeviceIDs, ocl_platform_id p, ocl_bitfield t, ocl_uint n, ocl_device_id *out, ocl_uint *count)
{
    ocl_int s = call();
    return s ? s : real.GetDeviceIDs(p, t, n, out, count);
}

DEFINE(ocl_int, GetDeviceInfo, ocl_device_id d, ocl_info i, size_t n, void *out, size_t *size)
{
    ocl_int s = call();
    return s ? s : real.GetDeviceInfo(d, i, n, out, size);
}

DEFINE(ocl_context, CreateContext, const ocl_context_properties *p, ocl_uint n, const ocl_device_id *d,
       ocl_context_notify *notify, void *user, ocl_int *status)
{
    MAKE(ocl_context, contexts, OCL_OUT_OF_HOST_MEMORY, CreateContext(p, n, d, notify, user, status));
}

DEFINE(ocl_int, ReleaseContext, ocl_context c) { DROP(contexts, ReleaseContext(c)); }

DEFINE(ocl_command_queue, CreateCommandQueue, ocl_context c, ocl_device_id d, ocl_bitfield p, ocl_int *status)
{
    MAKE(ocl_command_queue, queues, OCL_OUT_OF_HOST_MEMORY, CreateCommandQueue(c, d, p, status));
}

DEFINE(ocl_int, ReleaseCommandQueue, ocl_command_queue q) { DROP(queues, ReleaseCommandQueue(q)); }

DEFINE(ocl_mem, CreateBuffer, ocl_context c, ocl_bitfield f, size_t n, void *host, ocl_int *status)
{
    MAKE(ocl_mem, buffers, OCL_MEM_OBJECT_ALLOCATION_FAILURE, CreateBuffer(c, f, n, host, status));
}

DEFINE(ocl_int, ReleaseMemObject, ocl_mem m) { DROP(buffers, ReleaseMemObject(m)); }

DEFINE(ocl_program, CreateProgramWithSource, ocl_context c, ocl_uint n, const char **text, const size_t *size,
       ocl_int *status)
{
    MAKE(ocl_program, programs, OCL_OUT_OF_HOST_MEMORY, CreateProgramWithSource(c, n, text, size, status));
}

DEFINE(ocl_int, BuildProgram, ocl_program p, ocl_uint n, const ocl_device_id *d, const char *options,
       ocl_program_notify *notify, void *user)
{
    ocl_int s = take(OCL_OUT_OF_HOST_MEMORY);
    return s ? s : real.BuildProgram(p, n, d, options, notify, user);
}

DEFINE(ocl_int, GetProgramBuildInfo, ocl_program p, ocl_device_id d, ocl_info i, size_t n, void *out, size_t *size)
{
    ocl_int s = call();
    return s ? s : real.GetProgramBuildInfo(p, d, i, n, out, size);
}

DEFINE(ocl_int, ReleaseProgram, ocl_program p) { DROP(programs, ReleaseProgram(p)); }

DEFINE(ocl_kernel, CreateKernel, ocl_program p, const char *name, ocl_int *status)
{
    MAKE(ocl_kernel, kernels, OCL_OUT_OF_HOST_MEMORY, CreateKernel(p, name, status));
}

DEFINE(ocl_int, ReleaseKernel, ocl_kernel k) { DROP(kernels, ReleaseKernel(k)); }

DEFINE(ocl_int, SetKernelArg, ocl_kernel k, ocl_uint i, size_t n, const void *value)
{
    ocl_int s = call();
    return s ? s : real.SetKernelArg(k, i, n, value);
}

DEFINE(ocl_int, GetKernelInfo, ocl_kernel k, ocl_info i, size_t n, void *out, size_t *size)
{
    ocl_int s = call();
    return s ? s : real.GetKernelInfo(k, i, n, out, size);
}

DEFINE(ocl_int, GetKernelWorkGroupInfo, ocl_kernel k, ocl_device_id d, ocl_info i, size_t n, void *out, size_t *size)
{
    ocl_int s = call();
    return s ? s : real.GetKernelWorkGroupInfo(k, d, i, n, out, size);
}

/* ---- what is enqueued ------------------------------------------------------------------------------- */

#define WAIT ocl_uint n_wait, const ocl_event *wait, ocl_event *event
#define WAITED n_wait, wait, event

DEFINE(ocl_int, EnqueueWriteBuffer, ocl_command_queue q, ocl_mem m, ocl_bool now, size_t at, size_t n, const void *from,
       WAIT)
{
    ocl_int s = launch();
    return s ? s : real.EnqueueWriteBuffer(q, m, now, at, n, from, WAITED);
}

DEFINE(ocl_int, EnqueueReadBuffer, ocl_command_queue q, ocl_mem m, ocl_bool now, size_t at, size_t n, void *to, WAIT)
{
    ocl_int s = launch();
    return s ? s : real.EnqueueReadBuffer(q, m, now, at, n, to, WAITED);
}

DEFINE(ocl_int, EnqueueCopyBuffer, ocl_command_queue q, ocl_mem from, ocl_mem to, size_t from_at, size_t to_at,
       size_t n, WAIT)
{
    ocl_int s = launch();
    return s ? s : real.EnqueueCopyBuffer(q, from, to, from_at, to_at, n, WAITED);
}

DEFINE(ocl_int, EnqueueFillBuffer, ocl_command_queue q, ocl_mem m, const void *what, size_t size, size_t at, size_t n,
       WAIT)
{
    ocl_int s = launch();
    return s ? s : real.EnqueueFillBuffer(q, m, what, size, at, n, WAITED);
}

DEFINE(void *, EnqueueMapBuffer, ocl_command_queue q, ocl_mem m, ocl_bool now, ocl_bitfield f, size_t at, size_t n,
       WAIT, ocl_int *status)
{
    MAKE(void *, mapped, OCL_OUT_OF_HOST_MEMORY, EnqueueMapBuffer(q, m, now, f, at, n, WAITED, status));
}

DEFINE(ocl_int, EnqueueUnmapMemObject, ocl_command_queue q, ocl_mem m, void *at, WAIT)
{
    DROP(mapped, EnqueueUnmapMemObject(q, m, at, WAITED));
}

DEFINE(ocl_int, EnqueueNDRangeKernel, ocl_command_queue q, ocl_kernel k, ocl_uint dims, const size_t *from,
       const size_t *all, const size_t *group, WAIT)
{
    ocl_int s = launch();
    return s ? s : real.EnqueueNDRangeKernel(q, k, dims, from, all, group, WAITED);
}

DEFINE(ocl_int, EnqueueMarkerWithWaitList, ocl_command_queue q, WAIT)
{
    ocl_int s = launch();
    if (!s) s = real.EnqueueMarkerWithWaitList(q, WAITED);
    if (!s && event) mock.alive.events++;
    return s;
}

DEFINE(ocl_int, GetEventProfilingInfo, ocl_event e, ocl_info i, size_t n, void *out, size_t *size)
{
    ocl_int s = call();
    return s ? s : real.GetEventProfilingInfo(e, i, n, out, size);
}

DEFINE(ocl_int, ReleaseEvent, ocl_event e) { DROP(events, ReleaseEvent(e)); }

DEFINE(ocl_int, Flush, ocl_command_queue q)
{
    ocl_int s = call();
    return s ? s : real.Flush(q);
}

/* Of a card that is lost nothing ends; of the CPU below it must, before what it uses goes. */
DEFINE(ocl_int, Finish, ocl_command_queue q)
{
    ocl_int s = call(), really = real.Finish(q);
    return s ? s : really;
}
