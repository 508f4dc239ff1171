/* The pictures of a report. Colours are classes, so that a page's style sheet, which knows light and dark, says what
 * they are. */
#include "stretto/report.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_COLOURS = 8 };

/* Told apart side by side, by people who see few colours, and on paper of either kind. */
static const struct theme { const char *paper, *ink, *quiet, *grid, *card, *by[3], *type[TYPE_COLOURS]; }
    light = { "#fffefb", "#33322e", "#6f6d66", "#e4e2dc", "#f5f3ee", { "#1f6fa8", "#c2611a", "#6d4ba8" },
              { "#1f6fa8", "#c2611a", "#23855b", "#6d4ba8", "#a8842a", "#b23a55", "#51728f", "#7d7b74" } },
    dark = { "#0d1117", "#e8e6e0", "#a09e97", "#2b2f36", "#161b22", { "#7cc4ee", "#f0a35a", "#bb9ee8" },
             { "#4c9fd0", "#d98544", "#4fb387", "#9d7fd6", "#c9a84c", "#d9647e", "#7d9dba", "#8b8982" } };

static void colours(FILE *f, const struct theme *t, bool page)
{
    fprintf(f, ".paper{fill:%s}svg text{fill:%s}svg .axis{fill:%s}svg .name{stroke:%s}.grid{stroke:%s}.front{stroke:%s}"
            ".ring{stroke:%s}\n", t->paper, t->ink, t->quiet, t->paper, t->grid, t->quiet, t->ink);
    for (int i = 0; i < 3; i++)
        fprintf(f, ".p%d{fill:%s;stroke:%s}.e%d{stroke:%s}", i, t->by[i], t->paper, i, t->by[i]);
    for (int i = 0; i < TYPE_COLOURS; i++) fprintf(f, ".t%d{fill:%s}", i, t->type[i]);
    if (page)
        fprintf(f, "\nbody{background:%s;color:%s}p,.tile i,thead th,summary,footer{color:%s}.tile{background:%s}"
                "th,td{border-color:%s}", t->paper, t->ink, t->quiet, t->card, t->grid);
    fputc('\n', f);
}

static void letters(FILE *f, bool page)
{
    fputs("svg text{font-family:system-ui,'DejaVu Sans',sans-serif;font-size:13px}"
          "svg .title{font-size:19px;font-weight:600}svg .axis{font-size:12px}"
          "svg .name{font-size:12px;paint-order:stroke;stroke-width:3px;stroke-linejoin:round}"
          "svg .strong{font-weight:700}.grid{fill:none}.front{fill:none;stroke-width:1.2;stroke-dasharray:5 4}"
          ".ring{fill:none;stroke-width:1.6}\n", f);
    if (!page) return;
    fputs("body{margin:0 auto;max-width:1000px;padding:24px 20px 40px;"
          "font:15px/1.5 system-ui,'DejaVu Sans',sans-serif}\n"
          "h1{font-size:24px;margin:8px 0 0;overflow-wrap:anywhere}h2{font-size:17px;margin:34px 0 2px}"
          "p{margin:2px 0 12px;max-width:75ch}.sub{margin-bottom:18px}svg{width:100%;height:auto;display:block}\n"
          ".tiles{display:flex;flex-wrap:wrap;gap:12px}.tile{border-radius:8px;padding:12px 14px;flex:1 1 118px;"
          "display:flex;flex-direction:column}.tile b{font-size:23px;font-weight:600}.tile i{font-style:normal;"
          "font-size:13px}\n.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;"
          "font-variant-numeric:tabular-nums;width:100%}th,td{padding:5px 10px;text-align:right;"
          "border-bottom:1px solid;white-space:nowrap}th:first-child{text-align:left;padding-left:0}"
          "thead th,tbody th{font-weight:500}.own th,.own td{font-weight:700}summary{cursor:pointer;margin:14px 0 6px}"
          "footer{margin-top:40px;font-size:13px}\n", f);
}

