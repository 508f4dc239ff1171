/* Attention among rows as products of matrices: keys, values and queries are copied into panels, so that the linear
 * kernels do the work. Rows are taken in runs that see the same but for their last range, which may grow by one from
 * row to row: those of a text, whose keys are copied together once. */
#include "kernels/see.h"
#include <math.h>
#include <string.h>

/* AHEAD: places that all sums' lanes start at. CHUNK: rows, or keys, whose scores there is room for, a multiple of what
 * products have in registers; KEYS: those whose gradients are summed while the queries of CHUNK rows stand in panels.
 * FORWARD, TOGETHER: queries, of all heads, whose scores there is room for: the fewer rows they are, the less is
 * computed that none of them sees. */
enum { PANEL = PANEL_COLS, AHEAD = 64, CHUNK = 36, KEYS = 256, FORWARD = 36, TOGETHER = 72 };

static size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* ---- runs of rows ---------------------------------------------------------------------------------------- */

struct run {
    size_t from, to;                /* rows                                             */
    const int32_t *ranges;          /* of the last row                                  */
    size_t n_ranges, n, grow;       /* places the last row sees; how many more than its predecessor */
};

static const int32_t *ranges_of(const struct see *a, size_t r) { return a->ranges + 2 * a->range_at[r]; }
static size_t ranges_n(const struct see *a, size_t r) { return (size_t)(a->range_at[r + 1] - a->range_at[r]); }

/* By how much row r + 1 sees more than row r, if they differ in nothing else: 0 or 1, else 2. */
static size_t growth(const struct see *a, size_t r)
{
    size_t n = ranges_n(a, r);
    if (!n || n != ranges_n(a, r + 1)) return 2;
    const int32_t *x = ranges_of(a, r), *y = ranges_of(a, r + 1);
    if (memcmp(x, y, (2 * n - 1) * sizeof *x) != 0) return 2;
    int32_t more = y[2 * n - 1] - x[2 * n - 1];
    return more == 0 || more == 1 ? (size_t)more : 2;
}

static struct run run_from(const struct see *a, size_t from, size_t to)
{
    struct run r = { .from = from, .to = from + 1 };
    if (r.to < to && growth(a, from) < 2) {
        r.grow = growth(a, from);
        while (r.to < to && growth(a, r.to - 1) == r.grow) r.to++;
    }
    r.ranges = ranges_of(a, r.to - 1);
    r.n_ranges = ranges_n(a, r.to - 1);
    for (size_t i = 0; i < r.n_ranges; i++) r.n += (size_t)(r.ranges[2 * i + 1] - r.ranges[2 * i]);
    return r;
}

static size_t run_hi(const struct run *u, size_t row) { return u->n - (u->to - 1 - row) * u->grow; }
static size_t run_lo(const struct see *a, const struct run *u, size_t row)
{
    size_t hi = run_hi(u, row);
    return a->window && hi > a->window ? hi - a->window : 0;
}

/* ---- panels ---------------------------------------------------------------------------------------------- */

/* Rows of x at the places first .. n of a run, to panels: `across`: [place / 16][dim][place % 16], what a query is
 * multiplied with; else [dim / 16][place - first][dim % 16]. Places past n, and dims past the head's, are zeros. */
struct places { const struct run *run; size_t first, n; };

/* The row at a place, and how many stand behind it in its range, itself among them. */
static size_t place_find(const struct run *u, size_t place, size_t *row)
{
    size_t i = 0;
    while (place >= (size_t)(u->ranges[2 * i + 1] - u->ranges[2 * i]))
        place -= (size_t)(u->ranges[2 * i + 1] - u->ranges[2 * i]), i++;
    *row = (size_t)u->ranges[2 * i] + place;
    return (size_t)u->ranges[2 * i + 1] - *row;
}

static const float *place_row(const struct run *u, const float *x, size_t ld, size_t place)
{
    size_t row;
    place_find(u, place, &row);
    return x + row * ld;
}

