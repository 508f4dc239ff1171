/* stretto-pull: fetches models. A program of its own so that nothing else carries libcurl; `stretto
 * pull` starts it. */
#include "base/memory.h"
#include "models/folder.h"
#include "pull/hub.h"
#include "pull/pull.h"
#include "ui/progress.h"
#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t stopped;
static struct ui_progress drawing;

static void on_signal(int sig) { (void)sig; stopped = 1; }

__attribute__((format(printf, 1, 2)))
static void note(const char *fmt, ...)
{
    ui_progress_break(&drawing);
    fputs("stretto pull: ", stderr);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

/* ---- what an operand stands for -------------------------------------------------------------- */

/* A model to fetch: its files, and for each of them where it may come from. */
struct model {
    const char *name;
    char *path;                          /* what -m will be given                       */
    char *whole;                         /* made when all files are there; NULL: nothing is */
    struct pull_file *files;
    size_t n_files, cap;
    void **owned;                        /* everything below lives until the model ends */
    size_t n_owned;
};

static void model_done(struct model *m)
{
    for (size_t i = 0; i < m->n_owned; i++) mem_free(m->owned[i]);
    mem_free(m->owned);
    mem_free(m->files);
    *m = (struct model){ 0 };
}

static void *own(struct model *m, void *p)
{
    void **owned = p ? mem_resize(m->owned, (m->n_owned + 1) * sizeof *owned) : NULL;
    if (!owned) { mem_free(p); return NULL; }
    m->owned = owned;
    return owned[m->n_owned++] = p;
}

__attribute__((format(printf, 2, 3)))
static char *text(struct model *m, const char *fmt, ...)
{
    char *s = NULL;
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && (s = mem_alloc((size_t)n + 1))) vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return own(m, s);
}

static stretto_status no_memory(struct error *err)
{
    return fail(err, STRETTO_E_NOMEM, "no memory for the list of files");
}

/* Adds a file with room for `n_sources`, which the caller fills. */
static stretto_status file_new(struct model *m, char *path, const char *name, size_t n_sources,
                               const char ***sources, struct pull_file **file, struct error *err)
{
    *sources = own(m, mem_zalloc(n_sources, sizeof **sources));
    struct pull_file *files = mem_resize(m->files, (m->n_files + 1) * sizeof *files);
    if (files) m->files = files;
    if (!path || !name || !*sources || !files) return no_memory(err);
    *file = &files[m->n_files++];
    **file = (struct pull_file){ .name = name, .path = path, .sources = *sources,
                                 .n_sources = n_sources };
    return STRETTO_OK;
}

static stretto_status from_catalogue(struct model *m, const struct catalogue_model *c,
                                     const char *dir, struct error *err)
{
    m->name = c->name;
    m->path = text(m, "%s/%s", dir, c->folder ? c->folder : c->files[0].name);
    struct buffer place = buffer_make(PLACE_MAX);
    stretto_status s = STRETTO_OK;
    for (size_t i = 0; s == STRETTO_OK && i < c->n_files; i++) {
        const struct catalogue_file *f = &c->files[i];
        const char **sources;
        struct pull_file *file;
        char *path = c->folder ? text(m, "%s/%s/%s", dir, c->folder, f->name)
                               : text(m, "%s/%s", dir, f->name);
        s = file_new(m, path, f->name, c->n_sources, &sources, &file, err);
        if (s != STRETTO_OK) break;
        file->bytes = f->bytes;
        memcpy(file->sha256, f->sha256, sizeof file->sha256);
        for (size_t k = 0; s == STRETTO_OK && k < c->n_sources; k++) {
            if (c->folder && place_join(c->sources[k], f->name, &place) != STRETTO_OK)
                s = fail(err, STRETTO_E_FORMAT, "a source of %s is too long", c->name);
            else if (!(sources[k] = text(m, "%s", c->folder ? place.data : c->sources[k])))
                s = no_memory(err);
        }
    }
    buffer_done(&place);
    return s == STRETTO_OK && !m->path ? no_memory(err) : s;
}

/* Where what comes from Hugging Face lies: below USER/REPO in the folder of models, so that files of one
 * name from two repositories do not meet and a name is found again; flat in a folder that --into names. */
static char *hub_folder(struct model *m, const struct pull *p, const struct hub_name *n, const char *dir)
{
    struct buffer b = buffer_make(CATALOGUE_MAX_PATH);
    char *path = NULL;
    if (p->options->into) path = text(m, "%s", dir);
    else if (hub_name_folder(n, dir, &b) == STRETTO_OK) path = text(m, "%s", b.data);
    buffer_done(&b);
    return path;
}

