/* Tokens into the tree, by recursive descent along Jinja's grammar. What the grammar knows but this
 * interpreter does not (include, extends, recursive loops, ...) is refused by name.
 *
 * Fields of a node by kind:
 *   CONST v | NAME name | LIST TUPLE CONCAT list | DICT list = k, v, k, v ... | COND a if b else c
 *   OR AND BINARY(op) a b | NOT NEG POS a | COMPARE a, list = operands, body = their operators (op)
 *   ATTR a . v | ITEM a [b] | SLICE a [list of three, NULL = absent] | CALL a (args)
 *   FILTER a (NULL: the text of a block), v = name, fn, args | TEST the same | NSREF name . v
 *   DATA v | PRINT a | IF list = conditions, other = bodies as SCOPE nodes, body = else
 *   FOR a = target, b = iterable, c = condition, body, other = else
 *   SET a = target, b | SETBLOCK a, b = filters or NULL, body | MACRO name, sig, body, v = its name
 *   CALLBLOCK a = call, sig, body | FILTERBLOCK b = filters, body | WITH list = targets, other = values,
 *   body | SCOPE body */
#include "template/template_int.h"
#include <string.h>

struct parser {
    struct render *r;
    struct template *t;
    const struct token *tok;
    uint32_t nest;                       /* of brackets, unary operators and blocks */
    uint32_t loops;                      /* for loops around this place, macros reset it */
    struct signature *sig[TEMPLATE_NEST_MAX];      /* macros and call blocks around this place */
    size_t n_sig;
};

static const struct { int kind; const char *text; } token_texts[] = {
    { K_EOF, "end of template" }, { K_DATA, "template text" }, { K_VAR_BEGIN, "{{" }, { K_VAR_END, "}}" },
    { K_BLOCK_BEGIN, "{%" }, { K_BLOCK_END, "%}" }, { K_RPAREN, ")" }, { K_RBRACKET, "]" },
    { K_RBRACE, "}" }, { K_LPAREN, "(" }, { K_COLON, ":" }, { K_COMMA, "," }, { K_ASSIGN, "=" },
    { K_NAME, "a name" },
};

static stretto_status unexpected(struct parser *p, const char *want)
{
    const struct token *k = p->tok;
    p->r->line = k->line;
    const char *text = NULL;
    for (size_t i = 0; i < sizeof token_texts / sizeof *token_texts; i++)
        if (token_texts[i].kind == k->kind && k->kind != K_NAME) text = token_texts[i].text;
    int n = (int)(text ? strlen(text) : k->n < 40 ? k->n : 40);
    if (!text) text = k->p;
    return tmpl_fail(p->r, STRETTO_E_FORMAT, "expected %s, got '%.*s'", want, n, text);
}

static bool at_name(const struct parser *p, const char *word)
{
    size_t n = strlen(word);
    return p->tok->kind == K_NAME && p->tok->n == n && memcmp(p->tok->p, word, n) == 0;
}

/* The lexer's list ends with K_EOF, which is never passed. */
static void step(struct parser *p) { if (p->tok->kind != K_EOF) p->tok++; }

static bool take(struct parser *p, int kind)
{
    if (p->tok->kind != kind) return false;
    step(p);
    return true;
}

static bool take_name(struct parser *p, const char *word)
{
    if (!at_name(p, word)) return false;
    step(p);
    return true;
}

static stretto_status expect(struct parser *p, int kind)
{
    if (take(p, kind)) return STRETTO_OK;
    for (size_t i = 0; i < sizeof token_texts / sizeof *token_texts; i++)
        if (token_texts[i].kind == kind) return unexpected(p, token_texts[i].text);
    return unexpected(p, "something else");
}

