#include "unit/unit.h"
#include "base/memory.h"
#include "models/catalogue.h"
#include <sys/stat.h>
#include <unistd.h>

#define SHA "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
#define DIE(...) do { print_error(__VA_ARGS__); _fail(__FILE__, __LINE__); } while (0)
#define ONE "model one\n  licence MIT\n  source hf:u/r/one.gguf\n  file one.gguf 5 -\n"

static char home[] = "/tmp/stretto-catalogue-XXXXXX";

/* Status of adding `text` to an empty catalogue; the words of a refusal end up in `err`. */
static stretto_status add(const char *text, struct error *err)
{
    struct catalogue *c;
    *err = (struct error){ 0 };
    assert_int_equal(catalogue_empty(&c, err), STRETTO_OK);
    stretto_status s = catalogue_add(c, text, strlen(text), "text", err);
    assert_true(s == STRETTO_OK || catalogue_count(c) == 0);
    catalogue_close(c);
    return s;
}

static void what_is_built_in_is_whole(void **state)
{
    (void)state;
    struct catalogue *c;
    struct error err = { 0 };
    if (catalogue_open(&c, &err) != STRETTO_OK) DIE("%s", err.text);
    static const char *const names[] = { "smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b",
                                         "gemma3-270m", "minilm-l6-v2" };
    assert_int_equal(catalogue_count(c), 5);
    for (size_t i = 0; i < 5; i++) {
        const struct catalogue_model *m = catalogue_find(c, names[i]);
        assert_non_null(m);
        assert_true(*m->licence && *m->title && catalogue_bytes(m) > 0);
        for (size_t k = 0; k < m->n_files; k++) assert_int_equal(strlen(m->files[k].sha256), 64);
    }
    const struct catalogue_model *d = catalogue_default(c);
    assert_string_equal(d->name, "smollm2-135m");
    assert_string_equal(d->files[0].name, "SmolLM2-135M-Instruct.Q4_1.gguf");
    assert_string_equal(d->files[0].sha256, SHA);
    assert_int_equal(catalogue_bytes(d), 98362432);
    assert_true(strncmp(catalogue_endpoint(c), "https://", 8) == 0);
    assert_null(catalogue_find(c, "nothing"));
    catalogue_close(c);
}

static void every_field_is_read(void **state)
{
    (void)state;
    static const char text[] = "# words\r\n\nendpoint https://models.example\nmodel a.b_c-1\n"
        "\ttitle  A  B \n licence L 2\nterms https://t.example/x\ndefault\nfolder dir\n"
        "source https://x.example/d\nsource file:/srv\nfile m/x.safetensors - -\n"
        "file y 12 B179C9523D0E6A0F98A330C7562B682750A6F8C8C15E5BC70EA373728110DB53";
    struct catalogue *c;
    struct error err = { 0 };
    assert_int_equal(catalogue_empty(&c, &err), STRETTO_OK);
    if (catalogue_add(c, text, sizeof text - 1, "text", &err) != STRETTO_OK) DIE("%s", err.text);
    const struct catalogue_model *m = catalogue_default(c);
    assert_string_equal(m->name, "a.b_c-1");
    assert_string_equal(m->title, "A  B");
    assert_string_equal(m->licence, "L 2");
    assert_string_equal(m->terms, "https://t.example/x");
    assert_int_equal(m->n_sources, 2);
    assert_string_equal(m->sources[1], "file:/srv");
    assert_int_equal(m->n_files, 2);
    assert_string_equal(m->files[1].sha256, SHA);
    assert_int_equal(m->files[1].bytes, 12);
    assert_int_equal(catalogue_bytes(m), 0);
    assert_string_equal(catalogue_endpoint(c), "https://models.example");
    struct buffer path = buffer_make(100);
    assert_int_equal(catalogue_file_path(m, 0, "/d", &path), STRETTO_OK);
    assert_string_equal(path.data, "/d/dir/m/x.safetensors");
    assert_int_equal(catalogue_path(m, "/d", &path), STRETTO_OK);
    assert_string_equal(path.data, "/d/dir");
    buffer_done(&path);
    catalogue_close(c);
}

