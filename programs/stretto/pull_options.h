/* Options of `stretto pull`, shared by the command (which shows them in its help) and by the
 * program that does the work. */
#ifndef STRETTO_PULL_OPTIONS_H
#define STRETTO_PULL_OPTIONS_H
#include "stretto/command.h"

struct pull_options {
    const char *into, *as, *sha256;      /* NULL: not given                                  */
    bool offline, force, json, quiet;
    int64_t retries;                     /* of one source, without any byte gained           */
    double retry_wait, stall;            /* seconds                                          */
};

extern const struct option_group group_pull;
extern const char pull_description[];
void pull_options_defaults(void *options);
#endif
