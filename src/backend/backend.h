/* What a backend is, and the devices it opens.
 *
 *   backend  a row of functions in backends[]
 *   device   what work runs on, and what it takes: threads and kernels, or a card; and its memory.
 *            Opened once and shared by all models, engines and companions that work together, from
 *            any thread: the steps of programs take turns.
 *   weights  the parameters of a graph as a device wants them; immutable, shared by programs
 *   program  a graph compiled for given sizes, with its pages and step buffers; used by one thread
 *            at a time
 *
 * Lifetimes: weights outlive the programs that use them, a graph and its binding outlive both. Who
 * opened a device closes it, whatever still stands on it: from then on nothing begins there
 * (STRETTO_E_DEVICE), as after the loss of a card. Weights and programs can still be closed, and the
 * last of them takes the device's memory with it. What the caller has in its own memory, tokens
 * among it, is as it was, and can be read again into a device that works. */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H
#include "base/status.h"
#include "graph/graph.h"
#include "tensor/arithmetic.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct binding; struct step; struct answer; struct weights; struct program;

enum cache_type { CACHE_F32, CACHE_F16, CACHE_BF16, CACHE_Q8_0, CACHE_Q8_0_Q4_0, CACHE_TYPES };
/* "f16" and so on; false for another word. */
bool cache_type_by_name(const char *name, enum cache_type *out);
const char *cache_type_name(enum cache_type t);

enum { PAGE_SLOTS = 64 };            /* token slots of a page */

struct device_options {
    const char *level; /* ceiling of its abilities, by a name of the backend's; NULL: none       */
    uint64_t memory;   /* bytes that weights and programs may take; 0: all there is              */
    bool wide_bf16;    /* the cpu's: bf16 weights keep their 16 bits in memory                   */
    uint32_t number;   /* which of a backend's devices, in the order of its list                 */
};

/* What a backend found on this machine. */
struct device_about {
    char word[24];     /* names it: "cpu", "cuda:0", "opencl:1"; of a backend without driver "cuda"  */
    char name[128];    /* of the hardware; "": there is nothing to tell it from                  */
    char driver[160];  /* and of what it is reached through                                      */
    uint64_t memory;   /* bytes; 0: not known                                                    */
    uint32_t units;    /* multiprocessors, compute units, CPUs; 0: not known                     */
    bool card;         /* a GPU; no: a CPU, also behind OpenCL                                   */
    bool unusable;     /* `why` says why nothing can be opened there, and what to do             */
    char why[400];
};

/* The part of a device that every backend's has; a backend puts it first in a struct of its own. */
struct device {
    const struct backend *backend;
    _Atomic(const char *) gone;        /* NULL, or why nothing may begin on it any more          */
    atomic_uint holders;               /* weights and programs, and the opener                   */
    char word[24], name[128];          /* as in struct device_about, by backend_open             */
};

/* Who changes what is trained, and what it remembers of each parameter. AdamW (arXiv 1711.05101) has two moments: in
 * float32, in bf16 rounded by chance, or as codes of 8 bits for blocks of 256 (arXiv 2110.02861). Adafactor
 * (arXiv 1804.04235, without momentum) has a mean for each row and column of a matrix. */
enum optimizer { OPTIMIZER_ADAMW, OPTIMIZER_ADAFACTOR, OPTIMIZERS };
struct optimizer_kind {
    enum optimizer by;
    unsigned bits;    /* of each of AdamW's moments: 32, 16 or 8; 0: 32                        */
    bool average;     /* beside them: the mean of what the parameter was (PARAM_AVERAGE)       */
};

/* In what a training computes with what it trains. The masters are float32 always; with 16 bits the panels of its
 * linear layers are them rounded, after every step. f16: values between operations are rounded too, as if they were
 * stored so (arXiv 1710.03740): small gradients vanish unless the loss is scaled, and large ones become infinite. */
enum precision { PRECISION_F32, PRECISION_BF16, PRECISION_F16, PRECISIONS };

