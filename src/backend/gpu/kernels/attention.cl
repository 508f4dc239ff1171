/* Attention over the paged cache. What is added in which order is given by positions alone, so a row's bits
 * depend neither on its neighbours nor on who computed which part:
 *
 *   stretch   256 positions, from a multiple of 256 on: scores (dims ascending), their maximum, exponentials;
 *             32 sums of every 32nd of them, added by halves; values: PARTS sums of every PARTS-th
 *             position, ascending, added by halves
 *   chunk     a stretch, far behind the beginning four (words.h). The stretches of a chunk fold from the left
 *             (online softmax, arXiv 1805.02867)
 *   row       its chunks fold from the left, beginning with nothing
 *
 * A work-group has a batch of at most BATCH queries, which share a kv head's keys and values: rows of one tile
 * times query heads. It walks through the chunks and folds them into its answer, or does one of them
 * and leaves (accumulator, maximum, sum) for `merge`, which folds in the same words ("flash decoding").
 * Scores: lanes are positions, each has a quarter of two keys and multiplies them by all queries. Values: lanes are
 * quads of dims, times PARTS positions at once.
 *
 * What a row does not see takes no part, not even times zero: it may be anything, or not be there.
 * Positions of a guess tree's rows behind the committed ones stand in slots of their own, each row's list
 * names them (STEP_TAIL); they are scored and added row by row.
 *
 * CACHE, HEAD_DIM, and BATCH: 4, 8 or 16; without BATCH this is `merge` and `slots_move`. */
enum { LANES = 128, STRETCH = CHUNK_FINE, SUMS = 32, TAIL_PLACES = 512 };

#define QUADS ((HEAD_DIM + 3) / 4)
#define GROUPS ((HEAD_DIM + 31) / 32)

DEVICE int chunk_of(int position)
{
    return position < CHUNK_FINE_END
        ? position / CHUNK_FINE
        : CHUNK_FINE_END / CHUNK_FINE + (position - CHUNK_FINE_END) / CHUNK_COARSE;
}

DEVICE int chunk_begin(int chunk)
{
    int fine = CHUNK_FINE_END / CHUNK_FINE;
    return chunk < fine ? chunk * CHUNK_FINE : CHUNK_FINE_END + (chunk - fine) * CHUNK_COARSE;
}

/* The first position that a row sees; where the graph sees both ways, the window is 0. */
DEVICE int first_seen(GLOBAL const int *step, int row, int window)
{
    int low = step[step[STEP_POSITION] + row] + 1 - window;
    return window && low > 0 ? low : 0;
}

/* exp of what is not above 0, to an ulp or so; 0 below -87, so that nothing is denormal. Our own, so
 * that no compiler has two of it. */
DEVICE float exp_of(float x)
{
    float n = round_even(x * 1.44269502f);
    float r = multiply_add(n, -1.42860677e-6f, multiply_add(n, -0.693145752f, x));
    float p = multiply_add(1.38144672e-3f, r, 8.36878084e-3f);
    p = multiply_add(p, r, 4.16683927e-2f);
    p = multiply_add(p, r, 1.66665196e-1f);
    p = multiply_add(p, r, 4.99999940e-1f);
    p = multiply_add(p, r * r, r) + 1.0f;
    return x < -87.0f ? 0.0f : p * bits_float(((int)n + 127) << 23);
}

DEVICE float tanh_of(float x)
{
    float a = fabs(x), z = x * x;
    if (a < 0.55f) {
        float p = multiply_add(-6.28247345e-3f, z, 2.10777577e-2f);
        p = multiply_add(p, z, -5.38538583e-2f);
        p = multiply_add(p, z, 1.33326024e-1f);
        p = multiply_add(p, z, -3.33333194e-1f);
        return multiply_add(p * z, x, x);
    }
    float e = exp_of(-2.0f * a), t = (1.0f - e) / (1.0f + e);
    return x < 0.0f ? -t : t;
}

/* Where the floats of one chunk of one query stand in the partial results: [row][head][chunk], an accumulator,
 * then maximum and sum. */
DEVICE size_t partial_at(int row, int heads, int head, int chunks, int chunk)
{
    return (((size_t)row * (size_t)heads + (size_t)head) * (size_t)chunks + (size_t)chunk)
        * (size_t)(4 * QUADS + 4);
}

#ifdef BATCH

#define WIDE (QUADS > 64 ? 128 : QUADS > 32 ? 64 : QUADS > 16 ? 32 : QUADS > 8 ? 16 : 8)
#define PARTS (LANES / WIDE)
#define TEAM (LANES / BATCH)
#define ROUND (QUADS < 4 ? 1 : BATCH > 8 || CACHE == 0 ? 2 : 4)             /* quads of keys fetched at once */
#define AHEAD (BATCH > 8 && CACHE_CODED ? 1 : BATCH > 8 || CACHE == 0 ? 2 : 4) /* positions of values        */
/* With many sums there are no registers left for what comes next. */
#if BATCH > 8
#define UNROLL_FEW NO_UNROLL
#else
#define UNROLL_FEW UNROLL
#endif
#ifndef UNIT_GROUPS
#define UNIT_GROUPS (BATCH > 4 || HEAD_DIM > 128 ? 4 : 5)
#endif

/* What a work-group attends to; in LOCAL memory and volatile, where it costs no registers: a compiler keeps
 * everything that a loop does not change, and then has none left for the sums. */
