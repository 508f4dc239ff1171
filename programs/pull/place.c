#include "pull/place.h"
#include "models/catalogue.h"
#include "models/hub_name.h"
#include <ctype.h>
#include <curl/curl.h>
#include <string.h>

/* ---- addresses ------------------------------------------------------------------------------- */

stretto_status url_escape(struct buffer *out, const char *s, bool slashes)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if ((c < 0x80 && isalnum(c)) || strchr("-._~", c) || (slashes && c == '/'))
            TRY(buffer_append(out, s, 1));
        else
            TRY(buffer_printf(out, "%%%02X", c));
    }
    return STRETTO_OK;
}

void url_show(char *buf, size_t cap, const char *url)
{
    snprintf(buf, cap, "%.*s", (int)strcspn(url, "?#"), url);
    for (char *p = buf; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
}

bool url_is_https(const char *url) { return strncmp(url, "https://", 8) == 0; }

/* One part of an address in `buf`, "" when it has none. */
static void url_part(CURLU *u, CURLUPart part, unsigned flags, char *buf, size_t cap)
{
    char *s = NULL;
    *buf = '\0';
    if (curl_url_get(u, part, &s, flags) == CURLUE_OK) snprintf(buf, cap, "%s", s);
    curl_free(s);
}

static bool is_this_machine(const char *host)
{
    if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 || strcmp(host, "::1") == 0)
        return true;
    /* 127.x.y.z as an address, not a name that merely begins so. */
    return strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == strlen(host);
}

stretto_status url_check(const char *url, struct error *err)
{
    char scheme[16], host[300], user[8], password[8], shown[200];
    url_show(shown, sizeof shown, url);
    CURLU *u = curl_url();
    if (!u) return fail(err, STRETTO_E_NOMEM, "no memory for an address");
    CURLUcode code = curl_url_set(u, CURLUPART_URL, url, 0);
    url_part(u, CURLUPART_SCHEME, 0, scheme, sizeof scheme);
    url_part(u, CURLUPART_HOST, 0, host, sizeof host);
    url_part(u, CURLUPART_USER, 0, user, sizeof user);
    url_part(u, CURLUPART_PASSWORD, 0, password, sizeof password);
    curl_url_cleanup(u);
    if (code != CURLUE_OK || !*host)
        return fail(err, STRETTO_E_FORMAT, "'%s' is not an address that can be fetched", shown);
    if (*user || *password)
        return fail(err, STRETTO_E_FORMAT,
                    "the address holds a user name or a password: leave it out, "
                    "and use HF_TOKEN where a token is needed");
    if (strcmp(scheme, "https") == 0) return STRETTO_OK;
    if (strcmp(scheme, "http") == 0 && is_this_machine(host)) return STRETTO_OK;
    return fail(err, STRETTO_E_FORMAT,
                "%s is not fetched: only https: is, and http: from this very "
                "machine",
                shown);
}

bool url_same_origin(const char *a, const char *b)
{
    const char *const both[2] = { a, b };
    char origin[2][400];
    for (int i = 0; i < 2; i++) {
        char scheme[16], host[300], port[16];
        CURLU *u = curl_url();
        if (!u) return false;
        CURLUcode code = curl_url_set(u, CURLUPART_URL, both[i], 0);
        url_part(u, CURLUPART_SCHEME, 0, scheme, sizeof scheme);
        url_part(u, CURLUPART_HOST, 0, host, sizeof host);
        url_part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT, port, sizeof port);
        curl_url_cleanup(u);
        if (code != CURLUE_OK || !*host) return false;
        for (char *p = host; *p; p++) *p = (char)tolower((unsigned char)*p);
        snprintf(origin[i], sizeof origin[i], "%s %s %s", scheme, host, port);
    }
    return strcmp(origin[0], origin[1]) == 0;
}

/* ---- places ---------------------------------------------------------------------------------- */

