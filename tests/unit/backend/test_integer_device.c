/* The integer backend as a device: random graphs answer the same bits by one thread and by three; what it cannot
 * compute is refused by name; a cancelled step and a closed device say so; a row that is no number disturbs nobody;
 * every allocation may fail. What is computed is golden.integer's business. */
#include "base/memory.h"
#include "cluster/team.h"
#include "unit/backend/random_graph.h"

enum { GRAPHS = 120, PAGES = SEQS * SEQ_PAGES };

struct parts { struct graph graph; struct parameters x; struct device *device; struct weights *weights; };

static bool open_parts(struct parts *p, uint32_t seed)
{
    struct error err = { 0 };
    struct device_options none = { 0 };
    state_of_noise = seed;
    *p = (struct parts){ 0 };
    make_graph(&p->graph, false, &err);
    p->x = (struct parameters){ .g = &p->graph, .p = calloc(p->graph.n_params + 1, sizeof *p->x.p) };
    for (size_t i = 0; i < p->graph.n_params; i++) make_parameter(&p->x, i);
    return backend_open("integer", &none, &p->device, &err) == STRETTO_OK;
}

static stretto_status upload(struct parts *p, struct error *err)
{
    struct binding b = { &p->x, find };
    struct upload_options o = { .threads = 1 };
    return device_upload(p->device, &p->weights, &p->graph, &b, &o, err);
}

static void close_parts(struct parts *p)
{
    p->device->backend->weights_close(p->weights);
    device_close(p->device);
    free_parameters(&p->x);
    graph_done(&p->graph);
}

static struct program_limits limits_of(const struct graph *g, unsigned threads)
{
    struct program_limits l = { .max_rows = MAX_ROWS, .max_asks = MAX_ROWS, .max_seq_pages = SEQ_PAGES,
                                .cache = CACHE_F16, .threads = threads };
    for (uint32_t i = 0; i < g->n_groups; i++) l.max_pages[i] = PAGES;
    return l;
}

/* What every ask of a step got, as bytes that can be compared. */
struct got { struct answer a[MAX_ROWS]; float logits[MAX_ROWS][VOCAB_MAX], hidden[MAX_ROWS][MAX_WIDTH]; };

static stretto_status run(const struct parts *p, struct program *program, const struct step *s, struct got *to,
                          struct error *err)
{
    struct answer *at[MAX_ROWS];
    memset(to, 0, sizeof *to);
    for (size_t i = 0; i < s->n_asks; i++) {
        to->a[i] = (struct answer){ .logits = to->logits[i], .hidden = to->hidden[i] };
        at[i] = &to->a[i];
    }
    stretto_status st = device_run(p->device, program, s, at, err);
    for (size_t i = 0; i < s->n_asks; i++) to->a[i].logits = to->a[i].hidden = NULL;
    return st;
}

static void graphs(void **state)
{
    static struct got one, three;
    static struct rows r;
    int ran = 0;
    (void)state;
    for (uint32_t seed = 1; seed <= GRAPHS; seed++) {
        struct parts p;
        struct error err = { 0 };
        struct program *a = NULL, *b = NULL;
        int32_t committed[SEQS] = { 0 };
        assert_true(open_parts(&p, seed));
        assert_int_equal(upload(&p, &err), STRETTO_OK);
        struct program_limits l = limits_of(&p.graph, 1);
        stretto_status s = device_compile(p.device, &a, &p.graph, p.weights, &l, &err);
        l.threads = 3;
        assert_int_equal(device_compile(p.device, &b, &p.graph, p.weights, &l, NULL), s);
        if (s != STRETTO_OK) assert_int_equal(s, STRETTO_E_UNSUP);
        else ran++;
        for (int step = 0; step < 3 && s == STRETTO_OK; step++) {
            make_step(&r, committed, step ? RANDOM_FEW : 40, step == 2 && !p.graph.bidirectional, &p.graph);
            add_asks(&r, step == 1, true, &p.graph);
            assert_int_equal(run(&p, a, &r.step, &one, &err), STRETTO_OK);
            assert_int_equal(run(&p, b, &r.step, &three, &err), STRETTO_OK);
            assert_memory_equal(&one, &three, sizeof one);
            for (size_t i = 0; i < r.step.n_asks; i++) assert_int_equal(one.a[i].status, STRETTO_OK);
            for (int32_t q = 0; q < SEQS && !p.graph.bidirectional; q++) committed[q] += r.seqs[q].n_rows;
        }
        p.device->backend->program_close(a);
        p.device->backend->program_close(b);
        close_parts(&p);
    }
    print_message("%d of %d graphs ran\n", ran, GRAPHS);
    assert_true(ran > GRAPHS / 2);
}

