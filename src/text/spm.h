/* SentencePiece BPE: neighbours whose concatenation is a token merge, the best score first. */
#ifndef TEXT_SPM_H
#define TEXT_SPM_H
#include "text/bpe.h"

/* Appends the ids of the n bytes at p (spaces already spelled as U+2581). What no token covers becomes
 * byte tokens, or `unk` where a byte has none; unk -1: E_UNSUP. pairs: of all tokens. */
stretto_status spm_encode(const struct vocab *v, const struct pair_filter *pairs, int32_t unk,
                          const char *p, size_t n, struct merge_work *w, struct tokens *out);
#endif
