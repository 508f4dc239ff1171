#include "backend/input.h"
#include "base/file.h"
#include <math.h>
#include <string.h>

enum { LOOKUPS_KEPT = 64 }; /* positions of a sequence */

void input_angles(const struct rope_table *r, int32_t position, float *cs)
{
    size_t half = r->n_rot / 2;
    for (size_t i = 0; i < half; i++) {
        double a = position * pow(r->base, -2.0 * (double)i / r->n_rot) * (double)r->factor[i];
        cs[i] = (float)cos(a) * r->magnitude;
        cs[half + i] = (float)sin(a) * r->magnitude;
    }
}

/* Of a row's token, or the vector that it brings. */
void input_embed(const struct graph_node *n, const struct param_bytes *t, const struct step *s, size_t row,
                 size_t width, float *out)
{
    bool token = n->embed == EMBED_TOKEN || n->embed == EMBED_VECTOR;
    if (token && s->token[row] < 0) {
        memcpy(out, s->vectors + (size_t)(-1 - s->token[row]) * width, width * sizeof *out);
        return;
    }
    size_t id = token ? (size_t)s->token[row] : n->embed == EMBED_POSITION ? (size_t)s->position[row] : 0;
    dtype_table[t->type].decode((const char *)t->data + id * t->row_bytes, out, t->n_in);
    /* Each look-up maps 64 KB of the file. Given back now and then, a table that is packed as the
     * head too does not stand in memory twice. */
    if (!t->memory && n->embed == EMBED_TOKEN && s->position[row] % LOOKUPS_KEPT == 0)
        file_map_release(t->data, t->row_bytes * t->n_out);
}

stretto_status input_check(const struct graph *g, const struct program_limits *l, const struct step *s,
                           struct error *err)
{
    if (s->n_rows == 0 || s->n_rows > l->max_rows)
        return fail(err, STRETTO_E_ARG, "a step of %zu rows; this program takes 1 to %u", s->n_rows,
                    l->max_rows);
    if (s->n_asks > l->max_asks)
        return fail(err, STRETTO_E_ARG, "%zu rows ask at once; this program takes %u", s->n_asks,
                    l->max_asks);
    for (size_t i = 0; i < s->n_asks; i++) {
        bool head = (s->ask_wants[i] & WANT_OF_HEAD) != 0;
        if (head != (i < s->n_heads))
            return fail(err, STRETTO_E_ARG, "ask %zu: those that want something of the head come first",
                        i);
        if ((head && g->logits == GRAPH_NONE) ||
            ((s->ask_wants[i] & WANT_HIDDEN) && g->hidden == GRAPH_NONE))
            return fail(err, STRETTO_E_ARG, "ask %zu wants what this graph does not compute", i);
    }
    return STRETTO_OK;
}
