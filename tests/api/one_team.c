/* However many models, engines and draft models a process has, it has one team of threads; one more for
 * another ceiling of the kernels; none when all are closed. Sessions used from two threads at once write what
 * each writes alone, and a child of fork, which has no threads of its parent, opens what it needs.
 *
 * usage: one_team MODEL */
#include "stretto/stretto.h"
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TEAM = 3, TOKENS = 40, PAIR = 2 };

static const int32_t prompt[] = { 1, 5, 9, 3, 7, 2, 8 };
enum { N_PROMPT = sizeof prompt / sizeof *prompt };

static void need(int ok, const char *what, const char *words)
{
    if (ok) return;
    printf("FAIL %s %s\n", what, words);
    exit(1);
}

static int threads_here(void)
{
    DIR *dir = opendir("/proc/self/task");
    int n = 0;
    need(dir != NULL, "/proc/self/task", "");
    for (struct dirent *x; (x = readdir(dir));) n += x->d_name[0] != '.';
    closedir(dir);
    return n;
}

static stretto_model *model_of(const char *path, const char *cpu)
{
    stretto_model_options o = STRETTO_MODEL_OPTIONS_INIT;
    stretto_model *m;
    char err[600] = "";
    o.threads = TEAM;
    o.cpu = cpu;
    need(stretto_model_open(&m, path, &o, err, sizeof err) == STRETTO_OK, "open", err);
    return m;
}

static stretto_session *session_of(const stretto_model *m, const stretto_model *draft)
{
    stretto_engine_options o = STRETTO_ENGINE_OPTIONS_INIT;
    stretto_decoding d = STRETTO_DECODING_INIT;
    stretto_session *s;
    char err[600] = "";
    o.threads = TEAM;
    o.context = 128;
    need(stretto_session_open_model(&s, m, &o, err, sizeof err) == STRETTO_OK, "session", err);
    d.words = draft ? "draft" : "auto";
    d.draft = draft;
    for (int i = 0; i < 2; i++)      /* again: the draft model's engine has one place for it */
        need(stretto_session_decoding(s, &d) == STRETTO_OK, "decoding", stretto_session_error(s));
    return s;
}

struct writing { stretto_session *s; int32_t tokens[200]; size_t n; };

static void *write_text(void *arg)
{
    struct writing *w = arg;
    stretto_generate_options g = STRETTO_GENERATE_OPTIONS_INIT;
    g.max_tokens = TOKENS;
    g.ignore_end = 1;
    need(stretto_session_sync(w->s, prompt, N_PROMPT, NULL) == STRETTO_OK &&
         stretto_session_generate(w->s, &g, NULL) == STRETTO_OK, "writing", stretto_session_error(w->s));
    w->n = stretto_session_length(w->s);
    need(w->n == N_PROMPT + TOKENS, "the number of tokens", "");
    memcpy(w->tokens, stretto_session_tokens(w->s), w->n * sizeof *w->tokens);
    return NULL;
}

static void child_opens_its_own(const char *path, const struct writing *want)
{
#if defined(__SANITIZE_THREAD__)
    (void)path;
    (void)want;
    printf("skip: ThreadSanitizer has no threads in a child of fork\n");
    return;
#endif
    pid_t child = fork();
    if (child == 0) {
        struct writing w = { .s = NULL };
        stretto_model *m = model_of(path, NULL);
        w.s = session_of(m, NULL);
        write_text(&w);
        stretto_session_close(w.s);
        stretto_model_close(m);
        _exit(memcmp(w.tokens, want->tokens, w.n * sizeof *w.tokens) != 0);
    }
    int status = 1;
    need(child > 0 && waitpid(child, &status, 0) == child && status == 0, "a child of fork", "");
}

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    int before = threads_here();
    stretto_model *m = model_of(argv[1], NULL), *draft = model_of(argv[1], NULL);
    static struct writing w[PAIR], alone;
    w[0].s = session_of(m, draft);
    w[1].s = session_of(draft, NULL);
    int more = threads_here() - before;         /* a sanitizer may have begun one of its own by now */
    need(more == TEAM - 1 || more == TEAM, "two models, a draft model, two engines:", "not one team");

    alone.s = w[1].s;
    write_text(&alone);
    pthread_t thread[PAIR];
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < PAIR; i++) need(!pthread_create(&thread[i], NULL, write_text, &w[i]), "thread", "");
        for (int i = 0; i < PAIR; i++) pthread_join(thread[i], NULL);
        for (int i = 0; i < PAIR; i++)
            need(memcmp(w[i].tokens, alone.tokens, sizeof alone.tokens) == 0, "another text", "");
    }
    child_opens_its_own(argv[1], &alone);

    stretto_model *other = model_of(argv[1], "ref");
    need(threads_here() == before + more + TEAM - 1, "another ceiling:", "not a second team");
    stretto_model_close(other);
    for (int i = 0; i < PAIR; i++) stretto_session_close(w[i].s);
    stretto_model_close(draft);
    stretto_model_close(m);
    before += more - (TEAM - 1);
    for (int i = 0; i < 1000 && threads_here() > before; i++) usleep(10000);  /* joined, and leaving /proc */
    need(threads_here() == before, "threads are left", "");
    printf("one team for two models, a draft model and two engines\n");
    return 0;
}
