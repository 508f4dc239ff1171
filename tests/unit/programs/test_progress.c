#include "unit/unit.h"
#include "base/log.h"
#include "ui/progress.c"
#include "ui/terminal.c"

static double fake_time;
static double fake_now(void) { return fake_time; }

static void line_says_all_and_fits(void **state)
{
    (void)state;
    char b[256];
    ui_progress_line(b, sizeof b, 120, "model.gguf", 25000000, 100000000, 5e6, false);
    assert_string_equal(b, "model.gguf   25%  25.0 MB of 100.0 MB  5.0 MB/s  15 s left");
    ui_progress_line(b, sizeof b, 120, "x", 1500, 0, 0, false);
    assert_string_equal(b, "x  1.5 kB");
    ui_progress_line(b, sizeof b, 120, "rows", 3, 4, 0, true);
    assert_string_equal(b, "rows   75%  3 of 4");
    ui_progress_line(b, sizeof b, 120, "x", 0, 8000, 1, false);
    assert_string_equal(b, "x    0%  0 B of 8.0 kB  1 B/s  2 h 13 min left");
    for (size_t w = 0; w < 80; w++) {
        ui_progress_line(b, sizeof b, w, "na\xc3\xafve-model.gguf", 1u << 30, 1ull << 40, 1e7,
                         false);
        assert_true(strlen(b) <= w);
    }
    ui_progress_line(b, 8, 120, "long name", UINT64_MAX, UINT64_MAX, 1e300, false);
    assert_int_equal(strlen(b), 7);
}

static void bytes_round_to_the_next_unit(void **state)
{
    (void)state;
    char b[32];
    assert_string_equal(ui_bytes(b, sizeof b, 999), "999 B");
    assert_string_equal(ui_bytes(b, sizeof b, 98362432), "98.4 MB");
    assert_string_equal(ui_bytes(b, sizeof b, 999999), "1.0 MB");
    assert_string_equal(ui_bytes(b, sizeof b, UINT64_MAX), "18.4 EB");
}

/* Everything written while `steps` seconds of work go by, 1 MB each. */
static void work(char *out, size_t cap, bool terminal, int steps, double dt)
{
    FILE *f = tmpfile();
    assert_non_null(f);
    struct ui_progress u;
    ui_progress_init(&u, f);
    u.now = fake_now;
    u.terminal = terminal;
    fake_time = 100;
    struct progress p = ui_progress_hook(&u);
    for (int i = 0; i <= steps; i++, fake_time += dt)
        progress_tell(&p, "work", (uint64_t)i * 1000000, (uint64_t)steps * 1000000);
    rewind(f);
    size_t n = fread(out, 1, cap - 1, f);
    out[n] = '\0';
    fclose(f);
}

static size_t count(const char *s, char c)
{
    size_t n = 0;
    for (; *s; s++) n += *s == c;
    return n;
}

static void short_work_is_silent(void **state)
{
    (void)state;
    char out[4096];
    work(out, sizeof out, false, 9, 0.1);
    assert_string_equal(out, "");
    work(out, sizeof out, true, 9, 0.1);
    assert_string_equal(out, "");
}

static void plain_lines_are_few(void **state)
{
    (void)state;
    char out[4096];
    work(out, sizeof out, false, 20, 1);
    assert_int_equal(count(out, '\n'), 5);           /* at 1, 6, 11, 16 seconds, and the last */
    assert_null(strchr(out, '\r'));
    assert_null(strchr(out, '\033'));
    assert_non_null(strstr(out, "work  100%  20.0 MB of 20.0 MB  1.0 MB/s\n"));
    assert_non_null(strstr(out, "work    5%  1.0 MB of 20.0 MB  1.0 MB/s  19 s left\n"));
}

static void terminal_line_is_redrawn_and_ended(void **state)
{
    (void)state;
    char out[4096];
    work(out, sizeof out, true, 20, 1);
    assert_int_equal(count(out, '\n'), 1);
    assert_int_equal(count(out, '\r'), 20);
    assert_null(strstr(out, "\033[2m"));             /* colour was off: not a terminal at init */
}

static char heard[1100];
static void hear(void *ud, enum log_level l, const char *text)
{
    *(int *)ud = (int)l;
    snprintf(heard, sizeof heard, "%s", text);
}

static void log_filters_and_cuts(void **state)
{
    (void)state;
    int level = -1;
    struct log l = { hear, &level, LOG_INFO };
    log_say(NULL, LOG_WARN, "x");
    log_say(&l, LOG_DEBUG, "quiet");
    assert_int_equal(level, -1);
    log_say(&l, LOG_WARN, "%d threads", 3);
    assert_int_equal(level, LOG_WARN);
    assert_string_equal(heard, "3 threads");
    log_say(&l, LOG_INFO, "%2000d", 1);
    assert_int_equal(strlen(heard), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_says_all_and_fits),
        cmocka_unit_test(bytes_round_to_the_next_unit),
        cmocka_unit_test(short_work_is_silent),
        cmocka_unit_test(plain_lines_are_few),
        cmocka_unit_test(terminal_line_is_redrawn_and_ended),
        cmocka_unit_test(log_filters_and_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