struct batch {
    size_t page_words, head_at; /* of a page, and where in it the head's begin                       */
    int table;                  /* the word of the sequence's page table                             */
    int row, rows, head, heads; /* first row and how many, first query head and how many             */
    int n_q, lo, hi;            /* queries; what any of them sees                                    */
    int all_lo, all_hi;         /* what all of them see, in slots of their positions                 */
    int tail;                   /* from here on rows have slots of their own                         */
};

/* What its lanes share, and arguments of the kernel. `share` is scores, then exponentials,
 * [STRETCH][BATCH], -1 for what a query does not see; and room for sums of values. */
struct work {
    GLOBAL const uint *pool;
    GLOBAL const int *step;
    float scale, softcap;
    TO_LOCAL volatile struct batch *b;
#if CACHE_CODED
    TO_LOCAL int4 *query;           /* [BATCH][2 * GROUPS] codes                                     */
    TO_LOCAL float *query_d;        /* [BATCH][GROUPS]                                               */
#else
    TO_LOCAL float4 *query;         /* [BATCH][QUADS]                                                */
#endif
    TO_LOCAL float4 *share, *acc;   /* acc: [BATCH][QUADS]                                           */
    TO_LOCAL float *tops, *sums;    /* [TEAM][BATCH], [SUMS][BATCH]                                  */
    TO_LOCAL float *alpha, *top, *sum, *all_top, *all_sum; /* [BATCH]: of the chunk, of those before it */
    TO_LOCAL int *lo, *hi;          /* [BATCH]                                                       */
    TO_LOCAL size_t *pages;         /* of the stretch: words of the pool at which its heads begin    */
    TO_LOCAL int *place;            /* [TAIL_PLACES]: slots of the pool of tail positions, by rows   */
#if CACHE_ROTATED
    TO_LOCAL float *levels;
#endif
};

/* The head in the page of the stretch that has position j of it. */
DEVICE GLOBAL const uint *page_of(const struct work *w, int j) { return w->pool + w->pages[j / CACHE_SLOTS]; }

/* The head in a slot's page: page * 64 + slot. */
DEVICE GLOBAL const uint *head_of(const struct work *w, int slot)
{
    return w->pool + (size_t)(slot / CACHE_SLOTS) * w->b->page_words + w->b->head_at;
}

/* ---- items ----------------------------------------------------------------------------------- */

#if !CACHE_CODED
/* Four dims of a position: item `at` of keys or values. */
DEVICE float4 item(GLOBAL const uint *from, int at)
{
#if CACHE == 0
    return ((GLOBAL const float4 *)from)[at];
#else
    uint2 w = ((GLOBAL const uint2 *)from)[at];
    float4 v;
#if CACHE == 1
    v.x = f16_to_float((ushort)(w.x & 0xffffu));
    v.y = f16_to_float((ushort)(w.x >> 16));
    v.z = f16_to_float((ushort)(w.y & 0xffffu));
    v.w = f16_to_float((ushort)(w.y >> 16));
#else
    v.x = bits_float((int)(w.x << 16));
    v.y = bits_float((int)(w.x & 0xffff0000u));
    v.z = bits_float((int)(w.y << 16));
    v.w = bits_float((int)(w.y & 0xffff0000u));
#endif
    return v;
#endif
}

DEVICE float4 value_item(const struct work *w, GLOBAL const uint *head, int slot, int quad)
{
    return item(head + cache_v(HEAD_DIM), slot * QUADS + quad);
}

#else
/* An integer as a float, exact up to 2^22. */
DEVICE float small_float(int i) { return bits_float(0x4b400000 + i) - 12582912.0f; }

/* Code number i of a word. */
DEVICE float code_float(int w, int i) { return small_float(w << (24 - 8 * i) >> 24); }

DEVICE float4 value_item(const struct work *w, GLOBAL const uint *head, int slot, int quad)
{
    float d = bits_float((int)head[cache_v_scales(HEAD_DIM) + slot * GROUPS + quad / 8]);
    float4 v;
#if CACHE_ROTATED
    int c = ((GLOBAL const ushort *)(head + cache_v(HEAD_DIM)))[slot * QUADS + quad];
    v.x = d * w->levels[c & 15];
    v.y = d * w->levels[c >> 4 & 15];
    v.z = d * w->levels[c >> 8 & 15];
    v.w = d * w->levels[c >> 12];
#else
    int c = (int)head[cache_v(HEAD_DIM) + slot * QUADS + quad];
    v.x = d * code_float(c, 0);
    v.y = d * code_float(c, 1);
    v.z = d * code_float(c, 2);
    v.w = d * code_float(c, 3);
#endif
    return v;
}
#endif

DEVICE float4 no_item(void)
{
    float4 v;
    v.x = v.y = v.z = v.w = 0.0f;
    return v;
}

DEVICE float4 add_product(float p, float4 v, float4 to)
{
    to.x = multiply_add(p, v.x, to.x);
    to.y = multiply_add(p, v.y, to.y);
    to.z = multiply_add(p, v.z, to.z);
    to.w = multiply_add(p, v.w, to.w);
    return to;
}

/* ---- queries --------------------------------------------------------------------------------- */

