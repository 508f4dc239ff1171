#include "stretto/prompts.h"
#include "base/json_tree.h"
#include "model/model.h"
#include "stretto/experimental.h"
#include "stretto/open.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void prompt_done(struct prompt *p)
{
    free(p->id);
    free(p->set);
    free(p->text);
    free(p->stop);
    free(p->begin);
    free(p->group);
    free(p->ids);
    *p = (struct prompt){ 0 };
}

void prompts_done(struct prompts *p)
{
    for (size_t i = 0; i < p->n; i++) prompt_done(&p->v[i]);
    free(p->v);
    *p = (struct prompts){ 0 };
}

/* A member that must be a string where it is there; *out stays NULL where it is not. */
static stretto_status take_string(const json_t *j, const char *key, size_t most, char **out,
                                  struct error *err)
{
    const json_t *v = json_object_get(j, key);
    if (!v) return STRETTO_OK;
    if (!json_is_string(v)) return fail(err, STRETTO_E_FORMAT, "\"%s\" is not a string", key);
    if (json_string_length(v) > most || strlen(json_string_value(v)) != json_string_length(v))
        return fail(err, STRETTO_E_FORMAT, "\"%s\" is longer than %zu bytes or holds a NUL", key,
                    most);
    *out = strdup(json_string_value(v));
    return *out ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
}

static stretto_status take_ids(struct prompt *p, const json_t *v, struct error *err)
{
    size_t n = json_array_size(v);
    if (!json_is_array(v) || n == 0)
        return fail(err, STRETTO_E_FORMAT, "\"ids\" is not a list of token ids");
    p->ids = malloc(n * sizeof *p->ids);
    if (!p->ids) return fail(err, STRETTO_E_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(v, i);
        json_int_t id = json_integer_value(x);
        if (!json_is_integer(x) || id < 0 || id > INT32_MAX)
            return fail(err, STRETTO_E_FORMAT, "\"ids\"[%zu] is not a token id", i);
        p->ids[p->n++] = (int32_t)id;
    }
    return STRETTO_OK;
}

static stretto_status take_members(struct prompt *p, const json_t *j, size_t number,
                                   struct error *err)
{
    if (!json_is_object(j)) return fail(err, STRETTO_E_FORMAT, "this is not a JSON object");
    TRY(take_string(j, "id", PROMPT_MAX_NAME, &p->id, err));
    TRY(take_string(j, "set", PROMPT_MAX_NAME, &p->set, err));
    TRY(take_string(j, "stop", PROMPT_MAX_NAME, &p->stop, err));
    if (json_is_string(json_object_get(j, "group"))) TRY(take_string(j, "group", PROMPT_MAX_BYTES, &p->group, err));
    TRY(take_string(j, "begin", PROMPT_MAX_BYTES, &p->begin, err));
    TRY(take_string(j, "prompt", PROMPT_MAX_BYTES, &p->text, err));
    const json_t *chat = json_object_get(j, "chat"), *ids = json_object_get(j, "ids");
    if (chat && !json_is_boolean(chat))
        return fail(err, STRETTO_E_FORMAT, "\"chat\" is neither true nor false");
    p->chat = json_is_true(chat);
    if (!p->text == !ids)
        return fail(err, STRETTO_E_FORMAT, "it needs either a \"prompt\" or \"ids\"");
    if ((p->chat || p->begin) && ids)
        return fail(err, STRETTO_E_FORMAT,
                    "\"chat\" and \"begin\" go with a \"prompt\", not with \"ids\"");
    if (ids) TRY(take_ids(p, ids, err));
    if (!p->id) {
        char name[32];
        snprintf(name, sizeof name, "line %zu", number);
        p->id = strdup(name);
    }
    if (!p->set) p->set = strdup("");
    return p->id && p->set ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
}

