/* The table of `bench --roof`: operations in the order in which they run, then all of them. */
#include "stretto/bench.h"
#include <stdio.h>
#include <string.h>

static const char *const arithmetic_name[ARITHMETIC_KINDS] = {"int8", "f32", "bf16"};

struct line {
    struct op_time op;
    double roof;
    const char *bound;
};

static struct line line_of(const struct op_time *op, double steps, const struct speed_roof *r)
{
    struct line l = {.op = *op};
    l.op.seconds /= steps;
    l.op.wait /= steps;
    l.op.bytes /= steps;
    l.op.macs /= steps;
    l.roof = speed_roof_seconds(r, &l.op);
    l.bound = l.roof <= 0                                       ? ""
              : r->bytes > 0 && l.op.bytes / r->bytes >= l.roof ? "memory"
                                                                : arithmetic_name[op->arithmetic];
    return l;
}

/* What must be read from memory and what must be multiplied do overlap, so the roof of the whole is
 * the larger of their sums; activations stay in the caches and are left out. */
static struct line whole(const struct op_time *ops, size_t n, double steps,
                         const struct speed_roof *r)
{
    struct line l = {.op = {.name = "all"}, .bound = "memory"};
    double adding = 0;
    for (size_t i = 0; i < n; i++) {
        struct line x = line_of(&ops[i], steps, r);
        l.op.seconds += x.op.seconds;
        l.op.wait += x.op.wait;
        l.op.macs += x.op.macs;
        if (x.op.macs > 0) l.op.bytes += x.op.bytes;
        if (r->macs[x.op.arithmetic] > 0) adding += x.op.macs / r->macs[x.op.arithmetic];
    }
    l.roof = r->bytes > 0 ? l.op.bytes / r->bytes : 0;
    if (adding > l.roof) l.roof = adding, l.bound = "arithmetic";
    return l;
}

static double steps_of(const struct speed_test *t) { return t->generate ? t->generate : 1; }

static double share(const struct line *l)
{
    return l->op.seconds > 0 ? l->roof / l->op.seconds : 0;
}

static void number(char *text, size_t size, const char *form, double x)
{
    if (x > 0) snprintf(text, size, form, x);
    else text[0] = '\0';
}

static void print_md(const struct line *l, double times, double all)
{
    char mb[24], gb[24], gmac[24], roof[24];
    number(mb, sizeof mb, "%.2f", l->op.bytes / 1e6);
    number(gb, sizeof gb, "%.1f", l->op.bytes / 1e9 / l->op.seconds);
    number(gmac, sizeof gmac, "%.1f", l->op.macs / 1e9 / l->op.seconds);
    number(roof, sizeof roof, "%.0f %%", 100 * share(l));
    printf("| %s | %.4g | %.3f | %.1f %% | %.3f | %s | %s | %s | %s | %s |\n", l->op.name, times,
           l->op.seconds * 1e3, 100 * l->op.seconds / all, l->op.wait * 1e3, mb, gb, gmac, roof,
           l->bound);
}

static void print_csv(const char *test, const struct line *l, double times)
{
    printf("%s,\"%s\",%.9g,%.9g,%.9g,%.9g,%.9g,%.9g,%s\n", test, l->op.name, times, l->op.seconds,
           l->op.wait, l->op.bytes, l->op.macs, l->roof, l->bound);
}

void roof_table(const char *format, bool first, const char *test, double steps, const struct op_time *ops, size_t n,
                const struct speed_roof *r)
{
    struct line all = whole(ops, n, steps, r);
    bool csv = strcmp(format, "csv") == 0;
    if (csv && first) printf("test,operation,times,seconds,wait,bytes,macs,roof_seconds,bound\n");
    else {
        printf("\n%s; roofs: ", test);
        if (r->bytes > 0) printf("%.1f GB/s", r->bytes / 1e9);
        else fputs("not measured, of several devices together", stdout);
        for (int k = 0; k < ARITHMETIC_KINDS; k++)
            if (r->macs[k] > 0) printf(", %.0f GMAC/s %s", r->macs[k] / 1e9, arithmetic_name[k]);
        printf(
            "\n\n| operation | times | ms | share | waiting ms | MB | GB/s | GMAC/s | of the roof "
            "| bound by |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|---|\n");
    }
    for (size_t i = 0; i < n; i++) {
        struct line l = line_of(&ops[i], steps, r);
        double times = (double)ops[i].count / steps;
        if (csv) print_csv(test, &l, times);
        else print_md(&l, times, all.op.seconds);
    }
    if (csv) print_csv(test, &all, 1);
    else print_md(&all, 1, all.op.seconds);
}

void roof_print(const char *format, bool first, const struct speed_test *t, const struct op_time *ops, size_t n,
                const struct speed_roof *r)
{
    char test[64];
    bench_test_name(t, test, sizeof test);
    if (t->generate && strcmp(format, "csv") != 0) strcat(test, ", one step");
    roof_table(format, first, test, steps_of(t), ops, n, r);
}

static json_t *line_json(const struct line *l, double times)
{
    return json_pack("{s:s,s:f,s:f,s:f,s:f,s:f,s:f,s:s}", "operation", l->op.name, "times", times,
                     "seconds", l->op.seconds, "wait", l->op.wait, "bytes", l->op.bytes, "macs",
                     l->op.macs, "roof_seconds", l->roof, "bound", l->bound);
}

json_t *roof_rows(double steps, const struct op_time *ops, size_t n, const struct speed_roof *r)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < n; i++) {
        struct line l = line_of(&ops[i], steps, r);
        json_array_append_new(rows, line_json(&l, (double)ops[i].count / steps));
    }
    struct line all = whole(ops, n, steps, r);
    json_array_append_new(rows, line_json(&all, 1));
    return rows;
}

json_t *roof_json(const struct speed_test *t, const struct op_time *ops, size_t n,
                  const struct speed_roof *r)
{
    return roof_rows(steps_of(t), ops, n, r);
}
