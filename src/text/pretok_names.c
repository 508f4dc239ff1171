/* Pre-tokenizers by the names that GGUF files carry in tokenizer.ggml.pre. The expressions are those of
 * the models' own tokenizer.json files; which name stands for which is a fact of the GGUF writers. */
#include "text/pretok.h"
#include "text/unicode.h"
#include <string.h>

#define NUMBER  "\\p{N}"
#define THREE   "\\p{N}{1,3}"
#define CASED   "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define GPT2    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define SPACE   "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define WORD    "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define MARKS   " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define LLAMA3  CASED "|" WORD "|" THREE "|" MARKS "|" SPACE
#define QWEN2   CASED "|" WORD "|" NUMBER "|" MARKS "|" SPACE
#define UPPER   "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER   "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define LEAD    "[^\\r\\n\\p{L}\\p{N}]?"
/* "Camel" and "CASE" words, with what may follow them */
#define CAMEL(tail) LEAD UPPER "*" LOWER "+" tail "|" LEAD UPPER "+" LOWER "*" tail
#define SLASHED " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*"
#define GPT4O   CAMEL(CASED "?") "|" THREE "|" SLASHED "|" SPACE
#define CJK     "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define ASIAN \
    "[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{F900}-\\x{FAFF}\\x{3040}-\\x{309F}\\x{30A0}-" \
    "\\x{30FF}\\x{FF65}-\\x{FF9F}\\x{2F00}-\\x{2FDF}\\x{E40}-\\x{E7F}\\x{E80}-\\x{EFF}" \
    "\\x{1780}-\\x{17FF}\\x{1000}-\\x{109F}\\x{AA60}-\\x{AA7F}\\x{A9E0}-\\x{A9FF}\\x{AC00}-" \
    "\\x{D7AF}\\x{1100}-\\x{11FF}]+"
#define YOUTU \
    "[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}" \
    "\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+|[" \
    "\\x{3105}-\\x{312F}]+|[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define HAN_HANGUL "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"
#define WIDE_PUNCT \
    "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+"
#define ASCII_WORD "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
#define DEEP_WORD "[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
#define DEEP    ASCII_WORD "|" DEEP_WORD "| ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACE
#define BLOOM \
    " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"
#define CASED_LETTERS \
    "[A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-" \
    "\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}" \
    "\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}" \
    "\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-" \
    "\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}" \
    "\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-" \
    "\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-" \
    "\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-" \
    "\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}" \
    "\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}" \
    "\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-" \
    "\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-" \
    "\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}" \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-" \
    "\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-" \
    "\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-" \
    "\\x{118DF}\\x{1E900}-\\x{1E943}]+"
#define THREES        "\1"
#define THREES_BORDER "\2"
#define CUT_THREES    "\3"     /* 1 more than the flags of THREES */

