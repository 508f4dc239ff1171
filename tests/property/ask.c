/* ask: one process that opens many small models and answers questions about them; tests only. A line on standard
 * input, an answer on standard output, again and again:
 *
 *   logits PATH 5,6,7         the float32 path's rows, one for each id (encoders: hidden states): "ok ROWS WIDTH",
 *                             a newline, then ROWS x WIDTH float32
 *   encode FLAGS N PATH       then N bytes of text: "ok COUNT", a newline, then COUNT int32
 *   decode N PATH             then N ids as int32: "ok COUNT", a newline, then COUNT bytes (controls spelled out)
 *   ends PATH                 the ids that end an answer: as encode
 *   convert FOLDER            writes FOLDER.gguf, in float32: "ok 0"
 *
 * or "error STATUS SENTENCE". A path may hold blanks, not newlines. The last tokenizer stays open. */
#include "../rows.h"
#include "format/convert.h"
#include "format/source.h"
#include "text/tokenizer.h"
#include "text/tokenizer_gguf.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct open_tokenizer {
    char path[4096];
    struct source *source;
    struct tokenizer *t;
};

static void answer(size_t n, const void *data, size_t element)
{
    printf("ok %zu\n", n);
    if (n) fwrite(data, element, n, stdout);
}

static void refuse(stretto_status s, const struct error *err) { printf("error %d %s\n", (int)s, err->text); }

static size_t read_ids(const char *text, int32_t **ids)
{
    size_t n = 0;
    *ids = malloc((strlen(text) + 1) * sizeof **ids);
    for (char *end; *ids && *text; text = *end ? end + 1 : end) (*ids)[n++] = (int32_t)strtol(text, &end, 10);
    return n;
}

/* All rows at once, given, as one chain. */
static stretto_status all_rows(struct engine *e, const int32_t *ids, size_t n, float *out, bool encoder,
                               struct error *err)
{
    struct row *r = calloc(n, sizeof *r);
    struct answer *a = calloc(n, sizeof *a);
    if (!r || !a || !out) {
        free(r);
        free(a);
        return fail(err, STRETTO_E_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < n; i++)
        r[i] = (struct row){ 0, ids[i], i ? (int32_t)i - 1 : ROW_COMMITTED, 1, encoder ? WANT_HIDDEN : WANT_LOGITS };
    answers_place(a, r, n, out, encoder ? engine_model(e)->config.width : engine_model(e)->config.vocab);
    stretto_status s = engine_step(e, r, n, a, err);
    free(r);
    free(a);
    return s;
}

static void logits(const char *path, const char *text)
{
    struct error err = { 0 };
    struct model *m = NULL;
    struct engine *e = NULL;
    struct model_open_options o = { .threads = 1, .reference = true };
    struct engine_options eo = { .threads = 1, .sequences = 1, .cache = CACHE_F32, .strict = true };
    int32_t *ids;
    size_t n = read_ids(text, &ids), width = 0;
    float *out = NULL;
    stretto_status s = model_open(&m, path, &o, &err);
    eo.context = eo.max_rows = (uint32_t)n;
    if (s == STRETTO_OK) s = engine_open(&e, m, &eo, &err);
    if (s == STRETTO_OK) s = engine_seq_open_all(e, &err);
    if (s == STRETTO_OK) {
        bool encoder = m->graph.logits == GRAPH_NONE;
        width = encoder ? m->config.width : m->config.vocab;
        out = malloc(n * width * sizeof *out);
        s = all_rows(e, ids, n, out, encoder, &err);
    }
    if (s == STRETTO_OK) {
        printf("ok %zu %zu\n", n, width);
        fwrite(out, sizeof *out, n * width, stdout);
    } else
        refuse(s, &err);
    free(out);
    free(ids);
    engine_close(e);
    model_close(m);
}

static stretto_status open_for(struct open_tokenizer *o, const char *path, struct error *err)
{
    if (o->t && strcmp(o->path, path) == 0) return STRETTO_OK;
    tokenizer_close(o->t);
    source_close(o->source);
    o->t = NULL;
    o->source = NULL;
    snprintf(o->path, sizeof o->path, "%s", path);
    TRY(source_open(&o->source, path, err));
    return tokenizer_open(&o->t, o->source, err);
}

static void encode(struct open_tokenizer *o, const char *path, unsigned flags, size_t n)
{
    struct error err = { 0 };
    struct tokens ids = { 0 };
    char *text = malloc(n + 1);
    if (!text || fread(text, 1, n, stdin) != n) exit(1);
    stretto_status s = open_for(o, path, &err);
    if (s == STRETTO_OK) s = tokenizer_encode(o->t, text, n, flags, &ids, &err);
    if (s == STRETTO_OK) answer(ids.n, ids.id, sizeof *ids.id);
    else refuse(s, &err);
    tokens_done(&ids);
    free(text);
}

static void decode(struct open_tokenizer *o, const char *path, size_t n)
{
    struct error err = { 0 };
    struct buffer text = buffer_make((size_t)1 << 24);
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    if (!ids || fread(ids, sizeof *ids, n, stdin) != n) exit(1);
    stretto_status s = open_for(o, path, &err);
    if (s == STRETTO_OK) s = tokenizer_decode(o->t, ids, n, true, &text);
    if (s == STRETTO_OK) answer(text.len, text.data, 1);
    else refuse(s, &err);
    buffer_done(&text);
    free(ids);
}

static void ends(struct open_tokenizer *o, const char *path)
{
    struct error err = { 0 };
    struct tokens ids = { 0 };
    stretto_status s = open_for(o, path, &err);
    for (int32_t i = 0; s == STRETTO_OK && i < (int32_t)tokenizer_size(o->t); i++)
        if (tokenizer_is_eog(o->t, i)) s = tokens_push(&ids, i);
    if (s == STRETTO_OK) answer(ids.n, ids.id, sizeof *ids.id);
    else refuse(s, &err);
    tokens_done(&ids);
}

static void write_gguf(const char *folder)
{
    struct error err = { 0 };
    struct convert_options o = { .type = DT_F32, .force = true, .tokenizer = tokenizer_to_gguf };
    char out[4200];
    snprintf(out, sizeof out, "%s.gguf", folder);
    stretto_status s = convert(folder, out, &o, &err);
    if (s == STRETTO_OK) answer(0, NULL, 1);
    else refuse(s, &err);
}

int main(void)
{
    static char line[65536], path[4096];
    struct open_tokenizer o = { 0 };
    unsigned flags;
    size_t n;
    while (fgets(line, sizeof line, stdin)) {
        char *last = strrchr(line, ' ');
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "encode %u %zu %4095[^\n]", &flags, &n, path) == 3) encode(&o, path, flags, n);
        else if (sscanf(line, "decode %zu %4095[^\n]", &n, path) == 2) decode(&o, path, n);
        else if (sscanf(line, "ends %4095[^\n]", path) == 1) ends(&o, path);
        else if (sscanf(line, "convert %4095[^\n]", path) == 1) write_gguf(path);
        else if (strncmp(line, "logits ", 7) == 0 && last > line + 7) {
            *last = '\0';
            logits(line + 7, last + 1);
        } else
            return 2;
        fflush(stdout);
    }
    tokenizer_close(o.t);
    source_close(o.source);
    return 0;
}
