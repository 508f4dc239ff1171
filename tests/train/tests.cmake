# Training: adapters as files, and what is learned.
if(TARGET stretto)
  add_executable(adapter_tool ${CMAKE_CURRENT_SOURCE_DIR}/train/adapter_tool.c)
  target_link_libraries(adapter_tool PRIVATE stretto_all)
  add_test(NAME train.adapter COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_adapter.py $<TARGET_FILE:stretto>
           $<TARGET_FILE:adapter_tool>)
  set_tests_properties(train.adapter PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 120)
endif()
