# stretto-serve as its clients see it, on a model of 260,000 weights.
if(TARGET stretto-serve)
  foreach(name http secure)
    add_test(NAME serve.${name} COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/test_${name}.py
      $<TARGET_FILE:stretto-serve> ${STRETTO_TEST_DATA})
    set_tests_properties(serve.${name} PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
  endforeach()
endif()
