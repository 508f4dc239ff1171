#include "stretto/open.h"
#include "base/random.h"
#include "engine/writer.h"
#include "stretto/devices.h"
#include "stretto/experimental.h"
#include "stretto/fetch.h"
#include "stretto/machine.h"
#include "stretto/nearest.h"
#include "ui/progress.h"
#include <errno.h>
#include <libgen.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

volatile int interrupted;
static volatile int ends_at_once;

static void on_interrupt(int sig)
{
    (void)sig;
    /* The second one ends the program as usual. */
    if (interrupted || ends_at_once) { signal(SIGINT, SIG_DFL); raise(SIGINT); }
    interrupted = 1;
}

void catch_interrupt(void)
{
    struct sigaction a = { .sa_handler = on_interrupt };
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
}

void interrupt_ends(bool at_once)
{
    ends_at_once = at_once;
    if (at_once && interrupted) raise(SIGINT);
}

struct shown { struct ui_progress ui; struct progress hook; };

static struct shown *showing;        /* while it is: what breaks its line */

static void shown_begin(struct shown *x, bool items, bool quiet)
{
    showing = x;
    ui_progress_init(&x->ui, quiet ? NULL : stderr);
    x->ui.items = items;
    x->hook = ui_progress_hook(&x->ui);
}

static void load_progress(void *user, uint64_t done, uint64_t total)
{
    struct shown *l = user;
    progress_tell(&l->hook, "loading", done, total);
}

static int reading_progress(void *user, size_t done, size_t total)
{
    struct shown *r = user;
    progress_tell(&r->hook, "reading", done, total);
    return interrupted;
}

stretto_status sync_prompt_kept(stretto_session *s, const int32_t *ids, size_t n, size_t *kept)
{
    struct shown reading;
    shown_begin(&reading, true, false);
    progress_tell(&reading.hook, "reading", 0, n);
    stretto_session_watch(s, reading_progress, &reading);
    stretto_session_cancel(s, &interrupted);
    stretto_status status = stretto_session_sync(s, ids, n, kept);
    stretto_session_watch(s, NULL, NULL);
    ui_progress_break(&reading.ui);
    showing = NULL;
    return status;
}

/* The card is lost and the cpu goes on, perhaps in the middle of an answer. */
static void moved(void *user, const char *line)
{
    (void)user;
    if (showing) ui_progress_break(&showing->ui);
    fflush(stdout);
    if (!showing && isatty(STDOUT_FILENO) == 1 && isatty(STDERR_FILENO) == 1) fputc('\n', stderr);
    fprintf(stderr, "stretto: %s\n", line);
}

static void load_log(void *user, const char *line)
{
    struct shown *load = user;
    ui_progress_break(&load->ui);
    fprintf(stderr, "stretto: %s\n", line);
}

stretto_status sync_prompt(stretto_session *s, const int32_t *ids, size_t n)
{
    return sync_prompt_kept(s, ids, n, NULL);
}

/* The path of what -m, or -hf, names. */
static int named_model(const char *command, const struct model_options *o, struct buffer *path)
{
    struct buffer spec = buffer_make(1 << 12);
    if (!o->hf) return model_path(command, o->model, o->yes, path);
    if (o->model) return command_usage(command, "-m and -hf both name a model; take one");
    stretto_status s = buffer_printf(&spec, "hf:%s", o->hf);
    int code = s == STRETTO_OK ? model_path(command, spec.data, o->yes, path) : command_fail(command, s, NULL);
    buffer_done(&spec);
    return code;
}

static void tell_place(const char *command, const char *device, const stretto_model *m)
{
    char before[80];
    json_t *plan = plan_json(m);
    snprintf(before, sizeof before, "stretto %s: ", command);
    if (plan) plan_print(stderr, before, plan);
    else fprintf(stderr, "%sthe model runs on the CPU%s\n", before,
                 strcmp(device, "auto") == 0 ? "; 'stretto info --devices' says what else there is" : "");
    json_decref(plan);
}

