/* Expressions, evaluated, and the scopes that names are looked up in: chains from the inside out that end
 * at the caller's variables. */
#include "template/eval_int.h"
#include <string.h>

/* ---- scopes ---------------------------------------------------------------------------------- */

stretto_status tmpl_scope_open(struct render *r, struct scope *parent, struct scope **out)
{
    TRY(tmpl_take(r, 1, sizeof **out, out));
    (*out)->parent = parent;
    return STRETTO_OK;
}

stretto_status tmpl_scope_set(struct render *r, struct scope *s, uint32_t name, struct value v)
{
    TRY(tmpl_work(r, s->n / 8));
    for (size_t i = 0; i < s->n; i++)
        if (s->slots[i].name == name) { s->slots[i].v = v; return STRETTO_OK; }
    if (s->n == s->cap) {
        struct slot *to;
        size_t cap = s->cap ? 2 * s->cap : 4;
        TRY(tmpl_take(r, cap, sizeof *to, &to));
        if (s->n) memcpy(to, s->slots, s->n * sizeof *to);
        s->slots = to;
        s->cap = cap;
    }
    s->slots[s->n++] = (struct slot){ .name = name, .v = v };
    return STRETTO_OK;
}

stretto_status tmpl_lookup(struct render *r, uint32_t name, struct value *out)
{
    for (const struct scope *s = r->scope; s; s = s->parent) {
        TRY(tmpl_work(r, s->n / 8));
        for (size_t i = 0; i < s->n; i++)
            if (s->slots[i].name == name) { *out = s->slots[i].v; return STRETTO_OK; }
    }
    *out = r->context[name];
    if (out->kind == T_MISSING) return tmpl_undefined(r, NULL, r->t->names[name], NULL, out);
    return STRETTO_OK;
}

/* The next turn of a loop starts with nothing set; a scope that a macro remembers is left to it. */
stretto_status tmpl_scope_fresh(struct render *r, struct scope **s)
{
    if ((*s)->captured) return tmpl_scope_open(r, (*s)->parent, s);
    (*s)->n = 0;
    return STRETTO_OK;
}

/* ---- expressions ----------------------------------------------------------------------------- */

static stretto_status eval_compare(struct render *r, const struct node *n, struct value *out)
{
    struct value left, right;
    bool yes = true;
    TRY(tmpl_eval(r, n->a, &left));
    for (size_t i = 0; i < n->list.n && yes; i++) {
        int op = n->body.v[i]->op, c;
        TRY(tmpl_eval(r, n->list.v[i], &right));
        r->line = n->line;
        if (op == K_EQ || op == K_NE) {
            TRY(tmpl_equal(r, left, right, &yes));
            yes = yes == (op == K_EQ);
        } else if (op == K_IN || op == K_NOTIN) {
            TRY(tmpl_contains(r, right, left, &yes));
            yes = yes == (op == K_IN);
        } else {
            TRY(tmpl_compare(r, left, right, &c));
            yes = op == K_LT ? c == -1 : op == K_GT ? c == 1 : op == K_LE ? c == -1 || c == 0 : c == 1 || c == 0;
        }
        left = right;
    }
    *out = V_BOOL(yes);
    return STRETTO_OK;
}

static stretto_status eval_sign(struct render *r, const struct node *n, struct value *out)
{
    struct value v;
    TRY(tmpl_eval(r, n->a, &v));
    r->line = n->line;
    if (v.kind == T_UNDEFINED) return tmpl_use_undefined(r, v);
    if (v.kind == T_FLOAT) { *out = V_FLOAT(n->kind == N_NEG ? -v.f : v.f); return STRETTO_OK; }
    return tmpl_binary(r, n->kind == N_NEG ? K_SUB : K_ADD, V_INT(0), v, out);
}

