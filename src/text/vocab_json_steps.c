/* The names are those of Hugging Face's tokenizers library; what each does was checked against that
 * library on random text (tests/program/test_tokenizer_json.py). What is not known is refused by name. */
#include "text/vocab_json.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>

enum { MAX_NESTING = 16 };

bool json_text(const json_t *object, const char *key, struct source_str *out)
{
    const json_t *v = json_object_get(object, key);
    if (!json_is_string(v)) return false;
    out->p = json_string_value(v);
    out->n = json_string_length(v);
    return true;
}

bool json_flag(const json_t *object, const char *key, bool otherwise)
{
    const json_t *v = json_object_get(object, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

static stretto_status refuse(struct error *err, const char *what, const char *type)
{
    return fail(err, STRETTO_E_UNSUP, "tokenizer.json uses the %s \"%.100s\", which this version does not "
                "support: use a GGUF file of the model", what, type);
}

static const char *type_of(const json_t *part)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    return type ? type : "(no type)";
}

static stretto_status malformed(struct error *err, const char *what, const char *type)
{
    return fail(err, STRETTO_E_FORMAT, "tokenizer.json: the %s \"%.100s\" lacks what it needs", what, type);
}

/* {"String": "x"} or {"Regex": "x"} */
static bool pattern_of(const json_t *part, struct source_str *text, bool *regex)
{
    const json_t *p = json_object_get(part, "pattern");
    *regex = json_text(p, "Regex", text);
    return *regex || json_text(p, "String", text);
}

static stretto_status copy(char **out, size_t *n, struct source_str s, struct error *err)
{
    /* mem_strndup would stop at a NUL, which JSON can spell. */
    *out = mem_alloc(s.n + 1);
    if (!*out) return fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
    memcpy(*out, s.p, s.n);
    (*out)[s.n] = '\0';
    *n = s.n;
    return STRETTO_OK;
}

/* Runs `each` on the part, or on every part of a Sequence. */
typedef stretto_status part_reader(struct tokenizer *t, const json_t *part, const char *type,
                                   struct error *err);

static stretto_status walk(struct tokenizer *t, const json_t *part, const char *what, const char *list,
                           part_reader *each, unsigned depth, struct error *err)
{
    if (!part || json_is_null(part)) return STRETTO_OK;
    if (!json_is_object(part) || depth > MAX_NESTING)
        return fail(err, STRETTO_E_FORMAT, "tokenizer.json: the %s is no object or nests too deeply",
                    what);
    if (strcmp(type_of(part), "Sequence")) return each(t, part, type_of(part), err);
    const json_t *items = json_object_get(part, list);
    size_t n = json_array_size(items);
    for (size_t i = 0; i < n; i++)
        TRY(walk(t, json_array_get(items, i), what, list, each, depth + 1, err));
    return STRETTO_OK;
}

/* ---- normalizers ------------------------------------------------------------------------------------ */

static stretto_status simple(struct tokenizer *t, enum normal_kind kind, struct error *err)
{
    struct normal_step *k = NULL;
    TRY(normal_add(&t->normal, &k, err));
    k->kind = kind;
    return STRETTO_OK;
}

static stretto_status form(struct tokenizer *t, enum unicode_form f, struct error *err)
{
    TRY(simple(t, NORMAL_FORM, err));
    t->normal.step[t->normal.n - 1].form = f;
    return STRETTO_OK;
}

static stretto_status bert_normalizer(struct tokenizer *t, const json_t *part, struct error *err)
{
    bool lower = json_flag(part, "lowercase", true);
    if (json_flag(part, "clean_text", true)) TRY(simple(t, NORMAL_BERT_CLEAN, err));
    if (json_flag(part, "handle_chinese_chars", true)) TRY(simple(t, NORMAL_BERT_CJK, err));
    if (json_flag(part, "strip_accents", lower)) {
        TRY(form(t, UNICODE_NFD, err));
        TRY(simple(t, NORMAL_STRIP_MARKS, err));
    }
    return lower ? simple(t, NORMAL_LOWER, err) : STRETTO_OK;
}

static stretto_status normalizer(struct tokenizer *t, const json_t *part, const char *type,
                                 struct error *err)
{
    static const struct { const char *name; enum unicode_form form; } forms[] = {
        { "NFC", UNICODE_NFC }, { "NFD", UNICODE_NFD }, { "NFKC", UNICODE_NFKC },
        { "NFKD", UNICODE_NFKD },
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (!strcmp(type, forms[i].name)) return form(t, forms[i].form, err);
    if (!strcmp(type, "BertNormalizer")) return bert_normalizer(t, part, err);
    if (!strcmp(type, "Lowercase")) return simple(t, NORMAL_LOWER, err);
    if (!strcmp(type, "StripAccents")) return simple(t, NORMAL_STRIP_ALL_MARKS, err);
    if (!strcmp(type, "ByteLevel")) {
        t->letters = true;
        return simple(t, NORMAL_BYTE_LETTERS, err);
    }
    struct normal_step *k;
    struct source_str s, to = { "", 0 };
    if (!strcmp(type, "Strip")) {
        TRY(simple(t, NORMAL_STRIP, err));
        k = &t->normal.step[t->normal.n - 1];
        k->left = json_flag(part, "strip_left", true);
        k->right = json_flag(part, "strip_right", true);
        return STRETTO_OK;
    }
    if (!strcmp(type, "Prepend")) {
        if (!json_text(part, "prepend", &s)) return malformed(err, "normalizer", type);
        TRY(simple(t, NORMAL_PREPEND, err));
        k = &t->normal.step[t->normal.n - 1];
        return copy(&k->from, &k->n_from, s, err);
    }
    if (!strcmp(type, "Replace")) {
        bool regex;
        if (!pattern_of(part, &s, &regex) || !json_text(part, "content", &to) || !s.n)
            return malformed(err, "normalizer", type);
        TRY(simple(t, NORMAL_REPLACE, err));
        k = &t->normal.step[t->normal.n - 1];
        TRY(copy(&k->to, &k->n_to, to, err));
        return regex ? pattern_open(&k->pattern, s.p, s.n, err)
                     : copy(&k->from, &k->n_from, s, err);
    }
    return refuse(err, "normalizer", type);
}

stretto_status json_normalizer(struct tokenizer *t, const json_t *part, struct error *err)
{
    return walk(t, part, "normalizer", "normalizers", normalizer, 0, err);
}

/* ---- pre-tokenizers --------------------------------------------------------------------------------- */

static stretto_status add_step(struct tokenizer *t, enum pretok_kind kind, enum pretok_cut cut,
                               struct pretok_step **out, struct error *err)
{
    struct pretok_step *s = NULL;
    TRY(pretok_add(&t->pretok, &s, err));
    s->kind = kind;
    s->cut = cut;
    if (out) *out = s;
    return STRETTO_OK;
}

static bool cut_named(const json_t *part, enum pretok_cut *cut)
{
    static const struct { const char *name; enum pretok_cut cut; } names[] = {
        { "Isolated", CUT_ISOLATED }, { "Removed", CUT_REMOVED },
        { "MergedWithPrevious", CUT_WITH_PREVIOUS }, { "MergedWithNext", CUT_WITH_NEXT },
        { "Contiguous", CUT_CONTIGUOUS },
    };
    const char *name = json_string_value(json_object_get(part, "behavior"));
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i].name)) { *cut = names[i].cut; return true; }
    return false;
}

