/* The families of Hugging Face folders that are read, by the words of their config.json. */
#ifndef FORMAT_FAMILIES_H
#define FORMAT_FAMILIES_H
#include <stdbool.h>
#include <stddef.h>

/* The i-th "model_type" and the architecture of GGUF that it is read as; NULL behind the last. */
const char *format_model_type(size_t i, const char **arch);
/* transformers has no class for the tokenizers of such models: tokenizer.json says everything, whatever
 * class the files beside it name (models/auto/tokenization_auto.py: "TokenizersBackend"). */
bool format_tokenizer_alone(const char *model_type);
#endif
