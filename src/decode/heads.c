/* Heads (arXiv 2401.10774): small layers on the model's last hidden state that guess the tokens
 * after the next one, all at once. The companion runs them (engine/companion.h); their best tokens
 * are one chain. Greedy verification is exact, so nothing of the paper's "typical acceptance". */
#include "decode/strategy.h"

/* A chain ends where the chance of all of it falls below this, unless `auto` asks, which knows prices. */
static const float LEAST = 0.2F;

struct heads_state { struct companion *companion; uint32_t rows; };

static void *heads_plan(struct arena *a, const struct strategy_setup *s)
{
    struct heads_state *x = arena_take(a, sizeof *x);
    if (a->base && x) *x = (struct heads_state){ s->heads, s->rows };
    return x;
}

static stretto_status heads_open(void *state, const struct strategy_setup *s, struct error *err)
{
    (void)state;
    return s->heads ? STRETTO_OK
                    : fail(err, STRETTO_E_ARG, "'heads' needs a file of heads: --heads FILE");
}

static void heads_chain(void *state, struct guess_chain *out)
{
    struct heads_state *x = state;
    *out = (struct guess_chain){ .companion = x->companion, .depth = x->rows, .least = LEAST, .begins = true };
}

static struct guess_price heads_price(void *state, const struct timeline *t, double spend)
{
    struct heads_state *x = state;
    return x->companion->price(x->companion->ud, t, spend);
}

extern const struct strategy strategy_heads;
const struct strategy strategy_heads = {
    .name = "heads",
    .what = "heads on the model's last hidden state guess",
    .paper = "Medusa, arXiv 2401.10774",
    .prior = { 0.05F, 0.10F, 0.15F, 0.20F, 0.26F, 0.32F, 0.38F, 0.44F, 0.50F, 0.56F, 0.62F, 0.68F,
               0.74F, 0.80F, 0.86F, 0.92F },
    .plan = heads_plan,
    .open = heads_open,
    .chain = heads_chain,
    .price = heads_price,
};
