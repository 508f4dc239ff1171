#include "stretto/squeeze_shape.h"
#include "base/buffer.h"
#include "compress/codebook.h"
#include "compress/fold.h"
#include "compress/fold_weights.h"
#include "compress/lowrank.h"
#include "compress/shrink.h"
#include "compress/sparse.h"
#include "text/chat.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILES = 16, TOKENS = 16384, WINDOW = 512 };

bool shape_asked(const struct shape_command *o)
{
    return o->shrink || o->prune || o->shape_of || o->sparsity || o->pattern || o->mask || o->keys || o->share
           || o->fold;
}

#define AT(field) offsetof(struct shape_command, field)
static const struct option shape_rows[] = {
    { "--shrink", "SHARE", OPT_TEXT, AT(shrink), 0, 0,
      "leave out a share of the parameters, as 20%: feed-forward channels, groups of heads and layers, where "
      "answers move least; what stays is solved anew" },
    { "--prune", "ff=SHARE,heads=SHARE,layers=N", OPT_TEXT, AT(prune), 0, 0, "the same, by kinds" },
    { "--shape-of", "FILE", OPT_TEXT, AT(shape_of), 0, 0, "the same, with the shape of a file that --shrink wrote" },
    { "--repair", "none|ridge", OPT_CHOICE, AT(repair), 0, 0,
      "what is done after it: nothing, and what goes is what has the smallest weights; or solving [ridge]" },
    { "--sparsity", "SHARE", OPT_TEXT, AT(sparsity), 0, 0,
      "put zeros in place of a share of the weights, as 50%; no smaller and no faster by itself" },
    { "--mask", "magnitude|wanda|sparsegpt", OPT_CHOICE, AT(mask), 0, 0, "which weights become zero [sparsegpt]" },
    { "--pattern", "N:M|ROWSxCOLUMNS", OPT_TEXT, AT(pattern), 0, 0,
      "N of M neighbours stay, as 2:4; or zeros come as tiles, as 16x32" },
    { "--share", "N", OPT_TEXT, AT(share), 0, 0,
      "let the weights of a matrix share 2 to 256 values, kept as float16, which 'stretto pack' then makes small" },
    { "--low-rank", "RANK|BYTES", OPT_TEXT, AT(low_rank), 0, 0,
      "write what is lost as two thin matrices for each weight too, OUT.lora.gguf, as 16 or 4M" },
    { "--balance-keys", NULL, OPT_FLAG, AT(keys), 0, 0,
      "scale pairs of queries and keys against each other by powers of two, so that a cache of 8-bit codes holds the "
      "keys of models such as Qwen2 well; the answers keep their bits" },
    { "--fold", "awq|smooth|smooth-static|rotate", OPT_CHOICE, AT(fold), 0, 0,
      "move scales between layers before weights are rounded, which changes no answer: awq so that codes of --type "
      "lose less, smooth so that codes of what layers read do (--arithmetic int; with --scales smooth-static); rotate "
      "turns values inside heads" },
};
#undef AT
const struct option_group shape_group = { "A smaller shape", shape_rows, sizeof shape_rows / sizeof *shape_rows };

/* ---- words ------------------------------------------------------------------------------------ */

/* "ff=20%,heads=0.3,layers=2" */
static bool read_kinds(const char *text, struct shrink_options *out)
{
    char word[64];
    while (*text) {
        size_t n = strcspn(text, ",");
        const char *value = memchr(text, '=', n);
        char *end;
        if (!value || n >= sizeof word) return false;
        memcpy(word, text, n);
        word[n] = 0;
        size_t key = (size_t)(value - text);
        const char *v = word + key + 1;
        word[key] = 0;
        if (!strcmp(word, "layers")) {
            unsigned long layers = strtoul(v, &end, 10);
            if (end == v || *end || layers < 1 || layers > 1024) return false;
            out->layers = (uint32_t)layers;
        } else if (!prune_share(v, !strcmp(word, "ff") ? &out->feed : &out->heads)
                   || (strcmp(word, "ff") != 0 && strcmp(word, "heads") != 0))
            return false;
        text += n + (text[n] == ',');
    }
    return out->feed > 0 || out->heads > 0 || out->layers;
}

