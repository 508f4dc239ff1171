/* A packed file:
 *
 *   a GGUF header without tensors, whose key stretto.pack.version is PACK_VERSION
 *   pieces of the file that was packed, one after the other
 *   for every piece: u32 bytes, u32 bytes coded, u32 type, u32 checksum of the bytes
 *   "stretto.pack\0\0\0\0", u64 bytes of the file that was packed, u64 pieces
 *
 * A piece is, for every field of its type (pack_fields.h): u32 bytes coded, 0 where the field stands as it is; then
 * these bytes. The pieces cover the file from its first byte to its last: header, tensors, what lies between. */
#include "format/pack.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/part.h"
#include "base/reader.h"
#include "base/words.h"
#include "format/pack_fields.h"
#include "format/rans.h"
#include "format/source_int.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PACK_VERSION = 1, PIECE = 1 << 20, STREAMS = 3, ENTRY = 16, TAIL = 32, THREADS = 16, AT_ONCE = 4 * THREADS };
/* What a file may become of what it is: a hostile one could ask for any memory. */
enum { MOST_RATIO = 64 };
#define PLAIN UINT32_MAX               /* type of pieces that are no tensor's */
#define TABLE (1u << 30)               /* added to the type of numbers of which few differ */
static const char mark[16] = "stretto.pack";
static const char arch[] = "stretto-packed";

static uint32_t checksum(const uint8_t *p, size_t n)
{
    uint64_t h = 0x9e3779b97f4a7c15u ^ n, w;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    w = 0;
    memcpy(&w, p, n);
    h = (h ^ w) * 0xc4ceb9fe1a85ec53u;
    return (uint32_t)(h >> 32);
}

static void put_le(uint8_t *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(v >> 8 * i);
}

/* ---- a piece ------------------------------------------------------------------------------------ */

struct piece { uint64_t at, coded_at; uint32_t bytes, coded, type, sum; };

/* What a thread needs for a piece. Its streams are at most STREAMS times its bytes (three bits become a byte). */
struct room { uint8_t *streams, *coded; };

static bool room_open(struct room *r)
{
    r->streams = mem_alloc(STREAMS * (size_t)PIECE);
    r->coded = mem_alloc(3 * STREAMS * (size_t)PIECE + rans_bound(0) + FIELDS_MOST * 8);
    return r->streams && r->coded;
}

static void room_close(struct room *r)
{
    mem_free(r->streams);
    mem_free(r->coded);
}

/* Into `to`, which has room for it; returns its bytes. */
static size_t encode_fields(const uint8_t *from, const struct piece *p, const struct fields *f, struct room *r,
                            uint8_t *to)
{
    size_t n = p->bytes / f->block, out = 0;
    const uint8_t *stream = r->streams;
    fields_split(f, from, n, r->streams);
    for (size_t i = 0; i < f->n; stream += n * f->each[i], i++) {
        size_t bytes = n * f->each[i], coded = rans_encode(stream, bytes, to + out + 4);
        put_le(to + out, coded, 4);
        if (!coded) memcpy(to + out + 4, stream, bytes);
        out += 4 + (coded ? coded : bytes);
    }
    return out;
}

/* Numbers of `each` bytes of which at most 256 differ, as a place in a list of them: u32 how many, they themselves, and
 * the places as a field. 0 where there are more. */
static size_t encode_table(const uint8_t *from, size_t n, size_t each, struct room *r, uint8_t *to)
{
    uint32_t slot[512] = { 0 }, values = 0, x;
    uint8_t *list = to + 4;
    for (size_t i = 0; i < n; i++) {
        x = 0;
        memcpy(&x, from + i * each, each);
        uint32_t h = (x ^ x >> 15) * 0x9e3779b1u >> 23;
        while (slot[h] && memcmp(list + (slot[h] - 1) * each, &x, each) != 0) h = (h + 1) % 512;
        if (!slot[h]) {
            if (values == 256) return 0;
            memcpy(list + values * each, &x, each);
            slot[h] = ++values;
        }
        r->streams[i] = (uint8_t)(slot[h] - 1);
    }
    put_le(to, values, 4);
    uint8_t *at = list + values * each;
    size_t coded = rans_encode(r->streams, n, at + 4);
    put_le(at, coded, 4);
    if (!coded) memcpy(at + 4, r->streams, n);
    return 8 + values * each + (coded ? coded : n);
}

