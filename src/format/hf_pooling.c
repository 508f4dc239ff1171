/* What sentence-transformers writes beside a model about the embedding of a text: modules.json lists the
 * steps, <n>_Pooling/config.json says which vectors of tokens count, config_sentence_transformers.json and
 * sentence_bert_config.json what happens to the text before. Facts: its classes Pooling, Normalize and
 * SentenceTransformer (releases 2 to 5). What is not done here is kept as a refusal, which embedding
 * gives as its answer; everything else that a folder is good for goes on. */
#include "base/json.h"
#include "format/hf_int.h"
#include "format/pooling.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct rule {
    const struct source *s;
    struct hf_pooling *out;
    struct error *err;
    char pooling_path[256];             /* folder of the Pooling module; "": none was listed */
    char prompt[64];                    /* default_prompt_name */
    unsigned flags, named;              /* bits in the order of `modes` */
    bool has_named, lower;
};

/* The first thing that is not understood is the one that is told. */
__attribute__((format(printf, 2, 3)))
static void refuse(struct rule *r, const char *fmt, ...)
{
    if (r->out->refusal[0]) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->out->refusal, sizeof r->out->refusal, fmt, ap);
    va_end(ap);
}

/* A member's text, cut to what fits. */
static void copy_text(const struct json *j, char *out, size_t size)
{
    size_t n = j->kind == JT_STRING ? j->n : 0;
    if (n >= size) n = size - 1;
    memcpy(out, j->p, n);
    out[n] = '\0';
}

typedef void member_fn(struct rule *r, struct json *j, const char *key);

/* Calls `member` at the value of every member of the object that comes next. */
static stretto_status each_member(struct json *j, member_fn *member, struct rule *r)
{
    if (json_next(j) != JT_OBJECT) return json_fail(j, "expected an object");
    while (json_next(j) == JT_KEY) {
        char key[64];
        size_t n = j->n < sizeof key ? j->n : sizeof key - 1;
        memcpy(key, j->p, n);
        key[n] = '\0';
        json_next(j);
        member(r, j, key);
        if (!json_skip(j)) break;
    }
    return json_status(j);
}

static stretto_status read_object(struct rule *r, const char *name, const char *text, size_t size,
                                  member_fn *member)
{
    struct json j;
    json_open(&j, text, size, name, r->err);
    stretto_status s = each_member(&j, member, r);
    if (s == STRETTO_OK && json_next(&j) != JT_END) s = json_status(&j);
    json_done(&j);
    return s;
}

/* ---- modules.json --------------------------------------------------------------------------- */

struct module { char type[160], path[256]; };

/* "sentence_transformers.models.Pooling": the class is what counts. */
static void take_module(struct rule *r, const struct module *m)
{
    const char *dot = strrchr(m->type, '.'), *class = dot ? dot + 1 : m->type;
    if (strcmp(class, "Normalize") == 0) {
        r->out->normalize = true;
    } else if (strcmp(class, "Pooling") == 0) {
        if (r->pooling_path[0]) refuse(r, "modules.json lists two poolings, which is not supported");
        if (!m->path[0] || m->path[0] == '/' || strstr(m->path, ".."))
            refuse(r, "modules.json looks for the pooling in \"%.60s\", which is no folder of the model", m->path);
        else snprintf(r->pooling_path, sizeof r->pooling_path, "%s", m->path);
    } else if (strcmp(class, "Transformer") == 0) {
        if (m->path[0] && strcmp(m->path, ".") != 0)
            refuse(r, "modules.json has the model itself in \"%.60s\": open that folder", m->path);
    } else if (strcmp(class, "Dropout") != 0) {
        refuse(r, "modules.json sends the vectors through %.60s (\"%.60s\"), which is not supported", class,
               m->path);
    }
}

