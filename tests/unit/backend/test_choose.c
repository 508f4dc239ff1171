/* Words for devices (backend.h), over a table of backends made here: drivers that are there or not, cards
 * that two of them reach, CPUs behind them, and folders that look like machines with and without a card. */
#include "unit/unit.h"
#include "backend/backend.h"
#include "backend/cpu/cpu.h"
#include <unistd.h>

struct driver { const char *missing; size_t n; struct device_about about[4]; stretto_status opens; };
static struct driver cuda, opencl;
static int looked;                     /* how often a driver was asked */
static uint32_t opened_number;
static const struct backend backend_a, backend_b;

static stretto_status list(const struct driver *d, struct device_about *out, size_t cap, size_t *n,
                           struct error *err)
{
    looked++;
    *n = 0;
    if (d->missing) return fail(err, STRETTO_E_DEVICE, "%s", d->missing);
    for (size_t i = 0; i < d->n && i < cap; i++) out[(*n)++] = d->about[i];
    return STRETTO_OK;
}

static stretto_status list_a(struct device_about *out, size_t cap, size_t *n, struct error *err)
{
    return list(&cuda, out, cap, n, err);
}

static stretto_status list_b(struct device_about *out, size_t cap, size_t *n, struct error *err)
{
    return list(&opencl, out, cap, n, err);
}

static stretto_status open_as(const struct driver *d, const struct backend *b, struct device **out,
                              const struct device_options *o, struct error *err)
{
    if (d->opens != STRETTO_OK) return fail(err, d->opens, "a kernel does not compile");
    TRY(backend_cpu.open(out, &(struct device_options){ 0 }, err));
    (*out)->backend = b;
    opened_number = o->number;
    return STRETTO_OK;
}

static stretto_status open_a(struct device **out, const struct device_options *o, struct error *err)
{
    return open_as(&cuda, &backend_a, out, o, err);
}

static stretto_status open_b(struct device **out, const struct device_options *o, struct error *err)
{
    return open_as(&opencl, &backend_b, out, o, err);
}

static void closed(struct device *d) { backend_cpu.close(d); }

static const struct backend backend_a = { .name = "cuda", .list = list_a, .open = open_a, .close = closed },
                            backend_b = { .name = "opencl", .list = list_b, .open = open_b, .close = closed };
const struct backend *const backends[] = { &backend_cpu, &backend_a, &backend_b, NULL };

#define CARD(n) { .name = n, .card = true }

/* One NVIDIA card that both drivers reach, one that is too old, an AMD one, and the CPU. */
static void a_full_machine(void)
{
    looked = 0;
    cuda = (struct driver){ .n = 2, .about = { { .name = "NVIDIA K80", .card = true, .unusable = true,
                                                 .why = "too old" }, CARD("NVIDIA H100") } };
    opencl = (struct driver){ .n = 3, .about = { { .name = "pthread-haswell", .driver = "PoCL 3.1" },
                              { .name = "H100", .driver = "OpenCL 3.0 CUDA", .card = true },
                              CARD("gfx1100") } };
}

static void means(const char *word, const char *want)
{
    struct device_about a;
    struct error e = { 0 };
    stretto_status s = backend_find(word, &a, &e);
    if (s != STRETTO_OK) print_error("%s: %s\n", want, e.text);
    assert_int_equal(s, STRETTO_OK);
    assert_string_equal(a.word, want);
}

static void refused(const char *word, stretto_status s, const char *words)
{
    struct device_about a;
    struct error e = { 0 };
    assert_int_equal(backend_find(word, &a, &e), s);
    if (!strstr(e.text, words)) print_error("%s: %s\n", word, e.text);
    assert_non_null(strstr(e.text, words));
}

