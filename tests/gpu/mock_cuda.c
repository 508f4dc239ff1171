/* libcuda's part of the mock: see mock.h. */
#include "gpu/mock_int.h"
#include "backend/gpu/opencl_abi.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

struct mock_cuda mock;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- orders ------------------------------------------------------------------------------------- */

static void order(const char *name, size_t n, int64_t value)
{
#define X(field) if (n == sizeof #field - 1 && !strncmp(name, #field, n)) mock.field = value;
    MOCK_CUDA_ORDERS(X)
#undef X
}

static void orders_reset(void)
{
#define X(field) mock.field = 0;
    MOCK_CUDA_ORDERS(X)
#undef X
    mock.version = 13000;
    mock.devices = 1;
    mock.arch = 90;
    mock.memory = INT64_C(1) << 32;
    mock.nvrtc = 130;
    mock.oldest = 75;
    mock.newest = 121;
    mock.lost = 0;
    for (const char *p = getenv("MOCK_CUDA"); p && *p; p += strcspn(p, ","), p += *p == ',') {
        size_t n = strcspn(p, "=,");
        order(p, n, p[n] == '=' ? strtoll(p + n + 1, NULL, 10) : 1);
    }
}

__attribute__((constructor)) static void orders_first(void) { orders_reset(); }

EXPORT struct mock_cuda *mock_cuda(void) { return &mock; }
EXPORT void mock_cuda_reset(void) { orders_reset(); }

/* Counts down; true when it arrives. */
static bool due(int64_t *order) { return *order > 0 && --*order == 0; }

/* What every call does first. */
static cuda_status call(void)
{
    mock.calls++;
    if (!mock.lost && due(&mock.lose)) mock.lost = ABI_CUDA_ERROR_UNKNOWN;
    return (cuda_status)mock.lost;
}

bool mock_take_fails(void)
{
    mock.takes++;
    return due(&mock.fail_take);
}

#define BEGIN pthread_mutex_lock(&lock); cuda_status status = call()
#define END pthread_mutex_unlock(&lock); return status
/* The rest of the call is not made when it fails already. */
#define UNLESS(condition, error) if (!status && (condition)) status = (error)

/* ---- OpenCL below ----------------------------------------------------------------------------------- */

static struct ocl cl;
static ocl_device_id device;
static ocl_context context;
static ocl_command_queue queue;
static bool exact_divide;

static bool opencl_open(void)
{
    if (queue) return true;
    void *library = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL), *p;
    if (!library) return false;
#define X(returns, name, parameters) p = dlsym(library, "cl" #name); memcpy(&cl.name, &p, sizeof p);
    OCL_FUNCTIONS(X)
#undef X
    ocl_platform_id platform;
    ocl_int s;
    if (cl.GetPlatformIDs(1, &platform, NULL) || cl.GetDeviceIDs(platform, OCL_DEVICE_TYPE_ALL, 1, &device, NULL))
        return false;
    context = cl.CreateContext(NULL, 1, &device, NULL, NULL, &s);
    ocl_bitfield floats = 0;
    cl.GetDeviceInfo(device, OCL_DEVICE_SINGLE_FP_CONFIG, sizeof floats, &floats, NULL);
    exact_divide = floats & OCL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT;
    if (context) queue = cl.CreateCommandQueue(context, device, OCL_QUEUE_PROFILING_ENABLE, &s);
    return queue != NULL;
}

/* ---- objects -------------------------------------------------------------------------------------- */

enum { MOST_ARGS = 32 };
struct CUctx_st { int device; };
struct piece { struct piece *next; cuda_address at; size_t bytes; ocl_mem mem; };
struct host_piece { struct host_piece *next; void *at; };
struct CUmod_st {
    struct CUmod_st *next;
    struct CUfunc_st *functions;
    ocl_program program;
    char *opaque;                      /* or machine code that is not ours */
    size_t opaque_bytes;
};
struct CUfunc_st { struct CUfunc_st *next; ocl_kernel kernel; ocl_uint n_args; bool pointer[MOST_ARGS]; };
struct CUevent_st { struct CUevent_st *next; ocl_event event; };

