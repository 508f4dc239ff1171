/* Lowering: the graph's nodes become phases. What fuses is decided by who reads a value, not by
 * what stands beside what. A value's uses are the inputs that name it, and one for each answer
 * (hidden, logits) that it is; a value that has a use is written where its readers look for it.
 *
 *   linear   All linear layers that read one value run together, where the first of them stands
 *            (q|k|v, gate|up): one barrier, and the value's rows stay in the cache. That value is
 *            all they need, so none of them can come too early. Biases are added in the row pass
 *            behind, before anybody reads.
 *   rows     Row-wise operations that follow one another are one pass over each row, without a
 *            barrier. All rows and the rows that ask do not share a pass: a row that asks reads a
 *            row that another thread may have written.
 *   forms    What linear layers read besides float32 (codes, bf16) is made once for each value, in
 *            the pass before the first of them, in all forms that any of them reads.
 *   act * x  An activation whose only use is a multiplication is one instruction with it where the
 *            kernels have one (same bits, kernels.h). Its value is never written.
 *   sets     Rows of a set are picked, and what was made of them is added where they came from: in place, where nobody
 *            else reads the value as it was. Rows that are in no set are not looked at, and a step without rows in a
 *            set passes over its phases. Linear layers of one set's rows run together once their inputs are made.
 *   head     The linear layer that makes the logits, with its bias and softcap. Answers come out of
 *            the threads' scratch; its value, and the softcap's, is written only where another node
 *            or the hidden state reads it. Without such a reader the head is the last phase, and a
 *            step in which nobody wants logits ends before it. Logits that something else makes
 *            are read from where it wrote them.
 *   d(act*x) What an activation times another value takes backwards is one instruction: it reads three values, and
 *            writes two gradients and, where a sink reads it, the product again.
 *   back     Linear layers backwards whose rows have been made share a phase (those of q|k|v, of gate|up), and so
 *            do sinks. What a node makes beside its value is written by it, wherever the node stands that names it.
 *
 * Buffers are planned by the phases between a value's birth and its last use, so two values that
 * never live together share memory; the hidden state lives to the end. tests/unit/backend holds
 * graphs of random shape to an interpreter that knows nothing of all this. */
#include "backend/lower.h"
#include "base/memory.h"
#include "kernels/panel.h"
#include <string.h>

/* What lowering knows of a value. */
struct life {
    uint32_t uses;
    int32_t reader;     /* the node that reads it, the last if there are several; or GRAPH_NONE  */
    int32_t born, dies; /* phase numbers; born -1: it is never written                           */
    uint8_t forms;      /* enum form: what linear layers read it as                              */
    bool formed;        /* a pass that makes them has been planned                               */
    int32_t beside;     /* the value that is made with it (OP_BESIDE), or GRAPH_NONE             */
    int32_t root;       /* itself, or the value that it is with some rows changed                */
};

struct buffer_plan { size_t at, bytes; int32_t free_after; bool parts; };
enum { VALUE_BUFFERS = 4 };   /* float32, codes, scales and sums, bf16 */

struct lower {
    const struct graph *g;
    const struct lower_rules *rule;
    struct phase *phases; /* NULL while counting                                     */
    struct row_instr *rows;
    size_t n_phases, n_rows;
    struct phase last; /* the newest phase, also while counting                   */
    struct life *life; /* [n_values]                                              */
    bool *done;        /* [n_nodes] a node that joined one before it              */
    bool *with;        /* [n_nodes] for a moment: those that join                 */
    const struct graph_node *head, *cap; /* NULL: the logits are made otherwise; no softcap  */
    int32_t loss_born, loss_dies;        /* the loss's first phase and its last              */
    struct buffer_plan *buffer; /* [VALUE_BUFFERS * n_values] */
    size_t n_buffers;
};

/* ---- who reads what
 * ------------------------------------------------------------------------------- */

static void use(struct lower *l, int32_t v, int32_t reader)
{
    if (v == GRAPH_NONE) return;
    l->life[v].uses++;
    if (reader != GRAPH_NONE) l->life[v].reader = reader;
}

/* Forms in which a linear layer, or its transposed, reads rows, besides float32: strict gives both roles that of
 * written rows. */
