# Pruning against numpy, from the papers.
if(TARGET stretto)
  add_executable(prune_tool ${CMAKE_CURRENT_SOURCE_DIR}/prune/prune_tool.c)
  target_link_libraries(prune_tool PRIVATE stretto_all)
  add_test(NAME prune.oracle COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/prune/test_oracle.py $<TARGET_FILE:prune_tool>)
  set_tests_properties(prune.oracle PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
endif()
