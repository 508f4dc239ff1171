# The library as its users meet it: symbols, header, packages, version, the example.
if(TARGET stretto_shared)
  set(api ${CMAKE_CURRENT_SOURCE_DIR}/api)
  add_test(NAME api.symbols COMMAND python3 ${api}/test_symbols.py ${CMAKE_SOURCE_DIR}
    $<TARGET_FILE:stretto_shared> ${CMAKE_BINARY_DIR}/libstretto.a)
  add_test(NAME api.header COMMAND python3 ${api}/test_header.py ${CMAKE_SOURCE_DIR}
    ${CMAKE_C_COMPILER})
  add_test(NAME api.version COMMAND python3 ${api}/test_version.py ${CMAKE_SOURCE_DIR}
    ${CMAKE_BINARY_DIR})
  set_tests_properties(api.symbols api.header api.version PROPERTIES LABELS quick TIMEOUT 60)
  set_tests_properties(api.header PROPERTIES SKIP_RETURN_CODE 77)
  if(EXISTS ${api}/example.c)
    add_test(NAME api.package COMMAND python3 ${api}/test_package.py ${CMAKE_SOURCE_DIR}
      ${CMAKE_BINARY_DIR} ${CMAKE_C_COMPILER} ${STRETTO_TEST_MODELS})
    set_tests_properties(api.package PROPERTIES LABELS full TIMEOUT 300 SKIP_RETURN_CODE 77)
  endif()
endif()

# One team of threads in a process; two threads on one engine.
if(TARGET stretto)
  foreach(name one_team two_threads)
    add_executable(${name} api/${name}.c)
    target_link_libraries(${name} PRIVATE stretto_all)
    add_test(NAME api.${name} COMMAND ${name} ${CMAKE_BINARY_DIR}/golden/llama/model.gguf)
    set_tests_properties(api.${name} PROPERTIES FIXTURES_REQUIRED golden LABELS quick TIMEOUT 120)
  endforeach()
endif()

# Squeezing by one call.
if(TARGET stretto)
  add_executable(squeeze_api api/squeeze.c)
  target_link_libraries(squeeze_api PRIVATE stretto_all)
  add_test(NAME api.squeeze COMMAND squeeze_api ${CMAKE_BINARY_DIR}/golden/llama/model.gguf ${CMAKE_BINARY_DIR})
  set_tests_properties(api.squeeze PROPERTIES FIXTURES_REQUIRED golden LABELS quick TIMEOUT 300)
endif()

# A card that is lost: the cpu goes on, or the call ends.
if(TARGET stretto)
  add_executable(lost api/lost.c)
  target_link_libraries(lost PRIVATE stretto_all)
  add_test(NAME api.lost COMMAND lost ${CMAKE_BINARY_DIR}/golden/llama/model.gguf
    ${CMAKE_BINARY_DIR}/golden/gemma3/model.gguf ${CMAKE_BINARY_DIR}/golden/bert/model.gguf)
  set_tests_properties(api.lost PROPERTIES FIXTURES_REQUIRED golden LABELS quick TIMEOUT 300)
endif()