static uint8_t forms_of(const struct lower *l, uint8_t forms)
{
    if (!l->rule->strict || !(forms & FORM_BF16) || forms & FORM_BF16_WRITTEN) return forms;
    return forms & FORM_CODES ? FORM_CODES | FORM_CODES_GIVEN : 0;
}

static uint8_t forms_read(const struct lower *l, int32_t param)
{
    return forms_of(l, l->rule->forms(l->rule->ud, param));
}

/* Of a linear layer or the loss, whose last outputs may be a parameter of their own. */
static uint8_t forms_node(const struct lower *l, const struct graph_node *n)
{
    int32_t behind = node_param(l->g, n, 2);
    return (uint8_t)(forms_read(l, node_param(l->g, n, 0)) | (behind == GRAPH_NONE ? 0 : forms_read(l, behind)));
}

static uint8_t forms_back(const struct lower *l, int32_t param)
{
    return forms_of(l, l->rule->forms_back(l->rule->ud, param));
}

static const struct graph_node *maker(const struct graph *g, int32_t v)
{
    return &g->nodes[g->values[v].made_by];
}

static void find_head(struct lower *l)
{
    const struct graph *g = l->g;
    l->head = l->cap = NULL;
    if (g->logits == GRAPH_NONE) return;
    const struct graph_node *n = maker(g, g->logits), *cap = NULL;
    if (n->op == OP_SOFTCAP) {
        cap = n;
        n = maker(g, node_in(g, n, 0));
    }
    if (n->op != OP_LINEAR) return;
    l->head = n;
    l->cap = cap;
}

static void count_uses(struct lower *l)
{
    const struct graph *g = l->g;
    for (size_t v = 0; v < g->n_values; v++)
        l->life[v] = (struct life){ .reader = GRAPH_NONE, .born = -1, .dies = -1, .beside = GRAPH_NONE,
                                    .root = (int32_t)v };
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        for (uint32_t k = 0; k < n->in.count; k++) use(l, node_in(g, n, k), (int32_t)i);
        if (n->op == OP_LINEAR || n->op == OP_LOSS) l->life[node_in(g, n, 0)].forms |= forms_node(l, n);
        if (n->op == OP_LINEAR_BACK)
            l->life[node_in(g, n, 0)].forms |= forms_back(l, node_param(g, n, 0));
        if (n->op == OP_BESIDE) l->life[node_in(g, n, 0)].beside = n->out;
    }
    use(l, g->hidden, GRAPH_NONE);
    use(l, g->logits, GRAPH_NONE);
}

/* The sum changes some rows of its first term alone. */
static bool changes_some(const struct graph *g, const struct graph_node *n)
{
    return n->op == OP_ADD && rows_are_set(g->values[node_in(g, n, 1)].rows)
        && g->values[n->out].rows != g->values[node_in(g, n, 1)].rows;
}

/* Of a training, whose values are many: a sum stands where its first part did that nobody else reads. */
static bool adds_in_place(const struct graph *g, const struct graph_node *n)
{
    return g->loss && n->op == OP_ADD && g->values[n->out].rows == g->values[node_in(g, n, 0)].rows;
}

static void find_roots(struct lower *l)
{
    for (size_t i = 0; i < l->g->n_nodes; i++) {
        const struct graph_node *n = &l->g->nodes[i];
        if (!(changes_some(l->g, n) || adds_in_place(l->g, n)) || l->life[node_in(l->g, n, 0)].uses > 1) continue;
        int32_t root = l->life[node_in(l->g, n, 0)].root;
        l->life[n->out].root = root;
        l->life[root].forms |= l->life[n->out].forms;
    }
}

/* What is known of the memory of a value. */
static struct life *life_of(const struct lower *l, int32_t v) { return &l->life[l->life[v].root]; }

/* ---- phases
 * --------------------------------------------------------------------------------------- */

static void store_last(struct lower *l)
{
    if (l->n_phases && l->phases) l->phases[l->n_phases - 1] = l->last;
}

static void new_phase(struct lower *l, struct phase ph)
{
    store_last(l);
    l->n_phases++;
    l->last = ph;
    store_last(l);
}

/* The newest phase reads or writes the value. */
static void touch(struct lower *l, int32_t v)
{
    if (v == GRAPH_NONE) return;
    int32_t now = (int32_t)l->n_phases - 1;
    struct life *life = life_of(l, v);
    if (life->born < 0) life->born = now;
    life->dies = now;
}