/* A thing enqueued, or recorded. */
enum kind { RUN, TO_CARD, FROM_CARD, ON_CARD, FILL, PASS, REPLAY };
struct node {
    struct node *next;
    enum kind kind;
    struct CUfunc_st *function;
    size_t groups[3], lanes;
    uint64_t args[MOST_ARGS];          /* an address, or a word */
    cuda_address to, from;
    const void *in;
    void *out;
    size_t bytes;
    unsigned char value;
    struct CUevent_st *event;
    struct CUgraphExec_st *exec;
};
struct list { struct node *first, **last; };
struct CUgraph_st { struct list nodes; };
struct CUgraphExec_st { struct node *first; };
struct CUstream_st { struct CUstream_st *next; struct list pending; struct CUgraph_st *recording; bool spoilt; };

static struct CUctx_st contexts[16];
static int retained[16];
static _Thread_local struct CUctx_st *stack[16];
static _Thread_local int depth;
static struct piece *pieces;
static struct host_piece *host_pieces;
static struct CUstream_st *streams;
static struct CUmod_st *modules;
static struct CUevent_st *events;
static cuda_address next_address = 0x700000000000;

static bool no_context(void) { return depth == 0; }

/* Defines take_NAME: the thing of a list for which `is` holds, taken out of it; NULL, and one more misuse, where it is
 * not there: it was given back before. */
#define TAKEN(name, type, list, what, is)                           \
    static type *take_##name(what)                                  \
    {                                                               \
        type **p = &list;                                           \
        while (*p && !(is)) p = &(*p)->next;                        \
        type *x = *p;                                               \
        if (x) *p = x->next;                                        \
        else mock.misuse++;                                         \
        return x;                                                   \
    }
TAKEN(piece, struct piece, pieces, cuda_address at, (*p)->at == at)
TAKEN(host_piece, struct host_piece, host_pieces, const void *at, (*p)->at == at)
TAKEN(stream, struct CUstream_st, streams, const struct CUstream_st *s, *p == s)
TAKEN(module, struct CUmod_st, modules, const struct CUmod_st *m, *p == m)
TAKEN(event, struct CUevent_st, events, const struct CUevent_st *e, *p == e)

static void list_clear(struct node *n)
{
    for (struct node *next; n; n = next) {
        next = n->next;
        free(n);
    }
}

static void append(struct list *l, struct node *n)
{
    if (!l->first) l->last = &l->first;
    *l->last = n;
    l->last = &n->next;
}

/* The piece in which bytes from `at` on stand; NULL where they do not stand in one. */
static struct piece *piece_of(cuda_address at, size_t bytes)
{
    for (struct piece *p = pieces; p; p = p->next)
        if (at >= p->at && at - p->at <= p->bytes && bytes <= p->bytes - (at - p->at)) return p;
    return NULL;
}

/* ---- running ---------------------------------------------------------------------------------------- */

static cuda_status run_kernel(const struct node *n)
{
    const struct CUfunc_st *f = n->function;
    if (!f->kernel) return ABI_CUDA_ERROR_INVALID_IMAGE;      /* real machine code */
    for (ocl_uint i = 0; i < f->n_args; i++) {
        ocl_mem mem = NULL;
        uint32_t word = (uint32_t)n->args[i];
        if (f->pointer[i] && n->args[i]) {
            struct piece *p = piece_of(n->args[i], 1);
            if (!p || p->at != n->args[i]) return ABI_CUDA_ERROR_ILLEGAL_ADDRESS;
            mem = p->mem;
        }
        if (cl.SetKernelArg(f->kernel, i, f->pointer[i] ? sizeof mem : sizeof word,
                            f->pointer[i] ? (const void *)&mem : &word))
            return ABI_CUDA_ERROR_INVALID_VALUE;
    }
    size_t local[3] = { n->lanes, 1, 1 }, global[3] = { n->groups[0] * n->lanes, n->groups[1], n->groups[2] };
    mock.runs++;
    if (due(&mock.fail_run)) return ABI_CUDA_ERROR_LAUNCH_FAILED;
    return cl.EnqueueNDRangeKernel(queue, f->kernel, 3, NULL, global, local, 0, NULL, NULL)
        ? ABI_CUDA_ERROR_LAUNCH_FAILED : ABI_CUDA_SUCCESS;
}

static cuda_status run_nodes(const struct node *n);

