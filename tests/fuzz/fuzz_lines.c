/* Any bytes as data to learn from: refused with words, or samples that hold together. */
#include "train/lines.h"
#include "../train/words.h"

static void check(const struct lines *l)
{
    uint64_t learned = 0;
    for (size_t i = 0; i < l->n; i++) {
        const struct sample *s = &l->sample[i];
        if (s->n < 2 || s->n > 200 || !s->first || s->first > s->last || s->last >= s->n || !s->line) abort();
        if (s->at + s->n > l->n_ids || s->file >= l->n_files) abort();
        for (uint32_t k = 0; k < s->n; k++) {
            float w = sample_weights(l, s)[k];
            if (sample_ids(l, s)[k] < 0 || sample_ids(l, s)[k] >= WORDS || !(w >= 0)) abort();
            if (w > 0 && (k < s->first || k > s->last)) abort();
            learned += w > 0;
        }
    }
    if (learned != l->learned) abort();
}

static struct words w;

static void leave(void) { words_close(&w); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!w.t) {
        w = words_open();
        atexit(leave);
    }
    for (int skip = 0; skip < 2; skip++) {
        const struct lines_how how = { .tokenizer = w.t, .chat = w.chat, .vocab = WORDS, .context = 200,
                                       .skip_long = skip };
        struct lines l = { 0 }, held = { 0 };
        struct error err = { 0 };
        char before[33], after[33];
        stretto_status s = lines_read(&l, &how, "fuzz", (const char *)data, size, &err);
        if ((s == STRETTO_OK) != !err.text[0]) abort();
        check(&l);
        lines_digest(&l, before);
        if (s == STRETTO_OK && lines_split(&l, 0.5, &held, &err) != STRETTO_OK) abort();
        check(&l);
        check(&held);
        lines_digest(&l, after);
        if (held.n && strcmp(before, after) == 0) abort();
        lines_done(&l);
        lines_done(&held);
    }
    return 0;
}
