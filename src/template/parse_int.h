/* What the parser's files share. */
#ifndef TEMPLATE_PARSE_INT_H
#define TEMPLATE_PARSE_INT_H
#include "template/template_int.h"

struct parser {
    struct render *r;
    struct template *t;
    const struct token *tok;
    uint32_t nest;                       /* of brackets, unary operators and blocks */
    uint32_t loops;                      /* for loops around this place, macros reset it */
    struct signature *sig[TEMPLATE_NEST_MAX];      /* macros and call blocks around this place */
    size_t n_sig;
};

/* parse.c: where the parser is */
bool parse_at(const struct parser *p, const char *word);
void parse_step(struct parser *p);
bool parse_take(struct parser *p, int kind);
bool parse_take_name(struct parser *p, const char *word);
stretto_status parse_expect(struct parser *p, int kind);
stretto_status parse_unexpected(struct parser *p, const char *want);            /* always an error */
/* Counts one bracket or block inside another; the caller gives it back with p->nest--. */
stretto_status parse_enter(struct parser *p);
stretto_status parse_make(struct parser *p, int kind, uint32_t line, struct node **out);
stretto_status parse_append(struct parser *p, struct nodes *l, struct node *n);
stretto_status parse_text(struct parser *p, const char *text, size_t n, struct value *out);
stretto_status parse_intern(struct parser *p, const struct token *k, uint32_t *out);

/* parse_expr.c */
enum tuple_flags { TUPLE_NO_IF = 1, TUPLE_PAREN = 2, TUPLE_TARGET = 4, TUPLE_NAMESPACE = 8, TUPLE_IN = 16,
                   TUPLE_RECURSIVE = 32 };
/* An expression, or several with commas between them. */
stretto_status parse_tuple(struct parser *p, unsigned flags, struct node **out);
stretto_status parse_expression(struct parser *p, struct node **out);
/* The filter behind a |, put around *n. */
stretto_status parse_filter(struct parser *p, struct node **n);
#endif