static stretto_status repository_file(struct model *m, const struct hub_name *n, const struct hub_file *f,
                                      char *path, struct error *err)
{
    const char **sources;
    struct pull_file *file;
    struct hub_name one = *n;
    struct buffer place = buffer_make(PLACE_MAX);
    TRY(file_new(m, path, text(m, "%s", f->name), 1, &sources, &file, err));
    file->bytes = f->bytes;
    memcpy(file->sha256, f->sha256, sizeof file->sha256);
    *one.quant = '\0';
    snprintf(one.file, sizeof one.file, "%s", f->name);
    if (hub_name_spell(&one, &place) == STRETTO_OK) sources[0] = text(m, "%s", place.data);
    buffer_done(&place);
    return sources[0] ? STRETTO_OK : no_memory(err);
}

/* A Hugging Face repository without a file: its GGUF file, or its folder. */
static stretto_status from_repository(struct model *m, struct pull *p, const char *spec,
                                      const char *dir, struct error *err)
{
    struct hub_list list;
    struct hub_name n;
    bool flat = p->options->into != NULL;
    TRY(hub_name_parse(&n, spec, err));
    TRY(hub_list_open(&list, p, spec, err));
    char *folder = hub_folder(m, p, &n, dir);
    if (folder && flat && list.folder) folder = text(m, "%s/%s", folder, strchr(n.repo, '/') + 1);
    stretto_status s = folder ? STRETTO_OK : no_memory(err);
    if (list.folder) {
        m->path = folder;
        if (!flat && folder && !(m->whole = text(m, "%s/%s", folder, model_folder_whole))) s = no_memory(err);
    }
    for (size_t i = 0; s == STRETTO_OK && i < list.n; i++) {
        const struct hub_file *f = &list.files[i];
        if (!f->chosen) continue;
        const char *base = strrchr(f->name, '/');
        char *path = text(m, "%s/%s", folder, flat && !list.folder && base ? base + 1 : f->name);
        /* -m takes the first part of a split file. */
        if (!list.folder && (!m->path || (path && strcmp(path, m->path) < 0))) m->path = path;
        s = repository_file(m, &n, f, path, err);
    }
    if (s == STRETTO_OK && list.by_default)
        note("%s holds %zu GGUF files; taking the Q4_K_M one (%s:QUANT names another)", spec, list.models,
            spec);
    hub_list_close(&list);
    return s;
}

/* "name-00001-of-00003.gguf": how many files that makes, `at` where the number stands; or 1. */
static size_t split_count(const char *name, size_t *at)
{
    size_t n = strlen(name);
    unsigned first, of;
    int used = 0;
    if (n < 20) return 1;
    *at = n - 20 + 1;
    if (sscanf(name + n - 20, "-%5u-of-%5u.gguf%n", &first, &of, &used) != 2 || used != 20)
        return 1;
    return first == 1 && of > 1 && of <= CATALOGUE_MAX_FILES ? of : 1;
}

static stretto_status from_address(struct model *m, const struct pull *p, const char *spec,
                                   const char *dir, struct error *err)
{
    struct place place;
    struct buffer name = buffer_make(CATALOGUE_MAX_PATH);
    const struct pull_options *o = p->options;
    struct hub_name hub;
    bool below = hub_name_is(spec) && !o->as && !o->into;
    TRY(place_open(&place, spec, p->endpoint, err));
    stretto_status s = o->as ? buffer_str(&name, o->as) : place_name(&place, &name, err);
    if (s == STRETTO_OK && below) s = hub_name_parse(&hub, spec, err);
    if (s == STRETTO_OK && below) {
        buffer_clear(&name);
        s = buffer_str(&name, hub.file);
        dir = hub_folder(m, p, &hub, dir);
        if (s != STRETTO_OK || !dir) s = no_memory(err);
    }
    place_done(&place);
    if (s != STRETTO_OK) {
        buffer_done(&name);
        return s;
    }
    size_t at = 0, n = split_count(name.data, &at);
    /* The same number stands in the address, as far from its last '/'. */
    const char *last = strrchr(spec, '/'), *number = last ? strstr(last, "-00001-of-") : NULL;
    if (!number || o->as) n = 1;
    for (size_t i = 0; s == STRETTO_OK && i < n; i++) {
        const char **sources;
        struct pull_file *file;
        char digits[8];
        snprintf(digits, sizeof digits, "%05zu", i + 1);
        char *path = text(m, "%s/%s", dir, name.data), *from = text(m, "%s", spec);
        if (!path || !from) { s = no_memory(err); break; }
        if (n > 1) {
            memcpy(path + strlen(dir) + 1 + at, digits, 5);
            memcpy(from + (number + 1 - spec), digits, 5);
        }
        s = file_new(m, path, strrchr(path, '/') + 1, 1, &sources, &file, err);
        if (s != STRETTO_OK) break;
        sources[0] = from;
        if (i == 0) m->path = path;
        if (o->sha256) memcpy(file->sha256, o->sha256, 64);
    }
    buffer_done(&name);
    if (s == STRETTO_OK && n > 1 && o->sha256)
        s = fail(err, STRETTO_E_ARG,
                 "--sha256 is for a single file, and this model is split into several");
    return s;
}

