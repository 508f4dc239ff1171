/* The tree, evaluated. Scopes are chains from the inside out and end at the caller's variables; a
 * loop body, a macro, a set/filter/call block and `with` open one, `if` does not. A name set inside
 * is gone outside, as in Jinja; namespaces carry values out. */
#include "template/template_int.h"
#include <string.h>

static stretto_status eval(struct render *r, const struct node *n, struct value *out);
static stretto_status exec_all(struct render *r, const struct nodes *body);

/* ---- scopes ---------------------------------------------------------------------------------- */

static stretto_status scope_open(struct render *r, struct scope *parent, struct scope **out)
{
    TRY(tmpl_take(r, 1, sizeof **out, out));
    (*out)->parent = parent;
    return STRETTO_OK;
}

static stretto_status scope_set(struct render *r, struct scope *s, uint32_t name, struct value v)
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

static stretto_status lookup(struct render *r, uint32_t name, struct value *out)
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
static stretto_status scope_fresh(struct render *r, struct scope **s)
{
    if ((*s)->captured) return scope_open(r, (*s)->parent, s);
    (*s)->n = 0;
    return STRETTO_OK;
}

/* ---- attributes and items -------------------------------------------------------------------- */

static stretto_status absent(struct render *r, struct value v, const struct str *name,
                             struct value *out)
{
    return tmpl_undefined(r, tmpl_type(v), name, NULL, out);
}

static bool dunder(const struct str *s) { return s->n > 1 && s->p[0] == '_' && s->p[1] == '_'; }

/* Attributes that are not items: methods and the fields of loops, macros and namespaces. */
static stretto_status own_attr(struct render *r, struct value v, const struct str *name,
                               struct value *out)
{
    *out = (struct value){ .kind = T_MISSING };
    if (dunder(name) && v.kind != T_NAMESPACE)
        return tmpl_undefined(r, NULL, name, "is an internal attribute and may not be used", out);
    switch ((enum kind)v.kind) {
    case T_LOOP: return tmpl_loop_attr(r, v, name, out);
    case T_NAMESPACE: {
        struct value *at = tmpl_find_str(v.d, name->p, name->n);
        if (at) *out = *at;
        return STRETTO_OK;
    }
    default: return tmpl_method(r, v, name, out);
    }
}

/* a.b: an attribute first, then an item of that name. */
stretto_status tmpl_attr(struct render *r, struct value v, const struct str *name,
                         struct value *out)
{
    if (v.kind == T_UNDEFINED) return tmpl_use_undefined(r, v);
    TRY(tmpl_work(r, v.kind == T_DICT ? v.d->n / 8 : 1));
    if (v.kind == T_DICT && dunder(name)) {
        struct value *at = tmpl_find_str(v.d, name->p, name->n);
        if (at) { *out = *at; return STRETTO_OK; }
    }
    struct value of = v;
    TRY(own_attr(r, of, name, out));
    if (out->kind != T_MISSING) return STRETTO_OK;
    struct value *at = of.kind == T_DICT ? tmpl_find_str(of.d, name->p, name->n) : NULL;
    if (at) { *out = *at; return STRETTO_OK; }
    return absent(r, of, name, out);
}

static bool index_in(int64_t i, size_t n, size_t *out)
{
    if (i < 0) i += (int64_t)n;
    *out = (size_t)i;
    return i >= 0 && (uint64_t)i < n;
}

static stretto_status char_at(struct render *r, struct value v, int64_t i, struct value *out)
{
    size_t at, n = tmpl_chars(v.s);
    if (!index_in(i, n, &at)) return STRETTO_OK;
    if (n != v.s->n) TRY(tmpl_work(r, at / 16));
    size_t from = tmpl_offset(v.s, at);
    uint32_t cp;
    TRY(tmpl_part(r, v.s, v.s->p + from, tmpl_decode(v.s->p + from, v.s->n - from, &cp), out));
    out->safe = v.safe;
    return STRETTO_OK;
}

