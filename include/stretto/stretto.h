/* libstretto: load a language model and write tokens with it, fast, on the hardware at hand.
 *
 * Three objects. A *model* is immutable once open and may be shared by threads. An *engine* holds the
 * cache pages, the compiled programs and the scheduler for one model. A *session* is one timeline of
 * tokens in an engine; one thread at a time uses an engine and its sessions: a call that comes while
 * another thread is in one gives E_ARG and changes nothing. All models of a process share one set of threads
 * (one for each `cpu` that they are opened with), and those on a GPU share the GPU. Engines that are used from
 * several threads take turns, one step each; an engine opened with threads = 1 runs on its caller's thread
 * instead.
 *
 * Every fallible function returns a stretto_status (0 = success); results come through out pointers,
 * which are set to NULL or 0 on failure; a sentence for people comes through an `err` buffer, or from
 * stretto_session_error() once there is a session.
 * The library never exits, aborts or prints. Notes about a call that succeeded go to the log
 * callbacks of stretto_model_options and stretto_chat_options. */
#ifndef STRETTO_STRETTO_H
#define STRETTO_STRETTO_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__)
#define STRETTO_API __attribute__((visibility("default")))
#else
#define STRETTO_API
#endif

#define STRETTO_VERSION_MAJOR 0
#define STRETTO_VERSION_MINOR 1
#define STRETTO_VERSION_PATCH 0
#define STRETTO_VERSION "0.1.0"

#define STRETTO_STATUS_MAP(X)                              \
    X(OK,          0, "success")                           \
    X(E_ARG,      -1, "invalid argument")                  \
    X(E_NOMEM,    -2, "out of memory")                     \
    X(E_IO,       -3, "input/output error")                \
    X(E_FORMAT,   -4, "malformed or truncated file")       \
    X(E_UNSUP,    -5, "not supported by this build")       \
    X(E_FULL,     -6, "context is full")                   \
    X(E_NAN,      -7, "the model produced a NaN")          \
    X(E_CANCEL,   -8, "cancelled by the caller")           \
    X(E_DEVICE,   -9, "the device is missing, closed or lost")

typedef enum stretto_status {
#define X(name, value, text) STRETTO_##name = value,
    STRETTO_STATUS_MAP(X)
#undef X
} stretto_status;

/* A fixed English phrase for a status; never NULL. */
STRETTO_API const char *stretto_status_text(stretto_status s);
/* "0.1.0" */
STRETTO_API const char *stretto_version(void);

typedef struct stretto_model stretto_model;
typedef struct stretto_engine stretto_engine;
typedef struct stretto_session stretto_session;

/* Options grow only at the end, and `size` tells an older caller from a newer one: use the INIT macros. A
 * larger, unknown size whose tail is not zero is refused with E_UNSUP. Zero always means "the default". */

/* ---- models ---------------------------------------------------------------------------------------- */

