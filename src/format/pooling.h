/* How the vectors of a text's tokens become the embedding of the text, as the model's file says. A file
 * that says nothing means their average, as sentence-transformers takes it. */
#ifndef FORMAT_POOLING_H
#define FORMAT_POOLING_H
#include "format/source.h"

/* GGUF's numbers. */
enum pooling { POOLING_NONE, POOLING_MEAN, POOLING_CLS, POOLING_LAST, POOLING_RANK };

struct pooling_rule {
    enum pooling kind;
    bool normalize;                     /* the vector is scaled to length 1 afterwards            */
    char refusal[240];                  /* what the file asks for and nobody does here; "": nothing */
};
void source_pooling(const struct source *s, struct pooling_rule *out);

/* The key of GGUF files that says `normalize` where it is false: GGUF itself has no word for it. */
#define KEY_NORMALIZE "stretto.embedding.normalize"
/* "mean" ... */
const char *pooling_name(enum pooling kind);
#endif
