/* A file is: 8 bytes of magic, the key (2 u64), u64 bytes of the image, the image, u64 check of all before;
 * numbers are little-endian. Its name is the key. */
#include "backend/gpu/kept.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/reader.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const unsigned char magic[8] = { 's', 't', 'r', 'k', 'e', 'p', 't', '1' };

/* ---- keys and bytes ------------------------------------------------------------------------- */

static uint64_t mix(uint64_t h, const void *data, size_t n, uint64_t by)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ p[i]) * by;
        h ^= h >> 29;
    }
    return h;
}

static const uint64_t multiplier[2] = { 0x9E3779B97F4A7C15U, 0xC2B2AE3D27D4EB4FU };

uint64_t kept_check(const void *data, size_t n) { return mix(n, data, n, multiplier[0]); }

struct kept_key kept_key_of(const char *const *identity)
{
    struct kept_key k = { { 1, 2 } };
    for (; *identity; identity++)
        for (int i = 0; i < 2; i++)        /* with its NUL: "ab", "c" is not "a", "bc" */
            k.word[i] = mix(k.word[i], *identity, strlen(*identity) + 1, multiplier[i]);
    return k;
}

bool kept_read(const void *file, size_t n, struct kept_key key, size_t *at, size_t *bytes)
{
    const unsigned char *p = file;
    if (n < KEPT_HEADER + KEPT_FOOTER || memcmp(p, magic, sizeof magic)) return false;
    struct reader r = { .p = p + sizeof magic, .end = p + n }, last = { .p = p + n - KEPT_FOOTER, .end = p + n };
    for (int i = 0; i < 2; i++)
        if (read_u64(&r) != key.word[i]) return false;
    uint64_t size = read_u64(&r);
    if (r.bad || size == 0 || size != n - KEPT_HEADER - KEPT_FOOTER) return false;
    if (read_u64(&last) != kept_check(p, n - KEPT_FOOTER)) return false;
    *at = KEPT_HEADER;
    *bytes = (size_t)size;
    return true;
}

static stretto_status add(struct buffer *b, uint64_t v)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(v >> 8 * i);
    return buffer_append(b, bytes, sizeof bytes);
}

static stretto_status file_of(struct buffer *b, struct kept_key key, const void *image, size_t bytes)
{
    TRY(buffer_append(b, magic, sizeof magic));
    TRY(add(b, key.word[0]));
    TRY(add(b, key.word[1]));
    TRY(add(b, bytes));
    TRY(buffer_append(b, image, bytes));
    return add(b, kept_check(b->data, b->len));
}

/* ---- the folder ----------------------------------------------------------------------------- */

enum { PATH_BYTES = 1024, NAME_BYTES = 32 };

/* A home that is not there is none of ours to make: system users have such a one, on purpose. */
static bool folder_of(char out[PATH_BYTES])
{
    const char *own = getenv("STRETTO_KERNELS"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (own) n = *own ? snprintf(out, PATH_BYTES, "%s", own) : -1;
    else if (cache && *cache == '/') n = snprintf(out, PATH_BYTES, "%s/stretto/kernels", cache);
    else if (home && *home == '/' && access(home, F_OK) == 0)
        n = snprintf(out, PATH_BYTES, "%s/.cache/stretto/kernels", home);
    return n > 0 && n < PATH_BYTES - NAME_BYTES - 16;
}

static bool path_of(char out[PATH_BYTES], struct kept_key key)
{
    if (!folder_of(out)) return false;
    size_t n = strlen(out);
    snprintf(out + n, PATH_BYTES - n, "/%016llx%016llx", (unsigned long long)key.word[0],
             (unsigned long long)key.word[1]);
    return true;
}

/* Makes the folder and those above it, for their owner alone. */
static bool folder_make(char *path)
{
    for (char *at = path + 1; *at; at++) {
        if (*at != '/') continue;
        *at = '\0';
        bool there = mkdir(path, 0700) == 0 || errno == EEXIST;
        *at = '/';
        if (!there) return false;
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

struct file { char name[NAME_BYTES + 8]; off_t size; struct timespec used; };

/* A file of ours, or one that somebody did not finish. */
static bool is_ours(const char *name)
{
    size_t n = strspn(name, "0123456789abcdef");
    return n == NAME_BYTES && (name[n] == '\0' || (name[n] == '.' && strlen(name + n) == 7));
}

static int older_first(const void *a, const void *b)
{
    const struct timespec *x = &((const struct file *)a)->used, *y = &((const struct file *)b)->used;
    if (x->tv_sec != y->tv_sec) return x->tv_sec < y->tv_sec ? -1 : 1;
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

void kept_prune(const char *folder, uint64_t most)
{
    enum { FILES = 4096 };
    struct file *f = mem_alloc(FILES * sizeof *f);
    DIR *d = f ? opendir(folder) : NULL;
    size_t n = 0;
    uint64_t all = 0;
    for (struct dirent *x; d && n < FILES && (x = readdir(d));) {
        struct stat st;
        if (!is_ours(x->d_name) || fstatat(dirfd(d), x->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
        memcpy(f[n].name, x->d_name, strlen(x->d_name) + 1);
        f[n].size = st.st_size;
        f[n++].used = st.st_mtim;
        all += (uint64_t)st.st_size;
    }
    if (n) qsort(f, n, sizeof *f, older_first);
    for (size_t i = 0; i < n && all > most; i++) {
        if (unlinkat(dirfd(d), f[i].name, 0) != 0) continue;
        all -= (uint64_t)f[i].size;
    }
    if (d) closedir(d);
    mem_free(f);
}

/* ---- find and store ------------------------------------------------------------------------- */

/* All of a file that nobody else can have written: code goes from here to the card. */
static unsigned char *read_own(int fd, size_t *n)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022) ||
        st.st_size <= 0 || st.st_size > KEPT_MOST + KEPT_HEADER + KEPT_FOOTER)
        return NULL;
    unsigned char *p = mem_alloc((size_t)st.st_size);
    for (*n = 0; p && *n < (size_t)st.st_size;) {
        ssize_t k = read(fd, p + *n, (size_t)st.st_size - *n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) break;                      /* it was cut meanwhile: the check fails */
        *n += (size_t)k;
    }
    return p;
}

bool kept_find(const char *const *identity, void **image, size_t *bytes)
{
    struct kept_key key = kept_key_of(identity);
    char path[PATH_BYTES];
    size_t n = 0, at;
    *image = NULL;
    *bytes = 0;
    int fd = path_of(path, key) ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW) : -1;
    if (fd < 0) return false;
    unsigned char *file = read_own(fd, &n);
    bool found = file && kept_read(file, n, key, &at, bytes);
    if (found) {
        futimens(fd, NULL);                     /* used now; where that fails it goes a little earlier */
        memmove(file, file + at, *bytes);
        *image = file;
    } else mem_free(file);
    close(fd);
    return found;
}

void kept_store(const char *const *identity, const void *image, size_t bytes)
{
    struct kept_key key = kept_key_of(identity);
    struct buffer b = buffer_make(KEPT_MOST + KEPT_HEADER + KEPT_FOOTER);
    char folder[PATH_BYTES], path[PATH_BYTES];
    if (!bytes || bytes > KEPT_MOST || !folder_of(folder) || !path_of(path, key) || !folder_make(folder)) return;
    if (file_of(&b, key, image, bytes) == STRETTO_OK && file_replace(path, b.data, b.len, NULL) == STRETTO_OK)
        kept_prune(folder, KEPT_BYTES);
    buffer_done(&b);
}
