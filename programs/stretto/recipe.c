/* stretto teach --recipe: looks at the data, prints the chain, and runs its stages one after the other, each by this
 * same program. What is done is kept, what was cut off goes on where it was: by the same command. */
#include "base/buffer.h"
#include "base/file.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include "stretto/commands.h"
#include "stretto/fetch.h"
#include "stretto/open.h"
#include "stretto/recipe.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct run {
    const struct teach_command *o;
    const struct recipe *r;
    struct buffer in, state;     /* the model; FOLDER/recipe.json */
    struct chain chain;
    size_t done;                 /* stages */
    char data[17];               /* a hash of the lines */
};

static int failed(stretto_status s, const struct error *err) { return command_fail("teach", s, err->text); }

/* As Ctrl-C, for the stage that runs and for those behind it. */
static void on_term(int sig)
{
    (void)sig;
    interrupted = 1;
}

static void catch_ends(void)
{
    struct sigaction a = { .sa_handler = on_term }, now;
    sigemptyset(&a.sa_mask);
    sigaction(SIGTERM, &a, NULL);
    bool asked = sigaction(SIGHUP, NULL, &now) == 0;
    if (asked && now.sa_handler != SIG_IGN) sigaction(SIGHUP, &a, NULL);        /* nohup stays */
    catch_interrupt();
}

/* ---- what is kept ----------------------------------------------------------------------------- */

static json_t *stages_json(const struct chain *c)
{
    json_t *all = json_array();
    for (size_t i = 0; i < c->n; i++) {
        json_t *words = json_array();
        for (size_t k = 0; k < c->stage[i].words.n; k++)
            json_array_append_new(words, json_string(c->stage[i].words.v[k]));
        json_array_append_new(all, words);
    }
    return all;
}

static int keep(struct run *x)
{
    struct error err = { 0 };
    json_t *j = json_pack("{s:s,s:s,s:I,s:o}", "recipe", x->r->name, "data", x->data, "done", (json_int_t)x->done,
                          "stages", stages_json(&x->chain));
    char *text = json_dumps(j, JSON_INDENT(1));
    stretto_status s = text ? file_write(x->state.data, text, strlen(text), true, &err)
                            : fail(&err, STRETTO_E_NOMEM, "out of memory: the state of the recipe cannot be written");
    free(text);
    json_decref(j);
    return s == STRETTO_OK ? EXIT_DONE : failed(s, &err);
}

static bool there(const char *folder, const char *name)
{
    char path[5100];
    struct stat st;
    snprintf(path, sizeof path, "%s%s%s", folder, *name ? "/" : "", name);
    return stat(path, &st) == 0;
}

static bool trains(const struct stage *s) { return strcmp(s->words.v[0], "teach") == 0; }
static bool begun(const struct stage *s) { return there(s->out, trains(s) ? "run.json" : ""); }

/* What was done of the same chain; stages from the first that differs on must not have been begun. */
static stretto_status take_done(struct run *x, const json_t *j, struct error *err)
{
    const json_t *then = json_object_get(j, "stages");
    json_t *now = stages_json(&x->chain);
    const char *data = json_string_value(json_object_get(j, "data"));
    json_int_t done = json_integer_value(json_object_get(j, "done"));
    size_t same = 0;
    while (same < x->chain.n && json_equal(json_array_get(now, same), json_array_get(then, same))) same++;
    json_decref(now);
    for (size_t i = same; i < x->chain.n; i++)
        if (begun(&x->chain.stage[i]))
            return fail(err, STRETTO_E_ARG, "%s was made with other options: remove it, name another folder with -o, "
                        "or give the options that %s has", x->chain.stage[i].out, x->state.data);
    if (data && strcmp(data, x->data) != 0 && begun(&x->chain.stage[0]))
        return fail(err, STRETTO_E_ARG, "the lines of -d have changed since %s was begun: give it what it had, or name "
                    "another folder with -o", x->o->out);
    x->done = done < 0 ? 0 : (size_t)done < same ? (size_t)done : same;
    return STRETTO_OK;
}

static int go_on(struct run *x)
{
    struct stat st;
    struct error err = { 0 };
    size_t n;
    json_t *j = NULL;
    if (stat(x->state.data, &st) != 0) return EXIT_DONE;
    char *text = read_text("teach", x->state.data, &n);
    if (!text) return EXIT_FAILED;
    stretto_status s = json_tree(&j, text, n, JSON_TWICE_REFUSED, "recipe.json", &err);
    free(text);
    if (s == STRETTO_OK) s = take_done(x, j, &err);
    json_decref(j);
    return s == STRETTO_OK ? EXIT_DONE : failed(s, &err);
}

/* ---- printed ---------------------------------------------------------------------------------- */

static void print_word(FILE *f, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=./:,@%+";
    if (*word && word[strspn(word, plain)] == '\0') {
        fprintf(f, " %s", word);
        return;
    }
    fputs(" '", f);
    for (const char *p = word; *p; p++) fprintf(f, *p == '\'' ? "'\\''" : "%c", *p);
    fputc('\'', f);
}

static void print_stage(FILE *f, const struct stage *s)
{
    fputs("  stretto", f);
    for (size_t i = 0; i < s->words.n; i++) print_word(f, s->words.v[i]);
    fputc('\n', f);
}

static void print_chain(FILE *f, const struct run *x)
{
    for (size_t i = 0; i < x->chain.n; i++) {
        const struct stage *s = &x->chain.stage[i];
        fprintf(f, "%zu %s", i + 1, s->name);
        if (s->share > 0 && x->o->budget) fprintf(f, ", %.0f %% of the time", 100 * s->share);
        fprintf(f, "%s:\n", i < x->done ? ", done" : "");
        print_stage(f, s);
    }
    fflush(f);
}

