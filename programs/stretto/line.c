/* While a message is typed the terminal hands over every byte (raw); while an answer is written it only
 * keeps quiet about what is typed ahead. Ctrl-C and Ctrl-Z are bytes in the first case, so that they keep
 * their place among the others, and signals in the second. */
#include "stretto/line.h"
#include "base/memory.h"
#include "stretto/screen.h"
#include "ui/terminal.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static const char notice_too_long[] =
    "\r\n(what was pasted is too long: a message has at most 1 MiB)\r\n";

struct line {
    bool edits, asks;                  /* asks: a prompt is shown                      */
    const volatile int *interrupted;
    struct keys keys;
    struct edit edit;
    struct screen screen;
    struct history history;
    struct buffer out;                 /* what goes to the terminal in one write       */
    char in[4096];                     /* bytes read and not used yet                  */
    size_t in_at, in_n;
};

/* ---- the terminal's modes -------------------------------------------------------------------- */

/* What signal handlers need; one line at a time edits. */
static struct {
    struct termios cooked, quiet, raw;
    const struct termios *volatile now;        /* NULL: not ours                       */
    volatile sig_atomic_t resized, resumed;
} tty;

static const char paste_on[] = "\033[?2004h", paste_off[] = "\033[?2004l";

static void put_bytes(const char *p, size_t n)
{
    while (n) {
        ssize_t k = write(STDOUT_FILENO, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return;
        p += k;
        n -= (size_t)k;
    }
}

/* A process in the background may not touch the terminal: it would be stopped. */
static bool foreground(void) { return tcgetpgrp(STDIN_FILENO) == getpgrp(); }

static void apply(const struct termios *t)
{
    while (tcsetattr(STDIN_FILENO, TCSADRAIN, t) != 0 && errno == EINTR) continue;
    if (t == &tty.raw) put_bytes(paste_on, sizeof paste_on - 1);
}

static void leave(void)
{
    if (!tty.now || !foreground()) return;
    if (tty.now == &tty.raw) put_bytes(paste_off, sizeof paste_off - 1);
    apply(&tty.cooked);
}

/* In the background only reading waits for the terminal; an answer that is written there goes on, and
 * on_resume() makes up for what was left out. */
static void set_mode(const struct termios *t)
{
    if (tty.now == &tty.raw && t != &tty.raw) put_bytes(paste_off, sizeof paste_off - 1);
    tty.now = t;
    if (t == &tty.raw || foreground()) apply(t);
}

static void on_resize(int sig) { (void)sig; tty.resized = 1; }

static void on_resume(int sig)
{
    int e = errno;
    (void)sig;
    if (tty.now && foreground()) apply(tty.now);
    tty.resumed = 1;
    errno = e;
}

/* SA_NODEFER lets raise() act at once; after `fg` this goes on behind it. */
static void on_stop(int sig)
{
    int e = errno;
    struct sigaction stop = { .sa_handler = SIG_DFL }, ours;
    leave();
    sigaction(sig, &stop, &ours);
    raise(sig);
    sigaction(sig, &ours, NULL);
    on_resume(SIGCONT);
    errno = e;
}

static void on_death(int sig)
{
    if (tty.now == &tty.raw && foreground()) put_bytes("\r\n", 2);
    leave();
    signal(sig, SIG_DFL);
    raise(sig);
}

static const struct { int sig; void (*handler)(int); } handlers[] = {
    { SIGWINCH, on_resize }, { SIGCONT, on_resume }, { SIGTSTP, on_stop },
    { SIGTERM, on_death }, { SIGHUP, on_death }, { SIGQUIT, on_death },
};
enum { N_HANDLERS = sizeof handlers / sizeof *handlers };

/* What is ignored, as nohup makes it, stays ignored. */
static void catch_signals(void)
{
    for (int i = 0; i < N_HANDLERS; i++) {
        struct sigaction a = { .sa_handler = handlers[i].handler, .sa_flags = SA_NODEFER | SA_RESTART };
        struct sigaction old;
        sigemptyset(&a.sa_mask);
        if (sigaction(handlers[i].sig, NULL, &old) == 0 && old.sa_handler == SIG_IGN) continue;
        sigaction(handlers[i].sig, &a, NULL);
    }
}

static void release_signals(void)
{
    for (int i = 0; i < N_HANDLERS; i++) {
        struct sigaction old;
        if (sigaction(handlers[i].sig, NULL, &old) == 0 && old.sa_handler == handlers[i].handler)
            signal(handlers[i].sig, SIG_DFL);
    }
}

static void make_modes(void)
{
    tty.quiet = tty.cooked;
    tty.quiet.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    tty.quiet.c_cc[VMIN] = 1;
    tty.quiet.c_cc[VTIME] = 0;
    tty.raw = tty.quiet;
    tty.raw.c_lflag &= ~(tcflag_t)(ISIG | IEXTEN);
    tty.raw.c_iflag &= ~(tcflag_t)(IXON | ICRNL | INLCR | IGNCR | ISTRIP);
}

static void look_at_size(struct line *l)
{
    struct winsize w = { 0 };
    tty.resized = 0;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) != 0 || !w.ws_col || !w.ws_row)
        w = (struct winsize){ .ws_col = 80, .ws_row = 24 };
    screen_resize(&l->screen, &l->edit, w.ws_col, w.ws_row);
}

