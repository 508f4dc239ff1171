/* Chat templates against answers of Jinja itself (tests/data/template_vectors.jsonl, made by
 * tools/make_template_vectors.py, and the vendors' templates of the shared data set), and what
 * Jinja has no answer for: limits, memory, errors. */
#include "unit/unit.h"
#include "base/memory.h"
#include "template/template.h"
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>

static char *read_text(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    char *p = malloc((size_t)8 << 20);
    assert_non_null(p);
    *n = fread(p, 1, (size_t)8 << 20, f);
    fclose(f);
    return p;
}

static stretto_status render_json(const struct template *t, json_t *vars, time_t now,
                                  struct buffer *out, struct error *err)
{
    char *text = vars ? json_dumps(vars, 0) : NULL;
    const struct template_input in = { .vars = text, .n_vars = text ? strlen(text) : 0, .now = now };
    stretto_status s = template_render(t, &in, out, NULL, err);
    free(text);
    return s;
}

static stretto_status render(const char *text, size_t n, json_t *vars, time_t now,
                             struct buffer *out,
                             struct error *err)
{
    struct template *t;
    stretto_status s = template_compile(&t, text, n, err);
    if (!s) s = render_json(t, vars, now, out, err);
    template_free(t);
    return s;
}

/* A time without zone, as the vectors have it. */
static time_t time_of(const char *iso)
{
    struct tm t = { .tm_isdst = -1 };
    assert_int_equal(sscanf(iso, "%d-%d-%dT%d:%d:%d", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour,
                            &t.tm_min, &t.tm_sec), 6);
    t.tm_year -= 1900;
    t.tm_mon--;
    return mktime(&t);
}

/* Renders and compares; says what was wanted and what came. */
static bool agrees(json_t *row, const char *text, size_t n, json_t *vars, time_t now)
{
    struct buffer out = buffer_make((size_t)1 << 24);
    struct error err = { 0 };
    stretto_status s = render(text, n, vars, now, &out, &err);
    json_t *want = json_object_get(row, "expected");
    bool ok;
    if (!want) {
        ok = s != STRETTO_OK && strncmp(err.text, "chat template, line ", 20) == 0 && out.len == 0;
    } else {
        ok = s == STRETTO_OK && out.len == json_string_length(want)
            && memcmp(out.data ? out.data : "", json_string_value(want), out.len) == 0;
    }
    if (!ok) print_message("template: %.400s\nwanted: %s\ngot: %s %s\n", text,
                           want ? json_string_value(want) : "an error", out.data ? out.data : "", err.text);
    buffer_done(&out);
    return ok;
}

static void agrees_with_jinja(void **state)
{
    (void)state;
    size_t n = 0, rows = 0, errors = 0, wrong = 0;
    char *text = read_text(STRETTO_SOURCE_DIR "/tests/data/template_vectors.jsonl", &n);
    assert_non_null(text);
    json_t *shared = NULL;
    time_t now = 0;
    for (char *line = text, *end; line < text + n; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + n - line));
        assert_non_null(end);
        json_t *row = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);
        assert_non_null(row);
        if (!shared) {
            shared = json_incref(json_object_get(row, "shared"));
            now = time_of(json_string_value(json_object_get(row, "now")));
            json_decref(row);
            continue;
        }
        json_t *t = json_object_get(row, "template");
        wrong += !agrees(row, json_string_value(t), json_string_length(t), shared, now);
        errors += json_object_get(row, "error") != NULL;
        rows++;
        json_decref(row);
    }
    print_message("%zu templates, %zu of them errors\n", rows, errors);
    assert_true(rows > 600 && errors > 100);
    assert_int_equal(wrong, 0);
    json_decref(shared);
    free(text);
}

