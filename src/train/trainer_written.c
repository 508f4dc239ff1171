/* Lines whose answers the model wrote itself: before every epoch but the first a share of the lines is gone on with by
 * the model as it is then, and the teacher says what should have followed (on-policy distillation, arXiv 2306.13649,
 * with the forward divergence, which keeps a student from saying only what is likeliest).
 *
 * What was written is kept in the folder, written-N.jsonl for epoch N (from 1), and what the teacher says of it in
 * written-N.cache; a training that goes on reads both. */
#include "base/buffer.h"
#include "base/file.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include "train/trainer_int.h"
#include "train/writing.h"
#include "train/written.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_MOST = 1 << 30 };

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

static struct written_how how_of(const struct trainer *t, uint64_t epoch)
{
    return (struct written_how){ t->o.seed, epoch, t->o.written, t->model->config.vocab };
}

static stretto_status path_of(const struct trainer *t, uint64_t epoch, const char *end, char out[PATH_MAX],
                              struct error *err)
{
    char name[64];
    snprintf(name, sizeof name, "written-%llu.%s", (unsigned long long)epoch + 1, end);
    return trainer_path(t->o.folder, name, out, err);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* The chosen lines as texts to go on with; tokens of all of them are in *room. */
static stretto_status make_texts(const struct trainer *t, uint64_t epoch, struct writing **out, int32_t **room,
                                 size_t *n, struct error *err)
{
    const struct lines *l = &t->lines;
    const struct written_how how = how_of(t, epoch);
    size_t all = 0, at = 0;
    *n = 0;
    for (size_t i = 0; i < l->n; i++) all += l->sample[i].n;
    *out = mem_alloc((l->n + 1) * sizeof **out);
    *room = mem_alloc((all + 1) * sizeof **room);
    if (!*out || !*room) return no_memory(err);
    for (size_t i = 0; i < l->n; i++) {
        const struct sample *s = &l->sample[i];
        uint32_t given = written_given(l, s);
        if (!written_chosen(&how, i)) continue;
        (*out)[(*n)++] = (struct writing){ .prompt = sample_ids(l, s), .n_prompt = given, .most = s->last + 1 - given,
                                           .number = epoch << 32 | i, .token = *room + at };
        at += s->n;
    }
    return STRETTO_OK;
}

static json_t *ids_of(const struct writing *w)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < w->n; i++) json_array_append_new(list, json_integer(w->token[i]));
    return list;
}

static stretto_status put_line(const struct trainer *t, struct buffer *b, const struct writing *w, struct error *err)
{
    struct buffer text = buffer_make(1 << 26);
    json_t *j = json_pack("{s:I,s:o}", "line", (json_int_t)(w->number & UINT32_MAX), "answer", ids_of(w));
    if (j && t->model->tokenizer && tokenizer_decode(t->model->tokenizer, w->token, w->n, true, &text) == STRETTO_OK)
        json_object_set_new(j, "text", json_stringn(text.data ? text.data : "", text.len));   /* UTF-8, or left out */
    char *line = j ? json_dumps(j, JSON_COMPACT) : NULL;
    stretto_status s = line ? buffer_printf(b, "%s\n", line) : STRETTO_E_NOMEM;
    free(line);
    json_decref(j);
    buffer_done(&text);
    return s == STRETTO_OK ? s : no_memory(err);
}

static stretto_status put_file(const struct trainer *t, const char *path, const struct writing *w, size_t n,
                               struct error *err)
{
    struct buffer b = buffer_make(TEXT_MOST);
    stretto_status s = STRETTO_OK;
    uint64_t tokens = 0;
    for (size_t i = 0; i < n && s == STRETTO_OK; i++) {
        s = put_line(t, &b, &w[i], err);
        tokens += w[i].n;
    }
    if (s == STRETTO_OK) s = file_write(path, b.data ? b.data : "", b.len, true, err);
    buffer_done(&b);
    if (s == STRETTO_OK)
        log_say(&t->o.log, LOG_INFO, "the model wrote %llu tokens behind %zu lines itself, which the teacher is asked "
                "about (%s)", (unsigned long long)tokens, n, path);
    return s;
}

static stretto_status write_texts(struct trainer *t, uint64_t epoch, const char *path, struct error *err)
{
    const struct writing_how how = { .seed = t->o.seed, .threads = t->o.threads, .progress = t->o.progress,
                                     .cancel = t->o.cancel };
    const struct model m = trainer_running(t);
    struct writing *w = NULL;
    int32_t *room = NULL;
    size_t n;
    if (t->step != t->epoch_begin)
        return fail(err, STRETTO_E_ARG, "%s is gone, which the training was in the middle of learning from: put it "
                    "back, or begin another training", path);
    TRY(trainer_save(t, err));
    stretto_status s = make_texts(t, epoch, &w, &room, &n, err);
    if (s == STRETTO_OK) s = writing_run(&m, &how, w, n, err);
    if (s == STRETTO_OK) s = put_file(t, path, w, n, err);
    mem_free(w);
    mem_free(room);
    return s;
}

/* ---- reading --------------------------------------------------------------------------------- */

static stretto_status read_texts(struct trainer *t, uint64_t epoch, const char *path, struct error *err)
{
    const struct written_how how = how_of(t, epoch);
    struct file_map m;
    struct error why = { 0 };
    lines_done(&t->written);
    TRY(file_map_open(&m, path, err));
    stretto_status s = written_read(&t->written, &t->lines, &how, (const char *)m.data, m.size, &why);
    file_map_close(&m);
    return s == STRETTO_OK ? s : fail(err, s, "%s: %s", path, why.text);
}

/* All lines, those that were written in place of those they were written from. */
static stretto_status mix(struct trainer *t, uint64_t epoch, struct error *err)
{
    const struct written_how how = how_of(t, epoch);
    size_t k = 0;
    lines_done(&t->mixed);
    for (size_t i = 0; i < t->lines.n; i++) {
        const struct lines *from = written_chosen(&how, i) ? &t->written : &t->lines;
        const struct sample *s = from == &t->written ? &t->written.sample[k++] : &t->lines.sample[i];
        int32_t *id;
        float *weight;
        TRY(lines_add(&t->mixed, s, &id, &weight, err));
        memcpy(id, sample_ids(from, s), s->n * sizeof *id);
        memcpy(weight, sample_weights(from, s), s->n * sizeof *weight);
    }
    for (size_t i = 0; i < t->lines.n_files; i++) TRY(lines_add_file(&t->mixed, t->lines.file[i], err));
    return STRETTO_OK;
}

stretto_status trainer_write_lines(struct trainer *t, uint64_t epoch, struct error *err)
{
    char path[PATH_MAX];
    TRY(path_of(t, epoch, "jsonl", path, err));
    if (access(path, F_OK) != 0) TRY(write_texts(t, epoch, path, err));
    TRY(read_texts(t, epoch, path, err));
    TRY(path_of(t, epoch, "cache", t->written_path, err));
    TRY(trainer_teacher_ask_of(t, &t->taught_written, t->written_path, &t->written, NULL, err));
    return mix(t, epoch, err);
}
