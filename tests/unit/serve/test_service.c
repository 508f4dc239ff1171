/* The service on a backend that computes nothing: whoever submits, cancels, sleeps and goes, what a job writes is
 * what plain decoding writes behind its prompt. */
#include "base/clock.h"
#include "base/memory.h"
#include "serve/service_int.h"
#include "unit/engine/fake.h"
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

enum { CONTEXT = 400 };

struct got {                         /* what a job gave */
    int32_t ids[CONTEXT * 64];
    uint32_t n, started;
    struct job_event done;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t news = PTHREAD_COND_INITIALIZER;
static uint64_t rung;

static void ring(void *ud)
{
    (void)ud;
    pthread_mutex_lock(&lock);
    rung++;
    pthread_cond_broadcast(&news);
    pthread_mutex_unlock(&lock);
}

static struct service *open_service(struct fake *f, uint32_t context, uint32_t slots, uint32_t pool,
                                    const char *words)
{
    struct error err = { 0 };
    struct service *s;
    struct service_options o = { .engine = { .context = context, .sequences = slots, .pool_tokens = pool,
                                             .max_rows = 64 }, .wake = ring };
    assert_int_equal(decode_parse(words, &o.choice, &err), STRETTO_OK);
    assert_int_equal(service_open(&s, fake_model(f, context), &o, &err), STRETTO_OK);
    return s;
}

static struct job_options asks(const int32_t *ids, uint32_t n, int64_t most)
{
    return (struct job_options){ .ids = ids, .n_ids = n, .max_tokens = most, .logprobs = -1,
                                 .how = { .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64 } };
}

/* Reads what is there; true: it is over. */
static bool read_some(struct job *j, struct got *g)
{
    struct job_event e;
    while (job_read(j, &e)) {
        g->started += e.kind == JOB_STARTED;
        for (uint32_t i = 0; i < e.n_ids; i++) g->ids[g->n++] = e.ids[i];
        if (e.kind == JOB_DONE) {
            g->done = e;
            assert_false(job_read(j, &e));
            return true;
        }
    }
    return false;
}

static void read_all(struct job *j, struct got *g)
{
    g->n = g->started = 0;
    for (;;) {
        pthread_mutex_lock(&lock);
        uint64_t before = rung;
        pthread_mutex_unlock(&lock);
        if (read_some(j, g)) return;
        pthread_mutex_lock(&lock);
        while (rung == before) pthread_cond_wait(&news, &lock);
        pthread_mutex_unlock(&lock);
    }
}

static void prompt_of(uint64_t seed, int32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        ids[i] = (int32_t)((i < n / 2 ? random_mix(i) : random_mix(seed * 1000 + i)) % FAKE_NAN);
}

static void check(const struct got *g, const int32_t *ids, uint32_t n)
{
    static _Thread_local int32_t text[CONTEXT * 64];
    memcpy(text, ids, n * sizeof *ids);
    for (uint32_t i = 0; i < g->n; i++) {
        text[n + i] = fake_next(text, n + i);
        assert_int_equal(g->ids[i], text[n + i]);
    }
}

static void test_one_job(void **state)
{
    (void)state;
    static struct got g;
    struct fake f;
    struct error err = { 0 };
    struct job *j;
    int32_t ids[150];
    struct service *s = open_service(&f, CONTEXT, 4, 0, "auto");
    prompt_of(1, ids, 150);
    struct job_options o = asks(ids, 150, 30);
    o.ud = &g;
    assert_int_equal(service_submit(s, &o, &j, NULL, &err), STRETTO_OK);
    assert_ptr_equal(job_ud(j), &g);
    read_all(j, &g);
    assert_int_equal(g.started, 1);
    assert_int_equal(g.n, 30);
    check(&g, ids, 150);
    assert_int_equal(g.done.finish, JOB_LENGTH);
    assert_int_equal(g.done.usage.prompt, 150);
    assert_int_equal(g.done.usage.written, 30);
    job_close(j);
    o.max_tokens = -1;                     /* until the context is full; the prompt is there already */
    assert_int_equal(service_submit(s, &o, &j, NULL, &err), STRETTO_OK);
    read_all(j, &g);
    assert_int_equal(g.n, CONTEXT - 150);
    check(&g, ids, 150);
    assert_int_equal(g.done.finish, JOB_CONTEXT);
    assert_int_equal(g.done.usage.cached, 149);
    job_close(j);
    o.max_tokens = 0;                      /* only reads */
    assert_int_equal(service_submit(s, &o, &j, NULL, &err), STRETTO_OK);
    read_all(j, &g);
    assert_int_equal(g.n, 0);
    assert_int_equal(g.done.finish, JOB_LENGTH);
    job_close(j);
    service_close(s);
}

static void test_refusals(void **state)
{
    (void)state;
    struct fake f;
    struct error err = { 0 };
    struct job *j;
    struct job_busy busy;
    static int32_t ids[CONTEXT];
    const char *stops[20] = { "a", "b" };
    struct service *s = open_service(&f, CONTEXT, 2, 0, "plain");
    struct job_options o = asks(ids, CONTEXT, 1);
    assert_int_equal(service_submit(s, &o, &j, &busy, &err), STRETTO_E_FULL);
    assert_int_equal(busy.context, CONTEXT);
    assert_null(j);
    const struct { struct job_options o; stretto_status status; } bad[] = {
        { asks(NULL, 0, 1), STRETTO_E_ARG }, { asks(ids, 3, -2), STRETTO_E_ARG },
        { asks((int32_t[]){ FAKE_VOCAB }, 1, 1), STRETTO_E_ARG }, { asks((int32_t[]){ -1 }, 1, 1), STRETTO_E_ARG } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error_clear(&err);
        assert_int_equal(service_submit(s, &bad[i].o, &j, &busy, &err), bad[i].status);
    }
    o = asks(ids, 3, 1);
    o.how.temperature = -1;
    assert_int_equal(service_submit(s, &o, &j, &busy, &err), STRETTO_E_ARG);
    o = asks(ids, 3, 1);
    o.stops = stops;
    o.n_stops = JOB_STOPS + 1;
    assert_int_equal(service_submit(s, &o, &j, &busy, &err), STRETTO_E_ARG);
    stops[1] = "";
    o.n_stops = 2;
    assert_int_equal(service_submit(s, &o, &j, &busy, &err), STRETTO_E_ARG);
    service_drain(s);
    o = asks(ids, 3, 1);
    assert_int_equal(service_submit(s, &o, &j, &busy, &err), STRETTO_E_DEVICE);
    service_close(s);
}

/* Handles outlive the service, and what waits is told. */
static void test_close_with_jobs(void **state)
{
    (void)state;
    static struct got g;
    struct fake f;
    struct error err = { 0 };
    struct job *j[8];
    int32_t ids[30];
    struct service *s = open_service(&f, 1 << 14, 2, 0, "plain");
    prompt_of(3, ids, 30);
    struct job_options o = asks(ids, 30, -1);
    for (int i = 0; i < 8; i++) assert_int_equal(service_submit(s, &o, &j[i], NULL, &err), STRETTO_OK);
    job_close(j[7]);
    service_close(s);
    for (int i = 0; i < 7; i++) {
        g.n = 0;
        assert_true(read_some(j[i], &g));
        assert_int_equal(g.done.finish, JOB_CANCELLED);
        check(&g, ids, 30);
        job_close(j[i]);
    }
}

/* Nobody reads a long answer: it pauses, others go on, and when it is read it goes on too. */
static void test_slow_reader(void **state)
{
    (void)state;
    static struct got g;
    struct fake f;
    struct error err = { 0 };
    struct job *slow, *quick;
    int32_t ids[30];
    struct service *s = open_service(&f, 12000, 2, 0, "plain");
    prompt_of(4, ids, 30);
    struct job_options o = asks(ids, 30, 8000);
    assert_int_equal(service_submit(s, &o, &slow, NULL, &err), STRETTO_OK);
    struct service_state x;
    struct service_slot slot[4];
    do service_look(s, &x, slot, 4);       /* until it stands still */
    while (!x.parked);
    assert_true(x.written_tokens > 1000);
    assert_true(x.written_tokens < 8000);
    assert_int_equal(x.running, 0);
    assert_int_equal(x.parked, 1);
    assert_int_equal(slot[0].parked + slot[1].parked + slot[2].parked + slot[3].parked, 1);
    o.max_tokens = 50;
    assert_int_equal(service_submit(s, &o, &quick, NULL, &err), STRETTO_OK);
    read_all(quick, &g);
    assert_int_equal(g.n, 50);
    job_close(quick);
    read_all(slow, &g);
    assert_int_equal(g.n, 8000);
    check(&g, ids, 30);
    job_close(slow);
    service_close(s);
}

/* One client has taken all places and waits for more. Another one's job does not wait for them: somebody gives his
 * up, and what he writes is the same. */
static void test_fair_places(void **state)
{
    enum { FLOOD = 12, LONG = 1500 };
    (void)state;
    static struct got g;
    struct fake f;
    struct error err = { 0 };
    struct job *j[FLOOD], *other;
    int32_t ids[100];
    struct service_state x;
    struct service *s = open_service(&f, 1 << 14, 4, 0, "plain");
    fake_step_ns = 100000;
    prompt_of(1, ids, 100);
    struct job_options o = asks(ids, 100, LONG);
    o.client = "flood";
    for (int i = 0; i < FLOOD; i++) assert_int_equal(service_submit(s, &o, &j[i], NULL, &err), STRETTO_OK);
    do service_look(s, &x, NULL, 0);
    while (x.running < 4 || x.written_tokens < 100);
    o.client = "other";
    o.max_tokens = 30;
    assert_int_equal(service_submit(s, &o, &other, NULL, &err), STRETTO_OK);
    read_all(other, &g);
    check(&g, ids, 100);
    job_close(other);
    service_look(s, &x, NULL, 0);
    assert_int_equal(x.preempted, 1);
    assert_true(x.waiting > 0);
    fake_step_ns = 0;
    for (int i = 0; i < FLOOD; i++) {
        read_all(j[i], &g);
        assert_int_equal(g.n, LONG);
        check(&g, ids, 100);
        job_close(j[i]);
    }
    service_look(s, &x, NULL, 0);
    assert_int_equal(x.written_tokens, FLOOD * LONG + 30);
    assert_true(x.read_cost > 0 && x.write_cost > 0);
    service_close(s);
}

/* Reads until one of them is over. */
static struct job *wait_for(struct job *const *j, struct got *g, size_t n)
{
    for (;;) {
        pthread_mutex_lock(&lock);
        uint64_t before = rung;
        pthread_mutex_unlock(&lock);
        for (size_t i = 0; i < n; i++)
            if (j[i] && read_some(j[i], &g[i])) return j[i];
        pthread_mutex_lock(&lock);
        while (rung == before) pthread_cond_wait(&news, &lock);
        pthread_mutex_unlock(&lock);
    }
}

/* What is expected makes it quick, also behind a place where it is wrong and one where it lacks something; the text
 * is the same. */
static void test_prediction(void **state)
{
    enum { PROMPT = 60, WRITE = 300 };
    (void)state;
    static struct got g;
    struct fake f;
    struct error err = { 0 };
    struct job *j;
    struct decode_choice lookup;
    int32_t text[PROMPT + WRITE], expected[WRITE];
    struct service *s = open_service(&f, CONTEXT, 2, 0, "auto");
    prompt_of(1, text, PROMPT);
    for (uint32_t i = PROMPT; i < PROMPT + WRITE; i++) text[i] = fake_next(text, i);
    memcpy(expected, text + PROMPT, sizeof expected);
    expected[100] = (expected[100] + 1) % FAKE_NAN;
    memmove(expected + 200, expected + 203, (WRITE - 203) * sizeof *expected);
    assert_int_equal(decode_parse("lookup", &lookup, &err), STRETTO_OK);
    for (int with = 0; with < 2; with++) {
        struct job_options o = asks(text, PROMPT, WRITE);
        o.choice = &lookup;
        o.prediction = expected;
        o.n_prediction = with ? WRITE - 3 : 0;
        assert_int_equal(service_submit(s, &o, &j, NULL, &err), STRETTO_OK);
        read_all(j, &g);
        assert_int_equal(g.n, WRITE);
        check(&g, text, PROMPT);
        if (with) assert_in_range(g.done.usage.steps, 1, 40);
        else assert_true(g.done.usage.steps > 80);
        job_close(j);
    }
    service_close(s);
}

/* Four ask the same, one reads it; when that one is cancelled another does. */
static void test_same_beginning(void **state)
{
    (void)state;
    static struct got g;
    struct fake f;
    struct error err = { 0 };
    struct job *j[4];
    int32_t ids[300];
    struct service_state x;
    struct service *s = open_service(&f, CONTEXT, 4, 0, "plain");
    prompt_of(1, ids, 300);
    fake_step_ns = 1000000;
    for (int round = 0; round < 2; round++) {
        struct job_options o = asks(ids, 300, 20);
        o.salt = (uint64_t)round;
        for (int i = 0; i < 4; i++) {
            assert_int_equal(service_submit(s, &o, &j[i], NULL, &err), STRETTO_OK);
            do service_look(s, &x, NULL, 0);
            while (!i && !x.running);
        }
        if (round) job_cancel(j[0]);
        for (int i = 0; i < 4; i++) {
            read_all(j[i], &g);
            check(&g, ids, 300);
            assert_int_equal(g.done.finish, round && !i ? JOB_CANCELLED : JOB_LENGTH);
            if (i > round) assert_true(g.done.usage.cached >= 192);     /* of 256 that it might wait for */
            job_close(j[i]);
        }
    }
    fake_step_ns = 0;
    service_look(s, &x, NULL, 0);
    assert_true(x.prompt_tokens <= 300 + 3 * 108 + 300 + 300 + 2 * 108);
    service_close(s);
}

/* One place, and somebody has it for long: the other one gets it after a while, and they take turns. */
static void test_turns(void **state)
{
    (void)state;
    static struct got g[2];
    struct fake f;
    struct error err = { 0 };
    struct job *j[2];
    int32_t ids[20];
    struct service_state x;
    struct service *s;
    struct service_options so = { .engine = { .context = CONTEXT, .sequences = 1 }, .wake = ring, .quantum = 0.02 };
    assert_int_equal(service_open(&s, fake_model(&f, CONTEXT), &so, &err), STRETTO_OK);
    prompt_of(1, ids, 20);
    fake_step_ns = 1000000;
    for (int i = 0; i < 2; i++) {
        struct job_options o = asks(ids, 20, i ? 100 : 350);
        o.client = i ? "short" : "long";
        assert_int_equal(service_submit(s, &o, &j[i], NULL, &err), STRETTO_OK);
        do service_look(s, &x, NULL, 0);
        while (!x.running);
    }
    for (int i = 2; i-- > 0;) {
        read_all(j[i], &g[i]);
        check(&g[i], ids, 20);
        assert_int_equal(g[i].done.finish, JOB_LENGTH);
        if (!i) break;
        service_look(s, &x, NULL, 0);
        assert_true(x.running + x.parked + x.waiting > 0);
    }
    service_look(s, &x, NULL, 0);
    assert_true(x.preempted >= 2);
    fake_step_ns = 0;
    job_close(j[0]);
    job_close(j[1]);
    service_close(s);
}

/* Nobody reads or closes meanwhile: those that wait get their places all the same. */
static void test_unattended(void **state)
{
    (void)state;
    static struct got g;
    struct fake f;
    struct error err = { 0 };
    struct job *j[6];
    int32_t ids[20];
    struct service_state x;
    struct service *s = open_service(&f, CONTEXT, 1, 0, "plain");
    prompt_of(1, ids, 20);
    struct job_options o = asks(ids, 20, 5);
    for (int i = 0; i < 6; i++) assert_int_equal(service_submit(s, &o, &j[i], NULL, &err), STRETTO_OK);
    do service_look(s, &x, NULL, 0);
    while (x.written_tokens < 30);
    for (int i = 0; i < 6; i++) {
        read_all(j[i], &g);
        check(&g, ids, 20);
        job_close(j[i]);
    }
    service_close(s);
}

/* One place: who has priority is next, whoever came before. */
static void test_priority(void **state)
{
    (void)state;
    static struct got g[4];
    struct fake f;
    struct error err = { 0 };
    struct job *j[4];
    int32_t ids[50], order[4], n = 0;
    fake_step_ns = 100000;
    struct service *s = open_service(&f, 1 << 14, 1, 0, "plain");
    prompt_of(1, ids, 50);
    for (int i = 0; i < 4; i++) {
        struct job_options o = asks(ids, 50, i ? 100 : 2000);
        struct service_state x;
        o.priority = i;
        g[i].n = 0;
        assert_int_equal(service_submit(s, &o, &j[i], NULL, &err), STRETTO_OK);
        do service_look(s, &x, NULL, 0);
        while (!i && !x.running);
    }
    while (n < 4) {
        const struct job *x = wait_for(j, g, 4);
        for (int i = 0; i < 4; i++)
            if (x == j[i]) {
                order[n] = i;
                job_close(j[i]);
                j[i] = NULL;
            }
        n++;
    }
    fake_step_ns = 0;
    for (int i = 0; i < 4; i++) assert_int_equal(order[i], i ? 4 - i : 0);
    service_close(s);
}

/* The n-th allocation fails, for every n there is: opening and submitting say so, and nothing is left behind. */
static void test_no_memory(void **state)
{
    (void)state;
    static struct got g;
    struct fake f;
    struct job *j = NULL;
    struct service *s = NULL;
    int32_t ids[20];
    struct service_options o = { .engine = { .context = CONTEXT, .sequences = 2 }, .wake = ring };
    struct error err = { 0 };
    stretto_status st;
    assert_int_equal(decode_parse("auto", &o.choice, &err), STRETTO_OK);
    for (uint64_t n = 1;; n++) {
        error_clear(&err);
        mem_fail_at(n);
        st = service_open(&s, fake_model(&f, CONTEXT), &o, &err);
        mem_fail_at(0);
        if (st == STRETTO_OK) break;
        assert_int_equal(st, STRETTO_E_NOMEM);
        assert_null(s);
        assert_true(err.text[0] && n < 1000);
    }
    prompt_of(1, ids, 20);
    struct job_options asked = asks(ids, 20, 5);
    for (uint64_t n = 1; !j; n++) {
        error_clear(&err);
        mem_fail_at(n);
        st = service_submit(s, &asked, &j, NULL, &err);
        if (!j) assert_int_equal(st, STRETTO_E_NOMEM);
        else {
            read_all(j, &g);               /* its place may have been what failed */
            if (g.done.finish == JOB_FAILED) {
                assert_int_equal(g.done.error.status, STRETTO_E_NOMEM);
                job_close(j);
                j = NULL;
            }
        }
        mem_fail_at(0);
        assert_true(n < 100);
    }
    assert_int_equal(g.n, 5);
    job_close(j);
    service_close(s);
}

static void empty_folder(const char *folder)
{
    char file[400];
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(file, sizeof file, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.') unlink(file);
    }
    closedir(d);
    rmdir(folder);
}

/* A file without tensors, for what is read of it again. */
static struct source *empty_file(const char *folder)
{
    static const unsigned char head[24] = { 'G', 'G', 'U', 'F', 3 };
    char path[96];
    struct source *s;
    struct error err = { 0 };
    snprintf(path, sizeof path, "%s/empty.gguf", folder);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(head, 1, sizeof head, out), sizeof head);
    fclose(out);
    assert_int_equal(source_open(&s, path, &err), STRETTO_OK);
    return s;
}

