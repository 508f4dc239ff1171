/* A Hugging Face folder: config.json, safetensors, tokenizer files. */
#include "base/memory.h"
#include "format/source_int.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <limits.h>

/* The small files that other rooms may ask for; mapped when they are there. */
static const char *const folder_files[] = {
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json",
    "vocab.txt", "vocab.json", "merges.txt", "modules.json", "sentence_bert_config.json",
    "config_sentence_transformers.json", "1_Pooling/config.json",
};
enum { N_FOLDER_FILES = sizeof folder_files / sizeof *folder_files };

static stretto_status map_folder_files(struct source *s, struct error *err)
{
    s->files = mem_zalloc(N_FOLDER_FILES, sizeof *s->files);
    if (!s->files) return source_no_memory(s, err);
    for (size_t i = 0; i < N_FOLDER_FILES; i++) {
        char path[PATH_MAX];
        int n = snprintf(path, sizeof path, "%s/%s", s->path, folder_files[i]);
        if (n < 0 || (size_t)n >= sizeof path)
            return fail(err, STRETTO_E_ARG, "the path of %s is too long", s->path);
        if (access(path, F_OK) != 0) continue;
        struct folder_file *f = &s->files[s->n_files];
        f->name = folder_files[i];
        TRY(file_map_open(&f->map, path, err));
        s->n_files++;
    }
    return STRETTO_OK;
}

stretto_status hf_read(struct source *s, struct error *err)
{
    s->format = "tokenizer.json";
    TRY(map_folder_files(s, err));
    TRY(source_index_keys(s, err));
    struct source_str text;
    if (!source_file(s, "config.json", &text) && !source_file(s, "tokenizer.json", &text))
        return fail(err, STRETTO_E_ARG, "%s is a folder without config.json or tokenizer.json; name a "
                    ".gguf file or a Hugging Face model folder", s->path);
    return STRETTO_OK;
}
