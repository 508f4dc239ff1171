/* Inside of shrink.h: texts on their way through single layers, and what is read and solved there. */
#ifndef COMPRESS_SHRINK_INT_H
#define COMPRESS_SHRINK_INT_H
#include "compress/piece.h"
#include "compress/shrink.h"
#include "compress/solve.h"

enum { SHRINK_STEP = 64 };      /* widths are multiples of it */

/* A model's weights, but for a few that are given instead: float32 [n_out][n_in]. */
struct overlay {
    const struct binding *base;
    size_t n;
    struct { const char *name; const float *data; uint32_t n_in, n_out; } own[4];
};
struct binding overlay_binding(struct overlay *o);

struct shrink {
    const struct model *m;
    const struct shrink_options *o;
    struct device *device;
    struct binding b;           /* of the model as it is                                             */
    uint32_t window;
    size_t tokens, fit;         /* the first `fit` are solved on, the others decide what serves texts that are not */
    size_t fit_texts;           /* of `text`                                                         */
    struct calibration_text text;
    int32_t *id;                /* its memory: every fifth window has moved to the end              */
    uint32_t *at;
};
stretto_status shrink_begin(struct shrink *s, const struct model *m, const struct shrink_options *o,
                            struct error *err);
void shrink_end(struct shrink *s);

/* "blk.<layer>.<what>", in place. */
const char *layer_param(char name[GRAPH_NAME], uint32_t layer, const char *what);
/* A weight as float32 [n_out][n_in] in memory of the caller's; a vector has n_out 1. */
stretto_status shrink_read(const struct shrink *s, const char *name, float **out, uint32_t *n_in, uint32_t *n_out,
                           struct error *err);
/* All texts from a place of a layer to a later one: rows [tokens][width of the place]; in NULL: token ids. */
stretto_status shrink_pass(const struct shrink *s, const struct binding *b, uint32_t layer, enum piece_place from,
                           enum piece_place to, const float *in, float *out, struct error *err);
/* Evidence of both kinds from inputs rows [tokens][n] and `ask` [tokens][outputs], what is to be answered to them
 * beyond what the kept inputs do; ask NULL: what `gone` [outputs][n] answers. done frees them. */
struct two { struct evidence fit, held; };
stretto_status evidence_open(struct two *out, const struct shrink *s, const float *rows, uint32_t n, const float *ask,
                             const float *gone, uint32_t outputs, struct error *err);
void evidence_done(struct two *e);

/* What stays of n units when the first `go` of order go: ascending, each of `size` neighbours. */
void kept_of(const uint32_t *order, uint32_t n, uint32_t go, uint32_t size, uint32_t *keep);

/* The layers' sizes, as the model now has them. */
static inline uint32_t heads_each(const struct layer_config *l) { return l->heads / l->kv_heads; }
uint64_t feed_parameters(const struct shrink *s, uint32_t layer);    /* of one channel  */
uint64_t group_parameters(const struct shrink *s, uint32_t layer);   /* of one group    */
uint64_t layer_parameters(const struct shrink *s, uint32_t layer);
uint64_t all_parameters(const struct model *m);
/* Whether llama.cpp reads sizes for each layer in files of this family, under that name. */
const char *shrink_arch(const struct model *m);
#endif
