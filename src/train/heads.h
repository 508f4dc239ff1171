/* Heads that learn to guess beside a model that stays as it is (engine/head_model.h says what they are). What they
 * read of it, its hidden states behind the tokens of answers, an engine makes once, by the arithmetic that serves, and
 * a file keeps (taught.h). What is trained is a small graph whose rows bring these states, with a loss like any other,
 * through the rows of the model's output layer that can be guessed.
 *
 * A place is a row of a text whose next token t is part of an answer: from its hidden state h, and t, the tokens behind
 * t are to be guessed. As rows of a step:
 *
 *   Medusa     row k (1, 2, ...) brings h and is in set k - 1, where head k - 1 adds what it has to it
 *   recursive  row 0 brings h, row k the token behind it, and what it sees is row k - 1 alone: attention to one row is
 *              that row, so state k is made of state k - 1 and of the token. Gradients go the same way back, through as
 *              many guesses as `depth`: the head learns from the states that it makes itself (the training-time test
 *              of EAGLE-3, arXiv 2503.01840). The tokens are those of the text: behind a guess that is another token
 *              nobody reads the next one.
 *
 * Guess k weighs HEAD_DECAY^(k - 1) times its token. A token that cannot be guessed ends a chain of the recursive
 * kind. */
#ifndef TRAIN_HEADS_H
#define TRAIN_HEADS_H
#include "engine/head_model.h"
#include "train/pack.h"

enum head_kind { HEAD_RECURSIVE, HEAD_MEDUSA, HEAD_KINDS };
extern const char *const head_kind_names[HEAD_KINDS];
#define HEAD_DECAY 0.8

/* What a step of heads is made of. */
struct head_rows {
    enum head_kind kind;
    uint32_t depth, width;
    const int32_t *place;         /* [vocab] where a token stands among those that can be guessed; -1: nowhere.
                                     NULL: all can be, for who counts                                          */
    const struct taught *hidden;
};

/* ---- graphs (heads.c) */
struct head_shape { enum head_kind kind; uint32_t depth, feed, guessed; };
/* The forward's graph; parameters of the heads, "heads.slice", and of the recursive one the model's table. */
stretto_status heads_graph(struct graph *out, const struct model *m, const struct head_shape *s, struct error *err);
/* Whether a parameter is trained. */
bool heads_own(const char *param);

/* ---- rows (heads_pack.c) */
/* A place as a unit of a packing: `first` is its sample, `count` its row there, `shared` its number among those of the
 * sample whose next token counts. Returns how many there are; unit may be NULL. */
size_t heads_units(const struct lines *l, const struct head_rows *h, struct pack_unit *unit);
double heads_weight(const struct lines *l, const struct head_rows *h, const struct pack_unit *u);
/* Appends its rows to the step; heads_close makes the sets when all are there. */
void heads_put(struct packed *p, const struct lines *l, const struct head_rows *h, const struct pack_unit *u,
               double weights);
void heads_close_step(struct packed *p, const struct head_rows *h);

/* ---- a file as it guesses (heads_measure.c) */
/* Of places of lines: accept[k], the share of those with k + 1 tokens left of which guesses 0 .. k are all the text's;
 * of `most` places at most, evenly. per_step: tokens of a step that sends `depth` guesses. */
struct head_accept { uint32_t n, places; double accept[MAX_HEADS], per_step; };
struct head_measure {
    const char *path; const struct model *model; struct device *device; unsigned threads;
    const struct lines *lines; const struct head_rows *rows; size_t most;
    const volatile int *cancel;
};
stretto_status heads_measure(struct head_accept *out, const struct head_measure *how, struct error *err);
#endif