static bool decode_table(struct reader *in, size_t n, size_t each, struct room *r, uint8_t *to)
{
    uint32_t values = read_u32(in);
    const uint8_t *list = values <= 256 ? read_bytes(in, values * each) : NULL;
    uint32_t coded = read_u32(in);
    const uint8_t *at = read_bytes(in, coded ? coded : n);
    if (!list || !at || (coded && !rans_decode(at, coded, r->streams, n))) return false;
    if (!coded) memcpy(r->streams, at, n);
    for (size_t i = 0; i < n; i++) {
        if (r->streams[i] >= values) return false;
        memcpy(to + i * each, list + r->streams[i] * each, each);
    }
    return true;
}

/* Codes a piece into `to`, which has room for it; returns its bytes. */
static size_t encode_piece(const uint8_t *from, struct piece *p, struct room *r, uint8_t *to)
{
    struct fields f;
    fields_of(p->type < DT_COUNT ? (enum dtype)p->type : DT_COUNT, &f);
    if (p->type < DT_COUNT && f.info.block == 1) {
        size_t n = encode_table(from, p->bytes / f.block, f.block, r, to);
        if (n) p->type |= TABLE;
        if (n) return n;
    }
    return encode_fields(from, p, &f, r, to);
}

static bool decode_piece(const uint8_t *from, const struct piece *p, struct room *r, uint8_t *to)
{
    struct fields f;
    struct reader in = { .p = from, .end = from + p->coded };
    bool table = p->type != PLAIN && p->type & TABLE;
    uint32_t type = table ? p->type & ~TABLE : p->type;
    fields_of(type < DT_COUNT ? (enum dtype)type : DT_COUNT, &f);
    size_t n = p->bytes / f.block;
    if (table && (f.info.block != 1 || n * f.block != p->bytes || !decode_table(&in, n, f.block, r, to))) return false;
    if (table) return in.p == in.end && checksum(to, p->bytes) == p->sum;
    if (n * f.block != p->bytes || fields_bytes(&f, n) > STREAMS * (size_t)PIECE) return false;
    uint8_t *stream = r->streams;
    for (size_t i = 0; i < f.n; i++) {
        size_t bytes = n * f.each[i], coded = read_u32(&in);
        const uint8_t *at = read_bytes(&in, coded ? coded : bytes);
        if (!at) return false;
        if (!coded) memcpy(stream, at, bytes);
        else if (!rans_decode(at, coded, stream, bytes)) return false;
        stream += bytes;
    }
    if (in.p != in.end) return false;
    fields_join(&f, r->streams, n, to);
    return checksum(to, p->bytes) == p->sum;
}

/* ---- threads -------------------------------------------------------------------------------------- */

struct crew {
    void (*work)(struct crew *c, size_t i, struct room *r);
    size_t n;
    atomic_size_t ticket;
    atomic_int failed;                 /* 1: no memory; 2: a piece is damaged */
    const uint8_t *from;
    uint8_t *to;
    struct piece *piece;
    uint8_t **coded;                   /* encoding: where piece i goes, and its bytes */
    uint32_t *coded_bytes, *sums;
};

static void *crew_thread(void *arg)
{
    struct crew *c = arg;
    struct room r = { 0 };
    if (!room_open(&r)) atomic_store(&c->failed, 1);
    for (size_t i; !atomic_load(&c->failed) && (i = atomic_fetch_add(&c->ticket, 1)) < c->n;) c->work(c, i, &r);
    room_close(&r);
    return NULL;
}