static void a_later_text_replaces_and_adds(void **state)
{
    (void)state;
    static const char first[] = ONE "default\nmodel two\nsource hf:u/r/t\nfile t 1 -\n";
    static const char second[] = "model three\nsource hf:u/r/t\nfile t 1 -\ndefault\n"
                                 "model one\nsource hf:v/r/t\nfile new.gguf 7 -\n";
    struct catalogue *c;
    struct error err = { 0 };
    assert_int_equal(catalogue_empty(&c, &err), STRETTO_OK);
    assert_int_equal(catalogue_add(c, first, sizeof first - 1, "1", &err), STRETTO_OK);
    assert_int_equal(catalogue_add(c, second, sizeof second - 1, "2", &err), STRETTO_OK);
    assert_int_equal(catalogue_count(c), 3);
    assert_string_equal(catalogue_at(c, 0)->name, "one");
    assert_string_equal(catalogue_at(c, 0)->files[0].name, "new.gguf");
    assert_string_equal(catalogue_default(c)->name, "three");
    static const char bad[] =
        "endpoint https://else.example\nmodel four\nsource hf:u/r/t\nfile t 1 -\nmodel";
    assert_int_equal(catalogue_add(c, bad, sizeof bad - 1, "3", &err), STRETTO_E_FORMAT);
    assert_int_equal(catalogue_count(c), 3);
    assert_string_equal(catalogue_endpoint(c), "");
    catalogue_close(c);
}

