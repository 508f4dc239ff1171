#include "cache/disk.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/reader.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEGMENTS = 128, NAME_MAX_BYTES = 48, SUM = 16 };
/* Places in a record's head. */
enum { AT_GROUPS = 8, AT_DEPTH = 12, AT_ROLES = 16, AT_BEFORE = 24, AT_WAY = 56, AT_BYTES = 88, AT_PAGES_SUM = 96,
       AT_TOKENS = 128, AT_SUM = 384 };

static const char record_magic[8] = "STRPAGE1";

struct record {
    uint64_t at, key, roles;
    unsigned char way[DISK_DIGEST];
    uint32_t groups, depth;
    int32_t segment;                 /* index; -1: it is gone */
    int32_t next;                    /* of its bucket; of the free ones */
};

struct segment { int fd; uint32_t number; uint64_t end, used; };

struct disk {
    int folder, lock;
    struct disk_options o;
    struct segment seg[SEGMENTS];    /* in the order of their numbers; the last is written to */
    uint32_t n_segs, last_number;
    uint64_t segment_bytes, record_bytes, clock;
    struct record *rec;              /* [cap] */
    int32_t *bucket;                 /* [buckets] */
    uint32_t cap, buckets, top;
    int32_t free;
    unsigned char *place;            /* a record: its head, and the bytes of all groups' pages */
    size_t map_bytes;
    struct disk_state state;
};

/* ---- little things ---------------------------------------------------------------------------- */

static void put_le(unsigned char *to, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = (unsigned char)(v >> 8 * i);
}

static uint64_t get_le(const unsigned char *from, size_t n)
{
    struct reader r = { .p = from, .end = from + n };
    return read_le(&r, n);
}

static void digest(const void *data, size_t n, unsigned char *out, size_t bytes)
{
    struct blake2b b;
    blake2b_begin(&b, bytes);
    blake2b_add(&b, data, n);
    blake2b_end(&b, out);
}

static uint64_t blocks(uint64_t n) { return (n + DISK_BLOCK - 1) / DISK_BLOCK * DISK_BLOCK; }

/* Bytes of the pages of these groups. */
static uint64_t bytes_of(const struct disk *d, uint32_t groups)
{
    uint64_t n = 0;
    for (uint32_t g = 0; g < d->o.n_groups; g++) if (groups >> g & 1) n += d->o.page[g];
    return n;
}

/* "0123456789abcdef-00000001.pages" */
static void name_of(const struct disk *d, const char *what, char out[NAME_MAX_BYTES])
{
    snprintf(out, NAME_MAX_BYTES, "%016" PRIx64 "%s", get_le(d->o.identity, 8), what);
}

static void segment_name(const struct disk *d, uint32_t number, char out[NAME_MAX_BYTES])
{
    char what[24];
    snprintf(what, sizeof what, "-%08" PRIx32 ".pages", number);
    name_of(d, what, out);
}

/* ---- ways ------------------------------------------------------------------------------------- */

void disk_root(const struct disk *d, uint64_t salt, unsigned char way[DISK_DIGEST])
{
    unsigned char text[DISK_DIGEST + 8];
    memcpy(text, d->o.identity, DISK_DIGEST);
    put_le(text + DISK_DIGEST, salt, 8);
    digest(text, sizeof text, way, DISK_DIGEST);
}

static void way_of_bytes(const unsigned char *before, const unsigned char *tokens, uint64_t roles, unsigned char *way)
{
    struct blake2b b;
    unsigned char bits[8];
    put_le(bits, roles, 8);
    blake2b_begin(&b, DISK_DIGEST);
    blake2b_add(&b, before, DISK_DIGEST);
    blake2b_add(&b, bits, sizeof bits);
    blake2b_add(&b, tokens, 4 * PAGE_SLOTS);
    blake2b_end(&b, way);
}

static void tokens_to_bytes(const int32_t *tokens, unsigned char *out)
{
    for (size_t i = 0; i < PAGE_SLOTS; i++) put_le(out + 4 * i, (uint32_t)tokens[i], 4);
}

void disk_way(const unsigned char before[DISK_DIGEST], const int32_t tokens[PAGE_SLOTS], uint64_t roles,
              unsigned char way[DISK_DIGEST])
{
    unsigned char bytes[4 * PAGE_SLOTS];
    tokens_to_bytes(tokens, bytes);
    way_of_bytes(before, bytes, roles, way);
}

