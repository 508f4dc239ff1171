#include "base/log.h"
#include "base/status.h"
#include <stdarg.h>
#include <stdio.h>

void log_say(const struct log *l, enum log_level level, const char *fmt, ...)
{
    if (!l || !l->say || level < l->least) return;
    char text[1001];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    text_tame(text);
    l->say(l->ud, level, text);
}
