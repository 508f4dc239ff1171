/* Whole files: mapped read-only (lifetime: file), or replaced. */
#ifndef BASE_FILE_H
#define BASE_FILE_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct file_map { const unsigned char *data; size_t size; };

/* An empty file maps to size 0 and data NULL. Directories and pipes are refused. */
stretto_status file_map_open(struct file_map *m, const char *path, struct error *err);
void file_map_close(struct file_map *m);
/* Tells the kernel that [at, at + n) of the map will not be read again soon. */
void file_map_release(const void *at, size_t n);

/* Something is there that is no regular file: a folder, a pipe, or a device, which root could rename over. */
bool file_is_other(const char *path);
/* All n bytes from or to a place in a file; false: see errno, 0 behind the end. */
bool file_get_at(int fd, void *to, size_t n, uint64_t at);
bool file_put_at(int fd, const void *from, size_t n, uint64_t at);

/* Makes `path` a file of these bytes, for its owner alone, in one step: whoever reads it sees the old
 * one or the new one. What is there and no regular file (E_IO) stays. */
stretto_status file_replace(const char *path, const void *data, size_t n, struct error *err);
/* The same with the permissions of any new file, for what a person asked to be written. A file that is
 * there is left alone (E_ARG) unless `replace`; what is no regular file (/dev/null) is written to. */
stretto_status file_write(const char *path, const void *data, size_t n, bool replace, struct error *err);
#endif