static bool is_ascii_digit(int32_t cp) { return cp >= '0' && cp <= '9'; }

/* Numbers in threes from the right, as an expression, need time quadratic in a run of digits: they are
 * a step of their own. D stands for the class of digits. */
static bool threes(struct source_str s, unsigned *how, bool (**is_digit)(int32_t))
{
    static const struct { const char *name; bool (*is)(int32_t); } classes[] = {
        { "\\d", unicode_is_decimal }, { "\\p{Nd}", unicode_is_decimal }, { "\\p{N}", unicode_is_number },
        { "[0-9]", is_ascii_digit },
    };
    static const struct { const char *form; unsigned how; } forms[] = {
        { "(?=(D{3})+(?!D))", THREES_CUT }, { "(?=(?:D{3})+(?!D))", THREES_CUT },
        { "(?=(D{3})+\\b)", THREES_CUT | THREES_TO_BORDER },
        { "(?=(?:D{3})+\\b)", THREES_CUT | THREES_TO_BORDER },
        { "D{1,3}(?=(?:D{3})*\\b)", THREES_TO_BORDER }, { "D{1,3}(?=(D{3})*\\b)", THREES_TO_BORDER },
        { "D{1,3}(?=(?:D{3})*(?!D))", 0 }, { "D{1,3}(?=(D{3})*(?!D))", 0 },
    };
    for (size_t c = 0; c < sizeof classes / sizeof *classes; c++)
        for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
            const char *f = forms[k].form, *name = classes[c].name;
            size_t at = 0, n = strlen(name);
            for (; *f && at < s.n; f++) {
                if (*f != 'D') { if (s.p[at++] != *f) break; continue; }
                if (s.n - at < n || memcmp(s.p + at, name, n)) break;
                at += n;
            }
            if (*f || at < s.n) continue;
            *how = forms[k].how;
            *is_digit = classes[c].is;
            return true;
        }
    return false;
}