static stretto_status enter(struct parser *p)
{
    if (++p->nest > TEMPLATE_NEST_MAX) {
        p->r->line = p->tok->line;
        return tmpl_fail(p->r, STRETTO_E_FULL, "blocks and brackets are nested more than %u deep",
                         TEMPLATE_NEST_MAX);
    }
    return STRETTO_OK;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static stretto_status make(struct parser *p, int kind, uint32_t line, struct node **out)
{
    p->r->line = line;
    TRY(tmpl_take(p->r, 1, sizeof **out, out));
    (*out)->kind = (uint8_t)kind;
    (*out)->line = line;
    (*out)->height = 1;
    return STRETTO_OK;
}

static stretto_status append(struct parser *p, struct nodes *l, struct node *n)
{
    if (l->n == l->cap) {
        struct node **to;
        size_t cap = l->cap ? 2 * l->cap : 2;
        TRY(tmpl_take(p->r, cap, sizeof *to, &to));
        if (l->n) memcpy(to, l->v, l->n * sizeof *to);
        l->v = to;
        l->cap = cap;
    }
    l->v[l->n++] = n;
    return STRETTO_OK;
}

/* A chain like a + b + c leans left and is as high as it is long; evaluating it recurses. */
static stretto_status grow(struct parser *p, struct node *n, const struct node *child)
{
    if (child && child->height >= n->height) n->height = child->height + 1;
    if (n->height <= TEMPLATE_HEIGHT_MAX) return STRETTO_OK;
    p->r->line = n->line;
    return tmpl_fail(p->r, STRETTO_E_FULL, "an expression has more than %u operators in a chain",
                     TEMPLATE_HEIGHT_MAX);
}

static stretto_status add_child(struct parser *p, struct node *n, struct nodes *l,
                                struct node *child)
{
    TRY(append(p, l, child));
    return grow(p, n, child);
}

static stretto_status binary(struct parser *p, int kind, int op, struct node *a, struct node *b,
                             struct node **out)
{
    struct node *n;
    TRY(make(p, kind, a->line, &n));
    n->op = (uint8_t)op;
    n->a = a;
    n->b = b;
    TRY(grow(p, n, a));
    TRY(grow(p, n, b));
    *out = n;
    return STRETTO_OK;
}

static stretto_status constant(struct parser *p, struct value v, struct node **out)
{
    TRY(make(p, N_CONST, p->tok->line, out));
    (*out)->v = v;
    return STRETTO_OK;
}

static stretto_status text_value(struct parser *p, const char *text, size_t n, struct value *out)
{
    TRY(tmpl_view(p->r, text, n, out));
    tmpl_chars(out->s);                              /* shared by threads: counted now */
    return STRETTO_OK;
}

/* Names are few: a linear search, counted as work so that many cannot hurt. */
static stretto_status intern(struct parser *p, const struct token *k, uint32_t *out)
{
    struct template *t = p->t;
    TRY(tmpl_work(p->r, t->n_names / 16 + 1));
    for (size_t i = 0; i < t->n_names; i++)
        if (t->names[i]->n == k->n && memcmp(t->names[i]->p, k->p, k->n) == 0) {
            *out = (uint32_t)i;
            return STRETTO_OK;
        }
    if (t->n_names == t->cap_names) {
        struct str **to;
        size_t cap = t->cap_names ? 2 * t->cap_names : 16;
        TRY(tmpl_take(p->r, cap, sizeof *to, &to));
        if (t->n_names) memcpy(to, t->names, t->n_names * sizeof *to);
        t->names = to;
        t->cap_names = cap;
    }
    struct value v;
    TRY(text_value(p, k->p, k->n, &v));
    *out = (uint32_t)t->n_names;
    t->names[t->n_names++] = v.s;
    return STRETTO_OK;
}

/* ---- expressions ----------------------------------------------------------------------------- */

static stretto_status expression(struct parser *p, struct node **out);
static stretto_status disjunction(struct parser *p, struct node **out);
static stretto_status unary(struct parser *p, bool filters, struct node **out);

enum tuple_flags { TUPLE_NO_IF = 1, TUPLE_PAREN = 2, TUPLE_TARGET = 4, TUPLE_NAMESPACE = 8, TUPLE_IN = 16,
                   TUPLE_RECURSIVE = 32 };
static stretto_status primary(struct parser *p, bool namespaces, struct node **out);

static bool tuple_end(const struct parser *p, unsigned flags)
{
    int k = p->tok->kind;
    return k == K_VAR_END || k == K_BLOCK_END || k == K_RPAREN || ((flags & TUPLE_IN) && at_name(p, "in"))
        || ((flags & TUPLE_RECURSIVE) && at_name(p, "recursive"));
}

/* An expression, or several with commas between them. */
static stretto_status tuple(struct parser *p, unsigned flags, struct node **out)
{
    struct node *n, *item;
    TRY(make(p, N_TUPLE, p->tok->line, &n));
    bool comma = false;
    for (;;) {
        if (tuple_end(p, flags)) break;
        if (flags & TUPLE_TARGET) TRY(primary(p, flags & TUPLE_NAMESPACE, &item));
        else if (flags & TUPLE_NO_IF) TRY(disjunction(p, &item));
        else TRY(expression(p, &item));
        TRY(add_child(p, n, &n->list, item));
        if (!take(p, K_COMMA)) break;
        comma = true;
    }
    if (!comma && n->list.n == 1) { *out = n->list.v[0]; return STRETTO_OK; }
    if (!n->list.n && !(flags & TUPLE_PAREN)) return unexpected(p, "an expression");
    *out = n;
    return STRETTO_OK;
}

static stretto_status list_display(struct parser *p, struct node **out)
{
    struct node *n, *item;
    TRY(make(p, N_LIST, p->tok->line, &n));
    TRY(expect(p, K_LBRACKET));
    while (p->tok->kind != K_RBRACKET) {
        TRY(expression(p, &item));
        TRY(add_child(p, n, &n->list, item));
        if (!take(p, K_COMMA)) break;
    }
    *out = n;
    return expect(p, K_RBRACKET);
}

static stretto_status dict_display(struct parser *p, struct node **out)
{
    struct node *n, *item;
    TRY(make(p, N_DICT, p->tok->line, &n));
    TRY(expect(p, K_LBRACE));
    while (p->tok->kind != K_RBRACE) {
        TRY(expression(p, &item));
        TRY(add_child(p, n, &n->list, item));
        TRY(expect(p, K_COLON));
        TRY(expression(p, &item));
        TRY(add_child(p, n, &n->list, item));
        if (!take(p, K_COMMA)) break;
    }
    *out = n;
    return expect(p, K_RBRACE);
}

/* caller, kwargs and varargs exist only in macros that mention them. */
static void mention(struct parser *p, const struct token *k)
{
    for (size_t i = 0; i < p->n_sig; i++) {
        if (k->n == 6 && memcmp(k->p, "caller", 6) == 0) p->sig[i]->caller = true;
        if (k->n == 6 && memcmp(k->p, "kwargs", 6) == 0) p->sig[i]->kwargs = true;
        if (k->n == 7 && memcmp(k->p, "varargs", 7) == 0) p->sig[i]->varargs = true;
    }
}

static stretto_status name(struct parser *p, bool namespaces, struct node **out)
{
    const struct token *k = p->tok;
    bool yes = at_name(p, "true") || at_name(p,
                                             "True"), no = at_name(p, "false") || at_name(p, "False");
    bool none = at_name(p, "none") || at_name(p, "None");
    step(p);
    if (yes || no) return constant(p, V_BOOL(yes), out);
    if (none) return constant(p, V_NONE, out);
    TRY(make(p, N_NAME, k->line, out));
    TRY(intern(p, k, &(*out)->name));
    if (!namespaces || p->tok->kind != K_DOT) { mention(p, k); return STRETTO_OK; }
    step(p);
    if (p->tok->kind != K_NAME) return unexpected(p, "a name");
    (*out)->kind = N_NSREF;
    TRY(text_value(p, p->tok->p, p->tok->n, &(*out)->v));
    step(p);
    return STRETTO_OK;
}

/* Neighbouring string literals are one. */
static stretto_status strings(struct parser *p, struct node **out)
{
    TRY(constant(p, p->tok->v, out));
    step(p);
    if (p->tok->kind != K_STRING) return STRETTO_OK;
    size_t n = (*out)->v.s->n, at = n;
    for (const struct token *k = p->tok; k->kind == K_STRING; k++) n += k->v.s->n;
    char *to;
    TRY(tmpl_take(p->r, n, 1, &to));
    memcpy(to, (*out)->v.s->p, at);
    for (; p->tok->kind == K_STRING; step(p)) {
        memcpy(to + at, p->tok->v.s->p, p->tok->v.s->n);
        at += p->tok->v.s->n;
    }
    return text_value(p, to, n, &(*out)->v);
}

static stretto_status primary(struct parser *p, bool namespaces, struct node **out)
{
    switch (p->tok->kind) {
    case K_NAME: return name(p, namespaces, out);
    case K_STRING: return strings(p, out);
    case K_INT: case K_FLOAT:
        TRY(constant(p, p->tok->v, out));
        step(p);
        return STRETTO_OK;
    case K_LPAREN: case K_LBRACKET: case K_LBRACE: {
        int kind = p->tok->kind;
        TRY(enter(p));
        if (kind == K_LPAREN) {
            step(p);
            TRY(tuple(p, TUPLE_PAREN, out));
            TRY(expect(p, K_RPAREN));
        } else if (kind == K_LBRACKET) {
            TRY(list_display(p, out));
        } else {
            TRY(dict_display(p, out));
        }
        p->nest--;
        return STRETTO_OK;
    }
    default: return unexpected(p, "an expression");
    }
}

static stretto_status add_keyword(struct parser *p, struct args *a, const struct token *k,
                                  struct node *v)
{
    if (a->n_kw == a->cap_kw) {
        struct keyword *to;
        size_t cap = a->cap_kw ? 2 * a->cap_kw : 4;
        TRY(tmpl_take(p->r, cap, sizeof *to, &to));
        if (a->n_kw) memcpy(to, a->kw, a->n_kw * sizeof *to);
        a->kw = to;
        a->cap_kw = cap;
    }
    TRY(tmpl_work(p->r, a->n_kw / 8));
    for (size_t i = 0; i < a->n_kw; i++)
        if (a->kw[i].name->n == k->n && memcmp(a->kw[i].name->p, k->p, k->n) == 0)
            return tmpl_fail(p->r, STRETTO_E_FORMAT, "argument '%.*s' is given twice",
                             tmpl_shown(k->n), k->p);
    struct value word;
    TRY(text_value(p, k->p, k->n, &word));
    a->kw[a->n_kw++] = (struct keyword){ .name = word.s, .v = v };
    return STRETTO_OK;
}

static stretto_status one_argument(struct parser *p, struct node *n, struct args *a)
{
    struct node *v;
    int kind = p->tok->kind;
    bool late = a->dstar != NULL;
    if (kind == K_MUL || kind == K_POW) {
        step(p);
        TRY(expression(p, &v));
        if (late || (kind == K_MUL && a->star))
            return tmpl_fail(p->r, STRETTO_E_FORMAT, "misplaced * or ** argument");
        if (kind == K_MUL) a->star = v;
        else a->dstar = v;
    } else if (kind == K_NAME && p->tok[1].kind == K_ASSIGN) {
        const struct token *k = p->tok;
        step(p);
        step(p);
        TRY(expression(p, &v));
        if (late) return tmpl_fail(p->r, STRETTO_E_FORMAT, "an argument follows **");
        TRY(add_keyword(p, a, k, v));
    } else {
        TRY(expression(p, &v));
        if (late || a->star || a->n_kw)
            return tmpl_fail(p->r, STRETTO_E_FORMAT, "a positional argument follows named ones");
        TRY(append(p, &a->pos, v));
    }
    return grow(p, n, v);
}

static stretto_status call_args(struct parser *p, struct node *n)
{
    TRY(tmpl_take(p->r, 1, sizeof *n->args, &n->args));
    TRY(enter(p));
    TRY(expect(p, K_LPAREN));
    while (p->tok->kind != K_RPAREN) {
        TRY(one_argument(p, n, n->args));
        if (!take(p, K_COMMA)) break;
    }
    p->nest--;
    return expect(p, K_RPAREN);
}

static stretto_status call(struct parser *p, struct node *callee, struct node **out)
{
    struct node *n;
    TRY(make(p, N_CALL, p->tok->line, &n));
    n->a = callee;
    TRY(grow(p, n, callee));
    TRY(call_args(p, n));
    *out = n;
    return STRETTO_OK;
}

/* Inside [ ]: an expression, or a slice of up to three. */
static stretto_status subscript(struct parser *p, struct node *of, struct node **out)
{
    struct node *n, *part = NULL;
    TRY(make(p, N_ITEM, p->tok->line, &n));
    n->a = of;
    TRY(grow(p, n, of));
    if (p->tok->kind != K_COLON) TRY(expression(p, &part));
    if (p->tok->kind != K_COLON) {
        n->b = part;
        TRY(grow(p, n, part));
        if (p->tok->kind == K_COMMA) {               /* a tuple as key */
            struct node *key;
            TRY(make(p, N_TUPLE, n->line, &key));
            TRY(add_child(p, key, &key->list, part));
            while (take(p, K_COMMA)) {
                if (p->tok->kind == K_COLON) return unexpected(p, "an expression");
                TRY(expression(p, &part));
                TRY(add_child(p, key, &key->list, part));
            }
            n->b = key;
            TRY(grow(p, n, key));
        }
        *out = n;
        return STRETTO_OK;
    }
    n->kind = N_SLICE;
    for (int i = 0; i < 3; i++) {
        TRY(append(p, &n->list, part));
        TRY(grow(p, n, part));
        part = NULL;
        bool more = i < 2 && (i == 0 || p->tok->kind == K_COLON) && take(p, K_COLON);
        if (more && p->tok->kind != K_COLON && p->tok->kind != K_RBRACKET)
            TRY(expression(p, &part));
    }
    *out = n;
    return STRETTO_OK;
}

static stretto_status postfix(struct parser *p, struct node **n)
{
    for (;;) {
        if (p->tok->kind == K_LPAREN) { TRY(call(p, *n, n)); continue; }
        if (p->tok->kind == K_LBRACKET) {
            TRY(enter(p));
            step(p);
            TRY(subscript(p, *n, n));
            TRY(expect(p, K_RBRACKET));
            p->nest--;
            continue;
        }
        if (p->tok->kind != K_DOT) return STRETTO_OK;
        step(p);
        struct node *at, *key;
        if (p->tok->kind != K_NAME && p->tok->kind != K_INT)
            return unexpected(p, "a name or a number");
        bool item = p->tok->kind == K_INT;
        TRY(make(p, item ? N_ITEM : N_ATTR, p->tok->line, &at));
        at->a = *n;
        TRY(grow(p, at, *n));
        if (item) {
            TRY(constant(p, p->tok->v, &key));
            at->b = key;
            TRY(grow(p, at, key));
        } else {
            TRY(text_value(p, p->tok->p, p->tok->n, &at->v));
        }
        step(p);
        *n = at;
    }
}

/* The name of a filter or test, dots included. */
static stretto_status dotted(struct parser *p, struct value *out)
{
    if (p->tok->kind != K_NAME) return unexpected(p, "a name");
    const struct token *first = p->tok;
    size_t n = first->n;
    step(p);
    while (p->tok->kind == K_DOT && p->tok[1].kind == K_NAME) {
        step(p);
        n = (size_t)(p->tok->p + p->tok->n - first->p);
        step(p);
    }
    return text_value(p, first->p, n, out);
}

static stretto_status filter(struct parser *p, struct node **n)
{
    struct node *f;
    TRY(make(p, N_FILTER, p->tok->line, &f));
    TRY(dotted(p, &f->v));
    f->fn = tmpl_filter(f->v.s);
    f->a = *n;
    TRY(grow(p, f, *n));
    if (p->tok->kind == K_LPAREN) TRY(call_args(p, f));
    *n = f;
    return STRETTO_OK;
}

static stretto_status test(struct parser *p, struct node **n)
{
    struct node *t;
    step(p);                                         /* is */
    bool negated = take_name(p, "not");
    TRY(make(p, N_TEST, p->tok->line, &t));
    TRY(dotted(p, &t->v));
    t->fn = tmpl_test(t->v.s);
    t->a = *n;
    TRY(grow(p, t, *n));
    int k = p->tok->kind;
    if (k == K_LPAREN) {
        TRY(call_args(p, t));
    } else if ((k == K_NAME && !at_name(p, "else") && !at_name(p, "or") && !at_name(p, "and"))
               || k == K_STRING || k == K_INT || k == K_FLOAT || k == K_LBRACKET || k == K_LBRACE) {
        struct node *arg;
        if (at_name(p, "is")) return unexpected(p, "no second 'is'");
        TRY(primary(p, false, &arg));
        TRY(postfix(p, &arg));
        TRY(tmpl_take(p->r, 1, sizeof *t->args, &t->args));
        TRY(append(p, &t->args->pos, arg));
        TRY(grow(p, t, arg));
    }
    if (!negated) { *n = t; return STRETTO_OK; }
    return binary(p, N_NOT, 0, t, NULL, n);
}

static stretto_status unary(struct parser *p, bool filters, struct node **out)
{
    int k = p->tok->kind;
    if (k == K_SUB || k == K_ADD) {
        struct node *a;
        TRY(enter(p));
        step(p);
        TRY(unary(p, false, &a));
        TRY(binary(p, k == K_SUB ? N_NEG : N_POS, 0, a, NULL, out));
        p->nest--;
    } else {
        TRY(primary(p, false, out));
    }
    TRY(postfix(p, out));
    while (filters) {
        if (take(p, K_PIPE)) TRY(filter(p, out));
        else if (at_name(p, "is")) TRY(test(p, out));
        else if (p->tok->kind == K_LPAREN) TRY(call(p, *out, out));
        else break;
    }
    return STRETTO_OK;
}

/* Left-associative operators by how tightly they bind; ~ is apart because it takes many. */
static stretto_status power(struct parser *p, struct node **out)
{
    struct node *b;
    TRY(unary(p, true, out));
    while (take(p, K_POW)) {
        TRY(unary(p, true, &b));
        TRY(binary(p, N_BINARY, K_POW, *out, b, out));
    }
    return STRETTO_OK;
}

static stretto_status product(struct parser *p, struct node **out)
{
    struct node *b;
    TRY(power(p, out));
    for (;;) {
        int k = p->tok->kind;
        if (k != K_MUL && k != K_DIV && k != K_FLOORDIV && k != K_MOD) return STRETTO_OK;
        step(p);
        TRY(power(p, &b));
        TRY(binary(p, N_BINARY, k, *out, b, out));
    }
}

static stretto_status concat(struct parser *p, struct node **out)
{
    struct node *n, *item;
    TRY(product(p, out));
    if (p->tok->kind != K_TILDE) return STRETTO_OK;
    TRY(make(p, N_CONCAT, (*out)->line, &n));
    TRY(add_child(p, n, &n->list, *out));
    while (take(p, K_TILDE)) {
        TRY(product(p, &item));
        TRY(add_child(p, n, &n->list, item));
    }
    *out = n;
    return STRETTO_OK;
}

static stretto_status sum(struct parser *p, struct node **out)
{
    struct node *b;
    TRY(concat(p, out));
    for (;;) {
        int k = p->tok->kind;
        if (k != K_ADD && k != K_SUB) return STRETTO_OK;
        step(p);
        TRY(concat(p, &b));
        TRY(binary(p, N_BINARY, k, *out, b, out));
    }
}

/* The operator at the current token, taken; 0 when there is none. */
static int compare_operator(struct parser *p)
{
    int k = p->tok->kind;
    if (k >= K_EQ && k <= K_LE) { step(p); return k; }
    if (take_name(p, "in")) return K_IN;
    const struct token *next = p->tok + 1;
    if (at_name(p,
                "not") && next->kind == K_NAME && next->n == 2 && memcmp(next->p, "in", 2) == 0) {
        step(p);
        step(p);
        return K_NOTIN;
    }
    return 0;
}

static stretto_status comparison(struct parser *p, struct node **out)
{
    struct node *n = NULL, *b;
    int op;
    TRY(sum(p, out));
    while ((op = compare_operator(p)) != 0) {
        if (!n) {
            TRY(make(p, N_COMPARE, (*out)->line, &n));
            n->a = *out;
            TRY(grow(p, n, *out));
        }
        TRY(sum(p, &b));
        TRY(add_child(p, n, &n->list, b));
        struct node *sign;
        TRY(make(p, N_CONST, n->line, &sign));
        sign->op = (uint8_t)op;
        TRY(append(p, &n->body, sign));
    }
    if (n) *out = n;
    return STRETTO_OK;
}

static stretto_status negation(struct parser *p, struct node **out)
{
    if (!take_name(p, "not")) return comparison(p, out);
    struct node *a;
    TRY(enter(p));
    TRY(negation(p, &a));
    p->nest--;
    return binary(p, N_NOT, 0, a, NULL, out);
}

static stretto_status conjunction(struct parser *p, struct node **out)
{
    struct node *b;
    TRY(negation(p, out));
    while (take_name(p, "and")) {
        TRY(negation(p, &b));
        TRY(binary(p, N_AND, 0, *out, b, out));
    }
    return STRETTO_OK;
}

static stretto_status disjunction(struct parser *p, struct node **out)
{
    struct node *b;
    TRY(conjunction(p, out));
    while (take_name(p, "or")) {
        TRY(conjunction(p, &b));
        TRY(binary(p, N_OR, 0, *out, b, out));
    }
    return STRETTO_OK;
}

static stretto_status expression(struct parser *p, struct node **out)
{
    TRY(disjunction(p, out));
    while (take_name(p, "if")) {
        struct node *n;
        TRY(make(p, N_COND, p->tok->line, &n));
        n->a = *out;
        TRY(disjunction(p, &n->b));
        TRY(grow(p, n, n->a));
        TRY(grow(p, n, n->b));
        if (take_name(p, "else")) {
            TRY(enter(p));
            TRY(expression(p, &n->c));
            p->nest--;
            TRY(grow(p, n, n->c));
        }
        *out = n;
    }
    return STRETTO_OK;
}

/* ---- statements ------------------------------------------------------------------------------ */

static stretto_status statements(struct parser *p, struct nodes *body, const char *const *ends);
#define ENDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* The body of a block: behind its opening tag up to one of `ends`, which stays the current
 * token. */
static stretto_status block(struct parser *p, struct nodes *body, const char *const *ends)
{
    uint32_t line = p->tok->line;
    take(p, K_COLON);
    TRY(expect(p, K_BLOCK_END));
    TRY(enter(p));
    TRY(statements(p, body, ends));
    p->nest--;
    if (p->tok->kind != K_EOF) return STRETTO_OK;
    p->r->line = line;
    return tmpl_fail(p->r, STRETTO_E_FORMAT, "this block is never closed, expected '%s'", ends[0]);
}

static stretto_status check_target(struct parser *p, const struct node *n)
{
    p->r->line = n->line;
    if (n->kind == N_TUPLE) {
        for (size_t i = 0; i < n->list.n; i++) TRY(check_target(p, n->list.v[i]));
        return STRETTO_OK;
    }
    if (n->kind == N_NAME) {
        if (p->loops && tmpl_is(p->t->names[n->name], "loop"))
            return tmpl_fail(p->r, STRETTO_E_FORMAT,
                             "can't assign to the variable loop inside a for loop");
        return STRETTO_OK;
    }
    if (n->kind == N_NSREF) return STRETTO_OK;
    return tmpl_fail(p->r, STRETTO_E_FORMAT, "can't assign to this expression");
}

static stretto_status target(struct parser *p, unsigned flags, struct node **out)
{
    TRY(tuple(p, flags | TUPLE_TARGET, out));
    return check_target(p, *out);
}

static stretto_status parse_if(struct parser *p, struct node *n)
{
    for (;;) {
        struct node *cond, *body;
        TRY(tuple(p, TUPLE_NO_IF, &cond));
        TRY(make(p, N_SCOPE, cond->line, &body));
        TRY(block(p, &body->body, ENDS("endif", "else", "elif")));
        TRY(append(p, &n->list, cond));
        TRY(append(p, &n->other, body));
        if (!take_name(p, "elif")) break;
    }
    if (take_name(p, "else")) TRY(block(p, &n->body, ENDS("endif")));
    step(p);
    return STRETTO_OK;
}

static stretto_status parse_for(struct parser *p, struct node *n)
{
    p->loops++;
    TRY(target(p, TUPLE_IN, &n->a));
    p->loops--;
    if (!take_name(p, "in")) return unexpected(p, "'in'");
    TRY(tuple(p, TUPLE_NO_IF | TUPLE_RECURSIVE, &n->b));
    if (take_name(p, "if")) TRY(expression(p, &n->c));
    if (at_name(p, "recursive"))
        return tmpl_fail(p->r, STRETTO_E_UNSUP, "recursive for loops are not supported");
    p->loops++;
    TRY(block(p, &n->body, ENDS("endfor", "else")));
    p->loops--;
    if (take_name(p, "else")) TRY(block(p, &n->other, ENDS("endfor")));
    step(p);
    return STRETTO_OK;
}

static stretto_status parse_set(struct parser *p, struct node *n)
{
    TRY(target(p, TUPLE_NAMESPACE, &n->a));
    if (take(p, K_ASSIGN)) return tuple(p, 0, &n->b);
    n->kind = N_SETBLOCK;
    while (take(p, K_PIPE)) TRY(filter(p, &n->b));
    TRY(block(p, &n->body, ENDS("endset")));
    step(p);
    return STRETTO_OK;
}

static stretto_status parameters(struct parser *p, struct signature *s)
{
    TRY(expect(p, K_LPAREN));
    while (p->tok->kind != K_RPAREN) {
        struct node *n, *v;
        if (p->tok->kind != K_NAME) return unexpected(p, "the name of a parameter");
        TRY(make(p, N_NAME, p->tok->line, &n));
        TRY(intern(p, p->tok, &n->name));
        if (at_name(p, "caller")) s->own_caller = true;
        TRY(append(p, &s->names, n));
        step(p);
        if (take(p, K_ASSIGN)) {
            TRY(expression(p, &v));
            TRY(append(p, &s->defaults, v));
        } else if (s->defaults.n) {
            return tmpl_fail(p->r, STRETTO_E_FORMAT,
                             "a parameter without default follows one with");
        }
        if (!take(p, K_COMMA)) break;
    }
    return expect(p, K_RPAREN);
}

/* The signature and body of a macro or call block; a call block's call is parsed in between. */
static stretto_status macro_body(struct parser *p, struct node *n, const char *end)
{
    uint32_t loops = p->loops;
    if (p->n_sig == TEMPLATE_NEST_MAX)
        return tmpl_fail(p->r, STRETTO_E_FULL, "macros are nested too deeply");
    p->sig[p->n_sig++] = n->sig;
    p->loops = 0;
    TRY(block(p, &n->body, ENDS(end)));
    p->loops = loops;
    p->n_sig--;
    step(p);
    return STRETTO_OK;
}

static stretto_status parse_macro(struct parser *p, struct node *n)
{
    if (p->tok->kind != K_NAME) return unexpected(p, "the name of a macro");
    TRY(intern(p, p->tok, &n->name));
    n->v = V_STR(p->t->names[n->name]);
    step(p);
    TRY(tmpl_take(p->r, 1, sizeof *n->sig, &n->sig));
    TRY(parameters(p, n->sig));
    return macro_body(p, n, "endmacro");
}

static stretto_status parse_call(struct parser *p, struct node *n)
{
    TRY(tmpl_take(p->r, 1, sizeof *n->sig, &n->sig));
    if (p->tok->kind == K_LPAREN) TRY(parameters(p, n->sig));
    TRY(expression(p, &n->a));
    if (n->a->kind != N_CALL) return tmpl_fail(p->r, STRETTO_E_FORMAT, "a call block needs a call");
    return macro_body(p, n, "endcall");
}

static stretto_status parse_filter(struct parser *p, struct node *n)
{
    TRY(filter(p, &n->b));
    while (take(p, K_PIPE)) TRY(filter(p, &n->b));
    TRY(block(p, &n->body, ENDS("endfilter")));
    step(p);
    return STRETTO_OK;
}

static stretto_status parse_with(struct parser *p, struct node *n)
{
    while (p->tok->kind != K_BLOCK_END) {
        struct node *to, *v;
        if (n->list.n) TRY(expect(p, K_COMMA));
        TRY(target(p, 0, &to));
        TRY(expect(p, K_ASSIGN));
        TRY(expression(p, &v));
        TRY(append(p, &n->list, to));
        TRY(append(p, &n->other, v));
    }
    TRY(block(p, &n->body, ENDS("endwith")));
    step(p);
    return STRETTO_OK;
}

/* Marks what an assistant wrote, for training masks; it prints its body. */
static stretto_status parse_generation(struct parser *p, struct node *n)
{
    TRY(block(p, &n->body, ENDS("endgeneration")));
    step(p);
    return STRETTO_OK;
}

static stretto_status parse_print(struct parser *p, struct node *n)
{
    TRY(expression(p, &n->a));
    if (p->tok->kind == K_COMMA)
        return tmpl_fail(p->r, STRETTO_E_UNSUP, "print with several values is not supported");
    return STRETTO_OK;
}

static stretto_status parse_jump(struct parser *p, struct node *n)
{
    if (p->loops) return STRETTO_OK;
    return tmpl_fail(p->r, STRETTO_E_FORMAT, "'%s' outside of a loop",
                     n->kind == N_BREAK ? "break" : "continue");
}

static const struct { const char *word; uint8_t kind; stretto_status (*parse)(struct parser *, struct node *); }
statement_table[] = {
    { "if", N_IF, parse_if }, { "for", N_FOR, parse_for }, { "set", N_SET, parse_set },
    { "macro", N_MACRO, parse_macro }, { "call", N_CALLBLOCK, parse_call },
    { "filter", N_FILTERBLOCK, parse_filter }, { "with", N_WITH, parse_with },
    { "generation", N_SCOPE, parse_generation }, { "print", N_PRINT, parse_print },
    { "break", N_BREAK, parse_jump }, { "continue", N_CONTINUE, parse_jump },
};

static stretto_status statement(struct parser *p, struct node **out)
{
    const struct token *k = p->tok;
    if (k->kind != K_NAME) return unexpected(p, "the name of a tag");
    for (size_t i = 0; i < sizeof statement_table / sizeof *statement_table; i++) {
        if (!at_name(p, statement_table[i].word)) continue;
        TRY(make(p, statement_table[i].kind, k->line, out));
        step(p);
        return statement_table[i].parse(p, *out);
    }
    p->r->line = k->line;
    bool closing = k->n > 3 && memcmp(k->p, "end", 3) == 0;
    return tmpl_fail(p->r, closing ? STRETTO_E_FORMAT : STRETTO_E_UNSUP, "%s tag '%.*s'",
                     closing || at_name(p, "else") || at_name(p,
                                                              "elif") ? "misplaced" : "unsupported",
                     tmpl_shown(k->n), k->p);
}

static stretto_status statements(struct parser *p, struct nodes *body, const char *const *ends)
{
    for (;;) {
        struct node *n;
        const struct token *k = p->tok;
        if (k->kind == K_EOF) return STRETTO_OK;
        step(p);
        if (k->kind == K_DATA) {
            TRY(make(p, N_DATA, k->line, &n));
            TRY(text_value(p, k->p, k->n, &n->v));
        } else if (k->kind == K_VAR_BEGIN) {
            TRY(make(p, N_PRINT, k->line, &n));
            TRY(tuple(p, 0, &n->a));
            TRY(expect(p, K_VAR_END));
        } else {
            for (size_t i = 0; ends && ends[i]; i++)
                if (at_name(p, ends[i])) return STRETTO_OK;
            TRY(statement(p, &n));
            TRY(expect(p, K_BLOCK_END));
        }
        TRY(append(p, body, n));
    }
}

stretto_status tmpl_parse(struct render *r, struct template *t, const struct token *tok)
{
    struct parser p = { .r = r, .t = t, .tok = tok };
    return statements(&p, &t->body, NULL);
}
