/* Normalization, one pass over the text per step. Malformed bytes pass through every step but
 * BERT_CLEAN, which drops them as it drops U+FFFD. */
#include "text/tokenizer_int.h"
#include "base/memory.h"
#include <string.h>

void normal_done(struct normal *s)
{
    for (size_t i = 0; i < s->n; i++) {
        mem_free(s->step[i].from);
        mem_free(s->step[i].to);
        pattern_close(s->step[i].pattern);
    }
    s->n = 0;
}

stretto_status normal_add(struct normal *s, struct normal_step **step, struct error *err)
{
    if (s->n == NORMAL_MAX_STEPS)
        return fail(err, STRETTO_E_FORMAT, "the normalizer has more than %d steps", NORMAL_MAX_STEPS);
    *step = &s->step[s->n++];
    **step = (struct normal_step){ 0 };
    return STRETTO_OK;
}

static stretto_status replace_literal(const struct normal_step *s, const struct buffer *in,
                                      struct buffer *out)
{
    size_t at = 0;
    while (at < in->len) {
        const char *hit = memmem(in->data + at, in->len - at, s->from, s->n_from);
        size_t end = hit ? (size_t)(hit - in->data) : in->len;
        TRY(buffer_append(out, in->data + at, end - at));
        if (!hit) break;
        TRY(buffer_append(out, s->to, s->n_to));
        at = end + s->n_from;
    }
    return STRETTO_OK;
}

static stretto_status replace_pattern(const struct normal_step *s, const struct buffer *in,
                                      struct buffer *out, struct pretok_work *work,
                                      struct error *err)
{
    if (!work->match && !(work->match = pattern_work_open())) return STRETTO_E_NOMEM;
    for (size_t run = 0; run < in->len;) {
        size_t bad = utf8_bad_run(in->data + run, in->len - run);
        TRY(buffer_append(out, in->data + run, bad));
        run += bad;
        const char *p = in->data + run;
        size_t n = utf8_valid_run(p, in->len - run), done = 0, from = 0, last = SIZE_MAX;
        while (from <= n && n) {
            size_t at, end;
            TRY(pattern_find(s->pattern, work->match, p, n, from, &at, &end, err));
            if (at == SIZE_MAX) break;
            if (at == end && end == last) {
                int32_t cp;
                from = end < n ? end + utf8_decode(p + end, n - end, &cp) : n + 1;
                continue;
            }
            TRY(buffer_append(out, p + done, at - done));
            TRY(buffer_append(out, s->to, s->n_to));
            done = from = last = end;
        }
        TRY(buffer_append(out, p + done, n - done));
        run += n;
    }
    return STRETTO_OK;
}

static stretto_status strip(const struct normal_step *s, const struct buffer *in, struct buffer *out)
{
    size_t a = 0, b = in->len;
    int32_t cp;
    while (s->left && a < b) {
        size_t len = utf8_decode(in->data + a, b - a, &cp);
        if (!unicode_is_space(cp)) break;
        a += len;
    }
    while (s->right && a < b) {
        size_t c = utf8_before(in->data, b);
        utf8_decode(in->data + c, b - c, &cp);
        if (!unicode_is_space(cp)) break;
        b = c;
    }
    return buffer_append(out, in->data + a, b - a);
}

static stretto_status each_character(const struct normal_step *s, const struct buffer *in,
                                     struct buffer *out)
{
    bool space = true;                          /* COLLAPSE: one was written last */
    for (size_t i = 0; i < in->len;) {
        int32_t cp;
        const char *p = in->data + i;
        size_t len = utf8_decode(p, in->len - i, &cp);
        i += len;
        switch (s->kind) {
        case NORMAL_LOWER:
            if (cp != UTF8_BAD) { TRY(unicode_lower(out, cp)); continue; }
            break;
        case NORMAL_STRIP_MARKS:
            if (unicode_is_mark(cp)) continue;
            break;
        case NORMAL_STRIP_ALL_MARKS:
            if (unicode_is_any_mark(cp)) continue;
            break;
        case NORMAL_COLLAPSE:
            if (cp == ' ' && space) continue;
            space = cp == ' ';
            break;
        case NORMAL_BERT_CLEAN:
            if (cp <= 0 || cp == 0xFFFD || unicode_is_other(cp)) continue;    /* U+0085 too */
            if (unicode_is_space(cp)) { TRY(buffer_append(out, " ", 1)); continue; }
            break;
        default:
            if (unicode_is_cjk(cp)) {
                TRY(buffer_append(out, " ", 1));
                TRY(buffer_append(out, p, len));
                TRY(buffer_append(out, " ", 1));
                continue;
            }
            break;
        }
        TRY(buffer_append(out, p, len));
    }
    if (s->kind == NORMAL_COLLAPSE && out->len && space) out->data[--out->len] = '\0';
    return STRETTO_OK;
}

stretto_status normal_run(const struct normal *s, struct buffer *text, struct buffer *spare,
                          struct pretok_work *work, struct error *err)
{
    for (size_t i = 0; i < s->n && text->len; i++) {
        const struct normal_step *k = &s->step[i];
        buffer_clear(spare);
        switch (k->kind) {
        case NORMAL_PREPEND:
            TRY(buffer_append(spare, k->from, k->n_from));
            TRY(buffer_append(spare, text->data, text->len));
            break;
        case NORMAL_REPLACE:
            if (k->pattern) TRY(replace_pattern(k, text, spare, work, err));
            else TRY(replace_literal(k, text, spare));
            break;
        case NORMAL_FORM: TRY(unicode_normalize(spare, text->data, text->len, k->form)); break;
        case NORMAL_STRIP: TRY(strip(k, text, spare)); break;
        case NORMAL_BYTE_LETTERS: TRY(byte_letters(spare, text->data, text->len)); break;
        default: TRY(each_character(k, text, spare)); break;
        }
        struct buffer t = *text;
        *text = *spare;
        *spare = t;
    }
    return STRETTO_OK;
}
