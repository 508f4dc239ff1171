/* The hub's answer to what a repository holds: untrusted JSON, with limits on what is counted. */
#ifndef PULL_HUB_LIST_H
#define PULL_HUB_LIST_H
#include "base/status.h"
#include <stdbool.h>

enum { HUB_MAX_FILES = 1000, HUB_MAX_LIST = 4 << 20 };
struct hub_file { char *name; uint64_t bytes; char sha256[65]; bool chosen; };
struct hub_list {
    struct hub_file *files;
    size_t n, models;          /* models: GGUF files to choose from       */
    bool folder, by_default;   /* by_default: one of several, unnamed     */
};

/* Files whose names could not be stored are left out. Those that make a model are marked `chosen`:
 * a GGUF file with all its parts as hub_choose does, or (`folder`) what belongs to a Hugging Face folder;
 * at least one is when this succeeds. `spec` is for messages, which name the files to choose from. */
stretto_status hub_list_parse(struct hub_list *l, const char *json, size_t n, const char *spec,
                              struct error *err);
void hub_list_close(struct hub_list *l);
#endif
