/* Which of several continuations a model holds likeliest: the mean log probability of a continuation's tokens behind
 * what all continuations of the task begin with, as llama-perplexity counts for HellaSwag and other sets. What
 * they share is read once, and many short texts in one step. */
#ifndef EVAL_CHOICES_H
#define EVAL_CHOICES_H
#include "base/progress.h"
#include "engine/engine.h"
#include "eval/tasks.h"

enum { CHOICES_SEQUENCES = 32 };       /* an engine for this has as many */

struct choice_tokens { int32_t *id[TASK_CHOICES]; uint32_t length[TASK_CHOICES], n, common; };
struct choice_set { struct choice_tokens *task; size_t n; uint32_t longest; };
/* The tasks as the model's tokens, question and answer joined by a space. */
stretto_status choices_open(struct choice_set *s, const struct tokenizer *t, const struct eval_tasks *tasks,
                            struct error *err);
void choices_done(struct choice_set *s);
/* Tokens that an engine's sequences share at least. */
uint32_t choices_pool(const struct choice_set *s);

struct choice_result { uint32_t chosen; double score[TASK_CHOICES]; };
/* out[s->n]. The engine's context is s->longest at least. */
stretto_status choices_score(struct engine *e, const struct choice_set *s, const volatile int *cancel,
                             const struct progress *progress, struct choice_result *out, struct error *err);

/* Wilson's interval of a share (doi 10.1080/01621459.1927.10502953), 95 %. */
void share_interval(size_t right, size_t n, double *low, double *high);
/* McNemar's test, exact: how likely two models that are equally good differ at least as much on tasks where one alone
 * is right (doi 10.1007/BF02295996). */
double mcnemar(size_t only_a, size_t only_b);
#endif
