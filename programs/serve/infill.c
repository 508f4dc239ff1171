#include "serve/infill.h"
#include "serve/served.h"
#include <string.h>

/* How families spell the three. */
static const char *const spellings[][3] = {
    { "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>" },         /* Qwen2.5, CodeGemma  */
    { "<fim_prefix>", "<fim_suffix>", "<fim_middle>" },               /* StarCoder           */
    { "<PRE>", "<SUF>", "<MID>" },                                    /* Code Llama          */
    { "\xe2\x96\x81<PRE>", "\xe2\x96\x81<SUF>", "\xe2\x96\x81<MID>" },
    { "<\xef\xbd\x9c" "fim\xe2\x96\x81" "begin\xef\xbd\x9c>", "<\xef\xbd\x9c" "fim\xe2\x96\x81hole\xef\xbd\x9c>",
      "<\xef\xbd\x9c" "fim\xe2\x96\x81" "end\xef\xbd\x9c>" },         /* DeepSeek            */
    { "[PREFIX]", "[SUFFIX]", "[MIDDLE]" },                           /* Codestral           */
};

/* What the file says of them. */
static bool told(const struct served *m, int32_t id[3])
{
    static const char *const keys[] = { "tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.fim_suf_token_id",
                                        "tokenizer.ggml.fim_mid_token_id" };
    for (size_t k = 0; k < 3; k++) {
        uint64_t v;
        if (!source_u64(m->model->source, keys[k], &v) || v >= m->model->config.vocab) return false;
        id[k] = (int32_t)v;
    }
    return true;
}

static bool find(const struct served *m, int32_t id[3])
{
    const struct tokenizer *t = m->model->tokenizer;
    if (t && m->model->source && told(m, id)) return true;
    for (size_t i = 0; t && i < sizeof spellings / sizeof *spellings; i++) {
        bool all = true;
        for (size_t k = 0; k < 3; k++) {
            id[k] = tokenizer_find(t, spellings[i][k], strlen(spellings[i][k]));
            all &= id[k] >= 0;
        }
        if (all) return true;
    }
    return false;
}

bool infill_can(const struct served *m)
{
    int32_t id[3];
    return find(m, id);
}

static bool push(struct exchange *x, struct tokens *t, int32_t id)
{
    return tokens_push(t, id) == STRETTO_OK || trouble_status(&x->trouble, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
}

bool infill_prompt(struct exchange *x, const char *before, size_t n_before, const char *behind, size_t n_behind,
                   const char *extra, size_t n_extra)
{
    struct ask *a = &x->ask;
    int32_t id[3];
    if (!ask_fits(a, n_before + n_behind + n_extra, &x->trouble)) return false;
    if (!find(a->model, id))
        return exchange_refuse(x, TROUBLE_INVALID, "suffix", "the model %s has no tokens for a gap in a text: leave "
                               "the suffix out, or serve a model for code", a->model->name);
    if (!ask_prompts(a, 1, &x->trouble)) return false;
    struct tokens *t = &a->prompts[0];
    const struct tokenizer *k = a->model->model->tokenizer;
    size_t n;
    const int32_t *first = tokenizer_before(k, &n);
    for (size_t i = 0; i < n; i++)
        if (!push(x, t, first[i])) return false;
    return (!n_extra || ask_encode(a, extra, n_extra, 0, t, &x->trouble)) && push(x, t, id[0])
           && (!n_before || ask_encode(a, before, n_before, 0, t, &x->trouble)) && push(x, t, id[1])
           && (!n_behind || ask_encode(a, behind, n_behind, 0, t, &x->trouble)) && push(x, t, id[2]);
}