/* A rank, or with a K, M or G behind it bytes. */
static bool read_rank(const char *text, uint32_t *rank, uint64_t *bytes)
{
    char *end;
    double v = strtod(text, &end);
    char unit = (char)toupper((unsigned char)*end);
    double by = unit == 'K' ? 1e3 : unit == 'M' ? 1e6 : unit == 'G' ? 1e9 : 0;
    if (end == text || !(v > 0)) return false;
    if (by > 0 && !end[1]) *bytes = (uint64_t)(v * by);
    else if (!*end && v < 65536 && v == (double)(uint32_t)v) *rank = (uint32_t)v;
    else return false;
    return true;
}

/* 2 to CODEBOOK_MOST, or 0: it is no such number. */
static unsigned read_share(const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    return end == text || *end || n < 2 || n > CODEBOOK_MOST ? 0 : (unsigned)n;
}

static bool read_sparse(const struct shape_command *o, struct prune_options *out)
{
    prune_defaults(out);
    if (o->mask && !prune_score_find(o->mask, &out->score)) return false;
    if (o->pattern && !prune_pattern(o->pattern, &out->keep, &out->of)
        && (sscanf(o->pattern, "%ux%u", &out->tile_rows, &out->tile_columns) != 2 || !out->tile_rows
            || !out->tile_columns))
        return false;
    return !o->sparsity || (prune_share(o->sparsity, &out->sparsity) && out->sparsity > 0);
}

int shape_check(const struct shape_command *o)
{
    struct shrink_options shrink = { 0 };
    struct prune_options sparse;
    uint32_t rank;
    uint64_t bytes;
    double share;
    if (o->shrink && (!prune_share(o->shrink, &share) || share <= 0))
        return command_usage("squeeze", "--shrink %s is no share between 0 and 1, as 20%%", o->shrink);
    if (o->prune && !read_kinds(o->prune, &shrink))
        return command_usage("squeeze", "--prune %s is not like ff=20%%,heads=30%%,layers=2", o->prune);
    if ((o->shrink != NULL) + (o->prune != NULL) + (o->shape_of != NULL) > 1)
        return command_usage("squeeze", "--shrink, --prune and --shape-of are different ways to say what goes");
    if (o->repair && !o->shrink && !o->prune && !o->shape_of)
        return command_usage("squeeze", "--repair belongs to --shrink, --prune or --shape-of");
    if ((o->sparsity || o->pattern || o->mask) && !read_sparse(o, &sparse))
        return command_usage("squeeze", "zeros are asked for as --sparsity 0.5, or as a pattern: --pattern 2:4");
    if (o->share && !read_share(o->share))
        return command_usage("squeeze", "--share %s is no number from 2 to 256", o->share);
    if (o->mask && !o->sparsity && !o->pattern)
        return command_usage("squeeze", "--mask says how, --sparsity 50%% or --pattern 2:4 how many");
    if (o->sparsity && o->pattern && strchr(o->pattern, ':'))
        return command_usage("squeeze", "--pattern %s says how many zeros there are; leave out --sparsity", o->pattern);
    if (o->low_rank && !read_rank(o->low_rank, &rank, &bytes))
        return command_usage("squeeze", "--low-rank %s is no rank, as 16, and no size, as 4M", o->low_rank);
    if (o->fold && o->share)
        return command_usage("squeeze", "--fold would part the values that --share makes equal; leave one out");
    if (o->fold && o->fold[0] == 'r' && (o->sparsity || o->pattern))
        return command_usage("squeeze", "--fold rotate fills the zeros of --sparsity and --pattern; leave one out");
    if (o->low_rank && (o->fold || o->keys))
        return command_usage("squeeze", "--low-rank makes up for what rounding lost of the original's weights, which "
                             "%s changes", o->fold ? "--fold" : "--balance-keys");
    if (o->low_rank && (o->shrink || o->prune || o->shape_of))
        return command_usage("squeeze", "--low-rank belongs to a model of the original's shape");
    return EXIT_DONE;
}

/* ---- passes ------------------------------------------------------------------------------------- */

struct pass {
    const struct shape_work *w;
    struct model *m;
    struct workers *workers;
    struct windows text;
};

