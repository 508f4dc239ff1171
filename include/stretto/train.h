/* stretto/train.h: letting a model learn, for programs that embed the library. What `stretto teach` does, step by
 * step: lines of data are read, an adapter beside the model or the model itself changes, and what was learned is
 * written into a folder. A training that was cut off at any moment goes on from that folder and ends with the same
 * bytes.
 *
 * Rules as in stretto/stretto.h. Nothing is printed. A trainer is used by one thread. */
#ifndef STRETTO_TRAIN_H
#define STRETTO_TRAIN_H
#include "stretto/stretto.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct stretto_trainer stretto_trainer;

/* Numbers that are 0 mean what is usual; texts that are NULL too. */
typedef struct stretto_train_options {
    size_t size;
    const char *method;              /* "lora" (NULL): an adapter; "full": all weights, in float32; "heads": what
                                        guesses beside a model that stays as it is */
    const char *const *data;         /* paths of JSON lines to learn from, NULL-terminated */
    const char *const *valid;        /* the same, measured and not learned; NULL: `hold_out` of the data */
    double hold_out;                 /* a share of the lines, whole groups; below 0: none; 0: 0.02 */
    uint32_t rank;                   /* of the adapter; 0: 16 */
    double alpha;                    /* it adds alpha / rank times what it computes; 0: 2 times the rank */
    const char *targets;             /* an expression (POSIX) for names of weights that get an adapter */
    uint32_t last_layers;            /* adapters in the last layers alone */
    double learning_rate;            /* at its highest; 0: by method and size of the model; below 0:
                                        five around that are tried first */
    const char *schedule;            /* "cosine" (NULL), "linear", "constant" */
    uint32_t epochs;                 /* times that all lines are learned from; 0: 1 */
    uint64_t steps;                  /* at most; 0: as the epochs have */
    double budget;                   /* seconds that it may take: as many steps as fit; 0: any */
    uint32_t rows;                   /* tokens of a step, about; 0: 2048 */
    uint32_t context;                /* tokens of a line at most; 0: what the model was made for */
    uint64_t seed;                   /* 0: 1 */
    uint32_t skip_long;              /* 1: longer lines are left out; 0: they are an error */
    uint32_t resume;                 /* 1: goes on with the training in the folder, which must be the same */
    uint32_t threads;                /* 0: what the machine and its container allow; they change no bit */
    void (*progress)(void *user, const char *what, uint64_t done, uint64_t total);
    void (*log)(void *user, const char *line); /* notes, each one line without newline */
    void *user;
    const volatile int *cancel;      /* not 0: a step ends with E_CANCEL and was not made; may be NULL */
    const char *optimizer;           /* "adamw" (NULL) or "adafactor" */
    uint32_t optimizer_bytes;        /* AdamW's of a parameter, with its gradient: 16, 12 or 10; 0: 16 */
    uint32_t plain_text;             /* 1: what is spelled as a special token in lines of text is text */
    double average;                  /* what is measured and written is the mean of what was learned so far, each step
                                        weighing so many times the one behind it, as 0.99; 0: what was learned last */
    double agreement;                /* of watched answers with those before, at least; see watch */
    uint32_t watch;                  /* held-out prompts that are answered at every measurement; where answers collapse,
                                        a step ends with E_NAN, and the last state that was well is written; 0: none */
    uint32_t learn_prompts;          /* 1: what stands in prompts is learned too */
    const char *rows_of;             /* tokens on whose rows the adapter acts: "all" (NULL), "given" (prompts),
                                        "answers", "guesses" (needs block) */
    /* Another model, with the same tokens, that says what is learned in place of the lines' own (a file or folder).
     * Losses are then divergences from it, KL(teacher || model). It is asked once, before the first step. */
    const char *teacher;
    const char *teacher_cache;       /* a file for its answers, for further trainings too; NULL: in the folder */
    uint32_t teacher_top;            /* likeliest tokens of an answer that are kept; 0: 16 */
    uint32_t teacher_drawn;          /* tokens drawn from the others; 0: 16 */
    double written;                  /* from the second epoch on the model answers this share of the lines itself */
    uint32_t phrases;                /* tokens for phrases that answers of 10 groups have in common, at most; 0: none */
    /* Of heads, which heads.safetensors holds in the end (stretto_decoding.heads). */
    const char *head;                /* "recursive" (NULL): one that reads its own guess; "medusa" */
    const char *beside;              /* an adapter (LoRA) beside which the model runs; NULL: none */
    uint32_t depth;                  /* tokens that are guessed in a row while it learns; 0: 4 */
    uint32_t slice;                  /* tokens that can be guessed, the most frequent of answers; 0: 8192 */
    uint32_t feed;                   /* channels inside of the recursive head; 0: twice the width */
    /* The model learns to guess: noisy copies of blocks of answers beside them. */
    uint32_t block, copies;          /* tokens of a block, 0: none, or as states has them; copies of each, 0: 2 */
    const char *states;              /* a file of `stretto trace jacobi` of this model, learned from too; NULL: none */
    const char *noisy_loss;          /* what noisy rows learn: "ce" (NULL), "kl" or "cllm" */
    double noisy_weight, ar;         /* what all copies of a token count together, and the clean one; 0: 1;
                                        ar below 0: clean ones are not learned */
} stretto_train_options;
#define STRETTO_TRAIN_OPTIONS_INIT { sizeof(stretto_train_options), NULL, NULL, NULL, 0, 0, 0, NULL, 0, 0, NULL, 0, \
        0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, 0, 0, 0, 0, \
        NULL, NULL, 0, 0, 0, 0, 0, NULL, NULL, 0, 0 }

