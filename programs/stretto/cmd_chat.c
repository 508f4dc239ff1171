/* stretto chat: a conversation at the terminal, or one message a line through a pipe. */
#include "base/memory.h"
#include "stretto/commands.h"
#include "stretto/line.h"
#include "stretto/open.h"
#include "stretto/output.h"
#include "stretto/peer_flags.h"
#include "stretto/talk.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct chat_options {
    struct model_options model;
    struct sampling_options sampling;
    struct decode_options decode;
    const char *system;
    int64_t n;
    bool special_in_text;
};

struct chat {
    const struct chat_options *options;
    struct talk talk;
    struct line *line;
    stretto_session *session;
    stretto_sampling how;
    struct buffer answer;              /* the one being written                                */
    char *pending;                     /* a message that got no answer yet; NULL: none         */
    char *saved;                       /* the file of the last /save, which may be replaced    */
    bool terminal, failed;             /* standard output is one; a piped message went wrong   */
    bool leave, stopped;               /* stopped: Ctrl-C ended the last answer                */
};

/* At a terminal Ctrl-C never ends the program: it ends the answer, or the line being typed. From a pipe
 * the second one does, as everywhere. */
static void on_interrupt(int sig) { (void)sig; interrupted = 1; }

__attribute__((format(printf, 1, 2)))
static void say(const char *fmt, ...)
{
    fflush(stdout);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

/* ---- answers --------------------------------------------------------------------------------- */

static int on_text(void *user, const char *piece, size_t n)
{
    struct chat *c = user;
    answer_print(piece, n);
    fflush(stdout);
    return ferror(stdout) != 0 || buffer_append(&c->answer, piece, n) != STRETTO_OK;
}

static void keep_pending(struct chat *c, const char *text)
{
    char *copy = text ? mem_strdup(text) : NULL;
    mem_free(c->pending);
    c->pending = copy;
}

static void offer_ways(struct chat *c)
{
    struct error ignored = { 0 };
    if (!c->pending) talk_ids(&c->talk, false, &ignored);     /* the answer counts too */
    say("stretto chat: the conversation has %zu tokens and the context holds %zu. /compact forgets "
        "its "
        "oldest part, /reset all of it, and /regen asks again; a larger context is asked for with "
        "-c.",
        c->talk.n_ids, c->talk.context);
}

/* Asks for the answer to the last message, which is the user's. */
static stretto_status generate(struct chat *c, stretto_generated *r, struct error *err)
{
    stretto_generate_options g = STRETTO_GENERATE_OPTIONS_INIT;
    g.max_tokens = c->options->n;
    g.text = on_text;
    g.user = c;
    g.cancel = &interrupted;
    buffer_clear(&c->answer);
    TRY(talk_ids(&c->talk, true, err));
    if (c->talk.n_ids >= c->talk.context) return STRETTO_E_FULL;
    stretto_status s = stretto_session_sampling(c->session, &c->how);
    if (s == STRETTO_OK) s = read_prompt(c->session, c->talk.ids, c->talk.n_ids);
    if (s == STRETTO_OK) s = stretto_session_generate(c->session, &g, r);
    if (s == STRETTO_OK || s == STRETTO_E_FULL) return s;
    const char *words = stretto_session_error(c->session);
    return fail(err, s, "%s", *words ? words : stretto_status_text(s));
}

/* Adds the user's message, writes the answer, keeps both. A message without an answer is taken back
 * and kept for /regen. */
static void ask(struct chat *c, const char *text)
{
    struct error err = { 0 };
    stretto_generated r = { .size = sizeof r };
    char *message = mem_strdup(text);
    stretto_status s =
        message ? talk_add(&c->talk, "user", message, strlen(message)) : STRETTO_E_NOMEM;
    if (s != STRETTO_OK) {
        say("stretto chat: %s", stretto_status_text(s));
        c->failed = true;
        mem_free(message);
        return;
    }
    interrupted = 0;
    s = generate(c, &r, &err);
    bool full = s == STRETTO_E_FULL || (s == STRETTO_OK && r.finish == STRETTO_FINISH_CONTEXT);
    if (c->answer.len && (s == STRETTO_OK || full)) {
        putchar('\n');
        fflush(stdout);
        s = talk_add(&c->talk, "assistant", c->answer.data, c->answer.len);
        keep_pending(c, NULL);
    } else {
        talk_drop(&c->talk);
        keep_pending(c, message);
        if (c->answer.len) putchar('\n');
    }
    mem_free(message);
    if (c->options->model.verbose && r.tokens) tell_decoding("chat", c->session);
    if (interrupted && c->terminal) say("(stopped; /regen asks again)");
    else if (full) offer_ways(c);
    else if (s == STRETTO_OK && !c->answer.len) say("(the model said nothing)");
    else if (s == STRETTO_OK && r.finish == STRETTO_FINISH_LENGTH && c->terminal)
        say("(stopped after %lld tokens, as -n says)", (long long)c->options->n);
    else if (s != STRETTO_OK)
        say("stretto chat: %s", err.text[0] ? err.text : stretto_status_text(s));
    c->stopped = interrupted;
    c->failed |= full || c->stopped || s != STRETTO_OK;
    interrupted = 0;
}

/* ---- commands -------------------------------------------------------------------------------- */

static void do_help(struct chat *c, const char *rest);

static void do_quit(struct chat *c, const char *rest)
{
    (void)rest;
    c->leave = true;
}

static void do_reset(struct chat *c, const char *rest)
{
    (void)rest;
    talk_reset(&c->talk);
    say("The conversation begins again%s.", c->talk.system ? ", with the same system message" : "");
}

static void do_system(struct chat *c, const char *rest)
{
    if (!*rest) {
        say("%s",
            c->talk.system ? c->talk.system : "There is no system message; /system TEXT sets one.");
        return;
    }
    bool none = strcmp(rest, "-") == 0;
    if (talk_system(&c->talk, none ? NULL : rest) != STRETTO_OK) say("stretto chat: out of memory");
    else say(none ? "No system message from now on." : "The system message is set from now on.");
}

static void do_compact(struct chat *c, const char *rest)
{
    (void)rest;
    struct error err = { 0 };
    size_t forgotten = 0;
    if (talk_compact(&c->talk, &forgotten, &err) != STRETTO_OK) say("stretto chat: %s", err.text);
    else
        say("%zu messages are forgotten; %zu are left and take %zu of %zu tokens.", forgotten,
            c->talk.n, c->talk.n_ids, c->talk.context);
}

static void do_save(struct chat *c, const char *rest)
{
    struct error err = { 0 };
    if (!*rest) {
        say("stretto chat: /save needs the name of a file; one that ends with .json is written as "
            "JSON");
        c->failed = true;
        return;
    }
    bool again = c->saved && strcmp(c->saved, rest) == 0;
    if (talk_save(&c->talk, rest, again, &err) != STRETTO_OK) {
        say("stretto chat: %s", err.text);
        c->failed = true;
        return;
    }
    if (!again) {
        mem_free(c->saved);
        c->saved = mem_strdup(rest);
    }
    say("%zu messages are in %s.", c->talk.n, rest);
}

static void do_regen(struct chat *c, const char *rest)
{
    (void)rest;
    char *message = NULL;
    size_t n = c->talk.n;
    if (c->pending) {
        message = mem_strdup(c->pending);
    } else if (n >= 2 && strcmp(c->talk.messages[n - 2].role, "user") == 0) {
        message = mem_strdup(c->talk.messages[n - 2].content);
        talk_drop(&c->talk);
        talk_drop(&c->talk);
        c->how.seed++;                 /* the same seed would say the same again */
        if (c->how.temperature <= 0) say("(at temperature 0 the answer stays the same)");
    } else {
        say("stretto chat: there is no answer to ask for again");
        return;
    }
    if (message) ask(c, message);
    else say("stretto chat: out of memory");
    mem_free(message);
}

static const struct {
    const char *name, *value, *help;
    void (*run)(struct chat *c, const char *rest);
} commands[] = {
    { "/help", "", "show this list", do_help },
    { "/reset", "", "forget the conversation and begin again", do_reset },
    { "/compact", "", "forget its oldest part, until it takes half of the context", do_compact },
    { "/regen", "", "drop the last answer and ask again", do_regen },
    { "/system", " [TEXT]", "show or set the system message; - removes it", do_system },
    { "/save", " FILE", "write the conversation; .json makes it JSON", do_save },
    { "/quit", "", "leave; Ctrl-D does too", do_quit },
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void do_help(struct chat *c, const char *rest)
{
    (void)c; (void)rest;
    for (size_t i = 0; i < N_COMMANDS; i++) {
        char left[40];
        snprintf(left, sizeof left, "%s%s", commands[i].name, commands[i].value);
        say("  %-16s %s", left, commands[i].help);
    }
    say("Ctrl-C stops an answer. Alt-Enter, or \\ at the end of a line, begins another line; \"\"\" opens and "
        "closes\na message of several lines; what is pasted is one message. A message that begins with / is "
        "sent\nwhen a space stands before it.");
}

static void command(struct chat *c, char *text)
{
    size_t n = strcspn(text, " \t\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strlen(commands[i].name) != n || memcmp(commands[i].name, text, n) != 0) continue;
        char *rest = text + n + strspn(text + n, " \t\n");
        size_t k = strlen(rest);
        while (k && strchr(" \t\n", rest[k - 1])) rest[--k] = '\0';
        commands[i].run(c, rest);
        return;
    }
    say("stretto chat: there is no command %.*s; /help lists them", (int)n, text);
    c->failed = true;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static int talk_loop(struct chat *c)
{
    struct buffer text = buffer_make(LINE_MAX_MESSAGE);
    int code = EXIT_DONE;
    while (!c->leave && code == EXIT_DONE) {
        interrupted = 0;
        enum line_result r = line_read(c->line, &text);
        if (r == LINE_INTERRUPTED) {
            if (!line_asks(c->line)) break;
            if (!text.len) say("(Ctrl-D or /quit leaves)");
            continue;
        }
        if (r == LINE_FAILED)
            code = command_fail("chat", STRETTO_E_IO,
                                "a message could not be read, or is longer than 1 MiB");
        if (r != LINE_MESSAGE) break;
        if (!text.len || strspn(text.data, " \t\n") == text.len) continue;
        if (strlen(text.data) != text.len) {
            say("stretto chat: the message holds a NUL byte and is left out");
            c->failed = true;
        } else if (text.data[0] == '/')
            command(c, text.data);
        else
            ask(c, text.data);
        if (c->stopped && !line_asks(c->line)) break;
        if (c->stopped) line_forget(c->line);
        if (ferror(stdout)) break;                       /* main says why */
    }
    if (line_asks(c->line) && !c->leave) putchar('\n');
    buffer_done(&text);
    return code == EXIT_DONE && c->failed && !line_asks(c->line) ? EXIT_FAILED : code;
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

static int with_session(struct chat *c, const stretto_engine *engine)
{
    struct error err = { 0 };
    stretto_engine_info about = { .size = sizeof about };
    stretto_engine_about(engine, &about);
    tell_engine("chat", &c->options->model, engine);
    if (c->options->model.verbose)
        fprintf(stderr, "stretto chat: seed %llu\n", (unsigned long long)c->how.seed);
    c->talk.context = about.context;
    stretto_status s = line_open(&c->line, &interrupted, NULL, &err);
    if (s == STRETTO_OK && c->options->system) s = talk_system(&c->talk, c->options->system);
    if (s != STRETTO_OK) return command_fail("chat", s, err.text);
    if (line_asks(c->line)) {
        struct sigaction act = { .sa_handler = on_interrupt };
        sigemptyset(&act.sa_mask);
        sigaction(SIGINT, &act, NULL);
    }
    if (line_asks(c->line)) say("/help lists what can be done besides talking; Ctrl-D leaves.");
    return talk_loop(c);
}

static int chat_run(void *options, size_t n, char **operands)
{
    (void)n; (void)operands;
    struct chat c = { .options = options, .terminal = isatty(STDOUT_FILENO) == 1,
                      .answer = buffer_make((size_t)1 << 28) };
    stretto_model *m = NULL;
    stretto_engine *engine = NULL;
    stretto_engine_options eo;
    char err[600];
    catch_interrupt();
    int code = engine_options_from("chat", &c.options->model, 1, &eo);
    if (code == EXIT_DONE) code = sampling_from("chat", &c.options->sampling, &c.how);
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
        code = with_session(&c, engine);
        int kept = learned_out("chat", &c.options->decode, engine);
        if (code == EXIT_DONE) code = kept;
    }
    line_close(c.line);
    talk_done(&c.talk);
    buffer_done(&c.answer);
    mem_free(c.pending);
    mem_free(c.saved);
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
}

#define AT(field) offsetof(struct chat_options, field)
static const struct option rows[] = {
    { "-sys --system", "TEXT", OPT_TEXT, AT(system), 0, 0, "a system message" },
    { "-n --predict --n-predict", "N", OPT_INT, AT(n), -1, 1 << 24,
      "tokens of an answer at most; -1 until the model ends [-1]" },
    { "--special-in-text", NULL, OPT_FLAG, AT(special_in_text), 0, 0,
      "special tokens spelled in messages steer the model, as <|im_end|> ends a turn; else they are text" },
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
    .operands = "",
    .description =
        "Lines are edited, and kept in $XDG_STATE_HOME/stretto/history; /help lists what can be "
        "done besides talking. Ctrl-C stops an answer, Ctrl-D leaves. From a pipe every line is "
        "a message, answers go to standard output, and the exit code tells whether all went well.",
    .uses = uses,
    .n_uses = 4,
    .options_size = sizeof(struct chat_options),
    .defaults = chat_defaults,
    .run = chat_run,
    .unknown = peer_flag,
};