typedef struct stretto_model_options {
    size_t size;
    uint32_t threads;                /* to pack the weights; 0 = what the machine and its container allow  */
    uint32_t reference;              /* 1: the float32 path (weights, activations and cache in float32)    */
    uint32_t vocabulary_only;        /* 1: tokenizer and metadata, no weights                              */
    const char *cpu;                 /* ceiling of the kernels ("avx2"); NULL: $STRETTO_CPU, else none      */
    /* done and total in bytes; called from the thread that opens */
    void (*progress)(void *user, uint64_t done, uint64_t total);
    /* Notes about a model that opens, each one line without newline, from the thread that opens it:
     * a tokenizer that had to be guessed, a part of the model that is left out, a chat template that
     * cannot be used. */
    void (*log)(void *user, const char *line);
    void *user;
    const volatile int *cancel;      /* non-zero stops the loading with E_CANCEL; NULL: never              */
    const char *device;              /* "cpu", "gpu:1", "cuda:0", "opencl:0", "gpu:0,gpu:1", "auto" ...; NULL:
                                        $STRETTO_DEVICE, else "cpu", because no GPU has been measured yet.
                                        stretto info --devices lists them; E_DEVICE: there is none such   */
    int32_t device_layers;           /* on that device, when it is a GPU; the cpu has the others. 0: as many
                                        as fit, on several GPUs in their order; -1: none; more than there
                                        are: the whole model                                              */
    uint32_t device_context;         /* tokens of cache that shall have room beside the layers on a GPU; 0: what
                                        the model was trained for, but no more than 4,096                 */
    /* With the device "auto": told, in one line without newline, when the cpu goes on where a GPU was lost or
     * has no memory left, from the thread in whose call that was. Sessions keep their texts, which are
     * read again. With any other device the call ends with E_DEVICE instead, and so does every later one on this
     * model: texts can still be read from the sessions; close them, the engine and the model, and open it again. */
    void (*moved)(void *user, const char *line);
    void *moved_user;
    const char *arithmetic;          /* "int": in integers alone between the embedding and the logits, on the cpu
                                        (the device "integer"), not with `reference`; "float" or NULL: as usual */
    const char *scales;              /* with "int": a file that `stretto eval scales` made of this model; what
                                        linear layers read has these scales then. NULL: one for each row   */
    const char *const *adapters;     /* NULL-terminated: adapters that act on all of it, each "FILE" or "FILE=SCALE":
                                        llama.cpp's GGUF files and PEFT's folders, of low rank (LoRA)      */
    const char *const *chosen;       /* the same, of adapters that act where a session chooses them alone
                                        (stretto_session_adapt); on the cpu                                */
} stretto_model_options;
#define STRETTO_MODEL_OPTIONS_INIT { sizeof(stretto_model_options), 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, 0, \
    0, NULL, NULL, NULL, NULL, NULL, NULL }

/* Opens a GGUF file (of a split model, its first part) or a Hugging Face folder. opt may be NULL. On
 * failure *out is NULL and err (when not NULL) holds a sentence. The model must outlive its engines. */
STRETTO_API stretto_status stretto_model_open(stretto_model **out, const char *path,
        const stretto_model_options *opt, char *err, size_t err_size);
STRETTO_API void stretto_model_close(stretto_model *m);       /* NULL is fine */

typedef struct stretto_model_info {
    size_t size;                     /* set by the caller: sizeof(stretto_model_info)                      */
    char family[32], format[64], tokenizer[64];
    uint32_t layers, width, heads, kv_heads, head_dim, feed, vocabulary, context;   /* heads, kv_heads and
                                        feed: of the layer that has the most                           */
    uint32_t encoder;                /* 1: makes embeddings, writes no text                                */
    uint32_t chat;                   /* 1: has a chat template                                             */
    uint64_t parameters, file_bytes, weight_bytes;   /* of the file's tensors; of the weights in memory     */
    double load_seconds;
    char pooling[16];                /* "mean", "cls", "last", "none"; "": what the file asks for is refused */
    char device[64];                 /* what it runs on: "cpu", "cuda:0", "cuda:0+cpu"; "": nowhere          */
} stretto_model_info;
STRETTO_API stretto_status stretto_model_about(const stretto_model *m, stretto_model_info *info);

typedef struct stretto_adapter_info {
    size_t size;                     /* set by the caller: sizeof(stretto_adapter_info)                    */
    const char *path;                /* as it was named, without its scale; the model's                    */
    float scale;                     /* as it was named                                                    */
    uint32_t chosen;                 /* 1: it acts where a session chooses it; 0: on all                   */
    const char *rows;                /* the rows on which it acts: "all", "given" (prompts), "answers", "guesses" */
    uint32_t layers;                 /* weights that it changes                                            */
} stretto_adapter_info;
/* The model's adapters, first those of `adapters`, then of `chosen`, by their number: E_ARG where there is none. */
STRETTO_API stretto_status stretto_model_adapter(const stretto_model *m, size_t number, stretto_adapter_info *info);

/* ---- text ------------------------------------------------------------------------------------------ */

