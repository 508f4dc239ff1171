/* The texts of kernels/, which cmake/embed.cmake made an array of. */
#include "backend/gpu/gpu.h"
#include <string.h>

struct embedded { const char *name; const unsigned char *text; };
extern const struct embedded gpu_kernel_files[];

const char *gpu_source(const char *name)
{
    for (const struct embedded *f = gpu_kernel_files; f->name; f++)
        if (!strcmp(f->name, name)) return (const char *)f->text;
    return NULL;
}
