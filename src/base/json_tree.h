/* JSON as a tree of jansson's, read by base/json.h: the only way for a foreign text to become one.
 *
 * jansson's numbers are 64-bit integers and finite doubles. A larger integer becomes the nearest
 * double; what is no finite double either (NaN, Infinity, 1e400, an integer of 400 digits) becomes a
 * string of its spelling, so that a reader who does not ask for it is not disturbed, and one who
 * wants a number finds none and says so. */
#ifndef BASE_JSON_TREE_H
#define BASE_JSON_TREE_H
#include "base/status.h"
#include <jansson.h>

/* What Python's dict does with a name that stands twice, or a refusal: for our own formats. */
enum json_twice { JSON_TWICE_LAST, JSON_TWICE_REFUSED };

/* where: what to call the text in messages, which also name line and column. E_FORMAT or E_NOMEM;
 * then *out is NULL. */
stretto_status json_tree(json_t **out, const char *text, size_t n, enum json_twice twice,
                         const char *where, struct error *err);
#endif
