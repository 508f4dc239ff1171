/* What a chat template is found to want, and a heap that fails at every allocation in turn: a form must
 * not be chosen because memory ran out. The texts themselves: tests/program/test_chat_text.py. */
#include "unit/unit.h"
#include "base/memory.h"
#include "format/source.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include <unistd.h>

struct opened { char folder[64]; struct source *src; struct tokenizer *t; };

static void put_file(const char *folder, const char *name, const void *p, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
}

static struct opened open_tokenizer(void)
{
    struct opened o = { .folder = "/tmp/stretto-test-XXXXXX" };
    struct error err = { 0 };
    static char text[1 << 16];
    FILE *f = fopen(STRETTO_SOURCE_DIR "/tests/fuzz/corpus/tokenizer/byte_bpe", "rb");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    assert_non_null(mkdtemp(o.folder));
    put_file(o.folder, "tokenizer.json", text, strlen(text));
    assert_int_equal(source_open(&o.src, o.folder, &err), STRETTO_OK);
    assert_int_equal(tokenizer_open(&o.t, o.src, &err), STRETTO_OK);
    return o;
}

static void close_tokenizer(struct opened *o)
{
    char path[512];
    tokenizer_close(o->t);
    source_close(o->src);
    snprintf(path, sizeof path, "%s/tokenizer.json", o->folder);
    remove(path);
    rmdir(o->folder);
}

static const char parts[] = "{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}]"
                            "{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}";

/* Opens and renders; the text must be right whenever both succeed. */
static stretto_status once(const struct tokenizer *t, struct error *err)
{
    static const stretto_message talk[] = { { "system", "Be brief." }, { "user", "hi" } };
    static const char want[] = "[user]Be brief.\n\nhi";
    struct chat *c;
    struct buffer text = buffer_make(1 << 16), marks = buffer_make(1 << 16);
    unsigned notes = 0;
    stretto_status s = chat_open_text(&c, t, parts, sizeof parts - 1, err);
    if (s == STRETTO_OK) s = chat_render(c, talk, 2, true, 0, &text, &marks, &notes, err);
    if (s == STRETTO_OK) {
        assert_string_equal(text.data, want);
        assert_int_equal(marks.len, text.len);
        assert_memory_equal(marks.data, "\0\0\0\0\0\0", 6);
        for (size_t i = 6; i < marks.len; i++) assert_int_equal(marks.data[i], 1);
        assert_int_equal(notes, CHAT_SYSTEM_FOLDED);
    }
    chat_close(c);
    buffer_done(&text);
    buffer_done(&marks);
    return s;
}

static void memory_that_runs_out_chooses_no_form(void **state)
{
    (void)state;
    struct opened o = open_tokenizer();
    for (uint64_t i = 1;; i++) {
        struct error err = { 0 };
        uint64_t before = mem_count();
        mem_fail_at(i);
        stretto_status s = once(o.t, &err);
        bool reached = mem_count() - before >= i;
        mem_fail_at(0);
        if (!reached) {
            assert_int_equal(s, STRETTO_OK);
            assert_true(i > 50);
            break;
        }
        assert_int_equal(s, STRETTO_E_NOMEM);
        assert_non_null(strstr(err.text, "memory"));
    }
    close_tokenizer(&o);
}

/* Messages in roles that nobody tried are looked for in one rendering, or one for each would make a long conversation
 * with calls of tools quadratic: this one would take minutes. */
static void many_messages_of_other_roles(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    static const char all[] = "{% for m in messages %}<{{ m.content }}>{% endfor %}";
    static const char some[] = "{% for m in messages %}{% if m.role != 'hidden' %}<{{ m.content }}>{% endif %}"
                               "{% endfor %}";
    struct opened o = open_tokenizer();
    struct chat *c;
    struct error err = { 0 };
    stretto_message *m = calloc(MANY, sizeof *m);
    assert_non_null(m);
    for (size_t i = 0; i < MANY; i++) m[i] = (stretto_message){ i % 2 ? "tool" : "system", "x" };
    for (int hides = 0; hides < 2; hides++) {
        struct buffer text = buffer_make(1 << 20), marks = buffer_make(1 << 20);
        if (hides) m[MANY - 2].role = "hidden";
        assert_int_equal(chat_open_text(&c, o.t, hides ? some : all, strlen(hides ? some : all), &err), STRETTO_OK);
        assert_int_equal(chat_render(c, m, MANY, false, 0, &text, &marks, NULL, &err),
                         hides ? STRETTO_E_UNSUP : STRETTO_OK);
        if (!hides) assert_int_equal(text.len, 3 * MANY);
        else assert_non_null(strstr(err.text, "nothing of message 19999, whose role is hidden"));
        buffer_done(&text);
        buffer_done(&marks);
        chat_close(c);
    }
    free(m);
    close_tokenizer(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_that_runs_out_chooses_no_form),
        cmocka_unit_test(many_messages_of_other_roles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
