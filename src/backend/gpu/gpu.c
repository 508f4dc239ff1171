/* The gpu backend's rows of functions, one for each driver. */
#include "backend/gpu/program.h"
#include "backend/gpu/profile.h"
#include "base/memory.h"
#include "cluster/team.h"
#include <stdio.h>
#include <string.h>

static struct gpu_device *gpu_of(struct device *d) { return (struct gpu_device *)(void *)d; }

/* Lanes of a row pass: enough to hide the card's latency for one row, not so many that what all of them do alike
 * costs more than that; few where lanes are a loop. */
static uint32_t row_lanes(const struct gpu_about *a)
{
    uint32_t lanes = !a->gpu ? 64 : a->arch ? 512 : 256;
    while (lanes > a->group) lanes /= 2;
    return lanes;
}

stretto_status gpu_failed(struct gpu_device *d, stretto_status s, const struct error *err)
{
    if (s != STRETTO_E_DEVICE || atomic_load(&d->device.gone)) return s;
    snprintf(d->lost, sizeof d->lost, "%s", err && err->text[0] ? err->text : "its driver failed");
    device_lose(&d->device, d->lost);
    return s;
}

stretto_status gpu_not_opened(struct gpu_device *d, stretto_status s, const struct error *err)
{
    bool unbuilt = d->unbuilt;
    d->unbuilt = false;
    return unbuilt ? s : gpu_failed(d, s, err);
}

/* ---- the device ----------------------------------------------------------------------------- */

static stretto_status take_card(struct gpu_device *d, uint32_t number, struct error *err)
{
    TRY(team_open(&d->team, err));
    TRY(d->driver->open(&d->card, number, err));
    d->about = *d->driver->about(d->card);
    d->row_lanes = row_lanes(&d->about);
    return STRETTO_OK;
}

static void gpu_close(struct device *on)
{
    struct gpu_device *d = gpu_of(on);
    for (size_t i = 0; i < DT_COUNT; i++) gpu_linear_close(d->linear[i]);
    for (size_t i = 0; i < CACHE_TYPES; i++) {
        gpu_attention_close(d->attention[i]);
        gpu_rows_close(d->rows[i]);
    }
    gpu_head_close(d->head);
    gpu_roof_close(d->roof);
    d->driver->close(d->card);
    if (d->team) team_close(d->team);
    pthread_mutex_destroy(&d->lock);
    mem_free(d);
}

static stretto_status gpu_open(const struct backend *b, const struct gpu_driver *v, struct device **out,
                               const struct device_options *o, struct error *err)
{
    struct gpu_device *d = mem_zalloc(1, sizeof *d);
    if (!d) return fail(err, STRETTO_E_NOMEM, "out of memory");
    d->device.backend = b;
    atomic_store(&d->device.holders, 1);
    d->driver = v;
    d->memory = o->memory;
    pthread_mutex_init(&d->lock, NULL);
    stretto_status s = take_card(d, o->number, err);
    if (s != STRETTO_OK) gpu_close(&d->device);
    else *out = &d->device;
    return s;
}

static uint64_t gpu_memory(const struct device *on)
{
    struct gpu_device *d = (struct gpu_device *)(uintptr_t)on;
    pthread_mutex_lock(&d->lock);
    uint64_t taken = atomic_load(&d->taken), have = d->driver->free_memory(d->card);
    pthread_mutex_unlock(&d->lock);
    uint64_t most = d->memory ? d->memory : d->about.memory;
    uint64_t left = most > taken ? most - taken : 1;
    return have && have < left ? have : left;
}

/* Where the learning begins: on a card the weights are read once for up to sixteen rows and more; the CPU
 * behind a driver of cards has little but arithmetic. */
static void gpu_costs(const struct device *on, const uint32_t *rows, float *ratio, size_t n)
{
    const struct gpu_device *d = (const struct gpu_device *)(const void *)on;
    float each = d->about.gpu ? 0.01F : 0.8F, behind = d->about.gpu ? 0.03F : 0.8F;
    for (size_t i = 0; i < n; i++) {
        float few = rows[i] < 16 ? (float)rows[i] : 16, more = rows[i] < 16 ? 0 : (float)rows[i] - 16;
        ratio[i] = 1 + each * (few - 1) + behind * more;
    }
}

static double gpu_joules(struct device *on)
{
    struct gpu_device *d = gpu_of(on);
    if (!d->driver->joules || !d->about.gpu) return -1;
    pthread_mutex_lock(&d->lock);
    double joules = atomic_load(&on->gone) ? -1 : d->driver->joules(d->card);
    pthread_mutex_unlock(&d->lock);
    return joules;
}

/* ---- pages ---------------------------------------------------------------------------------- */

/* What fails here is said by the next step: the device is lost. */
static void gpu_page_copy_now(struct program *p, uint32_t group, int32_t from, int32_t to)
{
    struct error err = { 0 };
    pthread_mutex_lock(&p->device->lock);
    gpu_failed(p->device, gpu_page_copy(p->device, p->pool[group], p->page_bytes[group], from, to, &err), &err);
    pthread_mutex_unlock(&p->device->lock);
}

static stretto_status gpu_page_read(struct program *p, uint32_t group, int32_t page, void *out, struct error *err)
{
    const struct gpu_driver *v = p->device->driver;
    size_t bytes = (size_t)p->page_bytes[group];
    pthread_mutex_lock(&p->device->lock);
    stretto_status s = device_check(&p->device->device, err);
    if (s == STRETTO_OK) s = v->read(p->device->card, p->pool[group], (uint64_t)page * bytes, out, bytes, err);
    if (s == STRETTO_OK) s = v->finish(p->device->card, err);
    s = gpu_failed(p->device, s, err);
    pthread_mutex_unlock(&p->device->lock);
    return s;
}

