#include "serve/trouble.h"
#include "base/memory.h"
#include "base/utf8.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct trouble_row rows[] = {
    [TROUBLE_NONE] = { 200, "", "", false },
    [TROUBLE_INVALID] = { 400, "invalid_request_error", "invalid_request_error", false },
    [TROUBLE_KEY] = { 401, "authentication_error", "authentication_error", false },
    [TROUBLE_FORBIDDEN] = { 403, "permission_error", "permission_error", false },
    [TROUBLE_NOT_FOUND] = { 404, "not_found_error", "not_found_error", false },
    [TROUBLE_METHOD] = { 405, "invalid_request_error", "invalid_request_error", false },
    [TROUBLE_SLOW] = { 408, "invalid_request_error", "invalid_request_error", false },
    [TROUBLE_LARGE] = { 413, "invalid_request_error", "request_too_large", false },
    [TROUBLE_HEADERS] = { 431, "invalid_request_error", "invalid_request_error", false },
    [TROUBLE_CONTEXT] = { 400, "exceed_context_size_error", "invalid_request_error", false },
    [TROUBLE_UNSUPPORTED] = { 501, "not_supported_error", "invalid_request_error", true },
    [TROUBLE_BUSY] = { 503, "unavailable_error", "overloaded_error", false },
    [TROUBLE_LOADING] = { 503, "unavailable_error", "overloaded_error", false },
    [TROUBLE_DRAINING] = { 503, "unavailable_error", "overloaded_error", false },
    [TROUBLE_LATE] = { 408, "invalid_request_error", "invalid_request_error", true },
    [TROUBLE_FAILED] = { 500, "server_error", "api_error", true },
};

const struct trouble_row *trouble_row(enum trouble_kind kind) { return &rows[kind]; }

void text_line(char *text)
{
    size_t n = strlen(text), whole = 0;
    text_tame(text);
    for (char *p = text; *p; p++)
        if (*p == '\n' || *p == '\t') *p = ' ';
    while (whole < n) {
        size_t run = utf8_valid_run(text + whole, n - whole);
        whole += run;
        if (whole < n) text[whole++] = '?';
    }
}

#define NO_MEMORY "there is not enough memory for this request now: try again later"

static bool say(struct trouble *t, enum trouble_kind kind, const char *param, const char *fmt, va_list ap)
{
    if (t->kind != TROUBLE_NONE) return false;
    char *text = mem_alloc(TROUBLE_TEXT + TROUBLE_PARAM), *field = text ? text + TROUBLE_TEXT : NULL;
    *t = (struct trouble){ .kind = TROUBLE_BUSY, .text = NO_MEMORY, .param = "", .memory = text };
    if (!text) return false;
    vsnprintf(text, TROUBLE_TEXT, fmt, ap);
    snprintf(field, TROUBLE_PARAM, "%s", param ? param : "");
    text_line(text);
    text_line(field);
    t->kind = kind;
    t->text = text;
    t->param = field;
    return false;
}

void trouble_done(struct trouble *t) { mem_free(t->memory); }

bool trouble(struct trouble *t, enum trouble_kind kind, const char *param, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(t, kind, param, fmt, ap);
    va_end(ap);
    return false;
}

bool trouble_status(struct trouble *t, enum trouble_kind kind, const char *param, stretto_status s,
                    const struct error *err)
{
    if (s == STRETTO_E_NOMEM)
        return trouble(t, TROUBLE_BUSY, NULL, NO_MEMORY);
    return trouble(t, kind, param, "%s", err && err->text[0] ? err->text : stretto_status_text(s));
}
