#include "format/pooling.h"
#include "format/source_int.h"
#include <stdio.h>

static const char *const names[] = { "none", "mean", "cls", "last", "rank" };

const char *pooling_name(enum pooling kind) { return names[kind]; }

void source_pooling(const struct source *s, struct pooling_rule *out)
{
    uint64_t kind = POOLING_MEAN;
    *out = (struct pooling_rule){ .normalize = true };
    source_u64(s, ".pooling_type", &kind);
    source_bool(s, KEY_NORMALIZE, &out->normalize);
    if (s->pooling_refusal)
        snprintf(out->refusal, sizeof out->refusal, "%s", s->pooling_refusal);
    else if (kind == POOLING_RANK)
        snprintf(out->refusal, sizeof out->refusal,
                 "%s.pooling_type is 4 (rank): the model scores pairs of texts with the head of a "
                 "reranker", s->arch);
    else if (kind > POOLING_RANK)
        snprintf(out->refusal, sizeof out->refusal,
                 "%s.pooling_type is %llu, which has no meaning known here", s->arch,
                 (unsigned long long)kind);
    else out->kind = (enum pooling)kind;
}