/* A pool that is smaller than the context: texts end where it is full, alone and beside each other. */
static void test_small_pool(void **state)
{
    (void)state;
    static struct got g;
    struct fake f;
    struct error err = { 0 };
    struct job *j[3];
    struct job_busy busy;
    static int32_t ids[600];
    struct service *s = open_service(&f, 1 << 12, 2, 512, "auto");
    prompt_of(1, ids, 600);
    struct job_options o = asks(ids, 600, 1);
    assert_int_equal(service_submit(s, &o, &j[0], &busy, &err), STRETTO_E_FULL);
    assert_int_equal(busy.context, 512);
    o = asks(ids, 100, -1);
    for (int i = 0; i < 3; i++) assert_int_equal(service_submit(s, &o, &j[i], NULL, &err), STRETTO_OK);
    for (int i = 0; i < 3; i++) {
        read_all(j[i], &g);
        check(&g, ids, 100);
        assert_int_equal(g.done.finish, JOB_CONTEXT);
        assert_int_equal(g.n, 412);
        job_close(j[i]);
    }
    service_close(s);
}

/* A step that fails takes its jobs with it, and the service goes on. */
static void test_lost_step(void **state)
{
    (void)state;
    static struct got g;
    struct fake f;
    struct error err = { 0 };
    struct job *j;
    int32_t ids[20];
    struct service *s = open_service(&f, CONTEXT, 2, 0, "plain");
    prompt_of(1, ids, 20);
    struct job_options o = asks(ids, 20, 5);
    fake_program->fail = STRETTO_E_DEVICE;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(service_submit(s, &o, &j, NULL, &err), STRETTO_OK);
        read_all(j, &g);
        assert_int_equal(g.done.finish, i ? JOB_LENGTH : JOB_FAILED);
        if (!i) assert_int_equal(g.done.error.status, STRETTO_E_DEVICE);
        job_close(j);
    }
    service_close(s);
}