static cuda_status run_node(const struct node *n)
{
    bool writes = n->kind == TO_CARD || n->kind == ON_CARD || n->kind == FILL;
    bool reads = n->kind == FROM_CARD || n->kind == ON_CARD;
    struct piece *to = writes ? piece_of(n->to, n->bytes) : NULL, *from = reads ? piece_of(n->from, n->bytes) : NULL;
    if ((writes && !to) || (reads && !from)) return ABI_CUDA_ERROR_ILLEGAL_ADDRESS;
    size_t to_at = to ? (size_t)(n->to - to->at) : 0, from_at = from ? (size_t)(n->from - from->at) : 0;
    ocl_int s = 0;
    switch (n->kind) {
    case RUN: return run_kernel(n);
    case REPLAY: return run_nodes(n->exec->first);
    case TO_CARD: s = cl.EnqueueWriteBuffer(queue, to->mem, 1, to_at, n->bytes, n->in, 0, NULL, NULL); break;
    case FROM_CARD: s = cl.EnqueueReadBuffer(queue, from->mem, 1, from_at, n->bytes, n->out, 0, NULL, NULL); break;
    case ON_CARD:
        s = cl.EnqueueCopyBuffer(queue, from->mem, to->mem, from_at, to_at, n->bytes, 0, NULL, NULL);
        break;
    case FILL: s = cl.EnqueueFillBuffer(queue, to->mem, &n->value, 1, to_at, n->bytes, 0, NULL, NULL); break;
    case PASS:
        if (n->event->event) cl.ReleaseEvent(n->event->event);
        n->event->event = NULL;
        s = cl.EnqueueMarkerWithWaitList(queue, 0, NULL, &n->event->event);
        break;
    }
    return s ? ABI_CUDA_ERROR_ILLEGAL_ADDRESS : ABI_CUDA_SUCCESS;
}

static cuda_status run_nodes(const struct node *n)
{
    for (; n; n = n->next) {
        cuda_status s = run_node(n);
        if (s) return s;
    }
    return ABI_CUDA_SUCCESS;
}

/* All that was enqueued runs now; what fails here is lost for good, as on a card. */
static cuda_status flush(struct CUstream_st *stream)
{
    if (stream->pending.first) {
        cuda_status s = mock.lost ? ABI_CUDA_SUCCESS : run_nodes(stream->pending.first);
        if (cl.Finish(queue) && !s) s = ABI_CUDA_ERROR_LAUNCH_FAILED;
        if (s) mock.lost = (int)s;
        list_clear(stream->pending.first);
        stream->pending = (struct list){ NULL, NULL };
    }
    return (cuda_status)mock.lost;
}

static void flush_all(void)
{
    for (struct CUstream_st *s = streams; s; s = s->next) flush(s);
}

static void piece_free(struct piece *p)
{
    if (!p) return;
    mock.alive.pieces--;
    mock.bytes -= (int64_t)p->bytes;
    cl.ReleaseMemObject(p->mem);
    free(p);
}

static void host_piece_free(struct host_piece *h)
{
    if (!h) return;
    mock.alive.host_pieces--;
    free(h->at);
    free(h);
}

static void graph_free(struct CUgraph_st *g)
{
    mock.alive.graphs--;
    list_clear(g->nodes.first);
    free(g);
}

static void stream_free(struct CUstream_st *s)
{
    if (!s) return;
    mock.alive.streams--;
    list_clear(s->pending.first);
    if (s->recording) graph_free(s->recording);
    free(s);
}

static void module_free(struct CUmod_st *m)
{
    if (!m) return;
    mock.alive.modules--;
    for (struct CUfunc_st *f = m->functions, *next; f; f = next) {
        next = f->next;
        if (f->kernel) cl.ReleaseKernel(f->kernel);
        free(f);
    }
    free(m->opaque);
    free(m);
}

static void event_free(struct CUevent_st *e)
{
    if (!e) return;
    mock.alive.events--;
    if (e->event) cl.ReleaseEvent(e->event);
    free(e);
}

