/* Texts that a model learns its scales from, and others that it is measured on: files that somebody names, or what
 * is compiled in (data/calibration, data/heldout). */
#ifndef COMPRESS_TEXTS_H
#define COMPRESS_TEXTS_H
#include "base/log.h"
#include "compress/calibrate.h"
#include "eval/texts.h"
#include <stdbool.h>

struct tokenizer;
struct chat;

/* lines: JSON lines of conversations (eval/texts.h); otherwise plain text. */
struct text_file { const char *name, *data; size_t n; bool lines; };

/* What is compiled in; returns how many, at most `cap`. */
size_t texts_builtin(bool heldout, struct text_file *out, size_t cap);
/* 200 tasks of HellaSwag that are compiled in (data/tasks). */
struct text_file texts_hellaswag(void);

/* As windows to measure on; conversations of a model without a template become plain text. At most `most` windows,
 * 0: all; spread over the text. */
stretto_status texts_set(struct eval_set *out, const struct text_file *f, const struct tokenizer *t,
                         const struct chat *chat, uint32_t window, size_t most, uint32_t vocab, struct error *err);

/* Some of the windows: of each two the first or the second (of one alone that), or all; of those `most`, the same
 * distance apart (0: all). */
enum texts_half { TEXTS_BOTH, TEXTS_FIRST, TEXTS_SECOND };
struct texts_part { enum texts_half half; size_t most; };
void texts_keep(struct eval_set *s, struct texts_part p);
/* Tokens that count in them. */
size_t texts_counted(const struct eval_set *s, struct texts_part p);

/* As windows to learn from: of all files, about `tokens` in all (0: everything), spread over them in proportion.
 * Owned: windows_done. hash: of the ids. */
struct windows { int32_t *id; uint32_t *at; size_t n, tokens; uint64_t hash; };
stretto_status windows_make(struct windows *out, const struct text_file *f, size_t n, const struct tokenizer *t,
                            const struct chat *chat, uint32_t window, size_t tokens, uint32_t vocab,
                            struct error *err);
void windows_done(struct windows *w);
static inline struct calibration_text windows_text(const struct windows *w)
{
    return (struct calibration_text){ w->id, w->at, w->n };
}

/* Whether a text to measure on shares thirteen words in a row with one to learn from; then *words begins with
 * them, and its name is in *which; NULL: it shares none. E_NOMEM: it is not known. */
stretto_status texts_leak(const struct text_file *learned, size_t n, const struct text_file *measured,
                          const char **which, char *words, size_t cap, struct error *err);
/* Whether it is text at all: E_FORMAT with its name where it holds a NUL, or is UTF-8 in less than 99 of 100 bytes. */
stretto_status texts_check(const struct text_file *f, struct error *err);
#endif
