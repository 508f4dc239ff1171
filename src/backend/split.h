/* A model over several devices, by layers: a device made of others, its members. Each has a run of
 * neighbouring layers with their weights and their pages; a step goes through the members in turn, and what
 * crosses from one to the next is one vector a row (graph/partition.h). Nothing above knows: it is a device
 * as any other, and its rows' bits are those of the members.
 *
 * What stands before the layers (look-ups of tokens) is with the first member, what stands behind them (the
 * head) with the last. A graph without layers, as heads that guess have, is the last member's alone.
 *
 * Members are borrowed: who opened them closes them, also before the device they are in; it holds them, so
 * that what stands on it can still be closed. A member that is gone takes the whole with it: E_DEVICE. */
#ifndef BACKEND_SPLIT_H
#define BACKEND_SPLIT_H
#include "backend/backend.h"
#include "graph/binding.h"

enum { SPLIT_MEMBERS = 16, SPLIT_AUTOMATIC = -1, SPLIT_CONTEXT = 4096 };

/* Of a model's layers the first layers[0] are the first member's, the next layers[1] the second's, and so on;
 * the last has what is left, whatever its number. A graph of fewer layers has fewer members. One device may be
 * several members. */
stretto_status split_open(struct device **out, struct device *const *members, const uint32_t *layers,
                          size_t n, struct error *err);

/* ---- how many layers go where ---------------------------------------------------------------- */

/* What is asked for: devices in the order of the layers (a card, perhaps another, last the machine's own), and
 * what else shall have room beside the weights. */
struct split_ask {
    struct device *const *members; /* [n]                                                            */
    const int32_t *layers; /* [n], SPLIT_AUTOMATIC: as many as fit; NULL: all automatic. The last member's is
                              not looked at: it has what is left. As many as the model has, or more, is the
                              whole model, head included                                          */
    size_t n;
    uint32_t context;      /* tokens of a sequence; 0: the model's, SPLIT_CONTEXT at most          */
    uint32_t sequences;    /* 0: 1                                                                 */
    uint32_t rows;         /* of a step; 0: 512                                                    */
    enum cache_type cache;
    bool reference;        /* weights as float32                                                   */
};

/* A member's part, and what it takes there: estimated from the graph and the file before anything is read,
 * by an eighth or so. */
struct split_share {
    struct device *device;
    uint32_t member;       /* its number among those that were asked for                           */
    uint32_t first, layers;
    bool head;             /* and what stands behind the layers                                    */
    uint64_t weights, pages, buffers;
    uint64_t memory;       /* what could be had there; 0: not known                                */
};

/* Members without a layer have no share; one share: the whole model fits on that member. */
struct split_shares { size_t n; struct split_share share[SPLIT_MEMBERS]; };

/* Automatic: of each member's memory an eighth is left alone, the rest is filled, in the order of the members.
 * E_UNSUP with a sentence where the graph has no place to be cut at. */
stretto_status split_plan(struct split_shares *out, const struct graph *g, const struct binding *b,
                          const struct split_ask *ask, struct error *err);
/* Opens the device that has these shares, which the caller closes. */
stretto_status split_open_shares(struct device **out, const struct split_shares *shares,
                                 struct error *err);
#endif
