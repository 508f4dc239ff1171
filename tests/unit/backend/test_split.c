/* A model over several devices (backend/split.h) answers what one device answers, bit for bit, wherever it is
 * cut: random graphs whose layers read nothing of those before them but one value, or now and then more, which
 * is refused. Two sequences, chains and guess trees, whose accepted paths move and whose pages are copied.
 * Then what backend.h promises of devices: statuses of rows, cancelling, closing and losing of members,
 * memory, profile, costs; allocations that fail.
 *
 * That this notices what it is for was tried by planting faults by hand into split/run.c, each noticed: the
 * table or the pool of another group; a group's number of the whole in a part; slots or pages that are moved in
 * the first part alone; the vectors of a part before the last; a row's vector in another's place; a row that is no
 * number forgotten, or remembered of another; the loss of a member not heeded. */
#include "backend/split.h"
#include "base/memory.h"
#include "graph/partition.h"
#include "unit/backend/random_graph.h"
#include "backend/cpu/cpu.h"

enum { GRAPHS = 150, MEMBERS = 3, PAGES = SEQS * SEQ_PAGES };

static struct device *one, *member[MEMBERS];   /* alike, with kernels for given rows of our own */

static struct device *opened(bool wide_bf16)
{
    struct device_options how = { .wide_bf16 = wide_bf16 };
    struct error err = { 0 };
    struct device *d;
    if (backend_open("cpu", &how, &d, &err) != STRETTO_OK) return NULL;
    struct kernels *k = &((struct cpu_device *)(void *)d)->kernels;
    memset(k->linear_given, 0, sizeof k->linear_given);
    memset(k->attn_given, 0, sizeof k->attn_given);
    k->linear_given[DT_Q8_0] = given_q8_0;
    k->linear_given[DT_F16] = given_f16;
    return d;
}

static int open_all(void **state)
{
    (void)state;
    bool all = (one = opened(true)) != NULL;
    for (int i = 0; i < MEMBERS; i++) all &= (member[i] = opened(false)) != NULL;
    return all ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    device_close(one);
    for (int i = 0; i < MEMBERS; i++) device_close(member[i]);
    return 0;
}

static struct device *split(struct device *const *members, const uint32_t *layers, size_t n)
{
    struct error err = { 0 };
    struct device *d;
    assert_int_equal(split_open(&d, members, layers, n, &err), STRETTO_OK);
    assert_non_null(d);
    return d;
}

/* ---- a graph, whole and cut ------------------------------------------------------------------- */

struct subject {
    struct graph graph;
    struct parameters params;
    struct upload_options up;
    struct program_limits limits;
};

/* A graph on a device. */
struct placed { struct device *device; struct weights *weights; struct program *program; };

static void subject_with(struct subject *x, bool quantised, unsigned threads)
{
    const struct graph *g = &x->graph;
    x->params = (struct parameters){ g, calloc(g->n_params, sizeof *x->params.p), quantised };
    assert_non_null(x->params.p);
    for (size_t i = 0; i < g->n_params; i++) make_parameter(&x->params, i);
    x->up = (struct upload_options){ .threads = threads, .reference = !quantised };
    x->limits = (struct program_limits){ .max_rows = MAX_ROWS, .max_asks = MAX_ROWS,
                                         .max_seq_pages = SEQ_PAGES, .cache = CACHE_F32,
                                         .strict = chance(50), .threads = threads };
    for (uint32_t i = 0; i < g->n_groups; i++) x->limits.max_pages[i] = PAGES + 1 + 2 * i;
}

static void subject_open(struct subject *x, uint64_t seed, uint32_t layers, bool odd)
{
    struct error err = { 0 };
    state_of_noise = seed;
    *x = (struct subject){ 0 };
    bool quantised = chance(50);
    make_layers(&x->graph, layers, quantised, odd, &err);
    subject_with(x, quantised, seed % 4 ? 1 : 2);
}

static void subject_close(struct subject *x)
{
    free_parameters(&x->params);
    graph_done(&x->graph);
}

static stretto_status place(struct subject *x, struct device *d, struct placed *p, struct error *err)
{
    struct binding binding = { &x->params, find };
    *p = (struct placed){ .device = d };
    TRY(device_upload(d, &p->weights, &x->graph, &binding, &x->up, err));
    return device_compile(d, &p->program, &x->graph, p->weights, &x->limits, err);
}

static void unplace(struct placed *p)
{
    if (p->program) p->device->backend->program_close(p->program);
    if (p->weights) p->device->backend->weights_close(p->weights);
    *p = (struct placed){ 0 };
}

static void must_place(struct subject *x, struct device *d, struct placed *p)
{
    struct error err = { 0 };
    if (place(x, d, p, &err) != STRETTO_OK) print_error("%s\n", err.text);
    assert_non_null(p->program);
}

/* ---- steps --------------------------------------------------------------------------------------- */

struct answers {
    float logits[MAX_ROWS][MAX_WIDTH], hidden[MAX_ROWS][MAX_WIDTH];
    struct answer answer[MAX_ROWS], *at[MAX_ROWS];
};

static void answers_clear(struct answers *a)
{
    memset(a, 0xff, sizeof *a);
    for (size_t i = 0; i < MAX_ROWS; i++) {
        a->answer[i] = (struct answer){ .status = STRETTO_E_IO, .logits = a->logits[i],
                                        .hidden = a->hidden[i] };
        memset(&a->answer[i].top, 0, sizeof a->answer[i].top);
        a->at[i] = &a->answer[i];
    }
}

static stretto_status run(const struct placed *p, const struct step *s, struct answers *a, struct error *err)
{
    answers_clear(a);
    return device_run(p->device, p->program, s, a->at, err);
}

