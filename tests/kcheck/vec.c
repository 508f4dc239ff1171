#include "kcheck.h"
void kcheck_vec(struct kcheck *c) { (void)c; }
