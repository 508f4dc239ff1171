#include "eval/answers.h"
#include "base/memory.h"
#include "engine/writers.h"
#include "text/tokenizer.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

void answers_done(struct written *w, size_t n)
{
    for (size_t i = 0; i < n; i++) mem_free(w[i].id);
    memset(w, 0, n * sizeof *w);
}

struct writing {
    struct engine *e;
    struct writers w;
    const volatile int *cancel;
    const struct written *prompt;
    struct written *answer;
    size_t at[ANSWERS_SEQUENCES], next, done, n;
    uint32_t limit;
};

static bool ends(const void *tokenizer, int32_t id) { return tokenizer_is_eog(tokenizer, id); }

/* The next prompt goes to writer k. */
static stretto_status begin(struct writing *x, uint32_t k, struct error *err)
{
    struct plain_writer *w = &x->w.w[k];
    const struct written *p = &x->prompt[x->next];
    uint32_t id;
    if (!p->n || p->n + x->limit > engine_about(x->e)->context)
        return fail(err, STRETTO_E_ARG, "a prompt of %u tokens and an answer of %u; the context allows %u together",
                    p->n, x->limit, engine_about(x->e)->context);
    engine_set(x->e, w->seq, p->id, p->n, 0);
    writer_begin(w->writer);
    writer_limit(w->writer, p->n + x->limit, ends, engine_model(x->e)->tokenizer);
    x->at[k] = x->next++;
    struct request r = { .seq = w->seq, .writer = w->writer, .cancel = x->cancel ? engine_flag_set : NULL,
                         .ud = (void *)(uintptr_t)x->cancel };
    return request_add(x->e, &r, &id, err);
}

static stretto_status take(struct writing *x, uint32_t k, struct error *err)
{
    int32_t seq = x->w.w[k].seq;
    const struct written *p = &x->prompt[x->at[k]];
    struct written *out = &x->answer[x->at[k]];
    const int32_t *all = engine_tokens(x->e, seq);
    out->n = engine_known(x->e, seq) - p->n;
    if (out->n && ends(engine_model(x->e)->tokenizer, all[p->n + out->n - 1])) out->n--;
    out->id = mem_alloc((out->n + 1) * sizeof *out->id);
    if (!out->id) return fail(err, STRETTO_E_NOMEM, "out of memory");
    memcpy(out->id, all + p->n, out->n * sizeof *out->id);
    x->done++;
    return STRETTO_OK;
}

static stretto_status turn(struct writing *x, struct error *err)
{
    size_t n;
    TRY(engine_turn(x->e, x->w.events, x->w.n, &n, err));
    for (size_t i = 0; i < n; i++) {
        const struct event *v = &x->w.events[i];
        if (v->error.status != STRETTO_OK) return fail(err, v->error.status, "%s", v->error.text);
        if (!v->done) continue;
        uint32_t k = writers_find(&x->w, v->seq);
        TRY(take(x, k, err));
        if (x->next < x->n) TRY(begin(x, k, err));
    }
    return STRETTO_OK;
}

stretto_status answers_write(struct engine *e, const struct written *prompt, size_t n, uint32_t limit,
                             const volatile int *cancel, const struct progress *progress, struct written *answer,
                             struct error *err)
{
    struct writing x = { .e = e, .cancel = cancel, .prompt = prompt, .answer = answer, .n = n, .limit = limit };
    memset(answer, 0, n * sizeof *answer);
    if (engine_model(e)->graph.logits == GRAPH_NONE)
        return fail(err, STRETTO_E_UNSUP, "this model is an encoder; it does not write");
    uint32_t writers = engine_about(e)->sequences;
    if (writers > ANSWERS_SEQUENCES) writers = ANSWERS_SEQUENCES;
    stretto_status s = writers_open(e, &x.w, writers, err);
    for (uint32_t k = 0; k < writers && x.next < n && s == STRETTO_OK; k++) s = begin(&x, k, err);
    for (size_t said = n; x.done < n && s == STRETTO_OK;) {
        if (said != x.done) progress_tell(progress, "tasks", said = x.done, n);
        s = turn(&x, err);
    }
    if (s == STRETTO_OK) progress_tell(progress, "tasks", n, n);
    requests_drop(e);
    writers_close(e, &x.w);
    if (s != STRETTO_OK) answers_done(answer, n);
    return s;
}

/* ---- what is right ---------------------------------------------------------------------------- */

static bool digit(char c) { return c >= '0' && c <= '9'; }

int answer_number(const char *text, const char *until, double *out)
{
    const char *end = until && *until ? strstr(text, until) : NULL;
    size_t n = end ? (size_t)(end - text) : strlen(text);
    bool found = false;
    for (size_t i = 0; i < n;) {
        char word[64];
        size_t k = 0;
        bool point = false;
        if (!digit(text[i])) {
            i++;
            continue;
        }
        if (i && text[i - 1] == '-' && (i < 2 || !isalnum((unsigned char)text[i - 2]))) word[k++] = '-';
        for (; i < n && k + 1 < sizeof word; i++) {
            bool inside = i + 1 < n && digit(text[i + 1]);
            if (digit(text[i])) word[k++] = text[i];
            else if (text[i] == '.' && inside && !point) {
                word[k++] = '.';
                point = true;
            } else if (!(text[i] == ',' && inside)) break;
        }
        while (i < n && digit(text[i])) i++;
        word[k] = '\0';
        *out = strtod(word, NULL);
        found = true;
    }
    return found;
}

void answer_sql(const char *text, char *out, size_t n)
{
    const char *fence = strstr(text, "```");
    size_t k = 0;
    if (fence) {
        text = fence + 3;
        while (isalpha((unsigned char)*text)) text++;
    }
    const char *stop = fence ? strstr(text, "```") : NULL;
    for (; *text && *text != ';' && text != stop && k + 1 < n; text++) {
        bool blank = isspace((unsigned char)*text);
        if (!blank) out[k++] = *text;
        else if (k && out[k - 1] != ' ') out[k++] = ' ';
    }
    while (k && out[k - 1] == ' ') k--;
    out[k] = '\0';
}

/* The next character that counts, at *p, which moves on; 0 at the end. *quote: the one that is open. */
static char sql_next(const char **p, char *quote, char last)
{
    while (!*quote && isspace((unsigned char)**p)) {
        const char *q = *p;
        while (isspace((unsigned char)*q)) q++;
        bool word = (isalnum((unsigned char)last) || last == '_') && (isalnum((unsigned char)*q) || *q == '_');
        *p = q;
        if (word) return ' ';
    }
    char c = **p;
    if (!c || c == ';') return 0;
    ++*p;
    if (*quote) *quote = c == *quote ? 0 : *quote;
    else if (c == '\'' || c == '"') *quote = c;
    if (c == '"') return '\'';
    return *quote ? c : (char)tolower((unsigned char)c);
}

int sql_same(const char *a, const char *b)
{
    char qa = 0, qb = 0, last = 0;
    for (;;) {
        char x = sql_next(&a, &qa, last), y = sql_next(&b, &qb, last);
        if (x != y) return 0;
        if (!x) return 1;
        last = x;
    }
}