static void row(struct lower *l, struct row_instr r, enum rows_kind rows)
{
    if (!l->n_phases || l->last.kind != PHASE_ROWS || l->last.rows != rows)
        new_phase(l, (struct phase){ .kind = PHASE_ROWS, .rows = rows,
                                     .first = (uint32_t)l->n_rows });
    if (l->rows) l->rows[l->n_rows] = r;
    l->n_rows++;
    l->last.count++;
    store_last(l);
    const int32_t values[] = { r.in, r.in2, r.in3, r.out, r.out2, r.out3 };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) touch(l, values[i]);
}

static struct row_instr instr(enum row_op op, const struct graph_node *n, int32_t in, int32_t in2, int32_t out)
{
    return (struct row_instr){ op, n, in, in2, out, GRAPH_NONE, GRAPH_NONE, GRAPH_NONE };
}

/* Which of the forms a row gets is looked up when it runs. */
static void make_forms(struct lower *l, const struct graph_node *n)
{
    int32_t x = node_in(l->g, n, 0);
    if (!l->life[x].forms || l->life[x].formed) return;
    l->life[x].formed = true;
    row(l, instr(ROW_QUANT, n, x, GRAPH_NONE, GRAPH_NONE), l->g->values[x].rows);
}

static void add_part(struct lower *l, const struct graph_node *n)
{
    int32_t x = node_in(l->g, n, 0);
    if (l->last.n_parts == MAX_PARTS)
        new_phase(l, (struct phase){ .kind = PHASE_LINEAR, .rows = l->g->values[x].rows });
    uint32_t at = l->last.n_parts++;
    l->last.part[at].in = x;
    l->last.part[at].out = n->out;
    l->last.part[at].param = node_param(l->g, n, 0);
    l->last.part[at].bias = GRAPH_NONE;
    store_last(l);
    touch(l, x);
    touch(l, n->out);
}

/* Whether a linear layer runs with those that read x. */
static bool runs_with(const struct lower *l, const struct graph_node *n, int32_t x)
{
    const struct graph *g = l->g;
    if (n->op != OP_LINEAR || n == l->head || l->done[n - g->nodes]) return false;
    int32_t in = node_in(g, n, 0);
    return in == x || (rows_are_set(g->values[x].rows) && g->values[in].rows == g->values[x].rows
                       && life_of(l, in)->born >= 0);
}

/* Node `first` and all linear layers behind it that read the same value, or may run with them; what is repeated behind
 * the loss waits for its turn. */
static void linears(struct lower *l, size_t first)
{
    const struct graph *g = l->g;
    size_t end = first;
    int32_t x = node_in(g, &g->nodes[first], 0);
    enum rows_kind rows = g->values[x].rows;
    for (; end < g->n_nodes && g->nodes[end].op != OP_LOSS; end++) l->with[end] = runs_with(l, &g->nodes[end], x);
    for (size_t i = first; i < end; i++)
        if (l->with[i]) make_forms(l, &g->nodes[i]);
    new_phase(l, (struct phase){ .kind = PHASE_LINEAR, .rows = rows });
    for (size_t i = first; i < end; i++)
        if (l->with[i]) {
            add_part(l, &g->nodes[i]);
            l->done[i] = true;
        }
    for (size_t i = first; i < end; i++)
        if (l->with[i] && node_param(g, &g->nodes[i], 1) != GRAPH_NONE)
            row(l, instr(ROW_BIAS, &g->nodes[i], g->nodes[i].out, GRAPH_NONE, g->nodes[i].out), rows);
}

/* The head's value v where it must be written: it has a use besides the softcap or the answer. */
static int32_t written(const struct lower *l, int32_t v)
{
    return l->life[v].uses > 1 ? v : GRAPH_NONE;
}

static bool head_is_read(const struct lower *l)
{
    return l->head && (written(l, l->head->out) != GRAPH_NONE
                       || (l->cap && written(l, l->cap->out) != GRAPH_NONE));
}

