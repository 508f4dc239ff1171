/* A training: a model learns from lines of data, as a whole or through an adapter. It is a folder:
 *
 *   run.json             what was asked for, and of what: model, template, data
 *   step-*.safetensors   checkpoints (checkpoint.h), the last two
 *   log.jsonl            a line for each step and each measurement
 *   answers.json         where answers are watched: token ids of those before anything was learned
 *   teacher.cache        where another model says what is learned, its answers (taught.h)
 *   adapter.gguf, peft/  what was learned, once the last step is done (format/adapter.h);
 *   heads.safetensors    or of method heads what guesses beside the model (engine/head_model.h), and hidden.cache, what
 *                        they read of it
 *   model.gguf           or of method full the model in the types it had, model.f32.gguf as it was learned
 *
 * trainer_open reads the data and looks at the model, trainer_begin takes memory and begins or goes on, trainer_step
 * learns from one batch, trainer_finish writes what was learned. A training that was cut off at any moment goes on
 * from its last checkpoint and ends with the same bytes. Nothing but what follows from options, data and model is
 * in them: neither the threads nor the clock. Used by one thread. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H
#include "backend/backend.h"
#include "base/log.h"
#include "base/progress.h"
#include "graph/differentiate.h"
#include "train/heads.h"
#include "train/lines.h"
#include "train/noise.h"
#include "train/phrases.h"
#include "train/schedule.h"

struct trainer;

enum train_method { TRAIN_LORA, TRAIN_FULL, TRAIN_HEADS, TRAIN_METHODS };
extern const char *const train_method_names[TRAIN_METHODS];
enum train_keep { TRAIN_KEEP_AUTO, TRAIN_KEEP_VALUES, TRAIN_KEEP_LAYERS, TRAIN_KEEPS };
extern const char *const train_keep_names[TRAIN_KEEPS];
extern const char *const train_optimizer_names[OPTIMIZERS];
extern const char *const train_precision_names[PRECISIONS];
/* What noisy rows learn: the line's tokens; what the model said there before it learned, or its teacher says; what it
 * says there itself in the same step, having read what is right (the global loss of arXiv 2403.00835). */
enum train_loss { TRAIN_LOSS_CE, TRAIN_LOSS_KL, TRAIN_LOSS_CLLM, TRAIN_LOSSES };
extern const char *const train_loss_names[TRAIN_LOSSES];

/* Texts and lists are the caller's until the trainer is closed. */
struct train_options {
    const char *model;           /* a GGUF file                                                            */
    const char *folder;          /* of the training; made where it is not there                            */
    const char *const *data; size_t n_data;
    const char *const *valid; size_t n_valid; /* what is measured on; none: `hold_out` of the data          */
    double hold_out;             /* share of the data                                                      */
    enum train_method method;
    uint32_t rank;
    enum head_kind head;         /* of the method heads, with those below                                  */
    const char *lora;            /* an adapter beside the model, whose states they read then; NULL: none    */
    uint32_t depth;              /* tokens that are guessed in a row, in training; Medusa has a head for each */
    uint32_t slice;              /* tokens that can be guessed: the most frequent of answers; 0: all       */
    uint32_t feed;               /* channels inside of the recursive head; 0: twice the width              */
    double alpha;                /* 0: twice the rank                                                      */
    /* A model that says what is learned in place of the lines' tokens, which are read as they stand: with all weights
     * trained it is distilled, or what lost some is repaired. Its tokens are the same.                              */
    const char *teacher;         /* a file or folder; NULL: none                                           */
    const char *teacher_cache;   /* its answers, or the hidden states for heads; NULL: teacher.cache or hidden.cache
                                    in the folder                                                          */
    uint32_t teacher_top, teacher_drawn; /* of a row (taught.h)                                            */
    double written;              /* from the second epoch on, the share of lines that the model answers itself */
    bool learn_prompts;          /* tokens of prompts count too                                            */
    const char *targets;         /* an expression (POSIX) for names of weights; NULL: all linear layers    */
    const char *rows_of;         /* the rows on which it acts: "all" (NULL), "given", "answers" (format/adapter.h) */
    uint32_t last_layers;        /* of the last so many layers alone; 0: all                               */
    /* Consistency: noisy copies of answers beside the clean ones (noise.h), so that the model learns to guess.      */
    uint32_t block, copies;      /* tokens of a block, 0: none, or those of states; copies of each block   */
    const char *states;          /* a file of `stretto trace` of this model: lines too, whose noise is what it had
                                    in mind there; NULL: all noise is drawn                                */
    enum train_loss loss;        /* of noisy rows                                                          */
    double noisy_weight, ar;     /* what all copies of a token count together, and the clean row           */
    double lr;                   /* 0: by method and size of the model                                     */
    bool try_rates;              /* five around that are tried, and the best is taken                      */
    enum schedule_kind schedule;
    double warm;                 /* share of the steps                                                     */
    double clip, decay, beta1, beta2, eps;
    enum optimizer optimizer;
    uint32_t optimizer_bytes;    /* AdamW's of a parameter, its gradient among them: 16, 12 or 10          */
    enum precision precision;    /* f16: with a factor for the loss, that follows what overflows           */
    double average;              /* b: what is measured and written is the mean of what was learned so far, step i of t
                                    by b^(t - i); 0: what was learned last                                 */
    uint32_t epochs;
    uint64_t steps;              /* at most; 0: as many as the epochs have                                 */
    uint32_t batch_rows;         /* of an update                                                           */
    uint32_t step_rows;          /* at once; 0: 256, or as many as the longest line needs                  */
    uint32_t context;            /* tokens of a line at most; 0: what the model was made for               */
    double budget;               /* seconds; 0: none. Measured, then fewer steps are made where needed     */
    uint64_t seed;
    uint32_t phrases;            /* tokens for phrases of the answers, at most (phrases.h); 0: none         */
    enum train_keep keep;
    uint32_t measure;            /* steps from one measurement to the next; 0: ten in a training           */
    uint32_t watch;              /* held-out prompts that are answered at every measurement; 0: none       */
    double agreement;            /* of these answers with those before, at least                           */
    uint32_t save;               /* steps between checkpoints; 0: as often as costs a twentieth of the time */
    bool skip_long, plain_text, resume, save_f32;
    unsigned threads;            /* 0: all                                                                 */
    const char *level;           /* ceiling of the kernels; NULL: none                                     */
    uint64_t memory;             /* bytes that may be taken; 0: what the machine has                       */
    struct progress progress;
    struct log log;
    const volatile int *cancel;  /* may be NULL                                                            */
};
/* What is usual: LoRA of rank 16 on all linear layers. */
void train_options_defaults(struct train_options *o);

