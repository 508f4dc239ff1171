# AArch64 without an Arm machine: the normal x86 build cross-builds kernels and kcheck (preset arm64, no
# libraries) and runs them under qemu-user, a test per level. On an Arm machine the ordinary kcheck does it.
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" OR STRETTO_SANITIZE OR STRETTO_FUZZ
   OR STRETTO_KERNELS_ONLY)
  return()
endif()
set(arm_run sh ${CMAKE_CURRENT_SOURCE_DIR}/arm/kcheck_arm64.sh ${CMAKE_SOURCE_DIR} ${CMAKE_COMMAND})
foreach(level neon dotprod i8mm)
  add_test(NAME arm.${level} COMMAND ${arm_run} ${level})
  set_tests_properties(arm.${level} PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 900
    RESOURCE_LOCK arm64_build)
endforeach()