static void renders_what_vendors_ship(void **state)
{
    (void)state;
    size_t n = 0, rows = 0, wrong = 0;
    char *text = read_text(STRETTO_TEST_DATA "/templates/vectors.jsonl", &n);
    if (!text) {
        print_message("skip: no data set at %s\n", STRETTO_TEST_DATA "/templates");
        if (getenv("CI")) assert_non_null(text);
        skip();
    }
    for (char *line = text, *end; line < text + n; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + n - line));
        assert_non_null(end);
        json_t *row = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);
        assert_non_null(row);
        char path[1024];
        size_t len = 0;
        snprintf(path, sizeof path, "%s/templates/%s.jinja", STRETTO_TEST_DATA,
                 json_string_value(json_object_get(row, "template")));
        char *source = read_text(path, &len);
        assert_non_null(source);
        wrong += !agrees(row, source, len, row,
                         time_of(json_string_value(json_object_get(row, "now"))));
        free(source);
        json_decref(row);
        rows++;
    }
    print_message("%zu renderings\n", rows);
    assert_true(rows >= 150);
    assert_int_equal(wrong, 0);
    free(text);
}

/* The status and words of a template that must fail. */
static void refuses(const char *text, stretto_status status, const char *words)
{
    struct buffer out = buffer_make((size_t)1 << 24);
    struct error err = { 0 };
    json_t *vars = json_pack("{s:s,s:[i,i]}", "s", "text", "l", 1, 2);
    stretto_status s = render(text, strlen(text), vars, 0, &out, &err);
    if (s != status || !strstr(err.text, words))
        print_message("%.200s\n -> %d %s\n", text, s, err.text);
    assert_int_equal(s, status);
    assert_non_null(strstr(err.text, words));
    assert_int_equal(out.len, 0);
    buffer_done(&out);
    json_decref(vars);
}

static void names_what_it_does_not_know(void **state)
{
    (void)state;
    refuses("a\n\n{% include 'x' %}", STRETTO_E_UNSUP, "line 3: unsupported tag 'include'");
    refuses("{% trans %}", STRETTO_E_UNSUP, "'trans'");
    refuses("{% for i in l recursive %}{% endfor %}", STRETTO_E_UNSUP, "recursive");
    refuses("\n{{ s|urlize }}", STRETTO_E_UNSUP, "line 2: the filter 'urlize' is not supported");
    refuses("{{ s is weird }}", STRETTO_E_UNSUP, "the test 'weird' is not supported");
    refuses("{{ s.encode('x') }}", STRETTO_E_UNSUP, "str.encode");
    refuses("{{ lipsum() }}", STRETTO_E_UNSUP, "lipsum");
    refuses("{{ strftime_now('%Q') }}", STRETTO_E_UNSUP, "%Q");
    refuses("{{ l|map('upper') }}", STRETTO_E_UNSUP, "add |list");
    refuses("{{ s.upper }}", STRETTO_E_UNSUP, "call it with ()");
    refuses("{{ 9223372036854775807 + 1 }}", STRETTO_E_UNSUP, "64 bits");
    refuses("{{ 9223372036854775808 }}", STRETTO_E_UNSUP, "64 bits");
    refuses("{{ raise_exception('No such role') }}", STRETTO_E_ARG, "No such role");
    refuses("{{ l.append(3) }}", STRETTO_E_ARG, "append");
    refuses("{{ nosuch.field }}", STRETTO_E_ARG, "'nosuch' is undefined");
    refuses("{{ s.a.b }}", STRETTO_E_ARG, "'str' has no attribute or item 'a'");
    refuses("{{ 'a\\ud800' }}", STRETTO_E_FORMAT, "not a character");
    refuses("{% if s %}", STRETTO_E_FORMAT, "never closed");
}