static void head(struct lower *l)
{
    const struct graph *g = l->g;
    const struct graph_node *n = l->head;
    struct phase ph = { .kind = PHASE_HEAD, .rows = ROWS_ASKING, .node = l->cap,
                        .capped = l->cap ? written(l, l->cap->out) : GRAPH_NONE };
    if (n) {
        make_forms(l, n);
        ph.n_parts = 1;
        ph.part[0].in = node_in(g, n, 0);
        ph.part[0].out = written(l, n->out);
        ph.part[0].param = node_param(g, n, 0);
        ph.part[0].bias = node_param(g, n, 1);
    }
    new_phase(l, ph);
    touch(l, n ? ph.part[0].in : g->logits);
    touch(l, n ? ph.part[0].out : GRAPH_NONE);
    touch(l, ph.capped);
}

/* The activation that a multiplication takes over: it is its only use. */
static const struct graph_node *taken_over(const struct lower *l, const struct graph_node *mul)
{
    for (uint32_t k = 0; k < 2; k++) {
        int32_t v = node_in(l->g, mul, k);
        const struct graph_node *made = maker(l->g, v);
        if (made->op == OP_ACT && made->act != ACT_GELU_ERF && l->life[v].uses == 1) return made;
    }
    return NULL;
}

static bool is_taken_over(const struct lower *l, const struct graph_node *act)
{
    int32_t reader = l->life[act->out].reader;
    if (reader == GRAPH_NONE || l->g->nodes[reader].op != OP_MUL) return false;
    return taken_over(l, &l->g->nodes[reader]) == act;
}

static void mul(struct lower *l, const struct graph_node *n)
{
    const struct graph_node *act = taken_over(l, n);
    int32_t x = node_in(l->g, n, 0), y = node_in(l->g, n, 1);
    struct row_instr r = instr(ROW_MUL, n, x, y, n->out);
    if (act) r = instr(ROW_ACT_MUL, act, node_in(l->g, act, 0), act->out == x ? y : x, n->out);
    row(l, r, l->g->values[n->out].rows);
}

/* Keys and values go to the cache row by row; then rows read what they see of it. */
static void attention(struct lower *l, const struct graph_node *n)
{
    const struct graph *g = l->g;
    row(l, instr(ROW_STORE, n, node_in(g, n, 1), node_in(g, n, 2), GRAPH_NONE), ROWS_ALL);
    new_phase(l, (struct phase){ .kind = PHASE_ATTENTION, .rows = ROWS_ALL, .node = n });
    touch(l, node_in(g, n, 0));
    touch(l, n->out);
}

/* Where the value as it was has other readers, it is copied first. */
static void add_some(struct lower *l, const struct graph_node *n)
{
    const struct graph *g = l->g;
    int32_t x = node_in(g, n, 0), some = node_in(g, n, 1);
    if (l->life[n->out].root == n->out) {
        row(l, instr(ROW_COPY, n, x, GRAPH_NONE, n->out), g->values[x].rows);
        x = n->out;
    }
    row(l, instr(ROW_ADD, n, x, some, n->out), g->values[some].rows);
}

/* ---- phases of a graph with a loss ----------------------------------------------------------- */

/* y = act(gate) * up backwards, as the rules make it (graph/differentiate.c): the activation again; its products with
 * dy, which is up's gradient, and with up, which is y again, or NULL where nobody reads that; dy * up, and dgate from
 * it. Which of the two products is which makes no difference. */
struct gated { const struct graph_node *product[2], *pull, *dgate; int32_t with[2]; };

static int32_t other_of(const struct graph *g, const struct graph_node *mul, int32_t v)
{
    return node_in(g, mul, node_in(g, mul, 0) == v);
}

static bool reads_value(const struct graph *g, const struct graph_node *n, int32_t v)
{
    return node_in(g, n, 0) == v || node_in(g, n, 1) == v;
}

/* What the activation begins, if there is nothing else that reads it and all that is read has been made. */
static bool find_gated(const struct lower *l, const struct graph_node *act, struct gated *x)
{
    const struct graph *g = l->g;
    uint32_t n = 0, uses = l->life[act->out].uses;
    *x = (struct gated){ .dgate = NULL };
    if (act->act == ACT_GELU_ERF || uses > 2) return false;
    for (const struct graph_node *r = act + 1; r < g->nodes + g->n_nodes && (n < uses || !x->dgate); r++) {
        if (r->op == OP_MUL && n < uses && reads_value(g, r, act->out)) {
            x->with[n] = other_of(g, r, act->out);
            x->product[n++] = r;
        }
        if (r->op == OP_ACT_BACK && r->act == act->act && node_in(g, r, 0) == node_in(g, act, 0)) x->dgate = r;
    }
    if (!n || n != uses || !x->dgate) return false;
    x->pull = maker(g, node_in(g, x->dgate, 1));
    if (x->pull->op != OP_MUL || l->life[x->pull->out].uses != 1 || !reads_value(g, x->pull, x->with[0])) return false;
    if (n == 1) x->with[1] = other_of(g, x->pull, x->with[0]);
    return other_of(g, x->pull, x->with[0]) == x->with[1] && l->life[node_in(g, act, 0)].born >= 0
           && l->life[x->with[0]].born >= 0 && l->life[x->with[1]].born >= 0;
}

