#include "serve/ask.h"
#include "base/memory.h"
#include "serve/exchange.h"
#include "serve/served.h"
#include "stretto/serve_options.h"
#include "text/chat.h"
#include "text/conversation.h"
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { TEXT_MAX = 1 << 30,
       BOUND_FROM = 64 << 10 };        /* what is shorter is counted exactly, for who wants to know by how much */

static int64_t draw_seed(void)
{
    uint64_t bits = 0;
    if (getrandom(&bits, sizeof bits, 0) != sizeof bits) bits = (uint64_t)time(NULL);
    return (int64_t)(bits >> 2);
}

void ask_init(struct ask *a, const struct serve_options *o)
{
    static const char *const poolings[] = { [POOLING_MEAN] = "mean", [POOLING_CLS] = "cls", [POOLING_LAST] = "last" };
    const struct sampling_options *s = &o->sampling;
    enum pooling pooling = POOLING_NONE;
    for (int i = POOLING_MEAN; i <= POOLING_LAST; i++)
        if (o->pooling && strcmp(o->pooling, poolings[i]) == 0) pooling = (enum pooling)i;
    *a = (struct ask){ .max_tokens = o->predict, .temperature = s->temp, .top_p = s->top_p, .min_p = s->min_p,
                       .repeat_penalty = s->repeat_penalty, .presence_penalty = s->presence_penalty,
                       .frequency_penalty = s->frequency_penalty, .top_k = s->top_k,
                       .repeat_last_n = s->repeat_last_n, .seed = s->seed, .n = 1, .think = -1, .place = -1,
                       .adapter = -1,
                       .best_of = -1, .logprobs = -1,
                       .top_logprobs = 0, .generation_prompt = true, .pooling = pooling,
                       .each = o->pooling && strcmp(o->pooling, "none") == 0, .verbose = o->model.verbose };
}

void ask_drop_words(struct ask *a)
{
    for (size_t i = 0; i < a->n_messages; i++) {
        mem_free((void *)(uintptr_t)a->messages[i].content);
        a->messages[i].content = NULL;
        a->messages[i].role = "";
    }
}

