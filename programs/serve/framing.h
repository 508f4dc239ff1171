/* Whether a request begins and ends where a proxy in front saw it begin and end, and whether its headers leave
 * room for those of the answer. Judged before anything else is. */
#ifndef SERVE_FRAMING_H
#define SERVE_FRAMING_H
#include <stdbool.h>
#include <stddef.h>

struct exchange;

/* Of a connection's memory, which the library takes from one piece: what a request's line and headers may have, with
 * what the library keeps for each of them, and what is left for the headers of the answer. */
enum { HEADER_BYTES = 8 << 10, REPLY_BYTES = 2304, CONNECTION_BYTES = HEADER_BYTES + REPLY_BYTES };

/* False: refused. Where it is not clear where the request ends, the connection ends too. */
bool framing_check(struct exchange *x, const char *version);
/* The library's way to read %XX in paths: as ever, but %00 stays as it is spelled. */
size_t framing_unescape(char *text);
#endif
