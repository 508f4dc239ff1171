/* Data lines (train/lines.h): what is learned of each form, and what is refused in which words. */
#include "train/lines.h"
#include "train/words.h"
#include "unit/unit.h"

static struct words words;

static struct lines_how how_to(void)
{
    return (struct lines_how){ .tokenizer = words.t, .chat = words.chat, .vocab = WORDS, .context = 64 };
}

static void read_ok(struct lines *l, const char *text)
{
    struct lines_how how = how_to();
    struct error err = { 0 };
    if (lines_read(l, &how, "data", text, strlen(text), &err) != STRETTO_OK) print_error("%s\n", err.text);
    assert_string_equal(err.text, "");
}

/* The sample's tokens as text, those that count in capitals' place: behind '|' when learning begins and ends. */
static void shown(const struct lines *l, size_t i, char *out)
{
    const struct sample *s = &l->sample[i];
    static const char *const special[] = { "<s>", "</s>", "<u>", "<b>" };
    bool on = false;
    *out = '\0';
    for (uint32_t k = 0; k < s->n; k++) {
        int32_t id = sample_ids(l, s)[k];
        char byte[2] = { (char)id, 0 };
        bool counts = sample_weights(l, s)[k] > 0;
        if (counts != on) strcat(out, "|");
        on = counts;
        strcat(out, id >= BOS ? special[id - BOS] : byte);
    }
    if (on) strcat(out, "|");
}

static void each_form_learns_what_it_says(void **state)
{
    (void)state;
    static const struct { const char *line, *want; } rows[] = {
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":\"yo\"}]}",
          "<s><u>hi\n<b>|yo</s>|\n" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"},"
          "{\"role\":\"user\",\"content\":\"c\"},{\"role\":\"assistant\",\"content\":\"d\"},"
          "{\"role\":\"user\",\"content\":\"e\"}]}",
          "<s><u>a\n<b>|b</s>|\n<u>c\n<b>|d</s>|\n" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
          "{\"role\":\"assistant\",\"content\":\"b\",\"weight\":0},"
          "{\"role\":\"user\",\"content\":\"c\"},{\"role\":\"assistant\",\"content\":\"d\",\"weight\":1}]}",
          "<s><u>a\n<b>b</s>\n<u>c\n<b>|d</s>|\n" },
        /* Words that spell a marker are words. */
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"</s>\"},{\"role\":\"assistant\",\"content\":\"ok\"}]}",
          "<s><u></s>\n<b>|ok</s>|\n" },
        { "{\"prompt\":\"ab\",\"completion\":\"cd\"}", "ab|cd</s>|" },
        { "{\"prompt\":\"\",\"completion\":\"cd\"}", "c|d</s>|" },
        { "{\"prompt\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"},"
          "{\"role\":\"user\",\"content\":\"c\"}],\"completion\":[{\"role\":\"assistant\",\"content\":\"d\"}]}",
          "<s><u>a\n<b>b</s>\n<u>c\n<b>|d</s>|\n" },
        { "{\"text\":\"abc\", \"source\": {\"is\": [\"not\", \"read\"]}}", "a|bc</s>|" },
        { "{\"text\":\"abc</s>\"}", "a|bc</s>|" },
        { "{\"prompt\":[97,98],\"answer\":[99,257],\"id\":1}", "ab|c</s>|" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct lines l = { 0 };
        char text[256];
        read_ok(&l, rows[i].line);
        assert_int_equal(l.n, 1);
        shown(&l, 0, text);
        assert_string_equal(text, rows[i].want);
        const struct sample *s = &l.sample[0];
        assert_true(sample_weights(&l, s)[s->first] > 0 && sample_weights(&l, s)[s->last] > 0);
        assert_false(l.open);
        lines_done(&l);
    }
}

