/* Pages in files: what was written whole is found again with its bytes, after a file was cut or changed at any byte,
 * after a process was killed while it wrote, and when no more can be written; nothing else is ever read.
 *
 * Planted and noticed: digests of heads or pages that are not looked at, a search for the next record that gives up. */
#include "cache/disk.h"
#include "base/random.h"
#include "unit/unit.h"
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE_A = 90, PAGE_B = 40, RECORD = 4096 };

static char folder[64], other[64];
static unsigned warned;

static void say(void *ud, enum log_level level, const char *text)
{
    (void)ud;
    assert_non_null(text);
    warned += level == LOG_WARN;
}

static struct disk_options options_of(const char *path, unsigned char which, uint64_t records)
{
    struct disk_options o = { .folder = path, .bytes = records * RECORD, .n_groups = 2, .page = { PAGE_A, PAGE_B },
                              .log = { .say = say } };
    memset(o.identity, which, sizeof o.identity);
    return o;
}

static struct disk *open_at(const char *path)
{
    struct disk *d;
    struct error err = { 0 };
    struct disk_options o = options_of(path, 'm', 1000);
    if (disk_open(&d, &o, &err) != STRETTO_OK) printf("%s\n", err.text);
    assert_non_null(d);
    return d;
}

static void empty_folder(const char *path)
{
    DIR *d = opendir(path);
    char name[512];
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.' && unlink(name)) rmdir(name);
    }
    if (d) closedir(d);
}

/* ---- a chain of pages, of which everything follows from its number ---- */

struct page { int32_t tokens[PAGE_SLOTS]; uint64_t roles; uint32_t groups; unsigned char bytes[PAGE_A + PAGE_B]; };

static struct page page_of(uint64_t chain, uint32_t i)
{
    struct page p = { .roles = random_mix(chain + i), .groups = i % 3 == 2 ? 1 : 3 };
    for (uint32_t k = 0; k < PAGE_SLOTS; k++) p.tokens[k] = (int32_t)random_mix(chain * 1000 + i * 64 + k);
    for (uint32_t k = 0; k < sizeof p.bytes; k++) p.bytes[k] = (unsigned char)random_mix(chain * 7 + i * 500 + k);
    return p;
}

static size_t bytes_of(const struct page *p) { return p->groups == 3 ? PAGE_A + PAGE_B : PAGE_A; }

static int32_t put(struct disk *d, const unsigned char *before, const struct page *p, uint32_t i)
{
    disk_room(d);
    memcpy(disk_place(d), p->bytes, bytes_of(p));
    struct disk_page x = { .before = before, .tokens = p->tokens, .roles = p->roles, .depth = i + 1,
                           .groups = p->groups };
    return disk_append(d, &x);
}

/* Pages [0, n) of a chain; those that are there already stay. Returns how many there are then. */
static uint32_t put_chain(struct disk *d, uint64_t chain, uint32_t n)
{
    unsigned char way[DISK_DIGEST];
    disk_root(d, chain, way);
    for (uint32_t i = 0; i < n; i++) {
        struct page p = page_of(chain, i);
        int32_t r = disk_find(d, way, p.tokens, p.roles, true);
        if (r < 0) r = put(d, way, &p, i);
        if (r < 0) return i;
        memcpy(way, disk_way_of(d, r), sizeof way);
    }
    return n;
}

static bool read_page(struct disk *d, const unsigned char *before, const struct page *p)
{
    uint32_t groups;
    const void *bytes;
    int32_t r = disk_find(d, before, p->tokens, p->roles, true);
    if (r < 0 || disk_read(d, r, &groups, &bytes, NULL) != STRETTO_OK) return false;
    assert_int_equal(groups, p->groups);
    assert_memory_equal(bytes, p->bytes, bytes_of(p));
    return true;
}

/* Which of pages [0, n) can be read, as bits: each by itself, whatever became of those before it. */
static uint64_t readable(struct disk *d, uint64_t chain, uint32_t n)
{
    unsigned char way[DISK_DIGEST];
    uint64_t got = 0;
    disk_root(d, chain, way);
    for (uint32_t i = 0; i < n; i++) {
        struct page p = page_of(chain, i);
        got |= (uint64_t)read_page(d, way, &p) << i;
        disk_way(way, p.tokens, p.roles, way);
    }
    return got;
}

