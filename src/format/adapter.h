/* Low-rank adapters of linear layers (arXiv 2106.09685) as files, in and out:
 *
 *   FILE.gguf   llama.cpp's: WEIGHT.lora_a { n_in, rank }, WEIGHT.lora_b { rank, n_out }, adapter.lora.alpha;
 *               what is added is alpha / rank * B (A x)
 *   FOLDER      PEFT's adapter_config.json and adapter_model.safetensors: lora_A.weight [rank][n_in],
 *               lora_B.weight [n_out][rank], alpha / rank or, with use_rslora, alpha / sqrt(rank)
 *
 * In memory an adapter has the names and the order of rows of its base: llama's GGUF files keep the rows of q and k in
 * pairs where Hugging Face has halves, so B's rows of these change places on the way. A pair of a fused tensor (qkv of
 * phi-3 or GPT-2) becomes a pair for each slice, and is put together again, block by block, when it is written. Bytes
 * we do not trust end here: every tensor must land and have its partner, or there is an error that names it. */
#ifndef FORMAT_ADAPTER_H
#define FORMAT_ADAPTER_H
#include "format/source.h"

enum { ADAPTER_NAME = 64, ADAPTER_RANK_MOST = 1 << 12 };

struct adapter_pair {
    char weight[ADAPTER_NAME];   /* as its base has it: "blk.0.attn_q.weight"                     */
    uint32_t rank, n_in, n_out;
    float scale;
    float *a, *b;                /* [rank][n_in], [n_out][rank]; owned                            */
};

/* On which rows of a text it acts. Rows of an answer begin with the one that makes its first token. */
enum adapter_rows { ADAPTER_ALL, ADAPTER_GIVEN, ADAPTER_ANSWERS, ADAPTER_GUESSES, ADAPTER_ROWS };
/* "all", "given", "answers", "guesses". */
const char *adapter_rows_word(enum adapter_rows rows);
bool adapter_rows_find(const char *word, enum adapter_rows *out);

enum { ADAPTER_INVOCATION = 64 };

struct adapter_tokens;

struct adapter {
    const struct adapter_tokens *tokens; /* that it brings along, for who writes: borrowed; NULL: none */
    struct adapter_pair *pair;
    size_t n;
    enum adapter_rows rows;
    /* ADAPTER_ANSWERS: an answer's rows begin where these tokens stand last, and where they do not it does nothing
     * (aLoRA, arXiv 2504.12397); n_invocation 0: with the last token of a prompt. */
    int32_t invocation[ADAPTER_INVOCATION];
    size_t n_invocation;
    char base_content[40], template_content[40]; /* of what it was trained with, where it says so; else ""  */
};

/* What a GGUF file says of rows, without aLoRA's tokens; a folder says nothing: ADAPTER_ALL. */
stretto_status adapter_rows_read(const char *path, enum adapter_rows *out, struct error *err);
/* base: of the model it is for. E_ARG where it is for another one, with the first thing that does not fit. */
stretto_status adapter_read(struct adapter *out, const char *path, const struct source *base, struct error *err);
void adapter_done(struct adapter *a);
/* One pair more, of zeros; NULL after E_NOMEM. */
struct adapter_pair *adapter_add(struct adapter *a, const char *weight, uint32_t rank, uint32_t n_in, uint32_t n_out,
                                 float scale, struct error *err);

/* A key of a GGUF file beside those that the format has; readers who do not know it pass over it. */
struct adapter_note { const char *key, *value; };

/* type: F32, F16, or Q8_0 (where rows are whole blocks, F16 else). */
stretto_status adapter_write_gguf(const struct adapter *a, const char *path, const struct source *base,
                                  enum dtype type, const struct adapter_note *notes, size_t n_notes, bool replace,
                                  struct error *err);
/* Makes the folder where it is not there; its two files are replaced one after the other, each in one step. base_name:
 * what PEFT calls the base ("Qwen/Qwen2.5-0.5B"), or NULL. E_UNSUP where transformers has no name for a weight. */
stretto_status adapter_write_peft(const struct adapter *a, const char *folder, const struct source *base,
                                  const char *base_name, struct error *err);
#endif
