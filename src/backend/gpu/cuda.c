/* The driver of NVIDIA's cards: libcuda and NVRTC, opened when somebody asks for a card and never closed again
 * (neither library can be unloaded safely).
 *
 * A card is the device's primary context, which libraries of the same process share, and one stream. The context is
 * pushed for each call and popped after it: what the calling thread had stays as it was. Kernels are compiled for
 * the card itself where NVRTC knows its architecture; else PTX of the newest architecture that it knows and the card
 * can run is left to the driver's own compiler. Contraction and every other freedom of the compiler with floating-point
 * numbers is off, so what a kernel answers is what its source says.
 *
 * STRETTO_CUDA and STRETTO_NVRTC name the two libraries where they are somewhere else, STRETTO_NVML the one that
 * knows joules. */
#include "backend/gpu/driver.h"
#include "backend/gpu/cuda_abi.h"
#include "backend/gpu/kept.h"
#include "base/memory.h"
#include <assert.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OLDEST_DRIVER = 11040,   /* CUDA 11.4: the first whose graphs are made by the call that 13 still has */
    OLDEST_ARCH = 61,        /* the first with dp4a */
    MOST_ARGS = 32, MOST_WORDS = 64
};

struct card {
    struct CUctx_st *context;
    struct CUstream_st *stream;
    struct CUevent_st **marks;       /* [GPU_MARKS], made when first passed */
    struct nvmlDevice_st *meter;
    bool no_meter;
    int device;
    struct gpu_about about;
};
struct gpu_memory { struct card *card; cuda_address at; uint64_t bytes; };
struct gpu_kernel { struct gpu_kernel *next; struct CUfunc_st *function; char name[]; };
struct gpu_code { struct card *card; struct CUmod_st *module; struct gpu_kernel *kernels; };
struct gpu_tape { struct card *card; struct CUgraphExec_st *graph; };

/* ---- the libraries ------------------------------------------------------------------------------ */

/* What is open stays open for the whole process; the lock is for opening. */
static struct {
    pthread_mutex_t lock;
    bool driver_open, compiler_open, meters_open, meters_missing;
    int version, compiler[2];        /* 1000 * major + 10 * minor; major, minor */
    struct cuda_driver driver;
    struct nvrtc compiler_calls;
    struct nvml meters;
} lib = { .lock = PTHREAD_MUTEX_INITIALIZER };
#define cu lib.driver

struct symbol { const char *name; size_t at; };
#define DRIVER_SYMBOL(member, symbol, header, args) { symbol, offsetof(struct cuda_driver, member) },
#define COMPILER_SYMBOL(member, symbol, header, args) { symbol, offsetof(struct nvrtc, member) },
#define METER_SYMBOL(member, symbol, header, args) { symbol, offsetof(struct nvml, member) },
static const struct symbol driver_symbols[] = { CUDA_ABI(DRIVER_SYMBOL) { NULL, 0 } };
static const struct symbol compiler_symbols[] = { NVRTC_ABI(COMPILER_SYMBOL) { NULL, 0 } };
static const struct symbol meter_symbols[] = { NVML_ABI(METER_SYMBOL) { NULL, 0 } };

/* The name of the first symbol that the library lacks, or NULL when `calls` is filled. */
static const char *symbols_find(void *library, const struct symbol *s, void *calls)
{
    for (; s->name; s++) {
        void *p = dlsym(library, s->name);
        if (!p) return s->name;
        memcpy((char *)calls + s->at, &p, sizeof p);
    }
    return NULL;
}

static const char *first_word(const char *variable)
{
    const char *path = getenv(variable);
    return path && *path ? path : NULL;
}

static stretto_status driver_check(void *library, const char *path, struct error *err)
{
    cuda_status (*version)(int *) = NULL;
    void *p = dlsym(library, "cuDriverGetVersion");
    memcpy(&version, &p, sizeof p);
    int v = 0;
    if (!version || version(&v) != ABI_CUDA_SUCCESS)
        return fail(err, STRETTO_E_DEVICE, "%s is no CUDA driver that works", path);
    lib.version = v;
    if (v < OLDEST_DRIVER)
        return fail(err, STRETTO_E_DEVICE, "the CUDA driver is too old: it is for CUDA %d.%d, and stretto needs one for"
                    " CUDA %d.%d or newer (NVIDIA's driver 470)", v / 1000, v % 1000 / 10, OLDEST_DRIVER / 1000,
                    OLDEST_DRIVER % 1000 / 10);
    const char *missing = symbols_find(library, driver_symbols, &cu);
    if (missing) return fail(err, STRETTO_E_DEVICE, "%s (CUDA driver %d.%d) has no %s", path, v / 1000, v % 1000 / 10,
                             missing);
    return STRETTO_OK;
}

