#include "decode/account.h"

enum { CONTROL = 64, MEMORY = 200, BARE_MEMORY = 256, SURE = 4, FIRST = 16, REST = 50, REST_MOST = 800 };
static const double MARGIN = 1.02, GRACE = 2, OUTLIER = 3, SLOW_MOST = 4;

bool account_allows(struct guess_account *a)
{
    if (a->rest) {
        a->rest--;
        return false;
    }
    if (++a->since < CONTROL) return true;
    a->since = 0;
    return false;
}

static void fade(double *sum, double x, double memory) { *sum += x - *sum / memory; }

/* How much slower steps are than foretold, those in which nobody guesses. */
static double slowness(const struct guess_account *a)
{
    double slow = a->bares >= SURE && a->bare_told > 0 ? a->bare / a->bare_told : 1;
    return slow > SLOW_MOST ? SLOW_MOST : slow < 1 / SLOW_MOST ? 1 / SLOW_MOST : slow;
}

void account_add(struct guess_account *a, bool allowed, double seconds, double told, double without)
{
    if (!(told > 0) || !(without > 0)) return;
    if (seconds > OUTLIER * told) seconds = OUTLIER * told;      /* a stolen core is nobody's fault */
    if (!allowed) {
        fade(&a->bare, seconds, BARE_MEMORY);
        fade(&a->bare_told, told, BARE_MEMORY);
        a->bares++;
        return;
    }
    fade(&a->with, seconds, MEMORY);
    fade(&a->without, without, MEMORY);
    a->steps++;
    double step = a->without / (a->steps < MEMORY ? a->steps : MEMORY);
    double lost = a->with - MARGIN * slowness(a) * a->without;
    if (a->steps >= FIRST && lost > GRACE * step) {
        a->pause = !a->pause ? REST : a->pause < REST_MOST / 2 ? 2 * a->pause : REST_MOST;
        a->rest = a->pause;
        a->with = a->without = 0;
        a->steps = 0;
    } else if (a->steps >= MEMORY && lost < -GRACE * step) a->pause = 0;
}
