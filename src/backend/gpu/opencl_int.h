/* Between the files of the OpenCL driver: opencl_library.c finds the library and its devices, opencl.c
 * works with one. */
#ifndef BACKEND_GPU_OPENCL_INT_H
#define BACKEND_GPU_OPENCL_INT_H
#include "backend/gpu/driver.h"
#include "backend/gpu/opencl_abi.h"

/* The library's functions; opened when first asked for, and never closed: drivers do not survive that. */
stretto_status ocl_library(const struct ocl **out, struct error *err);
/* What a failed call means: `what` could not be done, in words, with OpenCL's name of the error. Shortness of the
 * card's memory is E_NOMEM, the rest E_DEVICE. */
stretto_status ocl_failed(struct error *err, ocl_int code, const char *what);

struct ocl_found { ocl_platform_id platform; ocl_device_id device; struct gpu_about about; bool free_told; };
/* All devices of all platforms, GPUs first; at most GPU_CARDS of them. */
stretto_status ocl_find(const struct ocl *cl, struct ocl_found out[GPU_CARDS], size_t *n, struct error *err);
#endif
