/* What the process may do once it serves: read its models, write its cache, use the sockets it has, and no
 * more. Layers that the kernel does not have are left out, and said so. */
#ifndef SERVE_SANDBOX_H
#define SERVE_SANDBOX_H
#include "base/buffer.h"

struct sandbox {
    const char *const *read; size_t n_read;    /* files and folders                   */
    const char *const *models; size_t n_models;/* files and folders, with what links in these mean */
    const char *const *write; size_t n_write;  /* folders                             */
    int port;                                  /* that may be bound; 0: none          */
};
/* Before other threads start: which files and ports. Appends words about what took effect. */
stretto_status sandbox_files(const struct sandbox *s, struct buffer *words);
/* For all threads: which calls of the kernel. */
stretto_status sandbox_calls(struct buffer *words);
#endif