/* What Jinja knows and no chat template was seen to use: refused where it would run, never rendered wrongly. */
static void refuses_what_templates_do_not_use(void **state)
{
    (void)state;
    static const char *const filters[] = { "abs", "attr('x')", "batch(2)", "center(9)", "filesizeformat", "format(1)",
                                           "pprint", "random", "round", "slice(2)", "striptags",
                                           "sum", "truncate(3)", "urlencode", "wordcount", "wordwrap", "xmlattr" };
    static const char *const methods[] = { "center", "isalnum", "isalpha", "isascii", "isdecimal", "isidentifier",
                                           "islower", "isnumeric", "isprintable", "istitle", "isupper", "ljust",
                                           "rjust", "swapcase", "zfill" };
    static const char *const others[] = {
        "{{ s is escaped }}", "{{ s is filter }}", "{{ s is lower }}", "{{ s is test }}", "{{ s is upper }}",
        "{{ l.index(1) }}", "{{ (1, 2).count(1) }}", "{{ s.rsplit() }}", "{{ l|sort(attribute='a,b') }}",
        "{{ '7'|int(0, 8) }}", "{{ 2 ** 3 }}", "{{ '%s' % s }}", "{{ dict(**{}) }}", "{{ range(9)[1:] }}",
        "{{ cycler('a') }}", "{{ joiner() }}", "{{ '{0.x}'.format(s) }}", "{{ '{!r}'.format(s) }}",
        "{{ '{:x}'.format(7) }}", "{{ '{:{}}'.format(7, 8) }}", "{{ strftime_now('%U') }}", "{{ {}.items() }}",
        "{{ range(3) }}", "{{ namespace() }}", "{% for i in l %}{{ loop.cycle(1) }}{% endfor %}",
        "{% for i in l %}{{ loop.changed(i) }}{% endfor %}", "{% for i in l %}{{ loop }}{% endfor %}",
        "{% macro f() %}{{ kwargs }}{% endmacro %}", "{% macro f() %}{{ varargs }}{% endmacro %}",
        "{% macro f() %}{% endmacro %}{{ f.name }}", "{% macro f() %}{% endmacro %}{{ f }}",
    };
    char text[100], words[60];
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        snprintf(text, sizeof text, "{{ l|%s }}", filters[i]);
        snprintf(words, sizeof words, "the filter '%.*s' is not supported", (int)strcspn(filters[i], "("), filters[i]);
        refuses(text, STRETTO_E_UNSUP, words);
    }
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        snprintf(text, sizeof text, "{{ s.%s() }}", methods[i]);
        snprintf(words, sizeof words, "the attribute str.%s is not supported", methods[i]);
        refuses(text, STRETTO_E_UNSUP, words);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        refuses(others[i], STRETTO_E_UNSUP, strstr(others[i], "%U") ? "unsupported directive %U" : "not supported");
    refuses("{{ 0x1F }}", STRETTO_E_UNSUP, "only decimal numbers are supported");
    refuses("{% print s %}", STRETTO_E_UNSUP, "unsupported tag 'print'");
}

static char *repeated(const char *head, const char *part, size_t times, const char *tail)
{
    size_t n = strlen(part);
    char *p = malloc(strlen(head) + n * times + strlen(tail) + 1), *at = p;
    assert_non_null(p);
    at = stpcpy(at, head);
    for (size_t i = 0; i < times; i++) at = stpcpy(at, part);
    strcpy(at, tail);
    return p;
}

static void refuses_repeated(const char *head, const char *part, size_t times, const char *tail,
                             const char *words)
{
    char *p = repeated(head, part, times, tail);
    refuses(p, STRETTO_E_FULL, words);
    free(p);
}

