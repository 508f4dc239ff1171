/* Kernels that are not there yet. */
#include "backend/gpu/gpu.h"
#define WEAK __attribute__((weak))
WEAK uint64_t gpu_head_bytes(enum cache_type t, uint32_t head_dim) { (void)t; return head_dim; }
WEAK uint32_t gpu_tile_rows(uint32_t heads_per_kv) { return heads_per_kv; }
WEAK uint64_t gpu_partial_bytes(const struct graph *g, const struct program_limits *l) { (void)g; (void)l; return 16; }
WEAK stretto_status gpu_attention_open(struct gpu_device *d, enum cache_type t, struct gpu_attention **out,
    struct error *err)
{ (void)d; (void)t; (void)out;
  return fail(err, STRETTO_E_UNSUP, "no attention kernels"); }
WEAK void gpu_attention_close(struct gpu_attention *a) { (void)a; }
WEAK stretto_status gpu_attention_run(struct gpu_device *d, struct gpu_attention *a, const struct gpu_places *m,
                                 const struct gpu_attention_job *job, struct error *err)
{ (void)d; (void)a; (void)m; (void)job;
  return fail(err, STRETTO_E_UNSUP, "no attention kernels"); }
WEAK stretto_status gpu_page_copy(struct gpu_device *d, struct gpu_memory *pool, uint64_t page_bytes,
                             int32_t from, int32_t to, struct error *err)
{ (void)d; (void)pool; (void)page_bytes; (void)from; (void)to;
  return fail(err, STRETTO_E_UNSUP, "no attention kernels"); }
WEAK stretto_status gpu_slots_move(struct gpu_device *d, struct gpu_attention *a, struct gpu_memory *pool,
                              const struct layer_group *group, struct gpu_memory *moves, uint32_t n,
                              struct error *err)
{ (void)d; (void)a; (void)pool; (void)group; (void)moves; (void)n;
  return fail(err, STRETTO_E_UNSUP, "no attention kernels"); }
