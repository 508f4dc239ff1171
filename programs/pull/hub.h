/* Hugging Face, or a server that speaks as it does: who we are there, what a repository holds. */
#ifndef PULL_HUB_H
#define PULL_HUB_H
#include "pull/hub_list.h"
#include "pull/place.h"
#include "pull/pull.h"

/* HF_ENDPOINT, or else what the catalogue names; checked, without a slash at its end. */
stretto_status hub_endpoint(const char *catalogue, struct buffer *out, struct error *err);
/* HF_TOKEN, or the file that HF_TOKEN_PATH or HF_HOME lead to; out->len 0 when there is none. */
stretto_status hub_token(struct buffer *out, struct error *err);

/* Asks the hub what the repository of `spec` holds; see hub_list.h. */
stretto_status hub_list_open(struct hub_list *l, struct pull *p, const char *spec,
                             struct error *err);
#endif
