/* Two sessions of one engine from two threads at once: a call that comes while the other thread is in one
 * gets E_ARG and a sentence, nothing is lost, and both texts are in the end what each writes alone.
 *
 * usage: two_threads MODEL */
#include "stretto/stretto.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 100 };
static const int32_t prompt[] = { 1, 5, 9, 3, 7, 2, 8 };

static void need(int ok, const char *what, const char *words)
{
    if (ok) return;
    printf("FAIL %s %s\n", what, words);
    exit(1);
}

struct text { stretto_session *s; int32_t id[TOKENS]; size_t refused; };

static atomic_int inside;            /* a thread is in a call and stays there until the other was refused */

/* Tokens one by one, again and again until the call is let in. */
static void *write_text(void *arg)
{
    struct text *x = arg;
    for (size_t i = 0; i < TOKENS;) {
        stretto_status s = stretto_session_next(x->s, &x->id[i]);
        if (s == STRETTO_OK) {
            i++;
            continue;
        }
        need(s == STRETTO_E_ARG && strstr(stretto_session_error(x->s), "another thread"), "next",
             stretto_session_error(x->s));
        x->refused++;
    }
    return NULL;
}

static stretto_session *other;       /* free to use, and what it writes first */
static int32_t first;

/* A watcher holds its thread in a call, where the other thread meets it. */
static int hold(void *user, size_t done, size_t total)
{
    (void)done;
    (void)total;
    int32_t id;
    stretto_session *mine = user;
    atomic_store(&inside, 1);
    while (atomic_load(&inside)) continue;
    need(stretto_session_next(mine, &id) != STRETTO_OK, "a session in the middle of a sync", "");
    stretto_sampling warm = STRETTO_SAMPLING_INIT;
    warm.temperature = 1;
    need(stretto_session_sampling(mine, &warm) == STRETTO_E_ARG, "sampling in the middle of a sync", "");
    need(stretto_session_sync(other, prompt, 7, NULL) == STRETTO_OK &&
             stretto_session_next(other, &id) == STRETTO_OK && id == first,
         "another session in the watcher", stretto_session_error(other));
    return 0;
}

static void *sync_held(void *arg)
{
    stretto_session *s = arg;
    stretto_session_watch(s, hold, s);
    need(stretto_session_sync(s, prompt, 7, NULL) == STRETTO_OK && !*stretto_session_error(s), "sync",
         stretto_session_error(s));
    stretto_session_watch(s, NULL, NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    char err[600] = "";
    stretto_model *m;
    stretto_engine *e;
    stretto_engine_options o = STRETTO_ENGINE_OPTIONS_INIT;
    struct text alone = { 0 }, x[2] = { { 0 } };
    pthread_t thread[2];
    need(argc == 2 && stretto_model_open(&m, argv[1], NULL, err, sizeof err) == STRETTO_OK, "open", err);
    o.sessions = 3;
    o.threads = 2;
    o.context = 128;
    need(stretto_engine_open(&e, m, &o, err, sizeof err) == STRETTO_OK, "engine", err);
    need(stretto_session_open(&alone.s, e, err, sizeof err) == STRETTO_OK, "session", err);
    for (int i = 0; i < 2; i++) need(stretto_session_open(&x[i].s, e, err, sizeof err) == STRETTO_OK, "session", err);
    need(stretto_session_sync(alone.s, prompt, 7, NULL) == STRETTO_OK, "sync", "");
    write_text(&alone);
    need(!alone.refused, "alone", "");
    other = alone.s;
    first = alone.id[0];

    /* One thread for certain in a call while the other comes. */
    need(pthread_create(&thread[0], NULL, sync_held, x[0].s) == 0, "thread", "");
    while (!atomic_load(&inside)) continue;
    need(stretto_session_sync(x[1].s, prompt, 7, NULL) == STRETTO_E_ARG &&
             strstr(stretto_session_error(x[1].s), "another thread"), "held", stretto_session_error(x[1].s));
    need(stretto_session_length(x[1].s) == 0, "length", "");
    need(stretto_engine_learned_save(e, "learned-in-the-middle", err, sizeof err) == STRETTO_E_ARG &&
             strstr(err, "another thread"), "saving what a call teaches", err);
    atomic_store(&inside, 0);
    pthread_join(thread[0], NULL);
    need(stretto_session_sync(x[1].s, prompt, 7, NULL) == STRETTO_OK, "sync", stretto_session_error(x[1].s));

    for (int i = 0; i < 2; i++) need(pthread_create(&thread[i], NULL, write_text, &x[i]) == 0, "thread", "");
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < 2; i++) {
        need(!memcmp(x[i].id, alone.id, sizeof alone.id), "another text", "");
        stretto_session_close(x[i].s);
    }
    printf("refused %zu and %zu times\n", x[0].refused, x[1].refused);
    stretto_session_close(alone.s);
    stretto_engine_close(e);
    stretto_model_close(m);
    return 0;
}