/* Where nothing is decoded, or plainly, nothing is there on which an adapter of guesses could act. */
static int check_gated(const char *command, const stretto_model *m)
{
    static const char *const without[] = { "eval", "embed", "trace" };
    const struct model_adapter *a = model_gated(stretto_model_inside((stretto_model *)(uintptr_t)m));
    for (size_t i = 0; a && i < sizeof without / sizeof *without; i++)
        if (strcmp(command, without[i]) == 0)
            return command_usage(command, "%s acts on guesses alone, and '%s' makes none: what it writes is the "
                                 "model's without it", a->path, command);
    return EXIT_DONE;
}

int open_model(const char *command, const struct model_options *o, bool vocabulary_only,
               stretto_model **out)
{
    struct buffer path = buffer_make(1 << 16);
    *out = NULL;
    const char *device;
    int32_t layers;
    int code = device_from(command, o, &device, &layers);
    if (code == EXIT_DONE) code = use_cpus(command, o);
    if (code == EXIT_DONE) code = named_model(command, o, &path);
    if (code != EXIT_DONE) {
        buffer_done(&path);
        return code;
    }
    struct shown load;
    char err[600];
    shown_begin(&load, false, o->quiet);
    stretto_model_options mo = STRETTO_MODEL_OPTIONS_INIT;
    mo.threads = (uint32_t)o->threads;
    mo.reference = o->reference;
    mo.arithmetic = o->arithmetic;
    mo.scales = o->scales;
    mo.adapters = o->adapters.n ? o->adapters.v : NULL;
    mo.chosen = o->chosen.n ? o->chosen.v : NULL;
    mo.vocabulary_only = vocabulary_only;
    mo.progress = load_progress;
    mo.log = load_log;
    mo.user = &load;
    mo.cancel = &interrupted;
    mo.device = device ? device : "cpu";
    mo.device_layers = layers;
    mo.device_context = (uint32_t)o->context;
    mo.moved = moved;
    stretto_status s = stretto_model_open(out, path.data, &mo, err, sizeof err);
    ui_progress_break(&load.ui);
    showing = NULL;
    buffer_done(&path);
    if (s != STRETTO_OK) return command_fail(command, s, err);
    if (o->verbose && !vocabulary_only && device) tell_place(command, device, *out);
    code = check_gated(command, *out);
    if (code == EXIT_DONE && o->mlock) code = lock_weights(command, *out);
    if (code != EXIT_DONE) {
        stretto_model_close(*out);
        *out = NULL;
    }
    return code;
}

enum adapter_word adapter_word(const char *word, char path[4096], float *scale)
{
    const char *equals = strrchr(word, '=');
    char *end;
    snprintf(path, 4096, "%s", word);
    *scale = 1;
    if (access(path, F_OK) == 0) return ADAPTER_WORD_GOOD;
    if (!equals) return ADAPTER_WORD_NO_FILE;
    *scale = strtof(equals + 1, &end);
    snprintf(path, 4096, "%.*s", (int)(equals - word), word);
    if (access(path, F_OK) != 0) return ADAPTER_WORD_NO_FILE;
    return end != equals + 1 && !*end && fabsf(*scale) <= 1e6F ? ADAPTER_WORD_GOOD : ADAPTER_WORD_NO_SCALE;
}

int adapter_word_usage(const char *command, const char *word)
{
    return command_usage(command, "--lora: the scale of an adapter is a number, as in FILE=0.5, not '%.100s'",
                         strrchr(word, '=') + 1);
}

int cache_from(const char *command, const struct model_options *o, const char **name)
{
    const char *k = o->type_k ? o->type_k : o->type_v, *v = o->type_v ? o->type_v : o->type_k;
    *name = k;
    if (!k) return EXIT_DONE;
    if (strcmp(v, "q4_0") == 0) {
        k = o->type_k ? o->type_k : "q8_0";
        *name = "q8_0+q4_0";
        if (strcmp(k, "q8_0") != 0)
            return command_usage(command, "-ctv q4_0 goes with -ctk q8_0, not with -ctk %s", k);
        return EXIT_DONE;
    }
    if (strcmp(k, v) != 0)
        return command_usage(command,
                             "-ctk %s and -ctv %s differ; the one mix there is: -ctk q8_0 -ctv "
                             "q4_0",
                             k, v);
    return EXIT_DONE;
}

int engine_options_from(const char *command, const struct model_options *o, uint32_t sessions,
                        stretto_engine_options *out)
{
    *out = (stretto_engine_options)STRETTO_ENGINE_OPTIONS_INIT;
    int code = cache_from(command, o, &out->cache);
    if (code != EXIT_DONE) return code;
    out->threads = (uint32_t)o->threads;
    out->context = (uint32_t)o->context;
    out->sessions = sessions;
    out->strict = o->strict;
    return EXIT_DONE;
}