static void bad_lines_are_refused_by_number(void **state)
{
    (void)state;
    static const struct { const char *text, *words;
    } rows[] = {
        {"licence MIT\n", "line 1: 'licence' comes before the first model"},
        {"model a b\n", "one word"},
        {"model ../a\n", "one word"},
        {"model\n", "one word"},
        {"model a\n", "a has no file line"},
        {ONE "model one\n", "line 5: one is there twice"},
        {"model a\nfile x 1 -\n", "a has no source line"},
        {"model a\nsource hf:u\nfile x 1 -\nfile y 1 -\n", "several files and no folder"},
        {"model a\nsource hf:u\nfile x/y 1 -\n", "cannot be in a subfolder"},
        {ONE "file one.gguf 5 -\n", "there twice"},
        {ONE "colour red\n", "'colour' is not a known key"},
        {ONE "file ../x 1 -\n", "cannot be the name of a file"},
        {ONE "file /etc/x 1 -\n", "cannot be the name of a file"},
        {ONE "file a/../../x 1 -\n", "cannot be the name of a file"},
        {ONE "file x.part 1 -\n", "cannot be the name of a file"},
        {ONE "file x -1 -\n", "number of bytes"},
        {ONE "file x 0 -\n", "cannot be the size"},
        {ONE "file x 99999999999999999 -\n", "number of bytes"},
        {ONE "file x 9999999999999999 -\n", "cannot be the size"},
        {ONE "file x 1 abc\n", "is not a sha256"},
        {ONE "file x 1\n", "a file line is"},
        {ONE "source ftp://x/y\n", "a source line is"},
        {ONE "source https://\n", "a source line is"},
        {ONE "folder a/b\n", "name of a folder"},
        {ONE "folder\n", "name of a folder"},
        {ONE "terms http://x\n", "terms are"},
        {"endpoint gopher://x\n", "an endpoint line is"},
        {ONE "default\nmodel b\ndefault\n", "one is the default already"},
        {ONE "title a\033[2J\n", "control character"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct error err;
        if (add(rows[i].text, &err) != STRETTO_E_FORMAT || !strstr(err.text, rows[i].words))
            DIE("row %zu: '%s' is not '%s'", i, err.text, rows[i].words);
    }
    struct error err;
    assert_int_equal(add(ONE, &err), STRETTO_OK);
    struct catalogue *c;
    assert_int_equal(catalogue_empty(&c, &err), STRETTO_OK);
    assert_int_equal(catalogue_add(c, "model\0x", 7, "text", &err), STRETTO_E_FORMAT);
    catalogue_close(c);
}

static void limits_hold(void **state)
{
    (void)state;
    struct error err;
    struct buffer b = buffer_make(1 << 22);
    for (int i = 0; i <= CATALOGUE_MAX_MODELS; i++)
        buffer_printf(&b, "model m%d\nsource hf:u\nfile x 1 -\n", i);
    assert_int_equal(add(b.data, &err), STRETTO_E_FORMAT);
    assert_non_null(strstr(err.text, "at most 1024 models"));
    buffer_clear(&b);
    buffer_printf(&b, ONE "%*s", CATALOGUE_MAX_LINE + 1, "");
    assert_int_equal(add(b.data, &err), STRETTO_E_FORMAT);
    buffer_clear(&b);
    buffer_str(&b, "model m\nfolder f\nsource hf:u\n");
    for (int i = 0; i <= CATALOGUE_MAX_FILES; i++) buffer_printf(&b, "file x%d 1 -\n", i);
    assert_int_equal(add(b.data, &err), STRETTO_E_FORMAT);
    assert_non_null(strstr(err.text, "at most 256 files"));
    buffer_done(&b);
}

static void no_memory_is_an_error(void **state)
{
    (void)state;
    for (uint64_t n = 1; ; n++) {
        struct catalogue *c = NULL;
        struct error err = { 0 };
        mem_fail_at(n);
        stretto_status s = catalogue_open(&c, &err);
        mem_fail_at(0);
        catalogue_close(c);
        if (s == STRETTO_OK) { assert_true(n > 5); break; }
        assert_null(c);
        assert_int_equal(s, STRETTO_E_NOMEM);
    }
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void names_resolve_into_the_cache(void **state)
{
    (void)state;
    char path[200], want[200];
    assert_int_equal(setenv("XDG_CACHE_HOME", home, 1), 0);
    assert_int_equal(setenv("XDG_CONFIG_HOME", home, 1), 0);
    snprintf(path, sizeof path, "%s/stretto", home); mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/stretto/models", home); mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/stretto/catalogue", home); put(path, ONE);

    struct buffer b = buffer_make(CATALOGUE_MAX_PATH);
    struct error err = { 0 };
    bool away = false;
    assert_int_equal(catalogue_resolve("one", &b, &away, &err), STRETTO_E_IO);
    assert_non_null(strstr(err.text, "stretto pull one"));
    assert_true(away);
    assert_string_equal(b.data, "one");
    err = (struct error){ 0 };
    assert_int_equal(catalogue_resolve(NULL, &b, &away, &err), STRETTO_E_IO);
    assert_non_null(strstr(err.text, "stretto pull smollm2-135m"));
    err = (struct error){ 0 };
    assert_int_equal(catalogue_resolve("two", &b, &away, &err), STRETTO_E_IO);
    assert_non_null(strstr(err.text, "no model of that name"));
    assert_false(away);

    snprintf(want, sizeof want, "%s/stretto/models/one.gguf", home);
    put(want, "1234");                                    /* too short: not there yet */
    assert_int_equal(catalogue_resolve("one", &b, &away, NULL), STRETTO_E_IO);
    put(want, "12345");
    assert_int_equal(catalogue_resolve("one", &b, &away, NULL), STRETTO_OK);
    assert_string_equal(b.data, want);
    assert_int_equal(catalogue_resolve(want, &b, &away, NULL), STRETTO_OK);      /* a path is itself */
    assert_int_equal(catalogue_resolve("./absent.gguf", &b, &away, NULL), STRETTO_OK);

    put(path, "model broken\n");
    err = (struct error){ 0 };
    assert_int_equal(catalogue_resolve("one", &b, &away, &err), STRETTO_E_FORMAT);
    assert_non_null(strstr(err.text, "line 1: broken has no file line"));
    unlink(path);
    unlink(want);
    buffer_done(&b);
}

int main(void)
{
    if (!mkdtemp(home)) SKIP("no temporary folder");
    setenv("XDG_CONFIG_HOME", home, 1);
    unsetenv("STRETTO_CATALOGUE");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_built_in_is_whole),
        cmocka_unit_test(every_field_is_read),
        cmocka_unit_test(a_later_text_replaces_and_adds),
        cmocka_unit_test(bad_lines_are_refused_by_number),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(no_memory_is_an_error),
        cmocka_unit_test(names_resolve_into_the_cache),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char path[200];
    snprintf(path, sizeof path, "%s/stretto/models", home); rmdir(path);
    snprintf(path, sizeof path, "%s/stretto", home); rmdir(path);
    rmdir(home);
    return failed;
}
