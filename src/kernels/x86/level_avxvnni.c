/* AVX-VNNI: quantised linear layers in 256-bit vectors (Alder Lake and later without AVX-512).
 * Verified against `ref` by emulation (tests/emulate); not timed on such a CPU yet. */
#include "kernels/kernels.h"
#include "kernels/x86/bytes256.h"
/* after the operations it is written in */
#include "kernels/wide_quant.h"

void kernels_init_avxvnni(struct kernels *k) { wide_quant_init(k, "avxvnni"); }
