/* What the tree's own files share. */
#ifndef CACHE_PREFIX_INT_H
#define CACHE_PREFIX_INT_H
#include "cache/prefix.h"

enum { PREFIX_LOOKS = 64 };          /* children that are compared one by one, those used last first */

uint64_t prefix_key(uint64_t text, uint64_t salt);
/* The hash of a text, from that of the text before its last page. */
uint64_t prefix_text(uint64_t before, const int32_t *page);
uint64_t prefix_roles(const uint8_t *given, uint32_t n);
/* The salt of a page of the sequence, n tokens in these roles, behind `parent`. */
uint64_t prefix_salt(const struct prefix *p, const struct prefix_seq *s, int32_t parent, uint64_t roles, uint32_t n);
/* The same behind a page with the salt `before`; s->salt: behind none. */
uint64_t prefix_salt_behind(const struct prefix_seq *s, uint64_t before, uint64_t roles, uint32_t n);
/* How many tokens of the node are tokens[0..), at most its own number; with `exact` in these roles. */
uint32_t prefix_alike(const struct prefix *p, const struct prefix_node *x, const int32_t *tokens, uint64_t roles,
                      bool exact);
/* The full page behind `parent` with these tokens and roles; PREFIX_NONE. */
int32_t prefix_child(const struct prefix *p, int32_t parent, uint64_t salt, uint64_t text, const int32_t *tokens,
                     uint64_t roles);

/* A page that becomes a node: n tokens, of which page[] has the groups' (-1: none). */
struct prefix_page {
    const int32_t *tokens;
    uint64_t roles, salt, text, owner;
    uint32_t n;
    int32_t page[GRAPH_GROUPS], record;
};
/* Unlocked, behind a locked parent; PREFIX_NONE where all nodes are locked. */
int32_t prefix_insert(struct prefix *p, int32_t parent, const struct prefix_page *x);
/* The node, which has no page of the group, holds this one too. */
void prefix_hold(struct prefix *p, int32_t node, uint32_t g, int32_t page);
/* Its page of a window, if it has one, is used now. */
void prefix_use(struct prefix *p, int32_t node, uint32_t g);
/* Groups of which it has a page. */
uint32_t prefix_groups(const struct prefix *p, int32_t node);
/* A child whose page begins with these n tokens in these roles, whole in `groups`, or PREFIX_NONE. */
int32_t prefix_part(const struct prefix *p, const struct prefix_seq *s, const int32_t *tokens, uint64_t roles,
                    uint32_t n, uint32_t groups);
/* The sequence goes on to a child. */
void prefix_step(struct prefix *p, struct prefix_seq *s, int32_t node);
void prefix_move(struct prefix *p, struct prefix_seq *s, int32_t node);
void prefix_lock(struct prefix *p, int32_t node);
void prefix_unlock(struct prefix *p, int32_t node);
/* prefix_age.c: unlocked leaves by owner and protection, and who goes first: of owners with more than an equal part,
 * where there are several, the leaf used least recently, those that are not protected first. */
void prefix_age_add(struct prefix *p, int32_t node);
void prefix_age_drop(struct prefix *p, int32_t node);
/* PREFIX_NONE: everybody has an equal part. */
int32_t prefix_age_rich(struct prefix *p);

/* The record of a page behind the node; -1. */
int32_t prefix_record(const struct prefix *p, int32_t parent, uint64_t salt, const int32_t *tokens, uint64_t roles);
#endif
