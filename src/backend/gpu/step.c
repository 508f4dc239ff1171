/* The step as words (kernels/words.h): one piece of pinned memory that goes over in one copy. */
#include "backend/gpu/program.h"
#include "backend/gpu/kernels/words.h"
#include "backend/input.h"
#include <string.h>

struct writer { int32_t *word; size_t at; };

static int32_t *take(struct writer *w, int which, size_t n)
{
    int32_t *to = w->word + w->at;
    w->word[which] = (int32_t)w->at;
    w->at += n;
    return to;
}

/* Floats begin at multiples of 16 words. */
static float *take_floats(struct writer *w, int which, size_t n)
{
    w->at = (w->at + 15) & ~(size_t)15;
    return (float *)(void *)take(w, which, n);
}

uint64_t step_words(const struct program *p)
{
    uint64_t rows = p->limits.max_rows, n = STEP_HEADER + rows * (8 + TILE_WORDS) + 2 * (uint64_t)p->limits.max_asks;
    n += rows * (rows + 1) / 2;        /* the chains of a tree, at worst one chain with every row apart */
    n += p->g->n_groups * rows * (1 + (uint64_t)p->limits.max_seq_pages);
    for (uint32_t i = 0; i < p->n_embeds; i++) n += rows * p->g->values[p->embed[i]->out].width + 16;
    for (size_t i = 0; i < p->g->n_rope; i++) n += rows * p->g->rope[i].n_rot + 16;
    return n;
}

/* Tiles: neighbouring rows of one sequence. */
static uint32_t cut(const struct program *p, const struct step *s, const int32_t *sees, struct writer *w,
                    uint32_t *tile_rows)
{
    uint32_t n = 0;
    int32_t most = (int32_t)p->tile_rows;
    int32_t *tile = take(w, STEP_TILE, 0);
    for (size_t q = 0; q < s->n_seqs; q++) {
        const struct step_seq *seq = &s->seqs[q];
        for (int32_t r = 0, rows; r < seq->n_rows; r += rows, n++) {
            rows = seq->n_rows - r < most ? seq->n_rows - r : most;
            int32_t first = seq->first_row + r, *t = tile + n * TILE_WORDS;
            t[TILE_ROW] = first;
            t[TILE_ROWS] = rows;
            if ((uint32_t)rows > *tile_rows) *tile_rows = (uint32_t)rows;
            t[TILE_LOW] = s->position[first];
            t[TILE_END] = 0;
            for (int32_t i = first; i < first + rows; i++) {
                if (s->position[i] < t[TILE_LOW]) t[TILE_LOW] = s->position[i];
                if (sees[i] > t[TILE_END]) t[TILE_END] = sees[i];
            }
        }
    }
    w->at += n * TILE_WORDS;
    w->word[STEP_TILES] = (int32_t)n;
    return n;
}

/* The slots of a tree row's chain, from the first position behind what is committed to its own. */
static void tails(const struct step *s, int32_t *tail, struct writer *w)
{
    for (size_t q = 0; q < s->n_seqs; q++) {
        const struct step_seq *seq = &s->seqs[q];
        for (int32_t i = seq->first_row; i < seq->first_row + seq->n_rows; i++) {
            tail[i] = -1;
            if (!seq->tree) continue;
            tail[i] = (int32_t)w->at;
            int32_t n = s->position[i] - seq->committed + 1;
            for (int32_t r = i, k = n - 1; r >= 0; r = s->parent[r], k--) w->word[w->at + (size_t)k] = s->slot[r];
            w->at += (size_t)n;
        }
    }
}

/* The pages that a sequence's rows can reach, in every layer group. */
static void tables(const struct program *p, const struct step *s, struct writer *w)
{
    for (uint32_t g = 0; g < p->g->n_groups; g++) {
        int32_t *at = take(w, STEP_PAGE_AT + (int)g, s->n_rows);
        for (size_t q = 0; q < s->n_seqs; q++) {
            const struct step_seq *seq = &s->seqs[q];
            size_t pages = (size_t)(seq->committed + seq->n_rows - 1) / PAGE_SLOTS + 1;
            memcpy(w->word + w->at, s->page + s->page_at[g * s->n_seqs + q], pages * sizeof(int32_t));
            for (int32_t i = 0; i < seq->n_rows; i++) at[seq->first_row + i] = (int32_t)w->at;
            w->at += pages;
        }
    }
}

