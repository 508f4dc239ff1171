/* Calls: arguments are evaluated, then given to a function of ours, a filter, a test or a macro. */
#include "template/eval_int.h"
#include <string.h>

static stretto_status add_kwarg(struct render *r, struct kwarg *kw, size_t *n,
                                const struct str *name, struct value v)
{
    TRY(tmpl_work(r, *n / 8));
    for (size_t i = 0; i < *n; i++)
        if (kw[i].name->n == name->n && memcmp(kw[i].name->p, name->p, name->n) == 0)
            return tmpl_fail(r, STRETTO_E_ARG, "got several values for argument '%.*s'",
                             tmpl_shown(name->n), name->p);
    kw[(*n)++] = (struct kwarg){ .name = name, .v = v };
    return STRETTO_OK;
}

/* Evaluates arguments; `extra` is passed by name besides (the caller of a call block). */
static stretto_status eval_args(struct render *r, const struct args *a, const struct kwarg *extra,
                                struct call *out)
{
    struct list *pos, *star = NULL;
    struct kwarg *kw = NULL;
    struct value v;
    size_t n_kw = 0;
    *out = (struct call){ 0 };
    if (!a && !extra) return STRETTO_OK;
    TRY(tmpl_list(r, a ? a->pos.n : 0, &pos));
    for (size_t i = 0; a && i < a->pos.n; i++) {
        TRY(tmpl_eval(r, a->pos.v[i], &v));
        TRY(tmpl_push(r, pos, v));
    }
    size_t most = (a ? a->n_kw : 0) + (extra != NULL);
    struct value *named = NULL;
    if (a && a->n_kw) TRY(tmpl_take(r, a->n_kw, sizeof *named, &named));
    for (size_t i = 0; a && i < a->n_kw; i++) TRY(tmpl_eval(r, a->kw[i].v, &named[i]));
    if (a && a->star) {
        TRY(tmpl_eval(r, a->star, &v));
        TRY(tmpl_to_list(r, v, &star));
        for (size_t i = 0; i < star->n; i++) TRY(tmpl_push(r, pos, star->v[i]));
    }
    if (most) TRY(tmpl_take(r, most, sizeof *kw, &kw));
    for (size_t i = 0; a && i < a->n_kw; i++) TRY(add_kwarg(r, kw, &n_kw, a->kw[i].name, named[i]));
    if (extra) TRY(add_kwarg(r, kw, &n_kw, extra->name, extra->v));
    *out = (struct call){ .pos = pos->v, .n_pos = pos->n, .kw = kw, .n_kw = n_kw };
    return STRETTO_OK;
}

static bool word_of(const struct str *s, const struct str *t)
{
    return s->n == t->n && memcmp(s->p, t->p, s->n) == 0;
}

/* The parser interned the word where a body mentions it. */
static stretto_status set_by_word(struct render *r, const char *word, struct value v)
{
    for (size_t i = 0; i < r->t->n_names; i++)
        if (tmpl_is(r->t->names[i], word)) return tmpl_scope_set(r, r->scope, (uint32_t)i, v);
    return STRETTO_OK;
}

/* What is left over after the named parameters can only be the caller of a call block. */
static stretto_status bind_caller(struct render *r, const struct macro *m, const struct call *c,
                                  const bool *used)
{
    const struct signature *s = m->node->sig;
    struct value caller = { .kind = T_MISSING };
    const char *name = m->name ? m->name->p : "the call block";
    int len = m->name ? tmpl_shown(m->name->n) : 14;
    bool takes_caller = s->caller && !s->own_caller;
    for (size_t i = 0; i < c->n_kw; i++) {
        if (used[i]) continue;
        if (!takes_caller || !tmpl_is(c->kw[i].name, "caller"))
            return tmpl_fail(r, STRETTO_E_ARG, "macro '%.*s' takes no keyword argument '%.*s'", len,
                             name, tmpl_shown(c->kw[i].name->n), c->kw[i].name->p);
        caller = c->kw[i].v;
    }
    if (c->n_pos > s->names.n)
        return tmpl_fail(r, STRETTO_E_ARG, "macro '%.*s' takes not more than %zu argument(s)", len,
                         name, s->names.n);
    if (!takes_caller) return STRETTO_OK;
    if (caller.kind == T_MISSING)
        TRY(tmpl_undefined(r, NULL, NULL, "No caller defined", &caller));
    return set_by_word(r, "caller", caller);
}

