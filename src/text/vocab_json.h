/* tokenizer.json, piece by piece. The big arrays are streamed; the small parts are read as trees. */
#ifndef TEXT_VOCAB_JSON_H
#define TEXT_VOCAB_JSON_H
#include "text/tokenizer_int.h"
#include <jansson.h>

/* Each adds its steps to t; `part` may be JSON null or NULL. */
stretto_status json_normalizer(struct tokenizer *t, const json_t *part, struct error *err);
stretto_status json_pre_tokenizer(struct tokenizer *t, const json_t *part, struct error *err);
stretto_status json_post_processor(struct tokenizer *t, const json_t *part, struct error *err);
stretto_status json_decoder(struct tokenizer *t, const json_t *part, struct error *err);

/* Added tokens while they are gathered: several files may speak of one. */
struct added_list {
    struct added_json *item;
    size_t n, cap;
    uint32_t *at;                     /* [n_at] by id: the item's number and one, or 0 */
    size_t n_at, n_listed;            /* n_listed: items that files list; the others are only named */
    size_t n_model;                   /* tokens of the model's own vocabulary          */
    int64_t last;                     /* the greatest id of an item, or -1             */
};
void added_list_done(struct added_list *l);
const struct added_json *added_list_find(const struct tokenizer *t, const struct added_list *l,
                                         struct source_str s);
/* Takes the list over: the tokens will be found in texts. */
stretto_status added_list_apply(struct tokenizer *t, struct added_list *l, struct error *err);
/* The flags of an object; id is not read. */
struct added_json added_json_of(const json_t *v);
/* A new token's id is its place in the vocabulary, else the next behind all others; files say an id too, which the
 * library does not read. One that is there gets the new flags. */
stretto_status added_list_put(struct tokenizer *t, struct added_list *l, struct source_str s,
                              struct added_json a, struct error *err);

/* The files beside tokenizer.json; each may be NULL. */
struct beside {
    json_t *tokenizer, *map, *added, *model, *generation;
    bool named;                       /* there are names of tokens       */
    int class;                        /* of transformers', or -1         */
};
/* After the files were read. */
stretto_status beside_settle(struct beside *b, struct error *err);
/* The text of tokenizer.json's pre-tokenizer. */
void beside_look(struct beside *b, const char *pre, size_t n);
void beside_done(struct beside *b);
enum beside_part { BESIDE_NORMALIZER, BESIDE_PRE, BESIDE_DECODER };
/* A part of tokenizer.json as the tokenizer's class makes it. */
stretto_status beside_adjust(const struct beside *b, enum beside_part which, json_t **part,
                             struct error *err);
/* `tokens`: the list of tokenizer.json, checked. */
stretto_status beside_added(struct tokenizer *t, const struct beside *b, struct added_list *l,
                            const json_t *tokens, struct error *err);
void beside_ids(struct tokenizer *t, const struct beside *b);

/* A model without its vocabulary and merges, as JSON; the vocabulary is in t already. */
stretto_status json_model(struct tokenizer *t, const char *p, size_t n, struct error *err);
/* Room for merges, and what finds where characters may join. */
stretto_status json_merges_begin(struct tokenizer *t, size_t n, struct error *err);

/* The string member, false when it is absent or no string. */
bool json_text(const json_t *object, const char *key, struct source_str *out);
bool json_flag(const json_t *object, const char *key, bool otherwise);
#endif
