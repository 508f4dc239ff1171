/* What the catalogue has, and what of it is on this machine. */
#include "format/catalogue.h"
#include "stretto/commands.h"
#include "ui/progress.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>

struct models_options { bool json; };

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

static int print_json(const struct catalogue *c, const char *dir)
{
    json_t *all = json_array();
    for (size_t i = 0; i < catalogue_count(c); i++)
        json_array_append_new(all, model_json(catalogue_at(c, i), dir));
    int bad = json_dumpf(all, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
    putchar('\n');
    json_decref(all);
    return bad ? command_fail("models", STRETTO_E_NOMEM, "the list could not be written")
               : EXIT_DONE;
}

static int width_of(const struct catalogue *c, const char *(*field)(const struct catalogue_model *))
{
    size_t w = 0;
    for (size_t i = 0; i < catalogue_count(c); i++) {
        size_t n = strlen(field(catalogue_at(c, i)));
        if (n > w) w = n;
    }
    return w < 40 ? (int)w : 40;
}

static const char *name_of(const struct catalogue_model *m) { return m->name; }
static const char *licence_of(const struct catalogue_model *m) { return m->licence; }

static int print_table(const struct catalogue *c, const char *dir)
{
    int name = width_of(c, name_of), licence = width_of(c, licence_of);
    if (name < 4) name = 4;
    if (licence < 7) licence = 7;
    printf("%-*s  %9s  %-*s  %-9s  %s\n", name, "name", "size", licence, "licence", "here",
           "what it is");
    for (size_t i = 0; i < catalogue_count(c); i++) {
        const struct catalogue_model *m = catalogue_at(c, i);
        char size[32] = "?";
        if (catalogue_bytes(m)) ui_bytes(size, sizeof size, catalogue_bytes(m));
        printf("%-*s  %9s  %-*s  %-9s  %s%s\n", name, m->name, size, licence, m->licence,
               catalogue_present(m, dir) ? "yes" : "-", m->title,
               m->is_default ? " (the default)" : "");
    }
    printf("\n'stretto pull NAME' fetches a model into %s;\nhf:USER/REPO[/FILE], https: and file: "
           "sources "
           "work too.\n",
           dir);
    return EXIT_DONE;
}

static int models_run(void *options, size_t n, char **operands)
{
    (void)n; (void)operands;
    const struct models_options *o = options;
    struct error err = { 0 };
    struct catalogue *c = NULL;
    struct buffer dir = buffer_make(CATALOGUE_MAX_PATH);
    stretto_status s = catalogue_open(&c, &err);
    if (s == STRETTO_OK) s = catalogue_models_dir(&dir, &err);
    int code = s != STRETTO_OK ? command_fail("models", s, err.text)
        : o->json ? print_json(c, dir.data) : print_table(c, dir.data);
    buffer_done(&dir);
    catalogue_close(c);
    return code;
}

static const struct option rows[] = {
    { "--json", NULL, OPT_FLAG, offsetof(struct models_options, json), 0, 0,
      "print the list as one JSON value" },
};
static const struct option_group group = { "Options", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = { { &group, 0 } };
const struct command command_models = {
    .name = "models",
    .summary = "list the models of the catalogue, and which are here",
    .operands = "",
    .description =
        "A model of the catalogue can be named wherever -m takes a file. A catalogue of your own "
        "at\n$XDG_CONFIG_HOME/stretto/catalogue adds to it.",
    .uses = uses,
    .n_uses = 1,
    .options_size = sizeof(struct models_options),
    .run = models_run,
};