/* ---- opening --------------------------------------------------------------------------------- */

static stretto_status editor_open(struct line *l, const char *(*word)(size_t i), struct error *err)
{
    struct ui_terminal look = ui_terminal_look(stdout);
    if (tcgetattr(STDIN_FILENO, &tty.cooked) != 0)
        return fail(err, STRETTO_E_IO, "the terminal's modes cannot be read: %s", strerror(errno));
    history_open(&l->history);
    keys_init(&l->keys);
    edit_init(&l->edit, &l->history);
    l->edit.word = word;
    screen_init(&l->screen, look.colour);
    l->screen.rewraps = !getenv("XTERM_VERSION");        /* xterm cuts and pads lines instead */
    l->edits = true;
    make_modes();
    catch_signals();
    set_mode(&tty.quiet);
    return STRETTO_OK;
}

stretto_status line_open(struct line **out, const volatile int *interrupted,
                         const char *(*word)(size_t i), struct error *err)
{
    struct line *l = *out = mem_zalloc(1, sizeof *l);
    if (!l) return fail(err, STRETTO_E_NOMEM, "no memory for reading lines");
    l->interrupted = interrupted;
    l->out = buffer_make((size_t)1 << 28);
    struct ui_terminal look = ui_terminal_look(stdout);
    l->asks = isatty(STDIN_FILENO) && look.there;
    return l->asks && look.moves ? editor_open(l, word, err) : STRETTO_OK;
}

void line_close(struct line *l)
{
    if (!l) return;
    if (l->edits) {
        set_mode(&tty.cooked);
        tty.now = NULL;
        release_signals();
        edit_done(&l->edit);
        keys_done(&l->keys);
        history_close(&l->history);
    }
    buffer_done(&l->out);
    mem_free(l);
}

bool line_asks(const struct line *l) { return l->asks; }

void line_forget(struct line *l) { l->in_at = l->in_n = 0; }

/* ---- bytes ----------------------------------------------------------------------------------- */

enum got { GOT_BYTE, GOT_END, GOT_FAILURE, GOT_INTERRUPT, GOT_TIME };

/* Waits for a byte. GOT_TIME after `ms`: it looks up that often, because a handler may have run in another
 * thread, which wakes nobody here. */
static enum got next_byte(struct line *l, int ms, unsigned char *byte)
{
    if (l->in_at == l->in_n) {
        if (*l->interrupted) return GOT_INTERRUPT;
        int n = poll(&(struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN }, 1, ms);
        if (*l->interrupted) return GOT_INTERRUPT;
        if (n == 0 || (n < 0 && errno == EINTR)) return GOT_TIME;
        ssize_t k = read(STDIN_FILENO, l->in, sizeof l->in);
        if (k < 0 && errno == EINTR) return GOT_TIME;
        if (k <= 0) return k < 0 && errno != EIO ? GOT_FAILURE : GOT_END;
        l->in_at = 0;
        l->in_n = (size_t)k;
    }
    *byte = (unsigned char)l->in[l->in_at++];
    return GOT_BYTE;
}

/* ---- editing --------------------------------------------------------------------------------- */

static void flush_out(struct line *l)
{
    put_bytes(l->out.data, l->out.len);
    buffer_clear(&l->out);
}

static void show(struct line *l)
{
    if (tty.resized) look_at_size(l);
    if (tty.resumed) {
        tty.resumed = 0;
        screen_forget(&l->screen);
    }
    screen_draw(&l->screen, &l->edit, &l->out);
    flush_out(l);
}

/* Leaves the message on the screen, with the cursor at the beginning of a row below it or, without an
 * `end`, behind it. */
static void leave_shown(struct line *l, const char *end)
{
    screen_finish(&l->screen, &l->edit, &l->out);
    buffer_str(&l->out, end);
    flush_out(l);
}