stretto_status prompt_parse(struct prompt *p, const char *line, size_t n, size_t number,
                            struct error *err)
{
    json_t *j;
    *p = (struct prompt){ 0 };
    if (n > PROMPT_MAX_BYTES)
        return fail(err, STRETTO_E_FORMAT, "the line is longer than %d bytes", PROMPT_MAX_BYTES);
    TRY(json_tree(&j, line, n, JSON_TWICE_REFUSED, "the prompt", err));
    stretto_status s = take_members(p, j, number, err);
    json_decref(j);
    if (s != STRETTO_OK) prompt_done(p);
    return s;
}

char *chat_text(const char *command, const stretto_model *m, const char *system, const char *user,
                size_t *length)
{
    stretto_message messages[2];
    size_t n = 0;
    if (system) messages[n++] = (stretto_message){ "system", system };
    messages[n++] = (stretto_message){ "user", user };
    char err[600] = "out of memory", *text = NULL;
    size_t need = 0;
    stretto_status s = stretto_chat_render(m, messages, n, 1, NULL, 0, &need, err, sizeof err);
    if (s == STRETTO_E_FULL && (text = malloc(need + 1)))
        s = stretto_chat_render(m, messages, n, 1, text, need + 1, length, err, sizeof err);
    if (s == STRETTO_OK && text) return text;
    free(text);
    command_fail(command, s == STRETTO_E_ARG ? STRETTO_E_FORMAT : s, err);
    return NULL;
}

static void tell(void *user, const char *line) { fprintf(stderr, "stretto %s: %s\n", (char *)user, line); }

int32_t *chat_ids(const char *command, const stretto_model *m, const char *system, const char *user,
                  bool special_in_text, size_t *n)
{
    stretto_message messages[2];
    size_t count = 0;
    if (system) messages[count++] = (stretto_message){ "system", system };
    messages[count++] = (stretto_message){ "user", user };
    stretto_chat_options o = STRETTO_CHAT_OPTIONS_INIT;
    o.special_in_text = special_in_text;
    char err[600] = "";
    interrupt_ends(true);
    stretto_status s = stretto_chat_tokenize(m, messages, count, &o, NULL, 0, n, err, sizeof err);
    int32_t *ids = s == STRETTO_OK || s == STRETTO_E_FULL ? malloc((*n + 1) * sizeof *ids) : NULL;
    o.log = tell;
    o.user = (void *)(uintptr_t)command;
    if (ids) s = stretto_chat_tokenize(m, messages, count, &o, ids, *n, n, err, sizeof err);
    else if (s == STRETTO_OK || s == STRETTO_E_FULL) s = STRETTO_E_NOMEM;
    interrupt_ends(false);
    if (s == STRETTO_OK) return ids;
    free(ids);
    command_fail(command, s == STRETTO_E_ARG ? STRETTO_E_FORMAT : s, *err ? err : NULL);
    return NULL;
}

/* A prompt that was rendered by hand spells BOS, and the tokenizer adds it. */
static void begin_once(const char *command, const stretto_model *m, int32_t *ids, size_t *n)
{
    size_t n_before, length;
    const struct tokenizer *t = stretto_model_inside(m)->tokenizer;
    const int32_t *before = tokenizer_before(t, &n_before);
    if (n_before != 1 || *n < 2 || ids[0] != before[0] || ids[1] != before[0]) return;
    const char *p = tokenizer_spelling(t, ids[0], &length);
    memmove(ids, ids + 1, --*n * sizeof *ids);
    fprintf(stderr, "stretto %s: the prompt begins with %.*s, which the tokenizer adds too; it is used once\n",
            command, (int)length, p);
}

stretto_status encode_text(const stretto_model *m, const char *text, size_t length, unsigned flags,
                           int32_t **ids, size_t *n, struct error *err)
{
    const struct tokenizer *t = stretto_model_inside(m)->tokenizer;
    if (!t) return fail(err, STRETTO_E_UNSUP, "the model file has no vocabulary");
    struct tokens all = { 0 };
    interrupt_ends(true);
    stretto_status s = tokenizer_encode(t, text, length,
                                        (flags & STRETTO_TOKENIZE_SPECIAL ? TOKENIZE_SPECIAL : 0) |
                                        (flags & STRETTO_TOKENIZE_ADD ? TOKENIZE_ADD : 0), &all, err);
    interrupt_ends(false);
    *n = all.n;
    *ids = s == STRETTO_OK ? malloc((all.n + 1) * sizeof **ids) : NULL;
    if (*ids && all.n) memcpy(*ids, all.id, all.n * sizeof **ids);
    tokens_done(&all);
    if (s == STRETTO_OK && !*ids) return fail(err, STRETTO_E_NOMEM, "out of memory");
    return s;
}