struct upload_options {
    unsigned threads; /* of this machine that pack; 0: as many as the device has               */
    bool reference;   /* weights as float32                                                    */
    const char *scales; /* integers: a file of what linear layers read at most (scales.h); NULL: by row  */
    void (*progress)(void *ud, uint64_t done, uint64_t total); /* bytes of tensors; may be NULL */
    void *ud;
    const volatile int *cancel; /* non-zero stops the upload with E_CANCEL; may be NULL          */
    /* Training: which parameters change. Each of them gets a master in float32, by which it is computed, a gradient and
     * what the optimizer remembers, zeros at first. The others are as ever, and those that a gradient passes through
     * get a transposed copy. The graph is the differentiated one. */
    const uint8_t *trained; /* [n_params]; NULL: none                                        */
    struct optimizer_kind optimizer;
    enum precision precision;
    /* The weights are not read, only measured: weights_bytes and plan can be asked, nothing else. */
    bool measure;
};

/* What there is of a trained parameter: rows of n_in elements, n_out of them. */
enum param_part { PARAM_MASTER, PARAM_GRADIENT, PARAM_AVERAGE, PARAM_PARTS };

/* One of the arrays that the optimizer remembers of a parameter. */
struct param_state {
    const char *name;  /* "m", "v", "m.scale" ...                                              */
    const char *type;  /* as safetensors has it: F32, BF16, U8                                 */
    uint64_t n, bytes; /* elements                                                             */
};
enum { PARAM_STATES = 4 };

/* A step of the optimizer over all trained parameters. Adafactor has no use for beta1, beta2 and eps. */
struct param_step {
    uint64_t number;  /* of this step, from 1 on: the moments began at zero                   */
    float scale;      /* of the gradients: clipping                                           */
    float lr, beta1, beta2, eps;
    float decay;      /* of weights and tables; vectors have none                             */
    float average;    /* b: the average weighs step i of t by b^(t - i)                       */
};

struct program_limits {
    uint32_t max_rows;      /* rows of a step                                                */
    uint32_t max_asks;      /* rows that ask                                                 */
    uint32_t max_pages[GRAPH_GROUPS]; /* of each layer group's pool                          */
    uint32_t max_seq_pages; /* of one sequence's page tables                                 */
    uint32_t context;       /* tokens that a sequence may have; 0: as many as positions are near (graph.h) */
    enum cache_type cache;
    bool strict;      /* one arithmetic for given and written rows                           */
    bool likes;       /* of a graph with a loss: targets may be what other asks answer       */
    unsigned threads; /* of this machine that run it; 0: as many as the device has           */
    /* A program of the same weights that is never run at the same time and is closed later, or NULL: the values of a
     * step may stand where it has its own, which nobody reads behind a step. A backend may pass it over. */
    const struct program *beside;
};

struct program_bytes { /* what a program needs; pages are touched as they are used       */
    uint64_t values;   /* the part of buffers that a program may have beside another; 0: none */
    uint64_t buffers, page[GRAPH_GROUPS]; /* a page of each layer group                      */
    uint64_t pages;    /* all of all groups                                                  */
    uint64_t room;     /* for such a program, where that is not what `memory` says of the device; else 0 */
    unsigned threads;  /* of this machine that would run it                               */
};

/* Who is told what linear layers and the head are about to read: rows of a value of the program's graph, row r at
 * x + r * ld; the head's are those that ask. By one thread, while the device's others wait; the device must not be
 * asked for anything. Layers with one input may tell of it more than once a step. */
struct program_tap { void (*read)(void *ud, int32_t value, const float *x, size_t ld, size_t rows); void *ud; };

/* What an operation took and what it needs, summed over layers and steps. Operations that run
 * together (q|k|v, or all that happens to a row between two linear layers) are one. */
struct op_time {
    char name[64];
    uint64_t count;           /* times it ran                                                   */
    double seconds;           /* of the wall clock; all operations together are the step        */
    double wait;              /* the part of it in which threads stood at a barrier             */
    double bytes;             /* the file's tensors and the cache once a step, activations once */
    double macs;              /* multiply-adds                                                  */
    enum arithmetic arithmetic;
};

/* Functions after a comment MAY can be NULL. Those that take a device find it working: device_upload
 * and the like look first. */
