/* What programs and weights take of a card and give back, and the step as words, on the mock of tests/gpu: what is
 * refused takes nothing, one model's faults are not another one's, and no step is longer than what was kept for it. */
#include "unit/backend/gpu_mock.h"
#include "backend/gpu/kernels/words.h"
#include "backend/gpu/program.h"
#include "base/memory.h"
#include <math.h>
#include <sched.h>
#include <unistd.h>

enum { WIDTH = 64, HEAD_DIM = 32, VOCAB = 48, SEQ_PAGES = 3, WINDOW = 20, ROWS = 64, PAGES = 400 };

/* ---- a model: two layer groups, two rope tables, two look-ups ------------------------------------------ */

struct model { struct graph g; enum dtype type; float data[1 << 14]; };

static uint64_t state_of_noise = 5;

static uint32_t below(uint32_t n)
{
    state_of_noise = state_of_noise * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state_of_noise >> 33) % n;
}

static stretto_status find(void *ud, const char *name, uint32_t n_in, uint32_t n_out, struct param_bytes *out,
                           struct error *err)
{
    struct model *m = ud;
    (void)err;
    *out = (struct param_bytes){ .type = strchr("wh", name[0]) ? m->type : DT_F32, .n_in = n_in, .n_out = n_out,
                                 .data = m->data, .memory = true };
    out->row_bytes = dtype_bytes(out->type, n_in);
    return STRETTO_OK;
}

static int32_t layer(struct graph_builder *b, int32_t x, const char *q, uint32_t table, uint32_t window)
{
    b->layer++;
    int32_t v = graph_linear(b, graph_norm(b, x, NORM_RMS, 1e-5f, 0, "norm", NULL), q, NULL, WIDTH);
    int32_t r = graph_rope(b, v, ROPE_HALVES, WIDTH / HEAD_DIM, HEAD_DIM, table);
    return graph_add(b, x, graph_attention(b, r, r, v, WIDTH / HEAD_DIM, WIDTH / HEAD_DIM, HEAD_DIM, window,
                                           1 / sqrtf(HEAD_DIM), 0, true));
}

static void model_make(struct model *m, enum dtype type)
{
    struct graph_builder b = { .g = &m->g, .layer = -1 };
    m->g = (struct graph){ .layers = 2, .n_rope = 2 };
    m->type = type;
    for (int t = 0; t < 2; t++) {
        m->g.rope[t] = (struct rope_table){ .n_rot = HEAD_DIM, .base = t ? 100 : 10000, .magnitude = 1 };
        for (int i = 0; i < HEAD_DIM / 2; i++) m->g.rope[t].factor[i] = 1;
    }
    for (size_t i = 0; i < sizeof m->data / sizeof *m->data; i++) m->data[i] = (float)below(1000) / 1000 - 0.5F;
    if (type != DT_F32) dtype_table[type].encode(m->data, m->data, WIDTH * WIDTH);
    int32_t x = graph_embed(&b, "tokens", VOCAB, WIDTH, EMBED_TOKEN);
    x = graph_add(&b, x, graph_embed(&b, "positions", SEQ_PAGES * PAGE_SLOTS, WIDTH, EMBED_POSITION));
    x = layer(&b, x, "w0", 0, 0);
    x = layer(&b, x, "w1", 1, WINDOW);
    x = graph_ask(&b, x);
    graph_answer(&b, x, graph_linear(&b, x, "head", NULL, VOCAB));
    assert_int_equal(b.status, STRETTO_OK);
}

static struct program_limits limits_of(const struct graph *g, uint32_t rows)
{
    struct program_limits l = { .max_rows = rows, .max_asks = rows, .max_seq_pages = SEQ_PAGES, .cache = CACHE_F16,
                                .strict = true };
    for (uint32_t i = 0; i < g->n_groups; i++) l.max_pages[i] = PAGES;
    return l;
}

struct running { struct device *device; struct weights *weights; struct program *program; };

static void open_with(struct running *x, uint64_t memory)
{
    struct error err = { 0 };
    struct device_options o = { .memory = memory };
    *x = (struct running){ .device = NULL };
    assert_int_equal(backend_open("cuda", &o, &x->device, &err), STRETTO_OK);
}

static stretto_status load(struct running *x, struct model *m, const struct upload_options *o, struct error *err)
{
    struct binding b = { m, find };
    struct program_limits l = limits_of(&m->g, ROWS);
    TRY(device_upload(x->device, &x->weights, &m->g, &b, o, err));
    return device_compile(x->device, &x->program, &m->g, x->weights, &l, err);
}

