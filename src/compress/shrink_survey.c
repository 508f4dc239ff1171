/* What each part of a layer is worth: see shrink.h. A layer's own loss, of every number of channels that may go, comes
 * from its inputs' moments; what it does to the model's answers is tried for one number and scaled by that. */
#include "compress/shrink_int.h"
#include "base/memory.h"
#include "compress/allocate.h"
#include "compress/damage.h"
#include "compress/trial.h"
#include <math.h>
#include <string.h>

enum { TRIAL_TOKENS = 1024, LEAST_PART = 4 };
static const double DAMP = 1e-2;      /* of the order in which channels go */

struct survey {
    struct shrink s;
    struct shrink_plan *plan;
    struct trials *trials;
    float *rows, *middle, *tap;     /* [tokens][width], [tokens][widest]                             */
    double *lost, *group_lost;      /* [layers][feed], [layers][kv_heads]                            */
    size_t (*id)[3];                /* trials of each layer, 0: none: channels, group, layer         */
    uint32_t feed, kv;              /* of the layer that has most                                    */
};

static uint32_t quarter(uint32_t feed)
{
    uint32_t n = (feed / LEAST_PART + SHRINK_STEP / 2) / SHRINK_STEP * SHRINK_STEP;
    return n ? n : SHRINK_STEP;
}

/* The layer with the weight refitted on `keep` of its inputs, the others' columns zero. */
static stretto_status try_without(struct survey *v, const char *name, const float *weight, uint32_t n_in, uint32_t rows,
                                  struct two *e, const uint32_t *keep, uint32_t kept, size_t *id, struct error *err)
{
    struct workers *w = v->s.o->workers;
    float *some = mem_alloc((size_t)rows * kept * sizeof *some);
    float *whole = mem_alloc((size_t)rows * n_in * sizeof *whole);
    stretto_status st = some && whole ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
    if (st == STRETTO_OK) {
        memcpy(whole, weight, (size_t)rows * n_in * sizeof *whole);         /* what goes */
        for (uint32_t r = 0; r < rows; r++)
            for (uint32_t c = 0; c < kept; c++) whole[(size_t)r * n_in + keep[c]] = 0;
        workers_linear(w, e->fit.in.gram, n_in, whole, n_in, rows, e->fit.cross);
        workers_linear(w, e->held.in.gram, n_in, whole, n_in, rows, e->held.cross);
        st = solve_checked(w, &e->fit, &e->held, weight, rows, keep, kept, NULL, some, err);
    }
    if (st == STRETTO_OK) {
        memset(whole, 0, (size_t)rows * n_in * sizeof *whole);
        for (uint32_t r = 0; r < rows; r++)
            for (uint32_t c = 0; c < kept; c++) whole[(size_t)r * n_in + keep[c]] = some[(size_t)r * kept + c];
        struct overlay o = { .base = &v->s.b, .n = 1, .own = { { name, whole, n_in, rows } } };
        struct binding changed = overlay_binding(&o);
        st = trials_try(v->trials, &changed, id, err);
    }
    mem_free(some);
    mem_free(whole);
    return st;
}

static stretto_status survey_feed(struct survey *v, uint32_t l, struct error *err)
{
    char name[GRAPH_NAME];
    float *weight = NULL;
    struct two e = { 0 };
    uint32_t n, rows, *order = v->plan->order + (size_t)l * v->feed, go = v->s.m->config.layer[l].feed;
    if (go < 2 * SHRINK_STEP) return STRETTO_OK;
    uint32_t *keep = mem_alloc(go * sizeof *keep);
    double *lost = v->lost + (size_t)l * v->feed;
    stretto_status st = keep ? shrink_pass(&v->s, &v->s.b, l, PIECE_MIDDLE, PIECE_FED, v->middle, v->tap, err)
                             : fail(err, STRETTO_E_NOMEM, "out of memory");
    if (st == STRETTO_OK) st = shrink_read(&v->s, layer_param(name, l, "ffn_down.weight"), &weight, &n, &rows, err);
    if (st == STRETTO_OK) st = evidence_open(&e, &v->s, v->tap, n, NULL, NULL, rows, err);
    go -= quarter(go);                      /* what can go at most */
    if (st == STRETTO_OK) st = solve_order(v->s.o->workers, &e.fit.in, weight, rows, go, DAMP, order, lost, err);
    if (st == STRETTO_OK) {
        uint32_t first = quarter(n);
        kept_of(order, n, first, 1, keep);
        st = try_without(v, name, weight, n, rows, &e, keep, n - first, &v->id[l][0], err);
    }
    evidence_done(&e);
    mem_free(weight);
    mem_free(keep);
    return st;
}

