/* Our declarations of OpenCL are those of the real header, where it is installed: every constant by its value,
 * every function by its type. The header's handles are pointers to structs, whose names become ours here. All of
 * it is the compiler's work; that it would notice is seen at run time. */
#include "unit/unit.h"
#include "backend/gpu/opencl_abi.h"

#if __has_include(<CL/cl_ext.h>)
#define CL_TARGET_OPENCL_VERSION 120
#define _cl_platform_id ocl_platform_id
#define _cl_device_id ocl_device_id
#define _cl_context ocl_context
#define _cl_command_queue ocl_command_queue
#define _cl_mem ocl_mem
#define _cl_program ocl_program
#define _cl_kernel ocl_kernel
#define _cl_event ocl_event
#include <CL/cl.h>
#include <CL/cl_ext.h>

#define X(name, value) _Static_assert((long long)CL_##name == (long long)OCL_##name, #name);
OCL_CONSTANTS(X)
#undef X
_Static_assert(CL_DEVICE_TYPE_ALL == OCL_DEVICE_TYPE_ALL, "all types of devices");

#define X(returns, name, parameters) \
    _Static_assert(_Generic(&cl##name, returns (*) parameters: 1, default: 0), #name);
OCL_FUNCTIONS(X)
#undef X
_Static_assert(_Generic((cl_ulong)0, ocl_ulong: 1, default: 0) && _Generic((cl_int)0, ocl_int: 1, default: 0) &&
               _Generic((cl_bool)0, ocl_bool: 1, default: 0) &&
               _Generic((cl_device_fp_config)0, ocl_bitfield: 1, default: 0) &&
               _Generic((cl_device_type)0, ocl_bitfield: 1, default: 0), "types of what is asked for");

static void another_type_is_noticed(void **state)
{
    (void)state;
    assert_int_equal(_Generic(&clFinish, ocl_int (*)(ocl_command_queue): 1, default: 0), 1);
    assert_int_equal(_Generic(&clFinish, ocl_int (*)(ocl_context): 1, default: 0), 0);
    assert_int_equal(_Generic(&clFinish, ocl_uint (*)(ocl_command_queue): 1, default: 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(another_type_is_noticed) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void) { SKIP("no CL/cl.h (./dev test installs it)"); }
#endif
