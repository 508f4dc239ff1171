# Every allocation fails once; generating allocates nothing.
add_executable(fault fault/fault.c)
target_link_libraries(fault PRIVATE stretto_all)
foreach(name llama gemma3)
  add_test(NAME fault.${name} COMMAND fault ${CMAKE_BINARY_DIR}/golden/${name}/model.gguf)
  set_tests_properties(fault.${name} PROPERTIES FIXTURES_REQUIRED golden LABELS quick SKIP_RETURN_CODE 77
    TIMEOUT 600)
endforeach()
# The same for what the server makes of requests.
if(TARGET stretto-serve AND NOT STRETTO_FUZZ)
  add_executable(fault_request fault/request.c)
  target_include_directories(fault_request PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(fault_request PRIVATE stretto_models)
  add_test(NAME fault.request COMMAND fault_request ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/request)
  set_tests_properties(fault.request PROPERTIES LABELS quick TIMEOUT 300)
endif()
