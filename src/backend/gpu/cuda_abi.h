/* What we need of NVIDIA's interfaces, declared by us: the driver (libcuda), the compiler (NVRTC) and the
 * meters (NVML). Names and numbers are those of the libraries, so that nobody needs a toolkit to build;
 * where one is installed, tests/gpu/abi.c holds every line here to its headers.
 *
 * Rows are X(member, symbol, header's name, arguments). The symbol is what the library exports; the header's name
 * is a macro for the newest version of it. All return a status, 0 for success. */
#ifndef BACKEND_GPU_CUDA_ABI_H
#define BACKEND_GPU_CUDA_ABI_H
#include <stddef.h>

struct CUctx_st; struct CUmod_st; struct CUfunc_st; struct CUstream_st; struct CUevent_st;
struct CUgraph_st; struct CUgraphExec_st; struct _nvrtcProgram; struct nvmlDevice_st;

typedef unsigned cuda_status;            /* an enum there */
typedef unsigned long long cuda_address; /* of the card's memory */

#define CUDA_CONSTANTS(X)                                                                                      \
    X(CUDA_SUCCESS, 0) X(CUDA_ERROR_INVALID_VALUE, 1) X(CUDA_ERROR_OUT_OF_MEMORY, 2)                           \
    X(CUDA_ERROR_NOT_INITIALIZED, 3) X(CUDA_ERROR_NO_DEVICE, 100) X(CUDA_ERROR_INVALID_DEVICE, 101)            \
    X(CUDA_ERROR_INVALID_IMAGE, 200) X(CUDA_ERROR_INVALID_CONTEXT, 201) X(CUDA_ERROR_INVALID_HANDLE, 400)      \
    X(CUDA_ERROR_NOT_FOUND, 500) X(CUDA_ERROR_NOT_READY, 600) X(CUDA_ERROR_ILLEGAL_ADDRESS, 700)               \
    X(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, 701) X(CUDA_ERROR_LAUNCH_FAILED, 719)                                \
    X(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, 900) X(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, 901)                \
    X(CUDA_ERROR_UNKNOWN, 999)                                                                                 \
    X(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1) X(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 8)      \
    X(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 16) X(CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, 20)                    \
    X(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 75) X(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 76)    \
    X(CU_COMPUTEMODE_PROHIBITED, 2) X(CU_STREAM_NON_BLOCKING, 1) X(CU_STREAM_CAPTURE_MODE_RELAXED, 2)          \
    X(CU_EVENT_DEFAULT, 0) X(CU_JIT_ERROR_LOG_BUFFER, 5) X(CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, 6)
#define NVRTC_CONSTANTS(X)                                                                                     \
    X(NVRTC_SUCCESS, 0) X(NVRTC_ERROR_OUT_OF_MEMORY, 1) X(NVRTC_ERROR_INVALID_INPUT, 3)                        \
    X(NVRTC_ERROR_INVALID_OPTION, 5) X(NVRTC_ERROR_COMPILATION, 6)
enum {
#define X(name, value) ABI_##name = value,
    CUDA_CONSTANTS(X) NVRTC_CONSTANTS(X)
#undef X
};

