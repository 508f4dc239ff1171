/* stretto teach: a model learns from lines of data. */
#include "base/buffer.h"
#include "base/clock.h"
#include "base/usage.h"
#include "format/content.h"
#include "format/convert.h"
#include "stretto/commands.h"
#include "stretto/fetch.h"
#include "stretto/open.h"
#include "stretto/recipe.h"
#include "stretto/teach_command.h"
#include "text/tokenizer_gguf.h"
#include "ui/progress.h"
#include "ui/terminal.h"
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PLAIN_EVERY = 5, DRAW_EVERY = 30 };

struct run {
    struct teach_command *o;
    struct ui_progress bar;
    struct ui_terminal terminal;
    struct buffer in, converted, teacher;
    json_t *begun;                       /* run.json of a training that goes on */
    struct trainer *t;
    double started, shown, drawn;        /* seconds of the clock              */
    double first_loss, loss, first_held, held, held_error;
    double first_noisy, noisy, held_noisy, first_per_step, per_step;
    struct head_accept accept;           /* as measured last                  */
    double rate, learning;               /* rows a second, smoothed; seconds of steps of this call */
    uint64_t rows, learned, skipped;     /* of this call                      */
    bool line;                           /* the cursor stands behind a line   */
};

static enum train_method method_of(const struct teach_command *o)
{
    int m = 0;
    while (m + 1 < TRAIN_METHODS && strcmp(o->method, train_method_names[m]) != 0) m++;
    return (enum train_method)m;
}

static void break_line(struct run *x)
{
    if (x->line) fputc('\n', stderr);
    x->line = false;
    ui_progress_break(&x->bar);
}

static void on_log(void *ud, enum log_level level, const char *text)
{
    (void)level;
    break_line(ud);
    fprintf(stderr, "stretto teach: %s\n", text);
}

static int failed(struct run *x, stretto_status s, const struct error *err)
{
    break_line(x);
    return command_fail("teach", s, err->text);
}

/* As Ctrl-C. */
static void on_term(int sig)
{
    (void)sig;
    interrupted = 1;
}

/* ---- before it begins ------------------------------------------------------------------------ */

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* What tells one folder's model from another's: its numbers, its configuration and its tokenizer. */
static stretto_status folder_content(const char *folder, char out[CONTENT_DIGITS], struct error *err)
{
    struct buffer all = buffer_make(1 << 30);
    struct source *s;
    struct source_str part;
    TRY(source_open(&s, folder, err));
    source_content(s, out);
    stretto_status ok = buffer_append(&all, out, strlen(out));
    for (size_t i = 0; i < 2 && ok == STRETTO_OK; i++)
        if (source_file(s, i ? "tokenizer.json" : "config.json", &part)) ok = buffer_append(&all, part.p, part.n);
    if (ok == STRETTO_OK) content_of(all.data, all.len, out);
    buffer_done(&all);
    source_close(s);
    return ok == STRETTO_OK ? ok : fail(err, ok, "out of memory");
}

static const char folder_key[] = "stretto.teach.folder";

static stretto_status same_folder(const char *file, const char *folder, const char *now, struct error *err)
{
    struct source *s;
    struct source_str was = { "", 0 };
    TRY(source_open(&s, file, err));
    source_string(s, folder_key, &was);
    bool same = was.n == strlen(now) && memcmp(was.p, now, was.n) == 0;
    source_close(s);
    return same ? STRETTO_OK
                : fail(err, STRETTO_E_ARG, "%s was made of another folder than %s, or of what was in it then: name "
                       "another folder with -o, or remove that file", file, folder);
}

/* A folder becomes a file beside what will be learned, with the numbers as they are. */
static int take_model(struct run *x)
{
    struct stat st;
    struct error err = { 0 };
    char content[CONTENT_DIGITS];
    int code = model_path("teach", x->o->model, x->o->yes, &x->in);
    if (code != EXIT_DONE || !is_folder(x->in.data)) return code;
    if (!x->o->out)
        return command_usage("teach", "a folder of transformers is made a file first: name where, -o FOLDER");
    const char *const notes[] = { folder_key, content, NULL };
    struct convert_options c = { .type = DT_F32, .force = true, .tokenizer = tokenizer_to_gguf, .notes = notes,
                                 .progress = ui_progress_hook(&x->bar), .log = { .say = on_log, .ud = x },
                                 .cancel = &interrupted };
    stretto_status s = folder_content(x->in.data, content, &err);
    if (s == STRETTO_OK) s = buffer_printf(&x->converted, "%s/base.gguf", x->o->out);
    mkdir(x->o->out, 0777);
    if (s == STRETTO_OK && stat(x->converted.data, &st) != 0) s = convert(x->in.data, x->converted.data, &c, &err);
    else if (s == STRETTO_OK) s = same_folder(x->converted.data, x->in.data, content, &err);
    return s == STRETTO_OK ? EXIT_DONE : failed(x, s, &err);
}