static void keeps_its_limits(void **state)
{
    (void)state;
    refuses_repeated("", "x", ((size_t)1 << 20) + 1, "", "limit is 1048576 bytes");
    refuses_repeated("{{ ", "(", 5000, "", "nested");
    refuses_repeated("{{ ", "not ", 5000, "1 }}", "nested");
    refuses_repeated("{{ ", "-", 5000, "1 }}", "nested");
    refuses_repeated("{{ 1", " if 1 else 1", 5000, " }}", "nested");
    refuses_repeated("", "{% if 1 %}", 5000, "", "nested");
    refuses_repeated("{{ 1", " + 1", 5000, " }}", "in a chain");
    refuses_repeated("{{ s", "[0]", 5000, " }}", "in a chain");
    refuses_repeated("{{ s", "|upper", 5000, " }}", "in a chain");
    refuses("{{ 's' * 99999999 }}", STRETTO_E_FULL, "longer than 16 MiB");
    refuses("{{ [1] * 99999999 }}", STRETTO_E_FULL, "too long");
    refuses("{{ range(100001) }}", STRETTO_E_FULL, "range");
    refuses("{{ '{:999999}'.format(1) }}", STRETTO_E_FULL, "width");
    refuses("{% for i in range(2000) %}{% for j in range(2000) %}{% endfor %}{% endfor %}",
            STRETTO_E_FULL,
            "loop iterations");
    refuses("{% for i in range(2000) %}{% for j in range(2000) if false %}{% endfor %}{% endfor %}",
            STRETTO_E_FULL, "loop iterations");
    refuses("{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}", STRETTO_E_FULL,
            "prints more than");
    refuses("{% set n = namespace(k=[]) %}{% for i in range(100000) %}{% set n.k = [n.k, 'y' * 9000] %}"
            "{% endfor %}", STRETTO_E_FULL, "MiB of memory");
    refuses("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", STRETTO_E_FULL, "nested more than");
    refuses("{% set n = namespace(k=[]) %}{% for i in range(1000) %}{% set n.k = [n.k] %}{% endfor %}{{ n.k }}",
            STRETTO_E_FULL, "nested too deeply");
    refuses("{% set n = namespace() %}{% set n.k = n %}{{ n.k }}", STRETTO_E_UNSUP,
            "Namespace");
    refuses("{% set n = namespace(k=[], q=[]) %}{% for i in range(60) %}{% set n.k = [n.k, n.k] %}"
            "{% set n.q = [n.q, n.q] %}{% endfor %}{{ n.k == n.q }}", STRETTO_E_FULL, "works too long");
    refuses("{% for i in range(90000) %}{{ ('ab' * 100000).rfind('b' * 50000) }}{% endfor %}",
            STRETTO_E_FULL,
            "works too long");
}

/* Text built piece by piece must not cost the square of its length. */
static void grows_strings_in_place(void **state)
{
    (void)state;
    static const char text[] = "{% set n = namespace(t='') %}{% for i in range(20000) %}"
        "{% set n.t = n.t + 'piece of a hundred bytes, more or less: it is about one line of a message' %}"
        "{% endfor %}{{ n.t|length }}";
    struct buffer out = buffer_make(100);
    struct error err = { 0 };
    assert_int_equal(render(text, sizeof text - 1, NULL, 0, &out, &err), STRETTO_OK);
    assert_string_equal(out.data, "1460000");
    buffer_done(&out);
}

/* A prefix of a string that grew in place is still what it was. */
static void old_strings_stay(void **state)
{
    (void)state;
    static const char text[] = "{% set a = 'x' * 2000 %}{% set b = a + 'y' %}{% set c = b + 'z' %}"
        "{% set d = b + 'w' %}{{ b[-1] }}{{ c[-2:] }}{{ d[-2:] }}{{ b|length }}{{ c|length }}{{ d|length }}";
    struct buffer out = buffer_make(100);
    struct error err = { 0 };
    assert_int_equal(render(text, sizeof text - 1, NULL, 0, &out, &err), STRETTO_OK);
    assert_string_equal(out.data, "yyzyw200120022002");
    buffer_done(&out);
}

static void appends_and_respects_the_room(void **state)
{
    (void)state;
    struct template *t;
    struct error err = { 0 };
    assert_int_equal(template_compile(&t, "{{ a }}", 7, &err), STRETTO_OK);
    json_t *vars = json_pack("{s:s}", "a", "12345");
    struct buffer out = buffer_make(8);
    buffer_str(&out, ">");
    assert_int_equal(render_json(t, vars, 0, &out, &err), STRETTO_OK);
    assert_string_equal(out.data, ">12345");
    assert_int_equal(render_json(t, vars, 0, &out, &err), STRETTO_E_FULL);
    assert_string_equal(out.data, ">12345");
    error_clear(&err);
    json_t *list = json_array();
    assert_int_equal(render_json(t, list, 0, &out, &err), STRETTO_E_ARG);
    buffer_done(&out);
    json_decref(list);
    json_decref(vars);
    template_free(t);
    error_clear(&err);
    assert_int_equal(template_compile(&t, "\xff\xfe", 2, &err), STRETTO_E_FORMAT);
    assert_null(t);
    template_free(NULL);
}

