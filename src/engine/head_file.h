/* A file of heads as it was read (head_model.h says what is in it): nothing runs. */
#ifndef ENGINE_HEAD_FILE_H
#define ENGINE_HEAD_FILE_H
#include "base/file.h"
#include "engine/head_model.h"
#include "format/safetensors.h"
#include "tensor/dtype.h"

enum recursive_part { PART_STATE, PART_TOKEN, PART_GATE, PART_UP, PART_DOWN, PARTS };
enum { FEED_MOST = 1 << 16 };

struct head { float *w, *bias; struct param_bytes output; }; /* w: [width in][width out] */

struct head_file {
    uint32_t width, vocab;             /* of the model: the caller's                     */
    uint32_t n, n_outputs;             /* Medusa's; those with an output layer           */
    struct head head[MAX_HEADS];
    struct param_bytes part[PARTS];    /* of the recursive one, as they stand in the file */
    uint32_t feed;                     /* 0: there is none                               */
    int32_t *token;                    /* [n_tokens] that may be guessed; NULL: all      */
    uint32_t n_tokens;
};

/* Takes the tensors of a mapped file, which outlives it. On failure too it is to be given back. */
stretto_status head_file_read(struct head_file *f, const struct file_map *map, const char *path, struct error *err);
void head_file_done(struct head_file *f);
#endif