void tell_engine(const char *command, const struct model_options *o, const stretto_engine *e)
{
    stretto_engine_info i = { .size = sizeof i };
    stretto_engine_about(e, &i);
    if (i.context > i.trained_context)
        fprintf(stderr, "stretto %s: a context of %u tokens is more than the %u that the model was trained for: "
                "text beyond that may be poor\n", command, i.context, i.trained_context);
    if (!i.context_cut && !o->verbose) return;
    fprintf(stderr,
            "stretto %s: a context of %u tokens (the model was trained for %u)%s; %u threads; "
            "%.0f MB of weights, up to %.0f MB of cache\n",
            command, i.context, i.trained_context,
            i.context_cut ? ", because more does not fit in memory" : "", i.threads,
            (double)i.weight_bytes / 1e6, (double)i.cache_bytes / 1e6);
}

/* Whether `auto` or the word is among words joined by + or commas; NULL is auto, "all" everything. */
static bool has_word(const char *words, const char *word)
{
    if (!words || strcmp(words, "all") == 0) return true;
    for (const char *p = words; *p;) {
        size_t n = strcspn(p, "+,");
        if ((n == strlen(word) && memcmp(p, word, n) == 0) || (n == 4 && memcmp(p, "auto", 4) == 0))
            return true;
        p += n + (p[n] != '\0');
    }
    return false;
}

int decoder_open(const char *command, const struct decode_options *o,
                 const struct model_options *m, struct decoder *out)
{
    *out = (struct decoder){ .how = STRETTO_DECODING_INIT };
    out->how.words = o->words;
    out->how.max_guesses = (uint32_t)o->most;
    out->how.window = (uint32_t)o->window;
    out->how.ngram = (uint32_t)o->ngram;
    out->how.guesses = (uint32_t)o->guesses;
    out->how.heads = o->heads;
    const char *idle = o->draft && !has_word(o->words, "draft") ? "-md"
                       : o->heads && !has_word(o->words, "heads") ? "--heads" : NULL;
    if (idle)
        return command_usage(command, "%s goes with --decode auto or %s, not with --decode %s", idle,
                             strcmp(idle, "-md") == 0 ? "draft" : "heads", o->words);
    if (!o->draft) return EXIT_DONE;
    struct model_options draft = *m;
    draft.model = o->draft;
    draft.hf = NULL;
    draft.scales = NULL;
    draft.adapters.n = 0;
    int code = open_model(command, &draft, false, &out->draft);
    out->how.draft = out->draft;
    return code;
}

void decoder_close(struct decoder *d)
{
    stretto_model_close(d->draft);
    d->draft = NULL;
}

int can_write(const char *command, const char *option, const char *path, bool replaced)
{
    struct stat st;
    if (!*path) return command_usage(command, "%s needs the name of a file", option);
    char err[600], *name = strdup(path), *folder = name ? dirname(name) : NULL;
    const char *why = NULL;
    bool there = stat(path, &st) == 0;
    if (!folder) why = "out of memory";
    else if (there && S_ISDIR(st.st_mode)) why = "it is a folder";
    else if (access(there && !replaced ? path : folder, W_OK) != 0) why = strerror(errno);
    snprintf(err, sizeof err, "%s cannot write %s: %s", option, path, why ? why : "");
    free(name);
    return why ? command_fail(command, STRETTO_E_IO, err) : EXIT_DONE;
}

int can_create(const char *command, const char *option, const char *path, bool force)
{
    struct stat st;
    bool there = *path && stat(path, &st) == 0;
    if (there && S_ISREG(st.st_mode) && !force)
        return command_usage(command, "%s: %s is there already; --force replaces it", option, path);
    return can_write(command, option, path, !there || S_ISREG(st.st_mode));
}

int learned_writable(const char *command, const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return command_usage(command, "--learned %s is not a regular file", path);
    return can_write(command, "--learned", path, true);
}

