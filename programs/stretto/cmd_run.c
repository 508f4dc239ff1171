/* stretto run: a prompt in, text out. */
#include "base/clock.h"
#include "base/utf8.h"
#include "stretto/commands.h"
#include "stretto/experimental.h"
#include "stretto/fetch.h"
#include "stretto/given.h"
#include "stretto/open.h"
#include "stretto/output.h"
#include "stretto/peer_flags.h"
#include "stretto/prompts.h"
#include "stretto/trace_svg.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct run_options {
    struct model_options model;
    struct sampling_options sampling;
    struct decode_options decode;
    const char *prompt, *file, *system, *system_file, *trace, *trace_dark;
    struct text_list stop;
    int64_t n;
    bool chat, json, ignore_eos, escape, force, special_in_text;
};

#define AT(field) offsetof(struct run_options, field)
static const struct option rows[] = {
    {"-p --prompt", "TEXT", OPT_TEXT, AT(prompt), 0, 0,
     "the prompt, used as given; text from a pipe follows it after an empty line"},
    {"-f --file", "FILE", OPT_TEXT, AT(file), 0, 0,
     "read the prompt from a file, unchanged; - is standard input"},
    {"-e --escape", NULL, OPT_FLAG, AT(escape), 0, 0,
     "read \\n, \\r, \\t, \\', \\\", \\\\ and \\xHH in the prompt, -sys and -r as the bytes they stand for"},
    {"-n --predict --n-predict", "N", OPT_INT, AT(n), -1, 1 << 24,
     "most tokens to write; -1 until the model ends [-1]"},
    {"--chat", NULL, OPT_FLAG, AT(chat), 0, 0, "put the prompt into the model's chat template"},
    {"-sys --system-prompt --system", "TEXT", OPT_TEXT, AT(system), 0, 0,
     "a system message; with --chat"},
    {"-sysf --system-prompt-file --system-file", "FILE", OPT_TEXT, AT(system_file), 0, 0,
     "read the system message from a file; with --chat"},
    {"--special-in-text", NULL, OPT_FLAG, AT(special_in_text), 0, 0,
     "with --chat: let special tokens in the prompt steer the model, so that <|im_end|> ends a turn; "
     "otherwise they are text"},
    {"-r --reverse-prompt --stop", "TEXT", OPT_TEXTS, AT(stop), 0, 0,
     "stop before this text; may be given up to 16 times"},
    {"--ignore-eos", NULL, OPT_FLAG, AT(ignore_eos), 0, 0, "keep writing after the model's end token"},
    {"--trace", "FILE.svg", OPT_TEXT, AT(trace), 0, 0,
     "draw which step wrote which tokens, when, and which strategy guessed them first"},
    {"--trace-dark", "FILE.svg", OPT_TEXT, AT(trace_dark), 0, 0, "draw the same picture for a dark page"},
    {"--force", NULL, OPT_FLAG, AT(force), 0, 0, "replace the files of --trace and --trace-dark when they exist"},
    {"--json", NULL, OPT_FLAG, AT(json), 0, 0, "print one JSON value: text, ids, counts, timings"},
};
#undef AT

struct out { bool json; struct buffer text; stretto_status status; };

static int on_text(void *user, const char *piece, size_t n)
{
    struct out *o = user;
    if (!o->json) {
        answer_print(piece, n);
        fflush(stdout);
        return ferror(stdout) != 0;
    }
    if (o->status == STRETTO_OK) o->status = buffer_append(&o->text, piece, n);
    return o->status != STRETTO_OK;
}

static json_t *decoding_json(const stretto_session *s)
{
    stretto_decoded d = { .size = sizeof d };
    stretto_session_decoded(s, &d);
    json_t *each = json_object();
    for (uint32_t i = 0; i < d.n_strategies; i++)
        json_object_set_new(each, d.strategies[i].name,
                            json_pack("{s:I,s:I,s:I}", "proposed", (json_int_t)d.strategies[i].proposed,
                                      "sent", (json_int_t)d.strategies[i].sent, "right",
                                      (json_int_t)d.strategies[i].right));
    return json_pack("{s:I,s:I,s:I,s:I,s:f,s:o}", "steps", (json_int_t)d.steps, "tokens",
                     (json_int_t)d.tokens, "guesses", (json_int_t)d.guesses, "accepted",
                     (json_int_t)d.accepted, "guess_s", d.guess_seconds, "strategies", each);
}

