#include "serve/shelf.h"
#include "base/clock.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const double AGAIN = 1;         /* seconds between two looks */

/* Whoever writes it has it locked. */
static bool is_left(int folder, const char *name)
{
    size_t n = strlen(name);
    if (n <= 5 || strcmp(name + n - 5, ".part") != 0) return false;
    int fd = openat(folder, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    bool left = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (fd >= 0) close(fd);
    return left;
}

static void look(struct shelf *s, bool tidy)
{
    struct stat st;
    DIR *dir = opendir(s->folder);
    if (stat(s->folder, &st) == 0) s->changed = st.st_mtim;
    s->taken = 0;
    s->looked = clock_seconds();
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) continue;
        if (tidy && is_left(dirfd(dir), e->d_name) && unlinkat(dirfd(dir), e->d_name, 0) == 0) continue;
        s->taken += (uint64_t)st.st_size;
    }
    if (dir) closedir(dir);
}

void shelf_open(struct shelf *s, const char *folder, uint64_t most)
{
    *s = (struct shelf){ .folder = folder, .most = most };
    pthread_mutex_init(&s->lock, NULL);
    if (folder) look(s, true);
}

/* By whoever runs the server too. */
static bool is_changed(const struct shelf *s)
{
    struct stat st;
    return stat(s->folder, &st) == 0
           && (st.st_mtim.tv_sec != s->changed.tv_sec || st.st_mtim.tv_nsec != s->changed.tv_nsec);
}

void shelf_close(struct shelf *s) { pthread_mutex_destroy(&s->lock); }

stretto_status shelf_take(void *shelf, const char *path, uint64_t bytes, struct error *err)
{
    struct shelf *s = shelf;
    struct stat st;
    uint64_t old = stat(path, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    stretto_status status = STRETTO_OK;
    pthread_mutex_lock(&s->lock);
    if (clock_seconds() - s->looked >= AGAIN && is_changed(s)) look(s, false);
    uint64_t after = (s->taken > old ? s->taken - old : 0) + bytes;
    if (after > s->most && after > s->taken)
        status = fail(err, STRETTO_E_IO, "the saved texts take %llu MB and this one %llu KB, and %llu MB are the most "
                      "here (--cache-disk-size): whoever runs this server can remove some",
                      (unsigned long long)(s->taken >> 20), (unsigned long long)(bytes >> 10),
                      (unsigned long long)(s->most >> 20));
    else s->taken = after;
    pthread_mutex_unlock(&s->lock);
    return status;
}
