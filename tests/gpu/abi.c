/* Our declarations of NVIDIA's interfaces against the toolkit's headers, when this is compiled; the names of
 * symbols against its libraries, when it runs. Without a toolkit there is nothing to compare with. */
#include "backend/gpu/cuda_abi.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#if defined(TOOLKIT)
#include <cuda.h>
#include <nvrtc.h>

#define X(name, value) _Static_assert((int)(name) == (value), #name);
CUDA_CONSTANTS(X) NVRTC_CONSTANTS(X)
#undef X
/* Enums of the header, all of them without negative values, are compatible with our unsigned words. */
#define X(member, symbol, header, args) \
    _Static_assert(_Generic(&header, cuda_status (*) args: 1, default: 0), symbol);
CUDA_ABI(X) NVRTC_ABI(X)
#undef X

struct row { const char *symbol, *header; };
#define NAME(x) #x
#define X(member, symbol, header, args) { symbol, NAME(header) },
static const struct row driver[] = { CUDA_ABI(X) { NULL, NULL } }, compiler[] = { NVRTC_ABI(X) { NULL, NULL } };
#undef X

/* The newest version of a call may be newer than ours, but not another call. */
static int check(const char *path, const struct row *r)
{
    int bad = 0, n = 0;
    void *library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (!library) printf("%s cannot be loaded: names are not looked up\n", path);
    for (; r->symbol; r++, n++) {
        if (library && !dlsym(library, r->symbol)) printf("%s has no %s\n", path, r->symbol), bad = 1;
        size_t stem = strcspn(r->header, "_");
        if (strncmp(r->symbol, r->header, stem)) printf("%s is %s\n", r->symbol, r->header), bad = 1;
    }
    printf("%d functions of %s\n", n, path);
    return bad;
}

int main(void)
{
    printf("CUDA %d.%d\n", CUDA_VERSION / 1000, CUDA_VERSION % 1000 / 10);
    return check(TOOLKIT "/lib64/stubs/libcuda.so", driver) | check(TOOLKIT "/lib64/libnvrtc.so", compiler);
}
#else
int main(void)
{
    printf("skip: no CUDA toolkit (CUDA_HOME, /usr/local/cuda) to compare our declarations with\n");
    return 77;
}
#endif
