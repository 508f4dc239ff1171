/* For tests of what runs on cards: a device with the fields that the launchers use, on the first OpenCL device
 * that is usable (PoCL runs the kernels on the CPU), and memory to and from it. */
#ifndef UNIT_BACKEND_GPU_TEST_H
#define UNIT_BACKEND_GPU_TEST_H
#include "unit/unit.h"
#include "backend/gpu/gpu.h"
#include "base/buffer.h"
#include "base/memory.h"

#define gpu_test_ok(call) do { \
        struct error e_ = { 0 }; \
        struct error *err = &e_; \
        if ((call) != STRETTO_OK) { \
            print_error("%s:%d: %s\n", __FILE__, __LINE__, e_.text); \
            _fail(__FILE__, __LINE__); \
        } \
    } while (0)

/* The first card of a driver that is usable. Leaves with CTest's skip code where there is none; call before the group
 * runs. */
static inline void gpu_test_open_on(struct gpu_device *d, const struct gpu_driver *driver)
{
    struct gpu_about about[GPU_CARDS];
    struct error e = { 0 };
    size_t n = 0, i = 0;
    memset(d, 0, sizeof *d);
    d->driver = driver;
    if (d->driver->list(about, GPU_CARDS, &n, &e) != STRETTO_OK) SKIP("%s (./dev test installs PoCL)", e.text);
    while (i < n && about[i].unusable) i++;
    if (i == n) SKIP("no device of %s that is usable (./dev test installs PoCL)", driver->name);
    if (d->driver->open(&d->card, i, &e) != STRETTO_OK) {
        printf("%s\n", e.text);
        exit(1);
    }
    d->about = *d->driver->about(d->card);
    d->row_lanes = 64;
    pthread_mutex_init(&d->lock, NULL);
}

/* On OpenCL; where STRETTO_TEST_GPU says "cuda", on the CUDA driver that STRETTO_CUDA names, the mock of tests/gpu. */
static inline void gpu_test_open(struct gpu_device *d)
{
    const char *which = getenv("STRETTO_TEST_GPU");
    gpu_test_open_on(d, which && !strcmp(which, "cuda") ? &driver_cuda : &driver_opencl);
}

static inline void gpu_test_close(struct gpu_device *d)
{
    d->driver->close(d->card);
    pthread_mutex_destroy(&d->lock);
}

static inline struct gpu_memory *gpu_test_memory(struct gpu_device *d, uint64_t bytes)
{
    struct gpu_memory *m = NULL;
    gpu_test_ok(d->driver->alloc(d->card, bytes, &m, err));
    return m;
}

static inline void gpu_test_write(struct gpu_device *d, struct gpu_memory *m, uint64_t at, const void *p, size_t bytes)
{
    gpu_test_ok(d->driver->write(d->card, m, at, p, bytes, err));
    gpu_test_ok(d->driver->finish(d->card, err));
}

static inline void gpu_test_read(struct gpu_device *d, const struct gpu_memory *m, uint64_t at, void *p, size_t bytes)
{
    gpu_test_ok(d->driver->read(d->card, m, at, p, bytes, err));
    gpu_test_ok(d->driver->finish(d->card, err));
}

/* New memory with these bytes: floats, ints, panels. */
static inline struct gpu_memory *gpu_test_put(struct gpu_device *d, const void *p, size_t bytes)
{
    struct gpu_memory *m = gpu_test_memory(d, bytes);
    gpu_test_write(d, m, 0, p, bytes);
    return m;
}

/* Kernels of the test's own, in the language of dialect.h. */
static inline struct gpu_code *gpu_test_build(struct gpu_device *d, const char *text, const char *options)
{
    struct buffer b = buffer_make(1 << 20);
    struct gpu_code *code = NULL;
    char *log = NULL;
    struct error e = { 0 };
    assert_int_equal(buffer_str(&b, gpu_source("dialect.h")), STRETTO_OK);
    assert_int_equal(buffer_printf(&b, "#line 1 \"test\"\n%s", text), STRETTO_OK);
    if (d->driver->build(d->card, b.data, options, &code, &log, &e) != STRETTO_OK)
        print_error("%s\n%s\n", e.text, log ? log : "");
    assert_non_null(code);
    buffer_done(&b);
    return code;
}
#endif