/* Of the asks whose rows are of another sequence than `but` (-1: all of them). */
static bool same(const struct step *s, const struct answers *a, const struct answers *b, int32_t but)
{
    for (size_t i = 0; i < s->n_asks; i++) {
        const struct answer *x = &a->answer[i], *y = &b->answer[i];
        if (s->seq[s->ask_row[i]] == but) continue;
        if (x->status != y->status || x->best != y->best) return false;
        if (memcmp(&x->top, &y->top, sizeof x->top) != 0) return false;
        if (memcmp(a->logits[i], b->logits[i], sizeof a->logits[i]) != 0) return false;
        if (memcmp(a->hidden[i], b->hidden[i], sizeof a->hidden[i]) != 0) return false;
    }
    return true;
}

static bool step_agrees(const struct placed *a, const struct placed *b, const struct step *s)
{
    static struct answers x, y;
    struct error err = { 0 };
    assert_int_equal(run(a, s, &x, &err), STRETTO_OK);
    assert_int_equal(run(b, s, &y, &err), STRETTO_OK);
    for (size_t i = 0; i < s->n_asks; i++) assert_int_equal(x.answer[i].status, STRETTO_OK);
    return same(s, &x, &y, -1);
}

/* Of a tree the way to its last row, in slots; the path moves to the committed end. */
static int32_t accept(const struct placed *p, const struct subject *x, const struct rows *r, int32_t seq)
{
    const struct step_seq *q = &r->seqs[seq];
    int32_t from[MAX_ROWS], to[MAX_ROWS], n = 0;
    for (int32_t row = q->first_row + q->n_rows - 1; row >= 0; row = r->parent[row]) n++;
    int32_t k = n;
    for (int32_t row = q->first_row + q->n_rows - 1; row >= 0; row = r->parent[row]) {
        from[--k] = r->slot[row];
        to[k] = q->committed + k;
    }
    for (uint32_t g = 0; g < x->graph.n_groups; g++)
        p->device->backend->slots_move(p->program, g, r->page + r->page_at[(int32_t)g * SEQS + seq], from, to,
                                       (size_t)n);
    return n;
}

/* Sequence 0's first page of every group is copied to the page behind all others, and the text goes on there. */
static void first_pages_move(const struct placed *a, const struct placed *b, const struct subject *x,
                             struct rows *r)
{
    for (uint32_t g = 0; g < x->graph.n_groups; g++) {
        int32_t *page = r->page + r->page_at[(int32_t)g * SEQS];
        if (*page < 0) continue;
        a->device->backend->page_copy(a->program, g, *page, PAGES);
        b->device->backend->page_copy(b->program, g, *page, PAGES);
        *page = PAGES;
    }
}

/* A long chain, a short one, a tree whose path is accepted, a page that is copied, and a chain again. */
static void texts_agree(struct subject *x, const struct placed *a, const struct placed *b, uint64_t seed,
                        const char *what)
{
    static struct rows r;
    int32_t committed[SEQS] = { 0 };
    int steps = x->graph.bidirectional ? 1 : 4;
    for (int step = 0; step < steps; step++) {
        make_step(&r, committed, step ? RANDOM_FEW : seed % 8 ? 40 : MAX_ROWS - 10, step == 2, &x->graph);
        add_asks(&r, false, chance(80), &x->graph);
        if (step == 3) first_pages_move(a, b, x, &r);
        if (!step_agrees(a, b, &r.step)) {
            printf("graph of seed %llu, step %d, %s\n", (unsigned long long)seed, step, what);
            assert_true(false);
        }
        for (int32_t s = 0; s < SEQS; s++) {
            int32_t n = r.seqs[s].n_rows;
            if (step == 2) {
                n = accept(a, x, &r, s);
                assert_int_equal(accept(b, x, &r, s), n);
            }
            committed[s] += n;
        }
    }
}

/* What weights take is known beforehand, but for the gaps between them, and for bf16 in 12 bits, which needs to see
 * them. */
static void check_estimate(struct subject *x, const struct placed *p)
{
    struct binding binding = { &x->params, find };
    struct split_ask ask = { .members = &one, .n = 1, .reference = x->up.reference };
    struct split_shares shares;
    struct error err = { 0 };
    assert_int_equal(split_plan(&shares, &x->graph, &binding, &ask, &err), STRETTO_OK);
    assert_int_equal(shares.n, 1);
    uint64_t bytes = one->backend->weights_bytes(p->weights), planned = shares.share[0].weights;
    assert_true(planned <= bytes && bytes - planned < 64 * x->graph.n_params);
}

/* ---- the same bits -------------------------------------------------------------------------------- */

static void every_cut(void **state)
{
    (void)state;
    size_t cuts = 0, refused = 0, three = 0, groups = 0;
    for (uint64_t seed = 1; seed <= GRAPHS; seed++) {
        struct subject x;
        struct placed whole, parts;
        struct error err = { 0 };
        uint32_t layers = 2 + (uint32_t)seed % 3;
        subject_open(&x, seed * 7777777, layers, seed % 3 == 0);
        groups += x.graph.n_groups > 1;
        must_place(&x, one, &whole);
        check_estimate(&x, &whole);
        for (uint32_t cut = 1; cut < layers; cut++) {
            bool more = layers - cut > 1 && seed % 2;
            struct device *d = split((struct device *[]){ member[0], member[1], member[seed % 4 ? 2 : 0] },
                                     (uint32_t[]){ cut, 1, 0 }, more ? 3 : 2);
            error_clear(&err);
            stretto_status s = place(&x, d, &parts, &err);
            if (s == STRETTO_E_UNSUP) {
                assert_non_null(strstr(err.text, "cannot be cut before layer"));
                assert_true(seed % 3 == 0);
                refused++;
            } else {
                assert_int_equal(s, STRETTO_OK);
                texts_agree(&x, &whole, &parts, seed, d->backend->name);
                cuts++;
                three += more;
            }
            unplace(&parts);
            unplace(&whole);
            must_place(&x, one, &whole);
            device_close(d);
        }
        unplace(&whole);
        subject_close(&x);
    }
    printf("%zu cuts, %zu of them in three, %zu refused\n", cuts, three, refused);
    assert_true(cuts >= GRAPHS && refused >= 10 && three >= GRAPHS / 8 && groups >= GRAPHS / 4);
}

