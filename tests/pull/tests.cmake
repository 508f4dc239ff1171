# stretto-pull against a misbehaving local server; the program under test is this build's.
if(TARGET stretto-pull)
  add_test(NAME pull COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/test_pull.py
    $<TARGET_FILE:stretto-pull>)
  add_test(NAME pull.first_use COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/test_first_use.py
    $<TARGET_FILE:stretto> $<TARGET_FILE:stretto-pull> ${CMAKE_BINARY_DIR}/golden)
  set_tests_properties(pull.first_use PROPERTIES FIXTURES_REQUIRED golden LABELS quick SKIP_RETURN_CODE 77
    TIMEOUT 300)
  set_tests_properties(pull PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()
