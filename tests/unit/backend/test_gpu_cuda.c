/* The CUDA driver on the mock of tests/gpu (no card needed): what every driver must do, what is said where
 * something is missing or too old, tapes, joules; then every call fails in turn, in every way that a card has, and
 * nothing may be left behind. */
#include "unit/backend/gpu_driver.h"
#include "unit/backend/gpu_faults.h"
#include "unit/backend/gpu_mock.h"
#include <pthread.h>

/* ---- what is missing is said ------------------------------------------------------------------------ */

static void expect_list(stretto_status want, const char *words)
{
    struct gpu_about a[GPU_CARDS];
    struct error e = { 0 };
    size_t n = 9;
    assert_int_equal(driver_cuda.list(a, GPU_CARDS, &n, &e), want);
    assert_int_equal(n, 0);
    print_message("%s\n", e.text);
    if (words) assert_non_null(strstr(e.text, words));
}

static void expect_open(size_t number, stretto_status want, const char *words)
{
    struct error e = { 0 };
    struct card *c = (struct card *)(void *)&e;
    assert_int_equal(driver_cuda.open(&c, number, &e), want);
    assert_null(c);
    print_message("%s\n", e.text);
    assert_non_null(strstr(e.text, words));
    assert_true(nothing_alive());
}

/* Before anything else: a driver that was found stays. */
static void no_driver_or_an_old_one(void)
{
    setenv("STRETTO_CUDA", "/nowhere/libcuda.so.1", 1);
    expect_list(STRETTO_E_DEVICE, "STRETTO_CUDA names a file that cannot be loaded (/nowhere/libcuda.so.1");
    setenv("STRETTO_CUDA", MOCK_CUDA_PATH, 1);
    mock->version = 10020;
    expect_list(STRETTO_E_DEVICE, "for CUDA 10.2, and stretto needs one for CUDA 11.4");
    mock_reset();
}

static void drivers_without_a_card(void **state)
{
    (void)state;
    mock->devices = 0;
    expect_list(STRETTO_OK, NULL);
    expect_open(0, STRETTO_E_DEVICE, "no card");
    mock->init = 999;
    expect_list(STRETTO_E_DEVICE, "does not start");
    mock->init = 2;
    expect_list(STRETTO_E_NOMEM, "out of memory");
    mock_reset();
    expect_open(1, STRETTO_E_ARG, "there is no device cuda:1: the last is cuda:0");
}

static void cards_that_cannot(void **state)
{
    (void)state;
    struct gpu_about a[GPU_CARDS];
    size_t n;
    mock->arch = 52;
    gpu_test_ok(driver_cuda.list(a, GPU_CARDS, &n, err));
    assert_true(n == 1 && a[0].unusable && a[0].arch == 52 && strstr(a[0].why, "5.2"));
    expect_open(0, STRETTO_E_DEVICE, "compute capability is 5.2");
    mock_reset();
    mock->prohibited = 1;
    expect_open(0, STRETTO_E_DEVICE, "prohibited");
    mock_reset();
    mock->devices = 40;
    gpu_test_ok(driver_cuda.list(a, GPU_CARDS, &n, err));
    assert_int_equal(n, GPU_CARDS);
    assert_true(!a[GPU_CARDS - 1].unusable && a[0].gpu && a[0].exact_divide && a[0].arch == 90 && a[0].units == 2);
    assert_string_equal(a[0].driver, "CUDA driver 13.0");
    assert_true(nothing_alive());               /* no contexts for a list */
    mock_reset();
}

static void expect_build(const char *source, const char *options, stretto_status want, const char *words, bool logged)
{
    struct error e = { 0 };
    struct gpu_code *code;
    char *log;
    assert_int_equal(d.driver->build(d.card, source, options, &code, &log, &e), want);
    print_message("%s\n", e.text);
    if (want != STRETTO_OK) assert_true(!code && strstr(e.text, words));
    assert_true(logged == (log != NULL));
    mem_free(log);
    d.driver->code_close(code);
}

/* The compiler's names here, so that its absence can be seen where it is absent. */
static bool compiler_here(void)
{
    return dlopen("libnvrtc.so.13", RTLD_LAZY) || dlopen("libnvrtc.so.12", RTLD_LAZY)
        || dlopen("libnvrtc.so.11.2", RTLD_LAZY);
}