/* Groups by what each costs alone, the cheapest first. */
static void order_groups(const double *cost, uint32_t n, uint32_t *order, double *lost)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i;
        for (; at && cost[order[at - 1]] > cost[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    for (uint32_t i = 0; i < n; i++) lost[i] = sum += cost[order[i]];
}

static stretto_status survey_groups(struct survey *v, uint32_t l, struct error *err)
{
    const struct layer_config *c = &v->s.m->config.layer[l];
    char name[GRAPH_NAME];
    float *weight = NULL;
    struct two e = { 0 };
    uint32_t n, rows, unit = heads_each(c) * v->s.m->config.head_dim, *order = v->plan->group_order + (size_t)l * v->kv;
    if (c->kv_heads < 2) return STRETTO_OK;
    uint32_t *keep = mem_alloc((size_t)unit * c->kv_heads * sizeof *keep);
    double *cost = mem_alloc(c->kv_heads * sizeof *cost);
    stretto_status st = keep && cost ? shrink_pass(&v->s, &v->s.b, l, PIECE_IN, PIECE_ATTENDED, l ? v->rows : NULL,
                                                   v->tap, err)
                                     : fail(err, STRETTO_E_NOMEM, "out of memory");
    if (st == STRETTO_OK) st = shrink_read(&v->s, layer_param(name, l, "attn_output.weight"), &weight, &n, &rows, err);
    if (st == STRETTO_OK) st = evidence_open(&e, &v->s, v->tap, n, NULL, NULL, rows, err);
    if (st == STRETTO_OK) st = solve_groups(v->s.o->workers, &e.fit.in, weight, rows, unit, DAMP, cost, err);
    if (st == STRETTO_OK) {
        order_groups(cost, c->kv_heads, order, v->group_lost + (size_t)l * v->kv);
        kept_of(order, c->kv_heads, 1, unit, keep);
        st = try_without(v, name, weight, n, rows, &e, keep, n - unit, &v->id[l][1], err);
    }
    evidence_done(&e);
    mem_free(weight);
    mem_free(keep);
    mem_free(cost);
    return st;
}

static bool windows_differ(const struct config *c)
{
    for (uint32_t l = 0; l < c->layers; l++)
        if (c->layer[l].window != c->layer[0].window || c->layer[l].turn != c->layer[0].turn) return true;
    return false;
}

static stretto_status survey_layer(struct survey *v, uint32_t l, struct error *err)
{
    const struct shrink_options *o = v->s.o;
    TRY(shrink_pass(&v->s, &v->s.b, l, PIECE_IN, PIECE_MIDDLE, l ? v->rows : NULL, v->middle, err));
    if (o->share > 0 || o->heads > 0) TRY(survey_groups(v, l, err));
    if (o->share > 0 || o->feed > 0) TRY(survey_feed(v, l, err));
    bool inner = l > 0 && l + 1 < v->plan->layers && !windows_differ(&v->s.m->config);
    if (inner && (o->share > 0 || o->layers)) TRY(trials_try(v->trials, NULL, &v->id[l][2], err));
    if (l + 1 < v->plan->layers)
        TRY(shrink_pass(&v->s, &v->s.b, l, PIECE_MIDDLE, PIECE_OUT, v->middle, v->rows, err));
    return trials_go(v->trials, err);
}

static stretto_status take(struct survey *v, struct error *err)
{
    const struct config *c = &v->s.m->config;
    size_t widest = c->feed;
    if ((size_t)c->heads * c->head_dim > widest) widest = (size_t)c->heads * c->head_dim;
    v->feed = c->feed;
    v->kv = c->kv_heads;
    v->rows = mem_alloc(v->s.tokens * c->width * sizeof *v->rows);
    v->middle = mem_alloc(v->s.tokens * c->width * sizeof *v->middle);
    v->tap = mem_alloc(v->s.tokens * widest * sizeof *v->tap);
    v->lost = mem_zalloc((size_t)c->layers * v->feed, sizeof *v->lost);
    v->group_lost = mem_zalloc((size_t)c->layers * v->kv, sizeof *v->group_lost);
    v->id = mem_zalloc(c->layers, sizeof *v->id);
    struct shrink_plan *p = v->plan;
    p->layers = c->layers;
    p->layer = mem_zalloc(c->layers, sizeof *p->layer);
    p->order = mem_zalloc((size_t)c->layers * v->feed, sizeof *p->order);
    p->group_order = mem_zalloc((size_t)c->layers * v->kv, sizeof *p->group_order);
    if (!v->rows || !v->middle || !v->tap || !v->lost || !v->group_lost || !v->id || !p->layer || !p->order
        || !p->group_order)
        return fail(err, STRETTO_E_NOMEM, "no memory for the rows of %zu tokens", v->s.tokens);
    return STRETTO_OK;
}

/* ---- the choice ------------------------------------------------------------------------------- */

static double feed_damage(const struct survey *v, uint32_t l, uint32_t go)
{
    const struct shrink_layer *x = &v->plan->layer[l];
    const double *lost = v->lost + (size_t)l * v->feed;
    if (go == 0) return 0;
    double base = lost[quarter(v->s.m->config.layer[l].feed) - 1];
    return base > 0 ? x->feed_damage * lost[go - 1] / base : 0;
}

static double group_damage(const struct survey *v, uint32_t l, uint32_t go)
{
    const double *lost = v->group_lost + (size_t)l * v->kv;
    if (go == 0) return 0;
    return lost[0] > 0 ? v->plan->layer[l].heads_damage * lost[go - 1] / lost[0] : 0;
}

/* A way to have a layer: so many channels and groups go; or the layer. */
struct way { uint32_t feed, groups; bool gone; };

/* All ways of a layer that the options allow; cost: parameters. */
static size_t ways_of(const struct survey *v, uint32_t l, bool feed, bool groups, bool layer, struct choice *choice,
                      struct way *way)
{
    const struct layer_config *c = &v->s.m->config.layer[l];
    uint64_t all = layer_parameters(&v->s, l), each = feed_parameters(&v->s, l), group = group_parameters(&v->s, l);
    uint32_t most = feed && v->id[l][0] ? c->feed - quarter(c->feed) : 0;
    uint32_t heads = groups && v->id[l][1] ? c->kv_heads - 1 : 0;
    size_t n = 0;
    for (uint32_t g = 0; g <= heads; g++)
        for (uint32_t f = 0; f <= most; f += SHRINK_STEP) {
            uint32_t go = f ? f - (SHRINK_STEP - c->feed % SHRINK_STEP) % SHRINK_STEP : 0;
            way[n] = (struct way){ go, g, false };
            choice[n++] = (struct choice){ (double)(all - go * each - g * group),
                                           feed_damage(v, l, go) + group_damage(v, l, g) };
        }
    if (!layer || !v->id[l][2]) return n;
    way[n] = (struct way){ 0, 0, true };
    choice[n++] = (struct choice){ 0, v->plan->layer[l].layer_damage };
    return n;
}

static size_t most_ways(const struct survey *v) { return (size_t)(v->feed / SHRINK_STEP + 2) * v->kv + 1; }

struct menu { struct choice *choice; struct way *way; struct part *part; size_t *pick; };

static void menu_done(struct menu *m)
{
    mem_free(m->choice);
    mem_free(m->way);
    mem_free(m->part);
    mem_free(m->pick);
}

static stretto_status menu_open(struct menu *m, const struct survey *v, struct error *err)
{
    size_t n = most_ways(v) * v->plan->layers;
    *m = (struct menu){ mem_alloc(n * sizeof *m->choice), mem_alloc(n * sizeof *m->way),
                        mem_alloc(v->plan->layers * sizeof *m->part), mem_alloc(v->plan->layers * sizeof *m->pick) };
    return m->choice && m->way && m->part && m->pick ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
}

static void settle(struct survey *v, uint32_t l, struct way w, double damage)
{
    struct shrink_layer *x = &v->plan->layer[l];
    const struct layer_config *c = &v->s.m->config.layer[l];
    x->gone = w.gone;
    x->feed = c->feed - w.feed;
    x->kv_heads = c->kv_heads - w.groups;
    v->plan->damage += damage;
}

/* Sizes of their own for every layer. */
static stretto_status choose_each(struct survey *v, double go, bool feed, bool groups, bool layer, struct error *err)
{
    struct menu m;
    double whole = 0;
    stretto_status st = menu_open(&m, v, err);
    for (uint32_t l = 0; l < v->plan->layers && st == STRETTO_OK; l++) {
        size_t at = most_ways(v) * l;
        m.part[l] = (struct part){ m.choice + at, ways_of(v, l, feed, groups, layer, m.choice + at, m.way + at) };
        whole += (double)layer_parameters(&v->s, l);
    }
    if (st == STRETTO_OK) {
        st = allocate_budget(m.part, v->plan->layers, whole - go, m.pick, NULL);
        if (st == STRETTO_E_FULL) st = fail(err, st, "so much cannot go: every layer keeps a quarter of its channels "
                                            "and one group of heads");
    }
    for (uint32_t l = 0; l < v->plan->layers && st == STRETTO_OK; l++)
        settle(v, l, m.way[most_ways(v) * l + m.pick[l]], m.part[l].choice[m.pick[l]].damage);
    menu_done(&m);
    return st;
}

/* The layers whose going is cheapest, `n` of them. */
static void mark_layers(struct survey *v, uint32_t n)
{
    for (uint32_t l = 0; l < v->plan->layers; l++) v->plan->layer[l].gone = false;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t best = v->plan->layers;
        for (uint32_t l = 0; l < v->plan->layers; l++)
            if (v->id[l][2] && !v->plan->layer[l].gone
                && (best == v->plan->layers || v->plan->layer[l].layer_damage < v->plan->layer[best].layer_damage))
                best = l;
        if (best < v->plan->layers) v->plan->layer[best].gone = true;
    }
}

