#include "unit/unit.h"
#include "cluster/team.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

struct job { struct team *t; unsigned n; _Atomic int sum; int serial, seen[8]; };

static void count(void *p) { ((struct job *)p)->serial++; }

static void work(void *p, unsigned rank)
{
    struct job *j = p;
    for (int round = 1; round <= 100; round++) {
        atomic_fetch_add(&j->sum, 1);
        team_barrier(j->t, count, j);
        if (atomic_load(&j->sum) != round * (int)j->n) j->seen[rank]++;
        team_barrier(j->t, NULL, NULL);
    }
}

/* Also with more threads than CPUs: sleeping must not lose a wake-up. */
static void barriers_hold(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 8; n++) {
        struct error e = { 0 };
        struct job j = { .n = n };
        assert_int_equal(team_open(&j.t, &e), STRETTO_OK);
        assert_int_equal(team_grow(j.t, n, &e), STRETTO_OK);
        for (int run = 1; run <= 20; run++) {
            atomic_store(&j.sum, 0);
            team_run(j.t, n, work, &j);
            assert_int_equal(j.serial, run * 100);
        }
        for (unsigned r = 0; r < n; r++) assert_int_equal(j.seen[r], 0);
        team_close(j.t);
    }
}

static void share(void *p, unsigned rank)
{
    struct job *j = p;
    j->seen[rank]++;
    for (int round = 0; round < 10; round++) {
        while (atomic_fetch_add(&j->sum, 1) < 1000) {}
        team_barrier(j->t, count, j);
        if (rank == 0) atomic_store(&j->sum, 0);
        team_barrier(j->t, NULL, NULL);
    }
}

/* No more threads than CPUs; those left out come back for a run of all. */
static void some_of_them(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 8; n++) {
        struct error e = { 0 };
        struct job j = { .n = n };
        assert_int_equal(team_open(&j.t, &e), STRETTO_OK);
        assert_int_equal(team_grow(j.t, n, &e), STRETTO_OK);
        for (int run = 1; run <= 200; run++) {
            atomic_store(&j.sum, 0);
            j.serial = 0;
            memset(j.seen, 0, sizeof j.seen);
            team_run_some(j.t, n, share, &j);
            assert_int_equal(j.serial, 10);
            assert_int_equal(j.seen[0], 1);
            for (unsigned r = 1; r < 8; r++)
                assert_true(j.seen[r] == 0 || (j.seen[r] == 1 && r < n && r < team_cpus(NULL)));
            if (run % 3) continue;
            memset(&j.seen, 0, sizeof j.seen);
            atomic_store(&j.sum, 0);
            j.serial = 0;
            team_run(j.t, n, work, &j);
            assert_int_equal(j.serial, 100);
            for (unsigned r = 0; r < n; r++) assert_int_equal(j.seen[r], 0);
        }
        team_close(j.t);
    }
}

struct user { struct team *t; struct job job; unsigned n; int wrong; };

static void *ask_for_runs(void *p)
{
    struct user *u = p;
    struct error e = { 0 };
    u->wrong += team_grow(u->t, u->n, &e) != STRETTO_OK;
    u->job = (struct job){ .t = u->t, .n = u->n };
    for (int run = 1; run <= 50; run++) {
        atomic_store(&u->job.sum, 0);
        team_run(u->t, u->n, work, &u->job);
        u->wrong += u->job.serial != run * 100 || atomic_load(&u->job.sum) != 100 * (int)u->n;
    }
    for (unsigned r = 0; r < u->n; r++) u->wrong += u->job.seen[r] != 0;
    return NULL;
}

/* Four callers at once, who want 1 to 4 threads each and grow the team while others use it. */
static void callers_take_turns(void **state)
{
    (void)state;
    enum { USERS = 4 };
    struct team *t;
    struct error e = { 0 };
    struct user user[USERS];
    pthread_t thread[USERS];
    assert_int_equal(team_open(&t, &e), STRETTO_OK);
    for (unsigned i = 0; i < USERS; i++) {
        user[i] = (struct user){ .t = t, .n = i + 1 };
        assert_int_equal(pthread_create(&thread[i], NULL, ask_for_runs, &user[i]), 0);
    }
    for (unsigned i = 0; i < USERS; i++) pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < USERS; i++) assert_int_equal(user[i].wrong, 0);
    team_close(t);
}

static void sizes(void **state)
{
    (void)state;
    struct error e = { 0 };
    struct team *t;
    const char *why;
    assert_true(team_cpus(&why) >= 1);
    assert_non_null(why);
    assert_int_equal(team_open(&t, &e), STRETTO_OK);
    assert_int_equal(team_grow(t, TEAM_MAX + 1, &e), STRETTO_E_ARG);
    team_close(t);
}

struct nest { struct team *outer, *inner; unsigned n_outer, n_inner; _Atomic int sum; int serials; };

static void inside(void *p, unsigned rank)
{
    struct nest *x = p;
    (void)rank;
    for (int i = 0; i < 3; i++) {
        atomic_fetch_add(&x->sum, 1);
        team_barrier(x->inner, NULL, NULL);
    }
}

static void ask_inside(void *p)
{
    struct nest *x = p;
    team_run(x->inner, x->n_inner, inside, x);
    x->serials++;
}

static void outside(void *p, unsigned rank)
{
    struct nest *x = p;
    (void)rank;
    for (int i = 1; i <= 50; i++) {
        team_barrier(x->outer, ask_inside, x);
        assert_int_equal(x->serials, i);
        team_barrier(x->outer, NULL, NULL);
    }
}

/* Who runs something may ask another team, whichever of the two is alone. */
static void teams_within_teams(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 9; n++) {
        struct error e = { 0 };
        struct nest x = { .n_outer = n / 3 + 1, .n_inner = n % 3 + 1 };
        assert_int_equal(team_open(&x.outer, &e), STRETTO_OK);
        assert_int_equal(team_open(&x.inner, &e), STRETTO_OK);
        assert_int_equal(team_grow(x.outer, x.n_outer, &e), STRETTO_OK);
        assert_int_equal(team_grow(x.inner, x.n_inner, &e), STRETTO_OK);
        for (int run = 1; run <= 5; run++) {
            x.serials = 0;
            team_run(x.outer, x.n_outer, outside, &x);
            assert_int_equal(atomic_load(&x.sum), run * 50 * 3 * (int)x.n_inner);
        }
        team_close(x.outer);
        team_close(x.inner);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(barriers_hold),
                                        cmocka_unit_test(some_of_them),
                                        cmocka_unit_test(teams_within_teams),
                                        cmocka_unit_test(callers_take_turns), cmocka_unit_test(sizes) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
