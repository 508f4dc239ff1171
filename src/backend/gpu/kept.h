/* What a compiler of kernels made, kept in files from process to process: NVRTC takes half a second for each of
 * the handful of texts that a model needs, a file a millisecond. OpenCL's drivers do this by themselves.
 *
 * The files lie in $STRETTO_KERNELS (set and empty: nothing is kept), else in stretto/kernels of
 * $XDG_CACHE_HOME or ~/.cache. Nothing is lost with them and every fault is silent: one that is cut, changed, of
 * another make or somebody else's is as good as none. Together they stay under KEPT_BYTES; what was not used for the
 * longest time goes first. */
#ifndef BACKEND_GPU_KEPT_H
#define BACKEND_GPU_KEPT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KEPT_BYTES = 64 << 20, KEPT_MOST = 16 << 20 };  /* all of them; one */

/* Of whose making something is: all that it depends on (source, options, versions, the card), NULL-terminated.
 * An image that was found is to be freed with mem_free. */
bool kept_find(const char *const *identity, void **image, size_t *bytes);
void kept_store(const char *const *identity, const void *image, size_t bytes);

/* ---- its parts, for tests ---- */

struct kept_key { uint64_t word[2]; };
struct kept_key kept_key_of(const char *const *identity);
/* Where the image stands within the bytes of a file; false: these are not the whole file of that key. */
bool kept_read(const void *file, size_t n, struct kept_key key, size_t *at, size_t *bytes);
uint64_t kept_check(const void *data, size_t n);
enum { KEPT_HEADER = 32, KEPT_FOOTER = 8 };
/* Leaves at most `most` bytes in the folder. */
void kept_prune(const char *folder, uint64_t most);
#endif