/* A beginning that only files have comes a few pages at a time while another text is written: between two of its
 * steps as many as are begun within 3 milliseconds. Planted and noticed: all of them when the job gets its place. */
static void test_pages_come_beside_steps(void **state)
{
    (void)state;
    enum { LONG = 30 * PAGE_SLOTS + 5, ROOM = 1 << 12 };
    static struct got g, beside;
    static int32_t ids[LONG], other[20];
    struct fake f;
    struct error err = { 0 };
    struct job *j, *writes;
    char folder[64];
    snprintf(folder, sizeof folder, "/tmp/stretto-pages-XXXXXX");
    assert_non_null(mkdtemp(folder));
    fake_model(&f, ROOM);
    f.model.source = empty_file(folder);
    prompt_of(1, ids, LONG);
    for (int i = 0; i < 20; i++) other[i] = (ids[i] + 1) % FAKE_NAN;
    for (int again = 0; again < 2; again++) {
        struct service *s;
        struct service_options o = { .engine = { .context = ROOM, .sequences = 2, .max_rows = 256 }, .wake = ring,
                                     .disk = folder };
        assert_int_equal(service_open(&s, &f.model, &o, &err), STRETTO_OK);
        struct job_options a = asks(other, 20, 2000), b = asks(ids, LONG, 5);
        fake_step_ns = 1000000;
        fake_page_ns = 2000000;
        assert_int_equal(service_submit(s, &a, &writes, NULL, &err), STRETTO_OK);
        while (again && !job_read(writes, &(struct job_event){ .n_ids = 0 })) sched_yield();
        assert_int_equal(service_submit(s, &b, &j, NULL, &err), STRETTO_OK);
        read_all(j, &g);
        check(&g, ids, LONG);
        assert_int_equal(g.n, 5);
        assert_int_equal(g.done.usage.cached, again ? 30 * PAGE_SLOTS : 0);
        assert_in_range(fake_program->most_brought, again, again ? 2 : 0);
        assert_int_equal(fake_program->brought, again ? 30 : 0);
        fake_step_ns = fake_page_ns = 0;
        job_close(j);
        job_cancel(writes);
        read_all(writes, &beside);
        job_close(writes);
        service_close(s);
    }
    source_close(f.model.source);
    empty_folder(folder);
}

