/* The cache's pages on a card, and how a token gets into them. CACHE is enum cache_type. What a kv head of a
 * layer holds in a page stands together: keys, then values, 64 positions each, in items: four dims of one
 * position, those behind head_dim zeros. A row of lanes reads a row of memory:
 *
 *   keys     [quads][64 positions] items     lanes are positions
 *   values   [64 positions][quads] items     lanes are quads of dims
 *
 * An item is four float32, f16 or bf16, or four codes of eight bits in a word, or (values of q8_0+q4_0)
 * of four bits in half a word. Behind codes stand float32 scales of 32 dims each: of keys
 * [groups][64 positions], of values [64 positions][groups]. A token's codes depend on its own vector
 * alone; they are those of kernels/kv.h. Needs dialect.h and words.h. */
enum { CACHE_SLOTS = 64, CACHE_TURNED = 2048 };

#define CACHE_CODED (CACHE >= 3)
#define CACHE_ROTATED (CACHE == 4)
#define CACHE_ITEM (CACHE == 0 ? 4 : CACHE < 3 ? 2 : 1) /* words of an item of keys */

DEVICE int cache_quads(int head_dim) { return (head_dim + 3) / 4; }
DEVICE int cache_groups(int head_dim) { return (head_dim + 31) / 32; }

/* The word at which the scales of a head's keys begin, its values, their scales; and all its words. */
DEVICE int cache_k_scales(int head_dim) { return cache_quads(head_dim) * CACHE_SLOTS * CACHE_ITEM; }
DEVICE int cache_v(int head_dim)
{
    return cache_k_scales(head_dim) + (CACHE_CODED ? CACHE_SLOTS * cache_groups(head_dim) : 0);
}
DEVICE int cache_v_scales(int head_dim)
{
    int items = cache_quads(head_dim) * CACHE_SLOTS;
    return cache_v(head_dim) + (CACHE_ROTATED ? items / 2 : items * CACHE_ITEM);
}
DEVICE int cache_head_words(int head_dim)
{
    return cache_v_scales(head_dim) + (CACHE_CODED ? CACHE_SLOTS * cache_groups(head_dim) : 0);
}

/* The page in which a slot of the row's sequence stands, of a layer group's pool. */
DEVICE int cache_page(GLOBAL const int *step, int group, int row, int slot)
{
    return step[step[step[STEP_PAGE_AT + group] + row] + slot / CACHE_SLOTS];
}

/* The word of the pool at which the first kv head of a layer of the group begins in a page. Pools
 * are larger than 2^32 words. */
DEVICE size_t cache_layer(int page, int layers, int member, int kv_heads, int head_dim)
{
    return ((size_t)page * (size_t)layers + (size_t)member) * (size_t)kv_heads
        * (size_t)cache_head_words(head_dim);
}

/* ---- numbers --------------------------------------------------------------------------------- */