static stretto_status pass_open(struct pass *p, const struct shape_work *w, const char *in, struct error *err)
{
    struct model_open_options how = { .graph_only = true, .cancel = w->cancel };
    struct text_file files[FILES];
    struct chat *chat = NULL;
    size_t n = w->n_texts < FILES ? w->n_texts : FILES;
    *p = (struct pass){ .w = w };
    TRY(model_open(&p->m, in, &how, err));
    if (!p->m->tokenizer)
        return fail(err, STRETTO_E_ARG, "%s has no vocabulary to read a text with", in);
    TRY(workers_open(&p->workers, w->threads, err));
    for (size_t i = 0; i < n; i++) files[i] = w->texts[i];
    if (!n) n = texts_builtin(false, files, FILES);
    TRY(chat_open(&chat, p->m->tokenizer, err));
    uint32_t window = p->m->config.context && p->m->config.context < WINDOW ? p->m->config.context : WINDOW;
    stretto_status s = windows_make(&p->text, files, n, p->m->tokenizer, chat, window, w->tokens ? w->tokens : TOKENS,
                                    p->m->config.vocab, err);
    chat_close(chat);
    return s;
}

static void pass_done(struct pass *p)
{
    windows_done(&p->text);
    workers_close(p->workers);
    model_close(p->m);
}

static struct calibrate_options calibrate_of(const struct pass *p)
{
    return (struct calibrate_options){ .text = windows_text(&p->text), .workers = p->workers, .threads = p->w->threads,
                                       .progress = p->w->progress, .log = p->w->log, .cancel = p->w->cancel };
}

static void tell_plan(const struct pass *p, const struct shrink_plan *plan)
{
    char line[1000];
    uint32_t gone = 0, least = UINT32_MAX, most = 0;
    for (uint32_t l = 0; l < plan->layers; l++) {
        const struct shrink_layer *x = &plan->layer[l];
        gone += x->gone;
        if (x->gone) continue;
        if (x->feed < least) least = x->feed;
        if (x->feed > most) most = x->feed;
    }
    log_say(&p->w->log, LOG_INFO, "%.1f million of %.1f million parameters stay; %u of %u layers, %u to %u channels in "
            "them", (double)plan->left / 1e6, (double)plan->parameters / 1e6, plan->layers - gone, plan->layers, least,
            most);
    for (uint32_t l = 0; l < plan->layers; l++) {
        const struct shrink_layer *x = &plan->layer[l];
        int n = snprintf(line, sizeof line, "layer %u: ", l);
        if (x->gone) snprintf(line + n, sizeof line - (size_t)n, "goes");
        else snprintf(line + n, sizeof line - (size_t)n, "%u channels, %u groups of heads", x->feed, x->kv_heads);
        log_say(&p->w->log, LOG_DEBUG, "%s", line);
    }
}

static stretto_status shrink_pass_file(const struct pass *p, const char *out, struct error *err)
{
    const struct shape_command *o = p->w->o;
    struct shrink_options s = { .text = windows_text(&p->text), .workers = p->workers, .force = true,
                                .plain = o->repair && !strcmp(o->repair, "none"), .progress = p->w->progress,
                                .log = p->w->log, .cancel = p->w->cancel };
    struct shrink_plan plan;
    if (o->shrink) prune_share(o->shrink, &s.share);
    if (o->prune) read_kinds(o->prune, &s);
    TRY(o->shape_of ? shrink_plan_of(&plan, p->m, o->shape_of, err) : shrink_survey(&plan, p->m, &s, err));
    if (!o->shape_of) tell_plan(p, &plan);
    stretto_status st = shrink_write(&plan, p->m, out, &s, err);
    shrink_plan_done(&plan);
    return st;
}

static stretto_status sparse_pass_file(const struct pass *p, const char *out, struct error *err)
{
    struct sparse_options s = { .calibrate = calibrate_of(p), .force = true };
    struct prune_report report = { 0 };
    read_sparse(p->w->o, &s.prune);
    if (p->w->o->share) s.share = read_share(p->w->o->share);
    if (!p->w->o->sparsity && !p->w->o->pattern) s.prune.score = PRUNE_MAGNITUDE;
    TRY(sparse_write(p->m, out, &s, &report, err));
    log_say(&p->w->log, LOG_INFO, "%.1f %% of %.1f million weights are zero; a dense file is no smaller and no faster "
            "for it", 100 * (double)report.zeros / (double)report.weights, (double)report.weights / 1e6);
    return STRETTO_OK;
}

