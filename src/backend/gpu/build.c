/* Kernels from their source texts. What a compiler has to say of them is long, and of use to who writes
 * kernels or drivers: it goes to a file, and the sentence names it. */
#include "backend/gpu/gpu.h"
#include "base/buffer.h"
#include "base/memory.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One text after another, each under its own name and line numbers. */
static stretto_status sources_join(struct buffer *b, const char *const *files)
{
    static const char *const always[] = { "dialect.h", "words.h", NULL };
    const char *const *lists[] = { always, files };
    for (size_t l = 0; l < 2; l++)
        for (const char *const *name = lists[l]; *name; name++) {
            const char *text = gpu_source(*name);
            if (!text) return STRETTO_E_ARG;
            TRY(buffer_printf(b, "#line 1 \"%s\"\n", *name));
            TRY(buffer_str(b, text));
        }
    return STRETTO_OK;
}

/* Writes the log to a new file; its name into path, "" where that is impossible. */
static void log_keep(const struct gpu_device *d, const char *options, const char *log, char *path, size_t size)
{
    const char *folder = getenv("TMPDIR");
    if (!folder || !*folder) folder = "/tmp";
    int n = snprintf(path, size, "%s/stretto-kernels-XXXXXX.log", folder);
    int fd = n > 0 && (size_t)n < size ? mkstemps(path, 4) : -1;
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!f) {
        if (fd >= 0) close(fd);
        path[0] = '\0';
        return;
    }
    fprintf(f, "%s\n%s\noptions: %s\n\n%s\n", d->about.name, d->about.driver, options, log);
    if (fclose(f) != 0) path[0] = '\0';
}

/* The first line of a log that speaks of an error: most often the reason. */
static void first_error(const char *log, char *out, size_t size)
{
    const char *at = strstr(log, "error");
    if (!at) at = log;
    while (at > log && at[-1] != '\n') at--;
    snprintf(out, size, "%.*s", (int)strcspn(at, "\n"), at);
}

static stretto_status refused(const struct gpu_device *d, const char *const *files, const char *options,
                              const char *log, struct error *err)
{
    char path[256], line[128];
    const char *last = "dialect.h";
    for (; *files; files++) last = *files;
    log_keep(d, options, log, path, sizeof path);
    first_error(log, line, sizeof line);
    return fail(err, STRETTO_E_DEVICE, "the kernels of %s do not compile on %.60s (%.70s): %s; %s%s", last,
                d->about.name, d->about.driver, line, *path ? "the compiler's whole text is in " :
                "its text could not be written to a file", path);
}

stretto_status gpu_build(struct gpu_device *d, const char *const *files, const char *options,
                         struct gpu_code **out, struct error *err)
{
    struct buffer b = buffer_make(4 << 20);
    struct error inner = { 0 };
    char *log = NULL;
    *out = NULL;
    stretto_status s = sources_join(&b, files);
    if (s == STRETTO_E_ARG) s = fail(err, s, "a kernel source is not compiled in");
    else if (s != STRETTO_OK) s = fail(err, s, "out of memory");
    else {
        s = d->driver->build(d->card, b.data, options, out, &log, &inner);
        d->unbuilt = s == STRETTO_E_DEVICE && log;
        if (d->unbuilt) s = refused(d, files, options, log, err);
        else if (s != STRETTO_OK) s = fail(err, s, "%s", inner.text);
    }
    mem_free(log);
    buffer_done(&b);
    return s;
}