struct uniform { uint32_t layers, feed, groups; double damage; uint64_t gone; };

/* So much goes, and costs, when `u.layers` layers are left out and the others lose channels and groups alike. */
static void weigh(struct survey *v, struct uniform *u)
{
    u->damage = 0;
    u->gone = 0;
    for (uint32_t l = 0; l < v->plan->layers; l++) {
        bool gone = v->plan->layer[l].gone;
        u->gone += gone ? layer_parameters(&v->s, l)
                        : u->feed * feed_parameters(&v->s, l) + u->groups * group_parameters(&v->s, l);
        u->damage += gone ? v->plan->layer[l].layer_damage : feed_damage(v, l, u->feed) + group_damage(v, l, u->groups);
    }
}

/* One size for all layers: the cheapest of all numbers of layers, groups and channels that give so much. */
static stretto_status choose_alike(struct survey *v, double go, struct error *err)
{
    const struct layer_config *c = &v->s.m->config.layer[0];
    struct uniform best = { .damage = INFINITY };
    uint32_t most = c->feed - quarter(c->feed);
    for (uint32_t n = 0; n <= v->plan->layers / 2; n++) {
        mark_layers(v, n);
        for (uint32_t g = 0; g < c->kv_heads; g++)
            for (uint32_t f = 0; f <= most; f += SHRINK_STEP) {
                struct uniform u = { .layers = n, .feed = f, .groups = g };
                weigh(v, &u);
                if ((double)u.gone < go) continue;
                if (u.damage < best.damage) best = u;
                break;
            }
    }
    if (best.damage == INFINITY)
        return fail(err, STRETTO_E_FULL, "so much cannot go: half of the layers stay, a quarter of their channels and "
                    "one group of heads");
    mark_layers(v, best.layers);
    for (uint32_t l = 0; l < v->plan->layers; l++)
        settle(v, l, (struct way){ best.feed, best.groups, v->plan->layer[l].gone }, 0);
    v->plan->damage = best.damage;
    return STRETTO_OK;
}

