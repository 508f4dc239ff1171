/* Names of models of Hugging Face: hf:USER/REPO[/FILE][:QUANT][@REVISION], also spelled
 * hf.co/USER/REPO. What they mean without asking anybody: where such a model lies in the folder of
 * models, and which of several GGUF files is meant. The words are untrusted. */
#ifndef MODELS_HUB_NAME_H
#define MODELS_HUB_NAME_H
#include "base/buffer.h"
#include <stdbool.h>

enum { HUB_MAX_REPO = 200, HUB_MAX_FILE = 200, HUB_MAX_WORD = 100 };

struct hub_name {
    char repo[HUB_MAX_REPO + 1];           /* "user/repo"                                            */
    char file[HUB_MAX_FILE + 1];           /* a path inside it; "": none is named                    */
    char quant[HUB_MAX_WORD + 1];          /* "Q4_K_M"; "": none is named                            */
    char revision[HUB_MAX_WORD + 1];       /* "": the newest                                         */
};

bool hub_name_is(const char *spec);        /* begins as such a name does                             */
stretto_status hub_name_parse(struct hub_name *n, const char *spec, struct error *err);
/* As hub_name_parse reads it. */
stretto_status hub_name_spell(const struct hub_name *n, struct buffer *out);
/* What lies of it in the folder of models is below this one: DIR/USER/REPO[@REVISION]. */
stretto_status hub_name_folder(const struct hub_name *n, const char *dir, struct buffer *out);

/* ---- which file ------------------------------------------------------------------------------ */

bool name_ends(const char *name, const char *end);      /* upper or lower case is the same         */
/* Where the number of a split file stands ("m-00002-of-00003.gguf": the first '0'); NULL: not split. */
const char *gguf_split_number(const char *name);
/* A GGUF file that holds a model, or the first of the files that make one. */
bool gguf_is_model(const char *name);
/* The same file, or another part of the same split file. */
bool gguf_same_model(const char *a, const char *b);
/* Whether the name says that its tensors are of that type: "m-Q4_K_M.gguf" is of Q4_K_M, not of Q4_K. */
bool gguf_has_quant(const char *name, const char *quant);

/* Of many names, those of models, and the one that is meant: the only one, or the only one of `quant`;
 * of several without a quant the one of Q4_K_M, which is what llama.cpp and ollama take. */
struct hub_choice { size_t models, fitting, at; bool by_default; };   /* `at` when fitting == 1 */
struct hub_choice hub_choose(const char *(*name)(const void *list, size_t i), const void *list, size_t n,
                             const char *quant);
#endif
