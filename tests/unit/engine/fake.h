/* A backend that computes nothing: a row's answer is a hash of the tokens that it sees, so a wrong page,
 * slot, parent or position gives another answer. Texts can be foretold without it (fake_next). Its first
 * layer group has all tokens; where windows are asked for, further groups have only those that a row sees,
 * and must have the same. Weights and programs take no time, so tests of what stands above backends run
 * many steps. */
#ifndef UNIT_ENGINE_FAKE_H
#define UNIT_ENGINE_FAKE_H
#include "backend/backend.h"
#include "base/memory.h"
#include "base/random.h"
#include "graph/step.h"
#include "model/model.h"
#include "unit/unit.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FAKE_VOCAB = 23, FAKE_NAN = 22, FAKE_WIDTH = 4 };  /* a text with token FAKE_NAN has no answers */

struct program {
    const struct graph *graph;
    struct program_limits limits;
    int32_t (*cell[GRAPH_GROUPS])[PAGE_SLOTS];   /* [max_pages] the token in each slot */
    uint32_t touched[GRAPH_GROUPS];  /* pages behind which none was ever written */
    uint64_t steps, rows, asks, guesses, copies, moved;
    size_t most_seqs;                /* in one step */
    uint64_t brought, brought_before, most_brought;   /* pages written; before the last step; between two */
    stretto_status fail;             /* of the next run, once */
};

static struct program *fake_program; /* the last one compiled */
static _Atomic long fake_step_ns;    /* that a step takes */
static _Atomic long fake_page_ns;    /* that a page takes to be written */
static void (*fake_ran)(const struct step *s);   /* told of every step, or NULL */

/* The token after a text: of its last two, or now and then of all of it, so that guesses are often right
 * and a wrong text shows. */
static inline int32_t fake_next(const int32_t *text, size_t n)
{
    uint64_t all = 7, two = 0;
    for (size_t i = 0; i < n; i++) {
        all = random_mix(all ^ (uint64_t)text[i]);
        two = (two % 64) * 64 + (uint64_t)text[i];
    }
    if (all % 4) all = random_mix(two % 4096);
    return (int32_t)(all % FAKE_NAN);  /* FAKE_NAN is never written */
}

/* Slot `slot` of a sequence of the step. */
static inline int32_t *fake_cell(const struct program *p, const struct step *s, uint32_t group, int32_t seq,
                                 int32_t slot)
{
    int32_t page = step_page(s, group, (size_t)seq, slot / PAGE_SLOTS);
    assert_in_range(page, 0, p->limits.max_pages[group] - 1);
    return &p->cell[group][page][slot % PAGE_SLOTS];
}

static inline size_t fake_seen(const struct program *p, const struct step *s, int32_t row, int32_t *text)
{
    int32_t chain[512];
    size_t n = 0, k = 0;
    const struct step_seq *q = &s->seqs[s->seq[row]];
    for (; n < (size_t)q->committed; n++) text[n] = *fake_cell(p, s, 0, s->seq[row], (int32_t)n);
    for (uint32_t g = 1; g < p->graph->n_groups; g++) {
        int32_t sees = s->position[row] + 1 - (int32_t)p->graph->group[g].window;
        for (int32_t i = sees < 0 ? 0 : sees; i < q->committed; i++)
            assert_int_equal(*fake_cell(p, s, g, s->seq[row], i), text[i]);
    }
    for (int32_t r = row; r >= 0; r = s->parent[r]) chain[k++] = r;
    while (k) {
        int32_t r = chain[--k];
        assert_int_equal(s->position[r], (int32_t)n);
        text[n++] = *fake_cell(p, s, 0, s->seq[r], s->slot[r]);
        for (uint32_t g = 1; g < p->graph->n_groups; g++)
            assert_int_equal(*fake_cell(p, s, g, s->seq[r], s->slot[r]), text[n - 1]);
    }
    return n;
}