void report_style(FILE *f, bool page)
{
    letters(f, page);
    colours(f, &light, page);
    fputs("@media(prefers-color-scheme:dark){\n", f);
    colours(f, &dark, page);
    fputs("}\n", f);
}

/* ---- formats: quality against bytes and against speed ---------------------------------------- */

enum { POINTS = 64, LABELS = 4 * POINTS };

struct point { const char *name; double x, kl, error, px, py; int by; bool own, front; };
struct box { double x0, y0, x1, y1; };

struct plot {
    FILE *f;
    double left, top, wide, high;              /* of the field                     */
    double x0, x1, y0, y1;                     /* y: log10 of KL                   */
    struct point p[POINTS];
    struct box taken[LABELS];
    size_t n, n_taken;
    bool more_is_better;                       /* of x                             */
};

/* Who wrote a file: its colour and shape. Three are told apart; ours is always the first. */
struct writers { const char *name[3]; size_t n; bool used[3]; };

static int writer_of(struct writers *w, const char *name)
{
    size_t i = 0;
    while (i < w->n && strcmp(w->name[i], name)) i++;
    if (i == 3) i = 2;
    else if (i == w->n) w->name[w->n++] = name;
    w->used[i] = true;
    return (int)i;
}

static void points_of(struct plot *p, const json_t *formats, const char *key, struct writers *w)
{
    size_t i;
    json_t *x;
    json_array_foreach(formats, i, x) {
        double at = report_number(x, key), kl = report_number(x, "kl");
        const char *writer = report_word(x, "by");
        int by = writer_of(w, *writer ? writer : "stretto");
        if (!(at > 0) || !(kl > 0) || p->n == POINTS) continue;
        p->p[p->n++] = (struct point){ .name = report_name(x), .x = at, .kl = kl,
                                       .error = report_number(x, "kl_error"), .by = by,
                                       .own = json_is_true(json_object_get(x, "this")) };
    }
}

static bool beats(const struct plot *p, const struct point *a, const struct point *b)
{
    bool x = p->more_is_better ? a->x >= b->x : a->x <= b->x;
    return x && a->kl <= b->kl && (a->kl < b->kl || a->x > b->x || a->x < b->x);
}

static int by_x(const void *a, const void *b)
{
    const struct point *p = a, *q = b;
    return p->x < q->x ? -1 : p->x > q->x;
}

static void scale(struct plot *p)
{
    p->x0 = p->y0 = INFINITY;
    p->x1 = p->y1 = -INFINITY;
    qsort(p->p, p->n, sizeof *p->p, by_x);
    for (size_t i = 0; i < p->n; i++) {
        struct point *q = &p->p[i];
        double low = log10(fmax(q->kl - 2 * q->error, q->kl / 3)), high = log10(q->kl + 2 * q->error);
        p->x0 = fmin(p->x0, q->x);
        p->x1 = fmax(p->x1, q->x);
        p->y0 = fmin(p->y0, low);
        p->y1 = fmax(p->y1, high);
        q->front = true;
        for (size_t k = 0; k < p->n; k++) q->front &= !beats(p, &p->p[k], q);
    }
    double dx = fmax(p->x1 - p->x0, p->x1 * 0.05), dy = fmax(p->y1 - p->y0, 0.2);
    p->x0 -= dx * 0.1;
    p->x1 += dx * 0.14;
    p->y0 -= dy * 0.1;
    p->y1 += dy * 0.1;
    for (size_t i = 0; i < p->n; i++) {
        p->p[i].px = p->left + p->wide * (p->p[i].x - p->x0) / (p->x1 - p->x0);
        p->p[i].py = p->top + p->high * (p->y1 - log10(p->p[i].kl)) / (p->y1 - p->y0);
    }
}

static double nice_step(double most)
{
    double base = pow(10, floor(log10(most)));
    return most / base > 5 ? 10 * base : most / base > 2 ? 5 * base : most / base > 1 ? 2 * base : base;
}

static double y_of(const struct plot *p, double kl) { return p->top + p->high * (p->y1 - log10(kl)) / (p->y1 - p->y0); }

