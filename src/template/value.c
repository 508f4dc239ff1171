/* Values of a template: memory, strings, lists, dictionaries, and Python's rules of truth,
 * equality, order and iteration. Dictionaries are short and never shrink: a linear search over
 * stored hashes. */
#include "template/template_int.h"
#include "base/memory.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CHUNK ((size_t)64 << 10)

struct chunk { struct chunk *next; size_t used, cap; _Alignas(16) unsigned char data[]; };

void *tmpl_pool_take(struct pool *p, size_t n)
{
    if (n > p->max) return NULL;
    n = (n + 15) & ~(size_t)15;
    if (n > p->max - p->taken) return NULL;
    struct chunk *c = p->head;
    if (!c || n > c->cap - c->used) {
        size_t cap = n > CHUNK / 4 ? n : CHUNK;
        c = mem_alloc(sizeof *c + cap);
        if (!c) return NULL;
        *c = (struct chunk){ .cap = cap };
        /* A large item gets a chunk of its own behind the head, whose room stays in use. */
        if (cap != CHUNK && p->head) {
            c->next = p->head->next;
            p->head->next = c;
        } else {
            c->next = p->head;
            p->head = c;
        }
    }
    void *at = c->data + c->used;
    c->used += n;
    p->taken += n;
    return at;
}

void tmpl_pool_done(struct pool *p)
{
    for (struct chunk *c = p->head, *next; c; c = next) {
        next = c->next;
        mem_free(c);
    }
    p->head = NULL;
    p->taken = 0;
}

void tmpl_say(struct render *r, stretto_status s, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fail(r->err, s, "chat template, line %u: %s", (unsigned)r->line, text);
}

stretto_status tmpl_take(struct render *r, size_t n, size_t size, void *out)
{
    size_t bytes;
    void *p = NULL;
    bool fits = !__builtin_mul_overflow(n, size, &bytes) && bytes <= r->pool.max - r->pool.taken;
    if (fits) p = tmpl_pool_take(&r->pool, bytes ? bytes : 1);
    memcpy(out, &p, sizeof p);
    if (!p) {
        if (fits && bytes + 16 <= r->pool.max - r->pool.taken)
            return tmpl_fail(r, STRETTO_E_NOMEM, "out of memory");
        return tmpl_fail(r, STRETTO_E_FULL, "the template needs more than %zu MiB of memory",
                         r->pool.max >> 20);
    }
    memset(p, 0, bytes);
    return STRETTO_OK;
}

stretto_status tmpl_work(struct render *r, size_t n)
{
    r->work += n;
    if (r->work > TEMPLATE_WORK_MAX)
        return tmpl_fail(r, STRETTO_E_FULL, "the template works too long (limit: %u steps)",
                         TEMPLATE_WORK_MAX);
    return STRETTO_OK;
}

stretto_status tmpl_enter(struct render *r)
{
    if (++r->depth > TEMPLATE_DEPTH_MAX)
        return tmpl_fail(r, STRETTO_E_FULL, "expressions or macros are nested more than %u deep",
                         TEMPLATE_DEPTH_MAX);
    return tmpl_work(r, 1);
}

const char *tmpl_type(struct value v)
{
    switch ((enum kind)v.kind) {
    case T_MISSING: case T_UNDEFINED: return "Undefined";
    case T_NONE: return "NoneType";
    case T_BOOL: return "bool";
    case T_INT: case T_BIG: return "int";
    case T_FLOAT: return "float";
    case T_STR: return "str";
    case T_LIST: return "list";
    case T_TUPLE: return "tuple";
    case T_DICT: return "dict";
    case T_VIEW: return v.view->what == 'k' ? "dict_keys" : v.view->what == 'v' ? "dict_values" : "dict_items";
    case T_RANGE: return "range";
    case T_ITER: return "generator";
    case T_NAMESPACE: return "Namespace";
    case T_MACRO: return "Macro";
    case T_FUNCTION: return "function";
    case T_METHOD: return "builtin_function_or_method";
    case T_LOOP: return "LoopContext";
    }
    return "value";
}

/* ---- strings --------------------------------------------------------------------------------- */

size_t tmpl_chars(struct str *s)
{
    if (s->chars == SIZE_MAX) {
        size_t n = 0;
        for (size_t i = 0; i < s->n; i++) n += ((unsigned char)s->p[i] & 0xC0) != 0x80;
        s->chars = n;
    }
    return s->chars;
}