static void pack_across(const struct kernels *k, const struct places *p, const float *x, size_t ld, size_t dim,
                        float *out)
{
    float rows[PANEL * SEE_DIMS];
    for (size_t j = p->first; j < p->n; j += PANEL, out += PANEL * dim) {
        size_t n = p->n - j < PANEL ? p->n - j : PANEL;
        size_t row;
        if (place_find(p->run, j, &row) >= PANEL && n == PANEL) {
            k->transpose(x + row * ld, ld, PANEL, dim, out, PANEL);      /* where they stand */
            continue;
        }
        for (size_t i = 0; i < n; i++) memcpy(rows + i * dim, place_row(p->run, x, ld, j + i), dim * sizeof *x);
        memset(rows + n * dim, 0, (PANEL - n) * dim * sizeof *x);
        k->transpose(rows, dim, PANEL, dim, out, PANEL);
    }
}

static void put_along(const float *row, size_t dim, size_t at, size_t n, float *out)
{
    for (size_t i = 0; i < dim; i += PANEL) {
        float *to = out + (i * n + at * PANEL);
        if (dim - i >= PANEL) {
            memcpy(to, row + i, PANEL * sizeof *to);
            continue;
        }
        memcpy(to, row + i, (dim - i) * sizeof *to);
        memset(to + dim - i, 0, (PANEL - dim + i) * sizeof *to);
    }
}

static void pack_along(const struct places *p, const float *x, size_t ld, size_t dim, float *out)
{
    for (size_t j = p->first; j < p->n; j++)
        put_along(place_row(p->run, x, ld, j), dim, j - p->first, p->n - p->first, out);
}

/* ---- scratch --------------------------------------------------------------------------------------------- */

struct room { float *at; };

static float *room(struct room *r, size_t floats)
{
    float *p = r->at;
    r->at += up(floats, PANEL);
    return p;
}

/* Rows whose queries are at most so many, a multiple of 12 where there is one. */
static size_t rows_with(size_t queries, size_t heads)
{
    size_t most = queries / heads;
    for (size_t rows = most; rows; rows--)
        if (rows * heads % 12 == 0) return rows;
    return most ? most : 1;
}

size_t see_scratch(size_t heads, size_t head_dim, size_t n_rows)
{
    size_t dims = up(head_dim, PANEL), places = up(n_rows, PANEL) + AHEAD, queries = CHUNK * heads;
    size_t rows = 3 * places * dims + 2 * CHUNK * places + CHUNK * dims;
    size_t seen = 2 * places * dims + rows_with(FORWARD, heads) * heads * (places + 2 * dims + 1);
    size_t keys = 6 * up(queries, PANEL) * dims + 2 * CHUNK * up(queries, PANEL) + 2 * KEYS * dims + 2 * queries;
    size_t asked = rows_with(TOGETHER, heads) * heads;
    size_t whole = 3 * places * dims + asked * (2 * places + 3 * dims) + 2 * n_rows * dims;
    if (keys > rows) rows = keys;
    if (seen > rows) rows = seen;
    return (whole > rows ? whole : rows) + 32 * PANEL;
}

/* ---- forward and dq -------------------------------------------------------------------------------------- */

/* Where the chunk's first row starts to see, rounded down to where lanes start. */
static struct places places_of(const struct see *a, const struct run *u, size_t from, size_t to)
{
    return (struct places){ u, run_lo(a, u, from) / AHEAD * AHEAD, run_hi(u, to - 1) };
}

struct chunk {
    const struct run *run;
    size_t from, to;                /* rows                                  */
    size_t first, n;                /* places of the scores                  */
};

static struct see_row row_of(const struct see *a, const struct chunk *c, size_t row)
{
    return (struct see_row){ run_lo(a, c->run, row) - c->first, run_hi(c->run, row) - c->first, c->n - c->first,
                             a->scale, a->softcap };
}

struct packed { float *across, *along, *values, *q, *s, *dp, *y, *sum; size_t first, n; };