/* Shares of kinds, as they were asked for. */
static stretto_status choose_kinds(struct survey *v, struct error *err)
{
    const struct shrink_options *o = v->s.o;
    const struct config *c = &v->s.m->config;
    bool each = shrink_arch(v->s.m) != NULL;
    uint32_t alike = (uint32_t)lround(o->feed * c->layer[0].feed / SHRINK_STEP) * SHRINK_STEP;
    double channels = 0, groups = 0;
    for (uint32_t l = 0; l < c->layers; l++) {
        channels += o->feed * (double)(feed_parameters(&v->s, l) * c->layer[l].feed);
        groups += o->heads * (double)(group_parameters(&v->s, l) * c->layer[l].kv_heads);
    }
    if (each && o->feed > 0) TRY(choose_each(v, channels, true, false, false, err));
    struct shrink_layer *kept = mem_alloc(c->layers * sizeof *kept);
    if (!kept) return fail(err, STRETTO_E_NOMEM, "out of memory");
    memcpy(kept, v->plan->layer, c->layers * sizeof *kept);
    stretto_status st = each && o->heads > 0 ? choose_each(v, groups, false, true, false, err) : STRETTO_OK;
    mark_layers(v, o->layers);
    for (uint32_t l = 0; l < c->layers; l++) {
        struct shrink_layer *x = &v->plan->layer[l];
        x->feed = each && o->feed > 0 ? kept[l].feed : c->layer[l].feed - alike;
        if (!each || !(o->heads > 0))
            x->kv_heads = c->layer[l].kv_heads - (uint32_t)lround(o->heads * c->layer[l].kv_heads);
        if (!each) v->plan->damage += feed_damage(v, l, alike);
        if (x->gone) v->plan->damage += x->layer_damage;
    }
    mem_free(kept);
    return st;
}

