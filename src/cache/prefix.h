/* Texts that begin alike share pages: a tree of the pages that texts have filled, one node a page, whoever
 * computed it (RadixAttention, arXiv 2312.07104; here in whole pages, found by hash and then compared).
 *
 * A node is 64 tokens behind its parent's, their roles, and the page of each layer group that holds them; it has
 * a reference of its own on those pages (cache.h), so they outlive the sequence. The same tokens in other roles
 * are another node beside it: their bits may differ. A leaf may hold fewer tokens: the end of a text whose
 * sequence left. Texts of different salts have no node in common.
 *
 * Where adapters act on some rows of a sequence, its pages have the texts' salt as far as none of those rows is in them
 * or before them, and the adapters' own from there on: so a prompt that they leave alone is everybody's.
 *
 * A sequence sits at the node of its last full page; its full pages are those on the way from the root. It locks
 * that way. What nobody locks is given up when pages are needed: the least recently used first, a text's end before
 * its beginning; nodes that were taken over twice are in a list of their own, which holds a quarter of the nodes
 * and gives only when the other is empty, so that one long text that comes once does not wash them away (segmented
 * LRU). Pages of a window are given up by themselves, least recently needed first; their node stays, and a text can
 * be taken over as far as what its next row sees is there. */
#ifndef CACHE_PREFIX_H
#define CACHE_PREFIX_H
#include "cache/cache.h"

/* Whose pages they are decides who gives up first: while several have some, those of whoever has more than an equal
 * part, so that nobody's texts are washed away by all of another's. A page of several is his whose text brought it. */
enum { PREFIX_OWNERS = 256 };        /* that are told apart; of more, some count as one */
struct prefix_owner {
    uint64_t who;
    uint32_t nodes;
    int32_t oldest[2];               /* of his leaves that nobody locks, by is_protected: prefix_age.c */
};

enum { PREFIX_ROOT = 0, PREFIX_NONE = -1,
       PREFIX_PART = 16,             /* tokens of a text's end that are worth a page that is kept */
       PREFIX_COPY = 4 };            /* and of a page that are worth a copy: it takes as long as reading two or three */

struct prefix_links { int32_t prev, next; };
struct prefix_list { int32_t first, last; uint32_t n; };
struct prefix_age { int32_t child, next, prev; }; /* in a heap: its first child; beside it; before it, or above */

struct prefix_node {
    int32_t parent, child;           /* child: the one used last */
    struct prefix_links beside;      /* of its parent's children */
    struct prefix_links used;        /* of those that nobody locks */
    struct prefix_age age;           /* of those without children among them */
    uint64_t used_at, born;          /* used_at: ascends in `used`; born: no other node's ever */
    uint64_t counted;                /* see prefix_count */
    struct prefix_links window[GRAPH_GROUPS]; /* of those that have a page of the group */
    int32_t page[GRAPH_GROUPS];      /* -1: it has none */
    int32_t same;                    /* the next of its bucket */
    uint32_t depth, n_tokens;        /* pages before its end; 64, or those of a text's end */
    uint32_t locks, hits;
    uint64_t salt, text, roles;      /* text: hash of all tokens up to here; roles: bit i, token i is given */
    struct prefix_seq *here;         /* who sits here */
    bool is_protected;
    uint16_t owner;
    int32_t record;                  /* on disk; -1 */
    int32_t tokens[PAGE_SLOTS];
};

/* Pages that come from disk for a text, from call to call: up to this node they are nodes; `end` are to be. */
struct prefix_goal { int32_t node; uint64_t born; uint32_t end; };

enum prefix_adapts { ADAPTS_GIVEN = 1, ADAPTS_WRITTEN = 2 };

