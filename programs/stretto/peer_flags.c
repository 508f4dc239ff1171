#include "stretto/peer_flags.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum takes { NOTHING, VALUE, MAYBE };     /* MAYBE: the next word when it is one of `same` */

struct peer_flag {
    const char *flags;                    /* as in struct option                                            */
    enum takes takes;
    const char *same;                     /* values that change nothing, "a|b"; "*": any; NULL: none, or none
                                           * is taken and the flag itself changes nothing                   */
    const char *note;                     /* why nothing changes; NULL: something always does               */
    const char *instead;                  /* otherwise: why not, and what to do                             */
};

#define SPLIT "--device gpu:N names a GPU, gpu:0,gpu:1 several, and -ngl N how many layers one has"
#define NOT_ASKED "speed is looked after without it"
#define SAMPLERS "the sampler has --temp, --top-k, --top-p, --min-p and the penalties"
#define FROM_FILE "how positions are scaled is read from the model's file"
#define NO_GRAMMAR "answers cannot be constrained by a grammar yet"
#define NO_ADAPTER "--lora FILE=SCALE is an adapter that is scaled; control vectors are not supported"
#define NO_SERVER "'stretto serve' has it"
#define CONVERSE "'stretto chat' holds a conversation; 'stretto run --chat' gives one answer"

static const struct peer_flag rows[] = {
    { "-ngld --gpu-layers-draft -devd --device-draft", VALUE, "*", "the draft model runs where the model does", NULL },
    { "-sm --split-mode", VALUE, "none|layer", "a model that has no room on a GPU is split by layers", SPLIT },
    { "-ts --tensor-split -mg --main-gpu", VALUE, NULL, NULL, SPLIT },
    { "--list-devices", NOTHING, NULL, NULL, "'stretto info --devices' lists them" },
    { "--mmap --no-mmap --use-mmap", NOTHING, NULL,
      "weights are packed in memory, however they are read", NULL },
    { "-fa --flash-attn", MAYBE, "on|off|auto|1|0|enabled|disabled|true|false",
      "attention is always computed in blocks that are merged", NULL },
    { "-co --color", MAYBE, "on|off|auto", "the answer is all that is printed", NULL },
    { "-no-cnv --no-conversation", NOTHING, NULL, "'run' holds no conversation", NULL },
    { "-cnv --conversation -i --interactive -if --interactive-first -st --single-turn -ins --instruct -cml "
      "--chatml", NOTHING, NULL, NULL, CONVERSE },
    { "--warmup --no-warmup", NOTHING, NULL, "there is no warm-up", NULL },
    { "--jinja", NOTHING, NULL, "templates are always interpreted", NULL },
    { "--no-jinja", NOTHING, NULL, NULL, "templates are always interpreted; there is no list of built-in ones" },
    { "--simple-io --no-display-prompt -mli --multiline-input --nowordwrap", NOTHING, NULL,
      "the answer is all that is printed", NULL },
    { "--display-prompt --verbose-prompt", NOTHING, NULL, NULL,
      "only the answer is printed; 'stretto tokenize' shows how a text is read" },
    { "-b --batch-size -ub --ubatch-size", VALUE, "*",
      "the engine chooses how many rows a step has, and bits do not depend on it", NULL },
    { "-tb --threads-batch -td --threads-draft -tbd --threads-batch-draft", VALUE, "*",
      "one team of threads does everything; -t sets its size", NULL },
    { "--poll --poll-batch --cpu-strict --cpu-strict-batch -dt --defrag-thold", VALUE, "*", NOT_ASKED, NULL },
    { "--prio --prio-batch", VALUE, "0", NOT_ASKED, "start the program under nice" },
    { "--numa", VALUE, NULL, NULL, "start the program under numactl" },
    { "-nkvo --no-kv-offload -kvo --kv-offload --no-op-offload --op-offload -nr --no-repack --repack --no-host "
      "--no-perf --perf --log-disable --log-colors --log-prefix --log-timestamps --hidethinking", NOTHING, NULL,
      "it does not change the answer", NULL },
    { "--keepalive", VALUE, "*", "nothing stays loaded between commands", NULL },
    { "--no-context-shift", NOTHING, NULL, "the context never shifts", NULL },
    { "--context-shift", NOTHING, NULL, NULL, "the context does not shift: ask for a larger one with -c" },
    { "--keep", VALUE, "*", "the context never shifts", NULL },
    { "-sp --special", NOTHING, NULL, NULL, "special tokens are never printed; --json has their ids" },
    { "--prompt-cache --prompt-cache-all --prompt-cache-ro", VALUE, NULL, NULL,
      "prompts are not kept between calls; 'stretto chat' keeps what it has read" },
    { "--mirostat", VALUE, "0", "it is off", SAMPLERS },
    { "--mirostat-lr --mirostat-ent --dry-base --dry-allowed-length --dry-penalty-last-n --dynatemp-exp "
      "--xtc-threshold", VALUE, NULL, NULL, SAMPLERS },
    { "--typical --typical-p", VALUE, "1|1.0", "it is off", SAMPLERS },
    { "--dry-multiplier --dynatemp-range --xtc-probability", VALUE, "0|0.0", "it is off", SAMPLERS },
    { "--top-nsigma --top-n-sigma", VALUE, "-1|-1.0", "it is off", SAMPLERS },
    { "--samplers --sampler-seq --sampling-seq --dry-sequence-breaker", VALUE, NULL, NULL, SAMPLERS },
    { "--grammar --grammar-file -j --json-schema -jf --json-schema-file --format", VALUE, NULL, NULL, NO_GRAMMAR },
    { "--lora-scaled --control-vector --control-vector-scaled", VALUE, NULL, NULL, NO_ADAPTER },
    { "-mm --mmproj -mmu --mmproj-url --image --audio", VALUE, NULL, NULL,
      "models that see or hear are not supported" },
    { "--rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --yarn-orig-ctx --yarn-ext-factor "
      "--yarn-attn-factor --yarn-beta-slow --yarn-beta-fast --override-kv", VALUE, NULL, NULL, FROM_FILE },
    { "-mu --model-url", VALUE, NULL, NULL, "'stretto pull URL' fetches it and prints the path for -m" },
    { "-hff --hf-file", VALUE, NULL, NULL, "name the file after the repository: -m hf:USER/REPO/FILE" },
    { "-hft --hf-token", VALUE, NULL, NULL, "set HF_TOKEN: others can see the words of a command line" },
    { "-hfd -hfrd --hf-repo-draft", VALUE, NULL, NULL, "-md hf:USER/REPO[:QUANT] names it" },
    { "--offline", NOTHING, NULL, "nothing is fetched unless you say so", NULL },
    { "--in-prefix --in-suffix", VALUE, NULL, NULL, "the model's chat template decides what surrounds a message" },
    { "--in-prefix-bos", NOTHING, NULL, NULL, "the model's chat template decides what surrounds a message" },
    { "--draft --draft-n", VALUE, NULL, NULL, "--draft-max N bounds the guesses of a step" },
    { "--draft-min --draft-n-min --draft-p-min", VALUE, NULL, NULL,
      "how many guesses pay is measured; --draft-max bounds them" },
    { "-np --parallel", VALUE, "1", "one answer is written at a time", "one answer is written at a time" },
    { "--host --port --api-key --api-key-file --ssl-key-file --ssl-cert-file", VALUE, NULL, NULL, NO_SERVER },
    { "--slots --metrics --props --embedding --embeddings -cb --cont-batching --no-webui --no-ui", NOTHING, NULL,
      "a server has all of this without asking", NULL },
    { "-to --timeout --threads-http", VALUE, "*", "--stall says how long a slow client is waited for", NULL },
    { "--rerank --reranking", NOTHING, NULL, NULL, "models that rank are not supported" },
    { "--slot-save-path", VALUE, NULL, NULL, "--cache-disk DIR keeps what was read" },
};

