/* The engine: page pool, program and sequences of one model, on the model's device. It turns rows into
 * steps. Used by one thread at a time; engines of one device take turns, a step each. Everything it
 * will ever need is taken at open. When the device goes away, steps answer E_DEVICE; the timelines
 * stay as they were and can be read.
 *
 * A sequence is a timeline of tokens, kept here and nowhere else. The first engine_length() of them have
 * their keys and values in cache pages; the others are known and not computed yet. Rows are sent by
 * engine_step and become part of the timeline by engine_commit (a chain) or engine_accept (a path of a
 * guess tree); what is not committed is forgotten with the next step.
 *
 * Sequences share a pool of pages, and texts that begin alike their pages: what a sequence has read is in a tree
 * as soon as a page is full, and stays there when the sequence goes on to another text, until somebody needs the
 * room (cache/prefix.h).
 *
 * Where layers see a window only, what stands far behind it is given back, and a sequence can go back by
 * WINDOW_KEPT tokens (cache.h). Further back the timeline keeps its tokens and the cache has none of them;
 * they are read again, each in its role, so answers have the same bits. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H
#include "cache/disk.h"
#include "cache/prefix.h"
#include "graph/step.h"
#include "model/model.h"

struct engine;

struct engine_options {
    unsigned threads;     /* of the device's, that run a step; 0 = all it has              */
    uint32_t context;     /* tokens of a sequence; 0 = the model's, or what fits           */
    uint32_t sequences;   /* at once; 0 = 1                                                */
    uint32_t max_rows;    /* rows of a step; 0 = 512                                       */
    uint32_t pool_tokens; /* that all sequences share; 0 = context * sequences, or what fits */
    uint64_t prefix_bytes; /* of pages beside them, for texts that begin alike, as far as they fit; 0: texts
                            * that are gone have what sequences leave free                   */
    enum cache_type cache;
    bool strict;
};

