/* Which weight is to blame when what a model computes is no number. */
#ifndef COMPRESS_DAMAGE_H
#define COMPRESS_DAMAGE_H
#include "format/source.h"

/* `s` as it is, unless it is E_NAN and a tensor of the file holds a value that is not finite: then E_FORMAT, with the
 * tensor's name and row in place of the sentence. Reads the whole file in the worst case. */
stretto_status damage_blame(const struct source *source, stretto_status s, struct error *err);
#endif
