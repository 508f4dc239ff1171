/* stretto/compress.h: making a model smaller, for programs that embed the library. What `stretto squeeze` does, in one
 * call: texts are read, weights are rounded so that the answers of their layers change least on them, a GGUF file is
 * written that llama.cpp opens too, and what it cost is measured on other texts.
 *
 * Rules as in stretto/stretto.h. Nothing is printed. */
#ifndef STRETTO_COMPRESS_H
#define STRETTO_COMPRESS_H
#include "stretto/stretto.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct stretto_squeeze_options {
    size_t size;
    const char *type;                /* "q4_k_m" (NULL), "iq4_nl", "q5_0" ...: llama-quantize's names and rules */
    const char *method;              /* "feedback" (NULL), "search" (scales alone), "plain" (as published) */
    const char *const *texts;        /* paths of texts to learn from, NULL-terminated; NULL: what is compiled in */
    const char *const *tests;        /* the same of texts to measure on */
    const char *const *keep;         /* "REGEX=TYPE" of tensors' names, NULL-terminated, the first that fits counts */
    const char *output_type, *embedding_type; /* of the head and of an embedding of its own; NULL: by the rules */
    uint64_t tokens;                 /* to learn from; 0: all */
    uint32_t windows;                /* to measure on, of each text; 0: 8 */
    uint32_t threads;                /* 0: what the machine and its container allow */
    uint32_t sequential;             /* 1: later layers learn from what the earlier ones are once written */
    uint32_t requantize;             /* 1: round also what is at as few bits already */
    uint32_t replace;                /* 1: replace an existing file */
    uint32_t no_proof;               /* 1: measure nothing */
    /* Instead of a type, 0: not asked for. Types for each weight so that the file has at most so many bytes, or bits
     * per weight, and diverges least; or has the fewest bytes whose divergence is at most `kl`, measured on `tests`; or
     * writes one answer at least so fast on this machine. Together: within all. */
    uint64_t bytes;
    double bits, kl, tokens_per_second;
    void (*progress)(void *user, const char *what, uint64_t done, uint64_t total);
    void (*log)(void *user, const char *line); /* notes about what was done, each one line without newline */
    void *user;
    const volatile int *cancel;      /* not 0: ends with E_CANCEL, and the same call goes on later; may be NULL */
} stretto_squeeze_options;
#define STRETTO_SQUEEZE_OPTIONS_INIT { sizeof(stretto_squeeze_options), NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL }

typedef struct stretto_squeeze_report {
    size_t size;                     /* set by the caller: sizeof(stretto_squeeze_report) */
    uint64_t bytes_before, bytes;    /* of the files */
    double bits_before, bits;        /* per weight */
    uint64_t tokens;                 /* that were measured; 0: nothing was, and what follows is 0 */
    double kl, kl_error;             /* KL(original || squeezed), mean over tokens and its standard error, in nats */
    double kl_back, kl_median, kl_p99; /* KL(squeezed || original); of KL the median and the 99 % point */
    double same_top;                 /* share of tokens whose best token is the same */
    double perplexity_before, perplexity;
    double speed_before, speed;      /* tokens per second that one sequence writes */
} stretto_squeeze_report;

/* model: a GGUF file. out appears only when it is whole; interrupted, out.part and out.state stay. opt and report may
 * be NULL. E_FULL: a budget that cannot be met, with the nearest there is; E_ARG: a word that is not known, nothing to
 * squeeze, out exists or is the model; E_FORMAT: a weight that is no number, with its tensor's name. err as in
 * stretto_model_open. */
STRETTO_API stretto_status stretto_squeeze(const char *model, const char *out, const stretto_squeeze_options *opt,
        stretto_squeeze_report *report, char *err, size_t err_size);

#ifdef __cplusplus
}
#endif
#endif