/* What a context holds goes with it. Whoever lost the card may leave it to that; else it was forgotten. */
static void reclaim(void)
{
    if (!mock.lost && (pieces || host_pieces || streams || modules || events)) mock.misuse++;
    while (pieces) piece_free(take_piece(pieces->at));
    while (host_pieces) host_piece_free(take_host_piece(host_pieces->at));
    while (streams) stream_free(take_stream(streams));
    while (modules) module_free(take_module(modules));
    while (events) event_free(take_event(events));
}

static cuda_status enqueue(struct CUstream_st *stream, const struct node *what)
{
    bool host = what->kind == TO_CARD || what->kind == FROM_CARD || what->kind == PASS;
    if (no_context()) return ABI_CUDA_ERROR_INVALID_CONTEXT;
    if (!stream) return ABI_CUDA_ERROR_INVALID_HANDLE;
    mock.launches++;
    if (due(&mock.fail_launch)) return ABI_CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    if (stream->recording && host) {         /* a real driver records these too; stretto never wants it */
        stream->spoilt = true;
        return ABI_CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    struct node *n = malloc(sizeof *n);
    if (!n) abort();
    *n = *what;
    n->next = NULL;
    append(stream->recording ? &stream->recording->nodes : &stream->pending, n);
    return ABI_CUDA_SUCCESS;
}

/* ---- driver and devices -------------------------------------------------------------------------- */

#define MOCKS(name, ...) EXPORT cuda_status name(__VA_ARGS__); EXPORT cuda_status name(__VA_ARGS__)

MOCKS(cuInit, unsigned flags)
{
    (void)flags;
    BEGIN;
    UNLESS(mock.init, (cuda_status)mock.init);
    UNLESS(mock.devices == 0, ABI_CUDA_ERROR_NO_DEVICE);
    END;
}

MOCKS(cuDriverGetVersion, int *version)
{
    *version = (int)mock.version;
    return ABI_CUDA_SUCCESS;
}

static const struct { cuda_status code; const char *name; } names[] = {
#define X(name, value) { value, #name },
    CUDA_CONSTANTS(X)
#undef X
};

MOCKS(cuGetErrorName, cuda_status code, const char **name)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].code == code && (!code || strstr(names[i].name, "CUDA_ERROR"))) {
            *name = names[i].name;
            return ABI_CUDA_SUCCESS;
        }
    return ABI_CUDA_ERROR_INVALID_VALUE;
}

MOCKS(cuGetErrorString, cuda_status code, const char **text)
{
    *text = code == ABI_CUDA_ERROR_OUT_OF_MEMORY ? "out of memory" : "a fault of the mock";
    return ABI_CUDA_SUCCESS;
}

MOCKS(cuDeviceGetCount, int *n)
{
    BEGIN;
    *n = status ? 0 : (int)mock.devices;
    END;
}

MOCKS(cuDeviceGet, int *out, int number)
{
    BEGIN;
    UNLESS(number < 0 || number >= mock.devices, ABI_CUDA_ERROR_INVALID_DEVICE);
    *out = number;
    END;
}

MOCKS(cuDeviceGetName, char *name, int size, int dev)
{
    BEGIN;
    snprintf(name, (size_t)size, "Mock \033[31mCard %d", dev);
    END;
}

MOCKS(cuDeviceTotalMem_v2, size_t *bytes, int dev)
{
    (void)dev;
    BEGIN;
    *bytes = (size_t)mock.memory;
    END;
}

MOCKS(cuDeviceGetAttribute, int *out, unsigned which, int dev)
{
    (void)dev;
    BEGIN;
    switch (which) {
    case ABI_CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *out = 1024; break;
    case ABI_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *out = 49152; break;
    case ABI_CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *out = 2; break;
    case ABI_CU_DEVICE_ATTRIBUTE_COMPUTE_MODE: *out = mock.prohibited ? ABI_CU_COMPUTEMODE_PROHIBITED : 0; break;
    case ABI_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *out = (int)(mock.arch / 10); break;
    case ABI_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *out = (int)(mock.arch % 10); break;
    default: UNLESS(true, ABI_CUDA_ERROR_INVALID_VALUE);
    }
    END;
}

MOCKS(cuDeviceGetPCIBusId, char *bus, int size, int dev)
{
    BEGIN;
    snprintf(bus, (size_t)size, "0000:%02x:00.0", dev);
    END;
}

/* ---- contexts --------------------------------------------------------------------------------------- */