static void compilers(void **state)
{
    (void)state;
    char source[8192];
    snprintf(source, sizeof source, "%s%s", gpu_source("dialect.h"), small);
    setenv("STRETTO_NVRTC", "/nowhere/libnvrtc.so", 1);
    expect_build(source, "", STRETTO_E_DEVICE, "/nowhere/libnvrtc.so cannot be loaded", false);
    if (!compiler_here()) {
        unsetenv("STRETTO_NVRTC");
        setenv("CUDA_HOME", "/nowhere", 1);
        expect_build(source, "", STRETTO_E_DEVICE, "libnvrtc.so.13 comes with the package", false);
        unsetenv("CUDA_HOME");
    }
    setenv("STRETTO_NVRTC", MOCK_CUDA_PATH, 1);
    expect_build(source, "", STRETTO_OK, "", false);
    mock->bad_source = 1;
    expect_build(source, "", STRETTO_E_DEVICE, "does not compile", true);
    mock_reset();
    mock->newest = 89;                          /* PTX of the newest that is known */
    expect_build(source, "-DX=1", STRETTO_OK, "", false);
    mock_reset();
    mock->oldest = 100;
    expect_build(source, "", STRETTO_E_DEVICE, "NVRTC 13.0 compiles for 10.0 and newer", false);
    mock_reset();
    mock->bad_image = 200;
    expect_build(source, "", STRETTO_E_DEVICE, "cannot load the kernels", true);
    mock_reset();
    char many[1024] = "";
    for (int i = 0; i < 80; i++) strcat(many, "-DA=1 ");
    expect_build(source, many, STRETTO_E_ARG, "too many options", false);
}

/* ---- what was compiled is kept ----------------------------------------------------------------------- */

static int add_with(const char *source, const char *options)
{
    int32_t a[16] = { 5 };
    struct gpu_code *code = NULL;
    struct gpu_kernel *k;
    char *log;
    gpu_test_ok(d.driver->build(d.card, source, options, &code, &log, err));
    gpu_test_ok(d.driver->kernel(code, "add", &k, err));
    struct gpu_memory *m = gpu_test_put(&d, a, sizeof a);
    struct gpu_arg args[] = { { .memory = m }, { .word = 7 } };
    gpu_test_ok(d.driver->launch(d.card, k, (uint32_t[]){ 1, 1, 1 }, 16, args, 2, err));
    gpu_test_read(&d, m, 0, a, sizeof a);
    d.driver->free(m);
    d.driver->code_close(code);
    return a[0];
}

