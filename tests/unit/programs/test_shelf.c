/* The folder of saved texts counts each file once, whole, half written, replaced or gone. */
#include "unit/unit.h"
#include "serve/shelf.h"
#include "serve/shelf.c"
#include <stdio.h>
#include <stdlib.h>

static char folder[] = "/tmp/shelf-XXXXXX", path[64];

static const char *at(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *name, size_t bytes)
{
    FILE *f = fopen(at(name), "wb");
    assert_non_null(f);
    for (size_t i = 0; i < bytes; i++) fputc(0, f);
    assert_int_equal(fclose(f), 0);
}

static bool take(struct shelf *s, const char *name, uint64_t bytes, int64_t *note)
{
    struct error err = { 0 };
    s->looked -= 2 * AGAIN;
    stretto_status st = shelf_take(s, at(name), bytes, note, &err);
    assert_true(st == STRETTO_OK || (st == STRETTO_E_IO && strstr(err.text, "--cache-disk-size")));
    return st == STRETTO_OK;
}

static void each_file_counts_once(void **state)
{
    struct shelf s;
    int64_t b, c, none;
    (void)state;
    put("a", 300);
    put("old.part", 500);
    shelf_open(&s, folder, 1000);
    assert_int_equal(access(at("old.part"), F_OK), -1);      /* nobody writes it any more */
    assert_int_equal(s.files, 300);
    assert_true(take(&s, "b", 400, &b));
    put("b.part", 250);
    assert_false(take(&s, "c", 301, &none));
    assert_true(take(&s, "c", 300, &c));
    put("c.part", 100);
    assert_false(take(&s, "d", 1, &none));
    assert_true(take(&s, "a", 300, &none));                  /* takes no more than it did */
    shelf_done(&s, none, true);
    unlink(at("b.part"));
    put("b", 400);
    shelf_done(&s, b, true);
    assert_false(take(&s, "d", 1, &none));
    unlink(at("c.part"));
    shelf_done(&s, c, false);                                /* the disk was full */
    assert_false(take(&s, "d", 301, &none));
    assert_true(take(&s, "a", 600, &none));
    assert_int_equal(none, 300);
    put("a", 600);
    shelf_done(&s, none, true);
    assert_false(take(&s, "d", 1, &none));
    unlink(at("b"));
    assert_true(take(&s, "d", 400, &none));
    shelf_close(&s);
    unlink(at("a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(each_file_counts_once) };
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return failed;
}