static stretto_status bind_macro(struct render *r, const struct macro *m, const struct call *c)
{
    const struct signature *s = m->node->sig;
    bool *used;
    TRY(tmpl_take(r, c->n_kw, sizeof *used, &used));
    for (size_t i = 0; i < s->names.n; i++) {
        uint32_t name = s->names.v[i]->name;
        struct value v = { .kind = T_MISSING };
        if (i < c->n_pos) v = c->pos[i];
        for (size_t k = 0; k < c->n_kw && i >= c->n_pos; k++)
            if (word_of(c->kw[k].name, r->t->names[name])) { v = c->kw[k].v; used[k] = true; }
        size_t plain = s->names.n - s->defaults.n;
        if (v.kind == T_MISSING && i >= plain) TRY(tmpl_eval(r, s->defaults.v[i - plain], &v));
        if (v.kind == T_MISSING)
            TRY(tmpl_undefined(r, NULL, r->t->names[name], "was not given to the macro", &v));
        TRY(tmpl_scope_set(r, r->scope, name, v));
    }
    return bind_caller(r, m, c, used);
}

static stretto_status call_macro(struct render *r, const struct macro *m, const struct call *c,
                                 struct value *out)
{
    struct scope *before = r->scope;
    size_t mark = r->out.len;
    TRY(tmpl_enter(r));
    TRY(tmpl_scope_open(r, m->home, &r->scope));
    TRY(bind_macro(r, m, c));
    TRY(tmpl_exec(r, &m->node->body));
    r->scope = before;
    r->depth--;
    return tmpl_cut(r, mark, out);
}

stretto_status tmpl_builtin(struct render *r, const struct function *fn, struct value self,
                            const struct call *c, struct value *out)
{
    unsigned char from = r->from;
    bool marked = r->track && tmpl_marked(self);
    for (size_t i = 0; r->track && i < c->n_pos && !marked; i++) marked = tmpl_marked(c->pos[i]);
    for (size_t i = 0; r->track && i < c->n_kw && !marked; i++) marked = tmpl_marked(c->kw[i].v);
    r->from = marked;
    TRY(fn->run(r, self, c, out));
    r->from = from;
    return STRETTO_OK;
}

stretto_status tmpl_call(struct render *r, struct value f, const struct call *c, struct value *out)
{
    switch ((enum kind)f.kind) {
    case T_UNDEFINED: return tmpl_use_undefined(r, f);
    case T_FUNCTION: return tmpl_builtin(r, f.fn, f, c, out);
    case T_METHOD: return tmpl_builtin(r, f.method->fn, f.method->self, c, out);
    case T_MACRO: return call_macro(r, f.macro, c, out);
    default: return tmpl_fail(r, STRETTO_E_ARG, "'%s' object is not callable", tmpl_type(f));
    }
}

stretto_status tmpl_eval_call(struct render *r, const struct node *n, const struct kwarg *extra,
                                struct value *out)
{
    struct value f;
    struct call c;
    TRY(tmpl_eval(r, n->a, &f));
    TRY(eval_args(r, n->args, extra, &c));
    r->line = n->line;
    return tmpl_call(r, f, &c, out);
}

/* A filter or test; `subject` is given when it stands behind a block. */
stretto_status tmpl_eval_filter(struct render *r, const struct node *n,
                                  const struct value *subject, struct value *out)
{
    struct value v = { .kind = T_NONE };
    struct call c;
    if (n->a)
        TRY(n->a->kind == N_FILTER && subject ? tmpl_eval_filter(r, n->a, subject,
                                                            &v) : tmpl_eval(r, n->a, &v));
    else if (subject) v = *subject;
    TRY(eval_args(r, n->args, NULL, &c));
    r->line = n->line;
    if (n->fn) return tmpl_builtin(r, n->fn, v, &c, out);
    return tmpl_fail(r, STRETTO_E_UNSUP, "the %s '%.*s' is not supported",
                     n->kind == N_FILTER ? "filter" : "test", tmpl_shown(n->v.s->n), n->v.s->p);
}
