/* What begins with a slash. */
#include "stretto/chat.h"
#include "base/memory.h"
#include "stretto/nearest.h"
#include <stdio.h>
#include <string.h>

static void do_help(struct chat *c, char *rest);

static void do_bye(struct chat *c, char *rest)
{
    (void)rest;
    c->leave = true;
}

static void do_reset(struct chat *c, char *rest)
{
    (void)rest;
    talk_reset(&c->talk);
    chat_say("The conversation starts over%s.", c->talk.system ? ", with the same system message" : "");
}

static void do_system(struct chat *c, char *rest)
{
    if (!*rest) {
        chat_say("%s", c->talk.system ? c->talk.system
                                      : "There is no system message; /system TEXT sets one.");
        return;
    }
    bool none = strcmp(rest, "-") == 0;
    if (talk_system(&c->talk, none ? NULL : rest) != STRETTO_OK) chat_wrong(c, "out of memory");
    else chat_say(none ? "No system message from now on." : "The system message is set from now on.");
}

static void do_set(struct chat *c, char *rest)
{
    size_t n = strcspn(rest, " \t\n");
    if (n == 6 && strncmp(rest, "system", 6) == 0) do_system(c, rest + n + strspn(rest + n, " \t"));
    else chat_set(c, rest);
}

static void do_compact(struct chat *c, char *rest)
{
    (void)rest;
    struct error err = { 0 };
    size_t forgotten = 0;
    if (talk_compact(&c->talk, &forgotten, &err) != STRETTO_OK) chat_wrong(c, "%s", err.text);
    else
        chat_say("Forgot %zu messages; the %zu that are left take %zu of %zu tokens.", forgotten,
                 c->talk.n, c->talk.n_ids, c->talk.context);
}

static void do_stats(struct chat *c, char *rest)
{
    (void)rest;
    struct error err = { 0 };
    if (!c->talk.n) c->talk.n_ids = 0;
    else if (talk_ids(&c->talk, false, &err) != STRETTO_OK) chat_wrong(c, "%s", err.text);
    chat_say("context: %zu of %zu tokens, %zu messages", c->talk.n_ids, c->talk.context, c->talk.n);
    if (!c->all.answers) {
        chat_say("no answer yet");
        return;
    }
    chat_tell_speed(&c->last, "last answer: ");
    char what[64];
    if (c->all.answers == 1) return;
    snprintf(what, sizeof what, "all %zu answers: ", c->all.answers);
    chat_tell_speed(&c->all, what);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void save(struct chat *c, const char *path, bool replace)
{
    struct error err = { 0 };
    if (!*path) {
        chat_wrong(c, "/save needs the name of a file; .md makes it Markdown, .json a JSON document, "
                      "anything else JSON lines");
        return;
    }
    bool again = c->saved && strcmp(c->saved, path) == 0;
    json_t *parameters = chat_parameters(c);
    stretto_status s = talk_save(&c->talk, parameters, path, again || replace, &err);
    json_decref(parameters);
    if (s != STRETTO_OK) {
        chat_wrong(c, "%s", err.text);
        return;
    }
    if (!again) {
        mem_free(c->saved);
        c->saved = mem_strdup(path);
    }
    chat_say("Saved %zu messages in %s.", c->talk.n, path);
}

static void do_save(struct chat *c, char *rest) { save(c, rest, false); }
static void do_save_over(struct chat *c, char *rest) { save(c, rest, true); }

bool chat_load(struct chat *c, const char *path, bool keep_given)
{
    struct error err = { 0 };
    json_t *parameters = NULL;
    struct talk read = { 0 }, *t = &c->talk;
    struct error why = { 0 };
    stretto_status s = talk_load(&read, path, &parameters, &err);
    if (s == STRETTO_OK && parameters) s = chat_take_parameters(c, parameters, keep_given, &why);
    json_decref(parameters);
    if (s != STRETTO_OK) {
        if (why.text[0]) chat_wrong(c, "%s: %s", path, why.text);
        else chat_wrong(c, "%s", err.text);
        talk_done(&read);
        return false;
    }
    talk_take(t, &read);
    mem_free(c->pending);
    c->pending = NULL;
    bool open = t->n && strcmp(t->messages[t->n - 1].role, "user") == 0;
    chat_say("Loaded %zu messages from %s.", t->n, path);
    if (open) {
        c->pending = mem_strdup(t->messages[t->n - 1].content);
        talk_drop(t);
        chat_say("The last of them has no answer yet: /regen asks for it.");
    }
    return true;
}

static void do_load(struct chat *c, char *rest)
{
    if (*rest) chat_load(c, rest, false);
    else chat_wrong(c, "/load needs the name of a file that /save has written");
}

/* ---- asking again ---------------------------------------------------------------------------- */

static void do_regen(struct chat *c, char *rest)
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
        c->sampling.seed++;
        if (c->how.temperature <= 0) chat_say("(at temperature 0 the answer stays the same)");
    } else {
        chat_say("stretto chat: there is no answer to write again");
        return;
    }
    if (message) chat_ask(c, message);
    else chat_wrong(c, "out of memory");
    mem_free(message);
}

