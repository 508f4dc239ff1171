#include "serve/thoughts.h"
#include <string.h>

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

void thoughts_begin(struct thoughts *t, const char *open, const char *close, bool inside)
{
    *t = (struct thoughts){ .open = open, .close = close, .at = inside ? THOUGHTS_FIRST : THOUGHTS_BEFORE };
}

/* Of white space and a tag: all of it is held, it may become that, or it cannot. */
enum likeness { WHOLE, BEGINNING, OTHER };

static enum likeness likeness(const struct thoughts *t, const char *tag)
{
    size_t i = 0, n = strlen(tag);
    while (i < t->n_held && is_space(t->held[i])) i++;
    size_t left = t->n_held - i;
    if (left > n || memcmp(t->held + i, tag, left) != 0) return OTHER;
    return left == n ? WHOLE : BEGINNING;
}

static stretto_status let_go(struct thoughts *t, size_t n, struct buffer *to)
{
    TRY(buffer_append(to, t->held, n));
    t->n_held -= n;
    memmove(t->held, t->held + n, t->n_held);
    return STRETTO_OK;
}

static stretto_status take_before(struct thoughts *t, struct buffer *said)
{
    enum likeness l = likeness(t, t->open);
    if (l == BEGINNING && t->n_held < THOUGHTS_HELD) return STRETTO_OK;
    t->at = l == WHOLE ? THOUGHTS_FIRST : THOUGHTS_OVER;
    if (l == WHOLE) t->n_held = 0;
    return let_go(t, t->n_held, said);
}

static stretto_status take_inside(struct thoughts *t, struct buffer *thought)
{
    while (t->n_held) {
        enum likeness l = likeness(t, t->close);
        if (l == WHOLE) {
            t->n_held = 0;
            t->at = THOUGHTS_BEHIND;
        } else if (l == OTHER || t->n_held == THOUGHTS_HELD) {
            bool skip = t->at == THOUGHTS_FIRST && is_space(t->held[0]);
            if (!skip) t->at = THOUGHTS_INSIDE;
            if (skip) memmove(t->held, t->held + 1, --t->n_held);
            else TRY(let_go(t, 1, thought));
        } else
            break;
    }
    return STRETTO_OK;
}

stretto_status thoughts_take(struct thoughts *t, const char *p, size_t n, struct buffer *thought, struct buffer *said)
{
    for (size_t i = 0; i < n; i++) {
        if (t->at == THOUGHTS_BEHIND && !is_space(p[i])) t->at = THOUGHTS_OVER;
        if (t->at == THOUGHTS_OVER) return buffer_append(said, p + i, n - i);
        if (t->at == THOUGHTS_BEHIND) continue;
        t->held[t->n_held++] = p[i];
        TRY(t->at == THOUGHTS_BEFORE ? take_before(t, said) : take_inside(t, thought));
    }
    return STRETTO_OK;
}

stretto_status thoughts_end(struct thoughts *t, struct buffer *thought, struct buffer *said)
{
    size_t n = t->n_held;
    if (t->at == THOUGHTS_BEFORE) return let_go(t, n, said);
    while (n && is_space(t->held[n - 1])) n--;
    if (t->at == THOUGHTS_FIRST || t->at == THOUGHTS_INSIDE) TRY(let_go(t, n, thought));
    t->n_held = 0;
    return STRETTO_OK;
}
