/* The gpu backend's own structures. One set of kernels (kernels/, see kernels/dialect.h) runs through a
 * driver (driver.h) on every card. The graph is lowered to the same phases as on the cpu
 * (backend/lower.h); here a phase is one or two launches.
 *
 * Linear layers of quantised and float weights have the cpu's arithmetic (kernels/kernels.h) and its
 * panels, so their answers are the cpu's, bit for bit; sums, norms, functions and attention have an order
 * of their own, which depends on nothing but the card's constants below: batch_invariant holds. */
#ifndef BACKEND_GPU_GPU_H
#define BACKEND_GPU_GPU_H
#include "backend/backend.h"
#include "backend/gpu/driver.h"
#include "graph/binding.h"
#include "graph/graph.h"
#include "graph/step.h"
#include "kernels/panel.h"
#include "tensor/dtype.h"
#include <pthread.h>

struct gpu_linear; struct gpu_attention; struct gpu_rows; struct gpu_head; struct gpu_roof; struct team;

/* Whatever touches the card holds `lock`: programs take turns, a step each. */
struct gpu_device {
    struct device device;
    const struct gpu_driver *driver;
    struct card *card;
    struct gpu_about about;
    pthread_mutex_t lock;
    struct team *team;                      /* of this machine, packs weights                     */
    uint64_t memory;                        /* the most that may be taken; 0: what the card has   */
    atomic_uint_fast64_t taken;
    uint32_t row_lanes;                     /* lanes of a row pass: a constant of the card        */
    char lost[512];                         /* why, when it was lost                              */
    bool unbuilt;                           /* the last kernels do not compile                    */
    /* Kernels, built when first needed, under lock; NULL before. */
    struct gpu_linear *linear[DT_COUNT];
    struct gpu_attention *attention[CACHE_TYPES];
    struct gpu_rows *rows[CACHE_TYPES];
    struct gpu_head *head;
    struct gpu_roof *roof;
};

extern const struct backend backend_cuda, backend_opencl;

/* ---- what the launchers share --------------------------------------------------------------- */

/* Source texts of kernels/, compiled in; NULL-terminated names as "linear.cl". */
const char *gpu_source(const char *name);
/* Builds dialect.h, words.h and the named files (NULL-terminated) with options; a compiler's complaint goes
 * to a file, which err names. */
stretto_status gpu_build(struct gpu_device *d, const char *const *files, const char *options,
                         struct gpu_code **out, struct error *err);

/* Where a launch finds a program's memory. */
struct gpu_places {
    struct gpu_memory *activations, *vectors, *step, *instructions;
};

/* ---- linear.c: kernels/linear.cl ------------------------------------------------------------- */

enum { GPU_PARTS = 4 };
/* Which rows a launch answers, others are left alone: all; those that are no prompt rows; prompt rows alone. */
enum gpu_roles { GPU_ALL, GPU_WRITTEN, GPU_GIVEN };
/* Panels of a weight times rows of one input, into floats of the activations. */
struct gpu_part { struct gpu_memory *panels; uint32_t n_panels, out, out_ld; };

/* Up to GPU_PARTS weights of one type and n_in that read one value. Places are words from the beginning of the
 * activations, as INSTR_... of kernels/words.h; a type of floats reads in, a type of codes q, d, s. */
struct gpu_linear_job {
    struct gpu_part part[GPU_PARTS];
    uint32_t n_parts, n_in;
    uint32_t in, in_ld, q, q_ld, d, s, d_ld, h, h_ld;
    uint32_t count_word;      /* the word of the step that says how many rows there are                    */
    uint32_t first_row;       /* rows before it are left alone                                           */
    uint32_t most_rows;       /* and those behind so many; work-groups whose rows are not there end at once */
    enum gpu_roles roles;     /* GPU_GIVEN is their own arithmetic, where gpu_linear_given says that there is one: h
                                 alone is read, by bf16 matrix instructions, the whole of K in float32       */
};
/* Places q and h, and q_ld and h_ld, are multiples of 4 words. */
bool gpu_linear_given(const struct gpu_linear *l);
stretto_status gpu_linear_open(struct gpu_device *d, enum dtype t, struct gpu_linear **out,
                               struct error *err);
void gpu_linear_close(struct gpu_linear *l);
stretto_status gpu_linear_run(struct gpu_device *d, struct gpu_linear *l, const struct gpu_places *m,
                              const struct gpu_linear_job *job, struct error *err);

/* ---- attention.c: kernels/cache.cl, kernels/attention.cl -------------------------------------- */

/* Bytes of one kv head of one layer in a page, keys and values; a multiple of 16. A page of a group is
 * [layers][kv_heads] of them. */
uint64_t gpu_head_bytes(enum cache_type t, uint32_t head_dim);

