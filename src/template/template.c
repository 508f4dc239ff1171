#include "template/template_int.h"
#include "base/memory.h"
#include <string.h>

stretto_status template_compile(struct template **out, const char *text, size_t n,
                                struct error *err)
{
    stretto_status s;
    struct token *tok;
    size_t n_tok;
    struct render r = { .err = err, .line = 1, .pool = { .max = TEMPLATE_TREE_MAX } };
    *out = NULL;
    if (n > TEMPLATE_SOURCE_MAX)
        return fail(err, STRETTO_E_FULL,
                    "a chat template of %zu bytes is refused: the limit is %zu bytes", n,
                    TEMPLATE_SOURCE_MAX);
    if (!tmpl_valid(text, n))
        return fail(err, STRETTO_E_FORMAT, "the chat template is not UTF-8 text");
    struct template *t = mem_zalloc(1, sizeof *t);
    if (!t) return fail(err, STRETTO_E_NOMEM, "out of memory for a chat template");
    s = tmpl_lex(&r, text, n, &tok, &n_tok);
    if (!s) s = tmpl_parse(&r, t, tok);
    t->pool = r.pool;
    if (s) { template_free(t); return s; }
    *out = t;
    return STRETTO_OK;
}

void template_free(struct template *t)
{
    if (!t) return;
    tmpl_pool_done(&t->pool);
    mem_free(t);
}

static stretto_status give(const struct render *r, struct buffer *out, struct buffer *content,
                           struct error *err)
{
    stretto_status s = buffer_reserve(out, r->out.len);
    if (s == STRETTO_OK && content)
        s = buffer_append(content, r->marks.data ? r->marks.data : "", r->marks.len);
    if (s == STRETTO_OK) s = buffer_append(out, r->out.data ? r->out.data : "", r->out.len);
    if (s == STRETTO_OK) return s;
    return fail(err, s, s == STRETTO_E_FULL ? "the rendered chat template does not fit (%zu bytes)"
                                            : "out of memory for a prompt of %zu bytes", r->out.len);
}

stretto_status template_render(const struct template *t, const struct template_input *in,
                               struct buffer *out, struct buffer *content, struct error *err)
{
    struct render r = { .err = err, .line = 1, .t = t, .now = in->now, .track = content != NULL,
                        .pool = { .max = TEMPLATE_VALUES_MAX },
                        .out = buffer_make(TEMPLATE_OUTPUT_MAX),
                        .marks = buffer_make(TEMPLATE_OUTPUT_MAX) };
    stretto_status s = tmpl_variables(&r, in);
    if (!s) s = tmpl_run(&r);
    if (!s) s = give(&r, out, content, err);
    buffer_done(&r.out);
    buffer_done(&r.marks);
    tmpl_pool_done(&r.pool);
    return s;
}
