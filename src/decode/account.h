/* The account that an engine keeps of guessing, for all texts of its steps together: what steps took in which guesses
 * were allowed, and what the tokens that came of them had taken without. Where that is more, nobody guesses for a
 * while, so that guessing is never slower, whatever the controllers believe (controller.h): time that is not in a step,
 * and beliefs that are wrong, show here. A step now and then is made without guesses, to know what those take. */
#ifndef DECODE_ACCOUNT_H
#define DECODE_ACCOUNT_H
#include <stdbool.h>
#include <stdint.h>

struct guess_account {
    double with, without;              /* seconds of steps with, of their tokens without; older ones fade */
    double bare, bare_told;            /* seconds of steps without, and what was foretold of them         */
    uint32_t steps, bares;             /* how many of each, since guessing began again; since ever        */
    uint32_t rest, pause, since;       /* steps that nobody guesses; as last time; since one without      */
};

/* Before a step: whether guesses are allowed in it. */
bool account_allows(struct guess_account *a);
/* After it: seconds in all, those that were foretold for what was sent, and for its tokens if nobody had guessed. */
void account_add(struct guess_account *a, bool allowed, double seconds, double told, double without);
#endif
