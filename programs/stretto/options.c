#include "stretto/options.h"
#include <math.h>

#define AT(field) offsetof(struct model_options, field)
static const struct option model_rows[] = {
    {"-m --model", "MODEL", OPT_TEXT, AT(model), 0, 0,
     "a GGUF file, a Hugging Face folder, a name that 'stretto models' lists, or hf:USER/REPO[:QUANT] "
     "[the default model]"},
    {"-hf --hf-repo", "USER/REPO[:QUANT]", OPT_TEXT, AT(hf), 0, 0, "the same as -m hf:USER/REPO[:QUANT]"},
    {"-y --yes", NULL, OPT_FLAG, AT(yes), 0, 0, "fetch a model that is not here without asking"},
    {"--lora", "FILE[=SCALE]", OPT_TEXTS, AT(adapters), 0, 0,
     "an adapter (LoRA) beside the model: a GGUF file or PEFT's folder, with what it adds times SCALE; may be given "
     "several times. One that acts on guesses alone guesses, and changes no text (--decode gated or auto). serve also "
     "takes NAME=FILE[=SCALE]: requests choose it as MODEL:NAME"},
    {"-t --threads", "N", OPT_INT, AT(threads), 0, 256,
     "threads; 0 uses what the machine and its container allow [0]"},
    {"-c --ctx-size", "N", OPT_INT, AT(context), 0, 1 << 24,
     "tokens of context; 0 uses what the model was trained for, or less if that does not fit in memory [0]"},
    {"-ctk --cache-type-k", "f16|bf16|f32|q8_0", OPT_CHOICE, AT(type_k), 0, 0,
     "how the cache stores keys; keys of 4 bits would spoil the answers [f16]"},
    {"-ctv --cache-type-v", "f16|bf16|f32|q8_0|q4_0", OPT_CHOICE, AT(type_v), 0, 0,
     "how the cache stores values: as -ctk, or q4_0 (4 bits, rotated) with keys of q8_0, which "
     "takes 44 % of the memory of f16 but diverges up to three times as far as q8_0 [f16]"},
    {"-dev --device", "DEVICE", OPT_TEXT, AT(device), 0, 0,
     "where the model runs: cpu, gpu, gpu:N, cuda:N, opencl:N, or auto: a GPU where there is one, and the CPU where "
     "that fails; gpu:0,gpu:1 is both, by layers; 'stretto info --devices' lists them [cpu]"},
    {"-ngl --gpu-layers --n-gpu-layers", "N", OPT_TEXT, AT(gpu_layers), 0, 0,
     "with a GPU: how many of the model's layers run there, or all, or auto; the CPU has the others [auto]"},
    {"--reference", NULL, OPT_FLAG, AT(reference), 0, 0,
     "use float32 for weights, activations and, unless -ctk or -ctv say otherwise, the cache"},
    {"--arithmetic", "float|int", OPT_CHOICE, AT(arithmetic), 0, 0,
     "int computes in integers alone between the embedding and the logits, on the CPU, with 8-bit weights, "
     "activations, keys and values; for study and other hardware: neither as exact nor as fast as float [float]"},
    {"--scales", "FILE", OPT_TEXT, AT(scales), 0, 0,
     "with --arithmetic int: scales of activations from a file that 'stretto eval scales' made, instead of one for "
     "each row"},
    {"--strict", NULL, OPT_FLAG, AT(strict), 0, 0,
     "use one arithmetic for prompt and written rows, so cached and recomputed prefixes agree bit for "
     "bit"},
    {"-C --cpu-mask", "HEX", OPT_TEXT, AT(cpu_mask), 0, 0,
     "run on these CPUs only: one bit per CPU, so f is CPUs 0 to 3"},
    {"-Cr --cpu-range", "FIRST-LAST", OPT_TEXT, AT(cpu_range), 0, 0,
     "run on these CPUs only; with -C, on the CPUs of either"},
    {"--mlock", NULL, OPT_FLAG, AT(mlock), 0, 0,
     "keep the packed weights in memory, so that they are never swapped out"},
    {"-v --verbose", NULL, OPT_FLAG, AT(verbose), 0, 0, "report what was chosen and why"},
};
#undef AT
const struct option_group group_model = {"Model", model_rows,
                                         sizeof model_rows / sizeof *model_rows};
