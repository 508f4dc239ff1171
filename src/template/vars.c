/* JSON text into the variables of a render. Numbers are Python's: integers of any size. Only names
 * that the template mentions are made. */
#include "template/template_int.h"
#include "base/json.h"
#include <string.h>

struct vars { struct render *r; struct json j; };

/* A token's text: a view of the JSON text where it stands there without escapes, else a copy. Where
 * bytes come from is known from here on; `own`: they count as the template's. */
static stretto_status text(struct vars *x, bool own, struct value *out)
{
    const struct json *j = &x->j;
    const char *from = (const char *)j->start, *end = (const char *)j->end;
    bool inside = (uintptr_t)j->p >= (uintptr_t)from && (uintptr_t)j->p < (uintptr_t)end;
    TRY(inside ? tmpl_view(x->r, j->p, j->n, out) : tmpl_copy(x->r, j->p, j->n, out));
    return x->r->track && !own ? tmpl_ones(x->r, j->n, &out->s->marks) : STRETTO_OK;
}

/* The name of a role: letters, digits, - and _ cannot spell a marker alone, and templates make theirs
 * with it: '<|' + message.role + '|>'. */
static bool plain_word(const struct json *j)
{
    bool plain = j->n > 0;
    for (size_t i = 0; i < j->n && plain; i++) {
        unsigned char c = (unsigned char)j->p[i], lower = c | 0x20;
        plain = (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    }
    return plain;
}

static stretto_status number(struct vars *x, struct value *out)
{
    int64_t i;
    double f = 0;
    if (json_i64(&x->j, &i)) {
        *out = V_INT(i);
        return STRETTO_OK;
    }
    if (json_whole(&x->j)) {
        TRY(text(x, true, out));
        out->kind = T_BIG;
        return STRETTO_OK;
    }
    if (!json_f64(&x->j, &f)) return tmpl_fail(x->r, STRETTO_E_NOMEM, "out of memory");
    *out = V_FLOAT(f);
    return STRETTO_OK;
}

static stretto_status value(struct vars *x, enum json_kind kind, struct value *out);

static stretto_status list(struct vars *x, struct value *out)
{
    enum json_kind kind;
    struct value v;
    *out = V_LIST(NULL);
    TRY(tmpl_list(x->r, 0, &out->l));
    while ((kind = json_next(&x->j)) != JT_ARRAY_END) {
        TRY(value(x, kind, &v));
        TRY(tmpl_push(x->r, out->l, v));
    }
    return STRETTO_OK;
}

static stretto_status dict(struct vars *x, struct value *out)
{
    struct value k, v;
    *out = (struct value){ .kind = T_DICT };
    TRY(tmpl_dict(x->r, &out->d));
    while (json_next(&x->j) == JT_KEY) {
        TRY(text(x, false, &k));
        enum json_kind kind = json_next(&x->j);
        bool role = kind == JT_STRING && tmpl_is(k.s, "role") && plain_word(&x->j);
        TRY(role ? text(x, true, &v) : value(x, kind, &v));
        TRY(tmpl_put(x->r, out->d, k, v));
    }
    return json_status(&x->j);
}

static stretto_status value(struct vars *x, enum json_kind kind, struct value *out)
{
    if (x->j.depth > TEMPLATE_VALUE_DEPTH)
        return tmpl_fail(x->r, STRETTO_E_FULL, "a variable is nested more than %u deep",
                         TEMPLATE_VALUE_DEPTH);
    switch (kind) {
    case JT_OBJECT: return dict(x, out);
    case JT_ARRAY: return list(x, out);
    case JT_STRING: return text(x, false, out);
    case JT_NUMBER: return number(x, out);
    case JT_TRUE: *out = V_BOOL(true); return STRETTO_OK;
    case JT_FALSE: *out = V_BOOL(false); return STRETTO_OK;
    case JT_NULL: *out = V_NONE; return STRETTO_OK;
    default: return json_status(&x->j);
    }
}

static struct value *variable(struct render *r, const char *p, size_t n)
{
    for (size_t i = 0; i < r->t->n_names; i++)
        if (r->t->names[i]->n == n && memcmp(r->t->names[i]->p, p, n) == 0) return &r->context[i];
    return NULL;
}

static stretto_status read_vars(struct vars *x)
{
    enum json_kind kind = json_next(&x->j);
    if (kind != JT_OBJECT && kind != JT_ERROR)
        return fail(x->r->err, STRETTO_E_ARG,
                    "%s holds no JSON object: the variables of a template are its members",
                    x->j.where);
    while (kind != JT_ERROR && (kind = json_next(&x->j)) == JT_KEY) {
        struct value *to = variable(x->r, x->j.p, x->j.n);
        if (to) TRY(value(x, json_next(&x->j), to));
        else if (!json_skip(&x->j)) break;
    }
    if (json_status(&x->j) == STRETTO_OK) json_next(&x->j);       /* nothing may stand behind it */
    return json_status(&x->j);
}

static stretto_status put_word(struct render *r, struct dict *d, const char *name, struct value v)
{
    struct value key;
    TRY(tmpl_view(r, name, strlen(name), &key));
    return tmpl_put(r, d, key, v);
}

/* [{"type": "text", "text": content}] */
static stretto_status one_part(struct render *r, struct value content, struct value *out)
{
    struct value part = { .kind = T_DICT }, word;
    TRY(tmpl_dict(r, &part.d));
    TRY(tmpl_view(r, "text", 4, &word));
    TRY(put_word(r, part.d, "type", word));
    TRY(put_word(r, part.d, "text", content));
    *out = V_LIST(NULL);
    TRY(tmpl_list(r, 1, &out->l));
    return tmpl_push(r, out->l, part);
}

static bool named(const char *const *names, struct value v)
{
    for (; v.kind == T_STR && *names; names++)
        if (tmpl_is(v.s, *names)) return true;
    return false;
}

static stretto_status make_parts(struct render *r, const char *const *roles)
{
    const struct value *v = variable(r, "messages", 8);
    for (size_t i = 0; v && v->kind == T_LIST && i < v->l->n; i++) {
        struct value m = v->l->v[i];
        if (m.kind != T_DICT) continue;
        const struct value *role = tmpl_find_str(m.d, "role", 4);
        struct value *content = tmpl_find_str(m.d, "content", 7);
        if (role && content && content->kind == T_STR && named(roles, *role))
            TRY(one_part(r, *content, content));
    }
    return STRETTO_OK;
}

stretto_status tmpl_variables(struct render *r, const struct template_input *in)
{
    struct vars x = { .r = r };
    TRY(tmpl_take(r, r->t->n_names, sizeof *r->context, &r->context));
    for (size_t i = 0; i < r->t->n_names; i++) {
        const struct function *fn = tmpl_global(r->t->names[i]);
        if (fn) r->context[i] = (struct value){ .kind = T_FUNCTION, .fn = fn };
    }
    for (size_t i = 0; i < in->n_tokens; i++) {
        const struct template_token *t = &in->tokens[i];
        struct value *to = variable(r, t->name, strlen(t->name));
        if (to) TRY(tmpl_copy(r, t->p, t->n, to));
    }
    if (!in->vars) return STRETTO_OK;
    json_open(&x.j, in->vars, in->n_vars, in->where ? in->where : "the variables", r->err);
    stretto_status s = read_vars(&x);
    json_done(&x.j);
    return s == STRETTO_OK && in->parts ? make_parts(r, in->parts) : s;
}