/* ---- one graph that can be cut, in two ---------------------------------------------------------- */

enum { LAYERS = 4, CUT = 2 };

struct pair { struct subject x; struct placed whole, parts; struct rows r; };

static void pair_open(struct pair *p, uint64_t seed, struct device *d)
{
    static const int32_t start[SEQS];
    memset(p, 0, sizeof *p);
    subject_open(&p->x, seed * 31337 * 4 + 1, LAYERS, false);
    must_place(&p->x, one, &p->whole);
    if (d) must_place(&p->x, d, &p->parts);
    make_step(&p->r, start, RANDOM_FEW, false, &p->x.graph);
    add_asks(&p->r, true, true, &p->x.graph);
}

static void pair_close(struct pair *p)
{
    unplace(&p->whole);
    unplace(&p->parts);
    subject_close(&p->x);
}

static const uint32_t in_two[2] = { CUT, LAYERS - CUT };

/* Whether what every row hands over at the cut is no number, by the front part as a graph of its own. */
static void what_crosses(struct pair *p, bool *nan)
{
    static struct answers a;
    struct subject front = p->x;
    struct graph_part part;
    struct placed placed;
    struct error err = { 0 };
    assert_int_equal(graph_cut(&part, &p->x.graph, 0, CUT, &err), STRETTO_OK);
    front.graph = part.graph;
    must_place(&front, one, &placed);
    struct rows r = p->r;
    for (size_t i = 0; i < r.n; i++) {
        r.ask_row[i] = (int32_t)i;
        r.ask_wants[i] = WANT_HIDDEN;
    }
    r.step.n_asks = r.n;
    r.step.n_heads = 0;
    r.step.ask_row = r.ask_row;
    r.step.ask_wants = r.ask_wants;
    for (uint32_t g = 0; g < p->x.graph.n_groups; g++)
        for (int32_t s = 0; s < SEQS && part.group[g] != GRAPH_NONE; s++)
            r.page_at[part.group[g] * SEQS + s] = p->r.page_at[(int32_t)g * SEQS + s];
    r.step.page_at = r.page_at;
    assert_int_equal(run(&placed, &r.step, &a, &err), STRETTO_OK);
    for (size_t i = 0; i < r.n; i++) nan[i] = a.answer[i].status == STRETTO_E_NAN;
    unplace(&placed);
    graph_part_done(&part);
}

/* What a row brings is no number: it and those that see it say so, as in the whole or because what crossed was
 * none (in these graphs it may be lost again behind the cut: in codes, or by a softcap); the other sequence is as
 * it was. */
static void rows_that_are_no_number(void **state)
{
    (void)state;
    static struct answers clean, x, y;
    static struct pair p;
    struct device *d = split(member, in_two, 2);
    size_t n = 0, more = 0;
    for (uint64_t seed = 0; seed < 30; seed++) {
        bool nan[MAX_ROWS];
        struct error err = { 0 };
        pair_open(&p, seed, d);
        struct rows *r = &p.r;
        size_t at = (size_t)r->seqs[1].first_row;
        uint32_t width = p.x.graph.values[0].width;
        assert_int_equal(run(&p.whole, &r->step, &clean, &err), STRETTO_OK);
        r->token[at] = -1 - (int32_t)at;
        for (uint32_t i = 0; i < width; i++) r->vectors[at * width + i] = NAN;
        what_crosses(&p, nan);
        assert_int_equal(run(&p.whole, &r->step, &x, &err), STRETTO_OK);
        assert_int_equal(run(&p.parts, &r->step, &y, &err), STRETTO_OK);
        assert_true(same(&r->step, &clean, &y, 1));
        for (size_t i = 0; i < r->n_asks; i++) {
            int32_t row = r->ask_row[i];
            stretto_status want = nan[row] ? STRETTO_E_NAN : x.answer[i].status;
            assert_int_equal(y.answer[i].status, want);
            assert_true(r->seq[row] == 1 || want == STRETTO_OK);
            n += want == STRETTO_E_NAN;
            more += want != x.answer[i].status;
        }
        pair_close(&p);
    }
    printf("%zu answers are no numbers, %zu of them by what crossed\n", n, more);
    assert_true(n > 60 && more > 0);
    device_close(d);
}

/* ---- cancelled, lost, closed --------------------------------------------------------------------- */

struct asked { int calls, at; struct device *lose; };

static bool ask_cancel(void *ud)
{
    struct asked *c = ud;
    if (++c->calls != c->at) return c->calls > c->at;
    if (!c->lose) return true;
    device_lose(c->lose, "it fell off the bus");
    c->at = INT32_MAX;
    return false;
}

