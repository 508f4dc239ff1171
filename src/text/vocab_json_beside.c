/* The files beside tokenizer.json, as transformers 5 reads them: which tokens exist and what they are
 * named (tokenizer_config.json; special_tokens_map.json and added_tokens.json where it lists no added
 * tokens), and which parts of the pipeline the tokenizer's class makes by flags. add_bos_token and
 * add_eos_token say nothing where there is a tokenizer.json: its post-processor does. Checked against
 * transformers by tests/program/test_tokenizer_folder.py. */
#include "text/vocab_json.h"
#include "base/memory.h"
#include "format/families.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNDERLINE "\xE2\x96\x81"                   /* U+2581 stands for a space */

static const char *const attributes[] = { "bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                                          "cls_token", "mask_token" };
enum { N_ATTRIBUTES = sizeof attributes / sizeof *attributes };

/* Classes that make their own pipeline, and their names where the file has no such key. */
static const struct {
    const char *name;
    bool bert, plain;                 /* plain: its named tokens strip nothing, whatever was said */
    const char *of[N_ATTRIBUTES];
} classes[] = {
    { "BertTokenizer", true, false, { NULL, NULL, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]" } },
    { "DistilBertTokenizer", true, false,
      { NULL, NULL, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]" } },
    { "GPT2Tokenizer", false, false, { "<|endoftext|>", "<|endoftext|>", "<|endoftext|>" } },
    { "Qwen2Tokenizer", false, true,
      { NULL, "<|endoftext|>", "<|endoftext|>", NULL, "<|endoftext|>" } },
    { "LlamaTokenizer", false, false, { "<s>", "</s>", "<unk>" } },
    { "GemmaTokenizer", false, false,
      { "<bos>", "<eos>", "<unk>", NULL, "<pad>", NULL, "<mask>" } },
    /* By name alone: their flags count, their names are in the file. */
    { "ElectraTokenizer", true, false, { NULL } },
    { "MobileBertTokenizer", true, false, { NULL } },
    { "SqueezeBertTokenizer", true, false, { NULL } },
    { "LxmertTokenizer", true, false, { NULL } },
    { "LayoutLMTokenizer", true, false, { NULL } },
    { "MPNetTokenizer", true, false, { NULL } },
    { "RobertaTokenizer", false, false, { NULL } },
    { "CodeLlamaTokenizer", false, false, { NULL } },
};
enum { N_CLASSES = sizeof classes / sizeof *classes };

static bool is_class(size_t i, const char *name, size_t n)
{
    size_t k = strlen(classes[i].name);
    return (n == k || (n == k + 4 && !memcmp(name + k, "Fast", 4))) && !memcmp(name, classes[i].name, k);
}

/* The class that the files name, or the model type's; -1: tokenizer.json says everything. */
static int find_class(const struct beside *b)
{
    struct source_str s;
    const char *usual = json_text(b->model, "model_type", &s) ? format_tokenizer_class(s.p) : NULL;
    if (usual && !*usual) return -1;
    bool named = json_text(b->tokenizer, "tokenizer_class", &s) || json_text(b->model, "tokenizer_class", &s);
    if (!named && !usual) return -1;
    for (size_t i = 0; i < N_CLASSES; i++)
        if (named ? is_class(i, s.p, s.n) : strcmp(classes[i].name, usual) == 0) return (int)i;
    return -1;
}

static stretto_status no_memory(struct error *err)
{
    return fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
}

/* What tokenizer_config.json says, with what the older files add to it. */
static stretto_status merge_map(struct beside *b, const json_t *map, struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, key, value)
        if (json_object_set(b->tokenizer, key, value)) return no_memory(err);
    return STRETTO_OK;
}

static bool is_empty(const json_t *list)
{
    return !json_array_size(list) && !json_object_size(list);
}

static stretto_status take_additional(struct beside *b, struct error *err)
{
    json_t *more = json_object_get(b->tokenizer, "additional_special_tokens");
    if (!is_empty(more) && is_empty(json_object_get(b->tokenizer, "extra_special_tokens")) &&
        json_object_set(b->tokenizer, "extra_special_tokens", more)) return no_memory(err);
    return STRETTO_OK;
}

/* transformers then reads special tokens in a text as plain text, a chat template's own too. Anything
 * but true and false makes it fail. */
static stretto_status check_split(const struct beside *b, struct error *err)
{
    const json_t *split = json_object_get(b->tokenizer, "split_special_tokens");
    if (!split || json_is_false(split)) return STRETTO_OK;
    return fail(err, STRETTO_E_UNSUP,
                "tokenizer_config.json: \"split_special_tokens\" is not false: special tokens in a text "
                "would be read as plain text, which is not supported; set it to false if they are to be "
                "read as the tokens they are");
}

stretto_status beside_settle(struct beside *b, struct error *err)
{
    TRY(check_split(b, err));
    b->named = json_is_object(b->tokenizer) || json_is_object(b->map);
    b->class = find_class(b);
    if (!json_is_object(b->tokenizer)) {
        json_decref(b->tokenizer);
        b->tokenizer = json_object();
        if (!b->tokenizer) return no_memory(err);
    }
    TRY(take_additional(b, err));
    if (json_is_object(b->map) && !json_object_get(b->tokenizer, "added_tokens_decoder"))
        TRY(merge_map(b, b->map, err));
    return take_additional(b, err);
}

void beside_look(struct beside *b, const char *pre, size_t n)
{
    /* transformers' llama class has no such step and leaves the file its word. */
    bool llama = b->class >= 0 && !strcmp(classes[b->class].name, "LlamaTokenizer");
    if (llama && memmem(pre, n, "\"ByteLevel\"", 11)) b->class = -1;
}

void beside_done(struct beside *b)
{
    json_decref(b->tokenizer);
    json_decref(b->map);
    json_decref(b->added);
    json_decref(b->model);
    json_decref(b->generation);
    *b = (struct beside){ 0 };
}

/* ---- flags over the pipeline ------------------------------------------------------------------------ */

static json_t *flag_or_null(const json_t *config, const char *key, json_t *otherwise)
{
    const json_t *v = json_object_get(config, key);
    return json_is_boolean(v) ? json_boolean(json_is_true(v)) : v ? json_null() : otherwise;
}

static stretto_status bert_normalizer(const struct beside *b, json_t **part, struct error *err)
{
    const json_t *c = b->tokenizer;
    json_t *n = json_pack("{s:s, s:b, s:o, s:o, s:o}", "type", "BertNormalizer", "clean_text", 1,
                          "handle_chinese_chars", flag_or_null(c, "tokenize_chinese_chars", json_true()),
                          "strip_accents", flag_or_null(c, "strip_accents", json_null()),
                          "lowercase", flag_or_null(c, "do_lower_case", json_true()));
    if (!n) return no_memory(err);
    json_decref(*part);
    *part = n;
    return STRETTO_OK;
}

/* add_prefix_space in one part or in the parts of a Sequence. */
static stretto_status prefix_space(json_t *part, const char *list, bool on, bool legacy, unsigned depth,
                                   struct error *err)
{
    struct source_str type, scheme;
    if (depth > 16 || !json_text(part, "type", &type)) return STRETTO_OK;
    json_t *items = json_object_get(part, list);
    for (size_t i = 0; i < json_array_size(items); i++) {
        json_t *item = json_array_get(items, i);
        TRY(prefix_space(item, list, on, legacy, depth + 1, err));
        bool gone = !on && json_text(item, "type", &type) &&
                    (!strcmp(type.p, "Prepend") || (!strcmp(type.p, "Strip") && !strcmp(list, "decoders")));
        if (gone && json_array_remove(items, i--)) return no_memory(err);
    }
    if (!json_text(part, "type", &type)) return STRETTO_OK;
    int bad = 0;
    if (!strcmp(type.p, "ByteLevel") && !strcmp(list, "pretokenizers"))
        bad = json_object_set_new(part, "add_prefix_space", json_boolean(on));
    if (!strcmp(type.p, "Metaspace")) {
        bool never = json_text(part, "prepend_scheme", &scheme) && !strcmp(scheme.p, "never");
        if (!on || never)
            bad = json_object_set_new(part, "prepend_scheme",
                                      json_string(!on ? "never" : legacy ? "always" : "first"));
    }
    return bad ? no_memory(err) : STRETTO_OK;
}

/* GemmaTokenizer makes all parts itself. */
static stretto_status gemma_part(enum beside_part which, json_t **part, struct error *err)
{
    json_t *n =
        which == BESIDE_NORMALIZER
            ? json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content", UNDERLINE)
        : which == BESIDE_PRE
            ? json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "String", " ", "behavior",
                        "MergedWithPrevious", "invert", 0)
            : json_pack("{s:s, s:[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]}", "type", "Sequence", "decoders", "type",
                        "Replace", "pattern", "String", UNDERLINE, "content", " ", "type", "ByteFallback",
                        "type", "Fuse");
    if (!n) return no_memory(err);
    json_decref(*part);
    *part = n;
    return STRETTO_OK;
}

stretto_status beside_adjust(const struct beside *b, enum beside_part which, json_t **part, struct error *err)
{
    static const char *const lists[] = { "normalizers", "pretokenizers", "decoders" };
    if (b->class < 0) return STRETTO_OK;
    if (!strcmp(classes[b->class].name, "GemmaTokenizer")) return gemma_part(which, part, err);
    if (which == BESIDE_NORMALIZER && classes[b->class].bert) return bert_normalizer(b, part, err);
    const json_t *flag = json_object_get(b->tokenizer, "add_prefix_space");
    if (!json_is_boolean(flag) || !*part) return STRETTO_OK;
    struct source_str type;
    if (json_is_false(flag) && which == BESIDE_NORMALIZER && json_text(*part, "type", &type) &&
        !strcmp(type.p, "Prepend")) {
        json_decref(*part);
        *part = json_null();
        return STRETTO_OK;
    }
    return prefix_space(*part, lists[which], json_is_true(flag),
                        json_flag(b->tokenizer, "legacy", false), 0, err);
}

/* ---- tokens ----------------------------------------------------------------------------------------- */

/* "x" or { "content": "x", ... } */
static bool token_text(const json_t *v, struct source_str *s)
{
    if (json_is_object(v)) return json_text(v, "content", s) && s->n;
    if (!json_is_string(v) || !json_string_length(v)) return false;
    *s = (struct source_str){ json_string_value(v), json_string_length(v) };
    return true;
}

static bool is_attribute(const char *key)
{
    for (size_t i = 0; i < N_ATTRIBUTES; i++)
        if (!strcmp(key, attributes[i])) return true;
    return false;
}

/* The token of an attribute, as a JSON value; NULL when there is none. `spare` holds a class's own. */
static const json_t *attribute(const struct beside *b, size_t i, json_t **spare)
{
    const json_t *v = json_object_get(b->tokenizer, attributes[i]);
    if (v) return json_is_null(v) ? NULL : v;
    const char *own = b->class >= 0 && b->named ? classes[b->class].of[i] : NULL;
    return *spare = own ? json_string(own) : NULL;
}

static int32_t attribute_id(const struct tokenizer *t, const struct beside *b, size_t i)
{
    struct source_str s;
    json_t *spare = NULL;
    int32_t id = token_text(attribute(b, i, &spare), &s) ? vocab_find(&t->vocab, s.p, s.n) : -1;
    json_decref(spare);
    return id;
}

/* Calls for every named token, in transformers' order. */
typedef stretto_status each_token(struct tokenizer *t, struct added_list *l, const json_t *v,
                                  struct error *err);

static stretto_status each_named(struct tokenizer *t, const struct beside *b, struct added_list *l,
                                 each_token *each, struct error *err)
{
    for (size_t i = 0; i < N_ATTRIBUTES; i++) {
        json_t *spare = NULL;
        const json_t *v = attribute(b, i, &spare);
        stretto_status st = v ? each(t, l, v, err) : STRETTO_OK;
        json_decref(spare);
        TRY(st);
    }
    const char *key;
    json_t *v, *extra = json_object_get(b->tokenizer, "extra_special_tokens");
    bool others = json_is_object(extra);
    json_object_foreach(b->tokenizer, key, v) {
        size_t n = strlen(key);
        if (n <= 6 || strcmp(key + n - 6, "_token") || is_attribute(key)) continue;
        others |= json_is_string(v);
        TRY(each(t, l, v, err));
    }
    /* transformers puts the others in this one's place, if there are any. */
    json_t *specific = others ? NULL : json_object_get(b->tokenizer, "model_specific_special_tokens");
    json_object_foreach(specific, key, v) TRY(each(t, l, v, err));
    json_object_foreach(extra, key, v) TRY(each(t, l, v, err));
    for (size_t i = 0; i < json_array_size(extra); i++) TRY(each(t, l, json_array_get(extra, i), err));
    return STRETTO_OK;
}

/* Of a token that is named twice the last word counts, but the bare string only once. */
static stretto_status name_token(struct tokenizer *t, struct added_list *l, const json_t *v, struct error *err)
{
    struct source_str s;
    if (!token_text(v, &s)) return STRETTO_OK;
    const struct added_json *is = added_list_find(t, l, s);
    bool worded = is && is->worded;
    if (is && ((size_t)(is - l->item) < l->n_listed || (worded && json_is_string(v)))) return STRETTO_OK;
    struct added_json a = json_is_object(v) ? added_json_of(v) : (struct added_json){ 0 };
    a.special = true;
    a.worded = worded || json_is_string(v);
    return added_list_put(t, l, s, a, err);
}

static stretto_status plain_token(struct tokenizer *t, struct added_list *l, const json_t *v,
                                  struct error *err)
{
    struct source_str s;
    if (!token_text(v, &s)) return STRETTO_OK;
    return added_list_put(t, l, s, (struct added_json){ .special = true }, err);
}

static bool is_text(const json_t *v, struct source_str s)
{
    struct source_str other;
    return token_text(v, &other) && other.n == s.n && !memcmp(other.p, s.p, s.n);
}

/* Is this one of the named ones? Asked of a few tokens. */
static bool is_named(const struct beside *b, struct source_str s)
{
    for (size_t i = 0; i < N_ATTRIBUTES; i++) {
        json_t *spare = NULL;
        bool same = is_text(attribute(b, i, &spare), s);
        json_decref(spare);
        if (same) return true;
    }
    return false;
}

/* What added_tokens.json lists is special when it is named by a bare string, or by an object of
 * special_tokens_map.json: transformers has made tokens of those by then, and not yet of
 * tokenizer_config.json's. */
static bool is_special_older(const struct beside *b, struct source_str s)
{
    const json_t *extra = json_object_get(b->tokenizer, "extra_special_tokens");
    for (size_t i = 0; i < N_ATTRIBUTES; i++) {
        json_t *spare = NULL;
        const json_t *v = attribute(b, i, &spare);
        bool same = is_text(v, s) && (json_is_string(v) || v == json_object_get(b->map, attributes[i]));
        json_decref(spare);
        if (same) return true;
    }
    for (size_t i = 0; i < json_array_size(extra); i++) {
        const json_t *v = json_array_get(extra, i);
        bool made = json_is_string(v) || extra == json_object_get(b->map, "extra_special_tokens");
        if (made && is_text(v, s)) return true;
    }
    return false;
}

/* A token with the id that its file gives, which only says in what order they come. */
struct listed { long long id; struct source_str s; struct added_json a; };

static int by_listed_id(const void *a, const void *b)
{
    const struct listed *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static long long number_of(const char *key)
{
    long long n = 0;
    for (; *key >= '0' && *key <= '9' && n < INT32_MAX; key++) n = n * 10 + (*key - '0');
    return n;
}

static size_t list_decoder(const json_t *tokens, struct listed *out)
{
    size_t n = 0;
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)tokens, key, v)
        if (token_text(v, &out[n].s) && json_is_object(v)) {
            out[n].id = number_of(key);
            out[n++].a = added_json_of(v);
        }
    return n;
}

