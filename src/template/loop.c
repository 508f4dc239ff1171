/* For loops and the variable `loop`. Items are pulled one by one, because the condition of a loop may
 * look at what its body has changed. */
#include "template/eval_int.h"

/* The next item that passes the loop's condition, which sees the loop's names but not its
 * body's. */
static stretto_status pull_source(struct render *r, struct loop *l, struct value *out, bool *more)
{
    for (;;) {
        TRY(tmpl_next(r, &l->src, out, more));
        if (!*more || !l->node->c) return STRETTO_OK;
        if (++r->loops > TEMPLATE_LOOPS_MAX)
            return tmpl_fail(r, STRETTO_E_FULL, "more than %u loop iterations", TEMPLATE_LOOPS_MAX);
        struct scope *before = r->scope;
        struct value yes;
        TRY(tmpl_scope_open(r, l->outer, &r->scope));
        TRY(tmpl_assign(r, r->scope, l->node->a, *out));
        TRY(tmpl_eval(r, l->node->c, &yes));
        r->scope = before;
        if (tmpl_truth(yes)) return STRETTO_OK;
    }
}

static stretto_status pull(struct render *r, struct loop *l, struct value *out, bool *more)
{
    *more = false;
    if (l->after.kind != T_MISSING) {
        *out = l->after;
        l->after.kind = T_MISSING;
        *more = true;
        return STRETTO_OK;
    }
    if (!l->rest) return pull_source(r, l, out, more);
    if (l->rest_at < l->rest->n) {
        *out = l->rest->v[l->rest_at++];
        *more = true;
    }
    return STRETTO_OK;
}

static stretto_status peek(struct render *r, struct loop *l)
{
    bool more;
    struct value v;
    if (l->after.kind != T_MISSING) return STRETTO_OK;
    TRY(pull(r, l, &v, &more));
    if (more) l->after = v;
    return STRETTO_OK;
}

static stretto_status loop_length(struct render *r, struct loop *l)
{
    if (l->length >= 0) return STRETTO_OK;
    size_t n;
    if (!l->node->c && l->src.v.kind != T_ITER) {
        TRY(tmpl_len(r, l->src.v, &n));
        l->length = (int64_t)n;
        return STRETTO_OK;
    }
    struct list *rest;
    TRY(tmpl_list(r, 0, &rest));
    for (;;) {
        struct value v;
        bool more;
        TRY(pull_source(r, l, &v, &more));
        if (!more) break;
        TRY(tmpl_push(r, rest, v));
    }
    l->rest = rest;
    l->length = l->index0 + 1 + (int64_t)rest->n + (l->after.kind != T_MISSING);
    return STRETTO_OK;
}

stretto_status tmpl_loop_attr(struct render *r, struct value v, const struct str *name,
                              struct value *out)
{
    struct loop *l = v.loop;
    *out = (struct value){ .kind = T_MISSING };
    if (tmpl_is(name, "index")) *out = V_INT(l->index0 + 1);
    else if (tmpl_is(name, "index0")) *out = V_INT(l->index0);
    else if (tmpl_is(name, "first")) *out = V_BOOL(l->index0 == 0);
    else if (tmpl_is(name, "depth")) *out = V_INT(1);
    else if (tmpl_is(name, "depth0")) *out = V_INT(0);
    else if (tmpl_is(name, "cycle") || tmpl_is(name, "changed"))
        return tmpl_fail(r, STRETTO_E_UNSUP, "loop.%.*s is not supported", (int)name->n, name->p);
    else if (tmpl_is(name, "last")) {
        TRY(peek(r, l));
        *out = V_BOOL(l->after.kind == T_MISSING);
    } else if (tmpl_is(name, "nextitem")) {
        TRY(peek(r, l));
        *out = l->after;
        if (out->kind == T_MISSING)
            return tmpl_undefined(r, NULL, NULL, "there is no next item", out);
    } else if (tmpl_is(name, "previtem")) {
        *out = l->before;
        if (out->kind == T_MISSING)
            return tmpl_undefined(r, NULL, NULL, "there is no previous item", out);
    } else if (tmpl_is(name, "length") || tmpl_is(name, "revindex") || tmpl_is(name, "revindex0")) {
        TRY(loop_length(r, l));
        *out = V_INT(tmpl_is(name, "length") ? l->length
                     : l->length - l->index0 - (tmpl_is(name, "revindex0") ? 1 : 0));
    }
    return STRETTO_OK;
}

static stretto_status loop_turns(struct render *r, const struct node *n, struct loop *l, bool *any)
{
    uint32_t loop_name = UINT32_MAX;
    for (uint32_t i = 0; i < r->t->n_names; i++)
        if (tmpl_is(r->t->names[i], "loop")) loop_name = i;
    struct scope *inner;
    TRY(tmpl_scope_open(r, l->outer, &inner));
    for (;;) {
        struct value v;
        bool more;
        r->line = n->line;
        TRY(pull(r, l, &v, &more));
        if (!more) return STRETTO_OK;
        if (++r->loops > TEMPLATE_LOOPS_MAX)
            return tmpl_fail(r, STRETTO_E_FULL, "more than %u loop iterations", TEMPLATE_LOOPS_MAX);
        *any = true;
        l->index0++;
        l->before = l->current;
        l->current = v;
        TRY(tmpl_scope_fresh(r, &inner));
        r->scope = inner;
        if (loop_name != UINT32_MAX)
            TRY(tmpl_scope_set(r, inner, loop_name, (struct value){ .kind = T_LOOP, .loop = l }));
        TRY(tmpl_assign(r, inner, n->a, v));
        TRY(tmpl_exec(r, &n->body));
        if (r->flow == FLOW_BREAK) { r->flow = FLOW_ON; return STRETTO_OK; }
        r->flow = FLOW_ON;
    }
}

stretto_status tmpl_for(struct render *r, const struct node *n)
{
    struct scope *before = r->scope;
    struct value v;
    struct loop *l;
    bool any = false;
    TRY(tmpl_eval(r, n->b, &v));
    r->line = n->line;
    TRY(tmpl_take(r, 1, sizeof *l, &l));
    *l = (struct loop){ .node = n, .outer = before, .index0 = -1, .length = -1 };
    TRY(tmpl_iter(r, v, &l->src));
    TRY(loop_turns(r, n, l, &any));
    r->scope = before;
    if (any || !n->other.n) return STRETTO_OK;
    TRY(tmpl_scope_open(r, before, &r->scope));
    TRY(tmpl_exec(r, &n->other));
    r->scope = before;
    return STRETTO_OK;
}