/* Cancelled at every place where it is asked, in both parts; the next step is as if nothing had been. */
static void cancelled_anywhere(void **state)
{
    (void)state;
    static struct answers x, y;
    struct device *d = split(member, in_two, 2);
    struct pair p;
    struct asked c = { 0 };
    stretto_status s = STRETTO_E_CANCEL;
    struct error err = { 0 };
    pair_open(&p, 3, d);
    assert_int_equal(run(&p.whole, &p.r.step, &x, &err), STRETTO_OK);
    p.r.step.cancel = ask_cancel;
    p.r.step.cancel_ud = &c;
    int n = 0;
    for (; s != STRETTO_OK && n < 10000; n++) {
        c = (struct asked){ .at = n + 1 };
        error_clear(&err);
        s = run(&p.parts, &p.r.step, &y, &err);
        if (s == STRETTO_OK) break;
        assert_int_equal(s, STRETTO_E_CANCEL);
        for (size_t i = 0; i < p.r.n_asks; i++) assert_int_equal(y.answer[i].status, STRETTO_E_IO);
    }
    assert_true(n > 2 * LAYERS);
    assert_true(same(&p.r.step, &x, &y, -1));
    pair_close(&p);
    device_close(d);
}

static void nothing_begins(struct pair *p, struct device *d, const char *words)
{
    static struct answers a;
    struct binding binding = { &p->x.params, find };
    struct weights *w;
    struct program *program;
    struct program_bytes bytes;
    struct error e[4] = { 0 };
    stretto_status s[4];
    s[0] = run(&p->parts, &p->r.step, &a, &e[0]);
    s[1] = device_upload(d, &w, &p->x.graph, &binding, &p->x.up, &e[1]);
    s[2] = device_plan(d, &p->x.graph, p->parts.weights, &p->x.limits, &bytes, &e[2]);
    s[3] = device_compile(d, &program, &p->x.graph, p->parts.weights, &p->x.limits, &e[3]);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(s[i], STRETTO_E_DEVICE);
        assert_non_null(strstr(e[i].text, words));
    }
}

/* A member is lost while the part before it runs. */
static void lost_in_the_middle(void **state)
{
    (void)state;
    static struct answers a;
    for (int which = 0; which < 2; which++) {
        struct device *own[2] = { opened(false), opened(false) }, *d = split(own, in_two, 2);
        struct pair p;
        struct asked c = { .at = 1, .lose = own[which] };
        struct error err = { 0 };
        pair_open(&p, 5, d);
        p.r.step.cancel = ask_cancel;
        p.r.step.cancel_ud = &c;
        stretto_status s = run(&p.parts, &p.r.step, &a, &err);
        if (which) {
            assert_int_equal(s, STRETTO_E_DEVICE);
            assert_non_null(strstr(err.text, "fell off the bus"));
            for (size_t i = 0; i < p.r.n_asks; i++) assert_int_equal(a.answer[i].status, STRETTO_E_IO);
            error_clear(&err);
            assert_int_equal(device_check(d, &err), STRETTO_E_DEVICE);
            assert_non_null(strstr(err.text, "cpu+cpu"));
        }
        nothing_begins(&p, d, "fell off the bus");
        pair_close(&p);
        device_close(d);
        for (int i = 0; i < 2; i++) device_close(own[i]);
    }
}

/* In any order: members before the whole, the whole before what stands on it. */
static void closed_in_any_order(void **state)
{
    (void)state;
    for (int order = 0; order < 2; order++) {
        struct device *own[2] = { opened(false), opened(false) }, *d = split(own, in_two, 2);
        struct pair p;
        pair_open(&p, 6, d);
        if (order) device_close(d);
        for (int i = 0; i < 2; i++) device_close(own[i]);
        nothing_begins(&p, d, "it was closed");
        if (!order) device_close(d);
        pair_close(&p);
    }
    struct error err = { 0 };
    struct device *gone = opened(false), *d;
    device_hold(gone);
    device_close(gone);
    assert_int_equal(split_open(&d, &gone, in_two, 1, &err), STRETTO_E_DEVICE);
    assert_null(d);
    device_drop(gone);
    error_clear(&err);
    assert_int_equal(split_open(&d, &gone, in_two, 0, &err), STRETTO_E_ARG);
    error_clear(&err);
    assert_int_equal(split_open(&d, &gone, in_two, SPLIT_MEMBERS + 1, &err), STRETTO_E_ARG);
}

static void weights_of_another(void **state)
{
    (void)state;
    struct device *a = split(member, in_two, 2), *b = split(member, in_two, 2);
    struct pair p;
    struct program *program;
    struct program_bytes bytes;
    struct error err = { 0 };
    pair_open(&p, 7, a);
    assert_int_equal(device_compile(b, &program, &p.x.graph, p.parts.weights, &p.x.limits, &err), STRETTO_E_ARG);
    assert_int_equal(device_plan(b, &p.x.graph, p.parts.weights, &p.x.limits, &bytes, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "another device"));
    pair_close(&p);
    device_close(a);
    device_close(b);
}

static void too_many_rows(void **state)
{
    (void)state;
    static struct answers a;
    struct device *d = split(member, in_two, 2);
    struct pair p;
    struct error err = { 0 };
    pair_open(&p, 8, d);
    unplace(&p.parts);
    p.x.limits.max_rows = (uint32_t)p.r.n - 1;
    must_place(&p.x, d, &p.parts);
    assert_int_equal(run(&p.parts, &p.r.step, &a, &err), STRETTO_E_ARG);
    unplace(&p.parts);
    p.x.limits.max_rows = (uint32_t)p.r.n;
    p.x.limits.max_asks = (uint32_t)p.r.n_asks - 1;
    must_place(&p.x, d, &p.parts);
    error_clear(&err);
    assert_int_equal(run(&p.parts, &p.r.step, &a, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "ask at once"));
    /* all rows cross, however few ask */
    static struct answers whole;
    p.r.step.n_asks = p.r.step.n_heads = 1;
    unplace(&p.parts);
    p.x.limits.max_asks = 1;
    must_place(&p.x, d, &p.parts);
    assert_int_equal(run(&p.parts, &p.r.step, &a, &err), STRETTO_OK);
    assert_int_equal(run(&p.whole, &p.r.step, &whole, &err), STRETTO_OK);
    assert_true(same(&p.r.step, &a, &whole, -1));
    pair_close(&p);
    device_close(d);
}

