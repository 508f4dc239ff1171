/* What every unit test includes: cmocka, without its macro that hides our fail(). */
#ifndef UNIT_UNIT_H
#define UNIT_UNIT_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#undef fail
/* Says why and leaves with CTest's skip code; call before the group runs. */
#define SKIP(...) do { printf("skip: " __VA_ARGS__); printf("\n"); exit(77); } while (0)
#endif
