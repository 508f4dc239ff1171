/* Arguments of built-in functions, and the functions a template finds without being given any:
 * Jinja's range, dict, namespace, cycler and joiner, and raise_exception and strftime_now as
 * chat templates expect them. */
#include "template/template_int.h"
#include <string.h>

/* The position of a name in "a b? c?", or -1; the number of words in *n. */
static int param_at(const char *params, const struct str *name, size_t *n)
{
    int found = -1;
    *n = 0;
    for (const char *p = params; *p; (*n)++) {
        size_t len = strcspn(p, " "), word = len && p[len - 1] == '?' ? len - 1 : len;
        if (name && name->n == word && memcmp(name->p, p, word) == 0) found = (int)*n;
        p += len;
        p += *p == ' ';
    }
    return found;
}

stretto_status tmpl_bind(struct render *r, const char *who, const struct call *c,
                         const char *params, struct value *out)
{
    size_t n, i = 0;
    param_at(params, NULL, &n);
    if (c->n_pos > n)
        return tmpl_fail(r, STRETTO_E_ARG, "%s takes at most %zu argument(s), %zu given", who, n,
                         c->n_pos);
    for (; i < n; i++) out[i] = i < c->n_pos ? c->pos[i] : (struct value){ .kind = T_MISSING };
    for (i = 0; i < c->n_kw; i++) {
        int at = param_at(params, c->kw[i].name, &n);
        if (at < 0 || out[at].kind != T_MISSING)
            return tmpl_fail(r, STRETTO_E_ARG, "%s %s argument '%.*s'", who,
                             at < 0 ? "has no" : "got twice the",
                             tmpl_shown(c->kw[i].name->n), c->kw[i].name->p);
        out[at] = c->kw[i].v;
    }
    const char *p = params;
    for (i = 0; *p; i++) {
        size_t len = strcspn(p, " ");
        if (p[len - 1] != '?' && out[i].kind == T_MISSING)
            return tmpl_fail(r, STRETTO_E_ARG, "%s misses its argument '%.*s'", who, (int)len, p);
        p += len;
        p += *p == ' ';
    }
    return STRETTO_OK;
}

stretto_status tmpl_want_str(struct render *r, const char *who, struct value v, struct str **out)
{
    if (v.kind == T_UNDEFINED) return tmpl_use_undefined(r, v);
    if (v.kind != T_STR)
        return tmpl_fail(r, STRETTO_E_ARG, "%s wants a string, not %s", who, tmpl_type(v));
    *out = v.s;
    return STRETTO_OK;
}

stretto_status tmpl_want_int(struct render *r, const char *who, struct value v, int64_t *out)
{
    if (v.kind == T_UNDEFINED) return tmpl_use_undefined(r, v);
    if (!tmpl_to_int(v, out))
        return tmpl_fail(r, STRETTO_E_ARG, "%s wants an integer, not %s", who, tmpl_type(v));
    return STRETTO_OK;
}

static stretto_status fn_range(struct render *r, struct value self, const struct call *c,
                               struct value *out)
{
    struct value a[3];
    struct range g = { .step = 1 };
    (void)self;
    TRY(tmpl_bind(r, "range", c, c->n_pos < 2 ? "stop" : "start stop step?", a));
    if (c->n_pos < 2) TRY(tmpl_want_int(r, "range", a[0], &g.stop));
    else {
        TRY(tmpl_want_int(r, "range", a[0], &g.start));
        TRY(tmpl_want_int(r, "range", a[1], &g.stop));
        if (a[2].kind != T_MISSING) TRY(tmpl_want_int(r, "range", a[2], &g.step));
    }
    if (!g.step) return tmpl_fail(r, STRETTO_E_ARG, "the step of range must not be zero");
    int64_t low = g.step > 0 ? g.start : g.stop, high = g.step > 0 ? g.stop : g.start;
    uint64_t step = g.step > 0 ? (uint64_t)g.step : 0 - (uint64_t)g.step;
    uint64_t n = high > low ? ((uint64_t)high - (uint64_t)low - 1) / step + 1 : 0;
    if (n > TEMPLATE_RANGE_MAX)
        return tmpl_fail(r, STRETTO_E_FULL, "a range of more than %d items is refused",
                         TEMPLATE_RANGE_MAX);
    g.n = (size_t)n;
    *out = (struct value){ .kind = T_RANGE };
    TRY(tmpl_take(r, 1, sizeof g, &out->range));
    *out->range = g;
    return STRETTO_OK;
}