enum {
    STRETTO_TOKENIZE_SPECIAL = 1,    /* special tokens in the text become their ids                       */
    STRETTO_TOKENIZE_ADD = 2         /* add what the model wants around a text (BOS, CLS ...)             */
};

/* Writes at most `capacity` ids; *count is how many there are, which may be more (then E_FULL). Any bytes
 * are a text, even NULs and malformed UTF-8. E_UNSUP when the model has no vocabulary, or one without a
 * token for some byte of the text. ids may be NULL when capacity is 0. */
STRETTO_API stretto_status stretto_tokenize(const stretto_model *m, const char *text, size_t length,
        unsigned flags, int32_t *ids, size_t capacity, size_t *count);
/* The text of ids; *length without the final NUL, which is written too. E_FULL as above. */
STRETTO_API stretto_status stretto_detokenize(const stretto_model *m, const int32_t *ids, size_t count,
        char *text, size_t capacity, size_t *length);
/* 1 when the token ends an answer. */
STRETTO_API int stretto_token_ends(const stretto_model *m, int32_t id);

typedef struct stretto_message { const char *role, *content; } stretto_message;
/* The conversation as the model's chat template writes it. generate: 1 adds the opening of the assistant's
 * answer. Contents are passed in the form that the template wants, as a text or as a list of parts. Where the
 * template has no place for a system message, it is put in front of the user's next message, with an empty
 * line between. E_FULL as above; E_UNSUP when the model has no template, or one that prints nothing of what
 * one of the roles says. err, when not NULL, gets a sentence. The result is for people to read, or to
 * tokenize with SPECIAL (templates spell BOS themselves) when all messages are your own: a message that
 * spells <|im_end|> then ends its turn. For other people's words use stretto_chat_tokenize. */
STRETTO_API stretto_status stretto_chat_render(const stretto_model *m, const stretto_message *messages,
        size_t count, int generate, char *text, size_t capacity, size_t *length, char *err, size_t err_size);

/* ---- engines --------------------------------------------------------------------------------------- */

typedef struct stretto_engine_options {
    size_t size;
    uint32_t threads;                /* 0 = what the machine and its container allow                       */
    uint32_t context;                /* tokens of a session; 0 = what the model was trained for, or fits    */
    uint32_t sessions;               /* at once; 0 = 1                                                     */
    uint32_t max_rows;               /* rows of a step; 0 = 512                                            */
    const char *cache;               /* "f16" (NULL), "bf16", "f32", "q8_0", "q8_0+q4_0" (keys, values)    */
    uint32_t strict;                 /* 1: one arithmetic for prompt and written rows                      */
    uint32_t pool_tokens;            /* tokens of the cache that sessions share; 0 = context * sessions, or what fits */
} stretto_engine_options;
#define STRETTO_ENGINE_OPTIONS_INIT { sizeof(stretto_engine_options), 0, 0, 0, 0, NULL, 0, 0 }

/* Layers that keep the same of a text for as long share pages; those that see a window only give back what
 * stands far behind it. */
typedef struct stretto_cache_group {
    const char *kind;                /* "full", "window"                                                   */
    uint32_t layers, window;         /* window: tokens that a row sees; 0 = all                            */
    uint64_t token_bytes, bytes;     /* of one token in these layers; of all pages                         */
} stretto_cache_group;
enum { STRETTO_CACHE_GROUPS = 8 };

typedef struct stretto_engine_info {
    size_t size;
    uint32_t context, trained_context, sessions, max_rows, threads;
    uint32_t context_cut;            /* 1: less than the model was trained for, because more does not fit  */
    uint64_t weight_bytes, buffer_bytes, cache_bytes;   /* the cache is touched as it is used               */
    uint32_t pool_tokens;            /* tokens that all sessions together can hold                         */
    uint32_t n_groups;               /* layer groups of the cache; their bytes add up to cache_bytes       */
    stretto_cache_group groups[STRETTO_CACHE_GROUPS];
} stretto_engine_info;

/* The memory that an engine would take, without opening it. err as in stretto_model_open. */
STRETTO_API stretto_status stretto_engine_estimate(const stretto_model *m, const stretto_engine_options *opt,
        stretto_engine_info *info, char *err, size_t err_size);
