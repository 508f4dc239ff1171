#include "unit/unit.h"
#include "base/arena.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/reader.h"
#include "base/status.h"
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void first_cause_wins(void **state)
{
    (void)state;
    struct error e = { 0 };
    assert_int_equal(fail(&e, STRETTO_E_IO, "disk %d", 1), STRETTO_E_IO);
    assert_int_equal(fail(&e, STRETTO_E_ARG, "later"), STRETTO_E_ARG);
    assert_string_equal(e.text, "disk 1");
    assert_int_equal(e.status, STRETTO_E_IO);
}

static void arena_measures_and_takes_the_same(void **state)
{
    (void)state;
    struct arena a = { 0 };
    arena_take(&a, 10); arena_take(&a, 100);
    size_t need = a.top;
    _Alignas(64) unsigned char mem[256];
    struct arena b = { .base = mem, .cap = need };
    assert_non_null(arena_take(&b, 10));
    assert_non_null(arena_take(&b, 100));
    assert_null(arena_take(&b, 1));
}

static void buffer_refuses_past_its_maximum(void **state)
{
    (void)state;
    struct buffer b = buffer_make(8);
    assert_int_equal(buffer_str(&b, "12345678"), STRETTO_OK);
    assert_int_equal(buffer_str(&b, "9"), STRETTO_E_FULL);
    assert_string_equal(b.data, "12345678");
    buffer_done(&b);
    mem_fail_at(1);
    assert_int_equal(buffer_str(&b, "x"), STRETTO_E_NOMEM);
    mem_fail_at(0);
}

static void reader_stops_at_the_end(void **state)
{
    (void)state;
    const unsigned char bytes[] = { 3, 0, 0, 0, 0, 0, 0, 0, 1, 2 };
    struct reader r = { .p = bytes, .end = bytes + sizeof bytes };
    assert_int_equal(read_count(&r, 1), 0);
    assert_true(r.bad);
    assert_null(read_bytes(&r, 0));
}

/* A pipe stands for the devices, which only root can make, and lose. */
static void only_files_are_replaced(void **state)
{
    (void)state;
    char folder[] = "/tmp/stretto-base-XXXXXX", pipe[64], plain[64];
    struct error err = { 0 };
    struct stat st;
    assert_non_null(mkdtemp(folder));
    snprintf(pipe, sizeof pipe, "%s/pipe", folder);
    snprintf(plain, sizeof plain, "%s/plain", folder);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(file_replace(pipe, "x", 1, &err), STRETTO_E_IO);
    assert_int_equal(lstat(pipe, &st), 0);
    assert_true(S_ISFIFO(st.st_mode));
    assert_int_equal(file_replace(plain, "x", 1, NULL), STRETTO_OK);
    assert_int_equal(file_replace(plain, "yz", 2, NULL), STRETTO_OK);
    assert_int_equal(stat(plain, &st), 0);
    assert_int_equal(st.st_size, 2);
    unlink(pipe);
    unlink(plain);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_files_are_replaced),
        cmocka_unit_test(first_cause_wins), cmocka_unit_test(arena_measures_and_takes_the_same),
        cmocka_unit_test(buffer_refuses_past_its_maximum), cmocka_unit_test(reader_stops_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
