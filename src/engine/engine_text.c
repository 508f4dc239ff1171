/*   head     "STRETTOT", version, tokens, groups, pages, salt, identity of the engine
 *   tokens   int32 each, then a byte of role each
 *   pages    which groups it has, as bits, and their bytes, in order
 *   digest   BLAKE2b of all of this
 * All numbers little-endian, as on every machine that runs this. */
#include "engine/engine_text.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/part.h"
#include "engine/engine_int.h"
#include <string.h>

enum { VERSION = 1 };
static const char magic[8] = "STRETTOT";

struct head {
    char magic[8];
    uint32_t version, tokens, groups, pages;
    uint64_t salt;
    unsigned char identity[DISK_DIGEST];
};

static stretto_status check_engine(const struct engine *e, struct error *err)
{
    const struct backend *k = e->device->backend;
    if (e->prefix.off) return fail(err, STRETTO_E_UNSUP, "texts of this model are not kept");
    if (!k->page_read || !k->page_write)
        return fail(err, STRETTO_E_UNSUP, "pages of the backend %s cannot be kept in files", k->name);
    return STRETTO_OK;
}

static struct sharing sharing_of(const struct engine_text *t)
{
    return (struct sharing){ t->salt, false, t->owner, t->adapters };
}

/* Where adapters act, the pages are not the text's salt's. */
static uint64_t salt_of(const struct engine *e, const struct engine_text *t)
{
    struct prefix_seq s = { .salt = t->salt };
    adapted_view(e, t->adapters, false, &s);
    return s.adapts ? s.adapted : s.salt;
}

/* ---- writing --------------------------------------------------------------------------------------- */

struct writing { struct part part; struct blake2b digest; uint64_t at; };

static stretto_status put(struct writing *w, const void *p, size_t n, struct error *err)
{
    blake2b_add(&w->digest, p, n);
    TRY(part_put(&w->part, w->at, p, n, err));
    w->at += n;
    return STRETTO_OK;
}

static bool has_page(const struct engine *e, const struct sequence *s, uint32_t g, uint32_t i)
{
    return i >= s->cache.first[g] && cache_page(&e->cache, &s->cache, g, i) >= 0;
}

static stretto_status put_page(struct engine *e, const struct sequence *s, uint32_t i, unsigned char *room,
                               struct writing *w, struct error *err)
{
    uint32_t groups = 0;
    for (uint32_t g = 0; g < e->cache.n_groups; g++) groups |= (uint32_t)has_page(e, s, g, i) << g;
    TRY(put(w, &groups, sizeof groups, err));
    for (uint32_t g = 0; g < e->cache.n_groups; g++) {
        if (!(groups >> g & 1)) continue;
        TRY(e->device->backend->page_read(e->program, g, cache_page(&e->cache, &s->cache, g, i), room, err));
        TRY(put(w, room, (size_t)e->info.group[g].page, err));
    }
    return STRETTO_OK;
}

/* Of the whole file. */
static uint64_t bytes_of(const struct engine *e, const struct sequence *s, const struct engine_text *t)
{
    uint64_t n = sizeof(struct head) + t->n * (sizeof *t->tokens + 1) + DISK_DIGEST;
    for (uint32_t i = 0; i < s->cache.n_pages; i++) {
        n += sizeof(uint32_t);
        for (uint32_t g = 0; g < e->cache.n_groups; g++) n += has_page(e, s, g, i) ? e->info.group[g].page : 0;
    }
    return n;
}

static stretto_status put_all(struct engine *e, const struct sequence *s, const struct engine_text *t,
                              struct writing *w, struct error *err)
{
    struct head h = { .version = VERSION, .tokens = t->n, .groups = e->cache.n_groups, .pages = s->cache.n_pages,
                      .salt = salt_of(e, t) };
    uint64_t most = 0;
    unsigned char digest[DISK_DIGEST];
    memcpy(h.magic, magic, sizeof magic);
    TRY(engine_identity(e, NULL, err));
    memcpy(h.identity, e->identity, sizeof h.identity);
    for (uint32_t g = 0; g < e->cache.n_groups; g++) if (e->info.group[g].page > most) most = e->info.group[g].page;
    unsigned char *room = mem_alloc((size_t)most);
    if (!room) return fail(err, STRETTO_E_NOMEM, "no memory for a page");
    blake2b_begin(&w->digest, sizeof digest);
    stretto_status st = put(w, &h, sizeof h, err);
    if (st == STRETTO_OK) st = put(w, t->tokens, t->n * sizeof *t->tokens, err);
    if (st == STRETTO_OK) st = put(w, t->given, t->n, err);
    for (uint32_t i = 0; i < h.pages && st == STRETTO_OK; i++) st = put_page(e, s, i, room, w, err);
    mem_free(room);
    if (st != STRETTO_OK) return st;
    blake2b_end(&w->digest, digest);
    TRY(part_put(&w->part, w->at, digest, sizeof digest, err));
    w->at += sizeof digest;
    return STRETTO_OK;
}