size_t tmpl_offset(struct str *s, size_t at)
{
    if (tmpl_chars(s) == s->n) return at;
    size_t i = 0;
    for (; i < s->n; i++)
        if (((unsigned char)s->p[i] & 0xC0) != 0x80 && at-- == 0) break;
    return i;
}

bool tmpl_is(const struct str *s, const char *word)
{
    size_t n = strlen(word);
    return s->n == n && memcmp(s->p, word, n) == 0;
}

stretto_status tmpl_view(struct render *r, const char *p, size_t n, struct value *out)
{
    struct str *s;
    TRY(tmpl_take(r, 1, sizeof *s, &s));
    *s = (struct str){ .p = p, .n = n, .chars = SIZE_MAX };
    if (r->track && r->from) TRY(tmpl_ones(r, n, &s->marks));
    *out = V_STR(s);
    return STRETTO_OK;
}

stretto_status tmpl_part(struct render *r, const struct str *s, const char *p, size_t n,
                         struct value *out)
{
    unsigned char from = r->from;
    r->from = 0;
    TRY(tmpl_view(r, p, n, out));
    r->from = from;
    if (s->marks) out->s->marks = s->marks + (p - s->p);
    return STRETTO_OK;
}

stretto_status tmpl_ones(struct render *r, size_t n, const unsigned char **out)
{
    if (n > r->n_ones) {
        size_t cap = n < 4096 ? 4096 : 2 * n;
        unsigned char *ones;
        TRY(tmpl_take(r, cap, 1, &ones));
        memset(ones, 1, cap);
        r->ones = ones;
        r->n_ones = cap;
    }
    *out = r->ones;
    return STRETTO_OK;
}

bool tmpl_marked(struct value v)
{
    return v.kind == T_STR && v.s->marks && memchr(v.s->marks, 1, v.s->n);
}

stretto_status tmpl_copy(struct render *r, const char *p, size_t n, struct value *out)
{
    char *to;
    TRY(tmpl_take(r, n, 1, &to));
    if (n) memcpy(to, p, n);
    return tmpl_view(r, to, n, out);
}

/* ---- lists ----------------------------------------------------------------------------------- */

stretto_status tmpl_list(struct render *r, size_t cap, struct list **out)
{
    TRY(tmpl_take(r, 1, sizeof **out, out));
    if (cap) TRY(tmpl_take(r, cap, sizeof(struct value), &(*out)->v));
    (*out)->cap = cap;
    return STRETTO_OK;
}

stretto_status tmpl_push(struct render *r, struct list *l, struct value v)
{
    if (l->n == l->cap) {
        struct value *to;
        size_t cap = l->cap ? 2 * l->cap : 4;
        TRY(tmpl_take(r, cap, sizeof *to, &to));
        if (l->n) memcpy(to, l->v, l->n * sizeof *to);
        l->v = to;
        l->cap = cap;
    }
    l->v[l->n++] = v;
    return STRETTO_OK;
}

stretto_status tmpl_pair(struct render *r, struct value a, struct value b, struct value *out)
{
    struct list *l;
    TRY(tmpl_list(r, 2, &l));
    l->v[0] = a;
    l->v[1] = b;
    l->n = 2;
    *out = (struct value){ .kind = T_TUPLE, .l = l };
    return STRETTO_OK;
}

/* ---- dictionaries ---------------------------------------------------------------------------- */

static uint64_t hash_bytes(const char *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;                    /* FNV-1a */
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 0x100000001b3u;
    return h;
}