/* The mock says how often it compiled, by refusing to. */
static void images_are_kept(void **state)
{
    (void)state;
    char source[8192], folder[] = "/tmp/stretto-kernels-XXXXXX", command[100];
    snprintf(source, sizeof source, "%s%s", gpu_source("dialect.h"), small);
    assert_non_null(mkdtemp(folder));
    setenv("STRETTO_KERNELS", folder, 1);
    for (int newest = 90; newest >= 89; newest--) {     /* machine code, then PTX */
        mock->newest = newest;
        assert_int_equal(add_with(source, "-DX=1"), 12);
        mock->bad_source = 1;
        assert_int_equal(add_with(source, "-DX=1"), 12);
        expect_build(source, "-DX=2", STRETTO_E_DEVICE, "does not compile", true);
        mock->bad_source = 0;
    }
    /* A kept image that the card does not take is compiled anew, and then it is a fault. */
    mock->bad_image = 200;
    expect_build(source, "-DX=1", STRETTO_E_DEVICE, "cannot load the kernels", true);
    mock_reset();
    assert_int_equal(add_with(source, "-DX=1"), 12);
    setenv("STRETTO_KERNELS", "", 1);
    mock->bad_source = 1;
    expect_build(source, "-DX=1", STRETTO_E_DEVICE, "does not compile", true);
    mock_reset();
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

/* ---- tapes and meters -------------------------------------------------------------------------------- */

static void tapes_repeat(void **state)
{
    (void)state;
    int32_t got[32], want[32];
    struct gpu_code *code = gpu_test_build(&d, small, "");
    struct gpu_kernel *k;
    struct gpu_tape *t;
    gpu_test_ok(d.driver->kernel(code, "add", &k, err));
    struct gpu_memory *m = gpu_test_memory(&d, sizeof got);
    struct gpu_arg args[] = { { .memory = m }, gpu_word(3) };
    gpu_test_ok(d.driver->record_begin(d.card, err));
    gpu_test_ok(d.driver->launch(d.card, k, (uint32_t[]){ 1, 1, 1 }, 16, args, 2, err));
    gpu_test_ok(d.driver->copy(d.card, m, 0, m, 64, 32, err));
    gpu_test_ok(d.driver->zero(d.card, m, 60, 4, err));
    gpu_test_ok(d.driver->record_end(d.card, &t, err));
    args[1].word = 1000;                        /* nothing of it is read later */
    gpu_test_read(&d, m, 0, got, sizeof got);
    for (int i = 0; i < 32; i++) assert_int_equal(got[i], 0);
    for (int i = 0; i < 3; i++) gpu_test_ok(d.driver->replay(d.card, t, err));
    gpu_test_read(&d, m, 0, got, sizeof got);
    for (int i = 0; i < 32; i++) want[i] = i == 15 ? 0 : i < 24 ? 9 : 0;
    assert_memory_equal(got, want, sizeof got);
    d.driver->tape_close(t);
    d.driver->tape_close(NULL);

    /* What cannot be recorded spoils the tape and nothing else. */
    struct error e = { 0 };
    gpu_test_ok(d.driver->record_begin(d.card, err));
    assert_int_equal(d.driver->read(d.card, m, 0, got, 4, &e), STRETTO_E_DEVICE);
    error_clear(&e);
    assert_int_equal(d.driver->record_end(d.card, &t, &e), STRETTO_E_DEVICE);
    assert_null(t);
    gpu_test_read(&d, m, 0, got, sizeof got);
    assert_memory_equal(got, want, sizeof got);
    d.driver->free(m);
    d.driver->code_close(code);
}

static void joules_of_the_right_card(void **state)
{
    (void)state;
    double before = d.driver->joules(d.card);
    assert_true(before >= 0);
    struct gpu_code *code = gpu_test_build(&d, small, "");
    struct gpu_kernel *k;
    gpu_test_ok(d.driver->kernel(code, "add", &k, err));
    struct gpu_memory *m = gpu_test_memory(&d, 64);
    struct gpu_arg args[] = { { .memory = m }, gpu_word(3) };
    gpu_test_ok(d.driver->launch(d.card, k, (uint32_t[]){ 1, 1, 1 }, 16, args, 2, err));
    gpu_test_ok(d.driver->finish(d.card, err));
    assert_true(d.driver->joules(d.card) == before + 2);
    d.driver->free(m);
    d.driver->code_close(code);
}

static void memory_is_counted(void **state)
{
    (void)state;
    uint64_t before = d.driver->free_memory(d.card);
    assert_true(before > 0 && before <= d.about.memory);
    struct gpu_memory *m = gpu_test_memory(&d, 1 << 20);
    assert_int_equal(d.driver->free_memory(d.card), before - (1 << 20));
    d.driver->free(m);
    assert_int_equal(d.driver->free_memory(d.card), before);
}

/* ---- whatever fails ------------------------------------------------------------------------------- */

static void whatever_fails(void **state)
{
    (void)state;
    const struct faults f = { &driver_cuda, mock_reset, nothing_alive };
    faults_walk(&f, "out of memory", &mock->fail_take, true, 12);
    faults_walk(&f, "refused", &mock->fail_launch, false, 10);
    faults_walk(&f, "failed while it ran", &mock->fail_run, false, 3);
    faults_lose(&f, &mock->lose, &mock->calls);
}

static void *on_another_thread(void *unused)
{
    (void)unused;
    struct error e = { 0 };
    return (void *)(intptr_t)everything(&driver_cuda, &e);
}

/* Who calls is not who opened; nobody's context is changed. */
static void threads(void **state)
{
    (void)state;
    pthread_t t;
    void *s;
    assert_int_equal(pthread_create(&t, NULL, on_another_thread, NULL), 0);
    pthread_join(t, &s);
    assert_int_equal((intptr_t)s, STRETTO_OK);
    struct gpu_memory *m = gpu_test_memory(&d, 64);
    assert_int_equal(pthread_create(&t, NULL, (void *(*)(void *))(void (*)(void))d.driver->free, m), 0);
    pthread_join(t, &s);
    assert_int_equal(mock->alive.pushed, 0);
}

int main(void)
{
    const struct CMUnitTest missing[] = {
        cmocka_unit_test(drivers_without_a_card), cmocka_unit_test(cards_that_cannot),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compilers), cmocka_unit_test(images_are_kept), GPU_DRIVER_TESTS,
        cmocka_unit_test(tapes_repeat),
        cmocka_unit_test(joules_of_the_right_card), cmocka_unit_test(memory_is_counted),
        cmocka_unit_test(threads),
    };
    const struct CMUnitTest faults[] = { cmocka_unit_test(whatever_fails) };
    gpu_test_open(&d);                          /* what the mock runs on; skips where there is none */
    gpu_test_close(&d);
    mock_find();
    setenv("STRETTO_NVRTC", MOCK_CUDA_PATH, 1);
    setenv("STRETTO_NVML", MOCK_CUDA_PATH, 1);
    setenv("STRETTO_KERNELS", "", 1);
    no_driver_or_an_old_one();
    int failed = cmocka_run_group_tests(missing, NULL, NULL);
    gpu_test_open_on(&d, &driver_cuda);
    failed += cmocka_run_group_tests(tests, NULL, NULL);
    gpu_test_close(&d);
    failed += cmocka_run_group_tests(faults, NULL, NULL);
    return failed;
}