static void unload(struct running *x)
{
    gpu_program_close(x->program);
    gpu_weights_close(x->weights);
    x->program = NULL;
    x->weights = NULL;
}

/* ---- steps ------------------------------------------------------------------------------------------------ */

struct rows {
    int32_t token[ROWS], position[ROWS], seq[ROWS], slot[ROWS], parent[ROWS], ask[ROWS];
    int32_t page[2 * ROWS * SEQ_PAGES], page_at[2 * ROWS];
    uint8_t given[ROWS], wants[ROWS];
    struct step_seq seqs[ROWS];
    struct step step;
};

/* n rows of a sequence behind `committed` tokens; a row's parent is the one before in deep trees. */
static void add(struct rows *r, int32_t committed, int32_t n, bool tree, bool deep)
{
    size_t q = r->step.n_seqs++;
    r->seqs[q] = (struct step_seq){ committed, (int32_t)r->step.n_rows, n, tree };
    for (int32_t i = 0; i < n; i++) {
        int32_t at = (int32_t)r->step.n_rows++, before = at - 1;
        r->parent[at] = i ? before : STEP_COMMITTED;
        if (i && tree && !deep) r->parent[at] = below(5) ? r->seqs[q].first_row + (int32_t)below((uint32_t)i) : -1;
        r->position[at] = r->parent[at] < 0 ? committed : r->position[r->parent[at]] + 1;
        r->slot[at] = committed + i;
        r->token[at] = (int32_t)below(VOCAB);
        r->seq[at] = (int32_t)q;
        r->given[at] = (uint8_t)below(2);
    }
}

static void finish(struct rows *r, size_t asks, size_t heads)
{
    struct step *s = &r->step;
    size_t at = 0;
    for (size_t i = 0; i < 2 * s->n_seqs; i++) {
        r->page_at[i] = (int32_t)at;
        for (int32_t k = 0; k < SEQ_PAGES; k++, at++)
            r->page[at] = (int32_t)(i * SEQ_PAGES) + k;
        /* behind the window */
        if (i >= s->n_seqs && r->seqs[i - s->n_seqs].committed > PAGE_SLOTS + WINDOW) r->page[r->page_at[i]] = -1;
    }
    for (size_t i = 0; i < asks; i++) {
        r->ask[i] = (int32_t)(s->n_rows - 1 - i);
        r->wants[i] = i < heads ? WANT_BEST : WANT_HIDDEN;
    }
    *s = (struct step){ .n_rows = s->n_rows, .n_seqs = s->n_seqs, .n_asks = asks, .n_heads = heads, .token = r->token,
                        .position = r->position, .seq = r->seq, .slot = r->slot, .parent = r->parent,
                        .given = r->given, .seqs = r->seqs, .ask_row = r->ask, .ask_wants = r->wants,
                        .page = r->page, .page_at = r->page_at };
}

/* A random step; now and then one that takes as much as a step can. */
static void rows_make(struct rows *r, int i)
{
    r->step = (struct step){ .n_rows = 0 };
    uint32_t left = i % 3 ? ROWS : 1 + below(ROWS);
    while (left) {
        uint32_t n = i % 4 == 1 ? 1 : i % 4 == 2 ? left : 1 + below(left);
        add(r, i % 2 ? SEQ_PAGES * PAGE_SLOTS - (int32_t)n : (int32_t)below(PAGE_SLOTS + 20), (int32_t)n, i % 4 > 1,
            i % 8 < 4);
        left -= n;
    }
    size_t asks = i % 5 ? r->step.n_rows : below((uint32_t)r->step.n_rows + 1);
    finish(r, asks, below((uint32_t)asks + 1));
}

static void one_row(struct rows *r, int32_t committed)
{
    r->step = (struct step){ .n_rows = 0 };
    add(r, committed, 1, false, false);
    r->token[0] = 7;
    finish(r, 1, 1);
}

static int32_t best_of(struct running *x, struct rows *r)
{
    struct answer a[ROWS] = { { .status = STRETTO_OK } }, *to[ROWS];
    struct error err = { 0 };
    static float hidden[ROWS][WIDTH];
    for (int i = 0; i < ROWS; i++) {
        a[i].hidden = hidden[i];
        to[i] = &a[i];
    }
    stretto_status s = device_run(x->device, x->program, &r->step, to, &err);
    if (s != STRETTO_OK) print_error("%s\n", err.text);
    assert_int_equal(s, STRETTO_OK);
    return a[0].best;
}

