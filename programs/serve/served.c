#include "serve/served.h"
#include "base/clock.h"
#include <string.h>

static bool is(const char *name, const char *p, size_t n) { return strlen(name) == n && memcmp(name, p, n) == 0; }

const struct served *served_named(const struct served_list *l, const char *p, size_t n)
{
    for (size_t i = 0; i < l->n; i++) {
        if (is(l->v[i].name, p, n)) return &l->v[i];
        for (size_t k = 0; k < l->v[i].n_aliases; k++)
            if (is(l->v[i].alias[k], p, n)) return &l->v[i];
    }
    return NULL;
}

static int adapter_of(const struct served *m, const char *p, size_t n)
{
    for (size_t i = 0; n && i < m->n_adapters; i++)
        if (is(m->adapter[i].name, p, n)) return (int)i;
    return -1;
}

const struct served *served_find(const struct served_list *l, const char *p, size_t n, int *adapter)
{
    const struct served *m = served_named(l, p, n);
    *adapter = -1;
    if (m) return m;
    for (size_t at = n; at-- > 0;) {
        if (p[at] != ':') continue;
        if (!(m = served_named(l, p, at))) continue;
        *adapter = adapter_of(m, p + at + 1, n - at - 1);
        return *adapter >= 0 || !m->n_adapters || is("latest", p + at + 1, n - at - 1) ? m : NULL;
    }
    for (size_t i = 0; i < l->n; i++)
        if ((*adapter = adapter_of(&l->v[i], p, n)) >= 0) return &l->v[i];
    return l->n == 1 || !n ? &l->v[0] : NULL;
}

void served_weights(struct served_list *l, const struct served *m, float *out)
{
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < m->n_adapters; i++) out[i] = m->adapter[i].weight;
    pthread_mutex_unlock(&l->lock);
}

void served_weigh(struct served_list *l, const struct served *m, const float *weights)
{
    struct served *own = &l->v[m - l->v];
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < own->n_adapters; i++) own->adapter[i].weight = weights[i];
    pthread_mutex_unlock(&l->lock);
}

/* ---- weights that come and go ------------------------------------------------------------------ */

void served_open(struct served_list *l)
{
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->wanted, &clock);
    pthread_condattr_destroy(&clock);
}

static struct served *own(struct served_list *l, const struct served *m) { return &l->v[m - l->v]; }

struct service *served_use(struct served_list *l, const struct served *of, uint32_t *failures)
{
    struct served *m = own(l, of);
    struct service *s = NULL;
    pthread_mutex_lock(&l->lock);
    *failures = m->failures;
    if (m->at == SERVED_HERE) {
        m->uses++;
        m->used = clock_seconds();
        s = m->service;
    } else if (!l->closing) {
        if (!(m->asked > 0)) m->asked = clock_seconds();
        if (m->at == SERVED_AWAY) m->at = SERVED_WANTED;
        pthread_cond_signal(&l->wanted);
    }
    pthread_mutex_unlock(&l->lock);
    return s;
}

void served_let_go(struct served_list *l, const struct served *of)
{
    struct served *m = own(l, of);
    pthread_mutex_lock(&l->lock);
    m->uses--;
    m->used = clock_seconds();
    if (!m->uses) pthread_cond_signal(&l->wanted);
    pthread_mutex_unlock(&l->lock);
}

void served_wait(struct served_list *l, int more)
{
    pthread_mutex_lock(&l->lock);
    l->waiting += (uint32_t)more;
    pthread_mutex_unlock(&l->lock);
}

enum served_at served_look(struct served_list *l, const struct served *of, struct service_state *out,
                           struct service_slot *slots, uint32_t cap)
{
    struct served *m = own(l, of);
    pthread_mutex_lock(&l->lock);
    if (m->service) service_look(m->service, out, slots, cap);
    else {
        *out = m->last;
        out->running = out->parked = out->waiting = 0;
        out->slots = m->slots;
        out->waiting_tokens = 0;
    }
    enum served_at at = m->at;
    pthread_mutex_unlock(&l->lock);
    return at;
}

void served_drain(struct served_list *l)
{
    pthread_mutex_lock(&l->lock);
    l->closing = true;
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].service) service_drain(l->v[i].service);
    pthread_cond_signal(&l->wanted);
    pthread_mutex_unlock(&l->lock);
}
