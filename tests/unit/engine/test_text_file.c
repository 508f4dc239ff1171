/* A text that is put aside is taken over by the next process as it was, of full caches and windows, and whatever else a
 * file says is refused. */
#include "engine/engine_int.h"
#include "engine/engine_text.h"
#include "base/file.h"
#include "unit/engine/fake.h"
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CONTEXT = 300, N = 220 };

static char folder[64], path[100];
static int32_t text[CONTEXT], tokens[CONTEXT];
static uint8_t given[CONTEXT];
static struct answer places[CONTEXT];

static struct engine *open_engine(struct fake *f, bool windows)
{
    struct engine *e;
    struct error err = { 0 };
    const struct engine_options o = { .sequences = 2, .max_rows = 100, .prefix_bytes = 1 << 20 };
    fake_model(f, CONTEXT);
    if (windows) fake_window(f, 90);
    assert_int_equal(engine_open(&e, &f->model, &o, &err), STRETTO_OK);
    memset(e->identity, 7, sizeof e->identity);
    e->identified = true;
    return e;
}

/* Reads n tokens on a sequence of its own, every answer looked at; returns how many were known. */
static uint32_t read_text(struct engine *e, uint32_t n)
{
    struct error err = { 0 };
    int32_t seq;
    assert_int_equal(engine_seq_open(e, &seq, &err), STRETTO_OK);
    uint32_t had = engine_set(e, seq, text, n, CONTEXT);
    struct request r = { .seq = seq, .wants = WANT_BEST, .first = had, .room = CONTEXT, .places = places };
    assert_int_equal(request_run(e, &r, &err), STRETTO_OK);
    for (uint32_t i = had; i < n; i++) assert_int_equal(places[i - had].best, fake_next(text, i + 1));
    engine_seq_close(e, seq);
    return had;
}

static struct engine_text text_of(uint32_t n, uint64_t salt)
{
    struct engine_text t = { .tokens = tokens, .given = given, .n = n, .cap = CONTEXT, .salt = salt };
    memcpy(tokens, text, n * sizeof *tokens);
    memset(given, 1, n);
    return t;
}

static stretto_status load(struct engine *e, struct error *err)
{
    struct engine_text t = text_of(0, 0);
    memset(err, 0, sizeof *err);
    return engine_text_load(e, &t, path, err);
}

static void there_and_back(void **state)
{
    (void)state;
    for (int windows = 0; windows < 2; windows++) {
        struct fake f;
        struct error err = { 0 };
        struct engine *e = open_engine(&f, windows);
        assert_int_equal(read_text(e, N), 0);
        struct engine_text t = text_of(N, 0);
        assert_int_equal(engine_text_save(e, &t, path, NULL, &err), STRETTO_OK);
        assert_int_equal(t.n, N - 1);
        assert_int_equal(engine_text_erase(e, &t), N - 1);
        assert_int_equal(read_text(e, N), 0);
        engine_close(e);
        e = open_engine(&f, windows);
        memset(tokens, 0, sizeof tokens);
        t = text_of(0, 0);
        assert_int_equal(engine_text_load(e, &t, path, &err), STRETTO_OK);
        assert_int_equal(t.n, N - 1);
        assert_memory_equal(tokens, text, (N - 1) * sizeof *text);
        assert_int_equal(read_text(e, CONTEXT), N - 1);
        uint64_t nodes = e->prefix.counts.inserted;
        for (int k = 0; k < 3; k++) assert_int_equal(load(e, &err), STRETTO_OK);        /* once more changes nothing */
        assert_int_equal(e->prefix.counts.inserted, nodes);
        assert_int_equal(read_text(e, CONTEXT), CONTEXT - 1);
        nodes = e->prefix.counts.inserted;
        for (uint32_t g = 1; g < e->cache.n_groups; g++) while (prefix_evict(&e->prefix, g)) continue;
        assert_int_equal(load(e, &err), STRETTO_OK);            /* but for what windows gave up */
        assert_in_range(e->prefix.counts.inserted, nodes, nodes + (uint64_t)windows);
        assert_int_equal(read_text(e, N), N - 1);
        t.salt = 5;
        assert_int_equal(engine_text_load(e, &t, path, &err), STRETTO_E_ARG);
        e->identity[3] = 0;
        assert_int_equal(load(e, &err), STRETTO_E_ARG);
        engine_close(e);
    }
}

/* Every byte changed, with and without the digest made right again, and every end. */
static void any_bytes(void **state)
{
    struct fake f;
    struct error err = { 0 };
    struct file_map m;
    (void)state;
    struct engine *e = open_engine(&f, true);
    read_text(e, 70);
    struct engine_text t = text_of(70, 0);
    assert_int_equal(engine_text_save(e, &t, path, NULL, &err), STRETTO_OK);
    assert_int_equal(file_map_open(&m, path, &err), STRETTO_OK);
    size_t n = m.size, refused = 0;
    unsigned char *whole = test_malloc(n), *bad = test_malloc(n);
    memcpy(whole, m.data, n);
    file_map_close(&m);
    for (size_t i = 0; i < n; i++) {
        struct blake2b b;
        memcpy(bad, whole, n);
        bad[i] ^= 0x81;
        assert_int_equal(file_replace(path, bad, n, &err), STRETTO_OK);
        assert_int_equal(load(e, &err), STRETTO_E_FORMAT);
        blake2b_begin(&b, DISK_DIGEST);
        blake2b_add(&b, bad, n - DISK_DIGEST);
        blake2b_end(&b, bad + n - DISK_DIGEST);
        assert_int_equal(file_replace(path, bad, n, &err), STRETTO_OK);
        refused += load(e, &err) != STRETTO_OK;
        if (i % 7 == 0) {
            assert_int_equal(file_replace(path, whole, i, &err), STRETTO_OK);
            assert_int_equal(load(e, &err), STRETTO_E_FORMAT);
        }
    }
    assert_true(refused > 60);                               /* the head, and tokens that are none */
    test_free(whole);
    test_free(bad);
    engine_close(e);
}