/* Without the rows that name one model, for commands that open several. */
enum { NAMING = 2 };
const struct option_group group_models = {"Models", model_rows + NAMING,
                                          sizeof model_rows / sizeof *model_rows - NAMING};

#define AT(field) offsetof(struct sampling_options, field)
static const struct option sampling_rows[] = {
    {"--temp --temperature", "T", OPT_REAL, AT(temp), 0, 100,
     "temperature; 0 always takes the best token [0.8]"},
    {"--top-k", "N", OPT_INT, AT(top_k), 0, 1 << 24, "keep the N best tokens; 0 keeps all [40]"},
    {"--top-p", "P", OPT_REAL, AT(top_p), 0, 1,
     "keep the best tokens whose probabilities sum to P; 1 keeps all [0.95]"},
    {"--min-p", "P", OPT_REAL, AT(min_p), 0, 1,
     "drop tokens below P times the best probability; 0 keeps all [0.05]"},
    {"--seed -s", "N", OPT_INT, AT(seed), -1, 9e15,
     "seed of the noise; -1 draws one, which -v and --json report [-1]"},
    {"--repeat-penalty", "X", OPT_REAL, AT(repeat_penalty), 0.01, 100,
     "divide the logits of recent tokens by X; 1 is off [1]"},
    {"--repeat-last-n", "N", OPT_INT, AT(repeat_last_n), -1, 1 << 24,
     "how many recent tokens the penalties look at; -1 looks at the whole context [64]"},
    {"--presence-penalty", "X", OPT_REAL, AT(presence_penalty), -100, 100,
     "subtract X from the logits of tokens that occurred [0]"},
    {"--frequency-penalty", "X", OPT_REAL, AT(frequency_penalty), -100, 100,
     "subtract X from the logit of a token for each time it occurred [0]"},
    {"-l --logit-bias", "ID+X,ID-X", OPT_TEXTS, AT(logit_bias), 0, 0,
     "add X to the logit of a token id; may be given up to 16 times, and all of them count"},
};
#undef AT
const struct option_group group_sampling = { "Sampling", sampling_rows,
                                             sizeof sampling_rows / sizeof *sampling_rows };

#define AT(field) offsetof(struct decode_options, field)
static const struct option decode_rows[] = {
    {"--decode", "STRATEGY", OPT_STRATEGIES, AT(words), 0, 0,
     "the strategy for writing several tokens per step: %s, or several joined by +; the text is the same [auto]"},
    {"--draft-max", "N", OPT_INT, AT(most), 0, 48,
     "most guesses in a step; 0 means 15, or what the window needs [0]"},
    {"-md --model-draft", "MODEL", OPT_TEXT, AT(draft), 0, 0,
     "a smaller model that guesses, for the strategy draft; auto then uses it where it pays"},
    {"--heads", "FILE", OPT_TEXT, AT(heads), 0, 0,
     "a safetensors file of heads that guess, for the strategy heads; auto then uses them where they pay"},
    {"--learned", "FILE", OPT_TEXT, AT(learned), 0, 0,
     "keep what guessing learned in this file, for later runs (bench only reads it); it holds pieces of "
     "your texts"},
    {"--window", "N", OPT_INT, AT(window), 0, 49,
     "tokens of the Jacobi window, columns of the lookahead window; 0 means 16 and 4 [0]"},
    {"--ngram", "N", OPT_INT, AT(ngram), 0, 8, "lookahead: tokens of an n-gram; 0 means 3 [0]"},
    {"--guesses", "N", OPT_INT, AT(guesses), 0, 16,
     "lookahead: n-grams to try at once; 0 means 4 [0]"},
};
#undef AT
const struct option_group group_decode = { "Tokens that overlap", decode_rows,
                                           sizeof decode_rows / sizeof *decode_rows };
/* Without --decode, for commands that give the word another meaning. */
const struct option_group group_guesses = { "Guesses", decode_rows + 1,
                                            sizeof decode_rows / sizeof *decode_rows - 1 };

void model_options_defaults(struct model_options *o)
{
    *o = (struct model_options){ .type_k = NULL, .type_v = NULL };
}

void sampling_options_defaults(struct sampling_options *o)
{
    *o = (struct sampling_options){.temp = 0.8,
                                   .top_k = 40,
                                   .top_p = 0.95,
                                   .min_p = 0.05,
                                   .seed = -1,
                                   .repeat_penalty = 1,
                                   .repeat_last_n = 64};
}
