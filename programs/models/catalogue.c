#include "models/catalogue.h"
#include "base/file.h"
#include "base/memory.h"
#include "models/folder.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_TEXTS = 8 };
static const uint64_t max_file_bytes = (uint64_t)1 << 50; /* sums of 256 of them cannot overflow */

/* The bytes of data/catalogue, made by CMake. */
extern const unsigned char catalogue_builtin[];
extern const size_t catalogue_builtin_size;

struct catalogue {
    char *texts[MAX_TEXTS];            /* what names and sources point into */
    size_t n_texts;
    struct catalogue_model *models;
    size_t n, cap;
    const char *endpoint;
};

/* Where the parser is, for its messages. */
struct parser { struct catalogue *c; struct error *err; const char *where; size_t line, first; };

__attribute__((format(printf, 2, 3)))
static stretto_status refuse(struct parser *p, const char *fmt, ...)
{
    char words[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    return fail(p->err, STRETTO_E_FORMAT, "catalogue %s, line %zu: %s", p->where, p->line, words);
}

bool catalogue_name_ok(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > CATALOGUE_MAX_NAME) return false;
    for (const char *p = name; ; p++) {
        size_t len = strcspn(p, "/");
        if (len == 0 || *p == '.' || *p == '-') return false;
        for (size_t i = 0; i < len; i++)
            if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f || strchr("\\:*?\"<>|", p[i]))
                return false;
        p += len;
        if (!*p) break;
    }
    static const char *const ours[] = { ".part", ".lock", ".info" };
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (n >= 5 && strcmp(name + n - 5, ours[i]) == 0) return false;
    return true;
}

/* ---- parsing --------------------------------------------------------------------------------- */

static bool short_name_ok(const char *s)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    size_t n = strlen(s);
    return n > 0 && n <= 64 && strchr(letters, *s)
        && strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

static bool source_ok(const char *s)
{
    static const char *const kinds[] = { "https://", "http://", "hf:", "file:" };
    if (strlen(s) > 2048) return false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t n = strlen(kinds[i]);
        if (strncmp(s, kinds[i], n) == 0 && s[n]) return true;
    }
    return false;
}

/* The next word of *s, cut off in place; NULL at the end. */
static char *word(char **s)
{
    char *at = *s + strspn(*s, " \t");
    if (!*at) return NULL;
    char *end = at + strcspn(at, " \t");
    *s = end;
    if (*end) { *end = '\0'; *s = end + 1; }
    return at;
}

static stretto_status file_add(struct parser *p, struct catalogue_model *m, char *rest)
{
    const char *name = word(&rest), *bytes = word(&rest), *sha = word(&rest);
    if (!sha || word(&rest)) return refuse(p, "a file line is: file NAME BYTES SHA256");
    if (!catalogue_name_ok(name)) return refuse(p, "'%.100s' cannot be the name of a file", name);
    for (size_t i = 0; i < m->n_files; i++)
        if (strcmp(m->files[i].name, name) == 0)
            return refuse(p, "the file %.100s is there twice", name);
    if (m->n_files == CATALOGUE_MAX_FILES)
        return refuse(p, "a model has at most %d files", (int)CATALOGUE_MAX_FILES);
    struct catalogue_file f = { .name = name };
    if (strcmp(bytes, "-") != 0) {
        size_t n = strspn(bytes, "0123456789");
        if (n == 0 || n > 16 || bytes[n])
            return refuse(p, "'%.40s' is not a number of bytes", bytes);
        f.bytes = strtoull(bytes, NULL, 10);
        if (f.bytes == 0 || f.bytes > max_file_bytes)
            return refuse(p, "%.40s bytes cannot be the size of a model's file", bytes);
    }
    if (strcmp(sha, "-") != 0) {
        if (strlen(sha) != 64 || strspn(sha, "0123456789abcdefABCDEF") != 64)
            return refuse(p, "'%.80s' is not a sha256: 64 hexadecimal digits", sha);
        for (size_t i = 0; i < 64; i++)
            f.sha256[i] = (char)(sha[i] >= 'A' && sha[i] <= 'F' ? sha[i] - 'A' + 'a' : sha[i]);
    }
    struct catalogue_file *files = mem_resize(m->files, (m->n_files + 1) * sizeof *files);
    if (!files) return fail(p->err, STRETTO_E_NOMEM, "no memory for the catalogue");
    m->files = files;
    files[m->n_files++] = f;
    return STRETTO_OK;
}