static stretto_status driver_find(struct error *err)
{
    static const char *const names[] = { "libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1" };
    const char *path = first_word("STRETTO_CUDA");
    void *library = NULL;
    if (path) library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; !path && !library && i < sizeof names / sizeof *names; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library && path) {
        const char *why = dlerror();
        return fail(err, STRETTO_E_DEVICE, "no CUDA driver: STRETTO_CUDA names a file that cannot be loaded (%s)",
                    why ? why : path);
    }
    if (!library)
        return fail(err, STRETTO_E_DEVICE, "no CUDA driver: %s cannot be loaded; it comes with NVIDIA's driver",
                    names[0]);
    TRY(driver_check(library, path ? path : names[0], err));
    lib.driver_open = true;
    return STRETTO_OK;
}

static stretto_status driver_open(struct error *err)
{
    pthread_mutex_lock(&lib.lock);
    stretto_status s = lib.driver_open ? STRETTO_OK : driver_find(err);
    pthread_mutex_unlock(&lib.lock);
    return s;
}

/* Takes the compiler at `path`; one for a newer CUDA than the driver only when asked to. */
static bool compiler_take(const char *path, bool newer)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) return false;
    int v[2] = { 0, 0 };
    if (symbols_find(library, compiler_symbols, &lib.compiler_calls)
            || lib.compiler_calls.version(&v[0], &v[1]) != ABI_NVRTC_SUCCESS
            || (!newer && v[0] > lib.version / 1000)) {
        dlclose(library);
        return false;
    }
    memcpy(lib.compiler, v, sizeof v);
    lib.compiler_open = true;
    return true;
}

/* Beside the loader's own folders, where NVIDIA's packages put a toolkit. */
static bool compiler_look(bool newer)
{
    static const char *const names[] = { "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2" };
    const char *home = first_word("CUDA_HOME");
    if (!home) home = "/usr/local/cuda";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (compiler_take(names[i], newer)) return true;
        char path[512];
        int n = snprintf(path, sizeof path, "%s/lib64/%s", home, names[i]);
        if (n > 0 && (size_t)n < sizeof path && compiler_take(path, newer)) return true;
    }
    return false;
}

static stretto_status compiler_find(struct error *err)
{
    const char *path = first_word("STRETTO_NVRTC");
    if (path ? compiler_take(path, true) : compiler_look(false) || compiler_look(true)) return STRETTO_OK;
    int major = lib.version / 1000;
    if (path) return fail(err, STRETTO_E_DEVICE, "%s cannot be loaded, or is no NVRTC (STRETTO_NVRTC)", path);
    return fail(err, STRETTO_E_DEVICE, "the CUDA driver is here, its compiler is not: libnvrtc.so.%s comes with the"
                " package libnvrtc%s (Debian, Ubuntu), cuda-nvrtc-%d-%d (NVIDIA's), or with the CUDA toolkit",
                major > 12 ? "13" : major == 12 ? "12" : "11.2", major > 12 ? "13" : major == 12 ? "12" : "11.2",
                major, lib.version % 1000 / 10);
}

static stretto_status compiler_open(struct error *err)
{
    pthread_mutex_lock(&lib.lock);
    stretto_status s = lib.compiler_open ? STRETTO_OK : compiler_find(err);
    pthread_mutex_unlock(&lib.lock);
    return s;
}

