/* What an adapter's answers cost where it runs: rows_check MODEL ADAPTER, with lines "prompt n token token ..." on
 * standard input. Prints for each line the mean of nats of the tokens behind the first `prompt`, which stand in an
 * engine as an answer does: float32 all through, prompts read first. */
#include "engine/engine.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 512 };

static void need(stretto_status s, const struct error *err)
{
    if (s == STRETTO_OK) return;
    fprintf(stderr, "rows_check: %s\n", err->text);
    exit(1);
}

static double nats(const float *logits, uint32_t n, int32_t token)
{
    double most = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++) most = fmax(most, (double)logits[i]);
    for (uint32_t i = 0; i < n; i++) sum += exp((double)logits[i] - most);
    return most + log(sum) - (double)logits[token];
}

/* One row, and what it answers. */
static void send(struct engine *e, int32_t token, bool given, float *logits)
{
    struct error err = { 0 };
    const struct row row = { 0, token, ROW_COMMITTED, given, WANT_LOGITS };
    struct answer a = { .logits = logits };
    need(engine_step(e, &row, 1, &a, &err), &err);
    engine_commit(e, 0, 1);
}

static double answer(struct engine *e, const int32_t *id, uint32_t prompt, uint32_t n, float *logits)
{
    double sum = 0;
    uint32_t vocab = engine_model(e)->config.vocab;
    engine_rewind(e, 0, 0);
    engine_set(e, 0, id, prompt, 0);
    for (uint32_t i = 0; i + 1 < n; i++) {
        send(e, id[i], i < prompt && engine_given(e, 0, i), logits);
        if (i + 1 >= prompt) sum += nats(logits, vocab, id[i + 1]);
    }
    return sum / (n - prompt);
}

int main(int argc, char **argv)
{
    struct error err = { 0 };
    struct model *m;
    struct engine *e;
    int32_t id[MOST], seq;
    uint32_t prompt, n;
    if (argc < 3) return 2;
    const struct model_adapter adapter = { .path = argv[2], .scale = 1 };
    const struct model_open_options how = { .threads = 1, .reference = true, .adapters = &adapter, .n_adapters = 1 };
    const struct engine_options eo = { .threads = 1, .context = MOST, .cache = CACHE_F32, .strict = true };
    need(model_open(&m, argv[1], &how, &err), &err);
    need(engine_open(&e, m, &eo, &err), &err);
    need(engine_seq_open(e, &seq, &err), &err);
    float *logits = malloc(m->config.vocab * sizeof *logits);
    while (logits && scanf("%u %u", &prompt, &n) == 2 && n <= MOST && prompt < n) {
        for (uint32_t i = 0; i < n; i++)
            if (scanf("%d", &id[i]) != 1) return 2;
        printf("%.9g\n", answer(e, id, prompt, n, logits));
    }
    free(logits);
    engine_close(e);
    model_close(m);
    return 0;
}