/* ---- where bytes come from ------------------------------------------------------------------------ */

/* Letters of a string become Greek ones: templates have none of their own but in one snippet, so that
 * a letter says where it comes from, whatever was done to it. */
static json_t *greek(json_t *v)
{
    const char *key;
    json_t *item, *out = v;
    size_t i;
    if (json_is_object(v)) {
        out = json_object();
        json_object_foreach(v, key, item) json_object_set_new(out, key, greek(item));
        return out;
    }
    if (json_is_array(v)) {
        out = json_array();
        json_array_foreach(v, i, item) json_array_append_new(out, greek(item));
        return out;
    }
    if (!json_is_string(v)) return json_incref(v);
    struct buffer b = buffer_make(1 << 16);
    for (const char *p = json_string_value(v); *p; p++) {
        unsigned char at = (unsigned char)((*p | 0x20) - 'a');
        if (at > 25) buffer_append(&b, p, 1);
        else buffer_printf(&b, "%c%c", 0xCE, (*p & 0x20 ? 0xB1 : 0x91) + at % 9);
    }
    out = json_stringn(b.data ? b.data : "", b.len);
    buffer_done(&b);
    return out;
}

/* Bytes of Greek letters that count as the template's; exact: and letters of the template that count as
 * the variables'. */
static size_t wrong_marks(const char *text, size_t n, json_t *vars, bool exact, size_t *letters)
{
    struct template *t;
    struct buffer out = buffer_make((size_t)1 << 24), marks = buffer_make((size_t)1 << 24);
    char *json = json_dumps(vars, 0);
    const struct template_input in = { .vars = json, .n_vars = strlen(json), .now = 1000000000 };
    stretto_status s = template_compile(&t, text, n, NULL);
    if (!s) s = template_render(t, &in, &out, &marks, NULL);
    template_free(t);
    size_t wrong = 0;
    assert_true(s != STRETTO_OK || marks.len == out.len);
    for (size_t i = 0; s == STRETTO_OK && i < out.len; i++) {
        unsigned char c = (unsigned char)out.data[i];
        bool theirs = c >= 0x80, ours = c == '<' || c == '|' || c == '>';
        *letters += theirs;
        wrong += theirs && !marks.data[i];
        wrong += exact && ours && marks.data[i];
    }
    if (exact && s != STRETTO_OK) wrong++;
    if (wrong) print_message("%.*s\n -> %s\n", (int)n, text, out.data ? out.data : "");
    free(json);
    buffer_done(&out);
    buffer_done(&marks);
    return wrong;
}

