/* Requests against a simple model of what must come out: whoever else is in the steps, however pages come
 * and go, a text is its prompt and what plain decoding writes behind it.
 *
 * Planted and noticed: a shared page written without a copy, an accepted slot moved one too far, a prefix
 * taken over whole, a cache not cut behind what a new text shares, tokens answered twice when they are
 * read again, noise of the position before. */
#include "base/clock.h"
#include "engine/companion.h"
#include "engine/engine_int.h"
#include "unit/engine/fake.h"

enum { CONTEXT = 600, SEQS = 6, TURNS = 100000 };

struct text {                        /* one sequence as the test sees it */
    bool open, busy;
    int32_t seq;
    uint32_t id;
    struct sampler sampler;
    struct writer *writer;
    int32_t want[CONTEXT];           /* prompt and answer */
    uint32_t prompt, limit;
    atomic_bool cancel;
    bool reads;                      /* only: its rows' answers are looked at */
    uint32_t answered;
};

static struct calibration calibration;
static struct text all[SEQS];
static _Alignas(64) unsigned char sampler_memory[SEQS][1 << 14];

static bool asked(void *ud) { return atomic_load(&((struct text *)ud)->cancel); }

/* Every page has as many references as sequences and nodes of the tree that hold it; the rest are free. */
static void check_pages(const struct engine *e)
{
    for (uint32_t g = 0; g < e->cache.n_groups; g++) {
        const struct cache_group *x = &e->cache.group[g];
        uint16_t refs[4096] = { 0 };
        uint32_t held = 0;
        for (const struct sequence *s = e->seqs; s < e->seqs + e->n_seqs; s++) {
            const int32_t *page = e->cache.tables + cache_table(&e->cache, &s->cache, g);
            for (uint32_t p = s->cache.first[g]; p < s->cache.n_pages; p++) refs[page[p]]++;
        }
        for (const struct prefix_node *n = e->prefix.node + 1; n < e->prefix.node + e->prefix.top; n++)
            if (n->page[g] >= 0) refs[n->page[g]]++;
        for (uint32_t p = 0; p < x->max_pages; p++) {
            assert_int_equal(refs[p], x->refs[p]);
            held += refs[p] > 0;
        }
        assert_int_equal(held + x->n_free, x->max_pages);
    }
}

static void check_text(const struct engine *e, const struct text *x)
{
    uint32_t n = engine_known(e, x->seq);
    assert_in_range(n, 1, x->limit > x->prompt ? x->limit : x->prompt);
    assert_true(engine_length(e, x->seq) <= n);
    assert_memory_equal(engine_tokens(e, x->seq), x->want, n * sizeof *x->want);
}

static stretto_status answered(void *ud, uint32_t at, const struct answer *a, struct error *err)
{
    struct text *x = ud;
    (void)err;
    assert_int_equal(a->best, fake_next(x->want, at + 1));
    x->answered++;
    return STRETTO_OK;
}

