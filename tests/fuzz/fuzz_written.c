/* Any bytes as what a model wrote itself in place of lines: refused with words, or as many samples as lines were
 * chosen, that hold together. */
#include "train/written.h"
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 50, SAMPLES = 4, TOKENS = 6 };

static struct lines four_lines(void)
{
    static struct sample s[SAMPLES];
    static int32_t id[SAMPLES * TOKENS];
    static float weight[SAMPLES * TOKENS];
    for (uint32_t i = 0; i < SAMPLES; i++)
        s[i] = (struct sample){ .at = i * TOKENS, .n = TOKENS, .first = 1 + i, .last = TOKENS - 1, .line = i + 1,
                                .taught = i };
    for (size_t i = 0; i < SAMPLES * TOKENS; i++) {
        id[i] = (int32_t)(i * 7 % VOCAB);
        weight[i] = i % TOKENS > i / TOKENS;
    }
    return (struct lines){ .sample = s, .n = SAMPLES, .id = id, .weight = weight };
}

static void check(const struct lines *l, const struct lines *of, const struct written_how *how)
{
    size_t chosen = 0;
    for (size_t i = 0; i < of->n; i++) {
        const struct sample *s = &l->sample[chosen], *from = &of->sample[i];
        if (!written_chosen(how, i)) continue;
        if (chosen++ >= l->n || s->n < 2 || s->n > from->n || !s->first || s->first > s->last) abort();
        if (s->last + 1 != s->n || s->taught != chosen - 1 || !s->written || s->line != from->line) abort();
        for (uint32_t k = 0; k < s->n; k++) {
            if (sample_ids(l, s)[k] < 0 || sample_ids(l, s)[k] >= VOCAB) abort();
            if (k < written_given(of, from) && sample_ids(l, s)[k] != sample_ids(of, from)[k]) abort();
            if (k < s->first && sample_weights(l, s)[k] > 0) abort();
        }
        if (!(sample_weights(l, s)[s->last] > 0)) abort();
    }
    if (chosen != l->n) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct lines of = four_lines();
    for (uint64_t epoch = 0; epoch < 2; epoch++) {
        const struct written_how how = { 3, epoch, epoch ? 0.5 : 1.1, VOCAB };
        struct lines l = { 0 };
        struct error err = { 0 };
        stretto_status s = written_read(&l, &of, &how, (const char *)data, size, &err);
        if ((s == STRETTO_OK) != !err.text[0]) abort();
        if (s == STRETTO_OK) check(&l, &of, &how);
        lines_done(&l);
    }
    return 0;
}
