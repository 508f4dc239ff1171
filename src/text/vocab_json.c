#include "text/tokenizer_int.h"
stretto_status vocab_from_json(struct tokenizer *t, const struct source *src, struct error *err)
{
    (void)t;
    return fail(err, STRETTO_E_UNSUP, "%s: tokenizer.json is not read yet", source_path(src));
}
