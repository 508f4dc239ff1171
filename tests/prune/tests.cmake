# Pruning against numpy, from the papers; models of a smaller shape against their originals.
if(TARGET stretto)
  foreach(tool prune_tool shrink_tool)
    add_executable(${tool} ${CMAKE_CURRENT_SOURCE_DIR}/prune/${tool}.c)
    target_link_libraries(${tool} PRIVATE stretto_all)
  endforeach()
  add_test(NAME prune.oracle COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/prune/test_oracle.py $<TARGET_FILE:prune_tool>)
  add_test(NAME prune.shrink COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/prune/test_shrink.py $<TARGET_FILE:stretto>
           $<TARGET_FILE:shrink_tool> ${CMAKE_SOURCE_DIR}/build/peers/llama.cpp/bin/llama-perplexity)
  set_tests_properties(prune.oracle prune.shrink PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
endif()
