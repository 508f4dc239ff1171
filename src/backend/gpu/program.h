/* Weights and programs of the gpu backend: weights.c, program.c, step.c, run.c. */
#ifndef BACKEND_GPU_PROGRAM_H
#define BACKEND_GPU_PROGRAM_H
#include "backend/gpu/gpu.h"
#include "backend/lower.h"

struct weight {
    enum dtype type;                   /* of the panels                                             */
    uint32_t n_in, n_out, n_panels;
    size_t panel_bytes;
    uint8_t forms;                     /* enum form                                                 */
    struct gpu_memory *panels;         /* NULL: it is no linear layer's                             */
    int32_t vector;                    /* floats from the beginning of the vectors; -1: it is none  */
    struct param_bytes table;          /* rows for lookups: the file's own bytes, on this machine   */
};

struct weights {
    struct gpu_device *device;
    struct weight *weight;             /* [n], by graph parameter                                   */
    size_t n;
    struct gpu_memory *vectors;
    uint64_t bytes;                    /* on the card                                               */
    uint64_t taken;                    /* of the device's memory, by these weights                  */
    bool reference;
};

/* A row pass: its instructions on the card, and the pool into which they store. */
struct row_pass { uint32_t first, count; struct gpu_memory *pool; };

/* How large the launches of a step are. What a step has less of ends at once (words.h: STEP_ROWS ...), so
 * one recorded tape serves all steps that fit its shape. */
struct shape { uint32_t rows, asks, heads, tiles, tile_rows, sees, top, roles; };
enum { HAS_WRITTEN = 1, HAS_GIVEN = 2 }; /* shape.roles                                               */

/* A tape gives its place to another one when it was not used for TAPE_IDLE steps. */
enum { TAPES = 64, TAPE_ROWS = 16, TAPE_IDLE = 256 };
struct tape { struct shape shape; struct gpu_tape *tape; uint64_t used; };

enum { EMBEDS = 4 };

struct program {
    const struct graph *g;
    const struct weights *w;
    struct gpu_device *device;
    struct program_limits limits;

    struct lowered low;
    struct row_pass *pass;             /* [n_phases]                                                */
    const struct graph_node *embed[EMBEDS];
    uint32_t n_embeds, tile_rows;
    float *angles[ROPE_TABLES];        /* by position, made when one is first seen                  */
    uint8_t *angles_known;             /* [positions]                                               */
    uint32_t n_positions;
    void *own;                         /* everything above, and the counts of a pass                */
    size_t own_bytes;

    struct gpu_places places;
    struct gpu_memory *pool[GRAPH_GROUPS], *partial, *head_scratch, *answers, *moves;
    uint64_t page_bytes[GRAPH_GROUPS];
    uint64_t activation_bytes, partial_bytes, instr_bytes, step_bytes;
    uint64_t bytes;                    /* on the card, pages not among them                         */
    uint32_t logits, logits_ld;        /* floats from the beginning of the activations              */
    uint64_t taken;                    /* of the device's memory, by this program                   */

    int32_t *host_step, *host_answers, *host_moves; /* pinned                                       */
    uint32_t n_moves;                  /* words of host_moves that may not have gone over yet       */
    struct tape tape[TAPES];
    size_t n_tapes, most_tapes;        /* most: fewer than TAPES where memory was short             */
    uint64_t n_steps;                  /* so many ran; tapes remember theirs                        */

    /* the step that is running */
    const struct step *step;
    struct answer *const *to;
    struct gpu_profile *profile;       /* NULL: nobody asked where the time goes                    */
};

enum { MOST_MOVES = 1024 };            /* slots between two steps without waiting in between        */

static inline uint32_t gpu_words(size_t bytes) { return (uint32_t)(bytes / 4); }

/* gpu.c, under lock: after a failed call of the driver: a card that failed is lost. Returns s. */
stretto_status gpu_failed(struct gpu_device *d, stretto_status s, const struct error *err);

/* The same of what was to open: kernels that do not compile are no fault of the card, and others go on there. */
stretto_status gpu_not_opened(struct gpu_device *d, stretto_status s, const struct error *err);

/* weights.c */
stretto_status gpu_upload(struct weights **out, struct device *on, const struct graph *g,
                          const struct binding *b, const struct upload_options *o, struct error *err);
void gpu_weights_close(struct weights *w);
uint64_t gpu_weights_bytes(const struct weights *w);

/* program.c */
stretto_status gpu_plan(struct device *on, const struct graph *g, const struct weights *w,
                        const struct program_limits *l, struct program_bytes *out, struct error *err);
uint64_t gpu_beside(const struct graph *g, const struct program_limits *l);
stretto_status gpu_compile(struct program **out, struct device *on, const struct graph *g,
                           const struct weights *w, const struct program_limits *l, struct error *err);
void gpu_program_close(struct program *p);

/* step.c: the most words that a step may take, and a step's words; *shape: how large it is. Returns how many
 * words go over. */
uint64_t step_words(const struct program *p);
size_t step_pack(struct program *p, const struct step *s, struct shape *shape);

/* run.c */
stretto_status gpu_run(struct program *p, const struct step *s, struct answer *const *answers,
                       struct error *err);
#endif