static void axes(const struct plot *p, const char *title, bool bytes)
{
    FILE *f = p->f;
    char text[32];
    static const double marks[] = { 1, 1.5, 2, 3, 5, 7 };
    double last = INFINITY;
    for (int e = (int)floor(p->y0); e <= (int)ceil(p->y1); e++)
        for (size_t k = 0; k < sizeof marks / sizeof *marks; k++) {
            double v = marks[k] * pow(10, e), y = y_of(p, v);
            if (log10(v) < p->y0 || log10(v) > p->y1 || last - y < 24) continue;
            last = y;
            fprintf(f, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/><text class=\"axis\" x=\"%.1f\" y=\"%.1f\" "
                    "text-anchor=\"end\">%g</text>\n", p->left, y, p->left + p->wide, p->left - 8, y + 4, v);
        }
    double step = nice_step((p->x1 - p->x0) / 5);
    for (double v = ceil(p->x0 / step) * step; v <= p->x1; v += step) {
        double x = p->left + p->wide * (v - p->x0) / (p->x1 - p->x0);
        if (bytes) report_bytes(text, v);
        else snprintf(text, sizeof text, "%g", v);
        fprintf(f, "<path class=\"grid\" d=\"M%.1f %.1fv%.1f\"/><text class=\"axis\" x=\"%.1f\" y=\"%.1f\" "
                "text-anchor=\"middle\">%s</text>\n", x, p->top, p->high, x, p->top + p->high + 18, text);
    }
    fprintf(f, "<text class=\"axis\" x=\"%.1f\" y=\"%.1f\">KL, nats a token</text><text class=\"axis\" x=\"%.1f\" "
            "y=\"%.1f\" text-anchor=\"end\">%s</text>\n", p->left - 40, p->top - 10, p->left + p->wide,
            p->top + p->high + 38, title);
}

static bool overlap(const struct box *a, const struct box *b)
{
    return a->x0 < b->x1 && b->x0 < a->x1 && a->y0 < b->y1 && b->y0 < a->y1;
}

static bool is_free(const struct plot *p, const struct box *b)
{
    if (b->x0 < p->left || b->x1 > p->left + p->wide + 20 || b->y0 < p->top - 6 || b->y1 > p->top + p->high + 4)
        return false;
    for (size_t i = 0; i < p->n_taken; i++)
        if (overlap(b, &p->taken[i])) return false;
    return true;
}

/* The name beside its point, where it covers nothing; farther away with a line where it must be; or not at all. */
static void label(struct plot *p, const struct point *q)
{
    double w = 6.9 * (double)strlen(q->name) + 2, h = 14;
    static const double angle[] = { 0, 3.1416, -1.5708, 1.5708, -0.7, 0.7, -2.44, 2.44 };
    for (double away = 9; away < 60; away += 8)
        for (size_t k = 0; k < sizeof angle / sizeof *angle; k++) {
            double cx = q->px + away * cos(angle[k]), cy = q->py + away * sin(angle[k]);
            double x = fabs(cos(angle[k])) < 0.1 ? cx - w / 2 : cos(angle[k]) > 0 ? cx : cx - w;
            struct box b = { x, cy - h / 2, x + w, cy + h / 2 };
            if (!is_free(p, &b) || p->n_taken == LABELS) continue;
            p->taken[p->n_taken++] = b;
            if (away > 18)
                fprintf(p->f, "<path class=\"grid\" d=\"M%.1f %.1fL%.1f %.1f\"/>", q->px, q->py, cx, cy);
            fprintf(p->f, "<text class=\"name%s\" x=\"%.1f\" y=\"%.1f\">", q->own ? " strong" : "", x + 1, cy + 4);
            report_text(p->f, q->name, 40);
            fputs("</text>\n", p->f);
            return;
        }
}