/* The vectors of all heads of some rows, one behind the other. */
static void gather(const struct see *a, const float *x, size_t ld, const struct chunk *c, float *out)
{
    size_t width = a->heads * a->head_dim;
    for (size_t r = c->from; r < c->to; r++, out += width) memcpy(out, x + r * ld, width * sizeof *out);
}

static void forward_chunk(const struct kernels *k, const struct see *a, const struct chunk *c, const struct packed *w,
                          float *out, size_t ldo, float *lse, size_t ldl)
{
    size_t dim = a->head_dim, dims = up(dim, PANEL), n = c->n - c->first, lds = up(n, PANEL), heads = a->heads;
    size_t before = c->first - w->first, queries = (c->to - c->from) * heads;
    gather(a, a->q, a->ldq, c, w->q);
    k->times(w->across + before * dim, PANEL * dim, lds / PANEL, dim, w->q, dim, queries, w->s, lds, false);
    for (size_t i = 0; i < queries; i++) {
        struct see_row row = row_of(a, c, c->from + i / heads);
        float max;
        w->sum[i] = k->see_softmax(w->s + i * lds, &row, &max);
        lse[(c->from + i / heads) * ldl + i % heads] = max + logf(w->sum[i]);
    }
    k->times(w->along + before * PANEL, w->n * PANEL, dims / PANEL, n, w->s, lds, queries, w->y, dims, false);
    for (size_t i = 0; i < queries; i++)
        k->attn_finish(dim, w->y + i * dims, w->sum[i], out + (c->from + i / heads) * ldo + i % heads * dim);
}

static void dq_chunk(const struct kernels *k, const struct see *a, const struct see_back *b, const struct chunk *c,
                     const struct packed *w, float *dq, size_t lddq)
{
    size_t dim = a->head_dim, dims = up(dim, PANEL), n = c->n - c->first, rows = c->to - c->from, lds = up(n, PANEL);
    size_t before = c->first - w->first;
    for (size_t h = 0; h < a->heads; h++) {
        size_t at = c->from * b->ldo + h * dim;
        k->times(w->across + before * dim, PANEL * dim, lds / PANEL, dim, a->q + c->from * a->ldq + h * dim, a->ldq,
                 rows, w->s, lds, false);
        k->times(w->values + before * dim, PANEL * dim, lds / PANEL, dim, b->dout + at, b->ldo, rows, w->dp, lds,
                 false);
        for (size_t r = 0; r < rows; r++) {
            struct see_row row = row_of(a, c, c->from + r);
            size_t by = (c->from + r) * b->ldl + h;
            k->see_back(w->s + r * lds, w->dp + r * lds, &b->lse[by], &b->dots[by], false, &row);
        }
        k->times(w->along + before * PANEL, w->n * PANEL, dims / PANEL, n, w->dp, lds, rows, w->y, dims, false);
        for (size_t r = 0; r < rows; r++)
            memcpy(dq + (c->from + r) * lddq + h * dim, w->y + r * dims, dim * sizeof *dq);
    }
}

/* The rows of a run; b NULL: forward, out; else dq, into out. */
static void see_run(const struct kernels *k, const struct see *a, const struct see_back *b, const struct run *u,
                    float *scratch, float *out, size_t ldo, float *lse, size_t ldl)
{
    struct places all = places_of(a, u, u->from, u->to);
    size_t dim = a->head_dim, dims = up(dim, PANEL), n = all.n - all.first, padded = up(n, PANEL);
    struct room r = { scratch };
    size_t rows = b ? CHUNK : rows_with(FORWARD, a->heads), queries = b ? rows : rows * a->heads;
    struct packed w = { .across = room(&r, padded * dim), .along = room(&r, n * dims), .first = all.first, .n = n,
                        .s = room(&r, queries * padded), .y = room(&r, queries * dims) };
    pack_across(k, &all, a->k, a->ldk, dim, w.across);
    pack_along(&all, b ? a->k : a->v, b ? a->ldk : a->ldv, dim, w.along);
    if (b) {
        w.values = room(&r, padded * dim);
        w.dp = room(&r, CHUNK * padded);
        pack_across(k, &all, a->v, a->ldv, dim, w.values);
    } else {
        w.q = room(&r, queries * dim);
        w.sum = room(&r, queries);
    }
    for (size_t from = u->from; from < u->to; from += rows) {
        struct chunk c = { u, from, u->to - from < rows ? u->to : from + rows, 0, 0 };
        struct places p = places_of(a, u, c.from, c.to);
        c.first = p.first, c.n = p.n;
        if (b) dq_chunk(k, a, b, &c, &w, out, ldo);
        else forward_chunk(k, a, &c, &w, out, ldo, lse, ldl);
    }
}

