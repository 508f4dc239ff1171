/* Any bytes as data to learn from, and as traced states: refused with words, or samples and noise that hold
 * together. */
#include "train/noise.h"
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

/* Windows lie within the answers, their states are tokens, and what is right in them is right. */
static void check_noise(const struct lines *l, const struct states *states)
{
    const struct noise_how how = { .block = states->block ? states->block : 3, .copies = 2, .clean = 1, .noisy = 1,
                                   .states = states };
    int32_t s[NOISE_WINDOW];
    for (uint32_t i = 0; i < l->n; i++) {
        struct noise x = noise_begin(&how, l, i, 1);
        const int32_t *y = sample_ids(l, &l->sample[i]);
        uint32_t rows = 0;
        while (noise_next(&x)) {
            if (x.n < 2 || x.n > NOISE_WINDOW) abort();
            if (x.at < l->sample[i].first || x.at + x.n > l->sample[i].last + 1) abort();
            uint32_t first = noise_state(&x, s);
            for (uint32_t k = 0; k < x.n; k++)
                if (s[k] < 0 || s[k] >= WORDS || (k < first && s[k] != y[x.at + k])) abort();
            rows += x.n - 1;
        }
        if (rows > noise_rows_most(&how, l, &l->sample[i]) || rows != noise_rows(&how, l, i, 1)) abort();
    }
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
    for (int skip = 0; skip < 3; skip++) {
        struct states states = { 0 };
        const struct lines_how how = { .tokenizer = w.t, .chat = w.chat, .vocab = WORDS, .context = 200,
                                       .skip_long = skip == 1, .states = skip == 2 ? &states : NULL };
        struct lines l = { 0 }, held = { 0 };
        struct error err = { 0 };
        char before[33], after[33];
        stretto_status s = lines_read(&l, &how, "fuzz", (const char *)data, size, &err);
        if ((s == STRETTO_OK) != !err.text[0]) abort();
        check(&l);
        if (s == STRETTO_OK) check_noise(&l, &states);
        lines_digest(&l, before);
        if (s == STRETTO_OK && lines_split(&l, 0.5, &held, &err) != STRETTO_OK) abort();
        check(&l);
        check(&held);
        lines_digest(&l, after);
        if (held.n && strcmp(before, after) == 0) abort();
        if (s == STRETTO_OK) check_noise(&held, &states);
        lines_done(&l);
        lines_done(&held);
        states_done(&states);
    }
    return 0;
}
