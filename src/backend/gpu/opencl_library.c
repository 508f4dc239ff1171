/* The OpenCL library, opened when somebody asks for a card, and the devices behind it. */
#include "backend/gpu/opencl_int.h"
#include "base/memory.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the library ---------------------------------------------------------------------------- */

static struct {
    struct ocl functions;
    struct error error;              /* why there is none */
    pthread_once_t once;
} library = { .once = PTHREAD_ONCE_INIT };

static void library_open(void)
{
    const char *path = getenv("STRETTO_OPENCL");
    if (!path || !*path) path = "libOpenCL.so.1";
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *why = dlerror();
        fail(&library.error, STRETTO_E_DEVICE, "there is no OpenCL here (%s); it needs the loader "
             "(package ocl-icd-libopencl1) and the driver of the card's maker", why ? why : path);
        return;
    }
    /* POSIX has functions and data fit the same pointer; C knows no conversion, hence the copy of bits. */
#define X(returns, name, parameters) \
    { \
        void *at = dlsym(handle, "cl" #name); \
        if (!at) fail(&library.error, STRETTO_E_DEVICE, "%s lacks cl" #name ": it is no OpenCL " \
                      "loader, or one older than OpenCL 1.2, which is needed", path); \
        memcpy(&library.functions.name, &at, sizeof at); \
    }
    OCL_FUNCTIONS(X)
#undef X
}

stretto_status ocl_library(const struct ocl **out, struct error *err)
{
    *out = NULL;
    pthread_once(&library.once, library_open);
    if (library.error.status != STRETTO_OK)
        return fail(err, library.error.status, "%s", library.error.text);
    *out = &library.functions;
    return STRETTO_OK;
}

stretto_status ocl_failed(struct error *err, ocl_int code, const char *what)
{
    static const struct { ocl_int code; const char *words; } known[] = {
        { OCL_DEVICE_NOT_AVAILABLE, "the device is not available" },
        { OCL_COMPILER_NOT_AVAILABLE, "the driver has no compiler" },
        { OCL_MEM_OBJECT_ALLOCATION_FAILURE, "the card's memory is short" },
        { OCL_OUT_OF_RESOURCES, "out of resources" },
        { OCL_OUT_OF_HOST_MEMORY, "out of memory" },
        { OCL_BUILD_PROGRAM_FAILURE, "it does not compile" },
        { OCL_INVALID_KERNEL_NAME, "there is no such kernel" },
        { OCL_INVALID_WORK_GROUP_SIZE, "the card has no work-groups of that size" },
        { OCL_INVALID_BUFFER_SIZE, "larger than one piece of the card's memory may be" },
    };
    const char *words = "an error of the driver";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].code == code) words = known[i].words;
    bool memory = code == OCL_MEM_OBJECT_ALLOCATION_FAILURE || code == OCL_OUT_OF_HOST_MEMORY ||
                  code == OCL_INVALID_BUFFER_SIZE;
    return fail(err, memory ? STRETTO_E_NOMEM : STRETTO_E_DEVICE, "%s: %s (OpenCL error %d)", what, words,
                (int)code);
}

/* ---- devices -------------------------------------------------------------------------------- */

/* Texts of drivers are of any length: whole, then cut to what we have room for, and tamed. "" where the driver
 * has none. */
struct asked { const struct ocl *cl; ocl_platform_id platform; ocl_device_id device; bool short_of_memory; };

static ocl_int ask(const struct asked *of, ocl_info which, size_t size, void *to, size_t *all)
{
    return of->device ? of->cl->GetDeviceInfo(of->device, which, size, to, all)
                      : of->cl->GetPlatformInfo(of->platform, which, size, to, all);
}

static void text_of(struct asked *of, ocl_info which, char *out, size_t cap)
{
    size_t size = 0;
    out[0] = '\0';
    if (ask(of, which, 0, NULL, &size) != OCL_SUCCESS || !size || size > 1 << 20) return;
    char *text = mem_zalloc(1, size + 1);
    of->short_of_memory = of->short_of_memory || !text;
    if (text && ask(of, which, size, text, NULL) == OCL_SUCCESS) {
        snprintf(out, cap, "%.*s", (int)(cap - 1), text + strspn(text, " "));
        for (size_t n = strlen(out); n && out[n - 1] == ' '; n--) out[n - 1] = '\0';
        text_tame(out);
    }
    mem_free(text);
}