static void print_end(const struct run *x)
{
    const struct chain *c = &x->chain;
    printf("what was learned runs by\n  stretto run");
    char word[5100];
    snprintf(word, sizeof word, "--model=%s", c->model);
    print_word(stdout, word);
    snprintf(word, sizeof word, "--lora=%s", c->adapter);
    if (*c->adapter) print_word(stdout, word);
    snprintf(word, sizeof word, "--heads=%s", c->heads);
    if (*c->heads) print_word(stdout, word);
    printf(" --chat -p ...\n");
}

/* ---- stages ----------------------------------------------------------------------------------- */

static stretto_status running_words(struct words *w, const struct run *x, const struct stage *s)
{
    bool resumed = trains(s) && begun(s);
    char text[5000];
    TRY(words_say(w, "stretto"));
    for (size_t i = 0; i < s->words.n && !resumed; i++) TRY(words_say(w, s->words.v[i]));
    if (resumed) {
        snprintf(text, sizeof text, "--out=%s", s->out);
        TRY(words_say(w, "teach"));
        TRY(words_say(w, "--resume"));
        TRY(words_say(w, text));
    }
    if (teach_given("threads")) {
        snprintf(text, sizeof text, "--threads=%lld", (long long)x->o->threads);
        TRY(words_say(w, text));
    }
    return x->o->quiet && strcmp(s->words.v[0], "trace") != 0 ? words_say(w, "--quiet") : STRETTO_OK;
}

/* Ctrl-C reaches it too, or is handed on; it keeps what it has. */
static int wait_for(pid_t child)
{
    int status;
    bool told = false;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) return EXIT_FAILED;
        if (interrupted && !told) kill(child, SIGTERM);
        told = interrupted;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILED;
}

static int start(const struct run *x, const struct stage *s)
{
    struct words w = { 0 };
    struct error err = { 0 };
    stretto_status ok = running_words(&w, x, s);
    if (ok != STRETTO_OK) {
        words_done(&w);
        return failed(ok, &err);
    }
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        execv("/proc/self/exe", w.v);
        _exit(127);
    }
    int code = child > 0 ? wait_for(child) : EXIT_FAILED;
    if (child < 0 || code == 127) command_fail("teach", STRETTO_E_IO, "a stage cannot be started");
    words_done(&w);
    return code;
}

/* A file that a stage makes stands there when it is whole, but trajectories, which go on. */
static bool made(const struct stage *s) { return strcmp(s->words.v[0], "convert") == 0 && begun(s); }

static int run_stages(struct run *x)
{
    for (; x->done < x->chain.n; x->done++) {
        const struct stage *s = &x->chain.stage[x->done];
        if (!x->o->quiet) fprintf(stderr, "\n%zu of %zu, %s:\n", x->done + 1, x->chain.n, s->name);
        if (!x->o->quiet) print_stage(stderr, s);
        int code = keep(x);
        if (code == EXIT_DONE && !made(s)) code = interrupted ? EXIT_FAILED : start(x, s);
        if (code != EXIT_DONE) {
            fprintf(stderr, "stretto teach: stage %zu (%s) did not end; the same command goes on with it, or one with "
                    "other options where %s is removed\n", x->done + 1, s->name, s->out);
            return code;
        }
    }
    return keep(x);
}

/* ---- the command ------------------------------------------------------------------------------ */

static int check(struct run *x)
{
    uint64_t bytes = 0;
    if (!x->o->data.n) return command_usage("teach", "what is to be learned? Name lines of data: -d FILE.jsonl");
    if (!x->o->out) return command_usage("teach", "where do the stages go? Name a folder: -o FOLDER");
    if (strlen(x->o->out) > 4000) return command_usage("teach", "the name of -o's folder is longer than 4000 bytes");
    int code = recipe_check(x->r, x->o, &bytes);
    snprintf(x->data, sizeof x->data, "%016llx", (unsigned long long)bytes);
    return code;
}

static int make_folder(const struct run *x)
{
    struct error err = { 0 };
    struct stat st;
    if (mkdir(x->o->out, 0777) == 0) return EXIT_DONE;
    if (errno == EEXIST && stat(x->o->out, &st) == 0 && S_ISDIR(st.st_mode)) return EXIT_DONE;
    return failed(fail(&err, STRETTO_E_IO, "cannot make the folder %s: %s", x->o->out, strerror(errno)), &err);
}

int recipe_run(const struct teach_command *o)
{
    struct run x = { .o = o, .r = recipe_find(o->recipe), .in = buffer_make(1 << 16), .state = buffer_make(1 << 13) };
    struct error err = { 0 };
    int code = check(&x);
    if (code == EXIT_DONE) code = model_path("teach", o->model, o->yes, &x.in);
    if (code == EXIT_DONE) code = recipe_chain(x.r, o, x.in.data, &x.chain);
    if (code == EXIT_DONE && buffer_printf(&x.state, "%s/recipe.json", o->out) != STRETTO_OK)
        code = failed(STRETTO_E_NOMEM, &err);
    if (code == EXIT_DONE) code = go_on(&x);
    if (code == EXIT_DONE && (o->plan || !o->quiet)) print_chain(o->plan ? stdout : stderr, &x);
    if (code == EXIT_DONE && !o->plan) {
        catch_ends();
        code = make_folder(&x);
        bool asked = x.done && there(o->out, "prompts.jsonl");
        if (code == EXIT_DONE && x.chain.asks && !asked) code = recipe_prompts(o);
        if (code == EXIT_DONE) code = run_stages(&x);
        if (code == EXIT_DONE) print_end(&x);
    }
    recipe_done(&x.chain);
    buffer_done(&x.in);
    buffer_done(&x.state);
    return code;
}
