/* Which device a word means. A word is read here and nowhere else. */
#include "backend/backend.h"
#include "base/memory.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { MOST = 64 };                    /* devices of a backend that are looked at */

/* What a word says, before anything is looked for. */
struct wanted {
    const struct backend *backend;     /* NULL: any card */
    bool automatic;
    uint32_t number;
};

struct found { const struct backend *backend; uint32_t number; struct device_about about; };

static bool any_numbered(void)
{
    for (size_t i = 0; backends[i]; i++)
        if (backends[i]->list) return true;
    return false;
}

void device_words(char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "%s", backends[0]->name);
    if (any_numbered() && n < size) n += (size_t)snprintf(out + n, size - n, ", gpu[:N]");
    for (size_t i = 1; backends[i] && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, ", %s%s", backends[i]->name,
                              backends[i]->list ? "[:N]" : "");
    if (n < size) snprintf(out + n, size - n, ", auto");
}

/* "", or ":" and a number of at most four digits. */
static bool read_number(const char *text, uint32_t *out)
{
    size_t n = strspn(text + (*text == ':'), "0123456789");
    *out = 0;
    if (!*text) return true;
    if (*text != ':' || n < 1 || n > 4 || text[1 + n]) return false;
    *out = (uint32_t)strtoul(text + 1, NULL, 10);
    return true;
}

static bool read_word(const char *word, struct wanted *w)
{
    *w = (struct wanted){ .backend = backends[0] };
    if (!word) return true;
    if (strcmp(word, "auto") == 0) {
        w->automatic = true;
        w->backend = NULL;
        return true;
    }
    size_t n = strcspn(word, ":");
    if (n == 3 && memcmp(word, "gpu", 3) == 0 && any_numbered()) {
        w->backend = NULL;
        return read_number(word + n, &w->number);
    }
    for (size_t i = 0; backends[i]; i++)
        if (strlen(backends[i]->name) == n && memcmp(backends[i]->name, word, n) == 0) {
            w->backend = backends[i];
            return backends[i]->list ? read_number(word + n, &w->number) : !word[n];
        }
    return false;
}

bool device_word_known(const char *word)
{
    struct wanted w;
    const char *end = word ? strchr(word, ',') : NULL;
    if (!end) return read_word(word, &w);
    for (const char *p = word; p; p = *end ? end + 1 : NULL) {
        char one[24];
        end = p + strcspn(p, ",");
        if ((size_t)(end - p) >= sizeof one) return false;
        memcpy(one, p, (size_t)(end - p));
        one[end - p] = '\0';
        if (!read_word(one, &w) || w.automatic || w.backend == backends[0]) return false;
    }
    return true;
}

/* ---- what there is ---------------------------------------------------------------------------- */

static bool has_word(const char *text, const char *word)
{
    for (size_t n = strlen(word); *text; text++)
        if (strncasecmp(text, word, n) == 0) return true;
    return false;
}

/* The devices of one backend into out[MOST]; how many, and its sentence where it has no driver. */
static size_t look(const struct backend *b, struct device_about *out, struct error *err)
{
    size_t n = 0;
    if (!b->list) {
        *out = (struct device_about){ .memory = 0 };
        if (b->about) b->about(out);
        snprintf(out->word, sizeof out->word, "%s", b->name);
        return 1;
    }
    if (b->list(out, MOST, &n, err) != STRETTO_OK) return 0;
    if (n > MOST) n = MOST;
    for (size_t i = 0; i < n; i++)
        snprintf(out[i].word, sizeof out[i].word, "%s:%u", b->name, (unsigned)i);
    return n;
}

size_t backend_list(struct device_about *out, size_t cap)
{
    struct device_about *all = mem_zalloc(MOST, sizeof *all);
    size_t n = 0;
    for (size_t i = 0; all && backends[i]; i++) {
        struct error why = { .status = STRETTO_OK };
        size_t found = look(backends[i], all, &why);
        if (!found) {
            all[found++] = (struct device_about){ .unusable = true };
            snprintf(all->word, sizeof all->word, "%s", backends[i]->name);
            snprintf(all->why, sizeof all->why, "%.*s", (int)sizeof all->why - 1,
                     why.text[0] ? why.text : "its driver finds no device");
        }
        for (size_t k = 0; k < found && n < cap; k++) out[n++] = all[k];
    }
    mem_free(all);
    return n;
}

