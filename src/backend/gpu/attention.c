/* Launches of kernels/attention.cl: a tile's queries in batches, chunks walked through or shared out. What is
 * chosen here (the batch's size, whether chunks are shared out) follows from how many work-groups there
 * would be, and changes no bits: those are given by positions (attention.cl). */
#include "backend/gpu/gpu.h"
#include "backend/gpu/kernels/words.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>

enum {
    LANES = 128,
    MOST_QUERIES = 16,     /* of a batch: their sums are 64 registers of a lane                         */
    CARD_LOCAL = 48 << 10, /* what CUDA gives a kernel that does not ask                                */
    UNIT_GROUPS = 2        /* work-groups for each unit, below which chunks are shared out              */
};
/* More partial results than this are not worth their memory: there are rows enough to fill the card. */
static const uint64_t partial_most = (uint64_t)32 << 20;

/* Kernels for a size of heads. batch 0: those that know no batch. */
struct variant {
    struct variant *next;
    uint32_t head_dim, batch;
    struct gpu_code *code;
    struct gpu_kernel *attend, *merge, *move;
};

struct gpu_attention {
    enum cache_type type;
    const struct gpu_driver *driver;
    struct variant *first;
};

static bool coded(enum cache_type t) { return t == CACHE_Q8_0 || t == CACHE_Q8_0_Q4_0; }
static uint64_t quads(uint32_t head_dim) { return ((uint64_t)head_dim + 3) / 4; }
static uint64_t groups(uint32_t head_dim) { return ((uint64_t)head_dim + 31) / 32; }

uint64_t gpu_head_bytes(enum cache_type t, uint32_t head_dim)
{
    uint64_t items = PAGE_SLOTS * quads(head_dim), scales = PAGE_SLOTS * groups(head_dim) * sizeof(float);
    if (t == CACHE_F32) return 2 * 16 * items;
    if (!coded(t)) return 2 * 8 * items;
    return (t == CACHE_Q8_0_Q4_0 ? 4 + 2 : 4 + 4) * items + 2 * scales;
}

/* ---- sizes ----------------------------------------------------------------------------------- */

uint32_t gpu_tile_rows(uint32_t heads_per_kv)
{
    return heads_per_kv < MOST_QUERIES ? MOST_QUERIES / heads_per_kv : 1;
}

static uint32_t per_kv(const struct graph_node *n) { return n->attention.heads / n->attention.kv_heads; }

/* As chunk_of in attention.cl, of the last position, and one. */
static uint32_t chunks_of(uint32_t sees)
{
    if (sees <= CHUNK_FINE_END) return (sees + CHUNK_FINE - 1) / CHUNK_FINE;
    return CHUNK_FINE_END / CHUNK_FINE + (sees - CHUNK_FINE_END + CHUNK_COARSE - 1) / CHUNK_COARSE;
}

static uint32_t window_of(const struct graph_node *n) { return n->attention.causal ? n->attention.window : 0; }

/* The most chunks of one row. */
static uint32_t row_chunks(const struct graph_node *n, uint32_t sees)
{
    uint32_t all = chunks_of(sees), window = window_of(n), most = window / CHUNK_FINE + 2;
    return window && most < all ? most : all;
}

static uint64_t partial_need(const struct graph_node *n, uint64_t rows, uint64_t chunks)
{
    return rows * n->attention.heads * chunks * (4 * quads(n->attention.head_dim) + 4) * sizeof(float);
}

uint64_t gpu_partial_bytes(const struct graph *g, const struct program_limits *l)
{
    uint64_t most = 16, sees = (uint64_t)l->max_seq_pages * PAGE_SLOTS;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        if (n->op != OP_ATTENTION) continue;
        uint32_t chunks = row_chunks(n, sees > INT32_MAX ? INT32_MAX : (uint32_t)sees);
        uint64_t need = chunks > 1 ? partial_need(n, l->max_rows, chunks) : 0;
        if (need > most) most = need;
    }
    return most < partial_most ? most : partial_most;
}

/* ---- kernels --------------------------------------------------------------------------------- */

