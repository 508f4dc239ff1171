/* Embeddings: rows that ask for hidden states, and what is made of them. Reimers, Gurevych 2019
 * (arXiv 1908.10084) compare the ways; the model's file says which it was trained with. */
#ifndef ENGINE_EMBEDDING_H
#define ENGINE_EMBEDDING_H
#include "engine/scheduler.h"
#include "format/pooling.h"

struct embedding {
    enum pooling kind;
    bool normalize;                  /* the vector is scaled to length 1 */
    size_t width, count;             /* of a vector; tokens of the text */
    struct answer *places;           /* [rows] what the rows of a step answer, each with a place for its state */
    uint32_t rows;
    double *sum;                     /* [width] */
    float *out;                      /* [width], of POOLING_NONE [count][width]: the caller's, or NULL: a
                                      * place of its own */
    void *memory;
};

/* How the model's texts become vectors: by `asked` (-1: as its file says), scaled unless `raw`. E_UNSUP with a
 * sentence when the file asks for what nobody does here. */
stretto_status embedding_rule(const struct model *m, int asked, bool raw, enum pooling *kind, bool *normalize,
                              struct error *err);
/* Tokens that a text may have: a model that sees both ways reads it in one step. */
uint32_t embedding_longest(const struct model *m, const struct engine_info *i);

/* Numbers of its answer; kind and count are set. */
size_t embedding_numbers(const struct embedding *x, const struct model *m);
/* Memory for one text of x->count tokens; kind, normalize and out are set. */
stretto_status embedding_open(struct embedding *x, const struct model *m, const struct engine_info *i,
                              struct error *err);
void embedding_close(struct embedding *x);
/* What a request that reads the text wants; its `answered` calls embedding_take. */
void embedding_ask(const struct embedding *x, struct request *r);
void embedding_take(struct embedding *x, uint32_t at, const struct answer *a);
/* All is read: out is whole. */
void embedding_finish(struct embedding *x);
#endif
