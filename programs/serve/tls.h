/* TLS by GnuTLS, through libmicrohttpd: a certificate that can be read again while connections are open. */
#ifndef SERVE_TLS_H
#define SERVE_TLS_H
#include "base/status.h"
#include <microhttpd.h>

struct tls;
stretto_status tls_open(struct tls **out, const char *cert, const char *key, struct error *err);
/* Reads the files again; what was there stays when they are no pair. */
stretto_status tls_read(struct tls *t, const char *cert, const char *key, struct error *err);
void tls_options(struct tls *t, struct MHD_OptionItem items[3]);
void tls_close(struct tls *t);
#endif