static stretto_status place_add(struct parser *p, struct catalogue_model *m, char *rest)
{
    const char *place = word(&rest);
    if (!place || word(&rest) || !source_ok(place))
        return refuse(p, "a source line is: source https://..., hf:USER/REPO... or file:...");
    if (m->n_sources == CATALOGUE_MAX_SOURCES)
        return refuse(p, "a model has at most %d sources", (int)CATALOGUE_MAX_SOURCES);
    const char **sources = mem_resize(m->sources, (m->n_sources + 1) * sizeof *sources);
    if (!sources) return fail(p->err, STRETTO_E_NOMEM, "no memory for the catalogue");
    m->sources = sources;
    sources[m->n_sources++] = place;
    return STRETTO_OK;
}

static stretto_status model_begin(struct parser *p, char *rest)
{
    struct catalogue *c = p->c;
    const char *name = word(&rest);
    if (!name || word(&rest) || !short_name_ok(name))
        return refuse(p, "a model's name is one word of letters, digits, '.', '_' and '-'");
    for (size_t i = p->first; i < c->n; i++)
        if (strcmp(c->models[i].name, name) == 0) return refuse(p, "%s is there twice", name);
    if (c->n == CATALOGUE_MAX_MODELS)
        return refuse(p, "there are at most %d models", (int)CATALOGUE_MAX_MODELS);
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 16;
        struct catalogue_model *models = mem_resize(c->models, cap * sizeof *models);
        if (!models) return fail(p->err, STRETTO_E_NOMEM, "no memory for the catalogue");
        c->models = models;
        c->cap = cap;
    }
    c->models[c->n++] = (struct catalogue_model){ .name = name, .title = "", .licence = "" };
    return STRETTO_OK;
}

/* A model is over: is it whole? */
static stretto_status model_end(struct parser *p)
{
    if (p->c->n == p->first) return STRETTO_OK;
    const struct catalogue_model *m = &p->c->models[p->c->n - 1];
    if (m->n_files == 0) return refuse(p, "%s has no file line", m->name);
    if (m->n_sources == 0) return refuse(p, "%s has no source line", m->name);
    if (!m->folder && m->n_files != 1)
        return refuse(p, "%s has several files and no folder", m->name);
    if (!m->folder && strchr(m->files[0].name, '/'))
        return refuse(p, "%s: without a folder, its one file cannot be in a subfolder", m->name);
    return STRETTO_OK;
}

/* Everything after the first word, without the spaces around it. */
static char *words(char *rest)
{
    rest += strspn(rest, " \t");
    size_t n = strlen(rest);
    while (n && strchr(" \t", rest[n - 1])) rest[--n] = '\0';
    return rest;
}

