/* The token strings of a model and the table that finds them. Spellings are kept as the file writes
 * them ("Ġthe", "▁the", "##ing"); what they mean in bytes is the tokenizer's business. */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H
#include "base/status.h"
#include <stdbool.h>

/* Token kinds with the numbers GGUF gives them (tokenizer.ggml.token_type). */
enum token_type {
    TOKEN_NORMAL = 1, TOKEN_UNKNOWN = 2, TOKEN_CONTROL = 3, TOKEN_USER = 4, TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6,
};

enum { VOCAB_MAX = 1 << 22, VOCAB_MAX_PIECE = 1 << 16 };

struct piece { uint32_t at, len; };
struct vocab_slot { uint32_t id_plus_1, hash; };      /* 0 = free */

struct vocab {
    size_t n;                  /* ids are 0 .. n-1                                              */
    size_t n_all;              /* with the ids >= n that only steps of a merge have             */
    size_t cap;
    struct piece *piece;       /* [n_all]; len 0 = this id has no string                        */
    unsigned char *type;       /* [n] enum token_type                                           */
    float *score;              /* [n]                                                           */
    bool *outside;             /* [n] found in texts, but no piece: the model does not know it  */
    char *text;                /* all spellings, one after the other                            */
    size_t text_len, text_cap;
    struct vocab_slot *slot;   /* open addressing; a power of two                               */
    size_t n_slots, n_used;
    size_t max_len;            /* of a real piece, in bytes                                     */
};

void vocab_done(struct vocab *v);
/* Room for ids below n. */
stretto_status vocab_resize(struct vocab *v, size_t n, struct error *err);
/* Gives id its string. The last id with a spelling owns it. Empty strings are kept but never found. */
stretto_status vocab_set(struct vocab *v, size_t id, const char *p, size_t n, struct error *err);
/* The token of that name, whoever knows it: real ids only, -1 when there is none. */
int32_t vocab_find(const struct vocab *v, const char *p, size_t n);
/* Finds any id; makes one beyond the real ones when there is none. No vocab_resize after that. */
stretto_status vocab_intern(struct vocab *v, const char *p, size_t n, int32_t *id, struct error *err);
/* What words are spelled with: a token of the model's own vocabulary, or -1. The other also finds the steps
 * beyond the real ids. */
int32_t vocab_piece(const struct vocab *v, const char *p, size_t n);
int32_t vocab_piece_any(const struct vocab *v, const char *p, size_t n);
/* Fetches what a search for the string will look at first. */
void vocab_prefetch(const struct vocab *v, const char *p, size_t n);

static inline const char *vocab_text(const struct vocab *v, int32_t id)
{
    return v->text + v->piece[id].at;
}
static inline size_t vocab_len(const struct vocab *v, int32_t id) { return v->piece[id].len; }
/* The piece "<0x0A>" for 10, or -1. */
int32_t vocab_byte(const struct vocab *v, unsigned char byte);
/* The byte a spelling like <0x0A> stands for, or -1. */
int byte_spelled(const char *p, size_t n);
#endif
