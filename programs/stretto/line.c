/* libedit does the editing. It takes its characters from a function of ours, because its own
 * reading hides the first Ctrl-C. The history file is plain: one line an entry, appended to as
 * lines are entered, so two chats at once lose nothing of each other; it is cut when it has grown
 * long. */
#include "stretto/line.h"
#include "base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

enum { MAX_HISTORY_FILE = 1 << 20 };

struct line {
    EditLine *el;                      /* NULL: a pipe                                 */
    History *history;
    const volatile int *interrupted;
    const char *prompt;
    char path[4096];                   /* of the history; "" : none                    */
    char *piped;                       /* getline's                                    */
    size_t piped_cap;
};

/* ---- history --------------------------------------------------------------------------------- */

static bool history_path(char *path, size_t cap)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n;
    if (state && *state == '/') n = snprintf(path, cap, "%s/stretto/history", state);
    else if (home && *home == '/') n = snprintf(path, cap, "%s/.local/state/stretto/history", home);
    else n = -1;
    if (n > 0 && (size_t)n < cap) return true;
    *path = '\0';
    return false;
}

static void make_folders(char *path)
{
    for (char *p = path + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        mkdir(path, 0700);
        *p = '/';
    }
}

/* Rewrites the file with the lines from `from` on. A failure leaves the old one. */
static void history_cut(const struct line *l, const char *from, size_t n)
{
    char path[4100];
    snprintf(path, sizeof path, "%s.new", l->path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return;
    bool good = write(fd, from, n) == (ssize_t)n;
    close(fd);
    if (!good || rename(path, l->path) != 0) unlink(path);
}

/* The newest entries; a file of more than twice as many is cut to them. */
static void history_load(struct line *l)
{
    HistEvent ev;
    struct stat st;
    int fd = open(l->path, O_RDONLY | O_CLOEXEC);
    char *text = fd >= 0 ? mem_alloc(MAX_HISTORY_FILE + 1) : NULL;
    off_t from = text && fstat(fd, &st) == 0 && st.st_size > MAX_HISTORY_FILE
        ? st.st_size - MAX_HISTORY_FILE : 0;
    ssize_t n = text ? pread(fd, text, MAX_HISTORY_FILE, from) : 0;
    if (fd >= 0) close(fd);
    char *at = text, *end = n > 0 ? text + n : text;
    size_t lines = 0;
    for (char *p = at; p < end; p++) lines += *p == '\n';
    bool long_file = from > 0 || lines > 2 * LINE_MAX_HISTORY;
    /* The first line of a tail is not whole. */
    for (size_t drop = lines > LINE_MAX_HISTORY ? lines - LINE_MAX_HISTORY : from > 0;
         drop && lines; drop--)
        at = (char *)memchr(at, '\n', (size_t)(end - at)) + 1;
    if (long_file && lines) history_cut(l, at, (size_t)(end - at));
    while (at < end) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) break;
        *stop = '\0';
        if (strlen(at) == (size_t)(stop - at)) history(l->history, &ev, H_ENTER, at);
        at = stop + 1;
    }
    mem_free(text);
}

