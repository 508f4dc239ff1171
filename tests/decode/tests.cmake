# Every way of decoding writes plain decoding's tokens.
add_executable(decode_exact decode/exact.c)
target_link_libraries(decode_exact PRIVATE stretto_all)
set(models "")
set(names llama llama-tied llama-yarn qwen2 qwen3 gemma2 gemma3 phi3-partial gpt2 type-mixed type-q4_1)
if(STRETTO_SANITIZE)         # a minute for each; families differ in the graph, not in how they guess
  set(names llama gemma3)
endif()
foreach(name ${names})
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

# Prompts of the shared data: a slice here, all of them at night (./dev test --night).
function(decode_prompts name label model set take tokens)
  add_test(NAME decode.${name} COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/decode/test_prompts.py
    $<TARGET_FILE:decode_exact> ${STRETTO_TEST_MODELS}/${model} ${STRETTO_TEST_DATA} ${set} ${take} ${tokens})
  set_tests_properties(decode.${name} PROPERTIES LABELS ${label} SKIP_RETURN_CODE 77 TIMEOUT 36000)
endfunction()
set(smollm2 SmolLM2-135M-Instruct.Q4_1.gguf)
decode_prompts(slice.chat full ${smollm2} chat 1 24)
decode_prompts(slice.code full ${smollm2} code 1 24)
set(qwen qwen2.5-coder-0.5b-instruct-q4_k_m.gguf)
foreach(set chat code sql quoting)
  decode_prompts(night.smollm2.${set} night ${smollm2} ${set} 0 24)
  decode_prompts(night.qwen.${set} night ${qwen} ${set} 20 16)
endforeach()
