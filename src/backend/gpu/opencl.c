/* Cards behind OpenCL 1.2: one context and one in-order queue each. OpenCL takes memory when it is first
 * touched; here a piece is filled when it is made, so shortness shows when something opens and not while it
 * runs. Events are made for marks alone: a queue that keeps times costs some drivers a signal per launch, so
 * the queue becomes one when the first mark is set. */
#include "backend/gpu/opencl_int.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>

struct pinned { struct pinned *next; ocl_mem mem; void *at; };

struct card {
    const struct ocl *cl;
    struct ocl_found found;
    ocl_context context;
    ocl_command_queue queue;
    struct pinned *pinned;
    ocl_event *marks;               /* [GPU_MARKS], NULL before the first mark */
    unsigned since_flush;
};
struct gpu_memory { struct card *card; ocl_mem mem; uint64_t bytes; };
struct gpu_kernel { struct gpu_kernel *next; struct card *card; ocl_kernel kernel; uint32_t n_args; char name[64]; };
struct gpu_code { struct card *card; ocl_program program; struct gpu_kernel *kernels; };

/* ---- cards ---------------------------------------------------------------------------------- */

static stretto_status list(struct gpu_about *out, size_t cap, size_t *n, struct error *err)
{
    const struct ocl *cl;
    *n = 0;
    TRY(ocl_library(&cl, err));
    struct ocl_found *found = mem_zalloc(GPU_CARDS, sizeof *found);
    if (!found) return fail(err, STRETTO_E_NOMEM, "out of memory");
    stretto_status s = ocl_find(cl, found, n, err);
    if (s != STRETTO_OK) *n = 0;
    if (*n > cap) *n = cap;
    for (size_t i = 0; i < *n; i++) out[i] = found[i].about;
    mem_free(found);
    return s;
}

static void card_close(struct card *c)
{
    if (!c) return;
    for (uint32_t i = 0; c->marks && i < GPU_MARKS; i++)
        if (c->marks[i]) c->cl->ReleaseEvent(c->marks[i]);
    if (c->queue) c->cl->ReleaseCommandQueue(c->queue);
    if (c->context) c->cl->ReleaseContext(c->context);
    mem_free(c->marks);
    mem_free(c);
}

static stretto_status pick(struct card *c, size_t number, struct error *err)
{
    struct ocl_found *found = mem_zalloc(GPU_CARDS, sizeof *found);
    if (!found) return fail(err, STRETTO_E_NOMEM, "out of memory");
    size_t n = 0;
    stretto_status s = ocl_find(c->cl, found, &n, err);
    if (s == STRETTO_OK && number >= n)
        s = n ? fail(err, STRETTO_E_ARG, "there is no device opencl:%zu: the last is opencl:%zu", number, n - 1)
              : fail(err, STRETTO_E_DEVICE, "OpenCL is here and has no device");
    if (s == STRETTO_OK) c->found = found[number];
    if (s == STRETTO_OK && c->found.about.unusable)
        s = fail(err, STRETTO_E_DEVICE, "opencl:%zu (%s) cannot run stretto: %s", number, c->found.about.name,
                 c->found.about.why);
    mem_free(found);
    return s;
}

static stretto_status card_begin(struct card *c, size_t number, struct error *err)
{
    ocl_int code;
    TRY(ocl_library(&c->cl, err));
    TRY(pick(c, number, err));
    const ocl_context_properties properties[] = { OCL_CONTEXT_PLATFORM,
                                                  (ocl_context_properties)c->found.platform, 0 };
    c->context = c->cl->CreateContext(properties, 1, &c->found.device, NULL, NULL, &code);
    if (!c->context) return ocl_failed(err, code, "OpenCL cannot open the card");
    c->queue = c->cl->CreateCommandQueue(c->context, c->found.device, 0, &code);
    return c->queue ? STRETTO_OK : ocl_failed(err, code, "OpenCL makes no queue for the card");
}