struct backend {
    const char *name;
    bool batch_invariant; /* a row's bits do not depend on its neighbours                   */
    /* MAY: the devices that there are now, at most cap of them into out (`word` is left alone), their
     * number into *n; E_DEVICE with a sentence about what is missing where there is no driver. It
     * makes them numbered: "cuda:1". NULL: there is one, without a number, on every machine. */
    stretto_status (*list)(struct device_about *out, size_t cap, size_t *n, struct error *err);
    /* MAY, where there is no list: the same of its one device; *out is zeros before. */
    void (*about)(struct device_about *out);
    stretto_status (*open)(struct device **out, const struct device_options *o, struct error *err);
    void (*close)(struct device *d); /* once nobody holds it */
    /* Bytes that can still be had for weights and programs; 0: not known. */
    uint64_t (*memory)(const struct device *d);
    /* ratio[i] = t(rows[i]) / t(1) of a step's time, before anything is measured. rows ascend. */
    void (*costs)(const struct device *d, const uint32_t *rows, float *ratio, size_t n);

    stretto_status (*upload)(struct weights **out, struct device *d, const struct graph *g,
                             const struct binding *b, const struct upload_options *o,
                             struct error *err);
    void (*weights_close)(struct weights *w);
    uint64_t (*weights_bytes)(const struct weights *w);
    /* MAY: the weights as memory of this machine, of that size. */
    const void *(*weights_view)(const struct weights *w);
    /* What is in use, one line per operation kind, for people; appended to text[0..size). */
    void (*describe)(const struct weights *w, char *text, size_t size);

    /* plan only measures: what compile with the same arguments would take. */
    stretto_status (*plan)(struct device *d, const struct graph *g, const struct weights *w,
                           const struct program_limits *l, struct program_bytes *out,
                           struct error *err);
    /* MAY: about how many bytes a program takes beside its values and pages; known before there are weights. */
    uint64_t (*beside)(const struct graph *g, const struct program_limits *l);
    stretto_status (*compile)(struct program **out, struct device *d, const struct graph *g,
                              const struct weights *w, const struct program_limits *l,
                              struct error *err);
    void (*program_close)(struct program *p);
    /* Allocates nothing. answers[i] is where ask i's answer goes. OK when every ask has its own status and
     * what it wants; otherwise (misuse, cancelled) nothing was answered. */
    stretto_status (*run)(struct program *p, const struct step *s, struct answer *const *answers,
                          struct error *err);
    /* Copies the content of a layer group's page (fork). */
    void (*page_copy)(struct program *p, uint32_t group, int32_t from, int32_t to);
    /* MAY, both: a page's bytes, as many as plan says, out to this machine's memory and back into a page. What they are
     * is the backend's own; two pages with the same tokens, roles and way there have the same. Between steps. */
    stretto_status (*page_read)(struct program *p, uint32_t group, int32_t page, void *out, struct error *err);
    stretto_status (*page_write)(struct program *p, uint32_t group, int32_t page, const void *in, struct error *err);
    /* Moves the contents of n slots within a sequence's pages of a layer group (accept), as if one after
     * the other.
     * Both lists ascend and to[i] <= from[i], so no slot is written before it was read; to[j] may be
     * a from[i] before it, which matters to who moves them all at once. */
    void (*slots_move)(struct program *p, uint32_t group, const int32_t *pages, const int32_t *from,
                       const int32_t *to, size_t n);

    /* MAY, all of them where one is: training. Running a program of a graph with a loss adds to the gradients of its
     * weights; a step that was not answered leaves them in between: clear them. One thread at a time has to do with
     * weights that are trained, programs included. Parameters by their number in the graph; one that is not
     * trained is refused. */
    stretto_status (*param_read)(const struct weights *w, uint32_t param, enum param_part part, float *values,
                                 struct error *err);
    stretto_status (*param_write)(struct weights *w, uint32_t param, enum param_part part, const float *values,
                                  struct error *err);
    void (*param_clear)(struct weights *w);            /* gradients to zero                           */
    /* Sums of squares of the gradients in an order of their own: [n_params], 0 of those that are not trained. */
    void (*param_norms)(const struct weights *w, double *squares);
    void (*param_update)(struct weights *w, const struct param_step *s);
    /* Masters and averages change places, where there are averages: twice is as before. */
    void (*param_swap)(struct weights *w);
    /* What the optimizer remembers of a parameter: out[0 .. returned), at most PARAM_STATES; its bytes, which are the
     * backend's own and go on with the very bits where they are written again; and all of it as at the beginning,
     * averages too. */
    size_t (*state_list)(const struct weights *w, uint32_t param, struct param_state out[PARAM_STATES]);
    stretto_status (*state_read)(const struct weights *w, uint32_t param, size_t k, void *out, struct error *err);
    stretto_status (*state_write)(struct weights *w, uint32_t param, size_t k, const void *in, struct error *err);
    void (*state_clear)(struct weights *w);

