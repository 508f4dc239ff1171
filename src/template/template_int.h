/* The inside of the template interpreter. A template is compiled once into an immutable tree; each
 * render owns one pool for its values and one byte buffer for everything it prints, so an error needs
 * no cleaning up and nothing can leak.
 *
 * Strings are UTF-8 views, always well formed, and count in code points as Python's do. Values are
 * immutable except namespaces, loops and one-shot iterators. */
#ifndef TEMPLATE_INT_H
#define TEMPLATE_INT_H
#include "template/template.h"
#include <stdbool.h>
#include <stdint.h>

/* What an attacker could count. */
#define TEMPLATE_SOURCE_MAX  ((size_t)1 << 20)     /* bytes of source */
#define TEMPLATE_TREE_MAX    ((size_t)192 << 20)   /* bytes of tokens and tree */
#define TEMPLATE_NEST_MAX    100u                  /* brackets and blocks in each other */
#define TEMPLATE_HEIGHT_MAX  400u                  /* of an expression tree (a long chain of +) */
#define TEMPLATE_OUTPUT_MAX  ((size_t)16 << 20)    /* bytes printed, and of one string */
#define TEMPLATE_VALUES_MAX  ((size_t)256 << 20)   /* bytes of values of one render */
#define TEMPLATE_LOOPS_MAX   1000000u              /* loop iterations of one render */
#define TEMPLATE_WORK_MAX    100000000u           /* tree nodes visited, items and words compared */
#define TEMPLATE_DEPTH_MAX   1000u                 /* evaluations in each other, macros included */
#define TEMPLATE_VALUE_DEPTH 100u                  /* lists in lists when printed or compared */
#define TEMPLATE_RANGE_MAX   100000                /* as Jinja's sandbox */

/* ---- memory ---------------------------------------------------------------------------------- */
struct chunk;
struct pool { struct chunk *head; size_t taken, max; };
void *tmpl_pool_take(struct pool *p, size_t n);    /* NULL: out of memory or past max */
void tmpl_pool_done(struct pool *p);

/* ---- values ---------------------------------------------------------------------------------- */
enum kind {
    T_MISSING,                   /* no value at all: an argument not given, a name not set */
    T_UNDEFINED, T_NONE, T_BOOL, T_INT,
    T_BIG,                       /* an integer too large for 64 bits, as a variable spells it */
    T_FLOAT, T_STR, T_LIST, T_TUPLE, T_DICT, T_VIEW, T_RANGE, T_ITER, T_NAMESPACE, T_MACRO,
    T_FUNCTION, T_METHOD, T_LOOP,
};

struct value {
    uint8_t kind;
    uint8_t safe;                /* a string marked safe: + escapes the other side */
    union {
        bool b;
        int64_t i;
        double f;
        struct str *s;           /* T_STR T_BIG */
        struct list *l;          /* T_LIST T_TUPLE */
        struct dict *d;          /* T_DICT T_NAMESPACE */
        struct view *view;
        struct range *range;
        struct cursor *iter;
        struct undefined *u;
        struct macro *macro;
        const struct function *fn;
        struct method *method;
        struct loop *loop;
    };
};

/* chars: SIZE_MAX = not counted yet. marks: [n] 1 where a byte came out of the variables (see
 * template_render); NULL: nowhere, or nobody asked. */
struct str { const char *p; size_t n, chars; const unsigned char *marks; };
struct list { struct value *v; size_t n, cap; bool group; };   /* group: a pair made by groupby */
struct entry { struct value k, v; uint64_t hash; };
struct dict { struct entry *e; size_t n, cap; };
struct view { struct dict *d; char what; };          /* 'k'eys 'v'alues 'i'tems */
struct range { int64_t start, stop, step; size_t n; };
struct cursor { struct list *l; size_t at; };        /* what a generator is here */
/* Why a value is undefined, told when it is used. */
struct undefined { const char *type; const struct str *name; const char *hint; };

struct kwarg { const struct str *name; struct value v; };
struct call { const struct value *pos; size_t n_pos; const struct kwarg *kw; size_t n_kw; };

struct render;
typedef stretto_status builtin(struct render *r, struct value self, const struct call *c,
                               struct value *out);
struct function { const char *name; builtin *run; };
struct method { struct value self; const struct function *fn; };