/* The first seed from `at` on whose graph is computed. */
static uint32_t usable(uint32_t at)
{
    for (;; at++) {
        struct parts p;
        struct program_bytes bytes;
        struct program *a = NULL;
        struct error err = { 0 };
        assert_true(open_parts(&p, at));
        stretto_status s = upload(&p, &err);
        struct program_limits l = limits_of(&p.graph, 1);
        if (s == STRETTO_OK) s = device_plan(p.device, &p.graph, p.weights, &l, &bytes, &err);
        if (s == STRETTO_OK) s = device_compile(p.device, &a, &p.graph, p.weights, &l, &err);
        bool attends = p.graph.n_groups > 0;
        bool vector = p.graph.nodes[p.graph.values[0].made_by].embed == EMBED_VECTOR;
        if (s == STRETTO_OK) p.device->backend->program_close(a);
        close_parts(&p);
        if (s == STRETTO_OK && attends && !vector) return at;
    }
}

static void refusals(void **state)
{
    struct parts p;
    struct error err = { 0 };
    struct program *a;
    struct weights *w;
    (void)state;
    assert_true(open_parts(&p, usable(1)));
    struct binding b = { &p.x, find };
    struct upload_options o = { .reference = true };
    assert_int_equal(device_upload(p.device, &w, &p.graph, &b, &o, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "--reference"));
    err = (struct error){ 0 };
    o = (struct upload_options){ .scales = "/nowhere/scales.gguf" };
    assert_true(device_upload(p.device, &w, &p.graph, &b, &o, &err) != STRETTO_OK);
    assert_non_null(strstr(err.text, "/nowhere/scales.gguf"));
    assert_int_equal(upload(&p, &err), STRETTO_OK);
    struct program_limits l = limits_of(&p.graph, 1);
    l.cache = CACHE_Q8_0;
    err = (struct error){ 0 };
    assert_int_equal(device_compile(p.device, &a, &p.graph, p.weights, &l, &err), STRETTO_E_UNSUP);
    assert_non_null(strstr(err.text, "q8_0"));
    l = limits_of(&p.graph, TEAM_MAX + 1);
    assert_int_equal(device_compile(p.device, &a, &p.graph, p.weights, &l, NULL), STRETTO_E_ARG);
    for (size_t i = 0; i < p.graph.n_params; i++) {
        float *f = p.x.p[i].data, was = f[0];
        f[0] = NAN;
        struct weights *again;
        err = (struct error){ 0 };
        o = (struct upload_options){ .threads = 1 };
        stretto_status s = device_upload(p.device, &again, &p.graph, &b, &o, &err);
        if (s == STRETTO_OK) p.device->backend->weights_close(again);      /* a table: its rows say so */
        else {
            assert_int_equal(s, STRETTO_E_FORMAT);
            assert_non_null(strstr(err.text, p.graph.params[i].name));
        }
        f[0] = was;
    }
    close_parts(&p);
}

static bool at_once(void *ud) { (void)ud; return true; }

