/* What the catalogue has, what is on this machine, and taking it away again. */
#include "models/folder.h"
#include "stretto/commands.h"
#include "stretto/fetch.h"
#include "stretto/nearest.h"
#include "ui/progress.h"
#include "ui/terminal.h"
#include <jansson.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct models_options { bool json, quiet, here, yes; };

/* ---- the list -------------------------------------------------------------------------------- */

static json_t *model_json(const struct catalogue_model *m, const char *dir)
{
    struct buffer path = buffer_make(CATALOGUE_MAX_PATH);
    json_t *o = json_object(), *sources = json_array();
    uint64_t bytes = catalogue_bytes(m);
    for (size_t i = 0; i < m->n_sources; i++)
        json_array_append_new(sources, json_string(m->sources[i]));
    json_object_set_new(o, "name", json_string(m->name));
    json_object_set_new(o, "title", json_string(m->title));
    json_object_set_new(o, "licence", json_string(m->licence));
    json_object_set_new(o, "terms", m->terms ? json_string(m->terms) : json_null());
    json_object_set_new(o, "bytes", bytes ? json_integer((json_int_t)bytes) : json_null());
    json_object_set_new(o, "default", json_boolean(m->is_default));
    json_object_set_new(o, "present", json_boolean(catalogue_present(m, dir)));
    if (catalogue_path(m, dir, &path) == STRETTO_OK)
        json_object_set_new(o, "path", json_string(path.data));
    json_object_set_new(o, "sources", sources);
    buffer_done(&path);
    return o;
}

/* Something in the folder of models that the catalogue does not know. */
static json_t *item_json(const struct model_folder_item *i)
{
    return json_pack("{s:s,s:s,s:n,s:n,s:I,s:b,s:b,s:s,s:[]}", "name", i->name, "title",
                     hub_name_is(i->name) ? "of Hugging Face" : "put there by hand", "licence", "terms",
                     "bytes", (json_int_t)i->bytes, "default", 0, "present", 1, "path", i->path, "sources");
}

static int print_json(const struct catalogue *c, const struct model_folder *s, bool here)
{
    json_t *all = json_array();
    for (size_t i = 0; i < catalogue_count(c); i++)
        if (!here || catalogue_present(catalogue_at(c, i), s->dir))
            json_array_append_new(all, model_json(catalogue_at(c, i), s->dir));
    for (size_t i = 0; i < s->n; i++)
        if (!s->items[i].model) json_array_append_new(all, item_json(&s->items[i]));
    int bad = json_dumpf(all, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
    putchar('\n');
    json_decref(all);
    return bad ? command_fail("models", STRETTO_E_NOMEM, "the list could not be written")
               : EXIT_DONE;
}

static int print_names(const struct catalogue *c, const struct model_folder *s, bool here)
{
    for (size_t i = 0; i < catalogue_count(c); i++)
        if (!here || catalogue_present(catalogue_at(c, i), s->dir)) puts(catalogue_at(c, i)->name);
    for (size_t i = 0; i < s->n; i++)
        if (!s->items[i].model) puts(s->items[i].name);
    return EXIT_DONE;
}

/* The table: on a narrow terminal first the licences and then what things are give way. */
struct columns { size_t name, licence, width; };      /* licence 0: left out; width 0: no terminal */

static const char the_default[] = " (the default)";

static void widen(size_t *column, const char *word)
{
    size_t n = strlen(word);
    if (n > *column) *column = n < 40 ? n : 40;
}

static struct columns columns_of(const struct catalogue *c, const struct model_folder *s)
{
    struct ui_terminal t = ui_terminal_look(stdout);
    struct columns w = { .name = 4, .licence = 7, .width = t.there ? t.width : 0 };
    size_t what = 0;
    for (size_t i = 0; i < catalogue_count(c); i++) {
        widen(&w.name, catalogue_at(c, i)->name);
        widen(&w.licence, catalogue_at(c, i)->licence);
        size_t n = strlen(catalogue_at(c, i)->title) + (catalogue_at(c, i)->is_default ? strlen(the_default) : 0);
        if (n > what) what = n;
    }
    for (size_t i = 0; i < s->n; i++) widen(&w.name, s->items[i].name);
    if (w.width && w.name + w.licence + what + 21 > w.width) w.licence = 0;
    return w;
}

static void print_row(const struct columns *w, const char *name, const char *size, const char *licence,
                      const char *here, const char *what)
{
    int at = printf("%-*s  %9s", (int)w->name, name, size);
    if (w->licence) at += printf("  %-*s", (int)w->licence, licence);
    size_t used = (size_t)at + 8, room = !w->width ? strlen(what) : used < w->width ? w->width - used : 0;
    if (strlen(what) <= room) printf("  %-4s  %s\n", here, what);
    else if (room >= 15) printf("  %-4s  %.*s...\n", here, (int)room - 3, what);
    else printf("  %s\n", here);
}

static void print_catalogue(const struct columns *w, const struct catalogue *c, const char *dir, bool here)
{
    for (size_t i = 0; i < catalogue_count(c); i++) {
        const struct catalogue_model *m = catalogue_at(c, i);
        bool present = catalogue_present(m, dir);
        char size[32] = "?", what[300];
        if (here && !present) continue;
        if (catalogue_bytes(m)) ui_bytes(size, sizeof size, catalogue_bytes(m));
        snprintf(what, sizeof what, "%s%s", m->title, m->is_default ? the_default : "");
        print_row(w, m->name, size, m->licence, present ? "yes" : "-", what);
    }
}

static int print_table(const struct catalogue *c, const struct model_folder *s, bool here)
{
    struct columns w = columns_of(c, s);
    char size[32];
    print_row(&w, "name", "size", "licence", "here", "what it is");
    print_catalogue(&w, c, s->dir, here);
    for (size_t i = 0; i < s->n; i++)
        if (!s->items[i].model)
            print_row(&w, s->items[i].name, ui_bytes(size, sizeof size, s->items[i].bytes), "?", "yes",
                      hub_name_is(s->items[i].name) ? "of Hugging Face" : "put there by hand");
    char where[CATALOGUE_MAX_PATH + 40];
    snprintf(where, sizeof where, "Models are kept in %s.", s->dir);
    putchar('\n');
    command_say(where);
    command_say("'stretto pull NAME' fetches a model, 'stretto models rm NAME' removes one; hf:USER/REPO[:QUANT], "
                "https: and file: sources can be pulled too.");
    return EXIT_DONE;
}

/* ---- taking away ----------------------------------------------------------------------------- */

/* Removes a file and what a broken download left beside it. */
static bool remove_file(const char *path)
{
    static const char *const beside[] = { ".part", ".info", ".lock" };
    char other[CATALOGUE_MAX_PATH];
    bool any = false;
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++)
        if ((size_t)snprintf(other, sizeof other, "%s%s", path, beside[i]) < sizeof other)
            any |= unlink(other) == 0;
    return unlink(path) == 0 || (errno == ENOENT && any);
}