static void begin(struct engine *e, struct text *x, uint64_t seed)
{
    static const char *const ways[] = { "plain", "lookup", "jacobi", "recycle+suffix", "auto", "lookahead" };
    static struct answer places[8];
    static const struct sampling greedy = { .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64 };
    struct error err = { 0 };
    if (!x->open) {
        assert_int_equal(engine_seq_open(e, &x->seq, &err), STRETTO_OK);
        x->open = true;
        struct arena a = { .base = sampler_memory[x - all], .cap = 1 << 14 };
        sampler_plan(&x->sampler, &a, FAKE_VOCAB);
        struct writer_options o = { .setup = { .seed = 3 } };
        uint64_t n_ways = engine_about(e)->max_rows < 8 ? 5 : 6;      /* lookahead needs rows */
        assert_int_equal(decode_parse(ways[seed % n_ways], &o.choice, &err), STRETTO_OK);
        assert_int_equal(sampler_set(&x->sampler, &greedy, &err), STRETTO_OK);
        assert_int_equal(writer_open(&x->writer, e, x->seq, &x->sampler, &calibration, &o, &err), STRETTO_OK);
    }
    x->reads = seed % 7 == 0;
    x->prompt = 1 + (uint32_t)(random_mix(seed) % (seed % 5 ? 40 : CONTEXT - 40));
    uint32_t same = (uint32_t)(random_mix(seed + 1) % (x->prompt + 1));   /* prompts share beginnings */
    for (uint32_t i = 0; i < x->prompt; i++)
        x->want[i] = (int32_t)((i < same ? random_mix(i) : random_mix(seed * 1000 + i)) % FAKE_NAN);
    x->limit = x->reads ? x->prompt : x->prompt + 1 + (uint32_t)(random_mix(seed + 2) % 40);
    for (uint32_t i = x->prompt; i < x->limit; i++) x->want[i] = fake_next(x->want, i);
    x->answered = 0;
    atomic_store(&x->cancel, false);
    uint32_t keep = engine_set(e, x->seq, x->want, x->prompt, x->reads ? 0 : CONTEXT);
    assert_true(keep < x->prompt);
    writer_limit(x->writer, x->limit, NULL, NULL);
    writer_begin(x->writer);
    struct request r = { .seq = x->seq, .writer = x->reads ? NULL : x->writer, .cancel = asked, .ud = x };
    if (x->reads) {
        r.wants = WANT_BEST;
        r.places = places;
        r.room = 8;
        r.answered = answered;
    }
    assert_int_equal(request_add(e, &r, &x->id, &err), STRETTO_OK);
    x->busy = true;
}

static void stop(struct engine *e, struct text *x)
{
    request_cancel(e, x->id);
    x->busy = false;
    check_text(e, x);
}

static void leave(struct engine *e, struct text *x)
{
    if (x->busy) stop(e, x);
    writer_close(x->writer);
    engine_seq_close(e, x->seq);
    x->open = false;
}

static void one_turn(struct engine *e, uint64_t *done, uint64_t *full)
{
    struct event events[SEQS];
    struct error err = { 0 };
    size_t n;
    assert_int_equal(engine_turn(e, events, SEQS, &n, &err), STRETTO_OK);
    for (size_t i = 0; i < n; i++) {
        struct text *x = events[i].ud;
        assert_true(x >= all && x < all + SEQS && x->busy && x->id == events[i].id);
        check_text(e, x);
        if (!events[i].done) continue;
        x->busy = false;
        switch (events[i].error.status) {
        case STRETTO_OK:
            assert_int_equal(engine_known(e, x->seq), x->limit);
            if (x->reads) assert_int_equal(x->answered, x->prompt);
            ++*done;
            break;
        case STRETTO_E_CANCEL: assert_true(atomic_load(&x->cancel)); break;
        default:
            assert_int_equal(events[i].error.status, STRETTO_E_FULL);
            assert_true(events[i].error.text[0]);
            assert_true(x->limit > cache_pages(&e->cache) * PAGE_SLOTS);   /* whoever fits waits, and gets pages */
            ++*full;
        }
    }
}

