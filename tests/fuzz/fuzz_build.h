/* The graph of a source: what the targets of GGUF files and of folders share. */
#ifndef FUZZ_BUILD_H
#define FUZZ_BUILD_H
#include "model/family.h"
#include "model/model.h"
#include <stdlib.h>

/* As far as a model gets before its weights are looked at. */
static inline void build(const struct source *s)
{
    const struct family *f = family_find(source_arch(s));
    static struct config c;
    struct graph g;
    struct error err = { 0 };
    if (!f) return;
    stretto_status st = config_read(&c, f, s, &err);
    if (st == STRETTO_OK) {
        st = graph_build(&g, f, &c, s, &err);
        if (st == STRETTO_OK) graph_done(&g);
    }
    if ((st != STRETTO_OK) != (err.text[0] != '\0')) abort();
}
#endif
