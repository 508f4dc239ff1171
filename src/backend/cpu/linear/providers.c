#include "backend/cpu/linear/linear.h"

const struct linear_provider *const linear_providers[] = { &provider_float32, &provider_brain12,
                                                                  &provider_panels, NULL };
