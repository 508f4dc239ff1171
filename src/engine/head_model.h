/* Heads of a file: small layers on a model's last hidden state that guess the tokens behind the next one. Two kinds:
 *
 *   Medusa     (arXiv 2401.10774) head k guesses the token k + 1 behind the last certain one, all of them at once:
 *              best(project(h + silu(W_k h + b_k)))
 *   recursive  (Hydra, arXiv 2402.05109; FastMTP, 2509.18362; EAGLE-3, 2503.01840) one head that reads a state s and
 *              the token t behind it; what it makes of them is the state of its next guess. First s is the hidden state
 *              and t the last certain token, then t is its own guess:
 *              u = W_s rms(s) + W_t rms(embedding of t),  s' = u + down(silu(gate rms(u)) * up rms(u)),
 *              best(project(s'))
 *
 * where `project` is the model's output layer, as it is served, or of Medusa's heads their own. The file is safetensors
 * with, as F32, F16 or BF16,
 *
 *   heads.K.weight          [width][width]  W_K, K = 0, 1, ...
 *   heads.K.bias            [width]         b_K; may be missing
 *   heads.K.output.weight   [vocab][width]  in all heads or in none
 *
 * or
 *
 *   recursive.state.weight  [width][width]  W_s       recursive.token.weight  [width][width]  W_t
 *   recursive.gate.weight   [feed][width]             recursive.up.weight     [feed][width]
 *   recursive.down.weight   [width][feed]
 *
 * and may hold, as I32, `tokens` [n]: ids, each once; then only these are guessed, and no other row of the output layer
 * is read. rms(x) = x / sqrt(mean of squares + HEAD_EPS). The metadata of files that `stretto teach` wrote (format:
 * stretto-heads) say of which model they are, and for another one they are refused; a file without says nothing.
 *
 * Whatever is in a file, its guesses change no text. Used by one thread at a time. */
#ifndef ENGINE_HEAD_MODEL_H
#define ENGINE_HEAD_MODEL_H
#include "model/model.h"

enum { MAX_HEADS = 16 };           /* guesses in a row                                               */
#define HEAD_EPS 1e-6F
#define HEAD_FORMAT "stretto-heads"

struct head_model;

/* model: whose hidden states they read; with or without weights. places: texts that may guess at once. */
struct head_setup { const struct model *model; struct device *device; unsigned threads; uint32_t places; };

/* What stands in one place. */
struct head_place {
    bool asks;
    uint32_t n;                    /* guesses; those behind the first are of the recursive kind alone, one in a run */
    int32_t token[MAX_HEADS];      /* -1: none                                                       */
    float p[MAX_HEADS];            /* the head's own probability, among the tokens that it can guess */
    struct error failed;           /* what it says is no number                                      */
};

/* path, model and device outlive it. E_FORMAT with what is wrong in the file, or whose it is. */
stretto_status head_model_open(struct head_model **out, const char *path, const struct head_setup *s,
                               struct error *err);
void head_model_close(struct head_model *m);                       /* NULL is fine */
/* Guesses in a row at most; whether each is a run of its own. */
uint32_t head_model_depth(const struct head_model *m);
bool head_model_recursive(const struct head_model *m);

/* The place asks for guesses behind `token`, which is behind the hidden state [width]. */
void head_model_begin(struct head_model *m, uint32_t place, const float *hidden, int32_t token);
/* For one more, behind its last one. Of the recursive kind; where there is no guess it does not ask. */
void head_model_next(struct head_model *m, uint32_t place);
void head_model_forget(struct head_model *m, uint32_t place);
/* Everybody who asks gets his guesses, in the same steps. */
stretto_status head_model_run(struct head_model *m, struct error *err);
const struct head_place *head_model_place(const struct head_model *m, uint32_t place);

/* Rows of the model's output layer, as they are served, in memory of the caller's (out->data). */
stretto_status head_slice(const struct model *model, const int32_t *token, uint32_t n, struct param_bytes *out,
                          struct error *err);
/* s' of u, as nodes: what a training and the runtime have in common (train/heads.h). */
int32_t head_block(struct graph_builder *b, int32_t u, uint32_t feed);
/* Which model a hidden state is of, for the metadata: words of its own for each that tells models apart. */
enum { HEAD_ABOUT = 4 };
struct head_about { const char *key; char value[80]; };
void head_about(const struct model *m, struct head_about out[HEAD_ABOUT]);
#endif