static stretto_status split(struct tokenizer *t, const json_t *part, const char *type,
                            struct error *err)
{
    struct source_str s;
    bool regex, (*is_digit)(int32_t);
    unsigned how;
    enum pretok_cut cut;
    struct pretok_step *k = NULL;
    if (!pattern_of(part, &s, &regex) || !cut_named(part, &cut))
        return malformed(err, "pre-tokenizer", type);
    bool invert = json_flag(part, "invert", false);
    if (!s.n) return STRETTO_OK;
    if (regex && threes(s, &how, &is_digit)) {
        TRY(pretok_add_threes(&t->pretok, how, is_digit, err));
        k = &t->pretok.step[t->pretok.n - 1];
        k->cut = cut;
        k->invert = invert;
        return STRETTO_OK;
    }
    TRY(add_step(t, regex ? PRETOK_REGEX : PRETOK_LITERAL, cut, &k, err));
    k->invert = invert;
    return regex ? pattern_open(&k->pattern, s.p, s.n, err)
                 : copy(&k->literal, &k->n_literal, s, err);
}

static enum pretok_prepend prepend_of(const json_t *part)
{
    const char *scheme = json_string_value(json_object_get(part, "prepend_scheme"));
    if (!scheme) return json_flag(part, "add_prefix_space", true) ? PREPEND_ALWAYS : PREPEND_NEVER;
    return !strcmp(scheme, "never") ? PREPEND_NEVER
         : !strcmp(scheme, "first") ? PREPEND_FIRST : PREPEND_ALWAYS;
}

static stretto_status pre_tokenizer(struct tokenizer *t, const json_t *part, const char *type,
                                    struct error *err)
{
    struct pretok_step *k = NULL;
    struct source_str s;
    static const char gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
                               "\\s+(?!\\S)|\\s+";
    if (!strcmp(type, "Split")) return split(t, part, type, err);
    if (!strcmp(type, "ByteLevel")) {
        if (json_flag(part, "add_prefix_space", true))
            TRY(add_step(t, PRETOK_PREFIX_SPACE, CUT_ISOLATED, NULL, err));
        if (json_flag(part, "use_regex", true))
            TRY(pretok_add_regex(&t->pretok, gpt2, sizeof gpt2 - 1, err));
        t->letters = true;
        return add_step(t, PRETOK_BYTE_LETTERS, CUT_ISOLATED, NULL, err);
    }
    if (!strcmp(type, "Digits")) {
        bool each = json_flag(part, "individual_digits", false);
        return add_step(t, each ? PRETOK_DIGITS : PRETOK_DIGIT_RUNS, CUT_ISOLATED, NULL, err);
    }
    if (!strcmp(type, "Punctuation")) {
        enum pretok_cut cut = CUT_ISOLATED;
        if (json_object_get(part, "behavior") && !cut_named(part, &cut))
            return malformed(err, "pre-tokenizer", type);
        return add_step(t, PRETOK_PUNCT, cut, NULL, err);
    }
    if (!strcmp(type, "BertPreTokenizer")) {
        TRY(add_step(t, PRETOK_SPACES, CUT_REMOVED, NULL, err));
        return add_step(t, PRETOK_PUNCT, CUT_ISOLATED, NULL, err);
    }
    if (!strcmp(type, "WhitespaceSplit")) return add_step(t, PRETOK_SPACES, CUT_REMOVED, NULL, err);
    if (!strcmp(type, "Whitespace")) {
        TRY(add_step(t, PRETOK_WORDS, CUT_REMOVED, &k, err));
        k->invert = true;
        return STRETTO_OK;
    }
    if (!strcmp(type, "CharDelimiterSplit")) {
        if (!json_text(part, "delimiter", &s) || !s.n) return malformed(err, "pre-tokenizer", type);
        TRY(add_step(t, PRETOK_LITERAL, CUT_REMOVED, &k, err));
        return copy(&k->literal, &k->n_literal, s, err);
    }
    if (!strcmp(type, "Metaspace")) {
        if (!json_text(part, "replacement", &s) || !s.n) return malformed(err, "pre-tokenizer", type);
        TRY(add_step(t, PRETOK_METASPACE, CUT_ISOLATED, &k, err));
        k->prepend = prepend_of(part);
        k->split = json_flag(part, "split", true);
        return copy(&k->literal, &k->n_literal, s, err);
    }
    return refuse(err, "pre-tokenizer", type);
}

