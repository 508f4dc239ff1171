#include "stretto/trace_svg.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/utf8.h"
#include "stretto/command.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One colour of tokens for each strategy, the first for the model's own: a light ground and a dark edge, or
 * on dark pages the other way round. Readable side by side and by people who see few colours. */
static const struct colour { const char *light, *deep, *dark, *bright; } colours[STRATEGIES_MOST + 1] = {
    { "#f1f1ef", "#9b9a94", "#33322f", "#8d8b82" }, { "#fbe3c8", "#d9822b", "#5a3a16", "#f0a35a" },
    { "#cfe8f7", "#2b83ba", "#143f59", "#7cc4ee" }, { "#d3efdf", "#1b9e6b", "#114a34", "#63d3a4" },
    { "#fbf3b8", "#b59b00", "#4c4300", "#dfc84a" }, { "#e7dcf5", "#7b57b2", "#3c2b58", "#bb9ee8" },
    { "#fbd5dc", "#cc4863", "#5a1f2c", "#f08ea2" }, { "#d9e2ef", "#44618f", "#22324c", "#94b2de" },
    { "#ecd9c6", "#8c5a2b", "#472d15", "#d3a273" },
};
static const struct theme { const char *paper, *ink, *quiet, *grid, *line; }
    light = { "#fffefb", "#3a3935", "#8a887f", "#e6e4de", "#4a4945" },
    dark = { "#0d1117", "#e5e3dd", "#9d9c96", "#2b2f36", "#b9b7ae" };

enum {
    WIDTH = 1080, LEFT = 64, RIGHT = 24, CHART_TOP = 96, CHART = 300, LINE = 26, CHIP = 20,
    LABEL_BYTES = 200, MOST_TOKENS = 4000
};
#define COLUMN 7.25                    /* pixels of a character of the labels */

void svg_begin(struct svg_trace *t)
{
    *t = (struct svg_trace){ .begin = clock_seconds() };
}

void svg_done(struct svg_trace *t)
{
    free(t->token);
    free(t->step);
}

static bool room(void **items, size_t n, size_t *cap, size_t more, size_t size)
{
    if (n + more <= *cap) return true;
    size_t want = 2 * (n + more) + 64;
    void *p = realloc(*items, want * size);
    if (!p) return false;
    *items = p;
    *cap = want;
    return true;
}

static int32_t strategy_of(const struct guess_node *n)
{
    for (int32_t s = 0; s < STRATEGIES_MOST; s++)
        if (n->strategies >> s & 1) return s;
    return -1;
}

void svg_watch(void *trace, const struct outcome *o, double seconds)
{
    struct svg_trace *t = trace;
    (void)seconds;                     /* guessing takes time too: the clock knows it */
    const int32_t *ids = o->now.tokens + o->now.n - o->n_path - 1;
    t->full |= !room((void **)&t->token, t->n_tokens, &t->cap_tokens, o->n_path + 1,
                     sizeof *t->token) ||
               !room((void **)&t->step, t->n_steps, &t->cap_steps, 1, sizeof *t->step);
    if (t->full) return;
    for (uint32_t i = 0; i <= o->n_path; i++)
        t->token[t->n_tokens++] = (struct svg_token){
            ids[i], i < o->n_path ? strategy_of(&o->tree->node[o->path[i]]) : -1,
            (uint32_t)t->n_steps };
    t->step[t->n_steps++] = (struct svg_step){ clock_seconds() - t->begin, o->n_path + 1,
                                               o->tree->n_sent };
}

/* ---- text ----------------------------------------------------------------------------------- */

/* Length of the valid UTF-8 character at p, 0 when there is none; *wide: two columns. */
static size_t character(const char *p, size_t n, bool *wide)
{
    int32_t c;
    size_t k = utf8_decode(p, n, &c);
    *wide = c >= 0x1100 && (c < 0x2000 || c >= 0x2e80);
    return c == UTF8_BAD || (c & 0xfffe) == 0xfffe ? 0 : k;             /* XML knows no U+FFFE */
}

/* A token's text for XML, in `out`; returns its columns. What cannot be seen is shown: line breaks
 * as arrows, bytes that are no character as a question mark in a diamond. */