/* Jobs about texts that were never get a place in the steps, however many come at once. Planted and noticed: those
 * that wait for the next turn are taken for jobs that write. */
static void test_kept_texts_take_turns(void **state)
{
    enum { JOBS = 12 };
    (void)state;
    static struct got g, beside;
    struct fake f;
    struct error err = { 0 };
    struct job *writes, *j[JOBS];
    int32_t ids[150];
    struct service *s;
    struct service_options o = { .engine = { .context = CONTEXT, .sequences = 4, .max_rows = 64 }, .wake = ring,
                                 .keeps = true };
    assert_int_equal(service_open(&s, fake_model(&f, CONTEXT), &o, &err), STRETTO_OK);
    prompt_of(1, ids, 150);
    struct job_options first = asks(ids, 150, 5), more = asks(ids, 20, 200);
    more.place = 1;
    assert_int_equal(service_submit(s, &first, &j[0], NULL, &err), STRETTO_OK);
    read_all(j[0], &g);
    job_close(j[0]);
    fake_step_ns = 200000;
    assert_int_equal(service_submit(s, &more, &writes, NULL, &err), STRETTO_OK);
    for (int i = 0; i < JOBS; i++) {
        struct job_options erases = { .kind = JOB_KEEP, .keep = KEEP_ERASE, .place = i ? 2 : 0 };
        assert_int_equal(service_submit(s, &erases, &j[i], NULL, &err), STRETTO_OK);
    }
    for (int i = 0; i < JOBS; i++) {
        read_all(j[i], &g);
        assert_int_equal(g.started, 0);
        assert_int_equal(g.done.finish, i ? JOB_FAILED : JOB_END);
        assert_int_equal(g.done.usage.prompt, i ? 0 : 154);
        job_close(j[i]);
    }
    fake_step_ns = 0;
    read_all(writes, &beside);
    check(&beside, ids, 20);
    assert_int_equal(beside.n, 200);
    job_close(writes);
    service_close(s);
}

