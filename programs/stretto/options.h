/* Option groups that several commands share. A command embeds the struct in its own options and
 * lists the group in its `uses`. */
#ifndef STRETTO_OPTIONS_H
#define STRETTO_OPTIONS_H
#include "stretto/command.h"

struct model_options {
    const char *model;            /* file, folder or catalogue name; NULL = the default model */
    int64_t threads;              /* 0 = what the machine and its container allow             */
    int64_t context;              /* 0 = the smaller of the model's and what fits             */
    const char *type_k, *type_v;  /* as cache_from reads them                                  */
    bool reference, strict, verbose;
    const char *arithmetic;       /* "float" or "int"; NULL = float                            */
    const char *scales;           /* a file; NULL = none                                       */
    const char *hf;               /* "USER/REPO[:QUANT]", as llama-cli spells it; NULL = none */
    bool yes;                     /* fetch a model that is not here without asking            */
    bool mlock;
    const char *cpu_mask, *cpu_range;   /* NULL: not given                                    */
    const char *device, *gpu_layers;    /* as device_from reads them (devices.h)               */
    struct text_list adapters;    /* "FILE" or "FILE=SCALE"                                  */
    struct text_list chosen;      /* no option: the same, of adapters that act where they are chosen alone */
    bool stays;                         /* no option: --device auto means the device that it finds, and no other
                                           when that fails: for commands whose figures are of one device     */
    bool quiet;                         /* no option: no progress while it is opened                          */
};

struct sampling_options {
    double temp, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    int64_t top_k, repeat_last_n, seed;
    struct text_list logit_bias;
};

struct decode_options {
    const char *words;            /* NULL = auto */
    int64_t most, window, ngram, guesses; /* 0 = the default */
    const char *draft, *heads;    /* a smaller model, a file of heads; NULL = none */
    const char *learned;          /* a file of what guessing learned; NULL = none  */
};

extern const struct option_group group_model, group_models, group_sampling, group_decode, group_guesses;

void model_options_defaults(struct model_options *o);
void sampling_options_defaults(struct sampling_options *o);
#endif