static void print_json(const stretto_session *s, const struct out *out, size_t n_prompt,
                       const stretto_generated *g, double prompt_seconds, double load_seconds,
                       uint64_t seed)
{
    static const char *const finish[] = { "end", "length", "stop", "context", "cancel" };
    const int32_t *ids = stretto_session_tokens(s);
    json_t *list = json_array();
    for (size_t i = n_prompt; i < stretto_session_length(s); i++)
        json_array_append_new(list, json_integer(ids[i]));
    struct buffer safe = buffer_make((size_t)1 << 30);     /* JSON holds nothing but UTF-8 */
    utf8_repair(&safe, out->text.data, out->text.len);
    json_t *text = json_stringn(safe.data ? safe.data : "", safe.len);
    buffer_done(&safe);
    double decode = g->seconds;
    json_t *j =
        json_pack("{s:o,s:o,s:I,s:I,s:s,s:I,s:{s:f,s:f,s:f,s:f,s:f}}", "text", text, "ids", list,
                  "prompt_tokens", (json_int_t)n_prompt, "generated_tokens", (json_int_t)g->tokens,
                  "finish", finish[g->finish], "seed", (json_int_t)seed, "timings", "load_s",
                  load_seconds, "prompt_s", prompt_seconds, "prompt_per_second",
                  prompt_seconds > 0 ? (double)n_prompt / prompt_seconds : 0.0, "generate_s",
                  decode, "generated_per_second", decode > 0 ? (double)g->tokens / decode : 0.0);
    json_object_set_new(j, "decoding", decoding_json(s));
    json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(j);
}

static int draw(const struct run_options *o, const stretto_session *s, const stretto_model *m,
                const struct svg_trace *trace, size_t n_prompt)
{
    stretto_decoded d = { .size = sizeof d };
    stretto_session_decoded(s, &d);
    const char *path = source_path(stretto_model_inside(m)->source), *slash = strrchr(path, '/');
    struct svg_about about = { .model = slash ? slash + 1 : path,
                               .decode = o->decode.words ? o->decode.words : "auto",
                               .ids = stretto_session_tokens(s) + n_prompt,
                               .n = stretto_session_length(s) - n_prompt,
                               .step_seconds = d.step_seconds };
    int code = o->trace ? svg_write("run", o->trace, o->force, m, trace, &about) : EXIT_DONE;
    about.dark = true;
    return code == EXIT_DONE && o->trace_dark ? svg_write("run", o->trace_dark, o->force, m, trace, &about) : code;
}

static int generate(stretto_session *s, const struct run_options *o, const stretto_model *m,
                    const int32_t *ids, size_t n)
{
    stretto_sampling how;
    int code = sampling_from("run", &o->sampling, &how);
    if (code != EXIT_DONE) return code;
    struct out out = { .json = o->json, .text = buffer_make((size_t)1 << 30) };
    stretto_generate_options g = STRETTO_GENERATE_OPTIONS_INIT;
    g.max_tokens = o->n;
    g.stops = o->stop.v;
    g.text = on_text;
    g.user = &out;
    g.cancel = &interrupted;
    g.ignore_end = o->ignore_eos;
    stretto_generated r = { .size = sizeof r };
    stretto_status status = stretto_session_sampling(s, &how);
    double begin = clock_seconds();
    if (status == STRETTO_OK) status = sync_prompt(s, ids, n);
    double prompt_seconds = clock_seconds() - begin;
    struct svg_trace trace;
    svg_begin(&trace);
    if (o->trace || o->trace_dark) writer_watch(stretto_session_inside(s), svg_watch, &trace);
    if (status == STRETTO_OK) status = stretto_session_generate(s, &g, &r);
    free((void *)(uintptr_t)how.bias_ids);
    free((void *)(uintptr_t)how.bias_values);
    stretto_model_info info = { .size = sizeof info };
    stretto_model_about(m, &info);
    if (status == STRETTO_OK) status = out.status;
    if (status == STRETTO_OK && o->json)
        print_json(s, &out, n, &r, prompt_seconds, info.load_seconds, how.seed);
    else if (!o->json && r.tokens) putchar('\n');
    fflush(stdout);                     /* notes of standard error come on a line of their own */
    buffer_done(&out.text);
    if (status != STRETTO_OK) {
        svg_done(&trace);
        return command_fail("run", status, stretto_session_error(s));
    }
    if (o->model.verbose)
        fprintf(stderr,
                "stretto run: seed %llu; %zu prompt tokens at %.1f/s, %zu written at %.1f/s\n",
                (unsigned long long)how.seed, n, (double)n / prompt_seconds, r.tokens,
                (double)r.tokens / r.seconds);
    if (o->model.verbose) tell_decoding("run", s);
    if (r.finish == STRETTO_FINISH_CONTEXT)
        fprintf(stderr, "stretto run: the context is full; ask for a larger one with -c\n");
    code = draw(o, s, m, &trace, n);
    svg_done(&trace);
    return code;
}

/* The system message, malloc'd, and the stops as -e reads them. */
static int read_words(struct run_options *o, char **system)
{
    int code = system_given("run", o->system, o->system_file, o->escape, system);
    for (size_t i = 0; code == EXIT_DONE && o->escape && i < o->stop.n; i++)
        code = unescape_words("run", "-r", o->stop.v[i]);
    return code;
}

/* "MODEL PROMPT", as ollama has it, "MODEL" before a pipe, or "PROMPT". */
static int take_operands(struct run_options *o, size_t n, char **operands)
{
    bool named = o->model.model || o->model.hf;
    if (n == 2 && named) return command_usage("run", "one operand too many: '%s'", operands[1]);
    if (n == 2 || (n && !named && names_model(operands[0]))) {
        o->model.model = operands[0];
        operands++;
        n--;
    }
    if (n && (o->prompt || o->file)) return command_usage("run", "the prompt is given twice");
    if (n) o->prompt = operands[0];
    return EXIT_DONE;
}

