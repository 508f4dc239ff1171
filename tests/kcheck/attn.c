#include "kcheck.h"
void kcheck_attn(struct kcheck *c) { (void)c; }
