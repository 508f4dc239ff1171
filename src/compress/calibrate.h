/* Calibration: texts walk through a model layer by layer, and what its linear layers read is measured. Only one
 * layer's weights are in memory at a time, as float32, and the residual stream of the texts between two layers.
 *
 * The walker knows weights only by the binding it is given. Who changes a layer's weights between calibration_see
 * and calibration_go has later layers see the changed ones (sequential calibration, as GPTQ does,
 * arXiv 2210.17323). */
#ifndef COMPRESS_CALIBRATE_H
#define COMPRESS_CALIBRATE_H
#include "base/log.h"
#include "base/progress.h"
#include "compress/stats.h"
#include "compress/workers.h"
#include "graph/binding.h"
#include "model/model.h"
#include <stdbool.h>

/* Windows are read as prompts of their own, none empty: token ids id[at[i]] .. id[at[i + 1]]. They begin as prompts
 * begin in use (BOS, a chat's header): the first token of a model owns much of its statistics. */
struct calibration_text { const int32_t *id; const uint32_t *at; size_t n; };

struct calibrate_options {
    struct calibration_text text;
    bool gram;                  /* collect input_stats.gram                                          */
    struct workers *workers;    /* borrowed                                                          */
    unsigned threads;           /* of steps; 0: all                                                  */
    const char *level;          /* ceiling of the steps' kernels; NULL: none                         */
    struct progress progress;
    struct log log;
    const volatile int *cancel; /* may be NULL                                                       */
};

struct calibration;

/* m: opened with graph_only or whole. b: where weights are read from, at the time of each walk. */
stretto_status calibration_open(struct calibration **out, const struct model *m, const struct binding *b,
                                const struct calibrate_options *o, struct error *err);
void calibration_close(struct calibration *c);
/* Pieces that the walk goes through, ascending: one a layer; the embedding belongs to the first, the head to
 * the last. */
uint32_t calibration_pieces(const struct calibration *c);

/* Reads the texts through the next piece and collects its statistics; the walk does not move on. */
stretto_status calibration_see(struct calibration *c, struct error *err);
/* Moves on behind the piece: rows are what the binding's weights make of them now. With `see` its statistics are
 * collected in the same pass. */
stretto_status calibration_go(struct calibration *c, bool see, struct error *err);
/* The piece that was seen last; the linear layers of the graph in it are those that have statistics. */
uint32_t calibration_at(const struct calibration *c);
/* The weights of linear layers that have them, of the piece seen last: names[0..n). */
size_t calibration_params(const struct calibration *c, const char *const **names);
/* Statistics of what the linear layer with this weight reads, of the piece seen last; NULL: it has none. Valid
 * until the next see or go. Tied heads: by the embedding's name, in the last piece. */
const struct input_stats *calibration_stats(const struct calibration *c, const char *param);
/* The texts' rows as they stand: [tokens][width], where the walk is; behind the last piece what the head reads, or
 * the hidden states of an encoder. NULL before the first layer. */
const float *calibration_rows(const struct calibration *c, size_t *tokens, uint32_t *width);
#endif