static bool gated_back(struct lower *l, const struct graph_node *act)
{
    struct gated x;
    if (!l->g->loss || !find_gated(l, act, &x)) return false;
    struct row_instr r = instr(ROW_ACT_MUL_BACK, x.dgate, node_in(l->g, act, 0), x.with[1], x.dgate->out);
    r.in3 = x.with[0];
    r.out2 = x.product[0]->out;
    r.out3 = x.product[1] ? x.product[1]->out : GRAPH_NONE;
    row(l, r, l->g->values[act->out].rows);
    const struct graph_node *const made[] = { x.product[0], x.pull, x.dgate, x.product[1] };
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        if (made[i]) l->done[made[i] - l->g->nodes] = true;
    return true;
}

static bool is_sink(const struct graph_node *n) { return n->out == GRAPH_NONE; }

/* All that it reads has been made. */
static bool ready(const struct lower *l, const struct graph_node *n)
{
    for (uint32_t k = 0; k < n->in.count; k++)
        if (life_of(l, node_in(l->g, n, k))->born < 0) return false;
    return true;
}

static bool joins(const struct lower *l, const struct graph_node *n, enum phase_kind kind)
{
    if (l->done[n - l->g->nodes] || !ready(l, n)) return false;
    return kind == PHASE_GRAD ? is_sink(n) : n->op == OP_LINEAR_BACK;
}

/* Two layers that share a weight add to one gradient, one after the other. */
static bool adds_twice(const struct phase *ph, const struct graph *g, const struct graph_node *n)
{
    bool same = false;
    for (uint32_t i = 0; i < ph->n_parts && ph->kind == PHASE_GRAD; i++)
        same |= ph->part[i].param == node_param(g, n, 0);
    return same;
}

static void add_back(struct lower *l, const struct graph_node *n, enum phase_kind kind)
{
    int32_t dy = node_in(l->g, n, n->op == OP_GRAD_LINEAR || n->op == OP_GRAD_NORM);
    enum rows_kind rows = l->g->values[dy].rows;
    if (l->last.kind != kind || l->last.rows != rows || l->last.n_parts == MAX_PARTS || adds_twice(&l->last, l->g, n))
        new_phase(l, (struct phase){ .kind = kind, .rows = rows });
    uint32_t at = l->last.n_parts++;
    l->last.part[at].in = dy;
    l->last.part[at].out = n->out;
    l->last.part[at].param = node_param(l->g, n, 0);
    l->last.part[at].bias = node_param(l->g, n, 1);
    l->last.part[at].node = n;
    store_last(l);
    for (uint32_t k = 0; k < n->in.count; k++) touch(l, node_in(l->g, n, k));
    touch(l, n->out);
    l->done[n - l->g->nodes] = true;
}

/* Node `first` and all behind it that can run beside it. Where they stand in one phase, none may read what it makes:
 * what they read has been made before its first. */
static void backs(struct lower *l, size_t first, enum phase_kind kind)
{
    const struct graph *g = l->g;
    bool *with = l->with;
    for (size_t i = first; i < g->n_nodes; i++) with[i] = joins(l, &g->nodes[i], kind);
    for (size_t i = first; i < g->n_nodes && kind == PHASE_BACK; i++)
        if (with[i]) make_forms(l, &g->nodes[i]);
    new_phase(l, (struct phase){ .kind = kind, .rows = g->values[node_in(g, &g->nodes[first], 0)].rows });
    for (size_t i = first; i < g->n_nodes; i++)
        if (with[i]) add_back(l, &g->nodes[i], kind);
}