/* ---- tests -------------------------------------------------------------------------------------------------- */

static struct model small, other;

static void what_is_refused_takes_nothing(void **state)
{
    (void)state;
    struct error err = { 0 };
    struct running x;
    struct upload_options o = { .threads = 1 };
    open_with(&x, 40000);
    uint64_t before = x.device->backend->memory(x.device);
    assert_int_equal(before, 40000);
    assert_int_equal(load(&x, &small, &o, &err), STRETTO_E_NOMEM);
    print_message("%s\n", err.text);
    assert_non_null(strstr(err.text, "have fewer layers there"));
    assert_null(x.weights);
    assert_int_equal(x.device->backend->memory(x.device), before);
    /* The smaller one fits, its program does not. */
    error_clear(&err);
    assert_int_equal(load(&x, &other, &o, &err), STRETTO_E_NOMEM);
    print_message("%s\n", err.text);
    assert_non_null(x.weights);
    assert_non_null(strstr(err.text, "smaller context"));
    assert_int_equal(x.device->backend->memory(x.device), before - gpu_weights_bytes(x.weights));
    unload(&x);
    assert_int_equal(x.device->backend->memory(x.device), before);
    device_close(x.device);
    assert_true(nothing_alive());
}

/* Whatever is short while something opens, that is a status; where it is the card's memory for weights or a program,
 * the sentence says what to do. */
static void shortness_says_what_to_do(void **state)
{
    (void)state;
    struct upload_options o = { .threads = 1 };
    int advised = 0, pieces = 0, told = 0;
    for (int64_t n = 1; told == n - 1; n++) {
        struct running x;
        struct error err = { 0 };
        open_with(&x, 0);
        mock->fail_take = n;
        told += load(&x, &small, &o, &err) == STRETTO_E_NOMEM;
        bool large = strstr(err.text, "in one piece");
        if (large && told == n) advised += strstr(err.text, "(-ngl)") != NULL;
        pieces += large && told == n;
        mock_reset();
        unload(&x);
        device_close(x.device);
        assert_true(nothing_alive());
    }
    assert_true(pieces > 8 && told > pieces);
    assert_int_equal(advised, pieces - 1);      /* the first is for the vectors: nothing to be had there */
}

/* Cards behind OpenCL often give a quarter of their memory in one piece: who plans hears how much there is room for. */
static void pools_are_pieces(void **state)
{
    (void)state;
    struct running x;
    struct error err = { 0 };
    struct upload_options o = { .threads = 1 };
    struct program_limits l = limits_of(&small.g, ROWS);
    struct program_bytes b;
    open_with(&x, 0);
    assert_int_equal(load(&x, &small, &o, &err), STRETTO_OK);
    struct gpu_device *d = x.program->device;
    assert_int_equal(device_plan(x.device, &small.g, x.weights, &l, &b, &err), STRETTO_OK);
    assert_int_equal(b.room, 0);
    l.max_pages[1] = PAGES / 4;
    d->about.largest = b.page[0] * PAGES / 4;
    assert_int_equal(device_plan(x.device, &small.g, x.weights, &l, &b, &err), STRETTO_OK);
    assert_int_equal(b.room, b.buffers + b.pages / 4);
    d->memory = gpu_weights_bytes(x.weights) + x.program->taken + 1000;
    assert_int_equal(device_plan(x.device, &small.g, x.weights, &l, &b, &err), STRETTO_OK);
    assert_int_equal(b.room, 0);                 /* there is less yet in the whole */
    unload(&x);
    device_close(x.device);
}

struct watch { struct running *x; int calls, stop_at; volatile int cancel; };

static void progress(void *ud, uint64_t done, uint64_t total)
{
    struct watch *w = ud;
    pthread_mutex_t *lock = &((struct gpu_device *)(void *)w->x->device)->lock;
    assert_true(done <= total);
    assert_int_equal(pthread_mutex_trylock(lock), 0);
    pthread_mutex_unlock(lock);
    w->cancel = ++w->calls == w->stop_at;
}

