/* Random programs of reserve, commit, accept, rewind and fork against a simple model: sequences as arrays
 * of tokens. What a row would see must stand where the tables say, in every layer group; references, free
 * lists and cleared entries are counted. */
#include "cache/cache.h"
#include "base/random.h"
#include "unit/unit.h"
#include <stdlib.h>
#include <string.h>

enum { SEQS = 5, SLOTS = 1600, SEQ_PAGES = SLOTS / PAGE_SLOTS, PAGES = 70, GROUPS = 4, PROGRAMS = 12,
       OPERATIONS = 4000 };

/* The backend: a token in every slot of every page. */
struct program { int32_t cell[GROUPS][PAGES][PAGE_SLOTS]; };

static void page_copy(struct program *p, uint32_t group, int32_t from, int32_t to)
{
    memcpy(p->cell[group][to], p->cell[group][from], sizeof p->cell[group][to]);
}

static void slots_move(struct program *p, uint32_t group, const int32_t *pages, const int32_t *from,
                       const int32_t *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p->cell[group][pages[to[i] / PAGE_SLOTS]][to[i] % PAGE_SLOTS] =
            p->cell[group][pages[from[i] / PAGE_SLOTS]][from[i] % PAGE_SLOTS];
}

static const struct backend backend = { .page_copy = page_copy, .slots_move = slots_move };

struct world {
    struct graph graph;
    struct program program;
    struct cache cache;
    struct cache_seq seq[SEQS];
    int32_t text[SEQS][SLOTS];
    uint32_t most[SEQS];             /* tokens that it has had since it was empty */
    void *memory;
    uint64_t noise;
    int32_t last;
    size_t went_back, emptied, forked, full;
};

static uint32_t below(struct world *w, uint32_t n) { return (uint32_t)(random_mix(++w->noise) % n); }

static int32_t *cell(struct world *w, uint32_t g, uint32_t s, uint32_t slot)
{
    int32_t page = w->cache.tables[cache_table(&w->cache, &w->seq[s], g) + (int32_t)(slot / PAGE_SLOTS)];
    assert_in_range(page, 0, w->cache.group[g].max_pages - 1);
    return &w->program.cell[g][page][slot % PAGE_SLOTS];
}

static void open_world(struct world *w, uint64_t seed)
{
    static const uint32_t windows[] = { 1, 2, 63, 64, 65, 100, 300 };
    *w = (struct world){ .noise = seed << 32 };
    struct program_limits l = { .max_seq_pages = SEQ_PAGES };
    w->graph.n_groups = 1 + below(w, GROUPS);
    for (uint32_t g = 0; g < w->graph.n_groups; g++) {
        struct layer_group *x = &w->graph.group[g];
        *x = (struct layer_group){ GROUP_FULL, 1, 1, 1, 0 };
        if (g || below(w, 3) == 0) *x = (struct layer_group){ GROUP_WINDOW, 1, 1, 1, windows[below(w, 7)] };
        l.max_pages[g] = PAGES - below(w, PAGES - 20);
    }
    struct arena a = { 0 };
    cache_plan(&w->cache, &a, &w->graph, &l, SEQS);
    w->memory = aligned_alloc(64, (a.top + 63) / 64 * 64);
    assert_non_null(w->memory);
    a = (struct arena){ .base = w->memory, .cap = a.top };
    cache_plan(&w->cache, &a, &w->graph, &l, SEQS);
    cache_init(&w->cache, &backend, &w->program);
    for (uint32_t s = 0; s < SEQS; s++) w->seq[s] = (struct cache_seq){ .number = s };
}

/* The next row's window, in every group, holds the text. */
static bool texts_stand(struct world *w)
{
    for (uint32_t s = 0; s < SEQS; s++)
        for (uint32_t g = 0; g < w->graph.n_groups; g++) {
            uint32_t n = w->seq[s].n_tokens, window = w->graph.group[g].window;
            for (uint32_t i = window && n + 1 > window ? n + 1 - window : 0; i < n; i++) {
                const int32_t *table = w->cache.tables + cache_table(&w->cache, &w->seq[s], g);
                if (table[i / PAGE_SLOTS] < 0 || *cell(w, g, s, i) != w->text[s][i]) return false;
            }
        }
    return true;
}

/* References are those of the tables, pages without any are free, entries are pages where they should be,
 * and no sequence holds more than was planned for. */
