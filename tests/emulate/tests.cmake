# Kernels of x86 levels this machine may lack, checked anywhere: the same source files, compiled against
# emulate/include/immintrin.h (SIMDe and our own C models), linked into a second kcheck. It says whether
# the arithmetic is right, nothing about speed.
add_custom_target(emulated_kernels)
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" OR STRETTO_SANITIZE OR STRETTO_FUZZ)
  return()
endif()
find_path(SIMDE_INCLUDE simde/x86/avx512.h)
set(emulated_levels avxvnni avx512 avx512vnni avx512vbmi avx512bf16 amx)
set(emulate_dir ${CMAKE_CURRENT_SOURCE_DIR}/emulate)
if(NOT SIMDE_INCLUDE)
  add_test(NAME emulate
    COMMAND sh -c "echo 'skip: SIMDe is missing (./dev test installs it; Debian: libsimde-dev)'; exit 77")
  set_tests_properties(emulate PROPERTIES LABELS quick SKIP_RETURN_CODE 77)
  return()
endif()

# What needs no emulation is the same as everywhere; kernels.c is compiled anew, it has the table of levels.
file(GLOB emulate_native CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernels/x86/*_avx2.c)
string(CONCAT emulate_common "$<FILTER:$<FILTER:$<TARGET_OBJECTS:stretto_kernels>,EXCLUDE,/kernels/kernels[.]c>,"
  "EXCLUDE,_(avx512|avxvnni|amx)[a-z0-9]*[.]c>;$<FILTER:$<TARGET_OBJECTS:stretto_objects>,INCLUDE,/src/tensor/>")
set(avx2_flags "-mavx2 -mfma -mf16c -mbmi -mbmi2")
set(emulated "")
set(emulate_have "")
if(emulate_native)
  set(emulate_have KERNELS_HAVE_AVX2)
endif()
foreach(level ${emulated_levels})
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernels/x86/*_${level}.c)
  if(files)
    list(APPEND emulated ${files})
    string(TOUPPER ${level} upper)
    list(APPEND emulate_have KERNELS_HAVE_${upper})
  endif()
endforeach()
# The emulation is large: with what emulates an instruction inlined, compiling takes five times as long. -Wno-psabi:
# 64-byte vectors stay within one file.
set_source_files_properties(${emulated} PROPERTIES COMPILE_FLAGS
  "${avx2_flags} -O1 -DSIMDE_NO_INLINE -Wno-psabi -isystem ${emulate_dir}/include -isystem ${SIMDE_INCLUDE}")
set_source_files_properties(${CMAKE_SOURCE_DIR}/src/kernels/kernels.c PROPERTIES COMPILE_DEFINITIONS
  "${emulate_have};cpu_detect=cpu_detect_host")
# Not part of `all`: it takes minutes to compile and only these tests run it. emulate.build makes it when they
# do; `./dev test` has built it before.
add_executable(kcheck_emulated EXCLUDE_FROM_ALL $<TARGET_OBJECTS:kcheck_own> ${emulate_common}
  ${CMAKE_SOURCE_DIR}/src/kernels/kernels.c ${emulated} ${emulate_dir}/detect.c)
target_link_libraries(kcheck_emulated PRIVATE stretto_flags m)
add_dependencies(emulated_kernels kcheck_emulated)
add_test(NAME emulate.build COMMAND ${CMAKE_COMMAND} --build ${CMAKE_BINARY_DIR} --target emulated_kernels)
set_tests_properties(emulate.build PROPERTIES LABELS quick FIXTURES_SETUP emulate TIMEOUT 1800)
foreach(level ${emulated_levels})
  string(TOUPPER ${level} upper)
  if(KERNELS_HAVE_${upper} IN_LIST emulate_have)
    add_test(NAME emulate.${level} COMMAND kcheck_emulated --level ${level})
    set_tests_properties(emulate.${level} PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 900
      FIXTURES_REQUIRED emulate)
  endif()
endforeach()
