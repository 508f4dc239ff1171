/* The file of what a model wrote itself in place of lines (trainer_written.c): of each line that was chosen, in their
 * order, {"line": its number from 0, "answer": [ids], "text": for people}. */
#ifndef TRAIN_WRITTEN_H
#define TRAIN_WRITTEN_H
#include "train/lines.h"

struct written_how { uint64_t seed, epoch; double share; uint32_t vocab; };

/* Whether line i is gone on with by the model before this epoch. */
bool written_chosen(const struct written_how *how, size_t i);
/* Tokens of a sample that are given: those before its last answer, or half of a text that is learned whole. */
uint32_t written_given(const struct lines *l, const struct sample *s);
/* Appends the chosen lines of `of` with their answers in place of their own: as many samples, each of which may be
 * taught by the record of its number. E_FORMAT with what is wrong: the file is not of these lines. */
stretto_status written_read(struct lines *out, const struct lines *of, const struct written_how *how, const char *text,
                            size_t n, struct error *err);
#endif