/* Requests join, leave, are cancelled; sequences close, are rewound, forked, and forget. */
static void random_programs(void **state)
{
    (void)state;
    static const uint32_t pools[] = { 0, 640, 300, 64, 192, 256, 0, 320 };
    static const uint32_t rows[] = { 64, 24, 64, 24, 2, 3, 1, 1 };
    uint64_t done = 0, full = 0, compared = 0, seed = 1;
    for (size_t p = 0; p < sizeof pools / sizeof *pools; p++) {
        struct fake f;
        struct engine *e;
        struct error err = { 0 };
        struct engine_options o = { .sequences = SEQS, .max_rows = rows[p], .pool_tokens = pools[p] };
        fake_model(&f, CONTEXT);
        if (p % 2) fake_window(&f, 1);
        if (p != 2) fake_window(&f, 90);
        assert_int_equal(engine_open(&e, &f.model, &o, &err), STRETTO_OK);
        assert_int_equal(engine_compare(e, &err), STRETTO_OK);
        engine_schedule(e, &(struct schedule){ .whole = p == 2 });
        memset(all, 0, sizeof all);
        for (uint64_t t = 0; t < TURNS / 8; t++) {
            uint64_t r = random_mix(++seed * 77 + p);
            struct text *x = &all[r % SEQS];
            switch (r / 64 % 16) {
            case 0: case 1: case 2: case 3: case 4: if (!x->busy) begin(e, x, seed); break;
            case 5: if (x->busy) atomic_store(&x->cancel, true); break;
            case 6: if (x->busy && r / 4096 % 4 == 0) stop(e, x); break;
            case 7: if (x->open && r / 4096 % 8 == 0) leave(e, x); break;
            case 8:
                if (x->open && !x->busy && engine_known(e, x->seq))
                    engine_rewind(e, x->seq, 1 + (uint32_t)(r / 4096) % engine_known(e, x->seq));
                break;
            case 9: if (x->open) engine_forget(e, x->seq, (uint32_t)(r / 4096) % CONTEXT); break;
            default: break;
            }
            one_turn(e, &done, &full);
            if (t % 16 == 0) check_pages(e);
        }
        /* Everybody comes to his end when nobody joins any more. */
        for (uint64_t t = 0; requests_count(e); t++) {
            assert_true(t < 20000);
            one_turn(e, &done, &full);
        }
        for (struct text *x = all; x < all + SEQS; x++) if (x->open) leave(e, x);
        check_pages(e);
        assert_true(fake_program->most_seqs > 1 || rows[p] == 1);
        struct engine_pages pages;
        engine_look(e, &pages);
        assert_int_equal(pages.counts.unlike, 0);
        compared += pages.counts.compared;
        engine_close(e);
    }
    printf("%d turns: %llu requests came to their end, %llu found no room; %llu pages were computed twice\n", TURNS,
           (unsigned long long)done, (unsigned long long)full, (unsigned long long)compared);
    assert_true(done > 1000 && full > 10 && compared > 10);
}

/* Draft models of all requests run in one step of theirs; the texts are what they were. */
static void companions_share_steps(void **state)
{
    (void)state;
    enum { N = 3, LONG = 200 };
    struct fake f, g;
    struct engine *e;
    struct error err = { 0 };
    struct engine_options o = { .sequences = N };
    static int32_t want[N][LONG];
    struct drafter *drafter[N];
    struct writer *writer[N];
    assert_int_equal(engine_open(&e, fake_model(&f, CONTEXT), &o, &err), STRETTO_OK);
    struct program *target = fake_program;
    const struct model *draft = fake_model(&g, CONTEXT);
    for (int i = 0; i < N; i++) {
        static const struct sampling greedy = { .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64 };
        struct arena a = { .base = sampler_memory[i], .cap = 1 << 14 };
        struct writer_options w = { .most = 4 };
        uint32_t id;
        int32_t seq;
        assert_int_equal(engine_seq_open(e, &seq, &err), STRETTO_OK);
        sampler_plan(&all[i].sampler, &a, FAKE_VOCAB);
        sampler_set(&all[i].sampler, &greedy, &err);
        assert_int_equal(drafter_open(&drafter[i], e, draft, &all[i].sampler, &err), STRETTO_OK);
        w.setup.drafter = drafter_companion(drafter[i]);
        assert_int_equal(decode_parse("draft", &w.choice, &err), STRETTO_OK);
        assert_int_equal(writer_open(&writer[i], e, seq, &all[i].sampler, &calibration, &w, &err), STRETTO_OK);
        for (int k = 0; k < LONG; k++) want[i][k] = k < 9 ? (k * 3 + i) % 9 : fake_next(want[i], (size_t)k);
        engine_set(e, seq, want[i], 9, 0);
        writer_begin(writer[i]);
        writer_limit(writer[i], LONG, NULL, NULL);
        struct request r = { .seq = seq, .writer = writer[i] };
        assert_int_equal(request_add(e, &r, &id, &err), STRETTO_OK);
    }
    struct program *drafts = fake_program;
    assert_ptr_not_equal(drafts, target);          /* one for all of them */
    for (size_t n; requests_count(e);) {
        struct event events[N];
        assert_int_equal(engine_turn(e, events, N, &n, &err), STRETTO_OK);
        for (size_t i = 0; i < n; i++) assert_int_equal(events[i].error.status, STRETTO_OK);
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(engine_known(e, i), LONG);
        assert_memory_equal(engine_tokens(e, i), want[i], sizeof want[i]);
        assert_true(writer_counts(writer[i])->accepted > 100);    /* it is the same model */
    }
    assert_int_equal(drafts->most_seqs, N);
    assert_true(target->steps < 60 && drafts->steps < 4 * target->steps + 10);
    for (int i = 0; i < N; i++) {
        writer_close(writer[i]);
        drafter_close(drafter[i]);
    }
    engine_close(e);
}

