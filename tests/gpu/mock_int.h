/* Between the mock's files. */
#ifndef TESTS_GPU_MOCK_INT_H
#define TESTS_GPU_MOCK_INT_H
#include "gpu/mock.h"
#include "backend/gpu/cuda_abi.h"
#include <stdbool.h>
#include <stddef.h>

/* What the mock's compiler makes of a source: this, the options of the kernel, a line's end, the source. */
#define MOCK_IMAGE "mock cubin "

extern struct mock_cuda mock;
bool mock_take_fails(void);
/* Whether OpenCL takes the source with these options ("-DNAME=VALUE ..."); *log: what it says, or NULL. */
bool mock_compiles(const char *source, const char *options, char **log);
#endif