static stretto_status read_module(struct json *j, struct module *m)
{
    *m = (struct module){ "", "" };
    if (j->kind != JT_OBJECT) return json_fail(j, "a module is not an object");
    while (json_next(j) == JT_KEY) {
        char *to = json_is(j, "type") ? m->type : json_is(j, "path") ? m->path : NULL;
        size_t size = to == m->type ? sizeof m->type : sizeof m->path;
        json_next(j);
        if (to) copy_text(j, to, size);
        if (!json_skip(j)) break;
    }
    return json_status(j);
}

static stretto_status read_modules(struct rule *r, const struct source_str *text)
{
    struct json j;
    struct module m;
    json_open(&j, text->p, text->n, "modules.json", r->err);
    stretto_status s = json_next(&j) == JT_ARRAY ? STRETTO_OK : json_fail(&j, "expected a list of modules");
    r->out->normalize = false;
    while (s == STRETTO_OK && json_next(&j) > JT_END && j.kind != JT_ARRAY_END)
        if ((s = read_module(&j, &m)) == STRETTO_OK) take_module(r, &m);
    if (s == STRETTO_OK && json_next(&j) != JT_END) s = json_status(&j);
    json_done(&j);
    if (s == STRETTO_OK && !r->pooling_path[0])
        refuse(r, "modules.json lists no pooling: which vector stands for a text is not said");
    return s;
}

/* ---- <n>_Pooling/config.json ---------------------------------------------------------------- */

static const struct mode { const char *key, *word; int kind; } modes[] = {
    { "pooling_mode_mean_tokens", "mean", POOLING_MEAN },
    { "pooling_mode_cls_token", "cls", POOLING_CLS },
    { "pooling_mode_lasttoken", "lasttoken", POOLING_LAST },
    { "pooling_mode_max_tokens", "max", -1 },               /* known, not done */
    { "pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", -1 },
    { "pooling_mode_weightedmean_tokens", "weightedmean", -1 },
};
enum { N_MODES = sizeof modes / sizeof *modes };

/* "pooling_mode": one word or a list of them, in place of the flags. */
static void named_mode(struct rule *r, const struct json *j)
{
    char word[64];
    copy_text(j, word, sizeof word);
    for (unsigned i = 0; i < N_MODES; i++)
        if (strcmp(modes[i].word, word) == 0) { r->named |= 1u << i; return; }
    refuse(r, "%.60s/config.json has the pooling_mode \"%.40s\"", r->pooling_path, word);
}

static void named_modes(struct rule *r, struct json *j)
{
    if (j->kind == JT_NULL) return;
    r->has_named = true;
    if (j->kind != JT_ARRAY) { named_mode(r, j); return; }
    while (json_next(j) > JT_END && j->kind != JT_ARRAY_END) {
        named_mode(r, j);
        if (!json_skip(j)) return;
    }
}

static void flag_mode(struct rule *r, const char *key, bool on)
{
    for (unsigned i = 0; i < N_MODES; i++)
        if (strcmp(modes[i].key, key) == 0) {
            r->flags = (r->flags & ~(1u << i)) | (unsigned)on << i;
            return;
        }
    if (on) refuse(r, "%.60s/config.json sets %.60s", r->pooling_path, key);
}

static void pooling_member(struct rule *r, struct json *j, const char *key)
{
    if (strcmp(key, "pooling_mode") == 0) named_modes(r, j);
    else if (strncmp(key, "pooling_mode_", 13) == 0) flag_mode(r, key, j->kind == JT_TRUE);
    else if (strcmp(key, "include_prompt") == 0 && j->kind == JT_FALSE)
        refuse(r, "%.60s/config.json leaves the tokens of a prompt out (include_prompt false)", r->pooling_path);
}