static stretto_status item_at(struct render *r, struct value v, struct value key, struct value *out)
{
    int64_t i;
    size_t at;
    *out = (struct value){ .kind = T_MISSING };
    if (v.kind == T_DICT) {
        struct value *found = NULL;
        if (key.kind == T_LIST || key.kind == T_DICT) return STRETTO_OK;
        TRY(tmpl_find(r, v.d, key, &found));
        if (found) *out = *found;
        return STRETTO_OK;
    }
    if (!tmpl_to_int(key, &i)) return STRETTO_OK;
    switch ((enum kind)v.kind) {
    case T_STR: return char_at(r, v, i, out);
    case T_LIST: case T_TUPLE:
        if (index_in(i, v.l->n, &at)) *out = v.l->v[at];
        return STRETTO_OK;
    case T_RANGE:
        if (index_in(i, v.range->n,
                     &at)) *out = V_INT(v.range->start + (int64_t)at * v.range->step);
        return STRETTO_OK;
    default: return STRETTO_OK;
    }
}

/* a[b]: an item first, then an attribute of that name. */
stretto_status tmpl_item(struct render *r, struct value v, struct value key, struct value *out)
{
    struct value text, of = v;
    if (of.kind == T_UNDEFINED) return tmpl_use_undefined(r, of);
    TRY(item_at(r, of, key, out));
    if (out->kind != T_MISSING) return STRETTO_OK;
    if (key.kind == T_STR) {
        TRY(own_attr(r, of, key.s, out));
        if (out->kind != T_MISSING) return STRETTO_OK;
        return absent(r, of, key.s, out);
    }
    size_t mark = r->out.len;
    TRY(tmpl_repr(r, key));
    TRY(tmpl_cut(r, mark, &text));
    return absent(r, of, text.s, out);
}

/* Python's bounds: which items a slice visits, as a start and a count. */
struct bounds { int64_t start, stop, step; size_t count; };

static stretto_status slice_bounds(struct render *r, const struct value part[3], size_t len,
                                   struct bounds *out)
{
    int64_t v[3] = { 0, 0, 1 }, n = (int64_t)len;
    for (int i = 0; i < 3; i++)
        if (part[i].kind != T_NONE && !tmpl_to_int(part[i], &v[i])) {
            if (part[i].kind == T_UNDEFINED) return tmpl_use_undefined(r, part[i]);
            return tmpl_fail(r, STRETTO_E_ARG, "slice indices must be integers or None");
        }
    if (v[2] == 0) return tmpl_fail(r, STRETTO_E_ARG, "slice step cannot be zero");
    if (v[2] == INT64_MIN) v[2]++;
    bool back = v[2] < 0;
    int64_t low = back ? -1 : 0, high = back ? n - 1 : n;
    for (int i = 0; i < 2; i++) {
        if (part[i].kind == T_NONE) { v[i] = (i == 0) != back ? low : high; continue; }
        if (v[i] < 0) v[i] = v[i] < -n ? low : v[i] + n;
        if (v[i] < low) v[i] = low;
        if (v[i] > high) v[i] = high;
    }
    *out = (struct bounds){ .start = v[0], .stop = v[1], .step = v[2] };
    if (back) out->count = v[0] > v[1] ? (size_t)((v[0] - v[1] - 1) / -v[2]) + 1 : 0;
    else out->count = v[1] > v[0] ? (size_t)((v[1] - v[0] - 1) / v[2]) + 1 : 0;
    return STRETTO_OK;
}

static stretto_status slice_text(struct render *r, struct value v, const struct bounds *b,
                                 struct value *out)
{
    int64_t start = b->start, step = b->step;
    size_t count = b->count;
    struct str *s = v.s;
    TRY(tmpl_work(r, s->n / 16));
    if (step == 1) {
        size_t from = tmpl_offset(s, (size_t)start), to = tmpl_offset(s, (size_t)start + count);
        TRY(tmpl_part(r, s, s->p + from, to - from, out));
        out->safe = v.safe;
        return STRETTO_OK;
    }
    /* Byte offsets of all characters make any step linear. */
    size_t chars = tmpl_chars(s), mark = r->out.len;
    uint32_t *offset;
    TRY(tmpl_take(r, chars + 1, sizeof *offset, &offset));
    for (size_t i = 0, k = 0; i < s->n; i++)
        if (((unsigned char)s->p[i] & 0xC0) != 0x80) offset[k++] = (uint32_t)i;
    offset[chars] = (uint32_t)s->n;
    for (size_t i = 0; i < count; i++) {
        size_t at = (size_t)(start + (int64_t)i * step);
        TRY(tmpl_write_part(r, s, s->p + offset[at], offset[at + 1] - offset[at]));
    }
    TRY(tmpl_cut(r, mark, out));
    out->safe = v.safe;
    return STRETTO_OK;
}

