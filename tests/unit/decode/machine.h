/* A device of which nothing is known but what its steps cost. */
#ifndef UNIT_DECODE_MACHINE_H
#define UNIT_DECODE_MACHINE_H
#include "backend/backend.h"
#include <string.h>

/* As machines without any of the faster levels. */
static void plain_costs(const struct device *d, const uint32_t *rows, float *ratio, size_t n)
{
    static const float at[] = { 1, 1.10F, 1.42F, 2.40F, 4.6F, 9.0F, 13.5F };
    (void)d;
    (void)rows;
    memcpy(ratio, at, n * sizeof *at);
}

static const struct device *machine(void)
{
    static const struct backend plain = { .costs = plain_costs };
    static struct device device = { .backend = &plain };
    return &device;
}
#endif
