/* bench --teach: steps of training with random tokens, operation by operation. */
#include "stretto/bench.h"
#include "stretto/commands.h"
#include "stretto/fetch.h"
#include "stretto/open.h"
#include "base/buffer.h"
#include "train/timing.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH = 256, RANK = 16 };

static json_t *row_json(const struct train_timing_how *how, const struct train_timing *t)
{
    const struct speed_roof roof = { .bytes = t->bytes_roof };
    json_t *ops = roof_rows(how->repeat, t->op, t->n, &roof);
    return json_pack("{s:s,s:s,s:i,s:i,s:f,s:f,s:f,s:f,s:f,s:I,s:o}", "teach", train_method_names[how->method],
                     "precision", train_precision_names[how->precision], "rows",
                     (int)how->rows, "threads", (int)how->threads, "seconds", t->seconds, "cpu_seconds",
                     t->cpu_seconds, "rows_per_second", how->rows / t->seconds, "rows_per_core_second",
                     how->rows / t->cpu_seconds, "peak_bytes", t->peak_bytes, "trained",
                     (json_int_t)t->trained, "operations", ops);
}

static void print(const struct teach_bench *o, const struct train_timing_how *how, const struct train_timing *t,
                  bool first)
{
    struct speed_roof roof = { .bytes = t->bytes_roof };
    char name[96];
    memcpy(roof.macs, t->macs_roof, sizeof roof.macs);
    snprintf(name, sizeof name, "teach %s, %u rows", o->method, how->rows);
    roof_table(o->format, first, name, how->repeat, t->op, t->n, &roof);
    if (strcmp(o->format, "csv") == 0) return;
    printf("\n%.1f rows a second, %.1f a second of a core\n", how->rows / t->seconds, how->rows / t->cpu_seconds);
}

static int one(const struct teach_bench *o, const struct train_timing_how *how, json_t *rows, bool first)
{
    static struct train_timing t;
    struct error err = { 0 };
    stretto_status s = train_timing(&t, how, &err);
    if (s != STRETTO_OK) return command_fail("bench", s, err.text);
    if (rows) json_array_append_new(rows, row_json(how, &t));
    else print(o, how, &t, first);
    return EXIT_DONE;
}

int bench_teach(const struct teach_bench *o)
{
    struct buffer path = buffer_make(1 << 16);
    json_t *rows = strcmp(o->format, "json") == 0 ? json_array() : NULL;
    int code = model_path("bench", o->model->model, o->model->yes, &path);
    bool first = true;
    for (size_t t = 0; t < o->threads->n && code == EXIT_DONE; t++)
        for (size_t i = 0; i < o->rows->n && code == EXIT_DONE; i++, first = false) {
            struct train_timing_how how = { .model = path.data, .rank = RANK, .rows = (uint32_t)o->rows->v[i],
                                            .length = LENGTH, .repeat = (uint32_t)o->repeat,
                                            .threads = (unsigned)o->threads->v[t], .cancel = &interrupted,
                                            .level = getenv("STRETTO_CPU") };
            how.method = strncmp(o->method, "full", 4) == 0 ? TRAIN_FULL : TRAIN_LORA;
            how.precision = strstr(o->method, "bf16") ? PRECISION_BF16 : PRECISION_F32;
            if (how.rows) code = one(o, &how, rows, first);
        }
    if (rows && code == EXIT_DONE) {
        json_dumpf(rows, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        putchar('\n');
    }
    json_decref(rows);
    buffer_done(&path);
    return code;
}