/* A mapping or pairs, then named members. */
static stretto_status fill_dict(struct render *r, const char *who, const struct call *c,
                                struct dict **out)
{
    TRY(tmpl_dict(r, out));
    if (c->n_pos > 1)
        return tmpl_fail(r, STRETTO_E_ARG, "%s takes at most one positional argument", who);
    if (c->n_pos && c->pos[0].kind == T_DICT) {
        const struct dict *d = c->pos[0].d;
        for (size_t i = 0; i < d->n; i++) TRY(tmpl_put(r, *out, d->e[i].k, d->e[i].v));
    } else if (c->n_pos) {
        struct list *pairs, *pair;
        TRY(tmpl_to_list(r, c->pos[0], &pairs));
        for (size_t i = 0; i < pairs->n; i++) {
            TRY(tmpl_to_list(r, pairs->v[i], &pair));
            if (pair->n != 2)
                return tmpl_fail(r, STRETTO_E_ARG, "%s wants pairs, item %zu has %zu", who, i,
                                 pair->n);
            TRY(tmpl_put(r, *out, pair->v[0], pair->v[1]));
        }
    }
    for (size_t i = 0; i < c->n_kw; i++) {
        struct value key;
        TRY(tmpl_view(r, c->kw[i].name->p, c->kw[i].name->n, &key));
        TRY(tmpl_put(r, *out, key, c->kw[i].v));
    }
    return STRETTO_OK;
}

static stretto_status fn_dict(struct render *r, struct value self, const struct call *c,
                              struct value *out)
{
    (void)self;
    *out = (struct value){ .kind = T_DICT };
    return fill_dict(r, "dict", c, &out->d);
}

static stretto_status fn_namespace(struct render *r, struct value self, const struct call *c,
                                   struct value *out)
{
    (void)self;
    *out = (struct value){ .kind = T_NAMESPACE };
    return fill_dict(r, "namespace", c, &out->d);
}

static stretto_status fn_raise(struct render *r, struct value self, const struct call *c,
                               struct value *out)
{
    struct value v, text;
    (void)self;
    (void)out;
    TRY(tmpl_bind(r, "raise_exception", c, "message", &v));
    TRY(tmpl_to_str(r, v, &text));
    return tmpl_fail(r, STRETTO_E_ARG, "%.*s", (int)(text.s->n < 300 ? text.s->n : 300), text.s->p);
}

static stretto_status fn_strftime(struct render *r, struct value self, const struct call *c,
                                  struct value *out)
{
    struct value v;
    struct str *fmt = NULL;
    (void)self;
    TRY(tmpl_bind(r, "strftime_now", c, "format", &v));
    TRY(tmpl_want_str(r, "strftime_now", v, &fmt));
    return tmpl_strftime(r, fmt, out);
}

/* What Jinja has and chat templates do not use; it exists, so that asking whether it is defined is right. */
static stretto_status fn_absent(struct render *r, struct value self, const struct call *c,
                                struct value *out)
{
    (void)c;
    (void)out;
    return tmpl_fail(r, STRETTO_E_UNSUP, "the function %s is not supported", self.fn->name);
}

const struct function *tmpl_global(const struct str *name)
{
    static const struct function table[] = {
        { "range", fn_range }, { "dict", fn_dict }, { "namespace", fn_namespace },
        { "raise_exception", fn_raise }, { "strftime_now", fn_strftime }, { "cycler", fn_absent },
        { "joiner", fn_absent }, { "lipsum", fn_absent },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (tmpl_is(name, table[i].name)) return &table[i];
    return NULL;
}
