/* A tokenizer is one pipeline, whatever file it came from: added tokens are found in the text, what
 * lies between them is normalized, cut into words, and each word is spelled by the model. */
#ifndef TEXT_TOKENIZER_INT_H
#define TEXT_TOKENIZER_INT_H
#include "text/bpe.h"
#include "text/phrases.h"
#include "text/pretok.h"
#include "text/spelling.h"
#include "text/tokenizer.h"
#include "text/unicode.h"
#include "text/vocab.h"
#include "text/wordpiece.h"
#include "format/source.h"

enum model_kind { MODEL_BPE, MODEL_SPM, MODEL_WORDPIECE };

enum normal_kind {
    NORMAL_PREPEND,          /* `from` in front of every stretch that is not empty  */
    NORMAL_REPLACE,          /* `from`, or what `pattern` matches, becomes `to`     */
    NORMAL_FORM,             /* NFC, NFD, NFKC, NFKD                                */
    NORMAL_LOWER,
    NORMAL_STRIP,            /* white space at the left, the right                  */
    NORMAL_STRIP_MARKS,      /* category Mn                                         */
    NORMAL_STRIP_ALL_MARKS,  /* category M                                          */
    NORMAL_BYTE_LETTERS,     /* every byte becomes its letter of the byte alphabet  */
    NORMAL_COLLAPSE,         /* runs of spaces become one, none at the ends         */
    NORMAL_BERT_CLEAN,       /* no control characters, white space becomes ' '      */
    NORMAL_BERT_CJK,         /* spaces around ideographs                            */
};
struct normal_step {
    enum normal_kind kind;
    enum unicode_form form;
    bool left, right;
    char *from, *to;
    size_t n_from, n_to;
    struct pattern *pattern;
};
enum { NORMAL_MAX_STEPS = 32 };
struct normal { struct normal_step step[NORMAL_MAX_STEPS]; size_t n; };

/* A token found in the text before anything else happens to it. */
struct added {
    int32_t id;
    uint32_t at, len;                 /* what to look for, in added_set.text                       */
    bool special, lstrip, rstrip, single_word;
    bool steers;                      /* not special, but nobody's words may spell it              */
};
struct added_set {
    struct added *item;               /* sorted by string                                          */
    uint32_t *by_id;                  /* [n] items by ascending id, once sorted                    */
    size_t n, cap;
    char *text;
    size_t text_len, text_cap;
    bool starts[256];                 /* first bytes                                               */
};

/* An added token as files describe it. */
struct added_json {
    int32_t id;
    bool special, lstrip, rstrip, single_word, normalized;
    bool worded;                      /* while reading: was named by its string alone              */
};

/* The same in a GGUF file (docs/gguf-keys.md). */
enum {
    ADDED_SPECIAL = 1, ADDED_LSTRIP = 2, ADDED_RSTRIP = 4, ADDED_SINGLE_WORD = 8, ADDED_NORMALIZED = 16,
    ADDED_OUTSIDE = 32,
};
enum { DESCRIBED_VERSION = 1 };

/* How the bytes of a token are made from its spelling. */
struct spelling_rules {
    bool byte_level;                  /* the byte alphabet                                         */
    bool byte_fallback;               /* <0x0A>                                                    */
    struct spelling_steps replace;    /* in one token after the other                              */
    bool replace_added;               /* ... in added tokens too                                   */
    bool drop_each_space;             /* one in front of every token                               */
    bool drop_first_space;            /* the text's first space was put there by encode            */
    bool fused;                       /* while reading: what comes now sees the whole text         */
    struct spelling_steps late;       /* in the whole text, after all that                         */
    bool drop_late_space;             /* the text's first space, after that                        */
    bool wordpiece, cleanup;          /* words are joined by spaces                                */
    char *suffix;                     /* end of word: becomes a space                              */
    size_t n_suffix;
};

enum described { DESCRIBED_MODEL, DESCRIBED_NORMALIZER, DESCRIBED_PRE, DESCRIBED_DECODER, N_DESCRIBED };

struct tokenizer {
    enum model_kind model;
    char kind[64], warning[400];
    struct vocab vocab;
    unsigned char *flag;              /* [vocab.n] TOKEN_IS_*                                      */

