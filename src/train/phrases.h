/* Which phrases are worth a token (text/phrases.h): pairs of neighbours among the tokens that are learned are merged,
 * the most frequent first, as byte-pair encoding merges letters (arXiv 1508.07909), over a model's tokens instead. A
 * phrase is kept where it occurs in so many groups: what one database or one file calls its things is no phrase. The
 * same bytes for the same data. */
#ifndef TRAIN_PHRASES_H
#define TRAIN_PHRASES_H
#include "text/phrases.h"
#include "train/lines.h"

enum { PHRASE_GROUPS = 10 };

struct found_phrase {
    uint64_t count;          /* times the answers have it                                                    */
    uint32_t groups;         /* in so many groups                                                            */
    uint64_t held;           /* times the held out answers have it                                           */
};

struct found_phrases {
    struct phrases table;
    struct found_phrase *phrase;   /* [table.n] by what they save, the most first                            */
    char *spelled;                 /* as the vocabulary spells them: spelled_at[i] .. spelled_at[i + 1]      */
    uint32_t *spelled_at;          /* [table.n + 1]                                                          */
    uint64_t learned, joined;      /* tokens of the answers, and how many they are with phrases              */
    uint64_t held_learned, held_joined;
};

/* At most n phrases of what l learns; held is only counted. Fewer where there are no more, which is no error. */
stretto_status phrases_find(struct found_phrases *f, const struct tokenizer *t, const struct lines *l,
                            const struct lines *held, size_t n, struct error *err);
void found_phrases_done(struct found_phrases *f);

/* Spells what is learned with phrases: from the left the longest always; with `split`, in one of PHRASES_SPLIT lines,
 * which the seed draws, only every second time, so that both spellings stay likely. Tokens become fewer. */
enum { PHRASES_SPLIT = 10 };
void phrases_respell(struct lines *l, const struct phrases *p, bool split, uint64_t seed);
#endif
