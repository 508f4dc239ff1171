/* What the service writes is what a session alone writes; log probabilities are those of a plain softmax over the
 * engine's logits; embeddings are the public functions'. */
#include "api/handles.h"
#include "serve/service.h"
#include "unit/unit.h"
#include <math.h>
#include <time.h>

#define SMOLLM STRETTO_TEST_MODELS "/SmolLM2-135M-Instruct.Q4_1.gguf"

enum { JOBS = 8, TEXT = 8192, WRITE = 40, WIDTH = 576 };

static stretto_model *model;

struct question { const char *prompt, *stop; float temperature; };
static const struct question asked[JOBS] = {
    { "The capital of France is", NULL, 0 },
    { "def fibonacci(n):\n", "return", 0 },
    { "Once upon a time there was a little", NULL, 1 },
    { "1, 2, 3, 4, 5, 6,", " 12", 0 },
    { "Write three words in Japanese: \xe6\x97\xa5\xe6\x9c\xac", NULL, 1 },
    { "Emoji: \xf0\x9f\x98\x80 \xf0\x9f\x98\x80 \xf0\x9f\x98\x80", NULL, 0 },
    { "Once upon a time there was a big", ".", 1 },
    { "To be, or not to be, that is", "no such text", 0 },
};

static struct text { char text[TEXT]; size_t n; int finish; size_t tokens; } want[JOBS], got[JOBS];

static size_t encode(const char *text, int32_t *ids)
{
    size_t n;
    assert_int_equal(stretto_tokenize(model, text, strlen(text), 0, ids, 256, &n), STRETTO_OK);
    return n;
}

static int append(void *user, const char *piece, size_t n)
{
    struct text *t = user;
    memcpy(t->text + t->n, piece, n);
    t->n += n;
    return 0;
}

/* Alone, without guesses. */
static void write_alone(const struct question *a, struct text *t)
{
    int32_t ids[256];
    char err[256];
    stretto_session *s;
    stretto_engine_options eo = STRETTO_ENGINE_OPTIONS_INIT;
    eo.context = 512;
    eo.threads = 2;
    assert_int_equal(stretto_session_open_model(&s, model, &eo, err, sizeof err), STRETTO_OK);
    stretto_sampling how = STRETTO_SAMPLING_INIT;
    how.temperature = a->temperature;
    how.seed = 5;
    assert_int_equal(stretto_session_sampling(s, &how), STRETTO_OK);
    assert_int_equal(stretto_session_sync(s, ids, encode(a->prompt, ids), NULL), STRETTO_OK);
    const char *stops[] = { a->stop, NULL };
    stretto_generate_options o = STRETTO_GENERATE_OPTIONS_INIT;
    o.max_tokens = WRITE;
    o.stops = stops;
    o.text = append;
    o.user = t;
    stretto_generated r = { .size = sizeof r };
    assert_int_equal(stretto_session_generate(s, &o, &r), STRETTO_OK);
    t->finish = (int)r.finish;
    t->tokens = r.tokens;
    stretto_session_close(s);
}

static struct service *open_pool(uint32_t slots, uint32_t pool)
{
    struct error err = { 0 };
    struct service *s;
    struct service_options o = { .engine = { .context = 512, .sequences = slots, .pool_tokens = pool, .threads = 2,
                                             .cache = CACHE_F16 } };
    assert_int_equal(decode_parse("auto", &o.choice, &err), STRETTO_OK);
    assert_int_equal(service_open(&s, model->model, &o, &err), STRETTO_OK);
    return s;
}

static struct service *open_service(uint32_t slots) { return open_pool(slots, 0); }

/* A test's clock: events are asked for every millisecond. */
static void next_event(struct job *j, struct job_event *e)
{
    while (!job_read(j, e)) nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
}

static struct job_options options(const int32_t *ids, size_t n, float temperature)
{
    return (struct job_options){ .ids = ids, .n_ids = (uint32_t)n, .max_tokens = WRITE, .logprobs = -1,
                                 .how = { .temperature = temperature, .top_p = 1, .repeat_penalty = 1,
                                          .repeat_last_n = 64, .seed = 5 } };
}