static const float *angles_of(struct program *p, size_t table, int32_t position)
{
    const struct rope_table *r = &p->g->rope[table];
    float *cs = p->angles[table] + (size_t)position * r->n_rot;
    uint8_t bit = (uint8_t)(1u << table);
    if (!(p->angles_known[position] & bit)) {
        input_angles(r, &p->limits, position, cs);
        p->angles_known[position] |= bit;
    }
    return cs;
}

/* Where rows come from the vectors that they bring, or from tables. */
static void inputs(struct program *p, const struct step *s, struct writer *w)
{
    for (uint32_t e = 0; e < p->n_embeds; e++) {
        const struct graph_node *n = p->embed[e];
        size_t width = p->g->values[n->out].width;
        const struct param_bytes *table =
            n->embed == EMBED_VECTOR ? NULL : &p->w->weight[node_param(p->g, n, 0)].table;
        float *to = take_floats(w, STEP_VECTORS + (int)e, s->n_rows * width);
        for (size_t r = 0; r < s->n_rows; r++) input_embed(n, table, s, r, width, to + r * width);
    }
    for (size_t t = 0; t < p->g->n_rope; t++) {
        size_t n_rot = p->g->rope[t].n_rot;
        float *to = take_floats(w, STEP_ANGLES + (int)t, s->n_rows * n_rot);
        for (size_t r = 0; r < s->n_rows; r++)
            memcpy(to + r * n_rot, angles_of(p, t, s->position[r]), n_rot * sizeof *to);
    }
}

size_t step_pack(struct program *p, const struct step *s, struct shape *shape)
{
    struct writer w = { p->host_step, STEP_HEADER };
    uint32_t roles = 0;
    size_t n = s->n_rows, bytes = n * sizeof(int32_t);
    memset(w.word, 0, STEP_HEADER * sizeof *w.word);
    w.word[STEP_ROWS] = (int32_t)n;
    w.word[STEP_ASKS] = (int32_t)s->n_asks;
    w.word[STEP_HEADS] = (int32_t)s->n_heads;
    memcpy(take(&w, STEP_POSITION, n), s->position, bytes);
    memcpy(take(&w, STEP_SLOT, n), s->slot, bytes);
    int32_t *given = take(&w, STEP_GIVEN, n), *committed = take(&w, STEP_BEFORE, n);
    int32_t *sees = take(&w, STEP_SEES, n), *tail = take(&w, STEP_TAIL, n), most = 0;
    for (size_t i = 0; i < n; i++) {
        const struct step_seq *q = &s->seqs[s->seq[i]];
        given[i] = s->given[i];
        roles |= s->given[i] ? HAS_GIVEN : HAS_WRITTEN;
        committed[i] = q->committed;
        sees[i] = p->g->bidirectional ? q->committed + q->n_rows : s->position[i] + 1;
        if (sees[i] > most) most = sees[i];
    }
    memcpy(take(&w, STEP_ASK_ROW, s->n_asks), s->ask_row, s->n_asks * sizeof(int32_t));
    int32_t *wants = take(&w, STEP_ASK_WANTS, s->n_asks);
    *shape = (struct shape){ .rows = (uint32_t)n, .asks = (uint32_t)s->n_asks, .heads = (uint32_t)s->n_heads,
                             .sees = (uint32_t)most, .roles = roles };
    for (size_t i = 0; i < s->n_asks; i++) {
        wants[i] = s->ask_wants[i];
        if (s->ask_wants[i] & WANT_TOP) shape->top = 1;
    }
    shape->tiles = cut(p, s, sees, &w, &shape->tile_rows);
    tails(s, tail, &w);
    tables(p, s, &w);
    inputs(p, s, &w);
    return w.at;
}
