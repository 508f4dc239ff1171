/* A place a file can come from: "https://...", "file:...", "hf:USER/REPO[/FILE][:QUANT][@REVISION]", taken
 * apart and made into what the network or the file system understands. */
#ifndef PULL_PLACE_H
#define PULL_PLACE_H
#include "base/buffer.h"
#include <stdbool.h>

enum { PLACE_MAX = 8192 };

enum place_kind { PLACE_URL, PLACE_FILE, PLACE_HF };

struct place {
    enum place_kind kind;
    struct buffer at;            /* the address; for PLACE_FILE the path                         */
    struct buffer repo;          /* PLACE_HF: "user/repo"                                        */
    struct buffer file;          /* PLACE_HF: path inside the repository, "" when none is named  */
    struct buffer revision;      /* PLACE_HF: "main" when none is named                          */
};

/* `endpoint`: where hf: sources live, without a slash at its end. */
stretto_status place_open(struct place *p, const char *spec, const char *endpoint,
                          struct error *err);
void place_done(struct place *p);

/* The place of a file inside a folder that `spec` names. */
stretto_status place_join(const char *spec, const char *file, struct buffer *out);
/* The last segment of the address, decoded, as a file name; E_FORMAT when it makes none. */
stretto_status place_name(const struct place *p, struct buffer *out, struct error *err);

/* https, or http to this very machine. No user names or passwords: they would end up in logs. */
stretto_status url_check(const char *url, struct error *err);
bool url_is_https(const char *url);
/* The same scheme, host and port. */
bool url_same_origin(const char *a, const char *b);
/* Percent-encodes everything but unreserved characters and, where `slashes`, '/'. */
stretto_status url_escape(struct buffer *out, const char *s, bool slashes);
/* Without query and fragment, which may hold secrets: for messages. */
void url_show(char *buf, size_t cap, const char *url);
#endif