/* What a job waits for its place, before its first token and behind it, is neither reading nor writing, and nothing is
 * counted twice. Planted and noticed: the seconds of a job that was parked are those of reading or writing. */
static void test_times(void **state)
{
    (void)state;
    static struct got g;
    struct fake f;
    struct error err = { 0 };
    struct job *first, *second;
    int32_t ids[150];
    struct service *s;
    struct service_state x;
    struct service_options o = { .engine = { .context = 1 << 13, .sequences = 1, .max_rows = 64 }, .wake = ring,
                                 .quantum = 0.1 };
    assert_int_equal(decode_parse("plain", &o.choice, &err), STRETTO_OK);
    assert_int_equal(service_open(&s, fake_model(&f, 1 << 13), &o, &err), STRETTO_OK);
    prompt_of(1, ids, 150);
    struct job_options a = asks(ids, 150, 5000), b = asks(ids, 20, 5);
    a.client = "a";
    b.client = "b";
    fake_step_ns = 500000;
    double began = clock_seconds();
    assert_int_equal(service_submit(s, &a, &first, NULL, &err), STRETTO_OK);
    for (struct job_event e = { .n_ids = 0 }; e.kind != JOB_TEXT;) if (!job_read(first, &e)) sched_yield();
    double came = clock_seconds();
    assert_int_equal(service_submit(s, &b, &second, NULL, &err), STRETTO_OK);
    read_all(second, &g);
    struct job_usage u = g.done.usage;
    double placed = u.reading + u.writing;
    assert_true(u.reading > 0 && u.writing > 0 && u.queued > 0.09);     /* until `a` was a quantum ahead */
    assert_true(u.queued + placed <= clock_seconds() - came);
    service_look(s, &x, NULL, 0);
    job_cancel(first);
    read_all(first, &g);
    u = g.done.usage;
    assert_true(x.preempted >= 1 && u.reading > 0 && u.writing > 0);
    if (x.preempted == 1) assert_true(u.queued >= placed);              /* it was parked all the while */
    assert_true(u.queued + u.reading + u.writing <= clock_seconds() - began);
    fake_step_ns = 0;
    job_close(first);
    job_close(second);
    service_close(s);
}