static stretto_status slice_range(struct render *r, const struct range *g, const struct bounds *b,
                                  struct value *out)
{
    int64_t at, end, step;
    if (__builtin_mul_overflow(g->step, b->step,
                               &step) || __builtin_mul_overflow(g->step, b->start, &at)
            || __builtin_add_overflow(g->start, at,
                                      &at) || __builtin_mul_overflow(g->step, b->stop, &end)
            || __builtin_add_overflow(g->start, end, &end))
        return tmpl_fail(r, STRETTO_E_UNSUP, "an integer above 64 bits is not supported");
    *out = (struct value){ .kind = T_RANGE };
    TRY(tmpl_take(r, 1, sizeof *out->range, &out->range));
    *out->range = (struct range){ .start = at, .stop = end, .step = step, .n = b->count };
    return STRETTO_OK;
}

static stretto_status eval_slice(struct render *r, const struct node *n, struct value *out)
{
    struct value v, part[3];
    TRY(eval(r, n->a, &v));
    for (size_t i = 0; i < 3; i++) {
        part[i] = V_NONE;
        if (n->list.v[i]) TRY(eval(r, n->list.v[i], &part[i]));
    }
    r->line = n->line;
    if (v.kind == T_UNDEFINED) return tmpl_use_undefined(r, v);
    if (v.kind != T_STR && v.kind != T_LIST && v.kind != T_TUPLE && v.kind != T_RANGE)
        return tmpl_fail(r, STRETTO_E_ARG, "'%s' object cannot be sliced%s", tmpl_type(v),
                         v.kind == T_ITER || v.kind == T_VIEW ? "; add |list" : "");
    size_t len;
    struct bounds b = { 0 };
    TRY(tmpl_len(r, v, &len));
    TRY(slice_bounds(r, part, len, &b));
    if (v.kind == T_STR) return slice_text(r, v, &b, out);
    if (v.kind == T_RANGE) return slice_range(r, v.range, &b, out);
    struct list *l;
    TRY(tmpl_list(r, b.count, &l));
    TRY(tmpl_work(r, b.count));
    for (size_t i = 0; i < b.count; i++) l->v[l->n++] = v.l->v[b.start + (int64_t)i * b.step];
    *out = (struct value){ .kind = v.kind, .l = l };
    return STRETTO_OK;
}

/* ---- calls ----------------------------------------------------------------------------------- */

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
    struct value v, dstar = V_NONE;
    size_t n_kw = 0;
    *out = (struct call){ 0 };
    if (!a && !extra) return STRETTO_OK;
    TRY(tmpl_list(r, a ? a->pos.n : 0, &pos));
    for (size_t i = 0; a && i < a->pos.n; i++) {
        TRY(eval(r, a->pos.v[i], &v));
        TRY(tmpl_push(r, pos, v));
    }
    size_t most = (a ? a->n_kw : 0) + (extra != NULL);
    struct value *named = NULL;
    if (a && a->n_kw) TRY(tmpl_take(r, a->n_kw, sizeof *named, &named));
    for (size_t i = 0; a && i < a->n_kw; i++) TRY(eval(r, a->kw[i].v, &named[i]));
    if (a && a->star) {
        TRY(eval(r, a->star, &v));
        TRY(tmpl_to_list(r, v, &star));
        for (size_t i = 0; i < star->n; i++) TRY(tmpl_push(r, pos, star->v[i]));
    }
    if (a && a->dstar) {
        TRY(eval(r, a->dstar, &dstar));
        if (dstar.kind != T_DICT)
            return tmpl_fail(r, STRETTO_E_ARG, "the argument after ** must be a mapping");
        most += dstar.d->n;
    }
    if (most) TRY(tmpl_take(r, most, sizeof *kw, &kw));
    for (size_t i = 0; a && i < a->n_kw; i++) TRY(add_kwarg(r, kw, &n_kw, a->kw[i].name, named[i]));
    for (size_t i = 0; dstar.kind == T_DICT && i < dstar.d->n; i++) {
        if (dstar.d->e[i].k.kind != T_STR)
            return tmpl_fail(r, STRETTO_E_ARG, "keywords must be strings");
        TRY(add_kwarg(r, kw, &n_kw, dstar.d->e[i].k.s, dstar.d->e[i].v));
    }
    if (extra) TRY(add_kwarg(r, kw, &n_kw, extra->name, extra->v));
    *out = (struct call){ .pos = pos->v, .n_pos = pos->n, .kw = kw, .n_kw = n_kw };
    return STRETTO_OK;
}

