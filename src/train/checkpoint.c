#include "train/checkpoint.h"
#include "base/memory.h"
#include "base/part.h"
#include "format/safetensors_write.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PARTS = 3, NAME = GRAPH_NAME + 16, HEADER_MOST = 64 << 20, FOUND_MOST = 64 };

static const struct { const char *word; enum param_part part; } parts[PARTS] = {
    { "master", PARAM_MASTER }, { "m", PARAM_MOMENT1 }, { "v", PARAM_MOMENT2 },
};

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

static size_t count_trained(const struct checkpoint *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->graph->n_params; i++) n += c->trained[i] != 0;
    return n;
}

static size_t elements(const struct graph_param *p) { return (size_t)p->n_in * p->n_out; }

static size_t largest(const struct checkpoint *c)
{
    size_t most = 1;
    for (size_t i = 0; i < c->graph->n_params; i++)
        if (c->trained[i] && elements(&c->graph->params[i]) > most) most = elements(&c->graph->params[i]);
    return most;
}

uint64_t checkpoint_bytes(const struct checkpoint *c)
{
    uint64_t n = 0;
    for (size_t i = 0; i < c->graph->n_params; i++)
        if (c->trained[i]) n += elements(&c->graph->params[i]) * PARTS * sizeof(float) + 3 * NAME;
    return n;
}

#define WHOLE ".safetensors"
#define BEGUN WHOLE ".part"                /* base/part.h */

static stretto_status path_of(const char *folder, uint64_t step, char out[PATH_MAX], struct error *err)
{
    int n = snprintf(out, PATH_MAX, "%s/step-%06llu" WHOLE, folder, (unsigned long long)step);
    return n > 0 && n < PATH_MAX - 8 ? STRETTO_OK : fail(err, STRETTO_E_ARG, "the path of %s is too long", folder);
}

/* ---- which there are ------------------------------------------------------------------------- */

static int descending(const void *p, const void *q)
{
    uint64_t a = *(const uint64_t *)p, b = *(const uint64_t *)q;
    return (a < b) - (a > b);
}

/* The steps that have a file whose name ends so, newest first. */
static size_t find_steps(const char *folder, const char *ending, uint64_t found[FOUND_MOST])
{
    size_t n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && n < FOUND_MOST && (e = readdir(d));) {
        unsigned long long step;
        int end = 0;
        if (sscanf(e->d_name, "step-%llu%n", &step, &end) == 1 && strcmp(e->d_name + end, ending) == 0)
            found[n++] = step;
    }
    if (d) closedir(d);
    qsort(found, n, sizeof *found, descending);
    return n;
}

uint64_t checkpoint_newest(const char *folder)
{
    uint64_t found[FOUND_MOST];
    return find_steps(folder, WHOLE, found) ? found[0] : 0;
}

/* Behind a new one: what is older than the last two, and what somebody was killed over, which nobody goes on with. */
static void remove_older(const char *folder)
{
    uint64_t found[FOUND_MOST];
    char path[PATH_MAX];
    for (size_t n = find_steps(folder, WHOLE, found), i = CHECKPOINTS_KEPT; i < n; i++)
        if (path_of(folder, found[i], path, NULL) == STRETTO_OK) unlink(path);
    for (size_t n = find_steps(folder, BEGUN, found), i = 0; i < n; i++)
        if (path_of(folder, found[i], path, NULL) == STRETTO_OK) unlink(strcat(path, ".part"));
}

/* ---- writing --------------------------------------------------------------------------------- */

static void list_tensors(const struct checkpoint *c, struct st_tensor *list, char (*name)[NAME])
{
    for (size_t i = 0, n = 0; i < c->graph->n_params; i++) {
        const struct graph_param *p = &c->graph->params[i];
        for (int k = 0; k < PARTS && c->trained[i]; k++, n++) {
            snprintf(name[n], NAME, "%s/%s", parts[k].word, p->name);
            list[n] = (struct st_tensor){ .name = name[n], .dtype = "F32", .shape = { p->n_out, p->n_in }, .n_dims = 2,
                                          .bytes = elements(p) * sizeof(float) };
        }
    }
}

static stretto_status put_all(const struct checkpoint *c, struct part *file, const struct buffer *header,
                              uint64_t bytes, struct error *err)
{
    uint64_t at = header->len;
    float *values = mem_alloc(largest(c) * sizeof *values);
    stretto_status s = values ? part_begin(file, bytes, err) : no_memory(err);
    if (s == STRETTO_OK) s = part_put(file, 0, header->data, header->len, err);
    for (uint32_t i = 0; i < c->graph->n_params; i++) {
        size_t n = elements(&c->graph->params[i]) * sizeof *values;
        for (int k = 0; k < PARTS && c->trained[i] && s == STRETTO_OK; k++, at += n) {
            s = c->device->backend->param_read(c->weights, i, parts[k].part, values, err);
            if (s == STRETTO_OK) s = part_put(file, at, values, n, err);
        }
    }
    mem_free(values);
    return s;
}

