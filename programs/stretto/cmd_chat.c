/* stretto chat: a conversation at the terminal, or one message a line through a pipe. */
#include "stretto/chat.h"
#include "base/memory.h"
#include "stretto/commands.h"
#include "stretto/fetch.h"
#include "stretto/given.h"
#include "stretto/peer_flags.h"
#include "ui/terminal.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* At a terminal Ctrl-C never ends the program: it ends the answer, or the line being typed. From a pipe
 * the second one does, as everywhere. */
static void on_interrupt(int sig) { (void)sig; interrupted = 1; }

/* ---- the loop -------------------------------------------------------------------------------- */

static void take_message(struct chat *c, struct buffer *text)
{
    if (!text->len || strspn(text->data, " \t\n") == text->len) return;
    if (strlen(text->data) != text->len) chat_wrong(c, "the message holds a NUL byte and was not sent");
    else if (text->data[0] == '/') chat_command(c, text->data);
    else chat_ask(c, text->data);
}

static int talk_loop(struct chat *c)
{
    struct buffer text = buffer_make(LINE_MAX_MESSAGE);
    int code = EXIT_DONE;
    while (!c->leave && code == EXIT_DONE) {
        interrupted = 0;
        c->stopped = false;
        enum line_result r = line_read(c->line, &text);
        if (r == LINE_INTERRUPTED) {
            if (!line_asks(c->line)) break;
            if (!text.len) chat_say("(Ctrl-D or /bye leaves)");
            continue;
        }
        if (r == LINE_FAILED)
            code = command_fail("chat", STRETTO_E_IO,
                                "a message could not be read, or is longer than 1 MiB");
        if (r != LINE_MESSAGE) break;
        take_message(c, &text);
        if (c->stopped && !line_asks(c->line)) break;
        if (c->stopped) line_forget(c->line);
        if (ferror(stdout)) break;                       /* main says why */
    }
    if (line_asks(c->line) && !c->leave) putchar('\n');
    buffer_done(&text);
    return code;
}

/* The first message of the command line, shown as if it had been typed; then those that follow. */
static int converse(struct chat *c, const char *first)
{
    bool bold = ui_terminal_look(stdout).colour;
    if (first && line_asks(c->line)) printf("%s> %s%s\n", bold ? "\033[1m" : "", bold ? "\033[0m" : "", first);
    if (first) chat_ask(c, first);
    bool over = c->options->single || ferror(stdout) || (c->stopped && !line_asks(c->line));
    int code = over ? EXIT_DONE : talk_loop(c);
    bool tells = !line_asks(c->line) || c->options->single;
    return code == EXIT_DONE && c->failed && tells ? EXIT_FAILED : code;
}

static int check_model(const stretto_model *m)
{
    stretto_model_info i = { .size = sizeof i };
    stretto_model_about(m, &i);
    if (i.encoder)
        return command_fail("chat", STRETTO_E_UNSUP,
                            "this model makes embeddings and writes no text: use "
                            "stretto embed");
    if (!i.chat)
        return command_fail("chat", STRETTO_E_UNSUP,
                            "this model has no chat template, so it was not trained "
                            "to converse: use stretto run");
    return EXIT_DONE;
}

static int with_session(struct chat *c, const stretto_engine *engine, const char *system,
                        const char *first)
{
    struct error err = { 0 };
    stretto_engine_info about = { .size = sizeof about };
    stretto_engine_about(engine, &about);
    tell_engine("chat", &c->options->model, engine);
    if (c->verbose)
        fprintf(stderr, "stretto chat: seed %llu\n", (unsigned long long)c->how.seed);
    c->talk.context = about.context;
    if (c->options->resume && !chat_load(c, c->options->resume, true)) return EXIT_FAILED;
    if (system && talk_system(&c->talk, system) != STRETTO_OK)
        return command_fail("chat", STRETTO_E_NOMEM, NULL);
    stretto_status s = line_open(&c->line, &interrupted, chat_command_word, &err);
    if (s != STRETTO_OK) return command_fail("chat", s, err.text);
    if (line_asks(c->line)) {
        struct sigaction act = { .sa_handler = on_interrupt };
        sigemptyset(&act.sa_mask);
        sigaction(SIGINT, &act, NULL);
        if (!c->options->single) chat_say("/help lists the commands; Ctrl-D leaves.");
    }
    return converse(c, first);
}

/* The words of the command line as -e reads them; an exit code. */
static int read_words(struct chat *c, char *first, char **system)
{
    const struct chat_options *o = c->options;
    int code = system_given("chat", o->system, o->system_file, o->escape, system);
    if (code == EXIT_DONE && o->escape && first) code = unescape_words("chat", "the message", first);
    for (size_t i = 0; code == EXIT_DONE && i < o->stop.n; i++) {
        if (o->escape) code = unescape_words("chat", "-r", o->stop.v[i]);
        if (code == EXIT_DONE && !chat_add_stop(c, o->stop.v[i]))
            code = command_usage("chat", "-r needs a text");
    }
    return code;
}

/* "MODEL", "MODEL MESSAGE" or "MESSAGE", as `run` reads them. */
static int take_operands(struct chat_options *o, size_t n, char **operands)
{
    bool named = o->model.model || o->model.hf;
    if (n == 2 && named) return command_usage("chat", "one operand too many: '%s'", operands[1]);
    if (n == 2 || (n && !named && names_model(operands[0]))) {
        o->model.model = *operands++;
        n--;
    }
    if (n && o->prompt) return command_usage("chat", "the first message is given twice");
    if (n) o->prompt = operands[0];
    if (o->single && !o->prompt)
        return command_usage("chat", "-st needs a message: stretto chat -st \"...\"");
    return EXIT_DONE;
}