/* Takes all the memory that the engine and its sessions will need: generating allocates nothing. */
STRETTO_API stretto_status stretto_engine_open(stretto_engine **out, const stretto_model *m,
        const stretto_engine_options *opt, char *err, size_t err_size);
STRETTO_API void stretto_engine_close(stretto_engine *e);     /* does not close sessions: close them first */
STRETTO_API stretto_status stretto_engine_about(const stretto_engine *e, stretto_engine_info *info);

/* What the texts of an engine's sessions taught it about guessing (stretto_session_decoding): finished
 * answers, likely followers of tokens (arXiv 2408.08696), which guesses proved right. A new process that
 * reads it starts as fast as the old one ended; the tokens do not change. The file holds pieces of
 * the texts, so it is created for its owner alone (mode 0600) and should be kept where they are kept.
 * _load adds to what the engine knows. A file for another vocabulary gives E_ARG, a damaged one E_FORMAT, and
 * both change nothing. _save replaces the file in one step (a few MB). err as in stretto_model_open. */
STRETTO_API stretto_status stretto_engine_learned_load(stretto_engine *e, const char *path, char *err,
        size_t err_size);
STRETTO_API stretto_status stretto_engine_learned_save(stretto_engine *e, const char *path, char *err,
        size_t err_size);

/* ---- sessions -------------------------------------------------------------------------------------- */

typedef struct stretto_sampling {
    size_t size;
    float temperature;               /* 0: the best token                                                  */
    uint32_t top_k;                  /* 0: all                                                             */
    float top_p, min_p;              /* 1 and 0 keep all                                                   */
    float repeat_penalty;            /* 1 is none                                                          */
    float presence_penalty, frequency_penalty;
    int32_t repeat_last_n;           /* tokens the penalties see; -1: all                                  */
    uint64_t seed;                   /* the same seed gives the same text                                  */
    const int32_t *bias_ids;         /* n_bias ids and what is added to their logits; copied               */
    const float *bias_values;
    size_t n_bias;
} stretto_sampling;
/* Greedy. */
#define STRETTO_SAMPLING_INIT { sizeof(stretto_sampling), 0, 0, 1, 0, 1, 0, 0, 64, 0, NULL, NULL, 0 }

/* A session in an engine; engine NULL with a model: a private engine of one, made from opt (may be NULL). */
STRETTO_API stretto_status stretto_session_open(stretto_session **out, stretto_engine *e, char *err,
        size_t err_size);
STRETTO_API stretto_status stretto_session_open_model(stretto_session **out, const stretto_model *m,
        const stretto_engine_options *opt, char *err, size_t err_size);
/* Waits for a call of another thread on the engine to end. NULL is fine. */
STRETTO_API void stretto_session_close(stretto_session *s);
STRETTO_API stretto_status stretto_session_sampling(stretto_session *s, const stretto_sampling *how);
/* Which of the model's adapters act on the session's texts, each times its weight: [count], as many as the model has,
 * by their number; those that act on all are passed over. NULL: those that are not chosen, as they were opened.
 * Sessions with different ones share steps, and each writes what it writes alone. What the session has read is read
 * again. */
STRETTO_API stretto_status stretto_session_adapt(stretto_session *s, const float *weights, size_t count);

/* How a session writes several tokens per step. The tokens are the same with every decoding strategy, greedy
 * and sampled; only the time they take changes. */
typedef struct stretto_decoding {
    size_t size;
    const char *words;               /* "auto" (NULL), "plain", or "jacobi", "lookup" ..., joined by +      */
    uint32_t max_guesses;            /* most guesses in a step; 0: 15, or what a window needs              */
    uint32_t window, ngram, guesses; /* jacobi's window; lookahead's window, n-grams, guesses; 0: defaults */
    const stretto_model *draft;      /* a smaller model that guesses ("draft"), outlives the session; or NULL */
    const char *heads;               /* a safetensors file of heads that guess ("heads"), or NULL             */
} stretto_decoding;
#define STRETTO_DECODING_INIT { sizeof(stretto_decoding), NULL, 0, 0, 0, 0, NULL, NULL }