static void comes_back(void **state)
{
    (void)state;
    struct disk *d = open_at(folder), *again;
    struct disk_state st;
    struct error err = { 0 };
    struct stat s;
    for (uint64_t c = 0; c < 5; c++) assert_int_equal(put_chain(d, c, 10), 10);
    for (uint64_t c = 0; c < 5; c++) assert_int_equal(readable(d, c, 12), 0x3ff);
    struct disk_options o = options_of(folder, 'm', 1000);
    assert_int_equal(disk_open(&again, &o, &err), STRETTO_E_IO);      /* somebody has it */
    assert_non_null(strstr(err.text, "another process"));
    disk_close(d);
    d = open_at(folder);
    disk_look(d, &st);
    assert_true(st.records == 50 && st.bytes == 50 * RECORD && !st.off);
    for (uint64_t c = 0; c < 5; c++) assert_int_equal(readable(d, c, 12), 0x3ff);
    struct page p = page_of(0, 0);
    unsigned char root[DISK_DIGEST];
    disk_root(d, 0, root);
    assert_int_equal(disk_find(d, root, p.tokens, ~p.roles, true), DISK_NONE);
    assert_int_not_equal(disk_find(d, root, p.tokens, ~p.roles, false), DISK_NONE);
    disk_root(d, 77, root);            /* another salt */
    assert_int_equal(disk_find(d, root, p.tokens, p.roles, false), DISK_NONE);
    disk_close(d);
    o = options_of(folder, 'n', 1000); /* another identity, in the same folder */
    assert_int_equal(disk_open(&d, &o, &err), STRETTO_OK);
    assert_int_equal(readable(d, 0, 12), 0);
    disk_close(d);
    char name[128];
    snprintf(name, sizeof name, "%s/6d6d6d6d6d6d6d6d-00000001.pages", folder);
    assert_int_equal(stat(name, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    assert_int_equal(warned, 0);
}

static size_t whole_file(const char *path, unsigned char *out, size_t cap)
{
    char name[128];
    snprintf(name, sizeof name, "%s/6d6d6d6d6d6d6d6d-00000001.pages", path);
    FILE *f = fopen(name, "rb");
    assert_non_null(f);
    size_t n = fread(out, 1, cap, f);
    fclose(f);
    return n;
}

static void set_file(const char *path, const unsigned char *data, size_t n)
{
    char name[128];
    snprintf(name, sizeof name, "%s/6d6d6d6d6d6d6d6d-00000001.pages", path);
    unlink(name);                      /* file systems wait where a file is emptied and written again */
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0 && write(fd, data, n) == (ssize_t)n);
    close(fd);
}

/* A file of four records: cut at every byte, and with every byte changed. The bytes that only fill up the last block of
 * a record are nobody's. */
static void any_byte(void **state)
{
    (void)state;
    enum { N = 4 };
    static unsigned char data[N * RECORD + 1], x[N * RECORD];
    size_t end[N], n;
    empty_folder(folder);
    empty_folder(other);
    struct disk *d = open_at(folder);
    assert_int_equal(put_chain(d, 3, N), N);
    disk_close(d);
    n = whole_file(folder, data, sizeof data);
    assert_int_equal(n, N * RECORD);
    for (uint32_t i = 0; i < N; i++) {
        struct page p = page_of(3, i);
        end[i] = i * RECORD + DISK_HEAD + bytes_of(&p);
    }
    for (size_t cut = 0; cut <= n; cut += cut % RECORD > 800 && cut % RECORD < 4000 ? 97 : 1) {
        uint64_t want = 0;
        for (uint32_t i = 0; i < N; i++) want |= (uint64_t)(cut >= end[i]) << i;
        set_file(other, data, cut);
        d = open_at(other);
        assert_int_equal(readable(d, 3, N), want);
        if (cut % 16 == 0) {           /* it goes on behind what is left */
            assert_int_equal(put_chain(d, 3, N), N);
            assert_int_equal(readable(d, 3, N), (1 << N) - 1);
        }
        disk_close(d);
    }
    for (size_t at = 0; at < n; at += at % RECORD > 800 && at % RECORD < 4000 ? 97 : 1) {
        uint64_t all = (1 << N) - 1, hit = at < end[at / RECORD] ? (uint64_t)1 << at / RECORD : 0;
        memcpy(x, data, n);
        x[at] ^= (unsigned char)(1 + random_mix(at) % 255);
        set_file(other, x, n);
        d = open_at(other);
        uint64_t got = readable(d, 3, N);
        bool zeros = at % RECORD >= 400 && at % RECORD < DISK_HEAD;      /* behind the head's digest */
        assert_true(got == (all & ~hit) || (zeros && got == all));
        disk_close(d);
    }
}

/* A process that writes is killed: what it said was written is there. */
static void killed(void **state)
{
    (void)state;
    uint64_t kept = 0;
    empty_folder(folder);
    for (uint64_t round = 0; round < 12; round++) {
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        pid_t child = fork();
        if (!child) {
            struct disk *d;
            struct disk_options o = options_of(folder, 'm', 4000);
            if (disk_open(&d, &o, NULL) != STRETTO_OK) _exit(1);
            for (uint32_t i = 1; i < 60; i++)
                for (uint64_t c = 0; c < 8; c++)
                    if (put_chain(d, round * 8 + c, i) != i || write(pipes[1], &i, sizeof i) != sizeof i) _exit(1);
            _exit(0);
        }
        close(pipes[1]);
        uint32_t said[8] = { 0 }, i, stop = (uint32_t)(random_mix(round) % 300), got = 0;
        while (read(pipes[0], &i, sizeof i) == sizeof i) {
            said[got % 8] = i;
            if (++got == stop) kill(child, SIGKILL);
        }
        close(pipes[0]);
        waitpid(child, NULL, 0);
        struct disk *d = open_at(folder);
        for (uint64_t c = 0; c < 8; c++) {
            uint64_t have = readable(d, round * 8 + c, said[c]);
            assert_int_equal(have, said[c] ? ~(uint64_t)0 >> (64 - said[c]) : 0);
            kept += said[c];
        }
        disk_close(d);
    }
    assert_true(kept > 100);
}

static uint64_t folder_bytes(const char *path)
{
    uint64_t n = 0;
    DIR *d = opendir(path);
    char name[512];
    struct stat s;
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.' && !stat(name, &s)) n += (uint64_t)s.st_size;
    }
    if (d) closedir(d);
    return n;
}