/* Others step while weights go over, and whoever cancels leaves nothing. */
static void an_upload_keeps_nobody(void **state)
{
    (void)state;
    for (int stop_at = 0; stop_at < 3; stop_at++) {
        struct running x;
        struct error err = { 0 };
        struct watch w = { .x = &x, .stop_at = stop_at };
        struct upload_options o = { .threads = 2, .progress = progress, .ud = &w, .cancel = &w.cancel };
        open_with(&x, 0);
        assert_int_equal(load(&x, &small, &o, &err), stop_at ? STRETTO_E_CANCEL : STRETTO_OK);
        assert_int_equal(w.calls, stop_at ? stop_at : 3);
        unload(&x);
        assert_int_equal(atomic_load(&((struct gpu_device *)(void *)x.device)->taken), 0);
        device_close(x.device);
        assert_true(nothing_alive());
    }
}

/* More than one launch takes, onto slots that are moved themselves: as one after the other. */
static void many_slots_move(void **state)
{
    (void)state;
    enum { SLOTS = 40 * PAGE_SLOTS, MOVES = 2 * MOST_MOVES + 77 };
    static int32_t pages[40], from[MOVES], to[MOVES];
    struct running x;
    struct error err = { 0 };
    struct upload_options o = { .threads = 1 };
    open_with(&x, 0);
    assert_int_equal(load(&x, &small, &o, &err), STRETTO_OK);
    const struct backend *b = x.device->backend;
    struct gpu_device *d = x.program->device;
    size_t bytes = (size_t)(x.program->page_bytes[0] * PAGES);
    unsigned char *was = malloc(3 * bytes), *now[2] = { was + bytes, was + 2 * bytes };
    for (size_t i = 0; i < bytes; i++) was[i] = (unsigned char)below(256);
    for (int32_t i = 0; i < 40; i++) pages[i] = (i * 37 + 5) % PAGES;
    for (int32_t i = 0; i < MOVES; i++) {
        from[i] = (i ? from[i - 1] : 30) + 1 + (int32_t)(below(8) == 0);
        to[i] = i + (int32_t)below(2) * (i ? to[i - 1] + 1 - i : 0);
        if (i && to[i] <= to[i - 1]) to[i] = to[i - 1] + 1;
        assert_true(from[i] < SLOTS && to[i] <= from[i]);
    }
    for (int k = 0; k < 2; k++) {
        assert_int_equal(d->driver->write(d->card, x.program->pool[0], 0, was, bytes, &err), STRETTO_OK);
        if (k == 0) b->slots_move(x.program, 0, pages, from, to, MOVES);
        for (size_t i = 0; k && i < MOVES; i++) b->slots_move(x.program, 0, pages, from + i, to + i, 1);
        assert_int_equal(d->driver->read(d->card, x.program->pool[0], 0, now[k], bytes, &err), STRETTO_OK);
        assert_int_equal(d->driver->finish(d->card, &err), STRETTO_OK);
    }
    assert_memory_equal(now[0], now[1], bytes);
    assert_memory_not_equal(now[0], was, bytes);
    free(was);
    unload(&x);
    device_close(x.device);
    assert_true(nothing_alive());
}

struct stepper { struct running *x; int32_t want; atomic_int wrong, steps, stop; };

static void *step_on(void *arg)
{
    struct stepper *t = arg;
    static struct rows r;
    one_row(&r, 0);
    while (!atomic_load(&t->stop)) {
        struct answer a = { .status = STRETTO_OK }, *to = &a;
        if (device_run(t->x->device, t->x->program, &r.step, &to, NULL) != STRETTO_OK || a.best != t->want)
            atomic_fetch_add(&t->wrong, 1);
        atomic_fetch_add(&t->steps, 1);
    }
    return NULL;
}

/* One thread steps while another one opens, runs and closes a model on the same card. */
static void threads_share_a_card(void **state)
{
    (void)state;
    struct running x, y;
    struct error err = { 0 };
    struct upload_options o = { .threads = 2 };
    struct stepper t = { .x = &x };
    static struct rows r;
    pthread_t thread;
    open_with(&x, 0);
    assert_int_equal(load(&x, &small, &o, &err), STRETTO_OK);
    one_row(&r, 0);
    t.want = best_of(&x, &r);
    assert_int_equal(pthread_create(&thread, NULL, step_on, &t), 0);
    for (int i = 0, before = 0; i < 20; i++) {
        y = (struct running){ .device = x.device };
        assert_int_equal(load(&y, &other, &o, &err), STRETTO_OK);
        best_of(&y, &r);
        x.device->backend->page_copy(y.program, 0, 0, 1);
        assert_true(x.device->backend->memory(x.device) > 0);
        unload(&y);
        while (atomic_load(&t.steps) == before) sched_yield();
        before = atomic_load(&t.steps);
    }
    atomic_store(&t.stop, 1);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&t.wrong), 0);
    unload(&x);
    assert_int_equal(atomic_load(&((struct gpu_device *)(void *)x.device)->taken), 0);
    device_close(x.device);
    assert_true(nothing_alive());
}

