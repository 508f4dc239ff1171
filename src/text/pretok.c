#include "text/pretok.h"
#include "base/memory.h"
#include "text/unicode.h"
#include <string.h>

void pretok_done(struct pretok *p)
{
    for (size_t i = 0; i < p->n; i++) {
        pattern_close(p->step[i].pattern);
        mem_free(p->step[i].literal);
    }
    p->n = 0;
}

stretto_status pretok_add(struct pretok *p, struct pretok_step **step, struct error *err)
{
    if (p->n == PRETOK_MAX_STEPS)
        return fail(err, STRETTO_E_FORMAT, "the pre-tokenizer has more than %d steps",
                    PRETOK_MAX_STEPS);
    *step = &p->step[p->n++];
    **step = (struct pretok_step){ 0 };
    return STRETTO_OK;
}

stretto_status pretok_add_regex(struct pretok *p, const char *expression, size_t n, struct error *err)
{
    struct pretok_step *s = NULL;
    TRY(pretok_add(p, &s, err));
    s->kind = PRETOK_REGEX;
    s->cut = CUT_ISOLATED;
    return pattern_open(&s->pattern, expression, n, err);
}

stretto_status pretok_add_threes(struct pretok *p, unsigned how, bool (*is_digit)(int32_t),
                                 struct error *err)
{
    struct pretok_step *s = NULL;
    TRY(pretok_add(p, &s, err));
    *s = (struct pretok_step){ .kind = PRETOK_THREES, .cut = CUT_ISOLATED, .threes = how,
                               .is_digit = is_digit };
    return STRETTO_OK;
}

stretto_status span_push(struct span_list *l, size_t at, size_t len)
{
    if (l->n == l->cap) {
        size_t cap = l->cap * 2 + 64;
        struct span *item = mem_resize(l->item, cap * sizeof *item);
        if (!item) return STRETTO_E_NOMEM;
        l->item = item;
        l->cap = cap;
    }
    l->item[l->n++] = (struct span){ (uint32_t)at, (uint32_t)len };
    return STRETTO_OK;
}

void pretok_work_done(struct pretok_work *w)
{
    buffer_done(&w->text);
    buffer_done(&w->spare);
    mem_free(w->words.item);
    mem_free(w->next.item);
    mem_free(w->parts.item);
    pattern_work_close(w->match);
    *w = (struct pretok_work){ 0 };
}

/* ---- where the matches of a step are in one word --------------------------------------------------- */

/* Walks the matches of one word. Expressions see well-formed stretches [run, run_end) only. */
struct finder {
    const struct pretok_step *step;
    struct pattern_work *match;
    struct error *err;
    const char *p;
    size_t n, from, last;               /* where to look on; the end of the last match or SIZE_MAX */
    size_t run, run_end;
    bool clean;                         /* the whole word is well-formed */
    size_t digits_end, digits;          /* THREES: where the run at `from` ends, how long it still is */
};

static stretto_status find_regex(struct finder *f, size_t *at, size_t *end)
{
    for (;;) {
        *at = SIZE_MAX;
        if (f->from > f->n) return STRETTO_OK;
        if (f->from > f->run_end || (f->from == f->run_end && f->run_end < f->n)) {
            f->run = f->run_end + utf8_bad_run(f->p + f->run_end, f->n - f->run_end);
            if (f->run >= f->n) { f->from = f->n + 1; return STRETTO_OK; }
            f->run_end = f->run + utf8_valid_run(f->p + f->run, f->n - f->run);
            f->from = f->run;
            f->last = SIZE_MAX;
        }
        size_t a, e;
        TRY(pattern_find(f->step->pattern, f->match, f->p + f->run, f->run_end - f->run,
                         f->from - f->run, &a, &e, f->err));
        if (a == SIZE_MAX) {
            f->from = f->run_end < f->n ? f->run_end : f->n + 1;
            if (f->run_end == f->n) return STRETTO_OK;
            continue;
        }
        a += f->run;
        e += f->run;
        if (a == e && e == f->last) {           /* an empty match right after the last one: step on */
            int32_t cp;
            f->from = e < f->run_end ? e + utf8_decode(f->p + e, f->run_end - e, &cp) : e + 1;
            if (f->from > f->run_end && f->run_end < f->n) f->from = f->run_end;
            continue;
        }
        f->from = f->last = e;
        *at = a;
        *end = e;
        return STRETTO_OK;
    }
}

static bool is_match(const struct pretok_step *s, int32_t cp)
{
    switch (s->kind) {
    case PRETOK_DIGITS: case PRETOK_DIGIT_RUNS: return unicode_is_number(cp);
    case PRETOK_PUNCT: return unicode_is_punct(cp);
    default: return unicode_is_space(cp);
    }
}

/* A run of characters of one class beginning at i. */
static size_t run_of(const char *p, size_t n, size_t i, bool (*is)(int32_t))
{
    int32_t cp;
    while (i < n) {
        size_t len = utf8_decode(p + i, n - i, &cp);
        if (!is(cp)) break;
        i += len;
    }
    return i;
}

