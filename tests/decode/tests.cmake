# Every way of decoding writes plain decoding's tokens.
add_executable(decode_exact decode/exact.c)
target_link_libraries(decode_exact PRIVATE stretto_all)
set(models "")
foreach(name llama llama-tied llama-yarn qwen2 qwen3 gemma2 gemma3 phi3-partial gpt2 type-mixed type-q4_1)
  list(APPEND models ${CMAKE_BINARY_DIR}/golden/${name}/model.gguf)
endforeach()
add_test(NAME decode.exact COMMAND decode_exact ${models})
set_tests_properties(decode.exact PROPERTIES FIXTURES_REQUIRED golden LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 900)
add_test(NAME decode.exact.smollm2 COMMAND decode_exact --few
  ${STRETTO_TEST_MODELS}/SmolLM2-135M-Instruct.Q4_1.gguf)
set_tests_properties(decode.exact.smollm2 PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 1800)
add_executable(heads_check decode/heads_check.c)
target_link_libraries(heads_check PRIVATE stretto_all)
if(TARGET stretto)
  add_test(NAME decode.heads COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/decode/test_heads.py
    $<TARGET_FILE:stretto> $<TARGET_FILE:heads_check> ${CMAKE_BINARY_DIR}/golden)
  set_tests_properties(decode.heads PROPERTIES FIXTURES_REQUIRED golden LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
endif()
