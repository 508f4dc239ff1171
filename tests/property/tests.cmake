# Random models of other people's habits against programs that we did not write. Each seed is a model; the same
# five hundred every time (--seed and --count of the scripts make others).
if(TARGET stretto)
  add_executable(property_ask property/ask.c)
  target_link_libraries(property_ask PRIVATE stretto_all)

  # property_test(NAME LABEL SCRIPT arguments...)
  function(property_test name label script)
    add_test(NAME property.${name} COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/property/${script}
      $<TARGET_FILE:property_ask> ${ARGN})
    set_tests_properties(property.${name} PROPERTIES LABELS ${label} SKIP_RETURN_CODE 77 TIMEOUT 900)
  endfunction()
  set(property_golden ${CMAKE_CURRENT_SOURCE_DIR}/data/property/llama_cpp.txt)
  property_test(folders full test_folders.py)
  property_test(folders.few quick test_folders.py --count 60)
  property_test(convert full test_convert.py)
  property_test(gguf full test_gguf.py ${property_golden})
  property_test(gguf.few quick test_gguf.py ${property_golden} --count 60)
endif()