static stretto_status write_file(struct engine *e, const struct sequence *s, struct engine_text *t, const char *path,
                                 struct error *err)
{
    struct writing w = { .at = 0 };
    TRY(part_open(&w.part, path, true, true, err));
    stretto_status st = part_begin(&w.part, 0, err);
    if (st == STRETTO_OK) st = put_all(e, s, t, &w, err);
    if (st == STRETTO_OK) st = part_finish(&w.part, err);
    part_close(&w.part);
    t->bytes = w.at;
    return st;
}

static stretto_status write_where_room(struct engine *e, const struct sequence *s, struct engine_text *t,
                                       const char *path, const struct engine_text_room *room, struct error *err)
{
    int64_t note = 0;
    if (!room || !room->ask) return write_file(e, s, t, path, err);
    TRY(room->ask(room->ud, path, bytes_of(e, s, t), &note, err));
    stretto_status st = write_file(e, s, t, path, err);
    room->done(room->ud, note, st == STRETTO_OK);
    return st;
}

stretto_status engine_text_save(struct engine *e, struct engine_text *t, const char *path,
                                const struct engine_text_room *room, struct error *err)
{
    const struct sharing how = sharing_of(t);
    int32_t seq;
    TRY(check_engine(e, err));
    if (t->n < 2) return fail(err, STRETTO_E_ARG, "there is no text to save");
    TRY(engine_seq_open(e, &seq, err));
    struct sequence *s = &e->seqs[seq];
    stretto_status st = engine_share(e, seq, &how, err);
    t->n = engine_set(e, seq, t->tokens, t->n, t->n - 1);
    memcpy(t->given, s->given, t->n);
    if (st == STRETTO_OK)
        st = t->n ? write_where_room(e, s, t, path, room, err)
                  : fail(err, STRETTO_E_ARG, "nothing of the text is in the cache any more");
    engine_seq_close(e, seq);
    return st;
}

/* ---- reading --------------------------------------------------------------------------------------- */

struct reading { const unsigned char *p; size_t n, at; };

static const unsigned char *get(struct reading *r, uint64_t n)
{
    if (n > r->n - r->at) return NULL;
    const unsigned char *p = r->p + r->at;
    r->at += (size_t)n;
    return p;
}

static stretto_status check_head(struct engine *e, const struct head *h, const struct engine_text *t,
                                 struct error *err)
{
    TRY(engine_identity(e, NULL, err));
    if (memcmp(e->identity, h->identity, sizeof h->identity) != 0 || h->groups != e->cache.n_groups)
        return fail(err, STRETTO_E_ARG, "the file is of another model, cache, device or version than runs here");
    if (h->salt != salt_of(e, t))
        return fail(err, STRETTO_E_ARG, "the file is of another key's texts, or of other adapters: those that it "
                    "was saved with are to be named again");
    if (!h->tokens || h->pages != (h->tokens - 1) / PAGE_SLOTS + 1)
        return fail(err, STRETTO_E_FORMAT, "the file is damaged: it tells of %u tokens and %u pages", h->tokens,
                    h->pages);
    uint32_t most = t->cap < e->info.context ? t->cap : e->info.context;
    if (h->tokens <= most) return STRETTO_OK;
    return fail(err, STRETTO_E_ARG, "the file has %u tokens and the context holds %u: it can be taken back where that "
                "is longer", h->tokens, most);
}

