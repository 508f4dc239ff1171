/* The engine: page pool, program and sequences of one model, on the model's device. It turns rows into
 * steps. Used by one thread at a time; engines of one device take turns, a step each. Everything it
 * will ever need is taken at open. When the device goes away, steps answer E_DEVICE; the timelines
 * stay as they were and can be read.
 *
 * A sequence is a timeline of tokens whose keys and values stand in cache pages. Rows are appended
 * by engine_step and become part of the timeline by engine_commit (a chain) or engine_accept (a
 * path of a guess tree); what is not committed is forgotten with the next step. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H
#include "cache/cache.h"
#include "graph/step.h"
#include "model/model.h"

struct engine;

struct engine_options {
    unsigned threads;     /* of the device's, that run a step; 0 = all it has              */
    uint32_t context;     /* tokens of a sequence; 0 = the model's, or what fits           */
    uint32_t sequences;   /* at once; 0 = 1                                                */
    uint32_t max_rows;    /* rows of a step; 0 = 512                                       */
    uint32_t pool_tokens; /* tokens the pool holds; 0 = context * sequences                */
    enum cache_type cache;
    bool strict;
};

struct engine_info {
    uint32_t context, trained_context, sequences, max_rows, threads;
    uint64_t weights, buffers, page, pages; /* bytes; a page holds 64 tokens                    */
    bool context_cut; /* the context is what fits in memory, less than trained         */
};

/* Sizes and bytes of an engine before it is opened. */
stretto_status engine_plan(const struct model *m, const struct engine_options *o,
                           struct engine_info *out, struct error *err);
stretto_status engine_open(struct engine **out, const struct model *m,
                           const struct engine_options *o, struct error *err);
void engine_close(struct engine *e);
const struct engine_info *engine_about(const struct engine *e);
const struct model *engine_model(const struct engine *e);

enum { ROW_COMMITTED = -1 };

struct row {
    int32_t seq, token;
    int32_t parent; /* row of this call, or ROW_COMMITTED                           */
    uint8_t given;  /* a prompt row                                                 */
    uint8_t wants;  /* enum step_want bits                                          */
};

/* Hands consecutive places of `width` floats, from `out` on, to the rows that want logits or a hidden
 * state; not both. */
void answers_place(struct answer *answers, const struct row *rows, size_t n, float *out, size_t width);

/* Sends rows through the model. Rows of one sequence are neighbours, parents before children; at most
 * max_rows rows. answers: [n], by row; NULL where no row wants anything.
 *
 * Each row is answered by itself. One that cannot be sent (E_ARG: its token or its sequence does not
 * exist; E_FULL: no place in the context or in the pool) takes its descendants with it and nobody else;
 * E_NAN: what the model said is no number. The call returns OK, or the first such row's status with a
 * sentence in err, and the rows with OK are right and unchanged to the bit.
 *
 * Where nothing was sent at all - rows of a sequence apart, a parent behind its child, too many rows, a
 * place missing; E_CANCEL; an error of the backend - every row has that status. */
stretto_status engine_step(struct engine *e, const struct row *rows, size_t n,
                           struct answer *answers, struct error *err);
/* Who is asked, often and by any thread, whether a step is to end at once with E_CANCEL; NULL: nobody. A
 * cancelled step leaves every timeline as it was. */
void engine_cancel(struct engine *e, bool (*asked)(void *ud), void *ud);
/* For a flag that is set elsewhere: ud is a const volatile int *, or NULL. */
bool engine_flag_set(void *ud);
/* The first n rows of the sequence in the last step, a chain, become its tokens; those that were not
 * sent do not. */
void engine_commit(struct engine *e, int32_t seq, uint32_t n);
/* Rows row[0..n) of the last step, a path from the committed end that was sent, become its tokens. */
void engine_accept(struct engine *e, int32_t seq, const int32_t *row, uint32_t n);

/* Feeds given tokens in as many steps as it takes and commits them; the last token answers in `last`
 * what it wants. */
stretto_status engine_feed(struct engine *e, int32_t seq, const int32_t *tokens, size_t n,
                           uint8_t wants, struct answer *last, struct error *err);

/* Times of the operations of every step from now on, or no more (backend.h: struct op_time). */
stretto_status engine_profile(struct engine *e, bool on, struct error *err);
size_t engine_profile_read(const struct engine *e, struct op_time *out, size_t cap);

uint32_t engine_length(const struct engine *e, int32_t seq);
const int32_t *engine_tokens(const struct engine *e, int32_t seq);
uint32_t engine_rewind(struct engine *e, int32_t seq, uint32_t n);
stretto_status engine_fork(struct engine *e, int32_t from, int32_t to, uint32_t n,
                           struct error *err);
/* Makes `seq` hold the longest prefix of tokens[0..n) that it or another sequence has in its cache;
 * returns its length, at most n - 1 so that something is left to answer. Never across strict's
 * border: cached rows answer as they were first computed. */
uint32_t engine_reuse(struct engine *e, int32_t seq, const int32_t *tokens, size_t n);
#endif
