# Every decoding strategy writes plain decoding's tokens.
add_executable(decode_exact decode/exact.c)
target_link_libraries(decode_exact PRIVATE stretto_all)
function(tiny_models out)
  set(models "")
  foreach(name ${ARGN})
    list(APPEND models ${CMAKE_BINARY_DIR}/golden/${name}/model.gguf)
  endforeach()
  set(${out} ${models} PARENT_SCOPE)
endfunction()
# Families differ in the graph and not in how they guess: a few for every commit, under the sanitizers too. The
# first model drafts for those of its vocabulary.
tiny_models(few llama qwen2 gemma3 type-q4_1)
tiny_models(others llama-tied llama-yarn qwen3 gemma2 phi3-partial gpt2 type-mixed smollm3 granite phi3-long cohere2)
tiny_models(slice llama qwen2)
add_test(NAME decode.exact COMMAND decode_exact ${few})
add_test(NAME decode.exact.families COMMAND decode_exact ${others})
set_tests_properties(decode.exact PROPERTIES LABELS quick)
set_tests_properties(decode.exact.families PROPERTIES LABELS full)
set_tests_properties(decode.exact decode.exact.families PROPERTIES FIXTURES_REQUIRED golden SKIP_RETURN_CODE 77
  TIMEOUT 900)
foreach(threads 2 4)
  add_test(NAME decode.exact.threads${threads} COMMAND decode_exact --slice --tokens 24 --threads ${threads}
    ${slice})
  set_tests_properties(decode.exact.threads${threads} PROPERTIES FIXTURES_REQUIRED golden LABELS "quick;threads"
    SKIP_RETURN_CODE 77 TIMEOUT 900 PROCESSORS ${alone})
endforeach()
add_test(NAME decode.exact.smollm2 COMMAND decode_exact --few --tokens 24
  ${STRETTO_TEST_MODELS}/SmolLM2-135M-Instruct.Q4_1.gguf)
set_tests_properties(decode.exact.smollm2 PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 1800 PROCESSORS ${alone})
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