static stretto_status card_open(struct card **out, size_t number, struct error *err)
{
    *out = NULL;
    struct card *c = mem_zalloc(1, sizeof *c);
    if (!c) return fail(err, STRETTO_E_NOMEM, "out of memory");
    stretto_status s = card_begin(c, number, err);
    if (s == STRETTO_OK) *out = c;
    else card_close(c);
    return s;
}

static const struct gpu_about *about(const struct card *c) { return &c->found.about; }

/* OpenCL itself has no such question; AMD's answer is in KiB, the whole first, then the largest piece. */
static uint64_t free_memory(struct card *c)
{
    size_t kib[2] = { 0 };
    if (!c->found.free_told || c->cl->GetDeviceInfo(c->found.device, OCL_DEVICE_GLOBAL_FREE_MEMORY_AMD,
                                                    sizeof kib, kib, NULL) != OCL_SUCCESS)
        return 0;
    return (uint64_t)kib[0] << 10;
}

static stretto_status finish(struct card *c, struct error *err)
{
    ocl_int code = c->cl->Finish(c->queue);
    c->since_flush = 0;
    return code == OCL_SUCCESS ? STRETTO_OK : ocl_failed(err, code, "the card did not finish its work");
}

/* What a call that enqueues said. Some drivers begin nothing before they are told to: then the card would
 * idle while this thread enqueues a whole step. */
static stretto_status enqueued(struct card *c, ocl_int code, const char *what, struct error *err)
{
    enum { FLUSH = 16 };
    if (code != OCL_SUCCESS) return ocl_failed(err, code, what);
    if (++c->since_flush < FLUSH) return STRETTO_OK;
    c->since_flush = 0;
    code = c->cl->Flush(c->queue);
    return code == OCL_SUCCESS ? STRETTO_OK : ocl_failed(err, code, what);
}

/* ---- code ----------------------------------------------------------------------------------- */

static void code_close(struct gpu_code *code)
{
    if (!code) return;
    const struct ocl *cl = code->card->cl;
    while (code->kernels) {
        struct gpu_kernel *k = code->kernels;
        code->kernels = k->next;
        if (k->kernel) cl->ReleaseKernel(k->kernel);
        mem_free(k);
    }
    if (code->program) cl->ReleaseProgram(code->program);
    mem_free(code);
}

static char *build_log(struct gpu_code *code)
{
    struct card *c = code->card;
    size_t size = 0;
    if (c->cl->GetProgramBuildInfo(code->program, c->found.device, OCL_PROGRAM_BUILD_LOG, 0, NULL, &size) !=
        OCL_SUCCESS || !size || size > 64 << 20)
        return NULL;
    char *text = mem_zalloc(1, size + 1);
    if (text) c->cl->GetProgramBuildInfo(code->program, c->found.device, OCL_PROGRAM_BUILD_LOG, size, text, NULL);
    return text;
}

static stretto_status compile(struct gpu_code *code, const char *source, const char *options, char **log,
                              struct error *err)
{
    struct card *c = code->card;
    char words[1024];
    ocl_int status;
    /* Nothing of fast mathematics, and the exact division where the card can. */
    int n = snprintf(words, sizeof words, "-cl-std=CL1.2 -w %s%s",
                     c->found.about.exact_divide ? "-cl-fp32-correctly-rounded-divide-sqrt " : "",
                     options ? options : "");
    if (n < 0 || (size_t)n >= sizeof words)
        return fail(err, STRETTO_E_ARG, "the options of a kernel are longer than %zu bytes", sizeof words);
    code->program = c->cl->CreateProgramWithSource(c->context, 1, &source, NULL, &status);
    if (!code->program) return ocl_failed(err, status, "OpenCL takes no kernels");
    status = c->cl->BuildProgram(code->program, 1, &c->found.device, words, NULL, NULL);
    if (status == OCL_SUCCESS) return STRETTO_OK;
    *log = build_log(code);
    return ocl_failed(err, status, "the kernels could not be built");
}

