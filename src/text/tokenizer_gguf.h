/* The tokenizer of a Hugging Face folder in the words of GGUF (tokenizer.ggml.*), for `convert`. */
#ifndef TEXT_TOKENIZER_GGUF_H
#define TEXT_TOKENIZER_GGUF_H
#include "base/status.h"

struct source;
struct gguf_writer;

/* What GGUF cannot say (a pre-tokenizer without a name there, another normalizer) is refused. */
stretto_status tokenizer_to_gguf(const struct source *src, struct gguf_writer *w,
                                 struct error *err);
#endif