/* The pages of a closed sequence serve the next text that begins alike. */
static void pages_outlive_sequences(void **state)
{
    (void)state;
    struct fake f;
    struct engine *e;
    struct error err = { 0 };
    struct engine_options o = { .sequences = 1 };
    int32_t text[200], seq;
    for (int i = 0; i < 200; i++) text[i] = i % 9;
    assert_int_equal(engine_open(&e, fake_model(&f, CONTEXT), &o, &err), STRETTO_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(engine_seq_open(e, &seq, &err), STRETTO_OK);
        uint32_t had = engine_set(e, seq, text, 200, 200);
        assert_int_equal(had, i ? 192 : 0);            /* seven tokens more are not worth a copy */
        struct answer last;
        struct request r = { .seq = seq, .wants = WANT_BEST, .first = 199, .room = 1, .places = &last };
        assert_int_equal(request_run(e, &r, &err), STRETTO_OK);
        assert_int_equal(last.best, fake_next(text, 200));
        int32_t other;
        assert_int_equal(engine_seq_open(e, &other, &err), STRETTO_E_FULL);
        error_clear(&err);
        engine_seq_close(e, seq);
    }
    check_pages(e);
    engine_close(e);
}

/* What cannot be is refused by name, and what is under way is not disturbed. */
static void refusals(void **state)
{
    (void)state;
    struct fake f;
    struct engine *e;
    struct error err = { 0 };
    struct engine_options o = { .sequences = 2, .pool_tokens = 64 };
    int32_t text[CONTEXT] = { 1, 2, 3 }, seq;
    uint32_t id, other;
    assert_int_equal(engine_open(&e, fake_model(&f, CONTEXT), &o, &err), STRETTO_OK);
    struct request r = { .seq = 0 };
    assert_int_equal(request_add(e, &r, &id, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "not open"));
    error_clear(&err);
    assert_int_equal(engine_seq_open(e, &seq, &err), STRETTO_OK);
    assert_int_equal(request_add(e, &r, &id, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "nothing to do"));
    error_clear(&err);
    engine_set(e, 0, text, CONTEXT, 0);
    assert_int_equal(request_add(e, &r, &id, &err), STRETTO_OK);
    assert_int_equal(request_add(e, &r, &other, &err), STRETTO_E_ARG);
    assert_non_null(strstr(err.text, "already"));
    error_clear(&err);
    struct event x = { 0 };
    size_t n;
    assert_int_equal(engine_turn(e, &x, 0, &n, &err), STRETTO_E_ARG);
    error_clear(&err);
    while (!x.done) assert_int_equal(engine_turn(e, &x, 1, &n, &err), STRETTO_OK);
    assert_int_equal(x.error.status, STRETTO_E_FULL);       /* alone, and yet too long for the pool */
    assert_non_null(strstr(x.error.text, "larger pool"));
    assert_int_equal(requests_count(e), 0);
    engine_rewind(e, 0, 40);
    assert_int_equal(request_add(e, &(struct request){ .seq = 0, .deadline = 1 }, &id, &err),
                     engine_length(e, 0) < 40 ? STRETTO_OK : STRETTO_E_ARG);
    engine_close(e);
}

/* A plain greedy writer for sequence seq, place i. */
static struct writer *plain_writer(struct engine *e, int32_t seq, int i)
{
    static const struct sampling greedy = { .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64 };
    struct arena a = { .base = sampler_memory[i], .cap = 1 << 14 };
    struct writer_options o = { .most = 1 };
    struct error err = { 0 };
    struct writer *w;
    sampler_plan(&all[i].sampler, &a, FAKE_VOCAB);
    assert_int_equal(sampler_set(&all[i].sampler, &greedy, &err), STRETTO_OK);
    assert_int_equal(writer_open(&w, e, seq, &all[i].sampler, &calibration, &o, &err), STRETTO_OK);
    return w;
}