MOCKS(cuDevicePrimaryCtxRetain, struct CUctx_st **out, int dev)
{
    BEGIN;
    UNLESS(dev < 0 || dev >= mock.devices || dev >= 16, ABI_CUDA_ERROR_INVALID_DEVICE);
    UNLESS(mock_take_fails(), ABI_CUDA_ERROR_OUT_OF_MEMORY);
    UNLESS(!opencl_open(), ABI_CUDA_ERROR_NOT_INITIALIZED);
    if (!status) {
        contexts[dev].device = dev;
        retained[dev]++;
        mock.alive.contexts++;
        *out = &contexts[dev];
    }
    END;
}

MOCKS(cuDevicePrimaryCtxRelease_v2, int dev)
{
    BEGIN;
    if (retained[dev] > 0) {
        retained[dev]--;
        if (--mock.alive.contexts == 0) reclaim();
    } else
        mock.misuse++;
    END;
}

MOCKS(cuCtxPushCurrent_v2, struct CUctx_st *c)
{
    BEGIN;
    UNLESS(!c || depth == 16 || !retained[c->device], ABI_CUDA_ERROR_INVALID_CONTEXT);
    if (!status) {
        stack[depth++] = c;
        mock.alive.pushed++;
    }
    END;
}

MOCKS(cuCtxPopCurrent_v2, struct CUctx_st **c)
{
    BEGIN;
    if (depth) {
        *c = stack[--depth];
        mock.alive.pushed--;
    } else
        mock.misuse++;
    END;
}

/* ---- memory ----------------------------------------------------------------------------------------- */

MOCKS(cuMemGetInfo_v2, size_t *left, size_t *all)
{
    BEGIN;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    *all = (size_t)mock.memory;
    *left = mock.bytes < mock.memory ? (size_t)(mock.memory - mock.bytes) : 0;
    END;
}

static cuda_status piece_make(cuda_address *at, size_t bytes)
{
    ocl_int s = 0;
    struct piece *p = calloc(1, sizeof *p);
    if (p) p->mem = cl.CreateBuffer(context, OCL_MEM_READ_WRITE, bytes, NULL, &s);
    if (!p || !p->mem) {
        free(p);
        return ABI_CUDA_ERROR_OUT_OF_MEMORY;
    }
    /* What was never written must not look like zeros. */
    cl.EnqueueFillBuffer(queue, p->mem, &(unsigned char){ 0xa5 }, 1, 0, bytes, 0, NULL, NULL);
    *at = p->at = next_address;
    next_address += (bytes + 0x10000) & ~(cuda_address)511;
    p->bytes = bytes;
    p->next = pieces;
    pieces = p;
    mock.alive.pieces++;
    mock.bytes += (int64_t)bytes;
    return ABI_CUDA_SUCCESS;
}

MOCKS(cuMemAlloc_v2, cuda_address *at, size_t bytes)
{
    BEGIN;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    UNLESS(bytes == 0, ABI_CUDA_ERROR_INVALID_VALUE);
    UNLESS(mock_take_fails() || bytes > (uint64_t)(mock.memory - mock.bytes), ABI_CUDA_ERROR_OUT_OF_MEMORY);
    if (!status) status = piece_make(at, bytes);
    END;
}

MOCKS(cuMemFree_v2, cuda_address at)
{
    BEGIN;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    flush_all();
    piece_free(take_piece(at));
    END;
}

MOCKS(cuMemHostAlloc, void **out, size_t bytes, unsigned flags)
{
    (void)flags;
    BEGIN;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    UNLESS(mock_take_fails(), ABI_CUDA_ERROR_OUT_OF_MEMORY);
    struct host_piece *h = status ? NULL : calloc(1, sizeof *h);
    if (h) {
        h->at = *out = malloc(bytes);
        memset(h->at, 0xa5, bytes);
        h->next = host_pieces;
        host_pieces = h;
        mock.alive.host_pieces++;
    }
    END;
}

MOCKS(cuMemFreeHost, void *at)
{
    BEGIN;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    flush_all();
    host_piece_free(take_host_piece(at));
    END;
}