void ask_done(struct ask *a)
{
    ask_drop_words(a);
    mem_free(a->messages);
    for (size_t i = 0; i < a->n_prompts; i++) {
        tokens_done(&a->prompts[i]);
        buffer_done(&a->echoes[i]);
    }
    mem_free(a->prompts);
    mem_free(a->echoes);
    mem_free(a->bias);
    mem_free(a->path);
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

static bool has_no_zero(const char *content, size_t n, struct trouble *t)
{
    return !memchr(content, '\0', n)
           || trouble(t, TROUBLE_INVALID, "messages", "a message holds the character U+0000, which no text needs: "
                      "leave it out");
}

bool ask_message(struct ask *a, const char *role, const char *content, size_t n, struct trouble *t)
{
    if (!has_no_zero(content, n, t)) return false;
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
    a->last_bytes = a->last_cap = n;
    return true;
}

bool ask_append(struct ask *a, const char *p, size_t n, struct trouble *t)
{
    stretto_message *last = &a->messages[a->n_messages - 1];
    if (!has_no_zero(p, n, t)) return false;
    if (n > a->last_cap - a->last_bytes) {
        size_t cap = 2 * a->last_cap + n;
        char *more = mem_resize((void *)(uintptr_t)last->content, cap + 1);
        if (!more) return no_memory(t);
        last->content = more;
        a->last_cap = cap;
    }
    char *end = (char *)(uintptr_t)last->content + a->last_bytes;
    memcpy(end, p, n);
    end[n] = '\0';
    a->last_bytes += n;
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

static bool thinks(const struct ask *a)
{
    return a->think >= 0 ? a->think != 0 : !a->model->silent;
}

static bool says(const struct ask *a, const char *name) { return json_object_get(a->template_vars, name) != NULL; }

/* What templates ask for besides, as llama.cpp gives it, and what the request says: members of a JSON object. */
static stretto_status put_vars(const struct ask *a, time_t now, struct buffer *out)
{
    char day[40] = "", when[60] = "";
    struct tm tm;
    const char *name;
    json_t *v;
    localtime_r(&now, &tm);
    strftime(day, sizeof day, "%d %b %Y", &tm);
    strftime(when, sizeof when, "%b %d %Y", &tm);
    TRY(buffer_str(out, "\"stretto\":true"));
    if (!says(a, "date_string")) TRY(buffer_printf(out, ",\"date_string\":\"%s\"", day));
    if (!says(a, "datetime")) TRY(buffer_printf(out, ",\"datetime\":\"%s\"", when));
    if (!says(a, "enable_thinking"))
        TRY(buffer_printf(out, ",\"enable_thinking\":%s", thinks(a) ? "true" : "false"));
    if (a->effort && !says(a, "reasoning_effort")) {
        TRY(buffer_str(out, ",\"reasoning_effort\":"));
        TRY(put_string(out, a->effort, strlen(a->effort)));
    }
    json_object_foreach((json_t *)(uintptr_t)a->template_vars, name, v) {
        TRY(buffer_str(out, ","));
        TRY(put_string(out, name, strlen(name)));
        TRY(buffer_str(out, ":"));
        TRY(put_value(out, v));
    }
    return STRETTO_OK;
}

/* Whether what the prompt ends with has begun to think. */
static void find_thoughts(struct ask *a, const struct buffer *text)
{
    if (a->plain || !chat_thinks(a->model->chat, &a->think_open, &a->think_close)) return;
    size_t n = text->len, open = strlen(a->think_open), close = strlen(a->think_close);
    while (n && strchr(" \n\t\r", text->data[n - 1])) n--;
    a->think_inside = n >= open && memcmp(text->data + n - open, a->think_open, open) == 0;
    /* It is over already, or the beginning of the answer is there. */
    if (a->continues || (n >= close && memcmp(text->data + n - close, a->think_close, close) == 0))
        a->think_open = a->think_close = NULL;
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
    time_t now = time(NULL);
    struct buffer vars = buffer_make(TEXT_MAX);
    stretto_status s = put_vars(a, now, &vars);
    if (s == STRETTO_OK)
        s = chat_render_more(m->chat, a->messages, a->n_messages - goes_on, goes_on || a->generation_prompt, vars.data,
                             now, &text, &content, NULL, &err);
    buffer_done(&vars);
    if (s == STRETTO_OK && goes_on) s = append_beginning(a, &text, &content);
    if (s == STRETTO_OK) find_thoughts(a, &text);
    bool fits = s != STRETTO_OK || ask_fits(a, text.len, t);
    if (s == STRETTO_OK && fits)
        s = tokenizer_encode_chat(m->model->tokenizer, text.data ? text.data : "",
                                  (const unsigned char *)content.data, text.len, TOKENIZE_SPECIAL, &a->prompts[0],
                                  &err);
    if (s == STRETTO_OK && fits) s = conversation_join(m->model->tokenizer, m->chat, &a->prompts[0], &err);
    if (s == STRETTO_OK && out) s = buffer_append(out, text.data ? text.data : "", text.len);
    buffer_done(&text);
    buffer_done(&content);
    if (s != STRETTO_OK) return trouble_status(t, TROUBLE_INVALID, "messages", s, &err);
    return fits;
}

bool ask_fits(const struct ask *a, size_t bytes, struct trouble *t)
{
    const struct served *m = a->model;
    size_t covers = m->model->tokenizer ? tokenizer_covers(m->model->tokenizer) : 0;
    size_t least = covers ? bytes / covers : 0;
    uint32_t context = m->context;
    if (a->counts || !context || least <= context || bytes < BOUND_FROM) return true;
    trouble(t, TROUBLE_CONTEXT, NULL, "request (%zu tokens at least) exceeds the available context size (%u tokens), "
            "try increasing it", least, context);
    t->n_prompt = least < UINT32_MAX ? (uint32_t)least : UINT32_MAX;
    t->n_context = context;
    return false;
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
