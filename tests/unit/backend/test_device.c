/* What backend.h promises of devices, on the cpu: names and levels, sharing, memory, closing and losing,
 * costs, and who multiplies. The graphs have weights of small whole numbers, so every order of adding them
 * gives the same float. */
#include "unit/unit.h"
#include "backend/cpu/linear/linear.h"
#include "base/memory.h"
#include <dirent.h>
#include <pthread.h>
#include <unistd.h>

enum { WIDTH = 32, MIDDLE = 24, VOCAB = 40, ROWS = 4, STEPS = 300 };

/* Row of vectors -> MIDDLE -> VOCAB logits. */
struct net {
    float first[MIDDLE * WIDTH], second[VOCAB * MIDDLE], x[ROWS * WIDTH];
    struct graph graph;
    struct weights *weights;
    struct program *program;
};

static stretto_status find(void *ud, const char *name, uint32_t n_in, uint32_t n_out,
                           struct param_bytes *out, struct error *err)
{
    const struct net *n = ud;
    (void)err;
    *out = (struct param_bytes){ .type = DT_F32, .n_in = n_in, .n_out = n_out,
                                 .data = strcmp(name, "first") ? n->second : n->first,
                                 .row_bytes = n_in * sizeof(float), .memory = true };
    return STRETTO_OK;
}

static void net_make(struct net *n, int seed)
{
    *n = (struct net){ 0 };
    for (int i = 0; i < MIDDLE * WIDTH; i++) n->first[i] = (float)((i * 7 + seed) % 5 - 2);
    for (int i = 0; i < VOCAB * MIDDLE; i++) n->second[i] = (float)((i * 5 + seed) % 7 - 3);
    for (int i = 0; i < ROWS * WIDTH; i++) n->x[i] = (float)((i * 3 + seed) % 9 - 4);
    struct graph_builder b = { .g = &n->graph, .layer = -1 };
    int32_t x = graph_linear(&b, graph_input(&b, WIDTH), "first", NULL, MIDDLE);
    n->graph.hidden = GRAPH_NONE;
    n->graph.logits = graph_linear(&b, graph_ask(&b, x), "second", NULL, VOCAB);
    assert_int_equal(b.status, STRETTO_OK);
}

static stretto_status net_upload(struct net *n, struct device *d, bool reference, struct error *e)
{
    struct binding binding = { n, find };
    struct upload_options o = { .threads = 2, .reference = reference };
    return device_upload(d, &n->weights, &n->graph, &binding, &o, e);
}

static const struct program_limits limits = { .max_rows = ROWS, .max_asks = ROWS, .strict = true,
                                              .threads = 3 };

static void net_open(struct net *n, int seed, struct device *d)
{
    struct error e = { 0 };
    net_make(n, seed);
    if (net_upload(n, d, false, &e) != STRETTO_OK ||
        device_compile(d, &n->program, &n->graph, n->weights, &limits, &e) != STRETTO_OK)
        print_error("%s\n", e.text);
    assert_non_null(n->program);
}

static void net_close(struct net *n)
{
    if (n->program) backend_cpu.program_close(n->program);
    if (n->weights) backend_cpu.weights_close(n->weights);
    graph_done(&n->graph);
}

static stretto_status net_run(struct net *n, struct device *d, float *logits, struct error *e)
{
    static const int32_t token[ROWS] = { -1, -2, -3, -4 }, at[ROWS] = { 0, 1, 2, 3 }, zero[ROWS],
                         parent[ROWS] = { -1, 0, 1, 2 };
    static const uint8_t given[ROWS], wants[ROWS] = { 4, 4, 4, 4 };
    struct answer answer[ROWS], *answers[ROWS];
    for (int i = 0; i < ROWS; i++) {
        answer[i] = (struct answer){ .logits = logits + i * VOCAB };
        answers[i] = &answer[i];
    }
    struct step_seq one = { .n_rows = ROWS };
    struct step s = { .n_rows = ROWS, .n_seqs = 1, .n_asks = ROWS, .n_heads = ROWS, .token = token,
                      .position = at, .seq = zero, .slot = at, .parent = parent, .given = given,
                      .vectors = n->x, .seqs = &one, .ask_row = at, .ask_wants = wants };
    return device_run(d, n->program, &s, answers, e);
}

/* By whole numbers, here. */
static void net_truth(const struct net *n, float *logits)
{
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VOCAB; v++) {
            double y = 0;
            for (int m = 0; m < MIDDLE; m++)
                for (int i = 0; i < WIDTH; i++)
                    y += (double)n->second[v * MIDDLE + m] * (double)n->first[m * WIDTH + i]
                       * (double)n->x[r * WIDTH + i];
            logits[r * VOCAB + v] = (float)y;
        }
}

