/* Text to token ids and back, without opening the model's weights. */
#include "base/buffer.h"
#include "base/json_tree.h"
#include "base/utf8.h"
#include "format/source.h"
#include "stretto/commands.h"
#include "stretto/fetch.h"
#include "stretto/output.h"
#include "stretto/peer_flags.h"
#include "text/tokenizer.h"
#include <stdio.h>
#include <string.h>

struct tokenize_options { const char *model; bool no_special, add_special, decode, json, yes; };

enum { INPUT_MAX = 1 << 30 };

static stretto_status read_input(struct buffer *b, struct error *err)
{
    for (;;) {
        stretto_status st = buffer_reserve(b, (size_t)1 << 16);
        if (st == STRETTO_E_FULL)
            return fail(err, STRETTO_E_ARG, "standard input holds more than 1 GiB: pass it in parts");
        if (st != STRETTO_OK) return fail(err, st, "no memory for what standard input holds");
        size_t got = fread(b->data + b->len, 1, (size_t)1 << 16, stdin);
        b->len += got;
        b->data[b->len] = '\0';
        if (ferror(stdin)) return fail(err, STRETTO_E_IO, "standard input cannot be read");
        if (!got) return STRETTO_OK;
    }
}

static void print_ids(const struct tokens *ids)
{
    putchar('[');
    for (size_t i = 0; i < ids->n; i++) printf(i ? ", %d" : "%d", ids->id[i]);
    puts("]");
}

/* In quotes; what is no character, or one that commands a terminal, as the bytes it is made of. */
static void print_quoted(const char *p, size_t n)
{
    putchar('"');
    for (size_t k, i = 0; i < n; i += k) {
        int32_t cp;
        k = utf8_decode(p + i, n - i, &cp);
        if (cp == '"' || cp == '\\') printf("\\%c", p[i]);
        else if (cp == '\n') fputs("\\n", stdout);
        else if (cp >= 0x20 && (cp < 0x7F || cp >= 0xA0)) fwrite(p + i, 1, k, stdout);
        else for (size_t b = 0; b < k; b++) printf("\\x%02X", (unsigned char)p[i + b]);
    }
    puts("\"");
}

/* For people: one token a line, its bytes quoted. */
static stretto_status print_pieces(const struct tokenizer *t, const struct tokens *ids)
{
    struct buffer b = buffer_make((size_t)1 << 20);
    stretto_status st = STRETTO_OK;
    for (size_t i = 0; i < ids->n && st == STRETTO_OK; i++) {
        buffer_clear(&b);
        st = tokenizer_piece(t, ids->id[i], false, true, &b);
        if (st != STRETTO_OK) break;
        printf("%8d  ", ids->id[i]);
        print_quoted(b.data ? b.data : "", b.len);
    }
    buffer_done(&b);
    return st;
}

static stretto_status encode(const struct tokenize_options *o, const struct tokenizer *t,
                             const struct buffer *in, struct error *err)
{
    unsigned flags = (o->no_special ? 0u : TOKENIZE_SPECIAL) | (o->add_special ? TOKENIZE_ADD : 0u);
    struct tokens ids = { 0 };
    stretto_status st = tokenizer_encode(t, in->data ? in->data : "", in->len, flags, &ids, err);
    if (st == STRETTO_OK && o->json) print_ids(&ids);
    else if (st == STRETTO_OK) st = print_pieces(t, &ids);
    tokens_done(&ids);
    return st;
}

static stretto_status read_ids(struct tokens *ids, const json_t *list, const struct tokenizer *t,
                               struct error *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || (uint64_t)id >= tokenizer_size(t))
            return fail(err, STRETTO_E_ARG, "item %zu of the array is no token id: ids are 0 to %zu", i,
                        tokenizer_size(t) - 1);
        if (tokens_push(ids, (int32_t)id) != STRETTO_OK)
            return fail(err, STRETTO_E_NOMEM, "no memory for %zu ids", json_array_size(list));
    }
    return STRETTO_OK;
}