/* ---- graphs of other numbers of layers ------------------------------------------------------------- */

/* Fewer layers than the first member takes: it has all. None: the last member has all. More: the last has
 * the rest. */
static void other_graphs(void **state)
{
    (void)state;
    static const struct { uint32_t layers[3], has; int on; } all[] = {
        { { 5, 3, 0 }, 4, 0 }, { { 4, 3, 1 }, 4, 0 }, { { 0, 9, 2 }, 4, 1 }, { { 0, 0, 1 }, 4, 2 },
        { { 2, 2, 2 }, 0, 2 },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct device *d = split(member, all[i].layers, 3);
        struct subject x;
        struct placed whole, parts;
        unsigned before[3], after;
        char text[2000] = "";
        subject_open(&x, 99 + 4 * i, all[i].has, false);
        must_place(&x, one, &whole);
        for (int k = 0; k < 3; k++) before[k] = atomic_load(&member[k]->holders);
        must_place(&x, d, &parts);
        for (int k = 0; k < 3; k++) {
            after = atomic_load(&member[k]->holders);
            assert_int_equal(after - before[k], k == all[i].on ? 2 : 0);
        }
        texts_agree(&x, &whole, &parts, i, "one member");
        d->backend->describe(parts.weights, text, sizeof text);
        assert_non_null(strstr(text, all[i].has ? "4 of 4 layers on cpu" : "0 of 0 layers on cpu"));
        unplace(&whole);
        unplace(&parts);
        subject_close(&x);
        device_close(d);
    }
}

/* ---- what it says of itself --------------------------------------------------------------------- */

static void words(void **state)
{
    (void)state;
    struct device *d = split(member, in_two, 2);
    struct pair p;
    char text[2000] = "before\n", small[20] = "";
    pair_open(&p, 9, d);
    assert_string_equal(d->backend->name, "cpu+cpu");
    assert_true(d->backend->batch_invariant);
    assert_null(d->backend->roof_bytes);
    assert_null(d->backend->weights_view);
    d->backend->describe(p.parts.weights, text, sizeof text);
    assert_memory_equal(text, "before\n2 of 4 layers on cpu: ", 29);
    assert_non_null(strstr(text + 10, "level: "));
    assert_non_null(strstr(strstr(text, "level: "), "2 of 4 layers on cpu"));
    d->backend->describe(p.parts.weights, small, sizeof small);
    assert_true(strlen(small) < sizeof small);
    uint64_t bytes = d->backend->weights_bytes(p.parts.weights);
    assert_true(bytes > 0 && bytes >= one->backend->weights_bytes(p.whole.weights));
    pair_close(&p);
    device_close(d);
}

/* Every operation of each part, in order, and no more rows than there is room for. */
static void profile(void **state)
{
    (void)state;
    static struct answers a;
    struct device *d = split(member, in_two, 2);
    struct pair p;
    struct op_time t[64];
    struct error err = { 0 };
    pair_open(&p, 10, d);
    const struct backend *b = d->backend;
    assert_int_equal(b->profile(p.parts.program, true, &err), STRETTO_OK);
    for (int i = 0; i < 3; i++) assert_int_equal(run(&p.parts, &p.r.step, &a, &err), STRETTO_OK);
    size_t n = b->profile_read(p.parts.program, t, 64), first = 0, few;
    while (first < n && strncmp(t[first].name, "1 cpu: ", 7) == 0) first++;
    assert_true(first >= 2 && first < n);
    for (size_t i = first; i < n; i++) assert_memory_equal(t[i].name, "2 cpu: ", 7);
    assert_int_equal(t[n - 1].count, 3);
    few = b->profile_read(p.parts.program, t, first + 1);
    assert_int_equal(few, first + 1);
    assert_int_equal(b->profile(p.parts.program, false, &err), STRETTO_OK);
    pair_close(&p);
    device_close(d);
}

/* Devices that compute nothing. */
static float costs_of[4][3];
static uint64_t memory_of[4];
static double joules_of[4];

struct pretended { struct device device; struct backend row; int number; };

static uint64_t pretended_memory(const struct device *d)
{
    return memory_of[((const struct pretended *)(const void *)d)->number];
}

static void pretended_costs(const struct device *d, const uint32_t *rows, float *ratio, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ratio[i] = costs_of[((const struct pretended *)(const void *)d)->number][rows[i] - 1];
}

static double pretended_joules(struct device *d)
{
    return joules_of[((const struct pretended *)(void *)d)->number];
}

static void pretended_close(struct device *d) { (void)d; }

static stretto_status pretended_profile(struct program *p, bool on, struct error *err)
{
    (void)p;
    (void)on;
    return fail(err, STRETTO_E_IO, "no");
}

static size_t pretended_read(const struct program *p, struct op_time *out, size_t cap)
{
    (void)p;
    (void)out;
    return cap ? 0 : 0;
}

static void pretend(struct pretended *d, int number)
{
    *d = (struct pretended){ .number = number };
    d->row = (struct backend){ .name = "pretended", .batch_invariant = true, .memory = pretended_memory,
                               .costs = pretended_costs, .close = pretended_close,
                               .profile = pretended_profile, .profile_read = pretended_read };
    d->device.backend = &d->row;
    atomic_store(&d->device.holders, 1);
    snprintf(d->device.word, sizeof d->device.word, "card:%d", number);
}

