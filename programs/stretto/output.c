#include "stretto/output.h"
#include "base/utf8.h"
#include <stdbool.h>
#include <unistd.h>

size_t tame_print(FILE *out, const char *p, size_t n)
{
    size_t characters = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char b = (unsigned char)p[i];
        if (b == 0xc2 && i + 1 < n && (unsigned char)p[i + 1] < 0xa0) i++;
        else if ((b >= 0x20 && b != 0x7f) || b == '\n' || b == '\t') {
            fputc(b, out);
            characters += (b & 0xc0) != 0x80;
        }
    }
    return characters;
}

static bool is_terminal(void)
{
    static int terminal = -1;
    if (terminal < 0) terminal = isatty(STDOUT_FILENO);
    return terminal;
}

void answer_print(const char *p, size_t n)
{
    struct buffer safe = buffer_make((size_t)1 << 30);
    if (utf8_repair(&safe, p, n) == STRETTO_OK && safe.len) {
        if (is_terminal()) tame_print(stdout, safe.data, safe.len);
        else fwrite(safe.data, 1, safe.len, stdout);
    }
    buffer_done(&safe);
}

void text_print(const char *p, size_t n)
{
    if (is_terminal()) answer_print(p, n);
    else fwrite(p, 1, n, stdout);
}
