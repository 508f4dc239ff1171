/* The curves of a training, from its log: loss of the steps and of what is held out, and beneath them the learning
 * rate and the gradient's norm. One file that stands by itself, on light and dark screens. */
#include "base/buffer.h"
#include "base/file.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include "stretto/report.h"
#include "stretto/teach_command.h"
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEFT = 64, RIGHT = 24, TOP = 96, HIGH = 300, GAP = 58, LOW = 90, POINTS_MOST = 1 << 20, DRAWN = 600 };

/* held NAN: not measured then; step 0: before anything was learned. */
struct point { double step, loss, error, lr, norm, held, held_error; };

struct curves {
    FILE *f;
    struct point *p;
    size_t n, cap;
    double steps, low, high, rate, norm;       /* what the axes reach */
};

/* ---- the log --------------------------------------------------------------------------------- */

static double number(const json_t *j, const char *key)
{
    const json_t *v = json_object_get(j, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static stretto_status add(struct curves *c, const char *line, size_t n, struct error *err)
{
    json_t *j = NULL;
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 256;
        struct point *p = cap <= POINTS_MOST ? mem_resize(c->p, cap * sizeof *p) : NULL;
        if (!p) return fail(err, STRETTO_E_NOMEM, "no memory for the picture");
        c->p = p;
        c->cap = cap;
    }
    TRY(json_tree(&j, line, n, JSON_TWICE_LAST, "log.jsonl", err));
    c->p[c->n++] = (struct point){ number(j, "step"), number(j, "loss"), number(j, "error"), number(j, "lr"),
                                   number(j, "norm"), number(j, "held"), number(j, "held_error") };
    json_decref(j);
    return STRETTO_OK;
}

static stretto_status read_log(struct curves *c, const char *path, struct error *err)
{
    struct file_map m;
    stretto_status s = file_map_open(&m, path, err);
    const char *p = (const char *)m.data, *end = p + (s == STRETTO_OK ? m.size : 0);
    while (s == STRETTO_OK && p < end) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop) break;                                  /* a line that is being written */
        if (stop > p) s = add(c, p, (size_t)(stop - p), err);
        p = stop + 1;
    }
    if (s == STRETTO_OK && !c->n) s = fail(err, STRETTO_E_FORMAT, "%s has no step yet", path);
    file_map_close(&m);
    return s;
}

/* ---- drawing --------------------------------------------------------------------------------- */

static double at_x(const struct curves *c, double step)
{
    return LEFT + (REPORT_WIDTH - LEFT - RIGHT) * (c->steps > 1 ? step / c->steps : 0.5);
}

static double at_y(double v, double low, double high, double top, double tall)
{
    return top + tall - tall * (high > low ? (v - low) / (high - low) : 0.5);
}

static void include(double v, double *low, double *high)
{
    if (!isfinite(v)) return;
    if (v < *low) *low = v;
    if (v > *high) *high = v;
}

static void find_ends(struct curves *c)
{
    c->low = INFINITY;
    c->high = -INFINITY;
    for (size_t i = 0; i < c->n; i++) {
        const struct point *p = &c->p[i];
        if (p->step > c->steps) c->steps = p->step;
        include(p->loss, &c->low, &c->high);
        include(p->held, &c->low, &c->high);
        include(p->held + p->held_error, &c->low, &c->high);
        if (p->lr > c->rate) c->rate = p->lr;
        if (p->norm > c->norm) c->norm = p->norm;
    }
    if (!(c->high > c->low)) c->high = c->low + 1;
    double edge = (c->high - c->low) / 20;
    c->low -= edge;
    c->high += edge;
}

/* Distances of an axis that give about n marks. */
static double distance(double range, int n)
{
    double base = pow(10, floor(log10(range / n))), x = range / n / base;
    return x > 5 ? 10 * base : x > 2 ? 5 * base : x > 1 ? 2 * base : base;
}

static void grid(const struct curves *c)
{
    double bottom = TOP + HIGH, d = distance(c->high - c->low, 6);
    for (double k = ceil(c->low / d); k * d <= c->high; k++) {
        double v = k * d + 0.0;
        double y = at_y(v, c->low, c->high, TOP, HIGH);
        fprintf(c->f, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text class=\"axis\" x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">%.*f</text>\n", LEFT, y, REPORT_WIDTH - RIGHT, LEFT - 8, y + 4,
                d < 0.1 ? 2 : 1, v);
    }
    d = fmax(1, distance(fmax(c->steps, 1), 8));
    for (double v = 0; v <= c->steps; v += d)
        fprintf(c->f, "<text class=\"axis\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.0f</text>\n", at_x(c, v),
                bottom + 18, v);
    fprintf(c->f, "<text class=\"axis\" x=\"%d\" y=\"%d\">loss, nats a token</text><text class=\"axis\" x=\"%d\" "
            "y=\"%.1f\" text-anchor=\"end\">step</text>\n", LEFT - 48, TOP - 12, REPORT_WIDTH - RIGHT, bottom + 34);
}

/* Of the steps i .. i + each: as many as a picture shows. */
static size_t each_of(const struct curves *c) { return (c->n + DRAWN - 1) / DRAWN; }

/* Of the steps [from, to) that have such a figure; *step: where they stand on the mean. */
static double mean(const struct curves *c, size_t from, size_t to, size_t member, double *step)
{
    double sum = 0, steps = 0, k = 0;
    for (size_t i = from; i < to && i < c->n; i++) {
        double v = *(const double *)(const void *)((const char *)&c->p[i] + member);
        if (!isfinite(v)) continue;
        sum += v;
        steps += c->p[i].step;
        k++;
    }
    *step = k > 0 ? steps / k : 0;
    return k > 0 ? sum / k : NAN;
}