static stretto_status build(struct card *c, const char *source, const char *options, struct gpu_code **out,
                            char **log, struct error *err)
{
    *out = NULL;
    *log = NULL;
    struct gpu_code *code = mem_zalloc(1, sizeof *code);
    if (!code) return fail(err, STRETTO_E_NOMEM, "out of memory");
    code->card = c;
    stretto_status s = compile(code, source, options, log, err);
    if (s == STRETTO_OK) *out = code;
    else code_close(code);
    return s;
}

static stretto_status kernel(struct gpu_code *code, const char *name, struct gpu_kernel **out, struct error *err)
{
    const struct ocl *cl = code->card->cl;
    char what[128];
    *out = NULL;
    struct gpu_kernel *k = mem_zalloc(1, sizeof *k);
    if (!k) return fail(err, STRETTO_E_NOMEM, "out of memory");
    k->card = code->card;
    k->next = code->kernels;
    code->kernels = k;                  /* closed with the code, whatever becomes of it */
    snprintf(k->name, sizeof k->name, "%s", name);
    snprintf(what, sizeof what, "the kernel %s cannot be used", k->name);
    ocl_int status;
    k->kernel = cl->CreateKernel(code->program, name, &status);
    if (!k->kernel) return ocl_failed(err, status, what);
    status = cl->GetKernelInfo(k->kernel, OCL_KERNEL_NUM_ARGS, sizeof k->n_args, &k->n_args, NULL);
    if (status != OCL_SUCCESS) return ocl_failed(err, status, what);
    *out = k;
    return STRETTO_OK;
}

/* ---- memory --------------------------------------------------------------------------------- */

static void memory_free(struct gpu_memory *m)
{
    if (!m) return;
    if (m->mem) m->card->cl->ReleaseMemObject(m->mem);
    mem_free(m);
}

static stretto_status fill(struct gpu_memory *m, uint64_t at, uint64_t bytes, ocl_int *code)
{
    static const uint32_t zeros[4];
    size_t pattern = (at | bytes) % sizeof zeros == 0 ? sizeof zeros : (at | bytes) % 4 == 0 ? 4 : 1;
    *code = m->card->cl->EnqueueFillBuffer(m->card->queue, m->mem, zeros, pattern, (size_t)at, (size_t)bytes, 0,
                                           NULL, NULL);
    return *code == OCL_SUCCESS ? STRETTO_OK : STRETTO_E_DEVICE;
}

/* Filled, so it is really taken: whatever the driver calls the failure, here it means that there is no room. */
static stretto_status memory_make(struct gpu_memory *m, uint64_t bytes, struct error *err)
{
    struct card *c = m->card;
    ocl_int code = OCL_INVALID_BUFFER_SIZE;
    m->bytes = bytes ? (bytes + 15) / 16 * 16 : 16;
    if (bytes < UINT64_MAX - 15 && m->bytes <= SIZE_MAX && m->bytes <= c->found.about.largest)
        m->mem = c->cl->CreateBuffer(c->context, OCL_MEM_READ_WRITE, (size_t)m->bytes, NULL, &code);
    if (m->mem && fill(m, 0, m->bytes, &code) == STRETTO_OK) code = c->cl->Finish(c->queue);
    if (code == OCL_SUCCESS) return STRETTO_OK;
    if (code == OCL_OUT_OF_RESOURCES) code = OCL_MEM_OBJECT_ALLOCATION_FAILURE;
    char what[160];
    snprintf(what, sizeof what, "%s has no piece of memory of %llu bytes (it has %llu, %llu in one piece)",
             "the card", (unsigned long long)bytes, (unsigned long long)c->found.about.memory,
             (unsigned long long)c->found.about.largest);
    return ocl_failed(err, code, what);
}

static stretto_status alloc(struct card *c, uint64_t bytes, struct gpu_memory **out, struct error *err)
{
    *out = NULL;
    struct gpu_memory *m = mem_zalloc(1, sizeof *m);
    if (!m) return fail(err, STRETTO_E_NOMEM, "out of memory");
    m->card = c;
    stretto_status s = memory_make(m, bytes, err);
    if (s == STRETTO_OK) *out = m;
    else memory_free(m);
    return s;
}

/* A buffer that the driver keeps in this machine's memory, mapped for as long as it lives: what drivers copy
 * from without a copy of their own. */
