# Same bits whatever the batch, and planted faults that must be noticed.
add_executable(invariance invariance/invariance.c)
target_link_libraries(invariance PRIVATE stretto_all)

# invariance_test(NAME LABEL arguments...)
function(invariance_test name label)
  add_test(NAME ${name} COMMAND invariance ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS "${label}" SKIP_RETURN_CODE 77 TIMEOUT 1800)
endfunction()

set(some ${CMAKE_BINARY_DIR}/golden/gemma3/model.gguf ${CMAKE_BINARY_DIR}/golden/type-mixed/model.gguf)
# A slice with 2 and 4 threads for every build, the sanitizers' too; the same with the kernels of other levels.
invariance_test(invariance.slice "quick;threads" --few ${some})
invariance_test(invariance.slice.ref full --few ${some})
set_tests_properties(invariance.slice.ref PROPERTIES ENVIRONMENT STRETTO_CPU=ref)
invariance_test(invariance.slice.avx2 full --few ${some})
set_tests_properties(invariance.slice.avx2 PROPERTIES ENVIRONMENT STRETTO_CPU=avx2)
# Under TSan one model of a kind: which threads touch what follows from the phases of a step, not from a type or a size.
tiny_models(integers gemma3 type-mixed bert)
tiny_models(parted llama-sizes olmo3 bert)
if(STRETTO_SANITIZE MATCHES thread)
  tiny_models(integers gemma3)
  tiny_models(parted llama-sizes)
endif()
# Integers alone, whose pages have one type: the other device's way of planting faults.
invariance_test(invariance.integer "quick;threads" --few --cache f16 ${integers})
set_tests_properties(invariance.integer PROPERTIES ENVIRONMENT STRETTO_DEVICE=integer PROCESSORS ${alone}
  FIXTURES_REQUIRED golden)
# Over several devices: every cut of layers, held to one device; the encoder's rows see each other.
invariance_test(invariance.split "quick;threads" --split ${parted})
add_test(NAME invariance.split.all COMMAND sh -c
  "exec \"$0\" --split $(cat ${CMAKE_BINARY_DIR}/golden/invariance.txt || echo golden)" $<TARGET_FILE:invariance>)
set_tests_properties(invariance.split.all PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 1800)
# A model of each architecture and kind of matrix; golden.make lists them. And windows in all layers, or in
# most of them.
add_test(NAME invariance COMMAND sh -c "exec \"$0\" $(cat ${CMAKE_BINARY_DIR}/golden/invariance.txt || echo golden) \
  ${CMAKE_BINARY_DIR}/golden/olmo3/model.gguf ${CMAKE_BINARY_DIR}/golden/phi3-biased/model.gguf"
  $<TARGET_FILE:invariance>)
set_tests_properties(invariance PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 1800)
invariance_test(invariance.thorough full --thorough ${CMAKE_BINARY_DIR}/golden/llama/model.gguf
  ${CMAKE_BINARY_DIR}/golden/gemma3/model.gguf)
set_tests_properties(invariance.slice invariance.slice.ref invariance.slice.avx2 invariance invariance.thorough
  invariance.split invariance.split.all PROPERTIES FIXTURES_REQUIRED golden)
# The default model: the widths of a real one.
invariance_test(invariance.smollm2 full --few ${STRETTO_TEST_MODELS}/SmolLM2-135M-Instruct.Q4_1.gguf)
set_tests_properties(invariance.slice invariance.slice.ref invariance.slice.avx2 invariance invariance.thorough
  invariance.smollm2 invariance.split invariance.split.all PROPERTIES PROCESSORS ${alone})
# Adapters of sequences and of rows: a model with windows, one with biases, quantised types.
add_executable(adapters_check invariance/adapters.c)
target_link_libraries(adapters_check PRIVATE stretto_all)
add_executable(adapters_api api/adapters.c)
target_link_libraries(adapters_api PRIVATE stretto_all)
add_test(NAME invariance.adapters COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/invariance/test_adapters.py
  $<TARGET_FILE:adapters_check> $<TARGET_FILE:adapters_api> ${CMAKE_BINARY_DIR}/golden/gemma3/model.gguf
  ${CMAKE_BINARY_DIR}/golden/qwen2/model.gguf ${CMAKE_BINARY_DIR}/golden/type-mixed/model.gguf)
set_tests_properties(invariance.adapters PROPERTIES LABELS quick FIXTURES_REQUIRED golden SKIP_RETURN_CODE 77
  TIMEOUT 300)
