/* Plan, compile, close: what a program takes of the card and of this machine, measured and taken by one
 * code path; and its instructions. */
#include "backend/gpu/program.h"
#include "backend/gpu/kernels/words.h"
#include "base/memory.h"
#include <string.h>

static uint8_t forms(const void *w, int32_t param)
{
    return ((const struct weights *)w)->weight[param].forms;
}

/* ---- instructions --------------------------------------------------------------------------- */

static int32_t float_word(float x)
{
    int32_t w;
    memcpy(&w, &x, sizeof w);
    return w;
}

static int32_t vector_at(const struct program *p, int32_t param)
{
    return param == GRAPH_NONE ? -1 : p->w->weight[param].vector;
}

static void place_words(const struct program *p, int32_t v, int32_t *at, int32_t *ld)
{
    if (v == GRAPH_NONE) return;
    *at = (int32_t)gpu_words(p->low.place[v].f);
    *ld = (int32_t)p->low.place[v].ld;
}

static int32_t code_of(const struct row_instr *r)
{
    static const int32_t plain[] = {
        [ROW_EMBED] = CODE_COPY_VECTOR, [ROW_MUL] = CODE_MUL,         [ROW_ADD] = CODE_ADD,
        [ROW_BIAS] = CODE_BIAS,         [ROW_SCALE] = CODE_SCALE,     [ROW_SOFTCAP] = CODE_SOFTCAP,
        [ROW_QUANT] = CODE_QUANT,       [ROW_STORE] = CODE_STORE,     [ROW_ASK] = CODE_ASK,
    };
    static const int32_t act[] = { [ACT_SILU] = CODE_SILU, [ACT_GELU_TANH] = CODE_GELU_TANH,
                                   [ACT_GELU_ERF] = CODE_GELU_ERF };
    switch (r->op) {
    case ROW_NORM: return r->node->norm.kind == NORM_LAYER ? CODE_NORM_LAYER : CODE_NORM_RMS;
    case ROW_ROPE: return r->node->rope.style == ROPE_PAIRS ? CODE_ROPE_PAIRS : CODE_ROPE_HALVES;
    case ROW_ACT: return act[r->node->act];
    case ROW_ACT_MUL: return r->node->act == ACT_SILU ? CODE_SILU_MUL : CODE_GELU_TANH_MUL;
    default: return plain[r->op];
    }
}

static int32_t embed_index(const struct program *p, const struct graph_node *n)
{
    int32_t e = 0;
    while (p->embed[e] != n) e++;
    return e;
}

static void instruction(const struct program *p, const struct row_instr *r, int32_t *w)
{
    const struct graph_node *n = r->node;
    const struct value_place *x = r->in == GRAPH_NONE ? NULL : &p->low.place[r->in];
    int32_t v = r->out != GRAPH_NONE ? r->out : r->in;
    w[INSTR_OP] = code_of(r);
    w[INSTR_W] = w[INSTR_B] = -1;
    place_words(p, r->in, &w[INSTR_IN], &w[INSTR_IN_LD]);
    place_words(p, r->in2, &w[INSTR_IN2], &w[INSTR_IN2_LD]);
    place_words(p, r->out, &w[INSTR_OUT], &w[INSTR_OUT_LD]);
    w[INSTR_WIDTH] = (int32_t)p->g->values[v].width;
    switch (r->op) {
    case ROW_EMBED: w[INSTR_TABLE] = embed_index(p, n); break;
    case ROW_NORM:
        w[INSTR_W] = vector_at(p, node_param(p->g, n, 0));
        w[INSTR_B] = vector_at(p, node_param(p->g, n, 1));
        w[INSTR_HEAD_DIM] = (int32_t)n->norm.head_dim;
        w[INSTR_NUMBER] = float_word(n->norm.eps);
        break;
    case ROW_ROPE:
        w[INSTR_HEADS] = (int32_t)n->rope.heads;
        w[INSTR_HEAD_DIM] = (int32_t)n->rope.head_dim;
        w[INSTR_TABLE] = (int32_t)n->rope.table;
        w[INSTR_ROT] = (int32_t)p->g->rope[n->rope.table].n_rot;
        break;
    case ROW_BIAS: w[INSTR_B] = vector_at(p, node_param(p->g, n, 1)); break;
    case ROW_SCALE: w[INSTR_NUMBER] = float_word(n->scale); break;
    case ROW_SOFTCAP: w[INSTR_NUMBER] = float_word(n->cap); break;
    case ROW_QUANT:
        w[INSTR_Q] = (int32_t)gpu_words(x->q);
        w[INSTR_Q_LD] = (int32_t)gpu_words(x->ldq);
        w[INSTR_D] = (int32_t)gpu_words(x->d);
        w[INSTR_S] = (int32_t)gpu_words(x->s);
        w[INSTR_D_LD] = (int32_t)x->ldd;
        w[INSTR_H] = (int32_t)gpu_words(x->h);
        w[INSTR_H_LD] = (int32_t)gpu_words(x->ldq * sizeof(uint16_t));
        break;
    case ROW_STORE:
        w[INSTR_HEADS] = (int32_t)n->attention.kv_heads;
        w[INSTR_HEAD_DIM] = (int32_t)n->attention.head_dim;
        w[INSTR_GROUP] = (int32_t)n->attention.group;
        w[INSTR_MEMBER] = (int32_t)n->attention.member;
        w[INSTR_LAYERS] = (int32_t)p->g->group[n->attention.group].layers;
        break;
    default: break;
    }
}

