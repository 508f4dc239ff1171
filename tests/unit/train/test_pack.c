/* Samples to steps (train/pack.h): whatever is shuffled, shared and put together, each token that counts is asked for
 * once in an epoch, by a row that sees exactly the tokens before it in its text. And schedules. */
#include "train/pack.h"
#include "base/memory.h"
#include "base/random.h"
#include "train/schedule.h"
#include "train/words.h"
#include "unit/unit.h"

static struct words words;

/* Lines of random lengths; in groups of a common prompt where `groups`. */
static void make(struct lines *l, uint64_t seed, uint32_t n, uint32_t groups)
{
    struct lines_how how = { .tokenizer = words.t, .chat = words.chat, .vocab = WORDS, .context = 400 };
    struct error err = { 0 };
    char *text = malloc(n * 500 + 1);
    size_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t g = groups ? random_at(seed, 1, i, 0) % groups : i, long_of = random_at(seed, 2, g, 0) % 90 + 2;
        at += (size_t)sprintf(text + at, "{\"messages\":[{\"role\":\"user\",\"content\":\"%0*d %u\"},"
                              "{\"role\":\"assistant\",\"content\":\"%.*s\"}]", (int)long_of, (int)g,
                              (unsigned)(random_at(seed, 3, i, 0) % 1000), (int)(random_at(seed, 4, i, 0) % 30 + 1),
                              "abcdefghijklmnopqrstuvwxyzabcdefghijk");
        at += (size_t)sprintf(text + at, groups ? ",\"group\":%d}\n" : "}\n", (int)g);
    }
    assert_int_equal(lines_read(l, &how, "data", text, at, &err), STRETTO_OK);
    free(text);
}

/* A copy's row sees its sample up to where the copy begins, then a state of what follows with something wrong in it. */
static void check_noisy(const struct packed *p, const struct sample *of, const int32_t *id, size_t a)
{
    const struct step *s = &p->step;
    int32_t row = s->ask_row[a], last = s->range_at[row + 1] - 1, seen = 0, wrong = 0;
    int32_t begin = s->position[s->ranges[2 * last]];
    assert_in_range(last + 1 - s->range_at[row], 2, 3);
    assert_in_range(begin, of->first, of->last - 1);
    for (int32_t i = s->range_at[row]; i <= last; i++)
        for (int32_t r = s->ranges[2 * i]; r < s->ranges[2 * i + 1]; r++, seen++) {
            assert_int_equal(s->position[r], seen);
            assert_int_equal(i == last, seen >= begin);
            if (seen < begin) assert_int_equal(s->token[r], id[seen]);
            else wrong += s->token[r] != id[seen];
        }
    assert_true(wrong > 0);
    assert_int_equal(seen, p->ask_token[a]);
    assert_int_equal(s->position[row], seen - 1);
    assert_int_equal(s->targets[a].token, id[seen]);
    assert_int_equal(s->given[row], 0);
}

/* Every ask sees its sample up to it, each position once, and asks for what follows. */
static void check_step(const struct packed *p, const struct lines *l, uint8_t *asked)
{
    const struct step *s = &p->step;
    assert_in_range(s->n_rows, 1, p->max_rows);
    for (size_t a = 0; a < s->n_asks; a++) {
        const struct sample *of = &l->sample[p->ask_sample[a]];
        uint32_t token = p->ask_token[a];
        int32_t row = s->ask_row[a], seen = 0;
        if (a) assert_true(row > s->ask_row[a - 1]);
        if (p->ask_noisy[a]) {
            check_noisy(p, of, sample_ids(l, of), a);
            continue;
        }
        assert_in_range(s->range_at[row + 1] - s->range_at[row], 1, 2);
        for (int32_t i = s->range_at[row]; i < s->range_at[row + 1]; i++)
            for (int32_t r = s->ranges[2 * i]; r < s->ranges[2 * i + 1]; r++, seen++) {
                assert_int_equal(s->token[r], sample_ids(l, of)[seen]);
                assert_int_equal(s->position[r], seen);
            }
        assert_int_equal(seen, token);
        assert_int_equal(s->position[row], token - 1);
        assert_int_equal(s->targets[a].token, sample_ids(l, of)[token]);
        assert_int_equal(asked[of->at + token]++, 0);
    }
    for (size_t r = 0; r < s->n_rows; r++) assert_int_equal(s->ranges[2 * s->range_at[r + 1] - 1], r + 1);
}