static struct engine *engine_of(struct fake *f, uint32_t sequences, uint32_t pool)
{
    struct engine *e;
    struct error err = { 0 };
    struct engine_options o = { .sequences = sequences, .pool_tokens = pool };
    assert_int_equal(engine_open(&e, fake_model(f, CONTEXT), &o, &err), STRETTO_OK);
    assert_int_equal(engine_seq_open_all(e, &err), STRETTO_OK);
    return e;
}

static void read_all(struct engine *e, int32_t seq, const int32_t *text, uint32_t n)
{
    struct error err = { 0 };
    struct request r = { .seq = seq };
    engine_set(e, seq, text, n, 0);
    assert_int_equal(request_run(e, &r, &err), STRETTO_OK);
}

/* While one writes, another's prompt gets the pages of those who do nothing. */
static void idle_pages_go_to_who_waits(void **state)
{
    (void)state;
    struct fake f;
    struct engine *e = engine_of(&f, 3, 192);            /* 6 pages */
    struct error err = { 0 };
    int32_t text[CONTEXT];
    uint32_t id, turns = 0;
    for (int i = 0; i < CONTEXT; i++) text[i] = i % 9;
    read_all(e, 2, text, 300);                           /* 5 of them */
    struct writer *w = plain_writer(e, 0, 0);
    engine_set(e, 0, text + 3, 9, 0);
    writer_begin(w);
    writer_limit(w, 60, NULL, NULL);
    assert_int_equal(request_add(e, &(struct request){ .seq = 0, .writer = w }, &id, &err), STRETTO_OK);
    engine_set(e, 1, text + 1, 20, 0);
    assert_int_equal(request_add(e, &(struct request){ .seq = 1, .ud = &turns }, &id, &err), STRETTO_OK);
    for (bool done = false; !done; turns++) {
        struct event x[3];
        size_t n;
        assert_int_equal(engine_turn(e, x, 3, &n, &err), STRETTO_OK);
        for (size_t i = 0; i < n; i++) done |= x[i].done && x[i].ud == &turns;
    }
    assert_true(turns < 10);
    writer_close(w);
    engine_close(e);
}

struct cancelling { struct engine *e; uint32_t id; };

static stretto_status cancels_itself(void *ud, uint32_t at, const struct answer *a, struct error *err)
{
    struct cancelling *c = ud;
    (void)at;
    (void)a;
    (void)err;
    request_cancel(c->e, c->id);
    return STRETTO_OK;
}

/* A token that does not exist, a sequence that is closed under its request: only that one fails. */
static void one_fails_alone(void **state)
{
    (void)state;
    struct fake f;
    struct engine *e = engine_of(&f, 3, 0);
    struct error err = { 0 };
    int32_t bad[9] = { 1, 2, 3, FAKE_VOCAB + 4, 5 }, good[CONTEXT], seq;
    uint32_t ids[3];
    struct writer *w = plain_writer(e, 0, 0);
    for (int i = 0; i < 100; i++) good[i] = i < 9 ? i : fake_next(good, (size_t)i);
    engine_set(e, 0, good, 9, 0);
    writer_begin(w);
    writer_limit(w, 100, NULL, NULL);
    engine_set(e, 1, bad, 9, 0);
    engine_set(e, 2, good, 9, 0);
    for (int i = 0; i < 3; i++) {
        struct request r = { .seq = i, .writer = i ? NULL : w };
        assert_int_equal(request_add(e, &r, &ids[i], &err), STRETTO_OK);
    }
    engine_seq_close(e, 2);
    assert_int_equal(engine_seq_open(e, &seq, &err), STRETTO_OK);
    stretto_status was[6] = { 0 };
    while (requests_count(e)) {
        struct event x[3];
        size_t n;
        assert_int_equal(engine_turn(e, x, 3, &n, &err), STRETTO_OK);
        for (size_t i = 0; i < n; i++)
            if (x[i].done) was[x[i].seq] = x[i].error.status;
    }
    assert_int_equal(was[0], STRETTO_OK);
    assert_int_equal(was[1], STRETTO_E_ARG);
    assert_int_equal(was[2], STRETTO_E_ARG);
    assert_int_equal(engine_known(e, 0), 100);
    assert_memory_equal(engine_tokens(e, 0), good, 100 * sizeof *good);
    writer_close(w);
    engine_close(e);
}

