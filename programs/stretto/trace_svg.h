/* A picture of one answer: which steps wrote which tokens, who guessed them, and how far plain
 * decoding would have been. */
#ifndef STRETTO_TRACE_SVG_H
#define STRETTO_TRACE_SVG_H
#include "engine/writer.h"

struct svg_token { int32_t id, strategy; uint32_t step; };  /* strategy -1: the model's own */
struct svg_step { double end; uint32_t tokens, guesses; }; /* seconds since the beginning */

struct svg_trace {
    struct svg_token *token;
    struct svg_step *step;
    size_t n_tokens, n_steps, cap_tokens, cap_steps;
    double begin;
    bool full;                         /* memory was out: the rest is missing */
};

/* Begins with the token that the prompt itself answered; then watches the writer. */
void svg_begin(struct svg_trace *t);
void svg_watch(void *trace, const struct outcome *o, double seconds);
void svg_done(struct svg_trace *t);

struct svg_about {
    const char *model, *decode;
    const int32_t *ids; size_t n;      /* the answer                             */
    double step_seconds;               /* of a step of one row; 0: not known     */
    bool dark;                         /* for a dark page                        */
};
/* Prints the sentence itself; an exit code. */
int svg_write(const char *command, const char *path, bool replace, const stretto_model *m,
              const struct svg_trace *t, const struct svg_about *about);
#endif
