/* The chain of a recipe. All weights: answers as they are, then with phrases, then rows that begin wrong (and once
 * more from the model's own states), then the types of the file, and last heads, which guess for what is served:
 * trained before, they would guess for weights that have changed since. Adapters are not stacked: one training
 * has all of it, and heads stand beside files alone. */
#include "format/source.h"
#include "stretto/commands.h"
#include "stretto/recipe.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const struct recipe recipes[] = {
    { .name = "sql", .grouped = true, .prompts = true, .phrases = 128, .epochs = 2 },
    { .name = "code", .texts = true, .prompts = true, .phrases = 64, .epochs = 2 },
    { .name = "chat", .phrases = 0, .epochs = 1 },
};
/* Shares of the budget, of what stages a chain has. */
enum { SHARE_ANSWERS = 45, SHARE_PHRASES = 15, SHARE_CONSISTENCY = 25, SHARE_AGAIN = 15, SHARE_HEADS = 15 };
enum { WATCHED = 16 };         /* answers: guessing may make a model repeat itself, and then it ends */
enum { BLOCK = 8 };            /* tokens; 16 rows cost too much but on AMX (docs/consistency.md) */
/* What is handed on to every training, where it was given. */
static const char *const handed[] = {
    "valid", "hold-out", "ctx-size", "skip-long", "plain-text", "learn-prompts", "rows", "rows-at-once", "optimizer",
    "optimizer-bytes", "precision", "ema", "seed", "keep", "save", "watch", "agreement" };
static const char *const of_adapters[] = { "rank", "alpha", "targets", "last-layers" };
/* Read here, or about how it runs. */
static const char *const own[] = {
    "recipe", "on-policy", "model", "data", "out", "method", "phrases", "block", "epochs", "budget", "plan", "threads",
    "yes", "quiet" };

const struct recipe *recipe_find(const char *name)
{
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++)
        if (strcmp(recipes[i].name, name) == 0) return &recipes[i];
    return NULL;
}

struct making {
    const struct recipe *r;
    const struct teach_command *o;
    struct chain *c;
    struct buffer word;
    const char *begin;           /* the model that the next stage begins with */
    bool full;
    stretto_status status;       /* of memory */
};

static void say(struct making *m, struct stage *s, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void say(struct making *m, struct stage *s, const char *fmt, ...)
{
    char text[8192];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (m->status == STRETTO_OK) m->status = words_say(&s->words, text);
}

static bool in(const char *const *list, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], key) == 0) return true;
    return false;
}
#define IN(list, key) in(list, sizeof(list) / sizeof *(list), key)

static void hand_on(struct making *m, struct stage *s, const char *const *list, size_t n)
{
    for (size_t u = 0; u < teach_n_uses; u++)
        for (size_t i = 0; i < teach_uses[u].group->n; i++) {
            const struct option *row = &teach_uses[u].group->options[i];
            const void *at = (const char *)m->o + teach_uses[u].at + row->at;
            if (option_given(row) && in(list, n, teach_key(row)) && m->status == STRETTO_OK)
                m->status = words_option(&s->words, &m->word, row, at);
        }
}

/* ---- stages ---------------------------------------------------------------------------------- */

static struct stage *next(struct making *m, const char *name, double share, const char *out)
{
    struct stage *s = &m->c->stage[m->c->n++];
    *s = (struct stage){ .name = name, .share = share };
    snprintf(s->out, sizeof s->out, "%s/%zu-%s%s", m->o->out, m->c->n, name, out);
    return s;
}

static struct stage *training(struct making *m, const char *name, double share)
{
    struct stage *s = next(m, name, share, "");
    say(m, s, "teach");
    say(m, s, "--model=%s", m->begin);
    for (size_t i = 0; i < m->o->data.n; i++) say(m, s, "--data=%s", m->o->data.v[i]);
    say(m, s, "--out=%s", s->out);
    hand_on(m, s, handed, sizeof handed / sizeof *handed);
    return s;
}

/* A training whose epochs are `times` those of one; with a budget they are enough for any. */
static void epochs(struct making *m, struct stage *s, unsigned times)
{
    unsigned n = teach_given("epochs") ? (unsigned)m->o->epochs : m->r->epochs;
    if (!m->o->budget) say(m, s, "--epochs=%u", times ? times * n : 1);
}

static struct stage *whole(struct making *m, const char *name, double share, unsigned times)
{
    struct stage *s = training(m, name, share);
    say(m, s, "--method=full");
    say(m, s, "--save-f32");
    epochs(m, s, times);
    return s;
}

/* What comes next begins with what this one learned. */
static void goes_on(struct making *m, const struct stage *s)
{
    snprintf(m->c->model, sizeof m->c->model, "%s/model.f32.gguf", s->out);
    m->begin = m->c->model;
}

static void say_phrases(struct making *m, struct stage *s) { say(m, s, "--phrases=%u", (unsigned)m->o->phrases); }

static void say_states(struct making *m, struct stage *s, const char *states)
{
    say(m, s, "--states=%s", states);
    if (!teach_given("watch") && m->o->valid.n) say(m, s, "--watch=%d", WATCHED);
    say(m, s, "--block=%lld", (long long)m->o->block);
}

static void again(struct making *m)
{
    struct stage *t = next(m, "states", 0, ".jsonl");
    say(m, t, "trace");
    say(m, t, "jacobi");
    say(m, t, "--model=%s", m->begin);
    say(m, t, "--prompts=%s/prompts.jsonl", m->o->out);
    say(m, t, "--output=%s", t->out);
    say(m, t, "--block=%lld", (long long)m->o->block);
    m->c->asks = true;
    struct stage *s = whole(m, "again", SHARE_AGAIN, 0);
    say_states(m, s, t->out);
    goes_on(m, s);
}