/* Files take no more than they may; what is read stays longest. */
static void has_an_end(void **state)
{
    (void)state;
    empty_folder(folder);
    struct disk *d;
    struct disk_options o = options_of(folder, 'm', 64);
    struct error err = { 0 };
    assert_int_equal(disk_open(&d, &o, &err), STRETTO_OK);
    assert_int_equal(put_chain(d, 0, 6), 6);
    for (uint64_t c = 1; c < 60; c++) {
        assert_int_equal(put_chain(d, c, 4), 4);
        assert_int_equal(readable(d, 0, 6), 0x3f);
        assert_true(folder_bytes(folder) <= 64 * RECORD);
    }
    assert_int_equal(readable(d, 3, 4), 0);
    assert_int_equal(readable(d, 59, 4), 15);
    disk_close(d);
    o.bytes = 32 * RECORD;             /* and where they may take less than they do, the newest stay */
    assert_int_equal(disk_open(&d, &o, &err), STRETTO_OK);
    assert_true(folder_bytes(folder) <= 32 * RECORD);
    assert_int_equal(readable(d, 59, 4), 15);
    disk_close(d);
    o.bytes = 3 * RECORD;
    assert_int_equal(disk_open(&d, &o, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "bytes on disk"));
}

/* No room on the device, here a limit on files: one sentence, and what is there can still be read. */
static void no_room(void **state)
{
    (void)state;
    empty_folder(folder);
    warned = 0;
    pid_t child = fork();
    if (!child) {
        struct rlimit most = { 5 * RECORD + 1000, 5 * RECORD + 1000 };
        signal(SIGXFSZ, SIG_IGN);
        struct disk *d = open_at(folder);
        setrlimit(RLIMIT_FSIZE, &most);
        bool right = put_chain(d, 0, 10) == 5 && put_chain(d, 1, 10) == 0 && readable(d, 0, 10) == 0x1f && warned == 1;
        struct disk_state st;
        disk_look(d, &st);
        disk_sync(d);
        disk_close(d);
        _exit(right && st.off ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    struct disk *d = open_at(folder);
    assert_int_equal(readable(d, 0, 10), 0x1f);
    disk_close(d);
}

/* Links, folders, pipes and files that others may write to are left alone. */
static void not_ours(void **state)
{
    (void)state;
    char name[5][128];
    for (int i = 0; i < 5; i++) snprintf(name[i], sizeof name[i], "%s/6d6d6d6d6d6d6d6d-%08x.pages", folder, i + 1);
    empty_folder(folder);
    empty_folder(other);
    struct disk *d = open_at(other);
    assert_int_equal(put_chain(d, 1, 3), 3);
    disk_close(d);
    char target[128];
    snprintf(target, sizeof target, "%s/6d6d6d6d6d6d6d6d-00000001.pages", other);
    assert_int_equal(symlink(target, name[0]), 0);
    assert_int_equal(mkdir(name[1], 0700), 0);
    assert_int_equal(mkfifo(name[2], 0600), 0);
    static unsigned char data[4 * RECORD];
    size_t n = whole_file(other, data, sizeof data);
    int fd = open(name[3], O_WRONLY | O_CREAT, 0600);
    assert_true(write(fd, data, n) == (ssize_t)n && fchmod(fd, 0666) == 0);
    close(fd);
    warned = 0;
    d = open_at(folder);
    assert_int_equal(readable(d, 1, 3), 0);
    assert_int_equal(warned, 4);
    assert_int_equal(put_chain(d, 1, 3), 3);
    assert_int_equal(readable(d, 1, 3), 7);
    disk_close(d);
    assert_int_equal(access(name[4], F_OK), 0);
    struct disk_options o = options_of(name[3], 'm', 1000);      /* a file in the folder's place */
    struct error err = { 0 };
    assert_int_equal(disk_open(&d, &o, &err), STRETTO_E_IO);
    assert_null(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(comes_back), cmocka_unit_test(any_byte),
                                        cmocka_unit_test(killed),     cmocka_unit_test(has_an_end),
                                        cmocka_unit_test(no_room),    cmocka_unit_test(not_ours) };
    const char *in = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
    snprintf(folder, sizeof folder, "%s/stretto-disk-XXXXXX", in);
    snprintf(other, sizeof other, "%s/stretto-disk-XXXXXX", in);
    if (!mkdtemp(folder) || !mkdtemp(other)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    empty_folder(folder);
    empty_folder(other);
    char name[128];
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s/6d6d6d6d6d6d6d6d.lock", i ? other : folder);
        unlink(name);
        rmdir(i ? other : folder);
    }
    return failed;
}
