/* A pass that is killed at any moment, has no room on the disk, or meets another one: what is there afterwards is
 * the whole file, or what the same pass goes on with. Every call that changes a file is counted here, and dies or
 * fails when it is that call's turn. */
#include "unit/unit.h"
#include "base/memory.h"
#include "compress/journal.h"
#include "compress/rewrite.h"
#include "format/convert.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DATA STRETTO_SOURCE_DIR "/tests/data/format/"

/* ---- the calls ------------------------------------------------------------------------------ */

enum fault { NO_FAULT, DIE_BEFORE, DIE_HALF, DIE_AFTER, POWER_CUT, FULL };
static enum fault fault;
static int fault_at, calls;
static struct { int fd; size_t n; off_t at; } unsynced[1000];
static size_t n_unsynced;

/* What was written and not synced is lost, what was appended to the journal is not. */
static void lose(void)
{
    static const char zeros[1 << 20];
    for (size_t i = 0; i < n_unsynced; i++)
        syscall(SYS_pwrite64, unsynced[i].fd, zeros, unsynced[i].n, unsynced[i].at);
    _exit(9);
}

/* What this call is to do: whole, half of it, or nothing. */
static enum fault turn(void)
{
    enum fault f = fault != NO_FAULT && ++calls == fault_at ? fault : NO_FAULT;
    if (f == DIE_BEFORE) _exit(9);
    if (f == POWER_CUT) lose();
    if (f == FULL) errno = ENOSPC;
    return f;
}

static long after(enum fault f, long result)
{
    if (f == DIE_HALF || f == DIE_AFTER) _exit(9);
    return result;
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    enum fault f = turn();
    if (fault == POWER_CUT) {
        unsynced[n_unsynced].fd = fd;
        unsynced[n_unsynced].n = n;
        unsynced[n_unsynced++].at = at;
    }
    return f == FULL ? -1 : after(f, syscall(SYS_pwrite64, fd, p, f == DIE_HALF ? n / 2 : n, at));
}

ssize_t write(int fd, const void *p, size_t n)
{
    enum fault f = turn();
    return f == FULL ? -1 : after(f, syscall(SYS_write, fd, p, f == DIE_HALF ? n / 2 : n));
}

int fallocate(int fd, int mode, off_t at, off_t n)
{
    enum fault f = turn();
    return f == FULL ? -1 : (int)after(f, syscall(SYS_fallocate, fd, mode, at, n));
}

int ftruncate(int fd, off_t n) { enum fault f = turn(); return (int)after(f, syscall(SYS_ftruncate, fd, n)); }
/* A killed process loses nothing that it gave to the system, so nobody waits for a disk here. */
int fsync(int fd)
{
    (void)fd;
    long result = after(turn(), 0);
    n_unsynced = 0;
    return (int)result;
}
int fdatasync(int fd) { return fsync(fd); }
int unlink(const char *path) { enum fault f = turn(); return (int)after(f, syscall(SYS_unlinkat, AT_FDCWD, path, 0)); }

int renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
    enum fault f = turn();
    return (int)after(f, syscall(SYS_renameat2, a, from, b, to, flags));
}

/* ---- a pass --------------------------------------------------------------------------------- */

static char folder[] = "/tmp/stretto-rewrite-XXXXXX";
static char in[64], fused[64], out[64], part[72], state_file[72];
static bool went_on;
static int n_found;                     /* tensors of the interrupted pass */

static void on_log(void *ud, enum log_level level, const char *text)
{
    (void)ud;
    (void)level;
    const char *at = strncmp(text, "going on", 8) == 0 ? strchr(text, ':') : NULL;
    if (at) {
        went_on = true;
        n_found = atoi(at + 1);
    }
}

static bool is_there(const char *path) { return access(path, F_OK) == 0; }