/* What the tree knows of a sequence; the engine's own. */
struct prefix_seq {
    struct cache_seq *cache;
    const int32_t *tokens;           /* its timeline, and the roles of it */
    uint8_t *given;
    uint64_t salt;                   /* whose texts it shares; 0: everybody's without one */
    uint64_t adapted;                /* and from its first row on that an adapter acts on */
    uint8_t adapts;                  /* enum prefix_adapts: rows of which role do; 0: none */
    bool by_role;                    /* some adapter acts on one role alone: pages with its rows are of these roles */
    bool exact;                      /* only pages in equal roles */
    uint64_t owner;                  /* whose its own pages are */
    int32_t node;
    struct prefix_goal goal;         /* of the text that it has now; node PREFIX_NONE: not looked for */
    struct prefix_seq *prev, *next;  /* of those at the same node */
};

/* Why a text was not taken over any further. */
#define PREFIX_CAUSES(X)                                                         \
    X(NOTHING, "all of it was there")                                         \
    X(TEXT, "no other text goes on like it")                                  \
    X(EVICTED, "it was there, and its pages were given to others")            \
    X(SALT, "it is there under another salt")                                 \
    X(ROLE, "it is there in other roles")
enum prefix_cause {
#define X(name, words) PREFIX_MISS_##name,
    PREFIX_CAUSES(X)
#undef X
    PREFIX_MISSES
};
const char *prefix_cause_text(enum prefix_cause c);

struct prefix_miss {
    enum prefix_cause cause;
    uint32_t asked, matched;         /* tokens that might have been taken over, and that were */
    uint32_t at;                     /* the first token in which it differs from the text most like it, which has */
    int32_t wanted, had;             /* `had` there; -1: that text ends, or there is none */
};

/* looked: at nodes, to find those that are given up. */
struct prefix_counts { uint64_t inserted, equal, evicted, stripped, restored, saved, compared, unlike, looked; };

struct prefix_found {
    int32_t node;                    /* of the last full page */
    uint32_t n;                      /* tokens; those behind the last full page are the first of a page of */
    int32_t part;                    /* this node, or */
    const struct prefix_seq *tail;   /* that sequence */
    uint32_t unlike;                 /* pages in other roles than asked for */
    int32_t deepest;                 /* the last page that is there, though a window's before it may be missing */
    struct prefix_miss miss;
};

struct prefix {
    struct cache *cache;
    struct prefix_node *node;        /* [cap]; 0 is the root */
    int32_t *bucket;                 /* [buckets] */
    struct { uint64_t text, salt; } *seen; /* [buckets] what was here once, as far as it is remembered */
    uint32_t cap, buckets, top;      /* top: nodes that were ever used */
    int32_t free;
    struct prefix_owner owner[PREFIX_OWNERS];
    uint32_t n_nodes, n_owners;      /* nodes that there are, and owners with some */
    struct prefix_list used[2];      /* unlocked; [1]: protected. Children stand before their parents */
    uint64_t clock, counting;        /* clock: counts uses; counting: see prefix_count */
    struct prefix_list window[GRAPH_GROUPS];
    bool off;                        /* rows see what comes after them: nothing can be shared */
    bool roles;                      /* roles have bits of their own (no: --strict) */
    uint64_t page_bytes[GRAPH_GROUPS]; /* whoever compares or saves says them */
    unsigned char *compare;          /* NULL, or room for two pages of any group: see prefix_compare */
    struct disk *disk;               /* NULL: no tier there */
    int32_t *way;                    /* [max_seq_pages] scratch: nodes from the root on */
    uint32_t save_at;                /* the node that is looked at next */
    struct prefix_counts counts;
};

/* Sizes and places (base == NULL measures), after cache_plan. */
void prefix_plan(struct prefix *p, struct arena *a, const struct cache *c);
/* After the arena has real memory, and cache_init. */
void prefix_init(struct prefix *p, struct cache *c, const struct graph *g, bool strict);
/* The empty sequence sits at the root. */
void prefix_seat(struct prefix *p, struct prefix_seq *s);

/* Pages that the sequence has filled get into the tree. Where there is an equal one, that takes the place of its
 * own, which is given back. */
