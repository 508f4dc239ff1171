/* What a recipe asks of lines. `stretto teach` itself reads them with all care; here it is seen early, and in words of
 * the recipe, what would make a chain of hours useless. */
#include "base/buffer.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json_tree.h"
#include "stretto/open.h"
#include "stretto/recipe.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUPS = 10 };                        /* phrases must occur in so many (train/phrases.h) */

struct seen {
    const struct recipe *r;
    uint64_t group[GROUPS];                  /* their names, as hashes */
    uint64_t bytes;                          /* a hash of all files    */
    size_t n_groups, lines, asked;
    FILE *prompts;                           /* NULL: nothing is written */
};

static const char *word(const json_t *j, const char *key) { return json_string_value(json_object_get(j, key)); }

/* ---- one line -------------------------------------------------------------------------------- */

static bool answers(const json_t *messages)
{
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const char *role = word(json_array_get(messages, i), "role");
        if (role && strcmp(role, "assistant") == 0) return true;
    }
    return false;
}

/* Why it does not fit, or NULL. */
static const char *odd(const struct recipe *r, const json_t *j)
{
    const json_t *messages = json_object_get(j, "messages");
    if (json_object_get(j, "format"))
        return "is of a file of 'stretto trace': a recipe makes such files itself, name the lines they came from";
    if (messages) return answers(messages) ? NULL : "has no answer: one of its messages must be the assistant's";
    if (json_object_get(j, "prompt"))
        return !r->prompts ? "is no conversation: a line is {\"messages\": [...]}"
               : json_object_get(j, "completion") ? NULL : "has no \"completion\"";
    if (json_object_get(j, "text")) return r->texts ? NULL : "is a text: a line must have a question and its answer";
    return "has neither \"messages\" nor \"prompt\"";
}

/* False: it has none. */
static bool note_group(struct seen *s, const json_t *j)
{
    const json_t *g = json_object_get(j, "group");
    json_int_t number = json_integer_value(g);
    if (!json_is_integer(g) && !json_is_string(g)) return false;
    uint64_t own = json_is_string(g) ? hash_bytes(1, json_string_value(g), json_string_length(g))
                                     : hash_bytes(2, &number, sizeof number);
    for (size_t i = 0; i < s->n_groups; i++)
        if (s->group[i] == own) return true;
    if (s->n_groups < GROUPS) s->group[s->n_groups++] = own;
    return true;
}

/* The question of a line that has one, of a user or as a text. */
static json_t *question(const json_t *j)
{
    const json_t *messages = json_object_get(j, "messages"), *first = json_array_get(messages, 0);
    const char *role = word(first, "role"), *text = word(first, "content"), *prompt = word(j, "prompt");
    if (messages && (json_array_size(messages) != 2 || !role || strcmp(role, "user") != 0)) return NULL;
    if (messages) return text ? json_pack("{s:s,s:b}", "prompt", text, "chat", 1) : NULL;
    return prompt ? json_pack("{s:s}", "prompt", prompt) : NULL;
}

static stretto_status write_question(struct seen *s, const json_t *j, struct error *err)
{
    json_t *q = question(j);
    if (!q) return STRETTO_OK;
    json_object_set_new(q, "id", json_sprintf("%zu", s->asked++));
    bool ok = json_dumpf(q, s->prompts, JSON_COMPACT) == 0 && fputc('\n', s->prompts) != EOF;
    json_decref(q);
    return ok ? STRETTO_OK : fail(err, STRETTO_E_IO, "the questions cannot be written");
}

static stretto_status look(struct seen *s, const char *line, size_t n, struct error *err)
{
    json_t *j;
    TRY(json_tree(&j, line, n, JSON_TWICE_LAST, "the line", err));
    const char *why = json_is_object(j) ? odd(s->r, j) : "is no object";
    bool grouped = note_group(s, j) || !s->r->grouped;
    s->lines++;
    stretto_status ok = why ? fail(err, STRETTO_E_FORMAT, "it %s", why)
                        : !grouped ? fail(err, STRETTO_E_FORMAT, "it has no \"group\", as the name of its database: "
                                          "what one group says alone is no phrase") : STRETTO_OK;
    if (ok == STRETTO_OK && s->prompts) ok = write_question(s, j, err);
    json_decref(j);
    return ok;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int look_through(struct seen *s, const char *path)
{
    size_t n, number = 0;
    char *text = read_text("teach", path, &n);
    int code = text ? EXIT_DONE : EXIT_FAILED;
    if (text) s->bytes = hash_bytes(s->bytes + 1, text, n);
    for (const char *p = text, *end = text + n; code == EXIT_DONE && p < end;) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t length = (size_t)((stop ? stop : end) - p);
        struct error why = { 0 }, err = { 0 };
        number++;
        if (strspn(p, " \t\r") < length && look(s, p, length, &why) != STRETTO_OK) {
            fail(&err, why.status, "%s, line %zu does not fit --recipe %s: %s", path, number, s->r->name, why.text);
            code = command_fail("teach", err.status, err.text);
        }
        p += length + 1;
    }
    free(text);
    return code;
}

static int look_through_all(struct seen *s, const struct teach_command *o)
{
    int code = EXIT_DONE;
    for (size_t i = 0; i < o->data.n && code == EXIT_DONE; i++) code = look_through(s, o->data.v[i]);
    return code;
}

int recipe_check(const struct recipe *r, const struct teach_command *o, uint64_t *bytes)
{
    struct seen s = { .r = r };
    struct error err = { 0 };
    int code = look_through_all(&s, o);
    *bytes = s.bytes;
    if (code != EXIT_DONE) return code;
    if (!s.lines) fail(&err, STRETTO_E_FORMAT, "there are no lines in the files of -d");
    else if (r->grouped && s.n_groups < GROUPS)
        fail(&err, STRETTO_E_FORMAT, "--recipe %s needs lines of at least %d groups (databases), and these have %zu: "
             "what fewer have in common is no phrase", r->name, GROUPS, s.n_groups);
    return err.status == STRETTO_OK ? EXIT_DONE : command_fail("teach", err.status, err.text);
}

int recipe_prompts(const struct teach_command *o)
{
    struct error err = { 0 };
    struct buffer path = buffer_make(1 << 13);
    struct seen s = { .r = &(struct recipe){ .name = o->recipe, .texts = true, .prompts = true } };
    char *text = NULL;
    size_t n = 0;
    s.prompts = open_memstream(&text, &n);
    int code = s.prompts ? look_through_all(&s, o) : command_fail("teach", STRETTO_E_NOMEM, NULL);
    bool whole = s.prompts && fclose(s.prompts) == 0;
    stretto_status ok = whole ? buffer_printf(&path, "%s/prompts.jsonl", o->out) : STRETTO_E_NOMEM;
    if (code == EXIT_DONE && ok == STRETTO_OK && !s.asked)
        ok = fail(&err, STRETTO_E_FORMAT, "no line has a single question that could be asked again: leave --on-policy "
                  "out");
    if (code == EXIT_DONE && ok == STRETTO_OK) ok = file_write(path.data, text, n, true, &err);
    free(text);
    buffer_done(&path);
    return code != EXIT_DONE || ok == STRETTO_OK ? code : command_fail("teach", ok, err.text);
}
