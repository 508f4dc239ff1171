/* Eight texts are written and a long prompt arrives: how long the eight wait for their next tokens, and the prompt for
 * its first, on a machine whose clock stands still but for what steps cost there. The costs are those of SmolLM2 on two
 * cores of an EPYC, on one, and on a machine of which the engine believes wrong things.
 *
 * Planted and noticed: looking back costs nothing (2.3 times), guesses that count a prompt's rows as theirs, pieces
 * of 64 rows at least. */
#include "base/clock.h"
#include "engine/engine_int.h"
#include "unit/engine/fake.h"

enum { WRITERS = 8, PROMPT = 200, LONG = 8000, CONTEXT = 8192, STEPS = 4000, QUIET = 60 };

static double now = 1;               /* seconds */
static const struct machine { double pass, row, pair, believed, guess; } machines[] = {
    { 1.4e-3, 0.35e-3, 0.26e-6, 1, 0 }, { 2.3e-3, 0.75e-3, 0.52e-6, 1, 0 }, { 1.4e-3, 0.35e-3, 0.26e-6, 0.25, 0 },
    { 1.4e-3, 0.35e-3, 0.26e-6, 4, 0 }, { 20e-3, 4e-3, 1e-6, 1, 0 },
};
static const struct machine *machine;

int clock_gettime(clockid_t clock, struct timespec *t)
{
    (void)clock;
    *t = (struct timespec){ (time_t)now, (long)((now - (double)(time_t)now) * 1e9) };
    return 0;
}

/* Pieces of few rows look back less well. */
static void pass_time(const struct step *s)
{
    double seconds = machine->pass;
    for (size_t q = 0; q < s->n_seqs; q++) {
        double n = s->seqs[q].n_rows, back = s->seqs[q].committed + n / 2;
        seconds += n * machine->row + (n + 1.6) * back * machine->pair + (n - 1) * machine->guess;
    }
    now += seconds * (0.96 + 0.08 * random_unit(random_mix((uint64_t)(now * 1e9))));
}

static double reading(uint32_t n)
{
    double seconds = 0;
    for (uint32_t at = 0; at < n; at += 16) seconds += 16 * machine->row + 17.6 * (at + 8) * machine->pair;
    return seconds;
}

struct text { struct sampler sampler; struct writer *writer; int32_t seq, ids[CONTEXT]; uint32_t id; };
static struct text texts[WRITERS + 1];
static struct calibration calibration;
static _Alignas(64) unsigned char sampler_memory[WRITERS + 1][1 << 14];

static void begin(struct engine *e, struct text *x, const char *words, uint32_t prompt, uint32_t limit)
{
    static const struct sampling greedy = { .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64 };
    struct error err = { 0 };
    struct arena a = { .base = sampler_memory[x - texts], .cap = 1 << 14 };
    struct writer_options o = { .setup = { .seed = 3 } };
    assert_int_equal(engine_seq_open(e, &x->seq, &err), STRETTO_OK);
    sampler_plan(&x->sampler, &a, FAKE_VOCAB);
    assert_int_equal(decode_parse(words, &o.choice, &err), STRETTO_OK);
    assert_int_equal(sampler_set(&x->sampler, &greedy, &err), STRETTO_OK);
    assert_int_equal(writer_open(&x->writer, e, x->seq, &x->sampler, &calibration, &o, &err), STRETTO_OK);
    for (uint32_t i = 0; i < prompt; i++)
        x->ids[i] = (int32_t)(random_mix((uint64_t)(x - texts) * 100000 + i) % FAKE_NAN);
    engine_set(e, x->seq, x->ids, prompt, 0);
    writer_limit(x->writer, limit, NULL, NULL);
    writer_begin(x->writer);
    struct request r = { .seq = x->seq, .writer = x->writer, .ud = x };
    assert_int_equal(request_add(e, &r, &x->id, &err), STRETTO_OK);
}

