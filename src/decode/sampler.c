#include "decode/sampler.h"
#include "base/random.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct candidate { float logit; int32_t id; };

void sampler_plan(struct sampler *s, struct arena *a, uint32_t vocab)
{
    s->vocab = vocab;
    s->counts = arena_take(a, vocab * sizeof *s->counts);
    s->list = arena_take(a, vocab * sizeof *s->list);
    if (a->base && s->counts) memset(s->counts, 0, vocab * sizeof *s->counts);
}

stretto_status sampler_set(struct sampler *s, const struct sampling *how, struct error *err)
{
    if (!(how->temperature >= 0) || !isfinite(how->temperature))
        return fail(err, STRETTO_E_ARG, "temperature %g is not a number from 0 up",
                    (double)how->temperature);
    if (!(how->top_p >= 0 && how->top_p <= 1) || !(how->min_p >= 0 && how->min_p <= 1))
        return fail(err, STRETTO_E_ARG, "top-p and min-p are numbers from 0 to 1");
    if (!(how->repeat_penalty > 0))
        return fail(err, STRETTO_E_ARG, "the repetition penalty is a number above 0 (1 is none)");
    for (size_t i = 0; i < how->n_bias; i++)
        if (how->bias[i].token < 0 || (uint32_t)how->bias[i].token >= s->vocab ||
            isnan(how->bias[i].add))
            return fail(err, STRETTO_E_ARG,
                        "logit bias for token %d; the vocabulary has ids 0 to %u",
                        how->bias[i].token, s->vocab - 1);
    s->how = *how;
    return STRETTO_OK;
}

static bool penalises(const struct sampling *h)
{
    return h->repeat_penalty != 1 || h->presence_penalty != 0 || h->frequency_penalty != 0;
}

bool sampler_is_greedy(const struct sampler *s)
{
    return s->how.temperature == 0 && s->how.n_bias == 0 && !penalises(&s->how);
}

static void penalise(struct sampler *s, float *logits, const int32_t *history, size_t n)
{
    const struct sampling *h = &s->how;
    size_t from =
        h->repeat_last_n >= 0 && (size_t)h->repeat_last_n < n ? n - (size_t)h->repeat_last_n : 0;
    for (size_t i = from; i < n; i++) {
        uint16_t *c = &s->counts[history[i]];
        if (*c < UINT16_MAX) ++*c;
    }
    for (size_t i = from; i < n; i++) {
        int32_t t = history[i];
        if (!s->counts[t]) continue;                       /* done at an earlier occurrence */
        float *x = &logits[t];
        *x = *x > 0 ? *x / h->repeat_penalty : *x * h->repeat_penalty;
        *x -= (float)s->counts[t] * h->frequency_penalty + h->presence_penalty;
        s->counts[t] = 0;
    }
}

/* Larger logits first, ties to the lower id. */
static int by_logit(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static bool better(struct candidate a, struct candidate b) { return by_logit(&a, &b) < 0; }

static void sift(struct candidate *h, size_t n, size_t i)
{
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= n) return;
        if (c + 1 < n && better(h[c], h[c + 1])) c++;
        if (!better(h[i], h[c])) return;
        struct candidate t = h[i];
        h[i] = h[c];
        h[c] = t;
        i = c;
    }
}

/* The k best of the logits, sorted, in a heap whose root is the worst kept. */
static size_t select_best(const float *logits, uint32_t vocab, size_t k, struct candidate *list)
{
    if (k == 0 || k > vocab) k = vocab;
    size_t n = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        struct candidate c = { logits[i], (int32_t)i };
        if (n < k) {
            list[n++] = c;
            if (n == k && k < vocab) for (size_t j = n / 2; j-- > 0;) sift(list, n, j);
        } else if (better(c, list[0])) {
            list[0] = c;
            sift(list, n, 0);
        }
    }
    qsort(list, n, sizeof *list, by_logit);
    return n;
}

/* Keeps the shortest head of the sorted list whose probability reaches top_p, then what is at least
 * min_p times as likely as the best. */
static size_t cut_tail(const struct sampling *h, const struct candidate *list, size_t n)
{
    double total = 0, sum = 0;
    if (h->top_p < 1) {
        for (size_t i = 0; i < n; i++) total += exp((double)list[i].logit - (double)list[0].logit);
        for (size_t i = 0; i < n; i++) {
            sum += exp((double)list[i].logit - (double)list[0].logit) / total;
            if (sum >= (double)h->top_p) n = i + 1;
        }
    }
    if (h->min_p > 0) {
        double least = (double)list[0].logit + log((double)h->min_p);
        while (n > 1 && (double)list[n - 1].logit < least) n--;
    }
    return n;
}

stretto_status sampler_pick(struct sampler *s, float *logits, const int32_t *history, size_t n,
                            int32_t *token, struct error *err)
{
    const struct sampling *h = &s->how;
    *token = -1;
    for (uint32_t i = 0; i < s->vocab; i++)
        if (isnan(logits[i])) return fail(err, STRETTO_E_NAN, "the model's logits are not numbers");
    if (penalises(h)) penalise(s, logits, history, n);
    for (size_t i = 0; i < h->n_bias; i++) logits[h->bias[i].token] += h->bias[i].add;
    if (h->temperature == 0) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < s->vocab; i++) if (logits[i] > logits[best]) best = i;
        *token = (int32_t)best;
        return STRETTO_OK;
    }
    size_t kept = cut_tail(h, s->list, select_best(logits, s->vocab, h->top_k, s->list));
    double best = 0;
    for (size_t i = 0; i < kept; i++) {
        double u = random_unit(random_at(h->seed, h->choice, n, (uint64_t)s->list[i].id));
        double v = (double)s->list[i].logit / (double)h->temperature - log(-log(u));
        if (*token < 0 || v > best) {
            best = v;
            *token = s->list[i].id;
        }
    }
    return STRETTO_OK;
}
