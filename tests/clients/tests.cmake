# A dozen tests of openai-python and anthropic; ./dev test --clients runs them all, and other projects' more.
if(TARGET stretto-serve)
  add_test(NAME clients.slice COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/clients.py --slice
    --program $<TARGET_FILE:stretto> -m ${STRETTO_TEST_MODELS}/SmolLM2-135M-Instruct.Q4_1.gguf)
  set_tests_properties(clients.slice PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 900 RESOURCE_LOCK clients)
endif()
add_test(NAME clients.openapi COMMAND python3 ${CMAKE_SOURCE_DIR}/tools/make_openapi.py --check)
set_tests_properties(clients.openapi PROPERTIES LABELS quick TIMEOUT 60)