/* "there are 2: opencl:0 (a name), opencl:1 (another)" behind what is missing. */
static stretto_status not_there(const struct backend *b, uint32_t number,
                                const struct device_about *all, size_t n, struct error *err)
{
    char names[400] = "";
    for (size_t i = 0, at = 0; i < n && at < sizeof names; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s (%s)", i ? ", " : "", all[i].word,
                               all[i].name);
    if (!n)
        return fail(err, STRETTO_E_DEVICE, "there is no %s:%u: its driver finds no device", b->name,
                    (unsigned)number);
    return fail(err, STRETTO_E_DEVICE, "there is no %s:%u; there %s %zu: %s", b->name, (unsigned)number,
                n > 1 ? "are" : "is", n, names);
}

/* The number-th of one backend. */
static stretto_status of_backend(const struct wanted *w, struct device_about *all, struct found *out,
                                 struct error *err)
{
    struct error why = { .status = STRETTO_OK };
    size_t n = look(w->backend, all, &why);
    if (why.status != STRETTO_OK) return fail(err, why.status, "%s", why.text);
    if (w->number >= n) return not_there(w->backend, w->number, all, n, err);
    *out = (struct found){ w->backend, w->number, all[w->number] };
    if (out->about.unusable)
        return fail(err, STRETTO_E_DEVICE, "%s (%s) cannot be used: %s", out->about.word,
                    out->about.name, out->about.why);
    return STRETTO_OK;
}

/* NVIDIA's cards answer to both drivers. */
static bool is_nvidia(const struct device_about *a)
{
    return has_word(a->name, "nvidia") || has_word(a->driver, "nvidia") || has_word(a->driver, "cuda");
}

/* One line of what was looked for in vain. */
static void tell_vain(char *text, size_t size, const struct backend *b, const struct device_about *all,
                      size_t n, const struct error *why)
{
    size_t at = strlen(text);
    const struct device_about *bad = NULL;
    for (size_t i = 0; i < n && !bad; i++)
        if (all[i].card && all[i].unusable) bad = &all[i];
    if (at) at += (size_t)snprintf(text + at, size - at, "; ");
    if (at >= size) return;
    if (why->text[0]) snprintf(text + at, size - at, "%.200s", why->text);
    else if (bad) snprintf(text + at, size - at, "%s (%.60s): %.120s", bad->word, bad->name, bad->why);
    else snprintf(text + at, size - at, "%s has no card", b->name);
}

/* The number-th usable card of all backends. */
static stretto_status any_card(const struct wanted *w, struct device_about *all, struct found *out,
                               struct error *err)
{
    uint32_t seen = 0;
    bool nvidia = false;
    char vain[420] = "", names[420] = "";
    for (size_t b = 0; backends[b]; b++) {
        struct error why = { .status = STRETTO_OK };
        if (!backends[b]->list) continue;
        uint32_t before = seen;
        bool here = false;
        size_t n = look(backends[b], all, &why);
        for (size_t i = 0; i < n; i++) {
            if (!all[i].card || all[i].unusable || (nvidia && is_nvidia(&all[i]))) continue;
            here |= is_nvidia(&all[i]);
            if (seen++ == w->number) {
                *out = (struct found){ backends[b], (uint32_t)i, all[i] };
                return STRETTO_OK;
            }
            size_t at = strlen(names);
            snprintf(names + at, sizeof names - at, "%sgpu:%u (%s)", at ? ", " : "", (unsigned)seen - 1,
                     all[i].name);
        }
        nvidia |= here;
        if (seen == before) tell_vain(vain, sizeof vain, backends[b], all, n, &why);
    }
    if (seen)
        return fail(err, STRETTO_E_DEVICE, "there is no gpu:%u; there %s %u: %s", (unsigned)w->number,
                    seen > 1 ? "are" : "is", (unsigned)seen, names);
    return fail(err, STRETTO_E_DEVICE, "there is no gpu: %s", vain);
}