static stretto_status line_read(struct parser *p, char *line)
{
    struct catalogue *c = p->c;
    char *rest = line;
    const char *key = word(&rest);
    if (!key || *key == '#') return STRETTO_OK;
    if (strcmp(key, "model") == 0) {
        TRY(model_end(p));
        return model_begin(p, rest);
    }
    if (strcmp(key, "endpoint") == 0) {
        const char *place = word(&rest);
        if (!place || word(&rest) || strncmp(place, "http", 4) != 0 || !source_ok(place))
            return refuse(p, "an endpoint line is: endpoint https://...");
        c->endpoint = place;
        return STRETTO_OK;
    }
    struct catalogue_model *m = c->n > p->first ? &c->models[c->n - 1] : NULL;
    if (!m) return refuse(p, "'%.40s' comes before the first model", key);
    if (strcmp(key, "file") == 0) return file_add(p, m, rest);
    if (strcmp(key, "source") == 0) return place_add(p, m, rest);
    rest = words(rest);
    if (strcmp(key, "title") == 0) m->title = rest;
    else if (strcmp(key, "licence") == 0) m->licence = rest;
    else if (strcmp(key, "terms") == 0) {
        if (strncmp(rest, "https://", 8) != 0) return refuse(p, "terms are a https:// address");
        m->terms = rest;
    } else if (strcmp(key, "default") == 0) {
        for (size_t i = p->first; i < c->n; i++)
            if (c->models[i].is_default)
                return refuse(p, "%s is the default already", c->models[i].name);
        m->is_default = true;
    } else if (strcmp(key, "folder") == 0) {
        if (!catalogue_name_ok(rest) || strchr(rest, '/'))
            return refuse(p, "'%.100s' cannot be the name of a folder", rest);
        m->folder = rest;
    } else
        return refuse(p, "'%.40s' is not a known key", key);
    return STRETTO_OK;
}

static stretto_status lines_read(struct parser *p, char *text)
{
    for (char *line = text; *line;) {
        p->line++;
        size_t n = strcspn(line, "\n");
        if (n > CATALOGUE_MAX_LINE) return refuse(p, "the line is longer than %d bytes",
                                                  (int)CATALOGUE_MAX_LINE);
        char *next = line + n + (line[n] == '\n');
        line[n] = '\0';
        if (n && line[n - 1] == '\r') line[n - 1] = '\0';
        for (const char *q = line; *q; q++)
            if (((unsigned char)*q < 0x20 && *q != '\t') || *q == 0x7f)
                return refuse(p, "the line contains a control character");
        TRY(line_read(p, line));
        line = next;
    }
    return model_end(p);
}

/* Models of the new text replace older ones of the same name, which keeps the older one's place. */
static void models_merge(struct catalogue *c, size_t first)
{
    bool new_default = false;
    for (size_t i = first; i < c->n; i++) new_default |= c->models[i].is_default;
    if (new_default)
        for (size_t i = 0; i < first; i++) c->models[i].is_default = false;
    size_t kept = first;
    for (size_t i = first; i < c->n; i++) {
        size_t old = 0;
        while (old < first && strcmp(c->models[old].name, c->models[i].name) != 0) old++;
        if (old < first) {
            mem_free(c->models[old].sources);
            mem_free(c->models[old].files);
            c->models[i].is_default |= c->models[old].is_default;
            c->models[old] = c->models[i];
        } else
            c->models[kept++] = c->models[i];
    }
    c->n = kept;
}

static void models_drop(struct catalogue *c, size_t from)
{
    while (c->n > from) {
        struct catalogue_model *m = &c->models[--c->n];
        mem_free(m->sources);
        mem_free(m->files);
    }
}

stretto_status catalogue_add(struct catalogue *c, const char *text, size_t n, const char *where,
                             struct error *err)
{
    if (n > CATALOGUE_MAX_TEXT)
        return fail(err, STRETTO_E_FORMAT, "catalogue %s is larger than 1 MiB", where);
    if (n && memchr(text, 0, n))
        return fail(err, STRETTO_E_FORMAT, "catalogue %s is not a text", where);
    if (c->n_texts == MAX_TEXTS)
        return fail(err, STRETTO_E_FULL, "there are at most %d catalogues", (int)MAX_TEXTS);
    char *copy = mem_alloc(n + 1);
    if (!copy) return fail(err, STRETTO_E_NOMEM, "no memory for the catalogue");
    if (n) memcpy(copy, text, n);
    copy[n] = '\0';
    struct parser p = { .c = c, .err = err, .where = where, .first = c->n };
    const char *endpoint = c->endpoint;
    stretto_status s = lines_read(&p, copy);
    if (s != STRETTO_OK) {
        models_drop(c, p.first);
        c->endpoint = endpoint;
        mem_free(copy);
        return s;
    }
    models_merge(c, p.first);
    c->texts[c->n_texts++] = copy;
    return STRETTO_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

stretto_status catalogue_empty(struct catalogue **out, struct error *err)
{
    *out = mem_zalloc(1, sizeof **out);
    return *out ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "no memory for the catalogue");
}

