/* Conversations in files. What is loaded may be from elsewhere: what is not understood is refused by name. */
#include "base/utf8.h"
#include "stretto/talk.h"
#include "base/file.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { VERSION = 1 };

/* ---- saving ---------------------------------------------------------------------------------- */

static json_t *message_json(const char *role, const char *content)
{
    struct buffer safe = buffer_make((size_t)1 << 30);
    bool good = utf8_repair(&safe, content, strlen(content)) == STRETTO_OK;
    json_t *m = good ? json_pack("{s:s, s:s}", "role", role, "content", safe.data ? safe.data : "") : NULL;
    buffer_done(&safe);
    return m;
}

static json_t *messages_json(const struct talk *t)
{
    json_t *all = json_array();
    bool good = all != NULL;
    if (t->system) good &= json_array_append_new(all, message_json("system", t->system)) == 0;
    for (size_t i = 0; good && i < t->n; i++)
        good = json_array_append_new(all, message_json(t->messages[i].role, t->messages[i].content)) == 0;
    if (good) return all;
    json_decref(all);
    return NULL;
}

static stretto_status write_json(struct buffer *out, const json_t *j, size_t flags)
{
    char *text = j ? json_dumps(j, flags | JSON_REAL_PRECISION(15)) : NULL;
    stretto_status s = text ? buffer_printf(out, "%s\n", text) : STRETTO_E_NOMEM;
    free(text);
    return s;
}

static stretto_status as_json(const struct talk *t, const json_t *parameters, bool lines, struct buffer *out)
{
    json_t *messages = messages_json(t);
    json_t *head = messages ? json_pack("{s:i, s:O}", "stretto_chat", VERSION, "parameters", parameters) : NULL;
    stretto_status s = head ? STRETTO_OK : STRETTO_E_NOMEM;
    if (s == STRETTO_OK && !lines) {
        s = json_object_set(head, "messages", messages) == 0 ? write_json(out, head, JSON_INDENT(2))
                                                             : STRETTO_E_NOMEM;
    } else if (s == STRETTO_OK)
        s = write_json(out, head, 0);
    for (size_t i = 0; s == STRETTO_OK && lines && i < json_array_size(messages); i++)
        s = write_json(out, json_array_get(messages, i), 0);
    json_decref(head);
    json_decref(messages);
    return s;
}

static stretto_status as_markdown(const struct talk *t, struct buffer *out)
{
    if (t->system) TRY(buffer_printf(out, "**system**\n\n%s\n\n", t->system));
    for (size_t i = 0; i < t->n; i++)
        TRY(buffer_printf(out, "**%s**\n\n%s\n\n", t->messages[i].role, t->messages[i].content));
    return STRETTO_OK;
}

static bool ends_with(const char *path, const char *end)
{
    size_t n = strlen(path), k = strlen(end);
    return n > k && strcmp(path + n - k, end) == 0;
}

stretto_status talk_save(const struct talk *t, const json_t *parameters, const char *path, bool replace,
                         struct error *err)
{
    struct buffer text = buffer_make((size_t)1 << 30);
    struct stat st;
    if (!replace && lstat(path, &st) == 0)
        return fail(err, STRETTO_E_IO, "%s exists: /save! replaces it", path);
    stretto_status s = ends_with(path, ".md") ? as_markdown(t, &text)
                                              : as_json(t, parameters, !ends_with(path, ".json"), &text);
    if (s == STRETTO_OK) s = file_replace(path, text.data ? text.data : "", text.len, err);
    else fail(err, s, "no memory to write the conversation");
    buffer_done(&text);
    return s;
}

/* ---- loading --------------------------------------------------------------------------------- */

/* Names a member besides those of a message that is not null. */
static const char *foreign(const json_t *m)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)m, key, v)
        if (strcmp(key, "role") != 0 && strcmp(key, "content") != 0 && !json_is_null(v)) return key;
    return NULL;
}

