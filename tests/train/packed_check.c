/* A step answers each sample's losses with the same bits as if it stood alone: packed_check MODEL DATA FOLDER [noise]
 * [fault|dump].
 * With `fault` a row sees one token of a neighbour, which must be noticed. With `noise` samples have noisy copies, and
 * the fault is a copy's row that sees the clean token in its own place. `dump` prints what each row that asks sees, and
 * its loss. */
#include "train/trainer_int.h"
#include <stdlib.h>
#include <string.h>

static float *losses;           /* of token t of all samples, and of its copies: [n_ids][1 + COPIES] */
enum { COPIES = 3 };

/* Where the loss of an ask about `of` belongs: copies of a token come in their order. */
static float *place_of(const struct packed *p, const struct sample *of, size_t a)
{
    size_t copy = 0;
    for (size_t i = 0; i < a; i++)
        copy += p->ask_noisy[i] && p->ask_sample[i] == p->ask_sample[a] && p->ask_token[i] == p->ask_token[a];
    return &losses[(of->at + p->ask_token[a]) * (1 + COPIES) + (p->ask_noisy[a] ? 1 + copy : 0)];
}

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
    const struct packing_how how = { .step_rows = t->plan.step_rows, .batch_rows = 1000, .in_order = true,
                                     .noise = &t->noise };
    own.group = 0;
    one.sample = &own;
    one.n = 1;
    TRY(packing_make(&p, &one, &how, err));
    packing_steps(&p, 0, &weights);
    packed_fill(&t->packed, &p, 0, 0, weights);
    stretto_status s = run(t, &t->packed, err);
    for (size_t a = 0; a < t->packed.step.n_asks; a++)
        *place_of(&t->packed, &own, a) = t->packed.answer[a].loss;
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
            if (fault && t->noise.block) p->ranges[2 * at - 1]++;     /* what its clean rows are seen of */
            else if (fault && p->ranges[2 * at] > 0) p->ranges[2 * at]--;
            TRY(run(t, p, err));
            for (size_t a = 0; a < p->step.n_asks; a++, ++*asks) {
                const float *want = place_of(p, &t->lines.sample[p->ask_sample[a]], a);
                *differ += memcmp(want, &p->answer[a].loss, sizeof *want) != 0;
            }
        }
        for (size_t u = t->packing.batch[b]; u < t->packing.batch[b + 1]; u++)
            if (t->packing.unit[u].shared) ++*shared;
    }
    return STRETTO_OK;
}

static void dump_ask(const struct packed *p, size_t a)
{
    int32_t row = p->ask_row[a];
    const char *comma = "";
    printf("{\"sample\": %u, \"token\": %u, \"noisy\": %d, \"said\": %d, \"weight\": %.9g, \"loss\": %.9g, \"seen\": [",
           p->ask_sample[a], p->ask_token[a], p->ask_noisy[a], p->target[a].token, (double)p->target[a].weight,
           (double)p->answer[a].loss + (double)p->add[a]);
    for (int32_t i = p->range_at[row]; i < p->range_at[row + 1]; i++)
        for (int32_t r = p->ranges[2 * i]; r < p->ranges[2 * i + 1]; r++, comma = ", ")
            printf("%s%d", comma, p->token[r]);
    puts("]}");
}

static stretto_status dump(struct trainer *t, struct error *err)
{
    TRY(trainer_begin(t, err));
    TRY(trainer_epoch(t, 1, err));
    for (size_t b = 0; b < t->packing.n_batches; b++) {
        double weights;
        uint32_t steps = packing_steps(&t->packing, b, &weights);
        for (uint32_t i = 0; i < steps; i++) {
            packed_fill(&t->packed, &t->packing, b, i, 1);
            TRY(run(t, &t->packed, err));
            for (size_t a = 0; a < t->packed.step.n_asks; a++) dump_ask(&t->packed, a);
        }
    }
    return STRETTO_OK;
}

static stretto_status check(struct trainer *t, bool fault, struct error *err)
{
    size_t asks = 0, differ = 0;
    uint32_t shared = 0;
    TRY(trainer_begin(t, err));
    losses = calloc((t->lines.n_ids + 1) * (1 + COPIES), sizeof *losses);
    for (uint32_t i = 0; i < t->lines.n; i++) TRY(alone(t, i, err));
    TRY(compare(t, fault, &asks, &differ, &shared, err));
    free(losses);
    printf("%zu losses, %u shared beginnings, %zu differ\n", asks, shared, differ);
    bool all = t->noise.block ? 2 * asks > 3 * t->lines.learned : asks == t->lines.learned;
    bool right = all && shared && (fault ? differ > 0 : differ == 0);
    return right ? STRETTO_OK : fail(err, STRETTO_E_ARG, "not as it should be");
}

int main(int argc, char **argv)
{
    struct trainer *t = NULL;
    struct error err = { 0 };
    struct train_options o;
    if (argc < 4) return 2;
    bool noise = argc > 4 && strcmp(argv[4], "noise") == 0, more = argc > 4 + noise;
    bool dumps = more && strcmp(argv[4 + noise], "dump") == 0;
    train_options_defaults(&o);
    o.model = argv[1];
    o.data = (const char *const *)&argv[2];
    o.n_data = 1;
    o.folder = argv[3];
    o.hold_out = 0;
    o.threads = 2;
    o.batch_rows = 300;
    o.block = noise ? 4 : 0;
    o.copies = COPIES;
    o.rank = 4;
    if (dumps && argc > 5 + noise) o.states = argv[5 + noise];
    if (dumps && argc > 6 + noise)
        while (strcmp(train_loss_names[o.loss], argv[6 + noise]) != 0) o.loss++;
    stretto_status s = trainer_open(&t, &o, &err);
    if (s == STRETTO_OK) s = dumps ? dump(t, &err) : check(t, more, &err);
    if (s != STRETTO_OK) fprintf(stderr, "%s\n", err.text);
    trainer_close(t);
    return s == STRETTO_OK ? 0 : 1;
}