static const struct pretok_name names[] = {
    { "default", { "[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]" }, 0 },
    { "gpt-2", { GPT2 }, 0 },
    { "phi-2", { GPT2 }, 0 },
    { "mpt", { GPT2 }, 0 },
    { "olmo", { GPT2 }, 0 },
    { "jais", { GPT2 }, 0 },
    { "trillion", { GPT2 }, 0 },
    { "granite-docling", { GPT2 }, 0 },
    { "exaone4", { GPT2 }, 0 },
    { "gigachat", { GPT2 }, 0 },
    { "a.x-4.0", { GPT2 }, 0 },
    { "mellum", { GPT2 }, 0 },
    { "modern-bert", { GPT2 }, 0 },
    { "roberta-bpe", { GPT2 }, 0 },
    { "jina-es", { GPT2 }, 0 },
    { "jina-de", { GPT2 }, 0 },
    { "jina-v1-en", { GPT2 }, 0 },
    { "jina-v2-es", { GPT2 }, 0 },
    { "jina-v2-de", { GPT2 }, 0 },
    { "jina-v2-code", { GPT2 }, 0 },
    { "smollm", { NUMBER, GPT2 }, 0 },
    { "starcoder", { NUMBER, GPT2 }, 0 },
    { "refact", { NUMBER, GPT2 }, 0 },
    { "command-r", { NUMBER, GPT2 }, 0 },
    { "codeshell", { NUMBER, GPT2 }, 0 },
    { "exaone", { NUMBER, GPT2 }, 0 },
    { "minerva-7b", { NUMBER, GPT2 }, 0 },
    { "mellum2", { NUMBER, GPT2 }, 0 },
    { "falcon", { "[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]" }, 0 },
    { "llama3", { LLAMA3 }, PRE_IGNORE_MERGES | PRE_ADD_BOS },
    { "llama-v3", { LLAMA3 }, PRE_IGNORE_MERGES | PRE_ADD_BOS },
    { "llama-bpe", { LLAMA3 }, PRE_IGNORE_MERGES | PRE_ADD_BOS },
    { "falcon3", { LLAMA3 }, PRE_IGNORE_MERGES | PRE_ADD_BOS },
    { "falcon-h1", { LLAMA3 }, PRE_IGNORE_MERGES | PRE_ADD_BOS },
    { "pixtral", { LLAMA3 }, PRE_IGNORE_MERGES | PRE_ADD_BOS },
    { "midm-2.0", { LLAMA3 }, PRE_IGNORE_MERGES | PRE_ADD_BOS },
    { "lfm2", { LLAMA3 }, PRE_IGNORE_MERGES | PRE_ADD_BOS },
    { "jina-v5-nano", { LLAMA3 }, PRE_IGNORE_MERGES | PRE_ADD_BOS },
    { "dbrx", { LLAMA3 }, 0 },
    { "smaug-bpe", { LLAMA3 }, 0 },
    { "chatglm-bpe", { LLAMA3 }, PRE_NO_BOS },
    { "glm4", { LLAMA3 }, PRE_NO_BOS | PRE_IGNORE_MERGES },
    { "glm5", { LLAMA3 }, PRE_NO_BOS | PRE_IGNORE_MERGES },
    { "minicpm5", { THREE, CASED "|" WORD "|\\p{N}+|" MARKS "|" SPACE }, PRE_IGNORE_MERGES },
    { "jais-2", { CASED "|" WORD "|" THREE "|" MARKS "|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|"
      "\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|"
      "\\s{1,2}(?!\\S)|\\s{1}" }, 0 },
    { "qwen2", { QWEN2 }, 0 },
    { "deepseek-r1-qwen", { QWEN2 }, 0 },
    { "kormo", { QWEN2 }, 0 },
    { "f2llmv2", { QWEN2 }, 0 },
    { "stablelm2", { QWEN2 }, 0 },
    { "hunyuan", { QWEN2 }, 0 },
    { "solar-open", { QWEN2 }, 0 },
    { "megrez", { QWEN2 }, 0 },
    { "grok-2", { QWEN2 }, 0 },
    { "ufakzeka", { WORD "|" NUMBER "|" MARKS "|" SPACE }, 0 },
    { "laguna", { "[^\\n]+|\\n+", QWEN2 }, 0 },
    { "qwen35", { CASED "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|" NUMBER
      "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACE }, 0 },
    { "exaone-moe", { CASED "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|" NUMBER
      "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+" }, 0 },
    { "bailingmoe", { "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|" NUMBER
      "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+" }, 0 },
    { "bailingmoe2", { "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|" NUMBER
      "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+" }, 0 },
    { "llada-moe", { "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|" NUMBER
      "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+" }, 0 },
    { "seed-coder", { CASED "|" WORD "|" NUMBER "| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" SPACE }, 0 },
    { "deepseek-llm", { "[\\r\\n]", "\\s?" CASED_LETTERS, WIDE_PUNCT, "\\s+$",
      HAN_HANGUL, "\\p{N}+" }, 0 },
    { "deepseek-coder", { "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", HAN_HANGUL, NUMBER }, 0 },
    { "deepseek-v3", { THREE, CJK, DEEP }, 0 },
    { "hunyuan-dense", { THREE, CJK, DEEP }, 0 },
    { "joyai-llm", { THREE, CJK, DEEP }, 0 },
    { "hy_v4", { THREE, CJK, DEEP }, 0 },
    { "spark2_5", { THREE, CJK, ASCII_WORD "|" DEEP_WORD "| ?[\\p{P}\\p{S}]+|[\\r\\n]|\\s+(?!\\S)|\\s+",
      NUMBER }, 0 },
    { "youtu", { YOUTU,
      CAMEL(CASED "?") "|" NUMBER "|" SLASHED "|" SPACE }, PRE_IGNORE_MERGES },
    { "bloom", { BLOOM }, 0 },
    { "gpt3-finnish", { BLOOM }, 0 },
    { "poro-chat", { BLOOM }, 0 },
    { "viking", { BLOOM, NUMBER }, 0 },
    { "tekken", { CAMEL("") "|" NUMBER "|" SLASHED "|" SPACE }, PRE_IGNORE_MERGES | PRE_ADD_BOS },
    { "gpt-4o", { GPT4O }, 0 },
    { "llama4", { GPT4O }, 0 },
    { "kanana2", { GPT4O }, 0 },
    { "talkie", { GPT4O }, 0 },
    { "minimax-m2", { GPT4O }, 0 },
    { "granite-embed-multi-97m", { GPT4O }, PRE_IGNORE_MERGES },
    { "tiny_aya", { THREES_BORDER, GPT4O }, 0 },
    { "cohere2moe", { THREES_BORDER, GPT4O }, 0 },
    { "superbpe", { "\\p{N}+", CUT_THREES }, 0 },
    { "afmoe", { THREES, ASIAN, DEEP }, 0 },
    { "chameleon", { "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )",
      NUMBER, "[\\p{P}!-/:-@\\[-`{-~]", GPT2 }, PRE_ADD_BOS },
};

const struct pretok_name *pretok_find(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].name) == n && !memcmp(names[i].name, name, n)) return &names[i];
    return NULL;
}

const struct pretok_name *pretok_name_at(size_t i)
{
    return i < sizeof names / sizeof *names ? &names[i] : NULL;
}

stretto_status pretok_add_name(struct pretok *p, const struct pretok_name *name, struct error *err)
{
    size_t most = sizeof name->expression / sizeof *name->expression;
    for (size_t i = 0; i < most && name->expression[i]; i++) {
        const char *e = name->expression[i];
        if (*e > *CUT_THREES) {
            TRY(pretok_add_regex(p, e, strlen(e), err));
            continue;
        }
        TRY(pretok_add_threes(p, (unsigned)*e - 1, unicode_is_decimal, err));
    }
    return STRETTO_OK;
}