static int check(const struct teach_command *o)
{
    bool lora = strcmp(o->method, "lora") == 0 || strcmp(o->method, "consistency") == 0;
    bool heads = strcmp(o->method, "heads") == 0;
    if (!o->out && !o->show && !o->plan)
        return command_usage("teach", "where does what is learned go? Name a folder: -o FOLDER");
    if (!lora && (o->targets || o->rows_of || o->last_layers || o->alpha > 0 || teach_given("rank")))
        return command_usage("teach", "--rank, --alpha, --targets, --rows-of, --gated and --last-layers belong to "
                             "--method lora");
    static const char *const of_noise[] = { "copies", "loss", "noisy-weight", "ar" };
    for (size_t i = 0; i < sizeof of_noise / sizeof *of_noise; i++)
        if (!o->block && !teach_traced(o) && teach_given(of_noise[i]))
            return command_usage("teach", "--%s belongs to noisy copies of answers: --block 8", of_noise[i]);
    if (o->rows_of && strcmp(o->rows_of, "guesses") == 0 && !o->block && !teach_traced(o))
        return command_usage("teach", "--rows-of guesses needs noisy copies of answers: --block 8");
    static const char *const of_heads[] = { "head", "lora", "depth", "slice", "feed" };
    for (size_t i = 0; i < sizeof of_heads / sizeof *of_heads; i++)
        if (!heads && teach_given(of_heads[i]))
            return command_usage("teach", "--%s belongs to --method heads", of_heads[i]);
    if (heads && o->feed && strcmp(o->head, "recursive") != 0)
        return command_usage("teach", "--feed belongs to --head recursive");
    if (o->gated && strcmp(o->rows_of, "guesses") != 0)
        return command_usage("teach", "--gated is an adapter of guesses, and --rows-of %s is another one", o->rows_of);
    if (!o->watch && o->agreement > 0) return command_usage("teach", "--agreement belongs to --watch N");
    static const char *const of_adamw[] = { "optimizer-bytes", "beta1", "beta2", "eps" };
    for (size_t i = 0; i < sizeof of_adamw / sizeof *of_adamw; i++)
        if (strcmp(o->optimizer, "adamw") != 0 && teach_given(of_adamw[i]))
            return command_usage("teach", "--%s belongs to --optimizer adamw", of_adamw[i]);
    if (o->teacher && o->phrases)
        return command_usage("teach", "--phrases are tokens that a --teacher does not have; leave one of them out");
    if (!o->teacher && o->teacher_cache && !heads)
        return command_usage("teach", "--teacher-cache is of the answers of a --teacher MODEL, or of hidden states for "
                             "--method heads");
    if (!o->teacher && o->written > 0)
        return command_usage("teach", "--written needs a --teacher MODEL that judges it");
    if (o->on_policy) return command_usage("teach", "--on-policy belongs to --recipe");
    if ((lora || heads) && o->save_f32) return command_usage("teach", "--save-f32 belongs to --method full");
    return EXIT_DONE;
}

static int take_teacher(struct run *x)
{
    return x->o->teacher ? model_path("teach", x->o->teacher, x->o->yes, &x->teacher) : EXIT_DONE;
}

static int open_trainer(struct run *x)
{
    struct train_options t;
    struct error err = { 0 };
    if (!x->o->data.n && !teach_traced(x->o))
        return command_usage("teach", "what is to be learned? Name lines of data: -d FILE.jsonl");
    int code = teach_options(x->o, &t);
    if (code != EXIT_DONE) return code;
    t.model = x->converted.len ? x->converted.data : x->in.data;
    if (t.teacher) t.teacher = x->teacher.data;
    if (!t.folder) t.folder = ".";
    t.level = getenv("STRETTO_CPU");
    t.progress = ui_progress_hook(&x->bar);
    t.log = (struct log){ .say = on_log, .ud = x, .least = LOG_INFO };
    t.cancel = &interrupted;
    stretto_status s = trainer_open(&x->t, &t, &err);
    return s == STRETTO_OK ? EXIT_DONE : failed(x, s, &err);
}

