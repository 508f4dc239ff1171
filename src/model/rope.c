/* Rotary positions and their scalings, folded into one factor per angle.
 *   RoPE arXiv 2104.09864; linear interpolation arXiv 2306.15595; YaRN arXiv 2309.00071;
 *   llama3: the piecewise scaling of Llama 3.1, in GGUF already divided out as rope_freqs.weight.
 */
#include "format/source.h"
#include "model/family.h"
#include <math.h>
#include <string.h>

static const double two_pi = 6.283185307179586476925286766559;

static double real_or(const struct source *s, const char *key, double fallback)
{
    double v;
    return source_f64(s, key, &v) && isfinite(v) ? v : fallback;
}

/* The dimension whose wavelength makes `turns` turns in the original context (YaRN eq. 17 solved).
 */
static double yarn_dim(double turns, uint32_t n_rot, double base, double original)
{
    return n_rot * log(original / (turns * two_pi)) / (2 * log(base));
}

static void yarn(struct rope_table *t, double factor, double original, const struct source *s)
{
    uint32_t half = t->n_rot / 2;
    double fast = real_or(s, ".rope.scaling.yarn_beta_fast", 32);
    double slow = real_or(s, ".rope.scaling.yarn_beta_slow", 1);
    double lo = fmax(0, floor(yarn_dim(fast, t->n_rot, t->base, original)));
    double hi = fmin(t->n_rot - 1, ceil(yarn_dim(slow, t->n_rot, t->base, original)));
    for (uint32_t i = 0; i < half; i++) {
        double ramp = fmin(1, fmax(0, (i - lo) / fmax(0.001, hi - lo)));     /* 1: interpolate */
        t->factor[i] = (float)(ramp / factor + (1 - ramp));
    }
    /* GGUF's factor comes on top of the usual magnitude (llama.cpp multiplies them). */
    t->magnitude = (float)((0.1 * log(factor) + 1) * real_or(s, ".rope.scaling.attn_factor", 1));
}

static void llama3(struct rope_table *t, double factor, double original, const struct source *s)
{
    double low = real_or(s, ".rope.scaling.low_freq_factor", 1);
    double high = real_or(s, ".rope.scaling.high_freq_factor", 4);
    for (uint32_t i = 0; i < t->n_rot / 2; i++) {
        double turns = original / (two_pi / pow(t->base, -2.0 * i / t->n_rot));
        double smooth = fmin(1, fmax(0, (turns - low) / (high - low)));
        t->factor[i] = (float)((1 - smooth) / factor + smooth);
    }
}

stretto_status rope_read(struct rope_table *t, const struct config *c, double base, bool scaled,
                         const struct source *s, struct error *err)
{
    if (c->n_rot / 2 > ROPE_MAX_HALF || !(base > 1) || !isfinite(base))
        return fail(err, STRETTO_E_FORMAT, "rotary base %g with %u dimensions is not usable", base,
                    c->n_rot);
    *t = (struct rope_table){ .n_rot = c->n_rot, .base = base, .magnitude = 1 };
    for (uint32_t i = 0; i < c->n_rot / 2; i++) t->factor[i] = 1;
    if (!scaled) return STRETTO_OK;

    const struct source_tensor *freqs = source_tensor_find(s, "rope_freqs.weight");
    if (freqs) {
        if (freqs->type != DT_F32 || freqs->dims[0] != c->n_rot / 2 || freqs->n_dims != 1)
            return fail(err, STRETTO_E_FORMAT,
                        "rope_freqs.weight does not fit %u rotary dimensions", c->n_rot);
        for (uint32_t i = 0; i < c->n_rot / 2; i++) {
            float f;
            memcpy(&f, (const char *)freqs->data + i * sizeof f, sizeof f);
            if (!(f > 0))
                return fail(err, STRETTO_E_FORMAT, "rope_freqs.weight holds %g", (double)f);
            t->factor[i] = 1.0f / f;
        }
        return STRETTO_OK;
    }
    if (source_tensor_find(s, "rope_factors_long.weight") ||
        source_tensor_find(s, "rope_factors_short.weight"))
        return fail(err, STRETTO_E_UNSUP,
                    "LongRoPE scaling is not supported; use a member of the family "
                    "without it (for phi-3: a 4k model)");
    struct source_str type;
    if (!source_string(s, ".rope.scaling.type", &type)) return STRETTO_OK;
    double factor = real_or(s, ".rope.scaling.factor", 1);
    double original = real_or(s, ".rope.scaling.original_context_length", c->context);
    if (!(factor > 0) || !(original > 0))
        return fail(err, STRETTO_E_FORMAT, "rope scaling factor %g over %g positions is not usable",
                    factor, original);
#define IS(word) (type.n == strlen(word) && memcmp(type.p, word, type.n) == 0)
    if (IS("none") || IS("default")) return STRETTO_OK;
    if (IS("linear"))
        for (uint32_t i = 0; i < c->n_rot / 2; i++) t->factor[i] = (float)(1 / factor);
    else if (IS("yarn")) yarn(t, factor, original, s);
    else if (IS("llama3")) llama3(t, factor, original, s);
    else
        return fail(err, STRETTO_E_UNSUP,
                    "rope scaling '%.*s' is not supported (linear, yarn and llama3 are)",
                    (int)(type.n > 40 ? 40 : type.n), type.p);
#undef IS
    return STRETTO_OK;
}