int32_t *text_ids(const char *command, const stretto_model *m, const char *text, size_t length,
                  unsigned flags, size_t *n)
{
    int32_t *ids;
    struct error err = { 0 };
    stretto_status s = encode_text(m, text, length, flags, &ids, n, &err);
    if (s != STRETTO_OK) command_fail(command, s, err.text);
    else if (flags & STRETTO_TOKENIZE_ADD && flags & STRETTO_TOKENIZE_SPECIAL)
        begin_once(command, m, ids, n);
    return ids;
}

static int to_ids(const char *command, const stretto_model *m, struct prompt *p)
{
    size_t length, more = p->begin ? strlen(p->begin) : 0;
    if (!p->text) return EXIT_DONE;
    char *text = p->chat ? chat_text(command, m, NULL, p->text, &length) : strdup(p->text);
    if (!text) return EXIT_FAILED;
    if (!p->chat) length = strlen(text);
    char *whole = realloc(text, length + more + 1);
    if (!whole) {
        free(text);
        return command_fail(command, STRETTO_E_NOMEM, NULL);
    }
    if (more) memcpy(whole + length, p->begin, more);
    p->ids = text_ids(command, m, whole, length + more,
                      p->chat ? STRETTO_TOKENIZE_SPECIAL
                              : STRETTO_TOKENIZE_SPECIAL | STRETTO_TOKENIZE_ADD,
                      &p->n);
    free(whole);
    return p->ids ? EXIT_DONE : EXIT_FAILED;
}

int prompts_read(const char *command, const stretto_model *m, const char *path, size_t limit,
                 struct prompts *out)
{
    size_t length = 0, cap = 0, number = 0;
    *out = (struct prompts){ 0 };
    char *text = read_text(command, path, &length), *at = text, *end = text + length;
    if (!text) return EXIT_FAILED;
    if (!limit || limit > PROMPTS_MAX) limit = PROMPTS_MAX;
    int code = EXIT_DONE;
    while (at < end && out->n < limit && code == EXIT_DONE) {
        char *stop = memchr(at, '\n', (size_t)(end - at)), *line = at;
        size_t n = (size_t)((stop ? stop : end) - at);
        at += n + 1;
        number++;
        if (strspn(line, " \t\r\n") >= n) continue;
        if (out->n == cap) {
            struct prompt *more = realloc(out->v, (cap = 2 * cap + 64) * sizeof *more);
            if (!more) { code = command_fail(command, STRETTO_E_NOMEM, NULL); break; }
            out->v = more;
        }
        struct error err = { 0 }, where = { 0 };
        struct prompt *p = &out->v[out->n];
        stretto_status s = prompt_parse(p, line, n, number, &err);
        if (s != STRETTO_OK) {
            fail(&where, s, "%s, line %zu: %s", path, number, err.text);
            code = command_fail(command, s, where.text);
            break;
        }
        out->n++;
        code = to_ids(command, m, p);
        if (code == EXIT_DONE && p->n == 0) {
            fail(&where, STRETTO_E_FORMAT, "%s, line %zu: the prompt has no tokens", path, number);
            code = command_fail(command, STRETTO_E_FORMAT, where.text);
        }
    }
    free(text);
    if (code == EXIT_DONE && out->n == 0)
        code = command_fail(command, STRETTO_E_FORMAT,
                            "the file of prompts is empty; bench/make_prompts.py writes prompts");
    if (code != EXIT_DONE) prompts_done(out);
    return code;
}
