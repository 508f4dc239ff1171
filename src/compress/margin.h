/* What a divergence that was measured on some windows of texts may be on others of them. A file is chosen by windows
 * that are set aside and proved on those between: chance sets them apart, so a choice that just meets a bound has a
 * proof beyond it every other time.
 *
 * The estimate weighs each text as the proof will, by tokens. Windows of a text are drawn alike, tokens of a window
 * hang together: with e the standard error of a text's mean over its windows (eval.h), the mean of `later` more tokens
 * differs from that of `tokens` by e sqrt(1 + tokens / later). The margin is Student's 95th percentile (with
 * Satterthwaite's degrees of freedom) times the weighted root of their squares, taken of the logarithm, for divergences
 * are skewed: about nineteen proofs of twenty are within estimate and margin. */
#ifndef COMPRESS_MARGIN_H
#define COMPRESS_MARGIN_H
#include "eval/eval.h"

/* What was measured of a text; later: tokens of it that the proof will count. */
struct margin_text { struct eval_kl kl; size_t later; };
struct margin { double kl, margin; };

/* all: of all texts together. A text of one window says nothing of its spread; that of all windows stands in. */
struct margin margin_of(const struct margin_text *t, size_t n, const struct eval_kl *all);
#endif
