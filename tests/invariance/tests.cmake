# Same bits whatever the batch, on the tiny models of all families and on the default model.
add_executable(invariance invariance/invariance.c)
target_link_libraries(invariance PRIVATE stretto_all)
foreach(name llama llama-yarn mistral-window qwen2 qwen3 gemma2 gemma3 phi3 gpt2 bert type-q4_0 type-q4_1
        type-q5_0 type-q5_1 type-q8_0 type-q2_k type-q3_k type-q4_k type-q5_k type-q6_k type-f16 type-bf16)
  set(path ${CMAKE_BINARY_DIR}/golden/${name}/model.gguf)
  if(name STREQUAL mistral-window)
    set(path ${CMAKE_BINARY_DIR}/golden/${name}/hf)
  endif()
  # The reference level is slow and the same code for all; one model stands for it.
  set(level best)
  if(name STREQUAL llama)
    set(level all)
  endif()
  add_test(NAME invariance.${name} COMMAND invariance ${path} 140 ${level})
  set_tests_properties(invariance.${name} PROPERTIES FIXTURES_REQUIRED golden LABELS full SKIP_RETURN_CODE 77
    TIMEOUT 900)
endforeach()
add_test(NAME invariance.smollm2 COMMAND invariance
  ${STRETTO_TEST_MODELS}/SmolLM2-135M-Instruct.Q4_1.gguf 100 best)
set_tests_properties(invariance.smollm2 PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 1800)