static bool meters_open(void)
{
    pthread_mutex_lock(&lib.lock);
    if (!lib.meters_open && !lib.meters_missing) {
        const char *path = first_word("STRETTO_NVML");
        void *library = dlopen(path ? path : "libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
        lib.meters_open = library && !symbols_find(library, meter_symbols, &lib.meters) && lib.meters.init() == 0;
        lib.meters_missing = !lib.meters_open;
    }
    bool open = lib.meters_open;
    pthread_mutex_unlock(&lib.lock);
    return open;
}

/* ---- what went wrong ----------------------------------------------------------------------------- */

static const char *words_of(cuda_status s, const char **name)
{
    const char *text = NULL;
    *name = NULL;
    if (cu.error_name(s, name) != ABI_CUDA_SUCCESS || !*name) *name = "an unknown error";
    if (cu.error_text(s, &text) != ABI_CUDA_SUCCESS || !text) text = "the driver has no words for it";
    return text;
}

/* OK for 0; else what was tried, on which card, and the driver's own words. */
static stretto_status check(const struct card *c, cuda_status s, const char *what, struct error *err)
{
    if (s == ABI_CUDA_SUCCESS) return STRETTO_OK;
    const char *name, *text = words_of(s, &name);
    return fail(err, s == ABI_CUDA_ERROR_OUT_OF_MEMORY ? STRETTO_E_NOMEM : STRETTO_E_DEVICE, "%s: %s: %s (%s)",
                c->about.name, what, text, name);
}

static stretto_status enter(const struct card *c, const char *what, struct error *err)
{
    return check(c, cu.context_push(c->context), what, err);
}

static void leave(void)
{
    struct CUctx_st *was;
    (void)cu.context_pop(&was);
}

/* A call with the card's context. */
#define ON_CARD(c, call, what, err)                             \
    do {                                                        \
        TRY(enter(c, what, err));                               \
        cuda_status on_card_status = (call);                    \
        leave();                                                \
        return check(c, on_card_status, what, err);             \
    } while (0)

/* ---- cards -------------------------------------------------------------------------------------- */

static uint32_t attribute(int device, unsigned which)
{
    int v = 0;
    return cu.device_attribute(&v, which, device) == ABI_CUDA_SUCCESS && v > 0 ? (uint32_t)v : 0;
}

/* What can be asked without a context. */
static cuda_status describe(int number, int *device, struct gpu_about *a)
{
    *a = (struct gpu_about){ .gpu = true, .exact_divide = true };
    cuda_status s = cu.device(device, number);
    size_t bytes = 0;
    if (s == ABI_CUDA_SUCCESS) s = cu.device_name(a->name, (int)sizeof a->name, *device);
    if (s == ABI_CUDA_SUCCESS) s = cu.device_memory(&bytes, *device);
    if (s != ABI_CUDA_SUCCESS) return s;
    a->name[sizeof a->name - 1] = 0;
    text_tame(a->name);
    snprintf(a->driver, sizeof a->driver, "CUDA driver %d.%d", lib.version / 1000, lib.version % 1000 / 10);
    a->memory = a->largest = bytes;
    a->units = attribute(*device, ABI_CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    a->group = attribute(*device, ABI_CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    a->local = attribute(*device, ABI_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
    a->arch = 10 * attribute(*device, ABI_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
        + attribute(*device, ABI_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    if (a->arch < OLDEST_ARCH)
        snprintf(a->why, sizeof a->why, "its compute capability is %u.%u, and dot products of bytes begin with %d.%d",
                 a->arch / 10, a->arch % 10, OLDEST_ARCH / 10, OLDEST_ARCH % 10);
    else if (attribute(*device, ABI_CU_DEVICE_ATTRIBUTE_COMPUTE_MODE) == ABI_CU_COMPUTEMODE_PROHIBITED)
        snprintf(a->why, sizeof a->why, "its compute mode is \"prohibited\" (nvidia-smi -c DEFAULT allows programs)");
    a->unusable = *a->why != 0;
    return ABI_CUDA_SUCCESS;
}

/* How many cards there are; a driver without a card is no error. */
static stretto_status count_cards(int *n, struct error *err)
{
    *n = 0;
    TRY(driver_open(err));
    cuda_status s = cu.init(0);
    if (s == ABI_CUDA_SUCCESS) s = cu.device_count(n);
    if (s == ABI_CUDA_SUCCESS) return STRETTO_OK;
    *n = 0;
    if (s == ABI_CUDA_ERROR_NO_DEVICE) return STRETTO_OK;
    const char *name, *text = words_of(s, &name);
    return fail(err, s == ABI_CUDA_ERROR_OUT_OF_MEMORY ? STRETTO_E_NOMEM : STRETTO_E_DEVICE,
                "the CUDA driver %d.%d does not start: %s (%s)", lib.version / 1000, lib.version % 1000 / 10, text,
                name);
}

static stretto_status cuda_list(struct gpu_about *out, size_t cap, size_t *n, struct error *err)
{
    int count;
    *n = 0;
    TRY(count_cards(&count, err));
    for (int i = 0; i < count && *n < cap; i++) {
        int device;
        cuda_status s = describe(i, &device, &out[*n]);
        if (s == ABI_CUDA_ERROR_OUT_OF_MEMORY) return fail(err, STRETTO_E_NOMEM, "out of memory, listing CUDA's cards");
        if (s != ABI_CUDA_SUCCESS) {      /* the others can still be used */
            const char *name, *text = words_of(s, &name);
            out[*n] = (struct gpu_about){ .gpu = true, .unusable = true };
            snprintf(out[*n].name, sizeof out[*n].name, "CUDA card %d", i);
            snprintf(out[*n].why, sizeof out[*n].why, "%s (%s)", text, name);
        }
        ++*n;
    }
    return STRETTO_OK;
}

/* Where not even the context can be had, the card is lost, and what the context holds goes with it. */
static void cuda_close(struct card *c)
{
    if (!c) return;
    if (c->context && cu.context_push(c->context) == ABI_CUDA_SUCCESS) {
        for (uint32_t i = 0; c->marks && i < GPU_MARKS; i++)
            if (c->marks[i]) (void)cu.event_destroy(c->marks[i]);
        if (c->stream) (void)cu.stream_destroy(c->stream);
        leave();
    }
    if (c->context) (void)cu.context_release(c->device);
    mem_free(c->marks);
    mem_free(c);
}

static stretto_status cuda_open(struct card **out, size_t number, struct error *err)
{
    int count;
    *out = NULL;
    TRY(count_cards(&count, err));
    if (count == 0) return fail(err, STRETTO_E_DEVICE, "the CUDA driver is here and has no card");
    if (number >= (size_t)count)
        return fail(err, STRETTO_E_ARG, "there is no device cuda:%zu: the last is cuda:%d", number, count - 1);
    struct card *c = mem_zalloc(1, sizeof *c);
    if (!c) return fail(err, STRETTO_E_NOMEM, "out of memory");
    snprintf(c->about.name, sizeof c->about.name, "CUDA card %zu", number);
    stretto_status s = check(c, describe((int)number, &c->device, &c->about), "cannot be asked what it is", err);
    if (s == STRETTO_OK && c->about.unusable)
        s = fail(err, STRETTO_E_DEVICE, "cuda:%zu (%s) cannot run stretto: %s", number, c->about.name, c->about.why);
    if (s == STRETTO_OK)
        s = check(c, cu.context_retain(&c->context, c->device), "cannot be opened", err);
    if (s == STRETTO_OK) s = enter(c, "cannot be opened", err);
    if (s == STRETTO_OK) {
        s = check(c, cu.stream_create(&c->stream, ABI_CU_STREAM_NON_BLOCKING), "cannot be opened", err);
        leave();
    }
    if (s == STRETTO_OK) *out = c;
    else cuda_close(c);
    return s;
}

static const struct gpu_about *cuda_about(const struct card *c)
{
    return &c->about;
}

static uint64_t cuda_free_memory(struct card *c)
{
    size_t left = 0, all;
    if (cu.context_push(c->context) != ABI_CUDA_SUCCESS) return 0;
    if (cu.memory_info(&left, &all) != ABI_CUDA_SUCCESS) left = 0;
    leave();
    return left;
}

/* ---- code --------------------------------------------------------------------------------------- */

/* The architecture to compile for: the card's own if the compiler knows it (*exact), else the newest before it. */
static stretto_status arch_pick(const struct card *c, int *arch, bool *exact, struct error *err)
{
    int n = 0, archs[256], oldest = 0;
    if (lib.compiler_calls.n_archs(&n) != ABI_NVRTC_SUCCESS || n < 0 || (size_t)n > sizeof archs / sizeof *archs
            || lib.compiler_calls.archs(archs) != ABI_NVRTC_SUCCESS)
        return fail(err, STRETTO_E_DEVICE, "NVRTC %d.%d does not say for which cards it compiles", lib.compiler[0],
                    lib.compiler[1]);
    *arch = 0;
    for (int i = 0; i < n; i++) {
        if (!oldest || archs[i] < oldest) oldest = archs[i];
        if ((uint32_t)archs[i] <= c->about.arch && archs[i] > *arch) *arch = archs[i];
    }
    *exact = (uint32_t)*arch == c->about.arch;
    if (*arch) return STRETTO_OK;
    return fail(err, STRETTO_E_DEVICE, "%s: its compute capability is %u.%u, and NVRTC %d.%d compiles for %d.%d and"
                " newer: an older NVRTC is needed (STRETTO_NVRTC names it)", c->about.name, c->about.arch / 10,
                c->about.arch % 10, lib.compiler[0], lib.compiler[1], oldest / 10, oldest % 10);
}

static stretto_status compiler_failed(unsigned s, struct error *err)
{
    return fail(err, s == ABI_NVRTC_ERROR_OUT_OF_MEMORY ? STRETTO_E_NOMEM : STRETTO_E_DEVICE,
                s == ABI_NVRTC_ERROR_OUT_OF_MEMORY ? "NVRTC %d.%d: out of memory (%u)"
                : s == ABI_NVRTC_ERROR_COMPILATION ? "NVRTC %d.%d does not compile the kernels (%u)"
                : "NVRTC %d.%d: error %u", lib.compiler[0], lib.compiler[1], s);
}

static char *compiler_log(struct _nvrtcProgram *p)
{
    size_t n = 0;
    if (lib.compiler_calls.log_size(p, &n) != ABI_NVRTC_SUCCESS || n == 0) return NULL;
    char *log = mem_zalloc(n + 1, 1);
    if (log && lib.compiler_calls.log(p, log) == ABI_NVRTC_SUCCESS) return log;
    mem_free(log);
    return NULL;
}

/* How a text is compiled: the words for NVRTC, and who compiles for whom. */
struct recipe { const char *words[MOST_WORDS]; int n; bool exact; char target[32], versions[64]; };

/* `options` is cut into words in place, behind the ones that every kernel has. */
static stretto_status recipe_make(const struct card *c, char *options, struct recipe *r, struct error *err)
{
    static const char *const always[] = { "--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true",
                                          "--prec-sqrt=true" };
    int arch = 0;
    TRY(arch_pick(c, &arch, &r->exact, err));
    snprintf(r->target, sizeof r->target, "--gpu-architecture=%s_%d", r->exact ? "sm" : "compute", arch);
    snprintf(r->versions, sizeof r->versions, "NVRTC %d.%d, driver %d", lib.compiler[0], lib.compiler[1], lib.version);
    r->words[r->n++] = r->target;
    for (size_t i = 0; i < sizeof always / sizeof *always; i++) r->words[r->n++] = always[i];
    for (char *save = NULL, *w = strtok_r(options, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        if (r->n == MOST_WORDS) return fail(err, STRETTO_E_ARG, "too many options of a kernel");
        r->words[r->n++] = w;
    }
    return STRETTO_OK;
}

/* What the image depends on, for kept.h. */
static void identity_of(const struct recipe *r, const char *source, const char *out[MOST_WORDS + 4])
{
    *out++ = "cuda";
    *out++ = r->versions;
    for (int i = 0; i < r->n; i++) *out++ = r->words[i];
    *out++ = source;
    *out = NULL;
}

/* The program's machine code, or PTX, with a NUL behind it. mem_free it. */
static stretto_status image_of(struct _nvrtcProgram *p, bool exact, char **image, size_t *bytes, struct error *err)
{
    size_t n = 0;
    unsigned s = exact ? lib.compiler_calls.cubin_size(p, &n) : lib.compiler_calls.ptx_size(p, &n);
    if (s != ABI_NVRTC_SUCCESS) return compiler_failed(s, err);
    *image = mem_zalloc(n + 1, 1);
    if (!*image) return fail(err, STRETTO_E_NOMEM, "out of memory");
    *bytes = n + 1;
    s = exact ? lib.compiler_calls.cubin(p, *image) : lib.compiler_calls.ptx(p, *image);
    return s == ABI_NVRTC_SUCCESS ? STRETTO_OK : compiler_failed(s, err);
}

static stretto_status compile(const struct recipe *r, const char *source, char **image, size_t *bytes, char **log,
                              struct error *err)
{
    struct _nvrtcProgram *p = NULL;
    unsigned e = lib.compiler_calls.create(&p, source, "stretto.cu", 0, NULL, NULL);
    if (e != ABI_NVRTC_SUCCESS) return compiler_failed(e, err);
    e = lib.compiler_calls.compile(p, r->n, r->words);
    stretto_status s = e == ABI_NVRTC_SUCCESS ? image_of(p, r->exact, image, bytes, err) : compiler_failed(e, err);
    if (e == ABI_NVRTC_ERROR_COMPILATION) *log = compiler_log(p);
    (void)lib.compiler_calls.destroy(&p);
    return s;
}

static stretto_status load(struct card *c, const char *image, struct CUmod_st **module, char **log, struct error *err)
{
    enum { LOG = 16384 };
    unsigned keys[] = { ABI_CU_JIT_ERROR_LOG_BUFFER, ABI_CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES };
    char *text = mem_zalloc(LOG, 1);
    if (!text) return fail(err, STRETTO_E_NOMEM, "out of memory");
    void *values[] = { text, (void *)(uintptr_t)(LOG - 1) };
    stretto_status s = enter(c, "cannot load the kernels", err);
    if (s == STRETTO_OK) {
        cuda_status e = cu.module_load(module, image, 2, keys, values);
        leave();
        if (e != ABI_CUDA_SUCCESS && lib.compiler[0] > lib.version / 1000) {
            const char *name, *words = words_of(e, &name);
            s = fail(err, e == ABI_CUDA_ERROR_OUT_OF_MEMORY ? STRETTO_E_NOMEM : STRETTO_E_DEVICE,
                     "%s: the CUDA driver %d.%d refuses what NVRTC %d.%d compiled: %s (%s); update the driver, or"
                     " name an older NVRTC with STRETTO_NVRTC", c->about.name, lib.version / 1000,
                     lib.version % 1000 / 10, lib.compiler[0], lib.compiler[1], words, name);
        } else
            s = check(c, e, "cannot load the kernels", err);
    }
    if (s == STRETTO_E_DEVICE && *text) *log = text;
    else mem_free(text);
    return s;
}

static void cuda_code_close(struct gpu_code *code)
{
    if (!code) return;
    if (code->module && cu.context_push(code->card->context) == ABI_CUDA_SUCCESS) {
        (void)cu.module_unload(code->module);
        leave();
    }
    for (struct gpu_kernel *k = code->kernels, *next; k; k = next) {
        next = k->next;
        mem_free(k);
    }
    mem_free(code);
}

/* An image that was kept, and that the card takes. */
static bool load_kept(struct card *c, const char *const *identity, struct CUmod_st **module)
{
    struct error quiet = { 0 };
    void *image;
    size_t bytes;
    char *log = NULL;
    bool found = kept_find(identity, &image, &bytes) && ((char *)image)[bytes - 1] == '\0' &&
                 load(c, image, module, &log, &quiet) == STRETTO_OK;
    mem_free(log);
    mem_free(image);
    return found;
}

static stretto_status module_make(struct card *c, const char *source, char *options, struct CUmod_st **module,
                                  char **log, struct error *err)
{
    struct recipe r = { .n = 0 };
    const char *identity[MOST_WORDS + 4];
    char *image = NULL;
    size_t bytes = 0;
    TRY(recipe_make(c, options, &r, err));
    identity_of(&r, source, identity);
    if (load_kept(c, identity, module)) return STRETTO_OK;
    stretto_status s = compile(&r, source, &image, &bytes, log, err);
    if (s == STRETTO_OK) s = load(c, image, module, log, err);
    if (s == STRETTO_OK) kept_store(identity, image, bytes);
    mem_free(image);
    return s;
}

static stretto_status cuda_build(struct card *c, const char *source, const char *options, struct gpu_code **out,
                                 char **log, struct error *err)
{
    *out = NULL;
    *log = NULL;
    TRY(compiler_open(err));
    struct gpu_code *code = mem_zalloc(1, sizeof *code);
    char *words = mem_strdup(options ? options : "");
    stretto_status s = code && words ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
    if (s == STRETTO_OK) {
        code->card = c;
        s = module_make(c, source, words, &code->module, log, err);
    }
    mem_free(words);
    if (s == STRETTO_OK) *out = code;
    else cuda_code_close(code);
    return s;
}

static stretto_status cuda_kernel(struct gpu_code *code, const char *name, struct gpu_kernel **out, struct error *err)
{
    *out = NULL;
    size_t n = strlen(name) + 1;
    struct gpu_kernel *k = mem_zalloc(1, sizeof *k + n);
    if (!k) return fail(err, STRETTO_E_NOMEM, "out of memory");
    memcpy(k->name, name, n);
    stretto_status s = enter(code->card, name, err);
    if (s == STRETTO_OK) {
        s = check(code->card, cu.module_function(&k->function, code->module, name), name, err);
        leave();
    }
    if (s != STRETTO_OK) {
        mem_free(k);
        return s;
    }
    k->next = code->kernels;
    code->kernels = *out = k;
    return STRETTO_OK;
}

/* ---- memory -------------------------------------------------------------------------------------- */

/* Zeros: nothing that was on the card before may show. */
static stretto_status memory_take(struct gpu_memory *m, struct error *err)
{
    struct card *c = m->card;
    size_t bytes = m->bytes ? m->bytes : 1;
    TRY(enter(c, "cannot give memory", err));
    cuda_status s = cu.memory_alloc(&m->at, bytes);
    bool full = s == ABI_CUDA_ERROR_OUT_OF_MEMORY;
    if (s == ABI_CUDA_SUCCESS) {
        s = cu.fill(m->at, 0, bytes, c->stream);
        if (s != ABI_CUDA_SUCCESS) (void)cu.memory_free(m->at);
    }
    leave();
    if (full)
        return fail(err, STRETTO_E_NOMEM, "%s has no %.1f MB of memory in one piece (it has %.0f MB, %.1f free)",
                    c->about.name, (double)bytes / 1e6, (double)c->about.memory / 1e6,
                    (double)cuda_free_memory(c) / 1e6);
    return check(c, s, "cannot give memory", err);
}

static stretto_status cuda_alloc(struct card *c, uint64_t bytes, struct gpu_memory **out, struct error *err)
{
    *out = NULL;
    struct gpu_memory *m = mem_zalloc(1, sizeof *m);
    if (!m) return fail(err, STRETTO_E_NOMEM, "out of memory");
    *m = (struct gpu_memory){ .card = c, .bytes = bytes };
    stretto_status s = memory_take(m, err);
    if (s == STRETTO_OK) *out = m;
    else mem_free(m);
    return s;
}

static void cuda_free(struct gpu_memory *m)
{
    if (!m) return;
    if (cu.context_push(m->card->context) == ABI_CUDA_SUCCESS) {
        (void)cu.memory_free(m->at);
        leave();
    }
    mem_free(m);
}

static stretto_status cuda_host_alloc(struct card *c, size_t bytes, void **out, struct error *err)
{
    *out = NULL;
    ON_CARD(c, cu.host_alloc(out, bytes ? bytes : 1, 0), "cannot pin memory of this machine", err);
}

static void cuda_host_free(struct card *c, void *p)
{
    if (!p || cu.context_push(c->context) != ABI_CUDA_SUCCESS) return;
    (void)cu.host_free(p);
    leave();
}

static stretto_status cuda_write(struct card *c, struct gpu_memory *to, uint64_t at, const void *from, size_t bytes,
                                 struct error *err)
{
    assert(at <= to->bytes && bytes <= to->bytes - at);
    if (bytes == 0) return STRETTO_OK;
    ON_CARD(c, cu.to_card(to->at + at, from, bytes, c->stream), "cannot be written to", err);
}

static stretto_status cuda_read(struct card *c, const struct gpu_memory *from, uint64_t at, void *to, size_t bytes,
                                struct error *err)
{
    assert(at <= from->bytes && bytes <= from->bytes - at);
    if (bytes == 0) return STRETTO_OK;
    ON_CARD(c, cu.from_card(to, from->at + at, bytes, c->stream), "cannot be read", err);
}

static stretto_status cuda_copy(struct card *c, const struct gpu_memory *from, uint64_t from_at, struct gpu_memory *to,
                                uint64_t to_at, size_t bytes, struct error *err)
{
    assert(from_at <= from->bytes && bytes <= from->bytes - from_at);
    assert(to_at <= to->bytes && bytes <= to->bytes - to_at);
    if (bytes == 0) return STRETTO_OK;
    ON_CARD(c, cu.on_card(to->at + to_at, from->at + from_at, bytes, c->stream), "cannot copy", err);
}

static stretto_status cuda_zero(struct card *c, struct gpu_memory *m, uint64_t at, uint64_t bytes, struct error *err)
{
    assert(at <= m->bytes && bytes <= m->bytes - at);
    if (bytes == 0) return STRETTO_OK;
    ON_CARD(c, cu.fill(m->at + at, 0, bytes, c->stream), "cannot be written to", err);
}

/* ---- running ------------------------------------------------------------------------------------- */

static stretto_status cuda_launch(struct card *c, struct gpu_kernel *k, const uint32_t groups[3], uint32_t lanes,
                                  const struct gpu_arg *args, size_t n_args, struct error *err)
{
    void *params[MOST_ARGS];
    uint64_t values[MOST_ARGS];      /* a word's other half is zero, so that no memory is a null pointer */
    if (n_args > MOST_ARGS) return fail(err, STRETTO_E_ARG, "the kernel %s has too many arguments", k->name);
    if (groups[0] == 0 || groups[1] == 0 || groups[2] == 0) return STRETTO_OK;
    for (size_t i = 0; i < n_args; i++) {
        values[i] = args[i].memory ? args[i].memory->at : (uint32_t)args[i].word;
        params[i] = &values[i];
    }
    ON_CARD(c, cu.launch(k->function, groups[0], groups[1], groups[2], lanes, 1, 1, 0, c->stream, params, NULL),
            k->name, err);
}

static stretto_status cuda_finish(struct card *c, struct error *err)
{
    ON_CARD(c, cu.stream_finish(c->stream), "failed while it ran", err);
}

/* Other calls of this thread (memory, code) are allowed meanwhile: they do not become part of the tape. */
static stretto_status cuda_record_begin(struct card *c, struct error *err)
{
    ON_CARD(c, cu.capture_begin(c->stream, ABI_CU_STREAM_CAPTURE_MODE_RELAXED), "cannot record launches", err);
}

static stretto_status cuda_record_end(struct card *c, struct gpu_tape **out, struct error *err)
{
    *out = NULL;
    struct CUgraph_st *graph = NULL;
    struct gpu_tape *t = mem_zalloc(1, sizeof *t);
    stretto_status s = enter(c, "cannot record launches", err);
    if (s != STRETTO_OK) {
        mem_free(t);
        return s;
    }
    cuda_status e = cu.capture_end(c->stream, &graph);
    if (e == ABI_CUDA_SUCCESS && t) e = cu.graph_make(&t->graph, graph, 0);
    if (graph) (void)cu.graph_destroy(graph);
    leave();
    s = check(c, e, "cannot record launches", err);
    if (s == STRETTO_OK && !t) s = fail(err, STRETTO_E_NOMEM, "out of memory");
    if (s != STRETTO_OK) {
        mem_free(t);
        return s;
    }
    t->card = c;
    *out = t;
    return STRETTO_OK;
}

static stretto_status cuda_replay(struct card *c, struct gpu_tape *t, struct error *err)
{
    ON_CARD(c, cu.graph_launch(t->graph, c->stream), "cannot repeat launches", err);
}

static void cuda_tape_close(struct gpu_tape *t)
{
    if (!t) return;
    (void)cu.graph_exec_destroy(t->graph);         /* needs no context */
    mem_free(t);
}

/* ---- meters -------------------------------------------------------------------------------------- */

static stretto_status cuda_mark(struct card *c, uint32_t i, struct error *err)
{
    if (i >= GPU_MARKS) return fail(err, STRETTO_E_ARG, "there is no mark %u", i);
    if (!c->marks) c->marks = mem_zalloc(GPU_MARKS, sizeof(*c->marks));
    if (!c->marks) return fail(err, STRETTO_E_NOMEM, "out of memory");
    TRY(enter(c, "cannot take the time", err));
    cuda_status e = ABI_CUDA_SUCCESS;
    if (!c->marks[i]) e = cu.event_create(&c->marks[i], ABI_CU_EVENT_DEFAULT);
    if (e == ABI_CUDA_SUCCESS) e = cu.event_record(c->marks[i], c->stream);
    leave();
    return check(c, e, "cannot take the time", err);
}

static double cuda_between(struct card *c, uint32_t a, uint32_t b)
{
    float ms = 0;
    if (a >= GPU_MARKS || b >= GPU_MARKS || !c->marks || !c->marks[a] || !c->marks[b]) return 0;
    if (cu.context_push(c->context) != ABI_CUDA_SUCCESS) return 0;
    if (cu.event_between(&ms, c->marks[a], c->marks[b]) != ABI_CUDA_SUCCESS) ms = 0;
    leave();
    return ms > 0 ? (double)ms * 1e-3 : 0;
}

/* NVML numbers cards by another order: the bus says which one it is. */
static double cuda_joules(struct card *c)
{
    char bus[64] = "";
    unsigned long long mj = 0;
    if (!c->meter && !c->no_meter)
        c->no_meter = !meters_open()
            || cu.device_bus(bus, (int)sizeof bus, c->device) != ABI_CUDA_SUCCESS
            || lib.meters.device(bus, &c->meter) != 0;
    if (c->no_meter || lib.meters.energy(c->meter, &mj) != 0) return -1;
    return (double)mj * 1e-3;
}

const struct gpu_driver driver_cuda = {
    .name = "cuda",
    .list = cuda_list, .open = cuda_open, .close = cuda_close, .about = cuda_about,
    .free_memory = cuda_free_memory,
    .build = cuda_build, .code_close = cuda_code_close, .kernel = cuda_kernel,
    .alloc = cuda_alloc, .free = cuda_free, .host_alloc = cuda_host_alloc, .host_free = cuda_host_free,
    .write = cuda_write, .read = cuda_read, .copy = cuda_copy, .zero = cuda_zero,
    .launch = cuda_launch, .finish = cuda_finish,
    .record_begin = cuda_record_begin, .record_end = cuda_record_end, .replay = cuda_replay,
    .tape_close = cuda_tape_close,
    .mark = cuda_mark, .between = cuda_between, .joules = cuda_joules,
};
