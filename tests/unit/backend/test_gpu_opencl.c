/* The OpenCL driver, on whatever OpenCL device is there. */
#include "unit/backend/gpu_driver.h"

int main(void)
{
    const struct CMUnitTest tests[] = { GPU_DRIVER_TESTS };
    gpu_test_open(&d);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gpu_test_close(&d);
    return failed;
}
