/* Types of caches beside each other, and which of them a squeezed model takes best. */
#include "stretto/squeeze_command.h"
#include <stdio.h>
#include <string.h>

/* What a cache may add: this, or a tenth of what squeezing took. */
#define LITTLE 0.003

int caches_read(const char *words, struct cache_list *out)
{
    char list[120], *save;
    *out = (struct cache_list){ .n = 0 };
    if (!words) return EXIT_DONE;
    snprintf(list, sizeof list, "%s", strcmp(words, "all") == 0 ? "f16,q8_0,q8_0+q4_0" : words);
    for (char *w = strtok_r(list, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
        if (out->n == EVAL_MODELS) return command_usage("squeeze", "--cache takes at most %d types", EVAL_MODELS);
        if (!cache_type_by_name(w, &out->type[out->n++]))
            return command_usage("squeeze", "--cache takes some of f32,f16,bf16,q8_0,q8_0+q4_0 (keys+values), or all, "
                                 "not '%s'", w);
    }
    return out->n ? EXIT_DONE : command_usage("squeeze", "--cache takes types as f16,q8_0, or all");
}

const struct cache_verdict *caches_best(const struct squeeze_result *r)
{
    const struct cache_verdict *best = NULL;
    double most = 0.1 * r->verdict.all.kl.value;
    if (most < LITTLE) most = LITTLE;
    for (size_t i = 0; i < r->n_caches; i++) {
        const struct cache_verdict *c = &r->cache[i];
        if (c->kl.kl.value <= most && (!best || c->bytes < best->bytes)) best = c;
    }
    return best;
}

void caches_print(const struct squeeze_result *r)
{
    const struct cache_verdict *best = caches_best(r);
    if (!r->n_caches) return;
    printf("\n  %-16s %14s  %-17s  %6s   %7s\n", "cache", "bytes a token", "  KL, nats", "99 %", "same top");
    for (size_t i = 0; i < r->n_caches; i++) {
        const struct cache_verdict *c = &r->cache[i];
        printf("  %-16s %14.0f  %7.4f +- %.4f  %6.3f   %5.1f %%%s\n", cache_type_name(c->type), c->bytes,
               c->kl.kl.value, c->kl.kl.error, c->kl.p99, 100 * c->kl.same_top.value, c == best ? "  recommended" : "");
    }
    if (!best) printf("  none of them is near enough to a cache of float32 to be recommended\n");
}

json_t *caches_json(const struct squeeze_result *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->n_caches; i++) {
        const struct cache_verdict *c = &r->cache[i];
        json_array_append_new(list, json_pack("{s:s,s:f,s:f,s:f,s:f,s:f}", "type", cache_type_name(c->type), "bytes",
                                              c->bytes, "kl", c->kl.kl.value, "kl_error", c->kl.kl.error, "p99",
                                              c->kl.p99, "same_top", c->kl.same_top.value));
    }
    return list;
}
