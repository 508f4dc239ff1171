/* The mock of CUDA (tests/gpu) in this process: its state and orders, and what must be left of it. */
#ifndef UNIT_BACKEND_GPU_MOCK_H
#define UNIT_BACKEND_GPU_MOCK_H
#include "unit/unit.h"
#include "gpu/mock.h"
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct mock_cuda *mock;
static void (*mock_reset)(void);

static inline void mock_find(void)
{
    void *library = dlopen(MOCK_CUDA_PATH, RTLD_NOW), *p = library ? dlsym(library, "mock_cuda") : NULL;
    struct mock_cuda *(*get)(void);
    if (!p) {
        printf("%s\n", library ? "the mock is none" : dlerror());
        exit(1);
    }
    memcpy(&get, &p, sizeof p);
    mock = get();
    p = dlsym(library, "mock_cuda_reset");
    memcpy(&mock_reset, &p, sizeof p);
}

/* Nothing stays on the card, and nothing was given back twice; says what is not so. */
static inline bool nothing_alive(void)
{
    bool none = true;
#define X(name) \
    if (mock->alive.name) print_error("%lld %s alive\n", (long long)mock->alive.name, #name), none = false;
    MOCK_CUDA_ALIVE(X)
#undef X
    if (mock->misuse) print_error("%lld calls were wrong\n", (long long)mock->misuse), none = false;
    return none && mock->bytes == 0;
}
#endif
