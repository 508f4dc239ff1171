/* A report from JSON: what `stretto squeeze --report` draws. usage: report_draw JSON OUT */
#include "base/json_tree.h"
#include "stretto/command.h"
#include "stretto/report.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int command_fail(const char *command, stretto_status s, const char *words)
{
    fprintf(stderr, "%s: %d: %s\n", command, (int)s, words);
    return EXIT_FAILED;
}

int command_usage(const char *command, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "%s: ", command);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    static char text[1 << 22];
    struct error err = { 0 };
    json_t *j;
    FILE *f = argc == 3 ? fopen(argv[1], "rb") : NULL;
    if (!f) return EXIT_USAGE;
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    if (json_tree(&j, text, n, JSON_TWICE_LAST, argv[1], &err) != STRETTO_OK) {
        fprintf(stderr, "%s\n", err.text);
        return EXIT_FAILED;
    }
    int code = report_write("report", argv[2], true, j);
    json_decref(j);
    return code;
}
