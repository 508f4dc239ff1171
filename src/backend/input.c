#include "backend/input.h"
#include "base/file.h"
#include <math.h>
#include <string.h>

enum { LOOKUPS_KEPT = 64 }; /* positions of a sequence */

const float *input_factors(const struct rope_table *r, const struct program_limits *l)
{
    return r->near && l->context > r->near ? r->far : r->factor;
}

static float magnitude(const struct rope_table *r, int32_t position)
{
    if (!r->span) return r->magnitude;
    double spans = floor(position / (double)r->span);
    return (float)((double)r->magnitude * (1 + (double)r->temperature * log(1 + spans)));
}

void input_angles(const struct rope_table *r, const struct program_limits *l, int32_t position, float *cs)
{
    size_t half = r->n_rot / 2;
    const float *factor = input_factors(r, l), length = magnitude(r, position);
    for (size_t i = 0; i < half; i++) {
        double a = position * pow(r->base, -2.0 * (double)i / r->n_rot) * (double)factor[i];
        cs[i] = (float)cos(a) * length;
        cs[half + i] = (float)sin(a) * length;
    }
}

size_t input_table_row(const struct graph_node *n, const struct step *s, size_t row)
{
    return n->embed == EMBED_TOKEN ? (size_t)s->token[row] : n->embed == EMBED_POSITION ? (size_t)s->position[row] : 0;
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
    size_t id = input_table_row(n, s, row);
    dtype_table[t->type].decode((const char *)t->data + id * t->row_bytes, out, t->n_in);
    /* Each look-up maps 64 KB of the file. Given back now and then, a table that is packed as the
     * head too does not stand in memory twice. */
    if (!t->memory && n->embed == EMBED_TOKEN && s->position[row] % LOOKUPS_KEPT == 0)
        file_map_release(t->data, t->row_bytes * t->n_out);
}

/* Ranges that lie within the step, and at most so many of them for a row. */
static stretto_status check_ranges(const struct step *s, struct error *err)
{
    if (!s->range_at || !s->ranges)
        return fail(err, STRETTO_E_ARG, "a step of a graph with a loss says by ranges what its rows see");
    for (size_t r = 0; r < s->n_rows; r++) {
        int32_t from = s->range_at[r], to = s->range_at[r + 1];
        if (from < 0 || to < from || to - from > STEP_RANGES)
            return fail(err, STRETTO_E_ARG, "row %zu sees %d ranges; at most %d are possible", r, to - from,
                        STEP_RANGES);
        for (int32_t i = from; i < to; i++)
            if (s->ranges[2 * i] < 0 || s->ranges[2 * i + 1] <= s->ranges[2 * i]
                || s->ranges[2 * i + 1] > (int32_t)s->n_rows)
                return fail(err, STRETTO_E_ARG, "row %zu sees rows %d to %d of a step of %zu", r, s->ranges[2 * i],
                            s->ranges[2 * i + 1], s->n_rows);
    }
    return STRETTO_OK;
}

/* What rows look up is in the tables; 0 rows: as many as the file has. */
static stretto_status check_lookups(const struct graph *g, const struct step *s, struct error *err)
{
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        if (n->op != OP_EMBED || n->embed == EMBED_FIRST_ROW) continue;
        size_t rows = n->embed == EMBED_VECTOR ? 0 : g->params[node_param(g, n, 0)].n_out;
        if (node_param(g, n, 1) != GRAPH_NONE) rows += g->params[node_param(g, n, 1)].n_out;
        for (size_t r = 0; r < s->n_rows; r++) {
            bool vector = n->embed == EMBED_VECTOR || (n->embed == EMBED_TOKEN && s->token[r] < 0);
            if (vector ? s->token[r] >= 0 || !s->vectors : rows && input_table_row(n, s, r) >= rows)
                return fail(err, STRETTO_E_ARG, "row %zu looks up what is not there: token %d at position %d", r,
                            s->token[r], s->position[r]);
        }
    }
    return STRETTO_OK;
}

/* Rows of the step, ascending in each set. */
static stretto_status check_sets(const struct graph *g, const struct step *s, struct error *err)
{
    for (uint32_t k = 0; s->set_at && k < g->n_sets; k++)
        for (int32_t i = s->set_at[k], last = -1; i < s->set_at[k + 1]; last = s->set_row[i++])
            if (s->set_row[i] <= last || (size_t)s->set_row[i] >= s->n_rows)
                return fail(err, STRETTO_E_ARG, "set %u has row %d behind row %d of a step of %zu", k, s->set_row[i],
                            last, s->n_rows);
    return STRETTO_OK;
}

static bool target_fits(const struct step_target *t, uint32_t vocab, size_t n_asks)
{
    if (t->like) return t->like <= n_asks;
    bool fits = t->n_top || (t->token >= 0 && (uint32_t)t->token < vocab);
    for (uint32_t i = 0; i < t->n_top; i++) fits = fits && t->top[i] >= 0 && (uint32_t)t->top[i] < vocab;
    return fits;
}

static stretto_status check_targets(const struct graph *g, const struct program_limits *l, const struct step *s,
                                    struct error *err)
{
    uint32_t vocab = 0;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == OP_LOSS) vocab = graph_loss_width(g, &g->nodes[i]);
    if (s->n_asks && !s->targets) return fail(err, STRETTO_E_ARG, "rows want a loss and the step has no targets");
    for (size_t i = 0; i < s->n_asks; i++) {
        if (s->ask_wants[i] != WANT_LOSS)
            return fail(err, STRETTO_E_ARG, "ask %zu of a graph with a loss wants something else", i);
        if (i && s->ask_row[i] <= s->ask_row[i - 1])
            return fail(err, STRETTO_E_ARG, "ask %zu: rows that want a loss ascend", i);
        if (s->targets[i].like && !l->likes)
            return fail(err, STRETTO_E_ARG, "ask %zu is to be like another, and this program was made without that", i);
        if (!target_fits(&s->targets[i], vocab, s->n_asks))
            return fail(err, STRETTO_E_ARG, "the target of ask %zu is no token of the vocabulary, nor an ask", i);
    }
    return STRETTO_OK;
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
    TRY(check_sets(g, s, err));
    if (g->loss) {
        TRY(check_ranges(s, err));
        TRY(check_lookups(g, s, err));
        return check_targets(g, l, s, err);
    }
    for (size_t i = 0; i < s->n_asks; i++) {
        if (s->ask_wants[i] & WANT_LOSS)
            return fail(err, STRETTO_E_ARG, "ask %zu wants a loss, which only differentiated graphs have", i);
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