/* A session begins with "plain"; how = NULL means "auto". "auto" sends guesses only where it expects to save
 * time, judging by what guesses were worth and what rows have cost so far; it also uses draft or heads where
 * they are given, and an adapter of guesses that the model was opened with ("gated"). E_ARG names the strategies, or
 * says why draft or heads do not fit the model, or that it has no such adapter. */
STRETTO_API stretto_status stretto_session_decoding(stretto_session *s, const stretto_decoding *how);

typedef struct stretto_decode_strategy {
    const char *name;
    uint64_t proposed, sent, right;  /* guesses; right: proposed and proved right, sent or not             */
} stretto_decode_strategy;
typedef struct stretto_decoded {
    size_t size;                     /* set by the caller: sizeof(stretto_decoded)                         */
    uint64_t steps, tokens;          /* since the last sync, without the prompt's own first answer         */
    uint64_t guesses, accepted;      /* sent; of them right                                                */
    double guess_seconds;            /* spent guessing                                                     */
    uint32_t n_strategies;
    stretto_decode_strategy strategies[8];
    double step_seconds;             /* of the latest steps of one row; 0: there was none                  */
    float cost[17];                  /* [n] time of a step of n rows, in steps of one row; 0: there was none */
} stretto_decoded;
/* What decoding did. */
STRETTO_API stretto_status stretto_session_decoded(const stretto_session *s, stretto_decoded *out);

/* sync calls `read` from its own thread after every part of a prompt, with how many of the tokens that must
 * be computed are done. A non-zero result ends sync with E_CANCEL, unless that was the last part; what was
 * read stays in the timeline, and the next sync resumes there. NULL: nothing is called. */
STRETTO_API stretto_status stretto_session_watch(stretto_session *s,
        int (*read)(void *user, size_t done, size_t total), void *user);
/* A flag that ends sync, next, generate and embedding within a fraction of a step once it is not zero,
 * with E_CANCEL (generate: STRETTO_FINISH_CANCEL). The timeline is then what it was before that step, and
 * resuming gives the same tokens as if nothing had been cancelled. NULL: no flag. */
STRETTO_API stretto_status stretto_session_cancel(stretto_session *s, const volatile int *flag);
/* Makes the session's timeline equal to ids[0..count): what the cache already holds is kept, and the rest is
 * computed. *reused (may be NULL) is the number of tokens that were kept. E_FULL names both numbers and changes
 * nothing. */
STRETTO_API stretto_status stretto_session_sync(stretto_session *s, const int32_t *ids, size_t count,
        size_t *reused);
/* Picks the token that follows the timeline and appends it. E_FULL when the context is full. */
STRETTO_API stretto_status stretto_session_next(stretto_session *s, int32_t *id);
STRETTO_API size_t stretto_session_length(const stretto_session *s);
STRETTO_API const int32_t *stretto_session_tokens(const stretto_session *s);

typedef struct stretto_generate_options {
    size_t size;
    int64_t max_tokens;              /* -1: until the model ends or the context is full                    */
    const char *const *stops;        /* strings that end the text (not part of it); NULL-terminated list    */
    /* Whole UTF-8 characters as they come; a non-zero return stops. May be NULL. */
    int (*text)(void *user, const char *piece, size_t length);
    void *user;
    const volatile int *cancel;      /* as stretto_session_cancel's, for this call                          */
    uint32_t ignore_end;             /* 1: keep writing after the model's end token                        */
} stretto_generate_options;
#define STRETTO_GENERATE_OPTIONS_INIT { sizeof(stretto_generate_options), -1, NULL, NULL, NULL, NULL, 0 }

typedef enum stretto_finish {
    STRETTO_FINISH_END, STRETTO_FINISH_LENGTH, STRETTO_FINISH_STOP, STRETTO_FINISH_CONTEXT, STRETTO_FINISH_CANCEL
} stretto_finish;

