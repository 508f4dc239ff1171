# Every allocation fails once; generating allocates nothing.
add_executable(fault fault/fault.c)
target_link_libraries(fault PRIVATE stretto_all)
foreach(name llama gemma3)
  add_test(NAME fault.${name} COMMAND fault ${CMAKE_BINARY_DIR}/golden/${name}/model.gguf)
  set_tests_properties(fault.${name} PROPERTIES FIXTURES_REQUIRED golden LABELS quick SKIP_RETURN_CODE 77
    TIMEOUT 600)
endforeach()
