/* A tokenizer of bytes and a template of three markers, made here: token b is byte b, then come the four below. */
#ifndef TRAIN_WORDS_H
#define TRAIN_WORDS_H
#include "base/memory.h"
#include "format/source.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BOS = 256, EOS, USER, BOT, WORDS };

struct words { char folder[64]; struct source *src; struct tokenizer *t; struct chat *chat; };

/* What byte-level BPE calls a byte. */
static inline unsigned letter(unsigned byte)
{
    static const unsigned ranges[][2] = { { 33, 126 }, { 161, 172 }, { 174, 255 } };
    unsigned others = 0;
    for (unsigned b = 0; b <= byte; b++) {
        bool plain = false;
        for (int i = 0; i < 3; i++) plain |= b >= ranges[i][0] && b <= ranges[i][1];
        if (plain && b == byte) return b;
        others += !plain;
    }
    return 256 + others - 1;
}

static inline void put_words(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fputs(text, f) < 0 || fclose(f)) abort();
}

static inline void words_close(struct words *w)
{
    static const char *const names[] = { "tokenizer.json", "tokenizer_config.json" };
    char path[512];
    chat_close(w->chat);
    tokenizer_close(w->t);
    source_close(w->src);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", w->folder, names[i]);
        remove(path);
    }
    rmdir(w->folder);
}

static inline struct words words_open(void)
{
    static const char template[] = "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}<|bot|>"
        "{{ m.content }}</s>\n{% else %}<|user|>{{ m.content }}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|bot|>{% endif %}";
    struct words w = { .folder = "/tmp/stretto-words-XXXXXX" };
    struct error err = { 0 };
    char *text = malloc(1 << 16);
    size_t n = 0;
    if (!text || !mkdtemp(w.folder)) abort();
    n += (size_t)sprintf(text + n, "{\"version\":\"1.0\",\"added_tokens\":[");
    static const char *const added[] = { "<s>", "</s>", "<|user|>", "<|bot|>" };
    for (int i = 0; i < 4; i++)
        n += (size_t)sprintf(text + n, "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                             "\"rstrip\":false,\"normalized\":false,\"special\":true}", i ? "," : "", BOS + i,
                             added[i]);
    n += (size_t)sprintf(text + n, "],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                         "\"use_regex\":false},\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
                         "\"merges\":[],\"vocab\":{");
    for (unsigned b = 0; b < 256; b++)
        n += (size_t)sprintf(text + n, "%s\"\\u%04x\":%u", b ? "," : "", letter(b), b);
    sprintf(text + n, "}}}");
    put_words(w.folder, "tokenizer.json", text);
    put_words(w.folder, "tokenizer_config.json", "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}");
    free(text);
    if (source_open(&w.src, w.folder, &err) != STRETTO_OK || tokenizer_open(&w.t, w.src, &err) != STRETTO_OK
        || chat_open_text(&w.chat, w.t, template, sizeof template - 1, &err) != STRETTO_OK) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return w;
}
#endif
