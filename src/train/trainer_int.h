/* What a training holds. */
#ifndef TRAIN_TRAINER_INT_H
#define TRAIN_TRAINER_INT_H
#include "backend/backend.h"
#include "format/adapter.h"
#include "format/content.h"
#include "model/model.h"
#include "text/chat.h"
#include "train/checkpoint.h"
#include "train/heads.h"
#include "train/pack.h"
#include "train/teacher.h"
#include "train/trainer.h"
#include <limits.h>
#include <stdio.h>

enum { LEVEL_MOST = 32 };

/* What is watched from step to step, and kept with checkpoints. */
struct watched {
    double first_loss, mean_loss, best_held; /* 0: none yet                                    */
    uint64_t best_step, worse;    /* worse: measurements in a row that were worse than the best */
};

/* Greedy answers to prompts that are held out, and how many of their tokens came in a step of the way in which they
 * were decoded: plain, or Jacobi's where the model learns to guess. */
struct watch { uint32_t answers, *n; int32_t *token; double per_step; };

/* The factor of the loss in f16 (arXiv 1710.03740 and the rule of its authors' software): half of it where a step
 * overflows, which then changes nothing; twice behind so many steps without one. */
enum { SCALE_FIRST = 1 << 16, SCALE_STEPS = 2000 };
struct scaling { double scale; uint64_t clean, skipped; };

/* Rows that are computed together, unless a line is longer: gradients of all weights are read and written once for
 * each so many. */
enum { STEP_ROWS = 256 };

/* Of heads: what is trained is in the graph `forward` and begins as `first`. */
enum { HEADS_PARAMS = 2 * MAX_HEADS + 2 };
struct trainer_heads {
    struct head_shape shape;
    struct head_rows rows;
    int32_t *token, *place;       /* [guessed] ids that can be guessed; [vocab] where they are, -1: nowhere */
    struct param_bytes slice;     /* their rows of the output layer                            */
    float *first[HEADS_PARAMS];   /* by parameter                                              */
};

struct trainer {
    struct train_options o;
    struct train_plan plan;
    struct model *model;          /* its graph and file alone                                  */
    struct chat *chat;
    struct lines lines, held;
    struct found_phrases phrases;
    struct noise_how noise;       /* block 0: no noisy copies                                   */
    struct states states;
    char base[CONTENT_DIGITS], template[CONTENT_DIGITS], data[CONTENT_DIGITS], held_data[CONTENT_DIGITS],
         traced[CONTENT_DIGITS];
    time_t now;                   /* when it was begun, for templates that print a date        */
    struct model *teacher;        /* its graph and file alone, until it has been asked         */
    char taught_by[CONTENT_DIGITS], taught_path[PATH_MAX];
    struct taught taught, taught_written;
    struct lines written, mixed;  /* of this epoch: what the model wrote itself; all lines, with it */
    char written_path[PATH_MAX];
    double asking_seconds;        /* of the teacher, of this call                              */
    struct trainer_heads heads;
    struct adapter adapter;       /* the pairs, A drawn and B zero                             */
    struct model_adapter running; /* it, for engines; it owns nothing                          */
    struct graph forward;         /* with the adapter                                          */
    struct graph back, loss;      /* differentiated; answers losses alone                      */
    uint8_t *trained;             /* [n_params]                                                */
    struct device *device;
    struct weights *weights;
    struct program *program, *measuring;
    struct packing packing, held_packing;
    struct packed packed, held_packed;
    struct lr_schedule schedule;
    uint32_t batches;             /* of an epoch                                               */
    uint64_t step, epoch, epoch_begin; /* done; the epoch whose packing is here, and the steps before it */
    uint64_t epoch_steps;         /* of it                                                     */
    uint64_t rows, learned;       /* of all steps done                                         */
    double seconds, step_seconds, save_seconds; /* of all; smoothed                             */
    uint64_t saved;               /* the step of the last checkpoint                           */
    struct watched watched;
    struct scaling scaling;
    struct watch before;          /* what the model answered before it learned                  */
    uint64_t good;                /* the last checkpoint whose answers were well; 0: none       */
    double first_held, held_written; /* held_written: by the file. NAN: not measured           */
    bool warned_loss, warned_held;
    bool spoilt;                  /* what is in memory is not to be saved                      */
    char level[LEVEL_MOST];       /* of the kernels that a training which goes on was begun with */
    int lock;                     /* of the folder; -1                                         */
    FILE *log;
};

/* Whether the averages are of something: one is kept, and a step has changed it. */
static inline bool trainer_averages(const struct trainer *t)
{
    return t->o.average > 0 && t->step > t->scaling.skipped;
}

/* What one measurement says: means by weight in nats, and their standard errors. */
struct losses { double clean, clean_error, noisy, noisy_error; };

/* ---- trainer_graph.c */
stretto_status trainer_make_graph(struct trainer *t, struct error *err);
/* What an adapter begins with is with the weights now. */
void trainer_pairs_done(struct trainer *t);
/* Whether a parameter is the last rows of a table, NAME.rows; out (may be NULL): the table. */
bool trainer_table_of(const char *name, char out[GRAPH_NAME]);
stretto_status trainer_param(void *ud, const char *name, uint32_t n_in, uint32_t n_out, struct param_bytes *out,
                             struct error *err);
