/* Data to learn from: JSON lines of any of these forms become samples of tokens, each with a weight that says how
 * much it counts that the token follows those before it.
 *
 *   {"messages": [{"role": "user", "content": ...}, {"role": "assistant", ...}, ...]}
 *                                     through the model's template; what the assistant says counts, with the
 *                                     token that ends it. "weight": 0 in an answer: it is given, and not learned
 *   {"prompt": "...", "completion": "..."}   the completion counts, with the model's end token behind it
 *   {"text": "..."}                   all of it counts, with the end token
 *   {"prompt": [ids], "answer": [ids]}       of a file of `stretto trace`: the answer counts
 *
 * Beside them may stand "weight" (a factor for the line) and "group" (a text or number: lines of a group share their
 * beginning in a step, and stand on one side of a split). Other members are passed over. Nothing is ever cut: a line
 * that is longer than the context is refused, or left out and counted where that was asked for. */
#ifndef TRAIN_LINES_H
#define TRAIN_LINES_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct tokenizer;
struct chat;
struct states;

struct sample {
    size_t at;                /* its tokens are id[at .. at + n) of the lines, their weights beside them   */
    uint32_t n, first, last;  /* the first and the last of them that count                                 */
    uint64_t group;           /* 0: none                                                                   */
    uint32_t file, line;      /* where it stands: lines from 1 on                                          */
    uint32_t taught;          /* the record of a teacher's answers to it (taught.h)                        */
    bool written;             /* the model wrote its answer itself: the record is in that file             */
    size_t states;            /* of its answer, as they were traced (states.h); 0: none                    */
};

/* Why answers that were traced are left out: they have no end, more than a quarter of their runs of four tokens were in
 * them before, or they are there twice. */
enum left_out { LEFT_CUT, LEFT_REPEATS, LEFT_TWICE, LEFT_KINDS };

struct lines {
    struct sample *sample; size_t n, cap;
    int32_t *id; float *weight; size_t n_ids, cap_ids;   /* weight[at] of a sample's first token is 0      */
    char **file; size_t n_files;
    uint64_t learned;         /* tokens that count                                                         */
    uint32_t longest, longest_line, longest_file;        /* tokens, and where                              */
    uint32_t skipped;         /* lines that were too long, */
    uint32_t skipped_line[8], skipped_file[8]; /* the first of them                                        */
    uint32_t left_out[LEFT_KINDS];
    uint32_t special, special_line, special_file; /* lines whose text spells special tokens, and the first  */
    bool open;                /* an answer has no token that ends it: the model will not learn to stop     */
};

struct lines_how {
    const struct tokenizer *tokenizer;
    const struct chat *chat;  /* NULL: the model has no template                                           */
    uint32_t vocab;           /* ids below it                                                              */
    uint32_t context;         /* tokens of a sample at most                                                */
    bool skip_long;
    bool plain;               /* what is spelled as a special token in "text", "prompt" and "completion" is text */
    bool all;                 /* tokens of prompts count too                                               */
    time_t now;               /* for templates that print a date                                           */
    struct states *states;    /* it is a file of `stretto trace` whose states are wanted: they go here; or NULL */
    uint64_t content;         /* by whom it has to be traced (states_content)                              */
};

/* Appends the lines of a text; name: what to call it in messages. E_FORMAT with the line and what is wrong there. */
stretto_status lines_read(struct lines *l, const struct lines_how *how, const char *name, const char *text, size_t n,
                          struct error *err);
void lines_done(struct lines *l);
/* Room for one sample more, s with its tokens elsewhere: its ids and weights [s->n], for the caller to fill. */
stretto_status lines_add(struct lines *l, const struct sample *s, int32_t **id, float **weight, struct error *err);
stretto_status lines_add_file(struct lines *l, const char *name, struct error *err);

/* A digest of all samples: 32 digits. */
void lines_digest(const struct lines *l, char out[33]);
/* Moves about `share` of the samples to `out`, whole groups, by a hash of what they are: the same whatever else is
 * in the file. out is empty before, and gets copies of names. */
stretto_status lines_split(struct lines *l, double share, struct lines *out, struct error *err);

static inline const int32_t *sample_ids(const struct lines *l, const struct sample *s) { return l->id + s->at; }
static inline const float *sample_weights(const struct lines *l, const struct sample *s) { return l->weight + s->at; }
#endif