static stretto_status keys_pass_file(const struct pass *p, const char *out, struct error *err)
{
    struct calibrate_options how = calibrate_of(p);
    char recipe[64];
    struct rewrite_options ro = { .recipe = recipe, .force = true, .log = p->w->log };
    struct binding b = { p->m, model_param };
    struct calibration *c = NULL;
    struct rewrite *r = NULL;
    struct fold_report report;
    how.gram = true;
    snprintf(recipe, sizeof recipe, "balance keys by text %016llx", (unsigned long long)p->text.hash);
    TRY(calibration_open(&c, p->m, &b, &how, err));
    stretto_status s = rewrite_open(&r, p->m, out, &ro, err);
    if (s == STRETTO_OK) s = fold_keys(r, p->m, c, p->workers, &p->w->progress, &report, err);
    if (s == STRETTO_OK) s = rewrite_finish(r, err);
    rewrite_close(r, false);
    calibration_close(c);
    if (s != STRETTO_OK) return s;
    if (report.normed)
        log_say(&p->w->log, LOG_INFO, "%u of %u layers norm their keys, which makes them even already", report.normed,
                report.layers);
    if (report.normed < report.layers)
        log_say(&p->w->log, LOG_INFO, "keys of %u of %u layers are balanced: the largest pair was %.1f times the "
                "median one at most, and is %.1f times now", report.folded, report.layers, report.spread,
                report.spread_after);
    return STRETTO_OK;
}

/* What squeezing will make of a tensor. */
static enum dtype planned(void *ud, const char *tensor)
{
    size_t n;
    const struct squeeze_row *rows = squeeze_rows(ud, &n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].name, tensor) == 0) return rows[i].to;
    return DT_F32;
}

static enum fold_method fold_word(const char *word)
{
    static const char *const words[] = { "awq", "smooth", "smooth-static" };
    for (int i = 0; i < 3; i++)
        if (strcmp(words[i], word) == 0) return (enum fold_method)i;
    return FOLD_ROTATE;
}

static bool has_codes(struct squeeze *s)
{
    size_t n;
    const struct squeeze_row *rows = squeeze_rows(s, &n);
    for (size_t i = 0; i < n; i++)
        if (rows[i].to != rows[i].from && dtype_table[rows[i].to].block > 1) return true;
    return false;
}

static void tell_fold(const struct pass *p, const struct fold_result *f)
{
    log_say(&p->w->log, LOG_INFO, "of %zu values that layers read, %zu are free and %zu were changed%s%s", f->places,
            f->free, f->folded, f->why ? "; not free: " : "", f->why ? f->why : "");
    if (f->gain.before > 0)
        log_say(&p->w->log, LOG_INFO, "errors of their layers, by some rows: %.2f %% less",
                100 * (1 - f->gain.after / f->gain.before));
}

static stretto_status fold_into(const struct pass *p, const char *out, struct squeeze *plan, struct error *err)
{
    const char *word = p->w->o->fold;
    struct calibrate_options how = calibrate_of(p);
    struct feedback_options codes;
    char recipe[120];
    struct rewrite_options ro = { .recipe = recipe, .force = true, .log = p->w->log };
    struct binding b = { p->m, model_param };
    struct calibration *c = NULL;
    struct rewrite *r = NULL;
    struct fold_result result;
    feedback_defaults(&codes);
    codes.method = p->w->plan->method;
    codes.bits = p->w->plan->bits;
    codes.share = p->w->plan->share;
    struct fold_options o = { .method = fold_word(word), .how = &codes, .becomes = planned, .ud = plan,
                              .workers = p->workers, .requantize = p->w->plan->requantize, .progress = p->w->progress,
                              .cancel = p->w->cancel };
    how.gram = o.method == FOLD_AWQ;
    if (how.gram && !has_codes(plan))
        return fail(err, STRETTO_E_ARG, "--fold awq suits weights to codes, and --type %s makes none",
                    p->w->plan->type);
    snprintf(recipe, sizeof recipe, "fold %s for %s by text %016llx", word, p->w->plan->type,
             (unsigned long long)p->text.hash);
    if (o.method != FOLD_ROTATE) TRY(calibration_open(&c, p->m, &b, &how, err));
    stretto_status s = rewrite_open(&r, p->m, out, &ro, err);
    if (s == STRETTO_OK) rewrite_put_string(r, "stretto.squeeze.fold", word);
    if (s == STRETTO_OK) s = fold_weights(r, p->m, c, &o, &result, err);
    if (s == STRETTO_OK) s = rewrite_finish(r, err);
    rewrite_close(r, false);
    calibration_close(c);
    if (s == STRETTO_OK) tell_fold(p, &result);
    return s;
}