static stretto_status model_open(struct model *m, struct pull *p, const struct catalogue *c,
                                 const char *spec, const char *dir, struct error *err)
{
    bool address = spec && (strchr(spec, ':') || strchr(spec, '/'));
    struct hub_name hub;
    if (address) {
        m->name = spec;
        if (hub_name_is(spec) && hub_name_parse(&hub, spec, NULL) == STRETTO_OK && !*hub.file)
            return from_repository(m, p, spec, dir, err);
        return from_address(m, p, spec, dir, err);
    }
    if (p->options->as || p->options->sha256)
        return fail(err, STRETTO_E_ARG,
                    "--as and --sha256 are for an address; the catalogue knows both");
    const struct catalogue_model *found = spec ? catalogue_find(c, spec) : catalogue_default(c);
    if (!found && !spec)
        return fail(err, STRETTO_E_IO, "the catalogue names no default model: name one");
    if (!found)
        return fail(err, STRETTO_E_IO,
                    "the catalogue has no model %.200s ('stretto models' lists what it "
                    "has); other models are named as hf:USER/REPO, https://... or file:PATH",
                    spec);
    return from_catalogue(m, found, dir, err);
}

/* ---- doing it -------------------------------------------------------------------------------- */

static json_t *file_json(const struct pull_file *f, const struct pull_result *r)
{
    json_t *o = json_pack("{s:s, s:I, s:s, s:b, s:b, s:I}", "path", f->path, "bytes",
                          (json_int_t)r->bytes, "sha256", r->sha256, "verified", (int)r->verified,
                          "present", (int)r->present, "resumed", (json_int_t)r->resumed);
    if (o) json_object_set_new(o, "source", r->present ? json_null() : json_string(r->source));
    return o;
}

static void report(const struct model *m, const struct pull_file *f, const struct pull_result *r)
{
    char size[32];
    ui_progress_break(&drawing);
    ui_bytes(size, sizeof size, r->bytes);
    (void)m;
    fprintf(stderr, "%s: %s, %s%s\n", f->name, r->present ? "there already" : "fetched", size,
            r->verified ? ", sha256 as expected" : ", sha256 not known in advance");
}

static stretto_status model_pull(struct model *m, struct pull *p, json_t *out, struct error *err)
{
    json_t *files = json_array();
    for (size_t i = 0; i < m->n_files; i++) {
        struct pull_result r;
        stretto_status s = pull_file(p, &m->files[i], &r, err);
        if (s != STRETTO_OK) { json_decref(files); return s; }
        json_array_append_new(files, file_json(&m->files[i], &r));
        if (!p->options->quiet) report(m, &m->files[i], &r);
    }
    if (m->whole) {
        FILE *f = fopen(m->whole, "w");
        if (!f || fclose(f) != 0) {
            json_decref(files);
            return fail(err, STRETTO_E_IO, "cannot write %s: %s", m->whole, strerror(errno));
        }
    }
    json_array_append_new(
        out, json_pack("{s:s, s:s, s:o}", "name", m->name, "path", m->path, "files", files));
    return STRETTO_OK;
}

