/* Squeezing: a model becomes a smaller one in an ordinary GGUF file. A plan says for every tensor how it is written;
 * texts are read layer by layer (calibrate.h), each weight is encoded by what its layer was seen to read
 * (feedback.h), and the file is one pass (rewrite.h). What it cost is measured by judge.h. Nothing is printed. */
#ifndef COMPRESS_SQUEEZE_H
#define COMPRESS_SQUEEZE_H
#include "compress/feedback.h"
#include "compress/mixture.h"
#include "compress/texts.h"
#include "model/model.h"

enum squeeze_only { ONLY_EMBEDDINGS = 1, ONLY_POSITIONS = 2, ONLY_KEYS = 4 /* no weight at all */ };

struct squeeze_options {
    const char *type;               /* a mixture's name                                                 */
    const char *output_type, *embedding_type;   /* of an element; NULL: as the mixture has it          */
    const char *const *keep;        /* [n_keep] "REGEX=TYPE" (POSIX extended): the first that is found in
                                       a tensor's name says its type                                    */
    size_t n_keep;
    unsigned only;                  /* these alone get another type; 0: all weights                     */
    enum encode_method method;
    unsigned bits;                  /* of ENCODE_RTN, whose scales belong to:                           */
    enum rtn_share share;
    const struct text_file *texts;  /* [n_texts] to learn from; 0: what is compiled in                  */
    size_t n_texts, tokens;         /* of them about so many tokens; 0: all                             */
    uint32_t window;                /* 0: 512, or the model's context                                   */
    const char *statistics;         /* a file that has them already (imatrix.h), of ours or llama.cpp's: no text
                                       is read; without grams errors are weighed, not fed back. NULL: none  */
    bool sequential;                /* later layers see the earlier ones as they are written            */
    bool requantize;                /* also what is at fewer bits already                               */
    bool copy;                      /* a model of which nothing would be rounded is written as it is    */
    bool force;                     /* replace what is there                                            */
    unsigned threads;               /* 0: all                                                           */
    size_t report_room;             /* bytes kept in the file for its report; 0: SQUEEZE_REPORT_ROOM,
                                       SQUEEZE_NO_REPORT: none                                          */
    struct progress progress;
    struct log log;
    const volatile int *cancel;     /* may be NULL                                                      */
};

/* A tensor of the plan. */
struct squeeze_row {
    const char *name;
    enum weight_role role;
    uint32_t layer;
    enum dtype from, to;
    uint64_t weights, n_in, rows;
    bool fixed;                     /* `to` was asked for by name: a budget leaves it                   */
    bool measured;                  /* error is known                                                   */
    double alone;                   /* of a budget: divergence with this one rounded to 4 bits or so, and no other; 0:
                                       nobody asked                                                     */
    struct encode_report error;
};
uint64_t row_bytes_as(const struct squeeze_row *r, enum dtype t);

struct squeeze;

/* Opens the model (a GGUF file) and makes the plan. E_ARG with a sentence: there is nothing to squeeze, the model
 * has fewer bits already, a word is unknown. */
stretto_status squeeze_open(struct squeeze **out, const char *path, const struct squeeze_options *o,
                            struct error *err);
void squeeze_close(struct squeeze *s);
/* Gives back the memory of the source and of attempts: rows and figures stay, and what is read once more is read from
 * the disk. */
void squeeze_rest(struct squeeze *s);

const struct model *squeeze_model(const struct squeeze *s);
/* In the order of the file. Until squeeze_write, `to` may be changed. */
struct squeeze_row *squeeze_rows(struct squeeze *s, size_t *n);
/* Bytes of all tensors, and bits per weight of those that are matrices. */
uint64_t squeeze_bytes(const struct squeeze *s, bool after);
double squeeze_bits(const struct squeeze *s, bool after);
/* The texts that are learned from. */
const struct text_file *squeeze_texts(const struct squeeze *s, size_t *n);
/* The plan anew, with another mixture. */
stretto_status squeeze_plan(struct squeeze *s, const char *type, struct error *err);
/* How the plan came about, kept in the file: "q4_k_m", "--max-kl 0.05". NULL: the type. */
stretto_status squeeze_name(struct squeeze *s, const char *goal, struct error *err);

/* From now on as if `statistics` had named this file. */
stretto_status squeeze_take_statistics(struct squeeze *s, const char *path, struct error *err);
/* Reads the texts and writes the file. Interrupted (E_CANCEL), the same call goes on later. */
stretto_status squeeze_write(struct squeeze *s, const char *out, struct error *err);

/* A file that squeeze_write just wrote has no proof yet: until squeeze_proved OUT.unproved says so, and whether it is
 * what this plan would write of this model. Where that cannot be noted, it is not known. */
void squeeze_unproved(const struct squeeze *s, const char *out);
bool squeeze_is_unproved(struct squeeze *s, const char *out);
void squeeze_proved(const char *out);

/* A type of an element by name, where this version can write it. */
stretto_status squeeze_type(const char *name, enum dtype *out, struct error *err);
enum { SQUEEZE_REPORT_ROOM = 1024 };
#define SQUEEZE_NO_REPORT SIZE_MAX
#define SQUEEZE_REPORT "stretto.squeeze.report"
#endif