static unsigned cpus(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n > THREADS ? THREADS : (unsigned)n;
}

/* The caller works too; threads that cannot be had are done without. */
static int crew_run(struct crew *c)
{
    pthread_t thread[THREADS];
    unsigned n = 0, most = cpus();
    atomic_store(&c->ticket, 0);
    while (n + 1 < most && n + 1 < c->n && pthread_create(&thread[n], NULL, crew_thread, c) == 0) n++;
    crew_thread(c);
    for (unsigned i = 0; i < n; i++) pthread_join(thread[i], NULL);
    return atomic_load(&c->failed);
}

/* ---- decoding -------------------------------------------------------------------------------------- */

static void decode_one(struct crew *c, size_t i, struct room *r)
{
    const struct piece *p = &c->piece[i];
    if (!decode_piece(c->from + p->coded_at, p, r, c->to + p->at)) atomic_store(&c->failed, 2);
    file_map_release(c->from + p->coded_at, p->coded);
}

bool pack_is(const struct file_map *file)
{
    struct reader r = { .p = file->data, .end = file->data + file->size };
    static const char key[] = "general.architecture";
    if (file->size < 96 || read_u32(&r) != 0x46554747 || read_u32(&r) != 3 || read_u64(&r) != 0) return false;
    read_u64(&r);
    const char *name = read_u64(&r) == sizeof key - 1 ? read_bytes(&r, sizeof key - 1) : NULL;
    if (!name || memcmp(name, key, sizeof key - 1) != 0) return false;
    return read_u32(&r) == V_STRING && read_u64(&r) == sizeof arch - 1
        && memcmp(r.p, arch, sizeof arch - 1) == 0;
}

/* The key behind the architecture is the version, which pack_is has not looked at. */
static uint64_t version_of(const struct file_map *file)
{
    static const char key[] = "stretto.pack.version";
    struct reader r = { .p = file->data + 24, .end = file->data + file->size };
    read_bytes(&r, 8 + strlen("general.architecture") + 4 + 8 + sizeof arch - 1);
    const char *name = read_u64(&r) == sizeof key - 1 ? read_bytes(&r, sizeof key - 1) : NULL;
    if (!name || memcmp(name, key, sizeof key - 1) != 0 || read_u32(&r) != V_U32) return 0;
    return read_u32(&r);
}

static stretto_status damaged(const char *path, struct error *err)
{
    return fail(err, STRETTO_E_FORMAT, "%s is a packed model that is damaged or not whole; fetch it again", path);
}

/* The list of pieces at the file's end; they must follow each other, here and there. */
static stretto_status read_pieces(const struct file_map *f, const char *path, struct piece **out, size_t *n,
                                  uint64_t *image, struct error *err)
{
    if (version_of(f) != PACK_VERSION)
        return fail(err, STRETTO_E_UNSUP, "%s is packed in a way that this program does not know (version %llu): a "
                    "newer stretto reads it", path, (unsigned long long)version_of(f));
    if (f->size < TAIL || memcmp(f->data + f->size - TAIL, mark, sizeof mark) != 0) return damaged(path, err);
    struct reader r = { .p = f->data + f->size - 16, .end = f->data + f->size };
    *image = read_u64(&r);
    uint64_t pieces = read_u64(&r), room = f->size - TAIL;
    if (!pieces || pieces > room / ENTRY || *image / MOST_RATIO > f->size) return damaged(path, err);
    uint64_t list = room - pieces * ENTRY, at = 0, coded = 0;
    struct piece *p = *out = mem_zalloc((size_t)pieces, sizeof *p);
    if (!p) return fail(err, STRETTO_E_NOMEM, "not enough memory to open %s", path);
    r = (struct reader){ .p = f->data + list, .end = f->data + room };
    for (size_t i = 0; i < pieces; i++) {
        p[i] = (struct piece){ .at = at, .bytes = read_u32(&r), .coded = read_u32(&r), .type = read_u32(&r),
                               .sum = read_u32(&r), .coded_at = coded };
        if (p[i].bytes > PIECE || !p[i].bytes || p[i].bytes > *image - at || p[i].coded > list - coded)
            return damaged(path, err);
        if (p[i].type != PLAIN && dtype_by_gguf(p[i].type & ~TABLE) == DT_COUNT) return damaged(path, err);
        at += p[i].bytes;
        coded += p[i].coded;
    }
    if (at != *image || coded > list) return damaged(path, err);
    for (size_t i = 0; i < pieces; i++) p[i].coded_at += list - coded;
    *n = (size_t)pieces;
    return STRETTO_OK;
}

