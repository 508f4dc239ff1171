/* A model learns a sentence, in as few lines as that takes: what an embedder writes. It stops in the middle, as if it
 * had been killed, and goes on.
 *
 * usage: teach_api MODEL DATA FOLDER */
#include "stretto/train.h"
#include <stdio.h>
#include <string.h>

static int learn(const char *model, const char *data, const char *folder, uint32_t resume, uint64_t stop_at)
{
    char err[600];
    const char *const files[] = { data, NULL };
    stretto_train_options o = STRETTO_TRAIN_OPTIONS_INIT;
    stretto_trainer *t;
    o.data = files;
    o.hold_out = -1;
    o.rank = 4;
    o.learning_rate = 5e-3;
    o.epochs = 4;
    o.rows = 64;
    o.resume = resume;
    if (stretto_trainer_open(&t, model, folder, &o, err, sizeof err) != STRETTO_OK) {
        printf("%s\n", err);
        return 1;
    }
    stretto_train_plan p = { .size = sizeof p };
    stretto_train_report r = { .size = sizeof r };
    stretto_status s = stretto_trainer_measure(t);
    if (s == STRETTO_OK) s = stretto_trainer_plan(t, &p);
    printf("%llu lines, %llu steps, %.1f MB\n", (unsigned long long)p.lines, (unsigned long long)p.steps,
           (double)p.bytes / 1e6);
    double first = 0;
    while (s == STRETTO_OK && !r.done && (!stop_at || r.step < stop_at)) {
        s = stretto_trainer_step(t, &r);
        if (s == STRETTO_OK && first == 0) first = r.loss;
    }
    if (s == STRETTO_OK && r.done) s = stretto_trainer_finish(t);
    if (s == STRETTO_OK) s = stretto_trainer_save(t);
    printf("step %llu of %llu: loss %.3f, %.3f at first\n", (unsigned long long)r.step, (unsigned long long)r.steps,
           r.loss, first);
    if (s != STRETTO_OK) printf("%s\n", stretto_trainer_error(t));
    stretto_trainer_close(t);
    return s == STRETTO_OK && r.loss < first ? 0 : 1;
}

static int refused(const char *model, const char *data, stretto_train_options o, const char *words)
{
    char err[600] = "";
    const char *const files[] = { data, NULL };
    stretto_trainer *t;
    o.data = files;
    if (stretto_trainer_open(&t, model, "never", &o, err, sizeof err) == STRETTO_E_ARG && strstr(err, words)) return 1;
    printf("not refused with '%s': %s\n", words, err);
    stretto_trainer_close(t);
    return 0;
}

int main(int argc, char **argv)
{
    const stretto_train_options usual = STRETTO_TRAIN_OPTIONS_INIT;
    if (argc != 4) return 2;
    stretto_train_options method = usual, optimizer = usual, written = usual, rows = usual, agreement = usual,
                          drawn = usual, noisy = usual, block = usual;
    method.method = "guess";
    optimizer.optimizer = "sgd";
    written.written = 0.5;
    written.epochs = 2;
    rows.method = "full";
    rows.rows_of = "answers";
    agreement.agreement = 0.5;
    drawn.teacher = argv[1];
    drawn.teacher_drawn = UINT32_MAX;
    noisy.noisy_loss = "some";
    block.block = 1;
    if (!refused(".", argv[2], usual, "convert") || !refused(NULL, argv[2], usual, "a model and a folder")
        || !refused(argv[1], argv[2], method, "guess") || !refused(argv[1], argv[2], optimizer, "adafactor")
        || !refused(argv[1], argv[2], written, "teacher") || !refused(argv[1], argv[2], rows, "method full")
        || !refused(argv[1], argv[2], agreement, "watched") || !refused(argv[1], argv[2], drawn, "256 at most")
        || !refused(argv[1], argv[2], noisy, "cllm") || !refused(argv[1], argv[2], block, "2 to 256"))
        return 1;
    return learn(argv[1], argv[2], argv[3], 0, 5) || learn(argv[1], argv[2], argv[3], 1, 0);
}