static void test_same_text(void **state)
{
    (void)state;
    static const int finish[] = { [JOB_END] = STRETTO_FINISH_END, [JOB_LENGTH] = STRETTO_FINISH_LENGTH,
                                  [JOB_STOP] = STRETTO_FINISH_STOP, [JOB_CONTEXT] = STRETTO_FINISH_CONTEXT };
    struct error err = { 0 };
    struct service *s = open_service(3);
    struct job *job[JOBS];
    for (int i = 0; i < JOBS; i++) {
        int32_t ids[256];
        write_alone(&asked[i], &want[i]);
        struct job_options o = options(ids, encode(asked[i].prompt, ids), asked[i].temperature);
        o.stops = &asked[i].stop;
        o.n_stops = asked[i].stop != NULL;
        o.logprobs = i % 3 - 1;
        assert_int_equal(service_submit(s, &o, &job[i], NULL, &err), STRETTO_OK);
    }
    for (int i = 0; i < JOBS; i++) {
        struct job_event e;
        size_t own = 0;
        do {
            next_event(job[i], &e);
            if (e.kind != JOB_TEXT) continue;
            append(&got[i], e.text, e.n_text);
            assert_int_equal(e.tokens != NULL, i % 3 > 0);
            for (uint32_t k = 0; e.tokens && k < e.n_ids; k++) {
                own += e.tokens[k].n_text;
                assert_true(e.tokens[k].text + e.tokens[k].n_text <= e.n_text);
                assert_int_equal(e.tokens[k].id, e.ids[k]);
            }
        } while (e.kind != JOB_DONE);
        assert_true(own <= got[i].n);
        assert_int_equal(finish[e.finish], want[i].finish);
        assert_int_equal(e.usage.written, want[i].tokens);
        if (e.finish == JOB_STOP) assert_string_equal(e.stop, asked[i].stop);
        assert_int_equal(got[i].n, want[i].n);
        assert_memory_equal(got[i].text, want[i].text, want[i].n);
        job_close(job[i]);
    }
    service_close(s);
}

/* ln of the softmax, plainly. */
static double plain_logprob(const float *x, uint32_t n, int32_t id)
{
    double most = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++) most = x[i] > most ? x[i] : most;
    for (uint32_t i = 0; i < n; i++) sum += exp((double)x[i] - most);
    return (double)x[id] - most - log(sum);
}

struct scored { int32_t text[512]; uint32_t n, from, seen; struct job_token token[512]; };

static void check_score(const struct scored *x, uint32_t at, const float *logits, uint32_t vocab, uint32_t n_top)
{
    const struct job_token *t = &x->token[at];
    assert_int_equal(t->id, x->text[at]);
    assert_int_equal(t->n_top, n_top);
    assert_true(fabs((double)t->logprob - plain_logprob(logits, vocab, t->id)) < 1e-4);
    for (uint32_t k = 0; k < n_top; k++) {
        uint32_t better = 0;
        for (uint32_t i = 0; i < vocab; i++) better += logits[i] > logits[t->top[k].id];
        assert_in_range(better, 0, k);
        assert_true(fabs((double)t->top[k].logprob - plain_logprob(logits, vocab, t->top[k].id)) < 1e-4);
    }
}

/* Every token's logits once more, from an engine alone; the first `from` tokens are a prompt. */
static void check_scores(const struct scored *x, uint32_t n_top)
{
    struct engine *e;
    struct error err = { 0 };
    int32_t seq;
    uint32_t vocab = model->model->config.vocab;
    float *logits = malloc(vocab * sizeof *logits);
    const struct engine_options o = { .context = 512, .threads = 2, .cache = CACHE_F16 };
    assert_int_equal(engine_open(&e, model->model, &o, &err), STRETTO_OK);
    assert_int_equal(engine_seq_open(e, &seq, &err), STRETTO_OK);
    for (uint32_t i = 0; i + 1 < x->n; i++) {
        struct row r = { seq, x->text[i], ROW_COMMITTED, i < x->from, WANT_LOGITS };
        struct answer a = { .logits = logits };
        assert_int_equal(engine_step(e, &r, 1, &a, &err), STRETTO_OK);
        assert_int_equal(engine_commit(e, seq, 1), 1);
        if (x->token[i + 1].id >= 0) check_score(x, i + 1, logits, vocab, n_top);
    }
    engine_close(e);
    free(logits);
}

static void take_scores(struct scored *x, const struct job_event *e)
{
    if (e->kind == JOB_SCORED) assert_int_equal(e->first, x->seen);
    for (uint32_t k = 0; k < e->n_ids; k++) {
        if (x->seen == x->n) x->text[x->n++] = e->ids[k];
        x->token[x->seen++] = e->tokens[k];
    }
}

static struct job_event read_scores(struct scored *x, struct job *j)
{
    struct job_event e;
    x->seen = 1;
    x->token[0].id = -1;
    do {
        next_event(j, &e);
        take_scores(x, &e);
    } while (e.kind != JOB_DONE);
    return e;
}