static inline void fake_check(const struct program *p, const struct step *s)
{
    assert_in_range(s->n_rows, 1, p->limits.max_rows);
    size_t row = 0;
    for (size_t q = 0; q < s->n_seqs; q++) {
        assert_int_equal(s->seqs[q].first_row, (int32_t)row);
        assert_true(s->seqs[q].n_rows > 0);
        bool tree = false;
        for (int32_t i = 0; i < s->seqs[q].n_rows; i++, row++) {
            assert_int_equal(s->seq[row], (int32_t)q);
            assert_true(s->parent[row] < (int32_t)row &&
                        (s->parent[row] == STEP_COMMITTED || s->parent[row] >= s->seqs[q].first_row));
            assert_int_equal(s->slot[row], s->seqs[q].committed + i);
            tree |= s->parent[row] != (i ? (int32_t)row - 1 : STEP_COMMITTED);
        }
        assert_int_equal(s->seqs[q].tree, tree);
    }
    assert_int_equal(row, s->n_rows);
}

static inline stretto_status fake_run(struct program *p, const struct step *s,
                                      struct answer *const *answers, struct error *err)
{
    static int32_t text[1 << 16];
    stretto_status failed = p->fail;
    p->fail = STRETTO_OK;
    if (failed != STRETTO_OK) return fail(err, failed, "the fake fails");
    fake_check(p, s);
    long wait = fake_step_ns;
    if (wait) nanosleep(&(struct timespec){ 0, wait }, NULL);
    if (fake_ran) fake_ran(s);
    p->steps++;
    p->brought_before = p->brought;
    p->rows += s->n_rows;
    p->asks += s->n_asks;
    if (s->n_seqs > p->most_seqs) p->most_seqs = s->n_seqs;
    for (uint32_t g = 0; g < p->graph->n_groups; g++)
        for (size_t r = 0; r < s->n_rows; r++) {
            uint32_t page = (uint32_t)step_page(s, g, (size_t)s->seq[r], s->slot[r] / PAGE_SLOTS);
            *fake_cell(p, s, g, s->seq[r], s->slot[r]) = s->token[r];
            if (page >= p->touched[g]) p->touched[g] = page + 1;
        }
    for (size_t i = 0; i < s->n_asks; i++) {
        struct answer *a = answers[i];
        uint8_t wants = s->ask_wants[i];
        size_t n = fake_seen(p, s, s->ask_row[i], text);
        int32_t next = fake_next(text, n);
        assert_int_equal((wants & WANT_OF_HEAD) != 0, i < s->n_heads);
        a->status = STRETTO_OK;
        for (size_t k = 0; k < n; k++) if (text[k] == FAKE_NAN) a->status = STRETTO_E_NAN;
        if (wants & WANT_BEST) a->best = next;
        for (int32_t k = 0; k < STEP_TOP && (wants & WANT_TOP); k++) {
            a->top.id[k] = (next + k) % FAKE_VOCAB;
            a->top.logit[k] = (float)-k;
        }
        for (int32_t k = 0; k < FAKE_VOCAB && (wants & WANT_LOGITS); k++)
            a->logits[k] = (float)((next - k + FAKE_VOCAB) % FAKE_VOCAB);
        if (wants & WANT_HIDDEN) a->hidden[0] = (float)next;
    }
    return s->cancel && s->cancel(s->cancel_ud) ? fail(err, STRETTO_E_CANCEL, "cancelled") : STRETTO_OK;
}

static inline stretto_status fake_plan(struct device *d, const struct graph *g, const struct weights *w,
                                       const struct program_limits *l, struct program_bytes *out,
                                       struct error *err)
{
    (void)d; (void)w; (void)err;
    *out = (struct program_bytes){ .threads = 1 };
    for (uint32_t i = 0; i < g->n_groups; i++) {
        out->page[i] = (uint64_t)PAGE_SLOTS * 4 * g->group[i].layers * g->group[i].head_dim;
        out->pages += out->page[i] * l->max_pages[i];
    }
    return STRETTO_OK;
}

static inline stretto_status fake_compile(struct program **out, struct device *d, const struct graph *g,
                                          const struct weights *w, const struct program_limits *l,
                                          struct error *err)
{
    (void)d; (void)w; (void)err;
    struct program *p = fake_program = *out = calloc(1, sizeof *p);
    p->graph = g;
    p->limits = *l;
    for (uint32_t i = 0; i < g->n_groups; i++) p->cell[i] = calloc(l->max_pages[i], sizeof *p->cell[i]);
    return STRETTO_OK;
}