static void kernels_that_do_not_compile_harm_nobody(void **state)
{
    (void)state;
    struct running x, y;
    struct error err = { 0 };
    struct upload_options o = { .threads = 1 };
    struct rows r;
    open_with(&x, 0);
    assert_int_equal(load(&x, &small, &o, &err), STRETTO_OK);
    one_row(&r, 0);
    int32_t best = best_of(&x, &r);
    y = (struct running){ .device = x.device };
    mock->bad_source = 1;
    assert_int_equal(load(&y, &other, &o, &err), STRETTO_E_DEVICE);
    print_message("%s\n", err.text);
    assert_non_null(strstr(err.text, "do not compile"));
    assert_int_equal(unlink(strchr(strstr(err.text, "text is in"), '/')), 0);
    assert_null(y.weights);
    mock_reset();
    assert_int_equal(best_of(&x, &r), best);
    error_clear(&err);
    assert_int_equal(load(&y, &other, &o, &err), STRETTO_OK);
    unload(&y);
    unload(&x);
    device_close(x.device);
    assert_true(nothing_alive());
}

/* Whatever is short while a tape is made: the step is answered. */
static void a_step_needs_no_tape(void **state)
{
    (void)state;
    struct error err = { 0 };
    struct upload_options o = { .threads = 1 };
    int64_t takes = 0;
    int32_t best = 0;
    for (int64_t n = 0; n <= takes; n++) {
        struct running x;
        struct rows r;
        open_with(&x, 0);
        assert_int_equal(load(&x, &small, &o, &err), STRETTO_OK);
        one_row(&r, 0);
        mock->fail_take = n;
        int64_t before = mock->takes;
        int32_t got = best_of(&x, &r);
        if (n == 0) takes = mock->takes - before;
        if (n == 0) best = got;
        assert_int_equal(got, best);
        assert_int_equal(best_of(&x, &r), best);
        assert_int_equal(x.program->n_tapes, n == 0);
        mock_reset();
        unload(&x);
        device_close(x.device);
        assert_true(nothing_alive());
    }
    assert_true(takes > 0);
}

/* n rows of as many sequences, of which some ask. */
static int32_t few_rows(struct running *x, int32_t n, int32_t asks, int32_t heads)
{
    static struct rows r;
    r.step = (struct step){ .n_rows = 0 };
    for (int32_t i = 0; i < n; i++) add(&r, 0, 1, false, false);
    for (int32_t i = 0; i < n; i++) r.token[i] = 3 + i, r.given[i] = 0;
    finish(&r, (size_t)asks, (size_t)heads);
    return best_of(x, &r);
}

/* There are more shapes of steps than tapes: those that come later get theirs, and nothing else changes. */
static void tapes_make_room(void **state)
{
    (void)state;
    struct running x;
    struct error err = { 0 };
    struct upload_options o = { .threads = 1 };
    int shapes = 0;
    int32_t want[17] = { 0 };
    open_with(&x, 0);
    assert_int_equal(load(&x, &small, &o, &err), STRETTO_OK);
    for (int32_t n = 1; n <= 16; n *= 2)
        for (int32_t asks = 1; asks <= n; asks *= 2)
            for (int32_t heads = asks; heads; heads /= 2, shapes++) {
                int32_t best = few_rows(&x, n, asks, heads);
                if (heads == asks && asks == 1) want[n] = best;
                assert_int_equal(best, want[n]);
            }
    for (int i = 0; i < 50; i++) x.program->tape[i % TAPES].shape.sees += 1 << 20;   /* of texts gone by */
    assert_int_equal(x.program->n_tapes, shapes);
    x.program->most_tapes = x.program->n_tapes;
    for (int i = 0; i < TAPE_IDLE + 50; i++) assert_int_equal(few_rows(&x, 8, 1, 1), want[8]);
    assert_int_equal(x.program->n_tapes, shapes);
    assert_int_equal(mock->alive.execs, shapes);
    int64_t launches = mock->launches;
    assert_int_equal(few_rows(&x, 8, 1, 1), want[8]);
    assert_true(mock->launches - launches < 6);       /* what it needs goes over, the tape, an answer */
    unload(&x);
    device_close(x.device);
    assert_true(nothing_alive());
}

