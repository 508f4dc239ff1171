/* The cpu backend's own structures. Lowering (backend/lower.h) turns a graph into phases; running
 * (run.c) walks them with the thread team. */
#ifndef BACKEND_CPU_CPU_H
#define BACKEND_CPU_CPU_H
#include "backend/answers.h"
#include "backend/backend.h"
#include "backend/lower.h"
#include "cluster/team.h"
#include "graph/binding.h"
#include "graph/graph.h"
#include "graph/step.h"
#include "kernels/kernels.h"
#include <stdatomic.h>

struct linear_provider;

/* Threads, kernels and what of the machine's memory is taken. */
struct cpu_device {
    struct device device;
    struct team *team;
    struct kernels kernels;
    const struct linear_provider *const *providers; /* linear/linear.h                        */
    uint32_t bits;          /* enum cpu_bits of the kernels                                    */
    uint64_t memory;        /* the most that may be taken; 0: what the machine has             */
    atomic_uint_fast64_t taken;
    bool wide_bf16;       /* device_options                                                 */
};

void cpu_about(struct device_about *out);

struct weight {
    const struct linear_provider *by; /* who multiplies; NULL: it is no linear layer's         */
    enum dtype type;                  /* of the panels                                         */
    uint32_t n_in, n_out, n_panels;
    const void *panels;
    size_t panel_bytes;
    uint8_t forms; /* enum form, of rows with two roles                               */
    const float *vector;      /* a vector's elements                                             */
    struct param_bytes table; /* rows for lookups: the file's own bytes                          */

    /* Training. What is trained has `elements` floats of each part (enum param_part), in panels where it is a linear
     * layer's, else row after row; the first part is what computes (panels, vector, table). */
    float *part[PARAM_PARTS];   /* the average is NULL where none is kept                     */
    void *state[PARAM_STATES];  /* optimizer.c                                                */
    bool rounded;               /* the panels are the master in 16 bits: halves.c             */
    size_t elements;
    float *lookups; /* a tied table's gradient as a table, row after row: added to the head's when it is asked for, so
                       that the sum does not depend on how many steps there were; else NULL */
    uint8_t *looked_up; /* [n_out]: rows of it that are not zero                                 */
    const struct weight *behind; /* rows that stand behind these, a parameter of their own; else NULL  */
    const struct weight *back; /* the transposed, where gradients pass: a linear layer as any other; else NULL  */
};

/* A tied head's table is looked up in its panels. */
static inline bool weight_in_panels(const struct weight *w) { return w->elements && w->by; }

struct weights {
    struct cpu_device *device;
    struct kernels *kernels; /* the device's                                                    */
    struct weight *weight; /* [n], by graph parameter                                         */
    size_t n;
    void *memory;
    size_t bytes;
    uint64_t outside;      /* that providers took beside it: known when all panels are made    */
    bool reference;
    struct weight *back;   /* [n] transposed ones                                             */
    double *squares;       /* of runs of elements: masters.c                                  */
    struct optimizer_kind optimizer;
    enum precision precision;
    struct moment_codes *codes; /* moments.h; NULL: moments are no codes                      */
    double *factor;        /* [2][n]: adafactor.c                                             */
};

/* A value's place (lower.h: struct value_place) in this program's memory. */
struct place {
    float *f;
    size_t ld;
    int8_t *q;
    size_t ldq;
    float *d, *s;
    int16_t *sum; /* rows 2 * ldd apart */
    size_t ldd;
    uint16_t *h;
    uint8_t forms; /* enum form */
};

struct tile {
    int32_t row, n_rows, seq, low, last_block; /* `low`: the least position among the rows        */
    size_t partial;                            /* rows of p->partial before its own               */
    bool given;
}; /* rows of one sequence and one role that attend together */

struct attention_job {
    _Atomic uint64_t left; /* blocks that nobody took yet: first, and end << 32               */
    _Atomic uint32_t todo; /* blocks that are not finished, and one for the owner             */
    uint32_t head;
    const struct tile *tile;
};

/* The rows of a kind (graph.h: rows_kind) from ROWS_SETS on: their numbers among all of which they are some, and what
 * they weigh. */
struct row_list { const int32_t *at; const float *weight; size_t n; };

/* Pages of a layer group. */
struct page_pool {
    unsigned char *pages; /* [max_pages][layers][kv_heads] of (K, V)                         */
    size_t k_bytes, v_bytes, head_bytes, page_bytes, bytes;
};

struct scratch;                    /* per thread, attention.c */
struct profile;                    /* times of the phases, profile.h */

