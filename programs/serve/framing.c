/* Request smuggling lives on headers that two programs read differently (RFC 9112, 11.2), so what can be read in
 * two ways is refused: lengths or hosts that stand twice, a length beside chunks, chunks in HTTP/1.0, names with
 * spaces. libmicrohttpd before 1.0 also joins a folded line to the header's *name*, ends a value at a NUL, and takes a
 * line feed alone for the end of a line. It leaves headers where they were read, so the bytes around a value show all
 * three; later ones refuse them by themselves. */
#include "serve/framing.h"
#include "serve/wire.h"
#include <stdint.h>
#include <string.h>
#include <strings.h>

enum { HEADER_RECORD = 64 };           /* the library's own for each */

struct framing { unsigned lengths, encodings, hosts; bool odd, in_place; size_t bytes; };

static bool is_token(const char *p, size_t n)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (!c || !strchr(others, c))) return false;
    }
    return n > 0;
}

static bool is_printable(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)p[i] < ' ' && p[i] != '\t') || p[i] == 0x7f) return false;
    return true;
}

/* "name", a zero where the colon was, blanks, "value", zeros where the line's end was. */
static bool is_one_line(const char *name, size_t n_name, const char *value, size_t n_value)
{
    const char *p = name + n_name;
    uintptr_t away = (uintptr_t)value - (uintptr_t)p;
    if (*p++ || away < 1 || away > CONNECTION_BYTES) return false;
    while (*p == ' ' || *p == '\t') p++;
    return p == value && !value[n_value] && !value[n_value + 1];
}

static enum MHD_Result count_header(void *ud, enum MHD_ValueKind kind, const char *name, size_t n_name,
                                    const char *value, size_t n_value)
{
    struct framing *f = ud;
    f->bytes += n_name + (n_value < CONNECTION_BYTES ? n_value : 0) + HEADER_RECORD;
    if (kind != MHD_HEADER_KIND) return MHD_YES;
    f->lengths += strcasecmp(name, "Content-Length") == 0;
    f->hosts += strcasecmp(name, "Host") == 0;
    f->odd |= !is_token(name, n_name) || !value || !is_printable(value, n_value);
    f->odd |= f->in_place && value && !is_one_line(name, n_name, value, n_value);
    if (strcasecmp(name, "Transfer-Encoding") == 0) {
        f->encodings++;
        f->odd |= !value || strcasecmp(value, "chunked") != 0;
    }
    return MHD_YES;
}

bool framing_check(struct exchange *x, const char *version)
{
    struct framing f = { .in_place = strncmp(MHD_get_version(), "0.", 2) == 0 };
    MHD_get_connection_values_n(x->wire->connection, MHD_HEADER_KIND | MHD_COOKIE_KIND | MHD_GET_ARGUMENT_KIND,
                                count_header, &f);
    bool old = f.encodings && strcmp(version, "HTTP/1.0") == 0;
    if (f.lengths > 1 || f.hosts > 1 || f.encodings > 1 || f.odd || old || (f.lengths && f.encodings)) {
        x->cut = true;
        return exchange_refuse(x, TROUBLE_INVALID, NULL, "the headers say twice, or in a way that can be read as "
                               "another, how long the request is: send one Host, one Content-Length or "
                               "Transfer-Encoding: chunked (HTTP/1.1), and each header in one line");
    }
    if (f.bytes <= HEADER_BYTES) return true;
    x->cut = true;
    return exchange_refuse(x, TROUBLE_HEADERS, NULL, "the headers take more than %d bytes: send fewer or shorter ones "
                           "(cookies and query fields count too)", (int)HEADER_BYTES);
}

static int digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

size_t framing_unescape(char *text)
{
    char *to = text;
    for (const char *p = text; *p;) {
        int high = *p == '%' ? digit(p[1]) : -1, low = high >= 0 ? digit(p[2]) : -1;
        if (low < 0 || !(high | low)) *to++ = *p++;
        else {
            *to++ = (char)(high << 4 | low);
            p += 3;
        }
    }
    *to = '\0';
    return (size_t)(to - text);
}