/* A timeline may be set to a part of itself; what it wrote keeps its role, in the cache or not. */
static void set_to_itself(void **state)
{
    (void)state;
    struct fake f;
    struct engine *e = engine_of(&f, 2, 0);
    int32_t text[400];
    for (int i = 0; i < 400; i++) text[i] = (int32_t)(random_mix((uint64_t)i) % FAKE_NAN);
    read_all(e, 0, text, 300);
    memmove(text + 10, text, 300 * sizeof *text);
    read_all(e, 1, text, 310);
    assert_int_equal(engine_set(e, 1, engine_tokens(e, 1) + 10, 300, 300), 299);   /* of the other */
    assert_memory_equal(engine_tokens(e, 1), text + 10, 300 * sizeof *text);
    engine_role(e, 1, 200, false);
    engine_forget(e, 1, 0);
    engine_rewind(e, 0, 0);
    engine_share(e, 1, &(struct sharing){ .exact = true }, NULL);
    assert_int_equal(engine_set(e, 1, text + 10, 300, 300), 200);      /* up to the other roles */
    assert_int_equal(engine_missed(e, 1)->cause, PREFIX_MISS_ROLE);
    assert_true(engine_given(e, 1, 199) && !engine_given(e, 1, 200) && !engine_given(e, 1, 298));
    engine_set(e, 1, text + 10, 300, 0);                 /* a text of its own */
    assert_true(engine_given(e, 1, 200));
    engine_close(e);
}

/* A writer on a text that somebody read to its end; a request that a callback cancels. */
static void joins_and_leaves_anywhere(void **state)
{
    (void)state;
    struct fake f;
    struct engine *e = engine_of(&f, 2, 0);
    struct error err = { 0 };
    int32_t text[20];
    for (int i = 0; i < 20; i++) text[i] = i < 9 ? i : fake_next(text, (size_t)i);
    read_all(e, 0, text, 9);
    struct writer *w = plain_writer(e, 0, 0);
    writer_begin(w);
    writer_limit(w, 20, NULL, NULL);
    assert_int_equal(request_run(e, &(struct request){ .seq = 0, .writer = w }, &err), STRETTO_OK);
    assert_memory_equal(engine_tokens(e, 0), text, sizeof text);
    struct cancelling c = { e, 0 };
    struct answer place;
    struct request r = { .seq = 1, .wants = WANT_BEST, .room = 1, .places = &place, .ud = &c,
                         .answered = cancels_itself };
    struct event x;
    size_t n;
    engine_set(e, 1, text, 1, 0);
    assert_int_equal(request_add(e, &r, &c.id, &err), STRETTO_OK);
    assert_int_equal(engine_turn(e, &x, 1, &n, &err), STRETTO_OK);
    assert_int_equal(requests_count(e), 0);
    writer_close(w);
    engine_close(e);
}

struct late { double deadline; unsigned asked; };

static bool waits_inside(void *ud)
{
    struct late *x = ud;
    while (x->asked++ && clock_seconds() < x->deadline) continue;
    return false;
}

/* A deadline that passes inside a step ends the request there, its timeline as it was. */
static void deadlines_hold_inside_steps(void **state)
{
    (void)state;
    struct fake f;
    struct engine *e = engine_of(&f, 1, 0);
    struct error err = { 0 };
    struct late late = { clock_seconds() + 0.05, 0 };
    struct request r = { .seq = 0, .cancel = waits_inside, .deadline = late.deadline, .ud = &late };
    struct event x;
    int32_t text[9] = { 1, 2, 3 };
    uint32_t id;
    size_t n;
    engine_set(e, 0, text, 9, 0);
    assert_int_equal(request_add(e, &r, &id, &err), STRETTO_OK);
    assert_int_equal(engine_turn(e, &x, 1, &n, &err), STRETTO_OK);
    assert_true(n == 1 && x.done && x.error.status == STRETTO_E_CANCEL);
    assert_true(engine_length(e, 0) == 0 && engine_known(e, 0) == 9);
    engine_close(e);
}