#define CUDA_ABI(X)                                                                                            \
    X(init, "cuInit", cuInit, (unsigned))                                                                      \
    X(version, "cuDriverGetVersion", cuDriverGetVersion, (int *))                                              \
    X(error_name, "cuGetErrorName", cuGetErrorName, (cuda_status, const char **))                              \
    X(error_text, "cuGetErrorString", cuGetErrorString, (cuda_status, const char **))                          \
    X(device_count, "cuDeviceGetCount", cuDeviceGetCount, (int *))                                             \
    X(device, "cuDeviceGet", cuDeviceGet, (int *, int))                                                        \
    X(device_name, "cuDeviceGetName", cuDeviceGetName, (char *, int, int))                                     \
    X(device_memory, "cuDeviceTotalMem_v2", cuDeviceTotalMem, (size_t *, int))                                 \
    X(device_attribute, "cuDeviceGetAttribute", cuDeviceGetAttribute, (int *, unsigned, int))                  \
    X(device_bus, "cuDeviceGetPCIBusId", cuDeviceGetPCIBusId, (char *, int, int))                              \
    X(context_retain, "cuDevicePrimaryCtxRetain", cuDevicePrimaryCtxRetain, (struct CUctx_st **, int))         \
    X(context_release, "cuDevicePrimaryCtxRelease_v2", cuDevicePrimaryCtxRelease, (int))                       \
    X(context_push, "cuCtxPushCurrent_v2", cuCtxPushCurrent, (struct CUctx_st *))                              \
    X(context_pop, "cuCtxPopCurrent_v2", cuCtxPopCurrent, (struct CUctx_st **))                                \
    X(memory_info, "cuMemGetInfo_v2", cuMemGetInfo, (size_t *, size_t *))                                      \
    X(memory_alloc, "cuMemAlloc_v2", cuMemAlloc, (cuda_address *, size_t))                                     \
    X(memory_free, "cuMemFree_v2", cuMemFree, (cuda_address))                                                  \
    X(host_alloc, "cuMemHostAlloc", cuMemHostAlloc, (void **, size_t, unsigned))                               \
    X(host_free, "cuMemFreeHost", cuMemFreeHost, (void *))                                                     \
    X(stream_create, "cuStreamCreate", cuStreamCreate, (struct CUstream_st **, unsigned))                      \
    X(stream_destroy, "cuStreamDestroy_v2", cuStreamDestroy, (struct CUstream_st *))                           \
    X(stream_finish, "cuStreamSynchronize", cuStreamSynchronize, (struct CUstream_st *))                       \
    X(to_card, "cuMemcpyHtoDAsync_v2", cuMemcpyHtoDAsync,                                                      \
      (cuda_address, const void *, size_t, struct CUstream_st *))                                              \
    X(from_card, "cuMemcpyDtoHAsync_v2", cuMemcpyDtoHAsync,                                                    \
      (void *, cuda_address, size_t, struct CUstream_st *))                                                    \
    X(on_card, "cuMemcpyDtoDAsync_v2", cuMemcpyDtoDAsync,                                                      \
      (cuda_address, cuda_address, size_t, struct CUstream_st *))                                              \
    X(fill, "cuMemsetD8Async", cuMemsetD8Async,                                                                \
      (cuda_address, unsigned char, size_t, struct CUstream_st *))                                             \
    X(module_load, "cuModuleLoadDataEx", cuModuleLoadDataEx,                                                   \
      (struct CUmod_st **, const void *, unsigned, unsigned *, void **))                                       \
    X(module_unload, "cuModuleUnload", cuModuleUnload, (struct CUmod_st *))                                    \
    X(module_function, "cuModuleGetFunction", cuModuleGetFunction,                                             \
      (struct CUfunc_st **, struct CUmod_st *, const char *))                                                  \
    X(launch, "cuLaunchKernel", cuLaunchKernel,                                                                \
      (struct CUfunc_st *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,               \
       struct CUstream_st *, void **, void **))                                                                \
    X(capture_begin, "cuStreamBeginCapture_v2", cuStreamBeginCapture, (struct CUstream_st *, unsigned))        \
    X(capture_end, "cuStreamEndCapture", cuStreamEndCapture, (struct CUstream_st *, struct CUgraph_st **))     \
    X(graph_make, "cuGraphInstantiateWithFlags", cuGraphInstantiate,                                           \
      (struct CUgraphExec_st **, struct CUgraph_st *, unsigned long long))                                     \
    X(graph_launch, "cuGraphLaunch", cuGraphLaunch, (struct CUgraphExec_st *, struct CUstream_st *))           \
    X(graph_destroy, "cuGraphDestroy", cuGraphDestroy, (struct CUgraph_st *))                                  \
    X(graph_exec_destroy, "cuGraphExecDestroy", cuGraphExecDestroy, (struct CUgraphExec_st *))                 \
    X(event_create, "cuEventCreate", cuEventCreate, (struct CUevent_st **, unsigned))                          \
    X(event_record, "cuEventRecord", cuEventRecord, (struct CUevent_st *, struct CUstream_st *))               \
    X(event_between, "cuEventElapsedTime", cuEventElapsedTime,                                                 \
      (float *, struct CUevent_st *, struct CUevent_st *))                                                     \
    X(event_destroy, "cuEventDestroy_v2", cuEventDestroy, (struct CUevent_st *))

#define NVRTC_ABI(X)                                                                                           \
    X(version, "nvrtcVersion", nvrtcVersion, (int *, int *))                                                   \
    X(n_archs, "nvrtcGetNumSupportedArchs", nvrtcGetNumSupportedArchs, (int *))                                \
    X(archs, "nvrtcGetSupportedArchs", nvrtcGetSupportedArchs, (int *))                                        \
    X(create, "nvrtcCreateProgram", nvrtcCreateProgram,                                                        \
      (struct _nvrtcProgram **, const char *, const char *, int, const char *const *, const char *const *))    \
    X(destroy, "nvrtcDestroyProgram", nvrtcDestroyProgram, (struct _nvrtcProgram **))                          \
    X(compile, "nvrtcCompileProgram", nvrtcCompileProgram, (struct _nvrtcProgram *, int, const char *const *)) \
    X(log_size, "nvrtcGetProgramLogSize", nvrtcGetProgramLogSize, (struct _nvrtcProgram *, size_t *))          \
    X(log, "nvrtcGetProgramLog", nvrtcGetProgramLog, (struct _nvrtcProgram *, char *))                         \
    X(cubin_size, "nvrtcGetCUBINSize", nvrtcGetCUBINSize, (struct _nvrtcProgram *, size_t *))                  \
    X(cubin, "nvrtcGetCUBIN", nvrtcGetCUBIN, (struct _nvrtcProgram *, char *))                                 \
    X(ptx_size, "nvrtcGetPTXSize", nvrtcGetPTXSize, (struct _nvrtcProgram *, size_t *))                        \
    X(ptx, "nvrtcGetPTX", nvrtcGetPTX, (struct _nvrtcProgram *, char *))

#define NVML_ABI(X)                                                                                            \
    X(init, "nvmlInit_v2", nvmlInit, (void))                                                                   \
    X(device, "nvmlDeviceGetHandleByPciBusId_v2", nvmlDeviceGetHandleByPciBusId,                               \
      (const char *, struct nvmlDevice_st **))                                                                 \
    X(energy, "nvmlDeviceGetTotalEnergyConsumption", nvmlDeviceGetTotalEnergyConsumption,                      \
      (struct nvmlDevice_st *, unsigned long long *))              /* millijoules since the driver came */

#define X(member, symbol, header, args) cuda_status (*member) args;
struct cuda_driver { CUDA_ABI(X) };
struct nvrtc { NVRTC_ABI(X) };
struct nvml { NVML_ABI(X) };
#undef X
#endif
