/* API keys: SHA-256 digests of them, all compared, in constant time. */
#ifndef SERVE_KEYS_H
#define SERVE_KEYS_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

enum { KEY_DIGEST = 32, KEYS_MOST = 10000, KEY_BYTES = 4096 };
struct keys { unsigned char (*digest)[KEY_DIGEST]; size_t n; };

/* Keys by commas in `list` (NULL: none) and by lines in the file (NULL: none; # begins a comment). On failure
 * *k is as it was. */
stretto_status keys_read(struct keys *k, const char *list, const char *path, struct error *err);
void keys_done(struct keys *k);
/* Whether it is one; digest gets what the key is told apart by. */
bool keys_have(const struct keys *k, const char *key, unsigned char digest[KEY_DIGEST]);
#endif