static bool books_balance(const struct world *w)
{
    for (uint32_t g = 0; g < w->graph.n_groups; g++) {
        const struct cache_group *x = &w->cache.group[g];
        uint32_t refs[PAGES] = { 0 }, held = 0;
        bool free_page[PAGES] = { false };
        for (uint32_t s = 0; s < SEQS; s++) {
            const struct cache_seq *q = &w->seq[s];
            const int32_t *table = w->cache.tables + cache_table(&w->cache, q, g);
            for (uint32_t i = 0; i < SEQ_PAGES; i++) {
                if ((table[i] >= 0) != (i >= q->first[g] && i < q->n_pages)) return false;
                if (table[i] >= 0) refs[table[i]]++;
            }
            uint32_t ahead = q->n_pages - (q->n_tokens + PAGE_SLOTS - 1) / PAGE_SLOTS;
            if (q->n_pages - q->first[g] > cache_held(&w->graph.group[g], SEQ_PAGES) + ahead) return false;
        }
        for (uint32_t i = 0; i < x->n_free; i++) {
            if (free_page[x->free[i]]) return false;
            free_page[x->free[i]] = true;
        }
        for (uint32_t p = 0; p < x->max_pages; p++) {
            held += refs[p] > 0;
            if (refs[p] != x->refs[p] || free_page[p] == (refs[p] > 0)) return false;
        }
        if (held + x->n_free != x->max_pages) return false;
    }
    return true;
}

/* Rows behind the committed ones, in slots of their own; some of them become tokens. */
static void grow(struct world *w, uint32_t s)
{
    struct cache_seq *q = &w->seq[s];
    uint32_t at = q->n_tokens, most = below(w, 4) ? 20 : 200, want = 1 + below(w, most);
    if (at + want > SLOTS) want = SLOTS - at;
    cache_rewind(&w->cache, q, at);
    uint32_t reach = cache_reserve(&w->cache, q, at + want);
    assert_in_range(reach, at, at + want);
    if (reach < at + want) {           /* it went as far as it could */
        assert_int_equal(cache_free(&w->cache), 0);
        w->full++;
    }
    uint32_t n = reach - at, k = 0;
    int32_t path[200];
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t g = 0; g < w->graph.n_groups; g++) *cell(w, g, s, at + i) = w->last + (int32_t)i;
        if (below(w, 3)) path[k++] = (int32_t)(at + i);
    }
    if (below(w, 2)) {
        for (uint32_t i = 0; i < k; i++) w->text[s][at + i] = w->last + path[i] - (int32_t)at;
        cache_accept(&w->cache, q, path, k);
    } else {
        for (uint32_t i = 0; i < n; i++) w->text[s][at + i] = w->last + (int32_t)i;
        cache_commit(&w->cache, q, n);
    }
    if (q->n_tokens > w->most[s]) w->most[s] = q->n_tokens;
    w->last += (int32_t)n;
}

/* Going back succeeds wherever the windows are whole by the rule: WINDOW_KEPT tokens at least behind the
 * most that it has had. */
static void go_back(struct world *w, uint32_t s)
{
    struct cache_seq *q = &w->seq[s];
    uint32_t from = q->n_tokens, n = from ? below(w, from + 1) : 0;
    if (below(w, 2) && from > WINDOW_KEPT + 40) n = from - below(w, WINDOW_KEPT + 40);
    uint32_t reach = cache_reach(&w->cache, q, n);
    assert_int_equal(cache_rewind(&w->cache, q, n), reach);
    assert_true(reach == n || (reach == 0 && n + WINDOW_KEPT < w->most[s]));
    if (!reach) w->most[s] = 0;
    bool full = true;
    for (uint32_t g = 0; g < w->graph.n_groups; g++) full &= w->graph.group[g].kind == GROUP_FULL;
    if (full) assert_int_equal(reach, n);
    w->went_back += reach && reach < from;
    w->emptied += reach != n;
}

static void fork_of(struct world *w, uint32_t from, uint32_t to)
{
    struct error err = { 0 };
    uint32_t have = w->seq[from].n_tokens, n = have ? below(w, have + 1) : 0;
    if (below(w, 2)) n = have;
    cache_rewind(&w->cache, &w->seq[to], 0);
    w->most[to] = 0;
    uint32_t reach = cache_reach(&w->cache, &w->seq[from], n);
    stretto_status st = cache_fork(&w->cache, &w->seq[from], &w->seq[to], n, &err);
    assert_int_equal(st, reach == n ? STRETTO_OK : STRETTO_E_ARG);
    if (st != STRETTO_OK) return;
    memcpy(w->text[to], w->text[from], n * sizeof(int32_t));
    w->most[to] = n ? w->most[from] : 0;
    w->forked += n > 0;
}

static void one(struct world *w)
{
    uint32_t s = below(w, SEQS), to = below(w, SEQS);
    switch (below(w, 20)) {
    case 0: case 1: go_back(w, s); break;
    case 2: if (s != to) fork_of(w, s, to); break;
    case 3:
        if (below(w, 6)) break;
        cache_rewind(&w->cache, &w->seq[s], 0);
        w->most[s] = 0;
        break;
    default: grow(w, s); break;
    }
}

