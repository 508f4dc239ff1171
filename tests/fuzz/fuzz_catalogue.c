/* Any bytes as a catalogue, alone and on top of another: what is accepted keeps its promises. */
#include "models/catalogue.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct catalogue *c)
{
    struct buffer path = buffer_make(CATALOGUE_MAX_PATH);
    size_t defaults = 0;
    for (size_t i = 0; i < catalogue_count(c); i++) {
        const struct catalogue_model *m = catalogue_at(c, i);
        if (catalogue_find(c, m->name) != m || !m->n_files || !m->n_sources) abort();
        if (!m->folder && m->n_files != 1) abort();
        defaults += m->is_default;
        for (size_t k = 0; k < m->n_files; k++) {
            if (!catalogue_name_ok(m->files[k].name) ||
                strstr(m->files[k].name, "..") == m->files[k].name)
                abort();
            if (m->files[k].sha256[0] && strlen(m->files[k].sha256) != 64) abort();
            catalogue_file_path(m, k, "/models", &path);
            if (path.len && (strncmp(path.data, "/models/", 8) != 0 || strstr(path.data, "/../")))
                abort();
        }
        for (size_t k = 0; k < m->n_sources; k++)
            if (!*m->sources[k]) abort();
        if (catalogue_bytes(m) > (uint64_t)1 << 58) abort();
    }
    if (defaults > 1) abort();
    buffer_done(&path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char older[] = "model a\nlicence X\ndefault\nsource hf:u/a/a\nfile a.gguf 10 -\n"
                                "model b\nfolder b\nsource hf:u/b\nfile c/d 1 -\nfile e - -\n";
    for (int i = 0; i < 2; i++) {
        struct catalogue *c;
        struct error err = { 0 };
        if (catalogue_empty(&c, &err) != STRETTO_OK) return 0;
        if (i && catalogue_add(c, older, sizeof older - 1, "older", &err) != STRETTO_OK) abort();
        size_t before = catalogue_count(c);
        if (catalogue_add(c, (const char *)data, size, "fuzz", &err) != STRETTO_OK
                && (catalogue_count(c) != before || !err.text[0])) abort();
        check(c);
        catalogue_close(c);
    }
    return 0;
}