static stretto_status decode(const struct tokenize_options *o, const struct tokenizer *t,
                             const struct buffer *in, struct error *err)
{
    json_t *list;
    TRY(json_tree(&list, in->data ? in->data : "", in->len, JSON_TWICE_LAST,
                  "the array of ids that --decode reads", err));
    struct tokens ids = { 0 };
    struct buffer text = buffer_make(INPUT_MAX);
    stretto_status st = json_is_array(list) ? read_ids(&ids, list, t, err)
        : fail(err, STRETTO_E_ARG, "--decode reads a JSON array of ids, but this is another value");
    if (st == STRETTO_OK) {
        st = tokenizer_decode(t, ids.id, ids.n, !o->no_special, &text);
        if (st != STRETTO_OK) fail(err, st, "no memory for the text of %zu tokens", ids.n);
    }
    if (st == STRETTO_OK && text.len) text_print(text.data, text.len);
    buffer_done(&text);
    tokens_done(&ids);
    json_decref(list);
    return st;
}

static int tokenize_run(void *options, size_t n, char **operands)
{
    (void)n; (void)operands;
    const struct tokenize_options *o = options;
    struct error err = { 0 };
    struct source *src = NULL;
    struct tokenizer *t = NULL;
    struct buffer in = buffer_make(INPUT_MAX), path = buffer_make((size_t)1 << 16);
    int code = model_path("tokenize", o->model, o->yes, &path);
    if (code != EXIT_DONE) {
        buffer_done(&path);
        return code;
    }
    stretto_status st = source_open(&src, path.data, &err);
    if (st == STRETTO_OK) st = tokenizer_open(&t, src, &err);
    if (t && tokenizer_warning(t)) fprintf(stderr, "stretto: %s\n", tokenizer_warning(t));
    if (st == STRETTO_OK) st = read_input(&in, &err);
    if (st == STRETTO_OK) st = o->decode ? decode(o, t, &in, &err) : encode(o, t, &in, &err);
    buffer_done(&in);
    buffer_done(&path);
    tokenizer_close(t);
    source_close(src);
    return st == STRETTO_OK ? EXIT_DONE : command_fail("tokenize", st, err.text);
}

#define AT(field) offsetof(struct tokenize_options, field)
static const struct option rows[] = {
    { "-m --model", "MODEL", OPT_TEXT, AT(model), 0, 0,
      "a GGUF file, a folder with tokenizer.json, a name that 'stretto models' lists, or "
      "hf:USER/REPO[:QUANT] [the default model]" },
    { "-y --yes", NULL, OPT_FLAG, AT(yes), 0, 0, "fetch a model that is not here without asking" },
    { "--no-special", NULL, OPT_FLAG, AT(no_special), 0, 0,
      "treat special tokens in the text as plain text; with --decode leave them out" },
    { "--add-special", NULL, OPT_FLAG, AT(add_special), 0, 0,
      "add the tokens that the model wants around a text (BOS, EOS, CLS, SEP)" },
    { "--decode", NULL, OPT_FLAG, AT(decode), 0, 0, "turn a JSON array of ids back into bytes" },
    { "--json", NULL, OPT_FLAG, AT(json), 0, 0, "print one JSON array of ids" },
};
#undef AT
static const struct option_group group = { "Tokenize", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = { { &group, 0 } };

const struct command command_tokenize = {
    .name = "tokenize", .summary = "text to token ids and back", .operands = "",
    .description =
        "Reads one text from standard input, whole and unchanged, and prints its tokens: one per line, or "
        "with --json one array of ids. Any bytes are a text. With --decode it reads an array of ids and "
        "writes the bytes they stand for.\n\n"
        "Only the tokenizer of the model is read: a vocabulary-only GGUF file or a folder that holds "
        "nothing but tokenizer.json is enough.",
    .uses = uses, .n_uses = 1, .options_size = sizeof(struct tokenize_options), .run = tokenize_run,
    .unknown = peer_flag,
};
