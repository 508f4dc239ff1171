#include "graph/differentiate.h"

stretto_status differentiate(struct graph *out, const struct graph *forward, const struct differentiate *what,
                             struct error *err)
{
    (void)forward; (void)what;
    *out = (struct graph){ 0 };
    return fail(err, STRETTO_E_UNSUP, "no graph can be differentiated yet");
}