static bool word_of(const struct str *s, const struct str *t)
{
    return s->n == t->n && memcmp(s->p, t->p, s->n) == 0;
}

/* Name indexes of caller, kwargs and varargs; the parser interned them when a body mentions
 * them. */
static stretto_status set_by_word(struct render *r, const char *word, struct value v)
{
    for (size_t i = 0; i < r->t->n_names; i++)
        if (tmpl_is(r->t->names[i], word)) return scope_set(r, r->scope, (uint32_t)i, v);
    return STRETTO_OK;
}

/* What is left over after the named parameters: kwargs, varargs and caller, or an error. */
static stretto_status bind_rest(struct render *r, const struct macro *m, const struct call *c,
                                const bool *used)
{
    const struct signature *s = m->node->sig;
    struct value caller = { .kind = T_MISSING };
    const char *name = m->name ? m->name->p : "the call block";
    int len = m->name ? tmpl_shown(m->name->n) : 14;
    struct dict *rest;
    struct list *more;
    TRY(tmpl_dict(r, &rest));
    TRY(tmpl_list(r, 0, &more));
    for (size_t i = 0; i < c->n_kw; i++) {
        if (used[i]) continue;
        if (tmpl_is(c->kw[i].name,
                    "caller") && s->caller && !s->own_caller) { caller = c->kw[i].v; continue; }
        struct value key;
        if (!s->kwargs)
            return tmpl_fail(r, STRETTO_E_ARG, "macro '%.*s' takes no keyword argument '%.*s'", len,
                             name, tmpl_shown(c->kw[i].name->n), c->kw[i].name->p);
        TRY(tmpl_view(r, c->kw[i].name->p, c->kw[i].name->n, &key));
        TRY(tmpl_put(r, rest, key, c->kw[i].v));
    }
    if (c->n_pos > s->names.n && !s->varargs)
        return tmpl_fail(r, STRETTO_E_ARG, "macro '%.*s' takes not more than %zu argument(s)", len,
                         name, s->names.n);
    for (size_t i = s->names.n; i < c->n_pos; i++) TRY(tmpl_push(r, more, c->pos[i]));
    if (s->caller && !s->own_caller) {
        if (caller.kind == T_MISSING)
            TRY(tmpl_undefined(r, NULL, NULL, "No caller defined", &caller));
        TRY(set_by_word(r, "caller", caller));
    }
    if (s->kwargs) TRY(set_by_word(r, "kwargs", (struct value){ .kind = T_DICT, .d = rest }));
    if (s->varargs) TRY(set_by_word(r, "varargs", (struct value){ .kind = T_TUPLE, .l = more }));
    return STRETTO_OK;
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
        if (v.kind == T_MISSING && i >= plain) TRY(eval(r, s->defaults.v[i - plain], &v));
        if (v.kind == T_MISSING)
            TRY(tmpl_undefined(r, NULL, r->t->names[name], "was not given to the macro", &v));
        TRY(scope_set(r, r->scope, name, v));
    }
    return bind_rest(r, m, c, used);
}

static stretto_status call_macro(struct render *r, const struct macro *m, const struct call *c,
                                 struct value *out)
{
    struct scope *before = r->scope;
    size_t mark = r->out.len;
    TRY(tmpl_enter(r));
    TRY(scope_open(r, m->home, &r->scope));
    TRY(bind_macro(r, m, c));
    TRY(exec_all(r, &m->node->body));
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
    case T_JOINER:
        TRY(tmpl_bind(r, "joiner", c, "", NULL));
        if (f.joiner->used) *out = f.joiner->sep;
        else TRY(tmpl_view(r, "", 0, out));
        f.joiner->used = true;
        return STRETTO_OK;
    default: return tmpl_fail(r, STRETTO_E_ARG, "'%s' object is not callable", tmpl_type(f));
    }
}