static stretto_status find(const char *word, struct found *out, struct error *err)
{
    struct wanted w;
    char words[200];
    if (!read_word(word, &w)) {
        device_words(words, sizeof words);
        return fail(err, STRETTO_E_ARG, "there is no device '%s' in this build; there is: %s", word,
                    words);
    }
    struct device_about *all = mem_zalloc(MOST, sizeof *all);
    if (!all) return fail(err, STRETTO_E_NOMEM, "out of memory");
    stretto_status s = STRETTO_E_DEVICE;
    if (w.automatic) {
        if (cards_likely("")) s = any_card(&w, all, out, NULL);
        w.backend = backends[0];
        if (s != STRETTO_OK) s = of_backend(&w, all, out, err);
    } else s = w.backend ? of_backend(&w, all, out, err) : any_card(&w, all, out, err);
    mem_free(all);
    return s;
}

stretto_status backend_find(const char *word, struct device_about *out, struct error *err)
{
    struct found f;
    TRY(find(word, &f, err));
    *out = f.about;
    return STRETTO_OK;
}

static stretto_status open_found(const struct found *f, const struct device_options *o,
                                 struct device **out, struct error *err)
{
    struct device_options on = *o;
    on.number = f->number;
    TRY(f->backend->open(out, &on, err));
    memcpy((*out)->word, f->about.word, sizeof (*out)->word);
    memcpy((*out)->name, f->about.name, sizeof (*out)->name);
    return STRETTO_OK;
}

stretto_status backend_open(const char *word, const struct device_options *o, struct device **out,
                            struct error *err)
{
    struct found f, first = { .backend = backends[0] };
    struct error why = { .status = STRETTO_OK };
    *out = NULL;
    TRY(find(word, &f, err));
    stretto_status s = open_found(&f, o, out, &why);
    bool automatic = word && strcmp(word, "auto") == 0 && f.backend != backends[0];
    if (s == STRETTO_OK || !automatic) return s == STRETTO_OK ? s : fail(err, s, "%s", why.text);
    snprintf(first.about.word, sizeof first.about.word, "%s", backends[0]->name);
    return open_found(&first, o, out, err);
}

/* ---- a cheap look ----------------------------------------------------------------------------- */

static bool is_there(const char *root, const char *path)
{
    char whole[600];
    int n = snprintf(whole, sizeof whole, "%s%s", root, path);
    return n > 0 && n < (int)sizeof whole && access(whole, F_OK) == 0;
}

/* A file of OpenCL's list of drivers holds the name of a library. */
static bool driver_of_cpu(const char *folder, const char *name)
{
    char path[900], text[300] = "";
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "r");
    if (f) {
        size_t n = fread(text, 1, sizeof text - 1, f);
        text[n] = '\0';
        fclose(f);
    }
    return !f || has_word(text, "pocl") || has_word(text, "intelocl");
}

/* Whether a folder has a file whose name begins and ends so; `cpu` says which do not count. */
static bool has_file(const char *root, const char *folder, const char *begin, const char *end,
                     bool (*cpu)(const char *folder, const char *name))
{
    char path[600];
    bool found = false;
    snprintf(path, sizeof path, "%s%s", root, folder);
    DIR *d = opendir(path);
    for (struct dirent *x; d && !found && (x = readdir(d));) {
        size_t n = strlen(x->d_name), m = strlen(end);
        found = strncmp(x->d_name, begin, strlen(begin)) == 0 && n > m
             && strcmp(x->d_name + n - m, end) == 0 && !(cpu && cpu(path, x->d_name));
    }
    if (d) closedir(d);
    return found;
}

static bool is_set(const char *variable)
{
    const char *value = getenv(variable);
    return value && *value;
}

bool cards_likely(const char *root)
{
    /* NVIDIA's driver, the same under Windows, AMD's, ARM's. */
    static const char *const files[] = { "/dev/nvidiactl", "/dev/dxg", "/dev/kfd", "/dev/mali0" };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (is_there(root, files[i])) return true;
    /* Who names a driver's library, or a list of drivers, has reasons. */
    if (!*root && (is_set("STRETTO_CUDA") || is_set("STRETTO_OPENCL"))) return true;
    if (!*root && is_set("OCL_ICD_VENDORS") && has_file(getenv("OCL_ICD_VENDORS"), "", "", ".icd", driver_of_cpu))
        return true;
    return has_file(root, "/dev/dri", "renderD", "", NULL)
        || has_file(root, "/etc/OpenCL/vendors", "", ".icd", driver_of_cpu);
}
