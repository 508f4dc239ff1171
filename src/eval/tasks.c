#include "eval/tasks.h"
#include "base/buffer.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include <stdbool.h>
#include <string.h>

static void task_done(struct eval_task *t)
{
    mem_free(t->question);
    for (size_t i = 0; i < TASK_CHOICES; i++) mem_free(t->choice[i]);
}

void eval_tasks_done(struct eval_tasks *t)
{
    for (size_t i = 0; i < t->n; i++) task_done(&t->v[i]);
    mem_free(t->v);
    *t = (struct eval_tasks){ 0 };
}

struct piece { const char *p; size_t n; };

/* One more task; what cannot be asked is refused. */
static stretto_status add(struct eval_tasks *t, struct piece question, const struct piece *choice, uint32_t n,
                          uint32_t right, struct error *err)
{
    if (right >= n) return fail(err, STRETTO_E_FORMAT, "the right answer is number %u of %u", right, n);
    if (!question.n) return fail(err, STRETTO_E_FORMAT, "the question is empty");
    for (uint32_t i = 0; i < n; i++)
        if (!choice[i].n) return fail(err, STRETTO_E_FORMAT, "answer %u is empty", i);
    if (t->n == TASKS_MAX) return fail(err, STRETTO_E_FORMAT, "there are more than %d tasks", TASKS_MAX);
    if (!(t->n & (t->n - 1))) {                             /* room for the next power of two */
        struct eval_task *v = mem_resize(t->v, (t->n ? 2 * t->n : 1) * sizeof *v);
        if (!v) return fail(err, STRETTO_E_NOMEM, "out of memory");
        t->v = v;
    }
    struct eval_task *x = &t->v[t->n++];
    *x = (struct eval_task){ .question = mem_strndup(question.p, question.n), .n = n, .right = right };
    bool ok = x->question;
    for (uint32_t i = 0; i < n; i++) ok &= (x->choice[i] = mem_strndup(choice[i].p, choice[i].n)) != NULL;
    return ok ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
}

/* The line at *at, without its end; false behind the last. */
static bool line_next(const char **at, const char *end, struct piece *line)
{
    if (*at >= end) return false;
    const char *stop = memchr(*at, '\n', (size_t)(end - *at));
    *line = (struct piece){ *at, (size_t)((stop ? stop : end) - *at) };
    *at = stop ? stop + 1 : end;
    return true;
}

static bool blank(struct piece p)
{
    for (size_t i = 0; i < p.n; i++)
        if (!strchr(" \t\r", p.p[i]) || !p.p[i]) return false;
    return true;
}

static stretto_status in_line(const char *where, size_t line, stretto_status s, const struct error *why,
                              struct error *err)
{
    return s == STRETTO_OK ? s : fail(err, s, "%s, line %zu: %s", where, line, why->text);
}

/* ---- HellaSwag ------------------------------------------------------------------------------- */

static stretto_status hellaswag_one(struct eval_tasks *t, const struct piece *line, struct error *err)
{
    if (line[1].n < 1 || line[1].p[0] < '0' || line[1].p[0] > '3' || (line[1].n > 1 && line[1].p[1] != '\r'))
        return fail(err, STRETTO_E_FORMAT, "the second of six lines is the number of the right ending, 0 to 3");
    return add(t, line[0], line + 2, 4, (uint32_t)(line[1].p[0] - '0'), err);
}

stretto_status eval_tasks_hellaswag(struct eval_tasks *t, const char *text, size_t n, const char *where,
                                    struct error *err)
{
    const char *at = text, *end = text + n;
    struct piece line[6];
    size_t number = 0;
    while (at < end) {
        size_t k = 0;
        struct error why = { 0 };
        while (k < 6 && line_next(&at, end, &line[k])) k++;
        if (k < 6)
            return fail(err, STRETTO_E_FORMAT, "%s: each task has six lines; behind line %zu stand %zu", where, number,
                        k);
        TRY(in_line(where, number + 1, hellaswag_one(t, line, &why), &why, err));
        number += 6;
    }
    return t->n ? STRETTO_OK : fail(err, STRETTO_E_FORMAT, "%s has no tasks", where);
}

/* ---- PIQA ------------------------------------------------------------------------------------ */

static struct piece member(const json_t *j, const char *key)
{
    const json_t *v = json_object_get(j, key);
    const char *p = json_string_value(v);
    return p ? (struct piece){ p, strlen(p) } : (struct piece){ 0 };
}