static void random_programs(void **state)
{
    (void)state;
    static struct world w;
    size_t went_back = 0, emptied = 0, forked = 0, full = 0;
    for (uint64_t seed = 1; seed <= PROGRAMS; seed++) {
        open_world(&w, seed);
        for (int i = 0; i < OPERATIONS; i++) {
            one(&w);
            if (i % 8 || (texts_stand(&w) && books_balance(&w))) continue;
            printf("seed %llu, operation %d\n", (unsigned long long)seed, i);
            assert_true(false);
        }
        for (uint32_t s = 0; s < SEQS; s++) cache_rewind(&w.cache, &w.seq[s], 0);
        assert_true(books_balance(&w));
        for (uint32_t g = 0; g < w.graph.n_groups; g++)
            assert_int_equal(w.cache.group[g].n_free, w.cache.group[g].max_pages);
        went_back += w.went_back; emptied += w.emptied; forked += w.forked; full += w.full;
        free(w.memory);
    }
    printf("back %zu times, to the beginning %zu; %zu forks, %zu times full\n", went_back, emptied, forked, full);
    assert_true(went_back > 1000 && emptied > 100 && forked > 1000 && full > 100);
}

/* ---- planted faults -------------------------------------------------------------------------- */

/* Of the sequence that has most: a group's first page, given back one too early and all by the book. */
static bool plant_early(struct world *w, uint32_t s, uint32_t g)
{
    struct cache_seq *q = &w->seq[s];
    const struct layer_group *x = &w->graph.group[g];
    uint32_t n = q->n_tokens, seen = n + 1 > x->window ? (n + 1 - x->window) / PAGE_SLOTS : 0;
    int32_t *table = w->cache.tables + cache_table(&w->cache, q, g);
    if (n % PAGE_SLOTS == 0 || x->window < 2) return false;    /* of the next page nothing is seen */
    for (; q->first[g] <= seen; q->first[g]++) {
        int32_t page = table[q->first[g]];
        table[q->first[g]] = -1;
        if (--w->cache.group[g].refs[page] == 0) w->cache.group[g].free[w->cache.group[g].n_free++] = page;
    }
    return true;
}

static bool plant_entry(struct world *w, uint32_t s, uint32_t g)
{
    struct cache_seq *q = &w->seq[s];
    int32_t *table = w->cache.tables + cache_table(&w->cache, q, g);
    if (!q->first[g]) return false;
    table[q->first[g] - 1] = table[q->first[g]];
    return true;
}

static bool plant_leak(struct world *w, uint32_t s, uint32_t g)
{
    struct cache_seq *q = &w->seq[s];
    w->cache.tables[cache_table(&w->cache, q, g) + (int32_t)q->first[g]++] = -1;
    return true;
}

static bool plant_shared_write(struct world *w, uint32_t s, uint32_t g)
{
    uint32_t n = w->seq[s].n_tokens, to = (s + 1) % SEQS;
    if (n % PAGE_SLOTS < 1 || w->graph.group[g].window == 1) return false;
    cache_rewind(&w->cache, &w->seq[to], 0);
    if (cache_fork(&w->cache, &w->seq[s], &w->seq[to], n, NULL) != STRETTO_OK) return false;
    memcpy(w->text[to], w->text[s], n * sizeof(int32_t));
    ++*cell(w, g, to, n - 1);          /* without a copy of its own */
    return true;
}

static void faults_are_noticed(void **state)
{
    (void)state;
    static bool (*const plants[])(struct world *, uint32_t, uint32_t) = { plant_early, plant_entry,
                                                                          plant_leak, plant_shared_write };
    static struct world w;
    for (size_t p = 0; p < sizeof plants / sizeof *plants; p++) {
        int planted = 0;
        for (uint64_t seed = 100; planted < 20; seed++) {
            open_world(&w, seed);
            uint32_t g = w.graph.n_groups - 1;
            for (int i = 0; i < 200; i++) one(&w);
            uint32_t s = below(&w, SEQS);
            assert_true(texts_stand(&w) && books_balance(&w));
            if (w.graph.group[g].kind == GROUP_WINDOW && w.seq[s].n_tokens && plants[p](&w, s, g)) {
                bool unnoticed = texts_stand(&w) && books_balance(&w);
                if (unnoticed) printf("plant %zu, seed %llu\n", p, (unsigned long long)seed);
                assert_false(unnoticed);
                planted++;
            }
            free(w.memory);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(random_programs),
                                        cmocka_unit_test(faults_are_noticed) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
