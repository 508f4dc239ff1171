# A client of many streams, which the tests and bench/serve.py drive servers with.
add_executable(load_client load/client.c)
target_link_libraries(load_client PRIVATE stretto_flags)
add_test(NAME load.client COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/test_client.py $<TARGET_FILE:load_client>)
set_tests_properties(load.client PROPERTIES LABELS quick TIMEOUT 120)
if(TARGET stretto-serve)
  set(load_test python3 ${CMAKE_CURRENT_LIST_DIR}/test_load.py $<TARGET_FILE:stretto-serve>
    $<TARGET_FILE:load_client> ${STRETTO_TEST_DATA})
  add_test(NAME load.serve COMMAND ${load_test})
  set_tests_properties(load.serve PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 900)
  add_test(NAME load.serve.many COMMAND ${load_test} --many)
  set_tests_properties(load.serve.many PROPERTIES LABELS night SKIP_RETURN_CODE 77 TIMEOUT 14400)
endif()
