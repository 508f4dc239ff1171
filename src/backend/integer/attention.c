/* Attention in integers. For one row and one head of keys and values: scores of all that the row sees, their
 * largest, 2 to the power of the differences, and sums in 64 bits. Nothing depends on an order, so there are no
 * blocks to agree on; a row of a guess tree looks its ancestors' slots up. */
#include "backend/integer/integer.h"
#include <string.h>

enum { SCORE_Q = 16 };                 /* scores, in powers of 2: within +-32768, others are that */

static struct kept kept_at(const struct program *p, const struct graph_node *n, size_t seq, int32_t slot, uint32_t head)
{
    uint32_t group = n->attention.group;
    return kept_of(p, group, step_page(p->step, group, seq, slot / PAGE_SLOTS), n->attention.member, head);
}

void heads_store(const struct program *p, const struct row_instr *r, size_t row)
{
    const struct graph_node *n = r->node;
    struct row k = row_at(&p->place[r->in], row), v = row_at(&p->place[r->in2], row);
    size_t hd = n->attention.head_dim, j = (size_t)(p->step->slot[row] % PAGE_SLOTS);
    for (uint32_t h = 0; h < n->attention.kv_heads; h++) {
        struct kept to = kept_at(p, n, (size_t)p->step->seq[row], p->step->slot[row], h);
        to.k[j] = row_codes(k.x + h * hd, *k.e, hd, to.k_code + j * hd);
        to.v[j] = row_codes(v.x + h * hd, *v.e, hd, to.v_code + j * hd);
    }
}

struct window { int32_t lo, hi; };     /* positions that a row sees */

static struct window sees(const struct program *p, const struct graph_node *n, size_t row)
{
    const struct step_seq *seq = &p->step->seqs[p->step->seq[row]];
    int32_t at = p->step->position[row], w = (int32_t)n->attention.window;
    if (!n->attention.causal) return (struct window){ 0, seq->committed + seq->n_rows };
    return (struct window){ w && at + 1 > w ? at + 1 - w : 0, at + 1 };
}

/* slot[t - lo] of position t: the row's chain of parents, and t itself before it. */
static void find_slots(const struct program *p, size_t row, struct window w, int32_t *slot)
{
    const struct step *s = p->step;
    for (int32_t t = w.lo; t < w.hi; t++) slot[t - w.lo] = t;
    if (!s->seqs[s->seq[row]].tree) return;
    for (int32_t r = (int32_t)row; r >= 0 && s->position[r] >= w.lo; r = s->parent[r])
        slot[s->position[r] - w.lo] = s->slot[r];
}

/* A score in Q16 powers of 2, from a sum of products of codes and their scale. */
static int32_t score_of(int32_t sum, struct scale by, const struct numbers *c, bool capped)
{
    int64_t x = (int64_t)sum * by.m;                                                      /* 2^62 */
    if (!capped) return (int32_t)to_q(x, by.e, SCORE_Q, INT32_MAX);
    x = round_shift(softcap_of(round_shift(x, 32), by.e + 32, c->cap, c->of_cap), 32);    /* 2^30 */
    return (int32_t)to_q(x * LOG2E_Q30, c->cap.e - 31 + 32 - 30, SCORE_Q, INT32_MAX);
}

/* Scores against every key in the window; false: one of them is no number. */
static bool scores(const struct program *p, const struct graph_node *n, size_t row, uint32_t head, struct window w,
                   struct scale query, const struct scratch *s, int32_t *most, int32_t *exponent)
{
    const struct numbers *c = &p->numbers[n - p->g->nodes];
    size_t hd = n->attention.head_dim, seq = (size_t)p->step->seq[row];
    struct scale by = scale_mul(query, c->by);
    *most = INT32_MIN;
    *exponent = EXPONENT_ZERO;
    for (int32_t t = 0; t < w.hi - w.lo; t++) {
        size_t j = (size_t)(s->slot[t] % PAGE_SLOTS);
        struct kept x = kept_at(p, n, seq, s->slot[t], head);
        const int8_t *k = x.k_code + j * hd;
        int32_t sum = 0;
        if (x.k[j].e == EXPONENT_NAN || x.v[j].e == EXPONENT_NAN) return false;
        for (size_t i = 0; i < hd; i++) sum += s->query[i] * k[i];
        s->score[t] = score_of(sum, scale_mul(by, x.k[j]), c, n->attention.softcap > 0);
        if (s->score[t] > *most) *most = s->score[t];
        if (x.v[j].e > *exponent) *exponent = x.v[j].e;
    }
    return true;
}