MOCKS(cuMemcpyHtoDAsync_v2, cuda_address to, const void *from, size_t bytes, struct CUstream_st *s)
{
    BEGIN;
    UNLESS(!piece_of(to, bytes), ABI_CUDA_ERROR_INVALID_VALUE);
    if (!status) status = enqueue(s, &(struct node){ .kind = TO_CARD, .to = to, .in = from, .bytes = bytes });
    END;
}

MOCKS(cuMemcpyDtoHAsync_v2, void *to, cuda_address from, size_t bytes, struct CUstream_st *s)
{
    BEGIN;
    UNLESS(!piece_of(from, bytes), ABI_CUDA_ERROR_INVALID_VALUE);
    if (!status) status = enqueue(s, &(struct node){ .kind = FROM_CARD, .from = from, .out = to, .bytes = bytes });
    END;
}

MOCKS(cuMemcpyDtoDAsync_v2, cuda_address to, cuda_address from, size_t bytes, struct CUstream_st *s)
{
    BEGIN;
    UNLESS(!piece_of(to, bytes) || !piece_of(from, bytes), ABI_CUDA_ERROR_INVALID_VALUE);
    if (!status) status = enqueue(s, &(struct node){ .kind = ON_CARD, .to = to, .from = from, .bytes = bytes });
    END;
}

MOCKS(cuMemsetD8Async, cuda_address to, unsigned char value, size_t bytes, struct CUstream_st *s)
{
    BEGIN;
    UNLESS(!piece_of(to, bytes), ABI_CUDA_ERROR_INVALID_VALUE);
    if (!status) status = enqueue(s, &(struct node){ .kind = FILL, .to = to, .value = value, .bytes = bytes });
    END;
}

/* ---- code ------------------------------------------------------------------------------------------- */

/* Machine code of the real compiler can be loaded and asked for its kernels, not run. Its size is not told: that of
 * an ELF file is where its section headers end, that of PTX where the text does. */
static size_t image_bytes(const char *image)
{
    if (memcmp(image, "\177ELF", 4)) return strlen(image);
    uint64_t sections;
    uint16_t size, count;
    memcpy(&sections, image + 0x28, 8);
    memcpy(&size, image + 0x3a, 2);
    memcpy(&count, image + 0x3c, 2);
    return (size_t)sections + (size_t)size * count;
}

/* What OpenCL made of a text stays: tests build the same ones again and again. */
static struct built { struct built *next; char *source, *options; ocl_program program; } *built;

/* The same options as those of driver_opencl, so that its cached kernels serve here too. */
static ocl_program program_make(const char *source, const char *options, char **log)
{
    ocl_int s;
    char words[2048];
    for (struct built *b = built; b; b = b->next)
        if (!strcmp(b->source, source) && !strcmp(b->options, options)) return b->program;
    snprintf(words, sizeof words, "-cl-std=CL1.2 -w %s%s",
             exact_divide ? "-cl-fp32-correctly-rounded-divide-sqrt " : "", options);
    ocl_program p = cl.CreateProgramWithSource(context, 1, &source, NULL, &s);
    if (p && !cl.BuildProgram(p, 1, &device, words, NULL, NULL)) {
        struct built *b = malloc(sizeof *b);
        *b = (struct built){ built, strdup(source), strdup(options), p };
        built = b;
        return p;
    }
    size_t n = 0;
    cl.GetProgramBuildInfo(p, device, OCL_PROGRAM_BUILD_LOG, 0, NULL, &n);
    *log = calloc(n + 1, 1);
    if (*log) cl.GetProgramBuildInfo(p, device, OCL_PROGRAM_BUILD_LOG, n, *log, NULL);
    cl.ReleaseProgram(p);
    return NULL;
}

bool mock_compiles(const char *source, const char *options, char **log)
{
    *log = NULL;
    return opencl_open() && program_make(source, options, log);
}

static cuda_status build(struct CUmod_st *m, const char *image)
{
    const char *options = image + sizeof MOCK_IMAGE - 1, *source = strchr(options, '\n');
    char *log = NULL, *words = source ? strndup(options, (size_t)(source - options)) : NULL;
    m->program = words ? program_make(source + 1, words, &log) : NULL;
    free(words);
    free(log);
    return m->program ? ABI_CUDA_SUCCESS : ABI_CUDA_ERROR_INVALID_IMAGE;
}