static void history_add(struct line *l, const char *text, size_t n)
{
    HistEvent ev;
    if (!n || strspn(text, " \t") == n) return;
    history(l->history, &ev, H_ENTER, text);
    if (!l->path[0]) return;
    int fd = open(l->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct buffer whole = buffer_make(LINE_MAX_MESSAGE + 2);
    if (fd >= 0 && buffer_append(&whole, text, n) == STRETTO_OK &&
        buffer_str(&whole, "\n") == STRETTO_OK) {
        ssize_t k = write(fd, whole.data, whole.len); /* one write: lines of two chats stay whole */
        (void)k;
    }
    if (fd >= 0) close(fd);
    buffer_done(&whole);
}

/* ---- a terminal ------------------------------------------------------------------------------ */

static char *prompt_of(EditLine *el)
{
    void *l = NULL;
    el_get(el, EL_CLIENTDATA, &l);
    return (char *)(uintptr_t)((struct line *)l)->prompt;
}

/* Waits until there is something to read; false when Ctrl-C came first. It looks up ten times a second,
 * because the handler may have run in another thread, which wakes nobody here. */
static bool wait_for_input(const struct line *l)
{
    int n = 0;
    while (!*l->interrupted && (n == 0 || (n < 0 && errno == EINTR)))
        n = poll(&(struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN }, 1, 100);
    return !*l->interrupted;
}

static int read_char(EditLine *el, wchar_t *out)
{
    void *data = NULL;
    el_get(el, EL_CLIENTDATA, &data);
    const struct line *l = data;
    mbstate_t state = { 0 };
    for (;;) {
        char c;
        if (!wait_for_input(l)) {
            errno = EINTR;
            return -1;
        }
        ssize_t n = read(STDIN_FILENO, &c, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return (int)n;
        size_t k = mbrtowc(out, &c, 1, &state);
        if (k == (size_t)-2) continue;                                  /* the character goes on */
        if (k == (size_t)-1) { state = (mbstate_t){ 0 }; continue; }    /* no character: left out */
        return 1;
    }
}

static stretto_status terminal_open(struct line *l, struct error *err)
{
    HistEvent ev;
    /* Without a locale, letters beyond ASCII could not be typed. */
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8");
    l->history = history_init();
    l->el = l->history ? el_init("stretto", stdin, stdout, stderr) : NULL;
    if (!l->el) return fail(err, STRETTO_E_NOMEM, "the line editor does not start: no memory");
    history(l->history, &ev, H_SETSIZE, LINE_MAX_HISTORY);
    history(l->history, &ev, H_SETUNIQUE, 1);
    el_set(l->el, EL_CLIENTDATA, l);
    el_set(l->el, EL_PROMPT, prompt_of);
    el_set(l->el, EL_EDITOR, "emacs");
    el_set(l->el, EL_SIGNAL, 0);
    el_set(l->el, EL_HIST, history, l->history);
    el_set(l->el, EL_GETCFN, read_char);
    el_set(l->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(l->el, NULL);                       /* ~/.editrc */
    if (history_path(l->path, sizeof l->path)) {
        make_folders(l->path);
        history_load(l);
    }
    return STRETTO_OK;
}

/* ---- both ------------------------------------------------------------------------------------ */

stretto_status line_open(struct line **out, const volatile int *interrupted, struct error *err)
{
    struct line *l = *out = mem_zalloc(1, sizeof *l);
    if (!l) return fail(err, STRETTO_E_NOMEM, "no memory for reading lines");
    l->interrupted = interrupted;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) return STRETTO_OK;
    stretto_status s = terminal_open(l, err);
    if (s == STRETTO_OK) return s;
    line_close(l);
    *out = NULL;
    return s;
}

void line_close(struct line *l)
{
    if (!l) return;
    if (l->el) el_end(l->el);
    if (l->history) history_end(l->history);
    free(l->piped);
    mem_free(l);
}

bool line_edits(const struct line *l) { return l->el != NULL; }

/* One line without its end; *text lives until the next. */
static enum line_result read_line(struct line *l, const char *prompt, const char **text, size_t *n)
{
    if (l->el) {
        int count = 0;
        l->prompt = prompt;
        /* Before the prompt: el_gets does it after, and a Ctrl-D in between would be lost. */
        el_set(l->el, EL_PREP_TERM, 1);
        *text = el_gets(l->el, &count);
        if (*l->interrupted) return LINE_INTERRUPTED;
        if (!*text || count <= 0) return count < 0 ? LINE_FAILED : LINE_END;
        *n = (size_t)count;
    } else {
        errno = 0;
        ssize_t k = getline(&l->piped, &l->piped_cap, stdin);
        if (k < 0 && *l->interrupted) return LINE_INTERRUPTED;
        if (k < 0) return feof(stdin) ? LINE_END : LINE_FAILED;
        *text = l->piped;
        *n = (size_t)k;
    }
    if (*n && (*text)[*n - 1] == '\n') --*n;
    if (*n && (*text)[*n - 1] == '\r') --*n;
    return LINE_MESSAGE;
}

enum line_result line_read(struct line *l, struct buffer *text)
{
    buffer_clear(text);
    bool block = false, more = true;
    for (bool first = true; more; first = false) {
        const char *p;
        size_t n;
        enum line_result r = read_line(l, first ? "> " : ". ", &p, &n);
        if (r == LINE_END && !first) return text->len ? LINE_MESSAGE : LINE_END;
        if (r != LINE_MESSAGE) return r;
        if (!l->el) return buffer_append(text, p, n) == STRETTO_OK ? LINE_MESSAGE : LINE_FAILED;
        struct buffer entry = buffer_make(LINE_MAX_MESSAGE);
        if (buffer_append(&entry, p, n) == STRETTO_OK) history_add(l, entry.data, n);
        buffer_done(&entry);
        if (first && n >= 3 && memcmp(p, "\"\"\"", 3) == 0) { block = true; p += 3; n -= 3; }
        else if (!first && buffer_str(text, "\n") != STRETTO_OK) return LINE_FAILED;
        bool closes = block && n >= 3 && memcmp(p + n - 3, "\"\"\"", 3) == 0;
        bool goes_on = !block && n && p[n - 1] == '\\';
        if (buffer_append(text, p, n - (closes ? 3 : 0) - goes_on) != STRETTO_OK)
            return LINE_FAILED;
        more = block ? !closes : goes_on;
    }
    return LINE_MESSAGE;
}
