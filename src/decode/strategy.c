#include "decode/strategy.h"
#include "base/buffer.h"
#include <stdio.h>
#include <string.h>

extern const struct strategy strategy_jacobi, strategy_lookup, strategy_suffix, strategy_recycle,
    strategy_lookahead, strategy_draft, strategy_heads;

/* A strategy is a file and a row here. */
const struct strategy *const strategies[] = {
    &strategy_jacobi, &strategy_lookup, &strategy_suffix, &strategy_recycle,
    &strategy_lookahead, &strategy_draft, &strategy_heads, NULL,
};
_Static_assert(sizeof strategies / sizeof *strategies <= DRAFT_SOURCES + 1, "a source is 3 bits");

const struct strategy *strategy_find(const char *name, size_t length, unsigned *source)
{
    for (unsigned s = 0; strategies[s]; s++)
        if (strlen(strategies[s]->name) == length &&
            memcmp(strategies[s]->name, name, length) == 0) {
            if (source) *source = s;
            return strategies[s];
        }
    return NULL;
}

static stretto_status unknown(const char *word, size_t length, struct error *err)
{
    char names[200] = "";
    for (unsigned s = 0; strategies[s]; s++) {
        size_t at = strlen(names);
        snprintf(names + at, sizeof names - at, ", %s", strategies[s]->name);
    }
    return fail(err, STRETTO_E_ARG,
                "there is no way of decoding called '%.*s': take auto, plain%s, or several joined "
                "by +",
                (int)(length < 40 ? length : 40), word, names);
}

stretto_status decode_parse(const char *words, struct decode_choice *out, struct error *err)
{
    struct decode_choice c = { 0 };
    for (const char *at = words;; at++) {
        size_t n = strcspn(at, "+");
        unsigned source = 0;
        if (n == 4 && memcmp(at, "auto", 4) == 0) {
            c.automatic = true;
            for (unsigned s = 0; strategies[s]; s++)
                c.sources |= (uint32_t)strategies[s]->automatic << s;
        } else if (strategy_find(at, n, &source)) {
            c.sources |= 1u << source;
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
    int32_t i = draft_add(p->draft, parent, token, p->source, bucket, p->p_of_bucket[bucket]);
    if (i >= 0 && wanted && !p->automatic) p->draft->node[i].wanted = true;
    return i;
}