static void see_all(const struct kernels *k, const struct see *a, const struct see_back *b, size_t from, size_t to,
                    float *scratch, float *out, size_t ldo, float *lse, size_t ldl)
{
    for (struct run u; from < to; from = u.to) {
        u = run_from(a, from, to);
        if (u.n) {
            see_run(k, a, b, &u, scratch, out, ldo, lse, ldl);
            continue;
        }
        memset(out + from * ldo, 0, a->heads * a->head_dim * sizeof *out);
        for (size_t h = 0; lse && h < a->heads; h++) lse[from * ldl + h] = -INFINITY;
    }
}

void see_rows(const struct kernels *k, const struct see *a, size_t from, size_t to, float *scratch, float *out,
              size_t ldo, float *lse, size_t ldl)
{
    see_all(k, a, NULL, from, to, scratch, out, ldo, lse, ldl);
}

void see_rows_dq(const struct kernels *k, const struct see *a, const struct see_back *b, size_t from, size_t to,
                 float *scratch, float *dq, size_t lddq)
{
    see_all(k, a, b, from, to, scratch, dq, lddq, NULL, 0);
}

/* ---- dk and dv ------------------------------------------------------------------------------------------- */

/* Keys from .. from + n of the step, which have the places place .. of a run. */
struct keys { size_t from, n, place; };

/* The queries of a chunk of rows, ordered by row, then head: those of q, and the gradients of their answers. */
struct queries {
    float *q_across, *q_along, *do_across, *do_along;
    float *lse, *d, *s, *dp, *row;
    size_t n;
};

static void pack_queries(const struct kernels *k, const struct see *a, const struct see_back *b, size_t from,
                         size_t to, struct queries *w)
{
    size_t dim = a->head_dim, padded = up(w->n = (to - from) * a->heads, PANEL);
    for (int g = 0; g < 2; g++) {
        const float *x = g ? b->dout : a->q;
        size_t ld = g ? b->ldo : a->ldq;
        float *along = g ? w->do_along : w->q_along, *across = g ? w->do_across : w->q_across;
        memset(w->row, 0, padded * dim * sizeof *x);
        for (size_t r = from; r < to; r++)
            memcpy(w->row + (r - from) * a->heads * dim, x + r * ld, a->heads * dim * sizeof *x);
        for (size_t i = 0; i < w->n; i++) put_along(w->row + i * dim, dim, i, w->n, along);
        for (size_t i = 0; i < padded; i += PANEL)
            k->transpose(w->row + i * dim, dim, PANEL, dim, across + i * dim, PANEL);
    }
    for (size_t r = from, i = 0; r < to; r++)
        for (size_t h = 0; h < a->heads; h++, i++) {
            w->lse[i] = b->lse[r * b->ldl + h];
            w->d[i] = b->dots[r * b->ldl + h];
        }
}

/* The queries of rows from .. to that see the place: those of rows lo .. hi, which are neighbours. */
static struct see_row column_of(const struct see *a, const struct run *u, size_t from, size_t to, size_t place,
                                size_t n)
{
    size_t lo = from, hi = to;
    while (lo < to && place >= run_hi(u, lo)) lo++;
    while (hi > lo && place < run_lo(a, u, hi - 1)) hi--;
    return (struct see_row){ (lo - from) * a->heads, (hi - from) * a->heads, n, a->scale, a->softcap };
}