static stretto_status eval_call(struct render *r, const struct node *n, const struct kwarg *extra,
                                struct value *out)
{
    struct value f;
    struct call c;
    TRY(eval(r, n->a, &f));
    TRY(eval_args(r, n->args, extra, &c));
    r->line = n->line;
    return tmpl_call(r, f, &c, out);
}

/* A filter or test; `subject` is given when it stands behind a block. */
static stretto_status eval_filter(struct render *r, const struct node *n,
                                  const struct value *subject, struct value *out)
{
    struct value v = { .kind = T_NONE };
    struct call c;
    if (n->a)
        TRY(n->a->kind == N_FILTER && subject ? eval_filter(r, n->a, subject,
                                                            &v) : eval(r, n->a, &v));
    else if (subject) v = *subject;
    TRY(eval_args(r, n->args, NULL, &c));
    r->line = n->line;
    if (n->fn) return tmpl_builtin(r, n->fn, v, &c, out);
    return tmpl_fail(r, STRETTO_E_UNSUP, "no %s named '%.*s'",
                     n->kind == N_FILTER ? "filter" : "test", tmpl_shown(n->v.s->n), n->v.s->p);
}

/* ---- expressions ----------------------------------------------------------------------------- */

static stretto_status eval_compare(struct render *r, const struct node *n, struct value *out)
{
    struct value left, right;
    bool yes = true;
    TRY(eval(r, n->a, &left));
    for (size_t i = 0; i < n->list.n && yes; i++) {
        int op = n->body.v[i]->op, c;
        TRY(eval(r, n->list.v[i], &right));
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
    TRY(eval(r, n->a, &v));
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
            TRY(eval(r, n->list.v[i], &k));
            TRY(eval(r, n->list.v[i + 1], &v));
            r->line = n->line;
            TRY(tmpl_put(r, d, k, v));
        }
        *out = (struct value){ .kind = T_DICT, .d = d };
        return STRETTO_OK;
    }
    struct list *l;
    TRY(tmpl_list(r, n->list.n, &l));
    for (size_t i = 0; i < n->list.n; i++) {
        TRY(eval(r, n->list.v[i], &v));
        TRY(tmpl_push(r, l, v));
    }
    *out = (struct value){ .kind = n->kind == N_LIST ? T_LIST : T_TUPLE, .l = l };
    return STRETTO_OK;
}

static stretto_status eval_concat(struct render *r, const struct node *n, struct value *out)
{
    size_t mark = r->out.len;
    for (size_t i = 0; i < n->list.n; i++) {
        TRY(eval(r, n->list.v[i], out));
        r->line = n->line;
        TRY(tmpl_text(r, *out));
    }
    return tmpl_cut(r, mark, out);
}

static stretto_status eval_cond(struct render *r, const struct node *n, struct value *out)
{
    TRY(eval(r, n->b, out));
    if (tmpl_truth(*out)) return eval(r, n->a, out);
    if (n->c) return eval(r, n->c, out);
    return tmpl_undefined(r, NULL, NULL, "an inline if without else gave no value", out);
}

static stretto_status eval_kind(struct render *r, const struct node *n, struct value *out)
{
    struct value a, b;
    switch ((enum node_kind)n->kind) {
    case N_CONST: *out = n->v; return STRETTO_OK;
    case N_NAME: return lookup(r, n->name, out);
    case N_LIST: case N_TUPLE: case N_DICT: return eval_display(r, n, out);
    case N_COND: return eval_cond(r, n, out);
    case N_OR: case N_AND:
        TRY(eval(r, n->a, out));
        return tmpl_truth(*out) == (n->kind == N_OR) ? STRETTO_OK : eval(r, n->b, out);
    case N_NOT:
        TRY(eval(r, n->a, &a));
        *out = V_BOOL(!tmpl_truth(a));
        return STRETTO_OK;
    case N_COMPARE: return eval_compare(r, n, out);
    case N_BINARY:
        TRY(eval(r, n->a, &a));
        TRY(eval(r, n->b, &b));
        r->line = n->line;
        return tmpl_binary(r, n->op, a, b, out);
    case N_NEG: case N_POS: return eval_sign(r, n, out);
    case N_CONCAT: return eval_concat(r, n, out);
    case N_ATTR:
        TRY(eval(r, n->a, &a));
        r->line = n->line;
        return tmpl_attr(r, a, n->v.s, out);
    case N_ITEM:
        TRY(eval(r, n->a, &a));
        TRY(eval(r, n->b, &b));
        r->line = n->line;
        return tmpl_item(r, a, b, out);
    case N_SLICE: return eval_slice(r, n, out);
    case N_CALL: return eval_call(r, n, NULL, out);
    case N_FILTER: case N_TEST: return eval_filter(r, n, NULL, out);
    default: return tmpl_fail(r, STRETTO_E_FORMAT,
                              "a statement stands where an expression belongs");
    }
}

