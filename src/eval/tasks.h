/* Questions with several answers of which one is right, as files have them. Untrusted bytes end here. */
#ifndef EVAL_TASKS_H
#define EVAL_TASKS_H
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

enum { TASK_CHOICES = 8, TASKS_MAX = 1 << 20, TASK_TEXT_MAX = 1 << 20 };

struct eval_task { char *question, *choice[TASK_CHOICES]; uint32_t n, right; };
struct eval_tasks { struct eval_task *v; size_t n; };
void eval_tasks_done(struct eval_tasks *t);

/* These append. `where` names the text in messages; E_FORMAT with the line where it is none of these.
 *
 * HellaSwag (arXiv 1905.07830) as llama-perplexity reads it: six lines a task: what goes before, the number of the
 * right ending, four endings. */
stretto_status eval_tasks_hellaswag(struct eval_tasks *t, const char *text, size_t n, const char *where,
                                    struct error *err);
/* PIQA (arXiv 1911.11641): JSON lines {"goal", "sol1", "sol2", "label"}; asked as "Question: GOAL\nAnswer:". */
stretto_status eval_tasks_piqa(struct eval_tasks *t, const char *text, size_t n, const char *where,
                               struct error *err);
/* MMLU (arXiv 2009.03300): CSV of question, four answers and 0 to 3 or A to D. `letters`: all four answers stand in
 * the question and their letters are what is chosen from, as the paper asks; otherwise the answers themselves are
 * continuations of the question, as llama.cpp's sets have it. */
stretto_status eval_tasks_mmlu(struct eval_tasks *t, const char *text, size_t n, int letters, const char *where,
                               struct error *err);
/* Keeps `count` of them, drawn with the seed as llama-perplexity --hellaswag draws with 1 (std::mt19937 and
 * libstdc++'s uniform_int_distribution). 0, or as many as there are: all of them. */
stretto_status eval_tasks_draw(struct eval_tasks *t, size_t count, uint32_t seed, struct error *err);
#endif
