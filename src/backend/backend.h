/* What a backend is: a row of functions. weights are uploaded once per model and shared; a program
 * is a graph compiled for given sizes, with its pages and step buffers, used by one thread at a
 * time. */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H
#include "base/status.h"
#include "kernels/peak.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct graph; struct binding; struct step; struct answer; struct weights; struct program; struct team;

enum cache_type { CACHE_F32, CACHE_F16, CACHE_BF16, CACHE_Q8_0, CACHE_Q8_0_Q4_0, CACHE_TYPES };
/* "f16" and so on; false for another word. */
bool cache_type_by_name(const char *name, enum cache_type *out);
const char *cache_type_name(enum cache_type t);

enum { PAGE_SLOTS = 64 };            /* token slots of a page */

struct upload_options {
    struct team *team; /* does the packing                                              */
    const char *level; /* ceiling of the kernels, NULL: what the CPU has                 */
    bool reference;    /* weights as float32                                            */
    uint64_t memory;   /* bytes that can be had; E_NOMEM before anything is read; 0: not known */
    void (*progress)(void *ud, uint64_t done, uint64_t total); /* bytes of tensors; may be NULL */
    void *ud;
    const volatile int *cancel; /* non-zero stops the upload with E_CANCEL; may be NULL           */
};

struct program_limits {
    uint32_t max_rows;      /* rows of a step                                                */
    uint32_t max_asks;      /* rows that ask                                                 */
    uint32_t max_pages;     /* pages of the pool                                             */
    uint32_t max_seq_pages; /* pages of one sequence                                         */
    enum cache_type cache;
    bool strict; /* one arithmetic for given and written rows                      */
};

struct program_bytes { /* what a program needs; pages are touched as they are used       */
    uint64_t buffers, page, pages;
};

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

struct backend {
    const char *name;
    bool batch_invariant; /* MUST: a row's bits do not depend on its neighbours             */
    stretto_status (*upload)(struct weights **out, const struct graph *g, const struct binding *b,
                             const struct upload_options *o, struct error *err);
    void (*weights_close)(struct weights *w);
    uint64_t (*weights_bytes)(const struct weights *w);
    /* The weights as host memory of that size, for measuring how fast it can be read; NULL:
     * elsewhere. */
    const void *(*weights_view)(const struct weights *w);
    /* The kernels in use, one line per operation kind, for people; appended to text[0..size). */
    void (*describe)(const struct weights *w, char *text, size_t size);

    /* plan only measures: what compile with the same arguments would take. */
    stretto_status (*plan)(const struct graph *g, const struct weights *w, const struct team *team,
                           const struct program_limits *l, struct program_bytes *out,
                           struct error *err);
    stretto_status (*compile)(struct program **out, const struct graph *g, const struct weights *w,
                              struct team *team, const struct program_limits *l, struct error *err);
    void (*program_close)(struct program *p);
    /* Allocates nothing. answers[i] is where ask i's answer goes. OK when every ask has its own status and
     * what it wants; otherwise (misuse, cancelled) nothing was answered. */
    stretto_status (*run)(struct program *p, const struct step *s, struct answer *const *answers,
                          struct error *err);
    /* Copies a page's content (fork), moves one slot's content within the sequence's pages
     * (accept). */
    void (*page_copy)(struct program *p, int32_t from, int32_t to);
    void (*slot_move)(struct program *p, const int32_t *pages, int32_t from, int32_t to);

    /* Times of operations from now on, or no more; NULL in a backend that cannot say. Reading gives
     * at most cap rows in the order in which they run. */
    stretto_status (*profile)(struct program *p, bool on, struct error *err);
    size_t (*profile_read)(const struct program *p, struct op_time *out, size_t cap);
    /* The calling thread multiplies and adds as fast as the kernels' level can at all; returns how
     * often it did, 0 where the level has no such arithmetic. */
    uint64_t (*peak)(const struct weights *w, enum arithmetic kind, size_t rounds);
};

extern const struct backend backend_cpu;
#endif