static stretto_status eval(struct render *r, const struct node *n, struct value *out)
{
    r->line = n->line;
    TRY(tmpl_enter(r));
    TRY(eval_kind(r, n, out));
    r->depth--;
    return STRETTO_OK;
}

/* ---- statements ------------------------------------------------------------------------------ */

static stretto_status assign(struct render *r, struct scope *s, const struct node *to,
                             struct value v)
{
    struct value ns;
    r->line = to->line;
    if (to->kind == N_NAME) return scope_set(r, s, to->name, v);
    if (to->kind == N_NSREF) {
        TRY(lookup(r, to->name, &ns));
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
    for (size_t i = 0; i < l->n; i++) TRY(assign(r, s, to->list.v[i], l->v[i]));
    return STRETTO_OK;
}

/* Runs a body in a scope of its own and cuts off what it printed. */
static stretto_status capture(struct render *r, const struct nodes *body, struct value *out)
{
    struct scope *before = r->scope;
    size_t mark = r->out.len;
    TRY(scope_open(r, before, &r->scope));
    TRY(exec_all(r, body));
    r->scope = before;
    return tmpl_cut(r, mark, out);
}

static stretto_status exec_set_block(struct render *r, const struct node *n)
{
    struct value v;
    TRY(capture(r, &n->body, &v));
    if (r->flow != FLOW_ON) return STRETTO_OK;
    if (n->b) TRY(eval_filter(r, n->b, &v, &v));
    return assign(r, r->scope, n->a, v);
}

static stretto_status exec_filter_block(struct render *r, const struct node *n)
{
    struct value v;
    TRY(capture(r, &n->body, &v));
    if (r->flow != FLOW_ON) return STRETTO_OK;
    TRY(eval_filter(r, n->b, &v, &v));
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
    TRY(eval_call(r, n->a, &caller, &v));
    return tmpl_text(r, v);
}

static stretto_status exec_with(struct render *r, const struct node *n)
{
    struct scope *before = r->scope, *inner;
    struct value v;
    TRY(scope_open(r, before, &inner));
    for (size_t i = 0; i < n->list.n; i++) {
        TRY(eval(r, n->other.v[i], &v));
        TRY(assign(r, inner, n->list.v[i], v));
    }
    r->scope = inner;
    TRY(exec_all(r, &n->body));
    r->scope = before;
    return STRETTO_OK;
}

static stretto_status exec_scope(struct render *r, const struct node *n)
{
    struct scope *before = r->scope;
    TRY(scope_open(r, before, &r->scope));
    TRY(exec_all(r, &n->body));
    r->scope = before;
    return STRETTO_OK;
}

static stretto_status exec_if(struct render *r, const struct node *n)
{
    struct value v;
    for (size_t i = 0; i < n->list.n; i++) {
        TRY(eval(r, n->list.v[i], &v));
        if (tmpl_truth(v)) return exec_all(r, &n->other.v[i]->body);
    }
    return exec_all(r, &n->body);
}

/* ---- loops ----------------------------------------------------------------------------------- */

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
        TRY(scope_open(r, l->outer, &r->scope));
        TRY(assign(r, r->scope, l->node->a, *out));
        TRY(eval(r, l->node->c, &yes));
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

static stretto_status loop_cycle(struct render *r, struct value self, const struct call *c,
                                 struct value *out)
{
    if (!c->n_pos || c->n_kw)
        return tmpl_fail(r, STRETTO_E_ARG, "loop.cycle needs the items to cycle through");
    *out = c->pos[(uint64_t)self.loop->index0 % c->n_pos];
    return STRETTO_OK;
}

static stretto_status loop_changed(struct render *r, struct value self, const struct call *c,
                                   struct value *out)
{
    struct list *l;
    bool same = false;
    TRY(tmpl_list(r, c->n_pos, &l));
    for (size_t i = 0; i < c->n_pos; i++) TRY(tmpl_push(r, l, c->pos[i]));
    struct value now = { .kind = T_TUPLE, .l = l };
    if (self.loop->changed.kind != T_MISSING) TRY(tmpl_equal(r, self.loop->changed, now, &same));
    self.loop->changed = now;
    *out = V_BOOL(!same);
    return STRETTO_OK;
}

static stretto_status loop_method(struct render *r, struct value self, const struct function *fn,
                                  struct value *out)
{
    struct method *m;
    TRY(tmpl_take(r, 1, sizeof *m, &m));
    *m = (struct method){ .self = self, .fn = fn };
    *out = (struct value){ .kind = T_METHOD, .method = m };
    return STRETTO_OK;
}

stretto_status tmpl_loop_attr(struct render *r, struct value v, const struct str *name,
                              struct value *out)
{
    static const struct function cycle = { "loop.cycle", loop_cycle }, changed = { "loop.changed", loop_changed };
    struct loop *l = v.loop;
    *out = (struct value){ .kind = T_MISSING };
    if (tmpl_is(name, "index")) *out = V_INT(l->index0 + 1);
    else if (tmpl_is(name, "index0")) *out = V_INT(l->index0);
    else if (tmpl_is(name, "first")) *out = V_BOOL(l->index0 == 0);
    else if (tmpl_is(name, "depth")) *out = V_INT(1);
    else if (tmpl_is(name, "depth0")) *out = V_INT(0);
    else if (tmpl_is(name, "cycle")) return loop_method(r, v, &cycle, out);
    else if (tmpl_is(name, "changed")) return loop_method(r, v, &changed, out);
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
    TRY(scope_open(r, l->outer, &inner));
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
        TRY(scope_fresh(r, &inner));
        r->scope = inner;
        if (loop_name != UINT32_MAX)
            TRY(scope_set(r, inner, loop_name, (struct value){ .kind = T_LOOP, .loop = l }));
        TRY(assign(r, inner, n->a, v));
        TRY(exec_all(r, &n->body));
        if (r->flow == FLOW_BREAK) { r->flow = FLOW_ON; return STRETTO_OK; }
        r->flow = FLOW_ON;
    }
}