static stretto_status add_file(struct catalogue *c, const char *path, struct error *err)
{
    struct file_map map;
    TRY(file_map_open(&map, path, err));
    stretto_status s = catalogue_add(c, (const char *)map.data, map.size, path, err);
    file_map_close(&map);
    return s;
}

/* $variable/stretto/name, or ~/fallback/stretto/name. The XDG rules: a relative value counts as
 * unset. */
static stretto_status xdg_path(struct buffer *out, const char *variable, const char *fallback,
                               const char *name, struct error *err)
{
    const char *base = getenv(variable), *home = getenv("HOME");
    buffer_clear(out);
    stretto_status s;
    if (base && *base == '/') s = buffer_printf(out, "%s/stretto/%s", base, name);
    else if (home && *home == '/') s = buffer_printf(out, "%s/%s/stretto/%s", home, fallback, name);
    else
        return fail(err, STRETTO_E_IO, "neither %s nor HOME names a folder: set one of them",
                    variable);
    return s == STRETTO_OK ? s
                           : fail(err, s, "the folder that %s or HOME names is too long", variable);
}

stretto_status catalogue_open(struct catalogue **out, struct error *err)
{
    struct buffer path = buffer_make(CATALOGUE_MAX_PATH);
    struct catalogue *c;
    *out = NULL;
    TRY(catalogue_empty(&c, err));
    const char *instead = getenv("STRETTO_CATALOGUE");
    stretto_status s = instead && *instead
                           ? add_file(c, instead, err)
                           : catalogue_add(c, (const char *)catalogue_builtin,
                                           catalogue_builtin_size, "(built in)", err);
    /* Without a home there is no catalogue of the user's, which is not an error. */
    if (s == STRETTO_OK &&
        xdg_path(&path, "XDG_CONFIG_HOME", ".config", "catalogue", NULL) == STRETTO_OK &&
        access(path.data, F_OK) == 0)
        s = add_file(c, path.data, err);
    buffer_done(&path);
    if (s == STRETTO_OK) *out = c;
    else catalogue_close(c);
    return s;
}

void catalogue_close(struct catalogue *c)
{
    if (!c) return;
    models_drop(c, 0);
    mem_free(c->models);
    for (size_t i = 0; i < c->n_texts; i++) mem_free(c->texts[i]);
    mem_free(c);
}

/* ---- asking ---------------------------------------------------------------------------------- */

size_t catalogue_count(const struct catalogue *c) { return c->n; }
const struct catalogue_model *catalogue_at(const struct catalogue *c, size_t i)
{
    return &c->models[i];
}
const char *catalogue_endpoint(const struct catalogue *c) { return c->endpoint ? c->endpoint : ""; }

const struct catalogue_model *catalogue_find(const struct catalogue *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->models[i].name, name) == 0) return &c->models[i];
    return NULL;
}

const struct catalogue_model *catalogue_default(const struct catalogue *c)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->models[i].is_default) return &c->models[i];
    return NULL;
}

uint64_t catalogue_bytes(const struct catalogue_model *m)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < m->n_files; i++) {
        if (!m->files[i].bytes) return 0;
        sum += m->files[i].bytes;
    }
    return sum;
}

stretto_status catalogue_models_dir(struct buffer *out, struct error *err)
{
    return xdg_path(out, "XDG_CACHE_HOME", ".cache", "models", err);
}

stretto_status catalogue_path(const struct catalogue_model *m, const char *dir, struct buffer *out)
{
    buffer_clear(out);
    return buffer_printf(out, "%s/%s", dir, m->folder ? m->folder : m->files[0].name);
}

stretto_status catalogue_file_path(const struct catalogue_model *m, size_t file, const char *dir,
                                   struct buffer *out)
{
    buffer_clear(out);
    return buffer_printf(out, "%s/%s%s%s", dir, m->folder ? m->folder : "", m->folder ? "/" : "",
                         m->files[file].name);
}