static bool is_mark(int32_t cp) { return cp >= 0 && !unicode_is_word(cp) && !unicode_is_space(cp); }

/* Oniguruma's word characters, which \b of the models' expressions means. */
static bool continues_word(int32_t cp)
{
    if (cp == 0x200C || cp == 0x200D) return false;
    return unicode_is_word(cp) || cp == 0xB2 || cp == 0xB3 || cp == 0xB9 || (cp >= 0xBC && cp <= 0xBE);
}

/* Counts the digits from i on; each is counted once. */
static void measure_digits(struct finder *f, size_t i)
{
    int32_t after = -1;
    size_t len = 0;
    f->digits = 0;
    for (; i < f->n; f->digits++, i += len) {
        len = utf8_decode(f->p + i, f->n - i, &after);
        if (!f->step->is_digit(after)) break;
    }
    bool border = i == f->n || !continues_word(after);
    if (f->step->threes & THREES_TO_BORDER && !border) f->digits = 0;
    f->digits_end = i;
}

static size_t pass_digits(struct finder *f, size_t i, size_t n)
{
    int32_t cp;
    f->digits -= n;
    for (; n > 0; n--) i += utf8_decode(f->p + i, f->n - i, &cp);
    return i;
}

/* The first three is what makes the rest of a run a multiple of three. */
static void find_threes(struct finder *f, size_t *at, size_t *end)
{
    bool cut = f->step->threes & THREES_CUT;
    size_t i = f->from;
    /* A cut was found in front of these three the last time. */
    if (cut && i < f->digits_end && f->last == i) i = pass_digits(f, i, 3);
    while (i < f->n) {
        int32_t cp;
        size_t len = utf8_decode(f->p + i, f->n - i, &cp);
        if (!f->step->is_digit(cp)) { i += len; continue; }
        if (i >= f->digits_end) measure_digits(f, i);
        if (!f->digits) { i = f->digits_end; continue; }
        size_t first = f->digits % 3 ? f->digits % 3 : 3;
        if (cut && first < 3) { i = pass_digits(f, i, first); continue; }
        *at = i;
        *end = f->from = f->last = cut ? i : pass_digits(f, i, first);
        return;
    }
    f->from = f->n;
}

static stretto_status find_match(struct finder *f, size_t *at, size_t *end)
{
    const struct pretok_step *s = f->step;
    if (s->kind == PRETOK_REGEX) return find_regex(f, at, end);
    *at = SIZE_MAX;
    if (s->kind == PRETOK_LITERAL) {
        const char *hit = f->from < f->n
            ? memmem(f->p + f->from, f->n - f->from, s->literal, s->n_literal) : NULL;
        if (!hit) return STRETTO_OK;
        *at = (size_t)(hit - f->p);
        f->from = *end = *at + s->n_literal;
        return STRETTO_OK;
    }
    if (s->kind == PRETOK_THREES) {
        find_threes(f, at, end);
        return STRETTO_OK;
    }
    for (size_t i = f->from; i < f->n;) {
        int32_t cp;
        size_t len = utf8_decode(f->p + i, f->n - i, &cp), e = i + len;
        bool hit = false;
        if (s->kind == PRETOK_WORDS) {
            hit = unicode_is_word(cp) || is_mark(cp);
            if (hit) e = run_of(f->p, f->n, i, unicode_is_word(cp) ? unicode_is_word : is_mark);
        } else {
            hit = is_match(s, cp);
            if (hit && s->kind == PRETOK_DIGIT_RUNS) e = run_of(f->p, f->n, i, unicode_is_number);
        }
        if (hit) { *at = i; *end = f->from = e; return STRETTO_OK; }
        i += len;
    }
    f->from = f->n;
    return STRETTO_OK;
}

/* ---- cutting ---------------------------------------------------------------------------------------- */

/* Marks a part as matching in its length's top bit; lengths are at most 2^30. */
#define MATCHING 0x80000000u
#define LENGTH(s) ((s).len & ~MATCHING)

static stretto_status part_push(struct span_list *l, size_t at, size_t end, bool matching)
{
    return span_push(l, at, (end - at) | (matching ? MATCHING : 0));
}

static stretto_status keep(struct pretok_work *w, struct span s)
{
    return LENGTH(s) ? span_push(&w->next, s.at, LENGTH(s)) : STRETTO_OK;
}

/* The parts of one word become words by the step's rule. */
static stretto_status cut_parts(struct pretok_work *w, enum pretok_cut cut)
{
    struct span *s = w->parts.item;
    size_t n = w->parts.n, kept = 0;
    bool was = false;
    if (cut == CUT_WITH_NEXT) {
        /* Read from the end: a match joins what follows it unless that is a match too. */
        kept = n;
        for (size_t i = n; i-- > 0;) {
            bool is = s[i].len & MATCHING;
            if (is && !was && kept < n)
                s[kept] = (struct span){ s[i].at, LENGTH(s[i]) + LENGTH(s[kept]) };
            else
                s[--kept] = (struct span){ s[i].at, LENGTH(s[i]) };
            was = is;
        }
        for (size_t i = kept; i < n; i++) TRY(keep(w, s[i]));
        return STRETTO_OK;
    }
    for (size_t i = 0; i < n; i++) {
        bool is = s[i].len & MATCHING;
        bool join = i > 0 && ((cut == CUT_WITH_PREVIOUS && is && !was) ||
                              (cut == CUT_CONTIGUOUS && is == was));
        if (join) s[kept - 1].len += LENGTH(s[i]);
        else if (!(cut == CUT_REMOVED && is)) s[kept++] = (struct span){ s[i].at, LENGTH(s[i]) };
        was = is;
    }
    for (size_t i = 0; i < kept; i++) TRY(keep(w, s[i]));
    return STRETTO_OK;
}