int learned_in(const char *command, const struct decode_options *o, stretto_engine *e)
{
    char err[600];
    if (!o->learned) return EXIT_DONE;
    int code = learned_writable(command, o->learned);
    if (code != EXIT_DONE || access(o->learned, F_OK) != 0) return code;
    stretto_status s = stretto_engine_learned_load(e, o->learned, err, sizeof err);
    return s == STRETTO_OK ? EXIT_DONE : command_fail(command, s, err);
}
int learned_out(const char *command, const struct decode_options *o, stretto_engine *e)
{
    char err[600];
    if (!o->learned) return EXIT_DONE;
    stretto_status s = stretto_engine_learned_save(e, o->learned, err, sizeof err);
    return s == STRETTO_OK ? EXIT_DONE : command_fail(command, s, err);
}
/* "; did you mean ...?" for the word of --decode that is no decoding strategy. */
static const char *meant_way(const char *words, struct nearest *near)
{
    for (const char *p = words ? words : ""; *p; p += *p == '+') {
        char word[NEAREST_MAX];
        size_t n = strcspn(p, "+");
        bool known = (n == 4 && memcmp(p, "auto", 4) == 0) || (n == 5 && memcmp(p, "plain", 5) == 0);
        for (unsigned s = 0; strategies[s]; s++)
            known |= strlen(strategies[s]->name) == n && memcmp(strategies[s]->name, p, n) == 0;
        snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : 0), p);
        p += n;
        if (known) continue;
        nearest_begin(near, word);
        nearest_try_list(near, "auto plain", ' ');
        for (unsigned s = 0; strategies[s]; s++)
            nearest_try(near, strategies[s]->name, strlen(strategies[s]->name));
        return nearest_words(near);
    }
    return "";
}

int decode_as(const char *command, const struct decoder *d, stretto_session *s)
{
    struct nearest near;
    const struct model_adapter *a = model_gated(engine_model(writer_engine(stretto_session_inside(s))));
    if (a && strcmp(command, "bench") != 0 && !has_word(d->how.words, "gated"))     /* which compares */
        return command_usage(command, "%s acts on guesses alone, and goes with --decode auto or gated, not with "
                             "--decode %s", a->path, d->how.words);
    stretto_status status = stretto_session_decoding(s, &d->how);
    if (status == STRETTO_OK) return EXIT_DONE;
    if (status == STRETTO_E_ARG)
        return command_usage(command, "%s%s", stretto_session_error(s), meant_way(d->how.words, &near));
    return command_fail(command, status, stretto_session_error(s));
}

/* What `auto` did with the strategies that have a price, and why. */
static void tell_asking(const char *command, const struct decode_counts *c)
{
    for (unsigned s = 0; strategies[s]; s++) {
        unsigned long long asked = c->asked[s], unpaying = c->unpaying[s], held = c->withheld[s];
        if (!strategies[s]->price || !(asked + unpaying + held)) continue;
        fprintf(stderr,
                "stretto %s:   %s was asked before %llu of %llu steps; asking took %.1f ms and %s %.1f "
                "plain steps",
                command, strategies[s]->name, asked, (unsigned long long)c->steps,
                1e3 * c->seconds[s], c->won[s] < 0 ? "lost" : "won", fabs(c->won[s]));
        if (unpaying) fprintf(stderr, "; not asked before %llu, where no gain was expected", unpaying);
        if (held) fprintf(stderr, "; not asked before %llu, to keep the loss within its limit", held);
        fprintf(stderr, "\n");
    }
}

void tell_decoding(const char *command, const stretto_session *s)
{
    stretto_decoded d = { .size = sizeof d };
    if (stretto_session_decoded(s, &d) != STRETTO_OK || !d.steps) return;
    fprintf(stderr,
            "stretto %s: %llu steps wrote %llu tokens, %.2f per step; %llu guesses sent, %llu right; "
            "guessing took %.1f ms\n",
            command, (unsigned long long)d.steps, (unsigned long long)d.tokens,
            (double)d.tokens / (double)d.steps, (unsigned long long)d.guesses,
            (unsigned long long)d.accepted, 1e3 * d.guess_seconds);
    for (uint32_t i = 0; i < d.n_strategies; i++)
        fprintf(stderr, "stretto %s:   %-9s proposed %llu tokens, %llu of them right (sent or not); %llu sent\n",
                command, d.strategies[i].name, (unsigned long long)d.strategies[i].proposed,
                (unsigned long long)d.strategies[i].right, (unsigned long long)d.strategies[i].sent);
    if (d.step_seconds > 0)
        fprintf(stderr, "stretto %s:   a step of 1 row takes %.2f ms", command, 1e3 * d.step_seconds);
    for (uint32_t n = 2; n <= 16 && d.step_seconds > 0; n *= 2)
        if (d.cost[n] > 0) fprintf(stderr, ", of %u rows %.2f times that", n, (double)d.cost[n]);
    if (d.step_seconds > 0) fputc('\n', stderr);
    tell_asking(command, writer_counts(stretto_session_inside((stretto_session *)(uintptr_t)s)));
}

