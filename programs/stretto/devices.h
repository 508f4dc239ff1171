/* Where a model runs: the words of --device and -ngl, and what people are told of devices. */
#ifndef STRETTO_DEVICES_H
#define STRETTO_DEVICES_H
#include "stretto/options.h"
#include <jansson.h>

/* What --device (NULL: it was not given, and neither was $STRETTO_DEVICE) and -ngl say, for
 * stretto_model_options; EXIT_USAGE after a sentence. Whether the device is there is not asked. */
int device_from(const char *command, const struct model_options *o, const char **word, int32_t *layers);

/* [{"word", "name", "driver", "gpu", "usable", ...}, ...] of all devices of this machine; "number" where
 * gpu:N means it. */
json_t *devices_json(void);
void devices_print(const json_t *devices);

/* What a model is spread over and what it takes there, by layers; NULL where it was not asked to be on a card. */
json_t *plan_json(const stretto_model *m);
void plan_print(FILE *out, const char *before, const json_t *plan);
#endif