/* Where query i of the batch stands. */
DEVICE size_t query_at(const struct work *w, int i, uint first, uint ld)
{
    return (size_t)first + (size_t)(w->b->row + i / w->b->heads) * (size_t)ld
        + (size_t)(w->b->head + i % w->b->heads) * HEAD_DIM;
}

DEVICE void load_queries(const struct work *w, GLOBAL const float *activations,
                         uint q, uint q_ld)
{
#if CACHE_CODED
    for (int i = lane_id(); i < BATCH * GROUPS * 8; i += LANES) {
        int n = i / (GROUPS * 8), quad = i % (GROUPS * 8);
        bool there = n < w->b->n_q;
        GLOBAL const float *x = activations + (there ? query_at(w, n, q, q_ld) : 0);
        float top = there ? cache_global_top(x, HEAD_DIM, quad / 8) : 0.0f;
        ((TO_LOCAL int *)w->query)[i] = there ? cache_codes(cache_global_quad(x, HEAD_DIM, quad), cache_by(top)) : 0;
        if (quad % 8 == 0) w->query_d[n * GROUPS + quad / 8] = cache_scale(top);
    }
#else
    for (int i = lane_id(); i < BATCH * QUADS; i += LANES)
        w->query[i] = i / QUADS < w->b->n_q
            ? cache_global_quad(activations + query_at(w, i / QUADS, q, q_ld), HEAD_DIM, i % QUADS)
            : no_item();
#endif
}

DEVICE float score_of(const struct work *w, float dot)
{
    float x = w->scale * dot;
    return w->softcap > 0.0f ? w->softcap * tanh_of(x / w->softcap) : x;
}

/* ---- scores ---------------------------------------------------------------------------------- */

/* Of two keys and all queries: k and l are items 0 of the two positions, others stand a row of slots further. */
#if CACHE_CODED
DEVICE void dots(const struct work *w, GLOBAL const uint *k, GLOBAL const uint *l, float *x, float *y)
{
    NO_UNROLL for (int g = 0; g < GROUPS; g++) {
        int a[BATCH], c[BATCH];
        float dk = bits_float((int)k[cache_k_scales(HEAD_DIM) + g * CACHE_SLOTS]);
        float dl = bits_float((int)l[cache_k_scales(HEAD_DIM) + g * CACHE_SLOTS]);
        UNROLL for (int i = 0; i < BATCH; i++) a[i] = c[i] = 0;
        UNROLL_FEW for (int part = 0; part < 2; part++) {
            int m[4], n[4];
            UNROLL for (int e = 0; e < 4; e++) {
                int quad = 8 * g + 4 * part + e;
                m[e] = quad < QUADS ? (int)k[quad * CACHE_SLOTS] : 0;
                n[e] = quad < QUADS ? (int)l[quad * CACHE_SLOTS] : 0;
            }
            UNROLL for (int i = 0; i < BATCH; i++) {
                int4 q = w->query[i * 2 * GROUPS + 2 * g + part];
                a[i] = dot4(q.w, m[3], dot4(q.z, m[2], dot4(q.y, m[1], dot4(q.x, m[0], a[i]))));
                c[i] = dot4(q.w, n[3], dot4(q.z, n[2], dot4(q.y, n[1], dot4(q.x, n[0], c[i]))));
            }
        }
        UNROLL for (int i = 0; i < BATCH; i++) {
            float d = w->query_d[i * GROUPS + g];
            x[i] = multiply_add(small_float(a[i]), d * dk, x[i]);
            y[i] = multiply_add(small_float(c[i]), d * dl, y[i]);
        }
    }
}

DEVICE float dot(const struct work *w, GLOBAL const uint *k, int query)
{
    float x = 0.0f;
    for (int g = 0; g < GROUPS; g++) {
        int a = 0, quads = QUADS - 8 * g < 8 ? QUADS - 8 * g : 8;
        TO_LOCAL const int *q = (TO_LOCAL const int *)w->query + (query * GROUPS + g) * 8;
        for (int e = 0; e < quads; e++) a = dot4(q[e], (int)k[(8 * g + e) * CACHE_SLOTS], a);
        x = multiply_add(small_float(a),
                         w->query_d[query * GROUPS + g]
                             * bits_float((int)k[cache_k_scales(HEAD_DIM) + g * CACHE_SLOTS]),
                         x);
    }
    return x;
}
#else
DEVICE float add_dot(float4 q, float4 k, float x)
{
    x = multiply_add(q.x, k.x, x);
    x = multiply_add(q.y, k.y, x);
    x = multiply_add(q.z, k.z, x);
    return multiply_add(q.w, k.w, x);
}

DEVICE void dots(const struct work *w, GLOBAL const uint *k, GLOBAL const uint *l, float *x, float *y)
{
    NO_UNROLL for (int first = 0; first < QUADS; first += ROUND) {
        float4 a[ROUND], c[ROUND];
        UNROLL for (int e = 0; e < ROUND; e++) {
            int quad = first + e;
            a[e] = quad < QUADS ? item(k, quad * CACHE_SLOTS) : no_item();
            c[e] = quad < QUADS ? item(l, quad * CACHE_SLOTS) : no_item();
        }
        UNROLL for (int e = 0; e < ROUND; e++) {
            if (first + e >= QUADS) break;
            UNROLL for (int i = 0; i < BATCH; i++) {
                float4 q = w->query[i * QUADS + first + e];
                x[i] = add_dot(q, a[e], x[i]);
                y[i] = add_dot(q, c[e], y[i]);
            }
        }
    }
}

