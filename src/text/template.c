#include "text/template_int.h"
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

/* The caller's variables come before the globals, and only names that the template mentions are
 * made. */
static stretto_status bind_context(struct render *r, json_t *vars)
{
    TRY(tmpl_take(r, r->t->n_names, sizeof *r->context, &r->context));
    for (size_t i = 0; i < r->t->n_names; i++) {
        const struct str *name = r->t->names[i];
        json_t *j = vars ? json_object_getn(vars, name->p, name->n) : NULL;
        const struct function *fn = tmpl_global(name);
        if (j) TRY(tmpl_from_json(r, j, 0, &r->context[i]));
        else if (fn) r->context[i] = (struct value){ .kind = T_FUNCTION, .fn = fn };
    }
    return STRETTO_OK;
}

stretto_status template_render(const struct template *t, json_t *vars, time_t now,
                               struct buffer *out, struct error *err)
{
    struct render r = { .err = err, .line = 1, .t = t, .now = now, .pool = { .max = TEMPLATE_VALUES_MAX },
                        .out = buffer_make(TEMPLATE_OUTPUT_MAX) };
    if (vars && !json_is_object(vars))
        return fail(err, STRETTO_E_ARG, "the variables of a chat template must be a JSON object");
    stretto_status s = bind_context(&r, vars);
    if (!s) s = tmpl_run(&r);
    if (!s) {
        s = buffer_append(out, r.out.data ? r.out.data : "", r.out.len);
        if (s) fail(err, s,
                    s == STRETTO_E_FULL ? "the rendered chat template does not fit (%zu bytes)"
                                                : "out of memory for a prompt of %zu bytes", r.out.len);
    }
    buffer_done(&r.out);
    tmpl_pool_done(&r.pool);
    return s;
}
