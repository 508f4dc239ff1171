#include "base/file.h"
#include "base/buffer.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

stretto_status file_map_open(struct file_map *m, const char *path, struct error *err)
{
    *m = (struct file_map){ 0 };
    /* Opening a pipe would wait for somebody who writes into it. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) return fail(err, STRETTO_E_IO, "cannot open %s: %s", path, strerror(errno));
    struct stat st;
    stretto_status s = STRETTO_OK;
    if (fstat(fd, &st) != 0)
        s = fail(err, STRETTO_E_IO, "cannot read %s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        s = fail(err, STRETTO_E_IO, "%s is %s; it is mapped into memory, so it must be a regular file", path,
                 S_ISFIFO(st.st_mode) ? "a pipe: save what comes through it to a file and name that"
                 : S_ISDIR(st.st_mode) ? "a folder" : "a device");
    else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            s = fail(err, STRETTO_E_IO, "cannot map %s: %s", path, strerror(errno));
        else
            *m = (struct file_map){ p, (size_t)st.st_size };
    }
    close(fd);
    return s;
}

void file_map_close(struct file_map *m)
{
    if (m->data) munmap((void *)(uintptr_t)m->data, m->size);
    *m = (struct file_map){ 0 };
}

void file_map_release(const void *at, size_t n)
{
    long page = sysconf(_SC_PAGESIZE);
    uintptr_t size = page > 0 ? (uintptr_t)page : 4096;
    uintptr_t from = ((uintptr_t)at + size - 1) & ~(size - 1);
    uintptr_t to = ((uintptr_t)at + n) & ~(size - 1);
    if (from < to) madvise((void *)from, to - from, MADV_DONTNEED);
}

bool file_is_other(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISREG(st.st_mode);
}

bool file_get_at(int fd, void *to, size_t n, uint64_t at)
{
    for (unsigned char *p = to; n;) {
        errno = 0;
        ssize_t k = pread(fd, p, n, (off_t)at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return false;
        p += k;
        at += (uint64_t)k;
        n -= (size_t)k;
    }
    return true;
}

bool file_put_at(int fd, const void *from, size_t n, uint64_t at)
{
    for (const unsigned char *p = from; n;) {
        errno = 0;
        ssize_t k = pwrite(fd, p, n, (off_t)at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return false;
        p += k;
        at += (uint64_t)k;
        n -= (size_t)k;
    }
    return true;
}

static bool write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return false;
        p += k;
        n -= (size_t)k;
    }
    return fsync(fd) == 0;
}

stretto_status file_replace(const char *path, const void *data, size_t n, struct error *err)
{
    if (file_is_other(path))
        return fail(err, STRETTO_E_IO, "%s is no regular file and is not replaced", path);
    struct buffer name = buffer_make(1 << 16);
    char *real = realpath(path, NULL);                      /* a link stays one */
    const char *target = real ? real : path;
    stretto_status s = buffer_printf(&name, "%s.XXXXXX", target);
    if (s != STRETTO_OK) {
        free(real);
        return fail(err, s, "the name of the file is too long");
    }
    int fd = mkostemp(name.data, O_CLOEXEC);
    bool ok = fd >= 0 && write_all(fd, data, n);
    if (fd >= 0 && close(fd) != 0) ok = false;
    if (!ok || rename(name.data, target) != 0) {
        s = fail(err, STRETTO_E_IO, "cannot write %s: %s", path, strerror(errno));
        if (fd >= 0) unlink(name.data);
    }
    free(real);
    buffer_done(&name);
    return s;
}

static stretto_status write_into(const char *path, const void *data, size_t n, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    const char *p = data;
    bool ok = fd >= 0;
    while (ok && n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if ((ok = k > 0)) p += k, n -= (size_t)k;
    }
    if (fd >= 0 && close(fd) != 0) ok = false;
    return ok ? STRETTO_OK : fail(err, STRETTO_E_IO, "cannot write %s: %s", path, strerror(errno));
}

/* A link fails where the name is taken; file systems without links get the name as well as they can. */
static bool give_name(const char *part, const char *path, bool replace)
{
    if (replace) return rename(part, path) == 0;
    if (link(part, path) == 0) return unlink(part) == 0;
    return errno != EEXIST && access(path, F_OK) != 0 && rename(part, path) == 0;
}

stretto_status file_write(const char *path, const void *data, size_t n, bool replace, struct error *err)
{
    struct stat st;
    bool there = stat(path, &st) == 0;
    if (there && !S_ISREG(st.st_mode)) return write_into(path, data, n, err);
    if (there && !replace)
        return fail(err, STRETTO_E_ARG, "%s is there already; --force replaces it", path);
    char *real = realpath(path, NULL);
    const char *target = real ? real : path;
    struct buffer part = buffer_make(1 << 16);
    stretto_status s = buffer_printf(&part, "%s.%ld.part", target, (long)getpid());
    if (s != STRETTO_OK) {
        free(real);
        return fail(err, s, "no memory for writing %s", path);
    }
    int fd = open(part.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    bool ok = fd >= 0 && write_all(fd, data, n);
    if (ok && there) fchmod(fd, st.st_mode & 07777);
    if (fd >= 0 && close(fd) != 0) ok = false;
    if (!ok || !give_name(part.data, target, replace)) {
        s = fail(err, errno == EEXIST ? STRETTO_E_ARG : STRETTO_E_IO, "cannot write %s: %s", path,
                 strerror(errno));
        if (fd >= 0) unlink(part.data);
    }
    free(real);
    buffer_done(&part);
    return s;
}
