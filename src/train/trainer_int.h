/* What a training holds. */
#ifndef TRAIN_TRAINER_INT_H
#define TRAIN_TRAINER_INT_H
#include "backend/backend.h"
#include "format/adapter.h"
#include "format/content.h"
#include "model/model.h"
#include "text/chat.h"
#include "train/checkpoint.h"
#include "train/pack.h"
#include "train/trainer.h"
#include <limits.h>
#include <stdio.h>

struct trainer {
    struct train_options o;
    struct train_plan plan;
    struct model *model;          /* its graph and file alone                                  */
    struct chat *chat;
    struct lines lines, held;
    char base[CONTENT_DIGITS], template[CONTENT_DIGITS], data[CONTENT_DIGITS], held_data[CONTENT_DIGITS];
    time_t now;                   /* when it was begun, for templates that print a date        */
    struct adapter adapter;       /* the pairs, A drawn and B zero                             */
    struct graph forward;         /* with the adapter                                          */
    struct graph back, loss;      /* differentiated; answers losses alone                      */
    uint8_t *trained;             /* [n_params]                                                */
    struct device *device;
    struct weights *weights;
    struct program *program, *measuring;
    struct packing packing, held_packing;
    struct packed packed, held_packed;
    struct lr_schedule schedule;
    uint64_t step, epoch, epoch_begin; /* done; the epoch whose packing is here, and the steps before it */
    uint64_t rows, learned;       /* of all steps done                                         */
    double seconds, step_seconds, save_seconds; /* of all; smoothed                             */
    uint64_t saved;               /* the step of the last checkpoint                           */
    double first_loss, mean_loss, best_held; /* 0: none yet                                    */
    uint64_t best_step;
    unsigned worse;               /* measurements in a row that were worse than the best       */
    bool warned_loss, warned_held;
    int lock;                     /* of the folder; -1                                         */
    FILE *log;
};

/* ---- trainer_graph.c */
stretto_status trainer_make_graph(struct trainer *t, struct error *err);
stretto_status trainer_param(void *ud, const char *name, uint32_t n_in, uint32_t n_out, struct param_bytes *out,
                             struct error *err);
/* Uploads (measure: only its size is known) and plans with the keep that the options ask for. */
stretto_status trainer_upload(struct trainer *t, bool measure, struct error *err);
stretto_status trainer_compile(struct trainer *t, struct error *err);

/* ---- trainer_run.c: the folder */
stretto_status trainer_path(const char *folder, const char *name, char out[PATH_MAX], struct error *err);
stretto_status trainer_folder(struct trainer *t, struct error *err);
stretto_status trainer_run_begin(struct trainer *t, struct error *err);
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
stretto_status trainer_held(struct trainer *t, double *loss, double *error, struct error *err);
/* ---- trainer_rates.c: where that was asked for, finds plan.lr; weights are as before behind it */
stretto_status trainer_try_rates(struct trainer *t, struct error *err);
stretto_status trainer_time(struct trainer *t, double *seconds_per_row, struct error *err);
#endif
