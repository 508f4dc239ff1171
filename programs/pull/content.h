/* What arrived under the name of a model, seen by its first bytes: servers answer with pages of HTML, with
 * words in JSON and with pointers of git-lfs where a file was asked for. */
#ifndef PULL_CONTENT_H
#define PULL_CONTENT_H
#include "base/status.h"

enum { CONTENT_HEAD = 512 };

/* OK, or E_FORMAT and what it is instead. name: of the file; head: its first bytes, at most CONTENT_HEAD;
 * size: of all of it. */
stretto_status content_check(const char *name, const unsigned char *head, size_t n, uint64_t size,
                             struct error *err);
#endif