static void mark(const struct plot *p, const struct point *q)
{
    double low = y_of(p, fmax(q->kl - 2 * q->error, q->kl / 3)), high = y_of(p, q->kl + 2 * q->error);
    fprintf(p->f, "<path class=\"e%d\" d=\"M%.1f %.1fV%.1f\"/>", q->by, q->px, low, high);
    if (q->by == 0) fprintf(p->f, "<circle class=\"p0\" cx=\"%.1f\" cy=\"%.1f\" r=\"5.5\">", q->px, q->py);
    else if (q->by == 1)
        fprintf(p->f, "<path class=\"p1\" d=\"M%.1f %.1fl6 6-6 6-6-6z\">", q->px, q->py - 6);
    else fprintf(p->f, "<path class=\"p2\" d=\"M%.1f %.1fh10v10h-10z\">", q->px - 5, q->py - 5);
    fputs("<title>", p->f);
    report_text(p->f, q->name, 60);
    fprintf(p->f, ": KL %.4f \xc2\xb1 %.4f</title>", q->kl, q->error);
    fputs(q->by == 0 ? "</circle>" : "</path>", p->f);
    if (q->own) fprintf(p->f, "<circle class=\"ring\" cx=\"%.1f\" cy=\"%.1f\" r=\"9\"/>", q->px, q->py);
    fputc('\n', p->f);
}

static void draw_plot(struct plot *p, const char *title, bool bytes)
{
    scale(p);
    axes(p, title, bytes);
    bool begun = false;
    fputs("<path class=\"front\" d=\"", p->f);
    for (size_t i = 0; i < p->n; i++) {
        if (!p->p[i].front) continue;
        fprintf(p->f, "%c%.1f %.1f", begun ? 'L' : 'M', p->p[i].px, p->p[i].py);
        begun = true;
    }
    fputs("\"/>\n", p->f);
    for (size_t i = 0; i < p->n; i++) {
        const struct point *q = &p->p[i];
        if (p->n_taken < LABELS) p->taken[p->n_taken++] = (struct box){ q->px - 7, q->py - 7, q->px + 7, q->py + 7 };
    }
    for (int own = 1; own >= 0; own--)
        for (size_t i = 0; i < p->n; i++)
            if (p->p[i].own == (own == 1)) label(p, &p->p[i]);
    for (size_t i = 0; i < p->n; i++) mark(p, &p->p[i]);
}

static void legend(FILE *f, const struct writers *w, double y)
{
    double x = 56;
    for (size_t i = 0; i < w->n; i++) {
        if (!*w->name[i] || !w->used[i]) continue;
        if (i == 0) fprintf(f, "<circle class=\"p0\" cx=\"%.1f\" cy=\"%.1f\" r=\"5.5\"/>", x, y);
        else if (i == 1) fprintf(f, "<path class=\"p1\" d=\"M%.1f %.1fl6 6-6 6-6-6z\"/>", x, y - 6);
        else fprintf(f, "<path class=\"p2\" d=\"M%.1f %.1fh10v10h-10z\"/>", x - 5, y - 5);
        fprintf(f, "<text x=\"%.1f\" y=\"%.1f\">", x + 12, y + 4.5);
        report_text(f, w->name[i], 40);
        fputs("</text>\n", f);
        x += 34 + 7.6 * (double)strlen(w->name[i]);
    }
}

double report_formats(FILE *f, const json_t *report, double y)
{
    const json_t *formats = report_formats_of(report);
    struct plot *p = calloc(2, sizeof *p);
    struct writers w = { .name = { "stretto" }, .n = 1 };
    double used = 0;
    if (!p) return 0;
    points_of(&p[0], formats, "bytes", &w);
    points_of(&p[1], formats, "tokens_per_second", &w);
    bool speed = p[1].n > 1;
    double wide = speed ? (REPORT_WIDTH - 56 - 84 - 24) / 2.0 : REPORT_WIDTH - 56 - 40, top = y + 58;
    for (int i = 0; i < 2 && p[0].n > 1; i++) {
        p[i].f = f;
        p[i].left = 56 + i * (wide + 84);
        p[i].top = top;
        p[i].wide = wide;
        p[i].high = 300;
        p[i].more_is_better = i == 1;
        if (i == 0 || speed) draw_plot(&p[i], i ? "tokens a second" : "bytes of the file", i == 0);
        used = top - y + 300 + 56;
    }
    if (used > 0) legend(f, &w, y + 16);
    free(p);
    return used;
}

