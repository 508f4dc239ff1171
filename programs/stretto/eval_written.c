/* stretto eval gsm8k|spider: questions that are answered by writing. */
#include "base/file.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "engine/engine.h"
#include "eval/answers.h"
#include "eval/tasks.h"
#include "stretto/eval_command.h"
#include "stretto/experimental.h"
#include "stretto/prompts.h"
#include "text/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SQL_MAX = 4096 };

struct question {
    json_t *line;                       /* as the file has it                       */
    char *asked;                        /* what the model is asked                  */
    char *answer;                       /* what it wrote; malloc'd, of each model   */
    uint32_t tokens;                    /* of the answer                            */
    bool right;
};

struct questions { struct question *v; size_t n; json_t *tables; bool sql; };

static void questions_done(struct questions *q)
{
    for (size_t i = 0; i < q->n; i++) {
        json_decref(q->v[i].line);
        free(q->v[i].asked);
        free(q->v[i].answer);
    }
    json_decref(q->tables);
    free(q->v);
    *q = (struct questions){ 0 };
}

static const char *word_of(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

/* ---- what is asked --------------------------------------------------------------------------- */

/* The tables of a database as statements that make them; 0 where it is not described. */
static bool describe(FILE *f, const json_t *tables, const char *id)
{
    size_t i, t, c;
    json_t *db, *table, *column;
    json_array_foreach(tables, i, db) {
        if (strcmp(word_of(db, "db_id"), id)) continue;
        json_array_foreach(json_object_get(db, "table_names_original"), t, table) {
            const char *comma = "";
            fprintf(f, "CREATE TABLE %s (", json_string_value(table) ? json_string_value(table) : "");
            json_array_foreach(json_object_get(db, "column_names_original"), c, column) {
                const char *name = json_string_value(json_array_get(column, 1));
                if (json_integer_value(json_array_get(column, 0)) != (json_int_t)t || !name) continue;
                fprintf(f, "%s%s", comma, name);
                comma = ", ";
            }
            fputs(");\n", f);
        }
        return true;
    }
    return false;
}

static stretto_status ask(struct question *q, const struct questions *all, bool chat, struct error *err)
{
    size_t n;
    const char *question = word_of(q->line, "question");
    if (!*question) return fail(err, STRETTO_E_FORMAT, "it has no \"question\"");
    if (!*word_of(q->line, all->sql ? "query" : "answer"))
        return fail(err, STRETTO_E_FORMAT, "it has no \"%s\"", all->sql ? "query" : "answer");
    FILE *f = open_memstream(&q->asked, &n);
    if (!f) return fail(err, STRETTO_E_NOMEM, "out of memory");
    bool known = !all->sql || describe(f, all->tables, word_of(q->line, "db_id"));
    if (all->sql && chat)
        fprintf(f, "\nWrite one SQLite statement that answers this question, and nothing else: %s", question);
    else if (all->sql) fprintf(f, "\n-- %s\n", question);
    else if (chat)
        fprintf(f, "%s\n\nThink step by step. End with the answer as a number.", question);
    else fprintf(f, "Question: %s\nAnswer:", question);
    if (fclose(f)) return fail(err, STRETTO_E_NOMEM, "out of memory");
    return known ? STRETTO_OK
                 : fail(err, STRETTO_E_FORMAT, "--tables does not describe its database '%s'",
                        word_of(q->line, "db_id"));
}

static stretto_status add_line(struct questions *q, const char *p, size_t n, bool chat, struct error *err)
{
    if (q->n == TASKS_MAX) return fail(err, STRETTO_E_FORMAT, "there are more than %d questions", TASKS_MAX);
    struct question *v = realloc(q->v, (q->n + 1) * sizeof *v);
    if (!v) return fail(err, STRETTO_E_NOMEM, "out of memory");
    q->v = v;
    v[q->n] = (struct question){ 0 };
    TRY(json_tree(&v[q->n].line, p, n, JSON_TWICE_REFUSED, "the line", err));
    return ask(&v[q->n++], q, chat, err);
}

static int read_file(const struct eval_options *o, struct questions *q, const char *path, size_t most,
                     bool chat)
{
    size_t n, number = 1;
    char *text = read_text(o->by, path, &n);
    int code = text ? EXIT_DONE : EXIT_FAILED;
    for (const char *p = text, *end = text + n; code == EXIT_DONE && p < end && (!most || q->n < most); number++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t length = (size_t)((stop ? stop : end) - p);
        struct error why = { 0 }, err = { 0 };
        stretto_status s = length > strspn(p, " \t\r") || (length && p[0] == '{') ? add_line(q, p, length, chat, &why)
                                                                                  : STRETTO_OK;
        if (s != STRETTO_OK)
            code = command_fail(o->by, fail(&err, s, "%s, line %zu: %s", file_name(path), number, why.text), err.text);
        p += length + 1;
    }
    free(text);
    return code;
}

static int read_tables(struct questions *q, const struct eval_options *o)
{
    size_t n;
    struct error err = { 0 };
    if (!o->tables) return command_usage(o->by, "spider needs --tables FILE, which describes the databases");
    char *text = read_text(o->by, o->tables, &n);
    if (!text) return EXIT_FAILED;
    stretto_status s = json_tree(&q->tables, text, n, JSON_TWICE_LAST, file_name(o->tables), &err);
    free(text);
    return s == STRETTO_OK ? EXIT_DONE : command_fail(o->by, s, err.text);
}

/* ---- writing --------------------------------------------------------------------------------- */

static bool has_template(const stretto_model *m)
{
    const char *text;
    size_t n;
    const struct tokenizer *t = stretto_model_inside(m)->tokenizer;
    return t && tokenizer_chat_template(t, false, &text, &n);
}

static int encode(const struct eval_options *o, const struct questions *q, const stretto_model *m,
                  struct written *prompt, uint32_t *longest)
{
    bool chat = has_template(m);
    for (size_t i = 0; i < q->n; i++) {
        size_t n;
        prompt[i].id = chat ? chat_ids(o->by, m, NULL, q->v[i].asked, false, &n)
                            : text_ids(o->by, m, q->v[i].asked, strlen(q->v[i].asked), STRETTO_TOKENIZE_ADD, &n);
        if (!prompt[i].id) return EXIT_FAILED;
        prompt[i].n = (uint32_t)n;
        if (n > *longest) *longest = (uint32_t)n;
    }
    return EXIT_DONE;
}

static char *text_of(const stretto_model *m, const struct written *w)
{
    size_t n = 0;
    stretto_detokenize(m, w->id, w->n, NULL, 0, &n);
    char *text = calloc(n + 1, 1);
    if (text && w->n && stretto_detokenize(m, w->id, w->n, text, n + 1, &n) != STRETTO_OK) *text = '\0';
    return text;
}

static void judge(struct question *q, bool sql)
{
    char own[SQL_MAX];
    double want, got;
    if (sql) {
        answer_sql(q->answer, own, sizeof own);
        q->right = sql_same(own, word_of(q->line, "query"));
    } else {
        const char *mark = strstr(word_of(q->line, "answer"), "####");
        q->right = mark && answer_number(mark, NULL, &want) && answer_number(q->answer, "\nQuestion:", &got)
                   && !(got < want) && !(got > want);
    }
}

static int write_answers(struct questions *q, const struct eval_options *o, struct measured *x,
                         const struct written *prompt)
{
    struct ui_progress ui;
    struct error err = { 0 };
    struct written *answer = calloc(q->n, sizeof *answer);
    if (!answer) return command_fail(o->by, STRETTO_E_NOMEM, NULL);
    ui_progress_init(&ui, o->quiet ? NULL : stderr);
    ui.items = true;
    struct progress hook = ui_progress_hook(&ui);
    stretto_status s =
        answers_write(x->engine, prompt, q->n, (uint32_t)o->predict, &interrupted, &hook, answer, &err);
    ui_progress_break(&ui);
    for (size_t i = 0; i < q->n && s == STRETTO_OK; i++) {
        q->v[i].tokens = answer[i].n;
        if (!(q->v[i].answer = text_of(x->model, &answer[i]))) s = fail(&err, STRETTO_E_NOMEM, "out of memory");
        else judge(&q->v[i], q->sql);
    }
    answers_done(answer, q->n);
    free(answer);
    return s == STRETTO_OK ? EXIT_DONE : command_fail(o->by, s, err.text);
}

/* Reads the questions as this model is asked, and answers them. */
static int answer_all(struct questions *q, const struct eval_options *o, const struct model_options *m, bool sql)
{
    struct measured x = { 0 };
    struct written *prompt = NULL;
    uint32_t longest = 0;
    q->sql = sql;
    int code = sql ? read_tables(q, o) : EXIT_DONE;
    if (code == EXIT_DONE) code = open_model(o->by, m, false, &x.model);
    for (size_t i = 0; i < o->files.n && code == EXIT_DONE; i++)
        code = read_file(o, q, o->files.v[i], (size_t)o->tasks, has_template(x.model));
    if (code == EXIT_DONE && !q->n) code = command_fail(o->by, STRETTO_E_FORMAT, "there are no questions");
    if (code == EXIT_DONE && !(prompt = calloc(q->n, sizeof *prompt)))
        code = command_fail(o->by, STRETTO_E_NOMEM, NULL);
    if (code == EXIT_DONE) code = encode(o, q, x.model, prompt, &longest);
    uint32_t context = longest + (uint32_t)o->predict;
    if (code == EXIT_DONE) code = measured_open(&x, o->by, m, context, ANSWERS_SEQUENCES, 8192 + 8 * context);
    if (code == EXIT_DONE) code = write_answers(q, o, &x, prompt);
    for (size_t i = 0; prompt && i < q->n; i++) free(prompt[i].id);
    free(prompt);
    measured_close(&x);
    return code;
}

/* ---- what came of it -------------------------------------------------------------------------- */

/* What a model wrote need be no UTF-8, and JSON is. */
static json_t *repaired(const char *text)
{
    struct buffer b = buffer_make(1 << 24);
    json_t *j = utf8_repair(&b, text, strlen(text)) == STRETTO_OK ? json_stringn(b.len ? b.data : "", b.len) : NULL;
    buffer_done(&b);
    return j;
}

static int write_each(const struct eval_options *o, const struct questions *q)
{
    char *text = NULL, sql[SQL_MAX];
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    for (size_t i = 0; f && i < q->n; i++) {
        const struct question *v = &q->v[i];
        json_t *j = json_copy(v->line);
        if (q->sql) {
            answer_sql(v->answer, sql, sizeof sql);
            json_object_set_new(j, "predicted", repaired(sql));
        }
        json_object_set_new(j, "asked", json_string(v->asked));
        json_object_set_new(j, "written", repaired(v->answer));
        json_object_set_new(j, "tokens", json_integer(v->tokens));
        json_object_set_new(j, "right", json_boolean(v->right));
        json_dumpf(j, f, JSON_COMPACT);
        fputc('\n', f);
        json_decref(j);
    }
    struct error err = { 0 };
    stretto_status s = f && fclose(f) == 0 ? file_write(o->output, text, n, o->force, &err)
                                           : fail(&err, STRETTO_E_NOMEM, "out of memory");
    free(text);
    return s == STRETTO_OK ? EXIT_DONE : command_fail(o->by, s, err.text);
}

static int tell(const struct eval_options *o, const struct questions *own, const struct questions *base,
                json_t **out)
{
    bool *right = calloc(2 * own->n, sizeof *right);
    size_t flips = 0;
    if (!right) return command_fail(o->by, STRETTO_E_NOMEM, NULL);
    for (size_t i = 0; i < own->n; i++) {
        right[i] = own->v[i].right;
        right[own->n + i] = base->n == own->n && base->v[i].right;
        flips += base->n == own->n && strcmp(own->v[i].answer, base->v[i].answer) != 0;
    }
    *out = share_figures(right, own->n);
    if (base->n == own->n) share_compare(*out, right, right + own->n, own->n, flips);
    free(right);
    return EXIT_DONE;
}

int eval_written(const struct eval_options *o, const char *name, json_t **out)
{
    struct questions own = { 0 }, base = { 0 };
    struct model_options m = o->model;
    bool sql = strcmp(name, "spider") == 0;
    if (!o->files.n) return command_usage(o->by, "the questions are missing: -f FILE");
    int code = o->output ? can_create(o->by, "--output", o->output, o->force) : EXIT_DONE;
    if (code == EXIT_DONE) code = answer_all(&own, o, &o->model, sql);
    m.model = o->base;
    m.hf = NULL;
    if (code == EXIT_DONE && o->base) code = answer_all(&base, o, &m, sql);
    if (code == EXIT_DONE && o->output) code = write_each(o, &own);
    if (code == EXIT_DONE) code = tell(o, &own, &base, out);
    questions_done(&own);
    questions_done(&base);
    return code;
}

int eval_written_check(const struct eval_options *o, const char *name)
{
    struct questions q = { .sql = strcmp(name, "spider") == 0 };
    int code = q.sql ? read_tables(&q, o) : EXIT_DONE;
    for (size_t i = 0; i < o->files.n && code == EXIT_DONE; i++)
        code = read_file(o, &q, o->files.v[i], (size_t)o->tasks, false);
    if (code == EXIT_DONE && !q.n) code = command_fail(o->by, STRETTO_E_FORMAT, "there are no questions");
    questions_done(&q);
    return code;
}