static stretto_status eval_display(struct render *r, const struct node *n, struct value *out)
{
    struct value k, v;
    if (n->kind == N_DICT) {
        struct dict *d;
        TRY(tmpl_dict(r, &d));
        for (size_t i = 0; i + 1 < n->list.n; i += 2) {
            TRY(tmpl_eval(r, n->list.v[i], &k));
            TRY(tmpl_eval(r, n->list.v[i + 1], &v));
            r->line = n->line;
            TRY(tmpl_put(r, d, k, v));
        }
        *out = (struct value){ .kind = T_DICT, .d = d };
        return STRETTO_OK;
    }
    struct list *l;
    TRY(tmpl_list(r, n->list.n, &l));
    for (size_t i = 0; i < n->list.n; i++) {
        TRY(tmpl_eval(r, n->list.v[i], &v));
        TRY(tmpl_push(r, l, v));
    }
    *out = (struct value){ .kind = n->kind == N_LIST ? T_LIST : T_TUPLE, .l = l };
    return STRETTO_OK;
}

static stretto_status eval_concat(struct render *r, const struct node *n, struct value *out)
{
    size_t mark = r->out.len;
    for (size_t i = 0; i < n->list.n; i++) {
        TRY(tmpl_eval(r, n->list.v[i], out));
        r->line = n->line;
        TRY(tmpl_text(r, *out));
    }
    return tmpl_cut(r, mark, out);
}

static stretto_status eval_slice(struct render *r, const struct node *n, struct value *out)
{
    struct value v, part[3];
    TRY(tmpl_eval(r, n->a, &v));
    for (size_t i = 0; i < 3; i++) {
        part[i] = V_NONE;
        if (n->list.v[i]) TRY(tmpl_eval(r, n->list.v[i], &part[i]));
    }
    r->line = n->line;
    return tmpl_slice(r, v, part, out);
}

static stretto_status eval_cond(struct render *r, const struct node *n, struct value *out)
{
    TRY(tmpl_eval(r, n->b, out));
    if (tmpl_truth(*out)) return tmpl_eval(r, n->a, out);
    if (n->c) return tmpl_eval(r, n->c, out);
    return tmpl_undefined(r, NULL, NULL, "an inline if without else gave no value", out);
}

static stretto_status eval_kind(struct render *r, const struct node *n, struct value *out)
{
    struct value a, b;
    switch ((enum node_kind)n->kind) {
    case N_CONST: *out = n->v; return STRETTO_OK;
    case N_NAME: return tmpl_lookup(r, n->name, out);
    case N_LIST: case N_TUPLE: case N_DICT: return eval_display(r, n, out);
    case N_COND: return eval_cond(r, n, out);
    case N_OR: case N_AND:
        TRY(tmpl_eval(r, n->a, out));
        return tmpl_truth(*out) == (n->kind == N_OR) ? STRETTO_OK : tmpl_eval(r, n->b, out);
    case N_NOT:
        TRY(tmpl_eval(r, n->a, &a));
        *out = V_BOOL(!tmpl_truth(a));
        return STRETTO_OK;
    case N_COMPARE: return eval_compare(r, n, out);
    case N_BINARY:
        TRY(tmpl_eval(r, n->a, &a));
        TRY(tmpl_eval(r, n->b, &b));
        r->line = n->line;
        return tmpl_binary(r, n->op, a, b, out);
    case N_NEG: case N_POS: return eval_sign(r, n, out);
    case N_CONCAT: return eval_concat(r, n, out);
    case N_ATTR:
        TRY(tmpl_eval(r, n->a, &a));
        r->line = n->line;
        return tmpl_attr(r, a, n->v.s, out);
    case N_ITEM:
        TRY(tmpl_eval(r, n->a, &a));
        TRY(tmpl_eval(r, n->b, &b));
        r->line = n->line;
        return tmpl_item(r, a, b, out);
    case N_SLICE: return eval_slice(r, n, out);
    case N_CALL: return tmpl_eval_call(r, n, NULL, out);
    case N_FILTER: case N_TEST: return tmpl_eval_filter(r, n, NULL, out);
    default: return tmpl_fail(r, STRETTO_E_FORMAT,
                              "a statement stands where an expression belongs");
    }
}

stretto_status tmpl_eval(struct render *r, const struct node *n, struct value *out)
{
    r->line = n->line;
    TRY(tmpl_enter(r));
    TRY(eval_kind(r, n, out));
    r->depth--;
    return STRETTO_OK;
}