/* ---- divergence by text ---------------------------------------------------------------------- */

static double most_of(const json_t *texts)
{
    size_t i;
    json_t *t;
    double most = 0;
    json_array_foreach(texts, i, t) most = fmax(most, report_number(t, "kl") + 2 * report_number(t, "kl_error"));
    return most;
}

double report_texts(FILE *f, const json_t *report, double y)
{
    const json_t *texts = json_object_get(report, "texts");
    size_t n = json_array_size(texts), i;
    double most = most_of(texts), left = 190, wide = REPORT_WIDTH - left - 130, top = y + 30;
    json_t *t;
    if (!n || n > 32 || !(most > 0)) return 0;
    double step = nice_step(most / 5), end = step * ceil(most / step);
    double low = top + 28.0 * (double)n;
    for (int k = 0; step * k <= end * 1.0001; k++) {
        double x = left + wide * step * k / end;
        fprintf(f, "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/><text class=\"axis\" x=\"%.1f\" y=\"%.1f\" "
                "text-anchor=\"middle\">%g</text>\n", x, top - 4, low, x, low + 16, step * k);
    }
    fprintf(f, "<text class=\"axis\" x=\"%.1f\" y=\"%.1f\">KL, nats a token</text>\n", left, y + 16);
    json_array_foreach(texts, i, t) {
        double at = top + 28.0 * (double)i + 14, kl = report_number(t, "kl"), e = 2 * report_number(t, "kl_error");
        double from = left + wide * fmax(kl - e, 0) / end, to = left + wide * (kl + e) / end;
        fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", left - 12, at + 4.5);
        report_text(f, report_word(t, "text"), 24);
        fprintf(f, "</text><path class=\"e0\" stroke-width=\"2\" d=\"M%.1f %.1fH%.1f\"/><circle class=\"p0\" "
                "cx=\"%.1f\" cy=\"%.1f\" r=\"5.5\"/><text x=\"%.1f\" y=\"%.1f\">%.4f</text>\n", from, at, to,
                left + wide * kl / end, at, to + 12, at + 4.5, kl);
    }
    return 30 + 28.0 * (double)n + 32;
}

/* ---- a task ---------------------------------------------------------------------------------- */

static void share_bar(FILE *f, const char *name, double share, double low, double high, double left, double wide,
                      double at)
{
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text><path class=\"e0\" stroke-width=\"2\" "
            "d=\"M%.1f %.1fH%.1f\"/><circle class=\"p0\" cx=\"%.1f\" cy=\"%.1f\" r=\"5.5\"/><text x=\"%.1f\" "
            "y=\"%.1f\">%.1f %%</text>\n", left - 12, at + 4.5, name, left + wide * low, at, left + wide * high,
            left + wide * share, at, left + wide * high + 12, at + 4.5, 100 * share);
}

static double within_one(double v) { return fmin(fmax(v, 0), 1); }

double report_task(FILE *f, const json_t *report, double y)
{
    const json_t *task = json_object_get(report, "task");
    double left = 190, wide = REPORT_WIDTH - left - 130, top = y + 30, low = top + 56;
    if (!(report_number(task, "tasks") > 0)) return 0;
    for (int k = 0; k <= 5; k++)
        fprintf(f, "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/><text class=\"axis\" x=\"%.1f\" y=\"%.1f\" "
                "text-anchor=\"middle\">%d</text>\n", left + wide * k / 5, top - 4, low, left + wide * k / 5, low + 16,
                20 * k);
    fprintf(f, "<text class=\"axis\" x=\"%.1f\" y=\"%.1f\">", left, y + 16);
    report_text(f, report_word(task, "name"), 40);
    fprintf(f, ": right, %%, of %.0f tasks</text>\n", report_number(task, "tasks"));
    share_bar(f, "the original", within_one(report_number(task, "base_accuracy")),
              within_one(report_number(task, "base_low")), within_one(report_number(task, "base_high")), left, wide,
              top + 14);
    share_bar(f, "this file", within_one(report_number(task, "accuracy")), within_one(report_number(task, "low")),
              within_one(report_number(task, "high")), left, wide, top + 42);
    return 30 + 56 + 32;
}