struct engine_info {
    uint32_t context, trained_context, sequences, max_rows, threads, pool_tokens;
    uint64_t weights, buffers, pages;       /* bytes; pages: of all layer groups                */
    struct { uint64_t page, pages; } group[GRAPH_GROUPS]; /* bytes; a page holds 64 tokens      */
    uint32_t prefix_pages; /* of each group's, those of prefix_bytes                           */
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
/* What steps of this engine cost, learned from every one of its scheduler's (scheduler.h). */
struct step_costs *engine_costs(struct engine *e);

/* An empty sequence; the first are 0, 1, ... E_FULL when `sequences` are open. */
stretto_status engine_seq_open(struct engine *e, int32_t *seq, struct error *err);
/* All that can be open at once, 0 ..: for who numbers them himself. */
stretto_status engine_seq_open_all(struct engine *e, struct error *err);
/* Its pages serve texts that begin alike, until they are needed (cache/prefix.h). */
void engine_seq_close(struct engine *e, int32_t seq);

/* ROW_APART, in place of a role: a guess that never becomes part of the timeline, nor does what hangs on it. Adapters
 * that act on guesses alone act there. */
enum { ROW_COMMITTED = -1, ROW_APART = 2 };

struct row {
    int32_t seq, token;
    int32_t parent; /* row of this call, or ROW_COMMITTED                           */
    uint8_t given;  /* 1: a prompt row, 0: a written one; or ROW_APART              */
    uint8_t wants;  /* enum step_want bits                                          */
};

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
/* Who is asked, often and by any thread, whether a step is to end at once with E_CANCEL, and with it every
 * request; NULL: nobody. A cancelled step leaves every timeline as it was. */
void engine_cancel(struct engine *e, bool (*asked)(void *ud), void *ud);
/* For a flag that is set elsewhere: ud is a const volatile int *, or NULL. */
bool engine_flag_set(void *ud);
/* The first n rows of the sequence in the last step, a chain, become its tokens behind those in the
 * cache; rows that were not sent do not. Returns how many. */
uint32_t engine_commit(struct engine *e, int32_t seq, uint32_t n);
/* Rows row[0..n) of the last step, a path from the committed end that was sent, become its tokens. */
void engine_accept(struct engine *e, int32_t seq, const int32_t *row, uint32_t n);

/* Feeds given tokens in as many steps as it takes and commits them; the last token answers in `last`
 * what it wants. */
stretto_status engine_feed(struct engine *e, int32_t seq, const int32_t *tokens, size_t n,
                           uint8_t wants, struct answer *last, struct error *err);

/* Times of the operations of every step from now on, or no more (backend.h: struct op_time). */
stretto_status engine_profile(struct engine *e, bool on, struct error *err);
size_t engine_profile_read(const struct engine *e, struct op_time *out, size_t cap);

/* ---- timelines ------------------------------------------------------------------------------ */

/* Tokens in the cache, and all that are known. */
uint32_t engine_length(const struct engine *e, int32_t seq);
uint32_t engine_known(const struct engine *e, int32_t seq);
/* The known tokens; the place for TREE_ROWS + 1 more behind them is scratch of whoever writes. */
int32_t *engine_tokens(const struct engine *e, int32_t seq);
/* Whether token `at` is given (a prompt's) or written: the role that its row has whenever it is sent. */
bool engine_given(const struct engine *e, int32_t seq, uint32_t at);
/* The timeline is now tokens[0..n), 1 <= n <= the context. As much of it as the sequence has itself or texts before
 * it have left in whole pages is taken over (of one page more its first 4 tokens or more), at most `most` and
 * n - 1 tokens, so that something is left to answer: cached rows answer as they were first computed. Returns how
 * much. Of these first tokens, those that were there keep their roles, in the cache or not, and those of others
 * have the roles in which they were computed; all others are given. `tokens` may be a part of the timeline's own.
 * Up to `most`, pages that another text fills meanwhile are taken over while this one is read, in equal roles. */
uint32_t engine_set(struct engine *e, int32_t seq, const int32_t *tokens, uint32_t n, uint32_t most);
/* The role of the tokens from `at` on. */
void engine_role(struct engine *e, int32_t seq, uint32_t at, bool given);
/* One more token at the end: a written one. */
void engine_push(struct engine *e, int32_t seq, int32_t token);
/* Whether the cache can go back to the first n tokens: n (the length, if that is less), or 0 where a layer
 * group has given back what a row behind them would see (cache.h). */
uint32_t engine_reach(const struct engine *e, int32_t seq, uint32_t n);
/* The timeline keeps its first n tokens; returns how many of them are in the cache: engine_reach. The
 * others are read again when a request runs on the sequence. */
uint32_t engine_rewind(struct engine *e, int32_t seq, uint32_t n);
/* The cache keeps the first n tokens at most; the timeline stays. */
void engine_forget(struct engine *e, int32_t seq, uint32_t n);
/* How many tokens at the front nobody has changed since this was last asked. */
uint32_t engine_unchanged(struct engine *e, int32_t seq);
/* `to` is now the first n tokens of `from`, which are in its cache; they are in the cache of `to` as far as
 * `from` reaches (engine_reach). */
stretto_status engine_fork(struct engine *e, int32_t from, int32_t to, uint32_t n,
                           struct error *err);

/* ---- sharing -------------------------------------------------------------------------------- */

/* Whose pages a sequence takes over, and who its own serve: texts of the same salt; 0 is a salt like any other, and
 * what a sequence begins with. exact: only pages in the roles that the new text has them in, so that the answer is
 * to the bit that of a text which took nothing over (with strict, roles have no bits of their own). owner: whose pages
 * its own are: while several have some, those of whoever has more than an equal part go first (cache/prefix.h). */
struct sharing { uint64_t salt; bool exact; uint64_t owner; const float *adapters; /* see engine_adapt */ };
/* From the next engine_set on. With another salt than before the cache has nothing of its timeline. E_ARG as
 * engine_adapt. */
stretto_status engine_share(struct engine *e, int32_t seq, const struct sharing *how, struct error *err);
/* Which of the model's adapters act on the sequence, each times its weight: [adapters of the model], of those that act
 * on sets of rows (model/adapters.h); NULL: those that are not chosen, as they were opened. Sequences with different
 * ones stand in one step, and each has the bits that it has alone. Pages on which an adapter acts are shared with
 * texts of the same adapters and weights alone. From the next engine_set on; with others than before the cache has
 * nothing of its timeline. Rows of an answer begin with the last token of what engine_set is given, whose role is
 * then that of written ones. E_ARG: weights that are no numbers, or two adapters that begin behind different tokens. */
stretto_status engine_adapt(struct engine *e, int32_t seq, const float *weights, struct error *err);
/* Whether an adapter acts on the sequence's guesses apart (ROW_APART). */
bool engine_gated(const struct engine *e, int32_t seq);
/* The weights that are meant by these: 0 of those that act on all of the model; and those of a sequence. */
void engine_weights(const struct engine *e, const float *weights, float out[GRAPH_SETS]);
const float *engine_adapters(const struct engine *e, int32_t seq);
/* E_ARG, in a sentence, where engine_adapt would refuse them. */
stretto_status engine_weights_check(const struct engine *e, const float *weights, struct error *err);
/* Whether prompts are read with the same pages by sequences with these weights and with those. */
bool engine_reads_alike(const struct engine *e, const float *a, const float *b);
/* What the last engine_set took over, and why no more. */
const struct prefix_miss *engine_missed(const struct engine *e, int32_t seq);
/* How much of tokens[0..n) a new sequence could take over, with nothing done. given: [n] their roles. */
uint32_t engine_offers(const struct engine *e, const int32_t *tokens, const uint8_t *given, uint32_t n,
                       const struct sharing *how);

/* Pages that these sequences have of a group that keeps all, each once. */
uint32_t engine_pages_held(struct engine *e, const int32_t *seqs, uint32_t n_seqs);
/* Behind it: tokens of another sequence, or (seq -1) of a text that begins, in pages that were counted there. */
uint32_t engine_tokens_shared(struct engine *e, int32_t seq, const int32_t *tokens, const uint8_t *given, uint32_t n,
                              const struct sharing *how);

/* Pages of the largest pool: free ones; kept: those that only texts which are gone have. */
struct engine_pages {
    uint32_t all, free, kept;
    uint64_t yielded;                  /* times that a text which somebody works on gave its pages to others */
    struct prefix_counts counts;
};
void engine_look(const struct engine *e, struct engine_pages *out);

/* ---- pages in files (cache/disk.h) ---------------------------------------------------------- */

struct engine_disk {
    const char *folder;
    uint64_t bytes;                    /* that its files may take                                      */
    const char *adapter;               /* what else than the model's file decides the numbers; or NULL */
    bool apart;                        /* engine_set leaves them there: engine_restore takes them       */
    struct log log;                    /* is told once when no more can be written                     */
};
/* engine_set takes over pages from there too, from now on. What is there is only taken where the model (by all its
 * metadata and by samples of every tensor), adapter, device, arithmetic, cache and this version are the same. E_UNSUP:
 * the backend does not give its pages away. */
stretto_status engine_disk_open(struct engine *e, const struct engine_disk *o, struct error *err);
/* One page more of the first `most` tokens of the sequence's timeline comes from there, for its next engine_set; false:
 * none is there or has room. Between turns: so nobody waits for a text's whole beginning. */
bool engine_restore(struct engine *e, int32_t seq, uint32_t most);
/* Writes pages that `hits` texts took over, at most so many, and returns how many it did: with hits 0, 0 when there are
 * none left. Between turns, best when there is nothing to do; with 0 and UINT32_MAX before the process ends. */
uint32_t engine_disk_save(struct engine *e, uint32_t hits, uint32_t most);
/* What was written is on the disk, whatever happens to the machine. */
void engine_disk_sync(struct engine *e);
/* False: there is none. */
bool engine_disk_look(const struct engine *e, struct disk_state *out);

/* Pages of equal tokens, roles and ways are compared byte by byte whenever two texts computed one each, from now on;
 * engine_look's counts say how many and how many differed (0). E_NOMEM. */
stretto_status engine_compare(struct engine *e, struct error *err);
#endif