static void words(void **state)
{
    (void)state;
    static const char *const good[] = { "cpu", "gpu", "gpu:0", "gpu:9999", "cuda", "cuda:1", "opencl",
                                        "opencl:12", "auto" };
    static const char *const bad[] = { "", "CPU", "cpu:0", "cpu ", "gpu:", "gpu:-1", "gpu:1x", "gpu:00000",
                                       "gpu1", "cuda: 1", "cuda:99999999999999999999", "cuda:1:2", "opencl:a",
                                       "auto:0", "metal", ":", ":0", "open" };
    char all[200];
    a_full_machine();
    static const char *const several[] = { "gpu:0,gpu:1", "cuda:0,opencl:2,gpu" };
    static const char *const no_several[] = { "gpu:0,", ",gpu:0", "gpu:0,cpu", "auto,gpu:1", "gpu,,cuda",
                                              "gpu:0, gpu:1",
                                              "gpu:0,cuda:00000000000000000000000000001" };
    for (size_t i = 0; i < sizeof several / sizeof *several; i++) assert_true(device_word_known(several[i]));
    for (size_t i = 0; i < sizeof no_several / sizeof *no_several; i++)
        assert_false(device_word_known(no_several[i]));
    device_words(all, sizeof all);
    assert_string_equal(all, "cpu, gpu[:N], cuda[:N], opencl[:N], auto");
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(device_word_known(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(device_word_known(bad[i]));
        refused(bad[i], STRETTO_E_ARG, "gpu[:N]");
    }
    means(NULL, "cpu");
    means("cpu", "cpu");
    assert_int_equal(looked, 0);       /* nobody asked a driver so far */
}

static void numbers(void **state)
{
    (void)state;
    a_full_machine();
    means("gpu", "cuda:1");
    means("gpu:0", "cuda:1");
    means("gpu:1", "opencl:2");
    refused("gpu:2", STRETTO_E_DEVICE, "there are 2: gpu:0 (NVIDIA H100), gpu:1 (gfx1100)");
    means("opencl", "opencl:0");
    means("opencl:1", "opencl:1");
    refused("opencl:3", STRETTO_E_DEVICE,
            "there is no opencl:3; there are 3: opencl:0 (pthread-haswell), opencl:1 (H100), opencl:2 (gfx1100)");
    refused("cuda:0", STRETTO_E_DEVICE, "cuda:0 (NVIDIA K80) cannot be used: too old");
    cuda = (struct driver){ .missing = "libcuda.so.1 is not here" };
    means("gpu", "opencl:1");          /* now it is the only way to the card */
    refused("cuda", STRETTO_E_DEVICE, "libcuda.so.1 is not here");
    opencl.n = 1;
    refused("opencl:1", STRETTO_E_DEVICE, "there is 1: opencl:0 (pthread-haswell)");
    refused("gpu", STRETTO_E_DEVICE, "there is no gpu: libcuda.so.1 is not here; opencl has no card");
    opencl.n = 0;
    refused("opencl", STRETTO_E_DEVICE, "finds no device");
}

static void lists(void **state)
{
    (void)state;
    struct device_about all[8];
    a_full_machine();
    cuda = (struct driver){ .missing = "libcuda.so.1 is not here" };
    assert_int_equal(backend_list(all, 8), 5);
    assert_string_equal(all[0].word, "cpu");
    assert_string_equal(all[1].word, "cuda");
    assert_true(all[1].unusable);
    assert_string_equal(all[1].why, "libcuda.so.1 is not here");
    assert_string_equal(all[4].word, "opencl:2");
    assert_true(all[4].card);
    assert_int_equal(backend_list(all, 3), 3);
}

static void opens(void **state)
{
    (void)state;
    struct device_options o = { 0 };
    struct device *d;
    struct error e = { 0 };
    a_full_machine();
    assert_int_equal(backend_open("gpu:1", &o, &d, &e), STRETTO_OK);
    assert_ptr_equal(d->backend, &backend_b);
    assert_int_equal(opened_number, 2);
    assert_string_equal(d->word, "opencl:2");
    assert_string_equal(d->name, "gfx1100");
    device_lose(d, "the bus");
    assert_int_equal(device_check(d, &e), STRETTO_E_DEVICE);
    assert_string_equal(e.text, "the device opencl:2 is gone: the bus");
    device_close(d);
    opencl.opens = STRETTO_E_DEVICE;
    error_clear(&e);
    assert_int_equal(backend_open("opencl:2", &o, &d, &e), STRETTO_E_DEVICE);
    assert_null(d);
    assert_string_equal(e.text, "a kernel does not compile");
    assert_int_equal(backend_open(NULL, &o, &d, &e), STRETTO_OK);
    assert_string_equal(d->word, "cpu");
    device_close(d);
    if (cards_likely("")) return;      /* then auto asks whoever is really there */
    looked = 0;
    assert_int_equal(backend_open("auto", &o, &d, &e), STRETTO_OK);
    assert_string_equal(d->word, "cpu");
    assert_int_equal(looked, 0);
    device_close(d);
}

static void put(const char *root, const char *folder, const char *name, const char *text)
{
    char path[400];
    snprintf(path, sizeof path, "mkdir -p %s%s", root, folder);
    assert_int_equal(system(path), 0);
    snprintf(path, sizeof path, "%s%s/%s", root, folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* What a machine's folders say, without opening a library. */
static void cheap_look(void **state)
{
    (void)state;
    static const struct { const char *folder, *name, *text; bool likely; } rows[] = {
        { "/dev", "null", "", false },
        { "/dev", "nvidiactl", "", true },
        { "/dev", "dxg", "", true },
        { "/dev/dri", "card0", "", false },
        { "/dev/dri", "renderD128", "", true },
        { "/etc/OpenCL/vendors", "pocl.icd", "/usr/lib/libpocl.so.2.10.0\n", false },
        { "/etc/OpenCL/vendors", "intel64.icd", "libintelocl.so\n", false },
        { "/etc/OpenCL/vendors", "intel.icd", "libigdrcl.so\n", true },
        { "/etc/OpenCL/vendors", "nvidia.icd", "libnvidia-opencl.so.1\n", true },
        { "/etc/OpenCL/vendors", "nvidia.icd.off", "libnvidia-opencl.so.1\n", false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char root[] = "/tmp/stretto-look-XXXXXX", command[80];
        assert_non_null(mkdtemp(root));
        assert_false(cards_likely(root));
        put(root, rows[i].folder, rows[i].name, rows[i].text);
        if (cards_likely(root) != rows[i].likely) print_error("%s/%s\n", rows[i].folder, rows[i].name);
        assert_int_equal(cards_likely(root), rows[i].likely);
        snprintf(command, sizeof command, "rm -r %s", root);
        assert_int_equal(system(command), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(words), cmocka_unit_test(numbers),
                                        cmocka_unit_test(lists), cmocka_unit_test(opens),
                                        cmocka_unit_test(cheap_look) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