/* The rows on which an adapter of guesses acts are those that a range ends with that begins behind the sample's own. */
static size_t check_set(const struct packed *p)
{
    const struct step *s = &p->step;
    size_t n = 0;
    for (int32_t i = s->set_at[0]; i < s->set_at[1]; i++, n++) {
        int32_t row = s->set_row[i], last = s->range_at[row + 1] - 1;
        if (i) assert_true(row > s->set_row[i - 1]);
        assert_true(last > s->range_at[row] && s->position[s->ranges[2 * last]] > 0);
    }
    for (size_t a = 0, i = 0; a < s->n_asks; a++) {
        while (i < n && s->set_row[i] < s->ask_row[a]) i++;
        assert_int_equal(i < n && s->set_row[i] == s->ask_row[a], p->ask_noisy[a]);
    }
    return n;
}

static uint64_t epoch(const struct lines *l, const struct packing_how *how, uint64_t *updates)
{
    struct packing p;
    struct packed step;
    struct error err = { 0 };
    uint8_t *asked = calloc(l->n_ids + 1, 1);
    uint64_t rows = 0, asks = 0, noisy = 0;
    assert_int_equal(packing_make(&p, l, how, &err), STRETTO_OK);
    assert_int_equal(packed_make(&step, how->step_rows, NULL, &err), STRETTO_OK);
    step.rows_of = ADAPTER_GUESSES;
    for (size_t b = 0; b < p.n_batches; b++) {
        double weights, sum = 0;
        uint32_t steps = packing_steps(&p, b, &weights);
        for (uint32_t s = 0; s < steps; s++) {
            packed_fill(&step, &p, b, s, weights);
            check_step(&step, l, asked);
            rows += step.step.n_rows;
            for (size_t a = 0; a < step.step.n_asks; a++) {
                asks += !step.ask_noisy[a];
                sum += (double)step.step.targets[a].weight;
            }
            noisy += check_set(&step);
        }
        assert_float_equal(sum, 1, 1e-5);
    }
    assert_int_equal(asks, p.noise.clean > 0 ? l->learned : 0);
    assert_int_equal(rows, p.rows);
    assert_int_equal(noisy, p.noisy);
    *updates = p.n_batches;
    free(asked);
    packed_done(&step);
    packing_done(&p);
    return rows;
}

static void every_token_is_learned_once_and_sees_its_text(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct lines alone = { 0 }, shared = { 0 };
        uint64_t updates, plain = 0;
        make(&alone, seed, 60, 0);
        make(&shared, seed, 60, 1 + (uint32_t)seed % 9);
        for (size_t i = 0; i < shared.n; i++) plain += shared.sample[i].last;
        struct packing_how how = { .seed = seed, .step_rows = 256, .batch_rows = 500 };
        for (how.epoch = 0; how.epoch < 3; how.epoch++) {
            uint64_t all = 0;
            for (size_t i = 0; i < alone.n; i++) all += alone.sample[i].last;
            assert_int_equal(epoch(&alone, &how, &updates), all);
            assert_in_range(updates, all / 500, all / 500 + 1);
            assert_true(epoch(&shared, &how, &updates) < plain);
        }
        lines_done(&alone);
        lines_done(&shared);
    }
}

/* A batch is no larger than was asked for because its samples share a beginning: one sample may be. */
static void small_batches_are_small(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct lines l = { 0 };
        struct packing p;
        struct error err = { 0 };
        make(&l, seed, 60, 2);
        const struct packing_how how = { .seed = seed, .step_rows = 256, .batch_rows = 40 };
        assert_int_equal(packing_make(&p, &l, &how, &err), STRETTO_OK);
        for (size_t u = 0; u < p.n_units; u++) assert_true(p.unit[u].count == 1 || p.unit[u].rows <= 40);
        packing_done(&p);
        lines_done(&l);
    }
}

