/* The page at /: a file that is compiled in. Programs that look for an ollama server there get its greeting. */
#include "base/memory.h"
#include "serve/route.h"
#include "serve/server.h"
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { POLICY = 320 };                 /* bytes of the header */

struct embedded { const char *name; const unsigned char *text; };
extern const struct embedded serve_page[];

/* Only what carries this answer's own word runs: nothing that found its way into the page would. */
static bool draw_nonce(char out[33])
{
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) return false;
    for (size_t i = 0; i < sizeof bytes; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

static bool put_page(struct exchange *x, const char *nonce)
{
    static const char mark[] = "{{nonce}}";
    const char *at = (const char *)serve_page[0].text, *next;
    for (; (next = strstr(at, mark)); at = next + sizeof mark - 1)
        if (buffer_append(&x->reply_text, at, (size_t)(next - at)) != STRETTO_OK
            || buffer_str(&x->reply_text, nonce) != STRETTO_OK)
            return false;
    return buffer_str(&x->reply_text, at) == STRETTO_OK;
}

static void page(struct exchange *x)
{
    char nonce[33];
    if (server_options(x->server)->no_ui) {
        exchange_refuse(x, TROUBLE_NOT_FOUND, NULL, "this server has no page (--no-ui)");
        return;
    }
    const char *accept = exchange_header(x, "Accept");
    if (!accept || (!strstr(accept, "text/html") && !strstr(accept, "*/*"))) {
        buffer_str(&x->reply_text, "Ollama is running");
        exchange_reply_text(x, 200, "text/plain; charset=utf-8");
        return;
    }
    if (!(x->policy = mem_alloc(POLICY)) || !draw_nonce(nonce) || !put_page(x, nonce)) {
        mem_free(x->policy);
        x->policy = NULL;
        trouble_status(&x->trouble, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
        return;
    }
    snprintf(x->policy, POLICY, "default-src 'none'; style-src 'nonce-%s'; script-src 'nonce-%s'; "
             "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
             nonce, nonce);
    exchange_reply_text(x, 200, "text/html; charset=utf-8");
}

static const struct route routes[] = { { "GET", "/", &manner_openai, page, ROUTE_OPEN | ROUTE_EARLY } };
const struct routes routes_page = ROUTES(routes);
