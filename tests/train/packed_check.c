/* A step answers each sample's losses with the same bits as if it stood alone: packed_check MODEL DATA FOLDER [fault].
 * With `fault` a row sees one token of a neighbour, which must be noticed. */
#include "train/trainer_int.h"
#include <stdlib.h>
#include <string.h>

static float *losses;           /* of token t of all samples: [n_ids] */

static stretto_status run(struct trainer *t, struct packed *p, struct error *err)
{
    return device_run(t->device, t->program, &p->step, p->answers, err);
}

/* The sample as the only one of its lines, in no group. */
static stretto_status alone(struct trainer *t, uint32_t sample, struct error *err)
{
    struct sample own = t->lines.sample[sample];
    struct lines one = t->lines;
    struct packing p;
    double weights;
    const struct packing_how how = { .step_rows = t->plan.step_rows, .batch_rows = 1000, .in_order = true };
    own.group = 0;
    one.sample = &own;
    one.n = 1;
    TRY(packing_make(&p, &one, &how, err));
    packing_steps(&p, 0, &weights);
    packed_fill(&t->packed, &p, 0, 0, weights);
    stretto_status s = run(t, &t->packed, err);
    for (size_t a = 0; a < t->packed.step.n_asks; a++)
        losses[own.at + t->packed.ask_token[a]] = t->packed.answer[a].loss;
    packing_done(&p);
    return s;
}

static stretto_status compare(struct trainer *t, bool fault, size_t *asks, size_t *differ, uint32_t *shared,
                              struct error *err)
{
    struct packed *p = &t->packed;
    TRY(trainer_epoch(t, 1, err));
    for (size_t b = 0; b < t->packing.n_batches; b++) {
        double weights;
        uint32_t steps = packing_steps(&t->packing, b, &weights);
        for (uint32_t i = 0; i < steps; i++) {
            packed_fill(p, &t->packing, b, i, weights);
            int32_t last = (int32_t)p->step.n_rows - 1, at = p->range_at[last + 1] - 1;
            if (fault && p->ranges[2 * at] > 0) p->ranges[2 * at]--;
            TRY(run(t, p, err));
            for (size_t a = 0; a < p->step.n_asks; a++, ++*asks) {
                const float *want = &losses[t->lines.sample[p->ask_sample[a]].at + p->ask_token[a]];
                *differ += memcmp(want, &p->answer[a].loss, sizeof *want) != 0;
            }
        }
        for (size_t u = t->packing.batch[b]; u < t->packing.batch[b + 1]; u++)
            if (t->packing.unit[u].shared) ++*shared;
    }
    return STRETTO_OK;
}

static stretto_status check(struct trainer *t, bool fault, struct error *err)
{
    size_t asks = 0, differ = 0;
    uint32_t shared = 0;
    TRY(trainer_begin(t, err));
    losses = calloc(t->lines.n_ids + 1, sizeof *losses);
    for (uint32_t i = 0; i < t->lines.n; i++) TRY(alone(t, i, err));
    TRY(compare(t, fault, &asks, &differ, &shared, err));
    free(losses);
    printf("%zu losses, %u shared beginnings, %zu differ\n", asks, shared, differ);
    return asks == t->lines.learned && shared && (fault ? differ > 0 : differ == 0)
        ? STRETTO_OK : fail(err, STRETTO_E_ARG, "not as it should be");
}

int main(int argc, char **argv)
{
    struct trainer *t = NULL;
    struct error err = { 0 };
    struct train_options o;
    if (argc < 4) return 2;
    train_options_defaults(&o);
    o.model = argv[1];
    o.data = (const char *const *)&argv[2];
    o.n_data = 1;
    o.folder = argv[3];
    o.hold_out = 0;
    o.threads = 2;
    o.batch_rows = 300;
    stretto_status s = trainer_open(&t, &o, &err);
    if (s == STRETTO_OK) s = check(t, argc > 4, &err);
    if (s != STRETTO_OK) fprintf(stderr, "%s\n", err.text);
    trainer_close(t);
    return s == STRETTO_OK ? 0 : 1;
}
