/* A step that is cancelled ends with the next piece of work, leaves every timeline as it was, and what is
 * computed afterwards has the bits of a run that nobody disturbed. Latency is counted in pieces of work
 * after the request: nothing here reads a clock to judge.
 *
 * usage: cancel_check MODEL... */
#include "../rows.h"
#include "eval/eval.h"
#include "stretto/experimental.h"
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum { PREFIX = 40, ROWS = 150, MOMENTS = 24 };

static int failures;
static const char *where;

static void check(bool good, const char *what, size_t arg)
{
    if (good) return;
    printf("FAIL %s: %s (%zu)\n", where, what, arg);
    failures++;
}

static void need(stretto_status s, const char *what, const char *words)
{
    if (s == STRETTO_OK) return;
    fprintf(stderr, "%s: %s: %s\n", where, what, words);
    exit(1);
}

static int32_t token(const struct model *m, size_t i)
{
    return (int32_t)((i * 7919 + 13) % (m->config.vocab - 1));
}

/* ---- steps ------------------------------------------------------------------------------------ */

struct request { atomic_size_t asked; size_t at; };   /* says true from the at-th question on */

static bool asked(void *ud)
{
    struct request *r = ud;
    size_t n = atomic_fetch_add(&r->asked, 1) + 1;
    return r->at && n >= r->at;
}

