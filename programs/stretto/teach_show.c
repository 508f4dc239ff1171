#include "base/buffer.h"
#include "base/usage.h"
#include "base/words.h"
#include "stretto/teach_command.h"
#include "text/tokenizer.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "1,560,000" */
static const char *number(char out[32], uint64_t v)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)v), at = 0;
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0) out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

/* "4.88 M" */
static const char *large(char out[32], double v)
{
    const char *unit = v >= 1e9 ? " G" : v >= 1e6 ? " M" : v >= 1e3 ? " k" : "";
    double by = v >= 1e9 ? 1e9 : v >= 1e6 ? 1e6 : v >= 1e3 ? 1e3 : 1;
    snprintf(out, 32, v >= 1e3 ? "%.2f%s" : "%.0f%s", v / by, unit);
    return out;
}

static const char *duration(char out[32], double s)
{
    if (s < 60) snprintf(out, 32, "%.0f s", ceil(s));
    else if (s < 3600) snprintf(out, 32, "%d min %02d s", (int)s / 60, (int)s % 60);
    else if (s < 360000) snprintf(out, 32, "%d h %02d min", (int)s / 3600, (int)s / 60 % 60);
    else snprintf(out, 32, "%.0f days", s / 86400);
    return out;
}

void teach_say_data(FILE *f, const struct train_plan *p, const struct lines *l)
{
    char a[32], b[32], c[32], d[32];
    fprintf(f, "%s line%s of %s tokens, %s of them learned (%.0f %%); the longest has %s (%s, line %u)",
            number(a, p->samples), p->samples == 1 ? "" : "s", number(b, p->tokens), number(c, p->learned),
            100.0 * (double)p->learned / (double)p->tokens, number(d, p->longest), l->file[l->longest_file],
            l->longest_line);
    fprintf(f, "; %s held out", p->held ? number(a, p->held) : "none");
    if (!p->skipped) fprintf(f, "; none skipped\n");
    else {
        uint32_t shown = p->skipped < 8 ? p->skipped : 8;
        fprintf(f, "; %u skipped as too long:", p->skipped);
        for (uint32_t i = 0; i < shown; i++)
            fprintf(f, "%s %s line %u", i ? "," : "", l->file[l->skipped_file[i]], l->skipped_line[i]);
        fprintf(f, p->skipped > shown ? " ...\n" : "\n");
    }
}

/* ---- phrases --------------------------------------------------------------------------------- */

static void share(FILE *f, const char *what, uint64_t joined, uint64_t learned)
{
    char a[32], b[32];
    if (learned)
        fprintf(f, "%s %s of %s tokens (%.3f)", what, number(a, joined), number(b, learned),
                (double)joined / (double)learned);
}

static void quoted(FILE *f, const struct tokenizer *t, int32_t id)
{
    struct buffer b = buffer_make(1 << 20);
    fputc('"', f);
    if (tokenizer_piece(t, id, false, true, &b) == STRETTO_OK)
        for (size_t i = 0; i < b.len; i++) {
            unsigned char c = (unsigned char)b.data[i];
            if (c == '\n') fputs("\\n", f);
            else if (c == '"' || c == '\\') fprintf(f, "\\%c", c);
            else if (c < ' ') fprintf(f, "\\x%02x", c);
            else fputc(c, f);
        }
    fputc('"', f);
    buffer_done(&b);
}

void teach_say_phrases(FILE *f, const struct found_phrases *p, const struct tokenizer *t, bool all)
{
    const struct phrases *x = &p->table;
    if (all) fprintf(f, "%9s %7s %9s %9s %9s  phrase\n", "count", "groups", "tokens", "saved", "held out");
    for (uint32_t i = 0; all && i < x->n; i++) {
        uint64_t less = phrase_length(x, i) - 1;
        fprintf(f, "%9llu %7u %9u %9llu %9llu  ", (unsigned long long)p->phrase[i].count, p->phrase[i].groups,
                phrase_length(x, i), (unsigned long long)(p->phrase[i].count * less),
                (unsigned long long)(p->phrase[i].held * less));
        quoted(f, t, x->first + (int32_t)i);
        fputc('\n', f);
    }
    fprintf(f, "%u phrase%s:", x->n, x->n == 1 ? "" : "s");
    share(f, " answers become", p->joined, p->learned);
    share(f, ", those held out", p->held_joined, p->held_learned);
    fputc('\n', f);
}