/* Later epochs are cut into as many batches, whatever their units are like, so that a plan needs no other epoch. */
static void epochs_have_as_many_batches(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct lines l = { 0 };
        uint64_t first, updates;
        make(&l, seed, 60, 1 + (uint32_t)seed % 7);
        struct packing_how how = { .seed = seed, .step_rows = 256, .batch_rows = 100 + 70 * (uint32_t)seed };
        epoch(&l, &how, &first);
        how.batches = (uint32_t)first;
        for (how.epoch = 1; how.epoch < 4; how.epoch++) {
            struct packing p;
            struct error err = { 0 };
            assert_int_equal(packing_make(&p, &l, &how, &err), STRETTO_OK);
            uint64_t most = p.rows / p.n_batches + 256, rows = 0;
            assert_int_equal(p.n_batches, first < p.n_units ? first : p.n_units);
            for (size_t b = 0; b < p.n_batches; b++, rows = 0) {
                for (size_t u = p.batch[b]; u < p.batch[b + 1]; u++) rows += p.unit[u].rows;
                assert_in_range(rows, 1, most);
            }
            packing_done(&p);
            epoch(&l, &how, &updates);
        }
        lines_done(&l);
    }
}

/* In each epoch other states of other windows; what all copies of a token count is what was asked for. */
static void copies_stand_behind_their_samples(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct lines l = { 0 };
        uint64_t updates, rows[3];
        make(&l, seed, 60, 1 + (uint32_t)seed % 9);
        const struct noise_how noise = { .block = 2 + (uint32_t)seed % 7, .copies = 1 + (uint32_t)seed % 3,
                                         .clean = (double)(seed % 3), .noisy = 0.5, .seed = seed };
        struct packing_how how = { .seed = seed, .step_rows = pack_longest(&l, &noise), .batch_rows = 500,
                                   .noise = &noise };
        for (how.epoch = 0; how.epoch < 3; how.epoch++) rows[how.epoch] = epoch(&l, &how, &updates);
        assert_true(noise.block < 4 || rows[0] != rows[1] || rows[1] != rows[2]);
        lines_done(&l);
    }
}

static double noisy_share(const struct lines *l, const struct noise_how *how, uint32_t sample, uint64_t number,
                          uint8_t *seen)
{
    struct noise x = noise_begin(how, l, sample, number);
    double sum = 0;
    int32_t s[NOISE_WINDOW];
    while (noise_next(&x)) {
        uint32_t first = noise_state(&x, s), most = how->block * (1 + x.copy % 2);
        assert_in_range(x.n, 2, most);
        for (uint32_t i = 0; i < first; i++) assert_int_equal(s[i], sample_ids(l, &l->sample[sample])[x.at + i]);
        for (uint32_t i = first; i + 1 < x.n; i++) {
            sum += noise_weight(&x, i);
            seen[x.at + i + 1] = 1;
        }
    }
    return sum;
}

/* Over epochs every place of an answer but its first is guessed, and about half of what could count does. */
static void noise_is_everywhere(void **state)
{
    (void)state;
    struct lines l = { 0 };
    const struct noise_how how = { .block = 8, .copies = 2, .clean = 1, .noisy = 1, .seed = 5 };
    double sum = 0, all = 0;
    make(&l, 3, 40, 0);
    for (uint32_t i = 0; i < l.n; i++) {
        uint8_t seen[512] = { 0 };
        for (uint64_t e = 0; e < 60; e++) sum += noisy_share(&l, &how, i, e, seen);
        all += 60.0 * (l.sample[i].last - l.sample[i].first);
        for (uint32_t t = l.sample[i].first + 1; t <= l.sample[i].last; t++) assert_int_equal(seen[t], 1);
    }
    assert_true(sum / all > 0.4 && sum / all < 0.8);
    lines_done(&l);
}

static void checkpoints_take_a_twentieth_of_the_time(void **state)
{
    (void)state;
    struct saving s = { .saved = 0, .steps = 100, .step_seconds = 2, .save_seconds = 0 };
    assert_true(schedule_saves(&s, 1));                      /* the first tells what one costs */
    s = (struct saving){ .saved = 1, .steps = 100, .step_seconds = 2, .save_seconds = 0.9 };
    for (uint64_t step = 2; step < 100; step++) assert_int_equal(schedule_saves(&s, step), step >= 1 + 9);
    assert_true(schedule_saves(&s, 100));                    /* the last */
    s.save_seconds = 0.001;
    assert_true(schedule_saves(&s, 2));                      /* small ones behind every step */
    s.every = 4;
    for (uint64_t step = 2; step < 100; step++) assert_int_equal(schedule_saves(&s, step), step >= 5);
    s = (struct saving){ .saved = 1, .steps = 100, .step_seconds = 1e-12, .save_seconds = 1e12 };
    assert_true(schedule_saves(&s, 2));                      /* what makes no sense is no reason not to */
}