/* Contexts times sequences may be more than 32 bits hold. */
static void plans_do_not_wrap(void **state)
{
    (void)state;
    struct fake f;
    struct engine_info i;
    struct error err = { 0 };
    struct engine_options o = { .context = 1 << 20, .sequences = 4096, .pool_tokens = 640 };
    assert_int_equal(engine_plan(fake_model(&f, CONTEXT), &o, &i, &err), STRETTO_OK);
    assert_int_equal(i.max_rows, 512);
}

/* ---- sampled texts with draft models that come and go ---- */

enum { TEXTS = 24, LONG = 120, PROMPT = 30, FOUR = 4 };
static int32_t sampled[TEXTS][LONG];     /* -1 behind the end: FAKE_NAN was drawn */
static struct drafter *drafters[FOUR];

static void sample_as(struct sampler *s, uint64_t k)
{
    struct error err = { 0 };
    struct sampling how = { .temperature = k % 3 ? 2 : 0, .top_p = 1, .repeat_penalty = k % 2 ? 1 : 1.1F,
                            .repeat_last_n = 64, .seed = k };
    assert_int_equal(sampler_set(s, &how, &err), STRETTO_OK);
}

/* Text k, alone and without guesses. */
static void write_alone(uint64_t k)
{
    struct fake f;
    struct engine *e = engine_of(&f, 1, 0);
    struct error err = { 0 };
    struct writer *w = plain_writer(e, 0, 0);
    sample_as(&all[0].sampler, k);
    memset(sampled[k], -1, sizeof sampled[k]);
    for (uint32_t i = 0; i < PROMPT; i++) sampled[k][i] = (int32_t)(random_mix(k / 4 * 100 + i) % FAKE_NAN);
    engine_set(e, 0, sampled[k], PROMPT, 0);
    writer_begin(w);
    writer_limit(w, LONG, NULL, NULL);
    stretto_status s = request_run(e, &(struct request){ .seq = 0, .writer = w }, &err);
    assert_true(s == STRETTO_OK || s == STRETTO_E_NAN);
    memcpy(sampled[k], engine_tokens(e, 0), engine_known(e, 0) * sizeof *sampled[k]);
    writer_close(w);
    engine_close(e);
}

static void open_drafted(struct engine *e, const struct model *draft, struct text *x, uint64_t r)
{
    static const char *const ways[] = { "draft", "auto", "draft+jacobi", "plain" };
    unsigned source;
    struct error err = { 0 };
    struct writer_options o = { .most = 1 + (uint32_t)(r / 4 % 6), .setup = { .seed = 3 } };
    struct arena a = { .base = sampler_memory[x - all], .cap = 1 << 14 };
    assert_int_equal(engine_seq_open(e, &x->seq, &err), STRETTO_OK);
    sampler_plan(&x->sampler, &a, FAKE_VOCAB);
    sample_as(&x->sampler, 0);
    assert_int_equal(decode_parse(ways[r % 4], &o.choice, &err), STRETTO_OK);
    strategy_find("draft", 5, &source);
    if (o.choice.automatic) o.choice.strategies |= 1U << source;
    if (o.choice.strategies) {
        struct drafter **d = &drafters[x - all];
        assert_int_equal(drafter_open(d, e, draft, &x->sampler, &err), STRETTO_OK);
        o.setup.drafter = drafter_companion(*d);
    }
    assert_int_equal(writer_open(&x->writer, e, x->seq, &x->sampler, &calibration, &o, &err), STRETTO_OK);
    x->open = true;
}

