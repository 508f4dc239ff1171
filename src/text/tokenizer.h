/* Text to token ids and back. Built from a model source: GGUF metadata (tokenizer.ggml.*) or a Hugging
 * Face tokenizer.json. Kinds: byte-level BPE, SentencePiece BPE (llama "spm"), WordPiece (bert).
 * Immutable after open; encode may be called by several threads. Lifetime: model. */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H
#include "base/buffer.h"
#include "base/status.h"
#include "text/spelling.h"
#include <stdbool.h>

struct source;
struct tokenizer;
struct phrases;

/* Unknown pre-tokenizer or tokenizer model names are refused by name. */
stretto_status tokenizer_open(struct tokenizer **out, const struct source *src, struct error *err);
void tokenizer_close(struct tokenizer *t);

enum tokenize_flags {
    TOKENIZE_SPECIAL = 1,        /* special tokens spelled in the text become their ids (else plain text) */
    TOKENIZE_ADD = 2,            /* add BOS/EOS (CLS/SEP) as the model asks for                           */
};

struct tokens { int32_t *id; size_t n, cap; };           /* growable; tokens_done frees */
void tokens_done(struct tokens *t);
stretto_status tokens_push(struct tokens *t, int32_t id);

/* Appends to *out. The text may hold any bytes, NULs and malformed UTF-8 included; at most 1 GiB. Bytes that
 * the vocabulary can neither spell nor call unknown: E_UNSUP. */
stretto_status tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, unsigned flags,
                                struct tokens *out, struct error *err);

/* The same where some bytes are somebody else's words: content[i] 1 says that text[i] is one (NULL: none
 * is). Special tokens, those that end an answer and those that the model's chat template spells (but for
 * tags: <x> where there is </x>) are found only where the template's own bytes spell them whole; all
 * other tokens are those of the text as one. */
stretto_status tokenizer_encode_chat(const struct tokenizer *t, const char *text,
                                     const unsigned char *content, size_t n, unsigned flags,
                                     struct tokens *out, struct error *err);

/* The bytes of one token as generation prints them. special: control tokens are spelled out, else they
 * are empty. Ids out of range: E_ARG. Appends. `first`: the token opens the text (SPM drops the leading
 * space it once added). */
stretto_status tokenizer_piece(const struct tokenizer *t, int32_t id, bool first, bool special,
                               struct buffer *out);
/* A few decoders replace strings in the text that the pieces make together: whoever streams passes the
 * bytes of pieces through here, with a chain that begins zeroed, and ends it. */
bool tokenizer_rereads(const struct tokenizer *t);
stretto_status tokenizer_reread(const struct tokenizer *t, struct spelling_chain *c, const char *p, size_t n,
                                struct buffer *out);
stretto_status tokenizer_reread_end(const struct tokenizer *t, struct spelling_chain *c, struct buffer *out);
/* Whole sequences, the inverse of encode without BOS/EOS. */
stretto_status tokenizer_decode(const struct tokenizer *t, const int32_t *id, size_t n, bool special,
                                struct buffer *out);

size_t tokenizer_size(const struct tokenizer *t);             /* ids are 0 .. size-1 */
/* Bytes of a text that one token stands for at most, so that a text of n bytes has n / so many tokens at least; 0: no
 * such bound is known. */
size_t tokenizer_covers(const struct tokenizer *t);
/* What TOKENIZE_ADD puts in front of a text; a view. */
const int32_t *tokenizer_before(const struct tokenizer *t, size_t *n);
int32_t tokenizer_bos(const struct tokenizer *t);             /* -1 when there is none */
int32_t tokenizer_eos(const struct tokenizer *t);
bool tokenizer_is_eog(const struct tokenizer *t, int32_t id); /* any end of generation: eos, eot, eom */
bool tokenizer_is_special(const struct tokenizer *t, int32_t id);
int32_t tokenizer_find(const struct tokenizer *t, const char *piece, size_t n);  /* exact vocabulary entry or -1 */
/* The vocabulary spelling of an id ("<|im_start|>", "Ġthe"); a view, length in *n; NULL out of range. */
const char *tokenizer_spelling(const struct tokenizer *t, int32_t id, size_t *n);
/* The phrases among the tokens (text/phrases.h): no text is encoded with them. NULL: there are none. */
const struct phrases *tokenizer_phrases(const struct tokenizer *t);
/* A sentence about what the files leave open and was guessed, or NULL. */
const char *tokenizer_warning(const struct tokenizer *t);
/* "BPE smollm", "SPM", "WordPiece" for people. */
const char *tokenizer_kind(const struct tokenizer *t);
/* The model's chat template (a view) or false. With tools the one called "tool_use" goes first, as in
 * transformers. */
bool tokenizer_chat_template(const struct tokenizer *t, bool tools, const char **p, size_t *n);
/* Why there is none, as a whole sentence, into err; E_UNSUP. */
stretto_status tokenizer_no_chat(const struct tokenizer *t, struct error *err);

/* Streaming detokenizer: bytes go in token by token, only whole UTF-8 characters come out; malformed
 * bytes are passed through once they can no longer become a character. Plain struct, no allocation. */
struct utf8_stream { unsigned char held[4]; size_t n; };
/* Appends to *out what is complete now. */
stretto_status utf8_stream_push(struct utf8_stream *u, const char *p, size_t n, struct buffer *out);
/* At the end: whatever is held comes out as it is. */
stretto_status utf8_stream_end(struct utf8_stream *u, struct buffer *out);
#endif