static int chat_run(void *options, size_t n, char **operands)
{
    struct chat_options *o = options;
    struct chat c = { .options = o, .terminal = isatty(STDOUT_FILENO) == 1, .sampling = o->sampling,
                      .n = o->n, .verbose = o->model.verbose, .answer = buffer_make((size_t)1 << 28) };
    char *system = NULL;
    int code = take_operands(o, n, operands);
    if (code != EXIT_DONE) return code;
    char *first = (char *)(uintptr_t)o->prompt;
    stretto_model *m = NULL;
    stretto_engine *engine = NULL;
    stretto_engine_options eo;
    char err[600];
    catch_interrupt();
    code = read_words(&c, first, &system);
    if (code == EXIT_DONE) code = engine_options_from("chat", &c.options->model, 1, &eo);
    if (code == EXIT_DONE) code = sampling_from("chat", &c.options->sampling, &c.how);
    c.sampling.seed = (int64_t)c.how.seed;
    if (code == EXIT_DONE) code = open_model("chat", &c.options->model, false, &m);
    if (code == EXIT_DONE) code = check_model(m);
    if (code == EXIT_DONE) {
        stretto_status s = stretto_engine_open(&engine, m, &eo, err, sizeof err);
        if (s == STRETTO_OK) s = stretto_session_open(&c.session, engine, err, sizeof err);
        if (s != STRETTO_OK) code = command_fail("chat", s, err);
    }
    struct decoder decoder = { .draft = NULL };
    if (code == EXIT_DONE)
        code = decoder_open("chat", &c.options->decode, &c.options->model, &decoder);
    if (code == EXIT_DONE) code = learned_in("chat", &c.options->decode, engine);
    if (code == EXIT_DONE) code = decode_as("chat", &decoder, c.session);
    c.talk.model = m;
    c.talk.special_in_text = c.options->special_in_text;
    if (code == EXIT_DONE) {
        code = with_session(&c, engine, system, first);
        int kept = learned_out("chat", &c.options->decode, engine);
        if (code == EXIT_DONE) code = kept;
    }
    line_close(c.line);
    talk_done(&c.talk);
    buffer_done(&c.answer);
    mem_free(c.pending);
    mem_free(c.saved);
    chat_clear_stops(&c);
    free(system);
    free((void *)(uintptr_t)c.how.bias_ids);
    free((void *)(uintptr_t)c.how.bias_values);
    stretto_session_close(c.session);
    decoder_close(&decoder);
    stretto_engine_close(engine);
    stretto_model_close(m);
    return code;
}

static void chat_defaults(void *options)
{
    struct chat_options *o = options;
    model_options_defaults(&o->model);
    sampling_options_defaults(&o->sampling);
    o->n = -1;
    o->on_full = "compact";
}

#define AT(field) offsetof(struct chat_options, field)
static const struct option rows[] = {
    { "-p --prompt", "TEXT", OPT_TEXT, AT(prompt), 0, 0, "the first message, sent at once" },
    { "-st --single-turn", NULL, OPT_FLAG, AT(single), 0, 0, "leave after the answer to the first message" },
    { "-sys --system-prompt --system", "TEXT", OPT_TEXT, AT(system), 0, 0, "a system message" },
    { "-sysf --system-prompt-file --system-file", "FILE", OPT_TEXT, AT(system_file), 0, 0,
      "read the system message from a file" },
    { "-e --escape", NULL, OPT_FLAG, AT(escape), 0, 0,
      "read \\n, \\r, \\t, \\', \\\", \\\\ and \\xHH in the first message, -sys and -r as the bytes they stand "
      "for" },
    { "-r --reverse-prompt --stop", "TEXT", OPT_TEXTS, AT(stop), 0, 0,
      "an answer stops before this text; may be given up to 16 times" },
    { "-n --predict --n-predict", "N", OPT_INT, AT(n), -1, 1 << 24,
      "most tokens of an answer; -1 until the model ends [-1]" },
    { "--special-in-text", NULL, OPT_FLAG, AT(special_in_text), 0, 0,
      "let special tokens in messages steer the model, so that <|im_end|> ends a turn; otherwise they are text" },
    { "--resume", "FILE", OPT_TEXT, AT(resume), 0, 0,
      "resume a conversation that /save wrote, with its parameters; those given here, and "
      "-sys, take precedence" },
    { "--on-full", "compact|stop", OPT_CHOICE, AT(on_full), 0, 0,
      "what to do when the context is full: forget the oldest messages and say so, or stop [compact]" },
};
#undef AT
static const struct option_group group = { "Conversation", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = {
    { &group, 0 }, { &group_model, offsetof(struct chat_options, model) },
    { &group_sampling, offsetof(struct chat_options, sampling) },
    { &group_decode, offsetof(struct chat_options, decode) },
};
const struct command command_chat = {
    .name = "chat",
    .summary = "talk with a model",
    .operands = "[[MODEL] MESSAGE]",
    .description =
        "A message is sent with Enter. Alt-Enter, or a backslash at the end of a line, begins another line; "
        "\"\"\" opens and closes a message of several lines; what is pasted is one message. Messages are kept "
        "in $XDG_STATE_HOME/stretto/history, for the arrow keys and Ctrl-R. Ctrl-C stops an answer, Ctrl-D "
        "leaves, /help lists the commands.\n\n"
        "From a pipe every line is a message, answers go to standard output, and the exit code tells whether "
        "all went well.\n\n"
        "A saved conversation resumes exactly where it was: the same messages, parameters and seed give the "
        "same answers, with --strict to the bit.",
    .uses = uses,
    .n_uses = 4,
    .max_operands = 2,
    .options_size = sizeof(struct chat_options),
    .defaults = chat_defaults,
    .run = chat_run,
    .unknown = peer_flag,
};
