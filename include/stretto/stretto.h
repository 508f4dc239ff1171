/* libstretto: load a language model and write tokens with it, fast, on the hardware at hand.
 *
 * Three objects. A *model* is immutable once open and may be shared by threads. An *engine* holds the
 * cache pages, the compiled programs and the scheduler for one model. A *session* is one timeline of
 * tokens in an engine; one thread at a time uses an engine and its sessions.
 *
 * Every fallible function returns a stretto_status (0 = success); results come through out pointers,
 * which are set to NULL or 0 on failure; words for people come from stretto_last_error().
 * The library never exits, aborts or prints: set a log callback to hear what it has to say. */
#ifndef STRETTO_STRETTO_H
#define STRETTO_STRETTO_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__)
#define STRETTO_API __attribute__((visibility("default")))
#else
#define STRETTO_API
#endif

#define STRETTO_VERSION_MAJOR 0
#define STRETTO_VERSION_MINOR 1
#define STRETTO_VERSION_PATCH 0
#define STRETTO_VERSION "0.1.0"

#define STRETTO_STATUS_MAP(X)                              \
    X(OK,          0, "success")                           \
    X(E_ARG,      -1, "invalid argument")                  \
    X(E_NOMEM,    -2, "out of memory")                     \
    X(E_IO,       -3, "input/output error")                \
    X(E_FORMAT,   -4, "malformed or truncated file")       \
    X(E_UNSUP,    -5, "not supported by this build")       \
    X(E_FULL,     -6, "context is full")                   \
    X(E_NAN,      -7, "the model produced a NaN")          \
    X(E_CANCEL,   -8, "cancelled by the caller")

typedef enum stretto_status {
#define X(name, value, text) STRETTO_##name = value,
    STRETTO_STATUS_MAP(X)
#undef X
} stretto_status;

/* A fixed English phrase for a status; never NULL. */
STRETTO_API const char *stretto_status_text(stretto_status s);
/* "0.1.0" */
STRETTO_API const char *stretto_version(void);

#ifdef __cplusplus
}
#endif
#endif