/* A number of `bytes` bytes, 4 or 8; 0 where the driver does not say. */
static uint64_t number_of(const struct ocl *cl, ocl_device_id device, ocl_info which, size_t bytes)
{
    uint32_t small = 0;
    uint64_t large = 0;
    void *to = bytes == sizeof small ? (void *)&small : (void *)&large;
    if (cl->GetDeviceInfo(device, which, bytes, to, NULL) != OCL_SUCCESS) return 0;
    return bytes == sizeof small ? small : large;
}

static uint32_t least(uint64_t n) { return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX; }

/* Why stretto's kernels cannot run on it; NULL: they can. */
static const char *lacks(const struct ocl *cl, ocl_device_id device, const char *version, const char *profile,
                         const struct gpu_about *a, char *words, size_t size)
{
    unsigned major = 0, minor = 0;
    uint64_t floats = number_of(cl, device, OCL_DEVICE_SINGLE_FP_CONFIG, 8);
    if (sscanf(version, "OpenCL %u.%u", &major, &minor) != 2 || major < 1 || (major == 1 && minor < 2)) {
        snprintf(words, size, "it has %.60s; OpenCL 1.2 is needed", *version ? version : "no version");
        return words;
    }
    if (number_of(cl, device, OCL_DEVICE_TYPE, 8) & OCL_DEVICE_TYPE_CUSTOM)
        return "it runs only kernels of its own";
    if (!number_of(cl, device, OCL_DEVICE_AVAILABLE, 4)) return "its driver says it is not available";
    if (!number_of(cl, device, OCL_DEVICE_COMPILER_AVAILABLE, 4)) return "its driver has no compiler";
    if (strcmp(profile, "FULL_PROFILE")) return "it has only the embedded profile of OpenCL";
    if (!number_of(cl, device, OCL_DEVICE_ENDIAN_LITTLE, 4)) return "its bytes are in the other order";
    if (!(floats & OCL_FP_ROUND_TO_NEAREST) || !(floats & OCL_FP_INF_NAN))
        return "its float32 does not round to nearest, or has no infinity";
    if (a->group < 64 || a->local < 32 << 10 || !a->units || !a->largest) {
        snprintf(words, size, "work-groups of 64 with 32768 bytes of local memory are needed; it has %u with %u",
                 (unsigned)a->group, (unsigned)a->local);
        return words;
    }
    return NULL;
}

