#include "models/hub_name.h"
#include "models/catalogue.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char *const prefixes[] = { "hf:", "hf.co/", "huggingface.co/" };

/* What follows the prefix; NULL: there is none. */
static const char *after_prefix(const char *spec)
{
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t n = strlen(prefixes[i]);
        if (strncmp(spec, prefixes[i], n) == 0) return spec + n;
    }
    return NULL;
}

bool hub_name_is(const char *spec) { return after_prefix(spec) != NULL; }

static bool only(const char *s, size_t n, const char *more)
{
    for (size_t i = 0; i < n; i++)
        if (!((unsigned char)s[i] < 0x80 && isalnum((unsigned char)s[i])) && !strchr(more, s[i]))
            return false;
    return n > 0;
}

static bool copy(char *out, size_t max, const char *s, size_t n)
{
    if (n > max) return false;
    memcpy(out, s, n);
    out[n] = '\0';
    return true;
}

static bool repo_ok(const char *s, size_t n)
{
    const char *slash = memchr(s, '/', n);
    if (!slash) return false;
    size_t user = (size_t)(slash - s);
    return only(s, user, "-_.") && only(slash + 1, n - user - 1, "-_.") && *s != '.' && *s != '-'
        && slash[1] != '.' && slash[1] != '-';
}

static bool revision_ok(const char *s)
{
    return only(s, strlen(s), "-_./") && !strstr(s, "..") && *s != '/' && *s != '.';
}

stretto_status hub_name_parse(struct hub_name *n, const char *spec, struct error *err)
{
    *n = (struct hub_name){ .repo = "" };
    const char *s = after_prefix(spec), *revision = s ? strrchr(s, '@') : NULL;
    size_t end = revision ? (size_t)(revision - s) : s ? strlen(s) : 0;
    const char *slash = end ? memchr(s, '/', end) : NULL;
    const char *colon = end ? memchr(s, ':', end) : NULL;
    const char *second = slash ? memchr(slash + 1, '/', end - (size_t)(slash + 1 - s)) : NULL;
    size_t repo = second ? (size_t)(second - s) : colon ? (size_t)(colon - s) : end;
    bool ok = slash && !(second && colon) && repo_ok(s, repo) && copy(n->repo, HUB_MAX_REPO, s, repo)
        && (!revision || (revision_ok(revision + 1)
                          && copy(n->revision, HUB_MAX_WORD, revision + 1, strlen(revision + 1))));
    if (ok && colon)
        ok = only(colon + 1, end - repo - 1, "-_.") && copy(n->quant, HUB_MAX_WORD, colon + 1, end - repo - 1);
    if (!ok)
        return fail(err, STRETTO_E_FORMAT, "'%.200s' is not of the form "
                    "hf:USER/REPO[/FILE][:QUANT][@REVISION]", spec);
    if (strcmp(n->revision, "main") == 0) *n->revision = '\0';
    if (!second || repo + 1 == end) return STRETTO_OK;
    if (copy(n->file, HUB_MAX_FILE, second + 1, end - repo - 1) && catalogue_name_ok(n->file))
        return STRETTO_OK;
    return fail(err, STRETTO_E_FORMAT, "'%.200s' names a file that is not fetched: no '..', no "
                "hidden files, no strange characters", spec);
}

stretto_status hub_name_spell(const struct hub_name *n, struct buffer *out)
{
    /* A file may have an '@' in its name; only the last one begins a revision. */
    const char *revision = *n->revision ? n->revision : strchr(n->file, '@') ? "main" : "";
    return buffer_printf(out, "hf:%s%s%s%s%s%s%s", n->repo, *n->file ? "/" : "", n->file,
                         *n->quant ? ":" : "", n->quant, *revision ? "@" : "", revision);
}

stretto_status hub_name_folder(const struct hub_name *n, const char *dir, struct buffer *out)
{
    buffer_clear(out);
    TRY(buffer_printf(out, "%s/%s%s", dir, n->repo, *n->revision ? "@" : ""));
    for (const char *s = n->revision; *s; s++) TRY(buffer_str(out, *s == '/' ? "%2F" : (char[]){ *s, 0 }));
    return STRETTO_OK;
}

/* ---- which file ------------------------------------------------------------------------------ */

bool name_ends(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcasecmp(s + n - k, end) == 0;
}

const char *gguf_split_number(const char *name)
{
    size_t n = strlen(name);
    const char *tail = n > 20 ? name + n - 20 : "";
    if (*tail != '-' || strncmp(tail + 6, "-of-", 4) != 0 || !name_ends(tail, ".gguf")) return NULL;
    return strspn(tail + 1, "0123456789") == 5 && strspn(tail + 10, "0123456789") == 5 ? tail + 1
                                                                                       : NULL;
}

/* Repositories keep other things in this format too: what sees pictures, statistics of activations. */
static bool is_companion(const char *name)
{
    const char *base = strrchr(name, '/');
    base = base ? base + 1 : name;
    return strncasecmp(base, "mmproj", 6) == 0 || strcasestr(base, "imatrix");
}

bool gguf_is_model(const char *name)
{
    const char *number = gguf_split_number(name);
    return (number ? strncmp(number, "00001", 5) == 0 : name_ends(name, ".gguf")) && !is_companion(name);
}

bool gguf_same_model(const char *a, const char *b)
{
    const char *na = gguf_split_number(a), *nb = gguf_split_number(b);
    if (!na || !nb) return strcmp(a, b) == 0;
    return na - a == nb - b && memcmp(a, b, (size_t)(na - a)) == 0 && strcmp(na + 5, nb + 5) == 0;
}

bool gguf_has_quant(const char *name, const char *quant)
{
    size_t n = strlen(quant);
    for (const char *p = name; n && (p = strcasestr(p, quant)); p++)
        if ((p == name || !isalnum((unsigned char)p[-1])) && !isalnum((unsigned char)p[n]) && p[n] != '_')
            return true;
    return false;
}

struct hub_choice hub_choose(const char *(*name)(const void *list, size_t i), const void *list, size_t n,
                             const char *quant)
{
    struct hub_choice c = { 0 };
    for (size_t i = 0; i < n; i++) {
        if (!gguf_is_model(name(list, i))) continue;
        if (!c.models++ && !*quant) c.at = i;
    }
    c.fitting = c.models == 1 && !*quant;
    if (c.fitting) return c;
    c.by_default = !*quant;
    for (size_t i = 0; i < n; i++)
        if (gguf_is_model(name(list, i)) && gguf_has_quant(name(list, i), *quant ? quant : "Q4_K_M")
            && !c.fitting++)
            c.at = i;
    return c;
}