static size_t list_older(struct tokenizer *t, const struct beside *b, const struct added_list *l,
                         struct listed *out)
{
    size_t n = 0;
    const char *key;
    json_t *v;
    json_object_foreach(b->added, key, v) {
        struct source_str s = { key, strlen(key) };
        /* tokenizer.json's own word about a token counts. */
        if (!s.n || !json_is_integer(v) || added_list_find(t, l, s)) continue;
        bool special = is_special_older(b, s);
        out[n].id = json_integer_value(v);
        out[n].s = s;
        out[n++].a = (struct added_json){ .special = special, .normalized = !special };
    }
    return n;
}

static stretto_status put_listed(struct tokenizer *t, const struct beside *b, struct added_list *l,
                                 struct listed *list, size_t n, struct error *err)
{
    qsort(list, n, sizeof *list, by_listed_id);
    for (size_t i = 0; i < n; i++) {
        const struct added_json *is = added_list_find(t, l, list[i].s);
        struct added_json a = list[i].a;
        if (is && is->special == a.special && is->lstrip == a.lstrip && is->rstrip == a.rstrip &&
            is->single_word == a.single_word && is->normalized == a.normalized) continue;
        a.special |= is_named(b, list[i].s);
        TRY(added_list_put(t, l, list[i].s, a, err));
    }
    return STRETTO_OK;
}

