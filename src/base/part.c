#include "base/part.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/words.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static stretto_status io_error(const struct part *p, const char *what, struct error *err)
{
    int e = errno;
    char size[64] = "", n[24];
    if (e != ENOSPC && e != EDQUOT && e != EFBIG)
        return fail(err, STRETTO_E_IO, "cannot %s %s: %s", what, p->path, strerror(e));
    if (p->bytes) snprintf(size, sizeof size, "; the file needs %s", bytes_words(n, (double)p->bytes));
    return fail(err, STRETTO_E_IO, "cannot %s %s: %s%s: make room or name another place", what, p->path, strerror(e),
                size);
}

static bool is_same_file(int fd, const char *path)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && lstat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Who had the lock may have given the file its name in between: then it is not PATH.part any more, and must not be
 * touched. */
static stretto_status lock_part(struct part *p, struct error *err)
{
    for (int tries = 0; tries < 100; tries++) {
        p->fd = open(p->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
        if (p->fd < 0) return fail(err, STRETTO_E_IO, "cannot create %s: %s", p->part, strerror(errno));
        if (flock(p->fd, LOCK_EX | LOCK_NB) != 0) break;
        if (is_same_file(p->fd, p->part)) return STRETTO_OK;
        close(p->fd);
        p->fd = -1;
    }
    return fail(err, STRETTO_E_ARG, "%s is being written by another process", p->part);
}

static stretto_status take_part(struct part *p, bool anew, struct error *err)
{
    struct stat st;
    TRY(lock_part(p, err));
    if (fstat(p->fd, &st) != 0) return io_error(p, "write", err);
    if (!S_ISREG(st.st_mode)) return fail(err, STRETTO_E_ARG, "%s is there already and is not a file", p->part);
    p->begun = anew || st.st_size == 0;
    if (anew && ftruncate(p->fd, 0) != 0) return io_error(p, "write", err);
    return STRETTO_OK;
}

stretto_status part_open(struct part *p, const char *path, bool force, bool anew, struct error *err)
{
    size_t n = strlen(path);
    *p = (struct part){ .fd = -1, .force = force };
    if (file_is_other(path)) return fail(err, STRETTO_E_ARG, "%s is there already and is not a file", path);
    if (!force && access(path, F_OK) == 0)
        return fail(err, STRETTO_E_ARG, "%s is there already; --force replaces it", path);
    p->path = mem_strdup(path);
    p->part = mem_alloc(n + sizeof ".part");
    if (p->path && p->part) {
        memcpy(p->part, path, n);
        memcpy(p->part + n, ".part", sizeof ".part");
    }
    stretto_status s = p->path && p->part ? take_part(p, anew, err)
                                          : fail(err, STRETTO_E_NOMEM, "not enough memory to write %s", path);
    if (s != STRETTO_OK) part_close(p);
    return s;
}

stretto_status part_begin(struct part *p, uint64_t bytes, struct error *err)
{
    p->bytes = bytes;
    p->begun = true;
    if (ftruncate(p->fd, 0) != 0) return io_error(p, "write", err);
    /* File systems that cannot reserve just go on. */
    if (bytes && fallocate(p->fd, 0, 0, (off_t)bytes) != 0
        && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG || ftruncate(p->fd, (off_t)bytes) != 0))
        return io_error(p, "write", err);
    return STRETTO_OK;
}

stretto_status part_put(struct part *p, uint64_t at, const void *bytes, size_t n, struct error *err)
{
    return file_put_at(p->fd, bytes, n, at) ? STRETTO_OK : io_error(p, "write", err);
}

stretto_status part_sync(struct part *p, struct error *err)
{
    return fdatasync(p->fd) == 0 ? STRETTO_OK : io_error(p, "write", err);
}

stretto_status part_finish(struct part *p, struct error *err)
{
    if (fsync(p->fd) != 0) return io_error(p, "write", err);
    /* Whoever put a file there meanwhile keeps it, unless replacing was asked for. */
    int moved = -1;
    if (!p->force) {
        moved = renameat2(AT_FDCWD, p->part, AT_FDCWD, p->path, RENAME_NOREPLACE);
        if (moved != 0 && errno == EEXIST)
            return fail(err, STRETTO_E_ARG, "%s appeared meanwhile; --force replaces it", p->path);
    }
    if (moved != 0 && (p->force || errno == EINVAL || errno == ENOSYS)) moved = rename(p->part, p->path);
    if (moved != 0) return io_error(p, "name", err);
    p->begun = false;
    return STRETTO_OK;
}

void part_leave(struct part *p)
{
    p->begun = false;
    part_close(p);
}

void part_close(struct part *p)
{
    if (p->begun) unlink(p->part);
    if (p->fd >= 0) close(p->fd);
    mem_free(p->path);
    mem_free(p->part);
    *p = (struct part){ .fd = -1 };
}
