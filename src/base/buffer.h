/* Growable bytes with a mandatory maximum (curl's dynbuf). Always NUL-terminated when not empty. */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H
#include "base/status.h"
#include <stdarg.h>

struct buffer { char *data; size_t len, cap, max; };

static inline struct buffer buffer_make(size_t max) { return (struct buffer){ .max = max }; }
void buffer_done(struct buffer *b);
void buffer_clear(struct buffer *b);              /* keeps the memory */
/* E_NOMEM when memory is out, E_FULL when `max` would be passed; the content is unchanged then. */
stretto_status buffer_reserve(struct buffer *b, size_t more);
stretto_status buffer_append(struct buffer *b, const void *p, size_t n);
stretto_status buffer_str(struct buffer *b, const char *s);
__attribute__((format(printf, 2, 3)))
stretto_status buffer_printf(struct buffer *b, const char *fmt, ...);
#endif