/* Whether a picture can be written under that name (NULL: none is asked for). */
static int check_picture(const char *option, const char *path, bool replace)
{
    const char *dot = path ? strrchr(path, '.') : NULL;
    if (dot && (strcmp(dot, ".png") == 0 || strcmp(dot, ".jpg") == 0 || strcmp(dot, ".pdf") == 0))
        return command_usage("run", "%s draws SVG: give it the name of an .svg file", option);
    return path ? can_create("run", option, path, replace) : EXIT_DONE;
}

/* Options that do not go with each other. */
static int check_options(const struct run_options *o)
{
    if (o->prompt && o->file) return command_usage("run", "-p and -f both give a prompt; take one");
    if ((o->system || o->system_file) && !o->chat)
        return command_usage("run", "%s goes with --chat", o->system ? "-sys" : "--system-file");
    if (o->special_in_text && !o->chat)
        return command_usage("run", "--special-in-text goes with --chat: without it the prompt is used as "
                             "given, special tokens included");
    int code = check_picture("--trace", o->trace, o->force);
    return code == EXIT_DONE ? check_picture("--trace-dark", o->trace_dark, o->force) : code;
}

static int run_run(void *options, size_t n_operands, char **operands)
{
    struct run_options *o = options;
    int code = take_operands(o, n_operands, operands);
    if (code != EXIT_DONE) return code;
    if ((code = check_options(o)) != EXIT_DONE) return code;
    size_t length = 0, n = 0;
    char *text = NULL, *system = NULL;
    const struct given_prompt given = { o->prompt, o->file, o->escape };
    code = read_words(o, &system);
    if (code == EXIT_DONE) code = prompt_given("run", &given, &text, &length);
    if (code != EXIT_DONE) {
        free(system);
        return code;
    }
    catch_interrupt();
    stretto_model *m;
    stretto_session *s = NULL;
    int32_t *ids = NULL;
    char err[600];
    stretto_engine_options eo;
    stretto_engine *engine = NULL;
    struct decoder decoder = { .draft = NULL };
    code = engine_options_from("run", &o->model, 1, &eo);
    if (code == EXIT_DONE) code = open_model("run", &o->model, false, &m);
    else m = NULL;
    if (code == EXIT_DONE) {
        ids = o->chat ? chat_ids("run", m, system, text, o->special_in_text, &n)
                      : text_ids("run", m, text, length,
                                 STRETTO_TOKENIZE_SPECIAL | STRETTO_TOKENIZE_ADD, &n);
        if (!ids) code = EXIT_FAILED;
    }
    if (code == EXIT_DONE) {
        stretto_status st = stretto_engine_open(&engine, m, &eo, err, sizeof err);
        if (st == STRETTO_OK) st = stretto_session_open(&s, engine, err, sizeof err);
        if (st != STRETTO_OK) code = command_fail("run", st, err);
    }
    if (code == EXIT_DONE) {
        tell_engine("run", &o->model, engine);
        code = decoder_open("run", &o->decode, &o->model, &decoder);
    }
    if (code == EXIT_DONE) code = learned_in("run", &o->decode, engine);
    if (code == EXIT_DONE) code = decode_as("run", &decoder, s);
    if (code == EXIT_DONE) code = generate(s, o, m, ids, n);
    if (code == EXIT_DONE) code = learned_out("run", &o->decode, engine);
    free(ids);
    free(text);
    free(system);
    stretto_session_close(s);
    decoder_close(&decoder);
    stretto_engine_close(engine);
    stretto_model_close(m);
    return code;
}

static void run_defaults(void *options)
{
    struct run_options *o = options;
    model_options_defaults(&o->model);
    sampling_options_defaults(&o->sampling);
    o->n = -1;
}

static const struct option_group group = { "Prompt and answer", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = {
    { &group, 0 }, { &group_model, offsetof(struct run_options, model) },
    { &group_sampling, offsetof(struct run_options, sampling) },
    { &group_decode, offsetof(struct run_options, decode) },
};
const struct command command_run = {
    .name = "run",
    .summary = "write text after a prompt",
    .operands = "[[MODEL] PROMPT]",
    .description =
        "Reads a prompt and writes what the model says after it. The prompt is used as given; --chat "
        "puts it into the model's chat template, in which only the template's own words are special tokens, and "
        "a system message that the template has no place for goes in front of the prompt, with a note. Ctrl-C ends the "
        "answer.\n\n"
        "Without a prompt, or with - as the prompt, standard input is the prompt, without the newline "
        "at its end. A prompt and a pipe are joined: first the prompt, then an empty line, then the "
        "text of the pipe; '</dev/null' keeps a pipe out.\n\n"
        "Options of llama-cli that would change nothing here, such as --no-mmap or -fa on, are accepted with "
        "a note; those that would change the answer are refused by name.",
    .uses = uses,
    .n_uses = 4,
    .options_size = sizeof(struct run_options),
    .max_operands = 2,
    .defaults = run_defaults,
    .run = run_run,
    .unknown = peer_flag,
};
