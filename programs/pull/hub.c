#include "pull/hub.h"
#include "base/file.h"
#include "base/memory.h"
#include "models/catalogue.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

stretto_status hub_endpoint(const char *catalogue, struct buffer *out, struct error *err)
{
    const char *e = getenv("HF_ENDPOINT");
    if (!e || !*e) e = catalogue;
    buffer_clear(out);
    if (!*e) return STRETTO_OK;
    TRY(url_check(e, err));
    size_t n = strlen(e);
    while (n && e[n - 1] == '/') n--;
    if (strpbrk(e, "?#"))
        return fail(err, STRETTO_E_FORMAT, "HF_ENDPOINT is an address without '?' and '#'");
    stretto_status s = buffer_append(out, e, n);
    return s == STRETTO_OK ? s : fail(err, s, "HF_ENDPOINT is too long");
}

/* Goes into a header line, so it must be one word. */
static stretto_status token_set(struct buffer *out, const char *s, size_t n, const char *from,
                                struct error *err)
{
    while (n && strchr(" \t\r\n", s[n - 1])) n--;
    while (n && strchr(" \t\r\n", *s)) { s++; n--; }
    bool good = n <= 4096;
    for (size_t i = 0; good && i < n; i++) good = s[i] > 0x20 && s[i] < 0x7f;
    if (!good)
        return fail(err, STRETTO_E_FORMAT, "%s does not hold a token: one word is expected", from);
    return n ? buffer_append(out, s, n) : STRETTO_OK;
}

static stretto_status token_path(struct buffer *path)
{
    const char *direct = getenv("HF_TOKEN_PATH"), *hub = getenv("HF_HOME");
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (direct && *direct) return buffer_str(path, direct);
    if (hub && *hub) return buffer_printf(path, "%s/token", hub);
    if (cache && *cache == '/') return buffer_printf(path, "%s/huggingface/token", cache);
    if (home && *home) return buffer_printf(path, "%s/.cache/huggingface/token", home);
    return STRETTO_E_IO;
}

stretto_status hub_token(struct buffer *out, struct error *err)
{
    buffer_clear(out);
    const char *token = getenv("HF_TOKEN");
    if (token && *token) return token_set(out, token, strlen(token), "HF_TOKEN", err);
    struct buffer path = buffer_make(CATALOGUE_MAX_PATH);
    struct file_map map;
    stretto_status s = STRETTO_OK;
    if (token_path(&path) == STRETTO_OK && access(path.data, R_OK) == 0
            && file_map_open(&map, path.data, NULL) == STRETTO_OK) {
        s = token_set(out, (const char *)map.data, map.size, path.data, err);
        file_map_close(&map);
    }
    buffer_done(&path);
    return s;
}

/* ---- what a repository holds ----------------------------------------------------------------- */

static enum outcome list_begin(void *ud, const struct http_answer *a, struct error *err)
{
    (void)a; (void)err;
    buffer_clear(ud);
    return OUT_DONE;
}

static enum outcome list_write(void *ud, const void *data, size_t n, struct error *err)
{
    if (buffer_append(ud, data, n) == STRETTO_OK) return OUT_DONE;
    fail(err, STRETTO_E_FORMAT, "the list of files is too long, or there is no memory");
    return OUT_NEXT;
}

static stretto_status list_get(struct pull *p, const struct place *place, struct buffer *json,
                               struct error *err)
{
    struct buffer url = buffer_make(PLACE_MAX);
    struct http_answer a;
    stretto_status s = buffer_printf(&url, "%s/api/models/%s/tree/", p->endpoint, place->repo.data);
    if (s == STRETTO_OK) s = url_escape(&url, place->revision.data, false);
    if (s == STRETTO_OK) s = buffer_str(&url, "?recursive=true");
    if (s != STRETTO_OK) fail(err, s, "the address of the list is too long");
    struct http_ask ask = { .url = url.data, .token = p->token, .if_range = "",
                            .stall = p->options->stall, .stop = p->stop };
    struct http_sink sink = { list_begin, list_write, json };
    enum outcome out = s == STRETTO_OK ? pull_patiently(p, &ask, &sink, &a, err) : OUT_STOP;
    if (s == STRETTO_OK && out != OUT_DONE) {
        if (out == OUT_NEXT && !a.away)
            pull_explain(p, place->repo.data, place->repo.data, a.status, err);
        s = err->status;
    }
    buffer_done(&url);
    return s;
}

stretto_status hub_list_open(struct hub_list *l, struct pull *p, const char *spec,
                             struct error *err)
{
    *l = (struct hub_list){ 0 };
    struct place place;
    if (p->options->offline)
        return fail(err, STRETTO_E_IO, "--offline forbids looking up what %.200s holds",
                    spec);
    TRY(place_open(&place, spec, p->endpoint, err));
    struct buffer json = buffer_make(HUB_MAX_LIST);
    stretto_status s = list_get(p, &place, &json, err);
    if (s == STRETTO_OK) s = hub_list_parse(l, json.data, json.len, spec, err);
    buffer_done(&json);
    place_done(&place);
    return s;
}
