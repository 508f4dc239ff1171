/* Folders as the kernel lays them out, made up here; both versions, containers, what is missing. */
#include "unit/unit.h"
#include "base/cgroup.h"
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

/* Writes root/path and the folders it stands in. */
static void put(const char *path, const char *text)
{
    char name[512];
    snprintf(name, sizeof name, "%s%s", root, path);
    for (char *p = name + strlen(root) + 1; (p = strchr(p, '/')); *p++ = '/') {
        *p = '\0';
        mkdir(name, 0700);
    }
    FILE *f = fopen(name, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int begin(void **state)
{
    (void)state;
    strcpy(root, "/tmp/cgroup.XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int end(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", root);
    return system(command);
}

static void nothing_is_no_limit(void **state)
{
    (void)state;
    assert_int_equal(cgroup_cpus(root), 0);
    assert_true(cgroup_memory(root) == UINT64_MAX);
    put("/proc/self/cgroup", "nonsense\n\n0::\n1:cpu\n");
    put("/sys/fs/cgroup/memory.max", "max\n");
    put("/sys/fs/cgroup/cpu.max", "max 100000\n");
    assert_int_equal(cgroup_cpus(root), 0);
    assert_true(cgroup_memory(root) == UINT64_MAX);
}

static void version_2_up_to_the_top(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/user.slice/run.scope\n");
    put("/sys/fs/cgroup/user.slice/run.scope/cpu.max", "250000 100000\n");
    put("/sys/fs/cgroup/user.slice/cpu.max", "400000 100000\n");
    assert_int_equal(cgroup_cpus(root), 2);
    put("/sys/fs/cgroup/user.slice/cpu.max", "50000 100000\n");
    assert_int_equal(cgroup_cpus(root), 1);                  /* the tightest, and never none */
    put("/sys/fs/cgroup/user.slice/run.scope/memory.max", "max\n");
    put("/sys/fs/cgroup/user.slice/run.scope/memory.current", "700\n");
    put("/sys/fs/cgroup/user.slice/memory.max", "1000\n");
    put("/sys/fs/cgroup/user.slice/memory.current", "900\n");
    assert_int_equal(cgroup_memory(root), 100);
    /* Cached files can be had again. */
    put("/sys/fs/cgroup/user.slice/memory.stat",
        "anon 300\nfile 600\ninactive_anon 5\nactive_file 150\ninactive_file 400\n");
    assert_int_equal(cgroup_memory(root), 650);
    put("/sys/fs/cgroup/user.slice/run.scope/memory.max", "701\n");
    assert_int_equal(cgroup_memory(root), 1);
    put("/sys/fs/cgroup/user.slice/run.scope/memory.max", "600\n");
    assert_int_equal(cgroup_memory(root), 1);                /* over the limit, and not "unknown" */
}

static void version_1_by_controllers(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/x\n0::/\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000\n");     /* of a container: its own is the top */
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpuset/x/cpu.cfs_quota_us", "1\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2000\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1500\n");
    put("/sys/fs/cgroup/memory/memory.stat", "active_file 1\ntotal_active_file 100\n"
                                             "total_inactive_file 200\n");
    assert_int_equal(cgroup_cpus(root), 3);
    assert_int_equal(cgroup_memory(root), 800);
    put("/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cgroup_cpus(root), 3);
}

static void the_tighter_of_machine_and_group(void **state)
{
    (void)state;
    assert_true(memory_available(root) == 0);
    put("/proc/meminfo", "MemTotal:       100 kB\nMemFree: 1 kB\nMemAvailable:    10 kB\nBuffers: 3 kB\n");
    assert_int_equal(memory_available(root), 10240);
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/memory.max", "8000\n");
    put("/sys/fs/cgroup/memory.current", "1000\n");
    assert_int_equal(memory_available(root), 7000);
    put("/sys/fs/cgroup/memory.max", "800000\n");
    assert_int_equal(memory_available(root), 10240);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_no_limit, begin, end),
        cmocka_unit_test_setup_teardown(version_2_up_to_the_top, begin, end),
        cmocka_unit_test_setup_teardown(version_1_by_controllers, begin, end),
        cmocka_unit_test_setup_teardown(the_tighter_of_machine_and_group, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