/* What a training will be. */
typedef struct stretto_train_plan {
    size_t size;                     /* set by the caller: sizeof(stretto_train_plan) */
    uint64_t lines, tokens, learned; /* learned: tokens that count */
    uint64_t held, skipped;          /* lines that are held out, and that were too long */
    uint64_t rows, steps;            /* of an epoch; of all */
    uint64_t parameters, trained;
    uint64_t bytes, checkpoint_bytes; /* of memory, about; on disk, of which two are kept. 0 before trainer_measure */
    double operations;               /* of all */
    /* With a teacher: rows that it answers, bytes of its answers on disk, and of its weights, which are in memory
     * while it is asked. */
    uint64_t taught, taught_bytes, teacher_bytes;
} stretto_train_plan;

typedef struct stretto_train_report {
    size_t size;                     /* set by the caller: sizeof(stretto_train_report) */
    uint64_t step, steps;
    double loss, loss_error;         /* of the batch, nats a token, and its standard error */
    double held, held_error;         /* of what is held out; NAN where it was not measured at this step */
    double learning_rate, gradient;  /* the gradient's norm before it was clipped */
    double seconds;
    uint64_t rows;
    int done;                        /* 1: it was the last */
    double noisy, held_noisy;        /* of noisy copies, as loss and held are of clean rows; NAN: there are none */
    double per_step;                 /* tokens of watched answers in a step of Jacobi decoding; NAN as held */
} stretto_train_report;

/* Reads the data and looks at the model, a GGUF file; no weight is read yet. The folder is made where it is not there.
 * E_FORMAT with the line of the data that is wrong; E_ARG with what does not go together. err as in
 * stretto_model_open. */
STRETTO_API stretto_status stretto_trainer_open(stretto_trainer **out, const char *model, const char *folder,
        const stretto_train_options *opt, char *err, size_t err_size);
STRETTO_API const char *stretto_trainer_error(const stretto_trainer *t);      /* of the last call that failed */
STRETTO_API stretto_status stretto_trainer_plan(stretto_trainer *t, stretto_train_plan *plan);
/* Fills in the plan's bytes; nothing runs. Before the first step. */
STRETTO_API stretto_status stretto_trainer_measure(stretto_trainer *t);
/* Learns from one batch; the first call takes memory, and begins or goes on. E_NAN: a value is no number, with
 * row, layer and line; what was learned before is as it was. E_ARG: the folder holds another training. */
STRETTO_API stretto_status stretto_trainer_step(stretto_trainer *t, stretto_train_report *report);
/* A checkpoint of now; steps write them too, as often as takes a twentieth of the time. */
STRETTO_API stretto_status stretto_trainer_save(stretto_trainer *t);
/* Behind the last step: writes adapter.gguf and the folder peft, or model.gguf. */
STRETTO_API stretto_status stretto_trainer_finish(stretto_trainer *t);
STRETTO_API void stretto_trainer_close(stretto_trainer *t);                   /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
