/* What the parts of `stretto squeeze` share: what was asked for, what came of it, and how that is shown. */
#ifndef STRETTO_SQUEEZE_COMMAND_H
#define STRETTO_SQUEEZE_COMMAND_H
#include "compress/judge.h"
#include "compress/squeeze.h"
#include "stretto/command.h"
#include "stretto/squeeze_shape.h"
#include <jansson.h>

struct squeeze_command {
    const char *model, *out, *type, *method, *output_type, *embedding_type, *only, *size;
    struct text_list calibrate, test, keep;
    int64_t tokens, windows, threads;
    double bpw, max_kl, speed;
    bool sequential, requantize, dry_run, no_proof, force, yes, quiet, json;
    struct shape_command shape;
};

/* What a run did. */
struct squeeze_result {
    struct squeeze *squeeze;
    struct judge *judge;                /* NULL: nothing was measured */
    struct verdict verdict;
    const char *in, *out;
    uint64_t in_bytes, out_bytes;
    double seconds, base_speed;
    uint64_t peak_bytes;
};

/* One line for each kind of weight and type: how many tensors, bytes before and after, error. */
void squeeze_print_plan(struct squeeze *s, bool every_tensor);
void squeeze_print(const struct squeeze_result *r);
/* The same as JSON; `brief`: what is kept in the file. */
json_t *squeeze_json(const struct squeeze_result *r, bool brief);
#endif