DEVICE float dot(const struct work *w, GLOBAL const uint *k, int query)
{
    float x = 0.0f;
    NO_UNROLL for (int quad = 0; quad < QUADS; quad++)
        x = add_dot(w->query[query * QUADS + quad], item(k, quad * CACHE_SLOTS), x);
    return x;
}
#endif

/* Scores of one or two positions of the stretch. A lane that has one of the two takes it twice. */
DEVICE void score_two(const struct work *w, int p, int r, bool first, bool second)
{
    int j = first ? p : r, k = second ? r : p;
    float x[BATCH], y[BATCH];
    UNROLL for (int i = 0; i < BATCH; i++) x[i] = y[i] = 0.0f;
    dots(w, page_of(w, j) + j % CACHE_SLOTS * CACHE_ITEM, page_of(w, k) + k % CACHE_SLOTS * CACHE_ITEM, x, y);
    UNROLL for (int i = 0; i < BATCH; i += 4) {
        float4 v;
        v.x = score_of(w, x[i]), v.y = score_of(w, x[i + 1]);
        v.z = score_of(w, x[i + 2]), v.w = score_of(w, x[i + 3]);
        if (first) w->share[(p * BATCH + i) / 4] = v;
        v.x = score_of(w, y[i]), v.y = score_of(w, y[i + 1]);
        v.z = score_of(w, y[i + 2]), v.w = score_of(w, y[i + 3]);
        if (second) w->share[(r * BATCH + i) / 4] = v;
    }
}

/* Scores of the stretch from `base` on, of positions that stand in their own slots. */
DEVICE void score(const struct work *w, int base)
{
    int end = w->b->hi < w->b->tail ? w->b->hi : w->b->tail;
    int lo = w->b->lo - base, hi = end - base, p = lane_id(), r = p + LANES;
    bool first = p >= lo && p < hi, second = r >= lo && r < hi;
    if (first || second) score_two(w, p, r, first, second);
}

/* The slot of the pool in which a row's tail position stands: page * 64 + slot. */
DEVICE int tail_slot(const struct work *w, int row, int position)
{
    int list = w->step[w->step[STEP_TAIL] + w->b->row + row];
    int slot = list < 0 ? position : w->step[list + position - w->b->tail];
    return w->step[w->b->table + slot / CACHE_SLOTS] * CACHE_SLOTS + slot % CACHE_SLOTS;
}

/* Scores of tail positions, row by row; lanes are positions of rows. */
DEVICE void score_tail(const struct work *w, int base)
{
    int begin = w->b->tail > base ? w->b->tail : base, end = base + STRETCH;
    if (w->b->hi < end) end = w->b->hi;
    int n = (end - begin) * w->b->rows;
    for (int i = lane_id(); i < n; i += LANES) {
        /* Neighbouring lanes are neighbouring positions, which mostly stand side by side. */
        int row = i / (end - begin), j = i % (end - begin), position = begin + j, q = row * w->b->heads;
        if (position >= w->lo[q] && position < w->hi[q]) {
            int slot = tail_slot(w, row, position);
            if (j * w->b->rows + row < TAIL_PLACES) w->place[j * w->b->rows + row] = slot;
            GLOBAL const uint *k = head_of(w, slot) + slot % CACHE_SLOTS * CACHE_ITEM;
            for (int h = 0; h < w->b->heads; h++)
                ((TO_LOCAL float *)w->share)[(position - base) * BATCH + q + h] = score_of(w, dot(w, k, q + h));
        }
    }
}

/* ---- softmax --------------------------------------------------------------------------------- */