const char *teach_loss(const struct train_plan *p) { return p->distils ? "KL to the teacher" : "loss"; }

void teach_say_plan(FILE *f, const struct train_plan *p, enum train_method method, uint32_t rank)
{
    char a[32], b[32], c[32], d[32];
    if (method == TRAIN_LORA)
        fprintf(f, "an adapter of rank %u on %u weights: %s of %s parameters; ", rank, p->pairs,
                large(a, (double)p->trained), large(b, (double)p->parameters));
    else if (method == TRAIN_HEADS)
        fprintf(f, "heads of %s parameters beside a model that stays as it is; ", large(a, (double)p->trained));
    else fprintf(f, "all of %s parameters; ", large(a, (double)p->trained));
    fprintf(f, "%s step%s of %s rows, rate %g\n", number(c, p->steps), p->steps == 1 ? "" : "s",
            number(d, p->rows < p->batch_rows ? p->rows : p->batch_rows), p->lr);
}

static void plan_row(const char *what, const char *value, const char *more)
{
    printf("%-22s %12s  %s\n", what, value, more);
}

/* Half of the roof is what a machine reaches. */
static double seconds_of(const struct train_plan *p)
{
    return p->roof > 0 ? (p->flops + p->teacher_flops + p->hidden_flops) / (0.5 * p->roof) : 0;
}

static double memory_of(const struct train_plan *p)
{
    uint64_t teacher = p->teacher_again ? p->teacher_bytes : 0;
    return usage_peak_bytes() + (double)(p->weights_bytes + p->program_bytes + p->writing_bytes + teacher);
}

static void print_json(const struct train_plan *p)
{
    json_t *j = json_pack("{s:f,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:f,s:f,s:f}", "memory_bytes",
        memory_of(p), "samples",
        (json_int_t)p->samples, "tokens", (json_int_t)p->tokens, "learned", (json_int_t)p->learned, "held",
        (json_int_t)p->held, "longest", (json_int_t)p->longest, "skipped", (json_int_t)p->skipped, "rows",
        (json_int_t)p->rows, "steps", (json_int_t)p->steps, "trained", (json_int_t)p->trained, "weights_bytes",
        (json_int_t)p->weights_bytes, "program_bytes", (json_int_t)p->program_bytes, "checkpoint_bytes",
        (json_int_t)p->checkpoint_bytes, "row_flops", p->row_flops, "flops", p->flops, "roof", p->roof, "seconds",
        seconds_of(p));
    if (p->noisy_rows) json_object_set_new(j, "noisy_rows", json_integer((json_int_t)p->noisy_rows));
    if (p->taught_rows) {
        json_object_set_new(j, "taught_rows", json_integer((json_int_t)p->taught_rows));
        json_object_set_new(j, "taught_bytes", json_integer((json_int_t)p->taught_bytes));
        json_object_set_new(j, "teacher_bytes", json_integer((json_int_t)p->teacher_bytes));
        json_object_set_new(j, "teacher_flops", json_real(p->teacher_flops));
    }
    if (p->hidden_rows) {
        json_object_set_new(j, "hidden_rows", json_integer((json_int_t)p->hidden_rows));
        json_object_set_new(j, "hidden_bytes", json_integer((json_int_t)p->hidden_bytes));
        json_object_set_new(j, "hidden_flops", json_real(p->hidden_flops));
    }
    json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(j);
}