static stretto_status gpu_page_write(struct program *p, uint32_t group, int32_t page, const void *in,
                                     struct error *err)
{
    const struct gpu_driver *v = p->device->driver;
    size_t bytes = (size_t)p->page_bytes[group];
    pthread_mutex_lock(&p->device->lock);
    stretto_status s = device_check(&p->device->device, err);
    if (s == STRETTO_OK) s = v->write(p->device->card, p->pool[group], (uint64_t)page * bytes, in, bytes, err);
    if (s == STRETTO_OK) s = v->finish(p->device->card, err);
    s = gpu_failed(p->device, s, err);
    pthread_mutex_unlock(&p->device->lock);
    return s;
}

static stretto_status move(struct program *p, uint32_t group, const int32_t *pages, const int32_t *from,
                           const int32_t *to, uint32_t n, struct error *err)
{
    const struct gpu_driver *v = p->device->driver;
    if (p->n_moves + n > MOST_MOVES) {
        TRY(v->finish(p->device->card, err));
        p->n_moves = 0;
    }
    int32_t *w = p->host_moves + 2 * (size_t)p->n_moves;
    for (uint32_t i = 0; i < n; i++) {
        w[i] = pages[from[i] / PAGE_SLOTS] * PAGE_SLOTS + from[i] % PAGE_SLOTS;
        w[n + i] = pages[to[i] / PAGE_SLOTS] * PAGE_SLOTS + to[i] % PAGE_SLOTS;
    }
    p->n_moves += n;
    TRY(v->write(p->device->card, p->moves, 0, w, 2 * n * sizeof *w, err));
    return gpu_slots_move(p->device, p->device->attention[p->limits.cache], p->pool[group], &p->g->group[group],
                          p->moves, n, err);
}

static void gpu_slots_move_now(struct program *p, uint32_t group, const int32_t *pages, const int32_t *from,
                               const int32_t *to, size_t n)
{
    struct error err = { 0 };
    pthread_mutex_lock(&p->device->lock);
    for (size_t i = 0, k; i < n; i += k) {
        k = n - i < MOST_MOVES ? n - i : MOST_MOVES;
        if (gpu_failed(p->device, move(p, group, pages, from + i, to + i, (uint32_t)k, &err), &err) != STRETTO_OK)
            break;
    }
    pthread_mutex_unlock(&p->device->lock);
}

static void gpu_describe(const struct weights *w, char *text, size_t size)
{
    const struct gpu_device *d = w->device;
    size_t at = strlen(text);
    if (at < size)
        snprintf(text + at, size - at, "device: %s (%s)%s\n", d->about.name, d->about.driver,
                 w->reference ? ", float32 weights" : "");
}

/* ---- one row for each driver ---------------------------------------------------------------- */

static void copy_text(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%.*s", (int)size - 1, from);
}

static stretto_status list_cards(const struct gpu_driver *v, struct device_about *out, size_t cap, size_t *n,
                                 struct error *err)
{
    struct gpu_about card[GPU_CARDS];
    TRY(v->list(card, GPU_CARDS, n, err));
    if (*n > GPU_CARDS) *n = GPU_CARDS;
    for (size_t i = 0; i < *n && i < cap; i++) {
        struct device_about *a = &out[i];
        copy_text(a->name, sizeof a->name, card[i].name);
        copy_text(a->driver, sizeof a->driver, card[i].driver);
        copy_text(a->why, sizeof a->why, card[i].why);
        a->memory = card[i].memory;
        a->units = card[i].units;
        a->card = card[i].gpu;
        a->unusable = card[i].unusable;
    }
    return STRETTO_OK;
}

#define GPU_BACKEND(which)                                                                                  \
    static stretto_status list_##which(struct device_about *out, size_t cap, size_t *n, struct error *err)  \
    {                                                                                                       \
        return list_cards(&driver_##which, out, cap, n, err);                                               \
    }                                                                                                       \
    static stretto_status open_##which(struct device **out, const struct device_options *o, struct error *err) \
    {                                                                                                       \
        return gpu_open(&backend_##which, &driver_##which, out, o, err);                                    \
    }                                                                                                       \
    const struct backend backend_##which = {                                                                \
        .name = #which,                                                                                     \
        .batch_invariant = true,                                                                            \
        .list = list_##which,                                                                               \
        .open = open_##which,                                                                               \
        .close = gpu_close,                                                                                 \
        .memory = gpu_memory,                                                                               \
        .costs = gpu_costs,                                                                                 \
        .upload = gpu_upload,                                                                               \
        .weights_close = gpu_weights_close,                                                                 \
        .weights_bytes = gpu_weights_bytes,                                                                 \
        .describe = gpu_describe,                                                                           \
        .plan = gpu_plan,                                                                                   \
        .beside = gpu_beside,                                                                               \
        .compile = gpu_compile,                                                                             \
        .program_close = gpu_program_close,                                                                 \
        .run = gpu_run,                                                                                     \
        .page_copy = gpu_page_copy_now,                                                                     \
        .page_read = gpu_page_read,                                                                         \
        .page_write = gpu_page_write,                                                                       \
        .slots_move = gpu_slots_move_now,                                                                   \
        .profile = gpu_profile,                                                                             \
        .profile_read = gpu_profile_read,                                                                   \
        .joules = gpu_joules,                                                                               \
        .roof_bytes = gpu_roof_bytes,                                                                       \
        .roof_macs = gpu_roof_macs,                                                                         \
    }

GPU_BACKEND(cuda);
GPU_BACKEND(opencl);