void disk_turn(unsigned char way[DISK_DIGEST], uint64_t salt)
{
    struct blake2b b;
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(salt >> 8 * i);
    blake2b_begin(&b, DISK_DIGEST);
    blake2b_add(&b, way, DISK_DIGEST);
    blake2b_add(&b, "salt", 4);
    blake2b_add(&b, bytes, sizeof bytes);
    blake2b_end(&b, way);
}

/* ---- the index -------------------------------------------------------------------------------- */

static uint64_t key_of(const unsigned char *before, const unsigned char *tokens)
{
    return hash_bytes(hash_bytes(0, before, DISK_DIGEST), tokens, 4 * PAGE_SLOTS);
}

static int32_t *bucket_of(struct disk *d, uint64_t key) { return &d->bucket[key & (d->buckets - 1)]; }

static int32_t find_way(const struct disk *d, uint64_t key, const unsigned char *way)
{
    int32_t i = d->bucket[key & (d->buckets - 1)];
    while (i >= 0 && memcmp(d->rec[i].way, way, DISK_DIGEST)) i = d->rec[i].next;
    return i;
}

/* The head of a record, whose digests are right, of a segment; DISK_NONE when there is no room in the index. */
static int32_t index_add(struct disk *d, const unsigned char *head, int32_t segment, uint64_t at)
{
    uint64_t key = key_of(head + AT_BEFORE, head + AT_TOKENS);
    int32_t i = find_way(d, key, head + AT_WAY);
    if (i >= 0) {                    /* the later one: the other may have been found damaged */
        d->rec[i].segment = segment;
        d->rec[i].at = at;
        d->rec[i].groups = (uint32_t)get_le(head + AT_GROUPS, 4);
        return i;
    }
    if ((i = d->free) >= 0) d->free = d->rec[i].next;
    else if (d->top < d->cap) i = (int32_t)d->top++;
    else return DISK_NONE;
    struct record *r = &d->rec[i];
    *r = (struct record){ .at = at, .key = key, .roles = get_le(head + AT_ROLES, 8), .segment = segment,
                          .groups = (uint32_t)get_le(head + AT_GROUPS, 4),
                          .depth = (uint32_t)get_le(head + AT_DEPTH, 4), .next = *bucket_of(d, key) };
    memcpy(r->way, head + AT_WAY, DISK_DIGEST);
    *bucket_of(d, key) = i;
    d->state.records++;
    return i;
}

static void index_drop(struct disk *d, int32_t i)
{
    struct record *r = &d->rec[i];
    int32_t *at = bucket_of(d, r->key);
    while (*at != i) at = &d->rec[*at].next;
    *at = r->next;
    r->segment = -1;
    r->next = d->free;
    d->free = i;
    d->state.records--;
}

bool disk_has(const struct disk *d, int32_t record)
{
    return record >= 0 && (uint32_t)record < d->top && d->rec[record].segment >= 0;
}

const unsigned char *disk_way_of(const struct disk *d, int32_t record) { return d->rec[record].way; }
uint64_t disk_roles_of(const struct disk *d, int32_t record) { return d->rec[record].roles; }
uint32_t disk_groups_of(const struct disk *d, int32_t record) { return d->rec[record].groups; }

int32_t disk_find(const struct disk *d, const unsigned char before[DISK_DIGEST], const int32_t tokens[PAGE_SLOTS],
                  uint64_t roles, bool exact)
{
    unsigned char bytes[4 * PAGE_SLOTS], way[DISK_DIGEST];
    tokens_to_bytes(tokens, bytes);
    uint64_t key = key_of(before, bytes);
    int32_t other = DISK_NONE;
    for (int32_t i = d->bucket[key & (d->buckets - 1)]; i >= 0; i = d->rec[i].next) {
        const struct record *r = &d->rec[i];
        if (r->key != key || (exact && r->roles != roles)) continue;
        way_of_bytes(before, bytes, r->roles, way);
        if (memcmp(way, r->way, DISK_DIGEST)) continue;
        if (r->roles == roles) return i;
        other = i;
    }
    return other;
}

/* ---- reading segments ------------------------------------------------------------------------- */

/* Whether this is a record of a file of `size` bytes, as far as its head says. */
static bool head_is_right(const struct disk *d, const unsigned char *head, uint64_t at, uint64_t size)
{
    unsigned char sum[SUM], way[DISK_DIGEST];
    uint32_t groups = (uint32_t)get_le(head + AT_GROUPS, 4);
    uint64_t bytes = get_le(head + AT_BYTES, 8);
    if (memcmp(head, record_magic, sizeof record_magic)) return false;
    digest(head, AT_SUM, sum, SUM);
    if (memcmp(sum, head + AT_SUM, SUM)) return false;
    if (!groups || groups >> d->o.n_groups || bytes != bytes_of(d, groups) || !get_le(head + AT_DEPTH, 4)) return false;
    if (bytes > size || at > size - bytes || size - bytes - at < DISK_HEAD) return false;
    way_of_bytes(head + AT_BEFORE, head + AT_TOKENS, get_le(head + AT_ROLES, 8), way);
    return !memcmp(way, head + AT_WAY, DISK_DIGEST);
}

