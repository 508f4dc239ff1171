# The chat on a real model: skipped where that is not present.
find_package(Python3 COMPONENTS Interpreter REQUIRED)
add_test(NAME chat COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/test_chat.py
  $<TARGET_FILE:stretto> ${STRETTO_TEST_MODELS}/SmolLM2-135M-Instruct.Q4_1.gguf)
set_tests_properties(chat PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 900)
