#include "compress/journal.h"
#include "base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char head[] = "stretto pass ";
enum { DIGITS = 16, MAX_TEXT = 1 << 24 };

/* Exactly 16 lower-case hexadecimal digits. */
static bool read_hash(const char *p, uint64_t *v)
{
    *v = 0;
    for (int i = 0; i < DIGITS; i++) {
        bool digit = p[i] >= '0' && p[i] <= '9';
        if (!digit && (p[i] < 'a' || p[i] > 'f')) return false;
        *v = *v << 4 | (uint64_t)(digit ? p[i] - '0' : p[i] - 'a' + 10);
    }
    return true;
}

/* "HASH NUMBER", up to `end`, where the newline is. */
static bool read_entry(const char *p, const char *end, size_t n, size_t *i, uint64_t *hash)
{
    if (end - p < DIGITS + 2 || end - p > DIGITS + 10 || p[DIGITS] != ' ' || !read_hash(p, hash)) return false;
    *i = 0;
    for (p += DIGITS + 1; p < end; p++) {
        if (*p < '0' || *p > '9') return false;
        *i = *i * 10 + (size_t)(*p - '0');
    }
    return *i < n;
}

size_t journal_parse(const char *text, size_t size, uint64_t pass, size_t n, unsigned char *listed, uint64_t *hash)
{
    const char *end = text + size, *p = text;
    size_t at = sizeof head - 1;
    uint64_t which;
    memset(listed, 0, n);
    if (size < at + DIGITS + 1 || memcmp(p, head, at) != 0 || !read_hash(p + at, &which) || which != pass
        || p[at + DIGITS] != '\n') return 0;
    for (p += at + DIGITS + 1; p < end;) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t i;
        uint64_t of;
        if (!stop || !read_entry(p, stop, n, &i, &of)) break;
        listed[i] = 1;
        hash[i] = of;
        p = stop + 1;
    }
    return (size_t)(p - text);
}

static stretto_status io_error(const char *path, struct error *err)
{
    return fail(err, STRETTO_E_IO, "cannot write %s: %s", path, strerror(errno));
}

static int open_regular(const char *path, int how, struct error *err)
{
    struct stat st;
    int fd = open(path, how | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0666);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) return fd;
    if (fd < 0 && errno == ENOENT) return -1;
    if (fd >= 0) {
        close(fd);
        fail(err, STRETTO_E_ARG, "%s is there already and is not a file", path);
    } else {
        io_error(path, err);
    }
    return -1;
}

stretto_status journal_read(const char *path, struct buffer *text, struct error *err)
{
    int fd = open_regular(path, O_RDONLY, NULL);
    char piece[4096];
    stretto_status s = STRETTO_OK;
    for (ssize_t k = 1; fd >= 0 && k > 0 && s == STRETTO_OK;) {
        k = read(fd, piece, sizeof piece);
        if (k < 0 && errno == EINTR) k = 1;
        else if (k < 0 || text->len > MAX_TEXT) buffer_clear(text), k = 0;
        else s = buffer_append(text, piece, (size_t)k);
    }
    if (fd >= 0) close(fd);
    return s == STRETTO_OK ? s : fail(err, s, "not enough memory to read %s", path);
}

static stretto_status append(struct journal *j, const char *line, size_t n, struct error *err)
{
    while (n) {
        ssize_t k = write(j->fd, line, n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return io_error(j->path, err);
        line += k;
        n -= (size_t)k;
    }
    return STRETTO_OK;
}

stretto_status journal_open(struct journal *j, const char *path, size_t keep, uint64_t pass, struct error *err)
{
    char line[64];
    *j = (struct journal){ .path = mem_strdup(path), .fd = -1 };
    if (!j->path) return fail(err, STRETTO_E_NOMEM, "out of memory");
    j->fd = open_regular(path, O_RDWR | O_CREAT | O_APPEND, err);
    if (j->fd < 0) return err && err->status != STRETTO_OK ? err->status : io_error(path, err);
    if (ftruncate(j->fd, (off_t)keep) != 0) return io_error(path, err);
    if (keep) return STRETTO_OK;
    int n = snprintf(line, sizeof line, "%s%016llx\n", head, (unsigned long long)pass);
    TRY(append(j, line, (size_t)n, err));
    return fsync(j->fd) == 0 ? STRETTO_OK : io_error(path, err);
}

stretto_status journal_add(struct journal *j, size_t i, uint64_t hash, struct error *err)
{
    char line[64];
    int n = snprintf(line, sizeof line, "%016llx %zu\n", (unsigned long long)hash, i);
    return append(j, line, (size_t)n, err);
}

void journal_close(struct journal *j, bool remove)
{
    if (remove && j->fd >= 0) unlink(j->path);
    if (j->fd >= 0) close(j->fd);
    mem_free(j->path);
    *j = (struct journal){ .fd = -1 };
}
