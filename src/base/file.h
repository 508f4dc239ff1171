/* Whole files mapped read-only (lifetime: file). */
#ifndef BASE_FILE_H
#define BASE_FILE_H
#include "base/status.h"

struct file_map { const unsigned char *data; size_t size; };

/* An empty file maps to size 0 and data NULL. Directories and pipes are refused. */
stretto_status file_map_open(struct file_map *m, const char *path, struct error *err);
void file_map_close(struct file_map *m);
/* Tells the kernel that [at, at + n) of the map will not be read again soon. */
void file_map_release(const void *at, size_t n);
#endif
