# Whole programs against programs that we did not write.
if(TARGET stretto)
  add_executable(tokenize_batch program/tokenize_batch.c)
  target_link_libraries(tokenize_batch PRIVATE stretto_all)
  add_test(NAME program.tokenizer_json COMMAND python3
    ${CMAKE_CURRENT_SOURCE_DIR}/program/test_tokenizer_json.py $<TARGET_FILE:tokenize_batch>
    $<TARGET_FILE:stretto> --models ${STRETTO_TEST_MODELS})
  set_tests_properties(program.tokenizer_json PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 900)
  add_executable(json_batch program/json_batch.c)
  target_link_libraries(json_batch PRIVATE stretto_all)
  add_test(NAME program.json COMMAND python3
    ${CMAKE_CURRENT_SOURCE_DIR}/program/test_json.py $<TARGET_FILE:json_batch>)
  set_tests_properties(program.json PROPERTIES LABELS quick TIMEOUT 300)
  add_test(NAME program.folders COMMAND python3
    ${CMAKE_CURRENT_SOURCE_DIR}/program/test_folders.py $<TARGET_FILE:stretto> ${STRETTO_TEST_DATA})
  set_tests_properties(program.folders PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
  add_executable(chat_batch program/chat_batch.c)
  target_link_libraries(chat_batch PRIVATE stretto_all)
  add_test(NAME program.chat_text COMMAND python3
    ${CMAKE_CURRENT_SOURCE_DIR}/program/test_chat_text.py $<TARGET_FILE:chat_batch> ${STRETTO_TEST_DATA})
  set_tests_properties(program.chat_text PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
  add_test(NAME program.linear COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_linear.py
    $<TARGET_FILE:tokenize_batch> ${STRETTO_TEST_DATA})
  set_tests_properties(program.linear PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 1800)
  add_test(NAME program.linear.long COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_linear.py
    $<TARGET_FILE:tokenize_batch> ${STRETTO_TEST_DATA} --long)
  set_tests_properties(program.linear.long PROPERTIES LABELS night SKIP_RETURN_CODE 77 TIMEOUT 7200)
  add_test(NAME program.tokenizer_folder COMMAND python3
    ${CMAKE_CURRENT_SOURCE_DIR}/program/test_tokenizer_folder.py $<TARGET_FILE:tokenize_batch>
    $<TARGET_FILE:stretto> ${STRETTO_TEST_DATA} --folders 80)
  add_test(NAME program.tokenizer_folders COMMAND python3
    ${CMAKE_CURRENT_SOURCE_DIR}/program/test_tokenizer_folder.py $<TARGET_FILE:tokenize_batch>
    $<TARGET_FILE:stretto> ${STRETTO_TEST_DATA} --folders 1000 --seed 2)
  set_tests_properties(program.tokenizer_folder PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600)
  set_tests_properties(program.tokenizer_folders PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 1200)
  add_test(NAME program.convert_tokenizer COMMAND python3
    ${CMAKE_CURRENT_SOURCE_DIR}/program/test_convert_tokenizer.py $<TARGET_FILE:tokenize_batch>
    $<TARGET_FILE:stretto> --folders 40)
  add_test(NAME program.convert_tokenizers COMMAND python3
    ${CMAKE_CURRENT_SOURCE_DIR}/program/test_convert_tokenizer.py $<TARGET_FILE:tokenize_batch>
    $<TARGET_FILE:stretto> --folders 200 --seed 2)
  set_tests_properties(program.convert_tokenizer PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600)
  set_tests_properties(program.convert_tokenizers PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 1200)
  add_executable(log_check program/log_check.c)
  target_link_libraries(log_check PRIVATE stretto_all)
  add_test(NAME program.unspelled COMMAND python3
    ${CMAKE_CURRENT_SOURCE_DIR}/program/test_unspelled.py $<TARGET_FILE:stretto> $<TARGET_FILE:log_check>)
  set_tests_properties(program.unspelled PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 120)
  add_test(NAME program.template COMMAND python3
    ${CMAKE_CURRENT_SOURCE_DIR}/program/test_template.py $<TARGET_FILE:stretto> ${STRETTO_TEST_DATA})
  add_test(NAME program.template_random COMMAND python3
    ${CMAKE_CURRENT_SOURCE_DIR}/program/test_template.py $<TARGET_FILE:stretto> ${STRETTO_TEST_DATA} --random)
  set_tests_properties(program.template PROPERTIES LABELS quick TIMEOUT 300)
  set_tests_properties(program.template_random PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 600)
  add_test(NAME program.convert COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_convert.py
    $<TARGET_FILE:stretto> ${CMAKE_SOURCE_DIR})
  set_tests_properties(program.convert PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
  add_test(NAME program.pack COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_pack.py
    $<TARGET_FILE:stretto> ${STRETTO_TEST_MODELS})
  set_tests_properties(program.pack PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
  add_test(NAME program.convert_blocks COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_convert_blocks.py
    $<TARGET_FILE:stretto>)
  set_tests_properties(program.convert_blocks PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
  add_test(NAME program.squeeze COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_squeeze.py
    $<TARGET_FILE:stretto> ${CMAKE_SOURCE_DIR} ${STRETTO_TEST_DATA} ${sanitized})
  add_test(NAME program.squeeze_folder COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_squeeze_folder.py
    $<TARGET_FILE:stretto> ${CMAKE_SOURCE_DIR})
  set_tests_properties(program.squeeze program.squeeze_folder PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600)
  add_executable(trace_check program/trace_check.c)
  target_link_libraries(trace_check PRIVATE stretto_all)
  add_test(NAME program.trace COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_trace.py
    $<TARGET_FILE:stretto> $<TARGET_FILE:trace_check> ${CMAKE_BINARY_DIR}/golden)
  set_tests_properties(program.trace PROPERTIES FIXTURES_REQUIRED golden LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600)
  add_test(NAME program.bench COMMAND python3
    ${CMAKE_CURRENT_SOURCE_DIR}/program/test_bench.py $<TARGET_FILE:stretto>
    ${CMAKE_BINARY_DIR}/golden)
  set_tests_properties(program.bench PROPERTIES FIXTURES_REQUIRED golden LABELS quick TIMEOUT 300)
  add_test(NAME program.bench_decode COMMAND python3
    ${CMAKE_CURRENT_SOURCE_DIR}/program/test_bench_decode.py $<TARGET_FILE:stretto>
    ${CMAKE_BINARY_DIR}/golden)
  set_tests_properties(program.bench_decode PROPERTIES FIXTURES_REQUIRED golden LABELS quick SKIP_RETURN_CODE 77
    TIMEOUT 600)
  add_test(NAME program.decode COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_decode.py
    $<TARGET_FILE:stretto> ${CMAKE_BINARY_DIR}/golden)
  set_tests_properties(program.decode PROPERTIES FIXTURES_REQUIRED golden LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
  add_test(NAME program.embed COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_embed.py
    $<TARGET_FILE:stretto> ${CMAKE_BINARY_DIR}/golden ${STRETTO_TEST_MODELS} ${STRETTO_TEST_DATA})
  set_tests_properties(program.embed PROPERTIES FIXTURES_REQUIRED golden LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600)
  add_executable(cancel_check program/cancel_check.c)
  target_link_libraries(cancel_check PRIVATE stretto_all)
  set(cancelled "")
  foreach(name llama gemma3 gpt2 bert type-q8_0 type-mixed)
    list(APPEND cancelled ${CMAKE_BINARY_DIR}/golden/${name}/model.gguf)
  endforeach()
  add_test(NAME program.cancel COMMAND cancel_check ${cancelled})
  set_tests_properties(program.cancel PROPERTIES FIXTURES_REQUIRED golden LABELS quick TIMEOUT 300)
  add_test(NAME program.command COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_command.py
    $<TARGET_FILE:stretto>)
  set_tests_properties(program.command PROPERTIES LABELS quick TIMEOUT 120)
  add_test(NAME program.given COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_given.py
    $<TARGET_FILE:stretto> ${CMAKE_BINARY_DIR}/golden ${STRETTO_TEST_MODELS})
  set_tests_properties(program.given PROPERTIES FIXTURES_REQUIRED golden LABELS quick SKIP_RETURN_CODE 77
    TIMEOUT 300)
  add_test(NAME program.machine COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_machine.py
    $<TARGET_FILE:stretto> ${CMAKE_BINARY_DIR}/golden)
  set_tests_properties(program.machine PROPERTIES FIXTURES_REQUIRED golden LABELS quick SKIP_RETURN_CODE 77
    TIMEOUT 120)
  add_test(NAME program.edges COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_edges.py
    $<TARGET_FILE:stretto> ${CMAKE_BINARY_DIR}/golden ${STRETTO_TEST_MODELS})
  set_tests_properties(program.edges PROPERTIES FIXTURES_REQUIRED golden LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()
if(TARGET stretto)
  add_test(NAME program.device COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_device.py
    $<TARGET_FILE:stretto> ${CMAKE_BINARY_DIR}/golden $<TARGET_FILE:mock_cuda>)
  set_tests_properties(program.device PROPERTIES FIXTURES_REQUIRED golden LABELS quick SKIP_RETURN_CODE 77
    TIMEOUT 600)
endif()
# The script that measures cards, on shapes that take seconds: the models that it makes, what it compares, its figures.
if(TARGET stretto)
  add_test(NAME program.device_script COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/program/device_script.sh
    ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  set_tests_properties(program.device_script PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()
if(TARGET stretto)
  add_test(NAME program.merge COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/program/test_merge.py
    $<TARGET_FILE:stretto> ${STRETTO_TEST_DATA})
  set_tests_properties(program.merge PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
endif()
