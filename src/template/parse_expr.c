/* Expressions into the tree: recursive descent along Jinja's grammar. Fields of a node: parse.c. */
#include "template/parse_int.h"
#include <string.h>

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
    TRY(parse_append(p, l, child));
    return grow(p, n, child);
}

static stretto_status binary(struct parser *p, int kind, int op, struct node *a, struct node *b,
                             struct node **out)
{
    struct node *n;
    TRY(parse_make(p, kind, a->line, &n));
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
    TRY(parse_make(p, N_CONST, p->tok->line, out));
    (*out)->v = v;
    return STRETTO_OK;
}

static stretto_status disjunction(struct parser *p, struct node **out);
static stretto_status unary(struct parser *p, bool filters, struct node **out);

static stretto_status primary(struct parser *p, bool namespaces, struct node **out);

static bool tuple_end(const struct parser *p, unsigned flags)
{
    int k = p->tok->kind;
    return k == K_VAR_END || k == K_BLOCK_END || k == K_RPAREN || ((flags & TUPLE_IN) && parse_at(p, "in"))
        || ((flags & TUPLE_RECURSIVE) && parse_at(p, "recursive"));
}

/* An expression, or several with commas between them. */
stretto_status parse_tuple(struct parser *p, unsigned flags, struct node **out)
{
    struct node *n, *item;
    TRY(parse_make(p, N_TUPLE, p->tok->line, &n));
    bool comma = false;
    for (;;) {
        if (tuple_end(p, flags)) break;
        if (flags & TUPLE_TARGET) TRY(primary(p, flags & TUPLE_NAMESPACE, &item));
        else if (flags & TUPLE_NO_IF) TRY(disjunction(p, &item));
        else TRY(parse_expression(p, &item));
        TRY(add_child(p, n, &n->list, item));
        if (!parse_take(p, K_COMMA)) break;
        comma = true;
    }
    if (!comma && n->list.n == 1) { *out = n->list.v[0]; return STRETTO_OK; }
    if (!n->list.n && !(flags & TUPLE_PAREN)) return parse_unexpected(p, "an expression");
    *out = n;
    return STRETTO_OK;
}

static stretto_status list_display(struct parser *p, struct node **out)
{
    struct node *n, *item;
    TRY(parse_make(p, N_LIST, p->tok->line, &n));
    TRY(parse_expect(p, K_LBRACKET));
    while (p->tok->kind != K_RBRACKET) {
        TRY(parse_expression(p, &item));
        TRY(add_child(p, n, &n->list, item));
        if (!parse_take(p, K_COMMA)) break;
    }
    *out = n;
    return parse_expect(p, K_RBRACKET);
}

static stretto_status dict_display(struct parser *p, struct node **out)
{
    struct node *n, *item;
    TRY(parse_make(p, N_DICT, p->tok->line, &n));
    TRY(parse_expect(p, K_LBRACE));
    while (p->tok->kind != K_RBRACE) {
        TRY(parse_expression(p, &item));
        TRY(add_child(p, n, &n->list, item));
        TRY(parse_expect(p, K_COLON));
        TRY(parse_expression(p, &item));
        TRY(add_child(p, n, &n->list, item));
        if (!parse_take(p, K_COMMA)) break;
    }
    *out = n;
    return parse_expect(p, K_RBRACE);
}

/* A caller exists only in macros that mention it; what else Jinja gives macros is refused. */
static stretto_status mention(struct parser *p, const struct token *k)
{
    bool caller = k->n == 6 && memcmp(k->p, "caller", 6) == 0;
    bool rest = (k->n == 6 && memcmp(k->p, "kwargs", 6) == 0) || (k->n == 7 && memcmp(k->p, "varargs", 7) == 0);
    for (size_t i = 0; i < p->n_sig; i++) {
        if (caller) p->sig[i]->caller = true;
        for (size_t j = 0; rest && j < p->sig[i]->names.n; j++)
            if (tmpl_is(p->t->names[p->sig[i]->names.v[j]->name], k->n == 6 ? "kwargs" : "varargs")) rest = false;
    }
    if (!rest || !p->n_sig) return STRETTO_OK;
    return tmpl_fail(p->r, STRETTO_E_UNSUP, "the %.*s of a macro are not supported", (int)k->n, k->p);
}

