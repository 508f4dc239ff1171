/* The catalogue: short names of models, and what must arrive when one is fetched. The text's form
 * is described in data/catalogue, which is compiled in; a user's own file adds to it. The text is
 * untrusted bytes: names that could leave the folder, control characters and absurd sizes are
 * refused, and everything counted has a limit. Lifetime: from catalogue_open to catalogue_close;
 * views end with it, and with the next catalogue_add. */
#ifndef MODELS_CATALOGUE_H
#define MODELS_CATALOGUE_H
#include "base/buffer.h"
#include <stdbool.h>

enum {
    CATALOGUE_MAX_TEXT = 1 << 20, CATALOGUE_MAX_LINE = 4096, CATALOGUE_MAX_MODELS = 1024,
    CATALOGUE_MAX_FILES = 256, CATALOGUE_MAX_SOURCES = 16, CATALOGUE_MAX_NAME = 200,
    CATALOGUE_MAX_PATH = 4096,
};

struct catalogue_file {
    const char *name;              /* relative and harmless: see catalogue_name_ok       */
    uint64_t bytes;                /* 0: not known                                       */
    char sha256[65];               /* 64 small hexadecimal digits; "": not known         */
};

struct catalogue_model {
    const char *name, *title, *licence;
    const char *terms;             /* where the licence is accepted; NULL: nowhere       */
    const char *folder;            /* NULL: one file                                     */
    const char **sources;          /* at least one, in the order to try                  */
    struct catalogue_file *files;  /* at least one                                       */
    size_t n_sources, n_files;
    bool is_default;
};

struct catalogue;                  /* opaque */

/* What is compiled in (or the file that STRETTO_CATALOGUE names instead), and then the user's own
 * $XDG_CONFIG_HOME/stretto/catalogue where there is one. */
stretto_status catalogue_open(struct catalogue **out, struct error *err);
stretto_status catalogue_empty(struct catalogue **out, struct error *err);
/* Adds the models of a text; one of a name already there replaces it. `where` names the text in
 * messages. On failure nothing has been added. */
stretto_status catalogue_add(struct catalogue *c, const char *text, size_t n, const char *where,
                             struct error *err);
void catalogue_close(struct catalogue *c);         /* NULL is fine */

size_t catalogue_count(const struct catalogue *c);
const struct catalogue_model *catalogue_at(const struct catalogue *c, size_t i);
const struct catalogue_model *catalogue_find(const struct catalogue *c,
                                             const char *name);             /* or NULL */
const struct catalogue_model *catalogue_default(const struct catalogue *c); /* or NULL */
const char *
catalogue_endpoint(const struct catalogue *c); /* of hf: sources; "" when none is named */

/* Bytes of all files; 0 when one of them is not known. */
uint64_t catalogue_bytes(const struct catalogue_model *m);
/* ${XDG_CACHE_HOME:-~/.cache}/stretto/models */
stretto_status catalogue_models_dir(struct buffer *out, struct error *err);
/* Where a model's file or folder is, or would be, inside `dir`. */
stretto_status catalogue_path(const struct catalogue_model *m, const char *dir, struct buffer *out);
stretto_status catalogue_file_path(const struct catalogue_model *m, size_t file, const char *dir,
                                   struct buffer *out);
/* All files are there, with the sizes they must have. Contents are not read. */
bool catalogue_present(const struct catalogue_model *m, const char *dir);

/* What -m means: an existing path is itself; otherwise a name of the catalogue, of Hugging Face
 * (models/hub_name.h) or of something in the folder of models; NULL is the default model. Replaces the
 * content of `path`. *away is set when it fails because the model would first have to be fetched; `path`
 * then holds what 'stretto pull' calls it. */
stretto_status catalogue_resolve(const char *model, struct buffer *path, bool *away, struct error *err);

/* A relative path of plain segments, at most CATALOGUE_MAX_NAME bytes, that cannot leave the folder
 * it is put into, hide itself, or be taken for a partial download. */
bool catalogue_name_ok(const char *name);
#endif
