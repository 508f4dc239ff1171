/* The table of backends. It stands alone so that a test may bring a table of its own. */
#include "backend/backend.h"
#include "backend/cpu/cpu.h"
#include "backend/gpu/gpu.h"

extern const struct backend backend_integer;       /* whose header has structs of the names that the cpu's has */

const struct backend *const backends[] = { &backend_cpu, &backend_cuda, &backend_opencl, &backend_integer, NULL };
