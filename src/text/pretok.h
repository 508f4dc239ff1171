/* Cutting text into words before the model sees it, as the steps that tokenizer.json spells out and
 * that GGUF names. Every step reads the words of the one before; only two of them change the text.
 *
 * Malformed UTF-8: expressions are matched on the well-formed stretches alone, as if each were a text
 * of its own, so nothing is lost and nothing fails; malformed bytes end up in words of their own. */
#ifndef TEXT_PRETOK_H
#define TEXT_PRETOK_H
#include "base/buffer.h"
#include <stdbool.h>

enum pretok_kind {
    PRETOK_REGEX,           /* matches of an expression                                        */
    PRETOK_LITERAL,         /* occurrences of a string                                         */
    PRETOK_DIGITS,          /* numbers, one by one                                             */
    PRETOK_DIGIT_RUNS,      /* numbers, whole runs                                             */
    PRETOK_THREES,          /* decimal digits in threes, counted from the right of a run       */
    PRETOK_PUNCT,           /* punctuation, one by one                                         */
    PRETOK_SPACES,          /* white space, one by one                                         */
    PRETOK_WORDS,           /* runs of word characters, and runs of the rest without spaces    */
    PRETOK_METASPACE,       /* space -> U+2581, perhaps one in front, perhaps a cut before each */
    PRETOK_PREFIX_SPACE,    /* a space in front of each word that has none                     */
    PRETOK_BYTE_LETTERS,    /* every byte becomes its letter of the byte alphabet              */
};
enum pretok_cut { CUT_ISOLATED, CUT_REMOVED, CUT_WITH_PREVIOUS, CUT_WITH_NEXT, CUT_CONTIGUOUS };
enum pretok_prepend { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS };

/* THREES may be of runs that end at a word border alone, and may be no words but a cut in front of
 * every three, so that what surrounds the digits stays with the first and the last of them. */
enum { THREES_TO_BORDER = 1, THREES_CUT = 2 };

struct pattern;                             /* a compiled expression */

struct pretok_step {
    enum pretok_kind kind;
    enum pretok_cut cut;
    bool invert;                            /* what does not match is what matches           */
    unsigned threes;                        /* THREES: how                                   */
    bool (*is_digit)(int32_t cp);           /* THREES                                        */
    bool split;                             /* METASPACE                                     */
    enum pretok_prepend prepend;            /* METASPACE                                     */
    struct pattern *pattern;                /* REGEX                                         */
    char *literal;                          /* LITERAL; METASPACE: the replacement           */
    size_t n_literal;
};

enum { PRETOK_MAX_STEPS = 32, PRETOK_MAX_EXPRESSION = 1 << 16 };
struct pretok { struct pretok_step step[PRETOK_MAX_STEPS]; size_t n; };

struct span { uint32_t at, len; };
struct span_list { struct span *item; size_t n, cap; };

/* One text at work; kept from text to text. */
struct pretok_work {
    struct buffer text, spare;
    struct span_list words, next, parts;
    struct pattern_work *match;
};

void pretok_done(struct pretok *p);
/* The next step, zeroed; E_FORMAT when there are too many. */
stretto_status pretok_add(struct pretok *p, struct pretok_step **step, struct error *err);
stretto_status pretok_add_regex(struct pretok *p, const char *expression, size_t n, struct error *err);
stretto_status pretok_add_threes(struct pretok *p, unsigned how, bool (*is_digit)(int32_t),
                                 struct error *err);

/* Cuts w->text into w->words. `first`: the text begins where the whole input begins. */
stretto_status pretok_run(const struct pretok *p, struct pretok_work *w, bool first,
                          struct error *err);
void pretok_work_done(struct pretok_work *w);
stretto_status span_push(struct span_list *l, size_t at, size_t len);

/* Expressions are written for Oniguruma; what PCRE2 reads differently is rewritten, what it cannot say
 * is refused. */
stretto_status pattern_open(struct pattern **out, const char *expression, size_t n, struct error *err);
void pattern_close(struct pattern *p);
struct pattern_work *pattern_work_open(void);
void pattern_work_close(struct pattern_work *w);
/* The first match at or after `from` in well-formed text; *at == SIZE_MAX when there is none. */
stretto_status pattern_find(const struct pattern *p, struct pattern_work *w, const char *text,
                            size_t n, size_t from, size_t *at, size_t *end, struct error *err);

/* A pre-tokenizer by its GGUF name. */
struct pretok_name {
    const char *name;
    const char *expression[6];              /* one after the other; "\1" and so on: THREES */
    unsigned flags;
};
enum { PRE_IGNORE_MERGES = 1, PRE_ADD_BOS = 2, PRE_NO_BOS = 4 };
const struct pretok_name *pretok_find(const char *name, size_t n);       /* NULL when unknown */
const struct pretok_name *pretok_name_at(size_t i);                      /* NULL after the last */
stretto_status pretok_add_name(struct pretok *p, const struct pretok_name *name, struct error *err);
#endif