static size_t label(const char *text, size_t n, char *out, bool *breaks)
{
    size_t columns = 0, at = 0;
    *breaks = false;
    for (size_t i = 0; i < n && at + 16 < LABEL_BYTES;) {
        const char *as = NULL;
        bool wide = false;
        size_t k = character(text + i, n - i, &wide);
        char c = text[i];
        if (c == '\n') { as = "\xe2\x8f\x8e"; *breaks = true; }
        else if (c == '\t') as = "\xe2\x87\xa5";
        else if (c == '<') as = "&lt;";
        else if (c == '>') as = "&gt;";
        else if (c == '&') as = "&amp;";
        else if (c == '"') as = "&quot;";
        else if (c == ' ') as = "\xc2\xa0";
        else if (k == 0 || (unsigned char)c < 0x20 || c == 0x7f) as = "\xef\xbf\xbd";
        if (as) at += (size_t)sprintf(out + at, "%s", as);
        else {
            memcpy(out + at, text + i, k);
            at += k;
        }
        i += k ? k : 1;
        columns += wide ? 2 : 1;
    }
    out[at] = '\0';
    return columns ? columns : 1;
}

static size_t token_label(const stretto_model *m, int32_t id, char *out, bool *breaks)
{
    char text[256];
    size_t n = 0;
    if (stretto_detokenize(m, &id, 1, text, sizeof text, &n) != STRETTO_OK) n = 0;
    if (n == 0) n = (size_t)snprintf(text, sizeof text, "[%d]", id);
    return label(text, n, out, breaks);
}

/* ---- drawing -------------------------------------------------------------------------------- */

struct picture {
    FILE *f;
    const stretto_model *m;
    const struct svg_trace *t;
    const struct svg_about *about;
    const struct theme *theme;
    size_t n, steps;                   /* tokens that steps wrote, and their steps */
    double seconds;
};

static const char *fill_of(const struct picture *p, int32_t strategy)
{
    const struct colour *c = &colours[strategy + 1];
    return p->about->dark ? c->dark : c->light;
}

static const char *edge_of(const struct picture *p, int32_t strategy)
{
    const struct colour *c = &colours[strategy + 1];
    return p->about->dark ? c->bright : c->deep;
}

static void words(const struct picture *p, double x, double y, const char *style, const char *text)
{
    fprintf(p->f, "<text x=\"%.1f\" y=\"%.1f\" %s>%s</text>\n", x, y, style, text);
}

/* A step of an axis that gives about five marks. */
static double mark(double most)
{
    double base = pow(10, floor(log10(most / 5)));
    return most / base > 35 ? 10 * base : most / base > 15 ? 5 * base : most / base > 7 ? 2 * base
                                                                                        : base;
}

static void axes(const struct picture *p, double right, double top_tokens)
{
    double high = CHART, wide = WIDTH - LEFT - RIGHT;
    char text[64];
    for (double v = 0, step = mark(top_tokens); v <= top_tokens; v += step) {
        double y = CHART_TOP + high - high * v / top_tokens;
        fprintf(p->f, "<path d=\"M%d %.1fH%d\" stroke=\"%s\"/>\n", LEFT, y, WIDTH - RIGHT, p->theme->grid);
        snprintf(text, sizeof text, "%.0f", v);
        words(p, LEFT - 8, y + 4, "class=\"axis\" text-anchor=\"end\"", text);
    }
    for (double v = 0, step = mark(right); v <= right; v += step) {
        snprintf(text, sizeof text, step < 0.01 ? "%.3f s" : step < 0.1 ? "%.2f s" : step < 1 ? "%.1f s" : "%.0f s", v);
        words(p, LEFT + wide * v / right, CHART_TOP + high + 18,
              "class=\"axis\" text-anchor=\"middle\"", text);
    }
    words(p, LEFT - 48, CHART_TOP - 12, "class=\"axis\"", "tokens");
}