DEVICE ushort cache_bf16(float x)
{
    uint u = (uint)float_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (ushort)(u >> 16 | 0x40u);
    return (ushort)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* Four dims of a vector, zeros behind its end. */
#define CACHE_QUAD(NAME, SPACE)                                        \
    DEVICE float4 NAME(SPACE const float *x, int head_dim, int quad)   \
    {                                                                  \
        int i = 4 * quad;                                              \
        float4 v;                                                      \
        v.x = i < head_dim ? x[i] : 0.0f;                              \
        v.y = i + 1 < head_dim ? x[i + 1] : 0.0f;                      \
        v.z = i + 2 < head_dim ? x[i + 2] : 0.0f;                      \
        v.w = i + 3 < head_dim ? x[i + 3] : 0.0f;                      \
        return v;                                                      \
    }
CACHE_QUAD(cache_global_quad, GLOBAL)
CACHE_QUAD(cache_local_quad, TO_LOCAL)

/* The largest magnitude; infinity when one is no number. */
DEVICE float cache_top(float4 v)
{
    float top = fmax(fmax(fabs(v.x), fabs(v.y)), fmax(fabs(v.z), fabs(v.w)));
    return v.x - v.x + (v.y - v.y) + (v.z - v.z) + (v.w - v.w) == 0.0f ? top : INFINITY;
}

/* What a group whose largest magnitude is `top` is multiplied by for its codes; 0 when they are zeros. */
DEVICE float cache_by(float top)
{
    float by = 127.0f / top;
    return top < INFINITY && by < INFINITY ? by : 0.0f;
}

/* Its scale. */
DEVICE float cache_scale(float top)
{
    return !(top < INFINITY) ? NAN : cache_by(top) == 0.0f ? 0.0f : top / 127.0f;
}

DEVICE int cache_code(float x, float by) { return by == 0.0f ? 0 : (int)round_even(x * by) & 255; }

/* Four codes in a word. */
DEVICE int cache_codes(float4 v, float by)
{
    return cache_code(v.x, by) | cache_code(v.y, by) << 8 | cache_code(v.z, by) << 16
        | (int)((uint)cache_code(v.w, by) << 24);
}

#if CACHE_ROTATED
/* kv_levels of kernels/kv.h. */
CONSTANT float cache_levels[16] = { -123, -97, -77, -60, -45, -32, -19, -6,
                                    6,    19,  32,  45,  60,  77,  97,  123 };

DEVICE int cache_level(float x, float d)
{
    int above = 0;
    for (int l = 0; l < 15; l++)
        above += x > d * (0.5f * (cache_levels[l] + cache_levels[l + 1])) ? 1 : 0;
    return above;
}

/* Hadamard's rotation (kernels/kv.h) of n vectors that stand `ld` floats apart, by all lanes of a
 * work-group: one turn for h = 1, 2, 4 ... below the largest power of two in head_dim, a barrier between
 * two; then every number times the root of one over that power. */
DEVICE void cache_turn(TO_LOCAL float *x, int n, int ld, int head_dim, int h, int lanes)
{
    int pairs = head_dim / 2;
    for (int i = lane_id(); i < n * pairs; i += lanes) {
        TO_LOCAL float *p = x + i / pairs * ld + i % pairs / h * 2 * h + i % h;
        float a = p[0], b = p[h];
        p[0] = a + b;
        p[h] = a - b;
    }
}

/* Barriers: before what is written is read, and behind the last. */
DEVICE void cache_rotate(TO_LOCAL float *x, int n, int ld, int head_dim, int lanes)
{
    int run = head_dim & -head_dim;
    float by = sqrt(1.0f / (float)run);
    for (int h = 1; h < run; h *= 2) {
        barrier_local();
        cache_turn(x, n, ld, head_dim, h, lanes);
    }
    barrier_local();
    for (int i = lane_id(); i < n * head_dim; i += lanes) x[i / head_dim * ld + i % head_dim] *= by;
    barrier_local();
}
#endif

/* ---- storing --------------------------------------------------------------------------------- */

/* Values that are rotated before they are stored are turned in LOCAL memory, some heads in a round. */
#define CACHE_SCRATCH (CACHE_ROTATED ? CACHE_TURNED : 1)
DEVICE int cache_heads_at_once(int heads, int head_dim)
{
    return CACHE_ROTATED ? CACHE_TURNED / head_dim : heads;
}

/* The largest magnitude among the 32 dims of group g: each of its eight lanes looks for itself. */
#define CACHE_GROUP_TOP(NAME, SPACE, QUAD)                            \
    DEVICE float NAME(SPACE const float *x, int head_dim, int g)      \
    {                                                                 \
        float top = 0.0f;                                             \
        for (int q = 8 * g; q < 8 * g + 8; q++) top = fmax(top, cache_top(QUAD(x, head_dim, q))); \
        return top;                                                   \
    }

#if CACHE_CODED
CACHE_GROUP_TOP(cache_global_top, GLOBAL, cache_global_quad)

/* Keys or values of eight bits, of all heads. */
DEVICE void cache_store_codes(GLOBAL uint *to, int slot, int heads, int head_dim, GLOBAL const float *x,
                              bool keys, int lanes)
{
    int quads = cache_quads(head_dim), groups = cache_groups(head_dim), words = cache_head_words(head_dim);
    for (int i = lane_id(); i < heads * quads; i += lanes) {
        int h = i / quads, quad = i % quads;
        float top = cache_global_top(x + h * head_dim, head_dim, quad / 8);
        GLOBAL uint *head = to + (size_t)h * (size_t)words;
        int at = keys ? quad * CACHE_SLOTS + slot : cache_v(head_dim) + slot * quads + quad;
        head[at] = (uint)cache_codes(cache_global_quad(x + h * head_dim, head_dim, quad), cache_by(top));
        at = keys ? cache_k_scales(head_dim) + quad / 8 * CACHE_SLOTS + slot
                  : cache_v_scales(head_dim) + slot * groups + quad / 8;
        if (quad % 8 == 0) head[at] = (uint)float_bits(cache_scale(top));
    }
}
#endif

#if CACHE_ROTATED
CACHE_GROUP_TOP(cache_local_top, TO_LOCAL, cache_local_quad)

/* Values of four bits, of n heads that were turned. */
DEVICE void cache_store_levels(GLOBAL uint *to, int slot, int n, int head_dim, TO_LOCAL const float *turned,
                               int lanes)
{
    int quads = cache_quads(head_dim), groups = cache_groups(head_dim), words = cache_head_words(head_dim);
    for (int i = lane_id(); i < n * quads; i += lanes) {
        int h = i / quads, quad = i % quads;
        float top = cache_local_top(turned + h * head_dim, head_dim, quad / 8), d = top / 127.0f;
        float4 v = cache_local_quad(turned + h * head_dim, head_dim, quad);
        GLOBAL uint *head = to + (size_t)h * (size_t)words;
        ((GLOBAL ushort *)(head + cache_v(head_dim)))[slot * quads + quad] =
            (ushort)(cache_level(v.x, d) | cache_level(v.y, d) << 4 | cache_level(v.z, d) << 8
                     | cache_level(v.w, d) << 12);
        if (quad % 8 == 0)
            head[cache_v_scales(head_dim) + slot * groups + quad / 8] =
                (uint)float_bits(top < INFINITY ? d : NAN);
    }
}

/* Stage 0 fetches n heads, the following ones turn them, the last stores them and is followed by 0. */
DEVICE int cache_store_turned(int stage, GLOBAL uint *to, int slot, int n, int head_dim, GLOBAL const float *x,
                              TO_LOCAL float *turned, int lanes)
{
    int run = head_dim & -head_dim;
    if (stage == 0) {
        for (int i = lane_id(); i < n * head_dim; i += lanes) turned[i] = x[i];
    } else if (1 << (stage - 1) < run) {
        cache_turn(turned, n, head_dim, head_dim, 1 << (stage - 1), lanes);
    } else if (run >> (stage - 1) == 1) {
        float by = sqrt(1.0f / (float)run);
        for (int i = lane_id(); i < n * head_dim; i += lanes) turned[i] *= by;
    } else {
        cache_store_levels(to, slot, n, head_dim, turned, lanes);
        return 0;
    }
    return stage + 1;
}
#endif

/* Item `at` of keys or values of float types. */
DEVICE void cache_put(GLOBAL uint *from, int at, float4 v)
{
#if CACHE == 0
    ((GLOBAL float4 *)from)[at] = v;
#elif CACHE == 1
    GLOBAL ushort *to = (GLOBAL ushort *)from + 4 * at;
    store_f16(v.x, to, 0);
    store_f16(v.y, to, 1);
    store_f16(v.z, to, 2);
    store_f16(v.w, to, 3);
#elif CACHE == 2
    ushort4 h;
    h.x = cache_bf16(v.x);
    h.y = cache_bf16(v.y);
    h.z = cache_bf16(v.z);
    h.w = cache_bf16(v.w);
    ((GLOBAL ushort4 *)from)[at] = h;
#endif
}

/* Stores a token's keys and values, [heads][head_dim] each, into one layer of a page: `to` is the word that
 * cache_layer gives, `slot` 0 .. 63. Called by all lanes of a work-group in stages with a barrier behind each,
 * from 0 on until it says 0 again: for the heads from `first` on, cache_heads_at_once of them. turned:
 * CACHE_SCRATCH floats. What other lanes wrote to k and v is there already (barrier_all). */
DEVICE int cache_store(int stage, int first, GLOBAL uint *to, int slot, int heads, int head_dim,
                       GLOBAL const float *k, GLOBAL const float *v, TO_LOCAL float *turned, int lanes)
{
#if CACHE_CODED
    if (stage == 0 && first == 0) cache_store_codes(to, slot, heads, head_dim, k, true, lanes);
#if CACHE_ROTATED
    int n = cache_heads_at_once(heads, head_dim);
    return cache_store_turned(stage, to + (size_t)first * (size_t)cache_head_words(head_dim), slot,
                              heads - first < n ? heads - first : n, head_dim, v + first * head_dim, turned,
                              lanes);
#else
    cache_store_codes(to, slot, heads, head_dim, v, false, lanes);
#endif
#else
    int quads = cache_quads(head_dim), words = cache_head_words(head_dim);
    for (int i = lane_id(); i < heads * quads; i += lanes) {
        int h = i / quads, quad = i % quads;
        GLOBAL uint *head = to + (size_t)h * (size_t)words;
        cache_put(head, quad * CACHE_SLOTS + slot, cache_global_quad(k + h * head_dim, head_dim, quad));
        cache_put(head + cache_v(head_dim), slot * quads + quad,
                  cache_global_quad(v + h * head_dim, head_dim, quad));
    }
#endif
    return 0;
}