stretto_status pack_decode(const struct file_map *file, const char *path, struct pack_image *out, struct error *err)
{
    struct piece *piece = NULL;
    struct crew c = { .work = decode_one, .from = file->data };
    uint64_t bytes = 0;
    char size[24];
    *out = (struct pack_image){ 0 };
    stretto_status s = read_pieces(file, path, &piece, &c.n, &bytes, err);
    if (s == STRETTO_OK && !(out->data = mem_map((size_t)bytes)))
        s = fail(err, STRETTO_E_NOMEM, "no memory for the %s that %s becomes", bytes_words(size, (double)bytes), path);
    if (s == STRETTO_OK) {
        out->bytes = (size_t)bytes;
        c.to = out->data;
        c.piece = piece;
        int failed = crew_run(&c);
        if (failed == 1) s = fail(err, STRETTO_E_NOMEM, "not enough memory to open %s", path);
        if (failed == 2) s = damaged(path, err);
    }
    mem_free(piece);
    if (s != STRETTO_OK) {
        mem_unmap(out->data, out->bytes);
        *out = (struct pack_image){ 0 };
    }
    return s;
}

/* ---- a new file --------------------------------------------------------------------------------------- */

struct file { struct part part; uint64_t at; };

static stretto_status file_put(struct file *f, const void *p, size_t n, struct error *err)
{
    TRY(part_put(&f->part, f->at, p, n, err));
    f->at += n;
    return STRETTO_OK;
}

/* ---- packing ------------------------------------------------------------------------------------------ */

struct packing {
    struct source *s;
    struct file_map in;
    struct piece *piece;
    size_t n, cap;
    struct error *err;
};

/* The bytes [from, to) of the file as pieces of a type, in whole blocks. */
static stretto_status add_pieces(struct packing *p, uint64_t from, uint64_t to, enum dtype type)
{
    size_t block = type < DT_COUNT ? dtype_table[type].bytes : 1, most = PIECE / block * block;
    if (type < DT_COUNT && (to - from) % block) type = DT_COUNT, most = PIECE;
    while (from < to) {
        if (p->n == p->cap) {
            size_t cap = p->cap ? 2 * p->cap : 1024;
            struct piece *more = mem_resize(p->piece, cap * sizeof *more);
            if (!more) return fail(p->err, STRETTO_E_NOMEM, "out of memory");
            p->piece = more;
            p->cap = cap;
        }
        uint32_t n = (uint32_t)(to - from < most ? to - from : most);
        p->piece[p->n++] = (struct piece){ .at = from, .bytes = n,
                                             .type = type < DT_COUNT ? type : PLAIN };
        from += n;
    }
    return STRETTO_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct source_tensor *x = *(const struct source_tensor *const *)a;
    const struct source_tensor *y = *(const struct source_tensor *const *)b;
    return x->data < y->data ? -1 : x->data > y->data;
}