static stretto_status asked(struct eval_tasks *t, struct piece goal, const struct piece *choice, uint32_t n,
                            uint32_t right, struct error *err)
{
    struct buffer b = buffer_make(TASK_TEXT_MAX);
    stretto_status s = goal.n ? STRETTO_OK : fail(err, STRETTO_E_FORMAT, "the question is empty");
    if (s == STRETTO_OK
            && (buffer_str(&b, "Question: ") || buffer_append(&b, goal.p, goal.n) || buffer_str(&b, "\nAnswer:")))
        s = fail(err, STRETTO_E_NOMEM, "no memory for the question, or it is longer than %d bytes", TASK_TEXT_MAX);
    if (s == STRETTO_OK) s = add(t, (struct piece){ b.data, b.len }, choice, n, right, err);
    buffer_done(&b);
    return s;
}

static stretto_status piqa_one(struct eval_tasks *t, struct piece line, struct error *err)
{
    json_t *j;
    TRY(json_tree(&j, line.p, line.n, JSON_TWICE_REFUSED, "the line", err));
    const struct piece choice[2] = { member(j, "sol1"), member(j, "sol2") };
    const json_t *label = json_object_get(j, "label");
    json_int_t right = json_integer_value(label);
    stretto_status s =
        json_is_integer(label) && (right == 0 || right == 1)
            ? asked(t, member(j, "goal"), choice, 2, (uint32_t)right, err)
            : fail(err, STRETTO_E_FORMAT, "\"label\" is neither 0 nor 1");
    json_decref(j);
    return s;
}

stretto_status eval_tasks_piqa(struct eval_tasks *t, const char *text, size_t n, const char *where, struct error *err)
{
    const char *at = text, *end = text + n;
    struct piece line;
    for (size_t number = 1; line_next(&at, end, &line); number++) {
        struct error why = { 0 };
        if (!blank(line)) TRY(in_line(where, number, piqa_one(t, line, &why), &why, err));
    }
    return t->n ? STRETTO_OK : fail(err, STRETTO_E_FORMAT, "%s has no tasks", where);
}

/* ---- MMLU ------------------------------------------------------------------------------------ */

/* Whether a quote before p ends its field: also files count that do not double the quotes of their texts. */
static bool closes(const char *p, const char *end)
{
    return p == end || *p == '\n' || *p == '\r' || (*p == ',' && (p + 1 == end || p[1] != ' '));
}

/* A field of CSV (RFC 4180) at *at into b, quotes undone; *last: it ends its record. False: a quote is open. */
static bool field_next(const char **at, const char *end, size_t *line, struct buffer *b, bool *last)
{
    const char *p = *at;
    bool quoted = p < end && *p == '"';
    if (quoted) p++;
    for (; p < end; p++) {
        if (*p == '\n') ++*line;
        if (quoted && *p == '"') {
            bool two = p + 1 < end && p[1] == '"';
            if (!two && closes(p + 1, end)) {
                quoted = false;
                continue;
            }
            if (two) p++;
            if (two && closes(p + 1, end)) quoted = false;
        } else if (!quoted && (*p == ',' || *p == '\n')) break;
        if (!(*p == '\r' && !quoted) && buffer_append(b, p, 1) != STRETTO_OK) return false;
    }
    *last = p == end || *p == '\n';
    *at = p < end ? p + 1 : end;
    return !quoted;
}

enum { CSV_FIELDS = 6 };

static stretto_status record_next(const char **at, const char *end, size_t *line, struct buffer *field,
                                  struct error *err)
{
    bool last = false;
    size_t i = 0;
    for (; i < CSV_FIELDS && !last; i++) {
        buffer_clear(&field[i]);
        if (!field_next(at, end, line, &field[i], &last))
            return fail(err, STRETTO_E_FORMAT, "a quote is not closed, or a field is longer than %d bytes",
                        TASK_TEXT_MAX);
    }
    return i == CSV_FIELDS && last
               ? STRETTO_OK
               : fail(err, STRETTO_E_FORMAT, "a task is question,A,B,C,D,answer: six fields");
}

static int right_of(const struct buffer *b)
{
    int c = b->len == 1 ? *b->data : 0;
    return c >= '0' && c <= '3' ? c - '0' : c >= 'A' && c <= 'D' ? c - 'A' : -1;
}

static struct piece whole(const struct buffer *b) { return (struct piece){ b->data, b->len }; }

