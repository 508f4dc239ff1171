/* The proof: a squeezed model beside its original, on texts that it did not learn from. The original's layers are in
 * memory one at a time, once (original.h); whole it is only while its speed is measured. */
#ifndef COMPRESS_JUDGE_H
#define COMPRESS_JUDGE_H
#include "compress/margin.h"
#include "compress/texts.h"
#include "eval/eval.h"

enum { JUDGE_TEXTS = 16 };

/* Windows of the texts: those that choices are made by are not those that are told afterwards. */
enum judge_part { JUDGE_ALL, JUDGE_CHOICE, JUDGE_PROOF };

struct judge_options {
    const struct text_file *texts;      /* [n_texts]; 0: what is compiled in                            */
    size_t n_texts;
    uint32_t window;                    /* 0: 512, or the model's context                               */
    size_t windows;                     /* of each text at most, as many more conversations as have the tokens of
                                           so many windows, and twice as many to choose by; 0: all      */
    enum judge_part part;
    const struct model_adapter *adapters; size_t n_adapters; /* beside the original                       */
    unsigned threads;
    struct progress progress;
    const volatile int *cancel;
};

struct judge;
/* The original's perplexities are told with every candidate, on the same tokens. */
stretto_status judge_open(struct judge **out, const char *path, const struct judge_options *o, struct error *err);
void judge_close(struct judge *j);
/* Gives the memory of the original back: names and figures stay, nothing more is measured. */
void judge_rest(struct judge *j);
size_t judge_texts(const struct judge *j);
const char *judge_text_name(const struct judge *j, size_t i);

/* What a candidate is beside the original; `all`: of all texts together. speed: tokens per second that one
 * sequence writes, the original's and its own; 0: not measured. rows: token by token, to compare candidates
 * (eval_pair). */
struct verdict {
    struct eval_kl text[JUDGE_TEXTS], all;
    struct eval_rows rows;
    uint64_t file_bytes;
    double speed;
};
void verdict_done(struct verdict *v);
/* With JUDGE_CHOICE: what the proof will say, and how much more it may be. */
struct margin judge_margin(const struct judge *j, const struct verdict *v);
stretto_status judge_measure(struct judge *j, const char *path, bool speed, struct verdict *out, struct error *err);
/* What a cache of keys and values adds: the model at `path` with each of these types (n <= EVAL_MODELS) beside itself
 * with one of float32, on all texts together. bytes: of a token. out[n]. */
struct cache_verdict { enum cache_type type; struct eval_kl kl; double bytes; };
stretto_status judge_caches(struct judge *j, const char *path, const enum cache_type *types, size_t n,
                            struct cache_verdict *out, struct error *err);
/* Best asked before anything is measured: what the original makes of the texts is not in memory then. */
stretto_status judge_speed(struct judge *j, double *out, struct error *err);
#endif
