#include "pull/hub_list.h"
#include "base/memory.h"
#include "format/catalogue.h"
#include <fnmatch.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool ends(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcasecmp(s + n - k, end) == 0;
}

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

/* Where the number of a split file stands ("m-00002-of-00003.gguf": the first '0'); NULL: not
 * split. */
static const char *split_number(const char *name)
{
    size_t n = strlen(name);
    const char *tail = n > 20 ? name + n - 20 : "";
    if (*tail != '-' || strncmp(tail + 6, "-of-", 4) != 0 || !ends(tail, ".gguf")) return NULL;
    return strspn(tail + 1, "0123456789") == 5 && strspn(tail + 10, "0123456789") == 5 ? tail + 1
                                                                                       : NULL;
}

/* A GGUF file, or the first of the files that make one. */
static bool is_gguf(const char *name)
{
    const char *number = split_number(name);
    return number ? strncmp(number, "00001", 5) == 0 : ends(name, ".gguf");
}

/* The same file, or another part of the same split file. */
static bool same_gguf(const char *a, const char *b)
{
    const char *na = split_number(a), *nb = split_number(b);
    if (!na || !nb) return strcmp(a, b) == 0;
    return na - a == nb - b && memcmp(a, b, (size_t)(na - a)) == 0 && strcmp(na + 5, nb + 5) == 0;
}

static stretto_status choose(struct hub_list *l, const char *spec, struct error *err)
{
    size_t ggufs = 0, tensors = 0, at = 0;
    bool config = false;
    char names[300] = "";
    size_t used = 0;
    for (size_t i = 0; i < l->n; i++) {
        const char *name = l->files[i].name;
        if (is_gguf(name)) {
            if (ggufs++ == 0) at = i;
            int k = snprintf(names + used, sizeof names - used, " %s", name);
            if (k > 0 && used + (size_t)k < sizeof names) used += (size_t)k;
            else names[used] = '\0';
        }
        tensors += !strchr(name, '/') && ends(name, ".safetensors");
        config |= strcmp(name, "config.json") == 0;
    }
    if (ggufs == 1 && !tensors) {
        for (size_t i = 0; i < l->n; i++)
            l->files[i].chosen = same_gguf(l->files[i].name, l->files[at].name);
        return STRETTO_OK;
    }
    if (ggufs)
        return fail(err, STRETTO_E_FORMAT, "%.120s holds %zu GGUF files%s: name one of them, as in "
                    "hf:USER/REPO/FILE:%s", spec, ggufs, tensors ? " and safetensors" : "", names);
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
    json_t *root = json_loadb(json ? json : "", n, 0, NULL);
    size_t count = json_array_size(root);
    stretto_status s = STRETTO_OK;
    if (!json_is_array(root))
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