static stretto_status hf_open(struct place *p, const char *spec, const char *endpoint,
                              struct error *err)
{
    struct hub_name n;
    TRY(hub_name_parse(&n, spec, err));
    TRY(buffer_str(&p->repo, n.repo));
    TRY(buffer_str(&p->revision, *n.revision ? n.revision : "main"));
    TRY(buffer_str(&p->file, n.file));
    if (!*endpoint)
        return fail(err, STRETTO_E_IO, "the catalogue names no endpoint for hf: sources: set "
                    "HF_ENDPOINT");
    if (!*n.file) return STRETTO_OK;
    TRY(buffer_printf(&p->at, "%s/%s/resolve/", endpoint, p->repo.data));
    TRY(url_escape(&p->at, p->revision.data, false));
    TRY(buffer_str(&p->at, "/"));
    TRY(url_escape(&p->at, p->file.data, true));
    return url_check(p->at.data, err);
}

static int hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static stretto_status unescape(struct buffer *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c == '%' && i + 2 < n && hex(s[i + 1]) >= 0 && hex(s[i + 2]) >= 0) {
            c = (char)(hex(s[i + 1]) * 16 + hex(s[i + 2]));
            i += 2;
        }
        if (c == '\0') return STRETTO_E_FORMAT;
        TRY(buffer_append(out, &c, 1));
    }
    return STRETTO_OK;
}

/* file:PATH takes the path as it stands; file://[localhost]/PATH is an address and is decoded. */
static stretto_status file_open(struct place *p, const char *spec, struct error *err)
{
    const char *path = spec + 5;
    if (strncmp(path, "//", 2) != 0) return buffer_str(&p->at, path);
    path += 2;
    if (strncmp(path, "localhost/", 10) == 0) path += 9;
    if (*path != '/' || unescape(&p->at, path, strlen(path)) != STRETTO_OK)
        return fail(err, STRETTO_E_FORMAT,
                    "'%.200s' is not a file of this machine: write file:PATH", spec);
    return STRETTO_OK;
}

stretto_status place_open(struct place *p, const char *spec, const char *endpoint,
                          struct error *err)
{
    *p = (struct place){ .at = buffer_make(PLACE_MAX), .repo = buffer_make(PLACE_MAX),
                         .file = buffer_make(PLACE_MAX), .revision = buffer_make(PLACE_MAX) };
    stretto_status s;
    if (hub_name_is(spec)) {
        p->kind = PLACE_HF;
        s = hf_open(p, spec, endpoint, err);
    } else if (strncmp(spec, "file:", 5) == 0) {
        p->kind = PLACE_FILE;
        s = file_open(p, spec, err);
    } else {
        p->kind = PLACE_URL;
        s = buffer_str(&p->at, spec);
        if (s == STRETTO_OK) s = url_check(spec, err);
    }
    if (s == STRETTO_OK) return s;
    place_done(p);
    return fail(err, s, "the source '%.200s' is too long, or there is no memory", spec);
}

void place_done(struct place *p)
{
    buffer_done(&p->at);
    buffer_done(&p->repo);
    buffer_done(&p->file);
    buffer_done(&p->revision);
}

stretto_status place_join(const char *spec, const char *file, struct buffer *out)
{
    buffer_clear(out);
    const char *end = spec + strlen(spec), *at = NULL;
    if (hub_name_is(spec) && (at = strrchr(spec, '@'))) end = at;
    bool slash = end > spec && end[-1] == '/';
    TRY(buffer_append(out, spec, (size_t)(end - spec) - slash));
    TRY(buffer_str(out, "/"));
    if (strncmp(spec, "http", 4) == 0 || strncmp(spec, "file://", 7) == 0)
        TRY(url_escape(out, file, true));
    else
        TRY(buffer_str(out, file));
    return at ? buffer_str(out, at) : STRETTO_OK;
}

stretto_status place_name(const struct place *p, struct buffer *out, struct error *err)
{
    const char *from = p->kind == PLACE_HF ? p->file.data : p->at.data;
    if (!from) from = "";
    size_t n = p->kind == PLACE_URL ? strcspn(from, "?#") : strlen(from);
    size_t at = n;
    while (at && from[at - 1] != '/') at--;
    buffer_clear(out);
    stretto_status s = p->kind == PLACE_URL ? unescape(out, from + at, n - at)
                                            : buffer_append(out, from + at, n - at);
    if (s == STRETTO_OK && out->len && !strchr(out->data, '/') && catalogue_name_ok(out->data))
        return s;
    return fail(err, STRETTO_E_FORMAT,
                "the address names no file that could be stored: give it a name "
                "with --as");
}
