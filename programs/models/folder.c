#include "models/folder.h"
#include "base/memory.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char model_folder_whole[] = ".whole";

enum { DEPTH_MAX = 4 };

/* ---- files below a folder -------------------------------------------------------------------- */

struct names { char **v; size_t n; };

static void names_done(struct names *l)
{
    for (size_t i = 0; i < l->n; i++) mem_free(l->v[i]);
    mem_free(l->v);
    *l = (struct names){ 0 };
}

static bool names_add(struct names *l, const char *name)
{
    char **more = l->n < MODEL_FOLDER_MAX ? mem_resize(l->v, (l->n + 1) * sizeof *more) : NULL;
    if (more) l->v = more;
    if (!more || !(l->v[l->n] = mem_strdup(name))) return false;
    l->n++;
    return true;
}

static const char *name_at(const void *list, size_t i) { return ((const struct names *)list)->v[i]; }

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static bool is_folder(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* A path joined of two; false when it is too long. */
static bool join(char out[CATALOGUE_MAX_PATH], const char *folder, const char *name)
{
    int n = snprintf(out, CATALOGUE_MAX_PATH, "%s%s%s", folder, *folder && *name ? "/" : "", name);
    return n > 0 && n < CATALOGUE_MAX_PATH;
}

/* The members of a folder, hidden ones left out; sorted, so that what is found does not depend on the disk. */
static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool members(const char *folder, struct names *out)
{
    DIR *d = opendir(folder);
    bool ok = d != NULL;
    for (struct dirent *e; ok && (e = readdir(d));)
        if (e->d_name[0] != '.') ok = names_add(out, e->d_name);
    if (d) closedir(d);
    if (out->n) qsort(out->v, out->n, sizeof *out->v, by_name);
    return ok;
}

/* Adds the models among the files below `folder`, relative to it. */
static void models_below(const char *folder, const char *inside, int depth, struct names *out)
{
    struct names here = { 0 };
    char at[CATALOGUE_MAX_PATH], name[CATALOGUE_MAX_PATH], path[CATALOGUE_MAX_PATH];
    if (join(at, folder, inside)) members(at, &here);
    for (size_t i = 0; i < here.n; i++) {
        if (!join(name, inside, here.v[i]) || !join(path, folder, name)) continue;
        if (is_folder(path)) {
            if (depth < DEPTH_MAX) models_below(folder, name, depth + 1, out);
        } else if (gguf_is_model(name) && is_file(path))
            names_add(out, name);
    }
    names_done(&here);
}

/* All parts of a split file are there; the size of them, or of the one file, is added to *bytes. */
static bool parts_present(const char *first, uint64_t *bytes)
{
    char path[CATALOGUE_MAX_PATH];
    struct stat st;
    if (strlen(first) >= sizeof path) return false;
    strcpy(path, first);
    char *number = (char *)(uintptr_t)gguf_split_number(path);
    unsigned long n = number ? strtoul(number + 9, NULL, 10) : 1;
    for (unsigned long i = 1; i <= n; i++) {
        char digits[8];
        snprintf(digits, sizeof digits, "%05lu", i % 100000);
        if (number) memcpy(number, digits, 5);
        if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return false;
        *bytes += (uint64_t)st.st_size;
    }
    return true;
}

/* ---- models of Hugging Face ------------------------------------------------------------------ */

static bool is_whole_folder(const char *folder)
{
    char path[CATALOGUE_MAX_PATH];
    return join(path, folder, model_folder_whole) && is_file(path);
}

static bool find_inside(const struct hub_name *n, const char *folder, char path[CATALOGUE_MAX_PATH])
{
    struct names list = { 0 };
    if (*n->file) return join(path, folder, n->file);
    if (!*n->quant && is_whole_folder(folder)) return join(path, folder, "");
    models_below(folder, "", 0, &list);
    struct hub_choice c = hub_choose(name_at, &list, list.n, n->quant);
    bool found = c.fitting == 1 && join(path, folder, list.v[c.at]);
    names_done(&list);
    return found;
}

bool model_folder_find(const struct hub_name *n, const char *dir, struct buffer *path)
{
    struct buffer folder = buffer_make(CATALOGUE_MAX_PATH);
    char found[CATALOGUE_MAX_PATH];
    uint64_t bytes = 0;
    bool ok = hub_name_folder(n, dir, &folder) == STRETTO_OK && find_inside(n, folder.data, found)
        && (is_folder(found) || parts_present(found, &bytes));
    buffer_done(&folder);
    buffer_clear(path);
    return ok && buffer_str(path, found) == STRETTO_OK;
}

/* ---- everything ------------------------------------------------------------------------------ */

static uint64_t bytes_below(const char *folder, int depth)
{
    struct names here = { 0 };
    struct stat st;
    char path[CATALOGUE_MAX_PATH];
    uint64_t sum = 0;
    members(folder, &here);
    for (size_t i = 0; i < here.n; i++) {
        if (!join(path, folder, here.v[i]) || lstat(path, &st) != 0) continue;
        if (S_ISREG(st.st_mode)) sum += (uint64_t)st.st_size;
        else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) sum += bytes_below(path, depth + 1);
    }
    names_done(&here);
    return sum;
}

static bool add(struct model_folder *s, const char *name, const char *path, const struct catalogue_model *m)
{
    struct model_folder_item item = { .folder = is_folder(path), .model = m };
    if (s->n == MODEL_FOLDER_MAX) return false;
    /* What -m could not name is not offered; names with control characters are among that. */
    if (!hub_name_is(name) && !catalogue_name_ok(name)) return true;
    if (item.folder) item.bytes = bytes_below(path, 0);
    else if (!parts_present(path, &item.bytes)) return true;          /* half of it is not a model */
    struct model_folder_item *more = mem_resize(s->items, (s->n + 1) * sizeof *more);
    if (more) s->items = more;
    item.name = mem_strdup(name);
    item.path = mem_strdup(path);
    if (!more || !item.name || !item.path) {
        mem_free(item.name);
        mem_free(item.path);
        return false;
    }
    s->items[s->n++] = item;
    return true;
}

