#include "serve/prepare.h"
#include "base/memory.h"
#include "serve/route.h"
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>

struct queue { struct exchange *first, *last; };

struct preparer {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t given;
    struct queue waiting, ready;
    char last[sizeof ((struct exchange *)0)->client];  /* whose request was read last                     */
    bool stop;
    void (*wake)(void *ud);
    void *ud;
};

static void push(struct queue *q, struct exchange *x)
{
    x->prepared_next = NULL;
    if (q->last) q->last->prepared_next = x;
    else q->first = x;
    q->last = x;
}

static struct exchange *pop(struct queue *q)
{
    struct exchange *x = q->first;
    if (x && !(q->first = x->prepared_next)) q->last = NULL;
    return x;
}

/* Clients take turns, so nobody's requests wait for all of one who sends many. */
static struct exchange *pop_fair(struct preparer *p)
{
    struct exchange *before = NULL, *x = p->waiting.first;
    while (x && strcmp(x->client, p->last) == 0) {
        before = x;
        x = x->prepared_next;
    }
    if (x && before) {
        if (!(before->prepared_next = x->prepared_next)) p->waiting.last = before;
    } else x = pop(&p->waiting);
    if (x) memcpy(p->last, x->client, sizeof p->last);
    return x;
}

static struct exchange *next(struct preparer *p)
{
    struct exchange *x = NULL;
    pthread_mutex_lock(&p->lock);
    while (!p->stop && !p->waiting.first) pthread_cond_wait(&p->given, &p->lock);
    if (!p->stop) x = pop_fair(p);
    pthread_mutex_unlock(&p->lock);
    return x;
}

static void *run(void *arg)
{
    struct preparer *p = arg;
    pthread_setname_np(pthread_self(), "requests");
    for (struct exchange *x; (x = next(p));) {
        if (atomic_load(&x->hung_up) & (EPOLLHUP | EPOLLERR)) {
            x->gone = true;
            exchange_refuse(x, TROUBLE_SLOW, NULL, "the client closed the connection");
        } else
            x->route->handle(x);
        pthread_mutex_lock(&p->lock);
        push(&p->ready, x);
        pthread_mutex_unlock(&p->lock);
        p->wake(p->ud);
    }
    return NULL;
}

stretto_status prepare_open(struct preparer **out, void (*wake)(void *ud), void *ud, struct error *err)
{
    struct preparer *p = mem_zalloc(1, sizeof *p);
    *out = NULL;
    if (!p) return fail(err, STRETTO_E_NOMEM, "no memory for a thread");
    p->wake = wake;
    p->ud = ud;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->given, NULL);
    if (pthread_create(&p->thread, NULL, run, p) != 0) {
        mem_free(p);
        return fail(err, STRETTO_E_NOMEM, "the kernel gives no thread for long requests");
    }
    *out = p;
    return STRETTO_OK;
}

void prepare_give(struct preparer *p, struct exchange *x)
{
    pthread_mutex_lock(&p->lock);
    push(&p->waiting, x);
    pthread_cond_signal(&p->given);
    pthread_mutex_unlock(&p->lock);
}

struct exchange *prepare_take(struct preparer *p)
{
    pthread_mutex_lock(&p->lock);
    struct exchange *x = pop(&p->ready);
    pthread_mutex_unlock(&p->lock);
    return x;
}

void prepare_close(struct preparer *p)
{
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_signal(&p->given);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->given);
    mem_free(p);
}
