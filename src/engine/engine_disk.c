/* Which files an engine's pages may come from: a digest of all that decides their bytes. */
#include "base/memory.h"
#include "engine/engine_int.h"
#include "format/extend.h"
#include <stdio.h>
#include <string.h>

enum { SAMPLES = 16, SAMPLE = 4096 };

static void add_text(struct blake2b *b, const char *s)
{
    blake2b_add(b, s ? s : "", s ? strlen(s) + 1 : 1);
}

static void add_number(struct blake2b *b, uint64_t n)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(n >> 8 * i);
    blake2b_add(b, bytes, sizeof bytes);
}

/* Pieces all over it, its ends among them. */
static void add_samples(struct blake2b *b, const unsigned char *data, size_t n)
{
    add_number(b, n);
    if (n <= (size_t)SAMPLES * SAMPLE) blake2b_add(b, data, n);
    else
        for (size_t i = 0; i < SAMPLES; i++) blake2b_add(b, data + (n - SAMPLE) / (SAMPLES - 1) * i, SAMPLE);
}

static void add_metadata(struct blake2b *b, const struct source *s)
{
    for (size_t i = 0; i < source_key_count(s); i++) {
        enum source_kind kind;
        const char *key = source_key_at(s, i, &kind);
        struct source_str text;
        uint64_t u;
        double f;
        size_t n;
        add_text(b, key);
        if (kind == SOURCE_STRING && source_string(s, key, &text)) blake2b_add(b, text.p, text.n);
        else if (source_u64(s, key, &u)) add_number(b, u);
        else if (source_f64(s, key, &f)) blake2b_add(b, &f, sizeof f);
        else if (kind == SOURCE_ARRAY && source_array(s, key, &kind, &n)) {
            add_number(b, n);
            for (size_t k = 0; k < n; k++)
                if (source_array_f64(s, key, k, &f)) blake2b_add(b, &f, sizeof f);
        }
    }
}

/* What a packed file was decoded to is gone where it was given back; the file itself is there. */
static stretto_status add_file(struct blake2b *b, const char *path, struct error *err)
{
    unsigned char piece[SAMPLE];
    FILE *f = fopen(path, "rb");
    bool ok = f && !fseeko(f, 0, SEEK_END);
    off_t n = ok ? ftello(f) : 0;
    add_number(b, (uint64_t)n);
    for (off_t i = 0; ok && i < SAMPLES * SAMPLES; i++) {
        ok = !fseeko(f, n / (SAMPLES * SAMPLES) * i, SEEK_SET);
        blake2b_add(b, piece, ok ? fread(piece, 1, sizeof piece, f) : 0);
    }
    if (f) fclose(f);
    return ok ? STRETTO_OK : fail(err, STRETTO_E_IO, "cannot read %s again", path);
}

static void add_pair(struct blake2b *b, const struct adapter_pair *p, float scale)
{
    const float scales[] = { p->scale, scale };
    add_text(b, p->weight);
    blake2b_add(b, scales, sizeof scales);
    blake2b_add(b, p->a, (size_t)p->rank * p->n_in * sizeof *p->a);
    blake2b_add(b, p->b, (size_t)p->rank * p->n_out * sizeof *p->b);
}

static stretto_status add_model(struct blake2b *b, const struct model *m, struct error *err)
{
    add_metadata(b, m->source);
    add_number(b, m->reference);
    for (size_t i = 0; i < source_tensor_count(m->source); i++) {
        const struct source_tensor *t = source_tensor_at(m->source, i);
        add_text(b, t->name);
        add_number(b, (uint64_t)t->type);
        for (int k = 0; k < SOURCE_MAX_DIMS; k++) add_number(b, t->dims[k]);
        if (!source_decoded(m->source)) add_samples(b, t->data, t->bytes);
        const struct source_tensor *plain = source_tensor_plain(m->source, t);
        if (plain != t) blake2b_add(b, (const char *)t->data + plain->bytes, t->bytes - plain->bytes);     /* phrases */
    }
    for (size_t i = 0; i < m->n_adapters; i++) {
        const struct model_adapter *a = &m->adapters[i];
        for (size_t k = 0; k < a->pairs.n && !model_adapter_in_set(a); k++)     /* the others' pages have their salts */
            add_pair(b, &a->pairs.pair[k], a->scale);
    }
    return source_decoded(m->source) ? add_file(b, source_path(m->source), err) : STRETTO_OK;
}