static int pull_all(struct pull *p, const struct catalogue *c, size_t n, char **specs,
                    const char *dir)
{
    json_t *out = json_array();
    int code = EXIT_DONE;
    for (size_t i = 0; code == EXIT_DONE && i < (n ? n : 1); i++) {
        struct model m = { 0 };
        struct error err = { 0 };
        stretto_status s = model_open(&m, p, c, n ? specs[i] : NULL, dir, &err);
        if (s == STRETTO_OK) s = model_pull(&m, p, out, &err);
        if (s != STRETTO_OK) {
            ui_progress_break(&drawing);
            code = command_fail("pull", s, err.text);
        } else if (!p->options->json)
            printf("%s\n", m.path);
        model_done(&m);
    }
    if (code == EXIT_DONE && p->options->json) {
        json_dumpf(out, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
        putchar('\n');
    }
    json_decref(out);
    return code;
}

/* Everything that must be there before the first model: catalogue, folder, token. */
static int prepare_and_pull(struct pull_options *o, size_t n, char **specs)
{
    struct error err = { 0 };
    struct catalogue *c = NULL;
    struct buffer dir = buffer_make(CATALOGUE_MAX_PATH), endpoint = buffer_make(2048);
    struct buffer token = buffer_make(8192);
    struct pull p = { .options = o, .stop = &stopped, .note = note };
    p.progress = ui_progress_hook(&drawing);
    stretto_status s = catalogue_open(&c, &err);
    if (s == STRETTO_OK)
        s = o->into ? buffer_printf(&dir, "%s%s", *o->into == '/' ? "" : "./", o->into)
                    : catalogue_models_dir(&dir, &err);
    if (s == STRETTO_OK) s = hub_endpoint(catalogue_endpoint(c), &endpoint, &err);
    if (s == STRETTO_OK) s = hub_token(&token, &err);
    if (s == STRETTO_OK) s = http_open(&p.http, &err);
    while (dir.len > 1 && dir.data[dir.len - 1] == '/') dir.data[--dir.len] = '\0';
    p.endpoint = endpoint.len ? endpoint.data : "";
    p.token = token.len ? token.data : NULL;
    int code =
        s == STRETTO_OK ? pull_all(&p, c, n, specs, dir.data) : command_fail("pull", s, err.text);
    http_close(p.http);
    if (token.data) sodium_memzero(token.data, token.len);
    buffer_done(&token);
    buffer_done(&endpoint);
    buffer_done(&dir);
    catalogue_close(c);
    return code;
}

static int check_options(struct pull_options *o, size_t n)
{
    if (o->as && (!catalogue_name_ok(o->as) || strchr(o->as, '/')))
        return command_usage("pull", "--as takes a plain file name, not '%s'", o->as);
    if (o->sha256 && (strlen(o->sha256) != 64 || strspn(o->sha256, "0123456789abcdef") != 64))
        return command_usage("pull", "--sha256 takes 64 lower-case hexadecimal digits");
    if ((o->as || o->sha256) && n != 1)
        return command_usage("pull", "--as and --sha256 are for one address");
    if (o->into && !*o->into) return command_usage("pull", "--into takes a folder");
    return EXIT_DONE;
}

static int run(void *options, size_t n, char **specs)
{
    struct pull_options *o = options;
    int code = check_options(o, n);
    if (code != EXIT_DONE) return code;
    if (sodium_init() < 0 || curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        return command_fail("pull", STRETTO_E_NOMEM, "libsodium or libcurl cannot be started");
    ui_progress_init(&drawing, o->quiet ? NULL : stderr);
    /* No SA_RESTART: a wait must end at once. What nohup and the like ignore stays ignored. */
    static const int ends[] = { SIGINT, SIGTERM, SIGHUP };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct sigaction act = { .sa_handler = on_signal }, old;
        sigaction(ends[i], &act, &old);
        if (old.sa_handler == SIG_IGN) sigaction(ends[i], &old, NULL);
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);                        /* EFBIG is an error like another */
    code = prepare_and_pull(o, n, specs);
    curl_global_cleanup();
    return code;
}

static const struct option_use uses[] = { { &group_pull, 0 } };
static const struct command command_here = {
    .name = "pull",
    .summary = "fetch models, resuming and checking what arrives",
    .operands = "[MODEL...]",
    .description = pull_description,
    .uses = uses,
    .n_uses = 1,
    .options_size = sizeof(struct pull_options),
    .max_operands = SIZE_MAX,
    .defaults = pull_options_defaults,
    .run = run,
};
const struct command *const command_table[] = { &command_here, NULL };

static int dispatch(int argc, char **argv)
{
    struct pull_options o;
    size_t n;
    bool help;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("stretto-pull %s\n", STRETTO_VERSION);
        return EXIT_DONE;
    }
    pull_options_defaults(&o);
    int code = command_parse(&command_here, argc - 1, argv + 1, &o, &n, &help);
    if (code == EXIT_DONE && help) command_help(&command_here);
    else if (code == EXIT_DONE) code = run(&o, n, argv + 1);
    return code;
}

int main(int argc, char **argv)
{
    int code = dispatch(argc, argv);
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == EXIT_DONE) {
        perror("stretto pull: standard output");
        code = EXIT_FAILED;
    }
    return code;
}
