/* Pages in files: what the tree of pages (prefix.h) holds, kept from process to process. A folder has segments, files
 * that only grow, of records; a record is a page's tokens, roles and bytes, and digests of what stands before it and of
 * itself. What is in a file is believed where its digests are right and nowhere else, so a process may end at any byte
 * of a write: what was not whole is passed over. BLAKE2b is our own (base/blake2b.h), so a folder means the same to
 * every build and the library needs no further one.
 *
 *   segment   records on multiples of 4096 bytes
 *   record    512 bytes: magic, which groups, depth, roles, digest of the way there, of the way with this page, of the
 *             bytes; 64 tokens; digest of all of this. Then the bytes of the groups' pages, in order
 *   way       a digest of identity, salt and all pages up to here, with their roles: a page is found by its tokens
 *             behind a way, and what is of another identity or salt cannot be
 *
 * All files of one identity (model, adapter, cache, arithmetic, this format: whatever else the bytes depend on) begin
 * with its first 16 digits. Several may share a folder; one process at a time has the files of one. They are the
 * owner's alone, and what is no regular file of his is not looked at.
 */
#ifndef CACHE_DISK_H
#define CACHE_DISK_H
#include "base/blake2b.h"
#include "base/log.h"
#include "cache/cache.h"

enum { DISK_DIGEST = 32, DISK_HEAD = 512, DISK_BLOCK = 4096, DISK_NONE = -1 };

struct disk;

struct disk_options {
    const char *folder;              /* made where it is missing                                         */
    uint64_t bytes;                  /* that its files may take; the segment used longest ago goes first */
    unsigned char identity[DISK_DIGEST];
    uint32_t n_groups;
    uint64_t page[GRAPH_GROUPS];     /* bytes of a page of each                                          */
    struct log log;
};

/* E_IO, E_NOMEM with a sentence. A folder that another process has is E_IO too. */
stretto_status disk_open(struct disk **out, const struct disk_options *o, struct error *err);
/* NULL is fine. */
void disk_close(struct disk *d);

/* The digest at the root of all texts of a salt, and that behind one more page. */
void disk_root(const struct disk *d, uint64_t salt, unsigned char way[DISK_DIGEST]);
void disk_way(const unsigned char before[DISK_DIGEST], const int32_t tokens[PAGE_SLOTS], uint64_t roles,
              unsigned char way[DISK_DIGEST]);

/* The way goes on under another salt: pages of an adapter behind those that its base has too. */
void disk_turn(unsigned char way[DISK_DIGEST], uint64_t salt);

/* A record of these tokens behind `before`, in these roles or, unless `exact`, in others; DISK_NONE. */
int32_t disk_find(const struct disk *d, const unsigned char before[DISK_DIGEST], const int32_t tokens[PAGE_SLOTS],
                  uint64_t roles, bool exact);
const unsigned char *disk_way_of(const struct disk *d, int32_t record);
uint64_t disk_roles_of(const struct disk *d, int32_t record);
uint32_t disk_groups_of(const struct disk *d, int32_t record);
/* Whether the record is there still. */
bool disk_has(const struct disk *d, int32_t record);
/* Its groups as bits, and the pages' bytes, in order: valid until the next call. E_FORMAT: they are damaged, and the
 * record is gone. */
stretto_status disk_read(struct disk *d, int32_t record, uint32_t *groups, const void **pages, struct error *err);

struct disk_page {
    const unsigned char *before;     /* [DISK_DIGEST] */
    const int32_t *tokens;           /* [PAGE_SLOTS]  */
    uint64_t roles;
    uint32_t depth, groups;
};
/* Bytes of the pages of all groups, in a place that disk_append takes them from, each group's behind the last. */
void *disk_place(struct disk *d);
/* Before an append: makes room. True where older records went for it. */
bool disk_room(struct disk *d);
/* The record of the bytes in disk_place, which takes the place of one of the same way; DISK_NONE where it could not be
 * written. Then nothing is written any more, and whoever listens was told why, once. */
int32_t disk_append(struct disk *d, const struct disk_page *x);
/* All that was appended is on the disk when this returns. */
void disk_sync(struct disk *d);

struct disk_state { uint64_t bytes, records, read, written, damaged; bool off; };
void disk_look(const struct disk *d, struct disk_state *out);
#endif