static stretto_status take_page(struct engine *e, struct sequence *s, const struct engine_text *t, uint32_t i,
                                struct reading *r, bool *more, struct error *err)
{
    uint32_t groups, n = t->n - i * PAGE_SLOTS < PAGE_SLOTS ? t->n - i * PAGE_SLOTS : PAGE_SLOTS;
    uint64_t bytes = 0;
    const unsigned char *p = get(r, sizeof groups);
    if (p) memcpy(&groups, p, sizeof groups);
    if (!p || groups >> e->cache.n_groups) return fail(err, STRETTO_E_FORMAT, "the file ends inside of a page");
    for (uint32_t g = 0; g < e->cache.n_groups; g++) bytes += groups >> g & 1 ? e->info.group[g].page : 0;
    if (!(p = get(r, bytes))) return fail(err, STRETTO_E_FORMAT, "the file ends inside of a page");
    *more = *more && prefix_place(&e->prefix, &s->at, t->tokens + i * PAGE_SLOTS, t->given + i * PAGE_SLOTS, n, groups,
                                  p);
    return STRETTO_OK;
}

/* As far as there are pages for it. */
static stretto_status take_all(struct engine *e, struct engine_text *t, struct reading *r, uint32_t pages,
                               struct error *err)
{
    const struct sharing how = sharing_of(t);
    int32_t seq;
    bool more = true;
    TRY(engine_seq_open(e, &seq, err));
    stretto_status st = engine_share(e, seq, &how, err);
    for (uint32_t i = 0; i < pages && st == STRETTO_OK; i++)
        st = take_page(e, &e->seqs[seq], t, i, r, &more, err);
    engine_seq_close(e, seq);
    if (st == STRETTO_OK && !more) return fail(err, STRETTO_E_FULL, "the cache has no room for the text now");
    return st;
}

static stretto_status read_map(struct engine *e, struct engine_text *t, struct reading *r, struct error *err)
{
    struct head h;
    struct blake2b b;
    unsigned char digest[DISK_DIGEST];
    int32_t vocab = (int32_t)e->model->config.vocab;
    const unsigned char *p = r->n >= sizeof h + sizeof digest ? get(r, sizeof h) : NULL;
    if (p) memcpy(&h, p, sizeof h);
    if (!p || memcmp(h.magic, magic, sizeof magic) != 0)
        return fail(err, STRETTO_E_FORMAT, "the file is no text that was saved");
    if (h.version != VERSION)
        return fail(err, STRETTO_E_FORMAT, "the file has form %u of saved texts, and this version reads form %d",
                    h.version, (int)VERSION);
    r->n -= sizeof digest;
    blake2b_begin(&b, sizeof digest);
    blake2b_add(&b, r->p, r->n);
    blake2b_end(&b, digest);
    if (memcmp(digest, r->p + r->n, sizeof digest) != 0) return fail(err, STRETTO_E_FORMAT, "the file is damaged");
    TRY(check_head(e, &h, t, err));
    const unsigned char *tokens = get(r, h.tokens * sizeof *t->tokens), *given = get(r, h.tokens);
    if (!tokens || !given) return fail(err, STRETTO_E_FORMAT, "the file ends inside of its tokens");
    t->n = h.tokens;
    memcpy(t->tokens, tokens, t->n * sizeof *t->tokens);
    for (uint32_t i = 0; i < t->n; i++) {
        if (t->tokens[i] < 0 || t->tokens[i] >= vocab)
            return fail(err, STRETTO_E_FORMAT, "the file has a strange token");
        t->given[i] = given[i] != 0;
    }
    return take_all(e, t, r, h.pages, err);
}

stretto_status engine_text_load(struct engine *e, struct engine_text *t, const char *path, struct error *err)
{
    struct file_map m = { 0 };
    TRY(check_engine(e, err));
    if (file_map_open(&m, path, err) != STRETTO_OK) return STRETTO_E_FORMAT;
    struct reading r = { m.data, m.size, 0 };
    stretto_status st = read_map(e, t, &r, err);
    t->bytes = m.size;
    file_map_close(&m);
    return st;
}

uint32_t engine_text_erase(struct engine *e, const struct engine_text *t)
{
    struct prefix_seq of = { .salt = t->salt };
    adapted_view(e, t->adapters, false, &of);
    if (e->prefix.off || !t->n) return 0;
    return prefix_forget(&e->prefix, &of, t->tokens, t->given, t->n);
}
