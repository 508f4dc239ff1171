/* Layers that see a window only: what their pages take, and what happens when a text goes back to where
 * its pages are gone. */
#include "engine/engine_int.h"
#include "unit/engine/fake.h"

static void fill(int32_t *text, uint32_t n, uint64_t seed)
{
    for (uint32_t i = 0; i < n; i++) text[i] = (int32_t)(random_mix(seed + i) % FAKE_NAN);
}

static struct engine *open_engine(const struct fake *f, uint32_t sequences, uint32_t max_rows)
{
    struct engine *e;
    struct error err = { 0 };
    struct engine_options o = { .sequences = sequences, .max_rows = max_rows };
    assert_int_equal(engine_open(&e, &f->model, &o, &err), STRETTO_OK);
    assert_int_equal(engine_seq_open_all(e, &err), STRETTO_OK);
    return e;
}

/* Gemma 3 of 270M and of 1B, at 32,768 tokens: at most a quarter of what all layers would take for all
 * tokens, planned and touched. */
static void a_window_takes_little(void **state)
{
    (void)state;
    static const struct { uint32_t full, windowed; } models[] = { { 3, 15 }, { 4, 22 } };
    enum { CONTEXT = 32768 };
    static int32_t text[CONTEXT];
    fill(text, CONTEXT, 1);
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        struct fake f;
        struct error err = { 0 };
        struct answer last = { 0 };
        fake_model(&f, CONTEXT);
        f.model.graph.group[0] = (struct layer_group){ GROUP_FULL, models[m].full, 1, 256, 0 };
        f.model.graph.group[1] = (struct layer_group){ GROUP_WINDOW, models[m].windowed, 1, 256, 512 };
        f.model.graph.n_groups = 2;
        struct engine *e = open_engine(&f, 1, 0);
        const struct engine_info *i = engine_about(e);
        uint64_t whole = (i->group[0].page + i->group[1].page) * (CONTEXT / PAGE_SLOTS + 1);
        assert_int_equal(i->pages, i->group[0].pages + i->group[1].pages);
        assert_true(i->pages * 4 <= whole);
        assert_int_equal(engine_feed(e, 0, text, CONTEXT, WANT_BEST, &last, &err), STRETTO_OK);
        assert_int_equal(last.best, fake_next(text, CONTEXT));
        uint64_t touched = 0;
        for (uint32_t g = 0; g < 2; g++) touched += fake_program->touched[g] * i->group[g].page;
        assert_true(touched * 4 <= whole);
        assert_in_range(fake_program->touched[1], 512 / PAGE_SLOTS, i->group[1].pages / i->group[1].page);
        engine_close(e);
    }
}

/* Where the whole context does not fit, it is cut to what does: only full layers grow with it. */
static void a_context_is_cut_to_fit(void **state)
{
    (void)state;
    enum { CONTEXT = 65536 };
    for (int full = 0; full < 2; full++) {
        struct fake f;
        struct error err = { 0 };
        struct engine_info whole, cut;
        const struct engine_options o = { .sequences = 2 };
        fake_model(&f, CONTEXT);
        struct graph *g = &f.model.graph;
        g->n_groups = 0;
        if (full) g->group[g->n_groups++] = (struct layer_group){ GROUP_FULL, 3, 1, 256, 0 };
        g->group[g->n_groups++] = (struct layer_group){ GROUP_WINDOW, 15, 1, 256, 1024 };
        assert_int_equal(engine_plan(&f.model, &o, &whole, &err), STRETTO_OK);
        assert_false(whole.context_cut);
        assert_int_equal(whole.context, CONTEXT);
        for (uint64_t part = 2; part <= 5; part++) {
            fake_has = whole.pages / part * 8 / 7;         /* an eighth is left alone */
            assert_int_equal(engine_plan(&f.model, &o, &cut, &err), STRETTO_OK);
            assert_true(cut.pages <= fake_has - fake_has / 8);
            assert_true(cut.pages * 10 >= (fake_has - fake_has / 8) * (part < 5 && full ? 9 : 6));
            /* Sequences share what there is: the first thing that gives is the pool, then the context. */
            assert_true(cut.pool_tokens < whole.pool_tokens && cut.context_cut == (cut.context < CONTEXT));
        }
        fake_has = 0;
    }
}

