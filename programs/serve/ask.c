#include "serve/ask.h"
#include "base/memory.h"
#include "serve/served.h"
#include "stretto/serve_options.h"
#include "text/chat.h"
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { TEXT_MAX = 1 << 30 };

static int64_t draw_seed(void)
{
    uint64_t bits = 0;
    if (getrandom(&bits, sizeof bits, 0) != sizeof bits) bits = (uint64_t)time(NULL);
    return (int64_t)(bits >> 2);
}

void ask_init(struct ask *a, const struct serve_options *o)
{
    const struct sampling_options *s = &o->sampling;
    *a = (struct ask){ .max_tokens = -1, .temperature = s->temp, .top_p = s->top_p, .min_p = s->min_p,
                       .repeat_penalty = s->repeat_penalty, .presence_penalty = s->presence_penalty,
                       .frequency_penalty = s->frequency_penalty, .top_k = s->top_k,
                       .repeat_last_n = s->repeat_last_n, .seed = s->seed, .n = 1, .best_of = -1, .logprobs = -1,
                       .top_logprobs = 0, .generation_prompt = true };
}

void ask_done(struct ask *a)
{
    for (size_t i = 0; i < a->n_messages; i++) mem_free((void *)(uintptr_t)a->messages[i].content);
    mem_free(a->messages);
    for (size_t i = 0; i < a->n_prompts; i++) {
        tokens_done(&a->prompts[i]);
        buffer_done(&a->echoes[i]);
    }
    mem_free(a->prompts);
    mem_free(a->echoes);
    mem_free(a->bias);
    tokens_done(&a->prediction);
    *a = (struct ask){ .n = 1 };
}

static bool no_memory(struct trouble *t) { return trouble_status(t, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL); }

bool ask_prompts(struct ask *a, size_t n, struct trouble *t)
{
    a->prompts = mem_zalloc(n ? n : 1, sizeof *a->prompts);
    a->echoes = mem_zalloc(n ? n : 1, sizeof *a->echoes);
    if (!a->prompts || !a->echoes) return no_memory(t);
    for (size_t i = 0; i < n; i++) a->echoes[i] = buffer_make(TEXT_MAX);
    a->n_prompts = n;
    return true;
}

bool ask_message(struct ask *a, const char *role, const char *content, size_t n, struct trouble *t)
{
    if (memchr(content, '\0', n))
        return trouble(t, TROUBLE_INVALID, "messages", "a message holds the character U+0000, which no text needs: "
                       "leave it out");
    if (a->n_messages == a->cap_messages) {
        size_t cap = a->cap_messages ? 2 * a->cap_messages : 16;
        if (cap > ASK_MESSAGES)
            return trouble(t, TROUBLE_INVALID, "messages", "there are more than %zu messages: leave older ones out",
                           a->n_messages);
        stretto_message *m = mem_resize(a->messages, cap * sizeof *m);
        if (!m) return no_memory(t);
        a->messages = m;
        a->cap_messages = cap;
    }
    char *copy = mem_strndup(content, n);
    if (!copy) return no_memory(t);
    a->messages[a->n_messages++] = (stretto_message){ role, copy };
    return true;
}

/* An answer that goes on stands behind the opening of an answer. */
static stretto_status append_beginning(const struct ask *a, struct buffer *text, struct buffer *content)
{
    const char *words = a->messages[a->n_messages - 1].content;
    size_t n = strlen(words);
    TRY(buffer_append(text, words, n));
    TRY(buffer_reserve(content, n));
    TRY(buffer_append(content, words, n));
    memset(content->data + content->len - n, 1, n);
    return STRETTO_OK;
}

bool ask_writes(const struct ask *a, struct trouble *t)
{
    if (!a->model->embeds) return true;
    return trouble(t, TROUBLE_INVALID, "model", "the model %s makes embeddings and writes no text: ask /v1/embeddings",
                   a->model->name);
}

bool ask_render(struct ask *a, struct buffer *out, struct trouble *t)
{
    const struct served *m = a->model;
    struct error err = { 0 };
    if (!ask_writes(a, t)) return false;
    if (!m->chat)
        return trouble(t, TROUBLE_INVALID, "model", "the model %s has no chat template: send the text to "
                       "/v1/completions, or serve a model that has one", m->name);
    if (!ask_prompts(a, 1, t)) return false;
    bool goes_on = a->continues && a->n_messages;
    struct buffer text = buffer_make(TEXT_MAX), content = buffer_make(TEXT_MAX);
    stretto_status s = chat_render(m->chat, a->messages, a->n_messages - goes_on, goes_on || a->generation_prompt,
                                   time(NULL), &text, &content, NULL, &err);
    if (s == STRETTO_OK && goes_on) s = append_beginning(a, &text, &content);
    if (s == STRETTO_OK)
        s = tokenizer_encode_chat(m->model->tokenizer, text.data ? text.data : "",
                                  (const unsigned char *)content.data, text.len, TOKENIZE_SPECIAL, &a->prompts[0],
                                  &err);
    if (s == STRETTO_OK && out) s = buffer_append(out, text.data ? text.data : "", text.len);
    buffer_done(&text);
    buffer_done(&content);
    if (s != STRETTO_OK) return trouble_status(t, TROUBLE_INVALID, "messages", s, &err);
    return true;
}

bool ask_encode(const struct ask *a, const char *text, size_t n, unsigned flags, struct tokens *out, struct trouble *t)
{
    struct error err = { 0 };
    const struct tokenizer *k = a->model->model->tokenizer;
    if (!k) return trouble(t, TROUBLE_INVALID, "model", "the model %s has no vocabulary: send ids", a->model->name);
    size_t from = out->n, n_before;
    stretto_status s = tokenizer_encode(k, text, n, flags, out, &err);
    if (s != STRETTO_OK) return trouble_status(t, TROUBLE_INVALID, NULL, s, &err);
    /* A prompt that was rendered by hand spells BOS, and the tokenizer adds it. */
    const int32_t *before = tokenizer_before(k, &n_before);
    if (flags & TOKENIZE_ADD && n_before == 1 && out->n - from >= 2 && out->id[from] == before[0]
        && out->id[from + 1] == before[0]) {
        memmove(out->id + from, out->id + from + 1, (out->n - from - 1) * sizeof *out->id);
        out->n--;
    }
    return true;
}

void ask_seed(struct ask *a)
{
    if (a->seed == -1) a->seed = draw_seed();
}

struct sampling ask_sampling(const struct ask *a, uint64_t choice)
{
    return (struct sampling){
        .temperature = (float)a->temperature, .top_k = a->top_k < 0 ? 0 : (uint32_t)a->top_k, .top_p = (float)a->top_p,
        .min_p = (float)a->min_p, .repeat_penalty = (float)a->repeat_penalty,
        .presence_penalty = (float)a->presence_penalty, .frequency_penalty = (float)a->frequency_penalty,
        .repeat_last_n = (int32_t)a->repeat_last_n, .seed = (uint64_t)a->seed,
        .choice = choice, .bias = a->bias, .n_bias = a->n_bias };
}
