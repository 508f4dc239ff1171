/* What an interrupted pass has written whole, in a small file beside it: lines of text, appended one by one. The
 * first names the pass by a number, every other one a tensor by its number and the hash of its bytes, so that
 * nothing is believed that the file does not show. */
#ifndef COMPRESS_JOURNAL_H
#define COMPRESS_JOURNAL_H
#include "base/buffer.h"
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

struct journal { char *path; int fd; };

/* Which tensors of n are listed, with the hashes of their bytes: listed[i] 1. What is no line of a journal ends
 * the reading; the answer is how many bytes made sense. 0: it is another pass's journal, or none. */
size_t journal_parse(const char *text, size_t size, uint64_t pass, size_t n, unsigned char *listed, uint64_t *hash);

/* The file's text, where it is one of a reasonable size; empty otherwise. */
stretto_status journal_read(const char *path, struct buffer *text, struct error *err);
/* Goes on behind the first `keep` bytes. 0: nothing is listed from now on, and that is on the disk when this
 * returns. */
stretto_status journal_open(struct journal *j, const char *path, size_t keep, uint64_t pass, struct error *err);
stretto_status journal_add(struct journal *j, size_t i, uint64_t hash, struct error *err);
/* remove: the file goes too. */
void journal_close(struct journal *j, bool remove);
#endif
