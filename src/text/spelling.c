#include "text/spelling.h"
#include "base/memory.h"
#include <string.h>

stretto_status spelling_add(struct spelling_steps *s, const char *from, size_t n_from, const char *to,
                            size_t n_to, struct error *err)
{
    if (s->n == SPELLING_STEPS)
        return fail(err, STRETTO_E_FORMAT, "tokenizer.json: the decoder replaces more than %d strings",
                    SPELLING_STEPS);
    if (!n_from || n_from > SPELLING_FROM)
        return fail(err, STRETTO_E_UNSUP, "tokenizer.json: the decoder replaces a string of %zu bytes, of "
                    "which this version takes 1 to %d: use a GGUF file of the model", n_from, SPELLING_FROM);
    struct spelling_step *k = &s->step[s->n];
    k->from = mem_alloc(n_from);
    k->to = mem_alloc(n_to + 1);
    s->n++;
    if (!k->from || !k->to) return fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
    memcpy(k->from, from, n_from);
    if (n_to) memcpy(k->to, to, n_to);
    k->n_from = n_from;
    k->n_to = n_to;
    return STRETTO_OK;
}

void spelling_done(struct spelling_steps *s)
{
    for (size_t i = 0; i < s->n; i++) {
        mem_free(s->step[i].from);
        mem_free(s->step[i].to);
    }
    s->n = 0;
}

static stretto_status give(const struct spelling_steps *s, struct spelling_chain *c, size_t at, char byte,
                           struct buffer *out);

/* The first byte that waits is no beginning of a match. */
static stretto_status let_go(const struct spelling_steps *s, struct spelling_chain *c, size_t at,
                             struct buffer *out)
{
    unsigned char *held = c->held[at];
    char byte = (char)held[0];
    memmove(held, held + 1, (size_t)--c->n[at]);
    return give(s, c, at + 1, byte, out);
}

static stretto_status give(const struct spelling_steps *s, struct spelling_chain *c, size_t at, char byte,
                           struct buffer *out)
{
    if (at == s->n) return buffer_append(out, &byte, 1);
    const struct spelling_step *k = &s->step[at];
    c->held[at][c->n[at]++] = (unsigned char)byte;
    while (c->n[at] && memcmp(c->held[at], k->from, c->n[at])) TRY(let_go(s, c, at, out));
    if (c->n[at] < k->n_from) return STRETTO_OK;
    c->n[at] = 0;
    for (size_t i = 0; i < k->n_to; i++) TRY(give(s, c, at + 1, k->to[i], out));
    return STRETTO_OK;
}

stretto_status spelling_push(const struct spelling_steps *s, struct spelling_chain *c, const char *p, size_t n,
                             struct buffer *out)
{
    if (!s->n) return buffer_append(out, p, n);
    for (size_t i = 0; i < n; i++) TRY(give(s, c, 0, p[i], out));
    return STRETTO_OK;
}

stretto_status spelling_end(const struct spelling_steps *s, struct spelling_chain *c, struct buffer *out)
{
    for (size_t at = 0; at < s->n; at++)
        while (c->n[at]) TRY(let_go(s, c, at, out));
    return STRETTO_OK;
}
