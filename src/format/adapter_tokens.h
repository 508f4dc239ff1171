/* Tokens that an adapter's GGUF file brings along: phrases (text/phrases.h) with the rows learned for them,
 * stretto.phrases.* with .texts beside them and tensors NAME.rows in float32. Who opens the adapter gives the base
 * these tokens first (extend.h). Programs that do not know them refuse such tensors. */
#ifndef FORMAT_ADAPTER_TOKENS_H
#define FORMAT_ADAPTER_TOKENS_H
#include "format/adapter.h"
#include "format/extend.h"

struct gguf_writer;

enum { ADAPTER_TABLES = 2 };
struct adapter_tokens {
    struct more_tokens more;     /* n 0: none; its arrays are owned, `rows` finds those below                   */
    int32_t *length;             /* [n] pieces of each; owned                                                    */
    struct { char tensor[ADAPTER_NAME]; uint32_t width; float *values; } table[ADAPTER_TABLES]; /* [n][width]; owned */
    size_t n_tables;
};

/* Of a file; n 0 where it has none, or is a folder. Every table of the base that is named must have its rows. */
stretto_status adapter_tokens_read(struct adapter_tokens *out, const char *path, struct error *err);
/* A copy of what a training found, without tables. */
stretto_status adapter_tokens_make(struct adapter_tokens *out, const struct more_tokens *of, struct error *err);
/* Room for one table's rows; NULL after E_NOMEM or where there are ADAPTER_TABLES. */
float *adapter_tokens_table(struct adapter_tokens *a, const char *tensor, uint32_t width, struct error *err);
void adapter_tokens_done(struct adapter_tokens *a);

/* For writers: keys, tensors, bytes. */
void adapter_tokens_keys(const struct adapter_tokens *a, struct gguf_writer *w);
stretto_status adapter_tokens_announce(const struct adapter_tokens *a, struct gguf_writer *w, struct error *err);
stretto_status adapter_tokens_write(const struct adapter_tokens *a, struct gguf_writer *w, struct error *err);
#endif