/* Equal keys have equal hashes: 1, 1.0 and true are one key. */
static stretto_status hash_of(struct render *r, struct value v, unsigned depth, uint64_t *out)
{
    int64_t i = 0;
    *out = 0;
    switch ((enum kind)v.kind) {
    case T_STR:
        TRY(tmpl_work(r, v.s->n / 64));
        *out = hash_bytes(v.s->p, v.s->n);
        return STRETTO_OK;
    case T_BIG:
        v = V_FLOAT(tmpl_big_float(v));
        memcpy(&i, &v.f, sizeof i);
        *out = (uint64_t)i * 0x9e3779b97f4a7c15u;
        return STRETTO_OK;
    case T_FLOAT:
        if (v.f >= -9e18 && v.f <= 9e18 && v.f == floor(v.f)) i = (int64_t)v.f;
        else memcpy(&i, &v.f, sizeof i);
        *out = (uint64_t)i * 0x9e3779b97f4a7c15u;
        return STRETTO_OK;
    case T_BOOL: case T_INT:
        tmpl_to_int(v, &i);
        *out = (uint64_t)i * 0x9e3779b97f4a7c15u;
        return STRETTO_OK;
    case T_TUPLE:
        if (depth > TEMPLATE_VALUE_DEPTH)
            return tmpl_fail(r, STRETTO_E_FULL, "values are nested too deeply");
        TRY(tmpl_work(r, v.l->n));
        *out = 17;
        for (size_t k = 0; k < v.l->n; k++) {
            uint64_t h;
            TRY(hash_of(r, v.l->v[k], depth + 1, &h));
            *out = (*out ^ h) * 0x100000001b3u;
        }
        return STRETTO_OK;
    case T_LIST: case T_DICT: case T_VIEW:
        return tmpl_fail(r, STRETTO_E_ARG, "unhashable type: '%s'", tmpl_type(v));
    case T_NONE: case T_UNDEFINED: case T_MISSING:
        *out = v.kind;
        return STRETTO_OK;
    default:
        *out = (uint64_t)(uintptr_t)v.l;
        return STRETTO_OK;
    }
}

stretto_status tmpl_dict(struct render *r,
                         struct dict **out) { return tmpl_take(r, 1, sizeof **out, out); }

static stretto_status find(struct render *r, const struct dict *d, struct value key, uint64_t hash,
                           struct value **out)
{
    *out = NULL;
    TRY(tmpl_work(r, d->n / 8));
    for (size_t i = 0; i < d->n; i++) {
        bool same;
        if (d->e[i].hash != hash) continue;
        TRY(tmpl_equal(r, d->e[i].k, key, &same));
        if (same) { *out = &d->e[i].v; break; }
    }
    return STRETTO_OK;
}

stretto_status tmpl_find(struct render *r, const struct dict *d, struct value key,
                         struct value **out)
{
    uint64_t hash;
    TRY(hash_of(r, key, 0, &hash));
    return find(r, d, key, hash, out);
}

struct value *tmpl_find_str(const struct dict *d, const char *p, size_t n)
{
    uint64_t hash = hash_bytes(p, n);
    for (size_t i = 0; i < d->n; i++)
        if (d->e[i].hash == hash && d->e[i].k.kind == T_STR && d->e[i].k.s->n == n
                && memcmp(d->e[i].k.s->p, p, n) == 0)
            return &d->e[i].v;
    return NULL;
}

static stretto_status append_entry(struct render *r, struct dict *d, struct entry e)
{
    if (d->n == d->cap) {
        struct entry *to;
        size_t cap = d->cap ? 2 * d->cap : 4;
        TRY(tmpl_take(r, cap, sizeof *to, &to));
        if (d->n) memcpy(to, d->e, d->n * sizeof *to);
        d->e = to;
        d->cap = cap;
    }
    d->e[d->n++] = e;
    return STRETTO_OK;
}

stretto_status tmpl_put(struct render *r, struct dict *d, struct value key, struct value v)
{
    uint64_t hash;
    struct value *at;
    TRY(hash_of(r, key, 0, &hash));
    TRY(find(r, d, key, hash, &at));
    if (at) { *at = v; return STRETTO_OK; }
    return append_entry(r, d, (struct entry){ .k = key, .v = v, .hash = hash });
}

/* ---- Python's rules -------------------------------------------------------------------------- */

bool tmpl_truth(struct value v)
{
    switch ((enum kind)v.kind) {
    case T_MISSING: case T_UNDEFINED: case T_NONE: return false;
    case T_BOOL: return v.b;
    case T_INT: return v.i != 0;
    case T_FLOAT: return v.f != 0;
    case T_STR: return v.s->n != 0;
    case T_LIST: case T_TUPLE: return v.l->n != 0;
    case T_DICT: return v.d->n != 0;
    case T_VIEW: return v.view->d->n != 0;
    case T_RANGE: return v.range->n != 0;
    default: return true;
    }
}

bool tmpl_to_int(struct value v, int64_t *out)
{
    if (v.kind == T_BOOL) *out = v.b;
    else if (v.kind == T_INT) *out = v.i;
    else return false;
    return true;
}

bool tmpl_to_float(struct value v, double *out)
{
    int64_t i;
    if (v.kind == T_FLOAT) *out = v.f;
    else if (tmpl_to_int(v, &i)) *out = (double)i;
    else return false;
    return true;
}

