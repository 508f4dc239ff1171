/* More tokens for an opened file: its vocabulary and the tensors with a row for each token get more behind those that
 * they have, so everybody above reads a larger model and knows nothing of it. Phrases (text/phrases.h) are such tokens,
 * from a training or from an adapter's file. */
#ifndef FORMAT_EXTEND_H
#define FORMAT_EXTEND_H
#include "format/source.h"

struct more_tokens {
    size_t n;
    const char *spelled;        /* token i is spelled[spelled_at[i] .. spelled_at[i + 1]) in the file's own way   */
    const uint32_t *spelled_at; /* [n + 1]                                                                     */
    const uint32_t *at;         /* [n + 1] it is made of piece[at[i] .. at[i + 1])                              */
    const int32_t *piece;
    /* The rows of a tensor, [n][width], rounded to its type; NULL: each the mean of its pieces'. */
    const float *(*rows)(void *ud, const char *tensor, uint32_t width);
    void *ud;
};

/* Before anybody has looked at the vocabulary or kept a tensor. The arrays may go afterwards. GGUF files alone
 * (E_UNSUP); E_ARG: a second time; E_FORMAT: its tensors and its vocabulary are not of one length. */
stretto_status source_extend(struct source *s, const struct more_tokens *m, struct error *err);
/* The tensor as the file has it: another than t where it was extended. */
const struct source_tensor *source_tensor_plain(const struct source *s, const struct source_tensor *t);
#endif