static void make_gguf(const char *from, const char *to)
{
    struct error err = { 0 };
    struct convert_options o = { .type = DT_F32 };
    if (convert(from, to, &o, &err) != STRETTO_OK) printf("%s\n", err.text);
    assert_true(is_there(to));
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(in, sizeof in, "%s/in.gguf", folder);
    snprintf(fused, sizeof fused, "%s/fused.gguf", folder);
    snprintf(out, sizeof out, "%s/out.gguf", folder);
    snprintf(part, sizeof part, "%s.part", out);
    snprintf(state_file, sizeof state_file, "%s.state", out);
    make_gguf(DATA "hf-llama", in);
    make_gguf(DATA "hf-phi3", fused);
    return 0;
}

static void clean(void)
{
    unlink(out);
    unlink(part);
    unlink(state_file);
}

static int drop_folder(void **state)
{
    (void)state;
    clean();
    unlink(in);
    unlink(fused);
    return rmdir(folder);
}

struct pass { struct model *m; struct rewrite *r; };

static struct pass begin(const char *path, const char *recipe, stretto_status *s, struct error *err)
{
    struct pass p = { 0 };
    struct model_open_options mo = { .graph_only = true };
    struct rewrite_options o = { .recipe = recipe, .unlisted = 1, .log = { .say = on_log } };
    went_on = false;
    n_unsynced = 0;
    *s = model_open(&p.m, path, &mo, err);
    if (*s == STRETTO_OK) *s = rewrite_open(&p.r, p.m, out, &o, err);
    if (*s != STRETTO_OK) return p;
    for (size_t i = 0; i < rewrite_count(p.r); i++) {
        struct rewrite_tensor *t = rewrite_at(p.r, i);
        if (t->n_dims > 1) t->type = strcmp(recipe, "bf16") == 0 ? DT_BF16 : DT_F16;
    }
    rewrite_put_string(p.r, "stretto.squeeze.recipe", recipe);
    rewrite_reserve_string(p.r, "stretto.squeeze.report", 16);
    rewrite_put_u32(p.r, ".context_length", 77);
    *s = rewrite_begin(p.r, err);
    return p;
}

static stretto_status write_one(struct pass *p, struct rewrite_tensor *t, struct error *err)
{
    size_t n = (size_t)(t->dims[0] * t->dims[1]);
    float *v = mem_alloc(n * sizeof *v);
    void *bytes = mem_alloc(dtype_bytes(t->type, n));
    stretto_status s = rewrite_read(p->r, t->name, v, err);
    if (s == STRETTO_OK) {
        dtype_table[t->type].encode(v, bytes, n);
        s = rewrite_write(p->r, t->name, bytes, dtype_bytes(t->type, n), err);
    }
    mem_free(v);
    mem_free(bytes);
    return s;
}

/* From the last tensor to the first, but only so many of them. */
static stretto_status run(const char *path, const char *recipe, size_t most, struct error *err)
{
    stretto_status s;
    struct pass p = begin(path, recipe, &s, err);
    size_t n = s == STRETTO_OK ? rewrite_count(p.r) : 0, wrote = 0;
    for (size_t i = n; i-- > 0 && s == STRETTO_OK;) {
        struct rewrite_tensor *t = rewrite_at(p.r, i);
        if (t->done) continue;
        if (wrote++ == most) s = STRETTO_E_CANCEL;
        else s = t->n_dims == 1 ? rewrite_copy(p.r, t->name, err) : write_one(&p, t, err);
    }
    if (s == STRETTO_OK) s = rewrite_finish(p.r, err);
    rewrite_close(p.r, s == STRETTO_E_CANCEL);
    model_close(p.m);
    return s;
}

static char *bytes_of(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *p = malloc(1 << 22);
    *n = fread(p, 1, 1 << 22, f);
    fclose(f);
    assert_true(*n < 1 << 22);
    return p;
}

static char *whole_of(const char *recipe, size_t *n)
{
    struct error err = { 0 };
    clean();
    if (run(in, recipe, SIZE_MAX, &err) != STRETTO_OK) printf("%s\n", err.text);
    assert_true(is_there(out) && !is_there(part) && !is_there(state_file));
    char *p = bytes_of(out, n);
    clean();
    return p;
}