    struct added_set raw, normalized; /* looked for before and after normalization                 */
    struct normal normal;
    struct pretok pretok;
    struct bpe bpe;
    struct pair_filter pairs;         /* SPM, and BPE over characters                              */
    struct wordpiece wordpiece;
    struct spelling_rules spell;

    bool byte_level;                  /* words are bytes, the vocabulary spells them in letters    */
    bool letters;                     /* words are letters already                                 */
    bool byte_fallback, ignore_merges, fuse_unk;
    char *word_suffix, *inner_prefix; /* BPE of old: "</w>", "##"                                  */
    size_t n_word_suffix, n_inner_prefix;
    int32_t unk, bos, eos;

    /* From a folder: what `convert` writes so that the pipeline can be read again. JSON. */
    char *described[N_DESCRIBED];
    struct added_json *added;
    size_t n_added;
    bool ends_known;                  /* the flags say which tokens end an answer, no names do     */

    int32_t *before, *after;          /* what TOKENIZE_ADD puts around the text                    */
    size_t n_before, n_after;
    struct phrases phrases;           /* n 0: none                                                 */
    struct chat_text *chat;           /* the file's chat templates, as it names them               */
    size_t n_chat;
};
struct chat_text { char *name, *text; size_t n; };

enum { TOKEN_IS_SPECIAL = 1, TOKEN_IS_EOG = 2, TOKEN_IS_ADDED = 4, TOKEN_IS_NORMALIZED = 8 };

/* Each fills a zeroed tokenizer; the caller closes it on failure. */
stretto_status vocab_from_gguf(struct tokenizer *t, const struct source *src, struct error *err);
stretto_status vocab_from_json(struct tokenizer *t, const struct source *src, struct error *err);
/* A GGUF file made from a folder, which describes the pipeline itself (docs/gguf-keys.md). */
bool vocab_is_described(const struct source *src);
/* The chat templates of any GGUF file. */
stretto_status vocab_gguf_chats(struct tokenizer *t, const struct source *src, struct error *err);
stretto_status vocab_from_described(struct tokenizer *t, const struct source *src, struct error *err);
/* The same from bytes alone; either may be empty. For vocab_from_json and the fuzz target. */
stretto_status vocab_from_json_text(struct tokenizer *t, const char *p, size_t n, struct error *err);
/* What both do at the end: flags, end-of-generation tokens, the added tokens sorted. */
stretto_status tokenizer_finish(struct tokenizer *t, struct error *err);
struct tokenizer *tokenizer_new(void);
/* A chat template; "default" is the one for conversations without tools. */
stretto_status tokenizer_add_chat(struct tokenizer *t, const char *name, size_t n_name, const char *p,
                                  size_t n, struct error *err);
/* Its name alone makes it an end of answers. */
bool tokenizer_end_by_name(const struct tokenizer *t, int32_t id);

stretto_status added_add(struct added_set *s, struct added a, const char *p, size_t n,
                         struct error *err);
stretto_status added_sort(struct added_set *s, struct error *err);
const struct added *added_of(const struct added_set *s, int32_t id);     /* NULL: not of this set */
/* Sets `steers` of the tokens that the text spells somewhere. Sorted sets only. */
void added_spelled(struct added_set *s, const char *text, size_t n);
void added_done(struct added_set *s);
/* A walk over the added tokens of one text; begins zeroed. */
struct added_search {
    size_t done;                      /* where the stretch of the token before ended               */
    size_t at, end;                   /* of this one, with the white space it strips               */
    size_t from, spaces_end;          /* where to look on; white space known to reach so far       */
};
/* The next added token: at .. end is the stretch it takes (to its left only back to `done`). It may
 * begin inside the white space that the one before it stripped; what lies between is then empty. NULL
 * when there is none; `done` is then where the rest begins. content: as in tokenizer_encode_chat. */
const struct added *added_find(const struct added_set *s, const char *text, size_t n, bool specials,
                               const unsigned char *content, struct added_search *k);

void normal_done(struct normal *s);
stretto_status normal_add(struct normal *s, struct normal_step **step, struct error *err);
/* Normalizes *text in place (through `spare`). */
stretto_status normal_run(const struct normal *s, struct buffer *text, struct buffer *spare,
                          struct pretok_work *work, struct error *err);

/* A copy of n bytes, NUL-terminated. */
stretto_status copy_text(char **out, const char *p, size_t n, struct error *err);
#endif