static struct device *opened(const struct device_options *o)
{
    struct device_options none = { 0 };
    struct error e = { 0 };
    struct device *d;
    assert_int_equal(backend_open("cpu", o ? o : &none, &d, &e), STRETTO_OK);
    return d;
}

static void names_and_levels(void **state)
{
    (void)state;
    struct device_options o = { 0 };
    struct error e = { 0 };
    struct device *d = opened(NULL);
    device_close(d);
    assert_int_equal(backend_open(NULL, &o, &d, &e), STRETTO_OK);
    assert_string_equal(d->backend->name, backends[0]->name);
    device_close(d);
    assert_int_equal(backend_open("gpx", &o, &d, &e), STRETTO_E_ARG);
    assert_null(d);
    assert_non_null(strstr(e.text, "'gpx'"));
    assert_non_null(strstr(e.text, "cpu"));
    error_clear(&e);
    o.level = "mmx";
    assert_int_equal(backend_open("cpu", &o, &d, &e), STRETTO_E_ARG);
    assert_null(d);
    assert_non_null(strstr(e.text, "mmx"));
    device_close(NULL);
}

static int threads_here(void)
{
    DIR *dir = opendir("/proc/self/task");
    int n = 0;
    assert_non_null(dir);
    for (struct dirent *x; (x = readdir(dir));) n += x->d_name[0] != '.';
    closedir(dir);
    return n;
}

struct user { struct net *net; struct device *d; int wrong; };

static void *use(void *arg)
{
    struct user *u = arg;
    float want[ROWS * VOCAB], got[ROWS * VOCAB];
    struct error e = { 0 };
    net_truth(u->net, want);
    for (int i = 0; i < STEPS; i++) {
        memset(got, 0, sizeof got);
        u->wrong += net_run(u->net, u->d, got, &e) != STRETTO_OK || memcmp(want, got, sizeof got) != 0;
    }
    return NULL;
}

/* Two models, four programs, four users at once: one team of three threads. */
static void many_on_one_device(void **state)
{
    (void)state;
    enum { USERS = 4 };
    struct device *d = opened(NULL);
    struct net net[USERS];
    struct user user[USERS];
    pthread_t thread[USERS];
    int before = threads_here();
    for (int i = 0; i < USERS; i++) net_open(&net[i], i, d);
    int more = threads_here() - before;         /* a sanitizer may have begun one of its own by now */
    assert_true(more == 2 || more == 3);
    for (int i = 0; i < USERS; i++) {
        user[i] = (struct user){ &net[i], d, 0 };
        assert_int_equal(pthread_create(&thread[i], NULL, use, &user[i]), 0);
    }
    for (int i = 0; i < USERS; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < USERS; i++) assert_int_equal(user[i].wrong, 0);
    for (int i = 0; i < USERS; i++) net_close(&net[i]);
    device_close(d);
    for (int i = 0; i < 1000 && threads_here() > before + more - 2; i++) usleep(10000); /* leaving /proc */
    assert_int_equal(threads_here(), before + more - 2);
}

static void too_many_threads(void **state)
{
    (void)state;
    struct device *d = opened(NULL);
    struct net n;
    struct error e = { 0 };
    struct program_limits l = limits;
    struct program_bytes bytes;
    struct program *p;
    net_open(&n, 1, d);
    l.threads = 100000;
    assert_int_equal(device_plan(d, &n.graph, n.weights, &l, &bytes, &e), STRETTO_E_ARG);
    assert_int_equal(device_compile(d, &p, &n.graph, n.weights, &l, &e), STRETTO_E_ARG);
    assert_non_null(strstr(e.text, "100000 threads"));
    l.threads = 0;
    assert_int_equal(device_plan(d, &n.graph, n.weights, &l, &bytes, &e), STRETTO_OK);
    assert_true(bytes.threads >= 1);
    net_close(&n);
    device_close(d);
}