static void expect_bytes(const char *want, size_t n)
{
    size_t k;
    char *have = bytes_of(out, &k);
    assert_int_equal(k, n);
    assert_memory_equal(have, want, n);
    free(have);
}

/* ---- the tests ------------------------------------------------------------------------------ */

static int lines_of(const char *path)
{
    FILE *f = fopen(path, "rb");
    int n = 0;
    for (int c; f && (c = fgetc(f)) != EOF;) n += c == '\n';
    if (f) fclose(f);
    return n;
}

static void a_kill_at_any_call_is_gone_on_from(void **state)
{
    (void)state;
    size_t n, gone_on = 0, kills = 0;
    char *want = whole_of("f16", &n);
    for (enum fault f = DIE_BEFORE; f <= POWER_CUT; f++)
        for (int at = 1;; at++) {
            clean();
            pid_t child = fork();
            if (child == 0) {
                fault = f;
                fault_at = at;
                _exit(run(in, "f16", SIZE_MAX, NULL) == STRETTO_OK ? 0 : 1);
            }
            int how;
            assert_int_equal(waitpid(child, &how, 0), child);
            assert_true(WIFEXITED(how));
            if (WEXITSTATUS(how) == 0) break;
            assert_int_equal(WEXITSTATUS(how), 9);
            kills++;
            struct error err = { 0 };
            int lines = lines_of(state_file);
            went_on = false;
            if (!is_there(out) && run(in, "f16", SIZE_MAX, &err) != STRETTO_OK) printf("%s\n", err.text);
            gone_on += went_on;
            if (went_on) assert_int_equal(n_found, lines - 1);      /* what is listed is there */
            expect_bytes(want, n);
            assert_false(is_there(part));
        }
    assert_true(kills > 100 && gone_on > kills / 2);
    clean();
    free(want);
}

static void a_full_disk_leaves_nothing(void **state)
{
    (void)state;
    int failed = 0;
    for (int at = 1;; at++) {
        struct error err = { 0 };
        fault = FULL;
        fault_at = at;
        calls = 0;
        stretto_status s = run(in, "f16", SIZE_MAX, &err);
        bool reached = calls >= at;
        fault = NO_FAULT;
        if (!reached) break;
        if (s == STRETTO_OK) {                   /* that call does not take room */
            clean();
            continue;
        }
        failed++;
        assert_int_equal(s, STRETTO_E_IO);
        assert_non_null(strstr(err.text, "cannot write"));
        assert_true(!is_there(out) && !is_there(part) && !is_there(state_file));
    }
    assert_true(failed > 20);
    clean();
}

static void cancelled_passes_go_on_and_others_begin_anew(void **state)
{
    (void)state;
    size_t n, k;
    char *want = whole_of("f16", &n), *other = whole_of("bf16", &k);
    struct error err = { 0 };
    assert_int_equal(run(in, "f16", 3, &err), STRETTO_E_CANCEL);
    assert_true(is_there(part) && is_there(state_file) && !is_there(out));
    assert_int_equal(run(in, "f16", 2, &err), STRETTO_E_CANCEL);
    assert_true(went_on);
    assert_int_equal(run(in, "f16", SIZE_MAX, &err), STRETTO_OK);
    assert_true(went_on && !is_there(part) && !is_there(state_file));
    expect_bytes(want, n);
    clean();
    assert_int_equal(run(in, "f16", 5, &err), STRETTO_E_CANCEL);
    assert_int_equal(run(in, "bf16", SIZE_MAX, &err), STRETTO_OK);
    assert_false(went_on);
    expect_bytes(other, k);
    clean();
    free(want);
    free(other);
}