static bool add_repository(struct model_folder *s, const char *user, const char *member)
{
    char spec[CATALOGUE_MAX_PATH], path[CATALOGUE_MAX_PATH], folder[CATALOGUE_MAX_PATH];
    char repo[CATALOGUE_MAX_PATH], *at = repo;
    /* The slashes of a revision are spelled %2F on the disk. */
    for (const char *p = member; *p && at < repo + sizeof repo - 1; p++) {
        bool slash = strncmp(p, "%2F", 3) == 0;
        *at++ = slash ? '/' : *p;
        if (slash) p += 2;
    }
    *at = '\0';
    struct hub_name n;
    struct buffer b = buffer_make(CATALOGUE_MAX_PATH);
    struct names list = { 0 };
    if ((size_t)snprintf(spec, sizeof spec, "hf:%s/%s", user, repo) >= sizeof spec
        || hub_name_parse(&n, spec, NULL) != STRETTO_OK || !join(folder, s->dir, user)
        || !join(path, folder, member) || !is_folder(path))
        return true;
    strcpy(folder, path);
    bool ok = true;
    if (is_whole_folder(folder)) ok = add(s, spec, folder, NULL);
    models_below(folder, "", 0, &list);
    for (size_t i = 0; ok && i < list.n; i++) {
        buffer_clear(&b);
        if (!catalogue_name_ok(list.v[i]) || !join(path, folder, list.v[i])) continue;
        if (list.n > 1 || is_whole_folder(folder)) strcpy(n.file, list.v[i]);
        ok = hub_name_spell(&n, &b) == STRETTO_OK && add(s, b.data, path, NULL);
    }
    names_done(&list);
    buffer_done(&b);
    return ok;
}

/* A member of the folder that the catalogue does not know: a file, a folder, or a user's repositories. */
static bool add_member(struct model_folder *s, const char *member)
{
    char path[CATALOGUE_MAX_PATH], config[CATALOGUE_MAX_PATH];
    if (!join(path, s->dir, member)) return true;
    if (!is_folder(path)) {
        if (gguf_is_model(member) && is_file(path)) return add(s, member, path, NULL);
        return true;
    }
    if (join(config, path, "config.json") && is_file(config)) return add(s, member, path, NULL);
    struct names repos = { 0 };
    bool ok = members(path, &repos);
    for (size_t i = 0; ok && i < repos.n; i++) ok = add_repository(s, member, repos.v[i]);
    names_done(&repos);
    return ok;
}

static bool of_catalogue(const struct catalogue *c, const char *member)
{
    for (size_t i = 0; i < catalogue_count(c); i++) {
        const struct catalogue_model *m = catalogue_at(c, i);
        if (strcmp(m->folder ? m->folder : m->files[0].name, member) == 0) return true;
    }
    return false;
}

static bool add_catalogue(struct model_folder *s, const struct catalogue *c)
{
    struct buffer path = buffer_make(CATALOGUE_MAX_PATH);
    bool ok = true;
    for (size_t i = 0; ok && i < catalogue_count(c); i++) {
        const struct catalogue_model *m = catalogue_at(c, i);
        if (catalogue_present(m, s->dir) && catalogue_path(m, s->dir, &path) == STRETTO_OK)
            ok = add(s, m->name, path.data, m);
    }
    buffer_done(&path);
    return ok;
}

static int by_item_name(const void *a, const void *b)
{
    return strcmp(((const struct model_folder_item *)a)->name, ((const struct model_folder_item *)b)->name);
}

stretto_status model_folder_open(struct model_folder *s, const struct catalogue *c, const char *dir, struct error *err)
{
    *s = (struct model_folder){ .dir = mem_strdup(dir) };
    struct names here = { 0 };
    bool ok = s->dir && add_catalogue(s, c);
    if (ok && is_folder(dir)) ok = members(dir, &here);
    for (size_t i = 0; ok && i < here.n; i++)
        if (!of_catalogue(c, here.v[i])) ok = add_member(s, here.v[i]);
    names_done(&here);
    if (s->n) qsort(s->items, s->n, sizeof *s->items, by_item_name);
    if (ok) return STRETTO_OK;
    model_folder_close(s);
    return fail(err, STRETTO_E_IO, "the folder of models %.200s cannot be read, or holds more than %d things",
                dir, (int)MODEL_FOLDER_MAX);
}

void model_folder_close(struct model_folder *s)
{
    for (size_t i = 0; i < s->n; i++) {
        mem_free(s->items[i].name);
        mem_free(s->items[i].path);
    }
    mem_free(s->items);
    mem_free(s->dir);
    *s = (struct model_folder){ 0 };
}

const struct model_folder_item *model_folder_named(const struct model_folder *s, const char *name)
{
    struct hub_name n;
    struct buffer path = buffer_make(CATALOGUE_MAX_PATH);
    const struct model_folder_item *found = NULL;
    for (size_t i = 0; !found && i < s->n; i++)
        if (strcmp(s->items[i].name, name) == 0) found = &s->items[i];
    if (!found && hub_name_is(name) && hub_name_parse(&n, name, NULL) == STRETTO_OK
        && model_folder_find(&n, s->dir, &path))
        for (size_t i = 0; !found && i < s->n; i++)
            if (strcmp(s->items[i].path, path.data) == 0) found = &s->items[i];
    buffer_done(&path);
    return found;
}
