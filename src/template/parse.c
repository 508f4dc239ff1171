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
#include "template/parse_int.h"
#include <string.h>

static const struct { int kind; const char *text; } token_texts[] = {
    { K_EOF, "end of template" }, { K_DATA, "template text" }, { K_VAR_BEGIN, "{{" }, { K_VAR_END, "}}" },
    { K_BLOCK_BEGIN, "{%" }, { K_BLOCK_END, "%}" }, { K_RPAREN, ")" }, { K_RBRACKET, "]" },
    { K_RBRACE, "}" }, { K_LPAREN, "(" }, { K_COLON, ":" }, { K_COMMA, "," }, { K_ASSIGN, "=" },
    { K_NAME, "a name" },
};

stretto_status parse_unexpected(struct parser *p, const char *want)
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

bool parse_at(const struct parser *p, const char *word)
{
    size_t n = strlen(word);
    return p->tok->kind == K_NAME && p->tok->n == n && memcmp(p->tok->p, word, n) == 0;
}

/* The lexer's list ends with K_EOF, which is never passed. */
void parse_step(struct parser *p) { if (p->tok->kind != K_EOF) p->tok++; }

bool parse_take(struct parser *p, int kind)
{
    if (p->tok->kind != kind) return false;
    parse_step(p);
    return true;
}

bool parse_take_name(struct parser *p, const char *word)
{
    if (!parse_at(p, word)) return false;
    parse_step(p);
    return true;
}

stretto_status parse_expect(struct parser *p, int kind)
{
    if (parse_take(p, kind)) return STRETTO_OK;
    for (size_t i = 0; i < sizeof token_texts / sizeof *token_texts; i++)
        if (token_texts[i].kind == kind) return parse_unexpected(p, token_texts[i].text);
    return parse_unexpected(p, "something else");
}

stretto_status parse_enter(struct parser *p)
{
    if (++p->nest > TEMPLATE_NEST_MAX) {
        p->r->line = p->tok->line;
        return tmpl_fail(p->r, STRETTO_E_FULL, "blocks and brackets are nested more than %u deep",
                         TEMPLATE_NEST_MAX);
    }
    return STRETTO_OK;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

stretto_status parse_make(struct parser *p, int kind, uint32_t line, struct node **out)
{
    p->r->line = line;
    TRY(tmpl_take(p->r, 1, sizeof **out, out));
    (*out)->kind = (uint8_t)kind;
    (*out)->line = line;
    (*out)->height = 1;
    return STRETTO_OK;
}

stretto_status parse_append(struct parser *p, struct nodes *l, struct node *n)
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

stretto_status parse_text(struct parser *p, const char *text, size_t n, struct value *out)
{
    TRY(tmpl_view(p->r, text, n, out));
    tmpl_chars(out->s);                              /* shared by threads: counted now */
    return STRETTO_OK;
}

/* Names are few: a linear search, counted as work so that many cannot hurt. */
stretto_status parse_intern(struct parser *p, const struct token *k, uint32_t *out)
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
    TRY(parse_text(p, k->p, k->n, &v));
    *out = (uint32_t)t->n_names;
    t->names[t->n_names++] = v.s;
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
    parse_take(p, K_COLON);
    TRY(parse_expect(p, K_BLOCK_END));
    TRY(parse_enter(p));
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
    TRY(parse_tuple(p, flags | TUPLE_TARGET, out));
    return check_target(p, *out);
}

static stretto_status if_statement(struct parser *p, struct node *n)
{
    for (;;) {
        struct node *cond, *body;
        TRY(parse_tuple(p, TUPLE_NO_IF, &cond));
        TRY(parse_make(p, N_SCOPE, cond->line, &body));
        TRY(block(p, &body->body, ENDS("endif", "else", "elif")));
        TRY(parse_append(p, &n->list, cond));
        TRY(parse_append(p, &n->other, body));
        if (!parse_take_name(p, "elif")) break;
    }
    if (parse_take_name(p, "else")) TRY(block(p, &n->body, ENDS("endif")));
    parse_step(p);
    return STRETTO_OK;
}

