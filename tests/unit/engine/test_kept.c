/* What texts left is taken over by those that follow: in one process while there is room, as much as a list of all
 * texts says; in the next one from files; and every answer is right. */
#include "engine/engine_int.h"
#include "unit/engine/fake.h"
#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CONTEXT = 1000, TEXTS = 120 };

static char folder[64];
static int32_t text[TEXTS][CONTEXT];
static uint32_t length[TEXTS];
static struct answer places[CONTEXT];

static void empty_folder(void)
{
    DIR *d = opendir(folder);
    char name[512];
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(name, sizeof name, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.') unlink(name);
    }
    if (d) closedir(d);
}

/* Each begins like an earlier one, as far as anywhere. */
static void make_texts(uint64_t seed)
{
    for (uint32_t t = 0; t < TEXTS; t++) {
        uint64_t r = random_mix(seed * 1000 + t);
        uint32_t from = t ? (uint32_t)(r % t) : 0, same = t && r / 64 % 4 ? (uint32_t)(r / 256 % length[from]) : 0;
        length[t] = same + 1 + (uint32_t)(r / 65536 % (CONTEXT - same - 1));
        memcpy(text[t], text[from], same * sizeof **text);
        for (uint32_t i = same; i < length[t]; i++) text[t][i] = (int32_t)(random_mix(r + i) % FAKE_NAN);
    }
}

/* The longest beginning in whole pages that text t, but for its last token, has in common with one before it, or with
 * itself. */
static uint32_t possible(uint32_t t, uint32_t before)
{
    uint32_t best = 0;
    for (uint32_t k = 0; k < before; k++) {
        uint32_t n = 0;
        while (n < length[t] - 1 && n < length[k] && text[k][n] == text[t][n]) n++;
        if (n / PAGE_SLOTS > best) best = n / PAGE_SLOTS;
    }
    return best * PAGE_SLOTS;
}

static struct engine *open_engine(struct fake *f, bool windows, uint32_t pool, bool strict)
{
    struct engine *e;
    struct error err = { 0 };
    struct engine_options o = { .sequences = 2, .max_rows = 100, .pool_tokens = pool, .strict = strict };
    o.prefix_bytes = pool ? 0 : (uint64_t)TEXTS * CONTEXT * 4 * (windows ? 3 : 1);
    fake_model(f, CONTEXT);
    if (windows) fake_window(f, 90);
    if (windows) fake_window(f, 1);
    assert_int_equal(engine_open(&e, &f->model, &o, &err), STRETTO_OK);
    assert_int_equal(engine_seq_open_all(e, &err), STRETTO_OK);
    assert_int_equal(engine_compare(e, &err), STRETTO_OK);
    return e;
}

static void use_disk(struct engine *e, unsigned char which)
{
    struct error err = { 0 };
    struct disk_options o = { .folder = folder, .bytes = 64 << 20, .n_groups = e->cache.n_groups };
    memset(o.identity, which, sizeof o.identity);
    for (uint32_t g = 0; g < o.n_groups; g++) o.page[g] = e->info.group[g].page;
    assert_int_equal(disk_open(&e->disk, &o, &err), STRETTO_OK);
    prefix_use_disk(&e->prefix, e->disk);
}

/* Text t on one of the sequences, read to its end with all answers looked at. Returns what it took over. */
static uint32_t read_text(struct engine *e, uint32_t t)
{
    struct error err = { 0 };
    int32_t seq = (int32_t)(t % 2);
    uint32_t had = engine_set(e, seq, text[t], length[t], CONTEXT);
    struct request r = { .seq = seq, .wants = WANT_BEST, .first = had, .room = CONTEXT, .places = places };
    assert_int_equal(engine_length(e, seq), had);
    assert_int_equal(engine_missed(e, seq)->matched, had);
    assert_int_equal(request_run(e, &r, &err), STRETTO_OK);
    for (uint32_t i = had; i < length[t]; i++) assert_int_equal(places[i - had].best, fake_next(text[t], i + 1));
    return had;
}