static void add_keys(const struct kernels *k, const struct see *a, const struct run *u, size_t from, size_t to,
                     const struct keys *e, const struct queries *w, float *dk, float *dv)
{
    size_t dim = a->head_dim, dims = up(dim, PANEL), lds = up(w->n, PANEL);
    k->times(w->q_across, PANEL * dim, lds / PANEL, dim, a->k + e->from * a->ldk, a->ldk, e->n, w->s, lds, false);
    k->times(w->do_across, PANEL * dim, lds / PANEL, dim, a->v + e->from * a->ldv, a->ldv, e->n, w->dp, lds, false);
    for (size_t j = 0; j < e->n; j++) {
        struct see_row row = column_of(a, u, from, to, e->place + j, w->n);
        k->see_back(w->s + j * lds, w->dp + j * lds, w->lse, w->d, true, &row);
    }
    k->times(w->do_along, w->n * PANEL, dims / PANEL, w->n, w->s, lds, e->n, dv, dims, true);
    k->times(w->q_along, w->n * PANEL, dims / PANEL, w->n, w->dp, lds, e->n, dk, dims, true);
}

/* The keys of a range that are among from .. to. */
static struct keys keys_in(const int32_t *range, size_t place, size_t from, size_t to)
{
    size_t lo = (size_t)range[0] > from ? (size_t)range[0] : from, hi = (size_t)range[1] < to ? (size_t)range[1] : to;
    return (struct keys){ lo, hi > lo ? hi - lo : 0, place + lo - (size_t)range[0] };
}

/* Whether any row from .. to of the run sees any of the keys. */
static bool any_sees(const struct see *a, const struct run *u, size_t from, size_t to, const struct keys *e)
{
    return e->n && e->place < run_hi(u, to - 1) && e->place + e->n > run_lo(a, u, from);
}

/* What the rows of a run add to dk and dv, [KEYS][dims], of the keys from .. to. */
static void add_run(const struct kernels *k, const struct see *a, const struct see_back *b, const struct run *u,
                    size_t from, size_t to, struct queries *w, float *dk, float *dv)
{
    size_t dims = up(a->head_dim, PANEL);
    for (size_t r = u->from; r < u->to; r += CHUNK) {
        size_t end = u->to - r < CHUNK ? u->to : r + CHUNK, place = 0;
        bool packed = false;
        for (size_t i = 0; i < u->n_ranges; i++) {
            struct keys e = keys_in(u->ranges + 2 * i, place, from, to);
            place += (size_t)(u->ranges[2 * i + 1] - u->ranges[2 * i]);
            if (!any_sees(a, u, r, end, &e)) continue;
            if (!packed) pack_queries(k, a, b, r, end, w);
            packed = true;
            for (size_t j = 0; j < e.n; j += CHUNK) {
                struct keys part = { e.from + j, e.n - j < CHUNK ? e.n - j : CHUNK, e.place + j };
                size_t at = (part.from - from) * dims;
                if (any_sees(a, u, r, end, &part)) add_keys(k, a, u, r, end, &part, w, dk + at, dv + at);
            }
        }
    }
}