static stretto_status for_statement(struct parser *p, struct node *n)
{
    p->loops++;
    TRY(target(p, TUPLE_IN, &n->a));
    p->loops--;
    if (!parse_take_name(p, "in")) return parse_unexpected(p, "'in'");
    TRY(parse_tuple(p, TUPLE_NO_IF | TUPLE_RECURSIVE, &n->b));
    if (parse_take_name(p, "if")) TRY(parse_expression(p, &n->c));
    if (parse_at(p, "recursive"))
        return tmpl_fail(p->r, STRETTO_E_UNSUP, "recursive for loops are not supported");
    p->loops++;
    TRY(block(p, &n->body, ENDS("endfor", "else")));
    p->loops--;
    if (parse_take_name(p, "else")) TRY(block(p, &n->other, ENDS("endfor")));
    parse_step(p);
    return STRETTO_OK;
}

static stretto_status set_statement(struct parser *p, struct node *n)
{
    TRY(target(p, TUPLE_NAMESPACE, &n->a));
    if (parse_take(p, K_ASSIGN)) return parse_tuple(p, 0, &n->b);
    n->kind = N_SETBLOCK;
    while (parse_take(p, K_PIPE)) TRY(parse_filter(p, &n->b));
    TRY(block(p, &n->body, ENDS("endset")));
    parse_step(p);
    return STRETTO_OK;
}

static stretto_status parameters(struct parser *p, struct signature *s)
{
    TRY(parse_expect(p, K_LPAREN));
    while (p->tok->kind != K_RPAREN) {
        struct node *n, *v;
        if (p->tok->kind != K_NAME) return parse_unexpected(p, "the name of a parameter");
        TRY(parse_make(p, N_NAME, p->tok->line, &n));
        TRY(parse_intern(p, p->tok, &n->name));
        if (parse_at(p, "caller")) s->own_caller = true;
        TRY(parse_append(p, &s->names, n));
        parse_step(p);
        if (parse_take(p, K_ASSIGN)) {
            TRY(parse_expression(p, &v));
            TRY(parse_append(p, &s->defaults, v));
        } else if (s->defaults.n) {
            return tmpl_fail(p->r, STRETTO_E_FORMAT,
                             "a parameter without default follows one with");
        }
        if (!parse_take(p, K_COMMA)) break;
    }
    return parse_expect(p, K_RPAREN);
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
    parse_step(p);
    return STRETTO_OK;
}

static stretto_status macro_statement(struct parser *p, struct node *n)
{
    if (p->tok->kind != K_NAME) return parse_unexpected(p, "the name of a macro");
    TRY(parse_intern(p, p->tok, &n->name));
    n->v = V_STR(p->t->names[n->name]);
    parse_step(p);
    TRY(tmpl_take(p->r, 1, sizeof *n->sig, &n->sig));
    TRY(parameters(p, n->sig));
    return macro_body(p, n, "endmacro");
}

static stretto_status call_statement(struct parser *p, struct node *n)
{
    TRY(tmpl_take(p->r, 1, sizeof *n->sig, &n->sig));
    if (p->tok->kind == K_LPAREN) TRY(parameters(p, n->sig));
    TRY(parse_expression(p, &n->a));
    if (n->a->kind != N_CALL) return tmpl_fail(p->r, STRETTO_E_FORMAT, "a call block needs a call");
    return macro_body(p, n, "endcall");
}

static stretto_status filter_statement(struct parser *p, struct node *n)
{
    TRY(parse_filter(p, &n->b));
    while (parse_take(p, K_PIPE)) TRY(parse_filter(p, &n->b));
    TRY(block(p, &n->body, ENDS("endfilter")));
    parse_step(p);
    return STRETTO_OK;
}

