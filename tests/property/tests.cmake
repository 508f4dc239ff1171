# Random models of other people's habits against programs that we did not write. Each seed is a model; the same
# five hundred every time (--seed and --count of the scripts make others).
if(TARGET stretto)
  add_executable(property_ask property/ask.c)
  target_link_libraries(property_ask PRIVATE stretto_all)

  function(property_test name)
    add_test(NAME property.${name} COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/property/test_${name}.py
      $<TARGET_FILE:property_ask> ${ARGN})
    set_tests_properties(property.${name} PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 900)
  endfunction()
  property_test(folders)
  property_test(gguf ${CMAKE_CURRENT_SOURCE_DIR}/data/property/llama_cpp.txt)
endif()