/* ---- where the bytes are --------------------------------------------------------------------- */

enum { SLOTS = 64 };

struct slot { const char *role, *type; double bytes; };
struct slots { struct slot v[SLOTS]; size_t n; const char *role[SLOTS], *type[SLOTS]; size_t roles, types; };

static size_t place(const char **list, size_t *n, const char *word)
{
    for (size_t i = 0; i < *n; i++)
        if (strcmp(list[i], word) == 0) return i;
    if (*n == SLOTS) return SLOTS - 1;
    list[*n] = word;
    return (*n)++;
}

static void add_slot(struct slots *s, const json_t *t)
{
    const char *role = report_word(t, "role"), *type = report_word(t, "to");
    size_t i = 0;
    place(s->role, &s->roles, role);
    place(s->type, &s->types, type);
    while (i < s->n && (strcmp(s->v[i].role, role) || strcmp(s->v[i].type, type))) i++;
    if (i == SLOTS) return;
    if (i == s->n) s->v[s->n++] = (struct slot){ role, type, 0 };
    s->v[i].bytes += report_number(t, "bytes");
}

static double role_bytes(const struct slots *s, const char *role)
{
    double sum = 0;
    for (size_t i = 0; i < s->n; i++) sum += strcmp(s->v[i].role, role) ? 0 : s->v[i].bytes;
    return sum;
}

static void role_bar(FILE *f, const struct slots *s, const char *role, double left, double wide, double most, double y)
{
    double x = left, sum = role_bytes(s, role);
    char b[32];
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", left - 12, y + 14.5);
    report_text(f, *role ? role : "others", 24);
    fputs("</text>", f);
    for (size_t t = 0; t < s->types; t++)
        for (size_t i = 0; i < s->n; i++) {
            if (strcmp(s->v[i].role, role) || strcmp(s->v[i].type, s->type[t])) continue;
            double w = wide * s->v[i].bytes / most;
            fprintf(f, "<rect class=\"t%zu\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"18\" rx=\"2\"><title>",
                    t % TYPE_COLOURS, x, y, fmax(w - 1.5, 0.5));
            report_text(f, s->v[i].type, 20);
            fprintf(f, ": %s</title></rect>", report_bytes(b, s->v[i].bytes));
            x += w;
        }
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\">%s</text>\n", x + 8, y + 14.5, report_bytes(b, sum));
}

static double draw_slots(FILE *f, const struct slots *s, double y)
{
    double left = 190, wide = REPORT_WIDTH - left - 130, most = 0, x = left, at = y + 34;
    for (size_t i = 0; i < s->roles; i++) most = fmax(most, role_bytes(s, s->role[i]));
    if (!(most > 0)) return 0;
    for (size_t t = 0; t < s->types; t++) {
        fprintf(f, "<rect class=\"t%zu\" x=\"%.1f\" y=\"%.1f\" width=\"13\" height=\"13\" rx=\"2\"/><text x=\"%.1f\" "
                "y=\"%.1f\">", t % TYPE_COLOURS, x, y + 5, x + 19, y + 16);
        report_text(f, s->type[t], 20);
        fputs("</text>\n", f);
        x += 40 + 8.5 * (double)strlen(s->type[t]);
    }
    for (size_t i = 0; i < s->roles; i++, at += 26) role_bar(f, s, s->role[i], left, wide, most, at);
    return at - y + 8;
}

double report_types(FILE *f, const json_t *report, double y)
{
    const json_t *tensors = json_object_get(report, "tensors");
    struct slots *s = calloc(1, sizeof *s);
    size_t i;
    json_t *t;
    if (!s) return 0;
    json_array_foreach(tensors, i, t) add_slot(s, t);
    double used = s->n ? draw_slots(f, s, y) : 0;
    free(s);
    return used;
}
