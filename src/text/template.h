/* Chat templates: an interpreter for the Jinja subset that real templates use. What it does not
 * know is an error that names the construct and the line, never a fallback to another template.
 * Limits on everything an attacker could count: source bytes, nesting, loop steps, output bytes. */
#ifndef TEXT_TEMPLATE_H
#define TEXT_TEMPLATE_H
#include "base/buffer.h"
#include "base/status.h"
#include <jansson.h>
#include <time.h>

struct template;

stretto_status template_compile(struct template **out, const char *text, size_t n,
                                struct error *err);
void template_free(struct template *t);

/* Renders with the members of the JSON object `vars` as variables, appending to *out. `now`
 * feeds strftime_now. raise_exception() in a template gives E_ARG and its words. Rendered as
 * transformers do: trim_blocks, lstrip_blocks, loop controls, tojson without HTML escapes. A
 * compiled template may be rendered by several threads at once. */
stretto_status template_render(const struct template *t, json_t *vars, time_t now,
                               struct buffer *out, struct error *err);
#endif