stretto_status engine_identity(struct engine *e, const char *adapter, struct error *err)
{
    struct blake2b b;
    char about[4096] = "";
    const struct backend *k = e->device->backend;
    if (e->identified) return STRETTO_OK;
    blake2b_begin(&b, DISK_DIGEST);
    add_text(&b, "pages " STRETTO_VERSION);
    TRY(add_model(&b, e->model, err));
    add_text(&b, adapter);
    add_text(&b, k->name);
    add_text(&b, k->list ? e->device->name : NULL);      /* constants of a card are in its bits */
    if (k->describe) k->describe(e->model->weights, about, sizeof about);
    add_text(&b, about);
    add_number(&b, (uint64_t)e->cache_type);
    add_number(&b, !e->prefix.roles);
    for (size_t i = 0; i < e->model->graph.n_rope; i++) {
        uint32_t near = e->model->graph.rope[i].near;
        add_number(&b, near && e->info.context > near);
    }
    for (uint32_t g = 0; g < e->cache.n_groups; g++) {
        const struct layer_group *x = e->cache.group[g].layers;
        const uint64_t sizes[] = { x->kind, x->layers, x->kv_heads, x->head_dim, x->window, e->info.group[g].page };
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) add_number(&b, sizes[i]);
    }
    blake2b_end(&b, e->identity);
    e->identified = true;
    return STRETTO_OK;
}

stretto_status engine_disk_open(struct engine *e, const struct engine_disk *o, struct error *err)
{
    struct disk_options d = { .folder = o->folder, .bytes = o->bytes, .n_groups = e->cache.n_groups, .log = o->log };
    const struct backend *k = e->device->backend;
    if (e->disk) return fail(err, STRETTO_E_ARG, "the engine keeps its pages in a folder already");
    if (!k->page_read || !k->page_write)
        return fail(err, STRETTO_E_UNSUP, "pages of the backend %s cannot be kept on disk", k->name);
    if (e->model->graph.bidirectional)
        return fail(err, STRETTO_E_UNSUP, "an encoder's texts share nothing, so nothing is kept on disk");
    for (uint32_t g = 0; g < d.n_groups; g++) d.page[g] = e->info.group[g].page;
    TRY(engine_identity(e, o->adapter, err));
    memcpy(d.identity, e->identity, sizeof d.identity);
    TRY(disk_open(&e->disk, &d, err));
    e->disk_apart = o->apart;
    prefix_use_disk(&e->prefix, e->disk);
    return STRETTO_OK;
}

uint32_t engine_disk_save(struct engine *e, uint32_t hits, uint32_t most)
{
    return prefix_save(&e->prefix, hits, most);
}

void engine_disk_sync(struct engine *e)
{
    if (e->disk) disk_sync(e->disk);
}

bool engine_disk_look(const struct engine *e, struct disk_state *out)
{
    if (e->disk) disk_look(e->disk, out);
    return e->disk != NULL;
}

stretto_status engine_compare(struct engine *e, struct error *err)
{
    uint64_t most = 0;
    for (uint32_t g = 0; g < e->cache.n_groups; g++) if (e->info.group[g].page > most) most = e->info.group[g].page;
    if (e->compared || !most) return STRETTO_OK;
    e->compared = mem_alloc((size_t)(2 * most));
    if (!e->compared) return fail(err, STRETTO_E_NOMEM, "no memory to compare pages in");
    prefix_compare(&e->prefix, e->compared);
    return STRETTO_OK;
}