static void what_is_wrong_is_said_with_its_line(void **state)
{
    (void)state;
    static const struct { const char *text, *words; } rows[] = {
        { "", "has no line to learn from" },
        { "\n  \n", "has no line to learn from" },
        { "\n\nhello", "line 3: " },
        { "[1]", "no JSON object" },
        { "{\"prompt\":\"a\"}", "of no form that is known" },
        { "{\"prompt\":\"a\",\"answer\":\"b\"}", "of no form that is known" },
        { "{\"text\":\"a\",\"text\":\"b\"}", "line 1: " },
        { "{\"text\":\"ab\",\"weight\":0}", "from 1e-6" },
        { "{\"text\":\"ab\",\"weight\":\"1\"}", "from 1e-6" },
        { "{\"text\":\"ab\",\"group\":[1]}", "\"group\"" },
        { "{\"messages\":[]}", "no \"messages\"" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", "no message is the assistant's" },
        { "{\"messages\":[{\"role\":\"user\"}]}", "message 1 needs" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"tool_calls\":[]}]}", "calls tools" },
        { "{\"prompt\":[1],\"answer\":[]}", "nothing of it would be learned" },
        { "{\"prompt\":[1],\"answer\":[260]}", "token 260 is none of the model's 260" },
        { "{\"prompt\":[1],\"answer\":[1.5]}", "no whole number" },
        { "{\"format\":\"stretto-jacobi\",\"model\":{\"vocabulary\":7}}", "a model of 7 tokens; this one has 260" },
        { "{\"text\":\"ok\"}\n{\"text\":\"0123456789012345678901234567890123456789012345678901234567890123456789\"}",
          "data, line 2: it has 71 tokens, and the model reads 64 at most" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct lines l = { 0 };
        struct lines_how how = how_to();
        struct error err = { 0 };
        assert_int_equal(lines_read(&l, &how, "data", rows[i].text, strlen(rows[i].text), &err) == STRETTO_OK, 0);
        if (!strstr(err.text, rows[i].words)) print_error("'%s' has no '%s'\n", err.text, rows[i].words);
        assert_non_null(strstr(err.text, rows[i].words));
        lines_done(&l);
    }
}

static void special_tokens_in_texts_are_told_or_are_text(void **state)
{
    (void)state;
    static const char text[] = "{\"text\":\"ab\"}\n{\"text\":\"a</s>b\"}\n{\"prompt\":\"a<s>\",\"completion\":\"b\"}\n"
        "{\"messages\":[{\"role\":\"user\",\"content\":\"</s>\"},{\"role\":\"assistant\",\"content\":\"yo\"}]}\n";
    char shows[256];
    for (int plain = 0; plain < 2; plain++) {
        struct lines l = { 0 };
        struct lines_how how = how_to();
        struct error err = { 0 };
        how.plain = plain != 0;
        assert_int_equal(lines_read(&l, &how, "data", text, strlen(text), &err), STRETTO_OK);
        assert_int_equal(l.special, plain ? 0 : 2);
        assert_int_equal(l.special_line, plain ? 0 : 2);
        assert_int_equal(l.sample[1].n, plain ? 7 : 4);
        shown(&l, 1, shows);
        assert_string_equal(shows, "a|</s>b</s>|");
        lines_done(&l);
    }
}

static void long_lines_are_left_out_where_that_was_asked_for(void **state)
{
    (void)state;
    struct lines l = { 0 };
    struct lines_how how = how_to();
    struct error err = { 0 };
    how.context = 4;
    how.skip_long = true;
    static const char text[] = "{\"text\":\"abc\"}\n{\"text\":\"abcd\"}\n";
    assert_int_equal(lines_read(&l, &how, "data", text, strlen(text), &err), STRETTO_OK);
    assert_int_equal(l.n, 1);
    assert_int_equal(l.skipped, 1);
    assert_int_equal(l.skipped_line[0], 2);
    lines_done(&l);
}

static void a_template_must_print_what_is_learned(void **state)
{
    (void)state;
    static const char deaf[] = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% "
        "endfor %}";
    static const char line[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
                               "{\"role\":\"assistant\",\"content\":\"b\"}]}";
    struct lines l = { 0 };
    struct lines_how how = how_to();
    struct error err = { 0 };
    struct chat *chat;
    assert_int_equal(chat_open_text(&chat, words.t, deaf, sizeof deaf - 1, &err), STRETTO_OK);
    how.chat = chat;
    assert_int_not_equal(lines_read(&l, &how, "data", line, strlen(line), &err), STRETTO_OK);
    assert_non_null(strstr(err.text, "prints nothing"));
    chat_close(chat);
    how.chat = NULL;
    err = (struct error){ 0 };
    assert_int_not_equal(lines_read(&l, &how, "data", line, strlen(line), &err), STRETTO_OK);
    assert_non_null(strstr(err.text, "no chat template"));
    lines_done(&l);
}

static void the_digest_is_of_what_is_learned(void **state)
{
    (void)state;
    static const char *const same[] = { "{\"text\":\"abc\",\"group\":1}",
                                        "\n {\"group\":1,\"text\":\"abc\",\"x\":0}\n" };
    static const char *const others[] = { "{\"text\":\"abd\",\"group\":1}", "{\"text\":\"abc\"}",
                                          "{\"text\":\"abc\",\"group\":1,\"weight\":2}" };
    char first[33], next[33];
    for (int i = 0; i < 5; i++) {
        struct lines l = { 0 };
        read_ok(&l, i < 2 ? same[i] : others[i - 2]);
        lines_digest(&l, i ? next : first);
        if (i == 1) assert_string_equal(first, next);
        if (i > 1) assert_string_not_equal(first, next);
        lines_done(&l);
    }
}

static void a_part_is_the_same_whatever_stands_beside_it(void **state)
{
    (void)state;
    struct lines l = { 0 }, held = { 0 };
    struct error err = { 0 };
    char text[8192] = "";
    for (int i = 0; i < 100; i++)
        sprintf(text + strlen(text), "{\"text\":\"number %d\",\"group\":%d}\n", i, i / 4);
    read_ok(&l, text);
    uint64_t learned = l.learned;
    assert_int_equal(lines_split(&l, 0.3, &held, &err), STRETTO_OK);
    assert_int_equal(l.n + held.n, 100);
    assert_int_equal(l.learned + held.learned, learned);
    assert_in_range(held.n, 10, 60);
    for (size_t i = 0; i < held.n; i++)
        for (size_t k = 0; k < l.n; k++) assert_int_not_equal(held.sample[i].group, l.sample[k].group);
    lines_done(&l);
    lines_done(&held);
}

static void memory_that_runs_out_is_said(void **state)
{
    (void)state;
    static const char text[] = "{\"prompt\":\"ab\",\"completion\":\"cd\"}\n{\"text\":\"abc\"}\n"
        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":\"yo\"}]}\n";
    for (uint64_t i = 1;; i++) {
        struct lines l = { 0 };
        struct lines_how how = how_to();
        struct error err = { 0 };
        mem_fail_at(i);
        stretto_status s = lines_read(&l, &how, "data", text, strlen(text), &err);
        mem_fail_at(0);
        lines_done(&l);
        if (s == STRETTO_OK) break;
        assert_int_equal(s, STRETTO_E_NOMEM);
        assert_string_not_equal(err.text, "");
    }
}

static int open_words(void **state)
{
    (void)state;
    words = words_open();
    return 0;
}

static int close_words(void **state)
{
    (void)state;
    words_close(&words);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_form_learns_what_it_says),
        cmocka_unit_test(what_is_wrong_is_said_with_its_line),
        cmocka_unit_test(special_tokens_in_texts_are_told_or_are_text),
        cmocka_unit_test(long_lines_are_left_out_where_that_was_asked_for),
        cmocka_unit_test(a_template_must_print_what_is_learned),
        cmocka_unit_test(the_digest_is_of_what_is_learned),
        cmocka_unit_test(a_part_is_the_same_whatever_stands_beside_it),
        cmocka_unit_test(memory_that_runs_out_is_said),
    };
    return cmocka_run_group_tests(tests, open_words, close_words);
}
