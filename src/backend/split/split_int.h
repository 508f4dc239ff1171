/* The split device's own structures. Everything of a member is done by the member's own functions; here is
 * who has which layers, and how a step of the whole becomes steps of the parts. */
#ifndef BACKEND_SPLIT_SPLIT_INT_H
#define BACKEND_SPLIT_SPLIT_INT_H
#include "backend/split.h"
#include "graph/partition.h"
#include "graph/step.h"

struct split_device {
    struct device device;
    struct backend row;              /* the device's backend: what its members can, all of them    */
    char name[64];                   /* the members' words: "cuda:0+cpu"                            */
    struct device *member[SPLIT_MEMBERS];
    uint32_t layers[SPLIT_MEMBERS];
    size_t n;
};

struct split_part {
    struct device *device;
    struct graph_part cut;
    struct weights *weights;
};

struct weights {
    struct split_device *device;
    const struct graph *g;
    struct split_part part[SPLIT_MEMBERS];
    size_t n;
};

struct split_program {
    struct program *program;
    uint32_t n_groups;               /* of the part                                                 */
    uint32_t of[GRAPH_GROUPS];       /* the whole's number of each                                  */
    int32_t *page_at;                /* [n_groups][max_rows] of a step                              */
    uint64_t page[GRAPH_GROUPS];     /* bytes of a page of each                                     */
};

struct program {
    struct split_device *device;
    const struct weights *w;
    struct program_limits limits;
    struct split_program part[SPLIT_MEMBERS];
    /* What crosses: every row asks for its hidden state, which is the vector it brings to the next part. Two
     * places in turn: a part may write answers while it reads what its rows brought. */
    float *vectors[2];               /* [max_rows][most]: the widest that crosses                   */
    size_t most;
    int32_t *token, *row;            /* [max_rows]: -1 - i, and i                                   */
    uint8_t *wants;                  /* [max_rows]: WANT_HIDDEN                                     */
    struct answer *answer, **answers;/* [max_rows]                                                  */
    bool *nan;                       /* [max_rows] what crossed for this row was no number          */
    void *memory;
    size_t bytes;
};

static inline struct split_device *split_of(struct device *d)
{
    return (struct split_device *)(void *)d;
}

/* What people call a member: "cuda:0", "cpu". */
static inline const char *split_word(const struct device *d)
{
    return d->word[0] ? d->word : d->backend->name;
}

/* `s` is what a member said: where it is gone, so is the whole, for the same reason. */
stretto_status split_heed(struct split_device *d, struct device *member, stretto_status s);

/* run.c */
stretto_status split_program_plan(struct device *on, const struct graph *g, const struct weights *w,
                                  const struct program_limits *l, struct program_bytes *out,
                                  struct error *err);
stretto_status split_compile(struct program **out, struct device *on, const struct graph *g,
                             const struct weights *w, const struct program_limits *l,
                             struct error *err);
void split_program_close(struct program *p);
stretto_status split_run(struct program *p, const struct step *s, struct answer *const *answers,
                         struct error *err);
void split_page_copy(struct program *p, uint32_t group, int32_t from, int32_t to);
stretto_status split_page_read(struct program *p, uint32_t group, int32_t page, void *out, struct error *err);
stretto_status split_page_write(struct program *p, uint32_t group, int32_t page, const void *in, struct error *err);
void split_slots_move(struct program *p, uint32_t group, const int32_t *pages, const int32_t *from,
                      const int32_t *to, size_t n);
stretto_status split_profile(struct program *p, bool on, struct error *err);
size_t split_profile_read(const struct program *p, struct op_time *out, size_t cap);
#endif
