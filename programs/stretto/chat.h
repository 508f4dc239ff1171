/* What the parts of `stretto chat` share: cmd_chat.c opens and loops, chat_answer.c asks the model,
 * chat_command.c does what begins with a slash, chat_set.c changes how answers are written. */
#ifndef STRETTO_CHAT_H
#define STRETTO_CHAT_H
#include "stretto/line.h"
#include "stretto/open.h"
#include "stretto/talk.h"
#include <jansson.h>

struct chat_options {
    struct model_options model;
    struct sampling_options sampling;
    struct decode_options decode;
    const char *prompt, *system, *system_file, *resume, *on_full;
    struct text_list stop;
    int64_t n;
    bool escape, single, special_in_text;
};

enum { CHAT_MAX_STOPS = 16 };

/* What one answer, or all of them, took. */
struct chat_stats { size_t answers, read, kept, written; double read_seconds, write_seconds; };

struct chat {
    const struct chat_options *options;
    struct talk talk;
    struct line *line;
    stretto_session *session;
    struct sampling_options sampling;  /* as /set left it; the seed in use                      */
    stretto_sampling how;              /* the same for the library                              */
    int64_t n;                         /* tokens of an answer                                   */
    char *stops[CHAT_MAX_STOPS + 1];   /* malloc'd, NULL behind the last                        */
    struct buffer answer;              /* the one being written                                 */
    char *pending;                     /* a message that got no answer yet; NULL: none          */
    char *saved;                       /* the file of the last /save, which may be replaced     */
    struct chat_stats last, all;
    bool terminal, failed;             /* standard output is one; a piped message went wrong    */
    bool leave, stopped, verbose;      /* stopped: Ctrl-C ended the last answer                 */
};

/* A line for the person, on standard error. */
__attribute__((format(printf, 1, 2)))
void chat_say(const char *fmt, ...);
/* The same for what went wrong; from a pipe the exit code will tell. */
__attribute__((format(printf, 2, 3)))
void chat_wrong(struct chat *c, const char *fmt, ...);

/* ---- chat_answer.c */
/* Adds the message, writes the answer, keeps both. A message without an answer is taken back and kept
 * for /regen. */
void chat_ask(struct chat *c, const char *text);
void chat_tell_speed(const struct chat_stats *s, const char *what);

/* ---- chat_command.c */
void chat_command(struct chat *c, char *text);
const char *chat_command_word(size_t i);       /* "/help" ...; NULL behind the last             */
/* The conversation of a file, in place of this one; false after a sentence. Its parameters are taken too,
 * those that `keep_given` were given on the command line not. */
bool chat_load(struct chat *c, const char *path, bool keep_given);

/* ---- chat_set.c */
void chat_set(struct chat *c, char *words);    /* "" shows all                                  */
bool chat_add_stop(struct chat *c, const char *text);
void chat_clear_stops(struct chat *c);
/* Parameters as a saved conversation holds them. */
json_t *chat_parameters(const struct chat *c);
stretto_status chat_take_parameters(struct chat *c, const json_t *all, bool keep_given,
                                    struct error *err);
#endif
