/* Any bytes as a file of tasks: the first says of which kind. Refused with words, or whole tasks. */
#include "eval/tasks.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size) return 0;
    struct eval_tasks t = { 0 };
    struct error err = { 0 };
    const char *text = (const char *)data + 1;
    size_t n = size - 1;
    stretto_status s = data[0] % 4 == 0   ? eval_tasks_hellaswag(&t, text, n, "it", &err)
                       : data[0] % 4 == 1 ? eval_tasks_piqa(&t, text, n, "it", &err)
                                          : eval_tasks_mmlu(&t, text, n, data[0] % 4 == 2, "it", &err);
    if (s != STRETTO_OK && !err.text[0]) abort();
    if (s == STRETTO_OK && !t.n) abort();
    for (size_t i = 0; s == STRETTO_OK && i < t.n; i++) {
        if (t.v[i].n < 2 || t.v[i].n > TASK_CHOICES || t.v[i].right >= t.v[i].n || !t.v[i].question) abort();
        for (uint32_t c = 0; c < t.v[i].n; c++)
            if (!t.v[i].choice[c]) abort();
    }
    if (s == STRETTO_OK && (eval_tasks_draw(&t, 3, 1, &err) != STRETTO_OK || t.n > size)) abort();
    eval_tasks_done(&t);
    return 0;
}