static void in_types(struct making *m, const char *type)
{
    struct stage *s = next(m, "model", 0, ".gguf");
    say(m, s, "convert");
    say(m, s, "--type=%s", type);
    say(m, s, "%s", m->begin);
    say(m, s, "%s", s->out);
    snprintf(m->c->model, sizeof m->c->model, "%s", s->out);
}

static void heads(struct making *m)
{
    struct stage *s = training(m, "heads", SHARE_HEADS);
    say(m, s, "--method=heads");
    epochs(m, s, 0);
    snprintf(m->c->heads, sizeof m->c->heads, "%s/heads.safetensors", s->out);
}

static void all_weights(struct making *m, const char *type)
{
    goes_on(m, whole(m, "answers", SHARE_ANSWERS, 1));
    if (m->o->phrases) {
        struct stage *s = whole(m, "phrases", SHARE_PHRASES, 0);
        say_phrases(m, s);
        goes_on(m, s);
    }
    if (m->o->block) {
        struct stage *s = whole(m, "consistency", SHARE_CONSISTENCY, 0);
        say_states(m, s, "noise");
        goes_on(m, s);
        if (m->o->on_policy) again(m);
    }
    if (strcmp(type, "f32") != 0) in_types(m, type);
    m->begin = m->c->model;
    heads(m);
}

static void adapter(struct making *m, const char *model)
{
    struct stage *s = training(m, "adapter", SHARE_ANSWERS + SHARE_PHRASES + SHARE_CONSISTENCY);
    say(m, s, "--method=lora");
    hand_on(m, s, of_adapters, sizeof of_adapters / sizeof *of_adapters);
    if (m->o->phrases) say_phrases(m, s);
    if (m->o->block) say_states(m, s, "noise");
    epochs(m, s, 1);
    snprintf(m->c->model, sizeof m->c->model, "%s", model);
    snprintf(m->c->adapter, sizeof m->c->adapter, "%s/adapter.gguf", s->out);
}

/* ---- budget, and what fits -------------------------------------------------------------------- */

static int divide(struct making *m, double seconds)
{
    double all = 0;
    for (size_t i = 0; i < m->c->n; i++) all += m->c->stage[i].share;
    for (size_t i = 0; i < m->c->n; i++) {
        struct stage *s = &m->c->stage[i];
        s->share /= all;
        if (s->share <= 0 || !m->o->budget) continue;
        say(m, s, "--epochs=1000");
        say(m, s, "--budget=%.0fs", seconds * s->share < 1 ? 1.0 : seconds * s->share);
    }
    return EXIT_DONE;
}

static int check_options(const struct making *m)
{
    for (size_t u = 0; u < teach_n_uses; u++)
        for (size_t i = 0; i < teach_uses[u].group->n; i++) {
            const struct option *row = &teach_uses[u].group->options[i];
            const char *key = teach_key(row);
            if (!option_given(row) || IN(own, key) || IN(handed, key)) continue;
            if (IN(of_adapters, key) && !m->full) continue;
            return command_usage("teach", "--%s does not go with --recipe, which chooses for each training: leave it "
                                 "out, or run the stages that --plan prints one by one", key);
        }
    if (!m->full && strcmp(m->o->method, "lora") != 0)
        return command_usage("teach", "--recipe trains all weights or an adapter: --method full or lora");
    if (m->o->on_policy && !m->o->block)
        return command_usage("teach", "--on-policy is more of what --block 0 leaves out");
    if (m->o->on_policy && !m->full)
        return command_usage("teach", "--on-policy goes on from weights that were learned: with --recipe it belongs to "
                             "--method full");
    return EXIT_DONE;
}

/* The type that most of a model's weights have, as `convert` spells it. */
static int type_of(const char *model, char out[16])
{
    struct source *s;
    struct error err = { 0 };
    stretto_status ok = source_open(&s, model, &err);
    if (ok != STRETTO_OK) return command_fail("teach", ok, err.text);
    snprintf(out, 16, "%s", dtype_table[source_main_type(s)].name);
    source_close(s);
    for (char *p = out; *p; p++) *p = (char)tolower((unsigned char)*p);
    return EXIT_DONE;
}

int recipe_chain(const struct recipe *r, const struct teach_command *o, const char *model, struct chain *out)
{
    struct teach_command filled = *o;
    struct making m = { .r = r, .o = &filled, .c = out, .word = buffer_make(1 << 16), .begin = model,
                        .full = !teach_given("method") || strcmp(o->method, "full") == 0 };
    char type[16];
    double seconds;
    *out = (struct chain){ .n = 0 };
    if (!teach_given("phrases")) filled.phrases = r->phrases;
    if (!teach_given("block")) filled.block = BLOCK;
    int code = check_options(&m);
    if (code == EXIT_DONE) code = teach_seconds(o->budget, &seconds);
    if (code == EXIT_DONE) code = type_of(model, type);
    if (code == EXIT_DONE && m.full) all_weights(&m, type);
    else if (code == EXIT_DONE) adapter(&m, model);
    if (code == EXIT_DONE) code = divide(&m, seconds);
    buffer_done(&m.word);
    return m.status == STRETTO_OK ? code : command_fail("teach", m.status, NULL);
}

void recipe_done(struct chain *c)
{
    for (size_t i = 0; i < c->n; i++) words_done(&c->stage[i].words);
}