/* What templates do to a message between their markers; all of it leaves the markers theirs. */
static const char *const between[] = {
    "{{ '<|a|>' + s + '<|b|>' }}", "{{ '<|a|>' ~ s ~ 7 ~ l ~ '<|b|>' }}", "{{ ('<|a|>' + s)|trim }}",
    "{{ (' <|a|>' + s + '<|b|> ').strip() }}", "{{ ('<|a|>' + s + '<|b|>')|upper }}",
    "{{ ('<|a|>' + s)|lower|capitalize|title }}", "{{ ('<|' + s + '|>').title().capitalize() }}",
    "{{ '<|a|>@<|b|>'.replace('@', s) }}", "{{ '<|a|>@<|b|>'|replace('@', s) }}",
    "{{ ('<|a|>' + s).replace('x', '<|b|>').replace('', '-') }}", "{{ ['<|a|>', s, s]|join('<|b|>') }}",
    "{{ '<|b|>'.join([s, '<|a|>', s]) }}", "{{ s.join(['<|a|>', '<|b|>']) }}",
    "{{ '<|a|>{}<|b|>{:.3}|{:>40}'.format(s, s, s) }}", "{{ '<|a|>{x}{x:*^40}'.format(x=s) }}",
    "{{ ('<|a|>' + s + '<|b|>')[3:-3] }}", "{{ ('<|a|>' + s)[::-1] }}{{ ('<|a|>' + s)[2] }}",
    "{% for c in '<|a|>' + s %}{{ c }}{% endfor %}", "{{ ('<|a|>' + s)|reverse }}",
    "{{ ('<|a|> ' + s).split(' ')|join('<|b|>') }}", "{{ ('<|a|> ' + s).rsplit(' ', 1) }}",
    "{{ ('<|a|>\n' + s).splitlines()[0] }}{{ ('<|a|>' + s).partition('>')[0] }}",
    "{{ ('<|a|>' + s).removeprefix('<').removesuffix('x') }}", "{{ ('<|a|>' + s) * 2 }}{{ 2 * ('<|a|>' + s) }}",
    "{{ ('<|a|>' + s)|indent(2, true) }}",
    "{{ {'<|a|>': s, 'k': ['<|b|>', s]}|tojson }}", "{{ {'<|a|>': s}|tojson(indent=2) }}",
    "{{ ['<|a|>', s] }}{{ {'<|b|>': s} }}", "{{ ('<|a|>' + s)|string|safe }}",
    "{% set x %}<|a|>{{ s }}<|b|>{% endset %}{{ x|trim }}{{ x ~ x }}",
    "{% macro f(x) %}<|a|>{{ x }}{{ caller() }}<|b|>{% endmacro %}{% call f(s) %}{{ s|upper }}{% endcall %}",
    ("{% set ns = namespace(t='<|a|>') %}{% for m in messages %}{% set ns.t = ns.t + m.content|string %}"
     "{% endfor %}{{ ns.t + '<|b|>' }}"),
    "{% filter trim %} <|a|>{{ s }}<|b|> {% endfilter %}", "{{ ('<|a|>', s)|map('trim')|join }}",
    "{{ [s, '<|a|>']|sort|join }}{{ [s, '<|a|>']|first }}{{ ['<|a|>', s]|last }}",
    "{% for m in messages %}{{ '<|' + m.role + '|>' + (m.content or '') }}{% endfor %}",
    "{% for k, v in d|dictsort %}<|{{ k }}|{{ v }}{% endfor %}", "{{ '<|a|>' if s else s }}{{ s or '<|b|>' }}",
    "{{ messages|groupby('role')|map(attribute='grouper')|join('<|a|>') }}",
    "{% set x = 'x' * 1500 + '<|a|>' %}{% set y = x + s %}{% set z = y + '<|b|>' %}{{ y[-9:] }}{{ z[-20:] }}",
    "{{ s|default('<|a|>') }}{{ nope|default('<|a|>') }}{{ bos_token }}", "{{ '<|a|>'|e|replace('&lt;', '<') }}",
};

static void bytes_know_where_they_come_from(void **state)
{
    (void)state;
    size_t n = 0, letters = 0, wrong = 0;
    json_t *vars = json_pack("{s:s, s:[s,s], s:{s:s}, s:[{s:s,s:s},{s:s,s:s}]}", "s",
                             "ab c\n\"d\" 'e' \\ long enough to be cut off", "l", "one", "two", "d", "k", "v",
                             "messages", "role", "u", "content", "first", "role", "u-2", "content", "x y");
    json_t *theirs = greek(vars);
    for (size_t i = 0; i < sizeof between / sizeof *between; i++)
        wrong += wrong_marks(between[i], strlen(between[i]), theirs, true, &letters);
    assert_int_equal(wrong, 0);
    assert_true(letters > 2000);
    json_decref(vars);
    json_decref(theirs);
    char *text = read_text(STRETTO_SOURCE_DIR "/tests/data/template_vectors.jsonl", &n);
    assert_non_null(text);
    theirs = NULL;
    letters = 0;
    for (char *line = text, *end; line < text + n; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + n - line));
        json_t *row = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);
        json_t *t = json_object_get(row, "template");
        const char *p = json_string_value(t);
        size_t len = json_string_length(t);
        bool plain = t != NULL;
        for (size_t i = 0; i < len; i++) plain = plain && (unsigned char)p[i] < 0x80 && p[i] != '\\';
        if (!theirs) theirs = greek(json_object_get(row, "shared"));
        else if (plain) wrong += wrong_marks(p, len, theirs, false, &letters);
        json_decref(row);
    }
    assert_int_equal(wrong, 0);
    assert_true(letters > 2000);
    json_decref(theirs);
    free(text);
}

