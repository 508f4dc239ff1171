/* A heap that fails at every allocation in turn: training says so, in words, and leaves nothing half done.
 * fault_check MODEL DATA FOLDER METHOD [TEACHER | PHRASES] */
#include "base/memory.h"
#include "train/trainer.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void empty(const char *folder)
{
    char path[600];
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "%.300s/%.200s", folder, e->d_name);
        unlink(path);
    }
    if (d) closedir(d);
}

static stretto_status run(const struct train_options *o, struct error *err)
{
    struct trainer *t;
    struct train_report r;
    TRY(trainer_open(&t, o, err));
    stretto_status s = trainer_begin(t, err);
    for (bool done = false; s == STRETTO_OK && !done; done = r.done) s = trainer_step(t, &r, err);
    if (s == STRETTO_OK) s = trainer_finish(t, err);
    trainer_close(t);
    return s;
}

int main(int argc, char **argv)
{
    struct train_options o;
    uint64_t n = 1;
    if (argc != 5 && argc != 6) return 2;
    train_options_defaults(&o);
    o.model = argv[1];
    o.data = (const char *const *)&argv[2];
    o.n_data = 1;
    o.folder = argv[3];
    o.method = strcmp(argv[4], "full") == 0 ? TRAIN_FULL : TRAIN_LORA;
    o.phrases = argv[5] ? (uint32_t)strtoul(argv[5], NULL, 10) : 0;
    o.teacher = o.phrases ? NULL : argv[5];
    if (o.teacher) o.written = 0.5, o.epochs = 2;
    o.rank = 2;
    o.steps = 2;
    o.batch_rows = 24;
    o.step_rows = o.phrases ? 64 : 32;
    o.threads = 1;
    o.hold_out = 0.3;
    for (;; n += o.phrases ? 5 : o.teacher ? 4 : 1) {
        struct error err = { 0 };
        empty(o.folder);
        uint64_t before = mem_count();
        mem_fail_at(n);
        stretto_status s = run(&o, &err);
        mem_fail_at(0);
        if (s == STRETTO_OK && mem_count() - before < n) break;
        if (s == STRETTO_OK) continue;           /* what failed was not needed */
        if (s == STRETTO_E_NOMEM && err.text[0]) continue;
        fprintf(stderr, "allocation %llu: status %d, '%s'\n", (unsigned long long)n, (int)s, err.text);
        return 1;
    }
    printf("%llu allocations%s failed in turn\n", (unsigned long long)n - 1,
           o.phrases ? ", every fifth of them," : o.teacher ? ", every fourth of them," : "");
    return n > 50 ? 0 : 1;
}
