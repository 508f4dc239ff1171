/* Long requests are read by threads of their own, one for those of some pages and one for those of books: JSON of
 * megabytes and long texts take seconds, and nobody's stream and no shorter request waits for them. The exchange is the
 * thread's from prepare_give until prepare_take. */
#ifndef SERVE_PREPARE_H
#define SERVE_PREPARE_H
#include "base/status.h"

struct exchange;
struct preparer;

enum { PREPARE_BYTES = 8 << 10, PREPARE_MANY = 512 << 10, PREPARERS = 2 };  /* of a body, from which this pays */

/* wake: called from the thread, when one is ready. */
stretto_status prepare_open(struct preparer **out, void (*wake)(void *ud), void *ud, struct error *err);
/* Its handler is to be run. */
void prepare_give(struct preparer *p, struct exchange *x);
/* One whose handler has run; NULL: none now. */
struct exchange *prepare_take(struct preparer *p);
/* Waits for the one that is being read; others are left as they are. NULL is fine. */
void prepare_close(struct preparer *p);
#endif