static void dkv_chunk(const struct kernels *k, const struct see *a, const struct see_back *b, size_t from, size_t to,
                      float *scratch, float *dk, size_t lddk, float *dv, size_t lddv)
{
    size_t dim = a->head_dim, dims = up(dim, PANEL), most = CHUNK * a->heads, padded = up(most, PANEL);
    struct room r = { scratch };
    struct queries w = { .q_across = room(&r, padded * dim), .q_along = room(&r, most * dims),
                         .do_across = room(&r, padded * dim), .do_along = room(&r, most * dims),
                         .lse = room(&r, most), .d = room(&r, most), .s = room(&r, CHUNK * padded),
                         .dp = room(&r, CHUNK * padded), .row = room(&r, padded * dim) };
    float *sum_k = room(&r, KEYS * dims), *sum_v = room(&r, KEYS * dims);
    memset(sum_k, 0, KEYS * dims * sizeof *dk);
    memset(sum_v, 0, KEYS * dims * sizeof *dv);
    for (struct run u = { .to = 0 }; u.to < a->n_rows;) {
        u = run_from(a, u.to, a->n_rows);
        add_run(k, a, b, &u, from, to, &w, sum_k, sum_v);
    }
    for (size_t j = from; j < to; j++) {
        memcpy(dk + j * lddk, sum_k + (j - from) * dims, dim * sizeof *dk);
        memcpy(dv + j * lddv, sum_v + (j - from) * dims, dim * sizeof *dv);
    }
}

void see_rows_dkv(const struct kernels *k, const struct see *a, const struct see_back *b, size_t from, size_t to,
                  float *scratch, float *dk, size_t lddk, float *dv, size_t lddv)
{
    for (; from < to; from += KEYS)
        dkv_chunk(k, a, b, from, to - from < KEYS ? to : from + KEYS, scratch, dk, lddk, dv, lddv);
}

/* ---- all three together ---------------------------------------------------------------------------------- */

size_t see_parts(const int32_t *range_at, const int32_t *ranges, size_t n_rows, int32_t *part)
{
    size_t n = 0;
    int32_t low = (int32_t)n_rows, high = 0;
    for (size_t r = n_rows; r-- > 0;) {                /* the first row that is seen from r on */
        if ((int32_t)r < low) low = (int32_t)r;
        for (int32_t i = range_at[r]; i < range_at[r + 1]; i++)
            if (ranges[2 * i] < low) low = ranges[2 * i];
        part[r] = low;
    }
    for (size_t r = 0; r < n_rows; r++) {
        if (part[r] == (int32_t)r && high <= (int32_t)r) part[n++] = (int32_t)r;
        for (int32_t i = range_at[r]; i < range_at[r + 1]; i++)
            if (ranges[2 * i + 1] > high) high = ranges[2 * i + 1];
    }
    part[n] = (int32_t)n_rows;
    return n;
}

/* Keys across and along, values across, scores and their gradients; of the chunk's rows, and heads in them, q and dout,
 * one behind the other; sums, [dims / 16][rows][16], of the rows from `from` on. */
struct together {
    struct packed p;
    float *q, *dout, *dk, *dv;
    size_t from, rows;
};

/* What the chunk's rows add to the gradients of the keys that they see. */
static void add_together(const struct kernels *k, const struct see *a, const struct chunk *c, const struct together *t)
{
    size_t dim = a->head_dim, lds = up(c->n - c->first, PANEL), queries = (c->to - c->from) * a->heads, place = 0;
    const int32_t *range = c->run->ranges;
    for (size_t i = 0, end; i < c->run->n_ranges; i++, range += 2, place = end) {
        end = place + (size_t)(range[1] - range[0]);
        size_t lo = place > c->first ? place : c->first, hi = end < c->n ? end : c->n;
        if (hi <= lo) continue;
        size_t to = ((size_t)range[0] + lo - place - t->from) * PANEL, at = lo - c->first;
        k->linear_grad(t->p.dp + at, lds, hi - lo, t->q, dim, dim, queries, t->dk + to, t->rows);
        k->linear_grad(t->p.s + at, lds, hi - lo, t->dout, dim, dim, queries, t->dv + to, t->rows);
    }
}

