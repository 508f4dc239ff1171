/* Chat templates: an interpreter for what the templates of chat models use of Jinja 3.1, over values that
 * behave as Python's do. It covers
 *   - all expressions but ** and % behind a string; numbers are decimal integers of 64 bits and floats, and
 *     larger integers of the variables are kept and printed;
 *   - if, for (loop, else, an if of its own, break, continue), set, macro, call, filter, with, generation, raw;
 *   - about 35 filters and 30 tests (the tables at the ends of filter.c and test.c), the methods of str, dict
 *     and list that do not change them (method.c), str.format and strftime_now (format.c), and the functions
 *     range, dict, namespace and raise_exception (call.c).
 * Not here: include, import, extends, block, do, recursive loops, varargs and kwargs of macros, autoescape, and
 * filters, tests and methods that none of 343 templates of chat models uses (tests/unit/template names them).
 *
 * What it does not know is an error that names the construct and the line, never a fallback to another
 * template. Limits on everything an attacker could count: source bytes, nesting, loop steps, output bytes. */
#ifndef TEMPLATE_H
#define TEMPLATE_H
#include "base/buffer.h"
#include "base/status.h"
#include <time.h>

struct template;

stretto_status template_compile(struct template **out, const char *text, size_t n,
                                struct error *err);
void template_free(struct template *t);

/* A variable that the model gives: its begin token and the like. */
struct template_token { const char *name, *p; size_t n; };

struct template_input {
    const char *vars;              /* the text of a JSON object, whose members are variables      */
    size_t n_vars;
    const char *where;             /* what to call that text in messages                          */
    const struct template_token *tokens;   /* used where vars has no such member                   */
    size_t n_tokens;
    time_t now;                    /* feeds strftime_now                                          */
    const char *const *parts;      /* NULL-terminated, or NULL: roles whose messages have their content,
                                      where it is a text, made into [{"type": "text", "text": it}] */
};

/* Renders, appending to *out. content, when not NULL, gets a byte for each that *out gets: 1 where it
 * came out of vars, 0 where the template or a token of the model spelled it. What is joined, cut,
 * replaced, formatted or changed letter by letter keeps its origin; where that cannot be known, it
 * counts as coming out of vars. A role is the template's own where it is a plain word, because
 * templates spell markers with it. raise_exception() in a template gives E_ARG and its words. Rendered as
 * transformers do: trim_blocks, lstrip_blocks, loop controls, tojson without HTML escapes. A
 * compiled template may be rendered by several threads at once. */
stretto_status template_render(const struct template *t, const struct template_input *in,
                               struct buffer *out, struct buffer *content, struct error *err);
#endif