static stretto_status name(struct parser *p, bool namespaces, struct node **out)
{
    const struct token *k = p->tok;
    bool yes = parse_at(p, "true") || parse_at(p,
                                             "True"), no = parse_at(p, "false") || parse_at(p, "False");
    bool none = parse_at(p, "none") || parse_at(p, "None");
    parse_step(p);
    if (yes || no) return constant(p, V_BOOL(yes), out);
    if (none) return constant(p, V_NONE, out);
    TRY(parse_make(p, N_NAME, k->line, out));
    TRY(parse_intern(p, k, &(*out)->name));
    if (!namespaces || p->tok->kind != K_DOT) return mention(p, k);
    parse_step(p);
    if (p->tok->kind != K_NAME) return parse_unexpected(p, "a name");
    (*out)->kind = N_NSREF;
    TRY(parse_text(p, p->tok->p, p->tok->n, &(*out)->v));
    parse_step(p);
    return STRETTO_OK;
}

/* Neighbouring string literals are one. */
static stretto_status strings(struct parser *p, struct node **out)
{
    TRY(constant(p, p->tok->v, out));
    parse_step(p);
    if (p->tok->kind != K_STRING) return STRETTO_OK;
    size_t n = (*out)->v.s->n, at = n;
    for (const struct token *k = p->tok; k->kind == K_STRING; k++) n += k->v.s->n;
    char *to;
    TRY(tmpl_take(p->r, n, 1, &to));
    memcpy(to, (*out)->v.s->p, at);
    for (; p->tok->kind == K_STRING; parse_step(p)) {
        memcpy(to + at, p->tok->v.s->p, p->tok->v.s->n);
        at += p->tok->v.s->n;
    }
    return parse_text(p, to, n, &(*out)->v);
}