struct gpu_attention_job {
    const struct graph_node *node;
    const struct layer_group *group;
    struct gpu_memory *pool, *partial;
    uint64_t partial_bytes;            /* of partial: gpu_partial_bytes, or less                          */
    uint32_t q, q_ld, out, out_ld;     /* places of values: floats from the beginning of the activations  */
    uint32_t most_tiles, tile_rows;    /* tiles that may be there; rows of one, at most: tight, kernels
                                          for few queries are faster with few                             */
    uint32_t most_rows;                /* rows of all of them                                             */
    uint32_t most_sees;                /* the largest STEP_SEES that may be there                         */
};
/* Rows of a tile that suit a graph whose attention has so many query heads to a kv head. */
uint32_t gpu_tile_rows(uint32_t heads_per_kv);
uint64_t gpu_partial_bytes(const struct graph *g, const struct program_limits *l);
stretto_status gpu_attention_open(struct gpu_device *d, enum cache_type t, struct gpu_attention **out,
                                  struct error *err);
void gpu_attention_close(struct gpu_attention *a);
/* Builds what the node's layers need, so that no step waits for a compiler; what is missing is built when it
 * runs. */
stretto_status gpu_attention_prepare(struct gpu_device *d, struct gpu_attention *a, const struct graph_node *n,
                                     struct error *err);
stretto_status gpu_attention_run(struct gpu_device *d, struct gpu_attention *a, const struct gpu_places *m,
                                 const struct gpu_attention_job *job, struct error *err);
/* backend.h: page_copy and slots_move of a pool. moves: n words on the card, from where, and n, where to: each a slot
 * of the pool: page * 64 + slot of the page. */
stretto_status gpu_page_copy(struct gpu_device *d, struct gpu_memory *pool, uint64_t page_bytes,
                             int32_t from, int32_t to, struct error *err);
stretto_status gpu_slots_move(struct gpu_device *d, struct gpu_attention *a, struct gpu_memory *pool,
                              const struct layer_group *group, struct gpu_memory *moves, uint32_t n,
                              struct error *err);

/* ---- rows.c: kernels/rows.cl (with kernels/cache.cl for CODE_STORE) --------------------------- */

stretto_status gpu_rows_open(struct gpu_device *d, enum cache_type t, struct gpu_rows **out,
                             struct error *err);
void gpu_rows_close(struct gpu_rows *r);
/* Instructions first .. first + count of m->instructions for each of at most most_rows rows; `pool` is that of
 * the one layer group that they store into, or NULL. */
stretto_status gpu_rows_run(struct gpu_device *d, struct gpu_rows *r, const struct gpu_places *m,
                            struct gpu_memory *pool, uint32_t first, uint32_t count, bool asking,
                            uint32_t most_rows, struct error *err);

/* ---- head.c: kernels/head.cl ----------------------------------------------------------------- */

/* One row's answer on the card, in words: 0 best id, 1 best logit's bits, 2 whether a logit is no number,
 * 3 unused, 4.. STEP_TOP ids, then STEP_TOP logits' bits. */
enum { GPU_ANSWER_WORDS = 4 + 2 * STEP_TOP, GPU_HEAD_ROWS = 16 };

struct gpu_head_job {
    uint32_t logits, ld;           /* the linear layer's answer: floats from the beginning of the activations */
    struct gpu_memory *scratch, *answers; /* gpu_head_scratch bytes; [max_asks][GPU_ANSWER_WORDS]         */
    uint32_t vocab;
    uint32_t first_row, rows;      /* asks first_row .. first_row + rows, at most GPU_HEAD_ROWS           */
    int32_t bias;                  /* floats from the beginning of the vectors, -1: none                  */
    float softcap;                 /* 0: none                                                             */
    bool top;                      /* somebody wants the STEP_TOP likeliest                               */
};
uint64_t gpu_head_scratch(uint32_t vocab);
stretto_status gpu_head_open(struct gpu_device *d, struct gpu_head **out, struct error *err);
void gpu_head_close(struct gpu_head *h);
/* Adds the bias, caps, and answers: logits are left as the rows' logits. */
stretto_status gpu_head_run(struct gpu_device *d, struct gpu_head *h, const struct gpu_places *m,
                            const struct gpu_head_job *job, struct error *err);

/* ---- roof.c: kernels/roof.cl ----------------------------------------------------------------- */

stretto_status gpu_roof_open(struct gpu_device *d, struct gpu_roof **out, struct error *err);
void gpu_roof_close(struct gpu_roof *r);
/* backend.h: roof_bytes, roof_macs. */
stretto_status gpu_roof_bytes(const struct weights *w, unsigned threads, size_t bytes, double *rate,
                              struct error *err);
stretto_status gpu_roof_macs(const struct weights *w, unsigned threads, double rate[ARITHMETIC_KINDS],
                             struct error *err);
#endif
