/* A model of a smaller shape: feed-forward channels, groups of heads and whole layers go, and what stays is solved
 * anew so that it answers as the whole did. What is written is an ordinary model.
 *
 *   survey   one walk through the layers: in which order the feed-forward channels of a layer go so that the rest can
 *            make up for them (optimal brain surgeon on columns: ZipLM, arXiv 2302.04089), and how far the model's
 *            answers move when a quarter of a layer's channels, a group of its heads, or the layer goes
 *   plan     which of it goes: the least sum of these damages that gives the share asked for
 *   write    layer by layer, behind layers that are smaller already: ffn_down and attn_output are solved by ridge
 *            regression for what the original answers there, on the inputs that are left and as they now come
 *            (compare LLM-Pruner arXiv 2305.11627, SlimGPT arXiv 2412.18110); what earlier layers lost is part of
 *            what is solved for
 *
 * Widths are multiples of 64. A file of the llama family is written under the name deci, which has sizes for each layer
 * in llama.cpp too; other families keep one size for all layers. */
#ifndef COMPRESS_SHRINK_H
#define COMPRESS_SHRINK_H
#include "compress/calibrate.h"

struct shrink_options {
    double share;           /* of the model's parameters that goes, of whatever kind; or, where it is 0:      */
    double feed, heads;     /* shares of feed-forward channels and of groups of heads,               */
    uint32_t layers;        /* and a number of layers                                                */
    struct calibration_text text;   /* every fifth window is set aside to try on                    */
    size_t trial_tokens;            /* of those, that changes of single layers are tried on; 0: 1024 */
    struct workers *workers;        /* borrowed                                                      */
    bool plain;             /* what goes by the size of its weights, and nothing is solved: to compare with  */
    bool force;             /* replace an existing file                                              */
    struct progress progress;
    struct log log;
    const volatile int *cancel; /* may be NULL */
};

/* What becomes of a layer. */
struct shrink_layer {
    bool gone;
    uint32_t feed, kv_heads;        /* what stays                                                    */
    /* Nats a token by which answers move: without a quarter of its channels, without its cheapest group (negative:
     * not tried), without the layer. */
    double feed_damage, heads_damage, layer_damage;
};
struct shrink_plan {
    uint32_t layers;
    struct shrink_layer *layer;     /* [layers] */
    uint64_t parameters, left;      /* of the whole model                                            */
    double damage;                  /* the sum that was expected                                     */
    uint32_t *order;                /* [layers][feed] channels, the first to go first; NULL: none                    */
    uint32_t *group_order;          /* [layers][kv_heads] likewise                                   */
};
void shrink_plan_done(struct shrink_plan *p);

/* m: of a GGUF file, opened with graph_only or whole. */
stretto_status shrink_survey(struct shrink_plan *plan, const struct model *m, const struct shrink_options *o,
                             struct error *err);
/* The plan that a file was made by, from its metadata; channels and groups go by the size of their weights unless
 * the file's own are known. E_ARG where it was made of a model of another shape. */
stretto_status shrink_plan_of(struct shrink_plan *plan, const struct model *m, const char *path, struct error *err);
/* The file, whole, opened again and run before it is called so. */
stretto_status shrink_write(const struct shrink_plan *plan, const struct model *m, const char *path,
                            const struct shrink_options *o, struct error *err);
#endif