/* What a row instruction becomes: none (angles come with the step), one, or one for each form. */
static uint32_t emit(const struct program *p, const struct row_instr *r, int32_t *words)
{
    if (r->op == ROW_ANGLES) return 0;
    uint32_t n = 0;
    uint8_t made = r->op == ROW_QUANT ? p->low.place[r->in].forms : 0;
    if (r->op != ROW_QUANT || made & FORM_CODES) {
        if (words) instruction(p, r, words);
        n++;
    }
    if (made & FORM_BF16) {
        if (words) {
            instruction(p, r, words + n * INSTR_WORDS);
            words[n * INSTR_WORDS + INSTR_OP] = CODE_TO_BF16;
        }
        n++;
    }
    return n;
}

/* All passes, one after the other; words NULL counts. Returns how many instructions there are. */
static uint32_t emit_all(struct program *p, int32_t *words)
{
    uint32_t n = 0;
    for (size_t i = 0; i < p->low.n_phases; i++) {
        const struct phase *ph = &p->low.phases[i];
        struct row_pass *pass = &p->pass[i];
        *pass = (struct row_pass){ .first = n };
        if (ph->kind != PHASE_ROWS) continue;
        for (uint32_t k = 0; k < ph->count; k++) {
            const struct row_instr *r = &p->low.rows[ph->first + k];
            if (r->op == ROW_STORE) pass->pool = p->pool[r->node->attention.group];
            n += emit(p, r, words ? words + (size_t)n * INSTR_WORDS : NULL);
        }
        pass->count = n - pass->first;
    }
    return n;
}

/* ---- sizes ---------------------------------------------------------------------------------- */

static stretto_status find_embeds(struct program *p, struct error *err)
{
    p->n_embeds = 0;
    for (size_t i = 0; i < p->g->n_nodes; i++) {
        if (p->g->nodes[i].op != OP_EMBED) continue;
        if (p->n_embeds == EMBEDS)
            return fail(err, STRETTO_E_UNSUP, "this model looks its rows up in more than %d tables", EMBEDS);
        p->embed[p->n_embeds++] = &p->g->nodes[i];
    }
    return STRETTO_OK;
}

static uint32_t vocab_of(const struct graph *g)
{
    return g->logits == GRAPH_NONE ? 0 : g->values[g->logits].width;
}

/* What stands on this machine, a->base NULL while measuring; and how much the card's activations take. */
static stretto_status take(struct program *p, struct arena *a, struct error *err)
{
    const struct program_limits *l = &p->limits;
    struct lower_rules rules = { l->max_rows, l->max_asks, l->strict, forms, p->w, NULL, false, false };
    struct arena values = { 0 };
    TRY(lower(p->g, &rules, &p->low, a, &values, err));
    p->logits_ld = (vocab_of(p->g) + 63) / 64 * 64;
    arena_take(&values, (size_t)GPU_HEAD_ROWS * p->logits_ld * sizeof(float));
    p->logits = gpu_words(values.top) - GPU_HEAD_ROWS * p->logits_ld;
    p->activation_bytes = values.top + 64;
    p->pass = arena_take(a, p->low.n_phases * sizeof *p->pass);
    p->n_positions = l->max_seq_pages * PAGE_SLOTS;
    p->angles_known = arena_take(a, p->n_positions);
    for (size_t i = 0; i < p->g->n_rope; i++)
        p->angles[i] = arena_take(a, (size_t)p->n_positions * p->g->rope[i].n_rot * sizeof(float));
    return STRETTO_OK;
}

enum { WORDS_MOST = INT32_MAX };       /* kernels find places by int                                 */