#define V_NONE ((struct value){ .kind = T_NONE })
#define V_BOOL(x) ((struct value){ .kind = T_BOOL, .b = (x) })
#define V_INT(x) ((struct value){ .kind = T_INT, .i = (x) })
#define V_FLOAT(x) ((struct value){ .kind = T_FLOAT, .f = (x) })
#define V_STR(x) ((struct value){ .kind = T_STR, .s = (x) })
#define V_LIST(x) ((struct value){ .kind = T_LIST, .l = (x) })

/* ---- the tree -------------------------------------------------------------------------------- */
enum node_kind {
    N_CONST, N_NAME, N_LIST, N_TUPLE, N_DICT, N_COND, N_OR, N_AND, N_NOT, N_COMPARE, N_BINARY, N_NEG,
    N_POS, N_CONCAT, N_ATTR, N_ITEM, N_SLICE, N_CALL, N_FILTER, N_TEST,
    N_NSREF,                                             /* target: a.b */
    N_DATA, N_PRINT, N_IF, N_FOR, N_SET, N_SETBLOCK, N_MACRO, N_CALLBLOCK, N_FILTERBLOCK, N_WITH,
    N_SCOPE, N_BREAK, N_CONTINUE,
};

struct nodes { struct node **v; size_t n, cap; };
struct keyword { const struct str *name; struct node *v; };
struct args { struct nodes pos; struct keyword *kw; size_t n_kw, cap_kw; struct node *star; };

/* One shape for every node; which fields are used stands in parse.c where it is made. */
struct node {
    uint8_t kind;
    uint8_t op;                          /* a token kind, or a flag */
    uint32_t line, height, name;         /* name: index into template.names */
    struct node *a, *b, *c;
    struct nodes list, body, other;
    struct args *args;
    struct value v;
    const struct function *fn;           /* filter or test; NULL = unknown, an error when it runs */
    struct signature *sig;
};
struct signature { struct nodes names, defaults; bool caller, own_caller; };

struct template {
    struct pool pool;
    struct nodes body;
    struct str **names;
    size_t n_names, cap_names;
};

/* ---- tokens ---------------------------------------------------------------------------------- */
enum token_kind {
    K_EOF, K_DATA, K_VAR_BEGIN, K_VAR_END, K_BLOCK_BEGIN, K_BLOCK_END, K_NAME, K_STRING, K_INT, K_FLOAT,
    K_ADD, K_SUB, K_MUL, K_DIV, K_FLOORDIV, K_MOD, K_POW, K_TILDE, K_LBRACKET, K_RBRACKET, K_LPAREN,
    K_RPAREN, K_LBRACE, K_RBRACE, K_EQ, K_NE, K_GT, K_GE, K_LT, K_LE, K_ASSIGN, K_DOT, K_COLON, K_PIPE,
    K_COMMA, K_SEMICOLON, K_IN, K_NOTIN,                /* the last two only as compare operators */
};
struct token { uint8_t kind; uint32_t line; const char *p; size_t n; struct value v; };

/* ---- a render -------------------------------------------------------------------------------- */
struct slot { uint32_t name; struct value v; };
struct scope { struct scope *parent; struct slot *slots; size_t n, cap; bool captured; };
struct macro {
    const struct str *name;              /* NULL for the body of a call block */
    const struct node *node;
    struct scope *home;
};
/* A for loop while it runs; values are pulled on demand, because the `if` of a loop may look at
 * what the body has changed. */
struct iter { struct value v; size_t at; };
struct loop {
    struct iter src;
    const struct node *node;
    struct scope *outer;
    struct list *rest;                   /* what asking for the length pulled early */
    size_t rest_at;
    int64_t index0, length;
    struct value current, before, after;
    bool done;
};

enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };

struct render {
    struct pool pool;
    struct error *err;
    uint32_t line;                       /* of the node being evaluated */
    uint32_t depth;
    uint64_t work, loops;
    struct buffer out;                   /* everything printed; captures cut their tail off */
    bool track;                          /* somebody wants to know where the bytes came from */
    struct buffer marks;                 /* then: a byte for each of out */
    unsigned char from;                  /* the mark of bytes written and copied that are no string's */
    const unsigned char *ones;           /* [n_ones] marks of strings that came in whole */
    size_t n_ones;
    const struct template *t;
    struct value *context;             /* by name index: the caller's variables, then the globals */
    struct scope *scope;
    time_t now;
    enum flow flow;
    struct { char *p; unsigned char *marks; size_t n, cap; } grow;      /* the string that + last made longer */
};

