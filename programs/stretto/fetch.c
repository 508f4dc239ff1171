#include "stretto/fetch.h"
#include "models/folder.h"
#include "stretto/become.h"
#include "stretto/nearest.h"
#include "ui/progress.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- asking ---------------------------------------------------------------------------------- */

bool can_ask(void) { return isatty(STDIN_FILENO) && isatty(STDERR_FILENO); }

bool ask_person(bool enter_is_yes)
{
    char line[64] = "";
    fputs(enter_is_yes ? " [Y/n] " : " [y/N] ", stderr);
    fflush(stderr);
    if (!fgets(line, sizeof line, stdin)) {
        fputc('\n', stderr);
        return false;
    }
    line[strcspn(line, "\r\n")] = '\0';
    if (!*line) return enter_is_yes;
    return strcmp(line, "y") == 0 || strcmp(line, "Y") == 0 || strcmp(line, "yes") == 0;
}

/* Says what would be fetched, from the catalogue where it knows. */
static void describe(const char *command, const char *name)
{
    struct catalogue *c = NULL;
    if (catalogue_open(&c, NULL) != STRETTO_OK) c = NULL;
    const struct catalogue_model *m = c ? catalogue_find(c, name) : NULL;
    char size[32] = "";
    if (m && catalogue_bytes(m)) ui_bytes(size, sizeof size, catalogue_bytes(m));
    fprintf(stderr, "stretto %s: the model %s is not on this machine yet", command, name);
    if (m) fprintf(stderr, " (%s; %s%s%s%s%s)", m->title, size, *size ? ", " : "", m->licence,
                   m->terms ? ", terms: " : "", m->terms ? m->terms : "");
    fputs(". Fetch it?", stderr);
    catalogue_close(c);
}

/* ---- stretto-pull ---------------------------------------------------------------------------- */

const char pull_missing[] = "It is built where libcurl and libsodium are (Debian: libcurl4-gnutls-dev, "
    "libsodium-dev). Without it, put the model's file into place by hand and name it with -m";

static int child(const char *command, const char *name, int out)
{
    char pull[] = "stretto-pull", end[] = "--";
    char *argv[] = { pull, end, (char *)(uintptr_t)name, NULL };
    if (dup2(out, STDOUT_FILENO) < 0) return EXIT_FAILED;
    close(out);
    return program_become(command, "stretto-pull", pull_missing, argv);
}

/* What the other program prints, without the newline at its end. */
static bool read_all(int fd, struct buffer *out)
{
    char block[512];
    for (;;) {
        ssize_t n = read(fd, block, sizeof block);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 || (n > 0 && buffer_append(out, block, (size_t)n) != STRETTO_OK)) return false;
        if (n == 0) break;
    }
    if (!out->len || out->data[out->len - 1] != '\n') return false;
    out->data[--out->len] = '\0';
    return true;
}

/* stretto-pull prints the path of the model, and its progress on standard error. */
static int fetch(const char *command, const char *name, struct buffer *path)
{
    int ends[2];
    char *copy = strdup(name);
    if (!copy || pipe(ends) != 0) {
        free(copy);
        return command_fail(command, STRETTO_E_IO, strerror(errno));
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        _exit(child(command, copy, ends[1]));
    }
    close(ends[1]);
    buffer_clear(path);
    bool read = pid > 0 && read_all(ends[0], path);
    close(ends[0]);
    int state = 0;
    while (pid > 0 && waitpid(pid, &state, 0) < 0 && errno == EINTR) {}
    free(copy);
    if (pid < 0) return command_fail(command, STRETTO_E_IO, "stretto-pull could not be started");
    if (WIFEXITED(state) && WEXITSTATUS(state) == 0 && read) return EXIT_DONE;
    return WIFEXITED(state) && WEXITSTATUS(state) ? EXIT_FAILED        /* it has said why */
         : command_fail(command, STRETTO_E_IO, "stretto-pull ended before it was done");
}

/* ---- names ----------------------------------------------------------------------------------- */

/* "; did you mean ...?" among what the catalogue and the folder of models have. */
static void suggest(struct nearest *near)
{
    struct catalogue *c = NULL;
    struct model_folder s = { 0 };
    struct buffer dir = buffer_make(CATALOGUE_MAX_PATH);
    if (catalogue_open(&c, NULL) != STRETTO_OK) return;
    for (size_t i = 0; i < catalogue_count(c); i++)
        nearest_try(near, catalogue_at(c, i)->name, strlen(catalogue_at(c, i)->name));
    if (catalogue_models_dir(&dir, NULL) == STRETTO_OK && model_folder_open(&s, c, dir.data, NULL) == STRETTO_OK)
        for (size_t i = 0; i < s.n; i++) nearest_try(near, s.items[i].name, strlen(s.items[i].name));
    model_folder_close(&s);
    catalogue_close(c);
    buffer_done(&dir);
}

static int unknown(const char *command, const char *model, stretto_status s, const char *words)
{
    char text[600];
    struct nearest near;
    nearest_begin(&near, model ? model : "");
    if (model) suggest(&near);
    snprintf(text, sizeof text, "%s%s", words, nearest_words(&near));
    return command_fail(command, s == STRETTO_E_ARG ? STRETTO_E_IO : s, text);
}

/* "USER/REPO" is a path that is not there; people mean Hugging Face. */
static bool is_bare_repository(const char *model)
{
    struct hub_name n;
    char spec[HUB_MAX_REPO + HUB_MAX_WORD];
    if (!model || access(model, F_OK) == 0 || hub_name_is(model)) return false;
    if ((size_t)snprintf(spec, sizeof spec, "hf:%s", model) >= sizeof spec) return false;
    return hub_name_parse(&n, spec, NULL) == STRETTO_OK && !*n.file;
}

bool names_model(const char *word)
{
    struct catalogue *c = NULL;
    if (hub_name_is(word)) return hub_name_parse(&(struct hub_name){ .repo = "" }, word, NULL) == STRETTO_OK;
    if (catalogue_open(&c, NULL) != STRETTO_OK) return false;
    bool found = catalogue_find(c, word) != NULL;
    catalogue_close(c);
    return found;
}

int model_path(const char *command, const char *model, bool yes, struct buffer *path)
{
    struct error err = { 0 };
    bool away;
    if (is_bare_repository(model)) {
        fprintf(stderr, "stretto %s: there is no file %s; a model of Hugging Face is named hf:%s\n", command,
                model, model);
        return EXIT_FAILED;
    }
    stretto_status s = catalogue_resolve(model, path, &away, &err);
    if (s == STRETTO_OK) return EXIT_DONE;
    if (!away) return unknown(command, model, s, err.text);
    if (!yes && !can_ask()) return command_fail(command, s, err.text);
    char *name = strdup(path->data);
    if (!name) return command_fail(command, STRETTO_E_NOMEM, NULL);
    int code = EXIT_DONE;
    if (!yes) {
        describe(command, name);
        if (!ask_person(true)) code = command_fail(command, STRETTO_E_IO, "nothing was fetched");
    }
    if (code == EXIT_DONE) code = fetch(command, name, path);
    free(name);
    return code;
}