    /* MAY: times of operations from now on, or no more. Reading gives at most cap rows in the order
     * in which they run. */
    stretto_status (*profile)(struct program *p, bool on, struct error *err);
    size_t (*profile_read)(const struct program *p, struct op_time *out, size_t cap);
    /* MAY: in every step from now on; read NULL: no more. Between steps. */
    void (*tap)(struct program *p, struct program_tap tap);
    /* MAY: joules that the device's card has used since some moment; a negative number when it does not
     * tell. The CPU's are the machine's (eval/energy.h). */
    double (*joules)(struct device *d);
    /* MAY: roofs, measured with so many threads (0: all). Bytes a second that can be read of the
     * weights and, where `bytes` is more than they have, of memory beside them; and multiply-adds a
     * second by kind, raised where this time finds more. What cannot be measured is left. */
    stretto_status (*roof_bytes)(const struct weights *w, unsigned threads, size_t bytes,
                                 double *rate, struct error *err);
    stretto_status (*roof_macs)(const struct weights *w, unsigned threads,
                                double rate[ARITHMETIC_KINDS], struct error *err);
};

/* In the order of preference behind the first, which every machine has; NULL-terminated. Another backend
 * is one row more. */
extern const struct backend *const backends[];

/* ---- choosing (choose.c) --------------------------------------------------------------------
 *
 *   cpu          the first backend, by its name
 *   gpu, gpu:N   the N-th usable card of all backends, in their order; no CPU behind a driver of
 *                cards, and no card twice where two drivers reach it
 *   cuda:N ...   the N-th of a backend's list, whatever it is; without a number the first
 *   auto         the first usable card where one may be (cards_likely), else the cpu
 *
 * Several cards are joined by commas ("gpu:0,gpu:1") where a model is to be spread over them: who reads such
 * a list asks for each by itself. */

/* The words that name a device of this build, for people: "cpu, gpu[:N], cuda[:N], auto". */
void device_words(char *out, size_t size);
/* Whether a word is one of them, or several of cards; whether the device is there is not asked. */
bool device_word_known(const char *word);
/* What the word means now; NULL: "cpu". E_ARG: it is no such word; E_DEVICE: there is no such device, in a
 * sentence. "auto" always finds one. */
stretto_status backend_find(const char *word, struct device_about *out, struct error *err);
/* All devices, at most cap of them, usable or not; a backend whose driver is missing has a row too.
 * Returns how many. Opens the drivers' libraries. */
size_t backend_list(struct device_about *out, size_t cap);
/* Whether a card may be in this machine: a look at device files and at OpenCL's list of drivers below the
 * folder `root` ("" is the machine, with what the environment says of drivers), which opens no library. */
bool cards_likely(const char *root);

/* Opens what backend_find finds. Where "auto" finds a card that does not open, it is the cpu. */
stretto_status backend_open(const char *word, const struct device_options *o, struct device **out,
                            struct error *err);
/* By who opened it; NULL is fine. */
void device_close(struct device *d);
/* Nothing may begin on it any more, for this reason: a sentence, kept by pointer. The first reason
 * stays. For backends whose hardware goes away, from any thread. */
void device_lose(struct device *d, const char *why);
/* E_DEVICE with the reason, when it was closed or lost. */
stretto_status device_check(struct device *d, struct error *err);
/* For backends: weights and programs hold their device. */
void device_hold(struct device *d);
void device_drop(struct device *d);

/* The backend's functions of that name, on a device that works. */
stretto_status device_upload(struct device *d, struct weights **out, const struct graph *g,
                             const struct binding *b, const struct upload_options *o,
                             struct error *err);
stretto_status device_plan(struct device *d, const struct graph *g, const struct weights *w,
                           const struct program_limits *l, struct program_bytes *out,
                           struct error *err);
stretto_status device_compile(struct device *d, struct program **out, const struct graph *g,
                              const struct weights *w, const struct program_limits *l,
                              struct error *err);
stretto_status device_run(struct device *d, struct program *p, const struct step *s,
                          struct answer *const *answers, struct error *err);
#endif