static void see(struct lower *l, const struct graph_node *n)
{
    struct phase ph = { .kind = PHASE_SEE, .rows = ROWS_ALL, .node = n };
    ph.part[0].out = n->out;
    ph.part[0].param = l->life[n->out].beside;
    new_phase(l, ph);
    for (uint32_t k = 0; k < 3; k++) touch(l, node_in(l->g, n, k));
    touch(l, n->out);
    touch(l, ph.part[0].param);
}

/* The node and those of the same attention's other sides. */
static void see_back(struct lower *l, size_t first)
{
    const struct graph *g = l->g;
    struct phase ph = { .kind = PHASE_SEE_BACK, .rows = ROWS_ALL, .node = &g->nodes[first] };
    for (uint32_t k = 0; k < 3; k++) ph.part[k].out = GRAPH_NONE;
    new_phase(l, ph);
    for (size_t i = first; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        if (n->op != OP_SEE_BACK || node_in(g, n, 4) != node_in(g, ph.node, 4)) continue;
        l->last.part[n->see.side].out = n->out;
        l->done[i] = true;
        for (uint32_t k = 0; k < n->in.count; k++) touch(l, node_in(g, n, k));
        touch(l, n->out);
    }
    store_last(l);
}

/* Logits of all rows would be the largest thing in memory. Of so many they are some 16 MB, or 32 where a gradient of
 * the head is read and written for them, or what 64 rows have: enough for the head to be read seldom. Which rows go
 * together changes no bit. */
static uint32_t loss_rows(const struct lower *l, const struct graph_node *n)
{
    uint32_t rows = ((uint32_t)1 << (n->loss.trained ? 23 : 22)) / graph_loss_width(l->g, n) / 64 * 64;
    rows = rows < 64 ? 64 : rows > 256 ? 256 : rows;
    return rows < l->rule->max_asks ? rows : l->rule->max_asks;
}

static void loss(struct lower *l, const struct graph_node *n)
{
    static const enum phase_kind kinds[] = { PHASE_LOGITS, PHASE_LIKE, PHASE_LOSS, PHASE_LOSS_BACK, PHASE_LOSS_GRAD };
    enum { KINDS = sizeof kinds / sizeof *kinds };
    bool wanted[KINDS] = { true, l->rule->likes, true, l->life[n->out].uses > 0, n->loss.trained };
    make_forms(l, n);
    uint32_t rows = loss_rows(l, n);
    for (uint32_t first = 0; first < l->rule->max_asks; first += rows)
        for (int k = 0; k < KINDS; k++) {
            if (!wanted[k]) continue;
            struct phase ph = { .kind = kinds[k], .rows = ROWS_ASKING, .node = n, .first = first, .count = rows,
                                .n_parts = 1 };
            ph.part[0].in = node_in(l->g, n, 0);
            ph.part[0].out = wanted[3] ? n->out : GRAPH_NONE;
            ph.part[0].param = node_param(l->g, n, 0);
            ph.part[0].bias = node_param(l->g, n, 1);
            new_phase(l, ph);
            touch(l, ph.part[0].in);
            touch(l, ph.part[0].out);
            if (!first && !k) l->loss_born = (int32_t)l->n_phases - 1;
            l->loss_dies = (int32_t)l->n_phases - 1;
        }
}

/* Rules: the head of this file. Every node becomes row instructions or a phase exactly once, or is done by
 * the one node that reads it. */
