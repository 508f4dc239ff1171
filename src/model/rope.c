/* Rotary positions and their scalings, folded into one factor per angle.
 *   RoPE arXiv 2104.09864; linear interpolation arXiv 2306.15595; YaRN arXiv 2309.00071;
 *   LongRoPE arXiv 2402.13753: a divisor for each pair, one set up to the first context and one beyond;
 *   llama3: the piecewise scaling of Llama 3.1, in GGUF already divided out as rope_freqs.weight.
 */
#include "format/source.h"
#include "model/family.h"
#include <math.h>
#include <string.h>

static const double two_pi = 6.283185307179586476925286766559;

/* The dimension whose wavelength makes `turns` turns in the original context (YaRN eq. 17 solved).
 */
static double yarn_dim(double turns, uint32_t n_rot, double base, double original)
{
    return n_rot * log(original / (turns * two_pi)) / (2 * log(base));
}

static void yarn(struct rope_table *t, const struct rope_scaling *r)
{
    double lo = fmax(0, floor(yarn_dim(r->beta_fast, t->n_rot, t->base, r->original)));
    double hi = fmin(t->n_rot - 1, ceil(yarn_dim(r->beta_slow, t->n_rot, t->base, r->original)));
    for (uint32_t i = 0; i < t->n_rot / 2; i++) {
        double ramp = fmin(1, fmax(0, (i - lo) / fmax(0.001, hi - lo)));     /* 1: interpolate */
        t->factor[i] = (float)(ramp / r->factor + (1 - ramp));
    }
    /* The file's factor comes on top of the usual magnitude (llama.cpp multiplies them). */
    double usual = 0.1 * log(r->factor) + 1, taken = 0.1 * r->log_multiplier * log(r->factor) + 1;
    t->magnitude = (float)(usual / taken * r->attn_factor);
}

static void llama3(struct rope_table *t, const struct rope_scaling *r)
{
    for (uint32_t i = 0; i < t->n_rot / 2; i++) {
        double turns = r->original / (two_pi / pow(t->base, -2.0 * i / t->n_rot));
        double smooth = fmin(1, fmax(0, (turns - r->low) / (r->high - r->low)));
        t->factor[i] = (float)((1 - smooth) / r->factor + smooth);
    }
}

/* One divisor for each pair, on top of any other scaling (as in llama.cpp). */
static stretto_status divide(const struct rope_table *t, float *factor, const char *name, const struct source *s,
                             struct error *err)
{
    const struct source_tensor *freqs = source_tensor_find(s, name);
    if (!freqs) return STRETTO_OK;
    if (freqs->type != DT_F32 || freqs->dims[0] != t->n_rot / 2 || freqs->n_dims != 1)
        return fail(err, STRETTO_E_FORMAT, "%s does not fit %u rotary dimensions", name, t->n_rot);
    for (uint32_t i = 0; i < t->n_rot / 2; i++) {
        float f;
        memcpy(&f, (const char *)freqs->data + i * sizeof f, sizeof f);
        if (!(f > 0)) return fail(err, STRETTO_E_FORMAT, "%s holds %g", name, (double)f);
        factor[i] /= f;
    }
    return STRETTO_OK;
}

/* Sequences are near or far by what they may become, not by what they are: keys in the cache have turned already. */
static stretto_status read_near_and_far(struct rope_table *t, const struct config *c, const struct source *s,
                                        struct error *err)
{
    bool near = source_tensor_find(s, ROPE_NEAR), far = source_tensor_find(s, ROPE_FAR);
    if (!near && !far && c->rope_scaling.kind != ROPE_LONG) return STRETTO_OK;
    if (!c->long_rope)
        return fail(err, STRETTO_E_UNSUP, "LongRoPE scaling is not supported in models of this architecture");
    if (!near || !far)
        return fail(err, STRETTO_E_FORMAT, "the file has LongRoPE scaling but no tensor %s",
                    near ? ROPE_FAR : ROPE_NEAR);
    if (!(c->rope_scaling.original >= 1 && c->rope_scaling.original <= UINT32_MAX))
        return fail(err, STRETTO_E_FORMAT, "LongRoPE scaling over %g positions is not usable",
                    c->rope_scaling.original);
    t->near = (uint32_t)c->rope_scaling.original;
    memcpy(t->far, t->factor, sizeof t->far);
    TRY(divide(t, t->factor, ROPE_NEAR, s, err));
    return divide(t, t->far, ROPE_FAR, s, err);
}

stretto_status rope_read(struct rope_table *t, const struct config *c, double base, bool scaled,
                         const struct source *s, struct error *err)
{
    const struct rope_scaling *r = &c->rope_scaling;
    if (c->n_rot / 2 > ROPE_MAX_HALF || !(base > 1) || !isfinite(base))
        return fail(err, STRETTO_E_FORMAT, "rotary base %g with %u dimensions is not usable", base,
                    c->n_rot);
    *t = (struct rope_table){ .n_rot = c->n_rot, .base = base, .magnitude = 1 };
    for (uint32_t i = 0; i < c->n_rot / 2; i++) t->factor[i] = 1;
    if (!scaled) return STRETTO_OK;
    t->magnitude = (float)r->attn_factor;
    if (r->kind == ROPE_YARN) yarn(t, r);
    else if (r->kind == ROPE_LLAMA3) llama3(t, r);
    else if (r->kind == ROPE_LINEAR || r->kind == ROPE_LONG)
        for (uint32_t i = 0; i < c->n_rot / 2; i++) t->factor[i] = (float)(1 / r->factor);
    TRY(divide(t, t->factor, ROPE_FREQS, s, err));
    return read_near_and_far(t, c, s, err);
}