/* The process ends behind so many bytes of a file, or writes all of it: 1. */
static int write_bytes(struct engine *e, const char *to, size_t bytes)
{
    int status = 0;
    pid_t child = fork();
    if (!child) {
        struct error err = { 0 };
        struct engine_text t = text_of(N, 0);
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){ bytes, bytes });
        signal(SIGXFSZ, SIG_DFL);
        _exit(engine_text_save(e, &t, to, NULL, &err) == STRETTO_OK);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) || WTERMSIG(status) == SIGXFSZ);
    return WIFEXITED(status) && WEXITSTATUS(status);
}

/* Whoever is killed over a file leaves the one that was, byte by byte, and the next one writes it as ever. Planted and
 * noticed: the file is written under its own name. */
static void killed_at_any_byte(void **state)
{
    struct fake f;
    struct error err = { 0 };
    struct file_map m;
    int whole = 0;
    (void)state;
    struct engine *e = open_engine(&f, true);
    read_text(e, N);
    struct engine_text t = text_of(70, 0);
    assert_int_equal(engine_text_save(e, &t, path, NULL, &err), STRETTO_OK);
    assert_int_equal(file_map_open(&m, path, &err), STRETTO_OK);
    size_t n = m.size, last = 0;
    unsigned char *old = test_malloc(n);
    memcpy(old, m.data, n);
    file_map_close(&m);
    for (size_t bytes = 0; !whole; bytes += bytes % 3 ? 17 : 40) {
        whole = write_bytes(e, path, last = bytes);
        assert_int_equal(file_map_open(&m, path, &err), STRETTO_OK);
        if (!whole) assert_true(m.size == n && !memcmp(m.data, old, n));
        else assert_true(m.size > n && m.size <= bytes);
        file_map_close(&m);
    }
    assert_true(last > n);
    assert_int_equal(load(e, &err), STRETTO_OK);
    engine_close(e);
    e = open_engine(&f, true);
    assert_int_equal(load(e, &err), STRETTO_OK);
    assert_int_equal(read_text(e, N), N - 1);
    test_free(old);
    engine_close(e);
}

/* What does not fit is told with both numbers, and who gives room is asked with all bytes and told the end. */
struct room { uint64_t bytes; int whole, not_whole; };

static stretto_status count_room(void *ud, const char *to, uint64_t bytes, int64_t *note, struct error *err)
{
    struct room *r = ud;
    assert_string_equal(to, path);
    r->bytes = bytes;
    *note = 77;
    return err->status ? STRETTO_E_IO : STRETTO_OK;
}

static void end_room(void *ud, int64_t note, bool whole)
{
    struct room *r = ud;
    assert_int_equal(note, 77);
    r->whole += whole;
    r->not_whole += !whole;
}

static void what_does_not_fit(void **state)
{
    struct fake f;
    struct error err = { 0 };
    struct stat st;
    struct room asked = { 0 };
    const struct engine_text_room room = { count_room, end_room, &asked };
    (void)state;
    struct engine *e = open_engine(&f, true);
    read_text(e, N);
    struct engine_text t = text_of(N, 0);
    assert_int_equal(engine_text_save(e, &t, path, &room, &err), STRETTO_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(asked.bytes, st.st_size);
    assert_int_equal(asked.whole, 1);
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);                  /* what cannot be replaced */
    assert_int_not_equal(engine_text_save(e, &t, path, &room, &err), STRETTO_OK);
    assert_int_equal(asked.not_whole, 1);
    rmdir(path);
    memset(&err, 0, sizeof err);
    err.status = STRETTO_E_IO;                               /* no room */
    assert_int_equal(engine_text_save(e, &t, path, &room, &err), STRETTO_E_IO);
    assert_int_equal(stat(path, &st), -1);
    assert_int_equal(asked.whole + asked.not_whole, 2);
    memset(&err, 0, sizeof err);
    t = text_of(N, 0);
    assert_int_equal(engine_text_save(e, &t, path, NULL, &err), STRETTO_OK);
    t.cap = 100;
    assert_int_equal(engine_text_load(e, &t, path, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "219 tokens and the context holds 100"));
    engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(there_and_back), cmocka_unit_test(any_bytes),
                                        cmocka_unit_test(killed_at_any_byte), cmocka_unit_test(what_does_not_fit) };
    snprintf(folder, sizeof folder, "/tmp/text-file-XXXXXX");
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/text", folder);
    for (int i = 0; i < CONTEXT; i++) text[i] = (int32_t)(random_mix((uint64_t)i) % FAKE_NAN);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    rmdir(folder);
    return failed;
}