static stretto_status host_alloc(struct card *c, size_t bytes, void **out, struct error *err)
{
    *out = NULL;
    ocl_int code;
    struct pinned *p = mem_zalloc(1, sizeof *p);
    if (!p) return fail(err, STRETTO_E_NOMEM, "out of memory");
    if (!bytes) bytes = 1;
    p->mem = c->cl->CreateBuffer(c->context, OCL_MEM_READ_WRITE | OCL_MEM_ALLOC_HOST_PTR, bytes, NULL, &code);
    if (p->mem)
        p->at = c->cl->EnqueueMapBuffer(c->queue, p->mem, OCL_TRUE, OCL_MAP_READ | OCL_MAP_WRITE, 0, bytes, 0,
                                        NULL, NULL, &code);
    if (!p->at) {
        if (p->mem) c->cl->ReleaseMemObject(p->mem);
        mem_free(p);
        if (code == OCL_OUT_OF_RESOURCES) code = OCL_OUT_OF_HOST_MEMORY;
        return ocl_failed(err, code, "the driver has no memory of this machine for the card to copy from");
    }
    p->next = c->pinned;
    c->pinned = p;
    *out = p->at;
    return STRETTO_OK;
}

static void host_free(struct card *c, void *at)
{
    struct pinned **from = &c->pinned;
    while (*from && (*from)->at != at) from = &(*from)->next;
    struct pinned *p = *from;
    if (!p) return;
    *from = p->next;
    c->cl->EnqueueUnmapMemObject(c->queue, p->mem, p->at, 0, NULL, NULL);
    c->cl->Finish(c->queue);
    c->cl->ReleaseMemObject(p->mem);
    mem_free(p);
}

/* ---- what is enqueued ----------------------------------------------------------------------- */

static stretto_status write_to(struct card *c, struct gpu_memory *to, uint64_t at, const void *from, size_t bytes,
                               struct error *err)
{
    if (!bytes) return STRETTO_OK;
    ocl_int code = c->cl->EnqueueWriteBuffer(c->queue, to->mem, OCL_FALSE, (size_t)at, bytes, from, 0, NULL, NULL);
    return enqueued(c, code, "memory cannot be written to the card", err);
}

static stretto_status read_from(struct card *c, const struct gpu_memory *from, uint64_t at, void *to, size_t bytes,
                                struct error *err)
{
    if (!bytes) return STRETTO_OK;
    ocl_int code = c->cl->EnqueueReadBuffer(c->queue, from->mem, OCL_FALSE, (size_t)at, bytes, to, 0, NULL, NULL);
    return enqueued(c, code, "memory of the card cannot be read", err);
}

static stretto_status copy(struct card *c, const struct gpu_memory *from, uint64_t from_at, struct gpu_memory *to,
                           uint64_t to_at, size_t bytes, struct error *err)
{
    if (!bytes) return STRETTO_OK;
    ocl_int code = c->cl->EnqueueCopyBuffer(c->queue, from->mem, to->mem, (size_t)from_at, (size_t)to_at, bytes, 0,
                                            NULL, NULL);
    return enqueued(c, code, "memory of the card cannot be copied", err);
}

static stretto_status zero(struct card *c, struct gpu_memory *m, uint64_t at, uint64_t bytes, struct error *err)
{
    ocl_int code = OCL_SUCCESS;
    if (!bytes) return STRETTO_OK;
    (void)fill(m, at, bytes, &code);
    return enqueued(c, code, "memory of the card cannot be filled", err);
}

/* NULL memory: whether the kernel wants a pointer or a word there, OpenCL says by refusing the size. */
static ocl_int set_arg(const struct ocl *cl, ocl_kernel k, uint32_t i, const struct gpu_arg *a)
{
    if (a->memory) return cl->SetKernelArg(k, i, sizeof a->memory->mem, &a->memory->mem);
    int32_t word[4] = { a->word };     /* longer than a word: a driver that reads a pointer reads zeros behind it */
    ocl_int code = cl->SetKernelArg(k, i, sizeof word[0], word);
    if (code != OCL_INVALID_ARG_SIZE) return code;
    return cl->SetKernelArg(k, i, sizeof(ocl_mem), NULL);
}

