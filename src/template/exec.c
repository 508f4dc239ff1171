/* Statements, executed. A loop body, a macro, a set, filter or call block and `with` open a scope, `if` does
 * not; a name set inside is gone outside, as in Jinja, and namespaces carry values out. */
#include "template/eval_int.h"

stretto_status tmpl_assign(struct render *r, struct scope *s, const struct node *to,
                             struct value v)
{
    struct value ns;
    r->line = to->line;
    if (to->kind == N_NAME) return tmpl_scope_set(r, s, to->name, v);
    if (to->kind == N_NSREF) {
        TRY(tmpl_lookup(r, to->name, &ns));
        if (ns.kind != T_NAMESPACE)
            return tmpl_fail(r, STRETTO_E_ARG,
                             "cannot assign an attribute of a %s, only of a namespace", tmpl_type(ns));
        return tmpl_put(r, ns.d, to->v, v);
    }
    struct list *l;
    TRY(tmpl_to_list(r, v, &l));
    if (l->n != to->list.n)
        return tmpl_fail(r, STRETTO_E_ARG, "cannot unpack %zu values into %zu names", l->n,
                         to->list.n);
    for (size_t i = 0; i < l->n; i++) TRY(tmpl_assign(r, s, to->list.v[i], l->v[i]));
    return STRETTO_OK;
}

/* Runs a body in a scope of its own and cuts off what it printed. */
static stretto_status capture(struct render *r, const struct nodes *body, struct value *out)
{
    struct scope *before = r->scope;
    size_t mark = r->out.len;
    TRY(tmpl_scope_open(r, before, &r->scope));
    TRY(tmpl_exec(r, body));
    r->scope = before;
    return tmpl_cut(r, mark, out);
}

static stretto_status exec_set_block(struct render *r, const struct node *n)
{
    struct value v;
    TRY(capture(r, &n->body, &v));
    if (r->flow != FLOW_ON) return STRETTO_OK;
    if (n->b) TRY(tmpl_eval_filter(r, n->b, &v, &v));
    return tmpl_assign(r, r->scope, n->a, v);
}

static stretto_status exec_filter_block(struct render *r, const struct node *n)
{
    struct value v;
    TRY(capture(r, &n->body, &v));
    if (r->flow != FLOW_ON) return STRETTO_OK;
    TRY(tmpl_eval_filter(r, n->b, &v, &v));
    return tmpl_text(r, v);
}

static stretto_status make_macro(struct render *r, const struct node *n, struct value *out)
{
    struct macro *m;
    TRY(tmpl_take(r, 1, sizeof *m, &m));
    *m = (struct macro){ .name = n->kind == N_MACRO ? n->v.s : NULL, .node = n, .home = r->scope };
    for (struct scope *s = r->scope; s && !s->captured; s = s->parent) s->captured = true;
    *out = (struct value){ .kind = T_MACRO, .macro = m };
    return STRETTO_OK;
}

static stretto_status exec_call_block(struct render *r, const struct node *n)
{
    static const struct str word = { .p = "caller", .n = 6, .chars = 6 };
    struct kwarg caller = { .name = &word };
    struct value v;
    TRY(make_macro(r, n, &caller.v));
    TRY(tmpl_eval_call(r, n->a, &caller, &v));
    return tmpl_text(r, v);
}

static stretto_status exec_with(struct render *r, const struct node *n)
{
    struct scope *before = r->scope, *inner;
    struct value v;
    TRY(tmpl_scope_open(r, before, &inner));
    for (size_t i = 0; i < n->list.n; i++) {
        TRY(tmpl_eval(r, n->other.v[i], &v));
        TRY(tmpl_assign(r, inner, n->list.v[i], v));
    }
    r->scope = inner;
    TRY(tmpl_exec(r, &n->body));
    r->scope = before;
    return STRETTO_OK;
}

static stretto_status exec_scope(struct render *r, const struct node *n)
{
    struct scope *before = r->scope;
    TRY(tmpl_scope_open(r, before, &r->scope));
    TRY(tmpl_exec(r, &n->body));
    r->scope = before;
    return STRETTO_OK;
}

static stretto_status exec_if(struct render *r, const struct node *n)
{
    struct value v;
    for (size_t i = 0; i < n->list.n; i++) {
        TRY(tmpl_eval(r, n->list.v[i], &v));
        if (tmpl_truth(v)) return tmpl_exec(r, &n->other.v[i]->body);
    }
    return tmpl_exec(r, &n->body);
}

static stretto_status exec(struct render *r, const struct node *n)
{
    struct value v;
    r->line = n->line;
    TRY(tmpl_work(r, 1));
    switch ((enum node_kind)n->kind) {
    case N_DATA: return tmpl_text(r, n->v);
    case N_PRINT:
        TRY(tmpl_eval(r, n->a, &v));
        r->line = n->line;
        return tmpl_text(r, v);
    case N_IF: return exec_if(r, n);
    case N_FOR: return tmpl_for(r, n);
    case N_SET:
        TRY(tmpl_eval(r, n->b, &v));
        return tmpl_assign(r, r->scope, n->a, v);
    case N_SETBLOCK: return exec_set_block(r, n);
    case N_MACRO:
        TRY(make_macro(r, n, &v));
        return tmpl_scope_set(r, r->scope, n->name, v);
    case N_CALLBLOCK: return exec_call_block(r, n);
    case N_FILTERBLOCK: return exec_filter_block(r, n);
    case N_WITH: return exec_with(r, n);
    case N_SCOPE: return exec_scope(r, n);
    case N_BREAK: r->flow = FLOW_BREAK; return STRETTO_OK;
    case N_CONTINUE: r->flow = FLOW_CONTINUE; return STRETTO_OK;
    default: return tmpl_fail(r, STRETTO_E_FORMAT,
                              "an expression stands where a statement belongs");
    }
}

stretto_status tmpl_exec(struct render *r, const struct nodes *body)
{
    TRY(tmpl_enter(r));
    for (size_t i = 0; i < body->n && r->flow == FLOW_ON; i++) TRY(exec(r, body->v[i]));
    r->depth--;
    return STRETTO_OK;
}

stretto_status tmpl_run(struct render *r)
{
    TRY(tmpl_scope_open(r, NULL, &r->scope));
    return tmpl_exec(r, &r->t->body);
}
