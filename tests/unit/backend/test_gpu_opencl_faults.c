/* The OpenCL driver on a library that fails in every way (tests/gpu/mock_opencl.c), with the real one below. */
#include "unit/backend/gpu_faults.h"
#include "gpu/mock.h"
#include <dlfcn.h>

static struct mock_opencl *mock;

static bool nothing_alive(void)
{
    bool none = true;
#define X(name) \
    if (mock->alive.name) print_error("%lld %s alive\n", (long long)mock->alive.name, #name), none = false;
    MOCK_OPENCL_ALIVE(X)
#undef X
    return none;
}

static void reset(void)
{
    mock->fail_take = mock->fail_launch = mock->lose = 0;
    mock->lost = 0;
}

static void whatever_fails(void **state)
{
    (void)state;
    const struct faults f = { &driver_opencl, reset, nothing_alive };
    faults_walk(&f, "out of memory", &mock->fail_take, true, 8);
    faults_walk(&f, "refused", &mock->fail_launch, false, 10);
    faults_lose(&f, &mock->lose, &mock->calls);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(whatever_fails) };
    struct gpu_device d;
    setenv("STRETTO_OPENCL", MOCK_OPENCL_PATH, 1);
    void *library = dlopen(MOCK_OPENCL_PATH, RTLD_NOW), *p = library ? dlsym(library, "mock_opencl") : NULL;
    struct mock_opencl *(*get)(void);
    if (!p) {
        printf("%s\n", library ? "the mock is none" : dlerror());
        return 1;
    }
    memcpy(&get, &p, sizeof p);
    mock = get();
    gpu_test_open_on(&d, &driver_opencl);
    gpu_test_close(&d);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
