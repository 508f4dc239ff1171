/* Speculative decoding with a draft model (arXiv 2211.17192, 2302.01318): a smaller model writes a
 * few tokens, the model verifies them in one step. Nothing is accepted or rejected by chance: the
 * draft model draws with the noise of the same seed and positions as the model will (sampler.h), so
 * its guess is right when it is the very token that plain decoding writes. It stops where one more
 * does not pay; how sure it was is the class of each guess. */
#include "decode/strategy.h"

/* Where nobody weighs its time, chains less likely than this are not worth it. */
static const float LEAST = 0.25F;

struct draftmodel { struct companion *companion; uint32_t rows; };

void chain_begin(struct guess_chain *c, const struct proposal *p)
{
    if (c->depth > p->tree->deepest) c->depth = p->tree->deepest;
    if (c->depth > TREE_ROWS) c->depth = TREE_ROWS;
    c->k = 0;
    c->parent = TREE_ROOT;
    c->path = 1;
    c->open = true;
}

stretto_status chain_ask(struct guess_chain *c, const struct timeline *t, const struct proposal *p,
                         struct error *err)
{
    c->open = c->open && c->k < c->depth && (!c->k || !p->stop || c->path >= p->stop[c->k]);
    return c->open ? c->companion->ask(c->companion->ud, t, c->k, p->spend, err) : STRETTO_OK;
}

stretto_status chain_take(struct guess_chain *c, const struct proposal *p, struct error *err)
{
    int32_t token;
    float sure;
    c->open = false;
    TRY(c->companion->take(c->companion->ud, c->k++, &token, &sure, err));
    float b = sure * CONFIDENCE_BUCKETS;
    unsigned bucket = b < 1 ? 0 : b < CONFIDENCE_BUCKETS ? (unsigned)b : CONFIDENCE_BUCKETS - 1;
    c->path *= p->p_of_bucket[bucket];
    bool likely = p->stop || c->path >= c->least || (c->begins && c->k == 1);
    if (token < 0 || !likely) return STRETTO_OK;
    c->parent = propose_token(p, c->parent, token, bucket, false);
    c->open = c->parent != TREE_FULL;
    return STRETTO_OK;
}

static void *draftmodel_plan(struct arena *a, const struct strategy_setup *s)
{
    struct draftmodel *x = arena_take(a, sizeof *x);
    if (a->base && x) *x = (struct draftmodel){ s->drafter, s->rows };
    return x;
}

static stretto_status draftmodel_open(void *state, const struct strategy_setup *s,
                                      struct error *err)
{
    (void)state;
    return s->drafter ? STRETTO_OK
                      : fail(err, STRETTO_E_ARG, "'draft' needs a draft model: -md MODEL");
}

static void draftmodel_chain(void *state, struct guess_chain *out)
{
    struct draftmodel *x = state;
    *out = (struct guess_chain){ .companion = x->companion, .depth = x->rows, .least = LEAST };
}

static struct guess_price draftmodel_price(void *state, const struct timeline *t, double spend)
{
    struct draftmodel *x = state;
    return x->companion->price(x->companion->ud, t, spend);
}

extern const struct strategy strategy_draft;
const struct strategy strategy_draft = {
    .name = "draft",
    .what = "a second, smaller model guesses",
    .paper = "speculative decoding, arXiv 2211.17192 and 2302.01318",
    .prior = { 0.05F, 0.10F, 0.15F, 0.20F, 0.26F, 0.32F, 0.38F, 0.44F, 0.50F, 0.56F, 0.62F, 0.68F,
               0.74F, 0.80F, 0.86F, 0.94F },
    .plan = draftmodel_plan,
    .open = draftmodel_open,
    .chain = draftmodel_chain,
    .price = draftmodel_price,
};