static stretto_status primary(struct parser *p, bool namespaces, struct node **out)
{
    switch (p->tok->kind) {
    case K_NAME: return name(p, namespaces, out);
    case K_STRING: return strings(p, out);
    case K_INT: case K_FLOAT:
        TRY(constant(p, p->tok->v, out));
        parse_step(p);
        return STRETTO_OK;
    case K_LPAREN: case K_LBRACKET: case K_LBRACE: {
        int kind = p->tok->kind;
        TRY(parse_enter(p));
        if (kind == K_LPAREN) {
            parse_step(p);
            TRY(parse_tuple(p, TUPLE_PAREN, out));
            TRY(parse_expect(p, K_RPAREN));
        } else if (kind == K_LBRACKET) {
            TRY(list_display(p, out));
        } else {
            TRY(dict_display(p, out));
        }
        p->nest--;
        return STRETTO_OK;
    }
    default: return parse_unexpected(p, "an expression");
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
    TRY(parse_text(p, k->p, k->n, &word));
    a->kw[a->n_kw++] = (struct keyword){ .name = word.s, .v = v };
    return STRETTO_OK;
}

static stretto_status one_argument(struct parser *p, struct node *n, struct args *a)
{
    struct node *v;
    int kind = p->tok->kind;
    if (kind == K_POW) return tmpl_fail(p->r, STRETTO_E_UNSUP, "** arguments are not supported");
    if (kind == K_MUL) {
        parse_step(p);
        TRY(parse_expression(p, &v));
        if (a->star) return tmpl_fail(p->r, STRETTO_E_FORMAT, "a second * argument");
        a->star = v;
    } else if (kind == K_NAME && p->tok[1].kind == K_ASSIGN) {
        const struct token *k = p->tok;
        parse_step(p);
        parse_step(p);
        TRY(parse_expression(p, &v));
        TRY(add_keyword(p, a, k, v));
    } else {
        TRY(parse_expression(p, &v));
        if (a->star || a->n_kw)
            return tmpl_fail(p->r, STRETTO_E_FORMAT, "a positional argument follows named ones");
        TRY(parse_append(p, &a->pos, v));
    }
    return grow(p, n, v);
}

static stretto_status call_args(struct parser *p, struct node *n)
{
    TRY(tmpl_take(p->r, 1, sizeof *n->args, &n->args));
    TRY(parse_enter(p));
    TRY(parse_expect(p, K_LPAREN));
    while (p->tok->kind != K_RPAREN) {
        TRY(one_argument(p, n, n->args));
        if (!parse_take(p, K_COMMA)) break;
    }
    p->nest--;
    return parse_expect(p, K_RPAREN);
}

static stretto_status call(struct parser *p, struct node *callee, struct node **out)
{
    struct node *n;
    TRY(parse_make(p, N_CALL, p->tok->line, &n));
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
    TRY(parse_make(p, N_ITEM, p->tok->line, &n));
    n->a = of;
    TRY(grow(p, n, of));
    if (p->tok->kind != K_COLON) TRY(parse_expression(p, &part));
    if (p->tok->kind != K_COLON) {
        n->b = part;
        TRY(grow(p, n, part));
        *out = n;
        return STRETTO_OK;
    }
    n->kind = N_SLICE;
    for (int i = 0; i < 3; i++) {
        TRY(parse_append(p, &n->list, part));
        TRY(grow(p, n, part));
        part = NULL;
        bool more = i < 2 && (i == 0 || p->tok->kind == K_COLON) && parse_take(p, K_COLON);
        if (more && p->tok->kind != K_COLON && p->tok->kind != K_RBRACKET)
            TRY(parse_expression(p, &part));
    }
    *out = n;
    return STRETTO_OK;
}

static stretto_status postfix(struct parser *p, struct node **n)
{
    for (;;) {
        if (p->tok->kind == K_LPAREN) { TRY(call(p, *n, n)); continue; }
        if (p->tok->kind == K_LBRACKET) {
            TRY(parse_enter(p));
            parse_step(p);
            TRY(subscript(p, *n, n));
            TRY(parse_expect(p, K_RBRACKET));
            p->nest--;
            continue;
        }
        if (p->tok->kind != K_DOT) return STRETTO_OK;
        parse_step(p);
        struct node *at, *key;
        if (p->tok->kind != K_NAME && p->tok->kind != K_INT)
            return parse_unexpected(p, "a name or a number");
        bool item = p->tok->kind == K_INT;
        TRY(parse_make(p, item ? N_ITEM : N_ATTR, p->tok->line, &at));
        at->a = *n;
        TRY(grow(p, at, *n));
        if (item) {
            TRY(constant(p, p->tok->v, &key));
            at->b = key;
            TRY(grow(p, at, key));
        } else {
            TRY(parse_text(p, p->tok->p, p->tok->n, &at->v));
        }
        parse_step(p);
        *n = at;
    }
}

/* The name of a filter or test. */
static stretto_status named(struct parser *p, struct value *out)
{
    const struct token *k = p->tok;
    if (k->kind != K_NAME) return parse_unexpected(p, "a name");
    parse_step(p);
    return parse_text(p, k->p, k->n, out);
}

stretto_status parse_filter(struct parser *p, struct node **n)
{
    struct node *f;
    TRY(parse_make(p, N_FILTER, p->tok->line, &f));
    TRY(named(p, &f->v));
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
    parse_step(p);                                         /* is */
    bool negated = parse_take_name(p, "not");
    TRY(parse_make(p, N_TEST, p->tok->line, &t));
    TRY(named(p, &t->v));
    t->fn = tmpl_test(t->v.s);
    t->a = *n;
    TRY(grow(p, t, *n));
    int k = p->tok->kind;
    if (k == K_LPAREN) {
        TRY(call_args(p, t));
    } else if ((k == K_NAME && !parse_at(p, "else") && !parse_at(p, "or") && !parse_at(p, "and"))
               || k == K_STRING || k == K_INT || k == K_FLOAT || k == K_LBRACKET || k == K_LBRACE) {
        struct node *arg;
        if (parse_at(p, "is")) return parse_unexpected(p, "no second 'is'");
        TRY(primary(p, false, &arg));
        TRY(postfix(p, &arg));
        TRY(tmpl_take(p->r, 1, sizeof *t->args, &t->args));
        TRY(parse_append(p, &t->args->pos, arg));
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
        TRY(parse_enter(p));
        parse_step(p);
        TRY(unary(p, false, &a));
        TRY(binary(p, k == K_SUB ? N_NEG : N_POS, 0, a, NULL, out));
        p->nest--;
    } else {
        TRY(primary(p, false, out));
    }
    TRY(postfix(p, out));
    while (filters) {
        if (parse_take(p, K_PIPE)) TRY(parse_filter(p, out));
        else if (parse_at(p, "is")) TRY(test(p, out));
        else if (p->tok->kind == K_LPAREN) TRY(call(p, *out, out));
        else break;
    }
    return STRETTO_OK;
}

/* Left-associative operators by how tightly they bind; ~ is apart because it takes many. */
static stretto_status product(struct parser *p, struct node **out)
{
    struct node *b;
    TRY(unary(p, true, out));
    for (;;) {
        int k = p->tok->kind;
        if (k == K_POW) return tmpl_fail(p->r, STRETTO_E_UNSUP, "the operator ** is not supported");
        if (k != K_MUL && k != K_DIV && k != K_FLOORDIV && k != K_MOD) return STRETTO_OK;
        parse_step(p);
        TRY(unary(p, true, &b));
        TRY(binary(p, N_BINARY, k, *out, b, out));
    }
}

static stretto_status concat(struct parser *p, struct node **out)
{
    struct node *n, *item;
    TRY(product(p, out));
    if (p->tok->kind != K_TILDE) return STRETTO_OK;
    TRY(parse_make(p, N_CONCAT, (*out)->line, &n));
    TRY(add_child(p, n, &n->list, *out));
    while (parse_take(p, K_TILDE)) {
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
        parse_step(p);
        TRY(concat(p, &b));
        TRY(binary(p, N_BINARY, k, *out, b, out));
    }
}

/* The operator at the current token, taken; 0 when there is none. */
static int compare_operator(struct parser *p)
{
    int k = p->tok->kind;
    if (k >= K_EQ && k <= K_LE) { parse_step(p); return k; }
    if (parse_take_name(p, "in")) return K_IN;
    const struct token *next = p->tok + 1;
    if (parse_at(p,
                "not") && next->kind == K_NAME && next->n == 2 && memcmp(next->p, "in", 2) == 0) {
        parse_step(p);
        parse_step(p);
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
            TRY(parse_make(p, N_COMPARE, (*out)->line, &n));
            n->a = *out;
            TRY(grow(p, n, *out));
        }
        TRY(sum(p, &b));
        TRY(add_child(p, n, &n->list, b));
        struct node *sign;
        TRY(parse_make(p, N_CONST, n->line, &sign));
        sign->op = (uint8_t)op;
        TRY(parse_append(p, &n->body, sign));
    }
    if (n) *out = n;
    return STRETTO_OK;
}