/* What was packed says what the step says. */
static void expect_words(const struct program *p, const struct step *s, const int32_t *w)
{
    for (size_t i = 0; i < s->n_rows; i++) {
        const struct step_seq *q = &s->seqs[s->seq[i]];
        int32_t tail = w[w[STEP_TAIL] + (int32_t)i];
        assert_int_equal(w[w[STEP_POSITION] + (int32_t)i], s->position[i]);
        assert_int_equal(w[w[STEP_SLOT] + (int32_t)i], s->slot[i]);
        assert_int_equal(w[w[STEP_BEFORE] + (int32_t)i], q->committed);
        assert_int_equal(tail >= 0, q->tree != 0);
        for (int32_t r = (int32_t)i; q->tree && r >= 0; r = s->parent[r])
            assert_int_equal(w[tail + s->position[r] - q->committed], s->slot[r]);
        for (uint32_t g = 0; g < p->g->n_groups; g++)
            for (int32_t b = 0; b <= s->slot[i] / PAGE_SLOTS; b++)
                assert_int_equal(w[w[w[STEP_PAGE_AT + (int32_t)g] + (int32_t)i] + b],
                                 step_page(s, g, (size_t)s->seq[i], b));
    }
    int32_t rows = 0;
    for (int32_t t = 0; t < w[STEP_TILES]; t++) {
        const int32_t *tile = &w[w[STEP_TILE] + t * TILE_WORDS];
        assert_int_equal(tile[TILE_ROW], rows);
        rows += tile[TILE_ROWS];
    }
    assert_int_equal(rows, s->n_rows);
}

static void steps_stay_within_what_was_kept(void **state)
{
    (void)state;
    enum { GUARD = 64, STEPS = 1500 };
    static struct rows r;
    struct running x;
    struct error err = { 0 };
    struct upload_options o = { .threads = 1 };
    struct shape shape;
    open_with(&x, 0);
    assert_int_equal(load(&x, &small, &o, &err), STRETTO_OK);
    struct program *p = x.program;
    size_t kept = (size_t)step_words(p), most = 0;
    int32_t *words = malloc((kept + GUARD) * sizeof *words), *pinned = p->host_step;
    assert_int_equal(p->step_bytes, kept * sizeof *words);
    p->host_step = words;
    for (int i = 0; i < STEPS; i++) {
        rows_make(&r, i);
        for (size_t k = 0; k < kept + GUARD; k++) words[k] = 0x5a5a5a5a;
        size_t n = step_pack(p, &r.step, &shape);
        assert_true(n <= kept);
        if (n > most) most = n;
        for (size_t k = n; k < kept + GUARD; k++) assert_int_equal(words[k], 0x5a5a5a5a);
        expect_words(p, &r.step, words);
    }
    print_message("steps of up to %zu words, %zu are kept\n", most, kept);
    p->host_step = pinned;
    free(words);
    unload(&x);
    device_close(x.device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_refused_takes_nothing), cmocka_unit_test(an_upload_keeps_nobody),
        cmocka_unit_test(kernels_that_do_not_compile_harm_nobody), cmocka_unit_test(a_step_needs_no_tape),
        cmocka_unit_test(shortness_says_what_to_do), cmocka_unit_test(tapes_make_room),
        cmocka_unit_test(threads_share_a_card), cmocka_unit_test(many_slots_move),
        cmocka_unit_test(pools_are_pieces),
        cmocka_unit_test(steps_stay_within_what_was_kept),
    };
    struct device_options o = { 0 };
    struct device *d;
    struct error err = { 0 };
    setenv("STRETTO_CUDA", MOCK_CUDA_PATH, 1);
    setenv("STRETTO_NVRTC", MOCK_CUDA_PATH, 1);
    setenv("STRETTO_KERNELS", "", 1);
    mock_find();
    if (backend_open("cuda", &o, &d, &err) != STRETTO_OK) SKIP("%s (./dev test installs PoCL)", err.text);
    device_close(d);
    model_make(&small, DT_F32);
    model_make(&other, DT_Q8_0);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    graph_done(&small.g);
    graph_done(&other.g);
    return failed;
}
