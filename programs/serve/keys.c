#include "serve/keys.h"
#include "base/file.h"
#include "base/memory.h"
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

static stretto_status add(struct keys *k, const char *p, size_t n, struct error *err)
{
    while (n && (p[n - 1] == '\r' || p[n - 1] == ' ' || p[n - 1] == '\t')) n--;
    while (n && (*p == ' ' || *p == '\t')) { p++; n--; }
    if (!n) return STRETTO_OK;
    if (n > KEY_BYTES) return fail(err, STRETTO_E_ARG, "an API key is longer than %d bytes", (int)KEY_BYTES);
    if (k->n == KEYS_MOST) return fail(err, STRETTO_E_ARG, "there are more than %d API keys", (int)KEYS_MOST);
    void *more = mem_resize(k->digest, (k->n + 1) * sizeof *k->digest);
    if (!more) return fail(err, STRETTO_E_NOMEM, "no memory for API keys");
    k->digest = more;
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, p, n, k->digest[k->n]) < 0)
        return fail(err, STRETTO_E_UNSUP, "GnuTLS has no SHA-256 here");
    k->n++;
    return STRETTO_OK;
}

static stretto_status add_all(struct keys *k, const char *p, size_t n, char separator, struct error *err)
{
    for (size_t at = 0; at < n;) {
        const char *end = memchr(p + at, separator, n - at);
        size_t len = end ? (size_t)(end - p) - at : n - at;
        if (separator != '\n' || p[at] != '#') TRY(add(k, p + at, len, err));
        at += len + 1;
    }
    return STRETTO_OK;
}

static stretto_status add_file(struct keys *k, const char *path, struct error *err)
{
    struct file_map m;
    TRY(file_map_open(&m, path, err));
    stretto_status s = m.size > 1 << 22 ? fail(err, STRETTO_E_ARG, "%s is too large for a file of keys", path)
                                        : add_all(k, (const char *)m.data, m.size, '\n', err);
    file_map_close(&m);
    return s;
}

stretto_status keys_read(struct keys *k, const char *list, const char *path, struct error *err)
{
    struct keys fresh = { 0 };
    stretto_status s = list ? add_all(&fresh, list, strlen(list), ',', err) : STRETTO_OK;
    if (s == STRETTO_OK && path) s = add_file(&fresh, path, err);
    if (s == STRETTO_OK && (list || path) && !fresh.n)
        s = fail(err, STRETTO_E_ARG, "there is no key in %s", path ? path : "--api-key");
    if (s != STRETTO_OK) {
        keys_done(&fresh);
        return s;
    }
    keys_done(k);
    *k = fresh;
    return STRETTO_OK;
}

void keys_done(struct keys *k)
{
    if (k->digest) gnutls_memset(k->digest, 0, k->n * sizeof *k->digest);
    mem_free(k->digest);
    *k = (struct keys){ 0 };
}

bool keys_have(const struct keys *k, const char *key, unsigned char digest[KEY_DIGEST])
{
    unsigned found = 0;
    size_t n = strlen(key);
    memset(digest, 0, KEY_DIGEST);
    if (n > KEY_BYTES || gnutls_hash_fast(GNUTLS_DIG_SHA256, key, n, digest) < 0) return false;
    for (size_t i = 0; i < k->n; i++) found |= gnutls_memcmp(k->digest[i], digest, KEY_DIGEST) == 0;
    return found != 0;
}
