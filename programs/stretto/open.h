/* Opening what -m names, with progress and words for people. */
#ifndef STRETTO_OPEN_H
#define STRETTO_OPEN_H
#include "stretto/options.h"

/* Prints the sentence itself; returns an exit code (EXIT_DONE when *out is open). */
int open_model(const char *command, const struct model_options *o, bool vocabulary_only,
               stretto_model **out);
/* The path and scale of "FILE" or "FILE=SCALE", as opening reads it: a file of such a name is a file. */
enum adapter_word { ADAPTER_WORD_GOOD, ADAPTER_WORD_NO_FILE, ADAPTER_WORD_NO_SCALE };
enum adapter_word adapter_word(const char *word, char path[4096], float *scale);
/* The sentence for ADAPTER_WORD_NO_SCALE. */
int adapter_word_usage(const char *command, const char *word);
/* The name of the cache type that -ctk and -ctv mean together, NULL when neither is given;
 * EXIT_USAGE when they do not go together. */
int cache_from(const char *command, const struct model_options *o, const char **name);
/* The options of an engine as -c, -t, -ctk ... say. */
int engine_options_from(const char *command, const struct model_options *o, uint32_t sessions,
                        stretto_engine_options *out);
/* Says the context and what it takes, when it is worth saying (cut) or asked for (-v). */
void tell_engine(const char *command, const struct model_options *o, const stretto_engine *e);
/* Sampling from the options, the drawn seed included; the logit bias lists are malloc'd into *out.
 */
int sampling_from(const char *command, const struct sampling_options *o, stretto_sampling *out);

/* A decoding strategy as the options say, with the draft model opened; it outlives its sessions. These
 * print the sentence themselves. */
struct decoder { stretto_decoding how; stretto_model *draft; };
int decoder_open(const char *command, const struct decode_options *o,
                 const struct model_options *m, struct decoder *out);
void decoder_close(struct decoder *d);
/* Whether a file can be written at the end of the work, asked before it; `replaced`: by a new one that
 * takes its name, so that its folder must be open to that. */
int can_write(const char *command, const char *option, const char *path, bool replaced);
/* Whether a new file can be made, or with `force` take the place of one that is there. */
int can_create(const char *command, const char *option, const char *path, bool force);
/* The same of --learned, a regular file that is replaced. */
int learned_writable(const char *command, const char *path);
/* Reads the file of --learned, when there is one. */
int learned_in(const char *command, const struct decode_options *o, stretto_engine *e);
/* And writes it. */
int learned_out(const char *command, const struct decode_options *o, stretto_engine *e);
/* Gives it to the session. */
int decode_as(const char *command, const struct decoder *d, stretto_session *s);
/* stretto_session_sync with progress; Ctrl-C ends it. */
stretto_status sync_prompt(stretto_session *s, const int32_t *ids, size_t n);
/* The same; *kept is how many tokens the session had read before. */
stretto_status sync_prompt_kept(stretto_session *s, const int32_t *ids, size_t n, size_t *kept);
/* Says what decoding did, as -v asks for. */
void tell_decoding(const char *command, const stretto_session *s);

/* Set by Ctrl-C after catch_interrupt(). */
extern volatile int interrupted;
void catch_interrupt(void);
/* true: Ctrl-C ends the program at once, where nobody looks at `interrupted` and nothing would be lost. */
void interrupt_ends(bool at_once);

/* The text of a file, or of standard input for "-"; malloc'd, NUL-terminated. NULL after a
 * sentence. */
char *read_text(const char *command, const char *path, size_t *length);
#endif