/* Every record that is whole; behind one that is not, the next is looked for. */
static void scan(struct disk *d, int32_t segment, uint64_t size)
{
    struct segment *s = &d->seg[segment];
    unsigned char head[DISK_HEAD];
    uint64_t at = 0;
    while (at + DISK_HEAD <= size && file_get_at(s->fd, head, sizeof head, at)) {
        if (!head_is_right(d, head, at, size)) {
            at += DISK_BLOCK;
            continue;
        }
        index_add(d, head, segment, at);
        at += blocks(DISK_HEAD + get_le(head + AT_BYTES, 8));
        s->end = at;
    }
}

/* What is not the owner's own file is left alone. What stands behind the last whole record goes. */
static void open_segment(struct disk *d, uint32_t number)
{
    char name[NAME_MAX_BYTES];
    struct stat st;
    segment_name(d, number, name);
    int fd = openat(d->folder, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022)) {
        if (fd >= 0) close(fd);
        log_say(&d->o.log, LOG_WARN, "%s in %s is no file that only its owner writes to; it is left alone", name,
                d->o.folder);
        return;
    }
    struct segment *s = &d->seg[d->n_segs];
    *s = (struct segment){ .fd = fd, .number = number, .used = ++d->clock };
    scan(d, (int32_t)d->n_segs++, (uint64_t)st.st_size);
    if ((uint64_t)st.st_size > s->end && ftruncate(fd, (off_t)s->end)) s->end = blocks((uint64_t)st.st_size);
    d->state.bytes += s->end;
}