static stretto_status with_statement(struct parser *p, struct node *n)
{
    while (p->tok->kind != K_BLOCK_END) {
        struct node *to, *v;
        if (n->list.n) TRY(parse_expect(p, K_COMMA));
        TRY(target(p, 0, &to));
        TRY(parse_expect(p, K_ASSIGN));
        TRY(parse_expression(p, &v));
        TRY(parse_append(p, &n->list, to));
        TRY(parse_append(p, &n->other, v));
    }
    TRY(block(p, &n->body, ENDS("endwith")));
    parse_step(p);
    return STRETTO_OK;
}

/* Marks what an assistant wrote, for training masks; it prints its body. */
static stretto_status generation_statement(struct parser *p, struct node *n)
{
    TRY(block(p, &n->body, ENDS("endgeneration")));
    parse_step(p);
    return STRETTO_OK;
}

static stretto_status jump_statement(struct parser *p, struct node *n)
{
    if (p->loops) return STRETTO_OK;
    return tmpl_fail(p->r, STRETTO_E_FORMAT, "'%s' outside of a loop",
                     n->kind == N_BREAK ? "break" : "continue");
}

static const struct { const char *word; uint8_t kind; stretto_status (*parse)(struct parser *, struct node *); }
statement_table[] = {
    { "if", N_IF, if_statement }, { "for", N_FOR, for_statement }, { "set", N_SET, set_statement },
    { "macro", N_MACRO, macro_statement }, { "call", N_CALLBLOCK, call_statement },
    { "filter", N_FILTERBLOCK, filter_statement }, { "with", N_WITH, with_statement },
    { "generation", N_SCOPE, generation_statement }, { "break", N_BREAK, jump_statement },
    { "continue", N_CONTINUE, jump_statement },
};

static stretto_status statement(struct parser *p, struct node **out)
{
    const struct token *k = p->tok;
    if (k->kind != K_NAME) return parse_unexpected(p, "the name of a tag");
    for (size_t i = 0; i < sizeof statement_table / sizeof *statement_table; i++) {
        if (!parse_at(p, statement_table[i].word)) continue;
        TRY(parse_make(p, statement_table[i].kind, k->line, out));
        parse_step(p);
        return statement_table[i].parse(p, *out);
    }
    p->r->line = k->line;
    bool closing = k->n > 3 && memcmp(k->p, "end", 3) == 0;
    return tmpl_fail(p->r, closing ? STRETTO_E_FORMAT : STRETTO_E_UNSUP, "%s tag '%.*s'",
                     closing || parse_at(p, "else") || parse_at(p,
                                                              "elif") ? "misplaced" : "unsupported",
                     tmpl_shown(k->n), k->p);
}

static stretto_status statements(struct parser *p, struct nodes *body, const char *const *ends)
{
    for (;;) {
        struct node *n;
        const struct token *k = p->tok;
        if (k->kind == K_EOF) return STRETTO_OK;
        parse_step(p);
        if (k->kind == K_DATA) {
            TRY(parse_make(p, N_DATA, k->line, &n));
            TRY(parse_text(p, k->p, k->n, &n->v));
        } else if (k->kind == K_VAR_BEGIN) {
            TRY(parse_make(p, N_PRINT, k->line, &n));
            TRY(parse_tuple(p, 0, &n->a));
            TRY(parse_expect(p, K_VAR_END));
        } else {
            for (size_t i = 0; ends && ends[i]; i++)
                if (parse_at(p, ends[i])) return STRETTO_OK;
            TRY(statement(p, &n));
            TRY(parse_expect(p, K_BLOCK_END));
        }
        TRY(parse_append(p, body, n));
    }
}

stretto_status tmpl_parse(struct render *r, struct template *t, const struct token *tok)
{
    struct parser p = { .r = r, .t = t, .tok = tok };
    return statements(&p, &t->body, NULL);
}