/* What a training will be. */
struct train_plan {
    uint64_t samples, tokens, learned, held, held_learned;
    uint32_t skipped, longest;
    uint64_t rows, rows_alone;   /* of an epoch; without shared beginnings                                 */
    uint64_t noisy_rows;         /* of these, of copies                                                    */
    bool distils;                /* clean rows learn from a teacher                                        */
    uint64_t steps;
    uint32_t step_rows, batch_rows, epochs, pairs;
    uint64_t parameters, trained;
    double lr;
    double row_flops, flops;     /* of a row, forward and backward; of the whole training                  */
    /* Bytes: 0 before trainer_measure. */
    uint64_t weights_bytes, program_bytes, data_bytes, checkpoint_bytes;
    uint64_t writing_bytes;      /* of memory, while checkpoints and what was learned are written         */
    enum keep keep;
    /* Of a teacher, 0 without one: rows that it is asked about, bytes of its answers on disk and of its weights. */
    uint64_t taught_rows, taught_bytes, teacher_bytes;
    double teacher_flops;
    uint64_t hidden_rows, hidden_bytes; double hidden_flops; /* of heads: states that they read, on disk; of reading */
    bool teacher_again;          /* it is asked in the middle of the training too, beside its memory       */
    double roof;                 /* flops a second that float32 reaches here at most; 0: not known         */
};

struct train_report {
    uint64_t step, steps;
    double loss, error;          /* mean of the batch in nats, by weight, and its standard error; with a teacher
                                  * the divergence from it, KL(teacher || model). Of clean rows; where they do not
                                  * count, of noisy ones                                                   */
    double noisy, noisy_error;   /* of noisy rows; NAN: there are none                                     */
    double lr, norm;             /* of the gradient before it was clipped                                  */
    uint64_t rows, learned;
    double seconds, save_seconds; /* of this step; of writing a checkpoint behind it, 0: none               */
    double held, held_error;     /* of what is held out; NAN: not measured at this step                    */
    double held_noisy;           /* of noisy rows of it                                                    */
    double first_held;           /* before anything was learned; NAN: not measured                         */
    double distinct, agreement;  /* of watched answers: the share of runs of four tokens that are new in their
                                    answer; the mean share that they have of those before, from the beginning on */
    double per_step;             /* of their tokens in a step of Jacobi decoding with windows of a block; NAN: no noise,
                                    or not measured at this step */
    double first_per_step;       /* before anything was learned; NAN: not known here                       */
    struct head_accept accept;   /* of heads: on what is held out; n 0: not measured                       */
    bool skipped;                /* values overflowed and nothing was changed: precision f16; the loss may be NAN */
    bool done;                   /* it was the last                                                        */
};

/* E_FORMAT, E_ARG with a sentence about data, model or options. */
stretto_status trainer_open(struct trainer **out, const struct train_options *o, struct error *err);
const struct train_plan *trainer_plan(const struct trainer *t);
/* Fills the plan's bytes; nothing runs, and no weight is read. */
stretto_status trainer_measure(struct trainer *t, struct error *err);
const struct lines *trainer_lines(const struct trainer *t);
/* How the noisy copies of these lines are made; block 0: there are none. */
const struct noise_how *trainer_noise(const struct trainer *t);
const struct tokenizer *trainer_tokenizer(const struct trainer *t);
/* Those that were found; table.n is 0 where none were asked for. */
const struct found_phrases *trainer_phrases(const struct trainer *t);

/* Memory, weights, programs; the folder is begun, or gone on with. */
stretto_status trainer_begin(struct trainer *t, struct error *err);
/* The step that was done last. */
uint64_t trainer_at(const struct trainer *t);
/* Steps until now that changed nothing, because values overflowed; the factor of the loss, 1 but for f16. */
uint64_t trainer_skipped(const struct trainer *t, double *scale);
/* One batch. E_NAN where a value is no number: with row, layer and line; what was learned before is as it was. E_NAN
 * too where watched answers have collapsed: what was learned until the last step that was well is written.
 * E_CANCEL: the step was not done. */
stretto_status trainer_step(struct trainer *t, struct train_report *r, struct error *err);
/* A checkpoint of now, where there is none. */
stretto_status trainer_save(struct trainer *t, struct error *err);
/* Writes what was learned. */
stretto_status trainer_finish(struct trainer *t, struct error *err);
/* With a teacher, behind trainer_finish of a whole model in coarser types than it was learned in: what the file says of
 * what is held out. NAN: not measured. */
double trainer_held_written(const struct trainer *t);
void trainer_close(struct trainer *t);                             /* NULL is fine */

/* What run.json of a folder says, for who goes on: a text of JSON in memory of the caller's (mem_free). E_ARG
 * where there is no training. */
stretto_status train_run_text(const char *folder, char **out, struct error *err);
#endif
