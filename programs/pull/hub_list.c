#include "pull/hub_list.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include "models/catalogue.h"
#include "models/hub_name.h"
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

/* What a Hugging Face folder consists of, as far as anything here reads it. */
static bool is_folder_part(const char *name)
{
    static const char *const patterns[] = {
        "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json",
        "tokenizer*", "vocab.*", "merges.txt", "added_tokens.json", "special_tokens_map.json",
        "chat_template*", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (fnmatch(patterns[i], name, FNM_PATHNAME | FNM_PERIOD) == 0) return true;
    return false;
}

static const char *name_at(const void *list, size_t i)
{
    return ((const struct hub_list *)list)->files[i].name;
}

/* The names of the models there are, for a sentence. */
static void name_models(const struct hub_list *l, char *out, size_t cap)
{
    size_t used = 0;
    *out = '\0';
    for (size_t i = 0; i < l->n; i++) {
        if (!gguf_is_model(l->files[i].name)) continue;
        int k = snprintf(out + used, cap - used, " %s", l->files[i].name);
        if (k <= 0 || used + (size_t)k >= cap) {
            out[used] = '\0';
            return;
        }
        used += (size_t)k;
    }
}

static stretto_status choose_gguf(struct hub_list *l, const struct hub_name *n, const char *spec,
                                  bool tensors, struct error *err)
{
    char names[300];
    struct hub_choice c = hub_choose(name_at, l, l->n, n->quant);
    if (c.fitting == 1 && !(tensors && !*n->quant)) {
        for (size_t i = 0; i < l->n; i++)
            l->files[i].chosen = gguf_same_model(l->files[i].name, l->files[c.at].name);
        l->by_default = c.by_default;
        l->models = c.models;
        return STRETTO_OK;
    }
    name_models(l, names, sizeof names);
    if (*n->quant)
        return fail(err, STRETTO_E_FORMAT, "%.120s: %zu of its %zu GGUF files %s of that type: name one of "
                    "them, as in hf:USER/REPO/FILE:%s", spec, c.fitting, c.models, c.fitting == 1 ? "is" : "are",
                    names);
    return fail(err, STRETTO_E_FORMAT, "%.120s holds %zu GGUF files%s: name one of them, as in "
                "hf:USER/REPO/FILE:%s", spec, c.models, tensors ? " and safetensors" : "", names);
}

static stretto_status choose(struct hub_list *l, const char *spec, struct error *err)
{
    struct hub_name n;
    size_t ggufs = 0, tensors = 0;
    bool config = false;
    TRY(hub_name_parse(&n, spec, err));
    for (size_t i = 0; i < l->n; i++) {
        const char *name = l->files[i].name;
        ggufs += gguf_is_model(name);
        tensors += !strchr(name, '/') && name_ends(name, ".safetensors");
        config |= strcmp(name, "config.json") == 0;
    }
    if (ggufs) return choose_gguf(l, &n, spec, tensors != 0, err);
    if (*n.quant)
        return fail(err, STRETTO_E_FORMAT, "%.200s holds no GGUF file: leave ':%s' out", spec, n.quant);
    if (!tensors || !config)
        return fail(err, STRETTO_E_FORMAT,
                    "%.200s holds neither a GGUF file nor a folder with config.json "
                    "and safetensors",
                    spec);
    for (size_t i = 0; i < l->n; i++) l->files[i].chosen = is_folder_part(l->files[i].name);
    l->folder = true;
    return STRETTO_OK;
}

static stretto_status entry(struct hub_list *l, const json_t *e)
{
    const char *type = json_string_value(json_object_get(e, "type"));
    const char *path = json_string_value(json_object_get(e, "path"));
    const json_t *lfs = json_object_get(e, "lfs");
    if (!type || !path || strcmp(type, "file") != 0 || !catalogue_name_ok(path)) return STRETTO_OK;
    const json_t *size = json_object_get(lfs, "size");
    if (!size) size = json_object_get(e, "size");
    json_int_t bytes = json_integer_value(size);
    struct hub_file f = { .bytes = bytes > 0 && bytes < (json_int_t)1 << 50 ? (uint64_t)bytes : 0 };
    const char *oid = json_string_value(json_object_get(lfs, "oid"));
    if (oid && strlen(oid) == 64 && strspn(oid, "0123456789abcdef") == 64)
        memcpy(f.sha256, oid, 65);
    f.name = mem_strdup(path);
    if (!f.name) return STRETTO_E_NOMEM;
    l->files[l->n++] = f;
    return STRETTO_OK;
}

stretto_status hub_list_parse(struct hub_list *l, const char *json, size_t n, const char *spec,
                              struct error *err)
{
    *l = (struct hub_list){ 0 };
    json_t *root;
    stretto_status s = json_tree(&root, json ? json : "", n, JSON_TWICE_LAST, "the answer", NULL);
    size_t count = json_array_size(root);
    if (s != STRETTO_OK || !json_is_array(root))
        s = fail(err, STRETTO_E_FORMAT, "the answer about %.200s is not a list of files", spec);
    else if (count >= HUB_MAX_FILES)
        s = fail(err, STRETTO_E_FORMAT,
                 "%.200s holds too many files to look through: name one of them", spec);
    else if (!(l->files = mem_zalloc(count ? count : 1, sizeof *l->files)))
        s = fail(err, STRETTO_E_NOMEM, "no memory for a list of files");
    for (size_t i = 0; s == STRETTO_OK && i < count; i++) {
        s = entry(l, json_array_get(root, i));
        if (s != STRETTO_OK) fail(err, s, "no memory for a list of files");
    }
    json_decref(root);
    if (s == STRETTO_OK) s = choose(l, spec, err);
    if (s != STRETTO_OK) hub_list_close(l);
    return s;
}

void hub_list_close(struct hub_list *l)
{
    for (size_t i = 0; i < l->n; i++) mem_free(l->files[i].name);
    mem_free(l->files);
    *l = (struct hub_list){ 0 };
}
