/* The folder of models: what is in it, and under which names. Models of the catalogue lie where
 * catalogue_path says, those of Hugging Face below USER/REPO, and whatever a person put there goes by its
 * file name. The folder is read as it is found: counted, bounded, symbolic links not followed. */
#ifndef MODELS_SHELF_H
#define MODELS_SHELF_H
#include "models/catalogue.h"
#include "models/hub_name.h"

enum { SHELF_MAX = 4096 };

/* A file of this name ends a folder that was fetched whole. */
extern const char shelf_whole[];

struct shelf_item {
    char *name;                            /* what -m takes                                          */
    char *path;                            /* a file, the first part of one, or a folder             */
    uint64_t bytes;                        /* of all parts, of all files                             */
    bool folder;
    const struct catalogue_model *model;   /* NULL: not of the catalogue                             */
};
struct shelf { struct shelf_item *items; size_t n; char *dir; };

/* Sorted by name. `c` must outlive it; a folder that is not there is empty. */
stretto_status shelf_open(struct shelf *s, const struct catalogue *c, const char *dir, struct error *err);
void shelf_close(struct shelf *s);

/* The path of a model of Hugging Face, when it is there and whole; false otherwise. */
bool shelf_find(const struct hub_name *n, const char *dir, struct buffer *path);
/* The item that a name means, by its own or another spelling; or NULL. */
const struct shelf_item *shelf_named(const struct shelf *s, const char *name);
#endif