static uint64_t draw_seed(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return random_mix((uint64_t)t.tv_sec * 1000000007u + (uint64_t)t.tv_nsec) >> 32;
}

/* "15043+1.5,9-2": an id, a sign, a number. Adds to `out`, whose lists have the room; false: it is none. */
static bool add_bias(const char *text, int32_t *ids, float *values, size_t *n)
{
    for (const char *p = text;; p++) {
        char *end, *end2 = NULL;
        errno = 0;
        long id = strtol(p, &end, 10);
        if (end == p || (*end != '+' && *end != '-') || id < 0 || id > INT32_MAX) return false;
        double v = strtod(end, &end2);
        if (end2 <= end + 1 || (*end2 && *end2 != ',') || errno) return false;
        ids[*n] = (int32_t)id;
        values[(*n)++] = (float)v;
        p = end2;
        if (!*p) return true;
    }
}

/* Every --logit-bias adds to those before it. */
static int parse_biases(const char *command, const struct text_list *given, stretto_sampling *out)
{
    size_t room = given->n, n = 0;
    for (size_t i = 0; i < given->n; i++)
        for (const char *p = given->v[i]; *p; p++) room += *p == ',';
    int32_t *ids = malloc((room + 1) * sizeof *ids);
    float *values = malloc((room + 1) * sizeof *values);
    int code = ids && values ? EXIT_DONE : command_fail(command, STRETTO_E_NOMEM, NULL);
    for (size_t i = 0; i < given->n && code == EXIT_DONE; i++)
        if (!add_bias(given->v[i], ids, values, &n))
            code = command_usage(command,
                                 "--logit-bias takes ID+X or ID-X, separated by commas, not '%s'",
                                 given->v[i]);
    if (code != EXIT_DONE) {
        free(ids);
        free(values);
        return code;
    }
    out->bias_ids = ids;
    out->bias_values = values;
    out->n_bias = n;
    return EXIT_DONE;
}

int sampling_from(const char *command, const struct sampling_options *o, stretto_sampling *out)
{
    *out = (stretto_sampling)STRETTO_SAMPLING_INIT;
    out->temperature = (float)o->temp;
    out->top_k = (uint32_t)o->top_k;
    out->top_p = (float)o->top_p;
    out->min_p = (float)o->min_p;
    out->repeat_penalty = (float)o->repeat_penalty;
    out->presence_penalty = (float)o->presence_penalty;
    out->frequency_penalty = (float)o->frequency_penalty;
    out->repeat_last_n = (int32_t)o->repeat_last_n;
    out->seed = o->seed < 0 ? draw_seed() : (uint64_t)o->seed;
    return o->logit_bias.n ? parse_biases(command, &o->logit_bias, out) : EXIT_DONE;
}

char *read_text(const char *command, const char *path, size_t *length)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *f = standard ? stdin : fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "stretto %s: cannot open %s: %s\n", command, path, strerror(errno));
        return NULL;
    }
    size_t n = 0, cap = 1 << 16;
    char *text = malloc(cap);
    while (text) {
        n += fread(text + n, 1, cap - n - 1, f);
        if (n < cap - 1) break;
        char *more = cap < (size_t)1 << 31 ? realloc(text, cap *= 2) : NULL;
        if (!more) free(text);
        text = more;
    }
    bool bad = ferror(f) != 0;
    if (!standard) fclose(f);
    if (!text || bad) {
        fprintf(stderr, "stretto %s: cannot read %s%s\n", command,
                standard ? "standard input" : path,
                text ? "" : ": it does not fit in memory");
        free(text);
        return NULL;
    }
    text[n] = '\0';
    *length = n;
    return text;
}