/* Several modes give vectors that are joined; one that is known gives the kind. */
static void choose(struct rule *r)
{
    unsigned on = r->has_named ? r->named : r->flags;
    char words[160] = "none";
    size_t at = 0;
    for (unsigned i = 0; i < N_MODES; i++) {
        if (!(on >> i & 1)) continue;
        at += (size_t)snprintf(words + at, sizeof words - at, "%s%s", at ? " + " : "", modes[i].word);
        if (on == 1u << i) r->out->kind = modes[i].kind;
    }
    if (r->out->kind < 0)
        refuse(r, "%.60s/config.json asks for the pooling %s", r->pooling_path, words);
}

static stretto_status read_pooling(struct rule *r)
{
    char name[300], path[PATH_MAX];
    struct file_map map;
    bool listed = r->pooling_path[0] != '\0';
    if (!listed) snprintf(r->pooling_path, sizeof r->pooling_path, "1_Pooling");
    snprintf(name, sizeof name, "%s/config.json", r->pooling_path);
    int n = snprintf(path, sizeof path, "%s/%s", r->s->path, name);
    if (n < 0 || n >= (int)sizeof path || (!listed && access(path, F_OK) != 0)) return STRETTO_OK;
    TRY(file_map_open(&map, path, r->err));
    r->flags = 1;                       /* what the class does when nothing is said */
    stretto_status s = read_object(r, name, (const char *)map.data, map.size, pooling_member);
    file_map_close(&map);
    if (s == STRETTO_OK) choose(r);
    return s;
}

/* ---- what happens to the text --------------------------------------------------------------- */

static void prompt_name(struct rule *r, struct json *j, const char *key)
{
    if (strcmp(key, "default_prompt_name") == 0) copy_text(j, r->prompt, sizeof r->prompt);
}

static void prompt_text(struct rule *r, struct json *j, const char *key)
{
    if (strcmp(key, "prompts") != 0 || j->kind != JT_OBJECT) return;
    while (json_next(j) == JT_KEY) {
        bool wanted = json_is(j, r->prompt);
        json_next(j);
        if (wanted && j->kind == JT_STRING && j->n)
            refuse(r, "config_sentence_transformers.json writes \"%.*s\" before every text (%.40s, its "
                   "default_prompt_name)", j->n < 60 ? (int)j->n : 60, j->p, r->prompt);
        if (!json_skip(j)) return;
    }
}

static void lower_member(struct rule *r, struct json *j, const char *key)
{
    if (strcmp(key, "do_lower_case") == 0) r->lower = j->kind == JT_TRUE;
}

/* A tokenizer that lowers its text itself has nothing to be told. */
static stretto_status read_lower_case(struct rule *r)
{
    struct source_str text;
    if (!source_file(r->s, "sentence_bert_config.json", &text)) return STRETTO_OK;
    TRY(read_object(r, "sentence_bert_config.json", text.p, text.n, lower_member));
    bool wanted = r->lower;
    r->lower = false;
    if (wanted && source_file(r->s, "tokenizer_config.json", &text))
        TRY(read_object(r, "tokenizer_config.json", text.p, text.n, lower_member));
    if (wanted && !r->lower)
        refuse(r, "sentence_bert_config.json lowers every text (do_lower_case)");
    return STRETTO_OK;
}

static stretto_status read_prompts(struct rule *r)
{
    static const char name[] = "config_sentence_transformers.json";
    struct source_str text;
    if (!source_file(r->s, name, &text)) return STRETTO_OK;
    TRY(read_object(r, name, text.p, text.n, prompt_name));
    return r->prompt[0] ? read_object(r, name, text.p, text.n, prompt_text) : STRETTO_OK;
}

stretto_status hf_pooling_read(const struct source *s, struct hf_pooling *out, struct error *err)
{
    struct rule r = { .s = s, .out = out, .err = err };
    struct source_str text;
    *out = (struct hf_pooling){ .kind = -1, .normalize = true };
    if (source_file(s, "modules.json", &text)) TRY(read_modules(&r, &text));
    if (!out->refusal[0]) TRY(read_pooling(&r));
    TRY(read_prompts(&r));
    return read_lower_case(&r);
}