stretto_status json_pre_tokenizer(struct tokenizer *t, const json_t *part, struct error *err)
{
    TRY(walk(t, part, "pre-tokenizer", "pretokenizers", pre_tokenizer, 0, err));
    /* Letters for bytes as the last step, which is where models have it, are left to the tables of the
     * model. */
    size_t n = t->pretok.n;
    bool first = true;
    for (size_t i = 0; i + 1 < n; i++) first &= t->pretok.step[i].kind != PRETOK_BYTE_LETTERS;
    for (size_t i = 0; i < t->normal.n; i++) first &= t->normal.step[i].kind != NORMAL_BYTE_LETTERS;
    if (n && first && t->pretok.step[n - 1].kind == PRETOK_BYTE_LETTERS) {
        t->pretok.n--;
        t->byte_level = true;
        t->letters = false;
    }
    return STRETTO_OK;
}

/* ---- post-processors -------------------------------------------------------------------------------- */

static stretto_status append_id(int32_t **list, size_t *n, const json_t *id, const struct tokenizer *t,
                                struct error *err)
{
    json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;
    if (v < 0 || (uint64_t)v >= t->vocab.n || *n >= 64)
        return fail(err, STRETTO_E_FORMAT, "tokenizer.json: the post-processor adds a token that is not "
                    "in the vocabulary, or more than 64 of them");
    int32_t *p = mem_resize(*list, (*n + 1) * sizeof *p);
    if (!p) return fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
    *list = p;
    p[(*n)++] = (int32_t)v;
    return STRETTO_OK;
}

static stretto_status template_processing(struct tokenizer *t, const json_t *part, struct error *err)
{
    const json_t *single = json_object_get(part, "single");
    const json_t *specials = json_object_get(part, "special_tokens");
    bool seen = false;
    size_t n = json_array_size(single);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(single, i);
        if (json_object_get(item, "Sequence")) { seen = true; continue; }
        const char *name = json_string_value(json_object_get(json_object_get(item, "SpecialToken"),
                                                             "id"));
        const json_t *ids = name ? json_object_get(json_object_get(specials, name), "ids") : NULL;
        if (!json_is_array(ids)) return malformed(err, "post-processor", "TemplateProcessing");
        size_t m = json_array_size(ids);
        for (size_t k = 0; k < m; k++)
            TRY(append_id(seen ? &t->after : &t->before, seen ? &t->n_after : &t->n_before,
                          json_array_get(ids, k), t, err));
    }
    return STRETTO_OK;
}

static stretto_status post_processor(struct tokenizer *t, const json_t *part, const char *type,
                                     struct error *err)
{
    if (!strcmp(type, "ByteLevel")) return STRETTO_OK;           /* offsets only */
    if (!strcmp(type, "TemplateProcessing")) return template_processing(t, part, err);
    if (!strcmp(type, "BertProcessing") || !strcmp(type, "RobertaProcessing")) {
        TRY(append_id(&t->before, &t->n_before, json_array_get(json_object_get(part, "cls"), 1), t, err));
        return append_id(&t->after, &t->n_after, json_array_get(json_object_get(part, "sep"), 1), t, err);
    }
    return refuse(err, "post-processor", type);
}

stretto_status json_post_processor(struct tokenizer *t, const json_t *part, struct error *err)
{
    return walk(t, part, "post-processor", "processors", post_processor, 0, err);
}

/* ---- decoders --------------------------------------------------------------------------------------- */

/* Behind Fuse (and ByteLevel, which fuses too) a step sees one text and no tokens. */
static stretto_status per_token(const struct spelling_rules *r, const char *type, struct error *err)
{
    if (!r->fused) return STRETTO_OK;
    return fail(err, STRETTO_E_UNSUP, "tokenizer.json has the decoder \"%s\" behind one that joins the "
                "tokens, where this version does not support it: use a GGUF file of the model", type);
}