static void the_order_follows_from_seed_and_epoch(void **state)
{
    (void)state;
    struct lines l = { 0 };
    struct error err = { 0 };
    make(&l, 7, 50, 5);
    struct packing_how how[4];
    struct packing p[4];
    for (int i = 0; i < 4; i++)
        how[i] = (struct packing_how){ .seed = 1 + (i == 3), .epoch = i == 2, .step_rows = 256, .batch_rows = 500 };
    for (int i = 0; i < 4; i++) assert_int_equal(packing_make(&p[i], &l, &how[i], &err), STRETTO_OK);
    assert_memory_equal(p[0].order, p[1].order, l.n * sizeof *p[0].order);
    assert_memory_equal(p[0].unit, p[1].unit, p[0].n_units * sizeof *p[0].unit);
    for (int i = 2; i < 4; i++) assert_int_not_equal(memcmp(p[0].order, p[i].order, l.n * sizeof *p[0].order), 0);
    for (int i = 0; i < 4; i++) packing_done(&p[i]);
    lines_done(&l);
}

static void memory_that_runs_out_is_said(void **state)
{
    (void)state;
    struct lines l = { 0 };
    make(&l, 7, 20, 5);
    for (uint64_t i = 1;; i++) {
        struct packing p;
        struct packed step;
        struct error err = { 0 };
        const struct packing_how how = { .step_rows = 256, .batch_rows = 500 };
        mem_fail_at(i);
        stretto_status s = packing_make(&p, &l, &how, &err);
        if (s == STRETTO_OK) {
            s = packed_make(&step, 256, NULL, &err);
            packing_done(&p);
        }
        mem_fail_at(0);
        if (s == STRETTO_OK) {
            packed_done(&step);
            break;
        }
        assert_int_equal(s, STRETTO_E_NOMEM);
    }
    lines_done(&l);
}

static void rates_rise_and_fall(void **state)
{
    (void)state;
    struct lr_schedule s = { SCHEDULE_COSINE, 2, 3, 13 };
    assert_float_equal(schedule_lr(&s, 1), 0.5, 1e-12);
    assert_float_equal(schedule_lr(&s, 4), 2, 1e-12);
    assert_float_equal(schedule_lr(&s, 9), 1, 1e-12);
    assert_true(schedule_lr(&s, 13) > 0 && schedule_lr(&s, 13) < 0.1);
    s.kind = SCHEDULE_LINEAR;
    assert_float_equal(schedule_lr(&s, 4), 2, 1e-12);
    assert_float_equal(schedule_lr(&s, 13), 0.2, 1e-12);
    s.kind = SCHEDULE_CONSTANT;
    assert_float_equal(schedule_lr(&s, 13), 2, 0);
    assert_int_equal(schedule_by_name("linear"), SCHEDULE_LINEAR);
    assert_int_equal(schedule_by_name("none"), SCHEDULES);
    assert_float_equal(schedule_clip(4, 1), 0.25, 0);
    assert_float_equal(schedule_clip(0.5, 1), 1, 0);
    assert_float_equal(schedule_clip(4, 0), 1, 0);
}

static int open_words(void **state)
{
    (void)state;
    words = words_open();
    return 0;
}

static int close_words(void **state)
{
    (void)state;
    words_close(&words);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_token_is_learned_once_and_sees_its_text),
        cmocka_unit_test(small_batches_are_small),
        cmocka_unit_test(epochs_have_as_many_batches),
        cmocka_unit_test(copies_stand_behind_their_samples),
        cmocka_unit_test(noise_is_everywhere),
        cmocka_unit_test(checkpoints_take_a_twentieth_of_the_time),
        cmocka_unit_test(the_order_follows_from_seed_and_epoch),
        cmocka_unit_test(memory_that_runs_out_is_said),
        cmocka_unit_test(rates_rise_and_fall),
    };
    return cmocka_run_group_tests(tests, open_words, close_words);
}
