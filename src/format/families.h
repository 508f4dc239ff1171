/* The families of Hugging Face folders that are read, by the words of their config.json. */
#ifndef FORMAT_FAMILIES_H
#define FORMAT_FAMILIES_H
#include <stddef.h>

/* The i-th "model_type" and the architecture of GGUF that it is read as; NULL behind the last. */
const char *format_model_type(size_t i, const char **arch);
/* transformers' class for the tokenizers of such models where the files name none (models/auto/
 * tokenization_auto.py); "": it has none ("TokenizersBackend"), and tokenizer.json says everything, whatever
 * class the files name; NULL: only the files say which. */
const char *format_tokenizer_class(const char *model_type);
#endif
