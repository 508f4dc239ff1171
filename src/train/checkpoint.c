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

enum { PARTS = 2, ARRAYS = PARTS + PARAM_STATES, NAME = GRAPH_NAME + 16, HEADER_MOST = 64 << 20, FOUND_MOST = 64 };

static const struct { const char *word; enum param_part part; } parts[PARTS] = {
    { "master", PARAM_MASTER }, { "average", PARAM_AVERAGE },
};

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

/* What a file has of a parameter: parts as rows of floats, then what the optimizer remembers. */
struct array { const char *word, *type; int part; size_t state; uint64_t n, bytes; };

static size_t arrays_of(const struct checkpoint *c, size_t param, struct array out[ARRAYS])
{
    struct param_state list[PARAM_STATES];
    const struct graph_param *p = &c->graph->params[param];
    uint64_t elements = (uint64_t)p->n_in * p->n_out;
    size_t n = 0;
    if (!c->trained[param]) return 0;
    for (int k = 0; k < (c->average ? PARTS : 1); k++)
        out[n++] = (struct array){ parts[k].word, "F32", k, 0, elements, elements * sizeof(float) };
    for (size_t k = 0, all = c->device->backend->state_list(c->weights, (uint32_t)param, list); k < all; k++)
        out[n++] = (struct array){ list[k].name, list[k].type, -1, k, list[k].n, list[k].bytes };
    return n;
}

static size_t count(const struct checkpoint *c)
{
    struct array list[ARRAYS];
    size_t n = 0;
    for (size_t i = 0; i < c->graph->n_params; i++) n += arrays_of(c, i, list);
    return n;
}

uint64_t checkpoint_room(const struct checkpoint *c)
{
    struct array list[ARRAYS];
    uint64_t most = 1;
    for (size_t i = 0; i < c->graph->n_params; i++)
        for (size_t k = 0, n = arrays_of(c, i, list); k < n; k++)
            if (list[k].bytes > most) most = list[k].bytes;
    return most;
}

uint64_t checkpoint_bytes(const struct checkpoint *c)
{
    struct array list[ARRAYS];
    uint64_t bytes = 0;
    for (size_t i = 0; i < c->graph->n_params; i++)
        for (size_t k = 0, n = arrays_of(c, i, list); k < n; k++) bytes += list[k].bytes + NAME;
    return bytes;
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
static void remove_older(const char *folder, uint64_t keep)
{
    uint64_t found[FOUND_MOST];
    char path[PATH_MAX];
    for (size_t n = find_steps(folder, WHOLE, found), i = CHECKPOINTS_KEPT; i < n; i++)
        if (found[i] != keep && path_of(folder, found[i], path, NULL) == STRETTO_OK) unlink(path);
    for (size_t n = find_steps(folder, BEGUN, found), i = 0; i < n; i++)
        if (path_of(folder, found[i], path, NULL) == STRETTO_OK) unlink(strcat(path, ".part"));
}

void checkpoint_remove_behind(const char *folder, uint64_t step)
{
    uint64_t found[FOUND_MOST];
    char path[PATH_MAX];
    for (size_t n = find_steps(folder, WHOLE, found), i = 0; i < n; i++)
        if (found[i] > step && path_of(folder, found[i], path, NULL) == STRETTO_OK) unlink(path);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void list_tensors(const struct checkpoint *c, struct st_tensor *out, char (*name)[NAME])
{
    struct array list[ARRAYS];
    for (size_t i = 0, at = 0; i < c->graph->n_params; i++) {
        const struct graph_param *p = &c->graph->params[i];
        for (size_t k = 0, n = arrays_of(c, i, list); k < n; k++, at++) {
            bool rows = list[k].part >= 0;
            snprintf(name[at], NAME, "%s/%s", list[k].word, p->name);
            out[at] = (struct st_tensor){ .name = name[at], .bytes = list[k].bytes, .n_dims = rows ? 2 : 1,
                                          .shape = { rows ? p->n_out : list[k].n, p->n_in } };
            snprintf(out[at].dtype, sizeof out[at].dtype, "%s", list[k].type);
        }
    }
}

static stretto_status get(const struct checkpoint *c, uint32_t param, const struct array *x, void *out,
                          struct error *err)
{
    const struct backend *b = c->device->backend;
    return x->part >= 0 ? b->param_read(c->weights, param, parts[x->part].part, out, err)
                        : b->state_read(c->weights, param, x->state, out, err);
}

static stretto_status put_all(const struct checkpoint *c, struct part *file, const struct buffer *header,
                              uint64_t bytes, struct error *err)
{
    struct array list[ARRAYS];
    uint64_t at = header->len;
    void *values = mem_alloc((size_t)checkpoint_room(c));
    stretto_status s = values ? part_begin(file, bytes, err) : no_memory(err);
    if (s == STRETTO_OK) s = part_put(file, 0, header->data, header->len, err);
    for (uint32_t i = 0; i < c->graph->n_params; i++)
        for (size_t k = 0, n = arrays_of(c, i, list); k < n && s == STRETTO_OK; at += list[k++].bytes) {
            s = get(c, i, &list[k], values, err);
            if (s == STRETTO_OK) s = part_put(file, at, values, (size_t)list[k].bytes, err);
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
    size_t n = count(c);
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
    if (s == STRETTO_OK) remove_older(folder, c->keep);
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

struct reading { const struct checkpoint *c; const char *path; uint8_t *seen; void *values; };

static bool fits(const struct array *x, const struct graph_param *p, const struct st_tensor *t, size_t word)
{
    return strlen(x->word) == word && strncmp(x->word, t->name, word) == 0 && strcmp(t->dtype, x->type) == 0
        && t->bytes == x->bytes && (x->part < 0 ? t->n_dims == 1 : t->n_dims == 2 && t->shape[0] == p->n_out);
}

static stretto_status take(void *ctx, const struct st_tensor *t, struct error *err)
{
    struct reading *r = ctx;
    const struct backend *b = r->c->device->backend;
    const char *slash = strchr(t->name, '/');
    struct array list[ARRAYS];
    int32_t at = slash ? graph_param_find(r->c->graph, slash + 1) : GRAPH_NONE;
    size_t n = at == GRAPH_NONE ? 0 : arrays_of(r->c, (size_t)at, list), k = 0;
    while (k < n && !fits(&list[k], &r->c->graph->params[at], t, (size_t)(slash - t->name))) k++;
    if (k == n) return fail(err, STRETTO_E_FORMAT, "%s: %.100s is no tensor of this training", r->path, t->name);
    memcpy(r->values, t->data, t->bytes);
    r->seen[at] |= (uint8_t)(1 << k);
    return list[k].part >= 0 ? b->param_write(r->c->weights, (uint32_t)at, parts[list[k].part].part, r->values, err)
                             : b->state_write(r->c->weights, (uint32_t)at, list[k].state, r->values, err);
}

static stretto_status all_seen(const struct reading *r, struct error *err)
{
    struct array list[ARRAYS];
    for (size_t i = 0; i < r->c->graph->n_params; i++) {
        size_t n = arrays_of(r->c, i, list);
        if (r->seen[i] == (1u << n) - 1) continue;
        return fail(err, STRETTO_E_FORMAT, "%s lacks something of %s", r->path, r->c->graph->params[i].name);
    }
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
    r.values = mem_alloc((size_t)checkpoint_room(c));
    stretto_status s = r.seen && r.values ? safetensors_read(&m, path, take, &r, err) : no_memory(err);
    if (s == STRETTO_OK) s = all_seen(&r, err);
    mem_free(r.seen);
    mem_free(r.values);
    file_map_close(&m);
    return s;
}
