/* A driver: how the cards of one maker's interface are reached. One row of functions each for CUDA
 * (libcuda and NVRTC) and OpenCL; their libraries are opened at run time, when somebody asks for a
 * card, so one binary runs everywhere and says what is missing.
 *
 *   card     an opened GPU with one queue: what is enqueued runs in order, later
 *   memory   a piece of the card's memory
 *   code     kernels compiled from one source text
 *   tape     launches recorded once and repeated as one (CUDA graphs); a driver may not have it
 *
 * Everything of a card is used by one thread at a time. Functions return E_NOMEM when the card's memory
 * is short, E_DEVICE when the card or its driver failed, with words in err; after E_DEVICE of anything
 * that runs, nothing on the card can be trusted. Closing never fails, also then, and takes NULL. */
#ifndef BACKEND_GPU_DRIVER_H
#define BACKEND_GPU_DRIVER_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct card; struct gpu_memory; struct gpu_code; struct gpu_kernel; struct gpu_tape;

struct gpu_about {
    char name[128];     /* of the card, tamed for terminals                                   */
    char driver[160];   /* "CUDA driver 13.0", "OpenCL 3.0 PoCL 3.1"                          */
    uint64_t memory;    /* bytes of the card                                                  */
    uint64_t largest;   /* of one piece of memory                                             */
    uint32_t units;     /* multiprocessors, compute units                                     */
    uint32_t group;     /* lanes of a work-group, at most                                     */
    uint32_t local;     /* bytes of local (shared) memory of a work-group                     */
    uint32_t arch;      /* CUDA: 10 * major + minor of the compute capability; else 0         */
    bool gpu;           /* no: the CPU itself, behind OpenCL (PoCL)                           */
    bool unusable;      /* it was found and cannot run stretto's kernels: `why` says so       */
    bool exact_divide;  /* float32 division rounds correctly, so codes are those of the CPU   */
    char why[200];
};

/* A kernel's arguments in its order: a pointer to a whole piece of memory, or a word of 32 bits (int, uint,
 * float). Places within a piece are words. */
struct gpu_arg { struct gpu_memory *memory; int32_t word; };

struct gpu_driver {
    const char *name;   /* "cuda", "opencl" */
    /* Finds cards: at most cap into out, their number into *n. E_DEVICE with a sentence where there is no
     * driver, or one too old (both versions named); OK and 0 where there is one and no card. */
    stretto_status (*list)(struct gpu_about *out, size_t cap, size_t *n, struct error *err);
    /* The number-th of the list. */
    stretto_status (*open)(struct card **out, size_t number, struct error *err);
    void (*close)(struct card *c);
    const struct gpu_about *(*about)(const struct card *c);
    /* Bytes that can still be had, as the driver says; 0: it does not. */
    uint64_t (*free_memory)(struct card *c);

    /* `options`: "-DNAME=VALUE" words. Where it does not compile: E_DEVICE, and *log is the compiler's text
     * (mem_free it), else NULL. */
    stretto_status (*build)(struct card *c, const char *source, const char *options,
                            struct gpu_code **out, char **log, struct error *err);
    void (*code_close)(struct gpu_code *code);
    /* A kernel lives as long as its code. */
    stretto_status (*kernel)(struct gpu_code *code, const char *name, struct gpu_kernel **out,
                             struct error *err);

    /* Zeros. */
    stretto_status (*alloc)(struct card *c, uint64_t bytes, struct gpu_memory **out, struct error *err);
    void (*free)(struct gpu_memory *m);
    /* Memory of this machine that the card copies from and to fast (pinned, where it can be). */
    stretto_status (*host_alloc)(struct card *c, size_t bytes, void **out, struct error *err);
    void (*host_free)(struct card *c, void *p);

    /* Enqueued. What they read or write here must stay until `finish`. */
    stretto_status (*write)(struct card *c, struct gpu_memory *to, uint64_t at, const void *from,
                            size_t bytes, struct error *err);
    stretto_status (*read)(struct card *c, const struct gpu_memory *from, uint64_t at, void *to,
                           size_t bytes, struct error *err);
    stretto_status (*copy)(struct card *c, const struct gpu_memory *from, uint64_t from_at,
                           struct gpu_memory *to, uint64_t to_at, size_t bytes, struct error *err);
    stretto_status (*zero)(struct card *c, struct gpu_memory *m, uint64_t at, uint64_t bytes,
                           struct error *err);
    /* groups[0] * groups[1] * groups[2] work-groups of `lanes` lanes. */
    stretto_status (*launch)(struct card *c, struct gpu_kernel *k, const uint32_t groups[3],
                             uint32_t lanes, const struct gpu_arg *args, size_t n_args,
                             struct error *err);
    /* Waits for everything enqueued, and says whether it went well. */
    stretto_status (*finish)(struct card *c, struct error *err);

    /* MAY, all four: what is launched between begin and end is not run but recorded (launches and copies
     * within the card alone). */
    stretto_status (*record_begin)(struct card *c, struct error *err);
    stretto_status (*record_end)(struct card *c, struct gpu_tape **out, struct error *err);
    stretto_status (*replay)(struct card *c, struct gpu_tape *t, struct error *err);
    void (*tape_close)(struct gpu_tape *t);

    /* MAY, both: the queue's clock. Mark i (0 .. GPU_MARKS - 1) is passed when what is enqueued before it has
     * run; after `finish`, seconds from mark a to mark b. */
    stretto_status (*mark)(struct card *c, uint32_t i, struct error *err);
    double (*between)(struct card *c, uint32_t a, uint32_t b);
    /* MAY: joules that the card has used since the driver was loaded, or a negative number. */
    double (*joules)(struct card *c);
};

enum { GPU_MARKS = 4096, GPU_CARDS = 16 };

extern const struct gpu_driver driver_cuda, driver_opencl;
#endif