static stretto_status measure(struct program *p, struct error *err)
{
    const struct program_limits *l = &p->limits;
    struct arena a = { 0 };
    TRY(find_embeds(p, err));
    TRY(take(p, &a, err));
    p->own_bytes = a.top;
    p->tile_rows = gpu_tile_rows(graph_sharing(p->g));
    p->step_bytes = step_words(p) * 4;
    p->instr_bytes = (p->low.n_rows * 2 + 1) * INSTR_WORDS * sizeof(int32_t);
    p->partial_bytes = gpu_partial_bytes(p->g, l);
    if (p->activation_bytes / 4 > WORDS_MOST || p->step_bytes / 4 > WORDS_MOST)
        return fail(err, STRETTO_E_NOMEM, "steps of %u rows take more than 8 GB on the card; ask for fewer",
                    l->max_rows);
    p->bytes = p->activation_bytes + p->step_bytes + p->instr_bytes + p->partial_bytes +
               gpu_head_scratch(vocab_of(p->g)) + (uint64_t)l->max_asks * GPU_ANSWER_WORDS * 4 + 2 * MOST_MOVES * 4;
    for (uint32_t i = 0; i < p->g->n_groups; i++) {
        const struct layer_group *g = &p->g->group[i];
        p->page_bytes[i] = (uint64_t)g->layers * g->kv_heads * gpu_head_bytes(l->cache, g->head_dim);
    }
    return STRETTO_OK;
}

static uint64_t all_pages(const struct program *p)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < p->g->n_groups; i++) n += p->page_bytes[i] * p->limits.max_pages[i];
    return n;
}

static stretto_status begin(struct program *p, struct device *on, const struct graph *g,
                            const struct weights *w, const struct program_limits *l, struct error *err)
{
    struct gpu_device *d = (struct gpu_device *)(void *)on;
    if (w->device != d)
        return fail(err, STRETTO_E_ARG, "the weights are on another device than the program is to run on");
    *p = (struct program){ .g = g, .w = w, .device = d, .limits = *l, .most_tapes = TAPES };
    return measure(p, err);
}

/* A pool is one piece of memory. Where the card gives no piece so large, there is room for as many pages of every
 * group as fit into its largest; 0: pieces are no matter. */
static uint64_t room_in_pieces(const struct program *p, uint64_t have)
{
    double least = 1, room;
    for (uint32_t i = 0; i < p->g->n_groups; i++) {
        double fits = (double)p->device->about.largest / ((double)p->page_bytes[i] * p->limits.max_pages[i]);
        if (fits < least) least = fits;
    }
    room = (double)p->bytes + least * (double)all_pages(p);
    return least < 1 && (!have || room < (double)have) ? (uint64_t)room : 0;
}

stretto_status gpu_plan(struct device *on, const struct graph *g, const struct weights *w,
                        const struct program_limits *l, struct program_bytes *out, struct error *err)
{
    struct program p;
    *out = (struct program_bytes){ 0 };
    TRY(begin(&p, on, g, w, l, err));
    *out = (struct program_bytes){ .buffers = p.bytes, .pages = all_pages(&p), .threads = 1 };
    out->room = room_in_pieces(&p, on->backend->memory(on));
    for (uint32_t i = 0; i < g->n_groups; i++) out->page[i] = p.page_bytes[i];
    return STRETTO_OK;
}

/* Partial results of attention, and the step. */
uint64_t gpu_beside(const struct graph *g, const struct program_limits *l)
{
    struct program p = { .g = g, .limits = *l };
    return find_embeds(&p, NULL) == STRETTO_OK ? gpu_partial_bytes(g, l) + step_words(&p) * 4 : 0;
}

/* ---- taking it ------------------------------------------------------------------------------ */

static stretto_status open_kernels(struct program *p, struct error *err)
{
    struct gpu_device *d = p->device;
    enum cache_type cache = p->limits.cache;
    if (p->g->n_groups && !d->attention[cache])
        TRY(gpu_attention_open(d, cache, &d->attention[cache], err));
    for (size_t i = 0; i < p->g->n_nodes; i++)
        if (p->g->nodes[i].op == OP_ATTENTION)
            TRY(gpu_attention_prepare(d, d->attention[cache], &p->g->nodes[i], err));
    if (!d->rows[cache]) TRY(gpu_rows_open(d, cache, &d->rows[cache], err));
    if (vocab_of(p->g) && !d->head) TRY(gpu_head_open(d, &d->head, err));
    return STRETTO_OK;
}