/* Vectors of every token take their memory with a place, so jobs that wait have none, and those that are over only what
 * they made. Planted and noticed: all of it when a job is submitted. */
static void test_vectors_come_with_places(void **state)
{
    enum { JOBS = 40, LONG = 200 };
    (void)state;
    static struct got g;
    struct fake f;
    struct error err = { 0 };
    struct job *writes, *j[JOBS];
    int32_t ids[LONG];
    struct service *s;
    struct service_options o = { .engine = { .context = 1 << 13, .sequences = 1, .max_rows = 64 }, .wake = ring };
    char folder[64];
    snprintf(folder, sizeof folder, "/tmp/stretto-vectors-XXXXXX");
    assert_non_null(mkdtemp(folder));
    fake_model(&f, 1 << 13);
    f.model.source = empty_file(folder);
    assert_int_equal(service_open(&s, &f.model, &o, &err), STRETTO_OK);
    prompt_of(1, ids, LONG);
    struct job_options first = asks(ids, 20, 8000), vectors = asks(ids, LONG, 0);
    vectors.kind = JOB_EMBED;
    vectors.each = true;
    fake_step_ns = 500000;
    assert_int_equal(service_submit(s, &first, &writes, NULL, &err), STRETTO_OK);
    for (int i = 0; i < JOBS; i++) assert_int_equal(service_submit(s, &vectors, &j[i], NULL, &err), STRETTO_OK);
    for (int i = 0; i < JOBS; i++) assert_true(!j[i]->embedding.memory && !j[i]->vectors && !j[i]->ring.data);
    fake_step_ns = 0;
    job_cancel(writes);
    read_all(writes, &g);
    assert_int_equal(g.done.finish, JOB_CANCELLED);
    for (int i = 0; i < JOBS; i++) {
        read_all(j[i], &g);
        assert_true(!j[i]->embedding.memory && g.done.n_vector == LONG * FAKE_WIDTH);
        for (size_t k = 0; k < LONG; k++)
            assert_int_equal((int)g.done.vector[k * FAKE_WIDTH], fake_next(ids, k + 1));
        job_close(j[i]);
    }
    job_close(writes);
    service_close(s);
    source_close(f.model.source);
    empty_folder(folder);
}