static void do_suspend(struct line *l)
{
    leave_shown(l, "\r\n");
    raise(SIGTSTP);
    tty.resumed = 1;
}

/* Goes on, or says how the message ended. */
static enum edit_result take(struct line *l, unsigned char byte)
{
    const char *text = NULL;
    size_t n = 0;
    enum key key = keys_feed(&l->keys, byte, &text, &n);
    if (key == KEY_NONE) return EDIT_GOES_ON;
    enum edit_result r = edit_key(&l->edit, key, text, n);
    if (r == EDIT_BELL) put_bytes("\a", 1);
    if (r == EDIT_BELL && key == KEY_PASTE) leave_shown(l, notice_too_long);
    if (r == EDIT_SUSPEND) do_suspend(l);
    if (r == EDIT_CLEAR) {
        put_bytes("\033[H\033[2J", 7);
        screen_forget(&l->screen);
    }
    if (r == EDIT_QUIT) raise(SIGQUIT);
    return r == EDIT_SEND || r == EDIT_END || r == EDIT_INTERRUPTED ? r : EDIT_GOES_ON;
}

static enum line_result edit_line(struct line *l)
{
    enum edit_result r = EDIT_GOES_ON;
    bool drawn = false;
    while (r == EDIT_GOES_ON) {
        unsigned char byte = 0;
        bool idle = l->in_at == l->in_n;               /* drawn only when nothing more is there */
        if (tty.resized || tty.resumed) drawn = false;
        if (idle && !drawn) {
            show(l);
            drawn = true;
        }
        enum got got = next_byte(l, keys_waiting(&l->keys) ? 50 : 100, &byte);
        if (got == GOT_TIME && keys_waiting(&l->keys)) keys_give_up(&l->keys);
        if (got == GOT_INTERRUPT) r = EDIT_INTERRUPTED;
        if (got == GOT_END) r = EDIT_END;
        if (got == GOT_FAILURE) return LINE_FAILED;
        if (got != GOT_BYTE) continue;
        r = take(l, byte);
        drawn = false;
    }
    leave_shown(l, r == EDIT_SEND ? "\r\n" : r == EDIT_INTERRUPTED ? "^C\r\n" : "");
    return r == EDIT_SEND ? LINE_MESSAGE : r == EDIT_END ? LINE_END : LINE_INTERRUPTED;
}

static enum line_result read_edited(struct line *l, struct buffer *text)
{
    fflush(stdout);
    set_mode(&tty.raw);
    edit_reset(&l->edit);
    screen_forget(&l->screen);
    tty.resumed = 0;
    look_at_size(l);
    enum line_result r = edit_line(l);
    set_mode(&tty.quiet);
    const struct buffer *typed = &l->edit.text;
    if (buffer_append(text, typed->data, typed->len) != STRETTO_OK) return LINE_FAILED;
    if (r != LINE_MESSAGE) return r;
    history_add(&l->history, text->len ? text->data : "", text->len);
    message_finish(text);
    return r;
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* Appends one line without its end. */
static enum line_result read_line(struct line *l, struct buffer *text)
{
    size_t before = text->len;
    for (;;) {
        unsigned char byte = 0;
        enum got got = next_byte(l, 100, &byte);
        if (got == GOT_TIME) continue;
        if (got == GOT_INTERRUPT) return LINE_INTERRUPTED;
        if (got == GOT_FAILURE) return LINE_FAILED;
        if (got == GOT_END && text->len == before) return LINE_END;
        if (got == GOT_END || byte == '\n') break;
        if (buffer_append(text, &byte, 1) != STRETTO_OK) return LINE_FAILED;
    }
    if (text->len > before && text->data[text->len - 1] == '\r') text->data[--text->len] = '\0';
    return LINE_MESSAGE;
}

static void ask_for_line(const char *prompt)
{
    fputs(prompt, stdout);
    fflush(stdout);
}

static enum line_result read_plain(struct line *l, struct buffer *text)
{
    for (bool first = true;; first = false) {
        if (l->asks) ask_for_line(first ? "> " : ". ");
        enum line_result r = read_line(l, text);
        if (r == LINE_END && text->len) break;
        if (r != LINE_MESSAGE || !l->asks) return r;
        if (!text->len || !message_goes_on(text->data, text->len)) break;
        if (message_continue(text) != STRETTO_OK) return LINE_FAILED;
    }
    message_finish(text);
    return LINE_MESSAGE;
}

enum line_result line_read(struct line *l, struct buffer *text)
{
    buffer_clear(text);
    return l->edits ? read_edited(l, text) : read_plain(l, text);
}
