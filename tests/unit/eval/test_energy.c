/* RAPL's counters on folders made up: which zones count, counters that wrap, and what cannot be read. */
#include "eval/energy.h"
#include "unit/unit.h"
#include <ftw.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];
static struct energy e;

static void put(const char *zone, const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, zone);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/%s/%s", folder, zone, name);
    unlink(path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void zone(const char *zone_name, const char *name, const char *energy)
{
    put(zone_name, "name", name);
    put(zone_name, "max_energy_range_uj", "262143328850\n");
    put(zone_name, "energy_uj", energy);
}

static int forget(const char *path, const struct stat *s, int flag, struct FTW *at)
{
    (void)s, (void)flag, (void)at;
    return remove(path);
}

static int make(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/stretto-energy-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int clear(void **state)
{
    (void)state;
    return nftw(folder, forget, 8, FTW_DEPTH | FTW_PHYS);
}

static void expect(double joules) { assert_true(fabs(energy_joules(&e) - joules) < 1e-7); }

static void packages_and_memory_count(void **state)
{
    (void)state;
    zone("intel-rapl:0", "package-0\n", "1000000\n");
    zone("intel-rapl:0:0", "core\n", "7\n");
    zone("intel-rapl:0:1", "uncore\n", "7\n");
    zone("intel-rapl:0:2", "dram\n", "500000\n");
    zone("intel-rapl:1", "package-1\n", "9000000\n");
    zone("intel-rapl:2", "psys\n", "7\n");
    zone("intel-rapl-mmio:0", "package-0\n", "7\n");
    zone("dtpm", "package\n", "7\n");
    put("intel-rapl", "enabled", "1\n");
    energy_open(&e, folder);
    assert_int_equal(e.n, 3);
    assert_string_equal(e.why, "");
    expect(0);
    const char *others[] = { "intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl:2", "intel-rapl-mmio:0", "dtpm" };
    for (size_t i = 0; i < 5; i++) put(others[i], "energy_uj", "99000000\n");
    put("intel-rapl:0", "energy_uj", "3000000\n");
    put("intel-rapl:0:2", "energy_uj", "750000\n");
    expect(2.25);
    put("intel-rapl:1", "energy_uj", "10000000\n");
    expect(3.25);
    expect(3.25);
}

static void counters_wrap(void **state)
{
    (void)state;
    zone("intel-rapl:0", "package-0\n", "262142328850\n");
    energy_open(&e, folder);
    put("intel-rapl:0", "energy_uj", "500000\n");
    expect(1.5);
    put("intel-rapl:0", "energy_uj", "400000\n");          /* once more, all but the whole way */
    expect(1.5 + 262143.22885);
    /* Nobody knows how far it had to go. */
    put("intel-rapl:0", "max_energy_range_uj", "none\n");
    energy_open(&e, folder);
    put("intel-rapl:0", "energy_uj", "300000\n");
    expect(0);
    put("intel-rapl:0", "energy_uj", "400000\n");
    expect(0.1);
}

static void what_is_not_there_is_not_said(void **state)
{
    (void)state;
    char none[80];
    snprintf(none, sizeof none, "%s/none", folder);
    const char *where[] = { none, folder };
    for (size_t i = 0; i < 2; i++) {
        energy_open(&e, where[i]);
        assert_int_equal(e.n, 0);
        assert_string_equal(e.why, "");
        assert_true(energy_joules(&e) < 0);
    }
    energy_open(&e, NULL);             /* this machine's own, whatever it has */
    assert_true(e.n ? energy_joules(&e) >= 0 : energy_joules(&e) < 0);
}

static void what_cannot_be_read_is_said(void **state)
{
    (void)state;
    static const char *const bad[] = { "", "\n", "-5\n", "12x\n", "99999999999999999999\n", "1e6\n" };
    zone("intel-rapl:0", "package-0\n", "1\n");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        zone("intel-rapl:1", "package-1\n", bad[i]);
        energy_open(&e, folder);
        assert_int_equal(e.n, 0);      /* one package of two is no answer */
        assert_non_null(strstr(e.why, "intel-rapl:1/energy_uj cannot be read: it holds no number"));
        assert_true(energy_joules(&e) < 0);
    }
    put("intel-rapl:1", "energy_uj", "5\n");
    energy_open(&e, folder);
    assert_int_equal(e.n, 2);
    put("intel-rapl:1", "energy_uj", "x");
    assert_true(energy_joules(&e) < 0);
    char path[128];
    snprintf(path, sizeof path, "%s/intel-rapl:1/energy_uj", folder);
    unlink(path);
    assert_true(energy_joules(&e) < 0);
    energy_open(&e, folder);
    assert_non_null(strstr(e.why, "No such file"));
    if (geteuid() == 0) return;        /* who may read everything */
    zone("intel-rapl:1", "package-1\n", "5\n");
    chmod(path, 0);
    energy_open(&e, folder);
    assert_int_equal(e.n, 0);
    assert_non_null(strstr(e.why, "Permission denied"));
}

static void too_many_zones_are_left(void **state)
{
    (void)state;
    for (int i = 0; i < ENERGY_ZONES + 9; i++) {
        char name[32];
        snprintf(name, sizeof name, "intel-rapl:%d", i);
        zone(name, "package-0\n", "1\n");
    }
    energy_open(&e, folder);
    assert_int_equal(e.n, ENERGY_ZONES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(packages_and_memory_count, make, clear),
        cmocka_unit_test_setup_teardown(counters_wrap, make, clear),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_not_said, make, clear),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_is_said, make, clear),
        cmocka_unit_test_setup_teardown(too_many_zones_are_left, make, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