static size_t list_json(const json_t *tokens, struct listed *out)
{
    size_t n = json_array_size(tokens);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(tokens, i);
        if (!token_text(v, &out[i].s)) out[i].s = (struct source_str){ "", 0 };
        out[i].id = json_integer_value(json_object_get(v, "id"));
        out[i].a = added_json_of(v);
    }
    return n;
}

/* tokenizer.json's own. A class of its own makes its vocabulary anew: in the order of the ids, and from
 * tokenizer_config.json where that lists any. */
static stretto_status put_json(struct tokenizer *t, const struct beside *b, struct added_list *l,
                               const json_t *tokens, struct listed *list, struct error *err)
{
    bool own = b->class >= 0;
    if (own && json_is_object(json_object_get(b->tokenizer, "added_tokens_decoder"))) return STRETTO_OK;
    size_t n = list_json(tokens, list);
    if (own) qsort(list, n, sizeof *list, by_listed_id);
    for (size_t i = 0; i < n; i++) {
        if (!list[i].s.n) continue;
        TRY(added_list_put(t, l, list[i].s, list[i].a, err));
        int32_t id = added_list_find(t, l, list[i].s)->id;
        if (id != list[i].id && !*t->warning)
            snprintf(t->warning, sizeof t->warning, "tokenizer.json gives the added token \"%.100s\" the id "
                     "%lld; as transformers reads it, it gets %d, the next behind all others", list[i].s.p,
                     list[i].id, (int)id);
    }
    return STRETTO_OK;
}

