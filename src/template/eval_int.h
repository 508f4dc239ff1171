/* What the files that run a tree share. */
#ifndef TEMPLATE_EVAL_INT_H
#define TEMPLATE_EVAL_INT_H
#include "template/template_int.h"

/* eval.c */
stretto_status tmpl_scope_open(struct render *r, struct scope *parent, struct scope **out);
/* The next turn of a loop starts with nothing set; a scope that a macro remembers is left to it. */
stretto_status tmpl_scope_fresh(struct render *r, struct scope **s);
stretto_status tmpl_scope_set(struct render *r, struct scope *s, uint32_t name, struct value v);
stretto_status tmpl_lookup(struct render *r, uint32_t name, struct value *out);
stretto_status tmpl_eval(struct render *r, const struct node *n, struct value *out);

/* access.c; part: start, stop and step, none where they are left out */
stretto_status tmpl_slice(struct render *r, struct value v, const struct value part[3], struct value *out);

/* macro.c; extra: passed by name besides (the caller of a call block); subject: given when the filter
 * stands behind a block */
stretto_status tmpl_eval_call(struct render *r, const struct node *n, const struct kwarg *extra,
                              struct value *out);
stretto_status tmpl_eval_filter(struct render *r, const struct node *n, const struct value *subject,
                                struct value *out);

/* exec.c, loop.c */
stretto_status tmpl_exec(struct render *r, const struct nodes *body);
stretto_status tmpl_assign(struct render *r, struct scope *s, const struct node *to, struct value v);
stretto_status tmpl_for(struct render *r, const struct node *n);
#endif