/* Records "line N: words" and is s; a macro, so that the compiler sees that it is never OK. */
#define tmpl_fail(r, s, ...) (tmpl_say(r, s, __VA_ARGS__), (s))
__attribute__((format(printf, 3, 4)))
void tmpl_say(struct render *r, stretto_status s, const char *fmt, ...);
stretto_status tmpl_take(struct render *r, size_t n, size_t size, void *out);       /* zeroed */
stretto_status tmpl_work(struct render *r, size_t n);
/* Counts one evaluation inside another; the caller gives it back with r->depth--. */
stretto_status tmpl_enter(struct render *r);

/* How much of a name of n bytes a message shows, for %.*s. */
static inline int tmpl_shown(size_t n) { return n < 60 ? (int)n : 60; }

/* value.c */
const char *tmpl_type(struct value v);                             /* Python's name of the type */
size_t tmpl_chars(struct str *s);
size_t tmpl_offset(struct str *s, size_t at);                   /* byte offset of code point `at` */
bool tmpl_is(const struct str *s, const char *word);
stretto_status tmpl_view(struct render *r, const char *p, size_t n, struct value *out);
stretto_status tmpl_copy(struct render *r, const char *p, size_t n, struct value *out);
/* The part [p, p + n) of s, which keeps its marks. */
stretto_status tmpl_part(struct render *r, const struct str *s, const char *p, size_t n,
                         struct value *out);
/* n marks of 1. */
stretto_status tmpl_ones(struct render *r, size_t n, const unsigned char **out);
bool tmpl_marked(struct value v);                                  /* a string with a mark of 1 */
/* The mark of the byte at p, which lies in s. */
static inline unsigned char tmpl_mark(const struct str *s, const char *p)
{
    return s->marks ? s->marks[p - s->p] : 0;
}
stretto_status tmpl_list(struct render *r, size_t cap, struct list **out);
stretto_status tmpl_push(struct render *r, struct list *l, struct value v);
stretto_status tmpl_pair(struct render *r, struct value a, struct value b, struct value *out);
stretto_status tmpl_dict(struct render *r, struct dict **out);
stretto_status tmpl_find(struct render *r, const struct dict *d, struct value key,
                         struct value **out);
struct value *tmpl_find_str(const struct dict *d, const char *p, size_t n);
stretto_status tmpl_put(struct render *r, struct dict *d, struct value key, struct value v);
bool tmpl_truth(struct value v);
bool tmpl_to_int(struct value v, int64_t *out);                    /* bool and int */
bool tmpl_to_float(struct value v, double *out);                   /* bool, int and float */
stretto_status tmpl_len(struct render *r, struct value v, size_t *out);
stretto_status tmpl_equal(struct render *r, struct value a, struct value b, bool *out);
/* -1, 0, 1, or 2 when a NaN makes them unordered. */
stretto_status tmpl_compare(struct render *r, struct value a, struct value b, int *out);
stretto_status tmpl_contains(struct render *r, struct value seq, struct value item, bool *out);
stretto_status tmpl_iter(struct render *r, struct value v, struct iter *out);
stretto_status tmpl_next(struct render *r, struct iter *it, struct value *out, bool *more);
stretto_status tmpl_to_list(struct render *r, struct value v, struct list **out);
stretto_status tmpl_undefined(struct render *r, const char *type, const struct str *name,
                              const char *hint, struct value *out);
stretto_status tmpl_use_undefined(struct render *r, struct value v);   /* always an error */
stretto_status tmpl_sort(struct render *r, struct list *l, struct list *keys, bool reverse);

/* vars.c: the caller's variables come before the globals */
stretto_status tmpl_variables(struct render *r, const struct template_input *in);

/* number.c */
stretto_status tmpl_binary(struct render *r, int op, struct value a, struct value b,
                           struct value *out);
/* Two numbers of which one is T_BIG: as tmpl_compare. */
int tmpl_big_order(struct value a, struct value b);
double tmpl_big_float(struct value v);                             /* the nearest, or infinite */
stretto_status tmpl_too_big(struct render *r);                     /* always an error */
void tmpl_float_text(double f, char text[40]);
bool tmpl_parse_float(const char *p, size_t n, double *out);       /* as Python's float() */
bool tmpl_parse_int(const char *p, size_t n, int64_t *out, bool *overflow);    /* decimal */