static stretto_status step(struct engine *e, float *logits, struct request *r, struct error *err)
{
    const struct model *m = engine_model(e);
    static struct row rows[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        rows[i] = (struct row){ 0, token(m, PREFIX + i), i ? (int32_t)i - 1 : ROW_COMMITTED, i % 3 != 0,
                                m->graph.logits == GRAPH_NONE ? WANT_HIDDEN : WANT_LOGITS };
    static struct answer a[ROWS];
    answers_place(a, rows, ROWS, logits, m->graph.logits == GRAPH_NONE ? m->config.width : m->config.vocab);
    engine_cancel(e, r ? asked : NULL, r);
    return engine_step(e, rows, ROWS, a, err);
}

static void prefix(struct engine *e)
{
    int32_t ids[PREFIX];
    struct error err = { 0 };
    for (size_t i = 0; i < PREFIX; i++) ids[i] = token(engine_model(e), i);
    engine_cancel(e, NULL, NULL);
    engine_rewind(e, 0, 0);
    need(engine_feed(e, 0, ids, PREFIX, WANT_NOTHING, NULL, &err), "prefix", err.text);
}

static void check_steps(const struct model *m, unsigned threads)
{
    struct engine *e;
    struct error err = { 0 };
    struct engine_options o = { .threads = threads, .context = 256, .max_rows = 256, .sequences = 1 };
    need(engine_open(&e, m, &o, &err), "open", err.text);
    need(engine_seq_open_all(e, &err), "sequences", err.text);
    size_t width = m->graph.logits == GRAPH_NONE ? m->config.width : m->config.vocab, n = ROWS * width;
    float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
    if (!want || !got) exit(1);
    struct request count = { 0 };
    prefix(e);
    need(step(e, want, NULL, &err), "step", err.text);
    need(step(e, got, &count, &err), "watched step", err.text);
    check(memcmp(want, got, n * sizeof *want) == 0, "watching changes bits", 0);
    size_t pieces = count.asked;
    /* Blocks of 128 rows of every linear layer, tiles of every attention: several looks in a layer. */
    check(pieces > 8 * (size_t)m->config.layers, "too few looks in a step", pieces);
    for (size_t k = 0; k < MOMENTS; k++) {
        struct request r = { .at = 1 + k * (pieces - 1) / MOMENTS };
        error_clear(&err);
        memset(got, 0, n * sizeof *got);
        stretto_status status = step(e, got, &r, &err);
        /* A thread that got no core asks nothing, so there may be fewer questions than in the step that was counted. */
        bool said = r.asked >= r.at;
        check(said || k >= MOMENTS / 2, "the moment never came", r.at);
        check(said ? status == STRETTO_E_CANCEL && err.text[0] : status == STRETTO_OK, "no E_CANCEL", r.at);
        check(r.asked <= r.at + threads, "work goes on after the request", r.asked - r.at);
        /* The head is the last phase: who stops in the first half of a step never comes to it. */
        for (size_t i = 0; i < n && r.at < pieces / 2; i++)
            if (got[i] < 0 || got[i] > 0) { check(false, "answers after the request", r.at); break; }
        check(engine_length(e, 0) == PREFIX, "the timeline changed", engine_length(e, 0));
        check(step(e, got, NULL, &err) == STRETTO_OK && memcmp(want, got, n * sizeof *want) == 0,
              "other bits after a cancelled step", r.at);
    }
    engine_cancel(e, NULL, NULL);
    free(want);
    free(got);
    engine_close(e);
}

static void check_eval(const struct model *m)
{
    struct engine *e;
    struct error err = { 0 };
    struct engine_options o = { .threads = 2, .context = 128, .sequences = 1 };
    int32_t ids[512];
    volatile int flag = 0;
    struct eval_set t;
    struct eval_ppl first, again;
    for (size_t i = 0; i < 512; i++) ids[i] = token(m, i);
    need(engine_open(&e, m, &o, &err), "open", err.text);
    need(eval_set_text(&t, "ids", ids, 512, 128, 0, -1, &err), "windows", err.text);
    need(eval_ppl(e, &t, &flag, NULL, &first, &err), "ppl", err.text);
    flag = 1;
    check(eval_ppl(e, &t, &flag, NULL, &again, &err) == STRETTO_E_CANCEL && strstr(err.text, "0 of 4"),
          "ppl is not interrupted", 0);
    flag = 0;
    error_clear(&err);
    need(eval_ppl(e, &t, &flag, NULL, &again, &err), "ppl", err.text);
    check(again.nll <= first.nll && again.nll >= first.nll, "another perplexity", 0);
    eval_set_done(&t);
    engine_close(e);
}

/* ---- sessions --------------------------------------------------------------------------------- */

static volatile int alarm_flag;
static void on_alarm(int sig) { (void)sig; alarm_flag = 1; }

/* Reads the prompt while an alarm cancels again and again, each time a little later. */
static void disturbed_sync(stretto_session *s, const int32_t *ids, size_t n)
{
    stretto_status status;
    long wait = 50;
    do {
        struct itimerval soon = { .it_value = { 0, wait } };
        alarm_flag = 0;
        setitimer(ITIMER_REAL, &soon, NULL);
        status = stretto_session_sync(s, ids, n, NULL);
        check(status == STRETTO_OK || (status == STRETTO_E_CANCEL && stretto_session_length(s) < n),
              "sync", stretto_session_length(s));
        wait = wait * 3 / 2;
    } while (status == STRETTO_E_CANCEL && wait < 900000);
    struct itimerval none = { .it_value = { 0, 0 } };
    setitimer(ITIMER_REAL, &none, NULL);
    alarm_flag = 0;
    check(status == STRETTO_OK, "the prompt was never read", 0);
}

struct stop { volatile int flag; size_t pieces, at; };

static int on_text(void *user, const char *piece, size_t n)
{
    struct stop *x = user;
    (void)piece; (void)n;
    if (++x->pieces % x->at == 0) x->flag = 1;
    return 0;
}

/* Ids of an answer, in one go or with a cancelled step after every few tokens. */
static size_t answer(stretto_session *s, const int32_t *ids, size_t n, size_t most, size_t every,
                     int32_t *out)
{
    struct stop x = { .at = every ? every : SIZE_MAX };
    stretto_generate_options g = STRETTO_GENERATE_OPTIONS_INIT;
    stretto_generated r = { .size = sizeof r };
    g.text = on_text;
    g.user = &x;
    g.ignore_end = 1;
    stretto_session_cancel(s, every ? &alarm_flag : NULL);
    if (every) disturbed_sync(s, ids, n);
    else need(stretto_session_sync(s, ids, n, NULL), "sync", stretto_session_error(s));
    stretto_session_cancel(s, &x.flag);
    do {
        size_t had = stretto_session_length(s);
        g.max_tokens = (int64_t)(n + most - had);
        x.flag = 0;
        need(stretto_session_generate(s, &g, &r), "generate", stretto_session_error(s));
        check(r.finish == (x.flag ? STRETTO_FINISH_CANCEL : STRETTO_FINISH_LENGTH) || !g.max_tokens
              || stretto_session_length(s) == n + most, "finish", r.finish);
        if (r.finish == STRETTO_FINISH_CANCEL && stretto_session_length(s) == had && !x.flag) break;
    } while (stretto_session_length(s) < n + most);
    memcpy(out, stretto_session_tokens(s) + n, most * sizeof *out);
    stretto_session_cancel(s, NULL);
    return most;
}

static void check_sessions(stretto_model *m)
{
    static const char *const ways[] = { "plain", "jacobi", "lookup+suffix", "recycle", "lookahead", "auto" };
    enum { PROMPT = 120, ANSWER = 60 };
    int32_t ids[PROMPT], want[ANSWER], got[ANSWER];
    char err[600];
    for (size_t i = 0; i < PROMPT; i++) ids[i] = token(stretto_model_inside(m), i % 17);
    for (int sampled = 0; sampled < 2; sampled++)
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            stretto_session *s;
            stretto_engine_options o = STRETTO_ENGINE_OPTIONS_INIT;
            stretto_decoding d = STRETTO_DECODING_INIT;
            stretto_sampling how = STRETTO_SAMPLING_INIT;
            o.threads = 2;
            o.max_rows = 64;
            d.words = ways[w];
            how.temperature = sampled ? 0.8f : 0;
            how.seed = 7;
            need(stretto_session_open_model(&s, m, &o, err, sizeof err), "session", err);
            need(stretto_session_decoding(s, &d), ways[w], stretto_session_error(s));
            need(stretto_session_sampling(s, &how), "sampling", stretto_session_error(s));
            answer(s, ids, PROMPT, ANSWER, 0, w ? got : want);
            if (w) check(memcmp(want, got, sizeof want) == 0, ways[w], 0);
            for (size_t every = 1; every < 8; every += 3) {
                need(stretto_session_sync(s, ids, 1, NULL), "sync", stretto_session_error(s));
                answer(s, ids, PROMPT, ANSWER, every, got);
                check(memcmp(want, got, sizeof want) == 0, "other tokens after cancelled steps", every);
            }
            stretto_session_close(s);
        }
}