static void begin_drafted(struct engine *e, struct text *x, uint64_t r)
{
    uint64_t k = r % TEXTS;
    struct error err = { 0 };
    sample_as(&x->sampler, k);
    memcpy(x->want, sampled[k], sizeof sampled[k]);
    for (x->limit = LONG; x->want[x->limit - 1] < 0;) x->limit--;
    engine_set(e, x->seq, x->want, PROMPT, CONTEXT);
    writer_begin(x->writer);
    writer_limit(x->writer, LONG, NULL, NULL);
    struct request q = { .seq = x->seq, .writer = x->writer, .ud = x, .deadline = r / TEXTS % 16 ? 0 : 1 };
    assert_int_equal(request_add(e, &q, &x->id, &err), STRETTO_OK);
    x->busy = true;
}

static void close_drafted(struct engine *e, struct text *x)
{
    if (x->busy) request_cancel(e, x->id);
    if (x->open) writer_close(x->writer);
    if (x->open) engine_seq_close(e, x->seq);
    drafter_close(drafters[x - all]);
    drafters[x - all] = NULL;
    x->open = x->busy = false;
}

static uint64_t turn_drafted(struct engine *e)
{
    struct event events[FOUR];
    struct error err = { 0 };
    size_t n;
    uint64_t done = 0;
    assert_int_equal(engine_turn(e, events, FOUR, &n, &err), STRETTO_OK);
    for (size_t i = 0; i < n; i++) {
        struct text *x = events[i].ud;
        uint32_t known = engine_known(e, x->seq);
        assert_memory_equal(engine_tokens(e, x->seq), x->want, known * sizeof *x->want);
        if (!events[i].done) continue;
        x->busy = false;
        if (events[i].error.status == STRETTO_E_CANCEL) continue;     /* its deadline */
        assert_int_equal(events[i].error.status, x->limit < LONG ? STRETTO_E_NAN : STRETTO_OK);
        assert_int_equal(known, x->limit);
        done++;
    }
    return done;
}

/* Deadlines, cancellations, a crowded pool, a draft model of a shorter context: each text is what its
 * prompt and its seed give alone. */
static void drafts_come_and_go(void **state)
{
    (void)state;
    for (uint64_t k = 0; k < TEXTS; k++) write_alone(k);
    memset(all, 0, sizeof all);
    for (uint64_t p = 0; p < 6; p++) {
        struct fake f, g;
        struct engine *e;
        struct error err = { 0 };
        struct engine_options o = { .sequences = FOUR, .pool_tokens = p % 2 ? 192 : 0,
                                    .max_rows = p % 3 ? 40 : 7 };
        uint64_t done = 0;
        assert_int_equal(engine_open(&e, fake_model(&f, CONTEXT), &o, &err), STRETTO_OK);
        const struct model *draft = fake_model(&g, p < 3 ? CONTEXT : 70);
        for (uint64_t t = 0; t < 4000; t++) {
            uint64_t r = random_mix(t * 7 + p);
            struct text *x = &all[r % FOUR];
            if (r / 4 % 16 == 0 && !x->busy) close_drafted(e, x);
            else if (r / 4 % 2 && !x->open) open_drafted(e, draft, x, r / 64);
            else if (r / 4 % 2 && !x->busy) begin_drafted(e, x, r / 64);
            else if (r / 4 % 64 == 2) close_drafted(e, x);
            done += turn_drafted(e);
            if (t % 16 == 0) check_pages(e);
        }
        for (struct text *x = all; x < all + FOUR; x++) close_drafted(e, x);
        check_pages(e);
        engine_close(e);
        assert_true(done > 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(random_programs),
                                        cmocka_unit_test(companions_share_steps),
                                        cmocka_unit_test(pages_outlive_sequences),
                                        cmocka_unit_test(refusals),
                                        cmocka_unit_test(idle_pages_go_to_who_waits),
                                        cmocka_unit_test(one_fails_alone),
                                        cmocka_unit_test(set_to_itself),
                                        cmocka_unit_test(joins_and_leaves_anywhere),
                                        cmocka_unit_test(deadlines_hold_inside_steps),
                                        cmocka_unit_test(plans_do_not_wrap),
                                        cmocka_unit_test(drafts_come_and_go) };
    calibration_init(&calibration);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