/* SUMS numbers, BATCH apart, by halves. */
DEVICE float add_sums(TO_LOCAL const float *p)
{
    float sum[SUMS / 2];
    UNROLL for (int i = 0; i < SUMS / 2; i++) sum[i] = p[i * BATCH] + p[(i + SUMS / 2) * BATCH];
    UNROLL for (int i = 0; i < 8; i++) sum[i] += sum[i + 8];
    UNROLL for (int i = 0; i < 4; i++) sum[i] += sum[i + 4];
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

/* Scores to exponentials; their sums by SUMS parts. Lane t of a query's TEAM has every TEAM-th. */
DEVICE void exponentials(const struct work *w, int base, bool first)
{
    TO_LOCAL float *share = (TO_LOCAL float *)w->share;
    int q = lane_id() % BATCH, t = lane_id() / BATCH, lo = w->lo[q] - base, hi = w->hi[q] - base;
    float top = -INFINITY, old = first ? -INFINITY : w->top[q], had = first ? 0.0f : w->sum[q];
    NO_UNROLL for (int i = t; i < STRETCH; i += TEAM)
        if (i >= lo && i < hi) top = fmax(top, share[i * BATCH + q]);
    w->tops[lane_id()] = top;
    barrier_local();
    for (int i = 0; i < TEAM; i++) top = fmax(top, w->tops[i * BATCH + q]);
    top = fmax(top, old);
    NO_UNROLL for (int part = t; part < SUMS; part += TEAM) {
        float sum = 0.0f;
        NO_UNROLL for (int i = part; i < STRETCH; i += SUMS) {
            bool seen = i >= lo && i < hi;
            float p = seen ? exp_of(share[i * BATCH + q] - top) : -1.0f;
            share[i * BATCH + q] = p;
            sum = seen ? sum + p : sum;
        }
        w->sums[part * BATCH + q] = sum;
    }
    if (t == 0) w->alpha[q] = old == -INFINITY ? 0.0f : exp_of(old - top), w->top[q] = top;
    barrier_local();
    /* All of them: no branch stands between barriers that PoCL might take as the first lane's. */
    w->sum[q] = multiply_add(had, w->alpha[q], add_sums(w->sums + q));
}

/* ---- values ---------------------------------------------------------------------------------- */

/* A position that all queries see, in its own slot. */
DEVICE void add_value(const struct work *w, int j, float4 v, float4 *acc)
{
    UNROLL for (int i = 0; i < BATCH; i += 4) {
        float4 p = w->share[(j * BATCH + i) / 4];
        acc[i] = add_product(p.x, v, acc[i]);
        acc[i + 1] = add_product(p.y, v, acc[i + 1]);
        acc[i + 2] = add_product(p.z, v, acc[i + 2]);
        acc[i + 3] = add_product(p.w, v, acc[i + 3]);
    }
}

/* AHEAD of them. */
DEVICE void add_ahead(const struct work *w, int j, int quad, float4 *acc)
{
    float4 v[AHEAD];
    UNROLL for (int e = 0; e < AHEAD; e++) {
        int at = j + e * PARTS;
        v[e] = value_item(w, page_of(w, at), at % CACHE_SLOTS, quad);
    }
    UNROLL for (int e = 0; e < AHEAD; e++) add_value(w, j + e * PARTS, v[e], acc);
}

/* Any position of the stretch from `base` on. */
DEVICE void add_seen(const struct work *w, int base, int j, int quad, float4 *acc)
{
    TO_LOCAL const float *p = (TO_LOCAL const float *)w->share + j * BATCH;
    bool tail = base + j >= w->b->tail;
    float4 v = no_item();
    if (!tail) v = value_item(w, page_of(w, j), j % CACHE_SLOTS, quad);
    int row = 0, head = 0, from = w->b->tail > base ? w->b->tail - base : 0;
    UNROLL for (int i = 0; i < BATCH; i++) {
        bool seen = !(p[i] < 0.0f);
        if (tail && head == 0 && seen) {
            int at = (j - from) * w->b->rows + row;
            int slot = at < TAIL_PLACES ? w->place[at] : tail_slot(w, row, base + j);
            v = value_item(w, head_of(w, slot), slot % CACHE_SLOTS, quad);
        }
        if (seen) acc[i] = add_product(p[i], v, acc[i]);
        if (++head == w->b->heads) head = 0, row++;
    }
}

/* The PARTS sums of every lane's quad, added by halves into part 0's. */
DEVICE void add_parts(const struct work *w, float4 *acc)
{
    int u = lane_id() % WIDE, part = lane_id() / WIDE;
    for (int apart = PARTS / 2; apart > 0; apart /= 2) {
        barrier_local();
        if (part >= apart && part < 2 * apart)
            UNROLL for (int i = 0; i < BATCH; i++)
                w->share[((part - apart) * BATCH + i) * WIDE + u] = acc[i];
        barrier_local();
        if (part < apart)
            UNROLL for (int i = 0; i < BATCH; i++)
                acc[i] = add_product(1.0f, w->share[(part * BATCH + i) * WIDE + u], acc[i]);
    }
}

/* The stretch's values times its exponentials, folded into the chunk's accumulator. */
DEVICE void values(const struct work *w, int base, bool first)
{
    int u = lane_id() % WIDE, part = lane_id() / WIDE;
    int from = w->b->lo - base, to = w->b->hi - base, all_lo = w->b->all_lo - base, all_hi = w->b->all_hi - base;
    float4 acc[BATCH];
    UNROLL for (int i = 0; i < BATCH; i++) acc[i] = no_item();
    if (from < 0) from = 0;
    if (to > STRETCH) to = STRETCH;
    if (all_hi > STRETCH) all_hi = STRETCH;
    int j = part;
    if (j < from) j += (from - j + PARTS - 1) / PARTS * PARTS;
    while (u < QUADS && j < to) {
        bool all = j >= all_lo && j + (AHEAD - 1) * PARTS < all_hi;
        if (all) add_ahead(w, j, u, acc);
        else add_seen(w, base, j, u, acc);
        j += all ? AHEAD * PARTS : PARTS;
    }
    add_parts(w, acc);
    if (part == 0 && u < QUADS)
        UNROLL for (int i = 0; i < BATCH; i++) {
            TO_LOCAL float4 *to_acc = &w->acc[i * QUADS + u];
            *to_acc = first ? acc[i] : add_product(w->alpha[i], *to_acc, acc[i]);
        }
}

/* ---- chunks ---------------------------------------------------------------------------------- */

/* A chunk's stretches, as far as the batch sees them. Behind it stands a barrier. */
DEVICE void attend_chunk(const struct work *w, int chunk)
{
    int begin = chunk_begin(chunk), end = chunk_begin(chunk + 1);
    if (begin < w->b->lo) begin = w->b->lo / STRETCH * STRETCH;
    if (end > w->b->hi) end = w->b->hi;
    for (int base = begin; base < end; base += STRETCH) {
        if (lane_id() < STRETCH / CACHE_SLOTS) {
            int slot = base + lane_id() * CACHE_SLOTS;
            if (slot + CACHE_SLOTS > w->b->lo && slot < w->b->hi)
                w->pages[lane_id()] = (size_t)w->step[w->b->table + slot / CACHE_SLOTS] * w->b->page_words
                    + w->b->head_at;
        }
        barrier_local();
        score(w, base);
        if (base + STRETCH > w->b->tail) score_tail(w, base);
        barrier_local();
        exponentials(w, base, base == begin);
        values(w, base, base == begin);
        barrier_local();
    }
}

/* Leaves a chunk's results for `merge`. */
DEVICE void leave(const struct work *w, int heads, int chunk, int chunks, GLOBAL float *partial)
{
    for (int i = lane_id(); i < w->b->n_q * QUADS; i += LANES) {
        int q = i / QUADS, first = chunk_of(w->lo[q]);
        size_t at = partial_at(w->b->row + q / w->b->heads, heads, w->b->head + q % w->b->heads, chunks,
                               chunk - first);
        if (chunk >= first && chunk <= chunk_of(w->hi[q] - 1))
            ((GLOBAL float4 *)(partial + at))[i % QUADS] = w->acc[i];
    }
    int q = lane_id();
    if (q < w->b->n_q) {
        int first = chunk_of(w->lo[q]), last = chunk_of(w->hi[q] - 1);
        size_t at = partial_at(w->b->row + q / w->b->heads, heads, w->b->head + q % w->b->heads, chunks,
                               chunk - first) + 4 * QUADS;
        if (chunk >= first && chunk <= last) partial[at] = w->top[q], partial[at + 1] = w->sum[q];
    }
}

/* How a chunk folds into what a query has so far, by its lane: factors into alpha and tops. tops -1: the chunk
 * has nothing; alpha -1: there was nothing. */
DEVICE void factors(const struct work *w)
{
    int q = lane_id();
    if (q < BATCH) {
        float before = w->all_top[q], sum = w->all_sum[q], top = fmax(before, w->top[q]);
        float a = sum == 0.0f ? -1.0f : exp_of(before - top);
        float c = w->sum[q] == 0.0f ? -1.0f : exp_of(w->top[q] - top);
        w->alpha[q] = a, w->tops[q] = c;
        if (!(c < 0.0f)) {
            w->all_sum[q] = a < 0.0f ? w->sum[q] : multiply_add(c, w->sum[q], a * sum);
            w->all_top[q] = top;
        }
    }
}

/* Folds: what a query has so far stands where its answer goes, until the last chunk brings the answer itself
 * into acc. */
DEVICE void fold(const struct work *w, bool last, GLOBAL float *activations, uint out, uint out_ld)
{
    for (int i = lane_id(); i < w->b->n_q * HEAD_DIM; i += LANES) {
        int q = i / HEAD_DIM, dim = i % HEAD_DIM;
        float a = w->alpha[q], c = w->tops[q];
        TO_LOCAL float *acc = (TO_LOCAL float *)w->acc + q * 4 * QUADS + dim;
        GLOBAL float *to = activations + query_at(w, q, out, out_ld) + dim;
        float v = *acc;
        if (c < 0.0f) v = a < 0.0f ? 0.0f : *to;
        else if (!(a < 0.0f)) v = multiply_add(c, v, a * *to);
        if (last) *acc = w->all_sum[q] == 0.0f ? 0.0f : v / w->all_sum[q];
        else *to = v;
    }
}

/* The answers; the lanes that wrote to acc read it. */
DEVICE void answer(const struct work *w, GLOBAL float *activations, uint out, uint out_ld)
{
    for (int i = lane_id(); i < w->b->n_q * HEAD_DIM; i += LANES)
        activations[query_at(w, i / HEAD_DIM, out, out_ld) + i % HEAD_DIM] =
            ((TO_LOCAL float *)w->acc)[i / HEAD_DIM * 4 * QUADS + i % HEAD_DIM];
}

/* What the queries see, each and together; `b` knows its rows already. Behind it stands a barrier. */
DEVICE void look(const struct work *w, int window)
{
    TO_LOCAL volatile struct batch *b = w->b;
    int lane = lane_id();
    if (lane < BATCH) {
        int row = b->row + lane / b->heads;
        bool there = lane < b->n_q;
        w->lo[lane] = there ? first_seen(w->step, row, window) : 0;
        w->hi[lane] = there ? w->step[w->step[STEP_SEES] + row] : 0;
    }
    barrier_local();
    if (lane == 0) {
        int lo = w->lo[0], hi = w->hi[0], all_lo = lo, all_hi = hi, tail = 0x7fffffff;
        for (int r = 0; r < b->rows; r++) {
            int x = w->lo[r * b->heads], y = w->hi[r * b->heads];
            lo = x < lo ? x : lo, hi = y > hi ? y : hi;
            all_lo = x > all_lo ? x : all_lo, all_hi = y < all_hi ? y : all_hi;
            if (w->step[w->step[STEP_TAIL] + b->row + r] >= 0) tail = w->step[w->step[STEP_BEFORE] + b->row];
        }
        b->lo = lo, b->hi = hi, b->tail = tail;
        b->all_lo = all_lo, b->all_hi = all_hi < tail ? all_hi : tail;
    }
    barrier_local();
}

/* Which rows and heads the work-group has: batches of the tile's rows (row_batches), of those of heads. None
 * where there is no such tile: it goes on and does nothing, for some compilers do not see that all
 * lanes return together. */
DEVICE void choose(TO_LOCAL volatile struct batch *b, GLOBAL const int *step, int heads, int kv_heads, int layers,
                   int member, int group, int row_batches)
{
    int per_kv = heads / kv_heads, at_once = per_kv < BATCH ? per_kv : BATCH, most = BATCH / at_once;
    int head_batches = (per_kv + at_once - 1) / at_once, n = group_id(1), head_batch = n % head_batches;
    int row_batch = n / head_batches % row_batches, kv_head = n / head_batches / row_batches;
    int tiles = step[STEP_TILES], tile = group_id(0) < tiles ? tiles - 1 - group_id(0) : 0;
    GLOBAL const int *t = step + step[STEP_TILE] + tile * TILE_WORDS;
    int rows = group_id(0) < tiles ? t[TILE_ROWS] - row_batch * most : 0, now = per_kv - head_batch * at_once;
    b->rows = rows < 0 ? 0 : rows < most ? rows : most;
    b->row = t[TILE_ROW] + row_batch * most;
    b->heads = now < at_once ? now : at_once;
    b->head = kv_head * per_kv + head_batch * at_once;
    b->n_q = b->rows * b->heads;
    b->table = step[step[STEP_PAGE_AT + group] + t[TILE_ROW]];
    b->page_words = cache_layer(1, layers, 0, kv_heads, HEAD_DIM);
    b->head_at = cache_layer(0, layers, member, kv_heads, HEAD_DIM)
        + (size_t)kv_head * (size_t)cache_head_words(HEAD_DIM);
}

/* Work-groups: tiles, the longest first; kv heads times batches of a tile's queries; chunks, if `chunks`,
 * the most of a row, is not 0. */
KERNEL void KERNEL_SHARES(LANES, UNIT_GROUPS)
    attend(GLOBAL const uint *pool, GLOBAL float *activations, GLOBAL const int *step, GLOBAL float *partial,
           uint q, uint q_ld, uint out, uint out_ld, int heads, int kv_heads, int layers, int member, int group,
           int window, float scale, float softcap, int row_batches, int chunks)
{
#if CACHE_CODED
    LOCAL int4 query[BATCH * 2 * GROUPS];
    LOCAL float query_d[BATCH * GROUPS];
#else
    LOCAL float4 query[BATCH * QUADS];
#endif
#if CACHE_ROTATED
    LOCAL float levels[16];
#endif
    LOCAL float4 share[STRETCH * BATCH / 4], acc[BATCH * QUADS];
    LOCAL float tops[LANES], sums[SUMS * BATCH];
    LOCAL float alpha[BATCH], top[BATCH], sum[BATCH], all_top[BATCH], all_sum[BATCH];
    LOCAL int lo[BATCH], hi[BATCH], place[TAIL_PLACES];
    LOCAL size_t pages[STRETCH / CACHE_SLOTS];
    LOCAL struct batch batch;
    struct work w;
    w.pool = pool, w.step = step, w.scale = scale, w.softcap = softcap, w.b = &batch;
    w.query = query, w.share = share, w.acc = acc, w.tops = tops, w.sums = sums, w.alpha = alpha;
    w.top = top, w.sum = sum, w.all_top = all_top, w.all_sum = all_sum;
    w.lo = lo, w.hi = hi, w.pages = pages, w.place = place;
#if CACHE_CODED
    w.query_d = query_d;
#endif
#if CACHE_ROTATED
    w.levels = levels;
    if (lane_id() < 16) levels[lane_id()] = cache_levels[lane_id()];
#endif
    if (lane_id() < BATCH) all_top[lane_id()] = -INFINITY, all_sum[lane_id()] = 0.0f;
    if (lane_id() == 0) choose(w.b, step, heads, kv_heads, layers, member, group, row_batches);
    barrier_local();
    look(&w, window);
    load_queries(&w, activations, q, q_ld);
    int chunk = chunk_of(batch.lo) + (chunks ? group_id(2) : 0);
    int end = chunks && chunk_begin(chunk + 1) < batch.hi ? chunk_begin(chunk + 1) : batch.hi;
    for (; chunk_begin(chunk) < end; chunk++) {
        attend_chunk(&w, chunk);
        factors(&w);
        barrier_local();
        if (chunks) leave(&w, heads, chunk, chunks, partial);
        else fold(&w, chunk_begin(chunk + 1) >= end, activations, out, out_ld);
    }
#if CACHE_ROTATED
    cache_rotate((TO_LOCAL float *)acc, batch.n_q, 4 * QUADS, HEAD_DIM, LANES);
#endif
    if (!chunks) answer(&w, activations, out, out_ld);
}

#else /* no BATCH */

#define DIMS ((HEAD_DIM + LANES - 1) / LANES)

/* Folds the chunks that `attend` left. Work-groups: rows, query heads. As in `attend`, one that has no row comes
 * to all barriers. */
KERNEL void KERNEL_LANES(LANES) merge(GLOBAL float *activations, GLOBAL const int *step,
                                      GLOBAL const float *partial, uint out, uint out_ld, int heads,
                                      int window, int chunks)
{
    LOCAL float tops[LANES], sums[LANES], fold_a[LANES], fold_b[LANES];
#if CACHE_ROTATED
    LOCAL float turned[HEAD_DIM];
#endif
    int row = group_id(0), head = group_id(1), lane = lane_id();
    bool there = row < step[STEP_ROWS];
    int first = there ? chunk_of(first_seen(step, row, window)) : 0;
    int n = there ? chunk_of(step[step[STEP_SEES] + row] - 1) + 1 - first : 0;
    float acc[DIMS], top = -INFINITY, sum = 0.0f;
    UNROLL for (int i = 0; i < DIMS; i++) acc[i] = 0.0f;
    for (int base = 0; base < n; base += LANES) {
        int now = n - base < LANES ? n - base : LANES;
        if (lane < now) {
            size_t at = partial_at(row, heads, head, chunks, base + lane) + 4 * QUADS;
            sums[lane] = partial[at + 1];
            tops[lane] = sums[lane] == 0.0f ? -INFINITY : partial[at];
        }
        barrier_local();
        if (lane < now) {
            float before = top;
            bool nothing = sum == 0.0f;
            for (int i = 0; i < lane; i++) {
                before = fmax(before, tops[i]);
                nothing = nothing && sums[i] == 0.0f;
            }
            float after = fmax(before, tops[lane]);
            fold_a[lane] = nothing ? -1.0f : exp_of(before - after);
            fold_b[lane] = sums[lane] == 0.0f ? -1.0f : exp_of(tops[lane] - after);
        }
        barrier_local();
        for (int k = 0; k < now; k++) {
            float a = fold_a[k], c = fold_b[k];
            GLOBAL const float *x = partial + partial_at(row, heads, head, chunks, base + k);
            UNROLL for (int i = 0; i < DIMS; i++) {
                int dim = i * LANES + lane;
                float v = dim < HEAD_DIM ? x[dim] : 0.0f;
                if (!(c < 0.0f)) acc[i] = a < 0.0f ? v : multiply_add(c, v, a * acc[i]);
            }
            if (!(c < 0.0f)) sum = a < 0.0f ? sums[k] : multiply_add(c, sums[k], a * sum);
            top = fmax(top, tops[k]);
        }
        barrier_local();
    }
    GLOBAL float *to = activations + (size_t)out + (size_t)row * (size_t)out_ld + (size_t)head * HEAD_DIM;
    UNROLL for (int i = 0; i < DIMS; i++) {
        int dim = i * LANES + lane;
        float v = sum == 0.0f ? 0.0f : acc[i] / sum;
#if CACHE_ROTATED
        if (dim < HEAD_DIM) turned[dim] = v;
#else
        if (dim < HEAD_DIM && there) to[dim] = v;
#endif
    }
#if CACHE_ROTATED
    cache_rotate(turned, 1, HEAD_DIM, HEAD_DIM, LANES);
    for (int i = lane; i < HEAD_DIM && there; i += LANES) to[i] = turned[i];
#endif
}

/* Moves n slots, as if one after the other: a lane has the same words of all of them, and takes them in order.
 * Work-groups: layers times kv heads. moves: where from, then where to; page * 64 + slot. */
KERNEL void KERNEL_LANES(LANES) slots_move(GLOBAL uint *pool, GLOBAL const int *moves, int n, int heads)
{
    size_t page = (size_t)heads * (size_t)cache_head_words(HEAD_DIM);
    size_t at = (size_t)group_id(0) * (size_t)cache_head_words(HEAD_DIM);
    for (int i = 0; i < n; i++) {
        int a = moves[i] % CACHE_SLOTS, b = moves[n + i] % CACHE_SLOTS;
        GLOBAL uint *from = pool + (size_t)(moves[i] / CACHE_SLOTS) * page + at;
        GLOBAL uint *to = pool + (size_t)(moves[n + i] / CACHE_SLOTS) * page + at;
        for (int e = lane_id(); e < QUADS * CACHE_ITEM; e += LANES) {
            int item = e / CACHE_ITEM * CACHE_SLOTS * CACHE_ITEM + e % CACHE_ITEM;
            to[item + b * CACHE_ITEM] = from[item + a * CACHE_ITEM];
        }
#if CACHE_ROTATED
        GLOBAL ushort *v_from = (GLOBAL ushort *)(from + cache_v(HEAD_DIM));
        GLOBAL ushort *v_to = (GLOBAL ushort *)(to + cache_v(HEAD_DIM));
        for (int e = lane_id(); e < QUADS; e += LANES) v_to[b * QUADS + e] = v_from[a * QUADS + e];
#else
        for (int e = lane_id(); e < QUADS * CACHE_ITEM; e += LANES)
            to[cache_v(HEAD_DIM) + b * QUADS * CACHE_ITEM + e] =
                from[cache_v(HEAD_DIM) + a * QUADS * CACHE_ITEM + e];
#endif
#if CACHE_CODED
        for (int e = lane_id(); e < GROUPS; e += LANES) {
            to[cache_k_scales(HEAD_DIM) + e * CACHE_SLOTS + b] =
                from[cache_k_scales(HEAD_DIM) + e * CACHE_SLOTS + a];
            to[cache_v_scales(HEAD_DIM) + b * GROUPS + e] = from[cache_v_scales(HEAD_DIM) + a * GROUPS + e];
        }
#endif
    }
}
#endif
