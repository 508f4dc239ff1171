#include "serve/shelf.h"
#include "base/clock.h"
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const double AGAIN = 1;         /* seconds between two looks */

static bool is_part(const char *name)
{
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".part") == 0;
}

/* Whoever writes it has it locked. */
static bool is_left(int folder, const char *name)
{
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
    s->files = 0;
    s->looked = clock_seconds();
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) continue;
        if (!is_part(e->d_name)) s->files += st.st_size;
        else if (tidy && is_left(dirfd(dir), e->d_name)) unlinkat(dirfd(dir), e->d_name, 0);
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

stretto_status shelf_take(void *shelf, const char *path, uint64_t bytes, int64_t *note, struct error *err)
{
    struct shelf *s = shelf;
    struct stat st;
    int64_t old = stat(path, &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : 0;
    stretto_status status = STRETTO_OK;
    *note = (int64_t)bytes - old;
    pthread_mutex_lock(&s->lock);
    if (clock_seconds() - s->looked >= AGAIN && is_changed(s)) look(s, false);
    int64_t taken = s->files + s->coming;
    if (*note > 0 && taken + *note > (int64_t)s->most)
        status = fail(err, STRETTO_E_IO, "the saved texts take %lld MB and this one %llu KB, and %llu MB are the most "
                      "here (--cache-disk-size): whoever runs this server can remove some", (long long)(taken >> 20),
                      (unsigned long long)(bytes >> 10), (unsigned long long)(s->most >> 20));
    else s->coming += *note;
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* Whether the last look saw the file or the one before it, nobody knows: the next one will. */
void shelf_done(void *shelf, int64_t note, bool whole)
{
    struct shelf *s = shelf;
    pthread_mutex_lock(&s->lock);
    s->coming -= note;
    if (whole) s->files += note;
    s->changed = (struct timespec){ .tv_sec = 0 };
    pthread_mutex_unlock(&s->lock);
}