/* One compiled template, four threads; the thread sanitizer looks on where it is on. */
struct shared { const struct template *t; json_t *vars; bool same; };

static void *render_often(void *arg)
{
    struct shared *s = arg;
    struct buffer first = buffer_make(1 << 16), out = buffer_make(1 << 16);
    s->same = render_json(s->t, s->vars, 0, &first, NULL) == STRETTO_OK;
    for (int i = 0; i < 200 && s->same; i++) {
        buffer_clear(&out);
        s->same = render_json(s->t, s->vars, 0, &out, NULL) == STRETTO_OK && out.len == first.len
            && memcmp(out.data, first.data, out.len) == 0;
    }
    buffer_done(&first);
    buffer_done(&out);
    return NULL;
}

static void threads_share_a_template(void **state)
{
    (void)state;
    static const char text[] = "{% macro f(x, y='é') %}{{ x ~ y }}{% endmacro %}{{ 'ünï'[1:] }}{{ f(s) }}"
        "{% for m in l %}{{ loop.index }}{{ '{}'.format(m) }}{{ 'ß'|upper|length }}{% endfor %}{{ l|tojson }}";
    pthread_t thread[4];
    struct shared s[4];
    struct template *t;
    assert_int_equal(template_compile(&t, text, sizeof text - 1, NULL), STRETTO_OK);
    json_t *vars = json_pack("{s:s,s:[i,i]}", "s", "text", "l", 2, 1);
    for (int i = 0; i < 4; i++) {
        s[i] = (struct shared){ .t = t, .vars = vars };
        assert_int_equal(pthread_create(&thread[i], NULL, render_often, &s[i]), 0);
    }
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < 4; i++) assert_true(s[i].same);
    json_decref(vars);
    template_free(t);
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    static const char text[] = "{% macro f(x) %}{{ x|tojson(indent=2) }}{% endmacro %}{% for i in range(9) %}"
        "{{ f({'a': [i, 's' * 900], 'b': l|sort|join(',')}) }}{% endfor %}{{ '{}'.format(s.split('e')) }}";
    json_t *vars = json_pack("{s:s,s:[i,i]}", "s", "text", "l", 2, 1);
    for (uint64_t i = 1;; i++) {
        struct buffer out = buffer_make((size_t)1 << 20);
        struct error err = { 0 };
        mem_fail_at(i);
        uint64_t before = mem_count();
        stretto_status s = render(text, sizeof text - 1, vars, 0, &out, &err);
        bool reached = mem_count() - before >= i;
        mem_fail_at(0);
        buffer_done(&out);
        if (!reached) { assert_int_equal(s, STRETTO_OK); assert_true(i > 3); break; }
        assert_int_equal(s, STRETTO_E_NOMEM);
        assert_non_null(strstr(err.text, "out of memory"));
    }
    json_decref(vars);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_jinja),
        cmocka_unit_test(renders_what_vendors_ship),
        cmocka_unit_test(names_what_it_does_not_know),
        cmocka_unit_test(refuses_what_templates_do_not_use),
        cmocka_unit_test(keeps_its_limits),
        cmocka_unit_test(grows_strings_in_place),
        cmocka_unit_test(old_strings_stay),
        cmocka_unit_test(appends_and_respects_the_room),
        cmocka_unit_test(threads_share_a_template),
        cmocka_unit_test(bytes_know_where_they_come_from),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