/* What a journal says is believed only where the file shows it. */
static void bytes_that_changed_are_written_again(void **state)
{
    (void)state;
    size_t n;
    char *want = whole_of("f16", &n);
    for (int what = 0; what < 3; what++) {
        assert_int_equal(run(in, "f16", 6, NULL), STRETTO_E_CANCEL);
        FILE *f = fopen(part, "r+b");
        fseek(f, what ? -40 : 8, SEEK_END * (what != 0));      /* a tensor's bytes, or the header's */
        fputs("hello", f);
        fclose(f);
        if (what == 2) assert_int_equal(truncate(part, 100), 0);
        assert_int_equal(run(in, "f16", SIZE_MAX, NULL), STRETTO_OK);
        assert_int_equal(went_on, what == 1);
        expect_bytes(want, n);
        clean();
    }
    free(want);
}

static void odd_journals_are_no_harm(void **state)
{
    (void)state;
    size_t n;
    char *want = whole_of("f16", &n);
    static const char *const texts[] = { "", "\n", "stretto pass ", "stretto pass 0123456789abcdef\n",
        "stretto pass 0123456789abcdef\n0123456789abcdef 99999999999999999999\n", "\xff\xfe" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(run(in, "f16", 4, NULL), STRETTO_E_CANCEL);
        FILE *f = fopen(state_file, "wb");
        fputs(texts[i], f);
        fclose(f);
        assert_int_equal(run(in, "f16", SIZE_MAX, NULL), STRETTO_OK);
        expect_bytes(want, n);
        clean();
    }
    struct error err = { 0 };
    assert_int_equal(mkfifo(state_file, 0600), 0);
    assert_int_equal(run(in, "f16", SIZE_MAX, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "is not a file"));
    assert_true(is_there(state_file) && !is_there(part));
    clean();
    assert_int_equal(symlink("/etc/passwd", state_file), 0);
    assert_int_equal(run(in, "f16", SIZE_MAX, NULL), STRETTO_E_IO);
    clean();
    free(want);
}

static void two_at_once_do_not_meet(void **state)
{
    (void)state;
    struct error err = { 0 };
    stretto_status s;
    struct pass p = begin(in, "f16", &s, &err);
    assert_int_equal(s, STRETTO_OK);
    assert_int_equal(run(in, "f16", SIZE_MAX, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "another process"));
    assert_true(is_there(part) && is_there(state_file));
    rewrite_close(p.r, false);
    model_close(p.m);
    assert_true(!is_there(part) && !is_there(state_file));
}

static void nothing_is_replaced_unasked(void **state)
{
    (void)state;
    struct error err = { 0 };
    FILE *f = fopen(out, "wb");
    fputs("mine", f);
    fclose(f);
    assert_int_equal(run(in, "f16", SIZE_MAX, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "--force"));
    size_t n;
    char *p = bytes_of(out, &n);
    assert_int_equal(n, 4);
    free(p);
    clean();
}

static float first_of(const struct binding *b, const char *name, uint32_t n_in, enum dtype *type)
{
    struct param_bytes p;
    struct error err = { 0 };
    float v[1];
    if (b->find(b->ud, name, n_in, 0, &p, &err) != STRETTO_OK) printf("%s\n", err.text);
    *type = p.type;
    dtype_table[p.type].decode(p.data, v, 1);
    return v[0];
}

/* Fused tensors are written whole; the binding finds their slices in the new file, others in the old one. */
static void slices_are_found_in_what_was_written(void **state)
{
    (void)state;
    struct error err = { 0 };
    stretto_status s;
    struct pass p = begin(fused, "f16", &s, &err);
    assert_int_equal(s, STRETTO_OK);
    struct rewrite_tensor *t = rewrite_find(p.r, "blk.0.attn_k.weight");
    assert_string_equal(t->name, "blk.0.attn_qkv.weight");
    assert_string_equal(t->param, "blk.0.attn_q.weight");
    struct binding b = rewrite_binding(p.r);
    enum dtype type;
    uint32_t width = (uint32_t)t->dims[0];
    float q = first_of(&b, "blk.0.attn_q.weight", width, &type), v = first_of(&b, "blk.0.attn_v.weight", width, &type);
    assert_int_equal(type, DT_F32);
    assert_int_equal(write_one(&p, t, &err), STRETTO_OK);
    assert_true(fabsf(first_of(&b, "blk.0.attn_q.weight", width, &type) - q) <= fabsf(q) / 1024);
    assert_true(fabsf(first_of(&b, "blk.0.attn_v.weight", width, &type) - v) <= fabsf(v) / 1024);
    assert_int_equal(type, DT_F16);
    first_of(&b, "blk.0.ffn_up.weight", width, &type);
    assert_int_equal(type, DT_F32);
    rewrite_close(p.r, false);
    model_close(p.m);
}

