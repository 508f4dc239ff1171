/* Any bytes as the body of a request to any route: refused with words in the shape of that API, or answered, and
 * what is answered is well-formed JSON, as a whole and event by event. The first byte chooses the route; the service
 * behind it is a few lines that write odd text. */
#include "base/json_tree.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "serve/route.h"
#include "serve/server.h"
#include "serve/shelf.h"
#include "text/chat.h"
#include "text/tokenizer_int.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* tests/fault/request.c has allocations fail: an answer is then a refusal, a stream that was cut, or whole. */
#ifndef HUNGRY
enum { HUNGRY = 0 };
static void eat(struct exchange *x) { (void)x; }
#endif

/* ---- a model --------------------------------------------------------------------------------------- */

static const char vocabulary[] =
    "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","
    "\"max_input_chars_per_word\":100,\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"a\":2,\"##a\":3,\"hello\":4,"
    "\"##b\":5,\"b\":6,\"<|fim_prefix|>\":7,\"<|fim_suffix|>\":8,\"<|fim_middle|>\":9}},"
    "\"pre_tokenizer\":{\"type\":\"Whitespace\"}}";
static const char words[] = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{# </think> #}"
    "{% if enable_thinking %}<think>{% endif %}";

static struct served_list list;
static struct serve_options options;
static struct metrics counted;
static struct shelf shelf;
static struct model inside;

static void open_model(void)
{
    struct error err = { 0 };
    struct tokenizer *t = tokenizer_new();
    if (!t || vocab_from_json_text(t, vocabulary, sizeof vocabulary - 1, &err) != STRETTO_OK
        || tokenizer_finish(t, &err) != STRETTO_OK)
        abort();
    inside = (struct model){ .tokenizer = t, .config = { .vocab = 10, .width = 4, .context = 100 } };
    list.v[0] = (struct served){ .name = "m", .model = &inside, .context = 100, .slots = 2, .since = 1,
                                 .at = SERVED_HERE, .service = (struct service *)(void *)&inside };
    served_open(&list);
    if (chat_open_text(&list.v[0].chat, t, words, sizeof words - 1, &err) != STRETTO_OK) abort();
    list.n = 1;
    atomic_store(&list.ready, 1);
    serve_options_defaults(&options);
    options.slots = "/tmp/slots";
}

static size_t held;

struct served_list *server_models(const struct server *s) { (void)s; return &list; }
const struct serve_options *server_options(const struct server *s) { (void)s; return &options; }
struct metrics *server_metrics(struct server *s) { (void)s; return &counted; }
struct shelf *server_shelf(struct server *s) { (void)s; return &shelf; }
bool server_has_keys(const struct server *s) { (void)s; return false; }
bool server_draining(const struct server *s) { (void)s; return false; }
size_t server_hold(struct server *s, ptrdiff_t more) { (void)s; return held += (size_t)more; }
double server_uptime(const struct server *s) { (void)s; return 1; }
const char *exchange_header(const struct exchange *x, const char *name) { (void)x; (void)name; return NULL; }
const char *exchange_query(const struct exchange *x, const char *name)
{
    (void)x;
    return strcmp(name, "action") == 0 ? "save" : NULL;
}

/* ---- a service ------------------------------------------------------------------------------------- */

struct job { struct job_options o; unsigned said; struct job_token token; int32_t id; float vector[4]; };

stretto_status service_submit(struct service *s, const struct job_options *o, struct job **out, struct job_busy *busy,
                              struct error *err)
{
    (void)s;
    *out = NULL;
    if ((!o->n_ids && o->kind != JOB_KEEP) || o->n_stops > JOB_STOPS || o->logprobs > JOB_LOGPROBS
        || !(o->how.temperature >= 0))
        abort();
    for (uint32_t i = 0; i < o->n_ids; i++)
        if (o->ids[i] < 0 || (size_t)o->ids[i] >= tokenizer_size(inside.tokenizer)) abort();
    if (o->n_ids > 100) {
        busy->context = 100;
        return fail(err, STRETTO_E_FULL, "too long");
    }
    if (!(*out = mem_zalloc(1, sizeof **out))) return fail(err, STRETTO_E_NOMEM, "no memory");
    (*out)->o = *o;
    return STRETTO_OK;
}

bool job_read(struct job *j, struct job_event *e)
{
    static const char odd[] = "a\"\\\n\x01\xc3\xa4 </think> <";
    *e = (struct job_event){ .kind = JOB_STARTED, .total = j->o.n_ids };
    j->id = 4;
    j->token = (struct job_token){ .id = 4, .logprob = -1, .n_text = sizeof odd - 1 };
    if (j->o.logprobs > 0) {
        j->token.n_top = 1;
        j->token.top[0].id = 2;
        j->token.top[0].logprob = -0.5f;
    }
    switch (j->said++) {
    case 0: return true;
    case 1: e->kind = JOB_PROGRESS; e->read = e->total; return true;
    case 2:
        if (j->o.kind != JOB_WRITE) break;
        e->kind = JOB_TEXT;
        e->text = odd;
        e->n_text = sizeof odd - 1;
        e->ids = &j->id;
        e->n_ids = 1;
        if (j->o.logprobs >= 0) e->tokens = &j->token;
        return true;
    case 3: break;
    default: return false;
    }
    j->said = 4;
    e->kind = JOB_DONE;
    e->finish = j->o.n_stops ? JOB_STOP : JOB_LENGTH;
    e->stop = j->o.n_stops ? "x" : NULL;
    if (j->o.kind == JOB_EMBED) e->vector = j->vector, e->n_vector = 4;
    e->usage = (struct job_usage){ .prompt = j->o.n_ids, .written = 1 };
    return true;
}

void job_cancel(struct job *j) { (void)j; }
void job_close(struct job *j) { mem_free(j); }
void service_drain(struct service *s) { (void)s; }
void service_look(struct service *s, struct service_state *out, struct service_slot *slots, uint32_t cap)
{
    (void)s; (void)slots; (void)cap;
    *out = (struct service_state){ .slots = 2 };
}

/* The page is one file and takes no body. */
const struct routes routes_page = { NULL, 0 };

/* ---- a request ------------------------------------------------------------------------------------- */

static void check_json(const char *p, size_t n)
{
    json_t *v = NULL;
    if (json_tree(&v, p, n, JSON_TWICE_REFUSED, "an answer", NULL) != STRETTO_OK) abort();
    json_decref(v);
}

static void check_value(json_t *v)
{
    char *text = v ? json_dumps(v, JSON_COMPACT) : NULL;
    if (!text) abort();
    check_json(text, strlen(text));
    free(text);
}

/* Lines "data: JSON", or JSON alone where an API has no events. */
static void check_stream(const char *p, size_t n)
{
    if (utf8_valid_run(p, n) != n) abort();
    for (const char *line = p, *end; line < p + n; line = end + 1) {
        end = memchr(line, '\n', (size_t)(p + n - line));
        if (!end) abort();
        size_t len = (size_t)(end - line);
        if (len > 6 && memcmp(line, "data: ", 6) == 0) {
            if (memcmp(line + 6, "[DONE]", 6) != 0) check_json(line + 6, len - 6);
        } else if (len && *line == '{') check_json(line, len);
        else if (len && *line != ':' && memcmp(line, "event: ", 7) != 0) abort();
    }
}

static void check_answer(struct exchange *x)
{
    for (int i = 0; i < 10000 && !x->ended && x->state != EXCHANGE_READING && x->state != EXCHANGE_ENDED; i++)
        exchange_pump(x);
    eat(x);
    if (x->trouble.kind != TROUBLE_NONE) {
        if (!x->trouble.text[0]) abort();
        json_t *e = x->manner->error(x, &x->trouble);
        check_value(e);
        json_decref(e);
    } else if (x->streams_out) {
        if (!HUNGRY || !x->cut) check_stream(x->out.data, x->out.len);
    }
    else if (x->reply) check_value(x->reply);
    else if (x->reply_text.len) check_json(x->reply_text.data, x->reply_text.len);
    else if (!x->http) abort();
}

static const char *const paths[] = {
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize", "/apply-template",
    "/v1/messages", "/v1/messages/count_tokens", "/v1/responses", "/completion", "/infill",
    "/api/chat", "/api/generate", "/api/embed", "/api/show",
    "/v1/rerank", "/v1/chat/completions/input_tokens", "/v1/responses/input_tokens", "/slots/1",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char server;
    char allowed[64];
    if (!list.n) {
        exchange_setup();
        open_model();
    }
    if (!size) return 0;
    struct exchange *x = exchange_open((struct server *)(void *)&server, NULL);
    if (!x) return 0;
    strcpy(x->id, "id");
    strcpy(x->client, "me");
    strcpy(x->method, "POST");
    snprintf(x->path, sizeof x->path, "%s", paths[data[0] % (sizeof paths / sizeof *paths)]);
    x->route = route_find("POST", x->path, x->rest, sizeof x->rest, allowed);
    x->manner = x->route ? x->route->manner : NULL;
    if (x->route && buffer_append(&x->body, data + 1, size - 1) == STRETTO_OK) {
        x->route->handle(x);
        check_answer(x);
    }
    exchange_close(x);
    return 0;
}