static stretto_status about_fill(const struct ocl *cl, struct ocl_found *f, struct error *err)
{
    struct gpu_about *a = &f->about;
    struct asked device = { .cl = cl, .device = f->device }, platform = { .cl = cl, .platform = f->platform };
    char version[128], maker[128], driver[64], profile[64], extensions[8192], board[sizeof a->name] = "";
    *a = (struct gpu_about){ 0 };
    text_of(&device, OCL_DEVICE_VERSION, version, sizeof version);
    text_of(&device, OCL_DRIVER_VERSION, driver, sizeof driver);
    text_of(&device, OCL_DEVICE_PROFILE, profile, sizeof profile);
    text_of(&device, OCL_DEVICE_EXTENSIONS, extensions, sizeof extensions);
    text_of(&platform, OCL_PLATFORM_NAME, maker, sizeof maker);
    text_of(&device, OCL_DEVICE_NAME, a->name, sizeof a->name);
    /* AMD's names are those of instruction sets (gfx1100); what is on the box is asked for in this way. */
    f->free_told = strstr(extensions, "cl_amd_device_attribute_query") != NULL;
    if (f->free_told) text_of(&device, OCL_DEVICE_BOARD_NAME_AMD, board, sizeof board);
    if (*board) memcpy(a->name, board, sizeof board);
    if (device.short_of_memory || platform.short_of_memory) return fail(err, STRETTO_E_NOMEM, "out of memory");
    /* "OpenCL 3.0 and anything": the words after the number are the platform's name again. */
    int cut = 0;
    (void)sscanf(version, "OpenCL %*u.%*u%n", &cut);
    snprintf(a->driver, sizeof a->driver, "%.*s, %.80s %.40s", cut ? cut : 20, version, maker, driver);
    a->memory = number_of(cl, f->device, OCL_DEVICE_GLOBAL_MEM_SIZE, 8);
    a->largest = number_of(cl, f->device, OCL_DEVICE_MAX_MEM_ALLOC_SIZE, 8);
    a->units = least(number_of(cl, f->device, OCL_DEVICE_MAX_COMPUTE_UNITS, 4));
    a->group = least(number_of(cl, f->device, OCL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof(size_t)));
    a->local = least(number_of(cl, f->device, OCL_DEVICE_LOCAL_MEM_SIZE, 8));
    a->gpu = number_of(cl, f->device, OCL_DEVICE_TYPE, 8) & (OCL_DEVICE_TYPE_GPU | OCL_DEVICE_TYPE_ACCELERATOR);
    a->exact_divide = number_of(cl, f->device, OCL_DEVICE_SINGLE_FP_CONFIG, 8) &
                      OCL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT;
    char words[sizeof a->why];
    const char *why = lacks(cl, f->device, version, profile, a, words, sizeof words);
    a->unusable = why != NULL;
    if (why) snprintf(a->why, sizeof a->why, "%s", why);
    return STRETTO_OK;
}

/* Devices of one platform behind those that were found; a platform without any adds none. */
static stretto_status find_on(const struct ocl *cl, ocl_platform_id platform, struct ocl_found *out, size_t *n,
                              struct error *err)
{
    ocl_device_id device[GPU_CARDS];
    ocl_uint count = 0;
    ocl_int code = cl->GetDeviceIDs(platform, OCL_DEVICE_TYPE_ALL, GPU_CARDS, device, &count);
    if (code == OCL_DEVICE_NOT_FOUND) return STRETTO_OK;
    if (code != OCL_SUCCESS) return ocl_failed(err, code, "OpenCL cannot list its devices");
    for (ocl_uint i = 0; i < count && i < GPU_CARDS && *n < GPU_CARDS; i++) {
        out[*n] = (struct ocl_found){ .platform = platform, .device = device[i] };
        TRY(about_fill(cl, &out[*n], err));
        (*n)++;
    }
    return STRETTO_OK;
}

/* GPUs first: opencl:0 should be one where there is one. Otherwise the order stays. */
static void gpus_first(struct ocl_found *f, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct ocl_found moved = f[i];
        size_t at = i;
        for (; at && moved.about.gpu && !f[at - 1].about.gpu; at--) f[at] = f[at - 1];
        f[at] = moved;
    }
}

stretto_status ocl_find(const struct ocl *cl, struct ocl_found out[GPU_CARDS], size_t *n, struct error *err)
{
    ocl_platform_id platform[GPU_CARDS];
    ocl_uint platforms = 0;
    *n = 0;
    ocl_int code = cl->GetPlatformIDs(GPU_CARDS, platform, &platforms);
    if (code == OCL_PLATFORM_NOT_FOUND_KHR || (code == OCL_SUCCESS && !platforms))
        return fail(err, STRETTO_E_DEVICE, "there is an OpenCL loader and no driver: install the one of the "
                    "card's maker, or pocl-opencl-icd for the CPU");
    if (code != OCL_SUCCESS) return ocl_failed(err, code, "OpenCL cannot list its drivers");
    /* A driver that fails hides nobody else's devices. */
    struct error first = { 0 };
    for (ocl_uint i = 0; i < platforms && i < GPU_CARDS; i++) (void)find_on(cl, platform[i], out, n, &first);
    if (first.status == STRETTO_E_NOMEM || (!*n && first.status != STRETTO_OK))
        return fail(err, first.status, "%s", first.text);
    gpus_first(out, *n);
    return STRETTO_OK;
}
