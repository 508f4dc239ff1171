/* Hugging Face, or a server that speaks as it does: who we are there, and what a repository holds. */
#ifndef PULL_HUB_H
#define PULL_HUB_H
#include "pull/place.h"
#include "pull/pull.h"

/* HF_ENDPOINT, or else what the catalogue names; checked, without a slash at its end. */
stretto_status hub_endpoint(const char *catalogue, struct buffer *out, struct error *err);
/* HF_TOKEN, or the file that HF_TOKEN_PATH or HF_HOME lead to; out->len 0 when there is none. */
stretto_status hub_token(struct buffer *out, struct error *err);

enum { HUB_MAX_FILES = 1000, HUB_MAX_LIST = 4 << 20 };
struct hub_file { char *name; uint64_t bytes; char sha256[65]; bool chosen; };
struct hub_list { struct hub_file *files; size_t n; };

/* The files of a repository that make a model are marked `chosen`: its only GGUF file, or a Hugging
 * Face folder. E_FORMAT with the names to choose from when there are several. */
stretto_status hub_list_open(struct hub_list *l, struct pull *p, const char *spec, struct error *err);
void hub_list_close(struct hub_list *l);

/* The same for a listing already fetched (what hub_list_open does with the answer). */
stretto_status hub_list_parse(struct hub_list *l, const char *json, size_t n, const char *spec,
                              struct error *err);
#endif