stretto_status tmpl_len(struct render *r, struct value v, size_t *out)
{
    *out = 0;
    switch ((enum kind)v.kind) {
    case T_UNDEFINED: return STRETTO_OK;
    case T_STR:
        if (v.s->chars == SIZE_MAX) TRY(tmpl_work(r, v.s->n / 64));
        *out = tmpl_chars(v.s);
        return STRETTO_OK;
    case T_LIST: case T_TUPLE: *out = v.l->n; return STRETTO_OK;
    case T_DICT: *out = v.d->n; return STRETTO_OK;
    case T_VIEW: *out = v.view->d->n; return STRETTO_OK;
    case T_RANGE: *out = v.range->n; return STRETTO_OK;
    default: return tmpl_fail(r, STRETTO_E_ARG, "object of type '%s' has no len()", tmpl_type(v));
    }
}

static int order(long double a, long double b) { return a < b ? -1 : a > b ? 1 : a == b ? 0 : 2; }

/* long double holds every int64 and every double. */
static bool number(struct value v, long double *out)
{
    int64_t i;
    if (v.kind == T_FLOAT) *out = v.f;
    else if (tmpl_to_int(v, &i)) *out = (long double)i;
    else return false;
    return true;
}

/* Numbers of which one is larger than 64 bits; they have an order of their own. */
static bool big(struct value a, struct value b)
{
    long double x;
    return (a.kind == T_BIG && (b.kind == T_BIG || number(b, &x))) || (b.kind == T_BIG && number(a, &x));
}

static stretto_status equal(struct render *r, struct value a, struct value b, unsigned depth,
                            bool *out)
{
    long double x, y;
    *out = false;
    TRY(tmpl_work(r, 1));
    if (depth > TEMPLATE_VALUE_DEPTH)
        return tmpl_fail(r, STRETTO_E_FULL, "values are nested too deeply to be compared");
    if (big(a, b)) { *out = tmpl_big_order(a, b) == 0; return STRETTO_OK; }
    if (number(a, &x)) { *out = number(b, &y) && order(x, y) == 0; return STRETTO_OK; }
    if (a.kind != b.kind) return STRETTO_OK;
    switch ((enum kind)a.kind) {
    case T_UNDEFINED: case T_NONE: *out = true; return STRETTO_OK;
    case T_STR:
        TRY(tmpl_work(r, a.s->n / 64));
        *out = a.s->n == b.s->n && memcmp(a.s->p, b.s->p, a.s->n) == 0;
        return STRETTO_OK;
    case T_LIST: case T_TUPLE:
        if (a.l->n != b.l->n) return STRETTO_OK;
        for (size_t i = 0; i < a.l->n; i++) {
            TRY(equal(r, a.l->v[i], b.l->v[i], depth + 1, out));
            if (!*out) return STRETTO_OK;
        }
        *out = true;
        return STRETTO_OK;
    case T_DICT:
        if (a.d->n != b.d->n) return STRETTO_OK;
        for (size_t i = 0; i < a.d->n; i++) {
            struct value *at;
            TRY(find(r, b.d, a.d->e[i].k, a.d->e[i].hash, &at));
            if (!at) { *out = false; return STRETTO_OK; }
            TRY(equal(r, a.d->e[i].v, *at, depth + 1, out));
            if (!*out) return STRETTO_OK;
        }
        *out = true;
        return STRETTO_OK;
    case T_RANGE:
        *out = a.range->n == b.range->n
            && (!a.range->n || (a.range->start == b.range->start
                                && (a.range->n == 1 || a.range->step == b.range->step)));
        return STRETTO_OK;
    case T_VIEW:
        if (a.view->what != 'v' && b.view->what != 'v' && a.view != b.view)
            return tmpl_fail(r, STRETTO_E_UNSUP,
                             "comparing dict views is not supported; add |list");
        *out = a.view == b.view;
        return STRETTO_OK;
    case T_FUNCTION: *out = a.fn == b.fn; return STRETTO_OK;
    case T_METHOD: *out = a.method == b.method; return STRETTO_OK;
    default: *out = a.l == b.l; return STRETTO_OK;
    }
}

stretto_status tmpl_equal(struct render *r, struct value a, struct value b, bool *out)
{
    return equal(r, a, b, 0, out);
}