static stretto_status cut_word(const struct pretok_step *s, struct pretok_work *w, struct span word,
                               bool clean, struct error *err)
{
    struct finder f = { .step = s, .match = w->match, .err = err, .p = w->text.data + word.at,
                        .n = word.len, .last = SIZE_MAX, .clean = clean };
    f.run_end = clean ? f.n : utf8_valid_run(f.p, f.n);
    w->parts.n = 0;
    size_t done = 0;
    /* Isolated parts are words already. */
    bool direct = s->cut == CUT_ISOLATED;
    for (;;) {
        size_t at, end = 0;
        TRY(find_match(&f, &at, &end));
        size_t gap_end = at == SIZE_MAX ? f.n : at;
        if (gap_end > done) {
            if (direct) TRY(span_push(&w->next, word.at + done, gap_end - done));
            else TRY(part_push(&w->parts, word.at + done, word.at + gap_end, s->invert));
        }
        if (at == SIZE_MAX) break;
        if (!direct) TRY(part_push(&w->parts, word.at + at, word.at + end, !s->invert));
        else if (end > at) TRY(span_push(&w->next, word.at + at, end - at));
        done = end;
    }
    return direct ? STRETTO_OK : cut_parts(w, s->cut);
}

/* ---- the steps that change the text ----------------------------------------------------------------- */

static stretto_status rebuild(const struct pretok_step *s, struct pretok_work *w, bool first)
{
    buffer_clear(&w->spare);
    for (size_t i = 0; i < w->words.n; i++) {
        const char *p = w->text.data + w->words.item[i].at;
        size_t n = w->words.item[i].len, start = w->spare.len;
        if (s->kind != PRETOK_METASPACE) {
            bool letters = s->kind == PRETOK_BYTE_LETTERS;
            if (!letters && *p != ' ') TRY(buffer_append(&w->spare, " ", 1));
            TRY(letters ? byte_letters(&w->spare, p, n) : buffer_append(&w->spare, p, n));
            TRY(span_push(&w->next, start, w->spare.len - start));
            continue;
        }
        bool has = *p == ' ' || (n >= s->n_literal && !memcmp(p, s->literal, s->n_literal));
        bool wanted = s->prepend == PREPEND_ALWAYS ||
                      (s->prepend == PREPEND_FIRST && first && w->words.item[i].at == 0);
        if (wanted && !has) TRY(buffer_append(&w->spare, s->literal, s->n_literal));
        size_t word = start;
        for (size_t k = 0; k < n;) {
            size_t at = w->spare.len;
            bool mark = p[k] == ' ' ||
                        (n - k >= s->n_literal && !memcmp(p + k, s->literal, s->n_literal));
            if (mark) {
                if (s->split && at > word) {
                    TRY(span_push(&w->next, word, at - word));
                    word = at;
                }
                TRY(buffer_append(&w->spare, s->literal, s->n_literal));
                k += p[k] == ' ' ? 1 : s->n_literal;
                continue;
            }
            size_t end = k + 1;
            while (end < n && p[end] != ' ' && p[end] != s->literal[0]) end++;
            TRY(buffer_append(&w->spare, p + k, end - k));
            k = end;
        }
        if (w->spare.len > word) TRY(span_push(&w->next, word, w->spare.len - word));
    }
    struct buffer t = w->text;
    w->text = w->spare;
    w->spare = t;
    return STRETTO_OK;
}

stretto_status pretok_run(const struct pretok *p, struct pretok_work *w, bool first,
                          struct error *err)
{
    w->words.n = 0;
    if (!w->text.len) return STRETTO_OK;
    TRY(span_push(&w->words, 0, w->text.len));
    bool clean = utf8_valid_run(w->text.data, w->text.len) == w->text.len;
    for (size_t i = 0; i < p->n; i++) {
        const struct pretok_step *s = &p->step[i];
        w->next.n = 0;
        if (s->kind == PRETOK_REGEX && !w->match && !(w->match = pattern_work_open()))
            return STRETTO_E_NOMEM;
        bool changes = s->kind == PRETOK_METASPACE || s->kind == PRETOK_PREFIX_SPACE ||
                       s->kind == PRETOK_BYTE_LETTERS;
        if (changes) TRY(rebuild(s, w, first));
        else
            for (size_t k = 0; k < w->words.n; k++) TRY(cut_word(s, w, w->words.item[k], clean, err));
        struct span_list t = w->words;
        w->words = w->next;
        w->next = t;
    }
    return STRETTO_OK;
}
