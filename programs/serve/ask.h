/* What a client asks for, whatever API he speaks: the neutral form that every family of routes fills from
 * its JSON. Its plain members are the places that rows of fields name (field.h). */
#ifndef SERVE_ASK_H
#define SERVE_ASK_H
#include "serve/service.h"
#include "serve/trouble.h"
#include "text/tokenizer.h"
#include <jansson.h>

struct served;
struct serve_options;

enum { ASK_CHOICES = 16, ASK_JOBS = 2048, ASK_STOP_BYTES = 1024, ASK_BIASES = 1024, ASK_MESSAGES = 100000,
       ASK_NAME = 161, ASK_ADAPTERS = 16 };

struct ask {
    const struct served *model;
    int adapter;                       /* of the model, by its name; -1: none was named            */
    char shown[2 * ASK_NAME];          /* what was found by the name: "MODEL" or "MODEL:ADAPTER"   */
    const json_t *lora;                /* of the JSON, or NULL: what adapters weigh                */
    float weights[ASK_ADAPTERS];       /* that of each of the model's                              */
    /* Plain members, by rows of fields. */
    int64_t max_tokens;                /* -1: as many as there are places                          */
    double temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    int64_t top_k, repeat_last_n, seed;/* seed -1: drawn                                           */
    int64_t place;                     /* id_slot; -1: any                                        */
    enum job_keep keep;                /* of JOB_KEEP                                             */
    char *path;                        /* its file, owned; or NULL                                */
    int64_t n, best_of, priority, logprobs, top_logprobs;   /* logprobs -1: none                   */
    double time_limit;                 /* ms from its first byte on, whatever it waits for; 0: none */
    int64_t think;                     /* -1: as the server's option says; 0; 1                    */
    bool plain;                        /* what is thought stays in the text (reasoning_format)     */
    bool hosted;                       /* tools that run elsewhere                                 */
    bool tools, tool_none;             /* there are some; none is to be called                     */
    bool stream, usage, want_logprobs, drawn, verbose, echo, ignore_end, no_cache, cache_exact;
    bool progress, timings, tokens;
    bool counts;                       /* tokens are only counted: any number will do             */
    bool generation_prompt, continues; /* chat: open an answer; go on with the last message        */
    const char *effort;                /* reasoning_effort of the JSON; NULL: not said             */
    const json_t *template_vars;       /* chat_template_kwargs, an object; or NULL                 */
    const char *think_open, *think_close;   /* how the model marks what it thinks; NULL: not       */
    bool think_inside;                 /* the prompt has opened that                               */
    const char *user, *suffix, *cache_key, *encoding, *model_name;   /* of the JSON, or NULL       */
    int64_t dimensions;
    enum pooling pooling;              /* of vectors; POOLING_NONE: as the model's file says      */
    bool each;                         /* a vector for each token                                 */
    /* What rows with a function of their own read. */
    const char *stops[JOB_STOPS];      /* [n_stops] of the JSON                                    */
    uint32_t n_stops;
    struct logit_bias *bias;
    size_t n_bias;
    const json_t *bias_words;          /* of the JSON: biases of words, until the model is known      */
    stretto_message *messages;         /* contents owned                                           */
    size_t n_messages, cap_messages;
    size_t last_bytes, last_cap;       /* of the last message: bytes, and how many have room       */
    struct tokens *prompts;            /* [n_prompts] what is read                                 */
    struct buffer *echoes;             /* [n_prompts] its text, with echo                          */
    size_t n_prompts;
    struct tokens prediction;
    const char *prediction_words;      /* of the JSON; NULL: none                                  */
};

void ask_init(struct ask *a, const struct serve_options *o);
void ask_done(struct ask *a);
/* Room for n prompts. */
bool ask_prompts(struct ask *a, size_t n, struct trouble *t);
/* A message at the end; role must outlive the ask, content[0..n) is copied. */
bool ask_message(struct ask *a, const char *role, const char *content, size_t n, struct trouble *t);
/* More words of the last one, which stays where it is: many short pieces take no longer than one long one. */
bool ask_append(struct ask *a, const char *p, size_t n, struct trouble *t);
/* The words of all messages go, once prompts are made of them. How many there were stays known. */
void ask_drop_words(struct ask *a);
/* Whether its model writes texts: one that makes embeddings does not. */
bool ask_writes(const struct ask *a, struct trouble *t);
/* The conversation as the model's template writes it, into prompts[0]; *text (may be NULL) gets its text. */
bool ask_render(struct ask *a, struct buffer *text, struct trouble *t);
/* Whether a text of so many bytes may fit the context, by the fewest tokens that it can be: what cannot is refused
 * before it is taken apart. */
bool ask_fits(const struct ask *a, size_t bytes, struct trouble *t);
/* Tokens of a text that is the client's template itself: special tokens that it spells count. */
bool ask_encode(const struct ask *a, const char *text, size_t n, unsigned flags, struct tokens *out, struct trouble *t);
/* Draws the seed where none was given. */
void ask_seed(struct ask *a);
/* Sampling of choice i. */
struct sampling ask_sampling(const struct ask *a, uint64_t choice);
#endif