static stretto_status not_launched(const struct gpu_kernel *k, ocl_int code, struct error *err)
{
    char what[128];
    snprintf(what, sizeof what, "the kernel %s cannot be launched", k->name);
    return ocl_failed(err, code, what);
}

static stretto_status launch(struct card *c, struct gpu_kernel *k, const uint32_t groups[3], uint32_t lanes,
                             const struct gpu_arg *args, size_t n_args, struct error *err)
{
    if (n_args != k->n_args)
        return fail(err, STRETTO_E_DEVICE, "the kernel %s cannot be launched: it takes %u arguments, not %zu",
                    k->name, (unsigned)k->n_args, n_args);
    if (!groups[0] || !groups[1] || !groups[2]) return STRETTO_OK;
    for (uint32_t i = 0; i < k->n_args; i++) {
        ocl_int code = set_arg(c->cl, k->kernel, i, &args[i]);
        if (code != OCL_SUCCESS) return not_launched(k, code, err);
    }
    const size_t all[3] = { (size_t)groups[0] * lanes, groups[1], groups[2] }, group[3] = { lanes, 1, 1 };
    ocl_int code = c->cl->EnqueueNDRangeKernel(c->queue, k->kernel, 3, NULL, all, group, 0, NULL, NULL);
    return code == OCL_SUCCESS ? enqueued(c, code, "the card takes no launches", err) : not_launched(k, code, err);
}

/* ---- the queue's clock ---------------------------------------------------------------------- */

static stretto_status marks_begin(struct card *c, struct error *err)
{
    TRY(finish(c, err));
    ocl_int code;
    ocl_command_queue queue = c->cl->CreateCommandQueue(c->context, c->found.device, OCL_QUEUE_PROFILING_ENABLE,
                                                        &code);
    if (!queue) return ocl_failed(err, code, "the card's queue keeps no times");
    c->marks = mem_zalloc(GPU_MARKS, sizeof *c->marks);
    if (!c->marks) {
        c->cl->ReleaseCommandQueue(queue);
        return fail(err, STRETTO_E_NOMEM, "out of memory");
    }
    c->cl->ReleaseCommandQueue(c->queue);
    c->queue = queue;
    return STRETTO_OK;
}

static stretto_status mark(struct card *c, uint32_t i, struct error *err)
{
    if (i >= GPU_MARKS) return fail(err, STRETTO_E_ARG, "there is no mark %u", (unsigned)i);
    if (!c->marks) TRY(marks_begin(c, err));
    if (c->marks[i]) c->cl->ReleaseEvent(c->marks[i]);
    c->marks[i] = NULL;
    ocl_int code = c->cl->EnqueueMarkerWithWaitList(c->queue, 0, NULL, &c->marks[i]);
    return enqueued(c, code, "the card's clock cannot be asked", err);
}

static double between(struct card *c, uint32_t a, uint32_t b)
{
    uint64_t at[2] = { 0 };
    const uint32_t which[2] = { a, b };
    for (int i = 0; i < 2; i++) {
        ocl_event e = c->marks && which[i] < GPU_MARKS ? c->marks[which[i]] : NULL;
        if (!e || c->cl->GetEventProfilingInfo(e, OCL_PROFILING_COMMAND_END, sizeof at[i], &at[i], NULL) !=
            OCL_SUCCESS)
            return 0;
    }
    return at[1] > at[0] ? (double)(at[1] - at[0]) * 1e-9 : 0;
}

const struct gpu_driver driver_opencl = {
    .name = "opencl", .list = list, .open = card_open, .close = card_close, .about = about,
    .free_memory = free_memory, .build = build, .code_close = code_close, .kernel = kernel, .alloc = alloc,
    .free = memory_free, .host_alloc = host_alloc, .host_free = host_free, .write = write_to, .read = read_from,
    .copy = copy, .zero = zero, .launch = launch, .finish = finish, .mark = mark, .between = between,
};