/* Bytes of local memory of `attend`: its arrays, and what the compiler puts between them. */
static uint64_t local_bytes(enum cache_type t, uint32_t head_dim, uint32_t batch)
{
    uint64_t query = coded(t) ? groups(head_dim) * 36 : quads(head_dim) * 16;
    return batch * (query + CHUNK_FINE * 4 + quads(head_dim) * 16 + 32 * 4 + 7 * 4) + 4 * LANES + 4 * 512 + 512;
}

static bool batch_fits(const struct gpu_device *d, enum cache_type t, uint32_t head_dim, uint32_t batch)
{
    uint64_t most = d->about.local < CARD_LOCAL ? d->about.local : CARD_LOCAL;
    return local_bytes(t, head_dim, batch) <= most;
}

/* The smallest batch that takes so many queries, or else the largest that there is. On a CPU every kernel takes
 * a second to compile and none is faster. */
static uint32_t batch_for(const struct gpu_device *d, enum cache_type t, uint32_t head_dim, uint32_t queries)
{
    uint32_t best = 4;
    for (uint32_t b = 4; best < queries && b <= MOST_QUERIES; b *= 2)
        if ((d->about.gpu || b != 8) && batch_fits(d, t, head_dim, b)) best = b;
    return best;
}

stretto_status gpu_attention_open(struct gpu_device *d, enum cache_type t, struct gpu_attention **out,
                                  struct error *err)
{
    struct gpu_attention *a = *out = mem_alloc(sizeof *a);
    if (!a) return fail(err, STRETTO_E_NOMEM, "out of memory");
    *a = (struct gpu_attention){ t, d->driver, NULL };
    return STRETTO_OK;
}

static void variant_close(const struct gpu_driver *driver, struct variant *v)
{
    if (v->code) driver->code_close(v->code);
    mem_free(v);
}

void gpu_attention_close(struct gpu_attention *a)
{
    if (!a) return;
    for (struct variant *v = a->first, *next; v; v = next) {
        next = v->next;
        variant_close(a->driver, v);
    }
    mem_free(a);
}

static stretto_status variant_build(struct gpu_device *d, enum cache_type t, struct variant *v, struct error *err)
{
    static const char *const files[] = { "cache.cl", "attention.cl", NULL };
    const struct gpu_driver *driver = d->driver;
    char options[96], batch[32] = "";
    if (v->batch) snprintf(batch, sizeof batch, " -DBATCH=%u", v->batch);
    snprintf(options, sizeof options, "-DCACHE=%d -DHEAD_DIM=%u%s", (int)t, v->head_dim, batch);
    TRY(gpu_build(d, files, options, &v->code, err));
    if (v->batch) return driver->kernel(v->code, "attend", &v->attend, err);
    TRY(driver->kernel(v->code, "merge", &v->merge, err));
    return driver->kernel(v->code, "slots_move", &v->move, err);
}

static stretto_status variant_get(struct gpu_device *d, struct gpu_attention *a, uint32_t head_dim, uint32_t batch,
                                  const struct variant **out, struct error *err)
{
    struct variant *v = a->first;
    while (v && (v->head_dim != head_dim || v->batch != batch)) v = v->next;
    *out = v;
    if (v) return STRETTO_OK;
    v = mem_alloc(sizeof *v);
    if (!v) return fail(err, STRETTO_E_NOMEM, "out of memory");
    *v = (struct variant){ .next = a->first, .head_dim = head_dim, .batch = batch };
    stretto_status s = variant_build(d, a->type, v, err);
    if (s != STRETTO_OK) {
        variant_close(d->driver, v);
        return s;
    }
    *out = a->first = v;
    return STRETTO_OK;
}

stretto_status gpu_attention_prepare(struct gpu_device *d, struct gpu_attention *a, const struct graph_node *n,
                                     struct error *err)
{
    uint32_t hd = n->attention.head_dim, most = per_kv(n) * gpu_tile_rows(per_kv(n));
    const struct variant *v;
    TRY(variant_get(d, a, hd, 0, &v, err));
    for (uint32_t queries = 1; queries <= most; queries++)
        TRY(variant_get(d, a, hd, batch_for(d, a->type, hd, queries), &v, err));
    return STRETTO_OK;
}