static stretto_status take_card(struct program *p, struct error *err)
{
    const struct gpu_driver *v = p->device->driver;
    struct card *c = p->device->card;
    uint64_t answers = (uint64_t)p->limits.max_asks * GPU_ANSWER_WORDS * 4;
    TRY(v->alloc(c, p->activation_bytes, &p->places.activations, err));
    TRY(v->zero(c, p->places.activations, 0, p->activation_bytes, err));
    TRY(v->alloc(c, p->step_bytes, &p->places.step, err));
    TRY(v->alloc(c, p->instr_bytes, &p->places.instructions, err));
    p->places.vectors = p->w->vectors;
    if (p->partial_bytes) TRY(v->alloc(c, p->partial_bytes, &p->partial, err));
    if (vocab_of(p->g)) TRY(v->alloc(c, gpu_head_scratch(vocab_of(p->g)), &p->head_scratch, err));
    TRY(v->alloc(c, answers, &p->answers, err));
    TRY(v->alloc(c, 2 * MOST_MOVES * sizeof(int32_t), &p->moves, err));
    for (uint32_t i = 0; i < p->g->n_groups; i++) {
        TRY(v->alloc(c, p->page_bytes[i] * p->limits.max_pages[i], &p->pool[i], err));
        TRY(v->zero(c, p->pool[i], 0, p->page_bytes[i] * p->limits.max_pages[i], err));
    }
    TRY(v->host_alloc(c, p->step_bytes, (void **)&p->host_step, err));
    TRY(v->host_alloc(c, answers, (void **)&p->host_answers, err));
    return v->host_alloc(c, 2 * MOST_MOVES * sizeof(int32_t), (void **)&p->host_moves, err);
}

static stretto_status send_instructions(struct program *p, struct error *err)
{
    uint32_t n = emit_all(p, NULL);
    int32_t *words = mem_zalloc((size_t)n + 1, INSTR_WORDS * sizeof *words);
    if (!words) return fail(err, STRETTO_E_NOMEM, "out of memory");
    emit_all(p, words);
    stretto_status s = p->device->driver->write(p->device->card, p->places.instructions, 0, words,
                                                (size_t)n * INSTR_WORDS * sizeof *words, err);
    stretto_status end = p->device->driver->finish(p->device->card, err);
    mem_free(words);
    return s == STRETTO_OK ? end : s;
}

#define FOR_LESS ": ask for a smaller context with -c, or have fewer layers there (-ngl)"

static stretto_status take_all(struct program *p, struct error *err)
{
    struct arena a = { .base = p->own, .cap = p->own_bytes };
    struct error own = { 0 };
    TRY(take(p, &a, err));
    TRY(open_kernels(p, err));
    stretto_status s = take_card(p, &own);
    if (s != STRETTO_OK) return fail(err, s, s == STRETTO_E_NOMEM ? "%s" FOR_LESS : "%s", own.text);
    return send_instructions(p, err);
}

static stretto_status fits(const struct program *p, struct error *err)
{
    uint64_t have = p->device->device.backend->memory(&p->device->device), pages = all_pages(p);
    if (!have || p->bytes + pages <= have) return STRETTO_OK;
    return fail(err, STRETTO_E_NOMEM,
                "the card has no memory for %.0f MB of step buffers and %.0f MB of cache, %.0f MB are free" FOR_LESS,
                (double)p->bytes / 1e6, (double)pages / 1e6, (double)have / 1e6);
}

stretto_status gpu_compile(struct program **out, struct device *on, const struct graph *g,
                           const struct weights *w, const struct program_limits *l, struct error *err)
{
    struct program planned, *p = mem_zalloc(1, sizeof *p);
    if (!p) return fail(err, STRETTO_E_NOMEM, "out of memory");
    stretto_status s = begin(&planned, on, g, w, l, err);
    if (s == STRETTO_OK) s = fits(&planned, err);
    if (s != STRETTO_OK) {
        mem_free(p);
        return s;
    }
    *p = planned;
    device_hold(on);
    p->taken = p->bytes + all_pages(p);
    atomic_fetch_add(&p->device->taken, p->taken);
    p->own = mem_map(p->own_bytes);
    if (!p->own) s = fail(err, STRETTO_E_NOMEM, "out of memory");
    else {
        struct error own = { 0 }, *e = err ? err : &own;
        pthread_mutex_lock(&p->device->lock);
        s = gpu_not_opened(p->device, take_all(p, e), e);
        pthread_mutex_unlock(&p->device->lock);
    }
    if (s != STRETTO_OK) gpu_program_close(p);
    else *out = p;
    return s;
}

void gpu_program_close(struct program *p)
{
    if (!p) return;
    const struct gpu_driver *v = p->device->driver;
    struct card *c = p->device->card;
    pthread_mutex_lock(&p->device->lock);
    for (size_t i = 0; i < p->n_tapes; i++) v->tape_close(p->tape[i].tape);
    for (uint32_t i = 0; i < GRAPH_GROUPS; i++) v->free(p->pool[i]);
    struct gpu_memory *all[] = { p->places.activations, p->places.step, p->places.instructions, p->partial,
                                 p->head_scratch, p->answers, p->moves };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) v->free(all[i]);
    v->host_free(c, p->host_step);
    v->host_free(c, p->host_answers);
    v->host_free(c, p->host_moves);
    pthread_mutex_unlock(&p->device->lock);
    atomic_fetch_sub(&p->device->taken, p->taken);
    mem_unmap(p->own, p->own_bytes);
    mem_free(p->profile);
    device_drop(&p->device->device);
    mem_free(p);
}
