/* Files of compiled kernels: found again by who has the same identity, never when anything about them is wrong,
 * never more of them than they may be. */
#include "unit/unit.h"
#include "backend/gpu/kept.h"
#include "base/file.h"
#include "base/memory.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];
static const char *const mine[] = { "cuda", "sm_90 -DX=1", "kernel", NULL };

static bool found(const char *const *identity, const char *expect)
{
    void *image;
    size_t n;
    bool is = kept_find(identity, &image, &n);
    assert_true(is || (!image && !n));
    if (is) {
        assert_int_equal(n, strlen(expect));
        assert_memory_equal(image, expect, n);
    }
    mem_free(image);
    return is;
}

/* The file of an identity. */
static const char *file_of(const char *const *identity)
{
    static char path[200];
    struct kept_key k = kept_key_of(identity);
    snprintf(path, sizeof path, "%s/deep/kernels/%016llx%016llx", folder, (unsigned long long)k.word[0],
             (unsigned long long)k.word[1]);
    return path;
}

static int setup(void **state)
{
    (void)state;
    char path[100];
    snprintf(folder, sizeof folder, "/tmp/stretto-kept-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/deep/kernels", folder);
    setenv("STRETTO_KERNELS", path, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void kept_and_found(void **state)
{
    (void)state;
    static const char *const others[][4] = {
        { "cuda", "sm_90 -DX=1", "kernel ", NULL }, { "cuda", "sm_90 -DX=1k", "ernel", NULL },
        { "cuda", "sm_90 -DX=1", NULL, NULL }, { "cudasm_90 -DX=1kernel", NULL, NULL, NULL }, { NULL } };
    assert_false(found(mine, ""));
    kept_store(mine, "an image", 8);
    assert_true(found(mine, "an image"));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) assert_false(found(others[i], ""));
    kept_store(mine, "a better image", 14);
    assert_true(found(mine, "a better image"));
    kept_store(others[0], "", 0);
    assert_false(found(others[0], ""));
    struct stat st;
    assert_int_equal(stat(file_of(mine), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    setenv("STRETTO_KERNELS", "", 1);
    assert_false(found(mine, ""));
    kept_store(mine, "x", 1);
    setenv("STRETTO_KERNELS", "/dev/null/kernels", 1);
    assert_false(found(mine, ""));
    kept_store(mine, "x", 1);
    unsetenv("STRETTO_KERNELS");
    setenv("XDG_CACHE_HOME", folder, 1);
    kept_store(mine, "elsewhere", 9);
    assert_true(found(mine, "elsewhere"));
    char path[100];
    snprintf(path, sizeof path, "%s/stretto/kernels", folder);
    assert_int_equal(access(path, F_OK), 0);
    unsetenv("XDG_CACHE_HOME");
    snprintf(path, sizeof path, "%s/no-home", folder);
    setenv("HOME", path, 1);
    kept_store(mine, "nowhere", 7);
    assert_false(found(mine, ""));
    assert_int_equal(access(path, F_OK), -1);
    setenv("HOME", folder, 1);
    kept_store(mine, "at home", 7);
    assert_true(found(mine, "at home"));
}

/* Each bit turned, each end cut, a byte more. */
static void damage_is_noticed(void **state)
{
    (void)state;
    kept_store(mine, "an image", 8);
    unsigned char bytes[64];
    int fd = open(file_of(mine), O_RDONLY);
    ssize_t n = read(fd, bytes, sizeof bytes);
    close(fd);
    assert_int_equal(n, KEPT_HEADER + 8 + KEPT_FOOTER);
    for (ssize_t bit = 0; bit < 8 * n; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        assert_int_equal(file_replace(file_of(mine), bytes, (size_t)n, NULL), STRETTO_OK);
        assert_false(found(mine, ""));
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    bytes[n] = 0;
    for (ssize_t length = 0; length <= n + 1; length++) {
        assert_int_equal(file_replace(file_of(mine), bytes, (size_t)length, NULL), STRETTO_OK);
        assert_int_equal(found(mine, "an image"), length == n);
    }
    /* The file of another key under this name. */
    static const char *const other[] = { "other", NULL };
    kept_store(other, "an image", 8);
    char from[200];
    snprintf(from, sizeof from, "%s", file_of(other));
    assert_int_equal(rename(from, file_of(mine)), 0);
    assert_false(found(mine, ""));
}

static void what_others_can_write_is_left(void **state)
{
    (void)state;
    char aside[100];
    kept_store(mine, "an image", 8);
    assert_int_equal(chmod(file_of(mine), 0620), 0);
    assert_false(found(mine, ""));
    assert_int_equal(chmod(file_of(mine), 0644), 0);
    assert_true(found(mine, "an image"));
    snprintf(aside, sizeof aside, "%s/aside", folder);
    assert_int_equal(rename(file_of(mine), aside), 0);
    assert_int_equal(symlink(aside, file_of(mine)), 0);
    assert_false(found(mine, ""));
    assert_int_equal(unlink(file_of(mine)), 0);
    assert_int_equal(mkfifo(file_of(mine), 0600), 0);
    assert_false(found(mine, ""));
    assert_int_equal(unlink(file_of(mine)), 0);
    assert_int_equal(mkdir(file_of(mine), 0700), 0);
    assert_false(found(mine, ""));
    kept_store(mine, "an image", 8);
}

static void the_oldest_go(void **state)
{
    (void)state;
    enum { N = 6, SIZE = 1000, FILE_BYTES = KEPT_HEADER + SIZE + KEPT_FOOTER };
    char names[N][12], image[SIZE] = { 1 }, path[100], other[120];
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "%d", i);
        const char *const identity[] = { names[i], NULL };
        kept_store(identity, image, SIZE);
        struct timespec t[2] = { { .tv_sec = 1000 + i }, { .tv_sec = 1000 + i } };
        assert_int_equal(utimensat(AT_FDCWD, file_of(identity), t, 0), 0);
    }
    /* A file that is not ours stays and does not count; who is used is not old. */
    snprintf(path, sizeof path, "%s/deep/kernels", folder);
    snprintf(other, sizeof other, "%s/notes.txt", path);
    assert_int_equal(file_replace(other, image, SIZE, NULL), STRETTO_OK);
    void *p;
    size_t n;
    assert_true(kept_find((const char *const[]){ "1", NULL }, &p, &n));
    mem_free(p);
    kept_prune(path, N * FILE_BYTES);
    for (int most = N; most >= 0; most--) {
        kept_prune(path, (uint64_t)most * FILE_BYTES + 5);
        static const int goes[N + 1] = { 6, 0, 2, 3, 4, 5, 1 };  /* by then */
        for (int i = 0; i < N; i++) {
            bool gone = false;
            for (int k = 1; k <= N - most; k++) gone |= goes[k] == i;
            assert_int_equal(access(file_of((const char *const[]){ names[i], NULL }), F_OK) != 0, gone);
        }
    }
    assert_int_equal(access(other, F_OK), 0);
    kept_prune("/nowhere/at/all", 0);
}

static void memory_is_short(void **state)
{
    (void)state;
    kept_store(mine, "an image", 8);
    void *p;
    size_t n;
    mem_fail_at(1);
    assert_false(kept_find(mine, &p, &n));
    for (uint64_t i = 1; i < 8; i++) {
        mem_fail_at(i);
        kept_store(mine, "an image", 8);
        mem_fail_at(0);
        assert_true(found(mine, "an image"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(kept_and_found, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(what_others_can_write_is_left, setup, teardown),
        cmocka_unit_test_setup_teardown(the_oldest_go, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_is_short, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