static void lower_node(struct lower *l, size_t i)
{
    const struct graph *g = l->g;
    const struct graph_node *n = &g->nodes[i];
    static const enum row_op plain[OP_COUNT] = {
        [OP_EMBED] = ROW_EMBED, [OP_NORM] = ROW_NORM, [OP_ROPE] = ROW_ROPE, [OP_ACT] = ROW_ACT,
        [OP_ADD] = ROW_ADD, [OP_SCALE] = ROW_SCALE, [OP_SOFTCAP] = ROW_SOFTCAP, [OP_ASK] = ROW_ASK,
        [OP_UNASK] = ROW_UNASK, [OP_DOTS] = ROW_DOTS, [OP_NORM_BACK] = ROW_NORM_BACK, [OP_ACT_BACK] = ROW_ACT_BACK,
        [OP_SOFTCAP_BACK] = ROW_SOFTCAP_BACK, [OP_WEIGH] = ROW_WEIGH,
    };
    if (l->done[i]) return;
    switch (n->op) {
    case OP_LINEAR:
        if (n != l->head) linears(l, i);
        if (n == l->head && head_is_read(l)) head(l);
        return;
    case OP_ATTENTION: attention(l, n); return;
    case OP_MUL: mul(l, n); return;
    case OP_SEE: see(l, n); return;
    case OP_SEE_BACK: see_back(l, i); return;
    case OP_BESIDE: return;
    case OP_LOSS: loss(l, n); return;
    case OP_LINEAR_BACK: backs(l, i, PHASE_BACK); return;
    case OP_GRAD_LINEAR: case OP_GRAD_NORM: case OP_GRAD_EMBED: backs(l, i, PHASE_GRAD); return;
    case OP_ACT:
        if (gated_back(l, n) || is_taken_over(l, n)) return;
        break;
    case OP_ADD:
        if (!changes_some(g, n)) break;
        add_some(l, n);
        return;
    case OP_SOFTCAP:
        if (n == l->cap) return;
        break;
    default: break;
    }
    row(l, instr(plain[n->op], n, node_in(g, n, 0), node_in(g, n, 1), n->out), g->values[n->out].rows);
}

static void walk(struct lower *l)
{
    const struct graph *g = l->g;
    l->n_phases = l->n_rows = 0;
    l->last = (struct phase){ 0 };
    memset(l->done, 0, g->n_nodes * sizeof *l->done);
    find_head(l);
    count_uses(l);
    find_roots(l);
    if (g->n_rope)
        row(l, instr(ROW_ANGLES, NULL, GRAPH_NONE, GRAPH_NONE, GRAPH_NONE), ROWS_ALL);
    for (size_t i = 0; i < g->n_nodes; i++) lower_node(l, i);
    if (g->logits != GRAPH_NONE && !head_is_read(l)) head(l);
    if (g->hidden != GRAPH_NONE) life_of(l, g->hidden)->dies = (int32_t)l->n_phases;
}

/* Row strides keep away from multiples of 1 KiB, where the rows of a block would fight for few sets of a cache. */
static size_t pad_row(size_t elements, size_t size)
{
    size_t bytes = (elements * size + 63) & ~(size_t)63;
    if (bytes % 1024 == 0) bytes += 64;
    return bytes / size;
}

/* Best fit among buffers whose value has died; sizes differ little, so waste stays small. Where a loss is, values
 * live long: codes that took the place of float32 rows would double the memory of all. Two values of one phase never
 * share: it may read one while it writes the other. Values may come in any order: a buffer counts as taken until the
 * last death in it. What had the loss's logits, far more than anything else, is given away piece by piece. */
static size_t take_buffer(struct lower *l, struct arena *a, size_t bytes, const struct life *v)
{
    struct buffer_plan *best = NULL;
    for (struct buffer_plan *b = l->buffer; b < l->buffer + l->n_buffers; b++)
        if (b->free_after < v->born && b->bytes >= bytes && (!best || b->bytes < best->bytes)
            && (b->parts || !l->g->loss || b->bytes - b->bytes / 3 <= bytes))
            best = b;
    if (best && best->parts) {
        size_t piece = (bytes + 63) & ~(size_t)63;
        struct buffer_plan *rest = best;
        best = &l->buffer[l->n_buffers++];
        *best = (struct buffer_plan){ rest->at, piece < rest->bytes ? piece : rest->bytes, 0, false };
        rest->at += best->bytes;
        rest->bytes -= best->bytes;
    }
    if (!best) {
        arena_take(a, bytes);
        best = &l->buffer[l->n_buffers++];
        *best = (struct buffer_plan){ a->top - bytes, bytes, 0, false };
    }
    best->free_after = v->dies;
    return best->at;
}

/* Codes of a value come in whole groups: what is behind its width is zeros then. */
static struct value_place place_rows(struct lower *l, struct arena *a, size_t rows, size_t width,
                                     const struct life *life)
{
    struct value_place x = { .forms = life->forms };
    size_t group = x.forms ? PANEL_GROUP : 1, padded = (width + group - 1) / group * group;
    x.ld = pad_row(padded, sizeof(float));
    x.f = take_buffer(l, a, rows * x.ld * sizeof(float), life);
    if (x.forms) x.ldq = pad_row(padded, 1);
    if (x.forms & FORM_CODES) {
        x.ldd = pad_row(padded / PANEL_GROUP, sizeof(float));
        x.q = take_buffer(l, a, rows * x.ldq, life);
        x.d = take_buffer(l, a, 3 * rows * x.ldd * sizeof(float), life);
        x.s = x.d + rows * x.ldd * sizeof(float);
        x.sum = x.s + rows * x.ldd * sizeof(float);
    }
    if (x.forms & FORM_BF16) x.h = take_buffer(l, a, rows * x.ldq * sizeof(uint16_t), life);
    return x;
}

