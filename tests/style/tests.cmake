# Tests of the source text: the layers, the mechanical part of the style, and what a run of tests says it left out.
foreach(name layers style skips)
  add_test(NAME source.${name}
    COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/style/test_${name}.py ${CMAKE_SOURCE_DIR})
  set_tests_properties(source.${name} PROPERTIES LABELS "quick;source" TIMEOUT 60)
endforeach()
