#include "pull/part.h"
#include "base/buffer.h"
#include "base/memory.h"
#include "models/catalogue.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 1 << 18, MAX_INFO = 2048 };

static void to_hex(const unsigned char sum[crypto_hash_sha256_BYTES], char hex[65])
{
    sodium_bin2hex(hex, 65, sum, crypto_hash_sha256_BYTES);
}

void sha256_text(const char *s, char hex[65])
{
    unsigned char sum[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(sum, (const unsigned char *)s, strlen(s));
    to_hex(sum, hex);
}

/* Hashes from the file's position to its end; *bytes counts them. */
static stretto_status hash_fd(int fd, const char *path, const char *what,
                              const struct progress *progress, const volatile int *stop,
                              crypto_hash_sha256_state *sha, uint64_t *bytes, struct error *err)
{
    struct stat st;
    uint64_t size = fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
    unsigned char *block = mem_alloc(BLOCK);
    if (!block) return fail(err, STRETTO_E_NOMEM, "no memory to read %s", path);
    stretto_status s = STRETTO_OK;
    crypto_hash_sha256_init(sha);
    for (*bytes = 0; s == STRETTO_OK;) {
        ssize_t n = read(fd, block, BLOCK);
        if (n == 0) break;
        if (n < 0 && errno == EINTR) n = 0;
        if (n < 0) s = fail(err, STRETTO_E_IO, "cannot read %s: %s", path, strerror(errno));
        else if (*stop) s = fail(err, STRETTO_E_CANCEL, "interrupted");
        else {
            crypto_hash_sha256_update(sha, block, (unsigned long long)n);
            *bytes += (uint64_t)n;
            progress_tell(progress, what, *bytes, size > *bytes ? size : *bytes);
        }
    }
    mem_free(block);
    return s;
}

stretto_status sha256_file(const char *path, const char *what, const struct progress *progress,
                           const volatile int *stop, char hex[65], struct error *err)
{
    crypto_hash_sha256_state sha;
    unsigned char sum[crypto_hash_sha256_BYTES];
    uint64_t bytes;
    hex[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail(err, STRETTO_E_IO, "cannot read %s: %s", path, strerror(errno));
    stretto_status s = hash_fd(fd, path, what, progress, stop, &sha, &bytes, err);
    close(fd);
    if (s != STRETTO_OK) return s;
    crypto_hash_sha256_final(&sha, sum);
    to_hex(sum, hex);
    return STRETTO_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

static stretto_status make_folders(const char *final, struct error *err)
{
    char *path = mem_strdup(final);
    if (!path) return fail(err, STRETTO_E_NOMEM, "no memory for a path");
    stretto_status s = STRETTO_OK;
    for (char *p = path + 1; s == STRETTO_OK && (p = strchr(p, '/')); p++) {
        *p = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            s = fail(err, STRETTO_E_IO, "cannot make the folder %s: %s; choose another with --into",
                     path, strerror(errno));
        *p = '/';
    }
    mem_free(path);
    return s;
}

/* The lock is a file of its own because FINAL.part is renamed; it is removed by its holder, so one
 * that was opened before that must be looked at again. */
static stretto_status take_lock(struct part *p, const volatile int *stop,
                                void (*waiting)(const char *final), struct error *err)
{
    for (bool said = false;;) {
        if (*stop) return fail(err, STRETTO_E_CANCEL, "interrupted");
        int fd = open(p->lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (fd < 0)
            return fail(err, STRETTO_E_IO,
                        "cannot write into the folder of %s: %s; choose another with "
                        "--into",
                        p->final, strerror(errno));
        struct stat held, there;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            if (fstat(fd, &held) == 0 && stat(p->lock, &there) == 0 && held.st_ino == there.st_ino
                    && held.st_dev == there.st_dev) {
                p->lock_fd = fd;
                return STRETTO_OK;
            }
            close(fd);
            continue;
        }
        int cause = errno;
        close(fd);
        if (cause != EWOULDBLOCK && cause != EINTR)
            return fail(err, STRETTO_E_IO, "cannot lock %s: %s", p->lock, strerror(cause));
        if (!said && waiting) waiting(p->final);
        said = true;
        nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, NULL);
    }
}

static bool after(char *line, const char *key, char *out, size_t cap)
{
    size_t n = strlen(key);
    if (strncmp(line, key, n) != 0 || strlen(line + n) >= cap) return false;
    strcpy(out, line + n);
    return true;
}

/* What an earlier run noted. Anything odd in it counts as nothing known. */
static void read_info(struct part *p)
{
    char text[MAX_INFO + 1], number[24] = "";
    p->source[0] = p->validator[0] = '\0';
    p->total = 0;
    int fd = open(p->info, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return;
    ssize_t n = read(fd, text, MAX_INFO);
    close(fd);
    if (n <= 0) return;
    text[n] = '\0';
    if (strlen(text) != (size_t)n || text[n - 1] != '\n' ||
        strncmp(text, "stretto partial 1\n", 18) != 0)
        return;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (after(line, "source ", p->source, sizeof p->source)) continue;
        if (after(line, "validator ", p->validator, sizeof p->validator)) continue;
        if (after(line, "total ", number, sizeof number)) p->total = strtoull(number, NULL, 10);
    }
}

static char *with(const char *final, const char *ending)
{
    struct buffer b = buffer_make(CATALOGUE_MAX_PATH);
    if (buffer_str(&b, final) == STRETTO_OK && buffer_str(&b, ending) == STRETTO_OK) return b.data;
    buffer_done(&b);
    return NULL;
}

static stretto_status open_part(struct part *p, const volatile int *stop,
                                const struct progress *progress, struct error *err)
{
    struct stat st;
    p->fd = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (p->fd < 0 || fstat(p->fd, &st) != 0)
        return fail(err, STRETTO_E_IO, "cannot write %s: %s", p->path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return fail(err, STRETTO_E_IO, "%s is not a regular file: remove it", p->path);
    read_info(p);
    return hash_fd(p->fd, p->path, "checking what is there", progress, stop, &p->sha, &p->have,
                   err);
}

stretto_status part_open(struct part *p, const char *final, const volatile int *stop,
                         void (*waiting)(const char *final), const struct progress *progress,
                         struct error *err)
{
    *p = (struct part){ .fd = -1, .lock_fd = -1 };
    p->final = mem_strdup(final);
    p->path = with(final, ".part");
    p->info = with(final, ".info");
    p->lock = with(final, ".lock");
    stretto_status s = STRETTO_OK;
    if (!p->final || !p->path || !p->info || !p->lock)
        s = fail(err, STRETTO_E_NOMEM, "no memory for a path, or it is too long: %.200s", final);
    if (s == STRETTO_OK) s = make_folders(final, err);
    if (s == STRETTO_OK) s = take_lock(p, stop, waiting, err);
    if (s == STRETTO_OK) s = open_part(p, stop, progress, err);
    if (s != STRETTO_OK) part_close(p);
    return s;
}

void part_close(struct part *p)
{
    /* Only under the lock: without it the files may be somebody else's. */
    if (p->lock_fd >= 0) {
        struct stat st;
        if (p->fd >= 0 && fstat(p->fd, &st) == 0 && st.st_size == 0) {
            unlink(p->path);
            unlink(p->info);
        }
        unlink(p->lock);
        close(p->lock_fd);
    }
    if (p->fd >= 0) close(p->fd);
    mem_free(p->final);
    mem_free(p->path);
    mem_free(p->info);
    mem_free(p->lock);
    *p = (struct part){ .fd = -1, .lock_fd = -1 };
}

/* ---- bytes ----------------------------------------------------------------------------------- */

stretto_status part_restart(struct part *p, struct error *err)
{
    if (ftruncate(p->fd, 0) != 0 || lseek(p->fd, 0, SEEK_SET) != 0)
        return fail(err, STRETTO_E_IO, "cannot empty %s: %s", p->path, strerror(errno));
    unlink(p->info);
    p->have = p->total = 0;
    p->source[0] = p->validator[0] = '\0';
    crypto_hash_sha256_init(&p->sha);
    return STRETTO_OK;
}

static stretto_status write_failed(const struct part *p, const char *path, struct error *err)
{
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
        return fail(err, STRETTO_E_IO,
                    "%s: %s. What arrived is kept in %s: free some space and run the "
                    "same command again, or remove that file and choose another folder with --into",
                    errno == EFBIG    ? "the file is larger than this system or its limits allow"
                    : errno == EDQUOT ? "the disk quota is used up"
                                      : "the disk is full",
                    strerror(errno), p->path);
    return fail(err, STRETTO_E_IO, "cannot write %s: %s", path, strerror(errno));
}

stretto_status part_write(struct part *p, const void *data, size_t n, struct error *err)
{
    const unsigned char *at = data;
    while (n) {
        ssize_t k = write(p->fd, at, n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return write_failed(p, p->path, err);
        crypto_hash_sha256_update(&p->sha, at, (unsigned long long)k);
        p->have += (uint64_t)k;
        at += k;
        n -= (size_t)k;
    }
    return STRETTO_OK;
}

stretto_status part_note(struct part *p, const char *source, const char *validator, uint64_t total,
                         struct error *err)
{
    char text[MAX_INFO];
    snprintf(p->source, sizeof p->source, "%s", source);
    snprintf(p->validator, sizeof p->validator, "%s", validator);
    p->total = total;
    int n = snprintf(text, sizeof text, "stretto partial 1\nsource %s\nvalidator %s\ntotal %llu\n",
                     p->source, p->validator, (unsigned long long)total);
    unlink(p->info);
    int fd = open(p->info, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return fail(err, STRETTO_E_IO, "cannot write %s: %s", p->info, strerror(errno));
    ssize_t k = write(fd, text, (size_t)n);
    int cause = errno;
    close(fd);
    if (k == n) return STRETTO_OK;
    unlink(p->info);
    errno = k < 0 ? cause : ENOSPC;
    return write_failed(p, p->info, err);
}

uint64_t part_room(const struct part *p)
{
    struct statvfs v;
    if (fstatvfs(p->fd, &v) != 0 || v.f_blocks == 0) return UINT64_MAX;
    return (uint64_t)v.f_bavail * v.f_frsize;
}

void part_sha256(const struct part *p, char hex[65])
{
    unsigned char sum[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_state copy = p->sha;
    crypto_hash_sha256_final(&copy, sum);
    to_hex(sum, hex);
}

stretto_status part_finish(struct part *p, struct error *err)
{
    if (fsync(p->fd) != 0) return write_failed(p, p->path, err);
    if (rename(p->path, p->final) != 0)
        return fail(err, STRETTO_E_IO, "cannot rename %s to %s: %s", p->path, p->final,
                    strerror(errno));
    unlink(p->info);
    close(p->fd);
    p->fd = -1;
    /* The new name must survive a power cut too; a file system that cannot promise it is no error.
     */
    char *copy = mem_strdup(p->final);
    int dir = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dir >= 0) {
        fsync(dir);
        close(dir);
    }
    mem_free(copy);
    return STRETTO_OK;
}