static int larger(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Turns until `of` has written; each of the others' gaps. Returns how many there are. */
static size_t turns(struct engine *e, const struct text *of, uint32_t most, double *gap)
{
    size_t n_gaps = 0, n;
    struct event events[WRITERS + 1];
    struct error err = { 0 };
    for (uint32_t i = 0; i < most; i++) {
        double before = now;
        assert_int_equal(engine_turn(e, events, WRITERS + 1, &n, &err), STRETTO_OK);
        assert_true(n_gaps < STEPS);
        gap[n_gaps++] = now - before;              /* everybody who writes got a token */
        for (size_t k = 0; k < n; k++) {
            const struct text *x = events[k].ud;
            if (x == of && events[k].wrote) return n_gaps;
        }
    }
    return n_gaps;
}

static void nobody_waits_twice_as_long(void **state)
{
    (void)state;
    static double gap[STEPS];
    for (machine = machines; machine < machines + sizeof machines / sizeof *machines; machine++) {
        struct fake f;
        struct engine *e;
        struct error err = { 0 };
        struct engine_options o = { .context = CONTEXT, .sequences = WRITERS + 1, .pool_tokens = 4 * CONTEXT };
        assert_int_equal(engine_open(&e, fake_model(&f, CONTEXT), &o, &err), STRETTO_OK);
        engine_schedule(e, &(const struct schedule){ .delay = 0.9, .seconds = 0.03 });
        costs_look(engine_costs(e), machine->pair / machine->row * machine->believed);
        calibration_init(&calibration);
        for (uint32_t rows = 1; rows <= 16; rows *= 2)
            for (int i = 0; i < 8; i++)
                costs_learn(engine_costs(e), rows, machine->pass + rows * machine->row + 1000 * machine->pair);
        for (int i = 0; i < WRITERS; i++) begin(e, &texts[i], "auto", PROMPT, CONTEXT);
        turns(e, NULL, QUIET, gap);
        begin(e, &texts[WRITERS], "auto", LONG, LONG + 4);
        double came = now;
        size_t n = turns(e, &texts[WRITERS], STEPS, gap);
        double took = now - came;
        qsort(gap, n, sizeof *gap, larger);
        assert_true(gap[n - 1] <= 1.75 * gap[n / 2]);
        assert_true(took < 2.4 * reading(LONG));
        for (int i = 0; i <= WRITERS; i++) writer_close(texts[i].writer);
        engine_close(e);
    }
}

/* Tokens a second of eight texts on an engine that holds further rows to be nearly free, whatever it measures. */
static double speed(const char *words, const struct machine *m)
{
    static double gap[STEPS];
    struct fake f;
    struct engine *e;
    struct error err = { 0 };
    uint64_t tokens = 0;
    struct engine_options o = { .context = CONTEXT, .sequences = WRITERS, .pool_tokens = 4 * CONTEXT };
    machine = m;
    assert_int_equal(engine_open(&e, fake_model(&f, CONTEXT), &o, &err), STRETTO_OK);
    costs_fix(engine_costs(e), (const float[]){ 1, 1.05F, 1.1F, 1.2F, 1.3F, 1.4F });
    costs_learn(engine_costs(e), 1, m->pass + m->row);
    calibration_init(&calibration);
    for (int i = 0; i < WRITERS; i++) begin(e, &texts[i], words, 20, CONTEXT);
    turns(e, NULL, QUIET, gap);
    double from = now;
    for (int i = 0; i < WRITERS; i++) tokens -= engine_known(e, texts[i].seq);
    turns(e, NULL, STEPS / 4, gap);
    for (int i = 0; i < WRITERS; i++) tokens += engine_known(e, texts[i].seq);
    for (int i = 0; i < WRITERS; i++) writer_close(texts[i].writer);
    engine_close(e);
    return (double)tokens / (now - from);
}

/* Planted and noticed: the account allows always. */
static void guesses_are_never_slower(void **state)
{
    (void)state;
    static const struct machine dear = { 2e-3, 0.1e-3, 0, 1, 0.2e-3 }, cheap = { 2e-3, 0.1e-3, 0, 1, 0 };
    double slow = speed("auto", &dear) / speed("plain", &dear), fast = speed("auto", &cheap) / speed("plain", &cheap);
    assert_true(slow > 0.95);
    assert_true(fast > 1.1);
}

int main(void)
{
    fake_ran = pass_time;
    const struct CMUnitTest tests[] = { cmocka_unit_test(nobody_waits_twice_as_long),
                                        cmocka_unit_test(guesses_are_never_slower) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