/* ---- learning -------------------------------------------------------------------------------- */

static void tell(struct run *x, const struct train_report *r)
{
    char text[256];
    double now = clock_seconds();
    if (x->o->quiet) return;
    if (!r->done && r->step > 1 && now - x->shown < (x->terminal.moves ? 0.1 : PLAIN_EVERY)) return;
    x->shown = now;
    double left = (double)(r->steps - r->step) * x->learning / (double)(x->rows ? x->rows : 1) * (double)r->rows;
    size_t width = x->terminal.moves ? ui_terminal_width(stderr) - 1 : sizeof text - 1;
    teach_line(text, sizeof text, width, r, trainer_plan(x->t), x->rate, x->held, x->per_step, &x->accept, left);
    fprintf(stderr, x->terminal.moves ? "\r%s\033[K" : "%s\n", text);
    fflush(stderr);
    x->line = x->terminal.moves;
}

static void note(struct run *x, const struct train_report *r)
{
    double rate = (double)r->rows / r->seconds;
    x->rate = x->rate > 0 ? 0.8 * x->rate + 0.2 * rate : rate;
    x->learning += r->seconds;
    x->rows += r->rows;
    x->learned += r->learned;
    x->skipped += r->skipped;
    if (!r->skipped) {
        x->loss = r->loss;
        x->noisy = r->noisy;
    }
    if (!isfinite(x->first_loss)) x->first_loss = r->loss;
    if (!isfinite(x->first_noisy)) x->first_noisy = r->noisy;
    if (r->accept.n) x->accept = r->accept;
    if (!isfinite(r->held)) return;
    x->first_held = r->first_held;
    x->held = r->held;
    x->held_error = r->held_error;
    x->held_noisy = r->held_noisy;
    if (isfinite(r->first_per_step)) x->first_per_step = r->first_per_step;
    if (isfinite(r->per_step)) x->per_step = r->per_step;
}

static void draw(struct run *x, bool now)
{
    struct error err = { 0 };
    double t = clock_seconds();
    if (!now && t - x->drawn < DRAW_EVERY) return;
    x->drawn = t;
    if (teach_draw(x->o->out, &err) != STRETTO_OK && now) {
        break_line(x);
        fprintf(stderr, "stretto teach: no picture: %s\n", err.text);
    }
}

/* What was done until now is kept. */
static int stop(struct run *x, stretto_status s, const struct error *err)
{
    struct error why = { 0 };
    break_line(x);
    if (s == STRETTO_E_IO) return failed(x, s, err);
    bool kept = trainer_save(x->t, &why) == STRETTO_OK && trainer_at(x->t) > 0;
    if (s != STRETTO_E_CANCEL) return failed(x, s, err);
    if (kept)
        fprintf(stderr, "stretto teach: stopped after step %llu; stretto teach --resume -o %s goes on\n",
                (unsigned long long)trainer_at(x->t), x->o->out);
    else fprintf(stderr, "stretto teach: stopped before anything was learned\n");
    return EXIT_FAILED;
}

static int learn(struct run *x)
{
    struct error err = { 0 };
    struct train_report r = { .done = false };
    uint64_t all = trainer_plan(x->t)->steps;
    for (r.done = trainer_at(x->t) >= all; !r.done;) {
        if (interrupted) return stop(x, STRETTO_E_CANCEL, &err);
        stretto_status s = trainer_step(x->t, &r, &err);
        if (s != STRETTO_OK) return stop(x, s, &err);
        note(x, &r);
        tell(x, &r);
        draw(x, false);
    }
    break_line(x);
    stretto_status s = trainer_finish(x->t, &err);
    if (s != STRETTO_OK) return failed(x, s, &err);
    draw(x, true);
    return EXIT_DONE;
}

/* ---- the end --------------------------------------------------------------------------------- */

static void put_real(json_t *j, const char *key, double v)
{
    json_object_set_new(j, key, isfinite(v) ? json_real(v) : json_null());
}

