/* What texts taught an engine about guessing, shared by its sessions: finished answers (suffix), what
 * was likely after which tokens (recycle), how often each strategy was right (controller). A file
 * keeps it for the next process. It changes how fast tokens come and never which, so a file of
 * another model with the same vocabulary serves too. It holds pieces of the texts. */
#ifndef DECODE_LEARNED_H
#define DECODE_LEARNED_H
#include "base/buffer.h"
#include "decode/controller.h"
#include "decode/recycle.h"
#include "decode/suffix.h"
#include "text/tokenizer.h"

struct learned {
    struct suffix_store store;         /* placed when a session first wants them */
    struct recycle_memory recycled;
    struct calibration calibration;    /* always there                           */
    struct arena memory;               /* of store and recycled                  */
};

void learned_init(struct learned *x);
stretto_status learned_place(struct learned *x, uint32_t vocab, struct error *err);
void learned_close(struct learned *x);

/* Which vocabulary: a hash of all spellings; t may be NULL (a model without text). */
uint64_t learned_vocabulary(const struct tokenizer *t, uint32_t vocab);

/* The bytes of a file. E_FULL when they pass the buffer's maximum (LEARNED_BYTES suffices). */
enum { LEARNED_BYTES = 1 << 26 };
stretto_status learned_write(const struct learned *x, uint64_t vocabulary, struct buffer *out);
/* Adds what the bytes of a file hold to x, which must be placed. E_FORMAT: nothing was changed. */
stretto_status learned_read(struct learned *x, uint64_t vocabulary, const void *data, size_t n,
                            struct error *err);
/* The same with files; the sentences name them. A file is replaced in one step. */
stretto_status learned_load(struct learned *x, uint64_t vocabulary, const char *path,
                            struct error *err);
stretto_status learned_save(const struct learned *x, uint64_t vocabulary, const char *path,
                            struct error *err);
/* The check that stands in the file's last eight bytes, of those before them. */
uint64_t learned_check(const void *data, size_t n);
#endif
