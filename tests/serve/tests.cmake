# stretto-serve as its clients see it, on a model of 260,000 weights.
if(TARGET stretto-serve)
  foreach(name http secure families models more agents restart attacks adapters)
    add_test(NAME serve.${name} COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/test_${name}.py
      $<TARGET_FILE:stretto-serve> ${STRETTO_TEST_DATA})
    set_tests_properties(serve.${name} PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
  endforeach()
endif()
# The targets for requests have all of the server but its sockets.
if(TARGET fuzz_request)
  file(GLOB request_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/programs/serve/*.c)
  list(FILTER request_sources EXCLUDE REGEX
    "/(main|server|wire|log|tls|keys|load|notify|sandbox|framing|api_page)\\.c$")
  foreach(target fuzz_request fault_request)
    if(TARGET ${target})
      target_sources(${target} PRIVATE ${request_sources} ${CMAKE_SOURCE_DIR}/programs/stretto/serve_options.c
        ${CMAKE_SOURCE_DIR}/programs/stretto/options.c)
    endif()
  endforeach()
endif()