static uint64_t left_of(const struct survey *v)
{
    uint64_t left = all_parameters(v->s.m);
    for (uint32_t l = 0; l < v->plan->layers; l++) {
        const struct shrink_layer *x = &v->plan->layer[l];
        const struct layer_config *c = &v->s.m->config.layer[l];
        left -= x->gone ? layer_parameters(&v->s, l)
                        : (c->feed - x->feed) * feed_parameters(&v->s, l)
                              + (c->kv_heads - x->kv_heads) * group_parameters(&v->s, l);
    }
    return left;
}

static void read_trials(struct survey *v)
{
    for (uint32_t l = 0; l < v->plan->layers; l++) {
        struct shrink_layer *x = &v->plan->layer[l];
        double *to[3] = { &x->feed_damage, &x->heads_damage, &x->layer_damage };
        for (int i = 0; i < 3; i++) *to[i] = v->id[l][i] ? trials_divergence(v->trials, v->id[l][i]) : -1;
    }
}

static stretto_status walk(struct survey *v, struct error *err)
{
    const struct shrink_options *o = v->s.o;
    const struct calibration_text *t = &v->s.text;
    size_t most = o->trial_tokens ? o->trial_tokens : TRIAL_TOKENS;
    struct calibration_text few = { t->id, t->at + v->s.fit_texts, 0 };
    for (size_t i = v->s.fit_texts; i < t->n && few.at[few.n] - few.at[0] < most; i++) few.n++;
    TRY(take(v, err));
    TRY(trials_open(&v->trials, v->s.m, v->s.device, &v->s.b, &few, err));
    for (uint32_t l = 0; l < v->plan->layers; l++) {
        progress_tell(&o->progress, "layers surveyed", l, v->plan->layers);
        TRY(survey_layer(v, l, err));
    }
    progress_tell(&o->progress, "layers surveyed", v->plan->layers, v->plan->layers);
    read_trials(v);
    double go = o->share * (double)all_parameters(v->s.m);
    if (o->share <= 0) TRY(choose_kinds(v, err));
    else if (shrink_arch(v->s.m)) TRY(choose_each(v, go, true, true, true, err));
    else TRY(choose_alike(v, go, err));
    v->plan->parameters = all_parameters(v->s.m);
    v->plan->left = left_of(v);
    return STRETTO_OK;
}

static stretto_status check_layers(const struct config *c, uint32_t asked, struct error *err)
{
    uint32_t most = c->layers > 2 ? c->layers - 2 : 0;
    if (asked && windows_differ(c))
        return fail(err, STRETTO_E_ARG, "no layer can go: layers with a window and without take turns in this model");
    if (asked <= most) return STRETTO_OK;
    return fail(err, STRETTO_E_ARG, "%u of %u layers cannot go: the first and the last layer stay, so at most %u do",
                asked, c->layers, most);
}

stretto_status shrink_survey(struct shrink_plan *plan, const struct model *m, const struct shrink_options *o,
                             struct error *err)
{
    struct survey v = { .plan = plan };
    *plan = (struct shrink_plan){ 0 };
    TRY(check_layers(&m->config, o->layers, err));
    stretto_status st = shrink_begin(&v.s, m, o, err);
    if (st == STRETTO_OK) st = damage_blame(m->source, walk(&v, err), err);
    trials_close(v.trials);
    shrink_end(&v.s);
    mem_free(v.rows);
    mem_free(v.middle);
    mem_free(v.tap);
    mem_free(v.lost);
    mem_free(v.group_lost);
    mem_free(v.id);
    if (st != STRETTO_OK) shrink_plan_done(plan);
    return st;
}