/* ---- launches -------------------------------------------------------------------------------- */

static struct gpu_arg word(uint32_t w) { return (struct gpu_arg){ NULL, (int32_t)w }; }
static struct gpu_arg number(float f)
{
    struct gpu_arg a = { 0 };
    memcpy(&a.word, &f, sizeof f);
    return a;
}

static stretto_status merge(struct gpu_device *d, struct gpu_attention *a, const struct gpu_places *m,
                            const struct gpu_attention_job *j, uint32_t chunks, struct error *err)
{
    const struct graph_node *n = j->node;
    const struct variant *v;
    TRY(variant_get(d, a, n->attention.head_dim, 0, &v, err));
    const struct gpu_arg args[] = { { m->activations, 0 }, { m->step, 0 }, { j->partial, 0 }, word(j->out),
                                    word(j->out_ld), word(n->attention.heads), word(window_of(n)), word(chunks) };
    const uint32_t grid[3] = { j->most_rows, n->attention.heads, 1 };
    return d->driver->launch(d->card, v->merge, grid, LANES, args, sizeof args / sizeof *args, err);
}

stretto_status gpu_attention_run(struct gpu_device *d, struct gpu_attention *a, const struct gpu_places *m,
                                 const struct gpu_attention_job *j, struct error *err)
{
    const struct graph_node *n = j->node;
    uint32_t heads = per_kv(n), hd = n->attention.head_dim;
    uint32_t batch = batch_for(d, a->type, hd, heads * j->tile_rows), at_once = heads < batch ? heads : batch;
    uint32_t rows = batch / at_once, row_batches = (j->tile_rows + rows - 1) / rows;
    uint32_t batches = n->attention.kv_heads * row_batches * ((heads + at_once - 1) / at_once);
    uint32_t chunks = row_chunks(n, j->most_sees);
    const struct variant *v;
    if (!j->most_tiles) return STRETTO_OK;
    TRY(variant_get(d, a, hd, batch, &v, err));
    if ((uint64_t)j->most_tiles * batches >= (uint64_t)UNIT_GROUPS * d->about.units || chunks < 2
        || partial_need(n, j->most_rows, chunks) > j->partial_bytes)
        chunks = 0;
    const struct gpu_arg args[] = {
        { j->pool, 0 }, { m->activations, 0 }, { m->step, 0 }, { j->partial, 0 },
        word(j->q), word(j->q_ld), word(j->out), word(j->out_ld), word(n->attention.heads),
        word(n->attention.kv_heads), word(j->group->layers), word(n->attention.member),
        word(n->attention.group), word(window_of(n)), number(n->attention.scale),
        number(n->attention.softcap), word(row_batches), word(chunks)
    };
    const uint32_t grid[3] = { j->most_tiles, batches, chunks ? chunks : 1 };
    TRY(d->driver->launch(d->card, v->attend, grid, LANES, args, sizeof args / sizeof *args, err));
    return chunks ? merge(d, a, m, j, chunks, err) : STRETTO_OK;
}

/* ---- pages ----------------------------------------------------------------------------------- */

stretto_status gpu_page_copy(struct gpu_device *d, struct gpu_memory *pool, uint64_t page_bytes, int32_t from,
                             int32_t to, struct error *err)
{
    return d->driver->copy(d->card, pool, (uint64_t)from * page_bytes, pool, (uint64_t)to * page_bytes,
                           (size_t)page_bytes, err);
}

stretto_status gpu_slots_move(struct gpu_device *d, struct gpu_attention *a, struct gpu_memory *pool,
                              const struct layer_group *group, struct gpu_memory *moves, uint32_t n,
                              struct error *err)
{
    const uint32_t heads = group->layers * group->kv_heads, grid[3] = { heads, 1, 1 };
    const struct variant *v;
    if (!n) return STRETTO_OK;
    TRY(variant_get(d, a, group->head_dim, 0, &v, err));
    const struct gpu_arg args[] = { { pool, 0 }, { moves, 0 }, word(n), word(heads) };
    return d->driver->launch(d->card, v->move, grid, LANES, args, sizeof args / sizeof *args, err);
}