static void what_members_say(void **state)
{
    (void)state;
    struct pretended p[3];
    struct device *of[3];
    static const float costs[2][3] = { { 1, 1.5F, 2 }, { 1, 1.2F, 4 } };
    static const uint32_t rows[3] = { 1, 2, 3 }, layers[3] = { 1, 1, 1 };
    float ratio[3];
    for (int i = 0; i < 3; i++) {
        pretend(&p[i], i);
        of[i] = &p[i].device;
    }
    memcpy(costs_of, costs, sizeof costs);
    struct device *d = split(of, layers, 2);
    assert_string_equal(d->backend->name, "card:0+card:1");
    assert_string_equal(d->word, "card:0+card:1");
    d->backend->costs(d, rows, ratio, 3);
    assert_true(ratio[0] == 1 && ratio[1] == 1.5F && ratio[2] == 4);
    memory_of[0] = 70, memory_of[1] = 5;
    assert_int_equal(d->backend->memory(d), 75);
    memory_of[1] = 0;
    assert_int_equal(d->backend->memory(d), 0);
    assert_non_null(d->backend->profile);
    assert_null(d->backend->joules);
    device_close(d);
    of[1] = of[0];
    d = split(of, layers, 2);
    assert_int_equal(d->backend->memory(d), 70);
    device_close(d);
    p[2].row.profile = NULL;
    p[2].row.batch_invariant = false;
    d = split(of, layers, 3);
    assert_null(d->backend->profile);
    assert_null(d->backend->profile_read);
    assert_false(d->backend->batch_invariant);
    device_close(d);
}

/* Cards' joules are added up, of a card that is two members once; a member without a card has none. */
static void joules_of_members(void **state)
{
    (void)state;
    struct pretended p[3];
    static const uint32_t layers[4] = { 1, 1, 1, 1 };
    for (int i = 0; i < 3; i++) {
        pretend(&p[i], i);
        joules_of[i] = 10 + i;
        if (i < 2) p[i].row.joules = pretended_joules;
    }
    struct device *of[4] = { &p[0].device, &p[1].device, &p[0].device, &p[2].device };
    struct device *d = split(of, layers, 4);
    assert_true(d->backend->joules(d) == 21);
    joules_of[1] = -1;
    assert_true(d->backend->joules(d) < 0);
    device_close(d);
}

/* ---- memory -------------------------------------------------------------------------------------- */

static struct device *with_memory(uint64_t bytes)
{
    struct device_options o = { .memory = bytes };
    struct error err = { 0 };
    struct device *d;
    assert_int_equal(backend_open("cpu", &o, &d, &err), STRETTO_OK);
    return d;
}

/* What a part needs, from its graph alone. */
static struct program_bytes part_bytes(struct subject *x, uint32_t first, uint32_t end, uint64_t *weights)
{
    struct device *d = with_memory(0);
    struct graph_part part;
    struct error err = { 0 };
    struct binding binding = { &x->params, find };
    struct weights *w;
    struct program_bytes b;
    struct program_limits l = x->limits;
    assert_int_equal(graph_cut(&part, &x->graph, first, end, &err), STRETTO_OK);
    for (uint32_t i = 0; i < x->graph.n_groups; i++)
        if (part.group[i] != GRAPH_NONE) l.max_pages[part.group[i]] = x->limits.max_pages[i];
    assert_int_equal(device_upload(d, &w, &part.graph, &binding, &x->up, &err), STRETTO_OK);
    assert_int_equal(device_plan(d, &part.graph, w, &l, &b, &err), STRETTO_OK);
    *weights = d->backend->weights_bytes(w);
    d->backend->weights_close(w);
    graph_part_done(&part);
    device_close(d);
    return b;
}

/* A program's pages are the parts', and the member that is full first says how many there can be. */
static void room(void **state)
{
    (void)state;
    for (int full = 0; full < 2; full++) {
        struct subject x;
        struct placed parts;
        uint64_t weights[2];
        struct program_bytes b[2], all;
        struct error err = { 0 };
        subject_open(&x, 4041, LAYERS, false);
        b[0] = part_bytes(&x, 0, CUT, &weights[0]);
        b[1] = part_bytes(&x, CUT, LAYERS, &weights[1]);
        /* room for twice the pages there, for many more here */
        uint64_t most = weights[full] + b[full].buffers + 2 * b[full].pages;
        struct device *own[2] = { with_memory(full ? 0 : most), with_memory(full ? most : 0) };
        struct device *d = split(own, in_two, 2);
        must_place(&x, d, &parts);
        assert_int_equal(device_plan(d, &x.graph, parts.weights, &x.limits, &all, &err), STRETTO_OK);
        assert_int_equal(all.pages, b[0].pages + b[1].pages);
        assert_true(all.buffers > b[0].buffers + b[1].buffers);
        uint64_t pages = 0;
        for (uint32_t g = 0; g < x.graph.n_groups; g++) pages += all.page[g] * x.limits.max_pages[g];
        assert_int_equal(pages, all.pages);
        uint64_t takes = own[full]->backend->memory(own[full]);
        unplace(&parts);
        uint64_t can = own[full]->backend->memory(own[full]);
        assert_true(takes < can);
        struct binding binding = { &x.params, find };
        assert_int_equal(device_upload(d, &parts.weights, &x.graph, &binding, &x.up, &err), STRETTO_OK);
        assert_int_equal(device_plan(d, &x.graph, parts.weights, &x.limits, &all, &err), STRETTO_OK);
        uint64_t want = all.buffers + 2 * all.pages;
        assert_true(all.room >= want - 2 && all.room <= want + 2);
        d->backend->weights_close(parts.weights);
        device_close(d);
        for (int i = 0; i < 2; i++) device_close(own[i]);
        subject_close(&x);
    }
}

