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

int main(int argc, char **argv)
{
    char err[600] = "";
    stretto_train_options o = STRETTO_TRAIN_OPTIONS_INIT;
    stretto_trainer *t;
    if (argc != 4) return 2;
    if (stretto_trainer_open(&t, ".", argv[3], &o, err, sizeof err) != STRETTO_E_ARG || !strstr(err,
                                                                                                "convert")) return 1;
    o.method = "guess";
    if (stretto_trainer_open(&t, argv[1], argv[3], &o, err, sizeof err) != STRETTO_E_ARG || !strstr(err,
                                                                                                    "guess")) return 1;
    o.method = NULL;
    o.optimizer = "sgd";
    if (stretto_trainer_open(&t, argv[1], argv[3], &o, err, sizeof err) != STRETTO_E_ARG || !strstr(err, "adafactor"))
        return 1;
    if (stretto_trainer_open(&t, NULL, argv[3], &o, err, sizeof err) != STRETTO_E_ARG) return 1;
    return learn(argv[1], argv[2], argv[3], 0, 5) || learn(argv[1], argv[2], argv[3], 1, 0);
}