static stretto_status put_all(struct tokenizer *t, const struct beside *b, struct added_list *l,
                              const json_t *tokens, struct listed *list, struct error *err)
{
    const json_t *decoder = json_object_get(b->tokenizer, "added_tokens_decoder");
    TRY(put_json(t, b, l, tokens, list, err));
    size_t n = json_is_object(decoder) ? list_decoder(decoder, list) : list_older(t, b, l, list);
    TRY(put_listed(t, b, l, list, n, err));
    l->n_listed = l->n;
    TRY(each_named(t, b, l, name_token, err));
    return b->class >= 0 && classes[b->class].plain ? each_named(t, b, l, plain_token, err) : STRETTO_OK;
}

stretto_status beside_added(struct tokenizer *t, const struct beside *b, struct added_list *l,
                            const json_t *tokens, struct error *err)
{
    size_t most = json_object_size(json_object_get(b->tokenizer, "added_tokens_decoder")) +
                  json_object_size(b->added) + json_array_size(tokens);
    struct listed *list = mem_alloc((most + 1) * sizeof *list);
    if (!list) return no_memory(err);
    stretto_status st = put_all(t, b, l, tokens, list, err);
    mem_free(list);
    return st;
}

/* ---- ids -------------------------------------------------------------------------------------------- */