static void print_end(const struct run *x, const char *wrote)
{
    json_t *j = json_pack("{s:s,s:I,s:I,s:I}", "wrote", wrote, "steps", (json_int_t)trainer_at(x->t), "rows",
                          (json_int_t)x->rows, "learned", (json_int_t)x->learned);
    json_object_set_new(j, "skipped", json_integer((json_int_t)x->skipped));
    put_real(j, "first_loss", x->first_loss);
    put_real(j, "loss", x->loss);
    put_real(j, "first_held", x->first_held);
    put_real(j, "held", x->held);
    put_real(j, "held_error", x->held_error);
    json_object_set_new(j, "held_lines", json_integer((json_int_t)trainer_plan(x->t)->held));
    json_object_set_new(j, "held_tokens", json_integer((json_int_t)trainer_plan(x->t)->held_learned));
    if (trainer_plan(x->t)->noisy_rows) {
        put_real(j, "first_noisy", x->first_noisy);
        put_real(j, "noisy", x->noisy);
        put_real(j, "held_noisy", x->held_noisy);
        put_real(j, "first_per_step", x->first_per_step);
        put_real(j, "per_step", x->per_step);
    }
    if (x->accept.n) {
        json_t *list = json_array();
        for (uint32_t k = 0; k < x->accept.n; k++) json_array_append_new(list, json_real(x->accept.accept[k]));
        json_object_set_new(j, "accept", list);
        put_real(j, "tokens_per_step", x->accept.per_step);
    }
    if (trainer_plan(x->t)->distils) {
        put_real(j, "regained", 1 - x->held / x->first_held);
        put_real(j, "held_written", trainer_held_written(x->t));
    }
    put_real(j, "seconds", x->learning);
    put_real(j, "rows_per_second", x->learning > 0 ? (double)x->rows / x->learning : NAN);
    put_real(j, "cpu_seconds", usage_cpu_seconds());
    put_real(j, "peak_bytes", usage_peak_bytes());
    json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(j);
}

static void say_end(const struct run *x)
{
    char wrote[4200];
    double scale;
    uint64_t skipped = trainer_skipped(x->t, &scale);
    static const char *const files[TRAIN_METHODS] = { "adapter.gguf", "model.gguf", "heads.safetensors" };
    snprintf(wrote, sizeof wrote, "%.4000s/%s", x->o->out, files[method_of(x->o)]);
    if (x->o->json) {
        print_end(x, wrote);
        return;
    }
    printf("%s: %llu steps", wrote, (unsigned long long)trainer_at(x->t));
    const struct train_plan *p = trainer_plan(x->t);
    if (x->rows) printf(", %s %.3f -> %.3f", teach_loss(p), x->first_loss, x->loss);
    if (x->rows && p->noisy_rows) printf(", noisy %.3f -> %.3f", x->first_noisy, x->noisy);
    if (isfinite(x->held) && x->rows)
        printf(", held out %.3f -> %.3f +- %.3f", x->first_held, x->held, x->held_error);
    if (isfinite(x->held) && x->rows && p->distils)
        printf(" (%.0f %% of it regained)", 100 * (1 - x->held / x->first_held));
    if (isfinite(trainer_held_written(x->t)))
        printf(", %.3f when rounded to the types of the file", trainer_held_written(x->t));
    if (isfinite(x->per_step) && isfinite(x->first_per_step))
        printf(", %.2f -> %.2f tokens in a step of %s", x->first_per_step, x->per_step,
               x->o->rows_of && strcmp(x->o->rows_of, "guesses") == 0 ? "gated decoding" : "Jacobi decoding");
    if (x->accept.n) {
        char text[160];
        teach_accept(text, sizeof text, &x->accept);
        printf(", %s", text);
    }
    if (skipped)
        printf("; %llu step%s skipped because values overflowed, the loss is now times %g",
               (unsigned long long)skipped, skipped == 1 ? "" : "s", scale);
    if (x->rows)
        printf("; %.0f rows/s, %.0f MB at most", (double)x->rows / x->learning, usage_peak_bytes() / 1e6);
    putchar('\n');
}

static int begin(struct run *x)
{
    struct error err = { 0 };
    const struct train_plan *p = trainer_plan(x->t);
    if (!x->o->quiet) teach_say_data(stderr, p, trainer_lines(x->t));
    stretto_status s = trainer_begin(x->t, &err);
    if (s != STRETTO_OK) return failed(x, s, &err);
    if (!x->o->quiet)
        teach_say_plan(stderr, p, method_of(x->o), (uint32_t)x->o->rank);
    if (!x->o->quiet && x->o->resume)
        fprintf(stderr, "going on behind step %llu\n", (unsigned long long)trainer_at(x->t));
    return EXIT_DONE;
}

