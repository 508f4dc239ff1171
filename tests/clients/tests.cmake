# A few dozen tests of openai-python; ./dev test --clients runs them all, and other projects' more.
if(TARGET stretto-serve)
  add_test(NAME clients.slice COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/clients.py --slice
    --program $<TARGET_FILE:stretto> --data ${STRETTO_TEST_DATA})
  set_tests_properties(clients.slice PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 900 RESOURCE_LOCK clients)
endif()
add_test(NAME clients.openapi COMMAND python3 ${CMAKE_SOURCE_DIR}/tools/make_openapi.py --check)
set_tests_properties(clients.openapi PROPERTIES LABELS "quick;source" TIMEOUT 60)
