# Reading messages at a terminal, without a model and with one: the latter is skipped where that is not there.
set(stretto_programs ${CMAKE_SOURCE_DIR}/programs)
add_executable(chat_lines chat/lines.c ${stretto_programs}/stretto/line.c ${stretto_programs}/stretto/screen.c
  ${stretto_programs}/stretto/edit.c ${stretto_programs}/stretto/keys.c ${stretto_programs}/stretto/history.c
  ${stretto_programs}/ui/terminal.c)
target_include_directories(chat_lines PRIVATE ${stretto_programs})
target_link_libraries(chat_lines PRIVATE stretto_all)
add_test(NAME chat.lines COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/test_lines.py
  $<TARGET_FILE:chat_lines> ${STRETTO_TEST_DATA})
set_tests_properties(chat.lines PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
add_test(NAME chat.resize COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/test_resize.py
  $<TARGET_FILE:chat_lines>)
set_tests_properties(chat.resize PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 300)
add_test(NAME chat COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/test_chat.py
  $<TARGET_FILE:stretto> ${STRETTO_TEST_MODELS}/SmolLM2-135M-Instruct.Q4_1.gguf)
set_tests_properties(chat PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 900)