static stretto_status negation(struct parser *p, struct node **out)
{
    if (!parse_take_name(p, "not")) return comparison(p, out);
    struct node *a;
    TRY(parse_enter(p));
    TRY(negation(p, &a));
    p->nest--;
    return binary(p, N_NOT, 0, a, NULL, out);
}

static stretto_status conjunction(struct parser *p, struct node **out)
{
    struct node *b;
    TRY(negation(p, out));
    while (parse_take_name(p, "and")) {
        TRY(negation(p, &b));
        TRY(binary(p, N_AND, 0, *out, b, out));
    }
    return STRETTO_OK;
}

static stretto_status disjunction(struct parser *p, struct node **out)
{
    struct node *b;
    TRY(conjunction(p, out));
    while (parse_take_name(p, "or")) {
        TRY(conjunction(p, &b));
        TRY(binary(p, N_OR, 0, *out, b, out));
    }
    return STRETTO_OK;
}

stretto_status parse_expression(struct parser *p, struct node **out)
{
    TRY(disjunction(p, out));
    while (parse_take_name(p, "if")) {
        struct node *n;
        TRY(parse_make(p, N_COND, p->tok->line, &n));
        n->a = *out;
        TRY(disjunction(p, &n->b));
        TRY(grow(p, n, n->a));
        TRY(grow(p, n, n->b));
        if (parse_take_name(p, "else")) {
            TRY(parse_enter(p));
            TRY(parse_expression(p, &n->c));
            p->nest--;
            TRY(grow(p, n, n->c));
        }
        *out = n;
    }
    return STRETTO_OK;
}