bool catalogue_present(const struct catalogue_model *m, const char *dir)
{
    struct buffer path = buffer_make(CATALOGUE_MAX_PATH);
    bool all = true;
    for (size_t i = 0; all && i < m->n_files; i++) {
        struct stat st;
        all = catalogue_file_path(m, i, dir, &path) == STRETTO_OK && stat(path.data, &st) == 0 &&
              S_ISREG(st.st_mode) &&
              (!m->files[i].bytes || (uint64_t)st.st_size == m->files[i].bytes);
    }
    buffer_done(&path);
    return all;
}

/* Says that a model has to be fetched; `path` gets the name that it is fetched by. */
static stretto_status not_here(const char *name, uint64_t bytes, struct buffer *path, bool *away,
                               struct error *err)
{
    char size[40] = "";
    if (bytes) snprintf(size, sizeof size, " (%.1f MB)", (double)bytes * 1e-6);
    buffer_clear(path);
    *away = buffer_str(path, name) == STRETTO_OK;
    return fail(err, STRETTO_E_IO, "the model %.200s is not on this machine yet%s: fetch it with "
                "'stretto pull %.200s', or say --yes", name, size, name);
}

static stretto_status path_too_long(const char *dir, struct error *err)
{
    return fail(err, STRETTO_E_NOMEM, "no memory for a path, or it is too long: %.200s", dir);
}

static stretto_status resolve_hub(const char *model, const char *dir, struct buffer *path, bool *away,
                                  struct error *err)
{
    struct hub_name n;
    TRY(hub_name_parse(&n, model, err));
    if (model_folder_find(&n, dir, path)) return STRETTO_OK;
    struct buffer name = buffer_make(CATALOGUE_MAX_PATH);
    stretto_status s = hub_name_spell(&n, &name);
    s = s == STRETTO_OK ? not_here(name.data, 0, path, away, err) : path_too_long(dir, err);
    buffer_done(&name);
    return s;
}

/* Something in the folder of models by its own name. */
static stretto_status resolve_file(const char *model, const char *dir, struct buffer *path, struct error *err)
{
    buffer_clear(path);
    if (catalogue_name_ok(model) && buffer_printf(path, "%s/%s", dir, model) == STRETTO_OK
        && access(path->data, F_OK) == 0)
        return STRETTO_OK;
    return fail(err, STRETTO_E_IO, "there is no file %.200s, and the catalogue has no model of that "
                "name: 'stretto models' lists what it has", model);
}

static stretto_status resolve_name(const struct catalogue *c, const char *model, const char *dir,
                                   struct buffer *path, bool *away, struct error *err)
{
    const struct catalogue_model *m = model ? catalogue_find(c, model) : catalogue_default(c);
    if (!m && !model)
        return fail(err, STRETTO_E_IO, "the catalogue names no default model: choose one with -m");
    if (!m && hub_name_is(model)) return resolve_hub(model, dir, path, away, err);
    if (!m) return resolve_file(model, dir, path, err);
    if (!catalogue_present(m, dir)) return not_here(m->name, catalogue_bytes(m), path, away, err);
    return catalogue_path(m, dir, path) == STRETTO_OK ? STRETTO_OK : path_too_long(dir, err);
}

stretto_status catalogue_resolve(const char *model, struct buffer *path, bool *away, struct error *err)
{
    buffer_clear(path);
    *away = false;
    if (model && (access(model, F_OK) == 0 || (strchr(model, '/') && !hub_name_is(model)))) {
        stretto_status s = buffer_str(path, model);
        return s == STRETTO_OK ? s : fail(err, s, "the path of the model is too long");
    }
    struct catalogue *c = NULL;
    struct buffer dir = buffer_make(CATALOGUE_MAX_PATH);
    stretto_status s = catalogue_open(&c, err);
    if (s == STRETTO_OK) s = catalogue_models_dir(&dir, err);
    if (s == STRETTO_OK) s = resolve_name(c, model, dir.data, path, away, err);
    catalogue_close(c);
    buffer_done(&dir);
    return s;
}