/* What heads read of the model, which reads all lines once before. */
static void say_hidden(const struct train_plan *p)
{
    char b[32], rows[64];
    if (!p->hidden_rows) return;
    snprintf(rows, sizeof rows, "on disk, of %s rows", number(b, p->hidden_rows));
    plan_row("hidden states", bytes_words(b, (double)p->hidden_bytes), rows);
    snprintf(b, sizeof b, "%.4g", p->hidden_flops / 1e12);
    plan_row("Tflop", b, "of the model that reads all lines once");
}

/* Its weights are there before the training's own memory is taken, or, where the model writes, beside it too. */
static void say_teacher(const struct train_plan *p)
{
    char b[32], rows[64];
    if (!p->taught_rows) return;
    plan_row("the teacher", bytes_words(b, (double)p->teacher_bytes),
             p->teacher_again ? "of that, while it is asked" : "of memory, before all that, while it is asked");
    snprintf(rows, sizeof rows, "on disk, of %s rows", number(b, p->taught_rows));
    plan_row("its answers", bytes_words(b, (double)p->taught_bytes), rows);
    snprintf(b, sizeof b, "%.4g", p->teacher_flops / 1e12);
    plan_row("Tflop", b, "of its");
}

void teach_print_plan(const struct train_plan *p, bool json)
{
    char a[32], b[32], c[64];
    double own = usage_peak_bytes(), all = memory_of(p);
    if (json) {
        print_json(p);
        return;
    }
    snprintf(c, sizeof c, "of an epoch; %.2f x less by shared beginnings",
             (double)p->rows_alone / (double)(p->rows ? p->rows : 1));
    plan_row("rows", number(a, p->rows), p->rows_alone > p->rows ? c : "of an epoch");
    if (p->noisy_rows) plan_row("noisy rows", number(a, p->noisy_rows), "of these: copies of answers");
    plan_row("rows at once", number(a, p->step_rows), p->keep == KEEP_LAYERS ? "layers are computed twice" : "");
    plan_row("steps", number(a, p->steps), "");
    plan_row("weights", bytes_words(b, (double)p->weights_bytes), "as they are, what is trained, gradients and "
             "moments");
    plan_row("values", bytes_words(b, (double)p->program_bytes), "between the way there and back");
    plan_row("writing", bytes_words(b, (double)p->writing_bytes), "of checkpoints and of what was learned");
    plan_row("program", bytes_words(b, own), "with the vocabulary and the data");
    plan_row("memory", bytes_words(b, all), "all of these");
    plan_row("a checkpoint", bytes_words(b, (double)p->checkpoint_bytes), "on disk, of which two are kept");
    say_teacher(p);
    say_hidden(p);
    snprintf(b, sizeof b, "%.3g", p->row_flops / 1e9);
    plan_row("Gflop of a row", b, "there and back");
    snprintf(b, sizeof b, "%.4g", p->flops / 1e12);
    plan_row("Tflop", b, "of all");
    if (!(p->roof > 0)) return;
    snprintf(c, sizeof c, "at half of %.0f Gflop/s, this machine's float32", p->roof / 1e9);
    plan_row("time", duration(a, seconds_of(p)), c);
}

/* ---- samples --------------------------------------------------------------------------------- */

static void print_token(const struct tokenizer *t, int32_t id, bool first)
{
    struct buffer b = buffer_make(1 << 16);
    if (t) tokenizer_piece(t, id, first, true, &b);
    putchar('\'');
    for (size_t i = 0; i < b.len; i++) {
        unsigned char c = (unsigned char)b.data[i];
        if (c == '\n') fputs("\\n", stdout);
        else if (c == '\t') fputs("\\t", stdout);
        else if (c < 0x20 || c == 0x7f) printf("\\x%02x", c);
        else putchar(c);
    }
    puts("'");
    buffer_done(&b);
}