static inline void fake_close(struct program *p)
{
    for (uint32_t i = 0; i < GRAPH_GROUPS; i++) free(p->cell[i]);
    free(p);
}

static inline void fake_page_copy(struct program *p, uint32_t group, int32_t from, int32_t to)
{
    p->copies++;
    memcpy(p->cell[group][to], p->cell[group][from], sizeof p->cell[group][to]);
}

/* The tokens are the first bytes of a page, whose others are zeros. */
static inline stretto_status fake_page_read(struct program *p, uint32_t group, int32_t page, void *out,
                                            struct error *err)
{
    const struct layer_group *g = &p->graph->group[group];
    (void)err;
    memset(out, 0, (size_t)PAGE_SLOTS * 4 * g->layers * g->head_dim);
    memcpy(out, p->cell[group][page], sizeof p->cell[group][page]);
    return STRETTO_OK;
}

static inline stretto_status fake_page_write(struct program *p, uint32_t group, int32_t page, const void *in,
                                             struct error *err)
{
    (void)err;
    long wait = fake_page_ns;
    if (wait) nanosleep(&(struct timespec){ 0, wait }, NULL);
    p->brought++;
    if (p->brought - p->brought_before > p->most_brought) p->most_brought = p->brought - p->brought_before;
    memcpy(p->cell[group][page], in, sizeof p->cell[group][page]);
    if ((uint32_t)page >= p->touched[group]) p->touched[group] = (uint32_t)page + 1;
    return STRETTO_OK;
}

static inline void fake_slots_move(struct program *p, uint32_t group, const int32_t *pages,
                                   const int32_t *from, const int32_t *to, size_t n)
{
    int32_t (*cell)[PAGE_SLOTS] = p->cell[group];
    for (size_t i = 0; i < n; i++, p->moved++)
        cell[pages[to[i] / PAGE_SLOTS]][to[i] % PAGE_SLOTS] =
            cell[pages[from[i] / PAGE_SLOTS]][from[i] % PAGE_SLOTS];
}

static uint64_t fake_has;            /* bytes of memory; 0: not known */
static inline uint64_t fake_memory(const struct device *d) { (void)d; return fake_has; }
static inline uint64_t fake_weights_bytes(const struct weights *w) { (void)w; return 0; }
static inline void fake_costs(const struct device *d, const uint32_t *rows, float *ratio, size_t n)
{
    (void)d;
    for (size_t i = 0; i < n; i++) ratio[i] = 1 + 0.05F * (float)(rows[i] - 1);
}

static const struct backend fake_backend = {
    .name = "fake", .batch_invariant = true, .memory = fake_memory, .costs = fake_costs,
    .weights_bytes = fake_weights_bytes, .plan = fake_plan, .compile = fake_compile,
    .program_close = fake_close, .run = fake_run, .page_copy = fake_page_copy,
    .page_read = fake_page_read, .page_write = fake_page_write,
    .slots_move = fake_slots_move };

/* A model on a device of it; what is not set here nobody above a backend looks at. */
struct fake { struct device device; struct family family; struct model model; int weights; };

static inline const struct model *fake_model(struct fake *f, uint32_t context)
{
    *f = (struct fake){ .device = { .backend = &fake_backend } };
    f->model = (struct model){ .family = &f->family, .device = &f->device,
                               .weights = (struct weights *)(void *)&f->weights };
    f->model.config.vocab = FAKE_VOCAB;
    f->model.config.width = FAKE_WIDTH;
    f->model.config.context = context;
    f->model.graph.group[0] = (struct layer_group){ GROUP_FULL, 1, 1, 1, 0 };
    f->model.graph.n_groups = 1;
    return &f->model;
}

/* One layer more, that sees a window. */
static inline void fake_window(struct fake *f, uint32_t window)
{
    struct graph *g = &f->model.graph;
    g->group[g->n_groups++] = (struct layer_group){ GROUP_WINDOW, 1, 1, 1, window };
}
#endif