/* A causal model reads a text in parts; the vector is the same. */
static void check_parts(stretto_model *m)
{
    enum { COUNT = 200 };
    int32_t ids[COUNT];
    float whole[4096], parts[4096];
    char err[600];
    for (size_t i = 0; i < COUNT; i++) ids[i] = token(stretto_model_inside(m), i);
    for (uint32_t pooling = STRETTO_POOLING_MEAN; pooling <= STRETTO_POOLING_LAST; pooling++)
        for (int small = 0; small < 2; small++) {
            stretto_session *s;
            stretto_engine_options o = STRETTO_ENGINE_OPTIONS_INIT;
            stretto_embed_options how = STRETTO_EMBED_OPTIONS_INIT;
            o.max_rows = small ? 16 : 256;
            how.pooling = pooling;
            need(stretto_session_open_model(&s, m, &o, err, sizeof err), "session", err);
            need(stretto_session_embedding(s, ids, COUNT, &how, small ? parts : whole, 4096, NULL),
                 "embedding", stretto_session_error(s));
            volatile int flag = 1;
            stretto_session_cancel(s, &flag);
            check(stretto_session_embedding(s, ids, COUNT, &how, parts, 4096, NULL) == STRETTO_E_CANCEL,
                  "embedding is not cancelled", pooling);
            flag = 0;
            need(stretto_session_embedding(s, ids, COUNT, &how, parts, 4096, NULL), "embedding",
                 stretto_session_error(s));
            check(memcmp(whole, parts, stretto_model_inside(m)->config.width * sizeof *whole) == 0,
                  "another vector in parts", pooling);
            stretto_session_close(s);
        }
}

int main(int argc, char **argv)
{
    struct sigaction a = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
    sigemptyset(&a.sa_mask);
    sigaction(SIGALRM, &a, NULL);
    for (int i = 1; i < argc; i++) {
        stretto_model *m;
        char err[600] = "";
        where = argv[i];
        need(stretto_model_open(&m, argv[i], NULL, err, sizeof err), "model", err);
        for (unsigned threads = 1; threads <= 4; threads += threads)
            check_steps(stretto_model_inside(m), threads);
        if (stretto_model_inside(m)->graph.logits != GRAPH_NONE) {
            check_eval(stretto_model_inside(m));
            check_parts(m);
            if (i == 1) check_sessions(m);
        }
        stretto_model_close(m);
    }
    printf("%d models, %d failures\n", argc - 1, failures);
    return failures ? 1 : 0;
}