typedef struct stretto_generated {
    size_t size;
    size_t tokens;                   /* written by this call, an end token included                        */
    stretto_finish finish;
    double seconds;
} stretto_generated;

/* Writes tokens after the timeline until something ends it. result may be NULL. */
STRETTO_API stretto_status stretto_session_generate(stretto_session *s, const stretto_generate_options *opt,
        stretto_generated *result);

/* Which vectors of a text's tokens make its embedding: their average, the first, the last, or each. */
enum {
    STRETTO_POOLING_MODEL,           /* what the model's file says; the average where it says nothing      */
    STRETTO_POOLING_MEAN, STRETTO_POOLING_CLS, STRETTO_POOLING_LAST, STRETTO_POOLING_NONE
};

typedef struct stretto_embed_options {
    size_t size;
    uint32_t pooling;                /* STRETTO_POOLING_...                                                */
    uint32_t raw;                    /* 1: not scaled to length 1 (with NONE vectors never are)            */
    uint32_t truncate;               /* 1: a text that is too long is cut; its closing tokens stay         */
} stretto_embed_options;
#define STRETTO_EMBED_OPTIONS_INIT { sizeof(stretto_embed_options), STRETTO_POOLING_MODEL, 0, 0 }

typedef struct stretto_embedded {
    size_t size;                     /* set by the caller: sizeof(stretto_embedded)                        */
    size_t vectors;                  /* each of the model's width: 1, or with NONE one for each token      */
    size_t tokens;                   /* read; fewer than given when the text was cut                       */
    uint32_t pooling, scaled;        /* what was done; scaled 1: to length 1                               */
} stretto_embedded;

/* The embedding of a text: the model's last hidden states as its file and opt (may be NULL) say. out has
 * room for `capacity` floats: [vectors][width]. When that is too little nothing is computed, and the answer
 * is E_FULL with result (may be NULL) filled; E_FULL with 0 vectors: the text is longer than the context.
 * E_UNSUP names what the file asks for and this version does not support (a weighted average, a Dense layer,
 * a reranker); a pooling in opt is used instead. The session's timeline is empty afterwards. */
STRETTO_API stretto_status stretto_session_embedding(stretto_session *s, const int32_t *ids, size_t count,
        const stretto_embed_options *opt, float *out, size_t capacity, stretto_embedded *result);
/* The same without options, for models that give one vector. out: [width]. */
STRETTO_API stretto_status stretto_session_embed(stretto_session *s, const int32_t *ids, size_t count, float *out);

/* A sentence about the last failure of this session; "" when there was none. Valid until its next call. */
STRETTO_API const char *stretto_session_error(const stretto_session *s);

/* ---- conversations --------------------------------------------------------------------------------- */

typedef struct stretto_chat_options {
    size_t size;
    uint32_t answer;                 /* 1: adds the opening of the assistant's answer                      */
    uint32_t special_in_text;        /* 1: special tokens in messages become their ids: use it only when
                                        all messages are your own                                         */
    uint32_t begin;                  /* 1: BOS in front where the tokenizer asks for it; where the template
                                        has it too, it is used once, and log is told                      */
    /* notes about what was done, each one line without newline; from the thread that calls */
    void (*log)(void *user, const char *line);
    void *user;
} stretto_chat_options;
#define STRETTO_CHAT_OPTIONS_INIT { sizeof(stretto_chat_options), 1, 0, 0, NULL, NULL }

/* The conversation as ids, ready for stretto_session_sync: rendered as by stretto_chat_render and tokenized
 * as one text, in which only the template's own words become special tokens. What a message says
 * stays text, however the template cuts, joins or changes it. opt may be NULL. E_FULL as in
 * stretto_tokenize, errors as in stretto_chat_render. */
STRETTO_API stretto_status stretto_chat_tokenize(const stretto_model *m, const stretto_message *messages,
        size_t count, const stretto_chat_options *opt, int32_t *ids, size_t capacity, size_t *n_ids,
        char *err, size_t err_size);

#ifdef __cplusplus
}
#endif
#endif