/* No order in which sequences are read, committed or not, wants more of a window's pool than it has. */
static void windows_have_room_for_all(void **state)
{
    (void)state;
    enum { CONTEXT = 3000, SEQS = 6 };
    static int32_t text[SEQS][CONTEXT];
    static struct row rows[512];
    static struct answer answers[512];
    for (uint32_t s = 0; s < SEQS; s++) fill(text[s], CONTEXT, s * 10000);
    struct fake f;
    fake_model(&f, CONTEXT);
    fake_window(&f, 1);
    fake_window(&f, 512);
    fake_window(&f, 1000);
    struct engine *e = open_engine(&f, SEQS, 512);
    for (uint64_t t = 0, done = 0; done < SEQS; t++) {
        struct error err = { 0 };
        uint32_t n = 0, first[SEQS], count[SEQS];
        done = 0;
        for (int32_t s = 0; s < SEQS; s++) {           /* a step of several, not all of which count */
            uint32_t at = engine_length(e, s), k = (uint32_t)(random_mix(t * 8 + (uint32_t)s) % 512);
            done += at == CONTEXT;
            if (random_mix(t * 9 + (uint32_t)s) % 3 == 0) k = 0;
            if (k > CONTEXT - at) k = CONTEXT - at;
            if (k > 512 - n) k = 512 - n;
            first[s] = n;
            count[s] = k;
            for (uint32_t i = 0; i < k; i++, n++)
                rows[n] = (struct row){ s, text[s][at + i], i ? (int32_t)n - 1 : ROW_COMMITTED, 1,
                                        i + 1 == k ? WANT_BEST : 0 };
        }
        if (!n) continue;
        assert_int_equal(engine_step(e, rows, n, answers, &err), STRETTO_OK);
        for (int32_t s = 0; s < SEQS; s++) {
            uint32_t at = engine_length(e, s);
            if (count[s]) assert_int_equal(answers[first[s] + count[s] - 1].best,
                                           fake_next(text[s], at + count[s]));
            if (count[s] && random_mix(t * 7 + (uint32_t)s) % 4) engine_commit(e, s, count[s]);
        }
    }
    engine_close(e);
}

/* Reads what the cache lacks; every token's answer is right. */
static void read_again(struct engine *e, int32_t seq, const int32_t *text)
{
    static struct answer places[1000];
    struct error err = { 0 };
    uint32_t have = engine_length(e, seq), n = engine_known(e, seq);
    struct request r = { .seq = seq, .wants = WANT_BEST, .room = 1000, .places = places, .first = have };
    if (have == n) return;
    assert_int_equal(request_run(e, &r, &err), STRETTO_OK);
    for (uint32_t i = have; i < n; i++) assert_int_equal(places[i - have].best, fake_next(text, i + 1));
    assert_int_equal(engine_length(e, seq), n);
}

static void texts_go_back(void **state)
{
    (void)state;
    enum { CONTEXT = 1000, N = 900, WRITTEN = 700, WINDOW = 100 };
    static int32_t text[CONTEXT], other[CONTEXT];
    static const uint32_t cuts[] = { N, N - 1, N - WINDOW_KEPT, N - WINDOW_KEPT - 70, 400, 64, 1, 0 };
    fill(text, CONTEXT, 5);
    struct fake f;
    fake_model(&f, CONTEXT);
    fake_window(&f, WINDOW);
    for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++) {
        struct error err = { 0 };
        struct engine *e = open_engine(&f, 3, 128);
        uint32_t cut = cuts[c], far = cut >= N - WINDOW_KEPT ? cut : 0;
        assert_int_equal(engine_feed(e, 0, text, WRITTEN, 0, NULL, &err), STRETTO_OK);
        for (uint32_t i = WRITTEN; i < N; i++) {
            struct row r = { 0, text[i], ROW_COMMITTED, 0, 0 };
            assert_int_equal(engine_step(e, &r, 1, NULL, &err), STRETTO_OK);
            engine_commit(e, 0, 1);
        }
        assert_int_equal(engine_fork(e, 0, 1, cut, &err), STRETTO_OK);
        assert_int_equal(engine_length(e, 1), far);
        assert_int_equal(engine_known(e, 1), cut);
        memcpy(other, text, sizeof text);
        for (uint32_t i = cut; i < CONTEXT; i++) other[i] = (text[i] + 1) % FAKE_NAN;
        uint32_t had = engine_set(e, 2, other, cut + 50, CONTEXT);    /* begins like 0, and like 1 */
        uint32_t rest = cut % PAGE_SLOTS;              /* nobody needed pages: it is all there */
        assert_int_equal(had, rest < PREFIX_COPY ? cut - rest : cut);
        assert_int_equal(engine_reach(e, 0, cut), far);
        assert_int_equal(engine_rewind(e, 0, cut), far);
        assert_int_equal(engine_known(e, 0), cut);
        for (uint32_t i = 0; i < cut; i++)             /* roles stay, whatever is read again */
            assert_true(engine_given(e, 0, i) == (i < WRITTEN) && engine_given(e, 1, i) == (i < WRITTEN));
        for (int32_t s = 0; s < 3; s++) read_again(e, s, s == 2 ? other : text);
        assert_int_equal(engine_fork(e, 0, 1, cut + 1, &err), STRETTO_E_ARG);
        engine_close(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_window_takes_little),
                                        cmocka_unit_test(a_context_is_cut_to_fit),
                                        cmocka_unit_test(windows_have_room_for_all),
                                        cmocka_unit_test(texts_go_back) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