static void a_member_without_room(void **state)
{
    (void)state;
    struct device *own[2] = { opened(false), with_memory(64) }, *d = split(own, in_two, 2);
    struct subject x;
    struct placed parts;
    struct error err = { 0 };
    subject_open(&x, 4045, LAYERS, false);
    unsigned holders = atomic_load(&own[0]->holders);
    assert_int_equal(place(&x, d, &parts, &err), STRETTO_E_NOMEM);
    assert_null(parts.weights);
    assert_int_equal(atomic_load(&own[0]->holders), holders);
    subject_close(&x);
    device_close(d);
    for (int i = 0; i < 2; i++) device_close(own[i]);
}

/* Bytes done go up to the total, which stays what it is. */
struct progress { uint64_t done, total; int calls; };

static void watch(void *ud, uint64_t done, uint64_t total)
{
    struct progress *p = ud;
    assert_true(done >= p->done && done <= total && (!p->calls || total == p->total));
    *p = (struct progress){ done, total, p->calls + 1 };
}

static void progress(void **state)
{
    (void)state;
    struct device *d = split(member, in_two, 2);
    struct subject x;
    struct placed parts;
    struct progress seen = { 0 };
    struct error err = { 0 };
    subject_open(&x, 4049, LAYERS, false);
    x.up.progress = watch;
    x.up.ud = &seen;
    must_place(&x, d, &parts);
    assert_true(seen.calls >= 4 && seen.total > 0);
    assert_int_equal(seen.done, seen.total);
    unplace(&parts);
    volatile int stop = 1;
    x.up.cancel = &stop;
    x.up.progress = NULL;
    assert_int_equal(place(&x, d, &parts, &err), STRETTO_E_CANCEL);
    subject_close(&x);
    device_close(d);
}

/* Every allocation fails once: a status each, nothing is left behind, and the next try works. A step makes
 * none. */
static void allocations(void **state)
{
    (void)state;
    static struct answers x, y;
    struct pair p;
    struct error err = { 0 };
    uint64_t n = 1;
    pair_open(&p, 11, NULL);
    assert_int_equal(run(&p.whole, &p.r.step, &x, &err), STRETTO_OK);
    for (bool reached = true; reached; n++) {
        struct device *d;
        unsigned holders = atomic_load(&member[0]->holders) + atomic_load(&member[1]->holders);
        uint64_t before = mem_count();
        error_clear(&err);
        mem_fail_at(n);
        stretto_status s = split_open(&d, member, in_two, 2, &err);
        if (s == STRETTO_OK) s = place(&p.x, d, &p.parts, &err);
        reached = mem_count() - before >= n;
        mem_fail_at(0);
        assert_int_equal(s, reached ? STRETTO_E_NOMEM : STRETTO_OK);
        assert_true(!reached || err.text[0]);
        if (s == STRETTO_OK) {
            before = mem_count();
            assert_int_equal(run(&p.parts, &p.r.step, &y, &err), STRETTO_OK);
            assert_int_equal(mem_count(), before);
            assert_true(same(&p.r.step, &x, &y, -1));
        }
        unplace(&p.parts);
        device_close(d);
        assert_int_equal(atomic_load(&member[0]->holders) + atomic_load(&member[1]->holders), holders);
    }
    assert_true(n > 30);
    pair_close(&p);
}

/* ---- how many layers go where --------------------------------------------------------------------- */

struct planned { struct subject x; struct pretended card[3]; struct device *of[3]; struct split_shares shares; };

static stretto_status plan(struct planned *p, size_t n, const int32_t *layers, struct error *err)
{
    struct binding binding = { &p->x.params, find };
    struct split_ask ask = { .members = p->of, .layers = layers, .n = n, .context = 100, .rows = 16,
                             .cache = CACHE_F16, .reference = p->x.up.reference };
    return split_plan(&p->shares, &p->x.graph, &binding, &ask, err);
}

/* The layers of each share: "0-3 head" and so on. */
static void shares_are(const struct planned *p, const char *want)
{
    char got[200] = "";
    for (size_t i = 0; i < p->shares.n; i++) {
        const struct split_share *s = &p->shares.share[i];
        size_t at = strlen(got);
        assert_ptr_equal(s->device, p->of[s->member]);
        snprintf(got + at, sizeof got - at, "%s%u:%u+%u%s", i ? " " : "", s->member, s->first, s->layers,
                 s->head ? "h" : "");
    }
    assert_string_equal(got, want);
}

static void must_plan(struct planned *p, size_t n, const int32_t *layers, const char *want)
{
    struct error err = { 0 };
    if (plan(p, n, layers, &err) != STRETTO_OK) print_error("%s\n", err.text);
    shares_are(p, want);
}

static uint64_t takes(const struct split_share *s) { return s->weights + s->pages + s->buffers; }

