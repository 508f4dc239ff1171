#include "base/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

stretto_status file_map_open(struct file_map *m, const char *path, struct error *err)
{
    *m = (struct file_map){ 0 };
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) return fail(err, STRETTO_E_IO, "cannot open %s: %s", path, strerror(errno));
    struct stat st;
    stretto_status s = STRETTO_OK;
    if (fstat(fd, &st) != 0)
        s = fail(err, STRETTO_E_IO, "cannot read %s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        s = fail(err, STRETTO_E_IO, "%s is not a regular file", path);
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
