#include "stretto/history.h"
#include "base/file.h"
#include "base/memory.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* ---- entries --------------------------------------------------------------------------------- */

static void forget(struct history *h, size_t n)
{
    if (!n) return;
    for (size_t i = 0; i < n; i++) mem_free(h->entries[i]);
    memmove(h->entries, h->entries + n, (h->n - n) * sizeof *h->entries);
    h->n -= n;
}

/* False for what is not worth keeping, or when memory is out. */
static bool keep(struct history *h, const char *text, size_t n)
{
    if (n > HISTORY_MAX_ENTRY || memchr(text, '\0', n)) return false;
    size_t blank = 0;
    while (blank < n && strchr(" \t\n", text[blank])) blank++;
    if (blank == n) return false;
    if (h->n && strlen(h->entries[h->n - 1]) == n && memcmp(h->entries[h->n - 1], text, n) == 0)
        return false;
    if (h->n == h->cap) {
        size_t cap = h->cap ? 2 * h->cap : 64;
        char **more = mem_resize(h->entries, cap * sizeof *more);
        if (!more) return false;
        h->entries = more;
        h->cap = cap;
    }
    char *copy = mem_strndup(text, n);
    if (!copy) return false;
    h->entries[h->n++] = copy;
    /* Beyond twice as many the older half goes: rarely, so that it costs nothing. */
    if (h->n > 2 * (size_t)HISTORY_MAX_ENTRIES) forget(h, h->n - HISTORY_MAX_ENTRIES);
    return true;
}

/* ---- the file -------------------------------------------------------------------------------- */

stretto_status history_write(struct buffer *out, const char *text)
{
    for (const char *p = text;;) {
        size_t n = strcspn(p, "\n"), slashes = 0;
        while (slashes < n && p[n - 1 - slashes] == '\\') slashes++;
        TRY(buffer_append(out, p, n));
        TRY(buffer_append(out, p + n - slashes, slashes));
        if (!p[n]) return buffer_str(out, "\n");
        TRY(buffer_str(out, "\\\n"));
        p += n + 1;
    }
}

void history_parse(struct history *h, const char *text, size_t n, bool cut)
{
    struct buffer entry = buffer_make(HISTORY_MAX_ENTRY + 1);
    const char *at = text, *end = text + n, *stop;
    bool good = !cut;
    while (at < end && (stop = memchr(at, '\n', (size_t)(end - at)))) {
        size_t length = (size_t)(stop - at), slashes = 0;
        while (slashes < length && stop[-1 - (ptrdiff_t)slashes] == '\\') slashes++;
        bool goes_on = slashes % 2;
        good &= buffer_append(&entry, at, length - (slashes + 1) / 2) == STRETTO_OK;
        if (goes_on) good &= buffer_str(&entry, "\n") == STRETTO_OK;
        else {
            if (good && entry.len) keep(h, entry.data, entry.len);
            buffer_clear(&entry);
            good = true;
        }
        at = stop + 1;
    }
    buffer_done(&entry);
}

/* A file that has grown long becomes one of the entries kept. A failure leaves the old one. */
static void shorten(const struct history *h)
{
    struct buffer whole = buffer_make(HISTORY_MAX_FILE);
    struct error ignored = { 0 };
    bool good = true;
    size_t from = h->n > HISTORY_MAX_ENTRIES ? h->n - HISTORY_MAX_ENTRIES : 0;
    for (size_t i = from; i < h->n && good; i++)
        good = history_write(&whole, h->entries[i]) == STRETTO_OK;
    if (good && whole.len) file_replace(h->path, whole.data, whole.len, &ignored);
    buffer_done(&whole);
}

void history_open(struct history *h)
{
    struct stat st;
    *h = (struct history){ 0 };
    if (!history_path(h->path, sizeof h->path)) return;
    make_folders(h->path);
    int fd = open(h->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return;
    bool file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    off_t from = file && st.st_size > HISTORY_MAX_FILE ? st.st_size - HISTORY_MAX_FILE : 0;
    char *text = file ? mem_alloc(HISTORY_MAX_FILE) : NULL;
    ssize_t n = text ? pread(fd, text, HISTORY_MAX_FILE, from) : 0;
    close(fd);
    size_t lines = 0;
    for (ssize_t i = 0; i < n; i++) lines += text[i] == '\n';
    if (n > 0) history_parse(h, text, (size_t)n, from > 0);
    mem_free(text);
    if (from > 0 || lines > 2 * (size_t)HISTORY_MAX_ENTRIES) shorten(h);
}

void history_close(struct history *h)
{
    forget(h, h->n);
    mem_free(h->entries);
    *h = (struct history){ 0 };
}

void history_add(struct history *h, const char *text, size_t n)
{
    if (!keep(h, text, n) || !h->path[0]) return;
    struct buffer whole = buffer_make(3 * (size_t)HISTORY_MAX_ENTRY);
    int fd = open(h->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd >= 0 && history_write(&whole, h->entries[h->n - 1]) == STRETTO_OK) {
        ssize_t k = write(fd, whole.data, whole.len); /* one write: entries of two chats stay whole */
        (void)k;
    }
    if (fd >= 0) close(fd);
    buffer_done(&whole);
}
