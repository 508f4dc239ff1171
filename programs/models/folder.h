/* The folder of models: what is in it, and under which names. Models of the catalogue lie where
 * catalogue_path says, those of Hugging Face below USER/REPO, and whatever a person put there goes by its
 * file name. The folder is read as it is found: counted, bounded, symbolic links not followed. */
#ifndef MODELS_FOLDER_H
#define MODELS_FOLDER_H
#include "models/catalogue.h"
#include "models/hub_name.h"

enum { MODEL_FOLDER_MAX = 4096 };

/* A file of this name ends a folder that was fetched whole. */
extern const char model_folder_whole[];

struct model_folder_item {
    char *name;                            /* what -m takes                                          */
    char *path;                            /* a file, the first part of one, or a folder             */
    uint64_t bytes;                        /* of all parts, of all files                             */
    bool folder;
    const struct catalogue_model *model;   /* NULL: not of the catalogue                             */
};
struct model_folder { struct model_folder_item *items; size_t n; char *dir; };

/* Sorted by name. `c` must outlive it; a folder that is not there is empty. */
stretto_status model_folder_open(struct model_folder *s, const struct catalogue *c, const char *dir, struct error *err);
void model_folder_close(struct model_folder *s);

/* The path of a model of Hugging Face, when it is there and whole; false otherwise. */
bool model_folder_find(const struct hub_name *n, const char *dir, struct buffer *path);
/* The item that a name means, by its own or another spelling; or NULL. */
const struct model_folder_item *model_folder_named(const struct model_folder *s, const char *name);
#endif