static stretto_status find_pieces(struct packing *p)
{
    struct source_tensor *list;
    size_t n;
    uint64_t at = 0;
    TRY(source_stored(p->s, 0, &list, &n, p->err));
    const struct source_tensor **order = mem_zalloc(n, sizeof *order);
    stretto_status s = order ? STRETTO_OK : fail(p->err, STRETTO_E_NOMEM, "out of memory");
    for (size_t i = 0; order && i < n; i++) order[i] = &list[i];
    if (order) qsort(order, n, sizeof *order, by_place);
    for (size_t i = 0; s == STRETTO_OK && i < n; i++) {
        uint64_t from = (uint64_t)((const unsigned char *)order[i]->data - p->s->maps[0].data);
        if (from < at) continue;       /* tensors that share bytes: these are packed */
        s = add_pieces(p, at, from, DT_COUNT);
        if (s == STRETTO_OK) s = add_pieces(p, from, from + order[i]->bytes, order[i]->type);
        at = from + order[i]->bytes;
    }
    if (s == STRETTO_OK) s = add_pieces(p, at, p->s->maps[0].size, DT_COUNT);
    mem_free(order);
    mem_free(list);
    return s;
}

static uint8_t *put_key(uint8_t *p, const char *key, const char *value, uint32_t number)
{
    size_t n = strlen(key), v = value ? strlen(value) : 0;
    put_le(p, n, 8), p += 8;
    memcpy(p, key, n), p += n;
    put_le(p, value ? V_STRING : V_U32, 4), p += 4;
    put_le(p, value ? v : number, value ? 8 : 4), p += value ? 8 : 4;
    if (value) memcpy(p, value, v);
    return p + v;
}

static stretto_status put_header(struct packing *p, struct file *out)
{
    uint8_t head[1024] = { 0 }, *at = head + 24;
    struct source_str name;
    char text[256] = "";
    uint64_t keys = 3;
    put_le(head, 0x46554747, 4), put_le(head + 4, 3, 4);
    at = put_key(at, "general.architecture", arch, 0);
    at = put_key(at, "stretto.pack.version", NULL, PACK_VERSION);
    at = put_key(at, "stretto.pack.architecture", p->s->arch, 0);
    if (source_string(p->s, "general.name", &name) && name.n < sizeof text) {
        memcpy(text, name.p, name.n);
        at = put_key(at, "general.name", text, 0);
        keys++;
    }
    put_le(head + 16, keys, 8);
    return file_put(out, head, (size_t)(at - head + 31) / 32 * 32, p->err);
}

static void encode_one(struct crew *c, size_t i, struct room *r)
{
    struct piece *p = &c->piece[i];
    size_t n = encode_piece(c->from + p->at, p, r, r->coded);
    c->coded[i] = mem_alloc(n);
    if (!c->coded[i]) {
        atomic_store(&c->failed, 1);
        return;
    }
    memcpy(c->coded[i], r->coded, n);
    c->coded_bytes[i] = (uint32_t)n;
    c->sums[i] = checksum(c->from + p->at, p->bytes);
}

/* Pieces [first, first + n): coded by all threads, then written in order. */
static stretto_status put_some(struct packing *p, size_t first, size_t n, struct file *out)
{
    uint8_t *coded[AT_ONCE] = { NULL };
    uint32_t bytes[AT_ONCE], sums[AT_ONCE];
    struct crew c = { .work = encode_one, .n = n, .from = p->s->maps[0].data, .piece = p->piece + first, .coded = coded,
                      .coded_bytes = bytes, .sums = sums };
    stretto_status s = crew_run(&c) ? fail(p->err, STRETTO_E_NOMEM, "out of memory") : STRETTO_OK;
    for (size_t i = 0; i < n; i++) {
        struct piece *x = &p->piece[first + i];
        if (s == STRETTO_OK) {
            x->coded = bytes[i];
            x->sum = sums[i];
            s = file_put(out, coded[i], bytes[i], p->err);
            file_map_release(p->s->maps[0].data + x->at, x->bytes);
        }
        mem_free(coded[i]);
    }
    return s;
}