static stretto_status decode_replace(struct tokenizer *t, const json_t *part, struct error *err)
{
    struct spelling_rules *r = &t->spell;
    struct source_str s, to;
    bool regex;
    if (!pattern_of(part, &s, &regex) || !s.n || !json_text(part, "content", &to))
        return malformed(err, "decoder", "Replace");
    if (regex) return refuse(err, "decoder", "Replace of an expression");
    if (r->drop_late_space || (!r->fused && r->drop_each_space))
        return refuse(err, "decoder", "Replace behind Strip");
    if (!r->fused) r->replace_added = true;
    return spelling_add(r->fused ? &r->late : &r->replace, s.p, s.n, to.p, to.n, err);
}

static stretto_status decode_strip(struct tokenizer *t, const json_t *part, struct error *err)
{
    struct spelling_rules *r = &t->spell;
    struct source_str s;
    json_int_t start = json_integer_value(json_object_get(part, "start"));
    json_int_t stop = json_integer_value(json_object_get(part, "stop"));
    if (start == 0 && stop == 0) return STRETTO_OK;
    if (!json_text(part, "content", &s) || s.n != 1 || *s.p != ' ' || start != 1 || stop != 0)
        return refuse(err, "decoder", "Strip of anything but one leading space");
    if (r->drop_each_space || r->drop_first_space || r->drop_late_space)
        return refuse(err, "decoder", "Strip of more than one leading space");
    if (!r->fused) r->drop_each_space = true;
    else if (r->late.n) r->drop_late_space = true;
    else r->drop_first_space = true;
    return STRETTO_OK;
}

static stretto_status decode_metaspace(struct tokenizer *t, const json_t *part, struct error *err)
{
    struct spelling_rules *r = &t->spell;
    struct source_str s;
    TRY(per_token(r, "Metaspace", err));
    if (!json_text(part, "replacement", &s) || !s.n) return malformed(err, "decoder", "Metaspace");
    r->drop_first_space |= prepend_of(part) != PREPEND_NEVER;
    r->replace_added = true;
    return spelling_add(&r->replace, s.p, s.n, " ", 1, err);
}

static stretto_status decoder(struct tokenizer *t, const json_t *part, const char *type,
                              struct error *err)
{
    struct spelling_rules *r = &t->spell;
    struct source_str s;
    if (!strcmp(type, "Fuse")) { r->fused = true; return STRETTO_OK; }
    if (!strcmp(type, "Replace")) return decode_replace(t, part, err);
    if (!strcmp(type, "Strip")) return decode_strip(t, part, err);
    if (!strcmp(type, "Metaspace")) return decode_metaspace(t, part, err);
    if (!strcmp(type, "ByteLevel")) {
        TRY(per_token(r, type, err));
        r->byte_level = r->fused = true;
        return STRETTO_OK;
    }
    if (!strcmp(type, "ByteFallback")) {
        TRY(per_token(r, type, err));
        r->byte_fallback = true;
        return STRETTO_OK;
    }
    if (!strcmp(type, "WordPiece")) {
        TRY(per_token(r, type, err));
        if (!json_text(part, "prefix", &s) || s.n >= sizeof t->wordpiece.inside)
            return malformed(err, "decoder", type);
        r->wordpiece = true;
        r->cleanup = json_flag(part, "cleanup", true);
        memcpy(t->wordpiece.inside, s.p, s.n);
        t->wordpiece.n_inside = s.n;
        return STRETTO_OK;
    }
    if (!strcmp(type, "BPEDecoder")) {
        TRY(per_token(r, type, err));
        if (!json_text(part, "suffix", &s)) return malformed(err, "decoder", type);
        mem_free(r->suffix);
        r->suffix = NULL;
        return copy(&r->suffix, &r->n_suffix, s, err);
    }
    return refuse(err, "decoder", type);
}

stretto_status json_decoder(struct tokenizer *t, const json_t *part, struct error *err)
{
    if (!part || json_is_null(part)) {
        t->spell.wordpiece = true;                  /* words joined by spaces, no prefix: n_inside 0 */
        return STRETTO_OK;
    }
    TRY(walk(t, part, "decoder", "decoders", decoder, 0, err));
    const struct spelling_rules *r = &t->spell;
    if (r->byte_level + r->wordpiece + (r->n_suffix > 0) + (r->replace.n > 0 || r->byte_fallback) > 1)
        return refuse(err, "decoder", "several kinds in one Sequence");
    return STRETTO_OK;
}