static void cancelled(void **state)
{
    static struct got got;
    static struct rows r;
    struct parts p;
    struct error err = { 0 };
    struct program *a;
    int32_t committed[SEQS] = { 0 };
    (void)state;
    assert_true(open_parts(&p, usable(40)));
    assert_int_equal(upload(&p, &err), STRETTO_OK);
    struct program_limits l = limits_of(&p.graph, 2);
    assert_int_equal(device_compile(p.device, &a, &p.graph, p.weights, &l, &err), STRETTO_OK);
    make_step(&r, committed, 40, false, &p.graph);
    add_asks(&r, true, true, &p.graph);
    r.step.cancel = at_once;
    assert_int_equal(run(&p, a, &r.step, &got, &err), STRETTO_E_CANCEL);
    r.step.cancel = NULL;
    assert_int_equal(run(&p, a, &r.step, &got, &err), STRETTO_OK);
    struct device *d = p.device;
    device_hold(d);
    device_close(d);
    err = (struct error){ 0 };
    assert_int_equal(run(&p, a, &r.step, &got, &err), STRETTO_E_DEVICE);
    d->backend->program_close(a);
    d->backend->weights_close(p.weights);
    device_drop(d);
    free_parameters(&p.x);
    graph_done(&p.graph);
}

/* A row whose vector is no number says so, and the other sequence's rows are as they were. */
static void no_number(void **state)
{
    static struct got good, bad;
    static struct rows r;
    int seen = 0;
    (void)state;
    for (uint32_t seed = 1; seed <= GRAPHS && seen < 5; seed++) {
        struct parts p;
        struct error err = { 0 };
        struct program *a = NULL;
        int32_t committed[SEQS] = { 0 };
        assert_true(open_parts(&p, seed));
        assert_int_equal(upload(&p, &err), STRETTO_OK);
        struct program_limits l = limits_of(&p.graph, 2);
        if (device_compile(p.device, &a, &p.graph, p.weights, &l, &err) == STRETTO_OK) {
            make_step(&r, committed, 30, false, &p.graph);
            add_asks(&r, true, true, &p.graph);
            uint32_t width = p.graph.values[0].width;
            for (uint32_t i = 0; i < width; i++) r.vectors[i] = 1;
            r.token[0] = -1;
            assert_int_equal(run(&p, a, &r.step, &good, &err), STRETTO_OK);
            r.vectors[0] = NAN;
            assert_int_equal(run(&p, a, &r.step, &bad, &err), STRETTO_OK);
            for (size_t i = 0; i < r.step.n_asks; i++) {
                if (r.seq[r.ask_row[i]] == 1) {
                    assert_memory_equal(good.logits[i], bad.logits[i], sizeof bad.logits[i]);
                    assert_memory_equal(good.hidden[i], bad.hidden[i], sizeof bad.hidden[i]);
                    assert_int_equal(bad.a[i].status, STRETTO_OK);
                } else if (r.ask_row[i] == 0 && bad.a[i].status == STRETTO_E_NAN) seen++;
            }
        }
        if (a) p.device->backend->program_close(a);
        close_parts(&p);
    }
    assert_true(seen >= 5);
}

/* Until nothing fails any more. */
static void memory_fails(void **state)
{
    uint32_t seed = usable(10);
    int failed = 0;
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct parts p;
        struct error err = { 0 };
        struct program *a = NULL;
        assert_true(open_parts(&p, seed));
        uint64_t before = mem_count();
        mem_fail_at(n);
        stretto_status s = upload(&p, &err);
        struct program_limits l = limits_of(&p.graph, 1);
        if (s == STRETTO_OK) s = device_compile(p.device, &a, &p.graph, p.weights, &l, &err);
        uint64_t made = mem_count() - before;
        mem_fail_at(0);
        if (s == STRETTO_OK) p.device->backend->program_close(a);
        close_parts(&p);
        if (s == STRETTO_OK && made < n) break;
        if (s == STRETTO_OK) continue;             /* what failed can be done without */
        assert_int_equal(s, STRETTO_E_NOMEM);
        failed++;
    }
    print_message("%d allocations failed in turn\n", failed);
    assert_true(failed >= 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(graphs), cmocka_unit_test(refusals), cmocka_unit_test(cancelled),
        cmocka_unit_test(no_number), cmocka_unit_test(memory_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
