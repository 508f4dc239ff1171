/* What the parts of `stretto squeeze` share: what was asked for, what came of it, and how that is shown. */
#ifndef STRETTO_SQUEEZE_COMMAND_H
#define STRETTO_SQUEEZE_COMMAND_H
#include "compress/reach.h"
#include "compress/squeeze.h"
#include "stretto/command.h"
#include "stretto/squeeze_shape.h"
#include <jansson.h>

struct squeeze_command {
    const char *model, *out, *type, *method, *share, *output_type, *embedding_type, *only, *size, *sweep,
        *imatrix, *report, *task, *cache;
    struct text_list calibrate, test, keep;
    int64_t tokens, windows, threads, bits, tasks;
    double bpw, max_kl, speed;
    bool sequential, requantize, dry_run, no_proof, pack, force, yes, quiet, json;
    struct shape_command shape;
};

/* What a run did. */
struct squeeze_result {
    struct squeeze *squeeze;
    struct judge *judge;                /* NULL: nothing was measured */
    struct verdict verdict;
    struct cache_verdict cache[EVAL_MODELS];
    size_t n_caches;
    json_t *task;                       /* NULL: none was asked for, or can be */
    struct exchange exchange[EXCHANGES];        /* of a budget */
    bool has_exchange;
    const char *in, *out;
    uint64_t in_bytes, out_bytes, plain_bytes;   /* plain: before packing; 0: not packed */
    struct margin chosen;                       /* of a budget: on the windows set aside */
    double seconds, base_speed;
    uint64_t peak_bytes;
};

/* Whether all of these types exist. */
int sweep_check(const char *words);
/* A line, or JSON, for each of these types ("q4_0,iq4_nl", "all"); files are written beside r->out and removed. *out:
 * the JSON, to be given back. */
stretto_status squeeze_sweep(struct squeeze_result *r, const char *words, bool json, json_t **out, struct error *err);

/* The task of a proof. word: as `stretto eval` has it, NULL: none; file: NULL: what is built in. */
struct task_choice { const char *word, *name, *file; bool by_default; };
/* "hellaswag", "piqa=FILE", "none"; NULL: the default. An exit code. */
int task_read(const char *words, struct task_choice *out);
/* Whether its file can be read, before anything else is done. */
int task_check(const struct task_choice *t, const struct squeeze_command *c);
/* Whether a model of this context is asked. */
bool task_fits(const struct task_choice *t, uint32_t context);
/* Both files answer. *result: figures, to be given back (report.h: task). An exit code. */
int task_measure(const struct task_choice *t, const struct squeeze_command *c, const char *original, const char *out,
                 json_t **result);
void task_print(const json_t *task);
/* [name, tasks, right, base_right, flips, right_to_wrong, wrong_to_right, mcnemar_p] */
json_t *task_row(const json_t *task);

/* "f16,q8_0,q8_0+q4_0", "all"; NULL: none. An exit code. */
struct cache_list { enum cache_type type[EVAL_MODELS]; size_t n; };
int caches_read(const char *words, struct cache_list *out);
/* The smallest that adds little, or NULL. */
const struct cache_verdict *caches_best(const struct squeeze_result *r);
void caches_print(const struct squeeze_result *r);
json_t *caches_json(const struct squeeze_result *r);

/* One line for each kind of weight and type: how many tensors, bytes before and after, error. */
void squeeze_print_plan(struct squeeze *s, bool every_tensor);
void squeeze_print(const struct squeeze_result *r);
/* The same as JSON. */
json_t *squeeze_json(const struct squeeze_result *r);
/* What is kept in the file, malloc'd; where `room` bytes are not enough, without the single texts. And what room
 * there should be, with a task and caches or without. */
char *squeeze_report(const struct squeeze_result *r, size_t room);
size_t squeeze_report_room(const struct squeeze_command *o, bool task, bool cache);
#endif