static const struct peer_flag *find(const char *word, size_t n)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (list_has(rows[i].flags, ' ', word, n)) return &rows[i];
    return NULL;
}

/* "-ngl 99" or "-ngl", as it was given. */
static void spell(char *out, size_t cap, const char *word, size_t n, const char *value)
{
    snprintf(out, cap, "%.*s%s%s", (int)n, word, value ? " " : "", value ? value : "");
}

int peer_flag(const struct command *c, int argc, char **argv, int *used)
{
    const char *word = argv[0];
    const char *equals = strncmp(word, "--", 2) == 0 ? strchr(word, '=') : NULL;
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    const struct peer_flag *f = find(word, n);
    if (!f) return -1;
    const char *value = equals ? equals + 1 : NULL;
    *used = 1;
    bool follows = !value && argc > 1
        && (f->takes == VALUE || (f->takes == MAYBE && list_has(f->same, '|', argv[1], strlen(argv[1]))));
    if (follows) {
        value = argv[1];
        *used = 2;
    }
    char given[160];
    spell(given, sizeof given, word, n, value);
    bool same = f->takes == NOTHING ? !value : !value ? f->takes == MAYBE
        : f->same && (strcmp(f->same, "*") == 0 || list_has(f->same, '|', value, strlen(value)));
    /* What "run" does not do "chat" does, and the other way round. */
    bool talks = strcmp(c->name, "chat") == 0;
    if (talks && f->instead && strcmp(f->instead, CONVERSE) == 0) {
        fprintf(stderr, "stretto chat: %s is accepted and changes nothing: this is a conversation\n", given);
        return EXIT_DONE;
    }
    if (talks && strcmp(f->flags, "-no-cnv --no-conversation") == 0)
        return command_usage(c->name, "%s: 'stretto run' holds no conversation", given);
    if (f->note && same) {
        fprintf(stderr, "stretto %s: %s is accepted and changes nothing: %s\n", c->name, given, f->note);
        return EXIT_DONE;
    }
    if (!value && f->takes == VALUE) return command_usage(c->name, "%s needs a value", given);
    return command_usage(c->name, "%s: %s", given, f->instead ? f->instead : "it takes no such value");
}