static void mark_end(struct tokenizer *t, const json_t *id, bool nameless)
{
    json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;
    if (v < 0 || (uint64_t)v >= t->vocab.n) return;
    t->flag[v] |= TOKEN_IS_EOG;
    if (nameless && t->eos < 0) t->eos = (int32_t)v;
}

/* eos_token_id of config.json and generation_config.json: a number or a list. */
static void model_ids(struct tokenizer *t, const json_t *config, bool nameless)
{
    const json_t *eos = json_object_get(config, "eos_token_id");
    mark_end(t, eos, nameless);
    for (size_t i = 0; i < json_array_size(eos); i++) mark_end(t, json_array_get(eos, i), nameless);
    const json_t *bos = json_object_get(config, "bos_token_id");
    json_int_t v = json_is_integer(bos) ? json_integer_value(bos) : -1;
    if (nameless && t->bos < 0 && v >= 0 && (uint64_t)v < t->vocab.n) t->bos = (int32_t)v;
}

void beside_ids(struct tokenizer *t, const struct beside *b)
{
    if (b->named) {
        t->bos = attribute_id(t, b, 0);
        t->eos = attribute_id(t, b, 1);
    }
    /* The model's own files name tokens where the tokenizer's are silent altogether. */
    model_ids(t, b->model, !b->named);
    model_ids(t, b->generation, !b->named);
}
