/* What a teacher says of lines: behind each token that counts, how likely each token of the vocabulary is to stand
 * there, as much of it as a student learns from. It is kept in a file, so a teacher reads a text once.
 *
 * Of a row are kept the `top` likeliest tokens with their probabilities, `drawn` tokens that were drawn from all
 * others, and the entropy of the whole. Each drawn token stands for an equal part of what the others have together, so
 * the loss over these few is in the mean of all draws the divergence from the whole distribution, and so is its
 * gradient (arXiv 2503.16870; here the tail alone is drawn from, at equal distances along it, which varies less). With
 * drawn 0 the others are one event (kernels/train.h): a lower bound of the divergence.
 *
 * The file is a head and then a record for each sample, its rows and a digest. It grows record by record, so a process
 * may be killed at any byte: what is whole from the front on is kept, and gone on from. The head says of which teacher,
 * vocabulary and text it is; a file of another one is refused. Numbers are little-endian.
 *
 *   row     f32 entropy, f32 tail, i32 id[top], f32 probability[top], i32 id[drawn] (ascending; -1: none was left)
 *
 * A file of hidden states is made in the same way: what the model itself has behind each of these tokens.
 *
 *   row     f32 the largest magnitude, f16 value / it [width] */
#ifndef TRAIN_TAUGHT_H
#define TRAIN_TAUGHT_H
#include "base/file.h"
#include "format/content.h"
#include "train/lines.h"

enum { TAUGHT_MOST = 256 };       /* top + drawn: what a loss takes (kernels/train.h)                */

/* width: hidden states of such a width in place of answers (heads.h); 0: answers. */
struct taught_shape { uint32_t vocab, top, drawn, width; };
/* What the file is of. */
struct taught_key { char teacher[CONTENT_DIGITS], text[CONTENT_DIGITS], held[CONTENT_DIGITS]; uint64_t vocabulary; };

struct taught {
    struct taught_shape shape;
    uint64_t *at;                 /* [n + 1] where records begin                                     */
    uint64_t n, rows, done;       /* records; rows of all; records that are there                    */
    const char *path;             /* the caller's                                                    */
    unsigned char *record;        /* room for the largest                                            */
    bool grew;                    /* since it was opened                                             */
    int fd;                       /* shared with readers, alone while it grows                   */
    struct file_map map;          /* once it is whole                                                */
};

uint64_t taught_row_bytes(const struct taught_shape *s);
/* Bytes of the whole file. */
uint64_t taught_bytes(const struct taught_shape *s, const struct lines *l, const struct lines *held);
/* Opens or begins the file of the samples of l, then of held; both stay as they are until it is closed, and so does
 * path. E_ARG with what differs where it is of something else, or none of such files. */
stretto_status taught_open(struct taught *t, const char *path, const struct taught_shape *s,
                           const struct taught_key *key, const struct lines *l, const struct lines *held,
                           struct error *err);
void taught_close(struct taught *t);                       /* all zero is fine */

/* Room for the next record's rows. E_ARG where another process has the file. */
stretto_status taught_begin(struct taught *t, unsigned char **rows, uint32_t *n, struct error *err);
/* Its rows are there: it goes into the file. */
stretto_status taught_add(struct taught *t, struct error *err);
/* All records are there: they can be read from now on. */
stretto_status taught_finish(struct taught *t, struct error *err);

/* A row from a teacher's logits [vocab]. number: of the row in the file, which decides what is drawn; scratch: [vocab].
 * False: the logits are no numbers. */
bool taught_row(const struct taught_shape *s, const float *logits, uint64_t number, float *scratch,
                unsigned char *row);
/* The same from a hidden state [width], and back. */
bool hidden_row(const struct taught_shape *s, const float *hidden, unsigned char *row);
void hidden_read(const struct taught *t, uint64_t record, uint32_t row, float *out);
/* The rows before record i. */
uint64_t taught_rows_before(const struct taught *t, uint64_t i);

/* What a loss reads of a row: distinct tokens and probabilities [TAUGHT_MOST]. Loss plus `add` is the divergence. */
struct taught_target { uint32_t n; float tail, add; };
struct taught_target taught_read(const struct taught *t, uint64_t record, uint32_t row, int32_t *id, float *prob);
#endif