/* Every step is a column from the tokens before it to those after it, as wide as it took. */
static void chart(const struct picture *p)
{
    double plain = p->about->step_seconds, right = p->seconds, high = CHART;
    double wide = WIDTH - LEFT - RIGHT, top = (double)p->n + 1, begin = 0;
    size_t token = 0;
    axes(p, right, top);
    for (size_t s = 0; s < p->t->n_steps && token < p->n; s++) {
        double x = LEFT + wide * begin / right;
        double w = fmax(wide * (p->t->step[s].end - begin) / right, 1.2);
        for (; token < p->n && p->t->token[token].step == s; token++) {
            int32_t by = p->t->token[token].strategy;
            fprintf(p->f,
                    "<rect x=\"%.1f\" y=\"%.2f\" width=\"%.1f\" height=\"%.2f\" fill=\"%s\" "
                    "stroke=\"%s\" stroke-width=\".6\"/>\n",
                    x, CHART_TOP + high - high * ((double)token + 2) / top, w, high / top,
                    fill_of(p, by), edge_of(p, by));
        }
        begin = p->t->step[s].end;
    }
    if (!(plain > 0)) return;
    double tokens = fmin(right / plain, top - 1), x = LEFT + wide * tokens * plain / right;
    double y = CHART_TOP + high - high * (tokens + 1) / top;
    char text[80];
    fprintf(p->f,
            "<path d=\"M%d %.1fL%.1f %.1f\" stroke=\"%s\" stroke-width=\"1.4\" "
            "stroke-dasharray=\"6 4\" fill=\"none\"/>\n",
            LEFT, CHART_TOP + high - high / top, x, y, p->theme->line);
    snprintf(text, sizeof text, "one token per step: %.0f per second", 1 / plain);
    /* Below the line, also where the words begin. */
    double below = y + 210 * (CHART_TOP + high - y) / fmax(x - LEFT, 1) + 16;
    bool room_left = x - LEFT > 230;
    words(p, room_left ? x : LEFT + 8, fmin(below, CHART_TOP + high - 6),
          room_left ? "class=\"note over\" text-anchor=\"end\"" : "class=\"note over\"", text);
}

static void legend(const struct picture *p)
{
    bool used[STRATEGIES_MOST + 1] = { true };
    double x = LEFT;
    for (size_t i = 0; i < p->n; i++) used[p->t->token[i].strategy + 1] = true;
    for (int32_t s = -1; s < STRATEGIES_MOST; s++) {
        if (!used[s + 1]) continue;
        const char *name = s < 0 ? "the model's own" : strategies[s]->name;
        fprintf(p->f,
                "<rect x=\"%.1f\" y=\"62\" width=\"14\" height=\"14\" rx=\"3\" fill=\"%s\" "
                "stroke=\"%s\"/>\n",
                x, fill_of(p, s), edge_of(p, s));
        words(p, x + 20, 74, "class=\"note\"", name);
        x += 38 + 7.0 * (double)strlen(name);
    }
}

/* One token's chip at x; returns its width. */
static double chip(const struct picture *p, double x, double y, int32_t id, int32_t strategy, bool *breaks)
{
    char text[LABEL_BYTES];
    double w = COLUMN * (double)token_label(p->m, id, text, breaks) + 3;
    fprintf(p->f,
            "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"3\" "
            "fill=\"%s\"/><text x=\"%.1f\" y=\"%.1f\" class=\"chip\" style=\"fill:%s\">%s"
            "</text>\n",
            x + .5, y + 1.0, w, CHIP - 2, fill_of(p, strategy), x + 2, y + 14.5,
            strategy < 0 ? p->theme->ink : edge_of(p, strategy), text);
    return w;
}

/* The answer as text, every step a frame around the tokens it wrote; returns where it ends. */
static double answer(const struct picture *p, double y)
{
    double x = LEFT;
    char text[LABEL_BYTES];
    bool breaks = false;
    if (p->about->n) x += 2 + chip(p, x + 2, y, p->about->ids[0], -1, &breaks) + 6;
    if (breaks) { x = LEFT; y += LINE; }
    for (size_t i = 0; i < p->n;) {
        size_t end = i;
        double wide = 4;
        while (end < p->n && p->t->token[end].step == p->t->token[i].step)
            wide += COLUMN * (double)token_label(p->m, p->t->token[end++].id, text, &breaks) + 4;
        if (x > LEFT && x + wide > WIDTH - RIGHT) { x = LEFT; y += LINE; }
        if (end - i > 1)
            fprintf(p->f,
                    "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"5\" "
                    "fill=\"none\" stroke=\"%s\" stroke-width=\"1.1\"/>\n",
                    x, y - 1.5, fmin(wide, WIDTH - RIGHT - x), CHIP + 3, p->theme->line);
        x += 2;
        bool new_line = false;
        for (; i < end; i++) {
            double w = COLUMN * (double)token_label(p->m, p->t->token[i].id, text, &breaks) + 3;
            if (x + w > WIDTH - RIGHT + 4) { x = LEFT + 2; y += LINE; }
            x += chip(p, x, y, p->t->token[i].id, p->t->token[i].strategy, &breaks) + 1;
            new_line |= breaks;
        }
        x += 5;
        if (new_line) { x = LEFT; y += LINE; }
    }
    return x > LEFT ? y + LINE : y;
}

