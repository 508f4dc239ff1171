/* Types as users know them. "q4_k_m" is no type of element but a mixture: most matrices have one type, some layers'
 * more sensitive ones another, the head a larger one. The rules are those that llama.cpp publishes for its
 * llama-quantize (ggml-org/llama.cpp, src/llama-quant.cpp), so that a file is as large as its twin there and can be
 * compared with it at equal bytes; rows that do not fit a type's blocks get the type that it puts there instead. */
#ifndef COMPRESS_MIXTURE_H
#define COMPRESS_MIXTURE_H
#include "base/status.h"
#include "tensor/dtype.h"
#include <stdbool.h>

struct mixture { const char *name; enum dtype type; uint32_t file_type; };

/* "q4_k_m", "q4_k" (the same), "q5_0" ...; case does not matter. NULL: there is none, or its types are not
 * supported. */
const struct mixture *mixture_find(const char *name);
/* "q2_k|q3_k_s|...", for people. */
const char *mixture_words(void);

/* What a weight is in the model. */
enum weight_role {
    WEIGHT_NONE,                /* none that is given another type: vectors, norms                       */
    WEIGHT_EMBEDDING,           /* the table of tokens, looked up only                                   */
    WEIGHT_HEAD,                /* the output, or a table that is both                                   */
    WEIGHT_POSITION,            /* learned positions, types of tokens                                    */
    WEIGHT_Q, WEIGHT_K, WEIGHT_V, WEIGHT_QKV, WEIGHT_O, WEIGHT_GATE, WEIGHT_UP, WEIGHT_DOWN, WEIGHT_OTHER,
    WEIGHT_ROLES
};
extern const char *const weight_role_names[WEIGHT_ROLES];
/* By the name that GGUF gives it. tied: the table is the head too. */
enum weight_role weight_role(const char *name, uint32_t n_dims, bool tied, uint32_t *layer);

struct mixture_about { uint32_t layers, heads, kv_heads; };
/* The type of a weight [..][n_in] in a mixture. */
enum dtype mixture_type(const struct mixture *m, const struct mixture_about *a, enum weight_role role,
                        uint32_t layer, uint64_t n_in);
/* t, or what stands for it where rows of n_in do not fit its blocks. */
enum dtype mixture_fit(enum dtype t, uint64_t n_in);
#endif