static stretto_status mmlu_one(struct eval_tasks *t, const struct buffer *field, int letters, struct error *err)
{
    static const struct piece letter[4] = { { "A", 1 }, { "B", 1 }, { "C", 1 }, { "D", 1 } };
    const struct piece choice[4] = { whole(&field[1]), whole(&field[2]), whole(&field[3]), whole(&field[4]) };
    int right = right_of(&field[5]);
    if (right < 0) return fail(err, STRETTO_E_FORMAT, "the last field is the right answer, 0 to 3 or A to D");
    if (!letters) return asked(t, whole(&field[0]), choice, 4, (uint32_t)right, err);
    struct buffer b = buffer_make(8 * TASK_TEXT_MAX);
    stretto_status s = buffer_printf(&b, "%s", field[0].len ? field[0].data : "");
    for (size_t i = 0; i < 4 && s == STRETTO_OK; i++)
        s = buffer_printf(&b, "\n%s. %s", letter[i].p, choice[i].n ? choice[i].p : "");
    if (s == STRETTO_OK) s = buffer_str(&b, "\nAnswer:");
    s = s != STRETTO_OK ? fail(err, s, "out of memory") : add(t, whole(&b), letter, 4, (uint32_t)right, err);
    buffer_done(&b);
    return s;
}

stretto_status eval_tasks_mmlu(struct eval_tasks *t, const char *text, size_t n, int letters, const char *where,
                               struct error *err)
{
    const char *at = text, *end = text + n;
    struct buffer field[CSV_FIELDS];
    size_t line = 1, before = t->n;
    stretto_status s = STRETTO_OK;
    for (size_t i = 0; i < CSV_FIELDS; i++) field[i] = buffer_make(TASK_TEXT_MAX);
    while (s == STRETTO_OK && at < end) {
        size_t number = line;
        struct error why = { 0 };
        if (*at == '\n' || *at == '\r') {
            line += *at++ == '\n';
            continue;
        }
        s = record_next(&at, end, &line, field, &why);
        if (s == STRETTO_OK && number == 1 && right_of(&field[5]) < 0) continue;       /* the names of the fields */
        if (s == STRETTO_OK) s = mmlu_one(t, field, letters, &why);
        s = in_line(where, number, s, &why, err);
    }
    for (size_t i = 0; i < CSV_FIELDS; i++) buffer_done(&field[i]);
    if (s != STRETTO_OK) return s;
    return t->n > before ? s : fail(err, STRETTO_E_FORMAT, "%s has no tasks", where);
}

/* ---- drawing --------------------------------------------------------------------------------- */

/* Matsumoto, Nishimura 1998, doi 10.1145/272991.272995: MT19937. */
struct twister { uint32_t x[624]; size_t at; };

static void twister_seed(struct twister *t, uint32_t seed)
{
    t->x[0] = seed;
    for (uint32_t i = 1; i < 624; i++) t->x[i] = 1812433253u * (t->x[i - 1] ^ t->x[i - 1] >> 30) + i;
    t->at = 624;
}

static uint32_t twister_next(struct twister *t)
{
    if (t->at == 624) {
        for (size_t i = 0; i < 624; i++) {
            uint32_t y = (t->x[i] & 0x80000000u) | (t->x[(i + 1) % 624] & 0x7fffffffu);
            t->x[i] = t->x[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        t->at = 0;
    }
    uint32_t y = t->x[t->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* Below n, without bias (Lemire, arXiv 1805.10941), as libstdc++ does it. */
static uint32_t twister_below(struct twister *t, uint32_t n)
{
    uint64_t product = (uint64_t)twister_next(t) * n;
    if ((uint32_t)product < n)
        for (uint32_t least = -n % n; (uint32_t)product < least;) product = (uint64_t)twister_next(t) * n;
    return (uint32_t)(product >> 32);
}

stretto_status eval_tasks_draw(struct eval_tasks *t, size_t count, uint32_t seed, struct error *err)
{
    if (!count || count >= t->n) return STRETTO_OK;
    struct twister *r = mem_alloc(sizeof *r);
    struct eval_task *kept = mem_alloc(count * sizeof *kept);
    if (!r || !kept) {
        mem_free(r);
        mem_free(kept);
        return fail(err, STRETTO_E_NOMEM, "out of memory");
    }
    twister_seed(r, seed);
    for (size_t i = 0; i < count; i++) {
        size_t k = twister_below(r, (uint32_t)t->n);
        kept[i] = t->v[k];
        memmove(t->v + k, t->v + k + 1, (--t->n - k) * sizeof *t->v);
    }
    for (size_t i = 0; i < t->n; i++) task_done(&t->v[i]);
    mem_free(t->v);
    mem_free(r);
    *t = (struct eval_tasks){ kept, count };
    return STRETTO_OK;
}