static cuda_status module_make(struct CUmod_st **out, const char *image)
{
    cuda_status s = ABI_CUDA_SUCCESS;
    struct CUmod_st *m = calloc(1, sizeof *m);
    if (!m) return ABI_CUDA_ERROR_OUT_OF_MEMORY;
    if (!strncmp(image, MOCK_IMAGE, sizeof MOCK_IMAGE - 1)) s = build(m, image);
    else {
        m->opaque_bytes = image_bytes(image);
        m->opaque = malloc(m->opaque_bytes);
        if (m->opaque) memcpy(m->opaque, image, m->opaque_bytes);
    }
    if (s) {
        free(m);
        return s;
    }
    *out = m;
    m->next = modules;
    modules = m;
    mock.alive.modules++;
    return ABI_CUDA_SUCCESS;
}

MOCKS(cuModuleLoadDataEx, struct CUmod_st **out, const void *image, unsigned n, unsigned *keys, void **values)
{
    BEGIN;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    UNLESS(mock_take_fails(), ABI_CUDA_ERROR_OUT_OF_MEMORY);
    UNLESS(mock.bad_image, (cuda_status)mock.bad_image);
    if (!status) status = module_make(out, image);
    for (unsigned i = 0; status && i < n; i++)
        if (keys[i] == ABI_CU_JIT_ERROR_LOG_BUFFER) strcpy(values[i], "the mock does not like this image");
    END;
}

MOCKS(cuModuleUnload, struct CUmod_st *m)
{
    BEGIN;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    flush_all();
    module_free(take_module(m));
    END;
}

static cuda_status function_make(struct CUfunc_st **out, struct CUmod_st *m, const char *name)
{
    ocl_int s = 0;
    struct CUfunc_st *f = calloc(1, sizeof *f);
    if (!f) return ABI_CUDA_ERROR_OUT_OF_MEMORY;
    if (m->program) f->kernel = cl.CreateKernel(m->program, name, &s);
    if (m->program ? !f->kernel : !memmem(m->opaque, m->opaque_bytes, name, strlen(name))) {
        free(f);
        return ABI_CUDA_ERROR_NOT_FOUND;
    }
    if (f->kernel) cl.GetKernelInfo(f->kernel, OCL_KERNEL_NUM_ARGS, sizeof f->n_args, &f->n_args, NULL);
    /* Which are pointers: those that are no words. Asking openly needs an option that makes another program of it. */
    for (ocl_uint i = 0; i < f->n_args && i < MOST_ARGS; i++)
        f->pointer[i] = cl.SetKernelArg(f->kernel, i, 4, (uint32_t[4]){ 0 }) == OCL_INVALID_ARG_SIZE;
    f->next = m->functions;
    m->functions = *out = f;
    return ABI_CUDA_SUCCESS;
}

MOCKS(cuModuleGetFunction, struct CUfunc_st **out, struct CUmod_st *m, const char *name)
{
    BEGIN;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    if (!status) status = function_make(out, m, name);
    END;
}

MOCKS(cuLaunchKernel, struct CUfunc_st *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
      unsigned bz, unsigned local, struct CUstream_st *s, void **params, void **extra)
{
    BEGIN;
    bool fits = gx && gy && gz && bx && by == 1 && bz == 1 && bx <= 1024 && gx <= INT32_MAX && gy <= 65535
        && gz <= 65535 && !local && !extra && f->n_args <= MOST_ARGS;
    if (!fits) mock.misuse++;
    UNLESS(!fits, ABI_CUDA_ERROR_INVALID_VALUE);
    struct node n = { .kind = RUN, .function = f, .groups = { gx, gy, gz }, .lanes = bx };
    for (ocl_uint i = 0; !status && i < f->n_args; i++) memcpy(&n.args[i], params[i], f->pointer[i] ? 8 : 4);
    if (!status) status = enqueue(s, &n);
    END;
}

/* ---- streams, graphs, events --------------------------------------------------------------------------- */

MOCKS(cuStreamCreate, struct CUstream_st **out, unsigned flags)
{
    (void)flags;
    BEGIN;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    UNLESS(mock_take_fails(), ABI_CUDA_ERROR_OUT_OF_MEMORY);
    if (!status) {
        *out = calloc(1, sizeof **out);
        (*out)->next = streams;
        streams = *out;
        mock.alive.streams++;
    }
    END;
}

