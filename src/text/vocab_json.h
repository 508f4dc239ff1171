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

/* The string member, false when it is absent or no string. */
bool json_text(const json_t *object, const char *key, struct source_str *out);
bool json_flag(const json_t *object, const char *key, bool otherwise);
#endif