static stretto_status write_file(const struct checkpoint *c, const char *path, const struct buffer *header,
                                 uint64_t bytes, struct error *err)
{
    struct part file;
    TRY(part_open(&file, path, true, true, err));
    stretto_status s = put_all(c, &file, header, bytes, err);
    if (s == STRETTO_OK) s = part_finish(&file, err);
    part_close(&file);
    return s;
}

stretto_status checkpoint_write(const struct checkpoint *c, const char *folder, uint64_t step, const char *state,
                                struct error *err)
{
    char path[PATH_MAX];
    const char *const about[] = { "format", "stretto-teach", "state", state, NULL };
    struct buffer header = buffer_make(HEADER_MOST);
    size_t n = PARTS * count_trained(c);
    uint64_t bytes = 0;
    struct st_tensor *list = mem_zalloc(n + 1, sizeof *list);
    char (*name)[NAME] = mem_zalloc(n + 1, sizeof *name);
    stretto_status s = list && name ? path_of(folder, step, path, err) : no_memory(err);
    if (s == STRETTO_OK) {
        list_tensors(c, list, name);
        for (size_t i = 0; i < n; i++) bytes += list[i].bytes;
        if (safetensors_header(&header, list, n, about) != STRETTO_OK) s = no_memory(err);
    }
    if (s == STRETTO_OK) s = write_file(c, path, &header, header.len + bytes, err);
    if (s == STRETTO_OK) remove_older(folder);
    buffer_done(&header);
    mem_free(list);
    mem_free(name);
    return s;
}

/* ---- reading --------------------------------------------------------------------------------- */

stretto_status checkpoint_state(const char *folder, uint64_t step, char **state, struct error *err)
{
    char path[PATH_MAX];
    struct file_map m;
    *state = NULL;
    TRY(path_of(folder, step, path, err));
    TRY(file_map_open(&m, path, err));
    stretto_status s = safetensors_about(&m, path, "state", state, err);
    file_map_close(&m);
    return s;
}

struct reading { const struct checkpoint *c; const char *path; uint8_t *seen; float *values; };

static stretto_status take(void *ctx, const struct st_tensor *t, struct error *err)
{
    struct reading *r = ctx;
    const char *slash = strchr(t->name, '/');
    int k = 0;
    while (slash && k < PARTS && (strlen(parts[k].word) != (size_t)(slash - t->name)
                                  || strncmp(parts[k].word, t->name, strlen(parts[k].word)) != 0)) k++;
    int32_t at = slash && k < PARTS ? graph_param_find(r->c->graph, slash + 1) : GRAPH_NONE;
    const struct graph_param *p = at == GRAPH_NONE ? NULL : &r->c->graph->params[at];
    if (!p || !r->c->trained[at] || strcmp(t->dtype, "F32") != 0 || t->n_dims != 2 || t->shape[0] != p->n_out
        || t->shape[1] != p->n_in)
        return fail(err, STRETTO_E_FORMAT, "%s: %.100s is no tensor of this training", r->path, t->name);
    memcpy(r->values, t->data, t->bytes);
    r->seen[at] |= (uint8_t)(1 << k);
    return r->c->device->backend->param_write(r->c->weights, (uint32_t)at, parts[k].part, r->values, err);
}

static stretto_status all_seen(const struct reading *r, struct error *err)
{
    for (size_t i = 0; i < r->c->graph->n_params; i++)
        if (r->c->trained[i] && r->seen[i] != (1 << PARTS) - 1)
            return fail(err, STRETTO_E_FORMAT, "%s lacks %s", r->path, r->c->graph->params[i].name);
    return STRETTO_OK;
}

stretto_status checkpoint_read(const struct checkpoint *c, const char *folder, uint64_t step, struct error *err)
{
    char path[PATH_MAX];
    struct file_map m;
    struct reading r = { .c = c, .path = path };
    TRY(path_of(folder, step, path, err));
    TRY(file_map_open(&m, path, err));
    r.seen = mem_zalloc(c->graph->n_params + 1, 1);
    r.values = mem_alloc(largest(c) * sizeof *r.values);
    stretto_status s = r.seen && r.values ? safetensors_read(&m, path, take, &r, err) : no_memory(err);
    if (s == STRETTO_OK) s = all_seen(&r, err);
    mem_free(r.seen);
    mem_free(r.values);
    file_map_close(&m);
    return s;
}
