# A client of many streams, which the tests and bench/serve.py drive servers with.
add_executable(load_client load/client.c)
target_link_libraries(load_client PRIVATE stretto_flags)
add_test(NAME load.client COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/test_client.py $<TARGET_FILE:load_client>)
set_tests_properties(load.client PROPERTIES LABELS quick TIMEOUT 120)