/* s->acc[i] * 2^e: values, weighed. A weight is Q31 times the value's scale, in units of 2^e. The sum of weights is
 * 2^31 or more, because the largest is 1. */
static uint64_t weigh(const struct program *p, const struct graph_node *n, size_t row, uint32_t head, struct window w,
                      const struct scratch *s, int32_t most, int32_t e)
{
    size_t hd = n->attention.head_dim, seq = (size_t)p->step->seq[row];
    uint64_t sum = 0;
    memset(s->acc, 0, hd * sizeof *s->acc);
    for (int32_t t = 0; t < w.hi - w.lo; t++) {
        uint32_t under = (uint32_t)most - (uint32_t)s->score[t];
        uint32_t share = under >> (SCORE_Q + 8) ? 0 : exp2_neg(under << (24 - SCORE_Q));
        if (!share) continue;
        sum += share;
        size_t j = (size_t)(s->slot[t] % PAGE_SLOTS);
        struct kept x = kept_at(p, n, seq, s->slot[t], head);
        const int8_t *v = x.v_code + j * hd;
        int64_t by = round_shift((int64_t)share * x.v[j].m, 31 + e - x.v[j].e);            /* 2^62, then 2^31 */
        for (size_t i = 0; i < hd; i++) s->acc[i] += by * v[i];        /* 2^38 each, of at most 2^24 */
    }
    return sum;
}

static void query_item(const struct program *p, const struct graph_node *n, size_t row, uint32_t head, uint32_t q,
                       struct window w, struct scratch *s)
{
    size_t hd = n->attention.head_dim;
    struct row in = row_at(&p->place[node_in(p->g, n, 0)], row), to = row_at(&p->place[n->out], row);
    struct row mine = { to.x + q * hd, &p->head_e[row * p->most_heads + q] };
    struct scale query = row_codes16(in.x + q * hd, *in.e, hd, s->query);
    int32_t most, e;
    if (query.e == EXPONENT_NAN || !scores(p, n, row, head, w, query, s, &most, &e)) {
        row_nan(hd, mine);
        return;
    }
    uint64_t sum = weigh(p, n, row, head, w, s, most, e);
    int by = bits_of(sum) - 32;                    /* sum has 32 bits or more */
    struct scale inverse = scale_ratio((uint32_t)1 << 31, (uint32_t)(sum >> by), -31 - by);
    row_settle(s->acc, hd, e + 31, mine);
    if (*mine.e == EXPONENT_NAN) return;
    for (size_t i = 0; i < hd; i++) s->acc[i] = (int64_t)mine.x[i] * inverse.m;            /* 2^61 */
    row_settle(s->acc, hd, *mine.e + inverse.e, mine);
}

void heads_attend(const struct program *p, const struct phase *ph, size_t row, uint32_t head, struct scratch *s)
{
    const struct graph_node *n = ph->node;
    uint32_t group = n->attention.heads / n->attention.kv_heads;
    struct window w = sees(p, n, row);
    find_slots(p, row, w, s->slot);
    for (uint32_t i = 0; i < group; i++) query_item(p, n, row, head, head * group + i, w, s);
}

void heads_join(const struct program *p, const struct phase *ph, size_t row)
{
    const struct graph_node *n = ph->node;
    size_t hd = n->attention.head_dim;
    const int32_t *e = p->head_e + row * p->most_heads;
    struct row to = row_at(&p->place[n->out], row);
    int32_t most = EXPONENT_ZERO;
    for (uint32_t h = 0; h < n->attention.heads; h++) most = e[h] > most ? e[h] : most;
    *to.e = most;
    if (most == EXPONENT_NAN) row_nan(n->attention.heads * hd, to);
    for (uint32_t h = 0; h < n->attention.heads && most != EXPONENT_NAN; h++)
        for (size_t i = 0; i < hd && e[h] != most; i++)
            to.x[h * hd + i] = (int32_t)round_shift(to.x[h * hd + i], most - e[h]);
}
