/* Questions that are answered by writing: many at once, greedy, and what is right about the answers. */
#ifndef EVAL_ANSWERS_H
#define EVAL_ANSWERS_H
#include "base/progress.h"
#include "engine/engine.h"

struct written { int32_t *id; uint32_t n; };          /* a prompt, or an answer */

enum { ANSWERS_SEQUENCES = 8 };                        /* an engine for this has as many; others may have fewer */

/* Continues every prompt by at most `limit` tokens, to the first that ends an answer, which is left out. answer[n]
 * is filled; its ids are freed with answers_done. The engine's context holds the longest prompt and `limit`. */
stretto_status answers_write(struct engine *e, const struct written *prompt, size_t n, uint32_t limit,
                             const volatile int *cancel, const struct progress *progress, struct written *answer,
                             struct error *err);
void answers_done(struct written *w, size_t n);

/* The last number of a text, commas between its digits left out, as GSM8K's answers are compared (arXiv 2110.14168).
 * Of `text` only what stands before the first `until` counts; NULL: all. False: there is none. */
int answer_number(const char *text, const char *until, double *out);
/* The first statement of an answer in SQL: out of a fenced block where there is one, to the first semicolon, blanks
 * made one and none at the ends. At most n - 1 bytes. */
void answer_sql(const char *text, char *out, size_t n);
/* Whether two statements are the same but for letters' case outside of quotes and blanks beside signs. */
int sql_same(const char *a, const char *b);
#endif
