/* What of the machine the work may use and keep: CPUs and locked memory. Both print the sentence
 * themselves and return an exit code. */
#ifndef STRETTO_MACHINE_H
#define STRETTO_MACHINE_H
#include "stretto/options.h"

/* Binds this process, and with it every team of threads made from now on, to the CPUs of -C and
 * --cpu-range; without them it stays where it is. */
int use_cpus(const char *command, const struct model_options *o);
/* --mlock: the packed weights of a model stay in memory. */
int lock_weights(const char *command, const stretto_model *m);
#endif