void prefix_grow(struct prefix *p, struct prefix_seq *s);
/* The sequence went back, or was emptied. */
void prefix_back(struct prefix *p, struct prefix_seq *s);
/* The sequence is about to leave its text behind: the page that it has not filled gets in too. */
void prefix_leave(struct prefix *p, struct prefix_seq *s);
/* `to` has become the first tokens of `from` (cache_fork). */
void prefix_fork(struct prefix *p, const struct prefix_seq *from, struct prefix_seq *to);

/* How much of the first n tokens of the sequence's timeline could be taken over, in whole pages and the
 * beginning of one more. Of several that go as far, the one in more equal roles. */
void prefix_find(const struct prefix *p, const struct prefix_seq *s, const int32_t *tokens, const uint8_t *given,
                 uint32_t n, struct prefix_found *out);
/* Whether the next page that the sequence has to fill is there, in equal roles. */
bool prefix_has_next(const struct prefix *p, const struct prefix_seq *s, uint32_t n);
/* The sequence has these tokens now, in the roles in which they were computed. anew: for a text that begins, so nodes
 * were of use to one more. */
void prefix_take(struct prefix *p, struct prefix_seq *s, const struct prefix_found *f, bool anew);
/* The node and those before it, which somebody locks, were of use to one more text. */
void prefix_hit(struct prefix *p, int32_t node);

/* Pages of several ways, each once: anew, then by prefix_count, which tells how many of the way to a node were not
 * counted yet. What it would tell, with nothing counted. */
void prefix_count_anew(struct prefix *p);
uint32_t prefix_count(struct prefix *p, int32_t node);
uint32_t prefix_uncounted(const struct prefix *p, int32_t node);

/* Gives up a page of the group; false where there is none that nobody holds. More than one may have to be given up
 * before one is free. */
bool prefix_evict(struct prefix *p, uint32_t group);
/* Pages of the group that could be had so. */
uint32_t prefix_spare(const struct prefix *p, uint32_t group);

/* Of the text's first n tokens, in whatever roles, what nobody holds and no other text goes on from is given up, its
 * end first; returns how many tokens were. */
uint32_t prefix_forget(struct prefix *p, const struct prefix_seq *s, const int32_t *tokens, const uint8_t *given,
                       uint32_t n);
/* n tokens behind where the sequence sits, which has no page of its own: bytes of the groups' pages, in order. Where
 * they are a node already, that gets what it lacks of them. The sequence sits behind them where they are a whole page.
 * False: there is no room. */
bool prefix_place(struct prefix *p, struct prefix_seq *s, const int32_t *tokens, const uint8_t *given, uint32_t n,
                  uint32_t groups, const unsigned char *bytes);

/* ---- on disk (disk.h) ------------------------------------------------------------------------ */

/* Nodes get a record there, and texts are taken from there; NULL: no more. The caller's. */
void prefix_use_disk(struct prefix *p, struct disk *d);
/* Of the sequence's first n tokens, pages that only the disk has get into the tree: those behind what is there, and
 * those of windows that what is there has given up, as far as the text can be taken over with them and not without; at
 * most `most`. Returns how many; 0: there are none, or no room. Goes on where the last call for the text ended
 * (s->goal). */
uint32_t prefix_restore(struct prefix *p, struct prefix_seq *s, const int32_t *tokens, const uint8_t *given, uint32_t n,
                        uint32_t most);
/* At most so many pages that were taken over `hits` times, and have no record or more than it has, get one; returns how
 * many did. 0: there are no more, or
 * the disk takes none. With hits above 0 a call looks at a thousand nodes, further ones have their turn later. */
uint32_t prefix_save(struct prefix *p, uint32_t hits, uint32_t most);

/* ---- the same bits ---------------------------------------------------------------------------- */

/* From now on pages of equal nodes are compared byte by byte before one of them goes: tokens, roles and way decide the
 * bits, whoever computed them beside whom. counts.unlike says how often that was not so. room: for two pages of any
 * group, the caller's; NULL: no more. */
void prefix_compare(struct prefix *p, void *room);   /* page_bytes is set */
#endif