static void chunk_together(const struct kernels *k, const struct see *a, const struct see_back *b,
                           const struct chunk *c, const struct together *t, float *dq, size_t lddq)
{
    const struct packed *w = &t->p;
    size_t dim = a->head_dim, dims = up(dim, PANEL), n = c->n - c->first, lds = up(n, PANEL), heads = a->heads;
    size_t before = c->first - w->first, queries = (c->to - c->from) * heads;
    gather(a, a->q, a->ldq, c, t->q);
    gather(a, b->dout, b->ldo, c, t->dout);
    k->times(w->across + before * dim, PANEL * dim, lds / PANEL, dim, t->q, dim, queries, w->s, lds, false);
    k->times(w->values + before * dim, PANEL * dim, lds / PANEL, dim, t->dout, dim, queries, w->dp, lds, false);
    for (size_t i = 0; i < queries; i++) {
        size_t r = c->from + i / heads, by = r * b->ldl + i % heads;
        struct see_row row = row_of(a, c, r);
        k->see_back(w->s + i * lds, w->dp + i * lds, &b->lse[by], &b->dots[by], false, &row);
    }
    k->times(w->along + before * PANEL, w->n * PANEL, dims / PANEL, n, w->dp, lds, queries, w->y, dims, false);
    for (size_t i = 0; i < queries; i++)
        memcpy(dq + (c->from + i / heads) * lddq + i % heads * dim, w->y + i * dims, dim * sizeof *dq);
    add_together(k, a, c, t);
}

static void run_together(const struct kernels *k, const struct see *a, const struct see_back *b, const struct run *u,
                         struct together *t, struct room r, float *dq, size_t lddq)
{
    struct places all = places_of(a, u, u->from, u->to);
    size_t dim = a->head_dim, n = all.n - all.first, padded = up(n, PANEL), rows = rows_with(TOGETHER, a->heads);
    size_t asked = rows * a->heads;
    struct packed *w = &t->p;
    *w = (struct packed){ .across = room(&r, padded * dim), .along = room(&r, n * up(dim, PANEL)),
                          .values = room(&r, padded * dim), .s = room(&r, asked * padded),
                          .dp = room(&r, asked * padded), .y = room(&r, asked * up(dim, PANEL)), .first = all.first,
                          .n = n };
    pack_across(k, &all, a->k, a->ldk, dim, w->across);
    pack_across(k, &all, a->v, a->ldv, dim, w->values);
    pack_along(&all, a->k, a->ldk, dim, w->along);
    for (size_t from = u->from; from < u->to; from += rows) {
        struct chunk c = { u, from, u->to - from < rows ? u->to : from + rows, 0, 0 };
        struct places p = places_of(a, u, c.from, c.to);
        c.first = p.first, c.n = p.n;
        chunk_together(k, a, b, &c, t, dq, lddq);
    }
}

static void put_sums(const float *sum, size_t rows, size_t dim, float *out, size_t ld)
{
    for (size_t j = 0; j < rows; j++)
        for (size_t i = 0; i < dim; i += PANEL)
            memcpy(out + j * ld + i, sum + (i * rows + j * PANEL), (dim - i < PANEL ? dim - i : PANEL) * sizeof *out);
}

void see_rows_back(const struct kernels *k, const struct see *a, const struct see_back *b, size_t from, size_t to,
                   float *scratch, float *dq, size_t lddq, float *dk, size_t lddk, float *dv, size_t lddv)
{
    size_t rows = to - from, dim = a->head_dim, dims = up(dim, PANEL), asked = rows_with(TOGETHER, a->heads) * a->heads;
    struct room r = { scratch };
    struct together t = { .q = room(&r, asked * dim), .dout = room(&r, asked * dim), .dk = room(&r, rows * dims),
                          .dv = room(&r, rows * dims), .from = from, .rows = rows };
    memset(t.dk, 0, rows * dims * sizeof *dk);
    memset(t.dv, 0, rows * dims * sizeof *dv);
    for (struct run u = { .to = from }; u.to < to;) {
        u = run_from(a, u.to, to);
        if (u.n) run_together(k, a, b, &u, &t, r, dq, lddq);
        else memset(dq + u.from * lddq, 0, a->heads * dim * sizeof *dq);
    }
    put_sums(t.dk, rows, dim, dk + from * lddk, lddk);
    put_sums(t.dv, rows, dim, dv + from * lddv, lddv);
}