/* The limit is the device's, for all that stands on it together. */
static void memory_is_shared(void **state)
{
    (void)state;
    struct device *d = opened(NULL);
    struct net a, b;
    net_open(&a, 1, d);
    uint64_t need = d->backend->weights_bytes(a.weights);
    net_close(&a);
    device_close(d);
    d = opened(&(struct device_options){ .memory = 2 * need - 1 });
    struct error e = { 0 };
    net_make(&a, 1);
    net_make(&b, 2);
    assert_int_equal(net_upload(&a, d, false, &e), STRETTO_OK);
    assert_int_equal(d->backend->memory(d), need - 1);
    assert_int_equal(net_upload(&b, d, false, &e), STRETTO_E_NOMEM);
    assert_non_null(strstr(e.text, "the weights take"));
    net_close(&a);
    error_clear(&e);
    assert_int_equal(net_upload(&b, d, false, &e), STRETTO_OK);
    net_close(&b);
    assert_int_equal(d->backend->memory(d), 2 * need - 1);
    device_close(d);
}

static void nothing_begins(struct net *n, struct device *d, const char *words)
{
    float logits[ROWS * VOCAB];
    struct weights *w;
    struct program *p;
    struct program_bytes bytes;
    struct binding binding = { n, find };
    struct upload_options o = { 0 };
    stretto_status s[4];
    struct error e[4] = { 0 };
    s[0] = net_run(n, d, logits, &e[0]);
    s[1] = device_upload(d, &w, &n->graph, &binding, &o, &e[1]);
    s[2] = device_plan(d, &n->graph, n->weights, &limits, &bytes, &e[2]);
    s[3] = device_compile(d, &p, &n->graph, n->weights, &limits, &e[3]);
    assert_null(w);
    assert_null(p);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(s[i], STRETTO_E_DEVICE);
        assert_non_null(strstr(e[i].text, words));
    }
}

static void closed_and_lost(void **state)
{
    (void)state;
    struct device *d = opened(NULL);
    struct net n;
    float logits[ROWS * VOCAB];
    struct error e = { 0 };
    net_open(&n, 1, d);
    assert_int_equal(net_run(&n, d, logits, &e), STRETTO_OK);
    device_close(d);                   /* what stands on it keeps its memory until it is closed too */
    nothing_begins(&n, d, "it was closed");
    net_close(&n);

    d = opened(NULL);
    net_open(&n, 1, d);
    device_lose(d, "the driver said 'fallen off the bus'");
    device_lose(d, "another reason");
    nothing_begins(&n, d, "fallen off the bus");
    net_close(&n);
    device_close(d);
}

static void another_device(void **state)
{
    (void)state;
    struct device *a = opened(NULL), *b = opened(NULL);
    struct net n;
    struct program *p;
    struct error e = { 0 };
    net_open(&n, 1, a);
    assert_int_equal(device_compile(b, &p, &n.graph, n.weights, &limits, &e), STRETTO_E_ARG);
    assert_non_null(strstr(e.text, "another device"));
    net_close(&n);
    device_close(a);
    device_close(b);
}

/* The table's own points exactly, and lines between and beyond. */
static void costs(void **state)
{
    (void)state;
    static const uint32_t rows[] = { 1, 2, 3, 16, 24, 49, 66 };
    float of[7];
    struct device *d = opened(&(struct device_options){ .level = "ref" });
    d->backend->costs(d, rows, of, 7);
    assert_true(of[0] == 1 && of[1] == 1.10F && of[3] == 4.6F && of[5] == 13.5F);
    assert_true(of[2] > 1.25F && of[2] < 1.27F && of[4] > 6.79F && of[4] < 6.81F);
    assert_true(of[6] > 17.9F && of[6] < 18.1F);
    device_close(d);
    d = opened(NULL);                  /* whatever this machine has: more rows cost more */
    d->backend->costs(d, rows, of, 7);
    assert_true(of[0] == 1);
    for (int i = 1; i < 7; i++) assert_true(of[i] > of[i - 1]);
    device_close(d);
}

/* ---- providers ------------------------------------------------------------------------------- */

/* A provider that keeps its panels elsewhere and multiplies in doubles; it takes layers of MIDDLE outputs. */
static struct { atomic_int asked, made, runs, closed; int refuse; } elsewhere;

static bool claims(const struct cpu_device *d, const struct param_bytes *s, bool reference,
                   struct weight *w)
{
    (void)d;
    (void)reference;
    if (s->n_out != MIDDLE) return false;
    w->type = DT_F32;
    w->panel_bytes = 64;
    w->forms = 0;
    return true;
}

static stretto_status upload(const struct weight *w, const struct linear_columns *from, float *scratch,
                             void *panel)
{
    float **at = panel;
    (void)scratch;
    if (elsewhere.refuse && atomic_fetch_add(&elsewhere.asked, 1) >= 1) return STRETTO_E_NOMEM;
    *at = mem_zalloc((size_t)PANEL_COLS * w->n_in, sizeof **at);
    if (!*at) return STRETTO_E_NOMEM;
    for (size_t c = 0; c < from->n; c++)
        memcpy(*at + c * w->n_in, (const char *)from->at + c * from->stride, w->n_in * sizeof(float));
    atomic_fetch_add(&elsewhere.made, 1);
    return STRETTO_OK;
}