struct program {
    const struct graph *g;
    const struct weights *w;
    struct cpu_device *device;
    unsigned threads;
    struct program_limits limits;
    enum kv_type kv;

    struct lowered low;
    struct place *place; /* [n_values]                                                      */
    float *angles[ROPE_TABLES]; /* [max_rows][n_rot]: cosines, sines */
    struct scratch **scratch; /* [threads]                                                       */
    void *memory;             /* everything above, one block, but for values beside another program's */
    size_t bytes;
    unsigned char *values;    /* of a step                                                       */
    size_t values_bytes;

    struct page_pool pool[GRAPH_GROUPS];
    uint32_t head_dim, kv_heads; /* the most that an attention has                           */

    struct program_tap tap;
    struct profile *profile; /* NULL: nobody asked where the time goes                          */
    size_t profile_bytes;

    /* the step that is running */
    const struct step *step;
    struct answer *const *answers; /* [n_asks] */
    struct tile *tiles;
    size_t n_tiles;
    bool share_blocks;          /* jobs are few: threads without one help with others'      */
    struct attention_job *jobs; /* [SHARED_JOBS * threads]                                  */
    float *partial;             /* [rows and blocks of jobs][heads][head_dim + 2]: acc, m, sum */
    struct row_list *lists; /* [2 * n_sets] by kind                                         */
    int32_t *asked;         /* [n_sets][max_asks]: a set's rows among those that ask, or NULL */
    float *asked_weight;    /* likewise                                                     */
    int32_t *inverse;       /* [2 * n_sets][max_rows] of training: a row's number in the set, or -1 */
    int32_t *mark;          /* [max_rows] */
    uint32_t next, n_run; /* the phase to run next; phases this step needs                   */
    atomic_uint_fast32_t *tickets; /* [n_phases]                                               */
    atomic_int stop; /* the step was cancelled */
    /* Training: logits of a few rows, and what they were found to be */
    struct place logits, like;
    float *losses;       /* [max_asks]                                                  */
    int32_t *ask_at;     /* [max_rows]: a row's number among those that ask, or -1      */
    int32_t *part;       /* [max_rows + 1]: parts that see nothing of each other (kernels/see.h) */
    size_t n_parts, n_groups;
    struct row_group *group; /* [max_rows]: rows that are added up together in bf16 (kernels/train.h) */
    double parts_all, parts_most;   /* squares of their rows: the sum, and of the largest */
    float *sums;         /* [max_rows][heads]: for an attention whose sums nobody reads */
    float **see_scratch; /* [threads]                                                   */
    float *ones;         /* the weight of a norm that has none                          */

    struct best *best;    /* [threads][max_asks]                                        */
    struct step_top *top; /* [threads][max_asks]                          */
};

enum { SPLIT_ROWS = 8, SHARED_JOBS = 4, TILE_QUERIES = 64, TILE_GIVEN = 192 };
enum { HEAD_PANELS = 8, HEAD_COLS = HEAD_PANELS * PANEL_COLS, HEAD_ROWS = 16 };

extern const struct backend backend_cpu;

/* Threads for a caller who asks for so many (0: one for each CPU). */
unsigned cpu_threads(const struct cpu_device *d, unsigned asked);

stretto_status cpu_upload(struct weights **out, struct device *on, const struct graph *g,
                          const struct binding *b, const struct upload_options *o,
                          struct error *err);
void cpu_weights_close(struct weights *w);

/* back.c: the transposed of linear weights, made of their panels. */
/* Which parameters need one: an OP_LINEAR_BACK or an OP_LOSS multiplies by it. */
void back_used(const struct graph *g, bool *used);
/* Sizes and, where a->base is set, places. */
stretto_status back_place(struct weights *w, size_t param, const char *name, struct arena *a, struct error *err);
stretto_status back_fill(struct weights *w, unsigned threads, struct error *err);

/* masters.c: enum param_part of what is trained; optimizer.c. */
stretto_status cpu_param_read(const struct weights *w, uint32_t param, enum param_part part, float *values,
                              struct error *err);
stretto_status cpu_param_write(struct weights *w, uint32_t param, enum param_part part, const float *values,
                               struct error *err);