static stretto_status compare(struct render *r, struct value a, struct value b, unsigned depth,
                              int *out)
{
    long double x, y;
    TRY(tmpl_work(r, 1));
    if (depth > TEMPLATE_VALUE_DEPTH)
        return tmpl_fail(r, STRETTO_E_FULL, "values are nested too deeply to be compared");
    if (a.kind == T_UNDEFINED) return tmpl_use_undefined(r, a);
    if (b.kind == T_UNDEFINED) return tmpl_use_undefined(r, b);
    if (big(a, b)) { *out = tmpl_big_order(a, b); return STRETTO_OK; }
    if (number(a, &x) && number(b, &y)) { *out = order(x, y); return STRETTO_OK; }
    if (a.kind == T_STR && b.kind == T_STR) {
        size_t n = a.s->n < b.s->n ? a.s->n : b.s->n;
        TRY(tmpl_work(r, n / 64));
        int c = memcmp(a.s->p, b.s->p, n);               /* UTF-8 sorts as code points do */
        *out = c ? (c < 0 ? -1 : 1) : (a.s->n > b.s->n) - (a.s->n < b.s->n);
        return STRETTO_OK;
    }
    if (a.kind == b.kind && (a.kind == T_LIST || a.kind == T_TUPLE)) {
        for (size_t i = 0; i < a.l->n && i < b.l->n; i++) {
            bool same;
            TRY(equal(r, a.l->v[i], b.l->v[i], depth + 1, &same));
            if (!same) return compare(r, a.l->v[i], b.l->v[i], depth + 1, out);
        }
        *out = (a.l->n > b.l->n) - (a.l->n < b.l->n);
        return STRETTO_OK;
    }
    return tmpl_fail(r, STRETTO_E_ARG, "'<' not supported between instances of '%s' and '%s'",
                     tmpl_type(a), tmpl_type(b));
}

stretto_status tmpl_compare(struct render *r, struct value a, struct value b, int *out)
{
    return compare(r, a, b, 0, out);
}

stretto_status tmpl_contains(struct render *r, struct value seq, struct value item, bool *out)
{
    struct value *at, v;
    *out = false;
    if (seq.kind == T_STR) {
        if (item.kind != T_STR)
            return tmpl_fail(r, STRETTO_E_ARG,
                             "'in <string>' requires string as left operand, not %s",
                             tmpl_type(item));
        TRY(tmpl_work(r, seq.s->n / 16));
        *out = !item.s->n || memmem(seq.s->p, seq.s->n, item.s->p, item.s->n);
        return STRETTO_OK;
    }
    if (seq.kind == T_DICT || (seq.kind == T_VIEW && seq.view->what == 'k')) {
        TRY(tmpl_find(r, seq.kind == T_DICT ? seq.d : seq.view->d, item, &at));
        *out = at != NULL;
        return STRETTO_OK;
    }
    struct iter it;
    if (seq.kind >= T_NONE && seq.kind <= T_FLOAT)
        return tmpl_fail(r, STRETTO_E_ARG, "argument of type '%s' is not iterable", tmpl_type(seq));
    TRY(tmpl_iter(r, seq, &it));
    for (;;) {
        bool more;
        TRY(tmpl_next(r, &it, &v, &more));
        if (!more) return STRETTO_OK;
        TRY(tmpl_equal(r, v, item, out));
        if (*out) return STRETTO_OK;
    }
}

/* ---- iteration ------------------------------------------------------------------------------- */

stretto_status tmpl_iter(struct render *r, struct value v, struct iter *out)
{
    *out = (struct iter){ .v = v };
    switch ((enum kind)v.kind) {
    case T_UNDEFINED: case T_STR: case T_LIST: case T_TUPLE: case T_DICT: case T_VIEW: case T_RANGE:
    case T_ITER: return STRETTO_OK;
    default: return tmpl_fail(r, STRETTO_E_ARG, "'%s' object is not iterable", tmpl_type(v));
    }
}

static stretto_status next_char(struct render *r, struct iter *it, struct value *out, bool *more)
{
    struct str *s = it->v.s;
    if (it->at >= s->n) return STRETTO_OK;
    uint32_t cp;
    size_t n = tmpl_decode(s->p + it->at, s->n - it->at, &cp);
    TRY(tmpl_part(r, s, s->p + it->at, n, out));
    it->at += n;
    *more = true;
    return STRETTO_OK;
}