/* ---- the table ------------------------------------------------------------------------------- */

/* A row without help is another name of the row above. */
static const struct {
    const char *name, *value, *help;
    void (*run)(struct chat *c, char *rest);
} commands[] = {
    { "/help", "", "show this list", do_help },
    { "/?", NULL, NULL, do_help },
    { "/set", " [NAME [VALUE]]", "show or change temperature, top_p, seed, n, stop ...", do_set },
    { "/system", " [TEXT]", "show or set the system message; - removes it", do_system },
    { "/stats", "", "show how full the context is, and how fast answers were", do_stats },
    { "/regen", "", "drop the last answer and ask again", do_regen },
    { "/compact", "", "forget the oldest part, to free half of the context", do_compact },
    { "/clear", "", "forget the conversation and start over", do_reset },
    { "/reset", NULL, NULL, do_reset },
    { "/save", " FILE", "write the conversation; /save! replaces a file", do_save },
    { "/save!", NULL, NULL, do_save_over },
    { "/load", " FILE", "resume a saved conversation", do_load },
    { "/bye", "", "leave; Ctrl-D does too", do_bye },
    { "/exit", NULL, NULL, do_bye },
    { "/quit", NULL, NULL, do_bye },
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

const char *chat_command_word(size_t i) { return i < N_COMMANDS ? commands[i].name : NULL; }

static void do_help(struct chat *c, char *rest)
{
    (void)c; (void)rest;
    for (size_t i = 0; i < N_COMMANDS; i++) {
        char left[80];
        if (!commands[i].help) continue;
        snprintf(left, sizeof left, "%s%s", commands[i].name, commands[i].value);
        for (size_t k = i + 1; k < N_COMMANDS && !commands[k].help && commands[k].run == commands[i].run; k++)
            snprintf(left + strlen(left), sizeof left - strlen(left), ", %s", commands[k].name);
        chat_say("  %-21s %s", left, commands[i].help);
    }
    chat_say("Ctrl-C stops an answer. Alt-Enter, or \\ at the end of a line, begins another line; \"\"\" opens "
             "and closes a message of several lines; what is pasted is one message. Put a space in front of "
             "a message that begins with /, and it is sent.");
}

static void unknown(struct chat *c, const char *text, size_t n)
{
    char word[NEAREST_MAX];
    struct nearest near;
    snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : sizeof word - 1), text);
    nearest_begin(&near, word);
    for (size_t i = 0; i < N_COMMANDS; i++) nearest_try(&near, commands[i].name, strlen(commands[i].name));
    chat_wrong(c, "there is no command %s%s /help lists them", word,
               near.best[0] ? nearest_words(&near) : ";");
}

void chat_command(struct chat *c, char *text)
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
    unknown(c, text, n);
}