static void as_much_as_a_list_says(void **state)
{
    (void)state;
    uint64_t taken = 0, all = 0;
    for (int windows = 0; windows < 2; windows++) {
        struct fake f;
        struct engine *e = open_engine(&f, windows, 0, false);
        struct engine_pages pages;
        make_texts(1);
        for (uint32_t t = 0; t < TEXTS; t++) {
            uint32_t had = read_text(e, t), want = possible(t, t);
            assert_true(had >= want && had < want + PAGE_SLOTS);
            taken += had / PAGE_SLOTS;
            all += want / PAGE_SLOTS;
        }
        engine_look(e, &pages);
        assert_true(pages.counts.evicted == 0 && pages.counts.unlike == 0);
        assert_true(pages.kept + pages.free <= pages.all && pages.kept > 100);
        engine_close(e);
    }
    printf("%llu of %llu pages taken over\n", (unsigned long long)taken, (unsigned long long)all);
    assert_true(taken == all && all > 200);
}

/* Reads and saves all texts in a process of its own, which is killed behind the last one. */
static void be_killed(bool windows, uint32_t pool, bool strict)
{
    int status = 0;
    pid_t child = fork();
    if (!child) {
        struct fake f;
        struct disk_state st;
        struct engine *e = open_engine(&f, windows, pool, strict);
        use_disk(e, 1);
        for (uint32_t t = 0; t < TEXTS; t++) {
            read_text(e, t);
            while (engine_disk_save(e, 0, 3)) continue;
        }
        if (engine_disk_look(e, &st) && st.written > 100 && !st.off) kill(getpid(), SIGKILL);
        _exit(1);
    }
    assert_true(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* A process is killed; the next takes over what the first had, into a pool that is large enough, or small, of all
 * layers and of windows. */
static void from_process_to_process(void **state)
{
    (void)state;
    for (int k = 0; k < 8; k++) {
        struct fake f;
        bool windows = k & 1, strict = k & 2;
        uint32_t pool = k & 4 ? 2500 : 0;
        uint64_t taken = 0, all = 0;
        struct engine_pages pages;
        empty_folder();
        make_texts(2);
        be_killed(windows, pool, strict);
        struct engine *e = open_engine(&f, windows, pool, strict);
        use_disk(e, 1);
        for (uint32_t t = TEXTS; t-- > 0;) {
            uint32_t had = read_text(e, t), want = possible(t, TEXTS);
            taken += (had < want ? had : want) / PAGE_SLOTS;
            all += want / PAGE_SLOTS;
        }
        engine_look(e, &pages);
        printf("windows %d, strict %d, pool %u: %llu of %llu pages, %llu of them from files\n", windows, strict, pool,
               (unsigned long long)taken, (unsigned long long)all, (unsigned long long)pages.counts.restored);
        assert_true(taken * 100 >= all * 95 && pages.counts.restored > 100);
        assert_int_equal(pages.counts.unlike, 0);
        engine_close(e);
        e = open_engine(&f, windows, pool, strict);
        use_disk(e, 2);                        /* another model's */
        assert_int_equal(read_text(e, 0), 0);
        engine_close(e);
    }
}

static void strip_windows(struct engine *e)
{
    for (int32_t seq = 0; seq < 2; seq++) engine_rewind(e, seq, 0);
    for (uint32_t g = 1; g < e->cache.n_groups; g++) while (prefix_evict(&e->prefix, g)) continue;
}

/* What windows gave up comes from disk again, and nothing more than that: into the nodes that are there. A record that
 * has none of it is followed by one that does. Planted and noticed: only nodes without a record are saved; gaps are not
 * filled. */
static void gaps_are_filled(void **state)
{
    enum { WHOLE = 900 / PAGE_SLOTS * PAGE_SLOTS, SAME = 700 / PAGE_SLOTS * PAGE_SLOTS };
    (void)state;
    struct fake f;
    struct engine_pages pages;
    make_texts(5);
    length[0] = length[1] = 900;
    length[2] = 710;
    for (uint32_t t = 1; t < 3; t++) {
        memcpy(text[t], text[0], 700 * sizeof **text);
        for (uint32_t i = 700; i < 900; i++) text[t][i] = (int32_t)(random_mix(t * 1000 + i) % FAKE_NAN);
    }
    empty_folder();
    struct engine *e = open_engine(&f, true, 0, false);
    use_disk(e, 1);
    read_text(e, 0);
    while (engine_disk_save(e, 0, UINT32_MAX)) continue;
    strip_windows(e);
    uint64_t nodes = e->prefix.counts.inserted;
    assert_int_equal(read_text(e, 0), WHOLE);
    engine_look(e, &pages);
    assert_in_range(pages.counts.restored, 2, (90 + WINDOW_KEPT) / PAGE_SLOTS + 2);
    assert_int_equal(e->prefix.counts.inserted, nodes);
    strip_windows(e);
    assert_int_equal(read_text(e, 1) / PAGE_SLOTS * PAGE_SLOTS, SAME);
    engine_close(e);
    empty_folder();
    e = open_engine(&f, true, 0, false);
    use_disk(e, 1);
    read_text(e, 0);
    strip_windows(e);
    while (engine_disk_save(e, 0, UINT32_MAX)) continue;               /* without windows */
    assert_int_equal(read_text(e, 2), 0);
    while (engine_disk_save(e, 0, UINT32_MAX)) continue;
    engine_close(e);
    e = open_engine(&f, true, 0, false);
    use_disk(e, 1);
    assert_int_equal(read_text(e, 2), 709 / PAGE_SLOTS * PAGE_SLOTS);
    engine_close(e);
}

/* Salts and roles on disk are what they are in memory; pages that no two texts had stay away where that is asked. */
static void whose_pages(void **state)
{
    (void)state;
    struct fake f;
    struct disk_state st;
    make_texts(3);
    length[0] = 700;
    empty_folder();
    struct engine *e = open_engine(&f, false, 0, false);
    use_disk(e, 1);
    engine_share(e, 0, &(struct sharing){ .salt = 5 }, NULL);
    read_text(e, 0);
    assert_int_equal(engine_disk_save(e, 2, UINT32_MAX), 0);
    assert_int_equal(engine_disk_save(e, 0, UINT32_MAX), 700 / PAGE_SLOTS);
    assert_int_equal(engine_disk_save(e, 0, UINT32_MAX), 0);
    engine_close(e);
    e = open_engine(&f, false, 0, false);
    use_disk(e, 1);
    assert_int_equal(engine_set(e, 0, text[0], 700, CONTEXT), 0);
    engine_share(e, 0, &(struct sharing){ .salt = 5, .exact = true }, NULL);
    assert_int_equal(engine_set(e, 0, text[0], 700, CONTEXT), 640);
    engine_share(e, 1, &(struct sharing){ .salt = 5, .exact = true }, NULL);
    engine_set(e, 1, text[0], 700, 0);
    engine_role(e, 1, 100, false);             /* written from there on: another way */
    struct error err = { 0 };
    assert_int_equal(request_run(e, &(struct request){ .seq = 1 }, &err), STRETTO_OK);
    assert_int_equal(engine_disk_save(e, 0, UINT32_MAX), 700 / PAGE_SLOTS - 1);
    engine_disk_sync(e);
    assert_true(engine_disk_look(e, &st) && st.records == 700 / PAGE_SLOTS * 2 - 1 && st.damaged == 0);
    engine_close(e);
}

/* Somebody's texts outlive a flood of another's, ten times what there is room for; without owners they do not. */
static void who_floods(void **state)
{
    enum { ROOM = 2400, FEW = 2, EACH = 600 };         /* pages of four texts; two of somebody's stay */
    (void)state;
    for (uint64_t flood = 0; flood < 2; flood++) {
        struct fake f;
        struct error err = { 0 };
        struct engine *e = open_engine(&f, false, ROOM, false);
        for (uint32_t t = 0; t < 40; t++) {
            length[t] = EACH - (t < FEW ? 200 : 0);
            for (uint32_t i = 0; i < length[t]; i++)
                text[t][i] = (int32_t)(random_mix(t * 10000 + i) % FAKE_NAN);
        }
        for (uint32_t t = 0; t < 40; t++) {
            int32_t seq = (int32_t)(t % 2);
            engine_share(e, seq, &(struct sharing){ .owner = t < FEW ? 1 : 1 + flood }, NULL);
            assert_int_equal(read_text(e, t), 0);
            engine_seq_close(e, seq);
            assert_int_equal(engine_seq_open(e, &seq, &err), STRETTO_OK);
        }
        for (uint32_t t = 0; t < FEW; t++)
            assert_int_equal(engine_set(e, 0, text[t], length[t], CONTEXT), flood ? length[t] - 1 : 0);
        engine_close(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(as_much_as_a_list_says),
                                        cmocka_unit_test(from_process_to_process), cmocka_unit_test(gaps_are_filled),
                                        cmocka_unit_test(whose_pages),
                                        cmocka_unit_test(who_floods) };
    snprintf(folder, sizeof folder, "%s/stretto-kept-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    empty_folder();
    rmdir(folder);
    return failed;
}