static void run(const struct cpu_device *d, const struct weight *w, const struct linear_job *job)
{
    (void)d;
    atomic_fetch_add(&elsewhere.runs, 1);
    for (uint32_t p = 0; p < job->n_panels; p++) {
        const float *const *panel = linear_panel(w, job->panel + p);
        for (size_t r = 0; r < job->rows; r++)
            for (size_t c = 0; c < PANEL_COLS; c++) {
                double y = 0;
                for (size_t i = 0; i < w->n_in; i++)
                    y += (double)(*panel)[c * w->n_in + i] * (double)job->x->f[r * job->x->ldf + i];
                job->y[r * job->ldy + p * PANEL_COLS + c] = (float)y;
            }
    }
}

static void close_panel(const struct weight *w, void *panel)
{
    float **at = panel;
    (void)w;
    if (*at) atomic_fetch_add(&elsewhere.closed, 1);
    mem_free(*at);
}

static const struct linear_provider provider_elsewhere = {
    .name = "elsewhere", .claims = claims, .upload = upload, .run = run, .close = close_panel };
static const struct linear_provider *const with_elsewhere[] = { &provider_elsewhere, &provider_float32,
                                                                &provider_panels, NULL };

static struct device *with_provider(bool refuse)
{
    struct device *d = opened(NULL);
    ((struct cpu_device *)(void *)d)->providers = with_elsewhere;
    memset(&elsewhere, 0, sizeof elsewhere);
    elsewhere.refuse = refuse;
    return d;
}

static const struct linear_provider *provider_of(const struct net *n, const char *param)
{
    return n->weights->weight[graph_param_find(&n->graph, param)].by;
}

static void a_provider_takes_what_it_claims(void **state)
{
    (void)state;
    struct device *d = with_provider(false);
    struct net n;
    float want[ROWS * VOCAB], got[ROWS * VOCAB];
    struct error e = { 0 };
    net_open(&n, 3, d);
    assert_ptr_equal(provider_of(&n, "first"), &provider_elsewhere);
    assert_ptr_equal(provider_of(&n, "second"), &provider_panels);
    net_truth(&n, want);
    assert_int_equal(net_run(&n, d, got, &e), STRETTO_OK);
    assert_memory_equal(want, got, sizeof got);
    assert_int_equal(atomic_load(&elsewhere.made), (MIDDLE + PANEL_COLS - 1) / PANEL_COLS);
    assert_true(atomic_load(&elsewhere.runs) > 0);
    net_close(&n);
    assert_int_equal(atomic_load(&elsewhere.closed), atomic_load(&elsewhere.made));
    device_close(d);
}

static void the_float32_path_is_a_provider(void **state)
{
    (void)state;
    struct device *d = opened(NULL);
    struct net n;
    struct error e = { 0 };
    for (int reference = 0; reference < 2; reference++) {
        const struct linear_provider *by = reference ? &provider_float32 : &provider_panels;
        net_make(&n, 4);
        assert_int_equal(net_upload(&n, d, reference, &e), STRETTO_OK);
        assert_ptr_equal(provider_of(&n, "first"), by);
        assert_ptr_equal(provider_of(&n, "second"), by);
        net_close(&n);
    }
    device_close(d);
}

static void a_provider_that_fails(void **state)
{
    (void)state;
    struct device *d = with_provider(true);
    struct net n;
    struct error e = { 0 };
    net_make(&n, 5);
    assert_int_equal(net_upload(&n, d, false, &e), STRETTO_E_DEVICE);
    assert_null(n.weights);
    assert_non_null(strstr(e.text, "first"));
    assert_non_null(strstr(e.text, "elsewhere"));
    assert_int_equal(atomic_load(&elsewhere.closed), atomic_load(&elsewhere.made));
    net_close(&n);
    device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_levels), cmocka_unit_test(many_on_one_device),
        cmocka_unit_test(too_many_threads), cmocka_unit_test(memory_is_shared),
        cmocka_unit_test(closed_and_lost), cmocka_unit_test(another_device), cmocka_unit_test(costs),
        cmocka_unit_test(a_provider_takes_what_it_claims),
        cmocka_unit_test(the_float32_path_is_a_provider), cmocka_unit_test(a_provider_that_fails) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
