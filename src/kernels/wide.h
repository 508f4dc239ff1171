/* wide_*.h: kernels written once for any vector width, over a handful of operations that a level's header
 * defines (x86/ops512.h, arm/ops128.h ...). A level's file includes its operations, then the kernels it
 * wants; everything is static, so each level has its own copies, compiled with its own flags. */
#ifndef KERNELS_WIDE_H
#define KERNELS_WIDE_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WIDE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WIDE_SANITIZED 1
#endif
#endif

/* Before a short loop over registers: without it accumulators are arrays on the stack. Sanitizers
 * instrument every unrolled copy (minutes of compiling): plain loops and functions there. */
#if defined(WIDE_SANITIZED)
#define WIDE_INLINE static inline __attribute__((unused))
#define WIDE_UNROLL
#elif defined(__clang__)
#define WIDE_INLINE static inline __attribute__((always_inline))
#define WIDE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define WIDE_INLINE static inline __attribute__((always_inline))
#define WIDE_UNROLL _Pragma("GCC unroll 16")
#endif
#endif
