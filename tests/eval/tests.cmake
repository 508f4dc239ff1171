# Figures of quality beside numpy's, and beside other programs'.
if(TARGET stretto)
  add_test(NAME eval.kl COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/eval/test_kl.py
    $<TARGET_FILE:stretto> ${CMAKE_BINARY_DIR}/golden ${STRETTO_TEST_MODELS})
  set_tests_properties(eval.kl PROPERTIES FIXTURES_REQUIRED golden LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()