static void metadata_change_and_room_is_filled(void **state)
{
    (void)state;
    struct error err = { 0 };
    struct source *s;
    struct source_str text;
    uint64_t v;
    assert_int_equal(run(in, "f16", SIZE_MAX, &err), STRETTO_OK);
    assert_int_equal(rewrite_set_string(out, "stretto.squeeze.report", "{\"kl\": 0.05}", &err), STRETTO_OK);
    assert_int_equal(source_open(&s, out, &err), STRETTO_OK);
    assert_true(source_string(s, "stretto.squeeze.report", &text) && text.n == 16);
    assert_memory_equal(text.p, "{\"kl\": 0.05}    ", 16);
    assert_true(source_u64(s, ".context_length", &v) && v == 77);
    assert_true(source_u64(s, "general.file_type", &v) && v == 1);
    source_close(s);
    assert_int_equal(rewrite_set_string(out, "stretto.squeeze.report", "0123456789abcde\xc3\xa4", &err), STRETTO_OK);
    assert_int_equal(source_open(&s, out, &err), STRETTO_OK);
    assert_true(source_string(s, "stretto.squeeze.report", &text));
    assert_memory_equal(text.p, "0123456789abcde ", 16);
    source_close(s);
    assert_int_equal(rewrite_set_string(out, "no.such.key", "", &err), STRETTO_E_ARG);
    clean();
}

static void values_that_are_no_numbers_name_the_tensor(void **state)
{
    (void)state;
    struct error err = { 0 };
    struct source *s;
    assert_int_equal(source_open(&s, in, &err), STRETTO_OK);
    const struct source_tensor *t = source_tensor_find(s, "blk.0.ffn_up.weight");
    size_t size;
    char *p = bytes_of(in, &size);
    for (size_t at = 0; at + t->bytes <= size; at++)
        if (memcmp(p + at, t->data, t->bytes) == 0) memcpy(p + at + 4, "\0\0\xc0\x7f", 4);
    char broken[80];
    snprintf(broken, sizeof broken, "%s/broken.gguf", folder);
    FILE *f = fopen(broken, "wb");
    assert_int_equal(fwrite(p, 1, size, f), size);
    fclose(f);
    free(p);
    source_close(s);
    assert_int_equal(run(broken, "f16", SIZE_MAX, &err), STRETTO_E_FORMAT);
    assert_non_null(strstr(err.text, "blk.0.ffn_up.weight"));
    assert_true(!is_there(out) && !is_there(part) && !is_there(state_file));
    unlink(broken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kill_at_any_call_is_gone_on_from),
        cmocka_unit_test(a_full_disk_leaves_nothing),
        cmocka_unit_test(cancelled_passes_go_on_and_others_begin_anew),
        cmocka_unit_test(bytes_that_changed_are_written_again),
        cmocka_unit_test(odd_journals_are_no_harm),
        cmocka_unit_test(two_at_once_do_not_meet),
        cmocka_unit_test(nothing_is_replaced_unasked),
        cmocka_unit_test(slices_are_found_in_what_was_written),
        cmocka_unit_test(metadata_change_and_room_is_filled),
        cmocka_unit_test(values_that_are_no_numbers_name_the_tensor),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
