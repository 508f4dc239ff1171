/* What we use of OpenCL 1.2, declared by ourselves from its specification, so that building needs no OpenCL
 * header and no library: names are those of the specification with ocl_ and OCL_ before them. Lists are
 * macros, so a test can compare them with the real header where there is one (tests/unit/backend). */
#ifndef BACKEND_GPU_OPENCL_ABI_H
#define BACKEND_GPU_OPENCL_ABI_H
#include <stddef.h>
#include <stdint.h>

typedef struct ocl_platform_id *ocl_platform_id;
typedef struct ocl_device_id *ocl_device_id;
typedef struct ocl_context *ocl_context;
typedef struct ocl_command_queue *ocl_command_queue;
typedef struct ocl_mem *ocl_mem;
typedef struct ocl_program *ocl_program;
typedef struct ocl_kernel *ocl_kernel;
typedef struct ocl_event *ocl_event;
typedef int32_t ocl_int;
typedef uint32_t ocl_uint, ocl_bool, ocl_info; /* ocl_info: which question is asked */
typedef uint64_t ocl_ulong, ocl_bitfield;
typedef intptr_t ocl_context_properties;

#define OCL_CONSTANTS(X) \
    X(SUCCESS, 0) X(DEVICE_NOT_FOUND, -1) X(DEVICE_NOT_AVAILABLE, -2) X(COMPILER_NOT_AVAILABLE, -3) \
    X(MEM_OBJECT_ALLOCATION_FAILURE, -4) X(OUT_OF_RESOURCES, -5) X(OUT_OF_HOST_MEMORY, -6) \
    X(BUILD_PROGRAM_FAILURE, -11) X(INVALID_VALUE, -30) X(INVALID_KERNEL_NAME, -46) \
    X(INVALID_ARG_INDEX, -49) X(INVALID_ARG_SIZE, -51) X(INVALID_KERNEL_ARGS, -52) \
    X(INVALID_WORK_GROUP_SIZE, -54) X(INVALID_BUFFER_SIZE, -61) X(PLATFORM_NOT_FOUND_KHR, -1001) \
    X(FALSE, 0) X(TRUE, 1) \
    X(PLATFORM_NAME, 0x0902) \
    X(DEVICE_TYPE_CPU, 1 << 1) X(DEVICE_TYPE_GPU, 1 << 2) X(DEVICE_TYPE_ACCELERATOR, 1 << 3) \
    X(DEVICE_TYPE_CUSTOM, 1 << 4) \
    X(DEVICE_TYPE, 0x1000) X(DEVICE_MAX_COMPUTE_UNITS, 0x1002) X(DEVICE_MAX_WORK_GROUP_SIZE, 0x1004) \
    X(DEVICE_MAX_MEM_ALLOC_SIZE, 0x1010) X(DEVICE_SINGLE_FP_CONFIG, 0x101B) \
    X(DEVICE_GLOBAL_MEM_SIZE, 0x101F) X(DEVICE_LOCAL_MEM_SIZE, 0x1023) X(DEVICE_ENDIAN_LITTLE, 0x1026) \
    X(DEVICE_AVAILABLE, 0x1027) X(DEVICE_COMPILER_AVAILABLE, 0x1028) X(DEVICE_NAME, 0x102B) \
    X(DRIVER_VERSION, 0x102D) X(DEVICE_PROFILE, 0x102E) X(DEVICE_VERSION, 0x102F) \
    X(DEVICE_EXTENSIONS, 0x1030) \
    X(DEVICE_BOARD_NAME_AMD, 0x4038) X(DEVICE_GLOBAL_FREE_MEMORY_AMD, 0x4039) \
    X(FP_INF_NAN, 1 << 1) X(FP_ROUND_TO_NEAREST, 1 << 2) X(FP_CORRECTLY_ROUNDED_DIVIDE_SQRT, 1 << 7) \
    X(CONTEXT_PLATFORM, 0x1084) X(QUEUE_PROFILING_ENABLE, 1 << 1) \
    X(MEM_READ_WRITE, 1 << 0) X(MEM_ALLOC_HOST_PTR, 1 << 4) X(MAP_READ, 1 << 0) X(MAP_WRITE, 1 << 1) \
    X(PROGRAM_BUILD_LOG, 0x1183) X(KERNEL_NUM_ARGS, 0x1191) X(KERNEL_WORK_GROUP_SIZE, 0x11B0) \
    X(PROFILING_COMMAND_END, 0x1283)

enum {
#define X(name, value) OCL_##name = value,
    OCL_CONSTANTS(X)
#undef X
};
#define OCL_DEVICE_TYPE_ALL 0xFFFFFFFFU

