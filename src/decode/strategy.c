#include "decode/strategy.h"
#include "base/buffer.h"
#include "base/random.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* A strategy is a file and a row here; its number is its place. */
#define STRATEGIES(X) X(jacobi) X(lookup) X(suffix) X(recycle) X(lookahead) X(draft) X(heads) X(gated)

#define DECLARED(name) extern const struct strategy strategy_##name;
STRATEGIES(DECLARED)
#define ROW(name) &strategy_##name,
const struct strategy *const strategies[] = { STRATEGIES(ROW) NULL };
_Static_assert(sizeof strategies / sizeof *strategies <= STRATEGIES_MOST + 1, "a strategy is 3 bits");

const struct strategy *strategy_find(const char *name, size_t length, unsigned *strategy)
{
    for (unsigned s = 0; strategies[s]; s++)
        if (strlen(strategies[s]->name) == length &&
            memcmp(strategies[s]->name, name, length) == 0) {
            if (strategy) *strategy = s;
            return strategies[s];
        }
    return NULL;
}

uint32_t strategy_bit(const char *name)
{
    unsigned s = 0;
    return strategy_find(name, strlen(name), &s) ? 1U << s : 0;
}

void strategy_names(char *out, size_t room)
{
    size_t at = (size_t)snprintf(out, room, "auto, plain");
    for (unsigned s = 0; strategies[s] && at < room; s++)
        at += (size_t)snprintf(out + at, room - at, ", %s", strategies[s]->name);
}

static stretto_status unknown(const char *word, size_t length, struct error *err)
{
    char words[200];
    strategy_names(words, sizeof words);
    return fail(err, STRETTO_E_ARG,
                "there is no decoding strategy '%.*s': take %s, or several joined by +",
                (int)(length < 40 ? length : 40), word, words);
}

stretto_status decode_parse(const char *words, struct decode_choice *out, struct error *err)
{
    struct decode_choice c = { 0 };
    for (const char *at = words;; at++) {
        size_t n = strcspn(at, "+");
        unsigned strategy = 0;
        if (n == 4 && memcmp(at, "auto", 4) == 0) {
            c.automatic = true;
            for (unsigned s = 0; strategies[s]; s++)
                c.strategies |= (uint32_t)strategies[s]->automatic << s;
        } else if (strategy_find(at, n, &strategy)) {
            c.strategies |= 1u << strategy;
        } else if (n != 5 || memcmp(at, "plain", 5) != 0) {
            return unknown(at, n, err);
        } else if (strcmp(words, "plain") != 0) {
            return fail(err, STRETTO_E_ARG, "plain decoding does not guess: it is joined with nothing");
        }
        at += n;
        if (!*at) break;
    }
    *out = c;
    return STRETTO_OK;
}

int32_t propose_token(const struct proposal *p, int32_t parent, int32_t token, unsigned bucket,
                      bool wanted)
{
    int32_t i = tree_add(p->tree, parent, token, p->strategy, bucket, p->p_of_bucket[bucket]);
    if (i >= 0 && wanted && !p->automatic) p->tree->node[i].wanted = true;
    return i;
}

enum { LOOK_BACK = 8 };

int32_t stopgap_token(const struct timeline *t, const int32_t *guess, uint32_t k, uint64_t seed)
{
    int32_t text[LOOK_BACK + TREE_ROWS];
    uint32_t n = 0, from = t->n > LOOK_BACK ? t->n - LOOK_BACK : 0;
    struct ngram_match m;
    for (uint32_t i = from; i < t->n; i++) text[n++] = t->tokens[i];
    for (uint32_t i = 0; i < k; i++) text[n++] = guess[i];
    if (ngram_find(t->index, text, n, &m, 1)) return ngram_at(t->index, m.place);
    return t->tokens[random_at(seed, 0, t->n, k) % t->n];
}

float top_probability(const struct step_top *top, int32_t token)
{
    float sum = 0, own = 0;
    for (int i = 0; i < STEP_TOP && top->id[i] >= 0; i++) {
        float e = expf(top->logit[i] - top->logit[0]);
        sum += e;
        if (top->id[i] == token) own = e;
    }
    return sum > 0 ? own / sum : 0;
}
