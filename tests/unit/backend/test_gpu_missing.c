/* What people are told where OpenCL is missing, whole or in part, and what devices there are then. A process
 * looks for a library once, so each case is a process of its own. */
#include "unit/unit.h"
#include "backend/backend.h"
#include "backend/gpu/driver.h"
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 40 };

static int expect_no_device(const char *words)
{
    struct gpu_about card[GPU_CARDS];
    struct device_about about[MOST];
    struct error e = { 0 }, again = { 0 };
    struct card *c;
    size_t n = 9;
    int wrong = driver_opencl.list(card, GPU_CARDS, &n, &e) != STRETTO_E_DEVICE || n != 0;
    wrong |= driver_opencl.open(&c, 0, &again) != STRETTO_E_DEVICE || c || strcmp(e.text, again.text);
    wrong |= !strstr(e.text, words);
    n = backend_list(about, MOST);
    bool told = false;
    for (size_t i = 0; i < n; i++)
        told |= !strcmp(about[i].word, "opencl") && about[i].unusable && strstr(about[i].why, words);
    if (wrong || !told) printf("expected '%s' in '%s', '%s'\n", words, e.text, again.text);
    else printf("%s\n", e.text);
    fflush(stdout);
    return wrong || !told;
}

/* In a child, with one variable set; whether all was as expected. */
static void with(const char *variable, const char *value, const char *words)
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        setenv(variable, value, 1);
        _exit(expect_no_device(words));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void without_a_loader(void **state)
{
    (void)state;
    with("STRETTO_OPENCL", "/nowhere/libOpenCL.so", "package ocl-icd-libopencl1");
}

static void with_another_library(void **state)
{
    (void)state;
    with("STRETTO_OPENCL", "libm.so.6", "libm.so.6 lacks cl");
}

static void without_a_driver(void **state)
{
    (void)state;
    if (access("/etc/OpenCL/vendors", F_OK) != 0) {
        printf("skip: no OpenCL loader (./dev test installs one)\n");
        skip();
    }
    with("OCL_ICD_VENDORS", "/nowhere", "no driver: install the one of the card's maker");
}

static void the_cpu_is_listed(void **state)
{
    (void)state;
    struct device_about about[MOST];
    size_t n = backend_list(about, MOST);
    assert_in_range(n, 1, MOST);
    for (size_t i = 0; i < n; i++)
        print_message("%s: %s (%s), %llu bytes, %u units%s%s\n", about[i].word, about[i].name, about[i].driver,
                      (unsigned long long)about[i].memory, about[i].units, about[i].unusable ? ": " : "",
                      about[i].why);
    assert_string_equal(about[0].word, "cpu");
    assert_true(*about[0].name && about[0].units && about[0].memory > 1 << 20 && !about[0].card);
    assert_false(about[0].unusable);
    assert_non_null(strstr(about[0].driver, "kernels up to "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_loader), cmocka_unit_test(with_another_library),
        cmocka_unit_test(without_a_driver), cmocka_unit_test(the_cpu_is_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
