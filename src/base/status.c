#include "base/status.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

void text_tame(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++) {
        bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;
        if ((*p < 0x20 && *p != '\n' && *p != '\t') || *p == 0x7f || c1) *p = '?';
        if (c1) p[1] = '?';
    }
}

stretto_status fail(struct error *err, stretto_status s, const char *fmt, ...)
{
    if (!err || err->status != STRETTO_OK) return s;
    err->status = s;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    text_tame(err->text);
    return s;
}

void error_clear(struct error *err)
{
    if (!err) return;
    err->status = STRETTO_OK;
    err->text[0] = '\0';
}

const char *stretto_status_text(stretto_status s)
{
    switch (s) {
#define X(name, value, text) case STRETTO_##name: return text;
        STRETTO_STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}

const char *stretto_version(void) { return STRETTO_VERSION; }