/* A folder with all that is in it; links are removed, not followed. */
static bool remove_folder(const char *path, int depth)
{
    char member[CATALOGUE_MAX_PATH];
    struct stat st;
    DIR *d = depth < 8 ? opendir(path) : NULL;
    bool ok = d != NULL;
    for (struct dirent *e; ok && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        ok = (size_t)snprintf(member, sizeof member, "%s/%s", path, e->d_name) < sizeof member
            && lstat(member, &st) == 0
            && (S_ISDIR(st.st_mode) ? remove_folder(member, depth + 1) : unlink(member) == 0);
    }
    if (d) closedir(d);
    return ok && rmdir(path) == 0;
}

/* All parts of a file that is split, or the one. */
static bool remove_gguf(const char *first)
{
    char path[CATALOGUE_MAX_PATH];
    if ((size_t)snprintf(path, sizeof path, "%s", first) >= sizeof path) return false;
    const char *at = gguf_split_number(path);
    unsigned parts = 1;
    if (at) sscanf(at + 9, "%5u", &parts);
    bool ok = true;
    for (unsigned i = 1; ok && i <= parts; i++) {
        char digits[16];
        snprintf(digits, sizeof digits, "%05u", i);
        if (at) memcpy(path + (at - path), digits, 5);
        ok = remove_file(path);
    }
    return ok;
}

/* The folders above, as far as they are empty now; never the folder of models itself. */
static void remove_empty(const char *dir, const char *path)
{
    char above[CATALOGUE_MAX_PATH];
    if ((size_t)snprintf(above, sizeof above, "%s", path) >= sizeof above) return;
    for (char *slash; (slash = strrchr(above, '/')) && (size_t)(slash - above) > strlen(dir);) {
        *slash = '\0';
        if (rmdir(above) != 0) return;
    }
}

static int remove_item(const struct model_folder *s, const struct model_folder_item *i)
{
    if (!(i->folder ? remove_folder(i->path, 0) : remove_gguf(i->path))) {
        struct error err = { 0 };
        fail(&err, STRETTO_E_IO, "%s cannot be removed: %s", i->path, strerror(errno));
        return command_fail("models", STRETTO_E_IO, err.text);
    }
    remove_empty(s->dir, i->path);
    fprintf(stderr, "stretto models: removed %s (%s)\n", i->name, i->path);
    return EXIT_DONE;
}

/* A model of the catalogue of which a part is here: an old version, or a download that broke. */
static bool half_there(const struct catalogue *c, const struct model_folder *s, const char *name,
                       struct model_folder_item *out, struct buffer *path)
{
    const struct catalogue_model *m = catalogue_find(c, name);
    struct stat st;
    if (!m || catalogue_path(m, s->dir, path) != STRETTO_OK) return false;
    size_t n = path->len;
    bool there = lstat(path->data, &st) == 0;
    if (!there && buffer_str(path, ".part") == STRETTO_OK) {
        there = lstat(path->data, &st) == 0;
        path->data[path->len = n] = '\0';
    }
    *out = (struct model_folder_item){ .name = (char *)(uintptr_t)m->name, .path = path->data,
                                .bytes = there && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0,
                                .folder = m->folder != NULL };
    return there;
}