static stretto_status take_message(struct talk *t, const json_t *m, struct error *err)
{
    const char *role = json_string_value(json_object_get(m, "role"));
    const json_t *content = json_object_get(m, "content");
    const char *text = json_string_value(content), *other = foreign(m);
    if (!role) return fail(err, STRETTO_E_FORMAT, "this is not a message: it has no \"role\"");
    if (!text || strlen(text) != json_string_length(content))
        return fail(err, STRETTO_E_FORMAT, "the \"content\" of a message is not a text, or holds a NUL");
    if (other) return fail(err, STRETTO_E_UNSUP, "a message has \"%.60s\", which chat does not know", other);
    if (strcmp(role, "system") == 0) {
        if (t->system || t->n)
            return fail(err, STRETTO_E_UNSUP, "there is a system message that is not the first message");
        return talk_system(t, text) == STRETTO_OK ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
    }
    const char *known = strcmp(role, "user") == 0 ? "user" : strcmp(role, "assistant") == 0 ? "assistant" : NULL;
    if (!known)
        return fail(err, STRETTO_E_UNSUP, "chat knows the roles system, user and assistant, not \"%.60s\"", role);
    stretto_status s = talk_add(t, known, text, strlen(text));
    return s == STRETTO_OK ? s : fail(err, s, "the conversation is too long");
}

static stretto_status take_list(struct talk *t, const json_t *list, struct error *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct error why = { 0 };
        stretto_status s = take_message(t, json_array_get(list, i), &why);
        if (s != STRETTO_OK) return fail(err, s, "message %zu: %s", i + 1, why.text);
    }
    return STRETTO_OK;
}

/* What stands before the messages; *parameters becomes the caller's. */
static stretto_status take_head(const json_t *head, json_t **parameters, struct error *err)
{
    const json_t *version = json_object_get(head, "stretto_chat");
    if (version && json_integer_value(version) != VERSION)
        return fail(err, STRETTO_E_UNSUP, "it was written by a newer version, whose format this version "
                                          "does not know");
    json_decref(*parameters);
    *parameters = json_incref(json_object_get(head, "parameters"));
    if (*parameters && !json_is_object(*parameters))
        return fail(err, STRETTO_E_FORMAT, "its \"parameters\" are no JSON object");
    return STRETTO_OK;
}

static stretto_status take_lines(struct talk *t, const char *text, size_t n, json_t **parameters,
                                 struct error *err)
{
    const char *at = text, *end = text + n;
    for (size_t number = 1; at < end; number++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((stop ? stop : end) - at);
        struct error why = { 0 };
        json_t *j = NULL;
        if (strspn(at, " \t\r\n") >= length) {
            at += length + 1;
            continue;
        }
        stretto_status s = json_tree(&j, at, length, JSON_TWICE_REFUSED, "its JSON", &why);
        if (s == STRETTO_OK)
            s = json_object_get(j, "stretto_chat") ? take_head(j, parameters, &why)
                                                   : take_message(t, j, &why);
        json_decref(j);
        if (s != STRETTO_OK) return fail(err, s, "line %zu: %s", number, why.text);
        at += length + 1;
    }
    return STRETTO_OK;
}

stretto_status talk_parse(struct talk *t, const char *text, size_t n, json_t **parameters,
                          struct error *err)
{
    struct error lines = { 0 };        /* what is no single value may be lines of them */
    json_t *whole = NULL;
    *parameters = NULL;
    json_tree(&whole, text, n, JSON_TWICE_REFUSED, "its JSON", &lines);
    const json_t *list = json_is_array(whole) ? whole : json_object_get(whole, "messages");
    stretto_status s = json_is_object(whole) && list ? take_head(whole, parameters, err) : STRETTO_OK;
    if (s == STRETTO_OK && list && !json_is_array(list))
        s = fail(err, STRETTO_E_FORMAT, "its \"messages\" are not a list");
    if (s == STRETTO_OK) s = list ? take_list(t, list, err) : take_lines(t, text, n, parameters, err);
    json_decref(whole);
    if (s == STRETTO_OK) return s;
    json_decref(*parameters);
    *parameters = NULL;
    return s;
}

stretto_status talk_load(struct talk *t, const char *path, json_t **parameters, struct error *err)
{
    struct file_map map;
    struct error why = { 0 };
    *parameters = NULL;
    if (ends_with(path, ".md"))
        return fail(err, STRETTO_E_UNSUP, "%s is Markdown, which is for reading only: save conversations "
                                          "under other names to load them again", path);
    TRY(file_map_open(&map, path, err));
    char *text = mem_strndup(map.size ? (const char *)map.data : "", map.size);   /* with a NUL, for strspn */
    stretto_status s = text ? talk_parse(t, text, map.size, parameters, &why)
                            : fail(&why, STRETTO_E_NOMEM, "out of memory");
    mem_free(text);
    file_map_close(&map);
    return s == STRETTO_OK ? s : fail(err, s, "%s: %s", path, why.text);
}
