/* Prunes a model, for the checks in this folder: MODEL OUT WHAT=HOW ...
 *   sparse=magnitude|wanda|sparsegpt, sparsity=0.5, pattern=2:4, tiles=16x32
 *   adapter=SQUEEZED, rank=N or bytes=N                    OUT is the adapter of MODEL beside SQUEEZED
 *   share=0.2 | feed=0.2 heads=0.3 layers=1 | like=FILE    what goes
 *   plain=1                                                by the size of weights, nothing is solved
 *   tokens=4096 window=256 trial=1024 */
#include "base/memory.h"
#include "compress/lowrank.h"
#include "compress/shrink.h"
#include "compress/sparse.h"
#include "compress/texts.h"
#include "text/chat.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *option(int argc, char **argv, const char *name, const char *otherwise)
{
    size_t n = strlen(name);
    for (int i = 3; i < argc; i++)
        if (!strncmp(argv[i], name, n) && argv[i][n] == '=') return argv[i] + n + 1;
    return otherwise;
}

#define NUMBER(name, otherwise) strtod(option(argc, argv, name, otherwise), NULL)

static void tell(const struct shrink_plan *p)
{
    for (uint32_t l = 0; l < p->layers; l++) {
        const struct shrink_layer *x = &p->layer[l];
        printf("layer %u %u %u %g %g %g\n", l, x->gone ? 0 : x->feed, x->gone ? 0 : x->kv_heads, x->feed_damage,
               x->heads_damage, x->layer_damage);
    }
    printf("parameters %llu %llu damage %g\n", (unsigned long long)p->parameters, (unsigned long long)p->left,
           p->damage);
}

static stretto_status sparse(int argc, char **argv, const struct model *m, const struct calibrate_options *c,
                             struct error *err)
{
    struct sparse_options o = { .calibrate = *c, .force = true };
    struct prune_report report = { 0 };
    const char *pattern = option(argc, argv, "pattern", NULL), *tiles = option(argc, argv, "tiles", NULL);
    prune_defaults(&o.prune);
    o.prune.damp = NUMBER("damp", "0");
    if (!prune_score_find(option(argc, argv, "sparse", ""), &o.prune.score)
        || !prune_share(option(argc, argv, "sparsity", "0.5"), &o.prune.sparsity)
        || (pattern && !prune_pattern(pattern, &o.prune.keep, &o.prune.of))
        || (tiles && sscanf(tiles, "%ux%u", &o.prune.tile_rows, &o.prune.tile_columns) != 2))
        return fail(err, STRETTO_E_ARG, "no such way to prune");
    TRY(sparse_write(m, argv[2], &o, &report, err));
    printf("zeros %llu of %llu\n", (unsigned long long)report.zeros, (unsigned long long)report.weights);
    return STRETTO_OK;
}

static stretto_status adapter(int argc, char **argv, const struct model *m, const struct calibrate_options *c,
                              struct error *err)
{
    struct model_open_options how = { .graph_only = true };
    struct model *to;
    struct lowrank_options o = { .rank = (uint32_t)NUMBER("rank", "0"), .bytes = (uint64_t)NUMBER("bytes", "0"),
                                 .calibrate = *c, .force = true };
    struct lowrank_report r;
    TRY(model_open(&to, option(argc, argv, "adapter", ""), &how, err));
    stretto_status st = lowrank_write(m, to, argv[2], &o, &r, err);
    model_close(to);
    if (st == STRETTO_OK)
        printf("adapter %llu bytes, %u layers, error %g -> %g\n",
               (unsigned long long)r.bytes, r.layers, r.lost, r.kept);
    return st;
}

static stretto_status shape(int argc, char **argv, const struct model *m, const struct calibrate_options *c,
                            struct error *err)
{
    struct shrink_plan plan = { 0 };
    struct shrink_options o = { .share = NUMBER("share", "0"), .feed = NUMBER("feed", "0"),
                                .heads = NUMBER("heads", "0"), .layers = (uint32_t)NUMBER("layers", "0"),
                                .text = c->text, .workers = c->workers, .force = true,
                                .trial_tokens = (size_t)NUMBER("trial", "0"),
                                .plain = NUMBER("plain", "0") > 0 };
    const char *like = option(argc, argv, "like", NULL);
    stretto_status st = like ? shrink_plan_of(&plan, m, like, err) : shrink_survey(&plan, m, &o, err);
    if (st == STRETTO_OK) tell(&plan);
    if (st == STRETTO_OK) st = shrink_write(&plan, m, argv[2], &o, err);
    shrink_plan_done(&plan);
    return st;
}

static stretto_status run(int argc, char **argv, struct model **m, struct workers **w, struct error *err)
{
    struct model_open_options how = { .graph_only = true };
    struct text_file files[16];
    struct windows text = { 0 };
    TRY(model_open(m, argv[1], &how, err));
    TRY(workers_open(w, 2, err));
    TRY(windows_make(&text, files, texts_builtin(false, files, 16), (*m)->tokenizer, NULL,
                     (uint32_t)NUMBER("window", "256"), (size_t)NUMBER("tokens", "4096"), (*m)->config.vocab, err));
    struct calibrate_options c = { .text = windows_text(&text), .workers = *w };
    stretto_status st = option(argc, argv, "sparse", NULL)    ? sparse(argc, argv, *m, &c, err)
                        : option(argc, argv, "adapter", NULL) ? adapter(argc, argv, *m, &c, err)
                                                              : shape(argc, argv, *m, &c, err);
    windows_done(&text);
    return st;
}

int main(int argc, char **argv)
{
    struct error err = { 0 };
    struct model *m = NULL;
    struct workers *w = NULL;
    if (argc < 3) return 2;
    stretto_status st = run(argc, argv, &m, &w, &err);
    if (st != STRETTO_OK) fprintf(stderr, "%s\n", err.text);
    workers_close(w);
    model_close(m);
    return st == STRETTO_OK ? 0 : 1;
}