/* Uploads (measure: only its size is known) and plans with the keep that the options ask for. */
stretto_status trainer_upload(struct trainer *t, bool measure, struct error *err);
stretto_status trainer_compile(struct trainer *t, struct error *err);
/* As a model that runs, for an engine: with what is trained as it is now. */
struct model trainer_running(const struct trainer *t);
/* What the model in a file says of what is held out: it has the graph of this one. */
stretto_status trainer_held_of(struct trainer *t, const char *path, struct losses *held, struct error *err);

/* The level of the kernels by which it is computed. */
void trainer_level(const struct trainer *t, char out[LEVEL_MOST]);

/* ---- trainer_teacher.c: nothing happens where there is none */
/* Looks at it, and numbers the samples by the records of its answers. */
stretto_status trainer_teacher_open(struct trainer *t, struct error *err);
/* Its digest, which is not the model's own. */
stretto_status trainer_teacher_content(struct trainer *t, struct error *err);
/* Its answers are there, and its memory is given back. */
stretto_status trainer_teacher_ask(struct trainer *t, struct error *err);
static inline const struct taught *trainer_taught(const struct trainer *t) { return t->o.teacher ? &t->taught : NULL; }

/* The same for any lines: their answers in a file at path, which stays the caller's. */
stretto_status trainer_teacher_ask_of(struct trainer *t, struct taught *to, const char *path, const struct lines *l,
                                      const struct lines *held, struct error *err);

/* ---- trainer_heads.c: nothing happens with other methods */
bool trainer_has_heads(const struct trainer *t);
static inline const struct head_rows *trainer_head_rows(const struct trainer *t)
{
    return t->o.method == TRAIN_HEADS ? &t->heads.rows : NULL;
}
stretto_status trainer_heads_open(struct trainer *t, struct error *err);
void trainer_heads_plan(struct trainer *t);
/* The model's hidden states are in their file. */
stretto_status trainer_heads_ask(struct trainer *t, struct error *err);
stretto_status trainer_heads_graph(struct trainer *t, struct error *err);
stretto_status trainer_heads_param(struct trainer *t, const char *name, uint32_t n_in, uint32_t n_out,
                                   struct param_bytes *out, struct error *err);
void trainer_heads_done(struct trainer *t);
/* heads.safetensors, as they are now. */
stretto_status trainer_heads_write(struct trainer *t, struct error *err);
/* n 0: not measured. */
stretto_status trainer_heads_measure(struct trainer *t, struct head_accept *out, struct error *err);

/* ---- trainer_written.c: t->mixed for an epoch, of which the model writes a part where it is not there */
stretto_status trainer_write_lines(struct trainer *t, uint64_t epoch, struct error *err);

/* ---- trainer_run.c: the folder */
stretto_status trainer_path(const char *folder, const char *name, char out[PATH_MAX], struct error *err);
stretto_status trainer_folder(struct trainer *t, struct error *err);
stretto_status trainer_run_begin(struct trainer *t, struct error *err);
struct checkpoint trainer_checkpoint(const struct trainer *t);
/* Takes up the newest checkpoint of the folder; where there is none it changes nothing. */
stretto_status trainer_go_on(struct trainer *t, struct error *err);
/* Behind the step that is gone on from: lines of later ones go. */
stretto_status trainer_log_open(struct trainer *t, struct error *err);
/* Norms of the gradients of adapters, or of all that is trained, in the first step. */
stretto_status trainer_log_first(struct trainer *t, const double *squares, struct error *err);
stretto_status trainer_log_step(struct trainer *t, const struct train_report *r, struct error *err);

/* ---- trainer_step.c */
stretto_status trainer_epoch(struct trainer *t, uint64_t step, struct error *err);
stretto_status trainer_learn(struct trainer *t, struct packing *from, size_t batch, uint64_t number,
                             struct train_report *r, struct error *err);
stretto_status trainer_held(struct trainer *t, struct losses *out, struct error *err);
/* ---- trainer_watch.c */
void watch_done(struct watch *w);
/* Bytes of the engine that answers. */
stretto_status watch_bytes(const struct trainer *t, uint64_t *out, struct error *err);
stretto_status watch_begin(struct trainer *t, struct error *err);
/* Answers, where that was asked for: at step 0 those that others are compared with. */
stretto_status trainer_watch(struct trainer *t, struct train_report *r, struct error *err);
/* E_NAN where they have collapsed; then the trainer is at the last step that was well. */
stretto_status trainer_judge(struct trainer *t, const struct train_report *r, struct error *err);
/* ---- trainer_write.c */
/* A parameter as it would be written. */
stretto_status trainer_learned(const struct trainer *t, const char *name, float *out, struct error *err);
/* What was learned, whatever the step. */
stretto_status trainer_write(struct trainer *t, struct error *err);
/* ---- trainer_rates.c: where that was asked for, finds plan.lr; weights are as before behind it */
stretto_status trainer_try_rates(struct trainer *t, struct error *err);
stretto_status trainer_time(struct trainer *t, double *seconds_per_row, struct error *err);
#endif