/* print.c: text is appended to r->out; tmpl_cut takes it back as a string value */
stretto_status tmpl_write(struct render *r, const void *p, size_t n);
stretto_status tmpl_write_part(struct render *r, const struct str *s, const char *p, size_t n);
stretto_status tmpl_write_str(struct render *r, const struct str *s);
stretto_status tmpl_text(struct render *r, struct value v);        /* str() */
stretto_status tmpl_repr(struct render *r, struct value v);
stretto_status tmpl_cut(struct render *r, size_t mark, struct value *out);
stretto_status tmpl_to_str(struct render *r, struct value v, struct value *out);
stretto_status tmpl_escape(struct render *r, struct value v);
struct json_style {
    const char *item, *key;              /* separators */
    size_t item_n, key_n, indent_n;
    const char *indent;                  /* NULL = one line */
    bool ascii, sort;
};
stretto_status tmpl_json(struct render *r, struct value v, const struct json_style *s,
                         unsigned depth);

/* format.c */
stretto_status tmpl_format(struct render *r, struct value fmt, const struct call *c,
                           struct value *out);
stretto_status tmpl_strftime(struct render *r, struct str *fmt, struct value *out);

/* unicode.c */
size_t tmpl_decode(const char *p, size_t n, uint32_t *cp);         /* bytes; text is well formed */
size_t tmpl_encode(uint32_t cp, char out[4]);
bool tmpl_valid(const char *p, size_t n);
bool tmpl_space(uint32_t cp);
bool tmpl_line_break(uint32_t cp);
bool tmpl_alpha(uint32_t cp);
bool tmpl_decimal(uint32_t cp);
bool tmpl_digit(uint32_t cp);
bool tmpl_lower(uint32_t cp);
bool tmpl_upper(uint32_t cp);
bool tmpl_title(uint32_t cp);
bool tmpl_word(uint32_t cp);                                       /* \w */
bool tmpl_printable(uint32_t cp);
bool tmpl_identifier(const char *p, size_t n);
enum letter_case { CASE_LOWER, CASE_UPPER, CASE_TITLE };
stretto_status tmpl_recase(struct render *r, const struct str *s, const char *p, size_t n,
                           enum letter_case to);
/* The part of [p, p + n) between its ends' white space, or the ends' characters of `set`. */
void tmpl_strip(const char **p, size_t *n, const struct str *set, bool left, bool right);

/* lex.c, parse.c */
stretto_status tmpl_lex(struct render *r, const char *text, size_t n, struct token **out,
                        size_t *n_out);
stretto_status tmpl_parse(struct render *r, struct template *t, const struct token *tok);

/* exec.c, access.c, macro.c, loop.c */
stretto_status tmpl_run(struct render *r);
stretto_status tmpl_attr(struct render *r, struct value v, const struct str *name,
                         struct value *out);
stretto_status tmpl_item(struct render *r, struct value v, struct value key, struct value *out);
stretto_status tmpl_call(struct render *r, struct value f, const struct call *c, struct value *out);
/* Runs a filter, test, method or function of ours: what it makes of marked strings is marked, but for
 * what it writes out of strings that know better. */
stretto_status tmpl_builtin(struct render *r, const struct function *fn, struct value self,
                            const struct call *c, struct value *out);
stretto_status tmpl_loop_attr(struct render *r, struct value v, const struct str *name,
                              struct value *out);

/* call.c: `params` is a list of words, "?" after those that may be left out; out has one
 * value for each, T_MISSING when it was not given. */
stretto_status tmpl_bind(struct render *r, const char *who, const struct call *c,
                         const char *params, struct value *out);
stretto_status tmpl_want_str(struct render *r, const char *who, struct value v, struct str **out);
stretto_status tmpl_want_int(struct render *r, const char *who, struct value v, int64_t *out);
const struct function *tmpl_global(const struct str *name);

/* method.c: T_MISSING when the type has no such attribute */
stretto_status tmpl_method(struct render *r, struct value v, const struct str *name,
                           struct value *out);
builtin tmpl_str_strip, tmpl_str_replace;

/* filter.c, test.c */
const struct function *tmpl_filter(const struct str *name);
const struct function *tmpl_test(const struct str *name);
#endif
