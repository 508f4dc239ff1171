/* The rate is a moving average over about three seconds, taken in steps of at least a quarter of a
 * second: single reads of a network come in bursts that nobody wants to see. */
#include "ui/progress.h"
#include "ui/terminal.h"
#include <math.h>
#include <string.h>
#include <time.h>

enum { PLAIN_EVERY_S = 5 };

static double clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void ui_progress_init(struct ui_progress *u, FILE *out)
{
    *u = (struct ui_progress){ .out = out, .now = clock_now };
    if (!out) return;
    struct ui_terminal t = ui_terminal_look(out);
    u->terminal = t.moves;
    u->colour = t.colour;
}

const char *ui_bytes(char *buf, size_t cap, uint64_t n)
{
    static const char *const unit[] = { "kB", "MB", "GB", "TB", "PB", "EB" };
    if (n < 1000) {
        snprintf(buf, cap, "%u B", (unsigned)n);
        return buf;
    }
    double v = (double)n / 1000;
    size_t i = 0;
    while (v >= 999.95 && i < 5) { v /= 1000; i++; }
    snprintf(buf, cap, "%.1f %s", v, unit[i]);
    return buf;
}

static void amount(char *buf, size_t cap, double n, bool items)
{
    if (items) snprintf(buf, cap, n < 100 ? "%.1f" : "%.0f", n);
    else ui_bytes(buf, cap, n < 1e18 ? (uint64_t)n : (uint64_t)1e18);
}

static void duration(char *buf, size_t cap, double s)
{
    if (s < 60) snprintf(buf, cap, "%.0f s", ceil(s));
    else if (s < 3600) snprintf(buf, cap, "%d min %02d s", (int)s / 60, (int)s % 60);
    else if (s < 100 * 3600.0) snprintf(buf, cap, "%d h %02d min", (int)s / 3600, (int)s / 60 % 60);
    else snprintf(buf, cap, "days");
}

void ui_progress_line(char *buf, size_t cap, size_t width, const char *what, uint64_t done,
                      uint64_t total, double rate, bool items)
{
    char a[32], b[32], figures[160];
    size_t at = 0;
    if (items) snprintf(a, sizeof a, "%llu", (unsigned long long)done);
    else ui_bytes(a, sizeof a, done);
    if (total) {
        if (done > total) done = total;
        if (items) snprintf(b, sizeof b, "%llu", (unsigned long long)total);
        else ui_bytes(b, sizeof b, total);
        at += (size_t)snprintf(figures, sizeof figures, "%3d%%  %s of %s",
                               (int)((double)done * 100 / (double)total), a, b);
    } else
        at += (size_t)snprintf(figures, sizeof figures, "%s", a);
    if (rate > 0) {
        amount(a, sizeof a, rate, items);
        at += (size_t)snprintf(figures + at, sizeof figures - at, "  %s/s", a);
        if (total > done) {
            duration(b, sizeof b, (double)(total - done) / rate);
            snprintf(figures + at, sizeof figures - at, "  %s left", b);
        }
    }
    /* A narrow window cuts the name first: the figures are what changes. */
    if (width >= cap) width = cap - 1;
    size_t n = strlen(figures), name = strlen(what);
    size_t room = width > n + 2 ? width - n - 2 : 0;
    if (name > room) {
        while (room && ((unsigned char)what[room] & 0xc0) == 0x80) room--;    /* whole characters */
        name = room;
    }
    int k = snprintf(buf, cap, "%.*s%s%s", (int)name, what, name ? "  " : "", figures);
    if (k > 0 && (size_t)k > width) buf[width] = '\0';
}

static void draw(struct ui_progress *u, uint64_t done, uint64_t total, double rate, bool last)
{
    char line[256];
    if (!u->terminal) {
        ui_progress_line(line, sizeof line, 200, u->what, done, total, rate, u->items);
        fprintf(u->out, "%s\n", line);
    } else {
        /* One column is left free: writing the last one makes some terminals wrap. */
        ui_progress_line(line, sizeof line, ui_terminal_width(u->out) - 1, u->what, done, total, rate,
                         u->items);
        fprintf(u->out, "\r%s%s%s\033[K%s", u->colour && !last ? "\033[2m" : "", line,
                u->colour && !last ? "\033[0m" : "", last ? "\n" : "");
    }
    fflush(u->out);
    u->shown = true;
}

static void tell(void *ud, const char *what, uint64_t done, uint64_t total)
{
    struct ui_progress *u = ud;
    if (!u->out) return;
    double t = u->now();
    if (strncmp(u->what, what, sizeof u->what - 1) != 0) {
        ui_progress_break(u);
        snprintf(u->what, sizeof u->what, "%s", what);
        u->began = u->drawn = u->sampled = t;
        u->first = u->last = done;
        u->rate = 0;
    }
    if (done < u->last) {                              /* the work began again */
        u->first = u->last = done;
        u->began = u->sampled = t;
        u->rate = 0;
    }
    double dt = t - u->sampled;
    if (dt >= 0.25) {
        double now = (double)(done - u->last) / dt, keep = exp(-dt / 3);
        u->rate = u->rate > 0 ? keep * u->rate + (1 - keep) * now : now;
        u->sampled = t;
        u->last = done;
    }
    bool over = total && done >= total;
    double since = t - (u->shown ? u->drawn : u->began);
    double every = !u->shown ? 1 : u->terminal ? 0.1 : PLAIN_EVERY_S;
    if (over) {
        /* The last line tells the mean. */
        double all = t - u->began;
        if (u->shown || all >= 1)
            draw(u, done, total, all > 0 ? (double)(done - u->first) / all : 0, true);
        u->what[0] = '\0';
        u->shown = false;
    } else if (since >= every) {
        draw(u, done, total, u->rate, false);
        u->drawn = t;
    }
}

struct progress ui_progress_hook(struct ui_progress *u) { return (struct progress){ tell, u }; }

void ui_progress_break(struct ui_progress *u)
{
    if (u->out && u->terminal && u->shown) {
        fputc('\n', u->out);
        fflush(u->out);
    }
    u->shown = false;
    u->what[0] = '\0';
}