stretto_status tmpl_next(struct render *r, struct iter *it, struct value *out, bool *more)
{
    *more = false;
    TRY(tmpl_work(r, 1));
    struct value v = it->v;
    const struct dict *d = v.kind == T_DICT ? v.d : v.kind == T_VIEW ? v.view->d : NULL;
    if (d) {
        if (it->at >= d->n) return STRETTO_OK;
        const struct entry *e = &d->e[it->at++];
        *more = true;
        if (v.kind == T_VIEW && v.view->what == 'i') return tmpl_pair(r, e->k, e->v, out);
        *out = v.kind == T_VIEW && v.view->what == 'v' ? e->v : e->k;
        return STRETTO_OK;
    }
    switch ((enum kind)v.kind) {
    case T_STR: return next_char(r, it, out, more);
    case T_LIST: case T_TUPLE:
        if (it->at >= v.l->n) return STRETTO_OK;
        *out = v.l->v[it->at++];
        break;
    case T_RANGE:
        if (it->at >= v.range->n) return STRETTO_OK;
        *out = V_INT(v.range->start + (int64_t)it->at++ * v.range->step);
        break;
    case T_ITER:
        if (v.iter->at >= v.iter->l->n) return STRETTO_OK;
        *out = v.iter->l->v[v.iter->at++];
        break;
    default: return STRETTO_OK;
    }
    *more = true;
    return STRETTO_OK;
}

stretto_status tmpl_to_list(struct render *r, struct value v, struct list **out)
{
    struct iter it;
    TRY(tmpl_iter(r, v, &it));
    TRY(tmpl_list(r, 0, out));
    for (;;) {
        struct value item;
        bool more;
        TRY(tmpl_next(r, &it, &item, &more));
        if (!more) return STRETTO_OK;
        TRY(tmpl_push(r, *out, item));
    }
}

/* ---- undefined ------------------------------------------------------------------------------- */

stretto_status tmpl_undefined(struct render *r, const char *type, const struct str *name,
                              const char *hint, struct value *out)
{
    struct undefined *u;
    TRY(tmpl_take(r, 1, sizeof *u, &u));
    *u = (struct undefined){ .type = type, .name = name, .hint = hint };
    *out = (struct value){ .kind = T_UNDEFINED, .u = u };
    return STRETTO_OK;
}

stretto_status tmpl_use_undefined(struct render *r, struct value v)
{
    const struct undefined *u = v.u;
    int n = u->name ? (int)(u->name->n < 100 ? u->name->n : 100) : 0;
    const char *name = u->name ? u->name->p : "";
    if (u->hint && u->name) return tmpl_fail(r, STRETTO_E_ARG, "'%.*s' %s", n, name, u->hint);
    if (u->hint) return tmpl_fail(r, STRETTO_E_ARG, "%s", u->hint);
    if (!u->type) return tmpl_fail(r, STRETTO_E_ARG, "'%.*s' is undefined", n, name);
    return tmpl_fail(r, STRETTO_E_ARG, "'%s' has no attribute or item '%.*s'", u->type, n, name);
}

/* ---- sorting --------------------------------------------------------------------------------- */

/* Whether `b` must go before `a`; ties keep their order, also reversed. */
static stretto_status before(struct render *r, struct value a, struct value b, bool reverse,
                             bool *out)
{
    int c;
    TRY(tmpl_compare(r, b, a, &c));
    *out = reverse ? c == 1 : c == -1;
    return STRETTO_OK;
}

/* Merge sort of `l` by `keys`, which move along. */
stretto_status tmpl_sort(struct render *r, struct list *l, struct list *keys, bool reverse)
{
    size_t n = l->n;
    struct value *v = l->v, *k = keys->v, *v2, *k2;
    TRY(tmpl_take(r, n, sizeof *v2, &v2));
    TRY(tmpl_take(r, n, sizeof *k2, &k2));
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * run) {
            size_t mid = lo + run < n ? lo + run : n, hi = mid + run < n ? mid + run : n;
            size_t i = lo, j = mid;
            for (size_t at = lo; at < hi; at++) {
                bool right = i == mid;
                if (!right && j < hi) TRY(before(r, k[i], k[j], reverse, &right));
                size_t from = right ? j++ : i++;
                v2[at] = v[from];
                k2[at] = k[from];
            }
        }
        struct value *t = v; v = v2; v2 = t;
        t = k; k = k2; k2 = t;
    }
    l->v = v;
    l->cap = n;
    keys->v = k;
    keys->cap = n;
    return STRETTO_OK;
}