/* What texts begin with takes pages of the pool too, once for all of them: no more are let in than fit, and nobody's
 * pages are given to others meanwhile. Planted and noticed: beginnings that are known take no room. */
static void test_beginnings_take_room(void **state)
{
    enum { SAME = 17 * PAGE_SLOTS, LONG = SAME + 12, JOBS = 8, WRITES = 300 };
    (void)state;
    static struct got g;
    static int32_t ids[LONG];
    struct fake f;
    struct error err = { 0 };
    struct job *j[JOBS];
    struct service_state x;
    struct service *s = open_service(&f, 1 << 12, 4, 1600, "plain");
    for (uint32_t i = 0; i < LONG; i++) ids[i] = (int32_t)(random_mix(i) % FAKE_NAN);
    struct job_options o = asks(ids, LONG, 1);
    assert_int_equal(service_submit(s, &o, &j[0], NULL, &err), STRETTO_OK);
    read_all(j[0], &g);
    job_close(j[0]);
    o.max_tokens = WRITES;
    for (int i = 0; i < JOBS; i++) {
        ids[SAME] = i;
        assert_int_equal(service_submit(s, &o, &j[i], NULL, &err), STRETTO_OK);
    }
    for (int i = 0; i < JOBS; i++) {
        ids[SAME] = i;
        read_all(j[i], &g);
        check(&g, ids, LONG);
        assert_true(g.n == WRITES && g.done.usage.cached >= SAME);
        job_close(j[i]);
    }
    service_look(s, &x, NULL, 0);
    assert_true(x.yielded == 0 && x.preempted == 0);
    service_close(s);
}