/* around: the steps on either side that a point is the mean of. */
static void line(const struct curves *c, size_t member, double low, double high, double top, double tall,
                 size_t around, const char *style)
{
    bool open = false;
    fprintf(c->f, "<path fill=\"none\" stroke-linejoin=\"round\" %s d=\"", style);
    for (size_t i = 0, each = each_of(c); i < c->n; i += each) {
        double step, v = mean(c, i > around ? i - around : 0, i + each + around, member, &step);
        if (!isfinite(v)) continue;
        fprintf(c->f, "%c%.1f %.1f", open ? 'L' : 'M', at_x(c, step), at_y(v, low, high, top, tall));
        open = true;
    }
    fputs("\"/>\n", c->f);
}

static void held_points(const struct curves *c)
{
    line(c, offsetof(struct point, held), c->low, c->high, TOP, HIGH, 0, "class=\"e1\" stroke-width=\"2\"");
    for (size_t i = 0; i < c->n; i++) {
        const struct point *p = &c->p[i];
        if (!isfinite(p->held)) continue;
        double x = at_x(c, p->step), y = at_y(p->held, c->low, c->high, TOP, HIGH);
        double far = isfinite(p->held_error) ? p->held_error / (c->high - c->low) * HIGH : 0;
        fprintf(c->f, "<path class=\"e1\" d=\"M%.1f %.1fV%.1f\"/><circle class=\"p1\" cx=\"%.1f\" cy=\"%.1f\" "
                "r=\"4.5\">"
                "<title>step %.0f: %.4f</title></circle>\n", x, y - far, y + far, x, y, p->step, p->held);
    }
}

static double last(const struct curves *c, size_t member)
{
    double v = NAN;
    for (size_t i = 0; i < c->n; i++) {
        double x = *(const double *)(const void *)((const char *)&c->p[i] + member);
        if (isfinite(x)) v = x;
    }
    return v;
}

static void head(const struct curves *c)
{
    double held = last(c, offsetof(struct point, held)), loss = last(c, offsetof(struct point, loss));
    fprintf(c->f, "<text class=\"title\" x=\"%d\" y=\"30\">What was learned in %.0f steps</text>\n"
            "<circle class=\"p0\" cx=\"%d\" cy=\"48\" r=\"5\"/><text x=\"%d\" y=\"52\">loss of a step, "
                "%.3f</text>\n", LEFT,
            c->steps, LEFT + 5, LEFT + 16, loss);
    if (isfinite(held))
        fprintf(c->f, "<circle class=\"p1\" cx=\"%d\" cy=\"48\" r=\"5\"/><text x=\"%d\" y=\"52\">held out, "
                "%.3f</text>\n",
                LEFT + 215, LEFT + 226, held);
}

/* The rate and the gradient's norm, each to its largest. */
static void beneath(const struct curves *c)
{
    double top = TOP + HIGH + GAP;
    fprintf(c->f, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>\n", LEFT, top + LOW, REPORT_WIDTH - RIGHT);
    line(c, offsetof(struct point, norm), 0, c->norm, top, LOW, 0, "class=\"e2\" stroke-opacity=\".75\"");
    line(c, offsetof(struct point, lr), 0, c->rate, top, LOW, 0, "class=\"front\"");
    fprintf(c->f, "<text class=\"axis\" x=\"%d\" y=\"%.1f\">gradient's norm, to %.3g</text><text class=\"axis\" "
            "x=\"%d\" "
            "y=\"%.1f\" text-anchor=\"end\">learning rate (dashed), to %.3g</text>\n", LEFT, top + LOW + 18, c->norm,
            REPORT_WIDTH - RIGHT, top + LOW + 18, c->rate);
}

static void draw(struct curves *c)
{
    int height = TOP + HIGH + GAP + LOW + 34;
    fprintf(c->f, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d "
            "%d\">\n<style>",
            REPORT_WIDTH, height, REPORT_WIDTH, height);
    report_style(c->f, false);
    fprintf(c->f, "</style>\n<rect class=\"paper\" width=\"%d\" height=\"%d\"/>\n", REPORT_WIDTH, height);
    find_ends(c);
    head(c);
    grid(c);
    line(c, offsetof(struct point, loss), c->low, c->high, TOP, HIGH, 0, "class=\"e0\" stroke-opacity=\".4\"");
    line(c, offsetof(struct point, loss), c->low, c->high, TOP, HIGH, c->n / 40, "class=\"e0\" stroke-width=\"2\"");
    held_points(c);
    beneath(c);
    fputs("</svg>\n", c->f);
}

stretto_status teach_draw(const char *folder, struct error *err)
{
    char path[PATH_MAX], *text = NULL;
    size_t length = 0;
    struct curves c = { .n = 0 };
    if (snprintf(path, sizeof path, "%s/log.jsonl", folder) >= PATH_MAX - 8)
        return fail(err, STRETTO_E_ARG, "the path of %s is too long", folder);
    stretto_status s = read_log(&c, path, err);
    if (s == STRETTO_OK && !(c.f = open_memstream(&text, &length))) s = fail(err, STRETTO_E_NOMEM, "no memory");
    if (s == STRETTO_OK) {
        draw(&c);
        if (fclose(c.f) != 0) s = fail(err, STRETTO_E_NOMEM, "no memory for the picture");
    }
    snprintf(path, sizeof path, "%.*s/curves.svg", PATH_MAX - 16, folder);
    if (s == STRETTO_OK) s = file_write(path, text, length, true, err);
    free(text);
    mem_free(c.p);
    return s;
}
