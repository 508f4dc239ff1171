/* One text's pages in a file of its own, for whoever wants to put a conversation aside and go on with it later, in
 * another process too: the tokens, their roles, and the pages, with a digest behind them. What is read is believed
 * where the digest is right and the engine is one whose pages have the same bits (engine_disk_open says when).
 * Used between turns. */
#ifndef ENGINE_TEXT_H
#define ENGINE_TEXT_H
#include "engine/engine.h"

struct engine_text {
    int32_t *tokens;                   /* [n], the caller's                                          */
    uint8_t *given;                    /* [n]                                                        */
    uint32_t n, cap;                   /* cap: that fit                                              */
    uint64_t salt, owner;              /* of struct sharing                                          */
    float adapters[GRAPH_SETS];        /* likewise                                                   */
    uint64_t bytes;                    /* of the file                                                */
};

/* Who is asked before a file is written, which will have so many bytes; what he answers but OK is the answer. After an
 * OK he is told when the file is whole or will not be, with what he put into *note. */
struct engine_text_room {
    stretto_status (*ask)(void *ud, const char *path, uint64_t bytes, int64_t *note, struct error *err);
    void (*done)(void *ud, int64_t note, bool whole);
    void *ud;                          /* ask NULL: there is room                                    */
};

/* Writes what the cache has of t, from its first token on, in one step (base/part.h): whenever the process ends, there
 * is the file that was or the new one. t->n becomes how much that was, t->given their roles. E_FULL: no sequence is
 * free now. E_UNSUP: this engine's pages cannot be read. */
stretto_status engine_text_save(struct engine *e, struct engine_text *t, const char *path,
                                const struct engine_text_room *room, struct error *err);
/* Reads it into the cache, as texts of t->salt; t gets the tokens and roles. E_FORMAT: no such file, or damaged; E_ARG:
 * of another model, another salt or other adapters, or longer than t->cap or the context. */
stretto_status engine_text_load(struct engine *e, struct engine_text *t, const char *path, struct error *err);
/* What the cache has of t and nobody else needs is gone; returns how many tokens were. */
uint32_t engine_text_erase(struct engine *e, const struct engine_text *t);
#endif
