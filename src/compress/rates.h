/* How long a step that writes takes to read a weight on this machine, by type: a linear layer alone, of more bytes
 * than caches keep. */
#ifndef COMPRESS_RATES_H
#define COMPRESS_RATES_H
#include "base/status.h"
#include "tensor/dtype.h"
#include <stdbool.h>

/* seconds[t] of one element, for each type that `wanted`; 0 where this machine has no kernel. The best of several
 * passes: neighbours on the machine make a figure high, never low. threads 0: all. */
stretto_status rates_measure(const bool wanted[DT_COUNT], unsigned threads, double seconds[DT_COUNT],
                             struct error *err);
#endif