static stretto_status exec_for(struct render *r, const struct node *n)
{
    struct scope *before = r->scope;
    struct value v;
    struct loop *l;
    bool any = false;
    TRY(eval(r, n->b, &v));
    r->line = n->line;
    TRY(tmpl_take(r, 1, sizeof *l, &l));
    *l = (struct loop){ .node = n, .outer = before, .index0 = -1, .length = -1 };
    TRY(tmpl_iter(r, v, &l->src));
    TRY(loop_turns(r, n, l, &any));
    r->scope = before;
    if (any || !n->other.n) return STRETTO_OK;
    TRY(scope_open(r, before, &r->scope));
    TRY(exec_all(r, &n->other));
    r->scope = before;
    return STRETTO_OK;
}

/* ---- */

static stretto_status exec(struct render *r, const struct node *n)
{
    struct value v;
    r->line = n->line;
    TRY(tmpl_work(r, 1));
    switch ((enum node_kind)n->kind) {
    case N_DATA: return tmpl_text(r, n->v);
    case N_PRINT:
        TRY(eval(r, n->a, &v));
        r->line = n->line;
        return tmpl_text(r, v);
    case N_IF: return exec_if(r, n);
    case N_FOR: return exec_for(r, n);
    case N_SET:
        TRY(eval(r, n->b, &v));
        return assign(r, r->scope, n->a, v);
    case N_SETBLOCK: return exec_set_block(r, n);
    case N_MACRO:
        TRY(make_macro(r, n, &v));
        return scope_set(r, r->scope, n->name, v);
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

static stretto_status exec_all(struct render *r, const struct nodes *body)
{
    TRY(tmpl_enter(r));
    for (size_t i = 0; i < body->n && r->flow == FLOW_ON; i++) TRY(exec(r, body->v[i]));
    r->depth--;
    return STRETTO_OK;
}

stretto_status tmpl_run(struct render *r)
{
    TRY(scope_open(r, NULL, &r->scope));
    return exec_all(r, &r->t->body);
}