MOCKS(cuStreamDestroy_v2, struct CUstream_st *s)
{
    BEGIN;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    flush_all();
    stream_free(take_stream(s));
    END;
}

MOCKS(cuStreamSynchronize, struct CUstream_st *s)
{
    BEGIN;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    if (!status && s->recording) {
        s->spoilt = true;
        status = ABI_CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    if (!status) status = flush(s);
    END;
}

MOCKS(cuStreamBeginCapture_v2, struct CUstream_st *s, unsigned mode)
{
    (void)mode;
    BEGIN;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    UNLESS(s->recording, ABI_CUDA_ERROR_INVALID_VALUE);
    UNLESS(mock_take_fails(), ABI_CUDA_ERROR_OUT_OF_MEMORY);
    if (!status) {
        s->recording = calloc(1, sizeof *s->recording);
        s->spoilt = false;
        mock.alive.graphs++;
    }
    END;
}

MOCKS(cuStreamEndCapture, struct CUstream_st *s, struct CUgraph_st **out)
{
    BEGIN;
    *out = NULL;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    UNLESS(!s->recording, ABI_CUDA_ERROR_INVALID_VALUE);
    UNLESS(s->spoilt, ABI_CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    if (!status) *out = s->recording;
    else if (s->recording) graph_free(s->recording);
    s->recording = NULL;
    END;
}

MOCKS(cuGraphInstantiateWithFlags, struct CUgraphExec_st **out, struct CUgraph_st *g, unsigned long long flags)
{
    (void)flags;
    BEGIN;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    UNLESS(mock_take_fails(), ABI_CUDA_ERROR_OUT_OF_MEMORY);
    if (!status) {
        *out = calloc(1, sizeof **out);
        struct list copy = { NULL, NULL };
        for (struct node *n = g->nodes.first; n; n = n->next) {
            struct node *twin = malloc(sizeof *twin);
            *twin = *n;
            twin->next = NULL;
            append(&copy, twin);
        }
        (*out)->first = copy.first;
        mock.alive.execs++;
    }
    END;
}

MOCKS(cuGraphLaunch, struct CUgraphExec_st *e, struct CUstream_st *s)
{
    BEGIN;
    if (!status) status = enqueue(s, &(struct node){ .kind = REPLAY, .exec = e });
    END;
}

MOCKS(cuGraphDestroy, struct CUgraph_st *g)
{
    BEGIN;
    graph_free(g);
    END;
}

MOCKS(cuGraphExecDestroy, struct CUgraphExec_st *e)
{
    BEGIN;
    flush_all();
    list_clear(e->first);
    free(e);
    mock.alive.execs--;
    END;
}

MOCKS(cuEventCreate, struct CUevent_st **out, unsigned flags)
{
    (void)flags;
    BEGIN;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    UNLESS(mock_take_fails(), ABI_CUDA_ERROR_OUT_OF_MEMORY);
    if (!status) {
        *out = calloc(1, sizeof **out);
        (*out)->next = events;
        events = *out;
        mock.alive.events++;
    }
    END;
}

MOCKS(cuEventRecord, struct CUevent_st *e, struct CUstream_st *s)
{
    BEGIN;
    if (!status) status = enqueue(s, &(struct node){ .kind = PASS, .event = e });
    END;
}

static uint64_t passed_at(const struct CUevent_st *e)
{
    uint64_t ns = 0;
    if (e->event) cl.GetEventProfilingInfo(e->event, OCL_PROFILING_COMMAND_END, sizeof ns, &ns, NULL);
    return ns;
}

MOCKS(cuEventElapsedTime, float *ms, struct CUevent_st *a, struct CUevent_st *b)
{
    BEGIN;
    UNLESS(no_context(), ABI_CUDA_ERROR_INVALID_CONTEXT);
    UNLESS(!a->event || !b->event, ABI_CUDA_ERROR_NOT_READY);
    *ms = (float)((double)(int64_t)(passed_at(b) - passed_at(a)) * 1e-6);
    END;
}

MOCKS(cuEventDestroy_v2, struct CUevent_st *e)
{
    BEGIN;
    flush_all();
    event_free(take_event(e));
    END;
}