static stretto_status fold_pass_file(const struct pass *p, const char *out, struct error *err)
{
    struct squeeze_options o = *p->w->plan;
    struct squeeze *plan = NULL;
    o.copy = true;
    o.log = (struct log){ 0 };
    TRY(squeeze_open(&plan, source_path(p->m->source), &o, err));
    stretto_status s = fold_into(p, out, plan, err);
    squeeze_close(plan);
    return s;
}

typedef stretto_status pass_fn(const struct pass *p, const char *out, struct error *err);

static stretto_status one_pass(const struct shape_work *w, const char *in, const char *out, pass_fn *write,
                               struct error *err)
{
    struct pass p;
    stretto_status s = pass_open(&p, w, in, err);
    if (s == STRETTO_OK) s = write(&p, out, err);
    pass_done(&p);
    return s;
}

stretto_status shape_write(const struct shape_work *w, const char *in, const char *out, struct error *err)
{
    const struct shape_command *o = w->o;
    const struct { bool asked; const char *to; pass_fn *write; } passes[] = {
        { o->shrink || o->prune || o->shape_of, ".pass-dense", shrink_pass_file },
        { o->sparsity || o->pattern || o->share, ".pass-sparse", sparse_pass_file },
        { o->keys, ".pass-keys", keys_pass_file },
        { o->fold, ".pass-fold", fold_pass_file } };
    enum { PASSES = sizeof passes / sizeof *passes };
    struct buffer between[PASSES];
    size_t last = 0;
    stretto_status s = STRETTO_OK;
    for (size_t i = 0; i < PASSES; i++) {
        between[i] = buffer_make(1 << 16);
        if (passes[i].asked) last = i;
    }
    for (size_t i = 0; i < PASSES && s == STRETTO_OK; i++) {
        if (!passes[i].asked) continue;
        if (i < last) s = buffer_printf(&between[i], "%s%s", out, passes[i].to);
        if (s == STRETTO_OK) s = one_pass(w, in, i < last ? between[i].data : out, passes[i].write, err);
        if (i < last) in = between[i].data;
    }
    for (size_t i = 0; i < PASSES; i++) {
        if (between[i].len) unlink(between[i].data);
        buffer_done(&between[i]);
    }
    return s;
}

stretto_status shape_adapter(const struct shape_work *w, const char *in, const char *squeezed, const char *out,
                             struct error *err)
{
    struct pass p;
    struct model *original = NULL;
    struct model_open_options how = { .graph_only = true, .cancel = w->cancel };
    struct lowrank_report r;
    stretto_status s = pass_open(&p, w, squeezed, err);
    if (s == STRETTO_OK) s = model_open(&original, in, &how, err);
    if (s == STRETTO_OK) {
        struct lowrank_options o = { .calibrate = calibrate_of(&p), .force = true };
        read_rank(w->o->low_rank, &o.rank, &o.bytes);
        s = lowrank_write(original, p.m, out, &o, &r, err);
    }
    if (s == STRETTO_OK)
        log_say(&w->log, LOG_INFO, "%s: %.2f MB for %u layers take %.0f %% of their error away "
                "(llama.cpp: --lora)", out,
                (double)r.bytes / 1e6, r.layers, r.lost > 0 ? 100 * (1 - r.kept / r.lost) : 0);
    model_close(original);
    pass_done(&p);
    return s;
}