/* Tokens of copies in place of those of the sample, from the first wrong one on those that shall follow. */
static void show_copies(const struct lines *l, const struct tokenizer *t, const struct noise_how *noise,
                        uint32_t sample)
{
    struct noise x = noise_begin(noise, l, sample, 0);
    const int32_t *y = sample_ids(l, &l->sample[sample]);
    int32_t state[NOISE_WINDOW];
    while (noise_next(&x)) {
        uint32_t first = noise_state(&x, state);
        printf("copy %u of tokens %u to %u", x.copy + 1, x.at, x.at + x.n - 1);
        puts(first + 1 < x.n ? ":" : ": all that is read is right, so nothing is learned");
        for (uint32_t k = 0; k + 1 < x.n && first + 1 < x.n; k++) {
            printf("%5u %8d  %-9s ", x.at + k, state[k], state[k] != y[x.at + k] ? "wrong" : "");
            print_token(t, state[k], k == 0);
            if (k < first) continue;
            printf("%26s-> ", "");
            print_token(t, y[x.at + k + 1], false);
        }
    }
}

void teach_show(const struct lines *l, const struct tokenizer *t, const struct noise_how *noise, size_t n)
{
    for (uint32_t i = 0; i < n && i < l->n; i++) {
        const struct sample *s = &l->sample[i];
        uint32_t counts = 0;
        for (uint32_t k = 0; k < s->n; k++) counts += sample_weights(l, s)[k] > 0;
        printf("%s, line %u: %u tokens, %u learned\n", l->file[s->file], s->line, s->n, counts);
        for (uint32_t k = 0; k < s->n; k++) {
            float w = sample_weights(l, s)[k];
            char mark[16] = "";
            if (w > 0) snprintf(mark, sizeof mark, w == 1 ? "learned" : "x %g", (double)w);
            printf("%5u %8d  %-9s ", k, sample_ids(l, s)[k], mark);
            print_token(t, sample_ids(l, s)[k], k == 0);
        }
        show_copies(l, t, noise, i);
        putchar('\n');
    }
}

void teach_accept(char *out, size_t size, const struct head_accept *a)
{
    size_t n = (size_t)snprintf(out, size, "guesses right ");
    for (uint32_t k = 0; k < a->n && n < size; k++)
        n += (size_t)snprintf(out + n, size - n, "%s%.2f", k ? "/" : "", a->accept[k]);
    if (n < size) snprintf(out + n, size - n, ", %.2f tokens a step", a->per_step);
}

/* ---- progress -------------------------------------------------------------------------------- */

void teach_line(char *out, size_t size, size_t width, const struct train_report *r, const struct train_plan *p,
                double rows_per_second, double held, double per_step, const struct head_accept *accept, double left)
{
    char time[32], roof[32] = "", measured[192] = "", steps[40] = "", accepted[128] = "";
    if (p->roof > 0)
        snprintf(roof, sizeof roof, " (%.0f %% of the roof)", 100 * rows_per_second * p->row_flops / p->roof);
    if (isfinite(per_step)) snprintf(steps, sizeof steps, "  %.2f tokens a step", per_step);
    if (accept->n) teach_accept(accepted, sizeof accepted, accept);
    if (isfinite(held))
        snprintf(measured, sizeof measured, "  held out %.3f%s%s", held, accept->n ? ", " : "", accepted);
    char loss[64], noisy[32] = "";
    if (r->skipped) snprintf(loss, sizeof loss, "skipped: values overflow");
    else snprintf(loss, sizeof loss, "%s %.3f +- %.3f", p->distils ? "KL" : "loss", r->loss, r->error);
    if (isfinite(r->noisy)) snprintf(noisy, sizeof noisy, ", noisy %.3f", r->noisy);
    int n = snprintf(out, size, "step %llu of %llu  %s%s%s%s  %.0f rows/s%s  %s left",
                     (unsigned long long)r->step, (unsigned long long)r->steps, loss, noisy, measured, steps,
                     rows_per_second, roof, duration(time, left));
    if (n > 0 && (size_t)n > width && width < size) out[width] = '\0';
}