static int not_there(const struct catalogue *c, const struct model_folder *s, const char *name)
{
    struct error err = { 0 };
    struct nearest near;
    if (catalogue_find(c, name)) {
        fail(&err, STRETTO_E_IO, "%s is not on this machine", name);
        return command_fail("models", STRETTO_E_IO, err.text);
    }
    nearest_begin(&near, name);
    for (size_t i = 0; i < s->n; i++) nearest_try(&near, s->items[i].name, strlen(s->items[i].name));
    fail(&err, STRETTO_E_IO, "there is no model %.200s in %.200s, and nothing else is removed: 'stretto models' "
         "lists what is there%s", name, s->dir, nearest_words(&near));
    return command_fail("models", STRETTO_E_IO, err.text);
}

static int ask_to_remove(const struct model_folder_item *i)
{
    char size[32];
    if (!can_ask())
        return command_usage("models", "rm asks before it removes %s, and there is no terminal to ask at: use -y",
                             i->name);
    fprintf(stderr, "stretto models: remove %s (%s, %s)?", i->name, ui_bytes(size, sizeof size, i->bytes), i->path);
    return ask_person(false) ? EXIT_DONE : command_fail("models", STRETTO_E_IO, "nothing was removed");
}

static int remove_named(const struct catalogue *c, const struct model_folder *s, const char *name, bool yes)
{
    struct model_folder_item half;
    struct buffer path = buffer_make(CATALOGUE_MAX_PATH);
    const struct model_folder_item *i = model_folder_named(s, name);
    if (!i && half_there(c, s, name, &half, &path)) i = &half;
    int code = !i ? not_there(c, s, name) : yes ? EXIT_DONE : ask_to_remove(i);
    if (code == EXIT_DONE) code = remove_item(s, i);
    buffer_done(&path);
    return code;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int list(const struct catalogue *c, const struct model_folder *s, const struct models_options *o)
{
    if (o->json) return print_json(c, s, o->here);
    return o->quiet ? print_names(c, s, o->here) : print_table(c, s, o->here);
}

static int act(const struct catalogue *c, const struct model_folder *s, const struct models_options *o, size_t n,
               char **words)
{
    if (!n || strcmp(words[0], "list") == 0 || strcmp(words[0], "ls") == 0) {
        if (n > 1) return command_usage("models", "%s takes no name", words[0]);
        return list(c, s, o);
    }
    if (strcmp(words[0], "rm") != 0) return command_odd("models", "action", words[0], "list|ls|rm");
    if (n == 1) return command_usage("models", "rm needs the name of a model: 'stretto models' lists them");
    int code = EXIT_DONE;
    for (size_t i = 1; i < n && code == EXIT_DONE; i++) code = remove_named(c, s, words[i], o->yes);
    return code;
}

static int models_run(void *options, size_t n, char **operands)
{
    struct error err = { 0 };
    struct catalogue *c = NULL;
    struct model_folder folder = { 0 };
    struct buffer dir = buffer_make(CATALOGUE_MAX_PATH);
    stretto_status s = catalogue_open(&c, &err);
    if (s == STRETTO_OK) s = catalogue_models_dir(&dir, &err);
    if (s == STRETTO_OK) s = model_folder_open(&folder, c, dir.data, &err);
    int code = s != STRETTO_OK ? command_fail("models", s, err.text) : act(c, &folder, options, n, operands);
    model_folder_close(&folder);
    buffer_done(&dir);
    catalogue_close(c);
    return code;
}

#define AT(field) offsetof(struct models_options, field)
static const struct option rows[] = {
    { "--here", NULL, OPT_FLAG, AT(here), 0, 0, "list only what is on this machine" },
    { "-q --quiet", NULL, OPT_FLAG, AT(quiet), 0, 0, "list only the names, one per line" },
    { "--json", NULL, OPT_FLAG, AT(json), 0, 0, "print the list as one JSON value" },
    { "-y --yes", NULL, OPT_FLAG, AT(yes), 0, 0, "rm: do not ask" },
};
#undef AT
static const struct option_group group = { "Options", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = { { &group, 0 } };
const struct command command_models = {
    .name = "models",
    .summary = "list models, and remove them",
    .operands = "[list | rm NAME...]",
    .description =
        "Lists the models of the catalogue and those in the folder of models. -m takes each of the names "
        "in every command that takes a model; a model that is not here yet is fetched on first use, "
        "after a question at the terminal or with --yes. A catalogue of your own at "
        "$XDG_CONFIG_HOME/stretto/catalogue adds to the list.\n\n"
        "'stretto models rm NAME' removes a model from that folder, after a question or with -y; it "
        "removes nothing else. 'stretto list', 'stretto ls' and 'stretto rm NAME' do the same.",
    .uses = uses,
    .n_uses = 1,
    .options_size = sizeof(struct models_options),
    .max_operands = 1000,
    .run = models_run,
};
