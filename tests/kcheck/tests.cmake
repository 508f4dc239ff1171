# kcheck stands on the kernels and the dtype table alone, so it is cross-built without libraries.
file(GLOB kcheck_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/kcheck/*.c
  ${CMAKE_SOURCE_DIR}/src/tensor/*.c)
add_executable(kcheck ${kcheck_sources} $<TARGET_OBJECTS:stretto_kernels>)
target_link_libraries(kcheck PRIVATE stretto_flags m)
add_test(NAME kcheck COMMAND kcheck)
add_test(NAME kcheck.mutants COMMAND kcheck --mutants)
set_tests_properties(kcheck kcheck.mutants PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  # gcc 12 stops with an internal error where it vectorises a reduction by fmax.
  target_compile_options(kcheck PRIVATE -fno-tree-vectorize)
endif()
