/* What the public handles hold. */
#ifndef API_HANDLES_H
#define API_HANDLES_H
#include "decode/sampler.h"
#include "decode/stop.h"
#include "engine/engine.h"

struct stretto_model { struct model *model; };

struct stretto_engine {
    struct engine *engine;
    unsigned char *taken;            /* [sequences] 1: a session lives there */
};

struct stretto_session {
    struct stretto_engine *engine;
    bool private_engine;
    int32_t seq;
    struct error err;
    struct sampler sampler;
    struct arena arena;
    float *logits;                   /* [vocab] */
    int32_t best;
    bool answered;     /* the last committed row's answer is at hand                  */
    int32_t pending;   /* picked, not yet sent through the model; -1: none            */
    uint32_t n_tokens; /* the timeline, the pending token included                    */
    int32_t *tokens;   /* [context + 1]                                               */
    struct logit_bias *bias;
    struct buffer piece, whole, out; /* reserved at open: generating allocates nothing */
    struct stop_filter stop;
};

/* Copies the caller's struct over our defaults: an older caller's is shorter, a newer one's tail
 * must be zero. */
stretto_status options_take(void *ours, size_t our_size, const void *theirs, struct error *err);
/* Gives the words to the caller's buffer; returns s. */
stretto_status say(stretto_status s, const struct error *e, char *err, size_t err_size);
#endif