enum { PEOPLE = 6, EACH = 60 };
struct person { struct service *s; uint64_t seed; uint32_t cancelled; };

static void *be_somebody(void *ud)
{
    struct person *p = ud;
    struct got *g = malloc(sizeof *g);
    for (uint64_t k = 0; k < EACH; k++) {
        struct error err = { 0 };
        uint64_t seed = p->seed * EACH + k, what = random_mix(seed);
        int32_t ids[200];
        uint32_t n = 1 + (uint32_t)(what % 200), most = 1 + (uint32_t)(what / 200 % 60);
        struct job *j;
        prompt_of(seed, ids, n);
        struct job_options o = asks(ids, n, most);
        if (what % 16 == 1) o.deadline = clock_seconds() + 1e-4;
        stretto_status st = service_submit(p->s, &o, &j, NULL, &err);
        if (o.deadline > 0 && st == STRETTO_E_FULL) continue;      /* it could not be met */
        assert_int_equal(st, STRETTO_OK);
        if (what % 16 == 2) {
            job_close(j);                  /* gone at once */
            continue;
        }
        if (what % 16 == 3) job_cancel(j);
        read_all(j, g);
        check(g, ids, n);
        if (g->done.finish == JOB_LENGTH) assert_int_equal(g->n, most);
        else {
            assert_true(g->done.finish == JOB_CANCELLED || g->done.finish == JOB_DEADLINE);
            assert_true(what % 16 == 1 || what % 16 == 3);
        }
        job_close(j);
    }
    free(g);
    return NULL;
}

/* Threads at once, more jobs than places and than pages. */
static void test_many(void **state)
{
    (void)state;
    struct fake f;
    struct service *s = open_service(&f, CONTEXT, 4, 512, "auto");
    struct person p[PEOPLE];
    pthread_t t[PEOPLE];
    for (int i = 0; i < PEOPLE; i++) {
        p[i] = (struct person){ s, (uint64_t)i + 1, 0 };
        assert_int_equal(pthread_create(&t[i], NULL, be_somebody, &p[i]), 0);
    }
    for (int i = 0; i < PEOPLE; i++) pthread_join(t[i], NULL);
    struct service_state x;
    service_look(s, &x, NULL, 0);
    service_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_job), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_close_with_jobs), cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_fair_places), cmocka_unit_test(test_priority),
        cmocka_unit_test(test_unattended), cmocka_unit_test(test_turns), cmocka_unit_test(test_same_beginning),
        cmocka_unit_test(test_prediction), cmocka_unit_test(test_many),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_lost_step),
        cmocka_unit_test(test_small_pool), cmocka_unit_test(test_pages_come_beside_steps),
        cmocka_unit_test(test_kept_texts_take_turns), cmocka_unit_test(test_times),
        cmocka_unit_test(test_beginnings_take_room),
        cmocka_unit_test(test_vectors_come_with_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