/* Numbers of the segments that are there, in order; those that are too many are passed over. */
static stretto_status list_segments(struct disk *d, uint32_t *number, uint32_t *n, struct error *err)
{
    char like[NAME_MAX_BYTES];
    int fd = openat(d->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    *n = 0;
    if (!dir) {
        if (fd >= 0) close(fd);
        return fail(err, STRETTO_E_IO, "cannot list %s: %s", d->o.folder, strerror(errno));
    }
    for (struct dirent *e; (e = readdir(dir));) {
        unsigned x;
        name_of(d, "-", like);
        if (strncmp(e->d_name, like, strlen(like)) || sscanf(e->d_name + strlen(like), "%8x.pages", &x) != 1) continue;
        segment_name(d, x, like);
        if (strcmp(e->d_name, like)) continue;
        if (x > d->last_number) d->last_number = x;
        if (*n == SEGMENTS - 1) continue;
        uint32_t at = (*n)++;
        for (; at && number[at - 1] > x; at--) number[at] = number[at - 1];
        number[at] = x;
    }
    closedir(dir);
    return STRETTO_OK;
}

/* The newest that fit together; the others go. Returns how many stay, at the front of number[]. */
static uint32_t keep_what_fits(const struct disk *d, uint32_t *number, uint32_t n)
{
    char name[NAME_MAX_BYTES];
    struct stat st;
    uint64_t all = 0;
    uint32_t first = n;
    for (; first; first--) {
        segment_name(d, number[first - 1], name);
        if (fstatat(d->folder, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode)) continue;
        all += blocks((uint64_t)st.st_size);
        if (all > d->o.bytes) break;
    }
    for (uint32_t i = 0; i < first; i++) {
        segment_name(d, number[i], name);
        unlinkat(d->folder, name, 0);
    }
    memmove(number, number + first, (n - first) * sizeof *number);
    return n - first;
}

/* ---- opening and closing ---------------------------------------------------------------------- */

static stretto_status open_folder(struct disk *d, struct error *err)
{
    char name[NAME_MAX_BYTES];
    if (mkdir(d->o.folder, 0700) && errno != EEXIST)
        return fail(err, STRETTO_E_IO, "cannot make the folder %s: %s", d->o.folder, strerror(errno));
    d->folder = open(d->o.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->folder < 0) return fail(err, STRETTO_E_IO, "cannot open the folder %s: %s", d->o.folder, strerror(errno));
    name_of(d, ".lock", name);
    d->lock = openat(d->folder, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    if (d->lock < 0) return fail(err, STRETTO_E_IO, "cannot open %s in %s: %s", name, d->o.folder, strerror(errno));
    if (flock(d->lock, LOCK_EX | LOCK_NB))
        return fail(err, STRETTO_E_IO, "another process, or this one under another name, keeps pages of this model in "
                    "%s; give each a folder of its own", d->o.folder);
    return STRETTO_OK;
}

static void take_all(struct disk *d, struct arena *a)
{
    d->rec = arena_take(a, d->cap * sizeof *d->rec);
    d->bucket = arena_take(a, d->buckets * sizeof *d->bucket);
    d->place = arena_take(a, d->record_bytes);
}

static stretto_status open_into(struct disk *d, struct error *err)
{
    uint64_t bytes = bytes_of(d, UINT32_MAX);
    uint32_t number[SEGMENTS], n;
    struct arena a = { 0 };
    d->record_bytes = blocks(DISK_HEAD + bytes);
    if (d->o.bytes < 16 * d->record_bytes)
        return fail(err, STRETTO_E_ARG, "%" PRIu64 " bytes on disk are little for pages of this model; give it %" PRIu64
                    " at least", d->o.bytes, 16 * d->record_bytes);
    d->segment_bytes = d->o.bytes / 8 < (uint64_t)256 << 20 ? d->o.bytes / 8 : (uint64_t)256 << 20;
    if (d->segment_bytes < d->o.bytes / (SEGMENTS - 8)) d->segment_bytes = d->o.bytes / (SEGMENTS - 8);
    /* Records without a window's pages are shorter. */
    uint64_t cap = d->o.bytes / (d->o.n_groups > 1 ? DISK_BLOCK : d->record_bytes) + 1;
    d->cap = cap < 1 << 24 ? (uint32_t)cap : 1 << 24;
    for (d->buckets = 64; d->buckets < d->cap;) d->buckets *= 2;
    d->free = DISK_NONE;
    take_all(d, &a);
    d->map_bytes = a.top;
    a.base = mem_map(d->map_bytes);
    if (!a.base) return fail(err, STRETTO_E_NOMEM, "no memory for the list of %u pages on disk", d->cap);
    a = (struct arena){ .base = a.base, .cap = d->map_bytes };
    take_all(d, &a);
    memset(d->bucket, 0xff, d->buckets * sizeof *d->bucket);
    TRY(open_folder(d, err));
    TRY(list_segments(d, number, &n, err));
    n = keep_what_fits(d, number, n);
    for (uint32_t i = 0; i < n; i++) open_segment(d, number[i]);
    return STRETTO_OK;
}

stretto_status disk_open(struct disk **out, const struct disk_options *o, struct error *err)
{
    *out = NULL;
    struct disk *d = mem_zalloc(1, sizeof *d);
    if (!d) return fail(err, STRETTO_E_NOMEM, "out of memory");
    d->o = *o;
    d->folder = d->lock = -1;
    stretto_status s = open_into(d, err);
    if (s != STRETTO_OK) disk_close(d);
    else *out = d;
    return s;
}

void disk_close(struct disk *d)
{
    if (!d) return;
    for (uint32_t i = 0; i < d->n_segs; i++) close(d->seg[i].fd);
    if (d->lock >= 0) close(d->lock);
    if (d->folder >= 0) close(d->folder);
    mem_unmap(d->rec, d->map_bytes);
    mem_free(d);
}

/* ---- reading ---------------------------------------------------------------------------------- */

stretto_status disk_read(struct disk *d, int32_t record, uint32_t *groups, const void **pages, struct error *err)
{
    struct record *r = &d->rec[record];
    struct segment *s = &d->seg[r->segment];
    uint64_t bytes = bytes_of(d, r->groups);
    unsigned char sum[DISK_DIGEST];
    *groups = r->groups;
    *pages = d->place + DISK_HEAD;
    s->used = ++d->clock;
    bool right = file_get_at(s->fd, d->place, (size_t)(DISK_HEAD + bytes), r->at) &&
                 head_is_right(d, d->place, 0, DISK_HEAD + bytes) &&
                 !memcmp(d->place + AT_WAY, r->way, DISK_DIGEST);
    if (right) digest(*pages, (size_t)bytes, sum, sizeof sum);
    if (right && !memcmp(sum, d->place + AT_PAGES_SUM, sizeof sum)) {
        d->state.read++;
        return STRETTO_OK;
    }
    d->state.damaged++;
    index_drop(d, record);
    return fail(err, STRETTO_E_FORMAT, "a page in %s is damaged", d->o.folder);
}

/* ---- writing ---------------------------------------------------------------------------------- */

static void turn_off(struct disk *d, const char *what)
{
    log_say(&d->o.log, LOG_WARN, "no more pages are kept in %s: cannot %s: %s", d->o.folder, what, strerror(errno));
    d->state.off = true;
}

static void drop_segment(struct disk *d, uint32_t k)
{
    char name[NAME_MAX_BYTES];
    segment_name(d, d->seg[k].number, name);
    unlinkat(d->folder, name, 0);
    close(d->seg[k].fd);
    d->state.bytes -= d->seg[k].end;
    for (uint32_t i = 0; i < d->top; i++) {
        if (d->rec[i].segment == (int32_t)k) index_drop(d, (int32_t)i);
        else if (d->rec[i].segment > (int32_t)k) d->rec[i].segment--;
    }
    memmove(d->seg + k, d->seg + k + 1, (--d->n_segs - k) * sizeof *d->seg);
}

/* The segment that was read or begun longest ago; the last one only where it is the only one. */
static bool drop_oldest(struct disk *d)
{
    uint32_t oldest = 0, n = d->n_segs > 1 ? d->n_segs - 1 : d->n_segs;
    if (!n) return false;
    for (uint32_t i = 1; i < n; i++) if (d->seg[i].used < d->seg[oldest].used) oldest = i;
    drop_segment(d, oldest);
    return true;
}

static void begin_segment(struct disk *d)
{
    char name[NAME_MAX_BYTES];
    disk_sync(d);
    segment_name(d, ++d->last_number, name);
    int fd = openat(d->folder, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) turn_off(d, "begin a file");
    else d->seg[d->n_segs++] = (struct segment){ .fd = fd, .number = d->last_number, .used = ++d->clock };
}

bool disk_room(struct disk *d)
{
    bool dropped = false;
    if (d->state.off) return false;
    while (d->state.bytes + d->record_bytes > d->o.bytes || d->n_segs == SEGMENTS) {
        if (!drop_oldest(d)) break;
        dropped = true;
    }
    while (d->state.records >= d->cap && drop_oldest(d)) dropped = true;
    if (!d->n_segs || d->seg[d->n_segs - 1].end + d->record_bytes > d->segment_bytes) begin_segment(d);
    return dropped;
}

void *disk_place(struct disk *d) { return d->place + DISK_HEAD; }

static uint64_t fill_head(struct disk *d, const struct disk_page *x)
{
    unsigned char *h = d->place;
    uint64_t bytes = bytes_of(d, x->groups), all = blocks(DISK_HEAD + bytes);
    memset(h, 0, DISK_HEAD);
    memset(h + DISK_HEAD + bytes, 0, (size_t)(all - DISK_HEAD - bytes));
    memcpy(h, record_magic, sizeof record_magic);
    put_le(h + AT_GROUPS, x->groups, 4);
    put_le(h + AT_DEPTH, x->depth, 4);
    put_le(h + AT_ROLES, x->roles, 8);
    memcpy(h + AT_BEFORE, x->before, DISK_DIGEST);
    put_le(h + AT_BYTES, bytes, 8);
    tokens_to_bytes(x->tokens, h + AT_TOKENS);
    way_of_bytes(x->before, h + AT_TOKENS, x->roles, h + AT_WAY);
    digest(h + DISK_HEAD, (size_t)bytes, h + AT_PAGES_SUM, DISK_DIGEST);
    digest(h, AT_SUM, h + AT_SUM, SUM);
    return all;
}

int32_t disk_append(struct disk *d, const struct disk_page *x)
{
    if (d->state.off || !d->n_segs) return DISK_NONE;
    struct segment *s = &d->seg[d->n_segs - 1];
    uint64_t bytes = fill_head(d, x);
    if (!file_put_at(s->fd, d->place, (size_t)bytes, s->end)) {
        int why = errno;
        if (ftruncate(s->fd, (off_t)s->end)) s->end += bytes;    /* what is there is no record */
        errno = why;
        turn_off(d, "write");
        return DISK_NONE;
    }
#ifdef __linux__
    sync_file_range(s->fd, (off_t)s->end, (off_t)bytes, SYNC_FILE_RANGE_WRITE);   /* disk_sync waits less */
#endif
    int32_t record = index_add(d, d->place, (int32_t)d->n_segs - 1, s->end);
    s->end += bytes;
    d->state.bytes += bytes;
    d->state.written++;
    return record;
}

void disk_sync(struct disk *d)
{
    if (!d->n_segs || d->state.off) return;
    if (fdatasync(d->seg[d->n_segs - 1].fd)) turn_off(d, "write");
    else fsync(d->folder);
}

void disk_look(const struct disk *d, struct disk_state *out) { *out = d->state; }