static void plans(void **state)
{
    (void)state;
    static struct planned p;
    uint64_t some[LAYERS + 1];
    subject_open(&p.x, 4053, LAYERS, false);
    for (int i = 0; i < 3; i++) {
        pretend(&p.card[i], i);
        p.of[i] = &p.card[i].device;
        memory_of[i] = 0;
    }
    /* memory that is not known has room for everything */
    must_plan(&p, 2, NULL, "0:0+4h");
    must_plan(&p, 2, (int32_t[]){ SPLIT_AUTOMATIC, 0 }, "0:0+4h");
    /* numbers */
    must_plan(&p, 2, (int32_t[]){ 1, 0 }, "0:0+1 1:1+3h");
    must_plan(&p, 2, (int32_t[]){ 3, 9 }, "0:0+3 1:3+1h");
    must_plan(&p, 2, (int32_t[]){ 0, 0 }, "1:0+4h");
    must_plan(&p, 2, (int32_t[]){ 4, 0 }, "0:0+4h");
    must_plan(&p, 2, (int32_t[]){ 99, 0 }, "0:0+4h");
    must_plan(&p, 3, (int32_t[]){ 1, 2, 0 }, "0:0+1 1:1+2 2:3+1h");
    must_plan(&p, 3, (int32_t[]){ 1, 0, 7 }, "0:0+1 2:1+3h");
    must_plan(&p, 3, (int32_t[]){ 1, SPLIT_AUTOMATIC, 7 }, "0:0+1 1:1+3h");
    must_plan(&p, 1, (int32_t[]){ 1 }, "0:0+4h");
    /* what a number of layers takes, by asking for it; then with memory for just that */
    for (int32_t n = 1; n <= LAYERS; n++) {
        must_plan(&p, 2, (int32_t[]){ n, 0 }, n < LAYERS ? (char[]){ '0', ':', '0', '+', (char)('0' + n), ' ', '1',
                  ':', (char)('0' + n), '+', (char)('0' + LAYERS - n), 'h', 0 } : "0:0+4h");
        some[n] = takes(&p.shares.share[0]);
        assert_true(p.shares.share[0].weights > 0 && p.shares.share[0].pages > 0 && p.shares.share[0].buffers > 0);
        assert_true(n == 1 || some[n] > some[n - 1]);
    }
    static const char *const by_memory[LAYERS + 1] = { "1:0+4h", "0:0+1 1:1+3h", "0:0+2 1:2+2h", "0:0+3 1:3+1h",
                                                       "0:0+4h" };
    for (int n = 1; n <= LAYERS; n++) {
        memory_of[0] = some[n] * 8 / 7 + 8;         /* an eighth is left alone */
        must_plan(&p, 2, NULL, by_memory[n]);
        memory_of[0] = some[n] * 8 / 7 - 16;
        must_plan(&p, 2, NULL, by_memory[n - 1]);
        assert_true(p.shares.n == 1 || p.shares.share[0].memory == memory_of[0]);
    }
    /* two cards that hold a layer each, and the rest; one device that is asked twice has its memory once */
    memory_of[0] = memory_of[1] = some[1] * 8 / 7 + 8;
    must_plan(&p, 2, NULL, "0:0+1 1:1+3h");
    p.of[1] = p.of[0];
    must_plan(&p, 3, NULL, "0:0+1 2:1+3h");
    subject_close(&p.x);
}

static void plans_that_are_refused(void **state)
{
    (void)state;
    static struct planned p;
    struct error err = { 0 };
    struct graph none = { .layers = 0 };
    pretend(&p.card[0], 0);
    pretend(&p.card[1], 1);
    p.of[0] = &p.card[0].device;
    p.of[1] = &p.card[1].device;
    memory_of[0] = memory_of[1] = 0;
    subject_open(&p.x, 5, 2, false);
    assert_int_equal(plan(&p, 0, NULL, &err), STRETTO_E_ARG);
    struct graph whole = p.x.graph;
    p.x.graph = none;
    error_clear(&err);
    assert_int_equal(plan(&p, 2, NULL, &err), STRETTO_E_UNSUP);
    p.x.graph = whole;
    for (uint64_t n = 1, reached = 1; reached; n++) {
        uint64_t before = mem_count();
        error_clear(&err);
        mem_fail_at(n);
        stretto_status s = plan(&p, 2, NULL, &err);
        reached = mem_count() - before >= n;
        mem_fail_at(0);
        assert_int_equal(s, reached ? STRETTO_E_NOMEM : STRETTO_OK);
    }
    subject_close(&p.x);
    /* no cut: a sentence for a number, and never a share that cannot be */
    for (uint64_t seed = 1, seen = 0; seen < 3; seed++) {
        assert_true(seed < 300);
        subject_open(&p.x, seed * 333, 2, true);
        error_clear(&err);
        stretto_status s = plan(&p, 2, (int32_t[]){ 1, 0 }, &err);
        if (s != STRETTO_OK) {
            assert_int_equal(s, STRETTO_E_UNSUP);
            assert_non_null(strstr(err.text, "cannot be cut before layer 1"));
            error_clear(&err);
            memory_of[0] = 1;
            assert_int_equal(plan(&p, 2, NULL, &err), STRETTO_OK);
            shares_are(&p, "1:0+2h");
            memory_of[0] = 0;
            seen++;
        }
        subject_close(&p.x);
    }
    device_lose(p.of[1], "gone");
    subject_open(&p.x, 5, 2, false);
    error_clear(&err);
    assert_int_equal(plan(&p, 2, NULL, &err), STRETTO_E_DEVICE);
    subject_close(&p.x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut), cmocka_unit_test(rows_that_are_no_number),
        cmocka_unit_test(cancelled_anywhere), cmocka_unit_test(lost_in_the_middle),
        cmocka_unit_test(closed_in_any_order), cmocka_unit_test(weights_of_another),
        cmocka_unit_test(too_many_rows), cmocka_unit_test(other_graphs), cmocka_unit_test(words),
        cmocka_unit_test(profile), cmocka_unit_test(what_members_say),
        cmocka_unit_test(joules_of_members), cmocka_unit_test(room),
        cmocka_unit_test(a_member_without_room), cmocka_unit_test(progress), cmocka_unit_test(allocations),
        cmocka_unit_test(plans), cmocka_unit_test(plans_that_are_refused) };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
