/* Stands in until template.c is here; delete this file in the commit that brings it. */
#include "text/template.h"

stretto_status template_compile(struct template **out, const char *text, size_t n,
                                struct error *err)
{
    (void)text; (void)n;
    *out = NULL;
    return fail(err, STRETTO_E_UNSUP, "chat templates are not part of this build");
}

void template_free(struct template *t) { (void)t; }

stretto_status template_render(const struct template *t, json_t *vars, time_t now,
                               struct buffer *out, struct error *err)
{
    (void)t; (void)vars; (void)now; (void)out;
    return fail(err, STRETTO_E_UNSUP, "chat templates are not part of this build");
}