static int plan(struct run *x)
{
    struct error err = { 0 };
    const struct train_plan *p = trainer_plan(x->t);
    stretto_status s = trainer_measure(x->t, &err);
    if (s != STRETTO_OK) return failed(x, s, &err);
    if (!x->o->json) {
        teach_say_data(stdout, p, trainer_lines(x->t));
        teach_say_plan(stdout, p, method_of(x->o), (uint32_t)x->o->rank);
    }
    teach_print_plan(p, x->o->json);
    return EXIT_DONE;
}

static int teach(struct run *x)
{
    if (x->o->resume && !x->o->out)
        return command_usage("teach", "--resume needs the folder of a training: -o FOLDER");
    int code = x->o->resume ? teach_resume(x->o, &x->begun) : EXIT_DONE;
    teach_usual(x->o);
    if (code == EXIT_DONE) code = check(x->o);
    if (code == EXIT_DONE) code = take_model(x);
    if (code == EXIT_DONE) code = take_teacher(x);
    if (code == EXIT_DONE) code = open_trainer(x);
    if (code != EXIT_DONE) return code;
    const struct found_phrases *phrases = trainer_phrases(x->t);
    if (phrases->table.n && (x->o->show || !x->o->quiet))
        teach_say_phrases(x->o->show ? stdout : stderr, phrases, trainer_tokenizer(x->t), x->o->show);
    if (x->o->show) {
        teach_show(trainer_lines(x->t), trainer_tokenizer(x->t), trainer_noise(x->t), (size_t)x->o->show);
        return EXIT_DONE;
    }
    if (x->o->plan) return plan(x);
    code = begin(x);
    if (code == EXIT_DONE) code = learn(x);
    if (code == EXIT_DONE) say_end(x);
    return code;
}

static int teach_run(void *options, size_t n, char **operands)
{
    (void)n, (void)operands;
    if (((struct teach_command *)options)->recipe) return recipe_run(options);
    struct run x = { .o = options, .in = buffer_make(1 << 16), .converted = buffer_make(1 << 16),
                     .teacher = buffer_make(1 << 16), .first_loss = NAN,
                     .loss = NAN, .first_noisy = NAN, .noisy = NAN, .held_noisy = NAN,
                     .first_per_step = NAN, .per_step = NAN, .first_held = NAN, .held = NAN, .held_error = NAN };
    ui_progress_init(&x.bar, x.o->quiet ? NULL : stderr);
    x.bar.items = true;
    x.terminal = ui_terminal_look(stderr);
    catch_interrupt();
    signal(SIGTERM, on_term);
    if (signal(SIGHUP, SIG_IGN) != SIG_IGN) signal(SIGHUP, on_term);    /* nohup stays */
    int code = teach(&x);
    break_line(&x);
    trainer_close(x.t);
    json_decref(x.begun);
    buffer_done(&x.in);
    buffer_done(&x.converted);
    buffer_done(&x.teacher);
    return code;
}

const struct command command_teach = {
    .name = "teach",
    .summary = "let a model learn from lines of data",
    .operands = "",
    .description =
        "Reads lines of conversations, prompts with completions or texts, and changes the model, or an adapter "
        "beside it, so that it says what stands there. What is learned is printed before with --show 3, what it "
        "takes with --plan. Lines are never cut; conversations go through the model's own template, and their "
        "answers are learned with the token that ends them. With --teacher it is another model that says what is "
        "learned, token by token.\n\n"
        "The folder has run.json (what was asked for), checkpoints, log.jsonl, curves.svg and, once the last step is "
        "done, what was learned: adapter.gguf and the folder peft, model.gguf, or heads.safetensors. Ctrl-C keeps what "
        "was learned; "
        "--resume -o FOLDER goes on, also after kill -9 or a full disk, and ends with the same bytes as if nothing "
        "had happened. Threads and memory change no bit either.\n\n"
        "With --recipe it is a chain of trainings, each of them a command that is printed and can be typed: sql learns "
        "from questions about databases, of which every line names its own as \"group\", code from texts or prompts "
        "with completions, chat from conversations. FOLDER/recipe.json has the stages and how many are done.",
    .uses = teach_uses,
    .n_uses = 6,
    .options_size = sizeof(struct teach_command),
    .defaults = teach_defaults,
    .run = teach_run,
};