static stretto_status put_list(struct packing *p, struct file *out)
{
    uint8_t entry[ENTRY], tail[TAIL];
    for (size_t i = 0; i < p->n; i++) {
        put_le(entry, p->piece[i].bytes, 4), put_le(entry + 4, p->piece[i].coded, 4);
        put_le(entry + 8, p->piece[i].type, 4), put_le(entry + 12, p->piece[i].sum, 4);
        TRY(file_put(out, entry, sizeof entry, p->err));
    }
    memcpy(tail, mark, sizeof mark);
    put_le(tail + 16, p->s->maps[0].size, 8), put_le(tail + 24, p->n, 8);
    return file_put(out, tail, sizeof tail, p->err);
}

static stretto_status put_all(struct packing *p, const struct pack_options *o, struct file *out)
{
    TRY(find_pieces(p));
    TRY(put_header(p, out));
    for (size_t i = 0, n; i < p->n; i += n) {
        n = p->n - i < AT_ONCE ? p->n - i : AT_ONCE;
        if (o->cancel && *o->cancel) return fail(p->err, STRETTO_E_CANCEL, "packing was cancelled");
        TRY(put_some(p, i, n, out));
        const struct piece *last = &p->piece[i + n - 1];
        progress_tell(&o->progress, "packing", last->at + last->bytes, p->s->maps[0].size);
    }
    TRY(put_list(p, out));
    return part_finish(&out->part, p->err);
}

stretto_status pack_file(const char *in, const char *out, const struct pack_options *o, struct pack_report *report,
                         struct error *err)
{
    struct packing p = { .err = err };
    struct file f = { .part = { .fd = -1 } };
    double begin = clock_seconds();
    TRY(source_open(&p.s, in, err));
    stretto_status s = STRETTO_OK;
    if (p.s->image.data) s = fail(err, STRETTO_E_ARG, "%s is packed already", in);
    else if (p.s->n_files || p.s->n_maps != 1)
        s = fail(err, STRETTO_E_ARG, "%s is not one GGUF file; 'stretto convert' makes one of it", in);
    if (s == STRETTO_OK) {
        s = part_open(&f.part, out, o->force, true, err);
        if (s == STRETTO_OK) s = put_all(&p, o, &f);
        if (s == STRETTO_OK)
            *report = (struct pack_report){ p.s->maps[0].size, f.at, clock_seconds() - begin };
        part_close(&f.part);
    }
    mem_free(p.piece);
    source_close(p.s);
    return s;
}

stretto_status unpack_file(const char *in, const char *out, const struct pack_options *o,
                           struct pack_report *report, struct error *err)
{
    struct file_map map;
    struct pack_image image = { 0 };
    struct file f = { .part = { .fd = -1 } };
    double begin = clock_seconds();
    TRY(file_map_open(&map, in, err));
    stretto_status s = pack_is(&map) ? part_open(&f.part, out, o->force, true, err)
                                     : fail(err, STRETTO_E_ARG, "%s is not a packed model", in);
    if (s == STRETTO_OK) s = pack_decode(&map, in, &image, err);
    if (s == STRETTO_OK) s = part_begin(&f.part, image.bytes, err);
    double end = clock_seconds();
    for (size_t at = 0, n; s == STRETTO_OK && at < image.bytes; at += n) {
        n = image.bytes - at < 1 << 24 ? image.bytes - at : 1 << 24;
        if (o->cancel && *o->cancel) s = fail(err, STRETTO_E_CANCEL, "unpacking was cancelled");
        else s = file_put(&f, image.data + at, n, err);
        progress_tell(&o->progress, "unpacking", at + n, image.bytes);
    }
    if (s == STRETTO_OK) s = part_finish(&f.part, err);
    if (s == STRETTO_OK) *report = (struct pack_report){ image.bytes, map.size, end - begin };
    part_close(&f.part);
    mem_unmap(image.data, image.bytes);
    file_map_close(&map);
    return s;
}
