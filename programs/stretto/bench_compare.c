/* bench --compare: two files of results beside each other. */
#include "base/file.h"
#include "eval/compare.h"
#include "stretto/bench.h"
#include "stretto/command.h"
#include <stdio.h>

static int read_results(const char *path, struct compare_file *out)
{
    struct file_map map;
    struct error err = {0}, why = {0};
    stretto_status s = file_map_open(&map, path, &err);
    if (s != STRETTO_OK) return command_usage("bench", "%s", err.text);
    s = compare_read(out, map.data ? (const char *)map.data : "", map.size, &why);
    file_map_close(&map);
    if (s == STRETTO_E_NOMEM) return command_fail("bench", s, why.text);
    return s == STRETTO_OK ? EXIT_DONE : command_usage("bench", "%s: %s", path, why.text);
}

static bool print_change(const struct compare_row *a, const struct compare_row *b)
{
    struct compare_change c = compare_rows(a, b);
    printf("| %s | %.2f | %.2f | %.3f | ", a->name, a->speed, b->speed, c.ratio);
    if (c.known)
        printf("%.3f to %.3f | %s |\n", c.low, c.high,
               c.slower   ? "slower"
               : c.faster ? "faster"
                          : "no difference seen");
    else printf(" | unknown: one sample says nothing about noise |\n");
    return c.slower;
}

int bench_compare(const char *before, const char *after)
{
    struct compare_file a = {0}, b = {0};
    int code = read_results(before, &a);
    if (code == EXIT_DONE) code = read_results(after, &b);
    if (code == EXIT_DONE) {
        bool slower = false;
        size_t both = 0;
        printf("| test | before t/s | after t/s | after / before | 95 %% | verdict |\n"
               "|---|--:|--:|--:|---|---|\n");
        for (size_t i = 0; i < a.n; i++) {
            const struct compare_row *other = compare_find(&b, a.rows[i].name);
            both += other != NULL;
            if (other) slower = print_change(&a.rows[i], other) || slower;
            else printf("| %s | %.2f | | | | only before |\n", a.rows[i].name, a.rows[i].speed);
        }
        for (size_t i = 0; i < b.n; i++)
            if (!compare_find(&a, b.rows[i].name))
                printf("| %s | | %.2f | | | only after |\n", b.rows[i].name, b.rows[i].speed);
        code = slower ? EXIT_FAILED : EXIT_DONE;
        if (!both)
            code = command_fail("bench", STRETTO_E_FORMAT,
                                "no test is in both files, so nothing was compared: model, cache types, "
                                "threads, device and numbers of tokens must be the same");
    }
    compare_done(&a);
    compare_done(&b);
    return code;
}