static void head(const struct picture *p, double height)
{
    char text[400], escaped[LABEL_BYTES];
    bool ignored;
    double plain = p->about->step_seconds;
    const struct theme *c = p->theme;
    fprintf(p->f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" xml:space=\"preserve\" width=\"%d\" height=\"%.0f\" "
            "viewBox=\"0 0 %d %.0f\">\n<style>text{font-family:system-ui,'DejaVu Sans',sans-serif;"
            "fill:%s}.title{font-size:19px;font-weight:600}.note{font-size:13px}"
            ".over{paint-order:stroke;stroke:%s;stroke-width:4px;stroke-linejoin:round}"
            ".axis{font-size:12px;fill:%s}.chip{white-space:pre;"
            "font-family:'DejaVu Sans Mono',monospace;font-size:12px}"
            "</style>\n<rect width=\"%d\" height=\"%.0f\" fill=\"%s\"/>\n",
            WIDTH, height, WIDTH, height, c->ink, c->paper, c->quiet, WIDTH, height, c->paper);
    label(p->about->model, strlen(p->about->model), escaped, &ignored);
    /* The title's letters are about 10 wide; what is too long goes to the strategy. */
    size_t left = (WIDTH - LEFT - RIGHT) / 10, used = strlen(escaped) + 2;
    snprintf(text, sizeof text, "%s, %.*s%s", escaped, (int)(left > used ? left - used : 8),
             p->about->decode, strlen(p->about->decode) + used > left ? "\xe2\x80\xa6" : "");
    words(p, LEFT, 32, "class=\"title\"", text);
    int at = snprintf(text, sizeof text, "%zu token%s: the first with the prompt", p->about->n,
                      p->about->n == 1 ? "" : "s");
    if (p->n)
        at += snprintf(text + at, sizeof text - (size_t)at,
                       ", %zu in %zu step%s; %.2f per step, %.1f per second%s", p->n, p->steps,
                       p->steps == 1 ? "" : "s", (double)p->n / (double)p->steps,
                       p->seconds > 0 ? (double)p->n / p->seconds : 0, plain > 0 ? ", " : "");
    if (plain > 0 && p->seconds > 0)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%.2f times the speed of one token per step",
                 (double)p->n / p->seconds * plain);
    words(p, LEFT, 52, "class=\"note\"", text);
}

int svg_write(const char *command, const char *path, bool replace, const stretto_model *m,
              const struct svg_trace *t, const struct svg_about *about)
{
    struct error err = { 0 };
    struct picture p = { .m = m, .t = t, .about = about, .theme = about->dark ? &dark : &light };
    /* The first token of an answer is the prompt's; what was written ahead and taken back is not
     * drawn. */
    p.n = about->n ? about->n - 1 : 0;
    if (p.n > t->n_tokens) p.n = t->n_tokens;
    if (p.n > MOST_TOKENS) p.n = MOST_TOKENS;
    if (p.n) p.steps = t->token[p.n - 1].step + 1;
    if (p.n) p.seconds = t->step[p.steps - 1].end;
    char *text = NULL;
    size_t length = 0;
    double height = 0;
    bool ok = true;
    /* Drawn twice: the first time to see how long it gets. */
    for (int pass = 0; pass < 2 && ok; pass++) {
        free(text);
        text = NULL;
        if (!(p.f = open_memstream(&text, &length))) break;
        head(&p, height);
        legend(&p);
        if (p.n) chart(&p);
        height = answer(&p, CHART_TOP + CHART + 44) + 16;
        fputs("</svg>\n", p.f);
        ok = !ferror(p.f);
        ok &= fclose(p.f) == 0;
    }
    stretto_status s = ok && text ? file_write(path, text, length, replace, &err)
                                  : fail(&err, STRETTO_E_NOMEM, "no memory for the picture");
    free(text);
    return s == STRETTO_OK ? EXIT_DONE : command_fail(command, s, err.text);
}