/* Of prompt and answer, with sampling that edits the logits; then of a text alone. */
static void test_logprobs(void **state)
{
    (void)state;
    static struct scored x, y;
    static const struct logit_bias bias = { 42, 3 };
    struct error err = { 0 };
    struct service *s = open_service(2);
    struct job *j;
    x.n = x.from = (uint32_t)encode("One day, a girl named Lily found a needle in her room. She knew it was "
                                    "difficult to play with it because it was sharp.", x.text);
    struct job_options o = options(x.text, x.n, 0.8F);
    o.prompt_logprobs = true;
    o.logprobs = 20;
    o.how.repeat_penalty = 1.3F;
    o.how.bias = &bias;
    o.how.n_bias = 1;
    assert_int_equal(service_submit(s, &o, &j, NULL, &err), STRETTO_OK);
    struct job_event e = read_scores(&x, j);
    assert_int_equal(x.n, x.from + WRITE);
    assert_int_equal(x.seen, x.n);
    assert_int_equal(e.finish, JOB_LENGTH);
    check_scores(&x, 20);
    job_close(j);
    memcpy(y.text, x.text, x.n * sizeof *y.text);
    y.n = y.from = x.n;
    o = options(y.text, y.n, 0);
    o.kind = JOB_SCORE;
    assert_int_equal(service_submit(s, &o, &j, NULL, &err), STRETTO_OK);
    e = read_scores(&y, j);
    assert_int_equal(y.seen, y.n);
    assert_int_equal(y.n, y.from);
    check_scores(&y, 0);
    job_close(j);
    service_close(s);
}

static void test_embedding(void **state)
{
    (void)state;
    static float want_vector[WIDTH];
    int32_t ids[256];
    char words[256];
    struct error err = { 0 };
    size_t n = encode("A text of which a vector is to be made, and nothing else.", ids);
    stretto_session *alone;
    stretto_engine_options eo = STRETTO_ENGINE_OPTIONS_INIT;
    eo.context = 512;
    eo.threads = 2;
    assert_int_equal(stretto_session_open_model(&alone, model, &eo, words, sizeof words), STRETTO_OK);
    assert_int_equal(stretto_session_embed(alone, ids, n, want_vector), STRETTO_OK);
    stretto_session_close(alone);
    struct service *s = open_service(2);
    struct job *j;
    struct job_event e;
    struct job_options o = options(ids, n, 0);
    o.kind = JOB_EMBED;
    assert_int_equal(service_submit(s, &o, &j, NULL, &err), STRETTO_OK);
    do next_event(j, &e);
    while (e.kind != JOB_DONE);
    assert_int_equal(e.n_vector, WIDTH);
    assert_memory_equal(e.vector, want_vector, sizeof want_vector);
    job_close(j);
    service_close(s);
}

enum { CROWD = 16, CROWD_WRITE = 16 };

/* A prompt of its own length; half of them begin alike for 100 tokens. */
static uint32_t crowd_prompt(int i, int32_t *ids)
{
    uint32_t n = 110 + (uint32_t)(i * 7 % 60);
    for (uint32_t k = 0; k < n; k++)
        ids[k] = (int32_t)(1000 + (k < 100 && i % 2 ? k * 37 : k * 41 + (uint32_t)i * 997) % 20000);
    return n;
}

/* Greedy and seeded, with guesses, in three places and a pool that does not hold them, two clients pushing each
 * other out: everybody writes what he writes alone, without guesses and with nothing taken over. */
static void test_same_in_a_crowd(void **state)
{
    (void)state;
    static int32_t alone[CROWD][CROWD_WRITE], ids[256];
    struct error err = { 0 };
    struct decode_choice plain;
    struct job *job[CROWD];
    struct job_event e;
    assert_int_equal(decode_parse("plain", &plain, &err), STRETTO_OK);
    for (int crowd = 0; crowd < 2; crowd++) {
        struct service *s = open_pool(3, crowd ? 512 : 0);
        for (int i = 0; i < CROWD; i++) {
            struct job_options o = options(ids, crowd_prompt(i, ids), (float)(i / 2 % 2));
            o.max_tokens = CROWD_WRITE;
            o.ignore_end = true;
            o.client = i < CROWD - 4 ? "flood" : "other";
            o.no_cache = !crowd;
            if (!crowd) o.choice = &plain;
            assert_int_equal(service_submit(s, &o, &job[i], NULL, &err), STRETTO_OK);
        }
        for (int i = 0; i < CROWD; i++) {
            uint32_t n = 0;
            do {
                next_event(job[i], &e);
                for (uint32_t k = 0; k < e.n_ids; k++, n++)
                    if (crowd) assert_int_equal(e.ids[k], alone[i][n]);
                    else alone[i][n] = e.ids[k];
            } while (e.kind != JOB_DONE);
            assert_int_equal(n, CROWD_WRITE);
            job_close(job[i]);
        }
        service_close(s);
    }
}

int main(void)
{
    char err[256];
    stretto_model_options o = STRETTO_MODEL_OPTIONS_INIT;
    o.threads = 2;
    FILE *f = fopen(SMOLLM, "rb");
    if (!f) SKIP("no SmolLM2; ./dev test fetches it");
    fclose(f);
    if (stretto_model_open(&model, SMOLLM, &o, err, sizeof err) != STRETTO_OK) {
        printf("%s\n", err);
        return 1;
    }
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_same_text), cmocka_unit_test(test_logprobs),
                                        cmocka_unit_test(test_embedding), cmocka_unit_test(test_same_in_a_crowd) };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    stretto_model_close(model);
    return failed;
}