/* Values get their buffers in the order of their births, so what has died by then can be taken again. */
static void place_values(struct lower *l, struct arena *a, struct value_place *place)
{
    for (size_t v = 0; v < l->g->n_values; v++) {
        if (place) place[v] = (struct value_place){ 0 };
        if (place && l->life[v].root != (int32_t)v) place[v] = place[l->life[v].root];
        if (l->life[v].born < 0) continue;
        bool asking = rows_whole(l->g->values[v].rows) == ROWS_ASKING;
        size_t rows = asking ? l->rule->max_asks : l->rule->max_rows;
        struct value_place x = place_rows(l, a, rows, l->g->values[v].width, &l->life[v]);
        if (place) place[v] = x;
    }
}

/* Logits of a few rows, from the loss's first phase to its last: before all values, so that they find what it had. */
static void place_logits(struct lower *l, struct arena *a, struct lowered *out)
{
    for (size_t i = 0; i < l->g->n_nodes; i++) {
        const struct graph_node *n = &l->g->nodes[i];
        if (n->op != OP_LOSS) continue;
        struct life life = { .born = l->loss_born, .dies = l->loss_dies };
        if (l->rule->likes) out->like = place_rows(l, a, loss_rows(l, n), graph_loss_width(l->g, n), &life);
        if (l->life[n->out].uses) life.forms = forms_back(l, node_param(l->g, n, 0));
        out->logits = place_rows(l, a, loss_rows(l, n), graph_loss_width(l->g, n), &life);
        for (size_t b = 0; b < l->n_buffers; b++) l->buffer[b].parts = true;
    }
}

static void take_all(struct lower *l, struct lowered *out, struct arena *own, struct arena *values)
{
    l->phases = NULL;
    l->rows = NULL;
    walk(l);
    size_t n_phases = l->n_phases, n_rows = l->n_rows;
    struct phase *phases = arena_take(own, n_phases * sizeof *phases);
    struct row_instr *rows = arena_take(own, n_rows * sizeof *rows);
    struct value_place *place = arena_take(own, l->g->n_values * sizeof *place);
    *out = (struct lowered){ .n_phases = n_phases, .n_rows = n_rows,
                             .ends_in_head = l->g->logits != GRAPH_NONE && !head_is_read(l) };
    if (own->base) {
        out->phases = l->phases = phases;
        out->rows = l->rows = rows;
        out->place = place;
        walk(l);
        store_last(l);
    }
    l->n_buffers = 0;
    place_logits(l, values, out);
    place_values(l, values, own->base ? place : NULL);
}

stretto_status lower(const struct graph *g, const struct lower_rules *r, struct lowered *out,
                     struct arena *own, struct arena *values, struct error *err)
{
    struct lower l = { .g = g, .rule = r };
    if (g->loss && !r->forms_back)
        return fail(err, STRETTO_E_UNSUP, "this backend cannot train: it has no '%s'", op_table[OP_LOSS].name);
    if (g->n_sets && !r->sets)
        return fail(err, STRETTO_E_UNSUP, "this backend cannot choose adapters for rows: it has no '%s'",
                    op_table[OP_WEIGH].name);
    l.life = mem_alloc(g->n_values * sizeof *l.life);
    l.done = mem_alloc(2 * g->n_nodes * sizeof *l.done);
    l.with = l.done + g->n_nodes;
    l.buffer = mem_alloc((VALUE_BUFFERS * g->n_values + 2 * VALUE_BUFFERS) * sizeof *l.buffer);
    stretto_status s = STRETTO_OK;
    if (!l.life || !l.done || !l.buffer)
        s = fail(err, STRETTO_E_NOMEM, "out of memory while planning");
    else take_all(&l, out, own, values);
    mem_free(l.life);
    mem_free(l.done);
    mem_free(l.buffer);
    return s;
}
