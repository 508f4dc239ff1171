#include "decode/sampler.h"
#include "base/random.h"
#include <math.h>
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
    if (!isfinite(how->presence_penalty) || !isfinite(how->frequency_penalty))
        return fail(err, STRETTO_E_ARG, "presence and frequency penalties are finite numbers");
    if (!(how->repeat_penalty > 0) || !isfinite(how->repeat_penalty))
        return fail(err, STRETTO_E_ARG, "the repetition penalty is a number above 0 (1 is none)");
    for (size_t i = 0; i < how->n_bias; i++)
        if (isnan(how->bias[i].add))
            return fail(err, STRETTO_E_ARG, "the logit bias for token %d is no number",
                        how->bias[i].token);
        else if (how->bias[i].token < 0 || (uint32_t)how->bias[i].token >= s->vocab)
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
static bool better(struct candidate a, struct candidate b)
{
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

/* A heap whose root is the best, or the worst, of all. */
static void sift(struct candidate *h, size_t n, size_t i, bool best)
{
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= n) return;
        if (c + 1 < n && better(h[c + 1], h[c]) == best) c++;
        if (better(h[i], h[c]) == best) return;
        struct candidate t = h[i];
        h[i] = h[c];
        h[c] = t;
        i = c;
    }
}

static void heap(struct candidate *h, size_t n, bool best)
{
    for (size_t i = n / 2; i-- > 0;) sift(h, n, i, best);
}

/* The k best of the logits, in no order; 0 where one of them is no number. */
static size_t select_best(const float *logits, uint32_t vocab, size_t k, struct candidate *list)
{
    if (k == 0 || k > vocab) k = vocab;
    for (uint32_t i = 0; i < k; i++) {
        if (isnan(logits[i])) return 0;
        list[i] = (struct candidate){ logits[i], (int32_t)i };
    }
    if (k < vocab) heap(list, k, false);
    for (uint32_t i = (uint32_t)k; i < vocab; i++) {
        if (logits[i] <= list[0].logit) continue;   /* a tie is the lower id's */
        if (isnan(logits[i])) return 0;
        list[0] = (struct candidate){ logits[i], (int32_t)i };
        sift(list, k, 0, false);
    }
    return k;
}

static size_t best_of(const struct candidate *list, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) if (better(list[i], list[best])) best = i;
    return best;
}

/* Keeps the fewest of the best whose probability reaches top_p, then what is at least min_p times as
 * likely as the best; they stand at the front, in no order. */
static size_t cut_tail(const struct sampling *h, struct candidate *list, size_t n)
{
    float top = list[best_of(list, n)].logit;
    if (h->top_p < 1) {
        double total = 0, sum = 0;
        for (size_t i = 0; i < n; i++) total += exp((double)list[i].logit - (double)top);
        heap(list, n, true);
        size_t left = n;                    /* taken from the heap one by one, to behind it */
        do {
            struct candidate c = list[0];
            list[0] = list[--left];
            list[left] = c;
            sift(list, left, 0, true);
            sum += exp((double)c.logit - (double)top) / total;
        } while (left && sum < (double)h->top_p);
        memmove(list, list + left, (n - left) * sizeof *list);
        n -= left;
    }
    if (h->min_p > 0) {
        double least = (double)top + log((double)h->min_p);
        size_t kept = 0;
        for (size_t i = 0; i < n; i++)
            if (list[i].logit == top || (double)list[i].logit >= least) list[kept++] = list[i];
        n = kept;
    }
    return n;
}

/* The arg-max of logit / temperature + Gumbel noise, -log(-log u). As -log u >= 1 - u, the noise is
 * at most -log(1 - u), which the leading zeros of 1 - u bound: hardly any of a large vocabulary
 * needs its logarithms. */
static int32_t draw(const struct sampling *h, const struct candidate *list, size_t n, size_t position)
{
    struct candidate chosen = list[best_of(list, n)];
    double best = -INFINITY;
    for (size_t i = 0; i <= n; i++) {       /* the likeliest first: it sets the bound; then all */
        struct candidate c = i ? list[i - 1] : chosen;
        uint64_t bits = random_at(h->seed, h->choice, position, (uint64_t)c.id);
        uint64_t rest = ~bits >> 11;        /* 1 - u in units of 2^-53, rounded down */
        double x = (double)c.logit / (double)h->temperature;
        if (rest && x + (double)(__builtin_clzll(rest) - 10) * 0.6931472 + 1e-6 < best) continue;
        double v = x - log(-log(random_unit(bits)));
        if (v > best || (v == best && better(c, chosen))) {
            best = v;
            chosen = c;
        }
    }
    return chosen.id;
}

stretto_status sampler_pick(struct sampler *s, float *logits, const int32_t *history, size_t n,
                            int32_t *token, struct error *err)
{
    const struct sampling *h = &s->how;
    *token = -1;
    if (penalises(h)) penalise(s, logits, history, n);
    for (size_t i = 0; i < h->n_bias; i++) logits[h->bias[i].token] += h->bias[i].add;
    size_t kept = select_best(logits, s->vocab, h->temperature > 0 ? h->top_k : 1, s->list);
    if (!kept) return fail(err, STRETTO_E_NAN, "the model's logits are not numbers");
    s->kept = h->temperature > 0 ? cut_tail(h, s->list, kept) : 1;
    *token = h->temperature > 0 ? draw(h, s->list, s->kept, n) : s->list[0].id;
    return STRETTO_OK;
}

void sampler_score(const struct sampler *s, int32_t token, uint32_t n_top, struct token_logprobs *out)
{
    const struct sampling *h = &s->how;
    struct candidate top[LOGPROBS_MOST];
    uint32_t k = 0;
    *out = (struct token_logprobs){ .id = token };
    if (!(h->temperature > 0)) {
        out->n_top = n_top > 0;
        out->top[0].id = token;
        return;
    }
    double most = (double)s->list[best_of(s->list, s->kept)].logit, sum = 0, own = -INFINITY;
    for (size_t i = 0; i < s->kept; i++) {
        struct candidate c = s->list[i];
        double x = ((double)c.logit - most) / (double)h->temperature;
        sum += exp(x);
        if (c.id == token) own = x;
        if (k == n_top && (!k || !better(c, top[k - 1]))) continue;
        uint32_t at = k < n_top ? k++ : k - 1;
        for (; at && better(c, top[at - 1]); at--) top[at] = top[at - 1];
        top[at] = c;
    }
    out->logprob = (float)(own - log(sum));
    for (out->n_top = 0; out->n_top < k; out->n_top++) {
        double x = ((double)top[out->n_top].logit - most) / (double)h->temperature;
        out->top[out->n_top].id = top[out->n_top].id;
        out->top[out->n_top].logprob = (float)(x - log(sum));
    }
}
