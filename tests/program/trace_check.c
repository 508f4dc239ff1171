/* Trajectories against a naive Jacobi iteration: every state of every block from a whole forward of
 * prompt, clean answer and state, in an engine of its own with one sequence; the answer token by
 * token.
 *
 * usage: trace_check MODEL FILE     prints how many states were compared */
#include "engine/engine.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4096 };
static struct engine *e;
static int32_t best[MOST];

static void die(const char *what, const char *words)
{
    fprintf(stderr, "trace_check: %s: %s\n", what, words);
    exit(1);
}

static size_t ints(const json_t *l, int32_t *out)
{
    size_t n = json_array_size(l);
    if (n > MOST) die("a list", "too long");
    for (size_t i = 0; i < n; i++) out[i] = (int32_t)json_integer_value(json_array_get(l, i));
    return n;
}

/* best[i]: the model's token after text[i], for n_prompt - 1 <= i < n. */
static void forward(const int32_t *text, size_t n_prompt, size_t n)
{
    static struct row rows[MOST];
    struct error err = { 0 };
    static struct answer a[MOST];
    engine_rewind(e, 0, 0);
    if (engine_feed(e, 0, text, n_prompt, WANT_BEST, a, &err) != STRETTO_OK) die("feed", err.text);
    best[n_prompt - 1] = a[0].best;
    for (size_t i = n_prompt; i < n; i++)
        rows[i - n_prompt] = (struct row){
            0, text[i], i > n_prompt ? (int32_t)(i - n_prompt) - 1 : ROW_COMMITTED, 0, WANT_BEST};
    if (n > n_prompt && engine_step(e, rows, n - n_prompt, a, &err) != STRETTO_OK)
        die("step", err.text);
    for (size_t i = n_prompt; i < n; i++) best[i] = a[i - n_prompt].best;
}

/* The answer, one row at a time. */
static void check_answer(const char *id, const int32_t *text, size_t n_prompt, size_t n)
{
    struct error err = { 0 };
    struct answer a;
    engine_rewind(e, 0, 0);
    if (engine_feed(e, 0, text, n_prompt, WANT_BEST, &a, &err) != STRETTO_OK) die("feed", err.text);
    for (size_t i = n_prompt; i < n; i++) {
        if (a.best != text[i]) die(id, "the answer is not what plain decoding writes");
        struct row row = { 0, a.best, ROW_COMMITTED, 0, WANT_BEST };
        if (engine_step(e, &row, 1, &a, &err) != STRETTO_OK) die("step", err.text);
        engine_commit(e, 0, 1);
    }
}

static size_t check_record(const json_t *r, size_t most)
{
    static int32_t text[MOST], state[MOST], next[MOST];
    const char *id = json_string_value(json_object_get(r, "id"));
    if (json_object_get(r, "skipped")) return 0;
    size_t compared = 0, n_prompt = ints(json_object_get(r, "prompt"), text);
    size_t n_answer = ints(json_object_get(r, "answer"), state), covered = 0, b, k;
    json_t *block, *s;
    int32_t answer[MOST];
    memcpy(answer, state, n_answer * sizeof *answer);
    memcpy(text + n_prompt, answer, n_answer * sizeof *answer);
    check_answer(id, text, n_prompt, n_prompt + n_answer);
    json_array_foreach(json_object_get(r, "blocks"), b, block) {
        size_t at = (size_t)json_integer_value(json_object_get(block, "at"));
        const json_t *states = json_object_get(block, "states"),
                     *wrong = json_object_get(block, "wrong");
        if (at != covered) die(id, "blocks do not follow each other");
        memcpy(text + n_prompt, answer, at * sizeof *answer);
        json_array_foreach(states, k, s) {
            size_t n = ints(s, state), first = 0;
            if (k == 0) covered += n;
            if (k && memcmp(state, next, n * sizeof *state) != 0)
                die(id, "a state is not what a whole forward says");
            while (first < n && state[first] == answer[at + first]) first++;
            if ((size_t)json_integer_value(json_array_get(wrong, k)) != first)
                die(id, "the first wrong place is not right");
            memcpy(text + n_prompt + at, state, n * sizeof *state);
            forward(text, n_prompt, n_prompt + at + n);
            memcpy(next, best + n_prompt + at - 1, n * sizeof *next);
            compared++;
            bool last = k + 1 == json_array_size(states);
            if (last != (first == n || k == most)) die(id, "it ends too early or too late");
        }
    }
    if (covered != n_answer) die(id, "blocks do not cover the answer");
    return compared;
}

int main(int argc, char **argv)
{
    struct error err = { 0 };
    struct model *m;
    struct model_open_options mo = { 0 };
    struct engine_options eo = { .context = 512, .max_rows = 512 };
    if (argc != 3) die("usage", "trace_check MODEL FILE");
    if (model_open(&m, argv[1], &mo, &err) != STRETTO_OK) die(argv[1], err.text);
    if (m->family->position == POSITION_LEARNED) eo.context = m->config.context;
    eo.cache = CACHE_F16;
    if (engine_open(&e, m, &eo, &err) != STRETTO_OK) die("engine", err.text);
    engine_seq_open_all(e, &err);
    FILE *f = fopen(argv[2], "r");
    if (!f) die(argv[2], "cannot be opened");
    static char line[1 << 22];
    size_t n = 0, most = 0, compared = 0;
    for (; fgets(line, sizeof line, f); n++) {
        json_t *j = json_loads(line, 0, NULL);
        if (!j) die("a line", "is no JSON");
        if (n == 0) most = (size_t)json_integer_value(json_object_get(j, "states"));
        else compared += check_record(j, most);
        json_decref(j);
    }
    fclose(f);
    engine_close(e);
    model_close(m);
    printf("%zu\n", compared);
    return 0;
}
