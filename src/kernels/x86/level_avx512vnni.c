/* AVX-512 VNNI: quantised linear layers. One row is bound by memory; the prefetch distance is that of a
 * probe on a 2-core Granite Rapids machine. This file itself was verified against `ref` by emulation
 * (tests/emulate) and not timed yet. */
#include "kernels/kernels.h"
#include "kernels/x86/bytes512.h"
/* after the operations it is written in */
#include "kernels/wide_quant.h"

void kernels_init_avx512vnni(struct kernels *k) { wide_quant_init(k, "avx512vnni"); }