void cpu_param_clear(struct weights *w);
void cpu_param_norms(const struct weights *w, double *squares);
void cpu_param_update(struct weights *w, const struct param_step *s);
void cpu_param_swap(struct weights *w);
size_t cpu_state_list(const struct weights *w, uint32_t param, struct param_state out[PARAM_STATES]);
stretto_status cpu_state_read(const struct weights *w, uint32_t param, size_t k, void *out, struct error *err);
stretto_status cpu_state_write(struct weights *w, uint32_t param, size_t k, const void *in, struct error *err);
void cpu_state_clear(struct weights *w);
/* Where element i of row o stands in a part. */
static inline size_t master_at(const struct weight *w, size_t o, size_t i)
{
    if (!weight_in_panels(w)) return o * w->n_in + i;
    return (o / PANEL_COLS * w->n_in + i) * PANEL_COLS + o % PANEL_COLS;
}

/* A step's rows of one kind, and so on, for who runs phases: run.c. */
size_t cpu_rows(const struct program *p, enum rows_kind kind);
/* Rows [row, row + n) of x times panels [panel, panel + n_panels) of a weight into y. x_row: the same row in x. */
void cpu_linear_rows(const struct program *p, const struct weight *w, const struct place *x, size_t x_row,
                     enum rows_kind kind, size_t row, size_t n, uint32_t panel, uint32_t n_panels, float *y,
                     size_t ldy);
void cpu_make_forms(const struct program *p, const struct place *at, bool given, size_t row, size_t width);
bool cpu_is_given(const struct program *p, enum rows_kind kind, size_t row);

/* The float32 rows of a value, from row `row` on. */
static inline float *place_row(const struct place *at, size_t row) { return at->f + row * at->ld; }

/* sets.c: rows of sets. */
void sets_buffers(struct program *p, struct arena *a);
void sets_begin(struct program *p);
/* Of a differentiated graph: the number that a row has among rows of that kind, -1 where it is none of them. */
int32_t sets_unask(const struct program *p, enum rows_kind kind, size_t row);
static inline const struct row_list *cpu_list(const struct program *p, enum rows_kind kind)
{
    return &p->lists[kind - ROWS_SETS];
}
/* The row's number among those of which the kind has some. */
static inline size_t cpu_whole_row(const struct program *p, enum rows_kind kind, size_t row)
{
    return rows_are_set(kind) ? (size_t)cpu_list(p, kind)->at[row] : row;
}

/* train.c: the phases that a graph with a loss has more. */
void train_buffers(struct program *p, struct arena *a);
void train_begin(struct program *p);
/* How many units a phase is shared out in. */
size_t train_units(const struct program *p, const struct phase *ph);
size_t train_least(const struct program *p, const struct phase *ph, size_t units); /* of a share */
void train_share(struct program *p, const struct phase *ph, size_t first, size_t n, unsigned rank);

/* buffers.c: phases and everything that running them takes; a->base NULL while measuring. */
stretto_status cpu_buffers(struct program *p, struct arena *a, struct error *err);
stretto_status cpu_run(struct program *p, const struct step *s, struct answer *const *answers,
                       struct error *err);

/* profile.c */
stretto_status cpu_profile(struct program *p, bool on, struct error *err);
size_t cpu_profile_read(const struct program *p, struct op_time *out, size_t cap);
/* roof.c */
stretto_status cpu_roof_bytes(const struct weights *w, unsigned threads, size_t bytes, double *rate,
                              struct error *err);
stretto_status cpu_roof_macs(const struct weights *w, unsigned threads,
                             double rate[ARITHMETIC_KINDS], struct error *err);

/* attention.c */
struct scratch *attention_scratch(struct arena *a, const struct program *p);
void attention_plan(struct program *p);
/* The kernel of prompt rows for a head_dim; NULL: they attend as written ones do. */
attn_block_fn *attention_given(const struct program *p, size_t head_dim);
/* Before the threads enter the phase. */
void attention_begin(struct program *p, const struct phase *ph);
size_t attention_items(const struct program *p, const struct phase *ph);
void attention_item(struct program *p, const struct phase *ph, size_t item, unsigned rank);
/* When all items are taken: blocks of those that others are still at. */
void attention_help(struct program *p, const struct phase *ph, unsigned rank);
/* One slot's K and V of one head from page to page. */
void slot_copy(const struct program *p, size_t head_dim, const void *k, const void *v, int32_t from,
               void *k_to, void *v_to, int32_t to);
/* Where a head of the group's layer `member` stands in a page: its K, then its V. */
void *page_head(const struct program *p, uint32_t group, int32_t page, uint32_t member, uint32_t head);
/* The same for the page of its sequence in which an attention has block b. */
void *page_k(const struct program *p, const struct graph_node *n, size_t seq, int32_t b, uint32_t head);

/* A place in per-thread scratch for the head's logits: [HEAD_ROWS][HEAD_COLS]. */
float *scratch_logits(struct scratch *s);
#endif