typedef void ocl_context_notify(const char *, const void *, size_t, void *);
typedef void ocl_program_notify(ocl_program, void *);

/* X(what it returns, its name without cl, its parameters) */
#define OCL_FUNCTIONS(X) \
    X(ocl_int, GetPlatformIDs, (ocl_uint, ocl_platform_id *, ocl_uint *)) \
    X(ocl_int, GetPlatformInfo, (ocl_platform_id, ocl_info, size_t, void *, size_t *)) \
    X(ocl_int, GetDeviceIDs, (ocl_platform_id, ocl_bitfield, ocl_uint, ocl_device_id *, ocl_uint *)) \
    X(ocl_int, GetDeviceInfo, (ocl_device_id, ocl_info, size_t, void *, size_t *)) \
    X(ocl_context, CreateContext, (const ocl_context_properties *, ocl_uint, const ocl_device_id *, \
      ocl_context_notify *, void *, ocl_int *)) \
    X(ocl_int, ReleaseContext, (ocl_context)) \
    X(ocl_command_queue, CreateCommandQueue, (ocl_context, ocl_device_id, ocl_bitfield, ocl_int *)) \
    X(ocl_int, ReleaseCommandQueue, (ocl_command_queue)) \
    X(ocl_mem, CreateBuffer, (ocl_context, ocl_bitfield, size_t, void *, ocl_int *)) \
    X(ocl_int, ReleaseMemObject, (ocl_mem)) \
    X(ocl_program, CreateProgramWithSource, (ocl_context, ocl_uint, const char **, const size_t *, \
      ocl_int *)) \
    X(ocl_int, BuildProgram, (ocl_program, ocl_uint, const ocl_device_id *, const char *, \
      ocl_program_notify *, void *)) \
    X(ocl_int, GetProgramBuildInfo, (ocl_program, ocl_device_id, ocl_info, size_t, void *, size_t *)) \
    X(ocl_int, ReleaseProgram, (ocl_program)) \
    X(ocl_kernel, CreateKernel, (ocl_program, const char *, ocl_int *)) \
    X(ocl_int, ReleaseKernel, (ocl_kernel)) \
    X(ocl_int, SetKernelArg, (ocl_kernel, ocl_uint, size_t, const void *)) \
    X(ocl_int, GetKernelInfo, (ocl_kernel, ocl_info, size_t, void *, size_t *)) \
    X(ocl_int, GetKernelWorkGroupInfo, (ocl_kernel, ocl_device_id, ocl_info, size_t, void *, size_t *)) \
    X(ocl_int, EnqueueWriteBuffer, (ocl_command_queue, ocl_mem, ocl_bool, size_t, size_t, const void *, \
      ocl_uint, const ocl_event *, ocl_event *)) \
    X(ocl_int, EnqueueReadBuffer, (ocl_command_queue, ocl_mem, ocl_bool, size_t, size_t, void *, ocl_uint, \
      const ocl_event *, ocl_event *)) \
    X(ocl_int, EnqueueCopyBuffer, (ocl_command_queue, ocl_mem, ocl_mem, size_t, size_t, size_t, ocl_uint, \
      const ocl_event *, ocl_event *)) \
    X(ocl_int, EnqueueFillBuffer, (ocl_command_queue, ocl_mem, const void *, size_t, size_t, size_t, \
      ocl_uint, const ocl_event *, ocl_event *)) \
    X(void *, EnqueueMapBuffer, (ocl_command_queue, ocl_mem, ocl_bool, ocl_bitfield, size_t, size_t, \
      ocl_uint, const ocl_event *, ocl_event *, ocl_int *)) \
    X(ocl_int, EnqueueUnmapMemObject, (ocl_command_queue, ocl_mem, void *, ocl_uint, const ocl_event *, \
      ocl_event *)) \
    X(ocl_int, EnqueueNDRangeKernel, (ocl_command_queue, ocl_kernel, ocl_uint, const size_t *, \
      const size_t *, const size_t *, ocl_uint, const ocl_event *, ocl_event *)) \
    X(ocl_int, EnqueueMarkerWithWaitList, (ocl_command_queue, ocl_uint, const ocl_event *, ocl_event *)) \
    X(ocl_int, GetEventProfilingInfo, (ocl_event, ocl_info, size_t, void *, size_t *)) \
    X(ocl_int, ReleaseEvent, (ocl_event)) \
    X(ocl_int, Flush, (ocl_command_queue)) \
    X(ocl_int, Finish, (ocl_command_queue))

struct ocl {
#define X(returns, name, parameters) returns (*name) parameters;
    OCL_FUNCTIONS(X)
#undef X
};
#endif
